//! What can go wrong, one enum per operation. Each message says what to change.

use std::fmt;
use std::io;
use std::path::PathBuf;

use market::BarError;

use crate::durable::SyncFailure;

#[derive(Debug)]
pub enum OpenError {
    /// An option that can't be right.
    Options(String),
    /// Another process has it open.
    Locked {
        dir: PathBuf,
        pid: Option<u32>,
    },
    /// A segment of another spool lies among ours.
    Foreign {
        path: PathBuf,
        epoch: u128,
        expected_epoch: u128,
    },
    /// Written by another version of the format.
    Version {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Options(what) => write!(f, "{what}"),
            OpenError::Locked { dir, pid: Some(pid) } => {
                write!(
                    f,
                    "the spool {} is in use by process {pid}; stop it or choose another folder",
                    dir.display()
                )
            }
            OpenError::Locked { dir, pid: None } => {
                write!(
                    f,
                    "the spool {} is in use by another process; stop it or choose another folder",
                    dir.display()
                )
            }
            OpenError::Foreign { path, epoch, expected_epoch } => write!(
                f,
                "{} belongs to spool {epoch:032x}, the folder to {expected_epoch:032x}; move the file out of the folder",
                path.display()
            ),
            OpenError::Version { path, found, known } => write!(
                f,
                "{} has format version {found}, this alphaplus knows {known}; use the one that wrote it or another folder",
                path.display()
            ),
            OpenError::Io { doing, path, error } => {
                write!(f, "{doing} {}: {error}; check the folder's rights and free space", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {}

#[derive(Debug)]
pub enum AppendError {
    /// Record `index` of the batch breaks a limit; nothing was written.
    Record { index: usize, error: RecordError },
    /// The batch doesn't fit a segment; nothing was written.
    BatchTooLong { bytes: u64, limit_bytes: u64 },
    /// `limit_bytes` is reached and nothing may go; nothing was written. Try again after the sink has acknowledged.
    SpoolFull { used_bytes: u64, limit_bytes: u64 },
    /// The disk has no room; what was written of the batch is cut off again. Try again when there is.
    DiskFull { dir: PathBuf, needed_bytes: u64 },
    /// An old segment had to make room and couldn't be removed; nothing was written.
    Remove { path: PathBuf, error: io::Error },
    /// The spool is of no use any more.
    Poisoned(SyncFailure),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Record { index, error } => write!(f, "record {index} of the batch: {error}"),
            AppendError::BatchTooLong { bytes, limit_bytes } => {
                write!(
                    f,
                    "a batch of {bytes} bytes; send at most {limit_bytes} at once, or raise segment_bytes"
                )
            }
            AppendError::SpoolFull { used_bytes, limit_bytes } => write!(
                f,
                "the spool holds {used_bytes} of at most {limit_bytes} bytes that the sink hasn't taken; \
                 bring the sink back, raise limit_bytes or let it drop the oldest"
            ),
            AppendError::DiskFull { dir, needed_bytes } => {
                write!(f, "no room for {needed_bytes} bytes in {}; free some space", dir.display())
            }
            AppendError::Remove { path, error } => {
                write!(f, "can't remove {}: {error}; check the folder's rights", path.display())
            }
            AppendError::Poisoned(failure) => write!(f, "{failure}"),
        }
    }
}

impl std::error::Error for AppendError {}

impl From<SyncFailure> for AppendError {
    fn from(failure: SyncFailure) -> Self {
        AppendError::Poisoned(failure)
    }
}

#[derive(Debug)]
pub enum RetainError {
    /// A segment couldn't be removed; it stays and counts.
    Remove {
        path: PathBuf,
        error: io::Error,
    },
    /// The gap can't be recorded; `DiskFull` or `Poisoned`.
    Gap(AppendError),
    Poisoned(SyncFailure),
}

impl fmt::Display for RetainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetainError::Remove { path, error } => {
                write!(f, "can't remove {}: {error}; check the folder's rights", path.display())
            }
            RetainError::Gap(error) => write!(f, "can't record which positions are dropped: {error}"),
            RetainError::Poisoned(failure) => write!(f, "{failure}"),
        }
    }
}

