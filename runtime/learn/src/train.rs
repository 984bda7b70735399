//! Mini-batch training with AdamW, early stopping and checkpoints, on any executor.
//!
//! One step is one run of the training graph: batch in, loss and gradient norm out, weights and moments updated on
//! the device. Each epoch sees the training samples in a new order and leaves out the last ones that don't fill a
//! batch. Same seed, data, graph and executor: same bits, also over a kill and a resume.

mod beginning;

use std::fmt;
use std::path::Path;

use graph::builder::DROPOUT_SEED;
use graph::training::{TrainingError, training_graph};
use graph::{Executor, Graph, Initial, Plan, PrepareError, RunError, Tensor, VerifyError, rewrite};
use registry::Output;

use beginning::{check_names, fingerprint, first_states};

use crate::checkpoint::{Checkpoint, CheckpointError, Journal};
use crate::dataset::Dataset;
use crate::label::LabelRecipe;
use crate::normalise::LabelScale;
use crate::output::{self, loss_of, push_target};
use crate::predict::{PredictError, Predictor, check_model, width_of};
use crate::progress::{BatchReport, EpochReport, Flow, Outline, Progress};
use crate::random::Random;
use crate::settings::TrainingSettings;
use crate::split::Split;

/// What to train, on what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// As the architecture built it: `[B, window, columns]` → "prediction" `[B, outputs]`.
    pub model: &'a Graph,
    /// Normalised.
    pub dataset: &'a Dataset,
    pub split: &'a Split,
    pub label: LabelScale,
    pub target: &'a Target,
    pub settings: &'a TrainingSettings,
}

/// What the outputs are trained to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub label: LabelRecipe,
    pub output: Output,
}

/// The best epoch's model, and how the run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// In inference form, with the weights given.
    pub model: Graph,
    pub epochs: u32,
    /// From 1.
    pub best_epoch: u32,
    pub steps: u64,
    /// Samples in one batch: the setting, or all training samples where those are fewer.
    pub batch: u32,
    /// Loss per epoch, in the label's normalised unit.
    pub train_curve: Vec<f64>,
    pub validation_curve: Vec<f64>,
    /// All states of the training graph at the best epoch, by name, the optimiser's too: where a later training can
    /// [begin](train_from). Without the optimiser's where the run was resumed from an older checkpoint.
    pub states: Vec<(String, Tensor)>,
}

/// Trains until `epochs_max`, or until `patience` epochs bring no better validation loss. With a checkpoint path, each
/// epoch replaces that file, and a run of the same job goes on from it.
pub fn train(
    job: &Job<'_>,
    executor: &dyn Executor,
    progress: &mut dyn Progress,
    checkpoint: Option<&Path>,
) -> Result<Trained, TrainError> {
    train_from(job, executor, progress, checkpoint, &[])
}

/// [`train`], but beginning at these states rather than at random weights: all weights, with or without the optimiser's
/// moments. None is `train`.
pub fn train_from(
    job: &Job<'_>,
    executor: &dyn Executor,
    progress: &mut dyn Progress,
    checkpoint: Option<&Path>,
    start: &[(String, Tensor)],
) -> Result<Trained, TrainError> {
    let mut run = Run::start(job, executor, checkpoint, start)?;
    progress.start(&run.outline());
    while !run.is_over() {
        run.epoch(progress)?;
        if let Some(path) = checkpoint {
            run.checkpoint().write(path).map_err(TrainError::Checkpoint)?;
        }
        if progress.epoch(&run.report()) == Flow::Stop && !run.is_over() {
            return Err(TrainError::Stopped { epochs: run.journal.epoch });
        }
    }
    run.finish()
}

/// A run between two epochs.
struct Run<'a> {
    job: &'a Job<'a>,
    inference: Graph,
    step_plan: Box<dyn Plan>,
    predictor: Predictor,
    feed: Feed,
    batch: usize,
    batches: u32,
    resumed_epochs: u32,
    journal: Journal,
    /// The states at the best epoch.
    best: Vec<(String, Tensor)>,
}

/// The inputs of one step, in the graph's order.
struct Feed {
    order: Vec<FeedInput>,
    windows: Vec<f32>,
    targets: Vec<f32>,
}

