//! How fast the spool is on this disk: `cargo run --release -p store --example spool_speed -- [folder]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};
use store::{
    BarRecord, DurabilityMode, ModelName, Outcome, PredictionRecord, Record, Spool, SpoolOptions,
    disk_sync_time,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("spool-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let sync = disk_sync_time(dir)?;
    println!(
        "disk sync, 4 KiB             min {:?}  median {:?}  max {:?}  ({} syncs)",
        sync.shortest, sync.median, sync.longest, sync.count
    );
    append_alone(dir, "no sync behind", Duration::from_secs(3600))?;
    append_alone(dir, "not waiting   ", SpoolOptions::default().sync_interval)?;
    append_and_wait(dir)?;
    append_synced(dir)?;
    for batch in [1, 64, 1000] {
        group_commit(dir, batch)?;
    }
    begin_segments(dir)?;
    recovery(dir)
}

fn open(dir: &Path, name: &str, durability: DurabilityMode) -> Result<Spool, Box<dyn std::error::Error>> {
    let options = SpoolOptions { durability, ..SpoolOptions::default() };
    Ok(Spool::open(&dir.join(name), options)?.0)
}

/// A bar and its prediction every half millisecond, as a feed sends them.
fn append_alone(dir: &Path, what: &str, sync_interval: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let options = SpoolOptions { sync_interval, ..SpoolOptions::default() };
    let mut spool = Spool::open(&dir.join(what.trim()), options)?.0;
    let mut times = Vec::new();
    let start = Instant::now();
    for n in 0..10_000u64 {
        while start.elapsed() < Duration::from_micros(500) * n as u32 {
            std::hint::spin_loop();
        }
        let batch = [bar(n), prediction(n)];
        let before = Instant::now();
        spool.append(&batch)?;
        times.push(before.elapsed());
    }
    let syncs = spool.stats().syncs.syncs;
    let slow = times.iter().filter(|time| **time > Duration::from_millis(1)).count();
    println!("append of 2, {what}  {}  ({slow} over 1 ms; {syncs} syncs)", quantiles(&mut times));
    Ok(())
}

fn append_and_wait(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut spool = open(dir, "wait", DurabilityMode::Written)?;
    let mut times = Vec::new();
    for n in 0..500 {
        let batch = [bar(n), prediction(n)];
        let before = Instant::now();
        spool.append(&batch)?.wait()?;
        times.push(before.elapsed());
    }
    println!("append of 2 and its sync     {}", quantiles(&mut times));
    Ok(())
}

fn append_synced(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut spool = open(dir, "synced", DurabilityMode::Synced)?;
    let mut times = Vec::new();
    for n in 0..500 {
        let batch = [bar(n), prediction(n)];
        let before = Instant::now();
        spool.append(&batch)?;
        times.push(before.elapsed());
    }
    println!("append of 2, mode synced     {}", quantiles(&mut times));
    Ok(())
}

/// As fast as it goes, with at most one sync's worth of batches not yet durable.
fn group_commit(dir: &Path, batch: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut spool = open(dir, &format!("group-{batch}"), DurabilityMode::Written)?;
    let start = Instant::now();
    let mut records = 0;
    let mut waiting = spool.append(&[])?;
    while start.elapsed() < Duration::from_secs(3) {
        let from = Instant::now();
        let mut last = None;
        while from.elapsed() < Duration::from_millis(5) {
            let batch: Vec<Record> = (records..records + batch).map(prediction).collect();
            records += batch.len() as u64;
            last = Some(spool.append(&batch)?);
        }
        waiting.wait()?;
        waiting = last.unwrap_or(waiting);
    }
    waiting.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    let stats = spool.stats();
    println!(
        "group commit, batches of {batch:<4} {:>9.0} records/s  {:.0} MB/s  {:.0} syncs/s",
        records as f64 / seconds,
        stats.used_bytes as f64 / 1e6 / seconds,
        stats.syncs.syncs as f64 / seconds
    );
    Ok(())
}

/// What an append costs that begins a segment.
fn begin_segments(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let options = SpoolOptions { segment_bytes: 16 << 10, ..SpoolOptions::default() };
    let mut spool = Spool::open(&dir.join("segments"), options)?.0;
    let batch: Vec<Record> = (0..100).map(bar).collect();
    let mut times = Vec::new();
    for _ in 0..100 {
        let segments = spool.stats().segments;
        let before = Instant::now();
        spool.append(&batch)?;
        if spool.stats().segments > segments {
            times.push(before.elapsed());
        }
    }
    println!("append that begins a segment {}", quantiles(&mut times));
    Ok(())
}

fn recovery(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut spool = open(dir, "recovery", DurabilityMode::Written)?;
    let batch: Vec<Record> = (0..500).flat_map(|n| [bar(n), prediction(n)]).collect();
    for _ in 0..2000 {
        spool.append(&batch)?;
    }
    spool.close()?;
    let (spool, recovery) = Spool::open(&dir.join("recovery"), SpoolOptions::default())?;
    let megabytes = recovery.scanned_bytes as f64 / 1e6;
    println!(
        "recovery scan                {:.0} MB, {} records in {:?}: {:.0} MB/s",
        megabytes,
        recovery.records,
        recovery.took,
        megabytes / recovery.took.as_secs_f64()
    );
    let start = Instant::now();
    let mut count = 0u64;
    for entry in spool.read(0) {
        entry?;
        count += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "reading it all, decoded      {:.0} MB/s, {:.0} records/s",
        megabytes / seconds,
        count as f64 / seconds
    );
    Ok(())
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}  p99 {:?}  max {:?}", at(0.5), at(0.99), at(1.0))
}

fn key() -> StreamKey {
    let symbol = Symbol::new("BTC-USD").expect("a good symbol");
    StreamKey { symbol, timeframe: Timeframe::from_seconds(60).expect("a good timeframe") }
}

fn bar(n: u64) -> Record {
    Record::Bar(BarRecord {
        received_at: Timestamp(n as i64),
        bar: Bar {
            key: key(),
            open_time: Timestamp::from_seconds(60 * n as i64),
            open: 100.0,
            high: 102.0,
            low: 99.0,
            close: 101.0,
            volume: 12.5,
            is_final: true,
            revision: 0,
        },
        backfill: false,
    })
}

fn prediction(n: u64) -> Record {
    Record::Prediction(PredictionRecord {
        seq: n + 1,
        key: key(),
        model: ModelName { name: "lstm-btc".to_owned(), version: "3".to_owned() },
        model_digest: [7; 32],
        open_time: Timestamp::from_seconds(60 * n as i64),
        revision: 0,
        made_at: Timestamp(n as i64),
        outcome: Outcome::Values(vec![0.25]),
        recovered: false,
        revised: false,
        shadow: false,
        device: "cpu".to_owned(),
        uncertainty: None,
    })
}
