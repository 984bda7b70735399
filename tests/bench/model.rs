//! The models that are timed: graphs with random weights, always the same, and what PyTorch needs to build
//! the same from the weights.

use graph::{BuildError, Builder, Graph, Initial, Keep, ReduceOp, Shape, UnaryOp, Value, reference};
use serde_json::json;

/// Where the weights of every model start.
const SEED: u64 = 1;

pub struct Model {
    pub graph: Graph,
    pub steps: usize,
    pub features: usize,
    /// How `peers.py` builds it from the weights.
    pub torch: serde_json::Value,
}

type Built = Result<Value, BuildError>;

fn model(
    (steps, features): (usize, usize),
    torch: serde_json::Value,
    build: impl FnOnce(&mut Builder, Value) -> Built,
) -> Model {
    let make = || -> Result<Graph, Box<dyn std::error::Error>> {
        let mut b = Builder::new();
        let x = b.input("features", Shape::batch(&[steps, features]))?;
        let y = build(&mut b, x)?;
        b.output("prediction", y)?;
        Ok(b.finish()?)
    };
    let mut graph = make().unwrap_or_else(|e| panic!("a model of the bench is wrong: {e}"));
    let weights = reference::initial_states(&graph, SEED);
    for (state, (_, tensor)) in graph.states.iter_mut().zip(weights) {
        state.initial = Initial::Given(tensor);
    }
    Model { graph, steps, features, torch }
}

/// Uniform in ±1/√fan, as PyTorch starts its layers.
fn parameter(b: &mut Builder, name: &str, dims: &[usize], fan: usize) -> Built {
    b.state(name, Shape::fixed(dims), Initial::UniformRoot { n: fan }, true)
}

fn dense(b: &mut Builder, name: &str, x: Value, (inputs, outputs): (usize, usize)) -> Built {
    let w = parameter(b, &format!("{name}.w"), &[inputs, outputs], inputs)?;
    let bias = parameter(b, &format!("{name}.b"), &[outputs], inputs)?;
    let y = b.matmul(x, w, false, false)?;
    b.add(y, bias)
}

fn norm(b: &mut Builder, name: &str, x: Value, width: usize) -> Built {
    let gain = b.state(&format!("{name}.gain"), Shape::fixed(&[width]), Initial::Constant(1.0), true)?;
    let shift = b.state(&format!("{name}.shift"), Shape::fixed(&[width]), Initial::Zeros, true)?;
    b.layer_norm(x, gain, shift, 1e-5)
}

/// The newest step of `[B, steps, width]`.
fn newest(b: &mut Builder, x: Value, steps: usize, width: usize) -> Built {
    let last = b.slice(x, 1, steps - 1, steps)?;
    b.reshape(last, Shape::batch(&[width]))
}

/// A stack of LSTMs and a dense head on the last step.
pub fn lstm(layers: usize, hidden: usize, steps: usize, features: usize) -> Model {
    model((steps, features), json!({"kind": "lstm"}), |b, x| {
        let (mut y, mut width) = (x, features);
        for layer in 0..layers {
            let name = |part: &str| format!("lstm.{layer}.{part}");
            let w = parameter(b, &name("w"), &[width, 4 * hidden], hidden)?;
            let u = parameter(b, &name("u"), &[hidden, 4 * hidden], hidden)?;
            let bias = parameter(b, &name("b"), &[4 * hidden], hidden)?;
            let keep = if layer + 1 < layers { Keep::Sequence } else { Keep::Last };
            y = b.lstm(y, w, u, bias, keep)?;
            width = hidden;
        }
        dense(b, "head", y, (hidden, 1))
    })
}

/// A stack of GRUs and a dense head on the last step.
pub fn gru(layers: usize, hidden: usize, steps: usize, features: usize) -> Model {
    model((steps, features), json!({"kind": "gru"}), |b, x| {
        let (mut y, mut width) = (x, features);
        for layer in 0..layers {
            let name = |part: &str| format!("gru.{layer}.{part}");
            let w = parameter(b, &name("w"), &[width, 3 * hidden], hidden)?;
            let u = parameter(b, &name("u"), &[hidden, 3 * hidden], hidden)?;
            let bias = parameter(b, &name("b"), &[3 * hidden], hidden)?;
            let second = parameter(b, &name("c"), &[3 * hidden], hidden)?;
            let keep = if layer + 1 < layers { Keep::Sequence } else { Keep::Last };
            y = b.gru(y, w, u, bias, second, keep)?;
            width = hidden;
        }
        dense(b, "head", y, (hidden, 1))
    })
}

