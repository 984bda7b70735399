//! Walk-forward: several folds, each trained on what lies before its test part, and the test parts one after another.
//!
//! ```text
//! expanding   |train        |val|test|            sliding   |train        |val|test|
//!             |train             |val|test|                      |train        |val|test|
//! ```
//!
//! Each fold is a [`Split`] with its purge and embargo: labels of one part end before the next begins, and
//! `embargo_bars` earlier still (López de Prado 2018, chapter 7). Nothing is fitted across folds.

use std::fmt;

use market::{Timeframe, Timestamp};
use serde::{Deserialize, Serialize};

use crate::dataset::Sample;
use crate::split::{Cut, Split, SplitError, SplitRecipe, SplitTimes};

pub const FOLDS_MAX: u32 = 100;
pub const STRIDE_BARS_MAX: u32 = 100_000;

/// What a later fold trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingWindow {
    /// All that lies before.
    Expanding,
    /// As much as the first fold.
    Sliding,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalkForward {
    pub folds: u32,
    pub window: TrainingWindow,
    /// Share of the distinct times that all test parts together take.
    pub test_share: f64,
    /// Share of a fold's times before its test part that early stopping and penalties are picked on.
    pub validation_share: f64,
    /// Beyond the purge.
    pub embargo_bars: u32,
    /// Only samples whose time is a multiple of so many bars; as many as the horizon: labels don't overlap.
    pub stride_bars: u32,
}

impl Default for WalkForward {
    fn default() -> Self {
        WalkForward {
            folds: 4,
            window: TrainingWindow::Expanding,
            test_share: 0.5,
            validation_share: 0.15,
            embargo_bars: 24,
            stride_bars: 1,
        }
    }
}

impl WalkForward {
    /// The first setting that can't be: its key, and what to set it to.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let share = |x: f64| x > 0.0 && x < 1.0;
        let checks = [
            ((1..=FOLDS_MAX).contains(&self.folds), "folds", "1 to 100"),
            (share(self.test_share), "test_share", "between 0 and 1"),
            (share(self.validation_share), "validation_share", "between 0 and 1"),
            ((1..=STRIDE_BARS_MAX).contains(&self.stride_bars), "stride_bars", "1 to 100000"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, key, expected)| (key, expected))
    }

    /// Leaves the samples whose time is a multiple of the stride, the same times for all streams.
    pub fn thin(&self, samples: &mut Vec<Sample>, timeframe: Timeframe) {
        let step = timeframe.nanos().saturating_mul(i64::from(self.stride_bars));
        if self.stride_bars > 1 && timeframe.seconds() < 86_400 {
            samples.retain(|sample| sample.time.0.rem_euclid(step) == 0);
        } else if self.stride_bars > 1 {
            // Markets close on some days, so days are counted as they come.
            let mut times: Vec<Timestamp> = samples.iter().map(|sample| sample.time).collect();
            times.dedup();
            let keep = |time: &Timestamp| {
                times.binary_search(time).is_ok_and(|place| place.is_multiple_of(self.stride_bars as usize))
            };
            samples.retain(|sample| keep(&sample.time));
        }
    }

    /// Cuts samples that are in order of time.
    pub fn splits(&self, samples: &[Sample], timeframe: Timeframe) -> Result<Vec<Split>, WalkForwardError> {
        if let Some((key, expected)) = self.problem() {
            return Err(WalkForwardError::Setting { key, expected });
        }
        let mut times: Vec<Timestamp> = samples.iter().map(|sample| sample.time).collect();
        times.dedup();
        let count = times.len();
        let folds = self.folds as usize;
        let first = (count as f64 * (1.0 - self.test_share)).round() as usize;
        if first < 2 || count < first + folds {
            return Err(WalkForwardError::TooFew { times: count, folds: self.folds });
        }
        let end = |fold: usize| first + (count - first) * fold / folds;
        let until = Timestamp(times[count - 1].0.saturating_add(1));
        let at = |place: usize| times.get(place).copied().unwrap_or(until);
        (0..folds)
            .map(|fold| {
                let test = end(fold);
                let begin = match self.window {
                    TrainingWindow::Expanding => 0,
                    TrainingWindow::Sliding => test - first,
                };
                let before = ((test - begin) as f64 * self.validation_share).round() as usize;
                let validation = test - before.clamp(1, test - begin - 1);
                let times = SplitTimes {
                    train: at(begin),
                    validation: at(validation),
                    test: at(test),
                    until: at(end(fold + 1)),
                };
                let recipe = SplitRecipe { cut: Cut::Times(times), embargo_bars: self.embargo_bars };
                recipe
                    .split(samples, timeframe)
                    .map_err(|error| WalkForwardError::Fold { fold: fold as u32 + 1, error })
            })
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum WalkForwardError {
    Setting {
        key: &'static str,
        expected: &'static str,
    },
    TooFew {
        times: usize,
        folds: u32,
    },
    /// From 1.
    Fold {
        fold: u32,
        error: SplitError,
    },
}

impl fmt::Display for WalkForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkForwardError::Setting { key, expected } => {
                write!(f, "walk-forward setting {key} can't be used; set it to {expected}")
            }
            WalkForwardError::TooFew { times, folds } => write!(
                f,
                "{times} distinct times can't be cut into {folds} folds; give more bars, fewer folds or a shorter stride"
            ),
            WalkForwardError::Fold { fold, error } => write!(f, "fold {fold}: {error}"),
        }
    }
}

impl std::error::Error for WalkForwardError {}

#[cfg(test)]
mod tests;
