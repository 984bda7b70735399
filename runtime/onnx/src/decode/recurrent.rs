//! What the LSTM and the GRU have in common: one forward direction, zero initial state, the default activations.

use std::collections::HashMap;

use graph::{CodecError, Dim, Keep, Op, Shape, Tensor, Value};

use super::call::Call;
use super::conv::reverse_axes;
use super::entry::{Entry, View};
use super::{Decoder, is_standard};
use crate::gates::{self, Gates};
use crate::proto::{self, GraphProto, NodeProto};

/// What of a layer an initialiser is that nothing else reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// W (1) or R (2).
    Matrix(&'static Gates, usize),
    /// An LSTM's B.
    LstmBias,
    /// A GRU's B.
    GruBiases,
    /// One half of a GRU's B.
    GruBias,
    /// A convolution's W.
    Kernel,
}

/// The initialisers that only recurrent layers or convolutions read, always as the same input: states in our layout.
pub struct OwnWeights {
    roles: HashMap<String, Role>,
    /// A GRU's B that is joined from two initialisers that nothing else reads: b and c, as our files have it.
    pairs: HashMap<String, [String; 2]>,
}

impl OwnWeights {
    pub fn find(graph: &GraphProto) -> Self {
        let mut roles: HashMap<&str, Option<Role>> = HashMap::new();
        let mut reads: HashMap<&str, usize> = HashMap::new();
        for node in &graph.node {
            for (place, name) in node.input.iter().enumerate() {
                *reads.entry(name).or_default() += 1;
                let role = role(node, place);
                let known = roles.entry(name.as_str()).or_insert(role);
                if *known != role {
                    *known = None;
                }
            }
        }
        for output in &graph.output {
            roles.insert(&output.name, None);
        }
        let floats = graph.initializer.iter().filter(|t| t.data_type == proto::FLOAT);
        let dims: HashMap<&str, &[i64]> = floats.map(|t| (t.name.as_str(), t.dims.as_slice())).collect();
        let is_half = |name: &str| {
            reads.get(name) == Some(&1) && matches!(dims.get(name), Some(&[1, n]) if *n > 0 && n % 3 == 0)
        };
        let mut own = OwnWeights { roles: HashMap::new(), pairs: HashMap::new() };
        for node in graph.node.iter().filter(|node| joins_columns(node)) {
            let ([b, c], [both]) = (node.input.as_slice(), node.output.as_slice()) else { continue };
            let is_own = |name: &String| roles.get(name.as_str()) == Some(&Some(Role::GruBias));
            if roles.get(both.as_str()) == Some(&Some(Role::GruBiases))
                && [b, c].into_iter().all(|name| is_own(name) && is_half(name))
                && dims.get(b.as_str()) == dims.get(c.as_str())
            {
                own.pairs.insert(both.clone(), [b.clone(), c.clone()]);
                own.roles.extend([b, c].map(|name| (name.clone(), Role::GruBias)));
            }
        }
        for name in graph.initializer.iter().map(|t| t.name.as_str()) {
            if let Some(&Some(role)) = roles.get(name)
                && role != Role::GruBias
            {
                own.roles.insert(name.into(), role);
            }
        }
        own
    }

    pub fn contains(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }

    /// The two initialisers that are joined under this name.
    pub fn pair(&self, name: &str) -> Option<&[String; 2]> {
        self.pairs.get(name)
    }

    /// The initialiser in our layout, where it is one of these.
    pub fn convert(&self, name: &str, value: Tensor) -> Result<Tensor, String> {
        let Some(role) = self.roles.get(name) else { return Ok(value) };
        if let Role::Kernel = role {
            let refused = || format!("{:?} is no shape for a kernel over one axis", value.dims());
            return reverse_axes(&value).ok_or_else(refused);
        }
        let dims = value.dims().to_vec();
        let (dims, data) = match (role, &dims[..]) {
            (Role::Matrix(gates, _), &[1, width, rows]) if width % gates.count() == 0 && width * rows > 0 => {
                (vec![rows, width], gates.matrix_from_onnx(value.data(), rows))
            }
            (Role::LstmBias, &[1, biases]) if biases % 8 == 0 && biases > 0 => {
                (vec![biases / 2], gates::lstm_bias_from_onnx(value.data()))
            }
            (Role::GruBiases, &[1, biases]) if biases % 6 == 0 && biases > 0 => {
                (vec![biases], gates::gru_bias_from_onnx(value.data()))
            }
            (Role::GruBias, &[1, width]) if width % 3 == 0 && width > 0 => {
                (vec![width], gates::GRU.vector_from_onnx(value.data()))
            }
            (Role::Matrix(..), &[2, ..]) | (Role::LstmBias | Role::GruBiases, &[2, _]) => {
                return Err("a recurrent layer with two directions is not supported".into());
            }
            _ => return Err(format!("{dims:?} is no shape for a recurrent layer's weight")),
        };
        Tensor::new(dims, data).map_err(|e| e.to_string())
    }
}

