//! The suite that every executor passes: rows of graphs and inputs, run and compared with [`mod@reference`].
//!
//! A row covers one op in one form, at awkward shapes and values, or a whole model or training step. An
//! executor's test calls [`check`] and asserts that nothing failed; an op that it can't run is an
//! [`Verdict::Unsupported`] outcome, which the test lists by name with its reason.

use std::fmt;

use crate::executor::{Executor, Plan, PrepareError};
use crate::graph::{Graph, Initial};
use crate::reference;
use crate::tensor::Tensor;

mod compare;
mod contraction;
mod elementwise;
mod fill;
mod fused;
mod models;
mod movement;
mod sequence;
mod sliding;

#[cfg(test)]
mod tests;

pub use compare::Tolerance;
pub use fill::Fill;
pub use sliding::check_sliding;

/// One graph, how to fill its inputs, and how near the outputs and states must come.
pub struct Row {
    pub name: String,
    pub graph: Graph,
    /// The plan is prepared for all of these and run at each, from a fresh plan.
    pub batches: Vec<usize>,
    /// Runs in a row, each on the states that the last one left.
    pub runs: usize,
    /// One for each of the graph's inputs.
    pub fills: Vec<Fill>,
    pub tolerance: Tolerance,
}

impl Row {
    /// The inputs of one run, in the order of [`Graph::inputs`].
    pub fn inputs(&self, batch: usize, run: usize) -> Vec<Vec<f32>> {
        let shapes = self.graph.inputs().map(|(_, _, shape)| shape.elements(batch).unwrap_or(0));
        shapes.zip(&self.fills).enumerate().map(|(i, (count, fill))| fill.values(count, i, run)).collect()
    }
}

/// What came of one row at one batch size.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub row: String,
    pub batch: usize,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// `worst` is the largest error as a part of the allowed one: 0 for exact, 1 for just within.
    Passed {
        worst: f64,
    },
    Failed {
        detail: String,
    },
    /// The executor refused to prepare it.
    Unsupported {
        reason: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at batch {}: ", self.row, self.batch)?;
        match &self.verdict {
            Verdict::Passed { worst } => write!(f, "passed with {worst:.3} of the allowed error"),
            Verdict::Failed { detail } => write!(f, "failed: {detail}"),
            Verdict::Unsupported { reason } => write!(f, "unsupported: {reason}"),
        }
    }
}

/// Every row of the suite.
pub fn rows() -> Vec<Row> {
    let parts = [
        elementwise::rows(),
        movement::rows(),
        contraction::rows(),
        fused::rows(),
        sequence::rows(),
        models::rows(),
    ];
    parts.into_iter().flatten().collect()
}

/// Runs every row and every sliding row.
pub fn check(executor: &dyn Executor) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = rows().iter().flat_map(|row| check_row(executor, row)).collect();
    outcomes.extend(check_sliding(executor));
    outcomes
}

/// Runs one row at each of its batch sizes.
pub fn check_row(executor: &dyn Executor, row: &Row) -> Vec<Outcome> {
    let outcome = |&batch: &usize| {
        let verdict = match check_batch(executor, row, batch) {
            Ok(worst) => Verdict::Passed { worst },
            Err(Problem::Prepare(PrepareError::Unsupported { op, reason })) => {
                Verdict::Unsupported { reason: format!("{op}: {reason}") }
            }
            Err(Problem::Prepare(error)) => Verdict::Failed { detail: error.to_string() },
            Err(Problem::Wrong(detail)) => Verdict::Failed { detail },
        };
        Outcome { row: row.name.clone(), batch, verdict }
    };
    row.batches.iter().map(outcome).collect()
}

enum Problem {
    Prepare(PrepareError),
    Wrong(String),
}

impl From<String> for Problem {
    fn from(detail: String) -> Self {
        Problem::Wrong(detail)
    }
}

