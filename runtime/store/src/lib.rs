//! The durable spool: records are appended to a log of segment files, read from any position, and removed oldest first.
//!
//! ```text
//! <dir>/lock                        held while open; the holder's process id
//! <dir>/00000000000000000001.log    header of 64 bytes, then frames; named by its first position   (segment.rs)
//! <dir>/00000000000000104857.log    | crc | length | position | kind | version | marker | payload |  (frame.rs)
//! <dir>/cursor-timescale            how far a consumer has taken it                                 (consumer.rs)
//! <dir>/00000000000000000001.damaged-1   a damaged segment, kept aside                           (repair.rs)
//! ```
//!
//! What holds:
//! - Positions start at 1 and grow by one per record. One that was durable is never given out again.
//! - A batch is one write. It is visible to readers when it is written ([`DurabilityMode::Written`]) or when it is
//!   synced ([`DurabilityMode::Synced`]); one sync serves all that wait for it.
//! - After a power cut every durable record is there with the same bytes. What comes back beyond it is whole.
//! - A file is synced before its directory, a segment before the next one begins, a cursor before anything is removed on
//!   its word, a gap before what it stands for is removed.
//! - A failed sync ends the spool's life; it is never tried again.
//! - Damage is cut out, kept aside, recorded as a gap and reported; it is never silent and never stops the rest.

mod codec;
mod consumer;
mod durable;
mod error;
mod explanation;
mod filesystem;
mod folder;
mod frame;
mod log;
mod probe;
mod reader;
mod realised;
mod record;
mod recover;
mod repair;
mod retain;
mod scan;
mod segment;
pub mod sim;
mod spool;
#[cfg(test)]
mod tests;

pub use durable::{OnDurable, SyncCounts, SyncFailure};
pub use error::{AcknowledgeError, AppendError, OpenError, ReadError, RecordError, RetainError};
pub use explanation::{ATTRIBUTIONS_MAX, ExplanationRecord, Method};
pub use filesystem::{Access, FileSystem, LockError, LockGuard, RealFileSystem, StoredFile};
pub use folder::{FolderReader, read_folder};
pub use log::{SpoolHandle, SpoolStats};
pub use probe::{SyncTimes, disk_sync_time};
pub use reader::{Entry, Reader};
pub use realised::{RESOLVER_STATE_BYTES_MAX, Realised, RealisedRecord, RealisedValue};
pub use record::{
    BarRecord, DEVICE_BYTES_MAX, GapReason, GapRecord, MODEL_NAME_BYTES_MAX, MODEL_VERSION_BYTES_MAX,
    ModelName, Outcome, PredictionRecord, REASON_BYTES_MAX, Record, STATE_BYTES_MAX, SnapshotRecord,
    Uncertainty, VALUES_MAX,
};
pub use recover::{Quarantined, Recovery};
pub use retain::Retained;
pub use spool::{DurabilityMode, OnFull, Spool, SpoolOptions, Ticket};
