//! The LSTM forward of training, which keeps what the backward needs: each step's recurrent product and its
//! activations in one pass over tiles.
//!
//! i, f, o = σ(·), g = tanh(·) of x·W + h·U + b;  c ← f·c + i·g;  h ← o·tanh(c).
#![allow(unsafe_code)]

use super::activation::{sigmoid, tanh};
use super::aligned::Aligned;
use super::gemm::{Left, Start, accumulate, accumulate_row, gemm};
use super::panels::Panels;
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Below so many rows the input's product is made for all steps at once, since a step alone is bound by
/// reading the weights.
const ROWS_TO_FUSE: usize = 4;

/// W `[F, 4H]`, U `[H, 4H]` and b `[4H]`, packed by gates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LstmWeights {
    input: Panels,
    recurrent: Panels,
    bias: Aligned,
    features: usize,
    hidden: usize,
}

impl LstmWeights {
    /// Packs, reusing the buffers.
    pub(crate) fn pack(
        &mut self,
        path: Path,
        (features, hidden): (usize, usize),
        w: &[f32],
        u: &[f32],
        b: &[f32],
    ) {
        assert!(w.len() == features * 4 * hidden && u.len() == hidden * 4 * hidden && b.len() == 4 * hidden);
        (self.features, self.hidden) = (features, hidden);
        self.input.pack_gates(path, features, hidden, w);
        self.recurrent.pack_gates(path, hidden, hidden, u);
        let lanes = path.lanes();
        self.bias.resize(self.recurrent.columns());
        self.bias.fill(0.0);
        for (at, x) in b.iter().enumerate() {
            let (gate, unit) = (at / hidden, at % hidden);
            self.bias[(unit / lanes * 4 + gate) * lanes + unit % lanes] = *x;
        }
    }
}

/// Where the steps' results go, for the rows of one shard: h `[rows, T, H]`, c `[rows, T, H]`, the gates
/// `[rows, T, 4H]`.
pub(crate) struct LstmOutput<'a> {
    pub(crate) h: &'a mut [f32],
    pub(crate) c: &'a mut [f32],
    pub(crate) gates: &'a mut [f32],
}

/// Buffers that a shard reuses from run to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct LstmScratch {
    hoisted: Aligned,
    pack: Aligned,
}

/// x `[rows, steps, features]`, from a zero state.
pub(crate) fn lstm_forward(
    path: Path,
    weights: &LstmWeights,
    (rows, steps): (usize, usize),
    x: &[f32],
    output: LstmOutput<'_>,
    scratch: &mut LstmScratch,
) {
    let (features, hidden) = (weights.features, weights.hidden);
    if rows == 0 || steps == 0 || hidden == 0 {
        return;
    }
    let LstmOutput { h, c, gates } = output;
    assert_eq!(x.len(), rows * steps * features);
    assert!(h.len() == rows * steps * hidden && c.len() == h.len() && gates.len() == 4 * h.len());
    let columns = weights.input.columns();
    assert_eq!(weights.recurrent.width(), 4 * path.lanes());
    let hoist = rows < ROWS_TO_FUSE;
    if hoist {
        scratch.hoisted.resize(rows * steps * columns);
        let left = Left { data: x, rows: rows * steps, row_stride: features, depth_stride: 1 };
        let start = Start::Bias(&weights.bias);
        gemm(path, left, &weights.input, &mut scratch.hoisted, columns, start, &mut scratch.pack);
    }
    let places = Places { h: h.as_mut_ptr(), c: c.as_mut_ptr(), gates: gates.as_mut_ptr() };
    for t in 0..steps {
        let mut step = places.at(t, steps, hidden);
        step.rows = rows;
        step.units = hidden;
        step.recurrent = weights.recurrent.panel(0).as_ptr();
        if hoist {
            step.start = scratch.hoisted[t * columns..].as_ptr();
            step.start_row = steps * columns;
        } else {
            step.x = x[t * features..].as_ptr();
            step.x_row = steps * features;
            step.features = features;
            step.input = if features == 0 { step.x } else { weights.input.panel(0).as_ptr() };
            step.start = weights.bias.as_ptr();
        }
        // SAFETY: x, the hoisted product and the output have the asserted lengths, the panels cover
        // `features` and `hidden` rows of all units, and `places` covers `rows` rows at each step.
        unsafe { step_kernel(path, &step) };
    }
}

/// The buffers of h, c and the gates.
struct Places {
    h: *mut f32,
    c: *mut f32,
    gates: *mut f32,
}

impl Places {
    /// The pointers of step t; those of the step before are null at the first.
    fn at(&self, t: usize, steps: usize, hidden: usize) -> Step {
        let (h, c) = (self.h.wrapping_add(t * hidden), self.c.wrapping_add(t * hidden));
        let before = |now: *mut f32| {
            if t == 0 { std::ptr::null() } else { now.wrapping_sub(hidden).cast_const() }
        };
        Step {
            h: before(h),
            h_out: h,
            c: before(c),
            c_out: c,
            row: steps * hidden,
            gates: self.gates.wrapping_add(t * 4 * hidden),
            ..Step::default()
        }
    }
}

/// One step for all rows. `h` and `c` are null at the first step.
struct Step {
    rows: usize,
    units: usize,
    x: *const f32,
    x_row: usize,
    features: usize,
    input: *const f32,
    recurrent: *const f32,
    start: *const f32,
    start_row: usize,
    h: *const f32,
    h_out: *mut f32,
    c: *const f32,
    c_out: *mut f32,
    /// Numbers from row to row of h and c; the gates' are four times as many.
    row: usize,
    gates: *mut f32,
}

