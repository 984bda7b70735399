//! `alphaplus train`: bars to a registered model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use graph::{Graph, GraphCodec, Limits, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use learn::bootstrap::BootstrapSettings;
use learn::calibrate::calibrate;
use learn::checkpoint::states_to_bytes;
use learn::evaluate::Evaluation;
use learn::fit::{self, Prepared};
use learn::label::LabelRecipe;
use learn::output::{self, OutputRecipe};
use learn::progress::{BatchReport, EpochReport, Flow, Outline, Progress};
use learn::recipe::{DataRecipe, PluginUse, TrainingRecipe};
use learn::retrain::STATES_FILE;
use learn::settings::TrainingSettings;
use learn::split::{CalibrationCut, Cut, SplitRecipe};
use learn::train::{Trained, train_from};
use market::{Bar, Features, StreamKey, Timestamp};
use plugin::{Architecture, Dimensions, FeaturePlugin, TrainingHyper};
use registry::{Calibration, GapPolicy, LabelKind, Output, Parent, Published, Question, Run, Weights};
use serde_json::{Map, Value, json};

use super::bars::{read, said};
use super::models::curve;
use crate::cli::{self, Train};
use crate::config::Settings;
use crate::load::{Parts, json_object, pairs};

/// The difference between devices that is accepted at load, in normalised units.
pub const DEVICE_TOLERANCE: f64 = 1e-4;
/// Features are clipped at so many deviations.
pub const CLIP: f64 = 10.0;
/// Of architectures that say nothing of their training.
pub(super) const BATCH: u32 = 64;
pub(super) const LEARNING_RATE: f64 = 1e-3;
pub(super) const WEIGHT_DECAY: f64 = 1e-2;

pub fn run(settings: &Settings, args: &Train) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let streams = read(&args.bars, None, None, !args.json)?;
    let done = match &args.again {
        Some(model) => again(settings, &parts, model, &streams, args)?,
        None => {
            let (recipe, architecture, features) = recipe(settings, &parts, &streams, args)?;
            fit(&parts, &recipe, &architecture, features, &streams, args, Counting::AsOne(""))?
        }
    };
    report(&done, args.json);
    Ok(())
}

/// A model and how it came about.
pub struct Done {
    pub published: Published,
    pub name: String,
    pub prepared: Prepared,
    pub trained: Trained,
    pub evaluation: Evaluation,
    pub calibration: Option<Calibration>,
    /// On the same bars and label, this one included.
    pub trials: u32,
    pub seconds: f64,
}

/// How a run stands in the trials ledger.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Counting<'a> {
    /// Begun at what this text names; at random weights where it is empty.
    AsOne(&'a str),
    /// It gives again what was counted before.
    Already,
}

