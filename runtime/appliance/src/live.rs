//! One stream under one model: the extractor's state, the window of normalised rows, and snapshots that
//! let it go back a little. It is a pure function of the bars it is fed, so serving, restart and `replay`
//! run this same code and reach the same bits.

use std::collections::VecDeque;

use market::series::{Window, WindowError};
use market::{Bar, FeatureError, FeatureErrorKind, Features, StreamId};

/// Bars between two snapshots.
pub const SNAPSHOT_INTERVAL: u64 = 64;

/// The extractor's state after `count` bars of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub count: u64,
    /// The bar that the extractor counts from: 0, or later after a bar was skipped.
    pub first: u64,
    pub state: Vec<u8>,
}

impl Snapshot {
    /// Nothing before it may be fed again.
    pub fn is_start(&self) -> bool {
        self.first == self.count
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.state.len());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(&self.state);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<8>()?;
        let (first, state) = rest.split_first_chunk::<8>()?;
        let (count, first) = (u64::from_le_bytes(*count), u64::from_le_bytes(*first));
        (first <= count).then(|| Snapshot { count, first, state: state.to_vec() })
    }
}

/// What a bar led to.
#[derive(Debug, PartialEq)]
pub enum Fed {
    /// The window is full: predict.
    Ready,
    /// `have` of `need` bars.
    Warming { have: u64, need: u64 },
}

pub struct Live {
    stream: Option<StreamId>,
    /// Bars fed, the newest included.
    count: u64,
    /// The first bar that counts: later than 0 after a skipped bar.
    first: u64,
    /// State before the newest bar.
    base: Vec<u8>,
    snapshots: VecDeque<Snapshot>,
    window: Window,
    warmup: u64,
    window_bars: u64,
    keep_bars: u64,
    row: Vec<f32>,
    version: RowsVersion,
}

/// How the window's rows came to be: two equal versions are the same rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsVersion {
    /// Counts starts from an empty window.
    pub starts: u64,
    /// Rows since.
    pub rows: u64,
    /// How often the newest row was replaced.
    pub edits: u64,
}

impl Live {
    /// `window`: an empty one of the model's shape; `keep_bars`: how far back a bar may be revised.
    pub fn new(window: Window, warmup: usize, keep_bars: usize) -> Self {
        Live {
            stream: None,
            count: 0,
            first: 0,
            base: Vec::new(),
            snapshots: VecDeque::new(),
            warmup: warmup as u64,
            window_bars: window.rows() as u64,
            keep_bars: keep_bars as u64,
            row: Vec::with_capacity(window.width()),
            window,
            version: RowsVersion::default(),
        }
    }

    /// Opens the stream; its first snapshot.
    pub fn open(&mut self, features: &mut dyn Features) -> Result<Snapshot, FeatureError> {
        let stream = features.open()?;
        let state = features.snapshot(stream)?;
        self.stream = Some(stream);
        self.first = self.count;
        let snapshot = Snapshot { count: self.count, first: self.first, state };
        self.clear_window();
        self.snapshots.clear();
        self.snapshots.push_back(snapshot.clone());
        Ok(snapshot)
    }

    /// Gives the stream back.
    pub fn close(&mut self, features: &mut dyn Features) {
        if let Some(stream) = self.stream.take() {
            features.close(stream);
        }
    }

    /// Gives the stream back, and its state for [`take_over`](Live::take_over).
    pub fn hand_over(&mut self, features: &mut dyn Features) -> Result<Vec<u8>, FeatureError> {
        let state = features.snapshot(self.stream(features)?)?;
        self.close(features);
        Ok(state)
    }

