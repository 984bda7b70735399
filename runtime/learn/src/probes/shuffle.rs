//! Trained on labels that are out of order: what skill is left comes from the labels of the test part, a leak.
//!
//! Skill is over the mean label of the training part, which is all that such labels tell. A forecast that knows nothing
//! may still correlate with volatility by chance, but its amplitude is small; so [`SKILL_MAX`] is let pass.

use super::{Probe, ProbeSettings};
use crate::assess::fold::{FoldData, FoldForecasts, Forecaster, MODEL, Samples, simple};
use crate::assess::panel::Panel;
use crate::assess::table::Terms;
use crate::assess::{AssessError, Settings, Subject, Watch};
use crate::probes::worlds::skill_over_mean;
use crate::random::Random;
use crate::recipe::TrainingRecipe;

pub const SKILL_MAX: f64 = 0.02;
/// Training samples, the newest.
const SAMPLES_MAX: usize = 10_000;
const NAME: &str = "label shuffle";

/// Shuffles the first fold's training and validation labels.
pub(crate) fn shuffled(
    subject: &Subject<'_>,
    settings: &Settings,
    probes: &ProbeSettings,
    samples: &Samples,
    watch: &mut dyn Watch,
) -> Result<Probe, AssessError> {
    let recipe = short(subject.recipe, probes);
    let subject = Subject { recipe: &recipe, ..*subject };
    let mut data = FoldData::of(samples, 0, &recipe);
    data.split.train.drain(..data.split.train.len().saturating_sub(SAMPLES_MAX));
    shuffle(&mut data, probes.seed);
    let mut all: Vec<FoldForecasts> = simple(samples, &data, true)?;
    const FITTED: [&str; 4] = ["ridge", "logistic", "trees", MODEL];
    all.retain(|one| FITTED.contains(&one.name.as_str()));
    all.extend(Forecaster::Model { seed: settings.seeds[0] }.run(&subject, samples, &data, watch)?.forecasts);
    let mut panel = Panel::default();
    panel.add(&data, &all);
    let terms = Terms::of(&recipe, subject.walk, settings);
    let (mut passed, mut says) = (true, Vec::new());
    for name in FITTED {
        let Some(column) = panel.of(name).next() else { continue };
        let Some(skill) = skill_over_mean(&panel, &column.forecasts, &terms) else { continue };
        passed &= skill.low <= 0.0 || skill.value <= SKILL_MAX;
        says.push(format!("{name} {:+.2} %", 100.0 * skill.value));
    }
    Ok(Probe::new(NAME, passed && !says.is_empty(), format!("skill left over the mean: {}", says.join(", "))))
}

fn shuffle(data: &mut FoldData, seed: u64) {
    for (purpose, part) in [&data.split.train, &data.split.validation].into_iter().enumerate() {
        let mut labels: Vec<f64> = part.iter().map(|&i| data.dataset.samples[i].label).collect();
        Random::derived(seed, purpose as u64).shuffle(&mut labels);
        part.iter().zip(labels).for_each(|(&i, label)| data.dataset.samples[i].label = label);
    }
}

/// The recipe with as many epochs as probes get.
pub(super) fn short(recipe: &TrainingRecipe, probes: &ProbeSettings) -> TrainingRecipe {
    let mut recipe = recipe.clone();
    recipe.trials = 1;
    let training = &mut recipe.training;
    // Whatever the recipe's own: a world is smaller than the data, and early stopping ends what goes too far.
    training.epochs_max = probes.epochs_max.max(1);
    recipe
}
