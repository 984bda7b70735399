//! One model in service against what it promised: coverage, loss, CUSUM; and with a comparison the evidence on which it is
//! taken back ([`learn::live::degrade`]).
//!
//! The promise of its loss is the share of the naive forecast's squared error that its manifest states of the test part,
//! (RMSE / RMSE of naive)². The CUSUM follows the loss less the naive forecast's on the same bar, so that a market
//! which is only harder to forecast raises no alarm.

use learn::live::cusum::{Cusum, CusumReport, CusumSettings};
use learn::live::degrade::{DegradeEvidence, DegradeRules, DegradeVerdict, degrade};
use learn::live::sequential::{SequentialReport, SequentialSettings, SequentialTest};
use market::Timestamp;
use registry::Manifest;
use serde::{Deserialize, Serialize};
use store::RealisedRecord;

use super::compare::{Comparison, SETTLE_STEPS};
use super::measure::{Measure, value_of};
use super::steps::Steps;

/// What is stored of a watch: open steps come again from their records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedWatch {
    model: String,
    measure: Measure,
    rules: DegradeRules,
    /// Of its intervals.
    level: Option<f64>,
    promised_share: Option<f64>,
    coverage: SequentialTest,
    promise: SequentialTest,
    cusum: Cusum,
    counts: WatchCounts,
    closed_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchCounts {
    /// With a value, and without one.
    pub outcomes: u64,
    pub void: u64,
    /// Revisions and outcomes that came too late to count.
    pub late: u64,
    /// Of those with an interval, and in it.
    pub with_interval: u64,
    pub covered: u64,
}

/// A running watch. Cheap: an outcome costs two look-ups, a report nothing.
#[derive(Clone, Debug)]
pub struct Watch {
    state: SavedWatch,
    steps: Steps<Option<Seen>>,
    resumed_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Void,
    Value { over_naive: Option<f64>, excess: Option<f64>, covered: Option<bool> },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchReport {
    /// "name/version".
    pub model: String,
    pub loss: &'static str,
    #[serde(flatten)]
    pub counts: WatchCounts,
    /// What intervals state, the share that covered, and the test of misses: worse means that too few cover.
    pub level: Option<f64>,
    pub coverage: Option<f64>,
    pub coverage_test: Option<SequentialReport>,
    /// The promised share of the naive forecast's squared error, and the test of what goes beyond it.
    pub promised_share: Option<f64>,
    pub promise_test: Option<SequentialReport>,
    pub cusum: CusumReport,
    /// The last due time that was judged.
    pub until: Option<Timestamp>,
}

impl Watch {
    pub fn new(manifest: &Manifest, rules: DegradeRules) -> Result<Self, String> {
        let horizon = manifest.label.horizon_bars;
        let level = manifest.calibration.as_ref().map(|c| c.level);
        let test = |settings| SequentialTest::new(settings).map_err(|e| e.to_string());
        Ok(Watch {
            state: SavedWatch {
                model: format!("{}/{}", manifest.name, manifest.version),
                measure: Measure::of_models(&[manifest]),
                rules,
                level,
                promised_share: promised_share(manifest),
                coverage: test(rules.coverage_settings(level.unwrap_or(0.0), horizon))?,
                promise: test(SequentialSettings::for_horizon(horizon))?,
                cusum: Cusum::new(CusumSettings::for_horizon(horizon)).map_err(|e| e.to_string())?,
                counts: WatchCounts::default(),
                closed_until: None,
            },
            steps: Steps::new(SETTLE_STEPS, None),
            resumed_at: None,
        })
    }

    /// Goes on where a stored one was. It must then be given the records whose outcomes were due later, and may be given
    /// others.
    pub fn resume(saved: SavedWatch) -> Self {
        let closed_until = saved.closed_until;
        Watch { steps: Steps::new(SETTLE_STEPS, closed_until), state: saved, resumed_at: closed_until }
    }

    /// Only of outcomes that fall due after `until`.
    pub fn after(self, until: Option<Timestamp>) -> Self {
        Watch { steps: Steps::new(SETTLE_STEPS, until), resumed_at: until, ..self }
    }

    pub fn saved(&self) -> SavedWatch {
        SavedWatch { closed_until: self.steps.closed_until(), ..self.state.clone() }
    }

