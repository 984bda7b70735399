//! Shapes that come out, and shapes that are refused, as text.

use super::*;
use crate::op::{BinaryOp, UnaryOp};
use crate::tensor::Tensor;

/// "B,3" is `[B, 3]`, "2B" is `[2B]`, "" is a scalar.
fn shape(text: &str) -> Shape {
    Shape::new(text.split(',').filter(|d| !d.is_empty()).map(|dim| match dim.strip_suffix('B') {
        Some("") => Dim::Batch(1),
        Some(n) => Dim::Batch(n.parse().unwrap()),
        None => Dim::Fixed(dim.parse().unwrap()),
    }))
}

/// The op over inputs, given as "B,3; 3", has these outputs, or an error that contains the text.
fn check(op: Op, inputs: &str, expected: Result<&str, &str>) {
    let inputs: Vec<Shape> =
        if inputs == "none" { Vec::new() } else { inputs.split("; ").map(shape).collect() };
    let result = shape_rule(&op, &inputs.iter().collect::<Vec<_>>());
    match (&result, expected) {
        (Ok(shapes), Ok(text)) => {
            assert_eq!(*shapes, text.split("; ").map(shape).collect::<Vec<_>>(), "{op:?}")
        }
        (Err(message), Err(part)) => assert!(message.contains(part), "{op:?}: {message:?} lacks {part:?}"),
        _ => panic!("{op:?} of {inputs:?} gave {result:?}, not {expected:?}"),
    }
}

#[test]
fn elementwise() {
    let add = || Op::Binary(BinaryOp::Add);
    check(Op::Unary(UnaryOp::Exp), "B,3", Ok("B,3"));
    check(Op::Unary(UnaryOp::Exp), "B,3; 3", Err("takes 1 inputs, not 2"));
    check(add(), "B,1,5; 4,1", Ok("B,4,5"));
    check(add(), "B,3; ", Ok("B,3"));
    check(add(), "1; B", Ok("B"));
    check(add(), "B; 5", Err("neither 5 nor 1"));
    check(add(), "B; 2B", Err("neither 2B nor 1"));
    check(add(), "B,1; B", Err("more than one dimension of [B, B]"));
    check(Op::Select, "3,1; 4; B,1,1", Ok("B,3,4"));
    check(Op::Constant(Tensor::zeros(&[2, 3])), "none", Ok("2,3"));
    check(Op::Constant(Tensor::zeros(&[2, 0])), "none", Err("dimension of size 0"));
    check(Op::Dropout { rate: 0.5, salt: 0 }, "B,3; ", Ok("B,3"));
    check(Op::Dropout { rate: 0.5, salt: 0 }, "B,3; 1", Err("the seed is [1], not a scalar"));
    for rate in [1.0, -0.1, f32::NAN] {
        check(Op::Dropout { rate, salt: 0 }, "B,3; ", Err("is not at least 0 and below 1"));
    }
    check(Op::Input { name: "x".into() }, "none", Err("stated, not derived"));
}

#[test]
fn movement() {
    check(Op::Broadcast { shape: shape("B,2,3") }, "2,1", Ok("B,2,3"));
    check(Op::Broadcast { shape: shape("1,3") }, "B,3", Err("doesn't broadcast to"));
    check(Op::Broadcast { shape: shape("3") }, "1,3", Err("doesn't broadcast to"));
    check(Op::Reshape { shape: shape("2B,3") }, "B,6", Ok("2B,3"));
    check(Op::Reshape { shape: shape("6") }, "B,6", Err("equally many elements"));
    check(Op::Reshape { shape: shape("") }, "1,1", Ok(""));
    check(Op::Transpose { axes: vec![1, 0] }, "B,3", Ok("3,B"));
    for axes in [vec![0], vec![0, 0], vec![0, 2], vec![0, 1, 2], vec![]] {
        check(Op::Transpose { axes }, "B,3", Err("not a permutation"));
    }
    let slice = |axis, start, end| Op::Slice { axis, start, end };
    check(slice(1, 1, 3), "B,3", Ok("B,2"));
    check(slice(1, 1, 4), "B,3", Err("not a non-empty part"));
    check(slice(1, 2, 2), "B,3", Err("not a non-empty part"));
    check(slice(0, 0, 1), "B,3", Err("depends on the batch"));
    check(slice(2, 0, 1), "B,3", Err("has no axis 2"));
    check(Op::Pad { axis: 1, before: 1, after: 2 }, "B,3", Ok("B,6"));
    check(Op::Pad { axis: 1, before: usize::MAX, after: 2 }, "B,3", Err("overflows"));
    check(Op::Concat { axis: 1 }, "B,3; B,1", Ok("B,4"));
    check(Op::Concat { axis: 1 }, "B,3; 2,1", Err("differ in more than axis 1"));
    check(Op::Concat { axis: 1 }, "none", Err("at least one input"));
}

