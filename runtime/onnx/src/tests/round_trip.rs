//! decode(encode(g)) means the same as g.

use graph::{BinaryOp, Builder, Dim, Graph, Initial, Keep, Op, Shape, conformance};

use super::{
    attention_model, convolutional_model, decode, encode, gru, gru_model, lstm, model, noise, parameter, run,
    trained,
};

/// Whether all of it can be written: no op of training or of a backward pass.
fn is_inference(graph: &Graph) -> bool {
    graph.updates.is_empty()
        && graph.nodes.iter().all(|node| match node.op {
            Op::Dropout { .. }
            | Op::LayerNormBackward { .. }
            | Op::LstmForward
            | Op::LstmBackward
            | Op::GruForward
            | Op::GruBackward
            | Op::Conv1dBackward { .. }
            | Op::AttentionForward { .. }
            | Op::AttentionBackward { .. }
            | Op::AdamW { .. } => false,
            Op::Input { .. }
            | Op::State { .. }
            | Op::Constant(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::MatMul { .. }
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::LayerNorm { .. }
            | Op::Lstm { .. }
            | Op::Gru { .. }
            | Op::Conv1d { .. }
            | Op::Attention { .. } => true,
        })
}

/// Whether a value depends on the batch where no input does: a file couldn't say how large it is.
fn has_unknown_batch(graph: &Graph) -> bool {
    let depends = graph.nodes.iter().flat_map(|node| &node.shapes).any(|shape| shape.depends_on_batch());
    depends && !graph.inputs().any(|(_, _, shape)| shape.depends_on_batch())
}

fn names(graph: &Graph) -> [Vec<&str>; 3] {
    [
        graph.inputs().map(|(name, ..)| name).collect(),
        graph.states.iter().map(|state| state.name.as_str()).collect(),
        graph.outputs.iter().map(|(name, _)| name.as_str()).collect(),
    ]
}

/// Names, shapes and weights are kept, and the outputs are the same up to the order of f64 sums.
fn check(name: &str, graph: &Graph, batch: usize, inputs: &[Vec<f64>]) {
    let back = decode(&encode(graph));
    assert_eq!(names(&back), names(graph), "{name}");
    for (state, original) in back.states.iter().zip(&graph.states) {
        assert_eq!(state.initial, original.initial, "{name}: state {:?}", state.name);
    }
    for ((output, value), (_, original)) in back.outputs.iter().zip(&graph.outputs) {
        assert_eq!(back.shape(*value), graph.shape(*original), "{name}: output {output:?}");
    }
    let (got, expected) = (run(&back, batch, inputs), run(graph, batch, inputs));
    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
        let same = got == expected || (got.is_nan() && expected.is_nan());
        assert!(same || (got - expected).abs() <= 1e-12 * expected.abs(), "{name}: {got} for {expected}");
    }
}

#[test]
fn every_inference_row_of_the_conformance_suite() {
    let mut count = 0;
    for row in conformance::rows() {
        let graph = trained(&row.graph);
        if !is_inference(&graph) || has_unknown_batch(&graph) {
            assert!(
                matches!(
                    graph::GraphCodec::encode(&crate::Onnx, &graph),
                    Err(graph::CodecError::Unsupported { .. })
                ),
                "{} was written",
                row.name
            );
            continue;
        }
        count += 1;
        for &batch in &row.batches {
            let inputs = row.inputs(batch, 0);
            let inputs: Vec<Vec<f64>> =
                inputs.iter().map(|data| data.iter().map(|&x| f64::from(x)).collect()).collect();
            check(&row.name, &graph, batch, &inputs);
        }
    }
    assert!(count > 100, "only {count} rows are inference graphs");
}

#[test]
fn models_come_back_node_for_node() {
    comes_back_node_for_node(model(), 11);
    comes_back_node_for_node(gru_model(), 9);
    comes_back_node_for_node(convolutional_model(), 7);
    comes_back_node_for_node(attention_model(), 4);
}

fn comes_back_node_for_node(mut graph: Graph, sources: usize) {
    let back = decode(&encode(&graph));
    // Sources come first in a file.
    let source = |op: &Op| matches!(op, Op::Input { .. } | Op::State { .. });
    for g in [&back, &graph] {
        assert_eq!(g.nodes.iter().filter(|n| source(&n.op)).count(), sources);
    }
    assert_eq!(back.states, {
        for state in &mut graph.states {
            state.node = back.state(&state.name).unwrap().node;
        }
        graph.states.clone()
    });
    let ops = |g: &Graph| -> Vec<(Op, Vec<Shape>, String)> {
        let computed = g.nodes.iter().filter(|n| !source(&n.op));
        computed.map(|n| (n.op.clone(), n.shapes.clone(), n.scope.clone())).collect()
    };
    assert_eq!(ops(&back), ops(&graph));
    assert_eq!(encode(&decode(&encode(&back))), encode(&back));
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    assert_eq!(encode(&model()), encode(&model()));
    assert_eq!(encode(&gru_model()), encode(&gru_model()));
}

