//! The journal of a study: one JSON object a line, only appended, each synced before anything rests on it.
//!
//! ```text
//! {"format":1,"study":"btc",…}                              the header
//! {"event":"asked","trial":0,"attempt":1,"parameters":{…}}
//! {"event":"measured","trial":0,"latency_us":12.5}          where the study has a constraint
//! {"event":"reported","trial":0,"step":1,"value":0.81}
//! {"event":"told","trial":0,"outcome":{"state":"complete","value":0.78},"seconds":8.2}
//! {"event":"interrupted","trial":1,"attempt":1}
//! {"event":"registered","trial":0,"model":"btc/3"}
//! ```
//!
//! A kill in the middle of a write leaves a last line without its end: it is dropped, with a notice. Anything else that
//! doesn't read is an error. One process at a time holds the file's lock.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trial::{Outcome, Parameters};

/// A larger journal is refused unread.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// A longer line isn't written.
pub const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    Asked {
        trial: u32,
        /// From 1.
        attempt: u32,
        parameters: Parameters,
    },
    Measured {
        trial: u32,
        latency_us: f64,
    },
    Reported {
        trial: u32,
        step: u32,
        value: f64,
    },
    Told {
        trial: u32,
        outcome: Outcome,
        seconds: f64,
    },
    Interrupted {
        trial: u32,
        attempt: u32,
    },
    Registered {
        trial: u32,
        model: String,
    },
}

/// What was found and mended when a journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The last line had no end.
    TornLine { bytes: usize },
    /// The trial was under way when its process ended.
    Interrupted { trial: u32, attempt: u32 },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::TornLine { bytes } => {
                write!(f, "the last line of the journal was cut off: its {bytes} bytes are dropped")
            }
            Notice::Interrupted { trial, attempt } => {
                write!(
                    f,
                    "trial {trial} was under way when the study ended (attempt {attempt}): it is tried again"
                )
            }
        }
    }
}

/// An open journal, locked.
pub struct Journal {
    file: File,
    path: PathBuf,
}

/// The lines of a file: what is whole, and how many bytes at the end aren't.
pub struct Lines {
    pub whole: Vec<String>,
    pub torn_bytes: usize,
}

impl Journal {
    /// Opens the file, made if it isn't there, takes its lock, reads it and cuts off a torn last line.
    pub fn open(path: &Path) -> Result<(Journal, Lines), JournalError> {
        let failed = |e: io::Error| JournalError::io(path, &e);
        let is_new = !path.exists();
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { path: path.into() }),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        if is_new && let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let mut journal = Journal { file, path: path.into() };
        let lines = split(path, &read_all(path, &mut journal.file)?)?;
        let end = lines.whole.iter().map(|line| line.len() as u64 + 1).sum();
        if lines.torn_bytes > 0 {
            journal.file.set_len(end).and_then(|()| journal.file.sync_all()).map_err(failed)?;
        }
        journal.file.seek(SeekFrom::Start(end)).map_err(failed)?;
        Ok((journal, lines))
    }

    /// Reads a file without its lock, for looking at it; a torn last line is left alone.
    pub fn read(path: &Path) -> Result<Lines, JournalError> {
        let mut file = File::open(path).map_err(|e| JournalError::io(path, &e))?;
        split(path, &read_all(path, &mut file)?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, durably.
    pub fn append(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let failed = |reason: String| JournalError::Io { path: self.path.clone(), reason };
        let mut text = serde_json::to_string(line).map_err(|e| failed(e.to_string()))?;
        if text.len() > LINE_BYTES_MAX {
            return Err(failed(format!("a line of {} bytes is too long", text.len())));
        }
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| JournalError::io(&self.path, &e))
    }
}

fn read_all(path: &Path, file: &mut File) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| JournalError::io(path, &e))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(JournalError::Io { path: path.into(), reason });
    }
    Ok(bytes)
}

fn split(path: &Path, bytes: &[u8]) -> Result<Lines, JournalError> {
    let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..end]).map_err(|e| JournalError::Line {
        path: path.into(),
        line: 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count(),
        reason: "it isn't UTF-8 text".into(),
    })?;
    Ok(Lines { whole: text.lines().map(str::to_string).collect(), torn_bytes: bytes.len() - end })
}

/// One line of the file, counted from 1.
pub fn parse<T: DeserializeOwned>(path: &Path, line: usize, text: &str) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|e| JournalError::Line {
        path: path.into(),
        line,
        reason: e.to_string(),
    })
}

/// Why a journal can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    Io {
        path: PathBuf,
        reason: String,
    },
    Locked {
        path: PathBuf,
    },
    Line {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    /// The file holds no header.
    Empty {
        path: PathBuf,
    },
}

impl JournalError {
    fn io(path: &Path, error: &io::Error) -> Self {
        JournalError::Io { path: path.into(), reason: error.to_string() }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Io { path, reason } => {
                write!(f, "the study's journal {} can't be used: {reason}", path.display())
            }
            JournalError::Locked { path } => write!(
                f,
                "another process is at work on the study {}: wait until it ends, or name another study",
                path.display()
            ),
            JournalError::Line { path, line, reason } => write!(
                f,
                "{} line {line} is damaged: {reason}; restore the file, or begin another study",
                path.display()
            ),
            JournalError::Empty { path } => write!(f, "{} holds no study yet", path.display()),
        }
    }
}

impl std::error::Error for JournalError {}