#[derive(Clone, Copy)]
enum FeedInput {
    Windows,
    DropoutSeed,
    Target,
    LearningRate,
}

impl<'a> Run<'a> {
    fn start(
        job: &'a Job<'a>,
        executor: &dyn Executor,
        checkpoint: Option<&Path>,
        start: &[(String, Tensor)],
    ) -> Result<Self, TrainError> {
        if let Some((key, expected)) = job.settings.problem() {
            return Err(TrainError::Setting { key, expected });
        }
        check_columns(job).map_err(TrainError::Model)?;
        let optimiser = job.settings.optimiser();
        let loss = job.settings.graph_loss(&job.target.output);
        let graph = training_graph(job.model, &loss, &optimiser).map_err(TrainError::Graph)?;
        let inference = rewrite::inference(job.model).map_err(TrainError::Invalid)?;
        let samples = job.split.train.len();
        if samples == 0 || job.split.validation.is_empty() {
            return Err(TrainError::NoSamples);
        }
        let batch = samples.min(job.settings.batch as usize);
        let mut step_plan = executor.prepare(&graph, &[batch]).map_err(TrainError::Prepare)?;
        let predictor =
            Predictor::new(executor, &inference, job.dataset, batch).map_err(TrainError::Validation)?;
        let first = first_states(&graph, &inference, job.settings.seed, start)?;
        let fingerprint = fingerprint(job, start);
        let restored = match checkpoint {
            Some(path) => Checkpoint::read(path).map_err(TrainError::Checkpoint)?,
            None => None,
        };
        let (journal, states, best) = match restored {
            Some(found) if found.journal.fingerprint != fingerprint => return Err(TrainError::OtherRun),
            Some(found) => {
                check_names(&graph, &found.states)?;
                check_names(&inference, &found.best)?;
                (found.journal, found.states, found.best)
            }
            None => {
                let journal = Journal { fingerprint, ..Journal::default() };
                (journal, first, Vec::new())
            }
        };
        step_plan.load(&states).map_err(TrainError::Load)?;
        let feed = Feed::of(&graph);
        let batches = u32::try_from(samples / batch).unwrap_or(u32::MAX);
        let resumed_epochs = journal.epoch;
        Ok(Run { job, inference, step_plan, predictor, feed, batch, batches, resumed_epochs, journal, best })
    }

    fn is_over(&self) -> bool {
        let Journal { epoch, best_epoch, .. } = self.journal;
        epoch >= self.job.settings.epochs_max || epoch - best_epoch >= self.job.settings.patience && epoch > 0
    }

    /// Trains one epoch and validates.
    fn epoch(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let epoch = self.journal.epoch + 1;
        let mut order = self.job.split.train.clone();
        Random::derived(self.job.settings.seed, u64::from(epoch)).shuffle(&mut order);
        let mut total = 0.0;
        for (number, indices) in (1..=self.batches).zip(order.chunks_exact(self.batch)) {
            let (loss, gradient_norm) = self.step(indices)?;
            if !(loss.is_finite() && gradient_norm.is_finite()) {
                return Err(TrainError::NotFinite { epoch, batch: number, loss, gradient_norm });
            }
            total += loss;
            let report = BatchReport { epoch, batch: number, loss, gradient_norm };
            if progress.batch(&report) == Flow::Stop {
                return Err(TrainError::Stopped { epochs: self.journal.epoch });
            }
        }
        // What was saved is what goes on, also on a device that keeps more digits than it saves.
        let saved = self.step_plan.save();
        self.step_plan.load(&saved).map_err(TrainError::Load)?;
        let is_weight = |(name, _): &&(String, Tensor)| self.inference.state(name).is_some();
        let weights: Vec<(String, Tensor)> = saved.iter().filter(is_weight).cloned().collect();
        let validation_loss = validate(self.job, &mut self.predictor, &weights)?;
        let journal = &mut self.journal;
        journal.epoch = epoch;
        journal.train_curve.push(total / f64::from(self.batches));
        journal.validation_curve.push(validation_loss);
        let best_before = journal.best_epoch.checked_sub(1).map(|i| journal.validation_curve[i as usize]);
        if best_before.is_none_or(|best| validation_loss < best) {
            journal.best_epoch = epoch;
            self.best = saved;
        }
        Ok(())
    }

