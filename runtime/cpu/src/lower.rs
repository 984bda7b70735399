//! A verified graph at one batch size as a tract model: one arm for each op.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use graph::{BinaryOp, Graph, Node, NodeId, Op, Shape, UnaryOp, Value};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};

use crate::fusion::{Fusion, side_by_side};
use crate::isa::Path;
use crate::kernel::attention::Heads;
use crate::kernel::conv;
use crate::kernel::gru::GruWeights;
use crate::kernel::lstm::LstmWeights;
use crate::kernel::panels::Panels;
use crate::kernel::recurrent::Stack;
use crate::kernel::recurrent::weights::{Cell, Layer};
use crate::ops::adamw::AdamW;
use crate::ops::attention::{Attention, AttentionBackward};
use crate::ops::buffers::Buffers;
use crate::ops::conv::{self as convolutions, Conv1dBackward, Convolutions};
use crate::ops::fused::{Fused, Kernel, plain};
use crate::ops::gru::{self, GruBackward, GruForward};
use crate::ops::join::Join;
use crate::ops::lstm::{LstmBackward, LstmForward, Weights};
use crate::ops::matmul::MatMul;
use crate::ops::normalise::LayerNormBackward;
use crate::ops::plain_kernel;
use crate::ops::recurrent::{self, Recurrent};
use crate::ops::shards::Sizes;
use crate::pool::{Pool, Spare};
use crate::precision::Precision;
use crate::rows::{self, Windows};

/// What every batch size of a plan shares.
pub(crate) struct Context<'a> {
    pub(crate) path: Path,
    pub(crate) precision: Precision,
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) graph: &'a Graph,
    /// The states' values, in the order of `Graph::states`.
    pub(crate) states: &'a [Arc<Tensor>],
    /// Whether the states are built into the model. If not they are its inputs, after the graph's.
    pub(crate) fixed: bool,
    packs: Packs,
    /// The graph as one op over windows, where it is that.
    windows: Option<Arc<rows::Program>>,
    fusion: Fusion,
}

/// A part of a constant up to this size is a constant too: a GRU's biases that a file holds together can be packed
/// before the first run.
const PART_ELEMENTS_MAX: usize = 65_536;

/// Weights packed for one batch size serve the others too.
#[derive(Default)]
struct Packs {
    lstm: HashMap<[Value; 3], Arc<LstmWeights>>,
    gru: HashMap<[Value; 4], Arc<GruWeights>>,
    layers: HashMap<Vec<Value>, Arc<Layer>>,
    right: HashMap<(Value, bool), Arc<Panels>>,
    conv: HashMap<(Vec<Value>, conv::Shape, bool), Arc<conv::Layer>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        (path, precision): (Path, Precision),
        pool: &'a Arc<Pool>,
        graph: &'a Graph,
        states: &'a [Arc<Tensor>],
        fixed: bool,
    ) -> TractResult<Self> {
        let mut windows = None;
        if fixed {
            let values = states.iter().map(|state| plain(state)).collect::<TractResult<Vec<_>>>()?;
            windows = rows::build(path, graph, &values).map(Arc::new);
        }
        Ok(Context {
            path,
            precision,
            pool,
            graph,
            states,
            fixed,
            packs: Packs::default(),
            windows,
            fusion: Fusion::new(graph),
        })
    }

    /// The model's outputs are the graph's, then the updates' values.
    pub(crate) fn lower(&mut self, batch: usize) -> TractResult<TypedModel> {
        let mut lowering = Lowering {
            batch,
            model: TypedModel::default(),
            wires: HashMap::new(),
            buffers: Arc::new(Buffers::default()),
            context: self,
        };
        let graph = lowering.context.graph;
        lowering.sources(graph)?;
        if let Some(program) = lowering.context.windows.clone() {
            lowering.windows(graph, program)?;
            return lowering.model.into_optimized();
        }
        for (id, node) in graph.nodes.iter().enumerate() {
            lowering.node(NodeId(id as u32), node)?;
        }
        lowering.outputs(graph)?;
        lowering.model.into_optimized()
    }
}

struct Lowering<'a, 'b> {
    batch: usize,
    model: TypedModel,
    /// Values as tract outlets. Our kernels read flat slices, so an outlet may have another shape of the same
    /// size: a reshape costs nothing.
    wires: HashMap<Value, OutletId>,
    buffers: Arc<Buffers>,
    context: &'b mut Context<'a>,
}

