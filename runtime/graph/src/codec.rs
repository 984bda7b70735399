//! The trait of a file format that holds graphs with weights.

use std::fmt;

use crate::graph::Graph;

/// Writes and reads inference graphs. Weights travel as the states' [`Initial::Given`](crate::Initial::Given).
pub trait GraphCodec: Send + Sync {
    /// "onnx".
    fn name(&self) -> &str;
    fn encode(&self, graph: &Graph) -> Result<Vec<u8>, CodecError>;
    fn decode(&self, bytes: &[u8]) -> Result<Graph, CodecError>;
}

#[derive(Clone, Debug, PartialEq)]
pub enum CodecError {
    /// Not a file of this format.
    Malformed(String),
    /// An op or attribute outside the subset.
    Unsupported { op: String, reason: String },
    /// It decoded to a graph that fails its check, or the graph to encode does.
    Invalid(crate::VerifyError),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Malformed(e) => write!(f, "malformed file: {e}"),
            CodecError::Unsupported { op, reason } => write!(f, "op {op} is not supported: {reason}"),
            CodecError::Invalid(e) => write!(f, "the graph is not valid: {e}"),
        }
    }
}

impl std::error::Error for CodecError {}
