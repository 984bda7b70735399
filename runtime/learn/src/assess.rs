//! Honest evaluation: a recipe on walk-forward folds, beside its baselines, with tests of itself.
//!
//! ```text
//! bars -> samples -> folds -> forecasts of each fold (all fitted anew) -> panel -> table -> verdict
//!                                                                  probes ----------------^
//! ```
//!
//! [`assess`] runs all of it; [`gate::gate`] is the verdict alone, a function of the evidence.

pub mod fold;
pub mod gate;
pub mod importance;
pub mod pair;
pub mod panel;
pub mod report;
pub mod saved;
pub mod table;

use std::fmt;

use graph::{Executor, Graph};
use market::{Bar, Features};
use serde::{Deserialize, Serialize};

use crate::baseline::RidgeError;
use crate::baselines::dlinear::DlinearError;
use crate::baselines::trees::TreesError;
use crate::dataset::DatasetError;
use crate::evaluate::EvaluateError;
use crate::predict::PredictError;
use crate::probes::{self, ProbeSettings};
use crate::progress::Progress;
use crate::recipe::{RecipeError, TrainingRecipe};
use crate::train::TrainError;
use crate::walk_forward::{WalkForward, WalkForwardError};

use fold::{FoldData, Forecaster, Samples};
use gate::GateRules;
use panel::Panel;
use report::{Assessment, FoldNote};
use saved::{Keep, Saved, SavedError};
use table::Terms;

pub const SEEDS_MAX: usize = 100;

/// What is judged, and on what it runs. The recipe's own split and seed are not used.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub recipe: &'a TrainingRecipe,
    pub walk: &'a WalkForward,
    /// As the architecture built it: `[B, window, columns]` → "prediction" `[B, outputs]`, as many as the recipe's output
    /// has.
    pub model: &'a Graph,
    pub executor: &'a dyn Executor,
}

/// How it is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// One training of every fold each.
    pub seeds: Vec<u64>,
    /// Paid on each change of a position, in basis points of its value.
    pub fee_bps: f64,
    /// Of the Sharpe ratios of all trials, where it is known.
    pub trial_variance: Option<f64>,
    /// `None`: no probes, and so no promotion.
    pub probes: Option<ProbeSettings>,
    pub rules: GateRules,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seeds: vec![1, 2, 3],
            fee_bps: 5.0,
            trial_variance: None,
            probes: Some(ProbeSettings::default()),
            rules: GateRules::default(),
        }
    }
}

impl Settings {
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        let fine = (1..=SEEDS_MAX).contains(&seeds.len()) && seeds.len() == self.seeds.len();
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let checks = [
            (fine, "seeds", "1 to 100 different ones"),
            (self.fee_bps == 0.0 || positive(self.fee_bps), "fee_bps", "zero or a finite number above it"),
            (self.trial_variance.is_none_or(positive), "trial_variance", "a finite number above zero"),
            (self.rules.level > 0.0 && self.rules.level < 0.5, "level", "between 0 and 0.5"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, key, expected)| (key, expected))
    }
}

/// Watches an evaluation.
pub trait Watch: Progress {
    /// `done` of `total` parts are finished, and this one begins.
    fn part(&mut self, _name: &str, _done: usize, _total: usize) {}
}

impl Watch for () {}

/// Judges a recipe on these streams, which are those of its symbols in that order. With `keep`, finished forecasts are
/// kept in its folder, and the same evaluation goes on from them.
pub fn assess(
    subject: &Subject<'_>,
    settings: &Settings,
    bars: &[&[Bar]],
    features: &mut dyn Features,
    keep: Option<Keep>,
    watch: &mut dyn Watch,
) -> Result<Assessment, AssessError> {
    let Subject { recipe, walk, .. } = *subject;
    recipe.check().map_err(AssessError::Recipe)?;
    if recipe.label.dead_band.is_some() {
        return Err(AssessError::DeadBand);
    }
    if let Some((key, expected)) = settings.problem() {
        return Err(AssessError::Setting { key, expected });
    }
    let samples = Samples::build(recipe, walk, bars, features)?;
    let saved = keep.map(|keep| Saved::open(keep, subject, &samples)).transpose()?;
    let parts = Parts { total: samples.splits.len() * (settings.seeds.len() + 2) + probes::count(settings) };
    let contestants = contestants(&settings.seeds, true);
    let run = forecast(subject, &samples, &contestants, saved.as_ref(), &parts, watch)?;
    let terms = Terms::of(recipe, walk, settings);
    let table = table::table(&run.panel, &terms)?;
    let importance = importance::importance(subject, &run, &samples.feature_names, &terms)?;
    let probes = match &settings.probes {
        Some(probes) => {
            probes::run(subject, settings, probes, &samples, &run, bars, features, &parts, watch)?
        }
        None => Vec::new(),
    };
    let verdict = gate::gate(&table.evidence(recipe.trials, &probes), &settings.rules);
    if let Some(saved) = saved {
        saved.done()?;
    }
    Ok(report::assessment(subject, settings, &samples, run, table, importance, probes, verdict))
}

