//! The outcome resolver: what becomes of the predictions of one stream under one model, and the interval that follows
//! what came.
//!
//! It is a state machine over bars and predictions in the order in which the spool holds them; no clock, no other
//! input. A prediction falls due with the bar that ends its horizon, once that is final or another has followed it;
//! then it gets one outcome, and the adaptive interval learns from that. The interval of a prediction has learnt from
//! the outcomes that were due at earlier bars. A prediction that was made again for the same bar (a bar in progress, a
//! revision) replaces the one before, which gets no outcome.
//!
//! A revised bar that changes an outcome leads to the next revision of its record. The interval doesn't learn from
//! that again, and the counts of the resolver stay: they are of first outcomes.
//!
//! Each record carries the state behind it, so a restart has it to the bit however little the spool still holds.

use std::collections::VecDeque;
use std::sync::Arc;

use learn::conformal::{TRACKER_BYTES, Tracker};
use learn::label::Closing;
use learn::reading::Reading;
use market::{Bar, StreamKey, Timestamp};
use registry::Calibration;
use store::{ModelName, Outcome, PredictionRecord, Realised, RealisedRecord, RealisedValue, Uncertainty};

/// More bars aren't held for predictions that wait: the oldest of those get no outcome.
const CLOSES_MAX: usize = 1 << 20;

/// What the resolver needs to know of a model.
#[derive(Clone, Debug)]
pub struct Terms {
    pub model: ModelName,
    pub digest: [u8; 32],
    pub reading: Reading,
    pub calibration: Option<Calibration>,
}

impl Terms {
    /// Confidence and interval of a prediction where a score of `quantile` is allowed.
    pub fn uncertainty(&self, values: &[f32], quantile: f64) -> Option<Uncertainty> {
        let calibration = self.calibration.as_ref()?;
        let (low, high) = self.reading.interval(values, quantile);
        let finite = |x: f64| x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        Some(Uncertainty {
            confidence: self.reading.confidence(calibration, values) as f32,
            low: finite(low),
            high: finite(high),
            level: calibration.level as f32,
        })
    }

    /// Bars that a stream has to hold for outcomes: the horizon, as much before it for the naive forecast, and how far
    /// back bars may be revised.
    pub fn bars(&self, keep_bars: usize) -> usize {
        let horizon = self.reading.label.horizon_bars as usize;
        horizon + self.reading.label.lookback_bars() + keep_bars + 2
    }
}

/// What is needed of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Close {
    pub open_time: Timestamp,
    pub close_time: Timestamp,
    pub close: f64,
    pub is_final: bool,
}

impl From<&Bar> for Close {
    fn from(bar: &Bar) -> Self {
        let Bar { open_time, close, is_final, .. } = *bar;
        Close { open_time, close_time: bar.close_time(), close, is_final }
    }
}

impl Closing for Close {
    fn close(&self) -> f64 {
        self.close
    }

    fn open_time(&self) -> Timestamp {
        self.open_time
    }

    fn close_time(&self) -> Timestamp {
        self.close_time
    }
}

/// A prediction that waits for its outcome, or has one.
#[derive(Clone, Debug)]
struct Waiting {
    seq: u64,
    open_time: Timestamp,
    values: Vec<f32>,
    uncertainty: Option<Uncertainty>,
}

#[derive(Clone, Debug)]
struct Done {
    prediction: Waiting,
    revision: u32,
    result: Realised,
}

/// How often first outcomes were in their intervals, since the model began to serve the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub resolved: u64,
    pub covered: u64,
}

#[derive(Clone, Debug)]
pub struct Resolver {
    terms: Arc<Terms>,
    keep_bars: usize,
    /// Rising in time.
    closes: Vec<Close>,
    /// Rising in time, both.
    waiting: VecDeque<Waiting>,
    done: VecDeque<Done>,
    /// Bars from here on changed since outcomes were last compared with them.
    changed_from: Option<Timestamp>,
    tally: Tally,
    tracker: Option<Tracker>,
}

impl Resolver {
    /// `keep_bars`: how far back a bar may be revised.
    pub fn new(terms: Arc<Terms>, keep_bars: usize) -> Self {
        Resolver {
            keep_bars,
            closes: Vec::new(),
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            changed_from: None,
            tally: Tally::default(),
            tracker: terms.calibration.as_ref().map(|c| Tracker::new(c.quantile, c.step)),
            terms,
        }
    }

    /// Whether it is of this model, with these weights.
    pub fn is_of(&self, terms: &Terms) -> bool {
        self.terms.model == terms.model && self.terms.digest == terms.digest
    }

