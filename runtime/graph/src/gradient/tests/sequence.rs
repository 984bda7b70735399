//! The causal convolution and attention.

use super::*;

const WEIGHTS: &[f64] = &[0.31, -0.42, 0.57, -0.23, 0.74, -0.61, 0.12];

#[test]
fn conv1d_rule() {
    for (steps, features, outputs, taps, dilation) in
        [(1, 1, 1, 1, 1), (5, 2, 3, 3, 1), (6, 3, 2, 2, 2), (3, 1, 2, 4, 1), (7, 2, 2, 3, 3)]
    {
        let inputs = [
            (Shape::batch(&[steps, features]), PLAIN),
            (Shape::fixed(&[taps, features, outputs]), WEIGHTS),
            (Shape::fixed(&[outputs]), &[0.1, 0.9, -0.2][..]),
        ];
        let name = format!("conv1d of {steps} steps, {taps} taps {dilation} apart");
        check(&name, &inputs, |b, x| Ok(vec![b.conv1d(x[0], x[1], x[2], dilation)?]));
    }
}

#[test]
fn two_convolutions_relu_and_a_pool() {
    let inputs = [
        (Shape::batch(&[5, 2]), PLAIN),
        (Shape::fixed(&[2, 2, 3]), WEIGHTS),
        (Shape::fixed(&[3]), &[0.1, 0.9, -0.2][..]),
        (Shape::fixed(&[3, 3, 2]), &[-0.27, 0.48, 0.15, -0.66, 0.39][..]),
        (Shape::fixed(&[2]), &[0.3, -0.4][..]),
    ];
    check("a small net", &inputs, |b, x| {
        let y = b.conv1d(x[0], x[1], x[2], 1)?;
        let y = b.unary(UnaryOp::Relu, y)?;
        let y = b.conv1d(y, x[3], x[4], 2)?;
        let y = b.unary(UnaryOp::Relu, y)?;
        Ok(vec![b.reduce(ReduceOp::Mean, y, &[1], false)?])
    });
}

/// q, k, v.
fn attention_inputs(steps: usize, places: usize, width: usize) -> [Given<'static>; 3] {
    [
        (Shape::batch(&[steps, width]), PLAIN),
        (Shape::batch(&[places, width]), &[0.31, -0.42, 0.57, -0.23, 0.74, -0.61, 0.12]),
        (Shape::batch(&[places, width]), &[-0.27, 1.48, 0.15, -0.66, 0.39]),
    ]
}

#[test]
fn attention_rules() {
    for (steps, places, width, heads) in [(1, 1, 1, 1), (3, 3, 4, 2), (2, 4, 3, 1), (4, 4, 6, 3)] {
        for causal in [false, true] {
            if causal && steps != places {
                continue;
            }
            let inputs = attention_inputs(steps, places, width);
            let name = format!("attention of {steps} queries, {places} keys, {heads} heads, causal {causal}");
            check(&name, &inputs, |b, x| Ok(vec![b.attention(x[0], x[1], x[2], heads, causal)?]));
            let op = Op::AttentionForward { heads, causal };
            check(&name, &inputs, |b, x| Ok(vec![b.push(op, x)?[0]]));
            check(&name, &inputs[..2], |b, x| Ok(vec![b.attention_weights(x[0], x[1], heads, causal)?]));
        }
    }
}

#[test]
fn attention_of_one_value_with_itself() {
    for causal in [false, true] {
        check("self-attention", &attention_inputs(4, 4, 4)[..1], |b, x| {
            Ok(vec![b.attention(x[0], x[0], x[0], 2, causal)?])
        });
    }
}
