//! Workers: each asks the study for a trial, runs it and tells how it ended, until there is nothing left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use cpu::{Cpu, CpuOptions};
use graph::Limits;
use learn::Cut;
use learn::fit::{self, Prepared};
use learn::recipe::TrainingRecipe;
use learn::train::{TrainError, train};
use learn::tune::{Asked, FoldTimes, Outcome, Study, cut_before, folds};
use market::{Bar, Features, StreamKey, Timestamp};
use plugin::{Architecture, Dimensions, FeaturePlugin};
use registry::Run;

use super::measure::latency_us;
use super::objective::Objective;
use super::watch::{Display, Watch};
use crate::commands::train::question;
use crate::config::Settings;
use crate::load::{Parts, json_object};

/// Prepared data sets that are kept: one for each window and fold.
const KEPT_MAX: usize = 12;

pub struct Workers<'a> {
    pub settings: &'a Settings,
    pub parts: &'a Parts,
    pub objective: &'a Objective,
    pub streams: &'a [(StreamKey, Vec<Bar>)],
    pub trials_max: u32,
    pub deadline: Option<Instant>,
    pub interrupted: &'static AtomicBool,
    pub display: &'a Display,
}

/// What workers share.
struct Common<'a> {
    study: &'a Mutex<Study>,
    data: Mutex<Data<'a>>,
    /// One measures at a time.
    measuring: Mutex<()>,
    architecture: Architecture,
    folds: Vec<FoldTimes>,
    /// An error of one ends all.
    failed: AtomicBool,
}

/// The bars before the test part, and what was made of them.
struct Data<'a> {
    bars: Vec<&'a [Bar]>,
    features: FeaturePlugin,
    prepared: BTreeMap<(u32, usize), Arc<Prepared>>,
}

/// What came of one attempt.
enum Ran {
    Ended(Outcome),
    Interrupted,
}

fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, String> {
    mutex.lock().map_err(|_| "another worker panicked".to_string())
}

