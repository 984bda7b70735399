//! The matrix product: register tiles of a few rows by four vectors of columns over packed panels.
#![allow(unsafe_code)]

pub(crate) mod single;
pub(crate) mod transposed;

use super::aligned::Aligned;
use super::panels::Panels;
use super::simd::{Simd, kernel};
use crate::isa::Path;
use single::{Parts, single};

/// So many k at a time, so that a panel stays in the second-level cache.
const DEPTH_BLOCK: usize = 512;

/// The left factor: element (m, k) stands at `data[m · row_stride + k · depth_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) row_stride: usize,
    pub(crate) depth_stride: usize,
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// One row for all rows.
    Bias(&'a [f32]),
}

/// `output[m · row_stride + n] = start + Σₖ left(m, k) · right(k, n)`, summed over k in order; a right factor of one
/// column as [`single`] does it. `scratch` is used when the left factor is stored by columns.
pub(crate) fn gemm(
    path: Path,
    left: Left<'_>,
    right: &Panels,
    output: &mut [f32],
    row_stride: usize,
    start: Start<'_>,
    scratch: &mut Aligned,
) {
    let (m, n, depth) = (left.rows, right.columns(), right.depth());
    if m == 0 || n == 0 {
        return;
    }
    assert!(depth == 0 || left.data.len() > (m - 1) * left.row_stride + (depth - 1) * left.depth_stride);
    assert!(output.len() >= (m - 1) * row_stride + n && row_stride >= n);
    let block_rows = rows_per_tile(path);
    let (a, a_block, a_row, a_depth) = if left.depth_stride == 1 || m == 1 {
        (left.data.as_ptr(), block_rows * left.row_stride, left.row_stride, left.depth_stride)
    } else {
        pack_left(left, depth, block_rows, scratch);
        (scratch.as_ptr(), block_rows * depth, 1, block_rows)
    };
    let target = output.as_mut_ptr();
    let (mut init, mut init_row) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Bias(bias) => {
            assert!(bias.len() >= n);
            (bias.as_ptr(), 0)
        }
    };
    let width = right.width();
    let depth_block = if n == 1 { depth } else { DEPTH_BLOCK };
    let mut k = 0;
    loop {
        let step = depth_block.min(depth - k);
        let product = Product {
            rows: m,
            columns: n,
            depth: step,
            a: a.wrapping_add(k * a_depth),
            a_block,
            a_row,
            a_depth,
            b: if depth == 0 { a } else { right.panel(0)[k * width..].as_ptr() },
            b_panel: width * depth,
            b_row: width,
            c: target,
            c_row: row_stride,
            init,
            init_row,
        };
        // SAFETY: the asserts above keep every element inside its slice, for k + step ≤ depth.
        unsafe { product_kernel(path, &product) };
        (init, init_row) = (target.cast_const(), row_stride);
        k += step;
        if k >= depth {
            break;
        }
    }
}

/// `output += leftᵀ · right`: left `[depth, rows]` and right `[depth, columns]` are stored by rows of
/// `left_stride` and `right_stride` numbers. `right_stride` is a multiple of the panel width and what lies
/// beyond `columns` is finite. Used for the gradients of weights.
pub(crate) struct Outer<'a> {
    pub(crate) depth: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) right: &'a [f32],
    pub(crate) right_stride: usize,
}

impl Outer<'_> {
    /// `left` was packed by [`pack_transposed`]; `output` has rows of `columns` numbers.
    pub(crate) fn add(&self, path: Path, left: &[f32], output: &mut [f32]) {
        let Outer { depth, rows, columns, right, right_stride } = *self;
        let (block_rows, width) = (rows_per_tile(path), 4 * path.lanes());
        assert!(left.len() >= rows.div_ceil(block_rows) * block_rows * depth);
        assert!(right_stride.is_multiple_of(width) && right_stride >= columns);
        assert!(right.len() >= depth * right_stride && output.len() >= rows * columns);
        if rows == 0 || columns == 0 || depth == 0 {
            return;
        }
        let product = Product {
            rows,
            columns,
            depth,
            a: left.as_ptr(),
            a_block: block_rows * depth,
            a_row: 1,
            a_depth: block_rows,
            b: right.as_ptr(),
            b_panel: width,
            b_row: right_stride,
            c: output.as_mut_ptr(),
            c_row: columns,
            init: output.as_ptr(),
            init_row: columns,
        };
        // SAFETY: the asserts above keep every element inside its slice.
        unsafe { product_kernel(path, &product) }
    }
}

