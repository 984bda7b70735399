//! The one check that every graph passes, whoever made it: at each boundary and after each pass.

use std::collections::HashSet;
use std::fmt;

use crate::cost::Budget;
use crate::graph::{Graph, Initial, Node, StateSpec, Value};
use crate::op::Op;
use crate::shape::Shape;
use crate::shape_rule::{check_shape, shape_rule};

/// What a graph may cost. Sizes that depend on the batch are counted at `batch`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub nodes_max: usize,
    /// Inputs of one node; only `Concat` has many.
    pub node_inputs_max: usize,
    /// The name of an input, state or output, and a scope.
    pub name_bytes_max: usize,
    /// The batch size at which the rest is counted.
    pub batch: usize,
    /// Elements of one value.
    pub elements_max: usize,
    /// Elements of all values together.
    pub elements_total_max: usize,
    /// Floating-point operations of one run.
    pub flops_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            nodes_max: 65_536,
            node_inputs_max: 4_096,
            name_bytes_max: 256,
            batch: 256,
            elements_max: 1 << 29,
            elements_total_max: 1 << 33,
            flops_max: 1 << 47,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum VerifyError {
    /// A node's inputs, attributes or recorded shapes are wrong.
    Node {
        node: usize,
        op: &'static str,
        scope: String,
        inputs: Vec<Shape>,
        message: String,
    },
    /// Past one of the [`Limits`].
    Limit {
        node: Option<usize>,
        message: String,
    },
    /// A state that doesn't fit its node, or an initial value that doesn't fit the state.
    State {
        name: String,
        message: String,
    },
    Output {
        name: String,
        message: String,
    },
    Update {
        state: String,
        message: String,
    },
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Node { node, op, scope, inputs, message } => {
                write!(f, "node {node}, {op}")?;
                if !scope.is_empty() {
                    write!(f, " in {scope}")?;
                }
                if !inputs.is_empty() {
                    let shapes: Vec<String> = inputs.iter().map(|s| s.to_string()).collect();
                    write!(f, " of {}", shapes.join(", "))?;
                }
                write!(f, ": {message}")
            }
            VerifyError::Limit { node: Some(node), message } => write!(f, "node {node}: {message}"),
            VerifyError::Limit { node: None, message } => write!(f, "{message}"),
            VerifyError::State { name, message } => write!(f, "state {name:?}: {message}"),
            VerifyError::Output { name, message } => write!(f, "output {name:?}: {message}"),
            VerifyError::Update { state, message } => write!(f, "update of {state:?}: {message}"),
        }
    }
}

impl std::error::Error for VerifyError {}

/// Checks the whole graph: order, references, shapes, names, states, outputs, updates and limits.
/// Never panics, whatever the graph holds. After it, [`Graph::node`] and [`Graph::shape`] can't panic either.
pub fn verify(graph: &Graph, limits: &Limits) -> Result<(), VerifyError> {
    check_counts(graph, limits)?;
    let mut budget = Budget::new(limits.clone());
    for (id, node) in graph.nodes.iter().enumerate() {
        check_node(graph, id, node, &mut budget)?;
    }
    check_names(graph)?;
    check_states(graph, limits)?;
    check_outputs(graph, limits)?;
    check_updates(graph)
}

/// What is wrong with a name, if anything.
pub(crate) fn check_name(name: &str, limits: &Limits) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    if name.len() > limits.name_bytes_max {
        return Err(format!("the name has {} bytes; at most {} go", name.len(), limits.name_bytes_max));
    }
    Ok(())
}

/// Whether a state of this shape can start so.
pub(crate) fn check_initial(initial: &Initial, shape: &Shape) -> Result<(), String> {
    let Some(dims) = shape.to_fixed() else {
        return Err(format!("its shape {shape} depends on the batch"));
    };
    match initial {
        Initial::Zeros | Initial::Glorot | Initial::He => Ok(()),
        Initial::Normal { deviation } if deviation.is_finite() && *deviation > 0.0 => Ok(()),
        Initial::Normal { deviation } => {
            Err(format!("the deviation {deviation} of its initial values is not finite and above 0"))
        }
        Initial::UniformRoot { n: 0 } => Err("uniform within 1/√0 is not finite; n must be above 0".into()),
        Initial::UniformRoot { .. } => Ok(()),
        Initial::Constant(x) if x.is_finite() => Ok(()),
        Initial::Constant(x) => Err(format!("the initial value {x} is not finite")),
        Initial::LstmBias if dims.len() == 1 && dims[0] % 4 == 0 => Ok(()),
        Initial::LstmBias => Err(format!("{shape} is not an LSTM's bias [4H]")),
        Initial::Given(tensor) if tensor.dims() == dims => Ok(()),
        Initial::Given(tensor) => {
            Err(format!("the initial value has shape {:?}, not {shape}", tensor.dims()))
        }
    }
}

fn check_counts(graph: &Graph, limits: &Limits) -> Result<(), VerifyError> {
    let counts = [
        ("nodes", graph.nodes.len()),
        ("states", graph.states.len()),
        ("outputs", graph.outputs.len()),
        ("updates", graph.updates.len()),
    ];
    match counts.into_iter().find(|&(_, count)| count > limits.nodes_max) {
        Some((what, count)) => {
            let message = format!("the graph has {count} {what}; at most {} go", limits.nodes_max);
            Err(VerifyError::Limit { node: None, message })
        }
        None => Ok(()),
    }
}

