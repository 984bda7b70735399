//! A model over a window as a model over one row at a time, where it is one: what each node computes at a place
//! of the window is what it computed one row ago at the place after.
//!
//! Nodes that keep the time axis become nodes over one row. A slice or a pad along time only shifts, so a node
//! that reads another at an earlier place reads its past rows: a tap. Zeros of a pad stand for rows before the
//! window, where a longer history would have others; so a value counts only at places that no pad reaches. That
//! covers causal convolutions whose receptive field lies inside the window, and what comes before and after
//! recurrent layers. Recurrent layers start at the window's first row; how to slide them is the executor's part.

use std::collections::HashMap;

use crate::builder::{BuildError, Builder};
use crate::graph::{Graph, Node, NodeId, Value};
use crate::op::{Keep, Op};
use crate::reference;
use crate::rewrite;
use crate::shape::{Dim, Shape};
use crate::tensor::Tensor;

#[cfg(test)]
mod tests;

/// A model split for one row at a time. Its weights are constants.
#[derive(Clone, Debug)]
pub struct Sliding {
    /// The newest row `[B, F]` and one input for each tap → the row that the layers read, or without layers the
    /// prediction; then one output for each tap.
    pub front: Graph,
    pub taps: Vec<Tap>,
    /// Bottom first; each reads the sequence of the one below.
    pub layers: Vec<Layer>,
    /// The last layer's last h `[B, H]` → the prediction. `None` without layers.
    pub head: Option<Graph>,
}

/// Input `1 + i` of the front is output `1 + i` as it was `delay` rows ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Above 0.
    pub delay: usize,
}

/// A recurrent layer: its op, and its weights in the order of the op's inputs after x.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub op: Op,
    pub weights: Vec<Tensor>,
}

/// Splits the graph, whose one input is `[B, window, F]`. States have the values that they start with. An error
/// says what stands in the way; the whole window must then be computed for each row.
pub fn split(graph: &Graph, window: usize) -> Result<Sliding, String> {
    let graph = baked(graph)?;
    let inputs: Vec<_> = graph.inputs().collect();
    let [(_, _, shape)] = inputs.as_slice() else {
        return Err(format!("the graph has {} inputs; a sliding one has one", inputs.len()));
    };
    let [Dim::Batch(1), Dim::Fixed(steps), Dim::Fixed(features)] = *shape.dims() else {
        return Err(format!("the input is {shape}, not [B, {window}, features]"));
    };
    if steps != window {
        return Err(format!("the input has {steps} steps, not {window}"));
    }
    let mut split = Splitter::new(&graph, window, features)?;
    for (index, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(index as u32);
        let part = split.part(node).map_err(|e| format!("node {index}, {}: {e}", node.op.name()))?;
        split.parts.insert(id, part);
    }
    split.finish()
}

/// Only the prediction, its weights as constants.
fn baked(graph: &Graph) -> Result<Graph, String> {
    let mut graph = graph.clone();
    let states = reference::initial_states(&graph, 0);
    for (state, (_, tensor)) in graph.states.iter().zip(states) {
        graph.nodes[state.node.0 as usize].op = Op::Constant(tensor);
    }
    graph.states.clear();
    graph.updates.clear();
    if graph.outputs.len() > 1 {
        graph.outputs.retain(|(name, _)| name == "prediction");
    }
    if graph.outputs.is_empty() {
        return Err("the graph has no output named \"prediction\"".into());
    }
    rewrite::inference(&graph).map_err(|e| e.to_string())
}

/// What a node is to one row.
#[derive(Clone, Debug)]
enum Part {
    Fixed(Tensor),
    /// A row for each place: place i is the front's `value` of the window's row i + `shift`, if i is in
    /// `valid`; without the time axis.
    Rows {
        value: Value,
        shift: isize,
        valid: (isize, isize),
    },
    /// No time axis: the front's value at the newest row.
    Now(Value),
    /// The sequence of the newest layer, of which `from..` is kept.
    Sequence {
        from: usize,
    },
    /// A value of the head.
    Head(Value),
}

struct Splitter<'a> {
    graph: &'a Graph,
    window: usize,
    parts: HashMap<NodeId, Part>,
    front: Builder,
    row: Value,
    /// Sources and delays, with the inputs that stand for them.
    taps: Vec<(Value, usize, Value)>,
    /// What the layers read.
    layers_read: Option<Value>,
    layers: Vec<Layer>,
    head: Builder,
    head_input: Option<Value>,
}

