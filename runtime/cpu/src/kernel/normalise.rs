//! Layer normalisation and softmax, one row at a time.
#![allow(unsafe_code)]

use super::activation::exp;
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// Each row of `features` numbers: (x − mean) / √(variance + epsilon) · gamma + beta.
pub(crate) fn layer_norm(path: Path, epsilon: f32, x: &[f32], gamma: &[f32], beta: &[f32], y: &mut [f32]) {
    let features = gamma.len();
    assert!(features > 0 && beta.len() == features && x.len() == y.len() && x.len().is_multiple_of(features));
    for (x, y) in x.chunks_exact(features).zip(y.chunks_exact_mut(features)) {
        // SAFETY: all four hold `features` numbers.
        unsafe {
            norm_kernel(path, epsilon, x.as_ptr(), gamma.as_ptr(), beta.as_ptr(), y.as_mut_ptr(), features);
        }
    }
}

/// dx, and dgamma and dbeta added to what they hold. With n the normalised row and d = dy · gamma:
/// dx = (d − mean(d) − n · mean(d · n)) / √(variance + epsilon).
pub(crate) fn layer_norm_backward(
    path: Path,
    epsilon: f32,
    (x, gamma, dy): (&[f32], &[f32], &[f32]),
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let features = gamma.len();
    assert!(features > 0 && dgamma.len() == features && dbeta.len() == features);
    assert!(x.len() == dy.len() && x.len() == dx.len() && x.len().is_multiple_of(features));
    let rows = x.chunks_exact(features).zip(dy.chunks_exact(features)).zip(dx.chunks_exact_mut(features));
    for ((x, dy), dx) in rows {
        let row = Backward {
            x: x.as_ptr(),
            gamma: gamma.as_ptr(),
            dy: dy.as_ptr(),
            dx: dx.as_mut_ptr(),
            dgamma: dgamma.as_mut_ptr(),
            dbeta: dbeta.as_mut_ptr(),
            features,
        };
        // SAFETY: all six hold `features` numbers.
        unsafe { backward_kernel(path, epsilon, &row) };
    }
}

/// Softmax of one row, or its logarithm.
pub(crate) fn softmax(path: Path, logarithm: bool, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let largest = x.iter().fold(f32::NEG_INFINITY, |m, &x| if x.is_nan() || x >= m { x } else { m });
    // SAFETY: both hold x.len() numbers.
    let sum = unsafe { exponentials_kernel(path, largest, x.as_ptr(), y.as_mut_ptr(), x.len()) };
    if logarithm {
        let shift = sum.ln();
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - largest) - shift);
    } else {
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

kernel!(unsafe fn norm_kernel(
    epsilon: f32,
    x: *const f32,
    gamma: *const f32,
    beta: *const f32,
    y: *mut f32,
    n: usize,
) = norm_generic);

/// Calls `f(offset, lanes)` for each vector of a row.
#[inline(always)]
fn vectors<S: Simd>(n: usize, mut f: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < n {
        f(at, S::LANES.min(n - at));
        at += S::LANES;
    }
}

/// Mean and 1 / √(variance + epsilon).
#[inline(always)]
unsafe fn moments<S: Simd>(epsilon: f32, x: *const f32, n: usize) -> (f32, f32) {
    // SAFETY: the caller owns n numbers at x and has the instructions of `S`.
    unsafe {
        let mut sum = S::splat(0.0);
        vectors::<S>(n, |at, lanes| sum = S::add(sum, S::load_first(x.add(at), lanes)));
        let mean = S::sum(sum) / n as f32;
        let mut squares = S::splat(0.0);
        vectors::<S>(n, |at, lanes| {
            if lanes == S::LANES {
                let d = S::sub(S::load(x.add(at)), S::splat(mean));
                squares = S::fma(d, d, squares);
            }
        });
        let mut squares = S::sum(squares);
        for at in n / S::LANES * S::LANES..n {
            let d = *x.add(at) - mean;
            squares += d * d;
        }
        (mean, 1.0 / (squares / n as f32 + epsilon).sqrt())
    }
}

#[inline(always)]
unsafe fn norm_generic<S: Simd>(
    epsilon: f32,
    x: *const f32,
    gamma: *const f32,
    beta: *const f32,
    y: *mut f32,
    n: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let (mean, inverse) = moments::<S>(epsilon, x, n);
        vectors::<S>(n, |at, lanes| {
            let normal = S::mul(S::sub(S::load_first(x.add(at), lanes), S::splat(mean)), S::splat(inverse));
            let (gamma, beta) = (S::load_first(gamma.add(at), lanes), S::load_first(beta.add(at), lanes));
            S::store_first(y.add(at), lanes, S::fma(normal, gamma, beta));
        });
    }
}

