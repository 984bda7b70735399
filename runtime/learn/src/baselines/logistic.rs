//! Logistic regression with a ridge penalty, on the inputs of the ridge regression: what a classifier must beat.
//!
//! P(1) = 1 / (1 + exp(−(b + xᵀw))) with the least mean log loss + λ/2 · |w|², by Newton steps (Hastie, Tibshirani and
//! Friedman 2009, section 4.4.1); the intercept isn't penalised, and λ is the one of the grid with the least log loss on
//! the validation part.

use crate::baseline::{LAMBDAS, RidgeError, cholesky_solve, regressors};
use crate::dataset::{Dataset, Sample};
use crate::metrics::Loss;

const STEPS_MAX: usize = 50;

/// A fitted probability that the label is 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    pub lambda: f64,
    /// Of the inputs, then the intercept.
    weights: Vec<f64>,
}

impl Logistic {
    /// Labels are 0 or 1. The dataset is normalised; neither part is empty.
    pub fn fit(dataset: &Dataset, train: &[usize], validation: &[usize]) -> Result<Logistic, RidgeError> {
        let rows = |indices: &[usize]| -> Vec<(Vec<f64>, f64)> {
            indices
                .iter()
                .map(|&i| (inputs(dataset, &dataset.samples[i]), dataset.samples[i].label))
                .collect()
        };
        let (train, validation) = (rows(train), rows(validation));
        let mut best: Option<(f64, Logistic)> = None;
        // From the strongest penalty on, each from the weights before: few steps are left.
        let mut weights = vec![0.0; train.first().map_or(0, |row| row.0.len())];
        for lambda in LAMBDAS.into_iter().rev() {
            weights = newton(&train, weights, lambda)?;
            let one = Logistic { lambda, weights: weights.clone() };
            let loss: f64 = validation.iter().map(|(x, y)| Loss::Log.of(*y, one.at(x))).sum();
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, one));
            }
        }
        best.map(|(_, one)| one).ok_or(RidgeError { lambda: LAMBDAS[0] })
    }

    pub fn predict(&self, dataset: &Dataset, sample: &Sample) -> f64 {
        self.at(&inputs(dataset, sample))
    }

    fn at(&self, x: &[f64]) -> f64 {
        probability(&self.weights, x)
    }
}

/// The regressors and a 1.
fn inputs(dataset: &Dataset, sample: &Sample) -> Vec<f64> {
    let mut x = regressors(dataset, sample);
    x.push(1.0);
    x
}

fn probability(weights: &[f64], x: &[f64]) -> f64 {
    1.0 / (1.0 + (-weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).exp())
}

fn objective(rows: &[(Vec<f64>, f64)], weights: &[f64], lambda: f64) -> f64 {
    let loss: f64 = rows.iter().map(|(x, y)| Loss::Log.of(*y, probability(weights, x))).sum();
    let squares: f64 = weights[..weights.len() - 1].iter().map(|w| w * w).sum();
    loss / rows.len().max(1) as f64 + 0.5 * lambda * squares
}

fn newton(rows: &[(Vec<f64>, f64)], mut weights: Vec<f64>, lambda: f64) -> Result<Vec<f64>, RidgeError> {
    let (size, count) = (weights.len(), rows.len().max(1) as f64);
    if size == 0 {
        return Err(RidgeError { lambda });
    }
    let mut value = objective(rows, &weights, lambda);
    for _ in 0..STEPS_MAX {
        let mut gradient = vec![0.0; size];
        let mut curve = vec![0.0; size * size];
        for (x, y) in rows {
            let p = probability(&weights, x);
            let (error, weight) = ((p - y) / count, p * (1.0 - p) / count);
            for (i, xi) in x.iter().enumerate() {
                gradient[i] += error * xi;
                curve[i * size..=i * size + i]
                    .iter_mut()
                    .zip(x)
                    .for_each(|(sum, xj)| *sum += weight * xi * xj);
            }
        }
        for i in 0..size {
            let penalty = if i + 1 < size { lambda } else { 0.0 };
            gradient[i] += penalty * weights[i];
            // A little of it keeps labels that are all the same from having no curve.
            curve[i * size + i] += penalty + 1e-9;
        }
        let step = cholesky_solve(curve, &gradient).ok_or(RidgeError { lambda })?;
        // Half as far until it is better: far from the least the curve says little.
        let mut share = 1.0;
        let better = loop {
            let next: Vec<f64> = weights.iter().zip(&step).map(|(w, s)| w - share * s).collect();
            let found = objective(rows, &next, lambda);
            if found < value {
                break Some((next, found));
            }
            share /= 2.0;
            if share < 1e-4 {
                break None;
            }
        };
        let Some((next, found)) = better else { break };
        let gained = value - found;
        (weights, value) = (next, found);
        if gained < 1e-10 {
            break;
        }
    }
    if weights.iter().all(|w| w.is_finite()) { Ok(weights) } else { Err(RidgeError { lambda }) }
}

#[cfg(test)]
mod tests {
    use registry::{GapPolicy, LabelKind};

    use super::*;
    use crate::label::LabelRecipe;
    use crate::random::Random;
    use crate::testing::{Returns, autoregressive, bars_of};

    fn dataset(chance: impl Fn(f64) -> f64) -> Dataset {
        let bars = bars_of("A", &autoregressive(4000, 0.0, 3));
        let label = LabelRecipe {
            kind: LabelKind::Direction,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
        };
        let mut dataset = Dataset::build(&[&bars], &mut Returns::new(2), 1, &label).unwrap();
        let mut random = Random::new(9);
        for i in 0..dataset.samples.len() {
            let p = chance(f64::from(dataset.window_of(&dataset.samples[i])[0]));
            dataset.samples[i].label = f64::from(u8::from(random.uniform() < p));
        }
        dataset
    }

    #[test]
    fn the_probabilities_that_made_the_labels_are_found() {
        let chance = |x: f64| 1.0 / (1.0 + (-(0.4 + 1.5 * x)).exp());
        let dataset = dataset(chance);
        let (train, validation): (Vec<usize>, Vec<usize>) = ((0..3000).collect(), (3000..3900).collect());
        let found = Logistic::fit(&dataset, &train, &validation).unwrap();
        for sample in dataset.samples.iter().step_by(97) {
            let expected = chance(f64::from(dataset.window_of(sample)[0]));
            let p = found.predict(&dataset, sample);
            assert!((p - expected).abs() < 0.06, "{p} instead of {expected} ({found:?})");
        }
    }

    #[test]
    fn noise_is_shrunk_to_the_base_rate_and_one_class_stays_finite() {
        let (train, validation): (Vec<usize>, Vec<usize>) = ((0..400).collect(), (400..3900).collect());
        let noise = dataset(|_| 0.3);
        let found = Logistic::fit(&noise, &train, &validation).unwrap();
        let spread: Vec<f64> = noise.samples.iter().map(|s| found.predict(&noise, s)).collect();
        assert!(spread.iter().all(|p| (p - 0.3).abs() < 0.12), "{}", found.lambda);
        let one = dataset(|_| 1.1);
        let found = Logistic::fit(&one, &train, &validation).unwrap();
        assert!(one.samples.iter().all(|s| found.predict(&one, s) > 0.95));
    }
}
