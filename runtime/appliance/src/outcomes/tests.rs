use market::{Symbol, Timestamp};
use store::ModelName;

use super::*;

fn record(seq: u64, model: &str, result: Realised) -> RealisedRecord {
    RealisedRecord {
        seq,
        revision: 0,
        key: StreamKey { symbol: Symbol::new("A").unwrap(), timeframe: Timeframe::parse("1h").unwrap() },
        model: ModelName { name: model.into(), version: "1".into() },
        model_digest: [0; 32],
        open_time: Timestamp(0),
        due_open_time: Timestamp(0),
        written_at: Timestamp(0),
        result,
        state: vec![1],
    }
}

fn value(predicted: f64, realised: f64, covered: bool) -> Realised {
    Realised::Value(RealisedValue {
        predicted,
        realised,
        naive: Some(0.0),
        covered: Some(covered),
        right: predicted * realised > 0.0,
        confidence: Some(0.75),
    })
}

#[test]
fn a_summary_is_its_formulas() {
    let records = [
        record(1, "m", value(1.0, 2.0, true)),
        record(2, "m", value(1.0, -1.0, false)),
        record(3, "m", Realised::Gap),
        record(4, "other", Realised::Lost),
    ];
    let found = summaries(records.iter());
    let m = &found[0];
    assert_eq!((m.model.as_str(), m.resolved, m.void, m.revised), ("m/1", 2, 1, 0));
    assert_eq!((m.coverage, m.right, m.confidence), (Some(0.5), Some(0.5), Some(0.75)));
    assert_eq!((m.mean_error, m.mae), (Some(-0.5), Some(1.5)));
    assert!((m.rmse.unwrap() - 2.5f64.sqrt()).abs() < 1e-15);
    assert!((m.brier.unwrap() - (0.0625 + 0.5625) / 2.0).abs() < 1e-7);
    assert_eq!(m.skill_vs_naive, Some(1.0 - 2.5 / 2.5));
    assert_eq!(found[1], Summary { model: "other/1".into(), void: 1, ..Summary::default() });
}

#[test]
fn a_revision_takes_the_place_of_what_it_revises() {
    let outcomes = Outcomes::new(2);
    outcomes.add(record(1, "m", value(1.0, 2.0, true)));
    outcomes.add(record(2, "m", value(1.0, 2.0, true)));
    outcomes.add(RealisedRecord { revision: 1, ..record(1, "m", value(1.0, -2.0, false)) });
    let all = || outcomes.select(&Filter::default(), 10);
    assert_eq!(all().iter().map(|r| (r.seq, r.revision)).collect::<Vec<_>>(), [(1, 1), (2, 0)]);
    outcomes.add(record(3, "other", Realised::Gap));
    assert_eq!(all().iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 3], "the oldest goes");
    assert_eq!(outcomes.select(&Filter::default(), 1)[0].seq, 3);
    let of_model = Filter { model: Some("m".into()), ..Filter::default() };
    assert_eq!(outcomes.select(&of_model, 10).len(), 1);
    let json = serde_json::to_value(Line::from(&*all()[0])).unwrap();
    assert_eq!(
        (&json["realised"], &json["error"], &json["covered"]),
        (&2.0.into(), &1.0.into(), &true.into())
    );
}