/// What the flags say.
pub(super) fn recipe(
    settings: &Settings,
    parts: &Parts,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Train,
) -> Result<(TrainingRecipe, Architecture, FeaturePlugin), String> {
    let architecture = parts.component(settings, &args.architecture)?;
    let component = parts.component(settings, &args.features)?;
    let features = FeaturePlugin::new(&component, &pairs(&args.options)?).map_err(|e| e.to_string())?;
    let built = Architecture::new(&architecture).map_err(|e| e.to_string())?;
    let given = pairs(&args.hyper)?;
    let mut hyper = built.schema().fill(&given).map_err(|e| e.to_string())?;
    given_once(&given, args)?;
    let declared = TrainingHyper::take(&mut hyper);
    let timeframe = streams.first().map(|s| s.0.timeframe).ok_or("there are no bars")?;
    let label_kind = match args.label {
        cli::LabelKind::LogReturn => LabelKind::LogReturn,
        cli::LabelKind::RealisedVolatility => LabelKind::RealisedVolatility,
        cli::LabelKind::Direction => LabelKind::Direction,
    };
    let output = output_of(args, label_kind);
    let loss = output::default_loss(&output.kind);
    let shares = args.train_share + args.validation_share;
    if !(args.train_share > 0.0 && args.validation_share > 0.0 && shares < 1.0) {
        return Err(
            "--train-share and --validation-share must be above 0 and leave something to test on".into()
        );
    }
    let recipe = TrainingRecipe {
        name: args.name.clone().unwrap_or_default(),
        architecture: PluginUse {
            plugin: architecture.id().to_string(),
            digest: architecture.digest().to_string(),
            options: serde_json::Value::Object(hyper).to_string(),
        },
        features: PluginUse {
            plugin: component.id().to_string(),
            digest: component.digest().to_string(),
            options: features.options().to_string(),
        },
        data: DataRecipe {
            description: description(args),
            symbols: streams.iter().map(|s| s.0.symbol.clone()).collect(),
            timeframe,
            pinned: None,
        },
        window: args.window,
        label: LabelRecipe {
            kind: label_kind,
            horizon_bars: args.horizon,
            gaps: if args.keep_gaps { GapPolicy::Keep } else { GapPolicy::Drop },
            dead_band: args.dead_band,
        },
        output,
        split: SplitRecipe {
            cut: Cut::Fractions { validation: args.validation_share, test: 1.0 - shares },
            embargo_bars: args.embargo,
        },
        clip: Some(CLIP),
        training: TrainingSettings {
            seed: args.seed,
            batch: args.batch.or(declared.batch).unwrap_or(BATCH),
            epochs_max: args.epochs,
            patience: args.patience,
            learning_rate: args.learning_rate.or(declared.learning_rate).unwrap_or(LEARNING_RATE),
            weight_decay: args.weight_decay.or(declared.weight_decay).unwrap_or(WEIGHT_DECAY),
            loss,
            ..TrainingSettings::default()
        },
        bootstrap: BootstrapSettings::default(),
        trials: args.trials,
        device_tolerance: DEVICE_TOLERANCE,
    };
    Ok((recipe, built, features))
}

/// What is asked for, or what is usual for the label.
pub(super) fn output_kind(asked: Option<cli::OutputKind>, label: LabelKind, levels: &[f64]) -> Output {
    let usual = match label {
        LabelKind::Direction => cli::OutputKind::Probabilities,
        LabelKind::LogReturn | LabelKind::RealisedVolatility => cli::OutputKind::Point,
    };
    match asked.unwrap_or(usual) {
        cli::OutputKind::Point => Output::Point,
        cli::OutputKind::Quantiles => Output::Quantiles { levels: levels.to_vec() },
        cli::OutputKind::Probabilities => Output::Probabilities,
    }
}

fn output_of(args: &Train, label: LabelKind) -> OutputRecipe {
    OutputRecipe {
        kind: output_kind(args.output, label, &args.quantiles),
        interval_level: args.interval_level,
        factor: args.confidence_factor,
        calibration: match args.calibration_share {
            0.0 => CalibrationCut::None,
            share => CalibrationCut::Share(share),
        },
    }
}

/// A setting of the training may stand in --hyper, where the architecture has it, or in a flag of its own.
fn given_once(hyper: &Map<String, Value>, args: &Train) -> Result<(), String> {
    let flags = [
        ("batch", args.batch.is_some()),
        ("learning_rate", args.learning_rate.is_some()),
        ("weight_decay", args.weight_decay.is_some()),
    ];
    match flags.into_iter().find(|&(name, flag)| flag && hyper.contains_key(name)) {
        Some((name, _)) => {
            Err(format!("--{} and --hyper {name}=… are the same: give one", name.replace('_', "-")))
        }
        None => Ok(()),
    }
}

fn again(
    settings: &Settings,
    parts: &Parts,
    model: &str,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Train,
) -> Result<Done, String> {
    let folder = parts.model(model)?;
    if let Some(Parent { name, version, weights: Weights::Continued, .. }) = &folder.manifest.parent {
        return Err(format!(
            "{model} went on from the weights of {name}/{version}, and --again begins at random ones: see \
             'alphaplus retrain --help'"
        ));
    }
    let mut recipe = TrainingRecipe::from_manifest(&folder.manifest).map_err(|e| e.to_string())?;
    if let Some(name) = &args.name {
        recipe.name = name.clone();
    }
    let architecture = parts.pinned(settings, &recipe.architecture.plugin, &recipe.architecture.digest)?;
    let built = Architecture::new(&architecture).map_err(|e| e.to_string())?;
    let features = parts.features(settings, &folder.manifest)?;
    fit(parts, &recipe, &built, features, streams, args, Counting::Already)
}

