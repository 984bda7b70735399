//! Runs of plain functions of one, two and three numbers: loops that the compiler turns into each machine's vectors.
//! A NaN comes out where one went in, but for `Less`.
#![allow(unsafe_code)]

use graph::{BinaryOp, UnaryOp};

use super::activation::{erf_slice, exp_slice, gelu_slice, sigmoid_slice, tanh_slice};
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// One side of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Factor<'a> {
    One(f32),
    Many(&'a [f32]),
    Strided(&'a [f32], usize),
}

impl<'a> Factor<'a> {
    pub(crate) fn at(data: &'a [f32], start: usize, len: usize, stride: usize) -> Self {
        match stride {
            0 => Factor::One(data[start]),
            1 => Factor::Many(&data[start..start + len]),
            _ => Factor::Strided(&data[start..], stride),
        }
    }

    /// Where element 0 stands and how far the next one is; there are `len`.
    fn steps(&self, len: usize) -> (*const f32, usize) {
        match self {
            Factor::One(x) => (x, 0),
            Factor::Many(data) => {
                assert!(data.len() >= len);
                (data.as_ptr(), 1)
            }
            Factor::Strided(data, stride) => {
                assert!(len == 0 || data.len() > (len - 1) * stride);
                (data.as_ptr(), *stride)
            }
        }
    }
}

/// y = f(x), of the same length.
pub(crate) fn unary(path: Path, op: UnaryOp, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    match op {
        UnaryOp::Exp => exp_slice(path, x, y),
        UnaryOp::Tanh => tanh_slice(path, x, y),
        UnaryOp::Sigmoid => sigmoid_slice(path, x, y),
        UnaryOp::Gelu => gelu_slice(path, x, y),
        UnaryOp::Erf => erf_slice(path, x, y),
        UnaryOp::Log => x.iter().zip(y).for_each(|(x, y)| *y = x.ln()),
        UnaryOp::Softplus => x.iter().zip(y).for_each(|(x, y)| *y = softplus(*x)),
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Sign
        | UnaryOp::Square
        | UnaryOp::Sqrt
        | UnaryOp::Reciprocal
        // SAFETY: both hold x.len() numbers.
        | UnaryOp::Relu => unsafe { unary_kernel(path, op, x.as_ptr(), y.as_mut_ptr(), x.len()) },
    }
}

/// y = f(y)
pub(crate) fn unary_in_place(path: Path, op: UnaryOp, y: &mut [f32]) {
    let mut block = [0.0; 256];
    for y in y.chunks_mut(block.len()) {
        let x = &mut block[..y.len()];
        x.copy_from_slice(y);
        unary(path, op, x, y);
    }
}

fn softplus(x: f32) -> f32 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// y = f(a, b), of y's length.
pub(crate) fn binary(path: Path, op: BinaryOp, a: Factor<'_>, b: Factor<'_>, y: &mut [f32]) {
    let n = y.len();
    let (a, b) = (a.steps(n), b.steps(n));
    // SAFETY: `steps` checked that n numbers are there.
    unsafe { binary_kernel(path, op, a, b, y.as_mut_ptr(), n) }
}

/// y = a where c ≠ 0, else b; of y's length.
pub(crate) fn select(path: Path, c: Factor<'_>, a: Factor<'_>, b: Factor<'_>, y: &mut [f32]) {
    let n = y.len();
    let (c, a, b) = (c.steps(n), a.steps(n), b.steps(n));
    // SAFETY: `steps` checked that n numbers are there.
    unsafe { select_kernel(path, c, a, b, y.as_mut_ptr(), n) }
}

kernel!(unsafe fn unary_kernel(op: UnaryOp, x: *const f32, y: *mut f32, n: usize) = unary_generic);
kernel!(unsafe fn binary_kernel(op: BinaryOp, a: (*const f32, usize), b: (*const f32, usize), y: *mut f32, n: usize) = binary_generic);
kernel!(unsafe fn select_kernel(c: (*const f32, usize), a: (*const f32, usize), b: (*const f32, usize), y: *mut f32, n: usize) = select_generic);

macro_rules! run {
    ($n:ident, $y:ident, [$($x:ident: $p:expr, $step:expr),*] $value:expr) => {
        for i in 0..$n {
            $(let $x = *$p.add(i * $step);)*
            *$y.add(i) = $value;
        }
    };
}

#[inline(always)]
unsafe fn unary_generic<S: Simd>(op: UnaryOp, x: *const f32, y: *mut f32, n: usize) {
    // SAFETY: the caller owns n numbers at x and at y.
    unsafe {
        match op {
            UnaryOp::Neg => run!(n, y, [v: x, 1] -v),
            UnaryOp::Abs => run!(n, y, [v: x, 1] v.abs()),
            UnaryOp::Sign => run!(n, y, [v: x, 1] if v == 0.0 { 0.0 } else { v.signum() }),
            UnaryOp::Square => run!(n, y, [v: x, 1] v * v),
            UnaryOp::Sqrt => run!(n, y, [v: x, 1] v.sqrt()),
            UnaryOp::Reciprocal => run!(n, y, [v: x, 1] 1.0 / v),
            UnaryOp::Relu => run!(n, y, [v: x, 1] if v < 0.0 { 0.0 } else { v }),
            UnaryOp::Exp
            | UnaryOp::Log
            | UnaryOp::Tanh
            | UnaryOp::Sigmoid
            | UnaryOp::Gelu
            | UnaryOp::Erf
            | UnaryOp::Softplus => unreachable!("`unary` has other functions for these"),
        }
    }
}

#[inline(always)]
unsafe fn binary_generic<S: Simd>(
    op: BinaryOp,
    (a, a_step): (*const f32, usize),
    (b, b_step): (*const f32, usize),
    y: *mut f32,
    n: usize,
) {
    macro_rules! pairs {
        (|$x:ident, $z:ident| $value:expr) => {
            match (a_step, b_step) {
                (1, 1) => run!(n, y, [$x: a, 1, $z: b, 1] $value),
                (1, 0) => {
                    let $z = *b;
                    run!(n, y, [$x: a, 1] $value)
                }
                (0, 1) => {
                    let $x = *a;
                    run!(n, y, [$z: b, 1] $value)
                }
                _ => run!(n, y, [$x: a, a_step, $z: b, b_step] $value),
            }
        };
    }
    // SAFETY: the caller owns n numbers at each.
    unsafe {
        match op {
            BinaryOp::Add => pairs!(|a, b| a + b),
            BinaryOp::Sub => pairs!(|a, b| a - b),
            BinaryOp::Mul => pairs!(|a, b| a * b),
            BinaryOp::Div => pairs!(|a, b| a / b),
            BinaryOp::Max => pairs!(|a, b| if a.is_nan() || a >= b { a } else { b }),
            BinaryOp::Min => pairs!(|a, b| if a.is_nan() || a <= b { a } else { b }),
            BinaryOp::Less => pairs!(|a, b| if a < b { 1.0 } else { 0.0 }),
        }
    }
}

#[inline(always)]
unsafe fn select_generic<S: Simd>(
    (c, c_step): (*const f32, usize),
    (a, a_step): (*const f32, usize),
    (b, b_step): (*const f32, usize),
    y: *mut f32,
    n: usize,
) {
    // SAFETY: the caller owns n numbers at each.
    unsafe {
        match (c_step, a_step, b_step) {
            (1, 1, 0) => {
                let b = *b;
                run!(n, y, [c: c, 1, a: a, 1] if c != 0.0 { a } else { b })
            }
            (1, 1, 1) => run!(n, y, [c: c, 1, a: a, 1, b: b, 1] if c != 0.0 { a } else { b }),
            _ => run!(n, y, [c: c, c_step, a: a, a_step, b: b, b_step] if c != 0.0 { a } else { b }),
        }
    }
}
