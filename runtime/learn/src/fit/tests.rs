use graph::reference::Interpreter;
use registry::{GapPolicy, LabelKind};

use super::*;
use crate::evaluate::Verdict;
use crate::random::Random;
use crate::testing::{Returns, autoregressive, bars_of, linear_model, recipe};
use crate::train::{Trained, train};
use crate::{Cut, LabelRecipe};

fn run(recipe: &TrainingRecipe, bars: &[&[Bar]]) -> (Prepared, Trained, Evaluation) {
    let prepared = prepare(recipe, bars, &mut Returns::new(2)).unwrap();
    let model = linear_model(recipe.window as usize, 3, 0.0);
    let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    let evaluation = judge(recipe, &prepared, &trained.model, &Interpreter).unwrap();
    (prepared, trained, evaluation)
}

#[test]
fn a_planted_signal_is_found_over_seeds() {
    for seed in 0..4 {
        let mut recipe = recipe(3, &["A"]);
        recipe.training.seed = seed;
        let bars = bars_of("A", &autoregressive(1500, 0.4, 40 + seed));
        let (.., evaluation) = run(&recipe, &[&bars]);
        assert_eq!(evaluation.verdict(), Verdict::Skill, "seed {seed}\n{evaluation}");
        let metrics = evaluation.metrics;
        assert!(metrics.model.ic.unwrap().low > 0.0);
        assert!(metrics.model.directional_accuracy.unwrap().low > 0.5);
        // The world is linear: the network can't be far from the ridge regression.
        assert!(metrics.model.skill_vs_ridge.unwrap().value.abs() < 0.03);
        assert!(metrics.ridge.skill.unwrap().low > 0.0);
    }
}

#[test]
fn a_random_walk_shows_none_over_seeds() {
    for seed in 0..8 {
        let mut recipe = recipe(3, &["A"]);
        recipe.training.seed = seed;
        let bars = bars_of("A", &autoregressive(1500, 0.0, 80 + seed));
        let (.., evaluation) = run(&recipe, &[&bars]);
        assert_ne!(evaluation.verdict(), Verdict::Skill, "seed {seed}\n{evaluation}");
    }
}

/// The tester's test: features that see the next bar are found to have skill on a random walk.
#[test]
fn a_planted_leak_looks_like_skill() {
    let bars = bars_of("A", &autoregressive(800, 0.0, 1));
    let mut prepared = prepare(&recipe(3, &["A"]), &[&bars], &mut Returns::new(2)).unwrap();
    let shifted: Vec<f64> = prepared.dataset.samples.iter().skip(1).map(|sample| sample.label).collect();
    // Each sample gets the label of the one before: the newest return, which its row holds.
    for (sample, label) in prepared.dataset.samples[1..].iter_mut().zip([0.0].iter().chain(&shifted)) {
        sample.label = *label;
    }
    let recipe = recipe(3, &["A"]);
    let model = linear_model(3, 3, 0.0);
    let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    let evaluation = judge(&recipe, &prepared, &trained.model, &Interpreter).unwrap();
    assert_eq!(evaluation.verdict(), Verdict::Skill, "{evaluation}");
}

/// Volatility that comes in bursts is forecastable beyond its last value.
#[test]
fn volatility_is_judged_against_its_last_value() {
    let mut random = Random::new(9);
    let mut log_scale = 0.0;
    let returns: Vec<f64> = (0..3000)
        .map(|_| {
            log_scale = 0.98 * log_scale + 0.15 * random.normal();
            0.01 * f64::exp(log_scale) * random.normal()
        })
        .collect();
    let bars = bars_of("A", &returns);
    let mut recipe = recipe(3, &["A"]);
    recipe.label = LabelRecipe {
        kind: LabelKind::RealisedVolatility,
        horizon_bars: 12,
        gaps: GapPolicy::Drop,
        dead_band: None,
    };
    let (prepared, _, evaluation) = run(&recipe, &[&bars]);
    let sample = prepared.dataset.samples[100];
    let past: f64 = returns[sample.end - 11..=sample.end].iter().map(|r| r * r).sum::<f64>().sqrt();
    assert!((sample.naive - past).abs() < 1e-9 * past);
    assert_eq!(evaluation.metrics.block_steps, 12);
    assert!(evaluation.metrics.naive.ic.unwrap().low > 0.0, "{evaluation}");
}

