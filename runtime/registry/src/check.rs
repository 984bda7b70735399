//! The manifest's check: every number in range, every list of the right length, every name and digest well
//! formed. After it the rest of the program trusts the values.

use std::fmt::Display;
use std::str::FromStr;

use crate::digest::{is_digest, names_fingerprint};
use crate::folder::MODEL_FILE;
use crate::manifest::{
    Data, Foreign, LabelKind, Loss, Manifest, ManifestError, Output, Parent, Range, Training,
};
use crate::metrics::{Interval, Metrics, Scores};
use crate::name::{is_file_name, is_model_name};

/// Limits on what one model may ask for.
pub const WINDOW_MAX: u32 = 8_192;
pub const FEATURES_MAX: u32 = 4_096;
pub const OUTPUTS_MAX: u32 = 256;
pub const HORIZON_BARS_MAX: u32 = 100_000;
pub const SYMBOLS_MAX: usize = 10_000;
pub const FILES_MAX: usize = 16;
/// Levels of a quantile output.
pub const LEVELS_MAX: usize = 99;
/// TOML's integers have 63 bits.
pub const SEED_MAX: u64 = i64::MAX as u64;

/// Whether a quantile output can have these levels.
pub fn are_levels(levels: &[f64]) -> bool {
    (1..=LEVELS_MAX).contains(&levels.len())
        && levels.iter().all(|&q| q > 0.0 && q < 1.0)
        && levels.is_sorted_by(|a, b| a < b)
        && levels.contains(&0.5)
}

pub(crate) type Check = Result<(), ManifestError>;

impl Manifest {
    /// Names the first key whose value can't be, and what to set it to.
    pub fn check(&self) -> Check {
        ensure(self.format == crate::FORMAT, "format", self.format, "1")?;
        ensure(
            is_model_name(&self.name),
            "name",
            quoted(&self.name),
            "1 to 64 of a-z 0-9 _ -, starting with a letter or digit",
        )?;
        ensure(self.version >= 1, "version", self.version, "1 or more")?;
        time("created_at", &self.created_at)?;
        plugin("architecture", &self.architecture.plugin, &self.architecture.digest)?;
        json_object("architecture.hyper", &self.architecture.hyper)?;
        self.check_features()?;
        self.check_input()?;
        self.check_label()?;
        match &self.foreign {
            Some(foreign) => self.check_foreign(foreign)?,
            None => {
                self.check_output()?;
                self.data.check()?;
                self.training.check()?;
                self.metrics.check()?;
            }
        }
        if let Some(calibration) = &self.calibration {
            calibration.check(self.label.kind)?;
            let weights = calibration.source.as_ref().map(|source| &source.weights);
            let fits = weights.is_none_or(|sha| self.files.get(MODEL_FILE) == Some(sha));
            ensure(
                fits,
                "calibration.source.weights",
                quoted(weights.map_or("", String::as_str)),
                "the digest of model.onnx: a calibration is of one model's weights",
            )?;
        }
        self.parent.as_ref().map_or(Ok(()), Parent::check)?;
        let columns = self.input.features as usize;
        self.profile.as_ref().map_or(Ok(()), |profile| profile.check(columns))?;
        positive("serving.device_tolerance", self.serving.device_tolerance)?;
        if let Some(error) = self.serving.precision_error {
            not_negative("serving.precision_error", error)?;
        }
        self.check_files()
    }

    fn check_features(&self) -> Check {
        let features = &self.features;
        plugin("features", &features.plugin, &features.digest)?;
        json_object("features.options", &features.options)?;
        for name in &features.names {
            let fits = (1..=128).contains(&name.len()) && !name.contains(char::is_control);
            ensure(
                fits,
                "features.names",
                quoted(name),
                "names of 1 to 128 bytes without control characters",
            )?;
        }
        let fingerprint = names_fingerprint(&features.names);
        ensure(
            features.fingerprint == fingerprint,
            "features.fingerprint",
            quoted(&features.fingerprint),
            "the fingerprint of features.names, or restore the names",
        )
    }

