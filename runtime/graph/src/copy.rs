//! Copies a graph node by node into another, with a map from the old values to the new: the frame of every pass.

use crate::graph::{Graph, Node, NodeId, StateSpec, Update, Value};
use crate::op::Op;
use crate::shape::Shape;

pub(crate) struct Copier<'a> {
    source: &'a Graph,
    target: Graph,
    /// For each node of the source visited so far, where its outputs went. Empty for one that was dropped.
    map: Vec<Vec<Value>>,
}

impl<'a> Copier<'a> {
    /// `source` is verified.
    pub fn new(source: &'a Graph) -> Self {
        Copier { source, target: Graph::default(), map: Vec::with_capacity(source.nodes.len()) }
    }

    /// Where a value of the source went. Its node was visited and not dropped.
    pub fn value(&self, old: Value) -> Value {
        self.map[old.node.0 as usize][old.slot as usize]
    }

    pub fn values(&self, old: &[Value]) -> Vec<Value> {
        old.iter().map(|&value| self.value(value)).collect()
    }

    /// The node of the target that a value of it comes from.
    pub fn target_node(&self, new: Value) -> &Node {
        self.target.node(new.node)
    }

    /// Adds a node to the target without visiting one of the source.
    pub fn push(&mut self, op: Op, inputs: Vec<Value>, shapes: Vec<Shape>, scope: &str) -> Vec<Value> {
        let node = NodeId(self.target.nodes.len() as u32);
        let slots = shapes.len() as u32;
        self.target.nodes.push(Node { op, inputs, shapes, scope: scope.into() });
        (0..slots).map(|slot| Value { node, slot }).collect()
    }

    /// Visits the next node of the source: it stays as it is.
    pub fn keep(&mut self, node: &Node) -> Vec<Value> {
        let inputs = self.values(&node.inputs);
        let outputs = self.push(node.op.clone(), inputs, node.shapes.clone(), &node.scope);
        self.map.push(outputs.clone());
        outputs
    }

    /// Visits the next node of the source: these values of the target stand for its outputs.
    pub fn replace(&mut self, outputs: Vec<Value>) {
        self.map.push(outputs);
    }

    /// Visits the next node of the source: nothing uses it.
    pub fn skip(&mut self) {
        self.map.push(Vec::new());
    }

    /// The new graph. States whose node was dropped go with it.
    pub fn finish(mut self) -> Graph {
        let kept = |state: &&StateSpec| !self.map[state.node.0 as usize].is_empty();
        let states = self.source.states.iter().filter(kept);
        self.target.states = states
            .map(|s| StateSpec { node: self.value(Value { node: s.node, slot: 0 }).node, ..s.clone() })
            .collect();
        self.target.outputs =
            self.source.outputs.iter().map(|(name, value)| (name.clone(), self.value(*value))).collect();
        self.target.updates = self
            .source
            .updates
            .iter()
            .map(|u| Update { state: u.state.clone(), value: self.value(u.value) })
            .collect();
        self.target
    }
}
