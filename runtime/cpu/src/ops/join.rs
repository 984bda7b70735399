//! Matrices side by side: what the sum of padded ones is, in one copy of each.

use std::sync::Arc;

use super::fused::Kernel;
use crate::pool::Pool;

/// Below so many numbers another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 17;

/// Inputs `[…, widths[i]]` → `[…, Σ widths]`.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) pool: Arc<Pool>,
    pub(crate) widths: Vec<usize>,
}

impl Kernel for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let y = &mut *outputs[0];
        let width: usize = self.widths.iter().sum();
        let rows = y.len() / width;
        let parts = if y.len() < PARALLEL_MIN { 1 } else { 2 * self.pool.threads() };
        let part = rows.div_ceil(parts).max(1);
        let tasks: Vec<_> = y.chunks_mut(part * width).enumerate().collect();
        self.pool.run(tasks, |(index, y)| {
            for (row, y) in y.chunks_exact_mut(width).enumerate() {
                let mut at = 0;
                for (input, &count) in inputs.iter().zip(&self.widths) {
                    let start = (index * part + row) * count;
                    y[at..at + count].copy_from_slice(&input[start..start + count]);
                    at += count;
                }
            }
        });
    }
}
