//! The group `seed_limits`: generous limits that every build must keep on every machine.

use std::path::Path;

use serde_json::{Value, json};

use crate::appliance::{Appliance, PUBLISHED, Server, number_of, publish};
use crate::report::Row;
use crate::run::Outcome;

pub const GROUP: &str = "seed_limits";
/// What the limits are read from.
pub const CASES: [&str; 5] = ["lstm_b1", "transformer_b1", "cnn_b1", "lstm_b256", "train_lstm"];

pub struct Limit {
    pub what: String,
    pub found: String,
    pub held: bool,
}

impl Limit {
    pub fn to_json(&self) -> Value {
        json!({"what": self.what, "found": self.found, "held": self.held})
    }
}

/// The worst p99 of our rows, in milliseconds.
fn p99_ms(rows: &[Row], case: &str) -> Option<f64> {
    let ours = rows.iter().filter(|r| r.case == case && r.is_ours());
    ours.filter_map(|r| r.figures.p99_us).reduce(f64::max).map(|us| us / 1e3)
}

fn per_second(rows: &[Row], case: &str) -> Option<f64> {
    let ours = rows.iter().filter(|r| r.case == case && r.is_ours());
    ours.filter_map(|r| r.figures.per_second).reduce(f64::min)
}

fn below(what: &str, unit: &str, limit: f64, found: Option<f64>) -> Limit {
    Limit {
        what: format!("{what}: below {limit} {unit}"),
        found: found.map_or_else(|| "not measured".into(), |x| format!("{x:.3} {unit}")),
        held: found.is_some_and(|x| x < limit),
    }
}

fn at_least(what: &str, limit: f64, found: Option<f64>) -> Limit {
    Limit {
        what: format!("{what}: at least {limit} a second"),
        found: found.map_or_else(|| "not measured".into(), |x| format!("{x:.0} a second")),
        held: found.is_some_and(|x| x >= limit),
    }
}

pub fn check(root: &Path, outcome: &Outcome) -> Vec<Limit> {
    let rows = &outcome.rows;
    let gib = outcome.peak_bytes.map(|bytes| bytes as f64 / f64::from(1u32 << 30));
    vec![
        below("LSTM prediction, p99", "ms", 50.0, p99_ms(rows, "lstm_b1")),
        below("Transformer prediction, p99", "ms", 100.0, p99_ms(rows, "transformer_b1")),
        below("CNN prediction, p99", "ms", 30.0, p99_ms(rows, "cnn_b1")),
        at_least("live LSTM predictions", 100.0, per_second(rows, "lstm_b1")),
        at_least("LSTM predictions in batches", 1000.0, per_second(rows, "lstm_b256")),
        below("peak memory of a process that trains", "GiB", 4.0, gib),
        big_model(root),
    ]
}

fn big_model(root: &Path) -> Limit {
    let outcome = publish_and_predict(root);
    Limit {
        what: "a model of 10 to 50 MB is published, loaded and predicts".into(),
        held: outcome.is_ok(),
        found: outcome.unwrap_or_else(|e| e),
    }
}

/// An LSTM of 4 × 512 through a registry into a started appliance.
fn publish_and_predict(root: &Path) -> Result<String, String> {
    let (folder, bytes) = publish(root, 4, 512, None)?;
    let megabytes = bytes as f64 / 1e6;
    if !(10.0..=50.0).contains(&megabytes) {
        return Err(format!("the model has {megabytes:.1} MB"));
    }
    let mut appliance = Appliance::start(root, folder.path(), PUBLISHED, Server::Plain)?;
    let poll = appliance.poll();
    let value = appliance.tcp()?.exchange(&poll).map(|reply| number_of(reply.body, "value"))?;
    appliance.stop()?;
    match value {
        Some(value) if value.is_finite() => Ok(format!("{megabytes:.1} MB, predicted {value}")),
        _ => Err("it gave no number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_break_when_passed_or_not_measured() {
        assert!(below("x", "ms", 50.0, Some(49.9)).held);
        assert!(!below("x", "ms", 50.0, Some(50.0)).held);
        assert!(!below("x", "ms", 50.0, None).held);
        assert!(at_least("x", 100.0, Some(100.0)).held);
        assert!(!at_least("x", 100.0, Some(99.0)).held);
        assert!(!at_least("x", 100.0, None).held);
    }
}
