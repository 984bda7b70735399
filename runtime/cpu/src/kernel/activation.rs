//! Vector forms of exp, sigmoid, tanh, erf and gelu: each within about 1e-7 of the true value.
#![allow(unsafe_code)]

use super::simd::{Simd, kernel};
use crate::isa::Path;

/// eˣ by r = x − n·ln 2 and a polynomial of degree 6 (Cephes `expf`). Overflows to infinity, underflows to 0.
///
/// # Safety
/// The machine has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // SAFETY: the caller's.
    unsafe {
        let x = S::max(S::splat(-104.0), S::min(S::splat(89.0), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = S::fma(p, r, S::splat(*c));
        }
        let y = S::fma(p, S::mul(r, r), r);
        S::scale(S::add(y, S::splat(1.0)), n)
    }
}

/// 1 / (1 + e⁻ˣ)
///
/// # Safety
/// The machine has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// Below 0.625 an odd polynomial (Cephes `tanhf`), from there 1 − 2 / (1 + e^{2|x|}) with the sign of x.
///
/// # Safety
/// The machine has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    const POLYNOMIAL: [f32; 5] =
        [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_1e-1, -3.333_328e-1];
    // SAFETY: the caller's.
    unsafe {
        let magnitude = S::abs(x);
        let square = S::mul(x, x);
        let mut p = S::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = S::fma(p, square, S::splat(*c));
        }
        let small = S::fma(S::mul(p, square), magnitude, magnitude);
        let e = exp::<S>(S::add(magnitude, magnitude));
        let large = S::sub(S::splat(1.0), S::div(S::splat(2.0), S::add(e, S::splat(1.0))));
        S::copysign(S::select_less(magnitude, S::splat(0.625), small, large), x)
    }
}

/// Two polynomials by N. Juffa (BSD 2-clause): below 0.92 in x², above it 1 − e^{q(|x|)}.
///
/// # Safety
/// The machine has the instructions of `S`.
#[inline(always)]
pub(crate) unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let t = S::abs(x);
        let s = S::mul(x, x);
        let r = S::fma(S::splat(-1.728_534_7e-5), t, S::splat(3.831_972e-4));
        let u = S::fma(S::splat(-3.883_964_5e-3), t, S::splat(2.425_462_3e-2));
        let mut r = S::fma(r, s, u);
        for c in [-1.067_778_8e-1, -6.348_468_7e-1, -1.287_175_2e-1] {
            r = S::fma(r, t, S::splat(c));
        }
        let r = S::fma(r, t, S::sub(S::splat(0.0), t));
        let large = S::copysign(S::sub(S::splat(1.0), exp::<S>(r)), x);
        let mut p = S::splat(-5.967_617e-4);
        for c in [4.991_194_3e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1] {
            p = S::fma(p, s, S::splat(c));
        }
        S::select_less(S::splat(0.921_875), t, large, S::fma(p, x, x))
    }
}

/// x/2 · (1 + erf(x/√2))
///
/// # Safety
/// The machine has the instructions of `S`.
#[inline(always)]
unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let e = erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
        S::mul(S::mul(S::splat(0.5), x), S::add(S::splat(1.0), e))
    }
}

/// `name(path, x, y)` writes the function of each x to y; both of the same length.
macro_rules! elementwise {
    ($($name:ident, $pointers:ident, $generic:ident: $function:ident;)*) => {$(
        #[inline(always)]
        unsafe fn $generic<S: Simd>(x: *const f32, y: *mut f32, n: usize) {
            let mut i = 0;
            // SAFETY: the caller owns n numbers at x and at y.
            unsafe {
                while i + S::LANES <= n {
                    S::store(y.add(i), $function::<S>(S::load(x.add(i))));
                    i += S::LANES;
                }
                if i < n {
                    S::store_first(y.add(i), n - i, $function::<S>(S::load_first(x.add(i), n - i)));
                }
            }
        }
        kernel!(unsafe fn $pointers(x: *const f32, y: *mut f32, n: usize) = $generic);

        pub(crate) fn $name(path: Path, x: &[f32], y: &mut [f32]) {
            assert_eq!(x.len(), y.len());
            // SAFETY: both hold x.len() numbers.
            unsafe { $pointers(path, x.as_ptr(), y.as_mut_ptr(), x.len()) }
        }
    )*};
}

