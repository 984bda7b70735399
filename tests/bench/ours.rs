//! Our executor: whole windows, training steps, sliding windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpu::{Cpu, CpuOptions};
use graph::loss::Loss;
use graph::training::{Optimiser, training_graph};
use graph::{Executor, Graph, Plan, SlidingPlan};
use serde_json::{Value, json};

use crate::case::{self, Kind, Timed};
use crate::expected::{CHECKED_ROWS, CHECKED_STEPS, LEARNING_RATE, checked, targets};
use crate::model::{Model, rows};
use crate::worker::Task;
use crate::{machine, pin};

/// Between two pushes of a sparse feed.
const SPARSE: Duration = Duration::from_millis(10);
/// Before a sparse push: awake, so that no timer's slack is measured.
const AWAKE: Duration = Duration::from_micros(500);
/// More than the caches hold.
const OTHER_BYTES: usize = 96 << 20;

pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

pub fn load(request: &Value, threads: usize) -> Result<Box<dyn Task>, String> {
    let case = request["case"].as_str().and_then(case::find).ok_or("there is no such case")?;
    let cpu = Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).map_err(text)?.at(case.precision);
    match case.kind {
        Kind::Window { model, batch, .. } => Window::load(&cpu, &model(), batch),
        Kind::Training { model, batch, .. } => Training::load(&cpu, &model(), batch),
        Kind::Sliding { model, timed: Timed::Instances } => Instances::load(&cpu, model, threads),
        Kind::Sliding { model, timed } => Ok(Box::new(Sliding::load(&cpu, model(), timed)?)),
        Kind::Wire(_) => Err("the appliance runs it, not an engine".into()),
    }
}

struct Window {
    plan: Box<dyn Plan>,
    batch: usize,
    input: Vec<f32>,
    /// Windows that are compared with the reference.
    checks: Vec<f32>,
    outputs: Vec<Vec<f32>>,
}

impl Window {
    fn load(cpu: &Cpu, model: &Model, batch: usize) -> Result<Box<dyn Task>, String> {
        let plan = cpu.prepare(&model.graph, &[batch]).map_err(text)?;
        let input = rows(0, batch * model.steps, model.features);
        let checks = rows(0, checked(model, batch) * model.steps, model.features);
        Ok(Box::new(Window { plan, batch, input, checks, outputs: vec![Vec::new()] }))
    }
}

impl Task for Window {
    fn run(&mut self) -> Result<Duration, String> {
        let start = Instant::now();
        self.plan.run(self.batch, &[&self.input], &mut self.outputs).map_err(text)?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Value, String> {
        let each = self.outputs[0].len() / self.batch;
        if self.batch > 1 {
            return Ok(json!({"values": &self.outputs[0][..CHECKED_ROWS.min(self.batch) * each]}));
        }
        let mut values = Vec::new();
        for window in self.checks.chunks(self.input.len()) {
            self.plan.run(1, &[window], &mut self.outputs).map_err(text)?;
            values.extend_from_slice(&self.outputs[0]);
        }
        Ok(json!({"values": values}))
    }
}

/// The step that is timed: without clipping, as in the peers.
pub fn training(model: &Graph) -> Result<Graph, String> {
    let optimiser = Optimiser { clip_norm: None, ..Optimiser::default() };
    training_graph(model, &Loss::MeanSquared, &optimiser).map_err(text)
}

struct Training {
    plan: Box<dyn Plan>,
    batch: usize,
    input: Vec<f32>,
    target: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    /// The losses of the first steps.
    losses: Vec<f32>,
}

impl Training {
    fn load(cpu: &Cpu, model: &Model, batch: usize) -> Result<Box<dyn Task>, String> {
        let graph = training(&model.graph)?;
        let mut task = Training {
            plan: cpu.prepare(&graph, &[batch]).map_err(text)?,
            batch,
            input: rows(0, batch * model.steps, model.features),
            target: targets(batch),
            outputs: vec![Vec::new(); graph.outputs.len()],
            losses: Vec::new(),
        };
        for _ in 0..CHECKED_STEPS {
            task.run()?;
            task.losses.push(task.outputs[0][0]);
        }
        Ok(Box::new(task))
    }
}

impl Task for Training {
    fn run(&mut self) -> Result<Duration, String> {
        let inputs: [&[f32]; 3] = [&self.input, &self.target, &[LEARNING_RATE]];
        let start = Instant::now();
        self.plan.run(self.batch, &inputs, &mut self.outputs).map_err(text)?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Value, String> {
        Ok(json!({"values": self.losses}))
    }
}

struct Sliding {
    plan: Box<dyn SlidingPlan>,
    timed: Timed,
    /// Rows of the feed, and how many were pushed; it begins anew at the end.
    feed: Vec<f32>,
    features: usize,
    pushed: usize,
    output: Vec<f32>,
    /// The arrival of the next row of a sparse feed.
    next: Instant,
    other: Vec<u64>,
    at: usize,
}

/// Rows of a sliding case before they repeat.
pub const FEED_ROWS: usize = 1024;

impl Sliding {
    fn load(cpu: &Cpu, model: Model, timed: Timed) -> Result<Sliding, String> {
        let plan = cpu.prepare_sliding(&model.graph, model.steps, 1).map_err(text)?;
        let other = if timed == Timed::Sparse { vec![1; OTHER_BYTES / 8] } else { Vec::new() };
        let mut task = Sliding {
            plan,
            timed,
            feed: rows(0, FEED_ROWS, model.features),
            features: model.features,
            pushed: 0,
            output: Vec::new(),
            next: Instant::now(),
            other,
            at: 0,
        };
        while !task.push()? {
            task.plan.settle(0).map_err(text)?;
        }
        task.plan.settle(0).map_err(text)?;
        Ok(task)
    }

