//! What a plugin costs: time on this machine, and instructions, which are the same everywhere.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use graph::Limits;
use market::Features;
use serde_json::Map;

use crate::architecture::{Architecture, Dimensions};
use crate::features::FeaturePlugin;
use crate::host::{Component, Host};
use crate::inspect::PluginError;
use crate::survey::World;
use crate::synthetic::synthetic_bars;

const SEED: u64 = 1;
const BARS: usize = 20_000;
const BATCH_BARS: usize = 1_000;
const BUILDS: usize = 50;
const SIZE: Dimensions = Dimensions { window: 60, features: 8, outputs: 1 };

#[derive(Clone, Debug, PartialEq)]
pub enum Bench {
    Features(FeaturesBench),
    Architecture(ArchitectureBench),
}

/// Options are at their defaults; times are in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturesBench {
    pub bar_median_ns: u64,
    pub bar_p99_ns: u64,
    /// Of one bar in a batch of 1,000.
    pub batch_bar_ns: u64,
    pub snapshot_bytes: usize,
    pub rebuild_ns: u64,
    /// Of one `on-bar` after the warm-up; the most of them.
    pub bar_fuel: u64,
    /// Of one bar in a batch of 1,000.
    pub batch_bar_fuel: u64,
    pub memory_bytes_peak: usize,
}

/// For a window of 60 bars of 8 features and one output, with instantiation.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchitectureBench {
    pub build_median_ns: u64,
    pub build_max_ns: u64,
    pub nodes: usize,
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bench::Features(costs) => write!(f, "{costs}"),
            Bench::Architecture(costs) => write!(f, "{costs}"),
        }
    }
}

impl fmt::Display for FeaturesBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = |ns: u64| ns as f64 / 1e3;
        writeln!(
            f,
            "one bar       median {:.2} µs, p99 {:.2} µs",
            micro(self.bar_median_ns),
            micro(self.bar_p99_ns)
        )?;
        writeln!(f, "in batches    {:.3} µs per bar", micro(self.batch_bar_ns))?;
        writeln!(f, "fuel          {} per bar, {} per bar in batches", self.bar_fuel, self.batch_bar_fuel)?;
        writeln!(f, "memory        {} KiB at most", self.memory_bytes_peak >> 10)?;
        writeln!(f, "snapshot      {} bytes", self.snapshot_bytes)?;
        write!(f, "new instance  {:.1} µs", micro(self.rebuild_ns))
    }
}

impl fmt::Display for ArchitectureBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = |ns: u64| ns as f64 / 1e3;
        let (median, max) = (micro(self.build_median_ns), micro(self.build_max_ns));
        write!(f, "one build     median {median:.1} µs, at most {max:.1} µs, for {} nodes", self.nodes)
    }
}

/// Runs the plugin on made-up bars for a second or so.
pub fn bench(host: &Host, path: &Path) -> Result<Bench, PluginError> {
    let component = host.load(path)?;
    match component.world() {
        World::Features => {
            let metered = host.metered()?.load(path)?;
            bench_features(&component, &metered).map(Bench::Features)
        }
        World::Architecture => bench_architecture(&component).map(Bench::Architecture),
    }
}

fn bench_features(component: &Component, metered: &Component) -> Result<FeaturesBench, PluginError> {
    let mut plugin = FeaturePlugin::new(component, &Map::new())?;
    let bars = synthetic_bars(SEED, plugin.spec().warmup + BARS);
    let stream = plugin.open()?;
    let mut row = Vec::new();
    let mut times_ns = Vec::with_capacity(bars.len());
    for bar in &bars {
        let start = Instant::now();
        plugin.on_bar(stream, bar, &mut row)?;
        times_ns.push(elapsed_ns(start));
    }
    let times_ns = &mut times_ns[plugin.spec().warmup..];
    times_ns.sort_unstable();
    let snapshot_bytes = plugin.snapshot(stream)?.len();

    let stream = plugin.open()?;
    let mut rows = Vec::new();
    let start = Instant::now();
    for batch in bars.chunks(BATCH_BARS) {
        rows.clear();
        plugin.on_bars(stream, batch, &mut rows)?;
    }
    let batch_bar_ns = elapsed_ns(start) / bars.len() as u64;
    let memory_bytes_peak = plugin.memory_bytes_peak();
    let start = Instant::now();
    plugin.rebuild()?;
    let rebuild_ns = elapsed_ns(start);
    let (bar_fuel, batch_bar_fuel) = fuel(metered)?;
    Ok(FeaturesBench {
        bar_median_ns: times_ns[times_ns.len() / 2],
        bar_p99_ns: times_ns[times_ns.len() * 99 / 100],
        batch_bar_ns,
        snapshot_bytes,
        rebuild_ns,
        bar_fuel,
        batch_bar_fuel,
        memory_bytes_peak,
    })
}

/// Of a single bar and of one in a batch.
fn fuel(metered: &Component) -> Result<(u64, u64), PluginError> {
    let mut plugin = FeaturePlugin::new(metered, &Map::new())?;
    let warmup = plugin.spec().warmup;
    let bars = synthetic_bars(SEED, warmup + 2 * BATCH_BARS);
    let stream = plugin.open()?;
    let mut rows = Vec::new();
    let mut most = 0;
    for (i, bar) in bars[..warmup + BATCH_BARS].iter().enumerate() {
        plugin.on_bar(stream, bar, &mut rows)?;
        if i >= warmup {
            most = most.max(plugin.fuel_used());
        }
    }
    plugin.on_bars(stream, &bars[warmup + BATCH_BARS..], &mut rows)?;
    Ok((most, plugin.fuel_used() / BATCH_BARS as u64))
}

fn bench_architecture(component: &Component) -> Result<ArchitectureBench, PluginError> {
    let architecture = Architecture::new(component)?;
    let mut times_ns = Vec::with_capacity(BUILDS);
    let mut nodes = 0;
    for _ in 0..BUILDS {
        let start = Instant::now();
        nodes = architecture.build(&Map::new(), SIZE, &Limits::default())?.nodes.len();
        times_ns.push(elapsed_ns(start));
    }
    times_ns.sort_unstable();
    Ok(ArchitectureBench { build_median_ns: times_ns[BUILDS / 2], build_max_ns: times_ns[BUILDS - 1], nodes })
}

fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