impl Workers<'_> {
    pub fn run(&self, study: &Mutex<Study>, workers: usize) -> Result<(), String> {
        let (architecture, mut features) = self.objective.plugins(self.settings, self.parts)?;
        features.rebuild().map_err(|e| e.to_string())?;
        let Cut::Times(times) = self.objective.recipe.split.cut else {
            return Err("the study's parts have no fixed times".into());
        };
        let all: Vec<&[Bar]> = self.streams.iter().map(|s| s.1.as_slice()).collect();
        let common = Common {
            study,
            data: Mutex::new(Data {
                bars: cut_before(&all, times.test),
                features,
                prepared: BTreeMap::new(),
            }),
            measuring: Mutex::new(()),
            architecture,
            folds: folds(times, self.objective.folds).ok_or("the study's folds don't fit its parts")?,
            failed: AtomicBool::new(false),
        };
        let threads = (self.settings.cpu().threads / workers).max(1);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers)
                .map(|_| {
                    scope.spawn(|| {
                        let worked = self.work(&common, threads);
                        if worked.is_err() {
                            common.failed.store(true, Ordering::Release);
                        }
                        worked
                    })
                })
                .collect();
            let ends = handles.into_iter().map(|h| h.join().map_err(|_| "a worker panicked".to_string())?);
            ends.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn work(&self, common: &Common<'_>, threads: usize) -> Result<(), String> {
        let cpu = Cpu::new(CpuOptions { threads, ..self.settings.cpu() }).map_err(|e| e.to_string())?;
        loop {
            let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late || self.stops(common) {
                return Ok(());
            }
            let asked = lock(common.study)?.ask(self.trials_max).map_err(|e| e.to_string())?;
            let Some(asked) = asked else { return Ok(()) };
            let started = Instant::now();
            match self.trial(common, &cpu, &asked)? {
                Ran::Ended(outcome) => {
                    let seconds = started.elapsed().as_secs_f64();
                    let mut study = lock(common.study)?;
                    study.tell(asked.number, outcome, seconds).map_err(|e| e.to_string())?;
                    self.display.trial(&study, asked.number);
                }
                Ran::Interrupted => {
                    let mut study = lock(common.study)?;
                    study.interrupt(asked.number, asked.attempt).map_err(|e| e.to_string())?;
                    return Ok(());
                }
            }
        }
    }

    fn stops(&self, common: &Common<'_>) -> bool {
        self.interrupted.load(Ordering::Acquire) || common.failed.load(Ordering::Acquire)
    }

    /// One attempt. An error ends the study; what is wrong with these parameters alone fails the trial.
    fn trial(&self, common: &Common<'_>, cpu: &Cpu, asked: &Asked) -> Result<Ran, String> {
        let failed = |reason: String| Ok(Ran::Ended(Outcome::Failed { reason }));
        let recipe = self.objective.recipe_of(&asked.parameters)?;
        if let Err(e) = recipe.check() {
            return failed(e.to_string());
        }
        let columns = lock(&common.data)?.features.spec().names.len();
        let outputs = learn::output::columns(&recipe.output.kind, &recipe.label) as u32;
        let dimensions = Dimensions { window: recipe.window, features: columns as u32, outputs };
        let hyper = json_object(&recipe.architecture.options)?;
        let model = match common.architecture.build(&hyper, dimensions, &Limits::default()) {
            Ok(model) => model,
            Err(e) => return failed(e.to_string()),
        };
        if let Some(constraint) = &self.objective.constraint {
            let found = {
                let _alone = lock(&common.measuring)?;
                latency_us(&model, recipe.window as usize, columns, cpu, constraint)
            };
            let found = match found {
                Ok(found) => found,
                Err(reason) => return failed(reason),
            };
            lock(common.study)?.measured(asked.number, found).map_err(|e| e.to_string())?;
            if found > constraint.p99_us {
                let violation = found / constraint.p99_us - 1.0;
                return Ok(Ran::Ended(Outcome::Infeasible { violation }));
            }
        }
        self.note(common, &recipe, asked)?;
        self.train(common, cpu, asked, &recipe, &model)
    }

    /// In the ledger, before the trial is trained.
    fn note(&self, common: &Common<'_>, recipe: &TrainingRecipe, asked: &Asked) -> Result<(), String> {
        let pinned = recipe.data.pinned.as_ref().ok_or("the study names no bars")?;
        let (key, name) = {
            let study = lock(common.study)?;
            (trial_key(study.id(), asked.number), study.header().study.clone())
        };
        let run = Run { question: question(recipe, &pinned.digest), key, name };
        self.parts.registry.note_run(&run, &Timestamp::now().to_string()).map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Trains on each fold with each seed; the value is the mean of the best epochs' validation losses.
    fn train(
        &self,
        common: &Common<'_>,
        cpu: &Cpu,
        asked: &Asked,
        recipe: &TrainingRecipe,
        model: &graph::Graph,
    ) -> Result<Ran, String> {
        let failed = |reason: String| Ok(Ran::Ended(Outcome::Failed { reason }));
        let mut watch = Watch {
            study: common.study,
            display: self.display,
            interrupted: self.interrupted,
            failed: &common.failed,
            trial: asked.number,
            epochs_max: recipe.training.epochs_max,
            done: Vec::new(),
            pruned: false,
            error: None,
        };
        for fold in 0..common.folds.len() {
            let prepared = match self.prepared(common, recipe, fold) {
                Ok(prepared) => prepared,
                Err(reason) => return failed(reason),
            };
            for seed in 0..u64::from(self.objective.seeds) {
                let mut settings = recipe.training.clone();
                settings.seed = settings.seed.wrapping_add(seed) & registry::check::SEED_MAX;
                let trained = train(&prepared.job(model, &settings), cpu, &mut watch, None);
                if let Some(error) = watch.error.take() {
                    return Err(error);
                }
                match trained {
                    Ok(trained) => {
                        let best = trained.best_epoch.saturating_sub(1) as usize;
                        match trained.validation_curve.get(best).filter(|loss| loss.is_finite()) {
                            Some(loss) => watch.done.push(*loss),
                            None => return failed("the validation loss isn't a finite number".into()),
                        }
                        // At the last epoch of the last training there is nothing left to stop.
                        if watch.pruned && (watch.done.len() as u32) < self.objective.runs() {
                            return Ok(Ran::Ended(Outcome::Pruned));
                        }
                    }
                    Err(TrainError::Stopped { .. }) if watch.pruned => {
                        return Ok(Ran::Ended(Outcome::Pruned));
                    }
                    Err(TrainError::Stopped { .. }) if self.stops(common) => return Ok(Ran::Interrupted),
                    Err(e) => return failed(e.to_string()),
                }
            }
        }
        let value = watch.done.iter().sum::<f64>() / watch.done.len().max(1) as f64;
        Ok(Ran::Ended(Outcome::Complete { value }))
    }

    fn prepared(
        &self,
        common: &Common<'_>,
        recipe: &TrainingRecipe,
        fold: usize,
    ) -> Result<Arc<Prepared>, String> {
        let mut data = lock(&common.data)?;
        let key = (recipe.window, fold);
        if let Some(prepared) = data.prepared.get(&key) {
            return Ok(prepared.clone());
        }
        // Of the bars that are pinned only those before the test part are here.
        let mut before = recipe.clone();
        before.data.pinned = None;
        let Data { bars, features, prepared } = &mut *data;
        let made =
            fit::prepare_fold(&before, common.folds[fold], bars, features).map_err(|e| e.to_string())?;
        if prepared.len() >= KEPT_MAX {
            prepared.clear();
        }
        let made = Arc::new(made);
        prepared.insert(key, made.clone());
        Ok(made)
    }
}

/// A trial's key in the ledger.
pub fn trial_key(study_id: &str, number: u32) -> String {
    format!("{study_id}/{number}")
}
