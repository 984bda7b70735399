//! Ridge regression: the linear forecast that a network must beat, on the same rows.
//!
//! It sees the newest row of the window and the mean of each column over the window. With centred inputs X and
//! labels y over n training samples it solves (XᵀX/n + λI) w = Xᵀy/n (Hoerl and Kennard 1970); the intercept is
//! not penalised, and λ is the one of the grid with the least squared error on the validation part.

use std::fmt;

use crate::dataset::{Dataset, Sample};

/// The penalties that are tried; inputs have about unit scale, so 1 is as strong as the data.
pub const LAMBDAS: [f64; 8] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3];

/// A fitted linear forecast in the label's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    pub lambda: f64,
    centre: Vec<f64>,
    weights: Vec<f64>,
    label_mean: f64,
}

impl Ridge {
    /// Fits on the training samples for each λ and keeps the best on the validation samples. The dataset is
    /// normalised; neither part is empty.
    pub fn fit(dataset: &Dataset, train: &[usize], validation: &[usize]) -> Result<Ridge, RidgeError> {
        let moments = Moments::of(dataset, train);
        let mut best: Option<(f64, Ridge)> = None;
        for lambda in LAMBDAS {
            let ridge = moments.solve(lambda)?;
            let error =
                |&i: &usize| (dataset.samples[i].label - ridge.predict(dataset, &dataset.samples[i])).powi(2);
            let squared: f64 = validation.iter().map(error).sum();
            if best.as_ref().is_none_or(|(least, _)| squared < *least) {
                best = Some((squared, ridge));
            }
        }
        best.map(|(_, ridge)| ridge).ok_or(RidgeError { lambda: LAMBDAS[0] })
    }

    pub fn predict(&self, dataset: &Dataset, sample: &Sample) -> f64 {
        let inputs = regressors(dataset, sample);
        let terms =
            inputs.iter().zip(&self.centre).zip(&self.weights).map(|((x, centre), w)| (x - centre) * w);
        self.label_mean + terms.sum::<f64>()
    }
}

/// The newest row, then the mean of each column over the window.
pub(crate) fn regressors(dataset: &Dataset, sample: &Sample) -> Vec<f64> {
    let window = dataset.window_of(sample);
    let columns = dataset.columns;
    let mut means = vec![0.0; columns];
    for row in window.chunks_exact(columns) {
        means.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let newest = window[window.len() - columns..].iter().map(|&x| f64::from(x));
    newest.chain(means.iter().map(|sum| sum / dataset.window as f64)).collect()
}

/// What the normal equations need: means, XᵀX/n and Xᵀy/n of centred inputs and labels.
struct Moments {
    centre: Vec<f64>,
    label_mean: f64,
    gram: Vec<f64>,
    cross: Vec<f64>,
}

impl Moments {
    fn of(dataset: &Dataset, train: &[usize]) -> Moments {
        let count = train.len().max(1) as f64;
        let size = 2 * dataset.columns;
        let samples = || train.iter().map(|&i| &dataset.samples[i]);
        let mut centre = vec![0.0; size];
        let mut label_mean = 0.0;
        for sample in samples() {
            centre.iter_mut().zip(regressors(dataset, sample)).for_each(|(sum, x)| *sum += x / count);
            label_mean += sample.label / count;
        }
        let mut gram = vec![0.0; size * size];
        let mut cross = vec![0.0; size];
        for sample in samples() {
            let x: Vec<f64> = regressors(dataset, sample).iter().zip(&centre).map(|(x, c)| x - c).collect();
            let y = sample.label - label_mean;
            for (i, xi) in x.iter().enumerate() {
                cross[i] += xi * y / count;
                gram[i * size..=i * size + i]
                    .iter_mut()
                    .zip(&x)
                    .for_each(|(sum, xj)| *sum += xi * xj / count);
            }
        }
        Moments { centre, label_mean, gram, cross }
    }

    fn solve(&self, lambda: f64) -> Result<Ridge, RidgeError> {
        let size = self.cross.len();
        let mut matrix = self.gram.clone();
        (0..size).for_each(|i| matrix[i * size + i] += lambda);
        let weights = cholesky_solve(matrix, &self.cross).ok_or(RidgeError { lambda })?;
        Ok(Ridge { lambda, centre: self.centre.clone(), weights, label_mean: self.label_mean })
    }
}

/// Solves A x = b for a symmetric positive definite A of which the lower triangle is given, row-major.
pub(crate) fn cholesky_solve(mut a: Vec<f64>, b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = if i != j {
                rest / a[j * n + j]
            } else if rest > 0.0 && rest.is_finite() {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    Some(x)
}

/// The normal equations have no solution: some input or label isn't finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RidgeError {
    pub lambda: f64,
}

impl fmt::Display for RidgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ridge baseline can't be fitted (lambda {}); check the features for huge values",
            self.lambda
        )
    }
}

