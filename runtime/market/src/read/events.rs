//! What the readers of trades, books and texts share: options, the opened file, the report.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::bar::Symbol;
use crate::read::error::{BadReason, BadRow, ReadError, shorten};
use crate::read::options::{Limits, OnBad};
use crate::read::report::BadCount;
use crate::read::text::Lines;
use crate::read::{Opened, open};
use crate::time::Timestamp;

#[derive(Clone, Debug)]
pub struct EventOptions {
    /// Of files that don't name it.
    pub symbol: Option<Symbol>,
    /// IANA name, of times without an offset. Otherwise UTC, or New York for Lean ticks.
    pub zone: Option<String>,
    pub stamp: Stamp,
    /// Levels a side in a book; 0 for no books.
    pub depth: usize,
    pub on_bad: OnBad,
    pub limits: Limits,
}

impl Default for EventOptions {
    /// Lines of 1 MiB: a snapshot of a book is one line.
    fn default() -> Self {
        let limits = Limits { line_bytes: 1 << 20, ..Limits::default() };
        EventOptions {
            symbol: None,
            zone: None,
            stamp: Stamp::Exchange,
            depth: 10,
            on_bad: OnBad::Refuse,
            limits,
        }
    }
}

/// Which clock the time of a trade or book is by, where a feed has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    Exchange,
    /// When the message came in here.
    Received,
}

/// Displays as a few lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventReport {
    pub file: String,
    pub rows: u64,
    pub taken: u64,
    /// Rows of other kinds of message, left unread.
    pub others: u64,
    /// Rows that the source itself marked as suspicious, left out.
    pub suspicious: u64,
    /// Times went back so often; events are sorted.
    pub out_of_order: u64,
    pub bad: BTreeMap<BadReason, BadCount>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

impl fmt::Display for EventReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows, {} taken", self.file, self.rows, self.taken)?;
        if let (Some(first), Some(last)) = (self.first, self.last) {
            write!(f, ", {first} to {last}")?;
        }
        for (count, what) in [
            (self.others, "of other kinds"),
            (self.suspicious, "marked as suspicious by the source"),
            (self.out_of_order, "out of order, sorted"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        writeln!(f)?;
        for (reason, count) in &self.bad {
            let BadRow { line, value, .. } = &count.first;
            writeln!(f, "  {} left out ({reason}), first: line {line}: '{value}'", count.rows)?;
        }
        Ok(())
    }
}

impl EventReport {
    /// By policy: refuses the file, or counts the row.
    pub(crate) fn reject(
        &mut self,
        policy: OnBad,
        line: u64,
        column: &str,
        value: &str,
        reason: BadReason,
    ) -> Result<(), ReadError> {
        let row = BadRow { line, column: column.to_owned(), value: shorten(value), reason };
        match policy {
            OnBad::Refuse => Err(ReadError::Bad { file: self.file.clone(), row }),
            OnBad::Skip => {
                self.bad.entry(reason).or_insert(BadCount { rows: 0, first: row }).rows += 1;
                Ok(())
            }
        }
    }

    /// Sorts the events by time, equal times as they came, and notes their ends.
    pub(crate) fn settle<T>(&mut self, events: &mut [T], time: impl Fn(&T) -> Timestamp) {
        self.taken = events.len() as u64;
        self.out_of_order += events.windows(2).filter(|w| time(&w[1]) < time(&w[0])).count() as u64;
        events.sort_by_key(&time);
        self.first = events.first().map(&time);
        self.last = events.last().map(&time);
    }
}

/// The lines of a text file, plain or gzip.
pub(crate) fn lines<'a>(file: &'a str, path: &Path, limits: Limits) -> Result<Lines<'a>, ReadError> {
    match open(file, path)? {
        Opened::Text { reader, .. } => Ok(Lines::new(file, reader, limits)),
        Opened::Parquet(_) => Err(ReadError::Columns {
            file: file.to_owned(),
            found: "Parquet".to_owned(),
            missing: "this reader takes text".to_owned(),
        }),
    }
}
