//! All that an evaluation found, as one value: what the table, the JSON and the HTML report are made of.

use std::collections::BTreeMap;
use std::fmt;

use market::Timestamp;
use registry::{Interval, LabelKind, Output};
use serde::{Deserialize, Serialize};

use super::fold::{FoldData, FoldForecasts, MODEL, NAIVE, Samples};
use super::gate::GateVerdict;
use super::importance::Importance;
use super::table::{GAIN_WANTED, Row, Spread, Table};
use super::{Run, Settings, Subject};
use crate::metrics::Loss;
use crate::metrics::information::Information;
use crate::probes::Probe;
use crate::walk_forward::WalkForward;

/// Of this format.
pub const FORMAT: u32 = 1;
/// Samples that are kept to be drawn.
const EXAMPLES_MAX: usize = 240;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    pub format: u32,
    /// "lstm@0.1.0".
    pub architecture: String,
    pub hyper: String,
    pub features: String,
    pub columns: u64,
    pub window: u32,
    pub label: LabelKind,
    /// Absent in older ones: a point.
    #[serde(default)]
    pub output: Output,
    pub horizon_bars: u32,
    pub timeframe: String,
    pub symbols: Vec<String>,
    pub bars: u64,
    /// Of the bars.
    pub digest: String,
    /// Open times of the newest bars of the first and the last sample that was tested.
    pub first: Timestamp,
    pub last: Timestamp,
    pub walk: WalkForward,
    pub settings: Settings,
    pub trials: u32,
    /// Nominal coverage of the intervals.
    pub confidence: f64,
    pub table: Table,
    /// Over naive, in [`Table::gain_unit`].
    pub gain: Option<Interval>,
    /// Whether it reaches 15 %.
    pub reaches: Reach,
    pub probes: Vec<Probe>,
    pub verdict: GateVerdict,
    pub folds: Vec<FoldNote>,
    pub importance: Vec<Importance>,
    pub examples: Vec<Example>,
}

/// Whether a gain is as large as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// With the whole interval.
    Yes,
    /// The estimate does and the interval's lower end doesn't.
    Perhaps,
    No,
}

/// One fold: where it was cut, and what was picked on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldNote {
    pub train_from: Timestamp,
    pub validation_from: Timestamp,
    pub test_from: Timestamp,
    pub until: Timestamp,
    pub train_samples: u64,
    pub validation_samples: u64,
    pub test_samples: u64,
    /// What each baseline picked: a penalty, a decay.
    pub fitted: BTreeMap<String, String>,
    /// One for each seed.
    pub curves: Vec<Curve>,
}

/// Losses of a training, in the label's normalised unit, one an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    pub seed: u64,
    /// From 1.
    pub best_epoch: u32,
    pub train: Vec<f64>,
    pub validation: Vec<f64>,
}

/// A tested sample, to be drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    pub symbol: String,
    pub time: Timestamp,
    pub label: f64,
    /// The first seed's.
    pub model: f64,
    pub naive: f64,
    /// The central 90 % of the forecast distribution.
    pub low: f64,
    pub high: f64,
}

impl FoldNote {
    pub(super) fn of(data: &FoldData, all: &[FoldForecasts]) -> FoldNote {
        let times = data.split.times;
        let fitted = |f: &&FoldForecasts| !f.fitted.is_empty() && f.seed.is_none();
        let curve = |f: &FoldForecasts| {
            f.seed.map(|seed| Curve {
                seed,
                best_epoch: f.best_epoch,
                train: f.train_curve.clone(),
                validation: f.validation_curve.clone(),
            })
        };
        FoldNote {
            train_from: times.train,
            validation_from: times.validation,
            test_from: times.test,
            until: times.until,
            train_samples: data.split.train.len() as u64,
            validation_samples: data.split.validation.len() as u64,
            test_samples: data.split.test.len() as u64,
            fitted: all.iter().filter(fitted).map(|f| (f.name.clone(), f.fitted.clone())).collect(),
            curves: all.iter().filter_map(curve).collect(),
        }
    }
}

