use std::collections::BTreeMap;

use learn::assess::Settings;
use learn::assess::gate::{Criterion, GateVerdict};
use learn::assess::importance::Importance;
use learn::assess::report::{Curve, Example, FoldNote};
use learn::assess::table::{Calibration, Table};
use learn::metrics::distribution::DistributionScores;
use learn::probes::Probe;
use learn::walk_forward::WalkForward;
use market::Timestamp;

use super::*;

fn row(name: &str, gain: Option<Interval>) -> Row {
    Row {
        name: name.into(),
        seeds: 1,
        rmse: Spread { mean: 0.01, std: 0.0 },
        mae: Spread { mean: 0.01, std: 0.0 },
        mase: Spread { mean: 0.9, std: 0.0 },
        qlike: None,
        compared: None,
        gain_compared: None,
        brier: None,
        calibration: None,
        skill: gain,
        gain_mase: gain,
        gain_qlike: None,
        direction: None,
        direction_test: None,
        ic: None,
        rank_ic: None,
        distribution: Some(DistributionScores {
            crps: 1e-3,
            pinball: 1e-3,
            coverage: vec![0.5; 9],
            pit: vec![0.1; 10],
        }),
        against_naive: None,
        model_against: None,
        fold_losses: vec![1.0, 2.0],
        seed_losses: vec![1.5],
        floored: 0,
    }
}

fn found() -> Assessment {
    let gain = Some(Interval { value: 0.2, low: 0.1, high: 0.3 });
    let time = |hour: i64| Timestamp::from_seconds(1_700_000_000 + 3600 * hour);
    let example = |hour: i64| Example {
        symbol: "A<B".into(),
        time: time(hour),
        label: 0.01,
        model: 0.012,
        naive: 0.0,
        low: -0.02,
        high: 0.03,
    };
    let fold = FoldNote {
        train_from: time(0),
        validation_from: time(1),
        test_from: time(2),
        until: time(3),
        train_samples: 10,
        validation_samples: 5,
        test_samples: 5,
        fitted: BTreeMap::from([("ridge".into(), "lambda 1".into())]),
        curves: vec![Curve { seed: 1, best_epoch: 2, train: vec![1.0, 0.9], validation: vec![1.0, 0.95] }],
    };
    Assessment {
        format: 1,
        architecture: "lstm@0.1.0".into(),
        hyper: "{}".into(),
        features: "technical@0.1.0".into(),
        columns: 2,
        window: 8,
        label: registry::LabelKind::LogReturn,
        output: registry::Output::Point,
        horizon_bars: 1,
        timeframe: "1h".into(),
        symbols: vec!["A<B".into()],
        bars: 100,
        digest: "d".into(),
        first: time(0),
        last: time(9),
        walk: WalkForward::default(),
        settings: Settings { seeds: vec![1], ..Settings::default() },
        trials: 3,
        confidence: 0.95,
        table: Table {
            loss: Loss::Squared,
            samples: 10,
            steps: 10,
            block_steps: 3,
            majority_rate: 0.5,
            rows: vec![row("naive", None), row("model", gain)],
            best_baseline: "naive".into(),
            trading: Vec::new(),
        },
        gain,
        reaches: Reach::Perhaps,
        probes: vec![Probe {
            name: "future".into(),
            passed: false,
            found: "feature x depends on later bars".into(),
        }],
        verdict: GateVerdict {
            promoted: false,
            criteria: vec![Criterion {
                name: "every probe".into(),
                holds: false,
                found: "failed: future".into(),
            }],
        },
        folds: vec![fold.clone(), fold],
        importance: vec![Importance { feature: "return_1".into(), rise: 0.1 }],
        examples: (0..9).map(example).collect(),
    }
}

#[test]
fn a_report_holds_all_its_parts_and_nothing_from_outside() {
    let html = html(&found()).unwrap();
    for part in [
        "does not promote",
        "Gain over naive in MASE: 20.0 % [10.0 %, 30.0 %]",
        "but its interval does not",
        "depends on later bars",
        "A&lt;B",
        "return_1",
        "Calibration",
        "Error by fold",
        "Training curves",
        "lambda 1",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<svg").count(), 6);
    assert!(!html.contains("A<B") && !html.contains("NaN") && !html.contains("<script"));
    assert_eq!(html.matches("http").count(), html.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn an_evaluation_with_little_in_it_is_still_a_report() {
    let mut found = found();
    found.examples.clear();
    found.importance.clear();
    found.probes.clear();
    found.folds.clear();
    found.gain = None;
    let html = html(&found).unwrap();
    assert!(html.contains("They were skipped") && html.contains("not defined"));
}

/// Of a direction: log loss and Brier score in the table, and the plot of probabilities.
#[test]
fn probabilities_have_a_table_and_a_plot_of_their_own() {
    let mut found = found();
    (found.label, found.output) = (registry::LabelKind::Direction, registry::Output::Probabilities);
    found.table.loss = Loss::Log;
    for row in &mut found.table.rows {
        row.distribution = None;
        row.compared = Some(Spread { mean: 0.6789, std: 0.0 });
        row.brier = Some(Spread { mean: 0.2468, std: 0.0 });
        row.gain_compared = row.gain_mase;
        row.calibration = Some(Calibration { error: 0.0123, bins: vec![(0.4, 0.41, 5), (0.6, 0.58, 5)] });
    }
    let html = html(&found).unwrap();
    for part in ["log loss", "0.6789", "0.2468", "0.0123", "went up (%)", "gain over naive in log loss"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("labels inside") && !html.contains("MASE"), "{html}");
}
