//! Scaled dot-product attention (Vaswani et al. 2017) of one window, head by head and a few queries at a time: the
//! scores of a tile of queries stay in the first-level cache.
//!
//! Each number is one chain over the keys in their order, so a query's result doesn't depend on its tile.
#![allow(unsafe_code)]

pub(crate) mod backward;

use super::activation::exp;
use super::aligned::Aligned;
use super::gemm::accumulate;
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// The sizes of one window: queries and keys are rows of `heads · width` numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) keys: usize,
    /// Query t sees keys up to t alone.
    pub(crate) causal: bool,
}

/// Rows of numbers that another matrix may stand beside: row r starts at `data[r · stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

impl Rows<'_> {
    /// Whether `count` rows of `width` numbers are there.
    fn hold(&self, count: usize, width: usize) -> bool {
        count == 0 || self.stride >= width && self.data.len() >= (count - 1) * self.stride + width
    }
}

/// Keys transposed for the product with queries and multiplied by 1 / √width: for each head panels of four vectors of
/// keys, `[width, 4 · LANES]`. What lies beyond the last key is anything.
impl Heads {
    fn panels(&self, path: Path) -> usize {
        self.keys.div_ceil(4 * path.lanes())
    }

    /// The numbers of one head's panels.
    fn head_len(&self, path: Path) -> usize {
        self.panels(path) * 4 * path.lanes() * self.width
    }

    /// The numbers of all panels.
    pub(crate) fn packed_len(&self, path: Path) -> usize {
        self.heads * self.head_len(path)
    }

    /// Packs `count` keys from key `first`, whose rows start at `rows`.
    ///
    /// # Safety
    /// `target` has `packed_len` numbers, and nobody else touches those of these keys.
    pub(crate) unsafe fn pack(
        &self,
        path: Path,
        rows: Rows<'_>,
        (first, count): (usize, usize),
        scale: f32,
        target: *mut f32,
    ) {
        assert!(first + count <= self.keys && rows.hold(count, self.heads * self.width));
        let (lanes, head_len) = (4 * path.lanes(), self.head_len(path));
        for i in 0..count {
            let key = first + i;
            let start = key / lanes * lanes * self.width + key % lanes;
            let row = &rows.data[i * rows.stride..][..self.heads * self.width];
            for (head, part) in row.chunks_exact(self.width).enumerate() {
                for (d, x) in part.iter().enumerate() {
                    // SAFETY: the key's place lies inside the head's panels.
                    unsafe { *target.add(head * head_len + start + d * lanes) = x * scale };
                }
            }
        }
    }

    /// [`pack`](Self::pack) for all keys, rows without gaps.
    pub(crate) fn pack_all(&self, path: Path, keys: &[f32], scale: f32, target: &mut [f32]) {
        assert!(target.len() >= self.packed_len(path));
        let rows = Rows { data: keys, stride: self.heads * self.width };
        // SAFETY: the target is borrowed exclusively and long enough.
        unsafe { self.pack(path, rows, (0, self.keys), scale, target.as_mut_ptr()) };
    }

    /// What scores are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Whether a vector of the last head's last row of values ends with the row.
    pub(crate) fn is_even(&self, path: Path) -> bool {
        self.width.is_multiple_of(path.lanes())
    }
}

/// Some queries of one window, from query `first`.
pub(crate) struct Attend<'a> {
    pub(crate) heads: Heads,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) queries: Rows<'a>,
    /// As [`Heads::pack`] leaves them.
    pub(crate) keys: &'a [f32],
    /// Where heads aren't a multiple of the vector wide, `LANES` numbers more stand after the last row.
    pub(crate) values: Rows<'a>,
}

impl Attend<'_> {
    /// Writes each query's mixture of values, `output_stride` apart, and where asked the logarithm of its sum of
    /// exponentials, `[heads, log_stride]`.
    pub(crate) fn run(
        &self,
        path: Path,
        output: &mut [f32],
        output_stride: usize,
        mut log_sums: Option<(&mut [f32], usize)>,
        scratch: &mut Aligned,
    ) {
        let Heads { heads, width, keys, causal } = self.heads;
        if self.count == 0 || heads * width == 0 {
            return;
        }
        let slack = if self.heads.is_even(path) { 0 } else { path.lanes() };
        assert!(keys > 0 && (!causal || self.first + self.count <= keys));
        assert!(self.queries.hold(self.count, heads * width) && self.values.hold(keys, heads * width));
        assert!(self.values.data.len() >= (keys - 1) * self.values.stride + heads * width + slack);
        assert!(output_stride >= heads * width);
        assert!(output.len() >= (self.count - 1) * output_stride + heads * width);
        assert!(self.keys.len() >= self.heads.packed_len(path));
        let score_stride = self.heads.panels(path) * 4 * path.lanes();
        scratch.resize(TILE_MAX * score_stride);
        for head in 0..heads {
            let logs = match &mut log_sums {
                Some((logs, stride)) => logs[head * *stride..][..self.count].as_mut_ptr(),
                None => std::ptr::null_mut(),
            };
            let part = Part {
                count: self.count,
                seen: if causal { self.first + 1 } else { keys },
                causal,
                width,
                panels: self.heads.panels(path),
                queries: self.queries.data[head * width..].as_ptr(),
                query_stride: self.queries.stride,
                keys: self.keys[head * self.heads.head_len(path)..].as_ptr(),
                values: self.values.data[head * width..].as_ptr(),
                value_stride: self.values.stride,
                output: output[head * width..].as_mut_ptr(),
                output_stride,
                logs,
                scores: scratch.as_mut_ptr(),
                score_stride,
            };
            // SAFETY: the asserts above keep every row inside its slice.
            unsafe { attend_kernel(path, &part) };
        }
    }
}

