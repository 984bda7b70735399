//! A model's training step as one graph: loss, gradient, clipping and AdamW, ending in updates of the states.

use std::fmt;

use crate::builder::{BuildError, Builder};
use crate::gradient::{GradientError, gradient};
use crate::graph::{Graph, Initial, StateSpec, Value};
use crate::loss::Loss;
use crate::op::{BinaryOp, Op, ReduceOp, UnaryOp};
use crate::rewrite;
use crate::shape::{Dim, Shape};
use crate::verify::VerifyError;

/// The scalar state that counts steps.
pub const STEP: &str = "adamw.step";

/// AdamW (Loshchilov and Hutter 2019) with clipping by the global norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// Decoupled. Not applied to states of rank 0 or 1: biases and gains.
    pub weight_decay: f32,
    /// Gradients are scaled down together where their joint norm is above it.
    pub clip_norm: Option<f32>,
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) }
    }
}

/// Why a model has no training step.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainingError {
    /// The model or the step failed its check.
    Invalid(VerifyError),
    /// The model can't be trained as it is.
    Model {
        message: String,
    },
    Optimiser {
        message: String,
    },
    /// The loss doesn't fit the prediction, or the step is past the limits.
    Build(BuildError),
    Gradient(GradientError),
}

impl fmt::Display for TrainingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainingError::Invalid(e) => write!(f, "the graph is not valid: {e}"),
            TrainingError::Model { message } => write!(f, "the model can't be trained: {message}"),
            TrainingError::Optimiser { message } => write!(f, "the optimiser is set wrong: {message}"),
            TrainingError::Build(e) => write!(f, "the training step can't be built: {e}"),
            TrainingError::Gradient(e) => write!(f, "the model has no gradient: {e}"),
        }
    }
}

impl std::error::Error for TrainingError {}

impl From<BuildError> for TrainingError {
    fn from(error: BuildError) -> Self {
        TrainingError::Build(error)
    }
}

/// The step of a model with the output "prediction" `[B, outputs]`. Inputs: the model's, with "dropout_seed"
/// where it has dropout, then "target" `[B, loss.target_columns(outputs)]` and the scalar "learning_rate". Outputs:
/// "loss" and "gradient_norm" (before clipping), both of the states before the step. States: the model's in their order, then
/// "adamw.m/NAME" and "adamw.v/NAME" for each trainable one, then [`STEP`].
pub fn training_graph(model: &Graph, loss: &Loss, optimiser: &Optimiser) -> Result<Graph, TrainingError> {
    let model = rewrite::simplify(model).map_err(TrainingError::Invalid)?;
    check_optimiser(optimiser)?;
    let (graph, loss, gradients) = build_gradient(model, loss)?;
    let trained: Vec<StateSpec> = graph.states.iter().filter(|s| s.trainable).cloned().collect();
    let mut builder = Builder::from_graph(graph);
    builder.scope("optimiser");
    let norm = global_norm(&mut builder, &gradients)?;
    let gradients = match optimiser.clip_norm {
        Some(clip_norm) => clip(&mut builder, &gradients, norm, clip_norm)?,
        None => gradients,
    };
    update(&mut builder, optimiser, &trained, &gradients)?;
    builder.output("loss", loss)?;
    builder.output("gradient_norm", norm)?;
    let graph = builder.finish().map_err(TrainingError::Invalid)?;
    rewrite::simplify(&graph).map_err(TrainingError::Invalid)
}

fn check_optimiser(optimiser: &Optimiser) -> Result<(), TrainingError> {
    match optimiser.clip_norm {
        Some(norm) if !(norm.is_finite() && norm > 0.0) => Err(TrainingError::Optimiser {
            message: format!("clip_norm is {norm}; it must be above 0, or absent for no clipping"),
        }),
        _ => Ok(()),
    }
}

