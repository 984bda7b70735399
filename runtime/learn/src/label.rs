//! What a model learns to predict, and the naive forecast that it must beat.
//!
//! Both are in natural units: a log return, the volatility of h bars (not annualised), or a direction as 1, 0 or −1.
//! They are computed from closes alone; nothing is smoothed, since a smoothed target would hold the past.

use market::{Bar, Timestamp};
use registry::{GapPolicy, LabelKind};
use serde::{Deserialize, Serialize};

/// What is predicted over how many bars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRecipe {
    pub kind: LabelKind,
    pub horizon_bars: u32,
    pub gaps: GapPolicy,
    /// Of a direction: a log return that is no further from zero is flat. `None`: there is no flat class.
    #[serde(default)]
    pub dead_band: Option<f64>,
}

/// What a label needs of a bar.
pub trait Closing {
    fn close(&self) -> f64;
    fn open_time(&self) -> Timestamp;
    fn close_time(&self) -> Timestamp;
}

impl Closing for Bar {
    fn close(&self) -> f64 {
        self.close
    }

    fn open_time(&self) -> Timestamp {
        self.open_time
    }

    fn close_time(&self) -> Timestamp {
        Bar::close_time(self)
    }
}

impl LabelRecipe {
    pub fn from_manifest(label: &registry::Label) -> LabelRecipe {
        let registry::Label { kind, horizon_bars, gaps, dead_band, .. } = *label;
        LabelRecipe { kind, horizon_bars, gaps, dead_band }
    }

    fn horizon(&self) -> usize {
        self.horizon_bars as usize
    }

    /// Bars before the newest that the naive forecast looks at.
    pub fn lookback_bars(&self) -> usize {
        match self.kind {
            LabelKind::LogReturn | LabelKind::Direction => 0,
            LabelKind::RealisedVolatility => self.horizon(),
        }
    }

    /// The label at bar t, over bars t to t + h of one stream: ln(close\[t+h\] / close\[t\]), √Σ r² of the h returns
    /// after t, or the direction. `None` where those bars aren't there, or, if gaps are dropped, aren't one timeframe
    /// apart.
    pub fn at<B: Closing>(&self, bars: &[B], t: usize) -> Option<f64> {
        let span = bars.get(t..=t.checked_add(self.horizon())?)?;
        if self.gaps == GapPolicy::Drop && !is_gapless(span) {
            return None;
        }
        Some(match self.kind {
            LabelKind::LogReturn => log_return(&span[0], &span[span.len() - 1]),
            LabelKind::RealisedVolatility => realised_volatility(span),
            LabelKind::Direction => direction(log_return(&span[0], &span[span.len() - 1]), self.dead_band),
        })
    }

    /// The naive forecast at bar t, from bars up to t: a zero return, no direction, or the volatility of the last h
    /// bars. `None` where those aren't there. (A gap in the past is in the past: it is kept.)
    pub fn naive_at<B: Closing>(&self, bars: &[B], t: usize) -> Option<f64> {
        match self.kind {
            LabelKind::LogReturn | LabelKind::Direction => (t < bars.len()).then_some(0.0),
            LabelKind::RealisedVolatility => {
                Some(realised_volatility(bars.get(t.checked_sub(self.horizon())?..=t)?))
            }
        }
    }
}

fn log_return<B: Closing>(from: &B, to: &B) -> f64 {
    (to.close() / from.close()).ln()
}

/// 1 up, −1 down, 0 within the band; without a band zero is down.
fn direction(log_return: f64, dead_band: Option<f64>) -> f64 {
    match dead_band {
        Some(band) if log_return.abs() <= band => 0.0,
        _ if log_return > 0.0 => 1.0,
        _ => -1.0,
    }
}

/// Of the returns between neighbours.
fn realised_volatility<B: Closing>(bars: &[B]) -> f64 {
    bars.windows(2).map(|pair| log_return(&pair[0], &pair[1]).powi(2)).sum::<f64>().sqrt()
}

fn is_gapless<B: Closing>(bars: &[B]) -> bool {
    bars.windows(2).all(|pair| pair[1].open_time() == pair[0].close_time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bars_at;

    fn recipe(kind: LabelKind, horizon_bars: u32, gaps: GapPolicy) -> LabelRecipe {
        LabelRecipe { kind, horizon_bars, gaps, dead_band: None }
    }

    #[test]
    fn log_return_looks_exactly_h_bars_ahead() {
        let bars = bars_at(&[(0, 1.0), (1, 2.0), (2, 4.0), (3, 16.0)]);
        let label = recipe(LabelKind::LogReturn, 2, GapPolicy::Drop);
        let labels: Vec<_> = (0..4).map(|t| label.at(&bars, t)).collect();
        assert_eq!(labels, [Some(4.0f64.ln()), Some(8.0f64.ln()), None, None]);
        assert_eq!(label.naive_at(&bars, 0), Some(0.0));
        assert_eq!(label.naive_at(&bars, 4), None);
    }

    #[test]
    fn a_direction_is_the_sign_outside_the_dead_band() {
        let bars = bars_at(&[(0, 100.0), (1, 101.0), (2, 101.05), (3, 99.0), (4, 99.0)]);
        let two = recipe(LabelKind::Direction, 1, GapPolicy::Drop);
        let three = LabelRecipe { dead_band: Some(0.001), ..two };
        let of = |label: LabelRecipe| (0..5).filter_map(|t| label.at(&bars, t)).collect::<Vec<_>>();
        assert_eq!(of(two), [1.0, 1.0, -1.0, -1.0], "a return of zero is down");
        assert_eq!(of(three), [1.0, 0.0, -1.0, 0.0]);
        assert_eq!(three.naive_at(&bars, 0), Some(0.0));
    }

    #[test]
    fn volatility_sums_the_squares_of_the_next_h_returns() {
        let bars = bars_at(&[(0, 1.0), (1, 2.0), (2, 1.0), (3, 8.0)]);
        let label = recipe(LabelKind::RealisedVolatility, 2, GapPolicy::Drop);
        let ln2 = 2.0f64.ln();
        let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-15, "{a:?} {b}");
        close(label.at(&bars, 0), ln2 * 2.0f64.sqrt());
        close(label.at(&bars, 1), ln2 * 10.0f64.sqrt());
        assert_eq!(label.at(&bars, 2), None);
        assert_eq!(label.naive_at(&bars, 1), None);
        close(label.naive_at(&bars, 2), ln2 * 2.0f64.sqrt());
        assert_eq!(label.lookback_bars(), 2);
    }

    #[test]
    fn a_gap_inside_the_label_drops_it_or_not() {
        let bars = bars_at(&[(0, 1.0), (1, 2.0), (5, 4.0), (6, 8.0)]);
        let drop = recipe(LabelKind::LogReturn, 1, GapPolicy::Drop);
        let keep = recipe(LabelKind::LogReturn, 1, GapPolicy::Keep);
        let have = |label: LabelRecipe| (0..4).map(|t| label.at(&bars, t).is_some()).collect::<Vec<_>>();
        assert_eq!(have(drop), [true, false, true, false]);
        assert_eq!(have(keep), [true, true, true, false]);
        assert_eq!(recipe(LabelKind::LogReturn, u32::MAX, GapPolicy::Keep).at(&bars, 1), None);
    }
}
