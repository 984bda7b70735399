//! What an ONNX file from elsewhere says of itself, and whether it may be handed to a library that reads more of the
//! format than this crate.
//!
//! [`About::read`] walks the whole format, sub-graphs included, on the raw bytes. It bounds what the messages may
//! take in memory, and refuses by name what no model that is served may have: weights in other files, functions and
//! operators of other domains, random numbers (a prediction must be one function of its window) and loops without
//! a bound on their steps.

use std::collections::BTreeSet;

use graph::CodecError;
use prost::Message;

use crate::limits::{FILE_BYTES_MAX, NAMES_MAX, OVERHEAD_BYTES_MAX, take, varint};
use crate::proto::{self, DimensionValue, ModelProto, ValueInfoProto};
use crate::{clip, tensor};

/// What one message takes in memory at most, in a library that keeps every field.
const MESSAGE_BYTES: usize = 512;
const NUMBER_BYTES: usize = 8;
/// How deep graphs may stand in attributes of nodes.
const DEPTH_MAX: usize = 4;
const TEXT_BYTES_MAX: usize = 128;

const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];
const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"];

/// A file, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Name and version of the program that wrote it; "unknown" where it doesn't say.
    pub producer: String,
    /// Version of the standard operator set.
    pub opset: i64,
    /// Inputs that must be given, and outputs, in the file's order.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// The operators that its nodes use, each once.
    pub operators: Vec<String>,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// "float32"; `None` where it isn't stated or isn't a tensor.
    pub element: Option<String>,
    /// `None` where the shape isn't stated; `None` of a dimension that isn't fixed.
    pub dims: Option<Vec<Option<u64>>>,
}

impl About {
    /// Errors: it isn't ONNX, goes over a limit, or holds what is refused.
    pub fn read(bytes: &[u8]) -> Result<About, CodecError> {
        if bytes.len() > FILE_BYTES_MAX {
            let size = bytes.len();
            return Err(malformed(format!("the file has {size} bytes; at most {FILE_BYTES_MAX} go")));
        }
        let mut walk = Walk::default();
        walk.message(Kind::Model, bytes, 0)?;
        let model = ModelProto::decode(bytes).map_err(|e| malformed(format!("not ONNX: {e}")))?;
        let standard = model.opset_import.iter().find(|set| DOMAINS[..2].contains(&set.domain.as_str()));
        let opset = standard.map(|set| set.version).filter(|version| (1..=1000).contains(version));
        let opset = opset
            .ok_or_else(|| malformed("it imports no standard operator set; is this an ONNX file?".into()))?;
        let Some(graph) = model.graph else { return Err(malformed("it has no graph".into())) };
        let counts = [graph.input.len(), graph.output.len(), graph.initializer.len()];
        if counts.iter().any(|&count| count > NAMES_MAX) {
            return Err(malformed(format!(
                "it has {counts:?} inputs, outputs and initialisers; at most {NAMES_MAX} of each go"
            )));
        }
        let defaults: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs = graph.input.iter().filter(|input| !defaults.contains(input.name.as_str()));
        Ok(About {
            producer: producer(&model.producer_name, &model.producer_version),
            opset,
            inputs: inputs.map(port).collect(),
            outputs: graph.output.iter().map(port).collect(),
            operators: walk.operators.into_iter().collect(),
        })
    }
}

/// The bytes with the shape `[batch, rest…]` stated for the input.
pub(crate) fn with_input(bytes: &[u8], name: &str, rest: &[usize]) -> Result<ModelProto, CodecError> {
    let mut model = ModelProto::decode(bytes).map_err(|e| malformed(format!("not ONNX: {e}")))?;
    let input = model.graph.as_mut().and_then(|g| g.input.iter_mut().find(|input| input.name == name));
    let tensor = input.and_then(|input| input.r#type.as_mut()).and_then(|t| t.tensor_type.as_mut());
    let Some(tensor) = tensor else {
        return Err(malformed(format!("it has no input {:?} that is a tensor", clip(name))));
    };
    let fixed = rest.iter().map(|&n| DimensionValue::Number(n as i64));
    let dims = std::iter::once(DimensionValue::Symbol("batch".into())).chain(fixed);
    let dim = dims.map(|value| proto::DimensionProto { value: Some(value) }).collect();
    tensor.shape = Some(proto::TensorShapeProto { dim });
    Ok(model)
}

fn malformed(reason: String) -> CodecError {
    CodecError::Malformed(reason)
}

fn producer(name: &str, version: &str) -> String {
    let text = format!("{name} {version}");
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match plain.trim() {
        "" => "unknown".into(),
        text => text.chars().take(TEXT_BYTES_MAX / 4).collect(),
    }
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let size = |dim: &proto::DimensionProto| match dim.value {
        Some(DimensionValue::Number(n)) => u64::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    };
    Port {
        name: info.name.clone(),
        element: tensor.map(|t| tensor::type_name(t.elem_type)),
        dims: tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.iter().map(size).collect()),
    }
}

/// What a length-delimited field holds, in the whole format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Pair,
    Annotation,
    Bytes,
    /// Packed integers: one byte may become eight.
    Numbers,
    /// Named in the refusal.
    Refused(&'static str),
}

