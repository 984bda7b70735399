//! The latency of a candidate before it is trained: with random weights, on this machine.

use std::time::Duration;

use cpu::Cpu;
use graph::reference::initial_states;
use graph::{Graph, Initial};

use super::objective::{Constraint, Measured};
use crate::commands::bench::{Whole, p99_us};

/// The least of so many rounds: what else the machine does only ever adds.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(150);

/// The 99th percentile in microseconds.
pub fn latency_us(
    model: &Graph,
    window: usize,
    features: usize,
    cpu: &Cpu,
    constraint: &Constraint,
) -> Result<f64, String> {
    let mut graph = graph::rewrite::inference(model).map_err(|e| e.to_string())?;
    let weights = initial_states(&graph, 1);
    for (name, tensor) in weights {
        if let Some(state) = graph.states.iter_mut().find(|state| state.name == name) {
            state.initial = Initial::Given(tensor);
        }
    }
    let whole = match constraint.of {
        Measured::Push => Whole::Push,
        Measured::Window => Whole::Window,
    };
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        least = least.min(p99_us(&graph, window, features, cpu, whole, ROUND)?);
        if least <= constraint.p99_us {
            break;
        }
    }
    Ok(least)
}
