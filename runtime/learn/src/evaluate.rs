//! How good forecasts are on a held-out range: beside the naive forecast and a ridge regression, with intervals.
//!
//! The verdict is the skill score's interval, 1 − MSE / MSE of the naive forecast: above 0 there is skill, and
//! where it holds 0 none was shown. Correlations of ranks use the ranks in the whole range, also in resamples.

use std::fmt;

use market::Timestamp;
use registry::{Interval, LabelKind, Manifest, Metrics, Scores};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{BootstrapSettings, Resampled, block_steps};
use crate::recipe::{RecipeError, manifest_time};

/// Fewer steps of time give no interval that means anything.
pub const STEPS_MIN: usize = 30;
/// The range must hold so many blocks.
pub const BLOCKS_MIN: usize = 3;

/// Labels and forecasts of them, in the label's unit and in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecasts {
    pub times: Vec<Timestamp>,
    pub labels: Vec<f64>,
    pub model: Vec<f64>,
    pub naive: Vec<f64>,
    pub ridge: Vec<f64>,
}

/// What the table was made of. Serialises as its JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    pub label: LabelKind,
    pub horizon_bars: u32,
    /// Open times of the first and the last sample's newest bar.
    pub first: Timestamp,
    pub last: Timestamp,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The skill's interval lies above 0.
    Skill,
    /// It holds 0.
    NoSkill,
    /// It lies below 0.
    WorseThanNaive,
}

/// What the metrics need beside the forecasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context {
    pub label: LabelKind,
    pub horizon_bars: u32,
    /// The naive forecast's mean absolute error on the training part: what MASE divides by.
    pub naive_train_mae: f64,
    pub ridge_lambda: f64,
    pub bootstrap: BootstrapSettings,
}

/// Fills the table.
pub fn evaluate(forecasts: &Forecasts, context: &Context) -> Result<Evaluation, EvaluateError> {
    check(forecasts)?;
    let steps = steps_of(&forecasts.times);
    let block = block_steps(steps.len(), context.horizon_bars as usize);
    let needed = STEPS_MIN.max(BLOCKS_MIN * block);
    if steps.len() < needed {
        return Err(EvaluateError::TooFew { steps: steps.len(), needed });
    }
    let row = |forecast: &[f64]| scores(forecasts, forecast, &steps, block, context);
    let (mut naive, mut ridge) = (row(&forecasts.naive), row(&forecasts.ridge));
    // Against itself, and the naive forecast takes no side of itself.
    (naive.skill, naive.directional_accuracy, ridge.skill_vs_ridge) = (None, None, None);
    let metrics = Metrics {
        samples: forecasts.labels.len() as u64,
        confidence: context.bootstrap.confidence,
        block_steps: block as u64,
        resamples: context.bootstrap.resamples,
        bootstrap_seed: context.bootstrap.seed,
        majority_rate: majority_rate(forecasts),
        ridge_lambda: context.ridge_lambda,
        model: row(&forecasts.model),
        naive,
        ridge,
    };
    let (first, last) = (forecasts.times[0], forecasts.times[forecasts.times.len() - 1]);
    Ok(Evaluation { label: context.label, horizon_bars: context.horizon_bars, first, last, metrics })
}

fn check(forecasts: &Forecasts) -> Result<(), EvaluateError> {
    let count = forecasts.times.len();
    let columns = [
        ("label", &forecasts.labels),
        ("model", &forecasts.model),
        ("naive", &forecasts.naive),
        ("ridge", &forecasts.ridge),
    ];
    for (name, column) in columns {
        if column.len() != count {
            return Err(EvaluateError::Lengths { name, expected: count, found: column.len() });
        }
        if let Some(place) = column.iter().position(|x| !x.is_finite()) {
            return Err(EvaluateError::NotFinite { name, time: forecasts.times[place] });
        }
    }
    if forecasts.times.is_sorted() { Ok(()) } else { Err(EvaluateError::Order) }
}

