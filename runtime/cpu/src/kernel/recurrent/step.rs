//! One step of a recurrent layer for some rows: two products over packed blocks and the gates in one pass.
//!
//! With P = x·W + b and Q = h₋₁·U + c, each summed in a chain of its own:
//! LSTM: i, f, o = σ(P + Q), g = tanh(P + Q); c ← f·c + i·g; h ← o·tanh(c).
//! GRU: r, z = σ(P + Q), n = tanh(Pₙ + r·Qₙ); h ← (1 − z)·n + z·h.
//! So P or Q may be made ahead of the step, together or alone, without a change of bits.
#![allow(unsafe_code)]

use super::format::{Bf16, F32, Format, Int8};
use super::weights::{Cell, Packed};
use crate::isa::Path;
use crate::kernel::activation::{sigmoid, tanh};
use crate::kernel::simd::{Simd, kernel};
use crate::precision::Precision;

/// Vectors of a block at most: an LSTM's gates.
const VECTORS_MAX: usize = 4;
/// Rows of a tile at most.
const ROWS_MAX: usize = 6;
/// Blocks that one row's step takes side by side, so that enough chains hide the latency.
const ABREAST: usize = 3;

/// One of the two sums: ready, or a product to be made.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// Rows `stride` numbers apart.
    Ready {
        sums: *const f32,
        stride: usize,
    },
    Product(Product),
}

/// rows · packed + bias. Rows are `stride` bytes apart; each has `scale` (a pointer `scale_stride` apart).
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) left: *const u8,
    pub(crate) stride: usize,
    pub(crate) scales: *const f32,
    pub(crate) scale_stride: usize,
    pub(crate) packed: *const u8,
    pub(crate) groups: usize,
    pub(crate) column_scales: *const f32,
    pub(crate) bias: *const f32,
}

impl Product {
    pub(crate) fn new(left: Left, packed: &Packed, bias: &[f32]) -> Self {
        Product {
            left: left.data,
            stride: left.stride,
            scales: left.scales,
            scale_stride: left.scale_stride,
            packed: packed.data(),
            groups: packed.groups(),
            column_scales: packed.scales(),
            bias: bias.as_ptr(),
        }
    }
}

/// Rows of activations as the layer's format has them.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) data: *const u8,
    /// Bytes from row to row.
    pub(crate) stride: usize,
    pub(crate) scales: *const f32,
    /// 0 where all rows share one.
    pub(crate) scale_stride: usize,
}

/// The step of `rows` rows and the blocks `first..last` of `units` units. Strides count numbers.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rows: usize,
    pub(crate) units: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) p: Side,
    pub(crate) q: Side,
    /// Before the step; null for zeros. The LSTM has it in `c_before`, the GRU in `h_before`.
    pub(crate) h_before: *const f32,
    pub(crate) h: *mut f32,
    pub(crate) h_stride: usize,
    /// h as codes for the next products; null for f32.
    pub(crate) codes: *mut u16,
    pub(crate) codes_stride: usize,
    pub(crate) code_of_one: f32,
    pub(crate) c_before: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
}

/// # Safety
/// Every pointer covers `rows` rows of its stride and all units, in the format of `precision`; products read
/// packed weights of `cell` and `units` units. No output overlaps an input, but `c` may be `c_before`.
pub(crate) unsafe fn step(path: Path, cell: Cell, precision: Precision, step: &Step) {
    // SAFETY: the caller's.
    unsafe {
        match (cell, precision) {
            (Cell::Lstm, Precision::F32) => lstm_f32(path, step),
            (Cell::Lstm, Precision::Bf16) => lstm_bf16(path, step),
            (Cell::Lstm, Precision::Int8) => lstm_int8(path, step),
            (Cell::Gru, Precision::F32) => gru_f32(path, step),
            (Cell::Gru, Precision::Bf16) => gru_bf16(path, step),
            (Cell::Gru, Precision::Int8) => gru_int8(path, step),
        }
    }
}

kernel!(unsafe fn lstm_f32(step: &Step) = step_generic, Lstm, F32);
kernel!(unsafe fn lstm_bf16(step: &Step) = step_generic, Lstm, Bf16);
kernel!(unsafe fn lstm_int8(step: &Step) = step_generic, Lstm, Int8);
kernel!(unsafe fn gru_f32(step: &Step) = step_generic, Gru, F32);
kernel!(unsafe fn gru_bf16(step: &Step) = step_generic, Gru, Bf16);
kernel!(unsafe fn gru_int8(step: &Step) = step_generic, Gru, Int8);

