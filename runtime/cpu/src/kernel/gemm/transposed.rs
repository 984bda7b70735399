//! The product with a transposed left factor whose contraction is long: the gradient of weights, from the rows of a
//! whole batch. Both factors are read where they stand.

use super::super::aligned::Aligned;
use super::super::simd::{Simd, kernel};
use super::accumulate;
use crate::isa::Path;

/// So many k are summed in a chain of their own, from a copy of the right factor's rows that stays in the
/// nearest caches. The chains' sums are added in order.
const DEPTH_BLOCK: usize = 128;

/// a `[depth, a_stride]` of which `rows` columns from `first` count, b `[depth, b_stride]` of which `columns` from
/// `column` do.
#[derive(Clone, Copy)]
pub(crate) struct Transposed<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_stride: usize,
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) b: &'a [f32],
    pub(crate) b_stride: usize,
    pub(crate) column: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
}

impl Transposed<'_> {
    /// `output[m, n] = Σₖ a(k, first + m) · b(k, column + n)`
    pub(crate) fn run(&self, path: Path, output: &mut [f32], scratch: &mut Aligned) {
        let Transposed { a, a_stride, first, rows, b, b_stride, column, columns, depth } = *self;
        assert!(first + rows <= a_stride && a.len() >= depth * a_stride);
        assert!(column + columns <= b_stride && b.len() >= depth * b_stride);
        assert!(output.len() >= rows * columns);
        output[..rows * columns].fill(0.0);
        if rows == 0 || columns == 0 {
            return;
        }
        let width = 4 * path.lanes();
        let panel_len = DEPTH_BLOCK * width;
        scratch.resize(columns.div_ceil(width) * panel_len);
        let mut k = 0;
        while k < depth {
            let block = DEPTH_BLOCK.min(depth - k);
            for (i, row) in b[k * b_stride..(k + block) * b_stride].chunks_exact(b_stride).enumerate() {
                let row = &row[column..column + columns];
                for (panel, part) in row.chunks(width).enumerate() {
                    let target = &mut scratch[panel * panel_len + i * width..][..width];
                    target[..part.len()].copy_from_slice(part);
                    target[part.len()..].fill(0.0);
                }
            }
            for (panel, b) in scratch.chunks_exact(panel_len).enumerate() {
                let start = panel * width;
                let part = Part {
                    rows,
                    columns: width.min(columns - start),
                    depth: block,
                    a: a[k * a_stride + first..].as_ptr(),
                    a_stride,
                    b: b.as_ptr(),
                    c: output[start..].as_mut_ptr(),
                    c_stride: columns,
                };
                // SAFETY: the asserts above keep every element inside its slice; a panel holds `block` whole rows.
                unsafe { part_kernel(path, &part) };
            }
            k += block;
        }
    }
}

/// A block of k and a panel of columns.
struct Part {
    rows: usize,
    columns: usize,
    depth: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
}

kernel!(unsafe fn part_kernel(part: &Part) = part_generic);

#[inline(always)]
unsafe fn part_generic<S: Simd>(p: &Part) {
    // SAFETY: the caller's.
    unsafe {
        match p.columns.div_ceil(S::LANES) {
            1 => rows::<S, 1>(p),
            2 => rows::<S, 2>(p),
            3 => rows::<S, 3>(p),
            _ => rows::<S, 4>(p),
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd, const V: usize>(p: &Part) {
    let mut row = 0;
    while row < p.rows {
        let count = S::ROWS.min(p.rows - row);
        // SAFETY: the caller's; `count` rows from `row` are inside.
        unsafe {
            match count {
                6 if S::ROWS >= 6 => tile::<S, 6, V>(p, row),
                5 if S::ROWS >= 6 => tile::<S, 5, V>(p, row),
                4 if S::ROWS >= 6 => tile::<S, 4, V>(p, row),
                3 => tile::<S, 3, V>(p, row),
                2 => tile::<S, 2, V>(p, row),
                _ => tile::<S, 1, V>(p, row),
            }
        }
        row += count;
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(p: &Part, row: usize) {
    let last = p.columns - (V - 1) * S::LANES;
    // SAFETY: the caller's; the last vector reads and writes `last` lanes alone.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        accumulate::<S, R, V>(&mut sums, p.a.add(row), 1, p.a_stride, p.b, 4 * S::LANES, p.depth);
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let lanes = if v + 1 == V { last } else { S::LANES };
                let c = p.c.add((row + r) * p.c_stride + v * S::LANES);
                S::store_first(c, lanes, S::add(S::load_first(c, lanes), *sum));
            }
        }
    }
}
