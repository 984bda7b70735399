//! The evaluation tests itself and the pipeline, each time it runs.
//!
//! Future: all bars after a time are changed; features, fitted constants and forecasts up to it keep their bits. Planted
//! leak: features that see the future are added; the same check must catch each. Label shuffle: trained on labels that
//! are out of order, skill is gone. Random walk: in a world without signal nothing is promoted. Planted signal: one of
//! known strength is found.

pub mod future;
pub mod leak;
pub mod shuffle;
pub mod worlds;

use market::{Bar, Features};
use serde::{Deserialize, Serialize};

use crate::assess::fold::Samples;
use crate::assess::{AssessError, Parts, Run, Settings, Subject, Watch};

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub name: String,
    pub passed: bool,
    pub found: String,
}

impl Probe {
    pub(crate) fn new(name: &str, passed: bool, found: String) -> Probe {
        Probe { name: name.into(), passed, found }
    }
}

/// How much the probes do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSettings {
    pub seed: u64,
    /// Random-walk worlds; at most 5 % of them may promote.
    pub random_walks: u32,
    /// Bars of a world beyond the warm-up.
    pub world_bars: u32,
    /// Epochs in worlds and on shuffled labels.
    pub epochs_max: u32,
    /// R² of the planted signal in one-bar returns.
    pub signal: f64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        ProbeSettings { seed: 1, random_walks: 1, world_bars: 12_000, epochs_max: 30, signal: 0.1 }
    }
}

/// Probes that will run.
pub(crate) fn count(settings: &Settings) -> usize {
    settings.probes.map_or(0, |probes| 4 + probes.random_walks as usize)
}

/// Runs all of them; one that fails is no error.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run(
    subject: &Subject<'_>,
    settings: &Settings,
    probes: &ProbeSettings,
    samples: &Samples,
    run: &Run,
    bars: &[&[Bar]],
    features: &mut dyn Features,
    parts: &Parts,
    watch: &mut dyn Watch,
) -> Result<Vec<Probe>, AssessError> {
    let mut done = parts.total - count(settings);
    let mut next = |watch: &mut dyn Watch, name: &str| {
        watch.part(&format!("probe: {name}"), done, parts.total);
        done += 1;
    };
    next(watch, "future");
    let mut found = vec![future::future(subject, samples, run, bars, features, probes.seed)?];
    next(watch, "planted leak");
    found.push(leak::planted(bars, features, subject.recipe, probes.seed)?);
    next(watch, "label shuffle");
    found.push(shuffle::shuffled(subject, settings, probes, samples, watch)?);
    let mut promoted = 0;
    for walk in 0..probes.random_walks {
        next(watch, "random walk");
        let seed = probes.seed.wrapping_mul(1_000).wrapping_add(u64::from(walk));
        promoted +=
            u32::from(worlds::random_walk(subject, settings, probes, features, seed, watch)?.promoted);
    }
    let says = format!("{promoted} of {} worlds without signal promoted", probes.random_walks);
    found.push(Probe::new("random walk", 20 * promoted <= probes.random_walks, says));
    next(watch, "planted signal");
    found.push(worlds::planted(subject, settings, probes, features, probes.seed, watch)?);
    Ok(found)
}