impl Default for Step {
    fn default() -> Self {
        let (none, none_mut) = (std::ptr::null(), std::ptr::null_mut());
        Step {
            rows: 0,
            units: 0,
            x: none,
            x_row: 0,
            features: 0,
            input: none,
            recurrent: none,
            start: none,
            start_row: 0,
            h: none,
            h_out: none_mut,
            c: none,
            c_out: none_mut,
            row: 0,
            gates: none_mut,
        }
    }
}

kernel!(unsafe fn step_kernel(step: &Step) = step_generic);

/// The sums of one tile on their way from the product to the activations.
#[repr(C, align(64))]
struct Sums([f32; 6 * 64]);

#[inline(always)]
unsafe fn step_generic<S: Simd>(s: &Step) {
    let panels = s.units.div_ceil(S::LANES);
    let mut sums = Sums([0.0; 6 * 64]);
    let mut panel = 0;
    while panel < panels {
        // SAFETY: the caller's; every tile is inside `rows` and `units`.
        unsafe {
            if s.rows == 1 && panel + 2 <= panels {
                pair::<S>(s, panel, &mut sums);
                activate::<S>(s, panel, 0, 1, sums.0.as_ptr());
                activate::<S>(s, panel + 1, 0, 1, sums.0.as_ptr().add(4 * S::LANES));
                panel += 2;
                continue;
            }
            let mut row = 0;
            while row < s.rows {
                let count = S::ROWS.min(s.rows - row);
                match count {
                    6 if S::ROWS >= 6 => product::<S, 6>(s, panel, row, &mut sums),
                    5 if S::ROWS >= 6 => product::<S, 5>(s, panel, row, &mut sums),
                    4 if S::ROWS >= 6 => product::<S, 4>(s, panel, row, &mut sums),
                    3 => product::<S, 3>(s, panel, row, &mut sums),
                    2 => product::<S, 2>(s, panel, row, &mut sums),
                    _ => product::<S, 1>(s, panel, row, &mut sums),
                }
                activate::<S>(s, panel, row, count, sums.0.as_ptr());
                row += count;
            }
        }
        panel += 1;
    }
}

/// start + x·W + h·U for R rows and one panel of units.
#[inline(always)]
unsafe fn product<S: Simd, const R: usize>(s: &Step, panel: usize, row: usize, out: &mut Sums) {
    let width = 4 * S::LANES;
    // SAFETY: the caller's; `out` holds six rows of sixteen lanes and four gates.
    unsafe {
        let mut sums = [[S::splat(0.0); 4]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let start = s.start.add((row + r) * s.start_row + panel * width);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(start.add(v * S::LANES));
            }
        }
        if s.features > 0 {
            let b = s.input.add(panel * s.features * width);
            accumulate::<S, R, 4>(&mut sums, s.x.add(row * s.x_row), s.x_row, 1, b, width, s.features);
        }
        if !s.h.is_null() {
            let b = s.recurrent.add(panel * s.units * width);
            accumulate::<S, R, 4>(&mut sums, s.h.add(row * s.row), s.row, 1, b, width, s.units);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(out.0.as_mut_ptr().add(row * width + v * S::LANES), *sum);
            }
        }
    }
}

/// The same for one row and two panels.
#[inline(always)]
unsafe fn pair<S: Simd>(s: &Step, panel: usize, out: &mut Sums) {
    let width = 4 * S::LANES;
    // SAFETY: the caller's; both panels exist.
    unsafe {
        let mut sums = [[S::splat(0.0); 4]; 2];
        for (p, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(s.start.add((panel + p) * width + v * S::LANES));
            }
        }
        if s.features > 0 {
            let size = s.features * width;
            accumulate_row::<S, 2>(&mut sums, s.x, 1, s.input.add(panel * size), size, width, s.features);
        }
        if !s.h.is_null() {
            let size = s.units * width;
            accumulate_row::<S, 2>(&mut sums, s.h, 1, s.recurrent.add(panel * size), size, width, s.units);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(out.0.as_mut_ptr().add(row * width + v * S::LANES), *sum);
            }
        }
    }
}

/// Gates, cell and hidden state of `count` rows from their sums.
#[inline(always)]
unsafe fn activate<S: Simd>(s: &Step, panel: usize, row: usize, count: usize, sums: *const f32) {
    let first = panel * S::LANES;
    let lanes = S::LANES.min(s.units - first);
    // SAFETY: the caller's; only `lanes` units are read and written.
    unsafe {
        for r in 0..count {
            let sums = sums.add(r * 4 * S::LANES);
            let row = row + r;
            let i = sigmoid::<S>(S::load(sums));
            let f = sigmoid::<S>(S::load(sums.add(S::LANES)));
            let g = tanh::<S>(S::load(sums.add(2 * S::LANES)));
            let o = sigmoid::<S>(S::load(sums.add(3 * S::LANES)));
            let mut c = S::mul(i, g);
            if !s.c.is_null() {
                c = S::fma(f, S::load_first(s.c.add(row * s.row + first), lanes), c);
            }
            let h = S::mul(o, tanh::<S>(c));
            S::store_first(s.c_out.add(row * s.row + first), lanes, c);
            S::store_first(s.h_out.add(row * s.row + first), lanes, h);
            let gates = s.gates.add(row * 4 * s.row + first);
            for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                S::store_first(gates.add(gate * s.units), lanes, value);
            }
        }
    }
}