struct Backward {
    x: *const f32,
    gamma: *const f32,
    dy: *const f32,
    dx: *mut f32,
    dgamma: *mut f32,
    dbeta: *mut f32,
    features: usize,
}

kernel!(unsafe fn backward_kernel(epsilon: f32, row: &Backward) = backward_generic);

#[inline(always)]
unsafe fn backward_generic<S: Simd>(epsilon: f32, r: &Backward) {
    let n = r.features;
    // SAFETY: the caller's. Lanes past the end load as zero, and zero · gamma adds nothing.
    unsafe {
        let (mean, inverse) = moments::<S>(epsilon, r.x, n);
        let normal = |at: usize, lanes: usize| {
            S::mul(S::sub(S::load_first(r.x.add(at), lanes), S::splat(mean)), S::splat(inverse))
        };
        let scaled = |at: usize, lanes: usize| {
            S::mul(S::load_first(r.dy.add(at), lanes), S::load_first(r.gamma.add(at), lanes))
        };
        let (mut sum, mut product) = (S::splat(0.0), S::splat(0.0));
        vectors::<S>(n, |at, lanes| {
            let d = scaled(at, lanes);
            sum = S::add(sum, d);
            product = S::fma(d, normal(at, lanes), product);
        });
        let (mean_d, mean_dn) = (S::splat(S::sum(sum) / n as f32), S::splat(S::sum(product) / n as f32));
        vectors::<S>(n, |at, lanes| {
            let (normal, dy) = (normal(at, lanes), S::load_first(r.dy.add(at), lanes));
            let centred = S::sub(S::sub(scaled(at, lanes), mean_d), S::mul(normal, mean_dn));
            S::store_first(r.dx.add(at), lanes, S::mul(centred, S::splat(inverse)));
            let dgamma = S::fma(dy, normal, S::load_first(r.dgamma.add(at), lanes));
            S::store_first(r.dgamma.add(at), lanes, dgamma);
            S::store_first(r.dbeta.add(at), lanes, S::add(dy, S::load_first(r.dbeta.add(at), lanes)));
        });
    }
}

kernel!(unsafe fn exponentials_kernel(largest: f32, x: *const f32, y: *mut f32, n: usize) -> f32 = exponentials_generic);

/// Writes e^{x − largest} and gives the sum.
#[inline(always)]
unsafe fn exponentials_generic<S: Simd>(largest: f32, x: *const f32, y: *mut f32, n: usize) -> f32 {
    // SAFETY: the caller's; the lanes past the end stay out of the sum since they are stored nowhere and
    // the tail is added one by one.
    unsafe {
        let mut sum = S::splat(0.0);
        vectors::<S>(n, |at, lanes| {
            let e = exp::<S>(S::sub(S::load_first(x.add(at), lanes), S::splat(largest)));
            S::store_first(y.add(at), lanes, e);
            if lanes == S::LANES {
                sum = S::add(sum, e);
            }
        });
        let mut sum = S::sum(sum);
        for at in n / S::LANES * S::LANES..n {
            sum += *y.add(at);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + 11) % 23) as f32 * 0.3 - 2.0).collect()
    }

    #[test]
    fn rows_match_f64_at_every_length() {
        for path in Path::all() {
            for n in 1..70 {
                let (x, gamma, beta) = (row(n), row(n + 1)[1..].to_vec(), row(n + 2)[2..].to_vec());
                let mut y = vec![0.0; n];
                layer_norm(path, 1e-3, &x, &gamma, &beta, &mut y);
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
                let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
                for i in 0..n {
                    let normal = (f64::from(x[i]) - mean) / (variance + f64::from(1e-3f32)).sqrt();
                    let want = normal * f64::from(gamma[i]) + f64::from(beta[i]);
                    assert!((f64::from(y[i]) - want).abs() < 1e-5, "{n} {i}");
                }
                let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
                softmax(path, false, &x, &mut y);
                for (x, y) in x.iter().zip(&y) {
                    assert!((f64::from(*y) - f64::from(*x).exp() / sum).abs() < 1e-6);
                }
                softmax(path, true, &x, &mut y);
                for (x, y) in x.iter().zip(&y) {
                    assert!((f64::from(*y) - (f64::from(*x) - sum.ln())).abs() < 2e-6);
                }
            }
        }
    }

    #[test]
    fn softmax_of_extreme_rows() {
        for path in Path::all() {
            let mut y = [0.0; 3];
            softmax(path, false, &[1000.0, 0.0, f32::NEG_INFINITY], &mut y);
            assert_eq!(y, [1.0, 0.0, 0.0]);
            softmax(path, false, &[0.0, f32::NAN, 1.0], &mut y);
            assert!(y.iter().all(|y| y.is_nan()));
        }
    }
}
