//! The graph's inputs, and which of their symbolic dimensions is the batch.

use std::collections::HashSet;

use graph::{CodecError, Dim, Shape};

use super::{Decoder, other_type};
use crate::clip;
use crate::proto::{DimensionProto, DimensionValue, TensorProto, ValueInfoProto};

impl Decoder {
    /// Declares the inputs. One that is also an initialiser is only its default, as old files have it.
    pub fn inputs(
        &mut self,
        inputs: &[ValueInfoProto],
        initializers: &[TensorProto],
    ) -> Result<(), CodecError> {
        let defaults: HashSet<&str> = initializers.iter().map(|t| t.name.as_str()).collect();
        let mut batch: Option<String> = None;
        for input in inputs.iter().filter(|input| !defaults.contains(input.name.as_str())) {
            let shape = shape(input, &mut batch).map_err(|reason| refused(input, reason))?;
            let value = self.builder.input(&input.name, shape).map_err(|e| refused(input, e.to_string()))?;
            let entry = self.entries_view(value);
            self.bind(input.name.clone(), entry)?;
        }
        Ok(())
    }
}

fn refused(input: &ValueInfoProto, reason: String) -> CodecError {
    CodecError::Unsupported { op: "input".into(), reason: format!("{:?}: {reason}", clip(&input.name)) }
}

/// The shape, where `batch` is the one symbol that may stand in all inputs' shapes.
fn shape(input: &ValueInfoProto, batch: &mut Option<String>) -> Result<Shape, String> {
    if let Some(other) = other_type(input) {
        return Err(format!("its element type is {other}, not float32"));
    }
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(shape) = tensor.and_then(|t| t.shape.as_ref()) else {
        return Err("its shape is not stated".into());
    };
    let dims = shape.dim.iter().enumerate().map(|(axis, dim)| dimension(axis, dim, batch));
    Ok(Shape::new(dims.collect::<Result<Vec<_>, _>>()?))
}

fn dimension(axis: usize, dim: &DimensionProto, batch: &mut Option<String>) -> Result<Dim, String> {
    let symbol = match &dim.value {
        Some(DimensionValue::Number(n)) => {
            return match usize::try_from(*n) {
                Ok(n) if n > 0 => Ok(Dim::Fixed(n)),
                _ => Err(format!("dimension {axis} is {n}")),
            };
        }
        Some(DimensionValue::Symbol(symbol)) if !symbol.is_empty() => symbol.as_str(),
        // Unknown: the batch where that is expected.
        _ if axis == 0 => return Ok(Dim::Batch(1)),
        _ => {
            return Err(format!(
                "dimension {axis} is unknown; only the batch may be: export it with a fixed size"
            ));
        }
    };
    let (factor, symbol) = multiple(symbol);
    let known = batch.get_or_insert_with(|| symbol.to_string());
    if known != symbol {
        return Err(format!(
            "dimensions {:?} and {:?} are both symbolic; only the batch may be: export with the other fixed",
            clip(known),
            clip(symbol)
        ));
    }
    Ok(Dim::Batch(factor))
}

/// "3*batch" as 3 and "batch"; any other symbol stands for one batch.
fn multiple(symbol: &str) -> (usize, &str) {
    match symbol.split_once('*') {
        Some((factor, rest)) => match factor.trim().parse() {
            Ok(factor) if factor > 0 => (factor, rest.trim()),
            _ => (1, symbol),
        },
        None => (1, symbol),
    }
}
