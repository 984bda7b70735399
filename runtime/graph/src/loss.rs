//! Losses as ordinary nodes: each takes a prediction and a target and gives a scalar, the mean over all rows.

use crate::builder::{BuildError, Builder};
use crate::graph::Value;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::shape::{Dim, Shape};
use crate::tensor::Tensor;

/// Which loss a training step minimises.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    MeanSquared,
    /// Quadratic within `delta`, linear beyond.
    Huber {
        delta: f32,
    },
    /// One or more quantiles of each target; see [`pinball`] for the columns.
    Pinball {
        quantiles: Vec<f32>,
    },
    /// Logits against probabilities.
    CrossEntropy,
}

impl Loss {
    /// How many target columns go with so many prediction columns; `None` where they don't fit.
    pub fn target_columns(&self, outputs: usize) -> Option<usize> {
        match self {
            Loss::MeanSquared | Loss::Huber { .. } | Loss::CrossEntropy => Some(outputs),
            Loss::Pinball { quantiles }
                if quantiles.is_empty() || !outputs.is_multiple_of(quantiles.len()) =>
            {
                None
            }
            Loss::Pinball { quantiles } => Some(outputs / quantiles.len()),
        }
    }

    /// The scalar loss of `prediction` `[B, outputs]` against `target` `[B, target_columns]`.
    pub fn build(
        &self,
        builder: &mut Builder,
        prediction: Value,
        target: Value,
    ) -> Result<Value, BuildError> {
        match self {
            Loss::MeanSquared => mean_squared(builder, prediction, target),
            Loss::Huber { delta } => huber(builder, prediction, target, *delta),
            Loss::Pinball { quantiles } => pinball(builder, prediction, target, quantiles),
            Loss::CrossEntropy => cross_entropy(builder, prediction, target),
        }
    }
}

/// mean((prediction − target)²). Both of one shape.
pub fn mean_squared(builder: &mut Builder, prediction: Value, target: Value) -> Result<Value, BuildError> {
    let difference = difference(builder, "mean squared loss", prediction, target)?;
    let square = builder.unary(UnaryOp::Square, difference)?;
    mean(builder, square)
}

/// The mean of e²/2 where |e| ≤ delta, else delta · (|e| − delta/2), with e = prediction − target
/// (Huber 1964). Both of one shape.
pub fn huber(
    builder: &mut Builder,
    prediction: Value,
    target: Value,
    delta: f32,
) -> Result<Value, BuildError> {
    if !(delta.is_finite() && delta > 0.0) {
        return refuse(
            builder,
            "huber loss",
            &[prediction, target],
            format!("delta is {delta}, not above 0"),
        );
    }
    let difference = difference(builder, "huber loss", prediction, target)?;
    let distance = builder.unary(UnaryOp::Abs, difference)?;
    // With m = min(|e|, delta), both branches are m · (|e| − m/2).
    let (delta, half) = (builder.scalar(delta)?, builder.scalar(0.5)?);
    let near = builder.binary(BinaryOp::Min, distance, delta)?;
    let half_near = builder.mul(near, half)?;
    let rest = builder.sub(distance, half_near)?;
    let each = builder.mul(near, rest)?;
    mean(builder, each)
}

/// The mean of q · e where e ≥ 0, else (q − 1) · e, with e = target − prediction (Koenker and Bassett 1978).
/// `target` is `[B, L]`; `prediction` is `[B, L · Q]`, the Q quantiles of the first target first.
pub fn pinball(
    builder: &mut Builder,
    prediction: Value,
    target: Value,
    quantiles: &[f32],
) -> Result<Value, BuildError> {
    const NAME: &str = "pinball loss";
    let inputs = [prediction, target];
    if quantiles.is_empty() || quantiles.iter().any(|q| !(*q > 0.0 && *q < 1.0)) {
        return refuse(builder, NAME, &inputs, format!("{quantiles:?} are not quantiles between 0 and 1"));
    }
    let count = quantiles.len();
    let dims = |value| builder.find(value).map(|shape| shape.dims().to_vec()).unwrap_or_default();
    let (rows, labels) = match (dims(prediction).as_slice(), dims(target).as_slice()) {
        (&[rows, Dim::Fixed(outputs)], &[target_rows, Dim::Fixed(labels)])
            if rows == target_rows && labels.checked_mul(count) == Some(outputs) =>
        {
            (rows, labels)
        }
        _ => {
            let message = format!("needs [B, {count} · L] and [B, L] for {count} quantiles");
            return refuse(builder, NAME, &inputs, message);
        }
    };
    let grid = |n: usize| Shape::new([rows, Dim::Fixed(labels), Dim::Fixed(n)]);
    let (columns, column) = (grid(count), grid(1));
    let prediction = builder.reshape(prediction, columns)?;
    let target = builder.reshape(target, column)?;
    let error = builder.sub(target, prediction)?;
    let row = |data: Vec<f32>| Tensor::new(vec![count], data);
    let (Ok(above), Ok(below)) = (row(quantiles.to_vec()), row(quantiles.iter().map(|q| q - 1.0).collect()))
    else {
        return refuse(builder, NAME, &inputs, "the quantiles don't make a row".into());
    };
    let (above, below) = (builder.constant(above)?, builder.constant(below)?);
    let (above, below) = (builder.mul(error, above)?, builder.mul(error, below)?);
    let each = builder.binary(BinaryOp::Max, above, below)?;
    mean(builder, each)
}

/// The mean over rows of −Σ target · log softmax(logits) over the last axis. Both of one shape; each row of
/// the target sums to 1.
pub fn cross_entropy(builder: &mut Builder, logits: Value, target: Value) -> Result<Value, BuildError> {
    const NAME: &str = "cross entropy loss";
    check_same(builder, NAME, logits, target)?;
    let rank = builder.find(logits).map_or(0, Shape::rank);
    if rank == 0 {
        return refuse(builder, NAME, &[logits, target], "a scalar has no classes".into());
    }
    let log_probability = builder.log_softmax(logits, rank - 1)?;
    let product = builder.mul(target, log_probability)?;
    let sums = builder.reduce(ReduceOp::Sum, product, &[rank - 1], false)?;
    let losses = builder.unary(UnaryOp::Neg, sums)?;
    mean(builder, losses)
}

fn difference(
    builder: &mut Builder,
    name: &'static str,
    prediction: Value,
    target: Value,
) -> Result<Value, BuildError> {
    check_same(builder, name, prediction, target)?;
    builder.sub(prediction, target)
}

/// A target that only broadcasts is nearly always a mistake, so it isn't taken.
fn check_same(builder: &Builder, name: &'static str, a: Value, b: Value) -> Result<(), BuildError> {
    match (builder.find(a), builder.find(b)) {
        (Some(first), Some(second)) if first == second => Ok(()),
        _ => refuse(builder, name, &[a, b], "prediction and target differ in shape".into()),
    }
}

fn mean(builder: &mut Builder, x: Value) -> Result<Value, BuildError> {
    let axes: Vec<usize> = (0..builder.shape(x).rank()).collect();
    if axes.is_empty() { Ok(x) } else { builder.reduce(ReduceOp::Mean, x, &axes, false) }
}

fn refuse<T>(
    builder: &Builder,
    op: &'static str,
    inputs: &[Value],
    message: String,
) -> Result<T, BuildError> {
    let inputs = inputs.iter().filter_map(|&value| builder.find(value)).cloned().collect();
    Err(BuildError { op, scope: builder.current_scope().into(), inputs, message })
}

#[cfg(test)]
mod tests;
