use proptest::prelude::*;

use super::*;
use crate::random::Random;
use crate::testing::full_counts;

const LEVEL: f64 = 0.9;

#[test]
fn the_split_quantile_is_the_rank_of_the_formula() {
    let scores: Vec<f64> = (1..=9).rev().map(f64::from).collect();
    // ⌈10 · 0.9⌉ = 9 and ⌈10 · 0.45⌉ = 5.
    assert_eq!(split_quantile(&scores, 0.9), Some(9.0));
    assert_eq!(split_quantile(&scores, 0.45), Some(5.0));
    assert_eq!(split_quantile(&scores, 0.91), None, "nine scores are too few");
    assert_eq!((scores_min(0.9), scores_min(0.91), scores_min(0.5)), (9, 11, 1));
}

/// Exchangeable scores, of any shape: the coverage is at least the level and at most 1 / (n + 1) above it. Each trial
/// is a calibration of its own, so hits are binomial and may be 4 deviations off.
#[test]
fn split_intervals_cover_exchangeable_data_within_binomial_bounds() {
    let trials = if full_counts() { 40_000 } else { 4_000 };
    let shapes: [fn(&mut Random) -> f64; 3] =
        [|r| r.normal().abs(), |r| (2.0 * r.normal()).exp(), |r| r.uniform()];
    for (seed, shape) in (0..).zip(shapes) {
        for level in [0.5, 0.9, 0.95] {
            let mut random = Random::derived(seed, (level * 100.0) as u64);
            let n = 59;
            let hits = (0..trials)
                .filter(|_| {
                    let scores: Vec<f64> = (0..n).map(|_| shape(&mut random)).collect();
                    shape(&mut random) <= split_quantile(&scores, level).unwrap()
                })
                .count();
            let rate = hits as f64 / f64::from(trials);
            let slack = 4.0 * (level * (1.0 - level) / f64::from(trials)).sqrt();
            let bounds = level - slack..=level + 1.0 / f64::from(n + 1) + slack;
            assert!(bounds.contains(&rate), "level {level}: {rate} is not in {bounds:?}");
        }
    }
}

/// Coverage by the fixed and by the adaptive interval of scores whose scale is a function of time from 0 to 1: overall,
/// and the lowest and highest over any 500 in a row.
fn coverage(count: usize, scale: fn(f64) -> f64, seed: u64) -> ([f64; 3], [f64; 3]) {
    let mut random = Random::new(seed);
    let mut score = |t: f64| scale(t) * random.normal().abs();
    let calibration: Vec<f64> = (0..1000).map(|_| score(0.0)).collect();
    let fixed = split_quantile(&calibration, LEVEL).unwrap();
    let step = fixed - split_quantile(&calibration, 0.5).unwrap();
    let mut tracker = Tracker::new(fixed, step);
    let mut hits = [Vec::new(), Vec::new()];
    for i in 0..count {
        let s = score(i as f64 / count as f64);
        hits[0].push(s <= fixed);
        hits[1].push(s <= tracker.quantile());
        tracker.observe(s, LEVEL, 1);
    }
    let share = |hits: &[bool]| hits.iter().filter(|&&h| h).count() as f64 / hits.len() as f64;
    let summary = |hits: &[bool]| {
        let rolling = || hits.windows(500).step_by(50).map(share);
        [share(hits), rolling().fold(1.0, f64::min), rolling().fold(0.0, f64::max)]
    };
    (summary(&hits[0]), summary(&hits[1]))
}

