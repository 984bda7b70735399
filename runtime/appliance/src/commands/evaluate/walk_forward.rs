//! A recipe on walk-forward folds: the command line becomes a recipe, what was found a table, JSON or a report.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use graph::Limits;
use indicatif::{ProgressBar, ProgressStyle};
use learn::assess::saved::Keep;
use learn::assess::{self, Subject, Watch};
use learn::bootstrap::BootstrapSettings;
use learn::label::LabelRecipe;
use learn::output::{self, OutputRecipe};
use learn::probes::ProbeSettings;
use learn::progress::{BatchReport, Flow, Progress};
use learn::recipe::{DataRecipe, PluginUse, TrainingRecipe};
use learn::settings::TrainingSettings;
use learn::split::{CalibrationCut, Cut, SplitRecipe};
use learn::walk_forward::{TrainingWindow, WalkForward};
use market::{Bar, Features, StreamKey, Timestamp};
use plugin::{Architecture, Dimensions, FeaturePlugin, TrainingHyper};
use registry::{GapPolicy, LabelKind};

use super::super::bars::read;
use super::super::train::{
    BATCH, CLIP, DEVICE_TOLERANCE, LEARNING_RATE, WEIGHT_DECAY, output_kind, question,
};
use crate::cli::{self, Evaluate, EvaluateRecipe};
use crate::config::Settings;
use crate::load::{Parts, json_object, pairs};
use crate::report;

pub fn run(settings: &Settings, args: &Evaluate) -> Result<(), String> {
    let time = |t: &Option<String>| t.as_deref().map(Timestamp::parse).transpose();
    let parts = Parts::new(settings)?;
    let streams = read(&args.bars, time(&args.from)?, time(&args.until)?, !args.json)?;
    let (mut recipe, architecture, mut features) = match &args.model {
        Some(model) => registered(settings, &parts, model, &streams)?,
        None => fresh(settings, &parts, &args.recipe, &streams)?,
    };
    let bars: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    // What was tried on these bars counts, whoever asks.
    let question = question(&recipe, &learn::dataset::bars_digest(&bars));
    let counted = parts.registry.count_trials(&question).map_err(|e| e.to_string())?;
    recipe.trials = recipe.trials.max(counted.trials);
    // A plugin that looks ahead is refused before anything is trained on it.
    plugin::causality::check_synthetic(&mut features).map_err(|e| e.to_string())?;
    features.rebuild().map_err(|e| e.to_string())?;
    let columns = features.spec().names.len() as u32;
    let outputs = output::columns(&recipe.output.kind, &recipe.label) as u32;
    let dimensions = Dimensions { window: recipe.window, features: columns, outputs };
    let hyper = json_object(&recipe.architecture.options)?;
    let model = architecture.build(&hyper, dimensions, &Limits::default()).map_err(|e| e.to_string())?;
    let walk = walk_of(&args.recipe, recipe.label.horizon_bars);
    let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: parts.executor.as_ref() };
    let mut shown = Shown::new();
    let keep = Some(keep(settings, &args.recipe));
    let found = assess::assess(&subject, &settings_of(&args.recipe), &bars, &mut features, keep, &mut shown);
    drop(shown);
    let found = found.map_err(|e| e.to_string())?;
    if let Some(path) = &args.report {
        let html = report::html(&found)?;
        std::fs::write(path, html).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{}", serde_json::to_string(&found).map_err(|e| e.to_string())?)
    } else {
        writeln!(out, "{found}")
    };
    match written {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|e| format!("the result can't be printed: {e}")),
    }
}

type Wanted = (TrainingRecipe, Architecture, FeaturePlugin);

/// The recipe that a model was trained by, for these bars.
fn registered(
    settings: &Settings,
    parts: &Parts,
    model: &str,
    streams: &[(StreamKey, Vec<Bar>)],
) -> Result<Wanted, String> {
    let folder = parts.model(model)?;
    let mut recipe = TrainingRecipe::from_manifest(&folder.manifest).map_err(|e| e.to_string())?;
    recipe.data.pinned = None;
    recipe.data.symbols = streams.iter().map(|s| s.0.symbol.clone()).collect();
    let timeframe = streams.first().map(|s| s.0.timeframe).ok_or("there are no bars")?;
    if timeframe != recipe.data.timeframe {
        return Err(format!("the model is of {} bars and these are of {timeframe}", recipe.data.timeframe));
    }
    let architecture = parts.pinned(settings, &recipe.architecture.plugin, &recipe.architecture.digest)?;
    let built = Architecture::new(&architecture).map_err(|e| e.to_string())?;
    Ok((recipe, built, parts.features(settings, &folder.manifest)?))
}

