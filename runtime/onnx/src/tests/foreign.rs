//! Files as other exporters write them, against graphs of ours that mean the same.

use graph::{BinaryOp, Builder, CodecError, Graph, GraphCodec, Keep, Op, Shape, Tensor, UnaryOp};
use prost::Message;

use super::{noise, run};
use crate::proto::{
    self, AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::tensor::{float_proto, integers_proto};
use crate::{Onnx, gates};

fn info(name: &str, dims: &[DimensionValue]) -> ValueInfoProto {
    let dim = dims.iter().map(|d| DimensionProto { value: Some(d.clone()) }).collect();
    let tensor_type = TensorTypeProto { elem_type: proto::FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        ..ValueInfoProto::default()
    }
}

fn batch() -> DimensionValue {
    DimensionValue::Symbol("batch_size".into())
}

fn number(n: i64) -> DimensionValue {
    DimensionValue::Number(n)
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("/net/{op}"),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..NodeProto::default()
    }
}

impl NodeProto {
    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }

    fn int(self, name: &str, i: i64) -> Self {
        let kind = proto::ATTRIBUTE_INT;
        self.with(AttributeProto { name: name.into(), r#type: kind, i: Some(i), ..Default::default() })
    }

    fn float(self, name: &str, f: f32) -> Self {
        let kind = proto::ATTRIBUTE_FLOAT;
        self.with(AttributeProto { name: name.into(), r#type: kind, f: Some(f), ..Default::default() })
    }

    fn ints(self, name: &str, ints: &[i64]) -> Self {
        let kind = proto::ATTRIBUTE_INTS;
        self.with(AttributeProto {
            name: name.into(),
            r#type: kind,
            ints: ints.to_vec(),
            ..Default::default()
        })
    }

    fn string(self, name: &str, s: &str) -> Self {
        self.with(AttributeProto { name: name.into(), r#type: 3, s: Some(s.into()), ..Default::default() })
    }

    fn tensor(self, name: &str, t: TensorProto) -> Self {
        let kind = proto::ATTRIBUTE_TENSOR;
        self.with(AttributeProto {
            name: name.into(),
            r#type: kind,
            t: Some(Box::new(t)),
            ..Default::default()
        })
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), ..integers_proto(values) }
}

fn scalar(x: i64) -> TensorProto {
    TensorProto { dims: Vec::new(), ..integers_proto(&[x]) }
}

/// A file of opset 17 with the input `x`, and the output `y` whose shape isn't stated.
fn file(x: &[DimensionValue], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> Vec<u8> {
    let y = ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() };
    let graph =
        GraphProto { node, initializer, input: vec![info("x", x)], output: vec![y], ..Default::default() };
    let opset = OperatorSetIdProto { domain: "ai.onnx".into(), version: 17 };
    let model =
        ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    model.encode_to_vec()
}

/// The file decodes, and gives what the graph gives that `build` makes of x.
fn check(bytes: &[u8], x: Shape, build: impl FnOnce(&mut Builder, graph::Value) -> graph::Value) -> Graph {
    let found = Onnx.decode(bytes).unwrap_or_else(|e| panic!("{e}"));
    let mut b = Builder::new();
    let input = b.input("x", x.clone()).unwrap();
    let y = build(&mut b, input);
    b.output("y", y).unwrap();
    let expected = b.finish().unwrap();
    for batch in [1, 3] {
        let inputs = [noise(x.elements(batch).unwrap())];
        assert_eq!(run(&found, batch, &inputs), run(&expected, batch, &inputs));
    }
    found
}

fn refused(bytes: &[u8], op: &str, words: &str) {
    match Onnx.decode(bytes) {
        Err(CodecError::Unsupported { op: found, reason }) => {
            assert_eq!(found, op, "{reason}");
            assert!(reason.contains(words), "{reason}");
        }
        other => panic!("{op}: {other:?}"),
    }
}

fn f32s(count: usize) -> Vec<f32> {
    noise(count).into_iter().map(|x| x as f32).collect()
}

#[test]
fn gemm_with_its_factors() {
    let weights = vec![float_proto("w", &[2, 3], &f32s(6)), float_proto("c", &[2], &[1.0, -1.0])];
    let gemm = node("Gemm", &["x", "w", "c"], &["y"]).float("alpha", 0.5).float("beta", 2.0).int("transB", 1);
    let found = check(&file(&[batch(), number(3)], weights, vec![gemm]), Shape::batch(&[3]), |b, x| {
        let w = b.constant(Tensor::new(vec![2, 3], f32s(6)).unwrap()).unwrap();
        let c = b.constant(Tensor::new(vec![2], vec![2.0, -2.0]).unwrap()).unwrap();
        let product = b.matmul(x, w, false, true).unwrap();
        let half = b.scalar(0.5).unwrap();
        let product = b.mul(product, half).unwrap();
        b.add(product, c).unwrap()
    });
    assert_eq!(found.states.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["w", "c"]);
}

/// As PyTorch writes it: weights in ONNX's layout with two biases, initial states of zeros made to the batch's
/// size by Shape, Gather, Unsqueeze, Concat and ConstantOfShape, and the last step gathered from the sequence.
#[test]
fn lstm_of_a_usual_exporter() {
    let (t, f, h) = (4, 3, 2);
    let (w, r, both) = (f32s(4 * h * f), f32s(4 * h * h), f32s(8 * h));
    let weights = vec![
        float_proto("w", &[1, 4 * h, f], &w),
        float_proto("r", &[1, 4 * h, h], &r),
        float_proto("b", &[1, 8 * h], &both),
        integers("zero", &[0]),
        integers("one", &[1]),
        integers("hidden", &[h as i64]),
    ];
    let nodes = vec![
        node("Shape", &["x"], &["shape"]),
        node("Constant", &[], &["first"]).tensor("value", scalar(0)),
        node("Gather", &["shape", "first"], &["size"]).int("axis", 0),
        node("Unsqueeze", &["size", "zero"], &["sizes"]),
        node("Concat", &["one", "sizes", "hidden"], &["state"]).int("axis", 0),
        node("ConstantOfShape", &["state"], &["h0"]).tensor("value", float_proto("", &[1], &[0.0])),
        node("Transpose", &["x"], &["steps"]).ints("perm", &[1, 0, 2]),
        node("LSTM", &["steps", "w", "r", "b", "", "h0", "h0"], &["all", "last", "cell"])
            .int("hidden_size", h as i64),
        node("Squeeze", &["all", "one"], &["sequence"]),
        node("Transpose", &["sequence"], &["rows"]).ints("perm", &[1, 0, 2]),
        node("Constant", &[], &["end"]).tensor("value", scalar(-1)),
        node("Gather", &["rows", "end"], &["y"]).int("axis", 1),
    ];
    let bytes = file(&[batch(), number(t as i64), number(f as i64)], weights, nodes);
    let found = check(&bytes, Shape::batch(&[t, f]), |b, x| {
        let w = Tensor::new(vec![f, 4 * h], gates::LSTM.matrix_from_onnx(&w, f)).unwrap();
        let r = Tensor::new(vec![h, 4 * h], gates::LSTM.matrix_from_onnx(&r, h)).unwrap();
        let both = Tensor::new(vec![4 * h], gates::lstm_bias_from_onnx(&both)).unwrap();
        let [w, r, both] = [w, r, both].map(|t| b.constant(t).unwrap());
        b.lstm(x, w, r, both, Keep::Last).unwrap()
    });
    assert_eq!(
        found.state("w").map(|s| found.node(s.node).shapes[0].clone()),
        Some(Shape::fixed(&[f, 4 * h]))
    );
    assert_eq!(found.nodes.iter().filter(|n| matches!(n.op, Op::Transpose { .. })).count(), 0);
}

#[test]
fn lstm_without_bias_batch_first_and_both_outputs() {
    let (t, f, h) = (3, 2, 2);
    let (w, r) = (f32s(4 * h * f), f32s(4 * h * h));
    let weights = vec![float_proto("w", &[1, 4 * h, f], &w), float_proto("r", &[1, 4 * h, h], &r)];
    let nodes = vec![
        node("LSTM", &["x", "w", "r"], &["all", "last"]).int("hidden_size", h as i64).int("layout", 1),
        node("ReduceSum", &["all"], &["sum"]).int("keepdims", 0),
        node("Mul", &["last", "sum"], &["product"]),
        node("Squeeze", &["product"], &["y"]),
    ];
    let nodes: Vec<NodeProto> =
        nodes.into_iter().map(|n| n.string_if("LSTM", "direction", "forward")).collect();
    check(
        &file(&[batch(), number(t as i64), number(f as i64)], weights, nodes),
        Shape::batch(&[t, f]),
        |b, x| {
            let w = b
                .constant(Tensor::new(vec![f, 4 * h], gates::LSTM.matrix_from_onnx(&w, f)).unwrap())
                .unwrap();
            let r = b
                .constant(Tensor::new(vec![h, 4 * h], gates::LSTM.matrix_from_onnx(&r, h)).unwrap())
                .unwrap();
            let bias = b.constant(Tensor::zeros(&[4 * h])).unwrap();
            let all = b.lstm(x, w, r, bias, Keep::Sequence).unwrap();
            let last = b.lstm(x, w, r, bias, Keep::Last).unwrap();
            let sum = b.reduce(graph::ReduceOp::Sum, all, &[0, 1, 2], false).unwrap();
            b.mul(last, sum).unwrap()
        },
    );
}

impl NodeProto {
    fn string_if(self, op: &str, name: &str, value: &str) -> Self {
        if self.op_type == op { self.string(name, value) } else { self }
    }
}

/// As PyTorch writes a `torch.nn.GRU`: both biases in one B.
#[test]
fn gru_of_a_usual_exporter() {
    let (t, f, h) = (4, 3, 2);
    let (w, r, both) = (f32s(3 * h * f), f32s(3 * h * h), f32s(6 * h));
    let weights = vec![
        float_proto("w", &[1, 3 * h, f], &w),
        float_proto("r", &[1, 3 * h, h], &r),
        float_proto("b", &[1, 6 * h], &both),
        float_proto("h0", &[1, 1, h], &[0.0; 2]),
        integers("one", &[1]),
    ];
    let gru = node("GRU", &["steps", "w", "r", "b", "", "h0"], &["all", "last"]);
    let nodes = vec![
        node("Transpose", &["x"], &["steps"]).ints("perm", &[1, 0, 2]),
        gru.int("hidden_size", h as i64).int("linear_before_reset", 1),
        node("Squeeze", &["all", "one"], &["sequence"]),
        node("Transpose", &["sequence"], &["y"]).ints("perm", &[1, 0, 2]),
    ];
    let bytes = file(&[batch(), number(t as i64), number(f as i64)], weights, nodes);
    let found = check(&bytes, Shape::batch(&[t, f]), |b, x| {
        let w = Tensor::new(vec![f, 3 * h], gates::GRU.matrix_from_onnx(&w, f)).unwrap();
        let r = Tensor::new(vec![h, 3 * h], gates::GRU.matrix_from_onnx(&r, h)).unwrap();
        let halves = [&both[..3 * h], &both[3 * h..]];
        let [b0, b1] =
            halves.map(|half| Tensor::new(vec![3 * h], gates::GRU.vector_from_onnx(half)).unwrap());
        let [w, r, b0, b1] = [w, r, b0, b1].map(|t| b.constant(t).unwrap());
        b.gru(x, w, r, b0, b1, Keep::Sequence).unwrap()
    });
    let shape = |name: &str| found.state(name).map(|s| found.node(s.node).shapes[0].clone());
    assert_eq!(shape("w"), Some(Shape::fixed(&[f, 3 * h])));
    assert_eq!(shape("b"), Some(Shape::fixed(&[6 * h])));
}

#[test]
fn gru_without_bias_batch_first_and_both_outputs() {
    let (t, f, h) = (3, 2, 2);
    let (w, r) = (f32s(3 * h * f), f32s(3 * h * h));
    let weights = vec![float_proto("w", &[1, 3 * h, f], &w), float_proto("r", &[1, 3 * h, h], &r)];
    let gru = node("GRU", &["x", "w", "r"], &["all", "last"]).int("layout", 1);
    let nodes = vec![
        gru.int("linear_before_reset", 1).string("direction", "forward"),
        node("ReduceSum", &["all"], &["sum"]).int("keepdims", 0),
        node("Mul", &["last", "sum"], &["product"]),
        node("Squeeze", &["product"], &["y"]),
    ];
    let bytes = file(&[batch(), number(t as i64), number(f as i64)], weights, nodes);
    check(&bytes, Shape::batch(&[t, f]), |b, x| {
        let w = Tensor::new(vec![f, 3 * h], gates::GRU.matrix_from_onnx(&w, f)).unwrap();
        let r = Tensor::new(vec![h, 3 * h], gates::GRU.matrix_from_onnx(&r, h)).unwrap();
        let [w, r, bias] = [w, r, Tensor::zeros(&[3 * h])].map(|t| b.constant(t).unwrap());
        let all = b.gru(x, w, r, bias, bias, Keep::Sequence).unwrap();
        let last = b.gru(x, w, r, bias, bias, Keep::Last).unwrap();
        let sum = b.reduce(graph::ReduceOp::Sum, all, &[0, 1, 2], false).unwrap();
        b.mul(last, sum).unwrap()
    });
}

/// B joined in the file, once from weights of its own and once from one that an output needs as it is.
#[test]
fn gru_whose_biases_are_joined_in_the_file() {
    let (t, f, h) = (3, 2, 2);
    let (w, r) = (f32s(3 * h * f), f32s(3 * h * h));
    let (input, recurrent) = (f32s(3 * h), f32s(12)[3 * h..].to_vec());
    for is_own in [true, false] {
        let weights = vec![
            float_proto("w", &[1, 3 * h, f], &w),
            float_proto("r", &[1, 3 * h, h], &r),
            float_proto("b", &[1, 3 * h], &input),
            float_proto("c", &[1, 3 * h], &recurrent),
        ];
        let mut nodes = vec![
            node("Concat", &["b", "c"], &["both"]).int("axis", 1),
            node("GRU", &["x", "w", "r", "both"], &["", "last"])
                .int("layout", 1)
                .int("linear_before_reset", 1),
            node("Squeeze", &["last"], &["h"]),
        ];
        nodes.extend(match is_own {
            true => vec![node("Identity", &["h"], &["y"])],
            false => vec![
                node("Sub", &["c", "c"], &["nothing"]),
                node("ReduceSum", &["nothing"], &["zero"]).int("keepdims", 0),
                node("Add", &["h", "zero"], &["y"]),
            ],
        });
        let bytes = file(&[batch(), number(t as i64), number(f as i64)], weights, nodes);
        let found = check(&bytes, Shape::batch(&[t, f]), |b, x| {
            let w = Tensor::new(vec![f, 3 * h], gates::GRU.matrix_from_onnx(&w, f)).unwrap();
            let r = Tensor::new(vec![h, 3 * h], gates::GRU.matrix_from_onnx(&r, h)).unwrap();
            let biases = [&input, &recurrent].map(|half| gates::GRU.vector_from_onnx(half));
            let [b0, b1] = biases.map(|half| Tensor::new(vec![3 * h], half).unwrap());
            let [w, r, b0, b1] = [w, r, b0, b1].map(|t| b.constant(t).unwrap());
            b.gru(x, w, r, b0, b1, Keep::Last).unwrap()
        });
        let dims = if is_own { vec![3 * h] } else { vec![1, 3 * h] };
        for name in ["b", "c"] {
            let state = found.state(name).unwrap();
            assert_eq!(found.node(state.node).shapes[0], Shape::fixed(&dims), "{name}, own: {is_own}");
        }
    }
}

/// Layer norm as exporters wrote it before it was an operator, with axes as attributes.
#[test]
fn layer_norm_in_parts() {
    let nodes = vec![
        node("ReduceMean", &["x"], &["mean"]).ints("axes", &[-1]),
        node("Sub", &["x", "mean"], &["centred"]),
        node("Constant", &[], &["two"]).float("value_float", 2.0),
        node("Pow", &["centred", "two"], &["squares"]),
        node("ReduceMean", &["squares"], &["variance"]).ints("axes", &[-1]).int("keepdims", 1),
        node("Constant", &[], &["epsilon"]).float("value_float", 1e-5),
        node("Add", &["variance", "epsilon"], &["safe"]),
        node("Sqrt", &["safe"], &["deviation"]),
        node("Div", &["centred", "deviation"], &["normal"]),
        node("Dropout", &["normal"], &["kept"]),
        node("Identity", &["kept"], &["y"]),
    ];
    check(&file(&[batch(), number(5)], Vec::new(), nodes), Shape::batch(&[5]), |b, x| {
        let gamma = b.constant(Tensor::new(vec![5], vec![1.0; 5]).unwrap()).unwrap();
        let beta = b.constant(Tensor::zeros(&[5])).unwrap();
        b.layer_norm(x, gamma, beta, 1e-5).unwrap()
    });
}

#[test]
fn shapes_computed_from_the_batch() {
    let nodes = vec![
        node("Shape", &["x"], &["size"]).int("end", 1),
        node("Constant", &[], &["two"]).ints("value_ints", &[2]),
        node("Mul", &["size", "two"], &["double"]),
        node("Constant", &[], &["three"]).int("value_int", 3),
        node("Constant", &[], &["none"]).tensor("value", integers_proto(&[0])),
        node("Unsqueeze", &["three", "none"], &["width"]),
        node("Concat", &["double", "width"], &["target"]).int("axis", 0),
        node("Reshape", &["x", "target"], &["rows"]),
        node("Flatten", &["rows"], &["y"]),
    ];
    let rows = Shape::new([graph::Dim::Batch(2), graph::Dim::Fixed(3)]);
    check(&file(&[batch(), number(6)], Vec::new(), nodes), Shape::batch(&[6]), |b, x| {
        b.reshape(x, rows).unwrap()
    });
}

#[test]
fn slices_splits_and_pads() {
    let lists = vec![
        integers("starts", &[0, -3]),
        integers("ends", &[i64::MAX, i64::MAX]),
        integers("axes", &[0, 1]),
        integers("parts", &[1, 2]),
        integers("pads", &[0, 1, 0, 0]),
    ];
    let nodes = vec![
        node("Slice", &["x", "starts", "ends", "axes"], &["end"]),
        node("Split", &["end", "parts"], &["one", "two"]).int("axis", -1),
        node("Pad", &["one", "pads"], &["padded"]).string("mode", "constant"),
        node("Concat", &["padded", "two"], &["y"]).int("axis", -1),
    ];
    check(&file(&[batch(), number(5)], lists, nodes), Shape::batch(&[5]), |b, x| {
        let one = b.slice(x, 1, 2, 3).unwrap();
        let padded = b.pad(one, 1, 1, 0).unwrap();
        let two = b.slice(x, 1, 3, 5).unwrap();
        b.concat(&[padded, two], 1).unwrap()
    });
}

#[test]
fn truth_values() {
    let nodes = vec![
        node("Constant", &[], &["half"]).float("value_float", 0.5),
        node("Greater", &["x", "half"], &["above"]),
        node("Cast", &["x"], &["nonzero"]).int("to", proto::BOOL.into()),
        node("Cast", &["nonzero"], &["counted"]).int("to", proto::FLOAT.into()),
        node("Where", &["above", "x", "counted"], &["y"]),
    ];
    check(&file(&[batch(), number(5)], Vec::new(), nodes), Shape::batch(&[5]), |b, x| {
        let half = b.scalar(0.5).unwrap();
        let [zero, one] = [0.0, 1.0].map(|c| b.scalar(c).unwrap());
        let above = b.binary(BinaryOp::Less, half, x).unwrap();
        let counted = b.select(x, one, zero).unwrap();
        b.select(above, x, counted).unwrap()
    });
}

#[test]
fn products_by_numpys_rules() {
    let (vector, stack) = (f32s(3), f32s(2 * 3 * 3));
    let weights = vec![float_proto("v", &[3], &vector), float_proto("m", &[2, 3, 3], &stack)];
    let nodes = vec![
        node("MatMul", &["x", "m"], &["wide"]),
        node("MatMul", &["wide", "v"], &["thin"]),
        node("MatMul", &["v", "wide"], &["across"]),
        node("Add", &["thin", "across"], &["y"]),
    ];
    let x = [number(2), number(3), number(3)];
    check(&file(&x, weights, nodes), Shape::fixed(&[2, 3, 3]), |b, x| {
        let m = b.constant(Tensor::new(vec![2, 3, 3], stack).unwrap()).unwrap();
        let wide = b.matmul(x, m, false, false).unwrap();
        let column = b.constant(Tensor::new(vec![3, 1], vector.clone()).unwrap()).unwrap();
        let row = b.constant(Tensor::new(vec![1, 1, 3], vector).unwrap()).unwrap();
        let row = b.broadcast(row, Shape::fixed(&[2, 1, 3])).unwrap();
        let thin = b.matmul(wide, column, false, false).unwrap();
        let thin = b.reshape(thin, Shape::fixed(&[2, 3])).unwrap();
        let across = b.matmul(row, wide, false, false).unwrap();
        let across = b.reshape(across, Shape::fixed(&[2, 3])).unwrap();
        b.add(thin, across).unwrap()
    });
}

#[test]
fn variadic_maximum_and_old_style_default_inputs() {
    let weights = vec![float_proto("a", &[3], &[0.5; 3]), float_proto("c", &[1], &[-0.5])];
    let bytes = file(&[batch(), number(3)], weights, vec![node("Max", &["x", "a", "c"], &["y"])]);
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    model.graph.as_mut().unwrap().input.push(info("a", &[number(3)]));
    let found = check(&model.encode_to_vec(), Shape::batch(&[3]), |b, x| {
        let half = b.scalar(0.5).unwrap();
        b.binary(BinaryOp::Max, x, half).unwrap()
    });
    assert_eq!(found.inputs().count(), 1);
}

#[test]
fn what_is_outside_the_subset_is_named() {
    let x = [batch(), number(4)];
    let one = |n: NodeProto| file(&x, Vec::new(), vec![n]);
    refused(&one(node("MaxPool", &["x"], &["y"])), "MaxPool", "/net/MaxPool");
    refused(
        &one(NodeProto { domain: "com.microsoft".into(), ..node("Gelu", &["x"], &["y"]) }),
        "Gelu",
        "com.microsoft",
    );
    refused(&one(node("Gelu", &["x"], &["y"]).string("approximate", "tanh")), "Gelu", "tanh");
    refused(&one(node("Relu", &["x"], &["y"]).int("slope", 1)), "Relu", "slope");
    refused(&one(node("Cast", &["x"], &["y"]).int("to", 11)), "Cast", "float64");
    refused(&one(node("Cast", &["x"], &["y"]).int("to", proto::BOOL.into())), "output", "\"y\"");
    let sequence = [batch(), DimensionValue::Symbol("length".into()), number(4)];
    refused(&file(&sequence, Vec::new(), vec![node("Relu", &["x"], &["y"])]), "input", "length");
    let training = vec![
        node("Constant", &[], &["yes"]).tensor(
            "value",
            TensorProto { data_type: proto::BOOL, raw_data: Some(vec![1]), ..TensorProto::default() },
        ),
        node("Dropout", &["x", "", "yes"], &["y"]),
    ];
    refused(&file(&x, Vec::new(), training), "Dropout", "training");
}

#[test]
fn lstm_forms_outside_the_subset() {
    let x = [batch(), number(3), number(2)];
    let weights = || {
        vec![
            float_proto("w", &[1, 8, 2], &f32s(16)),
            float_proto("r", &[1, 8, 2], &f32s(16)),
            float_proto("h0", &[1, 1, 2], &[0.0, 1.0]),
            float_proto("zeros", &[1, 1, 2], &[0.0, 0.0]),
        ]
    };
    let lstm = |inputs: &[&str]| node("LSTM", inputs, &["y"]).int("layout", 1);
    let check = |n: NodeProto, words: &str| refused(&file(&x, weights(), vec![n]), "LSTM", words);
    check(lstm(&["x", "w", "r"]).string("direction", "bidirectional"), "bidirectional");
    check(lstm(&["x", "w", "r"]).float("clip", 3.0), "clips");
    check(lstm(&["x", "w", "r"]).int("input_forget", 1), "couples");
    check(lstm(&["x", "w", "r", "", "", "h0"]), "initial state");
    check(lstm(&["x", "w", "r", "", "", "", "", "w"]), "peephole");
    let plain = file(&x, weights(), vec![lstm(&["x", "w", "r", "", "", "zeros", "zeros"])]);
    assert!(Onnx.decode(&plain).is_ok());
}

#[test]
fn gru_forms_outside_the_subset() {
    let x = [batch(), number(3), number(2)];
    let weights = || {
        vec![
            float_proto("w", &[1, 6, 2], &f32s(12)),
            float_proto("r", &[1, 6, 2], &f32s(12)),
            float_proto("two", &[2, 6, 2], &f32s(24)),
            float_proto("narrow", &[1, 6], &f32s(6)),
            float_proto("h0", &[1, 1, 2], &[0.0, 1.0]),
            float_proto("zeros", &[1, 1, 2], &[0.0, 0.0]),
            integers("lengths", &[3, 3]),
        ]
    };
    let before = |inputs: &[&str]| node("GRU", inputs, &["y"]).int("layout", 1);
    let gru = |inputs: &[&str]| before(inputs).int("linear_before_reset", 1);
    let check = |n: NodeProto, words: &str| refused(&file(&x, weights(), vec![n]), "GRU", words);
    check(before(&["x", "w", "r"]), "reset_after=True");
    check(before(&["x", "w", "r"]).int("linear_before_reset", 0), "linear_before_reset = 1");
    check(gru(&["x", "w", "r"]).string("direction", "reverse"), "reverse");
    check(gru(&["x", "w", "r"]).float("clip", 3.0), "clips");
    check(gru(&["x", "w", "r"]).int("input_forget", 1), "input_forget");
    check(gru(&["x", "w", "r", "", "lengths"]), "sequence lengths");
    check(gru(&["x", "w", "r", "", "", "h0"]), "initial state");
    refused(&file(&x, weights(), vec![gru(&["x", "two", "r"])]), "initializer", "two directions");
    refused(&file(&x, weights(), vec![gru(&["x", "w", "r", "narrow"])]), "GRU", "");
    let plain = file(&x, weights(), vec![gru(&["x", "w", "r", "", "", "zeros"])]);
    assert!(Onnx.decode(&plain).is_ok());
}

#[test]
fn files_that_make_no_sense_are_malformed() {
    let x = [batch(), number(4)];
    let malformed = |bytes: &[u8], words: &str| match Onnx.decode(bytes) {
        Err(CodecError::Malformed(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{words}: {other:?}"),
    };
    malformed(b"", "operator set");
    malformed(b"not a protobuf at all", "");
    malformed(&file(&x, Vec::new(), vec![node("Relu", &["other"], &["y"])]), "\"other\"");
    malformed(&file(&x, Vec::new(), vec![node("Relu", &["x"], &["z"])]), "\"y\"");
    malformed(&file(&x, Vec::new(), vec![node("Relu", &["x"], &["x"])]), "twice");
    malformed(&file(&x, Vec::new(), vec![node("Add", &["x"], &["y"])]), "input 1");
    malformed(&file(&x, Vec::new(), vec![node("Relu", &["x", "x"], &["y"])]), "1 inputs");
    let mut old = ModelProto::decode(file(&x, Vec::new(), Vec::new()).as_slice()).unwrap();
    old.opset_import[0].version = 9;
    refused(&old.encode_to_vec(), "opset", "9");
}

#[test]
fn gelu_of_an_exporter_without_the_operator() {
    let nodes = vec![
        node("Constant", &[], &["root"]).float("value_float", std::f32::consts::SQRT_2),
        node("Div", &["x", "root"], &["inner"]),
        node("Erf", &["inner"], &["erf"]),
        node("Constant", &[], &["one"]).float("value_float", 1.0),
        node("Add", &["erf", "one"], &["wide"]),
        node("Mul", &["x", "wide"], &["twice"]),
        node("Constant", &[], &["half"]).float("value_float", 0.5),
        node("Mul", &["twice", "half"], &["y"]),
    ];
    let bytes = file(&[batch(), number(7)], Vec::new(), nodes);
    let found = Onnx.decode(&bytes).unwrap();
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[7])).unwrap();
    let y = b.unary(UnaryOp::Gelu, x).unwrap();
    b.output("y", y).unwrap();
    let inputs = [noise(14)];
    let (got, expected) = (run(&found, 2, &inputs), run(&b.finish().unwrap(), 2, &inputs));
    // √2 is rounded to f32 in the file.
    assert!(got[0].iter().zip(&expected[0]).all(|(a, b)| (a - b).abs() < 1e-7), "{got:?} for {expected:?}");
}

/// As PyTorch writes a causal net: channels first, pads of their own or of the operator, a global pool.
#[test]
fn convolutions_of_a_usual_exporter() {
    let (t, f) = (6, 3);
    let weights = || {
        vec![
            float_proto("conv1.weight", &[4, 3, 3], &f32s(36)),
            float_proto("conv1.bias", &[4], &f32s(4)),
            float_proto("conv2.weight", &[2, 4, 2], &f32s(16)),
            integers("pads", &[0, 0, 4, 0, 0, 0]),
        ]
    };
    let end = [
        node("GlobalAveragePool", &["r2"], &["pooled"]),
        node("Flatten", &["pooled"], &["y"]).int("axis", 1),
    ];
    let nodes = [
        node("Transpose", &["x"], &["channels"]).ints("perm", &[0, 2, 1]),
        node("Pad", &["channels", "pads"], &["padded"]),
        node("Conv", &["padded", "conv1.weight", "conv1.bias"], &["c1"]).ints("dilations", &[2]),
        node("Relu", &["c1"], &["r1"]),
        node("Conv", &["r1", "conv2.weight"], &["c2"]).ints("pads", &[1, 0]).ints("kernel_shape", &[2]),
        node("Relu", &["c2"], &["r2"]),
    ];
    let bytes = file(&[batch(), number(t), number(f)], weights(), [&nodes[..], &end].concat());
    let kernel = |b: &mut Builder, (o, f, k): (usize, usize, usize)| {
        let w = b.constant(Tensor::new(vec![o, f, k], f32s(o * f * k)).unwrap()).unwrap();
        b.transpose(w, &[2, 1, 0]).unwrap()
    };
    let found = check(&bytes, Shape::batch(&[6, 3]), |b, x| {
        let (w1, w2) = (kernel(b, (4, 3, 3)), kernel(b, (2, 4, 2)));
        let b1 = b.constant(Tensor::new(vec![4], f32s(4)).unwrap()).unwrap();
        let b2 = b.constant(Tensor::zeros(&[2])).unwrap();
        let y = b.conv1d(x, w1, b1, 2).unwrap();
        let y = b.unary(UnaryOp::Relu, y).unwrap();
        let y = b.conv1d(y, w2, b2, 1).unwrap();
        let y = b.unary(UnaryOp::Relu, y).unwrap();
        b.reduce(graph::ReduceOp::Mean, y, &[1], false).unwrap()
    });
    let count = |name: &str| found.nodes.iter().filter(|node| node.op.name() == name).count();
    // The axes' order stays open between the layers; what is left is that of the one pooled place.
    assert_eq!((count("conv1d"), count("transpose")), (2, 1));
    assert_eq!(
        found.state("conv1.weight").map(|s| found.node(s.node).shapes[0].clone()),
        Some(Shape::fixed(&[3, 3, 4]))
    );
}

/// Other padding than causal: by a pad before the op and a slice after it.
#[test]
fn convolutions_with_any_padding() {
    // How it is written, and the zeros before and after that it means for three taps two places apart.
    type Form = (Option<&'static str>, Option<[i64; 2]>, usize, usize);
    let forms: [Form; 6] = [
        (None, None, 0, 0),
        (Some("VALID"), None, 0, 0),
        (Some("SAME_UPPER"), None, 2, 2),
        (Some("SAME_LOWER"), None, 2, 2),
        (Some("NOTSET"), Some([1, 3]), 1, 3),
        (None, Some([6, 1]), 6, 1),
    ];
    for (auto, pads, before, after) in forms {
        let mut conv = node("Conv", &["x", "w"], &["y"]).ints("dilations", &[2]);
        if let Some(auto) = auto {
            conv = conv.string("auto_pad", auto);
        }
        if let Some(pads) = pads {
            conv = conv.ints("pads", &pads);
        }
        let w = float_proto("w", &[2, 3, 3], &f32s(18));
        check(&file(&[batch(), number(3), number(7)], vec![w], vec![conv]), Shape::batch(&[3, 7]), |b, x| {
            // Σ over the taps of what a slice of the padded input gives.
            let padded = b.pad(x, 2, before, after).unwrap();
            let places = 7 + before + after - 4;
            let w = Tensor::new(vec![2, 3, 3], f32s(18)).unwrap();
            let w = b.constant(w).unwrap();
            let mut y = None;
            for tap in 0..3 {
                let part = b.slice(padded, 2, 2 * tap, 2 * tap + places).unwrap();
                let part = b.transpose(part, &[0, 2, 1]).unwrap();
                let w = b.slice(w, 2, tap, tap + 1).unwrap();
                let w = b.reshape(w, Shape::fixed(&[2, 3])).unwrap();
                let product = b.matmul(part, w, false, true).unwrap();
                y = Some(y.map_or(product, |y| b.add(y, product).unwrap()));
            }
            b.transpose(y.unwrap(), &[0, 2, 1]).unwrap()
        });
    }
}

#[test]
fn convolution_forms_outside_the_subset() {
    let x = [batch(), number(4), number(5)];
    let w = || vec![float_proto("w", &[2, 4, 3], &f32s(24))];
    let one = |n: NodeProto| file(&x, w(), vec![n]);
    let conv = || node("Conv", &["x", "w"], &["y"]);
    refused(&one(conv().int("group", 2)), "Conv", "several groups");
    refused(&one(conv().ints("strides", &[2])), "Conv", "stride is not 1");
    refused(&one(conv().ints("pads", &[-1, 0])), "Conv", "negative");
    let square = [batch(), number(4), number(5), number(5)];
    let w = || vec![float_proto("w", &[2, 4, 3], &f32s(24))];
    refused(&file(&square, w(), vec![conv()]), "Conv", "convolutions over one axis");
    let flat = vec![float_proto("w", &[2, 4, 3, 3], &f32s(72))];
    refused(&file(&square, flat, vec![conv()]), "initializer", "no shape for a kernel over one axis");
    for broken in
        [conv().ints("dilations", &[0]), conv().ints("kernel_shape", &[2]), conv().ints("dilations", &[9])]
    {
        let result = Onnx.decode(&one(broken));
        assert!(matches!(result, Err(CodecError::Malformed(_))), "{result:?}");
    }
    let far = Onnx.decode(&one(conv().ints("dilations", &[i64::MAX])));
    assert!(matches!(far, Err(CodecError::Unsupported { .. })), "{far:?}");
}

/// As PyTorch writes `scaled_dot_product_attention`: the root of the scale at queries and keys.
#[test]
fn attention_of_a_usual_exporter() {
    let split = |from: &str, perm: &[i64], to: &str| {
        let four = format!("{to}4");
        [node("Reshape", &[from, "heads"], &[&four]), node("Transpose", &[&four], &[to]).ints("perm", perm)]
    };
    let nodes = [
        &split("x", &[0, 2, 1, 3], "q")[..],
        &split("x", &[0, 2, 3, 1], "k"),
        &split("x", &[0, 2, 1, 3], "v"),
        &[
            node("Sqrt", &["size"], &["size_root"]),
            node("Div", &["one", "size_root"], &["scale"]),
            node("Sqrt", &["scale"], &["root"]),
            node("Mul", &["q", "root"], &["q_scaled"]),
            node("Mul", &["root", "k"], &["k_scaled"]),
            node("MatMul", &["q_scaled", "k_scaled"], &["scores"]),
            node("Add", &["scores", "mask"], &["masked"]),
            node("Softmax", &["masked"], &["weights"]).int("axis", -1),
            node("MatMul", &["weights", "v"], &["mixed"]),
            node("Transpose", &["mixed"], &["joined"]).ints("perm", &[0, 2, 1, 3]),
            node("Reshape", &["joined", "whole"], &["y"]),
        ],
    ]
    .concat();
    let hidden = f32::NEG_INFINITY;
    let mask = [0.0, hidden, hidden, 0.0, 0.0, hidden, 0.0, 0.0, 0.0];
    let constants = vec![
        float_proto("size", &[], &[2.0]),
        float_proto("one", &[1], &[1.0]),
        float_proto("mask", &[1, 1, 3, 3], &mask),
        integers("heads", &[0, 0, 3, 2]),
        integers("whole", &[0, 0, 6]),
    ];
    let bytes = file(&[batch(), number(3), number(6)], constants, nodes);
    let found = check(&bytes, Shape::batch(&[3, 6]), |b, x| b.attention(x, x, x, 3, true).unwrap());
    assert!(found.nodes.iter().any(|node| node.op == Op::Attention { heads: 3, causal: true }));
    assert!(found.nodes.iter().all(|node| node.op.name() != "softmax"));
}
