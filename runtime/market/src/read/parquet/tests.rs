//! Small Parquet files of several types, broken in every byte, and made to claim too much.

use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use crate::bar::Bar;
use crate::read::tests::survives;
use crate::read::{BarsRead, Limits, OnBad, ReadError, ReadOptions, TimeFormat, read_bars_from};
use crate::time::Timestamp;

/// `rows` hours of A and B in turn, in two row groups; the time column is as `time` says.
fn file(time: &str, rows: usize) -> Vec<u8> {
    let message = format!(
        "message bars {{ required binary symbol (UTF8); {time}; required double open; required double high; \
         required double low; optional double close; optional int64 volume; required int32 junk; }}"
    );
    let schema = Arc::new(parse_message_type(&message).expect("schema"));
    let properties =
        Arc::new(WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("writer");
    let text = time.contains("binary");
    for part in [0..rows / 2, rows / 2..rows] {
        let mut group = writer.next_row_group().expect("group");
        let numbers: Vec<f64> = part.clone().map(|i| 100.0 + i as f64).collect();
        let hours: Vec<i64> = part.clone().map(|i| (i / 2) as i64).collect();
        let present = vec![1; part.len()];
        for column in 0..8 {
            let mut column_writer = group.next_column().expect("column").expect("column");
            match column {
                0 => {
                    let symbols: Vec<ByteArray> =
                        part.clone().map(|i| ByteArray::from(["A", "B"][i % 2])).collect();
                    column_writer
                        .typed::<ByteArrayType>()
                        .write_batch(&symbols, None, None)
                        .expect("written");
                }
                1 if text => {
                    let times: Vec<ByteArray> = hours
                        .iter()
                        .map(|h| ByteArray::from(Timestamp::from_seconds(h * 3_600).to_string().as_str()))
                        .collect();
                    column_writer.typed::<ByteArrayType>().write_batch(&times, None, None).expect("written");
                }
                1 if time.contains("DATE") => {
                    let days: Vec<i32> = hours.iter().map(|&h| h as i32).collect();
                    column_writer.typed::<Int32Type>().write_batch(&days, None, None).expect("written");
                }
                1 => {
                    let unit = if time.contains("MICROS") { 3_600_000_000 } else { 3_600_000 };
                    let times: Vec<i64> = hours.iter().map(|h| h * unit).collect();
                    column_writer.typed::<Int64Type>().write_batch(&times, None, None).expect("written");
                }
                5 => drop(
                    column_writer
                        .typed::<DoubleType>()
                        .write_batch(&numbers, Some(&present), None)
                        .expect("written"),
                ),
                6 => {
                    // The last volume of each part is missing.
                    let mut levels = present.clone();
                    *levels.last_mut().expect("rows") = 0;
                    let volumes: Vec<i64> = (1..part.len() as i64).collect();
                    column_writer
                        .typed::<Int64Type>()
                        .write_batch(&volumes, Some(&levels), None)
                        .expect("written");
                }
                7 => {
                    let junk = vec![0; part.len()];
                    column_writer.typed::<Int32Type>().write_batch(&junk, None, None).expect("written");
                }
                _ => drop(
                    column_writer.typed::<DoubleType>().write_batch(&numbers, None, None).expect("written"),
                ),
            }
            column_writer.close().expect("closed");
        }
        group.close().expect("closed");
    }
    writer.into_inner().expect("closed")
}

const MILLIS: &str = "required int64 date (TIMESTAMP(MILLIS,true))";

fn skipping() -> ReadOptions {
    ReadOptions { on_bad: OnBad::Skip, ..ReadOptions::default() }
}

fn read(content: Vec<u8>) -> BarsRead {
    read_bars_from("f", content, &skipping()).unwrap_or_else(|e| panic!("{e}"))
}

fn opens(bars: &[Bar]) -> Vec<(i64, f64, f64)> {
    bars.iter().map(|b| (b.open_time.0 / 3_600_000_000_000, b.close, b.volume)).collect()
}

#[test]
fn types_of_time_and_number() {
    for (time, format) in [
        (MILLIS, TimeFormat::EpochMillis),
        ("required int64 date (TIMESTAMP(MICROS,true))", TimeFormat::EpochMicros),
        ("required int64 date (TIMESTAMP_MILLIS)", TimeFormat::EpochMillis),
        ("required binary date (UTF8)", TimeFormat::YearFirst),
    ] {
        let read = read(file(time, 12));
        assert_eq!(read.report.detected.time_format, format, "{time}");
        assert_eq!(read.report.detected.ignored, ["junk"]);
        assert_eq!((read.report.rows, read.report.bad_rows(), read.streams.len()), (12, 2, 2));
        assert_eq!(
            opens(&read.streams[0].1),
            [
                (0, 100.0, 1.0),
                (1, 102.0, 3.0),
                (2, 104.0, 5.0),
                (3, 106.0, 1.0),
                (4, 108.0, 3.0),
                (5, 110.0, 5.0)
            ]
        );
        assert_eq!(
            opens(&read.streams[1].1),
            [(0, 101.0, 2.0), (1, 103.0, 4.0), (3, 107.0, 2.0), (4, 109.0, 4.0)]
        );
        assert_eq!(read.streams[0].0.to_string(), "A 1h");
    }
    let days = read(file("required int32 date (DATE)", 12));
    assert_eq!(days.streams[0].0.to_string(), "A 1d");
    assert_eq!(days.streams[0].1[1].open_time, Timestamp::from_seconds(86_400));
    // A plain count: hours that look like seconds are told otherwise.
    let millis = ReadOptions { time_format: Some(TimeFormat::EpochMillis), ..skipping() };
    let plain = read_bars_from("f", file("required int64 date", 12), &millis).expect("read");
    assert_eq!(plain.streams[0].0.to_string(), "A 1h");
}

#[test]
fn local_timestamps_are_in_the_zone() {
    let york = ReadOptions { zone: Some("America/New_York".to_owned()), ..skipping() };
    let local = file("required int64 date (TIMESTAMP(MILLIS,false))", 12);
    let bars = read_bars_from("f", local, &york).expect("read").streams.remove(0).1;
    assert_eq!(bars[0].open_time, Timestamp::from_seconds(5 * 3_600));
    let utc = read_bars_from("f", file(MILLIS, 12), &york).expect("read").streams.remove(0).1;
    assert_eq!(utc[0].open_time, Timestamp::from_seconds(0));
}

#[test]
fn a_null_names_its_row_and_column() {
    let error = read_bars_from("f", file(MILLIS, 12), &ReadOptions::default()).expect_err("null").to_string();
    assert!(error.starts_with("f line 6, column volume: '': empty cell"), "{error}");
}

#[test]
fn batches_join() {
    let rows = 70_000;
    let read = read(file(MILLIS, rows));
    assert_eq!(read.report.bars, rows as u64 - 2);
    assert!(read.streams[0].1.iter().enumerate().all(|(i, b)| b.close == 100.0 + 2.0 * i as f64));
}

#[test]
fn bounds() {
    let limited = |limits: Limits| {
        let error = read_bars_from("f", file(MILLIS, 4_000), &ReadOptions { limits, ..skipping() })
            .expect_err("limit");
        error.to_string()
    };
    assert!(limited(Limits { rows: 3_999, ..Limits::default() }).contains("more than 3999 rows"));
    assert!(limited(Limits { columns: 7, ..Limits::default() }).contains("more than 7 columns"));
    assert!(limited(Limits { page_bytes: 1_000, ..Limits::default() }).contains("the limit is 1000"));
    assert!(
        limited(Limits { plain_bytes: 50_000, ..Limits::default() })
            .contains("more than 50000 bytes of pages")
    );
}

/// The footer's row counts made larger: it stands last, so nothing else moves.
fn claiming(rows: u64, content: &[u8], claim: u64) -> Vec<u8> {
    let varint = |mut n: u64| {
        let mut bytes = vec![0x16];
        n *= 2;
        while n > 127 {
            bytes.push(n as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    };
    let end = content.len() - 8;
    let length = u32::from_le_bytes(content[end..end + 4].try_into().expect("four")) as usize;
    let (body, footer) = content[..end].split_at(end - length);
    let (from, to) = (varint(rows), varint(claim));
    let mut changed = Vec::new();
    let mut at = 0;
    while at < footer.len() {
        if footer[at..].starts_with(&from) {
            changed.extend(&to);
            at += from.len();
        } else {
            changed.push(footer[at]);
            at += 1;
        }
    }
    assert_ne!(changed, footer);
    [body, &changed, &(changed.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

#[test]
fn a_file_that_claims_billions_of_rows() {
    let content = claiming(2_000, &file(MILLIS, 4_000), 10_000_000_000);
    let error = read_bars_from("f", content.clone(), &skipping()).expect_err("claims");
    assert!(matches!(error, ReadError::Limit { what: "rows", .. }), "{error}");
    let trusting = ReadOptions { limits: Limits { rows: u64::MAX, ..Limits::default() }, ..skipping() };
    let error = read_bars_from("f", content, &trusting).expect_err("claims").to_string();
    assert!(error.contains("f is not Parquet that can be read"), "{error}");
}

proptest! {
    #[test]
    fn broken_files_are_refused_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        thread_local!(static BASE: Vec<u8> = file(MILLIS, 40));
        let mut content = BASE.with(Clone::clone);
        for (index, byte) in edits {
            let at = index.index(content.len());
            content[at] = byte;
        }
        if let Some(cut) = cut {
            let at = cut.index(content.len());
            content.truncate(at.max(4));
        }
        survives(content, &skipping())?;
    }
}
