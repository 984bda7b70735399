//! The slow, obvious f64 interpreter: the meaning of every op, and the truth in tests.
//!
//! A file of formulas: [`elementwise`] for functions of one and two numbers, `arrays` for shapes,
//! contractions and reductions, `fused` for normalisation, recurrence and the optimiser, `convolution` and
//! `attention`, [`random`] for dropout's mask and the initial values of states.

use std::fmt;

use crate::graph::{Graph, Node};
use crate::op::Op;
use crate::verify::{Limits, VerifyError, verify};

mod arrays;
mod attention;
mod convolution;
pub mod elementwise;
mod fused;
mod gru;
mod interpreter;
pub mod random;

pub(crate) use arrays::Array;
pub use interpreter::Interpreter;
pub use random::{dropout_keeps, initial_states};

/// Why a graph can't be run with these arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceError {
    /// The graph failed its check.
    Invalid(VerifyError),
    /// The wrong number of inputs.
    InputCount { expected: usize, given: usize },
    /// An input, in the order of [`Graph::inputs`], of the wrong length.
    InputLength { name: String, expected: usize, given: usize },
    /// The graph has this state, and it isn't given or of the wrong length.
    State { name: String, message: String },
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReferenceError::Invalid(e) => write!(f, "the graph is not valid: {e}"),
            ReferenceError::InputCount { expected, given } => {
                write!(f, "the graph takes {expected} inputs, not {given}")
            }
            ReferenceError::InputLength { name, expected, given } => {
                write!(f, "input {name:?} takes {expected} numbers, not {given}")
            }
            ReferenceError::State { name, message } => write!(f, "state {name:?}: {message}"),
        }
    }
}

impl std::error::Error for ReferenceError {}

/// Runs the graph once at the batch size, which is at least 1. `inputs` are in the order of [`Graph::inputs`];
/// the result is in the order of `Graph::outputs`. Then the updates are applied to `states`, all at once. States
/// that the graph doesn't have are left alone.
pub fn run(
    graph: &Graph,
    batch: usize,
    inputs: &[Vec<f64>],
    states: &mut [(String, Vec<f64>)],
) -> Result<Vec<Vec<f64>>, ReferenceError> {
    let limits = Limits { batch, ..Limits::default() };
    verify(graph, &limits).map_err(ReferenceError::Invalid)?;
    let values = evaluate(graph, batch, inputs, states)?;
    let data = |value: crate::Value| values[value.node.0 as usize][value.slot as usize].data.clone();
    let outputs = graph.outputs.iter().map(|&(_, value)| data(value)).collect();
    for update in &graph.updates {
        if let Some((_, state)) = states.iter_mut().find(|(name, _)| *name == update.state) {
            *state = data(update.value);
        }
    }
    Ok(outputs)
}

/// [`initial_states`] in f64, as [`run`] takes them.
pub fn initial_states_f64(graph: &Graph, seed: u64) -> Vec<(String, Vec<f64>)> {
    let widen = |tensor: crate::Tensor| tensor.data().iter().map(|&x| f64::from(x)).collect();
    initial_states(graph, seed).into_iter().map(|(name, tensor)| (name, widen(tensor))).collect()
}

/// Every output of every node of a verified graph.
fn evaluate(
    graph: &Graph,
    batch: usize,
    inputs: &[Vec<f64>],
    states: &[(String, Vec<f64>)],
) -> Result<Vec<Vec<Array>>, ReferenceError> {
    let expected = graph.inputs().count();
    if inputs.len() != expected {
        return Err(ReferenceError::InputCount { expected, given: inputs.len() });
    }
    let mut given = inputs.iter();
    let mut values: Vec<Vec<Array>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let dims = node.shapes[0].at(batch).expect("verified at this batch size");
        let outputs = match &node.op {
            Op::Input { name } => {
                let data = given.next().expect("counted above").clone();
                let expected = dims.iter().product();
                if data.len() != expected {
                    let name = name.clone();
                    return Err(ReferenceError::InputLength { name, expected, given: data.len() });
                }
                vec![Array { dims, data }]
            }
            Op::State { name } => vec![find_state(name, dims, states)?],
            _ => apply(
                node,
                batch,
                &node.inputs.iter().map(|v| &values[v.node.0 as usize][v.slot as usize]).collect::<Vec<_>>(),
            ),
        };
        values.push(outputs);
    }
    Ok(values)
}

