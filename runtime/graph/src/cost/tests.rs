use super::*;
use crate::op::Keep;

#[test]
fn contractions_count_two_for_each_product() {
    let (a, b, y) = (Shape::batch(&[3]), Shape::fixed(&[3, 4]), Shape::batch(&[4]));
    let op = Op::MatMul { transpose_a: false, transpose_b: false };
    assert_eq!(flops(&op, &[&a, &b], &[y], 10), 2 * 10 * 3 * 4 + (30 + 12 + 40));
    let (x, dy, dw) = (Shape::batch(&[3]), Shape::batch(&[4]), Shape::fixed(&[3, 4]));
    let op = Op::MatMul { transpose_a: true, transpose_b: false };
    assert_eq!(flops(&op, &[&x, &dy], &[dw], 10), 2 * 10 * 3 * 4 + (30 + 40 + 12));
    let inputs = [Shape::batch(&[5, 3]), Shape::fixed(&[3, 8]), Shape::fixed(&[2, 8]), Shape::fixed(&[8])];
    let touched = 10 * 5 * 3 + 24 + 16 + 8 + 10 * 2;
    let op = Op::Lstm { keep: Keep::Last };
    let counted = flops(&op, &inputs.each_ref(), &[Shape::batch(&[2])], 10);
    assert_eq!(counted, 2 * 10 * 5 * (24 + 16) + touched);
    let bias = Shape::fixed(&[6]);
    let inputs = [&Shape::batch(&[5, 3]), &Shape::fixed(&[3, 6]), &Shape::fixed(&[2, 6]), &bias, &bias];
    let touched = 10 * 5 * 3 + 18 + 12 + 6 + 6 + 10 * 2;
    let counted = flops(&Op::Gru { keep: Keep::Last }, &inputs, &[Shape::batch(&[2])], 10);
    assert_eq!(counted, 2 * 10 * 5 * (18 + 12) + touched);
}

#[test]
fn convolutions_and_attention_count_their_products() {
    let (x, w, b) = (Shape::batch(&[5, 3]), Shape::fixed(&[2, 3, 4]), Shape::fixed(&[4]));
    let y = Shape::batch(&[5, 4]);
    let touched = 10 * 5 * 3 + 24 + 10 * 5 * 4;
    let forward = flops(&Op::Conv1d { dilation: 2 }, &[&x, &w, &b], std::slice::from_ref(&y), 10);
    assert_eq!(forward, 2 * 10 * 5 * 24 + touched + 4);
    let backward = [x.clone(), w.clone(), b];
    let backward = flops(&Op::Conv1dBackward { dilation: 2 }, &[&x, &w, &y], &backward, 10);
    assert_eq!(backward, 4 * 10 * 5 * 24 + 2 * (10 * 5 * 3 + 24) + 4 + 10 * 5 * 4);
    let (q, k) = (Shape::batch(&[5, 4]), Shape::batch(&[3, 4]));
    let op = Op::Attention { heads: 2, causal: false };
    let counted = flops(&op, &[&q, &k, &k], std::slice::from_ref(&q), 10);
    assert_eq!(counted, 10 * (2 * 5 * 3 * 4) * 2 + 2 * 10 * 5 * 4 + 2 * 10 * 3 * 4);
}

#[test]
fn counts_saturate() {
    let x = Shape::batch(&[usize::MAX / 2]);
    assert_eq!(flops(&Op::Select, &[&x, &x, &x], std::slice::from_ref(&x), usize::MAX), u64::MAX);
}
