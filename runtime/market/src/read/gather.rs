//! Rows to streams: checks each row, then sorts, drops repeats, settles the timeframe and counts gaps.

use std::collections::{BTreeMap, HashMap};

use crate::bar::{Bar, BarError, StreamKey, Symbol, Timeframe, check_numbers};
use crate::read::clock::Instant;
use crate::read::columns::Columns;
use crate::read::error::{BadReason, BadRow, ReadError, shorten};
use crate::read::options::{Label, OnBad, OnDisorder, OnDuplicate, ReadOptions};
use crate::read::report::{BadCount, Gaps, StreamReport};
use crate::time::Timestamp;

/// A good row, before its timeframe is known.
#[derive(Clone, Copy, Debug)]
struct Row {
    time: Timestamp,
    /// Open, high, low, close, volume.
    numbers: [f64; 5],
    revision: u32,
    line: u64,
}

impl Row {
    fn same_content(&self, other: &Row) -> bool {
        self.numbers.map(f64::to_bits) == other.numbers.map(f64::to_bits) && self.revision == other.revision
    }
}

/// What one row of a file says. Prices as they stand there.
pub(crate) struct RawRow {
    pub(crate) line: u64,
    pub(crate) time: Instant,
    /// Open, high, low, close, volume.
    pub(crate) numbers: [f64; 5],
    pub(crate) adjusted_close: Option<f64>,
    pub(crate) revision: u32,
}

/// Rows of one symbol, and of one timeframe where a column says it.
struct Stream {
    symbol: Symbol,
    timeframe: Option<Timeframe>,
    rows: Vec<Row>,
    out_of_order: u64,
}

/// Where a row belongs.
pub(crate) enum Place {
    Stream(usize),
    /// It was not asked for.
    Elsewhere,
    Bad(BadReason),
}

