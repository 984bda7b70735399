//! Every rule against central differences of the reference, at awkward inputs.

use super::*;
use crate::builder::Builder;
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::reference;

mod errors;
mod fused;
mod movement;
mod random;
mod sequence;

/// The batch size of every check. Not 1, so that a batch dimension is never mistaken for a repeated one.
const BATCH: usize = 3;
const STEP: f64 = 1e-5;
/// Central differences of a step 1e-5 are good to about 1e-10, the rules' f32 constants to 6e-8.
const TOLERANCE: f64 = 1e-6;

/// One input: its shape and its values at [`BATCH`], repeated to fill it.
type Given<'a> = (Shape, &'a [f64]);

/// Numbers with nothing regular about them, none within 0.05 of an integer or of one another.
const PLAIN: &[f64] = &[0.31, -1.42, 2.17, -0.23, 0.74, -2.61, 1.57, 0.09, -0.88, 1.93, -3.34];
const POSITIVE: &[f64] = &[0.31, 1.42, 2.17, 0.23, 0.74, 2.61, 1.57, 0.19, 0.88];

/// Builds y from the inputs, takes Σ weight · y as the loss, with irregular weights, and compares the gradient
/// by every input with central differences.
fn check(
    name: &str,
    inputs: &[Given],
    build: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, BuildError>,
) {
    check_inputs(name, inputs, &vec![true; inputs.len()], build)
}

/// [`check`] for those inputs that have a derivative.
fn check_inputs(
    name: &str,
    inputs: &[Given],
    differentiable: &[bool],
    build: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, BuildError>,
) {
    let mut builder = Builder::new();
    let values: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(i, (shape, _))| builder.input(&format!("x{i}"), shape.clone()).unwrap())
        .collect();
    let outputs = build(&mut builder, &values).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut loss = builder.scalar(0.0).unwrap();
    for (i, output) in outputs.into_iter().enumerate() {
        let term = weighted_sum(&mut builder, output, i);
        loss = builder.add(loss, term).unwrap();
    }
    builder.output("loss", loss).unwrap();
    let graph = builder.finish().unwrap();
    let data: Vec<Vec<f64>> = inputs
        .iter()
        .map(|(shape, values)| values.iter().copied().cycle().take(shape.elements(BATCH).unwrap()).collect())
        .collect();
    compare(name, &graph, loss, &values, differentiable, &data);
}

/// Σ weight · y, with weights that depend on the place, so that no two elements can be swapped unnoticed.
fn weighted_sum(builder: &mut Builder, y: Value, salt: usize) -> Value {
    let shape = builder.shape(y).clone();
    let mut weighted = y;
    for (axis, dim) in shape.dims().iter().enumerate() {
        // A batch dimension has no constant of its own size; there, softplus and a shift stand in for weights.
        let Dim::Fixed(size) = *dim else { continue };
        let weights = (0..size).map(|i| 0.4 + ((i * 7 + axis * 3 + salt * 5) % 11) as f32 / 9.0).collect();
        let mut dims = vec![1; shape.rank()];
        dims[axis] = size;
        let weights = builder.constant(Tensor::new(dims, weights).unwrap()).unwrap();
        weighted = builder.mul(weighted, weights).unwrap();
    }
    let curved = builder.unary(UnaryOp::Softplus, weighted).unwrap();
    let axes: Vec<usize> = (0..shape.rank()).collect();
    if axes.is_empty() { curved } else { builder.reduce(ReduceOp::Sum, curved, &axes, false).unwrap() }
}

fn loss_at(graph: &Graph, inputs: &[Vec<f64>]) -> f64 {
    let mut states = reference::initial_states_f64(graph, 1);
    reference::run(graph, BATCH, inputs, &mut states).unwrap()[0][0]
}

fn compare(
    name: &str,
    graph: &Graph,
    loss: Value,
    wrt: &[Value],
    differentiable: &[bool],
    data: &[Vec<f64>],
) {
    let (mut extended, gradients) = gradient(graph, loss, wrt).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (i, &gradient) in gradients.iter().enumerate() {
        assert_eq!(extended.shape(gradient), graph.shape(wrt[i]), "{name}: shape of gradient {i}");
        extended.outputs.push((format!("gradient.{i}"), gradient));
    }
    let mut states = reference::initial_states_f64(&extended, 1);
    let computed = reference::run(&extended, BATCH, data, &mut states).unwrap();
    assert_eq!(computed[0][0], loss_at(graph, data), "{name}: the gradient changed the loss");
    for (input, differentiable) in differentiable.iter().enumerate() {
        let computed = &computed[graph.outputs.len() + input];
        if !differentiable {
            assert!(computed.iter().all(|&x| x == 0.0), "{name}: input {input} has a derivative");
            continue;
        }
        let largest = computed.iter().fold(1.0f64, |a, b| a.max(b.abs()));
        for (element, rule) in computed.iter().enumerate() {
            let mut difference = central_difference(graph, data, input, element, STEP);
            if (difference - rule).abs() > TOLERANCE * largest {
                // Where the third derivative is large: half the step, extrapolated (Richardson 1911).
                let half = central_difference(graph, data, input, element, STEP / 2.0);
                difference = (4.0 * half - difference) / 3.0;
            }
            assert!(
                (difference - rule).abs() <= TOLERANCE * largest,
                "{name}: input {input}, element {element}: rule {rule}, difference {difference}"
            );
        }
    }
}

fn central_difference(graph: &Graph, data: &[Vec<f64>], input: usize, element: usize, step: f64) -> f64 {
    let at = |sign: f64| {
        let mut moved = data.to_vec();
        moved[input][element] += sign * step;
        loss_at(graph, &moved)
    };
    (at(1.0) - at(-1.0)) / (2.0 * step)
}

