//! A verified graph at one batch size as a tract model: one arm for each op, the longer ones in files of their own.

mod convolutions;
mod fused;
mod recurrent;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use graph::{Graph, Node, NodeId, Op, Shape, UnaryOp, Value};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};

use crate::fusion::Fusion;
use crate::isa::Path;
use crate::kernel::attention::Heads;
use crate::kernel::conv;
use crate::kernel::gru::GruWeights;
use crate::kernel::lstm::LstmWeights;
use crate::kernel::panels::Panels;
use crate::kernel::recurrent::weights::Layer;
use crate::ops::adamw::AdamW;
use crate::ops::attention::{Attention, AttentionBackward};
use crate::ops::buffers::Buffers;
use crate::ops::fused::{Fused, Kernel, plain};
use crate::ops::gru::{GruBackward, GruForward};
use crate::ops::lstm::{LstmBackward, LstmForward};
use crate::ops::normalise::LayerNormBackward;
use crate::ops::plain_kernel;
use crate::pool::{Pool, Spare};
use crate::precision::Precision;
use crate::rows::{self, Windows};

use convolutions::convolution_before;
pub(crate) use convolutions::relu_backward;

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
                let kernel = plain_kernel(path, self.context.pool, &node.op, &inputs, &self.out(node)?);
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
                let (pool, epsilon) = (self.context.pool.clone(), *epsilon);
                self.fuse(id, node, LayerNormBackward { path, pool, epsilon, shards: Mutex::default() })
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
                let pool = self.context.pool.clone();
                let (beta1, beta2, epsilon, weight_decay) = (*beta1, *beta2, *epsilon, *weight_decay);
                self.fuse(id, node, AdamW { path, pool, beta1, beta2, epsilon, weight_decay })
            }
        }
    }

    /// The queries of one window, and the rest of its sizes.
    fn attention_sizes(&self, node: &Node, heads: usize, causal: bool) -> TractResult<(usize, Heads)> {
        let (q, k) = (self.of(node.inputs[0])?, self.of(node.inputs[1])?);
        Ok((q[1], Heads { heads, width: q[2] / heads, keys: k[1], causal }))
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

fn uses(graph: &Graph, value: Value) -> bool {
    graph.nodes.iter().any(|node| node.inputs.contains(&value))
        || graph.outputs.iter().any(|(_, output)| *output == value)
        || graph.updates.iter().any(|update| update.value == value)
}
