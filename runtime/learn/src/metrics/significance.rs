//! Whether one forecast is better than another, or only luckier: the Diebold–Mariano test.
//!
//! d is the difference of two losses, one value a step of time (the mean over symbols, so that symbols which move
//! together don't count as evidence twice). The statistic is d̄ / √(V / n) with V = γ₀ + 2 Σₖ (1 − k/(L+1)) γₖ, k = 1
//! to L (Diebold and Mariano 1995; weights of Newey and West 1987, so that V is never negative), times
//! √((n + 1 − 2h + h(h−1)/n) / n) and against Student's t with n − 1 degrees of freedom (Harvey, Leybourne and
//! Newbold 1997). L is h − 1 at least and ⌊4 (n/100)^(2/9)⌋ (Newey and West 1994): losses of volatility stay high
//! for longer than labels overlap.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The test of one loss against another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DieboldMariano {
    /// Mean difference of the losses: below 0, the first is better.
    pub difference: f64,
    pub statistic: f64,
    /// That the first is no better than the second: P(T ≤ statistic).
    pub p_value: f64,
    pub steps: u64,
    /// Lags of the variance.
    pub lags: u64,
}

/// Tests the differences (first loss − second loss) of labels that see `horizon` steps. `None` where there are too few
/// steps, or where the losses don't differ at all.
pub fn diebold_mariano(differences: &[f64], horizon: usize) -> Option<DieboldMariano> {
    let n = differences.len();
    let horizon = horizon.max(1);
    if n < 3 || horizon >= n {
        return None;
    }
    let count = n as f64;
    let lags = lags(n, horizon);
    let mean = differences.iter().sum::<f64>() / count;
    let variance = long_run_variance(differences, mean, lags);
    if !(variance.is_normal() && variance > 0.0 && mean.is_finite()) {
        return None;
    }
    let h = horizon as f64;
    let correction = ((count + 1.0 - 2.0 * h + h * (h - 1.0) / count) / count).max(0.0).sqrt();
    let statistic = correction * mean / (variance / count).sqrt();
    let p_value = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.cdf(statistic);
    Some(DieboldMariano { difference: mean, statistic, p_value, steps: n as u64, lags: lags as u64 })
}

fn lags(n: usize, horizon: usize) -> usize {
    let rule = (4.0 * (n as f64 / 100.0).powf(2.0 / 9.0)).floor() as usize;
    rule.max(horizon - 1).min(n - 1)
}

fn long_run_variance(values: &[f64], mean: f64, lags: usize) -> f64 {
    let n = values.len() as f64;
    let autocovariance =
        |lag: usize| values.iter().zip(&values[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n;
    let weighted = (1..=lags).map(|lag| (1.0 - lag as f64 / (lags + 1) as f64) * autocovariance(lag));
    autocovariance(0) + 2.0 * weighted.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::autoregressive;

    /// Against statsmodels 0.15 (OLS on a constant, cov_type HAC with 4 lags, no small-sample correction) and
    /// scipy 1.17 (Student's t), with the correction of 1997 by hand.
    #[test]
    fn the_test_matches_an_independent_computation() {
        let differences: Vec<f64> = (0..100)
            .map(|i| f64::from((i * 37 + 11) % 50) / 50.0 - 0.55 + 0.1 * f64::sin(f64::from(i) / 5.0))
            .collect();
        let test = diebold_mariano(&differences, 3).unwrap();
        assert_eq!((test.steps, test.lags), (100, 4));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-10 * b.abs(), "{a} {b}");
        close(test.difference, ORACLE[0]);
        close(test.statistic, ORACLE[1]);
        close(test.p_value, ORACLE[2]);
    }

    const ORACLE: [f64; 3] = [-0.057_506_754_816_536_54, -2.553_045_679_745_244, 0.006_102_588_871_023_868];

    #[test]
    fn equal_forecasts_are_called_better_as_often_as_the_level_says() {
        let called = |phi: f64| {
            let better = (0..400u64).filter(|&seed| {
                let test = diebold_mariano(&autoregressive(400, phi, 500 + seed), 1).unwrap();
                test.p_value < 0.05
            });
            better.count() as f64 / 400.0
        };
        let (independent, dependent) = (called(0.0), called(0.4));
        assert!((0.02..=0.085).contains(&independent), "{independent}");
        assert!((0.02..=0.11).contains(&dependent), "{dependent}");
    }

    #[test]
    fn what_cannot_be_tested_is_not() {
        assert_eq!(diebold_mariano(&[0.0; 50], 1), None);
        assert_eq!(diebold_mariano(&[1.0, 2.0], 1), None);
        assert_eq!(diebold_mariano(&[1.0, 2.0, 3.0], 3), None);
        assert_eq!(diebold_mariano(&[f64::NAN; 9], 1), None);
    }
}
