//! From flags to a study: the space, the header, and whether a study that is there may go on.

use std::path::Path;
use std::time::Duration;

use learn::recipe::PinnedData;
use learn::tune::fold::FOLDS_MAX;
use learn::tune::study::{FORMAT, Header};
use learn::tune::{Domain, Parameter, Pruner, Record, Sampler, Space, Study, folds, split_times};
use learn::{Cut, SplitRecipe, TrainingSettings};
use market::{Bar, StreamKey, Timestamp};
use plugin::schema::{Kind, Property, Schema};

use super::objective::{Constraint, Files, Measured, Objective, TRAINING};
use crate::cli::{Latency, PrunerName, SamplerName, Tune};
use crate::commands::{bars, train};
use crate::config::Settings;
use crate::load::Parts;

const SEEDS_MAX: u32 = 20;
const REDUCTION_FACTOR: u32 = 3;
const STARTUP_TRIALS: u32 = 5;
/// The median pruner waits for a fifth of the epochs: small learning rates begin slowly.
const WARMUP_SHARE: u32 = 5;
/// What may be said of a study that goes on.
const MAY_CHANGE: [&str; 8] =
    ["study", "trials", "timeout", "workers", "search_only", "json", "config", "set"];

type Streams = Vec<(StreamKey, Vec<Bar>)>;

/// Opens the study and reads its bars. One that is there goes on with its own settings; flags that say otherwise are
/// refused.
pub fn open(
    settings: &Settings,
    parts: &Parts,
    name: &str,
    path: &Path,
    args: &Tune,
) -> Result<(Study, Streams), String> {
    let there = match Record::read(path) {
        Ok(record) => Some(record.header),
        Err(learn::tune::JournalError::Empty { .. }) => None,
        Err(_) if !path.exists() => None,
        Err(e) => return Err(e.to_string()),
    };
    let given = &args.flags.train;
    let (header, streams) = match there {
        Some(header) if given.bars.files.is_empty() => {
            let fixed = args.flags.given.iter().find(|id| is_setting(id));
            if let Some(id) = fixed {
                return Err(format!(
                    "--{} can't change while the study '{name}' goes on: leave it away, or begin another study",
                    id.replace('_', "-")
                ));
            }
            let objective: Objective = serde_json::from_value(header.objective.clone())
                .map_err(|e| format!("{}: {e}", path.display()))?;
            let streams = bars::read(&objective.bars.to_arguments(), None, None, false)?;
            (header, streams)
        }
        Some(header) => {
            let (mut wanted, streams) = begin(settings, parts, name, args)?;
            wanted.created_at = header.created_at;
            same(&header, &wanted, name)?;
            (header, streams)
        }
        None if given.bars.files.is_empty() => {
            return Err(format!(
                "there is no study '{name}': begin it with --bars, or see alphaplus tune ls"
            ));
        }
        None => begin(settings, parts, name, args)?,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let (study, notices) = Study::open(path, || header.clone()).map_err(|e| e.to_string())?;
    if *study.header() != header {
        return Err(format!("another process began the study '{name}' meanwhile: name another one"));
    }
    notices.iter().for_each(|notice| eprintln!("{notice}"));
    Ok((study, streams))
}

/// Whether a flag of this id decides trials. Groups of flags have ids too, with capital letters.
fn is_setting(id: &str) -> bool {
    !MAY_CHANGE.contains(&id) && !id.starts_with(char::is_uppercase)
}

fn same(there: &Header, wanted: &Header, name: &str) -> Result<(), String> {
    if there == wanted {
        return Ok(());
    }
    let value = |header: &Header| serde_json::to_value(header).map_err(|e| e.to_string());
    let (there, wanted) = (value(there)?, value(wanted)?);
    let what = difference("", &there, &wanted).unwrap_or_default();
    Err(format!(
        "the study '{name}' was begun with other settings ({what}): leave all flags but --study away to go on with its \
         own, or begin another study"
    ))
}

/// The first place where two JSON values differ.
fn difference(at: &str, there: &serde_json::Value, wanted: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match (there, wanted) {
        (a, b) if a == b => None,
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let of =
                |map: &serde_json::Map<String, Value>, name| map.get(name).cloned().unwrap_or(Value::Null);
            names.into_iter().find_map(|name| difference(&format!("{at}.{name}"), &of(a, name), &of(b, name)))
        }
        (a, b) => Some(format!("{}: {a}, not {b}", at.trim_start_matches('.'))),
    }
}

