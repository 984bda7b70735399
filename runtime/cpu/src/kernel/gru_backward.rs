//! The GRU backward through time for the rows of one shard.
//!
//! From the last step: dh = dh_out + (dh·z + dQ·Uᵀ) of the step after; dn = dh·(1 − z)·(1 − n²),
//! dr = dn·q·r·(1 − r), dz = dh·(h₋₁ − n)·z·(1 − z); dP is (dr, dz, dn) and dQ is (dr, dz, dn·r). Then
//! dx = dP·Wᵀ, dW += xᵀ·dP, dU += h₋₁ᵀ·dQ, db += Σ dP, dc += Σ dQ.
#![allow(unsafe_code)]

use super::aligned::Aligned;
use super::gemm::{Left, Outer, Start, gemm, pack_transposed, rows_per_tile};
use super::panels::{Panels, Strides};
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Steps are gathered until the weights' gradients have so many rows to sum over in one product.
const OUTER_DEPTH: usize = 128;

/// Wᵀ `[3H, F]` and Uᵀ `[3H, H]`, packed.
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
        let transposed = Strides { row: 1, column: 3 * hidden };
        self.recurrent.pack(path, 3 * hidden, hidden, u, transposed);
        match w {
            Some(w) => {
                self.input.get_or_insert_default().pack(path, 3 * hidden, features, w, transposed);
            }
            None => self.input = None,
        }
    }
}

/// What the forward read and kept, and the gradient of its sequence, for the rows of one shard.
#[derive(Clone, Copy)]
pub(crate) struct GruTrace<'a> {
    pub(crate) rows: usize,
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    /// `[rows, T, F]`
    pub(crate) x: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) h: &'a [f32],
    /// `[rows, T, 3H]`
    pub(crate) gates: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) q: &'a [f32],
    /// `[rows, T, H]`
    pub(crate) dh: &'a [f32],
}

/// A shard's part of the gradients of the weights, and its buffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct GruGradients {
    /// `[F, 3H]`
    pub(crate) dw: Aligned,
    /// `[H, 3H]`
    pub(crate) du: Aligned,
    /// `[3H]`
    pub(crate) db: Aligned,
    /// `[3H]`
    pub(crate) dc: Aligned,
    /// dQ·Uᵀ and dh·z of the step after.
    dh: Aligned,
    carry: Aligned,
    dp: Aligned,
    dq: Aligned,
    x_pack: Aligned,
    h_pack: Aligned,
    pack: Aligned,
}

/// Writes dx `[rows, T, F]`, unless it is empty, and the shard's dW, dU, db and dc.
pub(crate) fn gru_backward(
    path: Path,
    weights: &TransposedWeights,
    trace: GruTrace<'_>,
    dx: &mut [f32],
    out: &mut GruGradients,
) {
    let GruTrace { rows, steps, features, hidden, .. } = trace;
    let sequence = rows * steps * hidden;
    assert!(trace.h.len() == sequence && trace.q.len() == sequence && trace.dh.len() == sequence);
    assert!(trace.gates.len() == 3 * sequence && trace.x.len() == rows * steps * features);
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
            let at = (t - first) * rows * stride;
            let slopes = Slopes::new(&trace, t, out, at, stride);
            // SAFETY: the asserts above and `clear` give every buffer the length that `Slopes` describes.
            unsafe { slopes_kernel(path, &slopes) };
            let left = |data| Left { data, rows, row_stride: stride, depth_stride: 1 };
            if t > 0 {
                let dq = left(&out.dq[at..]);
                gemm(path, dq, &weights.recurrent, &mut out.dh, hidden, Start::Zero, &mut out.pack);
            }
            if let Some(input) = weights.input.as_ref().filter(|_| !dx.is_empty()) {
                let (dp, dx) = (left(&out.dp[at..]), &mut dx[t * features..]);
                gemm(path, dp, input, dx, steps * features, Start::Zero, &mut out.pack);
            }
        }
        add_weight_gradients(path, &trace, (first, last), stride, out);
        last = first;
    }
    // The two biases' gradients differ in their last part alone.
    out.dc[..2 * hidden].copy_from_slice(&out.db[..2 * hidden]);
}

/// dW += xᵀ·dP and dU += h₋₁ᵀ·dQ over the steps `first..last`.
fn add_weight_gradients(
    path: Path,
    trace: &GruTrace<'_>,
    (first, last): (usize, usize),
    stride: usize,
    out: &mut GruGradients,
) {
    let GruTrace { rows, steps, features, hidden, .. } = *trace;
    let tile = rows_per_tile(path);
    let depth = (last - first) * rows;
    out.x_pack.resize(features.div_ceil(tile) * tile * depth);
    for t in first..last {
        let source = &trace.x[t * features..];
        let at = (t - first) * rows;
        pack_transposed(path, &mut out.x_pack, (depth, at), features, source, (rows, steps * features));
    }
    let mut outer =
        Outer { depth, rows: features, columns: 3 * hidden, right: &out.dp, right_stride: stride };
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
    (outer.depth, outer.rows, outer.right) = (depth, hidden, &out.dq[(begin - first) * rows * stride..]);
    outer.add(path, &out.h_pack, &mut out.du);
}

