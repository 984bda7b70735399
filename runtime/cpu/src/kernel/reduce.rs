//! The sum of a matrix's rows. In groups of eight rows and of eight such groups, each a chain of its own, so that a
//! long sum rounds less; by the number of rows alone, so that a column's bits don't depend on those beside it.
#![allow(unsafe_code)]

use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Rows of the smallest groups, and how many of those make a larger one.
const GROUP: usize = 8;

/// Row i of `columns` numbers stands at `data[i · stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

/// y = the sum of the rows, 0 of none; then divided by `count` where that is given.
pub(crate) fn sum_rows(path: Path, x: Rows<'_>, count: Option<f32>, y: &mut [f32]) {
    assert!(y.len() == x.columns);
    assert!(x.rows == 0 || x.data.len() >= (x.rows - 1) * x.stride + x.columns);
    // SAFETY: every row lies inside the data, and y has a number for each column.
    unsafe { sum_kernel(path, &x, count, y.as_mut_ptr()) }
}

kernel!(unsafe fn sum_kernel(x: &Rows<'_>, count: Option<f32>, y: *mut f32) = sum_generic);

#[inline(always)]
unsafe fn sum_generic<S: Simd>(x: &Rows<'_>, count: Option<f32>, y: *mut f32) {
    let mut first = 0;
    while first < x.columns {
        let columns = (x.columns - first).min(4 * S::LANES);
        // SAFETY: the caller's; strips stay inside the columns.
        unsafe {
            match columns.div_ceil(S::LANES) {
                1 => strip::<S, 1>(x, first, columns, count, y),
                2 => strip::<S, 2>(x, first, columns, count, y),
                3 => strip::<S, 3>(x, first, columns, count, y),
                _ => strip::<S, 4>(x, first, columns, count, y),
            }
        }
        first += columns;
    }
}

/// V vectors of columns, the last one `columns - (V - 1) · LANES` wide.
#[inline(always)]
unsafe fn strip<S: Simd, const V: usize>(
    x: &Rows<'_>,
    first: usize,
    columns: usize,
    count: Option<f32>,
    y: *mut f32,
) {
    let last = columns - (V - 1) * S::LANES;
    // SAFETY: the caller's; the last vector reads and writes `last` lanes alone.
    unsafe {
        let mut all = [S::splat(0.0); V];
        let mut row = 0;
        while row < x.rows {
            let large_end = x.rows.min(row + GROUP * GROUP);
            let mut large = [S::splat(0.0); V];
            while row < large_end {
                let end = large_end.min(row + GROUP);
                let mut small = [S::splat(0.0); V];
                while row < end {
                    let start = x.data.as_ptr().add(row * x.stride + first);
                    for (v, small) in small.iter_mut().enumerate() {
                        let lanes = if v + 1 == V { last } else { S::LANES };
                        *small = S::add(*small, S::load_first(start.add(v * S::LANES), lanes));
                    }
                    row += 1;
                }
                for (large, small) in large.iter_mut().zip(&small) {
                    *large = S::add(*large, *small);
                }
            }
            for (all, large) in all.iter_mut().zip(&large) {
                *all = S::add(*all, *large);
            }
        }
        for (v, all) in all.iter().enumerate() {
            let lanes = if v + 1 == V { last } else { S::LANES };
            let sum = match count {
                Some(count) => S::div(*all, S::splat(count)),
                None => *all,
            };
            S::store_first(y.add(first + v * S::LANES), lanes, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(i: usize) -> f32 {
        ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.4
    }

    #[test]
    fn sums_match_f64_and_a_column_has_the_same_bits_in_any_strip() {
        for path in Path::all() {
            for (rows, columns) in [(0, 3), (1, 1), (7, 5), (8, 64), (60, 65), (64, 130), (1000, 33)] {
                let stride = columns + 3;
                let data: Vec<f32> = (0..rows * stride).map(number).collect();
                let x = Rows { data: &data, rows, columns, stride };
                let mut y = vec![f32::NAN; columns];
                sum_rows(path, x, None, &mut y);
                let mut mean = vec![f32::NAN; columns];
                sum_rows(path, x, Some(60.0), &mut mean);
                for c in 0..columns {
                    let want: f64 = (0..rows).map(|r| f64::from(data[r * stride + c])).sum();
                    assert!((f64::from(y[c]) - want).abs() < 1e-6 * (1.0 + rows as f64 * 0.05));
                    assert_eq!(mean[c], y[c] / 60.0);
                    let mut one = [f32::NAN];
                    let data = data.get(c..).unwrap_or_default();
                    sum_rows(path, Rows { data, columns: 1, ..x }, None, &mut one);
                    assert_eq!(one[0], y[c], "{} {rows} {c}", path.isa());
                }
            }
        }
    }

    /// A chain of so many additions would be off by hundreds of units of the last place.
    #[test]
    fn a_long_sum_of_equal_numbers_is_nearly_exact() {
        for path in Path::all() {
            let data = vec![0.1f32; 100_000];
            let mut y = [0.0];
            let x = Rows { data: &data, rows: data.len(), columns: 1, stride: 1 };
            sum_rows(path, x, None, &mut y);
            let want = f64::from(0.1f32) * 1e5;
            assert!((f64::from(y[0]) / want - 1.0).abs() < 5e-6, "{}", y[0]);
        }
    }
}
