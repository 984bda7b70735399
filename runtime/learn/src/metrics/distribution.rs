//! Distributions around forecasts: the residuals of the validation part, or quantiles that the model gives itself.
//!
//! A forecast f with the sorted residuals r₁ … rₘ of the validation part stands for the distribution with equal mass
//! at f + rᵢ. Its CRPS is (2/m) Σᵢ pinball((i − ½)/m, y, f + rᵢ), which is exact for such a distribution (Zamo and
//! Naveau 2018, equation 3, rearranged; Gneiting and Raftery 2007).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::loss::pinball;

/// Points that stand for a distribution.
pub const POINTS: usize = 99;
/// The central intervals whose coverage is reported.
pub const CENTRAL: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// The quantiles whose pinball loss is reported as one mean.
pub const QUANTILES: [f64; 3] = [0.05, 0.5, 0.95];

/// The level of point `i` of [`POINTS`]: (i + ½) / POINTS.
pub fn level(i: usize) -> f64 {
    (i as f64 + 0.5) / POINTS as f64
}

/// The CRPS of a label under [`POINTS`] points of equal mass.
pub fn crps(label: f64, points: impl Fn(usize) -> f64) -> f64 {
    2.0 * (0..POINTS).map(|i| pinball(level(i), label, points(i))).sum::<f64>() / POINTS as f64
}

/// The [`POINTS`] points of a distribution whose quantiles at some levels are given, both rising: between two levels, and
/// beyond the outermost ones, as a normal distribution goes through both (linear in its scores). `None`: fewer than two.
pub fn points_between(levels: &[f64], values: &[f64]) -> Option<Vec<f64>> {
    if levels.len() < 2 || levels.len() != values.len() {
        return None;
    }
    let normal = Normal::standard();
    let scores: Vec<f64> = levels.iter().map(|&q| normal.inverse_cdf(q)).collect();
    let point = |i: usize| {
        let z = normal.inverse_cdf(level(i));
        let above = scores.partition_point(|&s| s < z).clamp(1, scores.len() - 1);
        let (low, high) = (above - 1, above);
        let share = (z - scores[low]) / (scores[high] - scores[low]);
        values[low] + (values[high] - values[low]) * share
    };
    Some((0..POINTS).map(point).collect())
}

/// [`POINTS`] quantiles of the values, interpolated; all 0 where there are none.
pub fn points_of(values: &mut [f64]) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    (0..POINTS).map(|i| quantile(values, level(i))).collect()
}

/// Of sorted values, with the value of rank i (from 0) of n at level (i + ½) / n.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = (level * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// How well the distributions of one forecaster fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionScores {
    /// Mean, in the label's unit.
    pub crps: f64,
    /// Mean over the quantiles 0.05, 0.5 and 0.95, in the label's unit.
    pub pinball: f64,
    /// Share of labels in the central intervals of nominal 10 % to 90 %.
    pub coverage: Vec<f64>,
    /// Share of labels in each tenth of the forecast distribution: a tenth each where it is calibrated.
    pub pit: Vec<f64>,
}

/// Sums over samples.
#[derive(Clone, Debug)]
pub struct Gathered {
    count: f64,
    crps: f64,
    pinball: f64,
    inside: [f64; CENTRAL.len()],
    pit: [f64; 10],
}

impl Default for Gathered {
    fn default() -> Self {
        Gathered { count: 0.0, crps: 0.0, pinball: 0.0, inside: [0.0; CENTRAL.len()], pit: [0.0; 10] }
    }
}

impl Gathered {
    /// Adds a label and the [`POINTS`] rising points of its forecast distribution.
    pub fn add(&mut self, label: f64, points: impl Fn(usize) -> f64) {
        self.count += 1.0;
        self.crps += crps(label, &points);
        // Points stand at (i + ½) / 99: the 5th, the 50th and the 95th are nearest.
        let at = |q: f64| points(((q * POINTS as f64 - 0.5).round() as usize).min(POINTS - 1));
        self.pinball +=
            QUANTILES.iter().map(|&q| pinball(q, label, at(q))).sum::<f64>() / QUANTILES.len() as f64;
        let below = (0..POINTS).filter(|&i| points(i) < label).count();
        let equal = (0..POINTS).filter(|&i| points(i) == label).count();
        let share = (below as f64 + 0.5 * equal as f64) / POINTS as f64;
        for (inside, central) in self.inside.iter_mut().zip(CENTRAL) {
            *inside += f64::from(u8::from((share - 0.5).abs() <= central / 2.0));
        }
        self.pit[((share * 10.0) as usize).min(9)] += 1.0;
    }

