//! Graph → ONNX: names, sources, one pass over the nodes, outputs.

mod nodes;
mod ops;
mod recurrent;
mod sequence;

use std::collections::{HashMap, HashSet};

use graph::{CodecError, Dim, Graph, Initial, NodeId, Op, Shape, StateSpec, Tensor, Value};

use crate::proto::{
    self, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::{IR_VERSION, OPSET, tensor};

/// What the batch dimension is called in the file.
const BATCH: &str = "batch";

/// The file's messages for a verified inference graph.
pub fn encode(graph: &Graph) -> Result<ModelProto, CodecError> {
    if let Some(update) = graph.updates.first() {
        let reason = format!("state {:?} is updated by a run; {INFERENCE_ONLY}", update.state);
        return Err(unsupported("update", reason));
    }
    let mut encoder = Encoder::new(graph)?;
    for id in 0..graph.nodes.len() {
        encoder.node(NodeId(id as u32))?;
    }
    encoder.outputs()?;
    Ok(encoder.model())
}

/// The end of every refusal of a training graph.
const INFERENCE_ONLY: &str = "only inference graphs are written: take what graph::rewrite::inference leaves";

struct Encoder<'g> {
    graph: &'g Graph,
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    initializers: Vec<TensorProto>,
    /// The ONNX name of each value so far.
    names: HashMap<Value, String>,
    /// All names in use; ONNX has one namespace.
    taken: HashSet<String>,
    /// What each value that is an output is to be called.
    output_names: HashMap<Value, String>,
    /// Weights that only recurrent layers or convolutions use, always in the same place: stored in ONNX's layout.
    own_weights: HashMap<NodeId, recurrent::Weight>,
    /// Integer lists written so far.
    integers: HashMap<Vec<i64>, String>,
    /// Causal masks written so far, by their number of places.
    masks: HashMap<usize, String>,
    /// The ONNX name of the value being written, and its node's scope with a slash.
    current: String,
}

impl<'g> Encoder<'g> {
    /// Reserves the names of inputs, states and outputs.
    fn new(graph: &'g Graph) -> Result<Self, CodecError> {
        let mut encoder = Encoder {
            graph,
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            initializers: Vec::new(),
            names: HashMap::new(),
            taken: HashSet::new(),
            output_names: HashMap::new(),
            own_weights: recurrent::own_weights(graph),
            integers: HashMap::new(),
            masks: HashMap::new(),
            current: String::new(),
        };
        for node in &graph.nodes {
            if let Op::Input { name } | Op::State { name } = &node.op {
                encoder.taken.insert(name.clone());
            }
        }
        for (name, value) in &graph.outputs {
            let source = match &graph.node(value.node).op {
                Op::Input { name } | Op::State { name } => Some(name),
                _ => None,
            };
            if source == Some(name) {
                continue;
            }
            if !encoder.taken.insert(name.clone()) {
                let reason = format!(
                    "{name:?} is also an input's or a state's name; ONNX has one namespace: rename one"
                );
                return Err(unsupported("output", reason));
            }
            if source.is_none() {
                encoder.output_names.entry(*value).or_insert_with(|| name.clone());
            }
        }
        Ok(encoder)
    }

    fn node(&mut self, id: NodeId) -> Result<(), CodecError> {
        let node = self.graph.node(id);
        let value = Value { node: id, slot: 0 };
        match &node.op {
            Op::Input { name } => {
                self.names.insert(value, name.clone());
                self.inputs.push(value_info(name, &node.shapes[0]));
                Ok(())
            }
            Op::State { name } => {
                self.names.insert(value, name.clone());
                let Some(state) = self.graph.state(name) else {
                    return Err(unsupported("state", format!("{name:?} has no entry among the states")));
                };
                let initializer = self.initializer(state)?;
                self.initializers.push(initializer);
                Ok(())
            }
            _ => {
                let label = format!("{}_{}", node.op.name(), id.0);
                let label = if node.scope.is_empty() { label } else { format!("{}/{label}", node.scope) };
                let name = match self.output_names.get(&value) {
                    Some(name) => name.clone(),
                    None => self.fresh(&label),
                };
                self.current = label;
                self.op(node, &name)?;
                self.names.insert(value, name);
                Ok(())
            }
        }
    }

    fn initializer(&self, state: &StateSpec) -> Result<TensorProto, CodecError> {
        let Initial::Given(value) = &state.initial else {
            let reason = format!(
                "{:?} has no value yet: give it one (Initial::Given) before it is written",
                state.name
            );
            return Err(unsupported("state", reason));
        };
        Ok(match self.own_weights.get(&state.node) {
            Some(weight) => weight.to_onnx(&state.name, value),
            None => tensor::float_proto(&state.name, value.dims(), value.data()),
        })
    }

    /// Lists the outputs. One that isn't written under its own name yet becomes a copy.
    fn outputs(&mut self) -> Result<(), CodecError> {
        for (name, value) in &self.graph.outputs {
            let written = self.name(*value);
            if written != *name {
                self.current = name.clone();
                self.emit_as("Identity", &[&written], Vec::new(), name);
            }
            self.outputs.push(value_info(name, self.graph.shape(*value)));
        }
        Ok(())
    }

    fn model(self) -> ModelProto {
        ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "AlphaPlus".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: "An AlphaPlus model. All tensors are float32; the dimension `batch` is free.".into(),
            graph: Some(GraphProto {
                node: self.nodes,
                name: "alphaplus".into(),
                initializer: self.initializers,
                doc_string: "Operators are named by their scope in the architecture, a slash, and the op."
                    .into(),
                input: self.inputs,
                output: self.outputs,
            }),
        }
    }

    /// The name of a value written before.
    fn name(&self, value: Value) -> String {
        self.names[&value].clone()
    }

    fn fixed(&self, value: Value) -> Option<Vec<usize>> {
        self.graph.shape(value).to_fixed()
    }

    /// A name that nothing has yet, near to the wish.
    fn fresh(&mut self, wish: &str) -> String {
        let mut name = wish.to_string();
        let mut count = 1;
        while !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{wish}_{count}");
        }
        name
    }

    /// A scalar or a tensor as a Constant node.
    fn constant(&mut self, value: &Tensor, name: &str) {
        let value = tensor::float_proto("", value.dims(), value.data());
        self.emit_as("Constant", &[], vec![nodes::tensor("value", value)], name);
    }
}

fn value_info(name: &str, shape: &Shape) -> ValueInfoProto {
    let dim = shape.dims().iter().map(|dim| DimensionProto {
        value: Some(match dim {
            Dim::Fixed(n) => DimensionValue::Number(*n as i64),
            Dim::Batch(1) => DimensionValue::Symbol(BATCH.into()),
            Dim::Batch(n) => DimensionValue::Symbol(format!("{n}*{BATCH}")),
        }),
    });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor_type = TensorTypeProto { elem_type: proto::FLOAT, shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        doc_string: String::new(),
    }
}

fn unsupported(op: &str, reason: String) -> CodecError {
    CodecError::Unsupported { op: op.into(), reason }
}