fn check_node(graph: &Graph, id: usize, node: &Node, budget: &mut Budget) -> Result<(), VerifyError> {
    let mut inputs = Vec::new();
    let error = |inputs: &[&Shape], message: String| VerifyError::Node {
        node: id,
        op: node.op.name(),
        scope: node.scope.chars().take(64).collect(),
        inputs: inputs.iter().take(8).map(|&s| s.clone()).collect(),
        message,
    };
    if node.inputs.len() > budget.limits().node_inputs_max {
        let message =
            format!("it has {} inputs; at most {} go", node.inputs.len(), budget.limits().node_inputs_max);
        return Err(VerifyError::Limit { node: Some(id), message });
    }
    for &value in &node.inputs {
        match find_shape(graph, value) {
            Some(shape) if (value.node.0 as usize) < id => inputs.push(shape),
            _ => {
                return Err(error(
                    &inputs,
                    format!("input {} isn't a value of an earlier node", show(value)),
                ));
            }
        }
    }
    if node.scope.len() > budget.limits().name_bytes_max {
        return Err(error(
            &inputs,
            format!("the scope has more than {} bytes", budget.limits().name_bytes_max),
        ));
    }
    check_shapes(node, &inputs, budget.limits()).map_err(|message| error(&inputs, message))?;
    budget
        .spend(&node.op, &inputs, &node.shapes)
        .map_err(|message| VerifyError::Limit { node: Some(id), message })
}

fn check_shapes(node: &Node, inputs: &[&Shape], limits: &Limits) -> Result<(), String> {
    if let Op::Input { name } | Op::State { name } = &node.op {
        check_name(name, limits)?;
        if !inputs.is_empty() {
            return Err(format!("takes 0 inputs, not {}", inputs.len()));
        }
        return match node.shapes.as_slice() {
            [shape] => check_shape(shape),
            shapes => Err(format!("it has one output, not {}", shapes.len())),
        };
    }
    let derived = shape_rule(&node.op, inputs)?;
    if node.shapes != derived {
        return Err("the recorded shapes are not those of its shape rule".into());
    }
    Ok(())
}

fn check_names(graph: &Graph) -> Result<(), VerifyError> {
    let mut seen = HashSet::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Op::Input { name } | Op::State { name } = &node.op
            && !seen.insert(name.as_str())
        {
            return Err(VerifyError::Node {
                node: id,
                op: node.op.name(),
                scope: node.scope.clone(),
                inputs: Vec::new(),
                message: format!("the name {name:?} is taken by an earlier input or state"),
            });
        }
    }
    Ok(())
}

fn check_states(graph: &Graph, limits: &Limits) -> Result<(), VerifyError> {
    let mut seen = HashSet::new();
    for state in &graph.states {
        check_state(graph, state, limits)
            .map_err(|message| VerifyError::State { name: clip(&state.name), message })?;
        if !seen.insert(state.name.as_str()) {
            return Err(VerifyError::State {
                name: state.name.clone(),
                message: "it is listed twice".into(),
            });
        }
    }
    let unlisted = graph.nodes.iter().find_map(|node| match &node.op {
        Op::State { name } if !seen.contains(name.as_str()) => Some(name.clone()),
        _ => None,
    });
    match unlisted {
        Some(name) => {
            Err(VerifyError::State { name, message: "its node has no entry among the states".into() })
        }
        None => Ok(()),
    }
}

fn check_state(graph: &Graph, state: &StateSpec, limits: &Limits) -> Result<(), String> {
    check_name(&state.name, limits)?;
    match graph.nodes.get(state.node.0 as usize) {
        Some(Node { op: Op::State { name }, shapes, .. }) if *name == state.name => {
            check_initial(&state.initial, &shapes[0])
        }
        _ => Err(format!("node {} isn't this state", state.node.0)),
    }
}

fn check_outputs(graph: &Graph, limits: &Limits) -> Result<(), VerifyError> {
    let mut seen = HashSet::new();
    for (name, value) in &graph.outputs {
        let error = |message| VerifyError::Output { name: clip(name), message };
        check_name(name, limits).map_err(error)?;
        if !seen.insert(name.as_str()) {
            return Err(error("the name is taken by an earlier output".into()));
        }
        if find_shape(graph, *value).is_none() {
            return Err(error(format!("{} isn't a value of the graph", show(*value))));
        }
    }
    Ok(())
}

fn check_updates(graph: &Graph) -> Result<(), VerifyError> {
    let states: std::collections::HashMap<&str, &StateSpec> =
        graph.states.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut seen = HashSet::new();
    for update in &graph.updates {
        let error = |message| VerifyError::Update { state: clip(&update.state), message };
        let Some(state) = states.get(update.state.as_str()) else {
            return Err(error("there is no such state".into()));
        };
        if !seen.insert(update.state.as_str()) {
            return Err(error("the state is already updated".into()));
        }
        let shape = &graph.node(state.node).shapes[0];
        match find_shape(graph, update.value) {
            Some(value) if value == shape => {}
            Some(value) => return Err(error(format!("the value is {value}, the state {shape}"))),
            None => return Err(error(format!("{} isn't a value of the graph", show(update.value)))),
        }
    }
    Ok(())
}

pub(crate) fn find_shape(graph: &Graph, value: Value) -> Option<&Shape> {
    graph.nodes.get(value.node.0 as usize)?.shapes.get(value.slot as usize)
}

pub(crate) fn show(value: Value) -> String {
    format!("{}:{}", value.node.0, value.slot)
}

fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
