//! The GRU and its backward form, step by step.
#![allow(clippy::needless_range_loop)] // The indices are the formulas'.

use super::arrays::Array;
use super::elementwise::sigmoid;
use super::fused::{add_row, dot};

/// Cho et al. 2014 in the form of cuDNN and PyTorch (`torch.nn.GRU` states it), where the reset gate multiplies the
/// product with h instead of h. From h = 0, with p = x·W + b and q = h·U + c: r = σ(pᵣ + qᵣ), z = σ(p_z + q_z),
/// n = tanh(pₙ + r·qₙ); h ← (1 − z)·n + z·h. Gives h, the gates and qₙ.
pub(crate) fn gru_forward(inputs: &[&Array]) -> Vec<Array> {
    let [x, w, u, b, c] = inputs else { unreachable!("the shape rule counts five inputs") };
    let (batch, steps, features, hidden) = (x.dims[0], x.dims[1], x.dims[2], u.dims[0]);
    let sequence = |width| Array { dims: vec![batch, steps, width], data: vec![0.0; batch * steps * width] };
    let (mut h, mut gates, mut q) = (sequence(hidden), sequence(3 * hidden), sequence(hidden));
    for row in 0..batch {
        for step in 0..steps {
            let here = row * steps + step;
            let before = |k: usize| if step == 0 { 0.0 } else { h.data[(here - 1) * hidden + k] };
            let (mut p, mut product) = (b.data.clone(), c.data.clone());
            for k in 0..features {
                add_row(&mut p, x.data[here * features + k], &w.data[k * 3 * hidden..]);
            }
            for k in 0..hidden {
                add_row(&mut product, before(k), &u.data[k * 3 * hidden..]);
            }
            let mut new = vec![0.0; hidden];
            for k in 0..hidden {
                let r = sigmoid(p[k] + product[k]);
                let z = sigmoid(p[hidden + k] + product[hidden + k]);
                let product = product[2 * hidden + k];
                let n = (p[2 * hidden + k] + r * product).tanh();
                new[k] = (1.0 - z) * n + z * before(k);
                for (gate, value) in [r, z, n].into_iter().enumerate() {
                    gates.data[here * 3 * hidden + gate * hidden + k] = value;
                }
                q.data[here * hidden + k] = product;
            }
            h.data[here * hidden..(here + 1) * hidden].copy_from_slice(&new);
        }
    }
    vec![h, gates, q]
}

/// Back-propagation through time, from the last step to the first. With dn = dh·(1 − z)·(1 − n²):
/// dp = (dn·qₙ·r·(1 − r), dh·(h₋₁ − n)·z·(1 − z), dn), dq the same but for its last part, dn·r; and
/// dh₋₁ = dh·z + dq·Uᵀ.
pub(crate) fn gru_backward(inputs: &[&Array]) -> Vec<Array> {
    let [x, w, u, h, gates, q, dh] = inputs else { unreachable!("the shape rule counts seven inputs") };
    let (batch, steps, features, hidden) = (x.dims[0], x.dims[1], x.dims[2], u.dims[0]);
    let zeros = |dims: &[usize]| Array { dims: dims.to_vec(), data: vec![0.0; dims.iter().product()] };
    let (mut dx, mut dw, mut du) = (zeros(&x.dims), zeros(&w.dims), zeros(&u.dims));
    let (mut db, mut dc) = (zeros(&[3 * hidden]), zeros(&[3 * hidden]));
    for row in 0..batch {
        let mut dh_next = vec![0.0; hidden];
        for step in (0..steps).rev() {
            let here = row * steps + step;
            let before = |k: usize| if step == 0 { 0.0 } else { h.data[(here - 1) * hidden + k] };
            let (mut dp, mut dq) = (vec![0.0; 3 * hidden], vec![0.0; 3 * hidden]);
            let mut dh_before = vec![0.0; hidden];
            for k in 0..hidden {
                let gate = |n: usize| gates.data[here * 3 * hidden + n * hidden + k];
                let (r, z, n) = (gate(0), gate(1), gate(2));
                let dh = dh.data[here * hidden + k] + dh_next[k];
                let dn = dh * (1.0 - z) * (1.0 - n * n);
                dp[k] = dn * q.data[here * hidden + k] * r * (1.0 - r);
                dp[hidden + k] = dh * (before(k) - n) * z * (1.0 - z);
                dp[2 * hidden + k] = dn;
                (dq[k], dq[hidden + k], dq[2 * hidden + k]) = (dp[k], dp[hidden + k], dn * r);
                dh_before[k] = dh * z;
            }
            add_row(&mut db.data, 1.0, &dp);
            add_row(&mut dc.data, 1.0, &dq);
            for k in 0..features {
                let columns = k * 3 * hidden..(k + 1) * 3 * hidden;
                dx.data[here * features + k] += dot(&dp, &w.data[columns.clone()]);
                add_row(&mut dw.data[columns], x.data[here * features + k], &dp);
            }
            for k in 0..hidden {
                let columns = k * 3 * hidden..(k + 1) * 3 * hidden;
                dh_before[k] += dot(&dq, &u.data[columns.clone()]);
                add_row(&mut du.data[columns], before(k), &dq);
            }
            dh_next = dh_before;
        }
    }
    vec![dx, dw, du, db, dc]
}
