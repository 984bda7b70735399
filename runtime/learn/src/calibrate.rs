//! Fits what a manifest keeps for intervals and confidence, on the calibration part, and measures both on the test
//! part.
//!
//! The calibration part is the end of the validation period; neither training nor early stopping sees it, and purge
//! and embargo stand on both sides. So its scores are as large as those of new data but for what time changes: drift,
//! and the overlap of labels longer than a bar, which leaves fewer independent scores than there are. The adaptive
//! interval makes up for the first, and the measured figures show what is left.

use std::collections::VecDeque;
use std::fmt;

use graph::{Executor, Graph};
use registry::{Calibration, LabelKind, Reliability, ReliabilityBin};

use crate::confidence;
use crate::conformal::{Tracker, scores_min, split_quantile};
use crate::dataset::Dataset;
use crate::fit::Prepared;
use crate::predict::{PredictError, Predictor};
use crate::reading::Reading;

/// Windows in one run of the model.
const BATCH: usize = 256;
/// Fewer samples calibrate nothing.
pub const SAMPLES_MIN: usize = 30;
/// Lines of the reliability table.
const BINS: usize = 10;

/// A forecast's values and what came.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Which stream of the data.
    pub stream: usize,
    pub values: Vec<f32>,
    pub realised: f64,
}

/// The model's values on these samples, in their order.
pub fn outcomes(
    reading: &Reading,
    dataset: &Dataset,
    samples: &[usize],
    model: &Graph,
    executor: &dyn Executor,
) -> Result<Vec<Outcome>, PredictError> {
    let mut predictor = Predictor::new(executor, model, dataset, samples.len().clamp(1, BATCH))?;
    let outputs = predictor.outputs(dataset, samples)?;
    let rows = outputs.chunks(predictor.width()).zip(samples.iter().map(|&i| &dataset.samples[i]));
    let outcome = |(row, sample): (&[f64], &crate::dataset::Sample)| {
        let outputs: Vec<f32> = row.iter().map(|&x| x as f32).collect();
        Outcome { stream: sample.stream, values: reading.values(&outputs), realised: sample.label }
    };
    Ok(rows.map(outcome).collect())
}

/// Calibrates a trained model. `None`: the recipe sets no part apart.
pub fn calibrate(
    prepared: &Prepared,
    model: &Graph,
    executor: &dyn Executor,
) -> Result<Option<Calibration>, CalibrateError> {
    let Some(part) = &prepared.calibration else { return Ok(None) };
    let reading = prepared.reading();
    let on = |samples: &[usize]| outcomes(&reading, &prepared.dataset, samples, model, executor);
    let fitted_on = on(&part.samples).map_err(CalibrateError::Predict)?;
    let tested_on = on(&prepared.split.test).map_err(CalibrateError::Predict)?;
    let mut calibration = fit(&reading, prepared.output.interval_level, &fitted_on)?;
    calibration.test = reliability(&reading, &calibration, &tested_on);
    Ok(Some(calibration))
}

/// Everything but the test part's figures, which are those of the same samples until they are measured.
pub fn fit(reading: &Reading, level: f64, outcomes: &[Outcome]) -> Result<Calibration, CalibrateError> {
    let needed = scores_min(level).max(SAMPLES_MIN);
    let scores: Vec<f64> = outcomes.iter().map(|o| reading.score(&o.values, o.realised)).collect();
    let too_few = CalibrateError::TooFew { samples: scores.len(), needed };
    if scores.len() < needed {
        return Err(too_few);
    }
    let (Some(quantile), Some(median)) = (split_quantile(&scores, level), split_quantile(&scores, 0.5))
    else {
        return Err(too_few);
    };
    let apart = (quantile - median).abs();
    let step = if apart > 1e-9 * quantile.abs() { apart } else { quantile.abs().max(1e-9) };
    let sureness: Vec<f64> = outcomes.iter().map(|o| reading.sureness(&o.values)).collect();
    let right: Vec<bool> = outcomes.iter().map(|o| reading.is_right(&o.values, o.realised)).collect();
    if !(quantile.is_finite() && step.is_finite() && sureness.iter().all(|x| x.is_finite())) {
        return Err(CalibrateError::NotFinite);
    }
    let overlap = reading.label.horizon_bars;
    let is_volatility = reading.label.kind == LabelKind::RealisedVolatility;
    let mut calibration = Calibration {
        level,
        samples: scores.len() as u64,
        quantile,
        step,
        floor: reading.floor,
        factor: is_volatility.then_some(reading.factor),
        confidence: confidence::fit(&sureness, &right, overlap, reading.sureness_may_fall()),
        source: None,
        test: Reliability {
            samples: 1,
            coverage: 0.0,
            coverage_adaptive: 0.0,
            width: 0.0,
            width_adaptive: 0.0,
            confidence: 0.0,
            right: 0.0,
            brier: 0.0,
            calibration_error: 0.0,
            bins: Vec::new(),
        },
    };
    calibration.test = reliability(reading, &calibration, outcomes);
    Ok(calibration)
}

