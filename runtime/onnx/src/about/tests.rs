use prost::Message;

use super::*;
use crate::proto::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto};

fn model(nodes: Vec<NodeProto>) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        producer_name: "pytorch".into(),
        producer_version: "2.9\n.0".into(),
        graph: Some(GraphProto { node: nodes, ..GraphProto::default() }),
        ..ModelProto::default()
    }
}

fn node(op: &str, domain: &str) -> NodeProto {
    NodeProto { op_type: op.into(), domain: domain.into(), ..NodeProto::default() }
}

fn error(bytes: &[u8]) -> String {
    About::read(bytes).unwrap_err().to_string()
}

/// A field of the tag that holds the bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(u32::from(tag), prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn a_file_says_who_wrote_it_and_what_it_uses() {
    let mut file = model(vec![node("Relu", ""), node("Normalizer", "ai.onnx.ml"), node("Relu", "ai.onnx")]);
    let graph = file.graph.as_mut().unwrap();
    graph.input = ["x", "w"].map(|n| ValueInfoProto { name: n.into(), ..Default::default() }).to_vec();
    graph.initializer = vec![TensorProto { name: "w".into(), data_type: proto::FLOAT, ..Default::default() }];
    let about = About::read(&file.encode_to_vec()).unwrap();
    assert_eq!((about.producer.as_str(), about.opset), ("pytorch 2.9 .0", 17));
    assert_eq!(about.operators, ["Normalizer", "Relu"]);
    let names: Vec<&str> = about.inputs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["x"], "an initialiser is no input");
    assert_eq!((about.inputs[0].element.as_ref(), about.inputs[0].dims.as_ref()), (None, None));
}

#[test]
fn what_is_never_served_is_named_also_in_graphs_within() {
    let cases = [
        (node("Loop", ""), "Loop"),
        (node("Multinomial", ""), "random"),
        (node("Bernoulli", ""), "random"),
        (node("Conv", "com.microsoft"), "com.microsoft"),
    ];
    for (bad, expected) in cases {
        let inner = GraphProto { node: vec![bad.clone()], ..GraphProto::default() }.encode_to_vec();
        assert!(error(&model(vec![bad]).encode_to_vec()).contains(expected));
        // In the `then_branch` of an If: attribute 5 of the node, graph 6 of the attribute.
        let branch = field(5, &field(6, &inner));
        let outer = [node("If", "").encode_to_vec(), branch].concat();
        let bytes = [model(vec![]).encode_to_vec(), field(7, &field(1, &outer))].concat();
        assert!(error(&bytes).contains(expected), "{}", error(&bytes));
    }
    let with = |tag, bytes: &[u8]| [model(vec![]).encode_to_vec(), field(tag, bytes)].concat();
    assert!(error(&with(25, b"")).contains("functions"));
    assert!(error(&with(20, b"")).contains("training"));
    let outside = field(13, b"");
    assert!(error(&with(7, &field(5, &outside))).contains("other files"));
    let located = TensorProto { data_location: 1, ..TensorProto::default() }.encode_to_vec();
    assert!(error(&with(7, &field(5, &located))).contains("other files"));
    assert!(error(&with(7, &field(1, &field(5, &field(10, &located))))).contains("other files"));
}

#[test]
fn limits_hold_before_anything_is_built() {
    let mut nested = Vec::new();
    for _ in 0..100 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    assert!(error(&field(7, &nested)).contains("deep"), "{}", error(&field(7, &nested)));
    let many = field(7, &field(13, b"").repeat(OVERHEAD_BYTES_MAX / MESSAGE_BYTES + 1));
    assert!(error(&many).contains("more than"));
    let integers = field(7, &field(5, &field(7, &vec![1; OVERHEAD_BYTES_MAX / NUMBER_BYTES])));
    assert!(error(&integers).contains("more than"));
    for bytes in [&b""[..], b"\xff", b"\x0b", b"PK\x03\x04", &[0x3a, 0x7f, 0x01]] {
        assert!(!error(bytes).is_empty());
    }
    let whole = model(vec![node("Relu", "")]).encode_to_vec();
    for length in 0..whole.len() {
        // Cut anywhere it is refused, or still a file that says less.
        let _ = About::read(&whole[..length]);
    }
    assert!(About::read(&whole).is_ok());
}

#[test]
fn an_opset_is_needed() {
    let mut file = model(vec![]);
    file.opset_import.clear();
    assert!(error(&file.encode_to_vec()).contains("no standard operator set"));
    file = model(vec![]);
    file.graph = None;
    assert!(error(&file.encode_to_vec()).contains("no graph"));
}