fn find_state(name: &str, dims: Vec<usize>, states: &[(String, Vec<f64>)]) -> Result<Array, ReferenceError> {
    let error = |message: String| ReferenceError::State { name: name.into(), message };
    let (_, data) = states.iter().find(|(n, _)| n == name).ok_or_else(|| error("it isn't given".into()))?;
    let expected: usize = dims.iter().product();
    if data.len() != expected {
        return Err(error(format!("it holds {expected} numbers, not {}", data.len())));
    }
    Ok(Array { dims, data: data.clone() })
}

/// One node that is not a source of given data. The inputs satisfy the op's shape rule.
pub(crate) fn apply(node: &Node, batch: usize, inputs: &[&Array]) -> Vec<Array> {
    let dims = |slot: usize| node.shapes[slot].at(batch).expect("verified at this batch size");
    let one = match &node.op {
        Op::Input { .. } | Op::State { .. } => unreachable!("sources are given, not computed"),
        Op::Constant(tensor) => Array::from_tensor(tensor),
        Op::Unary(op) => inputs[0].map(|x| elementwise::unary(*op, x)),
        Op::Binary(op) => inputs[0].zip(inputs[1], &dims(0), |a, b| elementwise::binary(*op, a, b)),
        Op::Select => arrays::select(inputs[0], inputs[1], inputs[2], &dims(0)),
        Op::Dropout { rate, salt } => fused::dropout(*rate, *salt, inputs[0], inputs[1].data[0]),
        Op::Broadcast { .. } => inputs[0].broadcast(&dims(0)),
        Op::Reshape { .. } => Array { dims: dims(0), data: inputs[0].data.clone() },
        Op::Transpose { axes } => inputs[0].transpose(axes),
        Op::Slice { axis, start, end } => inputs[0].slice(*axis, *start, *end),
        Op::Pad { axis, before, after } => inputs[0].pad(*axis, *before, *after),
        Op::Concat { axis } => arrays::concat(inputs, *axis),
        Op::MatMul { transpose_a, transpose_b } => {
            arrays::matmul(inputs[0], inputs[1], *transpose_a, *transpose_b)
        }
        Op::Reduce { op, axes, keep: _ } => arrays::reduce(*op, inputs[0], axes, dims(0)),
        Op::Softmax { axis } => arrays::log_softmax(inputs[0], *axis).map(f64::exp),
        Op::LogSoftmax { axis } => arrays::log_softmax(inputs[0], *axis),
        Op::LayerNorm { epsilon } => fused::layer_norm(inputs[0], inputs[1], inputs[2], *epsilon),
        Op::LayerNormBackward { epsilon } => {
            return fused::layer_norm_backward(inputs[0], inputs[1], inputs[2], *epsilon);
        }
        Op::Lstm { keep } => fused::kept(*keep, fused::lstm_forward(inputs).swap_remove(0)),
        Op::LstmForward => return fused::lstm_forward(inputs),
        Op::LstmBackward => return fused::lstm_backward(inputs),
        Op::Gru { keep } => fused::kept(*keep, gru::gru_forward(inputs).swap_remove(0)),
        Op::GruForward => return gru::gru_forward(inputs),
        Op::GruBackward => return gru::gru_backward(inputs),
        Op::Conv1d { dilation } => convolution::conv1d(*dilation, inputs),
        Op::Conv1dBackward { dilation } => return convolution::conv1d_backward(*dilation, inputs),
        Op::Attention { heads, causal } => {
            attention::attention_forward(*heads, *causal, inputs).swap_remove(0)
        }
        Op::AttentionForward { heads, causal } => {
            return attention::attention_forward(*heads, *causal, inputs);
        }
        Op::AttentionBackward { heads, causal } => {
            return attention::attention_backward(*heads, *causal, inputs);
        }
        Op::AdamW { beta1, beta2, epsilon, weight_decay } => {
            return fused::adamw([*beta1, *beta2, *epsilon, *weight_decay], inputs);
        }
    };
    vec![one]
}

#[cfg(test)]
mod tests;
