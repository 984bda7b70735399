//! How a model's outputs are read: the value, what it is called right by, how far a realised value lies from it (the
//! conformal score), the interval that a score allows, and what all of it means in words.
//!
//! | label | unit of scores | right when |
//! |---|---|---|
//! | log_return | the return | the realised return has the forecast's sign |
//! | realised_volatility | its logarithm | the realised volatility is within a factor of the forecast |
//! | direction | 1 − probability of the class (Sadinle, Lei and Wasserman 2019) | the likeliest class comes |
//!
//! Scores of a point are distances (Lei et al. 2018); those of quantiles say how far the realised value lies outside the
//! two levels nearest to the interval's (Romano, Patterson and Candès 2019), below 0 where it lies inside.

use registry::{Calibration, LabelKind, Manifest, Output};

use crate::confidence;
use crate::label::LabelRecipe;
use crate::normalise::LabelScale;
use crate::output::{self, class_of, classes};

/// The floor of volatilities, as a share of the training labels' mean.
const FLOOR_SHARE: f64 = 0.01;

/// What is needed to read the outputs of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub label: LabelRecipe,
    pub output: Output,
    pub scale: LabelScale,
    /// Volatilities below it count as this.
    pub floor: f64,
    /// What right means for a volatility.
    pub factor: f64,
    /// The columns of quantiles that the interval is made of.
    pair: [usize; 2],
}

impl Reading {
    pub fn new(label: LabelRecipe, output: Output, scale: LabelScale, level: f64, factor: f64) -> Reading {
        let floor = match label.kind {
            LabelKind::RealisedVolatility => (FLOOR_SHARE * scale.mean).max(1e-12),
            LabelKind::LogReturn | LabelKind::Direction => 0.0,
        };
        let pair = match &output {
            Output::Quantiles { levels } => {
                [(1.0 - level) / 2.0, (1.0 + level) / 2.0].map(|wanted| nearest(levels, wanted))
            }
            Output::Point | Output::Probabilities => [0, 0],
        };
        Reading { label, output, scale, floor, factor, pair }
    }

    /// Of a model whose constants say nothing of its label: volatilities are small beside this mean.
    pub fn with_mean_label(mut self, mean: f64) -> Reading {
        if self.label.kind == LabelKind::RealisedVolatility {
            self.floor = (FLOOR_SHARE * mean).max(1e-12);
        }
        self
    }

    pub fn from_manifest(manifest: &Manifest) -> Reading {
        let label = LabelRecipe::from_manifest(&manifest.label);
        let scale = LabelScale { mean: manifest.label.mean, scale: manifest.label.scale };
        let calibration = manifest.calibration.as_ref();
        let level = calibration.map_or(0.9, |c| c.level);
        let factor = calibration.and_then(|c| c.factor).unwrap_or(1.5);
        let mut reading = Reading::new(label, manifest.output.clone(), scale, level, factor);
        if let Some(calibration) = calibration.filter(|c| c.floor > 0.0) {
            reading.floor = calibration.floor;
        }
        reading
    }

    /// The graph's outputs in the label's unit.
    pub fn values(&self, outputs: &[f32]) -> Vec<f32> {
        output::values(&self.output, self.scale, outputs)
    }

    /// How an output of the graph becomes a number in the label's unit; of a class, its score before the softmax.
    pub fn output_scale(&self) -> LabelScale {
        match self.output {
            Output::Point | Output::Quantiles { .. } => self.scale,
            Output::Probabilities => LabelScale { mean: 0.0, scale: 1.0 },
        }
    }

    /// The output that says most of a reply's value: the point, the median, or the class up.
    pub fn main_output(&self) -> usize {
        match &self.output {
            Output::Point => 0,
            Output::Quantiles { levels } => nearest(levels, 0.5),
            Output::Probabilities => classes(&self.label).len() - 1,
        }
    }

    /// The one number of a prediction; see [`output::value`].
    pub fn value(&self, values: &[f32]) -> f32 {
        output::value(&self.output, values)
    }

    /// Of a direction: the likeliest class, and its probability.
    pub fn class(&self, values: &[f32]) -> Option<(&'static str, f32)> {
        if self.output != Output::Probabilities {
            return None;
        }
        let best = likeliest(values)?;
        Some((classes(&self.label).get(best)?.0, values[best]))
    }

    /// To where scores are measured.
    fn measured(&self, y: f64) -> f64 {
        match self.label.kind {
            LabelKind::RealisedVolatility => y.max(self.floor).ln(),
            LabelKind::LogReturn | LabelKind::Direction => y,
        }
    }

    /// Back from there. A volatility at its floor may be any below it.
    fn unmeasured(&self, m: f64) -> f64 {
        match self.label.kind {
            LabelKind::RealisedVolatility if m <= self.floor.ln() => 0.0,
            LabelKind::RealisedVolatility => m.exp(),
            LabelKind::LogReturn | LabelKind::Direction => m,
        }
    }

    /// The two values that an interval widens, where scores are measured.
    fn ends(&self, values: &[f32]) -> (f64, f64) {
        let at = |i: usize| self.measured(f64::from(values.get(i).copied().unwrap_or(f32::NAN)));
        (at(self.pair[0]), at(self.pair[1]))
    }

