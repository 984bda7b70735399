//! A new version of a model on newer bars, with everything else as in its manifest.
//!
//! ```text
//! parent    |train          |validation|test|
//! retrained |older ........ |fresh ......   |validation |test   |
//! ```
//!
//! Fresh samples are those that the parent wasn't trained on. From scratch, older and fresh samples train alike. Continued
//! from the parent's weights, the fresh ones train beside a sample of the older ones, drawn once by the seed (experience
//! replay: Robins 1995; Rolnick et al. 2019), since a network that sees new data alone forgets. Then the normaliser and
//! the label's mean and scale are the parent's: its weights are in those units, and other constants would change what
//! each of them means before the first step. The test part begins behind all that the parent was trained, stopped or
//! calibrated on, so that both can be compared on it.

use std::fmt;

use market::{Bar, Features, Timestamp};
use registry::{Manifest, Weights};
use serde::Serialize;

use crate::fit::{self, PrepareDataError, Prepared};
use crate::random::Random;
use crate::recipe::{RecipeError, TrainingRecipe, manifest_time};
use crate::split::{CalibrationCut, Cut};

/// The file beside a model that holds the [states](crate::train::Trained::states) to go on from.
pub const STATES_FILE: &str = "training.safetensors";
/// Fresh samples must fill so many batches: fewer steps teach nothing.
pub const FRESH_BATCHES_MIN: u64 = 10;
/// What is left of the learning rate where weights are gone on from: at the whole rate the first steps undo what was
/// learnt. Of 1, 0.3 and 0.1 the last alone beat the model as it was on each of five pairs (hourly volatility from
/// 5-minute bars of 2024, retrained monthly, half of the training part older samples).
pub const CONTINUED_RATE: f64 = 0.1;
/// What the random numbers of the draw are for.
const DRAW: u64 = 0x7265_706c_6179;

/// What is other than in the manifest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retraining {
    pub weights: Weights,
    /// Of the training part, when weights are continued: the share of older samples, from 0 to below 1.
    pub replay_share: f64,
    /// Of the times; absent: the parent's.
    pub validation_share: Option<f64>,
    pub test_share: Option<f64>,
}

/// What the training part is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mix {
    /// Samples from here on are fresh.
    pub fresh_from: Timestamp,
    pub fresh: u64,
    /// Older samples that are trained on, of those that there are.
    pub older: u64,
    pub older_there: u64,
}

/// The parent's recipe for other bars: of the same symbols, cut into the same shares.
pub fn recipe(parent: &Manifest, how: &Retraining) -> Result<TrainingRecipe, RetrainError> {
    let mut recipe = TrainingRecipe::from_manifest(parent).map_err(RetrainError::Recipe)?;
    let share = |name, x: f64| {
        let fits = x.is_finite() && x > 0.0 && x < 1.0;
        fits.then_some(x).ok_or(RetrainError::Share { name, found: x, expected: "between 0 and 1" })
    };
    if !(how.replay_share >= 0.0 && how.replay_share < 1.0) {
        let expected = "from 0 to below 1";
        return Err(RetrainError::Share { name: "replay", found: how.replay_share, expected });
    }
    let (usual_validation, usual_test) = shares_of(parent).map_err(RetrainError::Recipe)?;
    recipe.split.cut = Cut::Fractions {
        validation: share("validation", how.validation_share.unwrap_or(usual_validation))?,
        test: share("test", how.test_share.unwrap_or(usual_test))?,
    };
    if let Some(part) = &parent.data.calibration {
        let stopped = parent.data.validation.samples as f64;
        recipe.output.calibration =
            CalibrationCut::Share(part.samples as f64 / (stopped + part.samples as f64));
    }
    recipe.training.learning_rate = first_learning_rate(parent)
        * match how.weights {
            Weights::Continued => CONTINUED_RATE,
            Weights::Scratch => 1.0,
        };
    recipe.data.pinned = None;
    // Other bars: other trials are counted there.
    recipe.trials = 1;
    Ok(recipe)
}

/// The rate of the last training in the model's line that began at random weights.
pub fn first_learning_rate(model: &Manifest) -> f64 {
    match &model.parent {
        Some(parent) if parent.weights == Weights::Continued => parent.first_learning_rate,
        Some(_) | None => model.training.learning_rate,
    }
}

