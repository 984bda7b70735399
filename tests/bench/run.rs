//! Runs the cases: all engines load one, then take turns at it, round after round.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use graph::{Graph, GraphCodec, reference};
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::case::{Case, Kind, Timed};
use crate::engine::{ENGINES, Engine, Program};
use crate::machine;
use crate::model::{Model, rows};
use crate::ours::{FEED_ROWS, training};
use crate::report::{Row, set_ratio};
use crate::stats::{Round, over_rounds};
use crate::worker::Turn;

/// Rows of a batch that are compared with the reference.
pub const CHECKED_ROWS: usize = 4;
/// Training steps whose losses are compared with the reference.
pub const CHECKED_STEPS: usize = 2;
pub const LEARNING_RATE: f32 = 1e-3;
/// After each turn: until the engine's threads no longer spin, so that they don't disturb the next one.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(1000);
/// Above it the machine is too busy with other things for fair figures.
const OTHER_CORES_MAX: f64 = 0.05;
/// An idle engine that uses more of a core than this is named.
const IDLE_SHARE_MAX: f64 = 0.02;

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
        let (warm, time) = if self.quick { (30, 250) } else { (100, 800) };
        // A sparse feed has a push each 10 ms.
        let sparse = matches!(kind, Kind::Sliding { timed: Timed::Sparse, .. });
        Turn {
            warm: Duration::from_millis(warm),
            time: Duration::from_millis(if sparse { 4 * time } else { time }),
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
    /// Engine and version.
    pub versions: Vec<(String, String)>,
    /// Of our engines' processes, over all cases.
    pub peak_bytes: Option<u64>,
    /// Cores that were busy with something else while engines were measured, on average.
    pub other_cores: Option<f64>,
}

/// Who used the processor during the turns.
#[derive(Default)]
struct Usage {
    /// Of each engine while another had its turn: the largest share of a core.
    idle: Vec<f64>,
    turns_ns: f64,
    others_ns: f64,
}

pub fn targets(batch: usize) -> Vec<f32> {
    rows(1 << 20, batch, 1)
}

pub fn all(settings: &Settings, cases: &[&Case]) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut engines = Vec::new();
    if cases.iter().any(|c| !matches!(c.kind, Kind::Wire(_))) {
        engines = start(settings, &mut outcome);
    }
    let mut usage = Usage { idle: vec![0.0; engines.len()], ..Usage::default() };
    for case in cases.iter().filter(|c| !matches!(c.kind, Kind::Wire(_))) {
        eprintln!("{} …", case.name);
        let peers_run = !matches!(case.kind, Kind::Sliding { .. });
        let files = Files::write(settings, case, &mut engines, &mut outcome.notes)?;
        let loaded = load(&files, case, &mut engines, peers_run, &mut outcome.notes);
        let measured = turns(settings, case, &mut engines, &loaded, &mut usage, &mut outcome.notes);
        let mut expected = Expected::new(case);
        for (rounds, outputs, engine) in measured {
            let max_abs_error = outputs.map(|outputs| expected.error(&outputs)).transpose()?;
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
    for (engine, share) in engines.iter().zip(&usage.idle).filter(|(_, share)| **share > IDLE_SHARE_MAX) {
        let percent = share * 100.0;
        outcome
            .notes
            .push(format!("{} used {percent:.0} % of a core while another was measured", engine.name));
    }
    outcome.other_cores = usage.other_cores();
    if let Some(cores) = outcome.other_cores.filter(|&cores| cores > OTHER_CORES_MAX) {
        let note = format!(
            "other programs kept {cores:.2} cores busy while engines were measured: the figures are noisy"
        );
        outcome.notes.push(note);
    }
    let ours = engines.iter().filter(|e| e.name.starts_with("ours"));
    outcome.peak_bytes = ours.filter_map(|e| machine::peak_bytes(e.process())).max();
    drop(engines);
    wire(settings, cases, &mut outcome)?;
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
                let note = format!("{} is missing: {reason}", spec.0);
                eprintln!("{note}");
                outcome.notes.push(note);
            }
        }
    }
    engines
}

/// What a case's request tells the engines.
struct Files(Value);

