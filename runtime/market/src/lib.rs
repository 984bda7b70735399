//! Market events and the traits that others implement over them. No network, no async.

pub mod bar;
pub mod event;
pub mod features;
pub mod read;
pub mod replay;
pub mod series;
pub mod time;

pub use bar::{Bar, BarError, StreamKey, Symbol, Timeframe};
pub use event::{Book, Level, Side, Text, Trade};
pub use features::{FeatureError, FeatureErrorKind, FeatureSpec, Features, StreamId};
pub use time::Timestamp;
