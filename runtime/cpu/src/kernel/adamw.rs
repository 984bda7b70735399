//! A step of AdamW on a part of a parameter (Loshchilov and Hutter 2019, algorithm 2).
#![allow(unsafe_code)]

use super::simd::{Simd, kernel};
use crate::isa::Path;

/// The numbers of one step, the same for every element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) rate: f32,
    pub(crate) weight_decay: f32,
    pub(crate) epsilon: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// 1 − β₁ and 1 − β₂
    pub(crate) rest1: f32,
    pub(crate) rest2: f32,
    /// 1 − β₁ᵗ and 1 − β₂ᵗ
    pub(crate) unbias1: f32,
    pub(crate) unbias2: f32,
}

/// What is read: `gradient` as long as the others.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    pub(crate) parameter: &'a [f32],
    pub(crate) m: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) gradient: &'a [f32],
}

/// Parameter, m and v after the step. An element's bits don't depend on its place.
pub(crate) fn adamw(path: Path, step: &Step, before: Before<'_>, after: [&mut [f32]; 3]) {
    let Before { parameter, m, v, gradient } = before;
    let n = parameter.len();
    assert!([m, v, gradient].iter().all(|x| x.len() == n) && after.iter().all(|x| x.len() == n));
    let [parameter_out, m_out, v_out] = after;
    let from = [parameter.as_ptr(), m.as_ptr(), v.as_ptr(), gradient.as_ptr()];
    let to = [parameter_out.as_mut_ptr(), m_out.as_mut_ptr(), v_out.as_mut_ptr()];
    // SAFETY: all seven hold n numbers.
    unsafe { adamw_kernel(path, step, from, to, n) }
}

kernel!(unsafe fn adamw_kernel(step: &Step, from: [*const f32; 4], to: [*mut f32; 3], n: usize) = adamw_generic);

#[inline(always)]
unsafe fn adamw_generic<S: Simd>(step: &Step, from: [*const f32; 4], to: [*mut f32; 3], n: usize) {
    // SAFETY: the caller owns n numbers at each; `lanes` end there.
    unsafe {
        let (beta1, rest1, unbias1) = (S::splat(step.beta1), S::splat(step.rest1), S::splat(step.unbias1));
        let (beta2, rest2, unbias2) = (S::splat(step.beta2), S::splat(step.rest2), S::splat(step.unbias2));
        let (rate, decay) = (S::splat(step.rate), S::splat(step.weight_decay));
        let epsilon = S::splat(step.epsilon);
        let mut at = 0;
        while at < n {
            let lanes = S::LANES.min(n - at);
            let p = S::load_first(from[0].add(at), lanes);
            let m = S::load_first(from[1].add(at), lanes);
            let v = S::load_first(from[2].add(at), lanes);
            let g = S::load_first(from[3].add(at), lanes);
            let m = S::add(S::mul(beta1, m), S::mul(rest1, g));
            let v = S::add(S::mul(beta2, v), S::mul(S::mul(rest2, g), g));
            let root = S::sqrt(S::div(v, unbias2));
            let direction = S::div(S::div(m, unbias1), S::add(root, epsilon));
            let change = S::mul(rate, S::add(direction, S::mul(decay, p)));
            S::store_first(to[0].add(at), lanes, S::sub(p, change));
            S::store_first(to[1].add(at), lanes, m);
            S::store_first(to[2].add(at), lanes, v);
            at += S::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_the_formulas_bits_at_every_length() {
        let step = Step {
            rate: 1e-3,
            weight_decay: 0.01,
            epsilon: 1e-8,
            beta1: 0.9,
            beta2: 0.999,
            rest1: 0.1,
            rest2: 0.001,
            unbias1: 0.271,
            unbias2: 0.002_997,
        };
        let number = |seed: usize, i: usize| ((i * 37 + seed * 11) % 23) as f32 * 0.3 - 2.0;
        for path in Path::all() {
            for n in (0..70).chain([1024]) {
                let row = |seed: usize| (0..n).map(|i| number(seed, i)).collect::<Vec<f32>>();
                let (parameter, m, gradient) = (row(1), row(2), row(3));
                let v: Vec<f32> = row(4).iter().map(|x| x * x).collect();
                let mut after = [vec![f32::NAN; n], vec![f32::NAN; n], vec![f32::NAN; n]];
                let before = Before { parameter: &parameter, m: &m, v: &v, gradient: &gradient };
                adamw(path, &step, before, after.each_mut().map(Vec::as_mut_slice));
                for i in 0..n {
                    let g = gradient[i];
                    let m = step.beta1 * m[i] + step.rest1 * g;
                    let v = step.beta2 * v[i] + step.rest2 * g * g;
                    let direction = (m / step.unbias1) / ((v / step.unbias2).sqrt() + step.epsilon);
                    let p = parameter[i] - step.rate * (direction + step.weight_decay * parameter[i]);
                    assert_eq!([after[0][i], after[1][i], after[2][i]], [p, m, v], "{} {n} {i}", path.isa());
                }
            }
        }
    }
}
