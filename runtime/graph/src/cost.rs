//! What a graph costs to run, counted against its limits.

use crate::op::Op;
use crate::shape::Shape;
use crate::verify::Limits;

/// A running count over a graph's nodes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    limits: Limits,
    nodes: usize,
    elements: usize,
    flops: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Budget { limits, nodes: 0, elements: 0, flops: 0 }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts one node; `Err` says which limit it would pass, and then nothing is counted.
    pub(crate) fn spend(&mut self, op: &Op, inputs: &[&Shape], outputs: &[Shape]) -> Result<(), String> {
        let limits = &self.limits;
        let nodes = self.nodes.saturating_add(1);
        if nodes > limits.nodes_max {
            return Err(format!("the graph has more than {} nodes", limits.nodes_max));
        }
        let mut elements = self.elements;
        for shape in outputs {
            let count = shape.elements(limits.batch).unwrap_or(usize::MAX);
            if count > limits.elements_max {
                return Err(format!(
                    "{shape} has more than {} elements at batch {}",
                    limits.elements_max, limits.batch
                ));
            }
            elements = elements.saturating_add(count);
        }
        if elements > limits.elements_total_max {
            return Err(format!(
                "the values have more than {} elements together at batch {}",
                limits.elements_total_max, limits.batch
            ));
        }
        let flops = self.flops.saturating_add(flops(op, inputs, outputs, limits.batch));
        if flops > limits.flops_max {
            return Err(format!(
                "a run takes more than {} floating-point operations at batch {}",
                limits.flops_max, limits.batch
            ));
        }
        (self.nodes, self.elements, self.flops) = (nodes, elements, flops);
        Ok(())
    }
}

/// Floating-point operations of one node at the batch size: two for each multiply-add of a contraction, one
/// for each element read or written otherwise. Saturates. The shapes must satisfy the op's shape rule.
pub fn flops(op: &Op, inputs: &[&Shape], outputs: &[Shape], batch: usize) -> u64 {
    let count = |shape: &Shape| shape.elements(batch).map_or(u64::MAX, |n| n as u64);
    let dim = |shape: &Shape, axis: usize| {
        shape.dims().get(axis).and_then(|d| d.at(batch)).map_or(u64::MAX, |n| n as u64)
    };
    let touched = inputs.iter().copied().chain(outputs).map(count).fold(0u64, |sum, n| sum.saturating_add(n));
    let contraction = match op {
        Op::MatMul { transpose_a, transpose_b: _ } => {
            let inner = inputs[0].rank() - if *transpose_a { 2 } else { 1 };
            count(&outputs[0]).saturating_mul(dim(inputs[0], inner)).saturating_mul(2)
        }
        Op::Lstm { .. } | Op::LstmForward | Op::Gru { .. } | Op::GruForward => {
            recurrent_flops(inputs, &count, &dim)
        }
        Op::LstmBackward | Op::GruBackward => recurrent_flops(inputs, &count, &dim).saturating_mul(2),
        // Each of the B·T places multiplies by every tap; backwards once for dx and once for dw.
        Op::Conv1d { .. } | Op::Conv1dBackward { .. } => {
            let products = if let Op::Conv1d { .. } = op { 2 } else { 4 };
            let places = dim(inputs[0], 0).saturating_mul(dim(inputs[0], 1));
            places.saturating_mul(count(inputs[1])).saturating_mul(products)
        }
        // Scores and mixture; backwards the scores again and the four gradients.
        Op::Attention { .. } | Op::AttentionForward { .. } | Op::AttentionBackward { .. } => {
            let products = if let Op::AttentionBackward { .. } = op { 10 } else { 4 };
            count(inputs[0]).saturating_mul(dim(inputs[1], 1)).saturating_mul(products)
        }
        Op::Input { .. }
        | Op::State { .. }
        | Op::Constant(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Dropout { .. }
        | Op::Broadcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Reduce { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::LayerNorm { .. }
        | Op::LayerNormBackward { .. }
        | Op::AdamW { .. } => 0,
    };
    touched.saturating_add(contraction)
}

/// x `[B, T, F]`, W, U: each of the B·T steps multiplies by W and by U.
fn recurrent_flops(
    inputs: &[&Shape],
    count: &dyn Fn(&Shape) -> u64,
    dim: &dyn Fn(&Shape, usize) -> u64,
) -> u64 {
    let steps = dim(inputs[0], 0).saturating_mul(dim(inputs[0], 1));
    let weights = count(inputs[1]).saturating_add(count(inputs[2]));
    steps.saturating_mul(weights).saturating_mul(2)
}

#[cfg(test)]
mod tests;
