//! The reference as an executor: for tests that need a plan and no speed.

use super::{ReferenceError, initial_states, initial_states_f64, run};
use crate::executor::{Executor, Plan, PrepareError, Recompute, RunError, SlidingPlan};
use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::verify::{Limits, verify};

/// Runs any valid graph in f64 and rounds the outputs to f32. Named "reference".
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreter;

struct InterpreterPlan {
    graph: Graph,
    batches: Vec<usize>,
    states: Vec<(String, Vec<f64>)>,
}

impl Executor for Interpreter {
    fn name(&self) -> &str {
        "reference"
    }

    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError> {
        for &batch in batches {
            verify(graph, &Limits { batch, ..Limits::default() }).map_err(PrepareError::Invalid)?;
        }
        let states = initial_states_f64(graph, 0);
        Ok(Box::new(InterpreterPlan { graph: graph.clone(), batches: batches.to_vec(), states }))
    }

    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        Ok(Box::new(Recompute::new(graph, self.prepare(graph, &[1])?, window, streams)?))
    }
}

impl Plan for InterpreterPlan {
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        if !self.batches.contains(&batch) {
            return Err(RunError::Batch { batch, prepared: self.batches.clone() });
        }
        if outputs.len() != self.graph.outputs.len() {
            let (expected, given) = (self.graph.outputs.len(), outputs.len());
            return Err(RunError::Argument(format!("the graph has {expected} outputs, not {given}")));
        }
        let inputs: Vec<Vec<f64>> =
            inputs.iter().map(|data| data.iter().map(|&x| f64::from(x)).collect()).collect();
        let computed = run(&self.graph, batch, &inputs, &mut self.states).map_err(|e| match e {
            ReferenceError::State { .. } => RunError::State(e.to_string()),
            _ => RunError::Argument(e.to_string()),
        })?;
        for (output, computed) in outputs.iter_mut().zip(computed) {
            *output = computed.into_iter().map(|x| x as f32).collect();
        }
        Ok(())
    }

    fn load(&mut self, states: &[(String, Tensor)]) -> Result<(), RunError> {
        for (name, tensor) in states {
            let dims = self.graph.state(name).and_then(|s| self.graph.node(s.node).shapes[0].to_fixed());
            if dims.as_deref() != Some(tensor.dims()) {
                return Err(RunError::State(format!(
                    "the graph has no state {name:?} of shape {:?}",
                    tensor.dims()
                )));
            }
        }
        for (name, tensor) in states {
            if let Some((_, state)) = self.states.iter_mut().find(|(n, _)| n == name) {
                *state = tensor.data().iter().map(|&x| f64::from(x)).collect();
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<(String, Tensor)> {
        let mut saved = initial_states(&self.graph, 0);
        for ((_, tensor), (_, state)) in saved.iter_mut().zip(&self.states) {
            for (x, &value) in tensor.data_mut().iter_mut().zip(state) {
                *x = value as f32;
            }
        }
        saved
    }
}
