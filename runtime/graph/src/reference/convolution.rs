//! The causal convolution over time and its backward form, place by place.
#![allow(clippy::needless_range_loop)] // The indices are the formulas'.

use super::arrays::Array;
use super::fused::{add_row, dot};

/// y[t] = b + Σₖ x[t − (K−1−k)·dilation]·w[k], where the places before the first are zeros.
pub(crate) fn conv1d(dilation: usize, inputs: &[&Array]) -> Array {
    let [x, w, b] = inputs else { unreachable!("the shape rule counts three inputs") };
    let outputs = b.data.len();
    let mut data = b.data.repeat(x.dims[0] * x.dims[1]);
    each_product(dilation, x, w, |to, from, weights| {
        for f in 0..x.dims[2] {
            let row = &w.data[weights + f * outputs..weights + (f + 1) * outputs];
            add_row(&mut data[to * outputs..(to + 1) * outputs], x.data[from * x.dims[2] + f], row);
        }
    });
    Array { dims: vec![x.dims[0], x.dims[1], outputs], data }
}

/// dx[t − (K−1−k)·dilation] += dy[t]·w[k]ᵀ, dw[k] += x[t − (K−1−k)·dilation]ᵀ·dy[t], db = Σ dy.
pub(crate) fn conv1d_backward(dilation: usize, inputs: &[&Array]) -> Vec<Array> {
    let [x, w, dy] = inputs else { unreachable!("the shape rule counts three inputs") };
    let (features, outputs) = (x.dims[2], w.dims[2]);
    let zeros = |dims: &[usize]| Array { dims: dims.to_vec(), data: vec![0.0; dims.iter().product()] };
    let (mut dx, mut dw, mut db) = (zeros(&x.dims), zeros(&w.dims), zeros(&[outputs]));
    dy.data.chunks(outputs).for_each(|row| add_row(&mut db.data, 1.0, row));
    each_product(dilation, x, w, |to, from, weights| {
        let dy = &dy.data[to * outputs..(to + 1) * outputs];
        for f in 0..features {
            let columns = weights + f * outputs..weights + (f + 1) * outputs;
            dx.data[from * features + f] += dot(dy, &w.data[columns.clone()]);
            add_row(&mut dw.data[columns], x.data[from * features + f], dy);
        }
    });
    vec![dx, dw, db]
}

/// For each place and tap that lies in the window: the row of y, the row of x, where w[k] starts.
fn each_product(dilation: usize, x: &Array, w: &Array, mut f: impl FnMut(usize, usize, usize)) {
    let (steps, taps) = (x.dims[1], w.dims[0]);
    for row in 0..x.dims[0] {
        for step in 0..steps {
            for k in 0..taps {
                if let Some(from) = step.checked_sub((taps - 1 - k) * dilation) {
                    f(row * steps + step, row * steps + from, k * w.dims[1] * w.dims[2]);
                }
            }
        }
    }
}
