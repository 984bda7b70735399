//! Sum, mean and maximum over any axes.

use graph::ReduceOp;

use super::broadcast::Loops;
use super::fused::Kernel;

/// Partial sums of a run, so that the compiler can use vectors and long sums lose less.
const PARTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Reduce {
    pub(crate) op: ReduceOp,
    /// Over the input, with the output as the operand that repeats along the reduced axes.
    pub(crate) loops: Loops<1>,
    /// How many elements make one.
    pub(crate) count: usize,
}

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        match self.op {
            ReduceOp::Sum => self.accumulate(x, y, 0.0, |a, b| a + b),
            ReduceOp::Mean => {
                self.accumulate(x, y, 0.0, |a, b| a + b);
                y.iter_mut().for_each(|y| *y /= self.count as f32);
            }
            ReduceOp::Max => {
                self.accumulate(x, y, f32::NEG_INFINITY, |a, b| if b.is_nan() || b >= a { b } else { a });
            }
        }
    }
}

impl Reduce {
    fn accumulate(&self, x: &[f32], y: &mut [f32], start: f32, f: impl Fn(f32, f32) -> f32 + Copy) {
        y.fill(start);
        self.loops.runs(|at, [to], len, [stride]| {
            let x = &x[at..at + len];
            if stride == 0 {
                y[to] = f(y[to], fold(x, start, f));
            } else if stride == 1 {
                y[to..to + len].iter_mut().zip(x).for_each(|(y, x)| *y = f(*y, *x));
            } else {
                x.iter().enumerate().for_each(|(i, x)| y[to + i * stride] = f(y[to + i * stride], *x));
            }
        });
    }
}

/// A run in a fixed order: lane by lane, then the lanes, then the rest.
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut parts = [start; PARTS];
    let chunks = x.chunks_exact(PARTS);
    let rest = chunks.remainder();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, x)| *part = f(*part, *x));
    }
    let whole = parts.into_iter().fold(start, f);
    rest.iter().fold(whole, |sum, x| f(sum, *x))
}
