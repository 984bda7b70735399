//! The history of a model's aliases, as lines that are only ever appended.
//!
//! ```text
//! <models>/<name>/aliases.jsonl
//!   {"at":…,"kind":"set","alias":"champion","from":1,"to":2,"who":…,"why":…,"chain":"<64 hex digits>"}⏎
//! ```
//!
//! `chain` is SHA-256 over the `chain` of the line before (nothing for the first), a line feed, and the line
//! without its own `chain`: a line that was changed, taken out or put in later is found. A line counts once its
//! line feed is there; what a killed writer left of one is no line, and goes with the next append.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{is_digest, sha256_hex};
use crate::reference::is_alias_name;

/// A longer history isn't read, and no alias is moved that would make one.
pub const HISTORY_BYTES_MAX: u64 = 8 << 20;
/// Of `who` and `why`.
pub const WHO_BYTES_MAX: usize = 128;
pub const WHY_BYTES_MAX: usize = 1024;
/// Of one model.
pub const ALIASES_MAX: usize = 64;

const CHAIN: &str = ",\"chain\":\"";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The alias was pointed at a version.
    Set,
    /// It went back to where it was before the last `set` that stood.
    Rollback,
    /// It points nowhere any more.
    Remove,
}

impl ChangeKind {
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Set => "set",
            ChangeKind::Rollback => "rollback",
            ChangeKind::Remove => "remove",
        }
    }
}

/// One line: an alias moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// RFC 3339.
    pub at: String,
    pub kind: ChangeKind,
    pub alias: String,
    /// `None`: it pointed nowhere.
    pub from: Option<u32>,
    /// `None`: it points nowhere.
    pub to: Option<u32>,
    pub who: String,
    pub why: String,
}

/// What the lines say, oldest first, and where each alias points now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub changes: Vec<Change>,
    /// The versions that each alias may go back to, oldest first; the last is where it points.
    stacks: BTreeMap<String, Vec<u32>>,
    /// Of the newest line.
    chain: String,
    /// Of whole lines.
    pub(crate) bytes: u64,
}

impl History {
    /// Reads the lines; bytes behind the last line feed are left out.
    pub fn parse(bytes: &[u8]) -> Result<History, Damage> {
        let mut history = History::default();
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        for (index, line) in bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate() {
            let damage = |reason: &str| Damage { line: index + 1, reason: reason.into() };
            let line = std::str::from_utf8(line).map_err(|_| damage("it is not text"))?;
            let (text, chain) = split_chain(line.trim_end_matches('\n'))
                .ok_or_else(|| damage("it has no chain at its end"))?;
            if chain != next_chain(&history.chain, &text) {
                return Err(damage("it or a line before it was changed after it was written"));
            }
            let change: Change = serde_json::from_str(&text).map_err(|e| damage(&e.to_string()))?;
            history.apply(change, chain.into()).map_err(|reason| damage(&reason))?;
        }
        history.bytes = whole as u64;
        Ok(history)
    }

    /// Where the alias points.
    pub fn at(&self, alias: &str) -> Option<u32> {
        self.stacks.get(alias)?.last().copied()
    }

    /// Every alias that points somewhere, by name.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, u32)> {
        self.stacks.iter().filter_map(|(alias, stack)| Some((alias.as_str(), *stack.last()?)))
    }

    /// Where a rollback of the alias would lead: the version before the one that it points at.
    pub fn before(&self, alias: &str) -> Option<u32> {
        let stack = self.stacks.get(alias)?;
        stack.len().checked_sub(2).map(|at| stack[at])
    }

    /// The line for a change that follows on this history.
    pub(crate) fn line(&self, change: &Change) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(change)?;
        let chain = next_chain(&self.chain, &text);
        Ok(format!("{}{CHAIN}{chain}\"}}\n", text.trim_end_matches('}')))
    }

    /// Follows one change; what it says must fit what was before it.
    fn apply(&mut self, change: Change, chain: String) -> Result<(), String> {
        if !is_alias_name(&change.alias) {
            return Err("its alias is not a name".into());
        }
        let found = self.at(&change.alias);
        if change.from != found {
            return Err(format!(
                "it moves {} from {:?}, which stood at {found:?}",
                change.alias, change.from
            ));
        }
        let before = self.before(&change.alias);
        let stack = self.stacks.entry(change.alias.clone()).or_default();
        match (change.kind, change.to) {
            (ChangeKind::Set, Some(to)) => stack.push(to),
            (ChangeKind::Rollback, Some(to)) if before == Some(to) => drop(stack.pop()),
            (ChangeKind::Remove, None) => stack.clear(),
            (kind, to) => return Err(format!("a {} can't lead to {to:?}", kind.name())),
        }
        self.changes.push(change);
        self.chain = chain;
        Ok(())
    }
}

/// The line without its chain, and the chain.
fn split_chain(line: &str) -> Option<(String, &str)> {
    let at = line.rfind(CHAIN)?;
    let chain = line[at + CHAIN.len()..].strip_suffix("\"}")?;
    is_digest(chain).then(|| (format!("{}}}", &line[..at]), chain))
}

fn next_chain(before: &str, text: &str) -> String {
    sha256_hex(format!("{before}\n{text}").as_bytes())
}

/// A line that isn't as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is damaged: {}; restore the file from a backup", self.line, self.reason)
    }
}

impl std::error::Error for Damage {}
