//! Gradient-boosted trees on the inputs of the ridge regression: the newest row and the mean of each column.
//!
//! forust, XGBoost's algorithm (Chen and Guestrin 2016) on histograms: squared error, stopped when the validation part
//! gets no better. One thread and a fixed seed, so that the same samples give the same bits. Settings are common
//! defaults and are the same for all data; nothing is tuned.

use std::fmt;

use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};

use crate::baseline::regressors;
use crate::dataset::Dataset;

const TREES_MAX: usize = 300;
const PATIENCE: usize = 20;
const LEARNING_RATE: f32 = 0.05;
const DEPTH_MAX: usize = 5;
const LEAF_SAMPLES_MIN: f32 = 20.0;
const ROW_SHARE: f32 = 0.8;
const SEED: u64 = 1;
/// Training samples, evenly thinned beyond.
pub const SAMPLES_MAX: usize = 50_000;

pub struct Trees {
    booster: GradientBooster,
    columns: usize,
    /// Whether its outputs are log odds.
    is_probability: bool,
    /// Labels are fitted as (label − mean) / scale: returns are too small for gradients in f32.
    mean: f64,
    scale: f64,
}

impl Trees {
    /// The dataset is normalised; neither part is empty.
    pub fn fit(dataset: &Dataset, train: &[usize], validation: &[usize]) -> Result<Trees, TreesError> {
        Trees::fit_by(dataset, train, validation, false)
    }

    /// Of labels that are 0 or 1, by their log loss: forecasts are probabilities.
    pub fn fit_classes(
        dataset: &Dataset,
        train: &[usize],
        validation: &[usize],
    ) -> Result<Trees, TreesError> {
        Trees::fit_by(dataset, train, validation, true)
    }

    fn fit_by(
        dataset: &Dataset,
        train: &[usize],
        validation: &[usize],
        is_probability: bool,
    ) -> Result<Trees, TreesError> {
        let train = thinned(train);
        let columns = 2 * dataset.columns;
        let labels =
            |indices: &[usize]| -> Vec<f64> { indices.iter().map(|&i| dataset.samples[i].label).collect() };
        let train_labels = labels(&train);
        let (mean, std) = crate::metrics::information::mean_and_std(&train_labels)
            .ok_or(TreesError("no samples".into()))?;
        let scale = if std.is_normal() { std } else { 1.0 };
        let (mean, scale) = if is_probability { (0.0, 1.0) } else { (mean, scale) };
        let (objective, metric) = match is_probability {
            true => (ObjectiveType::LogLoss, Metric::LogLoss),
            false => (ObjectiveType::SquaredLoss, Metric::RootMeanSquaredError),
        };
        let scaled = |labels: Vec<f64>| -> Vec<f64> { labels.iter().map(|y| (y - mean) / scale).collect() };
        let (x, y) = (inputs(dataset, &train), scaled(train_labels));
        let validation = thinned(validation);
        let (vx, vy) = (inputs(dataset, &validation), scaled(labels(&validation)));
        let weights = vec![1.0; vy.len()];
        let mut booster = GradientBooster::default()
            .set_objective_type(objective)
            .set_iterations(TREES_MAX)
            .set_learning_rate(LEARNING_RATE)
            .set_max_depth(DEPTH_MAX)
            .set_subsample(ROW_SHARE)
            .set_sample_method(SampleMethod::Random)
            .set_seed(SEED)
            .set_parallel(false)
            .set_evaluation_metric(Some(metric))
            .set_early_stopping_rounds(Some(PATIENCE));
        booster.min_leaf_weight = LEAF_SAMPLES_MIN;
        booster.base_score = 0.0;
        booster.initialize_base_score = false;
        let evaluation = (Matrix::new(&vx, vy.len(), columns), vy.as_slice(), weights.as_slice());
        let rows = Matrix::new(&x, y.len(), columns);
        booster.fit_unweighted(&rows, &y, Some(vec![evaluation])).map_err(|e| TreesError(e.to_string()))?;
        Ok(Trees { booster, columns, is_probability, mean, scale })
    }

    pub fn forecasts(&self, dataset: &Dataset, indices: &[usize]) -> Vec<f64> {
        let x = inputs(dataset, indices);
        let outputs = self.booster.predict(&Matrix::new(&x, indices.len(), self.columns), false);
        let read = |output: &f64| match self.is_probability {
            true => 1.0 / (1.0 + (-output).exp()),
            false => output * self.scale + self.mean,
        };
        outputs.iter().map(read).collect()
    }
}

/// Every n-th, so that at most [`SAMPLES_MAX`] are left.
fn thinned(indices: &[usize]) -> Vec<usize> {
    indices.iter().copied().step_by(indices.len().div_ceil(SAMPLES_MAX).max(1)).collect()
}

