//! The LSTM backward through time for the rows of one shard.
//!
//! From the last step: dh = dh_out + dG·Uᵀ of the step after; δo = dh·tanh c, δc += dh·o·(1 − tanh² c),
//! δi = δc·g, δf = δc·c₋₁, δg = δc·i; dG is each δ times its activation's slope; δc ← δc·f. Then
//! dx = dG·Wᵀ, dW += xᵀ·dG, dU += h₋₁ᵀ·dG, db += Σ dG.
#![allow(unsafe_code)]

use super::activation::tanh;
use super::aligned::Aligned;
use super::gemm::{Left, Outer, Start, gemm, pack_transposed, rows_per_tile};
use super::panels::{Panels, Strides};
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Steps are gathered until the weights' gradients have so many rows to sum over in one product.
const OUTER_DEPTH: usize = 128;

/// Wᵀ `[4H, F]` and Uᵀ `[4H, H]`, packed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransposedWeights {
    input: Option<Panels>,
    recurrent: Panels,
}

impl TransposedWeights {
    /// Packs, reusing the buffers. W is left out where dx isn't wanted.
    pub(crate) fn pack(
        &mut self,
        path: Path,
        (features, hidden): (usize, usize),
        w: Option<&[f32]>,
        u: &[f32],
    ) {
        let transposed = Strides { row: 1, column: 4 * hidden };
        self.recurrent.pack(path, 4 * hidden, hidden, u, transposed);
        match w {
            Some(w) => {
                self.input.get_or_insert_default().pack(path, 4 * hidden, features, w, transposed);
            }
            None => self.input = None,
        }
    }
}

/// What the forward read and kept, and the gradient of its sequence, for the rows of one shard.
#[derive(Clone, Copy)]
pub(crate) struct LstmTrace<'a> {
    pub(crate) rows: usize,
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    /// `[rows, T, F]`
    pub(crate) x: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) h: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) c: &'a [f32],
    /// `[rows, T, 4H]`
    pub(crate) gates: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) dh: &'a [f32],
}

/// A shard's part of the gradients of the weights, and its buffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct LstmGradients {
    /// `[F, 4H]`
    pub(crate) dw: Aligned,
    /// `[H, 4H]`
    pub(crate) du: Aligned,
    /// `[4H]`
    pub(crate) db: Aligned,
    dh: Aligned,
    dc: Aligned,
    dg: Aligned,
    x_pack: Aligned,
    h_pack: Aligned,
    pack: Aligned,
}

/// Writes dx `[rows, T, F]`, unless it is empty, and the shard's dW, dU and db.
pub(crate) fn lstm_backward(
    path: Path,
    weights: &TransposedWeights,
    trace: LstmTrace<'_>,
    dx: &mut [f32],
    out: &mut LstmGradients,
) {
    let LstmTrace { rows, steps, features, hidden, .. } = trace;
    let sequence = rows * steps * hidden;
    assert!(trace.h.len() == sequence && trace.c.len() == sequence && trace.dh.len() == sequence);
    assert!(trace.gates.len() == 4 * sequence && trace.x.len() == rows * steps * features);
    out.clear(path, trace);
    if sequence == 0 {
        return;
    }
    let stride = gates_stride(path, hidden);
    let chunk = steps_per_chunk(rows, steps);
    let mut last = steps;
    while last > 0 {
        let first = last.saturating_sub(chunk);
        for t in (first..last).rev() {
            let dg = &mut out.dg[(t - first) * rows * stride..][..rows * stride];
            let slopes = Slopes::new(&trace, t, &mut out.dh, &mut out.dc, dg, &mut out.db, stride);
            // SAFETY: the asserts above and `clear` give every buffer the length that `Slopes` describes.
            unsafe { slopes_kernel(path, &slopes) };
            let left = Left { data: dg, rows, row_stride: stride, depth_stride: 1 };
            if t > 0 {
                gemm(path, left, &weights.recurrent, &mut out.dh, hidden, Start::Zero, &mut out.pack);
            }
            if let Some(input) = weights.input.as_ref().filter(|_| !dx.is_empty()) {
                gemm(
                    path,
                    left,
                    input,
                    &mut dx[t * features..],
                    steps * features,
                    Start::Zero,
                    &mut out.pack,
                );
            }
        }
        add_weight_gradients(path, &trace, (first, last), stride, out);
        last = first;
    }
}

/// dW += xᵀ·dG and dU += h₋₁ᵀ·dG over the steps `first..last`.
fn add_weight_gradients(
    path: Path,
    trace: &LstmTrace<'_>,
    (first, last): (usize, usize),
    stride: usize,
    out: &mut LstmGradients,
) {
    let LstmTrace { rows, steps, features, hidden, .. } = *trace;
    let tile = rows_per_tile(path);
    let depth = (last - first) * rows;
    out.x_pack.resize(features.div_ceil(tile) * tile * depth);
    for t in first..last {
        let source = &trace.x[t * features..];
        let at = (t - first) * rows;
        pack_transposed(path, &mut out.x_pack, (depth, at), features, source, (rows, steps * features));
    }
    let mut outer =
        Outer { depth, rows: features, columns: 4 * hidden, right: &out.dg, right_stride: stride };
    outer.add(path, &out.x_pack, &mut out.dw);

    // The first step of all has no h before it.
    let begin = first.max(1);
    let depth = (last - begin) * rows;
    out.h_pack.resize(hidden.div_ceil(tile) * tile * depth);
    for t in begin..last {
        let source = &trace.h[(t - 1) * hidden..];
        let at = (t - begin) * rows;
        pack_transposed(path, &mut out.h_pack, (depth, at), hidden, source, (rows, steps * hidden));
    }
    (outer.depth, outer.rows, outer.right) = (depth, hidden, &out.dg[(begin - first) * rows * stride..]);
    outer.add(path, &out.h_pack, &mut out.du);
}

