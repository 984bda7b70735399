//! ONNX files that our graph can't hold, read and run by tract: one plan for each batch size that the file takes.
//!
//! tract picks its kernels by the sizes, so a batch may give other bits than its windows alone; who serves such a
//! plan finds out and leaves those sizes aside.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use graph::{Foreign, ForeignPlan, Plan, PrepareError, RunError};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TypedSimpleState, bail, format_err};

use crate::plan::{chain, fill, guard};

/// Numbers for one window, at most.
const OUTPUTS_MAX: usize = 4_096;

struct TractPlan {
    /// Numbers of one window at the input.
    input_len: usize,
    outputs: usize,
    /// By batch size.
    prepared: BTreeMap<usize, Prepared>,
}

struct Prepared {
    state: TypedSimpleState,
    input: Arc<Tensor>,
}

/// Batch 1 must go; of the others, those that the file takes.
pub(crate) fn prepare(model: &Foreign, batches: &[usize]) -> Result<ForeignPlan, PrepareError> {
    let refused = |reason: String| PrepareError::Unsupported { op: "file".into(), reason };
    let read = guard(|| tract_onnx::onnx().model_for_read(&mut Cursor::new(model.bytes))).map_err(refused)?;
    let (one, outputs) = at(&read, model, 1).map_err(refused)?;
    let mut prepared = BTreeMap::from([(1, one)]);
    for &batch in batches.iter().filter(|&&batch| batch > 1) {
        if let Ok((plan, n)) = at(&read, model, batch)
            && n == outputs
        {
            prepared.insert(batch, plan);
        }
    }
    let batches = prepared.keys().copied().collect();
    let input_len = model.dims.iter().product();
    Ok(ForeignPlan { plan: Box::new(TractPlan { input_len, outputs, prepared }), outputs, batches })
}

/// The plan of one batch size, and how many numbers it gives for a window.
fn at(read: &InferenceModel, model: &Foreign, batch: usize) -> Result<(Prepared, usize), String> {
    let dims: TVec<usize> = std::iter::once(batch).chain(model.dims.iter().copied()).collect();
    let built = guard(|| {
        let mut read = read.clone();
        let inputs = read.input_outlets()?.to_vec();
        let place = inputs.iter().position(|outlet| read.node(outlet.node).name == model.input);
        let place = place.ok_or_else(|| format_err!("it has no input {:?}", model.input))?;
        if inputs.len() != 1 {
            bail!("it has {} inputs instead of one", inputs.len());
        }
        read.set_input_fact(place, f32::fact(dims.as_slice()).into())?;
        let outlet = *read
            .output_outlets()?
            .get(model.output)
            .ok_or_else(|| format_err!("it has no output {}", model.output))?;
        read.select_output_outlets(&[outlet])?;
        let optimised = read.into_optimized()?;
        let fact = optimised.output_fact(0)?.clone();
        let state = optimised.into_runnable()?.spawn()?;
        Ok((state, fact))
    });
    let (state, fact) = built.map_err(|reason| explained(&reason))?;
    if fact.datum_type != f32::datum_type() {
        return Err(format!("its output holds {:?} instead of float32", fact.datum_type));
    }
    let shape = fact.shape.as_concrete().ok_or_else(|| "its output's shape isn't fixed".to_string())?;
    let outputs = match *shape {
        [rows] if rows == batch => 1,
        [rows, n] if rows == batch && (1..=OUTPUTS_MAX).contains(&n) => n,
        _ => {
            return Err(format!(
                "its output is {shape:?} for {batch} windows instead of [{batch}], [{batch}, 1] or [{batch}, outputs]"
            ));
        }
    };
    let input = Tensor::zero::<f32>(&dims).map_err(|e| chain(&e))?;
    Ok((Prepared { state, input: Arc::new(input) }, outputs))
}

/// tract's "Unimplemented(Op)" in words.
fn explained(reason: &str) -> String {
    let name =
        reason.split_once("Unimplemented(").and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name);
    match name {
        Some(name) => format!("operator {} isn't known to tract either ({reason})", name.trim_matches('"')),
        None => reason.to_string(),
    }
}

impl Plan for TractPlan {
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        let known: Vec<usize> = self.prepared.keys().copied().collect();
        let Some(prepared) = self.prepared.get_mut(&batch) else {
            return Err(RunError::Batch { batch, prepared: known });
        };
        let ([input], [output]) = (inputs, outputs) else {
            return Err(RunError::Argument("the file takes one input and gives one output".into()));
        };
        let expected = batch * self.input_len;
        if input.len() != expected {
            let given = input.len();
            return Err(RunError::Argument(format!(
                "the input takes {expected} numbers at batch {batch}, not {given}"
            )));
        }
        fill(&mut prepared.input, input).map_err(|e| RunError::Device(chain(&e)))?;
        let values = tvec![TValue::from_const(prepared.input.clone())];
        let results = guard(|| prepared.state.run(values)).inspect_err(|_| {
            // Drops what the broken run left; it can't fail.
            let _ = prepared.state.reset_turn();
        });
        let results = results.map_err(RunError::Device)?;
        let plain = crate::ops::fused::plain(&results[0]).map_err(|e| RunError::Device(chain(&e)))?;
        if plain.len() != batch * self.outputs {
            return Err(RunError::Device(format!("it gave {} numbers", plain.len())));
        }
        output.clear();
        output.extend_from_slice(plain);
        Ok(())
    }

    fn load(&mut self, states: &[(String, graph::Tensor)]) -> Result<(), RunError> {
        match states.first() {
            None => Ok(()),
            Some((name, _)) => Err(RunError::State(format!("a file has no state {name:?}"))),
        }
    }

    fn save(&self) -> Vec<(String, graph::Tensor)> {
        Vec::new()
    }
}
