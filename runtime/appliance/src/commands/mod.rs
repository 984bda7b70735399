//! One file a command.

mod alias;
mod bars;
mod bench;
mod calibrate;
mod compare;
mod doctor;
mod evaluate;
mod events;
mod explain;
mod import;
mod mixed_bars;
mod models;
mod outcomes;
mod plugin;
mod predict;
mod promote;
mod replay;
mod retrain;
mod serve;
mod shared_memory;
mod train;
mod tune;

use std::io::IsTerminal;
use std::path::Path;

use crate::cli::{Cli, Command};
use crate::config::{self, LogFormat, Settings};

/// Runs the command; the error is what the user reads.
pub fn run(cli: Cli) -> Result<(), String> {
    let settings = settings(&cli)?;
    log(&settings, matches!(cli.command, Command::Serve));
    let origin = origin(&cli);
    match cli.command {
        Command::Serve => serve::run(settings, origin),
        Command::Train(args) => train::run(&settings, &args),
        Command::Retrain(args) => retrain::run(&settings, &args),
        Command::Promote(args) => promote::run(&settings, &args),
        Command::Tune(args) => tune::run(&settings, &args),
        Command::Evaluate(args) => evaluate::run(&settings, &args),
        Command::Explain(args) => explain::run(&settings, &args),
        Command::Predict(args) => predict::run(&settings, &args),
        Command::Replay(args) => replay::run(&settings, args.seq),
        Command::Bars(command) => bars::run(&settings, &command),
        Command::Plugin(command) => plugin::run(&settings, &command),
        Command::Models(command) => models::run(&settings, &command),
        Command::Bench(args) => bench::run(&settings, &args),
        Command::Outcomes(args) => outcomes::run(&settings, &args),
        Command::Events(args) => events::run(&settings, &args),
        Command::Shared(args) => shared_memory::run(&settings, &args),
        Command::Doctor => doctor::run(&settings),
    }
}

/// The arguments that give another process the same settings.
fn origin(cli: &Cli) -> Vec<String> {
    let file = cli.config.iter().flat_map(|file| ["--config".into(), file.display().to_string()]);
    let sets = cli.set.iter().flat_map(|pair| ["--set".into(), pair.clone()]);
    file.chain(sets).collect()
}

fn settings(cli: &Cli) -> Result<Settings, String> {
    let mut flags = Vec::new();
    for pair in &cli.set {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("--set {pair}: it must be KEY=VALUE"))?;
        flags.push((key.trim().to_string(), value.trim().to_string()));
    }
    let here = Path::new("config.toml");
    let file = cli.config.as_deref().or_else(|| here.is_file().then_some(here));
    config::load(file, &flags).map_err(|e| e.to_string())
}

/// Logs go to stderr. Tools stay quiet below warnings.
fn log(settings: &Settings, serving: bool) {
    let level = if serving { settings.raw.log.level.as_str() } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second logger in one process (tests) is not an error.
    let _ = match settings.raw.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