#[test]
fn unary_rules() {
    // Kinks: Abs, Sign and Relu at 0 are not looked at here.
    let reaching: &[f64] = &[0.31, -1.42, 6.5, -7.2, 0.02, -0.02, 2.9, 11.0, -14.0];
    let growing: &[f64] = &[0.31, -1.42, 2.5, -7.2, 0.02, -0.02];
    for op in UnaryOp::ALL {
        let (values, smooth) = match op {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Relu | UnaryOp::Square => (reaching, true),
            UnaryOp::Tanh | UnaryOp::Sigmoid | UnaryOp::Gelu | UnaryOp::Erf | UnaryOp::Softplus => {
                (reaching, true)
            }
            UnaryOp::Exp => (growing, true),
            UnaryOp::Reciprocal => (PLAIN, true),
            UnaryOp::Sqrt | UnaryOp::Log => (POSITIVE, true),
            UnaryOp::Sign => (reaching, false),
        };
        for shape in [Shape::batch(&[3]), Shape::fixed(&[1, 9])] {
            check_inputs(op.name(), &[(shape, values)], &[smooth], |b, x| Ok(vec![b.unary(op, x[0])?]));
        }
    }
}

#[test]
fn binary_rules_over_every_broadcast() {
    // Kinks: ties of Max and Min. The lists have no value in common.
    let second: &[f64] = &[1.11, -0.52, 0.67, 2.3, -1.8, 0.41, -2.05];
    let pairs = [
        (Shape::batch(&[4]), Shape::batch(&[4])),
        (Shape::batch(&[4]), Shape::fixed(&[4])),
        (Shape::fixed(&[2, 1]), Shape::batch(&[1, 4])),
        (Shape::batch(&[2, 3]), Shape::scalar()),
        (Shape::fixed(&[1, 1]), Shape::batch(&[1])),
        (Shape::batch(&[1, 3]), Shape::batch(&[4, 1])),
    ];
    for op in BinaryOp::ALL {
        let smooth = op != BinaryOp::Less;
        for (a, b) in &pairs {
            let name = format!("{} of {a} and {b}", op.name());
            let inputs = [(a.clone(), PLAIN), (b.clone(), second)];
            check_inputs(&name, &inputs, &[smooth; 2], |b, x| Ok(vec![b.binary(op, x[0], x[1])?]));
        }
    }
}

#[test]
fn an_operand_used_twice_gets_both_parts() {
    check("x · x + x", &[(Shape::batch(&[5]), PLAIN)], |b, x| {
        let square = b.mul(x[0], x[0])?;
        Ok(vec![b.add(square, x[0])?])
    });
}

#[test]
fn select_rule() {
    let condition: &[f64] = &[0.0, 1.0, -2.0, 0.0, 0.5];
    let second: &[f64] = &[1.11, -0.52, 0.67];
    for shapes in [
        [Shape::batch(&[4]), Shape::batch(&[4]), Shape::batch(&[4])],
        [Shape::fixed(&[2, 1]), Shape::batch(&[1, 4]), Shape::scalar()],
    ] {
        let [c, a, b] = shapes;
        let inputs = [(c, condition), (a, PLAIN), (b, second)];
        check_inputs("select", &inputs, &[false, true, true], |b, x| Ok(vec![b.select(x[0], x[1], x[2])?]));
    }
}

#[test]
fn select_keeps_what_it_hides_out_of_the_gradient() {
    // A product with a mask would give NaN for the hidden element.
    let mut b = Builder::new();
    let x = b.input("x", Shape::fixed(&[2])).unwrap();
    let zero = b.scalar(0.0).unwrap();
    let positive = b.binary(BinaryOp::Less, zero, x).unwrap();
    let y = b.select(positive, x, zero).unwrap();
    let loss = b.reduce(ReduceOp::Sum, y, &[0], false).unwrap();
    let (mut graph, gradients) = gradient(&b.finish().unwrap(), loss, &[x]).unwrap();
    graph.outputs = vec![("dx".into(), gradients[0])];
    let computed = reference::run(&graph, 1, &[vec![f64::NAN, 2.0]], &mut []).unwrap();
    assert_eq!(computed[0], [0.0, 1.0]);
}

#[test]
fn kinks_are_as_documented() {
    let slope = |build: &dyn Fn(&mut Builder, Value) -> Result<Value, BuildError>| {
        let mut b = Builder::new();
        let x = b.input("x", Shape::fixed(&[2])).unwrap();
        let y = build(&mut b, x).unwrap();
        let axes: Vec<usize> = (0..b.shape(y).rank()).collect();
        let loss = if axes.is_empty() { y } else { b.reduce(ReduceOp::Sum, y, &axes, false).unwrap() };
        let (mut graph, gradients) = gradient(&b.finish().unwrap(), loss, &[x]).unwrap();
        graph.outputs = vec![("dx".into(), gradients[0])];
        reference::run(&graph, 1, &[vec![0.0, 0.0]], &mut []).unwrap()[0].clone()
    };
    assert_eq!(slope(&|b, x| b.unary(UnaryOp::Abs, x)), [0.0, 0.0]);
    assert_eq!(slope(&|b, x| b.unary(UnaryOp::Relu, x)), [0.0, 0.0]);
    assert_eq!(slope(&|b, x| b.reduce(ReduceOp::Max, x, &[0], false)), [0.5, 0.5]);
    for op in [BinaryOp::Max, BinaryOp::Min] {
        let first = slope(&|b, x| {
            let zero = b.scalar(0.0)?;
            b.binary(op, x, zero)
        });
        let second = slope(&|b, x| {
            let zero = b.scalar(0.0)?;
            b.binary(op, zero, x)
        });
        assert_eq!((first, second), (vec![1.0, 1.0], vec![0.0, 0.0]));
    }
}
