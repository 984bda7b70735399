//! Random graphs for this crate's property tests.

use proptest::test_runner::{Config, RngSeed};

use crate::builder::{BuildError, Builder};
use crate::graph::{Graph, Initial, Value};
use crate::op::{BinaryOp, Keep, ReduceOp, UnaryOp};
use crate::shape::{Dim, Shape};
use crate::tensor::Tensor;

/// The same cases at each run; `PROPTEST_CASES` asks for so many others.
pub(crate) fn property_config(cases: u32) -> Config {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config { failure_persistence: None, ..Config::default() },
        None => Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() },
    }
}

/// A valid graph with two inputs, a scalar output "loss" and whatever the choices make between them. `smooth`: only
/// ops without a kink, and values that stay small. Choices that don't fit are passed over.
pub(crate) fn random_graph(choices: &[u16], smooth: bool) -> Graph {
    let mut b = Builder::new();
    let mut values = vec![
        b.input("x", Shape::batch(&[2, 3])).unwrap(),
        b.input("w", Shape::fixed(&[3])).unwrap(),
        b.state("s", Shape::fixed(&[3, 3]), Initial::Glorot, true).unwrap(),
        b.constant(Tensor::new(vec![1, 3], vec![0.5, -0.25, 1.5]).unwrap()).unwrap(),
    ];
    let mut choices = choices.iter().copied().map(usize::from);
    while let Some(kind) = choices.next() {
        let mut pick = |n: usize| choices.next().unwrap_or(0) % n;
        let (x, y) = (values[pick(values.len())], values[pick(values.len())]);
        if let Ok(made) = grow(&mut b, kind, x, y, &mut pick, smooth) {
            let small = b.shape(made).elements(3).is_some_and(|n| n <= 400);
            values.extend(small.then_some(made));
        }
    }
    let mut loss = b.scalar(0.0).unwrap();
    for (i, &value) in values.iter().rev().take(4).enumerate() {
        let bounded = b.unary(UnaryOp::Tanh, value).unwrap();
        let axes: Vec<usize> = (0..b.shape(bounded).rank()).collect();
        let sum =
            if axes.is_empty() { bounded } else { b.reduce(ReduceOp::Mean, bounded, &axes, false).unwrap() };
        loss = b.add(loss, sum).unwrap();
        if i > 0 {
            b.output(&format!("value.{i}"), value).unwrap();
        }
    }
    let state = values[2];
    let two = b.scalar(2.0).unwrap();
    let next = b.mul(state, two).unwrap();
    b.update(state, next).unwrap();
    b.output("loss", loss).unwrap();
    let mut graph = b.finish().unwrap();
    // The loss is the first output, as the gradient's tests read it.
    graph.outputs.rotate_right(1);
    graph
}

fn grow(
    b: &mut Builder,
    kind: usize,
    x: Value,
    y: Value,
    pick: &mut dyn FnMut(usize) -> usize,
    smooth: bool,
) -> Result<Value, BuildError> {
    const SMOOTH: [UnaryOp; 6] =
        [UnaryOp::Neg, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Gelu, UnaryOp::Erf, UnaryOp::Softplus];
    const KINKED: [BinaryOp; 4] = [BinaryOp::Max, BinaryOp::Min, BinaryOp::Less, BinaryOp::Div];
    let rank = b.shape(x).rank();
    let axis = pick(rank.max(1));
    match kind % 20 {
        0 => b.unary(SMOOTH[pick(6)], x),
        1 if smooth => b.add(x, y),
        1 => b.unary(UnaryOp::ALL[pick(14)], x),
        2 => b.sub(x, y),
        3 => {
            let bounded = b.unary(UnaryOp::Tanh, x)?;
            b.mul(bounded, y)
        }
        4 if smooth => b.add(y, x),
        4 => b.binary(KINKED[pick(4)], x, y),
        5 => {
            let axes = [vec![0, 1], vec![1, 0], vec![1, 0, 2], vec![0, 2, 1], vec![2, 1, 0]];
            b.transpose(x, &axes[pick(5)])
        }
        6 => b.slice(x, axis, pick(2), 1 + pick(3)),
        7 => b.pad(x, axis, pick(2), pick(3)),
        8 => b.concat(&[x, y, x], axis),
        9 => b.matmul(x, y, pick(2) == 1, pick(2) == 1),
        10 => b.reduce([ReduceOp::Sum, ReduceOp::Mean][pick(2)], x, &[axis], pick(2) == 1),
        11 if pick(2) == 1 => b.softmax(x, axis),
        11 => b.log_softmax(x, axis),
        12 => b.dropout(x, [0.0, 0.25, 0.5][if smooth { 0 } else { pick(3) }]),
        13 => b.reshape(x, Shape::new([Dim::Batch(6 / (1 + pick(2))), Dim::Fixed(1 + pick(2))])),
        14 => b.broadcast(x, Shape::batch(&[2, 3])),
        15 if smooth => b.scalar(pick(9) as f32 / 4.0 - 1.0),
        15 => b.select(x, y, x),
        18 => {
            let Some(&[_, _, Dim::Fixed(features)]) = Some(b.shape(x).dims()) else {
                return b.unary(UnaryOp::Tanh, x);
            };
            let (taps, outputs) = (1 + pick(3), 1 + pick(3));
            let data = (0..taps * features * outputs).map(|i| ((i * 7 % 13) as f32 - 6.0) / 8.0).collect();
            let w = b.constant(Tensor::new(vec![taps, features, outputs], data).unwrap())?;
            let bias = b.constant(Tensor::zeros(&[outputs]))?;
            b.conv1d(x, w, bias, 1 + pick(2))
        }
        19 => {
            let (q, k) = (b.unary(UnaryOp::Tanh, x)?, b.unary(UnaryOp::Tanh, y)?);
            let (heads, causal) = (1 + pick(2), pick(2) == 1);
            b.attention(q, k, y, heads, causal).or_else(|_| b.attention(q, q, x, 1, causal))
        }
        _ => {
            let hidden = 1 + pick(2);
            let Some(&[_, _, Dim::Fixed(features)]) = Some(b.shape(x).dims()) else {
                return b.unary(UnaryOp::Tanh, x);
            };
            let gates = if kind % 20 == 16 { 4 } else { 3 } * hidden;
            let weight = |b: &mut Builder, rows: usize| {
                let data = (0..rows * gates).map(|i| ((i * 7 % 13) as f32 - 6.0) / 8.0).collect();
                b.constant(Tensor::new(vec![rows, gates], data).unwrap())
            };
            let (w, u) = (weight(b, features)?, weight(b, hidden)?);
            let bias = b.constant(Tensor::zeros(&[gates]))?;
            let keep = [Keep::Last, Keep::Sequence][pick(2)];
            if kind % 20 == 16 { b.lstm(x, w, u, bias, keep) } else { b.gru(x, w, u, bias, bias, keep) }
        }
    }
}

/// A property over graphs of nothing would hold.
#[test]
fn random_graphs_are_not_trivial() {
    let mut seen = std::collections::BTreeMap::new();
    let mut random = 1u64;
    for _ in 0..300 {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) as u16
        };
        let choices: Vec<u16> = (0..80).map(|_| next()).collect();
        for node in random_graph(&choices, false).nodes {
            *seen.entry(node.op.name()).or_insert(0) += 1;
        }
    }
    let wanted = "exp select dropout broadcast reshape transpose slice pad concat matmul reduce_mean softmax \
        log_softmax lstm gru conv1d attention max less div";
    for op in wanted.split_whitespace() {
        assert!(seen.get(op).is_some_and(|&count| count >= 10), "{op}: {seen:?}");
    }
}
