//! The shape of every op's outputs, from the shapes of its inputs.

use crate::op::{Keep, Op, ReduceOp};
use crate::shape::{Dim, Shape};

/// No value has more dimensions.
pub const RANK_MAX: usize = 8;

/// The shape of each output of `op`, or what is wrong with its inputs or attributes. Never panics,
/// whatever it is given. `Input` and `State` state their shape instead of deriving it, so for them it is an error.
pub fn shape_rule(op: &Op, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    if let Some(count) = input_count(op) {
        if inputs.len() != count {
            return Err(format!("takes {count} inputs, not {}", inputs.len()));
        }
    } else if inputs.is_empty() {
        return Err("takes at least one input".into());
    }
    let shapes = derive(op, inputs)?;
    for shape in &shapes {
        check_shape(shape)?;
    }
    Ok(shapes)
}

/// How many inputs the op takes; `None` for one or more.
pub fn input_count(op: &Op) -> Option<usize> {
    match op {
        Op::Input { .. } | Op::State { .. } | Op::Constant(_) => Some(0),
        Op::Unary(_)
        | Op::Broadcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Reduce { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. } => Some(1),
        Op::Binary(_) | Op::Dropout { .. } | Op::MatMul { .. } => Some(2),
        Op::Select
        | Op::LayerNorm { .. }
        | Op::LayerNormBackward { .. }
        | Op::Conv1d { .. }
        | Op::Conv1dBackward { .. }
        | Op::Attention { .. }
        | Op::AttentionForward { .. } => Some(3),
        Op::Lstm { .. } | Op::LstmForward => Some(4),
        Op::Gru { .. } | Op::GruForward => Some(5),
        Op::AttentionBackward { .. } | Op::AdamW { .. } => Some(6),
        Op::LstmBackward | Op::GruBackward => Some(7),
        Op::Concat { .. } => None,
    }
}

/// What every shape must hold: at most [`RANK_MAX`] dimensions, none of them zero, at most one that
/// depends on the batch, and a number of elements that doesn't overflow.
pub fn check_shape(shape: &Shape) -> Result<(), String> {
    if shape.rank() > RANK_MAX {
        return Err(format!("{shape} has more than {RANK_MAX} dimensions"));
    }
    if shape.dims().iter().any(|d| matches!(d, Dim::Fixed(0) | Dim::Batch(0))) {
        return Err(format!("{shape} has a dimension of size 0"));
    }
    if shape.dims().iter().filter(|d| matches!(d, Dim::Batch(_))).count() > 1 {
        return Err(format!("more than one dimension of {shape} depends on the batch"));
    }
    match shape.elements(1) {
        Some(_) => Ok(()),
        None => Err(format!("{shape} has too many elements to count")),
    }
}

/// The shape that all of these broadcast to by NumPy's rules. A batch dimension is equal only to itself.
pub fn broadcast_shapes(shapes: &[&Shape]) -> Result<Shape, String> {
    let rank = shapes.iter().map(|s| s.rank()).max().unwrap_or(0);
    let mut dims = vec![Dim::Fixed(1); rank];
    for shape in shapes {
        for (dim, &other) in dims[rank - shape.rank()..].iter_mut().zip(shape.dims()) {
            if *dim == Dim::Fixed(1) {
                *dim = other;
            } else if other != Dim::Fixed(1) && other != *dim {
                let all: Vec<String> = shapes.iter().map(|s| s.to_string()).collect();
                return Err(format!("{} don't broadcast: {dim} is neither {other} nor 1", all.join(" and ")));
            }
        }
    }
    Ok(Shape::new(dims))
}

/// One dimension for the elements of several; `None` on overflow or when two of them depend on the batch.
pub fn merge_dims(dims: &[Dim]) -> Option<Dim> {
    dims.iter().try_fold(Dim::Fixed(1), |product, &dim| match (product, dim) {
        (Dim::Fixed(a), Dim::Fixed(b)) => Some(Dim::Fixed(a.checked_mul(b)?)),
        (Dim::Fixed(a), Dim::Batch(b)) | (Dim::Batch(a), Dim::Fixed(b)) => {
            Some(Dim::Batch(a.checked_mul(b)?))
        }
        (Dim::Batch(_), Dim::Batch(_)) => None,
    })
}

