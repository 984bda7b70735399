//! The executor as a whole: conformance on every path, bits that depend on nothing but the inputs, errors.

use graph::builder::Builder;
use graph::conformance::{self, Verdict};
use graph::training::{Optimiser, training_graph};
use graph::{
    Executor, Graph, Initial, Keep, Op, Plan, PrepareError, ReduceOp, RunError, Shape, Tensor, UnaryOp,
};

use crate::{Cpu, CpuError, CpuOptions, Isa};

mod allocations;
mod convolutions;
mod fusion;
mod sliding;

/// Executors for every path that this machine has; the others are named.
fn executors(threads: usize) -> Vec<Cpu> {
    Isa::ALL
        .into_iter()
        .filter_map(|isa| match Cpu::new(CpuOptions { threads, isa: Some(isa), ..CpuOptions::default() }) {
            Ok(cpu) => Some(cpu),
            Err(CpuError::Isa { isa, .. }) => {
                eprintln!("{isa}: not on this machine");
                None
            }
            Err(error) => panic!("{error}"),
        })
        .collect()
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Lstm,
    Gru,
}

const CELLS: [Cell; 2] = [Cell::Lstm, Cell::Gru];

/// [`model_of`] LSTMs.
fn model(steps: usize, features: usize, hidden: usize) -> Graph {
    model_of(Cell::Lstm, steps, features, hidden)
}

/// Two recurrent layers, layer norm, GELU and a head: "prediction" `[B, 1]`.
fn model_of(cell: Cell, steps: usize, features: usize, hidden: usize) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("x", Shape::batch(&[steps, features])).unwrap();
    let mut width = features;
    for layer in 0..2 {
        let mut state = |name: &str, dims: &[usize], initial| {
            b.state(&format!("{name}{layer}"), Shape::fixed(dims), initial, true).unwrap()
        };
        let gates = if cell == Cell::Lstm { 4 } else { 3 } * hidden;
        let w = state("w", &[width, gates], Initial::Glorot);
        let u = state("u", &[hidden, gates], Initial::Glorot);
        let keep = if layer == 0 { Keep::Sequence } else { Keep::Last };
        x = match cell {
            Cell::Lstm => {
                let bias = state("b", &[gates], Initial::LstmBias);
                b.lstm(x, w, u, bias, keep).unwrap()
            }
            Cell::Gru => {
                let [bias, recurrent] =
                    ["b", "c"].map(|name| state(name, &[gates], Initial::UniformRoot { n: hidden }));
                b.gru(x, w, u, bias, recurrent, keep).unwrap()
            }
        };
        width = hidden;
    }
    let gamma = b.state("gamma", Shape::fixed(&[hidden]), Initial::Constant(1.0), true).unwrap();
    let beta = b.state("beta", Shape::fixed(&[hidden]), Initial::Zeros, true).unwrap();
    x = b.push(Op::LayerNorm { epsilon: 1e-5 }, &[x, gamma, beta]).unwrap()[0];
    x = b.unary(UnaryOp::Gelu, x).unwrap();
    let head = b.state("head", Shape::fixed(&[hidden, 1]), Initial::Glorot, true).unwrap();
    let y = b.matmul(x, head, false, false).unwrap();
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

fn run(plan: &mut dyn Plan, batch: usize, inputs: &[&[f32]], outputs: usize) -> Vec<Vec<f32>> {
    let mut results = vec![Vec::new(); outputs];
    plan.run(batch, inputs, &mut results).unwrap();
    results
}

#[test]
fn every_conformance_row_passes_on_every_path() {
    for threads in [1, 3] {
        for cpu in executors(threads) {
            let outcomes = conformance::check(&cpu);
            assert!(outcomes.len() > 100, "the suite has shrunk to {}", outcomes.len());
            let bad: Vec<String> = outcomes
                .iter()
                .filter(|outcome| !matches!(outcome.verdict, Verdict::Passed { .. }))
                .map(|outcome| outcome.to_string())
                .collect();
            assert!(bad.is_empty(), "{} with {threads} threads:\n{}", cpu.isa(), bad.join("\n"));
        }
    }
}

