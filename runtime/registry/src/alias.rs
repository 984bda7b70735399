//! Aliases: names such as `champion` that point at a version of a model and can be moved.
//!
//! A move is one line more in the model's [`history`](mod@crate::history), written under the registry's lock and
//! synced. A kill at any moment leaves the alias where it was or where it was to go.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::folder::{LoadError, Registry, Version, read_file};
use crate::history::{
    ALIASES_MAX, Change, ChangeKind, Damage, HISTORY_BYTES_MAX, History, WHO_BYTES_MAX, WHY_BYTES_MAX,
};
use crate::name::is_model_name;
use crate::reference::{Reference, Which, is_alias_name};
use crate::staging::{Lock, sync_dir};

/// Beside a model's versions.
pub const HISTORY_FILE: &str = "aliases.jsonl";

/// Who moves an alias, when and why; it stands in the history for good.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// RFC 3339.
    pub at: &'a str,
    /// 1 to [`WHO_BYTES_MAX`] bytes.
    pub who: &'a str,
    /// At most [`WHY_BYTES_MAX`] bytes.
    pub why: &'a str,
}

impl Registry {
    /// A model's aliases and how they came to be. No file is an empty history.
    pub fn history(&self, name: &str) -> Result<History, HistoryError> {
        if !is_model_name(name) {
            return Err(HistoryError::Name(name.chars().take(80).collect()));
        }
        let path = self.root().join(name).join(HISTORY_FILE);
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
            Err(e) => return Err(HistoryError::Read { path, reason: e.to_string() }),
            Ok(_) => {}
        }
        let bytes = read_file(&path, HISTORY_BYTES_MAX)
            .map_err(|e| HistoryError::Read { path: path.clone(), reason: e.to_string() })?;
        History::parse(&bytes).map_err(|reason| HistoryError::Damaged { path, reason })
    }

    /// The version that is meant, as things stand.
    pub fn resolve(&self, reference: &Reference) -> Result<Version, LoadError> {
        match &reference.which {
            Which::Latest => Ok(Version::Latest),
            Which::Number(number) => Ok(Version::Number(*number)),
            Which::Alias(alias) => {
                self.refuse_absent(&reference.name)?;
                let history = self.history(&reference.name).map_err(LoadError::History)?;
                history.at(alias).map(Version::Number).ok_or_else(|| LoadError::NoAlias {
                    name: reference.name.clone(),
                    alias: alias.clone(),
                    have: history.aliases().map(|(alias, _)| alias.to_string()).collect(),
                })
            }
        }
    }

    /// Points the alias at a version, which must load. `None`: it points there already.
    pub fn set_alias(
        &self,
        name: &str,
        alias: &str,
        to: u32,
        author: Author,
    ) -> Result<Option<Change>, AliasError> {
        self.move_alias(name, alias, author, |history| {
            let full = history.at(alias).is_none() && history.aliases().count() >= ALIASES_MAX;
            if full {
                return Err(AliasError::TooMany);
            }
            Ok((ChangeKind::Set, Some(to)))
        })
    }

    /// Points the alias where it pointed before: each rollback goes one `set` further back.
    pub fn roll_back(&self, name: &str, alias: &str, author: Author) -> Result<Change, AliasError> {
        let moved = self.move_alias(name, alias, author, |history| match history.before(alias) {
            Some(to) => Ok((ChangeKind::Rollback, Some(to))),
            None => Err(AliasError::NothingBefore { alias: alias.into(), at: history.at(alias) }),
        })?;
        moved.ok_or(AliasError::NothingBefore { alias: alias.into(), at: None })
    }

    /// The alias points nowhere from now on. `None`: it points nowhere already.
    pub fn remove_alias(
        &self,
        name: &str,
        alias: &str,
        author: Author,
    ) -> Result<Option<Change>, AliasError> {
        self.move_alias(name, alias, author, |_| Ok((ChangeKind::Remove, None)))
    }

    fn move_alias(
        &self,
        name: &str,
        alias: &str,
        author: Author,
        decide: impl FnOnce(&History) -> Result<(ChangeKind, Option<u32>), AliasError>,
    ) -> Result<Option<Change>, AliasError> {
        if !is_alias_name(alias) {
            return Err(AliasError::Alias(alias.chars().take(80).collect()));
        }
        check_author(author)?;
        self.refuse_absent(name).map_err(AliasError::Version)?;
        let failed = |error: io::Error| AliasError::Write(error.to_string());
        let lock = Lock::acquire(self.root()).map_err(failed)?;
        let history = self.history(name).map_err(AliasError::History)?;
        let (kind, to) = decide(&history)?;
        let from = history.at(alias);
        if let Some(number) = to {
            self.load(name, Version::Number(number)).map_err(AliasError::Version)?;
        }
        if from == to && kind != ChangeKind::Rollback {
            return Ok(None);
        }
        let Author { at, who, why } = author;
        let change =
            Change { at: at.into(), kind, alias: alias.into(), from, to, who: who.into(), why: why.into() };
        let line = history.line(&change).map_err(|e| AliasError::Write(e.to_string()))?;
        if history.bytes + line.len() as u64 > HISTORY_BYTES_MAX {
            return Err(AliasError::Full);
        }
        self.append(name, history.bytes, &line, &lock).map_err(failed)?;
        Ok(Some(change))
    }

    /// Puts the line behind the whole lines, durably.
    fn append(&self, name: &str, whole_bytes: u64, line: &str, _held: &Lock) -> io::Result<()> {
        let home = self.root().join(name);
        let path = home.join(HISTORY_FILE);
        let is_new = path.symlink_metadata().is_err();
        let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
        if file.metadata()?.len() > whole_bytes {
            // What a killed writer left.
            file.set_len(whole_bytes)?;
        }
        file.seek(SeekFrom::Start(whole_bytes))?;
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_all()) {
            // Best effort: without its line feed it is no line either.
            let _ = file.set_len(whole_bytes);
            return Err(error);
        }
        if is_new { sync_dir(&home) } else { Ok(()) }
    }
}