/// Column by column.
fn inputs(dataset: &Dataset, indices: &[usize]) -> Vec<f64> {
    let mut x = vec![0.0; indices.len() * 2 * dataset.columns];
    for (row, &i) in indices.iter().enumerate() {
        for (column, value) in regressors(dataset, &dataset.samples[i]).into_iter().enumerate() {
            x[column * indices.len() + row] = value;
        }
    }
    x
}

/// The crate's own reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreesError(pub String);

impl fmt::Display for TreesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the boosted trees can't be fitted: {}; check the features for huge values", self.0)
    }
}

impl std::error::Error for TreesError {}

#[cfg(test)]
mod tests {
    use registry::{GapPolicy, LabelKind};

    use super::*;
    use crate::label::LabelRecipe;
    use crate::testing::{Returns, autoregressive, bars_of};

    fn dataset(bend: impl Fn(f64) -> f64) -> Dataset {
        let bars = bars_of("A", &autoregressive(4000, 0.0, 3));
        let label = LabelRecipe {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
        };
        let mut dataset = Dataset::build(&[&bars], &mut Returns::new(2), 3, &label).unwrap();
        let bent: Vec<f64> =
            dataset.samples.iter().map(|s| bend(f64::from(dataset.window_of(s)[6]))).collect();
        dataset.samples.iter_mut().zip(bent).for_each(|(sample, y)| sample.label = y);
        dataset
    }

    #[test]
    fn a_bend_that_no_line_fits_is_found_and_twice_the_same() {
        // |x| of the newest return: uncorrelated with x.
        let dataset = dataset(|x| 0.01 * x.abs());
        let (train, validation): (Vec<usize>, Vec<usize>) = ((0..2000).collect(), (2000..2600).collect());
        let test: Vec<usize> = (2600..3900).collect();
        let forecast = || Trees::fit(&dataset, &train, &validation).unwrap().forecasts(&dataset, &test);
        let forecasts = forecast();
        assert_eq!(
            forecasts.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            forecast().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        let labels: Vec<f64> = test.iter().map(|&i| dataset.samples[i].label).collect();
        let correlation = crate::metrics::information::pearson(&forecasts, &labels).unwrap();
        assert!(correlation > 0.95, "{correlation}");
        let ridge = crate::baseline::Ridge::fit(&dataset, &train, &validation).unwrap();
        let linear: Vec<f64> = test.iter().map(|&i| ridge.predict(&dataset, &dataset.samples[i])).collect();
        assert!(crate::metrics::information::pearson(&linear, &labels).unwrap().abs() < 0.3);
    }

    /// P(up) is 0.9 where the newest return is larger than one deviation either way, and 0.3 else.
    #[test]
    fn probabilities_that_no_line_fits_are_found() {
        let dataset = dataset(|x| {
            let draw = (x * 12_345.678).sin() * 43_758.545;
            let unit = draw - draw.floor();
            f64::from(u8::from(unit < if x.abs() > 1.0 { 0.9 } else { 0.3 }))
        });
        let (train, validation): (Vec<usize>, Vec<usize>) = ((0..2500).collect(), (2500..3000).collect());
        let test: Vec<usize> = (3000..3900).collect();
        let trees = Trees::fit_classes(&dataset, &train, &validation).unwrap();
        let of = |far: bool| {
            let is_far = |&&i: &&usize| (dataset.window_of(&dataset.samples[i])[6].abs() > 1.0) == far;
            let found = trees.forecasts(&dataset, &test.iter().filter(is_far).copied().collect::<Vec<_>>());
            found.iter().sum::<f64>() / found.len() as f64
        };
        assert!(
            (of(true) - 0.9).abs() < 0.08 && (of(false) - 0.3).abs() < 0.08,
            "{} {}",
            of(true),
            of(false)
        );
    }

    #[test]
    fn labels_that_do_not_vary_are_forecast_as_they_are() {
        let dataset = dataset(|_| 0.25);
        let all: Vec<usize> = (0..500).collect();
        let forecasts = Trees::fit(&dataset, &all[..400], &all[400..]).unwrap().forecasts(&dataset, &all);
        assert!(forecasts.iter().all(|f| (f - 0.25).abs() < 1e-9), "{:?}", &forecasts[..3]);
    }

    #[test]
    fn many_samples_are_thinned_evenly() {
        let all: Vec<usize> = (0..3 * SAMPLES_MAX).collect();
        let thin = thinned(&all);
        assert_eq!((thin.len(), thin[1]), (SAMPLES_MAX, 3));
        assert_eq!(thinned(&all[..10]), all[..10]);
    }
}
