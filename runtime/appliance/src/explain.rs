//! Explains some of the predictions that are made, on a thread of its own and at the lowest priority:
//!
//! ```text
//! data path, behind what is visible -> bounded queue (full: dropped, counted) -> gradients on one thread
//!      -> back to the data path -> spool -> readers
//! ```
//!
//! The window is the one that was served. Only the data path writes to the spool, so an explanation goes back there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use cpu::{Cpu, CpuOptions};
use learn::explain::{Explainer, POINTS_DEFAULT};
use learn::normalise::LabelScale;
use learn::reading::Reading;
use market::Timestamp;
use store::{ATTRIBUTIONS_MAX, ExplanationRecord, Method, ModelName, PredictionRecord};

use crate::config::Settings;
use crate::load::Parts;
use crate::metrics::{self, Metrics};
use crate::precision;
use crate::priority;
use crate::queue::BarQueue;
use crate::visible::Visible;

/// Windows that wait, and the numbers in them together: 32 MiB.
const TASKS_MAX: usize = 1024;
const NUMBERS_MAX: usize = 8 << 20;
/// Models that are kept prepared; of more, all are prepared anew.
const MODELS_MAX: usize = 16;

/// A window that was served, and the prediction that it led to.
struct Task {
    prediction: PredictionRecord,
    window: Vec<f32>,
}

enum Message {
    Task(Box<Task>),
    Stop,
}

/// The data path's end.
pub struct Explaining {
    every: u64,
    sender: SyncSender<Message>,
    numbers: Arc<AtomicUsize>,
    done: Receiver<ExplanationRecord>,
    metrics: Arc<Metrics>,
}

impl Explaining {
    /// Of a stream each n-th bar, and of different streams different ones, so that work is spread.
    pub fn wants(&self, prediction: &PredictionRecord) -> bool {
        let timeframe = prediction.key.timeframe.nanos().max(1);
        let bar = prediction.open_time.0.div_euclid(timeframe) as u64;
        let symbol = prediction.key.symbol.as_str().bytes();
        let shift = symbol.fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        bar.wrapping_add(shift).is_multiple_of(self.every)
    }

    /// Never waits: what doesn't fit is dropped.
    pub fn offer(&self, prediction: &PredictionRecord, window: &[f32]) {
        let count = window.len();
        let fits = count <= ATTRIBUTIONS_MAX
            && self.numbers.fetch_add(count, Ordering::AcqRel).saturating_add(count) <= NUMBERS_MAX;
        let task = || Box::new(Task { prediction: prediction.clone(), window: window.to_vec() });
        if fits && self.sender.try_send(Message::Task(task())).is_ok() {
            return;
        }
        if count <= ATTRIBUTIONS_MAX {
            self.numbers.fetch_sub(count, Ordering::AcqRel);
        }
        self.metrics.explanations.get_or_create(&metrics::Outcome { outcome: "dropped" }).inc();
    }

    /// What is ready to be written.
    pub fn done(&self) -> Vec<ExplanationRecord> {
        self.done.try_iter().collect()
    }
}

/// Ends the thread.
pub struct ExplainThread {
    stop: Arc<AtomicBool>,
    sender: SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl ExplainThread {
    /// What waits is not explained any more.
    pub fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        // Full: it has work to wake for.
        let _ = self.sender.try_send(Message::Stop);
        self.thread.join().map_err(|_| "the explain thread panicked: please report this".to_string())
    }
}

/// `None`: `serving.explain_every` is 0.
pub fn start(
    settings: &Settings,
    bars: BarQueue,
    visible: Arc<Visible>,
    metrics: Arc<Metrics>,
) -> Result<Option<(Explaining, ExplainThread)>, String> {
    let every = settings.raw.serving.explain_every;
    if every == 0 {
        return Ok(None);
    }
    let parts = Parts::new(settings)?;
    let alone = CpuOptions { threads: 1, ..settings.cpu() };
    let cpu = Cpu::new(alone).map_err(|e| e.to_string())?;
    let (sender, tasks) = sync_channel(TASKS_MAX);
    let (finished, done) = channel();
    let numbers = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        parts,
        cpu,
        models: HashMap::new(),
        finished,
        bars,
        visible,
        metrics: metrics.clone(),
        numbers: numbers.clone(),
        stop: stop.clone(),
    };
    let thread = thread::Builder::new()
        .name("explain".into())
        .spawn(move || worker.run(&tasks))
        .map_err(|e| format!("thread explain can't start: {e}"))?;
    let ours = Explaining { every, sender: sender.clone(), numbers, done, metrics };
    Ok(Some((ours, ExplainThread { stop, sender, thread })))
}

