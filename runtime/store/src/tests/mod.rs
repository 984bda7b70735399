//! The spool as a whole, on the simulated file system and on the real one.

mod crash;
mod damage;
mod durability;
mod limits;
mod reading;
mod records;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};

use crate::record::{BarRecord, ModelName, Outcome, PredictionRecord, Record, SnapshotRecord};
use crate::sim::{Seeded, SimFileSystem};
use crate::{Entry, OpenError, ReadError, Recovery, Spool, SpoolOptions};

const DIR: &str = "data/spool";

/// How often a random test runs; `STORE_TEST_FACTOR` multiplies it.
fn cases(count: u64) -> u64 {
    let factor = std::env::var("STORE_TEST_FACTOR").map_or(1, |text| {
        text.parse().expect("STORE_TEST_FACTOR is a whole number") // read from the caller's own environment
    });
    count * factor
}

/// Small segments, and no sync but on demand, so that a test decides when.
fn options(fs: &SimFileSystem) -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 4096,
        limit_bytes: 1 << 20,
        sync_interval: Duration::from_secs(3600),
        file_system: Arc::new(fs.clone()),
        ..SpoolOptions::default()
    }
}

fn open(fs: &SimFileSystem) -> (Spool, Recovery) {
    try_open(fs).unwrap()
}

fn try_open(fs: &SimFileSystem) -> Result<(Spool, Recovery), OpenError> {
    Spool::open(Path::new(DIR), options(fs))
}

fn log_path(first: u64) -> PathBuf {
    Path::new(DIR).join(format!("{first:020}.log"))
}

fn key() -> StreamKey {
    StreamKey { symbol: Symbol::new("BTC-USD").unwrap(), timeframe: Timeframe::from_seconds(3600).unwrap() }
}

fn bar(n: u64) -> Record {
    let close = 100.0 + n as f64;
    Record::Bar(BarRecord {
        received_at: Timestamp(n as i64),
        bar: Bar {
            key: key(),
            open_time: Timestamp::from_seconds(3600 * n as i64),
            open: 100.0,
            high: close + 1.0,
            low: 99.0,
            close,
            volume: 1.5,
            is_final: true,
            revision: 0,
        },
        backfill: false,
    })
}

fn model() -> ModelName {
    ModelName { name: "lstm-btc".to_owned(), version: "3".to_owned() }
}

fn prediction(seq: u64) -> Record {
    Record::Prediction(PredictionRecord {
        seq,
        key: key(),
        model: model(),
        model_digest: [7; 32],
        open_time: Timestamp::from_seconds(3600 * seq as i64),
        revision: 0,
        made_at: Timestamp(seq as i64),
        outcome: Outcome::Values(vec![seq as f32 * 0.5, -0.0]),
        recovered: false,
        revised: false,
        shadow: false,
        device: "cpu".to_owned(),
        uncertainty: None,
    })
}

fn snapshot(bar_position: u64, state: Vec<u8>) -> Record {
    Record::Snapshot(SnapshotRecord {
        key: key(),
        model: model(),
        features_digest: [9; 32],
        bar_position,
        state,
    })
}

/// Of any kind but `Gap`; `n` makes it unlike all others.
fn any_record(random: &mut Seeded, n: u64) -> Record {
    match random.below(5) {
        0 | 1 => bar(n),
        2 | 3 => prediction(n),
        _ => {
            let length = random.below(700);
            snapshot(n, (0..length).map(|_| random.draw() as u8).collect())
        }
    }
}

fn read_all(spool: &Spool) -> Vec<Entry> {
    spool.read(0).collect::<Result<Vec<_>, ReadError>>().unwrap()
}
