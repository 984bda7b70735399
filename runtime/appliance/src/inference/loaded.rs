//! One model for whoever sends it tensors: its plan, what waits for it, and what it has done.
//!
//! Requests that come while a batch runs wait together and are the next batch. A window is the rows that the
//! manifest's feature names name, as the feature plugin gives them, so that the reply equals the one on the same
//! bars; `raw` leaves out the normaliser and how outputs are read, and is then the model file itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpu::Cpu;
use graph::{Dim, Executor, Graph, Plan};
use learn::explain::{ExplainError, Explainer};
use learn::normalise::{LabelScale, Normaliser};
use learn::reading::Reading;
use registry::Manifest;
use tokio::sync::oneshot;

use super::InferError;
use crate::runner::Runner;

/// Windows of one request that may be explained: each takes some 30 evaluations and their derivatives.
pub const EXPLAINED_MAX: usize = 64;
/// Windows of one request.
pub const ROWS_MAX: usize = 16_384;

/// What a request asks for beside predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    pub raw: bool,
    /// The output to explain, and the points of integration.
    pub explain: Option<(usize, usize)>,
    /// Further outputs of the graph, by name.
    pub extra: Vec<String>,
}

/// A tensor of a reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    pub queue: Duration,
    pub compute: Duration,
}

pub struct Answer {
    pub outputs: Vec<Output>,
    pub times: Times,
    /// Rows of the run that this request was part of.
    pub batch: usize,
}

type Reply = oneshot::Sender<Result<Answer, InferError>>;

struct Job {
    windows: Vec<f32>,
    rows: usize,
    wants: Wants,
    arrived: Instant,
    reply: Reply,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    rows: usize,
    running: bool,
}

/// Counts since the model was loaded, in the words of the statistics extension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub requests: u64,
    pub rows: u64,
    pub executions: u64,
    pub failed: u64,
    pub queue: Duration,
    pub compute: Duration,
    pub last: Option<market::Timestamp>,
}

pub struct Loaded {
    pub manifest: Manifest,
    /// "btc-vol/3".
    pub model: String,
    pub device: Arc<str>,
    /// An estimate: three times the weights, and what a batch needs.
    pub bytes: usize,
    /// Further outputs of the graph and their shapes; -1 is the batch.
    pub extra: Vec<(String, Vec<i64>)>,
    normaliser: Normaliser,
    reading: Reading,
    engine: Mutex<Engine>,
    queue: Mutex<Queue>,
    queue_rows_max: usize,
    stats: Mutex<Stats>,
}

/// What runs, one batch at a time.
struct Engine {
    runner: Runner,
    /// None of an imported file that tract runs as it is.
    whole: Option<(Graph, Cpu)>,
    explainer: Option<((usize, usize), Explainer)>,
    /// All outputs, one window at a time; made when they are first asked for.
    full: Option<Box<dyn Plan>>,
}

impl Loaded {
    /// `runner` gives predictions; `whole` is the model with all its outputs.
    pub fn new(
        runner: Runner,
        whole: Option<(Graph, Cpu)>,
        manifest: Manifest,
        file_bytes: usize,
        queue_rows_max: usize,
    ) -> Loaded {
        let dims = |shape: &graph::Shape| shape.dims().iter().map(signed).collect();
        let graph = whole.as_ref().map(|(graph, _)| graph);
        let outputs = |graph: &Graph| -> Vec<(String, Vec<i64>)> {
            let extra = graph.outputs.iter().filter(|(name, _)| name != "prediction");
            extra.map(|(name, value)| (name.clone(), dims(graph.shape(*value)))).collect()
        };
        let shapes = graph.iter().flat_map(|graph| &graph.nodes).flat_map(|node| &node.shapes);
        let widest = shapes.filter_map(|shape| shape.elements(256)).max();
        Loaded {
            model: format!("{}/{}", manifest.name, manifest.version),
            device: runner.device.clone(),
            bytes: 3 * file_bytes + 12 * widest.unwrap_or(0),
            extra: graph.map(outputs).unwrap_or_default(),
            normaliser: Normaliser::from_manifest(&manifest.normaliser),
            reading: Reading::from_manifest(&manifest),
            engine: Mutex::new(Engine { runner, whole, explainer: None, full: None }),
            queue: Mutex::default(),
            queue_rows_max,
            stats: Mutex::default(),
            manifest,
        }
    }

    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn window_len(&self) -> usize {
        self.manifest.input.window as usize * self.manifest.input.features as usize
    }

