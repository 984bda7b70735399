//! What is known to forecast volatility: EWMA and HAR, from squared returns of closes.
//!
//! EWMA: vₜ = λ vₜ₋₁ + (1 − λ) rₜ², forecast √(h vₜ) (RiskMetrics 1996), λ the one of [`LAMBDAS`] with the least QLIKE on
//! the training samples. HAR: the label on its last value and on those over 5 and 22 times its horizon, each as the
//! root of the mean squared return scaled to the horizon, by least squares (Corsi 2009, whose days are horizons here);
//! for each symbol with [`SAMPLES_MIN`] training samples its own regression, else one over all.

use market::Bar;

use crate::baseline::cholesky_solve;
use crate::dataset::{Dataset, Sample};
use crate::metrics::Loss;

pub const LAMBDAS: [f64; 12] = [0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995, 0.998];
/// Horizons that HAR looks back over.
pub const HORIZONS: [usize; 3] = [1, 5, 22];
pub const SAMPLES_MIN: usize = 250;

/// Sums of squared one-bar log returns of each stream: `sums[s][t]` is over bars 1 to t.
#[derive(Clone, Debug)]
pub struct SquaredReturns {
    sums: Vec<Vec<f64>>,
}

impl SquaredReturns {
    pub fn of(bars: &[&[Bar]]) -> SquaredReturns {
        let sums = |bars: &&[Bar]| {
            let mut sum = 0.0;
            let later = bars.windows(2).map(|pair| {
                sum += (pair[1].close / pair[0].close).ln().powi(2);
                sum
            });
            std::iter::once(0.0).chain(later).collect()
        };
        SquaredReturns { sums: bars.iter().map(sums).collect() }
    }

    /// The squared return of a bar; 0 of the first.
    fn at(&self, stream: usize, bar: usize) -> f64 {
        bar.checked_sub(1).map_or(0.0, |before| self.sums[stream][bar] - self.sums[stream][before])
    }

