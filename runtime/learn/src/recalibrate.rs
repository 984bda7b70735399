//! Calibrates a model that is there already, on bars that it wasn't trained on: an imported one, one from before there
//! was calibration, or one whose market has changed.
//!
//! Samples are in order of time: the first are fitted on, the rest, behind purge and embargo, are measured on. Which
//! samples training has seen is known from the manifest: all that touch the time from its training part's first sample
//! to its test part's first, of any symbol, since markets move together.

use std::fmt;

use market::Timestamp;
use registry::{Calibration, Manifest};

use crate::calibrate::{self, CalibrateError, Outcome, SAMPLES_MIN};
use crate::dataset::{Dataset, Sample};
use crate::label::LabelRecipe;
use crate::normalise::LabelScale;
use crate::reading::Reading;
use crate::recipe::{RecipeError, manifest_time};

/// Windows in one call of the model.
const BATCH: usize = 256;

/// What becomes of samples that training or early stopping has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Refuse,
    LeaveOut,
    Use,
}

/// Which samples are used, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartsRecipe {
    /// Samples whose newest bar opens at or after `from` and before `until`.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The share of the samples' times, at their end, that is measured on.
    pub test_share: f64,
    /// Beyond the purge.
    pub embargo_bars: u32,
    pub seen: Seen,
}

/// Indices of samples, rising in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    pub fit: Vec<usize>,
    pub test: Vec<usize>,
    /// Samples among them, and left out, that training has seen; always 0 where that isn't known.
    pub seen_used: usize,
    pub seen_left_out: usize,
}

/// Training has seen what lies from here to there, the end left out. `None`: the model was imported, and it isn't known.
pub fn seen_by(manifest: &Manifest) -> Result<Option<(Timestamp, Timestamp)>, RecipeError> {
    if manifest.is_foreign() {
        return Ok(None);
    }
    let from = manifest_time("data.train.from", &manifest.data.train.from)?;
    let until = manifest_time("data.test.from", &manifest.data.test.from)?;
    Ok(Some((from, until)))
}

impl PartsRecipe {
    pub fn cut(
        &self,
        dataset: &Dataset,
        seen: Option<(Timestamp, Timestamp)>,
    ) -> Result<Parts, RecalibrateError> {
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            return Err(RecalibrateError::TestShare(self.test_share));
        }
        let samples = &dataset.samples;
        let is_seen = |s: &Sample| seen.is_some_and(|(from, until)| s.time < until && s.label_until >= from);
        let asked = |s: &Sample| {
            self.from.is_none_or(|from| s.time >= from) && self.until.is_none_or(|until| s.time < until)
        };
        let mut used: Vec<usize> = (0..samples.len()).filter(|&i| asked(&samples[i])).collect();
        let count = used.iter().filter(|&&i| is_seen(&samples[i])).count();
        if let (Some((from, until)), Seen::Refuse, 1..) = (seen, self.seen, count) {
            return Err(RecalibrateError::Overlap { seen: count, of: used.len(), from, until });
        }
        if self.seen == Seen::LeaveOut {
            used.retain(|&i| !is_seen(&samples[i]));
        }
        let mut times: Vec<Timestamp> = used.iter().map(|&i| samples[i].time).collect();
        times.dedup();
        let first = (times.len() as f64 * (1.0 - self.test_share)).round() as usize;
        let Some(&begin) = times.get(first) else {
            return Err(RecalibrateError::TooFew { part: "measure on", samples: 0 });
        };
        let embargo = dataset.timeframe.nanos().saturating_mul(i64::from(self.embargo_bars));
        let (before, test): (Vec<usize>, Vec<usize>) = used.iter().partition(|&&i| samples[i].time < begin);
        let stays = |&i: &usize| samples[i].label_until.0.saturating_add(embargo) < begin.0;
        let fit: Vec<usize> = before.into_iter().filter(stays).collect();
        for (part, indices) in [("fit on", &fit), ("measure on", &test)] {
            if indices.len() < SAMPLES_MIN {
                return Err(RecalibrateError::TooFew { part, samples: indices.len() });
            }
        }
        let left_out = if self.seen == Seen::LeaveOut { count } else { 0 };
        let seen_used = fit.iter().chain(&test).filter(|&&i| is_seen(&samples[i])).count();
        Ok(Parts { fit, test, seen_used, seen_left_out: left_out })
    }
}

