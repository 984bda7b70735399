//! An architecture that misbehaves as its hyper-parameter `mode` says.

use std::hint::black_box;

wit_bindgen::generate!({ path: "../../wit", world: "architecture" });

use alphaplus::plugin::graph::Builder;
use alphaplus::plugin::log;
use exports::alphaplus::plugin::model::{Dimensions, Guest};

const SCHEMA: &str = r#"{"properties": {
    "mode": {"type": "string", "default": "honest", "enum": [
        "honest", "panic", "loop", "memory", "stack", "refuse", "shape-wrong", "node-unknown", "op-unknown",
        "initial-unknown", "constant-short", "dim-wrong", "nodes-many", "parameter-huge", "parameter-twice",
        "output-none", "output-wrong", "output-twice", "output-untrained", "errors-ignored", "log-flood", "names-long",
        "gru-shape", "conv1d-shape", "conv1d-dilation", "conv1d-reach", "attention-heads", "attention-none",
        "attention-huge", "attention-causal", "weights-heads", "weights-places"]},
    "hidden": {"type": "integer", "minimum": 1, "maximum": 512, "default": 8, "description": "units of the hidden layer"}
}}"#;

struct Component;

fn value_of<'a>(options: &'a str, key: &str) -> &'a str {
    let marker = format!("\"{key}\":");
    let Some(start) = options.find(&marker) else { return "" };
    let rest = &options[start + marker.len()..];
    rest[..rest.find([',', '}']).unwrap_or(rest.len())].trim_matches('"')
}

fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("panic");
        let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
        log::panicked(message, file, line);
    }));
}

#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let local = [depth; 64];
    black_box(&local);
    descend(depth + 1) + black_box(local[(depth % 64) as usize])
}

/// Two dense layers over the flattened window.
fn dense(to: &Builder, hidden: u32, size: &Dimensions) -> Result<u32, String> {
    let flat = size.window * size.features;
    let x = to.reshape(to.input(), &[-1, i64::from(flat)])?;
    to.scope("hidden");
    let w = to.parameter("hidden.w", &[flat, hidden], "glorot")?;
    let b = to.parameter("hidden.b", &[hidden], "zeros")?;
    let h = to.matmul(x, w, false, false)?;
    let h = to.binary("add", h, b)?;
    let h = to.unary("relu", h)?;
    to.scope("head");
    let w = to.parameter("head.w", &[hidden, size.outputs], "glorot")?;
    to.matmul(h, w, false, false)
}

fn misbehave(mode: &str, to: &Builder, size: &Dimensions) -> Result<(), String> {
    let x = to.input();
    match mode {
        "panic" => panic!("no such architecture"),
        "loop" => loop {
            black_box(0);
        },
        "memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
                black_box(&hoard);
            }
        }
        "stack" => drop(black_box(descend(0))),
        "refuse" => return Err("hidden must be even".to_string()),
        "shape-wrong" => {
            to.scope("block.0");
            let w = to.parameter("w", &[size.features + 1, 4], "glorot")?;
            to.matmul(x, w, false, false)?;
        }
        "node-unknown" => drop(to.unary("tanh", 4_000_000_000)?),
        "op-unknown" => drop(to.unary("frobnicate", x)?),
        "initial-unknown" => drop(to.parameter("w", &[2], "xavier")?),
        "constant-short" => drop(to.constant(&[2, 2], &[1.0])?),
        "dim-wrong" => drop(to.reshape(x, &[i64::MIN, 0])?),
        "nodes-many" => {
            let mut x = x;
            for _ in 0..10_000_000 {
                x = to.unary("tanh", x)?;
            }
        }
        "parameter-huge" => drop(to.parameter("w", &[u32::MAX, u32::MAX], "zeros")?),
        "parameter-twice" => {
            to.parameter("w", &[2], "zeros")?;
            to.parameter("w", &[2], "zeros")?;
        }
        "output-wrong" => to.output("prediction", x)?,
        "output-twice" => {
            let y = dense(to, 2, size)?;
            to.output("prediction", y)?;
            to.output("prediction", y)?;
        }
        "errors-ignored" => {
            for i in 0..100_000 {
                let _ = to.unary("frobnicate", i);
            }
        }
        "output-untrained" => {
            let y = dense(to, 2, size)?;
            to.output("prediction", y)?;
            let own = to.parameter("own", &[size.features, 1], "glorot")?;
            to.output("also", to.matmul(x, own, false, false)?)?;
        }
        "gru-shape" => {
            let w = to.parameter("w", &[size.features, 12], "glorot")?;
            let u = to.parameter("u", &[3, 12], "glorot")?;
            let b = to.parameter("b", &[12], "zeros")?;
            to.gru(x, w, u, b, b, true)?;
        }
        "conv1d-shape" | "conv1d-dilation" | "conv1d-reach" => {
            let features = if mode == "conv1d-shape" { size.features + 1 } else { size.features };
            let w = to.parameter("w", &[3, features, 4], "he")?;
            let b = to.parameter("b", &[4], "zeros")?;
            let dilation = match mode {
                "conv1d-dilation" => 0,
                "conv1d-reach" => u32::MAX,
                _ => 1,
            };
            to.conv1d(x, w, b, dilation)?;
        }
        "attention-heads" => drop(to.attention(x, x, x, 2, false)?),
        "attention-none" => drop(to.attention(x, x, x, 0, false)?),
        "attention-huge" => drop(to.attention(x, x, x, u32::MAX, true)?),
        "attention-causal" => {
            let first = to.slice(x, 1, 0, 1)?;
            to.attention(first, x, x, 1, true)?;
        }
        "weights-heads" => drop(to.attention_weights(x, x, u32::MAX, false)?),
        "weights-places" => {
            let narrow = to.slice(x, 2, 0, 1)?;
            to.attention_weights(narrow, x, 1, false)?;
        }
        "names-long" => {
            let long = "n".repeat(1 << 20);
            to.scope(&long);
            to.parameter(&long, &[2], "zeros")?;
        }
        "log-flood" => (0..10_000).for_each(|i| log::write(log::Level::Info, &format!("message {i}"))),
        _ => {}
    }
    Ok(())
}

impl Guest for Component {
    fn schema() -> String {
        SCHEMA.to_string()
    }

    fn build(hyper: String, size: Dimensions, to: &Builder) -> Result<(), String> {
        report_panics();
        let mode = value_of(&hyper, "mode");
        let hidden = value_of(&hyper, "hidden").parse().map_err(|e| format!("hidden: {e}"))?;
        if mode != "honest" {
            return misbehave(mode, to, &size);
        }
        let y = dense(to, hidden, &size)?;
        to.output("prediction", y)
    }
}

export!(Component);
