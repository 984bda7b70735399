//! The formula, and simulations: how long it runs while nothing changes, and how soon a planted shift is found.

use super::*;
use crate::random::Random;
use crate::testing::full_counts;

fn settings(run_length_blocks: f64) -> CusumSettings {
    CusumSettings { run_length_blocks, ..CusumSettings::for_horizon(6) }
}

/// Montgomery, "Introduction to Statistical Quality Control", 6th edition, section 9.1.3: k = ½ and h = 5 give 938 in
/// control for one side and 10.34 behind a shift of one deviation by this formula.
#[test]
fn the_run_length_is_siegmunds() {
    assert!((run_length(5.0, 0.5, 0.0) - 938.2).abs() < 0.1, "{}", run_length(5.0, 0.5, 0.0));
    assert!((run_length(5.0, 0.5, 1.0) - 10.34).abs() < 0.01, "{}", run_length(5.0, 0.5, 1.0));
    assert_eq!(run_length(5.0, 0.5, 0.5), 6.166f64.powi(2));
    let h = settings(469.1).threshold();
    assert!((h - 5.0).abs() < 1e-3, "both sides together run half as long: {h}");
    assert!(settings(469.1).expected_delay_blocks(1.0) < 11.0);
}

/// Losses of one step after another while nothing changes.
#[derive(Clone, Copy, Debug)]
enum World {
    Squared,
    /// Squares of Student's t with three degrees of freedom: no variance.
    Heavy,
    /// Squares of sums over the horizon's bars.
    Overlapping,
    /// Squares whose log variance is an autoregression of coefficient 0.9 a step.
    Volatile,
}

struct Losses {
    world: World,
    random: Random,
    held: Vec<f64>,
}

impl Losses {
    fn new(world: World, seed: u64) -> Self {
        Losses { world, random: Random::derived(seed, world as u64), held: vec![0.0; 6] }
    }

    fn next(&mut self) -> f64 {
        let normal = self.random.normal();
        match self.world {
            World::Squared => normal.powi(2),
            World::Heavy => {
                let squares: f64 = (0..3).map(|_| self.random.normal().powi(2)).sum();
                normal.powi(2) / (squares / 3.0)
            }
            World::Overlapping => {
                self.held.rotate_left(1);
                self.held[5] = normal;
                self.held.iter().sum::<f64>().powi(2)
            }
            World::Volatile => {
                self.held[0] = 0.9 * self.held[0] + normal;
                (0.3 * self.held[0]).exp() * self.random.normal().powi(2)
            }
        }
    }
}

/// Blocks behind the reference until the alarm, losses being `factor` times as large from block `change` on.
fn alarm(settings: CusumSettings, losses: &mut Losses, change: u64, factor: f64, most: u64) -> Option<Alarm> {
    let mut cusum = Cusum::new(settings).unwrap();
    while cusum.report().blocks < most {
        let factor = if cusum.report().blocks >= change { factor } else { 1.0 };
        cusum.push(factor * losses.next());
        if let Some(alarm) = cusum.report().alarm {
            return Some(alarm);
        }
    }
    None
}

#[test]
fn it_runs_as_long_as_it_states_while_nothing_changes() {
    let runs = if full_counts() { 2000 } else { 150 };
    let wanted = 200.0;
    for world in [World::Squared, World::Heavy, World::Overlapping, World::Volatile] {
        let (mut sum, mut early) = (0.0, 0.0);
        for seed in 0..runs {
            let found = alarm(settings(wanted), &mut Losses::new(world, seed), u64::MAX, 1.0, 2050);
            let length = found.map_or(2000, |alarm| alarm.blocks - 50);
            sum += length as f64;
            early += f64::from(u8::from(length < 20));
        }
        let (mean, early) = (sum / runs as f64, early / runs as f64);
        println!("{world:?}: {mean:.0} blocks to a false alarm, {:.1} % within 20", 100.0 * early);
        assert!(mean >= wanted, "{world:?}: {mean}");
        // A memoryless wait of that mean would give 9.5 %.
        assert!(early <= 0.12, "{world:?}: {early}");
    }
}

