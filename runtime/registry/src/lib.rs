//! Model folders: `<models>/<name>/<version>/` with `model.onnx` and `manifest.toml`; atomic on disk.
//!
//! [`Manifest`] is all that is known about a trained model; [`Registry`] lists, verifies and publishes
//! folders. A folder that is there is complete: it was staged beside its place, synced and renamed. Aliases
//! such as `champion` point at versions, and have a history that only grows.

pub mod alias;
pub mod archive;
pub mod calibration;
pub mod check;
pub mod digest;
pub mod folder;
pub mod history;
pub mod ledger;
pub mod manifest;
pub mod metrics;
pub mod name;
pub mod profile;
mod publish;
pub mod reference;
mod staging;

pub use alias::{AliasError, Author, HistoryError};
pub use archive::{ExportError, Exported, ImportError, Imported};
pub use calibration::{Calibration, Confidence, Reliability, ReliabilityBin, Source, Unseen};
pub use digest::{Hasher, names_fingerprint, sha256_hex};
pub use folder::{ListError, Listing, LoadError, ModelFolder, ModelVersions, OpenError, Registry, Version};
pub use history::{Change, ChangeKind, History};
pub use ledger::{Count, Ledger, LedgerError, Question, Run};
pub use manifest::{
    Architecture, Data, FORMAT, Features, Foreign, GapPolicy, Input, Label, LabelKind, Layout, Loss,
    Manifest, ManifestError, Normaliser, Output, Parent, Precision, Range, Runs, Schedule, Serving, Sliding,
    Training, Weights,
};
pub use metrics::{Interval, Metrics, Scores};
pub use profile::{ColumnProfile, Profile};
pub use publish::{PublishError, Published};
pub use reference::{Reference, ReferenceError, Which};
