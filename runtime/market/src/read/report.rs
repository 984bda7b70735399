//! What was found in a file: how it was understood, what was left out, and where bars are missing.

use std::collections::BTreeMap;
use std::fmt;

use crate::bar::{Bar, StreamKey, Timeframe};
use crate::read::clock::TimeFormat;
use crate::read::error::{BadReason, BadRow};
use crate::read::options::{Label, Style};
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Text { delimiter: char, gzip: bool },
    Parquet,
}

/// How the file was understood. Displays as one sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    pub container: Container,
    /// Never `Auto`.
    pub style: Style,
    pub time_format: TimeFormat,
    pub zone: String,
    pub label: Label,
    pub price_divisor: f64,
    /// (what it is read as, the column's name or number), in reading order.
    pub columns: Vec<(&'static str, String)>,
    /// Names of columns that were left unread.
    pub ignored: Vec<String>,
    /// No volume column: 0 was taken.
    pub no_volume: bool,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.container {
            Container::Text { delimiter: '\t', gzip } => {
                write!(f, "{}tab-separated", if gzip { "gzip, " } else { "" })?
            }
            Container::Text { delimiter, gzip } => {
                write!(f, "{}text separated by '{delimiter}'", if gzip { "gzip, " } else { "" })?;
            }
            Container::Parquet => f.write_str("Parquet")?,
        }
        f.write_str(match self.style {
            Style::Auto | Style::Header => " with named columns",
            Style::LeanEquity => " in the Lean equity style",
            Style::LeanForex => " in the Lean FX style (the mid of bid and ask)",
            Style::BinanceKlines => " in the Binance klines style",
            Style::Plain => " without a header",
        })?;
        let side = match self.label {
            Label::Open => "open",
            Label::Close => "close",
        };
        write!(f, "; times are {} in {}, of the bar's {side}", self.time_format, self.zone)?;
        if self.price_divisor != 1.0 {
            write!(f, "; prices divided by {}", self.price_divisor)?;
        }
        f.write_str("; read")?;
        for (i, (role, column)) in self.columns.iter().enumerate() {
            write!(f, "{} {role} from {column}", if i == 0 { "" } else { "," })?;
        }
        if self.no_volume {
            f.write_str("; no volume, 0 taken")?;
        }
        if !self.ignored.is_empty() {
            let names: Vec<&str> = self.ignored.iter().take(8).map(String::as_str).collect();
            let more = if self.ignored.len() > 8 { ", …" } else { "" };
            write!(f, "; not read: {}{more}", names.join(", "))?;
        }
        Ok(())
    }
}

/// Missing bars of one stream: open times further apart than the timeframe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    pub count: u64,
    /// Bars that would fit.
    pub missing: u64,
    pub longest_missing: u64,
    /// The last bar before the longest one.
    pub longest_after: Option<Timestamp>,
    /// Of `count`, those that hold a whole Saturday in UTC.
    pub over_weekend: u64,
    /// Bars that open before the bar before them closes.
    pub overlapping: u64,
}

impl Gaps {
    /// Over bars in order.
    pub fn of(bars: &[Bar]) -> Self {
        let mut gaps = Gaps::default();
        for pair in bars.windows(2) {
            let step_ns = pair[0].key.timeframe.nanos();
            let apart_ns = pair[1].open_time.0.saturating_sub(pair[0].open_time.0);
            if apart_ns < step_ns {
                gaps.overlapping += 1;
            }
            let missing = missing_bars(apart_ns, pair[0].key.timeframe);
            if missing == 0 {
                continue;
            }
            gaps.count += 1;
            gaps.missing += missing;
            if holds_saturday(pair[0].close_time(), pair[1].open_time) {
                gaps.over_weekend += 1;
            }
            if missing > gaps.longest_missing {
                gaps.longest_missing = missing;
                gaps.longest_after = Some(pair[0].open_time);
            }
        }
        gaps
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.longest_after) {
            (0, _) | (_, None) => f.write_str("no gaps")?,
            (count, Some(after)) => {
                let gaps = if count == 1 { "gap" } else { "gaps" };
                write!(
                    f,
                    "{count} {gaps}, {} bars missing, at most {} at once after {after}",
                    self.missing, self.longest_missing
                )?;
                if self.over_weekend > 0 {
                    write!(
                        f,
                        ", {} of them over a Saturday (as where the market closes)",
                        self.over_weekend
                    )?;
                }
            }
        }
        if self.overlapping > 0 {
            write!(f, ", {} bars closer than the timeframe", self.overlapping)?;
        }
        Ok(())
    }
}

