//! A challenger beside the champion and the baselines, on bars that none of them was trained on.
//!
//! ```text
//! champion     |train      |validation|test .............
//! challenger   |train              |validation|test .....
//! baselines    |train              |validation|
//! judged                                      |this part|
//! ```
//!
//! The part that is judged begins where the later of the two test parts begins. The baselines are fitted on the
//! challenger's own parts. The models are as they are registered, each with its own window and constants: nothing is
//! trained here but DLinear. Samples are as far apart as the horizon, so that labels don't overlap.

use std::collections::HashMap;
use std::fmt;

use graph::{Executor, Graph};
use market::{Bar, Features, Timestamp};
use registry::Manifest;
use serde::{Deserialize, Serialize};

use super::fold::{FoldData, FoldForecasts, Forecaster, MODEL, Samples, as_probabilities, simple};
use super::gate::{Evidence, GateRules, GateVerdict, Limited, gate};
use super::panel::Panel;
use super::table::{Table, Terms, table};
use super::{AssessError, Settings, Subject};
use crate::baselines::volatility::SquaredReturns;
use crate::calibrate::outcomes;
use crate::dataset::{Dataset, bars_digest};
use crate::label::LabelRecipe;
use crate::normalise::Normaliser;
use crate::output;
use crate::probes::{Probe, future};
use crate::reading::Reading;
use crate::recipe::{TrainingRecipe, manifest_time};
use crate::split::Cut;
use crate::walk_forward::WalkForward;

/// The champion's name among the forecasters.
pub const CHAMPION: &str = "champion";
/// Forecasts that are made twice, with other bars behind them.
const PROBED_MAX: usize = 256;
const PROBE_SEED: u64 = 1;

/// A registered model.
#[derive(Clone, Copy)]
pub struct Contestant<'a> {
    pub manifest: &'a Manifest,
    /// What is served: its prediction, with weights.
    pub graph: &'a Graph,
    pub executor: &'a dyn Executor,
}

#[derive(Clone, Copy)]
pub struct Pair<'a> {
    pub challenger: Contestant<'a>,
    /// Absent: there is none yet, and the baselines are to be beaten.
    pub champion: Option<Contestant<'a>>,
}

/// What is known beside the forecasts, and the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSettings {
    /// Not before what one of them has seen. Absent: from there on.
    pub from: Option<Timestamp>,
    /// Of each one-sided test, and so on. Of the probes only the one of the future is run here.
    pub rules: GateRules,
    pub fee_bps: f64,
    /// Challengers that were judged against this champion, this one included.
    pub attempts: u32,
    pub latency_us: Option<Limited>,
    pub tolerance: Option<Limited>,
}

/// What was found. Serialises as its JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairReport {
    pub challenger: String,
    pub champion: Option<String>,
    /// Open times of the first and the last sample's newest bar.
    pub from: Timestamp,
    pub until: Timestamp,
    pub bars_digest: String,
    pub table: Table,
    pub evidence: Evidence,
    pub verdict: GateVerdict,
}

/// Refuses a pair whose forecasts don't mean the same. Another architecture or window may stand in for a model; another
/// label, horizon, timeframe, feature source or set of symbols may not.
pub fn comparable(challenger: &Manifest, champion: &Manifest) -> Result<(), PairError> {
    let label = |m: &Manifest| {
        let LabelRecipe { kind, horizon_bars, gaps, dead_band } = LabelRecipe::from_manifest(&m.label);
        let gaps = registry::ledger::label_text(kind, horizon_bars, gaps);
        dead_band.map_or(gaps.clone(), |band| format!("{gaps}, dead band {band}"))
    };
    let features =
        |m: &Manifest| format!("{} {} {}", m.features.plugin, m.features.digest, m.features.options);
    let symbols = |m: &Manifest| m.data.symbols.join(", ");
    let differs = |what, one: String, other: String| {
        (one != other).then_some(PairError::Other { what, challenger: one, champion: other })
    };
    let found = [
        differs("label", label(challenger), label(champion)),
        differs("output", format!("{:?}", challenger.output), format!("{:?}", champion.output)),
        differs("timeframe", challenger.data.timeframe.clone(), champion.data.timeframe.clone()),
        differs("feature source", features(challenger), features(champion)),
        differs("columns", challenger.features.names.join(", "), champion.features.names.join(", ")),
        differs("symbols", symbols(challenger), symbols(champion)),
    ];
    found.into_iter().flatten().next().map_or(Ok(()), Err)
}