impl<'a> Splitter<'a> {
    fn new(graph: &'a Graph, window: usize, features: usize) -> Result<Self, String> {
        let mut front = Builder::new();
        let row = front.input("row", Shape::batch(&[features])).map_err(text)?;
        Ok(Splitter {
            graph,
            window,
            parts: HashMap::new(),
            front,
            row,
            taps: Vec::new(),
            layers_read: None,
            layers: Vec::new(),
            head: Builder::new(),
            head_input: None,
        })
    }

    fn of(&self, value: Value) -> Result<&Part, String> {
        match self.parts.get(&value.node) {
            Some(part) if value.slot == 0 => Ok(part),
            _ => Err("it reads a further output of a node".into()),
        }
    }

    fn part(&mut self, node: &Node) -> Result<Part, String> {
        match &node.op {
            Op::Input { .. } => {
                return Ok(Part::Rows { value: self.row, shift: 0, valid: (0, self.window as isize - 1) });
            }
            Op::Constant(tensor) => return Ok(Part::Fixed(tensor.clone())),
            _ => {}
        }
        let parts: Vec<Part> =
            node.inputs.iter().map(|&value| self.of(value).cloned()).collect::<Result<_, _>>()?;
        if is_recurrent(&node.op) {
            return self.layer(node, &parts);
        }
        if let Some(Part::Sequence { from }) = parts.first() {
            return self.after_layers(node, *from);
        }
        if parts.iter().any(|part| matches!(part, Part::Head(_))) {
            return self.in_head(node, &parts);
        }
        if parts.iter().any(|part| matches!(part, Part::Rows { .. })) {
            return self.rows(node, &parts);
        }
        if parts.iter().any(|part| matches!(part, Part::Now(_))) {
            return self.now(node, &parts);
        }
        Err("a weight too large to be folded is computed from others".into())
    }

    /// A recurrent layer over rows that all count, or over the sequence of the layer below.
    fn layer(&mut self, node: &Node, parts: &[Part]) -> Result<Part, String> {
        let whole = (0, self.window as isize - 1);
        let steps = self.graph.shape(node.inputs[0]).dims()[1];
        if steps != Dim::Fixed(self.window) {
            return Err(format!("the layer reads {steps} steps, not the window's {}", self.window));
        }
        match &parts[0] {
            Part::Rows { value, shift: 0, valid } if *valid == whole && self.layers.is_empty() => {
                self.layers_read = Some(*value);
            }
            Part::Sequence { from: 0 } if self.layers.last().is_some_and(|l| keeps_all(&l.op)) => {}
            _ => return Err("the layer doesn't read the whole window, or the layer below".into()),
        }
        let weights = parts[1..].iter().map(|part| match part {
            Part::Fixed(tensor) => Ok(tensor.clone()),
            _ => Err("the layer's weights depend on the input".to_string()),
        });
        let layer = Layer { op: node.op.clone(), weights: weights.collect::<Result<_, _>>()? };
        self.layers.push(layer);
        if keeps_all(&node.op) { Ok(Part::Sequence { from: 0 }) } else { self.enter_head(&node.shapes[0]) }
    }

    /// The last step of the layers' sequence is all that the head may read.
    fn after_layers(&mut self, node: &Node, from: usize) -> Result<Part, String> {
        match &node.op {
            Op::Slice { axis: 1, start, end } if from + end == self.window => {
                Ok(Part::Sequence { from: from + start })
            }
            Op::Reshape { shape } if from + 1 == self.window && shape.rank() == 2 => self.enter_head(shape),
            _ => Err("it reads more of a layer's sequence than its last step".into()),
        }
    }

    fn enter_head(&mut self, shape: &Shape) -> Result<Part, String> {
        if self.head_input.is_some() {
            return Err("two layers end the stack".into());
        }
        let input = self.head.input("h", shape.clone()).map_err(text)?;
        self.head_input = Some(input);
        Ok(Part::Head(input))
    }

