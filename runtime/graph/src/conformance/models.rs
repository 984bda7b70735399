//! Rows of whole models: predictions, and training steps over several runs with each loss.

use super::{Fill, Row, Tolerance};
use crate::builder::{BuildError, Builder};
use crate::graph::{Graph, Initial, Value};
use crate::loss::Loss;
use crate::op::{Keep, ReduceOp, UnaryOp};
use crate::rewrite;
use crate::shape::Shape;
use crate::training::{Optimiser, training_graph};

/// What the model rows are built with.
pub(super) const WINDOW: usize = 6;
pub(super) const FEATURES: usize = 5;

pub(super) fn rows() -> Vec<Row> {
    let lstm = |outputs| model(|b, x| stacked_lstm(b, x, outputs));
    let huber = || Loss::Huber { delta: 0.5 };
    let quantiles = Loss::Pinball { quantiles: vec![0.1, 0.5, 0.9] };
    vec![
        prediction("two-layer LSTM", lstm(2)),
        prediction("two-layer GRU", model(|b, x| stacked_gru(b, x, 2))),
        prediction("perceptron", model(perceptron)),
        prediction("convolutional net", model(convolutional)),
        prediction("transformer", model(transformer)),
        training("two-layer LSTM, mean squared", lstm(2), Loss::MeanSquared, Fill::Noise(1.0)),
        training("two-layer LSTM, huber", lstm(1), huber(), Fill::Outliers(1.0)),
        training("two-layer LSTM, pinball", lstm(3), quantiles, Fill::Noise(1.0)),
        training("two-layer LSTM, cross entropy", lstm(3), Loss::CrossEntropy, Fill::Probabilities(3)),
        training("two-layer GRU, huber", model(|b, x| stacked_gru(b, x, 1)), huber(), Fill::Outliers(1.0)),
        training("perceptron, mean squared", model(perceptron), Loss::MeanSquared, Fill::Noise(1.0)),
        training("convolutional net, huber", model(convolutional), huber(), Fill::Outliers(1.0)),
        training("transformer, mean squared", model(transformer), Loss::MeanSquared, Fill::Noise(1.0)),
    ]
}

fn prediction(name: &str, model: Graph) -> Row {
    let graph = rewrite::inference(&model).unwrap_or_else(|e| panic!("the row {name} is wrong: {e}"));
    Row {
        name: format!("prediction of a {name}"),
        graph,
        batches: vec![1, 4, 32],
        runs: 2,
        fills: vec![Fill::Outliers(1.0)],
        tolerance: Tolerance::scaled(256.0),
    }
}

/// Four steps. Adam's epsilon is large so that a gradient near 0 doesn't decide a step by its rounding.
fn training(name: &str, model: Graph, loss: Loss, target: Fill) -> Row {
    let optimiser = Optimiser { epsilon: 1e-3, clip_norm: Some(0.5), ..Optimiser::default() };
    let graph = training_graph(&model, &loss, &optimiser);
    let graph = graph.unwrap_or_else(|e| panic!("the row {name} is wrong: {e}"));
    let fill = |(input, ..): (&str, _, _)| match input {
        "features" => Fill::Outliers(1.0),
        "dropout_seed" => Fill::Seed,
        "target" => target.clone(),
        "learning_rate" => Fill::Constant(0.01),
        _ => panic!("the row {name} has no fill for {input}"),
    };
    let fills = graph.inputs().map(fill).collect();
    Row {
        name: format!("training of a {name}"),
        graph,
        batches: vec![3, 8],
        runs: 4,
        fills,
        tolerance: Tolerance::scaled(2048.0),
    }
}

pub(super) fn model(build: impl FnOnce(&mut Builder, Value) -> Result<Value, BuildError>) -> Graph {
    let mut builder = Builder::new();
    let built = || -> Result<(), BuildError> {
        let x = builder.input("features", Shape::batch(&[WINDOW, FEATURES]))?;
        let y = build(&mut builder, x)?;
        builder.output("prediction", y)
    }();
    built.unwrap_or_else(|e| panic!("a model row is wrong: {e}"));
    builder.finish().unwrap_or_else(|e| panic!("a model row is wrong: {e}"))
}

/// LSTM, dropout, layer norm, LSTM, dropout, head.
pub(super) fn stacked_lstm(b: &mut Builder, x: Value, outputs: usize) -> Result<Value, BuildError> {
    const HIDDEN: usize = 7;
    let first = lstm_layer(b, "lstm.0", x, FEATURES, HIDDEN, Keep::Sequence)?;
    let first = b.dropout(first, 0.2)?;
    let gain = b.state("norm.gain", Shape::fixed(&[HIDDEN]), Initial::Constant(1.0), true)?;
    let shift = b.state("norm.shift", Shape::fixed(&[HIDDEN]), Initial::Zeros, true)?;
    let normal = b.layer_norm(first, gain, shift, 1e-5)?;
    let last = lstm_layer(b, "lstm.1", normal, HIDDEN, HIDDEN, Keep::Last)?;
    let last = b.dropout(last, 0.5)?;
    dense(b, "head", last, HIDDEN, outputs)
}

/// GRU, dropout, GRU, head.
pub(super) fn stacked_gru(b: &mut Builder, x: Value, outputs: usize) -> Result<Value, BuildError> {
    const HIDDEN: usize = 7;
    let first = gru_layer(b, "gru.0", x, FEATURES, HIDDEN, Keep::Sequence)?;
    let first = b.dropout(first, 0.2)?;
    let last = gru_layer(b, "gru.1", first, HIDDEN, HIDDEN, Keep::Last)?;
    dense(b, "head", last, HIDDEN, outputs)
}

