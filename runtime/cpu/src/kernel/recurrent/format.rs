//! The three storages of weights and activations, each as the products of one 32-bit group at a time.
#![allow(unsafe_code)]

use crate::kernel::simd::Simd;
use crate::precision::Precision;

/// The largest code of an activation beside int8 weights, unless the sum could overflow.
const CODE_MAX: usize = 8191;

/// A group is what one lane of an activation holds: one f32, or two 16-bit codes of adjacent k.
///
/// # Safety
/// The methods may be called only where the machine has the instructions of `S`; pointers must be valid for
/// what the methods say they read or write.
pub(crate) trait Format: Copy + 'static {
    /// k of one group.
    const DEPTH: usize;
    /// Bytes of one lane of packed weights.
    const BYTES: usize;

    /// One vector of packed weights: `BYTES · LANES` bytes.
    unsafe fn right<S: Simd>(p: *const u8) -> S::V;
    /// sum + the products of one group.
    unsafe fn accumulate<S: Simd>(sum: S::V, left: S::V, right: S::V) -> S::V;
    /// The sum as f32. `scales` are the columns'; only int8 reads them.
    unsafe fn finish<S: Simd>(sum: S::V, row_scale: f32, scales: *const f32) -> S::V;
    /// The first `n` lanes of activations as codes, times `factor`. f32 has none.
    unsafe fn encode<S: Simd>(p: *mut u16, n: usize, v: S::V, factor: f32);
}

#[derive(Clone, Copy)]
pub(crate) struct F32;
#[derive(Clone, Copy)]
pub(crate) struct Bf16;
#[derive(Clone, Copy)]
pub(crate) struct Int8;

// SAFETY of the blocks below: the trait's contract.
impl Format for F32 {
    const DEPTH: usize = 1;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn right<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: see above.
        unsafe { S::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(sum: S::V, left: S::V, right: S::V) -> S::V {
        // SAFETY: see above.
        unsafe { S::fma(left, right, sum) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(sum: S::V, _: f32, _: *const f32) -> S::V {
        sum
    }
    #[inline(always)]
    unsafe fn encode<S: Simd>(_: *mut u16, _: usize, _: S::V, _: f32) {}
}

impl Format for Bf16 {
    const DEPTH: usize = 2;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn right<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: see above.
        unsafe { S::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(sum: S::V, left: S::V, right: S::V) -> S::V {
        // SAFETY: see above.
        unsafe { S::dot_bf16(sum, left, right) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(sum: S::V, _: f32, _: *const f32) -> S::V {
        sum
    }
    #[inline(always)]
    unsafe fn encode<S: Simd>(p: *mut u16, n: usize, v: S::V, _: f32) {
        // SAFETY: see above.
        unsafe { S::store_bf16(p, n, v) }
    }
}

impl Format for Int8 {
    const DEPTH: usize = 2;
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn right<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: see above.
        unsafe { S::load_i8_pairs(p) }
    }
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(sum: S::V, left: S::V, right: S::V) -> S::V {
        // SAFETY: see above.
        unsafe { S::dot_i16(sum, left, right) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(sum: S::V, row_scale: f32, scales: *const f32) -> S::V {
        // SAFETY: see above.
        unsafe { S::mul(S::from_i32(sum), S::mul(S::splat(row_scale), S::load(scales))) }
    }
    #[inline(always)]
    unsafe fn encode<S: Simd>(p: *mut u16, n: usize, v: S::V, factor: f32) {
        // SAFETY: see above.
        unsafe { S::store_i16(p, n, S::mul(v, S::splat(factor))) }
    }
}

impl Precision {
    /// k of one group.
    pub(crate) fn depth(self) -> usize {
        match self {
            Precision::F32 => 1,
            Precision::Bf16 | Precision::Int8 => 2,
        }
    }

    /// Groups of a contraction over `depth`.
    pub(crate) fn groups(self, depth: usize) -> usize {
        depth.div_ceil(self.depth())
    }

    /// Bytes of one lane of packed weights.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Precision::F32 | Precision::Bf16 => 4,
            Precision::Int8 => 2,
        }
    }

    /// The code of an activation of 1 in a contraction over `depth`: sums of products with i8 fit an i32.
    pub(crate) fn code_of_one(self, depth: usize) -> f32 {
        match self {
            Precision::F32 | Precision::Bf16 => 1.0,
            Precision::Int8 => (i32::MAX as usize / (127 * depth.max(1))).clamp(1, CODE_MAX) as f32,
        }
    }
}