    fn in_head(&mut self, node: &Node, parts: &[Part]) -> Result<Part, String> {
        let inputs = parts.iter().map(|part| match part {
            Part::Head(value) => Ok(*value),
            Part::Fixed(tensor) => self.head.constant(tensor.clone()).map_err(text),
            _ => Err("it reads rows beside the layers".to_string()),
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        Ok(Part::Head(single(self.head.push(node.op.clone(), &inputs))?))
    }

    fn now(&mut self, node: &Node, parts: &[Part]) -> Result<Part, String> {
        let inputs = parts.iter().map(|part| match part {
            Part::Now(value) => Ok(*value),
            Part::Fixed(tensor) => self.front.constant(tensor.clone()).map_err(text),
            _ => Err("it reads rows beside a value without time".to_string()),
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        Ok(Part::Now(single(self.front.push(node.op.clone(), &inputs))?))
    }

    /// A node over values that have the time axis.
    fn rows(&mut self, node: &Node, parts: &[Part]) -> Result<Part, String> {
        let places = |value: Value| self.graph.shape(value).dims().get(1).and_then(|dim| dim.fixed());
        let len = places(node.inputs[0]).unwrap_or(1);
        if let Part::Rows { value, shift, valid } = parts[0] {
            let moved = |by: usize, sign: isize, len: usize| {
                let by = by as isize * sign;
                let valid = ((valid.0 - by).max(0), (valid.1 - by).min(len as isize - 1));
                Part::Rows { value, shift: shift + by, valid }
            };
            match &node.op {
                Op::Slice { axis: 1, start, end } => return Ok(moved(*start, 1, end - start)),
                Op::Pad { axis: 1, before, after } => return Ok(moved(*before, -1, len + before + after)),
                Op::Reshape { shape }
                    if shape.rank() < 3 || shape.dims()[..2] != [Dim::Batch(1), Dim::Fixed(len)] =>
                {
                    return self.leave_time(node, len, parts);
                }
                _ => {}
            }
        }
        if let Op::Conv1d { dilation } = node.op {
            return self.convolution(dilation, parts);
        }
        let op = over_one_row(&node.op, node.shapes[0].rank())?;
        let shifts = parts.iter().filter_map(|part| match part {
            Part::Rows { shift, .. } => Some(*shift),
            _ => None,
        });
        let out_shift = shifts.max().unwrap_or(0);
        let mut out_valid = (0, self.window as isize);
        let mut inputs = Vec::new();
        for (part, &input) in parts.iter().zip(&node.inputs) {
            inputs.push(match part {
                Part::Rows { value, shift, valid } => {
                    let rank = self.graph.shape(input).rank();
                    if rank != node.shapes[0].rank() && !matches!(node.op, Op::Reshape { .. }) {
                        return Err("operands of different rank".into());
                    }
                    out_valid = (out_valid.0.max(valid.0), out_valid.1.min(valid.1));
                    self.tap(*value, (out_shift - shift) as usize)?
                }
                Part::Fixed(tensor) if matches!(node.op, Op::MatMul { .. } | Op::LayerNorm { .. }) => {
                    self.front.constant(tensor.clone()).map_err(text)?
                }
                Part::Fixed(tensor) => {
                    let tensor = without_time(tensor, node.shapes[0].rank())?;
                    self.front.constant(tensor).map_err(text)?
                }
                _ => return Err("it mixes rows with values that have no time axis".into()),
            });
        }
        let value = single(self.front.push(op, &inputs))?;
        Ok(Part::Rows { value, shift: out_shift, valid: out_valid })
    }

    /// A causal convolution: of the newest row and those that its taps reach, joined, one product.
    fn convolution(&mut self, dilation: usize, parts: &[Part]) -> Result<Part, String> {
        let [Part::Rows { value, shift, valid }, Part::Fixed(w), Part::Fixed(bias)] = parts else {
            return Err("a convolution's weights depend on the input".into());
        };
        let &[taps, features, outputs] = w.dims() else { return Err("w isn't [K, F, O]".into()) };
        let reach = (taps - 1) * dilation;
        let rows = (0..taps).map(|k| self.tap(*value, reach - k * dilation));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let joined = single(self.front.push(Op::Concat { axis: 1 }, &rows))?;
        let w = Tensor::new(vec![taps * features, outputs], w.data().to_vec()).map_err(|e| e.to_string())?;
        let w = self.front.constant(w).map_err(text)?;
        let product = self.front.matmul(joined, w, false, false).map_err(text)?;
        let bias = self.front.constant(bias.clone()).map_err(text)?;
        let value = self.front.add(product, bias).map_err(text)?;
        Ok(Part::Rows { value, shift: *shift, valid: (valid.0 + reach as isize, valid.1) })
    }

    /// A reshape that drops the time axis of one place.
    fn leave_time(&mut self, node: &Node, len: usize, parts: &[Part]) -> Result<Part, String> {
        let (Part::Rows { value, shift, valid }, Op::Reshape { shape }) = (&parts[0], &node.op) else {
            return Err("it mixes places".into());
        };
        if len != 1 || shape.dims().first() != Some(&Dim::Batch(1)) {
            return Err("it mixes places of the window".into());
        }
        if !(valid.0 <= 0 && valid.1 >= 0) {
            return Err("it reads a place that zeros before the window reach".into());
        }
        let delay = self.window as isize - 1 - shift;
        let value = self.tap(*value, delay as usize)?;
        Ok(Part::Now(single(self.front.push(Op::Reshape { shape: shape.clone() }, &[value]))?))
    }

    /// The front's value some rows ago.
    fn tap(&mut self, value: Value, delay: usize) -> Result<Value, String> {
        if delay == 0 {
            return Ok(value);
        }
        if let Some(tap) = self.taps.iter().find(|tap| (tap.0, tap.1) == (value, delay)) {
            return Ok(tap.2);
        }
        let shape = self.front.shape(value).clone();
        let input = self.front.input(&format!("tap{}", self.taps.len()), shape).map_err(text)?;
        self.taps.push((value, delay, input));
        Ok(input)
    }

    fn finish(mut self) -> Result<Sliding, String> {
        let prediction = self.graph.outputs[0].1;
        let head = match self.of(prediction)?.clone() {
            Part::Now(value) if self.layers.is_empty() => {
                self.front.output("prediction", value).map_err(text)?;
                None
            }
            Part::Head(value) => {
                let read = self.layers_read.ok_or("the layers read nothing")?;
                self.front.output("row", read).map_err(text)?;
                self.head.output("prediction", value).map_err(text)?;
                Some(self.head.finish().map_err(|e| e.to_string())?)
            }
            _ => return Err("the prediction has a time axis, or doesn't depend on the input".into()),
        };
        for (index, (source, ..)) in self.taps.iter().enumerate() {
            self.front.output(&format!("tap{index}"), *source).map_err(text)?;
        }
        let front = self.front.finish().map_err(|e| e.to_string())?;
        let taps = self.taps.iter().map(|&(_, delay, _)| Tap { delay }).collect();
        Ok(Sliding { front, taps, layers: self.layers, head })
    }
}

/// The op as it is without the time axis, axis 1 of `rank`.
fn over_one_row(op: &Op, rank: usize) -> Result<Op, String> {
    let mixes = || "it works along time or over the batch".to_string();
    let lower = |axis: usize| if axis < 2 { Err(mixes()) } else { Ok(axis - 1) };
    Ok(match op {
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::LayerNorm { .. } if rank >= 3 => op.clone(),
        Op::MatMul { transpose_a: false, .. } if rank >= 3 => op.clone(),
        Op::Reshape { shape } => {
            let dims = shape.dims();
            Op::Reshape { shape: Shape::new(dims[..1].iter().chain(&dims[2..]).copied()) }
        }
        Op::Transpose { axes } if axes[..2] == [0, 1] => {
            let axes = axes[..1].iter().copied().chain(axes[2..].iter().map(|axis| axis - 1)).collect();
            Op::Transpose { axes }
        }
        Op::Slice { axis, start, end } => Op::Slice { axis: lower(*axis)?, start: *start, end: *end },
        Op::Pad { axis, before, after } => Op::Pad { axis: lower(*axis)?, before: *before, after: *after },
        Op::Concat { axis } => Op::Concat { axis: lower(*axis)? },
        Op::Softmax { axis } => Op::Softmax { axis: lower(*axis)? },
        Op::LogSoftmax { axis } => Op::LogSoftmax { axis: lower(*axis)? },
        Op::Reduce { op, axes, keep } => {
            let axes = axes.iter().map(|&axis| lower(axis)).collect::<Result<_, _>>()?;
            Op::Reduce { op: *op, axes, keep: *keep }
        }
        _ => return Err(mixes()),
    })
}

/// An operand that broadcasts to `rank` axes, as it broadcasts without axis 1.
fn without_time(tensor: &Tensor, rank: usize) -> Result<Tensor, String> {
    let dims = tensor.dims();
    let keep = dims.len().min(rank - 2);
    let (lead, rest) = dims.split_at(dims.len() - keep);
    if lead.iter().any(|&n| n != 1) {
        return Err("a constant differs from place to place".into());
    }
    Tensor::new(rest.to_vec(), tensor.data().to_vec()).map_err(|e| e.to_string())
}

fn is_recurrent(op: &Op) -> bool {
    matches!(op, Op::Lstm { .. } | Op::Gru { .. })
}

fn keeps_all(op: &Op) -> bool {
    matches!(op, Op::Lstm { keep: Keep::Sequence } | Op::Gru { keep: Keep::Sequence })
}

fn single(values: Result<Vec<Value>, BuildError>) -> Result<Value, String> {
    match values.map_err(text)?.as_slice() {
        [value] => Ok(*value),
        values => Err(format!("it has {} outputs", values.len())),
    }
}

fn text(error: BuildError) -> String {
    error.to_string()
}