impl Files {
    fn write(
        settings: &Settings,
        case: &Case,
        engines: &mut [Engine],
        notes: &mut Vec<String>,
    ) -> Result<Files, String> {
        let mut request = json!({"do": "load", "case": case.name, "precision": case.precision.name()});
        let (model, batch, task) = match case.kind {
            Kind::Window { model, batch } => (model(), batch, "window"),
            Kind::Training { model, batch } => (model(), batch, "training"),
            Kind::Sliding { .. } | Kind::Wire(_) => return Ok(Files(request)),
        };
        let path = |name: &str| settings.work.join(format!("{}.{name}", case.name));
        let write = |name: &str, bytes: &[u8]| -> Result<String, String> {
            let path = path(name);
            fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(path.display().to_string())
        };
        let weights = reference::initial_states(&model.graph, 0);
        let tensors: Vec<(&str, &[usize])> = weights.iter().map(|(n, t)| (n.as_str(), t.dims())).collect();
        let data: Vec<u8> = weights.iter().flat_map(|(_, t)| bytes(t.data())).collect();
        let onnx = onnx::Onnx.encode(&model.graph).map_err(|e| e.to_string())?;
        let more = json!({
            "task": task,
            "batch": batch,
            "onnx": write("onnx", &onnx)?,
            "input": {
                "dims": [batch, model.steps, model.features],
                "file": write("input", &bytes(&rows(0, batch * model.steps, model.features)))?,
            },
            "target": {"dims": [batch, 1], "file": write("target", &bytes(&targets(batch)))?},
            "learning_rate": LEARNING_RATE,
            "checked_steps": CHECKED_STEPS,
            "weights": {"file": write("weights", &data)?, "tensors": tensors},
            "torch": model.torch,
        });
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        if model.torch["kind"] == "cnn" {
            // Peers get real convolutions, as their users write them.
            let file = path("conv.onnx").display().to_string();
            let mut ask = request.clone();
            (ask["do"], ask["to"]) = (json!("write_cnn"), json!(file));
            let writer = engines.iter_mut().find(|e| matches!(e.program, Program::Python(_)));
            match writer.map(|engine| engine.call(&ask)) {
                Some(Ok(_)) => request["onnx"] = json!(file),
                Some(Err(e)) => notes.push(format!("{}: no file with convolutions: {e}", case.name)),
                None => {}
            }
        }
        Ok(Files(request))
    }
}

fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Which engines have the case.
fn load(
    files: &Files,
    case: &Case,
    engines: &mut [Engine],
    peers_run: bool,
    notes: &mut Vec<String>,
) -> Vec<bool> {
    let mut loaded = Vec::new();
    for engine in engines {
        let wanted = match (&case.kind, engine.program) {
            (_, Program::Bench("cpu")) => true,
            // Engines that only predict.
            (Kind::Training { .. }, program) => program == Program::Python("pytorch"),
            _ => peers_run,
        };
        let done = wanted.then(|| engine.call(&files.0));
        if let Some(Err(reason)) = &done {
            let note = format!("{} has no {}: {reason}", engine.name, case.name);
            eprintln!("{note}");
            notes.push(note);
        }
        loaded.push(matches!(done, Some(Ok(_))));
        if done.is_some() {
            calm(engine);
        }
    }
    loaded
}

/// Processor time used by each engine, and by the whole machine.
struct Used {
    engines: Vec<u64>,
    machine: Option<u64>,
}

fn now_used(engines: &[Engine]) -> Used {
    let engines = engines.iter().map(|e| machine::used_ns(e.process()).unwrap_or(0)).collect();
    Used { engines, machine: machine::busy_ns() }
}

impl Usage {
    /// Of the turn of the engine at `index`.
    fn add(&mut self, index: usize, took: Duration, before: &Used, after: &Used) {
        let took = took.as_nanos() as f64;
        let mut all = 0;
        for (other, (before, after)) in before.engines.iter().zip(&after.engines).enumerate() {
            let used = after.saturating_sub(*before);
            all += used;
            if other != index {
                self.idle[other] = self.idle[other].max(used as f64 / took);
            }
        }
        if let (Some(before), Some(after)) = (before.machine, after.machine) {
            self.turns_ns += took;
            // Ticks are coarse: a single turn's may be below what the engines used.
            self.others_ns += (after - before) as f64 - all as f64;
        }
    }

    fn other_cores(&self) -> Option<f64> {
        (self.turns_ns > 0.0).then(|| (self.others_ns / self.turns_ns).max(0.0))
    }
}

