//! Simulations: features that only move slowly are left alone, planted shifts are found.

use super::*;
use crate::live::profile::of_rows;
use crate::random::Random;
use crate::testing::full_counts;

/// Stationary autoregressions of variance 1, one a column.
struct World {
    random: Random,
    phi: Vec<f64>,
    state: Vec<f64>,
}

impl World {
    fn new(seed: u64, phi: &[f64]) -> Self {
        let mut random = Random::new(seed);
        let state = phi.iter().map(|_| random.normal()).collect();
        World { random, phi: phi.to_vec(), state }
    }

    fn row(&mut self) -> Vec<f32> {
        for (x, phi) in self.state.iter_mut().zip(&self.phi) {
            *x = phi * *x + (1.0 - phi * phi).sqrt() * self.random.normal();
        }
        self.state.iter().map(|&x| x as f32).collect()
    }

    fn profile(&mut self, steps: usize) -> Profile {
        let rows: Vec<Vec<f32>> = (0..steps).map(|_| self.row()).collect();
        let rows: Vec<(Timestamp, &[f32])> =
            rows.iter().enumerate().map(|(i, row)| (Timestamp(i as i64), row.as_slice())).collect();
        of_rows(&rows, self.phi.len(), 1)
    }
}

/// Feeds so many rows, each changed; the columns that were called shifted.
fn watch(
    world: &mut World,
    profile: &Profile,
    level: f64,
    steps: usize,
    change: impl Fn(&mut Vec<f32>),
) -> Vec<Shifted> {
    let settings = ShiftSettings { level, ..ShiftSettings::default() };
    let mut monitor = ShiftMonitor::new(profile, settings).unwrap();
    for step in 0..steps {
        let mut row = world.row();
        change(&mut row);
        monitor.push(Timestamp(step as i64), &row);
    }
    monitor.report().shifted
}

/// Ten features of coefficient 0.99 or quick ones, over some windows of each length: ever calling one shifted happens
/// at most at the level. Two standard errors are allowed.
#[test]
fn slow_features_are_not_taken_for_shifted_ones() {
    let runs = if full_counts() { 400 } else { 40 };
    let level = 0.05;
    let allowed = level + 2.0 * (level * (1.0 - level) / runs as f64).sqrt();
    for phi in [0.0, 0.9, 0.99] {
        let mut false_alarms = 0;
        for seed in 0..runs {
            let mut world = World::new(seed, &[phi; 10]);
            let profile = world.profile(20_000);
            let found = watch(&mut world, &profile, level, 8_100, |_| ());
            false_alarms += u32::from(!found.is_empty());
        }
        let share = f64::from(false_alarms) / runs as f64;
        println!("coefficient {phi}: {:.1} % of {runs} runs call a feature shifted", 100.0 * share);
        assert!(share <= allowed, "{phi}: {share}");
    }
}

/// Returns whose size wanders: log deviation an autoregression of coefficient 0.995, deviation ½. They don't depend on
/// each other, and over some hundred steps they look like other returns.
#[test]
fn volatile_times_are_not_taken_for_other_features() {
    let runs = if full_counts() { 400 } else { 40 };
    let mut false_alarms = 0;
    for seed in 0..runs {
        let mut world = World::new(seed, &[0.0, 0.995]);
        let mut row = || {
            let row = world.row();
            [row[0] * (0.5 * row[1]).exp()]
        };
        let rows: Vec<[f32; 1]> = (0..40_000).map(|_| row()).collect();
        let rows: Vec<(Timestamp, &[f32])> =
            rows.iter().enumerate().map(|(i, row)| (Timestamp(i as i64), row.as_slice())).collect();
        let profile = of_rows(&rows, 1, 1);
        let settings = ShiftSettings { level: 0.05, ..ShiftSettings::default() };
        let mut monitor = ShiftMonitor::new(&profile, settings).unwrap();
        (0..8_100).for_each(|step| _ = monitor.push(Timestamp(step), &row()));
        false_alarms += u32::from(!monitor.report().shifted.is_empty());
    }
    let share = f64::from(false_alarms) / runs as f64;
    println!("volatile: {:.1} % of {runs} runs call a feature shifted", 100.0 * share);
    assert!(share <= 0.05 + 2.0 * (0.05 * 0.95 / runs as f64).sqrt(), "{share}");
}

