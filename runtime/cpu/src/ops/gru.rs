//! The GRU in training: the forward that keeps what the backward needs, and the backward.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::{Sizes, add_up};
use crate::isa::Path;
use crate::kernel::gru::{GruOutput, GruScratch, GruWeights, gru_forward};
use crate::kernel::gru_backward::{GruGradients, GruTrace, TransposedWeights, gru_backward};
use crate::pool::{Pool, Spare};

/// Weights that never change, or a place to pack those of each run.
#[derive(Debug)]
pub(crate) enum Weights {
    Fixed(Arc<GruWeights>),
    Given(Mutex<GruWeights>),
}

impl Weights {
    /// Calls `f` with the packed weights.
    fn with(&self, path: Path, sizes: (usize, usize), inputs: &[&[f32]], f: impl FnOnce(&GruWeights)) {
        match self {
            Weights::Fixed(weights) => f(weights),
            Weights::Given(weights) => {
                let mut weights = weights.lock().unwrap_or_else(PoisonError::into_inner);
                weights.pack(path, sizes, [inputs[1], inputs[2], inputs[3], inputs[4]]);
                f(&weights);
            }
        }
    }
}

/// x, W, U, b, c → h, gates, q.
#[derive(Debug)]
pub(crate) struct GruForward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) sizes: Sizes,
    pub(crate) weights: Weights,
    pub(crate) spare: Spare<GruScratch>,
}

impl Kernel for GruForward {
    fn name(&self) -> &'static str {
        "gru_forward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let Sizes { steps, features, hidden, .. } = self.sizes;
        let [h, gates, q] = outputs else { panic!("gru_forward has three outputs") };
        let rows = self.sizes.forward_rows(self.pool.threads());
        let sequence = rows * steps * hidden;
        let parts = h.chunks_mut(sequence).zip(gates.chunks_mut(3 * sequence)).zip(q.chunks_mut(sequence));
        let tasks: Vec<_> = inputs[0].chunks(rows * steps * features).zip(parts).collect();
        self.weights.with(self.path, self.sizes.inputs(), inputs, |weights| {
            self.pool.run(tasks, |(x, ((h, gates), q))| {
                let count = h.len() / (steps * hidden);
                let output = GruOutput { h, gates, q };
                self.spare.with(|scratch| {
                    gru_forward(self.path, weights, (count, steps), x, output, scratch);
                });
            });
        });
    }
}

/// x, W, U, h, gates, q, dh → dx, dW, dU, db, dc.
#[derive(Debug)]
pub(crate) struct GruBackward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) sizes: Sizes,
    /// Whether anything uses dx; zeros are written where nothing does.
    pub(crate) wants_dx: bool,
    pub(crate) buffers: Mutex<BackwardBuffers>,
}

#[derive(Debug, Default)]
pub(crate) struct BackwardBuffers {
    weights: TransposedWeights,
    shards: Vec<GruGradients>,
}

impl Kernel for GruBackward {
    fn name(&self) -> &'static str {
        "gru_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, w, u, h, gates, q, dh] = *inputs else { panic!("gru_backward takes seven inputs") };
        let [dx, dw, du, db, dc] = outputs else { panic!("gru_backward has five outputs") };
        let Sizes { batch, steps, features, hidden } = self.sizes;
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let BackwardBuffers { weights, shards } = &mut *buffers;
        weights.pack(self.path, self.sizes.inputs(), self.wants_dx.then_some(w), u);
        let rows = self.sizes.backward_rows();
        shards.resize_with(batch.div_ceil(rows), GruGradients::default);
        let tasks: Vec<_> =
            dx.chunks_mut(rows * steps * features).zip(shards.iter_mut()).enumerate().collect();
        let weights = &*weights;
        self.pool.run(tasks, |(index, (dx, shard))| {
            let (first, count) = (index * rows, dx.len() / (steps * features));
            let part = |data: &'_ [f32], width: usize| {
                let size = steps * width;
                first * size..(first * size + count * size).min(data.len())
            };
            let trace = GruTrace {
                rows: count,
                steps,
                features,
                hidden,
                x: &x[part(x, features)],
                h: &h[part(h, hidden)],
                gates: &gates[part(gates, 3 * hidden)],
                q: &q[part(q, hidden)],
                dh: &dh[part(dh, hidden)],
            };
            gru_backward(self.path, weights, trace, dx, shard);
        });
        if !self.wants_dx {
            dx.fill(0.0);
        }
        add_up(shards.iter().map(|shard| &*shard.dw), dw);
        add_up(shards.iter().map(|shard| &*shard.du), du);
        add_up(shards.iter().map(|shard| &*shard.db), db);
        add_up(shards.iter().map(|shard| &*shard.dc), dc);
    }
}
