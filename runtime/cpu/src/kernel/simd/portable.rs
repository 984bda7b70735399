//! Arrays of four, left to the compiler: for every machine.
#![allow(unsafe_code)]

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Four([f32; 4]);

#[inline(always)]
fn zip(a: Four, b: Four, f: impl Fn(f32, f32) -> f32) -> Four {
    Four([f(a.0[0], b.0[0]), f(a.0[1], b.0[1]), f(a.0[2], b.0[2]), f(a.0[3], b.0[3])])
}

#[inline(always)]
fn map(a: Four, f: impl Fn(f32) -> f32) -> Four {
    Four([f(a.0[0]), f(a.0[1]), f(a.0[2]), f(a.0[3])])
}

/// Adding 1.5 · 2²³ leaves no bits for a fraction, and an integer in the lowest ones.
const SHIFT: f32 = 12_582_912.0;

/// 2ⁿ for n in −126 ..= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

impl Simd for Portable {
    type V = Four;
    const LANES: usize = 4;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Four {
        Four([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Four {
        // SAFETY: the caller owns four lanes at p.
        Four(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Four) {
        // SAFETY: the caller owns four lanes at p.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Four {
        if n == 4 {
            // SAFETY: the caller owns n lanes at p.
            return unsafe { Self::load(p) };
        }
        let mut v = [0.0; 4];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller owns n lanes at p.
            *lane = unsafe { *p.add(i) };
        }
        Four(v)
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, n: usize, v: Four) {
        if n == 4 {
            // SAFETY: the caller owns n lanes at p.
            return unsafe { Self::store(p, v) };
        }
        for (i, lane) in v.0.iter().enumerate().take(n) {
            // SAFETY: the caller owns n lanes at p.
            unsafe { *p.add(i) = *lane };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Four) -> Four {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: Four, b: Four, c: Four) -> Four {
        // Without the instruction `mul_add` is a slow library call.
        let fused = |a: f32, b: f32, c: f32| {
            if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
                a.mul_add(b, c)
            } else {
                a * b + c
            }
        };
        Four([
            fused(a.0[0], b.0[0], c.0[0]),
            fused(a.0[1], b.0[1], c.0[1]),
            fused(a.0[2], b.0[2], c.0[2]),
            fused(a.0[3], b.0[3], c.0[3]),
        ])
    }
    #[inline(always)]
    unsafe fn min(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(a: Four, b: Four) -> Four {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: Four) -> Four {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn copysign(a: Four, b: Four) -> Four {
        zip(a, b, f32::copysign)
    }
    #[inline(always)]
    unsafe fn round(a: Four) -> Four {
        map(a, |a| (a + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn scale(a: Four, n: Four) -> Four {
        zip(a, n, |a, n| {
            let n = (n + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
            let half = n >> 1;
            a * power_of_two(half) * power_of_two(n.wrapping_sub(half))
        })
    }
    #[inline(always)]
    unsafe fn select_less(x: Four, y: Four, a: Four, b: Four) -> Four {
        let pick = |i: usize| if x.0[i] < y.0[i] { a.0[i] } else { b.0[i] };
        Four([pick(0), pick(1), pick(2), pick(3)])
    }
    #[inline(always)]
    unsafe fn sum(a: Four) -> f32 {
        (a.0[0] + a.0[2]) + (a.0[1] + a.0[3])
    }
    #[inline(always)]
    unsafe fn largest(a: Four) -> f32 {
        a.0[0].max(a.0[1]).max(a.0[2].max(a.0[3]))
    }
    #[inline(always)]
    unsafe fn dot_bf16(sum: Four, a: Four, b: Four) -> Four {
        let odd = |v: f32| f32::from_bits(v.to_bits() & 0xffff_0000);
        let even = |v: f32| f32::from_bits(v.to_bits() << 16);
        let (a_odd, a_even) = (map(a, odd), map(a, even));
        // SAFETY: this needs nothing.
        unsafe { Self::fma(a_even, map(b, even), Self::fma(a_odd, map(b, odd), sum)) }
    }
    #[inline(always)]
    unsafe fn load_i8_pairs(p: *const u8) -> Four {
        // SAFETY: the caller owns eight bytes at p.
        let bytes = unsafe { p.cast::<[[i8; 2]; 4]>().read_unaligned() };
        Four(bytes.map(|[even, odd]| {
            f32::from_bits(u32::from(i16::from(even) as u16) | u32::from(i16::from(odd) as u16) << 16)
        }))
    }
    #[inline(always)]
    unsafe fn dot_i16(sum: Four, a: Four, b: Four) -> Four {
        let halves = |v: f32| [(v.to_bits() as u16) as i16, (v.to_bits() >> 16) as u16 as i16].map(i32::from);
        let product = zip(a, b, |a, b| {
            let (a, b) = (halves(a), halves(b));
            f32::from_bits((a[0] * b[0] + a[1] * b[1]) as u32)
        });
        zip(sum, product, |sum, x| f32::from_bits(sum.to_bits().wrapping_add(x.to_bits())))
    }
    #[inline(always)]
    unsafe fn from_i32(a: Four) -> Four {
        map(a, |a| a.to_bits() as i32 as f32)
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: Four) {
        for (i, x) in v.0.iter().enumerate().take(n) {
            let bits = x.to_bits();
            let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
            // SAFETY: the caller owns n numbers at p.
            unsafe { *p.add(i) = if x.is_nan() { 0x7fc0 } else { rounded } };
        }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut u16, n: usize, v: Four) {
        for (i, x) in v.0.iter().enumerate().take(n) {
            // SAFETY: the caller owns n numbers at p.
            unsafe { *p.add(i) = x.round_ties_even() as i16 as u16 };
        }
    }
}
