//! Samplers and pruners at work: what they find, and that they stay within the space.

use proptest::prelude::*;

use super::counts;
use crate::random::Random;
use crate::tune::importance::importances;
use crate::tune::space::{Domain, Space};
use crate::tune::trial::{Outcome, Parameter, Parameters, Trial, TrialState};
use crate::tune::{Pruner, Sampler};

fn space(domains: &[(&str, Domain)]) -> Space {
    let mut space = Space::default();
    domains.iter().for_each(|(name, domain)| space.set(name, domain.clone()).unwrap());
    space
}

fn number(low: f64, high: f64, log: bool) -> Domain {
    Domain::Number { low, high, log }
}

fn x(parameters: &Parameters, name: &str) -> f64 {
    parameters[name].as_f64().unwrap()
}

fn ended(number: u32, parameters: Parameters, outcome: Outcome) -> Trial {
    let state = TrialState::Ended(outcome);
    Trial { number, attempts: 1, parameters, state, reports: Vec::new(), latency_us: None, seconds: 0.0 }
}

/// All trials of a study of so many.
fn run(
    sampler: &Sampler,
    space: &Space,
    seed: u64,
    budget: u32,
    objective: impl Fn(&Parameters) -> Outcome,
) -> Vec<Trial> {
    let mut trials = Vec::new();
    for number in 0..budget {
        let mut random = Random::derived(seed, u64::from(number));
        let parameters = sampler.suggest(space, &trials, &mut random);
        assert!(space.contains(&parameters), "{parameters:?}");
        let outcome = objective(&parameters);
        trials.push(ended(number, parameters, outcome));
    }
    trials
}

fn best(trials: &[Trial]) -> f64 {
    trials.iter().filter_map(Trial::value).fold(f64::INFINITY, f64::min)
}

/// How often TPE's best is lower than random's at the same budget, of so many seeds, and the medians of both.
fn duel(space: &Space, budget: u32, seeds: u64, f: impl Fn(&Parameters) -> f64 + Copy) -> (f64, f64, f64) {
    let of = |sampler: Sampler| -> Vec<f64> {
        let value = |p: &Parameters| Outcome::Complete { value: f(p) };
        (0..seeds).map(|seed| best(&run(&sampler, space, seed, budget, value))).collect()
    };
    let (tpe, random) = (of(Sampler::TPE), of(Sampler::Random));
    let wins = tpe.iter().zip(&random).filter(|(t, r)| t < r).count() as f64 / seeds as f64;
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (wins, median(tpe), median(random))
}

/// Branin (Dixon and Szegő 1978); its least value is 0.397887.
fn branin(p: &Parameters) -> f64 {
    let (a, b) = (x(p, "a"), x(p, "b"));
    let pi = std::f64::consts::PI;
    let first = b - 5.1 / (4.0 * pi * pi) * a * a + 5.0 / pi * a - 6.0;
    first * first + 10.0 * (1.0 - 1.0 / (8.0 * pi)) * a.cos() + 10.0
}

/// Units, a rate on a logarithmic scale, depth and a kind, as in training.
fn mixed() -> (Space, fn(&Parameters) -> f64) {
    let kinds = ["a", "b", "c", "d"].map(|k| Parameter::Text(k.into())).to_vec();
    let space = space(&[
        ("depth", Domain::Integer { low: 1, high: 8, log: false }),
        ("kind", Domain::Choice { options: kinds }),
        ("rate", number(1e-5, 1e-1, true)),
        ("units", Domain::Integer { low: 1, high: 1024, log: true }),
    ]);
    let value = |p: &Parameters| {
        let kind = if p["kind"] == Parameter::Text("c".into()) { 0.0 } else { 1.0 };
        let rate = (x(p, "rate") / 3e-3).ln() / 2.0;
        let units = (x(p, "units") / 90.0).ln() / 1.5;
        kind + rate * rate + units * units + ((x(p, "depth") - 3.0) / 3.0).powi(2)
    };
    (space, value)
}

#[test]
fn tpe_beats_random_at_the_same_budget() {
    let seeds = counts(30, 200) as u64;
    let axes: Vec<(String, Domain)> = (0..5).map(|i| (format!("x{i}"), number(-5.0, 5.0, false))).collect();
    let axes: Vec<(&str, Domain)> =
        axes.iter().map(|(name, domain)| (name.as_str(), domain.clone())).collect();
    let sphere = |p: &Parameters| p.values().map(|v| v.as_f64().unwrap().powi(2)).sum::<f64>();
    let plane = space(&[("a", number(-5.0, 10.0, false)), ("b", number(0.0, 15.0, false))]);
    let (mixed, value) = mixed();
    for (name, (wins, tpe, random)) in [
        ("sphere", duel(&space(&axes), 100, seeds, sphere)),
        ("branin", duel(&plane, 100, seeds, branin)),
        ("mixed", duel(&mixed, 60, seeds, value)),
    ] {
        println!("{name}: TPE lower in {wins:.2} of {seeds} seeds, medians {tpe:.4} and {random:.4}");
        assert!(wins >= 0.7 && tpe < random, "{name}: {wins} {tpe} {random}");
    }
}