/// Whether a gain reaches what is asked about.
pub fn reach(gain: Option<Interval>) -> Reach {
    match gain {
        Some(gain) if gain.low >= GAIN_WANTED => Reach::Yes,
        Some(gain) if gain.value >= GAIN_WANTED => Reach::Perhaps,
        _ => Reach::No,
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn assessment(
    subject: &Subject<'_>,
    settings: &Settings,
    samples: &Samples,
    run: Run,
    table: Table,
    importance: Vec<Importance>,
    probes: Vec<Probe>,
    verdict: GateVerdict,
) -> Assessment {
    let recipe = subject.recipe;
    let times = &run.panel.times;
    Assessment {
        format: FORMAT,
        architecture: recipe.architecture.plugin.clone(),
        hyper: recipe.architecture.options.clone(),
        features: recipe.features.plugin.clone(),
        columns: samples.dataset.columns as u64,
        window: recipe.window,
        label: recipe.label.kind,
        output: recipe.output.kind.clone(),
        horizon_bars: recipe.label.horizon_bars,
        timeframe: recipe.data.timeframe.to_string(),
        symbols: recipe.data.symbols.iter().map(|s| s.to_string()).collect(),
        bars: samples.bars as u64,
        digest: samples.digest.clone(),
        first: times.first().copied().unwrap_or_default(),
        last: times.last().copied().unwrap_or_default(),
        walk: *subject.walk,
        settings: settings.clone(),
        trials: recipe.trials,
        confidence: recipe.bootstrap.confidence,
        gain: table.gain(),
        reaches: reach(table.gain()),
        examples: examples(samples, &run, recipe.output.kind == Output::Probabilities),
        table,
        probes,
        verdict,
        folds: run.folds,
        importance,
    }
}

/// The newest samples of the first symbol.
fn examples(samples: &Samples, run: &Run, is_probability: bool) -> Vec<Example> {
    let panel = &run.panel;
    let (Some(model), Some(naive)) = (panel.of(MODEL).next(), panel.of(NAIVE).next()) else {
        return Vec::new();
    };
    let stream = panel.streams.iter().copied().min().unwrap_or(0);
    let mut places: Vec<usize> = (0..panel.labels.len()).filter(|&i| panel.streams[i] == stream).collect();
    places.drain(..places.len().saturating_sub(EXAMPLES_MAX));
    let example = |i: usize| Example {
        symbol: samples.dataset.streams[stream].key.symbol.to_string(),
        time: panel.times[i],
        label: panel.labels[i],
        model: model.forecasts[i],
        naive: naive.forecasts[i],
        // Points 4 and 94 of 99 stand at 4.5 % and 95.5 %. A probability has no distribution around it.
        low: if is_probability { model.forecasts[i] } else { panel.point(model, i, 4) },
        high: if is_probability { model.forecasts[i] } else { panel.point(model, i, 94) },
    };
    places.into_iter().map(example).collect()
}

impl fmt::Display for Assessment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.table;
        writeln!(
            f,
            "{} over {} bars of {}, {} symbols; tested on {} samples ({} times) from {} to {}",
            self.label.name(),
            self.horizon_bars,
            self.timeframe,
            self.symbols.len(),
            t.samples,
            t.steps,
            self.first,
            self.last
        )?;
        writeln!(
            f,
            "{} folds, {}, embargo {} bars beyond the purge; {} {}, {} features, {} seeds\n",
            self.folds.len(),
            match self.walk.window {
                crate::walk_forward::TrainingWindow::Expanding => "expanding",
                crate::walk_forward::TrainingWindow::Sliding => "sliding",
            },
            self.walk.embargo_bars,
            self.architecture,
            self.hyper,
            self.columns,
            self.settings.seeds.len()
        )?;
        match t.loss {
            Loss::Log => self.write_probabilities(f)?,
            Loss::Squared | Loss::Absolute | Loss::Qlike | Loss::Crps => self.write_table(f)?,
        }
        self.write_gain(f)?;
        self.write_trading(f)?;
        for probe in &self.probes {
            writeln!(f, "probe {:<16} {}  {}", probe.name, mark(probe.passed), probe.found)?;
        }
        writeln!(f)?;
        for criterion in &self.verdict.criteria {
            writeln!(f, "{}  {}: {}", mark(criterion.holds), criterion.name, criterion.found)?;
        }
        let verdict = if self.verdict.promoted { "may be promoted" } else { "not promoted" };
        write!(f, "verdict: {verdict} ({} trials)", self.trials)
    }
}