elementwise! {
    exp_slice, exp_pointers, exp_generic: exp;
    sigmoid_slice, sigmoid_pointers, sigmoid_generic: sigmoid;
    tanh_slice, tanh_pointers, tanh_generic: tanh;
    erf_slice, erf_pointers, erf_generic: erf;
    gelu_slice, gelu_pointers, gelu_generic: gelu;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its series below 3, and by its continued fraction above.
    fn erf_f64(x: f64) -> f64 {
        let t = x.abs();
        let value = if t < 3.0 {
            let (mut term, mut sum) = (t, t);
            for n in 1..200 {
                term *= -t * t / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let mut fraction = t;
            for k in (1..=60).rev() {
                fraction = t + k as f64 / 2.0 / fraction;
            }
            1.0 - (-t * t).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        value.copysign(x)
    }

    fn grid() -> Vec<f32> {
        let mut x: Vec<f32> = (-200_000..=200_000).map(|i| i as f32 * 1.01e-4).collect();
        x.extend((-1000..=1000).map(|i| i as f32 * 0.11));
        x.extend([0.0, -0.0, 1e-30, -1e-30, f32::MIN_POSITIVE, 1e-7, 0.624_999_9, 0.625, 0.921_875]);
        x
    }

    fn worst(
        x: &[f32],
        f: impl Fn(&[f32], &mut [f32]),
        truth: impl Fn(f64) -> f64,
        scale: impl Fn(f64) -> f64,
    ) -> (f64, f32) {
        let mut y = vec![0.0; x.len()];
        f(x, &mut y);
        x.iter().zip(&y).fold((0.0, 0.0), |worst, (&x, &y)| {
            let want = truth(f64::from(x));
            let error = (f64::from(y) - want).abs() / scale(want);
            if error > worst.0 || error.is_nan() { (error, x) } else { worst }
        })
    }

    #[test]
    fn activations_are_within_two_ulp_of_f64() {
        let x = grid();
        let absolute = |_: f64| 1.0;
        let relative = |want: f64| want.abs().max(1e-37);
        for path in Path::all() {
            let check = |name: &str, (error, x): (f64, f32), limit: f64| {
                assert!(error <= limit, "{name} on {}: {error:e} at {x} exceeds {limit:e}", path.isa());
            };
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let gelu = |x: f64| x / 2.0 * (1.0 + erf_f64(x / std::f64::consts::SQRT_2));
            let narrow: Vec<f32> = x.iter().copied().filter(|x| (-85.0..88.0).contains(x)).collect();
            check("exp", worst(&narrow, |x, y| exp_slice(path, x, y), f64::exp, relative), 1.8e-7);
            check("sigmoid", worst(&x, |x, y| sigmoid_slice(path, x, y), sigmoid, absolute), 1.2e-7);
            check("tanh", worst(&x, |x, y| tanh_slice(path, x, y), f64::tanh, absolute), 1.2e-7);
            check("tanh", worst(&x, |x, y| tanh_slice(path, x, y), f64::tanh, relative), 2.4e-7);
            check("erf", worst(&x, |x, y| erf_slice(path, x, y), erf_f64, absolute), 1.2e-7);
            check("gelu", worst(&x, |x, y| gelu_slice(path, x, y), gelu, |w| w.abs().max(1.0)), 3e-7);
        }
    }

    #[test]
    fn ends_of_the_range_are_exact() {
        for path in Path::all() {
            let run = |f: fn(Path, &[f32], &mut [f32]), x: f32| {
                let mut y = [0.0];
                f(path, &[x], &mut y);
                y[0]
            };
            assert_eq!(run(exp_slice, f32::INFINITY), f32::INFINITY);
            assert_eq!(run(exp_slice, f32::NEG_INFINITY), 0.0);
            assert_eq!(run(exp_slice, 0.0), 1.0);
            assert!(run(exp_slice, 88.7).is_finite());
            assert_eq!(run(sigmoid_slice, f32::INFINITY), 1.0);
            assert_eq!(run(sigmoid_slice, f32::NEG_INFINITY), 0.0);
            assert_eq!(run(sigmoid_slice, 0.0), 0.5);
            assert_eq!(run(tanh_slice, f32::INFINITY), 1.0);
            assert_eq!(run(tanh_slice, f32::NEG_INFINITY), -1.0);
            assert_eq!(run(tanh_slice, -0.0).to_bits(), (-0.0f32).to_bits());
            assert_eq!(run(erf_slice, f32::INFINITY), 1.0);
            assert_eq!(run(erf_slice, f32::NEG_INFINITY), -1.0);
            for f in [exp_slice, sigmoid_slice, tanh_slice, erf_slice, gelu_slice] {
                assert!(run(f, f32::NAN).is_nan());
            }
        }
    }

    #[test]
    fn a_number_has_the_same_bits_anywhere_in_a_slice() {
        for path in Path::all() {
            for f in [exp_slice, sigmoid_slice, tanh_slice, erf_slice, gelu_slice] {
                let mut alone = [0.0];
                f(path, &[0.731], &mut alone);
                for n in 1..40 {
                    let mut y = vec![0.0; n];
                    f(path, &vec![0.731; n], &mut y);
                    assert!(y.iter().all(|y| y.to_bits() == alone[0].to_bits()));
                }
            }
        }
    }
}
