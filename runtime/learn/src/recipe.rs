//! All that a training run is told: enough to run it again, and what a manifest keeps of it.
//!
//! `TrainingRecipe → Manifest` with the results of a run; `Manifest → TrainingRecipe` with the data and the split
//! pinned, so that a model can be trained again from its manifest and the same bars.

use std::fmt;

use market::{BarError, Symbol, Timeframe, Timestamp};
use registry::{Data, Loss, Manifest, Serving, Sliding, Training};
use serde::{Deserialize, Serialize};

use crate::bootstrap::BootstrapSettings;
use crate::evaluate::Evaluation;
use crate::fit::Prepared;
use crate::label::LabelRecipe;
use crate::live::profile::profile;
use crate::output::{self, OutputRecipe};
use crate::settings::TrainingSettings;
use crate::split::{CalibrationCut, Cut, SplitRecipe, SplitTimes};
use crate::train::Trained;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecipe {
    /// The model's.
    pub name: String,
    pub architecture: PluginUse,
    pub features: PluginUse,
    pub data: DataRecipe,
    /// Rows that the model sees.
    pub window: u32,
    pub label: LabelRecipe,
    #[serde(default)]
    pub output: OutputRecipe,
    pub split: SplitRecipe,
    /// Features are clipped at so many deviations; absent: not.
    pub clip: Option<f64>,
    pub training: TrainingSettings,
    pub bootstrap: BootstrapSettings,
    /// Models of other settings that were tried on the same data, this one included.
    pub trials: u32,
    pub device_tolerance: f64,
}

/// A component, by name and by digest, and what it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginUse {
    /// "technical@0.1.0".
    pub plugin: String,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    /// A JSON object: hyper-parameters or options.
    pub options: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    pub description: String,
    /// One stream each, in this order.
    pub symbols: Vec<Symbol>,
    pub timeframe: Timeframe,
    pub pinned: Option<PinnedData>,
}

/// The very bars: others are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedData {
    pub first_open_time: Timestamp,
    pub last_open_time: Timestamp,
    /// [`bars_digest`](crate::dataset::bars_digest) of the streams, cut to these times.
    pub digest: String,
}

impl TrainingRecipe {
    /// The recipe that a model was trained by, with its bars and its parts pinned.
    pub fn from_manifest(manifest: &Manifest) -> Result<TrainingRecipe, RecipeError> {
        if manifest.is_foreign() {
            let reason =
                "the model was imported from an ONNX file, and how and on what it was trained isn't known";
            return Err(RecipeError::new("training", reason.into()));
        }
        let Manifest { architecture, features, input, normaliser, label, data, training, metrics, .. } =
            manifest;
        let symbols: Result<Vec<Symbol>, BarError> =
            data.symbols.iter().map(|symbol| Symbol::new(symbol)).collect();
        let times = SplitTimes {
            train: manifest_time("data.train.from", &data.train.from)?,
            validation: manifest_time("data.validation.from", &data.validation.from)?,
            test: manifest_time("data.test.from", &data.test.from)?,
            until: manifest_time("data.test.until", &data.test.until)?,
        };
        Ok(TrainingRecipe {
            name: manifest.name.clone(),
            architecture: PluginUse {
                plugin: architecture.plugin.clone(),
                digest: architecture.digest.clone(),
                options: architecture.hyper.clone(),
            },
            features: PluginUse {
                plugin: features.plugin.clone(),
                digest: features.digest.clone(),
                options: features.options.clone(),
            },
            data: DataRecipe {
                description: data.description.clone(),
                symbols: symbols.map_err(|e| RecipeError::new("data.symbols", e.to_string()))?,
                timeframe: Timeframe::parse(&data.timeframe)
                    .map_err(|e| RecipeError::new("data.timeframe", e.to_string()))?,
                pinned: Some(PinnedData {
                    first_open_time: manifest_time("data.first_open_time", &data.first_open_time)?,
                    last_open_time: manifest_time("data.last_open_time", &data.last_open_time)?,
                    digest: data.digest.clone(),
                }),
            },
            window: input.window,
            label: LabelRecipe::from_manifest(label),
            output: output_of(manifest)?,
            split: SplitRecipe { cut: Cut::Times(times), embargo_bars: data.embargo_bars },
            clip: normaliser.clip,
            training: settings_of(training),
            bootstrap: BootstrapSettings {
                seed: metrics.bootstrap_seed,
                resamples: metrics.resamples,
                confidence: metrics.confidence,
            },
            trials: training.trials,
            device_tolerance: manifest.serving.device_tolerance,
        })
    }