fn derive(op: &Op, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    match op {
        Op::Input { .. } | Op::State { .. } => Err("its shape is stated, not derived".into()),
        Op::Constant(tensor) => Ok(vec![Shape::fixed(tensor.dims())]),
        Op::Unary(_) => Ok(vec![inputs[0].clone()]),
        Op::Binary(_) | Op::Select => Ok(vec![broadcast_shapes(inputs)?]),
        Op::Dropout { rate, salt: _ } => dropout(*rate, inputs),
        Op::Broadcast { shape } => broadcast(shape, inputs[0]),
        Op::Reshape { shape } => reshape(shape, inputs[0]),
        Op::Transpose { axes } => transpose(axes, inputs[0]),
        Op::Slice { axis, start, end } => slice(*axis, *start, *end, inputs[0]),
        Op::Pad { axis, before, after } => pad(*axis, *before, *after, inputs[0]),
        Op::Concat { axis } => concat(*axis, inputs),
        Op::MatMul { transpose_a, transpose_b } => matmul(*transpose_a, *transpose_b, inputs[0], inputs[1]),
        Op::Reduce { op, axes, keep } => reduce(*op, axes, *keep, inputs[0]),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            fixed_axis(inputs[0], *axis)?;
            Ok(vec![inputs[0].clone()])
        }
        Op::LayerNorm { epsilon } => layer_norm(*epsilon, inputs[0], &inputs[1..]),
        Op::LayerNormBackward { epsilon } => layer_norm_backward(*epsilon, inputs),
        Op::Lstm { keep } => {
            let (sequence, _) = lstm(inputs)?;
            Ok(vec![kept(*keep, sequence)])
        }
        Op::LstmForward => {
            let (sequence, gates) = lstm(inputs)?;
            Ok(vec![sequence.clone(), sequence, gates])
        }
        Op::LstmBackward => lstm_backward(inputs),
        Op::Gru { keep } => {
            let (sequence, _) = gru(inputs)?;
            Ok(vec![kept(*keep, sequence)])
        }
        Op::GruForward => {
            let (sequence, gates) = gru(inputs)?;
            Ok(vec![sequence.clone(), gates, sequence])
        }
        Op::GruBackward => gru_backward(inputs),
        Op::Conv1d { dilation } => conv1d(*dilation, inputs),
        Op::Conv1dBackward { dilation } => conv1d_backward(*dilation, inputs),
        Op::Attention { heads, causal } => {
            attention(*heads, *causal, inputs)?;
            Ok(vec![inputs[0].clone()])
        }
        Op::AttentionForward { heads, causal } => {
            let logarithms = attention(*heads, *causal, inputs)?;
            Ok(vec![inputs[0].clone(), logarithms])
        }
        Op::AttentionBackward { heads, causal } => {
            let logarithms = attention(*heads, *causal, inputs)?;
            same("y", inputs[3], inputs[0])?;
            same("the logarithms", inputs[4], &logarithms)?;
            same("dy", inputs[5], inputs[0])?;
            Ok(inputs[..3].iter().map(|&shape| shape.clone()).collect())
        }
        Op::AdamW { beta1, beta2, epsilon, weight_decay } => {
            adamw(*beta1, *beta2, *epsilon, *weight_decay, inputs)
        }
    }
}

fn dropout(rate: f32, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    if !(0.0..1.0).contains(&rate) {
        return Err(format!("the rate {rate} is not at least 0 and below 1"));
    }
    scalar("the seed", inputs[1])?;
    Ok(vec![inputs[0].clone()])
}

fn broadcast(shape: &Shape, x: &Shape) -> Result<Vec<Shape>, String> {
    if broadcast_shapes(&[x, shape])? != *shape {
        return Err(format!("{x} doesn't broadcast to {shape}"));
    }
    Ok(vec![shape.clone()])
}

