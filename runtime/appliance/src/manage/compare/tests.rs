use learn::live::sequential::Verdict;
use learn::random::Random;
use market::{StreamKey, Symbol, Timeframe};
use registry::{
    Architecture, Features, GapPolicy, Input, Label, LabelKind, Normaliser, Output, Scores, Serving, Sliding,
};
use store::{ModelName, Realised, RealisedValue};

use super::*;

pub(in crate::manage) const MODELS: [&str; 2] = ["a/1", "b/2"];

pub(in crate::manage) fn manifest(model: &str, horizon_bars: u32) -> Manifest {
    let (name, version) = model.split_once('/').unwrap();
    let text = String::new;
    Manifest {
        format: registry::FORMAT,
        name: name.into(),
        version: version.parse().unwrap(),
        created_at: text(),
        architecture: Architecture { plugin: text(), digest: text(), hyper: text() },
        features: Features {
            plugin: text(),
            digest: text(),
            options: text(),
            fingerprint: text(),
            warmup: 0,
            names: Vec::new(),
        },
        input: Input { window: 1, features: 1, outputs: 1 },
        normaliser: Normaliser { clip: None, mean: vec![0.0], scale: vec![1.0] },
        label: Label {
            kind: LabelKind::LogReturn,
            horizon_bars,
            gaps: GapPolicy::Drop,
            dead_band: None,
            mean: 0.0,
            scale: 1.0,
        },
        output: Output::Point,
        data: registry::Data { timeframe: "1h".into(), ..Default::default() },
        training: Default::default(),
        metrics: registry::Metrics {
            model: Scores { rmse: 0.9, ..Default::default() },
            naive: Scores { rmse: 1.0, ..Default::default() },
            ..Default::default()
        },
        calibration: None,
        profile: None,
        parent: None,
        foreign: None,
        serving: Serving {
            sliding: Sliding::Exact,
            device_tolerance: 1e-4,
            precision: Default::default(),
            precision_error: None,
        },
        files: Default::default(),
    }
}

/// The outcome of a bar of a symbol, due one bar later.
pub(in crate::manage) fn record(model: &str, symbol: &str, bar: i64, result: Realised) -> RealisedRecord {
    let (name, version) = model.split_once('/').unwrap();
    let hour = |n: i64| Timestamp(n * 3_600_000_000_000);
    RealisedRecord {
        seq: bar as u64,
        revision: 0,
        key: StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse("1h").unwrap() },
        model: ModelName { name: name.into(), version: version.into() },
        model_digest: [0; 32],
        open_time: hour(bar),
        due_open_time: hour(bar + 1),
        written_at: hour(bar + 1),
        result,
        state: Vec::new(),
    }
}

pub(in crate::manage) fn value(predicted: f64, realised: f64, covered: bool) -> Realised {
    Realised::Value(RealisedValue {
        predicted,
        realised,
        naive: Some(0.0),
        covered: Some(covered),
        right: true,
        confidence: Some(0.5),
    })
}

fn started() -> Comparison {
    Comparison::new(&manifest(MODELS[0], 1), &manifest(MODELS[1], 1), 0.05).unwrap()
}

/// Two symbols; the challenger's forecast error is smaller by the share `edge`.
pub(in crate::manage) fn simulated(bars: i64, edge: f64) -> Comparison {
    let mut comparison = started();
    let mut random = Random::new(1);
    for bar in 0..bars {
        for symbol in ["A", "B"] {
            let realised = random.normal();
            let (mine, other) = (random.normal(), random.normal());
            comparison.observe(&record(MODELS[0], symbol, bar, value(realised + mine, realised, true)));
            let forecast = realised + (1.0 - edge) * other;
            comparison.observe(&record(MODELS[1], symbol, bar, value(forecast, realised, true)));
        }
    }
    comparison
}

#[test]
fn the_better_model_is_found_and_equal_ones_are_not_told_apart() {
    let mut better = simulated(4000, 0.2);
    better.finish();
    let report = better.report();
    assert_eq!((report.test.verdict, report.counts.pairs), (Verdict::Better, 8000), "{report:?}");
    assert!((report.champion_loss.unwrap() - 1.0).abs() < 0.05, "{report:?}");
    assert!((report.challenger_loss.unwrap() - 0.64).abs() < 0.05, "{report:?}");
    assert_eq!((report.test.steps, report.test.blocks, report.block_steps), (4000, 1000, 4));
    let last = report.points[report.points.len() - 1];
    assert_eq!((Some(last.low), Some(last.high)), (report.test.low, report.test.high));
    assert!(last.high < 0.0 && last.due == Timestamp(4000 * 3_600_000_000_000));
    assert_eq!(simulated(2000, 0.0).report().test.verdict, Verdict::Undecided);
    assert_eq!(simulated(4000, -0.25).report().test.verdict, Verdict::Worse);
}

