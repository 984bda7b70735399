use crate::calibration::{Confidence, Reliability, ReliabilityBin, Source, Unseen};
use proptest::prelude::*;

use super::*;
use crate::digest::{names_fingerprint, sha256_hex};
use crate::metrics::{Interval, Scores};

/// A manifest that passes its check, with awkward numbers in it.
pub(crate) fn sample() -> Manifest {
    let names = vec!["return_1".to_string(), "rsi_14".to_string()];
    let interval = Interval { value: 0.1 + 0.2, low: -1e-17, high: 1.0 / 3.0 };
    let scores = Scores {
        rmse: 1e-3,
        mae: 7e-4,
        mase: 0.99,
        skill: Some(interval),
        skill_vs_ridge: None,
        directional_accuracy: Some(interval),
        ic: None,
        rank_ic: None,
    };
    let range = |from: &str, until: &str| Range { from: from.into(), until: until.into(), samples: 10 };
    Manifest {
        format: FORMAT,
        name: "lstm-btc".into(),
        version: 3,
        created_at: "2025-02-03T04:05:06.789Z".into(),
        architecture: Architecture {
            plugin: "lstm@0.1.0".into(),
            digest: sha256_hex(b"lstm"),
            hyper: r#"{"hidden": 64, "rate": 0.1, "note": "it's"}"#.into(),
        },
        features: Features {
            plugin: "technical@0.1.0".into(),
            digest: sha256_hex(b"technical"),
            options: "{}".into(),
            fingerprint: names_fingerprint(&names),
            warmup: 30,
            names,
        },
        input: Input { window: 60, features: 2, outputs: 1 },
        normaliser: Normaliser { clip: Some(10.0), mean: vec![0.1, -2.5e-9], scale: vec![1.0 / 3.0, 5e-324] },
        label: Label {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
            mean: 1.2345678901234567e-5,
            scale: 0.004,
        },
        output: Output::Point,
        data: Data {
            description: "hourly bars".into(),
            symbols: vec!["BTC/USD".into()],
            timeframe: "1h".into(),
            rows: 1000,
            first_open_time: "2020-01-01T00:00:00Z".into(),
            last_open_time: "2020-02-11T15:00:00Z".into(),
            digest: sha256_hex(b"bars"),
            embargo_bars: 0,
            train: range("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
            validation: range("2020-02-01T00:00:00Z", "2020-02-05T00:00:00Z"),
            calibration: None,
            test: range("2020-02-05T00:00:00Z", "2020-02-12T00:00:00Z"),
        },
        training: Training {
            seed: 7,
            loss: Loss::Huber { delta: 1.5 },
            batch: 64,
            epochs_max: 10,
            patience: 3,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_steps: 10,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: Some(1.0),
            trials: 1,
            epochs: 2,
            best_epoch: 1,
            train_curve: vec![1.0, 0.9],
            validation_curve: vec![0.99, 1.01],
        },
        metrics: Metrics {
            samples: 100,
            confidence: 0.95,
            block_steps: 5,
            resamples: 1000,
            bootstrap_seed: 1,
            majority_rate: 0.51,
            ridge_lambda: 0.1,
            model: scores.clone(),
            naive: Scores { skill: None, directional_accuracy: None, ..scores.clone() },
            ridge: scores,
        },
        calibration: None,
        profile: None,
        foreign: None,
        parent: None,
        serving: Serving {
            sliding: Sliding::Exact,
            device_tolerance: 1e-4,
            precision: Precision::Bf16,
            precision_error: Some(2e-5),
        },
        files: BTreeMap::from([("model.onnx".to_string(), sha256_hex(b"onnx"))]),
    }
}

#[test]
fn text_gives_back_the_same_bits() {
    let manifest = sample();
    let text = manifest.to_text().unwrap();
    assert_eq!(Manifest::parse(&text).unwrap(), manifest, "{text}");
    for loss in [Loss::MeanSquared, Loss::Pinball { quantile: 0.1 }] {
        let mut manifest = sample();
        manifest.training.loss = loss;
        manifest.normaliser.clip = None;
        assert_eq!(Manifest::parse(&manifest.to_text().unwrap()).unwrap(), manifest);
    }
}

/// Replaces one line of the sample's text; the error must hold every one of `expected`.
fn check_edit(from: &str, to: &str, expected: &[&str]) {
    let text = sample().to_text().unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    let error = Manifest::parse(&text.replacen(from, to, 1)).expect_err(to).to_string();
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn errors_name_the_key_and_what_to_change() {
    check_edit("window = 60", "window = 0", &["input.window", "0", "1 to 8192"]);
    check_edit("window = 60", "window = \"x\"", &["line", "window = \"x\"", "correct"]);
    check_edit("window = 60", "wndow = 60", &["wndow"]);
    check_edit("window = 60", "", &["window"]);
    check_edit("format = 1", "format = 2", &["format = 2", "reads 1"]);
    check_edit("name = \"lstm-btc\"", "name = \"../x\"", &["name", "../x"]);
    check_edit("mean = [0.1", "mean = [nan", &["normaliser.mean", "NaN"]);
    check_edit("mean = [0.1, ", "mean = [", &["normaliser.mean", "a list of 1"]);
    check_edit("clip = 10.0", "clip = -1.0", &["normaliser.clip", "above zero"]);
    check_edit("\"rsi_14\"", "\"rsi_15\"", &["features.fingerprint"]);
    check_edit("created_at = \"2025-02-03T04:05:06.789Z\"", "created_at = \"2025-02-03\"", &["created_at"]);
    check_edit("kind = \"huber\"", "kind = \"hubert\"", &["hubert"]);
    check_edit("delta = 1.5", "delta = 0", &["training.loss.delta"]);
    check_edit("options = \"{}\"", "options = \"[]\"", &["features.options", "JSON object"]);
    check_edit("best_epoch = 1", "best_epoch = 3", &["training.best_epoch"]);
    check_edit(&sha256_hex(b"onnx"), "abc", &["model.onnx", "64 lower-case hex"]);
    check_edit("\"model.onnx\"", "\"other.onnx\"", &["files", "model.onnx"]);
    check_edit("horizon_bars = 1", "horizon_bars = 1\nextra = 2", &["extra"]);
    check_edit("low = -0.00000000000000001", "low = 9.0", &["metrics.model.skill"]);
}

#[test]
fn too_long_a_text_is_refused_unread() {
    let text = " ".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(Manifest::parse(&text), Err(ManifestError::TooLong { bytes: TEXT_BYTES_MAX + 1 }));
}

#[test]
fn what_toml_cannot_hold_is_an_error() {
    let mut manifest = sample();
    manifest.training.seed = u64::MAX;
    assert!(manifest.to_text().unwrap_err().to_string().contains("training.seed"));
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "\\PC{0,400}") {
        prop_assert!(Manifest::parse(&text).is_err());
    }

    #[test]
    fn mutated_text_is_refused_or_passes_its_check(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..8)) {
        let mut bytes = sample().to_text().unwrap().into_bytes();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match Manifest::parse(&text) {
            Ok(manifest) => {
                let again = manifest.to_text().unwrap();
                prop_assert_eq!(Manifest::parse(&again).unwrap(), manifest);
            }
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
    }
}

type Edit = fn(&mut Manifest);

/// Every range and length that the check knows, each broken alone.
#[test]
fn each_impossible_value_is_named() {
    let edits: &[(&str, Edit)] = &[
        ("format", |m| m.format = 2),
        ("name", |m| m.name = "A".into()),
        ("version", |m| m.version = 0),
        ("created_at", |m| m.created_at = "yesterday".into()),
        ("architecture.plugin", |m| m.architecture.plugin.clear()),
        ("architecture.digest", |m| m.architecture.digest.clear()),
        ("architecture.hyper", |m| m.architecture.hyper = "hidden=64".into()),
        ("features.plugin", |m| m.features.plugin = "a b".into()),
        ("features.digest", |m| m.features.digest = "0".repeat(63)),
        ("features.options", |m| m.features.options.clear()),
        ("features.names", |m| m.features.names[0].clear()),
        ("features.fingerprint", |m| m.features.names.swap(0, 1)),
        ("input.window", |m| m.input.window = 8_193),
        ("input.features", |m| m.input.features = 0),
        ("input.outputs", |m| m.input.outputs = 0),
        ("features.names", |m| m.input.features = 3),
        ("normaliser.mean", |m| m.normaliser.mean.push(0.0)),
        ("normaliser.scale", |m| m.normaliser.scale.truncate(1)),
        ("normaliser.mean", |m| m.normaliser.mean[1] = f64::INFINITY),
        ("normaliser.scale", |m| m.normaliser.scale[1] = 0.0),
        ("normaliser.scale", |m| m.normaliser.scale[1] = f64::NAN),
        ("normaliser.clip", |m| m.normaliser.clip = Some(f64::INFINITY)),
        ("label.horizon_bars", |m| m.label.horizon_bars = 0),
        ("label.mean", |m| m.label.mean = f64::NAN),
        ("label.scale", |m| m.label.scale = -1.0),
        ("data.description", |m| m.data.description = "x".repeat(4097)),
        ("data.symbols", |m| m.data.symbols.clear()),
        ("data.symbols", |m| m.data.symbols[0] = "x".repeat(33)),
        ("data.timeframe", |m| m.data.timeframe.clear()),
        ("data.rows", |m| m.data.rows = 0),
        ("data.first_open_time", |m| m.data.first_open_time = "2020-01-01T00:00:00".into()),
        ("data.last_open_time", |m| m.data.last_open_time.clear()),
        ("data.digest", |m| m.data.digest = m.data.digest.to_uppercase()),
        ("data.train.from", |m| m.data.train.from.clear()),
        ("data.validation.until", |m| m.data.validation.until.clear()),
        ("data.test.samples", |m| m.data.test.samples = 0),
        ("training.seed", |m| m.training.seed = 1 << 63),
        ("training.batch", |m| m.training.batch = 0),
        ("training.epochs_max", |m| m.training.epochs_max = 0),
        ("training.patience", |m| m.training.patience = 0),
        ("training.trials", |m| m.training.trials = 0),
        ("training.learning_rate", |m| m.training.learning_rate = 0.0),
        ("training.beta1", |m| m.training.beta1 = 1.0),
        ("training.beta2", |m| m.training.beta2 = -0.1),
        ("training.epsilon", |m| m.training.epsilon = f64::NAN),
        ("training.weight_decay", |m| m.training.weight_decay = -1.0),
        ("training.clip_norm", |m| m.training.clip_norm = Some(0.0)),
        ("training.loss.quantile", |m| m.training.loss = Loss::Pinball { quantile: 1.0 }),
        ("training.epochs", |m| m.training.epochs = 11),
        ("training.best_epoch", |m| m.training.best_epoch = 0),
        ("training.train_curve", |m| m.training.train_curve.push(1.0)),
        ("training.validation_curve", |m| m.training.validation_curve[0] = f64::NAN),
        ("metrics.samples", |m| m.metrics.samples = 0),
        ("metrics.bootstrap_seed", |m| m.metrics.bootstrap_seed = u64::MAX),
        ("metrics.confidence", |m| m.metrics.confidence = 1.0),
        ("metrics.majority_rate", |m| m.metrics.majority_rate = 1.5),
        ("metrics.ridge_lambda", |m| m.metrics.ridge_lambda = -1.0),
        ("metrics.naive.mae", |m| m.metrics.naive.mae = f64::NAN),
        ("metrics.ridge.skill", |m| {
            m.metrics.ridge.skill = Some(Interval { value: 0.0, low: 1.0, high: -1.0 })
        }),
        ("serving.device_tolerance", |m| m.serving.device_tolerance = 0.0),
        ("serving.precision_error", |m| m.serving.precision_error = Some(-1.0)),
        ("files", |m| m.files.clear()),
        ("files", |m| drop(m.files.insert("../x".into(), sha256_hex(b"")))),
        ("files.\"model.onnx\"", |m| drop(m.files.insert("model.onnx".into(), "0".into()))),
    ];
    for (expected, edit) in edits {
        let mut manifest = sample();
        edit(&mut manifest);
        match manifest.check() {
            Err(ManifestError::Value { key, .. }) => assert_eq!(key, *expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

/// A key, and what makes it one that can't be.
type Spoiled = (&'static str, fn(&mut Calibration));

fn calibration() -> Calibration {
    Calibration {
        level: 0.9,
        samples: 500,
        quantile: 0.3,
        step: 0.1,
        floor: 1e-4,
        factor: Some(1.5),
        source: None,
        confidence: Confidence { intercept: 0.25, slope: -1.5 },
        test: Reliability {
            samples: 900,
            coverage: 0.91,
            coverage_adaptive: 0.9,
            width: 0.02,
            width_adaptive: 0.019,
            confidence: 0.6,
            right: 0.58,
            brier: 0.24,
            calibration_error: 0.03,
            bins: vec![ReliabilityBin { confidence: 0.6, right: 0.58, samples: 900 }],
        },
    }
}

/// Made after the training, of the weights with this digest.
fn source(weights: &str) -> Source {
    let Data { train, test, .. } = sample().data;
    Source {
        model: "btc/1".into(),
        weights: weights.into(),
        description: "later.csv".into(),
        digest: "ab".repeat(32),
        unseen: Unseen::Yes,
        fitted: train,
        tested: test,
    }
}

#[test]
fn a_later_calibration_is_of_these_weights() {
    let mut manifest = sample();
    manifest.label.kind = LabelKind::RealisedVolatility;
    let weights = manifest.files["model.onnx"].clone();
    manifest.calibration = Some(Calibration { source: Some(source(&weights)), ..calibration() });
    let text = manifest.to_text().unwrap();
    assert_eq!(Manifest::parse(&text).unwrap(), manifest, "{text}");
    type Spoil = fn(&mut Source);
    let spoil: [(&str, Spoil); 4] = [
        ("calibration.source.weights", |s| s.weights = "ab".repeat(32)),
        ("calibration.source.digest", |s| s.digest = "none".into()),
        ("calibration.source.model", |s| s.model = "a\nb".into()),
        ("calibration.source.tested.samples", |s| s.tested.samples = 0),
    ];
    for (key, spoil) in spoil {
        let mut source = source(&weights);
        spoil(&mut source);
        manifest.calibration = Some(Calibration { source: Some(source), ..calibration() });
        let error = manifest.check().unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn outputs_and_calibration_are_kept_to_the_bit() {
    let mut quantiles = sample();
    quantiles.label.kind = LabelKind::RealisedVolatility;
    quantiles.output = Output::Quantiles { levels: vec![0.05, 0.5, 0.95] };
    quantiles.training.loss = Loss::Quantiles;
    quantiles.input.outputs = 3;
    quantiles.calibration = Some(calibration());
    quantiles.data.calibration = Some(quantiles.data.validation.clone());
    let mut direction = sample();
    direction.label.kind = LabelKind::Direction;
    direction.label.dead_band = Some(5e-4);
    direction.output = Output::Probabilities;
    direction.training.loss = Loss::CrossEntropy;
    direction.input.outputs = 3;
    direction.calibration = Some(Calibration { factor: None, floor: 0.0, ..calibration() });
    for manifest in [quantiles, direction] {
        let text = manifest.to_text().unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest, "{text}");
    }
    let old = sample().to_text().unwrap();
    assert!(!old.contains("[output]") && !old.contains("[calibration]"), "older programs read it: {old}");
}

#[test]
fn a_label_an_output_and_a_loss_that_do_not_go_together_are_refused() {
    let refused = |edit: fn(&mut Manifest), key: &str| {
        let mut manifest = sample();
        edit(&mut manifest);
        let error = manifest.check().expect_err(key).to_string();
        assert!(error.contains(&format!("manifest key {key} is")), "{error} lacks {key}");
    };
    let levels = |levels: &[f64]| Output::Quantiles { levels: levels.to_vec() };
    assert!(levels(&[0.5]) != Output::Point);
    refused(|m| m.label.kind = LabelKind::Direction, "output.kind");
    refused(|m| m.output = Output::Probabilities, "output.kind");
    refused(|m| m.output = Output::Quantiles { levels: vec![0.5] }, "training.loss.kind");
    refused(|m| m.training.loss = Loss::CrossEntropy, "training.loss.kind");
    refused(|m| m.label.dead_band = Some(0.1), "label.dead_band");
    for bad in [&[0.1, 0.9][..], &[0.5, 0.5], &[0.5, 0.1], &[0.0, 0.5], &[]] {
        let mut manifest = sample();
        manifest.training.loss = Loss::Quantiles;
        manifest.input.outputs = bad.len().max(1) as u32;
        manifest.output = levels(bad);
        let error = manifest.check().expect_err("levels").to_string();
        assert!(error.contains("output.levels") && error.contains("0.5"), "{bad:?}: {error}");
    }
    refused(
        |m| {
            m.output = Output::Quantiles { levels: vec![0.1, 0.5] };
            m.training.loss = Loss::Quantiles;
        },
        "input.outputs",
    );
    let spoiled: [Spoiled; 6] = [
        ("calibration.level", |c| c.level = 1.0),
        ("calibration.step", |c| c.step = 0.0),
        ("calibration.quantile", |c| c.quantile = f64::NAN),
        ("calibration.factor", |c| c.factor = Some(1.0)),
        ("calibration.confidence.slope", |c| c.confidence.slope = f64::INFINITY),
        ("calibration.test.coverage", |c| c.test.coverage = 1.1),
    ];
    for (key, edit) in spoiled {
        let mut manifest = sample();
        manifest.label.kind = LabelKind::RealisedVolatility;
        let mut calibration = calibration();
        edit(&mut calibration);
        manifest.calibration = Some(calibration);
        let error = manifest.check().expect_err(key).to_string();
        assert!(error.contains(key), "{error} lacks {key}");
    }
}

/// As an import makes it: what isn't known isn't there.
pub(crate) fn imported() -> Manifest {
    let mut manifest = sample();
    let Data { description, symbols, timeframe, .. } = manifest.data;
    manifest.data = Data { description, symbols, timeframe, ..Data::default() };
    manifest.training = Training::default();
    manifest.metrics = Metrics::default();
    manifest.foreign = Some(Foreign {
        digest: sha256_hex(b"file"),
        producer: "pytorch 2.9.0".into(),
        opset: 17,
        runs: Runs::Tract,
        input: "x".into(),
        output: "y".into(),
        layout: Layout::Flat,
    });
    manifest
}

#[test]
fn an_imported_manifest_holds_what_is_known_alone() {
    let manifest = imported();
    let text = manifest.to_text().unwrap();
    assert_eq!(Manifest::parse(&text).unwrap(), manifest);
    for absent in ["[training]", "[metrics", "[data.train]", "rows"] {
        assert!(!text.contains(absent), "{absent} is in\n{text}");
    }
    let edits: &[(&str, Edit)] = &[
        ("foreign.digest", |m| m.foreign.as_mut().unwrap().digest.clear()),
        ("foreign.opset", |m| m.foreign.as_mut().unwrap().opset = 0),
        ("foreign.producer", |m| m.foreign.as_mut().unwrap().producer = "a\n".into()),
        ("foreign.output", |m| m.foreign.as_mut().unwrap().output = "x".repeat(257)),
        ("training", |m| m.training = sample().training),
        ("metrics", |m| m.metrics = sample().metrics),
        ("data", |m| m.data = sample().data),
        ("data.timeframe", |m| m.data.timeframe.clear()),
        ("training.seed", |m| (m.foreign, m.data, m.training.seed) = (None, sample().data, u64::MAX)),
        ("data.rows", |m| m.foreign = None),
    ];
    for (expected, edit) in edits {
        let mut manifest = imported();
        edit(&mut manifest);
        match manifest.check() {
            Err(ManifestError::Value { key, .. }) => assert_eq!(key, *expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_parent_comes_back_and_is_checked() {
    let parent = Parent {
        name: "btc".into(),
        version: 3,
        digest: "ab".repeat(32),
        weights: Weights::Continued,
        fresh_from: "2024-03-01T05:00:00Z".into(),
        fresh_samples: 10,
        older_samples: 5,
        first_learning_rate: 0.001,
    };
    let with = |edit: fn(&mut Parent)| {
        let mut parent = parent.clone();
        edit(&mut parent);
        Manifest { parent: Some(parent), ..sample() }
    };
    let whole = with(|_| {});
    assert_eq!(Manifest::parse(&whole.to_text().unwrap()).unwrap(), whole);
    let refused = |edit: fn(&mut Parent), key: &str| {
        let error = with(edit).check().unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    };
    refused(|p| p.name = "A/B".into(), "parent.name");
    refused(|p| p.version = 0, "parent.version");
    refused(|p| p.digest.clear(), "parent.digest");
    refused(|p| p.fresh_from = "yesterday".into(), "parent.fresh_from");
    refused(|p| p.fresh_samples = 0, "parent.fresh_samples");
    refused(|p| p.first_learning_rate = 0.0, "parent.first_learning_rate");
}
