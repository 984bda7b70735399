//! One fold: everything fitted anew on its training and validation parts, and forecasts of its test part.

use graph::{Executor, Graph};
use market::{Bar, Features};
use registry::{LabelKind, Output};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{AssessError, Subject};
use crate::baseline::Ridge;
use crate::baselines::Drift;
use crate::baselines::dlinear::dlinear;
use crate::baselines::logistic::Logistic;
use crate::baselines::trees::Trees;
use crate::baselines::volatility::{Ewma, Har, SquaredReturns};
use crate::dataset::{Dataset, bars_digest};
use crate::label::LabelRecipe;
use crate::metrics::distribution::{POINTS, level, points_between, points_of};
use crate::normalise::{LabelScale, Normaliser};
use crate::output;
use crate::predict::Predictor;
use crate::progress::Progress;
use crate::recipe::TrainingRecipe;
use crate::settings::TrainingSettings;
use crate::split::Split;
use crate::train::{Job, Target, Trained, train};
use crate::walk_forward::WalkForward;

/// Windows in one run of a model that is judged.
const BATCH: usize = 256;
pub const NAIVE: &str = "naive";
pub const MODEL: &str = "model";

/// All samples and where folds cut them; nothing is fitted.
pub struct Samples {
    /// Rows as the features gave them.
    pub dataset: Dataset,
    pub splits: Vec<Split>,
    pub returns: SquaredReturns,
    pub feature_names: Vec<String>,
    /// Of the bars.
    pub digest: String,
    pub bars: usize,
}

impl Samples {
    pub fn build(
        recipe: &TrainingRecipe,
        walk: &WalkForward,
        bars: &[&[Bar]],
        features: &mut dyn Features,
    ) -> Result<Samples, AssessError> {
        let mut dataset = Dataset::build(bars, features, recipe.window as usize, &recipe.label)?;
        walk.thin(&mut dataset.samples, dataset.timeframe);
        as_probabilities(&mut dataset, &recipe.label);
        let splits = walk.splits(&dataset.samples, dataset.timeframe)?;
        Ok(Samples {
            splits,
            returns: SquaredReturns::of(bars),
            feature_names: features.spec().names.clone(),
            digest: bars_digest(bars),
            bars: bars.iter().map(|bars| bars.len()).sum(),
            dataset,
        })
    }
}

/// Directions are judged as probabilities of up: 1 where it came, 0 where not.
pub(super) fn as_probabilities(dataset: &mut Dataset, label: &LabelRecipe) {
    if label.kind == LabelKind::Direction {
        dataset.samples.iter_mut().for_each(|s| s.label = f64::from(u8::from(s.label > 0.0)));
    }
}

/// One fold's samples, normalised by its training part.
pub struct FoldData {
    /// From 0.
    pub fold: usize,
    pub dataset: Dataset,
    pub split: Split,
    pub normaliser: Normaliser,
    pub label: LabelScale,
    pub recipe: LabelRecipe,
    pub output: Output,
    pub kind: LabelKind,
    pub horizon: usize,
    /// The naive forecast's mean absolute error on the training part: what MASE divides by.
    pub naive_mae: f64,
    /// For volatilities: the least label above 0 of the training part, below which no forecast goes.
    pub floor: Option<f64>,
}

impl FoldData {
    pub fn of(samples: &Samples, fold: usize, recipe: &TrainingRecipe) -> FoldData {
        let split = samples.splits[fold].clone();
        let mut dataset = samples.dataset.clone();
        let normaliser = Normaliser::fit(&dataset, &split.train, recipe.clip);
        let label = LabelScale::fit(&dataset.samples, &split.train);
        dataset.normalise(&normaliser);
        if recipe.label.kind == LabelKind::Direction {
            // All that is known without looking: how often it went up.
            dataset.samples.iter_mut().for_each(|s| s.naive = label.mean);
        }
        let labels = || split.train.iter().map(|&i| &dataset.samples[i]);
        let naive_mae =
            labels().map(|s| (s.label - s.naive).abs()).sum::<f64>() / split.train.len().max(1) as f64;
        let least = || labels().map(|s| s.label).filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
        let floor = match recipe.label.kind {
            LabelKind::RealisedVolatility => Some(least()).filter(|x| x.is_finite()),
            LabelKind::LogReturn | LabelKind::Direction => None,
        };
        let (kind, horizon) = (recipe.label.kind, recipe.label.horizon_bars as usize);
        FoldData {
            fold,
            dataset,
            split,
            normaliser,
            label,
            recipe: recipe.label,
            output: recipe.output.kind.clone(),
            kind,
            horizon,
            naive_mae,
            floor,
        }
    }

