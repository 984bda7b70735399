//! What can go wrong, for each side.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::layout::{DEAD_AFTER, SLOTS_MAX, VERSION};

/// Of opening and of reading.
#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    /// The appliance ended in order: open again.
    Closed,
    /// It was killed or hangs: open again. How old its heartbeat is.
    Dead {
        age: Duration,
    },
    /// It was in the middle of a write for too long: read again.
    Torn,
    OtherVersion {
        found: u32,
    },
    /// The file is shorter than it says.
    Truncated {
        bytes: u64,
        needed: u64,
    },
    /// Not a file of AlphaPlus, or a damaged one.
    Foreign(&'static str),
    NoSuchSlot,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(e) => write!(f, "the shared-memory file can't be opened: {e}"),
            ReadError::Closed => write!(f, "the appliance has ended: open the file again once it is back"),
            ReadError::Dead { age } => write!(
                f,
                "the appliance is gone: its heartbeat is {age:?} old ({DEAD_AFTER:?} at most, or its process ended)"
            ),
            ReadError::Torn => write!(f, "the appliance was writing for too long: read again"),
            ReadError::OtherVersion { found } => {
                write!(
                    f,
                    "the file has layout {found}, this reads {VERSION}: use the reader of that appliance"
                )
            }
            ReadError::Truncated { bytes, needed } => {
                write!(f, "the file has {bytes} bytes and needs {needed}: it was cut off")
            }
            ReadError::Foreign(what) => write!(f, "not a shared-memory file of AlphaPlus: {what}"),
            ReadError::NoSuchSlot => write!(f, "the file has no such slot: find it by its key"),
        }
    }
}

impl std::error::Error for ReadError {}

#[derive(Debug)]
pub enum CreateError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    /// Another living process holds the file.
    InUse(PathBuf),
    /// Someone else's file stands in the way.
    NotOurs(PathBuf),
    TooManySlots(u32),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Io { path, error } => write!(f, "{} can't be made: {error}", path.display()),
            CreateError::InUse(path) => {
                write!(f, "{} belongs to another running appliance: choose another path", path.display())
            }
            CreateError::NotOurs(path) => {
                write!(f, "{} belongs to another user: remove it or choose another folder", path.display())
            }
            CreateError::TooManySlots(n) => {
                write!(f, "{n} slots are too many for one file: at most {SLOTS_MAX}")
            }
        }
    }
}

impl std::error::Error for CreateError {}

/// A stream that gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    TooLong { field: &'static str, bytes: usize, max: usize },
    Full { slots: u32 },
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddError::TooLong { field, bytes, max } => {
                write!(f, "its {field} has {bytes} bytes and the shared-memory file holds {max}")
            }
            AddError::Full { slots } => write!(f, "all {slots} slots of the shared-memory file are taken"),
        }
    }
}

impl std::error::Error for AddError {}
