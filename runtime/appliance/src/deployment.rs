//! A model in service: its plan, its pinned features, its constants, and what to do when the plugin fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use learn::normalise::Normaliser;
use market::series::Window;
use market::{FeatureError, Features, StreamKey, Symbol, Timeframe};
use plugin::{Quarantine, QuarantinePolicy, Standing};
use store::ModelName;

use crate::render::Meaning;
use crate::resolve::Terms;
use crate::runner::Runner;

pub struct Deployment {
    /// "btc-1h-lstm/1".
    pub model: Arc<str>,
    /// What was deployed: "models:/btc@champion".
    pub reference: Arc<str>,
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
    /// How outputs are read, and what is calibrated on them.
    pub terms: Arc<Terms>,
    /// The same in words, for replies.
    pub meaning: Arc<Meaning>,
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

    /// Whether both would answer under the same name for some stream.
    pub fn clashes(&self, other: &Deployment) -> bool {
        let shared = match (&self.symbols, &other.symbols) {
            (Some(a), Some(b)) => a.iter().any(|symbol| b.contains(symbol)),
            _ => true,
        };
        shared && self.timeframe == other.timeframe && self.model == other.model
    }

    pub fn warmup(&self) -> usize {
        self.features.spec().warmup
    }

    /// After a failure that lost the instance: a new one. Every stream has to be opened again.
    pub fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.epoch += 1;
        self.features.rebuild()
    }
}

/// How a plugin stands: too many failures within a window are a quarantine, which ends with the process.
pub struct Health {
    record: Quarantine,
    failures_max: usize,
    started: Instant,
    quarantined: Option<Arc<str>>,
}

impl Health {
    pub fn new(failures_max: usize, window: Duration) -> Self {
        // A lost instance is replaced at once, within the same step; there is nothing to wait for.
        let policy = QuarantinePolicy {
            failures_max: u32::try_from(failures_max).unwrap_or(u32::MAX),
            window,
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
        };
        Health { record: Quarantine::new(policy), failures_max, started: Instant::now(), quarantined: None }
    }

    /// Counts a failure; the message, if it was one too many.
    pub fn failed(&mut self, error: &FeatureError) -> Option<Arc<str>> {
        let standing = self.record.failed(self.started.elapsed(), &error.to_string());
        self.record.recovered();
        if !matches!(standing, Standing::Quarantined { .. }) || self.quarantined.is_some() {
            return None;
        }
        let message: Arc<str> = format!(
            "quarantined after {} failures, the last: {}; mend the plugin and restart",
            self.failures_max,
            self.record.cause()
        )
        .into();
        self.quarantined = Some(message.clone());
        Some(message)
    }

    pub fn quarantined(&self) -> Option<&Arc<str>> {
        self.quarantined.as_ref()
    }
}