#[test]
fn a_model_is_trained_again_from_its_manifest_to_the_same_bits() {
    let (a, b) = (bars_of("A", &autoregressive(700, 0.3, 1)), bars_of("B", &autoregressive(650, 0.3, 2)));
    let mut recipe = recipe(3, &["A", "B"]);
    recipe.training.loss = registry::Loss::Huber { delta: 1.5 };
    recipe.training.clip_norm = None;
    let (prepared, trained, evaluation) = run(&recipe, &[&a, &b]);
    let manifest = recipe.manifest(&prepared, &trained, &evaluation, Timestamp::from_seconds(1_700_000_000));
    let dir = tempfile::tempdir().unwrap();
    let registry = registry::Registry::open(dir.path()).unwrap();
    registry.publish(manifest, &[("model.onnx", b"weights")]).unwrap();
    let manifest = registry.load("small", registry::Version::Latest).unwrap().manifest;

    let again = TrainingRecipe::from_manifest(&manifest).unwrap();
    assert!(matches!(again.split.cut, Cut::Times(_)) && again.data.pinned.is_some());
    // More bars than then: the recipe cuts them.
    let (longer_a, longer_b) =
        (bars_of("A", &autoregressive(900, 0.3, 1)), bars_of("B", &autoregressive(650, 0.3, 2)));
    let (prepared_again, trained_again, evaluation_again) = run(&again, &[&longer_a, &longer_b]);
    assert_eq!(trained_again, trained);
    assert_eq!(evaluation_again, evaluation);
    let manifest_again = again.manifest(
        &prepared_again,
        &trained_again,
        &evaluation_again,
        Timestamp::from_seconds(1_700_000_000),
    );
    assert_eq!(manifest_again, registry::Manifest { files: Default::default(), ..manifest.clone() });

    let shown = Evaluation::from_manifest(&manifest).unwrap();
    assert_eq!((shown.verdict(), &shown.metrics), (evaluation.verdict(), &evaluation.metrics));

    // The model's own constants judge it the same.
    let judged = prepare_for(&again, &manifest, &[&longer_a, &longer_b], &mut Returns::new(2)).unwrap();
    assert_eq!(judge(&again, &judged, &trained.model, &Interpreter).unwrap(), evaluation);

    let mut other = longer_a.clone();
    other[5].volume += 1.0;
    let error = prepare(&again, &[&other, &longer_b], &mut Returns::new(2)).unwrap_err();
    assert!(matches!(error, PrepareDataError::Bars { .. }), "{error}");
}

#[test]
fn plugins_and_streams_must_be_the_recipes() {
    let bars = bars_of("A", &autoregressive(300, 0.3, 1));
    let error = |edit: fn(&mut TrainingRecipe)| {
        let mut recipe = recipe(3, &["A"]);
        edit(&mut recipe);
        prepare(&recipe, &[&bars], &mut Returns::new(2)).unwrap_err().to_string()
    };
    let message = error(|recipe| recipe.features.digest = registry::sha256_hex(b"another build"));
    assert!(
        message.contains("returns@0.1.0") && message.contains(&registry::sha256_hex(b"returns")),
        "{message}"
    );
    let message = error(|recipe| recipe.data.symbols.push(recipe.data.symbols[0].clone()));
    assert!(message.contains("A 1h"), "{message}");
    let message = error(|recipe| recipe.training.patience = 0);
    assert!(message.contains("training.patience"), "{message}");
    let message = error(|recipe| recipe.window = 0);
    assert!(message.contains("window"), "{message}");
}

#[test]
fn recipes_survive_json() {
    let recipe = recipe(3, &["A", "B"]);
    let json = serde_json::to_string(&recipe).unwrap();
    assert_eq!(serde_json::from_str::<TrainingRecipe>(&json).unwrap(), recipe);
    let unknown = json.replacen("\"window\"", "\"windows\"", 1);
    assert!(serde_json::from_str::<TrainingRecipe>(&unknown).is_err());
}

/// The whole path depends on the recipe and the bars alone.
#[test]
fn later_bars_change_nothing_that_was_trained() {
    let returns = autoregressive(800, 0.3, 1);
    let bars = bars_of("A", &returns);
    let (prepared, trained, _) = run(&recipe(3, &["A"]), &[&bars]);
    let from = bars.iter().position(|bar| bar.open_time >= prepared.split.times.test).unwrap();
    let mut changed = returns.clone();
    changed[from..].iter_mut().for_each(|r| *r *= -3.0);
    let (other_prepared, other_trained, _) = run(&recipe(3, &["A"]), &[&bars_of("A", &changed)]);
    assert_eq!(other_prepared.normaliser, prepared.normaliser);
    assert_eq!(other_trained, trained);
}
