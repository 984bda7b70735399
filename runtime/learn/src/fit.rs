//! From bars to a judged model: prepare, then [`train`](crate::train::train), then judge.
//!
//! ```text
//! bars -> features -> dataset -> split -> normaliser (training rows) -> train -> judge (test part) -> manifest
//! ```

use std::borrow::Cow;
use std::fmt;

use graph::{Executor, Graph};
use market::{Bar, Features, Symbol, Timestamp};
use registry::LabelKind;

use crate::baseline::{Ridge, RidgeError};
use crate::calibrate::outcomes;
use crate::dataset::{Dataset, DatasetError, bars_digest};
use crate::evaluate::{Context, EvaluateError, Evaluation, Forecasts, evaluate};
use crate::normalise::{LabelScale, Normaliser};
use crate::output::OutputRecipe;
use crate::predict::PredictError;
use crate::reading::Reading;
use crate::recipe::{RecipeError, TrainingRecipe};
use crate::settings::TrainingSettings;
use crate::split::{CalibrationPart, Split, SplitError};
use crate::train::{Job, Target};
use crate::tune::FoldTimes;

/// Data that is ready to train on, and what the manifest says of it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Normalised.
    pub dataset: Dataset,
    pub split: Split,
    /// The end of the validation period, which training doesn't see.
    pub calibration: Option<CalibrationPart>,
    pub normaliser: Normaliser,
    pub label: LabelScale,
    /// What the outputs are trained to be.
    pub target: Target,
    pub output: OutputRecipe,
    pub feature_names: Vec<String>,
    /// Over all streams.
    pub bars: usize,
    pub first_open_time: Timestamp,
    pub last_open_time: Timestamp,
    /// [`bars_digest`] of the streams.
    pub digest: String,
}