/// Every output of a graph of inputs alone against the reference, at a batch size.
fn check_against_reference(graph: &Graph, batch: usize, limit: f64) {
    let inputs: Vec<Vec<f32>> = graph
        .inputs()
        .enumerate()
        .map(|(i, (_, _, shape))| numbers(shape.elements(batch).unwrap(), i as u32 + 50))
        .collect();
    let wide: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
    let want = graph::reference::run(graph, batch, &wide, &mut []).unwrap();
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    for cpu in executors(3) {
        let mut plan = cpu.prepare(graph, &[batch]).unwrap();
        // The second run meets buffers that the first has filled.
        for _ in 0..2 {
            let got = run(plan.as_mut(), batch, &slices, want.len());
            for ((name, _), (got, want)) in graph.outputs.iter().zip(got.iter().zip(&want)) {
                let scale = want.iter().fold(1.0, |m: f64, w| m.max(w.abs()));
                assert_eq!(got.len(), want.len());
                for (i, (got, want)) in got.iter().zip(want).enumerate() {
                    let error = (f64::from(*got) - want).abs() / scale;
                    assert!(error < limit, "{} {name}[{i}]: {got} is not {want}", cpu.isa());
                }
            }
        }
    }
}

#[test]
fn large_lstms_match_the_reference() {
    for (batch, steps, features, hidden) in [(40, 6, 19, 37), (3, 5, 4, 70), (1, 3, 1, 33), (70, 2, 1, 1)] {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[steps, features])).unwrap();
        let w = b.input("w", Shape::fixed(&[features, 4 * hidden])).unwrap();
        let u = b.input("u", Shape::fixed(&[hidden, 4 * hidden])).unwrap();
        let bias = b.input("b", Shape::fixed(&[4 * hidden])).unwrap();
        let dh = b.input("dh", Shape::batch(&[steps, hidden])).unwrap();
        let kept = b.push(Op::LstmForward, &[x, w, u, bias]).unwrap();
        let backward = b.push(Op::LstmBackward, &[x, w, u, kept[0], kept[1], kept[2], dh]).unwrap();
        let last = b.push(Op::Lstm { keep: Keep::Last }, &[x, w, u, bias]).unwrap();
        let all = b.push(Op::Lstm { keep: Keep::Sequence }, &[x, w, u, bias]).unwrap();
        for (i, value) in kept.into_iter().chain(backward).chain(last).chain(all).enumerate() {
            b.output(&format!("{i}"), value).unwrap();
        }
        check_against_reference(&b.finish().unwrap(), batch, 2e-5);
    }
}

#[test]
fn large_grus_match_the_reference() {
    for (batch, steps, features, hidden) in [(40, 6, 19, 37), (3, 5, 4, 70), (1, 3, 1, 33), (70, 2, 1, 1)] {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[steps, features])).unwrap();
        let w = b.input("w", Shape::fixed(&[features, 3 * hidden])).unwrap();
        let u = b.input("u", Shape::fixed(&[hidden, 3 * hidden])).unwrap();
        let [bias, recurrent] = ["b", "c"].map(|name| b.input(name, Shape::fixed(&[3 * hidden])).unwrap());
        let dh = b.input("dh", Shape::batch(&[steps, hidden])).unwrap();
        let kept = b.push(Op::GruForward, &[x, w, u, bias, recurrent]).unwrap();
        let backward = b.push(Op::GruBackward, &[x, w, u, kept[0], kept[1], kept[2], dh]).unwrap();
        let last = b.gru(x, w, u, bias, recurrent, Keep::Last).unwrap();
        let all = b.gru(x, w, u, bias, recurrent, Keep::Sequence).unwrap();
        for (i, value) in kept.into_iter().chain(backward).chain([last, all]).enumerate() {
            b.output(&format!("{i}"), value).unwrap();
        }
        check_against_reference(&b.finish().unwrap(), batch, 2e-5);
    }
}