    /// How far a realised value lies from the forecast.
    pub fn score(&self, values: &[f32], realised: f64) -> f64 {
        match self.output {
            Output::Point | Output::Quantiles { .. } => {
                let ((low, high), y) = (self.ends(values), self.measured(realised));
                (low - y).max(y - high)
            }
            Output::Probabilities => {
                let class = class_of(&self.label, realised);
                1.0 - f64::from(values.get(class).copied().unwrap_or(0.0))
            }
        }
    }

    /// All values with at most this score, from low to high, in the label's unit. Where there are none it is the
    /// forecast alone; where classes are left out between two others it holds them too.
    pub fn interval(&self, values: &[f32], score: f64) -> (f64, f64) {
        match self.output {
            Output::Point | Output::Quantiles { .. } => {
                let (low, high) = self.ends(values);
                let (low, high) = (low - score, high + score);
                let middle = (low + high) / 2.0;
                (self.unmeasured(low.min(middle)), self.unmeasured(high.max(middle)))
            }
            Output::Probabilities => {
                let best = likeliest(values);
                let all = classes(&self.label).iter().zip(values).enumerate();
                let inside = all.filter(|(i, (_, p))| 1.0 - f64::from(**p) <= score || Some(*i) == best);
                inside.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, ((_, value), _))| {
                    (low.min(*value), high.max(*value))
                })
            }
        }
    }

    /// Whether the forecast is called right: see the table.
    pub fn is_right(&self, values: &[f32], realised: f64) -> bool {
        let value = f64::from(self.value(values));
        match self.label.kind {
            LabelKind::LogReturn => value * realised > 0.0,
            LabelKind::RealisedVolatility => {
                (self.measured(value) - self.measured(realised)).abs() <= self.factor.ln()
            }
            LabelKind::Direction => likeliest(values) == Some(class_of(&self.label, realised)),
        }
    }

    /// The forecast's own sureness that it is right, which the confidence is a logistic map of: the log odds that it
    /// states, or, where a point states none, its size.
    pub fn sureness(&self, values: &[f32]) -> f64 {
        let value = f64::from(self.value(values));
        let below = |x: f64| share_below(&self.output, values, x);
        match (&self.output, self.label.kind) {
            (Output::Probabilities, _) => {
                let best = likeliest(values).and_then(|i| values.get(i)).copied().unwrap_or(0.5);
                confidence::logit(f64::from(best))
            }
            (Output::Point, LabelKind::LogReturn | LabelKind::Direction) => value.abs() / self.scale.scale,
            (Output::Point, LabelKind::RealisedVolatility) => self.measured(value),
            (Output::Quantiles { .. }, LabelKind::LogReturn | LabelKind::Direction) => {
                let down = below(0.0);
                confidence::logit(if value > 0.0 { 1.0 - down } else { down })
            }
            (Output::Quantiles { .. }, LabelKind::RealisedVolatility) => {
                confidence::logit(below(value * self.factor) - below(value / self.factor))
            }
        }
    }

    /// Whether more sureness may mean less confidence: a point of a volatility says how large, not how sure.
    pub fn sureness_may_fall(&self) -> bool {
        self.output == Output::Point && self.label.kind == LabelKind::RealisedVolatility
    }

    pub fn confidence(&self, calibration: &Calibration, values: &[f32]) -> f64 {
        confidence::at(&calibration.confidence, self.sureness(values))
    }

    /// The unit of values and intervals.
    pub fn unit(&self) -> &'static str {
        match self.label.kind {
            LabelKind::LogReturn => "log return",
            LabelKind::RealisedVolatility => "volatility of log returns over the horizon, not annualised",
            LabelKind::Direction => "1 up, 0 flat, -1 down",
        }
    }

    /// What the confidence is the probability of.
    pub fn confidence_of(&self) -> String {
        let bars = match self.label.horizon_bars {
            1 => "the next bar".into(),
            n => format!("the next {n} bars"),
        };
        match self.label.kind {
            LabelKind::LogReturn => format!("the log return over {bars} has the sign of value"),
            LabelKind::RealisedVolatility => {
                format!("the realised volatility of {bars} is within a factor of {} of value", self.factor)
            }
            LabelKind::Direction => match self.label.dead_band {
                None => format!("the direction over {bars} is class"),
                Some(band) => {
                    format!(
                        "the direction over {bars} is class, a log return within {band} of zero being flat"
                    )
                }
            },
        }
    }
}

/// The first class of the greatest probability.
fn likeliest(values: &[f32]) -> Option<usize> {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b]))
}

fn nearest(levels: &[f64], wanted: f64) -> usize {
    let distance = |&i: &usize| (levels[i] - wanted).abs();
    (0..levels.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// The probability of values up to x that sorted quantiles state: linear between them, their outermost levels beyond.
fn share_below(output: &Output, values: &[f32], x: f64) -> f64 {
    let Output::Quantiles { levels } = output else { return 0.5 };
    let at = |i: usize| f64::from(values.get(i).copied().unwrap_or(f32::NAN));
    let above = (0..levels.len()).find(|&i| at(i) > x);
    match above {
        None => levels[levels.len() - 1],
        Some(0) => levels[0],
        Some(i) => {
            let (low, high) = (at(i - 1), at(i));
            levels[i - 1] + (levels[i] - levels[i - 1]) * ((x - low) / (high - low))
        }
    }
}

#[cfg(test)]
mod tests;
