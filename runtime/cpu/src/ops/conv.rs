//! Chains of causal convolutions, and the backward of one: windows shared out over threads, or one window among them;
//! each with the relu after it where nothing else reads what stands between.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::add_up;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::conv::{Gradients, Layer, Scratch, Shape, Window, conv1d_backward, pack_backward};
use crate::kernel::panels::Panels;
use crate::pool::{Pool, Spare};

/// Below so many windows threads share each.
const WINDOWS_APART_MIN: usize = 4;
/// Below so many multiply-adds another thread isn't worth waking for one window.
const SHARED_MIN: usize = 1 << 20;

/// Weights that never change, or what those of each run are packed to (of one convolution).
#[derive(Debug)]
pub(crate) enum Weights {
    Fixed(Vec<Arc<Layer>>),
    Given { shape: Shape, relu: bool, packed: Mutex<[Arc<Layer>; 1]> },
}

/// x `[B, T, F]`, then where not fixed w and b → y `[B, T, O]`.
#[derive(Debug)]
pub(crate) struct Convolutions {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) batch: usize,
    pub(crate) weights: Weights,
    pub(crate) spare: Spare<Scratch>,
}

impl Kernel for Convolutions {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        match &self.weights {
            Weights::Fixed(layers) => self.forward(layers, inputs[0], outputs[0]),
            Weights::Given { shape, relu, packed } => {
                let [x, w, b] = *inputs else { panic!("conv1d takes three inputs") };
                let mut packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(layer) = Arc::get_mut(&mut packed[0]) {
                    layer.pack(self.path, *shape, *relu, w, b);
                }
                self.forward(&*packed, x, outputs[0]);
            }
        }
    }
}

impl Convolutions {
    fn forward(&self, layers: &[Arc<Layer>], x: &[f32], y: &mut [f32]) {
        let windows = x.chunks(x.len() / self.batch).zip(y.chunks_mut(y.len() / self.batch));
        let work: usize = layers.iter().map(|layer| layer.shape().multiply_adds()).sum();
        if self.batch < WINDOWS_APART_MIN {
            let threads = if work < SHARED_MIN { 1 } else { self.pool.threads() };
            for window in windows {
                self.spare.with(|scratch| {
                    let window = Window::new(self.path, layers, window, threads > 1, scratch);
                    self.pool.run(vec![(); threads], |()| window.work());
                });
            }
            return;
        }
        self.pool.run(windows.collect(), |window| {
            self.spare.with(|scratch| Window::new(self.path, layers, window, false, scratch).work());
        });
    }
}
/// x, w, dy → dx, dw, db; with a fourth input, the forward's result after relu, through the relu too.
#[derive(Debug)]
pub(crate) struct Conv1dBackward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) batch: usize,
    pub(crate) shape: Shape,
    /// Whether anything uses dx; zeros are written where nothing does.
    pub(crate) wants_dx: bool,
    pub(crate) buffers: Mutex<Buffers>,
}

/// So many windows make one shard of the backward, whose sums are added up in order: by the batch alone, since the
/// split decides the order. More shards than threads, so that a thread that is held up leaves work to the others.
const SHARD_WINDOWS: usize = 16;
const SHARDS_MAX: usize = 8;

fn shard_windows(batch: usize) -> usize {
    batch.div_ceil(batch.div_ceil(SHARD_WINDOWS).clamp(1, SHARDS_MAX))
}

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    panels: Panels,
    transposed: Aligned,
    shards: Vec<Gradients>,
}

impl Kernel for Conv1dBackward {
    fn name(&self) -> &'static str {
        "conv1d_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, w, dy, ref rest @ ..] = *inputs else { panic!("conv1d_backward takes three inputs") };
        let positive = rest.first().copied();
        let [dx, dw, db] = outputs else { panic!("conv1d_backward has three outputs") };
        let Shape { steps, features, outputs, .. } = self.shape;
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let Buffers { panels, transposed, shards } = &mut *buffers;
        if self.wants_dx {
            pack_backward(self.path, self.shape, w, panels, transposed);
        }
        let rows = shard_windows(self.batch);
        shards.resize_with(self.batch.div_ceil(rows), Gradients::default);
        let tasks: Vec<_> =
            dx.chunks_mut(rows * steps * features).zip(shards.iter_mut()).enumerate().collect();
        let panels = &*panels;
        self.pool.run(tasks, |(index, (dx, sums))| {
            sums.clear(self.shape);
            for (i, dx) in dx.chunks_mut(steps * features).enumerate() {
                let window = index * rows + i;
                let part = |width: usize| window * steps * width..(window + 1) * steps * width;
                let positive = positive.map(|y| &y[part(outputs)]);
                let given = (&x[part(features)], &dy[part(outputs)], positive);
                let wanted = if self.wants_dx { Some(dx) } else { None };
                conv1d_backward(self.path, self.shape, given, panels, wanted, sums);
            }
        });
        if !self.wants_dx {
            dx.fill(0.0);
        }
        add_up(shards.iter().map(|shard| &*shard.dw), dw);
        add_up(shards.iter().map(|shard| &*shard.db), db);
    }
}