#[test]
fn large_products_match_the_reference() {
    for (lead, rows, depth, columns) in [(6, 50, 70, 90), (1, 300, 40, 110), (4, 1, 600, 500)] {
        for (shared, transpose_a, transpose_b) in (0..8).map(|i| (i & 1 == 0, i & 2 == 0, i & 4 == 0)) {
            let mut b = Builder::new();
            let swap = |on: bool, m: usize, n: usize| if on { [n, m] } else { [m, n] };
            let a = b.input("a", Shape::batch(&swap(transpose_a, rows, depth))).unwrap();
            let right = swap(transpose_b, depth, columns);
            let right = if shared { Shape::fixed(&right) } else { Shape::batch(&right) };
            let right = b.input("b", right).unwrap();
            let y = b.matmul(a, right, transpose_a, transpose_b).unwrap();
            b.output("y", y).unwrap();
            check_against_reference(&b.finish().unwrap(), lead, 1e-6);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    for (cell, cpu) in CELLS.into_iter().flat_map(|cell| executors(2).into_iter().map(move |cpu| (cell, cpu)))
    {
        let graph = model_of(cell, 9, 5, 21);
        let sizes = [1, 2, 3, 5, 7, 16, 100];
        let mut plan = cpu.prepare(&graph, &sizes).unwrap();
        let x = numbers(100 * 9 * 5, 1);
        let together = run(plan.as_mut(), 100, &[&x], 1).swap_remove(0);
        for batch in sizes {
            for first in (0..=100 - batch).step_by(batch.max(13)) {
                let part = &x[first * 45..(first + batch) * 45];
                let alone = run(plan.as_mut(), batch, &[part], 1).swap_remove(0);
                let part = &together[first..first + batch];
                assert_eq!(alone, part, "{cell:?}, {} batch {batch} at {first}", cpu.isa());
            }
        }
    }
}

fn train(cpu: &Cpu, cell: Cell, batch: usize, steps: usize) -> (Vec<Vec<f32>>, Vec<(String, Tensor)>) {
    let (window, features) = (7, 3);
    let model = model_of(cell, window, features, 18);
    let graph = training_graph(&model, &graph::loss::Loss::MeanSquared, &Optimiser::default()).unwrap();
    let names: Vec<&str> = graph.inputs().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["x", "target", "learning_rate"]);
    let mut plan = cpu.prepare(&graph, &[batch]).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        let x = numbers(batch * window * features, step as u32 % 4);
        // The sum of the first feature over the window.
        let target: Vec<f32> =
            x.chunks(window * features).map(|row| row.iter().step_by(features).sum::<f32>() * 0.3).collect();
        losses.push(run(plan.as_mut(), batch, &[&x, &target, &[1e-2]], 2).concat());
    }
    (losses, plan.save())
}

#[test]
fn training_converges_on_a_toy_problem() {
    for (cell, cpu) in CELLS.into_iter().flat_map(|cell| executors(2).into_iter().map(move |cpu| (cell, cpu)))
    {
        let (losses, _) = train(&cpu, cell, 32, 300);
        let mean = |part: &[Vec<f32>]| part.iter().map(|l| l[0]).sum::<f32>() / part.len() as f32;
        let (before, after) = (mean(&losses[..4]), mean(&losses[296..]));
        assert!(after < before * 0.05, "{cell:?}, {}: {before} to {after}", cpu.isa());
    }
}

#[test]
fn training_has_the_same_bits_twice_and_at_any_number_of_threads() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for cell in CELLS {
            let results = [1, 2, 2, 5].map(|threads| {
                let cpu = Cpu::new(CpuOptions { threads, isa: Some(isa), ..CpuOptions::default() }).unwrap();
                train(&cpu, cell, 70, 4)
            });
            assert!(results.iter().all(|result| result == &results[0]), "{cell:?}, {isa}");
        }
    }
}

#[test]
fn an_independent_plan_is_not_disturbed_by_another_at_the_same_time() {
    let cpu = Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() }).unwrap();
    let alone = train(&cpu, Cell::Gru, 40, 5);
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| train(&cpu, Cell::Gru, 40, 5))).collect();
        for thread in both {
            assert!(thread.join().unwrap() == alone);
        }
    });
}

#[test]
fn loaded_weights_are_used_at_every_batch_size_and_saved_as_they_are() {
    CELLS.into_iter().for_each(loaded_weights_are_used);
}