pub(crate) struct Gather<'a> {
    file: &'a str,
    options: &'a ReadOptions,
    pub(crate) divisor: f64,
    streams: Vec<Stream>,
    /// By [`name_into`].
    by_name: HashMap<String, usize>,
    newest: Option<usize>,
    newest_name: String,
    name: String,
    pub(crate) rows: u64,
    pub(crate) bad: BTreeMap<BadReason, BadCount>,
    pub(crate) duplicates: u64,
    pub(crate) replaced: u64,
    pub(crate) others: u64,
    pub(crate) timeframe_inferred: bool,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(file: &'a str, options: &'a ReadOptions) -> Self {
        Gather {
            file,
            options,
            divisor: 1.0,
            streams: Vec::new(),
            by_name: HashMap::new(),
            newest: None,
            newest_name: String::new(),
            name: String::new(),
            rows: 0,
            bad: BTreeMap::new(),
            duplicates: 0,
            replaced: 0,
            others: 0,
            timeframe_inferred: false,
        }
    }

    /// The stream of a row by what its columns say; None where there is no such column.
    pub(crate) fn place(
        &mut self,
        line: u64,
        symbol: Option<&str>,
        timeframe: Option<&str>,
    ) -> Result<Place, ReadError> {
        name_into(&mut self.name, symbol, timeframe);
        if let Some(at) = self.newest.filter(|_| self.name == self.newest_name) {
            return Ok(Place::Stream(at));
        }
        let wanted = &self.options.symbol;
        if let (Some(wanted), Some(found)) = (wanted, symbol)
            && wanted.as_str() != found
        {
            return Ok(Place::Elsewhere);
        }
        let named_timeframe = match timeframe.map(Timeframe::parse) {
            None => None,
            Some(Ok(found)) if self.options.timeframe.is_some_and(|t| t != found) => {
                return Ok(Place::Elsewhere);
            }
            Some(Ok(found)) => Some(found),
            Some(Err(_)) => return Ok(Place::Bad(BadReason::Timeframe)),
        };
        let at = match self.by_name.get(&self.name) {
            Some(&at) => at,
            None => {
                let symbol = match (symbol.map(Symbol::new), wanted) {
                    (Some(Ok(symbol)), _) => symbol,
                    (Some(Err(_)), _) => return Ok(Place::Bad(BadReason::Symbol)),
                    (None, Some(wanted)) => wanted.clone(),
                    (None, None) => return Err(ReadError::NoSymbol { file: self.file.to_owned() }),
                };
                if self.streams.len() >= self.options.limits.symbols {
                    let limit = self.options.limits.symbols as u64;
                    return Err(ReadError::Limit {
                        file: self.file.to_owned(),
                        line,
                        what: "symbols",
                        limit,
                    });
                }
                self.streams.push(Stream {
                    symbol,
                    timeframe: named_timeframe,
                    rows: Vec::new(),
                    out_of_order: 0,
                });
                self.by_name.insert(self.name.clone(), self.streams.len() - 1);
                self.streams.len() - 1
            }
        };
        self.newest = Some(at);
        self.newest_name.clone_from(&self.name);
        Ok(Place::Stream(at))
    }

    /// Takes a row into its stream, or as a bad one.
    pub(crate) fn take(&mut self, at: usize, columns: &Columns, raw: RawRow) -> Result<(), ReadError> {
        let stream = &mut self.streams[at];
        let before = stream.rows.last().map(|r| r.time);
        let time = match raw.time {
            Instant::At(time) => time,
            Instant::Either { earlier, later } if before.is_some_and(|b| b >= earlier) => later,
            Instant::Either { earlier, .. } => earlier,
        };
        let mut numbers = raw.numbers;
        if self.divisor != 1.0 {
            numbers[..4].iter_mut().for_each(|p| *p /= self.divisor);
        }
        if let Some(adjusted) = raw.adjusted_close {
            let factor = adjusted / self.divisor / numbers[3];
            numbers[..4].iter_mut().for_each(|p| *p *= factor);
        }
        if let Err(error) = check_numbers(numbers) {
            let (reason, column, value) = match error {
                BarError::Price { field, value } => {
                    (BadReason::Price, columns.of_price(field), value.to_string())
                }
                BarError::Volume(value) => {
                    (BadReason::Volume, columns.volume.unwrap_or(0), value.to_string())
                }
                BarError::Inverted { open, high, low, close } => {
                    let column = columns.of_price(if high < open.max(close) { "high" } else { "low" });
                    (BadReason::Inverted, column, format!("open {open} high {high} low {low} close {close}"))
                }
                BarError::Symbol(value) => (BadReason::Symbol, columns.symbol.unwrap_or(0), value),
                BarError::Timeframe(value) => (BadReason::Timeframe, columns.timeframe.unwrap_or(0), value),
            };
            return self.reject(raw.line, columns.name(column), &value, reason);
        }
        if let Some(before) = before.filter(|&b| time < b) {
            stream.out_of_order += 1;
            if self.options.on_disorder == OnDisorder::Refuse {
                let symbol = stream.symbol.to_string();
                return Err(ReadError::Disorder {
                    file: self.file.to_owned(),
                    line: raw.line,
                    symbol,
                    time,
                    after: before,
                });
            }
        }
        stream.rows.push(Row { time, numbers, revision: raw.revision, line: raw.line });
        Ok(())
    }

    /// By policy: refuses the file, or counts the row.
    pub(crate) fn reject(
        &mut self,
        line: u64,
        column: &str,
        value: &str,
        reason: BadReason,
    ) -> Result<(), ReadError> {
        let row = || BadRow { line, column: shorten(column), value: shorten(value), reason };
        match self.options.on_bad {
            OnBad::Refuse => Err(ReadError::Bad { file: self.file.to_owned(), row: row() }),
            OnBad::Skip => {
                self.bad.entry(reason).or_insert_with(|| BadCount { rows: 0, first: row() }).rows += 1;
                Ok(())
            }
        }
    }

    /// Bars in order, by symbol and timeframe.
    #[allow(clippy::type_complexity)]
    pub(crate) fn finish(
        &mut self,
        label: Label,
    ) -> Result<(Vec<(StreamKey, Vec<Bar>)>, Vec<StreamReport>), ReadError> {
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain(|s| !s.rows.is_empty());
        for stream in &mut streams {
            if stream.out_of_order > 0 {
                stream.rows.sort_by_key(|r| r.time);
            }
        }
        let pooled = median(streams.iter().flat_map(spacings).collect());
        let mut done = Vec::with_capacity(streams.len());
        for mut stream in streams {
            let timeframe = self.timeframe_of(&stream, pooled)?;
            let key = StreamKey { symbol: stream.symbol.clone(), timeframe };
            self.drop_repeats(&key, &mut stream.rows)?;
            let bars: Vec<Bar> = stream.rows.iter().map(|row| bar(&key, row, label)).collect();
            let (Some(first), Some(last)) = (bars.first(), bars.last()) else { continue };
            let report = StreamReport {
                key: key.clone(),
                bars: bars.len() as u64,
                first: first.open_time,
                last: last.open_time,
                out_of_order: stream.out_of_order,
                gaps: Gaps::of(&bars),
            };
            done.push((key, bars, report));
        }
        if done.is_empty() {
            let file = self.file.to_owned();
            return Err(match &self.options.symbol {
                Some(symbol) if self.others > 0 => {
                    ReadError::NoSuchSymbol { file, symbol: symbol.to_string() }
                }
                _ => ReadError::Empty { file },
            });
        }
        done.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(done.into_iter().map(|(key, bars, report)| ((key, bars), report)).unzip())
    }

    /// As its column says, as given, or the median spacing: its own from three bars on, else that of the file.
    fn timeframe_of(&mut self, stream: &Stream, pooled: Option<i64>) -> Result<Timeframe, ReadError> {
        if let Some(named) = stream.timeframe {
            return Ok(named);
        }
        let own: Vec<i64> = spacings(stream).collect();
        let spacing_ns = if own.len() >= 2 { median(own) } else { pooled };
        let spacing_seconds = spacing_ns.map(|ns| (ns + 500_000_000) / 1_000_000_000);
        let (file, symbol) = (|| self.file.to_owned(), || stream.symbol.to_string());
        match (self.options.timeframe, spacing_seconds) {
            (Some(given), Some(spacing_seconds)) if spacing_seconds < i64::from(given.seconds()) => {
                Err(ReadError::Timeframe { file: file(), symbol: symbol(), given, spacing_seconds })
            }
            (Some(given), _) => Ok(given),
            (None, spacing) => {
                let found = spacing.and_then(|s| u32::try_from(s).ok()).and_then(Timeframe::from_seconds);
                let found = found.ok_or_else(|| ReadError::NoTimeframe { file: file(), symbol: symbol() });
                self.timeframe_inferred = true;
                found
            }
        }
    }

    /// Leaves one row per time. `rows` are sorted by time, equal times in the order of the file.
    fn drop_repeats(&mut self, key: &StreamKey, rows: &mut Vec<Row>) -> Result<(), ReadError> {
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            let Some(last) = kept.last_mut().filter(|last| last.time == row.time) else {
                kept.push(*row);
                continue;
            };
            if last.same_content(row) {
                self.duplicates += 1;
            } else if last.revision != row.revision {
                self.replaced += 1;
                if row.revision > last.revision {
                    *last = *row;
                }
            } else if self.options.on_duplicate == OnDuplicate::KeepLast {
                self.replaced += 1;
                *last = *row;
            } else {
                return Err(ReadError::Conflict {
                    file: self.file.to_owned(),
                    key: key.clone(),
                    time: row.time,
                    first_line: last.line,
                    line: row.line,
                });
            }
        }
        *rows = kept;
        Ok(())
    }
}

