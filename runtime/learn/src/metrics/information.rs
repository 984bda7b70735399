//! Information coefficients: correlations of forecasts and labels within periods, as Qlib reports them.
//!
//! With ten symbols or more at a time a period is one time, and the correlation goes across symbols; with fewer it is a
//! run of [`PERIOD_SAMPLES`] samples. ICIR is the mean over periods divided by the deviation.

use serde::{Deserialize, Serialize};

use crate::evaluate::ranks;

/// Samples of a period where there are few symbols.
pub const PERIOD_SAMPLES: usize = 100;
/// Samples at a time from which on correlations go across symbols.
pub const ACROSS_MIN: usize = 10;

/// Over periods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Information {
    pub mean: f64,
    pub std: f64,
    /// mean / std; absent where all are equal.
    pub ratio: Option<f64>,
    pub periods: u64,
}

/// The periods of samples that lie step by step.
pub fn periods(steps: &[std::ops::Range<usize>]) -> Vec<std::ops::Range<usize>> {
    let samples = steps.last().map_or(0, |step| step.end);
    if steps.is_empty() || samples >= ACROSS_MIN * steps.len() {
        return steps.iter().filter(|step| step.len() >= ACROSS_MIN).cloned().collect();
    }
    let mut periods = Vec::new();
    let mut start = 0;
    for step in steps {
        if step.end - start >= PERIOD_SAMPLES {
            periods.push(start..step.end);
            start = step.end;
        }
    }
    periods
}

/// Pearson's correlation within each period, or of ranks (Spearman's); `None` where
/// fewer than half of the periods have one.
pub fn information(
    forecasts: &[f64],
    labels: &[f64],
    periods: &[std::ops::Range<usize>],
    of_ranks: bool,
) -> Option<Information> {
    let one = |period: &std::ops::Range<usize>| {
        let (x, y) = (&forecasts[period.clone()], &labels[period.clone()]);
        if of_ranks { pearson(&ranks(x), &ranks(y)) } else { pearson(x, y) }
    };
    let all: Vec<f64> = periods.iter().filter_map(one).collect();
    // A forecast that is the same in most periods has no correlation, whatever the others give.
    if 2 * all.len() < periods.len() {
        return None;
    }
    let (mean, std) = mean_and_std(&all)?;
    Some(Information { mean, std, ratio: (std > 0.0).then(|| mean / std), periods: all.len() as u64 })
}

/// `None` where one of them doesn't vary.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        xx += (x - mx).powi(2);
        yy += (y - my).powi(2);
        xy += (x - mx) * (y - my);
    }
    let varies = |sum: f64, mean: f64| sum > n * (1e-12 * mean).powi(2) && sum.is_normal();
    (varies(xx, mx) && varies(yy, my)).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// Mean and deviation (n − 1) of at least one value.
pub fn mean_and_std(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let sum = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    Some((mean, if values.len() > 1 { (sum / (n - 1.0)).sqrt() } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_known_ones() {
        // Anscombe's first set: r = 0.81642051634484 (scipy.stats.pearsonr).
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        assert!((pearson(&x, &y).unwrap() - 0.816_420_516_344_84).abs() < 1e-12);
        let ic = information(&x, &y, std::slice::from_ref(&(0..11)), true).unwrap();
        // scipy.stats.spearmanr: 0.8181818181818182.
        assert!((ic.mean - 0.818_181_818_181_818_2).abs() < 1e-12);
        assert_eq!((ic.std, ic.ratio, ic.periods), (0.0, None, 1));
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn periods_go_across_many_symbols_or_along_time() {
        let wide: Vec<_> = (0..5).map(|i| 12 * i..12 * (i + 1)).collect();
        assert_eq!(periods(&wide), wide);
        let narrow: Vec<_> = (0..150).map(|i| 2 * i..2 * (i + 1)).collect();
        assert_eq!(periods(&narrow), [0..100, 100..200, 200..300]);
        assert!(periods(&[]).is_empty());
    }

    #[test]
    fn a_ratio_is_mean_over_deviation() {
        let forecasts = [1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 1.0, 2.0, 3.0];
        let labels = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0];
        let ic = information(&forecasts, &labels, &[0..3, 3..6, 6..9], false).unwrap();
        // 1, −1, 1: mean ⅓, deviation 2/√3.
        assert!((ic.mean - 1.0 / 3.0).abs() < 1e-12 && (ic.std - 2.0 / 3f64.sqrt()).abs() < 1e-12);
        assert!((ic.ratio.unwrap() - 3f64.sqrt() / 6.0).abs() < 1e-12);
    }
}
