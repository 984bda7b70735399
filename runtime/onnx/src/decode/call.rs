//! One node of the file: its inputs and attributes by name and type, and errors that name it.

use std::fmt::Display;

use graph::CodecError;

use crate::clip;
use crate::proto::{ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_TENSOR};
use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// The longest scope that is kept, in bytes.
const SCOPE_BYTES_MAX: usize = 128;

pub struct Call {
    node: NodeProto,
}

impl Call {
    /// An attribute given twice is an error.
    pub fn new(node: NodeProto) -> Result<Self, CodecError> {
        let call = Call { node };
        let mut names: Vec<&str> = call.node.attribute.iter().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(call.malformed(format!("attribute {:?} is given twice", clip(pair[0])))),
            None => Ok(call),
        }
    }

    pub fn op(&self) -> &str {
        &self.node.op_type
    }

    pub fn domain(&self) -> &str {
        &self.node.domain
    }

    /// The node's name up to its last slash.
    pub fn scope(&self) -> String {
        let scope = self.node.name.rsplit_once('/').map_or("", |(scope, _)| scope);
        let mut end = scope.len().min(SCOPE_BYTES_MAX);
        while !scope.is_char_boundary(end) {
            end -= 1;
        }
        scope[..end].to_string()
    }

    /// The name of an input; `None` where it is absent.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.node.input.get(index).map(|s| s.as_str()).filter(|s| !s.is_empty())
    }

    pub fn input_count(&self) -> usize {
        self.node.input.len()
    }

    pub fn output(&self, index: usize) -> Option<&str> {
        self.node.output.get(index).map(|s| s.as_str()).filter(|s| !s.is_empty())
    }

    pub fn output_count(&self) -> usize {
        self.node.output.len()
    }

    pub fn take_outputs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.node.output)
    }

    pub fn unsupported(&self, reason: impl Display) -> CodecError {
        CodecError::Unsupported {
            op: clip(self.op()),
            reason: format!("{reason} (node {:?})", clip(&self.node.name)),
        }
    }

    pub fn malformed(&self, reason: impl Display) -> CodecError {
        CodecError::Malformed(format!("{} node {:?}: {reason}", clip(self.op()), clip(&self.node.name)))
    }

    // -- attributes --

    /// Refuses attributes that the caller doesn't know, and more inputs than it takes.
    pub fn check(&self, inputs_max: usize, attributes: &[&str]) -> Result<(), CodecError> {
        if let Some(extra) = (inputs_max..self.input_count()).find_map(|i| self.input(i)) {
            return Err(
                self.malformed(format!("it takes {inputs_max} inputs; {:?} is one more", clip(extra)))
            );
        }
        match self.node.attribute.iter().find(|a| !attributes.contains(&a.name.as_str())) {
            Some(other) => Err(self.unsupported(format!("attribute {:?} is not read", clip(&other.name)))),
            None => Ok(()),
        }
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>, CodecError> {
        self.attribute(name, ATTRIBUTE_INT).map(|a| a.map(|a| a.i.unwrap_or_default()))
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>, CodecError> {
        self.attribute(name, ATTRIBUTE_FLOAT).map(|a| a.map(|a| a.f.unwrap_or_default()))
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>, CodecError> {
        self.attribute(name, ATTRIBUTE_INTS).map(|a| a.map(|a| a.ints.as_slice()))
    }

    /// A string attribute; other bytes than UTF-8 read as unknown.
    pub fn string(&self, name: &str) -> Option<&str> {
        let attribute = self.node.attribute.iter().find(|a| a.name == name)?;
        attribute.s.as_deref().map(|s| std::str::from_utf8(s).unwrap_or("?"))
    }

    pub fn strings(&self, name: &str) -> Option<Vec<&str>> {
        let attribute = self.node.attribute.iter().find(|a| a.name == name)?;
        Some(attribute.strings.iter().map(|s| std::str::from_utf8(s).unwrap_or("?")).collect())
    }

    /// Takes the tensor out, so that its data isn't copied.
    pub fn take_tensor(&mut self, name: &str) -> Result<Option<TensorProto>, CodecError> {
        if self.attribute(name, ATTRIBUTE_TENSOR)?.is_none() {
            return Ok(None);
        }
        let attribute = self.node.attribute.iter_mut().find(|a| a.name == name);
        match attribute.and_then(|a| a.t.take()) {
            Some(tensor) => Ok(Some(*tensor)),
            None => Err(self.malformed(format!("attribute {name:?} holds no tensor"))),
        }
    }

    /// The only attribute of the node and its type.
    pub fn only_attribute(&self) -> Result<&AttributeProto, CodecError> {
        match self.node.attribute.as_slice() {
            [attribute] => Ok(attribute),
            others => Err(self.malformed(format!("it has {} attributes, not one", others.len()))),
        }
    }

    /// A type of 0 is a file older than the type field.
    fn attribute(&self, name: &str, kind: i32) -> Result<Option<&AttributeProto>, CodecError> {
        match self.node.attribute.iter().find(|a| a.name == name) {
            Some(attribute) if attribute.r#type != kind && attribute.r#type != 0 => {
                Err(self.malformed(format!("attribute {name:?} has type {}, not {kind}", attribute.r#type)))
            }
            attribute => Ok(attribute),
        }
    }

    // -- axes --

    /// An axis counted from the front, or from the back where it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, CodecError> {
        let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        match counted.and_then(|a| usize::try_from(a).ok()) {
            Some(axis) if axis < rank => Ok(axis),
            _ => Err(self.malformed(format!("axis {axis} is outside the {rank} axes"))),
        }
    }

    /// Distinct axes in rising order.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, CodecError> {
        let mut found = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.malformed(format!("axes {found:?} repeat")));
        }
        Ok(found)
    }
}
