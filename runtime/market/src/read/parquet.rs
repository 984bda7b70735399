//! Bars from Parquet: the columns that are needed, a batch of rows at a time, within bounds.

mod column;
mod guard;
mod page;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::column::reader::get_column_reader;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, SerializedPageReader};

use column::{Batch, Kind, Wanted};
use guard::Guarded;

use crate::read::clock::{Clock, ClockError, Instant, TimeFormat, Zone};
use crate::read::columns::{Columns, Price};
use crate::read::error::{BadReason, ReadError, shorten};
use crate::read::gather::{Gather, Place, RawRow};
use crate::read::options::ReadOptions;
use crate::read::report::{Container, Detected};
use crate::read::{detected, settle};

const BATCH_ROWS: usize = 16_384;

/// Reads all of it into `gather`. The decoder panics on some broken files; that too is an error here.
pub(crate) fn read<R: ChunkReader + 'static>(
    file: &str,
    source: R,
    options: &ReadOptions,
    gather: &mut Gather,
) -> Result<Detected, ReadError> {
    catch_unwind(AssertUnwindSafe(|| read_groups(file, source, options, gather)))
        .unwrap_or_else(|_| Err(broken(file, "its decoder gave up on it")))
}

fn broken(file: &str, message: impl ToString) -> ReadError {
    ReadError::Parquet { file: file.to_owned(), message: message.to_string() }
}

fn read_groups<R: ChunkReader + 'static>(
    file: &str,
    source: R,
    options: &ReadOptions,
    gather: &mut Gather,
) -> Result<Detected, ReadError> {
    let limits = options.limits;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&source).map_err(|e| broken(file, e))?;
    let schema = metadata.file_metadata().schema_descr();
    let within = |what, count: u64, limit: u64| {
        if count <= limit {
            Ok(())
        } else {
            Err(ReadError::Limit { file: file.to_owned(), line: 0, what, limit })
        }
    };
    within("columns", schema.num_columns() as u64, limits.columns as u64)?;
    let rows = metadata.row_groups().iter().map(|g| u64::try_from(g.num_rows()).unwrap_or(u64::MAX));
    within("rows", rows.fold(0, u64::saturating_add), limits.rows)?;

    let paths: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
    let names: Vec<&str> = paths.iter().map(String::as_str).collect();
    let columns = Columns::named(&names).map_err(|missing| ReadError::Columns {
        file: file.to_owned(),
        found: shorten(&names.join(", ")),
        missing,
    })?;
    let settled = settle(&columns, options, gather)?;
    let mut kinds = vec![None; names.len()];
    for (role, at) in columns.roles(options.adjusted) {
        let wanted = Wanted::of(role);
        let kind = Kind::of(&schema.column(at), wanted, options.time_format)
            .map_err(|message| broken(file, message))?;
        kinds[at] = Some(kind);
    }
    let source = Arc::new(Guarded::new(source, limits));
    let mut rows =
        Rows { file, columns: &columns, kinds: &kinds, zone: &settled.zone, format: None, line: 0, options };
    for group in 0..metadata.num_row_groups() {
        read_group(file, &metadata, group, &source, &mut rows, gather)?;
    }
    let format = rows.format.unwrap_or(TimeFormat::Epoch);
    Ok(detected(Container::Parquet, &columns, format, &settled, options))
}

fn read_group<R: ChunkReader + 'static>(
    file: &str,
    metadata: &ParquetMetaData,
    group: usize,
    source: &Arc<Guarded<R>>,
    rows: &mut Rows,
    gather: &mut Gather,
) -> Result<(), ReadError> {
    let group = metadata.row_group(group);
    let total = usize::try_from(group.num_rows()).map_err(|e| broken(file, e))?;
    let mut readers = Vec::new();
    for (at, kind) in rows.kinds.iter().enumerate() {
        let Some(kind) = kind else {
            readers.push(None);
            continue;
        };
        let chunk = group.columns().get(at).ok_or_else(|| broken(file, "a row group lacks a column"))?;
        let pages =
            SerializedPageReader::new(Arc::clone(source), chunk, total, None).map_err(|e| broken(file, e))?;
        let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
        readers.push(Some((reader, *kind, chunk.column_descr().max_def_level())));
    }
    let mut left = total;
    while left > 0 {
        let count = left.min(BATCH_ROWS);
        let mut batch = Vec::with_capacity(readers.len());
        for reader in &mut readers {
            batch.push(match reader {
                None => None,
                Some((reader, kind, level)) => {
                    Some(Batch::read(reader, *kind, *level, count).map_err(|e| broken(file, e))?)
                }
            });
        }
        for row in 0..count {
            rows.take(row, &batch, gather)?;
        }
        left -= count;
    }
    Ok(())
}

/// Rows of the batches to rows of `gather`.
struct Rows<'a> {
    file: &'a str,
    columns: &'a Columns,
    kinds: &'a [Option<Kind>],
    zone: &'a Zone,
    /// Settled by the first row.
    format: Option<TimeFormat>,
    line: u64,
    options: &'a ReadOptions,
}

