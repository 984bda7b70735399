//! The vector kernels: written once over a [`Simd`](simd::Simd) trait, compiled for each [`Isa`](crate::Isa),
//! chosen at run time by a [`Path`](crate::isa::Path).
//!
//! Every number of a result is made by operations in an order that depends on the contraction's length alone: not on
//! the number of rows, nor on the row's place, nor on the threads. So a row computed alone has the same bits as in a
//! batch of a thousand. Most often it is one chain; a product by a single column and sums of rows have several, which
//! round less.

pub(crate) mod activation;
pub(crate) mod adamw;
pub(crate) mod aligned;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod gru;
pub(crate) mod gru_backward;
pub(crate) mod lstm;
pub(crate) mod lstm_backward;
pub(crate) mod normalise;
pub(crate) mod panels;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod simd;
