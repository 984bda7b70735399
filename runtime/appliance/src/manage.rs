//! Live management: the deployment table kept as its aliases point ([`manager`], seen through [`table`]), what is concluded
//! from outcomes and done about it ([`overseer`], by the rules of [`policy`], trainings and judgements as a [`job`]). The
//! rest here reads [`store::RealisedRecord`]s one after another and is asked at any time; nothing of that keeps a clock or
//! touches a file.
//!
//! - [`measure`]: the loss of an outcome, by the kind of label.
//! - [`steps`]: outcomes gathered by the time that they fell due at, revisions in place of what they revise.
//! - [`compare`]: two models on the same bars, by an always-valid test.
//! - [`watch`]: one model: its coverage, its promised loss, its CUSUM; with a comparison, whether to take it back.
//! - [`chart`]: a comparison, drawn.
//! - [`inputs`]: its features, as the bars in the spool give them.

pub mod chart;
pub mod compare;
pub mod inputs;
pub mod job;
pub mod manager;
pub mod measure;
pub mod overseer;
pub mod policy;
pub mod steps;
pub mod table;
pub mod watch;
