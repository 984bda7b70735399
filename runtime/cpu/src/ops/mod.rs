//! Our own tract ops: each a [`Kernel`](fused::Kernel) on plain slices, behind one [`Fused`](fused::Fused) node.

pub(crate) mod adamw;
pub(crate) mod broadcast;
pub(crate) mod buffers;
pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod fused;
pub(crate) mod gru;
pub(crate) mod lstm;
pub(crate) mod matmul;
pub(crate) mod movement;
pub(crate) mod normalise;
pub(crate) mod reduce;
