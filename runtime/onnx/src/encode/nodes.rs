//! Writes single operators and their attributes.

use graph::{CodecError, Dim, Op, Value};

use super::{Encoder, unsupported};
use crate::proto::{self, AttributeProto, NodeProto, TensorProto};
use crate::tensor::integers_proto;

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: proto::ATTRIBUTE_INT,
        i: Some(value),
        ..AttributeProto::default()
    }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: proto::ATTRIBUTE_FLOAT,
        f: Some(value),
        ..AttributeProto::default()
    }
}

pub fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: proto::ATTRIBUTE_INTS,
        ints: values.into_iter().map(|x| x as i64).collect(),
        ..AttributeProto::default()
    }
}

pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: proto::ATTRIBUTE_TENSOR,
        t: Some(Box::new(value)),
        ..AttributeProto::default()
    }
}

impl Encoder<'_> {
    /// One operator with one output of the given name.
    pub fn emit_as(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>, output: &str) {
        self.emit_all(op_type, inputs, attribute, &[output]);
    }

    /// One operator as a step towards the current value; gives its output's name.
    pub fn emit(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let wish = format!("{}.{op_type}", self.current);
        let name = self.fresh(&wish);
        self.emit_as(op_type, inputs, attribute, &name);
        name
    }

    /// One operator. An empty name is an absent input or output.
    pub fn emit_all(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        outputs: &[&str],
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            name: format!("{}.{}", self.current, self.nodes.len()),
            op_type: op_type.into(),
            domain: String::new(),
            attribute,
        });
    }

    /// A constant list of integers; equal lists are written once.
    pub fn integers(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.integers.get(values) {
            return name.clone();
        }
        let name = self.fresh(&format!("integers_{}", self.integers.len()));
        self.emit_as("Constant", &[], vec![tensor("value", integers_proto(values))], &name);
        self.integers.insert(values.to_vec(), name.clone());
        name
    }

    /// [`integers`](Self::integers) of sizes and axes.
    pub fn sizes(&mut self, values: &[usize]) -> String {
        let values: Vec<i64> = values.iter().map(|&x| x as i64).collect();
        self.integers(&values)
    }

    /// A list of one integer that is `factor` times the batch size, computed by the runtime from the
    /// shape of an input.
    pub fn batch(&mut self, factor: usize, op: &Op) -> Result<String, CodecError> {
        let Some((source, axis, unit)) = self.batch_source() else {
            let reason =
                "its shape depends on the batch, but no input does: the runtime couldn't know the size";
            return Err(unsupported(op.name(), reason.into()));
        };
        let window = vec![int("start", axis as i64), int("end", axis as i64 + 1)];
        let mut size = self.emit("Shape", &[&source], window);
        if unit != 1 {
            let unit = self.sizes(&[unit]);
            size = self.emit("Div", &[&size, &unit], Vec::new());
        }
        if factor != 1 {
            let factor = self.sizes(&[factor]);
            size = self.emit("Mul", &[&size, &factor], Vec::new());
        }
        Ok(size)
    }

    /// An input, its axis that depends on the batch, and how many times the batch that axis is; with
    /// the smallest such number.
    fn batch_source(&self) -> Option<(String, usize, usize)> {
        let inputs = self
            .graph
            .inputs()
            .filter(|(_, node, _)| self.names.contains_key(&Value { node: *node, slot: 0 }));
        let sized = inputs.filter_map(|(name, _, shape)| {
            shape.dims().iter().enumerate().find_map(|(axis, dim)| match dim {
                Dim::Batch(unit) => Some((name.to_string(), axis, *unit)),
                Dim::Fixed(_) => None,
            })
        });
        sized.min_by_key(|(_, _, unit)| *unit)
    }
}
