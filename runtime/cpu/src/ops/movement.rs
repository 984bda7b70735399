//! Copies of a strided view: broadcast and transpose.

use super::broadcast::Loops;
use super::fused::Kernel;

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    /// Over the output, with the input as the operand.
    pub(crate) loops: Loops<1>,
}

impl Kernel for View {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        self.loops.runs(|at, [from], len, [stride]| {
            let y = &mut y[at..at + len];
            match stride {
                0 => y.fill(x[from]),
                1 => y.copy_from_slice(&x[from..from + len]),
                _ => y.iter_mut().zip(x[from..].iter().step_by(stride)).for_each(|(y, x)| *y = *x),
            }
        });
    }
}
