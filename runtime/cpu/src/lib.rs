//! The CPU executor, on tract.
//!
//! A graph is lowered once for each batch size into a tract model ([`lower`]); tract orders the nodes, folds
//! constants and runs the plan. Most nodes are ours: [`ops`] on the vector kernels in [`kernel`], picked for the
//! machine's instructions at run time ([`Isa`]), with batches split over a few threads ([`pool`]).

mod executor;
mod foreign;
mod fusion;
mod isa;
mod kernel;
mod lower;
mod ops;
mod plan;
mod pool;
mod precision;
mod program;
mod rows;
mod sliding;

pub use executor::{Cpu, CpuError, CpuOptions, Detected};
pub use isa::Isa;
pub use precision::Precision;

#[cfg(test)]
mod tests;
