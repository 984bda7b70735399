//! Vectors of f32 as a trait: AVX-512, AVX2 with FMA, and arrays of four for every other machine.
//!
//! The methods are inlined into functions that are compiled with the instructions switched on; the
//! [`kernel!`] macro makes those.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16};
pub(crate) use portable::Portable;

/// A vector of [`Simd::LANES`] f32.
///
/// # Safety
/// Every method may be called only where the machine has the instructions of the implementing type.
/// Loads and stores touch exactly the lanes they name.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    /// How many rows a register tile of the matrix product has, beside four vectors of columns.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` lanes (0 < n ≤ LANES); the others are zero.
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_first(p: *mut f32, n: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a · b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller one; `b` where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger one; `b` where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V;
    /// Rounded to the nearest integer, ties to even. For |a| < 2²².
    unsafe fn round(a: Self::V) -> Self::V;
    /// a · 2ⁿ for integral n in −252 ..= 254.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// `a` where x < y, else `b`.
    unsafe fn select_less(x: Self::V, y: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// The lanes added up in a fixed order.
    unsafe fn sum(a: Self::V) -> f32;
    /// The largest lane, where none is NaN.
    unsafe fn largest(a: Self::V) -> f32;

    // A lane may also hold a pair of 16-bit numbers, the even one in the lower half, or an i32.

    /// sum + a₀·b₀ + a₁·b₁ for pairs of bf16. Each machine's own rounding; subnormals may count as 0.
    unsafe fn dot_bf16(sum: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Pairs of i16 from 2 · LANES bytes, each an i8.
    unsafe fn load_i8_pairs(p: *const u8) -> Self::V;
    /// sum + a₀·b₀ + a₁·b₁ for pairs of i16 and i32 sums: exact, wrapping.
    unsafe fn dot_i16(sum: Self::V, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn from_i32(a: Self::V) -> Self::V;
    /// The first `n` lanes rounded to bf16, ties to even; subnormals may become 0.
    unsafe fn store_bf16(p: *mut u16, n: usize, v: Self::V);
    /// The first `n` lanes rounded to i16, ties to even, for |v| ≤ 32767.
    unsafe fn store_i16(p: *mut u16, n: usize, v: Self::V);
}

/// `kernel!(fn name(args) = generic)` makes `name(path, args)`, which runs `generic::<S>(args)` compiled
/// for the path's instructions; `generic, T, …` passes on types: `generic::<S, T, …>`. It is as unsafe as
/// `generic`.
macro_rules! kernel {
    (
        $(#[$meta:meta])* unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        = $generic:ident $(, $extra:ty)*
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name(path: $crate::isa::Path, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512bf16,avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512_bf16($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the features are on, the arguments are the caller's.
                unsafe { $generic::<$crate::kernel::simd::Avx512Bf16 $(, $extra)*>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the features are on, the arguments are the caller's.
                unsafe { $generic::<$crate::kernel::simd::Avx512 $(, $extra)*>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the features are on, the arguments are the caller's.
                unsafe { $generic::<$crate::kernel::simd::Avx2 $(, $extra)*>($($arg),*) }
            }
            match path.isa() {
                // SAFETY: a `Path` exists only for instructions that the machine has.
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512Bf16 => unsafe { avx512_bf16($($arg),*) },
                // SAFETY: a `Path` exists only for instructions that the machine has.
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: a `Path` exists only for instructions that the machine has.
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the portable vectors need nothing, the arguments are the caller's.
                _ => unsafe { $generic::<$crate::kernel::simd::Portable $(, $extra)*>($($arg),*) },
            }
        }
    };
}
pub(crate) use kernel;