impl Lowering<'_, '_> {
    /// The model's inputs, in their order.
    fn sources(&mut self, graph: &Graph) -> TractResult<()> {
        for (name, node, shape) in graph.inputs() {
            let dims = self.dims(shape)?;
            let outlet = self.model.add_source(format!("input/{name}"), f32::fact(dims.as_slice()))?;
            self.wires.insert(Value { node, slot: 0 }, outlet);
        }
        for (state, value) in graph.states.iter().zip(self.context.states) {
            let name = format!("state/{}", state.name);
            let outlet = if self.context.fixed {
                self.model.add_const(name, value.clone())?
            } else {
                self.model.add_source(name, f32::fact(value.shape()))?
            };
            self.wires.insert(Value { node: state.node, slot: 0 }, outlet);
        }
        Ok(())
    }

    /// All of the graph as one node.
    fn windows(&mut self, graph: &Graph, program: Arc<rows::Program>) -> TractResult<()> {
        let mut inputs: TVec<OutletId> = tvec![];
        let mut lengths = Vec::new();
        for (_, node, shape) in graph.inputs() {
            inputs.push(self.wire(Value { node, slot: 0 })?);
            lengths.push(self.dims(shape)?.iter().product());
        }
        let shapes =
            graph.outputs.iter().map(|(_, value)| self.of(*value)).collect::<TractResult<Vec<_>>>()?;
        let kernel = Windows::new(program, self.context.pool.clone(), self.batch);
        let op = Fused::new(Arc::new(kernel), lengths, shapes, &self.buffers);
        let outlets = self.model.wire_node("windows", op, &inputs)?;
        self.model.select_output_outlets(&outlets)
    }

    fn outputs(&mut self, graph: &Graph) -> TractResult<()> {
        let mut outlets = Vec::new();
        for (_, value) in &graph.outputs {
            outlets.push(self.wire(*value)?);
        }
        for (index, update) in graph.updates.iter().enumerate() {
            outlets.push(self.shaped(&format!("update/{index}"), update.value)?);
        }
        self.model.select_output_outlets(&outlets)
    }

    fn node(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let name = format!("{}.{}", id.0, node.op.name());
        let path = self.context.path;
        let x = |slot: usize| node.inputs[slot];
        match &node.op {
            // A relu that the convolution before it does in passing.
            Op::Unary(UnaryOp::Relu) if convolution_before(self.context.graph, node).is_some() => Ok(()),
            _ if self.context.fusion.is_absorbed(id) => Ok(()),
            _ if self.context.fusion.is_chain(id) => self.chain(id, node),
            Op::Input { .. } | Op::State { .. } => Ok(()),
            Op::Constant(tensor) => {
                let value = Tensor::from_shape(tensor.dims(), tensor.data())?;
                let outlet = self.model.add_const(name, value)?;
                self.bind(id, &[outlet])
            }
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Dropout { .. }
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::LayerNorm { .. } => {
                let inputs =
                    node.inputs.iter().map(|&value| self.of(value)).collect::<TractResult<Vec<_>>>()?;
                let kernel = plain_kernel(path, &node.op, &inputs, &self.out(node)?);
                self.fuse_on(id, node, &node.inputs, kernel.context("a plain op without a kernel")?)
            }
            Op::Reshape { .. } => {
                let outlet = self.wire(x(0))?;
                self.bind(id, &[outlet])
            }
            Op::Slice { axis, start, end } => {
                let input = self.shaped(&name, x(0))?;
                let small = self.out(node)?.iter().product::<usize>() <= PART_ELEMENTS_MAX;
                if let Some(whole) = self.model.outlet_fact(input)?.konst.clone().filter(|_| small) {
                    let part = self.model.add_const(name, whole.slice(*axis, *start, *end)?)?;
                    return self.bind(id, &[part]);
                }
                self.stock(id, name, Slice::new(*axis, *start, *end), &[input])
            }
            Op::Pad { axis, before, after } => {
                let input = self.shaped(&name, x(0))?;
                let mut pads = vec![(0, 0); node.shapes[0].rank()];
                pads[*axis] = (*before, *after);
                let mode = PadMode::Constant(tensor0(0.0f32).into_arc_tensor());
                self.stock(id, name, Pad { pads, mode }, &[input])
            }
            Op::Concat { axis } => {
                let mut inputs = Vec::new();
                for (index, value) in node.inputs.iter().enumerate() {
                    inputs.push(self.shaped(&format!("{name}.{index}"), *value)?);
                }
                self.stock(id, name, TypedConcat::new(*axis), &inputs)
            }
            Op::MatMul { transpose_a, transpose_b } => self.matmul(id, node, *transpose_a, *transpose_b),
            Op::LayerNormBackward { epsilon } => {
                self.fuse(id, node, LayerNormBackward { path, epsilon: *epsilon })
            }
            Op::Lstm { .. } | Op::Gru { .. } => self.recurrent(id, node),
            Op::LstmForward => {
                let (pool, sizes) = (self.context.pool.clone(), self.recurrent_sizes(node)?);
                let weights = self.lstm_weights(node, sizes)?;
                self.fuse(id, node, LstmForward { path, pool, sizes, weights, spare: Spare::default() })
            }
            Op::LstmBackward => {
                let (pool, sizes) = (self.context.pool.clone(), self.recurrent_sizes(node)?);
                let wants_dx = uses(self.context.graph, Value { node: id, slot: 0 });
                self.fuse(id, node, LstmBackward { path, pool, sizes, wants_dx, buffers: Mutex::default() })
            }
            Op::GruForward => {
                let (pool, sizes) = (self.context.pool.clone(), self.recurrent_sizes(node)?);
                let weights = self.gru_weights(node, sizes)?;
                self.fuse(id, node, GruForward { path, pool, sizes, weights, spare: Spare::default() })
            }
            Op::GruBackward => {
                let (pool, sizes) = (self.context.pool.clone(), self.recurrent_sizes(node)?);
                let wants_dx = uses(self.context.graph, Value { node: id, slot: 0 });
                self.fuse(id, node, GruBackward { path, pool, sizes, wants_dx, buffers: Mutex::default() })
            }
            Op::Conv1d { .. } => self.conv1d(id, node),
            Op::Conv1dBackward { .. } => self.conv1d_backward(id, node),
            Op::Attention { heads, causal } | Op::AttentionForward { heads, causal } => {
                let (pool, sizes) = (self.context.pool.clone(), self.attention_sizes(node, *heads, *causal)?);
                let (queries, heads) = sizes;
                self.fuse(id, node, Attention { path, pool, queries, heads, spare: Spare::default() })
            }
            Op::AttentionBackward { heads, causal } => {
                let (pool, sizes) = (self.context.pool.clone(), self.attention_sizes(node, *heads, *causal)?);
                let (queries, heads) = sizes;
                self.fuse(id, node, AttentionBackward { path, pool, queries, heads, spare: Spare::default() })
            }
            Op::AdamW { beta1, beta2, epsilon, weight_decay } => {
                let (beta1, beta2, epsilon, weight_decay) = (*beta1, *beta2, *epsilon, *weight_decay);
                self.fuse(id, node, AdamW { beta1, beta2, epsilon, weight_decay })
            }
        }
    }