/// The header that the flags ask for.
fn begin(settings: &Settings, parts: &Parts, name: &str, args: &Tune) -> Result<(Header, Streams), String> {
    let flags = &args.flags.train;
    if flags.again.is_some() || flags.checkpoints.is_some() {
        return Err("--again and --checkpoints are for train: a study keeps its own journal".into());
    }
    let range = |flag: &str, n: u32, max: u32| {
        if (1..=max).contains(&n) { Ok(()) } else { Err(format!("{flag} must lie between 1 and {max}")) }
    };
    range("--folds", args.folds, FOLDS_MAX)?;
    range("--seeds", args.seeds, SEEDS_MAX)?;
    if args.latency_us.is_some_and(|us| !(us.is_finite() && us > 0.0)) {
        return Err("--latency-us must be a number above 0".into());
    }
    let streams = bars::read(&flags.bars, None, None, !flags.json)?;
    let (mut recipe, architecture, mut features) = train::recipe(settings, parts, &streams, flags)?;
    recipe.name = flags.name.clone().unwrap_or_else(|| name.into());
    // Counted by the ledger.
    recipe.trials = 1;
    let space = space(architecture.schema(), &recipe.training, recipe.window, args)?;
    recipe.window = largest_window(&space, recipe.window);
    recipe.check().map_err(|e| e.to_string())?;
    // A plugin that looks ahead is refused before anything is trained on it.
    plugin::causality::check_synthetic(&mut features).map_err(|e| e.to_string())?;
    let slices: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    let times = split_times(&recipe, &slices, &features).map_err(|e| e.to_string())?;
    if folds(times, args.folds).is_none() {
        return Err(format!(
            "{} folds, each as long as the validation part, don't fit before the test part: give fewer, or a smaller \
             --validation-share",
            args.folds
        ));
    }
    recipe.split = SplitRecipe { cut: Cut::Times(times), ..recipe.split };
    recipe.data.pinned = Some(pinned(&slices));
    let mut objective = Objective {
        recipe,
        bars: Files::of(&flags.bars)?,
        folds: args.folds,
        seeds: args.seeds,
        constraint: args.latency_us.map(|p99_us| Constraint {
            p99_us,
            of: match args.latency_of {
                Latency::Push => Measured::Push,
                Latency::Window => Measured::Window,
            },
        }),
    };
    // The base seed is the study's; each trial trains with it, so that trials differ by their parameters alone.
    objective.recipe.training.seed = flags.seed;
    let header = Header {
        format: FORMAT,
        study: name.into(),
        created_at: Timestamp::now(),
        seed: flags.seed,
        sampler: match args.sampler {
            SamplerName::Tpe => Sampler::TPE,
            SamplerName::Random => Sampler::Random,
        },
        pruner: match args.pruner {
            PrunerName::None => Pruner::None,
            PrunerName::Median => Pruner::Median {
                startup_trials: STARTUP_TRIALS,
                warmup_steps: objective.recipe.training.epochs_max / WARMUP_SHARE,
            },
            PrunerName::Hyperband => {
                Pruner::Hyperband { reduction_factor: REDUCTION_FACTOR, steps_max: objective.steps_max() }
            }
        },
        space,
        objective: serde_json::to_value(&objective).map_err(|e| e.to_string())?,
    };
    Ok((header, streams))
}

fn pinned(bars: &[&[Bar]]) -> PinnedData {
    let times = || bars.iter().flat_map(|bars| bars.iter().map(|bar| bar.open_time));
    PinnedData {
        first_open_time: times().min().unwrap_or_default(),
        last_open_time: times().max().unwrap_or_default(),
        digest: learn::dataset::bars_digest(bars),
    }
}

