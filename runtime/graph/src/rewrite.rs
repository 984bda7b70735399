//! Passes that make a graph smaller and mean the same. Each takes a verified graph and its result is verified.
//!
//! Inputs keep their names and order, outputs and updates theirs; a state goes when nothing uses it.

use std::collections::HashMap;

use crate::builder::DROPOUT_SEED;
use crate::copy::Copier;
use crate::cost::flops;
use crate::graph::{Graph, Node, Value};
use crate::op::Op;
use crate::reference::{Array, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::verify::{Limits, VerifyError, verify};

#[cfg(test)]
mod tests;

/// A folded constant has no more elements than this.
const FOLD_ELEMENTS_MAX: usize = 65_536;
/// Folding one node takes no more operations than this.
const FOLD_FLOPS_MAX: u64 = 1 << 22;

/// The graph as it predicts: without dropout and its seed input, without updates, and without whatever else no
/// longer matters. Its outputs and other inputs stay.
pub fn inference(graph: &Graph) -> Result<Graph, VerifyError> {
    let mut graph = drop_dropout(graph)?;
    graph.updates.clear();
    simplify(&graph)
}

/// All passes that keep every output and update the same at every input.
pub fn simplify(graph: &Graph) -> Result<Graph, VerifyError> {
    let graph = drop_identities(graph)?;
    let graph = fold_constants(&graph)?;
    let graph = share(&graph)?;
    drop_dead(&graph)
}

/// Dropout passes its input through. Its seed input stays until [`drop_dead`].
pub fn drop_dropout(graph: &Graph) -> Result<Graph, VerifyError> {
    pass(graph, |copy, node| match node.op {
        Op::Dropout { .. } => copy.replace(vec![copy.value(node.inputs[0])]),
        _ => {
            copy.keep(node);
        }
    })
}

/// Ops that give their input back as it is: reshapes and broadcasts to the same shape, whole slices, empty
/// pads, joins of one, transposes in order.
pub fn drop_identities(graph: &Graph) -> Result<Graph, VerifyError> {
    pass(graph, |copy, node| {
        if is_identity(node, graph) {
            copy.replace(vec![copy.value(node.inputs[0])]);
        } else {
            copy.keep(node);
        }
    })
}

fn is_identity(node: &Node, graph: &Graph) -> bool {
    let same_shape = || *graph.shape(node.inputs[0]) == node.shapes[0];
    match &node.op {
        Op::Reshape { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } => same_shape(),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Transpose { axes } => axes.iter().copied().eq(0..axes.len()),
        Op::Dropout { rate, .. } => *rate == 0.0,
        Op::Input { .. }
        | Op::State { .. }
        | Op::Constant(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::MatMul { .. }
        | Op::Reduce { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::LayerNorm { .. }
        | Op::LayerNormBackward { .. }
        | Op::Lstm { .. }
        | Op::LstmForward
        | Op::LstmBackward
        | Op::Gru { .. }
        | Op::GruForward
        | Op::GruBackward
        | Op::Conv1d { .. }
        | Op::Conv1dBackward { .. }
        | Op::Attention { .. }
        | Op::AttentionForward { .. }
        | Op::AttentionBackward { .. }
        | Op::AdamW { .. } => false,
    }
}

/// Nodes of fixed shape with constant inputs become constants, computed by the reference and rounded to f32.
/// Large ones are left, so that a broadcast constant doesn't fill memory.
pub fn fold_constants(graph: &Graph) -> Result<Graph, VerifyError> {
    pass(graph, |copy, node| match folded(copy, node, graph) {
        Some(tensor) => {
            let shape = Shape::fixed(tensor.dims());
            let values = copy.push(Op::Constant(tensor), Vec::new(), vec![shape], &node.scope);
            copy.replace(values);
        }
        None => {
            copy.keep(node);
        }
    })
}

fn folded(copy: &Copier<'_>, node: &Node, graph: &Graph) -> Option<Tensor> {
    let [shape] = node.shapes.as_slice() else { return None };
    if node.inputs.is_empty() || shape.depends_on_batch() || shape.elements(1)? > FOLD_ELEMENTS_MAX {
        return None;
    }
    let shapes: Vec<&Shape> = node.inputs.iter().map(|&value| graph.shape(value)).collect();
    if flops(&node.op, &shapes, &node.shapes, 1) > FOLD_FLOPS_MAX {
        return None;
    }
    let constant = |&value: &Value| match &copy.target_node(copy.value(value)).op {
        Op::Constant(tensor) => Some(Array::from_tensor(tensor)),
        _ => None,
    };
    let inputs: Vec<Array> = node.inputs.iter().map(constant).collect::<Option<_>>()?;
    let result = apply(node, 1, &inputs.iter().collect::<Vec<_>>()).swap_remove(0);
    Tensor::new(result.dims, result.data.into_iter().map(|x| x as f32).collect()).ok()
}

/// Nodes with the same op and inputs become one: the first.
pub fn share(graph: &Graph) -> Result<Graph, VerifyError> {
    let mut seen: HashMap<(Key, Vec<Value>), Vec<Value>> = HashMap::new();
    pass(graph, |copy, node| {
        let key = (key(&node.op), copy.values(&node.inputs));
        match seen.get(&key) {
            Some(values) => copy.replace(values.clone()),
            None => {
                let values = copy.keep(node);
                seen.insert(key, values);
            }
        }
    })
}

/// An op as something to compare bit by bit: −0 isn't 0, and a NaN equals itself.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Constant(Vec<usize>, Vec<u32>),
    Other(String),
}

fn key(op: &Op) -> Key {
    match op {
        Op::Constant(tensor) => {
            Key::Constant(tensor.dims().to_vec(), tensor.data().iter().map(|x| x.to_bits()).collect())
        }
        _ => Key::Other(format!("{op:?}")),
    }
}

/// The graph of one output alone: what only others need goes, and so do updates. Inputs stay. A graph without that
/// output keeps all of its own.
pub fn only(graph: &Graph, output: &str) -> Result<Graph, VerifyError> {
    let mut graph = graph.clone();
    if graph.output(output).is_some() {
        graph.outputs.retain(|(name, _)| name == output);
    }
    graph.updates.clear();
    drop_dead(&graph)
}

/// Nodes that no output and no update needs go. Inputs stay, since the caller gives them by their order;
/// only the dropout seed goes with the last dropout.
pub fn drop_dead(graph: &Graph) -> Result<Graph, VerifyError> {
    verify(graph, &unlimited())?;
    let mut used = vec![false; graph.nodes.len()];
    let roots = graph.outputs.iter().map(|&(_, value)| value).chain(graph.updates.iter().map(|u| u.value));
    roots.for_each(|value| used[value.node.0 as usize] = true);
    for update in &graph.updates {
        graph.state(&update.state).into_iter().for_each(|state| used[state.node.0 as usize] = true);
    }
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        used[id] |= matches!(&node.op, Op::Input { name } if name != DROPOUT_SEED);
        if used[id] {
            node.inputs.iter().for_each(|input| used[input.node.0 as usize] = true);
        }
    }
    let mut used = used.into_iter();
    pass(graph, |copy, node| {
        if used.next() == Some(true) {
            copy.keep(node);
        } else {
            copy.skip();
        }
    })
}

/// Verifies the graph, visits each node in order, and verifies what came out.
fn pass(graph: &Graph, mut visit: impl FnMut(&mut Copier<'_>, &Node)) -> Result<Graph, VerifyError> {
    verify(graph, &unlimited())?;
    let mut copy = Copier::new(graph);
    for node in &graph.nodes {
        visit(&mut copy, node);
    }
    let result = copy.finish();
    verify(&result, &unlimited())?;
    Ok(result)
}

/// Whoever took the graph in has set its limits; a pass checks the rest.
fn unlimited() -> Limits {
    Limits {
        nodes_max: u32::MAX as usize,
        node_inputs_max: usize::MAX,
        name_bytes_max: usize::MAX,
        batch: 1,
        elements_max: usize::MAX,
        elements_total_max: usize::MAX,
        flops_max: u64::MAX,
    }
}
