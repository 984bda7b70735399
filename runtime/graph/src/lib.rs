//! The op graph and all that is pure about it. No I/O, no threads, no third-party crates.
//!
//! A [`Graph`] is a list of nodes in topological order by construction. An architecture plugin builds
//! one through [`Builder`], an ONNX file parses into one, [`gradient`](gradient::gradient) turns one
//! into another, and every [`Executor`] runs one. The slow f64 [`mod@reference`] interpreter is the meaning
//! of every op; [`conformance`] holds the rows that each executor is checked against.

pub mod builder;
pub mod codec;
pub mod conformance;
mod copy;
pub mod cost;
pub mod executor;
pub mod gradient;
pub mod graph;
pub mod loss;
pub mod op;
mod recompute;
pub mod reference;
pub mod rewrite;
pub mod shape;
pub mod shape_rule;
pub mod sliding;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod training;
pub mod verify;

pub use builder::{BuildError, Builder};
pub use codec::{CodecError, GraphCodec};
pub use executor::{Executor, Foreign, ForeignPlan, Plan, PrepareError, RunError, SlidingPlan};
pub use graph::{Graph, Initial, Node, NodeId, StateSpec, Update, Value};
pub use op::{BinaryOp, Keep, Op, ReduceOp, UnaryOp};
pub use shape::{Dim, Shape};
pub use shape_rule::shape_rule;
pub use tensor::Tensor;
pub use verify::{Limits, VerifyError};