    fn check_input(&self) -> Check {
        let input = self.input;
        ensure((1..=WINDOW_MAX).contains(&input.window), "input.window", input.window, "1 to 8192")?;
        ensure((1..=FEATURES_MAX).contains(&input.features), "input.features", input.features, "1 to 4096")?;
        ensure((1..=OUTPUTS_MAX).contains(&input.outputs), "input.outputs", input.outputs, "1 to 256")?;
        let columns = input.features as usize;
        let lengths = [
            ("features.names", self.features.names.len()),
            ("normaliser.mean", self.normaliser.mean.len()),
            ("normaliser.scale", self.normaliser.scale.len()),
        ];
        for (key, length) in lengths {
            let found = format_args!("a list of {length}").to_string();
            ensure(length == columns, key, found, "a list of input.features entries")?;
        }
        for &mean in &self.normaliser.mean {
            finite("normaliser.mean", mean)?;
        }
        for &scale in &self.normaliser.scale {
            positive("normaliser.scale", scale)?;
        }
        self.normaliser.clip.map_or(Ok(()), |clip| positive("normaliser.clip", clip))
    }

    /// What can't be known of an imported model isn't there.
    fn check_foreign(&self, foreign: &Foreign) -> Check {
        digest("foreign.digest", &foreign.digest)?;
        let texts = [
            ("foreign.producer", &foreign.producer),
            ("foreign.input", &foreign.input),
            ("foreign.output", &foreign.output),
        ];
        for (key, text) in texts {
            let fits = text.len() <= 256 && !text.contains(char::is_control);
            ensure(fits, key, quoted(text), "at most 256 bytes without control characters")?;
        }
        ensure(foreign.opset >= 1, "foreign.opset", foreign.opset, "1 or more")?;
        let data = &self.data;
        data.check_names()?;
        let unknown = data.rows == 0 && data.digest.is_empty() && data.train == Range::default();
        ensure(
            unknown,
            "data",
            "there",
            "a description, symbols and a timeframe alone: the model is imported",
        )?;
        ensure(
            self.training == Training::default(),
            "training",
            "there",
            "nothing: the model is imported, and how it was trained isn't known",
        )?;
        ensure(
            self.metrics == Metrics::default(),
            "metrics",
            "there",
            "nothing: the model is imported, and wasn't judged",
        )
    }

    fn check_label(&self) -> Check {
        let label = self.label;
        ensure(
            (1..=HORIZON_BARS_MAX).contains(&label.horizon_bars),
            "label.horizon_bars",
            label.horizon_bars,
            "1 to 100000",
        )?;
        if let Some(band) = label.dead_band {
            positive("label.dead_band", band)?;
            let fits = label.kind == LabelKind::Direction;
            ensure(fits, "label.dead_band", band, "nothing: only a direction has a dead band")?;
        }
        finite("label.mean", label.mean)?;
        positive("label.scale", label.scale)
    }

    /// That label, output, loss and the number of columns go together.
    fn check_output(&self) -> Check {
        let (kind, outputs) = (self.label.kind, self.input.outputs);
        let is_direction = kind == LabelKind::Direction;
        let (fits, expected) = match &self.output {
            Output::Point | Output::Quantiles { .. } => {
                (!is_direction, "\"probabilities\", the output of a direction")
            }
            Output::Probabilities => {
                (is_direction, "\"point\" or \"quantiles\": only a direction has classes")
            }
        };
        ensure(fits, "output.kind", quoted(self.output.name()), expected)?;
        let (loss, expected) = match (&self.output, self.training.loss) {
            (Output::Point, Loss::MeanSquared | Loss::Huber { .. } | Loss::Pinball { .. }) => (true, ""),
            (Output::Point, Loss::Quantiles | Loss::CrossEntropy) => {
                (false, "mean_squared, huber or pinball, the losses of a point")
            }
            (Output::Quantiles { .. }, loss) => {
                (loss == Loss::Quantiles, "quantiles, the loss of output.levels")
            }
            (Output::Probabilities, loss) => {
                (loss == Loss::CrossEntropy, "cross_entropy, the loss of classes")
            }
        };
        ensure(loss, "training.loss.kind", format!("{:?}", self.training.loss), expected)?;
        match &self.output {
            Output::Point => Ok(()),
            Output::Quantiles { levels } => {
                ensure(
                    are_levels(levels),
                    "output.levels",
                    format!("{levels:?}"),
                    "1 to 99 rising levels between 0 and 1, with 0.5 among them",
                )?;
                let fits = outputs as usize == levels.len();
                ensure(fits, "input.outputs", outputs, "the number of output.levels")
            }
            Output::Probabilities => {
                let classes = if self.label.dead_band.is_some() { 3 } else { 2 };
                ensure(outputs == classes, "input.outputs", outputs, "2, or 3 with label.dead_band")
            }
        }
    }