    /// Nothing waits for its outcome, and no bar changes one any more: it needs no bars.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.done.is_empty()
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// With what the next prediction is shown.
    pub fn uncertainty(&self, values: &[f32]) -> Option<Uncertainty> {
        self.terms.uncertainty(values, self.tracker.as_ref()?.quantile())
    }

    /// A bar that was accepted: a new one, or one that replaces another.
    pub fn bar(&mut self, close: Close) {
        match self.closes.last() {
            Some(last) if close.open_time <= last.open_time => {
                if let Ok(at) = self.closes.binary_search_by_key(&close.open_time, |c| c.open_time) {
                    self.closes[at] = close;
                    let from = self.changed_from.unwrap_or(close.open_time);
                    self.changed_from = Some(from.min(close.open_time));
                }
            }
            _ => self.closes.push(close),
        }
        // Not what waits: a spool that was written without outcomes is read back with all its predictions waiting.
        let keep = self.terms.bars(self.keep_bars);
        let lookback = self.terms.reading.label.lookback_bars();
        let needed = self.waiting.front().map_or(usize::MAX, |first| {
            self.closes.partition_point(|c| c.open_time < first.open_time).saturating_sub(lookback)
        });
        let surplus = self.closes.len().saturating_sub(keep);
        let cut = if self.closes.len() > CLOSES_MAX { surplus } else { surplus.min(needed) };
        if cut > keep {
            self.closes.drain(..cut);
        }
    }

    /// A prediction that was made, or is read back. Abstentions and those of other weights have no outcome.
    pub fn prediction(&mut self, record: &PredictionRecord) {
        let Outcome::Values(values) = &record.outcome else { return };
        if record.model_digest != self.terms.digest {
            return;
        }
        let (seq, open_time, uncertainty) = (record.seq, record.open_time, record.uncertainty);
        let waiting = Waiting { seq, open_time, values: values.clone(), uncertainty };
        if self.done.back().is_some_and(|done| done.prediction.open_time >= open_time) {
            return;
        }
        let at = self.waiting.partition_point(|w| w.open_time < open_time);
        match self.waiting.get_mut(at).filter(|w| w.open_time == open_time) {
            Some(before) => *before = waiting,
            None => self.waiting.insert(at, waiting),
        }
    }

    /// An outcome that is read back, and the state behind it.
    pub fn realised(&mut self, record: &RealisedRecord) {
        if record.model_digest != self.terms.digest {
            return;
        }
        if let Some(done) = self.done.iter_mut().find(|d| d.prediction.seq == record.seq) {
            (done.revision, done.result) = (record.revision, record.result.clone());
        } else if let Some(at) = self.waiting.iter().position(|w| w.seq == record.seq)
            && let Some(prediction) = self.waiting.remove(at)
        {
            let (revision, result) = (record.revision, record.result.clone());
            self.done.push_back(Done { prediction, revision, result });
        }
        match decode(&record.state, self.tracker.is_some()) {
            Some((tally, tracker)) => (self.tally, self.tracker) = (tally, tracker),
            None => tracing::warn!(key = %record.key, seq = record.seq, "a resolver's state can't be read"),
        }
        self.forget();
    }

    /// Every outcome that is looked at again: after a restart, which may have lost a revision on its way to the disk.
    pub fn look_again(&mut self) {
        self.changed_from = self.closes.first().map(|c| c.open_time);
    }

    /// The outcomes of all predictions whose horizon ended with a bar that opened before `before`, and new revisions of
    /// those that a bar has changed; to be stored in this order.
    pub fn resolve(
        &mut self,
        key: &StreamKey,
        before: Timestamp,
        written_at: Timestamp,
        records: &mut Vec<RealisedRecord>,
    ) {
        if let Some(from) = self.changed_from.take() {
            for i in 0..self.done.len() {
                if let Some(result) = self.changed(&self.done[i], from) {
                    let done = &mut self.done[i];
                    (done.revision, done.result) = (done.revision + 1, result);
                    records.push(self.record(key, &self.done[i], written_at));
                }
            }
        }
        while let Some(first) = self.waiting.front() {
            let Some(result) = self.due(first, before) else { break };
            let Some(prediction) = self.waiting.pop_front() else { break };
            self.learn(&prediction, &result);
            self.done.push_back(Done { prediction, revision: 0, result });
            if let Some(done) = self.done.back() {
                records.push(self.record(key, done, written_at));
            }
        }
        self.forget();
    }

    /// The result of a prediction; `None`: it isn't due.
    fn due(&self, waiting: &Waiting, before: Timestamp) -> Option<Realised> {
        let place = self.closes.binary_search_by_key(&waiting.open_time, |c| c.open_time);
        let Ok(at) = place else {
            let is_past = self.closes.first().is_some_and(|first| waiting.open_time < first.open_time);
            return is_past.then_some(Realised::Lost);
        };
        let end = at.checked_add(self.terms.reading.label.horizon_bars as usize)?;
        let last = self.closes.get(end).filter(|last| last.open_time < before)?;
        let is_closed = last.is_final || end + 1 < self.closes.len();
        is_closed.then(|| self.result(waiting, at))
    }

