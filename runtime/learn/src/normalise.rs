//! Features and labels to zero mean and unit scale, by constants of the training part alone.

use crate::dataset::{Dataset, Sample};

/// input = clamp((feature − mean) / scale, −clip, clip), per column, in f64 and rounded once.
#[derive(Clone, Debug, PartialEq)]
pub struct Normaliser {
    mean: Vec<f64>,
    scale: Vec<f64>,
    clip: Option<f64>,
}

/// The deviation of a column, as a share of its mean, below which it is constant: f32 can't tell its values apart.
const CONSTANT_SHARE: f64 = 1e-7;

impl Normaliser {
    /// Fits on the rows that the windows of the training samples hold, and no other; each row counts once. A
    /// constant column gets scale 1. `clip` limits what an outlier can do, in deviations; `None` clips nothing.
    pub fn fit(dataset: &Dataset, train: &[usize], clip: Option<f64>) -> Normaliser {
        let rows = training_rows(dataset, train);
        let count = rows.len().max(1) as f64;
        let row = |&(stream, bar): &(usize, usize)| dataset.row(stream, bar);
        let mut mean = vec![0.0; dataset.columns];
        for row in rows.iter().map(row) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut variance = vec![0.0; dataset.columns];
        for row in rows.iter().map(row) {
            for ((sum, &x), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(x) - mean).powi(2);
            }
        }
        let scale =
            variance.iter().zip(&mean).map(|(sum, mean)| deviation_or_one(sum / count, *mean)).collect();
        Normaliser { mean, scale, clip }
    }

    /// Normalises one row in place.
    pub fn apply(&self, row: &mut [f32]) {
        let clip = self.clip.unwrap_or(f64::INFINITY);
        for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
            *x = ((f64::from(*x) - mean) / scale).clamp(-clip, clip) as f32;
        }
    }

    /// From the constants of a checked manifest.
    pub fn from_manifest(constants: &registry::Normaliser) -> Normaliser {
        let registry::Normaliser { clip, mean, scale } = constants.clone();
        Normaliser { mean, scale, clip }
    }

    pub fn to_manifest(&self) -> registry::Normaliser {
        registry::Normaliser { clip: self.clip, mean: self.mean.clone(), scale: self.scale.clone() }
    }
}

/// Mean and deviation of the training labels: output = (label − mean) / scale, prediction = output · scale + mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelScale {
    pub mean: f64,
    pub scale: f64,
}

impl LabelScale {
    pub fn fit(samples: &[Sample], train: &[usize]) -> LabelScale {
        let count = train.len().max(1) as f64;
        let labels = || train.iter().map(|&i| samples[i].label);
        let mean = labels().sum::<f64>() / count;
        let variance = labels().map(|y| (y - mean).powi(2)).sum::<f64>() / count;
        LabelScale { mean, scale: deviation_or_one(variance, mean) }
    }

    pub fn to_output(self, label: f64) -> f64 {
        (label - self.mean) / self.scale
    }

    pub fn to_prediction(self, output: f64) -> f64 {
        output * self.scale + self.mean
    }
}

fn deviation_or_one(variance: f64, mean: f64) -> f64 {
    let deviation = variance.sqrt();
    if deviation > CONSTANT_SHARE * mean.abs() && deviation.is_normal() { deviation } else { 1.0 }
}

/// The (stream, bar) of every row in some training window, in order, each once.
pub(crate) fn training_rows(dataset: &Dataset, train: &[usize]) -> Vec<(usize, usize)> {
    // The first bar of each stream that isn't yet in the list.
    let mut next = vec![0usize; dataset.streams.len()];
    let mut rows = Vec::new();
    for sample in train.iter().map(|&i| &dataset.samples[i]) {
        let first = (sample.end + 1 - dataset.window).max(next[sample.stream]);
        rows.extend((first..=sample.end).map(|bar| (sample.stream, bar)));
        next[sample.stream] = next[sample.stream].max(sample.end + 1);
    }
    rows
}

#[cfg(test)]
mod tests;
