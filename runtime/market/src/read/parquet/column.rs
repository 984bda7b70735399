//! A column's values, a batch of rows at a time, as what its role needs.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

use crate::read::clock::TimeFormat;
use crate::read::error::BadReason;

/// What a role needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Time,
    Text,
    Number,
}

impl Wanted {
    pub(super) fn of(role: &str) -> Self {
        match role {
            "time" => Wanted::Time,
            "symbol" | "timeframe" | "time of day" => Wanted::Text,
            _ => Wanted::Number,
        }
    }
}

/// How a column's values become what is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
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
    pub(super) fn of(
        column: &ColumnDescriptor,
        wanted: Wanted,
        given: Option<TimeFormat>,
    ) -> Result<Self, String> {
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
pub(super) enum Batch {
    Text(Vec<Option<ByteArray>>),
    Number(Vec<Option<f64>>),
    Count(Vec<Option<i64>>),
}

impl Batch {
    /// Exactly `count` rows.
    pub(super) fn read(
        reader: &mut ColumnReader,
        kind: Kind,
        level: i16,
        count: usize,
    ) -> Result<Self, ParquetError> {
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

    pub(super) fn text(&self, row: usize) -> Result<&str, BadReason> {
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

    pub(super) fn number(&self, row: usize) -> Result<f64, BadReason> {
        match self {
            Batch::Number(values) => values.get(row).copied().flatten().ok_or(BadReason::Empty),
            Batch::Text(_) | Batch::Count(_) => Err(BadReason::Number),
        }
    }

    pub(super) fn count(&self, row: usize) -> Result<i64, BadReason> {
        match self {
            Batch::Count(values) => values.get(row).copied().flatten().ok_or(BadReason::Empty),
            Batch::Text(_) | Batch::Number(_) => Err(BadReason::Time),
        }
    }

    pub(super) fn show(&self, row: usize) -> String {
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