impl Rows<'_> {
    fn take(&mut self, row: usize, batch: &[Option<Batch>], gather: &mut Gather) -> Result<(), ReadError> {
        self.line += 1;
        gather.rows += 1;
        let columns = self.columns;
        let text =
            |at: Option<usize>| at.map(|at| cell(batch, at)?.text(row).map_err(|r| (at, r))).transpose();
        let outcome = match (text(columns.symbol), text(columns.timeframe)) {
            (Ok(symbol), Ok(timeframe)) => match gather.place(self.line, symbol, timeframe)? {
                Place::Stream(stream) => self.raw(row, batch)?.map(|raw| (stream, raw)),
                Place::Elsewhere => {
                    gather.others += 1;
                    return Ok(());
                }
                Place::Bad(reason) => {
                    let column =
                        if reason == BadReason::Timeframe { columns.timeframe } else { columns.symbol };
                    Err((column.unwrap_or(0), reason))
                }
            },
            (Err(bad), _) | (_, Err(bad)) => Err(bad),
        };
        match outcome {
            Ok((stream, raw)) => gather.take(stream, columns, raw),
            Err((at, reason)) => {
                let value = batch.get(at).and_then(Option::as_ref).map_or(String::new(), |b| b.show(row));
                gather.reject(self.line, columns.name(at), &value, reason)
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn raw(
        &mut self,
        row: usize,
        batch: &[Option<Batch>],
    ) -> Result<Result<RawRow, (usize, BadReason)>, ReadError> {
        let columns = self.columns;
        if self.format.is_none() {
            self.settle_format(row, batch)?;
        }
        let number = |at: usize| cell(batch, at)?.number(row).map_err(|r| (at, r));
        let fields = || {
            let time = self.time(row, batch)?;
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
            let adjusted_close =
                columns.adjusted_close.filter(|_| self.options.adjusted).map(number).transpose()?;
            let revision = match columns.revision {
                Some(at) => whole(number(at)?).ok_or((at, BadReason::Number))?,
                None => 0,
            };
            Ok(RawRow { line: self.line, time, numbers, adjusted_close, revision })
        };
        Ok(fields())
    }

    fn settle_format(&mut self, row: usize, batch: &[Option<Batch>]) -> Result<(), ReadError> {
        let at = self.columns.time;
        let format = match self.kinds[at] {
            Some(Kind::Time { format, .. }) => format,
            Some(Kind::Days) => TimeFormat::YearFirst,
            Some(Kind::Int96) => TimeFormat::EpochNanos,
            Some(Kind::Text | Kind::Number { .. }) | None => {
                let text = cell(batch, at).ok().and_then(|b| b.text(row).ok()).unwrap_or("");
                let found = self.options.time_format.or_else(|| TimeFormat::detect(text));
                found.ok_or_else(|| ReadError::TimeFormat {
                    file: self.file.to_owned(),
                    line: self.line,
                    value: shorten(text),
                })?
            }
        };
        self.format = Some(format);
        Ok(())
    }

    fn time(&self, row: usize, batch: &[Option<Batch>]) -> Result<Instant, (usize, BadReason)> {
        let at = self.columns.time;
        let bad = |reason| (at, reason);
        let cell = cell(batch, at)?;
        let format = self.format.unwrap_or(TimeFormat::Epoch);
        let read = match self.kinds[at] {
            Some(Kind::Time { format, local }) => {
                clock(format, self.zone).read_count(cell.count(row).map_err(bad)?, local)
            }
            Some(Kind::Days) => {
                let seconds = cell.count(row).map_err(bad)?.saturating_mul(86_400);
                clock(TimeFormat::EpochSeconds, self.zone).read_count(seconds, true)
            }
            Some(Kind::Int96) => {
                clock(TimeFormat::EpochNanos, self.zone).read_count(cell.count(row).map_err(bad)?, false)
            }
            Some(Kind::Text | Kind::Number { .. }) | None => {
                let mut text = cell.text(row).map_err(bad)?.to_owned();
                if let Some(of_day) = self.columns.time_of_day {
                    let rest = self::cell(batch, of_day)?.text(row).map_err(|r| (of_day, r))?;
                    text = format!("{text} {rest}");
                }
                clock(format, self.zone).read(&text)
            }
        };
        read.map_err(|error| match error {
            ClockError::Format | ClockError::Range => bad(BadReason::Time),
            ClockError::Skipped => bad(BadReason::SkippedTime),
        })
    }
}

fn clock(format: TimeFormat, zone: &Zone) -> Clock {
    Clock { format, zone: zone.clone() }
}

fn cell(batch: &[Option<Batch>], at: usize) -> Result<&Batch, (usize, BadReason)> {
    batch.get(at).and_then(Option::as_ref).ok_or((at, BadReason::TooFewCells))
}

fn whole(number: f64) -> Option<u32> {
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u32)
}

#[cfg(test)]
mod tests;
