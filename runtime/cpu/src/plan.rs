//! A prepared graph: one tract plan for each batch size over one set of states.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use graph::reference::initial_states;
use graph::{Graph, Plan, PrepareError, RunError};
use tract_onnx::prelude::{IntoRunnable, TValue, TVec, Tensor as TractTensor, TractResult};
use tract_onnx::tract_core::internal::{IntoArcTensor, TypedSimplePlan, TypedSimpleState};

use crate::isa::Path;
use crate::lower::Context;
use crate::ops::fused::plain;
use crate::pool::Pool;
use crate::precision::Precision;

/// States that no seed was given for start from this one.
const SEED: u64 = 0;

pub(crate) struct CpuPlan {
    form: (Path, Precision),
    pool: Arc<Pool>,
    graph: Graph,
    /// In the order of `Graph::states`.
    states: Vec<Arc<TractTensor>>,
    /// For each update, which state it replaces.
    updates: Vec<usize>,
    /// By batch size.
    prepared: BTreeMap<usize, Prepared>,
}

/// The tract plan of one batch size, and its inputs' tensors.
struct Prepared {
    state: TypedSimpleState,
    inputs: Vec<Arc<TractTensor>>,
}

impl CpuPlan {
    /// The graph is verified at the largest of the batch sizes, which are above 0.
    pub(crate) fn new(
        form: (Path, Precision),
        pool: &Arc<Pool>,
        graph: &Graph,
        batches: &[usize],
    ) -> Result<Self, PrepareError> {
        let states = initial_states(graph, SEED)
            .iter()
            .map(|(_, tensor)| to_tract(tensor))
            .collect::<TractResult<Vec<_>>>()
            .map_err(|e| PrepareError::Device(chain(&e)))?;
        let index = |name: &str| graph.states.iter().position(|state| state.name == name);
        let updates = graph.updates.iter().filter_map(|update| index(&update.state)).collect();
        let prepared = prepare(form, pool, graph, &states, batches).map_err(PrepareError::Device)?;
        Ok(CpuPlan { form, pool: pool.clone(), graph: graph.clone(), states, updates, prepared })
    }

    fn check_arguments(&self, batch: usize, inputs: &[&[f32]], outputs: usize) -> Result<(), RunError> {
        let expected = self.graph.inputs().count();
        if inputs.len() != expected {
            return Err(RunError::Argument(format!(
                "the graph takes {expected} inputs, not {}",
                inputs.len()
            )));
        }
        if outputs != self.graph.outputs.len() {
            let expected = self.graph.outputs.len();
            return Err(RunError::Argument(format!("the graph has {expected} outputs, not {outputs}")));
        }
        for ((name, _, shape), input) in self.graph.inputs().zip(inputs) {
            let expected = shape.elements(batch).unwrap_or(usize::MAX);
            if input.len() != expected {
                let given = input.len();
                let error =
                    format!("input {name:?} {shape} takes {expected} numbers at batch {batch}, not {given}");
                return Err(RunError::Argument(error));
            }
        }
        Ok(())
    }
}