    /// These samples' windows alone.
    pub fn of_windows(&self, indices: &[usize]) -> FoldData {
        let split = Split { train: Vec::new(), validation: Vec::new(), test: Vec::new(), ..self.split };
        FoldData {
            dataset: self.dataset.of_windows(indices),
            split,
            normaliser: self.normaliser.clone(),
            output: self.output.clone(),
            ..*self
        }
    }

    /// How outputs become numbers in the label's unit; probabilities are what they are.
    fn scale(&self) -> LabelScale {
        match self.output {
            Output::Point | Output::Quantiles { .. } => self.label,
            Output::Probabilities => LabelScale { mean: 0.0, scale: 1.0 },
        }
    }

    /// The one number of a forecast that errors are measured of.
    pub(super) fn main(&self, row: &[f64]) -> f64 {
        let place = match &self.output {
            Output::Point => 0,
            Output::Quantiles { levels } => levels.iter().position(|&q| q == 0.5).unwrap_or(0),
            Output::Probabilities => row.len().saturating_sub(1),
        };
        row.get(place).copied().unwrap_or(f64::NAN)
    }

    /// Points of the distributions that quantiles are of. `None`: the output isn't quantiles, or too few of them.
    pub(super) fn points_of(&self, rows: &[Vec<f64>]) -> Option<Vec<f64>> {
        let Output::Quantiles { levels } = &self.output else { return None };
        let each: Option<Vec<Vec<f64>>> = rows.iter().map(|row| points_between(levels, row)).collect();
        each.map(|points| points.concat())
    }

    /// Validation, then test.
    pub(super) fn judged(&self) -> Vec<usize> {
        [self.split.validation.as_slice(), &self.split.test].concat()
    }

    /// Keeps what was forecast of the judged samples: residuals of the validation part, forecasts of the test part.
    pub(super) fn forecasts(
        &self,
        name: &str,
        seed: Option<u64>,
        fitted: String,
        judged: Vec<f64>,
    ) -> FoldForecasts {
        let floor = self.floor.unwrap_or(f64::NEG_INFINITY);
        let floored = judged[self.split.validation.len()..].iter().filter(|f| **f < floor).count();
        let raised: Vec<f64> = judged.iter().map(|f| f.max(floor)).collect();
        let (validation, test) = raised.split_at(self.split.validation.len());
        let residual = |(&i, f): (&usize, &f64)| self.dataset.samples[i].label - f;
        let mut residuals: Vec<f64> = self.split.validation.iter().zip(validation).map(residual).collect();
        FoldForecasts {
            name: name.into(),
            seed,
            fitted,
            forecasts: test.to_vec(),
            floored: floored as u64,
            points: points_of(&mut residuals),
            quantiles: None,
            best_epoch: 0,
            train_curve: Vec::new(),
            validation_curve: Vec::new(),
        }
    }
}

/// What one forecaster said of one fold's test part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldForecasts {
    pub name: String,
    /// Of the model; baselines have none.
    pub seed: Option<u64>,
    /// What was picked on the training or validation part.
    pub fitted: String,
    /// In the label's unit and in order of the test samples.
    pub forecasts: Vec<f64>,
    /// How many of them were below the floor, and are the floor.
    pub floored: u64,
    /// Points of the residuals of the validation part.
    pub points: Vec<f64>,
    /// Points of a distribution of each forecast's own, where the forecaster gives one.
    #[serde(default)]
    pub quantiles: Option<Vec<f64>>,
    pub best_epoch: u32,
    pub train_curve: Vec<f64>,
    pub validation_curve: Vec<f64>,
}

/// Who forecasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecaster {
    /// All baselines but DLinear.
    Simple,
    Dlinear,
    Model {
        seed: u64,
    },
}

pub struct Made {
    pub forecasts: Vec<FoldForecasts>,
    /// With its weights.
    pub model: Option<Graph>,
}

