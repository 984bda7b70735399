//! `alphaplus retrain`: newer bars to a new version of a registered model.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use graph::{Initial, Tensor};
use learn::checkpoint::states_from_bytes;
use learn::recipe::TrainingRecipe;
use learn::retrain::{self, Mix, RetrainError, Retraining, STATES_FILE};
use learn::train::validation_loss;
use market::{Bar, Features, Timestamp};
use plugin::Architecture;
use registry::{Author, Manifest, ModelFolder, Parent, Precision, Weights, sha256_hex};
use serde_json::{Value, json};

use super::mixed_bars::{Sources, gather};
use super::train::{self, Beginning, Counting, Done, checkpoint_in, complete, counted, graph_of};
use crate::cli::Retrain;
use crate::config::Settings;
use crate::events::{Event, EventKind, Events};
use crate::load::Parts;

/// A larger file of states isn't read.
const STATES_BYTES_MAX: u64 = 4 << 30;
const OPTIMISER: &str = "adamw.";

pub fn run(settings: &Settings, args: &Retrain) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let events = Events::open(&settings.raw.models.events).map_err(|e| e.to_string())?;
    let folder = parts.model(&args.model)?;
    let Manifest { name, version, .. } = &folder.manifest;
    let parent = format!("{name}/{version}");
    let note = |kind, model: &str, why: &str, detail: Value| {
        let event = Event::now(kind, &args.author.who, model, why, detail);
        events.append(&event).map_err(|e| e.to_string())
    };
    let why = if args.author.why.is_empty() { "asked for" } else { &args.author.why };
    note(EventKind::RetrainingStarted, &parent, why, asked(args))?;
    match retrained(settings, &parts, &folder, args) {
        Ok(made) => {
            let model = format!("{name}/{}", made.done.published.version);
            note(EventKind::RetrainingFinished, &model, &made.sentence(&parent), made.json(&parent))?;
            made.report(&parent, args.json);
            Ok(())
        }
        Err(failure) => {
            let reason = failure.reason();
            // A reason may hold what no event may.
            let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let short: String = line.chars().take(4000).collect();
            note(failure.kind(), &parent, &short, asked(args))?;
            if args.json {
                let refused = matches!(failure, Failure::Refused(_));
                println!("{}", json!({ "parent": parent, "refused": refused, "error": reason }));
            }
            Err(reason.to_string())
        }
    }
}

/// Why there is no new version.
enum Failure {
    /// The bars don't do for it.
    Refused(String),
    Failed(String),
}

impl Failure {
    fn reason(&self) -> &str {
        let (Failure::Refused(reason) | Failure::Failed(reason)) = self;
        reason
    }

    fn kind(&self) -> EventKind {
        match self {
            Failure::Refused(_) => EventKind::Refused,
            Failure::Failed(_) => EventKind::RetrainingFailed,
        }
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure::Failed(reason)
    }
}

impl From<RetrainError> for Failure {
    fn from(error: RetrainError) -> Failure {
        match error {
            RetrainError::TooLittle { .. } | RetrainError::Seen { .. } => Failure::Refused(error.to_string()),
            RetrainError::Recipe(_) | RetrainError::Data(_) | RetrainError::Share { .. } => {
                Failure::Failed(error.to_string())
            }
        }
    }
}

/// What was asked, for the events.
fn asked(args: &Retrain) -> Value {
    json!({
        "model": args.model,
        "bars": args.bars.files,
        "from_spool": args.bars.from_spool,
        "weights": if args.from_scratch { "scratch" } else { "continued" },
        "replay_share": args.replay,
    })
}

/// A new version and how it came about.
struct Made {
    done: Done,
    mix: Mix,
    weights: Weights,
    with_optimiser: bool,
    /// The parent's loss on the new validation part; where its weights were gone on from.
    before: Option<f64>,
    alias: Option<String>,
    bars: Sources,
}

fn retrained(
    settings: &Settings,
    parts: &Parts,
    folder: &ModelFolder,
    args: &Retrain,
) -> Result<Made, Failure> {
    let manifest = &folder.manifest;
    let weights = if args.from_scratch { Weights::Scratch } else { Weights::Continued };
    let how = Retraining {
        weights,
        replay_share: args.replay,
        validation_share: args.validation_share,
        test_share: args.test_share,
    };
    let mut recipe = retrain::recipe(manifest, &how)?;
    changed(&mut recipe, args);
    let time = |t: &Option<String>| t.as_deref().map(Timestamp::parse).transpose();
    let range = (time(&args.from)?, time(&args.until)?);
    let (streams, sources) = gather(settings, &args.bars, range, &recipe, !args.json)?;
    recipe.data.description = sources.description();
    let component = parts.pinned(settings, &recipe.architecture.plugin, &recipe.architecture.digest)?;
    let architecture = Architecture::new(&component).map_err(|e| e.to_string())?;
    let mut features = parts.features(settings, manifest)?;
    plugin::causality::check_synthetic(&mut features).map_err(|e| e.to_string())?;
    features.rebuild().map_err(|e| e.to_string())?;
    let slices: Vec<&[Bar]> = streams.iter().map(Vec::as_slice).collect();
    let (prepared, mix) = retrain::prepare(&recipe, manifest, &how, &slices, &mut features)?;
    let mut states = match weights {
        Weights::Scratch => Vec::new(),
        Weights::Continued => states_of(parts, folder)?,
    };
    if args.new_optimiser {
        states.retain(|(name, _)| !name.starts_with(OPTIMISER));
    }
    let with_optimiser = states.iter().any(|(name, _)| name.starts_with(OPTIMISER));
    let before = match weights {
        Weights::Scratch => None,
        Weights::Continued => {
            let model = graph_of(&recipe, &architecture, prepared.dataset.columns)?;
            let job = prepared.job(&model, &recipe.training);
            let loss = validation_loss(&job, parts.executor.as_ref(), &states).map_err(|e| e.to_string())?;
            Some(loss)
        }
    };
    let begun = format!("{} {weights:?} {} {}", folder.digest, args.replay, args.new_optimiser);
    recipe.trials = counted(parts, &recipe, &prepared, Counting::AsOne(&begun))?;
    let beginning = Beginning {
        states,
        parent: Some(Parent {
            name: manifest.name.clone(),
            version: manifest.version,
            digest: folder.digest.clone(),
            weights,
            fresh_from: mix.fresh_from.to_string(),
            fresh_samples: mix.fresh,
            older_samples: mix.older,
            first_learning_rate: match weights {
                Weights::Continued => retrain::first_learning_rate(manifest),
                Weights::Scratch => recipe.training.learning_rate,
            },
        }),
    };
    if manifest.serving.precision != Precision::F32 {
        eprintln!("the new version is in f32: 'alphaplus models store-as' narrows it as its parent was");
    }
    let run = sha256_hex(format!("{begun} {}", prepared.digest).as_bytes());
    let run = format!("{}-retrained-{}", manifest.name, &run[..8]);
    let checkpoint = checkpoint_in(args.checkpoints.as_deref(), &run)?;
    let done = complete(parts, &recipe, &architecture, prepared, &beginning, checkpoint.as_deref())?;
    let alias = match args.no_alias {
        true => None,
        false => Some(point(parts, &manifest.name, done.published.version, args)?),
    };
    Ok(Made { done, mix, weights, with_optimiser, before, alias, bars: sources })
}

