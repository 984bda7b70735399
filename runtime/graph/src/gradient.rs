//! The gradient of a graph as a graph: one walk from the loss back to the sources, one rule for each op.
//!
//! There is no tape: the rules add ordinary nodes, which every pass and executor treats like any others.
//! Where a function has a kink, the gradient is 0 for `Abs` and `Relu` at 0, the first operand's for a tie of
//! `Max` or `Min`, and shared equally for a tie of a reduction.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::builder::{BuildError, Builder};
use crate::copy::Copier;
use crate::graph::{Graph, Node, NodeId, Value};
use crate::op::{Keep, Op};
use crate::shape::{Dim, Shape};
use crate::tensor::Tensor;
use crate::verify::{Limits, VerifyError, find_shape, verify};

mod elementwise;
mod structure;

#[cfg(test)]
mod tests;

/// Why a graph has no gradient.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientError {
    /// The graph failed its check before or after.
    Invalid(VerifyError),
    /// The loss has dimensions.
    NotScalar { shape: Shape },
    /// The loss or one of `wrt` isn't a value of the graph.
    NoSuchValue(Value),
    /// The loss depends on a value of `wrt` through an op without a gradient rule.
    NotDifferentiable { op: &'static str, scope: String, reason: &'static str },
    /// A rule's node was refused: the gradient is past the limits.
    Build(BuildError),
}

impl fmt::Display for GradientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GradientError::Invalid(e) => write!(f, "the graph is not valid: {e}"),
            GradientError::NotScalar { shape } => {
                write!(f, "the loss is {shape}, not a scalar: reduce it over all axes first")
            }
            GradientError::NoSuchValue(value) => {
                write!(f, "{}:{} isn't a value of the graph", value.node.0, value.slot)
            }
            GradientError::NotDifferentiable { op, scope, reason } => {
                write!(f, "{op} in {scope:?} has no gradient: {reason}")
            }
            GradientError::Build(e) => write!(f, "the gradient can't be built: {e}"),
        }
    }
}

impl std::error::Error for GradientError {}

impl From<BuildError> for GradientError {
    fn from(error: BuildError) -> Self {
        GradientError::Build(error)
    }
}

/// The graph extended by the derivatives of `loss`, a scalar, with respect to each of `wrt`; and where they are,
/// each of its `wrt`'s shape. Names, states, outputs and updates stay; values are renumbered, since each `Lstm`,
/// `Gru` or `Attention` on the way becomes its forward form. A value that the loss doesn't depend on has a gradient of zeros.
pub fn gradient(graph: &Graph, loss: Value, wrt: &[Value]) -> Result<(Graph, Vec<Value>), GradientError> {
    verify(graph, &Limits::default()).map_err(GradientError::Invalid)?;
    for &value in wrt.iter().chain([&loss]) {
        find_shape(graph, value).ok_or(GradientError::NoSuchValue(value))?;
    }
    if graph.shape(loss).rank() != 0 {
        return Err(GradientError::NotScalar { shape: graph.shape(loss).clone() });
    }
    let (graph, values) = open_fused(graph, loss, wrt);
    let (loss, wrt) = (values[0], &values[1..]);

    let reached = reach(&graph, wrt);
    let wrt_set: HashSet<Value> = wrt.iter().copied().collect();
    let builder = Builder::from_graph(graph);
    let mut walk = Walk { builder, reached, wrt: wrt_set, adjoints: HashMap::new(), scalars: HashMap::new() };
    let one = walk.scalar(1.0)?;
    walk.adjoints.insert(loss, one);
    for id in (0..=loss.node.0).rev() {
        walk.visit(NodeId(id))?;
    }
    let gradients = wrt.iter().map(|&value| walk.gradient_of(value)).collect::<Result<Vec<_>, _>>()?;
    Ok((walk.builder.finish().map_err(GradientError::Invalid)?, gradients))
}

/// Copies the graph with the form that keeps what the backward needs for each `Lstm`, `Gru` and `Attention` between
/// `wrt` and `loss`. Gives the loss and `wrt` in the copy.
fn open_fused(graph: &Graph, loss: Value, wrt: &[Value]) -> (Graph, Vec<Value>) {
    let reached = reach(graph, wrt);
    let mut used = vec![false; graph.nodes.len()];
    used[loss.node.0 as usize] = true;
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if used[id] {
            node.inputs.iter().for_each(|input| used[input.node.0 as usize] = true);
        }
    }
    let mut copy = Copier::new(graph);
    for (id, node) in graph.nodes.iter().enumerate() {
        match node.op {
            Op::Lstm { keep } if reached[id] && used[id] => {
                let value = open(&mut copy, node, keep, Op::LstmForward, &[1, 1, 4]);
                copy.replace(vec![value]);
            }
            Op::Gru { keep } if reached[id] && used[id] => {
                let value = open(&mut copy, node, keep, Op::GruForward, &[1, 3, 1]);
                copy.replace(vec![value]);
            }
            Op::Attention { heads, causal } if reached[id] && used[id] => {
                let inputs = copy.values(&node.inputs);
                let y = node.shapes[0].clone();
                let logarithms = Shape::new([y.dims()[0], Dim::Fixed(heads), y.dims()[1]]);
                let forward = Op::AttentionForward { heads, causal };
                let values = copy.push(forward, inputs, vec![y, logarithms], &node.scope);
                copy.replace(values[..1].to_vec());
            }
            _ => {
                copy.keep(node);
            }
        }
    }
    let values = [&[loss], wrt].concat().into_iter().map(|value| copy.value(value)).collect();
    (copy.finish(), values)
}

