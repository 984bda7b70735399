//! How recurrent ops split a batch into tasks, and how the parts of gradients are put together again.

/// Below so many rows the batch isn't split.
const SPLIT_ROWS_MIN: usize = 16;
/// At most so many rows make one task of the forward.
const FORWARD_ROWS_MAX: usize = 64;
/// So many rows make one shard of the backward, whose shards' sums are added up in order.
const BACKWARD_ROWS: usize = 32;
const BACKWARD_SHARDS_MAX: usize = 8;

/// The sizes of x `[batch, steps, features]` and of the hidden state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
}

impl Sizes {
    pub(crate) fn inputs(&self) -> (usize, usize) {
        (self.features, self.hidden)
    }

    /// Rows of one forward task.
    pub(crate) fn forward_rows(&self, threads: usize) -> usize {
        forward_rows(self.batch, threads)
    }

    /// Rows of one backward shard: by the batch alone, since the split decides the order of the sums.
    pub(crate) fn backward_rows(&self) -> usize {
        if self.batch < SPLIT_ROWS_MIN {
            return self.batch;
        }
        self.batch.div_ceil(self.batch.div_ceil(BACKWARD_ROWS).clamp(2, BACKWARD_SHARDS_MAX))
    }
}

/// Rows of one task of a forward. Rows don't depend on each other, so any split gives the same bits.
pub(crate) fn forward_rows(batch: usize, threads: usize) -> usize {
    if batch < SPLIT_ROWS_MIN {
        return batch;
    }
    let tasks = batch.div_ceil(threads * FORWARD_ROWS_MAX) * threads;
    batch.div_ceil(tasks)
}

/// The shards' parts, in their order.
pub(crate) fn add_up<'a>(parts: impl Iterator<Item = &'a [f32]>, sum: &mut [f32]) {
    for (index, part) in parts.enumerate() {
        if index == 0 {
            sum.copy_from_slice(part);
        } else {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
    }
}
