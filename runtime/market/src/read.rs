//! Readers of market data files, each bounded by [`Limits`].
//!
//! Bars: delimited text, plain or gzip, and Parquet, in the column styles that sources use. [`read_bars`] finds out
//! how a file is written and says so in its report; [`ReadOptions`] settles what the file leaves open and what to do
//! with rows that are not good bars. Trades, books and texts have a reader per source.

mod book;
mod clock;
mod columns;
mod error;
mod events;
mod feed;
mod gather;
mod options;
mod parquet;
mod report;
mod text;
mod texts;
mod ticks;
mod write;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

pub use clock::TimeFormat;
pub use error::{BadReason, BadRow, ReadError};
pub use events::{EventOptions, EventReport, Stamp};
pub use feed::{BookReport, FeedRead, read_binance_feed};
pub use options::{Label, Limits, OnBad, OnDisorder, OnDuplicate, ReadOptions, Style};
pub use report::{BadCount, Container, Detected, Gaps, ReadReport, StreamReport};
pub use texts::{read_news, read_posts};
pub use ticks::read_lean_trades;
pub use write::{WriteError, write_csv};

pub(crate) use report::missing_bars;

use clock::Zone;
use columns::Columns;
use gather::Gather;

use crate::bar::{Bar, StreamKey};

/// Bars of one file: by symbol and timeframe, each in order of time without repeats.
#[derive(Clone, Debug)]
pub struct BarsRead {
    pub streams: Vec<(StreamKey, Vec<Bar>)>,
    pub report: ReadReport,
}

/// Reads a file of bars. What it is (text, gzip, Parquet) is told from its first bytes, not from its name.
pub fn read_bars(path: &Path, options: &ReadOptions) -> Result<BarsRead, ReadError> {
    let file = path.display().to_string();
    match open(&file, path)? {
        Opened::Parquet(source) => {
            read_with(&file, options, |gather| parquet::read(&file, source, options, gather))
        }
        Opened::Text { reader, gzip } => read_text(&file, reader, gzip, options),
    }
}

/// A file, by what its first bytes say.
enum Opened {
    Parquet(File),
    Text { reader: Box<dyn Read>, gzip: bool },
}

fn open(file: &str, path: &Path) -> Result<Opened, ReadError> {
    let open = |source| ReadError::Open { file: file.to_owned(), source };
    let mut source = File::open(path).map_err(open)?;
    if source.metadata().map_err(open)?.is_dir() {
        return Err(open(std::io::Error::other("it is a folder; name a file in it")));
    }
    let mut magic = [0; 4];
    let filled = fill(&mut source, &mut magic).map_err(open)?;
    source.seek(SeekFrom::Start(0)).map_err(open)?;
    Ok(match kind(&magic[..filled]) {
        Kind::Parquet => Opened::Parquet(source),
        Kind::Gzip => {
            Opened::Text { reader: Box::new(flate2::read::MultiGzDecoder::new(source)), gzip: true }
        }
        Kind::Text => Opened::Text { reader: Box::new(source), gzip: false },
    })
}

/// The same, of a file in memory; `file` names it in messages.
pub fn read_bars_from(file: &str, content: Vec<u8>, options: &ReadOptions) -> Result<BarsRead, ReadError> {
    match kind(&content) {
        Kind::Parquet => read_with(file, options, |gather| {
            parquet::read(file, bytes::Bytes::from(content), options, gather)
        }),
        Kind::Gzip => {
            read_text(file, Box::new(flate2::read::MultiGzDecoder::new(Cursor::new(content))), true, options)
        }
        Kind::Text => read_text(file, Box::new(Cursor::new(content)), false, options),
    }
}

enum Kind {
    Parquet,
    Gzip,
    Text,
}

fn kind(start: &[u8]) -> Kind {
    if start.starts_with(b"PAR1") {
        Kind::Parquet
    } else if start.starts_with(&[0x1f, 0x8b]) {
        Kind::Gzip
    } else {
        Kind::Text
    }
}

fn fill(source: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn read_text(
    file: &str,
    reader: Box<dyn Read + '_>,
    gzip: bool,
    options: &ReadOptions,
) -> Result<BarsRead, ReadError> {
    read_with(file, options, |gather| text::read(file, reader, gzip, options, gather))
}

fn read_with(
    file: &str,
    options: &ReadOptions,
    rows: impl FnOnce(&mut Gather) -> Result<Detected, ReadError>,
) -> Result<BarsRead, ReadError> {
    let mut gather = Gather::new(file, options);
    let detected = rows(&mut gather)?;
    let (streams, reports) = gather.finish(detected.label)?;
    let report = ReadReport {
        file: file.to_owned(),
        detected,
        rows: gather.rows,
        bars: streams.iter().map(|(_, bars)| bars.len() as u64).sum(),
        bad: gather.bad,
        duplicates: gather.duplicates,
        replaced: gather.replaced,
        others: gather.others,
        timeframe_inferred: gather.timeframe_inferred,
        streams: reports,
    };
    Ok(BarsRead { streams, report })
}

/// What the options and the style settle before the first row.
struct Settled {
    zone: Zone,
    zone_name: String,
    label: Label,
    divisor: f64,
}

fn settle(columns: &Columns, options: &ReadOptions, gather: &mut Gather) -> Result<Settled, ReadError> {
    let lean = columns.style == Style::LeanEquity;
    let zone_name =
        options.zone.clone().unwrap_or_else(|| if lean { "America/New_York" } else { "UTC" }.to_owned());
    let zone =
        Zone::named(&zone_name).ok_or_else(|| ReadError::Zone(zone_name.chars().take(60).collect()))?;
    let divisor = options.price_divisor.unwrap_or(if lean { 10_000.0 } else { 1.0 });
    if !divisor.is_finite() || divisor <= 0.0 {
        return Err(ReadError::Divisor(divisor));
    }
    gather.divisor = divisor;
    let label = options.label.unwrap_or(if columns.closes { Label::Close } else { Label::Open });
    Ok(Settled { zone, zone_name, label, divisor })
}

fn detected(
    container: Container,
    columns: &Columns,
    time_format: TimeFormat,
    settled: &Settled,
    options: &ReadOptions,
) -> Detected {
    let roles = columns.roles(options.adjusted);
    let ignored = (0..columns.names.len()).filter(|at| roles.iter().all(|(_, used)| used != at));
    Detected {
        container,
        style: columns.style,
        time_format,
        zone: settled.zone_name.clone(),
        label: settled.label,
        price_divisor: settled.divisor,
        ignored: ignored.map(|at| columns.name(at).to_owned()).collect(),
        no_volume: columns.volume.is_none(),
        columns: roles.into_iter().map(|(role, at)| (role, columns.name(at).to_owned())).collect(),
    }
}
