//! Tuning, in Optuna's nouns (Akiba et al. 2019): a study asks for trials; a sampler chooses their parameters, a pruner
//! stops those without hope, and what happens stands in a journal that outlives a kill.
//!
//! ```text
//! ask: sampler(space, trials before) -> parameters -> [measure: within the constraint?] -> train, a report each
//! epoch -> pruner: go on? -> tell: complete, pruned, infeasible or failed
//! ```
//!
//! The value of a trial is to be as low as possible. With one worker a study is a function of its header and its
//! objective: the same seed gives the same trials, also over kills.

mod blank;
pub mod fold;
pub mod importance;
pub mod journal;
pub mod parzen;
pub mod pruner;
pub mod sampler;
pub mod space;
pub mod study;
pub mod trial;

pub use fold::{FoldTimes, cut_before, folds, split_times};
pub use importance::importances;
pub use journal::{JournalError, Notice};
pub use pruner::Pruner;
pub use sampler::Sampler;
pub use space::{Domain, Space, SpaceError};
pub use study::{Asked, Header, Record, Study};
pub use trial::{Outcome, Parameter, Parameters, Trial, TrialState};

#[cfg(test)]
mod tests;
