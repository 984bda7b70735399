//! AVX-512 F, BW, DQ and VL: sixteen lanes; with BF16 and VNNI their products of pairs too.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Avx2, Simd};

/// `PAIRS`: whether the machine has BF16 and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Of<const PAIRS: bool>;

pub(crate) type Avx512 = Avx512Of<false>;
pub(crate) type Avx512Bf16 = Avx512Of<true>;

#[inline(always)]
fn first_of_sixteen(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY of the blocks below: the trait's contract says that the caller has AVX-512 F, BW, DQ and VL, where
// `PAIRS` also BF16 and VNNI, and owns the lanes that loads and stores name.
impl<const PAIRS: bool> Simd for Avx512Of<PAIRS> {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_maskz_loadu_ps(first_of_sixteen(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, n: usize, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_mask_storeu_ps(p, first_of_sixteen(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    unsafe fn copysign(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m512, n: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    unsafe fn select_less(x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), b, a) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_castps512_ps256(a);
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2::sum(_mm256_add_ps(low, high))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m512) -> f32 {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_castps512_ps256(a);
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2::largest(_mm256_max_ps(low, high))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(sum: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above; the vectors are reinterpreted bit by bit.
        unsafe {
            if PAIRS {
                let a = std::mem::transmute::<__m512, __m512bh>(a);
                return _mm512_dpbf16_ps(sum, a, std::mem::transmute::<__m512, __m512bh>(b));
            }
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let odd = _mm512_set1_epi32(-65536);
            let (a_odd, b_odd) = (_mm512_and_si512(a, odd), _mm512_and_si512(b, odd));
            let (a, b) = (_mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b));
            let sum = _mm512_fmadd_ps(_mm512_castsi512_ps(a_odd), _mm512_castsi512_ps(b_odd), sum);
            _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
        }
    }
    #[inline(always)]
    unsafe fn load_i8_pairs(p: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn dot_i16(sum: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let (sum, a, b) = (_mm512_castps_si512(sum), _mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(if PAIRS {
                _mm512_dpwssd_epi32(sum, a, b)
            } else {
                _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
            })
        }
    }
    #[inline(always)]
    unsafe fn from_i32(a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(a)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: __m512) {
        // SAFETY: see above.
        unsafe {
            let bits = if PAIRS {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))
            } else {
                let bits = _mm512_castps_si512(v);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                let bits = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0_0000));
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits))
            };
            _mm256_mask_storeu_epi16(p.cast(), first_of_sixteen(n), bits);
        }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut u16, n: usize, v: __m512) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
            _mm256_mask_storeu_epi16(p.cast(), first_of_sixteen(n), bits);
        }
    }
}
