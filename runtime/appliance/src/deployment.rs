//! A model in service: its plan, its pinned features, its constants, its place in the deployment table, and what to do
//! when the plugin fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use learn::normalise::Normaliser;
use learn::reading::Reading;
use market::series::Window;
use market::{FeatureError, Features, StreamKey, Symbol, Timeframe};
use plugin::{Quarantine, QuarantinePolicy, Standing};
use registry::ModelFolder;
use store::ModelName;

use crate::load::digest_bytes;
use crate::render::Meaning;
use crate::resolve::Terms;
use crate::runner::Runner;
use crate::visible::{Answer, Shows};

/// What a model without calibration lacks, and how it gets it.
pub const UNCALIBRATED: &str = "its replies have neither a confidence nor an interval; 'alphaplus models calibrate' \
                                fits both on bars that it wasn't trained on";

/// What records and replies say of a model. It outlives the model's service: predictions fall due after it.
#[derive(Debug)]
pub struct About {
    /// "btc-1h-lstm/1".
    pub model: Arc<str>,
    /// The architecture's name, by which polls may choose: "lstm".
    pub model_type: Arc<str>,
    pub label: Arc<str>,
    pub horizon_bars: u32,
    /// How outputs are read, and what is calibrated on them.
    pub terms: Arc<Terms>,
    /// The same in words, for replies.
    pub meaning: Arc<Meaning>,
}

impl About {
    /// `None`: the folder's digest is not one.
    pub fn of(folder: &ModelFolder) -> Option<About> {
        let manifest = &folder.manifest;
        let reading = Reading::from_manifest(manifest);
        let meaning = Meaning::of(&reading, manifest.calibration.is_some());
        let name = ModelName { name: manifest.name.clone(), version: manifest.version.to_string() };
        let digest = digest_bytes(&folder.digest)?;
        let plugin = &manifest.architecture.plugin;
        Some(About {
            model: format!("{}/{}", manifest.name, manifest.version).into(),
            model_type: plugin.split('@').next().unwrap_or(plugin).into(),
            label: manifest.label.kind.name().into(),
            horizon_bars: manifest.label.horizon_bars,
            terms: Terms { model: name, digest, reading, calibration: manifest.calibration.clone() }.into(),
            meaning: meaning.into(),
        })
    }

    pub fn name(&self) -> &ModelName {
        &self.terms.model
    }
}

/// One of the models of a row of the deployment table: which streams it predicts, and for which of them its answer is
/// given to polls that name no model.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    /// As it stands in the table: "models:/btc@champion".
    pub reference: Arc<str>,
    /// `None`: every symbol.
    pub symbols: Option<Vec<Symbol>>,
    pub timeframe: Timeframe,
    /// The row's number.
    pub row: u32,
    /// `None`: the row's own model.
    pub challenger: Option<Split>,
}

/// The streams for which a challenger answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Of all symbols, chosen by their hash; 0 to 1.
    pub share: f64,
    pub symbols: Vec<Symbol>,
}

/// From here on answers are for polls that name their model.
pub const HIDDEN: u32 = 1 << 31;

impl Seat {
    pub fn covers(&self, key: &StreamKey) -> bool {
        key.timeframe == self.timeframe && self.symbols.as_ref().is_none_or(|s| s.contains(&key.symbol))
    }

    /// Outside the table: every symbol of a timeframe.
    pub fn alone(reference: &str, timeframe: Timeframe) -> Seat {
        Seat { reference: reference.into(), symbols: None, timeframe, row: 0, challenger: None }
    }

    /// Whether some stream belongs to both.
    pub fn meets(&self, other: &Seat) -> bool {
        let shared = match (&self.symbols, &other.symbols) {
            (Some(a), Some(b)) => a.iter().any(|symbol| b.contains(symbol)),
            _ => true,
        };
        shared && self.timeframe == other.timeframe
    }

    /// Of the answers for a stream the lowest is given to polls that name no model.
    pub fn rank(&self, key: &StreamKey) -> u32 {
        let row = 2 * self.row;
        match &self.challenger {
            None => row + 1,
            Some(split) if split.has(&key.symbol) => row,
            Some(_) => HIDDEN + row,
        }
    }
}

impl Split {
    pub fn has(&self, symbol: &Symbol) -> bool {
        // FNV-1a, then mixed (the finaliser of splitmix64): the same share of the same symbols on every machine.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in symbol.as_str().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        self.symbols.contains(symbol) || ((hash >> 11) as f64) < self.share * (1u64 << 53) as f64
    }
}

pub struct Deployment {
    pub about: Arc<About>,
    pub seat: Arc<Seat>,
    /// Another takes its streams over: it gets no new ones.
    pub leaving: bool,
    pub features_digest: [u8; 32],
    pub window: usize,
    pub columns: usize,
    pub empty_window: Window,
    pub normaliser: Normaliser,
    pub runner: Runner,
    pub features: Box<dyn Features>,
    /// Counts instances: a stream of an earlier one is gone.
    pub epoch: u64,
    pub health: Health,
}

impl Deployment {
    pub fn covers(&self, key: &StreamKey) -> bool {
        self.seat.covers(key)
    }

    pub fn name(&self) -> &ModelName {
        self.about.name()
    }

    /// As polls get it.
    pub fn says(&self, key: &StreamKey, answer: Answer) -> Shows {
        Shows { key: key.clone(), about: self.about.clone(), seat: Some(self.seat.clone()), answer }
    }

    /// Whether both would answer under the same name for some stream.
    pub fn clashes(&self, other: &Deployment) -> bool {
        self.about.model == other.about.model && self.seat.meets(&other.seat)
    }

    /// For whoever reads the log at the start or at a swap.
    pub fn warn_of_what_it_lacks(&self) {
        if self.about.terms.calibration.is_none() {
            tracing::warn!(model = %self.about.model, "not calibrated: {UNCALIBRATED}");
        }
    }

    pub fn warmup(&self) -> usize {
        self.features.spec().warmup
    }

    /// Bars after which it predicts.
    pub fn need(&self) -> u64 {
        (self.warmup() + self.window) as u64
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
