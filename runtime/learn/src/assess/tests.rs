use std::cell::Cell;

use graph::op::UnaryOp;
use graph::reference::Interpreter;
use graph::{Builder, Initial, Shape};
use registry::LabelKind;

use super::*;
use crate::probes::leak::{LEAKS, Leaky};
use crate::probes::{future, leak, worlds};
use crate::progress::{BatchReport, Flow};
use crate::testing::{Returns, autoregressive, bars_of, linear_model, recipe};
use market::Timeframe;

mod outputs;

/// Reduced or full counts (`cargo xtask soak`).
fn counts(reduced: u64, full: u64) -> u64 {
    if std::env::var("TEST_COUNTS").is_ok_and(|v| v == "full") { full } else { reduced }
}

fn hourly() -> Timeframe {
    Timeframe::parse("1h").unwrap()
}

fn small_recipe(kind: LabelKind, horizon_bars: u32) -> TrainingRecipe {
    let mut recipe = recipe(3, &["A"]);
    recipe.label.kind = kind;
    recipe.label.horizon_bars = horizon_bars;
    recipe.training.epochs_max = 6;
    recipe.bootstrap.resamples = 200;
    recipe
}

fn settings(seeds: &[u64], probes: bool) -> Settings {
    let probes = probes.then(|| ProbeSettings { world_bars: 1500, ..ProbeSettings::default() });
    Settings { seeds: seeds.to_vec(), probes, ..Settings::default() }
}

fn walk() -> WalkForward {
    WalkForward { folds: 2, embargo_bars: 2, ..WalkForward::default() }
}

fn run(recipe: &TrainingRecipe, bars: &[&[Bar]], settings: &Settings) -> Assessment {
    let model = linear_model(3, 3, 0.0);
    let walk = walk();
    let subject = Subject { recipe, walk: &walk, model: &model, executor: &Interpreter };
    assess(&subject, settings, bars, &mut Returns::new(2), None, &mut ()).unwrap()
}

#[test]
fn a_signal_is_promoted_over_naive_with_all_probes_passed() {
    let bars = bars_of("A", &autoregressive(1500, 0.4, 40));
    let found = run(&small_recipe(LabelKind::LogReturn, 1), &[&bars], &settings(&[1, 2], true));
    assert!(found.probes.iter().all(|p| p.passed), "{found}");
    assert_eq!(found.probes.len(), 5);
    let model = found.table.model().unwrap();
    assert_eq!(model.seeds, 2);
    assert!(model.skill.unwrap().low > 0.0 && model.ic.unwrap().mean > 0.2, "{found}");
    assert!(found.table.row("naive").unwrap().model_against.unwrap().p_value < 1e-4);
    let names: Vec<&str> = found.table.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["naive", "drift", "ridge", "trees", "dlinear", "model"]);
    // The ridge regression knows as much: nothing is promoted over it.
    assert!(!found.verdict.promoted, "{found}");
    assert_eq!(found.folds.len(), 2);
    assert_eq!(found.importance.len(), 3);
    assert!(
        found.importance[0].feature.starts_with("return_") && found.importance[0].rise > 0.02,
        "{:?}",
        found.importance
    );
    let text = found.to_string();
    assert!(text.contains("gain over naive in MASE") && text.contains("not promoted"), "{text}");
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Assessment>(&json).unwrap(), found);
}

#[test]
fn volatility_is_judged_beside_ewma_and_har() {
    let world = worlds::bursts(hourly(), 2500, 6, 3);
    let mut recipe = small_recipe(LabelKind::RealisedVolatility, 6);
    recipe.data.symbols = vec![world.bars[0].key.symbol.clone()];
    let found = run(&recipe, &[&world.bars], &settings(&[1], false));
    let row = |name: &str| found.table.row(name).unwrap();
    assert!(row("har").gain_qlike.unwrap().low > 0.0 && row("ewma").gain_qlike.unwrap().low > 0.0, "{found}");
    assert!(["har", "ewma"].contains(&found.table.best_baseline.as_str()), "{found}");
    assert!(found.table.trading.is_empty() && found.folds[0].fitted.contains_key("ewma"));
    let text = found.to_string();
    assert!(text.contains("gain over naive in QLIKE") && text.contains("they didn't run"), "{text}");
    assert!(!found.verdict.promoted, "without probes nothing is promoted");
}

