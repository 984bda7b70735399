//! The manifest: all that is known about a trained model, as TOML. Everything needed to serve it, to refuse
//! what doesn't fit it, and to train it again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::metrics::Metrics;
use crate::profile::Profile;

/// The version of this format.
pub const FORMAT: u32 = 1;

/// Longer text is refused unread.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// Times are RFC 3339 with an offset; digests are SHA-256 in lower-case hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: u32,
    pub name: String,
    pub version: u32,
    pub created_at: String,
    pub architecture: Architecture,
    pub features: Features,
    pub input: Input,
    pub normaliser: Normaliser,
    pub label: Label,
    /// Absent in older manifests: a point.
    #[serde(default, skip_serializing_if = "Output::is_point")]
    pub output: Output,
    pub data: Data,
    /// How it was trained; left out of an [imported](Foreign) one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub training: Training,
    /// How it did; left out likewise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: Metrics,
    /// Absent: replies have neither a confidence nor an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What the training rows look like; absent in older manifests and in imported ones: features aren't watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Of a model that was made elsewhere and came as an ONNX file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// Of a model that was retrained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    pub serving: Serving,
    /// The folder's other files and their digests; `model.onnx` is always among them.
    pub files: BTreeMap<String, String>,
}

/// The file that an imported model came as, and how it is bound to the bar path. Nothing is known of its training:
/// `data` has no ranges, and `training` and `metrics` are left out. `architecture` names the file's format and digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    /// SHA-256 of the file as it came.
    pub digest: String,
    /// Who wrote it, as the file says: "pytorch 2.9.0".
    pub producer: String,
    /// Version of the standard operator set.
    pub opset: u32,
    pub runs: Runs,
    /// The file's names of the input and the output that are used.
    pub input: String,
    pub output: String,
    pub layout: Layout,
}

/// The version that this one was retrained from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    pub name: String,
    pub version: u32,
    /// SHA-256 of its manifest.
    pub digest: String,
    pub weights: Weights,
    /// Samples that open here or later are fresh: the parent wasn't trained on them.
    pub fresh_from: String,
    pub fresh_samples: u64,
    /// Older samples that were trained on as well.
    pub older_samples: u64,
    /// The learning rate of the last training in the line that began at random weights.
    pub first_learning_rate: f64,
}

/// Where a retrained model began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// At its parent's weights, and in its parent's units: `normaliser`, `label.mean` and `label.scale` are the parent's.
    Continued,
    /// At random ones.
    Scratch,
}

/// What runs an imported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// Our own graph holds it: `model.onnx` is that graph, and runs as a trained one does.
    Graph,
    /// It holds what our graph lacks: `model.onnx` is the file as it came, and tract runs it.
    Tract,
}

/// How an imported file takes a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[batch, window, features]`.
    Sequence,
    /// `[batch, window · features]`, the oldest row first.
    Flat,
}

/// The plugin that built the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// "lstm@0.1.0".
    pub plugin: String,
    pub digest: String,
    /// The JSON object that the plugin was given.
    pub hyper: String,
}

/// The plugin that made the rows; live it must be this one, to the byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// "technical@0.1.0".
    pub plugin: String,
    pub digest: String,
    /// The JSON object that the plugin was given.
    pub options: String,
    /// [`names_fingerprint`](crate::names_fingerprint) of `names`.
    pub fingerprint: String,
    /// Rows of a stream that are thrown away unread.
    pub warmup: u32,
    pub names: Vec<String>,
}

/// The graph takes `[batch, window, features]` and gives `[batch, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub window: u32,
    pub features: u32,
    pub outputs: u32,
}

/// input = clamp((feature − mean) / scale, −clip, clip), per column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normaliser {
    /// Absent: nothing is clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    pub mean: Vec<f64>,
    pub scale: Vec<f64>,
}

/// What is predicted: prediction = output · scale + mean, but for the probabilities of classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    pub kind: LabelKind,
    pub horizon_bars: u32,
    pub gaps: GapPolicy,
    /// Of a direction: a log return that is no further from zero is flat. Absent: there is no flat class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_band: Option<f64>,
    pub mean: f64,
    pub scale: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// ln(close\[t+h\] / close\[t\]).
    LogReturn,
    /// √Σ r² over the next h bars, with r the log return of a bar.
    RealisedVolatility,
    /// The class of ln(close\[t+h\] / close\[t\]): 1 up, −1 down, 0 flat (within the dead band). Without a dead band
    /// a return of zero is down.
    Direction,
}

impl LabelKind {
    pub fn name(self) -> &'static str {
        match self {
            LabelKind::LogReturn => "log_return",
            LabelKind::RealisedVolatility => "realised_volatility",
            LabelKind::Direction => "direction",
        }
    }
}

/// What the graph's outputs are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// The label itself.
    #[default]
    Point,
    /// Quantiles of the label at these levels, rising, 0.5 among them.
    Quantiles { levels: Vec<f64> },
    /// Logits of a direction's classes: down, flat (with a dead band), up.
    Probabilities,
}

impl Output {
    pub fn is_point(&self) -> bool {
        matches!(self, Output::Point)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Output::Point => "point",
            Output::Quantiles { .. } => "quantiles",
            Output::Probabilities => "probabilities",
        }
    }
}

