//! The formulas, and simulations: how often a test that is read after every block decides falsely, and how soon it
//! finds a planted difference.

use super::*;
use crate::random::Random;
use crate::testing::full_counts;

fn settings(horizon: u32) -> SequentialSettings {
    SequentialSettings::for_horizon(horizon)
}

#[test]
fn the_interval_and_the_p_value_are_their_formulas() {
    let one = SequentialSettings { block_steps: 1, blocks_min: 10, ..settings(1) };
    let mut test = SequentialTest::new(one).unwrap();
    let values: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20) / 10.0 - 1.2).collect();
    values.iter().for_each(|&x| assert!(test.push(x, 3)));
    let (n, mean) = (20.0, values.iter().sum::<f64>() / 20.0);
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 19.0;
    let covariance = values.windows(2).map(|p| (p[0] - mean) * (p[1] - mean)).sum::<f64>() / 20.0;
    let pairs: Vec<f64> = values.chunks(2).map(|p| (p[0] + p[1]) / 2.0).collect();
    assert!(pairs.len() < 12, "one level alone");
    let s = ((variance + 2.0 * covariance.max(0.0)) * (1.0 + 8.0 / n)).sqrt();
    let log = -2.0 * 0.05f64.ln();
    let rho2 = (log + (log + 1.0).ln()) / 60.0;
    let inner = ((n * rho2 + 1.0).sqrt() / 0.05).ln();
    let radius = s * (2.0 * (n * rho2 + 1.0) / (n * n * rho2) * inner).sqrt();
    let report = test.report();
    let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
    close(report.mean, mean);
    close(report.low, mean - radius);
    close(report.high, mean + radius);
    assert_eq!((report.blocks, report.steps, report.pairs), (20, 20, 60));
}

/// The interval leaves 0 exactly when the p-value falls below the level.
#[test]
fn interval_and_p_value_agree() {
    let mut decided = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut test = SequentialTest::new(settings(1)).unwrap();
        for _ in 0..2000 {
            if !test.push(random.normal() - 0.08, 1) {
                continue;
            }
            let report = test.report();
            let leaves = report.high.is_some_and(|high| high < 0.0) && report.blocks >= 30;
            if leaves {
                assert!(report.p_value < 0.05 && report.verdict == Verdict::Better, "{report:?}");
            }
            assert_eq!(report.p_value < 0.05, report.decision.is_some());
            if let Some(decision) = report.decision.filter(|d| d.blocks == report.blocks) {
                assert!(leaves && decision.steps == report.steps, "{report:?}");
                decided += 1;
            }
        }
    }
    assert!(decided >= 20, "{decided}");
}

#[test]
fn nothing_is_decided_of_few_blocks_or_of_no_deviation() {
    let mut test = SequentialTest::new(settings(1)).unwrap();
    for i in 0..4 * 29 {
        test.push(-1.0 - 0.001 * f64::from(i % 3), 1);
    }
    assert_eq!((test.report().verdict, test.report().p_value), (Verdict::Undecided, 1.0));
    (0..4).for_each(|i| assert_eq!(test.push(-1.0, 1), i == 3));
    assert_eq!(test.report().verdict, Verdict::Better);
    let mut same = SequentialTest::new(settings(1)).unwrap();
    (0..1000).for_each(|_| _ = same.push(0.0, 1));
    assert_eq!(
        (same.report().verdict, same.report().p_value, same.report().low),
        (Verdict::Undecided, 1.0, None)
    );
    // What isn't finite is left out, and counted nowhere.
    assert!(!same.push(f64::INFINITY, 1) && !same.push(f64::NAN, 1));
    assert_eq!(same.report().steps, 1000);
    // A deviation that is known beforehand decides where none is seen.
    let known = SequentialSettings { deviation_min: 0.1, ..settings(1) };
    let mut constant = SequentialTest::new(known).unwrap();
    (0..4 * 40).for_each(|_| _ = constant.push(0.5, 1));
    assert_eq!(constant.report().verdict, Verdict::Worse);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let good = settings(12);
    assert_eq!(good.block_steps, 24);
    let refused = |settings: SequentialSettings, key: &str| {
        assert_eq!(SequentialTest::new(settings).unwrap_err().key, key);
    };
    refused(SequentialSettings { level: 0.0, ..good }, "level");
    refused(SequentialSettings { level: f64::NAN, ..good }, "level");
    refused(SequentialSettings { block_steps: 0, ..good }, "block_steps");
    refused(SequentialSettings { blocks_min: 5, ..good }, "blocks_min");
    refused(SequentialSettings { tuned_blocks: 0, ..good }, "tuned_blocks");
    refused(SequentialSettings { deviation_min: f64::INFINITY, ..good }, "deviation_min");
}

#[test]
fn stored_state_goes_on_to_the_same_bits() {
    let mut random = Random::new(3);
    let mut whole = SequentialTest::new(settings(5)).unwrap();
    (0..777).for_each(|_| _ = whole.push(random.normal() - 0.2, 2));
    let mut again: SequentialTest = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
    for _ in 0..777 {
        let x = random.normal();
        assert_eq!(whole.push(x, 2), again.push(x, 2));
    }
    assert_eq!(whole, again);
}

