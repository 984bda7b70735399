//! Made-up bars for checks that need no data: a seeded random walk with the oddities of real bars.

use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below 1, not below 0.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `n`, which is above 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Hourly bars that pass [`Bar::check`]. About one in fifty is flat and without volume, one in a hundred
/// jumps, one in a hundred comes after a gap in time.
pub fn synthetic_bars(seed: u64, count: usize) -> Vec<Bar> {
    let Some(key) = synthetic_key() else { return Vec::new() };
    let mut random = Random::new(seed);
    let mut time_ns = 1_600_000_000_000_000_000i64;
    let mut price = 100.0;
    let mut bars = Vec::with_capacity(count);
    for _ in 0..count {
        let gap_bars = if random.below(100) == 0 { 2 + random.below(50) as i64 } else { 1 };
        time_ns += gap_bars * key.timeframe.nanos();
        let bar = next_bar(&mut random, &key, time_ns, price);
        price = bar.close;
        bars.push(bar);
    }
    bars
}

fn synthetic_key() -> Option<StreamKey> {
    Some(StreamKey { symbol: Symbol::new("SYNTHETIC").ok()?, timeframe: Timeframe::from_seconds(3_600)? })
}

fn next_bar(random: &mut Random, key: &StreamKey, time_ns: i64, price: f64) -> Bar {
    let scale = if random.below(100) == 0 { 0.2 } else { 0.01 };
    let step = |random: &mut Random, scale: f64| (scale * (random.unit() - 0.5)).exp();
    let flat = random.below(50) == 0;
    let open = if flat { price } else { price * step(random, scale / 4.0) };
    // Drawn back towards 100, so that it stays in range over any length.
    let close = if flat { price } else { open * step(random, scale) * (100.0 / open).powf(0.001) };
    let reach = |random: &mut Random| if flat { 0.0 } else { 0.005 * random.unit() };
    let high = open.max(close) * (1.0 + reach(random));
    let low = open.min(close) * (1.0 - reach(random));
    let volume = if flat { 0.0 } else { (random.unit() * 8.0).exp() };
    Bar {
        key: key.clone(),
        open_time: Timestamp(time_ns),
        open,
        high,
        low,
        close,
        volume,
        is_final: true,
        revision: 0,
    }
}

/// The same bars up to and with `last`, another market after it.
pub(crate) fn with_other_future(bars: &[Bar], last: usize, seed: u64) -> Vec<Bar> {
    let mut random = Random::new(seed);
    let mut other = bars.to_vec();
    for bar in other.iter_mut().skip(last + 1) {
        let factor = (3.0 * (random.unit() - 0.5)).exp();
        (bar.open, bar.close) = (bar.close * factor, bar.open * factor);
        (bar.high, bar.low) = (bar.high * factor * 1.01, bar.low * factor * 0.99);
        bar.volume = (bar.volume + 1.0) * (4.0 * random.unit()).exp();
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_valid_and_the_same_for_a_seed() {
        let bars = synthetic_bars(7, 20_000);
        assert_eq!(bars, synthetic_bars(7, 20_000));
        assert_ne!(bars, synthetic_bars(8, 20_000));
        for bar in &bars {
            bar.check().expect("valid");
        }
        assert!(bars.windows(2).all(|pair| pair[0].open_time < pair[1].open_time));
        assert!(bars.iter().any(|bar| bar.volume == 0.0 && bar.high == bar.low));
        assert!(bars.windows(2).any(|pair| pair[1].open_time.0 - pair[0].open_time.0 > 7_200_000_000_000));
    }

    #[test]
    fn another_future_leaves_the_past_alone() {
        let bars = synthetic_bars(7, 100);
        let other = with_other_future(&bars, 40, 1);
        assert_eq!(other[..=40], bars[..=40]);
        assert!(other[41..].iter().zip(&bars[41..]).all(|(a, b)| a.close != b.close && a.volume != b.volume));
        assert!(other.iter().all(|bar| bar.check().is_ok()));
    }
}
