//! Sliding plans: to the bit what a fresh window gives, in every storage; and the storages' errors.

use graph::{Builder, Executor, Graph, Initial, Keep, Op, Plan, PrepareError, Shape, UnaryOp};

use super::{executors, numbers, run};
use crate::{Cpu, CpuOptions, Precision};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Lstm,
    Gru,
}

/// Layers of the given cells and units over `[B, steps, features]`, and a head.
pub(super) fn stack(cells: &[(Cell, usize)], steps: usize, features: usize) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("x", Shape::batch(&[steps, features])).unwrap();
    let mut width = features;
    for (index, &(cell, hidden)) in cells.iter().enumerate() {
        let gates = if cell == Cell::Lstm { 4 } else { 3 };
        let mut state = |name: &str, dims: &[usize], initial| {
            b.state(&format!("{name}{index}"), Shape::fixed(dims), initial, true).unwrap()
        };
        let w = state("w", &[width, gates * hidden], Initial::Glorot);
        let u = state("u", &[hidden, gates * hidden], Initial::Glorot);
        let bias = state("b", &[gates * hidden], Initial::UniformRoot { n: hidden });
        let keep = if index + 1 < cells.len() { Keep::Sequence } else { Keep::Last };
        x = match cell {
            Cell::Lstm => b.lstm(x, w, u, bias, keep).unwrap(),
            Cell::Gru => {
                let c = state("c", &[gates * hidden], Initial::UniformRoot { n: hidden });
                b.push(Op::Gru { keep }, &[x, w, u, bias, c]).unwrap()[0]
            }
        };
        width = hidden;
    }
    let head = b.state("head", Shape::fixed(&[width, 2]), Initial::Glorot, true).unwrap();
    let y = b.matmul(x, head, false, false).unwrap();
    let bias = b.state("head.b", Shape::fixed(&[2]), Initial::Constant(0.3), true).unwrap();
    let y = b.add(y, bias).unwrap();
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

/// Pads, slices, joins and products as a user's causal convolution: kernel 2.
pub(super) fn convolutions(steps: usize, features: usize) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("x", Shape::batch(&[steps, features])).unwrap();
    let mut width = features;
    for (layer, channels) in [6, 9].into_iter().enumerate() {
        let dilation = 1 << layer;
        let padded = b.pad(x, 1, dilation, 0).unwrap();
        let before = b.slice(padded, 1, 0, steps).unwrap();
        let both = b.concat(&[before, x], 2).unwrap();
        let w = b
            .state(&format!("w{layer}"), Shape::fixed(&[2 * width, channels]), Initial::Glorot, true)
            .unwrap();
        let y = b.matmul(both, w, false, false).unwrap();
        x = b.unary(UnaryOp::Gelu, y).unwrap();
        width = channels;
    }
    let last = b.slice(x, 1, steps - 1, steps).unwrap();
    let last = b.reshape(last, Shape::batch(&[width])).unwrap();
    b.output("prediction", last).unwrap();
    b.finish().unwrap()
}

pub(super) fn check_bits(cpu: &Cpu, graph: &Graph, (steps, features): (usize, usize), name: &str) {
    let mut fresh = cpu.prepare(graph, &[1, 5]).unwrap();
    let mut sliding = cpu.prepare_sliding(graph, steps, 2).unwrap();
    let rows = numbers((3 * steps + 2) * features, 7);
    let mut output = Vec::new();
    for (t, row) in rows.chunks(features).enumerate() {
        // Another stream between, so that nothing of one shows in the other.
        sliding.push(1, &numbers(features, t as u32), &mut output).unwrap();
        let mut full = sliding.push(0, row, &mut output).unwrap();
        if t % 4 == 1 {
            sliding.replace(0, &numbers(features, 900 + t as u32), &mut output).unwrap();
            sliding.push(1, row, &mut output).unwrap();
            full = sliding.replace(0, row, &mut output).unwrap();
        }
        assert_eq!(full, t + 1 >= steps);
        if full {
            let window = &rows[(t + 1 - steps) * features..(t + 1) * features];
            let alone = run(fresh.as_mut(), 1, &[window], 1).swap_remove(0);
            assert_eq!(output, alone, "{name}, {}, {}, row {t}", cpu.isa(), cpu.precision());
            let five = run(fresh.as_mut(), 5, &[&window.repeat(5)], 1).swap_remove(0);
            assert!(five.chunks(output.len()).all(|row| row == output), "{name} in a batch");
        }
        if t % 3 != 0 {
            sliding.settle(0).unwrap();
        }
        if t == 2 * steps {
            sliding.reset(1);
        }
    }
}

#[test]
fn a_sliding_window_has_the_bits_of_a_fresh_one() {
    use Cell::{Gru, Lstm};
    let stacks: [&[(Cell, usize)]; 5] = [
        &[(Lstm, 20)],
        &[(Gru, 33)],
        &[(Lstm, 16), (Lstm, 7)],
        &[(Gru, 5), (Gru, 40), (Gru, 12)],
        &[(Lstm, 70), (Gru, 19)],
    ];
    for threads in [1, 3] {
        for cpu in executors(threads) {
            for precision in Precision::ALL {
                let cpu = cpu.at(precision);
                for (index, cells) in stacks.iter().enumerate() {
                    let (steps, features) = [(30, 5), (1, 3), (2, 1), (14, 8), (5, 17)][index];
                    let graph = stack(cells, steps, features);
                    check_bits(&cpu, &graph, (steps, features), &format!("stack {index}"));
                }
            }
            check_bits(&cpu, &convolutions(7, 4), (7, 4), "convolutions");
        }
    }
}

