//! ONNX's LSTM with one forward direction, zero initial state and the default activations.

use std::collections::HashMap;

use graph::{BinaryOp, CodecError, Dim, Keep, Op, Shape, Tensor, Value};

use super::call::Call;
use super::entry::{Entry, View};
use super::{Decoder, is_standard};
use crate::gates::{self, ONNX_BY_OURS};
use crate::proto::GraphProto;

const ATTRIBUTES: [&str; 8] = [
    "hidden_size",
    "direction",
    "layout",
    "activations",
    "activation_alpha",
    "activation_beta",
    "clip",
    "input_forget",
];

/// Initialisers that only LSTMs read, always as the same one of the inputs W (1), R (2) and B (3).
pub fn own_weights(graph: &GraphProto) -> HashMap<String, usize> {
    let mut places: HashMap<&str, Option<usize>> = HashMap::new();
    for node in &graph.node {
        let is_lstm = node.op_type == "LSTM" && is_standard(&node.domain);
        for (place, name) in node.input.iter().enumerate() {
            let place = Some(place).filter(|p| is_lstm && (1..=3).contains(p));
            let known = places.entry(name.as_str()).or_insert(place);
            if *known != place {
                *known = None;
            }
        }
    }
    for output in &graph.output {
        places.insert(&output.name, None);
    }
    let initializers = graph.initializer.iter();
    let own = initializers.filter_map(|t| Some((t.name.clone(), (*places.get(t.name.as_str())?)?)));
    own.collect()
}

/// The initialiser in our layout; `place` is the LSTM's input that it is.
pub fn own_weight(place: usize, value: Tensor) -> Result<Tensor, String> {
    let dims = value.dims().to_vec();
    let (dims, data) = match (place, &dims[..]) {
        (1 | 2, &[1, gates, rows]) if gates % 4 == 0 && gates > 0 && rows > 0 => {
            (vec![rows, gates], gates::matrix_from_onnx(value.data(), rows))
        }
        (3, &[1, biases]) if biases % 8 == 0 && biases > 0 => {
            (vec![biases / 2], gates::bias_from_onnx(value.data()))
        }
        (1 | 2, &[2, ..]) | (3, &[2, _]) => return Err("an LSTM with two directions is not supported".into()),
        _ => return Err(format!("{dims:?} is no shape for an LSTM's weight")),
    };
    Tensor::new(dims, data).map_err(|e| e.to_string())
}

impl Decoder {
    /// Y and Y_h.
    pub fn lstm(&mut self, call: &Call) -> Result<Vec<Entry>, CodecError> {
        let batch_first = self.check_lstm(call)?;
        let x = self.view(call, 0)?;
        if x.rank() != 3 {
            return Err(call.malformed(format!("its input has {} axes, not 3", x.rank())));
        }
        let x = if batch_first { x } else { x.permuted(&[1, 0, 2]) };
        let x = self.value(call, &x)?;
        let w = self.matrix(call, 1)?;
        let u = self.matrix(call, 2)?;
        let b = self.bias(call, self.builder.shape(u).dims()[0])?;
        if let Some(size) = call.int("hidden_size")?
            && usize::try_from(size).ok().map(Dim::Fixed) != Some(self.builder.shape(u).dims()[0])
        {
            return Err(call.malformed(format!("hidden_size {size} is not that of its weights")));
        }
        let wants_sequence = call.output(0).is_some_and(|name| self.used.contains(name));
        let keep = if wants_sequence { Keep::Sequence } else { Keep::Last };
        let h = self.push(call, Op::Lstm { keep }, &[x, w, u, b])?;
        self.lstm_outputs(call, h, wants_sequence, batch_first)
    }

