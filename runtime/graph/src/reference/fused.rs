//! Dropout, layer normalisation, the LSTM and AdamW, each with its backward form, step by step.
#![allow(clippy::needless_range_loop)] // The indices are the formulas'.

use super::arrays::Array;
use super::elementwise::sigmoid;
use super::random::dropout_keeps;
use crate::op::Keep;

/// `seed` holds an integer from 0 to 2²⁴ − 1. The element index counts in row-major order over the whole tensor.
pub(crate) fn dropout(rate: f32, salt: u32, x: &Array, seed: f64) -> Array {
    let scale = 1.0 / (1.0 - f64::from(rate));
    let data = x.data.iter().enumerate().map(|(index, &x)| {
        if dropout_keeps(salt, seed as u32, index as u32, rate) { x * scale } else { 0.0 }
    });
    Array { dims: x.dims.clone(), data: data.collect() }
}

/// Ba, Kiros and Hinton 2016; the variance is the mean squared deviation.
pub(crate) fn layer_norm(x: &Array, gamma: &Array, beta: &Array, epsilon: f32) -> Array {
    let features = gamma.data.len();
    let mut data = Vec::with_capacity(x.data.len());
    for row in x.data.chunks(features) {
        let (normal, _) = normalise(row, epsilon);
        data.extend((0..features).map(|i| normal[i] * gamma.data[i] + beta.data[i]));
    }
    Array { dims: x.dims.clone(), data }
}

/// With n = (x − mean) / σ and d = dy · gamma: dx = (d − mean(d) − n · mean(d · n)) / σ.
pub(crate) fn layer_norm_backward(x: &Array, gamma: &Array, dy: &Array, epsilon: f32) -> Vec<Array> {
    let features = gamma.data.len();
    let mut dx = Vec::with_capacity(x.data.len());
    let (mut dgamma, mut dbeta) = (vec![0.0; features], vec![0.0; features]);
    for (row, dy) in x.data.chunks(features).zip(dy.data.chunks(features)) {
        let (normal, deviation) = normalise(row, epsilon);
        let scaled: Vec<f64> = dy.iter().zip(&gamma.data).map(|(dy, gamma)| dy * gamma).collect();
        let mean = scaled.iter().sum::<f64>() / features as f64;
        let mean_normal = scaled.iter().zip(&normal).map(|(d, n)| d * n).sum::<f64>() / features as f64;
        for i in 0..features {
            dx.push((scaled[i] - mean - normal[i] * mean_normal) / deviation);
            dgamma[i] += dy[i] * normal[i];
            dbeta[i] += dy[i];
        }
    }
    let vector = |data| Array { dims: vec![features], data };
    vec![Array { dims: x.dims.clone(), data: dx }, vector(dgamma), vector(dbeta)]
}

/// (row − mean) / √(variance + epsilon), and that root.
fn normalise(row: &[f64], epsilon: f32) -> (Vec<f64>, f64) {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    let deviation = (variance + f64::from(epsilon)).sqrt();
    (row.iter().map(|x| (x - mean) / deviation).collect(), deviation)
}

/// The sequence h `[B, T, H]` or its last step.
pub(crate) fn kept(keep: Keep, h: Array) -> Array {
    match keep {
        Keep::Sequence => h,
        Keep::Last => {
            let last = h.slice(1, h.dims[1] - 1, h.dims[1]);
            Array { dims: vec![h.dims[0], h.dims[2]], data: last.data }
        }
    }
}

