//! The loss of one forecast: squared, absolute, QLIKE, pinball.

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
}

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
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Loss::Squared => "squared error",
            Loss::Absolute => "absolute error",
            Loss::Qlike => "QLIKE",
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
        // An under-forecast costs more than an over-forecast of the same ratio.
        assert!(Loss::Qlike.of(2.0, 1.0) > Loss::Qlike.of(1.0, 2.0));
        assert!((pinball(0.9, 2.0, 0.0) - 1.8).abs() < 1e-15);
        assert!((pinball(0.9, 0.0, 2.0) - 0.2).abs() < 1e-15);
    }
}