fn reshape(shape: &Shape, x: &Shape) -> Result<Vec<Shape>, String> {
    match (merge_dims(x.dims()), merge_dims(shape.dims())) {
        (Some(from), Some(to)) if from == to => Ok(vec![shape.clone()]),
        _ => Err(format!("{x} and {shape} don't have equally many elements at every batch size")),
    }
}

fn transpose(axes: &[usize], x: &Shape) -> Result<Vec<Shape>, String> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.rank()) {
        return Err(format!("axes {axes:?} are not a permutation of the {} axes of {x}", x.rank()));
    }
    Ok(vec![Shape::new(axes.iter().map(|&axis| x.dims()[axis]))])
}

fn slice(axis: usize, start: usize, end: usize, x: &Shape) -> Result<Vec<Shape>, String> {
    let size = fixed_axis(x, axis)?;
    if start >= end || end > size {
        return Err(format!("{start}..{end} is not a non-empty part of axis {axis} of {x}"));
    }
    Ok(vec![with_axis(x, axis, end - start)])
}

fn pad(axis: usize, before: usize, after: usize, x: &Shape) -> Result<Vec<Shape>, String> {
    let size = fixed_axis(x, axis)?;
    match size.checked_add(before).and_then(|n| n.checked_add(after)) {
        Some(padded) => Ok(vec![with_axis(x, axis, padded)]),
        None => Err(format!("padding by {before} and {after} overflows")),
    }
}

fn concat(axis: usize, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let first = inputs[0];
    let mut total = 0usize;
    for shape in inputs {
        let size = fixed_axis(shape, axis)?;
        if with_axis(shape, axis, 1) != with_axis(first, axis, 1) {
            return Err(format!("{shape} and {first} differ in more than axis {axis}"));
        }
        total = total.checked_add(size).ok_or_else(|| format!("axis {axis} of the result overflows"))?;
    }
    Ok(vec![with_axis(first, axis, total)])
}

fn matmul(transpose_a: bool, transpose_b: bool, a: &Shape, b: &Shape) -> Result<Vec<Shape>, String> {
    if a.rank() < 2 || b.rank() < 2 {
        return Err(format!("{a} and {b} must both have two or more dimensions"));
    }
    let (lead_a, last_a) = a.dims().split_at(a.rank() - 2);
    let (lead_b, last_b) = b.dims().split_at(b.rank() - 2);
    if !lead_b.is_empty() && lead_a != lead_b {
        return Err(format!("the leading dimensions of {a} and {b} differ; b must have the same or none"));
    }
    let (rows, inner_a) = if transpose_a { (last_a[1], last_a[0]) } else { (last_a[0], last_a[1]) };
    let (inner_b, columns) = if transpose_b { (last_b[1], last_b[0]) } else { (last_b[0], last_b[1]) };
    if inner_a != inner_b {
        let flag = |on| if on { " transposed" } else { "" };
        return Err(format!(
            "{a}{} times {b}{}: the inner dimensions {inner_a} and {inner_b} differ",
            flag(transpose_a),
            flag(transpose_b)
        ));
    }
    Ok(vec![Shape::new(lead_a.iter().copied().chain([rows, columns]))])
}

fn reduce(op: ReduceOp, axes: &[usize], keep: bool, x: &Shape) -> Result<Vec<Shape>, String> {
    let ascending = axes.windows(2).all(|pair| pair[0] < pair[1]);
    if axes.is_empty() || !ascending || axes.iter().any(|&axis| axis >= x.rank()) {
        return Err(format!(
            "axes {axes:?} of {} are not a sorted, distinct, non-empty choice of the axes of {x}",
            op.name()
        ));
    }
    let dims = x.dims().iter().enumerate().filter_map(|(i, &dim)| match (axes.contains(&i), keep) {
        (false, _) => Some(dim),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    });
    Ok(vec![Shape::new(dims)])
}

fn layer_norm(epsilon: f32, x: &Shape, scales: &[&Shape]) -> Result<Vec<Shape>, String> {
    positive("epsilon", epsilon)?;
    if x.rank() == 0 {
        return Err("a scalar has no last axis".into());
    }
    let features = fixed_axis(x, x.rank() - 1)?;
    for shape in scales {
        same("gamma and beta", shape, &Shape::fixed(&[features]))?;
    }
    Ok(vec![x.clone()])
}

