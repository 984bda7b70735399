//! Rows of the fused ops: softmax, layer normalisation, dropout, the LSTM's and GRU's forms and AdamW.

use super::elementwise::op_row;
use super::{Fill, Row, Tolerance};
use crate::op::{Keep, Op};
use crate::shape::Shape;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = softmax_rows();
    rows.extend(layer_norm_rows());
    rows.extend(dropout_rows());
    for (steps, features, hidden) in [(1, 1, 1), (5, 3, 7), (1, 16, 16), (4, 1, 33), (9, 5, 8), (3, 32, 20)] {
        rows.extend(lstm_rows(steps, features, hidden, 1.0));
        rows.extend(gru_rows(steps, features, hidden, 1.0));
    }
    rows.extend(lstm_rows(6, 4, 9, 60.0));
    rows.extend(gru_rows(6, 4, 9, 60.0));
    rows.extend(adamw_rows());
    rows
}

fn softmax_rows() -> Vec<Row> {
    let extreme = Fill::Cycle(vec![0.0, 1000.0, -1000.0, 999.5, 3.0, -2000.0, 88.8]);
    let forms = [
        ("last", Shape::batch(&[3, 17]), 2, Fill::Outliers(2.0)),
        ("middle", Shape::batch(&[9, 4]), 1, Fill::Outliers(2.0)),
        ("first", Shape::fixed(&[6, 2]), 0, Fill::Noise(5.0)),
        ("of one", Shape::batch(&[1]), 1, Fill::Outliers(2.0)),
        ("of equals", Shape::batch(&[8]), 1, Fill::Constant(-500.0)),
        ("of extremes", Shape::batch(&[7]), 1, extreme.clone()),
        ("of extremes down a column", Shape::batch(&[7, 3]), 1, extreme),
    ];
    // The largest argument's rounding, then a sum of up to 17 terms.
    let (tolerance, logarithm) =
        (Tolerance::scaled(64.0), Tolerance { relative: 8.0, terms: 0.0, scaled: 4.0 });
    let both = |(form, shape, axis, fill): (&str, Shape, usize, Fill)| {
        let inputs = vec![(shape, fill)];
        [
            op_row(format!("softmax {form}"), tolerance, inputs.clone(), Op::Softmax { axis }),
            op_row(format!("log_softmax {form}"), logarithm, inputs, Op::LogSoftmax { axis }),
        ]
    };
    let masked = vec![(Shape::batch(&[4]), Fill::Cycle(vec![-1e30, 1.0, -f32::INFINITY, 2.0]))];
    let masked = op_row("softmax of masked", tolerance, masked, Op::Softmax { axis: 1 });
    forms.into_iter().flat_map(both).chain([masked]).collect()
}

fn layer_norm_rows() -> Vec<Row> {
    // A mean of a thousand deviations costs a thousand units before the sum's own; E[x²] − E[x]² would cost a million.
    let far = Fill::Around { mean: 1000.0, spread: 1.0 };
    let forms = [
        ("plain", Shape::batch(&[3, 17]), Fill::Noise(2.0), 256.0),
        ("outliers", Shape::batch(&[40]), Fill::Outliers(10.0), 512.0),
        ("far from zero", Shape::batch(&[16]), far, 16_384.0),
        ("constant row", Shape::batch(&[5]), Fill::Constant(0.25), 256.0),
        ("vector", Shape::fixed(&[33]), Fill::Noise(2.0), 256.0),
    ];
    let both = |(form, shape, fill, units): (&str, Shape, Fill, f64)| {
        let features = shape.at(1).and_then(|dims| dims.last().copied()).unwrap_or(1);
        let vector = |fill| (Shape::fixed(&[features]), fill);
        let x = (shape.clone(), fill);
        let forward = vec![x.clone(), vector(Fill::Between(0.5, 2.0)), vector(Fill::Noise(1.0))];
        let backward = vec![x, vector(Fill::Between(0.5, 2.0)), (shape, Fill::Outliers(1.0))];
        let epsilon = 1e-5;
        [
            op_row(
                format!("layer_norm {form}"),
                Tolerance::scaled(units),
                forward,
                Op::LayerNorm { epsilon },
            ),
            op_row(
                format!("layer_norm_backward {form}"),
                Tolerance::scaled(units),
                backward,
                Op::LayerNormBackward { epsilon },
            ),
        ]
    };
    forms.into_iter().flat_map(both).collect()
}

fn dropout_rows() -> Vec<Row> {
    let forms = [(0.0, 0), (0.1, 7), (0.5, 0), (0.5, u32::MAX), (0.9, 123_456_789)];
    let row = |(rate, salt): (f32, u32)| {
        let inputs = vec![(Shape::batch(&[5, 33]), Fill::Between(0.5, 2.0)), (Shape::scalar(), Fill::Seed)];
        let name = format!("dropout {rate} of salt {salt}");
        Row { runs: 4, ..op_row(name, Tolerance::relative(2.0), inputs, Op::Dropout { rate, salt }) }
    };
    forms.into_iter().map(row).collect()
}