/// The blocks `first..last` of `rows` sums, rows `stride` numbers apart.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) rows: usize,
    pub(crate) units: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) product: Product,
    pub(crate) sums: *mut f32,
    pub(crate) stride: usize,
}

/// Makes a side ahead of its step.
///
/// # Safety
/// As [`step`]'s.
pub(crate) unsafe fn sums(path: Path, cell: Cell, precision: Precision, sums: &Sums) {
    // SAFETY: the caller's.
    unsafe {
        match (cell, precision) {
            (Cell::Lstm, Precision::F32) => lstm_sums_f32(path, sums),
            (Cell::Lstm, Precision::Bf16) => lstm_sums_bf16(path, sums),
            (Cell::Lstm, Precision::Int8) => lstm_sums_int8(path, sums),
            (Cell::Gru, Precision::F32) => gru_sums_f32(path, sums),
            (Cell::Gru, Precision::Bf16) => gru_sums_bf16(path, sums),
            (Cell::Gru, Precision::Int8) => gru_sums_int8(path, sums),
        }
    }
}

kernel!(unsafe fn lstm_sums_f32(s: &Sums) = sums_generic, Lstm, F32);
kernel!(unsafe fn lstm_sums_bf16(s: &Sums) = sums_generic, Lstm, Bf16);
kernel!(unsafe fn lstm_sums_int8(s: &Sums) = sums_generic, Lstm, Int8);
kernel!(unsafe fn gru_sums_f32(s: &Sums) = sums_generic, Gru, F32);
kernel!(unsafe fn gru_sums_bf16(s: &Sums) = sums_generic, Gru, Bf16);
kernel!(unsafe fn gru_sums_int8(s: &Sums) = sums_generic, Gru, Int8);

/// x as codes, rows of `depth` numbers to rows of `codes_stride` codes, and each row's scale.
pub(crate) fn encode(
    path: Path,
    precision: Precision,
    (rows, depth): (usize, usize),
    x: &[f32],
    codes: &mut [f32],
    scales: &mut [f32],
) {
    let stride = 2 * precision.groups(depth);
    assert!(precision != Precision::F32 && x.len() >= rows * depth && 2 * codes.len() >= rows * stride);
    assert!(scales.len() >= rows);
    let codes = codes.as_mut_ptr().cast::<u16>();
    for row in 0..rows {
        let x = &x[row * depth..][..depth];
        let one = precision.code_of_one(depth);
        let factor = if precision == Precision::Int8 {
            // A NaN must reach the scale.
            let most =
                x.iter().fold(0.0f32, |most, x| if x.abs() > most || x.is_nan() { x.abs() } else { most });
            scales[row] = most / one;
            if most > 0.0 { one / most } else { 0.0 }
        } else {
            1.0
        };
        // SAFETY: the row has `depth` numbers, and `stride` codes of which at most the last is padding.
        unsafe {
            let codes = codes.add(row * stride);
            *codes.add(stride.saturating_sub(1)) = 0;
            match precision {
                Precision::F32 => {}
                Precision::Bf16 => encode_bf16(path, x, codes, factor),
                Precision::Int8 => encode_int8(path, x, codes, factor),
            }
        }
    }
}

kernel!(unsafe fn encode_bf16(x: &[f32], codes: *mut u16, factor: f32) = encode_generic, Bf16);
kernel!(unsafe fn encode_int8(x: &[f32], codes: *mut u16, factor: f32) = encode_generic, Int8);

#[inline(always)]
unsafe fn encode_generic<S: Simd, F: Format>(x: &[f32], codes: *mut u16, factor: f32) {
    let mut at = 0;
    while at < x.len() {
        let lanes = S::LANES.min(x.len() - at);
        // SAFETY: the caller owns as many codes as numbers.
        unsafe { F::encode::<S>(codes.add(at), lanes, S::load_first(x.as_ptr().add(at), lanes), factor) };
        at += lanes;
    }
}

/// A recurrence's gates.
trait Gates: Copy {
    const GATES: usize;

    /// The new h (and c) of the first `lanes` units of a block. A gate's sums are `offset` numbers after the
    /// last one's; `h` is null for zeros.
    unsafe fn apply<S: Simd>(
        sums: [*const f32; 2],
        offset: usize,
        lanes: usize,
        before: *const f32,
        c: *mut f32,
    ) -> S::V;
}

