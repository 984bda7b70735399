//! Tests of the codec as a whole.

mod foreign;
mod hostile;
mod refusals;
mod round_trip;

use graph::{Builder, Graph, GraphCodec, Initial, Keep, Shape, UnaryOp, Value, reference};

use crate::Onnx;

/// The graph with a value in every state, as after training.
fn trained(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let values = reference::initial_states(&graph, 3);
    for (state, (_, value)) in graph.states.iter_mut().zip(values) {
        state.initial = Initial::Given(value);
    }
    graph
}

fn encode(graph: &Graph) -> Vec<u8> {
    Onnx.encode(graph).unwrap_or_else(|e| panic!("{e}"))
}

fn decode(bytes: &[u8]) -> Graph {
    Onnx.decode(bytes).unwrap_or_else(|e| panic!("{e}"))
}

/// The outputs by the reference.
fn run(graph: &Graph, batch: usize, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut states = reference::initial_states_f64(graph, 0);
    reference::run(graph, batch, inputs, &mut states).unwrap_or_else(|e| panic!("{e}"))
}

/// Numbers within ±1, another for each place.
fn noise(count: usize) -> Vec<f64> {
    (0..count).map(|i| f64::from(((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0)).collect()
}

fn parameter(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
    b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap()
}

fn lstm(b: &mut Builder, scope: &str, x: Value, features: usize, hidden: usize, keep: Keep) -> Value {
    b.scope(scope);
    let w = parameter(b, &format!("{scope}.w"), &[features, 4 * hidden]);
    let u = parameter(b, &format!("{scope}.u"), &[hidden, 4 * hidden]);
    let bias = b.state(&format!("{scope}.b"), Shape::fixed(&[4 * hidden]), Initial::LstmBias, true).unwrap();
    b.lstm(x, w, u, bias, keep).unwrap()
}

fn gru(b: &mut Builder, scope: &str, x: Value, features: usize, hidden: usize, keep: Keep) -> Value {
    b.scope(scope);
    let w = parameter(b, &format!("{scope}.w"), &[features, 3 * hidden]);
    let u = parameter(b, &format!("{scope}.u"), &[hidden, 3 * hidden]);
    let [bias, recurrent] = ["b", "c"].map(|name| parameter(b, &format!("{scope}.{name}"), &[3 * hidden]));
    b.gru(x, w, u, bias, recurrent, keep).unwrap()
}

/// Two GRU layers.
fn gru_model() -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[5, 3])).unwrap();
    let sequence = gru(&mut b, "gru.0", x, 3, 6, Keep::Sequence);
    let last = gru(&mut b, "gru.1", sequence, 6, 4, Keep::Last);
    b.output("prediction", last).unwrap();
    trained(&b.finish().unwrap())
}

/// Two LSTM layers with a layer norm between, a dense layer with GELU and a head: its parameters come first.
fn model() -> Graph {
    const HIDDEN: usize = 6;
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[5, 3])).unwrap();
    let sequence = lstm(&mut b, "lstm.0", x, 3, HIDDEN, Keep::Sequence);
    b.scope("norm");
    let gamma = b.state("norm.gamma", Shape::fixed(&[HIDDEN]), Initial::Constant(1.0), true).unwrap();
    let beta = b.state("norm.beta", Shape::fixed(&[HIDDEN]), Initial::Zeros, true).unwrap();
    let normal = b.layer_norm(sequence, gamma, beta, 1e-5).unwrap();
    let last = lstm(&mut b, "lstm.1", normal, HIDDEN, HIDDEN, Keep::Last);
    b.scope("head");
    let w = parameter(&mut b, "head.w", &[4, HIDDEN]);
    let bias = parameter(&mut b, "head.b", &[4]);
    let dense = b.matmul(last, w, false, true).unwrap();
    let dense = b.add(dense, bias).unwrap();
    let dense = b.unary(UnaryOp::Gelu, dense).unwrap();
    let scale = b.scalar(0.5).unwrap();
    let scaled = b.mul(dense, scale).unwrap();
    let squared = b.unary(UnaryOp::Square, scaled).unwrap();
    let prediction = b.reduce(graph::ReduceOp::Mean, squared, &[1], true).unwrap();
    b.output("prediction", prediction).unwrap();
    b.output("hidden", last).unwrap();
    trained(&b.finish().unwrap())
}

/// Two causal convolutions with relu, a mean pool and a head.
fn convolutional_model() -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[7, 3])).unwrap();
    let mut y = x;
    for (name, taps, width, outputs, dilation) in [("conv.0", 3, 3, 5, 1), ("conv.1", 2, 5, 4, 2)] {
        b.scope(name);
        let w = parameter(&mut b, &format!("{name}.w"), &[taps, width, outputs]);
        let bias = parameter(&mut b, &format!("{name}.b"), &[outputs]);
        y = b.conv1d(y, w, bias, dilation).unwrap();
        y = b.unary(UnaryOp::Relu, y).unwrap();
    }
    b.scope("head");
    let pooled = b.reduce(graph::ReduceOp::Mean, y, &[1], false).unwrap();
    let w = parameter(&mut b, "head.w", &[4, 1]);
    let bias = parameter(&mut b, "head.b", &[1]);
    let dense = b.matmul(pooled, w, false, false).unwrap();
    let prediction = b.add(dense, bias).unwrap();
    b.output("prediction", prediction).unwrap();
    trained(&b.finish().unwrap())
}

/// Attention over the past and over everything, of two sizes of heads, with dense layers between.
fn attention_model() -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[6, 8])).unwrap();
    b.scope("first");
    let y = b.attention(x, x, x, 4, true).unwrap();
    b.scope("dense");
    let q = parameter(&mut b, "q", &[8, 8]);
    let k = parameter(&mut b, "k", &[8, 8]);
    let v = parameter(&mut b, "v", &[8, 8]);
    let [q, k, v] = [q, k, v].map(|w| b.matmul(y, w, false, false).unwrap());
    b.scope("second");
    let y = b.attention(q, k, v, 2, false).unwrap();
    let y = b.attention(y, k, v, 2, true).unwrap();
    b.output("prediction", y).unwrap();
    trained(&b.finish().unwrap())
}
