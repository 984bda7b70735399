//! A stated trading rule net of fees, and its Sharpe ratio deflated by how much was tried.
//!
//! The rule: at times `horizon` apart, go long (short) each symbol whose forecast of the log return lies above (below)
//! the fee of going in and out again, stay flat otherwise, with equal weights; hold until the next such time. Fees are
//! paid on each change of a position, also on the last close. The mid price is traded: spread and impact must be in the
//! fee.
//!
//! Probabilistic Sharpe ratio: Φ((S − S*) √(n − 1) / √(1 − g S + (k − 1)/4 S²)) with skewness g and kurtosis k of the
//! returns (Bailey and López de Prado 2012). Deflated: S* = √V ((1 − γ) Φ⁻¹(1 − 1/N) + γ Φ⁻¹(1 − 1/(N e))), the expected
//! best of N trials without skill, γ = 0.5772… (Bailey and López de Prado 2014). V, the variance of the trials' ratios,
//! is 1 / (n − 1), that of an estimate without skill, unless it is known.

use std::collections::BTreeMap;

use market::Timestamp;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
/// Fewer periods give no ratio.
pub const PERIODS_MIN: usize = 10;

/// What the rule earned. Ratios are per holding period, not annualised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trading {
    pub fee_bps: f64,
    pub periods: u64,
    /// Changes of a position.
    pub trades: u64,
    /// Mean net return of a period, in basis points.
    pub mean_bps: f64,
    /// The fee at which the mean would be 0, with the same positions; absent without trades.
    pub break_even_fee_bps: Option<f64>,
    /// Largest fall of the summed returns.
    pub drawdown_max: f64,
    /// Absent where the rule never trades.
    pub sharpe: Option<f64>,
    /// That the true ratio is above 0.
    pub probabilistic: Option<f64>,
    /// That it is above the expected best of so many trials.
    pub deflated: Option<f64>,
    pub trials: u32,
}

/// One forecast of a log return, in order of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    pub time: Timestamp,
    pub stream: usize,
    pub forecast: f64,
    pub label: f64,
}

/// Trades by the rule above. `hold_ns`: how long labels reach.
pub fn trade(
    calls: &[Call],
    hold_ns: i64,
    fee_bps: f64,
    trials: u32,
    trial_variance: Option<f64>,
) -> Trading {
    let fee = fee_bps * 1e-4;
    let mut positions: BTreeMap<usize, f64> = BTreeMap::new();
    let (mut returns, mut gross, mut turnover, mut trades) = (Vec::new(), 0.0, 0.0, 0u64);
    let mut next: Option<Timestamp> = None;
    for step in calls.chunk_by(|a, b| a.time == b.time) {
        if next.is_some_and(|next| step[0].time < next) {
            continue;
        }
        next = Some(Timestamp(step[0].time.0.saturating_add(hold_ns)));
        let weight = 1.0 / step.len() as f64;
        let (mut earned, mut changed) = (0.0, 0.0);
        let mut now = BTreeMap::new();
        for call in step {
            let side = if call.forecast.abs() > 2.0 * fee { call.forecast.signum() } else { 0.0 };
            let position = side * weight;
            earned += position * call.label.exp_m1();
            let before = positions.remove(&call.stream).unwrap_or(0.0);
            changed += (position - before).abs();
            trades += u64::from(position != before);
            now.insert(call.stream, position);
        }
        // Symbols without a sample now are closed.
        changed += positions.values().map(|p| p.abs()).sum::<f64>();
        trades += positions.values().filter(|p| **p != 0.0).count() as u64;
        positions = now;
        gross += earned;
        turnover += changed;
        returns.push(earned - fee * changed);
    }
    let left: f64 = positions.values().map(|p| p.abs()).sum();
    if let Some(last) = returns.last_mut() {
        *last -= fee * left;
        turnover += left;
    }
    let ratio = (turnover > 0.0 && returns.len() >= PERIODS_MIN).then(|| Ratio::of(&returns)).flatten();
    let variance = trial_variance.unwrap_or(1.0 / (returns.len().max(2) - 1) as f64);
    Trading {
        fee_bps,
        periods: returns.len() as u64,
        trades,
        mean_bps: 1e4 * returns.iter().sum::<f64>() / returns.len().max(1) as f64,
        break_even_fee_bps: (turnover > 0.0).then(|| 1e4 * gross / turnover),
        drawdown_max: drawdown(&returns),
        sharpe: ratio.map(|r| r.sharpe),
        probabilistic: ratio.map(|r| r.probability_above(0.0)),
        deflated: ratio.map(|r| r.probability_above(expected_best(trials, variance))),
        trials,
    }
}

fn drawdown(returns: &[f64]) -> f64 {
    let (mut sum, mut high, mut deepest) = (0.0f64, 0.0f64, 0.0f64);
    for r in returns {
        sum += r;
        high = high.max(sum);
        deepest = deepest.max(high - sum);
    }
    deepest
}

/// A Sharpe ratio and the moments that its error depends on.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub sharpe: f64,
    pub skewness: f64,
    /// 3 for a normal distribution.
    pub kurtosis: f64,
    pub count: f64,
}