fn layer_norm_backward(epsilon: f32, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let (x, gamma, dy) = (inputs[0], inputs[1], inputs[2]);
    layer_norm(epsilon, x, &[gamma])?;
    same("dy", dy, x)?;
    Ok(vec![x.clone(), gamma.clone(), gamma.clone()])
}

/// The sequence `[B, T, H]` or its last step.
fn kept(keep: Keep, sequence: Shape) -> Shape {
    match keep {
        Keep::Last => Shape::new([sequence.dims()[0], sequence.dims()[2]]),
        Keep::Sequence => sequence,
    }
}

/// Checks x, W, U, b; gives the shapes of h and of the gates.
fn lstm(inputs: &[&Shape]) -> Result<(Shape, Shape), String> {
    let (sequence, gates, bias) = recurrent(4, inputs)?;
    same("b", inputs[3], &bias)?;
    Ok((sequence, gates))
}

fn lstm_backward(inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let (sequence, gates, bias) = recurrent(4, inputs)?;
    same("h", inputs[3], &sequence)?;
    same("c", inputs[4], &sequence)?;
    same("gates", inputs[5], &gates)?;
    same("dh", inputs[6], &sequence)?;
    Ok(vec![inputs[0].clone(), inputs[1].clone(), inputs[2].clone(), bias])
}

/// Checks x, W, U, b, c; gives the shapes of h and of the gates.
fn gru(inputs: &[&Shape]) -> Result<(Shape, Shape), String> {
    let (sequence, gates, bias) = recurrent(3, inputs)?;
    same("b", inputs[3], &bias)?;
    same("c", inputs[4], &bias)?;
    Ok((sequence, gates))
}

fn gru_backward(inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let (sequence, gates, bias) = recurrent(3, inputs)?;
    same("h", inputs[3], &sequence)?;
    same("gates", inputs[4], &gates)?;
    same("q", inputs[5], &sequence)?;
    same("dh", inputs[6], &sequence)?;
    Ok(vec![inputs[0].clone(), inputs[1].clone(), inputs[2].clone(), bias.clone(), bias])
}

/// Checks x, W, U of a layer of G gates; gives the shapes of h `[B, T, H]`, of the gates `[B, T, GH]` and of a
/// bias `[GH]`.
fn recurrent(gates: usize, inputs: &[&Shape]) -> Result<(Shape, Shape, Shape), String> {
    let (x, w, u) = (inputs[0], inputs[1], inputs[2]);
    if x.rank() != 3 {
        return Err(format!("x is {x}, not [B, T, F]"));
    }
    fixed_axis(x, 1)?;
    let features = fixed_axis(x, 2)?;
    let (hidden, width) = match u.to_fixed().as_deref() {
        Some(&[hidden, width]) if hidden.checked_mul(gates) == Some(width) => (hidden, width),
        _ => return Err(format!("U is {u}, not [H, {gates}H]")),
    };
    same(&format!("W [F, {gates}H]"), w, &Shape::fixed(&[features, width]))?;
    let sequence = |width: usize| Shape::new([x.dims()[0], x.dims()[1], Dim::Fixed(width)]);
    Ok((sequence(hidden), sequence(width), Shape::fixed(&[width])))
}

fn conv1d(dilation: usize, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let outputs = convolution(dilation, inputs)?;
    same("b", inputs[2], &Shape::fixed(&[outputs]))?;
    let x = inputs[0].dims();
    Ok(vec![Shape::new([x[0], x[1], Dim::Fixed(outputs)])])
}

fn conv1d_backward(dilation: usize, inputs: &[&Shape]) -> Result<Vec<Shape>, String> {
    let outputs = convolution(dilation, inputs)?;
    let (x, w) = (inputs[0], inputs[1]);
    same("dy", inputs[2], &Shape::new([x.dims()[0], x.dims()[1], Dim::Fixed(outputs)]))?;
    Ok(vec![x.clone(), w.clone(), Shape::fixed(&[outputs])])
}

