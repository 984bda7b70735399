use std::collections::VecDeque;

use super::*;
use crate::graph::Initial;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};

const WINDOW: usize = 8;
const FEATURES: usize = 3;

/// x `[B, WINDOW, FEATURES]` through `f`.
fn model(f: impl FnOnce(&mut Builder, Value) -> Value) -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[WINDOW, FEATURES])).unwrap();
    let y = f(&mut b, x);
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

fn weights(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
    b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap()
}

/// A causal convolution of three taps, `dilation` apart, and relu.
fn convolution(b: &mut Builder, x: Value, width: usize, dilation: usize) -> Value {
    let depth = b.shape(x).dims()[2].fixed().unwrap();
    let padded = b.pad(x, 1, 2 * dilation, 0).unwrap();
    let at = |b: &mut Builder, n: usize| b.slice(padded, 1, n * dilation, n * dilation + WINDOW).unwrap();
    let taps = [at(b, 0), at(b, 1), at(b, 2)];
    let all = b.concat(&taps, 2).unwrap();
    let name = format!("w{dilation}");
    let w = weights(b, &name, &[3 * depth, width]);
    let bias =
        b.state(&format!("b{dilation}"), Shape::fixed(&[width]), Initial::Constant(0.1), true).unwrap();
    let y = b.matmul(all, w, false, false).unwrap();
    let y = b.add(y, bias).unwrap();
    b.unary(UnaryOp::Relu, y).unwrap()
}

/// The same as one op.
fn conv1d(b: &mut Builder, x: Value, width: usize, taps: usize, dilation: usize) -> Value {
    let depth = b.shape(x).dims()[2].fixed().unwrap();
    let w = weights(b, &format!("w{dilation}"), &[taps, depth, width]);
    let bias =
        b.state(&format!("b{dilation}"), Shape::fixed(&[width]), Initial::Constant(0.1), true).unwrap();
    let y = b.conv1d(x, w, bias, dilation).unwrap();
    b.unary(UnaryOp::Relu, y).unwrap()
}

fn last(b: &mut Builder, x: Value, width: usize) -> Value {
    let step = b.slice(x, 1, WINDOW - 1, WINDOW).unwrap();
    b.reshape(step, Shape::batch(&[width])).unwrap()
}

fn lstm(b: &mut Builder, x: Value, name: &str, hidden: usize, keep: Keep) -> Value {
    let depth = b.shape(x).dims()[2].fixed().unwrap();
    let w = weights(b, &format!("{name}w"), &[depth, 4 * hidden]);
    let u = weights(b, &format!("{name}u"), &[hidden, 4 * hidden]);
    let bias = b.state(&format!("{name}b"), Shape::fixed(&[4 * hidden]), Initial::LstmBias, true).unwrap();
    b.lstm(x, w, u, bias, keep).unwrap()
}

fn head(b: &mut Builder, x: Value, width: usize) -> Value {
    let w = weights(b, "head", &[width, 2]);
    b.matmul(x, w, false, false).unwrap()
}

fn run(graph: &Graph, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut states = reference::initial_states_f64(graph, 0);
    reference::run(graph, 1, inputs, &mut states).unwrap()
}

/// The layers over a window of rows, as a graph of their own.
fn stack(layers: &[Layer], width: usize) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("x", Shape::batch(&[WINDOW, width])).unwrap();
    for layer in layers {
        let mut inputs = vec![x];
        for weight in &layer.weights {
            inputs.push(b.constant(weight.clone()).unwrap());
        }
        x = b.push(layer.op.clone(), &inputs).unwrap()[0];
    }
    b.output("h", x).unwrap();
    b.finish().unwrap()
}