/// P + Q of one gate.
#[inline(always)]
unsafe fn both<S: Simd>([p, q]: [*const f32; 2], at: usize, lanes: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe { S::add(S::load_first(p.add(at), lanes), S::load_first(q.add(at), lanes)) }
}

#[derive(Clone, Copy)]
struct Lstm;
#[derive(Clone, Copy)]
struct Gru;

impl Gates for Lstm {
    const GATES: usize = 4;

    #[inline(always)]
    unsafe fn apply<S: Simd>(
        [p, q]: [*const f32; 2],
        offset: usize,
        lanes: usize,
        before: *const f32,
        c_out: *mut f32,
    ) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let i = sigmoid::<S>(both::<S>([p, q], 0, lanes));
            let f = sigmoid::<S>(both::<S>([p, q], offset, lanes));
            let g = tanh::<S>(both::<S>([p, q], 2 * offset, lanes));
            let o = sigmoid::<S>(both::<S>([p, q], 3 * offset, lanes));
            let mut c = S::mul(i, g);
            if !before.is_null() {
                c = S::fma(f, S::load_first(before, lanes), c);
            }
            S::store_first(c_out, lanes, c);
            S::mul(o, tanh::<S>(c))
        }
    }
}

impl Gates for Gru {
    const GATES: usize = 3;

    #[inline(always)]
    unsafe fn apply<S: Simd>(
        [p, q]: [*const f32; 2],
        offset: usize,
        lanes: usize,
        before: *const f32,
        _: *mut f32,
    ) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let r = sigmoid::<S>(both::<S>([p, q], 0, lanes));
            let z = sigmoid::<S>(both::<S>([p, q], offset, lanes));
            let (p, q) = (p.add(2 * offset), q.add(2 * offset));
            let n = tanh::<S>(S::fma(r, S::load_first(q, lanes), S::load_first(p, lanes)));
            let kept = S::mul(S::sub(S::splat(1.0), z), n);
            if before.is_null() { kept } else { S::fma(z, S::load_first(before, lanes), kept) }
        }
    }
}

/// Sums on their way from the products to the gates.
#[repr(C, align(64))]
struct Buffer([f32; ROWS_MAX * VECTORS_MAX * 16]);

impl Buffer {
    #[inline(always)]
    fn new() -> std::mem::MaybeUninit<Self> {
        std::mem::MaybeUninit::uninit()
    }
}

#[inline(always)]
unsafe fn step_generic<S: Simd, G: Gates, F: Format>(s: &Step) {
    let full = (s.units / S::LANES).min(s.last);
    let mut block = s.first;
    // SAFETY: the caller's; every tile is inside `rows` and the blocks.
    unsafe {
        if s.rows == 1 {
            while block + ABREAST <= full {
                step_row::<S, G, F, ABREAST>(s, block);
                block += ABREAST;
            }
            if block + 2 <= full {
                step_row::<S, G, F, 2>(s, block);
                block += 2;
            }
        }
        while block < s.last {
            let mut row = 0;
            while row < s.rows {
                row += match S::ROWS.min(s.rows - row) {
                    6.. if S::ROWS >= 6 => step_tile::<S, G, F, 6>(s, block, row),
                    4..6 if S::ROWS >= 6 => step_tile::<S, G, F, 4>(s, block, row),
                    3 if S::ROWS == 3 => step_tile::<S, G, F, 3>(s, block, row),
                    2.. => step_tile::<S, G, F, 2>(s, block, row),
                    _ => step_tile::<S, G, F, 1>(s, block, row),
                };
            }
            block += 1;
        }
    }
}

/// One row and W whole blocks.
#[inline(always)]
unsafe fn step_row<S: Simd, G: Gates, F: Format, const W: usize>(s: &Step, block: usize) {
    let width = G::GATES * S::LANES;
    let (mut p, mut q) = (Buffer::new(), Buffer::new());
    // SAFETY: the caller's; a buffer holds W ≤ 6 blocks.
    unsafe {
        let p = side_of_row::<S, G, F, W>(&s.p, block, p.as_mut_ptr().cast());
        let q = side_of_row::<S, G, F, W>(&s.q, block, q.as_mut_ptr().cast());
        for at in 0..W {
            finish::<S, G, F>(s, block + at, 0, [p.add(at * width), q.add(at * width)]);
        }
    }
}