/// As what the node reads this input.
fn role(node: &NodeProto, place: usize) -> Option<Role> {
    if !is_standard(&node.domain) {
        return None;
    }
    match (node.op_type.as_str(), place) {
        ("LSTM", 1 | 2) => Some(Role::Matrix(&gates::LSTM, place)),
        ("LSTM", 3) => Some(Role::LstmBias),
        ("GRU", 1 | 2) => Some(Role::Matrix(&gates::GRU, place)),
        ("GRU", 3) => Some(Role::GruBiases),
        ("Conv", 1) => Some(Role::Kernel),
        _ if joins_columns(node) => Some(Role::GruBias),
        _ => None,
    }
}

/// Whether it is a Concat of two along the second axis.
fn joins_columns(node: &NodeProto) -> bool {
    let axis = match node.attribute.as_slice() {
        [axis] if axis.name == "axis" => axis.i,
        _ => None,
    };
    node.op_type == "Concat" && is_standard(&node.domain) && node.input.len() == 2 && axis == Some(1)
}

/// Which inputs and attributes a layer may have.
pub struct Form {
    pub inputs_max: usize,
    pub attributes: &'static [&'static str],
    pub activations: &'static [&'static str],
    /// The inputs that are initial states.
    pub initial: &'static [usize],
}

