//! Bars become rows of features and samples: a window of rows and the label that follows it.
//!
//! Rows lie once in memory, stream by stream; a sample is an index to its newest row, and its window is the
//! slice of `window` rows that ends there. Samples are in order of time, then stream.

use std::fmt;

use market::{Bar, BarError, FeatureError, Features, StreamKey, Timeframe, Timestamp};
use registry::Hasher;

use crate::label::LabelRecipe;
use crate::normalise::Normaliser;

/// Bars that a feature source gets in one call.
const CHUNK_BARS: usize = 4096;
/// Numbers in the row store: 8 GiB.
pub const ROW_NUMBERS_MAX: usize = 1 << 31;

/// One symbol's rows.
#[derive(Clone, Debug)]
pub struct Stream {
    pub key: StreamKey,
    pub open_times: Vec<Timestamp>,
    /// Row-major, one row a bar. The first `warmup` rows mean nothing.
    rows: Vec<f32>,
}

/// A window that ends at bar `end` of a stream, and what came after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub stream: usize,
    /// The window's newest bar.
    pub end: usize,
    /// When that bar opens.
    pub time: Timestamp,
    /// When the last bar that the label sees opens.
    pub label_until: Timestamp,
    pub label: f64,
    /// The naive forecast of the label.
    pub naive: f64,
}

/// Rows and samples of one timeframe.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub timeframe: Timeframe,
    /// Rows in a window.
    pub window: usize,
    /// Numbers in a row.
    pub columns: usize,
    /// Rows of a stream that are in no window.
    pub warmup: usize,
    pub streams: Vec<Stream>,
    pub samples: Vec<Sample>,
}

impl Dataset {
    /// Feeds each stream's bars, which are final and rising in time, through the feature source. A sample needs
    /// `window` rows after the warm-up, its whole label and its naive forecast.
    pub fn build(
        bars: &[&[Bar]],
        features: &mut dyn Features,
        window: usize,
        label: &LabelRecipe,
    ) -> Result<Dataset, DatasetError> {
        let (columns, warmup) = (features.spec().names.len(), features.spec().warmup);
        let total: usize = bars.iter().map(|b| b.len()).sum();
        if columns == 0 || window == 0 || total.saturating_mul(columns) > ROW_NUMBERS_MAX {
            return Err(DatasetError::Size { bars: total, columns, window });
        }
        let timeframe = check_streams(bars)?;
        let mut streams = Vec::with_capacity(bars.len());
        let mut samples = Vec::new();
        for (index, bars) in bars.iter().enumerate() {
            let rows = feature_rows(bars, features)?;
            let open_times = bars.iter().map(|bar| bar.open_time).collect();
            streams.push(Stream { key: bars[0].key.clone(), open_times, rows });
            let first_end = warmup.saturating_add(window - 1).max(label.lookback_bars());
            samples.extend((first_end..bars.len()).filter_map(|end| sample(index, bars, end, label)));
        }
        samples.sort_by_key(|sample| (sample.time, sample.stream));
        if samples.is_empty() {
            return Err(DatasetError::NoSamples { bars: total, warmup, window, horizon: label.horizon_bars });
        }
        Ok(Dataset { timeframe, window, columns, warmup, streams, samples })
    }

    /// The sample's window, `window` × `columns`, oldest row first.
    pub fn window_of(&self, sample: &Sample) -> &[f32] {
        let end = (sample.end + 1) * self.columns;
        &self.streams[sample.stream].rows[end - self.window * self.columns..end]
    }

    /// One row of a stream.
    pub fn row(&self, stream: usize, bar: usize) -> &[f32] {
        &self.streams[stream].rows[bar * self.columns..(bar + 1) * self.columns]
    }

