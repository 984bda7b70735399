//! Bars from Parquet: the columns that are needed, a batch of rows at a time, within bounds.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::schema::types::ColumnDescriptor;

use crate::read::clock::{Clock, ClockError, Instant, TimeFormat, Zone};
use crate::read::columns::{Columns, Price};
use crate::read::error::{BadReason, ReadError, shorten};
use crate::read::gather::{Gather, Place, RawRow};
use crate::read::options::{Limits, ReadOptions};
use crate::read::page::{HEADER_BYTES_MAX, check_header};
use crate::read::report::{Container, Detected};
use crate::read::{Settled, detected, settle};

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
    let source = Arc::new(Guarded { inner: source, limits, plain_bytes: AtomicU64::new(0) });
    let mut rows =
        Rows { file, columns: &columns, kinds: &kinds, zone: &settled.zone, format: None, line: 0, options };
    for group in 0..metadata.num_row_groups() {
        read_group(file, &metadata, group, &source, &mut rows, gather)?;
    }
    let format = rows.format.unwrap_or(TimeFormat::Epoch);
    Ok(finish(&columns, format, &settled, options))
}

fn finish(columns: &Columns, format: TimeFormat, settled: &Settled, options: &ReadOptions) -> Detected {
    detected(Container::Parquet, columns, format, settled, options)
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

/// What a role needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Time,
    Text,
    Number,
}

impl Wanted {
    fn of(role: &str) -> Self {
        match role {
            "time" => Wanted::Time,
            "symbol" | "timeframe" | "time of day" => Wanted::Text,
            _ => Wanted::Number,
        }
    }
}

/// How a column's values become what is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    /// Divided by a power of ten.
    Number {
        divisor: f64,
    },
    /// Counts of the format, on the zone's own clock if `local`.
    Time {
        format: TimeFormat,
        local: bool,
    },
    Days,
    /// Spark's old form: a Julian day and nanoseconds in it.
    Int96,
}

impl Kind {
    fn of(column: &ColumnDescriptor, wanted: Wanted, given: Option<TimeFormat>) -> Result<Self, String> {
        let refuse = |instead: &str| {
            Err(format!("column {} is {}; write it as {instead}", column.path(), column.physical_type()))
        };
        if column.max_rep_level() > 0 {
            return refuse("a flat column");
        }
        let (logical, converted) = (column.logical_type_ref(), column.converted_type());
        match (wanted, column.physical_type()) {
            (Wanted::Text | Wanted::Time, Type::BYTE_ARRAY) => Ok(Kind::Text),
            (Wanted::Text, _) => refuse("text"),
            (Wanted::Number, Type::DOUBLE | Type::FLOAT) => Ok(Kind::Number { divisor: 1.0 }),
            (Wanted::Number, Type::INT32 | Type::INT64) => {
                let scale = if converted == ConvertedType::DECIMAL { column.type_scale() } else { 0 };
                Ok(Kind::Number { divisor: 10f64.powi(scale) })
            }
            (Wanted::Number, _) => refuse("DOUBLE"),
            (Wanted::Time, Type::INT96) => Ok(Kind::Int96),
            (Wanted::Time, Type::INT32) if converted == ConvertedType::DATE => Ok(Kind::Days),
            (Wanted::Time, Type::INT64 | Type::INT32) => {
                let (format, local) = match (logical, converted) {
                    (Some(LogicalType::Timestamp(stamp)), _) => (
                        match stamp.unit {
                            TimeUnit::MILLIS => TimeFormat::EpochMillis,
                            TimeUnit::MICROS => TimeFormat::EpochMicros,
                            TimeUnit::NANOS => TimeFormat::EpochNanos,
                        },
                        !stamp.is_adjusted_to_u_t_c,
                    ),
                    (_, ConvertedType::TIMESTAMP_MILLIS) => (TimeFormat::EpochMillis, false),
                    (_, ConvertedType::TIMESTAMP_MICROS) => (TimeFormat::EpochMicros, false),
                    _ => (given.unwrap_or(TimeFormat::Epoch), false),
                };
                Ok(Kind::Time { format, local })
            }
            (Wanted::Time, _) => refuse("TIMESTAMP or text"),
        }
    }
}

/// Some rows of one column; None where there is no value.
enum Batch {
    Text(Vec<Option<ByteArray>>),
    Number(Vec<Option<f64>>),
    Count(Vec<Option<i64>>),
}

