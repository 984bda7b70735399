//! The mock host for native tests: run a feature set, check its contract, record a graph. Not there on wasm.

mod layers;
mod recorder;

pub use recorder::{Built, Recorder};

use crate::architecture::{Architecture, Dimensions};
use crate::features::{Bar, FeatureSet};
use crate::graph::Graph;
use crate::log::{Level, host::LOGS};
use crate::options::Options;
use crate::state::{Reader, Writer};

/// Takes the messages this thread logged since the last call.
pub fn take_logs() -> Vec<(Level, String)> {
    LOGS.with_borrow_mut(std::mem::take)
}

/// `n` hourly bars of a random walk, the same for the same seed, with some flat ones and some without volume.
pub fn random_bars(seed: u64, n: usize) -> Vec<Bar> {
    let mut random = seed.wrapping_mul(2).wrapping_add(1);
    // SplitMix64 (Steele, Lea, Flood 2014), to [0, 1).
    let mut uniform = move || {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut close = 100.0;
    (0..n)
        .map(|i| {
            let flat = uniform() < 0.05;
            let mut step = |size: f64| if flat { 1.0 } else { ((uniform() - 0.5) * size).exp() };
            let open: f64 = close * step(0.002);
            close = open * step(0.02);
            let high = open.max(close) * step(0.01).max(1.0);
            let low = open.min(close) * step(0.01).min(1.0);
            let volume = if flat { 0.0 } else { 1000.0 * uniform() };
            Bar {
                open_time_ns: 1_700_000_000_000_000_000 + i as i64 * 3_600_000_000_000,
                open,
                high,
                low,
                close,
                volume,
            }
        })
        .collect()
}

/// The rows of a new stream, one for each bar.
pub fn rows<T: FeatureSet>(options: &str, bars: &[Bar]) -> Result<Vec<Vec<f32>>, String> {
    let mut set = T::open(&Options::parse(options)?)?;
    bars.iter().map(|bar| row(&mut set, bar)).collect()
}

fn row<T: FeatureSet>(set: &mut T, bar: &Bar) -> Result<Vec<f32>, String> {
    let mut row = Vec::new();
    set.on_bar(bar, &mut row)?;
    Ok(row)
}

/// Checks the contract of a feature set on these bars: unique names, full rows, finite after the warm-up, the
/// batch form and a snapshot taken anywhere give the same bits. Give it at least twice the warm-up.
pub fn check<T: FeatureSet>(options: &str, bars: &[Bar]) -> Result<(), String> {
    let parsed = Options::parse(options)?;
    let spec = T::open(&parsed)?.spec();
    let columns = spec.names.len();
    let warmup = spec.warmup as usize;
    if bars.len() <= warmup {
        return Err(format!("{} bars can't test a warm-up of {warmup}", bars.len()));
    }
    if let Some(name) =
        spec.names.iter().enumerate().find_map(|(i, n)| spec.names[..i].contains(n).then_some(n))
    {
        return Err(format!("two columns are named {name}"));
    }
    let expect = rows::<T>(options, bars)?;
    for (i, row) in expect.iter().enumerate() {
        if row.len() != columns {
            return Err(format!("row {i} has {} numbers, but the spec names {columns}", row.len()));
        }
        if let Some(k) = row.iter().position(|x| !x.is_finite()).filter(|_| i >= warmup) {
            return Err(format!(
                "row {i} is after the warm-up of {warmup}, but {} is {}",
                spec.names[k], row[k]
            ));
        }
    }
    check_batches::<T>(&parsed, bars, &expect)?;
    check_snapshots::<T>(&parsed, bars, &expect)
}

fn check_batches<T: FeatureSet>(options: &Options, bars: &[Bar], expect: &[Vec<f32>]) -> Result<(), String> {
    let mut set = T::open(options)?;
    let mut rows = Vec::new();
    let mut rest = bars;
    for len in (1..).map(|i| 1 + i * i % 17) {
        if rest.is_empty() {
            break;
        }
        let (head, tail) = rest.split_at(len.min(rest.len()));
        set.on_bars(head, &mut rows)?;
        rest = tail;
    }
    match same_bits(&rows, &expect.concat()) {
        true => Ok(()),
        false => Err("on_bars gives other bits than on_bar".into()),
    }
}

fn check_snapshots<T: FeatureSet>(
    options: &Options,
    bars: &[Bar],
    expect: &[Vec<f32>],
) -> Result<(), String> {
    let mut set = T::open(options)?;
    for (i, bar) in bars.iter().enumerate() {
        if i % 13 == 0 || i < 40 {
            let mut to = Writer::new();
            set.snapshot(&mut to);
            let bytes = to.into_bytes();
            set = T::open(options)?;
            let mut from = Reader::new(&bytes);
            set.restore(&mut from)
                .and_then(|()| from.finish())
                .map_err(|e| format!("restore before bar {i}: {e}"))?;
        }
        if !same_bits(&row(&mut set, bar)?, &expect[i]) {
            return Err(format!("after a snapshot and restore row {i} has other bits"));
        }
    }
    Ok(())
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Builds an architecture on the mock builder, which checks shapes as the host does.
pub fn build<T: Architecture>(hyper: &str, dimensions: Dimensions) -> Result<Built, String> {
    let recorder = Recorder::new(dimensions.window, dimensions.features);
    T::build(&Options::parse(hyper)?, dimensions, &Graph::new(&recorder))?;
    recorder.finish(dimensions.outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Spec;

    /// The last two closes' ratio, with a fault to plant.
    struct Ratio<const FAULT: u8> {
        last: Option<f64>,
        forgotten: u64,
    }

    impl<const FAULT: u8> FeatureSet for Ratio<FAULT> {
        fn open(_: &Options) -> Result<Self, String> {
            Ok(Ratio { last: None, forgotten: 0 })
        }
        fn spec(&self) -> Spec {
            Spec::bars(if FAULT == 1 { ["a", "a"] } else { ["a", "b"] }, if FAULT == 2 { 0 } else { 1 })
        }
        fn on_bar(&mut self, bar: &Bar, row: &mut Vec<f32>) -> Result<(), String> {
            self.forgotten += 1;
            let ratio = self.last.replace(bar.close).map_or(f64::NAN, |last| bar.close / last);
            row.push(ratio as f32);
            if FAULT != 3 || !self.forgotten.is_multiple_of(50) {
                row.push(if FAULT == 4 { self.forgotten as f32 } else { 0.5 });
            }
            Ok(())
        }
        fn on_bars(&mut self, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), String> {
            bars.iter().try_for_each(|bar| self.on_bar(bar, rows))?;
            if FAULT == 5 {
                rows[0] = 0.0;
            }
            Ok(())
        }
        crate::state!(last);
    }

    #[test]
    fn each_planted_fault_is_caught() {
        let bars = random_bars(1, 200);
        assert_eq!(check::<Ratio<0>>("{}", &bars), Ok(()));
        assert_eq!(check::<Ratio<1>>("{}", &bars).unwrap_err(), "two columns are named a");
        assert!(
            check::<Ratio<2>>("{}", &bars)
                .unwrap_err()
                .starts_with("row 0 is after the warm-up of 0, but a is NaN")
        );
        assert_eq!(check::<Ratio<3>>("{}", &bars).unwrap_err(), "row 49 has 1 numbers, but the spec names 2");
        assert!(check::<Ratio<4>>("{}", &bars).unwrap_err().contains("snapshot"));
        assert!(check::<Ratio<5>>("{}", &bars).unwrap_err().contains("on_bars"));
        assert_eq!(check::<Ratio<0>>("{}", &bars[..1]).unwrap_err(), "1 bars can't test a warm-up of 1");
    }

    #[test]
    fn random_bars_are_valid_and_repeat() {
        let bars = random_bars(7, 500);
        for bar in &bars {
            assert!(
                bar.low > 0.0 && bar.low <= bar.open.min(bar.close) && bar.high >= bar.open.max(bar.close)
            );
        }
        assert!(bars.iter().any(|bar| bar.volume == 0.0) && bars.iter().any(|bar| bar.volume > 0.0));
        assert_eq!(bars[499].close, random_bars(7, 500)[499].close);
        assert_ne!(bars[499].close, random_bars(8, 500)[499].close);
    }

    #[test]
    fn messages_are_collected() {
        take_logs();
        crate::warn!("{} of {}", 1, 2);
        assert_eq!(take_logs(), [(Level::Warn, "1 of 2".to_owned())]);
        assert_eq!(take_logs(), []);
    }
}
