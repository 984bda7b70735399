//! WASM components: architectures and features.
//!
//! A [`Host`] loads a file into a [`Component`]; an [`Architecture`] builds graphs with it, a [`FeaturePlugin`]
//! is its `market::Features`. Whatever a guest does, the host answers with a typed error and goes on.

pub mod architecture;
pub mod bench;
mod bindings;
mod cache;
pub mod causality;
mod construct;
mod deadline;
mod digest;
pub mod features;
pub mod guest;
pub mod host;
pub mod inspect;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod quarantine;
mod rows;
pub mod schema;
mod state;
pub mod survey;
mod synthetic;
#[cfg(test)]
mod tests;
pub mod toolchain;
pub mod training;

pub use architecture::{Architecture, ArchitectureError, ArchitectureErrorKind, Dimensions, INPUT, OUTPUT};
pub use bench::{ArchitectureBench, Bench, FeaturesBench, bench};
pub use causality::{CausalityError, Check, check_causality, check_synthetic, synthetic_bars};
pub use features::FeaturePlugin;
pub use guest::{GuestFailure, GuestFailureKind};
pub use host::{Component, Host, HostError, HostOptions, LoadError};
pub use inspect::{GraphSize, Inspection, PluginError, inspect};
pub use limits::PluginLimits;
pub use log::{LogLevel, NoLog, PluginLog};
pub use metadata::{Metadata, MetadataError};
pub use quarantine::{Quarantine, QuarantinePolicy, Standing};
pub use schema::{Kind, Property, Schema, SchemaError, ValueError};
pub use survey::{LoadErrorKind, WIT_VERSION, World};
pub use training::TrainingHyper;
