//! The other side of an engine that is written in Rust: reads requests, loads, runs, times.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{ours, pin, tract};

/// A loaded case.
pub trait Task {
    /// One timed iteration; what surrounds it is not timed.
    fn run(&mut self) -> Result<Duration, String>;

    /// What the last iteration gave, and more for the check.
    fn outputs(&mut self) -> Result<Value, String>;
}

/// When a turn ends.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub warm: Duration,
    pub time: Duration,
    pub least: usize,
    pub most: usize,
}

impl Turn {
    pub fn to_json(self) -> Value {
        json!({
            "do": "run", "warm_s": self.warm.as_secs_f64(), "time_s": self.time.as_secs_f64(),
            "least": self.least, "most": self.most,
        })
    }

    fn from_json(request: &Value) -> Option<Turn> {
        let duration = |key: &str| Duration::try_from_secs_f64(request[key].as_f64()?).ok();
        let count = |key: &str| Some(request[key].as_u64()? as usize);
        Some(Turn {
            warm: duration("warm_s")?,
            time: duration("time_s")?,
            least: count("least")?,
            most: count("most")?,
        })
    }
}

/// Serves requests on stdin until it ends.
pub fn serve(engine: &str, threads: usize, cores: &[usize]) -> Result<(), String> {
    let pinned = pin::pin(cores).is_ok();
    let version = match engine {
        "cpu" => ours::version(),
        "tract" => tract::version(),
        other => return Err(format!("there is no engine {other:?}")),
    };
    reply(&json!({"version": version, "pinned": pinned}))?;
    let mut task: Option<Box<dyn Task>> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let answer = serde_json::from_str(&line)
            .map_err(|e| e.to_string())
            .and_then(|request| answer(engine, threads, &request, &mut task));
        reply(&answer.unwrap_or_else(|error| json!({"error": error})))?;
    }
    Ok(())
}

fn reply(value: &Value) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}").and_then(|()| stdout.flush()).map_err(|e| e.to_string())
}

fn answer(
    engine: &str,
    threads: usize,
    request: &Value,
    task: &mut Option<Box<dyn Task>>,
) -> Result<Value, String> {
    match request["do"].as_str() {
        Some("load") => {
            *task =
                Some(if engine == "tract" { tract::load(request)? } else { ours::load(request, threads)? });
            Ok(json!({}))
        }
        Some("run") => {
            let task = task.as_mut().ok_or("nothing is loaded")?;
            let turn = Turn::from_json(request).ok_or("the turn is incomplete")?;
            let ns = run(task.as_mut(), turn)?;
            Ok(json!({"ns": ns, "outputs": task.outputs()?}))
        }
        Some("unload") => {
            *task = None;
            Ok(json!({}))
        }
        _ => Err("not a request".into()),
    }
}

/// The latencies in nanoseconds, sorted.
fn run(task: &mut dyn Task, turn: Turn) -> Result<Vec<u64>, String> {
    let begin = Instant::now();
    loop {
        task.run()?;
        if begin.elapsed() >= turn.warm {
            break;
        }
    }
    let mut ns = Vec::with_capacity(turn.most.min(1 << 20));
    let begin = Instant::now();
    while ns.len() < turn.most && (ns.len() < turn.least || begin.elapsed() < turn.time) {
        ns.push(task.run()?.as_nanos() as u64);
    }
    ns.sort_unstable();
    Ok(ns)
}
