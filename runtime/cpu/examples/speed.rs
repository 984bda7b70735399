//! Times the executor: `cargo run --release -p cpu --example speed [threads] [isa] [precision]`.
//!
//! Prints p50 and the best of many runs, in milliseconds, for LSTM stacks of random weights: inference at
//! several batch sizes, and a training step.

use std::time::{Duration, Instant};

use cpu::{Cpu, CpuOptions, Isa, Precision};
use graph::loss::Loss;
use graph::training::{Optimiser, training_graph};
use graph::{Builder, Executor, Graph, Initial, Keep, Op, Shape};

fn model(layers: usize, hidden: usize, steps: usize, features: usize) -> Graph {
    let build = || -> Result<Graph, Box<dyn std::error::Error>> {
        let mut b = Builder::new();
        let mut x = b.input("x", Shape::batch(&[steps, features]))?;
        let mut width = features;
        for layer in 0..layers {
            let mut state = |name: &str, dims: &[usize], initial| {
                b.state(&format!("{name}{layer}"), Shape::fixed(dims), initial, true)
            };
            let w = state("w", &[width, 4 * hidden], Initial::Glorot)?;
            let u = state("u", &[hidden, 4 * hidden], Initial::Glorot)?;
            let bias = state("b", &[4 * hidden], Initial::LstmBias)?;
            let keep = if layer + 1 < layers { Keep::Sequence } else { Keep::Last };
            x = b.push(Op::Lstm { keep }, &[x, w, u, bias])?[0];
            width = hidden;
        }
        let head = b.state("head", Shape::fixed(&[hidden, 1]), Initial::Glorot, true)?;
        let y = b.matmul(x, head, false, false)?;
        b.output("prediction", y)?;
        Ok(b.finish()?)
    };
    build().expect("the model is well formed")
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// Runs for about two seconds.
fn time(name: &str, mut f: impl FnMut()) {
    f();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) || times.len() < 10 {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{name:58} p50 {:9.4} ms   best {:9.4} ms", times[times.len() / 2], times[0]);
}

fn prepare(cpu: &Cpu, graph: &Graph, batch: usize) -> Box<dyn graph::Plan> {
    let start = Instant::now();
    let plan = cpu.prepare(graph, &[batch]).expect("it prepares");
    print!("prepared in {:6.2} ms; ", start.elapsed().as_secs_f64() * 1e3);
    plan
}

fn inference(cpu: &Cpu, (layers, hidden): (usize, usize), (steps, features): (usize, usize), batch: usize) {
    let mut plan = prepare(cpu, &model(layers, hidden, steps, features), batch);
    let x = numbers(batch * steps * features);
    let mut outputs = vec![Vec::new()];
    let name = format!("lstm {layers}x{hidden}, {steps} steps, {features} features, batch {batch}");
    time(&name, || plan.run(batch, &[&x], &mut outputs).expect("it runs"));
}

fn training(cpu: &Cpu, (layers, hidden): (usize, usize), batch: usize) {
    let graph = training_graph(&model(layers, hidden, 60, 32), &Loss::MeanSquared, &Optimiser::default());
    let mut plan = prepare(cpu, &graph.expect("it has a gradient"), batch);
    let (x, target) = (numbers(batch * 60 * 32), numbers(batch));
    let mut outputs = vec![Vec::new(); 2];
    time(&format!("training step {layers}x{hidden}, 60 steps, 32 features, batch {batch}"), || {
        plan.run(batch, &[&x, &target, &[1e-3]], &mut outputs).expect("it runs");
    });
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads =
        arguments.next().map_or(2, |n| n.parse().expect("the first argument is a number of threads"));
    let isa = arguments.next().map(|name| {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).expect("the second is an instruction set")
    });
    let precision = arguments
        .next()
        .map_or(Precision::F32, |name| Precision::from_name(&name).expect("the third is f32, bf16 or int8"));
    let cpu = Cpu::new(CpuOptions { threads, isa }).expect("the machine can run it").at(precision);
    println!("{}; {threads} threads, {}, {precision}", Cpu::detected(), cpu.isa());
    for batch in [1, 64, 256] {
        inference(&cpu, (2, 128), (60, 32), batch);
    }
    for batch in [1, 1000] {
        inference(&cpu, (1, 64), (60, 32), batch);
    }
    inference(&cpu, (2, 100), (50, 100), 1);
    inference(&cpu, (3, 200), (100, 250), 1);
    training(&cpu, (2, 128), 64);
    training(&cpu, (1, 64), 64);
}