/// The recipe of the command line.
fn fresh(
    settings: &Settings,
    parts: &Parts,
    args: &EvaluateRecipe,
    streams: &[(StreamKey, Vec<Bar>)],
) -> Result<Wanted, String> {
    let architecture = parts.component(settings, &args.architecture)?;
    let component = parts.component(settings, &args.features)?;
    let features = FeaturePlugin::new(&component, &pairs(&args.options)?).map_err(|e| e.to_string())?;
    let built = Architecture::new(&architecture).map_err(|e| e.to_string())?;
    let mut hyper = built.schema().fill(&pairs(&args.hyper)?).map_err(|e| e.to_string())?;
    let declared = TrainingHyper::take(&mut hyper);
    let timeframe = streams.first().map(|s| s.0.timeframe).ok_or("there are no bars")?;
    let kind = match args.label {
        cli::LabelKind::LogReturn => LabelKind::LogReturn,
        cli::LabelKind::RealisedVolatility => LabelKind::RealisedVolatility,
        cli::LabelKind::Direction => LabelKind::Direction,
    };
    let output = output_kind(args.output, kind, &args.quantiles);
    let recipe = TrainingRecipe {
        name: "evaluated".into(),
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
            description: String::new(),
            symbols: streams.iter().map(|s| s.0.symbol.clone()).collect(),
            timeframe,
            pinned: None,
        },
        window: args.window,
        label: LabelRecipe {
            kind,
            horizon_bars: args.horizon,
            gaps: if args.keep_gaps { GapPolicy::Keep } else { GapPolicy::Drop },
            dead_band: None,
        },
        output: OutputRecipe {
            kind: output.clone(),
            calibration: CalibrationCut::None,
            ..OutputRecipe::default()
        },
        // The folds cut; this is what a recipe must have.
        split: SplitRecipe {
            cut: Cut::Fractions { validation: args.validation_share, test: args.test_share },
            embargo_bars: args.embargo,
        },
        clip: Some(CLIP),
        training: TrainingSettings {
            batch: args.batch.or(declared.batch).unwrap_or(BATCH),
            epochs_max: args.epochs,
            patience: args.patience,
            learning_rate: args.learning_rate.or(declared.learning_rate).unwrap_or(LEARNING_RATE),
            weight_decay: args.weight_decay.or(declared.weight_decay).unwrap_or(WEIGHT_DECAY),
            loss: output::default_loss(&output),
            ..TrainingSettings::default()
        },
        bootstrap: BootstrapSettings::default(),
        trials: args.trials,
        device_tolerance: DEVICE_TOLERANCE,
    };
    Ok((recipe, built, features))
}

fn walk_of(args: &EvaluateRecipe, horizon_bars: u32) -> WalkForward {
    WalkForward {
        folds: args.folds,
        window: if args.sliding { TrainingWindow::Sliding } else { TrainingWindow::Expanding },
        test_share: args.test_share,
        validation_share: args.validation_share,
        embargo_bars: args.embargo,
        stride_bars: args.stride.unwrap_or(horizon_bars),
    }
}

fn settings_of(args: &EvaluateRecipe) -> assess::Settings {
    let defaults = assess::Settings::default();
    assess::Settings {
        // No more than are refused.
        seeds: (1..=args.seeds.min(assess::SEEDS_MAX as u64 + 1)).collect(),
        fee_bps: args.fee_bps,
        probes: (!args.skip_probes).then(ProbeSettings::default),
        rules: assess::gate::GateRules { deflated_sharpe_min: args.deflated_sharpe_min, ..defaults.rules },
        ..defaults
    }
}

fn keep(settings: &Settings, args: &EvaluateRecipe) -> Keep {
    let beside = || {
        let cache: &PathBuf = &settings.raw.plugins.cache_folder;
        cache
            .parent()
            .map(|parent| parent.join("evaluations"))
            .unwrap_or_else(|| PathBuf::from("evaluations"))
    };
    let folder = args.checkpoints.clone().unwrap_or_else(beside);
    Keep { folder, when_done: args.checkpoints.is_some() }
}

/// A bar over the parts on a terminal; a line a part elsewhere.
struct Shown {
    bar: ProgressBar,
}

impl Shown {
    fn new() -> Shown {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} parts, {elapsed} gone  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Shown { bar }
    }
}

impl Watch for Shown {
    fn part(&mut self, name: &str, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        match self.bar.is_hidden() {
            true => eprintln!("{}/{total} {name}", done + 1),
            false => self.bar.set_message(name.to_string()),
        }
    }
}

impl Progress for Shown {
    fn batch(&mut self, _: &BatchReport) -> Flow {
        Flow::Continue
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
