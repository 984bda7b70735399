//! A reader of a file.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::error::ReadError;
use crate::layout::{
    DEAD_NS, HEADER_BYTES, KEY_WORDS, LATE_NS, LOCKED_WORDS, MAGIC, MODEL_BYTES_MAX, SLOT_BYTES, SLOTS_MAX,
    SYMBOL_BYTES_MAX, TIMEFRAME_BYTES_MAX, VERSION, file_bytes, header, slot,
};
use crate::map::Map;
use crate::process;
use crate::snapshot::{Name, Slot, Snapshot, Words};
use crate::writer::at_slot;

/// So often a slot is read again while it is being written: well under a millisecond, where a write takes 100 ns.
const ATTEMPTS: usize = 10_000;

/// Many threads may read through one. Nothing but opening allocates.
pub struct Reader {
    map: Map,
    slots: u32,
    pid: u64,
    start_ticks: u64,
    /// The writer's process number means the same here.
    same_namespace: bool,
}

/// Of whom a slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub symbol: Name<SYMBOL_BYTES_MAX>,
    pub timeframe: Name<TIMEFRAME_BYTES_MAX>,
    pub timeframe_seconds: u32,
    /// "name/version".
    pub model: Name<MODEL_BYTES_MAX>,
}

/// The file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub pid: u64,
    pub created_ns: i64,
    pub beat_ns: i64,
    pub slots: u32,
    pub used: u32,
    pub refused: u64,
    pub durable_seq: u64,
    pub closed: bool,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(ReadError::Io)?;
        let about = file.metadata().map_err(ReadError::Io)?;
        if !about.is_file() {
            return Err(ReadError::Foreign("it is not a regular file"));
        }
        if about.len() < HEADER_BYTES as u64 {
            return Err(ReadError::Truncated { bytes: about.len(), needed: HEADER_BYTES as u64 });
        }
        let map = Map::read_only(&file).map_err(ReadError::Io)?;
        let slots = check(&map)?;
        let namespace = process::pid_namespace();
        Ok(Reader {
            slots,
            pid: map.load(header::PID),
            start_ticks: map.load(header::START_TICKS),
            same_namespace: namespace != 0 && namespace == map.load(header::PID_NAMESPACE),
            map,
        })
    }

    /// The slot of a symbol, a timeframe as replies write it ("1h") and a model as it is deployed ("name@alias",
    /// "name/version" or "name"), or "name" for the first of that name. A stream gets its slot with its first bar, and
    /// keeps it when another version takes over.
    pub fn find(&self, symbol: &str, timeframe: &str, model: &str) -> Option<Slot> {
        self.all().find(|&slot| {
            self.key(slot).is_ok_and(|key| {
                let held = key.model.as_str();
                key.symbol.as_str() == symbol
                    && key.timeframe.as_str() == timeframe
                    && (held == model || held.split(['/', '@']).next() == Some(model))
            })
        })
    }

    /// Every slot that has a key.
    pub fn all(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.used()).map(Slot)
    }

    fn used(&self) -> u32 {
        let used = self.map.load(header::USED);
        // The keys before it are seen whole.
        fence(Ordering::Acquire);
        u32::try_from(used).unwrap_or(u32::MAX).min(self.slots)
    }

    pub fn key(&self, slot: Slot) -> Result<Key, ReadError> {
        if slot.0 >= self.used() {
            return Err(ReadError::NoSuchSlot);
        }
        let at = at_slot(slot.0) + slot::LENGTHS;
        let words = self.map.words::<KEY_WORDS>(at).ok_or(ReadError::NoSuchSlot)?;
        let mut bytes = [0u8; KEY_WORDS * 8];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        fn name<const N: usize>(bytes: &[u8], at: usize, length: u8) -> Result<Name<N>, ReadError> {
            let at = at - slot::LENGTHS;
            let text = bytes[at..at + N].get(..usize::from(length));
            text.and_then(Name::from_bytes).ok_or(ReadError::Foreign("a name in it is damaged"))
        }
        let [symbol, timeframe, model, seconds @ ..] = bytes;
        let seconds = &seconds[slot::TIMEFRAME_SECONDS - slot::LENGTHS - 3..][..4];
        Ok(Key {
            symbol: name(&bytes, slot::SYMBOL, symbol)?,
            timeframe: name(&bytes, slot::TIMEFRAME, timeframe)?,
            timeframe_seconds: seconds.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)),
            model: name(&bytes, slot::MODEL, model)?,
        })
    }

    /// What the slot says now.
    pub fn read(&self, slot: Slot) -> Result<Snapshot, ReadError> {
        self.alive()?;
        self.read_last(slot)
    }

    /// What the slot says, or said last where the writer is gone.
    pub fn read_last(&self, slot: Slot) -> Result<Snapshot, ReadError> {
        let inside = (slot.0 < self.slots).then(|| self.map.words::<LOCKED_WORDS>(at_slot(slot.0))).flatten();
        let words = inside.ok_or(ReadError::NoSuchSlot)?;
        for _ in 0..ATTEMPTS {
            if let Some(copy) = copy(words) {
                return Snapshot::decode(&copy).ok_or(ReadError::Foreign("a slot in it is damaged"));
            }
            std::hint::spin_loop();
        }
        if self.writer_is_gone() {
            return Err(ReadError::Dead { age: self.beat_age() });
        }
        Err(ReadError::Torn)
    }

    /// Whether the writer is there: not closed, and its heartbeat not older than [`DEAD_AFTER`](crate::DEAD_AFTER).
    /// A late one is looked for by its process.
    pub fn alive(&self) -> Result<(), ReadError> {
        if self.map.load(header::CLOSED) != 0 {
            return Err(ReadError::Closed);
        }
        let age = self.beat_age();
        if age <= Duration::from_nanos(LATE_NS) {
            return Ok(());
        }
        if age > Duration::from_nanos(DEAD_NS) || self.writer_is_gone() {
            return Err(ReadError::Dead { age });
        }
        Ok(())
    }

    /// A heartbeat in the future is of another boot: as far off as one in the past.
    fn beat_age(&self) -> Duration {
        let beat = self.map.load(header::BEAT_MONOTONIC) as i64;
        Duration::from_nanos(process::monotonic_ns().abs_diff(beat))
    }

    fn writer_is_gone(&self) -> bool {
        self.same_namespace && process::is_gone(self.pid, self.start_ticks)
    }

    /// Predictions with a `seq` up to here survive power loss.
    pub fn durable_seq(&self) -> u64 {
        self.map.load(header::DURABLE_SEQ)
    }

    /// Whether the prediction isn't valid any more, by the clock that the appliance goes by.
    pub fn is_stale(&self, snapshot: &Snapshot) -> bool {
        let now = match self.map.load(header::CLOCK) {
            1 => self.map.load(header::FEED_TIME) as i64,
            _ => process::wall_ns(),
        };
        now > snapshot.valid_until_ns
    }

    pub fn about(&self) -> About {
        About {
            pid: self.pid,
            created_ns: self.map.load(header::CREATED) as i64,
            beat_ns: self.map.load(header::BEAT_WALL) as i64,
            slots: self.slots,
            used: self.used(),
            refused: self.map.load(header::REFUSED),
            durable_seq: self.durable_seq(),
            closed: self.map.load(header::CLOSED) != 0,
        }
    }
}

