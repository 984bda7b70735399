//! AVX2 with FMA: eight lanes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// The mask of the first n of eight lanes starts at element 8 − n.
static FIRST_OF_EIGHT: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first_of_eight(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: n ≤ 8, so eight integers from 8 − n are inside the table.
    unsafe { _mm256_loadu_si256(FIRST_OF_EIGHT.as_ptr().add(8 - n).cast()) }
}

// SAFETY of the blocks below: the trait's contract says that the caller has AVX2 and FMA and owns the
// lanes that loads and stores name.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m256 {
        // SAFETY: see above.
        unsafe { if n == 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, first_of_eight(n)) } }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, n: usize, v: __m256) {
        // Masked stores are slow on many AMD processors.
        // SAFETY: see above.
        unsafe {
            if n == 8 {
                _mm256_storeu_ps(p, v);
            } else {
                let mut lanes = [0.0f32; 8];
                _mm256_storeu_ps(lanes.as_mut_ptr(), v);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    unsafe fn copysign(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        }
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m256, n: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second))
        }
    }
    #[inline(always)]
    unsafe fn select_less(x: __m256, y: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_LT_OQ>(x, y)) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(sum: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let odd = _mm256_set1_epi32(-65536);
            let (a_odd, b_odd) = (_mm256_and_si256(a, odd), _mm256_and_si256(b, odd));
            let (a, b) = (_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b));
            let sum = _mm256_fmadd_ps(_mm256_castsi256_ps(a_odd), _mm256_castsi256_ps(b_odd), sum);
            _mm256_fmadd_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), sum)
        }
    }
    #[inline(always)]
    unsafe fn load_i8_pairs(p: *const u8) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn dot_i16(sum: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let product = _mm256_madd_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), product))
        }
    }
    #[inline(always)]
    unsafe fn from_i32(a: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi32_ps(_mm256_castps_si256(a)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: __m256) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v);
            let bits = _mm256_blendv_ps(
                _mm256_castsi256_ps(rounded),
                _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc0_0000)),
                nan,
            );
            let bits = _mm256_srli_epi32::<16>(_mm256_castps_si256(bits));
            let low = _mm256_castsi256_si128(bits);
            store_first_u16(p, n, _mm_packus_epi32(low, _mm256_extracti128_si256::<1>(bits)));
        }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut u16, n: usize, v: __m256) {
        // SAFETY: see above.
        unsafe {
            let whole = _mm256_cvtps_epi32(v);
            let low = _mm256_castsi256_si128(whole);
            store_first_u16(p, n, _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(whole)));
        }
    }
}

/// The first n of eight.
#[inline(always)]
unsafe fn store_first_u16(p: *mut u16, n: usize, v: __m128i) {
    debug_assert!(n <= 8);
    // SAFETY: the caller owns n numbers at p.
    unsafe {
        if n == 8 {
            _mm_storeu_si128(p.cast(), v);
        } else {
            let mut lanes = [0u16; 8];
            _mm_storeu_si128(lanes.as_mut_ptr().cast(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
}
