//! The formulas against numbers worked out elsewhere: the reference is the truth, so nothing here uses it twice.

use super::*;
use crate::builder::{Builder, DROPOUT_SEED};
use crate::graph::{Initial, Value};
use crate::op::{BinaryOp, Keep, ReduceOp, UnaryOp};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The outputs of one op over inputs of fixed shape.
fn apply_op(op: Op, inputs: &[(&[usize], &[f64])]) -> Vec<Vec<f64>> {
    let mut b = Builder::new();
    let named = inputs.iter().enumerate();
    let values: Vec<Value> =
        named.map(|(i, (dims, _))| b.input(&format!("x{i}"), Shape::fixed(dims)).unwrap()).collect();
    for (slot, value) in b.push(op, &values).unwrap().into_iter().enumerate() {
        b.output(&format!("y{slot}"), value).unwrap();
    }
    let data: Vec<Vec<f64>> = inputs.iter().map(|(_, data)| data.to_vec()).collect();
    run(&b.finish().unwrap(), 1, &data, &mut []).unwrap()
}

fn near(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{got} is not {expected}");
    }
}

#[test]
fn functions_of_one_number() {
    let at = |op, x: f64| elementwise::unary(op, x);
    // Abramowitz and Stegun, table 7.1, and erfc(3.5) from the same table's continuation.
    near(
        &[0.1, 0.5, 1.0, 2.0, -1.0, 3.5, 7.0].map(|x| at(UnaryOp::Erf, x)),
        &[
            0.1124629160182849,
            0.5204998778130465,
            0.8427007929497149,
            0.9953222650189527,
            -0.8427007929497149,
            1.0 - 7.430983723414128e-7,
            1.0,
        ],
    );
    near(&[1.0, -1.0, -40.0].map(|x| at(UnaryOp::Gelu, x)), &[0.8413447460685429, -0.15865525393145705, 0.0]);
    near(
        &[0.0, 1000.0, -1000.0, 2.0].map(|x| at(UnaryOp::Softplus, x)),
        &[std::f64::consts::LN_2, 1000.0, 0.0, 2.1269280110429727],
    );
    near(&[0.0, -800.0, 800.0, 2.0].map(|x| at(UnaryOp::Sigmoid, x)), &[0.5, 0.0, 1.0, 0.8807970779778823]);
    near(&[0.0, -0.0, 2.0, -2.0].map(|x| at(UnaryOp::Sign, x)), &[0.0, 0.0, 1.0, -1.0]);
    near(&[0.0, -3.0, 3.0].map(|x| at(UnaryOp::Relu, x)), &[0.0, 0.0, 3.0]);
    let plain = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Square, UnaryOp::Reciprocal, UnaryOp::Tanh];
    near(&plain.map(|op| at(op, -0.5)), &[0.5, 0.5, 0.25, -2.0, -0.46211715726000973]);
    near(
        &[UnaryOp::Exp, UnaryOp::Log, UnaryOp::Sqrt].map(|op| at(op, 2.0)),
        &[7.38905609893065, std::f64::consts::LN_2, std::f64::consts::SQRT_2],
    );
}

#[test]
fn a_nan_goes_through() {
    for op in UnaryOp::ALL {
        assert!(elementwise::unary(op, f64::NAN).is_nan(), "{}", op.name());
    }
    for op in BinaryOp::ALL {
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN)] {
            let result = elementwise::binary(op, a, b);
            assert!(if op == BinaryOp::Less { result == 0.0 } else { result.is_nan() }, "{}", op.name());
        }
    }
}