/// Row by row through the parts, against the whole window at each row.
fn check(graph: &Graph) -> Sliding {
    let sliding = split(graph, WINDOW).unwrap();
    let rows: Vec<Vec<f64>> = (0..3 * WINDOW)
        .map(|t| (0..FEATURES).map(|f| ((t * 7 + f * 5) % 11) as f64 / 5.0 - 1.0).collect())
        .collect();
    let mut past: Vec<VecDeque<Vec<f64>>> = sliding
        .front
        .inputs()
        .skip(1)
        .zip(&sliding.taps)
        .map(|((_, _, shape), tap)| vec![vec![0.0; shape.elements(1).unwrap()]; tap.delay].into())
        .collect();
    let mut read = Vec::new();
    for (t, row) in rows.iter().enumerate() {
        let taps = past.iter_mut().map(|past| past.pop_front().unwrap());
        let inputs: Vec<Vec<f64>> = std::iter::once(row.clone()).chain(taps).collect();
        let mut outputs = run(&sliding.front, &inputs);
        past.iter_mut().zip(outputs.drain(1..)).for_each(|(past, value)| past.push_back(value));
        let front = outputs.swap_remove(0);
        read.push(front.clone());
        if t + 1 < WINDOW {
            continue;
        }
        let got = match &sliding.head {
            None => front,
            Some(head) => {
                let window = read[t + 1 - WINDOW..].concat();
                let h = run(&stack(&sliding.layers, front.len()), &[window]).swap_remove(0);
                let hidden = head.inputs().next().unwrap().2.elements(1).unwrap();
                run(head, &[h[h.len() - hidden..].to_vec()]).swap_remove(0)
            }
        };
        let want = run(graph, &[rows[t + 1 - WINDOW..=t].concat()]).swap_remove(0);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-12, "row {t}: {got} is not {want}");
        }
    }
    sliding
}

#[test]
fn stacked_convolutions_read_past_rows() {
    let sliding = check(&model(|b, x| {
        let y = convolution(b, x, 4, 1);
        let y = convolution(b, y, 5, 2);
        let y = last(b, y, 5);
        head(b, y, 5)
    }));
    let delays: Vec<usize> = sliding.taps.iter().map(|tap| tap.delay).collect();
    assert_eq!(delays, [2, 1, 4, 2]);
    assert!(sliding.layers.is_empty() && sliding.head.is_none());
}

#[test]
fn stacked_causal_convolutions_read_past_rows() {
    let sliding = check(&model(|b, x| {
        let y = conv1d(b, x, 4, 3, 1);
        let y = conv1d(b, y, 5, 2, 5);
        let y = last(b, y, 5);
        head(b, y, 5)
    }));
    let delays: Vec<usize> = sliding.taps.iter().map(|tap| tap.delay).collect();
    assert_eq!(delays, [2, 1, 5]);
    assert!(sliding.layers.is_empty() && sliding.head.is_none());
    let moved = model(|b, x| {
        let early = b.slice(x, 1, 0, WINDOW - 2).unwrap();
        let y = conv1d(b, early, 4, 3, 2);
        let y = b.slice(y, 1, WINDOW - 3, WINDOW - 2).unwrap();
        let y = b.reshape(y, Shape::batch(&[4])).unwrap();
        head(b, y, 4)
    });
    check(&moved);
}

#[test]
fn a_residual_sum_and_an_earlier_place_are_shifted_alike() {
    check(&model(|b, x| {
        let y = convolution(b, x, FEATURES, 1);
        let moved = b.pad(x, 1, 3, 0).unwrap();
        let moved = b.slice(moved, 1, 0, WINDOW).unwrap();
        let y = b.binary(BinaryOp::Mul, y, moved).unwrap();
        let early = b.slice(y, 1, WINDOW - 3, WINDOW - 2).unwrap();
        let y = b.reshape(early, Shape::batch(&[FEATURES])).unwrap();
        head(b, y, FEATURES)
    }));
}