impl Plan for CpuPlan {
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        if !self.prepared.contains_key(&batch) {
            return Err(RunError::Batch { batch, prepared: self.prepared.keys().copied().collect() });
        }
        self.check_arguments(batch, inputs, outputs.len())?;
        let states: &[_] = if is_fixed(&self.graph) { &[] } else { &self.states };
        let Some(prepared) = self.prepared.get_mut(&batch) else {
            return Err(RunError::Batch { batch, prepared: Vec::new() });
        };
        let results = prepared.run(inputs, states).map_err(RunError::Device)?;
        for (output, result) in outputs.iter_mut().zip(&results) {
            output.clear();
            output.extend_from_slice(plain(result).map_err(|e| RunError::Device(chain(&e)))?);
        }
        for (&state, value) in self.updates.iter().zip(results.into_iter().skip(outputs.len())) {
            self.states[state] = value.into_arc_tensor();
        }
        Ok(())
    }

    fn load(&mut self, states: &[(String, graph::Tensor)]) -> Result<(), RunError> {
        let mut replaced = self.states.clone();
        for (name, tensor) in states {
            let index = self.graph.states.iter().position(|state| state.name == *name);
            let Some(index) = index else {
                return Err(RunError::State(format!("the graph has no state {name:?}")));
            };
            let expected = replaced[index].shape();
            if expected != tensor.dims() {
                let given = tensor.dims();
                return Err(RunError::State(format!("state {name:?} has shape {expected:?}, not {given:?}")));
            }
            replaced[index] = to_tract(tensor).map_err(|e| RunError::Device(chain(&e)))?;
        }
        if is_fixed(&self.graph) && !states.is_empty() {
            let batches: Vec<usize> = self.prepared.keys().copied().collect();
            self.prepared =
                prepare(self.form, &self.pool, &self.graph, &replaced, &batches).map_err(RunError::Device)?;
        }
        self.states = replaced;
        Ok(())
    }

    fn save(&self) -> Vec<(String, graph::Tensor)> {
        let tensor = |value: &TractTensor| {
            let data = plain(value).map(<[f32]>::to_vec).unwrap_or_default();
            graph::Tensor::new(value.shape().to_vec(), data)
                .unwrap_or_else(|_| graph::Tensor::zeros(value.shape()))
        };
        self.graph.states.iter().zip(&self.states).map(|(s, value)| (s.name.clone(), tensor(value))).collect()
    }
}

impl Prepared {
    fn new(state: TypedSimpleState, graph: &Graph, batch: usize) -> TractResult<Self> {
        let inputs = graph
            .inputs()
            .map(|(_, _, shape)| {
                let dims = shape.at(batch).unwrap_or_default();
                Ok(Arc::new(TractTensor::zero::<f32>(&dims)?))
            })
            .collect::<TractResult<_>>()?;
        Ok(Prepared { state, inputs })
    }

    /// The outputs, then the updates' values. An error leaves the plan as it was.
    fn run(&mut self, inputs: &[&[f32]], states: &[Arc<TractTensor>]) -> Result<TVec<TValue>, String> {
        let mut values: TVec<TValue> = TVec::new();
        for (tensor, input) in self.inputs.iter_mut().zip(inputs) {
            fill(tensor, input).map_err(|e| chain(&e))?;
            values.push(TValue::from_const(tensor.clone()));
        }
        values.extend(states.iter().cloned().map(TValue::from_const));
        guard(|| self.state.run(values)).inspect_err(|_| {
            // Drops what the broken run left; it can't fail.
            let _ = self.state.reset_turn();
        })
    }
}

/// Copies into the tensor, or into a new one where the last run's result still holds it.
pub(crate) fn fill(tensor: &mut Arc<TractTensor>, data: &[f32]) -> TractResult<()> {
    match Arc::get_mut(tensor) {
        Some(tensor) => tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(data),
        None => *tensor = Arc::new(TractTensor::from_shape(tensor.shape(), data)?),
    }
    Ok(())
}

/// Without updates the states are built in, so that weights are packed once.
fn is_fixed(graph: &Graph) -> bool {
    graph.updates.is_empty()
}

fn prepare(
    form: (Path, Precision),
    pool: &Arc<Pool>,
    graph: &Graph,
    states: &[Arc<TractTensor>],
    batches: &[usize],
) -> Result<BTreeMap<usize, Prepared>, String> {
    guard(|| {
        let mut context = Context::new(form, pool, graph, states, is_fixed(graph))?;
        let mut prepared = BTreeMap::new();
        for &batch in batches {
            let plan: Arc<TypedSimplePlan> = context.lower(batch)?.into_runnable()?;
            prepared.insert(batch, Prepared::new(plan.spawn()?, graph, batch)?);
        }
        Ok(prepared)
    })
}

/// tract's errors as text, and its panics too.
pub(crate) fn guard<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| chain(&e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
            Err(format!("a panic: {text}"))
        }
    }
}

fn to_tract(tensor: &graph::Tensor) -> TractResult<Arc<TractTensor>> {
    Ok(Arc::new(TractTensor::from_shape(tensor.dims(), tensor.data())?))
}

/// The error and its causes.
pub(crate) fn chain(error: &tract_onnx::prelude::TractError) -> String {
    format!("{error:#}")
}
