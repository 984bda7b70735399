use market::{StreamKey, Symbol, Timeframe, Timestamp};
use store::ModelName;

use super::*;

fn record(seq: u64, symbol: &str, attributions: Vec<f32>) -> ExplanationRecord {
    ExplanationRecord {
        seq,
        made_at: Timestamp(0),
        open_time: Timestamp(0),
        revision: 0,
        key: StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse("1h").unwrap() },
        model: ModelName { name: "m".into(), version: "1".into() },
        model_digest: [0; 32],
        method: Method::IntegratedGradients,
        points: 32,
        output: 0,
        prediction: 2.0,
        baseline: -1.0,
        residual: 0.5,
        features: 2,
        attributions,
    }
}

#[test]
fn the_newest_that_fit_are_given_and_memory_is_bounded() {
    let held = Explanations::default();
    for (seq, symbol) in [(1, "A"), (2, "B"), (3, "A"), (4, "A")] {
        held.add(record(seq, symbol, vec![1.0; 4]));
    }
    let seqs =
        |filter: &Filter, last| held.select(filter, last).iter().map(|record| record.seq).collect::<Vec<_>>();
    let of_a = Filter { symbols: [Symbol::new("A").unwrap()].into(), ..Filter::default() };
    assert_eq!(seqs(&of_a, 2), [3, 4]);
    assert_eq!(seqs(&Filter::default(), 10), [1, 2, 3, 4]);
    assert_eq!(seqs(&Filter { model: Some("m/2".into()), ..Filter::default() }, 10), [0u64; 0]);
    for seq in 5..40 {
        held.add(record(seq, "A", vec![1.0; 1 << 18]));
    }
    assert_eq!(seqs(&Filter::default(), 100), (8..40).collect::<Vec<_>>(), "32 MiB");
}

#[test]
fn sums_and_importance_are_those_of_the_attributions() {
    let held = Explanations::default();
    held.name_columns("m/1", &["up".into(), "down".into()]);
    held.add(record(1, "A", vec![1.0, -2.0, 3.0, 0.5]));
    held.add(record(2, "A", vec![-1.0, -2.0, -1.0, 0.5]));
    let found = held.select(&Filter::default(), 10);
    let body = body(&held, &found, true);
    let first = &body["explanations"][0];
    assert_eq!(first["by_feature"], json!([4.0, -1.5]));
    assert_eq!(first["by_step"], json!([-1.0, 3.5]));
    assert_eq!(first["attributions"], json!([[1.0, -2.0], [3.0, 0.5]]));
    assert_eq!((&first["completeness_residual"], &first["baseline_prediction"]), (&json!(0.5), &json!(-1.0)));
    let model = &body["models"]["m/1"];
    assert_eq!(model["features"], json!(["up", "down"]));
    assert_eq!(model["by_feature"], json!([3.0, 1.5]));
    assert_eq!(model["signed_by_feature"], json!([1.0, -1.5]));
    assert_eq!(model["explained"], 2);
    assert!(super::body(&held, &found, false)["explanations"][0].get("attributions").is_none());
}
