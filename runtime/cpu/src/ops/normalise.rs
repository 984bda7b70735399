//! Softmax, its logarithm, layer normalisation and its backward form.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::add_up;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::normalise::{layer_norm, layer_norm_backward, softmax};
use crate::pool::Pool;

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
        let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Below so many numbers another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 15;
/// Rows of one task.
const TASK_ROWS: usize = 64;

/// x, gamma, beta → y
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) epsilon: f32,
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, gamma, beta] = *inputs else { panic!("layer_norm takes three inputs") };
        let y = &mut *outputs[0];
        if y.len() < PARALLEL_MIN {
            return layer_norm(self.path, self.epsilon, x, gamma, beta, y);
        }
        let size = TASK_ROWS * gamma.len();
        self.pool.run(x.chunks(size).zip(y.chunks_mut(size)).collect(), |(x, y)| {
            layer_norm(self.path, self.epsilon, x, gamma, beta, y);
        });
    }
}

/// x, gamma, dy → dx, dgamma, dbeta
#[derive(Debug)]
pub(crate) struct LayerNormBackward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) epsilon: f32,
    pub(crate) shards: Mutex<Vec<Shard>>,
}

/// What one task of the backward adds up; the shards' sums are added up in order.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    dgamma: Aligned,
    dbeta: Aligned,
}

/// A backward has at most so many shards. How many decides the order of the sums, so it follows from the rows alone.
const SHARDS_MAX: usize = 16;

fn shard_rows(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(TASK_ROWS).clamp(1, SHARDS_MAX))
}

impl Kernel for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, gamma, dy] = *inputs else { panic!("layer_norm_backward takes three inputs") };
        let [dx, dgamma, dbeta] = outputs else { panic!("layer_norm_backward has three outputs") };
        let features = gamma.len();
        let size = shard_rows((x.len() / features).max(1)) * features;
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.resize_with(x.len().div_ceil(size).max(1), Shard::default);
        for shard in shards.iter_mut() {
            for sum in [&mut shard.dgamma, &mut shard.dbeta] {
                sum.resize(features);
                sum.fill(0.0);
            }
        }
        let given = x.chunks(size).zip(dy.chunks(size)).zip(dx.chunks_mut(size));
        self.pool.run(given.zip(shards.iter_mut()).collect(), |(((x, dy), dx), shard)| {
            let Shard { dgamma, dbeta } = shard;
            layer_norm_backward(self.path, self.epsilon, (x, gamma, dy), dx, dgamma, dbeta);
        });
        add_up(shards.iter().map(|shard| &*shard.dgamma), dgamma);
        add_up(shards.iter().map(|shard| &*shard.dbeta), dbeta);
    }
}
