//! Did a model's loss leave the level of its first outcomes? Page's cumulative sum (1954), two-sided.
//!
//! Losses of one time are one step, steps are averaged in blocks of some horizons, as in [`super::sequential`]. Losses are
//! skewed and have heavy tails, so a block's mean is standardised by ranks: it is the normal score
//! z = Φ⁻¹((R − ½) / n) of its rank R among all n blocks so far, itself included (McDonald 1990, "A CUSUM procedure based
//! on sequential ranks"; ties have their middle rank). While nothing changes such scores are independent of each other
//! and of the losses' distribution if blocks are; what dependence is left (a market's volatility stays high for longer
//! than labels overlap) is taken out by their long-run variance f: s = z / √f (Johnson and Bagshaw 1974), f ≥ 1, measured
//! on the first [`CusumSettings::reference_blocks`] and again at each doubling of their number.
//!
//! up ← max(0, up + s − k), down ← max(0, down − s − k), alarm beyond h, with k half of the shift to be found soonest.
//! In control each side's mean run length is about (e^(2kb) − 2kb − 1) / 2k², b = h + 1.166 (Siegmund 1985);
//! h is what makes the two sides together give [`CusumSettings::run_length_blocks`].

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::blocking::Blocking;
use super::sequential::SettingsError;

/// Later blocks are ranked among so many first ones.
const HISTORY_BLOCKS_MAX: usize = 2048;
/// The mean overshoot of a normal walk at two boundaries, 2 · 0.583.
const OVERSHOOT: f64 = 1.166;
/// A level of blocking counts towards f with so many means.
const LEVEL_BLOCKS_MIN: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CusumSettings {
    /// At least the label's horizon.
    pub block_steps: u32,
    /// Wanted mean number of blocks to an alarm while nothing changes, behind the first `reference_blocks`.
    pub run_length_blocks: f64,
    /// The shift that is to be found soonest, in deviations of a block.
    pub shift: f64,
    /// Blocks before the first alarm can be.
    pub reference_blocks: u32,
}

