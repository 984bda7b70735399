//! Bytes from anywhere: an error or a graph that passes its check, never a panic, in bounded time and memory.

use std::time::{Duration, Instant};

use graph::{CodecError, GraphCodec, Limits};
use proptest::prelude::*;
use prost::Message;

use super::{encode, gru_model, model};
use crate::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::{Onnx, limits, proto};

/// Far above what a file of a few kilobytes takes, on a machine that is busy with other tests.
const DECODE_MAX: Duration = Duration::from_secs(5);

/// The rounds of a fuzzing loop: 50 times as many where `TEST_COUNTS=full`, as in `cargo xtask soak`.
fn rounds(reduced: usize) -> usize {
    let is_full = std::env::var_os("TEST_COUNTS").is_some_and(|counts| counts == "full");
    if is_full { 50 * reduced } else { reduced }
}

/// A generator of reproducible noise (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Whatever comes out is sound, and can be written again or is refused in words.
fn decode(bytes: &[u8]) -> Result<(), CodecError> {
    let start = Instant::now();
    let result = Onnx.decode(bytes);
    assert!(start.elapsed() < DECODE_MAX, "took {:?}", start.elapsed());
    let graph = result?;
    graph::verify::verify(&graph, &Limits::default()).expect("a decoded graph passes its check");
    if let Err(CodecError::Invalid(e)) = Onnx.encode(&graph) {
        panic!("a decoded graph isn't valid: {e}");
    }
    Ok(())
}