    /// The manifest of a run by this recipe. Its `calibration` is the caller's to set, from
    /// [`calibrate`](crate::calibrate::calibrate): without it replies have no confidence. The registry sets `version` and `files` when it publishes.
    pub fn manifest(
        &self,
        prepared: &Prepared,
        trained: &Trained,
        evaluation: &Evaluation,
        created_at: Timestamp,
    ) -> Manifest {
        let names = prepared.feature_names.clone();
        Manifest {
            format: registry::FORMAT,
            name: self.name.clone(),
            version: 1,
            created_at: created_at.to_string(),
            architecture: registry::Architecture {
                plugin: self.architecture.plugin.clone(),
                digest: self.architecture.digest.clone(),
                hyper: self.architecture.options.clone(),
            },
            features: registry::Features {
                plugin: self.features.plugin.clone(),
                digest: self.features.digest.clone(),
                options: self.features.options.clone(),
                fingerprint: registry::names_fingerprint(&names),
                warmup: prepared.dataset.warmup as u32,
                names,
            },
            input: registry::Input {
                window: self.window,
                features: prepared.dataset.columns as u32,
                outputs: output::columns(&self.output.kind, &self.label) as u32,
            },
            normaliser: prepared.normaliser.to_manifest(),
            label: registry::Label {
                kind: self.label.kind,
                horizon_bars: self.label.horizon_bars,
                gaps: self.label.gaps,
                dead_band: self.label.dead_band,
                mean: prepared.label.mean,
                scale: prepared.label.scale,
            },
            output: self.output.kind.clone(),
            data: self.data_of(prepared),
            training: self.training_of(trained),
            metrics: evaluation.metrics.clone(),
            calibration: None,
            profile: Some(profile(&prepared.dataset, &prepared.split.train)),
            foreign: None,
            parent: None,
            serving: Serving {
                sliding: Sliding::Exact,
                device_tolerance: self.device_tolerance,
                precision: Default::default(),
                precision_error: None,
            },
            files: Default::default(),
        }
    }

    fn data_of(&self, prepared: &Prepared) -> Data {
        let times = prepared.split.times;
        let part = prepared.calibration.as_ref();
        let range = |from: Timestamp, until: Timestamp, samples: &[usize]| registry::Range {
            from: from.to_string(),
            until: until.to_string(),
            samples: samples.len() as u64,
        };
        Data {
            description: self.data.description.clone(),
            symbols: self.data.symbols.iter().map(|symbol| symbol.to_string()).collect(),
            timeframe: self.data.timeframe.to_string(),
            rows: prepared.bars as u64,
            first_open_time: prepared.first_open_time.to_string(),
            last_open_time: prepared.last_open_time.to_string(),
            digest: prepared.digest.clone(),
            embargo_bars: self.split.embargo_bars,
            train: range(times.train, times.validation, &prepared.split.train),
            validation: range(times.validation, times.test, &prepared.split.validation),
            calibration: part.map(|part| range(part.from, times.test, &part.samples)),
            test: range(times.test, times.until, &prepared.split.test),
        }
    }

