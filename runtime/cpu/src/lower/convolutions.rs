//! Convolutions: chains of them with the relus after them as one node, and the backward through a relu.

use std::sync::{Arc, Mutex};

use graph::{BinaryOp, Graph, Node, NodeId, Op, UnaryOp, Value};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{Lowering, uses};
use crate::kernel::conv;
use crate::ops::conv::{self as convolutions, Conv1dBackward, Convolutions};
use crate::ops::fused::plain;
use crate::pool::Spare;

impl Lowering<'_, '_> {
    /// A convolution with the relu after it, and with the convolutions under it that serve it alone; those are
    /// skipped at their own turn.
    pub(super) fn conv1d(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let graph = self.context.graph;
        let target = relu_after(graph, id).unwrap_or(id);
        if self.conv_layer(id, node)?.is_some()
            && let Some((above, user)) = sole_user(graph, target)
            && user.inputs[1..].iter().all(|input| input.node != target)
            && self.conv_layer(above, user)?.is_some()
        {
            return Ok(());
        }
        let mut layers = Vec::new();
        let (mut bottom_id, mut bottom) = (id, node);
        while let Some(layer) = self.conv_layer(bottom_id, bottom)? {
            layers.insert(0, layer);
            if self.wires.contains_key(&bottom.inputs[0]) {
                break;
            }
            let below = bottom.inputs[0].node;
            bottom_id = convolution_before(graph, graph.node(below)).unwrap_or(below);
            bottom = graph.node(bottom_id);
        }
        let (weights, inputs) = if layers.is_empty() {
            let (shape, relu) = (self.conv_shape(node)?, target != id);
            let packed = Mutex::default();
            (convolutions::Weights::Given { shape, relu, packed }, node.inputs.as_slice())
        } else {
            (convolutions::Weights::Fixed(layers), &bottom.inputs[..1])
        };
        let op = Convolutions {
            path: self.context.path,
            pool: self.context.pool.clone(),
            batch: self.of(inputs[0])?[0],
            weights,
            spare: Spare::default(),
        };
        self.fuse_on(target, node, inputs, Arc::new(op))
    }

    /// A convolution whose weights never change, packed.
    fn conv_layer(&mut self, id: NodeId, node: &Node) -> TractResult<Option<Arc<conv::Layer>>> {
        let Op::Conv1d { .. } = node.op else { return Ok(None) };
        let (shape, relu) = (self.conv_shape(node)?, relu_after(self.context.graph, id).is_some());
        let key = (node.inputs[1..].to_vec(), shape, relu);
        if let Some(layer) = self.context.packs.conv.get(&key) {
            return Ok(Some(layer.clone()));
        }
        // A weight may come after the convolution that asks for the one above it.
        let known = key.0.iter().all(|value| self.wires.contains_key(value));
        let [Some(w), Some(b)] = (match known {
            true => [self.constant(key.0[0])?, self.constant(key.0[1])?],
            false => [None, None],
        }) else {
            return Ok(None);
        };
        let mut layer = conv::Layer::default();
        layer.pack(self.context.path, shape, relu, plain(&w)?, plain(&b)?);
        let layer = Arc::new(layer);
        self.context.packs.conv.insert(key, layer.clone());
        Ok(Some(layer))
    }

    /// The backward of a convolution, through the relu after it where that is what gives dy.
    pub(super) fn conv1d_backward(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let op = Conv1dBackward {
            path: self.context.path,
            pool: self.context.pool.clone(),
            batch: self.of(node.inputs[0])?[0],
            shape: self.conv_shape(node)?,
            wants_dx: uses(self.context.graph, Value { node: id, slot: 0 }),
            buffers: Mutex::default(),
        };
        match relu_backward(self.context.graph, node.inputs[2]) {
            Some([y, dy]) => self.fuse_on(id, node, &[node.inputs[0], node.inputs[1], dy, y], Arc::new(op)),
            None => self.fuse(id, node, op),
        }
    }

    /// x is the first input, w the second.
    fn conv_shape(&self, node: &Node) -> TractResult<conv::Shape> {
        let (Op::Conv1d { dilation } | Op::Conv1dBackward { dilation }) = node.op else {
            bail!("{} is no convolution", node.op.name());
        };
        let (x, w) = (self.of(node.inputs[0])?, self.of(node.inputs[1])?);
        Ok(conv::Shape { steps: x[1], features: x[2], outputs: w[2], taps: w[0], dilation })
    }
}

/// The relu that alone reads this node's only output.
fn relu_after(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let (relu, node) = sole_user(graph, id)?;
    (node.op == Op::Unary(UnaryOp::Relu)).then_some(relu)
}

/// The convolution that does this relu in passing.
pub(super) fn convolution_before(graph: &Graph, node: &Node) -> Option<NodeId> {
    let before = node.inputs.first()?.node;
    let is_convolution = matches!(graph.node(before).op, Op::Conv1d { .. });
    let is_relu = node.op == Op::Unary(UnaryOp::Relu);
    (is_relu && is_convolution && relu_after(graph, before).is_some()).then_some(before)
}

/// The node that alone reads this node's only output.
fn sole_user(graph: &Graph, id: NodeId) -> Option<(NodeId, &Node)> {
    let value = Value { node: id, slot: 0 };
    let told = graph.outputs.iter().any(|(_, output)| *output == value)
        || graph.updates.iter().any(|update| update.value == value);
    let mut users = graph.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&value));
    let (user, node) = users.next().filter(|_| !told && users.next().is_none())?;
    Some((NodeId(user as u32), node))
}

/// y and dy of a relu, where this is dy where y is above 0 and else 0, of the same shape.
pub(crate) fn relu_backward(graph: &Graph, value: Value) -> Option<[Value; 2]> {
    let zero = |value: Value| match &graph.node(value.node).op {
        Op::Constant(tensor) => tensor.data() == [0.0],
        _ => false,
    };
    let node = graph.node(value.node);
    let &[positive, dy, otherwise] = node.inputs.as_slice() else { return None };
    let less = graph.node(positive.node);
    let &[below, y] = less.inputs.as_slice() else { return None };
    let is_relu = node.op == Op::Select
        && less.op == Op::Binary(BinaryOp::Less)
        && zero(below)
        && zero(otherwise)
        && [y, dy].into_iter().all(|v| graph.shape(v) == graph.shape(value));
    is_relu.then_some([y, dy])
}
