//! Attention against f64, at widths and numbers of keys that are no multiple of anything.

use super::backward::{Backward, Scratch};
use super::*;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// The mixtures and the logarithms of the sums.
fn truth(heads: Heads, queries: usize, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let Heads { heads, width, keys, causal } = heads;
    let row = heads * width;
    let (mut y, mut logs) = (vec![0.0; queries * row], vec![0.0; heads * queries]);
    for head in 0..heads {
        for t in 0..queries {
            let at = |x: &[f32], i: usize, d: usize| f64::from(x[i * row + head * width + d]);
            let seen = if causal { t + 1 } else { keys };
            let score =
                |s| (0..width).map(|d| at(q, t, d) * at(k, s, d)).sum::<f64>() / (width as f64).sqrt();
            let weights: Vec<f64> = (0..seen).map(|s| score(s).exp()).collect();
            let sum: f64 = weights.iter().sum();
            logs[head * queries + t] = sum.ln();
            for d in 0..width {
                let mixed: f64 = weights.iter().enumerate().map(|(s, w)| w * at(v, s, d)).sum();
                y[t * row + head * width + d] = mixed / sum;
            }
        }
    }
    (y, logs)
}

/// Queries `first .. first + count`.
fn attend(
    path: Path,
    heads: Heads,
    (first, count): (usize, usize),
    queries: usize,
    [q, k, v]: [&[f32]; 3],
) -> (Vec<f32>, Vec<f32>) {
    let row = heads.heads * heads.width;
    let mut packed = vec![f32::NAN; heads.packed_len(path)];
    let keys = Rows { data: k, stride: row };
    // SAFETY: `packed` is ours alone.
    unsafe { heads.pack(path, keys, (0, heads.keys), heads.scale(), packed.as_mut_ptr()) };
    let mut values = v.to_vec();
    values.resize(v.len() + path.lanes(), f32::NAN);
    let attend = Attend {
        heads,
        first,
        count,
        queries: Rows { data: &q[first * row..], stride: row },
        keys: &packed,
        values: Rows { data: &values, stride: row },
    };
    let (mut y, mut logs) = (vec![9.0; count * row], vec![9.0; heads.heads * queries]);
    attend.run(path, &mut y, row, Some((&mut logs[first..], queries)), &mut Aligned::default());
    (y, logs)
}

#[test]
fn attention_matches_f64_and_a_query_has_the_same_bits_in_any_tile() {
    for path in Path::all() {
        for (heads, width, queries, keys) in
            [(1, 1, 1, 1), (4, 16, 60, 60), (2, 5, 13, 70), (3, 20, 7, 3), (1, 33, 25, 130), (2, 8, 6, 64)]
        {
            for causal in [false, true] {
                let keys = if causal { queries } else { keys };
                let heads = Heads { heads, width, keys, causal };
                let row = heads.heads * width;
                let (q, k, v) = (numbers(queries * row, 1), numbers(keys * row, 2), numbers(keys * row, 3));
                let (want, want_logs) = truth(heads, queries, &q, &k, &v);
                let (y, logs) = attend(path, heads, (0, queries), queries, [&q, &k, &v]);
                for (got, want) in y.iter().zip(&want).chain(logs.iter().zip(&want_logs)) {
                    assert!((f64::from(*got) - want).abs() < 5e-6, "{} {heads:?}: {got} {want}", path.isa());
                }
                for t in 0..queries {
                    let (alone, _) = attend(path, heads, (t, 1), queries, [&q, &k, &v]);
                    assert_eq!(alone, y[t * row..(t + 1) * row], "{} {heads:?} query {t}", path.isa());
                }
            }
        }
    }
}

#[test]
fn what_a_causal_query_may_not_see_does_not_reach_it() {
    let heads = Heads { heads: 1, width: 4, keys: 9, causal: true };
    for path in Path::all() {
        let (q, mut k, mut v) = (numbers(36, 1), numbers(36, 2), numbers(36, 3));
        let (before, _) = attend(path, heads, (0, 9), 9, [&q, &k, &v]);
        k[24..].fill(f32::NAN);
        v[24..].fill(f32::INFINITY);
        let (after, _) = attend(path, heads, (0, 9), 9, [&q, &k, &v]);
        assert_eq!(before[..24], after[..24]);
        assert!(after[24..].iter().all(|y| y.is_nan()));
    }
}

#[test]
fn large_scores_stay_finite_and_nan_comes_out() {
    let heads = Heads { heads: 1, width: 1, keys: 3, causal: false };
    for path in Path::all() {
        let (y, _) = attend(path, heads, (0, 1), 1, [&[100.0], &[100.0, 99.0, -1e4], &[7.0, 1.0, 1.0]]);
        assert_eq!(y, [7.0]);
        let (y, _) = attend(path, heads, (0, 1), 1, [&[-1.0], &[-1e3, 2.0, f32::NAN], &[7.0, 1.0, 1.0]]);
        assert!(y[0].is_nan());
    }
}

/// Σ dy · y of the attention in f64.
fn loss(heads: Heads, queries: usize, [q, k, v]: [&[f64]; 3], dy: &[f32]) -> f64 {
    let Heads { heads, width, keys, causal } = heads;
    let row = heads * width;
    let mut total = 0.0;
    for head in 0..heads {
        for t in 0..queries {
            let at = |x: &[f64], i: usize, d: usize| x[i * row + head * width + d];
            let seen = if causal { t + 1 } else { keys };
            let score =
                |s| (0..width).map(|d| at(q, t, d) * at(k, s, d)).sum::<f64>() / (width as f64).sqrt();
            let weights: Vec<f64> = (0..seen).map(|s| score(s).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..width {
                let mixed: f64 = weights.iter().enumerate().map(|(s, w)| w * at(v, s, d)).sum();
                total += mixed / sum * f64::from(dy[t * row + head * width + d]);
            }
        }
    }
    total
}

#[test]
fn the_backward_matches_differences_of_f64() {
    for (heads, width, queries, keys) in [(1, 1, 1, 1), (2, 5, 7, 9), (1, 20, 4, 70), (2, 3, 70, 5)] {
        for causal in [false, true] {
            let queries = if causal { keys } else { queries };
            let heads = Heads { heads, width, keys, causal };
            let row = heads.heads * width;
            let sizes = [queries * row, keys * row, keys * row];
            let inputs: [Vec<f32>; 3] = std::array::from_fn(|i| numbers(sizes[i], i as u32 + 1));
            let dy = numbers(queries * row, 7);
            let wide: Vec<Vec<f64>> =
                inputs.iter().map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
            for path in Path::all() {
                let [q, k, v] = &inputs;
                let (y, logs) = attend(path, heads, (0, queries), queries, [q, k, v]);
                let window = Backward { heads, queries, q, k, v, y: &y, logs: &logs, dy: &dy };
                let mut got = sizes.map(|size| vec![9.0; size]);
                let [dq, dk, dv] = &mut got;
                window.run(path, [dq, dk, dv], &mut Scratch::default());
                for input in 0..3 {
                    for i in (0..sizes[input]).step_by(1 + sizes[input] / 40) {
                        let at = |step: f64| {
                            let mut moved = wide.clone();
                            moved[input][i] += step;
                            loss(heads, queries, [&moved[0], &moved[1], &moved[2]], &dy)
                        };
                        let want = (at(1e-5) - at(-1e-5)) / 2e-5;
                        let error = (f64::from(got[input][i]) - want).abs();
                        assert!(error < 3e-5, "{} {heads:?} input {input} at {i}: {error:e}", path.isa());
                    }
                }
            }
        }
    }
}
