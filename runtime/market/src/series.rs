//! The newest bars of one stream, and the rules by which a bar is let in.
//!
//! | the bar's open time is | and | then |
//! |---|---|---|
//! | after the newest | | taken; bars that are missing between are counted |
//! | that of a held bar | all content equal, revision too | [`Accepted::Duplicate`] |
//! | | the held one is forming, this one too | taken with a higher revision |
//! | | the held one is forming, this one is final | taken with the same or a higher revision |
//! | | both are final | taken with a higher revision |
//! | | the held one is final, this one is forming | refused |
//! | before the newest, and not held | | refused |
//!
//! An equal revision with other content is a conflict, a lower one is stale. Bars need not stand at multiples of the
//! timeframe (sessions differ, and days in local time are 23 to 25 hours), but one that opens less than half a
//! timeframe after the newest is refused.

mod resample;
mod window;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

pub use resample::{Partial, ResampleError, resample};
pub use window::{Window, WindowError};

use crate::bar::{Bar, BarError, StreamKey};
use crate::read::missing_bars;
use crate::time::Timestamp;

/// A bounded window of one stream's accepted bars, oldest first.
#[derive(Clone, Debug)]
pub struct Series {
    key: StreamKey,
    capacity: usize,
    bars: VecDeque<Bar>,
    gaps: u64,
    missing: u64,
}

/// What a bar that was let in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The first final form of the newest bar, whether or not forms in the making came before it.
    New,
    /// The newest bar, still forming: a first or a later form.
    Provisional,
    /// Another content for a bar that others may have been computed from: final before, or no longer the newest.
    Revision { replaces: u32 },
    /// Nothing changed.
    Duplicate,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Rejected {
    Invalid(BarError),
    OtherStream {
        expected: StreamKey,
    },
    TimeBackwards {
        last: Timestamp,
    },
    Overlaps {
        last: Timestamp,
    },
    /// The same open time and revision, but other content.
    Conflict {
        revision: u32,
    },
    Stale {
        held: u32,
    },
    /// The held bar is final, this one isn't.
    AlreadyFinal,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Invalid(error) => error.fmt(f),
            Rejected::OtherStream { expected } => write!(f, "the bar is not of {expected}"),
            Rejected::TimeBackwards { last } => {
                write!(
                    f,
                    "time goes back: the newest bar opened at {last}, and none of this open time is held"
                )
            }
            Rejected::Overlaps { last } => write!(
                f,
                "the bar opens less than half a timeframe after the one at {last}; check its timeframe and open time"
            ),
            Rejected::Conflict { revision } => write!(
                f,
                "a bar of this open time and revision {revision} is held and differs; a change needs a higher revision"
            ),
            Rejected::Stale { held } => write!(f, "revision {held} of this bar is held, which is higher"),
            Rejected::AlreadyFinal => write!(f, "this bar was final already; send its change as final"),
        }
    }
}

impl std::error::Error for Rejected {}

impl Series {
    /// Holds at most `capacity` bars, and at least one.
    pub fn new(key: StreamKey, capacity: usize) -> Self {
        Series { key, capacity: capacity.max(1), bars: VecDeque::new(), gaps: 0, missing: 0 }
    }

    /// Lets the bar in by the rules above, or says why not and changes nothing.
    pub fn accept(&mut self, bar: Bar) -> Result<Accepted, Rejected> {
        if bar.key != self.key {
            return Err(Rejected::OtherStream { expected: self.key.clone() });
        }
        bar.check().map_err(Rejected::Invalid)?;
        let Some(newest) = self.bars.back() else {
            return Ok(self.append(bar));
        };
        let last = newest.open_time;
        if bar.open_time > last {
            let apart_ns = bar.open_time.0.saturating_sub(last.0);
            if apart_ns < self.key.timeframe.nanos() / 2 {
                return Err(Rejected::Overlaps { last });
            }
            let missing = missing_bars(apart_ns, self.key.timeframe);
            self.gaps += u64::from(missing > 0);
            self.missing += missing;
            return Ok(self.append(bar));
        }
        match self.bars.binary_search_by_key(&bar.open_time, |b| b.open_time) {
            Ok(at) => self.revise(at, bar),
            Err(_) => Err(Rejected::TimeBackwards { last }),
        }
    }

    fn append(&mut self, bar: Bar) -> Accepted {
        let accepted = if bar.is_final { Accepted::New } else { Accepted::Provisional };
        if self.bars.len() == self.capacity {
            self.bars.pop_front();
        }
        self.bars.push_back(bar);
        accepted
    }

    fn revise(&mut self, at: usize, bar: Bar) -> Result<Accepted, Rejected> {
        let is_newest = at + 1 == self.bars.len();
        let held = &mut self.bars[at];
        if held.same_content(&bar) {
            return Ok(Accepted::Duplicate);
        }
        if bar.revision < held.revision {
            return Err(Rejected::Stale { held: held.revision });
        }
        let finishes = !held.is_final && bar.is_final;
        if held.is_final && !bar.is_final {
            return Err(Rejected::AlreadyFinal);
        }
        if bar.revision == held.revision && !finishes {
            return Err(Rejected::Conflict { revision: held.revision });
        }
        let replaces = held.revision;
        let accepted = match (is_newest, finishes, bar.is_final) {
            (true, true, _) => Accepted::New,
            (true, false, false) => Accepted::Provisional,
            _ => Accepted::Revision { replaces },
        };
        *held = bar;
        Ok(accepted)
    }

    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn len(&self) -> usize {
        self.bars.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    pub fn newest(&self) -> Option<&Bar> {
        self.bars.back()
    }

    /// Of that open time, if held.
    pub fn get(&self, open_time: Timestamp) -> Option<&Bar> {
        self.bars.binary_search_by_key(&open_time, |b| b.open_time).ok().and_then(|at| self.bars.get(at))
    }

    /// Oldest first.
    pub fn bars(&self) -> impl DoubleEndedIterator<Item = &Bar> + ExactSizeIterator {
        self.bars.iter()
    }

    /// Oldest first, in one piece.
    pub fn as_slice(&mut self) -> &[Bar] {
        self.bars.make_contiguous()
    }

    /// How often bars were missing since the start.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// How many bars were missing since the start.
    pub fn missing(&self) -> u64 {
        self.missing
    }
}
