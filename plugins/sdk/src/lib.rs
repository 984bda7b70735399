//! The Rust SDK for AlphaPlus plugins: feature sets and model architectures as WASM components.
//!
//! | you write | you implement | you end with |
//! |---|---|---|
//! | features: bars in, rows of numbers out | [`FeatureSet`] | [`export_features!`] |
//! | an architecture: hyper-parameters in, a graph out | [`Architecture`] | [`export_architecture!`] |
//!
//! A plugin imports a log and, for an architecture, the graph builder: no clock, no files, no network, no
//! randomness (`Instant::now` and `SystemTime::now` panic). Off wasm everything runs against a mock host, so
//! `cargo test` works; see [`testing`].

#[doc(hidden)]
pub mod architecture;
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod features;
pub mod graph;
mod json;
pub mod log;
mod options;
#[doc(hidden)]
pub mod rt;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use architecture::{Architecture, Dimensions};
pub use features::{Bar, Book, Events, FeatureSet, Level, Side, Spec, Text, Trade};
pub use graph::{Graph, Node};
pub use options::{Options, Schema};
pub use state::{Reader, State, Writer};
