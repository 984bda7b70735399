//! The one writer of a file.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{AddError, CreateError};
use crate::heart::{self, Heart};
use crate::layout::{
    HEADER_BYTES, KEY_WORDS, LOCKED_WORDS, MAGIC, MODEL_BYTES_MAX, SLOT_BYTES, SLOTS_MAX, SYMBOL_BYTES_MAX,
    TIMEFRAME_BYTES_MAX, VERSION, file_bytes, header, slot,
};
use crate::map::Map;
use crate::process;
use crate::reader;
use crate::snapshot::{Slot, Snapshot, words_of};

const LOCK_WAIT_MAX: Duration = Duration::from_millis(500);

/// By which predictions go stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Wall,
    /// The newest bar's close.
    Feed,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub slots: u32,
    /// Of the file: who may read it.
    pub mode: u32,
    pub clock: Clock,
}

pub struct Writer {
    map: Arc<Map>,
    slots: u32,
    /// Slots that have a key. Held by whoever writes a slot.
    used: Mutex<u32>,
    heart: Mutex<Option<Heart>>,
    /// Locked while this lives: no second writer.
    _file: File,
}

impl Writer {
    /// A new file at the path, complete when it appears there. The file of an appliance that has ended is replaced
    /// and marked closed; that of one that runs is not.
    pub fn create(path: &Path, options: &Options) -> Result<Self, CreateError> {
        if options.slots > SLOTS_MAX {
            return Err(CreateError::TooManySlots(options.slots));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            |error| CreateError::Io { path, error }
        };
        // A process that is ending, or one that its holder is just starting, keeps a lock for a moment.
        let until = Instant::now() + LOCK_WAIT_MAX;
        let lock = |file: &File, locked: &Path| loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(CreateError::InUse(path.to_path_buf())),
                Err(TryLockError::Error(error)) => return Err(failed(locked)(error)),
            }
        };
        // Whoever holds the new file decides; the old one is looked at only by that one.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)
            .map_err(failed(&new))?;
        lock(&file, &new)?;
        let about = file.metadata().map_err(failed(&new))?;
        if about.uid() != process::user() || about.nlink() != 1 || !about.is_file() {
            return Err(CreateError::NotOurs(new));
        }
        let old = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
            Ok(old) => {
                lock(&old, path)?;
                Some(old)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(path)(error)),
        };
        let map = fill(&mut file, options).map_err(failed(&new))?;
        file.set_permissions(Permissions::from_mode(options.mode & 0o777)).map_err(failed(&new))?;
        fs::rename(&new, path).map_err(failed(path))?;
        if let Some(old) = old {
            close_old(&old);
        }
        let map = Arc::new(map);
        let heart = Heart::start(map.clone()).map_err(failed(path))?;
        Ok(Writer {
            map,
            slots: options.slots,
            used: Mutex::new(0),
            heart: Mutex::new(Some(heart)),
            _file: file,
        })
    }

    /// A slot for the stream and the model, for as long as this lives. One that gets none is counted in the file.
    pub fn add(&self, symbol: &str, timeframe: &str, seconds: u32, model: &str) -> Result<Slot, AddError> {
        let added = self.try_add(symbol, timeframe, seconds, model);
        if added.is_err()
            && let Some([refused]) = self.map.words(header::REFUSED)
        {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        added
    }

    fn try_add(&self, symbol: &str, timeframe: &str, seconds: u32, model: &str) -> Result<Slot, AddError> {
        let fields = [
            ("symbol", symbol, slot::SYMBOL, SYMBOL_BYTES_MAX),
            ("timeframe", timeframe, slot::TIMEFRAME, TIMEFRAME_BYTES_MAX),
            ("model", model, slot::MODEL, MODEL_BYTES_MAX),
        ];
        let mut key = [0u8; KEY_WORDS * 8];
        for (i, (field, text, at, max)) in fields.into_iter().enumerate() {
            if text.len() > max {
                return Err(AddError::TooLong { field, bytes: text.len(), max });
            }
            key[i] = text.len() as u8;
            let at = at - slot::LENGTHS;
            key[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let at = slot::TIMEFRAME_SECONDS - slot::LENGTHS;
        key[at..at + 4].copy_from_slice(&seconds.to_le_bytes());

        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let full = AddError::Full { slots: self.slots };
        if *used == self.slots {
            return Err(full);
        }
        let new = *used;
        let words = self.map.words::<KEY_WORDS>(at_slot(new) + slot::LENGTHS).ok_or(full)?;
        for (word, value) in words.iter().zip(words_of(&key)) {
            word.store(value, Ordering::Relaxed);
        }
        *used += 1;
        if let Some([count]) = self.map.words(header::USED) {
            count.store(u64::from(*used), Ordering::Release);
        }
        Ok(Slot(new))
    }

    /// What readers of the slot get from now on; `durable_seq` is filled in.
    pub fn write(&self, slot: Slot, snapshot: &Snapshot) {
        let _alone = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(words) = self.map.words::<LOCKED_WORDS>(at_slot(slot.0)) else { return };
        let before = words[0].load(Ordering::Relaxed);
        let snapshot = Snapshot { durable_seq: self.map.load(header::DURABLE_SEQ), ..*snapshot };
        let values = snapshot.encode(before.wrapping_add(2));
        words[0].store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in words[1..].iter().zip(&values[1..]) {
            word.store(*value, Ordering::Relaxed);
        }
        words[0].store(values[0], Ordering::Release);
    }

    pub fn set_durable_seq(&self, seq: u64) {
        if let Some([word]) = self.map.words(header::DURABLE_SEQ) {
            word.fetch_max(seq, Ordering::Relaxed);
        }
    }

    /// The newest bar's close, where the feed is the clock. One thread sets it.
    pub fn set_feed_time(&self, ns: i64) {
        if let Some([word]) = self.map.words(header::FEED_TIME) {
            word.store(ns as u64, Ordering::Relaxed);
        }
    }

    /// Tells readers that nothing more will come.
    pub fn close(&self) {
        let heart = self.heart.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(heart) = heart {
            set_closed(&self.map);
            heart.stop();
        }
    }

    /// Begins a write and doesn't end it, as a killed process does.
    #[cfg(test)]
    pub(crate) fn begin_write(&self, slot: Slot) {
        let words = self.map.words::<LOCKED_WORDS>(at_slot(slot.0)).unwrap();
        words[0].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn at_slot(slot: u32) -> usize {
    HEADER_BYTES + slot as usize * SLOT_BYTES
}

fn set_closed(map: &Map) {
    if let Some([closed]) = map.words(header::CLOSED) {
        closed.store(1, Ordering::Release);
    }
}

/// Zeros first, so that the memory is there before it is mapped: a full file system is an error here, not a
/// signal later. Then the header.
fn fill(file: &mut File, options: &Options) -> io::Result<Map> {
    file.set_len(0)?;
    let bytes = file_bytes(options.slots);
    let zeros = vec![0u8; bytes.min(1 << 20)];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    let map = Map::writable(file)?;
    let pid = std::process::id();
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let words = [
        (header::MAGIC, MAGIC),
        (header::VERSION, pair(VERSION, HEADER_BYTES as u32)),
        (header::SLOT_BYTES, pair(SLOT_BYTES as u32, options.slots)),
        (header::FILE_BYTES, bytes as u64),
        (header::PID, u64::from(pid)),
        (header::START_TICKS, process::start_ticks(pid)),
        (header::PID_NAMESPACE, process::pid_namespace()),
        (header::CREATED, process::wall_ns() as u64),
        (header::CLOCK, u64::from(options.clock == Clock::Feed)),
        (header::FEED_TIME, i64::MIN as u64),
    ];
    for (at, value) in words {
        if let Some([word]) = map.words(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
    heart::beat(&map);
    Ok(map)
}

/// Readers of a file that was left behind learn at once that it is no more.
fn close_old(file: &File) {
    if let Ok(map) = Map::writable(file)
        && reader::check(&map).is_ok()
    {
        set_closed(&map);
    }
}
