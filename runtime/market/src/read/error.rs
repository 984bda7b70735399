//! Why a file could not be read, each with the place and what to change.

use std::fmt;

use crate::bar::{StreamKey, Timeframe};
use crate::time::Timestamp;

/// What is wrong with one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BadReason {
    TooFewCells,
    /// More than the first line has: a comma inside a number, perhaps.
    TooManyCells,
    Empty,
    Encoding,
    Time,
    /// A local time that the clock skipped in spring.
    SkippedTime,
    Number,
    Price,
    Volume,
    Inverted,
    Symbol,
    Timeframe,
    /// Not JSON, or not of the fields that the feed has.
    Json,
}

impl fmt::Display for BadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadReason::TooFewCells => "too few cells",
            BadReason::TooManyCells => "more cells than columns",
            BadReason::Empty => "empty cell",
            BadReason::Encoding => "not UTF-8",
            BadReason::Time => "time not in the format of the file",
            BadReason::SkippedTime => "local time skipped by the clock",
            BadReason::Number => "not a number",
            BadReason::Price => "price not finite and above zero",
            BadReason::Volume => "volume negative or not finite",
            BadReason::Inverted => "high or low inside open and close",
            BadReason::Symbol => "not a symbol",
            BadReason::Timeframe => "not a timeframe",
            BadReason::Json => "not a message of this feed",
        })
    }
}

/// One row that is not what the file should hold.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRow {
    /// From 1. Of a Parquet file: the row.
    pub line: u64,
    /// The column's name in the file, or its number.
    pub column: String,
    /// As written, shortened.
    pub value: String,
    pub reason: BadReason,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: '{}': {}", self.line, self.column, self.value, self.reason)
    }
}

#[derive(Debug)]
pub enum ReadError {
    Open {
        file: String,
        source: std::io::Error,
    },
    /// Also broken or cut-off compression.
    Read {
        file: String,
        line: u64,
        source: std::io::Error,
    },
    Limit {
        file: String,
        /// 0 where it is the file as a whole.
        line: u64,
        what: &'static str,
        limit: u64,
    },
    Empty {
        file: String,
    },
    /// The columns can't be told.
    Columns {
        file: String,
        found: String,
        missing: String,
    },
    TimeFormat {
        file: String,
        line: u64,
        value: String,
    },
    Zone(String),
    Divisor(f64),
    Bad {
        file: String,
        row: BadRow,
    },
    Conflict {
        file: String,
        key: StreamKey,
        time: Timestamp,
        first_line: u64,
        line: u64,
    },
    Disorder {
        file: String,
        line: u64,
        symbol: String,
        time: Timestamp,
        after: Timestamp,
    },
    NoSymbol {
        file: String,
    },
    /// The name of a file of ticks does not start with its day.
    NoDay {
        file: String,
    },
    NoSuchSymbol {
        file: String,
        symbol: String,
    },
    NoTimeframe {
        file: String,
        symbol: String,
    },
    /// The bars stand closer than the timeframe that was given.
    Timeframe {
        file: String,
        symbol: String,
        given: Timeframe,
        spacing_seconds: i64,
    },
    Parquet {
        file: String,
        message: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Open { file, source } => write!(f, "can't open {file}: {source}"),
            ReadError::Read { file, line, source } => {
                write!(f, "{file} can't be read after line {line}: {source}; fetch the file again")
            }
            ReadError::Limit { file, line, what, limit } => {
                let place = if *line > 0 { format!(" line {line}") } else { String::new() };
                write!(f, "{file}{place}: more than {limit} {what}; split the file, or raise the limit")
            }
            ReadError::Empty { file } => write!(f, "{file} holds no bars"),
            ReadError::Columns { file, found, missing } => write!(
                f,
                "{file}: can't tell the columns from '{found}': {missing}; name them in the first line as \
                 time, open, high, low, close, volume (and symbol), or say which style it is"
            ),
            ReadError::TimeFormat { file, line, value } => write!(
                f,
                "{file} line {line}: can't tell how the time '{value}' is written; say which time format it is \
                 (03/04/2017 can be either day)"
            ),
            ReadError::Zone(name) => {
                write!(f, "no time zone '{name}'; give an IANA name such as America/New_York")
            }
            ReadError::Divisor(d) => write!(f, "price divisor {d} must be finite and above zero"),
            ReadError::Bad { file, row } => {
                write!(f, "{file} {row}; correct the row, or read with bad rows skipped")
            }
            ReadError::Conflict { file, key, time, first_line, line } => write!(
                f,
                "{file} lines {first_line} and {line}: {key} at {time} stands twice and differs; \
                 remove one, or read with the last kept"
            ),
            ReadError::Disorder { file, line, symbol, time, after } => write!(
                f,
                "{file} line {line}: {symbol} at {time} comes after {after}; sort the file, or read with sorting"
            ),
            ReadError::NoSymbol { file } => write!(f, "{file} has no symbol column; say which symbol it is"),
            ReadError::NoDay { file } => {
                write!(
                    f,
                    "the name of {file} must start with the day of its ticks, as in 20131007_trade.csv.gz"
                )
            }
            ReadError::NoSuchSymbol { file, symbol } => write!(f, "{file} has no bars of {symbol}"),
            ReadError::NoTimeframe { file, symbol } => write!(
                f,
                "{file}: {symbol} has too few bars to tell the timeframe, or one of less than a second or more than \
                 a year; say which timeframe it is"
            ),
            ReadError::Timeframe { file, symbol, given, spacing_seconds } => write!(
                f,
                "{file}: bars of {symbol} are mostly {spacing_seconds}s apart, closer than the timeframe {given}; \
                 say the timeframe of the file and resample"
            ),
            ReadError::Parquet { file, message } => {
                write!(f, "{file} is not Parquet that can be read: {message}")
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Open { source, .. } | ReadError::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// At most 60 characters of it, so that a message stays one.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String =
        text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
