//! A bar, checked on construction, and what identifies the stream it belongs to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// An instrument's name: 1 to 32 of A–Z a–z 0–9 and `. _ - / :`, compared as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(Arc<str>);

impl Symbol {
    pub fn new(name: &str) -> Result<Self, BarError> {
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b));
        if fits { Ok(Symbol(name.into())) } else { Err(BarError::Symbol(name.chars().take(40).collect())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps by symbol are asked with text.
impl std::borrow::Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Symbol {
    type Error = BarError;
    fn try_from(name: String) -> Result<Self, BarError> {
        Symbol::new(&name)
    }
}

impl From<Symbol> for String {
    fn from(s: Symbol) -> String {
        s.0.to_string()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bar's length: whole seconds, written "30s", "5m", "1h", "1d" or "1w".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeframe {
    seconds: u32,
}

impl Timeframe {
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds > 366 * 86_400 { None } else { Some(Timeframe { seconds }) }
    }

    pub fn parse(text: &str) -> Result<Self, BarError> {
        let bad = || BarError::Timeframe(text.chars().take(40).collect());
        let unit = match text.as_bytes().last() {
            Some(b's') => 1u32,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            _ => return Err(bad()),
        };
        let number = &text[..text.len() - 1];
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let n: u32 = number.parse().map_err(|_| bad())?;
        n.checked_mul(unit).and_then(Timeframe::from_seconds).ok_or_else(bad)
    }

    pub fn seconds(self) -> u32 {
        self.seconds
    }

    pub fn nanos(self) -> i64 {
        i64::from(self.seconds) * 1_000_000_000
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.seconds;
        for (unit, letter) in [(604_800, 'w'), (86_400, 'd'), (3_600, 'h'), (60, 'm')] {
            if s.is_multiple_of(unit) {
                return write!(f, "{}{letter}", s / unit);
            }
        }
        write!(f, "{s}s")
    }
}

impl TryFrom<String> for Timeframe {
    type Error = BarError;
    fn try_from(text: String) -> Result<Self, BarError> {
        Timeframe::parse(&text)
    }
}

impl From<Timeframe> for String {
    fn from(t: Timeframe) -> String {
        t.to_string()
    }
}

/// What one sequence of bars is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    pub symbol: Symbol,
    pub timeframe: Timeframe,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.symbol, self.timeframe)
    }
}

/// One bar. Labelled with its open time in UTC, a multiple of nothing in particular (sessions differ).
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub key: StreamKey,
    pub open_time: Timestamp,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    /// In units of the base asset, or as the venue says. Not negative.
    pub volume: f64,
    /// False while the bar is still forming.
    pub is_final: bool,
    /// 0 as first sent; a higher one replaces the bar of the same open time.
    pub revision: u32,
}

impl Bar {
    /// Checks: finite, prices above zero, low ≤ open, close ≤ high, volume not negative.
    pub fn check(&self) -> Result<(), BarError> {
        check_numbers([self.open, self.high, self.low, self.close, self.volume])
    }

    /// When it is complete.
    pub fn close_time(&self) -> Timestamp {
        Timestamp(self.open_time.0.saturating_add(self.key.timeframe.nanos()))
    }

    /// The same prices, volume and finality, to the bit: a repeat rather than a change.
    pub fn same_content(&self, other: &Bar) -> bool {
        let bits = |b: &Bar| [b.open, b.high, b.low, b.close, b.volume].map(f64::to_bits);
        bits(self) == bits(other) && self.is_final == other.is_final && self.revision == other.revision
    }
}

/// [`Bar::check`] on open, high, low, close, volume.
pub(crate) fn check_numbers([open, high, low, close, volume]: [f64; 5]) -> Result<(), BarError> {
    for (name, x) in [("open", open), ("high", high), ("low", low), ("close", close)] {
        if !x.is_finite() || x <= 0.0 {
            return Err(BarError::Price { field: name, value: x });
        }
    }
    if !volume.is_finite() || volume < 0.0 {
        return Err(BarError::Volume(volume));
    }
    if low > open.min(close) || high < open.max(close) {
        return Err(BarError::Inverted { open, high, low, close });
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
pub enum BarError {
    Symbol(String),
    Timeframe(String),
    Price { field: &'static str, value: f64 },
    Volume(f64),
    Inverted { open: f64, high: f64, low: f64, close: f64 },
}

impl fmt::Display for BarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarError::Symbol(s) => {
                write!(f, "symbol '{s}' must be 1 to 32 of letters, digits and . _ - / :")
            }
            BarError::Timeframe(s) => {
                write!(f, "timeframe '{s}' must be a whole number and s, m, h, d or w, such as 5m")
            }
            BarError::Price { field, value } => {
                write!(f, "{field} is {value}; it must be finite and above zero")
            }
            BarError::Volume(v) => write!(f, "volume is {v}; it must be finite and not negative"),
            BarError::Inverted { open, high, low, close } => {
                write!(
                    f,
                    "low {low} must be at most, and high {high} at least, open {open} and close {close}"
                )
            }
        }
    }
}

impl std::error::Error for BarError {}
