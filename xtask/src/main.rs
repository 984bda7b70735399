//! Everything that is done to this repository by one command: `cargo xtask <command>`.

mod bench;
mod demo;
mod http;
mod setup;
mod test;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask <command>

  demo [--once]   build, train a small model on bundled BTC bars, serve it, replay the bars that follow, and
                  report skill and latency; serves on until Ctrl-C, or with --once ends with 0 when all held
  test            install or build what the tests need, run every check, say what was skipped and why
                  (REQUIRE_ALL=1: a skip fails)
  soak            the same with full counts: kills, rows, minutes of fuzzing
  bench [--quick] [filter…]
                  build, install the peers (torch, openvino, onnxruntime) into target/peers, time all in turns;
                  a table, and target/bench/report.json; fails when a limit of seed_limits is broken
  setup           only install and build what demo and test need
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--once"] => demo::run(true),
        ["test"] => test::all(test::Counts::Reduced),
        ["soak"] => test::all(test::Counts::Full),
        ["bench", arguments @ ..] => bench::run(arguments),
        ["setup"] => setup::all(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no '{}'\n\n{HELP}", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Says the command, runs it in the root, fails when it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let line = words.join(" ");
    println!("$ {line}");
    let status = command.current_dir(root()).status().map_err(|e| format!("{line}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{line}: {status}")) }
}

/// cargo, as this process was started by.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
