//! ONNX → graph: inputs, initialisers, one pass over the nodes, outputs.

mod attention;
mod call;
mod constants;
mod conv;
mod elementwise;
mod entry;
mod gru;
mod inputs;
mod integers;
mod layout;
mod lstm;
mod products;
mod recurrent;
mod shapes;

use std::collections::{HashMap, HashSet};

use graph::{Builder, CodecError, Graph, Initial, NodeId, Op, Shape, Tensor, Value};

use crate::proto::{self, GraphProto, ModelProto, TensorProto, ValueInfoProto};
use crate::tensor::{self, Literal};
use crate::{OPSETS_READ, clip, limits};
use call::Call;
use entry::{Entry, View};
use integers::{Integer, Integers};
use recurrent::OwnWeights;

/// The graph that the file holds.
pub fn decode(model: ModelProto) -> Result<Graph, CodecError> {
    check_opset(&model)?;
    let Some(graph) = model.graph else {
        return Err(CodecError::Malformed("it has no graph".into()));
    };
    limits::check_counts(&graph).map_err(CodecError::Malformed)?;
    let mut decoder = Decoder {
        builder: Builder::new(),
        entries: HashMap::new(),
        views: HashMap::new(),
        used: used_names(&graph),
        own_weights: OwnWeights::find(&graph),
        states: HashMap::new(),
        zeros: HashMap::new(),
    };
    let GraphProto { node, initializer, input, output, .. } = graph;
    decoder.inputs(&input, &initializer)?;
    for tensor in initializer {
        decoder.initializer(tensor)?;
    }
    for node in node {
        decoder.node(Call::new(node)?)?;
    }
    decoder.outputs(&output)?;
    let graph = decoder.builder.finish().map_err(CodecError::Invalid)?;
    Ok(attention::recognise(graph))
}

struct Decoder {
    builder: Builder,
    /// What each name of the file stands for.
    entries: HashMap<String, Entry>,
    /// The nodes made for views that aren't plain.
    views: HashMap<View, Value>,
    /// Names that a node or an output reads.
    used: HashSet<String>,
    own_weights: OwnWeights,
    /// Where each state's value stands among the graph's states.
    states: HashMap<NodeId, usize>,
    /// Which constants were found to be all zeros.
    zeros: HashMap<Value, bool>,
}

/// How many Reshape, Expand, Transpose and Slice may stand between a constant and the layer whose initial
/// state it is.
const ZERO_STEPS_MAX: usize = 16;

