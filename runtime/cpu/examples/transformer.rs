//! Times a transformer: `cargo run --release -p cpu --example transformer [threads] [isa]`.
//!
//! Pre-norm, 3 layers of 64 with 4 heads and an inner width of 256, exact GELU, mean pool, a head; 60 steps of 32
//! features. Prints p50 and the best of many runs, in microseconds, for inference and for a training step.

use std::time::{Duration, Instant};

use cpu::{Cpu, CpuOptions, Isa};
use graph::loss::Loss;
use graph::training::{Optimiser, training_graph};
use graph::{BuildError, Builder, Executor, Graph, Initial, ReduceOp, Shape, UnaryOp, Value};

const STEPS: usize = 60;
const FEATURES: usize = 32;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const INNER: usize = 256;
const LAYERS: usize = 3;

type Built = Result<Value, BuildError>;

fn dense(b: &mut Builder, name: &str, x: Value, (inputs, outputs): (usize, usize)) -> Built {
    let w = b.state(&format!("{name}.w"), Shape::fixed(&[inputs, outputs]), Initial::Glorot, true)?;
    let bias = b.state(&format!("{name}.b"), Shape::fixed(&[outputs]), Initial::Zeros, true)?;
    let y = b.matmul(x, w, false, false)?;
    b.add(y, bias)
}

fn norm(b: &mut Builder, name: &str, x: Value) -> Built {
    let gain = b.state(&format!("{name}.gain"), Shape::fixed(&[WIDTH]), Initial::Constant(1.0), true)?;
    let shift = b.state(&format!("{name}.shift"), Shape::fixed(&[WIDTH]), Initial::Zeros, true)?;
    b.layer_norm(x, gain, shift, 1e-5)
}

fn attention(b: &mut Builder, name: &str, x: Value) -> Built {
    let all = dense(b, &format!("{name}.in"), x, (WIDTH, 3 * WIDTH))?;
    let [q, k, v] = [0, 1, 2].map(|part| b.slice(all, 2, part * WIDTH, (part + 1) * WIDTH));
    let joined = b.attention(q?, k?, v?, HEADS, false)?;
    dense(b, &format!("{name}.out"), joined, (WIDTH, WIDTH))
}

fn build() -> Result<Graph, Box<dyn std::error::Error>> {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[STEPS, FEATURES]))?;
    let embedded = dense(&mut b, "embed", x, (FEATURES, WIDTH))?;
    let position = b.state("position", Shape::fixed(&[STEPS, WIDTH]), Initial::Glorot, true)?;
    let mut y = b.add(embedded, position)?;
    for layer in 0..LAYERS {
        let normal = norm(&mut b, &format!("{layer}.norm1"), y)?;
        let mixed = attention(&mut b, &format!("{layer}.attention"), normal)?;
        y = b.add(y, mixed)?;
        let normal = norm(&mut b, &format!("{layer}.norm2"), y)?;
        let wide = dense(&mut b, &format!("{layer}.inner"), normal, (WIDTH, INNER))?;
        let wide = b.unary(UnaryOp::Gelu, wide)?;
        let narrow = dense(&mut b, &format!("{layer}.outer"), wide, (INNER, WIDTH))?;
        y = b.add(y, narrow)?;
    }
    let y = norm(&mut b, "norm", y)?;
    let pooled = b.reduce(ReduceOp::Mean, y, &[1], false)?;
    let y = dense(&mut b, "head", pooled, (WIDTH, 1))?;
    b.output("prediction", y)?;
    Ok(b.finish()?)
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// Runs for about a second and a half.
fn time(name: &str, mut f: impl FnMut()) {
    f();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) || times.len() < 10 {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!("{name:24} p50 {:11.1} us   best {:11.1} us", times[times.len() / 2], times[0]);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads =
        arguments.next().map_or(2, |n| n.parse().expect("the first argument is a number of threads"));
    let isa = arguments.next().map(|name| {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).expect("the second is an instruction set")
    });
    let cpu = Cpu::new(CpuOptions { threads, isa, ..CpuOptions::default() }).expect("the machine can run it");
    println!("{threads} threads, {}", cpu.isa());
    let graph = build().expect("the model is well formed");
    let mut outputs = vec![Vec::new()];
    for batch in [1, 64, 256] {
        let mut plan = cpu.prepare(&graph, &[batch]).expect("it prepares");
        let x = numbers(batch * STEPS * FEATURES);
        time(&format!("batch {batch}"), || plan.run(batch, &[&x], &mut outputs).expect("it runs"));
    }
    let batch = 64;
    let training =
        training_graph(&graph, &Loss::MeanSquared, &Optimiser::default()).expect("it has a gradient");
    let mut plan = cpu.prepare(&training, &[batch]).expect("it prepares");
    let (x, target) = (numbers(batch * STEPS * FEATURES), numbers(batch));
    let mut outputs = vec![Vec::new(); 2];
    time("training, batch 64", || {
        plan.run(batch, &[&x, &target, &[1e-3]], &mut outputs).expect("it runs");
    });
}
