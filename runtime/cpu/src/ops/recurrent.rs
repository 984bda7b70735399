//! Stacks of recurrent layers as one op: x → the last layer's h, its last step or all of them.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::forward_rows;
use crate::isa::Path;
use crate::kernel::recurrent::Stack;
use crate::kernel::recurrent::batch::{BatchScratch, forward};
use crate::kernel::recurrent::weights::{Cell, Layer};
use crate::kernel::recurrent::window::{Window, WindowScratch};
use crate::pool::{Pool, Spare};
use crate::precision::Precision;

/// Below so many rows each goes by itself through the stack, its layers in parallel.
const ROWS_TOGETHER_MIN: usize = 4;

/// Weights that never change, or a place for those of each run (of one layer).
#[derive(Debug)]
pub(crate) enum Weights {
    Fixed(Stack),
    Given { path: Path, cell: Cell, features: usize, hidden: usize },
}

/// x `[B, T, F]`, then where not fixed W, U and the biases.
#[derive(Debug)]
pub(crate) struct Recurrent {
    pub(crate) pool: Arc<Pool>,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) weights: Weights,
    pub(crate) windows: Mutex<WindowScratch>,
    pub(crate) spare: Spare<BatchScratch>,
}

impl Kernel for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        match &self.weights {
            Weights::Fixed(stack) => self.forward(stack, inputs[0], outputs[0]),
            Weights::Given { path, cell, features, hidden } => {
                let sizes = (*features, *hidden);
                let [x, w, u, biases @ ..] = inputs else { panic!("a recurrent op has weights") };
                let layer = Layer::new(*path, (*cell, Precision::F32), sizes, w, u, biases);
                self.forward(&Stack { path: *path, layers: vec![Arc::new(layer)] }, x, outputs[0]);
            }
        }
    }
}

impl Recurrent {
    fn forward(&self, stack: &Stack, x: &[f32], h: &mut [f32]) {
        if self.batch == 0 || h.is_empty() {
            return;
        }
        let (x_row, h_row) = (x.len() / self.batch, h.len() / self.batch);
        if self.batch < ROWS_TOGETHER_MIN {
            for (index, h) in h.chunks_mut(h_row).enumerate() {
                self.window(stack, &x[index * x_row..(index + 1) * x_row], h);
            }
            return;
        }
        let rows = forward_rows(self.batch, self.pool.threads());
        let tasks: Vec<_> = h.chunks_mut(rows * h_row).enumerate().collect();
        self.pool.run(tasks, |(index, h)| {
            let (first, count) = (index * rows, h.len() / h_row);
            let x = &x[first * x_row..(first + count) * x_row];
            self.spare.with(|scratch| forward(stack, (count, self.steps), x, h, scratch));
        });
    }

    fn window(&self, stack: &Stack, x: &[f32], h: &mut [f32]) {
        let mut scratch = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = Window::new(stack, self.steps, x, &mut scratch);
        let threads = self.pool.threads().min(stack.layers.len());
        self.pool.run(vec![(); threads], |()| window.work());
        window.copy(h);
    }
}