/// The model with loss and gradients but no outputs; the gradients are in the order of the trainable states.
fn build_gradient(mut model: Graph, loss: &Loss) -> Result<(Graph, Value, Vec<Value>), TrainingError> {
    let refuse = |message: String| Err(TrainingError::Model { message });
    let Some(prediction) = model.output("prediction") else {
        return refuse("it has no output named \"prediction\"".into());
    };
    if !model.updates.is_empty() {
        return refuse("it already updates its states".into());
    }
    if !model.states.iter().any(|s| s.trainable) {
        return refuse("its prediction uses no trainable state".into());
    }
    let shape = model.shape(prediction).clone();
    let &[Dim::Batch(1), Dim::Fixed(outputs)] = shape.dims() else {
        return refuse(format!("the prediction is {shape}, not [B, outputs]"));
    };
    let Some(columns) = loss.target_columns(outputs) else {
        return refuse(format!("{outputs} outputs are not a multiple of the quantiles of {loss:?}"));
    };
    model.outputs.clear();
    let states: Vec<Value> =
        model.states.iter().filter(|s| s.trainable).map(|s| Value { node: s.node, slot: 0 }).collect();

    let mut builder = Builder::from_graph(model);
    builder.scope("loss");
    let target = builder.input("target", Shape::batch(&[columns]))?;
    let value = loss.build(&mut builder, prediction, target)?;
    builder.output("loss", value)?;
    let graph = builder.finish().map_err(TrainingError::Invalid)?;
    let (mut graph, gradients) = gradient(&graph, value, &states).map_err(TrainingError::Gradient)?;
    let (_, loss) = graph.outputs.remove(0);
    Ok((graph, loss, gradients))
}

/// √Σ g² over all elements of all gradients.
fn global_norm(builder: &mut Builder, gradients: &[Value]) -> Result<Value, BuildError> {
    let mut total = builder.scalar(0.0)?;
    for &gradient in gradients {
        let square = builder.unary(UnaryOp::Square, gradient)?;
        let axes: Vec<usize> = (0..builder.shape(square).rank()).collect();
        let sum =
            if axes.is_empty() { square } else { builder.reduce(ReduceOp::Sum, square, &axes, false)? };
        total = builder.add(total, sum)?;
    }
    builder.unary(UnaryOp::Sqrt, total)
}

/// Scales every gradient by min(1, clip_norm / norm).
fn clip(
    builder: &mut Builder,
    gradients: &[Value],
    norm: Value,
    clip_norm: f32,
) -> Result<Vec<Value>, BuildError> {
    let clip_norm = builder.scalar(clip_norm)?;
    let above = builder.binary(BinaryOp::Max, norm, clip_norm)?;
    let scale = builder.div(clip_norm, above)?;
    gradients.iter().map(|&gradient| builder.mul(gradient, scale)).collect()
}

fn update(
    builder: &mut Builder,
    optimiser: &Optimiser,
    trained: &[StateSpec],
    gradients: &[Value],
) -> Result<(), BuildError> {
    let learning_rate = builder.input("learning_rate", Shape::scalar())?;
    let mut moments = Vec::with_capacity(trained.len());
    for state in trained {
        let shape = builder.shape(Value { node: state.node, slot: 0 }).clone();
        let m = builder.state(&format!("adamw.m/{}", state.name), shape.clone(), Initial::Zeros, false)?;
        let v = builder.state(&format!("adamw.v/{}", state.name), shape, Initial::Zeros, false)?;
        moments.push((m, v));
    }
    let count = builder.state(STEP, Shape::scalar(), Initial::Zeros, false)?;
    let one = builder.scalar(1.0)?;
    let step = builder.add(count, one)?;
    for ((state, &(m, v)), &gradient) in trained.iter().zip(&moments).zip(gradients) {
        let parameter = Value { node: state.node, slot: 0 };
        let rank = builder.shape(parameter).rank();
        let op = Op::AdamW {
            beta1: optimiser.beta1,
            beta2: optimiser.beta2,
            epsilon: optimiser.epsilon,
            weight_decay: if rank < 2 { 0.0 } else { optimiser.weight_decay },
        };
        let new = builder.push(op, &[parameter, m, v, gradient, learning_rate, step])?;
        for (state, value) in [parameter, m, v].into_iter().zip(new) {
            builder.update(state, value)?;
        }
    }
    builder.update(count, step)
}

#[cfg(test)]
mod tests;
