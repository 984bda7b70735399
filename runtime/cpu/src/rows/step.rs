//! The steps of a window, each over some of its rows.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use graph::{BinaryOp, UnaryOp};

use super::memory::{Memory, View};
use super::places::SLACK;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::attention::{Attend, Heads, Rows};
use crate::kernel::elementwise::{Factor, binary, unary, unary_in_place};
use crate::kernel::gemm::{Left, Start, gemm};
use crate::kernel::normalise::layer_norm;
use crate::kernel::panels::Panels;
use crate::ops::fused::Kernel;

/// A step writes `output`, whose rows are contiguous.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) output: View,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Product(Product),
    Norm {
        input: View,
        epsilon: f32,
        gamma: Arc<[f32]>,
        beta: Arc<[f32]>,
    },
    Unary {
        op: UnaryOp,
        input: View,
    },
    Binary {
        op: BinaryOp,
        a: Operand,
        b: Operand,
    },
    /// Keys packed for [`Attend`].
    Keys {
        heads: Heads,
        keys: View,
    },
    Attend {
        heads: Heads,
        queries: View,
        keys: View,
        values: View,
    },
    Copy {
        input: View,
    },
    /// Anything else, as a whole.
    Whole {
        kernel: Arc<dyn Kernel>,
        inputs: Vec<Operand>,
    },
}

/// then(input · weights + bias) + add
#[derive(Debug)]
pub(super) struct Product {
    pub(super) input: View,
    pub(super) weights: Arc<Panels>,
    pub(super) bias: Option<Arc<[f32]>>,
    pub(super) then: Option<UnaryOp>,
    pub(super) add: Option<Operand>,
}

/// What stands beside a view of the same rows.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    View(View),
    Scalar(f32),
    /// The same for each row.
    Row(Arc<[f32]>),
    /// All rows of the window.
    Rows(Arc<[f32]>),
}

impl Step {
    /// Calls `f` with each view, and whether this step, on some rows, uses those rows of it alone.
    pub(super) fn views(&self, mut f: impl FnMut(View, bool)) {
        match &self.work {
            Work::Product(product) => {
                f(product.input, true);
                product.add.iter().for_each(|add| add.view(&mut f));
            }
            Work::Norm { input, .. } | Work::Unary { input, .. } | Work::Copy { input } => f(*input, true),
            Work::Binary { a, b, .. } => {
                a.view(&mut f);
                b.view(&mut f);
            }
            Work::Keys { keys, .. } => {
                f(*keys, true);
                f(self.output, false);
            }
            Work::Attend { queries, keys, values, .. } => {
                f(*queries, true);
                f(*keys, false);
                f(*values, false);
            }
            Work::Whole { inputs, .. } => {
                inputs.iter().for_each(|input| input.view(&mut |view, _| f(view, false)));
            }
        }
        match &self.work {
            Work::Keys { .. } => {}
            Work::Whole { .. } => f(self.output, false),
            _ => f(self.output, true),
        }
    }

    /// Rows that may be shared out: 1 for a step that is done as a whole.
    pub(super) fn rows(&self) -> usize {
        match &self.work {
            Work::Whole { .. } => 1,
            Work::Keys { keys, .. } => keys.rows,
            _ => self.output.rows,
        }
    }

    pub(super) fn run(&self, path: Path, rows: Range<usize>, memory: &Memory<'_>, scratch: &mut Aligned) {
        if let Work::Whole { kernel, inputs } = &self.work {
            return self.run_whole(kernel.as_ref(), inputs, memory);
        }
        // SAFETY: nobody else has these rows, and what other rows are read was written in a phase before.
        let read = |view: View| unsafe { memory.read(view, rows.clone(), 0) };
        // SAFETY: as above; a step never writes a place that it reads.
        let write = || unsafe { memory.write(self.output, rows.clone()) };
        match &self.work {
            Work::Product(product) => {
                let y = write();
                product.run(path, (self.output.width, rows.clone()), read(product.input), y, scratch, &read);
            }
            Work::Norm { input, epsilon, gamma, beta } => {
                let strides = (input.stride, self.output.stride);
                layer_norm_rows(path, *epsilon, (gamma, beta), read(*input), write(), strides);
            }
            Work::Unary { op, input } => {
                let width = self.output.width;
                for_rows(read(*input), input.stride, write(), width, |x, y| unary(path, *op, x, y));
            }
            Work::Copy { input } => {
                for_rows(read(*input), input.stride, write(), self.output.width, |x, y| y.copy_from_slice(x));
            }
            Work::Binary { op, a, b } => {
                let (width, y) = (self.output.width, write());
                let (a, b) = (a.part(&rows, width, &read), b.part(&rows, width, &read));
                for (index, y) in y.chunks_exact_mut(width).enumerate() {
                    binary(path, *op, a.at(index, width), b.at(index, width), y);
                }
            }
            Work::Keys { heads, keys } => {
                let part = Rows { data: read(*keys), stride: keys.stride };
                let target = memory.start(self.output).cast_mut();
                // SAFETY: the output is a buffer of `packed_len` numbers, and these keys are ours.
                unsafe { heads.pack(path, part, (rows.start, rows.len()), heads.scale(), target) };
            }
            Work::Attend { heads, queries, keys, values } => {
                let slack = if heads.is_even(path) { 0 } else { SLACK };
                // SAFETY: keys and values were written in a phase before; `build` keeps uneven values in buffers.
                let (packed, mixed) =
                    unsafe { (memory.read(*keys, 0..1, 0), memory.read(*values, 0..values.rows, slack)) };
                let attend = Attend {
                    heads: *heads,
                    first: rows.start,
                    count: rows.len(),
                    queries: Rows { data: read(*queries), stride: queries.stride },
                    keys: packed,
                    values: Rows { data: mixed, stride: values.stride },
                };
                attend.run(path, write(), self.output.stride, None, scratch);
            }
            Work::Whole { .. } => {}
        }
    }