pub(super) fn fit(
    parts: &Parts,
    recipe: &TrainingRecipe,
    architecture: &Architecture,
    mut features: FeaturePlugin,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Train,
    counting: Counting,
) -> Result<Done, String> {
    recipe.check().map_err(|e| e.to_string())?;
    // A plugin that looks ahead is refused before anything is trained on it.
    plugin::causality::check_synthetic(&mut features).map_err(|e| e.to_string())?;
    features.rebuild().map_err(|e| e.to_string())?;
    let bars: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    let prepared = fit::prepare(recipe, &bars, &mut features).map_err(|e| e.to_string())?;
    let trials = counted(parts, recipe, &prepared, counting)?;
    let recipe = &TrainingRecipe { trials, ..recipe.clone() };
    let checkpoint = checkpoint_in(args.checkpoints.as_deref(), &recipe.name)?;
    complete(parts, recipe, architecture, prepared, &Beginning::default(), checkpoint.as_deref())
}

/// Where a training begins.
#[derive(Default)]
pub(super) struct Beginning {
    /// Weights, and the optimiser's states where they are known; empty: at random weights.
    pub states: Vec<(String, Tensor)>,
    pub parent: Option<Parent>,
}

/// The checkpoint of a run in a folder, which is made.
pub(super) fn checkpoint_in(folder: Option<&Path>, run: &str) -> Result<Option<PathBuf>, String> {
    let Some(folder) = folder else { return Ok(None) };
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(Some(folder.join(format!("{run}.safetensors"))))
}

/// The graph that is trained, as its architecture builds it.
pub(super) fn graph_of(
    recipe: &TrainingRecipe,
    architecture: &Architecture,
    columns: usize,
) -> Result<Graph, String> {
    let dimensions = Dimensions {
        window: recipe.window,
        features: columns as u32,
        outputs: output::columns(&recipe.output.kind, &recipe.label) as u32,
    };
    let hyper = json_object(&recipe.architecture.options)?;
    architecture.build(&hyper, dimensions, &Limits::default()).map_err(|e| e.to_string())
}

/// Trains on what was made ready, judges, calibrates and publishes.
pub(super) fn complete(
    parts: &Parts,
    recipe: &TrainingRecipe,
    architecture: &Architecture,
    prepared: Prepared,
    beginning: &Beginning,
    checkpoint: Option<&Path>,
) -> Result<Done, String> {
    let started = Instant::now();
    let model = graph_of(recipe, architecture, prepared.dataset.columns)?;
    let mut shown = Shown::default();
    let job = prepared.job(&model, &recipe.training);
    let trained = train_from(&job, parts.executor.as_ref(), &mut shown, checkpoint, &beginning.states)
        .map_err(|e| e.to_string())?;
    let evaluation =
        fit::judge(recipe, &prepared, &trained.model, parts.executor.as_ref()).map_err(|e| e.to_string())?;
    let calibration =
        calibrate(&prepared, &trained.model, parts.executor.as_ref()).map_err(|e| e.to_string())?;
    let onnx = parts.codec.encode(&trained.model).map_err(|e| e.to_string())?;
    let mut manifest = recipe.manifest(&prepared, &trained, &evaluation, Timestamp::now());
    manifest.calibration = calibration.clone();
    manifest.parent = beginning.parent.clone();
    let states = states_to_bytes(&trained.states)?;
    let files: [(&str, &[u8]); 2] = [("model.onnx", &onnx), (STATES_FILE, &states)];
    let published = parts.registry.publish(manifest, &files).map_err(|e| e.to_string())?;
    if let Some(path) = checkpoint {
        // The model is registered: nothing is left to resume.
        let _ = std::fs::remove_file(path);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Done {
        published,
        name: recipe.name.clone(),
        prepared,
        trained,
        evaluation,
        calibration,
        trials: recipe.trials,
        seconds,
    })
}

