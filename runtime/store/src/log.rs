//! What the writer, the readers and the consumers share: the list of segments and how far each may be read.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::Timestamp;

use crate::consumer::{Consumers, cursor_path, is_consumer_name, save_cursor};
use crate::durable::{Durability, SyncCounts, SyncFailure};
use crate::error::AcknowledgeError;
use crate::filesystem::FileSystem;
use crate::reader::{Reader, Visibility};

/// One segment as far as it is visible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub first: u64,
    /// `first - 1` while it is empty.
    pub last: u64,
    /// Header included.
    pub bytes: u64,
    pub created_at: Timestamp,
}

pub(crate) struct Shared {
    pub fs: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    pub epoch: u128,
    pub durability: Durability,
    pub consumers: Consumers,
    segments: Mutex<VecDeque<Segment>>,
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        epoch: u128,
        durability: Durability,
        consumers: Consumers,
        segments: VecDeque<Segment>,
    ) -> Self {
        Shared { fs, dir, epoch, durability, consumers, segments: Mutex::new(segments) }
    }

    /// Oldest first; the last one is being written. Never empty.
    pub(crate) fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn visible_position(&self) -> u64 {
        self.segments().back().map_or(0, |segment| segment.last)
    }
}

/// Reads, waits and acknowledges from any thread, beside the one writer. Cheap to clone.
#[derive(Clone)]
pub struct SpoolHandle {
    pub(crate) shared: Arc<Shared>,
}

/// For health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolStats {
    pub used_bytes: u64,
    pub segments: usize,
    pub first_position: u64,
    pub written_position: u64,
    pub durable_position: u64,
    pub consumers: BTreeMap<String, u64>,
    pub syncs: SyncCounts,
    pub failure: Option<SyncFailure>,
}

impl SpoolHandle {
    /// Random, made with the spool: what a ledger elsewhere knows this spool by.
    pub fn epoch(&self) -> u128 {
        self.shared.epoch
    }

    /// Records from a position on, up to what is visible when [`Reader::next`] is called. 0 means the oldest.
    pub fn read(&self, from_position: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from_position, Visibility::Written)
    }

    /// As [`read`](SpoolHandle::read), but only what power loss can't reach. A sink reads so: what it passes on
    /// must never be lost here and its position taken by another record.
    pub fn read_durable(&self, from_position: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from_position, Visibility::Durable)
    }

    /// The last position that is visible; 0 when none ever was.
    pub fn written_position(&self) -> u64 {
        self.shared.visible_position()
    }

    /// Up to here power loss can't reach.
    pub fn durable_position(&self) -> u64 {
        self.shared.durability.durable_position()
    }

    /// Blocks until `position` is durable; syncs at once.
    pub fn wait_durable(&self, position: u64) -> Result<(), SyncFailure> {
        self.shared.durability.wait(position)
    }

    /// As [`wait_durable`](SpoolHandle::wait_durable) without blocking. The callback runs on the syncing thread
    /// (or right here when the answer is known): it should only pass the answer on.
    pub fn on_durable(
        &self,
        position: u64,
        callback: impl FnOnce(Result<u64, SyncFailure>) + Send + 'static,
    ) {
        self.shared.durability.on_durable(position, Box::new(callback));
    }

    /// From now on segments stay until `consumer` has acknowledged them. Returns its cursor: 0 for a new one.
    pub fn register(&self, consumer: &str) -> Result<u64, AcknowledgeError> {
        if !is_consumer_name(consumer) {
            return Err(AcknowledgeError::Name(consumer.chars().take(80).collect()));
        }
        let _saving = self.shared.consumers.start_saving();
        if let Some(position) = self.shared.consumers.get(consumer) {
            return Ok(position);
        }
        self.save_cursor(consumer, 0)?;
        Ok(0)
    }

    /// The consumer is done for good; its cursor is removed.
    pub fn unregister(&self, consumer: &str) -> Result<(), AcknowledgeError> {
        let _saving = self.shared.consumers.start_saving();
        if self.shared.consumers.get(consumer).is_none() {
            return Err(AcknowledgeError::Unknown { consumer: consumer.to_owned() });
        }
        self.shared.durability.check().map_err(AcknowledgeError::Closed)?;
        let path = cursor_path(&self.shared.dir, consumer);
        let removed = self.shared.fs.remove(&path).and_then(|()| self.shared.fs.sync_dir(&self.shared.dir));
        removed.map_err(|error| AcknowledgeError::Io { path, error })?;
        self.shared.consumers.forget(consumer);
        Ok(())
    }

    /// `consumer` has all up to `position`; durable when it returns. A position that isn't beyond the one before
    /// changes nothing. Returns the cursor.
    pub fn acknowledge(&self, consumer: &str, position: u64) -> Result<u64, AcknowledgeError> {
        let _saving = self.shared.consumers.start_saving();
        let Some(before) = self.shared.consumers.get(consumer) else {
            return Err(AcknowledgeError::Unknown { consumer: consumer.chars().take(80).collect() });
        };
        if position <= before {
            return Ok(before);
        }
        let durable_position = self.durable_position();
        if position > durable_position {
            return Err(AcknowledgeError::NotDurable { position, durable_position });
        }
        self.save_cursor(consumer, position)?;
        Ok(position)
    }

    fn save_cursor(&self, consumer: &str, position: u64) -> Result<(), AcknowledgeError> {
        let shared = &self.shared;
        shared.durability.check().map_err(AcknowledgeError::Closed)?;
        save_cursor(&*shared.fs, &shared.dir, consumer, shared.epoch, position)
            .map_err(|error| AcknowledgeError::Io { path: cursor_path(&shared.dir, consumer), error })?;
        shared.consumers.set(consumer, position);
        Ok(())
    }

    pub fn stats(&self) -> SpoolStats {
        let (used_bytes, segments, first_position, written_position) = {
            let list = self.shared.segments();
            let bytes = list.iter().map(|segment| segment.bytes).sum();
            let (first, last) = (list.front().map_or(1, |s| s.first), list.back().map_or(0, |s| s.last));
            (bytes, list.len(), first, last)
        };
        SpoolStats {
            used_bytes,
            segments,
            first_position,
            written_position,
            durable_position: self.durable_position(),
            consumers: self.shared.consumers.all(),
            syncs: self.shared.durability.counts(),
            failure: self.shared.durability.check().err(),
        }
    }
}
