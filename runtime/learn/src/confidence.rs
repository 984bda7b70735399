//! Confidence as a calibrated probability: a logistic map from a forecast's own sureness to how often such
//! forecasts were right (Platt 1999, with his targets; Niculescu-Mizil and Caruana 2005 find it better than an
//! isotonic map below some 1000 independent samples, and overlapping labels leave fewer).

use registry::Confidence;

/// Newton steps; the problem is convex in two numbers.
const STEPS_MAX: usize = 100;
/// The penalty on the slope, in samples of unit variance: with little data the map is flat.
const PENALTY: f64 = 1.0;

/// Fits on pairs of sureness and whether the forecast was right. `overlap`: neighbours share so many bars of their
/// labels, so each counts as 1 / overlap of a sample. Unless `may_fall`, more sureness never means less confidence.
pub fn fit(sureness: &[f64], right: &[bool], overlap: u32, may_fall: bool) -> Confidence {
    let count = sureness.len().max(1) as f64;
    let weight = 1.0 / f64::from(overlap.max(1));
    let mean = sureness.iter().sum::<f64>() / count;
    let variance = sureness.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let deviation = if variance.sqrt() > 1e-9 * mean.abs().max(1e-9) { variance.sqrt() } else { 1.0 };
    let hits = weight * right.iter().filter(|&&r| r).count() as f64;
    let misses = weight * count - hits;
    let target = |right: bool| if right { (hits + 1.0) / (hits + 2.0) } else { 1.0 / (misses + 2.0) };
    let samples: Vec<(f64, f64)> =
        sureness.iter().zip(right).map(|(x, &right)| ((x - mean) / deviation, target(right))).collect();
    let (a, b) = newton(&samples, weight, true);
    let (a, b) = if b < 0.0 && !may_fall { newton(&samples, weight, false) } else { (a, b) };
    Confidence { intercept: a - b * mean / deviation, slope: b / deviation }
}

/// Intercept and slope of the least penalised cross entropy; the slope is 0 unless it is free.
fn newton(samples: &[(f64, f64)], weight: f64, free: bool) -> (f64, f64) {
    let (mut a, mut b) = (0.0, 0.0);
    for _ in 0..STEPS_MAX {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (1e-9 * a, PENALTY * b, 1e-9, 0.0, PENALTY);
        for &(x, target) in samples {
            let p = logistic(a + b * x);
            let (error, curve) = (weight * (p - target), weight * p * (1.0 - p));
            ga += error;
            gb += error * x;
            haa += curve;
            hab += curve * x;
            hbb += curve * x * x;
        }
        let (da, db) = if free {
            let determinant = haa * hbb - hab * hab;
            ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant)
        } else {
            (ga / haa, 0.0)
        };
        // Half the step at most one unit: far from the least the curve says little.
        let shrink = 1.0f64.min(2.0 / (da.abs() + db.abs()).max(1e-300));
        (a, b) = (a - shrink * da, b - shrink * db);
        if da.abs() + db.abs() < 1e-12 {
            break;
        }
    }
    (a, b)
}

/// The confidence at this sureness.
pub fn at(confidence: &Confidence, sureness: f64) -> f64 {
    logistic(confidence.intercept + confidence.slope * sureness)
}

/// ln(p / (1 − p)), for p within 10⁻⁶ of its ends.
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn draw(count: usize, intercept: f64, slope: f64, seed: u64) -> (Vec<f64>, Vec<bool>) {
        let mut random = Random::new(seed);
        let x: Vec<f64> = (0..count).map(|_| 3.0 + 2.0 * random.normal()).collect();
        let right = x.iter().map(|x| random.uniform() < logistic(intercept + slope * x)).collect();
        (x, right)
    }

    #[test]
    fn the_map_that_made_the_data_is_found() {
        let (x, right) = draw(20_000, -1.0, 0.6, 1);
        let found = fit(&x, &right, 1, false);
        assert!((found.intercept + 1.0).abs() < 0.1 && (found.slope - 0.6).abs() < 0.03, "{found:?}");
    }

    #[test]
    fn a_falling_map_is_flat_unless_it_may_fall() {
        let (x, right) = draw(5_000, 1.0, -0.5, 2);
        assert!((fit(&x, &right, 1, true).slope + 0.5).abs() < 0.05);
        let flat = fit(&x, &right, 1, false);
        let rate = right.iter().filter(|&&r| r).count() as f64 / 5_000.0;
        assert_eq!(flat.slope, 0.0);
        assert!((at(&flat, 9.0) - rate).abs() < 1e-3, "{flat:?} {rate}");
    }

    #[test]
    fn what_is_always_right_or_never_varies_stays_finite() {
        for right in [vec![true; 40], vec![false; 40]] {
            for x in [vec![1.0; 40], (0..40).map(f64::from).collect()] {
                let found = fit(&x, &right, 4, false);
                assert!(found.intercept.is_finite() && found.slope.is_finite(), "{found:?}");
                let p = at(&found, 1.0);
                assert!(if right[0] { p > 0.7 && p < 1.0 } else { p < 0.3 && p > 0.0 }, "{p}");
            }
        }
    }
}