/// Waits until an engine that has answered uses no processor, though not for long.
fn calm(engine: &Engine) {
    let begin = Instant::now();
    let mut before = machine::used_ns(engine.process());
    while begin.elapsed() < PAUSE_MAX {
        thread::sleep(PAUSE);
        let now = machine::used_ns(engine.process());
        let (Some(from), Some(until)) = (before, now) else { return };
        if until.saturating_sub(from) as f64 <= IDLE_SHARE_MAX * PAUSE.as_nanos() as f64 {
            return;
        }
        before = now;
    }
}

type Measured = (Vec<Round>, Option<Value>, &'static str);

fn turns(
    settings: &Settings,
    case: &Case,
    engines: &mut [Engine],
    loaded: &[bool],
    usage: &mut Usage,
    notes: &mut Vec<String>,
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
                    let note = format!("{} failed at {}: {reason}", engines[index].name, case.name);
                    eprintln!("{note}");
                    notes.push(note);
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

/// The f64 reference of a case.
struct Expected {
    case: Kind,
    model: Option<Model>,
    /// Of windows and training steps; computed once.
    values: Option<Vec<f64>>,
}

impl Expected {
    fn new(case: &Case) -> Self {
        let model = match case.kind {
            Kind::Window { model, .. } | Kind::Training { model, .. } | Kind::Sliding { model, .. } => {
                Some(model())
            }
            Kind::Wire(_) => None,
        };
        Expected { case: case.kind, model, values: None }
    }

    /// The largest absolute error of an engine's outputs.
    fn error(&mut self, outputs: &Value) -> Result<f64, String> {
        let found: Vec<f64> =
            outputs["values"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let Some(model) = &self.model else { return Err("no engine runs a case of the appliance".into()) };
        let values = match (self.case, &self.values) {
            (Kind::Sliding { .. }, _) => {
                let pushed = outputs["pushed"].as_u64().ok_or("no count of rows came back")? as usize;
                let newest =
                    (pushed - model.steps..pushed).flat_map(|i| rows(i % FEED_ROWS, 1, model.features));
                one_run(&model.graph, 1, vec![newest.collect()])?
            }
            (_, Some(values)) => values.clone(),
            (Kind::Window { batch, .. }, None) => {
                let rows_checked = batch.min(CHECKED_ROWS);
                one_run(
                    &model.graph,
                    rows_checked,
                    vec![rows(0, rows_checked * model.steps, model.features)],
                )?
            }
            (Kind::Training { batch, .. }, None) => losses(model, batch)?,
            (Kind::Wire(_), None) => return Err("no engine runs a case of the appliance".into()),
        };
        if found.len() != values.len() {
            return Err(format!("{} numbers came back instead of {}", found.len(), values.len()));
        }
        let worst = found.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        self.values = Some(values);
        Ok(worst)
    }
}

fn widen(data: Vec<f32>) -> Vec<f64> {
    data.into_iter().map(f64::from).collect()
}

fn one_run(graph: &Graph, batch: usize, inputs: Vec<Vec<f32>>) -> Result<Vec<f64>, String> {
    let inputs: Vec<Vec<f64>> = inputs.into_iter().map(widen).collect();
    let mut states = reference::initial_states_f64(graph, 0);
    let outputs = reference::run(graph, batch, &inputs, &mut states).map_err(|e| e.to_string())?;
    outputs.into_iter().next().ok_or_else(|| "the model has no output".into())
}

fn losses(model: &Model, batch: usize) -> Result<Vec<f64>, String> {
    let graph = training(&model.graph)?;
    let input = widen(rows(0, batch * model.steps, model.features));
    let inputs = [input, widen(targets(batch)), vec![f64::from(LEARNING_RATE)]];
    let mut states = reference::initial_states_f64(&graph, 0);
    let step = |_| {
        let outputs = reference::run(&graph, batch, &inputs, &mut states).map_err(|e| e.to_string())?;
        outputs
            .first()
            .and_then(|loss| loss.first())
            .copied()
            .ok_or_else(|| "the step has no loss".to_string())
    };
    (0..CHECKED_STEPS).map(step).collect()
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
    let mut appliance = Appliance::start_shipped(&settings.root)?;
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
        thread::sleep(PAUSE);
    }
    outcome.notes.append(&mut appliance.notes);
    appliance.stop()
}

/// Removes the engines' files.
pub fn clean(work: &Path) {
    let _ = fs::remove_dir_all(work);
}
