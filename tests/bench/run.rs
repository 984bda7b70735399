//! Runs the cases: all engines load one, then take turns at it, round after round.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, Server};
use crate::case::{Case, Kind, Timed};
use crate::engine::{ENGINES, Engine, Program};
use crate::expected::{CHECKED_ROWS, CHECKED_STEPS, Expected};
use crate::report::{Row, set_ratio};
use crate::stats::{Round, over_rounds};
use crate::usage::{Usage, calm, now_used};
use crate::worker::Turn;
use crate::{files, machine};

pub struct Settings {
    pub quick: bool,
    pub root: PathBuf,
    /// For files that the engines read.
    pub work: PathBuf,
    /// The interpreter with the peers, if there is one.
    pub python: Option<PathBuf>,
    /// Also start the peers; false leaves ours alone.
    pub peers: bool,
}

impl Settings {
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    fn turn(&self, kind: Kind) -> Turn {
        let (warm, time) = if self.quick { (20, 110) } else { (100, 800) };
        // A sparse feed has a push each 10 ms.
        let sparse = matches!(kind, Kind::Sliding { timed: Timed::Sparse, .. });
        Turn {
            warm: Duration::from_millis(warm),
            time: Duration::from_millis(if sparse { 6 * time } else { time }),
            least: 5,
            most: 100_000,
        }
    }
}

/// Everything that came of a run.
#[derive(Default)]
pub struct Outcome {
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
    /// Of ours: what went wrong, so that the command fails once the report is written.
    pub failures: Vec<String>,
    /// Engine and version.
    pub versions: Vec<(String, String)>,
    /// Of our engines' processes, over all cases.
    pub peak_bytes: Option<u64>,
    /// Cores that were busy with something else while engines were measured, on average.
    pub other_cores: Option<f64>,
}

impl Outcome {
    /// Something that an engine can't do, said at once.
    fn complain(&mut self, engine: &str, text: String) {
        eprintln!("{text}");
        if engine.starts_with("ours") { &mut self.failures } else { &mut self.notes }.push(text);
    }
}

pub fn all(settings: &Settings, cases: &[&Case]) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut engines = Vec::new();
    if cases.iter().any(|c| !matches!(c.kind, Kind::Wire(_))) {
        engines = start(settings, &mut outcome);
    }
    let mut usage = Usage::of(&engines);
    for case in cases.iter().filter(|c| !matches!(c.kind, Kind::Wire(_))) {
        eprintln!("{} …", case.name);
        let peers_run = !matches!(case.kind, Kind::Sliding { .. });
        let request = files::write(&settings.work, case, &mut engines, &mut outcome.notes)?;
        let loaded = load(&request, case, &mut engines, peers_run, &mut outcome);
        let measured = turns(settings, case, &mut engines, &loaded, &mut usage, &mut outcome);
        let mut expected = Expected::new(case);
        for (rounds, outputs, engine) in measured {
            let error = outputs.map(|outputs| expected.error(&outputs)).transpose();
            let max_abs_error = error.unwrap_or_else(|reason| {
                outcome.complain(engine, format!("{engine} at {}: {reason}", case.name));
                None
            });
            outcome.rows.push(Row {
                case: case.name.into(),
                engine: engine.into(),
                figures: over_rounds(&rounds),
                ratio_to_best_peer: None,
                max_abs_error,
            });
        }
        set_ratio(&mut outcome.rows, case.name, case.against, case.compare);
    }
    outcome.other_cores = usage.other_cores();
    outcome.notes.extend(usage.notes(&engines));
    let ours = engines.iter().filter(|e| e.name.starts_with("ours"));
    outcome.peak_bytes = ours.filter_map(|e| machine::peak_bytes(e.process())).max();
    drop(engines);
    if let Err(reason) = wire(settings, cases, &mut outcome) {
        outcome.complain("ours", format!("the appliance: {reason}"));
    }
    Ok(outcome)
}

fn start(settings: &Settings, outcome: &mut Outcome) -> Vec<Engine> {
    let cores = machine::cores();
    let script = settings.root.join("tests/bench/peers.py");
    let mut engines = Vec::new();
    for spec in ENGINES {
        if !settings.peers && !spec.0.starts_with("ours") {
            continue;
        }
        match Engine::start(spec, &cores, settings.python.as_deref(), &script) {
            Ok(engine) => {
                eprintln!("started {} {}", engine.name, engine.version);
                if !engine.pinned {
                    outcome.notes.push(format!("{} could not be pinned to its cores", engine.name));
                }
                outcome.versions.push((engine.name.into(), engine.version.clone()));
                engines.push(engine);
            }
            Err(reason) => {
                // Ours too, with 2 threads on 1 core.
                let note = format!("{} is missing: {reason}", spec.0);
                eprintln!("{note}");
                outcome.notes.push(note);
            }
        }
    }
    engines
}

