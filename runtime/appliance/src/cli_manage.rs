//! The command line of `alphaplus retrain`, `promote` and `events`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Author;

#[derive(Args, Debug)]
#[command(after_help = "\
Kinds: retraining_started, retraining_finished, retraining_failed, gate_verdict, promoted, refused, alias_moved,
swapped, rolled_back, drift_alarm, ab_decision.

The log is models.events in config.toml. Each line names the one before by its SHA-256: an altered line is an error.")]
pub struct EventsOf {
    /// The newest so many.
    #[arg(long, default_value_t = 50)]
    pub last: usize,
    /// Only of this model.
    #[arg(long)]
    pub model: Option<String>,
    /// Only of this kind.
    #[arg(long)]
    pub kind: Option<String>,
    /// Go on with new ones as they are written, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// One JSON object a line, with the detail.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Everything is as in the model's manifest but for the bars: features and their options, label, window, hyper-parameters,
settings of the training, shares of the validation and test parts. Samples are fresh where the model wasn't trained on
them, so its own validation and test parts are fresh too.

  --from-weights   (the default) goes on from the model's weights, and from its optimiser's moments where they were kept;
                   the normaliser and the label's mean and scale stay the model's, since its weights are in those units.
                   The training part is the fresh samples and --replay of older ones; the learning rate is a tenth.
  --from-scratch   random weights, all samples, constants fitted anew.

The new version's manifest says which version it came from (parent). Each run counts in the trials ledger. What was done
is in 'alphaplus events'; what becomes of it is up to 'alphaplus promote'.

Examples:
  alphaplus retrain btc@champion --bars BTCUSDT-1h.csv.gz
  alphaplus retrain btc@champion --bars BTCUSDT-1h.csv.gz --from-spool --json     what has come in since as well
  alphaplus retrain btc@champion --bars BTCUSDT-1h.csv.gz --from-scratch --alias scratch")]
pub struct Retrain {
    /// The model to go on from: name, name/version or name@alias.
    pub model: String,
    #[command(flatten)]
    pub bars: MixedBars,
    /// Only bars from here (RFC 3339).
    #[arg(long)]
    pub from: Option<String>,
    #[arg(long)]
    pub until: Option<String>,
    /// Go on from the model's weights: the default.
    #[arg(long, conflicts_with = "from_scratch")]
    pub from_weights: bool,
    /// Begin at random weights.
    #[arg(long)]
    pub from_scratch: bool,
    /// Begin with an optimiser without moments.
    #[arg(long)]
    pub new_optimiser: bool,
    /// The share of older samples in the training part, drawn once by the seed; 0: none.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub replay: f64,
    /// Share of the times that early stopping and calibration look at; otherwise the model's.
    #[arg(long)]
    pub validation_share: Option<f64>,
    /// Share of the times, the newest, that is tested on; otherwise the model's.
    #[arg(long)]
    pub test_share: Option<f64>,
    /// Otherwise as in the manifest; so with patience and seed.
    #[arg(long)]
    pub epochs: Option<u32>,
    #[arg(long)]
    pub patience: Option<u32>,
    #[arg(long)]
    pub seed: Option<u64>,
    /// Otherwise that of the training that began at random weights: a tenth of it where weights are gone on from.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Points at the new version.
    #[arg(long, default_value = "challenger")]
    pub alias: String,
    /// Point no alias at it.
    #[arg(long, conflicts_with = "alias")]
    pub no_alias: bool,
    /// Checkpoints of this run; an interrupted one on the same bars goes on from here.
    #[arg(long, value_name = "FOLDER")]
    pub checkpoints: Option<PathBuf>,
    #[command(flatten)]
    pub author: Author,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Bars of files, of the spool, or of both.
#[derive(Args, Debug)]
pub struct MixedBars {
    /// CSV, CSV.gz or Parquet files of bars.
    #[arg(long = "bars", value_name = "FILE", required_unless_present = "from_spool")]
    pub files: Vec<PathBuf>,
    /// The symbol of files that don't name one; otherwise the file name's first part.
    #[arg(long)]
    pub symbol: Option<String>,
    /// The timeframe of files ("1h"); otherwise the usual distance between bars.
    #[arg(long)]
    pub timeframe: Option<String>,
    /// The zone of times that name none (IANA, such as America/New_York).
    #[arg(long, default_value = "UTC")]
    pub zone: String,
    /// The files' times are when bars close.
    #[arg(long)]
    pub close_times: bool,
    /// Leave bad rows out, counted, instead of refusing the file.
    #[arg(long)]
    pub skip_bad: bool,
    /// The final bars of the spool too; the appliance may be running. A bar that files have as well is taken once.
    #[arg(long)]
    pub from_spool: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The challenger is judged beside the champion and the baselines (naive, drift, ridge, trees, DLinear; EWMA and HAR of
volatility) on the bars behind all that either was trained, stopped or calibrated on. All must hold:

  the gain over naive lies above 0 with its whole interval
  it is better than naive, the best baseline and the champion: Diebold-Mariano, at --level divided by the trials; trials
  are those of the challenger's bars, or the challengers that were judged against this champion where those are more
  features and forecasts don't depend on later bars
  p99 of a row that is pushed, on this machine, is at most --latency-us
  outputs differ from the f64 reference by at most the manifest's serving.device_tolerance

Then the alias moves, and its history says why; else the command fails and nothing moves. Where there is no champion yet,
the rest must hold. A challenger of another label, horizon, output, timeframe, feature source or set of symbols is refused,
also by --force; another architecture or window is not. The bars must hold the challenger's training part too, which the
baselines are fitted on.

Examples:
  alphaplus promote btc@challenger --bars BTCUSDT-1h.csv.gz
  alphaplus promote btc@challenger --bars BTCUSDT-1h.csv.gz --from-spool --json
  alphaplus promote btc/7 --to champion --bars BTCUSDT-1h.csv.gz --dry-run")]
pub struct Promote {
    /// The challenger: name, name/version or name@alias.
    pub model: String,
    /// The alias that is to point at it; who has it now is the champion.
    #[arg(long, value_name = "ALIAS", default_value = "champion")]
    pub to: String,
    #[command(flatten)]
    pub bars: MixedBars,
    /// Judge from here on (RFC 3339); otherwise from where neither has seen anything.
    #[arg(long)]
    pub from: Option<String>,
    #[arg(long)]
    pub until: Option<String>,
    /// Of each one-sided test, before it is divided by the trials.
    #[arg(long, default_value_t = 0.025)]
    pub level: f64,
    /// The most that the 99th percentile of a prediction may take.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000.0)]
    pub latency_us: f64,
    /// Of a return: ask for a deflated Sharpe ratio of at least this (0.95 is usual).
    #[arg(long, value_name = "PROBABILITY")]
    pub deflated_sharpe_min: Option<f64>,
    /// Paid on each change of a position, in basis points.
    #[arg(long, default_value_t = 5.0)]
    pub fee_bps: f64,
    /// Judge and move nothing: no alias, no event.
    #[arg(long)]
    pub dry_run: bool,
    /// Move the alias whatever the verdict is; the reason is kept.
    #[arg(long, value_name = "REASON", conflicts_with = "dry_run")]
    pub force: Option<String>,
    #[command(flatten)]
    pub author: Author,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}
