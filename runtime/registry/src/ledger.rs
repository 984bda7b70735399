//! The trials ledger, `<models>/trials.jsonl`: every training run that was ever begun here, by its data and its label.
//! Whoever judges a model must know among how many it was chosen; a study that is deleted doesn't lower that.
//!
//! One JSON object a line, only appended, synced before the run begins. Each names the SHA-256 of the line before, so that
//! a line taken out or altered shows. The first counts the versions that were in the registry when the ledger began: one
//! that was deleted begins again beside models that are older than it. Lines cut off its end show in the manifests,
//! whose `training.trials` are at least what the ledger counted when they were published; [`Registry::count_trials`] takes
//! the larger of both. Who deletes the ledger and the models too has deleted all that was known.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{is_digest, sha256_hex};
use crate::folder::{MANIFEST_FILE, Registry};
use crate::manifest::{GapPolicy, LabelKind, Manifest, TEXT_BYTES_MAX};
use crate::staging::sync_dir;

pub const LEDGER_FILE: &str = "trials.jsonl";
/// A larger ledger is refused unread: some million runs.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
const LINE_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 128;

/// What runs are counted by: the bars and what is predicted from them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Question {
    /// SHA-256 of the bars.
    pub data: String,
    /// As [`label_text`] gives it.
    pub label: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    #[serde(flatten)]
    pub question: Question,
    /// Runs of one key are one: of a study its id and the trial's number, otherwise the digest of the recipe, since
    /// the same recipe gives the same model.
    pub key: String,
    /// For people: the study or the model.
    pub name: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// From 0.
    number: u64,
    at: String,
    /// SHA-256 of the line before, without its line feed; of the first the digest of nothing.
    before: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum What {
    Run(Run),
    Begun {
        /// Versions of models that were there already.
        versions_before: u64,
    },
}

/// "realised_volatility over 12 bars, gaps drop".
pub fn label_text(kind: LabelKind, horizon_bars: u32, gaps: GapPolicy) -> String {
    let gaps = match gaps {
        GapPolicy::Drop => "drop",
        GapPolicy::Keep => "keep",
    };
    format!("{} over {horizon_bars} bars, gaps {gaps}", kind.name())
}

/// What the ledger says about one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The larger of both below.
    pub trials: u32,
    pub in_ledger: u32,
    /// The most that a manifest of this question says.
    pub in_manifests: u32,
}

/// All of it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    path: PathBuf,
    /// In order, each key once for a question.
    pub runs: Vec<Run>,
    pub versions_before: u64,
    /// Of a last line that was cut off by a kill.
    pub torn_bytes: u64,
    lines: u64,
    last: String,
    end: u64,
}

impl Registry {
    /// Notes a run, before it begins, and counts all of its question. Waits for others that write.
    pub fn note_run(&self, run: &Run, at: &str) -> Result<Count, LedgerError> {
        let path = self.root().join(LEDGER_FILE);
        let failed = |e: io::Error| LedgerError::io(&path, &e);
        run.check(&path)?;
        let is_new = !path.exists();
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        file.lock().map_err(failed)?;
        if is_new {
            sync_dir(self.root()).map_err(failed)?;
        }
        let mut ledger = Ledger::read_from(&path, &mut file)?;
        if ledger.torn_bytes > 0 {
            file.set_len(ledger.end).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(ledger.end)).map_err(failed)?;
        if ledger.lines == 0 {
            let versions_before = self.manifests().len() as u64;
            ledger.append(&mut file, at, What::Begun { versions_before })?;
        }
        if !ledger.holds(run) {
            ledger.append(&mut file, at, What::Run(run.clone()))?;
            ledger.runs.push(run.clone());
        }
        Ok(self.count_in(&ledger, &run.question))
    }

    /// The ledger as it is; without a file an empty one.
    pub fn ledger(&self) -> Result<Ledger, LedgerError> {
        let path = self.root().join(LEDGER_FILE);
        match File::open(&path) {
            Ok(mut file) => Ledger::read_from(&path, &mut file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Ledger::empty(&path)),
            Err(e) => Err(LedgerError::io(&path, &e)),
        }
    }

    /// The trials of a question, by the ledger and by the manifests.
    pub fn count_trials(&self, question: &Question) -> Result<Count, LedgerError> {
        Ok(self.count_in(&self.ledger()?, question))
    }

    fn count_in(&self, ledger: &Ledger, question: &Question) -> Count {
        let in_ledger = ledger.count(question);
        let of = |m: &Manifest| label_text(m.label.kind, m.label.horizon_bars, m.label.gaps);
        let same = |m: &Manifest| m.data.digest == question.data && of(m) == question.label;
        let manifests = self.manifests();
        let in_manifests = manifests.iter().filter(|m| same(m)).map(|m| m.training.trials).max().unwrap_or(0);
        Count { trials: in_ledger.max(in_manifests), in_ledger, in_manifests }
    }

