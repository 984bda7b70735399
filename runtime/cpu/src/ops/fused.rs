//! The one tract op that all of ours are: it hands slices to a kernel and takes care of the rest.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::buffers::Buffers;

/// What a node computes, on row-major slices. The lengths are those of the shapes that it was made for.
pub(crate) trait Kernel: Debug + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Writes every element of the outputs, whose contents are unspecified before.
    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]);
}

/// A kernel as a tract op.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    kernel: Arc<dyn Kernel>,
    inputs: Vec<usize>,
    outputs: Vec<Vec<usize>>,
    buffers: Arc<Buffers>,
}

impl Fused {
    /// `inputs` are the lengths, `outputs` the shapes.
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        inputs: Vec<usize>,
        outputs: Vec<Vec<usize>>,
        buffers: &Arc<Buffers>,
    ) -> Self {
        Fused { kernel, inputs, outputs, buffers: buffers.clone() }
    }
}

/// Two nodes are the same when they share the kernel.
impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel)
    }
}

impl Eq for Fused {}

impl Op for Fused {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut slices: TVec<&[f32]> = tvec![];
        for (input, &len) in inputs.iter().zip(&self.inputs) {
            let slice = plain(input)?;
            ensure!(slice.len() == len, "{} takes {len} numbers, not {}", self.name(), slice.len());
            slices.push(slice);
        }
        ensure!(slices.len() == self.inputs.len(), "{} takes {} inputs", self.name(), self.inputs.len());
        let mut outputs: TVec<Arc<Tensor>> =
            self.outputs.iter().map(|shape| self.buffers.take(shape)).collect::<TractResult<_>>()?;
        {
            let mut views = tvec![];
            for output in &mut outputs {
                let tensor = Arc::get_mut(output).context("a fresh buffer is held twice")?;
                views.push(tensor.try_as_plain_ram_mut()?);
            }
            let mut targets: TVec<&mut [f32]> =
                views.iter_mut().map(|view| view.as_slice_mut::<f32>()).collect::<TractResult<_>>()?;
            self.kernel.run(&slices, &mut targets);
        }
        outputs.iter().for_each(|output| self.buffers.keep(output));
        Ok(outputs.into_iter().map(TValue::from_const).collect())
    }
}

impl TypedOp for Fused {
    as_op!();

    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.outputs.iter().map(|shape| f32::fact(shape.as_slice())).collect())
    }
}

/// The numbers of an f32 tensor.
pub(crate) fn plain(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}
