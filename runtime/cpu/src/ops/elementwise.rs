//! Functions of one, two and three numbers, each over all of its operands.

use graph::{BinaryOp, UnaryOp};

use super::broadcast::Loops;
use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::elementwise::{Factor, binary, select, unary};

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
        unary(self.path, self.op, inputs[0], outputs[0]);
    }
}

#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) path: Path,
    pub(crate) op: BinaryOp,
    pub(crate) loops: Loops<2>,
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (a, b, y) = (inputs[0], inputs[1], &mut *outputs[0]);
        self.loops.runs(|at, [a_at, b_at], len, [a_step, b_step]| {
            let (a, b) = (Factor::at(a, a_at, len, a_step), Factor::at(b, b_at, len, b_step));
            binary(self.path, self.op, a, b, &mut y[at..at + len]);
        });
    }
}

/// c, a, b → a where c ≠ 0, else b.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) path: Path,
    pub(crate) loops: Loops<3>,
}

impl Kernel for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let y = &mut *outputs[0];
        self.loops.runs(|at, starts, len, steps| {
            let factor = |i: usize| Factor::at(inputs[i], starts[i], len, steps[i]);
            select(self.path, factor(0), factor(1), factor(2), &mut y[at..at + len]);
        });
    }
}
