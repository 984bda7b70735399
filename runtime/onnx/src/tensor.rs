//! Tensors of the file to ours and back.

use graph::shape_rule::RANK_MAX;
use graph::{CodecError, Tensor};

use crate::proto::{self, TensorProto};

/// The longest list of integers. They are shapes, axes, starts, ends and pads.
pub const INTEGERS_MAX: usize = 64;

/// A constant of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Float(Tensor),
    /// 1 or 0 for each element.
    Bool(Tensor),
    /// A scalar or a list, of int64 or int32.
    Integers {
        scalar: bool,
        values: Vec<i64>,
    },
}

/// A float tensor of the file; `data` is row-major.
pub fn float_proto(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&n| n as i64).collect(),
        data_type: proto::FLOAT,
        name: name.into(),
        raw_data: Some(data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// A list of int64 of the file.
pub fn integers_proto(values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: proto::INT64,
        raw_data: Some(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// Reads a constant. What it allocates is bounded by the data that the file holds for it.
pub fn literal(tensor: TensorProto) -> Result<Literal, CodecError> {
    if tensor.data_location != proto::LOCATION_DEFAULT {
        return Err(unsupported(&tensor, "its data is in another file; save the model as one file"));
    }
    match tensor.data_type {
        proto::FLOAT => float(tensor),
        proto::BOOL => boolean(tensor),
        proto::INT64 | proto::INT32 => integers(tensor),
        other => Err(unsupported(
            &tensor,
            &format!(
                "its element type is {}; only float32, int64, int32 and bool are read",
                type_name(other)
            ),
        )),
    }
}

/// The name of a `TensorProto.DataType`, for messages.
pub fn type_name(data_type: i32) -> String {
    const NAMES: [&str; 17] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    let name = usize::try_from(data_type).ok().and_then(|i| NAMES.get(i));
    name.map_or_else(|| format!("number {data_type}"), |s| s.to_string())
}

fn float(mut tensor: TensorProto) -> Result<Literal, CodecError> {
    let dims = dims(&tensor)?;
    let raw = tensor.raw_data.take();
    let data = match raw {
        Some(_) if !tensor.float_data.is_empty() => return Err(twice(&tensor)),
        Some(raw) => elements::<4>(&tensor, &raw)?.map(f32::from_le_bytes).collect(),
        None => std::mem::take(&mut tensor.float_data),
    };
    Tensor::new(dims, data).map(Literal::Float).map_err(|e| malformed(&tensor, &e.to_string()))
}

fn boolean(mut tensor: TensorProto) -> Result<Literal, CodecError> {
    let dims = dims(&tensor)?;
    let raw = tensor.raw_data.take();
    let truth = |x: bool| if x { 1.0 } else { 0.0 };
    let data: Vec<f32> = match raw {
        Some(_) if !tensor.int32_data.is_empty() => return Err(twice(&tensor)),
        Some(raw) => raw.iter().map(|&x| truth(x != 0)).collect(),
        None => tensor.int32_data.iter().map(|&x| truth(x != 0)).collect(),
    };
    Tensor::new(dims, data).map(Literal::Bool).map_err(|e| malformed(&tensor, &e.to_string()))
}

fn integers(tensor: TensorProto) -> Result<Literal, CodecError> {
    let (scalar, length) = match tensor.dims[..] {
        [] => (true, 1),
        [n] if (0..=INTEGERS_MAX as i64).contains(&n) => (false, n as usize),
        _ => {
            let reason = format!("integer tensors are read as scalars and lists of up to {INTEGERS_MAX}");
            return Err(unsupported(&tensor, &reason));
        }
    };
    let stored = usize::from(tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()))
        + usize::from(!tensor.int64_data.is_empty())
        + usize::from(!tensor.int32_data.is_empty());
    if stored > 1 {
        return Err(twice(&tensor));
    }
    let values: Vec<i64> = match (&tensor.raw_data, tensor.data_type) {
        (Some(raw), proto::INT64) if !raw.is_empty() => {
            elements::<8>(&tensor, raw)?.map(i64::from_le_bytes).collect()
        }
        (Some(raw), _) if !raw.is_empty() => {
            elements::<4>(&tensor, raw)?.map(|b| i64::from(i32::from_le_bytes(b))).collect()
        }
        (_, proto::INT64) => tensor.int64_data.clone(),
        _ => tensor.int32_data.iter().map(|&x| i64::from(x)).collect(),
    };
    if values.len() != length {
        return Err(malformed(&tensor, &format!("it holds {} integers, not {length}", values.len())));
    }
    Ok(Literal::Integers { scalar, values })
}

fn dims(tensor: &TensorProto) -> Result<Vec<usize>, CodecError> {
    if tensor.dims.len() > RANK_MAX {
        return Err(unsupported(tensor, &format!("it has more than {RANK_MAX} dimensions")));
    }
    let dims: Result<Vec<usize>, _> = tensor.dims.iter().map(|&n| usize::try_from(n)).collect();
    let dims = dims.map_err(|_| malformed(tensor, "a dimension is negative"))?;
    if dims.contains(&0) {
        return Err(unsupported(tensor, "it is empty"));
    }
    Ok(dims)
}

fn elements<'a, const BYTES: usize>(
    tensor: &TensorProto,
    raw: &'a [u8],
) -> Result<impl Iterator<Item = [u8; BYTES]> + use<'a, BYTES>, CodecError> {
    let (elements, rest) = raw.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(malformed(tensor, &format!("its {} bytes aren't a multiple of {BYTES}", raw.len())));
    }
    Ok(elements.iter().copied())
}

