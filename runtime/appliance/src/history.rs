//! A stream as its records tell it: which bars it holds, how many it has seen, and the snapshots of each
//! model's extractor. Serving, restart and `replay` all go through here, so they agree.

use market::series::{Accepted, Rejected, Series};
use market::{Bar, FeatureError, Features, StreamKey};

use crate::live::{Fed, Live, SNAPSHOT_INTERVAL, Snapshot};

/// What accepting a bar changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A bar after all others.
    Next,
    /// The newest bar has other content.
    Newest,
    /// An older bar, with this index from the stream's first.
    Older(u64),
    /// The same bar again.
    Nothing,
}

/// One stream's bars.
pub struct History {
    pub series: Series,
    /// Bars seen since the stream's first.
    pub count: u64,
}

impl History {
    pub fn new(key: StreamKey, capacity_bars: usize) -> Self {
        History { series: Series::new(key, capacity_bars), count: 0 }
    }

    pub fn accept(&mut self, bar: Bar) -> Result<Change, Rejected> {
        let open_time = bar.open_time;
        let is_next = self.newest().is_none_or(|newest| newest.open_time < open_time);
        if self.series.accept(bar)? == Accepted::Duplicate {
            return Ok(Change::Nothing);
        }
        if is_next {
            self.count += 1;
            return Ok(Change::Next);
        }
        let back = self.series.bars().rev().position(|b| b.open_time == open_time).unwrap_or(0) as u64;
        Ok(if back == 0 { Change::Newest } else { Change::Older(self.count - 1 - back) })
    }

    /// Holds these as well from now on: they lie before those that it holds, rising in time.
    pub fn deepen(&mut self, older: Vec<Bar>) {
        if older.is_empty() {
            return;
        }
        let capacity = self.series.capacity().max(self.series.len() + older.len());
        self.resize(capacity, older);
    }

    /// Holds up to `capacity` bars from now on, where that is more.
    pub fn grow(&mut self, capacity: usize) {
        if capacity > self.series.capacity() {
            self.resize(capacity, Vec::new());
        }
    }

    fn resize(&mut self, capacity: usize, older: Vec<Bar>) {
        let mut series = Series::new(self.series.key().clone(), capacity);
        for bar in older.into_iter().chain(self.series.bars().cloned()) {
            if let Err(error) = series.accept(bar) {
                tracing::warn!(%error, "a bar of the past no longer fits its stream");
            }
        }
        self.series = series;
    }

    pub fn newest(&self) -> Option<&Bar> {
        self.series.newest()
    }
}

/// The snapshots of one model over one stream, as they stand in the spool.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    list: Vec<Snapshot>,
}

impl Snapshots {
    pub fn add(&mut self, snapshot: Snapshot, oldest_needed: u64) {
        if snapshot.is_start() {
            self.list.clear();
        }
        self.list.retain(|s| s.count < snapshot.count);
        self.list.push(snapshot);
        while self.list.len() > 1 && self.list[1].count <= oldest_needed {
            self.list.remove(0);
        }
    }

    /// The bar at this index changed: what was taken after it no longer holds.
    pub fn changed(&mut self, index: u64) {
        if self.list.first().is_some_and(|s| index >= s.first) {
            self.list.retain(|s| s.count <= index);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Hands the snapshots to `live`, which then [reopens](Live::reopen).
    pub fn give(self, live: &mut Live) {
        live.take_snapshots(self.list);
    }
}

/// Bars to hold so that a model can be rebuilt from a snapshot, or warmed from the bars alone. (What outcomes need
/// comes on top: see [`Terms::bars`](crate::resolve::Terms::bars).)
pub fn capacity_bars(warmup: usize, window: usize, keep_bars: usize) -> usize {
    warmup + window + keep_bars + 2 * SNAPSHOT_INTERVAL as usize
}

/// How a change is applied to a model's state; the snapshots are to be stored behind the bar.
pub fn feed(
    live: &mut Live,
    features: &mut dyn Features,
    apply: &dyn Fn(&mut [f32]),
    history: &mut History,
    change: Change,
) -> Result<(Fed, Vec<Snapshot>), FeatureError> {
    let bars = history.series.as_slice();
    let (fed, snapshot) = match (change, bars.last()) {
        (Change::Next, Some(bar)) => live.push(features, apply, bar)?,
        (Change::Newest, Some(bar)) => live.push_again(features, apply, bar)?,
        (Change::Older(index), Some(_)) => return live.revise(features, apply, bars, index),
        (Change::Nothing, _) | (_, None) => (live.fed(), None),
    };
    Ok((fed, snapshot.into_iter().collect()))
}