/// Bars that fit between two open times, to the nearest: 0 for one timeframe or less between them.
pub(crate) fn missing_bars(apart_ns: i64, timeframe: Timeframe) -> u64 {
    let step = i128::from(timeframe.nanos());
    u64::try_from((i128::from(apart_ns) + step / 2) / step - 1).unwrap_or(0)
}

fn holds_saturday(from: Timestamp, to: Timestamp) -> bool {
    const DAY_NS: i64 = 86_400_000_000_000;
    // 1970-01-03 was a Saturday.
    let offset = 2 * DAY_NS;
    // The first Saturday that starts at or after `from`.
    let week = from.0.saturating_sub(offset).saturating_add(7 * DAY_NS - 1).div_euclid(7 * DAY_NS);
    let saturday = week.saturating_mul(7 * DAY_NS).saturating_add(offset);
    saturday.saturating_add(DAY_NS) <= to.0
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    pub key: StreamKey,
    pub bars: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Open times went back so often.
    pub out_of_order: u64,
    pub gaps: Gaps,
}

/// How many rows were left out for one reason, and the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct BadCount {
    pub rows: u64,
    pub first: BadRow,
}

/// Displays as a few lines, at most ten streams of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadReport {
    pub file: String,
    pub detected: Detected,
    /// Data rows met: kept, bad, repeated, replaced and not asked for.
    pub rows: u64,
    pub bars: u64,
    pub bad: BTreeMap<BadReason, BadCount>,
    /// Rows that repeated another to the bit.
    pub duplicates: u64,
    /// Rows that a later one of the same open time replaced.
    pub replaced: u64,
    /// Rows of symbols or timeframes that were not asked for.
    pub others: u64,
    /// The timeframe is the median spacing.
    pub timeframe_inferred: bool,
    pub streams: Vec<StreamReport>,
}

impl ReadReport {
    pub fn bad_rows(&self) -> u64 {
        self.bad.values().map(|b| b.rows).sum()
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} rows, {} bars of {} streams",
            self.file,
            self.rows,
            self.bars,
            self.streams.len()
        )?;
        writeln!(f, "  understood as {}", self.detected)?;
        if self.timeframe_inferred {
            writeln!(f, "  timeframe from the median spacing")?;
        }
        for (reason, count) in &self.bad {
            let BadRow { line, column, value, .. } = &count.first;
            writeln!(
                f,
                "  {} left out ({reason}), first: line {line}, column {column}: '{value}'",
                count.rows
            )?;
        }
        for (count, what) in [
            (self.duplicates, "equal repeats dropped"),
            (self.replaced, "rows replaced by a later one of the same time"),
            (self.others, "rows of other symbols or timeframes"),
        ] {
            if count > 0 {
                writeln!(f, "  {count} {what}")?;
            }
        }
        for stream in self.streams.iter().take(10) {
            write!(
                f,
                "  {}: {} bars, {} to {}, {}",
                stream.key, stream.bars, stream.first, stream.last, stream.gaps
            )?;
            match stream.out_of_order {
                0 => writeln!(f)?,
                n => writeln!(f, ", sorted ({n} rows out of order)")?,
            }
        }
        if self.streams.len() > 10 {
            let (gaps, missing) =
                self.streams.iter().fold((0, 0), |a, s| (a.0 + s.gaps.count, a.1 + s.gaps.missing));
            writeln!(
                f,
                "  and {} streams more; over all {gaps} gaps, {missing} bars missing",
                self.streams.len() - 10
            )?;
        }
        Ok(())
    }
}
