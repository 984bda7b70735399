//! How a model did on its held-out range, beside its baselines.

use serde::{Deserialize, Serialize};

/// A statistic and its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// One forecaster's row of the table. What isn't defined for it is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// In the label's unit.
    pub rmse: f64,
    /// In the label's unit.
    pub mae: f64,
    /// MAE over the naive forecast's MAE on the training range (Hyndman and Koehler 2006).
    pub mase: f64,
    /// 1 − MSE / MSE of the naive forecast. Above 0 is better than naive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill: Option<Interval>,
    /// 1 − MSE / MSE of the ridge regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill_vs_ridge: Option<Interval>,
    /// Share of samples where forecast and label lie on the same side of the naive forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directional_accuracy: Option<Interval>,
    /// Pearson correlation of forecast and label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ic: Option<Interval>,
    /// Spearman correlation of forecast and label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_ic: Option<Interval>,
}

/// The table, and how its intervals were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub samples: u64,
    /// The intervals' nominal coverage, such as 0.95.
    pub confidence: f64,
    /// Moving-block bootstrap: block length in steps of time, resamples, seed.
    pub block_steps: u64,
    pub resamples: u32,
    pub bootstrap_seed: u64,
    /// Share of the commoner direction: what always guessing it would score.
    pub majority_rate: f64,
    /// The ridge regression's penalty, picked on the validation range.
    pub ridge_lambda: f64,
    pub model: Scores,
    pub naive: Scores,
    pub ridge: Scores,
}
