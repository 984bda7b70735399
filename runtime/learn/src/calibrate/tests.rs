use graph::reference::Interpreter;
use registry::{GapPolicy, Loss, Output};

use super::*;
use crate::fit::prepare;
use crate::label::LabelRecipe;
use crate::normalise::LabelScale;
use crate::random::Random;
use crate::split::CalibrationCut;
use crate::testing::{Returns, autoregressive, bars_of, full_counts, linear_head, recipe};
use crate::train::train;

fn reading(kind: LabelKind, output: Output) -> Reading {
    let label = LabelRecipe { kind, horizon_bars: 1, gaps: GapPolicy::Drop, dead_band: None };
    Reading::new(label, output, LabelScale { mean: 0.02, scale: 0.01 }, 0.9, 1.5)
}

/// Forecasts that know a part of what comes, and are too sure or not sure enough of it by `bend`.
fn simulated(kind: LabelKind, bend: f64, count: usize, seed: u64) -> Vec<Outcome> {
    let mut random = Random::new(seed);
    let mut one = || match kind {
        LabelKind::LogReturn => {
            let known = 0.01 * random.normal();
            let realised = known + 0.01 * random.normal();
            (vec![(known * bend) as f32], realised)
        }
        LabelKind::RealisedVolatility => {
            let known = 0.02 * (0.5 * random.normal()).exp();
            // Large ones are known less well.
            let noise = 0.2 + 10.0 * known;
            (vec![known as f32], known * (noise * random.normal()).exp())
        }
        LabelKind::Direction => {
            let logit: f64 = random.normal();
            let up = random.uniform() < 1.0 / (1.0 + (-logit).exp());
            let stated = 1.0 / (1.0 + (-bend * logit).exp());
            (vec![1.0 - stated as f32, stated as f32], if up { 1.0 } else { -1.0 })
        }
    };
    (0..count).map(|_| one()).map(|(values, realised)| Outcome { stream: 0, values, realised }).collect()
}

const WORLDS: [(LabelKind, Output); 3] = [
    (LabelKind::LogReturn, Output::Point),
    (LabelKind::RealisedVolatility, Output::Point),
    (LabelKind::Direction, Output::Probabilities),
];

/// On held-out data confidence is as often right as it says, in every bin, also of models that are three times too
/// sure, or not sure enough; and the interval covers as often as it says.
#[test]
fn confidence_and_intervals_hold_on_held_out_data() {
    for (kind, output) in WORLDS {
        for bend in [1.0, 3.0, 0.4] {
            for seed in 0..if full_counts() { 10 } else { 2 } {
                let reading = reading(kind, output.clone());
                let calibration = fit(&reading, 0.9, &simulated(kind, bend, 2000, 10 + seed)).unwrap();
                let on = simulated(kind, bend, 5000, 90 + seed);
                let found = reliability(&reading, &calibration, &on);
                // 2000 and 5000 draws of a rate near 0.7: 4 deviations, here and for the coverage below.
                assert!(found.calibration_error < 0.05, "{kind:?} {bend}: {found:?}");
                assert!((found.confidence - found.right).abs() < 0.05, "{kind:?} {bend}: {found:?}");
                let spread = found.bins[found.bins.len() - 1].confidence - found.bins[0].confidence;
                assert!(spread > 0.1, "{kind:?}: it tells sure from unsure: {found:?}");
                assert!((found.coverage - 0.9).abs() < 0.035, "{kind:?} {bend}: {}", found.coverage);
                assert!(
                    (found.coverage_adaptive - 0.9).abs() < 0.03,
                    "{kind:?}: {}",
                    found.coverage_adaptive
                );
            }
        }
    }
}

/// A forecast that knows nothing gets a confidence of about one half.
#[test]
fn ignorance_is_not_confidence() {
    let reading = reading(LabelKind::LogReturn, Output::Point);
    let mut random = Random::new(5);
    let noise: Vec<Outcome> = (0..3000)
        .map(|_| Outcome { stream: 0, values: vec![random.normal() as f32], realised: random.normal() })
        .collect();
    let calibration = fit(&reading, 0.9, &noise).unwrap();
    for value in [0.0f32, 0.1, 3.0] {
        let confidence = reading.confidence(&calibration, &[value]);
        assert!((confidence - 0.5).abs() < 0.06, "{value}: {confidence}");
    }
}

#[test]
fn too_few_samples_are_refused() {
    let reading = reading(LabelKind::LogReturn, Output::Point);
    let error = fit(&reading, 0.9, &simulated(LabelKind::LogReturn, 1.0, 29, 1)).unwrap_err();
    assert!(error.to_string().contains("29 samples") && error.to_string().contains("30"), "{error}");
    let error = fit(&reading, 0.99, &simulated(LabelKind::LogReturn, 1.0, 98, 1)).unwrap_err();
    assert!(error.to_string().contains("99 are needed"), "{error}");
}

/// From bars to a calibrated model and back from its manifest, for each output.
#[test]
fn each_output_is_trained_and_calibrated_from_bars() {
    let bars = bars_of("A", &autoregressive(2500, 0.5, 7));
    let levels = vec![0.05, 0.5, 0.95];
    let cases = [
        (LabelKind::LogReturn, Output::Point, Loss::MeanSquared, 1),
        (LabelKind::LogReturn, Output::Quantiles { levels: levels.clone() }, Loss::Quantiles, 3),
        (LabelKind::RealisedVolatility, Output::Quantiles { levels }, Loss::Quantiles, 3),
        (LabelKind::Direction, Output::Probabilities, Loss::CrossEntropy, 2),
    ];
    for (kind, output, loss, columns) in cases {
        let mut recipe = recipe(3, &["A"]);
        recipe.label.kind = kind;
        recipe.label.horizon_bars = 2;
        recipe.output.kind = output.clone();
        recipe.output.calibration = CalibrationCut::Share(0.5);
        recipe.training.loss = loss;
        let prepared = prepare(&recipe, &[&bars], &mut Returns::new(2)).unwrap();
        let part = prepared.calibration.as_ref().unwrap();
        let reach = |i: &usize| prepared.dataset.samples[*i].label_until;
        assert!(prepared.split.validation.iter().map(reach).max() < Some(part.from), "purged");
        let model = linear_head(3, 3, columns);
        let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
        assert!(trained.validation_curve.iter().all(|x| x.is_finite()));
        let calibration = calibrate(&prepared, &trained.model, &Interpreter).unwrap().unwrap();
        let test = &calibration.test;
        assert_eq!(test.samples, prepared.split.test.len() as u64);
        assert!((test.coverage_adaptive - 0.9).abs() < 0.06, "{kind:?} {output:?}: {test:?}");
        assert!((test.confidence - test.right).abs() < 0.08, "{kind:?} {output:?}: {test:?}");
        if kind != LabelKind::RealisedVolatility {
            assert!(test.right > 0.58, "half of the variance of the next return is known: {test:?}");
        }
        // A wrong number of columns is told before the first step.
        let wrong = linear_head(3, 3, columns + 1);
        let error = train(&prepared.job(&wrong, &recipe.training), &Interpreter, &mut (), None).unwrap_err();
        assert!(error.to_string().contains(output.name()), "{error}");
    }
}