    fn check_files(&self) -> Check {
        ensure(self.files.len() <= FILES_MAX, "files", self.files.len(), "at most 16 files")?;
        ensure(
            self.files.contains_key(MODEL_FILE),
            "files",
            "without model.onnx",
            "a table that has \"model.onnx\"",
        )?;
        for (name, sha) in &self.files {
            ensure(is_file_name(name), "files", quoted(name), "file names of A-Z a-z 0-9 _ - . only")?;
            digest(&format!("files.\"{name}\""), sha)?;
        }
        Ok(())
    }
}

impl Parent {
    fn check(&self) -> Check {
        ensure(
            is_model_name(&self.name),
            "parent.name",
            quoted(&self.name),
            "1 to 64 of a-z 0-9 _ -, starting with a letter or digit",
        )?;
        ensure(self.version >= 1, "parent.version", self.version, "1 or more")?;
        digest("parent.digest", &self.digest)?;
        time("parent.fresh_from", &self.fresh_from)?;
        ensure(self.fresh_samples >= 1, "parent.fresh_samples", self.fresh_samples, "1 or more")?;
        positive("parent.first_learning_rate", self.first_learning_rate)
    }
}

impl Data {
    fn check_names(&self) -> Check {
        ensure(
            self.description.len() <= 4096,
            "data.description",
            self.description.len(),
            "at most 4096 bytes",
        )?;
        ensure(
            self.symbols.len() <= SYMBOLS_MAX,
            "data.symbols",
            self.symbols.len(),
            "at most 10000 symbols",
        )?;
        for symbol in &self.symbols {
            ensure(
                (1..=32).contains(&symbol.len()),
                "data.symbols",
                quoted(symbol),
                "symbols of 1 to 32 characters",
            )?;
        }
        ensure(
            (2..=10).contains(&self.timeframe.len()),
            "data.timeframe",
            quoted(&self.timeframe),
            "a timeframe such as \"1h\"",
        )
    }

    fn check(&self) -> Check {
        self.check_names()?;
        ensure(!self.symbols.is_empty(), "data.symbols", 0, "1 to 10000 symbols")?;
        ensure(self.rows >= 1, "data.rows", self.rows, "1 or more")?;
        time("data.first_open_time", &self.first_open_time)?;
        time("data.last_open_time", &self.last_open_time)?;
        digest("data.digest", &self.digest)?;
        range("data.train", &self.train)?;
        range("data.validation", &self.validation)?;
        self.calibration.as_ref().map_or(Ok(()), |part| range("data.calibration", part))?;
        range("data.test", &self.test)
    }
}

impl Training {
    fn check(&self) -> Check {
        ensure(self.seed <= SEED_MAX, "training.seed", self.seed, "0 to 9223372036854775807")?;
        ensure(self.batch >= 1, "training.batch", self.batch, "1 or more")?;
        ensure(self.epochs_max >= 1, "training.epochs_max", self.epochs_max, "1 or more")?;
        ensure(self.patience >= 1, "training.patience", self.patience, "1 or more")?;
        ensure(self.trials >= 1, "training.trials", self.trials, "1 or more")?;
        positive("training.learning_rate", self.learning_rate)?;
        share("training.beta1", self.beta1)?;
        share("training.beta2", self.beta2)?;
        positive("training.epsilon", self.epsilon)?;
        not_negative("training.weight_decay", self.weight_decay)?;
        self.clip_norm.map_or(Ok(()), |norm| positive("training.clip_norm", norm))?;
        match self.loss {
            Loss::MeanSquared => {}
            Loss::Huber { delta } => positive("training.loss.delta", delta)?,
            Loss::Pinball { quantile } => share("training.loss.quantile", quantile)?,
            Loss::Quantiles | Loss::CrossEntropy => {}
        }
        self.check_curves()
    }

