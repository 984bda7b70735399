//! Checks that a feature source is what it must be: a function of the bars that its stream has seen, and of
//! nothing else, to the bit.
//!
//! What it can't show: a row after the warm-up may still depend on where the stream began, as that of any
//! exponential mean does. The warm-up is only checked for what it promises, finite numbers after it. Trades,
//! books, texts and peers are not fed.

use std::fmt;

use market::{Bar, FeatureError, Features, StreamId};

pub use crate::synthetic::synthetic_bars;
use crate::synthetic::{Random, with_other_future};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The plain run that the others are compared with.
    Plain,
    /// The same bars again, in a stream of the same instance.
    Replay,
    /// The same bars again, in a new instance.
    Rebuild,
    /// Other bars after the row's.
    LookAhead,
    /// Many bars in one call.
    Batch,
    /// Another stream beside it.
    Isolation,
    /// From a snapshot.
    Snapshot,
    /// After the warm-up.
    Finite,
}

impl Check {
    fn blames(self) -> &'static str {
        match self {
            Check::Plain => "it fails on plain bars",
            Check::Replay => {
                "the same bars give other rows the second time: it keeps state outside of its stream"
            }
            Check::Rebuild => "a new instance gives other rows for the same bars",
            Check::LookAhead => "it looks ahead: the row changes when only later bars do",
            Check::Batch => "on-bars gives another row than on-bar",
            Check::Isolation => "a second stream changes the rows of the first",
            Check::Snapshot => {
                "the row differs after snapshot and restore: the snapshot lacks some of its state"
            }
            Check::Finite => "the row is not finite after the warm-up that its spec states",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum CausalityError {
    /// A row isn't what it must be.
    Differs {
        check: Check,
        plugin: String,
        column: String,
        /// The row's index, from the stream's first bar.
        bar: usize,
        expected: f32,
        got: f32,
    },
    /// The source itself failed.
    Failed { check: Check, error: FeatureError },
    /// The check needs more bars than these.
    TooFewBars { bars: usize, needed: usize },
}

impl fmt::Display for CausalityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CausalityError::Differs { check, plugin, column, bar, expected, got } => {
                write!(f, "plugin {plugin}: {} (column {column}, bar {bar}: ", check.blames())?;
                if check == &Check::Finite {
                    write!(f, "{got})")
                } else {
                    // Different bits may print alike.
                    let (a, b) = (expected.to_bits(), got.to_bits());
                    write!(f, "{expected} before, {got} now; bits {a:08x} and {b:08x})")
                }
            }
            CausalityError::Failed { check, error } => write!(f, "{error} (while checking: {check:?})"),
            CausalityError::TooFewBars { bars, needed } => {
                write!(f, "the causality check needs at least {needed} bars, not {bars}")
            }
        }
    }
}

impl std::error::Error for CausalityError {}

const BARS_AFTER_WARMUP_MIN: usize = 32;

/// The check that every feature source passes when it is registered. Needs no data and takes under a second.
pub fn check_synthetic(source: &mut dyn Features) -> Result<(), CausalityError> {
    const SEED: u64 = 0x5eed;
    const BARS_AFTER_WARMUP: usize = 1_200;
    const ROUNDS: usize = 6;
    let bars = synthetic_bars(SEED, source.spec().warmup.saturating_add(BARS_AFTER_WARMUP));
    check_causality(source, &bars, SEED, ROUNDS)
}

/// Runs all checks, `rounds` times each with other cuts. The source must have no open streams: it is rebuilt.
pub fn check_causality(
    source: &mut dyn Features,
    bars: &[Bar],
    seed: u64,
    rounds: usize,
) -> Result<(), CausalityError> {
    let needed = source.spec().warmup.saturating_add(BARS_AFTER_WARMUP_MIN);
    if bars.len() < needed {
        return Err(CausalityError::TooFewBars { bars: bars.len(), needed });
    }
    let mut run = Run { source, random: Random::new(seed) };
    let plain = run.one_by_one(Check::Plain, bars)?;
    run.finite(&plain)?;
    for _ in 0..rounds.max(1) {
        run.look_ahead(bars, &plain)?;
        run.batch(bars, &plain)?;
        run.isolation(bars, &plain)?;
        run.snapshot(bars, &plain)?;
    }
    let again = run.one_by_one(Check::Replay, bars)?;
    run.compare(Check::Replay, &plain, &again)?;
    run.source.rebuild().map_err(|error| CausalityError::Failed { check: Check::Rebuild, error })?;
    let again = run.one_by_one(Check::Rebuild, bars)?;
    run.compare(Check::Rebuild, &plain, &again)
}

struct Run<'a> {
    source: &'a mut dyn Features,
    random: Random,
}