/// Checks x and w; gives O.
fn convolution(dilation: usize, inputs: &[&Shape]) -> Result<usize, String> {
    let (x, w) = (inputs[0], inputs[1]);
    if x.rank() != 3 {
        return Err(format!("x is {x}, not [B, T, F]"));
    }
    let (steps, features) = (fixed_axis(x, 1)?, fixed_axis(x, 2)?);
    let Some(&[taps, _, outputs]) = w.to_fixed().as_deref() else {
        return Err(format!("w is {w}, not [K, F, O]"));
    };
    same("w [K, F, O]", w, &Shape::fixed(&[taps, features, outputs]))?;
    if dilation == 0 {
        return Err("the dilation is 0; it must be 1 or more".into());
    }
    // How far back it reads, and how many places that makes with the window's.
    let reach = taps.saturating_sub(1).checked_mul(dilation).and_then(|n| n.checked_add(steps));
    match reach.and_then(|places| places.checked_mul(features.max(outputs))) {
        Some(elements) if elements <= isize::MAX as usize / 4 => Ok(outputs),
        _ => Err(format!("{taps} taps {dilation} places apart reach back further than can be counted")),
    }
}

/// Checks q, k, v; gives the shape of the logarithms `[B, heads, T]`.
fn attention(heads: usize, causal: bool, inputs: &[&Shape]) -> Result<Shape, String> {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    for (name, shape) in [("q", q), ("k", k)] {
        if shape.rank() != 3 {
            return Err(format!("{name} is {shape}, not [B, places, D]"));
        }
        fixed_axis(shape, 1)?;
    }
    let (steps, width) = (q.dims()[1], fixed_axis(q, 2)?);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(format!("{heads} heads don't share out {width} features"));
    }
    let places = k.dims()[1];
    let expected = Shape::new([q.dims()[0], places, Dim::Fixed(width)]);
    same("k", k, &expected)?;
    same("v", v, &expected)?;
    if causal && places != steps {
        return Err(format!("a causal one needs as many keys as queries, not {places} and {steps}"));
    }
    Ok(Shape::new([q.dims()[0], Dim::Fixed(heads), steps]))
}

fn adamw(
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    inputs: &[&Shape],
) -> Result<Vec<Shape>, String> {
    for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(format!("{name} is {beta}, not at least 0 and below 1"));
        }
    }
    positive("epsilon", epsilon)?;
    if !(weight_decay.is_finite() && weight_decay >= 0.0) {
        return Err(format!("weight_decay is {weight_decay}, not finite and at least 0"));
    }
    let parameter = inputs[0];
    if parameter.depends_on_batch() {
        return Err(format!("the parameter {parameter} depends on the batch"));
    }
    for (name, shape) in [("m", inputs[1]), ("v", inputs[2]), ("the gradient", inputs[3])] {
        same(name, shape, parameter)?;
    }
    scalar("the learning rate", inputs[4])?;
    scalar("the step", inputs[5])?;
    Ok(vec![parameter.clone(); 3])
}

fn fixed_axis(shape: &Shape, axis: usize) -> Result<usize, String> {
    match shape.dims().get(axis) {
        Some(Dim::Fixed(size)) => Ok(*size),
        Some(Dim::Batch(_)) => Err(format!("axis {axis} of {shape} depends on the batch")),
        None => Err(format!("{shape} has no axis {axis}")),
    }
}

fn with_axis(shape: &Shape, axis: usize, size: usize) -> Shape {
    let dims = shape.dims().iter().enumerate();
    Shape::new(dims.map(|(i, &dim)| if i == axis { Dim::Fixed(size) } else { dim }))
}

fn same(name: &str, shape: &Shape, expected: &Shape) -> Result<(), String> {
    if shape == expected { Ok(()) } else { Err(format!("{name} is {shape}, not {expected}")) }
}

fn scalar(name: &str, shape: &Shape) -> Result<(), String> {
    if shape.rank() == 0 { Ok(()) } else { Err(format!("{name} is {shape}, not a scalar")) }
}

fn positive(name: &str, value: f32) -> Result<(), String> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("{name} is {value}, not above 0")) }
}

#[cfg(test)]
mod tests;
