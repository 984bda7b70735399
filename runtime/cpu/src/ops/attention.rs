//! Attention and its backward form, windows shared out over threads.

use std::sync::Arc;

use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::attention::{Scratch, Shape, Trace, attention, attention_backward};
use crate::pool::{Pool, Spare};

/// q `[B, T, D]`, k, v `[B, S, D]` → y; with a second output the logarithms `[B, heads, T]`.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shape: Shape,
    pub(crate) spare: Spare<Scratch>,
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [q, k, v] = *inputs else { panic!("attention takes three inputs") };
        let Shape { steps, places, width, heads, .. } = self.shape;
        let (y, rest) = outputs.split_at_mut(1);
        let mut logarithms = rest.first_mut().map(|l| l.chunks_mut(heads * steps));
        let mut tasks = Vec::new();
        for (index, y) in y[0].chunks_mut(steps * width).enumerate() {
            tasks.push((index, y, logarithms.as_mut().and_then(Iterator::next)));
        }
        self.pool.run(tasks, |(index, y, logarithms)| {
            let part = |places: usize| index * places * width..(index + 1) * places * width;
            let given = [&q[part(steps)], &k[part(places)], &v[part(places)]];
            self.spare.with(|scratch| attention(self.path, self.shape, given, y, logarithms, scratch));
        });
    }
}

/// q, k, v, y, logarithms, dy → dq, dk, dv.
#[derive(Debug)]
pub(crate) struct AttentionBackward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shape: Shape,
    pub(crate) spare: Spare<Scratch>,
}

impl Kernel for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [q, k, v, y, logarithms, dy] = *inputs else { panic!("attention_backward takes six inputs") };
        let [dq, dk, dv] = outputs else { panic!("attention_backward has three outputs") };
        let Shape { steps, places, width, heads, .. } = self.shape;
        let keys = dk.chunks_mut(places * width).zip(dv.chunks_mut(places * width));
        let tasks: Vec<_> = dq.chunks_mut(steps * width).zip(keys).enumerate().collect();
        self.pool.run(tasks, |(index, (dq, (dk, dv)))| {
            let part = |size: usize| index * size..(index + 1) * size;
            let trace = Trace {
                q: &q[part(steps * width)],
                k: &k[part(places * width)],
                v: &v[part(places * width)],
                y: &y[part(steps * width)],
                logarithms: &logarithms[part(heads * steps)],
                dy: &dy[part(steps * width)],
            };
            let gradients = [dq, dk, dv];
            self.spare.with(|scratch| attention_backward(self.path, self.shape, trace, gradients, scratch));
        });
    }
}
