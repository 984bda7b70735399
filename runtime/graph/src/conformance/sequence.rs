//! Rows of the ops along time: the causal convolution and attention, each with its backward form.

use super::elementwise::op_row;
use super::{Fill, Row, Tolerance};
use crate::op::Op;
use crate::shape::Shape;

pub(super) fn rows() -> Vec<Row> {
    // Steps, features, outputs, taps, dilation: vectors with a rest, more taps than places, whole register tiles.
    let convolutions = [
        (1, 1, 1, 1, 1),
        (7, 3, 5, 3, 1),
        (9, 5, 17, 2, 3),
        (4, 2, 3, 6, 2),
        (13, 8, 64, 5, 1),
        (20, 16, 70, 3, 4),
        (33, 32, 130, 3, 2),
    ];
    let mut rows: Vec<Row> = convolutions.into_iter().flat_map(convolution_rows).collect();
    // Queries, keys, width, heads.
    for (steps, places, width, heads) in
        [(1, 1, 1, 1), (5, 5, 4, 2), (3, 7, 6, 3), (19, 19, 32, 2), (8, 33, 20, 1), (60, 60, 64, 4)]
    {
        for causal in [false, true] {
            if steps == places || !causal {
                rows.extend(attention_rows(steps, places, width, heads, causal, 1.0));
            }
        }
    }
    // Scores so far apart that most weights underflow.
    rows.extend(attention_rows(9, 9, 8, 2, false, 20.0));
    rows.extend(attention_rows(9, 9, 8, 2, true, 20.0));
    rows
}

fn convolution_rows(
    (steps, features, outputs, taps, dilation): (usize, usize, usize, usize, usize),
) -> Vec<Row> {
    let weight = |dims: &[usize]| (Shape::fixed(dims), Fill::Noise(1.0));
    let x = (Shape::batch(&[steps, features]), Fill::Outliers(1.0));
    let dy = (Shape::batch(&[steps, outputs]), Fill::Outliers(1.0));
    let w = weight(&[taps, features, outputs]);
    let name = |form: &str| {
        format!(
            "{form} of {steps} steps, {features} features, {outputs} outputs, {taps} taps {dilation} apart"
        )
    };
    let batches = [1, 2, 5];
    let row = |form: &str, terms: usize, inputs, op| Row {
        batches: batches.to_vec(),
        ..op_row(name(form), Tolerance::terms(terms), inputs, op)
    };
    // dx sums taps times outputs, dw and db all places of the batch.
    let longest = (taps * outputs).max(batches[2] * steps);
    vec![
        row(
            "conv1d",
            taps * features,
            vec![x.clone(), w.clone(), weight(&[outputs])],
            Op::Conv1d { dilation },
        ),
        row("conv1d_backward", longest, vec![x, w, dy], Op::Conv1dBackward { dilation }),
    ]
}

/// `scale` is how far queries and keys reach.
fn attention_rows(
    steps: usize,
    places: usize,
    width: usize,
    heads: usize,
    causal: bool,
    scale: f32,
) -> Vec<Row> {
    let input = |places: usize, fill| (Shape::batch(&[places, width]), fill);
    let (q, k) = (input(steps, Fill::Noise(scale)), input(places, Fill::Noise(scale)));
    let v = input(places, Fill::Outliers(1.0));
    // Logarithms at which the weights stay below 1: half of the largest possible score, and a bit.
    let largest = scale * scale * (width as f32 / heads as f32).sqrt();
    let logarithms = (Shape::batch(&[heads, steps]), Fill::Between(largest, largest + 1.0));
    let forward = vec![q.clone(), k.clone(), v.clone()];
    let y = input(steps, Fill::Noise(1.0));
    let backward = vec![q, k, v, y.clone(), logarithms, y];
    // A score is a sum of D/heads products, whose rounding the exponential passes on; then sums over the places.
    let units = f64::from(largest) * (8 + width / heads) as f64 + (32 + places) as f64;
    let name = |form: &str| {
        let causal = if causal { "causal " } else { "" };
        format!(
            "{form} {causal}of {steps} queries, {places} keys, {width} features, {heads} heads, scale {scale}"
        )
    };
    let row = |form: &str, units: f64, inputs: &[(Shape, Fill)], op| Row {
        batches: vec![1, 2, 5],
        ..op_row(name(form), Tolerance::scaled(units), inputs.to_vec(), op)
    };
    vec![
        row("attention", units, &forward, Op::Attention { heads, causal }),
        row("attention_forward", units, &forward, Op::AttentionForward { heads, causal }),
        row("attention_backward", 4.0 * units, &backward, Op::AttentionBackward { heads, causal }),
    ]
}