#[inline(always)]
unsafe fn side_of_row<S: Simd, G: Gates, F: Format, const W: usize>(
    side: &Side,
    block: usize,
    buffer: *mut f32,
) -> *const f32 {
    // SAFETY: the caller's.
    unsafe {
        match side {
            Side::Ready { sums, .. } => sums.add(block * G::GATES * S::LANES),
            Side::Product(product) => {
                abreast::<S, G, F, W>(product, block, buffer);
                buffer.cast_const()
            }
        }
    }
}

/// R rows and one block, whole or not. Gives R.
#[inline(always)]
unsafe fn step_tile<S: Simd, G: Gates, F: Format, const R: usize>(
    s: &Step,
    block: usize,
    row: usize,
) -> usize {
    let (mut p, mut q) = (Buffer::new(), Buffer::new());
    // SAFETY: the caller's; a buffer holds R ≤ 6 rows.
    unsafe {
        let p = side_of_tile::<S, G, F, R>(&s.p, s.units, block, row, p.as_mut_ptr().cast());
        let q = side_of_tile::<S, G, F, R>(&s.q, s.units, block, row, q.as_mut_ptr().cast());
        for at in 0..R {
            finish::<S, G, F>(s, block, row + at, [p.0.add(at * p.1), q.0.add(at * q.1)]);
        }
    }
    R
}

/// The sums, and how far rows are apart.
#[inline(always)]
unsafe fn side_of_tile<S: Simd, G: Gates, F: Format, const R: usize>(
    side: &Side,
    units: usize,
    block: usize,
    row: usize,
    buffer: *mut f32,
) -> (*const f32, usize) {
    let width = G::GATES * S::LANES;
    // SAFETY: the caller's.
    unsafe {
        match side {
            Side::Ready { sums, stride } => (sums.add(row * stride + block * width), *stride),
            Side::Product(product) => {
                tile::<S, G, F, R>(product, units, block, row, (buffer, width));
                (buffer.cast_const(), width)
            }
        }
    }
}

/// The gates of one row and block.
#[inline(always)]
unsafe fn finish<S: Simd, G: Gates, F: Format>(s: &Step, block: usize, row: usize, sums: [*const f32; 2]) {
    let first = block * S::LANES;
    let lanes = S::LANES.min(s.units - first);
    // SAFETY: the caller's; only `lanes` units are read and written.
    unsafe {
        let (before, stride) =
            if G::GATES == 4 { (s.c_before, s.c_stride) } else { (s.h_before, s.h_stride) };
        let before = if before.is_null() { before } else { before.add(row * stride + first) };
        let c = if G::GATES == 4 { s.c.add(row * s.c_stride + first) } else { s.c };
        let h = G::apply::<S>(sums, lanes, lanes, before, c);
        S::store_first(s.h.add(row * s.h_stride + first), lanes, h);
        if F::DEPTH > 1 {
            F::encode::<S>(s.codes.add(row * s.codes_stride + first), lanes, h, s.code_of_one);
        }
    }
}

#[inline(always)]
unsafe fn sums_generic<S: Simd, G: Gates, F: Format>(s: &Sums) {
    let width = G::GATES * S::LANES;
    let full = (s.units / S::LANES).min(s.last);
    let mut block = s.first;
    // SAFETY: the caller's; every tile is inside `rows` and the blocks.
    unsafe {
        if s.rows == 1 {
            while block + ABREAST <= full {
                abreast::<S, G, F, ABREAST>(&s.product, block, s.sums.add(block * width));
                block += ABREAST;
            }
        }
        while block < s.last {
            let mut row = 0;
            while row < s.rows {
                let (product, units) = (&s.product, s.units);
                let out = (s.sums.add(row * s.stride + block * width), s.stride);
                row += match S::ROWS.min(s.rows - row) {
                    6.. if S::ROWS >= 6 => tile::<S, G, F, 6>(product, units, block, row, out),
                    4..6 if S::ROWS >= 6 => tile::<S, G, F, 4>(product, units, block, row, out),
                    3 if S::ROWS == 3 => tile::<S, G, F, 3>(product, units, block, row, out),
                    2.. => tile::<S, G, F, 2>(product, units, block, row, out),
                    _ => tile::<S, G, F, 1>(product, units, block, row, out),
                };
            }
            block += 1;
        }
    }
}

