//! Functions of one, two and three numbers. A NaN comes out where one went in, but for `Less`.

use graph::{BinaryOp, UnaryOp};

use super::broadcast::Loops;
use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::activation::{erf_slice, exp_slice, gelu_slice, sigmoid_slice, tanh_slice};

#[derive(Debug)]
pub(crate) struct Unary {
    pub(crate) path: Path,
    pub(crate) op: UnaryOp,
}

impl Kernel for Unary {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        match self.op {
            UnaryOp::Neg => map(x, y, |x| -x),
            UnaryOp::Abs => map(x, y, f32::abs),
            UnaryOp::Sign => map(x, y, |x| if x == 0.0 { 0.0 } else { x.signum() }),
            UnaryOp::Square => map(x, y, |x| x * x),
            UnaryOp::Sqrt => map(x, y, f32::sqrt),
            UnaryOp::Reciprocal => map(x, y, |x| 1.0 / x),
            UnaryOp::Exp => exp_slice(self.path, x, y),
            UnaryOp::Log => map(x, y, f32::ln),
            UnaryOp::Tanh => tanh_slice(self.path, x, y),
            UnaryOp::Sigmoid => sigmoid_slice(self.path, x, y),
            UnaryOp::Relu => map(x, y, |x| if x < 0.0 { 0.0 } else { x }),
            UnaryOp::Gelu => gelu_slice(self.path, x, y),
            UnaryOp::Erf => erf_slice(self.path, x, y),
            UnaryOp::Softplus => map(x, y, softplus),
        }
    }
}

fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    x.iter().zip(y).for_each(|(x, y)| *y = f(*x));
}

fn softplus(x: f32) -> f32 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) loops: Loops<2>,
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        match self.op {
            BinaryOp::Add => self.zip(inputs, outputs, |a, b| a + b),
            BinaryOp::Sub => self.zip(inputs, outputs, |a, b| a - b),
            BinaryOp::Mul => self.zip(inputs, outputs, |a, b| a * b),
            BinaryOp::Div => self.zip(inputs, outputs, |a, b| a / b),
            BinaryOp::Max => self.zip(inputs, outputs, |a, b| if a.is_nan() || a >= b { a } else { b }),
            BinaryOp::Min => self.zip(inputs, outputs, |a, b| if a.is_nan() || a <= b { a } else { b }),
            BinaryOp::Less => self.zip(inputs, outputs, |a, b| if a < b { 1.0 } else { 0.0 }),
        }
    }
}

impl Binary {
    fn zip(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], f: impl Fn(f32, f32) -> f32) {
        let (a, b, y) = (inputs[0], inputs[1], &mut *outputs[0]);
        self.loops.runs(|at, [a_at, b_at], len, strides| {
            let y = &mut y[at..at + len];
            match strides {
                [1, 1] => {
                    let pairs = a[a_at..a_at + len].iter().zip(&b[b_at..b_at + len]);
                    y.iter_mut().zip(pairs).for_each(|(y, (a, b))| *y = f(*a, *b));
                }
                [1, 0] => {
                    let b = b[b_at];
                    y.iter_mut().zip(&a[a_at..a_at + len]).for_each(|(y, a)| *y = f(*a, b));
                }
                [0, 1] => {
                    let a = a[a_at];
                    y.iter_mut().zip(&b[b_at..b_at + len]).for_each(|(y, b)| *y = f(a, *b));
                }
                [step_a, step_b] => {
                    for (i, y) in y.iter_mut().enumerate() {
                        *y = f(a[a_at + i * step_a], b[b_at + i * step_b]);
                    }
                }
            }
        });
    }
}

/// c, a, b → a where c ≠ 0, else b.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) loops: Loops<3>,
}

impl Kernel for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (c, a, b, y) = (inputs[0], inputs[1], inputs[2], &mut *outputs[0]);
        self.loops.runs(|at, [c_at, a_at, b_at], len, [step_c, step_a, step_b]| {
            for (i, y) in y[at..at + len].iter_mut().enumerate() {
                let chosen =
                    if c[c_at + i * step_c] != 0.0 { a[a_at + i * step_a] } else { b[b_at + i * step_b] };
                *y = chosen;
            }
        });
    }
}
