//! The settings of a training run, and the learning rate that they give at each step.

use graph::loss::Loss as GraphLoss;
use graph::training::Optimiser;
use registry::{Loss, Output, Schedule};
use serde::{Deserialize, Serialize};

/// All that decides the weights beside the data, the graph and the device. See [`registry::Training`] for the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    pub seed: u64,
    pub loss: Loss,
    pub batch: u32,
    pub epochs_max: u32,
    pub patience: u32,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub warmup_steps: u32,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub clip_norm: Option<f64>,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        TrainingSettings {
            seed: 1,
            loss: Loss::MeanSquared,
            batch: 128,
            epochs_max: 30,
            patience: 5,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_steps: 100,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: Some(1.0),
        }
    }
}

impl TrainingSettings {
    /// The first setting that can't be: its key, and what to set it to.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| x > 0.0 && x < 1.0;
        let loss = match self.loss {
            Loss::MeanSquared => true,
            Loss::Huber { delta } => positive(delta),
            Loss::Pinball { quantile } => share(quantile),
            Loss::Quantiles | Loss::CrossEntropy => true,
        };
        let checks = [
            (self.seed <= registry::check::SEED_MAX, "seed", "0 to 9223372036854775807"),
            (loss, "loss", "a delta above zero, or a quantile between 0 and 1"),
            (self.batch >= 1, "batch", "1 or more"),
            (self.epochs_max >= 1, "epochs_max", "1 or more"),
            (self.patience >= 1, "patience", "1 or more"),
            (positive(self.learning_rate), "learning_rate", "a finite number above zero"),
            (share(self.beta1), "beta1", "between 0 and 1"),
            (share(self.beta2), "beta2", "between 0 and 1"),
            (positive(self.epsilon), "epsilon", "a finite number above zero"),
            (
                self.weight_decay == 0.0 || positive(self.weight_decay),
                "weight_decay",
                "zero or a finite number above it",
            ),
            (self.clip_norm.is_none_or(positive), "clip_norm", "a finite number above zero, or leave it out"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, key, expected)| (key, expected))
    }

    /// The learning rate of step 1, 2, … of `steps`: linear from 0 over the warm-up, then as the schedule says.
    pub fn learning_rate_at(&self, step: u64, steps: u64) -> f64 {
        let warmup = u64::from(self.warmup_steps);
        if step <= warmup {
            return self.learning_rate * step as f64 / warmup as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
        }
    }

    pub(crate) fn optimiser(&self) -> Optimiser {
        Optimiser {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
            weight_decay: self.weight_decay as f32,
            clip_norm: self.clip_norm.map(|norm| norm as f32),
        }
    }

    /// `output` knows the levels of quantiles.
    pub(crate) fn graph_loss(&self, output: &Output) -> GraphLoss {
        match self.loss {
            Loss::MeanSquared => GraphLoss::MeanSquared,
            Loss::Huber { delta } => GraphLoss::Huber { delta: delta as f32 },
            Loss::Pinball { quantile } => GraphLoss::Pinball { quantiles: vec![quantile as f32] },
            Loss::Quantiles => {
                let levels: &[f64] = match output {
                    Output::Quantiles { levels } => levels,
                    Output::Point | Output::Probabilities => &[],
                };
                GraphLoss::Pinball { quantiles: levels.iter().map(|&q| q as f32).collect() }
            }
            Loss::CrossEntropy => GraphLoss::CrossEntropy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_and_falls_to_zero() {
        let settings = TrainingSettings {
            learning_rate: 0.1,
            warmup_steps: 10,
            schedule: Schedule::Cosine,
            ..Default::default()
        };
        let rate = |step| settings.learning_rate_at(step, 110);
        assert!((rate(1) - 0.01).abs() < 1e-15 && (rate(10) - 0.1).abs() < 1e-15);
        assert!((rate(60) - 0.05).abs() < 1e-15);
        assert!(rate(110).abs() < 1e-15);
        assert!((10..110).all(|step| rate(step + 1) < rate(step)));
        let constant = TrainingSettings { schedule: Schedule::Constant, warmup_steps: 0, ..settings };
        assert!((1..=110).all(|step| constant.learning_rate_at(step, 110) == 0.1));
    }

    #[test]
    fn impossible_settings_are_named() {
        assert_eq!(TrainingSettings::default().problem(), None);
        let check = |edit: fn(&mut TrainingSettings), key: &str| {
            let mut settings = TrainingSettings::default();
            edit(&mut settings);
            assert_eq!(settings.problem().map(|(key, _)| key), Some(key));
        };
        check(|s| s.learning_rate = f64::NAN, "learning_rate");
        check(|s| s.batch = 0, "batch");
        check(|s| s.beta2 = 1.0, "beta2");
        check(|s| s.clip_norm = Some(0.0), "clip_norm");
        check(|s| s.weight_decay = -0.1, "weight_decay");
        check(|s| s.loss = Loss::Pinball { quantile: 1.0 }, "loss");
        check(|s| s.seed = u64::MAX, "seed");
    }
}
