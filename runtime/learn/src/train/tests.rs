use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use graph::SlidingPlan;
use graph::reference::Interpreter;

use super::*;
use crate::fit::{Prepared, prepare};
use crate::testing::{Returns, autoregressive, bars_of, linear_model, lstm_model, recipe};

const WINDOW: usize = 3;

fn prepared(bars: usize, phi: f64) -> Prepared {
    let bars = bars_of("A", &autoregressive(bars, phi, 1));
    prepare(&recipe(WINDOW as u32, &["A"]), &[&bars], &mut Returns::new(2)).unwrap()
}

fn settings() -> TrainingSettings {
    recipe(WINDOW as u32, &["A"]).training
}

/// Stops at a batch of an epoch, and counts what it sees.
#[derive(Default)]
struct Watch {
    stop_at: Option<(u32, u32)>,
    stop_after_epoch: Option<u32>,
    outline: Option<Outline>,
    batches: usize,
    epochs: Vec<EpochReport>,
}

impl Progress for Watch {
    fn start(&mut self, outline: &Outline) {
        self.outline = Some(*outline);
    }

    fn batch(&mut self, report: &BatchReport) -> Flow {
        self.batches += 1;
        if self.stop_at == Some((report.epoch, report.batch)) { Flow::Stop } else { Flow::Continue }
    }

    fn epoch(&mut self, report: &EpochReport) -> Flow {
        self.epochs.push(*report);
        if self.stop_after_epoch == Some(report.epoch) { Flow::Stop } else { Flow::Continue }
    }
}

fn weight_bits(trained: &Trained) -> Vec<u32> {
    let given = trained.model.states.iter().map(|state| match &state.initial {
        Initial::Given(tensor) => tensor.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        other => panic!("{} starts as {other:?}", state.name),
    });
    given.flatten().collect()
}

fn curve_bits(trained: &Trained) -> Vec<u64> {
    trained.train_curve.iter().chain(&trained.validation_curve).map(|x| x.to_bits()).collect()
}

