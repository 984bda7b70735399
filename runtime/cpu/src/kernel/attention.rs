//! Scaled dot-product attention of one window, head by head, on the matrix product.

use super::activation::exp_slice;
use super::aligned::Aligned;
use super::gemm::{Left, Start, gemm};
use super::normalise::softmax;
use super::panels::{Panels, Strides};
use crate::isa::Path;

/// The sizes of one window, and what its places see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Queries.
    pub(crate) steps: usize,
    /// Keys.
    pub(crate) places: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) causal: bool,
}

impl Shape {
    fn size(self) -> usize {
        self.width / self.heads
    }

    fn scale(self) -> f32 {
        1.0 / (self.size() as f32).sqrt()
    }

    /// How many keys a query sees, the first ones.
    fn seen(self, step: usize) -> usize {
        if self.causal { step + 1 } else { self.places }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Scratch {
    panels: Panels,
    left: Aligned,
    scores: Vec<f32>,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    row: Vec<f32>,
}

/// Rows of one head, `[count, size]` of `[count, width]` from the first feature on, as a left factor.
fn head_rows(x: &[f32], count: usize, width: usize) -> Left<'_> {
    Left { data: x, rows: count, row_stride: width, depth_stride: 1 }
}

/// A square of weights by its columns, as a left factor.
fn columns(x: &[f32], rows: usize) -> Left<'_> {
    Left { data: x, rows, row_stride: 1, depth_stride: rows }
}

/// y of q, k and v; and where wanted the logarithm of each row's sum of exponentials, `[heads, steps]`.
pub(crate) fn attention(
    path: Path,
    shape: Shape,
    [q, k, v]: [&[f32]; 3],
    y: &mut [f32],
    mut logarithms: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let Shape { steps, places, width, heads, .. } = shape;
    let size = shape.size();
    for head in 0..heads {
        let first = head * size;
        scores(path, shape, &q[first..], &k[first..], scratch);
        let Scratch { panels, left, scores, weights, row, .. } = scratch;
        weights.resize(steps * places, 0.0);
        for step in 0..steps {
            let seen = shape.seen(step);
            let from = &scores[step * places..][..seen];
            let (to, unseen) = weights[step * places..][..places].split_at_mut(seen);
            softmax(path, false, from, to);
            unseen.fill(0.0);
            if let Some(logarithms) = logarithms.as_deref_mut() {
                logarithms[head * steps + step] = log_sum(path, from, row);
            }
        }
        panels.pack(path, places, size, &v[first..], Strides { row: width, column: 1 });
        let weights = head_rows(weights, steps, places);
        gemm(path, weights, panels, &mut y[first..], width, Start::Zero, left);
    }
}

/// log Σ exp(x), from the largest.
fn log_sum(path: Path, x: &[f32], row: &mut Vec<f32>) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for &x in x {
        largest = if x > largest { x } else { largest };
    }
    row.clear();
    row.extend(x.iter().map(|x| x - largest));
    row.resize(2 * x.len(), 0.0);
    let (from, to) = row.split_at_mut(x.len());
    exp_slice(path, from, to);
    largest + to.iter().sum::<f32>().ln()
}

/// q·kᵀ / √size of one head.
fn scores(path: Path, shape: Shape, q: &[f32], k: &[f32], scratch: &mut Scratch) {
    let Shape { steps, places, width, .. } = shape;
    scratch.scores.resize(steps * places, 0.0);
    scratch.panels.pack(path, shape.size(), places, k, Strides { row: 1, column: width });
    let q = head_rows(q, steps, width);
    gemm(path, q, &scratch.panels, &mut scratch.scores, places, Start::Zero, &mut scratch.left);
    let scale = shape.scale();
    scratch.scores.iter_mut().for_each(|score| *score *= scale);
}

/// Inputs of the backward.
#[derive(Clone, Copy)]
pub(crate) struct Trace<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) y: &'a [f32],
    pub(crate) logarithms: &'a [f32],
    pub(crate) dy: &'a [f32],
}

/// dq, dk and dv; the weights are computed again (Dao et al. 2022).
pub(crate) fn attention_backward(
    path: Path,
    shape: Shape,
    trace: Trace<'_>,
    [dq, dk, dv]: [&mut [f32]; 3],
    scratch: &mut Scratch,
) {
    let Shape { steps, places, width, heads, .. } = shape;
    let (size, scale) = (shape.size(), shape.scale());
    for head in 0..heads {
        let first = head * size;
        let [q, k, v, y, dy] = [trace.q, trace.k, trace.v, trace.y, trace.dy].map(|x| &x[first..]);
        scores(path, shape, q, k, scratch);
        let Scratch { panels, left, scores, weights, gradients, .. } = scratch;
        weights.resize(steps * places, 0.0);
        for step in 0..steps {
            let (row, unseen) = scores[step * places..][..places].split_at_mut(shape.seen(step));
            let logarithm = trace.logarithms[head * steps + step];
            row.iter_mut().for_each(|score| *score -= logarithm);
            unseen.fill(f32::NEG_INFINITY);
        }
        exp_slice(path, scores, weights);
        // dweights = dy·vᵀ
        gradients.resize(steps * places, 0.0);
        panels.pack(path, size, places, v, Strides { row: 1, column: width });
        gemm(path, head_rows(dy, steps, width), panels, gradients, places, Start::Zero, left);
        for step in 0..steps {
            let (y, dy) = (&y[step * width..][..size], &dy[step * width..][..size]);
            let mean: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            let row = gradients[step * places..][..places].iter_mut();
            row.zip(&weights[step * places..]).for_each(|(g, p)| *g = p * (*g - mean) * scale);
        }
        panels.pack(path, places, size, k, Strides { row: width, column: 1 });
        gemm(path, head_rows(gradients, steps, places), panels, &mut dq[first..], width, Start::Zero, left);
        panels.pack(path, steps, size, q, Strides { row: width, column: 1 });
        gemm(path, columns(gradients, places), panels, &mut dk[first..], width, Start::Zero, left);
        panels.pack(path, steps, size, dy, Strides { row: width, column: 1 });
        gemm(path, columns(weights, places), panels, &mut dv[first..], width, Start::Zero, left);
    }
}
