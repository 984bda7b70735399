//! The loss of one forecast: squared, absolute, QLIKE, log, CRPS, pinball.

use serde::{Deserialize, Serialize};

/// What forecasts are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// (y − f)²
    Squared,
    /// |y − f|
    Absolute,
    /// For volatilities: y²/f² − ln(y²/f²) − 1, robust to noise in y² as a measure of the variance (Patton 2011).
    Qlike,
    /// For probabilities of a label of 0 or 1: −ln of the probability that was given to what came (Good 1952). Those
    /// below [`PROBABILITY_MIN`] count as that, or one miss would be all that counts.
    Log,
    /// For distributions: the continuous ranked probability score. Of a number alone it is |y − f|.
    Crps,
}

/// The least probability that the log loss takes.
pub const PROBABILITY_MIN: f64 = 1e-6;

impl Loss {
    /// QLIKE wants both above zero.
    pub fn of(self, label: f64, forecast: f64) -> f64 {
        match self {
            Loss::Squared => (label - forecast).powi(2),
            Loss::Absolute => (label - forecast).abs(),
            Loss::Qlike => {
                let ratio = (label / forecast).powi(2);
                ratio - ratio.ln() - 1.0
            }
            Loss::Log => {
                let given = if label > 0.5 { forecast } else { 1.0 - forecast };
                -given.clamp(PROBABILITY_MIN, 1.0).ln()
            }
            Loss::Crps => (label - forecast).abs(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Loss::Squared => "squared error",
            Loss::Absolute => "absolute error",
            Loss::Qlike => "QLIKE",
            Loss::Log => "log loss",
            Loss::Crps => "CRPS",
        }
    }
}

/// max(q (y − f), (q − 1)(y − f)) (Koenker and Bassett 1978).
pub fn pinball(quantile: f64, label: f64, forecast: f64) -> f64 {
    let error = label - forecast;
    (quantile * error).max((quantile - 1.0) * error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_their_formulas() {
        assert_eq!(Loss::Squared.of(3.0, 1.0), 4.0);
        assert_eq!(Loss::Absolute.of(1.0, 3.0), 2.0);
        assert_eq!(Loss::Qlike.of(0.02, 0.02), 0.0);
        // σ²/h = 4: 4 − ln 4 − 1.
        assert!((Loss::Qlike.of(0.02, 0.01) - 1.613_705_638_880_109_4).abs() < 1e-12);
        assert!((Loss::Log.of(1.0, 0.25) - 4.0f64.ln()).abs() < 1e-15);
        assert!((Loss::Log.of(0.0, 0.25) + 0.75f64.ln()).abs() < 1e-15);
        assert!((Loss::Log.of(1.0, 0.0) - 1e6f64.ln()).abs() < 1e-9, "one miss isn't all");
        assert_eq!(Loss::Crps.of(1.0, 3.0), 2.0);
        // An under-forecast costs more than an over-forecast of the same ratio.
        assert!(Loss::Qlike.of(2.0, 1.0) > Loss::Qlike.of(1.0, 2.0));
        assert!((pinball(0.9, 2.0, 0.0) - 1.8).abs() < 1e-15);
        assert!((pinball(0.9, 0.0, 2.0) - 0.2).abs() < 1e-15);
    }
}