#[test]
fn contraction_and_reduction() {
    let matmul = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
    check(matmul(false, false), "B,3; 3,4", Ok("B,4"));
    check(matmul(true, false), "B,3; B,4", Ok("3,4"));
    check(matmul(false, true), "B,2,3; B,4,3", Ok("B,2,4"));
    check(matmul(false, false), "B,2,5,3; 3,4", Ok("B,2,5,4"));
    check(matmul(false, false), "B,3; 4,3", Err("the inner dimensions 3 and 4 differ"));
    check(matmul(false, false), "2,3; B,3,4", Err("leading dimensions"));
    check(matmul(false, false), "B,2,3; 5,3,4", Err("leading dimensions"));
    check(matmul(false, false), "3; 3,4", Err("two or more dimensions"));
    check(matmul(false, true), "B,3; B,3", Err("more than one dimension"));
    let reduce = |axes: &[usize], keep| Op::Reduce { op: ReduceOp::Sum, axes: axes.to_vec(), keep };
    check(reduce(&[0, 2], false), "B,3,4", Ok("3"));
    check(reduce(&[0, 2], true), "B,3,4", Ok("1,3,1"));
    for axes in [&[][..], &[2, 0], &[1, 1], &[3]] {
        check(reduce(axes, false), "B,3,4", Err("sorted, distinct, non-empty"));
    }
}

#[test]
fn fused() {
    check(Op::Softmax { axis: 1 }, "B,3", Ok("B,3"));
    check(Op::LogSoftmax { axis: 0 }, "B,3", Err("depends on the batch"));
    check(Op::LayerNorm { epsilon: 1e-5 }, "B,3; 3; 3", Ok("B,3"));
    check(Op::LayerNorm { epsilon: 1e-5 }, "B,3; 3; 1", Err("gamma and beta is [1], not [3]"));
    check(Op::LayerNorm { epsilon: 0.0 }, "B,3; 3; 3", Err("epsilon is 0, not above 0"));
    check(Op::LayerNorm { epsilon: 1e-5 }, "; 3; 3", Err("no last axis"));
    check(Op::LayerNormBackward { epsilon: 1e-5 }, "B,3; 3; B,3", Ok("B,3; 3; 3"));
    check(Op::LayerNormBackward { epsilon: 1e-5 }, "B,3; 3; B,4", Err("dy is [B, 4]"));
    let inputs = "B,5,3; 3,8; 2,8; 8";
    check(Op::Lstm { keep: Keep::Last }, inputs, Ok("B,2"));
    check(Op::Lstm { keep: Keep::Sequence }, inputs, Ok("B,5,2"));
    check(Op::LstmForward, inputs, Ok("B,5,2; B,5,2; B,5,8"));
    check(Op::LstmForward, "B,5,3; 3,8; 2,8; 4", Err("b is [4], not [8]"));
    check(Op::LstmForward, "B,5,3; 4,8; 2,8; 8", Err("W [F, 4H] is [4, 8], not [3, 8]"));
    check(Op::LstmForward, "B,5,3; 3,8; 2,7; 8", Err("U is [2, 7], not [H, 4H]"));
    check(Op::LstmForward, "B,3; 3,8; 2,8; 8", Err("x is [B, 3], not [B, T, F]"));
    check(Op::LstmForward, "5,B,3; 3,8; 2,8; 8", Err("axis 1 of [5, B, 3] depends on the batch"));
    let saved = "B,5,3; 3,8; 2,8; B,5,2; B,5,2; B,5,8; B,5,2";
    check(Op::LstmBackward, saved, Ok("B,5,3; 3,8; 2,8; 8"));
    check(Op::LstmBackward, "B,5,3; 3,8; 2,8; B,5,2; B,5,2; B,5,2; B,5,2", Err("gates is [B, 5, 2]"));
    let inputs = "B,5,3; 3,6; 2,6; 6; 6";
    check(Op::Gru { keep: Keep::Last }, inputs, Ok("B,2"));
    check(Op::Gru { keep: Keep::Sequence }, inputs, Ok("B,5,2"));
    check(Op::GruForward, inputs, Ok("B,5,2; B,5,6; B,5,2"));
    check(Op::GruForward, "B,5,3; 3,6; 2,6; 6", Err("takes 5 inputs, not 4"));
    check(Op::GruForward, "B,5,3; 3,6; 2,6; 6; 12", Err("c is [12], not [6]"));
    check(Op::GruForward, "B,5,3; 3,8; 2,8; 8; 8", Err("U is [2, 8], not [H, 3H]"));
    check(Op::GruForward, "B,5,3; 4,6; 2,6; 6; 6", Err("W [F, 3H] is [4, 6], not [3, 6]"));
    let saved = "B,5,3; 3,6; 2,6; B,5,2; B,5,6; B,5,2; B,5,2";
    check(Op::GruBackward, saved, Ok("B,5,3; 3,6; 2,6; 6; 6"));
    check(Op::GruBackward, "B,5,3; 3,6; 2,6; B,5,2; B,5,6; B,5,6; B,5,2", Err("q is [B, 5, 6]"));
}