#[test]
fn a_linear_signal_is_learned() {
    let prepared = prepared(1500, 0.5);
    let model = linear_model(WINDOW, 3, 0.0);
    let settings = settings();
    let mut watch = Watch::default();
    let trained = train(&prepared.job(&model, &settings), &Interpreter, &mut watch, None).unwrap();
    let Some(Initial::Given(w)) = trained.model.state("w").map(|state| state.initial.clone()) else {
        panic!()
    };
    // Inputs and labels have unit scale, so the newest return's weight is near phi and the older one's near 0.
    assert!((w.data()[0] - 0.5).abs() < 0.1 && w.data()[1].abs() < 0.1, "{w:?}");
    assert!(trained.train_curve[9] < trained.train_curve[0]);

    let outline = watch.outline.unwrap();
    let train = prepared.split.train.len();
    assert_eq!((outline.batch, outline.batches as usize), (32, train / 32));
    assert_eq!((outline.train_samples, outline.parameters, outline.resumed_epochs), (train, 4, 0));
    assert_eq!(watch.batches, 10 * (train / 32));
    assert_eq!(trained.steps as usize, watch.batches);
    let reported: Vec<f64> = watch.epochs.iter().map(|report| report.validation_loss).collect();
    assert_eq!(reported, trained.validation_curve);
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let prepared = prepared(400, 0.3);
    let model = lstm_model(WINDOW, 3, 4, 0.2);
    let run = |seed: u64| {
        let settings = TrainingSettings { seed, epochs_max: 2, ..settings() };
        let trained = train(&prepared.job(&model, &settings), &Interpreter, &mut (), None).unwrap();
        (weight_bits(&trained), curve_bits(&trained))
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// Wherever it is killed, in an epoch or between two, the resumed run equals the uninterrupted one, bit for bit.
#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let prepared = prepared(500, 0.3);
    let model = lstm_model(WINDOW, 3, 4, 0.3);
    let settings = TrainingSettings { epochs_max: 4, ..settings() };
    let job = prepared.job(&model, &settings);
    let whole = train(&job, &Interpreter, &mut (), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    let kills = [Some((1, 2)), Some((2, 1)), Some((3, 4)), Some((4, 7))];
    let mut resumed = Vec::new();
    for stop_at in kills {
        let mut watch = Watch { stop_at, ..Watch::default() };
        let error = train(&job, &Interpreter, &mut watch, Some(&path)).unwrap_err();
        assert_eq!(error, TrainError::Stopped { epochs: stop_at.unwrap().0 - 1 });
        resumed.push(watch.outline.unwrap().resumed_epochs);
    }
    assert_eq!(resumed, [0, 0, 1, 2]);
    let last = train(&job, &Interpreter, &mut (), Some(&path)).unwrap();
    assert_eq!(weight_bits(&last), weight_bits(&whole));
    assert_eq!(curve_bits(&last), curve_bits(&whole));
    assert_eq!(last, whole);
    // A run that is over gives its result again, without a step.
    let mut watch = Watch::default();
    assert_eq!(train(&job, &Interpreter, &mut watch, Some(&path)).unwrap(), whole);
    assert_eq!(watch.batches, 0);
}

#[test]
fn a_stop_between_epochs_resumes_too() {
    let prepared = prepared(400, 0.3);
    let model = linear_model(WINDOW, 3, 0.3);
    let settings = settings();
    let job = prepared.job(&model, &settings);
    let whole = train(&job, &Interpreter, &mut (), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    for epoch in 1..6 {
        let mut watch = Watch { stop_after_epoch: Some(epoch), ..Watch::default() };
        let error = train(&job, &Interpreter, &mut watch, Some(&path)).unwrap_err();
        assert_eq!(error, TrainError::Stopped { epochs: epoch });
        assert_eq!(watch.epochs.len(), 1);
    }
    assert_eq!(train(&job, &Interpreter, &mut (), Some(&path)).unwrap(), whole);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("run");
    let prepared_one = prepared(400, 0.3);
    let model = linear_model(WINDOW, 3, 0.0);
    let settings = settings();
    train(&prepared_one.job(&model, &settings), &Interpreter, &mut (), Some(&path)).unwrap();
    let refused = |prepared: &Prepared, model: &Graph, settings: &TrainingSettings| {
        let error = train(&prepared.job(model, settings), &Interpreter, &mut (), Some(&path)).unwrap_err();
        assert_eq!(error, TrainError::OtherRun);
    };
    refused(&prepared_one, &model, &TrainingSettings { learning_rate: 0.02, ..settings.clone() });
    refused(&prepared_one, &linear_model(WINDOW, 3, 0.1), &settings);
    refused(&prepared(400, 0.31), &model, &settings);

    let mut checkpoint = Checkpoint::read(&path).unwrap().unwrap();
    checkpoint.states.retain(|(name, _)| name != "adamw.m/w");
    checkpoint.write(&path).unwrap();
    let error = train(&prepared_one.job(&model, &settings), &Interpreter, &mut (), Some(&path)).unwrap_err();
    assert!(error.to_string().contains("adamw.m/w"), "{error}");
}

/// Many parameters on few samples of noise overfit: it stops `patience` epochs after the best, and the model that
/// it gives is the best epoch's and no later one.
#[test]
fn early_stopping_gives_the_best_epochs_weights() {
    let prepared = prepared(160, 0.0);
    let model = lstm_model(WINDOW, 3, 8, 0.0);
    let settings = TrainingSettings {
        epochs_max: 60,
        patience: 3,
        learning_rate: 0.05,
        schedule: registry::Schedule::Constant,
        batch: 16,
        ..settings()
    };
    let job = prepared.job(&model, &settings);
    let trained = train(&job, &Interpreter, &mut (), None).unwrap();
    let least = trained.validation_curve.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(trained.validation_curve[trained.best_epoch as usize - 1], least);
    assert_eq!(trained.epochs, trained.best_epoch + 3);
    assert!(trained.epochs < 60);
    let mut predictor = Predictor::new(&Interpreter, &trained.model, &prepared.dataset, 16).unwrap();
    let outputs = predictor.outputs(&prepared.dataset, &prepared.split.validation).unwrap();
    let target = |&i: &usize| prepared.label.to_output(prepared.dataset.samples[i].label);
    let squares = prepared.split.validation.iter().zip(&outputs).map(|(i, y)| (y - target(i)).powi(2));
    assert_eq!(squares.sum::<f64>() / outputs.len() as f64, least);
}

#[test]
fn a_loss_that_is_not_finite_names_epoch_and_batch() {
    let prepared = prepared(400, 0.3);
    let model = linear_model(WINDOW, 3, 0.0);
    let settings = TrainingSettings { learning_rate: 1e30, warmup_steps: 0, clip_norm: None, ..settings() };
    let error = train(&prepared.job(&model, &settings), &Interpreter, &mut (), None).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { epoch: 1, batch: 2, .. }), "{error}");
    assert!(error.to_string().contains("lower learning_rate"));
}

#[test]
fn what_cannot_be_trained_is_an_error_before_the_first_step() {
    let prepared = prepared(400, 0.3);
    let fails = |model: &Graph, settings: &TrainingSettings| {
        train(&prepared.job(model, settings), &Interpreter, &mut (), None).unwrap_err().to_string()
    };
    let message = fails(&linear_model(WINDOW + 1, 3, 0.0), &settings());
    assert!(message.contains("[B, 4, 3]") && message.contains("[B, 3, 3]"), "{message}");
    let message = fails(&linear_model(WINDOW, 3, 0.0), &TrainingSettings { batch: 0, ..settings() });
    assert!(message.contains("batch") && message.contains("1 or more"), "{message}");
}

#[test]
fn other_losses_reach_their_own_optimum() {
    let prepared = prepared(1500, 0.0);
    let model = linear_model(WINDOW, 3, 0.0);
    let share_below = |quantile: f64| {
        let loss = registry::Loss::Pinball { quantile };
        let settings = TrainingSettings { loss, learning_rate: 0.03, epochs_max: 8, ..settings() };
        let trained = train(&prepared.job(&model, &settings), &Interpreter, &mut (), None).unwrap();
        let mut predictor = Predictor::new(&Interpreter, &trained.model, &prepared.dataset, 64).unwrap();
        let outputs = predictor.outputs(&prepared.dataset, &prepared.split.train).unwrap();
        let target = |&i: &usize| prepared.label.to_output(prepared.dataset.samples[i].label);
        let below = prepared.split.train.iter().zip(&outputs).filter(|(i, y)| target(i) < **y).count();
        below as f64 / outputs.len() as f64
    };
    let shares = [0.2, 0.8].map(share_below);
    assert!((shares[0] - 0.2).abs() < 0.06 && (shares[1] - 0.8).abs() < 0.06, "{shares:?}");
}

/// The reference, and a list of what its plans were run on.
#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Vec<Vec<Vec<f32>>>>>);

struct SpyPlan {
    inner: Box<dyn Plan>,
    spy: Spy,
}

impl Executor for Spy {
    fn name(&self) -> &str {
        "spy"
    }

    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError> {
        Ok(Box::new(SpyPlan { inner: Interpreter.prepare(graph, batches)?, spy: self.clone() }))
    }

    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        Interpreter.prepare_sliding(graph, window, streams)
    }
}