    /// `None` where nothing was added.
    pub fn scores(&self) -> Option<DistributionScores> {
        let n = self.count;
        let shares = |sums: &[f64]| sums.iter().map(|sum| sum / n).collect();
        (n > 0.0).then(|| DistributionScores {
            crps: self.crps / n,
            pinball: self.pinball / n,
            coverage: shares(&self.inside),
            pit: shares(&self.pit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// mean |X − y| − ½ mean |X − X'|: the definition for equal masses.
    #[test]
    fn crps_is_its_definition() {
        let mut random = Random::new(4);
        let mut draws: Vec<f64> = (0..500).map(|_| random.normal()).collect();
        let points = points_of(&mut draws);
        for label in [-2.0, 0.3, 5.0] {
            let mut gathered = Gathered::default();
            gathered.add(label, |i| points[i]);
            let m = POINTS as f64;
            let near = points.iter().map(|x| (x - label).abs()).sum::<f64>() / m;
            let spread: f64 = points.iter().map(|a| points.iter().map(|b| (a - b).abs()).sum::<f64>()).sum();
            let expected = near - spread / (2.0 * m * m);
            assert!((gathered.scores().unwrap().crps - expected).abs() < 1e-12);
        }
        // One point of mass: the absolute error.
        let mut gathered = Gathered::default();
        gathered.add(3.0, |_| 1.0);
        assert!((gathered.scores().unwrap().crps - 2.0).abs() < 1e-12);
    }

    /// A standard normal forecast of a standard normal label: E CRPS = 1/√π (Gneiting and Raftery 2007).
    #[test]
    fn a_true_distribution_is_calibrated_and_has_the_known_score() {
        let mut random = Random::new(5);
        let mut draws: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let points = points_of(&mut draws);
        let mut gathered = Gathered::default();
        (0..20_000).for_each(|_| gathered.add(random.normal(), |i| points[i]));
        let scores = gathered.scores().unwrap();
        assert!((scores.crps - 1.0 / std::f64::consts::PI.sqrt()).abs() < 0.01, "{}", scores.crps);
        for (found, nominal) in scores.coverage.iter().zip(CENTRAL) {
            assert!((found - nominal).abs() < 0.02, "{found} {nominal}");
        }
        assert!(scores.pit.iter().all(|share| (share - 0.1).abs() < 0.02), "{:?}", scores.pit);
        // Too narrow a distribution shows.
        let mut narrow = Gathered::default();
        (0..5_000).for_each(|_| narrow.add(random.normal(), |i| 0.5 * points[i]));
        assert!(narrow.scores().unwrap().coverage[8] < 0.65);
    }

    /// Of a normal distribution any two quantiles give all others, the tails too.
    #[test]
    fn quantiles_become_points_through_their_normal_scores() {
        let normal = Normal::new(2.0, 3.0).unwrap();
        let levels = [0.05, 0.5, 0.9];
        let values: Vec<f64> = levels.iter().map(|&q| normal.inverse_cdf(q)).collect();
        let points = points_between(&levels, &values).unwrap();
        for (i, point) in points.iter().enumerate() {
            assert!((point - normal.inverse_cdf(level(i))).abs() < 1e-6, "{i}: {point}");
        }
        let bent = points_between(&levels, &[0.0, 1.0, 9.0]).unwrap();
        assert!(bent.is_sorted() && (bent[49] - 1.0).abs() < 1e-9, "{bent:?}");
        assert_eq!(points_between(&[0.5], &[1.0]), None);
    }

    #[test]
    fn quantiles_interpolate_between_ranks() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.001), 1.0);
        assert_eq!(points_of(&mut []), vec![0.0; POINTS]);
        assert_eq!(Gathered::default().scores(), None);
    }
}