#[test]
fn what_is_no_pair_is_counted_and_left_out() {
    let mut comparison = started();
    let mut see = |model, symbol, bar, result| _ = comparison.observe(&record(model, symbol, bar, result));
    see(MODELS[0], "A", 1, value(0.0, 1.0, true));
    see(MODELS[1], "A", 1, value(0.5, 1.0, true));
    see(MODELS[0], "A", 2, Realised::Gap);
    see(MODELS[1], "A", 2, value(0.5, 1.0, true));
    see(MODELS[0], "A", 3, value(0.0, 1.0, true));
    see(MODELS[1], "B", 3, value(0.0, 1.0, true));
    see("other/1", "A", 3, value(9.0, 1.0, true));
    see("a/2", "A", 3, value(9.0, 1.0, true));
    comparison.finish();
    let report = comparison.report();
    let expected = Counts { pairs: 1, void: 1, champion_only: 1, challenger_only: 1, ..Counts::default() };
    assert_eq!((report.counts, report.test.steps), (expected, 1));
    assert_eq!((report.champion_loss, report.challenger_loss), (Some(1.0), Some(0.25)));
}

#[test]
fn a_revision_in_time_replaces_what_it_revises() {
    let mut comparison = started();
    for bar in 0..20 {
        for model in MODELS {
            comparison.observe(&record(model, "A", bar, value(0.0, 1.0, true)));
        }
    }
    let revised = |bar| RealisedRecord { revision: 1, ..record(MODELS[0], "A", bar, value(0.0, 2.0, true)) };
    comparison.observe(&revised(15));
    comparison.observe(&revised(2));
    comparison.observe(&record(MODELS[0], "B", 2, value(0.0, 2.0, true)));
    comparison.finish();
    let report = comparison.report();
    let counts = Counts { pairs: 20, revised: 1, revised_late: 1, late: 1, ..Counts::default() };
    assert_eq!(report.counts, counts);
    assert_eq!(report.champion_loss, Some((19.0 + 4.0) / 20.0));
}

/// What is stored and read again, and given all records once more, reaches the same state.
#[test]
fn a_resumed_comparison_goes_on_to_the_same_bits() {
    let mut random = Random::new(5);
    let mut records = Vec::new();
    for bar in 0..700 {
        for model in MODELS {
            records.push(record(model, "A", bar, value(random.normal(), random.normal(), true)));
        }
    }
    let mut whole = started();
    records.iter().for_each(|r| _ = whole.observe(r));
    let mut first = started();
    records[..801].iter().for_each(|r| _ = first.observe(r));
    let stored = serde_json::to_string(&first.saved()).unwrap();
    let mut again = Comparison::resume(serde_json::from_str(&stored).unwrap());
    records.iter().for_each(|r| _ = again.observe(r));
    assert_eq!(whole.saved(), again.saved());
    whole.finish();
    again.finish();
    assert_eq!(whole.report(), again.report());
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let new = |a: &Manifest, b: &Manifest, level| Comparison::new(a, b, level).unwrap_err();
    let (a, b) = (manifest(MODELS[0], 1), manifest(MODELS[1], 1));
    assert!(new(&a, &a, 0.05).contains("with itself"));
    assert!(new(&a, &manifest("c/1", 3), 0.05).contains("log_return over 3 bars"));
    let daily = Manifest { data: registry::Data { timeframe: "1d".into(), ..b.data.clone() }, ..b.clone() };
    assert!(new(&a, &daily, 0.05).contains("one label and timeframe"));
    assert!(new(&a, &b, 1.5).contains("level"));
    let quantiles = Manifest { output: Output::Quantiles { levels: vec![0.1, 0.5, 0.9] }, ..b };
    assert_eq!(Comparison::new(&a, &quantiles, 0.05).unwrap().report().loss, "absolute error");
}

#[test]
fn points_are_thinned_and_reach_to_the_end() {
    let mut comparison = started();
    let mut random = Random::new(6);
    for bar in 0..4 * 5000 {
        for model in MODELS {
            comparison.observe(&record(model, "A", bar, value(random.normal(), 0.0, true)));
        }
    }
    let report = comparison.report();
    assert!(report.test.blocks > 4990 && (1000..=POINTS_MAX).contains(&report.points.len()));
    assert!(report.points.windows(2).all(|p| p[0].due < p[1].due));
}
