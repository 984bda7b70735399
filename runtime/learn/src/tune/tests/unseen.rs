//! No trial sees the test part: other bars there, the same bits.

use graph::reference::Interpreter;
use market::Bar;

use crate::fit;
use crate::testing::{Returns, autoregressive, bars_of, linear_model, recipe};
use crate::train::train;
use crate::tune::{cut_before, folds, split_times};
use crate::{Cut, SplitRecipe};

/// Everything that a trial of these bars gives: validation losses and weights, of each fold.
fn trial(bars: &[Bar], count: u32) -> Vec<(Vec<f64>, String)> {
    let mut recipe = recipe(3, &["TEST"]);
    recipe.training.epochs_max = 3;
    let mut features = Returns::new(2);
    let times = split_times(&recipe, &[bars], &features).unwrap();
    recipe.split = SplitRecipe { cut: Cut::Times(times), ..recipe.split };
    let cut = cut_before(&[bars], times.test);
    assert!(cut[0].last().unwrap().open_time < times.test);
    let model = linear_model(3, 3, 0.0);
    folds(times, count)
        .unwrap()
        .into_iter()
        .map(|fold| {
            let prepared = fit::prepare_fold(&recipe, fold, &cut, &mut features).unwrap();
            assert!(prepared.split.test.is_empty());
            let job = prepared.job(&model, &recipe.training);
            let trained = train(&job, &Interpreter, &mut (), None).unwrap();
            (trained.validation_curve, format!("{:?}{:?}", prepared.normaliser, trained.model))
        })
        .collect()
}

#[test]
fn other_bars_in_the_test_part_change_no_bit() {
    let bars = bars_of("TEST", &autoregressive(400, 0.5, 1));
    let recipe = recipe(3, &["TEST"]);
    let times = split_times(&recipe, &[&bars], &Returns::new(2)).unwrap();
    let before = trial(&bars, 2);
    let mut other = bars.clone();
    let mut changed = 0;
    for bar in other.iter_mut().filter(|bar| bar.open_time >= times.test) {
        let factor = 1.0 + 0.5 * f64::from(changed % 7);
        (bar.open, bar.close) = (bar.open * factor, bar.close * factor);
        bar.high = bar.open.max(bar.close) * 2.0;
        bar.low = bar.open.min(bar.close) / 2.0;
        bar.volume += 1e6;
        changed += 1;
    }
    assert!(changed > 100, "{changed}");
    assert_eq!(before, trial(&other, 2));
    // And one bar before it does change them: the comparison compares.
    let last = other.iter().rposition(|bar| bar.open_time < times.test).unwrap();
    other[last - 10].close *= 1.01;
    other[last - 10].high *= 1.02;
    assert_ne!(before, trial(&other, 2));
}

#[test]
fn with_one_fold_a_trial_is_the_recipe_itself() {
    let bars = bars_of("TEST", &autoregressive(400, 0.5, 2));
    let mut recipe = recipe(3, &["TEST"]);
    recipe.training.epochs_max = 3;
    let mut features = Returns::new(2);
    let whole = fit::prepare(&recipe, &[&bars], &mut features).unwrap();
    let model = linear_model(3, 3, 0.0);
    let trained = train(&whole.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    assert_eq!(trial(&bars, 1)[0].0, trained.validation_curve);
    assert_eq!(trial(&bars, 1)[0].1, format!("{:?}{:?}", whole.normaliser, trained.model));
}

#[test]
fn folds_follow_each_other_and_purge() {
    let bars = bars_of("TEST", &autoregressive(400, 0.5, 3));
    let recipe = recipe(3, &["TEST"]);
    let times = split_times(&recipe, &[&bars], &Returns::new(2)).unwrap();
    let found = folds(times, 3).unwrap();
    assert_eq!((found[2].validation, found[2].until), (times.validation, times.test));
    assert!(found.windows(2).all(|pair| pair[0].until == pair[1].validation));
    assert!(folds(times, 5).is_none(), "they begin before the bars do");
    let cut = cut_before(&[&bars], times.test);
    let embargo = i64::from(recipe.split.embargo_bars) * crate::testing::HOUR_NS;
    for fold in found {
        let prepared = fit::prepare_fold(&recipe, fold, &cut, &mut Returns::new(2)).unwrap();
        let sample = |i: &usize| prepared.dataset.samples[*i];
        let (train, validation) = (&prepared.split.train, &prepared.split.validation);
        assert!(train.iter().all(|i| sample(i).label_until.0 + embargo < fold.validation.0));
        assert!(validation.iter().all(|i| sample(i).time >= fold.validation));
        assert!(validation.iter().all(|i| sample(i).label_until.0 + embargo < fold.until.0));
    }
}
