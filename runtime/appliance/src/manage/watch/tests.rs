use learn::live::sequential::Verdict;
use learn::random::Random;

use super::super::compare::tests::{MODELS, manifest, record, value};
use super::*;

fn calibrated() -> Manifest {
    let share = 0.9;
    let test = registry::Reliability {
        samples: 1,
        coverage: share,
        coverage_adaptive: share,
        width: 1.0,
        width_adaptive: 1.0,
        confidence: 0.5,
        right: 0.5,
        brier: 0.25,
        calibration_error: 0.0,
        bins: Vec::new(),
    };
    let calibration = registry::Calibration {
        level: share,
        samples: 100,
        quantile: 1.0,
        step: 1.0,
        floor: 0.0,
        factor: None,
        source: None,
        confidence: registry::Confidence { intercept: 0.0, slope: 0.0 },
        test,
    };
    Manifest { calibration: Some(calibration), ..manifest(MODELS[0], 1) }
}

/// Realised = signal + noise, both of variance ½ but for the noise from bar `change` on; the model's forecast keeps the share
/// `skill` of the signal. Intervals cover with this probability.
fn fed(watch: &mut Watch, bars: i64, change: i64, skill: f64, cover: f64) {
    let mut random = Random::new(2);
    for bar in 0..bars {
        for symbol in ["A", "B"] {
            let (signal, noise) = (0.5f64.sqrt() * random.normal(), 0.5f64.sqrt() * random.normal());
            let share = if bar >= change { skill } else { 0.8 };
            let covered = random.uniform() < cover;
            watch.observe(&record(MODELS[0], symbol, bar, value(share * signal, signal + noise, covered)));
        }
    }
    watch.finish();
}

fn watch() -> Watch {
    Watch::new(&calibrated(), DegradeRules::default()).unwrap()
}

#[test]
fn a_model_that_keeps_its_promises_is_left_alone() {
    let mut watch = watch();
    fed(&mut watch, 4000, 4000, 0.8, 0.9);
    let report = watch.report();
    assert_eq!((report.counts.outcomes, report.counts.void, report.loss), (8000, 0, "squared error"));
    assert!((report.coverage.unwrap() - 0.9).abs() < 0.02);
    // 0.9² by the manifest; it gives 1 − (1 − 0.2²) / 2 = 0.52.
    assert!((report.promised_share.unwrap() - 0.81).abs() < 1e-12);
    let promise = report.promise_test.unwrap();
    assert!(promise.verdict == Verdict::Better && report.cusum.alarm.is_none(), "{promise:?}");
    let verdict = watch.verdict(None);
    assert!(!verdict.roll_back && verdict.criteria.len() == 3, "{verdict:?}");
}

#[test]
fn lost_skill_and_lost_coverage_are_found() {
    let mut unskilled = watch();
    fed(&mut unskilled, 4000, 0, -0.5, 0.9);
    let verdict = unskilled.verdict(None);
    assert!(verdict.roll_back && !verdict.criteria[0].holds, "{verdict:?}");
    // Lost later: the CUSUM dates it.
    let mut later = watch();
    fed(&mut later, 4000, 2000, -0.5, 0.9);
    let alarm = later.report().cusum.alarm.unwrap();
    assert!((490..=540).contains(&alarm.blocks) && alarm.since_blocks.abs_diff(500) < 15, "{alarm:?}");
    let mut uncovered = watch();
    fed(&mut uncovered, 4000, 4000, 0.8, 0.75);
    let report = uncovered.report();
    assert_eq!(report.coverage_test.unwrap().verdict, Verdict::Worse);
    let verdict = uncovered.verdict(None);
    let failed: Vec<_> = verdict.criteria.iter().filter(|c| !c.holds).collect();
    assert!(verdict.roll_back && failed.len() == 1 && failed[0].name.contains("intervals"), "{verdict:?}");
}

#[test]
fn what_has_no_value_or_no_promise_is_not_judged() {
    let mut plain = Watch::new(&manifest(MODELS[0], 1), DegradeRules::default()).unwrap();
    plain.observe(&record(MODELS[0], "A", 1, store::Realised::Gap));
    plain.observe(&record(MODELS[1], "A", 1, value(0.0, 1.0, true)));
    plain.finish();
    let report = plain.report();
    assert_eq!((report.counts.void, report.counts.outcomes, report.coverage), (1, 0, None));
    let nothing = Manifest { metrics: Default::default(), ..manifest(MODELS[0], 1) };
    let report = Watch::new(&nothing, DegradeRules::default()).unwrap().report();
    assert_eq!((report.promised_share, report.promise_test), (None, None));
}

#[test]
fn a_resumed_watch_goes_on_to_the_same_bits() {
    let mut random = Random::new(5);
    let records: Vec<_> = (0..900)
        .map(|bar| {
            let realised = random.normal();
            record(MODELS[0], "A", bar, value(0.3 * realised, realised, bar % 10 != 0))
        })
        .collect();
    let (mut whole, mut first) = (watch(), watch());
    records.iter().for_each(|r| _ = whole.observe(r));
    records[..501].iter().for_each(|r| _ = first.observe(r));
    let stored = serde_json::to_string(&first.saved()).unwrap();
    let mut again = Watch::resume(serde_json::from_str(&stored).unwrap());
    records.iter().for_each(|r| _ = again.observe(r));
    assert_eq!(whole.saved(), again.saved());
    // Without what was read before it is the same.
    let mut rest = Watch::resume(serde_json::from_str(&stored).unwrap());
    records[480..].iter().for_each(|r| _ = rest.observe(r));
    assert_eq!(whole.saved(), rest.saved());
}
