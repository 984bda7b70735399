//! What the reader of a file may say about it, and what to do with rows that are not good bars.

use std::str::FromStr;

use crate::bar::{Symbol, Timeframe};
use crate::read::clock::TimeFormat;

/// Everything has a default: what is None is detected and said in [`Detected`](super::Detected).
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The instrument of a file without a symbol column. With such a column: keep only this one.
    pub symbol: Option<Symbol>,
    /// Otherwise from a timeframe column, or the median spacing of each symbol's bars.
    pub timeframe: Option<Timeframe>,
    pub style: Style,
    pub time_format: Option<TimeFormat>,
    /// IANA name of the zone of times that carry no offset. Otherwise UTC, or New York for Lean equity files.
    pub zone: Option<String>,
    /// Which end of the bar its time names. Otherwise open, unless the only time column is a close time.
    pub label: Option<Label>,
    /// Prices in the file are so many times the real ones. Otherwise 1, or 10,000 for Lean equity files.
    pub price_divisor: Option<f64>,
    /// Scale open, high, low and close by the adjusted close, where the file has one.
    pub adjusted: bool,
    pub on_bad: OnBad,
    pub on_duplicate: OnDuplicate,
    pub on_disorder: OnDisorder,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Auto,
    /// Columns named in the first line, in any order and case.
    Header,
    /// QuantConnect Lean equity: time (New York), open, high, low, close (× 10,000), volume.
    LeanEquity,
    /// QuantConnect Lean FX: time, bid open, high, low, close, size, ask open, high, low, close, size. Read as the mid.
    LeanForex,
    /// Binance klines: open time, open, high, low, close, volume, and six more.
    BinanceKlines,
    /// Without a header: time, open, high, low, close and perhaps volume.
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Open,
    /// Such bars are moved one timeframe back.
    Close,
}

/// A row that is not a good bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    #[default]
    Refuse,
    /// Leave it out, and count it by reason.
    Skip,
}

/// Two rows of one open time whose content differs. Equal rows are counted and one is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    #[default]
    Refuse,
    /// Keep the row that stands later in the file.
    KeepLast,
}

/// A row older than the row before it, of the same symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisorder {
    #[default]
    Sort,
    Refuse,
}

impl FromStr for Style {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "auto" => Style::Auto,
            "header" => Style::Header,
            "lean-equity" => Style::LeanEquity,
            "lean-fx" => Style::LeanForex,
            "binance" => Style::BinanceKlines,
            "plain" => Style::Plain,
            _ => {
                return Err(format!(
                    "style '{name}' must be auto, header, lean-equity, lean-fx, binance or plain"
                ));
            }
        })
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "open" => Ok(Label::Open),
            "close" => Ok(Label::Close),
            _ => Err(format!("label '{name}' must be open or close")),
        }
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "epoch" => TimeFormat::Epoch,
            "epoch-s" => TimeFormat::EpochSeconds,
            "epoch-ms" => TimeFormat::EpochMillis,
            "epoch-us" => TimeFormat::EpochMicros,
            "epoch-ns" => TimeFormat::EpochNanos,
            "year-first" => TimeFormat::YearFirst,
            "day-first" => TimeFormat::DayFirst,
            "month-first" => TimeFormat::MonthFirst,
            "compact" => TimeFormat::Compact,
            _ => {
                return Err(format!(
                    "time format '{name}' must be epoch, epoch-s, epoch-ms, epoch-us, epoch-ns, year-first, \
                     day-first, month-first or compact"
                ));
            }
        })
    }
}

/// Bounds on what one file may ask of the reader.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the text after decompression, or of the pages of a Parquet file.
    pub plain_bytes: u64,
    pub line_bytes: usize,
    /// Lines of text count here too, blank ones included.
    pub rows: u64,
    pub columns: usize,
    pub symbols: usize,
    /// Of one page of a Parquet file after decompression.
    pub page_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            plain_bytes: 4 << 30,
            line_bytes: 64 << 10,
            rows: 20_000_000,
            columns: 1_024,
            symbols: 20_000,
            page_bytes: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("lean-fx".parse(), Ok(Style::LeanForex));
        assert_eq!("close".parse(), Ok(Label::Close));
        assert_eq!("epoch-ms".parse(), Ok(TimeFormat::EpochMillis));
        for name in ["auto", "header", "lean-equity", "lean-fx", "binance", "plain"] {
            assert!(name.parse::<Style>().is_ok());
        }
        assert!("x".parse::<Style>().is_err_and(|e| e.contains("lean-equity")));
        assert!("x".parse::<TimeFormat>().is_err_and(|e| e.contains("month-first")));
        assert!("x".parse::<Label>().is_err());
    }
}
