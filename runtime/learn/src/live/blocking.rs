//! Mean, variance and long-run variance of a series whose values depend on each other, in memory of log n.
//!
//! The long-run variance V is what n · Var(mean of n) tends to: γ₀ + 2 Σ γₖ. Neighbours are joined in pairs, the pairs in
//! pairs, and so on (Flyvbjerg and Petersen 1989, "Error estimates on averages of correlated data"): at level j the
//! means of 2ʲ values have a variance whose 2ʲ-fold rises to V as they grow longer than the dependence, sooner with twice
//! the covariance of neighbours added where that is positive. V is taken as the greatest over the levels that still have
//! enough means, so it errs to the safe side.

use serde::{Deserialize, Serialize};

/// 2⁴⁰ values are more than any series has.
const LEVELS_MAX: usize = 40;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocking {
    /// The first value: sums are of distances from it, so that a large mean costs no digits.
    origin: f64,
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    count: u64,
    sum: f64,
    squares: f64,
    /// Of neighbours.
    products: f64,
    first: f64,
    last: f64,
    /// Waits for its neighbour.
    held: Option<f64>,
}

impl Level {
    fn add(&mut self, x: f64) -> Option<f64> {
        if self.count == 0 {
            self.first = x;
        } else {
            self.products += self.last * x;
        }
        self.count += 1;
        self.sum += x;
        self.squares += x * x;
        self.last = x;
        match self.held.take() {
            Some(before) => Some((before + x) / 2.0),
            None => {
                self.held = Some(x);
                None
            }
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn variance(&self) -> f64 {
        let n = self.count as f64;
        if self.count < 2 { 0.0 } else { ((self.squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0) }
    }

    /// Σ (xᵢ − m)(xᵢ₊₁ − m) / n.
    fn covariance(&self) -> f64 {
        let (n, m) = (self.count as f64, self.mean());
        if self.count < 2 {
            return 0.0;
        }
        (self.products - m * (2.0 * self.sum - self.first - self.last) + (n - 1.0) * m * m) / n
    }
}

impl Blocking {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut blocking = Blocking::default();
        values.into_iter().for_each(|x| blocking.push(x));
        blocking
    }

    pub fn push(&mut self, x: f64) {
        if self.levels.is_empty() {
            self.origin = x;
        }
        let mut joined = Some(x - self.origin);
        for level in 0..LEVELS_MAX {
            let Some(value) = joined else { return };
            if level == self.levels.len() {
                self.levels.push(Level::default());
            }
            joined = self.levels[level].add(value);
        }
    }

    pub fn count(&self) -> u64 {
        self.levels.first().map_or(0, |level| level.count)
    }

    /// 0 of none.
    pub fn mean(&self) -> f64 {
        self.levels.first().map_or(0.0, |level| self.origin + level.mean())
    }

    /// Of single values; 0 of fewer than two.
    pub fn variance(&self) -> f64 {
        self.levels.first().map_or(0.0, Level::variance)
    }

    /// V, from levels with `count_min` means or more (the lowest in any case).
    pub fn long_run_variance(&self, count_min: u64) -> f64 {
        let near = |level: &Level| level.variance() + 2.0 * level.covariance().max(0.0);
        let long = self.levels.iter().enumerate().filter(|(j, level)| *j == 0 || level.count >= count_min);
        long.map(|(j, level)| (1u64 << j) as f64 * near(level)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::autoregressive;

    #[test]
    fn moments_are_those_of_two_passes() {
        let values: Vec<f64> = (0..101).map(|i| 1e6 + f64::from(i * 37 % 101)).collect();
        let blocking = Blocking::of(values.iter().copied());
        let mean = values.iter().sum::<f64>() / 101.0;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 100.0;
        let covariance = values.windows(2).map(|p| (p[0] - mean) * (p[1] - mean)).sum::<f64>() / 101.0;
        assert_eq!(blocking.count(), 101);
        assert!((blocking.mean() - mean).abs() < 1e-6 && (blocking.variance() - variance).abs() < 1e-6);
        assert!((blocking.levels[0].covariance() - covariance).abs() < 1e-6);
        assert_eq!(Blocking::default().long_run_variance(30), 0.0);
    }

    /// Of a first-order autoregression: variance · (1 + φ) / (1 − φ).
    #[test]
    fn the_long_run_variance_is_that_of_the_process() {
        for (phi, tolerance) in [(0.0, 0.6), (0.5, 0.6), (0.9, 0.6)] {
            let expected = (1.0 + phi) / (1.0 - phi);
            let mut ratios = 0.0;
            for seed in 0..20 {
                let values = autoregressive(20_000, phi, seed);
                let blocking = Blocking::of(values.iter().copied());
                ratios += blocking.long_run_variance(30) / blocking.variance() / expected / 20.0;
            }
            assert!((1.0..1.0 + tolerance).contains(&ratios), "{phi}: {ratios}");
        }
    }

    #[test]
    fn stored_state_goes_on_to_the_same_bits() {
        let values = autoregressive(500, 0.3, 1);
        let mut whole = Blocking::of(values[..200].iter().copied());
        let mut again: Blocking = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
        for &x in &values[200..] {
            whole.push(x);
            again.push(x);
        }
        assert_eq!(whole, again);
    }
}