    fn matmul(&mut self, id: NodeId, node: &Node, transpose_a: bool, transpose_b: bool) -> TractResult<()> {
        let (a, b, y) = (self.of(node.inputs[0])?, self.of(node.inputs[1])?, self.out(node)?);
        let (lead, last) = y.split_at(y.len() - 2);
        let mut op = MatMul {
            path: self.context.path,
            pool: self.context.pool.clone(),
            lead: lead.iter().product(),
            rows: last[0],
            depth: a[a.len() - if transpose_a { 2 } else { 1 }],
            columns: last[1],
            transpose_a,
            transpose_b,
            flat: a.len() == 2,
            shared: b.len() == 2,
            fixed: None,
            bias: false,
            packed: Mutex::default(),
            spare: Spare::default(),
        };
        let mut inputs = node.inputs.clone();
        let target = self.context.fusion.bias(id).map_or(id, |(sum, bias)| {
            op.bias = true;
            inputs.push(bias);
            sum
        });
        if let (true, Some(right)) = (op.shared, self.constant(node.inputs[1])?) {
            let key = (node.inputs[1], transpose_b);
            let packed = match self.context.packs.right.get(&key) {
                Some(packed) => packed.clone(),
                None => {
                    let mut packed = Panels::default();
                    packed.pack(op.path, op.depth, op.columns, plain(&right)?, op.right_strides());
                    let packed = Arc::new(packed);
                    self.context.packs.right.insert(key, packed.clone());
                    packed
                }
            };
            op.fixed = Some(packed);
        }
        self.fuse_on(target, node, &inputs, Arc::new(op))
    }

    /// Elementwise ops that end at this node, as one.
    fn chain(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
        let (path, pool) = (self.context.path, self.context.pool.clone());
        let (chain, inputs) = self.context.fusion.chain(self.context.graph, id, path, pool.clone());
        if let Some((inputs, widths)) = side_by_side(self.context.graph, &chain, &inputs) {
            return self.fuse_on(id, node, &inputs, Arc::new(Join { pool, widths }));
        }
        self.fuse_on(id, node, &inputs, Arc::new(chain))
    }

