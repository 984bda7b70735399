//! A graph as the steps of one window, if it is of the kind that gains by it: row-wise ops around attention.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use graph::{BinaryOp, Dim, Graph, Node, NodeId, Op, Value};

use super::memory::{Home, View};
use super::step::{INPUTS_MAX, Operand, Product, Step, Work};
use super::{ENDS_MAX, Phase, Program, places};
use crate::isa::Path;
use crate::kernel::attention::Heads;
use crate::kernel::panels::{Panels, Strides};
use crate::ops::matmul::MatMul;
use crate::ops::plain_kernel;
use crate::pool::{Pool, Spare};

/// The program of a graph whose states have these values, or `None` where it is better computed node by node.
pub(crate) fn build(path: Path, graph: &Graph, states: &[&[f32]]) -> Option<Program> {
    let attends = graph.nodes.iter().any(|node| matches!(node.op, Op::Attention { .. }));
    if !attends || graph.inputs().count() > ENDS_MAX || graph.outputs.len() > ENDS_MAX {
        return None;
    }
    let mut build = Build {
        path,
        graph,
        states,
        held: HashMap::new(),
        absorbed: HashSet::new(),
        lengths: Vec::new(),
        steps: Vec::new(),
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        build.node(NodeId(id as u32), node)?;
    }
    for (index, (_, value)) in graph.outputs.iter().enumerate() {
        let input = build.view(*value)?;
        let output = View::whole(Home::Output(index), input.rows, input.width);
        build.steps.push(Step { output, work: Work::Copy { input } });
    }
    let phases = phases(&build.steps);
    let (places, len) = places::assign(&build.steps, &phases, &build.lengths);
    Some(Program { path, steps: build.steps, phases, places, len })
}

/// Steps in a row that share their rows, cut where one reads what others' rows of the phase give.
fn phases(steps: &[Step]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut written: HashSet<usize> = HashSet::new();
    for (index, step) in steps.iter().enumerate() {
        let mut needs_others = false;
        step.views(|view, own_rows| {
            if let Home::Buffer(buffer) = view.home {
                let shifted = view.offset + view.width > view.stride;
                needs_others |= (!own_rows || shifted) && written.contains(&buffer);
            }
        });
        let rows = step.rows();
        match phases.last_mut() {
            Some(phase) if phase.rows == rows && (!needs_others || rows == 1) => phase.steps.end = index + 1,
            _ => {
                written.clear();
                phases.push(Phase { rows, steps: index..index + 1 });
            }
        }
        if let Home::Buffer(buffer) = step.output.home {
            written.insert(buffer);
        }
    }
    phases
}

/// A value of the graph.
#[derive(Clone)]
enum Held {
    /// Another for each window, row-major but for the stride of its rows.
    View(View),
    /// The same for all windows.
    Fixed(Arc<[f32]>),
}

struct Build<'a> {
    path: Path,
    graph: &'a Graph,
    states: &'a [&'a [f32]],
    held: HashMap<Value, Held>,
    /// Nodes that an earlier step has already done.
    absorbed: HashSet<NodeId>,
    /// Of each buffer.
    lengths: Vec<usize>,
    steps: Vec<Step>,
}

