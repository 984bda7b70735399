//! Recurrent layers: stacks of them as one node, and their weights, packed once where they never change.

use std::sync::{Arc, Mutex};

use graph::{Graph, Node, NodeId, Op, Value};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::Lowering;
use crate::kernel::gru::GruWeights;
use crate::kernel::lstm::LstmWeights;
use crate::kernel::recurrent::Stack;
use crate::kernel::recurrent::weights::{Cell, Layer};
use crate::ops::fused::plain;
use crate::ops::gru;
use crate::ops::lstm::Weights;
use crate::ops::recurrent::{self, Recurrent};
use crate::ops::shards::Sizes;
use crate::pool::Spare;

impl Lowering<'_, '_> {
    /// A recurrent layer, with the layers under it that serve it alone; those are skipped at their own turn.
    pub(super) fn recurrent(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let graph = self.context.graph;
        if self.layer(node)?.is_some()
            && let Some(above) = only_user(graph, id)
            && self.layer(above)?.is_some()
        {
            return Ok(());
        }
        let mut layers = Vec::new();
        let mut bottom = node;
        while let Some(layer) = self.layer(bottom)? {
            layers.insert(0, layer);
            let below = bottom.inputs[0].node;
            match cell(&graph.nodes[below.0 as usize].op) {
                Some(_) if self.wire(bottom.inputs[0]).is_err() => bottom = &graph.nodes[below.0 as usize],
                _ => break,
            }
        }
        let x = self.of(bottom.inputs[0])?;
        let path = self.context.path;
        let (weights, inputs) = match (layers.is_empty(), cell(&node.op)) {
            (true, Some(cell)) => {
                let hidden = self.of(node.inputs[2])?[0];
                (recurrent::Weights::Given { path, cell, features: x[2], hidden }, node.inputs.as_slice())
            }
            _ => (recurrent::Weights::Fixed(Stack { path, layers }), &bottom.inputs[..1]),
        };
        let op = Recurrent {
            pool: self.context.pool.clone(),
            batch: x[0],
            steps: x[1],
            weights,
            windows: Mutex::default(),
            spare: Spare::default(),
        };
        self.fuse_on(id, node, inputs, Arc::new(op))
    }

    /// The layer of a recurrent node whose weights never change, packed.
    fn layer(&mut self, node: &Node) -> TractResult<Option<Arc<Layer>>> {
        let Some(cell) = cell(&node.op) else { return Ok(None) };
        let key = node.inputs[1..].to_vec();
        if let Some(layer) = self.context.packs.layers.get(&key) {
            return Ok(Some(layer.clone()));
        }
        let mut values = Vec::new();
        for &value in &key {
            match self.constant(value)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        let slices = values.iter().map(|v| plain(v)).collect::<TractResult<Vec<_>>>()?;
        let [w, u, biases @ ..] = slices.as_slice() else { bail!("a recurrent op has weights") };
        let (features, hidden) = (self.of(key[0])?[0], self.of(key[1])?[0]);
        let form = (cell, self.context.precision);
        let layer = Arc::new(Layer::new(self.context.path, form, (features, hidden), w, u, biases));
        self.context.packs.layers.insert(key, layer.clone());
        Ok(Some(layer))
    }

    /// x is the first input, U the third.
    pub(super) fn recurrent_sizes(&self, node: &Node) -> TractResult<Sizes> {
        let (x, u) = (self.of(node.inputs[0])?, self.of(node.inputs[2])?);
        Ok(Sizes { batch: x[0], steps: x[1], features: x[2], hidden: u[0] })
    }

    pub(super) fn lstm_weights(&mut self, node: &Node, sizes: Sizes) -> TractResult<Weights> {
        let key = [node.inputs[1], node.inputs[2], node.inputs[3]];
        if let Some(packed) = self.context.packs.lstm.get(&key) {
            return Ok(Weights::Fixed(packed.clone()));
        }
        let [Some(w), Some(u), Some(b)] =
            [self.constant(key[0])?, self.constant(key[1])?, self.constant(key[2])?]
        else {
            return Ok(Weights::Given(Mutex::default()));
        };
        let mut packed = LstmWeights::default();
        let inputs = (sizes.features, sizes.hidden);
        packed.pack(self.context.path, inputs, plain(&w)?, plain(&u)?, plain(&b)?);
        let packed = Arc::new(packed);
        self.context.packs.lstm.insert(key, packed.clone());
        Ok(Weights::Fixed(packed))
    }

    pub(super) fn gru_weights(&mut self, node: &Node, sizes: Sizes) -> TractResult<gru::Weights> {
        let key = [node.inputs[1], node.inputs[2], node.inputs[3], node.inputs[4]];
        if let Some(packed) = self.context.packs.gru.get(&key) {
            return Ok(gru::Weights::Fixed(packed.clone()));
        }
        let mut constants = Vec::new();
        for value in key {
            constants.extend(self.constant(value)?);
        }
        let [w, u, b, c] = constants.as_slice() else {
            return Ok(gru::Weights::Given(Mutex::default()));
        };
        let mut packed = GruWeights::default();
        let inputs = (sizes.features, sizes.hidden);
        packed.pack(self.context.path, inputs, [plain(w)?, plain(u)?, plain(b)?, plain(c)?]);
        let packed = Arc::new(packed);
        self.context.packs.gru.insert(key, packed.clone());
        Ok(gru::Weights::Fixed(packed))
    }
}

/// What recurrence the op is, in the form for inference.
fn cell(op: &Op) -> Option<Cell> {
    match op {
        Op::Lstm { .. } => Some(Cell::Lstm),
        Op::Gru { .. } => Some(Cell::Gru),
        _ => None,
    }
}

/// The recurrent node that alone reads this node's only output, as its x.
fn only_user(graph: &Graph, id: NodeId) -> Option<&Node> {
    let value = Value { node: id, slot: 0 };
    let told = graph.outputs.iter().any(|(_, output)| *output == value)
        || graph.updates.iter().any(|update| update.value == value);
    let mut users = graph.nodes.iter().filter(|node| node.inputs.contains(&value));
    let user = users.next().filter(|_| !told && users.next().is_none())?;
    let alone = user.inputs[1..].iter().all(|input| *input != value);
    (user.inputs[0] == value && alone && cell(&user.op).is_some()).then_some(user)
}