impl CusumSettings {
    /// For labels over so many bars: blocks of two horizons, or of four steps; one false alarm in 2000 of them.
    pub fn for_horizon(horizon_bars: u32) -> Self {
        CusumSettings {
            block_steps: horizon_bars.saturating_mul(2).max(4),
            run_length_blocks: 2000.0,
            shift: 1.0,
            reference_blocks: 50,
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let bad = |key, expected| Err(SettingsError { key, expected });
        if self.block_steps == 0 {
            return bad("block_steps", "the label's horizon or more");
        }
        if !(self.run_length_blocks >= 10.0 && self.run_length_blocks <= 1e9) {
            return bad("run_length_blocks", "10 to 1e9");
        }
        if !(self.shift >= 0.1 && self.shift <= 4.0) {
            return bad("shift", "0.1 to 4 deviations");
        }
        if !(20..=HISTORY_BLOCKS_MAX as u32).contains(&self.reference_blocks) {
            return bad("reference_blocks", "20 to 2048");
        }
        Ok(())
    }

    /// h, by bisection: the run length rises with it.
    fn threshold(&self) -> f64 {
        let (mut low, mut high) = (0.0, 1000.0);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            // Each side alone runs twice as long as both together.
            if run_length(middle, self.shift / 2.0, 0.0) < 2.0 * self.run_length_blocks {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Mean blocks to the alarm behind a shift of so many deviations, of one side.
    pub fn expected_delay_blocks(&self, shift: f64) -> f64 {
        run_length(self.threshold(), self.shift / 2.0, shift)
    }
}

/// Siegmund's approximation for one side, threshold h, allowance k and scores of this mean.
fn run_length(h: f64, k: f64, mean: f64) -> f64 {
    let (b, drift) = (h + OVERSHOOT, mean - k);
    let x = -2.0 * drift * b;
    if x.abs() < 1e-6 {
        return b * b;
    }
    if x > 700.0 { f64::MAX } else { (x.exp() - x - 1.0) / (2.0 * drift * drift) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Losses became larger.
    Up,
    Down,
}

/// The first alarm; it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    pub side: Side,
    /// The block that it fell with, and the last one at which the sum was still 0: about when the change began.
    pub blocks: u64,
    pub since_blocks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CusumReport {
    pub alarm: Option<Alarm>,
    /// The sums and what they must not pass.
    pub up: f64,
    pub down: f64,
    pub threshold: f64,
    /// f, the long-run variance of the scores; absent before there is a reference.
    pub long_run_factor: Option<f64>,
    pub blocks: u64,
    pub reference_blocks: u32,
}

/// The running sums: a pure function of the settings and the losses in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cusum {
    settings: CusumSettings,
    threshold: f64,
    block_sum: f64,
    block_steps: u32,
    blocks: u64,
    /// In order of time, until there are `reference_blocks`; then empty.
    first: Vec<f64>,
    /// Rising.
    history: Vec<f64>,
    scores: Blocking,
    factor: f64,
    /// f is measured again at so many blocks.
    measure_at: u64,
    up: f64,
    down: f64,
    up_since: u64,
    down_since: u64,
    alarm: Option<Alarm>,
}

impl Cusum {
    pub fn new(settings: CusumSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Cusum {
            settings,
            threshold: settings.threshold(),
            block_sum: 0.0,
            block_steps: 0,
            blocks: 0,
            first: Vec::new(),
            history: Vec::new(),
            scores: Blocking::default(),
            factor: 1.0,
            measure_at: u64::from(settings.reference_blocks) * 2,
            up: 0.0,
            down: 0.0,
            up_since: 0,
            down_since: 0,
            alarm: None,
        })
    }

    pub fn settings(&self) -> &CusumSettings {
        &self.settings
    }

    /// One step: the mean loss of what fell due at one time. True where it ended a block. What isn't finite is left out.
    pub fn push(&mut self, loss: f64) -> bool {
        if !loss.is_finite() {
            return false;
        }
        self.block_sum += loss;
        self.block_steps += 1;
        if self.block_steps < self.settings.block_steps {
            return false;
        }
        let mean = self.block_sum / f64::from(self.block_steps);
        (self.block_sum, self.block_steps) = (0.0, 0);
        self.blocks += 1;
        if self.alarm.is_none() {
            self.block(mean);
        }
        true
    }

    fn block(&mut self, mean: f64) {
        if self.blocks <= u64::from(self.settings.reference_blocks) {
            self.first.push(mean);
            self.remember(mean);
            if self.blocks == u64::from(self.settings.reference_blocks) {
                self.begin();
            }
            return;
        }
        let z = self.score(mean, 1);
        self.remember(mean);
        self.scores.push(z);
        if self.blocks == self.measure_at {
            self.measure();
            self.measure_at *= 2;
        }
        self.add(z / self.factor.sqrt());
    }

    /// The first blocks are known: each is ranked among all of them.
    fn begin(&mut self) {
        for mean in std::mem::take(&mut self.first) {
            let z = self.score(mean, 0);
            self.scores.push(z);
        }
        self.measure();
        (self.up_since, self.down_since) = (self.blocks, self.blocks);
    }

    fn measure(&mut self) {
        self.factor = self.scores.long_run_variance(LEVEL_BLOCKS_MIN).max(1.0);
    }

    /// Its normal score among the history; `extra` is 1 where it isn't part of that yet.
    fn score(&self, mean: f64, extra: usize) -> f64 {
        let below = self.history.partition_point(|x| *x < mean);
        let equal = self.history.partition_point(|x| *x <= mean) - below + extra;
        let (rank, count) = (below as f64 + (equal as f64 + 1.0) / 2.0, self.history.len() + extra);
        Normal::standard().inverse_cdf((rank - 0.5) / count as f64)
    }

    fn remember(&mut self, mean: f64) {
        if self.history.len() < HISTORY_BLOCKS_MAX {
            self.history.insert(self.history.partition_point(|x| *x < mean), mean);
        }
    }

    fn add(&mut self, score: f64) {
        let k = self.settings.shift / 2.0;
        self.up = (self.up + score - k).max(0.0);
        self.down = (self.down - score - k).max(0.0);
        if self.up == 0.0 {
            self.up_since = self.blocks;
        }
        if self.down == 0.0 {
            self.down_since = self.blocks;
        }
        let alarm = |side, since_blocks| Some(Alarm { side, blocks: self.blocks, since_blocks });
        if self.up > self.threshold {
            self.alarm = alarm(Side::Up, self.up_since);
        } else if self.down > self.threshold {
            self.alarm = alarm(Side::Down, self.down_since);
        }
    }

    pub fn report(&self) -> CusumReport {
        let is_learnt = self.blocks >= u64::from(self.settings.reference_blocks);
        CusumReport {
            alarm: self.alarm,
            up: self.up,
            down: self.down,
            threshold: self.threshold,
            long_run_factor: is_learnt.then_some(self.factor),
            blocks: self.blocks,
            reference_blocks: self.settings.reference_blocks,
        }
    }
}

#[cfg(test)]
mod tests;
