//! ONNX's GRU whose reset gate multiplies the product with h (`linear_before_reset`), as PyTorch's and cuDNN's.

use graph::{CodecError, Dim, Op, Value};

use super::Decoder;
use super::call::Call;
use super::entry::Entry;
use super::recurrent::Form;
use crate::gates;

const FORM: Form = Form {
    inputs_max: 6,
    attributes: &[
        "hidden_size",
        "direction",
        "layout",
        "activations",
        "activation_alpha",
        "activation_beta",
        "clip",
        "linear_before_reset",
    ],
    activations: &["Sigmoid", "Tanh"],
    initial: &[5],
};

impl Decoder {
    /// Y and Y_h.
    pub fn gru(&mut self, call: &Call) -> Result<Vec<Entry>, CodecError> {
        let batch_first = self.check_form(call, &FORM)?;
        if call.int("linear_before_reset")?.unwrap_or(0) == 0 {
            return Err(call.unsupported(
                "its reset gate multiplies h before the product (linear_before_reset = 0); only \
                 linear_before_reset = 1 is read: export a torch.nn.GRU, or in Keras a GRU with reset_after=True",
            ));
        }
        let [x, w, u] = self.products(call, &gates::GRU, batch_first)?;
        let [b, c] = self.gru_biases(call, u)?;
        self.layer(call, |keep| Op::Gru { keep }, &[x, w, u, b, c], batch_first)
    }

    /// b and c of ours: `[3H]` each.
    fn gru_biases(&mut self, call: &Call, u: Value) -> Result<[Value; 2], CodecError> {
        let width = self.gates_width(call, u)?;
        let Some(name) = call.input(3) else {
            let zeros = self.zeros(call, Dim::Fixed(width))?;
            return Ok([zeros, zeros]);
        };
        if let Some(pair) = self.own_weights.pair(name).cloned() {
            // Also that the node which joins them came before.
            self.view(call, 3)?;
            let [b, c] = pair.map(|name| self.entries.get(&name).cloned());
            return match (b, c) {
                (Some(Entry::Float(b)), Some(Entry::Float(c))) => {
                    Ok([self.value(call, &b)?, self.value(call, &c)?])
                }
                _ => Err(call.malformed("its two biases are no tensors")),
            };
        }
        if self.own_weights.contains(name) {
            let both = self.float(call, 3)?;
            let b = self.push(call, Op::Slice { axis: 0, start: 0, end: width }, &[both])?;
            let c = self.push(call, Op::Slice { axis: 0, start: width, end: 2 * width }, &[both])?;
            return Ok([b, c]);
        }
        let [b, c] = self.bias_halves(call, width)?;
        Ok([self.reorder(call, &gates::GRU, b)?, self.reorder(call, &gates::GRU, c)?])
    }
}