/// The forward form, whose outputs are so many times H wide, and of its first output what `keep` says.
fn open(copy: &mut Copier<'_>, node: &Node, keep: Keep, forward: Op, widths: &[usize]) -> Value {
    let inputs = copy.values(&node.inputs);
    let x = copy.target_node(inputs[0]).shapes[inputs[0].slot as usize].clone();
    let (batch, steps) = (x.dims()[0], x.dims()[1]);
    let hidden = node.shapes[0].dims()[node.shapes[0].rank() - 1];
    let width = |n: usize| Dim::Fixed(hidden.fixed().expect("verified") * n);
    let shape = |step: Dim, n: usize| Shape::new([batch, step, width(n)]);
    let shapes = widths.iter().map(|&n| shape(steps, n)).collect();
    let h = copy.push(forward, inputs, shapes, &node.scope)[0];
    match keep {
        Keep::Sequence => h,
        Keep::Last => {
            let end = steps.fixed().expect("verified");
            let slice = Op::Slice { axis: 1, start: end - 1, end };
            let last = copy.push(slice, vec![h], vec![shape(Dim::Fixed(1), 1)], &node.scope);
            let reshape = Op::Reshape { shape: node.shapes[0].clone() };
            copy.push(reshape, last, node.shapes.clone(), &node.scope)[0]
        }
    }
}

/// For each node, whether any of its inputs depends on, or is, one of `wrt`.
fn reach(graph: &Graph, wrt: &[Value]) -> Vec<bool> {
    let wrt: HashSet<Value> = wrt.iter().copied().collect();
    let mut reached = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        reached[id] = node.inputs.iter().any(|v| reached[v.node.0 as usize] || wrt.contains(v));
    }
    reached
}

/// The walk: the graph that grows, and the derivative of the loss by each value seen so far.
struct Walk {
    builder: Builder,
    reached: Vec<bool>,
    wrt: HashSet<Value>,
    adjoints: HashMap<Value, Value>,
    scalars: HashMap<u32, Value>,
}

type Rule = Result<(), GradientError>;

impl Walk {
    /// Adds what the node's outputs give to its inputs.
    fn visit(&mut self, id: NodeId) -> Rule {
        if !self.reached[id.0 as usize] {
            return Ok(());
        }
        let node = self.builder.graph().node(id);
        let slots = 0..node.shapes.len() as u32;
        let outputs: Vec<Value> = slots.map(|slot| Value { node: id, slot }).collect();
        let adjoints: Vec<Option<Value>> = outputs.iter().map(|v| self.adjoints.get(v).copied()).collect();
        if adjoints.iter().all(Option::is_none) {
            return Ok(());
        }
        let node = node.clone();
        self.builder.scope(&node.scope);
        match adjoints.as_slice() {
            [Some(dy)] => self.rule(&node, outputs[0], *dy),
            _ => self.many_outputs(&node, &outputs, &adjoints),
        }
    }

