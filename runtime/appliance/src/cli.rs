//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::cli_manage::{EventsOf, MixedBars, Promote, Retrain};
pub use crate::cli_models::Calibrate;
pub use crate::cli_tune::{Latency, PrunerName, SamplerName, Tune, TuneCommand};

/// AlphaPlus trains time-series models on bars, predicts on each new one, and answers polls over local HTTP.
#[derive(Parser, Debug)]
#[command(version, about, long_about = None, after_help = "\
Examples:
  alphaplus serve                                             answer with the models in config.toml
  alphaplus train --bars BTCUSDT-1h.csv.gz --name btc         train a model and register it
  alphaplus tune --study btc --bars BTCUSDT-1h.csv.gz         search for a better one
  alphaplus retrain btc@champion --bars BTCUSDT-1h.csv.gz     a new version on newer bars
  alphaplus promote btc@challenger --bars BTCUSDT-1h.csv.gz   into the champion's place, if it is better
  alphaplus evaluate btc --bars BTCUSDT-1h.csv.gz             judge it on bars that it hasn't seen
  alphaplus evaluate --bars BTCUSDT-1h.csv.gz                 judge a recipe on walk-forward folds, beside all baselines
  alphaplus explain btc --bars BTCUSDT-1h.csv.gz --svg e.svg   which features make its predictions
  alphaplus plugin new features my-features                   begin a feature plugin
  alphaplus models alias btc champion 2                       what models:/btc@champion means from now on
  alphaplus bench btc --svg latency.svg                       how fast it is on this machine
  alphaplus doctor                                            what this machine can do")]
pub struct Cli {
    /// Settings file. Without it: config.toml where there is one, else the defaults.
    #[arg(long, global = true, env = "ALPHAPLUS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment; repeatable: --set serving.clock=feed
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve predictions until Ctrl-C or SIGTERM.
    Serve,
    /// Train a model on bars and register it.
    Train(Box<Train>),
    /// Train a new version of a registered model on newer bars.
    Retrain(Box<Retrain>),
    /// Judge a challenger beside the champion, and give it the champion's place if the gate lets it.
    Promote(Box<Promote>),
    /// Search the hyper-parameters of an architecture on bars, and register the best model.
    Tune(Box<Tune>),
    /// Judge a registered model on held-out bars, or a recipe on walk-forward folds beside all baselines.
    Evaluate(Box<Evaluate>),
    /// Predict the bar after the last one of a file.
    Predict(Predict),
    /// Which features and steps make a model's predictions, by integrated gradients over a file's bars.
    Explain(Explain),
    /// Recompute a retained prediction from the stored bars, plugin and weights, and compare the bits.
    Replay(Replay),
    /// Bring bars in.
    #[command(subcommand)]
    Bars(Bars),
    /// Write, build, check and measure plugins.
    #[command(subcommand)]
    Plugin(Plugin),
    /// Registered models: look, compare, point aliases, roll back, export, import.
    #[command(subcommand)]
    Models(Models),
    /// Measure a model on this machine: latency from row to prediction, and how fast ticks may come.
    Bench(Bench),
    /// What became of the predictions in the spool: accuracy, coverage, error; two models compared; drift.
    Outcomes(Outcomes),
    /// What was done with models, and why: retrainings, verdicts, promotions, moves of aliases.
    Events(EventsOf),
    /// What a running appliance shows in shared memory.
    Shared(SharedMemory),
    /// What this machine can do, and what is missing.
    Doctor,
}

