//! The command line of `alphaplus models`, as far as it has many flags.

use clap::Args;

use crate::cli::BarFiles;

#[derive(Args, Debug)]
#[command(after_help = "\
For imported models, models from before there was calibration, and models whose market has changed. The samples' first
part is fitted on, the rest, behind purge and embargo, is measured on; `models show` prints both. The weights stay the
same, to the byte; the new version's manifest names the version and the bars. An alias stays where it is.

Bars that the model was trained or stopped on are refused: errors on them are too small, and so would be intervals.

Examples:
  alphaplus models calibrate net --bars BTCUSDT-1h.csv.gz --from 2024-05-01T00:00:00Z
  alphaplus models calibrate btc@champion --bars BTCUSDT-1h.csv.gz --held-out")]
pub struct Calibrate {
    /// Model: name, name/version or name@alias.
    pub model: String,
    #[command(flatten)]
    pub bars: BarFiles,
    /// Only windows that end here or later (RFC 3339). Earlier bars still warm up.
    #[arg(long)]
    pub from: Option<String>,
    #[arg(long)]
    pub until: Option<String>,
    /// Leave out what training and early stopping have seen, instead of refusing the bars.
    #[arg(long, conflicts_with = "allow_overlap")]
    pub held_out: bool,
    /// Use also what they have seen. The manifest keeps it.
    #[arg(long)]
    pub allow_overlap: bool,
    /// The share of realised values that intervals are to cover.
    #[arg(long, default_value_t = 0.9)]
    pub interval_level: f64,
    /// Of a volatility: confidence is the probability that it lies within this factor of the value.
    #[arg(long, default_value_t = 1.5)]
    pub confidence_factor: f64,
    /// The last share of the samples' times, which is measured on.
    #[arg(long, default_value_t = 0.5)]
    pub test_share: f64,
    /// Bars left out between both parts, beyond the purge of overlapping labels.
    #[arg(long, default_value_t = 24)]
    pub embargo: u32,
}