/// The schema's properties and the training's settings; what a flag says is fixed, and `--space` narrows.
fn space(schema: &Schema, training: &TrainingSettings, window: u32, args: &Tune) -> Result<Space, String> {
    let narrowed: Vec<&str> = args
        .space
        .iter()
        .map(|text| text.split_once('=').map_or(text.as_str(), |(name, _)| name).trim())
        .collect();
    let mut repeated = narrowed.clone();
    repeated.sort_unstable();
    if let Some(pair) = repeated.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("--space {} is given twice", pair[0]));
    }
    let mut space = Space::default();
    let mut set = |name: &str, whole: Domain, otherwise: Domain| {
        let domain = if narrowed.contains(&name) { whole } else { otherwise };
        space.set(name, domain).map_err(|e| e.to_string())
    };
    let given = |id: &str| args.flags.given.iter().any(|given| given == id);
    let fixed = crate::load::pairs(&args.flags.train.hyper)?;
    for property in &schema.properties {
        let whole = domain(property);
        let otherwise = match fixed.get(&property.name) {
            None => whole.clone(),
            Some(value) => Domain::fixed(parameter(value, &whole)?),
        };
        set(&property.name, whole, otherwise)?;
    }
    let known = |name: &str| schema.property(name).map(domain);
    for name in TRAINING {
        let whole = known(name).unwrap_or_else(|| whole(name));
        let otherwise = match known(name) {
            _ if given(name) || fixed.contains_key(name) || name == "window" => {
                Domain::fixed(set_value(name, training, window))
            }
            Some(domain) => domain,
            None => usual(name),
        };
        set(name, whole, otherwise)?;
    }
    args.space.iter().try_for_each(|text| space.narrow(text).map_err(|e| e.to_string()))?;
    Ok(space)
}

/// What the training takes at all.
fn whole(name: &str) -> Domain {
    match name {
        "batch" => Domain::Integer { low: 1, high: 65_536, log: true },
        "learning_rate" => Domain::Number { low: 1e-7, high: 1.0, log: true },
        "weight_decay" => Domain::Number { low: 0.0, high: 10.0, log: false },
        _ => Domain::Integer { low: 1, high: i64::from(registry::check::WINDOW_MAX), log: false },
    }
}

/// Where the architecture's schema says nothing.
fn usual(name: &str) -> Domain {
    match name {
        "batch" => Domain::Choice { options: [32, 64, 128, 256].map(Parameter::Integer).to_vec() },
        "learning_rate" => Domain::Number { low: 1e-4, high: 1e-2, log: true },
        _ => Domain::Number { low: 1e-4, high: 1e-1, log: true },
    }
}

/// What the flags and the schema's defaults set it to.
fn set_value(name: &str, training: &TrainingSettings, window: u32) -> Parameter {
    match name {
        "batch" => Parameter::Integer(i64::from(training.batch)),
        "learning_rate" => Parameter::Number(training.learning_rate),
        "weight_decay" => Parameter::Number(training.weight_decay),
        _ => Parameter::Integer(i64::from(window)),
    }
}

fn domain(property: &Property) -> Domain {
    match &property.kind {
        Kind::Integer { minimum, maximum, .. } => {
            Domain::Integer { low: *minimum, high: *maximum, log: property.log_scale }
        }
        Kind::Number { minimum, maximum, .. } => {
            Domain::Number { low: *minimum, high: *maximum, log: property.log_scale }
        }
        Kind::Boolean { .. } => Domain::Choice { options: [false, true].map(Parameter::Boolean).to_vec() },
        Kind::Choice { options, .. } => {
            Domain::Choice { options: options.iter().map(|o| Parameter::Text(o.clone())).collect() }
        }
    }
}

fn parameter(value: &serde_json::Value, domain: &Domain) -> Result<Parameter, String> {
    let read: Parameter = serde_json::from_value(value.clone()).map_err(|e| format!("{value}: {e}"))?;
    Ok(match (domain, read) {
        (Domain::Number { .. }, Parameter::Integer(n)) => Parameter::Number(n as f64),
        (Domain::Integer { .. }, Parameter::Number(x)) if x.fract() == 0.0 => Parameter::Integer(x as i64),
        (_, read) => read,
    })
}

/// With it every trial has the same samples.
fn largest_window(space: &Space, otherwise: u32) -> u32 {
    let largest = match space.domain("window") {
        Some(Domain::Integer { high, .. }) => Some(*high),
        Some(Domain::Choice { options }) => options
            .iter()
            .filter_map(|option| match option {
                Parameter::Integer(n) => Some(*n),
                _ => None,
            })
            .max(),
        Some(Domain::Number { .. }) | None => None,
    };
    largest.and_then(|n| u32::try_from(n).ok()).unwrap_or(otherwise)
}

/// "90s", "30m", "2h", or seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('h') => (number, 3600.0),
        Some(number) if text.ends_with('m') => (number, 60.0),
        Some(number) => (number, 1.0),
        None => (text, 1.0),
    };
    let length = number.parse::<f64>().ok().map(|n| n * seconds).filter(|s| (0.0..=1e8).contains(s));
    length.map(Duration::from_secs_f64).ok_or_else(|| format!("'{text}' is no time: 90s, 30m and 2h are"))
}

#[cfg(test)]
mod tests;