/// Flattened window, two dense layers.
pub(super) fn perceptron(b: &mut Builder, x: Value) -> Result<Value, BuildError> {
    let flat = b.reshape(x, Shape::batch(&[WINDOW * FEATURES]))?;
    let hidden = dense(b, "dense.0", flat, WINDOW * FEATURES, 17)?;
    let hidden = b.unary(UnaryOp::Gelu, hidden)?;
    let hidden = b.dropout(hidden, 0.1)?;
    dense(b, "head", hidden, 17, 2)
}

/// Two causal convolutions, pooled over the window, head.
pub(super) fn convolutional(b: &mut Builder, x: Value) -> Result<Value, BuildError> {
    let y = convolution(b, "conv.0", x, (FEATURES, 9), (3, 1))?;
    let y = convolution(b, "conv.1", y, (9, 6), (2, 2))?;
    let y = b.dropout(y, 0.2)?;
    let pooled = b.reduce(ReduceOp::Mean, y, &[1], false)?;
    dense(b, "head", pooled, 6, 1)
}

/// A causal convolution whose receptive field lies in the window, and the head on the last place: it slides.
pub(super) fn causal_net(b: &mut Builder, x: Value) -> Result<Value, BuildError> {
    let y = convolution(b, "conv.0", x, (FEATURES, 9), (2, 1))?;
    let y = convolution(b, "conv.1", y, (9, 6), (3, 2))?;
    let last = b.slice(y, 1, WINDOW - 1, WINDOW)?;
    let last = b.reshape(last, Shape::batch(&[6]))?;
    dense(b, "head", last, 6, 2)
}

fn convolution(
    b: &mut Builder,
    name: &str,
    x: Value,
    (features, outputs): (usize, usize),
    (taps, dilation): (usize, usize),
) -> Result<Value, BuildError> {
    b.scope(name);
    let shape = Shape::fixed(&[taps, features, outputs]);
    let w = b.state(&format!("{name}.w"), shape, Initial::Glorot, true)?;
    let root = Initial::UniformRoot { n: taps * features };
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[outputs]), root, true)?;
    let y = b.conv1d(x, w, bias, dilation)?;
    b.unary(UnaryOp::Relu, y)
}

/// One layer, the norm before each part: attention over the window and over the past, and a mean pool.
pub(super) fn transformer(b: &mut Builder, x: Value) -> Result<Value, BuildError> {
    const WIDTH: usize = 8;
    let mut y = dense(b, "embed", x, FEATURES, WIDTH)?;
    for (name, causal) in [("attention.0", false), ("attention.1", true)] {
        let gain = b.state(&format!("{name}.gain"), Shape::fixed(&[WIDTH]), Initial::Constant(1.0), true)?;
        let shift = b.state(&format!("{name}.shift"), Shape::fixed(&[WIDTH]), Initial::Zeros, true)?;
        let normal = b.layer_norm(y, gain, shift, 1e-5)?;
        let part = |b: &mut Builder, part: &str| dense(b, &format!("{name}.{part}"), normal, WIDTH, WIDTH);
        let (q, v) = (part(b, "q")?, part(b, "v")?);
        // Without a bias: it would move all scores of a query alike, so its gradient would be 0 but for rounding.
        let w = b.state(&format!("{name}.k.w"), Shape::fixed(&[WIDTH, WIDTH]), Initial::Glorot, true)?;
        let k = b.matmul(normal, w, false, false)?;
        let mixed = b.attention(q, k, v, 2, causal)?;
        let mixed = dense(b, &format!("{name}.out"), mixed, WIDTH, WIDTH)?;
        y = b.add(y, mixed)?;
    }
    let wide = dense(b, "inner", y, WIDTH, 12)?;
    let wide = b.unary(UnaryOp::Gelu, wide)?;
    let pooled = b.reduce(ReduceOp::Mean, wide, &[1], false)?;
    dense(b, "head", pooled, 12, 2)
}

pub(super) fn lstm_layer(
    b: &mut Builder,
    name: &str,
    x: Value,
    features: usize,
    hidden: usize,
    keep: Keep,
) -> Result<Value, BuildError> {
    b.scope(name);
    let w = b.state(&format!("{name}.w"), Shape::fixed(&[features, 4 * hidden]), Initial::Glorot, true)?;
    let root = Initial::UniformRoot { n: hidden };
    let u = b.state(&format!("{name}.u"), Shape::fixed(&[hidden, 4 * hidden]), root, true)?;
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[4 * hidden]), Initial::LstmBias, true)?;
    b.lstm(x, w, u, bias, keep)
}

pub(super) fn gru_layer(
    b: &mut Builder,
    name: &str,
    x: Value,
    features: usize,
    hidden: usize,
    keep: Keep,
) -> Result<Value, BuildError> {
    b.scope(name);
    let w = b.state(&format!("{name}.w"), Shape::fixed(&[features, 3 * hidden]), Initial::Glorot, true)?;
    let root = Initial::UniformRoot { n: hidden };
    let u = b.state(&format!("{name}.u"), Shape::fixed(&[hidden, 3 * hidden]), root.clone(), true)?;
    // Not zeros, so that a bias in the wrong place shows.
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[3 * hidden]), root.clone(), true)?;
    let recurrent = b.state(&format!("{name}.c"), Shape::fixed(&[3 * hidden]), root, true)?;
    b.gru(x, w, u, bias, recurrent, keep)
}

fn dense(b: &mut Builder, name: &str, x: Value, inputs: usize, outputs: usize) -> Result<Value, BuildError> {
    b.scope(name);
    let w = b.state(&format!("{name}.w"), Shape::fixed(&[inputs, outputs]), Initial::Glorot, true)?;
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[outputs]), Initial::Zeros, true)?;
    let y = b.matmul(x, w, false, false)?;
    b.add(y, bias)
}