/// How much there is to do.
pub(crate) struct Parts {
    pub total: usize,
}

/// All folds' forecasts, and what is needed of the last fold to ask more of its model.
pub(crate) struct Run {
    pub panel: Panel,
    pub folds: Vec<FoldNote>,
    pub last: FoldData,
    /// The first seed's, trained on the last fold.
    pub last_model: Graph,
}

/// The baselines, then the model once a seed.
pub(crate) fn contestants(seeds: &[u64], dlinear: bool) -> Vec<Forecaster> {
    let mut all = vec![Forecaster::Simple];
    all.extend(dlinear.then_some(Forecaster::Dlinear));
    all.extend(seeds.iter().map(|&seed| Forecaster::Model { seed }));
    all
}

/// Fits and forecasts every fold.
pub(crate) fn forecast(
    subject: &Subject<'_>,
    samples: &Samples,
    forecasters: &[Forecaster],
    saved: Option<&Saved>,
    parts: &Parts,
    watch: &mut dyn Watch,
) -> Result<Run, AssessError> {
    let mut panel = Panel::default();
    let mut notes = Vec::new();
    let mut last = None;
    let count = samples.splits.len();
    let first_model = forecasters.iter().find(|one| matches!(one, Forecaster::Model { .. }));
    for fold in 0..count {
        let data = FoldData::of(samples, fold, subject.recipe);
        let mut all = Vec::new();
        for (place, forecaster) in forecasters.iter().enumerate() {
            let done = fold * forecasters.len() + place;
            watch.part(&format!("fold {} of {count}, {}", fold + 1, forecaster.name()), done, parts.total);
            let keeps_model = fold + 1 == count && Some(forecaster) == first_model;
            let found = match saved {
                Some(saved) if !keeps_model => saved.read(fold, forecaster, &data)?,
                _ => None,
            };
            let forecasts = match found {
                Some(forecasts) => forecasts,
                None => {
                    let made = forecaster.run(subject, samples, &data, &mut *watch)?;
                    if let Some(saved) = saved {
                        saved.write(fold, forecaster, &made.forecasts)?;
                    }
                    if let (true, Some(model)) = (keeps_model, made.model) {
                        last = Some(model);
                    }
                    made.forecasts
                }
            };
            all.extend(forecasts);
        }
        notes.push(FoldNote::of(&data, &all));
        panel.add(&data, &all);
        if fold + 1 == count {
            let model = last.ok_or(AssessError::NoModel)?;
            return Ok(Run { panel, folds: notes, last: data, last_model: model });
        }
    }
    Err(AssessError::NoModel)
}

/// Why there is no evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum AssessError {
    Recipe(RecipeError),
    Setting {
        key: &'static str,
        expected: &'static str,
    },
    Dataset(DatasetError),
    WalkForward(WalkForwardError),
    Train(TrainError),
    Predict(PredictError),
    Ridge(RidgeError),
    Trees(TreesError),
    Dlinear(DlinearError),
    Judge(EvaluateError),
    Saved(SavedError),
    /// A direction of three classes.
    DeadBand,
    /// No fold was trained.
    NoModel,
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for AssessError {
            fn from(error: $error) -> Self {
                AssessError::$variant(error)
            }
        })*
    };
}

from!(
    Dataset(DatasetError),
    WalkForward(WalkForwardError),
    Train(TrainError),
    Predict(PredictError),
    Ridge(RidgeError),
    Trees(TreesError),
    Dlinear(DlinearError),
    Judge(EvaluateError),
    Saved(SavedError)
);

impl fmt::Display for AssessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssessError::Recipe(e) => write!(f, "{e}"),
            AssessError::Setting { key, expected } => {
                write!(f, "evaluation setting {key} can't be used; set it to {expected}")
            }
            AssessError::Dataset(e) => write!(f, "{e}"),
            AssessError::WalkForward(e) => write!(f, "{e}"),
            AssessError::Train(e) => write!(f, "{e}"),
            AssessError::Predict(e) => write!(f, "{e}"),
            AssessError::Ridge(e) => write!(f, "{e}"),
            AssessError::Trees(e) => write!(f, "{e}"),
            AssessError::Dlinear(e) => write!(f, "{e}"),
            AssessError::Judge(e) => write!(f, "{e}"),
            AssessError::Saved(e) => write!(f, "{e}"),
            AssessError::DeadBand => write!(
                f,
                "folds judge a direction by the probability of up, and with a dead band there are three classes: leave the dead band out, or judge it by 'alphaplus train', on its test part"
            ),
            AssessError::NoModel => write!(f, "no fold was trained; give at least one fold and one seed"),
        }
    }
}

impl std::error::Error for AssessError {}

#[cfg(test)]
mod tests;
