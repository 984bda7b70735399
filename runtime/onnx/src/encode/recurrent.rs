//! The LSTM and the GRU between our `[B, T, F]` and ONNX's `[T, B, F]`, and their weights in ONNX's layout.

use std::collections::HashMap;

use graph::{CodecError, Graph, Keep, Node, NodeId, Op, Tensor, Value};

use super::nodes::{int, ints};
use super::{Encoder, unsupported};
use crate::gates::{self, Gates};
use crate::proto::{AttributeProto, TensorProto};
use crate::tensor::float_proto;

/// Which of a recurrent layer's or a convolution's weights a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// W (1) or U (2).
    Matrix(&'static Gates, usize),
    LstmBias,
    /// b or c.
    GruBias,
    /// A convolution's w.
    Kernel,
}

impl Weight {
    /// The initialiser in ONNX's layout.
    pub fn to_onnx(self, name: &str, value: &Tensor) -> TensorProto {
        let data = value.data();
        match (self, value.dims()) {
            (Weight::Matrix(gates, _), &[rows, columns]) => {
                float_proto(name, &[1, columns, rows], &gates.matrix_to_onnx(data, rows))
            }
            (Weight::Kernel, &[taps, features, outputs]) => {
                let at = |o: usize, f: usize, k: usize| data[(k * features + f) * outputs + o];
                let all = (0..outputs * features * taps)
                    .map(|i| at(i / (features * taps), i / taps % features, i % taps));
                float_proto(name, &[outputs, features, taps], &all.collect::<Vec<_>>())
            }
            (Weight::LstmBias, _) => float_proto(name, &[1, 2 * data.len()], &gates::lstm_bias_to_onnx(data)),
            _ => float_proto(name, &[1, data.len()], &gates::GRU.vector_to_onnx(data)),
        }
    }
}

/// The states that only recurrent layers or convolutions use, always in the same place. A GRU's biases, which the file joins, are
/// such only where no other node uses either.
pub fn own_weights(graph: &Graph) -> HashMap<NodeId, Weight> {
    let mut weights: HashMap<NodeId, Option<Weight>> = HashMap::new();
    let mut uses: HashMap<NodeId, usize> = HashMap::new();
    for node in &graph.nodes {
        for (place, value) in node.inputs.iter().enumerate() {
            *uses.entry(value.node).or_default() += 1;
            let weight = weight(&node.op, place);
            let known = weights.entry(value.node).or_insert(weight);
            if *known != weight {
                *known = None;
            }
        }
    }
    for (_, value) in &graph.outputs {
        weights.insert(value.node, None);
    }
    let is_state = |id: NodeId| matches!(graph.node(id).op, Op::State { .. });
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Gru { .. })) {
        let biases = [node.inputs[3].node, node.inputs[4].node];
        let is_own = |id: &NodeId| is_state(*id) && uses[id] == 1 && weights[id] == Some(Weight::GruBias);
        if !biases.iter().all(is_own) {
            weights.extend(biases.map(|id| (id, None)));
        }
    }
    let states = graph.states.iter();
    states.filter_map(|state| Some((state.node, (*weights.get(&state.node)?)?))).collect()
}

fn weight(op: &Op, place: usize) -> Option<Weight> {
    match (op, place) {
        (Op::Lstm { .. }, 1 | 2) => Some(Weight::Matrix(&gates::LSTM, place)),
        (Op::Lstm { .. }, 3) => Some(Weight::LstmBias),
        (Op::Gru { .. }, 1 | 2) => Some(Weight::Matrix(&gates::GRU, place)),
        (Op::Gru { .. }, 3 | 4) => Some(Weight::GruBias),
        (Op::Conv1d { .. }, 1) => Some(Weight::Kernel),
        _ => None,
    }
}