/// Every planted leak, over seeds, and no honest source.
#[test]
fn planted_leaks_are_caught_every_time() {
    for seed in 0..counts(5, 100) {
        let bars = bars_of("A", &autoregressive(700, 0.0, 900 + seed));
        let recipe = small_recipe(LabelKind::LogReturn, 1);
        let probe = leak::planted(&[&bars], &mut Returns::new(2), &recipe, seed).unwrap();
        assert!(probe.passed, "seed {seed}: {probe:?}");
        assert!(probe.found.contains(&format!("{0} of {0}", LEAKS.len())));
    }
}

/// A leak in the features of the evaluation itself: the future probe says so, and the gate refuses.
#[test]
fn a_leak_in_the_features_is_refused_however_good_it_looks() {
    let bars = bars_of("A", &autoregressive(1000, 0.0, 5));
    let recipe = small_recipe(LabelKind::LogReturn, 1);
    let model = linear_model(3, 4, 0.0);
    let walk = walk();
    let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
    for leak in LEAKS {
        let mut inner = Returns::new(2);
        let mut leaky = Leaky::new(&mut inner, leak);
        let samples = Samples::build(&recipe, &walk, &[&bars], &mut leaky).unwrap();
        let contestants = contestants(&[1], false);
        let run = forecast(&subject, &samples, &contestants, None, &Parts { total: 0 }, &mut ()).unwrap();
        let probe = future::future(&subject, &samples, &run, &[&bars], &mut leaky, 1).unwrap();
        assert!(!probe.passed && probe.found.contains("feature leak"), "{leak:?}: {probe:?}");
        let settings = settings(&[1], false);
        let table = table::table(&run.panel, &Terms::of(&recipe, &walk, &settings)).unwrap();
        let verdict = gate::gate(&table.evidence(1, &[probe]), &settings.rules);
        assert!(!verdict.promoted, "{leak:?}");
    }
}

/// At most 5 of 100 worlds without signal are promoted.
#[test]
fn random_walks_are_not_promoted() {
    let worlds = counts(20, 100);
    for (kind, horizon) in [(LabelKind::LogReturn, 1), (LabelKind::RealisedVolatility, 6)] {
        let recipe = small_recipe(kind, horizon);
        let model = linear_model(3, 3, 0.0);
        let walk = walk();
        let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
        let settings = settings(&[1], true);
        let probes = settings.probes.unwrap();
        let promoted = (0..worlds).filter(|&seed| {
            let verdict = worlds::random_walk(
                &subject,
                &settings,
                &probes,
                &mut Returns::new(2),
                7_000 + seed,
                &mut (),
            );
            verdict.unwrap().promoted
        });
        let promoted = promoted.count() as u64;
        println!("{kind:?}: {promoted} of {worlds} worlds promoted");
        assert!(20 * promoted <= worlds, "{kind:?}: {promoted} of {worlds} worlds promoted");
    }
}

/// prediction = |window| · w + b: it sees the sizes of returns.
fn sizes_model(window: usize, columns: usize) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, columns])).unwrap();
    let sizes = builder.unary(UnaryOp::Abs, x).unwrap();
    let flat = builder.reshape(sizes, Shape::batch(&[window * columns])).unwrap();
    let w = builder.state("w", Shape::fixed(&[window * columns, 1]), Initial::Glorot, true).unwrap();
    let b = builder.state("b", Shape::fixed(&[1]), Initial::Zeros, true).unwrap();
    let y = builder.matmul(flat, w, false, false).unwrap();
    let y = builder.add(y, b).unwrap();
    builder.output("prediction", y).unwrap();
    builder.finish().unwrap()
}

#[test]
fn planted_signals_are_found() {
    for seed in 0..counts(3, 20) {
        for (kind, horizon) in [(LabelKind::LogReturn, 1), (LabelKind::RealisedVolatility, 6)] {
            let mut recipe = small_recipe(kind, horizon);
            recipe.window = 16;
            recipe.training.epochs_max = 15;
            let model = match kind {
                LabelKind::RealisedVolatility => sizes_model(16, 3),
                _ => linear_model(16, 3, 0.0),
            };
            let walk = walk();
            let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
            let settings = settings(&[1], true);
            let probes = ProbeSettings::default();
            let probe =
                worlds::planted(&subject, &settings, &probes, &mut Returns::new(2), 50 + seed, &mut ())
                    .unwrap();
            println!("{kind:?}: {}", probe.found);
            assert!(probe.passed, "seed {seed} {kind:?}: {probe:?}");
        }
    }
}

