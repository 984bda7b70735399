//! Forecasts that a model must beat, each fitted on the training part of the same samples.

pub mod dlinear;
pub mod logistic;
pub mod trees;
pub mod volatility;

use crate::dataset::Dataset;

/// The naive forecast moved by its mean error on the training samples: a random walk with drift, and for volatility
/// the last value without its bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    pub mean_error: f64,
}

impl Drift {
    pub fn fit(dataset: &Dataset, train: &[usize]) -> Drift {
        let error = |&i: &usize| dataset.samples[i].label - dataset.samples[i].naive;
        Drift { mean_error: train.iter().map(error).sum::<f64>() / train.len().max(1) as f64 }
    }

    pub fn forecasts(&self, dataset: &Dataset, indices: &[usize]) -> Vec<f64> {
        indices.iter().map(|&i| dataset.samples[i].naive + self.mean_error).collect()
    }
}