/// What the flags change of the parent's training.
fn changed(recipe: &mut TrainingRecipe, args: &Retrain) {
    let training = &mut recipe.training;
    training.epochs_max = args.epochs.unwrap_or(training.epochs_max);
    training.patience = args.patience.unwrap_or(training.patience);
    training.learning_rate = args.learning_rate.unwrap_or(training.learning_rate);
    training.seed = args.seed.unwrap_or(training.seed);
}

/// Points the alias at the new version, and gives its name.
fn point(parts: &Parts, name: &str, version: u32, args: &Retrain) -> Result<String, String> {
    let at = Timestamp::now().to_string();
    let why = if args.author.why.is_empty() { "retrained" } else { &args.author.why };
    let author = Author { at: &at, who: &args.author.who, why };
    let moved = parts.registry.set_alias(name, &args.alias, version, author);
    moved.map_err(|e| format!("{name}/{version} is registered, but {e}"))?;
    Ok(args.alias.clone())
}

/// The weights of a model, and its optimiser's states where they were kept.
fn states_of(parts: &Parts, folder: &ModelFolder) -> Result<Vec<(String, Tensor)>, String> {
    match folder.manifest.files.get(STATES_FILE) {
        Some(digest) => states_in(&folder.path.join(STATES_FILE), digest),
        None => {
            let given = |state: graph::StateSpec| match state.initial {
                Initial::Given(tensor) => Ok((state.name, tensor)),
                _ => Err(format!("the model has no weights for '{}'", state.name)),
            };
            parts.graph(folder)?.states.into_iter().map(given).collect()
        }
    }
}

fn states_in(path: &Path, digest: &str) -> Result<Vec<(String, Tensor)>, String> {
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(STATES_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if sha256_hex(&bytes) != digest {
        return Err(failed("it isn't as its manifest says; restore it".into()));
    }
    states_from_bytes(&bytes).map_err(failed)
}

impl Made {
    fn sentence(&self, parent: &str) -> String {
        let Mix { fresh, older, .. } = self.mix;
        let began = match self.weights {
            Weights::Continued => format!("went on from {parent}"),
            Weights::Scratch => format!("trained anew, after {parent}"),
        };
        format!("{began}: {fresh} fresh samples, {older} older ones")
    }

    fn json(&self, parent: &str) -> Value {
        let Done { published, name, prepared, trained, evaluation, trials, seconds, .. } = &self.done;
        let best = (trained.best_epoch as usize).checked_sub(1).and_then(|i| trained.validation_curve.get(i));
        json!({
            "model": format!("{name}/{}", published.version),
            "name": name,
            "version": published.version,
            "digest": published.digest,
            "parent": parent,
            "weights": self.weights,
            "with_optimiser": self.with_optimiser,
            "mix": self.mix,
            "bars": self.bars,
            "bars_digest": prepared.digest,
            "train_from": prepared.split.times.train,
            "validation_from": prepared.split.times.validation,
            "test_from": prepared.split.times.test,
            "until": prepared.split.times.until,
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "validation_loss": best,
            "validation_loss_of_parent": self.before,
            "seconds": seconds,
            "trials": trials,
            "alias": self.alias,
            "skill": evaluation.metrics.model.skill,
            "verdict": evaluation.verdict().to_string(),
        })
    }

    fn report(&self, parent: &str, as_json: bool) {
        if as_json {
            println!("{}", self.json(parent));
            return;
        }
        train::report(&self.done, false);
        let Mix { fresh_from, fresh, older, older_there } = self.mix;
        println!(
            "\n{fresh} samples since {fresh_from} were new to {parent}, {older} of {older_there} older ones"
        );
        if let Some(before) = self.before {
            let optimiser = if self.with_optimiser { "and its optimiser's moments" } else { "alone" };
            println!(
                "it went on from the weights of {parent} {optimiser}; their validation loss was {before:.5}"
            );
        }
        if let Some(alias) = &self.alias {
            let name = &self.done.name;
            println!(
                "{name}@{alias} is {}: see 'alphaplus promote {name}@{alias}'",
                self.done.published.version
            );
        }
    }
}
