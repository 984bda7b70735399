//! The backward of attention for one window: the weights are made again from the logarithms of the rows' sums (Dao et
//! al. 2022), some queries at a time.
//!
//! With p the weights: dv = pᵀ·dy, ds = p · (dy·vᵀ − Σ dy·y), dq = ds·k / √width, dk = dsᵀ·q / √width.
#![allow(unsafe_code)]

use super::super::activation::exp;
use super::super::aligned::Aligned;
use super::super::gemm::accumulate;
use super::super::simd::{Simd, kernel};
use super::Heads;
use crate::isa::Path;

/// So many queries are taken together.
const QUERIES: usize = 60;

/// One window: all matrices have rows of `heads · width` numbers without gaps; logarithms are `[heads, queries]`.
pub(crate) struct Backward<'a> {
    pub(crate) heads: Heads,
    pub(crate) queries: usize,
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) y: &'a [f32],
    pub(crate) logs: &'a [f32],
    pub(crate) dy: &'a [f32],
}

/// What a thread needs beside the window.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Aligned,
    values: Aligned,
    /// Weights and their derivatives, `[QUERIES, stride]` each, then a number for each query.
    weights: Aligned,
    /// One head of q, k, dy, dq, dk and dv, its rows a whole number of vectors long.
    heads: Aligned,
}

impl Backward<'_> {
    /// Writes dq, dk and dv.
    pub(crate) fn run(&self, path: Path, [dq, dk, dv]: [&mut [f32]; 3], scratch: &mut Scratch) {
        let Heads { heads, width, keys, causal } = self.heads;
        let row = heads * width;
        assert!(self.q.len() == self.queries * row && self.k.len() == keys * row);
        assert!(
            self.v.len() == self.k.len() && self.y.len() == self.q.len() && self.dy.len() == self.q.len()
        );
        assert!(dq.len() == self.q.len() && dk.len() == self.k.len() && dv.len() == self.k.len());
        assert!(self.logs.len() == heads * self.queries && (!causal || self.queries <= keys));
        if row == 0 || self.queries == 0 || keys == 0 {
            dq.fill(0.0);
            dk.fill(0.0);
            dv.fill(0.0);
            return;
        }
        let padded = width.next_multiple_of(path.lanes());
        let stride = self.heads.panels(path) * 4 * path.lanes();
        scratch.keys.resize(self.heads.packed_len(path));
        scratch.values.resize(self.heads.packed_len(path));
        scratch.weights.resize(2 * QUERIES * stride + QUERIES);
        let head_rows = 3 * self.queries + 3 * keys;
        scratch.heads.resize(head_rows * padded);
        self.heads.pack_all(path, self.k, self.heads.scale(), &mut scratch.keys);
        self.heads.pack_all(path, self.v, 1.0, &mut scratch.values);
        for head in 0..heads {
            let (q, rest) = scratch.heads.split_at_mut(self.queries * padded);
            let (dy, rest) = rest.split_at_mut(self.queries * padded);
            let (dq_head, rest) = rest.split_at_mut(self.queries * padded);
            let (k, rest) = rest.split_at_mut(keys * padded);
            let (dk_head, dv_head) = rest.split_at_mut(keys * padded);
            for (from, to) in [(self.q, &mut *q), (self.dy, &mut *dy), (self.k, &mut *k)] {
                for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(padded)) {
                    to[..width].copy_from_slice(&from[head * width..][..width]);
                    to[width..].fill(0.0);
                }
            }
            dk_head.fill(0.0);
            dv_head.fill(0.0);
            let head_len = self.heads.head_len(path);
            let (weights, sums) = scratch.weights.split_at_mut(2 * QUERIES * stride);
            let mut first = 0;
            while first < self.queries {
                let count = QUERIES.min(self.queries - first);
                for (i, sum) in sums[..count].iter_mut().enumerate() {
                    let at = (first + i) * row + head * width;
                    let pairs = self.dy[at..][..width].iter().zip(&self.y[at..][..width]);
                    *sum = pairs.map(|(dy, y)| dy * y).sum();
                }
                let part = Part {
                    count,
                    first,
                    causal,
                    keys,
                    width,
                    padded,
                    scale: self.heads.scale(),
                    q: q[first * padded..].as_ptr(),
                    dy: dy[first * padded..].as_ptr(),
                    dq: dq_head[first * padded..].as_mut_ptr(),
                    k: k.as_ptr(),
                    dk: dk_head.as_mut_ptr(),
                    dv: dv_head.as_mut_ptr(),
                    packed_keys: scratch.keys[head * head_len..].as_ptr(),
                    packed_values: scratch.values[head * head_len..].as_ptr(),
                    logs: self.logs[head * self.queries + first..].as_ptr(),
                    sums: sums.as_ptr(),
                    weights: weights.as_mut_ptr(),
                    slopes: weights[QUERIES * stride..].as_mut_ptr(),
                    stride,
                };
                // SAFETY: every matrix holds the rows and the whole vectors that the part names.
                unsafe { part_kernel(path, &part) };
                first += count;
            }
            for (from, to) in [(&*dq_head, &mut *dq), (&*dk_head, &mut *dk), (&*dv_head, &mut *dv)] {
                for (from, to) in from.chunks_exact(padded).zip(to.chunks_exact_mut(row)) {
                    to[head * width..][..width].copy_from_slice(&from[..width]);
                }
            }
        }
    }
}

