//! Builds a graph node by node and checks each at the call, so that an error blames the right line.

use std::collections::HashSet;
use std::fmt;

use crate::cost::Budget;
use crate::graph::{Graph, Initial, Node, NodeId, StateSpec, Update, Value};
use crate::op::{BinaryOp, Keep, Op, ReduceOp, UnaryOp};
use crate::shape::{Dim, Shape};
use crate::shape_rule::{check_shape, shape_rule};
use crate::tensor::Tensor;
use crate::verify::{Limits, VerifyError, check_initial, check_name, find_shape, show, verify};

/// The scalar input that all dropout masks depend on: an integer from 0 to 2²⁴ − 1, new at each step.
pub const DROPOUT_SEED: &str = "dropout_seed";

/// A graph under construction.
#[derive(Clone, Debug)]
pub struct Builder {
    graph: Graph,
    budget: Budget,
    scope: String,
    salt: u32,
    /// Of inputs and states.
    names: HashSet<String>,
}

/// Why a node can't be added.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildError {
    pub op: &'static str,
    pub scope: String,
    pub inputs: Vec<Shape>,
    pub message: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.op)?;
        if !self.scope.is_empty() {
            write!(f, " in {}", self.scope)?;
        }
        if !self.inputs.is_empty() {
            let shapes: Vec<String> = self.inputs.iter().map(|s| s.to_string()).collect();
            write!(f, " of {}", shapes.join(", "))?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for BuildError {}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Builder {
            graph: Graph::default(),
            budget: Budget::new(limits),
            scope: String::new(),
            salt: 0,
            names: HashSet::new(),
        }
    }

    /// Goes on with a graph that exists; its values stay valid. `finish` checks all of it.
    pub fn from_graph(graph: Graph) -> Self {
        Self::from_graph_with_limits(graph, Limits::default())
    }

    /// [`from_graph`](Self::from_graph), within other limits than the default ones.
    pub fn from_graph_with_limits(graph: Graph, limits: Limits) -> Self {
        let mut builder = Self::with_limits(limits);
        for node in &graph.nodes {
            if let Op::Dropout { salt, .. } = node.op {
                builder.salt = builder.salt.max(salt.wrapping_add(1));
            }
            if let Op::Input { name } | Op::State { name } = &node.op {
                builder.names.insert(name.clone());
            }
            let inputs: Option<Vec<&Shape>> = node.inputs.iter().map(|&v| find_shape(&graph, v)).collect();
            if let Some(inputs) = inputs {
                // A node past the limits is counted as none; `finish` reports it.
                let _ = builder.budget.spend(&node.op, &inputs, &node.shapes);
            }
        }
        builder.graph = graph;
        builder
    }

    // -- sources --

    /// A tensor given at each run. Its name is unique among inputs and states.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<Value, BuildError> {
        let op = Op::Input { name: name.into() };
        check_name(name, self.budget.limits()).map_err(|m| self.error(&op, &[], m))?;
        check_shape(&shape).map_err(|m| self.error(&op, &[], m))?;
        self.check_unique(&op, name)?;
        let value = self.append(op, Vec::new(), vec![shape])?;
        self.names.insert(name.into());
        Ok(value)
    }

    /// A tensor that the plan keeps between runs. Its name is unique among inputs and states.
    pub fn state(
        &mut self,
        name: &str,
        shape: Shape,
        initial: Initial,
        trainable: bool,
    ) -> Result<Value, BuildError> {
        let op = Op::State { name: name.into() };
        check_name(name, self.budget.limits()).map_err(|m| self.error(&op, &[], m))?;
        check_shape(&shape).map_err(|m| self.error(&op, &[], m))?;
        check_initial(&initial, &shape).map_err(|m| self.error(&op, &[], m))?;
        self.check_unique(&op, name)?;
        let value = self.append(op, Vec::new(), vec![shape])?;
        self.names.insert(name.into());
        self.graph.states.push(StateSpec { name: name.into(), node: value.node, initial, trainable });
        Ok(value)
    }

    pub fn constant(&mut self, tensor: Tensor) -> Result<Value, BuildError> {
        self.push_one(Op::Constant(tensor), &[])
    }

    /// A constant scalar.
    pub fn scalar(&mut self, x: f32) -> Result<Value, BuildError> {
        self.constant(Tensor::scalar(x))
    }

    // -- elementwise --

    pub fn unary(&mut self, op: UnaryOp, x: Value) -> Result<Value, BuildError> {
        self.push_one(Op::Unary(op), &[x])
    }

    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Result<Value, BuildError> {
        self.push_one(Op::Binary(op), &[a, b])
    }

    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, BuildError> {
        self.binary(BinaryOp::Add, a, b)
    }

    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value, BuildError> {
        self.binary(BinaryOp::Sub, a, b)
    }

    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, BuildError> {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub fn div(&mut self, a: Value, b: Value) -> Result<Value, BuildError> {
        self.binary(BinaryOp::Div, a, b)
    }

    /// `a` where `c` is not 0, else `b`.
    pub fn select(&mut self, c: Value, a: Value, b: Value) -> Result<Value, BuildError> {
        self.push_one(Op::Select, &[c, a, b])
    }

    /// Drops elements at `rate` and scales the others by 1 / (1 − rate). All calls share the scalar
    /// input [`DROPOUT_SEED`], which the first one makes; each gets its own salt.
    pub fn dropout(&mut self, x: Value, rate: f32) -> Result<Value, BuildError> {
        let op = Op::Dropout { rate, salt: self.salt };
        let scalar = Shape::scalar();
        let shape = self.find(x).ok_or_else(|| self.unknown(&op, x))?;
        shape_rule(&op, &[shape, &scalar]).map_err(|m| self.error(&op, &[shape], m))?;
        let existing = self.graph.inputs().find(|(name, ..)| *name == DROPOUT_SEED).map(|(_, node, _)| node);
        let seed = match existing {
            Some(node) => Value { node, slot: 0 },
            None => self.input(DROPOUT_SEED, Shape::scalar())?,
        };
        let value = self.push_one(op, &[x, seed])?;
        self.salt = self.salt.wrapping_add(1);
        Ok(value)
    }

    // -- shape --

    pub fn broadcast(&mut self, x: Value, shape: Shape) -> Result<Value, BuildError> {
        self.push_one(Op::Broadcast { shape }, &[x])
    }

    pub fn reshape(&mut self, x: Value, shape: Shape) -> Result<Value, BuildError> {
        self.push_one(Op::Reshape { shape }, &[x])
    }

    pub fn transpose(&mut self, x: Value, axes: &[usize]) -> Result<Value, BuildError> {
        self.push_one(Op::Transpose { axes: axes.to_vec() }, &[x])
    }

    pub fn slice(&mut self, x: Value, axis: usize, start: usize, end: usize) -> Result<Value, BuildError> {
        self.push_one(Op::Slice { axis, start, end }, &[x])
    }

    pub fn pad(&mut self, x: Value, axis: usize, before: usize, after: usize) -> Result<Value, BuildError> {
        self.push_one(Op::Pad { axis, before, after }, &[x])
    }

    pub fn concat(&mut self, xs: &[Value], axis: usize) -> Result<Value, BuildError> {
        self.push_one(Op::Concat { axis }, xs)
    }

    // -- contractions, reductions, fused --

    pub fn matmul(
        &mut self,
        a: Value,
        b: Value,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<Value, BuildError> {
        self.push_one(Op::MatMul { transpose_a, transpose_b }, &[a, b])
    }

    pub fn reduce(
        &mut self,
        op: ReduceOp,
        x: Value,
        axes: &[usize],
        keep: bool,
    ) -> Result<Value, BuildError> {
        self.push_one(Op::Reduce { op, axes: axes.to_vec(), keep }, &[x])
    }

    pub fn softmax(&mut self, x: Value, axis: usize) -> Result<Value, BuildError> {
        self.push_one(Op::Softmax { axis }, &[x])
    }

    pub fn log_softmax(&mut self, x: Value, axis: usize) -> Result<Value, BuildError> {
        self.push_one(Op::LogSoftmax { axis }, &[x])
    }

    pub fn layer_norm(
        &mut self,
        x: Value,
        gamma: Value,
        beta: Value,
        epsilon: f32,
    ) -> Result<Value, BuildError> {
        self.push_one(Op::LayerNorm { epsilon }, &[x, gamma, beta])
    }

    /// x `[B, T, F]`, w `[F, 4H]`, u `[H, 4H]`, b `[4H]` → `[B, H]` or `[B, T, H]`.
    pub fn lstm(&mut self, x: Value, w: Value, u: Value, b: Value, keep: Keep) -> Result<Value, BuildError> {
        self.push_one(Op::Lstm { keep }, &[x, w, u, b])
    }

    /// x `[B, T, F]`, w `[F, 3H]`, u `[H, 3H]`, b and c `[3H]` → `[B, H]` or `[B, T, H]`.
    pub fn gru(
        &mut self,
        x: Value,
        w: Value,
        u: Value,
        b: Value,
        c: Value,
        keep: Keep,
    ) -> Result<Value, BuildError> {
        self.push_one(Op::Gru { keep }, &[x, w, u, b, c])
    }

    /// x `[B, T, F]`, w `[K, F, O]`, b `[O]` → `[B, T, O]`: a causal convolution over K places, `dilation` apart,
    /// of which the last is the place itself.
    pub fn conv1d(&mut self, x: Value, w: Value, b: Value, dilation: usize) -> Result<Value, BuildError> {
        self.push_one(Op::Conv1d { dilation }, &[x, w, b])
    }

    /// q `[B, T, D]`, k and v `[B, S, D]` → `[B, T, D]`: scaled dot-product attention of so many heads. Causal:
    /// each place sees itself and those before.
    pub fn attention(
        &mut self,
        q: Value,
        k: Value,
        v: Value,
        heads: usize,
        causal: bool,
    ) -> Result<Value, BuildError> {
        self.push_one(Op::Attention { heads, causal }, &[q, k, v])
    }

    /// The weights that [`attention`](Self::attention) gives to the places, `[B, heads, T, S]`, as an output to look
    /// at: softmax(q·kᵀ / √(D/heads)) of each head.
    pub fn attention_weights(
        &mut self,
        q: Value,
        k: Value,
        heads: usize,
        causal: bool,
    ) -> Result<Value, BuildError> {
        let op = Op::Attention { heads, causal };
        let [Some(q_shape), Some(k_shape)] = [self.find(q), self.find(k)] else {
            let unknown = if self.find(q).is_none() { q } else { k };
            return Err(self.unknown(&op, unknown));
        };
        let shapes = [q_shape, k_shape, k_shape];
        shape_rule(&op, &shapes).map_err(|m| self.error(&op, &shapes[..2], m))?;
        let (steps, width) = (q_shape.dims()[1], q_shape.dims()[2].fixed().unwrap_or(heads));
        let by_head = |b: &mut Self, x: Value| {
            let [batch, places] = [b.shape(x).dims()[0], b.shape(x).dims()[1]];
            let split = Shape::new([batch, places, Dim::Fixed(heads), Dim::Fixed(width / heads)]);
            let split = b.reshape(x, split)?;
            b.transpose(split, &[0, 2, 1, 3])
        };
        let (q, k) = (by_head(self, q)?, by_head(self, k)?);
        let scores = self.matmul(q, k, false, true)?;
        let scale = self.scalar(1.0 / ((width / heads) as f32).sqrt())?;
        let mut scores = self.mul(scores, scale)?;
        if let (true, Some(steps)) = (causal, steps.fixed()) {
            let mask = self.constant(Tensor::causal_mask(steps))?;
            scores = self.add(scores, mask)?;
        }
        self.softmax(scores, 3)
    }

    /// Any op but `Input` and `State`. Gives each of its outputs.
    pub fn push(&mut self, op: Op, inputs: &[Value]) -> Result<Vec<Value>, BuildError> {
        let node_inputs_max = self.budget.limits().node_inputs_max;
        if inputs.len() > node_inputs_max {
            return Err(self.error(&op, &[], format!("it has more than {node_inputs_max} inputs")));
        }
        let mut shapes = Vec::with_capacity(inputs.len());
        for &value in inputs {
            shapes.push(self.find(value).ok_or_else(|| self.unknown(&op, value))?);
        }
        let derived = shape_rule(&op, &shapes).map_err(|m| self.error(&op, &shapes, m))?;
        let count = derived.len() as u32;
        let first = self.append(op, inputs.to_vec(), derived)?;
        Ok((0..count).map(|slot| Value { node: first.node, slot }).collect())
    }

    // -- names and the end --

    /// Names what follows, for errors and profiles ("lstm.0"). Empty ends it.
    pub fn scope(&mut self, name: &str) {
        self.scope = name.into();
    }

    /// The name given last to [`scope`](Self::scope).
    pub fn current_scope(&self) -> &str {
        &self.scope
    }

    /// Names a value as an output; outputs keep the order of these calls.
    pub fn output(&mut self, name: &str, value: Value) -> Result<(), BuildError> {
        let error = |inputs: Vec<Shape>, message| BuildError {
            op: "output",
            scope: self.scope.clone(),
            inputs,
            message,
        };
        let Some(shape) = self.find(value) else {
            return Err(error(Vec::new(), format!("{} isn't a value of this graph", show(value))));
        };
        check_name(name, self.budget.limits()).map_err(|m| error(vec![shape.clone()], m))?;
        if self.graph.output(name).is_some() {
            return Err(error(vec![shape.clone()], format!("the name {name:?} is taken")));
        }
        if self.graph.outputs.len() >= self.budget.limits().nodes_max {
            return Err(error(vec![shape.clone()], "the graph has too many outputs".into()));
        }
        self.graph.outputs.push((name.into(), value));
        Ok(())
    }

    /// After each run, `state` holds `value`. `state` is what [`Builder::state`] gave.
    pub fn update(&mut self, state: Value, value: Value) -> Result<(), BuildError> {
        let shapes: Vec<Shape> = [state, value].iter().filter_map(|&v| self.find(v)).cloned().collect();
        let error = |inputs: &[Shape], message: String| BuildError {
            op: "update",
            scope: self.scope.clone(),
            inputs: inputs.to_vec(),
            message,
        };
        let [old, new] = shapes.as_slice() else {
            return Err(error(&shapes, "the state or the value isn't of this graph".into()));
        };
        let Op::State { name } = &self.graph.node(state.node).op else {
            return Err(error(&shapes, format!("{} isn't a state", show(state))));
        };
        if old != new {
            return Err(error(&shapes, format!("state {name:?} has another shape than its new value")));
        }
        if self.graph.updates.iter().any(|u| u.state == *name) {
            return Err(error(&shapes, format!("state {name:?} is already updated")));
        }
        let update = Update { state: name.clone(), value };
        self.graph.updates.push(update);
        Ok(())
    }

    /// The shape of a value of this graph. Panics on a value of another; see [`find`](Self::find).
    pub fn shape(&self, value: Value) -> &Shape {
        self.graph.shape(value)
    }

    /// The shape of a value, or `None` where this graph doesn't have it.
    pub fn find(&self, value: Value) -> Option<&Shape> {
        find_shape(&self.graph, value)
    }

    /// What has been built so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, verified within the builder's limits.
    pub fn finish(self) -> Result<Graph, VerifyError> {
        verify(&self.graph, self.budget.limits())?;
        Ok(self.graph)
    }

    pub(crate) fn push_one(&mut self, op: Op, inputs: &[Value]) -> Result<Value, BuildError> {
        Ok(self.push(op, inputs)?[0])
    }

    fn append(&mut self, op: Op, inputs: Vec<Value>, shapes: Vec<Shape>) -> Result<Value, BuildError> {
        let input_shapes: Vec<&Shape> = inputs.iter().map(|&v| self.graph.shape(v)).collect();
        if self.scope.len() > self.budget.limits().name_bytes_max {
            return Err(self.error(&op, &input_shapes, "the scope's name is too long".into()));
        }
        if let Err(message) = self.budget.spend(&op, &input_shapes, &shapes) {
            return Err(self.error(&op, &input_shapes, message));
        }
        let node = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { op, inputs, shapes, scope: self.scope.clone() });
        Ok(Value { node, slot: 0 })
    }

    fn check_unique(&self, op: &Op, name: &str) -> Result<(), BuildError> {
        if self.names.contains(name) {
            return Err(self.error(op, &[], format!("the name {name:?} is taken by an input or state")));
        }
        Ok(())
    }

    fn unknown(&self, op: &Op, value: Value) -> BuildError {
        self.error(op, &[], format!("input {} isn't a value of this graph", show(value)))
    }

    fn error(&self, op: &Op, inputs: &[&Shape], message: String) -> BuildError {
        BuildError {
            op: op.name(),
            scope: self.scope.chars().take(64).collect(),
            inputs: inputs.iter().take(8).map(|&s| s.clone()).collect(),
            message,
        }
    }
}

#[cfg(test)]
mod tests;
