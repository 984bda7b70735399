//! Two models on the same bars: their outcomes, paired, to an always-valid test ([`learn::live::sequential`]).
//!
//! A pair is the two models' outcomes of one bar. A pair of which one has no value is void; a bar with an outcome of one
//! model alone (the other abstained, warmed up, or didn't serve the symbol) is no pair. Both are counted. A revision that
//! comes while its step is open replaces what it revises, a later one is counted only: what the test has read stands.

use learn::live::sequential::{SequentialReport, SequentialSettings, SequentialTest, SettingsError};
use market::Timestamp;
use registry::Manifest;
use serde::{Deserialize, Serialize};
use store::RealisedRecord;

use super::measure::{Measure, check_same_label, value_of};
use super::steps::Steps;

/// Points of the interval over time; beyond it every second is dropped.
const POINTS_MAX: usize = 2000;
/// Steps that stay open for outcomes of other symbols and for revisions.
pub const SETTLE_STEPS: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Bars with a value of both models.
    pub pairs: u64,
    /// With an outcome of both, of which one has no value: its label spans a gap, or its bars are gone.
    pub void: u64,
    /// With an outcome of one model alone.
    pub champion_only: u64,
    pub challenger_only: u64,
    /// Outcomes that a revision replaced in time, revisions that came too late, and outcomes that did.
    pub revised: u64,
    pub revised_late: u64,
    pub late: u64,
}

/// The interval after a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// When the block's last outcome fell due.
    pub due: Timestamp,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// What is stored of a comparison: open steps come again from their records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedComparison {
    champion: String,
    challenger: String,
    measure: Measure,
    test: SequentialTest,
    counts: Counts,
    losses: [f64; 2],
    points: Vec<Point>,
    stride: u64,
    closed_until: Option<Timestamp>,
}

/// A running comparison. Cheap: an outcome costs two look-ups, a report nothing.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// All but the open steps; `closed_until` is that of `steps`.
    state: SavedComparison,
    steps: Steps<Pair>,
    /// Records up to here were read by an earlier run.
    resumed_at: Option<Timestamp>,
}

/// Of each model the outcome's loss, or `Some(None)` where it has no value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pair([Option<Option<f64>>; 2]);

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// "name/version".
    pub champion: String,
    pub challenger: String,
    pub loss: &'static str,
    /// Mean losses over the pairs.
    pub champion_loss: Option<f64>,
    pub challenger_loss: Option<f64>,
    /// Of challenger − champion: below 0 the challenger is better.
    #[serde(flatten)]
    pub test: SequentialReport,
    pub block_steps: u32,
    pub blocks_min: u32,
    #[serde(flatten)]
    pub counts: Counts,
    /// The last due time that was judged.
    pub until: Option<Timestamp>,
    pub points: Vec<Point>,
}

impl Comparison {
    /// Errors: the models' labels or timeframes differ, or they are the same model.
    pub fn new(champion: &Manifest, challenger: &Manifest, level: f64) -> Result<Self, String> {
        let name = |manifest: &Manifest| format!("{}/{}", manifest.name, manifest.version);
        if name(champion) == name(challenger) {
            return Err(format!("{} can't be compared with itself: name another model", name(champion)));
        }
        check_same_label(champion, challenger)?;
        let settings =
            SequentialSettings { level, ..SequentialSettings::for_horizon(champion.label.horizon_bars) };
        Ok(Comparison {
            state: SavedComparison {
                champion: name(champion),
                challenger: name(challenger),
                measure: Measure::of_models(&[champion, challenger]),
                test: SequentialTest::new(settings).map_err(|e: SettingsError| e.to_string())?,
                counts: Counts::default(),
                losses: [0.0; 2],
                points: Vec::new(),
                stride: 1,
                closed_until: None,
            },
            steps: Steps::new(SETTLE_STEPS, None),
            resumed_at: None,
        })
    }

