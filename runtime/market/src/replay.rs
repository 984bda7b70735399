//! Recorded bars as they would have arrived: several streams merged by close time, and paced.
//!
//! Nothing here sleeps or looks at a clock: a batch says when it is due, and the caller waits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use crate::bar::{Bar, StreamKey};
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Everything is due at once.
    AsFast,
    /// So many times as fast as it was recorded.
    Times(f64),
    /// Evenly, whatever the times of the bars.
    BarsPerSecond(f64),
}

/// All bars that close at one instant, in the order of the streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub close_time: Timestamp,
    /// After the start of the replay.
    pub due: Duration,
    pub bars: Vec<Bar>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ReplayError {
    Speed(f64),
    /// Bar `at` of a stream is not after the bar before it.
    Order {
        key: StreamKey,
        at: usize,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Speed(speed) => write!(f, "replay speed {speed} must be finite and above zero"),
            ReplayError::Order { key, at } => {
                write!(f, "bar {at} of {key} does not close after the one before; sort them")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

/// Yields batches in order of close time.
#[derive(Debug)]
pub struct Replay {
    streams: Vec<Peekable<IntoIter<Bar>>>,
    /// (close time, stream) of the next bar of each stream that has one.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    speed: Speed,
    first: Option<Timestamp>,
    yielded: u64,
}

impl Replay {
    /// Each stream in order of time; different streams may be of different timeframes.
    pub fn new(streams: Vec<Vec<Bar>>, speed: Speed) -> Result<Self, ReplayError> {
        match speed {
            Speed::Times(x) | Speed::BarsPerSecond(x) if !x.is_finite() || x <= 0.0 => {
                return Err(ReplayError::Speed(x));
            }
            Speed::AsFast | Speed::Times(_) | Speed::BarsPerSecond(_) => {}
        }
        for bars in &streams {
            if let Some(at) = bars.windows(2).position(|w| w[1].close_time() <= w[0].close_time()) {
                return Err(ReplayError::Order { key: bars[at + 1].key.clone(), at: at + 1 });
            }
        }
        let mut streams: Vec<_> = streams.into_iter().map(|bars| bars.into_iter().peekable()).collect();
        let heads: BinaryHeap<_> = streams
            .iter_mut()
            .enumerate()
            .filter_map(|(at, bars)| bars.peek().map(|bar| Reverse((bar.close_time(), at))))
            .collect();
        let first = heads.peek().map(|Reverse((time, _))| *time);
        Ok(Replay { streams, heads, speed, first, yielded: 0 })
    }

    /// Bars that are still to come.
    pub fn remaining(&self) -> usize {
        self.streams.iter().map(ExactSizeIterator::len).sum()
    }

    /// How long to wait for the next batch when so much time has passed since the start; None at the end.
    pub fn wait(&self, elapsed: Duration) -> Option<Duration> {
        let Reverse((close_time, _)) = self.heads.peek()?;
        Some(self.due(*close_time).saturating_sub(elapsed))
    }

    fn due(&self, close_time: Timestamp) -> Duration {
        let seconds = match self.speed {
            Speed::AsFast => 0.0,
            Speed::Times(times) => {
                let first = self.first.unwrap_or(close_time);
                (i128::from(close_time.0) - i128::from(first.0)) as f64 / 1e9 / times
            }
            Speed::BarsPerSecond(rate) => self.yielded as f64 / rate,
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Iterator for Replay {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let Reverse((close_time, _)) = *self.heads.peek()?;
        let due = self.due(close_time);
        let mut bars = Vec::new();
        while let Some(&Reverse((time, at))) = self.heads.peek() {
            if time != close_time {
                break;
            }
            self.heads.pop();
            bars.extend(self.streams[at].next());
            if let Some(bar) = self.streams[at].peek() {
                self.heads.push(Reverse((bar.close_time(), at)));
            }
        }
        self.yielded += bars.len() as u64;
        Some(Batch { close_time, due, bars })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bar::{Symbol, Timeframe};

    /// Bars of a stream at these open minutes.
    fn stream(name: &str, timeframe: &str, minutes: &[i64]) -> Vec<Bar> {
        let key = StreamKey {
            symbol: Symbol::new(name).expect("symbol"),
            timeframe: Timeframe::parse(timeframe).expect("timeframe"),
        };
        let bar = |&minute: &i64| Bar {
            key: key.clone(),
            open_time: Timestamp::from_seconds(60 * minute),
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
            is_final: true,
            revision: 0,
        };
        minutes.iter().map(bar).collect()
    }

    fn show(replay: Replay) -> Vec<String> {
        replay
            .map(|b| {
                let names: Vec<&str> = b.bars.iter().map(|x| x.key.symbol.as_str()).collect();
                format!("{}m {:?} {}", b.close_time.0 / 60_000_000_000, b.due, names.join("+"))
            })
            .collect()
    }

    #[test]
    fn bars_come_together_when_they_close_together() {
        let streams = || vec![stream("A", "5m", &[0, 5, 15]), stream("B", "1m", &[4, 8, 9]), Vec::new()];
        let replay = Replay::new(streams(), Speed::Times(60.0)).expect("replay");
        assert_eq!(replay.remaining(), 6);
        assert_eq!(show(replay), ["5m 0ns A+B", "9m 4s B", "10m 5s A+B", "20m 15s A"]);
        let replay = Replay::new(streams(), Speed::BarsPerSecond(2.0)).expect("replay");
        assert_eq!(show(replay), ["5m 0ns A+B", "9m 1s B", "10m 1.5s A+B", "20m 2.5s A"]);
        let replay = Replay::new(streams(), Speed::AsFast).expect("replay");
        assert!(show(replay).iter().all(|line| line.contains(" 0ns ")));
    }

    #[test]
    fn says_how_long_to_wait() {
        let mut replay = Replay::new(vec![stream("A", "1m", &[0, 1])], Speed::Times(1.0)).expect("replay");
        assert_eq!(replay.wait(Duration::ZERO), Some(Duration::ZERO));
        replay.next();
        assert_eq!(replay.wait(Duration::from_secs(20)), Some(Duration::from_secs(40)));
        assert_eq!(replay.wait(Duration::from_secs(90)), Some(Duration::ZERO));
        replay.next();
        assert_eq!(replay.wait(Duration::ZERO), None);
    }

    #[test]
    fn refuses_bad_speeds_and_disorder() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Replay::new(Vec::new(), Speed::Times(speed)), Err(ReplayError::Speed(_))));
            assert!(matches!(
                Replay::new(Vec::new(), Speed::BarsPerSecond(speed)),
                Err(ReplayError::Speed(_))
            ));
        }
        let twice = stream("A", "1m", &[0, 0]);
        assert!(matches!(Replay::new(vec![twice], Speed::AsFast), Err(ReplayError::Order { at: 1, .. })));
    }

    proptest! {
        #[test]
        fn every_bar_comes_once_in_order(minutes in prop::collection::vec(prop::collection::btree_set(0i64..40, 0..20), 0..5)) {
            let streams: Vec<Vec<Bar>> = minutes
                .iter()
                .enumerate()
                .map(|(i, m)| stream(&format!("S{i}"), if i % 2 == 0 { "1m" } else { "3m" }, &m.iter().copied().collect::<Vec<_>>()))
                .collect();
            let mut expect: Vec<(Timestamp, String)> =
                streams.iter().flatten().map(|b| (b.close_time(), b.key.symbol.to_string())).collect();
            expect.sort();
            let batches: Vec<Batch> = Replay::new(streams, Speed::Times(2.0)).expect("replay").collect();
            prop_assert!(batches.windows(2).all(|w| w[0].close_time < w[1].close_time && w[0].due < w[1].due));
            let got: Vec<(Timestamp, String)> = batches
                .iter()
                .flat_map(|batch| batch.bars.iter().map(|b| (batch.close_time, b.key.symbol.to_string())))
                .collect();
            prop_assert_eq!(got, expect);
        }
    }
}