impl Forecaster {
    pub fn name(&self) -> String {
        match self {
            Forecaster::Simple => "baselines".into(),
            Forecaster::Dlinear => "DLinear".into(),
            Forecaster::Model { seed } => format!("model, seed {seed}"),
        }
    }

    /// For files.
    pub fn slug(&self) -> String {
        match self {
            Forecaster::Simple => "baselines".into(),
            Forecaster::Dlinear => "dlinear".into(),
            Forecaster::Model { seed } => format!("seed-{seed}"),
        }
    }

    pub fn run(
        &self,
        subject: &Subject<'_>,
        samples: &Samples,
        data: &FoldData,
        progress: &mut dyn Progress,
    ) -> Result<Made, AssessError> {
        match *self {
            Forecaster::Simple => Ok(Made { forecasts: simple(samples, data, true)?, model: None }),
            Forecaster::Dlinear => {
                let outputs = output::columns(&data.output, &data.recipe);
                let graph = dlinear(data.dataset.window, data.dataset.columns, outputs)?;
                let settings = TrainingSettings { seed: 1, ..subject.recipe.training.clone() };
                let (forecasts, _) =
                    trained("dlinear", None, &graph, settings, data, subject.executor, progress)?;
                Ok(Made { forecasts: vec![forecasts], model: None })
            }
            Forecaster::Model { seed } => {
                let settings = TrainingSettings { seed, ..subject.recipe.training.clone() };
                let (forecasts, model) =
                    trained(MODEL, Some(seed), subject.model, settings, data, subject.executor, progress)?;
                Ok(Made { forecasts: vec![forecasts], model: Some(model) })
            }
        }
    }
}

/// The baselines that need no training graph; `trees` are the slow ones among them.
pub fn simple(samples: &Samples, data: &FoldData, trees: bool) -> Result<Vec<FoldForecasts>, AssessError> {
    let FoldData { dataset, split, .. } = data;
    let judged = data.judged();
    let naive: Vec<f64> = judged.iter().map(|&i| dataset.samples[i].naive).collect();
    let mut all = vec![data.forecasts(NAIVE, None, String::new(), naive)];
    if data.kind == LabelKind::Direction {
        all.extend(classifiers(data, trees)?);
        return Ok(all);
    }
    if data.output != Output::Point {
        all.extend(distributions(samples, data));
    }
    let drift = Drift::fit(dataset, &split.train);
    let fitted = format!("{:+.3e}", drift.mean_error);
    all.push(data.forecasts("drift", None, fitted, drift.forecasts(dataset, &judged)));
    let ridge = Ridge::fit(dataset, &split.train, &split.validation)?;
    let forecasts = judged.iter().map(|&i| ridge.predict(dataset, &dataset.samples[i])).collect();
    all.push(data.forecasts("ridge", None, format!("lambda {}", ridge.lambda), forecasts));
    if trees {
        let trees = Trees::fit(dataset, &split.train, &split.validation)?;
        all.push(data.forecasts("trees", None, String::new(), trees.forecasts(dataset, &judged)));
    }
    if let (LabelKind::RealisedVolatility, Some(floor)) = (data.kind, data.floor) {
        let ewma = Ewma::fit(dataset, &samples.returns, data.horizon, floor, &split.train);
        let forecasts = ewma.forecasts(dataset, &samples.returns, &judged);
        all.push(data.forecasts("ewma", None, format!("lambda {}", ewma.lambda), forecasts));
        if let Some(har) = Har::fit(dataset, &samples.returns, data.horizon, &split.train) {
            let forecasts = har.forecasts(dataset, &samples.returns, &judged);
            all.push(data.forecasts("har", None, String::new(), forecasts));
        }
    }
    Ok(all)
}

/// Probabilities of up, from the inputs of the ridge regression.
fn classifiers(data: &FoldData, trees: bool) -> Result<Vec<FoldForecasts>, AssessError> {
    let FoldData { dataset, split, .. } = data;
    let judged = data.judged();
    let logistic = Logistic::fit(dataset, &split.train, &split.validation)?;
    let forecasts = judged.iter().map(|&i| logistic.predict(dataset, &dataset.samples[i])).collect();
    let mut all = vec![data.forecasts("logistic", None, format!("lambda {}", logistic.lambda), forecasts)];
    if trees {
        let trees = Trees::fit_classes(dataset, &split.train, &split.validation)?;
        all.push(data.forecasts("trees", None, String::new(), trees.forecasts(dataset, &judged)));
    }
    Ok(all)
}