fn loaded_weights_are_used(cell: Cell) {
    let graph = model_of(cell, 4, 3, 10);
    let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap();
    let (mut one, mut two) = (cpu.prepare(&graph, &[1, 3]).unwrap(), cpu.prepare(&graph, &[1, 3]).unwrap());
    let head = ("head".to_string(), Tensor::new(vec![10, 1], numbers(10, 3)).unwrap());
    let x = numbers(3 * 12, 4);
    let before = run(one.as_mut(), 3, &[&x], 1);
    one.load(std::slice::from_ref(&head)).unwrap();
    assert!(one.save().contains(&head));
    let after = run(one.as_mut(), 3, &[&x], 1);
    assert_ne!(after, before);
    assert_eq!(run(one.as_mut(), 1, &[&x[..12]], 1)[0][0], after[0][0]);
    two.load(&one.save()).unwrap();
    assert_eq!(run(two.as_mut(), 3, &[&x], 1), after);
}

#[test]
fn biases_that_are_parts_of_one_state_give_the_same_bits() {
    let hidden = 7;
    let values = numbers(6 * hidden, 8);
    let graph = |together: bool| {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[5, 3])).unwrap();
        let w = b.state("w", Shape::fixed(&[3, 3 * hidden]), Initial::Glorot, true).unwrap();
        let u = b.state("u", Shape::fixed(&[hidden, 3 * hidden]), Initial::Glorot, true).unwrap();
        let mut given = |name: &str, data: &[f32]| {
            let tensor = Tensor::new(vec![data.len()], data.to_vec()).unwrap();
            b.state(name, Shape::fixed(&[data.len()]), Initial::Given(tensor), true).unwrap()
        };
        let biases = if together {
            let both = given("both", &values);
            [0, 3 * hidden].map(|start| b.slice(both, 0, start, start + 3 * hidden).unwrap())
        } else {
            [given("b", &values[..3 * hidden]), given("c", &values[3 * hidden..])]
        };
        let y = b.gru(x, w, u, biases[0], biases[1], Keep::Last).unwrap();
        b.output("y", y).unwrap();
        b.finish().unwrap()
    };
    let x = numbers(4 * 15, 9);
    for cpu in executors(1) {
        let results = [true, false].map(|together| {
            let mut plan = cpu.prepare(&graph(together), &[4]).unwrap();
            // Loading replaces the constant that the parts are of.
            let before = run(plan.as_mut(), 4, &[&x], 1);
            let zeros = |name: &str, n| (name.to_string(), Tensor::zeros(&[n]));
            let states = match together {
                true => vec![zeros("both", 6 * hidden)],
                false => vec![zeros("b", 3 * hidden), zeros("c", 3 * hidden)],
            };
            plan.load(&states).unwrap();
            let after = run(plan.as_mut(), 4, &[&x], 1);
            assert_ne!(before, after);
            (before, after)
        });
        assert_eq!(results[0], results[1], "{}", cpu.isa());
    }
}

#[test]
fn an_update_without_compute_moves_one_state_to_another() {
    let mut b = Builder::new();
    let shape = || Shape::fixed(&[2, 3]);
    let old = b.state("old", shape(), Initial::Zeros, false).unwrap();
    let new = b.state("new", shape(), Initial::Constant(2.0), false).unwrap();
    let x = b.input("x", shape()).unwrap();
    let flat = b.reshape(x, Shape::fixed(&[6])).unwrap();
    let back = b.reshape(flat, shape()).unwrap();
    b.update(old, new).unwrap();
    b.update(new, back).unwrap();
    b.output("old", old).unwrap();
    b.output("same", old).unwrap();
    b.output("x", flat).unwrap();
    let graph = b.finish().unwrap();
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let mut plan = cpu.prepare(&graph, &[1]).unwrap();
    let inputs: Vec<Vec<f32>> = (0..3).map(|i| vec![i as f32 + 5.0; 6]).collect();
    let all: Vec<_> = inputs.iter().map(|x| run(plan.as_mut(), 1, &[x], 3)).collect();
    let olds: Vec<f32> = all.iter().map(|outputs| outputs[0][0]).collect();
    assert_eq!(olds, [0.0, 2.0, 5.0]);
    assert!(all.iter().zip(&inputs).all(|(outputs, x)| outputs[0] == outputs[1] && outputs[2] == *x));
    assert_eq!(plan.save()[1].1.data(), inputs[2]);
}