#[test]
fn recurrent_layers_stand_between_a_front_and_a_head() {
    let sliding = check(&model(|b, x| {
        let scale = b.constant(Tensor::new(vec![1, 1, FEATURES], vec![0.5, 2.0, -1.0]).unwrap()).unwrap();
        let x = b.binary(BinaryOp::Mul, x, scale).unwrap();
        let w = weights(b, "project", &[FEATURES, 4]);
        let x = b.matmul(x, w, false, false).unwrap();
        let x = lstm(b, x, "a", 5, Keep::Sequence);
        let x = lstm(b, x, "b", 4, Keep::Last);
        let x = b.unary(UnaryOp::Tanh, x).unwrap();
        head(b, x, 4)
    }));
    assert_eq!(sliding.layers.len(), 2);
    assert!(sliding.taps.is_empty());
}

#[test]
fn the_last_step_of_a_sequence_is_as_good_as_the_last_alone() {
    check(&model(|b, x| {
        let x = lstm(b, x, "a", 5, Keep::Sequence);
        let x = last(b, x, 5);
        head(b, x, 5)
    }));
}

#[test]
fn what_cannot_slide_says_why() {
    let why = |graph: Graph| split(&graph, WINDOW).unwrap_err();
    let deep = model(|b, x| {
        let y = convolution(b, x, 4, 4);
        let y = last(b, y, 4);
        head(b, y, 4)
    });
    assert!(why(deep).contains("zeros before the window"), "a receptive field of nine in a window of eight");
    let deep = model(|b, x| {
        let y = conv1d(b, x, 4, 3, 4);
        let y = last(b, y, 4);
        head(b, y, 4)
    });
    assert!(why(deep).contains("zeros before the window"), "as one op");
    let attention = model(|b, x| {
        let y = b.attention(x, x, x, 1, true).unwrap();
        let y = last(b, y, FEATURES);
        head(b, y, FEATURES)
    });
    assert!(why(attention).contains("along time"));
    let pooled = model(|b, x| {
        let y = b.reduce(ReduceOp::Mean, x, &[1], false).unwrap();
        head(b, y, FEATURES)
    });
    assert!(why(pooled).contains("along time"));
    let flat = model(|b, x| {
        let y = b.reshape(x, Shape::batch(&[WINDOW * FEATURES])).unwrap();
        head(b, y, WINDOW * FEATURES)
    });
    assert!(why(flat).contains("mixes places"));
    let padded = model(|b, x| {
        let y = convolution(b, x, 4, 1);
        let y = lstm(b, y, "a", 5, Keep::Last);
        head(b, y, 5)
    });
    assert!(why(padded).contains("whole window"), "the layer would read what zeros reach");
    let positions = model(|b, x| {
        let at = Tensor::new(vec![WINDOW, 1], (0..WINDOW).map(|i| i as f32).collect()).unwrap();
        let at = b.constant(at).unwrap();
        let y = b.add(x, at).unwrap();
        let y = last(b, y, FEATURES);
        head(b, y, FEATURES)
    });
    assert!(why(positions).contains("place to place"));
    let longer = model(|b, x| {
        let y = b.pad(x, 1, 0, 1).unwrap();
        let y = lstm(b, y, "a", 5, Keep::Last);
        head(b, y, 5)
    });
    assert!(why(longer).contains("9 steps"), "zeros behind the window are steps too");
    let halves = model(|b, x| {
        let y = convolution(b, x, 4, 1);
        let y = b.reshape(y, Shape::new([Dim::Batch(2), Dim::Fixed(WINDOW), Dim::Fixed(2)])).unwrap();
        let step = b.slice(y, 1, WINDOW - 1, WINDOW).unwrap();
        b.reshape(step, Shape::batch(&[4])).unwrap()
    });
    assert!(why(halves).contains("mixes places"), "a place holds halves of others");
    let two = {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[WINDOW, FEATURES])).unwrap();
        let y = last(&mut b, x, FEATURES);
        b.output("one", y).unwrap();
        b.output("two", y).unwrap();
        b.finish().unwrap()
    };
    assert!(why(two).contains("named \"prediction\""));
    let good = model(|b, x| {
        let y = last(b, x, FEATURES);
        head(b, y, FEATURES)
    });
    assert!(split(&good, WINDOW - 1).unwrap_err().contains("8 steps"));
}
