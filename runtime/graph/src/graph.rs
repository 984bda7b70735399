//! The graph: nodes in topological order, named outputs, states and what replaces them.

use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// One output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub node: NodeId,
    pub slot: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<Value>,
    /// The shape of each output, by the op's shape rule.
    pub shapes: Vec<Shape>,
    /// Where it came from ("lstm.0"), for errors and profiles.
    pub scope: String,
}

/// How a state starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Initial {
    Zeros,
    /// Uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).
    Glorot,
    /// Uniform in ±√(6 / fan_in) (He et al. 2015): for layers before a ReLU.
    He,
    /// Normal with mean 0 and this standard deviation.
    Normal {
        deviation: f32,
    },
    /// Uniform in ±1/√n.
    UniformRoot {
        n: usize,
    },
    Constant(f32),
    /// Zero, but one in the second quarter: an LSTM's bias with the forget gate open (Jozefowicz 2015).
    LstmBias,
    Given(Tensor),
}

/// A parameter, an optimiser moment or a counter: its node is `Op::State` of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpec {
    pub name: String,
    pub node: NodeId,
    pub initial: Initial,
    /// Parameters are trained and exported; the rest belongs to the optimiser.
    pub trainable: bool,
}

/// After a run, state `state` holds `value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub state: String,
    pub value: Value,
}

/// Nodes refer only to earlier nodes. Build one with [`Builder`](crate::Builder); whoever made it,
/// [`verify`](crate::verify::verify) checks it before anything runs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub states: Vec<StateSpec>,
    pub outputs: Vec<(String, Value)>,
    pub updates: Vec<Update>,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn shape(&self, value: Value) -> &Shape {
        &self.node(value.node).shapes[value.slot as usize]
    }

    /// The inputs in the order of their nodes: the order in which [`Plan::run`](crate::Plan::run) takes them.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, NodeId, &Shape)> {
        self.nodes.iter().enumerate().filter_map(|(i, node)| match &node.op {
            Op::Input { name } => Some((name.as_str(), NodeId(i as u32), &node.shapes[0])),
            _ => None,
        })
    }

    pub fn output(&self, name: &str) -> Option<Value> {
        self.outputs.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
    }

    pub fn state(&self, name: &str) -> Option<&StateSpec> {
        self.states.iter().find(|s| s.name == name)
    }
}
