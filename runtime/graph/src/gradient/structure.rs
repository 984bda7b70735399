//! Gradient rules of the ops that move, contract, reduce and normalise.

use super::{GradientError, Rule, Walk};
use crate::graph::Value;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::shape::{Dim, Shape};
use crate::shape_rule::merge_dims;

impl Walk {
    /// Sums a value over the axes along which `shape` was repeated to make it.
    pub(super) fn sum_to(&mut self, dy: Value, shape: &Shape) -> Result<Value, GradientError> {
        let from = self.shape(dy);
        if from == *shape {
            return Ok(dy);
        }
        let extra = from.rank() - shape.rank();
        let repeated = |axis: &usize| *axis < extra || from.dims()[*axis] != shape.dims()[*axis - extra];
        let axes: Vec<usize> = (0..from.rank()).filter(repeated).collect();
        let summed =
            if axes.is_empty() { dy } else { self.builder.reduce(ReduceOp::Sum, dy, &axes, true)? };
        Ok(self.builder.reshape(summed, shape.clone())?)
    }

    pub(super) fn transpose(&mut self, axes: &[usize], x: Value, dy: Value) -> Rule {
        let mut inverse = vec![0; axes.len()];
        for (output, &input) in axes.iter().enumerate() {
            inverse[input] = output;
        }
        let dx = self.builder.transpose(dy, &inverse)?;
        self.give(x, dx)
    }

    pub(super) fn concat(&mut self, axis: usize, inputs: &[Value], dy: Value) -> Rule {
        let mut start = 0;
        for &x in inputs {
            let end = start + self.size(x, axis);
            if self.wants(x) {
                let dx = self.builder.slice(dy, axis, start, end)?;
                self.give(x, dx)?;
            }
            start = end;
        }
        Ok(())
    }

    /// With A and B as multiplied: dA = dY · Bᵀ and dB = Aᵀ · dY, each transposed back to how it is stored.
    pub(super) fn matmul(&mut self, a: Value, b: Value, at: bool, bt: bool, dy: Value) -> Rule {
        let shared = self.builder.shape(b).rank() < self.builder.shape(a).rank();
        if self.wants(a) {
            let da = match (at, shared) {
                (false, _) => self.builder.matmul(dy, b, false, !bt)?,
                (true, false) => self.builder.matmul(b, dy, bt, true)?,
                (true, true) => {
                    let da = self.builder.matmul(dy, b, false, !bt)?;
                    self.swap_last(da)?
                }
            };
            self.give(a, da)?;
        }
        if self.wants(b) {
            let (a, at, dy) = if shared {
                let a = if at { self.swap_last(a)? } else { a };
                (self.flatten(a)?, false, self.flatten(dy)?)
            } else {
                (a, at, dy)
            };
            let db = if bt {
                self.builder.matmul(dy, a, true, at)?
            } else {
                self.builder.matmul(a, dy, !at, false)?
            };
            self.give(b, db)?;
        }
        Ok(())
    }

    /// y = reduced x, with the axes kept or dropped.
    pub(super) fn reduce(&mut self, op: ReduceOp, axes: &[usize], x: Value, y: Value, dy: Value) -> Rule {
        let shape = self.shape(x);
        let kept = |(axis, &dim): (usize, &Dim)| if axes.contains(&axis) { Dim::Fixed(1) } else { dim };
        let kept = Shape::new(shape.dims().iter().enumerate().map(kept));
        let dy = self.builder.reshape(dy, kept.clone())?;
        let dx = match op {
            ReduceOp::Sum => self.builder.broadcast(dy, shape)?,
            ReduceOp::Mean => {
                let count = self.count(&shape, axes)?;
                let share = self.builder.div(dy, count)?;
                self.builder.broadcast(share, shape)?
            }
            ReduceOp::Max => {
                let (zero, one) = (self.scalar(0.0)?, self.scalar(1.0)?);
                let largest = self.builder.reshape(y, kept)?;
                let below = self.builder.binary(BinaryOp::Less, x, largest)?;
                let tied = self.builder.sub(one, below)?;
                let ties = self.builder.reduce(ReduceOp::Sum, tied, axes, true)?;
                let share = self.builder.div(dy, ties)?;
                self.builder.select(below, zero, share)?
            }
        };
        self.give(x, dx)
    }

    /// dx = y · (dy − Σ dy · y).
    pub(super) fn softmax(&mut self, axis: usize, x: Value, y: Value, dy: Value) -> Rule {
        let product = self.builder.mul(dy, y)?;
        let sum = self.builder.reduce(ReduceOp::Sum, product, &[axis], true)?;
        let centred = self.builder.sub(dy, sum)?;
        let dx = self.builder.mul(y, centred)?;
        self.give(x, dx)
    }

    /// dx = dy − exp(y) · Σ dy.
    pub(super) fn log_softmax(&mut self, axis: usize, x: Value, y: Value, dy: Value) -> Rule {
        let sum = self.builder.reduce(ReduceOp::Sum, dy, &[axis], true)?;
        let probability = self.builder.unary(UnaryOp::Exp, y)?;
        let share = self.builder.mul(probability, sum)?;
        let dx = self.builder.sub(dy, share)?;
        self.give(x, dx)
    }

    /// The number of elements of the axes, as a scalar. Where it depends on the batch, ones are summed along it.
    fn count(&mut self, shape: &Shape, axes: &[usize]) -> Result<Value, GradientError> {
        let dims: Vec<Dim> = axes.iter().map(|&axis| shape.dims()[axis]).collect();
        match merge_dims(&dims).expect("verified: at most one depends on the batch") {
            Dim::Fixed(count) => self.scalar(count as f32),
            count @ Dim::Batch(_) => {
                let ones = self.filled(1.0, Shape::new([count]))?;
                Ok(self.builder.reduce(ReduceOp::Sum, ones, &[0], false)?)
            }
        }
    }

    fn swap_last(&mut self, x: Value) -> Result<Value, GradientError> {
        let rank = self.builder.shape(x).rank();
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 2, rank - 1);
        Ok(self.builder.transpose(x, &axes)?)
    }

    /// `[…, M, N]` as one matrix `[… · M, N]`.
    fn flatten(&mut self, x: Value) -> Result<Value, GradientError> {
        let shape = self.shape(x);
        let (rows, last) = shape.dims().split_at(shape.rank() - 1);
        let rows = merge_dims(rows).expect("verified: at most one depends on the batch");
        Ok(self.builder.reshape(x, Shape::new([rows, last[0]]))?)
    }
}