/// Rows of a register tile.
pub(crate) fn rows_per_tile(path: Path) -> usize {
    match path.isa() {
        crate::Isa::Portable => super::simd::Portable::ROWS,
        #[cfg(target_arch = "x86_64")]
        crate::Isa::Avx2 => super::simd::Avx2::ROWS,
        #[cfg(target_arch = "x86_64")]
        crate::Isa::Avx512 | crate::Isa::Avx512Bf16 => super::simd::Avx512::ROWS,
        #[cfg(not(target_arch = "x86_64"))]
        crate::Isa::Avx2 | crate::Isa::Avx512 | crate::Isa::Avx512Bf16 => super::simd::Portable::ROWS,
    }
}

/// Blocks of `block_rows` rows, each `[depth, block_rows]`.
fn pack_left(left: Left<'_>, depth: usize, block_rows: usize, target: &mut Aligned) {
    target.resize(left.rows.div_ceil(block_rows) * block_rows * depth);
    for k in 0..depth {
        for m in 0..left.rows {
            target[(m / block_rows * depth + k) * block_rows + m % block_rows] =
                left.data[m * left.row_stride + k * left.depth_stride];
        }
    }
}

/// Packs `count` rows of `rows` numbers, the i-th at `source[i · stride]`, as k = `at` … of a transposed left
/// factor of `depth` k in all.
pub(crate) fn pack_transposed(
    path: Path,
    target: &mut Aligned,
    (depth, at): (usize, usize),
    rows: usize,
    source: &[f32],
    (count, stride): (usize, usize),
) {
    let block_rows = rows_per_tile(path);
    assert!(at + count <= depth && target.len() >= rows.div_ceil(block_rows) * block_rows * depth);
    for i in 0..count {
        let row = &source[i * stride..i * stride + rows];
        for (block, part) in row.chunks(block_rows).enumerate() {
            let start = (block * depth + at + i) * block_rows;
            target[start..start + part.len()].copy_from_slice(part);
        }
    }
}

/// One product whose depth fits the cache. A null `init` means zero.
struct Product {
    rows: usize,
    columns: usize,
    depth: usize,
    a: *const f32,
    a_block: usize,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_panel: usize,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    init: *const f32,
    init_row: usize,
}

kernel!(unsafe fn product_kernel(product: &Product) = product_generic);

#[inline(always)]
unsafe fn product_generic<S: Simd>(p: &Product) {
    if p.columns == 1 {
        // SAFETY: the caller's.
        return unsafe { column::<S>(p) };
    }
    let width = 4 * S::LANES;
    let panels = p.columns.div_ceil(width);
    let mut panel = 0;
    while panel < panels {
        let columns = (p.columns - panel * width).min(width);
        let (vectors, pair) = (columns.div_ceil(S::LANES), p.rows == 1 && (panel + 2) * width <= p.columns);
        // SAFETY: the caller's; tiles stay inside `rows` and `columns`.
        unsafe {
            match vectors {
                _ if pair => pair_of_panels::<S>(p, panel),
                1 => panel_of_vectors::<S, 1>(p, panel, columns),
                2 => panel_of_vectors::<S, 2>(p, panel, columns),
                3 => panel_of_vectors::<S, 3>(p, panel, columns),
                _ => panel_of_vectors::<S, 4>(p, panel, columns),
            }
        }
        panel += 1 + usize::from(pair);
    }
}

#[inline(always)]
unsafe fn panel_of_vectors<S: Simd, const V: usize>(p: &Product, panel: usize, columns: usize) {
    let mut row = 0;
    while row < p.rows {
        let count = S::ROWS.min(p.rows - row);
        // SAFETY: the caller's; `count` rows from `row` are inside.
        unsafe {
            match count {
                6 if S::ROWS >= 6 => tile::<S, 6, V>(p, panel, row, columns),
                5 if S::ROWS >= 6 => tile::<S, 5, V>(p, panel, row, columns),
                4 if S::ROWS >= 6 => tile::<S, 4, V>(p, panel, row, columns),
                3 => tile::<S, 3, V>(p, panel, row, columns),
                2 => tile::<S, 2, V>(p, panel, row, columns),
                _ => tile::<S, 1, V>(p, panel, row, columns),
            }
        }
        row += count;
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    p: &Product,
    panel: usize,
    row: usize,
    columns: usize,
) {
    let first = panel * 4 * S::LANES;
    let last = columns - (V - 1) * S::LANES;
    // SAFETY: the caller's; the last vector reads and writes `last` lanes alone.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        if !p.init.is_null() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let init = p.init.add((row + r) * p.init_row + first);
                for (v, sum) in sums.iter_mut().enumerate() {
                    let lanes = if v + 1 == V { last } else { S::LANES };
                    *sum = S::load_first(init.add(v * S::LANES), lanes);
                }
            }
        }
        let a = p.a.add(row / S::ROWS * p.a_block);
        accumulate::<S, R, V>(&mut sums, a, p.a_row, p.a_depth, p.b.add(panel * p.b_panel), p.b_row, p.depth);
        for (r, sums) in sums.iter().enumerate() {
            let c = p.c.add((row + r) * p.c_row + first);
            for (v, sum) in sums.iter().enumerate() {
                let lanes = if v + 1 == V { last } else { S::LANES };
                if lanes == S::LANES {
                    S::store(c.add(v * S::LANES), *sum);
                } else {
                    S::store_first(c.add(v * S::LANES), lanes, *sum);
                }
            }
        }
    }
}

