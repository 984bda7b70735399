//! Model folders: `<models>/<name>/<version>/` with `model.onnx` and `manifest.toml`; atomic on disk.
//!
//! [`Manifest`] is all that is known about a trained model; [`Registry`] lists, verifies and publishes
//! folders. A folder that is there is complete: it was staged beside its place, synced and renamed.

pub mod calibration;
pub mod check;
pub mod digest;
pub mod folder;
pub mod ledger;
pub mod manifest;
pub mod metrics;
pub mod name;
mod publish;
mod staging;

pub use calibration::{Calibration, Confidence, Reliability, ReliabilityBin};
pub use digest::{Hasher, names_fingerprint, sha256_hex};
pub use folder::{ListError, Listing, LoadError, ModelFolder, ModelVersions, OpenError, Registry, Version};
pub use ledger::{Count, Ledger, LedgerError, Question, Run};
pub use manifest::{
    Architecture, Data, FORMAT, Features, GapPolicy, Input, Label, LabelKind, Loss, Manifest, ManifestError,
    Normaliser, Output, Precision, Range, Schedule, Serving, Sliding, Training,
};
pub use metrics::{Interval, Metrics, Scores};
pub use publish::{PublishError, Published};