    /// Of every version that has a readable one. What can't be read is no model, and loading it says why.
    fn manifests(&self) -> Vec<Manifest> {
        let read = |path: PathBuf| -> Option<Manifest> {
            let mut text = String::new();
            File::open(path).ok()?.take(TEXT_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
            Manifest::parse(&text).ok()
        };
        let Ok(listing) = self.list() else { return Vec::new() };
        let paths = listing.models.iter().flat_map(|model| {
            let path =
                |version: &u32| self.root().join(&model.name).join(version.to_string()).join(MANIFEST_FILE);
            model.versions.iter().map(path)
        });
        paths.filter_map(read).collect()
    }
}

impl Run {
    fn check(&self, path: &Path) -> Result<(), LedgerError> {
        let text =
            |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        if is_digest(&self.question.data) && text(&self.question.label) && text(&self.key) && text(&self.name)
        {
            return Ok(());
        }
        let reason = format!("a run can't be noted with these texts: {self:?}");
        Err(LedgerError::Io { path: path.into(), reason })
    }
}

impl Ledger {
    fn empty(path: &Path) -> Ledger {
        Ledger {
            path: path.into(),
            runs: Vec::new(),
            versions_before: 0,
            torn_bytes: 0,
            lines: 0,
            last: sha256_hex(b""),
            end: 0,
        }
    }

    /// Checks the chain.
    fn read_from(path: &Path, file: &mut File) -> Result<Ledger, LedgerError> {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| LedgerError::io(path, &e))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let reason = format!("it has more than {FILE_BYTES_MAX} bytes");
            return Err(LedgerError::Io { path: path.into(), reason });
        }
        let mut ledger = Ledger::empty(path);
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        ledger.torn_bytes = (bytes.len() - end) as u64;
        let mut seen = BTreeSet::new();
        for line in bytes[..end].split_inclusive(|&b| b == b'\n') {
            let bad =
                |reason: String| LedgerError::Altered { path: path.into(), line: ledger.lines + 1, reason };
            let body = &line[..line.len() - 1];
            let read: Line = serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?;
            if read.before != ledger.last {
                return Err(bad("it doesn't follow the line before it".into()));
            }
            match read.what {
                What::Begun { versions_before } if ledger.lines == 0 => {
                    ledger.versions_before = versions_before;
                }
                What::Run(run) if ledger.lines > 0 && read.number == ledger.lines => {
                    if seen.insert((run.question.clone(), run.key.clone())) {
                        ledger.runs.push(run);
                    }
                }
                What::Begun { .. } | What::Run(_) => return Err(bad("it is out of order".into())),
            }
            ledger.last = sha256_hex(body);
            ledger.lines += 1;
        }
        ledger.end = end as u64;
        Ok(ledger)
    }

    fn append(&mut self, file: &mut File, at: &str, what: What) -> Result<(), LedgerError> {
        let line = Line { number: self.lines, at: at.into(), before: self.last.clone(), what };
        let refused = |reason: String| LedgerError::Io { path: self.path.clone(), reason };
        let mut text = serde_json::to_string(&line).map_err(|e| refused(e.to_string()))?;
        if text.len() > LINE_BYTES_MAX {
            return Err(refused("a line is too long".into()));
        }
        self.last = sha256_hex(text.as_bytes());
        text.push('\n');
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|e| LedgerError::io(&self.path, &e))?;
        self.lines += 1;
        self.end += text.len() as u64;
        Ok(())
    }

    fn holds(&self, run: &Run) -> bool {
        self.runs.iter().any(|other| other.question == run.question && other.key == run.key)
    }

    /// Runs of this question.
    pub fn count(&self, question: &Question) -> u32 {
        let count = self.runs.iter().filter(|run| run.question == *question).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Each question and its number of runs.
    pub fn questions(&self) -> Vec<(Question, u32)> {
        let questions: BTreeSet<&Question> = self.runs.iter().map(|run| &run.question).collect();
        questions.into_iter().map(|question| (question.clone(), self.count(question))).collect()
    }
}

/// Why a run can't be counted. Nothing is trained then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerError {
    Io {
        path: PathBuf,
        reason: String,
    },
    /// The line, from 1.
    Altered {
        path: PathBuf,
        line: u64,
        reason: String,
    },
}

impl LedgerError {
    fn io(path: &Path, error: &io::Error) -> Self {
        LedgerError::Io { path: path.into(), reason: error.to_string() }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Io { path, reason } => {
                write!(
                    f,
                    "the trials ledger {} can't be used: {reason}; check space and permissions",
                    path.display()
                )
            }
            LedgerError::Altered { path, line, reason } => write!(
                f,
                "the trials ledger {} was altered at line {line}: {reason}; restore the file from a copy",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LedgerError {}

#[cfg(test)]
mod tests;