/// A row of dG is padded to whole panels, since the outer products read it unpacked.
fn gates_stride(path: Path, hidden: usize) -> usize {
    (4 * hidden).next_multiple_of(4 * path.lanes())
}

fn steps_per_chunk(rows: usize, steps: usize) -> usize {
    (OUTER_DEPTH / rows.max(1)).clamp(1, steps.max(1))
}

impl LstmGradients {
    fn clear(&mut self, path: Path, trace: LstmTrace<'_>) {
        let LstmTrace { rows, steps, features, hidden, .. } = trace;
        let stride = gates_stride(path, hidden);
        let sizes = [
            (&mut self.dw, features * 4 * hidden),
            (&mut self.du, hidden * 4 * hidden),
            (&mut self.db, 4 * hidden),
            (&mut self.dh, rows * hidden),
            (&mut self.dc, rows * hidden),
            (&mut self.dg, steps_per_chunk(rows, steps) * rows * stride),
        ];
        for (buffer, len) in sizes {
            buffer.resize(len);
            buffer.fill(0.0);
        }
    }
}

/// One step's elementwise part. A null `c_before` means zero.
struct Slopes {
    rows: usize,
    units: usize,
    gates: *const f32,
    gates_row: usize,
    c: *const f32,
    c_before: *const f32,
    dh_out: *const f32,
    sequence_row: usize,
    dh: *const f32,
    dc: *mut f32,
    dg: *mut f32,
    dg_row: usize,
    db: *mut f32,
}

impl Slopes {
    fn new(
        trace: &LstmTrace<'_>,
        t: usize,
        dh: &mut [f32],
        dc: &mut [f32],
        dg: &mut [f32],
        db: &mut [f32],
        dg_row: usize,
    ) -> Self {
        let hidden = trace.hidden;
        Slopes {
            rows: trace.rows,
            units: hidden,
            gates: trace.gates[t * 4 * hidden..].as_ptr(),
            gates_row: trace.steps * 4 * hidden,
            c: trace.c[t * hidden..].as_ptr(),
            c_before: if t == 0 { std::ptr::null() } else { trace.c[(t - 1) * hidden..].as_ptr() },
            dh_out: trace.dh[t * hidden..].as_ptr(),
            sequence_row: trace.steps * hidden,
            dh: dh.as_ptr(),
            dc: dc.as_mut_ptr(),
            dg: dg.as_mut_ptr(),
            dg_row,
            db: db.as_mut_ptr(),
        }
    }
}

kernel!(unsafe fn slopes_kernel(slopes: &Slopes) = slopes_generic);

#[inline(always)]
unsafe fn slopes_generic<S: Simd>(s: &Slopes) {
    let mut unit = 0;
    while unit < s.units {
        let lanes = S::LANES.min(s.units - unit);
        // SAFETY: the caller's; only `lanes` units of each row are touched.
        unsafe {
            let one = S::splat(1.0);
            let mut db = [S::splat(0.0); 4];
            for (gate, db) in db.iter_mut().enumerate() {
                *db = S::load_first(s.db.add(gate * s.units + unit), lanes);
            }
            for row in 0..s.rows {
                let gate = |gate: usize| {
                    S::load_first(s.gates.add(row * s.gates_row + gate * s.units + unit), lanes)
                };
                let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                let at = row * s.sequence_row + unit;
                let local = row * s.units + unit;
                let tanh_c = tanh::<S>(S::load_first(s.c.add(at), lanes));
                let dh =
                    S::add(S::load_first(s.dh_out.add(at), lanes), S::load_first(s.dh.add(local), lanes));
                let slope = S::mul(o, S::sub(one, S::mul(tanh_c, tanh_c)));
                let dc = S::fma(dh, slope, S::load_first(s.dc.add(local), lanes));
                let before = match s.c_before.is_null() {
                    true => S::splat(0.0),
                    false => S::load_first(s.c_before.add(at), lanes),
                };
                let sigmoid_slope = |y: S::V| S::mul(y, S::sub(one, y));
                let dg = [
                    S::mul(S::mul(dc, g), sigmoid_slope(i)),
                    S::mul(S::mul(dc, before), sigmoid_slope(f)),
                    S::mul(S::mul(dc, i), S::sub(one, S::mul(g, g))),
                    S::mul(S::mul(dh, tanh_c), sigmoid_slope(o)),
                ];
                S::store_first(s.dc.add(local), lanes, S::mul(dc, f));
                for (gate, (dg, db)) in dg.into_iter().zip(&mut db).enumerate() {
                    S::store_first(s.dg.add(row * s.dg_row + gate * s.units + unit), lanes, dg);
                    *db = S::add(*db, dg);
                }
            }
            for (gate, db) in db.into_iter().enumerate() {
                S::store_first(s.db.add(gate * s.units + unit), lanes, db);
            }
        }
        unit += S::LANES;
    }
}