/// Worlds without a difference between the models. Each gives the mean differences of one step after another.
#[derive(Clone, Copy, Debug)]
enum World {
    Normal,
    /// Student's t with three degrees of freedom: no fourth moment.
    Heavy,
    /// Skewed, as differences of squared errors and of QLIKE are: exponential less its mean.
    Skewed,
    /// Sums over the horizon's bars, which neighbours share.
    Overlapping,
    /// The same, but each of eight symbols shares most of it with the market.
    Market,
    /// An autoregression beyond the overlap, of coefficient 0.9 a step.
    Persistent,
    /// Normal with a variance that wanders by a factor of some tens (log variance an autoregression).
    Volatile,
}

const WORLDS: [World; 7] = [
    World::Normal,
    World::Heavy,
    World::Skewed,
    World::Overlapping,
    World::Market,
    World::Persistent,
    World::Volatile,
];

fn student(random: &mut Random) -> f64 {
    let squares: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
    random.normal() / (squares / 3.0).sqrt()
}

fn differences(world: World, horizon: usize, steps: usize, random: &mut Random) -> Vec<f64> {
    let moving = |shocks: &[f64]| -> Vec<f64> { shocks.windows(horizon).map(|w| w.iter().sum()).collect() };
    match world {
        World::Normal => (0..steps).map(|_| random.normal()).collect(),
        World::Heavy => (0..steps).map(|_| student(random)).collect(),
        World::Skewed => (0..steps).map(|_| -(1.0 - random.uniform()).ln() - 1.0).collect(),
        World::Overlapping => {
            let shocks: Vec<f64> = (0..steps + horizon - 1).map(|_| student(random)).collect();
            moving(&shocks)
        }
        World::Market => {
            let shock = |random: &mut Random| {
                let market = student(random);
                (0..8).map(|_| 0.9 * market + 0.4 * random.normal()).sum::<f64>() / 8.0
            };
            let shocks: Vec<f64> = (0..steps + horizon - 1).map(|_| shock(random)).collect();
            moving(&shocks)
        }
        World::Persistent | World::Volatile => {
            let (mut state, coefficient) = (0.0, if matches!(world, World::Volatile) { 0.98 } else { 0.9 });
            let one = |_| {
                state = coefficient * state + random.normal();
                match world {
                    World::Volatile => (0.25 * state).exp() * random.normal(),
                    _ => state,
                }
            };
            (0..steps).map(one).collect()
        }
    }
}

/// The share of runs that decide at any time within `blocks` blocks, and the mean blocks to a decision.
fn decided(world: World, effect: f64, blocks: usize, runs: u64) -> (f64, f64) {
    let horizon = 6;
    let settings = settings(horizon);
    let (mut count, mut waited) = (0.0, 0.0);
    for run in 0..runs {
        let mut random = Random::derived(run, world as u64);
        let mut test = SequentialTest::new(settings).unwrap();
        let steps = blocks * settings.block_steps as usize;
        for x in differences(world, horizon as usize, steps, &mut random) {
            test.push(x - effect, 1);
        }
        let decision = test.report().decision;
        assert!(effect == 0.0 || decision.is_none_or(|d| d.verdict == Verdict::Better), "{world:?}");
        count += f64::from(u8::from(decision.is_some()));
        waited += decision.map_or(blocks as f64, |d| d.blocks as f64);
    }
    (count / runs as f64, waited / runs as f64)
}

/// Read after every block of 500: false decisions at any time are at most the level. Two standard errors are allowed.
#[test]
fn looking_all_the_time_decides_falsely_at_most_at_the_level() {
    let runs = if full_counts() { 4000 } else { 400 };
    let allowed = 0.05 + 2.0 * (0.05 * 0.95 / runs as f64).sqrt();
    for world in WORLDS {
        let (share, _) = decided(world, 0.0, 500, runs);
        println!("{world:?}: {:.2} % of {runs} runs decide falsely", 100.0 * share);
        assert!(share <= allowed, "{world:?}: {share}");
    }
}

/// An effect of d long-run deviations of a block is found in some 12 / d² blocks (30 at least): with d = 0.5 within 60, with 0.3 within 140.
#[test]
fn planted_differences_are_found_soon() {
    let runs = if full_counts() { 2000 } else { 200 };
    // Long-run deviation of a block of 12 steps: 1/√12 for unit steps; the autoregression's is tenfold.
    for (world, deviation) in [(World::Normal, 1.0), (World::Persistent, 10.0), (World::Heavy, 3f64.sqrt())] {
        let block = deviation / 12f64.sqrt();
        for (effect, most) in [(1.0, 33.0), (0.5, 60.0), (0.3, 140.0)] {
            let (share, blocks) = decided(world, effect * block, 600, runs);
            println!("{world:?}, effect {effect}: {:.1} % found, after {blocks:.0} blocks", 100.0 * share);
            assert!(share >= 0.98 && blocks <= most, "{world:?} {effect}: {share} {blocks}");
        }
    }
}
