//! Programs of windows against the reference, and their bits at any batch size and number of threads.

use graph::builder::Builder;
use graph::{Executor, Graph, Initial, ReduceOp, Shape, Tensor, UnaryOp, Value};

use super::*;
use crate::{Cpu, CpuOptions, Isa};

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(7);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

struct Sizes {
    steps: usize,
    features: usize,
    width: usize,
    heads: usize,
    inner: usize,
    causal: bool,
}

const SIZES: [Sizes; 3] = [
    Sizes { steps: 60, features: 32, width: 64, heads: 4, inner: 96, causal: false },
    Sizes { steps: 13, features: 3, width: 20, heads: 4, inner: 33, causal: true },
    Sizes { steps: 70, features: 5, width: 6, heads: 1, inner: 7, causal: false },
];

fn dense(b: &mut Builder, name: &str, x: Value, (inputs, outputs): (usize, usize)) -> Value {
    // Small enough that errors don't grow from layer to layer.
    let scale = 1.0 / (inputs as f32).sqrt();
    let weights = numbers(inputs * outputs, name.len() as u32).iter().map(|x| x * scale).collect();
    let w = Tensor::new(vec![inputs, outputs], weights).unwrap();
    let bias = Tensor::new(vec![outputs], numbers(outputs, 1 + name.len() as u32)).unwrap();
    let w = b.state(&format!("{name}.w"), Shape::fixed(&[inputs, outputs]), Initial::Given(w), true).unwrap();
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[outputs]), Initial::Given(bias), true).unwrap();
    let y = b.matmul(x, w, false, false).unwrap();
    b.add(y, bias).unwrap()
}

/// One layer with everything: products with all that may follow, norms, attention and its weights, a causal mask,
/// several outputs of which one is an input's part.
fn model(s: &Sizes) -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[s.steps, s.features])).unwrap();
    let embedded = dense(&mut b, "embed", x, (s.features, s.width));
    let position = Tensor::new(vec![s.steps, s.width], numbers(s.steps * s.width, 9)).unwrap();
    let position = b.constant(position).unwrap();
    let x0 = b.add(position, embedded).unwrap();
    let gain = b.state("gain", Shape::fixed(&[s.width]), Initial::Constant(1.5), true).unwrap();
    let shift = b.state("shift", Shape::fixed(&[s.width]), Initial::Constant(0.1), true).unwrap();
    let normal = b.layer_norm(x0, gain, shift, 1e-5).unwrap();
    let all = dense(&mut b, "qkv", normal, (s.width, 3 * s.width));
    let [q, k, v] = [0, 1, 2].map(|i| b.slice(all, 2, i * s.width, (i + 1) * s.width).unwrap());
    let mixed = b.attention(q, k, v, s.heads, s.causal).unwrap();
    let again = b.attention(mixed, x0, v, s.heads, s.causal).unwrap();
    let out = dense(&mut b, "out", again, (s.width, s.width));
    let x1 = b.add(x0, out).unwrap();
    let wide = dense(&mut b, "inner", x1, (s.width, s.inner));
    let wide = b.unary(UnaryOp::Gelu, wide).unwrap();
    let narrow = dense(&mut b, "outer2", wide, (s.inner, s.width));
    let x2 = b.add(x1, narrow).unwrap();
    let twice = b.add(x2, x2).unwrap();
    let kept = b.unary(UnaryOp::Tanh, twice).unwrap();
    let last = b.slice(kept, 1, s.steps - 1, s.steps).unwrap();
    let last = b.reshape(last, Shape::batch(&[s.width])).unwrap();
    let pooled = b.reduce(ReduceOp::Mean, x2, &[1], false).unwrap();
    let both = b.sub(pooled, last).unwrap();
    let y = dense(&mut b, "head", both, (s.width, 2));
    let weights = b.attention_weights(q, k, s.heads, s.causal).unwrap();
    let part = b.slice(x, 2, 0, 1).unwrap();
    for (name, value) in [("y", y), ("weights", weights), ("part", part), ("rows", kept)] {
        b.output(name, value).unwrap();
    }
    b.finish().unwrap()
}

fn states(graph: &Graph) -> Vec<Vec<f32>> {
    graph::reference::initial_states(graph, 0).into_iter().map(|(_, t)| t.data().to_vec()).collect()
}