#[test]
fn the_batch_can_stand_anywhere_and_in_multiples() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::new([Dim::Fixed(2), Dim::Batch(1), Dim::Fixed(6)])).unwrap();
    let rows = b.transpose(x, &[1, 0, 2]).unwrap();
    let rows = b.reshape(rows, Shape::new([Dim::Batch(4), Dim::Fixed(3)])).unwrap();
    let one = b.scalar(1.5).unwrap();
    let ones = b.broadcast(one, Shape::new([Dim::Fixed(2), Dim::Batch(4), Dim::Fixed(3)])).unwrap();
    let sum = b.add(rows, ones).unwrap();
    b.output("rows", rows).unwrap();
    b.output("sum", sum).unwrap();
    let graph = b.finish().unwrap();
    for batch in [1, 7] {
        check("multiples", &graph, batch, &[noise(12 * batch)]);
    }
}

#[test]
fn an_input_of_several_rows_a_batch() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::new([Dim::Batch(6), Dim::Fixed(2)])).unwrap();
    let one = b.scalar(2.0).unwrap();
    let ones = b.broadcast(one, Shape::new([Dim::Fixed(1), Dim::Batch(4)])).unwrap();
    let pairs = b.reshape(x, Shape::new([Dim::Batch(3), Dim::Fixed(4)])).unwrap();
    b.output("ones", ones).unwrap();
    b.output("pairs", pairs).unwrap();
    let graph = b.finish().unwrap();
    for batch in [1, 3] {
        check("rows", &graph, batch, &[noise(12 * batch)]);
    }
}

#[test]
fn outputs_may_be_inputs_states_or_twice_the_same() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2])).unwrap();
    let w = b.state("w", Shape::fixed(&[2]), Initial::Glorot, true).unwrap();
    let y = b.mul(x, w).unwrap();
    for (name, value) in [("first", y), ("second", y), ("given", x), ("x", x), ("weight", w), ("w", w)] {
        b.output(name, value).unwrap();
    }
    check("outputs", &trained(&b.finish().unwrap()), 2, &[noise(4)]);
}

#[test]
fn names_that_look_like_ours_do_not_clash() {
    let mut b = Builder::new();
    b.scope("a");
    let x = b.input("integers_0", Shape::batch(&[3])).unwrap();
    let y = b.input("a/add_3", Shape::batch(&[3])).unwrap();
    let part = b.slice(x, 1, 0, 2).unwrap();
    let sum = b.add(x, y).unwrap();
    b.output("a/slice_2", sum).unwrap();
    b.output("part", part).unwrap();
    check("clashes", &b.finish().unwrap(), 2, &[noise(6), noise(6)]);
}

/// A weight that is an output too, or that two places read, stays in our layout and the file computes the rest.
#[test]
fn shared_and_computed_lstm_weights() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[4, 3])).unwrap();
    let h = lstm(&mut b, "lstm", x, 3, 3, Keep::Last);
    b.scope("");
    let graph = b.graph();
    let state = |name: &str| graph::Value { node: graph.state(name).unwrap().node, slot: 0 };
    let (w, bias) = (state("lstm.w"), state("lstm.b"));
    let second = b.lstm(x, w, w, bias, Keep::Sequence).unwrap();
    let doubled = b.binary(BinaryOp::Add, bias, bias).unwrap();
    let third = b.lstm(second, w, w, doubled, Keep::Last).unwrap();
    for (name, value) in [("h", h), ("third", third)] {
        b.output(name, value).unwrap();
    }
    let graph = trained(&b.finish().unwrap());
    for batch in [1, 7] {
        check("shared weights", &graph, batch, &[noise(12 * batch)]);
    }
}