/// Some queries of one head, whose rows are `padded` numbers long.
struct Part {
    count: usize,
    first: usize,
    causal: bool,
    keys: usize,
    width: usize,
    padded: usize,
    scale: f32,
    q: *const f32,
    dy: *const f32,
    dq: *mut f32,
    k: *const f32,
    dk: *mut f32,
    dv: *mut f32,
    packed_keys: *const f32,
    packed_values: *const f32,
    logs: *const f32,
    sums: *const f32,
    weights: *mut f32,
    slopes: *mut f32,
    stride: usize,
}

kernel!(unsafe fn part_kernel(part: &Part) = part_generic);

#[inline(always)]
unsafe fn part_generic<S: Simd>(p: &Part) {
    // SAFETY: the caller's.
    unsafe {
        let mut row = 0;
        while row < p.count {
            row += if S::ROWS >= 6 && p.count - row >= 6 {
                weigh::<S, 6>(p, row)
            } else if p.count - row >= 3 {
                weigh::<S, 3>(p, row)
            } else {
                weigh::<S, 1>(p, row)
            };
        }
        let mut at = 0;
        while at < p.padded {
            let (dq, k) = (p.dq.add(at), p.k.add(at));
            product::<S>(p, (p.count, p.keys), (p.slopes, p.stride, 1), k, dq, (p.scale, false));
            let (dk, q) = (p.dk.add(at), p.q.add(at));
            product::<S>(p, (p.keys, p.count), (p.slopes, 1, p.stride), q, dk, (p.scale, true));
            let (dv, dy) = (p.dv.add(at), p.dy.add(at));
            product::<S>(p, (p.keys, p.count), (p.weights, 1, p.stride), dy, dv, (1.0, true));
            at += S::LANES;
        }
    }
}

/// Weights p and their derivatives ds of R queries with all keys; zero where a key isn't seen.
#[inline(always)]
unsafe fn weigh<S: Simd, const R: usize>(p: &Part, row: usize) -> usize {
    let lanes = 4 * S::LANES;
    // SAFETY: the caller's; a row of weights is a whole number of panels long.
    unsafe {
        for panel in 0..p.keys.div_ceil(lanes) {
            let mut scores = [[S::splat(0.0); 4]; R];
            let keys = p.packed_keys.add(panel * lanes * p.width);
            accumulate::<S, R, 4>(&mut scores, p.q.add(row * p.padded), p.padded, 1, keys, lanes, p.width);
            for (r, scores) in scores.iter().enumerate() {
                let shift = S::splat(*p.logs.add(row + r));
                let target = p.weights.add((row + r) * p.stride + panel * lanes);
                for (v, score) in scores.iter().enumerate() {
                    S::store(target.add(v * S::LANES), exp::<S>(S::sub(*score, shift)));
                }
            }
            let mut slopes = [[S::splat(0.0); 4]; R];
            let values = p.packed_values.add(panel * lanes * p.width);
            accumulate::<S, R, 4>(&mut slopes, p.dy.add(row * p.padded), p.padded, 1, values, lanes, p.width);
            for (r, slopes) in slopes.iter().enumerate() {
                let sum = S::splat(*p.sums.add(row + r));
                let at = (row + r) * p.stride + panel * lanes;
                for (v, slope) in slopes.iter().enumerate() {
                    let weight = S::load(p.weights.add(at + v * S::LANES));
                    S::store(p.slopes.add(at + v * S::LANES), S::mul(weight, S::sub(*slope, sum)));
                }
            }
        }
        if p.causal {
            for r in 0..R {
                for key in p.first + row + r + 1..p.keys {
                    *p.weights.add((row + r) * p.stride + key) = 0.0;
                    *p.slopes.add((row + r) * p.stride + key) = 0.0;
                }
            }
        }
    }
    R
}

/// One vector of columns of y = a·b · scale, or y + that, for a `[rows, depth]` with these steps.
#[inline(always)]
unsafe fn product<S: Simd>(
    p: &Part,
    (rows, depth): (usize, usize),
    a: (*mut f32, usize, usize),
    b: *const f32,
    y: *mut f32,
    factor: (f32, bool),
) {
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        // SAFETY: the caller's; so many rows from `row` are inside.
        unsafe {
            row += if S::ROWS >= 6 && left >= 12 {
                product_rows::<S, 12>(p.padded, depth, a, b, y, row, factor)
            } else if left >= 6 {
                product_rows::<S, 6>(p.padded, depth, a, b, y, row, factor)
            } else {
                product_rows::<S, 1>(p.padded, depth, a, b, y, row, factor)
            };
        }
    }
}

#[inline(always)]
unsafe fn product_rows<S: Simd, const R: usize>(
    stride: usize,
    depth: usize,
    (a, a_row, a_depth): (*mut f32, usize, usize),
    b: *const f32,
    y: *mut f32,
    row: usize,
    (scale, add): (f32, bool),
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[S::splat(0.0); 1]; R];
        accumulate::<S, R, 1>(&mut sums, a.add(row * a_row), a_row, a_depth, b, stride, depth);
        for (r, [sum]) in sums.iter().enumerate() {
            let y = y.add((row + r) * stride);
            let before = if add { S::load(y) } else { S::splat(0.0) };
            S::store(y, S::fma(*sum, S::splat(scale), before));
        }
    }
    R
}