    /// One outcome, in the spool's order; those of other models are left out. True where a block ended.
    pub fn observe(&mut self, record: &RealisedRecord) -> bool {
        let is_mine = self
            .state
            .model
            .split_once('/')
            .is_some_and(|(name, version)| name == record.model.name && version == record.model.version);
        if !is_mine {
            return false;
        }
        let seen = self.state.seen(record);
        let due = record.due_open_time;
        match self.steps.at(due, (record.key.symbol.clone(), record.open_time)) {
            Some(place) => *place = Some(seen),
            None if self.resumed_at.is_some_and(|until| due <= until) => {}
            None => self.state.counts.late += 1,
        }
        let mut ended = false;
        while let Some((due, seen)) = self.steps.close() {
            ended |= self.state.judge(due, &seen);
        }
        ended
    }

    /// Judges the steps that are still open: where no more outcomes come.
    pub fn finish(&mut self) {
        while let Some((due, seen)) = self.steps.close_any() {
            self.state.judge(due, &seen);
        }
    }

    pub fn report(&self) -> WatchReport {
        let state = &self.state;
        let counts = state.counts;
        let has_intervals = counts.with_interval > 0;
        WatchReport {
            model: state.model.clone(),
            loss: state.measure.name(),
            counts,
            level: state.level,
            coverage: has_intervals.then(|| counts.covered as f64 / counts.with_interval as f64),
            coverage_test: has_intervals.then(|| state.coverage.report()),
            promised_share: state.promised_share,
            promise_test: state.promised_share.map(|_| state.promise.report()),
            cusum: state.cusum.report(),
            until: self.steps.closed_until(),
        }
    }

    /// Whether to go back to the model before; `before`: its comparison with this one as the challenger, where it runs along.
    pub fn verdict(&self, before: Option<&Comparison>) -> DegradeVerdict {
        let report = self.report();
        degrade(&DegradeEvidence {
            before: before.map(|comparison| comparison.report().test),
            coverage: report.coverage_test,
            promise: report.promise_test,
            cusum: Some(report.cusum),
        })
    }
}

/// (RMSE / RMSE of naive)² on the test part; an imported model promises nothing.
fn promised_share(manifest: &Manifest) -> Option<f64> {
    let (model, naive) = (manifest.metrics.model.rmse, manifest.metrics.naive.rmse);
    let share = (model / naive).powi(2);
    (!manifest.is_foreign() && model > 0.0 && share.is_finite()).then_some(share)
}

impl SavedWatch {
    fn seen(&self, record: &RealisedRecord) -> Seen {
        let Some(value) = value_of(record) else { return Seen::Void };
        let naive_square = value.naive.map(|naive| (value.realised - naive).powi(2));
        let excess = |naive: f64, share| self.rules.excess(value.error().powi(2), naive, share);
        Seen::Value {
            over_naive: self.measure.naive_loss(value).map(|naive| self.measure.loss(value) - naive),
            excess: naive_square.zip(self.promised_share).map(|(naive, share)| excess(naive, share)),
            covered: value.covered,
        }
    }

    /// The means of one step go into the tests.
    fn judge(&mut self, due: Timestamp, step: &[Option<Seen>]) -> bool {
        self.closed_until = Some(due);
        let mut means = [Mean::default(); 3];
        for seen in step.iter().flatten() {
            match *seen {
                Seen::Void => self.counts.void += 1,
                Seen::Value { over_naive, excess, covered } => {
                    self.counts.outcomes += 1;
                    self.counts.with_interval += u64::from(covered.is_some());
                    self.counts.covered += u64::from(covered == Some(true));
                    let miss =
                        covered.zip(self.level).map(|(covered, level)| self.rules.miss(level, covered));
                    means[0].add(miss);
                    means[1].add(excess);
                    means[2].add(over_naive);
                }
            }
        }
        let [miss, excess, over_naive] = means;
        let mut ended = false;
        if let Some(mean) = miss.value() {
            ended |= self.coverage.push(mean, miss.count);
        }
        if let Some(mean) = excess.value() {
            ended |= self.promise.push(mean, excess.count);
        }
        if let Some(mean) = over_naive.value() {
            ended |= self.cusum.push(mean);
        }
        ended
    }
}

#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, x: Option<f64>) {
        if let Some(x) = x.filter(|x| x.is_finite()) {
            self.sum += x;
            self.count += 1;
        }
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

#[cfg(test)]
mod tests;