impl Run<'_> {
    fn attempt<T>(
        &mut self,
        check: Check,
        call: impl FnOnce(&mut dyn Features) -> Result<T, FeatureError>,
    ) -> Result<T, CausalityError> {
        call(&mut *self.source).map_err(|error| CausalityError::Failed { check, error })
    }

    fn columns(&self) -> usize {
        self.source.spec().names.len()
    }

    fn feed(&mut self, check: Check, stream: StreamId, bars: &[Bar]) -> Result<Vec<f32>, CausalityError> {
        let mut rows = Vec::with_capacity(bars.len() * self.columns());
        let mut row = Vec::new();
        for bar in bars {
            self.attempt(check, |source| source.on_bar(stream, bar, &mut row))?;
            rows.extend_from_slice(&row);
        }
        Ok(rows)
    }

    fn one_by_one(&mut self, check: Check, bars: &[Bar]) -> Result<Vec<f32>, CausalityError> {
        let stream = self.attempt(check, |source| source.open())?;
        let rows = self.feed(check, stream, bars)?;
        self.source.close(stream);
        Ok(rows)
    }

    /// Through `on_bars`, cut at these places.
    fn in_chunks(&mut self, check: Check, bars: &[Bar], cuts: &[usize]) -> Result<Vec<f32>, CausalityError> {
        let stream = self.attempt(check, |source| source.open())?;
        let mut rows = Vec::new();
        let mut start = 0;
        for &end in cuts.iter().chain([&bars.len()]) {
            self.attempt(check, |source| source.on_bars(stream, &bars[start..end], &mut rows))?;
            start = end;
        }
        self.source.close(stream);
        Ok(rows)
    }

    /// Sorted; sometimes none, sometimes many, an empty chunk here and there.
    fn cuts(&mut self, length: usize) -> Vec<usize> {
        let count = [0, 1, 3, 10, length / 8][self.random.below(5)];
        let mut cuts: Vec<usize> = (0..count).map(|_| self.random.below(length + 1)).collect();
        cuts.sort_unstable();
        cuts
    }

    /// Bits of the rows that both have, up to the shorter.
    fn compare(&self, check: Check, expected: &[f32], got: &[f32]) -> Result<(), CausalityError> {
        let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        let Some(at) = expected.iter().zip(got).position(differs) else { return Ok(()) };
        Err(self.differs(check, at, expected[at], got[at]))
    }

    fn differs(&self, check: Check, at: usize, expected: f32, got: f32) -> CausalityError {
        let spec = self.source.spec();
        let columns = spec.names.len();
        CausalityError::Differs {
            check,
            plugin: spec.plugin.clone(),
            column: spec.names[at % columns].clone(),
            bar: at / columns,
            expected,
            got,
        }
    }

    fn finite(&self, rows: &[f32]) -> Result<(), CausalityError> {
        let first = self.source.spec().warmup * self.columns();
        match rows.iter().enumerate().skip(first).find(|(_, x)| !x.is_finite()) {
            Some((at, &x)) => Err(self.differs(Check::Finite, at, x, x)),
            None => Ok(()),
        }
    }

    fn look_ahead(&mut self, bars: &[Bar], plain: &[f32]) -> Result<(), CausalityError> {
        let last = self.random.below(bars.len() - 1);
        let other = with_other_future(bars, last, self.random.next());
        let past = (last + 1) * self.columns();
        // A cut right after the last bar would hide the future from a batch.
        let mut cuts = self.cuts(bars.len());
        cuts.retain(|&cut| cut != last + 1);
        let rows = self.in_chunks(Check::LookAhead, bars, &cuts)?;
        let changed = self.in_chunks(Check::LookAhead, &other, &cuts)?;
        self.compare(Check::LookAhead, &rows[..past], &changed[..past])?;
        let changed = self.one_by_one(Check::LookAhead, &other)?;
        self.compare(Check::LookAhead, &plain[..past], &changed[..past])
    }

    fn batch(&mut self, bars: &[Bar], plain: &[f32]) -> Result<(), CausalityError> {
        let cuts = self.cuts(bars.len());
        let rows = self.in_chunks(Check::Batch, bars, &cuts)?;
        self.compare(Check::Batch, plain, &rows)
    }

    fn isolation(&mut self, bars: &[Bar], plain: &[f32]) -> Result<(), CausalityError> {
        let other = with_other_future(bars, 0, self.random.next());
        let first = self.attempt(Check::Isolation, |source| source.open())?;
        let second = self.attempt(Check::Isolation, |source| source.open())?;
        let mut rows = Vec::with_capacity(plain.len());
        let mut start = 0;
        while start < bars.len() {
            let end = (start + 1 + self.random.below(64)).min(bars.len());
            rows.extend(self.feed(Check::Isolation, first, &bars[start..end])?);
            let _ = self.feed(Check::Isolation, second, &other[start..end])?;
            start = end;
        }
        self.source.close(second);
        self.source.close(first);
        self.compare(Check::Isolation, plain, &rows)
    }

    fn snapshot(&mut self, bars: &[Bar], plain: &[f32]) -> Result<(), CausalityError> {
        let check = Check::Snapshot;
        let at = self.random.below(bars.len());
        let stream = self.attempt(check, |source| source.open())?;
        let mut rows = self.feed(check, stream, &bars[..at])?;
        let state = self.attempt(check, |source| source.snapshot(stream))?;
        let restored = self.attempt(check, |source| source.restore(&state))?;
        rows.extend(self.feed(check, restored, &bars[at..])?);
        self.compare(check, plain, &rows)?;
        // Taking a snapshot must change nothing.
        let rest = self.feed(check, stream, &bars[at..])?;
        rows.truncate(at * self.columns());
        rows.extend(rest);
        self.source.close(restored);
        self.source.close(stream);
        self.compare(check, plain, &rows)
    }
}

#[cfg(test)]
mod tests;