    /// The rule of every op with one output `y`, whose adjoint is `dy`.
    fn rule(&mut self, node: &Node, y: Value, dy: Value) -> Rule {
        let inputs = node.inputs.as_slice();
        match &node.op {
            Op::Input { .. } | Op::State { .. } | Op::Constant(_) => Ok(()),
            Op::Unary(op) => self.unary(*op, inputs[0], y, dy),
            Op::Binary(op) => self.binary(*op, inputs[0], inputs[1], y, dy),
            Op::Select => self.select(inputs, dy),
            Op::Dropout { .. } => {
                let dx = self.builder.push_one(node.op.clone(), &[dy, inputs[1]])?;
                self.give(inputs[0], dx)
            }
            Op::Broadcast { .. } => self.give_summed(inputs[0], dy),
            Op::Reshape { .. } => {
                let dx = self.builder.reshape(dy, self.shape(inputs[0]))?;
                self.give(inputs[0], dx)
            }
            Op::Transpose { axes } => self.transpose(axes, inputs[0], dy),
            Op::Slice { axis, start, end } => {
                let dx = self.builder.pad(dy, *axis, *start, self.size(inputs[0], *axis) - end)?;
                self.give(inputs[0], dx)
            }
            Op::Pad { axis, before, after: _ } => {
                let end = before + self.size(inputs[0], *axis);
                let dx = self.builder.slice(dy, *axis, *before, end)?;
                self.give(inputs[0], dx)
            }
            Op::Concat { axis } => self.concat(*axis, inputs, dy),
            Op::MatMul { transpose_a, transpose_b } => {
                self.matmul(inputs[0], inputs[1], *transpose_a, *transpose_b, dy)
            }
            Op::Reduce { op, axes, keep: _ } => self.reduce(*op, axes, inputs[0], y, dy),
            Op::Softmax { axis } => self.softmax(*axis, inputs[0], y, dy),
            Op::LogSoftmax { axis } => self.log_softmax(*axis, inputs[0], y, dy),
            Op::LayerNorm { epsilon } => {
                let backward = Op::LayerNormBackward { epsilon: *epsilon };
                let gradients = self.builder.push(backward, &[inputs[0], inputs[1], dy])?;
                self.give_all(inputs, &gradients)
            }
            Op::Conv1d { dilation } => {
                let backward = Op::Conv1dBackward { dilation: *dilation };
                let gradients = self.builder.push(backward, &[inputs[0], inputs[1], dy])?;
                self.give_all(inputs, &gradients)
            }
            Op::Lstm { .. } | Op::Gru { .. } | Op::Attention { .. } => {
                unreachable!("one on the way is its forward form by now")
            }
            Op::LayerNormBackward { .. }
            | Op::LstmForward
            | Op::LstmBackward
            | Op::GruForward
            | Op::GruBackward
            | Op::Conv1dBackward { .. }
            | Op::AttentionForward { .. }
            | Op::AttentionBackward { .. }
            | Op::AdamW { .. } => self.many_outputs(node, &[y], &[Some(dy)]),
        }
    }

    /// The rule of the ops with several outputs.
    fn many_outputs(&mut self, node: &Node, outputs: &[Value], adjoints: &[Option<Value>]) -> Rule {
        let backward = match &node.op {
            Op::LstmForward => Ok(Op::LstmBackward),
            Op::GruForward => Ok(Op::GruBackward),
            &Op::AttentionForward { heads, causal } => Ok(Op::AttentionBackward { heads, causal }),
            _ => Err("it is itself part of a backward pass or an update"),
        };
        let reason = match (backward, adjoints) {
            (Ok(backward), [Some(dy), rest @ ..]) if rest.iter().all(Option::is_none) => {
                let arguments = [&node.inputs[..3], outputs, &[*dy]].concat();
                let gradients = self.builder.push(backward, &arguments)?;
                return self.give_all(&node.inputs, &gradients);
            }
            (Ok(_), _) => "only the first output has a rule; the others are there for the backward form",
            (Err(reason), _) => reason,
        };
        Err(GradientError::NotDifferentiable { op: node.op.name(), scope: node.scope.clone(), reason })
    }

    fn give_all(&mut self, inputs: &[Value], gradients: &[Value]) -> Rule {
        inputs.iter().zip(gradients).try_for_each(|(&x, &dx)| self.give(x, dx))
    }

    /// Adds `dx`, of x's shape, to the derivative by `x`.
    fn give(&mut self, x: Value, dx: Value) -> Rule {
        debug_assert_eq!(self.builder.shape(x), self.builder.shape(dx));
        if self.wants(x) {
            let sum = match self.adjoints.get(&x) {
                Some(&before) => self.builder.add(before, dx)?,
                None => dx,
            };
            self.adjoints.insert(x, sum);
        }
        Ok(())
    }

    /// [`give`](Self::give) for a `dx` of a shape that x broadcast to: summed over what was repeated.
    fn give_summed(&mut self, x: Value, dx: Value) -> Rule {
        let summed = self.sum_to(dx, &self.shape(x))?;
        self.give(x, summed)
    }

    /// Whether anything asks for the derivative by this value.
    fn wants(&self, x: Value) -> bool {
        self.wrt.contains(&x) || self.reached[x.node.0 as usize]
    }

    fn gradient_of(&mut self, value: Value) -> Result<Value, GradientError> {
        match self.adjoints.get(&value) {
            Some(&adjoint) => Ok(adjoint),
            None => self.filled(0.0, self.shape(value)),
        }
    }

    fn scalar(&mut self, x: f32) -> Result<Value, GradientError> {
        if let Some(&value) = self.scalars.get(&x.to_bits()) {
            return Ok(value);
        }
        let value = self.builder.constant(Tensor::scalar(x))?;
        self.scalars.insert(x.to_bits(), value);
        Ok(value)
    }

    fn filled(&mut self, x: f32, shape: Shape) -> Result<Value, GradientError> {
        let scalar = self.scalar(x)?;
        Ok(self.builder.broadcast(scalar, shape)?)
    }

    fn shape(&self, value: Value) -> Shape {
        self.builder.shape(value).clone()
    }

    /// The size of a fixed axis.
    fn size(&self, value: Value, axis: usize) -> usize {
        self.builder.shape(value).dims()[axis].fixed().expect("the shape rule wants a fixed axis here")
    }
}