    /// Goes on in another instance of the same plugin.
    pub fn take_over(&mut self, features: &mut dyn Features, state: &[u8]) -> Result<(), FeatureError> {
        self.stream = Some(features.restore(state)?);
        Ok(())
    }

    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// The instance that held the stream is gone.
    pub fn lost(&mut self) {
        self.stream = None;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Oldest row first, row-major, once full.
    pub fn window(&self) -> Option<&[f32]> {
        self.window.as_slice()
    }

    /// The rows that the window holds, and those it held.
    pub fn version(&self) -> RowsVersion {
        self.version
    }

    /// The newest row; empty before there is one.
    pub fn newest_row(&self) -> &[f32] {
        if self.version.rows > 0 { &self.row } else { &[] }
    }

    fn clear_window(&mut self) {
        self.window.clear();
        self.version = RowsVersion { starts: self.version.starts + 1, ..RowsVersion::default() };
    }

    pub fn fed(&self) -> Fed {
        if self.window.as_slice().is_some() {
            Fed::Ready
        } else {
            let have = self.count - self.first;
            Fed::Warming { have, need: self.warmup + self.window_bars }
        }
    }

    /// Feeds the next bar. Returns a snapshot now and then, to be stored after the bar.
    pub fn push(
        &mut self,
        features: &mut dyn Features,
        apply: &dyn Fn(&mut [f32]),
        bar: &Bar,
    ) -> Result<(Fed, Option<Snapshot>), FeatureError> {
        let stream = self.stream(features)?;
        self.base = features.snapshot(stream)?;
        features.on_bar(stream, bar, &mut self.row)?;
        self.count += 1;
        if self.count - self.first > self.warmup {
            apply(&mut self.row);
            self.window.push(&self.row).map_err(|e| misfit(features, &e))?;
            self.version.rows += 1;
        }
        let mut stored = None;
        if self.count.is_multiple_of(SNAPSHOT_INTERVAL) {
            let snapshot =
                Snapshot { count: self.count, first: self.first, state: features.snapshot(stream)? };
            stored = Some(snapshot.clone());
            self.remember(snapshot);
        }
        Ok((self.fed(), stored))
    }

    /// The newest bar again, with other content.
    pub fn push_again(
        &mut self,
        features: &mut dyn Features,
        apply: &dyn Fn(&mut [f32]),
        bar: &Bar,
    ) -> Result<(Fed, Option<Snapshot>), FeatureError> {
        if self.count == self.first {
            // The bar lies before the start.
            return Ok((self.fed(), None));
        }
        let old = self.stream(features)?;
        let stream = features.restore(&self.base)?;
        features.close(old);
        self.stream = Some(stream);
        let count = self.count;
        self.snapshots.retain(|s| s.count < count);
        features.on_bar(stream, bar, &mut self.row)?;
        if self.count - self.first > self.warmup {
            apply(&mut self.row);
            self.window.replace_last(&self.row).map_err(|e| misfit(features, &e))?;
            self.version.edits += 1;
        }
        let mut stored = None;
        if self.count.is_multiple_of(SNAPSHOT_INTERVAL) {
            let snapshot =
                Snapshot { count: self.count, first: self.first, state: features.snapshot(stream)? };
            stored = Some(snapshot.clone());
            self.remember(snapshot);
        }
        Ok((self.fed(), stored))
    }

    /// The bar at `index` (counted from the stream's first) has changed: `bars` are the stream's newest, the
    /// changed one among them. Where the snapshots don't reach back to it, the stream starts anew. Gives the
    /// snapshots that take the place of those that the change made void.
    pub fn revise(
        &mut self,
        features: &mut dyn Features,
        apply: &dyn Fn(&mut [f32]),
        bars: &[Bar],
        index: u64,
    ) -> Result<(Fed, Vec<Snapshot>), FeatureError> {
        if index < self.first {
            return Ok((self.fed(), Vec::new()));
        }
        self.forget_after(index);
        if !self.reopen(features, apply, bars, self.count)? {
            let start = self.skip(features, self.count)?;
            return Ok((self.fed(), vec![start]));
        }
        let stream = self.stream(features)?;
        let snapshot = Snapshot { count: self.count, first: self.first, state: features.snapshot(stream)? };
        if self.snapshots.back().is_none_or(|s| s.count < snapshot.count) {
            self.remember(snapshot);
        }
        Ok((self.fed(), self.snapshots_after(index)))
    }

    /// Those whose state the bar at this index is part of, oldest first.
    pub fn snapshots_after(&self, index: u64) -> Vec<Snapshot> {
        self.snapshots.iter().filter(|s| s.count > index).cloned().collect()
    }

    /// Opens the stream again from the newest snapshot that leaves a whole window to be fed, or from its
    /// start. `bars`: the newest of the stream, which has seen `count`. False: no snapshot reaches back
    /// far enough.
    pub fn reopen(
        &mut self,
        features: &mut dyn Features,
        apply: &dyn Fn(&mut [f32]),
        bars: &[Bar],
        count: u64,
    ) -> Result<bool, FeatureError> {
        let from = count.saturating_sub(self.window_bars);
        let held = count.saturating_sub(bars.len() as u64);
        let fits = |s: &Snapshot| s.count >= held && s.count <= count;
        let at = self.snapshots.iter().rposition(|s| s.count <= from && fits(s));
        let Some(at) = at.or_else(|| self.snapshots.iter().position(|s| s.is_start() && fits(s))) else {
            return Ok(false);
        };
        if let Some(old) = self.stream.take() {
            features.close(old);
        }
        self.snapshots.truncate(at + 1);
        let start = &self.snapshots[at];
        self.stream = Some(features.restore(&start.state)?);
        (self.count, self.first) = (start.count, start.first);
        self.clear_window();
        let tail = &bars[bars.len() - (count - self.count) as usize..];
        for bar in tail {
            self.push(features, apply, bar)?;
        }
        Ok(true)
    }

    /// The bar at `index` changed: snapshots that were taken after it no longer hold.
    pub fn forget_after(&mut self, index: u64) {
        if self.snapshots.front().is_some_and(|s| index >= s.first) {
            self.snapshots.retain(|s| s.count <= index);
        }
    }

    /// For a stream that is rebuilt from its records.
    pub fn take_snapshots(&mut self, list: Vec<Snapshot>) {
        self.snapshots = list.into();
    }

    pub fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.iter()
    }

    /// Starts anew behind the first `count` bars.
    pub fn skip(&mut self, features: &mut dyn Features, count: u64) -> Result<Snapshot, FeatureError> {
        if let Some(old) = self.stream.take() {
            features.close(old);
        }
        self.count = count;
        self.open(features)
    }

    fn stream(&self, features: &dyn Features) -> Result<StreamId, FeatureError> {
        self.stream.ok_or_else(|| FeatureError {
            kind: FeatureErrorKind::NoStream,
            plugin: features.spec().plugin.clone(),
            place: None,
            message: "the stream is not open".into(),
        })
    }

    fn remember(&mut self, snapshot: Snapshot) {
        self.snapshots.push_back(snapshot);
        let oldest = self.count.saturating_sub(self.window_bars + self.keep_bars);
        // Keep the newest snapshot at or before the oldest bar that may be needed.
        while self.snapshots.len() > 1 && self.snapshots[1].count <= oldest {
            self.snapshots.pop_front();
        }
    }
}

/// A row that the window can't take.
fn misfit(features: &dyn Features, error: &WindowError) -> FeatureError {
    FeatureError {
        kind: FeatureErrorKind::RowLength,
        plugin: features.spec().plugin.clone(),
        place: None,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
