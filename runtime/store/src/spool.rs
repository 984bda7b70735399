//! The one writer: appends batches, begins segments, keeps the spool within its limit.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use market::Timestamp;

use crate::consumer::Consumers;
use crate::durable::{Durability, SyncFailure};
use crate::error::{AppendError, OpenError};
use crate::filesystem::{FileSystem, LockError, LockGuard, RealFileSystem, StoredFile, ensure_dir};
use crate::frame::{crc_seed, push_frame};
use crate::log::{Segment, Shared, SpoolHandle};
use crate::record::Record;
use crate::recover::{Recovery, io_error, recover};
use crate::segment::{CreateError, SEGMENT_HEADER_BYTES, SegmentHeader, create_segment};

/// A `Gap` record with its frame, and the header of the segment that it may begin.
pub(crate) const GAP_RESERVE_BYTES: u64 = 256;

#[derive(Clone)]
pub struct SpoolOptions {
    /// Of one file. No batch is longer.
    pub segment_bytes: u64,
    /// Of all files together; at least three segments.
    pub limit_bytes: u64,
    pub on_full: OnFull,
    pub durability: DurabilityMode,
    /// A write is synced so long after it at the latest, while the disk keeps up.
    pub sync_interval: Duration,
    pub file_system: Arc<dyn FileSystem>,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        SpoolOptions {
            segment_bytes: 64 << 20,
            limit_bytes: 4 << 30,
            on_full: OnFull::Block,
            durability: DurabilityMode::Written,
            sync_interval: Duration::from_millis(5),
            file_system: Arc::new(RealFileSystem),
        }
    }
}

/// What happens at `limit_bytes`, once all that every consumer has acknowledged is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Appends are refused with [`AppendError::SpoolFull`] until every consumer has acknowledged more, or
    /// [`Spool::retain`] removed some. Without a consumer nothing is ever acknowledged.
    Block,
    /// The oldest segments go, with the gap recorded. So they do on a full disk.
    DropOldest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityMode {
    /// Readable when written: a killed process loses nothing, a power cut at most what wasn't synced.
    Written,
    /// Readable when synced: every append waits for its sync.
    Synced,
}

/// The positions of one batch; both ends are included.
#[derive(Clone)]
pub struct Ticket {
    pub first: u64,
    /// Below `first` when the batch was empty.
    pub last: u64,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Blocks until the batch is durable; syncs at once.
    pub fn wait(&self) -> Result<(), SyncFailure> {
        self.shared.durability.wait(self.last)
    }

    pub fn is_durable(&self) -> bool {
        self.shared.durability.durable_position() >= self.last
    }

    /// As [`SpoolHandle::on_durable`] for the batch.
    pub fn on_durable(&self, callback: impl FnOnce(Result<u64, SyncFailure>) + Send + 'static) {
        self.shared.durability.on_durable(self.last, Box::new(callback));
    }
}

/// The durable spool, open for writing. What needs no writer is on its [`SpoolHandle`].
pub struct Spool {
    pub(crate) handle: SpoolHandle,
    pub(crate) options: SpoolOptions,
    pub(crate) active: Active,
    buffer: Vec<u8>,
    syncer: Option<JoinHandle<()>>,
    _lock: LockGuard,
}

/// The segment being written, as the writer knows it.
pub(crate) struct Active {
    file: Arc<dyn StoredFile>,
    pub first: u64,
    /// Header included.
    length: u64,
    pub next_position: u64,
    prediction_seq: u64,
}

impl Spool {
    /// Opens the spool in `dir`, or makes it. Everything recovered is durable when it returns.
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<(Spool, Recovery), OpenError> {
        check_options(&options)?;
        let fs = Arc::clone(&options.file_system);
        ensure_dir(&*fs, dir).map_err(|error| io_error("making", dir, error))?;
        let lock_path = dir.join("lock");
        let lock = fs.lock(&lock_path).map_err(|error| match error {
            LockError::Held { pid } => OpenError::Locked { dir: dir.to_path_buf(), pid },
            LockError::Io(error) => io_error("locking", &lock_path, error),
        })?;
        let recovered = recover(&*fs, dir)?;
        let last = recovered.last;
        let active = Active {
            file: Arc::clone(&recovered.active),
            first: last.first,
            length: last.bytes,
            next_position: last.last + 1,
            prediction_seq: recovered.recovery.last_prediction_seq,
        };
        let durability = Durability::new(recovered.active, last.last, options.sync_interval);
        let consumers = Consumers::new(recovered.recovery.consumers.clone());
        let shared =
            Shared::new(fs, dir.to_path_buf(), recovered.epoch, durability, consumers, recovered.segments);
        let shared = Arc::new(shared);
        let syncing = Arc::clone(&shared);
        let syncer = std::thread::Builder::new()
            .name("spool-sync".to_owned())
            .spawn(move || syncing.durability.run())
            .map_err(|error| io_error("starting the syncing thread for", dir, error))?;
        let handle = SpoolHandle { shared };
        let spool = Spool { handle, options, active, buffer: Vec::new(), syncer: Some(syncer), _lock: lock };
        Ok((spool, recovered.recovery))
    }

    pub fn handle(&self) -> SpoolHandle {
        self.handle.clone()
    }

    /// The position that the next record gets.
    pub fn next_position(&self) -> u64 {
        self.active.next_position
    }

