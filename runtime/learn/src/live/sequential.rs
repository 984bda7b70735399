//! Is a challenger's loss lower than the champion's? A test that may be read after every outcome.
//!
//! Paired differences d = loss(challenger) − loss(champion) of the same bars. What falls due at one time is one step, the
//! mean over symbols; steps are averaged in blocks of [`SequentialSettings::block_steps`], some horizons long, since
//! labels of neighbouring bars overlap. Over the t blocks so far, with mean m and long-run deviation s
//! ([`super::blocking`]), the asymptotic confidence sequence of the normal mixture is
//!
//! m ± s √( 2 (tρ² + 1) / (t²ρ²) · ln( √(tρ² + 1) / α ) )
//!
//! (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
//! sequences", theorem 2.2; the mixture is Robbins' of 1970): with probability 1 − α it holds the mean difference at all
//! t at once, however often one looks, in the limit of a late first look. So nothing is decided before
//! [`SequentialSettings::blocks_min`] blocks. It is narrowest at t* = [`SequentialSettings::tuned_blocks`] with
//! ρ² = (−2 ln α + ln(−2 ln α + 1)) / t* (same paper, appendix on tuning). Inverted, it is the p-value 1 / maxₜ Eₜ with
//! ln Eₜ = ρ²t²m² / (2 s² (tρ² + 1)) − ½ ln(tρ² + 1).
//!
//! The paper's theorem is for independent differences; for dependent ones the same sequence holds wherever partial sums
//! are close to a Brownian motion of the long-run variance, as those of stationary mixing series are (the strong
//! approximation that its proof rests on; Berkes, Liu and Wu 2014). The deviation is raised a little while blocks are few.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::blocking::Blocking;

/// A level of blocking counts towards the variance with so many means.
const LEVEL_BLOCKS_MIN: u64 = 12;
/// The variance of t blocks is raised by this share of 1/t: of few and dependent ones it is estimated too low.
const FEW_BLOCKS: f64 = 8.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequentialSettings {
    /// α: of a false decision at any time, both sides together.
    pub level: f64,
    /// At least the label's horizon.
    pub block_steps: u32,
    /// Nothing is decided before.
    pub blocks_min: u32,
    /// t*: where the interval is narrowest.
    pub tuned_blocks: u32,
    /// Blocks are taken to deviate by this much at least: what is known of them beforehand. 0: nothing.
    pub deviation_min: f64,
}

impl SequentialSettings {
    /// For labels over so many bars: blocks of two horizons, or of four steps.
    pub fn for_horizon(horizon_bars: u32) -> Self {
        SequentialSettings {
            level: 0.05,
            block_steps: horizon_bars.saturating_mul(2).max(4),
            blocks_min: 30,
            tuned_blocks: 60,
            deviation_min: 0.0,
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let bad = |key, expected| Err(SettingsError { key, expected });
        if !(self.level > 0.0 && self.level <= 0.5) {
            return bad("level", "a number above 0 and up to 0.5");
        }
        if self.block_steps == 0 {
            return bad("block_steps", "the label's horizon or more");
        }
        if self.blocks_min < 10 {
            return bad("blocks_min", "10 or more");
        }
        if self.tuned_blocks == 0 {
            return bad("tuned_blocks", "1 or more");
        }
        if !(self.deviation_min.is_finite() && self.deviation_min >= 0.0) {
            return bad("deviation_min", "0 or a finite number above it");
        }
        Ok(())
    }

    fn rho_squared(&self) -> f64 {
        let twice = -2.0 * self.level.ln();
        (twice + (twice + 1.0).ln()) / f64::from(self.tuned_blocks)
    }
}

/// A setting that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsError {
    pub key: &'static str,
    pub expected: &'static str,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be used: set it to {}", self.key, self.expected)
    }
}

impl std::error::Error for SettingsError {}

/// Of the mean difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Below 0: the challenger's loss is lower.
    Better,
    Worse,
    Undecided,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Undecided => "undecided",
        }
    }
}

/// The first decision; it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub verdict: Verdict,
    pub blocks: u64,
    pub steps: u64,
}

