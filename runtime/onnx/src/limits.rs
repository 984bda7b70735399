//! What a file may make the decoder allocate, checked on the raw bytes before any message is built.
//!
//! In protobuf a message of a few bytes becomes a struct of hundreds, so a limit on the file's size alone
//! doesn't bound memory. [`check`] walks the wire format and adds up what the kept fields will take beyond
//! their own bytes.

use crate::proto;

/// The largest file, in bytes. Its weights are held twice while it is read.
pub const FILE_BYTES_MAX: usize = 1 << 30;
/// What messages, names and integers may take in memory beyond the bytes of the file.
pub const OVERHEAD_BYTES_MAX: usize = 128 << 20;
/// The most inputs, the most initialisers and the most outputs.
pub const NAMES_MAX: usize = 4_096;
/// What one message, string or byte field takes beyond its bytes, at most.
pub const MESSAGE_BYTES: usize = 256;
/// What one number takes.
const NUMBER_BYTES: usize = 8;

const _: () = assert!(size_of::<proto::NodeProto>() <= MESSAGE_BYTES);
const _: () = assert!(size_of::<proto::AttributeProto>() <= MESSAGE_BYTES);
const _: () = assert!(size_of::<proto::TensorProto>() <= MESSAGE_BYTES);
const _: () = assert!(size_of::<proto::ValueInfoProto>() <= MESSAGE_BYTES);

/// What a length-delimited field holds.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    OperatorSet,
    /// A string or bytes, or packed floats: kept at their own size.
    Bytes,
    /// Packed integers: one byte may become eight.
    Integers,
}

impl Kind {
    /// What the field of this tag holds; `None` where [`proto`] has no such field and prost skips it.
    fn field(self, tag: u64) -> Option<Kind> {
        Some(match (self, tag) {
            (Kind::Model, 2 | 3 | 6) => Kind::Bytes,
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8) => Kind::OperatorSet,
            (Kind::OperatorSet, 1) => Kind::Bytes,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 2 | 10) => Kind::Bytes,
            (Kind::Graph, 5) => Kind::Tensor,
            (Kind::Graph, 11 | 12) => Kind::ValueInfo,
            (Kind::Node, 1 | 2 | 3 | 4 | 7) => Kind::Bytes,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Attribute, 1 | 4 | 7 | 9) => Kind::Bytes,
            (Kind::Attribute, 5) => Kind::Tensor,
            (Kind::Attribute, 8) => Kind::Integers,
            (Kind::Tensor, 1 | 5 | 7) => Kind::Integers,
            (Kind::Tensor, 4 | 8 | 9 | 12) => Kind::Bytes,
            (Kind::ValueInfo, 1 | 3) => Kind::Bytes,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Shape, 1) => Kind::Dimension,
            (Kind::Dimension, 2) => Kind::Bytes,
            _ => return None,
        })
    }
}

/// Whether the bytes are protobuf that decodes within the limits; `Err` says what is wrong.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("the file has {} bytes; at most {FILE_BYTES_MAX} go", bytes.len()));
    }
    let mut overhead_bytes = 0;
    walk(Kind::Model, bytes, &mut overhead_bytes)
}

/// Whether there are as many inputs, initialisers and outputs as may be; `Err` says which are too many.
pub fn check_counts(graph: &proto::GraphProto) -> Result<(), String> {
    let counts = [
        ("inputs", graph.input.len()),
        ("initialisers", graph.initializer.len()),
        ("outputs", graph.output.len()),
    ];
    match counts.into_iter().find(|&(_, count)| count > NAMES_MAX) {
        Some((what, count)) => Err(format!("it has {count} {what}; at most {NAMES_MAX} go")),
        None => Ok(()),
    }
}

/// Adds up one message's fields. The recursion is as deep as the schema, at most six.
fn walk(kind: Kind, mut bytes: &[u8], overhead_bytes: &mut usize) -> Result<(), String> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (tag, wire) = (key >> 3, key & 7);
        match wire {
            0 => {
                varint(&mut bytes)?;
                spend(overhead_bytes, NUMBER_BYTES)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            2 => {
                let length = varint(&mut bytes)?;
                let field = take(&mut bytes, length)?;
                match kind.field(tag) {
                    None => {}
                    Some(Kind::Bytes) => spend(overhead_bytes, MESSAGE_BYTES)?,
                    Some(Kind::Integers) => spend(overhead_bytes, NUMBER_BYTES.saturating_mul(field.len()))?,
                    Some(message) => {
                        spend(overhead_bytes, MESSAGE_BYTES)?;
                        walk(message, field, overhead_bytes)?;
                    }
                }
            }
            _ => return Err(format!("a field has wire type {wire}, which ONNX doesn't use")),
        }
    }
    Ok(())
}

fn spend(overhead_bytes: &mut usize, more: usize) -> Result<(), String> {
    *overhead_bytes = overhead_bytes.saturating_add(more);
    if *overhead_bytes > OVERHEAD_BYTES_MAX {
        return Err(format!("its nodes, names and integers take more than {OVERHEAD_BYTES_MAX} bytes"));
    }
    Ok(())
}

pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    match usize::try_from(length).ok().and_then(|n| bytes.split_at_checked(n)) {
        Some((field, rest)) => {
            *bytes = rest;
            Ok(field)
        }
        None => Err(format!("a field of {length} bytes is cut off after {}", bytes.len())),
    }
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err("a number is cut off".into());
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than ten bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of the tag that holds the bytes.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn many_empty_nodes_are_refused_before_they_are_built() {
        let nodes = OVERHEAD_BYTES_MAX / MESSAGE_BYTES + 1;
        let graph = field(1, &[]).repeat(nodes);
        let error = check(&field(7, &graph)).unwrap_err();
        assert!(error.contains("more than"), "{error}");
        let names = field(1, &[]).repeat(OVERHEAD_BYTES_MAX / MESSAGE_BYTES + 1);
        assert!(check(&field(7, &field(1, &names))).is_err());
        let few = field(1, &[]).repeat(1_000);
        assert_eq!(check(&field(7, &few)), Ok(()));
    }

    #[test]
    fn packed_integers_count_eight_bytes_each() {
        let tensor = field(7, &vec![1; OVERHEAD_BYTES_MAX / NUMBER_BYTES]);
        assert!(check(&field(7, &field(5, &tensor))).is_err());
        let raw = field(9, &vec![1; OVERHEAD_BYTES_MAX / NUMBER_BYTES]);
        assert_eq!(check(&field(7, &field(5, &raw))), Ok(()));
    }

    #[test]
    fn unknown_fields_cost_nothing() {
        let graph = field(13, &[]).repeat(OVERHEAD_BYTES_MAX / MESSAGE_BYTES + 1);
        assert_eq!(check(&field(7, &graph)), Ok(()));
    }

    #[test]
    fn cut_off_bytes_and_groups_are_refused() {
        let whole = field(7, &field(1, &field(4, b"Add")));
        for length in 1..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(check(&[0x0b]).is_err());
        assert!(check(&[0xff; 11]).is_err());
    }
}
