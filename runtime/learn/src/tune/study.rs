//! A study: ask for a trial, report its values, tell how it ended. All of it goes to the journal first.

use std::path::Path;

use market::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{Event, Journal, JournalError, Lines, Notice, parse};
use super::pruner::Pruner;
use super::sampler::Sampler;
use super::space::Space;
use super::trial::{Outcome, Parameters, Trial, TrialState};
use crate::random::Random;

pub const FORMAT: u32 = 1;
/// Trials of one study.
pub const TRIALS_MAX: u32 = 100_000;

/// What a study is begun with. It never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub format: u32,
    pub study: String,
    pub created_at: Timestamp,
    pub seed: u64,
    pub sampler: Sampler,
    pub pruner: Pruner,
    pub space: Space,
    /// What the trials are of; the study doesn't look into it.
    pub objective: serde_json::Value,
}

pub struct Study {
    journal: Journal,
    record: Record,
    /// SHA-256 of the header's line.
    id: String,
    /// After it nothing more is written: the record is ahead of the disk.
    failed: Option<JournalError>,
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub header: Header,
    pub trials: Vec<Trial>,
    /// (trial, model), in order.
    pub registered: Vec<(u32, String)>,
}

/// A trial to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub number: u32,
    pub attempt: u32,
    pub parameters: Parameters,
}

impl Study {
    /// Opens the study in this file; where there is none yet, begins one with the header. Trials that were under way are
    /// marked as interrupted and will be asked again.
    pub fn open(path: &Path, header: impl FnOnce() -> Header) -> Result<(Study, Vec<Notice>), JournalError> {
        let (mut journal, mut lines) = Journal::open(path)?;
        if lines.whole.is_empty() {
            let header = header();
            journal.append(&header)?;
            lines.whole.push(serde_json::to_string(&header).unwrap_or_default());
        }
        let id = registry::sha256_hex(lines.whole[0].as_bytes());
        let record = Record::of(path, &lines)?;
        let mut study = Study { journal, record, id, failed: None };
        let mut notices = Vec::new();
        if lines.torn_bytes > 0 {
            notices.push(Notice::TornLine { bytes: lines.torn_bytes });
        }
        let running: Vec<(u32, u32)> = study
            .trials()
            .iter()
            .filter(|trial| trial.state == TrialState::Running)
            .map(|trial| (trial.number, trial.attempts))
            .collect();
        for (trial, attempt) in running {
            study.write(Event::Interrupted { trial, attempt })?;
            notices.push(Notice::Interrupted { trial, attempt });
        }
        Ok((study, notices))
    }

    /// SHA-256 of the header: of two studies of one name, begun at different times, each has its own.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn path(&self) -> &Path {
        self.journal.path()
    }

    pub fn header(&self) -> &Header {
        &self.record.header
    }

    pub fn trials(&self) -> &[Trial] {
        &self.record.trials
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The next trial: one that was interrupted, else a new one. `None`: `trials_max` have begun, or the space has no
    /// more settings.
    pub fn ask(&mut self, trials_max: u32) -> Result<Option<Asked>, JournalError> {
        let trials = &self.record.trials;
        let waiting = trials.iter().find(|trial| trial.state == TrialState::Waiting);
        let asked = match waiting {
            Some(trial) => Asked {
                number: trial.number,
                attempt: trial.attempts + 1,
                parameters: trial.parameters.clone(),
            },
            None => {
                let Header { seed, sampler, space, .. } = &self.record.header;
                let settings = space.count().map_or(u64::from(TRIALS_MAX), |n| n.min(u64::from(TRIALS_MAX)));
                if trials.len() as u64 >= u64::from(trials_max).min(settings) {
                    return Ok(None);
                }
                let number = trials.len() as u32;
                let mut random = Random::derived(*seed, u64::from(number));
                Asked { number, attempt: 1, parameters: sampler.suggest(space, trials, &mut random) }
            }
        };
        let Asked { number: trial, attempt, parameters } = asked.clone();
        self.write(Event::Asked { trial, attempt, parameters })?;
        Ok(Some(asked))
    }

    /// What the constraint was measured on.
    pub fn measured(&mut self, trial: u32, latency_us: f64) -> Result<(), JournalError> {
        self.write(Event::Measured { trial, latency_us })
    }

    /// A value of a running trial; true: the pruner stops it.
    pub fn report(&mut self, trial: u32, step: u32, value: f64) -> Result<bool, JournalError> {
        self.write(Event::Reported { trial, step, value })?;
        let Header { pruner, seed, .. } = &self.record.header;
        Ok(pruner.stops(&self.record.trials, trial, *seed))
    }

    pub fn tell(&mut self, trial: u32, outcome: Outcome, seconds: f64) -> Result<(), JournalError> {
        self.write(Event::Told { trial, outcome, seconds })
    }

    /// The trial was stopped from outside: it will be asked again.
    pub fn interrupt(&mut self, trial: u32, attempt: u32) -> Result<(), JournalError> {
        self.write(Event::Interrupted { trial, attempt })
    }

    pub fn registered(&mut self, trial: u32, model: String) -> Result<(), JournalError> {
        self.write(Event::Registered { trial, model })
    }

    fn write(&mut self, event: Event) -> Result<(), JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let refused = |reason: String| JournalError::Io { path: self.journal.path().into(), reason };
        self.record.apply(event.clone()).map_err(refused)?;
        let written = self.journal.append(&event);
        self.failed = written.clone().err();
        written
    }
}

