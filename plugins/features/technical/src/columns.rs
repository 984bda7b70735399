//! The formulas, one function each. `None` while the history is too short.

use std::f64::consts::{LN_2, TAU};

use alphaplus_plugin::Bar;

use crate::average::Average;
use crate::ring::Ring;

const DAY_NS: i64 = 86_400_000_000_000;

/// ln(cₜ / cₜ₋ₗₐ₉), from the logarithms of the closes.
pub fn log_return(log_closes: &Ring, lag: usize) -> Option<f64> {
    Some(log_closes.newest()? - log_closes.back(lag)?)
}

/// Wilder's relative strength index over 100: mean gain / (mean gain + mean loss), in \[0, 1\]; ½ where
/// nothing ever moved.
pub fn relative_strength(gain: &Average, loss: &Average) -> Option<f64> {
    let (gain, loss) = (gain.value()?, loss.value()?);
    Some(if gain + loss > 0.0 { gain / (gain + loss) } else { 0.5 })
}

/// Position (c − mean) / 2σ and width 4σ / mean of Bollinger's bands at two standard deviations (of the
/// population). On flat closes (0, 0).
pub fn bollinger(closes: &Ring) -> Option<(f64, f64)> {
    let close = closes.newest()?;
    let (mean, deviation) = about(close, closes.full()?.map(|x| x - close));
    let position = if deviation > 0.0 { (close - mean) / (2.0 * deviation) } else { 0.0 };
    Some((position, 4.0 * deviation / mean))
}

/// (xₜ − mean) / σ of the population; 0 where all are equal.
pub fn zscore(values: &Ring) -> Option<f64> {
    let newest = values.newest()?;
    let (mean, deviation) = about(newest, values.full()?.map(|x| x - newest));
    Some(if deviation > 0.0 { (newest - mean) / deviation } else { 0.0 })
}

/// Mean and standard deviation of values given as differences from `origin`, which makes them exact on equal
/// values.
fn about(origin: f64, differences: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (sum, count) = differences.clone().fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    let shift: f64 = sum / count;
    let squares: f64 = differences.map(|x| (x - shift).powi(2)).sum();
    (origin + shift, (squares / count).sqrt())
}

/// Wilder's true range: the bar's range, stretched to the last close.
pub fn true_range(bar: &Bar, previous_close: f64) -> f64 {
    bar.high.max(previous_close) - bar.low.min(previous_close)
}

/// Realised volatility: the root of the sum of the last `length` squared log returns (Andersen and Bollerslev
/// 1998).
pub fn volatility(squares: &Ring, length: usize) -> Option<f64> {
    Some(squares.last(length)?.sum::<f64>().sqrt())
}

/// √(mean of ln²(h / l) / 4 ln 2): the volatility of one bar by its range (Parkinson 1980).
pub fn parkinson(squared_ranges: &Ring) -> Option<f64> {
    let count = squared_ranges.full()?.count() as f64;
    Some((squared_ranges.full()?.sum::<f64>() / (count * 4.0 * LN_2)).sqrt())
}

/// Lane's %K over 100: where the close stands between the lowest low and the highest high; ½ where they are
/// equal.
pub fn stochastic(highs: &Ring, lows: &Ring, close: f64) -> Option<f64> {
    let high = highs.full()?.fold(f64::MIN, f64::max);
    let low = lows.full()?.fold(f64::MAX, f64::min);
    Some(if high > low { (close - low) / (high - low) } else { 0.5 })
}

/// Body (c − o), upper wick (h − max(o, c)) and lower wick (min(o, c) − l), as shares of h − l; zeros where
/// that is 0.
pub fn candle(bar: &Bar) -> [f64; 3] {
    let range = bar.high - bar.low;
    if range > 0.0 {
        let (upper, lower) = (bar.high - bar.open.max(bar.close), bar.open.min(bar.close) - bar.low);
        [(bar.close - bar.open) / range, upper / range, lower / range]
    } else {
        [0.0; 3]
    }
}

/// Sine and cosine of the open time's place in its UTC day, and in its week from Monday.
pub fn phases(open_time_ns: i64) -> [f64; 4] {
    let angle = |ns: i64, period_ns: i64| TAU * (ns as f64 / period_ns as f64);
    // 1970 began on a Thursday.
    let week = (open_time_ns.rem_euclid(7 * DAY_NS) + 3 * DAY_NS) % (7 * DAY_NS);
    let (day_sin, day_cos) = angle(open_time_ns.rem_euclid(DAY_NS), DAY_NS).sin_cos();
    let (week_sin, week_cos) = angle(week, 7 * DAY_NS).sin_cos();
    [day_sin, day_cos, week_sin, week_cos]
}