    /// Answers once the windows have been through the model. `windows`: `rows` of them, end to end.
    pub async fn infer(
        self: &Arc<Self>,
        windows: Vec<f32>,
        rows: usize,
        wants: Wants,
    ) -> Result<Answer, InferError> {
        self.check(&windows, rows, &wants)?;
        let (reply, answer) = oneshot::channel();
        let starts = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.rows + rows > self.queue_rows_max && queue.rows > 0 {
                return Err(InferError::Busy { waiting: queue.rows });
            }
            queue.rows += rows;
            queue.jobs.push(Job { windows, rows, wants, arrived: Instant::now(), reply });
            !std::mem::replace(&mut queue.running, true)
        };
        if starts {
            let model = self.clone();
            tokio::task::spawn_blocking(move || model.drain());
        }
        answer.await.map_err(|_| InferError::Failed("the model's thread ended: see the log".into()))?
    }

    fn check(&self, windows: &[f32], rows: usize, wants: &Wants) -> Result<(), InferError> {
        if windows.len() != rows * self.window_len() {
            return Err(InferError::Bad(format!("{} numbers for {rows} windows", windows.len())));
        }
        if wants.explain.is_some() && rows > EXPLAINED_MAX {
            return Err(InferError::Bad(format!(
                "{rows} windows are too many to explain at once: send at most {EXPLAINED_MAX}"
            )));
        }
        for name in &wants.extra {
            if !self.extra.iter().any(|(known, _)| known == name) {
                let known: Vec<&str> = self.extra.iter().map(|(known, _)| known.as_str()).collect();
                let known = if known.is_empty() { "prediction alone".into() } else { known.join(", ") };
                return Err(InferError::Bad(format!("{} has no output '{name}', but {known}", self.model)));
            }
        }
        Ok(())
    }

    /// Runs what waits until nothing does.
    fn drain(&self) {
        // A panic in a kernel must not leave the model closed: the next request starts a new thread.
        struct Ended<'a>(&'a Loaded);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
                    *queue = Queue::default();
                }
            }
        }
        let _ended = Ended(self);
        loop {
            let jobs = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.rows = 0;
                if queue.jobs.is_empty() {
                    queue.running = false;
                    return;
                }
                std::mem::take(&mut queue.jobs)
            };
            self.batch(jobs);
        }
    }

    /// One batch of all jobs, then what some of them want beside it.
    fn batch(&self, mut jobs: Vec<Job>) {
        let started = Instant::now();
        let width = self.manifest.input.features as usize;
        let rows: usize = jobs.iter().map(|job| job.rows).sum();
        for job in jobs.iter_mut().filter(|job| !job.wants.raw) {
            job.windows.chunks_exact_mut(width).for_each(|row| self.normaliser.apply(row));
        }
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = Vec::new();
        let ran = match jobs.as_slice() {
            [one] => engine.runner.run(&one.windows, &mut values),
            _ => {
                let all: Vec<f32> = jobs.iter().flat_map(|job| job.windows.iter().copied()).collect();
                engine.runner.run(&all, &mut values)
            }
        };
        let outputs = engine.runner.outputs();
        let compute = started.elapsed();
        let mut stats = Stats { executions: 1, compute, ..Stats::default() };
        let mut values = values.as_slice();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let answer = match &ran {
                Err(e) => Err(InferError::Failed(e.to_string())),
                Ok(()) => {
                    let (own, rest) = values.split_at(job.rows * outputs);
                    values = rest;
                    self.outputs(&mut engine, &job, own.to_vec(), outputs)
                }
            };
            let queue = started.duration_since(job.arrived);
            let failed = answer.is_err();
            stats.requests += u64::from(!failed);
            stats.failed += u64::from(failed);
            stats.rows += job.rows as u64;
            stats.queue += queue;
            let times = Times { queue, compute };
            answers.push((job.reply, answer.map(|outputs| Answer { outputs, times, batch: rows })));
        }
        drop(engine);
        // Who has an answer finds it counted.
        self.count(&stats);
        for (reply, answer) in answers {
            let _ = reply.send(answer);
        }
    }

    fn count(&self, new: &Stats) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.requests += new.requests;
        stats.rows += new.rows;
        stats.executions += new.executions;
        stats.failed += new.failed;
        stats.queue += new.queue;
        stats.compute += new.compute;
        stats.last = Some(market::Timestamp::now());
    }

    fn outputs(
        &self,
        engine: &mut Engine,
        job: &Job,
        mut values: Vec<f32>,
        width: usize,
    ) -> Result<Vec<Output>, InferError> {
        if values.iter().any(|x| !x.is_finite()) {
            return Err(InferError::Failed("the model's output is not a finite number".into()));
        }
        let scale =
            if job.wants.raw { LabelScale { mean: 0.0, scale: 1.0 } } else { self.reading.output_scale() };
        if !job.wants.raw {
            // In the label's unit; quantiles sorted, logits as probabilities.
            values = values.chunks(width.max(1)).flat_map(|row| self.reading.values(row)).collect();
        }
        let mut outputs =
            vec![Output { name: "prediction".into(), shape: vec![job.rows, width], data: values }];
        if let Some(asked) = job.wants.explain {
            outputs.extend(self.explanations(engine, job, asked, scale).map_err(explain_error)?);
        }
        if !job.wants.extra.is_empty() {
            outputs.extend(self.extras(engine, job)?);
        }
        Ok(outputs)
    }

    /// Attributions and residual in the label's unit, and the output at the baseline; of probabilities, of the
    /// class's score before the softmax.
    fn explanations(
        &self,
        engine: &mut Engine,
        job: &Job,
        asked: (usize, usize),
        scale: LabelScale,
    ) -> Result<[Output; 3], ExplainError> {
        if engine.explainer.as_ref().is_none_or(|(made, _)| *made != asked) {
            let Some((graph, executor)) = &engine.whole else {
                return Err(ExplainError::Model("tract runs it as it is, without derivatives".into()));
            };
            let made = Explainer::new(executor, graph, asked.0, asked.1)?;
            engine.explainer = Some((asked, made));
        }
        let (mut attributions, mut residuals, mut baselines) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((_, explainer)) = &mut engine.explainer {
            for window in job.windows.chunks_exact(self.window_len()) {
                let explained = explainer.explain(window)?;
                attributions
                    .extend(explained.attributions.iter().map(|&a| (f64::from(a) * scale.scale) as f32));
                residuals.push((explained.residual * scale.scale) as f32);
                baselines.push(scale.to_prediction(explained.baseline) as f32);
            }
        }
        let input = self.manifest.input;
        let shape = vec![job.rows, input.window as usize, input.features as usize];
        let one = |name: &str, data| Output { name: name.into(), shape: vec![job.rows, 1], data };
        Ok([
            Output { name: "attributions".into(), shape, data: attributions },
            one("completeness_residual", residuals),
            one("baseline_prediction", baselines),
        ])
    }

    fn extras(&self, engine: &mut Engine, job: &Job) -> Result<Vec<Output>, InferError> {
        let failed = |e: &dyn std::fmt::Display| InferError::Failed(e.to_string());
        let Some((graph, executor)) = &engine.whole else {
            return Err(InferError::Bad(
                "tract runs this model as it is, and gives its prediction alone".into(),
            ));
        };
        let mut full = match engine.full.take() {
            Some(plan) => plan,
            None => executor.prepare(graph, &[1]).map_err(|e| failed(&e))?,
        };
        let names: Vec<&String> = graph.outputs.iter().map(|(name, _)| name).collect();
        let mut results = vec![Vec::new(); names.len()];
        let mut outputs: Vec<Output> = Vec::new();
        for name in &job.wants.extra {
            let dims = self.extra.iter().find(|(known, _)| known == name).map(|(_, dims)| dims);
            let of = |&n: &i64| if n < 0 { n.unsigned_abs() as usize * job.rows } else { n as usize };
            let shape = dims.into_iter().flatten().map(of).collect();
            outputs.push(Output { name: name.clone(), shape, data: Vec::new() });
        }
        for window in job.windows.chunks_exact(self.window_len()) {
            full.run(1, &[window], &mut results).map_err(|e| failed(&e))?;
            for output in &mut outputs {
                if let Some(at) = names.iter().position(|name| **name == output.name) {
                    output.data.extend_from_slice(&results[at]);
                }
            }
        }
        engine.full = Some(full);
        Ok(outputs)
    }
}

fn signed(dim: &Dim) -> i64 {
    match dim {
        Dim::Fixed(n) => *n as i64,
        Dim::Batch(n) => -(*n as i64),
    }
}

fn explain_error(error: ExplainError) -> InferError {
    match error {
        ExplainError::Points { .. } | ExplainError::Output { .. } | ExplainError::Window { .. } => {
            InferError::Bad(error.to_string())
        }
        ExplainError::Model(_)
        | ExplainError::Prepare(_)
        | ExplainError::Run(_)
        | ExplainError::NotFinite => InferError::Failed(error.to_string()),
    }
}