fn check_opset(model: &ModelProto) -> Result<(), CodecError> {
    let standard = model.opset_import.iter().find(|set| is_standard(&set.domain));
    match standard.map(|set| set.version) {
        Some(version) if OPSETS_READ.contains(&version) => Ok(()),
        Some(version) => Err(CodecError::Unsupported {
            op: "opset".into(),
            reason: format!(
                "the file uses version {version}; export it with one from {} to {}",
                OPSETS_READ.start(),
                OPSETS_READ.end()
            ),
        }),
        None => {
            Err(CodecError::Malformed("it imports no standard operator set; is this an ONNX file?".into()))
        }
    }
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn used_names(graph: &GraphProto) -> HashSet<String> {
    let nodes = graph.node.iter().flat_map(|node| &node.input);
    nodes.chain(graph.output.iter().map(|output| &output.name)).cloned().collect()
}

impl Decoder {
    /// A float initialiser becomes a state, an integer one a list.
    fn initializer(&mut self, mut tensor: TensorProto) -> Result<(), CodecError> {
        let name = std::mem::take(&mut tensor.name);
        let refused = |reason: String| CodecError::Unsupported { op: "initializer".into(), reason };
        let literal = tensor::literal(TensorProto { name: clip(&name), ..tensor })?;
        let entry = match literal {
            Literal::Float(value) => {
                let value = self.own_weights.convert(&name, value);
                let value = value.map_err(|reason| refused(format!("{:?}: {reason}", clip(&name))))?;
                let shape = Shape::fixed(value.dims());
                let state = self.builder.state(&name, shape, Initial::Given(value), true);
                let state = state.map_err(|e| refused(e.to_string()))?;
                self.states.insert(state.node, self.states.len());
                self.entries_view(state)
            }
            _ if self.own_weights.contains(&name) => {
                return Err(refused(format!(
                    "{:?}: a recurrent layer's or a convolution's weight must be float32",
                    clip(&name)
                )));
            }
            literal => self.literal(literal).map_err(refused)?,
        };
        self.bind(name, entry)
    }

    /// An entry for a constant of the file.
    fn literal(&mut self, literal: Literal) -> Result<Entry, String> {
        Ok(match literal {
            Literal::Float(value) => {
                let value = self.builder.constant(value).map_err(|e| e.to_string())?;
                self.entries_view(value)
            }
            Literal::Bool(value) => {
                let value = self.builder.constant(value).map_err(|e| e.to_string())?;
                Entry::Bool { value, exact: true }
            }
            Literal::Integers { scalar, values } => {
                Entry::Integers(Integers { scalar, values: values.into_iter().map(Integer::Fixed).collect() })
            }
        })
    }

    fn node(&mut self, mut call: Call) -> Result<(), CodecError> {
        self.builder.scope(&call.scope());
        let results = self.call(&mut call)?;
        let mut results = results.into_iter();
        for (index, name) in call.take_outputs().into_iter().enumerate() {
            match results.next() {
                _ if name.is_empty() => {}
                Some(entry) => self.bind(name, entry)?,
                None if self.used.contains(&name) => {
                    return Err(call.unsupported(format!("its output {index} is used")));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The outputs of one node.
    fn call(&mut self, call: &mut Call) -> Result<Vec<Entry>, CodecError> {
        let op = call.op().to_string();
        if !is_standard(call.domain()) {
            return Err(call.unsupported(format!("domain {:?} is not the standard one", clip(call.domain()))));
        }
        let entry = match op.as_str() {
            "Constant" => self.constant(call),
            "ConstantOfShape" => self.constant_of_shape(call),
            "Identity" => self.identity(call),
            "Dropout" => self.dropout(call),
            "Cast" => self.cast(call),
            "Where" => self.select(call),
            "Less" => self.less(call, false),
            "Greater" => self.less(call, true),
            "Pow" => self.pow(call),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(call),
            "Max" | "Min" => self.extremum(call),
            "MatMul" => self.matmul(call),
            "Gemm" => self.gemm(call),
            "ReduceSum" | "ReduceMean" | "ReduceMax" => self.reduce(call),
            "Conv" => self.conv(call),
            "GlobalAveragePool" => self.global_average_pool(call),
            "Softmax" | "LogSoftmax" => self.softmax(call),
            "LayerNormalization" => self.layer_norm(call),
            "LSTM" => return self.lstm(call),
            "GRU" => return self.gru(call),
            "Shape" => self.shape_of(call),
            "Reshape" => self.reshape(call),
            "Flatten" => self.flatten(call),
            "Expand" => self.expand(call),
            "Transpose" => self.transpose(call),
            "Squeeze" => self.squeeze(call),
            "Unsqueeze" => self.unsqueeze(call),
            "Slice" => self.slice(call),
            "Split" => return self.split(call),
            "Gather" => self.gather(call),
            "Pad" => self.pad(call),
            // Only a GRU reads it, which takes the two as they are.
            "Concat" if call.output(0).is_some_and(|name| self.own_weights.pair(name).is_some()) => {
                self.entry(call, 0)
            }
            "Concat" => self.concat(call),
            name => match elementwise::unary(name) {
                Some(op) => self.unary(call, op),
                None => Err(call.unsupported("it is outside the subset that is read")),
            },
        };
        Ok(vec![entry?])
    }

    fn outputs(&mut self, outputs: &[ValueInfoProto]) -> Result<(), CodecError> {
        self.builder.scope("");
        for output in outputs {
            let name = clip(&output.name);
            let refused = |reason: String| CodecError::Unsupported { op: "output".into(), reason };
            let Some(entry) = self.entries.get(&output.name).cloned() else {
                return Err(CodecError::Malformed(format!("nothing gives the output {name:?}")));
            };
            let Entry::Float(view) = entry else {
                return Err(refused(format!("{name:?} is not a float32 tensor")));
            };
            let value = self.plain(&view).map_err(refused)?;
            self.builder.output(&output.name, value).map_err(|e| refused(e.to_string()))?;
        }
        Ok(())
    }

    fn bind(&mut self, name: String, entry: Entry) -> Result<(), CodecError> {
        if name.is_empty() {
            return Err(CodecError::Malformed("an input or initialiser has no name".into()));
        }
        match self.entries.insert(name.clone(), entry) {
            None => Ok(()),
            Some(_) => Err(CodecError::Malformed(format!("the name {:?} is given twice", clip(&name)))),
        }
    }

    // -- what ops are made of --

    /// A node of the graph.
    fn push(&mut self, call: &Call, op: Op, inputs: &[Value]) -> Result<Value, CodecError> {
        self.push_plain(op, inputs).map_err(|reason| call.unsupported(reason))
    }

    fn push_plain(&mut self, op: Op, inputs: &[Value]) -> Result<Value, String> {
        let values = self.builder.push(op, inputs).map_err(|e| e.to_string())?;
        values.first().copied().ok_or_else(|| "it gives nothing".to_string())
    }

    fn push_entry(&mut self, call: &Call, op: Op, inputs: &[Value]) -> Result<Entry, CodecError> {
        let value = self.push(call, op, inputs)?;
        Ok(self.entries_view(value))
    }

    fn scalar(&mut self, call: &Call, x: f32) -> Result<Value, CodecError> {
        self.push(call, Op::Constant(Tensor::scalar(x)), &[])
    }

    fn entries_view(&self, value: Value) -> Entry {
        Entry::Float(View::plain(value, self.builder.shape(value).rank()))
    }

    /// The entry of a node's input.
    fn entry(&self, call: &Call, index: usize) -> Result<Entry, CodecError> {
        let Some(name) = call.input(index) else {
            return Err(call.malformed(format!("input {index} is missing")));
        };
        match self.entries.get(name) {
            Some(entry) => Ok(entry.clone()),
            None => Err(call.malformed(format!("it reads {:?}, which nothing before it gives", clip(name)))),
        }
    }

    /// A float input, as it may be permuted.
    fn view(&self, call: &Call, index: usize) -> Result<View, CodecError> {
        match self.entry(call, index)? {
            Entry::Float(view) => Ok(view),
            Entry::Bool { .. } => Err(call.unsupported(format!("input {index} is bool, not float32"))),
            Entry::Integers(_) => Err(call.unsupported(format!("input {index} holds integers, not float32"))),
        }
    }

    /// A float input as a value of the graph.
    fn float(&mut self, call: &Call, index: usize) -> Result<Value, CodecError> {
        let view = self.view(call, index)?;
        self.value(call, &view)
    }

    /// The view as a value of the graph.
    fn value(&mut self, call: &Call, view: &View) -> Result<Value, CodecError> {
        self.plain(view).map_err(|reason| call.unsupported(reason))
    }

    fn plain(&mut self, view: &View) -> Result<Value, String> {
        if view.is_plain(self.builder.shape(view.inner).rank()) {
            return Ok(view.inner);
        }
        if let Some(&value) = self.views.get(view) {
            return Ok(value);
        }
        let order: Vec<usize> = view.axes.iter().copied().flatten().collect();
        let mut value = view.inner;
        if !order.iter().copied().eq(0..order.len()) {
            value = self.push_plain(Op::Transpose { axes: order.clone() }, &[value])?;
        }
        if view.axes.len() != order.len() {
            value = self.push_plain(Op::Reshape { shape: self.shape(view) }, &[value])?;
        }
        self.views.insert(view.clone(), value);
        Ok(value)
    }

    fn shape(&self, view: &View) -> Shape {
        view.shape(self.builder.shape(view.inner))
    }

    /// An integer input.
    fn integers(&self, call: &Call, index: usize) -> Result<Integers, CodecError> {
        match self.entry(call, index)? {
            Entry::Integers(integers) => Ok(integers),
            Entry::Float(_) | Entry::Bool { .. } => Err(call.unsupported(format!(
                "input {index} must be integers that are constant or computed from shapes"
            ))),
        }
    }

    /// A constant integer input; `None` where it is absent.
    fn numbers(&self, call: &Call, index: usize) -> Result<Option<Vec<i64>>, CodecError> {
        if call.input(index).is_none() {
            return Ok(None);
        }
        match self.integers(call, index)?.fixed() {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(call.unsupported(format!("input {index} depends on the batch"))),
        }
    }

    /// The constant behind a value, if it is one.
    fn tensor_of(&self, value: Value) -> Option<&Tensor> {
        let graph = self.builder.graph();
        match &graph.node(value.node).op {
            Op::Constant(tensor) => Some(tensor),
            Op::State { .. } => match &graph.states.get(*self.states.get(&value.node)?)?.initial {
                Initial::Given(tensor) => Some(tensor),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether every element of the value is zero, whatever the inputs are.
    fn is_zero(&mut self, mut value: Value) -> bool {
        for _ in 0..ZERO_STEPS_MAX {
            let node = self.builder.graph().node(value.node);
            match &node.op {
                Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => {
                    value = node.inputs[0];
                }
                _ => break,
            }
        }
        if let Some(&known) = self.zeros.get(&value) {
            return known;
        }
        let zero = self.tensor_of(value).is_some_and(|t| t.data().iter().all(|&x| x == 0.0));
        self.zeros.insert(value, zero);
        zero
    }
}

/// The element type of a graph input or output, when the file states it and it isn't float32.
fn other_type(info: &ValueInfoProto) -> Option<String> {
    let stated = info.r#type.as_ref()?.tensor_type.as_ref()?.elem_type;
    (stated != proto::FLOAT).then(|| tensor::type_name(stated))
}