#[test]
fn tpe_draws_from_what_is_feasible() {
    // Half of the line breaks the constraint.
    let line = space(&[("x", number(0.0, 1.0, false))]);
    let outcome = |p: &Parameters| {
        let x = x(p, "x");
        if x < 0.5 {
            Outcome::Infeasible { violation: 0.5 - x }
        } else {
            Outcome::Complete { value: (x - 0.75).abs() }
        }
    };
    let share = |sampler: &Sampler| {
        let feasible = |seed: u64| {
            let trials = run(sampler, &line, seed, 60, outcome);
            trials.iter().skip(10).filter(|trial| trial.value().is_some()).count()
        };
        (0..counts(10, 100) as u64).map(feasible).sum::<usize>() as f64 / (50.0 * counts(10, 100) as f64)
    };
    let (tpe, random) = (share(&Sampler::TPE), share(&Sampler::Random));
    assert!(tpe > 0.8 && (0.4..0.6).contains(&random), "{tpe} {random}");
    // And where nothing is feasible it goes to where less is broken.
    let broken = |p: &Parameters| Outcome::Infeasible { violation: x(p, "x") + 1.0 };
    let trials = run(&Sampler::TPE, &line, 3, 60, broken);
    let last: f64 = trials[40..].iter().map(|trial| x(&trial.parameters, "x")).sum::<f64>() / 20.0;
    assert!(last < 0.25, "{last}");
}

#[test]
fn the_same_seed_gives_the_same_trials() {
    let (space, value) = mixed();
    let trials = |seed| run(&Sampler::TPE, &space, seed, 40, |p| Outcome::Complete { value: value(p) });
    assert_eq!(trials(5), trials(5));
    assert_ne!(trials(5)[0].parameters, trials(6)[0].parameters);
}

#[test]
fn a_small_space_is_tried_whole() {
    let space = space(&[
        ("a", Domain::Integer { low: 1, high: 4, log: false }),
        ("b", Domain::Choice { options: vec![Parameter::Boolean(false), Parameter::Boolean(true)] }),
    ]);
    assert_eq!(space.count(), Some(8));
    let trials = run(&Sampler::TPE, &space, 1, 8, |p| Outcome::Complete { value: x(p, "a") });
    let distinct: std::collections::BTreeSet<String> =
        trials.iter().map(|trial| format!("{:?}", trial.parameters)).collect();
    assert_eq!(distinct.len(), 8);
}

fn domains() -> impl Strategy<Value = Domain> {
    let numbers = (-1e3f64..1e3, 0.0f64..1e3).prop_map(|(low, width)| Domain::Number {
        low,
        high: low + width,
        log: false,
    });
    let positive = (-8.0f64..3.0, 0.0f64..5.0).prop_map(|(low, decades)| Domain::Number {
        low: 10f64.powf(low),
        high: 10f64.powf(low + decades),
        log: true,
    });
    let integers = (-50i64..50, 0i64..100).prop_map(|(low, width)| Domain::Integer {
        low,
        high: low + width,
        log: false,
    });
    let counts =
        (1i64..50, 0i64..2000).prop_map(|(low, width)| Domain::Integer { low, high: low + width, log: true });
    let choices = (1usize..6).prop_map(|n| Domain::Choice {
        options: (0..n).map(|i| Parameter::Text(format!("option-{i}"))).collect(),
    });
    prop_oneof![numbers, positive, integers, counts, choices]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    /// `run` checks each draw.
    #[test]
    fn draws_lie_within_their_domains(
        domains in proptest::collection::vec(domains(), 1..5),
        seed in any::<u64>(),
        outcomes in proptest::collection::vec((0u8..4, -1e9f64..1e9), 30),
    ) {
        let mut space = Space::default();
        for (i, domain) in domains.into_iter().enumerate() {
            space.set(&format!("p{i}"), domain).unwrap();
        }
        let at = std::cell::Cell::new(0);
        let outcome = |_: &Parameters| {
            let (kind, value) = outcomes[at.replace(at.get() + 1) % outcomes.len()];
            match kind {
                0 | 1 => Outcome::Complete { value },
                2 => Outcome::Infeasible { violation: value.abs() + 1.0 },
                _ => Outcome::Failed { reason: "for a test".into() },
            }
        };
        run(&Sampler::TPE, &space, seed, 30, outcome);
        at.set(0);
        run(&Sampler::Random, &space, seed, 5, outcome);
    }
}