#[test]
fn functions_of_two_numbers_broadcast() {
    let binary =
        |op| apply_op(Op::Binary(op), &[(&[2, 1], &[3.0, -2.0]), (&[3], &[1.0, 3.0, -4.0])]).remove(0);
    assert_eq!(binary(BinaryOp::Add), [4.0, 6.0, -1.0, -1.0, 1.0, -6.0]);
    assert_eq!(binary(BinaryOp::Sub), [2.0, 0.0, 7.0, -3.0, -5.0, 2.0]);
    assert_eq!(binary(BinaryOp::Mul), [3.0, 9.0, -12.0, -2.0, -6.0, 8.0]);
    assert_eq!(binary(BinaryOp::Div), [3.0, 1.0, -0.75, -2.0, -2.0 / 3.0, 0.5]);
    assert_eq!(binary(BinaryOp::Max), [3.0, 3.0, 3.0, 1.0, 3.0, -2.0]);
    assert_eq!(binary(BinaryOp::Min), [1.0, 3.0, -4.0, -2.0, -2.0, -4.0]);
    assert_eq!(binary(BinaryOp::Less), [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
    let select = apply_op(Op::Select, &[(&[2, 1], &[0.0, -0.5]), (&[], &[7.0]), (&[2], &[1.0, 2.0])]);
    assert_eq!(select[0], [1.0, 2.0, 7.0, 7.0]);
}

#[test]
fn elements_move_in_row_major_order() {
    let matrix: (&[usize], &[f64]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let moved = |op| apply_op(op, &[matrix]).remove(0);
    assert_eq!(moved(Op::Transpose { axes: vec![1, 0] }), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(moved(Op::Reshape { shape: Shape::fixed(&[3, 2]) }), matrix.1);
    assert_eq!(moved(Op::Slice { axis: 1, start: 1, end: 3 }), [2.0, 3.0, 5.0, 6.0]);
    assert_eq!(
        moved(Op::Pad { axis: 1, before: 1, after: 2 }),
        [0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 4.0, 5.0, 6.0, 0.0, 0.0]
    );
    let joined = apply_op(Op::Concat { axis: 1 }, &[matrix, (&[2, 1], &[8.0, 9.0])]);
    assert_eq!(joined[0], [1.0, 2.0, 3.0, 8.0, 4.0, 5.0, 6.0, 9.0]);
    let repeated = apply_op(Op::Broadcast { shape: Shape::fixed(&[2, 2]) }, &[(&[2, 1], &[3.0, 4.0])]);
    assert_eq!(repeated[0], [3.0, 3.0, 4.0, 4.0]);
    // Axis i of the result is axis axes[i] of the input: [1, 2, 3] becomes [3, 1, 2].
    let cycled = apply_op(Op::Transpose { axes: vec![2, 0, 1] }, &[(&[1, 2, 3], matrix.1)]);
    assert_eq!(cycled[0], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn products_and_reductions() {
    let a: (&[usize], &[f64]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b: (&[usize], &[f64]) = (&[3, 2], &[7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
    let product =
        |transpose_a, transpose_b, a, b| apply_op(Op::MatMul { transpose_a, transpose_b }, &[a, b]).remove(0);
    assert_eq!(product(false, false, a, b), [58.0, 64.0, 139.0, 154.0]);
    assert_eq!(product(true, false, a, a), [17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0]);
    assert_eq!(product(false, true, a, a), [14.0, 32.0, 32.0, 77.0]);
    assert_eq!(product(true, true, a, b), [39.0, 49.0, 59.0, 54.0, 68.0, 82.0, 69.0, 87.0, 105.0]);
    let reduced =
        |op, axes: &[usize]| apply_op(Op::Reduce { op, axes: axes.to_vec(), keep: false }, &[a]).remove(0);
    assert_eq!(reduced(ReduceOp::Sum, &[0]), [5.0, 7.0, 9.0]);
    assert_eq!(reduced(ReduceOp::Mean, &[1]), [2.0, 5.0]);
    assert_eq!(reduced(ReduceOp::Max, &[0, 1]), [6.0]);
}

#[test]
fn normalisations() {
    let row: (&[usize], &[f64]) = (&[3], &[1.0, 2.0, 4.0]);
    near(
        &apply_op(Op::Softmax { axis: 0 }, &[row])[0],
        &[0.04201006613406605, 0.11419519938459449, 0.8437947344813395],
    );
    let shifted = apply_op(Op::LogSoftmax { axis: 0 }, &[(&[2], &[1000.0, 1001.0])]);
    near(&shifted[0], &[-1.3132616875182228, -0.31326168751822286]);
    // Mean 7/3, variance 14/9.
    let gamma: (&[usize], &[f64]) = (&[3], &[1.0, 2.0, 1.0]);
    let beta: (&[usize], &[f64]) = (&[3], &[0.0, 0.0, 1.0]);
    let deviation = (14.0f64 / 9.0 + f64::from(1e-5f32)).sqrt();
    let expected = [-4.0 / 3.0 / deviation, -2.0 / 3.0 / deviation, 1.0 + 5.0 / 3.0 / deviation];
    near(&apply_op(Op::LayerNorm { epsilon: 1e-5 }, &[row, gamma, beta])[0], &expected);
}

#[test]
fn one_lstm_cell_by_hand() {
    // One feature, one hidden, two steps: the gates in the order i, f, g, o.
    let w = [0.5, -0.25, 1.0, 0.75];
    let u = [0.1, 0.2, -0.3, 0.4];
    let b = [0.0, 1.0, 0.1, -0.1];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (mut h, mut c) = (0.0f64, 0.0f64);
    let mut expected = Vec::new();
    for x in [0.8, -1.2] {
        let sum = |gate: usize| x * w[gate] + h * u[gate] + b[gate];
        c = sigmoid(sum(1)) * c + sigmoid(sum(0)) * sum(2).tanh();
        h = sigmoid(sum(3)) * c.tanh();
        expected.push(h);
    }
    let inputs: [(&[usize], &[f64]); 4] =
        [(&[1, 2, 1], &[0.8, -1.2]), (&[1, 4], &w), (&[1, 4], &u), (&[4], &b)];
    near(&apply_op(Op::Lstm { keep: Keep::Sequence }, &inputs)[0], &expected);
    near(&apply_op(Op::Lstm { keep: Keep::Last }, &inputs)[0], &expected[1..]);
    let saved = apply_op(Op::LstmForward, &inputs);
    near(&saved[0], &expected);
    near(&[saved[1][1]], &[c]);
    near(&[saved[2][0]], &[sigmoid(0.4)]);
}

#[test]
fn a_gru_layer_by_hand() {
    // Two hidden units, three steps: a column is a gate's unit, the gates in the order r, z, n.
    let w = [0.5, -0.25, 1.0, 0.75, -0.6, 0.9];
    let u = [[0.1, 0.2, -0.3, 0.4, 0.7, -0.8], [-0.5, 0.6, 0.3, -0.2, 0.25, 0.35]];
    let b = [0.0, 0.1, -0.2, 0.3, 0.1, -0.1];
    let c = [0.2, -0.3, 0.15, 0.05, -0.7, 0.6];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (mut h, mut product) = ([0.0f64; 2], [0.0f64; 2]);
    let mut expected = Vec::new();
    for x in [0.8, -1.2, 0.3] {
        let before = h;
        for unit in 0..2 {
            let input = |gate: usize| x * w[2 * gate + unit] + b[2 * gate + unit];
            let recurrent = |gate: usize| {
                before[0] * u[0][2 * gate + unit] + before[1] * u[1][2 * gate + unit] + c[2 * gate + unit]
            };
            let reset = sigmoid(input(0) + recurrent(0));
            let update = sigmoid(input(1) + recurrent(1));
            product[unit] = recurrent(2);
            let new = (input(2) + reset * product[unit]).tanh();
            h[unit] = new - update * new + update * before[unit];
        }
        expected.extend(h);
    }
    let u = u.concat();
    let inputs: [(&[usize], &[f64]); 5] =
        [(&[1, 3, 1], &[0.8, -1.2, 0.3]), (&[1, 6], &w), (&[2, 6], &u), (&[6], &b), (&[6], &c)];
    near(&apply_op(Op::Gru { keep: Keep::Sequence }, &inputs)[0], &expected);
    near(&apply_op(Op::Gru { keep: Keep::Last }, &inputs)[0], &expected[4..]);
    let saved = apply_op(Op::GruForward, &inputs);
    near(&saved[0], &expected);
    near(&saved[1][..6], &{
        let sums = [0.6, -0.4, 0.75, 0.95];
        let [r0, r1, z0, z1] = sums.map(sigmoid);
        [r0, r1, z0, z1, (-0.38 - 0.7 * r0).tanh(), (0.62 + 0.6 * r1).tanh()]
    });
    near(&saved[2][..2], &c[4..]);
    near(&saved[2][4..], &product);
}

#[test]
fn a_convolution_by_hand() {
    // Two features, one output, two taps three places apart: y[t] = 0.5 + x[t − 3]·(1, 2) + x[t]·(3, −1).
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
    let inputs: [(&[usize], &[f64]); 3] =
        [(&[1, 5, 2], &x), (&[2, 2, 1], &[1.0, 2.0, 3.0, -1.0]), (&[1], &[0.5])];
    let own = |t: usize| 0.5 + 3.0 * x[2 * t] - x[2 * t + 1];
    let expected = [own(0), own(1), own(2), own(3) + 1.0 + 2.0 * 2.0, own(4) + 3.0 + 2.0 * 4.0];
    near(&apply_op(Op::Conv1d { dilation: 3 }, &inputs)[0], &expected);
    let dy = [0.0, 0.0, 0.0, 0.0, 2.0];
    let inputs = [inputs[0], inputs[1], (&[1, 5, 1], &dy[..])];
    let gradients = apply_op(Op::Conv1dBackward { dilation: 3 }, &inputs);
    near(&gradients[0], &[0.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0, 6.0, -2.0]);
    near(&gradients[1], &[6.0, 8.0, 18.0, 20.0]);
    near(&gradients[2], &[2.0]);
}

#[test]
fn attention_by_hand() {
    // Two heads of one feature each, so that the scale is 1.
    let (q, k, v) = ([1.0f64, 0.5, -2.0, 0.0], [0.3, 1.0, -0.7, 2.0], [10.0, 1.0, 20.0, -3.0]);
    let shape: &[usize] = &[1, 2, 2];
    let inputs = [(shape, &q[..]), (shape, &k[..]), (shape, &v[..])];
    let mix = |t: usize, head: usize| {
        let [a, b] = [0, 1].map(|s: usize| (q[2 * t + head] * k[2 * s + head]).exp());
        (a * v[head] + b * v[2 + head]) / (a + b)
    };
    let (heads, causal) = (2, false);
    let expected = [mix(0, 0), mix(0, 1), mix(1, 0), mix(1, 1)];
    near(&apply_op(Op::Attention { heads, causal }, &inputs)[0], &expected);
    let saved = apply_op(Op::AttentionForward { heads, causal: true }, &inputs);
    near(&saved[0], &[10.0, 1.0, mix(1, 0), mix(1, 1)]);
    near(&saved[1], &[0.3, ((-0.6f64).exp() + 1.4f64.exp()).ln(), 0.5, 2.0f64.ln()]);
    // One head of four features: the scale is 1/2.
    let inputs: [(&[usize], &[f64]); 3] = [
        (&[1, 1, 4], &[1.0; 4]),
        (&[1, 2, 4], &[0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]),
        (&[1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    let weight = 1.0 / (1.0 + (-1.0f64).exp());
    near(
        &apply_op(Op::Attention { heads: 1, causal: false }, &inputs)[0],
        &[1.0, 2.0, 3.0, 4.0].map(|x| weight * x),
    );
}

#[test]
fn two_adamw_steps_by_hand() {
    let op = Op::AdamW { beta1: 0.5, beta2: 0.75, epsilon: 0.125, weight_decay: 0.25 };
    let step = |p: f64, m: f64, v: f64, g: f64, t: f64| -> Vec<f64> {
        let numbers = [p, m, v, g, 0.5, t];
        let inputs: Vec<(&[usize], &[f64])> =
            numbers.iter().map(|x| (&[][..], std::slice::from_ref(x))).collect();
        apply_op(op.clone(), &inputs).into_iter().map(|x| x[0]).collect()
    };
    // m = 2, v = 4; unbiased both are the gradient and its square: 4 / (4 + 1/8), and decay of 2/4.
    let first = step(2.0, 0.0, 0.0, 4.0, 1.0);
    near(&first, &[2.0 - 0.5 * (4.0 / 4.125 + 0.5), 2.0, 4.0]);
    // m = 1 − 1 = 0: only the decay moves the parameter.
    let second = step(first[0], first[1], first[2], -2.0, 2.0);
    near(&second, &[first[0] * (1.0 - 0.125), 0.0, 4.0]);
}

#[test]
fn the_dropout_hash_never_changes() {
    // Computed by an implementation in another language from the documented steps.
    let mask = |salt, seed, rate| -> String {
        (0..32).map(|i| if dropout_keeps(salt, seed, i, rate) { '1' } else { '0' }).collect()
    };
    assert_eq!(mask(0, 0, 0.5), MASKS[0]);
    assert_eq!(mask(7, 16_777_215, 0.1), MASKS[1]);
    assert_eq!(mask(u32::MAX, 123_456, 0.9), MASKS[2]);
}

const MASKS: [&str; 3] = [
    "00010101101101000101001110011010",
    "11011111111111111011111111111110",
    "00000000000000000100000000000000",
];

#[test]
fn dropout_drops_at_its_rate_and_apart_for_each_salt_and_seed() {
    const COUNT: u32 = 100_000;
    let keeps =
        |salt, seed, rate| -> Vec<bool> { (0..COUNT).map(|i| dropout_keeps(salt, seed, i, rate)).collect() };
    for rate in [0.0f32, 0.1, 0.5, 0.9] {
        let kept = keeps(3, 77, rate).iter().filter(|&&k| k).count() as f64 / f64::from(COUNT);
        assert!((kept - f64::from(1.0 - rate)).abs() < 0.005, "rate {rate} keeps {kept}");
    }
    let first = keeps(3, 77, 0.5);
    let neighbours = first.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64 / f64::from(COUNT);
    assert!((neighbours - 0.5).abs() < 0.01, "neighbours agree {neighbours}");
    for (salt, seed) in [(3, 78), (4, 77), (77, 3), (3, 77 + 4096)] {
        let other = keeps(salt, seed, 0.5);
        let equal = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / f64::from(COUNT);
        assert!((equal - 0.5).abs() < 0.01, "salt {salt}, seed {seed}: {equal} of the masks agree");
    }
}

#[test]
fn dropout_keeps_the_mean() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::fixed(&[4000])).unwrap();
    let y = b.dropout(x, 0.25).unwrap();
    b.output("y", y).unwrap();
    let graph = b.finish().unwrap();
    assert_eq!(graph.inputs().map(|(name, ..)| name).collect::<Vec<_>>(), ["x", DROPOUT_SEED]);
    let y = &run(&graph, 1, &[vec![3.0; 4000], vec![5.0]], &mut []).unwrap()[0];
    assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0).abs() < 1e-12));
    assert!((y.iter().sum::<f64>() / 4000.0 - 3.0).abs() < 0.1);
}

fn states_graph(names: &[&str], initial: Initial, dims: &[usize]) -> Graph {
    let mut b = Builder::new();
    for name in names {
        let state = b.state(name, Shape::fixed(dims), initial.clone(), true).unwrap();
        b.output(name, state).unwrap();
    }
    b.finish().unwrap()
}

#[test]
fn initial_values_follow_their_formulas() {
    let values = |initial, dims: &[usize]| {
        initial_states(&states_graph(&["w"], initial, dims), 5).remove(0).1.into_data()
    };
    assert_eq!(values(Initial::Zeros, &[3]), [0.0; 3]);
    assert_eq!(values(Initial::Constant(0.5), &[2, 1]), [0.5; 2]);
    assert_eq!(values(Initial::LstmBias, &[8]), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let given = Tensor::new(vec![2], vec![1.0, -3.0]).unwrap();
    assert_eq!(values(Initial::Given(given), &[2]), [1.0, -3.0]);
    let limits = [
        (Initial::Glorot, vec![40, 160], (6.0f32 / 200.0).sqrt()),
        (Initial::Glorot, vec![5, 8, 160], (6.0f32 / 200.0).sqrt()),
        (Initial::UniformRoot { n: 25 }, vec![40, 160], 0.2),
        (Initial::He, vec![40, 160], (6.0f32 / 40.0).sqrt()),
        (Initial::He, vec![5, 8, 160], (6.0f32 / 40.0).sqrt()),
    ];
    for (initial, dims, limit) in limits {
        let drawn = values(initial, &dims);
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        let square = drawn.iter().map(|x| x * x).sum::<f32>() / drawn.len() as f32;
        assert!(drawn.iter().all(|x| x.abs() <= limit));
        assert!(mean.abs() < 0.03 * limit, "mean {mean}");
        assert!((square / (limit * limit / 3.0) - 1.0).abs() < 0.05, "variance {square}");
    }
    let drawn = values(Initial::Normal { deviation: 0.02 }, &[101, 151]);
    let moment = |power| drawn.iter().map(|x| (x / 0.02).powi(power)).sum::<f32>() / drawn.len() as f32;
    assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.05, "{} {}", moment(1), moment(2));
    assert!(moment(3).abs() < 0.15 && (moment(4) - 3.0).abs() < 0.3, "{} {}", moment(3), moment(4));
}

#[test]
fn initial_values_depend_on_seed_and_name_alone() {
    let draw = |names: &[&str], seed| initial_states(&states_graph(names, Initial::Glorot, &[4, 4]), seed);
    let both = draw(&["a", "b"], 1);
    assert_eq!(both, draw(&["a", "b"], 1));
    assert_eq!(both[1], draw(&["b"], 1)[0]);
    assert_ne!(both[0].1, both[1].1);
    assert_ne!(both[0].1, draw(&["a"], 2)[0].1);
}

#[test]
fn updates_see_the_states_before_the_run() {
    let mut b = Builder::new();
    let one = b.state("one", Shape::scalar(), Initial::Constant(1.0), false).unwrap();
    let two = b.state("two", Shape::scalar(), Initial::Constant(2.0), false).unwrap();
    b.update(one, two).unwrap();
    b.update(two, one).unwrap();
    b.output("one", one).unwrap();
    let graph = b.finish().unwrap();
    let mut states = initial_states_f64(&graph, 0);
    assert_eq!(run(&graph, 1, &[], &mut states).unwrap(), [[1.0]]);
    assert_eq!(states, [("one".to_string(), vec![2.0]), ("two".to_string(), vec![1.0])]);
}

#[test]
fn wrong_arguments_are_named() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[2])).unwrap();
    let s = b.state("s", Shape::fixed(&[2]), Initial::Zeros, true).unwrap();
    let y = b.add(x, s).unwrap();
    b.output("y", y).unwrap();
    let graph = b.finish().unwrap();
    let mut states = initial_states_f64(&graph, 0);
    let error =
        |inputs: &[Vec<f64>], states: &mut [(String, Vec<f64>)]| run(&graph, 2, inputs, states).unwrap_err();
    assert_eq!(error(&[], &mut states), ReferenceError::InputCount { expected: 1, given: 0 });
    let short = ReferenceError::InputLength { name: "x".into(), expected: 4, given: 3 };
    assert_eq!(error(&[vec![0.0; 3]], &mut states), short);
    assert!(matches!(error(&[vec![0.0; 4]], &mut []), ReferenceError::State { .. }));
    states[0].1.push(0.0);
    assert!(matches!(error(&[vec![0.0; 4]], &mut states), ReferenceError::State { .. }));
}
