//! The ops that move, contract and reduce.

use super::*;

#[test]
fn shape_rules() {
    let dims = |dims: &[Dim]| Shape::new(dims.iter().copied());
    let (batch, fixed) = (Dim::Batch, Dim::Fixed);
    let cases: Vec<(Shape, Op)> = vec![
        (Shape::scalar(), Op::Broadcast { shape: Shape::batch(&[2]) }),
        (Shape::fixed(&[4]), Op::Broadcast { shape: Shape::batch(&[2, 4]) }),
        (Shape::batch(&[1, 4]), Op::Broadcast { shape: Shape::batch(&[2, 4]) }),
        (Shape::batch(&[4]), Op::Broadcast { shape: dims(&[fixed(1), batch(1), fixed(4)]) }),
        (Shape::batch(&[2, 3]), Op::Reshape { shape: dims(&[batch(2), fixed(3)]) }),
        (Shape::fixed(&[1]), Op::Reshape { shape: Shape::scalar() }),
        (Shape::batch(&[2, 3]), Op::Transpose { axes: vec![2, 0, 1] }),
        (Shape::batch(&[3]), Op::Transpose { axes: vec![1, 0] }),
        (Shape::batch(&[5]), Op::Slice { axis: 1, start: 1, end: 4 }),
        (Shape::batch(&[5, 2]), Op::Slice { axis: 1, start: 4, end: 5 }),
        (Shape::batch(&[2, 3]), Op::Pad { axis: 1, before: 1, after: 2 }),
        (Shape::fixed(&[1]), Op::Pad { axis: 0, before: 0, after: 3 }),
    ];
    for (shape, op) in cases {
        check(&format!("{op:?} of {shape}"), &[(shape, PLAIN)], |b, x| b.push(op, x));
    }
    let parts = [(Shape::batch(&[2]), PLAIN), (Shape::batch(&[1]), POSITIVE), (Shape::batch(&[3]), PLAIN)];
    check("concat", &parts, |b, x| Ok(vec![b.concat(x, 1)?]));
    check("concat of one value twice", &parts[..1], |b, x| Ok(vec![b.concat(&[x[0], x[0]], 1)?]));
}

#[test]
fn matmul_rules() {
    let stacks: [(&[Dim], bool); 6] = [
        (&[], true),
        (&[Dim::Batch(1)], true),
        (&[Dim::Batch(1)], false),
        (&[Dim::Batch(1), Dim::Fixed(2)], true),
        (&[Dim::Batch(1), Dim::Fixed(2)], false),
        (&[Dim::Fixed(2)], false),
    ];
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for (lead, stacked) in stacks {
            for (m, k, n) in [(2, 3, 4), (1, 2, 1), (3, 1, 2)] {
                let stored = |lead: &[Dim], rows: usize, columns: usize, transposed: bool| {
                    let last = if transposed { [columns, rows] } else { [rows, columns] };
                    Shape::new(lead.iter().copied().chain(last.map(Dim::Fixed)))
                };
                let a = stored(lead, m, k, transpose_a);
                let b = stored(if stacked { lead } else { &[] }, k, n, transpose_b);
                let name = format!("matmul {a} {transpose_a}, {b} {transpose_b}");
                check(&name, &[(a, PLAIN), (b, POSITIVE)], |b, x| {
                    Ok(vec![b.matmul(x[0], x[1], transpose_a, transpose_b)?])
                });
            }
        }
        let rows = Shape::batch(&[2]);
        let a = if transpose_a { Shape::new([Dim::Fixed(2), Dim::Batch(1)]) } else { rows };
        let b = if transpose_b { Shape::fixed(&[4, 2]) } else { Shape::fixed(&[2, 4]) };
        check("matmul of batch rows", &[(a, PLAIN), (b, POSITIVE)], |b, x| {
            Ok(vec![b.matmul(x[0], x[1], transpose_a, transpose_b)?])
        });
    }
    let rows = [(Shape::batch(&[2]), PLAIN), (Shape::batch(&[3]), POSITIVE)];
    check("matmul over the batch", &rows, |b, x| Ok(vec![b.matmul(x[0], x[1], true, false)?]));
}

#[test]
fn reduce_rules() {
    // Kinks: ties of the maximum. PLAIN's cycle of 11 repeats no value within the reduced axes of these shapes.
    let cases: [(Shape, &[usize]); 7] = [
        (Shape::batch(&[3]), &[1]),
        (Shape::batch(&[3]), &[0]),
        (Shape::batch(&[3]), &[0, 1]),
        (Shape::batch(&[2, 4]), &[1]),
        (Shape::fixed(&[2, 5]), &[0, 1]),
        (Shape::batch(&[1, 4]), &[1]),
        (Shape::fixed(&[3, 1, 3]), &[0, 2]),
    ];
    for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max] {
        for (shape, axes) in &cases {
            for keep in [false, true] {
                let name = format!("{} of {shape} over {axes:?}, keep {keep}", op.name());
                check(&name, &[(shape.clone(), PLAIN)], |b, x| Ok(vec![b.reduce(op, x[0], axes, keep)?]));
            }
        }
    }
}
