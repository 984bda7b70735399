//! Bars from delimited text, line by line, within bounds.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use crate::read::clock::{Clock, ClockError, TimeFormat, Zone};
use crate::read::columns::{Columns, Price};
use crate::read::error::{BadReason, ReadError, shorten};
use crate::read::gather::{Gather, Place, RawRow};
use crate::read::options::{Limits, ReadOptions, Style};
use crate::read::report::{Container, Detected};
use crate::read::{detected, settle};

/// Lines of any reader, each and all of bounded size. `\r\n` and a byte-order mark are taken off.
pub(crate) struct Lines<'a> {
    file: &'a str,
    reader: BufReader<Box<dyn Read + 'a>>,
    limits: Limits,
    buffer: Vec<u8>,
    /// Of the line that was read last, from 1.
    pub(crate) line: u64,
    bytes: u64,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(file: &'a str, reader: Box<dyn Read + 'a>, limits: Limits) -> Self {
        Lines {
            file,
            reader: BufReader::with_capacity(256 << 10, reader),
            limits,
            buffer: Vec::new(),
            line: 0,
            bytes: 0,
        }
    }

    /// None at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.buffer.clear();
        let most = self.limits.line_bytes as u64 + 1;
        let mut bounded = self.reader.by_ref().take(most);
        let read = bounded.read_until(b'\n', &mut self.buffer).map_err(|source| ReadError::Read {
            file: self.file.to_owned(),
            line: self.line,
            source,
        })?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += read as u64;
        let exceeded =
            |what, limit| ReadError::Limit { file: self.file.to_owned(), line: self.line, what, limit };
        if read as u64 >= most {
            return Err(exceeded("bytes in one line", self.limits.line_bytes as u64));
        }
        if self.bytes > self.limits.plain_bytes {
            return Err(exceeded("bytes of text", self.limits.plain_bytes));
        }
        if self.line > self.limits.rows {
            return Err(exceeded("lines", self.limits.rows));
        }
        let mut line: &[u8] = &self.buffer;
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.line == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some(line))
    }
}

/// A line cut into cells; outer quotes are taken off. A delimiter inside quotes does not cut.
#[derive(Default)]
pub(crate) struct Cells {
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Cells {
    /// False if there are more than `most`.
    pub(crate) fn cut(&mut self, line: &[u8], delimiter: u8, most: usize) -> bool {
        self.text.clear();
        self.text.extend_from_slice(line);
        self.ranges.clear();
        let mut from = 0;
        let mut quoted = false;
        for (at, &byte) in line.iter().enumerate() {
            if byte == b'"' {
                quoted = !quoted;
            } else if byte == delimiter && !quoted {
                self.ranges.push(from..at);
                from = at + 1;
                if self.ranges.len() > most {
                    return false;
                }
            }
        }
        self.ranges.push(from..line.len());
        self.ranges.len() <= most
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Without outer blanks and quotes.
    pub(crate) fn get(&self, at: usize) -> Result<&str, BadReason> {
        let range = self.ranges.get(at).ok_or(BadReason::TooFewCells)?;
        let text = std::str::from_utf8(&self.text[range.clone()]).map_err(|_| BadReason::Encoding)?.trim();
        Ok(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map_or(text, str::trim))
    }

    fn lossy(&self, at: usize) -> String {
        let range = self.ranges.get(at).cloned().unwrap_or(0..0);
        String::from_utf8_lossy(&self.text[range]).trim().to_owned()
    }
}

/// Of `,` `;` tab and `|`, the one met most often.
fn delimiter(line: &[u8]) -> u8 {
    let count = |d: u8| line.iter().filter(|&&b| b == d).count();
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|&d| count(d)).unwrap_or(b',')
}

/// Reads all of it into `gather`.
pub(crate) fn read(
    file: &str,
    reader: Box<dyn Read + '_>,
    gzip: bool,
    options: &ReadOptions,
    gather: &mut Gather,
) -> Result<Detected, ReadError> {
    let mut lines = Lines::new(file, reader, options.limits);
    let mut cells = Cells::default();
    let mut first = Vec::new();
    while let Some(line) = lines.next()? {
        if !line.trim_ascii().is_empty() {
            first.extend_from_slice(line);
            break;
        }
    }
    if first.is_empty() {
        return Err(ReadError::Empty { file: file.to_owned() });
    }
    let delimiter = delimiter(&first);
    if !cells.cut(&first, delimiter, options.limits.columns) {
        let limit = options.limits.columns as u64;
        return Err(ReadError::Limit { file: file.to_owned(), line: lines.line, what: "columns", limit });
    }
    let names: Vec<String> =
        (0..cells.len()).map(|at| cells.get(at).map_or_else(|_| cells.lossy(at), str::to_owned)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let columns = match options.style {
        Style::Auto => Columns::detect(&names),
        style => Columns::of_style(style, &names),
    };
    let columns = columns.map_err(|missing| ReadError::Columns {
        file: file.to_owned(),
        found: shorten(&String::from_utf8_lossy(&first)),
        missing,
    })?;
    let settled = settle(&columns, options, gather)?;
    let mut reader = RowReader {
        file,
        columns: &columns,
        zone: settled.zone.clone(),
        clock: None,
        adjusted: options.adjusted,
        joined: String::new(),
    };
    if columns.style != Style::Header {
        reader.row(lines.line, &cells, options, gather)?;
    }
    while let Some(line) = lines.next()? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        cells.cut(line, delimiter, options.limits.columns);
        let number = lines.line;
        reader.row(number, &cells, options, gather)?;
    }
    let format = reader.clock.map_or(TimeFormat::YearFirst, |c| c.format);
    let container = Container::Text { delimiter: delimiter as char, gzip };
    Ok(detected(container, &columns, format, &settled, options))
}

struct RowReader<'a> {
    file: &'a str,
    columns: &'a Columns,
    zone: Zone,
    /// Settled by the first row with a time.
    clock: Option<Clock>,
    adjusted: bool,
    joined: String,
}

