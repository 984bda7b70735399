//! Attention and its backward form, windows shared out over threads.

use std::sync::Arc;

use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::attention::backward::{Backward, Scratch};
use crate::kernel::attention::{Attend, Heads, Rows};
use crate::pool::{Pool, Spare};

/// q `[B, T, D]`, k, v `[B, S, D]` → y; with a second output the logarithms `[B, heads, T]`.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    /// T
    pub(crate) queries: usize,
    pub(crate) heads: Heads,
    pub(crate) spare: Spare<Buffers>,
}

/// Packed keys, values with room after them, scores.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    keys: Aligned,
    values: Aligned,
    scores: Aligned,
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [q, k, v] = *inputs else { panic!("attention takes three inputs") };
        let row = self.heads.heads * self.heads.width;
        let (queries, keys) = (self.queries * row, self.heads.keys * row);
        let (y, rest) = outputs.split_at_mut(1);
        let mut logarithms = rest.first_mut().map(|l| l.chunks_mut(self.heads.heads * self.queries));
        let mut tasks = Vec::new();
        for (index, y) in y[0].chunks_mut(queries).enumerate() {
            tasks.push((index, y, logarithms.as_mut().and_then(Iterator::next)));
        }
        self.pool.run(tasks, |(index, y, logarithms)| {
            let (q, k) = (&q[index * queries..][..queries], &k[index * keys..][..keys]);
            let given = [q, k, &v[index * keys..][..keys]];
            self.spare.with(|buffers| self.window(given, y, logarithms, buffers));
        });
    }
}

impl Attention {
    fn window(&self, [q, k, v]: [&[f32]; 3], y: &mut [f32], logs: Option<&mut [f32]>, buffers: &mut Buffers) {
        let (path, heads) = (self.path, self.heads);
        let stride = heads.heads * heads.width;
        buffers.keys.resize(heads.packed_len(path));
        heads.pack_all(path, k, heads.scale(), &mut buffers.keys);
        let values = if heads.is_even(path) {
            v
        } else {
            buffers.values.resize(v.len() + path.lanes());
            buffers.values[..v.len()].copy_from_slice(v);
            &*buffers.values
        };
        let attend = Attend {
            heads,
            first: 0,
            count: self.queries,
            queries: Rows { data: q, stride },
            keys: &buffers.keys,
            values: Rows { data: values, stride },
        };
        attend.run(path, y, stride, logs.map(|logs| (logs, self.queries)), &mut buffers.scores);
    }
}

/// q, k, v, y, logarithms, dy → dq, dk, dv.
#[derive(Debug)]
pub(crate) struct AttentionBackward {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    /// T
    pub(crate) queries: usize,
    pub(crate) heads: Heads,
    pub(crate) spare: Spare<Scratch>,
}

impl Kernel for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let [q, k, v, y, logs, dy] = *inputs else { panic!("attention_backward takes six inputs") };
        let [dq, dk, dv] = outputs else { panic!("attention_backward has three outputs") };
        let row = self.heads.heads * self.heads.width;
        let (queries, keys) = (self.queries * row, self.heads.keys * row);
        let pairs = dk.chunks_mut(keys).zip(dv.chunks_mut(keys));
        let tasks: Vec<_> = dq.chunks_mut(queries).zip(pairs).enumerate().collect();
        self.pool.run(tasks, |(index, (dq, (dk, dv)))| {
            let part = |size: usize| index * size..(index + 1) * size;
            let window = Backward {
                heads: self.heads,
                queries: self.queries,
                q: &q[part(queries)],
                k: &k[part(keys)],
                v: &v[part(keys)],
                y: &y[part(queries)],
                logs: &logs[part(self.heads.heads * self.queries)],
                dy: &dy[part(queries)],
            };
            self.spare.with(|scratch| window.run(self.path, [dq, dk, dv], scratch));
        });
    }
}