/// How the model's outputs are read with an interval of this level and a confidence of this factor. `dataset`: of an
/// imported model, whose constants needn't be a label's mean and deviation, small volatilities are told by its labels.
pub fn reading(manifest: &Manifest, level: f64, factor: f64, dataset: &Dataset) -> Reading {
    let label = LabelRecipe::from_manifest(&manifest.label);
    let scale = LabelScale { mean: manifest.label.mean, scale: manifest.label.scale };
    let reading = Reading::new(label, manifest.output.clone(), scale, level, factor);
    if !manifest.is_foreign() {
        return reading;
    }
    let count = dataset.samples.len().max(1) as f64;
    reading.with_mean_label(dataset.samples.iter().map(|sample| sample.label).sum::<f64>() / count)
}

/// What runs windows, end to end, and appends the outputs of each.
pub type Run<'a> = dyn FnMut(&[f32], &mut Vec<f32>) -> Result<(), String> + 'a;

/// The values of a served model, which may be no graph of ours, on these samples.
pub fn outcomes(
    reading: &Reading,
    dataset: &Dataset,
    samples: &[usize],
    run: &mut Run,
) -> Result<Vec<Outcome>, RecalibrateError> {
    let mut found = Vec::with_capacity(samples.len());
    let (mut windows, mut outputs) = (Vec::new(), Vec::new());
    for chunk in samples.chunks(BATCH) {
        windows.clear();
        outputs.clear();
        chunk.iter().for_each(|&i| windows.extend_from_slice(dataset.window_of(&dataset.samples[i])));
        run(&windows, &mut outputs).map_err(RecalibrateError::Run)?;
        let width = outputs.len() / chunk.len();
        if width == 0 || outputs.len() != width * chunk.len() {
            let counts = format!("it gave {} numbers for {} windows", outputs.len(), chunk.len());
            return Err(RecalibrateError::Run(counts));
        }
        for (row, sample) in outputs.chunks(width).zip(chunk.iter().map(|&i| &dataset.samples[i])) {
            let values = reading.values(row);
            if values.iter().any(|x| !x.is_finite()) {
                return Err(RecalibrateError::NotFinite { time: sample.time });
            }
            found.push(Outcome { stream: sample.stream, values, realised: sample.label });
        }
    }
    Ok(found)
}

/// Fitted on the one part, measured on the other.
pub fn calibrate(
    reading: &Reading,
    level: f64,
    fitted_on: &[Outcome],
    tested_on: &[Outcome],
) -> Result<Calibration, RecalibrateError> {
    let mut calibration = calibrate::fit(reading, level, fitted_on).map_err(RecalibrateError::Fit)?;
    calibration.test = calibrate::reliability(reading, &calibration, tested_on);
    Ok(calibration)
}

/// Why a model isn't calibrated.
#[derive(Clone, Debug, PartialEq)]
pub enum RecalibrateError {
    TestShare(f64),
    Overlap { seen: usize, of: usize, from: Timestamp, until: Timestamp },
    TooFew { part: &'static str, samples: usize },
    Run(String),
    NotFinite { time: Timestamp },
    Fit(CalibrateError),
}

impl fmt::Display for RecalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecalibrateError::TestShare(share) => {
                write!(f, "a test share of {share} leaves a part empty; set it between 0 and 1")
            }
            RecalibrateError::Overlap { seen, of, from, until } => write!(
                f,
                "{seen} of {of} samples lie in what the model was trained and stopped on ({from} to {until}), where its errors are too small: leave them out with --held-out, give later bars, or say --allow-overlap, which the manifest keeps"
            ),
            RecalibrateError::TooFew { part, samples } => write!(
                f,
                "{samples} samples are too few to {part} and {SAMPLES_MIN} are needed; give more bars, another test share, or a shorter embargo"
            ),
            RecalibrateError::Run(e) => write!(f, "the model failed on the bars: {e}"),
            RecalibrateError::NotFinite { time } => write!(
                f,
                "the model gives what isn't a number on the window that ends at {time}: it can't be calibrated, nor relied on"
            ),
            RecalibrateError::Fit(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for RecalibrateError {}

#[cfg(test)]
mod tests;