/// The shares of time that the validation and the test part take.
fn shares_of(parent: &Manifest) -> Result<(f64, f64), RecipeError> {
    let data = &parent.data;
    let [train, validation, test, until] = [
        manifest_time("data.train.from", &data.train.from)?,
        manifest_time("data.validation.from", &data.validation.from)?,
        manifest_time("data.test.from", &data.test.from)?,
        manifest_time("data.test.until", &data.test.until)?,
    ]
    .map(|time| time.0 as f64);
    Ok(((test - validation) / (until - train), (until - test) / (until - train)))
}

/// Makes the data ready, and picks what is trained on.
pub fn prepare(
    recipe: &TrainingRecipe,
    parent: &Manifest,
    how: &Retraining,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<(Prepared, Mix), RetrainError> {
    let trained_until = manifest_time("data.validation.from", &parent.data.validation.from);
    let seen_until = manifest_time("data.test.from", &parent.data.test.from);
    let (trained_until, seen_until) =
        (trained_until.map_err(RetrainError::Recipe)?, seen_until.map_err(RetrainError::Recipe)?);
    recipe.check().map_err(RetrainError::Recipe)?;
    let prepared = match how.weights {
        Weights::Continued => fit::prepare_for(recipe, parent, bars, features),
        Weights::Scratch => fit::prepare(recipe, bars, features),
    };
    let mut prepared = prepared.map_err(RetrainError::Data)?;
    let fresh_from = trained_until;
    let samples = &prepared.dataset.samples;
    let (older, fresh): (Vec<usize>, Vec<usize>) =
        prepared.split.train.iter().partition(|&&i| samples[i].time < fresh_from);
    let needed = FRESH_BATCHES_MIN * u64::from(recipe.training.batch);
    let streams = bars.len().max(1) as u64;
    if (fresh.len() as u64) < needed {
        // Of each new bar only the training share becomes a training sample.
        let share = prepared.split.train.len() as f64 / samples.len().max(1) as f64;
        let missing = (needed - fresh.len() as u64) as f64 / streams as f64;
        let more_bars = (missing / share.clamp(0.01, 1.0)).ceil() as u64;
        return Err(RetrainError::TooLittle { fresh: fresh.len() as u64, fresh_from, needed, more_bars });
    }
    let test_from = prepared.split.times.test;
    if test_from < seen_until {
        return Err(RetrainError::Seen { test_from, seen_until });
    }
    let there = older.len() as u64;
    let older = match how.weights {
        Weights::Scratch => older,
        Weights::Continued => drawn(older, fresh.len(), how.replay_share, recipe.training.seed),
    };
    let mix = Mix { fresh_from, fresh: fresh.len() as u64, older: older.len() as u64, older_there: there };
    prepared.split.train = [older, fresh].concat();
    Ok((prepared, mix))
}

/// So many older samples that they are `share` of all, or all there are; in order of time.
fn drawn(mut older: Vec<usize>, fresh: usize, share: f64, seed: u64) -> Vec<usize> {
    let wanted = (fresh as f64 * share / (1.0 - share)).round() as usize;
    if wanted < older.len() {
        Random::derived(seed, DRAW).shuffle(&mut older);
        older.truncate(wanted);
        older.sort_unstable();
    }
    older
}

/// Why a model isn't retrained.
#[derive(Clone, Debug, PartialEq)]
pub enum RetrainError {
    Recipe(RecipeError),
    Data(PrepareDataError),
    Share {
        name: &'static str,
        found: f64,
        expected: &'static str,
    },
    /// Too few samples that the parent wasn't trained on.
    TooLittle {
        fresh: u64,
        fresh_from: Timestamp,
        needed: u64,
        /// Of each symbol, about.
        more_bars: u64,
    },
    /// The parent has seen the beginning of the test part.
    Seen {
        test_from: Timestamp,
        seen_until: Timestamp,
    },
}

impl fmt::Display for RetrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetrainError::Recipe(e) => write!(f, "{e}"),
            RetrainError::Data(e) => write!(f, "{e}"),
            RetrainError::Share { name, found, expected } => {
                write!(f, "the {name} share is {found}; set it {expected}")
            }
            RetrainError::TooLittle { fresh, fresh_from, needed, more_bars } => write!(
                f,
                "too little is new: {fresh} training samples since {fresh_from}, and {needed} are needed ({FRESH_BATCHES_MIN} \
                 batches); wait for about {more_bars} more bars of each symbol, or make the validation and test shares smaller"
            ),
            RetrainError::Seen { test_from, seen_until } => write!(
                f,
                "the test part would begin at {test_from}, and the model has seen bars up to {seen_until}; give newer bars, \
                 or make the validation and test shares smaller"
            ),
        }
    }
}

impl std::error::Error for RetrainError {}

#[cfg(test)]
mod tests;
