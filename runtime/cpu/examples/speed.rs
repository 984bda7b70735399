//! Times the executor: `cargo run --release -p cpu --example speed [threads] [isa] [precision]`.
//!
//! Prints p50 and the best of many runs, in milliseconds, for LSTM and GRU stacks of random weights: inference at
//! several batch sizes, and a training step.

use std::time::{Duration, Instant};

use cpu::{Cpu, CpuOptions, Isa, Precision};
use graph::loss::Loss;
use graph::training::{Optimiser, training_graph};
use graph::{Builder, Executor, Graph, Initial, Keep, Shape};

#[derive(Clone, Copy)]
enum Cell {
    Lstm,
    Gru,
}

impl Cell {
    fn name(self) -> &'static str {
        match self {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }
}

fn model(cell: Cell, (layers, hidden): (usize, usize), (steps, features): (usize, usize)) -> Graph {
    let build = || -> Result<Graph, Box<dyn std::error::Error>> {
        let mut b = Builder::new();
        let mut x = b.input("x", Shape::batch(&[steps, features]))?;
        let mut width = features;
        for layer in 0..layers {
            let mut state = |name: &str, dims: &[usize], initial| {
                b.state(&format!("{name}{layer}"), Shape::fixed(dims), initial, true)
            };
            let gates = hidden
                * match cell {
                    Cell::Lstm => 4,
                    Cell::Gru => 3,
                };
            let w = state("w", &[width, gates], Initial::Glorot)?;
            let u = state("u", &[hidden, gates], Initial::Glorot)?;
            let keep = if layer + 1 < layers { Keep::Sequence } else { Keep::Last };
            x = match cell {
                Cell::Lstm => {
                    let bias = state("b", &[gates], Initial::LstmBias)?;
                    b.lstm(x, w, u, bias, keep)?
                }
                Cell::Gru => {
                    let bias = state("b", &[gates], Initial::Zeros)?;
                    let recurrent = state("c", &[gates], Initial::Zeros)?;
                    b.gru(x, w, u, bias, recurrent, keep)?
                }
            };
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

fn inference(cpu: &Cpu, cell: Cell, stack: (usize, usize), window: (usize, usize), batch: usize) {
    let mut plan = prepare(cpu, &model(cell, stack, window), batch);
    let ((layers, hidden), (steps, features)) = (stack, window);
    let x = numbers(batch * steps * features);
    let mut outputs = vec![Vec::new()];
    let name =
        format!("{} {layers}x{hidden}, {steps} steps, {features} features, batch {batch}", cell.name());
    time(&name, || plan.run(batch, &[&x], &mut outputs).expect("it runs"));
}

fn training(cpu: &Cpu, cell: Cell, (layers, hidden): (usize, usize), batch: usize) {
    let model = model(cell, (layers, hidden), (60, 32));
    let graph = training_graph(&model, &Loss::MeanSquared, &Optimiser::default());
    let mut plan = prepare(cpu, &graph.expect("it has a gradient"), batch);
    let (x, target) = (numbers(batch * 60 * 32), numbers(batch));
    let mut outputs = vec![Vec::new(); 2];
    let cell = cell.name();
    time(&format!("training step {cell} {layers}x{hidden}, 60 steps, 32 features, batch {batch}"), || {
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
    let cpu = Cpu::new(CpuOptions { threads, isa, ..CpuOptions::default() })
        .expect("the machine can run it")
        .at(precision);
    println!("{}; {threads} threads, {}, {precision}", Cpu::detected(), cpu.isa());
    for cell in [Cell::Lstm, Cell::Gru] {
        for batch in [1, 64, 256] {
            inference(&cpu, cell, (2, 128), (60, 32), batch);
        }
        for batch in [1, 1000] {
            inference(&cpu, cell, (1, 64), (60, 32), batch);
        }
        for (size, window) in [((2, 100), (50, 100)), ((3, 200), (100, 250)), ((2, 128), (60, 32))] {
            inference(&cpu, cell, size, window, 1);
            sliding(&cpu, cell, size, window);
        }
        training(&cpu, cell, (2, 128), 64);
        training(&cpu, cell, (1, 64), 64);
    }
}

/// Pushes, each after a settle that isn't timed, and both together.
fn sliding(cpu: &Cpu, cell: Cell, (layers, hidden): (usize, usize), (steps, features): (usize, usize)) {
    let graph = model(cell, (layers, hidden), (steps, features));
    let mut plan = cpu.prepare_sliding(&graph, steps, 1).expect("it prepares");
    let rows = numbers(997 * features);
    let mut rows = rows.chunks(features).cycle();
    let mut output = Vec::with_capacity(1);
    let (mut pushes, mut ticks) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) || ticks.len() < 10 {
        let start = Instant::now();
        let full = plan.push(0, rows.next().unwrap_or(&[]), &mut output).expect("it pushes");
        let pushed = start.elapsed();
        plan.settle(0).expect("it settles");
        if full {
            pushes.push(pushed.as_nanos() as f64 / 1e3);
            ticks.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
    }
    for times in [&mut pushes, &mut ticks] {
        times.sort_by(f64::total_cmp);
    }
    let at = |times: &[f64], part: f64| times[(times.len() as f64 * part) as usize];
    println!(
        "sliding {} {layers}x{hidden}, {steps} steps, {features} features: push p50 {:.2} us, p99 {:.2} us; push and settle p50 {:.1} us",
        cell.name(),
        at(&pushes, 0.5),
        at(&pushes, 0.99),
        at(&ticks, 0.5),
    );
}
