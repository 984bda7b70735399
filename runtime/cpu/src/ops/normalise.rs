//! Softmax, its logarithm, layer normalisation and its backward form.

use std::sync::Mutex;

use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::normalise::{layer_norm, layer_norm_backward, softmax};

/// Along an axis of `size`, with `inner` elements after it.
#[derive(Debug)]
pub(crate) struct Softmax {
    pub(crate) path: Path,
    pub(crate) logarithm: bool,
    pub(crate) size: usize,
    pub(crate) inner: usize,
    /// One lane of the axis, in and out.
    pub(crate) lane: Mutex<(Vec<f32>, Vec<f32>)>,
}

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        if self.logarithm { "log_softmax" } else { "softmax" }
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let block = self.size * self.inner;
        let blocks = inputs[0].chunks_exact(block).zip(outputs[0].chunks_exact_mut(block));
        if self.inner == 1 {
            blocks.for_each(|(x, y)| softmax(self.path, self.logarithm, x, y));
            return;
        }
        let mut lane = self.lane.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (from, to) = &mut *lane;
        to.resize(self.size, 0.0);
        for (x, y) in blocks {
            for at in 0..self.inner {
                from.clear();
                from.extend(x[at..].iter().step_by(self.inner));
                softmax(self.path, self.logarithm, from, to);
                y[at..].iter_mut().step_by(self.inner).zip(to.iter()).for_each(|(y, to)| *y = *to);
            }
        }
    }
}

/// x, gamma, beta → y
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub(crate) path: Path,
    pub(crate) epsilon: f32,
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        layer_norm(self.path, self.epsilon, inputs[0], inputs[1], inputs[2], outputs[0]);
    }
}

/// x, gamma, dy → dx, dgamma, dbeta
#[derive(Debug)]
pub(crate) struct LayerNormBackward {
    pub(crate) path: Path,
    pub(crate) epsilon: f32,
}

impl Kernel for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [dx, dgamma, dbeta] = outputs else { panic!("layer_norm_backward has three outputs") };
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        layer_norm_backward(self.path, self.epsilon, (inputs[0], inputs[1], inputs[2]), dx, dgamma, dbeta);
    }
}