    /// These samples' windows alone, each in rows of its own, so that one can be changed without the others.
    pub fn of_windows(&self, indices: &[usize]) -> Dataset {
        let mut rows = Vec::with_capacity(indices.len() * self.window * self.columns);
        let mut samples = Vec::with_capacity(indices.len());
        for (place, sample) in indices.iter().map(|&i| &self.samples[i]).enumerate() {
            rows.extend_from_slice(self.window_of(sample));
            samples.push(Sample { stream: 0, end: (place + 1) * self.window - 1, ..*sample });
        }
        let key = self.streams[0].key.clone();
        let streams = vec![Stream { key, open_times: Vec::new(), rows }];
        Dataset { warmup: 0, streams, samples, ..*self }
    }

    /// Of a dataset made by [`of_windows`](Dataset::of_windows): gives each window the column of another one, and
    /// returns the column as it was.
    pub fn exchange_column(&mut self, column: usize, order: &[usize]) -> Vec<f32> {
        let rows = &mut self.streams[0].rows;
        let before: Vec<f32> = rows.iter().skip(column).step_by(self.columns).copied().collect();
        for (place, &from) in order.iter().enumerate() {
            for step in 0..self.window {
                rows[(place * self.window + step) * self.columns + column] =
                    before[from * self.window + step];
            }
        }
        before
    }

    /// Sets a column of all rows of the first stream.
    pub fn set_column(&mut self, column: usize, values: &[f32]) {
        let rows = self.streams[0].rows.iter_mut().skip(column).step_by(self.columns);
        rows.zip(values).for_each(|(x, value)| *x = *value);
    }

    /// Replaces all rows after the warm-up by their normalised form.
    pub fn normalise(&mut self, normaliser: &Normaliser) {
        for stream in &mut self.streams {
            stream
                .rows
                .chunks_exact_mut(self.columns)
                .skip(self.warmup)
                .for_each(|row| normaliser.apply(row));
        }
    }
}

fn sample(stream: usize, bars: &[Bar], end: usize, label: &LabelRecipe) -> Option<Sample> {
    Some(Sample {
        stream,
        end,
        time: bars[end].open_time,
        label: label.at(bars, end)?,
        label_until: bars[end + label.horizon_bars as usize].open_time,
        naive: label.naive_at(bars, end)?,
    })
}

/// All rows of one stream; checks their number, and that they are finite after the warm-up.
fn feature_rows(bars: &[Bar], features: &mut dyn Features) -> Result<Vec<f32>, DatasetError> {
    let key = &bars[0].key;
    let failed = |error| DatasetError::Features { key: key.clone(), error };
    let (columns, warmup) = (features.spec().names.len(), features.spec().warmup);
    let stream = features.open().map_err(failed)?;
    let mut rows = Vec::with_capacity(bars.len() * columns);
    let mut fed = Ok(());
    for chunk in bars.chunks(CHUNK_BARS) {
        fed = features.on_bars(stream, chunk, &mut rows).map_err(failed);
        if fed.is_err() {
            break;
        }
    }
    features.close(stream);
    fed?;
    if rows.len() != bars.len() * columns {
        return Err(DatasetError::RowCount {
            key: key.clone(),
            bars: bars.len(),
            columns,
            numbers: rows.len(),
        });
    }
    match rows.iter().skip(warmup.saturating_mul(columns)).position(|x| !x.is_finite()) {
        None => Ok(rows),
        Some(place) => {
            let (bar, column) = (warmup + place / columns, place % columns);
            let name = features.spec().names[column].clone();
            Err(DatasetError::NotFinite { key: key.clone(), name, open_time: bars[bar].open_time })
        }
    }
}

/// Streams of one timeframe, each of one key, in rising order, of good and final bars. Gives the timeframe.
fn check_streams(streams: &[&[Bar]]) -> Result<Timeframe, DatasetError> {
    let first = streams.first().and_then(|bars| bars.first()).ok_or(DatasetError::NoBars)?;
    let timeframe = first.key.timeframe;
    for bars in streams {
        let key = &bars.first().ok_or(DatasetError::NoBars)?.key;
        if key.timeframe != timeframe {
            return Err(DatasetError::Timeframes { first: timeframe, other: key.timeframe });
        }
        for (i, bar) in bars.iter().enumerate() {
            let at = |problem| DatasetError::Bar { key: bar.key.clone(), open_time: bar.open_time, problem };
            bar.check().map_err(|e| at(BarProblem::Invalid(e)))?;
            if bar.key != *key {
                return Err(at(BarProblem::OtherStream));
            }
            if !bar.is_final {
                return Err(at(BarProblem::NotFinal));
            }
            if i > 0 && bar.open_time <= bars[i - 1].open_time {
                return Err(at(BarProblem::NotRising));
            }
        }
    }
    Ok(timeframe)
}