    /// One step on these samples: loss and gradient norm before it.
    fn step(&mut self, indices: &[usize]) -> Result<(f64, f64), TrainError> {
        let Job { dataset, label, target, settings, .. } = *self.job;
        self.journal.step += 1;
        self.feed.windows.clear();
        self.feed.targets.clear();
        let mut exact = Vec::with_capacity(indices.len());
        for sample in indices.iter().map(|&i| &dataset.samples[i]) {
            self.feed.windows.extend_from_slice(dataset.window_of(sample));
            push_target(&mut exact, &target.output, &target.label, label, sample.label);
        }
        self.feed.targets.extend(exact.iter().map(|&x| x as f32));
        let steps = u64::from(settings.epochs_max) * u64::from(self.batches);
        let learning_rate = [settings.learning_rate_at(self.journal.step, steps) as f32];
        // 24 bits: what an f32 holds exactly.
        let dropout_seed = [(Random::derived(!settings.seed, self.journal.step).next_u64() >> 40) as f32];
        let inputs: Vec<&[f32]> = self
            .feed
            .order
            .iter()
            .map(|input| match input {
                FeedInput::Windows => self.feed.windows.as_slice(),
                FeedInput::Target => self.feed.targets.as_slice(),
                FeedInput::DropoutSeed => &dropout_seed,
                FeedInput::LearningRate => &learning_rate,
            })
            .collect();
        let mut outputs = [Vec::new(), Vec::new()];
        self.step_plan.run(self.batch, &inputs, &mut outputs).map_err(TrainError::Run)?;
        let scalar = |output: &[f32]| output.first().map_or(f64::NAN, |&x| f64::from(x));
        Ok((scalar(&outputs[0]), scalar(&outputs[1])))
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { journal: self.journal.clone(), states: self.step_plan.save(), best: self.best.clone() }
    }

    fn outline(&self) -> Outline {
        let trained = self.inference.states.iter().filter(|s| s.trainable);
        let elements = trained.filter_map(|s| self.inference.node(s.node).shapes[0].elements(1));
        Outline {
            epochs_max: self.job.settings.epochs_max,
            batches: self.batches,
            batch: self.batch as u32,
            train_samples: self.job.split.train.len(),
            validation_samples: self.job.split.validation.len(),
            parameters: elements.sum(),
            resumed_epochs: self.resumed_epochs,
        }
    }

    fn report(&self) -> EpochReport {
        let Journal { epoch, best_epoch, train_curve, validation_curve, .. } = &self.journal;
        let at = |curve: &[f64], epoch: u32| curve[epoch as usize - 1];
        EpochReport {
            epoch: *epoch,
            train_loss: at(train_curve, *epoch),
            validation_loss: at(validation_curve, *epoch),
            best_epoch: *best_epoch,
            best_validation_loss: at(validation_curve, *best_epoch),
        }
    }

    fn finish(self) -> Result<Trained, TrainError> {
        let mut model = self.inference;
        for state in &mut model.states {
            let best = self.best.iter().find(|(name, _)| *name == state.name);
            let (_, tensor) =
                best.ok_or_else(|| TrainError::Model(format!("the device lost state '{}'", state.name)))?;
            state.initial = Initial::Given(tensor.clone());
        }
        let Journal { epoch, step, best_epoch, train_curve, validation_curve, .. } = self.journal;
        let batch = self.batch as u32;
        let mut states = self.best;
        states.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Trained {
            model,
            epochs: epoch,
            best_epoch,
            steps: step,
            batch,
            train_curve,
            validation_curve,
            states,
        })
    }
}

/// The mean loss of the validation part under these weights of the job's model.
pub fn validation_loss(
    job: &Job<'_>,
    executor: &dyn Executor,
    weights: &[(String, Tensor)],
) -> Result<f64, TrainError> {
    check_columns(job).map_err(TrainError::Model)?;
    let inference = rewrite::inference(job.model).map_err(TrainError::Invalid)?;
    let batch = job.split.validation.len().clamp(1, job.settings.batch.max(1) as usize);
    let predictor = Predictor::new(executor, &inference, job.dataset, batch);
    let weights: Vec<(String, Tensor)> =
        weights.iter().filter(|(name, _)| inference.state(name).is_some()).cloned().collect();
    check_names(&inference, &weights)?;
    validate(job, &mut predictor.map_err(TrainError::Validation)?, &weights)
}