/// sums += factor · row
pub(crate) fn add_row(sums: &mut [f64], factor: f64, row: &[f64]) {
    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Hochreiter and Schmidhuber 1997 with the forget gate of Gers 2000, from h = c = 0:
/// i, f, g, o = σ, σ, tanh, σ of x·W + h·U + b; c ← f·c + i·g; h ← o·tanh(c).
pub(crate) fn lstm_forward(inputs: &[&Array]) -> Vec<Array> {
    let [x, w, u, b] = inputs else { unreachable!("the shape rule counts four inputs") };
    let (batch, steps, features, hidden) = (x.dims[0], x.dims[1], x.dims[2], u.dims[0]);
    let sequence = |width| Array { dims: vec![batch, steps, width], data: vec![0.0; batch * steps * width] };
    let (mut h, mut c, mut gates) = (sequence(hidden), sequence(hidden), sequence(4 * hidden));
    for row in 0..batch {
        for step in 0..steps {
            let here = row * steps + step;
            let mut sums = b.data.clone();
            for k in 0..features {
                add_row(&mut sums, x.data[here * features + k], &w.data[k * 4 * hidden..]);
            }
            for k in 0..if step == 0 { 0 } else { hidden } {
                add_row(&mut sums, h.data[(here - 1) * hidden + k], &u.data[k * 4 * hidden..]);
            }
            for (column, sum) in sums.into_iter().enumerate() {
                let is_cell = column / hidden == 2;
                gates.data[here * 4 * hidden + column] = if is_cell { sum.tanh() } else { sigmoid(sum) };
            }
            for k in 0..hidden {
                let gate = |n: usize| gates.data[here * 4 * hidden + n * hidden + k];
                let before = if step == 0 { 0.0 } else { c.data[(here - 1) * hidden + k] };
                c.data[here * hidden + k] = gate(1) * before + gate(0) * gate(2);
                h.data[here * hidden + k] = gate(3) * c.data[here * hidden + k].tanh();
            }
        }
    }
    vec![h, c, gates]
}

/// Back-propagation through time, from the last step to the first.
pub(crate) fn lstm_backward(inputs: &[&Array]) -> Vec<Array> {
    let [x, w, u, h, c, gates, dh] = inputs else { unreachable!("the shape rule counts seven inputs") };
    let (batch, steps, features, hidden) = (x.dims[0], x.dims[1], x.dims[2], u.dims[0]);
    let zeros = |dims: &[usize]| Array { dims: dims.to_vec(), data: vec![0.0; dims.iter().product()] };
    let (mut dx, mut dw, mut du) = (zeros(&x.dims), zeros(&w.dims), zeros(&u.dims));
    let mut db = zeros(&[4 * hidden]);
    for row in 0..batch {
        let (mut dh_next, mut dc_next) = (vec![0.0; hidden], vec![0.0; hidden]);
        for step in (0..steps).rev() {
            let here = row * steps + step;
            let mut dz = vec![0.0; 4 * hidden];
            for k in 0..hidden {
                let gate = |n: usize| gates.data[here * 4 * hidden + n * hidden + k];
                let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                let before = if step == 0 { 0.0 } else { c.data[(here - 1) * hidden + k] };
                let tanh = c.data[here * hidden + k].tanh();
                let dh = dh.data[here * hidden + k] + dh_next[k];
                let dc = dh * o * (1.0 - tanh * tanh) + dc_next[k];
                dz[k] = dc * g * i * (1.0 - i);
                dz[hidden + k] = dc * before * f * (1.0 - f);
                dz[2 * hidden + k] = dc * i * (1.0 - g * g);
                dz[3 * hidden + k] = dh * tanh * o * (1.0 - o);
                dc_next[k] = dc * f;
            }
            dh_next.fill(0.0);
            add_row(&mut db.data, 1.0, &dz);
            for k in 0..features {
                let columns = k * 4 * hidden..(k + 1) * 4 * hidden;
                dx.data[here * features + k] += dot(&dz, &w.data[columns.clone()]);
                add_row(&mut dw.data[columns], x.data[here * features + k], &dz);
            }
            for k in 0..if step == 0 { 0 } else { hidden } {
                let columns = k * 4 * hidden..(k + 1) * 4 * hidden;
                dh_next[k] += dot(&dz, &u.data[columns.clone()]);
                add_row(&mut du.data[columns], h.data[(here - 1) * hidden + k], &dz);
            }
        }
    }
    vec![dx, dw, du, db]
}

/// `settings`: beta1, beta2, epsilon, weight decay. With m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²:
/// p ← p − rate · (m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε) + decay · p). (Loshchilov and Hutter 2019,
/// algorithm 2 with the schedule folded into the rate.) Powers and their complements need more than f32.
pub(crate) fn adamw(settings: [f32; 4], inputs: &[&Array]) -> Vec<Array> {
    let [beta1, beta2, epsilon, weight_decay] = settings.map(f64::from);
    let [parameter, m, v, gradient, rate, step] = inputs else {
        unreachable!("the shape rule counts six inputs")
    };
    let (rate, step) = (rate.data[0], step.data[0]);
    let (unbias1, unbias2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));
    let dims = &parameter.dims;
    let m = m.zip(gradient, dims, |m, g| beta1 * m + (1.0 - beta1) * g);
    let v = v.zip(gradient, dims, |v, g| beta2 * v + (1.0 - beta2) * g * g);
    let direction = m.zip(&v, dims, |m, v| (m / unbias1) / ((v / unbias2).sqrt() + epsilon));
    let parameter = parameter.zip(&direction, dims, |p, d| p - rate * (d + weight_decay * p));
    vec![parameter, m, v]
}