impl Decoder {
    /// Refuses what our op doesn't do; gives whether the batch is the first axis.
    pub fn check_form(&mut self, call: &Call, form: &Form) -> Result<bool, CodecError> {
        call.check(form.inputs_max, form.attributes)?;
        if let Some(direction) = call.string("direction").filter(|&d| d != "forward") {
            return Err(call.unsupported(format!("direction {direction:?}; only forward is read")));
        }
        if call.strings("activations").is_some_and(|names| !names.is_empty() && names != form.activations) {
            return Err(call.unsupported(format!("its activations are not {}", form.activations.join(", "))));
        }
        if call.float("clip")?.is_some() {
            return Err(call.unsupported("it clips its cells"));
        }
        if call.input(4).is_some() {
            return Err(call.unsupported("it has sequence lengths; all windows must be of the same length"));
        }
        for &index in form.initial {
            if call.input(index).is_some() {
                let initial = self.view(call, index)?.inner;
                if !self.is_zero(initial) {
                    return Err(call.unsupported("its initial state is not a constant zero"));
                }
            }
        }
        match call.int("layout")?.unwrap_or(0) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(call.malformed(format!("layout {other}"))),
        }
    }

    /// x, W and U of ours: `[B, T, F]`, `[F, GH]` and `[H, GH]`.
    pub fn products(
        &mut self,
        call: &Call,
        gates: &'static Gates,
        batch_first: bool,
    ) -> Result<[Value; 3], CodecError> {
        let x = self.view(call, 0)?;
        if x.rank() != 3 {
            return Err(call.malformed(format!("its input has {} axes, not 3", x.rank())));
        }
        let x = if batch_first { x } else { x.permuted(&[1, 0, 2]) };
        let x = self.value(call, &x)?;
        let w = self.matrix(call, gates, 1)?;
        let u = self.matrix(call, gates, 2)?;
        let hidden = self.builder.shape(u).dims()[0];
        if let Some(size) = call.int("hidden_size")?
            && usize::try_from(size).ok().map(Dim::Fixed) != Some(hidden)
        {
            return Err(call.malformed(format!("hidden_size {size} is not that of its weights")));
        }
        Ok([x, w, u])
    }

    /// Y and Y_h of the op. Y is `[T, 1, B, H]` and Y_h `[1, B, H]`; batch first, `[B, T, 1, H]` and `[B, 1, H]`.
    pub fn layer(
        &mut self,
        call: &Call,
        op: impl Fn(Keep) -> Op,
        inputs: &[Value],
        batch_first: bool,
    ) -> Result<Vec<Entry>, CodecError> {
        let is_sequence = call.output(0).is_some_and(|name| self.used.contains(name));
        let h = self.push(call, op(if is_sequence { Keep::Sequence } else { Keep::Last }), inputs)?;
        let y_axes = if batch_first {
            vec![Some(0), Some(1), None, Some(2)]
        } else {
            vec![Some(1), None, Some(0), Some(2)]
        };
        let wants_last = call.output(1).is_some_and(|name| self.used.contains(name));
        let last = match (is_sequence, wants_last) {
            (false, _) => h,
            (true, true) => self.last_step(call, h)?,
            // Nothing reads it.
            (true, false) => return Ok(vec![Entry::Float(View { inner: h, axes: y_axes })]),
        };
        let last_axes = if batch_first { vec![Some(0), None, Some(1)] } else { vec![None, Some(0), Some(1)] };
        let last = Entry::Float(View { inner: last, axes: last_axes });
        // Without a sequence nothing reads Y, and any entry will do.
        let y = if is_sequence { Entry::Float(View { inner: h, axes: y_axes }) } else { last.clone() };
        Ok(vec![y, last])
    }

    fn last_step(&mut self, call: &Call, sequence: Value) -> Result<Value, CodecError> {
        let dims = self.builder.shape(sequence).dims().to_vec();
        let Some(steps) = dims[1].fixed() else {
            return Err(call.unsupported("its number of steps depends on the batch"));
        };
        let last = self.push(call, Op::Slice { axis: 1, start: steps - 1, end: steps }, &[sequence])?;
        self.push(call, Op::Reshape { shape: Shape::new([dims[0], dims[2]]) }, &[last])
    }

    /// W or U of ours: `[rows, GH]`.
    fn matrix(&mut self, call: &Call, gates: &Gates, index: usize) -> Result<Value, CodecError> {
        if call.input(index).is_some_and(|name| self.own_weights.contains(name)) {
            return self.float(call, index);
        }
        let value = self.float(call, index)?;
        let count = gates.count();
        let shape = match self.builder.shape(value).to_fixed().as_deref() {
            Some(&[1, width, rows]) if width % count == 0 => Shape::fixed(&[width, rows]),
            Some([2, ..]) => return Err(call.unsupported("it has two directions")),
            _ => return Err(call.malformed(format!("input {index} is not [1, {count}H, …]"))),
        };
        let matrix = self.push(call, Op::Reshape { shape }, &[value])?;
        let ordered = self.reorder(call, gates, matrix)?;
        self.push(call, Op::Transpose { axes: vec![1, 0] }, &[ordered])
    }

    /// The halves of a B `[1, 2GH]` that is computed, in ONNX's order; `width` is GH.
    pub fn bias_halves(&mut self, call: &Call, width: usize) -> Result<[Value; 2], CodecError> {
        let value = self.float(call, 3)?;
        let both = match self.builder.shape(value).to_fixed().as_deref() {
            Some(&[1, length]) if Some(length) == width.checked_mul(2) => Shape::fixed(&[length]),
            shape => return Err(call.malformed(format!("B is {shape:?}, not [1, {}]", 2 * width))),
        };
        let both = self.push(call, Op::Reshape { shape: both }, &[value])?;
        let input = self.push(call, Op::Slice { axis: 0, start: 0, end: width }, &[both])?;
        let recurrent = self.push(call, Op::Slice { axis: 0, start: width, end: 2 * width }, &[both])?;
        Ok([input, recurrent])
    }

    /// The gates along axis 0, a multiple of their number, in our order.
    pub fn reorder(&mut self, call: &Call, gates: &Gates, value: Value) -> Result<Value, CodecError> {
        let width = self.builder.shape(value).dims()[0].fixed().unwrap_or_default();
        let hidden = width / gates.count();
        let mut parts = Vec::new();
        for gate in gates.onnx_by_ours {
            let op = Op::Slice { axis: 0, start: gate * hidden, end: (gate + 1) * hidden };
            parts.push(self.push(call, op, &[value])?);
        }
        self.push(call, Op::Concat { axis: 0 }, &parts)
    }

    /// GH, the second axis of U, below half of what can be counted.
    pub fn gates_width(&self, call: &Call, u: Value) -> Result<usize, CodecError> {
        match self.builder.shape(u).dims() {
            &[_, Dim::Fixed(width)] if width <= usize::MAX / 2 => Ok(width),
            _ => Err(call.malformed("R is not [1, GH, H] for its G gates")),
        }
    }
}
