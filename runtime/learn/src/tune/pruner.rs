//! Pruners: which running trials to stop, from what they and others have reported.

use serde::{Deserialize, Serialize};

use super::trial::{Outcome, Trial};
use crate::random::Random;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pruner {
    None,
    /// Stops a trial whose least report so far is above the median of those of the complete ones up to the same step
    /// (Golovin et al. 2017, section 3.2.2). A complete one that ended before that step counts with its least report.
    Median {
        /// Complete trials before it begins.
        startup_trials: u32,
        /// Steps of each trial before it may be stopped.
        warmup_steps: u32,
    },
    /// Hyperband (Li et al. 2018) as brackets of asynchronous successive halving (Li et al. 2020), as in Optuna:
    /// bracket b stops trials at steps η^(b+r), r = 0, 1, …, where only the best of η go on. Trials are dealt to brackets
    /// at random, by their budgets.
    Hyperband {
        /// η.
        reduction_factor: u32,
        /// The most steps that a trial takes.
        steps_max: u32,
    },
}

impl Pruner {
    /// With Optuna's defaults.
    pub const MEDIAN: Pruner = Pruner::Median { startup_trials: 5, warmup_steps: 0 };

    /// Whether `trials[number]` is to stop after its last report. `seed` is the study's.
    pub fn stops(&self, trials: &[Trial], number: u32, seed: u64) -> bool {
        let Some(trial) = trials.get(number as usize) else { return false };
        let Some(&(step, _)) = trial.reports.last() else { return false };
        match *self {
            Pruner::None => false,
            Pruner::Median { startup_trials, warmup_steps } => {
                let complete: Vec<f64> = trials
                    .iter()
                    .filter(|other| matches!(other.outcome(), Some(Outcome::Complete { .. })))
                    .filter_map(|other| other.best_until(step))
                    .collect();
                if complete.len() < startup_trials.max(1) as usize || step <= warmup_steps {
                    return false;
                }
                trial.best_until(step).is_some_and(|best| best > median(complete))
            }
            Pruner::Hyperband { reduction_factor, steps_max } => {
                let eta = reduction_factor.max(2);
                let deal = |other: &Trial| bracket(eta, steps_max, other.number, seed);
                let mine = deal(trial);
                let rivals: Vec<&Trial> =
                    trials.iter().filter(|t| t.number != number && deal(t) == mine).collect();
                is_halved(trial, &rivals, mine, eta)
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { 0.5 * (values[middle - 1] + values[middle]) }
}

/// ⌊log_η(steps)⌋ + 1.
fn brackets(eta: u32, steps_max: u32) -> u32 {
    std::iter::successors(Some(u64::from(eta)), |power| Some(power * u64::from(eta)))
        .take_while(|&power| power <= u64::from(steps_max.max(1)))
        .count() as u32
        + 1
}

/// The bracket of a trial: of weight ⌈n·η^s / (s+1)⌉, s = n − 1 − bracket, of n brackets.
fn bracket(eta: u32, steps_max: u32, number: u32, seed: u64) -> u32 {
    let count = brackets(eta, steps_max);
    let budget = |bracket: u32| {
        let s = count - 1 - bracket;
        (f64::from(count) * f64::from(eta).powi(s as i32) / f64::from(s + 1)).ceil() as usize
    };
    let total: usize = (0..count).map(budget).sum();
    // Another sequence than the sampler's.
    let mut place = Random::derived(!seed, u64::from(number)).below(total);
    for bracket in 0..count {
        if place < budget(bracket) {
            return bracket;
        }
        place -= budget(bracket);
    }
    count - 1
}

/// Whether the trial's last report is at a rung where it isn't among the best of η. Of fewer than η that came there the
/// best one goes on: nothing waits for others.
fn is_halved(trial: &Trial, rivals: &[&Trial], bracket: u32, eta: u32) -> bool {
    let Some(&(step, value)) = trial.reports.last() else { return false };
    let rung = std::iter::successors(Some(u64::from(eta).pow(bracket)), |rung| Some(rung * u64::from(eta)))
        .take_while(|&rung| rung <= u64::from(step))
        .last();
    if rung != Some(u64::from(step)) {
        return false;
    }
    let at = |other: &&Trial| other.reports.iter().find(|(s, _)| *s == step).map(|(_, value)| *value);
    let mut values: Vec<f64> = rivals.iter().filter_map(at).collect();
    values.push(value);
    values.sort_by(f64::total_cmp);
    let last = (values.len() / eta as usize).max(1) - 1;
    value > values[last]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::trial::TrialState;

    fn trial(number: u32, reports: &[f64], state: TrialState) -> Trial {
        let reports = (1..).zip(reports.iter().copied()).collect();
        Trial {
            number,
            attempts: 1,
            parameters: Default::default(),
            state,
            reports,
            latency_us: None,
            seconds: 0.0,
        }
    }

    fn complete(number: u32, reports: &[f64]) -> Trial {
        let value = reports.iter().copied().fold(f64::INFINITY, f64::min);
        trial(number, reports, TrialState::Ended(Outcome::Complete { value }))
    }

    #[test]
    fn the_median_stops_what_is_above_it_and_nothing_else() {
        let pruner = Pruner::MEDIAN;
        let mut trials: Vec<Trial> =
            (0..5).map(|n| complete(n, &[5.0 + f64::from(n), 1.0 + f64::from(n)])).collect();
        let stops = |trials: &[Trial]| pruner.stops(trials, 5, 1);
        // Medians: 7 after step 1, 3 after step 2.
        trials.push(trial(5, &[7.0], TrialState::Running));
        assert!(!stops(&trials));
        trials[5].reports = vec![(1, 7.1)];
        assert!(stops(&trials));
        trials[5].reports = vec![(1, 2.0), (2, 9.0)];
        assert!(!stops(&trials), "its least report counts");
        trials[5].reports = vec![(1, 7.0), (2, 6.0), (3, 3.1)];
        assert!(stops(&trials), "complete ones count after their end");
        assert!(!pruner.stops(&trials[1..], 5, 1), "too few are complete");
        let warm = Pruner::Median { startup_trials: 5, warmup_steps: 3 };
        assert!(!warm.stops(&trials, 5, 1) && !Pruner::None.stops(&trials, 5, 1));
    }

    #[test]
    fn brackets_are_dealt_by_budget() {
        assert_eq!((brackets(3, 1), brackets(3, 27), brackets(3, 30), brackets(3, 80)), (1, 4, 4, 4));
        let mut counts = [0u32; 4];
        (0..20_000).for_each(|n| counts[bracket(3, 27, n, 7) as usize] += 1);
        // Budgets 27, 12, 6, 4 of 49.
        let expect = [27.0, 12.0, 6.0, 4.0].map(|budget| budget / 49.0 * 20_000.0);
        for (found, expect) in counts.iter().zip(expect) {
            assert!((f64::from(*found) - expect).abs() < 350.0, "{counts:?}");
        }
    }

    #[test]
    fn at_a_rung_the_best_of_eta_go_on() {
        let rivals: Vec<Trial> = (0..5).map(|n| complete(n, &[0.0, 0.0, f64::from(n)])).collect();
        let rivals: Vec<&Trial> = rivals.iter().collect();
        let halved = |value: f64, bracket: u32| {
            is_halved(&trial(9, &[0.0, 0.0, value], TrialState::Running), &rivals, bracket, 3)
        };
        // Six came to step 3: two go on.
        assert!(!halved(0.5, 1) && halved(1.5, 1) && !halved(-1.0, 1));
        assert!(halved(1.5, 0), "bracket 0 has rungs at 1, 3, 9");
        assert!(!halved(1.5, 2), "bracket 2 begins at 9");
        assert!(!is_halved(&trial(9, &[9.0, 9.0], TrialState::Running), &rivals, 0, 3), "step 2 is no rung");
    }
}
