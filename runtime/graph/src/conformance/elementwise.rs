//! Rows of the elementwise ops: every function at its edges, every operator over every kind of broadcast.

use super::{Fill, Row, Tolerance};
use crate::builder::{BuildError, Builder};
use crate::op::{BinaryOp, Op, UnaryOp};
use crate::shape::{Dim, Shape};

const INFINITY: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// A row over inputs of these shapes; `build` gets them and names its outputs.
pub(super) fn row(
    name: impl Into<String>,
    tolerance: Tolerance,
    inputs: Vec<(Shape, Fill)>,
    build: impl FnOnce(&mut Builder, &[crate::Value]) -> Result<(), BuildError>,
) -> Row {
    let name = name.into();
    let mut builder = Builder::new();
    let built = || -> Result<_, BuildError> {
        let values = inputs.iter().enumerate();
        let values = values.map(|(i, (shape, _))| builder.input(&format!("x{i}"), shape.clone()));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        build(&mut builder, &values)
    }();
    let graph = built.map_err(|e| e.to_string()).and_then(|()| builder.finish().map_err(|e| e.to_string()));
    let graph = graph.unwrap_or_else(|e| panic!("the row {name} is wrong: {e}"));
    let fills = inputs.into_iter().map(|(_, fill)| fill).collect();
    let batches = if graph.inputs().any(|(_, _, s)| s.depends_on_batch()) { vec![1, 3] } else { vec![1] };
    Row { name, graph, batches, runs: 1, fills, tolerance }
}

/// One op, whose outputs are the row's.
pub(super) fn op_row(
    name: impl Into<String>,
    tolerance: Tolerance,
    inputs: Vec<(Shape, Fill)>,
    op: Op,
) -> Row {
    row(name, tolerance, inputs, |builder, values| {
        for (slot, value) in builder.push(op, values)?.into_iter().enumerate() {
            builder.output(&format!("y{slot}"), value)?;
        }
        Ok(())
    })
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(UnaryOp::ALL.into_iter().flat_map(unary_rows));
    rows.extend(BinaryOp::ALL.into_iter().flat_map(binary_rows));
    rows.extend(select_rows());
    rows
}

fn unary_rows(op: UnaryOp) -> Vec<Row> {
    let (tolerance, edges) = unary_edges(op);
    let fill = match op {
        UnaryOp::Sqrt | UnaryOp::Log => Fill::Between(0.01, 9.0),
        UnaryOp::Reciprocal => Fill::Between(0.2, 5.0),
        _ => Fill::Outliers(2.0),
    };
    let edges_shape = Shape::batch(&[edges.len()]);
    let unary = |form: &str, shape, fill| {
        op_row(format!("{} {form}", op.name()), tolerance, vec![(shape, fill)], Op::Unary(op))
    };
    vec![
        unary("edges", edges_shape, Fill::Cycle(edges)),
        unary("plain", Shape::batch(&[5, 7]), fill.clone()),
        unary("scalar", Shape::scalar(), Fill::Between(0.5, 2.0)),
        unary("long", Shape::fixed(&[1031]), fill),
    ]
}

/// Values where an implementation in f32 goes wrong first.
fn unary_edges(op: UnaryOp) -> (Tolerance, Vec<f32>) {
    let exact = Tolerance::EXACT;
    match op {
        UnaryOp::Neg | UnaryOp::Abs => {
            (exact, vec![0.0, -0.0, 1.5, -1.5, 1e38, -1e38, INFINITY, -INFINITY, NAN])
        }
        UnaryOp::Sign => (exact, vec![0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, 1e38, -INFINITY]),
        UnaryOp::Relu => (exact, vec![0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, INFINITY, -INFINITY]),
        UnaryOp::Square => (Tolerance::relative(1.0), vec![0.0, -3.0, 1e-10, 1e18, -1e30, INFINITY, NAN]),
        UnaryOp::Sqrt => {
            (Tolerance::relative(2.0), vec![0.0, 1.0, 4.0, 1e-20, 1e20, 1e38, INFINITY, -1.0, NAN])
        }
        UnaryOp::Reciprocal => (Tolerance::relative(2.0), vec![1.0, -3.0, 1e-20, 1e20, 0.0, INFINITY, NAN]),
        // Reducing an argument of 80 costs 80 units of its own.
        UnaryOp::Exp => (
            Tolerance::relative(96.0),
            vec![0.0, 1.0, -1.0, 1e-7, 80.0, -80.0, 100.0, -110.0, 1e4, -1e4, NAN],
        ),
        UnaryOp::Log => {
            let tolerance = Tolerance { relative: 8.0, ..Tolerance::scaled(1.0) };
            (tolerance, vec![1.0, 2.0, 0.999, 1.001, 1e-30, 1e30, 0.0, -1.0, INFINITY, NAN])
        }
        UnaryOp::Tanh | UnaryOp::Sigmoid | UnaryOp::Erf => (
            Tolerance::scaled(8.0),
            vec![0.0, 1e-4, -1e-4, 0.5, -0.5, 1.0, 3.9, -5.0, 9.0, -18.0, 30.0, -100.0, 1e4, -1e4, 1e30],
        ),
        UnaryOp::Gelu | UnaryOp::Softplus => {
            let terms = if op == UnaryOp::Gelu { 4.0 } else { 1.0 };
            let steps = [1e-4, 0.5, 2.0, 3.0, 6.0, 12.0, 40.0, 100.0, 1e4];
            let edges = steps.into_iter().flat_map(|x| [x, -x]).chain([0.0]).collect();
            (Tolerance { relative: 16.0, terms, scaled: 0.0 }, edges)
        }
    }
}

