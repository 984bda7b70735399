//! How long this disk takes to make a small write durable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const SYNCS_MAX: usize = 64;
const TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncTimes {
    pub count: usize,
    pub shortest: Duration,
    pub median: Duration,
    pub longest: Duration,
}

/// Appends 4 KiB and syncs, up to 64 times or one second, in a file that it removes again.
pub fn disk_sync_time(dir: &Path) -> io::Result<SyncTimes> {
    let path = dir.join(format!("sync-probe-{}.tmp", std::process::id()));
    let file = File::options().write(true).create_new(true).open(&path)?;
    let measured = measure(&file);
    std::fs::remove_file(&path)?;
    measured
}

fn measure(file: &File) -> io::Result<SyncTimes> {
    let block = [0x5A; 4096];
    let start = Instant::now();
    let mut times = Vec::with_capacity(SYNCS_MAX);
    while times.len() < SYNCS_MAX && (start.elapsed() < TIME_MAX || times.is_empty()) {
        file.write_all_at(&block, 4096 * times.len() as u64)?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(SyncTimes {
        count: times.len(),
        shortest: times[0],
        median: times[times.len() / 2],
        longest: times[times.len() - 1],
    })
}
