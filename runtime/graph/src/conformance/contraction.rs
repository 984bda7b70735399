//! Rows of matrix products and reductions. The bound of a sum of n terms is n units of what they add up to.

use super::elementwise::op_row;
use super::{Fill, Row, Tolerance};
use crate::op::{Op, ReduceOp};
use crate::shape::{Dim, Shape};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for (m, k, n) in [(1, 1, 1), (5, 7, 3), (1, 33, 17), (16, 8, 1), (9, 64, 20)] {
            let flags = (transpose_a, transpose_b);
            rows.push(matmul("fixed", &[], flags, (Dim::Fixed(m), k, n), true));
            rows.push(matmul("stacked", &[Dim::Batch(1)], flags, (Dim::Fixed(m), k, n), true));
            rows.push(matmul("shared", &[Dim::Batch(1)], flags, (Dim::Fixed(m), k, n), false));
        }
        let heads = [Dim::Batch(1), Dim::Fixed(2)];
        rows.push(matmul("heads", &heads, (transpose_a, transpose_b), (Dim::Fixed(5), 6, 4), true));
        rows.push(matmul("heads shared", &heads, (transpose_a, transpose_b), (Dim::Fixed(5), 6, 4), false));
        rows.push(matmul("batch rows", &[], (transpose_a, transpose_b), (Dim::Batch(1), 6, 4), true));
    }
    rows.push(over_batch());
    rows.extend([ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max].into_iter().flat_map(reduce_rows));
    rows
}

fn matmul(
    form: &str,
    lead: &[Dim],
    (transpose_a, transpose_b): (bool, bool),
    (rows, inner, columns): (Dim, usize, usize),
    stacked: bool,
) -> Row {
    let stored = |lead: &[Dim], pair: [Dim; 2], transposed: bool| {
        let last = if transposed { [pair[1], pair[0]] } else { pair };
        Shape::new(lead.iter().copied().chain(last))
    };
    let a = stored(lead, [rows, Dim::Fixed(inner)], transpose_a);
    let b = stored(if stacked { lead } else { &[] }, [Dim::Fixed(inner), Dim::Fixed(columns)], transpose_b);
    let name = format!("matmul {form} {a}{} {b}{}", flag(transpose_a), flag(transpose_b));
    let inputs = vec![(a, Fill::Outliers(2.0)), (b, Fill::Outliers(1.0))];
    op_row(name, Tolerance::terms(inner), inputs, Op::MatMul { transpose_a, transpose_b })
}

fn flag(transposed: bool) -> &'static str {
    if transposed { "ᵀ" } else { "" }
}

/// xᵀ · dy, the gradient of a weight: the batch is what is summed over.
fn over_batch() -> Row {
    let inputs = vec![(Shape::batch(&[5]), Fill::Noise(2.0)), (Shape::batch(&[3]), Fill::Noise(2.0))];
    let op = Op::MatMul { transpose_a: true, transpose_b: false };
    let mut row = op_row("matmul over the batch", Tolerance::terms(40), inputs, op);
    row.batches = vec![1, 40];
    row
}

fn reduce_rows(op: ReduceOp) -> Vec<Row> {
    let forms: [(&str, Shape, &[usize], usize); 7] = [
        ("last", Shape::batch(&[3, 17]), &[2], 17),
        ("middle", Shape::batch(&[9, 4]), &[1], 9),
        ("two", Shape::batch(&[3, 5]), &[1, 2], 15),
        ("batch", Shape::batch(&[6]), &[0], 3),
        ("all", Shape::batch(&[3, 2]), &[0, 1, 2], 18),
        ("ones", Shape::batch(&[1, 4]), &[1], 1),
        // Over so many terms the roundings mostly cancel: about the square root is left.
        ("long", Shape::fixed(&[2, 4099]), &[1], 64),
    ];
    let tolerance = |length| match op {
        ReduceOp::Sum | ReduceOp::Mean => Tolerance::terms(length),
        ReduceOp::Max => Tolerance::EXACT,
    };
    let both = |(form, shape, axes, length): (&str, Shape, &[usize], usize)| {
        [true, false].map(|keep| {
            let name = format!("{} {form}{}", op.name(), if keep { ", kept" } else { "" });
            let reduce = Op::Reduce { op, axes: axes.to_vec(), keep };
            op_row(name, tolerance(length), vec![(shape.clone(), Fill::Outliers(2.0))], reduce)
        })
    };
    let mut rows: Vec<Row> = forms.into_iter().flat_map(both).collect();
    if op == ReduceOp::Max {
        let negative = vec![(Shape::batch(&[5]), Fill::Cycle(vec![-3.0, -1e30, -2.0, -f32::INFINITY, -2.0]))];
        let reduce = Op::Reduce { op, axes: vec![1], keep: false };
        rows.push(op_row("reduce_max below zero", Tolerance::EXACT, negative, reduce));
    }
    rows
}
