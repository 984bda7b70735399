//! The LSTM between our `[B, T, F]` and ONNX's `[T, B, F]`, and its weights in ONNX's layout.

use std::collections::HashMap;

use graph::{CodecError, Graph, Keep, Node, NodeId, Op, Tensor, Value};

use super::nodes::{int, ints};
use super::{Encoder, unsupported};
use crate::gates::{self, OURS_BY_ONNX};
use crate::proto::TensorProto;
use crate::tensor::float_proto;

/// Which of an LSTM's weights a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// W or U.
    Matrix,
    Bias,
}

impl Weight {
    /// The initialiser in ONNX's layout.
    pub fn to_onnx(self, name: &str, value: &Tensor) -> TensorProto {
        match (self, value.dims()) {
            (Weight::Matrix, &[rows, columns]) => {
                float_proto(name, &[1, columns, rows], &gates::matrix_to_onnx(value.data(), rows))
            }
            _ => float_proto(name, &[1, 2 * value.data().len()], &gates::bias_to_onnx(value.data())),
        }
    }
}

/// The states that only LSTMs use, always in the same place.
pub fn own_weights(graph: &Graph) -> HashMap<NodeId, Weight> {
    let mut places: HashMap<NodeId, Option<usize>> = HashMap::new();
    for node in &graph.nodes {
        for (place, value) in node.inputs.iter().enumerate() {
            let place = Some(place).filter(|&p| p > 0 && matches!(node.op, Op::Lstm { .. }));
            let known = places.entry(value.node).or_insert(place);
            if *known != place {
                *known = None;
            }
        }
    }
    for (_, value) in &graph.outputs {
        places.insert(value.node, None);
    }
    let states = graph.states.iter().filter_map(|state| match places.get(&state.node) {
        Some(Some(1 | 2)) => Some((state.node, Weight::Matrix)),
        Some(Some(3)) => Some((state.node, Weight::Bias)),
        _ => None,
    });
    states.collect()
}

impl Encoder<'_> {
    pub fn lstm(&mut self, node: &Node, keep: Keep, output: &str) -> Result<(), CodecError> {
        let Some([hidden, _]) = self.fixed(node.inputs[2]).and_then(|dims| <[usize; 2]>::try_from(dims).ok())
        else {
            return Err(unsupported("lstm", "U isn't [H, 4H]".into()));
        };
        let x = self.name(node.inputs[0]);
        let x = self.emit("Transpose", &[&x], vec![ints("perm", [1, 0, 2])]);
        let w = self.matrix(node.inputs[1], hidden);
        let u = self.matrix(node.inputs[2], hidden);
        let b = self.bias(node.inputs[3], hidden);
        let inputs = [x.as_str(), &w, &u, &b];
        let attributes = vec![int("hidden_size", hidden as i64)];
        let result = self.fresh(&format!("{}.LSTM", self.current));
        match keep {
            Keep::Last => {
                self.emit_all("LSTM", &inputs, attributes, &["", &result]);
                let directions = self.sizes(&[0]);
                self.emit_as("Squeeze", &[&result, &directions], Vec::new(), output);
            }
            Keep::Sequence => {
                self.emit_all("LSTM", &inputs, attributes, &[&result]);
                let directions = self.sizes(&[1]);
                let sequence = self.emit("Squeeze", &[&result, &directions], Vec::new());
                self.transpose(&sequence, &[1, 0, 2], output);
            }
        }
        Ok(())
    }

    /// W or U as `[1, 4H, rows]`: stored so, or computed where it isn't the LSTM's own.
    fn matrix(&mut self, value: Value, hidden: usize) -> String {
        let name = self.name(value);
        if self.lstm_weights.contains_key(&value.node) {
            return name;
        }
        let ordered = self.reorder(&name, 1, hidden);
        let transposed = self.emit("Transpose", &[&ordered], vec![ints("perm", [1, 0])]);
        self.one_direction(&transposed)
    }

    /// b as `[1, 8H]`.
    fn bias(&mut self, value: Value, hidden: usize) -> String {
        let name = self.name(value);
        if self.lstm_weights.contains_key(&value.node) {
            return name;
        }
        let ordered = self.reorder(&name, 0, hidden);
        let zeros = self.fresh(&format!("{}.zeros", self.current));
        self.constant(&Tensor::zeros(&[4 * hidden]), &zeros);
        let both = self.emit("Concat", &[&ordered, &zeros], vec![int("axis", 0)]);
        self.one_direction(&both)
    }

    /// The gates along the axis in ONNX's order.
    fn reorder(&mut self, name: &str, axis: usize, hidden: usize) -> String {
        let mut parts = Vec::new();
        for gate in OURS_BY_ONNX {
            let part = self.fresh(&format!("{}.gate", self.current));
            self.slice(name, axis, gate * hidden..(gate + 1) * hidden, &part);
            parts.push(part);
        }
        let parts: Vec<&str> = parts.iter().map(|s| s.as_str()).collect();
        self.emit("Concat", &parts, vec![int("axis", axis as i64)])
    }

    fn one_direction(&mut self, name: &str) -> String {
        let axes = self.sizes(&[0]);
        self.emit("Unsqueeze", &[name, &axes], Vec::new())
    }
}