/// A row of dP and dQ is padded to whole panels, since the outer products read it unpacked.
fn gates_stride(path: Path, hidden: usize) -> usize {
    (3 * hidden).next_multiple_of(4 * path.lanes())
}

fn steps_per_chunk(rows: usize, steps: usize) -> usize {
    (OUTER_DEPTH / rows.max(1)).clamp(1, steps.max(1))
}

impl GruGradients {
    fn clear(&mut self, path: Path, trace: GruTrace<'_>) {
        let GruTrace { rows, steps, features, hidden, .. } = trace;
        let gates = steps_per_chunk(rows, steps) * rows * gates_stride(path, hidden);
        let sizes = [
            (&mut self.dw, features * 3 * hidden),
            (&mut self.du, hidden * 3 * hidden),
            (&mut self.db, 3 * hidden),
            (&mut self.dc, 3 * hidden),
            (&mut self.dh, rows * hidden),
            (&mut self.carry, rows * hidden),
            (&mut self.dp, gates),
            (&mut self.dq, gates),
        ];
        for (buffer, len) in sizes {
            buffer.resize(len);
            buffer.fill(0.0);
        }
    }
}

/// One step's elementwise part. A null `h_before` means zero.
struct Slopes {
    rows: usize,
    units: usize,
    gates: *const f32,
    gates_row: usize,
    q: *const f32,
    h_before: *const f32,
    dh_out: *const f32,
    sequence_row: usize,
    dh: *const f32,
    carry: *mut f32,
    dp: *mut f32,
    dq: *mut f32,
    gradient_row: usize,
    db: *mut f32,
    dc: *mut f32,
}

impl Slopes {
    /// Step t, whose dP and dQ start at `at`.
    fn new(trace: &GruTrace<'_>, t: usize, out: &mut GruGradients, at: usize, gradient_row: usize) -> Self {
        let hidden = trace.hidden;
        Slopes {
            rows: trace.rows,
            units: hidden,
            gates: trace.gates[t * 3 * hidden..].as_ptr(),
            gates_row: trace.steps * 3 * hidden,
            q: trace.q[t * hidden..].as_ptr(),
            h_before: if t == 0 { std::ptr::null() } else { trace.h[(t - 1) * hidden..].as_ptr() },
            dh_out: trace.dh[t * hidden..].as_ptr(),
            sequence_row: trace.steps * hidden,
            dh: out.dh.as_ptr(),
            carry: out.carry.as_mut_ptr(),
            dp: out.dp[at..].as_mut_ptr(),
            dq: out.dq[at..].as_mut_ptr(),
            gradient_row,
            db: out.db.as_mut_ptr(),
            dc: out.dc.as_mut_ptr(),
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
            // dr, dz and dn of b, then dn of c.
            let bias = |gate: usize| match gate {
                3 => s.dc.add(2 * s.units + unit),
                _ => s.db.add(gate * s.units + unit),
            };
            let mut sums = [S::splat(0.0); 4];
            for (gate, sum) in sums.iter_mut().enumerate() {
                *sum = S::load_first(bias(gate), lanes);
            }
            for row in 0..s.rows {
                let gate = |gate: usize| {
                    S::load_first(s.gates.add(row * s.gates_row + gate * s.units + unit), lanes)
                };
                let (r, z, n) = (gate(0), gate(1), gate(2));
                let at = row * s.sequence_row + unit;
                let local = row * s.units + unit;
                let after =
                    S::add(S::load_first(s.dh.add(local), lanes), S::load_first(s.carry.add(local), lanes));
                let dh = S::add(S::load_first(s.dh_out.add(at), lanes), after);
                let before = match s.h_before.is_null() {
                    true => S::splat(0.0),
                    false => S::load_first(s.h_before.add(at), lanes),
                };
                let sigmoid_slope = |y: S::V| S::mul(y, S::sub(one, y));
                let dn = S::mul(S::mul(dh, S::sub(one, z)), S::sub(one, S::mul(n, n)));
                let dr = S::mul(S::mul(dn, S::load_first(s.q.add(at), lanes)), sigmoid_slope(r));
                let dz = S::mul(S::mul(dh, S::sub(before, n)), sigmoid_slope(z));
                let dn_recurrent = S::mul(dn, r);
                S::store_first(s.carry.add(local), lanes, S::mul(dh, z));
                let target = row * s.gradient_row + unit;
                for (gate, (dp, dq)) in [(dr, dr), (dz, dz), (dn, dn_recurrent)].into_iter().enumerate() {
                    S::store_first(s.dp.add(target + gate * s.units), lanes, dp);
                    S::store_first(s.dq.add(target + gate * s.units), lanes, dq);
                }
                for (sum, x) in sums.iter_mut().zip([dr, dz, dn, dn_recurrent]) {
                    *sum = S::add(*sum, x);
                }
            }
            for (gate, sum) in sums.into_iter().enumerate() {
                S::store_first(bias(gate), lanes, sum);
            }
        }
        unit += S::LANES;
    }
}