#[test]
fn wrong_arguments_are_errors_and_leave_the_plan_as_it_was() {
    let graph = model(4, 3, 10);
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let mut plan = cpu.prepare(&graph, &[2, 4]).unwrap();
    let x = numbers(24, 5);
    let good = run(plan.as_mut(), 2, &[&x], 1);
    let mut fails = |batch, inputs: &[&[f32]], outputs: usize| {
        plan.run(batch, inputs, &mut vec![Vec::new(); outputs]).unwrap_err()
    };
    assert_eq!(fails(3, &[&x], 1), RunError::Batch { batch: 3, prepared: vec![2, 4] });
    assert!(matches!(fails(2, &[&x[1..]], 1), RunError::Argument(e) if e.contains("24") && e.contains("23")));
    assert!(matches!(fails(2, &[], 1), RunError::Argument(_)));
    assert!(matches!(fails(2, &[&x, &x], 1), RunError::Argument(_)));
    assert!(matches!(fails(2, &[&x], 0), RunError::Argument(_)));
    let load = |plan: &mut dyn Plan, name: &str, dims: &[usize]| {
        let given = [("head".to_string(), Tensor::zeros(&[10, 1])), (name.to_string(), Tensor::zeros(dims))];
        plan.load(&given).unwrap_err()
    };
    assert!(matches!(load(plan.as_mut(), "nothing", &[1]), RunError::State(e) if e.contains("nothing")));
    assert!(matches!(load(plan.as_mut(), "beta", &[11]), RunError::State(e) if e.contains("11")));
    assert_eq!(run(plan.as_mut(), 2, &[&x], 1), good, "a refused load changes nothing");
}

#[test]
fn what_cannot_be_prepared_is_refused() {
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let graph = model(4, 3, 10);
    let refused = |graph: &Graph, batches: &[usize]| cpu.prepare(graph, batches).err().unwrap();
    assert!(matches!(refused(&graph, &[]), PrepareError::Unsupported { .. }));
    assert!(matches!(refused(&graph, &[1, 0]), PrepareError::Unsupported { .. }));
    assert!(matches!(refused(&graph, &(1..100).collect::<Vec<_>>()), PrepareError::Unsupported { .. }));
    assert!(matches!(refused(&graph, &[usize::MAX]), PrepareError::Invalid(_)));
    let mut broken = graph.clone();
    broken.nodes.swap(1, 4);
    assert!(matches!(refused(&broken, &[1]), PrepareError::Invalid(_)));
    assert!(Cpu::new(CpuOptions { threads: 0, ..CpuOptions::default() }).is_err());
    assert!(Cpu::new(CpuOptions { threads: 1000, ..CpuOptions::default() }).is_err());
}

#[test]
fn reductions_of_a_large_array_are_accurate() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[1000])).unwrap();
    let sum = b.reduce(ReduceOp::Sum, x, &[0, 1], false).unwrap();
    let mean = b.reduce(ReduceOp::Mean, x, &[0], true).unwrap();
    b.output("sum", sum).unwrap();
    b.output("mean", mean).unwrap();
    let graph = b.finish().unwrap();
    let cpu = Cpu::new(CpuOptions::default()).unwrap();
    let mut plan = cpu.prepare(&graph, &[1000]).unwrap();
    let x: Vec<f32> = numbers(1_000_000, 6).iter().map(|x| x + 1.0).collect();
    let outputs = run(plan.as_mut(), 1000, &[&x], 2);
    let want: f64 = x.iter().map(|&x| f64::from(x)).sum();
    assert!((f64::from(outputs[0][0]) - want).abs() < want * 1e-6);
    assert_eq!(outputs[1].len(), 1000);
}

#[test]
fn detection_names_what_is_used() {
    let detected = Cpu::detected();
    assert_eq!(detected.isa, Cpu::new(CpuOptions::default()).unwrap().isa());
    assert!(detected.cores >= 1 && detected.to_string().contains(detected.isa.name()));
    assert_eq!(detected.isa == Isa::Portable, !detected.features.contains(&"avx2"));
}
