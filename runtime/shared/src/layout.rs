//! Where things stand in the file. `include/alphaplus.h` describes it; that these numbers are the same is checked
//! when this is compiled.

use std::time::Duration;

#[cfg(not(target_endian = "little"))]
compile_error!("the layout is little-endian");

const HEADER_FILE: &str = include_str!("../include/alphaplus.h");

/// The number behind `#define ALPHAPLUS_<name> `.
const fn defined(name: &str) -> u64 {
    let (text, name) = (HEADER_FILE.as_bytes(), name.as_bytes());
    let prefix = b"#define ALPHAPLUS_";
    let mut i = 0;
    while i + prefix.len() + name.len() < text.len() {
        if text[i] == b'#' && has(text, i, prefix) && has(text, i + prefix.len(), name) {
            let mut at = i + prefix.len() + name.len();
            if text[at] == b' ' {
                at += 1;
                let mut number = 0;
                while text[at].is_ascii_digit() {
                    number = number * 10 + (text[at] - b'0') as u64;
                    at += 1;
                }
                return number;
            }
        }
        i += 1;
    }
    panic!("include/alphaplus.h lacks a name")
}

const fn has(text: &[u8], from: usize, part: &[u8]) -> bool {
    let mut i = 0;
    while i < part.len() {
        if from + i >= text.len() || text[from + i] != part[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Constants under the names of the C header, each compared with it.
macro_rules! same_in_c {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr, $c:literal;)*) => {
        $($(#[$doc])* pub const $name: $type = $value;
        const _: () = assert!($name as u64 == defined($c), $c);)*
    };
}

same_in_c! {
    MAGIC: u64 = u64::from_le_bytes(*b"ALPHASHM"), "MAGIC";
    /// Of the layout: readers refuse others.
    VERSION: u32 = 3, "VERSION";
    HEADER_BYTES: usize = 256, "HEADER_BYTES";
    SLOT_BYTES: usize = 384, "SLOT_BYTES";
    /// No file has more slots.
    SLOTS_MAX: u32 = 1 << 22, "SLOTS_MAX";
    FOLD: u64 = 0x9E37_79B9_7F4A_7C15, "FOLD";
    BEAT_NS: u64 = 100_000_000, "BEAT_NS";
    LATE_NS: u64 = 250_000_000, "LATE_NS";
    DEAD_NS: u64 = 1_000_000_000, "DEAD_NS";
}

/// The writer renews its heartbeat at least this often.
pub const BEAT: Duration = Duration::from_nanos(BEAT_NS);
/// A heartbeat that is older is a dead writer's.
pub const DEAD_AFTER: Duration = Duration::from_nanos(DEAD_NS);

/// Offsets in the header.
pub mod header {
    use super::defined;

    same_in_c! {
        MAGIC: usize = 0, "AT_MAGIC";
        /// u32, and the next three.
        VERSION: usize = 8, "AT_VERSION";
        HEADER_BYTES: usize = 12, "AT_HEADER_BYTES";
        SLOT_BYTES: usize = 16, "AT_SLOT_BYTES";
        SLOTS: usize = 20, "AT_SLOTS";
        FILE_BYTES: usize = 24, "AT_FILE_BYTES";
        PID: usize = 32, "AT_PID";
        START_TICKS: usize = 40, "AT_START_TICKS";
        PID_NAMESPACE: usize = 48, "AT_PID_NAMESPACE";
        CREATED: usize = 56, "AT_CREATED";
        CLOCK: usize = 64, "AT_CLOCK";
        BEAT_MONOTONIC: usize = 128, "AT_BEAT_MONOTONIC";
        BEAT_WALL: usize = 136, "AT_BEAT_WALL";
        USED: usize = 192, "AT_USED";
        CLOSED: usize = 200, "AT_CLOSED";
        DURABLE_SEQ: usize = 208, "AT_DURABLE_SEQ";
        FEED_TIME: usize = 216, "AT_FEED_TIME";
        REFUSED: usize = 224, "AT_REFUSED";
    }
    const _: () = assert!(REFUSED + 8 <= super::HEADER_BYTES);
}

/// Offsets in a slot.
pub mod slot {
    use super::defined;

    same_in_c! {
        SEQUENCE: usize = 0, "AT_SEQUENCE";
        STATE: usize = 8, "AT_STATE";
        SEQ: usize = 16, "AT_SEQ";
        DURABLE_SEQ: usize = 24, "AT_DURABLE_SEQ_THEN";
        VALUE: usize = 32, "AT_VALUE";
        VALID_UNTIL: usize = 40, "AT_VALID_UNTIL";
        MADE_AT: usize = 48, "AT_MADE_AT";
        OPEN_TIME: usize = 56, "AT_OPEN_TIME";
        CLOSE_TIME: usize = 64, "AT_CLOSE_TIME";
        HORIZON_BARS: usize = 72, "AT_HORIZON_BARS";
        HAVE: usize = 80, "AT_HAVE";
        NEED: usize = 88, "AT_NEED";
        REVISION: usize = 96, "AT_REVISION";
        FLAGS: usize = 104, "AT_FLAGS";
        CAUSE: usize = 112, "AT_CAUSE";
        LABEL: usize = 120, "AT_LABEL";
        MODEL_VERSION: usize = 144, "AT_MODEL_VERSION";
        CONFIDENCE: usize = 152, "AT_CONFIDENCE";
        LOW: usize = 160, "AT_LOW";
        HIGH: usize = 168, "AT_HIGH";
        LEVEL: usize = 176, "AT_LEVEL";
        CHECK: usize = 184, "AT_CHECK";
        LENGTHS: usize = 192, "AT_LENGTHS";
        TIMEFRAME_SECONDS: usize = 200, "AT_TIMEFRAME_SECONDS";
        TIMEFRAME: usize = 208, "AT_TIMEFRAME";
        SYMBOL: usize = 224, "AT_SYMBOL";
        MODEL: usize = 256, "AT_MODEL";
    }
}

/// Words under the sequence lock: `sequence` to `check`.
pub const LOCKED_WORDS: usize = slot::CHECK / 8 + 1;
/// Words of a slot's key.
pub const KEY_WORDS: usize = (SLOT_BYTES - slot::LENGTHS) / 8;

pub const SYMBOL_BYTES_MAX: usize = slot::MODEL - slot::SYMBOL;
pub const TIMEFRAME_BYTES_MAX: usize = slot::SYMBOL - slot::TIMEFRAME;
pub const MODEL_BYTES_MAX: usize = SLOT_BYTES - slot::MODEL;
pub const LABEL_BYTES_MAX: usize = slot::MODEL_VERSION - slot::LABEL;

// Slots and the parts of the header that change apart begin cache lines of their own.
const _: () = assert!(HEADER_BYTES.is_multiple_of(64) && SLOT_BYTES.is_multiple_of(64));
const _: () = assert!(header::BEAT_MONOTONIC.is_multiple_of(64) && header::USED.is_multiple_of(64));
const _: () = assert!(slot::LENGTHS.is_multiple_of(64) && slot::CHECK + 8 <= slot::LENGTHS);

pub const fn file_bytes(slots: u32) -> usize {
    HEADER_BYTES + slots as usize * SLOT_BYTES
}

/// What `check` holds: the sequence and the words between it and `check`, folded.
pub fn fold(sequence: u64, words: &[u64]) -> u64 {
    words.iter().fold(sequence, |c, word| (c.rotate_left(5) ^ word).wrapping_mul(FOLD))
}