impl Plan for SpyPlan {
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        self.spy.0.lock().unwrap().push(inputs.iter().map(|input| input.to_vec()).collect());
        self.inner.run(batch, inputs, outputs)
    }

    fn load(&mut self, states: &[(String, Tensor)]) -> Result<(), RunError> {
        self.inner.load(states)
    }

    fn save(&self) -> Vec<(String, Tensor)> {
        self.inner.save()
    }
}

#[test]
fn each_epoch_sees_each_sample_once_in_a_new_order_with_new_dropout() {
    let prepared = prepared(300, 0.3);
    let model = linear_model(WINDOW, 3, 0.5);
    let settings = TrainingSettings { batch: 10, epochs_max: 3, ..settings() };
    let spy = Spy::default();
    train(&prepared.job(&model, &settings), &spy, &mut (), None).unwrap();
    let runs = spy.0.lock().unwrap();
    let steps: Vec<_> = runs.iter().filter(|inputs| inputs.len() == 4).collect();
    let batches = prepared.split.train.len() / 10;
    assert_eq!(steps.len(), 3 * batches);

    let mut epochs = Vec::new();
    for epoch in steps.chunks(batches) {
        let targets: Vec<u32> = epoch.iter().flat_map(|step| step[2].iter().map(|y| y.to_bits())).collect();
        let mut known: Vec<u32> = prepared
            .split
            .train
            .iter()
            .map(|&i| (prepared.label.to_output(prepared.dataset.samples[i].label) as f32).to_bits())
            .collect();
        for target in &targets {
            let place =
                known.iter().position(|y| y == target).expect("a training label that was not seen yet");
            known.swap_remove(place);
        }
        assert!(known.len() < 10, "only what doesn't fill a batch is left out");
        epochs.push(targets);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);

    let mut seeds: Vec<f32> = steps.iter().map(|step| step[1][0]).collect();
    assert!(seeds.iter().all(|&seed| seed.fract() == 0.0 && (0.0..16_777_216.0).contains(&seed)));
    seeds.sort_by(f32::total_cmp);
    seeds.dedup();
    assert_eq!(seeds.len(), steps.len());

    for (step, rate) in (1..).zip(steps.iter().map(|step| step[3][0])) {
        assert_eq!(rate, settings.learning_rate_at(step, 3 * batches as u64) as f32);
    }
    // A window and its target belong together.
    let sample = prepared
        .split
        .train
        .iter()
        .map(|&i| &prepared.dataset.samples[i])
        .find(|sample| (prepared.label.to_output(sample.label) as f32).to_bits() == epochs[2][0]);
    assert_eq!(&steps[2 * batches][0][..WINDOW * 3], prepared.dataset.window_of(sample.unwrap()));
}