/// A name, and the scale of its scores over time.
type World = (&'static str, fn(f64) -> f64);

/// The stated band: overall the adaptive coverage stays within 2 points of the level, and over any 500 outcomes in a
/// row within 6, of which chance alone takes 4 (3 deviations of 500 draws).
#[test]
fn adaptive_intervals_keep_coverage_where_split_ones_lose_it() {
    let worlds: [World; 4] = [
        ("volatility triples slowly", |t| 1.0 + 2.0 * t),
        ("volatility falls to a third", |t| 1.0 / (1.0 + 2.0 * t)),
        ("volatility comes and goes", |t| 1.0 + 0.8 * (12.0 * t).sin()),
        ("nothing changes", |_| 1.0),
    ];
    for (world, scale) in worlds {
        for seed in 0..if full_counts() { 20 } else { 3 } {
            let (fixed, adaptive) = coverage(6000, scale, seed);
            assert!((adaptive[0] - LEVEL).abs() < 0.02, "{world}: overall {adaptive:?}");
            assert!(adaptive[1] > LEVEL - 0.06 && adaptive[2] < LEVEL + 0.06, "{world}: {adaptive:?}");
            let lost = fixed[1] < LEVEL - 0.1 || fixed[2] > LEVEL + 0.06;
            assert_eq!(lost, world != "nothing changes", "{world}: the fixed interval {fixed:?}");
        }
    }
}

/// A jump: half of the loss is made up within 100 outcomes.
#[test]
fn a_jump_is_caught_up_with() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let mut tracker = Tracker::new(1.645, 1.0);
        for _ in 0..2000 {
            tracker.observe(random.normal().abs(), LEVEL, 1);
        }
        let still = tracker.quantile();
        assert!((still - 1.645).abs() < 0.25, "{still}");
        for _ in 0..100 {
            tracker.observe(3.0 * random.normal().abs(), LEVEL, 1);
        }
        let after = tracker.quantile();
        assert!(after > 1.645 * 2.0 && after < 1.645 * 6.0, "seed {seed}: {after}");
    }
}

/// Labels over 12 bars, whose outcomes come 12 bars late and share bars: coverage stays within 2 points of the level.
/// Learning from each as if it stood alone loses more than that.
#[test]
fn overlapping_labels_keep_their_coverage() {
    const HORIZON: usize = 12;
    for seed in 0..if full_counts() { 20 } else { 4 } {
        let mut random = Random::new(seed);
        let noise: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let scores: Vec<f64> = noise.windows(HORIZON).map(|w| w.iter().sum::<f64>().abs()).collect();
        let (calibration, live) = scores.split_at(4000);
        let fixed = split_quantile(calibration, LEVEL).unwrap();
        let step = fixed - split_quantile(calibration, 0.5).unwrap();
        let coverage = |horizon_bars: u32| {
            let mut tracker = Tracker::new(fixed, step);
            let mut hits = 0;
            for (i, score) in live.iter().enumerate() {
                hits += usize::from(*score <= tracker.quantile());
                if i >= HORIZON {
                    tracker.observe(live[i - HORIZON], LEVEL, horizon_bars);
                }
            }
            hits as f64 / live.len() as f64
        };
        let (right, alone) = (coverage(HORIZON as u32), coverage(1));
        assert!((right - LEVEL).abs() < 0.02, "seed {seed}: {right}");
        assert!(alone < LEVEL - 0.025, "seed {seed}: {alone}");
    }
}

#[test]
fn the_state_is_its_bytes_to_the_bit() {
    let mut random = Random::new(3);
    let mut tracker = Tracker::new(0.7, 0.2);
    let (mut kept, mut scores) = (tracker, Vec::new());
    for i in 0..300 {
        let score = random.normal();
        if i >= 100 {
            scores.push(score);
        }
        tracker.observe(score, LEVEL, 1);
        if i == 99 {
            kept = Tracker::from_bytes(&tracker.to_bytes()).unwrap();
        }
    }
    scores.into_iter().for_each(|score| kept.observe(score, LEVEL, 1));
    assert_eq!(kept.to_bytes(), tracker.to_bytes());
    assert_eq!(Tracker::from_bytes(&[0; 3]), None);
    let mut spoiled = tracker.to_bytes();
    spoiled[..8].copy_from_slice(&f64::NAN.to_bits().to_le_bytes());
    assert_eq!(Tracker::from_bytes(&spoiled), None);
}

proptest! {
    /// Whatever comes, the state stays one: finite, and weights that sum to 1.
    #[test]
    fn nothing_breaks_the_tracker(scores in prop::collection::vec(-1e12f64..1e12, 0..400), level in 0.01f64..0.99) {
        let mut tracker = Tracker::new(0.0, 1e-3);
        for score in scores {
            tracker.observe(score, level, 1);
            let sum: f64 = tracker.weights.iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            prop_assert!(tracker.quantile().is_finite() && tracker.unit > 0.0);
        }
        prop_assert_eq!(Tracker::from_bytes(&tracker.to_bytes()), Some(tracker));
    }
}
