//! The GRU forward of training, which keeps what the backward needs: each step's recurrent product, then its activations in one pass over rows and units.
//!
//! With p = x·W + b and q = h·U + c: r, z = σ(p + q), n = tanh(pₙ + r·qₙ);  h ← (1 − z)·n + z·h.
#![allow(unsafe_code)]

use super::activation::{sigmoid, tanh};
use super::aligned::Aligned;
use super::gemm::{Left, Start, gemm};
use super::panels::{Panels, Strides};
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Below so many rows the input's product is made for all steps at once, since that of one step is bound by
/// reading the weights. From there on it is made step by step and stays in the cache.
const ROWS_TO_STEP: usize = 8;

/// W `[F, 3H]` and U `[H, 3H]`, packed, b and c `[3H]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GruWeights {
    input: Panels,
    recurrent: Panels,
    input_bias: Vec<f32>,
    recurrent_bias: Vec<f32>,
    features: usize,
    hidden: usize,
}

impl GruWeights {
    /// Packs, reusing the buffers.
    pub(crate) fn pack(&mut self, path: Path, (features, hidden): (usize, usize), [w, u, b, c]: [&[f32]; 4]) {
        let columns = 3 * hidden;
        assert!(w.len() == features * columns && u.len() == hidden * columns);
        assert!(b.len() == columns && c.len() == columns);
        (self.features, self.hidden) = (features, hidden);
        let strides = Strides { row: columns, column: 1 };
        self.input.pack(path, features, columns, w, strides);
        self.recurrent.pack(path, hidden, columns, u, strides);
        for (bias, source) in [(&mut self.input_bias, b), (&mut self.recurrent_bias, c)] {
            bias.clear();
            bias.extend_from_slice(source);
        }
    }
}

/// Where the steps' results go, for the rows of one shard: h `[rows, T, H]`, gates `[rows, T, 3H]`,
/// q `[rows, T, H]`.
pub(crate) struct GruOutput<'a> {
    pub(crate) h: &'a mut [f32],
    pub(crate) gates: &'a mut [f32],
    pub(crate) q: &'a mut [f32],
}

/// Buffers that a shard reuses from run to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct GruScratch {
    input: Aligned,
    recurrent: Aligned,
    pack: Aligned,
}

/// x `[rows, steps, features]`, from a zero state.
pub(crate) fn gru_forward(
    path: Path,
    weights: &GruWeights,
    (rows, steps): (usize, usize),
    x: &[f32],
    output: GruOutput<'_>,
    scratch: &mut GruScratch,
) {
    let (features, hidden) = (weights.features, weights.hidden);
    if rows == 0 || steps == 0 || hidden == 0 {
        return;
    }
    let columns = 3 * hidden;
    assert_eq!(x.len(), rows * steps * features);
    let GruOutput { h, gates, q } = output;
    assert!(h.len() == rows * steps * hidden && q.len() == h.len() && gates.len() == 3 * h.len());
    let (h, row) = (h.as_mut_ptr(), steps * hidden);
    let GruScratch { input, recurrent, pack } = scratch;
    let hoist = rows < ROWS_TO_STEP;
    input.resize(if hoist { rows * steps * columns } else { rows * columns });
    recurrent.resize(rows * columns);
    let bias = Start::Bias(&weights.input_bias);
    if hoist {
        let left = Left { data: x, rows: rows * steps, row_stride: features, depth_stride: 1 };
        gemm(path, left, &weights.input, input, columns, bias, pack);
    }
    for t in 0..steps {
        if !hoist {
            let data = &x[t * features..];
            let left = Left { data, rows, row_stride: steps * features, depth_stride: 1 };
            gemm(path, left, &weights.input, input, columns, bias, pack);
        }
        let (p, p_row) = if hoist { (&input[t * columns..], steps * columns) } else { (&input[..], columns) };
        let now = h.wrapping_add(t * hidden);
        let before = if t == 0 { std::ptr::null() } else { now.wrapping_sub(hidden).cast_const() };
        if t > 0 {
            // SAFETY: the rows of h from the step before on, which nobody writes during the product.
            let data = unsafe { std::slice::from_raw_parts(before, (rows - 1) * row + hidden) };
            let left = Left { data, rows, row_stride: row, depth_stride: 1 };
            let bias = Start::Bias(&weights.recurrent_bias);
            gemm(path, left, &weights.recurrent, recurrent, columns, bias, pack);
        }
        let step = Step {
            rows,
            units: hidden,
            p: p.as_ptr(),
            p_row,
            // From a zero state the product is the bias alone.
            q: if t == 0 { weights.recurrent_bias.as_ptr() } else { recurrent.as_ptr() },
            q_row: if t == 0 { 0 } else { columns },
            h: before,
            h_out: now,
            row,
            gates: gates[t * columns..].as_mut_ptr(),
            q_out: q[t * hidden..].as_mut_ptr(),
        };
        // SAFETY: x, the output and the two products have the asserted and resized lengths, so each pointer
        // covers `units` numbers of `rows` rows, as far apart as the strides say.
        unsafe { step_kernel(path, &step) };
    }
}

/// One step's elementwise part. `h` is null at the first step.
struct Step {
    rows: usize,
    units: usize,
    p: *const f32,
    p_row: usize,
    q: *const f32,
    q_row: usize,
    h: *const f32,
    h_out: *mut f32,
    /// Numbers from row to row of h and of q kept; the gates' are three times as many.
    row: usize,
    gates: *mut f32,
    q_out: *mut f32,
}

kernel!(unsafe fn step_kernel(step: &Step) = step_generic);

#[inline(always)]
unsafe fn step_generic<S: Simd>(s: &Step) {
    for row in 0..s.rows {
        let mut unit = 0;
        while unit < s.units {
            let lanes = S::LANES.min(s.units - unit);
            // SAFETY: the caller's; only `lanes` units of the row are touched.
            unsafe {
                let one = S::splat(1.0);
                let p = |gate: usize| S::load_first(s.p.add(row * s.p_row + gate * s.units + unit), lanes);
                let q = |gate: usize| S::load_first(s.q.add(row * s.q_row + gate * s.units + unit), lanes);
                let r = sigmoid::<S>(S::add(p(0), q(0)));
                let z = sigmoid::<S>(S::add(p(1), q(1)));
                let product = q(2);
                let n = tanh::<S>(S::fma(r, product, p(2)));
                let mut h = S::mul(S::sub(one, z), n);
                if !s.h.is_null() {
                    h = S::fma(z, S::load_first(s.h.add(row * s.row + unit), lanes), h);
                }
                S::store_first(s.h_out.add(row * s.row + unit), lanes, h);
                let gates = s.gates.add(row * 3 * s.row + unit);
                for (gate, value) in [r, z, n].into_iter().enumerate() {
                    S::store_first(gates.add(gate * s.units), lanes, value);
                }
                S::store_first(s.q_out.add(row * s.row + unit), lanes, product);
            }
            unit += S::LANES;
        }
    }
}