/// The samples of each distinct time.
pub(crate) fn steps_of(times: &[Timestamp]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let chunk = |chunk: &[Timestamp]| {
        start += chunk.len();
        start - chunk.len()..start
    };
    times.chunk_by(|a, b| a == b).map(chunk).collect()
}

/// One row of the table: sums over each step, resampled, and the statistics that are functions of the sums.
fn scores(
    forecasts: &Forecasts,
    forecast: &[f64],
    steps: &[std::ops::Range<usize>],
    block: usize,
    context: &Context,
) -> Scores {
    let (labels, naive, ridge) = (&forecasts.labels, &forecasts.naive, &forecasts.ridge);
    let values = (standardised(forecast), standardised(labels));
    let places = (standardised(&ranks(forecast)), standardised(&ranks(labels)));
    let sums_of = |step: &std::ops::Range<usize>| {
        let mut sums = [0.0; SUMS];
        for i in step.clone() {
            let error = |forecast: f64| (labels[i] - forecast).powi(2);
            let (forecast_side, label_side) = (side(forecast[i], naive[i]), side(labels[i], naive[i]));
            let terms = [1.0, error(forecast[i]), error(naive[i]), error(ridge[i])];
            sums[..4].iter_mut().zip(terms).for_each(|(sum, x)| *sum += x);
            if label_side != 0 {
                sums[4] += f64::from(u8::from(forecast_side == label_side));
                sums[5] += 1.0;
            }
            for (at, (x, y)) in [(6, &values), (11, &places)] {
                let terms = [x[i], y[i], x[i] * x[i], y[i] * y[i], x[i] * y[i]];
                sums[at..at + 5].iter_mut().zip(terms).for_each(|(sum, x)| *sum += x);
            }
        }
        sums
    };
    let sums: Vec<[f64; SUMS]> = steps.iter().map(sums_of).collect();
    let drawn = Resampled::draw(&sums, block, &context.bootstrap);
    let absolute: f64 = labels.iter().zip(forecast).map(|(y, p)| (y - p).abs()).sum();
    let mae = absolute / labels.len() as f64;
    Scores {
        rmse: (drawn.whole[1] / drawn.whole[0]).sqrt(),
        mae,
        mase: if context.naive_train_mae > 0.0 { mae / context.naive_train_mae } else { 0.0 },
        skill: drawn.interval(|s| (s[2] > 0.0).then(|| 1.0 - s[1] / s[2])),
        skill_vs_ridge: drawn.interval(|s| (s[3] > 0.0).then(|| 1.0 - s[1] / s[3])),
        directional_accuracy: drawn.interval(|s| (s[5] > 0.0).then(|| s[4] / s[5])),
        ic: drawn.interval(|s| correlation(s[0], &s[6..11])),
        rank_ic: drawn.interval(|s| correlation(s[0], &s[11..16])),
    }
}

/// count, squared errors of forecast, naive and ridge, hits, calls, then x, y, xx, yy, xy of values and of ranks.
const SUMS: usize = 16;

/// Pearson's, from n and the sums of x, y, xx, yy, xy; `None` where one of them doesn't vary.
fn correlation(n: f64, sums: &[f64]) -> Option<f64> {
    let covariance = sums[4] / n - sums[0] * sums[1] / (n * n);
    let variances = [sums[2] / n - (sums[0] / n).powi(2), sums[3] / n - (sums[1] / n).powi(2)];
    variances
        .iter()
        .all(|&v| v > 1e-12)
        .then(|| (covariance / (variances[0] * variances[1]).sqrt()).clamp(-1.0, 1.0))
}

/// To mean 0 and deviation 1, so that sums of products lose no digits; what doesn't vary becomes 0.
fn standardised(values: &[f64]) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let varies = deviation > 1e-12 * mean.abs() && deviation.is_normal();
    values.iter().map(|x| if varies { (x - mean) / deviation } else { 0.0 }).collect()
}

/// From 0; equal values share the mean of their ranks.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = first as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = shared);
        first += equal.len();
    }
    ranks
}

pub(crate) fn side(x: f64, of: f64) -> i8 {
    i8::from(x > of) - i8::from(x < of)
}