/// `None` while it is being written.
fn copy(words: &[AtomicU64; LOCKED_WORDS]) -> Option<Words> {
    let before = words[0].load(Ordering::Relaxed);
    if !before.is_multiple_of(2) {
        return None;
    }
    fence(Ordering::Acquire);
    let copy = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
    fence(Ordering::Acquire);
    (words[0].load(Ordering::Relaxed) == before).then_some(copy)
}

/// The number of slots of a file that is whole and of this version.
pub(crate) fn check(map: &Map) -> Result<u32, ReadError> {
    if map.load(header::MAGIC) != MAGIC {
        return Err(ReadError::Foreign("it begins with something else"));
    }
    let found = map.load_u32(header::VERSION);
    if found != VERSION {
        return Err(ReadError::OtherVersion { found });
    }
    let slots = map.load_u32(header::SLOTS);
    let needed = file_bytes(slots) as u64;
    if map.load_u32(header::HEADER_BYTES) != HEADER_BYTES as u32
        || map.load_u32(header::SLOT_BYTES) != SLOT_BYTES as u32
        || slots > SLOTS_MAX
        || map.load(header::FILE_BYTES) != needed
    {
        return Err(ReadError::Foreign("its sizes don't fit together"));
    }
    if (map.len() as u64) < needed {
        return Err(ReadError::Truncated { bytes: map.len() as u64, needed });
    }
    Ok(slots)
}