    fn training_of(&self, trained: &Trained) -> Training {
        let TrainingSettings { seed, loss, batch, epochs_max, patience, learning_rate, schedule, .. } =
            self.training;
        let TrainingSettings { warmup_steps, beta1, beta2, epsilon, weight_decay, clip_norm, .. } =
            self.training;
        Training {
            seed,
            loss,
            batch,
            epochs_max,
            patience,
            learning_rate,
            schedule,
            warmup_steps,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip_norm,
            trials: self.trials,
            epochs: trained.epochs,
            best_epoch: trained.best_epoch,
            train_curve: trained.train_curve.clone(),
            validation_curve: trained.validation_curve.clone(),
        }
    }

    /// The first value that can't be: its key, and what to set it to.
    pub fn check(&self) -> Result<(), RecipeError> {
        let bad = |key: &str, expected: &str| Err(RecipeError::new(key, format!("set it to {expected}")));
        if let Some((key, expected)) = self.training.problem() {
            return bad(&format!("training.{key}"), expected);
        }
        if let Some((key, expected)) = self.output.problem(&self.label, self.training.loss) {
            return bad(key, expected);
        }
        if !(1..=registry::check::WINDOW_MAX).contains(&self.window) {
            return bad("window", "1 to 8192");
        }
        if !(1..=registry::check::HORIZON_BARS_MAX).contains(&self.label.horizon_bars) {
            return bad("label.horizon_bars", "1 to 100000");
        }
        if !registry::name::is_model_name(&self.name) {
            return bad("name", "1 to 64 of a-z 0-9 _ -, starting with a letter or digit");
        }
        if self.clip.is_some_and(|clip| !(clip.is_finite() && clip > 0.0)) {
            return bad("clip", "a finite number above zero, or leave it out");
        }
        if !(self.device_tolerance.is_finite() && self.device_tolerance > 0.0) {
            return bad("device_tolerance", "a finite number above zero");
        }
        if !(self.bootstrap.confidence > 0.0 && self.bootstrap.confidence < 1.0) {
            return bad("bootstrap.confidence", "a number between 0 and 1");
        }
        if !(100..=1_000_000).contains(&self.bootstrap.resamples) {
            return bad("bootstrap.resamples", "100 to 1000000");
        }
        if self.bootstrap.seed > registry::check::SEED_MAX {
            return bad("bootstrap.seed", "0 to 9223372036854775807");
        }
        if self.trials == 0 { bad("trials", "1 or more") } else { Ok(()) }
    }
}

/// Its calibration part begins where the manifest says, or there is none.
fn output_of(manifest: &Manifest) -> Result<OutputRecipe, RecipeError> {
    let usual = OutputRecipe::default();
    let calibration = manifest.calibration.as_ref();
    let from = manifest.data.calibration.as_ref();
    let from = from.map(|range| manifest_time("data.calibration.from", &range.from)).transpose()?;
    Ok(OutputRecipe {
        kind: manifest.output.clone(),
        interval_level: calibration.map_or(usual.interval_level, |c| c.level),
        factor: calibration.and_then(|c| c.factor).unwrap_or(usual.factor),
        calibration: from.map_or(CalibrationCut::None, CalibrationCut::From),
    })
}

fn settings_of(training: &Training) -> TrainingSettings {
    let &Training { seed, loss, batch, epochs_max, patience, learning_rate, schedule, .. } = training;
    let &Training { warmup_steps, beta1, beta2, epsilon, weight_decay, clip_norm, .. } = training;
    let loss: Loss = loss;
    TrainingSettings {
        seed,
        loss,
        batch,
        epochs_max,
        patience,
        learning_rate,
        schedule,
        warmup_steps,
        beta1,
        beta2,
        epsilon,
        weight_decay,
        clip_norm,
    }
}

/// A time of a manifest.
pub(crate) fn manifest_time(key: &str, text: &str) -> Result<Timestamp, RecipeError> {
    Timestamp::parse(text).map_err(|reason| RecipeError::new(key, reason))
}

/// A key whose value can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    pub key: String,
    pub reason: String,
}

impl RecipeError {
    fn new(key: &str, reason: String) -> Self {
        RecipeError { key: key.into(), reason }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be used: {}", self.key, self.reason)
    }
}

impl std::error::Error for RecipeError {}
