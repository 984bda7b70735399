//! Directions as probabilities and returns as quantiles, judged on folds like points.

use registry::{Loss as Trained, Output};

use super::*;
use crate::metrics::Loss;
use crate::testing::linear_head;

fn direction() -> TrainingRecipe {
    let mut recipe = small_recipe(LabelKind::Direction, 1);
    recipe.output.kind = Output::Probabilities;
    recipe.training.loss = Trained::CrossEntropy;
    recipe
}

fn quantiles(kind: LabelKind, horizon_bars: u32) -> TrainingRecipe {
    let mut recipe = small_recipe(kind, horizon_bars);
    recipe.output.kind = Output::Quantiles { levels: vec![0.05, 0.25, 0.5, 0.75, 0.95] };
    recipe.training.loss = Trained::Quantiles;
    recipe.training.epochs_max = 12;
    recipe
}

fn judge(recipe: &TrainingRecipe, outputs: usize, bars: &[Bar], probes: bool) -> Assessment {
    let model = linear_head(3, 3, outputs);
    let walk = walk();
    let subject = Subject { recipe, walk: &walk, model: &model, executor: &Interpreter };
    let mut settings = settings(&[1, 2], probes);
    // What can be known of a sign is less than of the return.
    settings.probes.iter_mut().for_each(|probes| probes.world_bars = 4000);
    assess(&subject, &settings, &[bars], &mut Returns::new(2), None, &mut ()).unwrap()
}

#[test]
fn a_direction_is_judged_by_probabilities_with_all_probes() {
    let bars = bars_of("A", &autoregressive(2500, 0.5, 41));
    let found = judge(&direction(), 2, &bars, true);
    assert_eq!((found.table.loss, &found.output), (Loss::Log, &Output::Probabilities));
    let names: Vec<&str> = found.table.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["naive", "logistic", "trees", "dlinear", "model"]);
    assert!(found.probes.len() == 5 && found.probes.iter().all(|p| p.passed), "{found}");
    let model = found.table.model().unwrap();
    // P(up) = Φ(φ r / σ) with φ = 0.5 is right in 1/2 + asin(φ)/π = 2/3 of the bars.
    let right = model.direction.unwrap();
    assert!(right.low < 2.0 / 3.0 && right.high > 2.0 / 3.0, "{found}");
    assert!(model.gain_compared.unwrap().low > 0.0 && model.skill.unwrap().low > 0.0, "{found}");
    let naive = found.table.row("naive").unwrap();
    // Of a coin the log loss is ln 2 and the Brier score 1/4.
    assert!((naive.compared.unwrap().mean - 2.0f64.ln()).abs() < 0.01, "{found}");
    assert!((naive.brier.unwrap().mean - 0.25).abs() < 0.01);
    let calibration = model.calibration.as_ref().unwrap();
    assert!(calibration.error < 0.06 && calibration.bins.len() == 10, "{calibration:?}");
    assert!(model.distribution.is_none() && found.table.trading.is_empty());
    let text = found.to_string();
    for part in ["gain over naive in log loss", "Brier", "always the commoner direction", "P(up) -> share up"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Assessment>(&json).unwrap(), found);
}

/// Nothing to know: no gain, and nothing promoted, over seeds.
#[test]
fn directions_of_random_walks_are_not_promoted() {
    let mut promoted = 0;
    let seeds = counts(3, 40);
    for seed in 0..seeds {
        let bars = bars_of("A", &autoregressive(1500, 0.0, 700 + seed));
        let found = judge(&direction(), 2, &bars, false);
        let rules = GateRules { needs_probes: false, ..GateRules::default() };
        promoted += u64::from(gate::gate(&found.table.evidence(1, &[]), &rules).promoted);
    }
    assert!(20 * promoted <= seeds, "{promoted} of {seeds}");
}

#[test]
fn a_dead_band_is_refused_by_name() {
    let bars = bars_of("A", &autoregressive(900, 0.0, 5));
    let mut recipe = direction();
    recipe.label.dead_band = Some(0.001);
    let (model, walk) = (linear_head(3, 3, 3), walk());
    let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
    let found = assess(&subject, &settings(&[1], false), &[&bars], &mut Returns::new(2), None, &mut ());
    assert_eq!(found.unwrap_err(), AssessError::DeadBand);
}

/// Normal returns with a known mean: the model's quantiles cover as they say, and are better than those that know
/// nothing of the mean.
#[test]
fn quantiles_are_judged_as_distributions() {
    let bars = bars_of("A", &autoregressive(2500, 0.4, 42));
    let found = judge(&quantiles(LabelKind::LogReturn, 1), 5, &bars, true);
    assert_eq!(found.table.loss, Loss::Crps);
    let names: Vec<&str> = found.table.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["naive", "climate", "normal", "drift", "ridge", "trees", "dlinear", "model"]);
    // A slope that some 900 shuffled labels leave by chance is worth several percent where the signal is this strong, so
    // the one shuffle of that probe says nothing here; the test of directions above has it too.
    assert!(found.probes.iter().filter(|p| p.name != "label shuffle").all(|p| p.passed), "{found}");
    let row = |name: &str| found.table.row(name).unwrap();
    let of = |name: &str| row(name).distribution.as_ref().unwrap();
    let compared = row("model").compared.unwrap().mean;
    assert!((of("model").crps / compared - 1.0).abs() < 1e-6, "{} {compared}", of("model").crps);
    // Of a normal distribution the CRPS is σ/√π: 0.01 for what is left, and σ = 0.01/√(1 − φ²) without the mean.
    let expected = 0.01 / std::f64::consts::PI.sqrt();
    assert!((of("model").crps / expected - 1.0).abs() < 0.08, "{found}");
    for blind in ["climate", "normal", "naive"] {
        assert!((of(blind).crps / (expected / 0.84f64.sqrt()) - 1.0).abs() < 0.08, "{blind}: {found}");
        assert!((of(blind).coverage[8] - 0.9).abs() < 0.05, "{blind}: {found}");
    }
    assert!((of("model").coverage[8] - 0.9).abs() < 0.05, "{found}");
    assert!(found.table.gain().unwrap().low > 0.0, "{found}");
    assert!(found.to_string().contains("gain over naive in CRPS"), "{found}");
    assert!(!found.table.trading.is_empty(), "the sign of the median is traded");
}

#[test]
fn quantiles_of_volatility_have_ewma_and_har_beside_them() {
    let world = worlds::bursts(hourly(), 2500, 6, 3);
    let mut recipe = quantiles(LabelKind::RealisedVolatility, 6);
    recipe.data.symbols = vec![world.bars[0].key.symbol.clone()];
    let found = judge(&recipe, 5, &world.bars, false);
    let names: Vec<&str> = found.table.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["naive", "climate", "drift", "ridge", "trees", "ewma", "har", "dlinear", "model"]);
    let har = found.table.row("har").unwrap();
    assert!(har.gain_compared.unwrap().low > 0.0, "{found}");
    assert!(har.qlike.is_none() && found.table.gain_unit() == "CRPS");
}
