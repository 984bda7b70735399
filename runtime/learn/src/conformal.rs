//! Conformal prediction: the score that an interval allows, fixed (split) or following what comes (adaptive).
//!
//! Split (Vovk, Gammerman and Shafer 2005; Lei et al. 2018): of n scores that the model wasn't fitted on, the
//! ⌈(n + 1) · level⌉-th smallest. A new score that is exchangeable with them is at most that with a probability of at
//! least `level`. Bars aren't exchangeable: markets change, labels of more than one bar overlap.
//!
//! Adaptive: the quantile itself is tracked, q ← q + rate · step · (missed − (1 − level)), as in adaptive conformal
//! inference (Gibbs and Candès 2021), of which this is the form on scores (Angelopoulos, Candès and Tibshirani
//! 2023, "Conformal PID control for time series prediction", section 2.1): whatever comes, misses become as
//! frequent as they should be. Which rate is right isn't known beforehand; experts with one rate each are weighed by
//! their recent pinball loss (Gibbs and Candès 2024, "Conformal inference for online prediction with arbitrary
//! distribution shifts", algorithm 1), and the interval is that of their weighted mean.
//!
//! Outcomes of a label over h bars come h bars late, and neighbours share all but one of those bars. A fast expert
//! would look good by following what the last outcomes have in common, and be wrong by the time it counts; so rates,
//! weights and unit all go h times slower: time is measured in horizons.

/// Of the experts, in units of how far scores lie from the quantile.
pub const RATES: [f64; EXPERTS] = [0.005, 0.0125, 0.03, 0.08, 0.2, 0.4];
pub const EXPERTS: usize = 6;
/// The experts are to be good over any stretch of so many outcomes.
const STRETCH: f64 = 500.0;
/// A loss or a distance is cut off here, in those units: one bar must not silence an expert for good.
const FAR: f64 = 4.0;
/// The unit is a mean over about so many outcomes.
const UNIT_OUTCOMES: f64 = 100.0;
/// What [`Tracker::to_bytes`] gives.
pub const TRACKER_BYTES: usize = 8 * NUMBERS;
const NUMBERS: usize = 2 * EXPERTS + 1;

/// The ⌈(n + 1) · level⌉-th smallest of n scores; `None` where that is beyond the last: too few.
pub fn split_quantile(scores: &[f64], level: f64) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    // A product such as 10 · 0.9 may come out a hair above its whole number.
    let rank = ((sorted.len() + 1) as f64 * level - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// How few scores give a quantile at this level.
pub fn scores_min(level: f64) -> usize {
    (level / (1.0 - level) - 1e-9).ceil() as usize
}

/// The quantile of a stream of scores, followed as they come. A pure function of its start and of the scores in
/// their order, to the bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracker {
    quantiles: [f64; EXPERTS],
    /// Sum to 1.
    weights: [f64; EXPERTS],
    /// How far scores lie from the quantile, lately.
    unit: f64,
}

impl Tracker {
    /// Begins at a calibration's quantile, with its step as the unit.
    pub fn new(quantile: f64, step: f64) -> Self {
        Tracker { quantiles: [quantile; EXPERTS], weights: [1.0 / EXPERTS as f64; EXPERTS], unit: step }
    }

    /// The score that the next interval allows.
    pub fn quantile(&self) -> f64 {
        self.quantiles.iter().zip(&self.weights).map(|(q, w)| q * w).sum()
    }

    /// Learns from one score. `horizon_bars`: how many neighbours share bars with it.
    pub fn observe(&mut self, score: f64, level: f64, horizon_bars: u32) {
        let overlap = f64::from(horizon_bars.max(1));
        let (eta, sigma) = (learning_rate(level) / overlap, 1.0 / (2.0 * STRETCH * overlap));
        let (unit, quantile) = (self.unit, self.quantile());
        let mut total = 0.0;
        for (q, w) in self.quantiles.iter().zip(&mut self.weights) {
            let error = score - q;
            let loss = (level * error).max((level - 1.0) * error) / unit;
            *w *= (-eta * loss.min(FAR)).exp();
            total += *w;
        }
        for w in &mut self.weights {
            *w = if total > 0.0 { *w / total } else { 1.0 / EXPERTS as f64 };
            *w = (1.0 - sigma) * *w + sigma / EXPERTS as f64;
        }
        for (q, rate) in self.quantiles.iter_mut().zip(RATES) {
            let missed = if score > *q { 1.0 } else { 0.0 };
            *q += rate / overlap * unit * (missed - (1.0 - level));
        }
        let distance = (score - quantile).abs().min(FAR * unit);
        // Scores that are all the same leave a unit all the same.
        self.unit = (unit + (distance - unit) / (UNIT_OUTCOMES * overlap)).max(1e-30);
    }

    /// Its exact state.
    pub fn to_bytes(&self) -> [u8; TRACKER_BYTES] {
        let mut bytes = [0; TRACKER_BYTES];
        let numbers = self.quantiles.iter().chain(&self.weights).chain([&self.unit]);
        for (place, x) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&x.to_bits().to_le_bytes());
        }
        bytes
    }

    /// `None`: not such a state, or one that can't be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; TRACKER_BYTES] = bytes.try_into().ok()?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |i: usize| f64::from_bits(u64::from_le_bytes(numbers[i]));
        let tracker = Tracker {
            quantiles: std::array::from_fn(number),
            weights: std::array::from_fn(|i| number(EXPERTS + i)),
            unit: number(NUMBERS - 1),
        };
        let sound = tracker.quantiles.iter().all(|q| q.is_finite())
            && tracker.weights.iter().all(|w| (0.0..=1.0 + 1e-9).contains(w))
            && tracker.unit.is_finite()
            && tracker.unit > 0.0;
        sound.then_some(tracker)
    }
}

/// η of Gibbs and Candès 2024, section 3.2, for the miss rate α = 1 − level.
fn learning_rate(level: f64) -> f64 {
    let alpha = 1.0 - level;
    let spread = level.powi(2) * alpha.powi(3) + alpha.powi(2) * level.powi(3);
    (3.0 / STRETCH).sqrt() * (((STRETCH * EXPERTS as f64).ln() + 2.0) / spread).sqrt()
}

#[cfg(test)]
mod tests;