impl Ratio {
    /// `None` where the returns don't vary.
    pub fn of(returns: &[f64]) -> Option<Ratio> {
        let n = returns.len() as f64;
        let mean = returns.iter().sum::<f64>() / n;
        let moment = |power: i32| returns.iter().map(|r| (r - mean).powi(power)).sum::<f64>() / n;
        let variance = moment(2);
        (variance.is_normal()).then(|| Ratio {
            sharpe: mean / (variance * n / (n - 1.0)).sqrt(),
            skewness: moment(3) / variance.powf(1.5),
            kurtosis: moment(4) / variance.powi(2),
            count: n,
        })
    }

    /// The probabilistic Sharpe ratio.
    pub fn probability_above(&self, threshold: f64) -> f64 {
        let s = self.sharpe;
        let spread = 1.0 - self.skewness * s + (self.kurtosis - 1.0) / 4.0 * s * s;
        Normal::standard()
            .cdf((s - threshold) * (self.count - 1.0).sqrt() / spread.max(f64::MIN_POSITIVE).sqrt())
    }
}

/// The expected best ratio of so many trials without skill; 0 for one.
pub fn expected_best(trials: u32, variance: f64) -> f64 {
    if trials < 2 {
        return 0.0;
    }
    let n = f64::from(trials);
    let normal = Normal::standard();
    let high = normal.inverse_cdf(1.0 - 1.0 / n);
    let higher = normal.inverse_cdf(1.0 - 1.0 / (n * std::f64::consts::E));
    variance.sqrt() * ((1.0 - EULER_GAMMA) * high + EULER_GAMMA * higher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The worked example of Bailey and López de Prado 2014: annual Sharpe 2.5 over 5 years of 250 days, skewness −3,
    /// kurtosis 10, 100 trials with an annual variance of ½: expected best 0.1132 a day, deflated ratio 0.9004.
    #[test]
    fn the_papers_example() {
        let best = expected_best(100, 0.5 / 250.0);
        assert!((best - 0.1132).abs() < 5e-5, "{best}");
        let ratio = Ratio { sharpe: 2.5 / 250f64.sqrt(), skewness: -3.0, kurtosis: 10.0, count: 1250.0 };
        let deflated = ratio.probability_above(best);
        assert!((deflated - 0.9004).abs() < 5e-5, "{deflated}");
        // 46 trials would have left 0.9505, as the paper says.
        let fewer = ratio.probability_above(expected_best(46, 0.5 / 250.0));
        assert!((fewer - 0.9505).abs() < 1e-4, "{fewer}");
        assert_eq!(expected_best(1, 1.0), 0.0);
    }

    fn call(hour: i64, stream: usize, forecast: f64, label: f64) -> Call {
        Call { time: Timestamp(hour * 3_600_000_000_000), stream, forecast, label }
    }

    #[test]
    fn fees_are_paid_on_changes_and_on_the_last_close() {
        // In at the first of 10 bp, held, turned, closed: turnover 1 + 0 + 2 + 1.
        let up = 0.01f64.ln_1p();
        let down = (-0.02f64).ln_1p();
        let calls = [call(0, 0, 0.5, up), call(1, 0, 0.5, up), call(2, 0, -0.5, down)];
        let trading = trade(&calls, 3_600_000_000_000, 10.0, 1, None);
        let expected = (0.01 + 0.01 + 0.02 - 4.0 * 0.001) / 3.0;
        assert!((trading.mean_bps - 1e4 * expected).abs() < 1e-9, "{trading:?}");
        assert_eq!((trading.trades, trading.periods, trading.sharpe), (2, 3, None));
        assert!((trading.break_even_fee_bps.unwrap() - 1e4 * 0.04 / 4.0).abs() < 1e-9);
    }

    #[test]
    fn forecasts_below_the_fee_do_not_trade_and_labels_are_not_overlapped() {
        let calls: Vec<Call> = (0..40).map(|hour| call(hour, 0, 0.001, 0.01)).collect();
        let none = trade(&calls, 3_600_000_000_000, 10.0, 1, None);
        assert_eq!((none.trades, none.sharpe, none.deflated, none.mean_bps), (0, None, None, 0.0));
        let every_fourth = trade(&calls, 4 * 3_600_000_000_000, 1.0, 1, None);
        assert_eq!(every_fourth.periods, 10);
    }

    #[test]
    fn more_trials_leave_less() {
        let mut random = Random::new(1);
        let calls: Vec<Call> = (0..500)
            .map(|hour| {
                let label = 0.01 * random.normal();
                call(hour, 0, label + 0.05 * random.normal(), label)
            })
            .collect();
        let of = |trials| trade(&calls, 3_600_000_000_000, 0.0, trials, None).deflated.unwrap();
        assert!(of(1) > of(10) && of(10) > of(1000), "{} {} {}", of(1), of(10), of(1000));
        let skilled = trade(&calls, 3_600_000_000_000, 0.0, 1, None);
        assert!(skilled.probabilistic.unwrap() > 0.95 && skilled.probabilistic == skilled.deflated);
    }
}