impl Encoder<'_> {
    pub fn lstm(&mut self, node: &Node, keep: Keep, output: &str) -> Result<(), CodecError> {
        let b = self.lstm_bias(node.inputs[3]);
        self.layer("LSTM", &gates::LSTM, (node, keep), &b, Vec::new(), output)
    }

    pub fn gru(&mut self, node: &Node, keep: Keep, output: &str) -> Result<(), CodecError> {
        let b = self.gru_biases(node.inputs[3], node.inputs[4]);
        self.layer("GRU", &gates::GRU, (node, keep), &b, vec![int("linear_before_reset", 1)], output)
    }

    fn layer(
        &mut self,
        op_type: &str,
        gates: &Gates,
        (node, keep): (&Node, Keep),
        bias: &str,
        mut attributes: Vec<AttributeProto>,
        output: &str,
    ) -> Result<(), CodecError> {
        let Some([hidden, _]) = self.fixed(node.inputs[2]).and_then(|dims| <[usize; 2]>::try_from(dims).ok())
        else {
            return Err(unsupported(node.op.name(), "U isn't a matrix".into()));
        };
        let x = self.name(node.inputs[0]);
        let x = self.emit("Transpose", &[&x], vec![ints("perm", [1, 0, 2])]);
        let w = self.matrix(node.inputs[1], gates);
        let u = self.matrix(node.inputs[2], gates);
        let inputs = [x.as_str(), &w, &u, bias];
        attributes.push(int("hidden_size", hidden as i64));
        let result = self.fresh(&format!("{}.{op_type}", self.current));
        match keep {
            Keep::Last => {
                self.emit_all(op_type, &inputs, attributes, &["", &result]);
                let directions = self.sizes(&[0]);
                self.emit_as("Squeeze", &[&result, &directions], Vec::new(), output);
            }
            Keep::Sequence => {
                self.emit_all(op_type, &inputs, attributes, &[&result]);
                let directions = self.sizes(&[1]);
                let sequence = self.emit("Squeeze", &[&result, &directions], Vec::new());
                self.transpose(&sequence, &[1, 0, 2], output);
            }
        }
        Ok(())
    }

    /// W or U as `[1, GH, rows]`: stored so, or computed where it isn't the layer's own.
    fn matrix(&mut self, value: Value, gates: &Gates) -> String {
        let name = self.name(value);
        if self.own_weights.contains_key(&value.node) {
            return name;
        }
        let ordered = self.reorder(value, gates, 1);
        let transposed = self.emit("Transpose", &[&ordered], vec![ints("perm", [1, 0])]);
        self.one_direction(&transposed)
    }

    /// b as `[1, 8H]`.
    fn lstm_bias(&mut self, value: Value) -> String {
        let name = self.name(value);
        if self.own_weights.contains_key(&value.node) {
            return name;
        }
        let ordered = self.reorder(value, &gates::LSTM, 0);
        let zeros = self.fresh(&format!("{}.zeros", self.current));
        let width = self.fixed(value).unwrap_or_default();
        self.constant(&Tensor::zeros(&width), &zeros);
        let both = self.emit("Concat", &[&ordered, &zeros], vec![int("axis", 0)]);
        self.one_direction(&both)
    }

    /// b and c as `[1, 6H]`.
    fn gru_biases(&mut self, b: Value, c: Value) -> String {
        if self.own_weights.contains_key(&b.node) && self.own_weights.contains_key(&c.node) {
            let (b, c) = (self.name(b), self.name(c));
            return self.emit("Concat", &[&b, &c], vec![int("axis", 1)]);
        }
        let halves = [b, c].map(|value| self.reorder(value, &gates::GRU, 0));
        let both = self.emit("Concat", &[&halves[0], &halves[1]], vec![int("axis", 0)]);
        self.one_direction(&both)
    }

    /// The gates along the axis in ONNX's order.
    fn reorder(&mut self, value: Value, gates: &Gates, axis: usize) -> String {
        let name = self.name(value);
        let hidden = self.graph.shape(value).dims()[axis].fixed().unwrap_or_default() / gates.count();
        let mut parts = Vec::new();
        for gate in gates.ours_by_onnx {
            let part = self.fresh(&format!("{}.gate", self.current));
            self.slice(&name, axis, gate * hidden..(gate + 1) * hidden, &part);
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
