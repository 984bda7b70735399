//! Softmax, layer normalisation, dropout, the LSTM, the GRU, and the losses.

use super::*;
use crate::loss::{Loss, cross_entropy, huber, mean_squared, pinball};

/// One much larger than the rest, so that a softmax saturates but doesn't underflow.
const OUTLIER: &[f64] = &[0.31, -1.42, 9.17, -0.23, 0.74, -8.61, 1.57];

#[test]
fn softmax_rules() {
    for values in [PLAIN, OUTLIER] {
        for (shape, axis) in [(Shape::batch(&[4]), 1), (Shape::batch(&[3, 2]), 1), (Shape::fixed(&[3, 2]), 0)]
        {
            let name = format!("of {shape} along {axis}");
            let input = [(shape, values)];
            check(&format!("softmax {name}"), &input, |b, x| Ok(vec![b.softmax(x[0], axis)?]));
            check(&format!("log_softmax {name}"), &input, |b, x| Ok(vec![b.log_softmax(x[0], axis)?]));
        }
    }
    check("softmax of one", &[(Shape::batch(&[1]), PLAIN)], |b, x| Ok(vec![b.softmax(x[0], 1)?]));
}

#[test]
fn layer_norm_rule() {
    let far: &[f64] = &[50.31, 51.42, 49.17, 50.23, 50.74];
    for values in [PLAIN, OUTLIER, far] {
        for shape in [Shape::batch(&[5]), Shape::batch(&[2, 5]), Shape::fixed(&[5])] {
            let vector = Shape::fixed(&[5]);
            let inputs = [(shape, values), (vector.clone(), POSITIVE), (vector, PLAIN)];
            check("layer_norm", &inputs, |b, x| Ok(vec![b.layer_norm(x[0], x[1], x[2], 1e-3)?]));
        }
    }
    let one = Shape::fixed(&[1]);
    let inputs = [(Shape::batch(&[1]), PLAIN), (one.clone(), POSITIVE), (one, PLAIN)];
    check("layer_norm of one feature", &inputs, |b, x| Ok(vec![b.layer_norm(x[0], x[1], x[2], 1e-3)?]));
}

#[test]
fn dropout_rule() {
    for rate in [0.0, 0.3, 0.9] {
        let inputs = [(Shape::batch(&[17]), PLAIN), (Shape::scalar(), &[4321.0][..])];
        let op = Op::Dropout { rate, salt: 9 };
        check_inputs("dropout", &inputs, &[true, false], |b, x| b.push(op, x));
    }
}

/// x, W, U, b of one layer; weights of a size that opens and closes gates.
fn lstm_inputs(steps: usize, features: usize, hidden: usize) -> [Given<'static>; 4] {
    [
        (Shape::batch(&[steps, features]), PLAIN),
        (Shape::fixed(&[features, 4 * hidden]), &[0.31, -0.42, 0.57, -0.23, 0.74, -0.61, 0.12]),
        (Shape::fixed(&[hidden, 4 * hidden]), &[-0.27, 0.48, 0.15, -0.66, 0.39]),
        (Shape::fixed(&[4 * hidden]), &[0.1, 0.9, -0.2, 0.3, -0.4]),
    ]
}

#[test]
fn lstm_rules() {
    for (steps, features, hidden) in [(1, 1, 1), (4, 2, 3), (1, 3, 2), (5, 1, 1)] {
        let inputs = lstm_inputs(steps, features, hidden);
        for keep in [Keep::Last, Keep::Sequence] {
            let name = format!("lstm {keep:?} of {steps} steps, {features} features, {hidden} hidden");
            check(&name, &inputs, |b, x| Ok(vec![b.lstm(x[0], x[1], x[2], x[3], keep)?]));
        }
        check("lstm_forward", &inputs, |b, x| Ok(vec![b.push(Op::LstmForward, x)?[0]]));
    }
}

#[test]
fn lstm_rule_of_saturated_gates() {
    let mut inputs = lstm_inputs(3, 2, 2);
    inputs[0].1 = &[9.1, -12.4, 15.3];
    check("saturated lstm", &inputs, |b, x| Ok(vec![b.lstm(x[0], x[1], x[2], x[3], Keep::Last)?]));
}

#[test]
fn two_layer_lstm() {
    let first = lstm_inputs(4, 2, 3);
    let [_, second @ ..] = lstm_inputs(4, 3, 2);
    let inputs = [&first[..], &second[..]].concat();
    check("two-layer lstm", &inputs, |b, x| {
        let h = b.lstm(x[0], x[1], x[2], x[3], Keep::Sequence)?;
        Ok(vec![b.lstm(h, x[4], x[5], x[6], Keep::Last)?])
    });
}

