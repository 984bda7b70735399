//! The causal convolution and its backward form, windows shared out over threads; with the relu after it where
//! nothing else reads what stands between.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::{add_up, backward_rows};
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::conv::{
    Finish, Gradients, Shape, Strip, conv1d, conv1d_backward, pack_backward, pack_forward,
};
use crate::kernel::panels::Panels;
use crate::pool::{Pool, Spare};

/// x `[B, T, F]`, w, b → y `[B, T, O]`.
#[derive(Debug)]
pub(crate) struct Conv1d {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shape: Shape,
    pub(crate) relu: bool,
    /// w, where it never changes.
    pub(crate) fixed: Option<Arc<Panels>>,
    pub(crate) packed: Mutex<Panels>,
    pub(crate) spare: Spare<Strip>,
}

impl Kernel for Conv1d {
    fn name(&self) -> &'static str {
        if self.relu { "conv1d_relu" } else { "conv1d" }
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, w, b] = *inputs else { panic!("conv1d takes three inputs") };
        if let Some(fixed) = &self.fixed {
            return self.run_on(x, fixed, b, outputs[0]);
        }
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        pack_forward(self.path, self.shape, w, &mut packed);
        self.run_on(x, &packed, b, outputs[0]);
    }
}

impl Conv1d {
    fn run_on(&self, x: &[f32], panels: &Panels, bias: &[f32], y: &mut [f32]) {
        let Shape { steps, features, outputs, .. } = self.shape;
        let finish = Finish { bias: Some(bias), relu: self.relu };
        let tasks: Vec<_> = x.chunks(steps * features).zip(y.chunks_mut(steps * outputs)).collect();
        self.pool.run(tasks, |(x, y)| {
            self.spare.with(|strip| conv1d(self.path, self.shape, x, panels, finish, y, strip));
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
        let rows = backward_rows(self.batch);
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