/// So many queries are at most taken together.
const TILE_MAX: usize = 12;

/// One head.
struct Part {
    count: usize,
    /// The keys that the first query sees; each further one sees one more if `causal`.
    seen: usize,
    causal: bool,
    width: usize,
    panels: usize,
    queries: *const f32,
    query_stride: usize,
    keys: *const f32,
    values: *const f32,
    value_stride: usize,
    output: *mut f32,
    output_stride: usize,
    logs: *mut f32,
    scores: *mut f32,
    score_stride: usize,
}

kernel!(unsafe fn attend_kernel(part: &Part) = attend_generic);

#[inline(always)]
unsafe fn attend_generic<S: Simd>(p: &Part) {
    let mut row = 0;
    while row < p.count {
        let left = p.count - row;
        // SAFETY: the caller's; so many rows from `row` are inside.
        unsafe {
            row += if S::ROWS == 6 && left >= 12 {
                tile::<S, 6, 12>(p, row)
            } else if S::ROWS == 6 && left >= 6 {
                tile::<S, 6, 6>(p, row)
            } else if S::ROWS < 6 && left >= 6 {
                tile::<S, 3, 6>(p, row)
            } else if left >= 3 {
                tile::<S, 3, 3>(p, row)
            } else {
                tile::<S, 1, 1>(p, row)
            };
        }
    }
}

/// N queries from `row`, whose scores are made R at a time.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const N: usize>(p: &Part, row: usize) -> usize {
    // SAFETY: the caller's; scratch holds N rows of `score_stride` numbers.
    unsafe {
        let mut from = 0;
        while from < N {
            scores::<S, R>(p, row + from, p.scores.add(from * p.score_stride));
            from += R;
        }
        let first_seen = if p.causal { p.seen + row } else { p.seen };
        let mut inverses = [0.0; N];
        for (r, inverse) in inverses.iter_mut().enumerate() {
            let seen = if p.causal { first_seen + r } else { first_seen };
            let (largest, sum) = exponentials::<S>(p.scores.add(r * p.score_stride), seen);
            *inverse = 1.0 / sum;
            if !p.logs.is_null() {
                *p.logs.add(row + r) = largest + sum.ln();
            }
        }
        let mut at = 0;
        while at < p.width {
            mix::<S, N>(p, row, first_seen, &inverses, at);
            at += S::LANES;
        }
    }
    N
}

/// The products of R queries with all keys.
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize>(p: &Part, row: usize, target: *mut f32) {
    let lanes = 4 * S::LANES;
    // SAFETY: the caller's.
    unsafe {
        let queries = p.queries.add(row * p.query_stride);
        for panel in 0..p.panels {
            let mut sums = [[S::splat(0.0); 4]; R];
            let keys = p.keys.add(panel * lanes * p.width);
            accumulate::<S, R, 4>(&mut sums, queries, p.query_stride, 1, keys, lanes, p.width);
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    S::store(target.add(r * p.score_stride + panel * lanes + v * S::LANES), *sum);
                }
            }
        }
    }
}

/// Replaces the first `n` scores by e^{score − largest}; gives the largest and the sum.
#[inline(always)]
unsafe fn exponentials<S: Simd>(x: *mut f32, n: usize) -> (f32, f32) {
    let whole = n.div_ceil(S::LANES) * S::LANES;
    // SAFETY: the caller's; a row of scores is a whole number of vectors long.
    unsafe {
        for i in n..whole {
            *x.add(i) = f32::NEG_INFINITY;
        }
        let mut largest = S::load(x);
        let mut at = S::LANES;
        while at < whole {
            largest = S::max(S::load(x.add(at)), largest);
            at += S::LANES;
        }
        let largest = S::largest(largest);
        let (shift, mut sum) = (S::splat(largest), S::splat(0.0));
        let mut at = 0;
        while at < whole {
            let e = exp::<S>(S::sub(S::load(x.add(at)), shift));
            S::store(x.add(at), e);
            sum = S::add(sum, e);
            at += S::LANES;
        }
        (largest, S::sum(sum))
    }
}

/// One vector of each of N rows of the output.
#[inline(always)]
unsafe fn mix<S: Simd, const N: usize>(p: &Part, row: usize, seen: usize, inverses: &[f32; N], at: usize) {
    // SAFETY: the caller's; a row that sees more keys goes on with its own chain.
    unsafe {
        let mut sums = [[S::splat(0.0); 1]; N];
        let values = p.values.add(at);
        accumulate::<S, N, 1>(&mut sums, p.scores, p.score_stride, 1, values, p.value_stride, seen);
        let lanes = S::LANES.min(p.width - at);
        for (r, [sum]) in sums.iter().enumerate() {
            let mut sum = *sum;
            if p.causal {
                for k in seen..seen + r {
                    let weight = S::splat(*p.scores.add(r * p.score_stride + k));
                    sum = S::fma(weight, S::load(values.add(k * p.value_stride)), sum);
                }
            }
            let y = S::mul(sum, S::splat(inverses[r]));
            S::store_first(p.output.add((row + r) * p.output_stride + at), lanes, y);
        }
    }
}

#[cfg(test)]
mod tests;