impl Build<'_> {
    fn node(&mut self, id: NodeId, node: &Node) -> Option<()> {
        if self.absorbed.contains(&id) {
            return Some(());
        }
        let value = Value { node: id, slot: 0 };
        let windowed = self.is_windowed(value)?;
        let held = match &node.op {
            Op::Input { name } => {
                let index = self.graph.inputs().position(|(input, _, _)| input == name)?;
                let (rows, width) = self.matrix(value)?;
                windowed.then(|| Held::View(View::whole(Home::Input(index), rows, width)))?
            }
            Op::State { name } => {
                let index = self.graph.states.iter().position(|state| state.name == *name)?;
                Held::Fixed(self.states[index].into())
            }
            Op::Constant(tensor) => Held::Fixed(tensor.data().into()),
            _ if !windowed => self.fixed(node)?,
            Op::Unary(op) => {
                let input = self.view(node.inputs[0])?;
                self.rows_step(value, Work::Unary { op: *op, input })?
            }
            Op::Binary(op) => self.binary(value, node, *op)?,
            Op::Reshape { .. } => Held::View(self.reshaped(node.inputs[0], value)?),
            Op::Slice { axis, start, end } => self.slice(value, node, (*axis, *start, *end))?,
            Op::MatMul { transpose_a, transpose_b } => {
                return self.matmul(id, node, *transpose_a, *transpose_b);
            }
            Op::LayerNorm { epsilon } => {
                let (gamma, beta) = (self.constant(node.inputs[1])?, self.constant(node.inputs[2])?);
                let input = self.view(node.inputs[0])?;
                self.rows_step(value, Work::Norm { input, epsilon: *epsilon, gamma, beta })?
            }
            Op::Attention { heads, causal } => self.attention(value, node, *heads, *causal)?,
            Op::Select
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. } => self.whole(value, node)?,
            Op::Dropout { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::LayerNormBackward { .. }
            | Op::Lstm { .. }
            | Op::LstmForward
            | Op::LstmBackward
            | Op::Gru { .. }
            | Op::GruForward
            | Op::GruBackward
            | Op::Conv1d { .. }
            | Op::Conv1dBackward { .. }
            | Op::AttentionForward { .. }
            | Op::AttentionBackward { .. }
            | Op::AdamW { .. } => return None,
        };
        self.held.insert(value, held);
        Some(())
    }

    /// The dimensions for one window.
    fn dims(&self, value: Value) -> Option<Vec<usize>> {
        self.graph.shape(value).at(1)
    }

    /// Rows, and the numbers of each: its last dimension.
    fn matrix(&self, value: Value) -> Option<(usize, usize)> {
        let dims = self.dims(value)?;
        let (width, rows) = dims.split_last().unwrap_or((&1, &[]));
        Some((rows.iter().product(), *width))
    }

    /// Whether it has another value for each window; `None` where windows aren't one after the other.
    fn is_windowed(&self, value: Value) -> Option<bool> {
        let dims = self.graph.shape(value).dims();
        match dims.split_first() {
            Some((Dim::Batch(_), rest)) => {
                rest.iter().all(|dim| matches!(dim, Dim::Fixed(_))).then_some(true)
            }
            _ => (!self.graph.shape(value).depends_on_batch()).then_some(false),
        }
    }

    fn view(&self, value: Value) -> Option<View> {
        match self.held.get(&value)? {
            Held::View(view) => Some(*view),
            Held::Fixed(_) => None,
        }
    }

    fn constant(&self, value: Value) -> Option<Arc<[f32]>> {
        match self.held.get(&value)? {
            Held::Fixed(data) => Some(data.clone()),
            Held::View(_) => None,
        }
    }

    fn buffer(&mut self, rows: usize, width: usize) -> Option<View> {
        self.lengths.push(rows.checked_mul(width)?);
        Some(View::whole(Home::Buffer(self.lengths.len() - 1), rows, width))
    }

    fn rows_step(&mut self, value: Value, work: Work) -> Option<Held> {
        let (rows, width) = self.matrix(value)?;
        let output = self.buffer(rows, width)?;
        self.steps.push(Step { output, work });
        Some(Held::View(output))
    }

    /// The view, or a copy of it without gaps.
    fn contiguous(&mut self, view: View) -> Option<View> {
        if view.is_contiguous() {
            return Some(view);
        }
        let output = self.buffer(view.rows, view.width)?;
        self.steps.push(Step { output, work: Work::Copy { input: view } });
        Some(output)
    }

    fn reshaped(&mut self, from: Value, to: Value) -> Option<View> {
        let (rows, width) = self.matrix(to)?;
        let view = self.view(from)?;
        if view.width == width {
            return Some(view);
        }
        let view = self.contiguous(view)?;
        Some(View { rows, width, stride: width, ..view })
    }

    /// Columns, or rows of a window that is one matrix.
    fn slice(
        &mut self,
        value: Value,
        node: &Node,
        (axis, start, end): (usize, usize, usize),
    ) -> Option<Held> {
        let dims = self.dims(node.inputs[0])?;
        let view = self.view(node.inputs[0])?;
        let last = dims.len() - 1;
        if axis == 0 {
            return None;
        }
        if axis == last {
            return Some(Held::View(View { offset: view.offset + start, width: end - start, ..view }));
        }
        if axis + 1 == last && dims[..axis].iter().product::<usize>() == 1 {
            let offset = view.offset + start * view.stride;
            return Some(Held::View(View { offset, rows: end - start, ..view }));
        }
        self.whole(value, node)
    }

    fn binary(&mut self, value: Value, node: &Node, op: BinaryOp) -> Option<Held> {
        let operands = (self.operand(node.inputs[0], value), self.operand(node.inputs[1], value));
        match operands {
            (Some(a), Some(b)) => self.rows_step(value, Work::Binary { op, a, b }),
            _ => self.whole(value, node),
        }
    }

    /// A value that goes row by row beside `of`; `None` where it doesn't.
    fn operand(&self, value: Value, of: Value) -> Option<Operand> {
        let (rows, width) = self.matrix(of)?;
        match self.held.get(&value)? {
            Held::View(view) => {
                (self.graph.shape(value) == self.graph.shape(of)).then_some(Operand::View(*view))
            }
            Held::Fixed(data) if data.len() == 1 => Some(Operand::Scalar(data[0])),
            Held::Fixed(data) => {
                let dims = self.dims(value)?;
                let last = *dims.last()?;
                if last == width && data.len() == width {
                    return Some(Operand::Row(data.clone()));
                }
                let of_dims = self.dims(of)?;
                let same = dims.iter().rev().zip(of_dims.iter().rev()).all(|(a, b)| a == b);
                (same && data.len() == rows * width).then(|| Operand::Rows(data.clone()))
            }
        }
    }

    fn attention(&mut self, value: Value, node: &Node, heads: usize, causal: bool) -> Option<Held> {
        let [queries, keys, values] = [0, 1, 2].map(|i| self.view(node.inputs[i]));
        let (queries, keys, mut values) = (queries?, keys?, values?);
        let heads = Heads { heads, width: queries.width / heads, keys: keys.rows, causal };
        let packed = self.buffer(1, heads.packed_len(self.path))?;
        self.steps.push(Step { output: packed, work: Work::Keys { heads, keys } });
        if !heads.is_even(self.path) && !matches!(values.home, Home::Buffer(_)) {
            let copy = self.buffer(values.rows, values.width)?;
            self.steps.push(Step { output: copy, work: Work::Copy { input: values } });
            values = copy;
        }
        self.rows_step(value, Work::Attend { heads, queries, keys: packed, values })
    }

    /// Weights go row by row, with what follows them; other products are done as a whole.
    fn matmul(&mut self, id: NodeId, node: &Node, transpose_a: bool, transpose_b: bool) -> Option<()> {
        let value = Value { node: id, slot: 0 };
        let right_dims = self.dims(node.inputs[1])?;
        let weights = self.constant(node.inputs[1]).filter(|_| right_dims.len() == 2 && !transpose_a);
        let Some(weights) = weights else {
            let held = self.product_of_both(value, node, transpose_a, transpose_b)?;
            self.held.insert(value, held);
            return Some(());
        };
        let (depth, columns, strides) = match transpose_b {
            true => (right_dims[1], right_dims[0], Strides { row: 1, column: right_dims[1] }),
            false => (right_dims[0], right_dims[1], Strides { row: right_dims[1], column: 1 }),
        };
        let mut packed = Panels::default();
        packed.pack(self.path, depth, columns, &weights, strides);
        let input = self.view(node.inputs[0])?;
        let mut product = Product { input, weights: Arc::new(packed), bias: None, then: None, add: None };
        let last = self.absorb(value, &mut product);
        let held = self.rows_step(value, Work::Product(product))?;
        self.held.insert(last, held);
        Some(())
    }

    /// Takes in the bias, the activation and the sum that follow the product and alone read it; gives the last one's
    /// value.
    fn absorb(&mut self, value: Value, product: &mut Product) -> Value {
        let mut last = value;
        while let Some((user, node)) = self.only_user(last) {
            match &node.op {
                Op::Binary(BinaryOp::Add) if product.add.is_none() => {
                    let next = Value { node: user, slot: 0 };
                    let other = if node.inputs[0] == last { node.inputs[1] } else { node.inputs[0] };
                    let same = self.graph.shape(next) == self.graph.shape(value);
                    match self.operand(other, next).filter(|_| same && other != last) {
                        Some(Operand::Row(bias)) if product.bias.is_none() && product.then.is_none() => {
                            product.bias = Some(bias);
                        }
                        Some(add) => product.add = Some(add),
                        None => break,
                    }
                }
                Op::Unary(op) if product.then.is_none() && product.add.is_none() => product.then = Some(*op),
                _ => break,
            }
            self.absorbed.insert(user);
            last = Value { node: user, slot: 0 };
        }
        last
    }

    /// The node that alone reads this value, once or twice.
    fn only_user(&self, value: Value) -> Option<(NodeId, &Node)> {
        if self.graph.outputs.iter().any(|(_, output)| *output == value) {
            return None;
        }
        let reads = |(_, node): &(usize, &Node)| node.inputs.contains(&value);
        let mut users = self.graph.nodes.iter().enumerate().filter(reads);
        let (id, node) = users.next()?;
        users.next().is_none().then_some((NodeId(id as u32), node))
    }

    fn product_of_both(
        &mut self,
        value: Value,
        node: &Node,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Option<Held> {
        let (a, b, y) = (self.dims(node.inputs[0])?, self.dims(node.inputs[1])?, self.dims(value)?);
        let rank = self.graph.shape(value).rank();
        // A matrix whose rows are the windows' is no product of one window alone.
        if a.len() < 3 && transpose_a || b.len() != 2 && (rank < 3 || self.constant(node.inputs[0]).is_some())
        {
            return None;
        }
        if b.len() == 2 && self.constant(node.inputs[1]).is_none() {
            return None;
        }
        let (lead, last) = y.split_at(y.len() - 2);
        let kernel = MatMul {
            path: self.path,
            pool: Pool::alone(),
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
            parts: Mutex::default(),
            spare: Spare::default(),
        };
        self.whole_step(value, node, Arc::new(kernel))
    }

    /// An op that mixes rows, but never windows.
    fn whole(&mut self, value: Value, node: &Node) -> Option<Held> {
        let first = |value: &Value| self.graph.shape(*value).dims().first().copied();
        let alone = match &node.op {
            Op::Reduce { axes, .. } => !axes.contains(&0),
            Op::Transpose { axes } => axes[0] == 0,
            Op::Softmax { axis } | Op::LogSoftmax { axis } => *axis != 0,
            // What has a row for each window must have it at the same axis.
            _ => node.inputs.iter().all(|input| {
                let same_rank = self.graph.shape(*input).rank() == self.graph.shape(value).rank();
                matches!(self.held.get(input), Some(Held::Fixed(_)))
                    || same_rank && first(input) == first(&value)
            }),
        };
        let inputs = node.inputs.iter().map(|input| self.dims(*input)).collect::<Option<Vec<_>>>()?;
        let kernel = plain_kernel(self.path, &Pool::alone(), &node.op, &inputs, &self.dims(value)?)
            .filter(|_| alone)?;
        self.whole_step(value, node, kernel)
    }

    fn whole_step(
        &mut self,
        value: Value,
        node: &Node,
        kernel: Arc<dyn crate::ops::fused::Kernel>,
    ) -> Option<Held> {
        let mut inputs = Vec::new();
        for input in &node.inputs {
            inputs.push(match self.held.get(input)?.clone() {
                Held::View(view) => Operand::View(self.contiguous(view)?),
                Held::Fixed(data) => Operand::Rows(data),
            });
        }
        (inputs.len() <= INPUTS_MAX).then_some(())?;
        self.rows_step(value, Work::Whole { kernel, inputs })
    }

    /// A value that is the same for all windows, computed now.
    fn fixed(&self, node: &Node) -> Option<Held> {
        let inputs = node.inputs.iter().map(|&input| self.constant(input)).collect::<Option<Vec<_>>>()?;
        if let Op::Reshape { .. } = node.op {
            return Some(Held::Fixed(inputs[0].clone()));
        }
        let [shape] = node.shapes.as_slice() else { return None };
        let output = shape.to_fixed()?;
        let dims = node.inputs.iter().map(|&input| self.dims(input)).collect::<Option<Vec<_>>>()?;
        if let Op::Slice { axis, start, end } = node.op {
            return Some(Held::Fixed(part(&inputs[0], &dims[0], axis, start, end)));
        }
        let kernel = plain_kernel(self.path, &Pool::alone(), &node.op, &dims, &output)?;
        let slices: Vec<&[f32]> = inputs.iter().map(|input| &**input).collect();
        let mut y = vec![0.0; output.iter().product()];
        kernel.run(&slices, &mut [&mut y]);
        Some(Held::Fixed(y.into()))
    }
}

/// Elements `start..end` of an axis.
fn part(x: &[f32], dims: &[usize], axis: usize, start: usize, end: usize) -> Arc<[f32]> {
    let inner: usize = dims[axis + 1..].iter().product();
    x.chunks(dims[axis] * inner).flat_map(|block| &block[start * inner..end * inner]).copied().collect()
}