/// By the shortest windows where a feature moves quickly, by longer ones where it moves slowly.
#[test]
fn planted_shifts_are_found_and_only_those() {
    let rows = [(0.5, 0.7, 501), (0.95, 1.3, 2001), (0.99, 1.8, 8001)];
    for (phi, shift, steps) in rows {
        let runs = 20;
        let mut found = 0;
        for seed in 0..runs {
            let mut world = World::new(1000 + seed, &[phi; 10]);
            let profile = world.profile(40_000);
            let shifted = watch(&mut world, &profile, 0.01, steps, |row| row[3] += shift as f32);
            assert!(shifted.iter().all(|s| s.column == 3), "{shifted:?}");
            assert!(shifted.iter().all(|s| s.moved > 0.0 && s.p_value < s.needed));
            found += shifted.len();
        }
        println!("coefficient {phi}, shift {shift}: {found} of {runs} within {steps} steps");
        assert!(found * 10 >= runs as usize * 9, "{phi}: {found}");
    }
    // The same mean, three times the spread.
    let mut world = World::new(5, &[0.5; 4]);
    let profile = world.profile(20_000);
    let shifted = watch(&mut world, &profile, 0.01, 1001, |row| row[0] *= 3.0);
    assert!(shifted.len() == 1 && shifted[0].column == 0 && shifted[0].moved.abs() < 0.1, "{shifted:?}");
}

#[test]
fn what_cannot_be_told_is_said() {
    let mut world = World::new(1, &[0.999, 0.0]);
    let profile = world.profile(20_000);
    let mut monitor = ShiftMonitor::new(&profile, ShiftSettings::default()).unwrap();
    assert!(!monitor.push(Timestamp(0), &[0.0]), "a row of another length");
    assert!(!monitor.push(Timestamp(0), &[f32::NAN, 0.0]));
    let ends = (0..501).filter(|&step| monitor.push(Timestamp(step), &world.row())).count();
    let report = monitor.report();
    assert_eq!((ends, report.steps, report.lengths[0].windows, report.lengths[1].windows), (1, 500, 1, 0));
    let tests = &report.lengths[0].tests;
    assert!(tests[0].p_value.is_none() && tests[0].effective_samples < EFFECTIVE_MIN, "{tests:?}");
    assert!(tests[1].p_value.is_some(), "{tests:?}");
    for (settings, key) in [
        (ShiftSettings { level: 0.0, ..Default::default() }, "level"),
        (ShiftSettings { window_steps: 1, ..Default::default() }, "window_steps"),
        (ShiftSettings { lengths: 9, ..Default::default() }, "lengths"),
    ] {
        assert_eq!(ShiftMonitor::new(&profile, settings).unwrap_err().key, key);
    }
}

/// Several streams that move together are worth no more than in training, and fewer of them less.
#[test]
fn rows_of_one_time_are_one_step() {
    let mut world = World::new(2, &[0.0]);
    let rows: Vec<Vec<f32>> = (0..5000).map(|_| world.row()).collect();
    let twice: Vec<(Timestamp, &[f32])> = rows
        .iter()
        .enumerate()
        .flat_map(|(i, row)| [(Timestamp(i as i64), row.as_slice()), (Timestamp(i as i64), row.as_slice())])
        .collect();
    let profile = of_rows(&twice, 1, 2);
    let run = |streams: i64| {
        let mut world = World::new(3, &[0.0]);
        let mut monitor = ShiftMonitor::new(&profile, ShiftSettings::default()).unwrap();
        for step in 0..501 {
            let row = world.row();
            (0..streams).for_each(|_| _ = monitor.push(Timestamp(step), &row));
        }
        monitor.report().lengths[0].tests[0].effective_samples
    };
    let (one, two) = (run(1), run(2));
    assert!(two <= 501.0 && one <= 0.55 * two, "{one} {two}");
}

#[test]
fn stored_state_goes_on_to_the_same_bits() {
    let mut world = World::new(4, &[0.5, 0.9]);
    let profile = world.profile(3000);
    let mut whole = ShiftMonitor::new(&profile, ShiftSettings::default()).unwrap();
    (0..777).for_each(|step| _ = whole.push(Timestamp(step), &world.row()));
    let mut again: ShiftMonitor = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
    for step in 777..2222 {
        let row = world.row();
        assert_eq!(whole.push(Timestamp(step), &row), again.push(Timestamp(step), &row));
    }
    assert_eq!(whole, again);
}

/// Critical values of the Kolmogorov distribution: 1.358 at 5 %, 1.628 at 1 %.
#[test]
fn p_values_are_kolmogorovs() {
    let at = |x: f64| kolmogorov(1e10, x / 1e5);
    assert!(
        (at(1.358) - 0.05).abs() < 2e-4 && (at(1.628) - 0.01).abs() < 1e-4,
        "{} {}",
        at(1.358),
        at(1.628)
    );
    assert_eq!((at(0.0), at(0.2)), (1.0, 1.0));
    assert!(kolmogorov(100.0, 1.0) < 1e-80);
}