/// Judges the pair on these streams, which are those of the challenger's symbols in that order.
pub fn judge(
    pair: &Pair<'_>,
    settings: &PairSettings,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<PairReport, PairError> {
    let challenger = pair.challenger.manifest;
    if let Some(champion) = &pair.champion {
        comparable(challenger, champion.manifest)?;
    }
    let (mut recipe, from) = recipe_of(pair, settings, bars)?;
    if recipe.label.dead_band.is_some() {
        return Err(PairError::Assess(AssessError::DeadBand));
    }
    let walk = WalkForward { stride_bars: recipe.label.horizon_bars, ..WalkForward::default() };
    let samples = samples_of(&recipe, &walk, bars, features)?;
    let mut data = FoldData::of(&samples, 0, &recipe);
    let challenger_said = Said::of(&pair.challenger, &samples, bars, features)?;
    let champion_said = match &pair.champion {
        Some(champion) => Some(Said::of(champion, &samples, bars, features)?),
        None => None,
    };
    // A longer window may lack the first samples.
    let known = |i: &usize| {
        challenger_said.values.contains_key(i)
            && champion_said.as_ref().is_none_or(|s| s.values.contains_key(i))
    };
    data.split.test.retain(known);
    data.split.validation.retain(known);
    let mut all = simple(&samples, &data, true).map_err(PairError::Assess)?;
    // DLinear is trained by the usual loss of the output whatever the challenger is trained by.
    recipe.training.loss = output::default_loss(&recipe.output.kind);
    let subject = Subject {
        recipe: &recipe,
        walk: &walk,
        model: pair.challenger.graph,
        executor: pair.challenger.executor,
    };
    let made = Forecaster::Dlinear.run(&subject, &samples, &data, &mut ()).map_err(PairError::Assess)?;
    all.extend(made.forecasts);
    all.extend(champion_said.as_ref().map(|said| said.forecasts(CHAMPION, &data)));
    all.push(challenger_said.forecasts(MODEL, &data));
    let mut panel = Panel::default();
    panel.add(&data, &all);
    let usual = Settings { fee_bps: settings.fee_bps, ..Settings::default() };
    let table = table(&panel, &Terms::of(&recipe, &walk, &usual)).map_err(|e| PairError::Assess(e.into()))?;
    let probe = future_probe(&pair.challenger, &samples, &data.split.test, bars, features)?;
    let trials = recipe.trials.max(settings.attempts);
    let evidence = Evidence {
        champion: pair.champion.map(|_| table.versus(CHAMPION)),
        latency_us: settings.latency_us,
        tolerance: settings.tolerance,
        ..table.evidence(trials, &[probe])
    };
    let verdict = gate(&evidence, &settings.rules);
    let called = |m: &Manifest| format!("{}/{}", m.name, m.version);
    let last = panel.times.last().copied().unwrap_or(from);
    Ok(PairReport {
        challenger: called(challenger),
        champion: pair.champion.map(|champion| called(champion.manifest)),
        from: panel.times.first().copied().unwrap_or(from),
        until: last,
        bars_digest: samples.digest.clone(),
        table,
        evidence,
        verdict,
    })
}

/// The challenger's recipe, cut where both have seen nothing.
fn recipe_of(
    pair: &Pair<'_>,
    settings: &PairSettings,
    bars: &[&[Bar]],
) -> Result<(TrainingRecipe, Timestamp), PairError> {
    let mut recipe = TrainingRecipe::from_manifest(pair.challenger.manifest).map_err(AssessError::Recipe)?;
    recipe.data.pinned = None;
    let seen = |m: &Manifest| {
        // An imported one doesn't say what it has seen.
        TrainingRecipe::from_manifest(m)?;
        manifest_time("data.test.from", &m.data.test.from)
    };
    let mut from = seen(pair.challenger.manifest).map_err(AssessError::Recipe)?;
    if let Some(champion) = &pair.champion {
        from = from.max(seen(champion.manifest).map_err(AssessError::Recipe)?);
    }
    match settings.from {
        Some(asked) if asked < from => return Err(PairError::Seen { asked, from }),
        Some(asked) => from = asked,
        None => {}
    }
    let last = bars.iter().filter_map(|bars| bars.last()).map(|bar| bar.open_time).max();
    let last = last.ok_or(PairError::NoBars)?;
    if last <= from {
        return Err(PairError::NothingNew { last, from });
    }
    if let Cut::Times(times) = &mut recipe.split.cut {
        times.test = from;
        times.until = Timestamp(last.0.saturating_add(1));
    }
    Ok((recipe, from))
}

fn samples_of(
    recipe: &TrainingRecipe,
    walk: &WalkForward,
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<Samples, PairError> {
    let built = Dataset::build(bars, features, recipe.window as usize, &recipe.label);
    let mut dataset = built.map_err(AssessError::Dataset)?;
    walk.thin(&mut dataset.samples, dataset.timeframe);
    as_probabilities(&mut dataset, &recipe.label);
    let split = recipe.split.split(&dataset.samples, dataset.timeframe).map_err(PairError::Split)?;
    Ok(Samples {
        splits: vec![split],
        returns: SquaredReturns::of(bars),
        feature_names: features.spec().names.clone(),
        digest: bars_digest(bars),
        bars: bars.iter().map(|bars| bars.len()).sum(),
        dataset,
    })
}

/// A registered model's values of the validation and the judged samples, by their place.
struct Said {
    values: HashMap<usize, Vec<f64>>,
}

impl Said {
    fn of(
        model: &Contestant<'_>,
        samples: &Samples,
        bars: &[&[Bar]],
        features: &mut dyn Features,
    ) -> Result<Said, PairError> {
        let split = &samples.splits[0];
        let asked = [split.validation.as_slice(), &split.test].concat();
        Ok(Said { values: values_of(model, samples, &asked, bars, features)? })
    }

    fn forecasts(&self, name: &str, data: &FoldData) -> FoldForecasts {
        let rows: Vec<Vec<f64>> = data.judged().iter().filter_map(|i| self.values.get(i).cloned()).collect();
        let judged = rows.iter().map(|row| data.main(row)).collect();
        let quantiles = data.points_of(&rows[data.split.validation.len().min(rows.len())..]);
        FoldForecasts { quantiles, ..data.forecasts(name, None, String::new(), judged) }
    }
}

/// The model's values of these samples, from rows in its own constants.
fn values_of(
    model: &Contestant<'_>,
    samples: &Samples,
    asked: &[usize],
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<HashMap<usize, Vec<f64>>, PairError> {
    let Contestant { manifest, graph, executor } = *model;
    let label = LabelRecipe::from_manifest(&manifest.label);
    let built = Dataset::build(bars, features, manifest.input.window as usize, &label);
    let mut own = built.map_err(AssessError::Dataset)?;
    own.normalise(&Normaliser::from_manifest(&manifest.normaliser));
    let places: HashMap<(usize, usize), usize> =
        own.samples.iter().enumerate().map(|(i, sample)| ((sample.stream, sample.end), i)).collect();
    let found: Vec<(usize, usize)> = asked
        .iter()
        .filter_map(|&i| {
            let sample = &samples.dataset.samples[i];
            Some((i, *places.get(&(sample.stream, sample.end))?))
        })
        .collect();
    let reading = Reading::from_manifest(manifest);
    let indices: Vec<usize> = found.iter().map(|(_, own)| *own).collect();
    let said = outcomes(&reading, &own, &indices, graph, executor).map_err(AssessError::Predict)?;
    let row = |outcome: &crate::calibrate::Outcome| outcome.values.iter().map(|&x| f64::from(x)).collect();
    Ok(found.iter().zip(&said).map(|((i, _), outcome)| (*i, row(outcome))).collect())
}

/// Whether features or forecasts depend on bars behind them: all bars after a third of the judged part are changed.
fn future_probe(
    challenger: &Contestant<'_>,
    samples: &Samples,
    test: &[usize],
    bars: &[&[Bar]],
    features: &mut dyn Features,
) -> Result<Probe, PairError> {
    let Some(&middle) = test.get(test.len() / 3) else { return Err(PairError::NoBars) };
    let cut = samples.dataset.samples[middle].time;
    let changed = future::altered(bars, cut, PROBE_SEED);
    let changed: Vec<&[Bar]> = changed.iter().map(Vec::as_slice).collect();
    let window = samples.dataset.window;
    let label = LabelRecipe::from_manifest(&challenger.manifest.label);
    let other = Dataset::build(&changed, features, window, &label).map_err(AssessError::Dataset)?;
    if let Some(place) = future::difference(&samples.dataset, &other, cut) {
        let name = &samples.feature_names[place.column];
        let says = format!("feature {name} of {} depends on later bars", place.time);
        return Ok(Probe::new(future::NAME, false, says));
    }
    let known: Vec<usize> =
        test.iter().copied().take_while(|&i| samples.dataset.samples[i].time <= cut).collect();
    let asked = &known[known.len().saturating_sub(PROBED_MAX)..];
    let before = values_of(challenger, samples, asked, bars, features)?;
    let after = values_of(challenger, samples, asked, &changed, features)?;
    // A label beyond the cut may be gone with a changed gap; what is there must be the same.
    let bits = |row: &[f64]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let same = |(i, row): (&usize, &Vec<f64>)| after.get(i).is_none_or(|other| bits(other) == bits(row));
    let passed = before.iter().all(same);
    let says = match passed {
        true => format!(
            "all bars after {cut} changed: {} forecasts and all features keep their bits",
            asked.len()
        ),
        false => "forecasts of the challenger depend on later bars".to_string(),
    };
    Ok(Probe::new(future::NAME, passed, says))
}

/// Why the pair can't be judged.
#[derive(Clone, Debug, PartialEq)]
pub enum PairError {
    /// They don't mean the same.
    Other {
        what: &'static str,
        challenger: String,
        champion: String,
    },
    /// From where it was asked, one of them has seen bars.
    Seen {
        asked: Timestamp,
        from: Timestamp,
    },
    NothingNew {
        last: Timestamp,
        from: Timestamp,
    },
    NoBars,
    Split(crate::split::SplitError),
    Assess(AssessError),
}

impl From<AssessError> for PairError {
    fn from(error: AssessError) -> Self {
        PairError::Assess(error)
    }
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairError::Other { what, challenger, champion } => write!(
                f,
                "the challenger has another {what} than the champion ({challenger}; {champion}), so its predictions don't \
                 mean the same: it can't take the champion's place; publish it under a name of its own"
            ),
            PairError::Seen { asked, from } => write!(
                f,
                "from {asked} on isn't held out: one of the two has seen bars up to {from}; begin there or later"
            ),
            PairError::NothingNew { last, from } => {
                write!(f, "the bars end at {last}, and the two have seen bars up to {from}; give newer bars")
            }
            PairError::NoBars => write!(f, "there are no bars to judge on; give bars behind the training"),
            PairError::Split(e) => write!(
                f,
                "{e}; the baselines are fitted on the challenger's training and validation parts, so give those bars too"
            ),
            PairError::Assess(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for PairError {}

#[cfg(test)]
mod tests;
