//! The log of what was done with models and why: JSON lines, only appended, each synced before it counts.
//!
//! ```text
//! <models>/events.jsonl                  the newest
//! <models>/events-000000004711.jsonl     full ones, named by the number of their first event
//!   {"number":…,"at":…,"kind":"promoted","who":…,"model":…,"why":…,"detail":{…},"before":"<64 hex>","chain":"<64 hex>"}⏎
//! <models>/events.jsonl.lock             held by who writes
//! ```
//!
//! `chain` is SHA-256 of the line without its own `chain`, and `before` is the chain of the line before (nothing for
//! the first): a line that was changed, taken out or put in later is found. A line counts once its line feed is there;
//! what a killed writer left of one is no line, and goes with the next append. A file that is full is renamed and the
//! next line begins another, over which the chain goes on; of full files the oldest go when there are too many.

mod files;
mod line;

use std::fmt;
use std::path::{Path, PathBuf};

use market::Timestamp;
use registry::{Change, ChangeKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use line::{Line, Problem};

/// Of one line: a longer event is refused.
pub const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    RetrainingStarted,
    RetrainingFinished,
    RetrainingFailed,
    /// A challenger was judged; the criteria are in the detail.
    GateVerdict,
    /// An alias moved because the gate let it, or was overruled.
    Promoted,
    /// A promotion or a retraining that was asked for and not done.
    Refused,
    /// An alias was moved by hand.
    AliasMoved,
    /// A running appliance answers with another version.
    Swapped,
    RolledBack,
    DriftAlarm,
    AbDecision,
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            EventKind::RetrainingStarted => "retraining_started",
            EventKind::RetrainingFinished => "retraining_finished",
            EventKind::RetrainingFailed => "retraining_failed",
            EventKind::GateVerdict => "gate_verdict",
            EventKind::Promoted => "promoted",
            EventKind::Refused => "refused",
            EventKind::AliasMoved => "alias_moved",
            EventKind::Swapped => "swapped",
            EventKind::RolledBack => "rolled_back",
            EventKind::DriftAlarm => "drift_alarm",
            EventKind::AbDecision => "ab_decision",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
    /// A user, or the part of the program that acted.
    pub who: String,
    /// "btc/7", or "btc" where no version is meant.
    pub model: String,
    /// One sentence.
    pub why: String,
    /// A JSON object of whatever belongs to the kind.
    pub detail: Value,
}

impl Event {
    /// Of this moment.
    pub fn now(kind: EventKind, who: &str, model: &str, why: &str, detail: Value) -> Event {
        Event { at: Timestamp::now(), kind, who: who.into(), model: model.into(), why: why.into(), detail }
    }

    /// That an alias of this model was moved by hand.
    pub fn of_change(name: &str, change: &Change) -> Event {
        let Change { kind, alias, from, to, who, why, .. } = change;
        let kind = match kind {
            ChangeKind::Set | ChangeKind::Remove => EventKind::AliasMoved,
            ChangeKind::Rollback => EventKind::RolledBack,
        };
        let model = to.map_or(name.to_string(), |to| format!("{name}/{to}"));
        Event::now(kind, who, &model, why, json!({ "alias": alias, "from": from, "to": to }))
    }
}

/// An event and its place in the log, from 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    pub number: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// A file that would grow beyond it is full.
    pub file_bytes_max: u64,
    /// Full files beside the newest.
    pub files_max: usize,
}

impl Default for EventLimits {
    /// 512 MiB in all: some million events.
    fn default() -> Self {
        EventLimits { file_bytes_max: 8 << 20, files_max: 63 }
    }
}

/// The log at a path. Any number of processes may write and read it at once.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
    limits: EventLimits,
}

impl Events {
    /// The log of this path, which need not be there yet. Its newest line is checked.
    pub fn open(path: &Path) -> Result<Events, EventsError> {
        Events::with_limits(path, EventLimits::default())
    }

    pub fn with_limits(path: &Path, limits: EventLimits) -> Result<Events, EventsError> {
        let events = Events { path: path.into(), limits };
        events.end()?;
        Ok(events)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the event behind all others, durably, and gives its number. Waits for others that write.
    pub fn append(&self, event: &Event) -> Result<u64, EventsError> {
        let text = [&event.who, &event.model, &event.why];
        if text.iter().any(|t| t.contains(|c: char| c.is_control())) || !event.detail.is_object() {
            let reason = "who, model and why are text without control characters, and detail is an object";
            return Err(EventsError::Event(reason.into()));
        }
        let _held = self.lock()?;
        let end = self.end()?;
        let line = Line { number: end.next, event: event.clone(), before: end.chain.clone() };
        let line = line.text().map_err(EventsError::Event)?;
        if line.len() > LINE_BYTES_MAX {
            return Err(EventsError::Event(format!(
                "it has {} bytes; at most {LINE_BYTES_MAX} are written",
                line.len()
            )));
        }
        self.put(&end, &line)?;
        Ok(end.next)
    }

    /// All events that are kept, oldest first. The chain is checked.
    pub fn read(&self) -> Result<Vec<Recorded>, EventsError> {
        self.after(0)
    }

    /// Those from this number on. The chain is checked as far as they reach.
    pub fn after(&self, number: u64) -> Result<Vec<Recorded>, EventsError> {
        let mut found = Vec::new();
        let mut before: Option<Line> = None;
        for part in self.parts(number)? {
            let altered = |line: usize, problem: Problem| EventsError::Altered {
                path: part.path.clone(),
                line,
                reason: problem.to_string(),
            };
            let bytes = part.read()?;
            let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            for (index, bytes) in bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate() {
                let (line, chain) = Line::parse(bytes).map_err(|e| altered(index + 1, e))?;
                if let Some(before) = &before {
                    let follows = before.number + 1 == line.number && before.before == line.before;
                    follows.then_some(()).ok_or_else(|| altered(index + 1, Problem::Order))?;
                }
                if line.number >= number {
                    found.push(Recorded { number: line.number, event: line.event.clone() });
                }
                // From here on `before` stands for what the next line must name.
                before = Some(Line { before: chain, ..line });
            }
        }
        Ok(found)
    }
}

/// Why nothing was written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsError {
    /// This event can't be a line.
    Event(String),
    Io {
        path: PathBuf,
        reason: String,
    },
    /// The line, from 1; 0 is the last.
    Altered {
        path: PathBuf,
        line: usize,
        reason: String,
    },
}

impl EventsError {
    fn io(path: &Path, error: &std::io::Error) -> EventsError {
        EventsError::Io { path: path.into(), reason: error.to_string() }
    }
}

impl fmt::Display for EventsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventsError::Event(reason) => write!(f, "the event was not written: {reason}"),
            EventsError::Io { path, reason } => {
                write!(
                    f,
                    "the event log {} can't be used: {reason}; check space and permissions",
                    path.display()
                )
            }
            EventsError::Altered { path, line, reason } => {
                let place = if *line == 0 { "its last line".into() } else { format!("line {line}") };
                write!(
                    f,
                    "the event log {} was altered at {place}: {reason}; restore the file from a backup, or move it \
                     away to begin another",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for EventsError {}

#[cfg(test)]
mod tests;
