//! Constants of the file, and the ops that hand a value on.

use graph::{CodecError, Op, Tensor};

use super::Decoder;
use super::call::Call;
use super::entry::Entry;
use super::integers::{Integer, Integers};
use crate::proto;
use crate::tensor::{self, INTEGERS_MAX, Literal};

impl Decoder {
    pub fn constant(&mut self, call: &mut Call) -> Result<Entry, CodecError> {
        call.check(0, &["value", "value_float", "value_floats", "value_int", "value_ints"])?;
        let attribute = call.only_attribute()?;
        let literal = match attribute.name.as_str() {
            "value_float" => Literal::Float(Tensor::scalar(call.float("value_float")?.unwrap_or_default())),
            "value_floats" if !attribute.floats.is_empty() => {
                let data = attribute.floats.clone();
                Literal::Float(Tensor::new(vec![data.len()], data).map_err(|e| call.malformed(e))?)
            }
            "value_floats" => return Err(call.unsupported("it is empty")),
            "value_int" => {
                Literal::Integers { scalar: true, values: vec![call.int("value_int")?.unwrap_or_default()] }
            }
            "value_ints" => {
                let values = call.ints("value_ints")?.unwrap_or_default();
                if values.len() > INTEGERS_MAX {
                    return Err(call.unsupported(format!("it has more than {INTEGERS_MAX} integers")));
                }
                Literal::Integers { scalar: false, values: values.to_vec() }
            }
            _ => match call.take_tensor("value")? {
                Some(tensor) => tensor::literal(tensor)?,
                None => return Err(call.malformed("it has no value")),
            },
        };
        self.literal(literal).map_err(|reason| call.unsupported(reason))
    }

    pub fn constant_of_shape(&mut self, call: &mut Call) -> Result<Entry, CodecError> {
        call.check(1, &["value"])?;
        let fill = match call.take_tensor("value")? {
            Some(tensor) => tensor::literal(tensor)?,
            None => Literal::Float(Tensor::scalar(0.0)),
        };
        let sizes = self.integers(call, 0)?;
        match fill {
            Literal::Float(fill) if fill.data().len() == 1 => {
                let shape = sizes.shape().map_err(|reason| call.unsupported(reason))?;
                let fill = self.scalar(call, fill.data()[0])?;
                self.push_entry(call, Op::Broadcast { shape }, &[fill])
            }
            Literal::Integers { values, .. } if values.len() == 1 => match sizes.values[..] {
                [Integer::Fixed(n)] if (0..=INTEGERS_MAX as i64).contains(&n) => {
                    let values = vec![Integer::Fixed(values[0]); n as usize];
                    Ok(Entry::Integers(Integers { scalar: false, values }))
                }
                _ => Err(call.unsupported("integers are read as lists of a fixed length")),
            },
            _ => Err(call.unsupported("its value must be one float32 or integer")),
        }
    }

    pub fn identity(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &[])?;
        self.entry(call, 0)
    }

    /// Only the inference form, which changes nothing.
    pub fn dropout(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(3, &["seed"])?;
        if call.input(2).is_some() {
            let off = match self.entry(call, 2)? {
                Entry::Bool { value, .. } => self.is_zero(value),
                _ => false,
            };
            if !off {
                return Err(call.unsupported("it is in training mode; export the model for inference"));
            }
        }
        self.entry(call, 0)
    }

    pub fn cast(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &["to", "saturate", "round_mode"])?;
        let to = call.int("to")?.unwrap_or_default();
        let to = i32::try_from(to).unwrap_or_default();
        match (self.entry(call, 0)?, to) {
            (entry @ Entry::Float(_), proto::FLOAT)
            | (entry @ Entry::Bool { .. }, proto::BOOL)
            | (entry @ Entry::Integers(_), proto::INT64 | proto::INT32) => Ok(entry),
            (Entry::Float(view), proto::BOOL) => {
                Ok(Entry::Bool { value: self.value(call, &view)?, exact: false })
            }
            (Entry::Bool { value, exact: true }, proto::FLOAT) => Ok(self.entries_view(value)),
            (Entry::Bool { value, exact: false }, proto::FLOAT) => {
                let one = self.scalar(call, 1.0)?;
                let zero = self.scalar(call, 0.0)?;
                self.push_entry(call, Op::Select, &[value, one, zero])
            }
            (Entry::Integers(integers), proto::FLOAT) => self.floats_of(call, &integers),
            (_, to) => Err(call.unsupported(format!("from its input's type to {}", tensor::type_name(to)))),
        }
    }

    fn floats_of(&mut self, call: &Call, integers: &Integers) -> Result<Entry, CodecError> {
        let Some(numbers) = integers.fixed().filter(|n| !n.is_empty()) else {
            return Err(call.unsupported("a size that depends on the batch can't become float32"));
        };
        let dims = if integers.scalar { Vec::new() } else { vec![numbers.len()] };
        let data = numbers.into_iter().map(|n| n as f32).collect();
        let tensor = Tensor::new(dims, data).map_err(|e| call.malformed(e))?;
        self.push_entry(call, Op::Constant(tensor), &[])
    }
}
