//! WASM components: architectures and features.
//!
//! A [`Host`] loads a file into a [`Component`]; an [`Architecture`] builds graphs with it, a [`FeaturePlugin`]
//! is its `market::Features`. Whatever a guest does, the host answers with a typed error and goes on.

pub mod architecture;
mod bindings;
mod cache;
mod construct;
mod digest;
pub mod features;
pub mod guest;
pub mod host;
pub mod limits;
pub mod log;
pub mod metadata;
mod rows;
pub mod schema;
mod state;
pub mod survey;

pub use architecture::{Architecture, ArchitectureError, ArchitectureErrorKind, Dimensions, INPUT, OUTPUT};
pub use features::FeaturePlugin;
pub use guest::{GuestFailure, GuestFailureKind};
pub use host::{Component, Host, HostError, HostOptions, LoadError};
pub use limits::PluginLimits;
pub use log::{LogLevel, NoLog, PluginLog};
pub use metadata::{Metadata, MetadataError};
pub use schema::{Kind, Property, Schema, SchemaError, ValueError};
pub use survey::{LoadErrorKind, WIT_VERSION, World};
