use learn::label::LabelRecipe;
use learn::normalise::LabelScale;
use learn::random::Random;
use market::{Symbol, Timeframe};
use registry::{Confidence, GapPolicy, LabelKind, Output, Reliability};

use super::*;

const KEEP: usize = 4;
const HORIZON: usize = 2;

fn key() -> StreamKey {
    StreamKey { symbol: Symbol::new("A").unwrap(), timeframe: Timeframe::parse("1h").unwrap() }
}

fn terms() -> Arc<Terms> {
    let label = LabelRecipe {
        kind: LabelKind::LogReturn,
        horizon_bars: HORIZON as u32,
        gaps: GapPolicy::Drop,
        dead_band: None,
    };
    let test = Reliability {
        samples: 1,
        coverage: 0.9,
        coverage_adaptive: 0.9,
        width: 0.1,
        width_adaptive: 0.1,
        confidence: 0.5,
        right: 0.5,
        brier: 0.25,
        calibration_error: 0.0,
        bins: Vec::new(),
    };
    let calibration = Calibration {
        level: 0.9,
        samples: 100,
        quantile: 0.02,
        step: 0.01,
        floor: 0.0,
        factor: None,
        source: None,
        confidence: Confidence { intercept: 0.1, slope: 0.5 },
        test,
    };
    let scale = LabelScale { mean: 0.0, scale: 0.01 };
    Arc::new(Terms {
        model: ModelName { name: "m".into(), version: "1".into() },
        digest: [7; 32],
        reading: Reading::new(label, Output::Point, scale, 0.9, 1.5),
        calibration: Some(calibration),
    })
}

fn close(n: i64, close: f64, is_final: bool) -> Close {
    let hour = |n: i64| Timestamp::from_seconds(3600 * n);
    Close { open_time: hour(n), close_time: hour(n + 1), close, is_final }
}

fn prediction(resolver: &Resolver, seq: u64, n: i64, value: f32) -> PredictionRecord {
    PredictionRecord {
        seq,
        key: key(),
        model: resolver.terms.model.clone(),
        model_digest: resolver.terms.digest,
        open_time: Timestamp::from_seconds(3600 * n),
        revision: 0,
        made_at: Timestamp(0),
        outcome: Outcome::Values(vec![value]),
        recovered: false,
        revised: false,
        shadow: false,
        device: "cpu".into(),
        uncertainty: resolver.uncertainty(&[value]),
    }
}

fn resolve(resolver: &mut Resolver) -> Vec<RealisedRecord> {
    let mut records = Vec::new();
    resolver.resolve(&key(), Timestamp(i64::MAX), Timestamp(0), &mut records);
    records
}

