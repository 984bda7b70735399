//! A model in service: its plan, its pinned features, its constants, and what to do when the plugin fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use learn::normalise::{LabelScale, Normaliser};
use market::series::Window;
use market::{FeatureError, Features, StreamKey, Symbol, Timeframe};
use store::ModelName;

use crate::runner::Runner;

/// How often a plugin may fail before it is left alone.
#[derive(Clone, Copy, Debug)]
pub struct FailurePolicy {
    pub failures_max: usize,
    pub window: Duration,
}

pub struct Deployment {
    /// "btc-1h-lstm/1".
    pub model: Arc<str>,
    pub name: ModelName,
    pub digest: [u8; 32],
    pub features_digest: [u8; 32],
    /// `None`: every symbol.
    pub symbols: Option<Vec<Symbol>>,
    pub timeframe: Timeframe,
    pub label: Arc<str>,
    pub horizon_bars: u32,
    pub window: usize,
    pub columns: usize,
    pub empty_window: Window,
    pub normaliser: Normaliser,
    pub label_scale: LabelScale,
    pub runner: Runner,
    pub features: Box<dyn Features>,
    /// Counts instances: a stream of an earlier one is gone.
    pub epoch: u64,
    pub health: Health,
}

impl Deployment {
    pub fn covers(&self, key: &StreamKey) -> bool {
        key.timeframe == self.timeframe && self.symbols.as_ref().is_none_or(|s| s.contains(&key.symbol))
    }

    pub fn warmup(&self) -> usize {
        self.features.spec().warmup
    }

    /// After a failure that lost the instance: a new one. Every stream has to be opened again.
    pub fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.epoch += 1;
        self.features.rebuild()
    }

    /// output → prediction.
    pub fn prediction(&self, output: f32) -> f32 {
        self.label_scale.to_prediction(f64::from(output)) as f32
    }
}

/// Failures in a sliding window; too many are a quarantine, which ends with the process.
#[derive(Debug)]
pub struct Health {
    policy: FailurePolicy,
    failures: Vec<Instant>,
    quarantined: Option<Arc<str>>,
}

impl Health {
    pub fn new(policy: FailurePolicy) -> Self {
        Health { policy, failures: Vec::new(), quarantined: None }
    }

    /// Counts a failure; the message, if it was one too many.
    pub fn failed(&mut self, error: &FeatureError, now: Instant) -> Option<Arc<str>> {
        self.failures.retain(|&t| now.duration_since(t) < self.policy.window);
        self.failures.push(now);
        if self.failures.len() < self.policy.failures_max || self.quarantined.is_some() {
            return None;
        }
        let message: Arc<str> = format!(
            "quarantined after {} failures in {} s, the last: {error}; mend the plugin and restart",
            self.failures.len(),
            self.policy.window.as_secs()
        )
        .into();
        self.quarantined = Some(message.clone());
        Some(message)
    }

    pub fn quarantined(&self) -> Option<&Arc<str>> {
        self.quarantined.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::FeatureErrorKind;

    #[test]
    fn too_many_failures_in_the_window_are_a_quarantine() {
        let policy = FailurePolicy { failures_max: 3, window: Duration::from_secs(10) };
        let mut health = Health::new(policy);
        let error = FeatureError {
            kind: FeatureErrorKind::Trap,
            plugin: "p@1".into(),
            place: Some("src/lib.rs:3".into()),
            message: "boom".into(),
        };
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(health.failed(&error, at(0)), None);
        assert_eq!(health.failed(&error, at(1)), None);
        assert_eq!(health.failed(&error, at(11)), None, "the first two are forgotten by then");
        assert_eq!(health.failed(&error, at(12)), None);
        let message = health.failed(&error, at(13)).expect("three in ten seconds");
        assert!(message.contains("src/lib.rs:3") && message.contains("restart"), "{message}");
        assert!(health.quarantined().is_some());
    }
}