/// Two plans run side by side and must agree bit by bit; the first is compared with the reference.
fn check_batch(executor: &dyn Executor, row: &Row, batch: usize) -> Result<f64, Problem> {
    let mut plan = executor.prepare(&row.graph, &row.batches).map_err(Problem::Prepare)?;
    let mut twin = executor.prepare(&row.graph, &row.batches).map_err(Problem::Prepare)?;
    check_initial(row, plan.as_ref())?;
    let given = reference::initial_states(&row.graph, 7);
    for plan in [&mut plan, &mut twin] {
        plan.load(&given).map_err(|e| format!("load: {e}"))?;
        if plan.save() != given {
            return Err("save doesn't give back what load took".to_string().into());
        }
    }
    let mut states = reference::initial_states_f64(&row.graph, 7);
    let mut worst = 0.0f64;
    for run in 0..row.runs {
        let inputs = row.inputs(batch, run);
        let magnitudes = magnitudes(row, batch, &inputs, &states)?;
        let outputs = run_plan(row, plan.as_mut(), batch, &inputs)?;
        if !same_bits(&outputs, &run_plan(row, twin.as_mut(), batch, &inputs)?) {
            return Err(format!("run {run}: two plans with the same states and inputs differ").into());
        }
        let expected = reference::run(&row.graph, batch, &widen(&inputs), &mut states)
            .map_err(|e| format!("the reference refused the row: {e}"))?;
        for (i, (name, _)) in row.graph.outputs.iter().enumerate() {
            let error = row.tolerance.compare(&outputs[i], &expected[i], &magnitudes[i]);
            worst = worst.max(error.map_err(|e| format!("run {run}, output {name:?}: {e}"))?);
        }
        for ((name, saved), (_, expected)) in plan.save().iter().zip(&states) {
            let error = row.tolerance.compare(saved.data(), expected, expected);
            worst = worst.max(error.map_err(|e| format!("run {run}, state {name:?}: {e}"))?);
        }
    }
    Ok(worst)
}

/// Names, order and shapes of a fresh plan's states, and the values of those that depend on no seed.
fn check_initial(row: &Row, plan: &dyn Plan) -> Result<(), String> {
    let expected = reference::initial_states(&row.graph, 0);
    let saved = plan.save();
    let form = |states: &[(String, Tensor)]| -> Vec<(String, Vec<usize>)> {
        states.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
    };
    if form(&saved) != form(&expected) {
        return Err(format!("save gives {:?}, not {:?}", form(&saved), form(&expected)));
    }
    for (state, (saved, expected)) in row.graph.states.iter().zip(saved.iter().zip(&expected)) {
        let seeded = matches!(
            state.initial,
            Initial::Glorot | Initial::He | Initial::Normal { .. } | Initial::UniformRoot { .. }
        );
        if !seeded && saved != expected {
            return Err(format!("state {:?} doesn't start as the graph says", state.name));
        }
    }
    Ok(())
}

/// The outputs for the absolute values of the inputs: for a sum of products, what its terms add up to.
fn magnitudes(
    row: &Row,
    batch: usize,
    inputs: &[Vec<f32>],
    states: &[(String, Vec<f64>)],
) -> Result<Vec<Vec<f64>>, String> {
    let absolute = |data: &Vec<f64>| data.iter().map(|x| x.abs()).collect();
    let inputs: Vec<Vec<f64>> = widen(inputs).iter().map(absolute).collect();
    let mut states: Vec<_> = states.iter().map(|(name, data)| (name.clone(), absolute(data))).collect();
    reference::run(&row.graph, batch, &inputs, &mut states)
        .map_err(|e| format!("the reference refused the row: {e}"))
}

fn run_plan(
    row: &Row,
    plan: &mut dyn Plan,
    batch: usize,
    inputs: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, String> {
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    // What was in the outputs before must not matter.
    let mut outputs = vec![vec![f32::NAN; 3]; row.graph.outputs.len()];
    plan.run(batch, &slices, &mut outputs).map_err(|e| format!("run: {e}"))?;
    Ok(outputs)
}

fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits = |all: &[Vec<f32>]| -> Vec<Vec<u32>> {
        all.iter().map(|data| data.iter().map(|x| x.to_bits()).collect()).collect()
    };
    bits(a) == bits(b)
}

fn widen(inputs: &[Vec<f32>]) -> Vec<Vec<f64>> {
    inputs.iter().map(|data| data.iter().map(|&x| f64::from(x)).collect()).collect()
}