/// As for the LSTM; a bias that another layer reads too, or that is both b and c, is not joined as it is.
#[test]
fn shared_and_computed_gru_weights() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[4, 3])).unwrap();
    let h = gru(&mut b, "gru", x, 3, 3, Keep::Last);
    b.scope("");
    let own = gru(&mut b, "own", x, 3, 2, Keep::Last);
    let graph = b.graph();
    let state = |name: &str| graph::Value { node: graph.state(name).unwrap().node, slot: 0 };
    let (w, bias, recurrent) = (state("gru.w"), state("gru.b"), state("gru.c"));
    let second = b.gru(x, w, w, recurrent, bias, Keep::Sequence).unwrap();
    let doubled = b.binary(BinaryOp::Add, bias, bias).unwrap();
    let third = b.gru(second, w, w, doubled, doubled, Keep::Last).unwrap();
    let lonely = b.state("lonely", Shape::fixed(&[9]), Initial::Glorot, true).unwrap();
    let both = b.gru(second, w, w, lonely, lonely, Keep::Last).unwrap();
    for (name, value) in [("h", h), ("own", own), ("third", third), ("both", both)] {
        b.output(name, value).unwrap();
    }
    let graph = trained(&b.finish().unwrap());
    for batch in [1, 7] {
        check("shared weights", &graph, batch, &[noise(12 * batch)]);
    }
}

#[test]
fn lstms_and_grus_share_a_weight() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[4, 3])).unwrap();
    let h = lstm(&mut b, "lstm", x, 3, 3, Keep::Sequence);
    let graph = b.graph();
    let state = |name: &str| graph::Value { node: graph.state(name).unwrap().node, slot: 0 };
    let (w, bias) = (state("lstm.w"), state("lstm.b"));
    // Twelve columns are three gates of four units, too.
    let u = b.state("u", Shape::fixed(&[4, 12]), Initial::Glorot, true).unwrap();
    let y = b.gru(h, w, u, bias, bias, Keep::Last).unwrap();
    b.output("y", y).unwrap();
    check("a weight of both", &trained(&b.finish().unwrap()), 2, &[noise(24)]);
}

/// A kernel that something else reads too, or that is computed, stays in our layout.
#[test]
fn shared_and_computed_kernels() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[6, 3])).unwrap();
    let w = parameter(&mut b, "w", &[2, 3, 3]);
    let bias = parameter(&mut b, "b", &[3]);
    let first = b.conv1d(x, w, bias, 2).unwrap();
    let doubled = b.add(w, w).unwrap();
    let second = b.conv1d(first, doubled, bias, 1).unwrap();
    b.output("y", second).unwrap();
    let graph = trained(&b.finish().unwrap());
    for batch in [1, 4] {
        check("kernels", &graph, batch, &[noise(18 * batch)]);
    }
}

/// Attention whose weights are an output as well: the op comes back, and what makes the weights stays.
#[test]
fn attention_beside_its_weights() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[5, 4])).unwrap();
    let k = b.input("k", Shape::batch(&[5, 4])).unwrap();
    let y = b.attention(x, k, k, 2, true).unwrap();
    let weights = b.attention_weights(x, k, 2, true).unwrap();
    b.output("y", y).unwrap();
    b.output("weights", weights).unwrap();
    let graph = b.finish().unwrap();
    check("weights", &graph, 3, &[noise(60), noise(60)]);
    let back = decode(&encode(&graph));
    let count = |name: &str| back.nodes.iter().filter(|node| node.op.name() == name).count();
    assert_eq!((count("attention"), count("softmax"), back.nodes.len()), (1, 1, graph.nodes.len()));
}

/// Scores with another scale, a mask that isn't causal, or heads that don't share out the width stay as they are.
#[test]
fn what_is_nearly_attention_stays_as_it_is() {
    for (scale, hidden) in [(0.5, -1e9), (std::f32::consts::FRAC_1_SQRT_2, -1.0)] {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[3, 4])).unwrap();
        let split = b.reshape(x, Shape::batch(&[3, 2, 2])).unwrap();
        let heads = b.transpose(split, &[0, 2, 1, 3]).unwrap();
        let scores = b.matmul(heads, heads, false, true).unwrap();
        let factor = b.scalar(scale).unwrap();
        let scores = b.mul(scores, factor).unwrap();
        let mask = [0.0, hidden, hidden, 0.0, 0.0, hidden, 0.0, 0.0, 0.0];
        let mask = b.constant(graph::Tensor::new(vec![3, 3], mask.to_vec()).unwrap()).unwrap();
        let scores = b.add(scores, mask).unwrap();
        let weights = b.softmax(scores, 3).unwrap();
        let mixed = b.matmul(weights, heads, false, false).unwrap();
        let joined = b.transpose(mixed, &[0, 2, 1, 3]).unwrap();
        let y = b.reshape(joined, Shape::batch(&[3, 4])).unwrap();
        b.output("y", y).unwrap();
        let graph = b.finish().unwrap();
        check("nearly", &graph, 2, &[noise(24)]);
        assert!(decode(&encode(&graph)).nodes.iter().all(|node| node.op.name() != "attention"));
    }
}