/// All four forms at one size. `scale` is how far the inputs reach; 60 saturates every gate.
fn lstm_rows(steps: usize, features: usize, hidden: usize, scale: f32) -> Vec<Row> {
    let weight = |dims: &[usize]| (Shape::fixed(dims), Fill::Noise(1.0));
    let sequence = |width: usize, fill| (Shape::batch(&[steps, width]), fill);
    let x = sequence(features, Fill::Outliers(scale));
    let (w, u, b) = (weight(&[features, 4 * hidden]), weight(&[hidden, 4 * hidden]), weight(&[4 * hidden]));
    let forward = vec![x.clone(), w.clone(), u.clone(), b];
    // What a forward pass saves lies within ±1 for h, within 0 to 1 for the gates; cells may grow with the steps.
    let saved = [
        sequence(hidden, Fill::Noise(1.0)),
        sequence(hidden, Fill::Noise(2.0)),
        sequence(4 * hidden, Fill::Between(0.0, 1.0)),
        sequence(hidden, Fill::Outliers(1.0)),
    ];
    let backward = [vec![x, w, u], saved.to_vec()].concat();
    // Each gate sums F + H products, and each step starts from the last one's rounding.
    let units = (16 + 2 * (features + hidden) + 8 * steps) as f64;
    let name =
        |form: &str| format!("{form} of {steps} steps, {features} features, {hidden} hidden, scale {scale}");
    let forward_row = |form: &str, op| Row {
        batches: vec![1, 2, 5],
        ..op_row(name(form), Tolerance::scaled(units), forward.clone(), op)
    };
    vec![
        forward_row("lstm last", Op::Lstm { keep: Keep::Last }),
        forward_row("lstm sequence", Op::Lstm { keep: Keep::Sequence }),
        forward_row("lstm_forward", Op::LstmForward),
        Row {
            batches: vec![1, 2, 5],
            ..op_row(name("lstm_backward"), Tolerance::scaled(4.0 * units), backward, Op::LstmBackward)
        },
    ]
}

/// All four forms at one size, as [`lstm_rows`].
fn gru_rows(steps: usize, features: usize, hidden: usize, scale: f32) -> Vec<Row> {
    let weight = |dims: &[usize]| (Shape::fixed(dims), Fill::Noise(1.0));
    let sequence = |width: usize, fill| (Shape::batch(&[steps, width]), fill);
    let x = sequence(features, Fill::Outliers(scale));
    let (w, u) = (weight(&[features, 3 * hidden]), weight(&[hidden, 3 * hidden]));
    let (b, c) = (weight(&[3 * hidden]), weight(&[3 * hidden]));
    let forward = vec![x.clone(), w.clone(), u.clone(), b, c];
    let saved = [
        sequence(hidden, Fill::Noise(1.0)),
        sequence(3 * hidden, Fill::Between(0.0, 1.0)),
        sequence(hidden, Fill::Noise(2.0)),
        sequence(hidden, Fill::Outliers(1.0)),
    ];
    let backward = [vec![x, w, u], saved.to_vec()].concat();
    // Each gate sums F + H products, and each step starts from the last one's rounding.
    let units = (16 + 2 * (features + hidden) + 8 * steps) as f64;
    let name =
        |form: &str| format!("{form} of {steps} steps, {features} features, {hidden} hidden, scale {scale}");
    let row = |form: &str, units: f64, inputs: &[(Shape, Fill)], op| Row {
        batches: vec![1, 2, 5],
        ..op_row(name(form), Tolerance::scaled(units), inputs.to_vec(), op)
    };
    vec![
        row("gru last", units, &forward, Op::Gru { keep: Keep::Last }),
        row("gru sequence", units, &forward, Op::Gru { keep: Keep::Sequence }),
        row("gru_forward", units, &forward, Op::GruForward),
        row("gru_backward", 4.0 * units, &backward, Op::GruBackward),
    ]
}

fn adamw_rows() -> Vec<Row> {
    let forms = [
        ("plain", vec![5, 7], 0.0, Fill::Outliers(0.1)),
        ("decayed", vec![3, 17], 0.1, Fill::Noise(1.0)),
        ("of a scalar", vec![], 0.0, Fill::Noise(1.0)),
        ("without gradient", vec![9], 0.0, Fill::Constant(0.0)),
        ("of huge gradients", vec![9], 0.01, Fill::Noise(1e12)),
        ("of tiny gradients", vec![9], 0.01, Fill::Noise(1e-12)),
    ];
    let row = |(form, dims, weight_decay, gradient): (&str, Vec<usize>, f32, Fill)| {
        let shape = Shape::fixed(&dims);
        let inputs = vec![
            (shape.clone(), Fill::Noise(1.0)),
            (shape.clone(), Fill::Noise(0.01)),
            (shape.clone(), Fill::Between(1e-6, 1e-2)),
            (shape, gradient),
            (Shape::scalar(), Fill::Constant(0.01)),
            (Shape::scalar(), Fill::RunNumber),
        ];
        let op = Op::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay };
        Row { runs: 3, ..op_row(format!("adamw {form}"), Tolerance::scaled(16.0), inputs, op) }
    };
    forms.into_iter().map(row).collect()
}