/// What becomes of a label whose bars aren't one timeframe apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapPolicy {
    /// The sample is left out.
    Drop,
    /// It counts bars and ignores the clock: for markets that close over night.
    Keep,
}

/// The bars it was trained on, and how they were cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub description: String,
    pub symbols: Vec<String>,
    pub timeframe: String,
    /// Bars over all symbols.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub first_open_time: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_open_time: String,
    /// Over the canonical bytes of all bars.
    #[serde(default, skip_serializing_if = "is_default")]
    pub digest: String,
    /// Bars left out before each later part, beyond the purge of overlapping labels.
    #[serde(default)]
    pub embargo_bars: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub train: Range,
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation: Range,
    /// The end of the validation part, set apart: nothing is trained or stopped by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Range>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub test: Range,
}

/// Samples whose newest bar opens at or after `from` and before `until`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub from: String,
    pub until: String,
    /// After purge and embargo.
    pub samples: u64,
}

/// The settings of the run and how it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    pub seed: u64,
    pub loss: Loss,
    pub batch: u32,
    pub epochs_max: u32,
    /// Epochs without a better validation loss before it stops.
    pub patience: u32,
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u32,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// The gradient's greatest norm; absent: not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Models of other settings that were tried on the same data, this one included.
    pub trials: u32,
    /// Epochs run.
    pub epochs: u32,
    /// From 1.
    pub best_epoch: u32,
    /// Loss per epoch, in the label's normalised unit.
    pub train_curve: Vec<f64>,
    pub validation_curve: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    #[default]
    MeanSquared,
    /// Quadratic within delta, linear beyond.
    Huber { delta: f64 },
    /// The loss whose least is at this quantile.
    Pinball { quantile: f64 },
    /// The mean of the pinball losses at `output.levels`.
    Quantiles,
    /// Of the classes' logits.
    CrossEntropy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    #[default]
    Constant,
    /// Half a cosine, from the learning rate to 0 at the last of `epochs_max` epochs.
    Cosine,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    pub sliding: Sliding,
    /// The greatest difference between devices, and from f32, at load; in the label's normalised unit.
    pub device_tolerance: f64,
    /// How recurrent weights are stored while the model runs.
    #[serde(default)]
    pub precision: Precision,
    /// The largest difference from f32 that was measured when the precision was chosen. Absent at f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision_error: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    F32,
    /// bfloat16 weights and activations.
    Bf16,
    /// 8-bit weights, 14-bit activations.
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sliding {
    /// Each prediction equals a run over the whole window from a zero state.
    Exact,
    /// The state is carried for ever; the model was trained so.
    Carried,
}

/// Why a manifest isn't one.
#[derive(Clone, Debug, PartialEq)]
pub enum ManifestError {
    TooLong {
        bytes: usize,
    },
    /// Not TOML, or a key is missing, unknown or of the wrong type.
    Syntax {
        line: usize,
        text: String,
        message: String,
    },
    /// Written by another version of the program.
    Format {
        found: i64,
    },
    /// A value that can't be.
    Value {
        key: String,
        found: String,
        expected: &'static str,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::TooLong { bytes } => {
                write!(f, "the manifest has {bytes} bytes; at most {TEXT_BYTES_MAX} are read")
            }
            ManifestError::Syntax { line, text, message } => {
                write!(f, "manifest line {line} (`{text}`): {message}; correct that line")
            }
            ManifestError::Format { found } => write!(
                f,
                "the manifest has format = {found} and this program reads {FORMAT}; train the model again or use the program that wrote it"
            ),
            ManifestError::Value { key, found, expected } => {
                write!(f, "manifest key {key} is {found}; set it to {expected}")
            }
        }
    }
}

impl std::error::Error for ManifestError {}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Manifest {
    /// Whether it came as an ONNX file from elsewhere.
    pub fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// Whether "name/version" is it.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        text.split_once('/') == Some((self.name.as_str(), self.version.to_string().as_str()))
    }

    /// Reads and [checks](Manifest::check) a manifest.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes: text.len() });
        }
        #[derive(Deserialize)]
        struct Head {
            format: i64,
        }
        let head: Head = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        if head.format != i64::from(FORMAT) {
            return Err(ManifestError::Format { found: head.format });
        }
        let manifest: Manifest = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as TOML; [`parse`](Manifest::parse) gives back the same bits.
    ///
    /// Errors: a value that can't be, such as a number beyond TOML's 63 bits.
    pub fn to_text(&self) -> Result<String, ManifestError> {
        self.check()?;
        toml::to_string(self).map_err(|e| ManifestError::Value {
            key: "(some key)".into(),
            found: e.to_string(),
            expected: "what TOML can hold",
        })
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> ManifestError {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..start];
    let line = before.iter().filter(|&&b| b == b'\n').count();
    let shown = text.lines().nth(line).unwrap_or_default().chars().take(80).collect();
    ManifestError::Syntax { line: line + 1, text: shown, message: error.message().to_string() }
}

#[cfg(test)]
pub(crate) mod tests;