impl Batch {
    /// Exactly `count` rows.
    fn read(reader: &mut ColumnReader, kind: Kind, level: i16, count: usize) -> Result<Self, ParquetError> {
        let divisor = if let Kind::Number { divisor } = kind { Some(divisor) } else { None };
        let whole = |values: Vec<Option<i64>>| match divisor {
            Some(divisor) => {
                Batch::Number(values.into_iter().map(|v| v.map(|n| n as f64 / divisor)).collect())
            }
            None => Batch::Count(values),
        };
        Ok(match reader {
            ColumnReader::ByteArrayColumnReader(r) => {
                Batch::Text(records(r, level, count, |v: ByteArray| v)?)
            }
            ColumnReader::DoubleColumnReader(r) => Batch::Number(records(r, level, count, |v: f64| v)?),
            // By the shortest decimal that means this f32, as the writer wrote 0.1 and not 0.10000000149.
            ColumnReader::FloatColumnReader(r) => {
                Batch::Number(records(r, level, count, |v: f32| v.to_string().parse().unwrap_or(f64::NAN))?)
            }
            ColumnReader::Int32ColumnReader(r) => whole(records(r, level, count, |v: i32| i64::from(v))?),
            ColumnReader::Int64ColumnReader(r) => whole(records(r, level, count, |v: i64| v)?),
            ColumnReader::Int96ColumnReader(r) => {
                Batch::Count(records(r, level, count, |v: parquet::data_type::Int96| v.to_nanos())?)
            }
            ColumnReader::BoolColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Err(ParquetError::General("a column of a kind that is not read".to_owned()));
            }
        })
    }

    fn text(&self, row: usize) -> Result<&str, BadReason> {
        match self {
            Batch::Text(values) => match values.get(row) {
                Some(Some(bytes)) => {
                    std::str::from_utf8(bytes.data()).map(str::trim).map_err(|_| BadReason::Encoding)
                }
                _ => Err(BadReason::Empty),
            },
            Batch::Number(_) | Batch::Count(_) => Err(BadReason::Encoding),
        }
    }

    fn number(&self, row: usize) -> Result<f64, BadReason> {
        match self {
            Batch::Number(values) => values.get(row).copied().flatten().ok_or(BadReason::Empty),
            Batch::Text(_) | Batch::Count(_) => Err(BadReason::Number),
        }
    }

    fn count(&self, row: usize) -> Result<i64, BadReason> {
        match self {
            Batch::Count(values) => values.get(row).copied().flatten().ok_or(BadReason::Empty),
            Batch::Text(_) | Batch::Number(_) => Err(BadReason::Time),
        }
    }

    fn show(&self, row: usize) -> String {
        match self {
            Batch::Text(values) => match values.get(row) {
                Some(Some(bytes)) => String::from_utf8_lossy(bytes.data()).into_owned(),
                _ => String::new(),
            },
            Batch::Number(values) => {
                values.get(row).copied().flatten().map_or(String::new(), |n| n.to_string())
            }
            Batch::Count(values) => {
                values.get(row).copied().flatten().map_or(String::new(), |n| n.to_string())
            }
        }
    }
}

fn records<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    level: i16,
    count: usize,
    convert: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(count), Vec::new());
    let (read, _, _) = reader.read_records(count, Some(&mut levels), None, &mut values)?;
    if read != count || (level > 0 && levels.len() != count) {
        return Err(ParquetError::General(format!("a column ends {} rows early", count - read.min(count))));
    }
    let mut values = values.into_iter().map(convert);
    if level == 0 {
        return Ok(values.map(Some).collect());
    }
    Ok(levels.into_iter().map(|found| if found == level { values.next() } else { None }).collect())
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

/// A source that looks at each page header before the decoder does, and never reserves more than the file holds.
struct Guarded<R> {
    inner: R,
    limits: Limits,
    /// Of the pages met so far, after decompression.
    plain_bytes: AtomicU64,
}

impl<R: ChunkReader> Length for Guarded<R> {
    fn len(&self) -> u64 {
        self.inner.len()
    }
}

impl<R: ChunkReader> ChunkReader for Guarded<R> {
    type T = R::T;

    /// The page reader asks for this where a page header starts, and nowhere else.
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut header = Vec::new();
        self.inner.get_read(start)?.take(HEADER_BYTES_MAX).read_to_end(&mut header)?;
        let plain_bytes = check_header(&header, &self.limits).map_err(ParquetError::General)?;
        let sum = self.plain_bytes.fetch_add(plain_bytes, Ordering::Relaxed) + plain_bytes;
        if sum > self.limits.plain_bytes {
            return Err(ParquetError::General(format!(
                "more than {} bytes of pages",
                self.limits.plain_bytes
            )));
        }
        self.inner.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.inner.len()) {
            return Err(ParquetError::EOF("a page reaches past the end".to_owned()));
        }
        self.inner.get_bytes(start, length)
    }
}

#[cfg(test)]
mod tests;