fn program(path: Path, graph: &Graph) -> Option<Program> {
    let states = states(graph);
    build(path, graph, &states.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn cpu(isa: Isa, threads: usize) -> Cpu {
    Cpu::new(CpuOptions { threads, isa: Some(isa), ..CpuOptions::default() }).unwrap()
}

fn run(cpu: &Cpu, graph: &Graph, batch: usize, x: &[f32]) -> Vec<Vec<f32>> {
    let mut plan = cpu.prepare(graph, &[batch]).unwrap();
    let mut outputs = vec![Vec::new(); graph.outputs.len()];
    for _ in 0..2 {
        plan.run(batch, &[x], &mut outputs).unwrap();
    }
    outputs
}

#[test]
fn windows_match_the_reference_on_every_path() {
    for sizes in &SIZES {
        let graph = model(sizes);
        let x = numbers(3 * sizes.steps * sizes.features, 5);
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let mut state = graph::reference::initial_states_f64(&graph, 0);
        let want = graph::reference::run(&graph, 3, &[wide], &mut state).unwrap();
        for path in Path::all() {
            assert!(program(path, &graph).is_some(), "it is a program of windows");
            let got = run(&cpu(path.isa(), 2), &graph, 3, &x);
            for (index, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.len(), want.len());
                let scale = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
                for (got, want) in got.iter().zip(want) {
                    let error = (f64::from(*got) - want).abs() / scale;
                    assert!(error < 3e-5, "{}: output {index} is {got}, not {want}", path.isa());
                }
            }
        }
    }
}

#[test]
fn a_window_has_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for sizes in &SIZES {
            let graph = model(sizes);
            let x = numbers(9 * sizes.steps * sizes.features, 6);
            let together = run(&cpu(isa, 1), &graph, 9, &x);
            for (threads, batch) in [(1, 1), (2, 1), (5, 1), (5, 3), (2, 9), (16, 9)] {
                let row = sizes.steps * sizes.features;
                for first in [0, 9 - batch] {
                    let alone = run(&cpu(isa, threads), &graph, batch, &x[first * row..][..batch * row]);
                    for (alone, together) in alone.iter().zip(&together) {
                        let size = together.len() / 9;
                        let part = &together[first * size..][..batch * size];
                        assert_eq!(alone, part, "{isa}, {threads} threads, batch {batch} at {first}");
                    }
                }
            }
        }
    }
}

#[test]
fn buffers_in_use_at_the_same_time_have_places_of_their_own() {
    let program = program(Path::best(), &model(&SIZES[0])).unwrap();
    // A step's output is never where one of its inputs is.
    for (index, step) in program.steps.iter().enumerate() {
        let mut homes = Vec::new();
        step.views(|view, _| {
            if let memory::Home::Buffer(buffer) = view.home {
                homes.push((program.places[buffer], buffer));
            }
        });
        let (output, inputs) = homes.split_last().unwrap_or((&(usize::MAX, usize::MAX), &[]));
        assert!(
            inputs.iter().all(|(place, buffer)| place != &output.0 || buffer == &output.1),
            "step {index}"
        );
    }
    let places: std::collections::HashSet<_> = program.places.iter().collect();
    assert!(places.len() * 2 < program.places.len(), "places are used again");
}

#[test]
fn graphs_that_mix_windows_or_do_not_attend_are_left_alone() {
    let path = Path::best();
    let graph = |build: &dyn Fn(&mut Builder, Value) -> Value| {
        let mut b = Builder::new();
        let x = b.input("x", Shape::batch(&[4, 6])).unwrap();
        let y = build(&mut b, x);
        b.output("y", y).unwrap();
        b.finish().unwrap()
    };
    let attend = |b: &mut Builder, x| b.attention(x, x, x, 2, false).unwrap();
    assert!(program(path, &graph(&attend)).is_some());
    assert!(program(path, &graph(&|b, x| b.unary(UnaryOp::Gelu, x).unwrap())).is_none());
    let mean = |b: &mut Builder, x| {
        let y = attend(b, x);
        b.reduce(ReduceOp::Mean, y, &[0], false).unwrap()
    };
    assert!(program(path, &graph(&mean)).is_none());
    let gram = |b: &mut Builder, x| {
        let y = attend(b, x);
        let pooled = b.reduce(ReduceOp::Sum, y, &[1], false).unwrap();
        b.matmul(pooled, pooled, true, false).unwrap()
    };
    assert!(program(path, &graph(&gram)).is_none());
}