/// The largest difference from the f64 reference, as a part of the reference's largest value.
fn error(plan: &mut dyn Plan, graph: &Graph, inputs: usize) -> f64 {
    let mut worst = 0.0f64;
    for seed in 0..8 {
        let x = numbers(inputs, seed);
        let got = run(plan, 1, &[&x], 1).swap_remove(0);
        let wide = x.iter().map(|&x| f64::from(x)).collect();
        let mut states = graph::reference::initial_states_f64(graph, 0);
        let want = graph::reference::run(graph, 1, &[wide], &mut states).unwrap().swap_remove(0);
        let scale = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
        for (got, want) in got.iter().zip(&want) {
            worst = worst.max((f64::from(*got) - want).abs() / scale);
        }
    }
    worst
}

#[test]
fn storages_are_as_exact_as_their_bits() {
    let graph = stack(&[(Cell::Lstm, 50), (Cell::Gru, 40)], 20, 30);
    for cpu in executors(2) {
        let of = |precision| {
            let mut plan = cpu.at(precision).prepare(&graph, &[1]).unwrap();
            error(plan.as_mut(), &graph, 600)
        };
        let (f32, bf16, int8) = (of(Precision::F32), of(Precision::Bf16), of(Precision::Int8));
        assert!(f32 < 3e-6, "{}: f32 {f32}", cpu.isa());
        assert!((1e-5..3e-2).contains(&bf16), "{}: bf16 {bf16}", cpu.isa());
        assert!((1e-5..3e-2).contains(&int8), "{}: int8 {int8}", cpu.isa());
    }
}

#[test]
fn int8_sums_are_exact_on_every_path() {
    let graph = stack(&[(Cell::Gru, 37)], 12, 9);
    let x = numbers(12 * 9, 3);
    let all: Vec<Vec<f32>> = executors(1)
        .iter()
        .map(|cpu| {
            run(cpu.at(Precision::Int8).prepare(&graph, &[1]).unwrap().as_mut(), 1, &[&x], 1).swap_remove(0)
        })
        .collect();
    for other in &all {
        // The gates' functions differ in their last bits, the sums don't.
        assert!(other.iter().zip(&all[0]).all(|(a, b)| (a - b).abs() <= 2e-4 * b.abs().max(0.1)), "{all:?}");
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let graph = stack(&[(Cell::Lstm, 20), (Cell::Lstm, 20)], 6, 4);
    for cpu in executors(1) {
        for precision in Precision::ALL {
            let mut plan = cpu.at(precision).prepare(&graph, &[1]).unwrap();
            let mut x = numbers(24, 1);
            x[9] = f32::NAN;
            let got = run(plan.as_mut(), 1, &[&x], 1).swap_remove(0);
            assert!(got.iter().all(|y| y.is_nan()), "{} {precision}: {got:?}", cpu.isa());
            let mut sliding = cpu.at(precision).prepare_sliding(&graph, 6, 1).unwrap();
            let mut output = Vec::new();
            let mut spoilt = Vec::new();
            for (t, row) in numbers(4 * 20, 1).chunks_mut(4).enumerate() {
                row[2] = if t == 8 { f32::INFINITY } else { row[2] };
                row[1] = if t == 8 { f32::NAN } else { row[1] };
                if sliding.push(0, row, &mut output).unwrap() && output.iter().any(|y| y.is_nan()) {
                    spoilt.push(t);
                }
            }
            assert_eq!(spoilt, (8..14).collect::<Vec<_>>(), "{} {precision}", cpu.isa());
        }
    }
}

#[test]
fn a_carried_state_sees_all_rows_since_the_start() {
    use Cell::{Gru, Lstm};
    let (steps, features, total) = (6, 4, 20);
    for cells in [&[(Lstm, 9), (Gru, 7)][..], &[(Lstm, 18)]] {
        let rows = numbers(total * features, 2);
        for cpu in executors(1) {
            let mut plan = cpu.prepare_carried(&stack(cells, steps, features), steps, 1).unwrap();
            for round in 0..2 {
                let mut output = Vec::new();
                for t in 0..total {
                    let row = &rows[t * features..(t + 1) * features];
                    let full = plan.push(0, row, &mut output).unwrap();
                    assert_eq!(full, t + 1 >= steps);
                    if full {
                        let mut whole = cpu.prepare(&stack(cells, t + 1, features), &[1]).unwrap();
                        let want = run(whole.as_mut(), 1, &[&rows[..(t + 1) * features]], 1).swap_remove(0);
                        assert_eq!(output, want, "row {t} of round {round}");
                    }
                    if t % 2 == 0 {
                        plan.settle(0).unwrap();
                    }
                }
                plan.reset(0);
            }
        }
    }
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let refused = cpu.prepare_carried(&convolutions(7, 4), 7, 1).err().unwrap();
    assert!(matches!(refused, PrepareError::Unsupported { .. }));
}
