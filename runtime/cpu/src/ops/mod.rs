//! Our own tract ops: each a [`Kernel`](fused::Kernel) on plain slices, behind one [`Fused`](fused::Fused) node.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod broadcast;
pub(crate) mod buffers;
pub(crate) mod chain;
pub(crate) mod conv;
pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod fused;
pub(crate) mod gru;
pub(crate) mod join;
pub(crate) mod lstm;
pub(crate) mod matmul;
pub(crate) mod movement;
pub(crate) mod normalise;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod shards;

use std::sync::{Arc, Mutex};

use graph::Op;

use crate::isa::Path;
use crate::pool::Pool;
use broadcast::Loops;
use fused::Kernel;

/// The kernel of an op that has no weights to pack and moves nothing: from the shapes of its inputs and of its
/// output. `None` for the others.
pub(crate) fn plain_kernel(
    path: Path,
    pool: &Arc<Pool>,
    op: &Op,
    inputs: &[Vec<usize>],
    output: &[usize],
) -> Option<Arc<dyn Kernel>> {
    let softmax = |axis: usize, logarithm: bool| {
        let (size, inner) = (output[axis], output[axis + 1..].iter().product());
        normalise::Softmax { path, logarithm, size, inner, lane: Mutex::default() }
    };
    Some(match op {
        Op::Unary(op) => Arc::new(elementwise::Unary { path, op: *op }),
        Op::Binary(op) => {
            let loops = Loops::new(output, [&inputs[0], &inputs[1]]);
            Arc::new(elementwise::Binary { path, op: *op, loops })
        }
        Op::Select => {
            let loops = Loops::new(output, [&inputs[0], &inputs[1], &inputs[2]]);
            Arc::new(elementwise::Select { path, loops })
        }
        Op::Dropout { rate, salt } => Arc::new(dropout::Dropout { rate: *rate, salt: *salt }),
        Op::Broadcast { .. } => {
            Arc::new(movement::View { name: "broadcast", loops: Loops::new(output, [&inputs[0]]) })
        }
        Op::Transpose { axes } => {
            Arc::new(movement::View { name: "transpose", loops: Loops::transposed(&inputs[0], axes) })
        }
        Op::Reduce { op, axes, keep: _ } => reduce::reduce(path, pool, *op, &inputs[0], axes),
        Op::Softmax { axis } => Arc::new(softmax(*axis, false)),
        Op::LogSoftmax { axis } => Arc::new(softmax(*axis, true)),
        Op::LayerNorm { epsilon } => {
            Arc::new(normalise::LayerNorm { path, pool: pool.clone(), epsilon: *epsilon })
        }
        _ => return None,
    })
}