#[test]
fn along_time() {
    let conv = |dilation| Op::Conv1d { dilation };
    check(conv(1), "B,5,3; 2,3,4; 4", Ok("B,5,4"));
    check(conv(9), "7,5,3; 2,3,4; 4", Ok("7,5,4"));
    check(conv(0), "B,5,3; 2,3,4; 4", Err("the dilation is 0"));
    check(conv(usize::MAX), "B,5,3; 2,3,4; 4", Err("further than can be counted"));
    check(conv(usize::MAX), "B,5,3; 1,3,4; 4", Ok("B,5,4"));
    check(conv(1), "B,5,3; 2,2,4; 4", Err("w [K, F, O] is [2, 2, 4], not [2, 3, 4]"));
    check(conv(1), "B,5,3; 3,4; 4", Err("w is [3, 4], not [K, F, O]"));
    check(conv(1), "B,5,3; 2,3,4; 3", Err("b is [3], not [4]"));
    check(conv(1), "B,3; 2,3,4; 4", Err("x is [B, 3], not [B, T, F]"));
    check(conv(1), "5,B,3; 2,3,4; 4", Err("axis 1 of [5, B, 3] depends on the batch"));
    check(Op::Conv1dBackward { dilation: 2 }, "B,5,3; 2,3,4; B,5,4", Ok("B,5,3; 2,3,4; 4"));
    check(Op::Conv1dBackward { dilation: 2 }, "B,5,3; 2,3,4; B,5,3", Err("dy is [B, 5, 3]"));
    let attention = |heads, causal| Op::Attention { heads, causal };
    check(attention(2, false), "B,5,4; B,3,4; B,3,4", Ok("B,5,4"));
    check(attention(2, true), "B,5,4; B,3,4; B,3,4", Err("as many keys as queries, not 3 and 5"));
    check(attention(3, false), "B,5,4; B,3,4; B,3,4", Err("3 heads don't share out 4 features"));
    check(attention(0, false), "B,5,4; B,3,4; B,3,4", Err("0 heads"));
    check(attention(2, false), "B,5,4; B,3,4; B,5,4", Err("v is [B, 5, 4], not [B, 3, 4]"));
    check(attention(2, false), "B,5,4; 7,3,4; 7,3,4", Err("k is [7, 3, 4], not [B, 3, 4]"));
    check(attention(2, false), "B,4; B,3,4; B,3,4", Err("q is [B, 4], not [B, places, D]"));
    let (heads, causal) = (2, true);
    check(Op::AttentionForward { heads, causal }, "B,5,4; B,5,4; B,5,4", Ok("B,5,4; B,2,5"));
    let saved = "B,5,4; B,5,4; B,5,4; B,5,4; B,2,5; B,5,4";
    check(Op::AttentionBackward { heads, causal }, saved, Ok("B,5,4; B,5,4; B,5,4"));
    let saved = "B,5,4; B,5,4; B,5,4; B,5,4; B,5,2; B,5,4";
    check(Op::AttentionBackward { heads, causal }, saved, Err("the logarithms is [B, 5, 2]"));
}

#[test]
fn optimiser() {
    let adamw = |beta1, epsilon, weight_decay| Op::AdamW { beta1, beta2: 0.9, epsilon, weight_decay };
    check(adamw(0.9, 1e-8, 0.0), "2,3; 2,3; 2,3; 2,3; ; ", Ok("2,3; 2,3; 2,3"));
    check(adamw(0.9, 1e-8, 0.0), "2,3; 2,3; 3; 2,3; ; ", Err("v is [3], not [2, 3]"));
    check(adamw(0.9, 1e-8, 0.0), "2; 2; 2; 2; 1; ", Err("the learning rate is [1], not a scalar"));
    check(adamw(0.9, 1e-8, 0.0), "B; B; B; B; ; ", Err("depends on the batch"));
    check(adamw(1.0, 1e-8, 0.0), "2; 2; 2; 2; ; ", Err("beta1 is 1"));
    check(adamw(0.9, 0.0, 0.0), "2; 2; 2; 2; ; ", Err("epsilon is 0"));
    check(adamw(0.9, 1e-8, -1.0), "2; 2; 2; 2; ; ", Err("weight_decay is -1"));
}

#[test]
fn too_many_dimensions() {
    check(Op::Reshape { shape: shape("1,1,1,1,1,1,1,1,1") }, "1", Err("more than 8 dimensions"));
}
