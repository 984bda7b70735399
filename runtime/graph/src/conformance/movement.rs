//! Rows of the ops that move elements, of constants, and of graphs whose outputs are awkward.

use super::elementwise::{op_row, row};
use super::{Fill, Row, Tolerance};
use crate::graph::Initial;
use crate::op::{Op, UnaryOp};
use crate::shape::{Dim, Shape};
use crate::tensor::Tensor;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = moves();
    rows.extend(outputs());
    rows.extend(states());
    rows
}

fn moves() -> Vec<Row> {
    let moved = |name: &str, shape: Shape, op: Op| {
        op_row(name, Tolerance::EXACT, vec![(shape, Fill::Outliers(2.0))], op)
    };
    let dims = |dims: &[Dim]| Shape::new(dims.iter().copied());
    let (b, n) = (Dim::Batch, Dim::Fixed);
    vec![
        moved("broadcast scalar", Shape::scalar(), Op::Broadcast { shape: Shape::batch(&[3]) }),
        moved("broadcast row", Shape::fixed(&[5]), Op::Broadcast { shape: Shape::batch(&[2, 5]) }),
        moved("broadcast middle", Shape::batch(&[1, 5]), Op::Broadcast { shape: Shape::batch(&[4, 5]) }),
        moved("broadcast same", Shape::batch(&[1]), Op::Broadcast { shape: Shape::batch(&[1]) }),
        moved("reshape fold", Shape::batch(&[4, 3]), Op::Reshape { shape: dims(&[b(4), n(3)]) }),
        moved("reshape unfold", Shape::batch(&[12]), Op::Reshape { shape: dims(&[n(1), b(1), n(4), n(3)]) }),
        moved("reshape to flat", Shape::batch(&[2, 3]), Op::Reshape { shape: dims(&[b(6)]) }),
        moved("reshape scalar", Shape::fixed(&[1, 1]), Op::Reshape { shape: Shape::scalar() }),
        moved("transpose matrix", Shape::batch(&[7]), Op::Transpose { axes: vec![1, 0] }),
        moved("transpose last", Shape::batch(&[3, 5]), Op::Transpose { axes: vec![0, 2, 1] }),
        moved("transpose cycle", Shape::batch(&[3, 5]), Op::Transpose { axes: vec![2, 0, 1] }),
        moved("transpose four", Shape::batch(&[2, 1, 5]), Op::Transpose { axes: vec![0, 2, 3, 1] }),
        moved("slice middle", Shape::batch(&[9]), Op::Slice { axis: 1, start: 2, end: 7 }),
        moved("slice last step", Shape::batch(&[6, 3]), Op::Slice { axis: 1, start: 5, end: 6 }),
        moved("slice first", Shape::fixed(&[4, 3]), Op::Slice { axis: 0, start: 0, end: 1 }),
        moved("pad both", Shape::batch(&[3, 2]), Op::Pad { axis: 1, before: 2, after: 1 }),
        moved("pad last axis", Shape::batch(&[3]), Op::Pad { axis: 1, before: 0, after: 4 }),
        moved("pad nothing", Shape::batch(&[3]), Op::Pad { axis: 1, before: 0, after: 0 }),
        concat("concat last", 1, &[Shape::batch(&[2]), Shape::batch(&[1]), Shape::batch(&[5])]),
        concat("concat steps", 1, &[Shape::batch(&[2, 3]), Shape::batch(&[4, 3])]),
        concat("concat one", 1, &[Shape::batch(&[2])]),
        concat("concat first", 0, &[Shape::fixed(&[2, 3]), Shape::fixed(&[1, 3])]),
    ]
}

fn concat(name: &str, axis: usize, shapes: &[Shape]) -> Row {
    let inputs = shapes.iter().map(|shape| (shape.clone(), Fill::Noise(2.0))).collect();
    op_row(name, Tolerance::EXACT, inputs, Op::Concat { axis })
}

/// Outputs that are inputs, constants, or named twice.
fn outputs() -> Vec<Row> {
    let input = || vec![(Shape::batch(&[3]), Fill::Noise(2.0))];
    let constant = || Tensor::new(vec![2, 3], vec![1.0, -2.0, 0.0, 1e-30, 5.5, -1e30]);
    vec![
        row("output is an input", Tolerance::EXACT, input(), |b, x| b.output("y", x[0])),
        row("output named twice", Tolerance::EXACT, input(), |b, x| {
            let y = b.unary(UnaryOp::Neg, x[0])?;
            b.output("first", y)?;
            b.output("second", y)
        }),
        row("output is a constant", Tolerance::EXACT, input(), |b, x| {
            let tensor = constant().unwrap_or_else(|e| panic!("{e}"));
            let y = b.constant(tensor)?;
            b.output("constant", y)?;
            b.output("input", x[0])
        }),
        row("input that nothing uses", Tolerance::EXACT, [input(), input()].concat(), |b, x| {
            let y = b.unary(UnaryOp::Neg, x[1])?;
            b.output("y", y)
        }),
        row("inner value is an output too", Tolerance::EXACT, input(), |b, x| {
            let inner = b.unary(UnaryOp::Neg, x[0])?;
            let y = b.unary(UnaryOp::Relu, inner)?;
            b.output("y", y)?;
            b.output("inner", inner)
        }),
    ]
}

/// States that replace one another: an update sees the values before the run, whatever their order.
fn states() -> Vec<Row> {
    let mut swap = row("states swap", Tolerance::EXACT, Vec::new(), |b, _| {
        let one = b.state("one", Shape::fixed(&[2]), Initial::Constant(1.0), true)?;
        let two = b.state("two", Shape::fixed(&[2]), Initial::Constant(2.0), false)?;
        b.update(one, two)?;
        b.update(two, one)?;
        b.output("before", one)
    });
    swap.runs = 3;
    let input = vec![(Shape::batch(&[2]), Fill::Constant(1.0))];
    let mut counter = row("state counts", Tolerance::EXACT, input, |b, x| {
        let count = b.state("count", Shape::scalar(), Initial::Zeros, false)?;
        let one = b.scalar(1.0)?;
        let next = b.add(count, one)?;
        b.update(count, next)?;
        let y = b.mul(x[0], next)?;
        b.output("y", y)?;
        b.output("count", count)
    });
    counter.runs = 3;
    let input = vec![(Shape::batch(&[2]), Fill::Noise(1.0))];
    let initials = row("states start", Tolerance::EXACT, input, |b, x| {
        let given = Tensor::new(vec![2], vec![0.25, -4.0]).unwrap_or_else(|e| panic!("{e}"));
        let forms = [
            ("zeros", Initial::Zeros),
            ("constant", Initial::Constant(-0.5)),
            ("given", Initial::Given(given)),
            ("glorot", Initial::Glorot),
            ("he", Initial::He),
            ("normal", Initial::Normal { deviation: 0.5 }),
            ("uniform", Initial::UniformRoot { n: 2 }),
        ];
        for (name, initial) in forms {
            let state = b.state(name, Shape::fixed(&[2]), initial, true)?;
            b.output(name, state)?;
        }
        let bias = b.state("bias", Shape::fixed(&[8]), Initial::LstmBias, true)?;
        b.output("bias", bias)?;
        b.output("x", x[0])
    });
    vec![swap, counter, initials]
}
