//! `alphaplus models compare`: two versions side by side, key by key of their manifests, and how fast each is here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use registry::ModelFolder;
use serde_json::{Map, Value, json};

use crate::cli::Compare;
use crate::load::Parts;
use crate::precision;

/// How long each of the two is measured.
const LATENCY_TIME: Duration = Duration::from_secs(1);

/// Long lists, which only their digests or figures tell apart.
const LEFT_OUT: [&str; 4] = ["features.names", "normaliser.mean", "normaliser.scale", "files"];

pub fn run(parts: &Parts, args: &Compare) -> Result<(), String> {
    let folders = [parts.model(&args.first)?, parts.model(&args.second)?];
    let mut rows = rows(&folders)?;
    if args.latency {
        rows.extend(latency(parts, &folders)?);
    }
    let names = folders.each_ref().map(|f| format!("{}/{}", f.manifest.name, f.manifest.version));
    if args.json {
        let keys: Map<String, Value> = rows
            .into_iter()
            .map(|(key, pair)| (key, json!({ "first": pair[0], "second": pair[1] })))
            .collect();
        println!("{}", json!({ "first": names[0], "second": names[1], "keys": keys }));
        return Ok(());
    }
    println!("{:<38} {:<34} {}", "", names[0], names[1]);
    let mut same = 0;
    for (key, [first, second]) in &rows {
        if first == second && !args.all && !key.starts_with("here.") {
            same += 1;
            continue;
        }
        let mark = if first == second { ' ' } else { '≠' };
        println!("{mark} {key:<36} {:<34} {}", shown(first.as_ref()), shown(second.as_ref()));
    }
    if same > 0 {
        println!("{same} more are the same in both: --all shows them");
    }
    Ok(())
}

type Rows = BTreeMap<String, [Option<Value>; 2]>;

/// Every key of either manifest.
fn rows(folders: &[ModelFolder; 2]) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for (side, folder) in folders.iter().enumerate() {
        let manifest = serde_json::to_value(&folder.manifest).map_err(|e| e.to_string())?;
        flatten("", manifest, &mut |key, value| {
            rows.entry(key).or_default()[side] = Some(value);
        });
        rows.entry("digest".into()).or_default()[side] = Some(folder.digest.clone().into());
    }
    Ok(rows)
}

/// Tables become dotted keys; an interval stays together, a curve is told by its last value, and the JSON texts of
/// plugins' options are read.
fn flatten(key: &str, value: Value, row: &mut dyn FnMut(String, Value)) {
    if LEFT_OUT.contains(&key) {
        return;
    }
    let below = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
    match value {
        Value::Object(object) if is_interval(&object) => row(key.into(), Value::Object(object)),
        Value::Object(object) => {
            object.into_iter().for_each(|(name, value)| flatten(&below(&name), value, row))
        }
        Value::Array(mut list) if key.ends_with("_curve") => {
            row(below("last"), list.pop().unwrap_or(Value::Null));
        }
        Value::String(text) if key == "architecture.hyper" || key == "features.options" => {
            match serde_json::from_str::<Map<String, Value>>(&text) {
                Ok(object) => {
                    object.into_iter().for_each(|(name, value)| flatten(&below(&name), value, row));
                }
                Err(_) => row(key.into(), Value::String(text)),
            }
        }
        value => row(key.into(), value),
    }
}

fn is_interval(object: &Map<String, Value>) -> bool {
    object.len() == 3 && ["value", "low", "high"].iter().all(|name| object.contains_key(*name))
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => "–".to_string(),
        Some(Value::Object(object)) if is_interval(object) => {
            let [value, low, high] =
                ["value", "low", "high"].map(|name| object[name].as_f64().unwrap_or(f64::NAN));
            format!("{value:.4} [{low:.4}, {high:.4}]")
        }
        Some(Value::Number(number)) => match number.as_f64() {
            Some(x) if !number.is_u64() && !number.is_i64() => format!("{x:.6}"),
            _ => number.to_string(),
        },
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(32) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Whole windows one at a time, the two taking turns, in microseconds.
fn latency(parts: &Parts, folders: &[ModelFolder; 2]) -> Result<Rows, String> {
    let mut runners = Vec::new();
    for folder in folders {
        let input = folder.manifest.input;
        let windows = precision::made_up(input.window as usize * input.features as usize);
        let times = Histogram::<u64>::new(3).map_err(|e| e.to_string())?;
        runners.push((parts.runner(folder, 0)?, windows, times));
    }
    let until = Instant::now() + LATENCY_TIME * 2;
    let mut values = Vec::new();
    while Instant::now() < until {
        for (runner, windows, times) in &mut runners {
            let len = windows.len() / precision::WINDOWS;
            for window in windows.chunks_exact(len) {
                values.clear();
                let started = Instant::now();
                runner.run(window, &mut values).map_err(|e| e.to_string())?;
                times.saturating_record(started.elapsed().as_nanos() as u64);
            }
        }
    }
    let at = |quantile: f64| {
        let us = |i: usize| Some(json!(runners[i].2.value_at_quantile(quantile) as f64 / 1e3));
        [us(0), us(1)]
    };
    Ok(Rows::from([("here.latency_us_p50".into(), at(0.5)), ("here.latency_us_p99".into(), at(0.99))]))
}
