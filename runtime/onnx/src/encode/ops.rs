//! The operator, or the few, for each op.

use graph::{BinaryOp, CodecError, Dim, Node, Op, ReduceOp, Shape, UnaryOp, Value};

use super::nodes::{float, int, ints};
use super::{Encoder, INFERENCE_ONLY, unsupported};
use crate::proto;

impl Encoder<'_> {
    /// Writes the node; its output gets the given name.
    pub fn op(&mut self, node: &Node, output: &str) -> Result<(), CodecError> {
        let names: Vec<String> = node.inputs.iter().map(|&v| self.name(v)).collect();
        let inputs: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
        match &node.op {
            // Written as graph inputs and initialisers before.
            Op::Input { .. } | Op::State { .. } => {}
            Op::Constant(value) => self.constant(value, output),
            Op::Unary(UnaryOp::Square) => self.emit_as("Mul", &[inputs[0], inputs[0]], Vec::new(), output),
            Op::Unary(op) => self.emit_as(unary(*op), &inputs, Vec::new(), output),
            Op::Binary(BinaryOp::Less) => {
                let truth = self.emit("Less", &inputs, Vec::new());
                self.emit_as("Cast", &[&truth], vec![int("to", proto::FLOAT.into())], output);
            }
            Op::Binary(op) => self.emit_as(binary(*op), &inputs, Vec::new(), output),
            Op::Select => {
                let truth = self.emit("Cast", &inputs[..1], vec![int("to", proto::BOOL.into())]);
                self.emit_as("Where", &[&truth, inputs[1], inputs[2]], Vec::new(), output);
            }
            Op::Broadcast { shape } => {
                let target = self.expand_target(&node.op, self.graph.shape(node.inputs[0]), shape)?;
                self.emit_as("Expand", &[inputs[0], &target], Vec::new(), output);
            }
            Op::Reshape { shape } => {
                // At most one dimension depends on the batch, so the runtime can infer it.
                let dims = shape.dims().iter().map(|d| d.fixed().map_or(-1, |n| n as i64));
                let target = self.integers(&dims.collect::<Vec<_>>());
                self.emit_as("Reshape", &[inputs[0], &target], Vec::new(), output);
            }
            Op::Transpose { axes } => self.transpose(inputs[0], axes, output),
            Op::Slice { axis, start, end } => self.slice(inputs[0], *axis, *start..*end, output),
            Op::Pad { axis, before, after } => {
                let pads = self.sizes(&[*before, *after]);
                let axes = self.sizes(&[*axis]);
                self.emit_as("Pad", &[inputs[0], &pads, "", &axes], Vec::new(), output);
            }
            Op::Concat { axis } => self.emit_as("Concat", &inputs, vec![int("axis", *axis as i64)], output),
            Op::MatMul { transpose_a, transpose_b } => {
                let a = self.argument(node.inputs[0], *transpose_a);
                let b = self.argument(node.inputs[1], *transpose_b);
                self.emit_as("MatMul", &[&a, &b], Vec::new(), output);
            }
            Op::Reduce { op, axes, keep } => {
                let axes = self.sizes(axes);
                let keep = int("keepdims", i64::from(*keep));
                self.emit_as(reduce(*op), &[inputs[0], &axes], vec![keep], output);
            }
            Op::Softmax { axis } => self.emit_as("Softmax", &inputs, vec![int("axis", *axis as i64)], output),
            Op::LogSoftmax { axis } => {
                self.emit_as("LogSoftmax", &inputs, vec![int("axis", *axis as i64)], output);
            }
            Op::LayerNorm { epsilon } => {
                let attributes = vec![int("axis", -1), float("epsilon", *epsilon)];
                self.emit_as("LayerNormalization", &inputs, attributes, output);
            }
            Op::Lstm { keep } => self.lstm(node, *keep, output)?,
            Op::Gru { keep } => self.gru(node, *keep, output)?,
            Op::Conv1d { dilation } => self.conv1d(node, *dilation, output)?,
            Op::Attention { heads, causal } => self.attention(node, *heads, *causal, output)?,
            Op::Dropout { .. }
            | Op::LayerNormBackward { .. }
            | Op::LstmForward
            | Op::LstmBackward
            | Op::GruForward
            | Op::GruBackward
            | Op::Conv1dBackward { .. }
            | Op::AttentionForward { .. }
            | Op::AttentionBackward { .. }
            | Op::AdamW { .. } => return Err(unsupported(node.op.name(), INFERENCE_ONLY.into())),
        }
        Ok(())
    }

    pub fn transpose(&mut self, input: &str, axes: &[usize], output: &str) {
        self.emit_as("Transpose", &[input], vec![ints("perm", axes.iter().copied())], output);
    }

    pub fn slice(&mut self, input: &str, axis: usize, range: std::ops::Range<usize>, output: &str) {
        let starts = self.sizes(&[range.start]);
        let ends = self.sizes(&[range.end]);
        let axes = self.sizes(&[axis]);
        self.emit_as("Slice", &[input, &starts, &ends, &axes], Vec::new(), output);
    }

    /// A matrix product's argument, its last two axes swapped where it is stored transposed.
    fn argument(&mut self, value: Value, transposed: bool) -> String {
        let name = self.name(value);
        if !transposed {
            return name;
        }
        let rank = self.graph.shape(value).rank();
        let axes = (0..rank - 2).chain([rank - 1, rank - 2]);
        self.emit("Transpose", &[&name], vec![ints("perm", axes)])
    }

    /// The second input of Expand. A 1 keeps the input's size, which a batch dimension that is there
    /// already needs; one that isn't is computed by the runtime.
    fn expand_target(&mut self, op: &Op, from: &Shape, to: &Shape) -> Result<String, CodecError> {
        let missing = to.rank() - from.rank();
        let is_new = |axis: usize| axis < missing || from.dims()[axis - missing] != to.dims()[axis];
        let new_batch = to.dims().iter().enumerate().find_map(|(axis, dim)| match dim {
            Dim::Batch(factor) if is_new(axis) => Some((axis, *factor)),
            _ => None,
        });
        let sizes: Vec<usize> = to.dims().iter().map(|d| d.fixed().unwrap_or(1)).collect();
        let Some((axis, factor)) = new_batch else {
            return Ok(self.sizes(&sizes));
        };
        let mut parts = vec![self.batch(factor, op)?];
        if axis > 0 {
            parts.insert(0, self.sizes(&sizes[..axis]));
        }
        if axis + 1 < sizes.len() {
            parts.push(self.sizes(&sizes[axis + 1..]));
        }
        let parts: Vec<&str> = parts.iter().map(|s| s.as_str()).collect();
        Ok(self.emit("Concat", &parts, vec![int("axis", 0)]))
    }
}

fn unary(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Neg => "Neg",
        UnaryOp::Abs => "Abs",
        UnaryOp::Sign => "Sign",
        UnaryOp::Square => "Mul",
        UnaryOp::Sqrt => "Sqrt",
        UnaryOp::Reciprocal => "Reciprocal",
        UnaryOp::Exp => "Exp",
        UnaryOp::Log => "Log",
        UnaryOp::Tanh => "Tanh",
        UnaryOp::Sigmoid => "Sigmoid",
        UnaryOp::Relu => "Relu",
        UnaryOp::Gelu => "Gelu",
        UnaryOp::Erf => "Erf",
        UnaryOp::Softplus => "Softplus",
    }
}

fn binary(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "Add",
        BinaryOp::Sub => "Sub",
        BinaryOp::Mul => "Mul",
        BinaryOp::Div => "Div",
        BinaryOp::Max => "Max",
        BinaryOp::Min => "Min",
        BinaryOp::Less => "Less",
    }
}

fn reduce(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "ReduceSum",
        ReduceOp::Mean => "ReduceMean",
        ReduceOp::Max => "ReduceMax",
    }
}
