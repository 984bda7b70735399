//! Which nodes of a graph become one: a product with the bias after it, and elementwise ops that feed each other.

use std::collections::HashMap;
use std::sync::Arc;

use graph::{BinaryOp, Graph, Node, NodeId, Op, Shape, UnaryOp, Value};

use crate::isa::Path;
use crate::lower::relu_backward;
use crate::ops::chain::{Chain, Instruction, Leaf, Source, Step};
use crate::pool::{Pool, Spare};

/// A chain has at most so many instructions, which bounds its buffers.
const CHAIN_MAX: usize = 48;

#[derive(Debug, Default)]
pub(crate) struct Fusion {
    /// For each product, the sum that alone reads it and the bias.
    biases: HashMap<NodeId, (NodeId, Value)>,
    /// For each elementwise node, the one that its chain ends at.
    ends: Vec<Option<NodeId>>,
    /// Nodes that a product before them does in passing.
    absorbed: Vec<bool>,
}

impl Fusion {
    pub(crate) fn new(graph: &Graph) -> Self {
        let users = users(graph);
        let mut fusion = Fusion {
            biases: HashMap::new(),
            ends: vec![None; graph.nodes.len()],
            absorbed: vec![false; graph.nodes.len()],
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            let id = NodeId(index as u32);
            if let Some((sum, bias)) = bias_after(graph, &users, id, node) {
                fusion.biases.insert(id, (sum, bias));
                fusion.absorbed[sum.0 as usize] = true;
            }
        }
        fusion.chains(graph, &users);
        fusion
    }

    /// The sum that this product makes in passing, and what it adds.
    pub(crate) fn bias(&self, id: NodeId) -> Option<(NodeId, Value)> {
        self.biases.get(&id).copied()
    }

    /// Whether a node before or after this one does what it does.
    pub(crate) fn is_absorbed(&self, id: NodeId) -> bool {
        self.absorbed[id.0 as usize] || self.ends[id.0 as usize].is_some_and(|end| end != id)
    }

    pub(crate) fn is_chain(&self, id: NodeId) -> bool {
        self.ends[id.0 as usize] == Some(id)
    }

    /// From the last node to the first: a node joins the chain that all its readers are in.
    fn chains(&mut self, graph: &Graph, users: &[Users]) {
        let mut sizes: HashMap<NodeId, usize> = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            let id = NodeId(index as u32);
            if self.absorbed[index] || !is_elementwise(graph, node) || is_conv_relu(graph, users, node) {
                continue;
            }
            let common = users[index].common(|user| {
                let same = graph.nodes[user.0 as usize].shapes == node.shapes;
                self.ends[user.0 as usize].filter(|_| same)
            });
            let end = common.filter(|end| sizes[end] < CHAIN_MAX).unwrap_or(id);
            *sizes.entry(end).or_default() += 1;
            self.ends[index] = Some(end);
        }
    }

    /// The chain that ends at this node, and the values that it reads.
    pub(crate) fn chain(
        &self,
        graph: &Graph,
        end: NodeId,
        path: Path,
        pool: Arc<Pool>,
    ) -> (Chain, Vec<Value>) {
        let shape = &graph.nodes[end.0 as usize].shapes[0];
        let (mut inputs, mut leaves, mut code) = (Vec::new(), Vec::new(), Vec::new());
        let mut made: HashMap<Value, usize> = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate().take(end.0 as usize + 1) {
            let (Some(step), Some(own_end)) = (step(&node.op), self.ends[index]) else { continue };
            if own_end != end {
                continue;
            }
            let mut sources = Vec::new();
            for &input in &node.inputs {
                sources.push(match (made.get(&input), inputs.iter().position(|&other| other == input)) {
                    (Some(&value), _) => Source::Value(value),
                    (None, Some(leaf)) => Source::Leaf(leaf),
                    (None, None) => {
                        inputs.push(input);
                        leaves.push(leaf(graph.shape(input), shape).unwrap_or(Leaf::Full));
                        Source::Leaf(inputs.len() - 1)
                    }
                });
            }
            let source = |index: usize| sources.get(index).copied().unwrap_or(sources[0]);
            made.insert(Value { node: NodeId(index as u32), slot: 0 }, code.len());
            code.push(Instruction { step, sources: [source(0), source(1), source(2)], slot: 0 });
        }
        Chain::place(&mut code);
        let width = shape.dims().last().and_then(|dim| dim.fixed()).unwrap_or(1);
        (Chain { path, pool, width, leaves, code, spare: Spare::default() }, inputs)
    }
}