fn check_author(author: Author) -> Result<(), AliasError> {
    let Author { at, who, why } = author;
    let time = toml::value::Datetime::from_str(at);
    if !time.is_ok_and(|t| t.date.is_some() && t.time.is_some() && t.offset.is_some()) {
        return Err(AliasError::Author(format!("{at:?} is no time such as \"2024-03-01T05:00:00Z\"")));
    }
    let plain = |text: &str| !text.contains(|c: char| c.is_control());
    if !(1..=WHO_BYTES_MAX).contains(&who.len()) || !plain(who) {
        return Err(AliasError::Author(format!(
            "who must be 1 to {WHO_BYTES_MAX} bytes without control characters"
        )));
    }
    if why.len() > WHY_BYTES_MAX || !plain(why) {
        return Err(AliasError::Author(format!(
            "why must be at most {WHY_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

/// Why a history can't be read.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryError {
    Name(String),
    Read { path: PathBuf, reason: String },
    Damaged { path: PathBuf, reason: Damage },
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryError::Name(name) => LoadError::Name(name.clone()).fmt(f),
            HistoryError::Read { path, reason } => write!(f, "{} can't be read: {reason}", path.display()),
            HistoryError::Damaged { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for HistoryError {}

/// Why an alias wasn't moved.
#[derive(Clone, Debug, PartialEq)]
pub enum AliasError {
    Alias(String),
    Author(String),
    /// The model, or the version that it was to point at, doesn't load.
    Version(LoadError),
    History(HistoryError),
    /// A rollback of an alias that points at the first version it was given, or nowhere.
    NothingBefore {
        alias: String,
        at: Option<u32>,
    },
    TooMany,
    /// The history has reached its limit.
    Full,
    /// The disk refused; the alias points where it did.
    Write(String),
}

impl fmt::Display for AliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AliasError::Alias(alias) => write!(
                f,
                "{alias:?} can't be an alias; use 1 to 64 of a-z 0-9 _ -, starting with a letter or digit, and not latest"
            ),
            AliasError::Author(reason) => write!(f, "the alias was not moved: {reason}"),
            AliasError::Version(e) => write!(f, "the alias was not moved: {e}"),
            AliasError::History(e) => write!(f, "the alias was not moved: {e}"),
            AliasError::NothingBefore { alias, at: Some(at) } => write!(
                f,
                "{alias} can't be rolled back: {at} is the first version that it points at; set it instead"
            ),
            AliasError::NothingBefore { alias, at: None } => {
                write!(f, "{alias} can't be rolled back: it points nowhere; set it instead")
            }
            AliasError::TooMany => {
                write!(f, "the model has {ALIASES_MAX} aliases already; remove one that isn't used")
            }
            AliasError::Full => write!(
                f,
                "the history of the model's aliases has reached {HISTORY_BYTES_MAX} bytes; publish under another name"
            ),
            AliasError::Write(e) => {
                write!(f, "the alias was not moved: {e}; check the models directory's space and permissions")
            }
        }
    }
}

impl std::error::Error for AliasError {}

#[cfg(test)]
mod tests;