/// All rows of the only column.
#[inline(always)]
unsafe fn column<S: Simd>(p: &Product) {
    for row in 0..p.rows {
        // SAFETY: the caller's; one lane of `init` and of c is used, and a panel's row is four vectors.
        unsafe {
            let a = p.a.add(row / S::ROWS * p.a_block + row % S::ROWS * p.a_row);
            let parts = Parts { count: 1, depth: p.depth, apart: 0 };
            let mut sum = single::<S>(parts, (a, p.a_depth), (p.b, p.b_row));
            if !p.init.is_null() {
                sum = S::add(sum, S::load_first(p.init.add(row * p.init_row), 1));
            }
            S::store_first(p.c.add(row * p.c_row), 1, sum);
        }
    }
}

/// One row and two whole panels: eight chains hide the latency of the multiply-adds.
#[inline(always)]
unsafe fn pair_of_panels<S: Simd>(p: &Product, panel: usize) {
    let first = panel * 4 * S::LANES;
    // SAFETY: the caller's; both panels are whole.
    unsafe {
        let mut sums = [[S::splat(0.0); 4]; 2];
        if !p.init.is_null() {
            for (panel, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(p.init.add(first + (panel * 4 + v) * S::LANES));
                }
            }
        }
        let b = p.b.add(panel * p.b_panel);
        accumulate_row::<S, 2>(&mut sums, p.a, p.a_depth, b, p.b_panel, p.b_row, p.depth);
        for (panel, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(p.c.add(first + (panel * 4 + v) * S::LANES), *sum);
            }
        }
    }
}

/// `sums[r][v] += Σₖ a(r, k) · b(k, v)`, one chain for each.
///
/// # Safety
/// The machine has the instructions of `S`; `a` holds R rows and `b` V vectors for each of `depth` k.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const R: usize, const V: usize>(
    sums: &mut [[S::V; V]; R],
    mut a: *const f32,
    a_row: usize,
    a_depth: usize,
    mut b: *const f32,
    b_row: usize,
    depth: usize,
) {
    // SAFETY: the caller's. The pointers run one step past their last use, so they wrap.
    unsafe {
        let mut local = *sums;
        for _ in 0..depth {
            let mut left = [S::splat(0.0); R];
            for (r, left) in left.iter_mut().enumerate() {
                *left = S::splat(*a.add(r * a_row));
            }
            for v in 0..V {
                let right = S::load(b.add(v * S::LANES));
                for (left, local) in left.iter().zip(&mut local) {
                    local[v] = S::fma(*left, right, local[v]);
                }
            }
            a = a.wrapping_add(a_depth);
            b = b.wrapping_add(b_row);
        }
        *sums = local;
    }
}

/// As [`accumulate`] for one row over P panels of four vectors, `b_panel` apart.
///
/// # Safety
/// As [`accumulate`]'s.
#[inline(always)]
pub(crate) unsafe fn accumulate_row<S: Simd, const P: usize>(
    sums: &mut [[S::V; 4]; P],
    mut a: *const f32,
    a_depth: usize,
    mut b: *const f32,
    b_panel: usize,
    b_row: usize,
    depth: usize,
) {
    // SAFETY: the caller's. The pointers run one step past their last use, so they wrap.
    unsafe {
        let mut local = *sums;
        for _ in 0..depth {
            let left = S::splat(*a);
            for (panel, local) in local.iter_mut().enumerate() {
                for (v, sum) in local.iter_mut().enumerate() {
                    *sum = S::fma(left, S::load(b.add(panel * b_panel + v * S::LANES)), *sum);
                }
            }
            a = a.wrapping_add(a_depth);
            b = b.wrapping_add(b_row);
        }
        *sums = local;
    }
}

#[cfg(test)]
mod tests;