fn binary_rows(op: BinaryOp) -> Vec<Row> {
    let (tolerance, edges) = match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
            (Tolerance::relative(1.0), vec![0.0, -1.0, 1e20, -1e20, 1e-20, INFINITY, -INFINITY, NAN])
        }
        BinaryOp::Div => (Tolerance::relative(2.0), vec![1.0, -1.0, 1e20, -1e20, 1e-20, INFINITY, NAN]),
        BinaryOp::Max | BinaryOp::Min | BinaryOp::Less => {
            (Tolerance::EXACT, vec![0.0, 1.0, -1.0, 1e-30, 1e38, INFINITY, -INFINITY])
        }
    };
    let binary =
        |form: &str, a, b| op_row(format!("{} {form}", op.name()), tolerance, vec![a, b], Op::Binary(op));
    let noise = |shape: Shape| (shape, Fill::Outliers(2.0));
    let right = |shape: Shape| {
        (shape, if op == BinaryOp::Div { Fill::Between(0.3, 4.0) } else { Fill::Outliers(3.0) })
    };
    let pairs = edges.len();
    let first = edges.iter().flat_map(|&x| vec![x; pairs]).collect();
    let size = Shape::fixed(&[pairs * pairs]);
    let column = Shape::new([Dim::Batch(1), Dim::Fixed(1), Dim::Fixed(5)]);
    vec![
        binary("edges", (size.clone(), Fill::Cycle(first)), (size, Fill::Cycle(edges))),
        binary("same", noise(Shape::batch(&[17])), right(Shape::batch(&[17]))),
        binary("row", noise(Shape::batch(&[3])), right(Shape::fixed(&[3]))),
        binary("row on the left", noise(Shape::fixed(&[3])), right(Shape::batch(&[2, 3]))),
        binary("outer", noise(column), right(Shape::fixed(&[4, 1]))),
        binary("scalar", noise(Shape::scalar()), right(Shape::batch(&[2, 1]))),
        binary("ones", noise(Shape::fixed(&[1, 1])), right(Shape::batch(&[1]))),
    ]
}

fn select_rows() -> Vec<Row> {
    let condition = Fill::Cycle(vec![0.0, 1.0, -0.0, 0.5, -2.0, 0.0, NAN, 1e-30]);
    let select = |form: &str, c: Shape, a: Shape, b: Shape| {
        let inputs = vec![(c, condition.clone()), (a, Fill::Noise(2.0)), (b, Fill::Outliers(2.0))];
        op_row(format!("select {form}"), Tolerance::EXACT, inputs, Op::Select)
    };
    let mut hidden = select("hides NaN", Shape::batch(&[4]), Shape::batch(&[4]), Shape::batch(&[4]));
    hidden.fills =
        vec![Fill::Cycle(vec![1.0, 0.0]), Fill::Cycle(vec![2.0, NAN]), Fill::Cycle(vec![INFINITY, 3.0])];
    vec![
        select("same", Shape::batch(&[9]), Shape::batch(&[9]), Shape::batch(&[9])),
        select("scalars", Shape::batch(&[9]), Shape::scalar(), Shape::scalar()),
        select("broadcast", Shape::fixed(&[4, 1]), Shape::batch(&[1, 5]), Shape::fixed(&[5])),
        hidden,
    ]
}