/// What stands side by side, and how wide each is, where the chain only adds values that are padded along the last
/// axis so that they meet without gaps: the gradient of a matrix whose columns were read apart.
pub(crate) fn side_by_side(
    graph: &Graph,
    chain: &Chain,
    inputs: &[Value],
) -> Option<(Vec<Value>, Vec<usize>)> {
    let reads = chain.code.iter().flat_map(|instruction| &instruction.sources[..2]);
    let leaves = reads.filter(|source| matches!(source, Source::Leaf(_))).count();
    if leaves != inputs.len() || !chain.code.iter().all(|i| matches!(i.step, Step::Binary(BinaryOp::Add))) {
        return None;
    }
    let mut parts = Vec::new();
    for input in inputs {
        let node = graph.node(input.node);
        let Op::Pad { axis, before, after: _ } = node.op else { return None };
        let width = graph.shape(node.inputs[0]).dims().last()?.fixed()?;
        (axis + 1 == node.shapes[0].rank()).then_some(())?;
        parts.push((before, width, node.inputs[0]));
    }
    parts.sort_unstable_by_key(|part| part.0);
    let mut end = 0;
    for &(before, width, _) in &parts {
        (before == end).then_some(())?;
        end += width;
    }
    (end == chain.width).then(|| parts.into_iter().map(|(_, width, value)| (value, width)).unzip())
}

/// Who reads a node's values.
#[derive(Default)]
struct Users {
    nodes: Vec<NodeId>,
    /// Whether an output or an update does.
    told: bool,
}

impl Users {
    /// What `f` gives for every reader, where it is the same for all.
    fn common(&self, f: impl Fn(NodeId) -> Option<NodeId>) -> Option<NodeId> {
        let first = f(*self.nodes.first().filter(|_| !self.told)?)?;
        self.nodes.iter().all(|&user| f(user) == Some(first)).then_some(first)
    }
}

fn users(graph: &Graph) -> Vec<Users> {
    let mut users: Vec<Users> = graph.nodes.iter().map(|_| Users::default()).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            users[input.node.0 as usize].nodes.push(NodeId(index as u32));
        }
    }
    let told = graph.outputs.iter().map(|(_, value)| value).chain(graph.updates.iter().map(|u| &u.value));
    let mut told: Vec<Value> = told.copied().collect();
    // The backward of a convolution reads through the relu after it.
    for node in &graph.nodes {
        if let Op::Conv1dBackward { .. } = node.op {
            told.extend(relu_backward(graph, node.inputs[2]).into_iter().flatten());
        }
    }
    told.iter().for_each(|value| users[value.node.0 as usize].told = true);
    users
}

/// Whether a convolution does this relu in passing.
fn is_conv_relu(graph: &Graph, users: &[Users], node: &Node) -> bool {
    let input = node.inputs[0].node;
    let Users { nodes, told } = &users[input.0 as usize];
    node.op == Op::Unary(UnaryOp::Relu)
        && matches!(graph.node(input).op, Op::Conv1d { .. })
        && nodes.len() == 1
        && !told
}

/// The sum after a product by one matrix, of it and one row that exists before it.
fn bias_after(graph: &Graph, users: &[Users], id: NodeId, node: &Node) -> Option<(NodeId, Value)> {
    let Op::MatMul { .. } = node.op else { return None };
    let Users { nodes, told: false } = &users[id.0 as usize] else { return None };
    let &[sum] = nodes.as_slice() else { return None };
    let value = Value { node: id, slot: 0 };
    let user = graph.node(sum);
    let bias = *user.inputs.iter().find(|input| **input != value)?;
    let row = graph.shape(bias).to_fixed()?;
    let columns = node.shapes[0].dims().last()?.fixed()?;
    let fits = user.op == Op::Binary(BinaryOp::Add)
        && user.shapes == node.shapes
        && graph.shape(node.inputs[1]).rank() == 2
        && row == [columns]
        && bias.node < id;
    fits.then_some((sum, bias))
}

/// Whether it goes element by element beside operands that a chain can read.
fn is_elementwise(graph: &Graph, node: &Node) -> bool {
    match step(&node.op) {
        None => false,
        Some(Step::Dropout { .. }) => graph.shape(node.inputs[1]).rank() == 0,
        Some(Step::Unary(_) | Step::Binary(_) | Step::Select) => {
            node.inputs.iter().all(|&input| leaf(graph.shape(input), &node.shapes[0]).is_some())
        }
    }
}

fn step(op: &Op) -> Option<Step> {
    match op {
        Op::Unary(op) => Some(Step::Unary(*op)),
        Op::Binary(op) => Some(Step::Binary(*op)),
        Op::Select => Some(Step::Select),
        Op::Dropout { rate, salt } => Some(Step::Dropout { rate: *rate, salt: *salt }),
        Op::Input { .. }
        | Op::State { .. }
        | Op::Constant(_)
        | Op::Broadcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
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
        | Op::AdamW { .. } => None,
    }
}

/// How an operand lies beside an output of this shape.
fn leaf(operand: &Shape, output: &Shape) -> Option<Leaf> {
    let one = Shape::fixed(&[1]).dims()[0];
    if operand == output {
        return Some(Leaf::Full);
    }
    if operand.dims().iter().all(|dim| *dim == one) {
        return Some(Leaf::Scalar);
    }
    let (&width, rows) = output.dims().split_last()?;
    width.fixed()?;
    let (&last, before) = operand.dims().split_last()?;
    if last == width && before.iter().all(|dim| *dim == one) {
        return Some(Leaf::Row);
    }
    (last == one && before == rows).then_some(Leaf::Column)
}
