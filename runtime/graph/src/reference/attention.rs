//! Scaled dot-product attention and its backward form, head by head and row by row.

use super::arrays::Array;
use super::fused::{add_row, dot};

/// The rows of one head of one batch row: element d of place t of x stands at `row(t) + d`.
struct Head {
    batch: usize,
    first: usize,
    size: usize,
    width: usize,
}

impl Head {
    fn range(&self, places: usize, place: usize) -> std::ops::Range<usize> {
        let start = (self.batch * places + place) * self.width + self.first;
        start..start + self.size
    }

    fn row<'a>(&self, x: &'a Array, place: usize) -> &'a [f64] {
        &x.data[self.range(x.dims[1], place)]
    }

    fn row_mut<'a>(&self, x: &'a mut Array, place: usize) -> &'a mut [f64] {
        let range = self.range(x.dims[1], place);
        &mut x.data[range]
    }

    /// q[t]·k[s] / √size for each place s that t sees.
    fn scores(&self, q: &Array, k: &Array, place: usize, causal: bool) -> Vec<f64> {
        let seen = if causal { place + 1 } else { k.dims[1] };
        let scale = 1.0 / (self.size as f64).sqrt();
        (0..seen).map(|s| scale * dot(self.row(q, place), self.row(k, s))).collect()
    }
}

/// Every head of every batch row, with its index among the rows of `[B, heads]`.
fn each_head(heads: usize, q: &Array, mut f: impl FnMut(usize, &Head)) {
    let (width, size) = (q.dims[2], q.dims[2] / heads);
    for batch in 0..q.dims[0] {
        for head in 0..heads {
            f(batch * heads + head, &Head { batch, first: head * size, size, width });
        }
    }
}

/// y[t] = Σₛ pₜₛ·v[s] with pₜ the softmax of the scores; and log Σₛ exp(score), from the largest.
pub(crate) fn attention_forward(heads: usize, causal: bool, inputs: &[&Array]) -> Vec<Array> {
    let [q, k, v] = inputs else { unreachable!("the shape rule counts three inputs") };
    let steps = q.dims[1];
    let mut y = Array { dims: q.dims.clone(), data: vec![0.0; q.data.len()] };
    let mut logarithms = vec![0.0; q.dims[0] * heads * steps];
    each_head(heads, q, |index, head| {
        for t in 0..steps {
            let scores = head.scores(q, k, t, causal);
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (s, score) in scores.iter().enumerate() {
                add_row(head.row_mut(&mut y, t), (score - largest).exp() / sum, head.row(v, s));
            }
            logarithms[index * steps + t] = largest + sum.ln();
        }
    });
    vec![y, Array { dims: vec![q.dims[0], heads, steps], data: logarithms }]
}

/// With p = exp(score − logarithm) and dp = dy·vᵀ: dscore = p·(dp − dy·y), since Σₛ pₜₛ·dpₜₛ = dy[t]·y[t]; then
/// dq = dscore·k / √size, dk = dscoreᵀ·q / √size, dv = pᵀ·dy.
pub(crate) fn attention_backward(heads: usize, causal: bool, inputs: &[&Array]) -> Vec<Array> {
    let [q, k, v, y, logarithms, dy] = inputs else { unreachable!("the shape rule counts six inputs") };
    let steps = q.dims[1];
    let zeros = |of: &Array| Array { dims: of.dims.clone(), data: vec![0.0; of.data.len()] };
    let (mut dq, mut dk, mut dv) = (zeros(q), zeros(k), zeros(v));
    each_head(heads, q, |index, head| {
        let scale = 1.0 / (head.size as f64).sqrt();
        for t in 0..steps {
            let mean = dot(head.row(dy, t), head.row(y, t));
            for (s, score) in head.scores(q, k, t, causal).into_iter().enumerate() {
                let p = (score - logarithms.data[index * steps + t]).exp();
                let dscore = scale * p * (dot(head.row(dy, t), head.row(v, s)) - mean);
                add_row(head.row_mut(&mut dq, t), dscore, head.row(k, s));
                add_row(head.row_mut(&mut dk, s), dscore, head.row(q, t));
                add_row(head.row_mut(&mut dv, s), p, head.row(dy, t));
            }
        }
    });
    vec![dq, dk, dv]
}