fn validate(
    job: &Job<'_>,
    predictor: &mut Predictor,
    weights: &[(String, Tensor)],
) -> Result<f64, TrainError> {
    let Job { dataset, split, label, target, settings, .. } = *job;
    if split.validation.is_empty() {
        return Err(TrainError::NoSamples);
    }
    predictor.load(weights).map_err(TrainError::Validation)?;
    let outputs = predictor.outputs(dataset, &split.validation).map_err(TrainError::Validation)?;
    let mut column = Vec::new();
    let mut total = 0.0;
    for (&i, row) in split.validation.iter().zip(outputs.chunks(predictor.width())) {
        column.clear();
        push_target(&mut column, &target.output, &target.label, label, dataset.samples[i].label);
        total += loss_of(settings.loss, &target.output, row, &column);
    }
    Ok(total / split.validation.len() as f64)
}

impl Feed {
    /// The training graph's inputs are the model's, then target and learning rate; see [`training_graph`].
    fn of(graph: &Graph) -> Feed {
        let input = |name: &str| match name {
            DROPOUT_SEED => FeedInput::DropoutSeed,
            "target" => FeedInput::Target,
            "learning_rate" => FeedInput::LearningRate,
            _ => FeedInput::Windows,
        };
        Feed {
            order: graph.inputs().map(|(name, ..)| input(name)).collect(),
            windows: Vec::new(),
            targets: Vec::new(),
        }
    }
}

/// That the model takes the windows, and gives as many numbers as the output has.
fn check_columns(job: &Job<'_>) -> Result<(), String> {
    let Target { label, output } = job.target;
    let found = width_of(job.model, check_model(job.model, job.dataset)?)?;
    let expected = output::columns(output, label);
    if found == expected {
        return Ok(());
    }
    let name = output.name();
    Err(format!(
        "the model's prediction is [B, {found}]; the output {name} of this label needs [B, {expected}]"
    ))
}

/// Why there is no trained model.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainError {
    Setting {
        key: &'static str,
        expected: &'static str,
    },
    /// The model doesn't fit the data.
    Model(String),
    Graph(TrainingError),
    Invalid(VerifyError),
    NoSamples,
    Prepare(PrepareError),
    Checkpoint(CheckpointError),
    /// The checkpoint is of other settings, data or graph.
    OtherRun,
    /// States that don't fit the graph.
    Load(RunError),
    Run(RunError),
    Validation(PredictError),
    /// The loss or the gradient became NaN or infinite.
    NotFinite {
        epoch: u32,
        batch: u32,
        loss: f64,
        gradient_norm: f64,
    },
    /// Whoever watches stopped it; the checkpoint, if any, holds so many epochs.
    Stopped {
        epochs: u32,
    },
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainError::Setting { key, expected } => {
                write!(f, "training setting {key} can't be used; set it to {expected}")
            }
            TrainError::Model(e) => write!(f, "{e}"),
            TrainError::Graph(e) => write!(f, "{e}"),
            TrainError::Invalid(e) => write!(f, "the model is not valid: {e}"),
            TrainError::NoSamples => {
                write!(f, "the training or validation part has no samples; give more bars")
            }
            TrainError::Prepare(e) => write!(f, "{e}"),
            TrainError::Checkpoint(e) => write!(f, "{e}"),
            TrainError::OtherRun => write!(
                f,
                "the checkpoint is of a run with other settings, data or architecture; remove it, or name another file"
            ),
            TrainError::Load(e) => write!(f, "the states don't fit: {e}"),
            TrainError::Run(e) => write!(f, "a training step failed: {e}"),
            TrainError::Validation(e) => write!(f, "validation failed: {e}"),
            TrainError::NotFinite { epoch, batch, loss, gradient_norm } => write!(
                f,
                "epoch {epoch}, batch {batch}: loss {loss}, gradient norm {gradient_norm}; lower learning_rate, set clip_norm, or look for huge features"
            ),
            TrainError::Stopped { epochs } => write!(f, "stopped after {epochs} whole epochs"),
        }
    }
}

impl std::error::Error for TrainError {}

#[cfg(test)]
mod tests;