/// The sums of R rows and one block. Gives R.
#[inline(always)]
unsafe fn tile<S: Simd, G: Gates, F: Format, const R: usize>(
    product: &Product,
    units: usize,
    block: usize,
    row: usize,
    out: (*mut f32, usize),
) -> usize {
    let lanes = S::LANES.min(units - block * S::LANES);
    // SAFETY: the caller's; a block of fewer units has fewer vectors.
    unsafe {
        if lanes == S::LANES {
            match G::GATES {
                4 => vectors::<S, G, F, R, 4>(product, block, 0, row, out),
                _ => vectors::<S, G, F, R, 3>(product, block, 0, row, out),
            }
        } else {
            for vector in 0..(G::GATES * lanes).div_ceil(S::LANES) {
                vectors::<S, G, F, R, 1>(product, block, vector, row, out);
            }
        }
    }
    R
}

/// The sums of R rows and V vectors of one block, one chain for each.
#[inline(always)]
unsafe fn vectors<S: Simd, G: Gates, F: Format, const R: usize, const V: usize>(
    p: &Product,
    block: usize,
    vector: usize,
    row: usize,
    (out, out_stride): (*mut f32, usize),
) {
    let (panel, step) = (p.groups * G::GATES * S::LANES * F::BYTES, G::GATES * S::LANES * F::BYTES);
    let column = block * G::GATES * S::LANES + vector * S::LANES;
    // SAFETY: the caller's. The pointers run one group past their last use, so they wrap.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        let mut left = p.left.wrapping_add(row * p.stride);
        let mut right = p.packed.wrapping_add(block * panel + vector * S::LANES * F::BYTES);
        for _ in 0..p.groups {
            let mut lefts = [S::splat(0.0); R];
            for (r, value) in lefts.iter_mut().enumerate() {
                *value = S::splat(*left.add(r * p.stride).cast::<f32>());
            }
            for v in 0..V {
                let weights = F::right::<S>(right.add(v * S::LANES * F::BYTES));
                for (value, sums) in lefts.iter().zip(&mut sums) {
                    sums[v] = F::accumulate::<S>(sums[v], *value, weights);
                }
            }
            left = left.wrapping_add(4);
            right = right.wrapping_add(step);
        }
        for (r, sums) in sums.iter().enumerate() {
            let scale = row_scale::<F>(p, row + r);
            for (v, sum) in sums.iter().enumerate() {
                let at = column + v * S::LANES;
                let sum = F::finish::<S>(*sum, scale, p.column_scales.wrapping_add(at));
                let sum = S::add(sum, S::load(p.bias.add(at)));
                S::store(out.add(r * out_stride + (vector + v) * S::LANES), sum);
            }
        }
    }
}

/// The sums of one row and W whole blocks, one after another at `out`.
#[inline(always)]
unsafe fn abreast<S: Simd, G: Gates, F: Format, const W: usize>(p: &Product, block: usize, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        match G::GATES {
            4 => blocks::<S, F, W, 4>(p, block, out),
            _ => blocks::<S, F, W, 3>(p, block, out),
        }
    }
}

#[inline(always)]
unsafe fn blocks<S: Simd, F: Format, const W: usize, const V: usize>(
    p: &Product,
    block: usize,
    out: *mut f32,
) {
    let step = V * S::LANES * F::BYTES;
    let panel = p.groups * step;
    // SAFETY: the caller's. The pointers run one group past their last use, so they wrap.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; W];
        let mut left = p.left;
        let mut right = p.packed.wrapping_add(block * panel);
        for _ in 0..p.groups {
            let value = S::splat(*left.cast::<f32>());
            for (w, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let weights = F::right::<S>(right.add(w * panel + v * S::LANES * F::BYTES));
                    *sum = F::accumulate::<S>(*sum, value, weights);
                }
            }
            left = left.wrapping_add(4);
            right = right.wrapping_add(step);
        }
        let scale = row_scale::<F>(p, 0);
        for (w, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let at = ((block + w) * V + v) * S::LANES;
                let sum = F::finish::<S>(*sum, scale, p.column_scales.wrapping_add(at));
                S::store(out.add((w * V + v) * S::LANES), S::add(sum, S::load(p.bias.add(at))));
            }
        }
    }
}

#[inline(always)]
unsafe fn row_scale<F: Format>(p: &Product, row: usize) -> f32 {
    if F::BYTES == 2 {
        // SAFETY: int8 products have a scale for each row.
        unsafe { *p.scales.add(row * p.scale_stride) }
    } else {
        1.0
    }
}
