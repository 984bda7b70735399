//! The loss that outcomes are compared by. A [`RealisedValue`] holds the one number of a prediction, the naive forecast
//! and what came; so there is no pinball loss over all quantiles and no logarithm of three classes here: those are in
//! the evaluation.
//!
//! | label | loss |
//! |---|---|
//! | log_return | squared error; absolute error where one of the models gives quantiles, whose one number is the median |
//! | realised_volatility | QLIKE (Patton 2011), volatilities below the model's floor counting as that |
//! | direction | Brier score of up: ((P(up) − P(down) − y) / 2)², y = ±1 or 0 |

use learn::label::LabelRecipe;
use learn::metrics::Loss;
use learn::reading::Reading;
use registry::{LabelKind, Manifest, Output};
use serde::{Deserialize, Serialize};
use store::{Realised, RealisedRecord, RealisedValue};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Measure {
    Squared,
    Absolute,
    Qlike { floor: f64 },
    Brier,
}

impl Measure {
    /// Of models that are compared with each other, or of one.
    pub fn of_models(manifests: &[&Manifest]) -> Measure {
        let is_median = manifests.iter().any(|m| matches!(m.output, Output::Quantiles { .. }));
        match manifests.first().map(|m| m.label.kind) {
            None | Some(LabelKind::LogReturn) if is_median => Measure::Absolute,
            None | Some(LabelKind::LogReturn) => Measure::Squared,
            Some(LabelKind::RealisedVolatility) => {
                let floors = manifests.iter().map(|m| Reading::from_manifest(m).floor);
                Measure::Qlike { floor: floors.fold(f64::MIN_POSITIVE, f64::max) }
            }
            Some(LabelKind::Direction) => Measure::Brier,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Measure::Squared => Loss::Squared.name(),
            Measure::Absolute => Loss::Absolute.name(),
            Measure::Qlike { .. } => Loss::Qlike.name(),
            Measure::Brier => "Brier score",
        }
    }

    fn at(self, realised: f64, forecast: f64) -> f64 {
        match self {
            Measure::Squared => Loss::Squared.of(realised, forecast),
            Measure::Absolute => Loss::Absolute.of(realised, forecast),
            Measure::Qlike { floor } => Loss::Qlike.of(realised.max(floor), forecast.max(floor)),
            Measure::Brier => Loss::Squared.of(realised, forecast) / 4.0,
        }
    }

    pub fn loss(self, value: &RealisedValue) -> f64 {
        self.at(value.realised, value.predicted)
    }

    /// Of the naive forecast, where there was one.
    pub fn naive_loss(self, value: &RealisedValue) -> Option<f64> {
        Some(self.at(value.realised, value.naive?))
    }
}

/// The value of an outcome that has one.
pub fn value_of(record: &RealisedRecord) -> Option<&RealisedValue> {
    match &record.result {
        Realised::Value(value) => Some(value),
        Realised::Gap | Realised::Lost => None,
    }
}

/// Whether outcomes of both models are of the same thing; else why not.
pub fn check_same_label(first: &Manifest, second: &Manifest) -> Result<(), String> {
    let of = |manifest: &Manifest| {
        let LabelRecipe { kind, horizon_bars, dead_band, .. } = LabelRecipe::from_manifest(&manifest.label);
        let band = dead_band.map_or(String::new(), |band| format!(" with a dead band of {band}"));
        format!("{} over {horizon_bars} bars of {}{band}", kind.name(), manifest.data.timeframe)
    };
    let (a, b) = (of(first), of(second));
    if a == b {
        return Ok(());
    }
    let name = |manifest: &Manifest| format!("{}/{}", manifest.name, manifest.version);
    Err(format!(
        "{} predicts {a} and {} {b}: compare models of one label and timeframe",
        name(first),
        name(second)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(predicted: f64, realised: f64, naive: Option<f64>) -> RealisedValue {
        RealisedValue { predicted, realised, naive, covered: None, right: true, confidence: None }
    }

    #[test]
    fn losses_are_those_of_the_label() {
        assert_eq!(Measure::Squared.loss(&value(1.0, 3.0, None)), 4.0);
        assert_eq!(Measure::Absolute.loss(&value(1.0, 3.0, None)), 2.0);
        let qlike = Measure::Qlike { floor: 0.01 };
        assert_eq!(qlike.loss(&value(0.0, 0.005, None)), 0.0, "both count as the floor");
        assert!((qlike.loss(&value(0.01, 0.02, None)) - 1.613_705_638_880_109_4).abs() < 1e-12);
        // P(up) = 0.8: (0.8 − 1)².
        assert!((Measure::Brier.loss(&value(0.6, 1.0, None)) - 0.04).abs() < 1e-15);
        assert_eq!(Measure::Brier.naive_loss(&value(0.6, 1.0, Some(0.0))), Some(0.25));
        assert_eq!(Measure::Squared.naive_loss(&value(0.6, 1.0, None)), None);
    }
}