    fn run_whole(&self, kernel: &dyn Kernel, inputs: &[Operand], memory: &Memory<'_>) {
        let mut slices: [&[f32]; INPUTS_MAX] = [&[]; INPUTS_MAX];
        for (slice, input) in slices.iter_mut().zip(inputs) {
            *slice = match input {
                // SAFETY: the inputs of a whole step were written in a phase before or by this thread.
                Operand::View(view) => unsafe { memory.read(*view, 0..view.rows, 0) },
                Operand::Scalar(x) => std::slice::from_ref(x),
                Operand::Row(data) | Operand::Rows(data) => data,
            };
        }
        // SAFETY: one thread alone runs a whole step, and its output is no input.
        let output = unsafe { memory.write(self.output, 0..self.output.rows) };
        kernel.run(&slices[..inputs.len()], &mut [output]);
    }
}

/// A whole step has at most so many inputs.
pub(super) const INPUTS_MAX: usize = 4;

impl Product {
    fn run<'a>(
        &'a self,
        path: Path,
        (width, rows): (usize, Range<usize>),
        x: &[f32],
        y: &mut [f32],
        scratch: &mut Aligned,
        read: &impl Fn(View) -> &'a [f32],
    ) {
        let left = Left { data: x, rows: rows.len(), row_stride: self.input.stride, depth_stride: 1 };
        let start = self.bias.as_ref().map_or(Start::Zero, |bias| Start::Bias(bias));
        gemm(path, left, &self.weights, y, width, start, scratch);
        if let Some(op) = self.then {
            unary_in_place(path, op, y);
        }
        if let Some(add) = &self.add {
            let add = add.part(&rows, width, read);
            for (index, y) in y.chunks_exact_mut(width).enumerate() {
                match add.at(index, width) {
                    Factor::One(x) => y.iter_mut().for_each(|y| *y += x),
                    Factor::Many(x) | Factor::Strided(x, _) => {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                    }
                }
            }
        }
    }
}

/// An operand's part for some rows.
enum Part<'a> {
    Scalar(f32),
    Row(&'a [f32]),
    Rows(&'a [f32], usize),
}

impl Part<'_> {
    fn at(&self, row: usize, width: usize) -> Factor<'_> {
        match self {
            Part::Scalar(x) => Factor::One(*x),
            Part::Row(data) => Factor::Many(data),
            Part::Rows(data, stride) => Factor::Many(&data[row * stride..][..width]),
        }
    }
}

impl Operand {
    fn view(&self, f: &mut impl FnMut(View, bool)) {
        if let Operand::View(view) = self {
            f(*view, true);
        }
    }

    fn part<'a>(&'a self, rows: &Range<usize>, width: usize, read: &impl Fn(View) -> &'a [f32]) -> Part<'a> {
        match self {
            Operand::View(view) => Part::Rows(read(*view), view.stride),
            Operand::Scalar(x) => Part::Scalar(*x),
            Operand::Row(data) => Part::Row(data),
            Operand::Rows(data) => Part::Rows(&data[rows.start * width..rows.end * width], width),
        }
    }
}

/// Calls `f` with each row of both, or once with all where x has no gaps.
fn for_rows(x: &[f32], stride: usize, y: &mut [f32], width: usize, mut f: impl FnMut(&[f32], &mut [f32])) {
    if x.len() == y.len() {
        return f(x, y);
    }
    for (index, y) in y.chunks_exact_mut(width).enumerate() {
        f(&x[index * stride..][..width], y);
    }
}

fn layer_norm_rows(
    path: Path,
    epsilon: f32,
    (gamma, beta): (&[f32], &[f32]),
    x: &[f32],
    y: &mut [f32],
    (stride, width): (usize, usize),
) {
    for_rows(x, stride, y, width, |x, y| layer_norm(path, epsilon, x, gamma, beta, y));
}