    /// The mean over the `count` bars up to `bar`, or over as many as there are.
    fn mean(&self, stream: usize, bar: usize, count: usize) -> f64 {
        let sums = &self.sums[stream];
        let from = bar.saturating_sub(count);
        (sums[bar] - sums[from]) / (bar - from).max(1) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    pub lambda: f64,
    horizon: f64,
}

impl Ewma {
    /// `floor`: the least forecast, above 0. Of returns their size is the label: its square has the variance as its mean.
    pub fn fit(
        dataset: &Dataset,
        returns: &SquaredReturns,
        horizon: usize,
        floor: f64,
        train: &[usize],
    ) -> Ewma {
        let loss = |ewma: &Ewma| {
            let forecasts = ewma.forecasts(dataset, returns, train);
            let one = |(&i, f): (&usize, &f64)| {
                Loss::Qlike.of(dataset.samples[i].label.abs().max(floor), f.max(floor))
            };
            train.iter().zip(&forecasts).map(one).sum::<f64>()
        };
        let all = LAMBDAS.map(|lambda| Ewma { lambda, horizon: horizon as f64 });
        let losses = all.map(|ewma| loss(&ewma));
        let best = (0..all.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
        all[best]
    }

    pub fn forecasts(&self, dataset: &Dataset, returns: &SquaredReturns, indices: &[usize]) -> Vec<f64> {
        let variances: Vec<Vec<f64>> =
            (0..dataset.streams.len()).map(|stream| self.variances(returns, stream)).collect();
        let one = |&i: &usize| {
            let sample = &dataset.samples[i];
            (self.horizon * variances[sample.stream][sample.end]).sqrt()
        };
        indices.iter().map(one).collect()
    }

    /// The variance per bar after each bar.
    fn variances(&self, returns: &SquaredReturns, stream: usize) -> Vec<f64> {
        let mut variance = 0.0;
        (0..returns.sums[stream].len())
            .map(|bar| {
                let squared = returns.at(stream, bar);
                variance =
                    if bar < 2 { squared } else { self.lambda * variance + (1.0 - self.lambda) * squared };
                variance
            })
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Har {
    horizon: usize,
    /// Intercept and weights, for each stream.
    weights: Vec<[f64; TERMS]>,
}

const TERMS: usize = 1 + HORIZONS.len();

impl Har {
    /// `None` where the regressors don't vary enough to fit.
    pub fn fit(dataset: &Dataset, returns: &SquaredReturns, horizon: usize, train: &[usize]) -> Option<Har> {
        let streams = dataset.streams.len();
        let mut each = vec![Normal::default(); streams];
        let mut all = Normal::default();
        for sample in train.iter().map(|&i| &dataset.samples[i]) {
            let x = regressors(returns, sample, horizon);
            each[sample.stream].add(&x, sample.label);
            all.add(&x, sample.label);
        }
        let pooled = all.solve()?;
        let own = |normal: &Normal| (normal.count >= SAMPLES_MIN).then(|| normal.solve()).flatten();
        Some(Har { horizon, weights: each.iter().map(|normal| own(normal).unwrap_or(pooled)).collect() })
    }

    pub fn forecasts(&self, dataset: &Dataset, returns: &SquaredReturns, indices: &[usize]) -> Vec<f64> {
        let one = |&i: &usize| {
            let sample = &dataset.samples[i];
            let x = regressors(returns, sample, self.horizon);
            x.iter().zip(&self.weights[sample.stream]).map(|(x, w)| x * w).sum()
        };
        indices.iter().map(one).collect()
    }
}

fn regressors(returns: &SquaredReturns, sample: &Sample, horizon: usize) -> [f64; TERMS] {
    let mut x = [1.0; TERMS];
    for (x, times) in x[1..].iter_mut().zip(HORIZONS) {
        *x = (horizon as f64 * returns.mean(sample.stream, sample.end, horizon.saturating_mul(times))).sqrt();
    }
    x
}

/// The normal equations of a least-squares fit.
#[derive(Clone, Debug, Default)]
struct Normal {
    count: usize,
    gram: [[f64; TERMS]; TERMS],
    cross: [f64; TERMS],
}

impl Normal {
    fn add(&mut self, x: &[f64; TERMS], y: f64) {
        self.count += 1;
        for i in 0..TERMS {
            self.cross[i] += x[i] * y;
            (0..TERMS).for_each(|j| self.gram[i][j] += x[i] * x[j]);
        }
    }

    /// Each regressor is scaled to unit mean square first, so that sizes of returns don't matter.
    fn solve(&self) -> Option<[f64; TERMS]> {
        let scale: [f64; TERMS] = std::array::from_fn(|i| self.gram[i][i].sqrt());
        if scale.iter().any(|s| !s.is_normal()) {
            return None;
        }
        // What keeps regressors that are equal apart, too little to be seen in others.
        let matrix = (0..TERMS * TERMS).map(|k| {
            let (i, j) = (k / TERMS, k % TERMS);
            self.gram[i][j] / (scale[i] * scale[j]) + if i == j { 1e-10 } else { 0.0 }
        });
        let cross: Vec<f64> = self.cross.iter().zip(&scale).map(|(c, s)| c / s).collect();
        let solved = cholesky_solve(matrix.collect(), &cross)?;
        Some(std::array::from_fn(|i| solved[i] / scale[i]))
    }
}

#[cfg(test)]
mod tests {
    use registry::{GapPolicy, LabelKind};

    use super::*;
    use crate::label::LabelRecipe;
    use crate::random::Random;
    use crate::testing::{Returns, bars_of};

    fn world(horizon_bars: u32) -> (Vec<Bar>, Dataset) {
        let mut random = Random::new(9);
        let mut log_scale = 0.0;
        let returns: Vec<f64> = (0..3000)
            .map(|_| {
                log_scale = 0.97 * log_scale + 0.2 * random.normal();
                0.01 * f64::exp(log_scale) * random.normal()
            })
            .collect();
        let bars = bars_of("A", &returns);
        let label = LabelRecipe {
            kind: LabelKind::RealisedVolatility,
            horizon_bars,
            gaps: GapPolicy::Drop,
            dead_band: None,
        };
        let dataset = Dataset::build(&[&bars], &mut Returns::new(2), 3, &label).unwrap();
        (bars, dataset)
    }

    fn log_return(bars: &[Bar], t: usize) -> f64 {
        (bars[t].close / bars[t - 1].close).ln()
    }

    #[test]
    fn ewma_is_its_recursion() {
        let (bars, dataset) = world(4);
        let returns = SquaredReturns::of(&[&bars]);
        let ewma = Ewma { lambda: 0.9, horizon: 4.0 };
        let mut variance = log_return(&bars, 1).powi(2);
        for t in 2..=500 {
            variance = 0.9 * variance + 0.1 * log_return(&bars, t).powi(2);
        }
        let index = dataset.samples.iter().position(|s| s.end == 500).unwrap();
        let found = ewma.forecasts(&dataset, &returns, &[index])[0];
        assert!((found - (4.0 * variance).sqrt()).abs() < 1e-9 * found, "{found}");
    }

    #[test]
    fn lambda_is_the_one_that_fits_best() {
        let (bars, dataset) = world(4);
        let returns = SquaredReturns::of(&[&bars]);
        let train: Vec<usize> = (0..1500).collect();
        let fitted = Ewma::fit(&dataset, &returns, 4, 1e-6, &train);
        // An extreme λ has a greater loss.
        let loss = |lambda| {
            let ewma = Ewma { lambda, horizon: 4.0 };
            let forecasts = ewma.forecasts(&dataset, &returns, &train);
            train
                .iter()
                .zip(forecasts)
                .map(|(&i, f)| Loss::Qlike.of(dataset.samples[i].label, f))
                .sum::<f64>()
        };
        assert!(LAMBDAS.iter().all(|&lambda| loss(fitted.lambda) <= loss(lambda)), "{fitted:?}");
        assert!((0.8..0.99).contains(&fitted.lambda), "{fitted:?}");
    }

    /// Residuals of least squares are orthogonal to the regressors.
    #[test]
    fn har_solves_least_squares_of_its_three_terms() {
        let (bars, dataset) = world(4);
        let returns = SquaredReturns::of(&[&bars]);
        let train: Vec<usize> = (100..1500).collect();
        let har = Har::fit(&dataset, &returns, 4, &train).unwrap();
        let forecasts = har.forecasts(&dataset, &returns, &train);
        for term in 0..TERMS {
            let (mut dot, mut size) = (0.0, 0.0);
            for (&i, f) in train.iter().zip(&forecasts) {
                let sample = &dataset.samples[i];
                let x = regressors(&returns, sample, 4)[term];
                dot += x * (sample.label - f);
                size += x * sample.label;
            }
            assert!(dot.abs() < 1e-6 * size, "term {term}: {dot} of {size}");
        }
        let sample = &dataset.samples[500];
        let week: f64 = (0..20).map(|k| log_return(&bars, sample.end - k).powi(2)).sum();
        let x = regressors(&returns, sample, 4);
        assert!(
            (x[1] - sample.naive).abs() < 1e-9 * x[1] && (x[2] - (week / 5.0).sqrt()).abs() < 1e-9 * x[2]
        );
    }

    /// A symbol with few samples gets the regression over all.
    #[test]
    fn har_fits_each_symbol_that_has_enough() {
        let (bars, dataset) = world(4);
        let returns = SquaredReturns::of(&[&bars]);
        let few: Vec<usize> = (100..100 + SAMPLES_MIN - 1).collect();
        let har = Har::fit(&dataset, &returns, 4, &few).unwrap();
        assert_eq!(har.weights.len(), 1);
        let flat = bars_of("A", &[0.0; 400]);
        assert_eq!(Har::fit(&dataset, &SquaredReturns::of(&[&flat]), 4, &few[..50]), None);
    }
}
