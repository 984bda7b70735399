//! Moving-block bootstrap: how far a statistic of a time series would move had the series gone otherwise.
//!
//! Künsch 1989: blocks of consecutive steps are drawn with replacement and joined to a series of the same length,
//! so that what neighbours share (overlapping labels, bursts of volatility) stays together. All samples of one time
//! are one step, so symbols that move together do so in each resample. A statistic is a function of sums, so a
//! resample costs one subtraction of prefix sums per block. Intervals are percentiles.

use registry::Interval;
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSettings {
    pub seed: u64,
    pub resamples: u32,
    /// Nominal coverage, between 0 and 1.
    pub confidence: f64,
}

impl Default for BootstrapSettings {
    fn default() -> Self {
        BootstrapSettings { seed: 1, resamples: 1000, confidence: 0.95 }
    }
}

/// The block length for labels over `horizon` steps: long enough for the overlap, and n^(1/3) at least.
pub fn block_steps(steps: usize, horizon: usize) -> usize {
    horizon.max((steps as f64).cbrt().ceil() as usize).max(1)
}

/// The sums of K quantities over the steps, and over each resample of the steps.
pub struct Resampled<const K: usize> {
    pub whole: [f64; K],
    pub resamples: Vec<[f64; K]>,
    confidence: f64,
}

impl<const K: usize> Resampled<K> {
    /// Draws blocks of `block` steps, at most the number of steps.
    pub fn draw(steps: &[[f64; K]], block: usize, settings: &BootstrapSettings) -> Self {
        let mut prefix = Vec::with_capacity(steps.len() + 1);
        prefix.push([0.0; K]);
        for step in steps {
            let last = &prefix[prefix.len() - 1];
            prefix.push(std::array::from_fn(|k| last[k] + step[k]));
        }
        let block = block.clamp(1, steps.len().max(1));
        let resample = |index| {
            let mut random = Random::derived(settings.seed, index);
            let mut sums = [0.0; K];
            let mut left = steps.len();
            while left > 0 {
                let start = random.below(steps.len() - block + 1);
                let end = start + block.min(left);
                sums.iter_mut().enumerate().for_each(|(k, sum)| *sum += prefix[end][k] - prefix[start][k]);
                left -= end - start;
            }
            sums
        };
        let resamples = (0..u64::from(settings.resamples)).map(resample).collect();
        Resampled { whole: prefix[steps.len()], resamples, confidence: settings.confidence }
    }

    /// The statistic and its percentile interval; `None` where it isn't defined on the whole series. Resamples in
    /// which it isn't defined are left out, unless that leaves fewer than half.
    pub fn interval(&self, statistic: impl Fn(&[f64; K]) -> Option<f64>) -> Option<Interval> {
        let value = statistic(&self.whole)?;
        let mut values: Vec<f64> = self.resamples.iter().filter_map(statistic).collect();
        if values.is_empty() || 2 * values.len() < self.resamples.len() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        let low = percentile(&values, tail);
        let high = percentile(&values, 1.0 - tail);
        Some(Interval { value, low, high })
    }
}

/// Of sorted values, interpolated linearly.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::autoregressive;

    fn mean(sums: &[f64; 2]) -> Option<f64> {
        Some(sums[0] / sums[1])
    }

    fn interval_of_mean(series: &[f64], block: usize, seed: u64) -> Interval {
        let steps: Vec<[f64; 2]> = series.iter().map(|&x| [x, 1.0]).collect();
        let settings = BootstrapSettings { seed, resamples: 400, confidence: 0.95 };
        Resampled::draw(&steps, block, &settings).interval(mean).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_does_not() {
        let series = autoregressive(300, 0.0, 1);
        let bits = |seed| {
            let i = interval_of_mean(&series, 7, seed);
            [i.value, i.low, i.high].map(f64::to_bits)
        };
        assert_eq!(bits(1), bits(1));
        assert_ne!(bits(1), bits(2));
    }

    #[test]
    fn every_resample_has_the_series_length() {
        let steps = vec![[1.0, 1.0]; 103];
        let drawn = Resampled::draw(&steps, 10, &BootstrapSettings::default());
        assert_eq!(drawn.resamples.len(), 1000);
        assert!(drawn.resamples.iter().all(|sums| (sums[1] - 103.0).abs() < 1e-9));
    }

    /// The true mean is 0. Nominal 95 %; a percentile interval of dependent data covers a little less.
    #[test]
    fn intervals_cover_the_truth_about_as_often_as_they_say() {
        let cover = |phi: f64, block: usize| {
            let inside = (0..200u64).filter(|&seed| {
                let interval = interval_of_mean(&autoregressive(500, phi, 1000 + seed), block, seed);
                interval.low <= 0.0 && 0.0 <= interval.high
            });
            inside.count() as f64 / 200.0
        };
        let independent = cover(0.0, block_steps(500, 1));
        assert!((0.89..=0.99).contains(&independent), "{independent}");
        let dependent = cover(0.5, 20);
        assert!((0.84..=0.99).contains(&dependent), "{dependent}");
        // Single steps break up what neighbours share, and so claim too much: the blocks matter.
        let broken = cover(0.5, 1);
        assert!(broken < dependent - 0.05, "{broken} {dependent}");
    }

    #[test]
    fn block_length_covers_the_label_and_grows_with_the_series() {
        assert_eq!(block_steps(1000, 1), 10);
        assert_eq!(block_steps(1000, 24), 24);
        assert_eq!(block_steps(0, 0), 1);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(percentile(&[5.0], 0.3), 5.0);
    }
}
