//! What has no gradient, and what has one of zeros.

use super::*;
use crate::graph::Initial;

#[test]
fn a_loss_with_dimensions_is_refused() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2])).unwrap();
    let result = gradient(&b.finish().unwrap(), x, &[x]);
    assert_eq!(result, Err(GradientError::NotScalar { shape: Shape::batch(&[2]) }));
}

#[test]
fn a_value_of_another_graph_is_refused() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::scalar()).unwrap();
    let graph = b.finish().unwrap();
    let stray = Value { node: NodeId(0), slot: 1 };
    assert_eq!(gradient(&graph, x, &[stray]), Err(GradientError::NoSuchValue(stray)));
    assert_eq!(gradient(&graph, stray, &[x]), Err(GradientError::NoSuchValue(stray)));
}

#[test]
fn an_invalid_graph_is_refused() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::scalar()).unwrap();
    let mut graph = b.finish().unwrap();
    graph.nodes[0].inputs.push(x);
    assert!(matches!(gradient(&graph, x, &[x]), Err(GradientError::Invalid(_))));
}

/// Sums one output of the op over inputs of these shapes, and asks for the gradient by the first.
fn gradient_through(op: Op, slot: usize, shapes: &[Shape]) -> Result<(Graph, Vec<Value>), GradientError> {
    let mut b = Builder::new();
    b.scope("here");
    let inputs: Vec<Value> =
        shapes.iter().enumerate().map(|(i, s)| b.input(&format!("x{i}"), s.clone()).unwrap()).collect();
    let y = b.push(op, &inputs).unwrap()[slot];
    let axes: Vec<usize> = (0..b.shape(y).rank()).collect();
    let loss = b.reduce(ReduceOp::Sum, y, &axes, false).unwrap();
    gradient(&b.finish().unwrap(), loss, &inputs[..1])
}

#[test]
fn backward_forms_and_updates_have_no_gradient() {
    let vector = || Shape::fixed(&[4]);
    let lstm = [Shape::batch(&[2, 3]), Shape::fixed(&[3, 4]), Shape::fixed(&[1, 4])];
    let sequence = |width: usize| Shape::batch(&[2, width]);
    let backward = [&lstm[..], &[sequence(1), sequence(1), sequence(4), sequence(1)]].concat();
    let forward = [&lstm[..], &[vector()]].concat();
    let gru = [Shape::batch(&[2, 3]), Shape::fixed(&[3, 3]), Shape::fixed(&[1, 3])];
    let gru_backward = [&gru[..], &[sequence(1), sequence(3), sequence(1), sequence(1)]].concat();
    let gru_forward = [&gru[..], &[Shape::fixed(&[3]), Shape::fixed(&[3])]].concat();
    let scalars = [Shape::scalar(), Shape::scalar()];
    let adamw = [&[vector(), vector(), vector(), vector()][..], &scalars].concat();
    let update = Op::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.0 };
    let convolution = vec![Shape::batch(&[2, 3]), Shape::fixed(&[2, 3, 4]), Shape::batch(&[2, 4])];
    let (heads, causal) = (2, false);
    let logarithms = Shape::batch(&[2, 3]);
    let attention = vec![Shape::batch(&[3, 4]); 3];
    let attention_backward = [&attention[..2], &attention[..2], &[logarithms], &attention[..1]].concat();
    let cases = [
        (Op::Conv1dBackward { dilation: 1 }, 0, convolution),
        (Op::AttentionForward { heads, causal }, 1, attention),
        (Op::AttentionBackward { heads, causal }, 0, attention_backward),
        (Op::LayerNormBackward { epsilon: 1e-5 }, 0, vec![Shape::batch(&[4]), vector(), Shape::batch(&[4])]),
        (Op::LstmForward, 1, forward.clone()),
        (Op::LstmForward, 2, forward),
        (Op::LstmBackward, 0, backward),
        (Op::GruForward, 1, gru_forward.clone()),
        (Op::GruForward, 2, gru_forward),
        (Op::GruBackward, 0, gru_backward),
        (update, 0, adamw),
    ];
    for (op, slot, shapes) in cases {
        let name = op.name();
        match gradient_through(op, slot, &shapes) {
            Err(GradientError::NotDifferentiable { op, scope, .. }) => {
                assert_eq!((op, scope.as_str()), (name, "here"))
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_the_loss_does_not_depend_on_has_a_gradient_of_zeros() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2])).unwrap();
    let loss = b.state("w", Shape::scalar(), Initial::Constant(2.0), true).unwrap();
    b.output("loss", loss).unwrap();
    let (mut graph, gradients) = gradient(&b.finish().unwrap(), loss, &[x, loss]).unwrap();
    graph.outputs = vec![("dx".into(), gradients[0]), ("dw".into(), gradients[1])];
    let mut states = reference::initial_states_f64(&graph, 0);
    let computed = reference::run(&graph, 2, &[vec![5.0; 4]], &mut states).unwrap();
    assert_eq!(computed, [vec![0.0; 4], vec![1.0]]);
}