fn twice(tensor: &TensorProto) -> CodecError {
    malformed(tensor, "it holds its data twice")
}

fn malformed(tensor: &TensorProto, reason: &str) -> CodecError {
    CodecError::Malformed(format!("tensor {:?}: {reason}", crate::clip(&tensor.name)))
}

fn unsupported(tensor: &TensorProto, reason: &str) -> CodecError {
    CodecError::Unsupported {
        op: "tensor".into(),
        reason: format!("{:?}: {reason}", crate::clip(&tensor.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_storing_floats_read_alike() {
        let raw = float_proto("w", &[2, 1], &[1.5, -2.0]);
        let plain = TensorProto { raw_data: None, float_data: vec![1.5, -2.0], ..raw.clone() };
        let both = TensorProto { float_data: vec![1.5, -2.0], ..raw.clone() };
        let expected = Literal::Float(Tensor::new(vec![2, 1], vec![1.5, -2.0]).unwrap());
        assert_eq!(literal(raw), Ok(expected.clone()));
        assert_eq!(literal(plain), Ok(expected));
        assert!(matches!(literal(both), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn integers_of_both_widths_read_alike() {
        let wide = integers_proto(&[3, -1]);
        let plain = TensorProto { raw_data: None, int64_data: vec![3, -1], ..wide.clone() };
        let narrow = TensorProto {
            data_type: proto::INT32,
            raw_data: Some([3i32, -1].iter().flat_map(|x| x.to_le_bytes()).collect()),
            ..wide.clone()
        };
        let expected = Literal::Integers { scalar: false, values: vec![3, -1] };
        for tensor in [wide, plain, narrow] {
            assert_eq!(literal(tensor), Ok(expected.clone()));
        }
    }

    #[test]
    fn sizes_are_compared_before_anything_is_read() {
        let huge = TensorProto { dims: vec![1 << 40, 1 << 40], ..float_proto("w", &[1], &[1.0]) };
        assert!(matches!(literal(huge), Err(CodecError::Malformed(_))));
        let negative = TensorProto { dims: vec![-1], ..float_proto("w", &[1], &[1.0]) };
        assert!(matches!(literal(negative), Err(CodecError::Malformed(_))));
        let long = TensorProto { dims: vec![i64::MAX], ..integers_proto(&[1]) };
        assert!(matches!(literal(long), Err(CodecError::Unsupported { .. })));
        let odd = TensorProto { raw_data: Some(vec![0; 3]), ..float_proto("w", &[1], &[1.0]) };
        assert!(matches!(literal(odd), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn other_element_types_and_other_files_are_named() {
        let double = TensorProto { data_type: 11, ..float_proto("w", &[1], &[1.0]) };
        let error = literal(double).unwrap_err().to_string();
        assert!(error.contains("float64") && error.contains("\"w\""), "{error}");
        let external = TensorProto { data_location: 1, ..float_proto("w", &[1], &[1.0]) };
        assert!(literal(external).unwrap_err().to_string().contains("another file"));
    }
}
