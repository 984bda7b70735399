//! One trial: the parameters that were tried, how it went, and how trials rank.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// By name.
pub type Parameters = BTreeMap<String, Parameter>;

/// A value of one parameter; in JSON the plain value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Parameter {
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Parameter::Integer(n) => Some(*n as f64),
            Parameter::Number(x) => Some(*x),
            Parameter::Boolean(_) | Parameter::Text(_) => None,
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Boolean(b) => write!(f, "{b}"),
            Parameter::Integer(n) => write!(f, "{n}"),
            Parameter::Number(x) if *x != 0.0 && !(1e-2..1e4).contains(&x.abs()) => write!(f, "{x:.3e}"),
            Parameter::Number(x) => write!(f, "{x:.4}"),
            Parameter::Text(text) => write!(f, "{text}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// From 0, without gaps.
    pub number: u32,
    /// How often it was begun: more than once where it was interrupted.
    pub attempts: u32,
    pub parameters: Parameters,
    pub state: TrialState,
    /// (step, value), steps rising: of the last attempt.
    pub reports: Vec<(u32, f64)>,
    /// What the constraint was measured on, if there is one.
    pub latency_us: Option<f64>,
    /// Of the last attempt, once it has ended.
    pub seconds: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TrialState {
    Running,
    /// Interrupted; it is the next to be asked.
    Waiting,
    Ended(Outcome),
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    Complete {
        value: f64,
    },
    /// Stopped by the pruner.
    Pruned,
    /// It breaks the constraint by so much (above 0) and was not trained.
    Infeasible {
        violation: f64,
    },
    Failed {
        reason: String,
    },
}

impl Trial {
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            TrialState::Ended(outcome) => Some(outcome),
            TrialState::Running | TrialState::Waiting => None,
        }
    }

    /// Of a complete one.
    pub fn value(&self) -> Option<f64> {
        match self.outcome() {
            Some(Outcome::Complete { value }) => Some(*value),
            _ => None,
        }
    }

    /// The least report up to this step.
    pub fn best_until(&self, step: u32) -> Option<f64> {
        let until = self.reports.iter().take_while(|(s, _)| *s <= step);
        until.map(|(_, value)| *value).min_by(f64::total_cmp)
    }

    pub fn state_name(&self) -> &'static str {
        match &self.state {
            TrialState::Running => "running",
            TrialState::Waiting => "waiting",
            TrialState::Ended(Outcome::Complete { .. }) => "complete",
            TrialState::Ended(Outcome::Pruned) => "pruned",
            TrialState::Ended(Outcome::Infeasible { .. }) => "infeasible",
            TrialState::Ended(Outcome::Failed { .. }) => "failed",
        }
    }

    /// Better ones first, as in Optuna: complete ones by value; pruned ones by how far they came, then by the last
    /// report; infeasible ones by the violation; failed ones. Ones that haven't ended come last.
    pub fn rank(&self, other: &Trial) -> Ordering {
        let class = |trial: &Trial| match trial.outcome() {
            Some(Outcome::Complete { .. }) => 0,
            Some(Outcome::Pruned) => 1,
            Some(Outcome::Infeasible { .. }) => 2,
            Some(Outcome::Failed { .. }) => 3,
            None => 4,
        };
        let within = match (&self.state, &other.state) {
            (
                TrialState::Ended(Outcome::Complete { value: a }),
                TrialState::Ended(Outcome::Complete { value: b }),
            ) => a.total_cmp(b),
            (
                TrialState::Ended(Outcome::Infeasible { violation: a }),
                TrialState::Ended(Outcome::Infeasible { violation: b }),
            ) => a.total_cmp(b),
            (TrialState::Ended(Outcome::Pruned), TrialState::Ended(Outcome::Pruned)) => {
                let last = |trial: &Trial| trial.reports.last().copied().unwrap_or((0, f64::INFINITY));
                let ((a_step, a), (b_step, b)) = (last(self), last(other));
                b_step.cmp(&a_step).then(a.total_cmp(&b))
            }
            _ => Ordering::Equal,
        };
        class(self).cmp(&class(other)).then(within).then(self.number.cmp(&other.number))
    }
}