    /// Goes on where a stored one was. It must then be given the records whose outcomes were due later, and may be given
    /// others.
    pub fn resume(saved: SavedComparison) -> Self {
        let closed_until = saved.closed_until;
        Comparison { steps: Steps::new(SETTLE_STEPS, closed_until), state: saved, resumed_at: closed_until }
    }

    /// Only of outcomes that fall due after `until`.
    pub fn after(self, until: Option<Timestamp>) -> Self {
        Comparison { steps: Steps::new(SETTLE_STEPS, until), resumed_at: until, ..self }
    }

    pub fn saved(&self) -> SavedComparison {
        SavedComparison { closed_until: self.steps.closed_until(), ..self.state.clone() }
    }

    /// One outcome, in the spool's order; those of other models are left out. True where a block ended.
    pub fn observe(&mut self, record: &RealisedRecord) -> bool {
        let is = |model: &str| {
            model.split_once('/').is_some_and(|(n, v)| n == record.model.name && v == record.model.version)
        };
        let side = match (is(&self.state.champion), is(&self.state.challenger)) {
            (true, _) => 0,
            (_, true) => 1,
            (false, false) => return false,
        };
        let due = record.due_open_time;
        let measure = self.state.measure;
        let counts = &mut self.state.counts;
        match self.steps.at(due, (record.key.symbol.clone(), record.open_time)) {
            Some(pair) => {
                counts.revised += u64::from(pair.0[side].is_some());
                pair.0[side] = Some(value_of(record).map(|value| measure.loss(value)));
            }
            None if self.resumed_at.is_some_and(|until| due <= until) => {}
            None if record.revision > 0 => counts.revised_late += 1,
            None => counts.late += 1,
        }
        let mut ended = false;
        while let Some((due, pairs)) = self.steps.close() {
            ended |= self.judge(due, &pairs);
        }
        ended
    }

    /// Judges the steps that are still open: where no more outcomes come.
    pub fn finish(&mut self) {
        while let Some((due, pairs)) = self.steps.close_any() {
            self.judge(due, &pairs);
        }
    }

    fn judge(&mut self, due: Timestamp, pairs: &[Pair]) -> bool {
        let state = &mut self.state;
        let (mut sum, mut count) = (0.0, 0u32);
        for Pair(pair) in pairs {
            match *pair {
                [Some(Some(champion)), Some(Some(challenger))] => {
                    sum += challenger - champion;
                    count += 1;
                    state.counts.pairs += 1;
                    state.losses[0] += champion;
                    state.losses[1] += challenger;
                }
                [Some(_), Some(_)] => state.counts.void += 1,
                [Some(_), None] => state.counts.champion_only += 1,
                [None, Some(_)] => state.counts.challenger_only += 1,
                [None, None] => {}
            }
        }
        let ended = count > 0 && state.test.push(sum / f64::from(count), count);
        if ended {
            self.mark(due);
        }
        ended
    }

    fn mark(&mut self, due: Timestamp) {
        let state = &mut self.state;
        let report = state.test.report();
        let (Some(mean), Some(low), Some(high)) = (report.mean, report.low, report.high) else { return };
        if !report.blocks.is_multiple_of(state.stride) {
            return;
        }
        if state.points.len() >= POINTS_MAX {
            let mut index = 0;
            state.points.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            state.stride *= 2;
        }
        state.points.push(Point { due, mean, low, high });
    }

    pub fn report(&self) -> ComparisonReport {
        let state = &self.state;
        let mean = |sum: f64| (state.counts.pairs > 0).then(|| sum / state.counts.pairs as f64);
        ComparisonReport {
            champion: state.champion.clone(),
            challenger: state.challenger.clone(),
            loss: state.measure.name(),
            champion_loss: mean(state.losses[0]),
            challenger_loss: mean(state.losses[1]),
            test: state.test.report(),
            block_steps: state.test.settings().block_steps,
            blocks_min: state.test.settings().blocks_min,
            counts: state.counts,
            until: self.steps.closed_until(),
            points: state.points.clone(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
