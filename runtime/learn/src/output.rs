//! What a model puts out for a label: a point, quantiles or class probabilities; and the targets that train it.
//!
//! Quantiles that cross are repaired by sorting, which never makes them worse (Chernozhukov, Fernández-Val and Galichon
//! 2010, "Quantile and probability curves without crossing").

use registry::{LabelKind, Loss, Output};
use serde::{Deserialize, Serialize};

use crate::label::LabelRecipe;
use crate::normalise::LabelScale;
use crate::split::CalibrationCut;

/// The output, and what is calibrated on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRecipe {
    pub kind: Output,
    /// The share of realised values that an interval is to cover.
    pub interval_level: f64,
    /// Of a volatility: confidence is the probability that it lies within this factor of the forecast.
    pub factor: f64,
    pub calibration: CalibrationCut,
}

impl Default for OutputRecipe {
    fn default() -> Self {
        OutputRecipe {
            kind: Output::Point,
            interval_level: 0.9,
            factor: 1.5,
            calibration: CalibrationCut::Share(0.5),
        }
    }
}

/// The classes of a direction, in the order of the outputs, and the label's value of each.
pub fn classes(label: &LabelRecipe) -> &'static [(&'static str, f64)] {
    const ALL: [(&str, f64); 3] = [("down", -1.0), ("flat", 0.0), ("up", 1.0)];
    const TWO: [(&str, f64); 2] = [("down", -1.0), ("up", 1.0)];
    if label.dead_band.is_some() { &ALL } else { &TWO }
}

/// The class of a direction's label.
pub fn class_of(label: &LabelRecipe, value: f64) -> usize {
    classes(label).iter().position(|(_, of_class)| *of_class == value).unwrap_or(0)
}

/// How many numbers the model gives.
pub fn columns(output: &Output, label: &LabelRecipe) -> usize {
    match output {
        Output::Point => 1,
        Output::Quantiles { levels } => levels.len(),
        Output::Probabilities => classes(label).len(),
    }
}

/// The usual loss: squared error, the mean of the pinball losses, cross entropy.
pub fn default_loss(output: &Output) -> Loss {
    match output {
        Output::Point => Loss::MeanSquared,
        Output::Quantiles { .. } => Loss::Quantiles,
        Output::Probabilities => Loss::CrossEntropy,
    }
}

impl OutputRecipe {
    /// The first value that can't be, or doesn't go with the label or the loss: its key, and what to set it to.
    pub fn problem(&self, label: &LabelRecipe, loss: Loss) -> Option<(&'static str, &'static str)> {
        let is_direction = label.kind == LabelKind::Direction;
        let kind = match &self.kind {
            Output::Point | Output::Quantiles { .. } if is_direction => {
                Some("probabilities: a direction has classes")
            }
            Output::Probabilities if !is_direction => {
                Some("point or quantiles: only a direction has classes and so probabilities")
            }
            Output::Point | Output::Quantiles { .. } | Output::Probabilities => None,
        };
        let fits = match self.kind {
            Output::Point => !matches!(loss, Loss::Quantiles | Loss::CrossEntropy),
            Output::Quantiles { .. } | Output::Probabilities => loss == default_loss(&self.kind),
        };
        let levels = match &self.kind {
            Output::Quantiles { levels } => registry::check::are_levels(levels),
            Output::Point | Output::Probabilities => true,
        };
        let share = |x: f64| x > 0.0 && x < 1.0;
        let cut = match self.calibration {
            CalibrationCut::Share(x) => share(x),
            CalibrationCut::None | CalibrationCut::From(_) => true,
        };
        let band = label.dead_band.is_none_or(|band| is_direction && band.is_finite() && band > 0.0);
        let checks = [
            (kind.is_none(), "output.kind", kind.unwrap_or_default()),
            (
                fits,
                "training.loss",
                "the loss of the output: quantiles, cross_entropy, or for a point another one",
            ),
            (levels, "output.levels", "1 to 99 rising levels between 0 and 1, with 0.5 among them"),
            (share(self.interval_level), "output.interval_level", "a number between 0 and 1"),
            (self.factor.is_finite() && self.factor > 1.0, "output.factor", "a finite number above 1"),
            (cut, "output.calibration", "a share of the validation part between 0 and 1"),
            (band, "label.dead_band", "a log return above zero, of a direction only"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, key, expected)| (key, expected))
    }
}

/// Appends the target of one sample: the normalised label, or a class as 0s and a 1.
pub fn push_target(
    targets: &mut Vec<f64>,
    output: &Output,
    label: &LabelRecipe,
    scale: LabelScale,
    value: f64,
) {
    match output {
        Output::Point | Output::Quantiles { .. } => targets.push(scale.to_output(value)),
        Output::Probabilities => {
            let class = class_of(label, value);
            targets.extend((0..classes(label).len()).map(|i| if i == class { 1.0 } else { 0.0 }));
        }
    }
}

/// The loss of one forecast, by the formula that the graph averages. `outputs` are the model's, `target` is
/// [`push_target`]'s.
pub fn loss_of(loss: Loss, output: &Output, outputs: &[f64], target: &[f64]) -> f64 {
    let target_at = |i: usize| target.get(i).copied().unwrap_or(f64::NAN);
    let error = target_at(0) - outputs.first().copied().unwrap_or(f64::NAN);
    let pinball = |level: f64, error: f64| (level * error).max((level - 1.0) * error);
    match loss {
        Loss::MeanSquared => error * error,
        Loss::Huber { delta } => {
            let near = error.abs().min(delta);
            near * (error.abs() - near / 2.0)
        }
        Loss::Pinball { quantile } => pinball(quantile, error),
        Loss::Quantiles => {
            let Output::Quantiles { levels } = output else { return f64::NAN };
            let each = levels.iter().zip(outputs).map(|(&level, q)| pinball(level, target_at(0) - q));
            each.sum::<f64>() / levels.len() as f64
        }
        Loss::CrossEntropy => {
            let probabilities = softmax(outputs);
            let each = probabilities.iter().enumerate();
            -each.map(|(i, p)| target_at(i) * p.max(f64::MIN_POSITIVE).ln()).sum::<f64>()
        }
    }
}

/// exp(x) / Σ exp(x), with the greatest x taken off first.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|x| (x - greatest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}

/// The model's outputs as a prediction's values: in the label's unit, quantiles sorted, or probabilities.
pub fn values(output: &Output, scale: LabelScale, outputs: &[f32]) -> Vec<f32> {
    let in_unit = || outputs.iter().map(|&x| scale.to_prediction(f64::from(x)) as f32);
    match output {
        Output::Point => in_unit().collect(),
        Output::Quantiles { .. } => {
            let mut values: Vec<f32> = in_unit().collect();
            values.sort_by(f32::total_cmp);
            values
        }
        Output::Probabilities => {
            let logits: Vec<f64> = outputs.iter().map(|&x| f64::from(x)).collect();
            softmax(&logits).iter().map(|&p| p as f32).collect()
        }
    }
}

/// The one number of a prediction, in the label's unit: the point, the median, or P(up) − P(down), which is what a
/// direction is on average.
pub fn value(output: &Output, values: &[f32]) -> f32 {
    let at = |i: usize| values.get(i).copied().unwrap_or(f32::NAN);
    match output {
        Output::Point => at(0),
        Output::Quantiles { levels } => at(levels.iter().position(|&q| q == 0.5).unwrap_or(0)),
        Output::Probabilities => values.last().copied().unwrap_or(f32::NAN) - at(0),
    }
}

#[cfg(test)]
mod tests;
