//! Who has taken what: one small cursor file per consumer, replaced whole.
//!
//! `cursor-<name>`: `| magic 8 | epoch u128 | position u64 | crc u32 |`. It is written beside, synced, renamed and
//! its directory synced, before any segment is removed on its word. A lost cursor counts as 0: the consumer knows
//! better (the database's ledger does), and segments stay longer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::filesystem::{Access, FileSystem};

const MAGIC: &[u8; 8] = b"ALPHCURS";
const CURSOR_BYTES: usize = 36;
const PREFIX: &str = "cursor-";

pub(crate) struct Consumers {
    acknowledged: Mutex<BTreeMap<String, u64>>,
    /// One cursor file at a time; the map stays readable meanwhile.
    saving: Mutex<()>,
}

impl Consumers {
    pub(crate) fn new(acknowledged: BTreeMap<String, u64>) -> Self {
        Consumers { acknowledged: Mutex::new(acknowledged), saving: Mutex::new(()) }
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.map().clone()
    }

    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.map().get(name).copied()
    }

    /// Up to where everybody has taken everything; None without consumers.
    pub(crate) fn acknowledged_by_all(&self) -> Option<u64> {
        self.map().values().min().copied()
    }

    /// Holds off other savers from the check to the update.
    pub(crate) fn start_saving(&self) -> MutexGuard<'_, ()> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the cursor file is durable.
    pub(crate) fn set(&self, name: &str, position: u64) {
        self.map().insert(name.to_owned(), position);
    }

    pub(crate) fn forget(&self, name: &str) {
        self.map().remove(name);
    }
}

pub(crate) fn is_consumer_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// The consumer that a cursor file belongs to; None for other files.
pub(crate) fn parse_cursor_name(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).filter(|consumer| is_consumer_name(consumer))
}

pub(crate) fn cursor_path(dir: &Path, consumer: &str) -> PathBuf {
    dir.join(format!("{PREFIX}{consumer}"))
}

/// Durable when it returns.
pub(crate) fn save_cursor(
    fs: &dyn FileSystem,
    dir: &Path,
    consumer: &str,
    epoch: u128,
    position: u64,
) -> io::Result<()> {
    let path = cursor_path(dir, consumer);
    let beside = dir.join(format!("{PREFIX}{consumer}.tmp"));
    match fs.remove(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.create(&beside)?;
    file.write_all_at(&encode(epoch, position), 0)?;
    file.sync_data()?;
    drop(file);
    fs.rename(&beside, &path)?;
    fs.sync_dir(dir)
}

/// None when it is damaged or of another spool.
pub(crate) fn load_cursor(
    fs: &dyn FileSystem,
    dir: &Path,
    consumer: &str,
    epoch: u128,
) -> io::Result<Option<u64>> {
    let file = fs.open(&cursor_path(dir, consumer), Access::Read)?;
    let mut bytes = [0; CURSOR_BYTES + 1];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(decode(&bytes[..count], epoch))
}

fn encode(epoch: u128, position: u64) -> [u8; CURSOR_BYTES] {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..24].copy_from_slice(&epoch.to_le_bytes());
    bytes[24..32].copy_from_slice(&position.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], epoch: u128) -> Option<u64> {
    let position = u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?);
    (bytes == encode(epoch, position)).then_some(position)
}