/// SHA-256 over the canonical bytes of the streams in the given order: for each the symbol, a line feed, the
/// timeframe in seconds and the number of bars, then for each bar the open time in nanoseconds, open, high, low,
/// close and volume; numbers as eight bytes, least significant first.
pub fn bars_digest(streams: &[&[Bar]]) -> String {
    let mut hasher = Hasher::new();
    for bars in streams {
        let Some(first) = bars.first() else { continue };
        hasher.update(first.key.symbol.as_str().as_bytes());
        hasher.update(b"\n");
        hasher.update(&u64::from(first.key.timeframe.seconds()).to_le_bytes());
        hasher.update(&(bars.len() as u64).to_le_bytes());
        for bar in *bars {
            hasher.update(&bar.open_time.0.to_le_bytes());
            for x in [bar.open, bar.high, bar.low, bar.close, bar.volume] {
                hasher.update(&x.to_bits().to_le_bytes());
            }
        }
    }
    hasher.finish()
}

#[derive(Clone, Debug, PartialEq)]
pub enum BarProblem {
    Invalid(BarError),
    OtherStream,
    NotFinal,
    NotRising,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DatasetError {
    NoBars,
    Size { bars: usize, columns: usize, window: usize },
    Timeframes { first: Timeframe, other: Timeframe },
    Bar { key: StreamKey, open_time: Timestamp, problem: BarProblem },
    Features { key: StreamKey, error: FeatureError },
    RowCount { key: StreamKey, bars: usize, columns: usize, numbers: usize },
    NotFinite { key: StreamKey, name: String, open_time: Timestamp },
    NoSamples { bars: usize, warmup: usize, window: usize, horizon: u32 },
}

impl fmt::Display for DatasetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatasetError::NoBars => {
                write!(f, "there are no bars to learn from; give at least one stream with bars")
            }
            DatasetError::Size { bars, columns, window } => write!(
                f,
                "{bars} bars of {columns} features in windows of {window}: window and features must be at least 1, and bars × features at most {ROW_NUMBERS_MAX}"
            ),
            DatasetError::Timeframes { first, other } => {
                write!(f, "bars of {first} and of {other} can't be learned together; give one timeframe")
            }
            DatasetError::Bar { key, open_time, problem } => {
                write!(f, "{key}, bar of {open_time}: ")?;
                match problem {
                    BarProblem::Invalid(e) => write!(f, "{e}"),
                    BarProblem::OtherStream => write!(f, "it lies among bars of another symbol or timeframe"),
                    BarProblem::NotFinal => write!(f, "it is still forming; learn from final bars only"),
                    BarProblem::NotRising => {
                        write!(f, "its time isn't after the bar before; sort and deduplicate")
                    }
                }
            }
            DatasetError::Features { key, error } => write!(f, "{key}: {error}"),
            DatasetError::RowCount { key, bars, columns, numbers } => {
                write!(
                    f,
                    "{key}: the feature source gave {numbers} numbers for {bars} bars of {columns} features"
                )
            }
            DatasetError::NotFinite { key, name, open_time } => {
                write!(f, "{key}: feature {name} of the bar of {open_time} isn't finite, after the warm-up")
            }
            DatasetError::NoSamples { bars, warmup, window, horizon } => write!(
                f,
                "{bars} bars give no sample: each needs {warmup} bars of warm-up, a window of {window} and {horizon} bars after it without a gap"
            ),
        }
    }
}

impl std::error::Error for DatasetError {}

#[cfg(test)]
mod tests;
