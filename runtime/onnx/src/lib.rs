//! Graph to ONNX and back.
//!
//! [`Onnx::encode`](GraphCodec::encode) writes an inference graph as standard operators of opset
//! [`OPSET`], which any ONNX runtime opens, and [`Onnx::decode`](GraphCodec::decode) reads those back, and
//! what common exporters write for the same subset. Inputs, outputs and weights keep their names; the
//! symbolic batch is the dimension `batch`.
//!
//! | ours | ONNX |
//! |---|---|
//! | input, state | graph input, initialiser (float32) |
//! | constant | Constant |
//! | neg … softplus | the operator of that name; square is Mul of x with itself |
//! | add … min, less | Add … Min; Less, then Cast to float |
//! | select | Cast to bool, then Where |
//! | broadcast, reshape, transpose | Expand, Reshape, Transpose |
//! | slice, pad, concat | Slice, Pad, Concat |
//! | matmul | MatMul, with a Transpose before it for a transposed argument |
//! | reduce | ReduceSum, ReduceMean, ReduceMax |
//! | softmax, log_softmax, layer_norm | Softmax, LogSoftmax, LayerNormalization |
//! | lstm | LSTM between Transpose and Squeeze; gates and biases as [`gates`](mod@gates) says |
//! | gru | GRU with linear_before_reset = 1, likewise; its two biases joined by Concat |
//! | conv1d | Conv with padding before alone, between Transposes; weights `[O, F, K]` |
//! | attention | Reshape and Transpose for each head, MatMul, Mul, Add of a causal mask, Softmax, MatMul, and back |
//! | dropout, backward ops, adamw, updates | refused: `graph::rewrite` takes them out first |
//!
//! Attention that a file spells out so, or as PyTorch's exporter does, is read as one op.
//!
//! Read besides: Conv over one axis with any padding, GlobalAveragePool, Gemm, Identity, Dropout (as identity), Flatten, Squeeze, Unsqueeze, Gather of one index,
//! Split, Pow by 2, Greater, Cast, and the integer arithmetic on Shape with which exporters compute shapes.

pub mod about;
mod decode;
mod encode;
pub mod gates;
pub mod limits;
pub mod proto;
pub mod tensor;
#[cfg(test)]
mod tests;

use graph::{CodecError, Graph, GraphCodec, Limits};
use prost::Message;

/// The operator set that `encode` writes: the first with Gelu (2023).
pub const OPSET: i64 = 20;
/// The operator sets that `decode` reads. No operator of the subset changed its meaning within them.
pub const OPSETS_READ: std::ops::RangeInclusive<i64> = 13..=28;
/// The file format version that belongs to [`OPSET`].
pub const IR_VERSION: i64 = 9;

/// The ONNX codec.
#[derive(Clone, Copy, Debug, Default)]
pub struct Onnx;

impl Onnx {
    /// [`decode`](GraphCodec::decode) with the shape `[batch, rest…]` for an input, whatever the file states.
    pub fn decode_at(&self, bytes: &[u8], input: &str, rest: &[usize]) -> Result<Graph, CodecError> {
        limits::check(bytes).map_err(CodecError::Malformed)?;
        let graph = decode::decode(about::with_input(bytes, input, rest)?)?;
        graph::verify::verify(&graph, &Limits::default()).map_err(CodecError::Invalid)?;
        Ok(graph)
    }
}

impl GraphCodec for Onnx {
    fn name(&self) -> &str {
        "onnx"
    }

    /// The same graph gives the same bytes. Every state must have its value (`Initial::Given`).
    fn encode(&self, graph: &Graph) -> Result<Vec<u8>, CodecError> {
        graph::verify::verify(graph, &Limits::default()).map_err(CodecError::Invalid)?;
        let model = encode::encode(graph)?;
        let bytes = model.encode_to_vec();
        let counts = model.graph.as_ref().map_or(Ok(()), limits::check_counts);
        let readable = counts.and_then(|()| limits::check(&bytes));
        readable.map_err(|reason| CodecError::Unsupported { op: "graph".into(), reason })?;
        Ok(bytes)
    }

    /// Float initialisers become trainable states. Memory is bounded by the file's size and
    /// [`limits`], time by the default [`Limits`] of a graph, whatever the bytes are.
    fn decode(&self, bytes: &[u8]) -> Result<Graph, CodecError> {
        limits::check(bytes).map_err(CodecError::Malformed)?;
        let model =
            proto::ModelProto::decode(bytes).map_err(|e| CodecError::Malformed(format!("not ONNX: {e}")))?;
        let graph = decode::decode(model)?;
        graph::verify::verify(&graph, &Limits::default()).map_err(CodecError::Invalid)?;
        Ok(graph)
    }
}

/// A name from a file, short enough for a message.
fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}