/// The share of the commoner side among labels that differ from the naive forecast; ½ where none does.
fn majority_rate(forecasts: &Forecasts) -> f64 {
    let sides = || forecasts.labels.iter().zip(&forecasts.naive).map(|(y, naive)| side(*y, *naive));
    let above = sides().filter(|&s| s > 0).count() as f64;
    let below = sides().filter(|&s| s < 0).count() as f64;
    if above + below > 0.0 { above.max(below) / (above + below) } else { 0.5 }
}

impl Evaluation {
    /// The table that a manifest keeps; the times are those of its test range.
    pub fn from_manifest(manifest: &Manifest) -> Result<Evaluation, RecipeError> {
        let test = &manifest.data.test;
        Ok(Evaluation {
            label: manifest.label.kind,
            horizon_bars: manifest.label.horizon_bars,
            first: manifest_time("data.test.from", &test.from)?,
            last: manifest_time("data.test.until", &test.until)?,
            metrics: manifest.metrics.clone(),
        })
    }

    pub fn verdict(&self) -> Verdict {
        match self.metrics.model.skill {
            Some(Interval { low, .. }) if low > 0.0 => Verdict::Skill,
            Some(Interval { high, .. }) if high < 0.0 => Verdict::WorseThanNaive,
            _ => Verdict::NoSkill,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Skill => "skill: the interval lies above 0",
            Verdict::NoSkill => "no skill shown: the interval includes 0",
            Verdict::WorseThanNaive => "worse than naive: the interval lies below 0",
        })
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.metrics;
        let percent = m.confidence * 100.0;
        writeln!(
            f,
            "{} over {} bars, {} samples, {} to {}",
            self.label.name(),
            self.horizon_bars,
            m.samples,
            self.first,
            self.last
        )?;
        writeln!(f, "{:<16} {:>28} {:>28} {:>28}", "", "model", "ridge", "naive")?;
        for (name, cell) in ROWS {
            writeln!(f, "{name:<16} {:>28} {:>28} {:>28}", cell(&m.model), cell(&m.ridge), cell(&m.naive))?;
        }
        writeln!(f, "always the commoner direction would score {:.4}", m.majority_rate)?;
        writeln!(
            f,
            "{percent} % intervals: moving-block bootstrap, {} resamples, blocks of {} bars, seed {}",
            m.resamples, m.block_steps, m.bootstrap_seed
        )?;
        write!(f, "{}", self.verdict())
    }
}

type Cell = fn(&Scores) -> String;

/// The table's rows.
const ROWS: [(&str, Cell); 8] = [
    ("RMSE", |s| format!("{:.4e}", s.rmse)),
    ("MAE", |s| format!("{:.4e}", s.mae)),
    ("MASE", |s| format!("{:.4}", s.mase)),
    ("skill vs naive", |s| shown(s.skill)),
    ("skill vs ridge", |s| shown(s.skill_vs_ridge)),
    ("direction", |s| shown(s.directional_accuracy)),
    ("IC", |s| shown(s.ic)),
    ("rank IC", |s| shown(s.rank_ic)),
];

fn shown(interval: Option<Interval>) -> String {
    interval.map_or("–".into(), |i| format!("{:.4} [{:.4}, {:.4}]", i.value, i.low, i.high))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EvaluateError {
    Lengths { name: &'static str, expected: usize, found: usize },
    NotFinite { name: &'static str, time: Timestamp },
    Order,
    TooFew { steps: usize, needed: usize },
}

impl fmt::Display for EvaluateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvaluateError::Lengths { name, expected, found } => {
                write!(f, "{found} values of {name} for {expected} samples")
            }
            EvaluateError::NotFinite { name, time } => write!(f, "the {name} value at {time} isn't finite"),
            EvaluateError::Order => write!(f, "the samples aren't in order of time"),
            EvaluateError::TooFew { steps, needed } => write!(
                f,
                "{steps} steps of time are too few to judge by; give a test range of at least {needed}"
            ),
        }
    }
}

impl std::error::Error for EvaluateError {}

#[cfg(test)]
mod tests;