/// Which engines have the case.
fn load(
    request: &Value,
    case: &Case,
    engines: &mut [Engine],
    peers_run: bool,
    outcome: &mut Outcome,
) -> Vec<bool> {
    let mut loaded = Vec::new();
    for engine in engines {
        let wanted = match (&case.kind, engine.program) {
            (_, Program::Bench("cpu")) => true,
            // Engines that only predict.
            (Kind::Training { .. }, program) => program == Program::Python("pytorch"),
            _ => peers_run,
        };
        let done = wanted.then(|| engine.call(request));
        if let Some(Err(reason)) = &done {
            outcome.complain(engine.name, format!("{} has no {}: {reason}", engine.name, case.name));
        }
        loaded.push(matches!(done, Some(Ok(_))));
        if done.is_some() {
            calm(engine);
        }
    }
    loaded
}

type Measured = (Vec<Round>, Option<Value>, &'static str);

fn turns(
    settings: &Settings,
    case: &Case,
    engines: &mut [Engine],
    loaded: &[bool],
    usage: &mut Usage,
    outcome: &mut Outcome,
) -> Vec<Measured> {
    let items = match case.kind {
        Kind::Window { batch, .. } | Kind::Training { batch, .. } => batch,
        Kind::Sliding { .. } | Kind::Wire(_) => 1,
    };
    let mut request = settings.turn(case.kind).to_json();
    request["checked"] =
        json!(if matches!(case.kind, Kind::Training { .. }) { CHECKED_STEPS } else { CHECKED_ROWS });
    let mut measured: Vec<Measured> = engines.iter().map(|e| (Vec::new(), None, e.name)).collect();
    let mut broken: Vec<bool> = loaded.iter().map(|l| !l).collect();
    for round in 0..settings.rounds() {
        for turn in 0..engines.len() {
            // Another one begins each round, so that no engine always follows the same one.
            let index = (turn + round) % engines.len();
            if broken[index] {
                continue;
            }
            let (before, begin) = (now_used(engines), Instant::now());
            match engines[index].call(&request) {
                Ok(reply) => {
                    let ns = reply["ns"].as_array().into_iter().flatten().filter_map(Value::as_f64);
                    measured[index].0.push(Round::of_latencies(ns.map(|ns| ns / 1e3).collect(), items));
                    measured[index].1 = Some(reply["outputs"].clone());
                }
                Err(reason) => {
                    let name = engines[index].name;
                    outcome.complain(name, format!("{name} failed at {}: {reason}", case.name));
                    broken[index] = true;
                }
            }
            usage.add(index, begin.elapsed(), &before, &now_used(engines));
            calm(&engines[index]);
        }
    }
    for engine in engines.iter_mut() {
        // One that is gone has already been named.
        let _ = engine.unload();
    }
    measured.retain(|(rounds, ..)| !rounds.is_empty());
    measured
}

/// The cases against a started appliance, which is started once.
fn wire(settings: &Settings, cases: &[&Case], outcome: &mut Outcome) -> Result<(), String> {
    let cases: Vec<(&Case, crate::case::Wire)> = cases
        .iter()
        .filter_map(|c| if let Kind::Wire(run) = c.kind { Some((*c, run)) } else { None })
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    for server in [Server::Plain, Server::Ten, Server::Beside, Server::Spinning] {
        let cases: Vec<_> = cases.iter().filter(|(case, _)| Server::of(case) == server).collect();
        if cases.is_empty() {
            continue;
        }
        let mut appliance = match server {
            Server::Ten => Appliance::start_ten(&settings.root)?,
            _ => Appliance::start_lstm(&settings.root, (2, 128, 60), server)?,
        };
        for (case, run) in cases {
            eprintln!("{} …", case.name);
            let rounds = run(&mut appliance, settings.quick).map_err(|e| format!("{}: {e}", case.name))?;
            outcome.rows.push(Row {
                case: case.name.into(),
                engine: "ours".into(),
                figures: over_rounds(&rounds),
                ratio_to_best_peer: None,
                max_abs_error: None,
            });
        }
        outcome.notes.append(&mut appliance.notes);
        appliance.stop()?;
    }
    Ok(())
}

/// Removes the engines' files.
pub fn clean(work: &Path) {
    let _ = fs::remove_dir_all(work);
}