/// Features without anything to find it in: the probe says that the signal was missed.
#[test]
fn a_missed_signal_fails_the_probe() {
    let recipe = small_recipe(LabelKind::RealisedVolatility, 6);
    let model = linear_model(3, 3, 0.0);
    let walk = walk();
    let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
    let settings = settings(&[1], true);
    let probes = settings.probes.unwrap();
    let probe = worlds::planted(&subject, &settings, &probes, &mut Returns::new(2), 1, &mut ()).unwrap();
    assert!(!probe.passed, "a linear model of signed returns can't see sizes: {probe:?}");
}

/// Stops in the middle of the second fold; what was finished is not trained again, and the bits are the same.
#[test]
fn an_evaluation_that_was_cut_off_goes_on_to_the_same_bits() {
    struct StopAfter(Cell<u32>);
    impl Progress for StopAfter {
        fn batch(&mut self, _: &BatchReport) -> Flow {
            self.0.set(self.0.get().saturating_sub(1));
            if self.0.get() == 0 { Flow::Stop } else { Flow::Continue }
        }
    }
    impl Watch for StopAfter {}
    struct Count(u32);
    impl Progress for Count {
        fn batch(&mut self, _: &BatchReport) -> Flow {
            self.0 += 1;
            Flow::Continue
        }
    }
    impl Watch for Count {}

    let bars = bars_of("A", &autoregressive(900, 0.3, 8));
    let recipe = small_recipe(LabelKind::LogReturn, 1);
    let model = linear_model(3, 3, 0.0);
    let walk = walk();
    let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
    let settings = settings(&[1, 2], false);
    let plain = run(&recipe, &[&bars], &settings);
    assert_eq!(run(&recipe, &[&bars], &settings), plain, "the same seeds give the same bits");

    let folder = tempfile::tempdir().unwrap();
    let mut count = Count(0);
    let place = || Some(Keep { folder: folder.path().to_path_buf(), when_done: true });
    let all =
        |watch: &mut dyn Watch| assess(&subject, &settings, &[&bars], &mut Returns::new(2), place(), watch);
    let mut uncounted = Count(0);
    assess(&subject, &settings, &[&bars], &mut Returns::new(2), None, &mut uncounted).unwrap();
    let cut = all(&mut StopAfter(Cell::new(uncounted.0 * 2 / 3)));
    assert!(matches!(cut, Err(AssessError::Train(TrainError::Stopped { .. }))));
    assert_eq!(all(&mut count).unwrap(), plain);
    assert!(count.0 < uncounted.0 * 2 / 3, "{} of {}", count.0, uncounted.0);
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    let keep = Keep { folder: folder.path().to_path_buf(), when_done: false };
    // A file that holds something else is named.
    let file =
        std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path().join("fold-1-dlinear.json");
    std::fs::write(&file, "{").unwrap();
    let refused = all(&mut ()).unwrap_err().to_string();
    assert!(refused.contains("fold-1-dlinear.json") && refused.contains("remove it"), "{refused}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(names(), 1);
    assert_eq!(
        assess(&subject, &settings, &[&bars], &mut Returns::new(2), Some(keep), &mut ()).unwrap(),
        plain
    );
    assert_eq!(names(), 0, "what is done leaves nothing unless it is to be kept");
}

#[test]
fn what_cannot_be_judged_says_what_to_change() {
    let bars = bars_of("A", &autoregressive(900, 0.3, 8));
    let recipe = small_recipe(LabelKind::LogReturn, 1);
    let model = linear_model(3, 3, 0.0);
    let refused = |edit: &dyn Fn(&mut Settings, &mut WalkForward)| {
        let (mut settings, mut walk) = (settings(&[1], false), walk());
        edit(&mut settings, &mut walk);
        let subject = Subject { recipe: &recipe, walk: &walk, model: &model, executor: &Interpreter };
        assess(&subject, &settings, &[&bars], &mut Returns::new(2), None, &mut ()).unwrap_err().to_string()
    };
    assert!(refused(&|s, _| s.seeds.clear()).contains("seeds"));
    assert!(refused(&|s, _| s.seeds = vec![1, 1]).contains("seeds"));
    assert!(refused(&|s, _| s.fee_bps = -1.0).contains("fee_bps"));
    assert!(refused(&|_, w| w.folds = 0).contains("folds"));
    assert!(refused(&|_, w| w.test_share = 0.02).contains("too few"));
}