impl std::error::Error for RetainError {}

impl From<SyncFailure> for RetainError {
    fn from(failure: SyncFailure) -> Self {
        RetainError::Poisoned(failure)
    }
}

#[derive(Debug)]
pub enum AcknowledgeError {
    /// 1 to 64 of a–z 0–9 `-` and `_`.
    Name(String),
    Unknown {
        consumer: String,
    },
    /// Only what can't be lost any more can be acknowledged.
    NotDurable {
        position: u64,
        durable_position: u64,
    },
    /// The spool is closed or poisoned.
    Closed(SyncFailure),
    /// The cursor is as before.
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for AcknowledgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcknowledgeError::Name(name) => {
                write!(f, "consumer '{name}' must be 1 to 64 of a-z, 0-9, - and _")
            }
            AcknowledgeError::Unknown { consumer } => write!(f, "consumer '{consumer}' isn't registered"),
            AcknowledgeError::NotDurable { position, durable_position } => {
                write!(
                    f,
                    "position {position} isn't durable yet, only {durable_position} is; wait for it first"
                )
            }
            AcknowledgeError::Closed(failure) => write!(f, "{failure}"),
            AcknowledgeError::Io { path, error } => {
                write!(f, "can't save {}: {error}; check the folder's rights and free space", path.display())
            }
        }
    }
}

impl std::error::Error for AcknowledgeError {}

/// All but `Io` are reported once, in place of what is missing, and reading goes on behind it.
#[derive(Debug)]
pub enum ReadError {
    /// Older than the oldest segment. Both ends are included.
    Dropped { from_position: u64, to_position: u64 },
    /// Bytes that are no record; the positions are those that the next whole record shows to be missing. When
    /// `to_position` is below `from_position`, none is.
    Damaged { path: PathBuf, from_position: u64, to_position: u64 },
    /// A whole record that this version can't read.
    Undecodable { position: u64, error: RecordError },
    /// The reader is at its end.
    Io { path: PathBuf, error: io::Error },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Dropped { from_position, to_position } => {
                write!(f, "positions {from_position} to {to_position} are dropped; start from a later one")
            }
            ReadError::Damaged { path, from_position, to_position } => write!(
                f,
                "{} is damaged at positions {from_position} to {to_position}; check the disk and restart to repair it",
                path.display()
            ),
            ReadError::Undecodable { position, error } => write!(f, "record at position {position}: {error}"),
            ReadError::Io { path, error } => {
                write!(f, "can't read {}: {error}; check the disk", path.display())
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// Why a record can't be written, or a payload isn't one.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordError {
    TooLong { field: &'static str, count: usize, limit: usize },
    Bar(BarError),
    Malformed { field: &'static str },
    Truncated,
    Trailing { bytes: usize },
    UnknownKind { kind: u8 },
    UnknownVersion { kind: u8, version: u8 },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::TooLong { field, count, limit } => {
                write!(f, "{field} has length {count}; the limit is {limit}")
            }
            RecordError::Bar(error) => write!(f, "{error}"),
            RecordError::Malformed { field } => write!(f, "{field} has an impossible value"),
            RecordError::Truncated => write!(f, "the payload ends too early"),
            RecordError::Trailing { bytes } => write!(f, "the payload has {bytes} bytes too many"),
            RecordError::UnknownKind { kind } => {
                write!(f, "record kind {kind} is unknown; a newer alphaplus wrote it")
            }
            RecordError::UnknownVersion { kind, version } => {
                write!(f, "record kind {kind} has version {version}; a newer alphaplus wrote it")
            }
        }
    }
}

impl std::error::Error for RecordError {}
