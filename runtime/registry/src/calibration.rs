//! What was fitted on the calibration part: the interval and the confidence, and how both did on the test part.

use serde::{Deserialize, Serialize};

use crate::check::{Check, digest, ensure, finite, not_negative, positive, quoted, range, share};
use crate::manifest::{LabelKind, Range};

/// No reliability table has more lines.
pub const BINS_MAX: usize = 100;

/// Scores are those of `learn::reading`: how far a realised value is from its forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The share of realised values that an interval is to cover.
    pub level: f64,
    /// Samples that it was fitted on.
    pub samples: u64,
    /// The split conformal interval holds what has at most this score.
    pub quantile: f64,
    /// The adaptive interval's unit: its steps are shares of this.
    pub step: f64,
    /// Volatilities below this count as this, since their logarithms are compared. 0 for other labels.
    pub floor: f64,
    /// Of a volatility: confidence is the probability that it lies within this factor of the forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    pub confidence: Confidence,
    /// Where it was made after the training. Absent: on the calibration part of the training's own bars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    pub test: Reliability,
}

/// The weights and the bars of a calibration that came after the training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The version that was calibrated, "btc/3", and the SHA-256 of its `model.onnx`, which is this one's too.
    pub model: String,
    pub weights: String,
    /// Of the bars.
    pub description: String,
    /// Over the canonical bytes of all bars, those that only warm up included.
    pub digest: String,
    pub unseen: Unseen,
    pub fitted: Range,
    pub tested: Range,
}

/// Whether the model had not been trained on the bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    Yes,
    /// It was trained on some of them: its intervals may be too narrow.
    No,
    /// It was imported, and whoever calibrated it answers for that.
    NotKnown,
}

/// confidence = 1 / (1 + exp(−(intercept + slope · x))), with x the forecast's own sureness (Platt 1999).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    pub intercept: f64,
    pub slope: f64,
}

/// Measured on the test part, which nothing was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reliability {
    pub samples: u64,
    /// The share of realised values in the split conformal interval.
    pub coverage: f64,
    /// The same of the adaptive one, which starts from it and learns from each outcome that has fallen due.
    pub coverage_adaptive: f64,
    /// Mean widths, in the label's unit.
    pub width: f64,
    pub width_adaptive: f64,
    /// The mean confidence, and the share of forecasts that were right.
    pub confidence: f64,
    pub right: f64,
    /// The mean of (confidence − right)².
    pub brier: f64,
    /// The mean of |confidence − right| over the bins, by their samples.
    pub calibration_error: f64,
    /// Of equal counts, by rising confidence.
    pub bins: Vec<ReliabilityBin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    pub confidence: f64,
    pub right: f64,
    pub samples: u64,
}

impl Calibration {
    pub(crate) fn check(&self, label: LabelKind) -> Check {
        share("calibration.level", self.level)?;
        ensure(self.samples >= 1, "calibration.samples", self.samples, "1 or more")?;
        finite("calibration.quantile", self.quantile)?;
        positive("calibration.step", self.step)?;
        if label == LabelKind::RealisedVolatility {
            positive("calibration.floor", self.floor)?;
            let factor = self.factor.unwrap_or(0.0);
            ensure(
                factor.is_finite() && factor > 1.0,
                "calibration.factor",
                factor,
                "a finite number above 1",
            )?;
        } else {
            not_negative("calibration.floor", self.floor)?;
            let none = self.factor.is_none();
            ensure(none, "calibration.factor", "there", "nothing: it belongs to a volatility")?;
        }
        finite("calibration.confidence.intercept", self.confidence.intercept)?;
        finite("calibration.confidence.slope", self.confidence.slope)?;
        self.source.as_ref().map_or(Ok(()), Source::check)?;
        self.test.check()
    }
}

impl Source {
    fn check(&self) -> Check {
        for (key, text) in [("model", &self.model), ("description", &self.description)] {
            let fits = text.len() <= 4096 && !text.contains(char::is_control);
            let key = format!("calibration.source.{key}");
            ensure(fits, &key, quoted(text), "at most 4096 bytes without control characters")?;
        }
        digest("calibration.source.weights", &self.weights)?;
        digest("calibration.source.digest", &self.digest)?;
        range("calibration.source.fitted", &self.fitted)?;
        range("calibration.source.tested", &self.tested)
    }
}

impl Reliability {
    fn check(&self) -> Check {
        ensure(self.samples >= 1, "calibration.test.samples", self.samples, "1 or more")?;
        let shares = [
            ("coverage", self.coverage),
            ("coverage_adaptive", self.coverage_adaptive),
            ("confidence", self.confidence),
            ("right", self.right),
            ("brier", self.brier),
            ("calibration_error", self.calibration_error),
        ];
        for (name, x) in shares {
            ensure((0.0..=1.0).contains(&x), &format!("calibration.test.{name}"), x, "0 to 1")?;
        }
        not_negative("calibration.test.width", self.width)?;
        not_negative("calibration.test.width_adaptive", self.width_adaptive)?;
        ensure(self.bins.len() <= BINS_MAX, "calibration.test.bins", self.bins.len(), "at most 100")?;
        for bin in &self.bins {
            let fits = (0.0..=1.0).contains(&bin.confidence) && (0.0..=1.0).contains(&bin.right);
            ensure(fits, "calibration.test.bins", format!("{bin:?}"), "bins of shares from 0 to 1")?;
        }
        Ok(())
    }
}
