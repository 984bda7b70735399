//! `bench`: our executor and appliance beside other engines, in one run. `cargo xtask bench` starts it.

mod appliance;
mod case;
mod engine;
mod expected;
mod files;
mod limits;
mod machine;
mod model;
mod ours;
mod pin;
mod report;
mod run;
mod stats;
mod swap;
mod tract;
mod usage;
mod wire;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::limits::Limit;
use crate::run::{Outcome, Settings};

const HELP: &str = "\
bench [--quick] [--no-peers] [--python PATH] [--out FILE] [filter…]

  filter       cases whose names hold one of these words, or seed_limits; without, all
  --quick      3 short rounds instead of 7
  --no-peers   ours alone
  --python     the interpreter that has the peers
  --out        the report; target/bench/report.json
  --list       the cases
";

struct Arguments {
    quick: bool,
    peers: bool,
    python: Option<PathBuf>,
    out: PathBuf,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["worker", engine, threads, cores] => serve(engine, threads, cores),
        ["--help" | "-h" | "help"] => {
            print!("{HELP}");
            Ok(())
        }
        ["--list"] => {
            case::CASES.iter().for_each(|c| println!("{}", c.name));
            println!("{}", limits::GROUP);
            Ok(())
        }
        _ => parse(args).and_then(|arguments| bench(&arguments)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(engine: &str, threads: &str, cores: &str) -> Result<(), String> {
    let cores: Vec<usize> = cores.split(',').filter_map(|c| c.parse().ok()).collect();
    worker::serve(engine, threads.parse().map_err(|_| "threads is a number")?, &cores)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

fn parse(args: Vec<String>) -> Result<Arguments, String> {
    let out = root().join("target/bench/report.json");
    let mut found = Arguments { quick: false, peers: true, python: None, out, words: Vec::new() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a path"));
        match arg.as_str() {
            "--quick" => found.quick = true,
            "--no-peers" => found.peers = false,
            "--python" => found.python = Some(value()?.into()),
            "--out" => found.out = value()?.into(),
            option if option.starts_with('-') => return Err(format!("there is no {option}\n\n{HELP}")),
            word => found.words.push(word.into()),
        }
    }
    Ok(found)
}

fn bench(arguments: &Arguments) -> Result<(), String> {
    let limited = arguments.words.is_empty() || arguments.words.iter().any(|w| w == limits::GROUP);
    let cases = case::select(&arguments.words, if limited { &limits::CASES } else { &[] });
    if cases.is_empty() {
        return Err(format!("no case has a name with {}; --list lists them", arguments.words.join(" or ")));
    }
    let folder = arguments.out.parent().ok_or("--out names no file")?;
    let work = folder.join("work");
    std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    let settings = Settings {
        quick: arguments.quick,
        root: root(),
        work: work.clone(),
        python: arguments.python.clone(),
        peers: arguments.peers,
    };
    let begin = std::time::Instant::now();
    let outcome = run::all(&settings, &cases);
    run::clean(&work);
    let outcome = outcome?;
    let held = if limited {
        eprintln!("{} …", limits::GROUP);
        limits::check(&settings.root, &outcome)
    } else {
        Vec::new()
    };
    let report = report(&settings, &outcome, &held, begin.elapsed().as_secs_f64());
    let text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
    std::fs::write(&arguments.out, text + "\n").map_err(|e| format!("{}: {e}", arguments.out.display()))?;
    print(&outcome, &held, &report, &arguments.out);
    let broken = held.iter().filter(|l| !l.held).map(|l| format!("a limit is broken: {}", l.what));
    let failed: Vec<String> = outcome.failures.iter().cloned().chain(broken).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn report(settings: &Settings, outcome: &Outcome, held: &[Limit], seconds: f64) -> Value {
    let (revision, changed) = machine::revision(&settings.root);
    let versions: serde_json::Map<String, Value> =
        outcome.versions.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
    json!({
        "machine": machine::describe(),
        "engines": versions,
        "date": market::Timestamp::now().to_string(),
        "git_revision": revision,
        "git_changed": changed,
        "run": if settings.quick { "quick" } else { "full" },
        "seconds": seconds,
        "other_busy_cores": outcome.other_cores,
        "foot": report::FOOT,
        "notes": outcome.notes,
        "failures": outcome.failures,
        "cases": outcome.rows.iter().map(report::Row::to_json).collect::<Vec<_>>(),
        "seed_limits": held.iter().map(Limit::to_json).collect::<Vec<_>>(),
    })
}

fn print(outcome: &Outcome, held: &[Limit], report: &Value, out: &Path) {
    println!("\n{}", report::table(&outcome.rows));
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_string();
    let machine = &report["machine"];
    println!(
        "{}, {} cores, {}; {} run of {:.0} s at {}",
        text(&machine["cpu"]),
        machine["cores"],
        text(&machine["isa"]),
        text(&report["run"]),
        report["seconds"].as_f64().unwrap_or(0.0),
        text(&report["date"]),
    );
    println!("{}. Ratio: our better row against the best peer, above 1 is ours.", report::FOOT);
    for note in &outcome.notes {
        println!("note: {note}");
    }
    for limit in held {
        println!("{} {}: {}", if limit.held { "held  " } else { "BROKEN" }, limit.what, limit.found);
    }
    println!("\n{}", out.display());
}