/// What is known after the blocks so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequentialReport {
    pub verdict: Verdict,
    /// When the verdict fell.
    pub decision: Option<Decision>,
    /// Mean difference, below 0 where the challenger is better, and the confidence sequence as it stands. Absent
    /// before the first two blocks; the interval also where no difference has a deviation.
    pub mean: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// That there is no difference; valid whenever it is read, never rising. 1 before `blocks_min`.
    pub p_value: f64,
    pub blocks: u64,
    /// Steps in those blocks and in the one that is forming, and the pairs in them.
    pub steps: u64,
    pub pairs: u64,
    pub level: f64,
}

/// The running test: a pure function of its settings and the steps in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequentialTest {
    settings: SequentialSettings,
    blocking: Blocking,
    /// Of the block that is forming.
    block_sum: f64,
    block_steps: u32,
    steps: u64,
    pairs: u64,
    /// max ln Eₜ.
    evidence: f64,
    decision: Option<Decision>,
}

impl SequentialTest {
    pub fn new(settings: SequentialSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(SequentialTest {
            settings,
            blocking: Blocking::default(),
            block_sum: 0.0,
            block_steps: 0,
            steps: 0,
            pairs: 0,
            evidence: 0.0,
            decision: None,
        })
    }

    pub fn settings(&self) -> &SequentialSettings {
        &self.settings
    }

    /// One step: the mean difference over `pairs` pairs that fell due at one time. True where it ended a block.
    /// What isn't finite is no evidence, and is left out.
    pub fn push(&mut self, difference: f64, pairs: u32) -> bool {
        if !difference.is_finite() {
            return false;
        }
        self.steps += 1;
        self.pairs += u64::from(pairs);
        self.block_sum += difference;
        self.block_steps += 1;
        if self.block_steps < self.settings.block_steps {
            return false;
        }
        self.blocking.push(self.block_sum / f64::from(self.block_steps));
        (self.block_sum, self.block_steps) = (0.0, 0);
        self.decide();
        true
    }

    fn decide(&mut self) {
        let t = self.blocking.count();
        let (Some(deviation), true) = (self.deviation(), t >= u64::from(self.settings.blocks_min)) else {
            return;
        };
        let (mean, t_rho) = (self.blocking.mean(), t as f64 * self.settings.rho_squared());
        let standardised = mean / deviation;
        let evidence =
            t_rho * t as f64 * standardised * standardised / (2.0 * (t_rho + 1.0)) - 0.5 * t_rho.ln_1p();
        self.evidence = self.evidence.max(evidence);
        if self.decision.is_none() && evidence > -self.settings.level.ln() {
            let verdict = if mean < 0.0 { Verdict::Better } else { Verdict::Worse };
            self.decision = Some(Decision { verdict, blocks: t, steps: self.steps });
        }
    }

    /// Long-run, of one block.
    fn deviation(&self) -> Option<f64> {
        let count = self.blocking.count();
        let variance = self.blocking.long_run_variance(LEVEL_BLOCKS_MIN) * (1.0 + FEW_BLOCKS / count as f64);
        let deviation = variance.sqrt().max(self.settings.deviation_min);
        (count >= 2 && deviation.is_normal()).then_some(deviation)
    }

    pub fn report(&self) -> SequentialReport {
        let t = self.blocking.count() as f64;
        let t_rho = t * self.settings.rho_squared();
        let mean = (t >= 2.0).then(|| self.blocking.mean());
        let radius = self.deviation().map(|deviation| {
            let spread = 2.0 * (t_rho + 1.0) / (t * t_rho);
            deviation * (spread * (0.5 * t_rho.ln_1p() - self.settings.level.ln())).sqrt()
        });
        SequentialReport {
            verdict: self.decision.map_or(Verdict::Undecided, |decision| decision.verdict),
            decision: self.decision,
            mean,
            low: mean.zip(radius).map(|(mean, radius)| mean - radius),
            high: mean.zip(radius).map(|(mean, radius)| mean + radius),
            p_value: (-self.evidence).exp().min(1.0),
            blocks: self.blocking.count(),
            steps: self.steps,
            pairs: self.pairs,
            level: self.settings.level,
        }
    }
}

#[cfg(test)]
mod tests;