fn value_of(record: &RealisedRecord) -> RealisedValue {
    match record.result {
        Realised::Value(value) => value,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn an_outcome_comes_once_and_when_it_is_due() {
    let mut resolver = Resolver::new(terms(), KEEP);
    let first = prediction(&resolver, 1, 0, 0.01);
    resolver.prediction(&first);
    resolver.bar(close(0, 100.0, true));
    resolver.bar(close(1, 101.0, true));
    assert_eq!(resolve(&mut resolver), []);
    resolver.bar(close(2, 102.0, false));
    assert_eq!(resolve(&mut resolver), [], "the bar is still forming");
    resolver.bar(close(2, 103.0, true));
    let found = resolve(&mut resolver);
    assert_eq!(found.len(), 1);
    let value = value_of(&found[0]);
    assert_eq!((found[0].seq, found[0].revision), (1, 0));
    assert_eq!(found[0].due_open_time, Timestamp::from_seconds(7200));
    assert!((value.realised - 1.03f64.ln()).abs() < 1e-15 && value.predicted == f64::from(0.01f32));
    assert_eq!((value.right, value.covered, value.naive), (true, Some(true), Some(0.0)));
    assert_eq!(resolver.tally(), Tally { resolved: 1, covered: 1 });
    resolver.bar(close(3, 103.0, true));
    assert_eq!(resolve(&mut resolver), []);
}

#[test]
fn a_forming_bar_that_another_follows_is_closed() {
    let mut resolver = Resolver::new(terms(), KEEP);
    let first = prediction(&resolver, 1, 0, 0.01);
    resolver.prediction(&first);
    (0..3).for_each(|n| resolver.bar(close(n, 100.0 + n as f64, n < 2)));
    assert_eq!(resolve(&mut resolver), []);
    resolver.bar(close(3, 100.0, false));
    assert_eq!(resolve(&mut resolver).len(), 1);
}

#[test]
fn the_last_prediction_for_a_bar_is_the_one_that_counts() {
    let mut resolver = Resolver::new(terms(), KEEP);
    for (seq, value) in [(1, 0.01), (2, -0.01), (3, -0.02)] {
        let made = prediction(&resolver, seq, 0, value);
        resolver.prediction(&made);
    }
    let other = PredictionRecord { model_digest: [8; 32], ..prediction(&resolver, 9, 1, 0.5) };
    resolver.prediction(&other);
    let none = Outcome::Abstained { code: 1, text: String::new() };
    let abstained = PredictionRecord { outcome: none, ..prediction(&resolver, 10, 1, 0.5) };
    resolver.prediction(&abstained);
    (0..5).for_each(|n| resolver.bar(close(n, 100.0 + n as f64, true)));
    let found = resolve(&mut resolver);
    assert_eq!(found.iter().map(|r| r.seq).collect::<Vec<_>>(), [3]);
    assert!(!value_of(&found[0]).right);
}

#[test]
fn a_label_over_a_gap_has_no_value_and_teaches_nothing() {
    let mut resolver = Resolver::new(terms(), KEEP);
    let made = prediction(&resolver, 1, 0, 0.01);
    resolver.prediction(&made);
    let before = resolver.encode();
    [0, 1, 5].into_iter().for_each(|n| resolver.bar(close(n, 100.0, true)));
    let found = resolve(&mut resolver);
    assert_eq!(found[0].result, Realised::Gap);
    assert_eq!(resolver.encode(), before);
    let lost = prediction(&resolver, 2, -9, 0.01);
    let mut fresh = Resolver::new(terms(), KEEP);
    fresh.bar(close(0, 100.0, true));
    fresh.prediction(&lost);
    assert_eq!(resolve(&mut fresh)[0].result, Realised::Lost);
}

#[test]
fn a_revised_bar_leads_to_the_next_revision_and_teaches_nothing() {
    let mut resolver = Resolver::new(terms(), KEEP);
    let made = prediction(&resolver, 1, 0, 0.01);
    resolver.prediction(&made);
    (0..3).for_each(|n| resolver.bar(close(n, 100.0 + n as f64, true)));
    let first = resolve(&mut resolver);
    let state = resolver.encode();
    resolver.bar(close(1, 100.5, true));
    assert_eq!(resolve(&mut resolver), [], "a bar between the ends doesn't change a return");
    resolver.bar(close(2, 90.0, true));
    let second = resolve(&mut resolver);
    assert_eq!((second.len(), second[0].seq, second[0].revision), (1, 1, 1));
    assert!(value_of(&first[0]).right && !value_of(&second[0]).right);
    assert_eq!(value_of(&second[0]).covered, Some(false));
    assert_eq!((resolver.encode(), &second[0].state), (state.clone(), &state));
    resolver.look_again();
    assert_eq!(resolve(&mut resolver), [], "looked at again, nothing is new");
}

#[derive(Clone, Debug)]
enum Stored {
    Bar(Close),
    Prediction(PredictionRecord),
    Realised(RealisedRecord),
}

fn read_back(stored: &[Stored]) -> Resolver {
    let mut resolver = Resolver::new(terms(), KEEP);
    for one in stored {
        match one {
            Stored::Bar(close) => resolver.bar(*close),
            Stored::Prediction(record) => resolver.prediction(record),
            Stored::Realised(record) => resolver.realised(record),
        }
    }
    resolver.look_again();
    resolver
}

/// Bars, predictions and revisions as serving runs them, over what `stored` holds already.
fn serve(mut resolver: Resolver, stored: &mut Vec<Stored>, from: i64, until: i64) -> Resolver {
    for n in from..until {
        let mut random = Random::derived(5, n as u64);
        let price = |random: &mut Random| 100.0 * (0.02 * random.normal()).exp();
        let (first, again) = (price(&mut random), price(&mut random));
        let bar = close(n, first, true);
        stored.push(Stored::Bar(bar));
        let made = prediction(&resolver, n as u64 + 1, n, (0.01 * random.normal()) as f32);
        resolver.prediction(&made);
        stored.push(Stored::Prediction(made));
        resolver.bar(bar);
        stored.extend(resolve(&mut resolver).into_iter().map(Stored::Realised));
        if n % 7 == 3 {
            let revised = close(n - 1, again, true);
            stored.push(Stored::Bar(revised));
            resolver.bar(revised);
            stored.extend(resolve(&mut resolver).into_iter().map(Stored::Realised));
        }
    }
    resolver
}

fn outcomes(stored: &[Stored]) -> Vec<RealisedRecord> {
    let realised = |one: &Stored| match one {
        Stored::Realised(record) => Some(record.clone()),
        _ => None,
    };
    stored.iter().filter_map(realised).collect()
}

/// Killed behind any record: what is missing falls due again, nothing twice, and the state goes on to the same bits.
#[test]
fn a_kill_at_any_record_changes_nothing() {
    const BARS: i64 = 60;
    let mut whole = Vec::new();
    let resolver = serve(Resolver::new(terms(), KEEP), &mut whole, 0, BARS);
    let expected = outcomes(&whole);
    assert!(expected.iter().any(|r| r.revision > 0) && resolver.tally().resolved == BARS as u64 - 2);
    for cut in 0..whole.len() {
        // Serving acknowledges a bar with its prediction, so they aren't parted.
        if matches!(whole[cut], Stored::Prediction(_)) {
            continue;
        }
        let mut stored = whole[..cut].to_vec();
        let mut again = read_back(&stored);
        stored.extend(resolve(&mut again).into_iter().map(Stored::Realised));
        let bars = stored.iter().filter(|s| matches!(s, Stored::Prediction(_))).count() as i64;
        let last_is_revised = |n: i64| {
            let time = Timestamp::from_seconds(3600 * (n - 2));
            stored.iter().filter(|s| matches!(s, Stored::Bar(c) if c.open_time == time)).count() > 1
        };
        if bars > 0 && (bars - 1) % 7 == 3 && !last_is_revised(bars) {
            // The revision of the last bar is still to come.
            let Some(Stored::Bar(revised)) = whole[cut..].iter().find(|s| matches!(s, Stored::Bar(_))) else {
                panic!("{cut}");
            };
            stored.push(Stored::Bar(*revised));
            again.bar(*revised);
            stored.extend(resolve(&mut again).into_iter().map(Stored::Realised));
        }
        let again = serve(again, &mut stored, bars, BARS);
        assert_eq!(outcomes(&stored), expected, "cut at {cut}");
        assert_eq!(again.encode(), resolver.encode(), "cut at {cut}");
    }
}

/// A spool without outcomes, as older versions wrote it: each prediction gets its own.
#[test]
fn predictions_of_before_get_their_outcomes() {
    let mut whole = Vec::new();
    serve(Resolver::new(terms(), KEEP), &mut whole, 0, 500);
    let without: Vec<Stored> = whole.iter().filter(|s| !matches!(s, Stored::Realised(_))).cloned().collect();
    let found = resolve(&mut read_back(&without));
    assert_eq!(found.len(), 498);
    assert!(found.iter().all(|r| matches!(r.result, Realised::Value(_))));
}

/// What an interval has learnt from ended before its bar: with outcomes due up to the bar before.
#[test]
fn an_interval_looks_at_earlier_bars_only() {
    let mut resolver = Resolver::new(terms(), KEEP);
    for n in 0..6 {
        let made = prediction(&resolver, n as u64, n, 0.0);
        resolver.prediction(&made);
        resolver.bar(close(n, 100.0, true));
    }
    let mut records = Vec::new();
    resolver.resolve(&key(), Timestamp::from_seconds(3600 * 4), Timestamp(0), &mut records);
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [0, 1], "due with bars 2 and 3");
}

#[test]
fn a_state_that_cannot_be_is_not_taken() {
    let resolver = Resolver::new(terms(), KEEP);
    let good = resolver.encode();
    assert_eq!(decode(&good, true).map(|(tally, _)| tally), Some(Tally::default()));
    assert!(decode(&good[..good.len() - 1], true).is_none());
    assert!(decode(&good, false).is_none() && decode(&good[..16], false).is_some());
    assert!(decode(&[], false).is_none());
}