    /// By the bars as they stand. The label's bars are there.
    fn result(&self, waiting: &Waiting, at: usize) -> Realised {
        let reading = &self.terms.reading;
        let Some(realised) = reading.label.at(&self.closes, at) else { return Realised::Gap };
        let inside = |u: Uncertainty| f64::from(u.low) <= realised && realised <= f64::from(u.high);
        Realised::Value(RealisedValue {
            predicted: f64::from(reading.value(&waiting.values)),
            realised,
            naive: reading.label.naive_at(&self.closes, at),
            covered: waiting.uncertainty.map(inside),
            right: reading.is_right(&waiting.values, realised),
            confidence: waiting.uncertainty.map(|u| u.confidence),
        })
    }

    /// Another result than the one it has, if bars from `from` on made one.
    fn changed(&self, done: &Done, from: Timestamp) -> Option<Realised> {
        let at = self.closes.binary_search_by_key(&done.prediction.open_time, |c| c.open_time).ok()?;
        let end = at + self.terms.reading.label.horizon_bars as usize;
        if self.closes.get(end)?.open_time < from || done.result == Realised::Lost {
            return None;
        }
        let mut result = self.result(&done.prediction, at);
        if let (Realised::Value(new), Realised::Value(old)) = (&mut result, &done.result)
            && at < self.terms.reading.label.lookback_bars()
        {
            // Its naive forecast's bars are gone by now.
            new.naive = old.naive;
        }
        (result != done.result).then_some(result)
    }

    fn learn(&mut self, prediction: &Waiting, result: &Realised) {
        let Realised::Value(value) = result else { return };
        if let Some(covered) = value.covered {
            self.tally.resolved += 1;
            self.tally.covered += u64::from(covered);
        }
        if let (Some(tracker), Some(calibration)) = (&mut self.tracker, &self.terms.calibration) {
            let score = self.terms.reading.score(&prediction.values, value.realised);
            if score.is_finite() {
                tracker.observe(score, calibration.level, self.terms.reading.label.horizon_bars);
            }
        }
    }

    /// Lets the bars go of a resolver that needs none.
    pub fn rest(&mut self) {
        if self.is_idle() {
            (self.closes, self.changed_from) = (Vec::new(), None);
        }
    }

    /// Outcomes that no bar can change any more.
    fn forget(&mut self) {
        let reach = self.terms.reading.label.horizon_bars as usize + self.keep_bars + 2;
        if let Some(oldest) = self.closes.len().checked_sub(reach).and_then(|at| self.closes.get(at)) {
            while self.done.front().is_some_and(|d| d.prediction.open_time < oldest.open_time) {
                self.done.pop_front();
            }
        }
    }

    fn record(&self, key: &StreamKey, done: &Done, written_at: Timestamp) -> RealisedRecord {
        let at = self.closes.binary_search_by_key(&done.prediction.open_time, |c| c.open_time).ok();
        let end = at.map(|at| at + self.terms.reading.label.horizon_bars as usize);
        let due = end.and_then(|end| self.closes.get(end)).map(|c| c.open_time);
        RealisedRecord {
            seq: done.prediction.seq,
            revision: done.revision,
            key: key.clone(),
            model: self.terms.model.clone(),
            model_digest: self.terms.digest,
            open_time: done.prediction.open_time,
            due_open_time: due.unwrap_or(done.prediction.open_time),
            written_at,
            result: done.result.clone(),
            state: self.encode(),
        }
    }

    /// resolved u64 | covered u64 | the tracker, if there is one.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + TRACKER_BYTES);
        bytes.extend(self.tally.resolved.to_le_bytes());
        bytes.extend(self.tally.covered.to_le_bytes());
        bytes.extend(self.tracker.iter().flat_map(Tracker::to_bytes));
        bytes
    }
}

fn decode(bytes: &[u8], tracks: bool) -> Option<(Tally, Option<Tracker>)> {
    let (resolved, rest) = bytes.split_first_chunk::<8>()?;
    let (covered, rest) = rest.split_first_chunk::<8>()?;
    let tally = Tally { resolved: u64::from_le_bytes(*resolved), covered: u64::from_le_bytes(*covered) };
    let tracker = if tracks { Some(Tracker::from_bytes(rest)?) } else { None };
    (tracks || rest.is_empty()).then_some((tally, tracker))
}

#[cfg(test)]
mod tests;
