use graph::Executor;
use graph::reference::Interpreter;

use super::*;
use crate::fit::{judge, prepare};
use crate::normalise::Normaliser;
use crate::predict::Predictor;
use crate::testing::{HOUR_NS, Returns, autoregressive, bars_of, linear_head, recipe};
use crate::train::train;

/// A model that is trained on the first 1500 of 3000 bars, and all of them as a dataset.
fn trained() -> (Manifest, graph::Graph, Dataset) {
    let bars = bars_of("A", &autoregressive(3000, 0.5, 7));
    let recipe = recipe(3, &["A"]);
    let prepared = prepare(&recipe, &[&bars[..1500]], &mut Returns::new(2)).unwrap();
    let model = linear_head(3, 3, 1);
    let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    let evaluation = judge(&recipe, &prepared, &trained.model, &Interpreter).unwrap();
    let manifest = recipe.manifest(&prepared, &trained, &evaluation, Timestamp(0));
    let mut dataset = Dataset::build(&[&bars], &mut Returns::new(2), 3, &recipe.label).unwrap();
    dataset.normalise(&Normaliser::from_manifest(&manifest.normaliser));
    (manifest, trained.model, dataset)
}

fn all(seen: Seen) -> PartsRecipe {
    PartsRecipe { from: None, until: None, test_share: 0.5, embargo_bars: 2, seen }
}

#[test]
fn what_training_has_seen_is_refused_left_out_or_counted() {
    let (manifest, _, dataset) = trained();
    let seen = seen_by(&manifest).unwrap().unwrap();
    let touched = |s: &Sample| s.time < seen.1 && s.label_until >= seen.0;
    let expected = dataset.samples.iter().filter(|s| touched(s)).count();
    assert!(expected > 800, "training and validation take 70 % of 1500 bars: {expected}");

    let error = all(Seen::Refuse).cut(&dataset, Some(seen)).unwrap_err();
    assert!(error.to_string().contains(&format!("{expected} of {}", dataset.samples.len())), "{error}");
    assert!(error.to_string().contains("--held-out"), "{error}");
    let used = all(Seen::Use).cut(&dataset, Some(seen)).unwrap();
    assert!(used.seen_used > expected - 10 && used.seen_left_out == 0, "{}", used.seen_used);
    let held = all(Seen::LeaveOut).cut(&dataset, Some(seen)).unwrap();
    assert_eq!((held.seen_used, held.seen_left_out), (0, expected));
    assert!(held.fit.iter().chain(&held.test).all(|&i| !touched(&dataset.samples[i])));
    // The manifest's test part is held out: training saw nothing of it.
    let from = Timestamp::parse(&manifest.data.test.from).unwrap();
    assert_eq!(dataset.samples[held.fit[0]].time, from);
    let later = PartsRecipe { from: Some(from), ..all(Seen::Refuse) };
    assert_eq!(later.cut(&dataset, Some(seen)).unwrap().fit, held.fit);
    let imported = all(Seen::Refuse).cut(&dataset, None).unwrap();
    assert_eq!(imported.seen_used, 0, "of an imported model nothing is known");
}

#[test]
fn the_parts_are_purged_and_have_room_between_them() {
    let (_, _, dataset) = trained();
    let parts = all(Seen::Use).cut(&dataset, None).unwrap();
    let begin = dataset.samples[parts.test[0]].time;
    let reach = parts.fit.iter().map(|&i| dataset.samples[i].label_until.0).max().unwrap();
    assert_eq!(begin.0 - reach, 3 * HOUR_NS, "more than the embargo of two bars");
    assert!(parts.fit.len().abs_diff(parts.test.len()) < 5);
    for share in [0.0, 1.0, f64::NAN] {
        let error = PartsRecipe { test_share: share, ..all(Seen::Use) }.cut(&dataset, None).unwrap_err();
        assert!(error.to_string().contains("between 0 and 1"), "{error}");
    }
    let until = Some(dataset.samples[40].time);
    let error = PartsRecipe { until, ..all(Seen::Use) }.cut(&dataset, None).unwrap_err();
    assert!(error.to_string().contains("too few to"), "{error}");
    let none = PartsRecipe { until: Some(Timestamp(0)), ..all(Seen::Use) }.cut(&dataset, None).unwrap_err();
    assert!(matches!(none, RecalibrateError::TooFew { samples: 0, .. }), "{none}");
}

/// Fitted and measured on what it has never seen: coverage and confidence hold, and are those that the model's own
/// outputs give.
#[test]
fn a_trained_model_is_calibrated_on_later_bars() {
    let (manifest, model, dataset) = trained();
    let seen = seen_by(&manifest).unwrap();
    let parts = all(Seen::LeaveOut).cut(&dataset, seen).unwrap();
    let reading = reading(&manifest, 0.8, 1.5, &dataset);
    let mut plan = Interpreter.prepare(&model, &[1]).unwrap();
    let len = dataset.window * dataset.columns;
    let mut run = |windows: &[f32], values: &mut Vec<f32>| {
        for window in windows.chunks(len) {
            let mut found = vec![Vec::new()];
            plan.run(1, &[window], &mut found).map_err(|e| e.to_string())?;
            values.extend_from_slice(&found[0]);
        }
        Ok(())
    };
    let fitted_on = outcomes(&reading, &dataset, &parts.fit, &mut run).unwrap();
    let tested_on = outcomes(&reading, &dataset, &parts.test, &mut run).unwrap();
    let mut predictor = Predictor::new(&Interpreter, &model, &dataset, 64).unwrap();
    let outputs = predictor.outputs(&dataset, &parts.fit).unwrap();
    for (outcome, output) in fitted_on.iter().zip(&outputs) {
        assert_eq!(outcome.values, reading.values(&[*output as f32]));
    }
    let found = calibrate(&reading, 0.8, &fitted_on, &tested_on).unwrap();
    assert_eq!((found.samples, found.test.samples), (parts.fit.len() as u64, parts.test.len() as u64));
    assert!((found.test.coverage - 0.8).abs() < 0.05, "{found:?}");
    assert!((found.test.confidence - found.test.right).abs() < 0.06 && found.test.right > 0.58, "{found:?}");
}

#[test]
fn a_model_that_fails_or_gives_no_number_is_told() {
    let (manifest, _, dataset) = trained();
    let reading = reading(&manifest, 0.9, 1.5, &dataset);
    let on = |run: &mut Run| outcomes(&reading, &dataset, &[0, 1], run).unwrap_err().to_string();
    assert!(on(&mut |_, _| Err("no memory".into())).contains("no memory"));
    assert!(on(&mut |_, _| Ok(())).contains("0 numbers for 2 windows"));
    let error = on(&mut |_, values| {
        values.extend([1.0, f32::NAN]);
        Ok(())
    });
    assert!(error.contains(&dataset.samples[1].time.to_string()), "{error}");
}