/// x, W, U, b, c of one layer; weights of a size that opens and closes gates.
fn gru_inputs(steps: usize, features: usize, hidden: usize) -> [Given<'static>; 5] {
    [
        (Shape::batch(&[steps, features]), PLAIN),
        (Shape::fixed(&[features, 3 * hidden]), &[0.31, -0.42, 0.57, -0.23, 0.74, -0.61, 0.12]),
        (Shape::fixed(&[hidden, 3 * hidden]), &[-0.27, 0.48, 0.15, -0.66, 0.39]),
        (Shape::fixed(&[3 * hidden]), &[0.1, 0.9, -0.2, 0.3, -0.4]),
        (Shape::fixed(&[3 * hidden]), &[-0.35, 0.2, 0.8, -0.7]),
    ]
}

#[test]
fn gru_rules() {
    for (steps, features, hidden) in [(1, 1, 1), (4, 2, 3), (1, 3, 2), (5, 1, 1)] {
        let inputs = gru_inputs(steps, features, hidden);
        for keep in [Keep::Last, Keep::Sequence] {
            let name = format!("gru {keep:?} of {steps} steps, {features} features, {hidden} hidden");
            check(&name, &inputs, |b, x| Ok(vec![b.gru(x[0], x[1], x[2], x[3], x[4], keep)?]));
        }
        check("gru_forward", &inputs, |b, x| Ok(vec![b.push(Op::GruForward, x)?[0]]));
    }
}

#[test]
fn gru_rule_of_saturated_gates() {
    let mut inputs = gru_inputs(3, 2, 2);
    inputs[0].1 = &[9.1, -12.4, 15.3];
    check("saturated gru", &inputs, |b, x| Ok(vec![b.gru(x[0], x[1], x[2], x[3], x[4], Keep::Last)?]));
}

#[test]
fn an_lstm_over_a_gru() {
    let first = gru_inputs(4, 2, 3);
    let [_, second @ ..] = lstm_inputs(4, 3, 2);
    let inputs = [&first[..], &second[..]].concat();
    check("lstm over gru", &inputs, |b, x| {
        let h = b.gru(x[0], x[1], x[2], x[3], x[4], Keep::Sequence)?;
        Ok(vec![b.lstm(h, x[5], x[6], x[7], Keep::Last)?])
    });
}

#[test]
fn the_gradient_of_a_graph_with_gradients() {
    // A penalty on the slope: the second derivative of ordinary ops.
    let mut b = Builder::new();
    let x = b.input("x", Shape::fixed(&[4])).unwrap();
    let y = b.unary(UnaryOp::Tanh, x).unwrap();
    let sum = b.reduce(ReduceOp::Sum, y, &[0], false).unwrap();
    b.output("sum", sum).unwrap();
    let (graph, slopes) = gradient(&b.finish().unwrap(), sum, &[x]).unwrap();
    let mut b = Builder::from_graph(graph);
    let square = b.unary(UnaryOp::Square, slopes[0]).unwrap();
    let penalty = b.reduce(ReduceOp::Sum, square, &[0], false).unwrap();
    let mut graph = b.finish().unwrap();
    graph.outputs = vec![("penalty".into(), penalty)];
    compare("penalty", &graph, penalty, &[x], &[true], &[vec![0.31, -1.42, 0.0, 0.7]]);
}

#[test]
fn losses() {
    type Build = fn(&mut Builder, Value, Value) -> Result<Value, BuildError>;
    // Kinks: an error of 0 or of exactly delta. Every error here is away from both.
    let target: &[f64] = &[1.11, -0.52, 0.67, 2.3, -1.8];
    let probabilities: &[f64] = &[0.1, 0.2, 0.3, 0.4];
    let cases: [(&str, usize, &[f64], Build); 4] = [
        ("mean squared", 4, target, mean_squared),
        ("huber", 4, target, |b, p, t| huber(b, p, t, 0.7)),
        ("pinball", 2, target, |b, p, t| pinball(b, p, t, &[0.1, 0.75])),
        ("cross entropy", 4, probabilities, cross_entropy),
    ];
    for (name, columns, target, build) in cases {
        let inputs = [(Shape::batch(&[4]), PLAIN), (Shape::batch(&[columns]), target)];
        check(name, &inputs, |b, x| Ok(vec![build(b, x[0], x[1])?]));
    }
    assert_eq!(Loss::Pinball { quantiles: vec![0.1, 0.75] }.target_columns(4), Some(2));
}