/// One change to the bytes: flipped, cut, doubled, moved or spliced with noise.
fn mutate(bytes: &mut Vec<u8>, noise: &mut Noise) {
    if bytes.is_empty() {
        return;
    }
    let at = noise.below(bytes.len());
    let length = 1 + noise.below(16.min(bytes.len() - at).max(1));
    match noise.below(6) {
        0 => bytes[at] ^= 1 << noise.below(8),
        1 => bytes[at] = noise.next() as u8,
        2 => bytes.truncate(at),
        3 => {
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        4 => {
            let part = bytes[at..(at + length).min(bytes.len())].to_vec();
            let to = noise.below(bytes.len());
            bytes.splice(to..to, part);
        }
        _ => {
            let part: Vec<u8> = (0..length).map(|_| noise.next() as u8).collect();
            bytes.splice(at..at, part);
        }
    }
}

/// As a fuzzer would, for a fixed number of rounds: from valid files, keeping mutants that still decode.
#[test]
fn mutants_of_a_valid_file() {
    let mut noise = Noise(1);
    let mut pool = vec![encode(&model()), encode(&gru_model())];
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..rounds(20_000) {
        let mut bytes = pool[noise.below(pool.len())].clone();
        for _ in 0..1 + noise.below(3) {
            mutate(&mut bytes, &mut noise);
        }
        match decode(&bytes) {
            Ok(()) => {
                decoded += 1;
                if pool.len() < 64 {
                    pool.push(bytes);
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(decoded > 100 && refused > 100, "{decoded} decoded, {refused} refused");
}

/// Mutants of the messages instead of the bytes, which get past protobuf every time.
#[test]
fn mutants_of_the_messages() {
    let originals = [model(), gru_model()].map(|g| ModelProto::decode(encode(&g).as_slice()).unwrap());
    let mut noise = Noise(2);
    for round in 0..rounds(5_000) {
        let mut mutant = originals[round % 2].clone();
        for _ in 0..1 + noise.below(3) {
            mutate_messages(&mut mutant, &mut noise);
        }
        let _ = decode(&mutant.encode_to_vec());
    }
}

fn mutate_messages(model: &mut ModelProto, noise: &mut Noise) {
    const OPS: [&str; 19] = [
        "Reshape",
        "Expand",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Gather",
        "Shape",
        "Concat",
        "LSTM",
        "GRU",
        "Gemm",
        "Pad",
        "Flatten",
        "Split",
        "ConstantOfShape",
        "MatMul",
        "ReduceMax",
        "Cast",
        "Where",
    ];
    const NUMBERS: [i64; 10] = [0, 1, -1, 2, 7, 64, 65, i32::MAX as i64, i64::MAX, i64::MIN];
    let graph = model.graph.as_mut().unwrap();
    let names: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
    let node = noise.below(graph.node.len());
    let node: &mut NodeProto = &mut graph.node[node];
    match noise.below(6) {
        0 => node.op_type = OPS[noise.below(OPS.len())].into(),
        1 if !node.input.is_empty() => {
            let input = noise.below(node.input.len());
            node.input[input] = names[noise.below(names.len())].clone();
        }
        2 => node.input.push(names[noise.below(names.len())].clone()),
        3 => {
            node.input.pop();
        }
        4 => {
            if let Some(attribute) = node.attribute.first_mut() {
                let number = NUMBERS[noise.below(NUMBERS.len())];
                attribute.i = attribute.i.map(|_| number);
                if let Some(x) = attribute.ints.first_mut() {
                    *x = number;
                }
                if let Some(tensor) = &mut attribute.t
                    && tensor.data_type == proto::INT64
                {
                    tensor.raw_data = Some(number.to_le_bytes().to_vec());
                    tensor.dims = if noise.below(2) == 0 { vec![] } else { vec![1] };
                }
            }
        }
        _ => {
            let at = noise.below(graph.initializer.len());
            let dims = &mut graph.initializer[at].dims;
            if !dims.is_empty() {
                let axis = noise.below(dims.len());
                dims[axis] = NUMBERS[noise.below(NUMBERS.len())];
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn any_part_of_a_file(start in 0usize..400, length in 0usize..4000) {
        let bytes = encode(&if start % 2 == 0 { model() } else { gru_model() });
        let start = start.min(bytes.len());
        let end = (start + length).min(bytes.len());
        let _ = decode(&bytes[start..end]);
    }
}

/// A node of the file with its inputs and output.
fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        input: input.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// Lists that double at each node, and tensors that do.
#[test]
fn doubling_is_stopped() {
    let mut file = ModelProto::decode(encode(&model()).as_slice()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    graph.node.push(node("Shape", &["features"], "size_0"));
    for i in 0..60 {
        let last = format!("size_{i}");
        graph.node.push(node("Concat", &[&last, &last], &format!("size_{}", i + 1)));
    }
    let error = Onnx.decode(&file.encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("more than 64"), "{error}");

    let mut file = ModelProto::decode(encode(&model()).as_slice()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    graph.node.push(node("Identity", &["features"], "wide_0"));
    for i in 0..60 {
        let last = format!("wide_{i}");
        let mut concat = node("Concat", &[&last, &last], &format!("wide_{}", i + 1));
        concat.attribute.push(proto::AttributeProto {
            name: "axis".into(),
            r#type: proto::ATTRIBUTE_INT,
            i: Some(2),
            ..Default::default()
        });
        graph.node.push(concat);
    }
    let error = Onnx.decode(&file.encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("elements"), "{error}");
}

/// Many LSTMs that share a large constant as their initial state: each would look through it.
#[test]
fn a_large_constant_is_looked_through_once() {
    let mut file = ModelProto::decode(encode(&model()).as_slice()).unwrap();
    let graph = file.graph.as_mut().unwrap();
    graph.initializer.push(crate::tensor::float_proto("zeros", &[1, 1, 1 << 20], &vec![0.0; 1 << 20]));
    let lstm = graph.node.iter().find(|n| n.op_type == "LSTM").unwrap().clone();
    for i in 0..2_000 {
        let mut copy = lstm.clone();
        copy.input.extend([String::new(), "zeros".into(), "zeros".into()]);
        copy.output = vec![format!("copy_{i}")];
        graph.node.push(copy);
    }
    assert_eq!(decode(&file.encode_to_vec()), Ok(()));
}

/// As many weights, inputs and outputs as there may be, where each name is looked for among the others; one
/// more is refused.
#[test]
fn many_names_are_quick() {
    for (many, fits) in [(limits::NAMES_MAX - 16, true), (limits::NAMES_MAX + 1, false)] {
        for build in [many_weights, many_inputs, many_outputs] {
            let mut file = ModelProto::decode(encode(&model()).as_slice()).unwrap();
            build(file.graph.as_mut().unwrap(), many);
            let result = decode(&file.encode_to_vec());
            assert_eq!(result.is_ok(), fits, "{many}: {result:?}");
        }
    }
}

fn many_weights(graph: &mut GraphProto, count: usize) {
    let weights = (0..count).map(|i| crate::tensor::float_proto(&format!("w{i}"), &[1], &[1.0]));
    graph.initializer.extend(weights);
}

fn many_inputs(graph: &mut GraphProto, count: usize) {
    let first = graph.input[0].clone();
    graph.input.extend((0..count).map(|i| ValueInfoProto { name: format!("i{i}"), ..first.clone() }));
}

fn many_outputs(graph: &mut GraphProto, count: usize) {
    let first = graph.output[0].clone();
    for i in 0..count {
        let name = format!("o{i}");
        graph.node.push(node("Identity", &["features"], &name));
        graph.output.push(ValueInfoProto { name, ..first.clone() });
    }
}