/// A curve that falls to its trial's quality.
fn curve(quality: f64, step: u32, noise: f64, random: &mut Random) -> f64 {
    quality + 2.0 * (-f64::from(step) / 6.0).exp() + noise * random.normal()
}

/// Of 40 trials of 27 steps each.
struct Race {
    steps: u32,
    best_was_stopped: bool,
    /// Of the last 30 those whose quality is among the worst fifth, and that ran to their end.
    hopeless: usize,
    /// How much worse the best of the complete ones is than the best of all.
    regret: f64,
}

fn race(pruner: &Pruner, seed: u64, noise: f64) -> Race {
    let mut random = Random::derived(seed, 99);
    let qualities: Vec<f64> = (0..40).map(|_| random.uniform()).collect();
    let mut trials: Vec<Trial> = Vec::new();
    let (mut steps, mut hopeless) = (0, 0);
    for (number, &quality) in (0..).zip(&qualities) {
        let mut trial = ended(number, Parameters::new(), Outcome::Pruned);
        trial.state = TrialState::Running;
        trials.push(trial);
        let mut stopped = false;
        for step in 1..=27 {
            trials[number as usize].reports.push((step, curve(quality, step, noise, &mut random)));
            steps += 1;
            stopped = pruner.stops(&trials, number, seed);
            if stopped {
                break;
            }
        }
        let value = trials[number as usize].best_until(27).unwrap();
        hopeless += usize::from(!stopped && quality > 0.8 && number >= 10);
        let outcome = if stopped { Outcome::Pruned } else { Outcome::Complete { value } };
        trials[number as usize].state = TrialState::Ended(outcome);
    }
    let best = qualities.iter().copied().fold(f64::INFINITY, f64::min);
    let quality = |trial: &Trial| qualities[trial.number as usize];
    let complete = trials.iter().filter(|trial| trial.value().is_some()).map(quality);
    Race {
        steps,
        best_was_stopped: trials.iter().any(|trial| quality(trial) == best && trial.value().is_none()),
        hopeless,
        regret: complete.fold(f64::INFINITY, f64::min) - best,
    }
}

#[test]
fn pruners_stop_the_hopeless_and_not_the_best() {
    let seeds = counts(50, 500) as u64;
    let hyperband = Pruner::Hyperband { reduction_factor: 3, steps_max: 27 };
    let (mut median_steps, mut hyperband_steps, mut worst) = (0, 0, 0.0f64);
    for seed in 0..seeds {
        let calm = race(&Pruner::MEDIAN, seed, 0.0);
        assert!(!calm.best_was_stopped, "seed {seed}: the median pruner stopped the best");
        assert_eq!(calm.hopeless, 0, "seed {seed}: the median pruner let a hopeless one run to its end");
        median_steps += calm.steps;
        let halved = race(&hyperband, seed, 0.0);
        assert!(!halved.best_was_stopped, "seed {seed}: hyperband stopped the best");
        hyperband_steps += halved.steps;
        // Where noise puts the best above others for a step, one nearly as good is kept.
        worst = worst.max(race(&Pruner::MEDIAN, seed, 0.02).regret);
        assert_eq!(race(&Pruner::None, seed, 0.0).steps, 40 * 27);
    }
    let share = |steps: u32| f64::from(steps) / f64::from(40 * 27) / seeds as f64;
    let (median, hyperband) = (share(median_steps), share(hyperband_steps));
    println!(
        "median {median:.2}, hyperband {hyperband:.2} of all steps; with noise at most {worst:.3} is lost"
    );
    assert!(median < 0.65 && hyperband < 0.65 && worst < 0.06, "{median} {hyperband} {worst}");
}

#[test]
fn what_matters_is_found_important() {
    let (space, _) = mixed();
    let value = |p: &Parameters| Outcome::Complete { value: x(p, "rate").ln().powi(2) + 0.1 * x(p, "depth") };
    let trials = run(&Sampler::Random, &space, 1, 80, value);
    let found = importances(&space, &trials);
    assert_eq!((found[0].0.as_str(), found.len()), ("rate", 4));
    assert!(found[0].1 > 0.7 && found[1].1 < 0.2, "{found:?}");
    assert!(importances(&space, &trials[..5]).is_empty());
}