/// The id of the study in this file; see [`Study::id`].
pub fn id(path: &Path) -> Result<String, JournalError> {
    let lines = Journal::read(path)?;
    let first = lines.whole.first().ok_or_else(|| JournalError::Empty { path: path.into() })?;
    Ok(registry::sha256_hex(first.as_bytes()))
}

impl Record {
    /// Reads a study without its lock, while it may be at work.
    pub fn read(path: &Path) -> Result<Record, JournalError> {
        Record::of(path, &Journal::read(path)?)
    }

    fn of(path: &Path, lines: &Lines) -> Result<Record, JournalError> {
        let first = lines.whole.first().ok_or_else(|| JournalError::Empty { path: path.into() })?;
        let bad = |line: usize, reason: String| JournalError::Line { path: path.into(), line, reason };
        let header: Header = parse(path, 1, first)?;
        if header.format != FORMAT {
            return Err(bad(
                1,
                format!("it is of format {}, and this program reads {FORMAT}", header.format),
            ));
        }
        header.space.check().map_err(|e| bad(1, e.to_string()))?;
        let mut record = Record { header, trials: Vec::new(), registered: Vec::new() };
        for (line, text) in (2..).zip(&lines.whole[1..]) {
            record.apply(parse(path, line, text)?).map_err(|reason| bad(line, reason))?;
        }
        Ok(record)
    }

    /// The best complete one.
    pub fn best(&self) -> Option<&Trial> {
        self.trials.iter().filter(|trial| trial.value().is_some()).min_by(|a, b| a.rank(b))
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Asked { trial, attempt, parameters } => self.asked(trial, attempt, parameters),
            Event::Measured { trial, latency_us } => {
                finite(latency_us)?;
                self.running(trial)?.latency_us = Some(latency_us);
                Ok(())
            }
            Event::Reported { trial, step, value } => {
                finite(value)?;
                let reports = &mut self.running(trial)?.reports;
                if reports.last().is_some_and(|last| last.0 >= step) {
                    return Err(format!("trial {trial} reports step {step} after a later one"));
                }
                reports.push((step, value));
                Ok(())
            }
            Event::Told { trial, outcome, seconds } => {
                match outcome {
                    Outcome::Complete { value } => finite(value)?,
                    Outcome::Infeasible { violation } => finite(violation)?,
                    Outcome::Pruned | Outcome::Failed { .. } => {}
                }
                let trial = self.running(trial)?;
                trial.seconds = seconds;
                trial.state = TrialState::Ended(outcome);
                Ok(())
            }
            Event::Interrupted { trial, attempt } => {
                let running = self.running(trial)?;
                if running.attempts != attempt {
                    return Err(format!("trial {trial} is at attempt {}", running.attempts));
                }
                running.state = TrialState::Waiting;
                Ok(())
            }
            Event::Registered { trial, model } => {
                self.registered.push((trial, model));
                Ok(())
            }
        }
    }

    fn asked(&mut self, number: u32, attempt: u32, parameters: Parameters) -> Result<(), String> {
        if !self.header.space.contains(&parameters) {
            return Err(format!("trial {number} has parameters outside of the space"));
        }
        let next = self.trials.len() as u32;
        match self.trials.get_mut(number as usize) {
            Some(trial) if trial.state == TrialState::Waiting && attempt == trial.attempts + 1 => {
                if trial.parameters != parameters {
                    return Err(format!("trial {number} is tried again with other parameters"));
                }
                trial.attempts = attempt;
                trial.state = TrialState::Running;
                trial.reports.clear();
                trial.latency_us = None;
                Ok(())
            }
            None if number == next && number < TRIALS_MAX && attempt == 1 => {
                self.trials.push(Trial {
                    number,
                    attempts: 1,
                    parameters,
                    state: TrialState::Running,
                    reports: Vec::new(),
                    latency_us: None,
                    seconds: 0.0,
                });
                Ok(())
            }
            _ => Err(format!("trial {number}, attempt {attempt}, is out of order")),
        }
    }

    fn running(&mut self, number: u32) -> Result<&mut Trial, String> {
        match self.trials.get_mut(number as usize) {
            Some(trial) if trial.state == TrialState::Running => Ok(trial),
            _ => Err(format!("trial {number} isn't running")),
        }
    }
}

fn finite(x: f64) -> Result<(), String> {
    if x.is_finite() { Ok(()) } else { Err(format!("{x} isn't a finite number")) }
}