impl Kind {
    /// `None`: no library that reads ONNX keeps it, as far as it is known here; it counts as bytes.
    fn field(self, tag: u64) -> Option<Kind> {
        Some(match (self, tag) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8 | 14) => Kind::Pair,
            (Kind::Model, 20) => Kind::Refused("training information"),
            (Kind::Model, 25) => Kind::Refused("functions of its own"),
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) => Kind::Tensor,
            (Kind::Graph, 11..=13) => Kind::ValueInfo,
            (Kind::Graph, 14) => Kind::Annotation,
            (Kind::Graph, 15) => Kind::Sparse,
            (Kind::Graph, 16) => Kind::Pair,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Node, 9) => Kind::Pair,
            (Kind::Attribute, 5 | 10) => Kind::Tensor,
            (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Attribute, 8) => Kind::Numbers,
            (Kind::Attribute, 14 | 15) => Kind::Type,
            (Kind::Attribute, 22 | 23) => Kind::Sparse,
            (Kind::Tensor, 1 | 5 | 7 | 11) => Kind::Numbers,
            (Kind::Tensor, 3 | 16) => Kind::Pair,
            (Kind::Tensor, 13) => Kind::Refused("weights in other files"),
            (Kind::Sparse, 1 | 2) => Kind::Tensor,
            (Kind::Sparse, 3) => Kind::Numbers,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Shape, 1) => Kind::Pair,
            (Kind::Annotation, 2) => Kind::Pair,
            (_, 1..=30) => Kind::Bytes,
            _ => return None,
        })
    }
}

/// The walk over the bytes, and what it has found.
#[derive(Default)]
struct Walk {
    overhead_bytes: usize,
    operators: BTreeSet<String>,
}

impl Walk {
    fn message(&mut self, kind: Kind, mut bytes: &[u8], depth: usize) -> Result<(), CodecError> {
        let depth = depth + usize::from(kind == Kind::Graph);
        if depth > DEPTH_MAX {
            return Err(malformed(format!("its graphs stand more than {DEPTH_MAX} deep in each other")));
        }
        let (mut operator, mut domain) = (&[][..], &[][..]);
        while !bytes.is_empty() {
            let key = varint(&mut bytes).map_err(malformed)?;
            match (key >> 3, key & 7) {
                (tag, 0) => {
                    let value = varint(&mut bytes).map_err(malformed)?;
                    if (kind, tag) == (Kind::Tensor, 14) && value != proto::LOCATION_DEFAULT as u64 {
                        return Err(refused("weights in other files"));
                    }
                    self.spend(NUMBER_BYTES)?;
                }
                (_, 1) => self.skip(&mut bytes, 8)?,
                (_, 5) => self.skip(&mut bytes, 4)?,
                (tag, 2) => {
                    let length = varint(&mut bytes).map_err(malformed)?;
                    let field = take(&mut bytes, length).map_err(malformed)?;
                    match (kind, tag) {
                        (Kind::Node, 4) => operator = field,
                        (Kind::Node, 7) => domain = field,
                        _ => {}
                    }
                    self.field(kind.field(tag), field, depth)?;
                }
                (_, wire) => {
                    return Err(malformed(format!("a field has wire type {wire}, which ONNX doesn't use")));
                }
            }
        }
        if kind == Kind::Node { self.node(operator, domain) } else { Ok(()) }
    }

    fn field(&mut self, kind: Option<Kind>, field: &[u8], depth: usize) -> Result<(), CodecError> {
        match kind {
            None => Ok(()),
            Some(Kind::Refused(what)) => Err(refused(what)),
            Some(Kind::Bytes) => self.spend(MESSAGE_BYTES),
            Some(Kind::Numbers) => self.spend(NUMBER_BYTES.saturating_mul(field.len())),
            Some(message) => {
                self.spend(MESSAGE_BYTES)?;
                self.message(message, field, depth)
            }
        }
    }

    fn node(&mut self, operator: &[u8], domain: &[u8]) -> Result<(), CodecError> {
        let [operator, domain] = [operator, domain].map(|t| clip(&String::from_utf8_lossy(t)));
        let unsupported = |reason: String| CodecError::Unsupported { op: operator.clone(), reason };
        if !DOMAINS.contains(&domain.as_str()) {
            return Err(unsupported(format!("it is of domain {domain:?}; standard operators alone are run")));
        }
        if RANDOM.contains(&operator.as_str()) {
            return Err(unsupported(
                "it draws random numbers, and a prediction must follow from its window".into(),
            ));
        }
        if operator == "Loop" {
            return Err(unsupported(
                "nothing bounds its steps; export the model unrolled or with Scan".into(),
            ));
        }
        self.operators.insert(operator);
        Ok(())
    }

    fn skip(&mut self, bytes: &mut &[u8], length: u64) -> Result<(), CodecError> {
        take(bytes, length).map_err(malformed)?;
        self.spend(NUMBER_BYTES)
    }

    fn spend(&mut self, more: usize) -> Result<(), CodecError> {
        self.overhead_bytes = self.overhead_bytes.saturating_add(more);
        if self.overhead_bytes > OVERHEAD_BYTES_MAX {
            let error = format!("its nodes, names and numbers take more than {OVERHEAD_BYTES_MAX} bytes");
            return Err(malformed(error));
        }
        Ok(())
    }
}

fn refused(what: &str) -> CodecError {
    CodecError::Unsupported {
        op: "file".into(),
        reason: format!("it has {what}; export it as one file of standard operators for inference"),
    }
}

#[cfg(test)]
mod tests;