    fn check_curves(&self) -> Check {
        let epochs = self.epochs as usize;
        ensure(
            self.epochs >= 1 && self.epochs <= self.epochs_max,
            "training.epochs",
            self.epochs,
            "1 to training.epochs_max",
        )?;
        let best = self.best_epoch >= 1 && self.best_epoch <= self.epochs;
        ensure(best, "training.best_epoch", self.best_epoch, "1 to training.epochs")?;
        for (key, curve) in [
            ("training.train_curve", &self.train_curve),
            ("training.validation_curve", &self.validation_curve),
        ] {
            ensure(
                curve.len() == epochs,
                key,
                format!("a list of {}", curve.len()),
                "one loss for each epoch run",
            )?;
            curve.iter().try_for_each(|&loss| finite(key, loss))?;
        }
        Ok(())
    }
}

impl Metrics {
    fn check(&self) -> Check {
        ensure(self.samples >= 1, "metrics.samples", self.samples, "1 or more")?;
        ensure(
            self.bootstrap_seed <= SEED_MAX,
            "metrics.bootstrap_seed",
            self.bootstrap_seed,
            "0 to 9223372036854775807",
        )?;
        share("metrics.confidence", self.confidence)?;
        let majority = (0.0..=1.0).contains(&self.majority_rate);
        ensure(majority, "metrics.majority_rate", self.majority_rate, "0 to 1")?;
        not_negative("metrics.ridge_lambda", self.ridge_lambda)?;
        scores("metrics.model", &self.model)?;
        scores("metrics.naive", &self.naive)?;
        scores("metrics.ridge", &self.ridge)
    }
}

fn scores(key: &str, scores: &Scores) -> Check {
    for (field, x) in [("rmse", scores.rmse), ("mae", scores.mae), ("mase", scores.mase)] {
        not_negative(&format!("{key}.{field}"), x)?;
    }
    let intervals = [
        ("skill", scores.skill),
        ("skill_vs_ridge", scores.skill_vs_ridge),
        ("directional_accuracy", scores.directional_accuracy),
        ("ic", scores.ic),
        ("rank_ic", scores.rank_ic),
    ];
    for (field, interval) in intervals {
        let Some(Interval { value, low, high }) = interval else { continue };
        let key = format!("{key}.{field}");
        [value, low, high].into_iter().try_for_each(|x| finite(&key, x))?;
        ensure(
            low <= high,
            &key,
            format!("from {low} to {high}"),
            "an interval whose low is at most its high",
        )?;
    }
    Ok(())
}

pub(crate) fn range(key: &str, range: &Range) -> Check {
    time(&format!("{key}.from"), &range.from)?;
    time(&format!("{key}.until"), &range.until)?;
    ensure(range.samples >= 1, &format!("{key}.samples"), range.samples, "1 or more")
}

fn plugin(key: &str, name: &str, sha: &str) -> Check {
    let fits = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    ensure(fits, &format!("{key}.plugin"), quoted(name), "a name and version such as \"lstm@0.1.0\"")?;
    digest(&format!("{key}.digest"), sha)
}

fn json_object(key: &str, text: &str) -> Check {
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
    ensure(object, key, quoted(text), "a JSON object in quotes, such as '{}'")
}

fn time(key: &str, text: &str) -> Check {
    let parsed = toml::value::Datetime::from_str(text);
    let full = parsed.is_ok_and(|t| t.date.is_some() && t.time.is_some() && t.offset.is_some());
    ensure(full, key, quoted(text), "a time such as \"2024-03-01T05:00:00Z\"")
}

pub(crate) fn digest(key: &str, text: &str) -> Check {
    ensure(is_digest(text), key, quoted(text), "a SHA-256 of 64 lower-case hex digits")
}

pub(crate) fn finite(key: &str, x: f64) -> Check {
    ensure(x.is_finite(), key, x, "a finite number")
}

pub(crate) fn positive(key: &str, x: f64) -> Check {
    ensure(x.is_finite() && x > 0.0, key, x, "a finite number above zero")
}

pub(crate) fn not_negative(key: &str, x: f64) -> Check {
    ensure(x.is_finite() && x >= 0.0, key, x, "a finite number, zero or more")
}

pub(crate) fn share(key: &str, x: f64) -> Check {
    ensure(x > 0.0 && x < 1.0, key, x, "a number between 0 and 1, both excluded")
}

pub(crate) fn ensure(holds: bool, key: &str, found: impl Display, expected: &'static str) -> Check {
    if holds {
        Ok(())
    } else {
        Err(ManifestError::Value { key: key.into(), found: found.to_string(), expected })
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