/// The column, and what is wrong with its cell.
type BadCell = (usize, BadReason);

impl RowReader<'_> {
    fn row(
        &mut self,
        line: u64,
        cells: &Cells,
        options: &ReadOptions,
        gather: &mut Gather,
    ) -> Result<(), ReadError> {
        gather.rows += 1;
        let columns = self.columns;
        let names = columns.symbol.map(|at| cells.get(at)).transpose();
        let frames = columns.timeframe.map(|at| cells.get(at)).transpose();
        let place = match (names, frames) {
            (Ok(symbol), Ok(timeframe)) => gather.place(line, symbol, timeframe)?,
            (Err(reason), _) | (_, Err(reason)) => Place::Bad(reason),
        };
        let at = match place {
            Place::Stream(at) => at,
            Place::Elsewhere => {
                gather.others += 1;
                return Ok(());
            }
            Place::Bad(reason) => {
                let column = if reason == BadReason::Timeframe { columns.timeframe } else { columns.symbol };
                let column = column.unwrap_or(0);
                return gather.reject(line, columns.name(column), &cells.lossy(column), reason);
            }
        };
        if self.clock.is_none() {
            self.settle_clock(line, cells, options)?;
        }
        match self.raw(line, cells) {
            Ok(raw) => gather.take(at, columns, raw),
            Err((column, reason)) => gather.reject(line, columns.name(column), &cells.lossy(column), reason),
        }
    }

    /// An unclear time of the first row is an error of the file, not of the row.
    fn settle_clock(&mut self, line: u64, cells: &Cells, options: &ReadOptions) -> Result<(), ReadError> {
        let text = cells.get(self.columns.time).unwrap_or("");
        let format = options.time_format.or_else(|| TimeFormat::detect(text)).ok_or_else(|| {
            ReadError::TimeFormat { file: self.file.to_owned(), line, value: shorten(text) }
        })?;
        self.clock = Some(Clock { format, zone: self.zone.clone() });
        Ok(())
    }

    fn raw(&mut self, line: u64, cells: &Cells) -> Result<RawRow, BadCell> {
        let columns = self.columns;
        if (columns.names.len()..cells.len()).any(|at| cells.get(at) != Ok("")) {
            return Err((columns.names.len() - 1, BadReason::TooManyCells));
        }
        let get = |at: usize| match cells.get(at) {
            Ok("") => Err((at, BadReason::Empty)),
            Ok(text) => Ok(text),
            Err(reason) => Err((at, reason)),
        };
        let number = |at: usize| get(at)?.parse::<f64>().map_err(|_| (at, BadReason::Number));
        let mut text = get(columns.time)?;
        if let Some(of_day) = columns.time_of_day {
            self.joined.clear();
            self.joined.push_str(text);
            self.joined.push(' ');
            self.joined.push_str(get(of_day)?);
            text = &self.joined;
        }
        let clock = self.clock.as_ref().ok_or((columns.time, BadReason::Time))?;
        let time = clock.read(text).map_err(|error| match error {
            ClockError::Format | ClockError::Range => (columns.time, BadReason::Time),
            ClockError::Skipped => (columns.time, BadReason::SkippedTime),
        })?;
        let mut numbers = [0.0; 5];
        for (value, price) in numbers.iter_mut().zip(columns.prices) {
            *value = match price {
                Price::Column(at) => number(at)?,
                Price::Mid(bid, ask) => (number(bid)? + number(ask)?) / 2.0,
            };
        }
        if let Some(at) = columns.volume {
            numbers[4] = number(at)?;
        }
        let adjusted_close = columns.adjusted_close.filter(|_| self.adjusted).map(number).transpose()?;
        let revision = match columns.revision {
            Some(at) => get(at)?.parse().map_err(|_| (at, BadReason::Number))?,
            None => 0,
        };
        Ok(RawRow { line, time, numbers, adjusted_close, revision })
    }
}