/// The trials on these bars and this label, at least those that the recipe says. A new run is noted before it begins.
pub(super) fn counted(
    parts: &Parts,
    recipe: &TrainingRecipe,
    prepared: &Prepared,
    counting: Counting,
) -> Result<u32, String> {
    let question = question(recipe, &prepared.digest);
    let count = match counting {
        Counting::AsOne(begun) => {
            let run = Run { question, key: key(recipe, begun)?, name: recipe.name.clone() };
            parts.registry.note_run(&run, &Timestamp::now().to_string())
        }
        Counting::Already => parts.registry.count_trials(&question),
    };
    Ok(count.map_err(|e| e.to_string())?.trials.max(recipe.trials))
}

/// What a run on these bars is counted by.
pub(super) fn question(recipe: &TrainingRecipe, data: &str) -> Question {
    let LabelRecipe { kind, horizon_bars, gaps, .. } = recipe.label;
    Question { data: data.into(), label: registry::ledger::label_text(kind, horizon_bars, gaps) }
}

/// Of all that decides the model: a run of the same recipe gives the same one, and isn't another trial.
fn key(recipe: &TrainingRecipe, begun: &str) -> Result<String, String> {
    let mut same = TrainingRecipe { name: String::new(), trials: 1, ..recipe.clone() };
    same.data.description.clear();
    let text = serde_json::to_string(&same).map_err(|e| e.to_string())? + begun;
    Ok(registry::sha256_hex(text.as_bytes()))
}

fn description(args: &Train) -> String {
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    args.bars.files.iter().map(name).collect::<Vec<_>>().join(", ")
}

pub(super) fn report(done: &Done, as_json: bool) {
    let Done { published, name, prepared, trained, evaluation, calibration, trials, seconds } = done;
    let model = format!("{name}/{}", published.version);
    if as_json {
        let t = prepared.split.times;
        let value = json!({
            "model": model,
            "folder": published.path,
            "digest": published.digest,
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "train_curve": trained.train_curve,
            "validation_curve": trained.validation_curve,
            "seconds": seconds,
            "train_from": t.train, "validation_from": t.validation, "test_from": t.test, "until": t.until,
            "train_samples": prepared.split.train.len(),
            "validation_samples": prepared.split.validation.len(),
            "test_samples": prepared.split.test.len(),
            "calibration_from": prepared.calibration.as_ref().map(|part| part.from),
            "calibration_samples": prepared.calibration.as_ref().map_or(0, |part| part.samples.len()),
            "calibration": calibration,
            "features": prepared.feature_names.len(),
            "evaluation": evaluation,
            "verdict": evaluation.verdict().to_string(),
            "trials": trials,
        });
        println!("{value}");
        return;
    }
    println!("{} epochs in {seconds:.1} s, the best {}", trained.epochs, trained.best_epoch);
    println!("train loss       {}", curve(&trained.train_curve));
    println!("validation loss  {}", curve(&trained.validation_curve));
    println!("\non the test part, which nothing was fitted on:\n{evaluation}");
    if let Some(calibration) = calibration {
        println!("\n{}", super::models::calibrated(&prepared.reading(), calibration));
    }
    println!("\nregistered as {model} in {}", published.path.display());
    if *trials > 1 {
        println!("it is one of {trials} trials on these bars and this label, by the trials ledger");
    }
}

/// A progress bar an epoch, on a terminal; a line an epoch elsewhere.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    batches: u64,
}

impl Progress for Shown {
    fn start(&mut self, outline: &Outline) {
        eprintln!(
            "training {} parameters on {} samples, {} a batch; validating on {}{}",
            said(outline.parameters as u64),
            said(outline.train_samples as u64),
            outline.batch,
            said(outline.validation_samples as u64),
            if outline.resumed_epochs > 0 {
                format!("; going on after epoch {}", outline.resumed_epochs)
            } else {
                String::new()
            }
        );
        self.batches = u64::from(outline.batches);
        let total = self.batches * u64::from(outline.epochs_max - outline.resumed_epochs);
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} batches, {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn batch(&mut self, _: &BatchReport) -> Flow {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        Flow::Continue
    }

    fn epoch(&mut self, report: &EpochReport) -> Flow {
        let text = format!(
            "epoch {}: train {:.5}, validation {:.5} (best {:.5} at {})",
            report.epoch,
            report.train_loss,
            report.validation_loss,
            report.best_validation_loss,
            report.best_epoch
        );
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.set_message(text),
            _ => eprintln!("{text}"),
        }
        Flow::Continue
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