    /// Refuses what our op doesn't do; gives whether the batch is the first axis.
    fn check_lstm(&mut self, call: &Call) -> Result<bool, CodecError> {
        call.check(8, &ATTRIBUTES)?;
        if let Some(direction) = call.string("direction").filter(|&d| d != "forward") {
            return Err(call.unsupported(format!("direction {direction:?}; only forward is read")));
        }
        let standard = |names: Vec<&str>| names == ["Sigmoid", "Tanh", "Tanh"];
        if call.strings("activations").is_some_and(|names| !names.is_empty() && !standard(names)) {
            return Err(call.unsupported("its activations are not Sigmoid, Tanh, Tanh"));
        }
        if call.float("clip")?.is_some() {
            return Err(call.unsupported("it clips its cells"));
        }
        if call.int("input_forget")?.unwrap_or(0) != 0 {
            return Err(call.unsupported("it couples the input and forget gates"));
        }
        if call.input(4).is_some() {
            return Err(call.unsupported("it has sequence lengths; all windows must be of the same length"));
        }
        for index in [5, 6] {
            if call.input(index).is_some() {
                let initial = self.view(call, index)?.inner;
                if !self.is_zero(initial) {
                    return Err(call.unsupported("its initial state is not a constant zero"));
                }
            }
        }
        if call.input(7).is_some() {
            return Err(call.unsupported("it has peephole weights"));
        }
        match call.int("layout")?.unwrap_or(0) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(call.malformed(format!("layout {other}"))),
        }
    }

    /// Y is `[T, 1, B, H]` and Y_h `[1, B, H]`; batch first, `[B, T, 1, H]` and `[B, 1, H]`.
    fn lstm_outputs(
        &mut self,
        call: &Call,
        h: Value,
        is_sequence: bool,
        batch_first: bool,
    ) -> Result<Vec<Entry>, CodecError> {
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

    /// W or U of ours: `[rows, 4H]`.
    fn matrix(&mut self, call: &Call, index: usize) -> Result<Value, CodecError> {
        if call.input(index).is_some_and(|name| self.own_weights.contains_key(name)) {
            return self.float(call, index);
        }
        let value = self.float(call, index)?;
        let shape = match self.builder.shape(value).to_fixed().as_deref() {
            Some(&[1, gates, rows]) if gates % 4 == 0 => Shape::fixed(&[gates, rows]),
            Some([2, ..]) => return Err(call.unsupported("it has two directions")),
            _ => return Err(call.malformed(format!("input {index} is not [1, 4H, …]"))),
        };
        let matrix = self.push(call, Op::Reshape { shape }, &[value])?;
        let ordered = self.reorder(call, matrix)?;
        self.push(call, Op::Transpose { axes: vec![1, 0] }, &[ordered])
    }

    /// b of ours: `[4H]`.
    fn bias(&mut self, call: &Call, hidden: Dim) -> Result<Value, CodecError> {
        let gates = hidden.fixed().and_then(|h| h.checked_mul(4));
        let Some(gates) = gates else { return Err(call.malformed("R is not [1, 4H, H]")) };
        match call.input(3) {
            None => return self.zeros(call, Dim::Fixed(gates)),
            Some(name) if self.own_weights.contains_key(name) => return self.float(call, 3),
            Some(_) => {}
        }
        let value = self.float(call, 3)?;
        let both = match self.builder.shape(value).to_fixed().as_deref() {
            Some(&[1, length]) if Some(length) == gates.checked_mul(2) => Shape::fixed(&[length]),
            _ => return Err(call.malformed("B is not [1, 8H]")),
        };
        let both = self.push(call, Op::Reshape { shape: both }, &[value])?;
        let input = self.push(call, Op::Slice { axis: 0, start: 0, end: gates }, &[both])?;
        let recurrent = self.push(call, Op::Slice { axis: 0, start: gates, end: 2 * gates }, &[both])?;
        let sum = self.push(call, Op::Binary(BinaryOp::Add), &[input, recurrent])?;
        self.reorder(call, sum)
    }

    /// The gates along axis 0, a multiple of 4, in our order.
    fn reorder(&mut self, call: &Call, value: Value) -> Result<Value, CodecError> {
        let hidden = self.builder.shape(value).dims()[0].fixed().unwrap_or_default() / 4;
        let mut parts = Vec::new();
        for gate in ONNX_BY_OURS {
            let op = Op::Slice { axis: 0, start: gate * hidden, end: (gate + 1) * hidden };
            parts.push(self.push(call, op, &[value])?);
        }
        self.push(call, Op::Concat { axis: 0 }, &parts)
    }
}