    /// Whether there is a prediction.
    fn push(&mut self) -> Result<bool, String> {
        let from = self.pushed % FEED_ROWS * self.features;
        let row = &self.feed[from..from + self.features];
        self.pushed += 1;
        self.plan.push(0, row, &mut self.output).map_err(text)
    }

    /// Until just before the next arrival: other work, which fills the caches, then awake.
    fn wait(&mut self) {
        if Instant::now() > self.next + SPARSE {
            // The feed stood still between two turns.
            self.next = Instant::now() + SPARSE;
        }
        let chunk = (1 << 20) / 8;
        let mut walked = 0;
        while walked < self.other.len() && Instant::now() + 2 * AWAKE < self.next {
            let end = (self.at + chunk).min(self.other.len());
            for x in self.other[self.at..end].iter_mut().step_by(8) {
                *x = x.wrapping_mul(3);
            }
            self.at = end % self.other.len();
            walked += chunk;
        }
        std::thread::sleep(self.next.saturating_duration_since(Instant::now() + AWAKE));
        while Instant::now() < self.next {
            std::hint::spin_loop();
        }
    }
}

impl Task for Sliding {
    fn run(&mut self) -> Result<Duration, String> {
        let start = match self.timed {
            Timed::Push | Timed::Tick | Timed::Instances => Instant::now(),
            Timed::Sparse => {
                self.wait();
                // Open loop: a push that begins late is late.
                let arrival = self.next;
                self.next += SPARSE;
                arrival
            }
        };
        self.push()?;
        let pushed = start.elapsed();
        self.plan.settle(0).map_err(text)?;
        Ok(if self.timed == Timed::Tick { start.elapsed() } else { pushed })
    }

    fn outputs(&mut self) -> Result<Value, String> {
        Ok(json!({"values": self.output, "pushed": self.pushed}))
    }
}

/// One stream that is measured and others that only keep their cores busy, while it is.
struct Instances {
    measured: Sliding,
    others: Vec<thread::JoinHandle<()>>,
    state: Arc<AtomicU8>,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const STOP: u8 = 2;

impl Instances {
    fn load(cpu: &Cpu, model: fn() -> Model, count: usize) -> Result<Box<dyn Task>, String> {
        let cores = machine::cores();
        let alone = || -> Result<Sliding, String> {
            let one = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).map_err(text)?;
            Sliding::load(&one.at(cpu.precision()), model(), Timed::Push)
        };
        let state = Arc::new(AtomicU8::new(IDLE));
        let mut others = Vec::new();
        for index in 1..count {
            let (mut other, state, core) = (alone()?, state.clone(), cores.get(index).copied());
            others.push(thread::spawn(move || {
                let _ = core.map(|core| pin::pin(&[core]));
                loop {
                    match state.load(Ordering::Acquire) {
                        STOP => return,
                        BUSY if other.run().is_ok() => {}
                        _ => thread::sleep(Duration::from_millis(1)),
                    }
                }
            }));
        }
        if let Some(&core) = cores.first() {
            pin::pin(&[core]).map_err(text)?;
        }
        Ok(Box::new(Instances { measured: alone()?, others, state }))
    }
}

impl Task for Instances {
    fn run(&mut self) -> Result<Duration, String> {
        self.state.store(BUSY, Ordering::Release);
        self.measured.run()
    }

    fn outputs(&mut self) -> Result<Value, String> {
        self.state.store(IDLE, Ordering::Release);
        self.measured.outputs()
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.state.store(STOP, Ordering::Release);
        for other in self.others.drain(..) {
            let _ = other.join();
        }
        let _ = pin::pin(&machine::cores());
    }
}
