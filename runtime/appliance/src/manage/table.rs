//! The deployment table as it stands now, for those who look: what each place was to hold, what it holds, and why not.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Serialize, Serializer};

use crate::deployment::{Deployment, Seat};

/// A served model in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelLine {
    /// "btc-1h-lstm/1".
    #[serde(serialize_with = "plain")]
    pub model: Arc<str>,
    #[serde(serialize_with = "plain")]
    pub model_type: Arc<str>,
    /// "log_return over 1 bars".
    pub label: String,
    pub features: String,
    pub device: String,
}

fn plain<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl ModelLine {
    pub fn of(d: &Deployment) -> Self {
        ModelLine {
            model: d.about.model.clone(),
            model_type: d.about.model_type.clone(),
            label: format!("{} over {} bars", d.about.label, d.about.horizon_bars),
            features: d.features.spec().plugin.clone(),
            device: d.runner.device.to_string(),
        }
    }
}

/// One place of the table.
#[derive(Clone, Debug)]
pub struct Line {
    pub seat: Arc<Seat>,
    /// What is served there.
    pub model: Option<ModelLine>,
    /// Why it isn't what its alias points at.
    pub problem: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    row: u32,
    /// "champion" or "challenger" of the row.
    role: &'static str,
    deployed_as: &'a str,
    /// `None`: every symbol.
    symbols: Option<Vec<&'a str>>,
    timeframe: String,
    /// Of a challenger: the share of symbols for which polls get its answer, and symbols by name.
    share: Option<f64>,
    split_symbols: Option<Vec<&'a str>>,
    #[serde(flatten)]
    model: Option<&'a ModelLine>,
    problem: Option<&'a str>,
}

/// Read by the HTTP side, written by the manager.
pub struct Table {
    lines: RwLock<Vec<Line>>,
    /// Whether aliases are followed while the appliance runs.
    pub follows: bool,
    poke: Sender<()>,
    /// What is known of the rows, in JSON.
    reports: RwLock<serde_json::Value>,
    /// Names of models of which a training was asked for.
    asked: Mutex<Vec<String>>,
}

impl Table {
    /// `poke`: wakes the manager.
    pub fn new(lines: Vec<Line>, follows: bool, poke: Sender<()>) -> Self {
        Table {
            lines: RwLock::new(lines),
            follows,
            poke,
            reports: RwLock::default(),
            asked: Mutex::default(),
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, lines: Vec<Line>) {
        *self.lines.write().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    pub fn report(&self, reports: serde_json::Value) {
        *self.reports.write().unwrap_or_else(PoisonError::into_inner) = reports;
    }

    /// Asks for a training of the model that some row deploys with a place for a challenger. False: none does.
    pub fn ask_training(&self, name: &str) -> bool {
        let lines = self.lines();
        let aliased = |l: &&Line| {
            let model = l.seat.reference.strip_prefix("models:/").unwrap_or(&l.seat.reference);
            model.split_once('@').is_some_and(|(of, _)| of == name)
        };
        let champion =
            |row: u32| lines.iter().filter(aliased).any(|l| l.seat.row == row && l.seat.challenger.is_none());
        let challengers = lines.iter().filter(aliased).filter(|l| l.seat.challenger.is_some());
        let is_here = self.follows && challengers.map(|l| l.seat.row).any(champion);
        if is_here {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(name.into());
            self.look();
        }
        is_here
    }

    /// What was asked for since this was.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An alias may have moved.
    pub fn look(&self) {
        // Nobody looks where aliases are read at the start alone.
        let _ = self.poke.send(());
    }

    pub fn is_deployed(&self, reference: &str) -> bool {
        self.lines
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|l| *l.seat.reference == *reference)
    }

    /// The model that is served as this, such as "models:/btc@champion".
    pub fn model(&self, reference: &str) -> Option<Arc<str>> {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        let line = lines.iter().find(|l| *l.seat.reference == *reference)?;
        line.model.as_ref().map(|m| m.model.clone())
    }

    pub fn to_json(&self) -> String {
        let lines = self.lines();
        let shown: Vec<Shown> = lines
            .iter()
            .map(|line| {
                let seat = &*line.seat;
                Shown {
                    row: seat.row,
                    role: if seat.challenger.is_some() { "challenger" } else { "champion" },
                    deployed_as: &seat.reference,
                    symbols: seat.symbols.as_ref().map(|s| s.iter().map(market::Symbol::as_str).collect()),
                    timeframe: seat.timeframe.to_string(),
                    share: seat.challenger.as_ref().map(|c| c.share),
                    split_symbols: seat
                        .challenger
                        .as_ref()
                        .map(|c| c.symbols.iter().map(market::Symbol::as_str).collect()),
                    model: line.model.as_ref(),
                    problem: line.problem.as_deref(),
                }
            })
            .collect();
        let management = self.reports.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!({ "deployments": shown, "management": *management }).to_string()
    }
}
