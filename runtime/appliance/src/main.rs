//! `alphaplus`: parses the command line, runs the command, prints an error's chain once.

use std::panic;
use std::process::{ExitCode, exit};

use clap::Parser;

/// What a shell reports of a program that SIGPIPE ended: 128 + 13.
const PIPE_CLOSED: i32 = 141;

fn main() -> ExitCode {
    let cli = appliance::cli::Cli::parse();
    if !matches!(cli.command, appliance::cli::Command::Serve) {
        end_on_closed_pipes();
    }
    match appliance::commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `alphaplus … | head` ends when head does: `println!` panics where nobody reads any more.
#[expect(clippy::disallowed_methods, reason = "of a tool whose reader is gone: it writes nothing more")]
fn end_on_closed_pipes() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            exit(PIPE_CLOSED);
        }
        usual(info);
    }));
}
