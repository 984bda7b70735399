use registry::GapPolicy;

use super::*;

fn label(kind: LabelKind, dead_band: Option<f64>) -> LabelRecipe {
    LabelRecipe { kind, horizon_bars: 1, gaps: GapPolicy::Drop, dead_band }
}

fn quantiles(levels: &[f64]) -> Output {
    Output::Quantiles { levels: levels.to_vec() }
}

const UNIT: LabelScale = LabelScale { mean: 0.0, scale: 1.0 };

#[test]
fn crossing_quantiles_are_sorted_and_the_median_is_the_value() {
    let output = quantiles(&[0.1, 0.5, 0.9]);
    let scale = LabelScale { mean: 1.0, scale: 2.0 };
    let values = values(&output, scale, &[0.5, 1.0, -1.0]);
    assert_eq!(values, [-1.0, 2.0, 3.0]);
    assert_eq!(value(&output, &values), 2.0);
}

#[test]
fn logits_become_probabilities() {
    let values = values(&Output::Probabilities, UNIT, &[1000.0, 1000.0 + 3.0f32.ln()]);
    assert!((values[0] - 0.25).abs() < 1e-4 && (values[1] - 0.75).abs() < 1e-4, "{values:?}");
    assert!((value(&Output::Probabilities, &values) - 0.5).abs() < 1e-4);
}

#[test]
fn targets_have_one_column_or_one_for_each_class() {
    let target = |output: &Output, label: &LabelRecipe, value| {
        let mut targets = Vec::new();
        push_target(&mut targets, output, label, LabelScale { mean: 1.0, scale: 2.0 }, value);
        targets
    };
    let (two, three) = (label(LabelKind::Direction, None), label(LabelKind::Direction, Some(0.01)));
    assert_eq!(target(&Output::Probabilities, &two, 1.0), [0.0, 1.0]);
    assert_eq!(target(&Output::Probabilities, &two, -1.0), [1.0, 0.0]);
    assert_eq!(target(&Output::Probabilities, &three, 0.0), [0.0, 1.0, 0.0]);
    let log_return = label(LabelKind::LogReturn, None);
    assert_eq!(target(&quantiles(&[0.1, 0.5]), &log_return, 5.0), [2.0]);
}

#[test]
fn losses_are_their_formulas() {
    let of = |loss, outputs: &[f64], target: &[f64]| loss_of(loss, &Output::Point, outputs, target);
    assert_eq!(of(Loss::MeanSquared, &[1.0], &[3.0]), 4.0);
    assert_eq!(of(Loss::Huber { delta: 1.0 }, &[0.0], &[0.5]), 0.125);
    assert_eq!(of(Loss::Huber { delta: 1.0 }, &[3.0], &[0.0]), 2.5);
    assert!((of(Loss::Pinball { quantile: 0.9 }, &[0.0], &[2.0]) - 1.8).abs() < 1e-15);
    assert!((of(Loss::Pinball { quantile: 0.9 }, &[2.0], &[0.0]) - 0.2).abs() < 1e-15);
    let mean = loss_of(Loss::Quantiles, &quantiles(&[0.1, 0.5]), &[0.0, 1.0], &[2.0]);
    assert!((mean - (0.1 * 2.0 + 0.5) / 2.0).abs() < 1e-15, "{mean}");
    let entropy = loss_of(Loss::CrossEntropy, &Output::Probabilities, &[0.0, 3.0f64.ln()], &[0.0, 1.0]);
    assert!((entropy + 0.75f64.ln()).abs() < 1e-12, "{entropy}");
}

#[test]
fn what_does_not_go_together_is_named() {
    let problem = |kind: Output, label: LabelRecipe, loss| {
        OutputRecipe { kind, ..Default::default() }.problem(&label, loss).map(|(key, _)| key)
    };
    let (log_return, direction) = (label(LabelKind::LogReturn, None), label(LabelKind::Direction, None));
    assert_eq!(problem(Output::Point, log_return, Loss::Huber { delta: 1.0 }), None);
    assert_eq!(problem(quantiles(&[0.1, 0.5]), log_return, Loss::Quantiles), None);
    assert_eq!(problem(Output::Probabilities, direction, Loss::CrossEntropy), None);
    assert_eq!(problem(Output::Point, direction, Loss::MeanSquared), Some("output.kind"));
    assert_eq!(problem(Output::Probabilities, log_return, Loss::CrossEntropy), Some("output.kind"));
    assert_eq!(problem(Output::Point, log_return, Loss::CrossEntropy), Some("training.loss"));
    assert_eq!(problem(quantiles(&[0.1, 0.9]), log_return, Loss::Quantiles), Some("output.levels"));
    assert_eq!(
        problem(Output::Point, label(LabelKind::LogReturn, Some(0.1)), Loss::MeanSquared),
        Some("label.dead_band")
    );
    let wrong = |edit: fn(&mut OutputRecipe)| {
        let mut recipe = OutputRecipe::default();
        edit(&mut recipe);
        recipe.problem(&log_return, Loss::MeanSquared).map(|(key, _)| key)
    };
    assert_eq!(wrong(|r| r.interval_level = 1.0), Some("output.interval_level"));
    assert_eq!(wrong(|r| r.factor = 1.0), Some("output.factor"));
    assert_eq!(wrong(|r| r.calibration = CalibrationCut::Share(0.0)), Some("output.calibration"));
}