impl std::error::Error for RidgeError {}

#[cfg(test)]
mod tests {
    use registry::{GapPolicy, LabelKind};

    use super::*;
    use crate::label::LabelRecipe;
    use crate::testing::{Returns, autoregressive, bars_of};

    fn dataset(lags: usize, window: usize, phi: f64) -> Dataset {
        let bars = bars_of("A", &autoregressive(2000, phi, 3));
        let label = LabelRecipe {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
        };
        Dataset::build(&[&bars], &mut Returns::new(lags), window, &label).unwrap()
    }

    #[test]
    fn cholesky_solves_a_known_system() {
        // A = [4 2; 2 3], x = (1, −2): b = (0, −4).
        let x = cholesky_solve(vec![4.0, 0.0, 2.0, 3.0], &[0.0, -4.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-14 && (x[1] + 2.0).abs() < 1e-14, "{x:?}");
        assert_eq!(cholesky_solve(vec![1.0, 0.0, 2.0, 1.0], &[0.0, 0.0]), None);
        assert_eq!(cholesky_solve(vec![f64::NAN], &[0.0]), None);
    }

    /// One lag and a window of one: newest row and window mean are the same number x, so the weights are equal
    /// and their sum is 2·cov(x, y) / (2·var(x) + λ).
    #[test]
    fn weights_match_the_closed_form() {
        let dataset = dataset(1, 1, 0.4);
        let train: Vec<usize> = (0..1500).collect();
        let n = train.len() as f64;
        let x: Vec<f64> =
            train.iter().map(|&i| f64::from(dataset.window_of(&dataset.samples[i])[0])).collect();
        let y: Vec<f64> = train.iter().map(|&i| dataset.samples[i].label).collect();
        let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let covariance = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mx).powi(2)).sum::<f64>() / n;
        for lambda in LAMBDAS {
            let ridge = Moments::of(&dataset, &train).solve(lambda).unwrap();
            let slope = 2.0 * covariance / (2.0 * variance + lambda);
            let weights = [ridge.weights[0], ridge.weights[2]];
            assert!(
                weights.iter().all(|w| (w - slope / 2.0).abs() < 1e-9 * slope.abs()),
                "{weights:?} {slope}"
            );
            let sample = &dataset.samples[1700];
            let expected = my + slope * (f64::from(dataset.window_of(sample)[0]) - mx);
            assert!((ridge.predict(&dataset, sample) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_penalty_is_picked_on_the_validation_part() {
        let (train, validation): (Vec<usize>, Vec<usize>) = ((0..1200).collect(), (1201..1900).collect());
        let strong = Ridge::fit(&dataset(2, 3, 0.5), &train, &validation).unwrap();
        let none = Ridge::fit(&dataset(20, 3, 0.0), &train[..60], &validation).unwrap();
        assert!(strong.lambda < 1.0, "{strong:?}");
        assert!(none.lambda >= 1e2, "{}", none.lambda);
    }
}