impl Assessment {
    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.table;
        let compared = match t.loss {
            Loss::Qlike => "gain QLIKE",
            Loss::Crps => "gain CRPS",
            Loss::Squared | Loss::Absolute | Loss::Log => "skill",
        };
        writeln!(
            f,
            "{:<9}{:>18}{:>17}{:>17}{:>24}{:>24}{:>15}{:>15}{:>11}{:>9}{:>12}",
            "",
            "RMSE",
            "MASE",
            "QLIKE",
            compared,
            "gain MASE",
            "IC (ICIR)",
            "rank IC (ICIR)",
            "CRPS",
            "90 % in",
            "p vs model"
        )?;
        for row in &t.rows {
            let gain = match t.loss {
                Loss::Qlike | Loss::Crps => t.gain_of(row),
                Loss::Squared | Loss::Absolute | Loss::Log => row.skill,
            };
            writeln!(
                f,
                "{:<9}{:>18}{:>17}{:>17}{:>24}{:>24}{:>15}{:>15}{:>11}{:>9}{:>12}",
                row.name,
                spread(&row.rmse, row.seeds, 2, true),
                spread(&row.mase, row.seeds, 4, false),
                row.qlike.map_or("–".into(), |q| spread(&q, row.seeds, 4, false)),
                shown(gain),
                shown(row.gain_mase),
                coefficient(row.ic),
                coefficient(row.rank_ic),
                row.distribution.as_ref().map_or("–".into(), |d| format!("{:.2e}", d.crps)),
                row.distribution
                    .as_ref()
                    .and_then(|d| d.coverage.last())
                    .map_or("–".into(), |c| format!("{:.1} %", 100.0 * c)),
                row.model_against.map_or("–".into(), |test| format!("{:.1e}", test.p_value))
            )?;
        }
        writeln!(
            f,
            "mean ± std over seeds; gains over naive with {} % intervals (moving-block bootstrap, blocks of {} times);",
            100.0 * self.confidence,
            t.block_steps
        )?;
        writeln!(f, "p: Diebold–Mariano, one-sided, that the model is no better ({})", t.loss.name())?;
        if let Some(model) = t.model() {
            let direction = model.direction.map_or("–".into(), |d| {
                format!("{:.2} % [{:.2} %, {:.2} %]", 100.0 * d.value, 100.0 * d.low, 100.0 * d.high)
            });
            let p = model.direction_test.map_or("–".into(), |test| format!("{:.2e}", test.p_value));
            writeln!(
                f,
                "direction {direction}; always the commoner side {:.2} %, p = {p}",
                100.0 * t.majority_rate
            )?;
            if let Some(d) = &model.distribution {
                writeln!(f, "pinball {:.3e} (5, 50, 95 %), CRPS {:.3e}", d.pinball, d.crps)?;
            }
        }
        let floored: Vec<&Row> = t.rows.iter().filter(|row| row.floored > 0).collect();
        for row in floored {
            writeln!(
                f,
                "{}: {} forecasts raised to the least label of the training part",
                row.name, row.floored
            )?;
        }
        writeln!(f)
    }

    /// Forecasters by the probabilities of up that they give.
    fn write_probabilities(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.table;
        writeln!(
            f,
            "{:<9}{:>17}{:>24}{:>17}{:>24}{:>24}{:>13}{:>15}{:>12}",
            "",
            "log loss",
            "gain log loss",
            "Brier",
            "gain Brier",
            "right",
            "calibration",
            "IC (ICIR)",
            "p vs model"
        )?;
        for row in &t.rows {
            let number = |s: Option<Spread>| s.map_or("–".into(), |s| spread(&s, row.seeds, 4, false));
            writeln!(
                f,
                "{:<9}{:>17}{:>24}{:>17}{:>24}{:>24}{:>13}{:>15}{:>12}",
                row.name,
                number(row.compared),
                shown(row.gain_compared),
                number(row.brier),
                shown(row.skill),
                shown(row.direction),
                row.calibration.as_ref().map_or("–".into(), |c| format!("{:.4}", c.error)),
                coefficient(row.ic),
                row.model_against.map_or("–".into(), |test| format!("{:.1e}", test.p_value))
            )?;
        }
        writeln!(
            f,
            "mean ± std over seeds; naive: how often it went up in the training part; gains over it with {} % intervals",
            100.0 * self.confidence
        )?;
        writeln!(
            f,
            "(moving-block bootstrap, blocks of {} times); calibration: mean distance of probability and share that came;",
            t.block_steps
        )?;
        writeln!(f, "p: Diebold–Mariano, one-sided, that the model is no better ({})", t.loss.name())?;
        if let Some(model) = t.model() {
            let p = model.direction_test.map_or("–".into(), |test| format!("{:.2e}", test.p_value));
            writeln!(
                f,
                "always the commoner direction is right in {:.2} %, p = {p}",
                100.0 * t.majority_rate
            )?;
            if let Some(calibration) = &model.calibration {
                write!(f, "P(up) -> share up:")?;
                for (p, came, _) in &calibration.bins {
                    write!(f, "  {p:.3} -> {came:.3}")?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f)
    }

    fn write_gain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.table.gain_unit();
        let says = match self.reaches {
            Reach::Yes => "reaches 15 % with its whole interval",
            Reach::Perhaps => "reaches 15 %, but its interval doesn't",
            Reach::No => "does not reach 15 %",
        };
        match self.gain {
            Some(gain) => writeln!(f, "gain over naive in {unit}: {} : {says}", percent(gain))?,
            None => writeln!(f, "gain over naive in {unit}: not defined")?,
        }
        for row in self.table.rows.iter().filter(|row| row.name != MODEL) {
            if let Some(test) = row.model_against {
                let better = if test.difference < 0.0 { "better" } else { "worse" };
                writeln!(
                    f,
                    "model {better} than {}: DM {:.2}, p = {:.2e}",
                    row.name, test.statistic, test.p_value
                )?;
            }
        }
        writeln!(f, "best baseline: {}\n", self.table.best_baseline)
    }

    fn write_trading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (trading, seed) in self.table.trading.iter().zip(&self.settings.seeds) {
            let ratio = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
            writeln!(
                f,
                "sign rule net of {} bp, seed {seed}: {} trades in {} periods, {:+.3} bp a period, Sharpe {} a period, probabilistic {}, deflated for {} trials {}",
                trading.fee_bps,
                trading.trades,
                trading.periods,
                trading.mean_bps,
                ratio(trading.sharpe),
                ratio(trading.probabilistic),
                trading.trials,
                ratio(trading.deflated)
            )?;
        }
        if self.table.trading.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

fn mark(holds: bool) -> &'static str {
    if holds { "ok  " } else { "FAIL" }
}

fn percent(i: Interval) -> String {
    format!("{:.2} % [{:.2} %, {:.2} %]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
}

fn shown(interval: Option<Interval>) -> String {
    interval.map_or("–".into(), |i| {
        format!("{:.1} % [{:.1}, {:.1}]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
    })
}

fn coefficient(information: Option<Information>) -> String {
    let ratio = |r: Option<f64>| r.map_or("–".into(), |r| format!("{r:.2}"));
    information.map_or("–".into(), |i| format!("{:.3} ({})", i.mean, ratio(i.ratio)))
}

fn spread(spread: &Spread, seeds: u64, digits: usize, is_exponent: bool) -> String {
    let one = |x: f64| if is_exponent { format!("{x:.*e}", digits + 1) } else { format!("{x:.digits$}") };
    match (seeds > 1, is_exponent) {
        (false, _) => one(spread.mean),
        (true, true) => format!("{} ± {:.0e}", one(spread.mean), spread.std),
        (true, false) => format!("{} ± {:.digits$}", one(spread.mean), spread.std),
    }
}
