//! What a slot says, without a reference to the memory it came from.

use std::fmt;

use crate::layout::{LABEL_BYTES_MAX, LOCKED_WORDS, fold, slot};

/// Which slot of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub(crate) u32);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing was said yet.
    #[default]
    Empty,
    Prediction,
    /// `have` of `need` bars.
    Warming,
    /// No prediction for the newest bar.
    Abstained,
    /// The plugin isn't called any more.
    Quarantined,
}

/// Why there is no prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    #[default]
    None,
    Plugin,
    NotFinite,
}

/// Bits of [`Snapshot::flags`].
pub mod flag {
    pub const PROVISIONAL: u64 = 1;
    pub const RECOVERED: u64 = 2;
    pub const REVISED: u64 = 4;
    pub const SHADOW: u64 = 8;
}

/// Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub state: State,
    pub seq: u64,
    /// When this was written; [`Reader::durable_seq`](crate::Reader::durable_seq) has the newest.
    pub durable_seq: u64,
    pub value: f64,
    pub valid_until_ns: i64,
    pub made_at_ns: i64,
    pub open_time_ns: i64,
    pub close_time_ns: i64,
    pub horizon_bars: u64,
    pub have: u64,
    pub need: u64,
    pub revision: u64,
    pub flags: u64,
    pub cause: Cause,
    pub label: Label,
    /// Which version of the model says so.
    pub model_version: u64,
    /// `None`: the model isn't calibrated, or there is no prediction.
    pub uncertainty: Option<Uncertainty>,
}

/// How sure a prediction is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uncertainty {
    /// The probability of what replies name as `confidence_of`.
    pub confidence: f64,
    /// The interval, in the unit of the value.
    pub low: f64,
    pub high: f64,
    /// The share of realised values that such intervals are to hold.
    pub level: f64,
}

/// Text of at most `N` bytes, held in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

pub type Label = Name<LABEL_BYTES_MAX>;

impl<const N: usize> Default for Name<N> {
    fn default() -> Self {
        Name { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Name<N> {
    /// `None`: it is too long, or holds a zero.
    pub fn new(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes()).filter(|_| !text.contains('\0'))
    }

    pub(crate) fn from_bytes(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?;
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Name { bytes, length: u8::try_from(text.len()).ok()? })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Display for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The words of a slot under its lock, but for the sequence.
pub(crate) type Words = [u64; LOCKED_WORDS];

impl Snapshot {
    /// With `check` for the sequence that they will have.
    pub(crate) fn encode(&self, sequence: u64) -> Words {
        let mut words = [0; LOCKED_WORDS];
        let mut set = |at: usize, word: u64| words[at / 8] = word;
        set(slot::SEQUENCE, sequence);
        set(slot::STATE, self.state as u64);
        set(slot::SEQ, self.seq);
        set(slot::DURABLE_SEQ, self.durable_seq);
        set(slot::VALUE, self.value.to_bits());
        set(slot::VALID_UNTIL, self.valid_until_ns as u64);
        set(slot::MADE_AT, self.made_at_ns as u64);
        set(slot::OPEN_TIME, self.open_time_ns as u64);
        set(slot::CLOSE_TIME, self.close_time_ns as u64);
        set(slot::HORIZON_BARS, self.horizon_bars);
        set(slot::HAVE, self.have);
        set(slot::NEED, self.need);
        set(slot::REVISION, self.revision);
        set(slot::FLAGS, self.flags);
        set(slot::CAUSE, self.cause as u64);
        for (i, word) in words_of(&self.label.bytes).enumerate() {
            set(slot::LABEL + 8 * i, word);
        }
        set(slot::MODEL_VERSION, self.model_version);
        let numbers = self.uncertainty.map_or([f64::NAN; 4], |u| [u.confidence, u.low, u.high, u.level]);
        for (at, number) in [slot::CONFIDENCE, slot::LOW, slot::HIGH, slot::LEVEL].into_iter().zip(numbers) {
            set(at, number.to_bits());
        }
        let check = fold(sequence, &words[1..slot::CHECK / 8]);
        words[slot::CHECK / 8] = check;
        words
    }

    /// `None`: no writer wrote that.
    pub(crate) fn decode(words: &Words) -> Option<Self> {
        let get = |at: usize| words[at / 8];
        let mut label = [0; LABEL_BYTES_MAX];
        for (bytes, word) in label.chunks_exact_mut(8).zip(&words[slot::LABEL / 8..]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let length = label.iter().position(|&b| b == 0).unwrap_or(label.len());
        let state = match get(slot::STATE) {
            0 => State::Empty,
            1 => State::Prediction,
            2 => State::Warming,
            3 => State::Abstained,
            4 => State::Quarantined,
            _ => return None,
        };
        let cause = match get(slot::CAUSE) {
            0 => Cause::None,
            1 => Cause::Plugin,
            2 => Cause::NotFinite,
            _ => return None,
        };
        Some(Snapshot {
            state,
            seq: get(slot::SEQ),
            durable_seq: get(slot::DURABLE_SEQ),
            value: f64::from_bits(get(slot::VALUE)),
            valid_until_ns: get(slot::VALID_UNTIL) as i64,
            made_at_ns: get(slot::MADE_AT) as i64,
            open_time_ns: get(slot::OPEN_TIME) as i64,
            close_time_ns: get(slot::CLOSE_TIME) as i64,
            horizon_bars: get(slot::HORIZON_BARS),
            have: get(slot::HAVE),
            need: get(slot::NEED),
            revision: get(slot::REVISION),
            flags: get(slot::FLAGS),
            cause,
            label: Name::from_bytes(&label[..length])?,
            model_version: get(slot::MODEL_VERSION),
            uncertainty: uncertainty(words),
        })
    }
}

fn uncertainty(words: &Words) -> Option<Uncertainty> {
    let number = |at: usize| f64::from_bits(words[at / 8]);
    let confidence = number(slot::CONFIDENCE);
    let (low, high, level) = (number(slot::LOW), number(slot::HIGH), number(slot::LEVEL));
    // A slot that nothing was written to holds zeros: no level.
    (confidence.is_finite() && level > 0.0).then_some(Uncertainty { confidence, low, high, level })
}

/// Bytes as the words that hold them; their number is a multiple of 8.
pub(crate) fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|c| c.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)))
}
