//! The features of bars as a model sees them, for the test of their distribution ([`learn::live::shift`]).

use std::collections::BTreeMap;

use learn::live::shift::{ShiftMonitor, ShiftReport, ShiftSettings};
use learn::normalise::Normaliser;
use market::{Bar, FeatureError, Features, StreamKey, Timestamp};
use registry::Manifest;

/// Bars that a feature source gets in one call.
const CHUNK_BARS: usize = 1024;

/// Bars of several streams; a revised one is there once.
pub type Streams = BTreeMap<StreamKey, BTreeMap<Timestamp, Bar>>;

/// Compares the streams' features with the model's training rows. `None`: its manifest has no profile of those.
pub fn shift(
    manifest: &Manifest,
    features: &mut dyn Features,
    streams: &Streams,
    settings: ShiftSettings,
) -> Result<Option<ShiftReport>, String> {
    let Some(profile) = &manifest.profile else { return Ok(None) };
    let normaliser = Normaliser::from_manifest(&manifest.normaliser);
    let mut monitor = ShiftMonitor::new(profile, settings).map_err(|e| e.to_string())?;
    let columns = manifest.input.features as usize;
    let mut rows: Vec<(Timestamp, Vec<f32>)> = Vec::new();
    for (key, bars) in streams {
        let bars: Vec<Bar> = bars.values().filter(|bar| bar.is_final).cloned().collect();
        let numbers = rows_of(features, &bars).map_err(|e| format!("{key}: {e}"))?;
        let warm = bars.iter().zip(numbers.chunks(columns)).skip(manifest.features.warmup as usize);
        rows.extend(warm.map(|(bar, row)| (bar.open_time, row.to_vec())));
    }
    rows.sort_by_key(|row| row.0);
    for (time, mut row) in rows {
        normaliser.apply(&mut row);
        monitor.push(time, &row);
    }
    Ok(Some(monitor.report()))
}

fn rows_of(features: &mut dyn Features, bars: &[Bar]) -> Result<Vec<f32>, FeatureError> {
    let stream = features.open()?;
    let mut rows = Vec::new();
    let mut fed = Ok(());
    for chunk in bars.chunks(CHUNK_BARS) {
        fed = features.on_bars(stream, chunk, &mut rows);
        if fed.is_err() {
            break;
        }
    }
    features.close(stream);
    fed.map(|()| rows)
}