/// Makes the dataset, cuts it, and normalises it by its training part. `bars` are the streams of the recipe's symbols,
/// in that order; where the recipe pins its data they are cut to its times and must have its digest.
pub fn prepare(
    recipe: &TrainingRecipe,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<Prepared, PrepareDataError> {
    recipe.check().map_err(PrepareDataError::Recipe)?;
    let normaliser = |dataset: &Dataset, split: &Split| Normaliser::fit(dataset, &split.train, recipe.clip);
    prepare_with(recipe, bars, features, by_recipe(recipe), normaliser, label_scale(recipe))
}

/// Of the training labels; classes have none.
fn label_scale(recipe: &TrainingRecipe) -> impl Fn(&Dataset, &Split) -> LabelScale {
    let kind = recipe.label.kind;
    move |dataset, split| match kind {
        LabelKind::LogReturn | LabelKind::RealisedVolatility => {
            LabelScale::fit(&dataset.samples, &split.train)
        }
        LabelKind::Direction => LabelScale { mean: 0.0, scale: 1.0 },
    }
}

/// [`prepare`], but cut into one fold of a study; `bars` end before the test part, which is empty here.
pub fn prepare_fold(
    recipe: &TrainingRecipe,
    fold: FoldTimes,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<Prepared, PrepareDataError> {
    recipe.check().map_err(PrepareDataError::Recipe)?;
    let cut = |dataset: &Dataset| fold.split(&dataset.samples, dataset.timeframe, recipe.split.embargo_bars);
    let normaliser = |dataset: &Dataset, split: &Split| Normaliser::fit(dataset, &split.train, recipe.clip);
    prepare_with(recipe, bars, features, cut, normaliser, label_scale(recipe))
}

fn by_recipe(recipe: &TrainingRecipe) -> impl Fn(&Dataset) -> Result<Split, SplitError> {
    |dataset| recipe.split.split(&dataset.samples, dataset.timeframe)
}

/// [`prepare`], but with the constants of a model that is already trained: to judge it on other bars.
pub fn prepare_for(
    recipe: &TrainingRecipe,
    manifest: &registry::Manifest,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<Prepared, PrepareDataError> {
    let registry::Label { mean, scale, .. } = manifest.label;
    let normaliser = |_: &Dataset, _: &Split| Normaliser::from_manifest(&manifest.normaliser);
    prepare_with(recipe, bars, features, by_recipe(recipe), normaliser, |_, _| LabelScale { mean, scale })
}

fn prepare_with(
    recipe: &TrainingRecipe,
    bars: &[&[Bar]],
    features: &mut dyn Features,
    cut: impl Fn(&Dataset) -> Result<Split, SplitError>,
    fit_normaliser: impl Fn(&Dataset, &Split) -> Normaliser,
    fit_label: impl Fn(&Dataset, &Split) -> LabelScale,
) -> Result<Prepared, PrepareDataError> {
    check_plugin(recipe, features)?;
    let bars = pinned_bars(recipe, bars)?;
    check_streams(recipe, &bars)?;
    let mut dataset = Dataset::build(&bars, features, recipe.window as usize, &recipe.label)?;
    let mut split = cut(&dataset)?;
    let (held, embargo) = (recipe.output.calibration, recipe.split.embargo_bars);
    let calibration = split.hold_out(held, embargo, &dataset.samples, dataset.timeframe)?;
    let normaliser = fit_normaliser(&dataset, &split);
    let label = fit_label(&dataset, &split);
    dataset.normalise(&normaliser);
    let times = || bars.iter().flat_map(|bars| [bars[0].open_time, bars[bars.len() - 1].open_time]);
    Ok(Prepared {
        split,
        calibration,
        normaliser,
        label,
        target: Target { label: recipe.label, output: recipe.output.kind.clone() },
        output: recipe.output.clone(),
        feature_names: features.spec().names.clone(),
        bars: bars.iter().map(|bars| bars.len()).sum(),
        first_open_time: times().min().unwrap_or_default(),
        last_open_time: times().max().unwrap_or_default(),
        digest: bars_digest(&bars),
        dataset,
    })
}

fn check_plugin(recipe: &TrainingRecipe, features: &dyn Features) -> Result<(), PrepareDataError> {
    let spec = features.spec();
    if spec.digest == recipe.features.digest {
        return Ok(());
    }
    Err(PrepareDataError::Plugin {
        plugin: recipe.features.plugin.clone(),
        expected: recipe.features.digest.clone(),
        found: spec.digest.clone(),
    })
}

fn pinned_bars<'a>(
    recipe: &TrainingRecipe,
    bars: &[&'a [Bar]],
) -> Result<Cow<'a, [&'a [Bar]]>, PrepareDataError> {
    let Some(pinned) = &recipe.data.pinned else { return Ok(bars.to_vec().into()) };
    let cut = |bars: &&'a [Bar]| {
        let first = bars.partition_point(|bar| bar.open_time < pinned.first_open_time);
        let end = bars.partition_point(|bar| bar.open_time <= pinned.last_open_time);
        &bars[first..end.max(first)]
    };
    let cut: Vec<&[Bar]> = bars.iter().map(cut).collect();
    let found = bars_digest(&cut);
    if found == pinned.digest {
        Ok(cut.into())
    } else {
        Err(PrepareDataError::Bars { expected: pinned.digest.clone(), found })
    }
}

fn check_streams(recipe: &TrainingRecipe, bars: &[&[Bar]]) -> Result<(), PrepareDataError> {
    let expected = &recipe.data.symbols;
    let fits = |(bars, symbol): (&&[Bar], &Symbol)| {
        bars.first()
            .is_some_and(|bar| bar.key.symbol == *symbol && bar.key.timeframe == recipe.data.timeframe)
    };
    if bars.len() == expected.len() && bars.iter().zip(expected).all(fits) {
        return Ok(());
    }
    let found = bars.iter().map(|bars| bars.first().map_or("(no bars)".into(), |bar| bar.key.to_string()));
    Err(PrepareDataError::Streams {
        expected: expected.iter().map(|symbol| format!("{symbol} {}", recipe.data.timeframe)).collect(),
        found: found.collect(),
    })
}

impl Prepared {
    /// What [`train`](crate::train::train) takes.
    pub fn job<'a>(&'a self, model: &'a Graph, settings: &'a TrainingSettings) -> Job<'a> {
        let Prepared { dataset, split, label, target, .. } = self;
        Job { model, dataset, split, label: *label, target, settings }
    }

    /// How the outputs are read.
    pub fn reading(&self) -> Reading {
        let OutputRecipe { kind, interval_level, factor, .. } = &self.output;
        Reading::new(self.target.label, kind.clone(), self.label, *interval_level, *factor)
    }
}