    /// Writes the batch with one write and makes it visible. After an error none of it is there, and but for
    /// [`AppendError::Poisoned`] the spool goes on.
    ///
    /// Beginning a segment waits for the sync of the one before. With [`OnFull::DropOldest`] a `Gap` record may
    /// come before the batch.
    pub fn append(&mut self, records: &[Record]) -> Result<Ticket, AppendError> {
        self.handle.shared.durability.check()?;
        self.encode(records)?;
        let bytes = self.buffer.len() as u64;
        let limit_bytes = self.options.segment_bytes - SEGMENT_HEADER_BYTES as u64;
        if bytes > limit_bytes {
            return Err(AppendError::BatchTooLong { bytes, limit_bytes });
        }
        if self.make_room(bytes)? {
            self.encode(records)?;
        }
        loop {
            match self.write_encoded(records) {
                Err(AppendError::DiskFull { .. }) if self.drop_for_disk()? => self.encode(records)?,
                result => return result,
            }
        }
    }

    /// As [`append`](Spool::append) without looking at limits.
    pub(crate) fn write(&mut self, records: &[Record]) -> Result<Ticket, AppendError> {
        self.encode(records)?;
        self.write_encoded(records)
    }

    /// The buffer holds `records` for the active segment and the next position.
    fn write_encoded(&mut self, records: &[Record]) -> Result<Ticket, AppendError> {
        if self.active.length + self.buffer.len() as u64 > self.options.segment_bytes
            && self.active.length > SEGMENT_HEADER_BYTES as u64
        {
            self.begin_segment()?;
            self.encode(records)?;
        }
        self.write_buffer()?;
        let first = self.active.next_position;
        let last = first + records.len() as u64 - 1;
        self.active.next_position = last + 1;
        let seq = records.iter().filter_map(Record::prediction_seq).max();
        self.active.prediction_seq = self.active.prediction_seq.max(seq.unwrap_or(0));
        let shared = Arc::clone(&self.handle.shared);
        if first <= last {
            shared.durability.wrote(last);
        }
        if self.options.durability == DurabilityMode::Synced {
            shared.durability.wait(last)?;
        }
        if let Some(segment) = shared.segments().back_mut() {
            segment.last = last;
            segment.bytes = self.active.length;
        }
        Ok(Ticket { first, last, shared })
    }

    fn encode(&mut self, records: &[Record]) -> Result<(), AppendError> {
        self.buffer.clear();
        let seed = crc_seed(self.active.first);
        for (index, (record, position)) in records.iter().zip(self.active.next_position..).enumerate() {
            push_frame(&mut self.buffer, seed, position, record)
                .map_err(|error| AppendError::Record { index, error })?;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), AppendError> {
        let active = &mut self.active;
        let Err(error) = active.file.write_all_at(&self.buffer, active.length) else {
            active.length += self.buffer.len() as u64;
            return Ok(());
        };
        let durability = &self.handle.shared.durability;
        if let Err(error) = active.file.truncate(active.length) {
            return Err(durability.poison("cutting off a failed write", error.to_string()).into());
        }
        Err(if is_full(&error) {
            self.disk_full(self.buffer.len() as u64)
        } else {
            durability.poison("writing the segment", error.to_string()).into()
        })
    }

    fn begin_segment(&mut self) -> Result<(), AppendError> {
        let shared = Arc::clone(&self.handle.shared);
        shared.durability.wait(self.active.next_position - 1)?;
        let header = SegmentHeader {
            first_position: self.active.next_position,
            epoch: shared.epoch,
            created_at: Timestamp::now(),
            prediction_seq: self.active.prediction_seq,
        };
        let file = match create_segment(&*shared.fs, &shared.dir, &header) {
            Ok(file) => file,
            Err(CreateError::Write(error)) if is_full(&error) => {
                return Err(self.disk_full((SEGMENT_HEADER_BYTES + self.buffer.len()) as u64));
            }
            Err(error) => {
                let error = io::Error::from(error);
                return Err(shared.durability.poison("beginning a segment", error.to_string()).into());
            }
        };
        shared.durability.replace_file(Arc::clone(&file));
        self.active.file = file;
        self.active.first = header.first_position;
        self.active.length = SEGMENT_HEADER_BYTES as u64;
        shared.segments().push_back(Segment {
            first: header.first_position,
            last: header.first_position - 1,
            bytes: self.active.length,
            created_at: header.created_at,
        });
        Ok(())
    }

    fn disk_full(&self, needed_bytes: u64) -> AppendError {
        AppendError::DiskFull { dir: self.handle.shared.dir.clone(), needed_bytes }
    }

    /// Syncs what is left and says whether that went well. Dropping the spool does the same in silence.
    pub fn close(mut self) -> Result<(), SyncFailure> {
        let last = self.active.next_position - 1;
        self.stop();
        self.handle.shared.durability.wait(last)
    }

    fn stop(&mut self) {
        self.handle.shared.durability.close();
        if let Some(syncer) = self.syncer.take() {
            let _ = syncer.join();
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Deref for Spool {
    type Target = SpoolHandle;

    fn deref(&self) -> &SpoolHandle {
        &self.handle
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dir: &PathBuf = &self.handle.shared.dir;
        f.debug_struct("Spool").field("dir", dir).field("next_position", &self.active.next_position).finish()
    }
}

fn check_options(options: &SpoolOptions) -> Result<(), OpenError> {
    if !(4096..=1 << 32).contains(&options.segment_bytes) {
        let found = options.segment_bytes;
        return Err(OpenError::Options(format!("segment_bytes is {found}; choose 4096 to 4294967296")));
    }
    let least = options.segment_bytes * 3;
    if options.limit_bytes < least {
        let found = options.limit_bytes;
        return Err(OpenError::Options(format!(
            "limit_bytes is {found}; it must hold three segments, {least} bytes at least"
        )));
    }
    Ok(())
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