/// How interval and confidence do on outcomes in order of time. The adaptive interval of a bar has learnt from the
/// outcomes that were due at earlier bars of its stream, as serving does it.
pub fn reliability(reading: &Reading, calibration: &Calibration, outcomes: &[Outcome]) -> Reliability {
    let count = outcomes.len().max(1) as f64;
    let streams = outcomes.iter().map(|o| o.stream + 1).max().unwrap_or(0);
    let mut trackers = vec![(Tracker::new(calibration.quantile, calibration.step), VecDeque::new()); streams];
    let mut sums = [0.0; 4];
    for outcome in outcomes {
        let (tracker, waiting) = &mut trackers[outcome.stream];
        let intervals =
            [calibration.quantile, tracker.quantile()].map(|q| reading.interval(&outcome.values, q));
        for (i, (low, high)) in intervals.into_iter().enumerate() {
            sums[2 * i] += if low <= outcome.realised && outcome.realised <= high { 1.0 } else { 0.0 };
            sums[2 * i + 1] += high - low;
        }
        waiting.push_back(reading.score(&outcome.values, outcome.realised));
        if waiting.len() > reading.label.horizon_bars as usize
            && let Some(score) = waiting.pop_front()
        {
            tracker.observe(score, calibration.level, reading.label.horizon_bars);
        }
    }
    let mut judged: Vec<(f64, f64)> = outcomes
        .iter()
        .map(|o| {
            let right = if reading.is_right(&o.values, o.realised) { 1.0 } else { 0.0 };
            (reading.confidence(calibration, &o.values), right)
        })
        .collect();
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| judged.iter().map(of).sum::<f64>() / count;
    let (confidence, right) = (mean(&|(c, _)| *c), mean(&|(_, r)| *r));
    let brier = mean(&|(c, r)| (c - r).powi(2));
    judged.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins = bins(&judged);
    let apart = |b: &ReliabilityBin| (b.confidence - b.right).abs() * b.samples as f64;
    Reliability {
        samples: outcomes.len() as u64,
        coverage: sums[0] / count,
        coverage_adaptive: sums[2] / count,
        width: sums[1] / count,
        width_adaptive: sums[3] / count,
        confidence,
        right,
        brier,
        calibration_error: bins.iter().map(apart).sum::<f64>() / count,
        bins,
    }
}

/// Equal counts of pairs that are sorted by confidence.
fn bins(judged: &[(f64, f64)]) -> Vec<ReliabilityBin> {
    let size = judged.len().div_ceil(BINS).max(1);
    let bin = |pairs: &[(f64, f64)]| {
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        ReliabilityBin { confidence: mean(|p| p.0), right: mean(|p| p.1), samples: pairs.len() as u64 }
    };
    judged.chunks(size).map(bin).collect()
}

/// Why a model has no calibration.
#[derive(Clone, Debug, PartialEq)]
pub enum CalibrateError {
    Predict(PredictError),
    TooFew { samples: usize, needed: usize },
    NotFinite,
}

impl fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CalibrateError::Predict(e) => write!(f, "{e}"),
            CalibrateError::TooFew { samples, needed } => write!(
                f,
                "{samples} samples are too few to calibrate on and {needed} are needed; give more bars, a larger calibration share, a lower interval level, or a calibration share of 0 for a model without intervals"
            ),
            CalibrateError::NotFinite => {
                write!(f, "a score on the calibration part isn't finite; look at the labels there")
            }
        }
    }
}

impl std::error::Error for CalibrateError {}

#[cfg(test)]
mod tests;