/// Judges a model with given weights on the test part, beside the naive forecast and a ridge regression that is
/// fitted on the training part.
pub fn judge(
    recipe: &TrainingRecipe,
    prepared: &Prepared,
    model: &Graph,
    executor: &dyn Executor,
) -> Result<Evaluation, JudgeError> {
    let forecasts_and_ridge = forecasts(prepared, model, executor)?;
    let (forecasts, ridge) = forecasts_and_ridge;
    let Prepared { dataset, split, .. } = prepared;
    let naive_error = |&i: &usize| (dataset.samples[i].label - dataset.samples[i].naive).abs();
    let context = Context {
        label: recipe.label.kind,
        horizon_bars: recipe.label.horizon_bars,
        naive_train_mae: split.train.iter().map(naive_error).sum::<f64>() / split.train.len().max(1) as f64,
        ridge_lambda: ridge.lambda,
        bootstrap: recipe.bootstrap,
    };
    evaluate(&forecasts, &context).map_err(JudgeError::Evaluate)
}

/// The labels of the test part and all forecasts of them.
pub fn forecasts(
    prepared: &Prepared,
    model: &Graph,
    executor: &dyn Executor,
) -> Result<(Forecasts, Ridge), JudgeError> {
    let Prepared { dataset, split, .. } = prepared;
    let ridge = Ridge::fit(dataset, &split.train, &split.validation).map_err(JudgeError::Ridge)?;
    let reading = prepared.reading();
    let judged = outcomes(&reading, dataset, &split.test, model, executor).map_err(JudgeError::Predict)?;
    let test = || split.test.iter().map(|&i| &dataset.samples[i]);
    let forecasts = Forecasts {
        times: test().map(|sample| sample.time).collect(),
        labels: test().map(|sample| sample.label).collect(),
        model: judged.iter().map(|outcome| f64::from(reading.value(&outcome.values))).collect(),
        naive: test().map(|sample| sample.naive).collect(),
        ridge: test().map(|sample| ridge.predict(dataset, sample)).collect(),
    };
    Ok((forecasts, ridge))
}

/// Why there is nothing to train on.
#[derive(Clone, Debug, PartialEq)]
pub enum PrepareDataError {
    Recipe(RecipeError),
    Plugin { plugin: String, expected: String, found: String },
    Bars { expected: String, found: String },
    Streams { expected: Vec<String>, found: Vec<String> },
    Dataset(DatasetError),
    Split(SplitError),
}

impl From<DatasetError> for PrepareDataError {
    fn from(error: DatasetError) -> Self {
        PrepareDataError::Dataset(error)
    }
}

impl From<SplitError> for PrepareDataError {
    fn from(error: SplitError) -> Self {
        PrepareDataError::Split(error)
    }
}

impl fmt::Display for PrepareDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepareDataError::Recipe(e) => write!(f, "{e}"),
            PrepareDataError::Plugin { plugin, expected, found } => write!(
                f,
                "feature plugin {plugin} has SHA-256 {found} and the recipe wants {expected}; install that build or train anew"
            ),
            PrepareDataError::Bars { expected, found } => {
                write!(
                    f,
                    "the bars have digest {found} and the model was trained on {expected}; give the same bars"
                )
            }
            PrepareDataError::Streams { expected, found } => {
                write!(f, "the bars are of {found:?} and the recipe wants {expected:?}, in this order")
            }
            PrepareDataError::Dataset(e) => write!(f, "{e}"),
            PrepareDataError::Split(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for PrepareDataError {}

/// Why a model has no evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum JudgeError {
    Predict(PredictError),
    Ridge(RidgeError),
    Evaluate(EvaluateError),
}

impl fmt::Display for JudgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JudgeError::Predict(e) => write!(f, "{e}"),
            JudgeError::Ridge(e) => write!(f, "{e}"),
            JudgeError::Evaluate(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for JudgeError {}

#[cfg(test)]
mod tests;
