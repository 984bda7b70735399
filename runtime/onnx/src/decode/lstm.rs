//! ONNX's LSTM.

use graph::{BinaryOp, CodecError, Dim, Op, Value};

use super::Decoder;
use super::call::Call;
use super::entry::Entry;
use super::recurrent::Form;
use crate::gates;

const FORM: Form = Form {
    inputs_max: 8,
    attributes: &[
        "hidden_size",
        "direction",
        "layout",
        "activations",
        "activation_alpha",
        "activation_beta",
        "clip",
        "input_forget",
    ],
    activations: &["Sigmoid", "Tanh", "Tanh"],
    initial: &[5, 6],
};

impl Decoder {
    /// Y and Y_h.
    pub fn lstm(&mut self, call: &Call) -> Result<Vec<Entry>, CodecError> {
        let batch_first = self.check_form(call, &FORM)?;
        if call.int("input_forget")?.unwrap_or(0) != 0 {
            return Err(call.unsupported("it couples the input and forget gates"));
        }
        if call.input(7).is_some() {
            return Err(call.unsupported("it has peephole weights"));
        }
        let [x, w, u] = self.products(call, &gates::LSTM, batch_first)?;
        let b = self.lstm_bias(call, u)?;
        self.layer(call, |keep| Op::Lstm { keep }, &[x, w, u, b], batch_first)
    }

    /// b of ours: `[4H]`, the sum of the two biases.
    fn lstm_bias(&mut self, call: &Call, u: Value) -> Result<Value, CodecError> {
        let width = self.gates_width(call, u)?;
        match call.input(3) {
            None => self.zeros(call, Dim::Fixed(width)),
            Some(name) if self.own_weights.contains(name) => self.float(call, 3),
            Some(_) => {
                let halves = self.bias_halves(call, width)?;
                let sum = self.push(call, Op::Binary(BinaryOp::Add), &halves)?;
                self.reorder(call, &gates::LSTM, sum)
            }
        }
    }
}