#[test]
fn planted_shifts_are_found_and_dated() {
    let runs = if full_counts() { 1000 } else { 100 };
    let rows = [(World::Squared, 2.0, 10.0), (World::Overlapping, 3.0, 25.0), (World::Volatile, 4.0, 30.0)];
    for (world, factor, most) in rows {
        let (mut count, mut early, mut delay, mut dated) = (0.0, 0.0, 0.0, 0.0);
        for seed in 0..runs {
            let found = alarm(settings(2000.0), &mut Losses::new(world, seed), 200, factor, 600);
            early += f64::from(u8::from(found.is_some_and(|alarm| alarm.blocks <= 200)));
            let Some(alarm) = found.filter(|alarm| alarm.blocks > 200) else { continue };
            assert_eq!(alarm.side, Side::Up, "{world:?}");
            count += 1.0;
            delay += (alarm.blocks - 200) as f64;
            dated += alarm.since_blocks as f64 - 200.0;
        }
        let (runs, delay_blocks) = (runs as f64, delay / count);
        println!(
            "{world:?} x{factor}: {count} of {runs}, {early} alarmed before, {delay_blocks:.1} blocks late"
        );
        // 150 blocks of a run length of 2000 in control.
        assert!(early <= 0.12 * runs && count >= 0.97 * (runs - early), "{world:?}: {count} {early}");
        assert!(delay_blocks <= most, "{world:?}: {delay_blocks}");
        assert!((dated / count).abs() < 6.0, "{world:?}: {}", dated / count);
    }
}

#[test]
fn smaller_losses_are_an_alarm_of_the_other_side_and_the_first_one_stays() {
    let mut losses = Losses::new(World::Squared, 1);
    let mut cusum = Cusum::new(settings(2000.0)).unwrap();
    (0..12 * 200).for_each(|_| _ = cusum.push(losses.next()));
    assert_eq!(cusum.report().alarm, None);
    (0..12 * 100).for_each(|_| _ = cusum.push(0.4 * losses.next()));
    let alarm = cusum.report().alarm.unwrap();
    assert!(alarm.side == Side::Down && (200..230).contains(&alarm.blocks), "{alarm:?}");
    (0..12 * 300).for_each(|_| _ = cusum.push(5.0 * losses.next()));
    assert_eq!((cusum.report().alarm, cusum.report().blocks), (Some(alarm), 600));
}

#[test]
fn settings_are_checked_and_stored_state_goes_on_to_the_same_bits() {
    let good = settings(100.0);
    for (settings, key) in [
        (CusumSettings { block_steps: 0, ..good }, "block_steps"),
        (CusumSettings { run_length_blocks: f64::NAN, ..good }, "run_length_blocks"),
        (CusumSettings { shift: 0.0, ..good }, "shift"),
        (CusumSettings { reference_blocks: 3, ..good }, "reference_blocks"),
    ] {
        assert_eq!(Cusum::new(settings).unwrap_err().key, key);
    }
    let mut losses = Losses::new(World::Overlapping, 9);
    let mut whole = Cusum::new(good).unwrap();
    for steps in [100, 900] {
        (0..steps).for_each(|_| _ = whole.push(losses.next()));
        let mut again: Cusum = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
        assert_eq!(whole, again);
        for _ in 0..777 {
            let loss = losses.next();
            assert_eq!(whole.push(loss), again.push(loss));
        }
        assert_eq!(whole, again);
    }
    // Equal losses have their middle rank: no score, no alarm.
    let mut same = Cusum::new(good).unwrap();
    (0..12 * 500).for_each(|_| _ = same.push(1.0));
    assert_eq!((same.report().alarm, same.report().up), (None, 0.0));
    assert!(!same.push(f64::NAN));
}
