//! The sliding plans: pushed row by row, each prediction must equal a run over the whole window.

use super::models::{
    FEATURES, WINDOW, causal_net, gru_layer, lstm_layer, model, perceptron, stacked_gru, stacked_lstm,
    transformer,
};
use super::{Fill, Outcome, Tolerance, Verdict};
use crate::executor::{Executor, PrepareError, SlidingPlan};
use crate::graph::Graph;
use crate::op::Keep;
use crate::reference;
use crate::rewrite;

const STREAMS: usize = 3;
const ROUNDS: usize = 3 * WINDOW + 1;
const RESET_ROUND: usize = 2 * WINDOW;

/// Runs every sliding row: an LSTM, a GRU, a stack of two of each, one over the other, convolutions, nets
/// that can't slide.
pub fn check_sliding(executor: &dyn Executor) -> Vec<Outcome> {
    let lstm = model(|b, x| lstm_layer(b, "lstm", x, FEATURES, 4, Keep::Last));
    let gru = model(|b, x| gru_layer(b, "gru", x, FEATURES, 4, Keep::Last));
    let lstm_over_gru = model(|b, x| {
        let h = gru_layer(b, "gru", x, FEATURES, 6, Keep::Sequence)?;
        lstm_layer(b, "lstm", h, 6, 4, Keep::Last)
    });
    let rows = [
        ("sliding LSTM", lstm),
        ("sliding two-layer LSTM", model(|b, x| stacked_lstm(b, x, 2))),
        ("sliding GRU", gru),
        ("sliding two-layer GRU", model(|b, x| stacked_gru(b, x, 2))),
        ("sliding LSTM over GRU", lstm_over_gru),
        ("sliding convolutions", model(causal_net)),
        ("sliding perceptron", model(perceptron)),
        ("sliding transformer", model(transformer)),
    ];
    let outcome = |(name, model): (&str, Graph)| {
        let verdict = match rewrite::inference(&model) {
            Ok(graph) => check_graph(executor, &graph),
            Err(error) => Verdict::Failed { detail: error.to_string() },
        };
        Outcome { row: name.into(), batch: 1, verdict }
    };
    rows.into_iter().map(outcome).collect()
}

fn check_graph(executor: &dyn Executor, graph: &Graph) -> Verdict {
    // Weights as data, so that every executor has the same.
    let weights = reference::initial_states(graph, 7);
    let mut graph = graph.clone();
    for (state, (_, tensor)) in graph.states.iter_mut().zip(weights) {
        state.initial = crate::Initial::Given(tensor);
    }
    match executor.prepare_sliding(&graph, WINDOW, STREAMS) {
        Ok(mut plan) => match check_plan(plan.as_mut(), &graph) {
            Ok(worst) => Verdict::Passed { worst },
            Err(detail) => Verdict::Failed { detail },
        },
        Err(PrepareError::Unsupported { op, reason }) => {
            Verdict::Unsupported { reason: format!("{op}: {reason}") }
        }
        Err(error) => Verdict::Failed { detail: error.to_string() },
    }
}

/// Streams advance in turn with rows of their own; one is reset midway and one settles only sometimes.
fn check_plan(plan: &mut dyn SlidingPlan, graph: &Graph) -> Result<f64, String> {
    let mut seen: Vec<Vec<f32>> = vec![Vec::new(); STREAMS];
    let mut worst = 0.0f64;
    for round in 0..ROUNDS {
        for (stream, seen) in seen.iter_mut().enumerate() {
            if (round, stream) == (RESET_ROUND, 1) {
                plan.reset(stream);
                seen.clear();
            }
            let row = Fill::Outliers(1.0).values(FEATURES, stream, round);
            seen.extend(&row);
            let mut output = vec![f32::NAN; 9];
            let ready = if (round + stream) % 3 == 1 {
                // Other numbers first, which the row then replaces.
                let other = Fill::Outliers(1.0).values(FEATURES, stream + STREAMS, round);
                plan.push(stream, &other, &mut output).map_err(|e| e.to_string())?;
                plan.replace(stream, &row, &mut output).map_err(|e| e.to_string())?
            } else {
                plan.push(stream, &row, &mut output).map_err(|e| e.to_string())?
            };
            if ready != (seen.len() >= WINDOW * FEATURES) {
                return Err(format!("round {round}, stream {stream}: push said {ready}"));
            }
            if ready {
                let window = &seen[seen.len() - WINDOW * FEATURES..];
                let error = compare(graph, window, &output);
                worst = worst.max(error.map_err(|e| format!("round {round}, stream {stream}: {e}"))?);
            }
            if stream != 2 || round % 2 == 0 {
                plan.settle(stream).map_err(|e| e.to_string())?;
            }
        }
    }
    let mut output = Vec::new();
    plan.settle(0).map_err(|e| e.to_string())?;
    if plan.replace(0, &[0.0; FEATURES], &mut output).is_ok() {
        return Err("a settled row was replaced".into());
    }
    let refused = plan.push(STREAMS, &[0.0; FEATURES], &mut output).is_err()
        && plan.push(0, &[0.0; FEATURES + 1], &mut output).is_err();
    if !refused {
        return Err("a stream that isn't there, or a row of the wrong length, was taken".into());
    }
    Ok(worst)
}

fn compare(graph: &Graph, window: &[f32], output: &[f32]) -> Result<f64, String> {
    let window = window.iter().map(|&x| f64::from(x)).collect();
    let mut states = reference::initial_states_f64(graph, 0);
    let expected = reference::run(graph, 1, &[window], &mut states).map_err(|e| e.to_string())?;
    Tolerance::scaled(256.0).compare(output, &expected[0], &expected[0])
}