/// A model prepared.
struct Prepared {
    explainer: Explainer,
    scale: LabelScale,
    features: u16,
}

struct Worker {
    parts: Parts,
    cpu: Cpu,
    /// `Err`: why it can't be explained, which was said once.
    models: HashMap<(ModelName, [u8; 32]), Result<Prepared, String>>,
    finished: Sender<ExplanationRecord>,
    bars: BarQueue,
    visible: Arc<Visible>,
    metrics: Arc<Metrics>,
    numbers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, tasks: &Receiver<Message>) {
        // Of this thread alone. Who may not lower it explains at the usual one.
        priority::lower(priority::LOWEST, "the thread that explains");
        while let Ok(Message::Task(task)) = tasks.recv() {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.numbers.fetch_sub(task.window.len(), Ordering::AcqRel);
            let explained = self.explain(&task);
            let outcome = if explained.is_some() { "made" } else { "failed" };
            self.metrics.explanations.get_or_create(&metrics::Outcome { outcome }).inc();
            let Some(record) = explained else { continue };
            // No bars: the data path wakes, and writes down what is done.
            if self.finished.send(record).is_err() || self.bars.send(Vec::new()).is_err() {
                return;
            }
        }
    }

    fn explain(&mut self, task: &Task) -> Option<ExplanationRecord> {
        let Task { prediction, window } = task;
        let of = (prediction.model.clone(), prediction.model_digest);
        if !self.models.contains_key(&of) {
            let prepared = self.prepare(prediction);
            if let Err(error) = &prepared {
                tracing::warn!(model = %of.0.name, version = %of.0.version, %error, "its predictions aren't explained");
            }
            if self.models.len() >= MODELS_MAX {
                self.models.clear();
            }
            self.models.insert(of.clone(), prepared);
        }
        let Some(Ok(Prepared { explainer, scale, features })) = self.models.get_mut(&of) else { return None };
        let explained = match explainer.explain(window) {
            Ok(explained) => explained,
            Err(error) => {
                tracing::warn!(seq = prediction.seq, %error, "a prediction isn't explained");
                return None;
            }
        };
        let LabelScale { mean, scale } = *scale;
        Some(ExplanationRecord {
            seq: prediction.seq,
            made_at: Timestamp::now(),
            open_time: prediction.open_time,
            revision: prediction.revision,
            key: prediction.key.clone(),
            model: prediction.model.clone(),
            model_digest: prediction.model_digest,
            method: Method::IntegratedGradients,
            points: POINTS_DEFAULT as u16,
            output: explainer.output() as u16,
            prediction: explained.prediction * scale + mean,
            baseline: explained.baseline * scale + mean,
            residual: explained.residual * scale,
            features: *features,
            attributions: explained.attributions.iter().map(|&a| (f64::from(a) * scale) as f32).collect(),
        })
    }

    fn prepare(&self, prediction: &PredictionRecord) -> Result<Prepared, String> {
        let name = format!("{}/{}", prediction.model.name, prediction.model.version);
        let folder = self.parts.model(&name)?;
        if crate::load::digest_bytes(&folder.digest) != Some(prediction.model_digest) {
            return Err("the model in the registry is another than the one that serves".into());
        }
        let manifest = &folder.manifest;
        let reading = Reading::from_manifest(manifest);
        let graph = self.parts.graph(&folder)?;
        // Checked when it was loaded to serve.
        let cpu = self.cpu.at(precision::of(manifest.serving.precision));
        let explainer =
            Explainer::new(&cpu, &graph, reading.main_output(), POINTS_DEFAULT).map_err(|e| e.to_string())?;
        let features = u16::try_from(manifest.input.features).map_err(|e| e.to_string())?;
        self.visible.explanations.name_columns(&name, &manifest.features.names);
        Ok(Prepared { explainer, scale: reading.output_scale(), features })
    }
}

#[cfg(test)]
mod tests;