#[test]
fn a_gru_off_the_way_stays_as_it_is() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2, 3])).unwrap();
    let w = b.state("w", Shape::fixed(&[3, 3]), Initial::Glorot, true).unwrap();
    let u = b.state("u", Shape::fixed(&[1, 3]), Initial::Glorot, true).unwrap();
    let bias = b.state("b", Shape::fixed(&[3]), Initial::Zeros, true).unwrap();
    let gain = b.state("gain", Shape::fixed(&[1]), Initial::Glorot, true).unwrap();
    let h = b.gru(x, w, u, bias, bias, Keep::Last).unwrap();
    let y = b.mul(h, gain).unwrap();
    let loss = b.reduce(ReduceOp::Sum, y, &[0, 1], false).unwrap();
    b.output("loss", loss).unwrap();
    let graph = b.finish().unwrap();
    let forms = |graph: &Graph, name: &str| graph.nodes.iter().filter(|n| n.op.name() == name).count();
    let (by_gain, _) = gradient(&graph, loss, &[gain]).unwrap();
    assert_eq!((forms(&by_gain, "gru"), forms(&by_gain, "gru_forward")), (1, 0));
    let (by_bias, _) = gradient(&graph, loss, &[bias]).unwrap();
    assert_eq!((forms(&by_bias, "gru"), forms(&by_bias, "gru_backward")), (0, 1));
}

#[test]
fn attention_off_the_way_stays_as_it_is() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3, 4])).unwrap();
    let gain = b.state("gain", Shape::fixed(&[4]), Initial::Glorot, true).unwrap();
    let y = b.attention(x, x, x, 2, true).unwrap();
    let y = b.mul(y, gain).unwrap();
    let loss = b.reduce(ReduceOp::Sum, y, &[0, 1, 2], false).unwrap();
    let graph = b.finish().unwrap();
    let forms = |graph: &Graph, name: &str| graph.nodes.iter().filter(|n| n.op.name() == name).count();
    let (by_gain, _) = gradient(&graph, loss, &[gain]).unwrap();
    assert_eq!((forms(&by_gain, "attention"), forms(&by_gain, "attention_forward")), (1, 0));
    let (by_x, _) = gradient(&graph, loss, &[x]).unwrap();
    assert_eq!((forms(&by_x, "attention"), forms(&by_x, "attention_backward")), (0, 1));
}

#[test]
fn an_lstm_off_the_way_stays_as_it_is() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2, 3])).unwrap();
    let w = b.state("w", Shape::fixed(&[3, 4]), Initial::Glorot, true).unwrap();
    let u = b.state("u", Shape::fixed(&[1, 4]), Initial::Glorot, true).unwrap();
    let bias = b.state("b", Shape::fixed(&[4]), Initial::LstmBias, true).unwrap();
    let gain = b.state("gain", Shape::fixed(&[1]), Initial::Glorot, true).unwrap();
    let h = b.lstm(x, w, u, bias, Keep::Last).unwrap();
    let y = b.mul(h, gain).unwrap();
    let loss = b.reduce(ReduceOp::Sum, y, &[0, 1], false).unwrap();
    b.output("loss", loss).unwrap();
    let graph = b.finish().unwrap();
    let forms = |graph: &Graph, name: &str| graph.nodes.iter().filter(|n| n.op.name() == name).count();
    let (by_gain, _) = gradient(&graph, loss, &[gain]).unwrap();
    assert_eq!((forms(&by_gain, "lstm"), forms(&by_gain, "lstm_forward")), (1, 0));
    let (by_weight, _) = gradient(&graph, loss, &[w]).unwrap();
    assert_eq!((forms(&by_weight, "lstm"), forms(&by_weight, "lstm_backward")), (0, 1));
}