/// One text for both; names that are taken hold no line break.
fn name_into(name: &mut String, symbol: Option<&str>, timeframe: Option<&str>) {
    name.clear();
    name.push_str(symbol.unwrap_or(""));
    name.push('\n');
    name.push_str(timeframe.unwrap_or(""));
}

fn bar(key: &StreamKey, row: &Row, label: Label) -> Bar {
    let [open, high, low, close, volume] = row.numbers;
    let open_time = match label {
        Label::Open => row.time,
        Label::Close => {
            // Binance writes the last millisecond of a bar as its close.
            let second = 1_000_000_000;
            let rest = row.time.0.rem_euclid(second);
            let close_ns =
                if rest >= 999_000_000 { row.time.0.saturating_add(second - rest) } else { row.time.0 };
            Timestamp(close_ns.saturating_sub(key.timeframe.nanos()))
        }
    };
    Bar {
        key: key.clone(),
        open_time,
        open,
        high,
        low,
        close,
        volume,
        is_final: true,
        revision: row.revision,
    }
}

/// Between rows that follow each other, equal times left out.
fn spacings(stream: &Stream) -> impl Iterator<Item = i64> + '_ {
    stream.rows.windows(2).map(|w| w[1].time.0.saturating_sub(w[0].time.0)).filter(|&ns| ns > 0)
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}
