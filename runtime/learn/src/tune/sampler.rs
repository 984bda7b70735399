//! Samplers: at random, and the tree-structured Parzen estimator (TPE; Bergstra et al. 2011) with Optuna's defaults.
//!
//! TPE parts the trials that ended into the best tenth, rounded up, at most 25, and the rest. For each parameter by
//! itself it draws 24 candidates from the density of the best and takes the one whose likelihood among them, over that
//! among the rest, is highest. The first 10 trials are random. Trials rank as [`Trial::rank`] says: ones that broke the
//! constraint stand behind all that were stopped early, so that the best are drawn from what is feasible.

use serde::{Deserialize, Serialize};

use super::parzen::{Counts, Mixture};
use super::space::{Domain, Space};
use super::trial::{Outcome, Parameter, Parameters, Trial};
use crate::random::Random;

/// Draws again where a setting was tried before, so often.
const REPEATS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    Random,
    Tpe {
        /// Trials that are drawn at random before it begins.
        startup_trials: u32,
        /// Candidates for each parameter.
        candidates: u32,
    },
}

impl Sampler {
    /// With Optuna's defaults.
    pub const TPE: Sampler = Sampler::Tpe { startup_trials: 10, candidates: 24 };

    /// Parameters for the next trial. `trials` are all so far, by number. A setting that was tried before is drawn
    /// again where there are others: the same setting gives the same value.
    pub fn suggest(&self, space: &Space, trials: &[Trial], random: &mut Random) -> Parameters {
        let tried = |parameters: &Parameters| trials.iter().any(|trial| trial.parameters == *parameters);
        let mut drawn = self.draw(space, trials, random);
        for round in 0..REPEATS_MAX {
            if !tried(&drawn) {
                break;
            }
            // TPE may insist: half of the draws are random ones.
            drawn =
                if round < REPEATS_MAX / 2 { self.draw(space, trials, random) } else { space.draw(random) };
        }
        drawn
    }

    fn draw(&self, space: &Space, trials: &[Trial], random: &mut Random) -> Parameters {
        match *self {
            Sampler::Random => space.draw(random),
            Sampler::Tpe { startup_trials, candidates } => {
                let ended: Vec<&Trial> = trials.iter().filter(|trial| counts(trial)).collect();
                if ended.len() < startup_trials as usize {
                    return space.draw(random);
                }
                let (best, rest) = part(&ended);
                let draw = |(name, domain): (&str, &Domain)| {
                    (name.to_string(), suggest_one(name, domain, &best, &rest, candidates as usize, random))
                };
                space.iter().map(draw).collect()
            }
        }
    }
}

fn counts(trial: &Trial) -> bool {
    match trial.outcome() {
        Some(Outcome::Complete { .. } | Outcome::Pruned | Outcome::Infeasible { .. }) => true,
        // A setting that can't be trained is as bad as can be.
        Some(Outcome::Failed { .. }) => true,
        None => false,
    }
}

/// The best ones and the rest, each by number.
fn part<'a>(ended: &[&'a Trial]) -> (Vec<&'a Trial>, Vec<&'a Trial>) {
    let mut ranked = ended.to_vec();
    ranked.sort_by(|a, b| a.rank(b));
    let best = ranked.len().div_ceil(10).min(25);
    let mut rest = ranked.split_off(best);
    ranked.sort_by_key(|trial| trial.number);
    rest.sort_by_key(|trial| trial.number);
    (ranked, rest)
}

fn suggest_one(
    name: &str,
    domain: &Domain,
    best: &[&Trial],
    rest: &[&Trial],
    candidates: usize,
    random: &mut Random,
) -> Parameter {
    if domain.count() == Some(1) {
        return domain.draw(random);
    }
    match domain {
        Domain::Choice { options } => {
            let chosen = |trials: &[&Trial]| -> Vec<usize> {
                let index =
                    |trial: &&Trial| options.iter().position(|o| Some(o) == trial.parameters.get(name));
                trials.iter().filter_map(index).collect()
            };
            let (l, g) = (Counts::of(&chosen(best), options.len()), Counts::of(&chosen(rest), options.len()));
            let score = |&index: &usize| l.log_likelihood(index) - g.log_likelihood(index);
            let index = (0..candidates).map(|_| l.draw(random)).max_by(|a, b| score(a).total_cmp(&score(b)));
            options[index.unwrap_or(0)].clone()
        }
        Domain::Number { .. } | Domain::Integer { .. } => {
            let (low, high) = domain.bounds();
            let places = |trials: &[&Trial]| -> Vec<f64> {
                let place = |trial: &&Trial| Some(domain.place(trial.parameters.get(name)?)?.0);
                trials.iter().filter_map(place).map(|x| x.clamp(low, high)).collect()
            };
            let (l, g) = (Mixture::of(&places(best), low, high), Mixture::of(&places(rest), low, high));
            let score = |value: &Parameter| {
                let (_, from, until) = domain.place(value).unwrap_or_default();
                l.log_likelihood(from, until) - g.log_likelihood(from, until)
            };
            let drawn: Vec<Parameter> = (0..candidates.max(1)).map(|_| domain.at(l.draw(random))).collect();
            let best = drawn.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
            best.cloned().unwrap_or_else(|| domain.draw(random))
        }
    }
}
