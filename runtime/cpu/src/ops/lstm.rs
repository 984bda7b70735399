//! The LSTM in training: the forward that keeps what the backward needs, and the backward.

use std::sync::{Arc, Mutex, PoisonError};

use super::fused::Kernel;
use super::shards::{Sizes, add_up};
use crate::isa::Path;
use crate::kernel::lstm::{LstmOutput, LstmScratch, LstmWeights, lstm_forward};
use crate::kernel::lstm_backward::{LstmGradients, LstmTrace, TransposedWeights, lstm_backward};
use crate::pool::{Pool, Spare};

/// Weights that never change, or a place to pack those of each run.
#[derive(Debug)]
pub(crate) enum Weights {
    Fixed(Arc<LstmWeights>),
    Given(Mutex<LstmWeights>),
}

impl Weights {
    /// Calls `f` with the packed weights.
    fn with(&self, path: Path, sizes: (usize, usize), inputs: &[&[f32]], f: impl FnOnce(&LstmWeights)) {
        match self {
            Weights::Fixed(weights) => f(weights),
            Weights::Given(weights) => {
                let mut weights = weights.lock().unwrap_or_else(PoisonError::into_inner);
                weights.pack(path, sizes, inputs[1], inputs[2], inputs[3]);
                f(&weights);
            }
        }
    }
}

/// x, W, U, b → h, c, gates.
#[derive(Debug)]
pub(crate) struct LstmForward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) sizes: Sizes,
    pub(crate) weights: Weights,
    pub(crate) spare: Spare<LstmScratch>,
}

impl Kernel for LstmForward {
    fn name(&self) -> &'static str {
        "lstm_forward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let Sizes { steps, features, hidden, .. } = self.sizes;
        let [h, c, gates] = outputs else { panic!("lstm_forward has three outputs") };
        let rows = self.sizes.forward_rows(self.pool.threads());
        let sequence = rows * steps * hidden;
        let parts = h.chunks_mut(sequence).zip(c.chunks_mut(sequence)).zip(gates.chunks_mut(4 * sequence));
        let tasks: Vec<_> = inputs[0].chunks(rows * steps * features).zip(parts).collect();
        self.weights.with(self.path, self.sizes.inputs(), inputs, |weights| {
            self.pool.run(tasks, |(x, ((h, c), gates))| {
                let count = h.len() / (steps * hidden);
                let output = LstmOutput { h, c, gates };
                self.spare.with(|scratch| {
                    lstm_forward(self.path, weights, (count, steps), x, output, scratch);
                });
            });
        });
    }
}

/// x, W, U, h, c, gates, dh → dx, dW, dU, db.
#[derive(Debug)]
pub(crate) struct LstmBackward {
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
    shards: Vec<LstmGradients>,
}

impl Kernel for LstmBackward {
    fn name(&self) -> &'static str {
        "lstm_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [x, w, u, h, c, gates, dh] = *inputs else { panic!("lstm_backward takes seven inputs") };
        let [dx, dw, du, db] = outputs else { panic!("lstm_backward has four outputs") };
        let Sizes { batch, steps, features, hidden } = self.sizes;
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let BackwardBuffers { weights, shards } = &mut *buffers;
        weights.pack(self.path, self.sizes.inputs(), self.wants_dx.then_some(w), u);
        let rows = self.sizes.backward_rows();
        shards.resize_with(batch.div_ceil(rows), LstmGradients::default);
        let tasks: Vec<_> =
            dx.chunks_mut(rows * steps * features).zip(shards.iter_mut()).enumerate().collect();
        let weights = &*weights;
        self.pool.run(tasks, |(index, (dx, shard))| {
            let (first, count) = (index * rows, dx.len() / (steps * features));
            let part = |data: &'_ [f32], width: usize| {
                let size = steps * width;
                first * size..(first * size + count * size).min(data.len())
            };
            let trace = LstmTrace {
                rows: count,
                steps,
                features,
                hidden,
                x: &x[part(x, features)],
                h: &h[part(h, hidden)],
                c: &c[part(c, hidden)],
                gates: &gates[part(gates, 4 * hidden)],
                dh: &dh[part(dh, hidden)],
            };
            lstm_backward(self.path, weights, trace, dx, shard);
        });
        if !self.wants_dx {
            dx.fill(0.0);
        }
        add_up(shards.iter().map(|shard| &*shard.dw), dw);
        add_up(shards.iter().map(|shard| &*shard.du), du);
        add_up(shards.iter().map(|shard| &*shard.db), db);
    }
}