#[derive(Args, Debug, Clone)]
pub struct BarFiles {
    /// CSV, CSV.gz or Parquet files of bars; the column style is detected.
    #[arg(long = "bars", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The symbol of files that don't name one; otherwise the file name's first part.
    #[arg(long)]
    pub symbol: Option<String>,
    /// The timeframe ("1h"); otherwise the usual distance between bars.
    #[arg(long)]
    pub timeframe: Option<String>,
    /// The zone of times that name none (IANA, such as America/New_York).
    #[arg(long, default_value = "UTC")]
    pub zone: String,
    /// The file's times are when bars close.
    #[arg(long)]
    pub close_times: bool,
    /// Leave bad rows out, counted, instead of refusing the file.
    #[arg(long)]
    pub skip_bad: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LabelKind {
    /// ln(close[t+h] / close[t])
    LogReturn,
    /// Root of the summed squared log returns of the next h bars
    RealisedVolatility,
    /// Whether close[t+h] is above or below close[t]; with --dead-band also neither
    Direction,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputKind {
    /// The label itself
    Point,
    /// Quantiles of the label at --quantiles, trained by their pinball loss
    Quantiles,
    /// Probabilities of a direction's classes
    Probabilities,
}

#[derive(Args, Debug)]
pub struct Train {
    #[command(flatten)]
    pub bars: BarFiles,
    /// Name to register under: letters, digits and dashes.
    #[arg(long, required_unless_present = "again")]
    pub name: Option<String>,
    /// Train a registered model again from its manifest, on the same bars.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["architecture", "features", "hyper", "options", "label", "output", "quantiles", "dead_band", "interval_level", "calibration_share", "confidence_factor", "horizon", "window"])]
    pub again: Option<String>,
    /// Architecture plugin: a name in plugins.folders or a .wasm file.
    #[arg(long, default_value = "lstm")]
    pub architecture: String,
    /// Feature plugin: a name in plugins.folders or a .wasm file.
    #[arg(long, default_value = "technical")]
    pub features: String,
    /// A hyper-parameter of the architecture: --hyper hidden=64. `alphaplus plugin inspect` lists them.
    #[arg(long, value_name = "NAME=VALUE")]
    pub hyper: Vec<String>,
    /// An option of the feature plugin.
    #[arg(long, value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    #[arg(long, value_enum, default_value = "log-return")]
    pub label: LabelKind,
    /// What the model gives; otherwise probabilities for a direction and a point for other labels.
    #[arg(long, value_enum)]
    pub output: Option<OutputKind>,
    /// Levels of the quantiles, rising, with 0.5 among them: its quantile is the value of a reply.
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.25,0.5,0.75,0.95")]
    pub quantiles: Vec<f64>,
    /// Of a direction: a log return that is no further from zero than this is flat, a class of its own.
    #[arg(long, value_name = "LOG_RETURN")]
    pub dead_band: Option<f64>,
    /// The share of realised values that intervals are to cover.
    #[arg(long, default_value_t = 0.9)]
    pub interval_level: f64,
    /// The end of the validation part that early stopping doesn't see and intervals and confidence are calibrated on;
    /// 0: replies have neither.
    #[arg(long, default_value_t = 0.5)]
    pub calibration_share: f64,
    /// Of a volatility: confidence is the probability that it lies within this factor of the value.
    #[arg(long, default_value_t = 1.5)]
    pub confidence_factor: f64,
    /// How many bars ahead.
    #[arg(long, default_value_t = 1)]
    pub horizon: u32,
    /// Bars in one input window.
    #[arg(long, default_value_t = 60)]
    pub window: u32,
    #[arg(long, default_value_t = 30)]
    pub epochs: u32,
    /// Stop after so many epochs without a better validation loss.
    #[arg(long, default_value_t = 5)]
    pub patience: u32,
    /// Samples in a step. Otherwise what the architecture's schema says, or 64.
    #[arg(long)]
    pub batch: Option<u32>,
    /// AdamW's highest rate. Otherwise what the architecture's schema says, or 0.001.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// AdamW's decay of matrices. Otherwise what the architecture's schema says, or 0.01.
    #[arg(long)]
    pub weight_decay: Option<f64>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the bars that is trained on.
    #[arg(long, default_value_t = 0.7)]
    pub train_share: f64,
    /// Share that early stopping looks at; the rest is the test part.
    #[arg(long, default_value_t = 0.15)]
    pub validation_share: f64,
    /// Bars left out before each later part, beyond the purge of overlapping labels.
    #[arg(long, default_value_t = 24)]
    pub embargo: u32,
    /// Keep labels that span a gap in time (markets that close).
    #[arg(long)]
    pub keep_gaps: bool,
    /// How many settings were tried on these bars, this one included, where that is more than the trials ledger in the
    /// models folder counts: kept in the manifest.
    #[arg(long, default_value_t = 1)]
    pub trials: u32,
    /// Checkpoints of this run; an interrupted one goes on from here.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoints: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Without MODEL a recipe is judged: on each fold the normaliser, every baseline and the model (once a seed) are fitted on
what lies before, with purge and embargo, and forecast the test part. Then the evaluation tests itself (--skip-probes
leaves that out, and then nothing may be promoted) and says whether such a model may be promoted.

  skill       1 - MSE / MSE of naive                    gain MASE, QLIKE   1 - loss / loss of naive
  IC (ICIR)   correlation within periods, mean (mean / std)   90 % in   labels inside the central 90 % interval
  p vs model  that the model is no better: Diebold-Mariano with HAC variance, small-sample correction
  naive       no return, or the volatility of the last h bars   drift   naive and its mean error
  ewma, har   of volatility: RiskMetrics 1996, Corsi 2009
  of a direction   probabilities of up, by log loss, Brier score, calibration and the share that was right; naive: how
                   often it went up in the training part; logistic: a regression with a ridge penalty
  of quantiles     distributions, by CRPS, pinball loss and coverage; climate: the training labels; normal: of returns,
                   with EWMA's variance; naive, ridge and the others with their residuals of the validation part

Examples:
  alphaplus evaluate btc --bars BTCUSDT-1h.csv.gz
  alphaplus evaluate --label realised-volatility --horizon 12 --bars BTC_USDT-5m.csv.gz --report btc.html
  alphaplus evaluate --label direction --horizon 12 --bars BTC_USDT-5m.csv.gz
  alphaplus evaluate --output quantiles --quantiles 0.05,0.5,0.95 --bars BTCUSDT-1h.csv.gz")]
pub struct Evaluate {
    /// A registered model, on held-out bars: name, name/version or name@alias. Without it: a recipe on walk-forward
    /// folds.
    pub model: Option<String>,
    #[command(flatten)]
    pub bars: BarFiles,
    /// Judge the registered model's recipe, trained anew on walk-forward folds.
    #[arg(long, requires = "model")]
    pub walk_forward: bool,
    #[command(flatten)]
    pub recipe: EvaluateRecipe,
    /// Only bars from here (RFC 3339). A registered model's test range is that of its manifest without it.
    #[arg(long)]
    pub from: Option<String>,
    #[arg(long)]
    pub until: Option<String>,
    /// Write a report with plots into this file (HTML, needs nothing else).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print all that was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is judged on walk-forward folds, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Walk-forward")]
pub struct EvaluateRecipe {
    /// Architecture plugin: a name in plugins.folders or a .wasm file.
    #[arg(long, default_value = "lstm")]
    pub architecture: String,
    /// Feature plugin: a name in plugins.folders or a .wasm file.
    #[arg(long, default_value = "technical")]
    pub features: String,
    /// A hyper-parameter of the architecture: --hyper hidden=64
    #[arg(long, value_name = "NAME=VALUE")]
    pub hyper: Vec<String>,
    /// An option of the feature plugin.
    #[arg(long, value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    #[arg(long, value_enum, default_value = "log-return")]
    pub label: LabelKind,
    /// What the model gives; otherwise probabilities for a direction and a point for other labels.
    #[arg(long, value_enum)]
    pub output: Option<OutputKind>,
    /// Levels of the quantiles, rising, with 0.5 among them.
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.25,0.5,0.75,0.95")]
    pub quantiles: Vec<f64>,
    /// How many bars ahead.
    #[arg(long, default_value_t = 1)]
    pub horizon: u32,
    /// Bars in one input window.
    #[arg(long, default_value_t = 60)]
    pub window: u32,
    #[arg(long, default_value_t = 30)]
    pub epochs: u32,
    /// Stop after so many epochs without a better validation loss.
    #[arg(long, default_value_t = 5)]
    pub patience: u32,
    /// Samples of a step. Without it: what the architecture's schema says, else 64; so with the two below.
    #[arg(long)]
    pub batch: Option<u32>,
    #[arg(long)]
    pub learning_rate: Option<f64>,
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Keep labels that span a gap in time (markets that close).
    #[arg(long)]
    pub keep_gaps: bool,
    /// How many settings were tried on these bars, this one included: the more, the better a model must be.
    #[arg(long, default_value_t = 1)]
    pub trials: u32,
    /// Trainings of each fold, with seeds 1, 2, …
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    #[arg(long, default_value_t = 4)]
    pub folds: u32,
    /// Later folds train on as many bars as the first; otherwise on all before.
    #[arg(long)]
    pub sliding: bool,
    /// Share of the times that all test parts together take.
    #[arg(long, default_value_t = 0.5)]
    pub test_share: f64,
    /// Share of what lies before a test part that early stopping looks at.
    #[arg(long, default_value_t = 0.15)]
    pub validation_share: f64,
    /// Bars left out before each later part, beyond the purge of overlapping labels.
    #[arg(long, default_value_t = 24)]
    pub embargo: u32,
    /// One sample each so many bars; otherwise as many as the horizon, so that labels don't overlap.
    #[arg(long)]
    pub stride: Option<u32>,
    /// Paid on each change of a position, in basis points.
    #[arg(long, default_value_t = 5.0)]
    pub fee_bps: f64,
    /// Ask the gate for a deflated Sharpe ratio of at least this (0.95 is usual).
    #[arg(long, value_name = "PROBABILITY")]
    pub deflated_sharpe_min: Option<f64>,
    /// Don't test the evaluation itself.
    #[arg(long)]
    pub skip_probes: bool,
    /// Where finished folds are kept, so that the same command goes on from them. Otherwise evaluations/ beside
    /// plugins.cache_folder, removed when it is done.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoints: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(mut_arg("files", |arg| arg.required(false).required_unless_present("stored")))]
pub struct Explain {
    /// Model: "name" or "name/version".
    pub model: String,
    #[command(flatten)]
    pub bars: BarFiles,
    /// Sum up what was explained while the model served (serving.explain_every), from the spool; --symbol and
    /// --timeframe choose streams.
    #[arg(long, conflicts_with_all = ["files", "output", "points", "zone", "close_times", "skip_bad"])]
    pub stored: bool,
    /// Explain the windows of the last so many bars of each stream; with --stored the last so many explanations.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
    /// Which of the model's outputs, from 0.
    #[arg(long, default_value_t = 0)]
    pub output: usize,
    /// Points of integration, up to 256: more leave less of a residual.
    #[arg(long, default_value_t = learn::explain::POINTS_DEFAULT)]
    pub points: usize,
    /// Draw features by steps into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Predict {
    /// Model: name, name/version or name@alias.
    pub model: String,
    #[command(flatten)]
    pub bars: BarFiles,
    /// Predict on each of the last so many bars.
    #[arg(long, default_value_t = 1)]
    pub last: usize,
}

#[derive(Args, Debug)]
pub struct Replay {
    /// The `seq` of the prediction.
    pub seq: u64,
}

#[derive(Args, Debug)]
#[command(after_help = "\
What the lines mean:
  push              a row arrives, its prediction is there; back to back, each after the work of the last is done
  push, one each …  the same with one row each --every-ms, when the core has slept in between; from the due time
  push and settle   the above with all work that a row leaves: the shortest interval that ticks can keep up
  whole window      the prediction of a window that nothing is known of
  batch of 256      so many such windows at once, the time of each
  push, … instances so many streams at once; all their pushes
Instances are independent streams, each on a thread of its own that is pinned to a core.")]
pub struct Bench {
    /// Model: name, name/version or name@alias. Otherwise the first of the deployments.
    pub model: Option<String>,
    /// How long each line is measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Milliseconds between the rows of the sparse feed.
    #[arg(long, default_value_t = 10.0)]
    pub every_ms: f64,
    /// Measure 2, 3, … up to so many instances at once; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    pub instances: usize,
    /// Draw the distributions into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
--compare pairs both models' outcomes of the same bars. The interval of the mean difference (challenger's loss less
the champion's) and the p-value may be read after every bar: a false verdict comes at most with probability --level,
however often one looks, if the spool reaches back to the start of the comparison (store.history_hours).
A step is all that fell due at one time; a block is two horizons of steps, four steps at least. Nothing is decided
before 30 blocks.
--drift reads the same outcomes of each model alone, and computes the features of all bars in the spool anew.")]
pub struct Outcomes {
    /// Only of this model: "name" or "name/version".
    #[arg(long)]
    pub model: Option<String>,
    /// Only of this symbol.
    #[arg(long)]
    pub symbol: Option<String>,
    /// Only of this timeframe ("1h").
    #[arg(long)]
    pub timeframe: Option<String>,
    /// Sum up the last so many; otherwise all.
    #[arg(long)]
    pub last: Option<usize>,
    /// Print the last so many outcomes as well, one a line.
    #[arg(long, default_value_t = 0)]
    pub list: usize,
    /// Compare two models of one label on the bars that both predicted: name, name/version or name@alias.
    #[arg(long, num_args = 2, value_names = ["CHAMPION", "CHALLENGER"], conflicts_with_all = ["model", "drift", "list"])]
    pub compare: Option<Vec<String>>,
    /// With --compare: the probability of a false verdict, however often the comparison is looked at.
    #[arg(long, default_value_t = 0.05, requires = "compare")]
    pub level: f64,
    /// With --compare: draw the interval of the difference over time into this SVG file.
    #[arg(long, value_name = "FILE", requires = "compare")]
    pub svg: Option<PathBuf>,
    /// Judge models against what they promised: coverage, loss, its level over time (CUSUM), and their features against
    /// the training rows.
    #[arg(long, conflicts_with = "list")]
    pub drift: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct SharedMemory {
    /// The file; otherwise that of server.shared_memory.
    pub file: Option<PathBuf>,
    /// Only slots of this symbol.
    #[arg(long)]
    pub symbol: Option<String>,
}

#[derive(Subcommand, Debug)]
pub enum Bars {
    /// Read bar files, say what was found, and write them in the canonical form or send them to a running
    /// appliance.
    Import(Import),
}

#[derive(Args, Debug)]
pub struct Import {
    #[command(flatten)]
    pub bars: BarFiles,
    /// Write canonical CSV here.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Send to the appliance in config.toml as backfill, which warms windows without predictions.
    #[arg(long)]
    pub send: bool,
    /// Send as live bars: with predictions.
    #[arg(long, requires = "send")]
    pub live: bool,
    /// So many times as fast as the bars came about, each when it closes: --speed 60 sends an hour a minute.
    #[arg(long, requires = "live")]
    pub speed: Option<f64>,
    /// Only bars from here (RFC 3339).
    #[arg(long)]
    pub from: Option<String>,
    #[arg(long)]
    pub until: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PluginKind {
    Features,
    Architecture,
}

#[derive(Subcommand, Debug)]
pub enum Plugin {
    /// Begin a plugin that builds and passes its test at once.
    New { kind: PluginKind, name: String },
    /// Build the plugin in a folder into a component.
    Build {
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Where the component goes; otherwise <folder>/<name>.wasm
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Make a component of a core module that a compiler of another language made.
    Wrap {
        /// The module: it exports what the canonical ABI says of a world in plugin.wit.
        module: PathBuf,
        /// What the plugin is called.
        #[arg(long)]
        name: String,
        #[arg(long, value_name = "VERSION", default_value = "0.1.0")]
        plugin_version: String,
        /// As SPDX writes it: "Apache-2.0".
        #[arg(long, default_value = "")]
        licence: String,
        /// Where the component goes; otherwise <name>.wasm
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Is it a component that this appliance can load?
    Check { component: PathBuf },
    /// Causality, replay and snapshots on bars (synthetic ones without --bars).
    Test {
        component: PathBuf,
        #[arg(long)]
        bars: Option<PathBuf>,
        #[arg(long, default_value_t = 8)]
        rounds: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Time, fuel and memory per bar.
    Bench { component: PathBuf },
    /// Digest, version, imports, schema, features.
    Inspect { component: PathBuf },
}

#[derive(Subcommand, Debug)]
#[command(after_help = "\
How a model is named, here and in config.toml, with or without models:/ before it:
  models:/btc             the newest version
  models:/btc/7           version 7
  models:/btc@champion    where the alias points

Examples:
  alphaplus models alias btc champion 7 --why 'better on June'     point champion at version 7
  alphaplus models alias btc champion @challenger                  promote what challenger points at
  alphaplus models rollback btc                                    champion goes back to where it was before
  alphaplus models compare btc@champion btc@challenger
  alphaplus models export btc@champion --out btc.tar               to another machine: models import btc.tar
  alphaplus models import net.onnx --name net --features technical --window 60 --timeframe 1h \\
      --label realised-volatility --horizon 12 --normaliser net-normaliser.json
  alphaplus models calibrate net --bars BTCUSDT-1h.csv.gz          gives it a confidence and an interval

A running appliance follows its aliases within models.check_ms, without a stall or a restart.")]
pub enum Models {
    /// All models and versions, and the aliases that point at them.
    #[command(visible_alias = "ls")]
    List {
        #[arg(long)]
        json: bool,
    },
    /// One model's manifest in words.
    Show { model: String },
    /// Point an alias at a version, or nowhere. It is written down who did it, when and why.
    Alias(Alias),
    /// Point an alias back at the version before. Each rollback goes one step further back.
    Rollback(Rollback),
    /// How a model's aliases were moved: when, from where, to where, by whom, why.
    History {
        /// The model's name.
        name: String,
        /// Only this alias.
        #[arg(long)]
        alias: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Two versions side by side.
    Compare(Compare),
    /// Write one version into one file, which another machine imports.
    Export {
        model: String,
        /// Otherwise <name>-<version>.tar here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take a version from a file that `models export` wrote, or a model from an ONNX file of any origin.
    Import(ImportModel),
    /// Publish a version whose recurrent weights are held in fewer bits while it serves: smaller, faster, less
    /// exact. Says how much less, and records it.
    StoreAs(StoreAs),
    /// Fit confidence and interval of a model on bars that it wasn't trained on, and publish it with them.
    Calibrate(Calibrate),
    /// The trial run of `models import`, in a process of its own.
    #[command(hide = true)]
    TryFile(TryFile),
}

#[derive(Args, Debug)]
pub struct Alias {
    /// The model's name.
    pub name: String,
    /// champion, challenger, or any name of a-z 0-9 _ -.
    pub alias: String,
    /// A version's number, latest, or another alias of the model as @challenger.
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    pub to: Option<String>,
    /// It points nowhere from now on.
    #[arg(long)]
    pub remove: bool,
    #[command(flatten)]
    pub author: Author,
}

#[derive(Args, Debug)]
pub struct Rollback {
    /// The model's name.
    pub name: String,
    #[arg(default_value = "champion")]
    pub alias: String,
    #[command(flatten)]
    pub author: Author,
}

#[derive(Args, Debug)]
pub struct Author {
    /// For the history.
    #[arg(long, default_value = "")]
    pub why: String,
    /// For the history; otherwise the user's name.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub who: String,
}

#[derive(Args, Debug)]
pub struct Compare {
    pub first: String,
    pub second: String,
    /// Also what is the same in both.
    #[arg(long)]
    pub all: bool,
    /// Also measure both on this machine: microseconds for a whole window.
    #[arg(long)]
    pub latency: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
An ONNX file takes [batch, window, features] or [batch, window x features] in float32, the oldest bar first, and gives
[batch], [batch, 1] or [batch, outputs]; of several outputs --output names one. Where our own graph holds it, it runs
as a trained model does. Where it doesn't, tract runs the file: slower, never row by row, and said in `models show`, in
each reply's device and in /v2/health/ready. Files with weights in other files, operators of other domains, random
numbers or unbounded loops are refused.

The normaliser is a JSON file {\"mean\": [...], \"scale\": [...], \"clip\": 10}, one number for each column of the features
(input = clamp((feature - mean) / scale, -clip, clip); clip may be left out), or none.")]
pub struct ImportModel {
    /// An archive of `models export`, or an ONNX file.
    pub file: PathBuf,
    /// Register under this name; an archive brings its own.
    #[arg(long)]
    pub name: Option<String>,
    /// ONNX: the feature plugin, by its name in plugins.folders or its .wasm file.
    #[arg(long)]
    pub features: Option<String>,
    /// ONNX: an option of the feature plugin.
    #[arg(long = "option", visible_alias = "options", value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    /// ONNX: bars in one input window.
    #[arg(long)]
    pub window: Option<u32>,
    /// ONNX: timeframe of the bars it was trained on, such as 1h.
    #[arg(long)]
    pub timeframe: Option<String>,
    /// ONNX: what it predicts.
    #[arg(long, value_enum)]
    pub label: Option<LabelKind>,
    /// ONNX: how many bars ahead.
    #[arg(long)]
    pub horizon: Option<u32>,
    /// ONNX: a JSON file with mean, scale and clip of each column, or none.
    #[arg(long, value_name = "FILE|none")]
    pub normaliser: Option<String>,
    /// ONNX: prediction = output x label-scale + label-mean.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub label_mean: f64,
    #[arg(long, default_value_t = 1.0)]
    pub label_scale: f64,
    /// ONNX: which of the file's outputs.
    #[arg(long)]
    pub output: Option<String>,
    /// ONNX: a sentence for `models show`.
    #[arg(long, default_value = "")]
    pub description: String,
    /// ONNX: what the trial run may take where tract runs the file.
    #[arg(long, default_value_t = 120)]
    pub trial_seconds: u64,
    #[arg(long, default_value_t = 4096)]
    pub trial_memory_mb: u64,
}

#[derive(Args, Debug)]
pub struct TryFile {
    pub file: PathBuf,
    #[arg(long)]
    pub input: String,
    #[arg(long)]
    pub output: usize,
    #[arg(long, value_delimiter = ',')]
    pub dims: Vec<usize>,
}

#[derive(Args, Debug)]
pub struct StoreAs {
    /// Model: name, name/version or name@alias.
    pub model: String,
    #[arg(value_enum)]
    pub precision: Precision,
    /// The largest difference from f32 that is taken, in the label's normalised unit (standard deviations).
    /// Otherwise the model's own serving.device_tolerance.
    #[arg(long)]
    pub tolerance: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Precision {
    F32,
    /// bfloat16: half the memory, about 3 digits
    Bf16,
    /// 8-bit weights with a scale for each column
    Int8,
}