    /// A convolution with the relu after it, and with the convolutions under it that serve it alone; those are
    /// skipped at their own turn.
    fn conv1d(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
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
    fn conv1d_backward(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
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

    /// The queries of one window, and the rest of its sizes.
    fn attention_sizes(&self, node: &Node, heads: usize, causal: bool) -> TractResult<(usize, Heads)> {
        let (q, k) = (self.of(node.inputs[0])?, self.of(node.inputs[1])?);
        Ok((q[1], Heads { heads, width: q[2] / heads, keys: k[1], causal }))
    }

    /// A recurrent layer, with the layers under it that serve it alone; those are skipped at their own turn.
    fn recurrent(&mut self, id: NodeId, node: &Node) -> TractResult<()> {
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
    fn recurrent_sizes(&self, node: &Node) -> TractResult<Sizes> {
        let (x, u) = (self.of(node.inputs[0])?, self.of(node.inputs[2])?);
        Ok(Sizes { batch: x[0], steps: x[1], features: x[2], hidden: u[0] })
    }

    fn lstm_weights(&mut self, node: &Node, sizes: Sizes) -> TractResult<Weights> {
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

    fn gru_weights(&mut self, node: &Node, sizes: Sizes) -> TractResult<gru::Weights> {
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

    /// A node of one of our kernels.
    fn fuse(&mut self, id: NodeId, node: &Node, kernel: impl Kernel) -> TractResult<()> {
        self.fuse_on(id, node, &node.inputs, Arc::new(kernel))
    }

    /// A node of one of our kernels over other inputs than its own.
    fn fuse_on(
        &mut self,
        id: NodeId,
        node: &Node,
        values: &[Value],
        kernel: Arc<dyn Kernel>,
    ) -> TractResult<()> {
        let mut inputs: TVec<OutletId> = tvec![];
        let mut lengths = Vec::new();
        for value in values {
            inputs.push(self.wire(*value)?);
            lengths.push(self.of(*value)?.iter().product());
        }
        let shapes = node.shapes.iter().map(|shape| self.dims(shape)).collect::<TractResult<_>>()?;
        let op = Fused::new(kernel, lengths, shapes, &self.buffers);
        let outlets = self.model.wire_node(format!("{}.{}", id.0, node.op.name()), op, &inputs)?;
        self.bind(id, &outlets)
    }

    /// A node of one of tract's ops.
    fn stock(
        &mut self,
        id: NodeId,
        name: String,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<()> {
        let outlets = self.model.wire_node(name, op, inputs)?;
        self.bind(id, &outlets)
    }

    fn bind(&mut self, id: NodeId, outlets: &[OutletId]) -> TractResult<()> {
        for (slot, outlet) in outlets.iter().enumerate() {
            self.wires.insert(Value { node: id, slot: slot as u32 }, *outlet);
        }
        Ok(())
    }

    fn wire(&self, value: Value) -> TractResult<OutletId> {
        self.wires.get(&value).copied().with_context(|| format!("value {value:?} comes before its node"))
    }

    /// The value's outlet in its own shape, for tract's ops.
    fn shaped(&mut self, name: &str, value: Value) -> TractResult<OutletId> {
        let outlet = self.wire(value)?;
        let want: TVec<TDim> = self.of(value)?.iter().map(|&n| n.to_dim()).collect();
        let have: TVec<TDim> = self.model.outlet_fact(outlet)?.shape.to_tvec();
        if have == want {
            return Ok(outlet);
        }
        let reshape = AxisOp::Reshape(0, have, want);
        Ok(self.model.wire_node(format!("{name}.shape"), reshape, &[outlet])?[0])
    }

    fn constant(&self, value: Value) -> TractResult<Option<Arc<Tensor>>> {
        Ok(self.model.outlet_fact(self.wire(value)?)?.konst.clone())
    }

    fn of(&self, value: Value) -> TractResult<Vec<usize>> {
        self.dims(self.context.graph.shape(value))
    }

    fn out(&self, node: &Node) -> TractResult<Vec<usize>> {
        self.dims(&node.shapes[0])
    }

    fn dims(&self, shape: &Shape) -> TractResult<Vec<usize>> {
        shape.at(self.batch).with_context(|| format!("{shape} overflows at batch {}", self.batch))
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

/// The relu that alone reads this node's only output.
fn relu_after(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let (relu, node) = sole_user(graph, id)?;
    (node.op == Op::Unary(UnaryOp::Relu)).then_some(relu)
}

/// The convolution that does this relu in passing.
fn convolution_before(graph: &Graph, node: &Node) -> Option<NodeId> {
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

fn uses(graph: &Graph, value: Value) -> bool {
    graph.nodes.iter().any(|node| node.inputs.contains(&value))
        || graph.outputs.iter().any(|(_, output)| *output == value)
        || graph.updates.iter().any(|update| update.value == value)
}