/// Next to nothing: what a call costs.
pub fn null(steps: usize, features: usize) -> Model {
    model((steps, features), json!({"kind": "dense"}), |b, x| {
        let flat = b.reshape(x, Shape::batch(&[steps * features]))?;
        dense(b, "head", flat, (steps * features, 1))
    })
}

/// Channels, taps and dilation of a convolution.
pub type Convolution = (usize, usize, usize);

/// Causal convolutions with relu, and a dense head on their mean over the window; or on the last step, and then
/// the net slides.
pub fn cnn(layers: &[Convolution], pooled: bool, steps: usize, features: usize) -> Model {
    let torch = json!({"kind": "cnn", "layers": layers, "pooled": pooled});
    model((steps, features), torch, |b, x| {
        let (mut y, mut width) = (x, features);
        for (layer, &(channels, taps, dilation)) in layers.iter().enumerate() {
            let w = parameter(b, &format!("conv.{layer}.w"), &[taps, width, channels], taps * width)?;
            let bias = parameter(b, &format!("conv.{layer}.b"), &[channels], taps * width)?;
            let sum = b.conv1d(y, w, bias, dilation)?;
            y = b.unary(UnaryOp::Relu, sum)?;
            width = channels;
        }
        let one =
            if pooled { b.reduce(ReduceOp::Mean, y, &[1], false)? } else { newest(b, y, steps, width)? };
        dense(b, "head", one, (width, 1))
    })
}

/// An encoder with the norm before each part, and a dense head on the mean over the window.
pub fn transformer(
    layers: usize,
    width: usize,
    heads: usize,
    inner: usize,
    steps: usize,
    features: usize,
) -> Model {
    let torch = json!({"kind": "transformer", "heads": heads});
    model((steps, features), torch, |b, x| {
        let embedded = dense(b, "embed", x, (features, width))?;
        let position = parameter(b, "position", &[steps, width], width)?;
        let mut y = b.add(embedded, position)?;
        for layer in 0..layers {
            let name = |part: &str| format!("layer.{layer}.{part}");
            let normal = norm(b, &name("norm1"), y, width)?;
            let mixed = attention(b, &name("attention"), normal, width, heads)?;
            y = b.add(y, mixed)?;
            let normal = norm(b, &name("norm2"), y, width)?;
            let wide = dense(b, &name("inner"), normal, (width, inner))?;
            let wide = b.unary(UnaryOp::Gelu, wide)?;
            let narrow = dense(b, &name("outer"), wide, (inner, width))?;
            y = b.add(y, narrow)?;
        }
        let y = norm(b, "norm", y, width)?;
        let pooled = b.reduce(ReduceOp::Mean, y, &[1], false)?;
        dense(b, "head", pooled, (width, 1))
    })
}

/// Queries, keys and values from one product, as PyTorch's module has them.
fn attention(b: &mut Builder, name: &str, x: Value, width: usize, heads: usize) -> Built {
    let all = dense(b, &format!("{name}.in"), x, (width, 3 * width))?;
    let split = |b: &mut Builder, part: usize| b.slice(all, 2, part * width, (part + 1) * width);
    let (q, k, v) = (split(b, 0)?, split(b, 1)?, split(b, 2)?);
    let mixed = b.attention(q, k, v, heads, false)?;
    dense(b, &format!("{name}.out"), mixed, (width, width))
}

/// Number `index` of an endless series of unit variance.
fn number(index: u64) -> f32 {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def0);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let unit = ((x ^ (x >> 31)) >> 40) as f64 / f64::from(1u32 << 24);
    ((unit * 2.0 - 1.0) * 3f64.sqrt()) as f32
}

/// Rows `from..from + count` of a made-up feed, end to end.
pub fn rows(from: usize, count: usize, features: usize) -> Vec<f32> {
    (from * features..(from + count) * features).map(|i| number(i as u64)).collect()
}
