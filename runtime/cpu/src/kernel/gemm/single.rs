//! The product by a single column: eight chains instead of one.
#![allow(unsafe_code)]

use super::super::simd::Simd;

/// A sum's left factors: so many stretches of `depth` numbers, `apart` from one another.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) count: usize,
    pub(crate) depth: usize,
    pub(crate) apart: usize,
}

/// The chains of [`single`].
const CHAINS: usize = 8;

/// `Σₖ a(k) · b(k, ·)` for one row and one vector of columns, over all k of the parts: what has one column is most
/// often a model's output, and a single chain would round as often as there are k. Chain j takes k = j, j + 8, …, and
/// the chains are added in pairs.
///
/// # Safety
/// As [`accumulate`](super::accumulate)'s, for all parts; b's go on where the last part's end.
#[inline(always)]
pub(crate) unsafe fn single<S: Simd>(
    parts: Parts,
    (a, a_depth): (*const f32, usize),
    (mut b, b_row): (*const f32, usize),
) -> S::V {
    // SAFETY: the caller's. The pointers run one step past their last use, so they wrap.
    unsafe {
        let mut sums = [S::splat(0.0); CHAINS];
        let mut chain = 0;
        for part in 0..parts.count {
            let mut a = a.add(part * parts.apart);
            let mut left = parts.depth;
            while left > 0 {
                if chain > 0 || left < CHAINS {
                    sums[chain] = S::fma(S::splat(*a), S::load(b), sums[chain]);
                    chain = (chain + 1) % CHAINS;
                    (a, b) = (a.wrapping_add(a_depth), b.wrapping_add(b_row));
                    left -= 1;
                    continue;
                }
                let mut local = sums;
                while left >= CHAINS {
                    for sum in &mut local {
                        *sum = S::fma(S::splat(*a), S::load(b), *sum);
                        (a, b) = (a.wrapping_add(a_depth), b.wrapping_add(b_row));
                    }
                    left -= CHAINS;
                }
                sums = local;
            }
        }
        let pairs = [
            S::add(sums[0], sums[1]),
            S::add(sums[2], sums[3]),
            S::add(sums[4], sums[5]),
            S::add(sums[6], sums[7]),
        ];
        S::add(S::add(pairs[0], pairs[1]), S::add(pairs[2], pairs[3]))
    }
}