/// Distributions that look at no feature: that of the training labels, and of returns a normal one whose variance is
/// an EWMA's.
fn distributions(samples: &Samples, data: &FoldData) -> Vec<FoldForecasts> {
    let FoldData { dataset, split, .. } = data;
    let judged = data.judged();
    let mut labels: Vec<f64> = split.train.iter().map(|&i| dataset.samples[i].label).collect();
    let climate = points_of(&mut labels);
    let medians = vec![climate[POINTS / 2]; judged.len()];
    let climate = climate.repeat(split.test.len());
    let mut all = vec![FoldForecasts {
        quantiles: Some(climate),
        ..data.forecasts("climate", None, String::new(), medians)
    }];
    let sizes = labels.iter().map(|y| y.abs()).filter(|y| *y > 0.0);
    let least = sizes.fold(f64::INFINITY, f64::min);
    if data.kind == LabelKind::LogReturn && least.is_finite() {
        let ewma = Ewma::fit(dataset, &samples.returns, data.horizon, least, &split.train);
        let normal = Normal::standard();
        let scores: Vec<f64> = (0..POINTS).map(|i| normal.inverse_cdf(level(i))).collect();
        let deviations = ewma.forecasts(dataset, &samples.returns, &split.test);
        let points = deviations.iter().flat_map(|deviation| scores.iter().map(move |z| z * deviation));
        let quantiles = Some(points.collect());
        let fitted = format!("lambda {}", ewma.lambda);
        all.push(FoldForecasts {
            quantiles,
            ..data.forecasts("normal", None, fitted, vec![0.0; judged.len()])
        });
    }
    all
}

/// Trains a graph on the fold and forecasts by its best epoch.
fn trained(
    name: &str,
    seed: Option<u64>,
    graph: &Graph,
    settings: TrainingSettings,
    data: &FoldData,
    executor: &dyn Executor,
    progress: &mut dyn Progress,
) -> Result<(FoldForecasts, Graph), AssessError> {
    let FoldData { dataset, split, .. } = data;
    let target = Target { label: data.recipe, output: data.output.clone() };
    let scale = data.scale();
    let job = Job { model: graph, dataset, split, label: scale, target: &target, settings: &settings };
    let Trained { model, best_epoch, train_curve, validation_curve, .. } =
        train(&job, executor, progress, None)?;
    let rows = values(&model, data, &data.judged(), executor)?;
    let fitted = format!("epoch {best_epoch}");
    let judged = rows.iter().map(|row| data.main(row)).collect();
    let forecasts = data.forecasts(name, seed, fitted, judged);
    let quantiles = data.points_of(&rows[data.split.validation.len()..]);
    Ok((FoldForecasts { best_epoch, train_curve, validation_curve, quantiles, ..forecasts }, model))
}

/// A trained model's forecasts of these samples: in the label's unit the point or the median, or the probability of up.
pub fn predict(
    model: &Graph,
    data: &FoldData,
    indices: &[usize],
    executor: &dyn Executor,
) -> Result<Vec<f64>, AssessError> {
    Ok(values(model, data, indices, executor)?.iter().map(|row| data.main(row)).collect())
}

/// All that it says of them: points, rising quantiles, or probabilities of down and up.
fn values(
    model: &Graph,
    data: &FoldData,
    indices: &[usize],
    executor: &dyn Executor,
) -> Result<Vec<Vec<f64>>, AssessError> {
    let batch = indices.len().clamp(1, BATCH);
    let mut predictor = Predictor::new(executor, model, &data.dataset, batch)?;
    let outputs = predictor.outputs(&data.dataset, indices)?;
    let row = |outputs: &[f64]| -> Vec<f64> {
        if data.output == Output::Point {
            return outputs.iter().map(|&output| data.label.to_prediction(output)).collect();
        }
        let outputs: Vec<f32> = outputs.iter().map(|&x| x as f32).collect();
        output::values(&data.output, data.scale(), &outputs).into_iter().map(f64::from).collect()
    };
    Ok(outputs.chunks(predictor.width()).map(row).collect())
}
