//! The table of cases. A new one is a line here, and a model or a measuring function where it needs one.

use cpu::Precision;

use crate::appliance::Appliance;
use crate::model::{self, Model};
use crate::stats::{Compare, Round};
use crate::{swap, wire};

pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    /// Of our recurrent weights. Peers get bf16 where they have it, and else stay at f32.
    pub precision: Precision,
    pub compare: Compare,
    /// The case whose peers our rows are compared with.
    pub against: &'static str,
}

#[derive(Clone, Copy)]
pub enum Kind {
    /// A whole window for each row of the batch.
    Window { model: fn() -> Model, batch: usize },
    /// A step of AdamW on the mean squared error.
    Training { model: fn() -> Model, batch: usize },
    /// One row more of one stream; ours alone.
    Sliding { model: fn() -> Model, timed: Timed },
    /// Against a started appliance.
    Wire(Wire),
}

/// The rounds of a case against the appliance; true for a quick run.
pub type Wire = fn(&mut Appliance, bool) -> Result<Vec<Round>, String>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// The push, after a settle that isn't timed.
    Push,
    /// The push, one each 10 ms, with caches that other work has filled.
    Sparse,
    /// Push and settle: what a sustained feed can have.
    Tick,
    /// The push, while as many streams as the engine has threads do the same, each alone on a core.
    Instances,
}

const fn case(name: &'static str, kind: Kind, compare: Compare, against: &'static str) -> Case {
    Case { name, kind, precision: Precision::F32, compare, against }
}

const fn window(name: &'static str, model: fn() -> Model, batch: usize) -> Case {
    let compare = if batch == 1 { Compare::Latency } else { Compare::Throughput };
    case(name, Kind::Window { model, batch }, compare, name)
}

const fn training(name: &'static str, model: fn() -> Model) -> Case {
    case(name, Kind::Training { model, batch: 64 }, Compare::Throughput, name)
}

const fn sliding(name: &'static str, model: fn() -> Model, timed: Timed, against: &'static str) -> Case {
    case(name, Kind::Sliding { model, timed }, Compare::Latency, against)
}

/// A window in bf16; `name` is its own comparison.
const fn bf16_window(name: &'static str, model: fn() -> Model, batch: usize) -> Case {
    Case { precision: Precision::Bf16, ..window(name, model, batch) }
}

/// A sliding window in another storage than f32.
const fn narrow(
    precision: Precision,
    name: &'static str,
    model: fn() -> Model,
    timed: Timed,
    against: &'static str,
) -> Case {
    Case { precision, ..sliding(name, model, timed, against) }
}

const fn wire(name: &'static str, run: Wire) -> Case {
    case(name, Kind::Wire(run), Compare::Latency, name)
}

fn null_a() -> Model {
    model::null(50, 100)
}

fn lstm_a() -> Model {
    model::lstm(2, 100, 50, 100)
}

fn lstm_b() -> Model {
    model::lstm(3, 200, 100, 250)
}

fn lstm_c() -> Model {
    model::lstm(4, 1000, 100, 500)
}

fn lstm() -> Model {
    model::lstm(2, 128, 60, 32)
}

fn gru() -> Model {
    model::gru(2, 128, 60, 32)
}

fn cnn() -> Model {
    model::cnn(&[(64, 5, 1), (64, 5, 1), (128, 3, 1), (128, 3, 1)], true, 60, 32)
}

/// One that slides.
fn causal_cnn() -> Model {
    model::cnn(&[(64, 3, 1), (64, 3, 2), (64, 3, 4)], false, 60, 32)
}

fn transformer() -> Model {
    model::transformer(3, 64, 4, 256, 60, 32)
}

pub const CASES: &[Case] = &[
    window("null_a", null_a, 1),
    window("fresh_a", lstm_a, 1),
    window("fresh_b", lstm_b, 1),
    window("fresh_c", lstm_c, 1),
    bf16_window("fresh_a_bf16", lstm_a, 1),
    bf16_window("fresh_b_bf16", lstm_b, 1),
    bf16_window("fresh_c_bf16", lstm_c, 1),
    window("lstm_b1", lstm, 1),
    bf16_window("lstm_b1_bf16", lstm, 1),
    window("lstm_b256", lstm, 256),
    bf16_window("lstm_b256_bf16", lstm, 256),
    window("gru_b1", gru, 1),
    bf16_window("gru_b1_bf16", gru, 1),
    window("gru_b256", gru, 256),
    bf16_window("gru_b256_bf16", gru, 256),
    window("cnn_b1", cnn, 1),
    window("cnn_b256", cnn, 256),
    window("causal_cnn_b1", causal_cnn, 1),
    window("transformer_b1", transformer, 1),
    window("transformer_b256", transformer, 256),
    training("train_lstm", lstm),
    training("train_gru", gru),
    training("train_cnn", cnn),
    training("train_transformer", transformer),
    sliding("sliding_a", lstm_a, Timed::Push, "fresh_a"),
    sliding("sliding_b", lstm_b, Timed::Push, "fresh_b"),
    sliding("sliding_c", lstm_c, Timed::Push, "fresh_c"),
    narrow(Precision::Bf16, "sliding_a_bf16", lstm_a, Timed::Push, "fresh_a"),
    narrow(Precision::Bf16, "sliding_b_bf16", lstm_b, Timed::Push, "fresh_b"),
    narrow(Precision::Bf16, "sliding_c_bf16", lstm_c, Timed::Push, "fresh_c"),
    narrow(Precision::Int8, "sliding_a_int8", lstm_a, Timed::Push, "fresh_a"),
    narrow(Precision::Int8, "sliding_b_int8", lstm_b, Timed::Push, "fresh_b"),
    sliding("sliding_lstm", lstm, Timed::Push, "lstm_b1"),
    sliding("sliding_gru", gru, Timed::Push, "gru_b1"),
    sliding("sliding_cnn", causal_cnn, Timed::Push, "causal_cnn_b1"),
    narrow(Precision::Bf16, "sliding_a_bf16_instances", lstm_a, Timed::Instances, "fresh_a"),
    sliding("sliding_a_sparse", lstm_a, Timed::Sparse, "fresh_a"),
    sliding("sliding_b_sparse", lstm_b, Timed::Sparse, "fresh_b"),
    narrow(Precision::Bf16, "sliding_a_bf16_sparse", lstm_a, Timed::Sparse, "fresh_a"),
    narrow(Precision::Bf16, "sliding_b_bf16_sparse", lstm_b, Timed::Sparse, "fresh_b"),
    sliding("sliding_a_tick", lstm_a, Timed::Tick, "fresh_a"),
    narrow(Precision::Bf16, "sliding_a_bf16_tick", lstm_a, Timed::Tick, "fresh_a"),
    narrow(Precision::Bf16, "sliding_b_bf16_tick", lstm_b, Timed::Tick, "fresh_b"),
    wire("poll_shm", wire::poll_shm),
    wire("poll_tcp", wire::poll_tcp),
    wire("poll_unix", wire::poll_unix),
    wire("poll_rate", wire::poll_rate),
    wire("infer_256", wire::infer_256),
    wire("infer_1000", wire::infer_1000),
    wire("ten_quiet", swap::ten_quiet),
    wire("ten_swapping", swap::ten_swapping),
    wire("bar_to_visible", wire::bar_to_visible),
    wire("poll_tcp_spin", wire::poll_tcp_spin),
    wire("poll_unix_spin", wire::poll_unix_spin),
];

pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

/// The cases whose names hold one of the words (all without words), those that they are compared with, and
/// those of `needed`.
pub fn select(words: &[String], needed: &[&str]) -> Vec<&'static Case> {
    let wanted = |case: &Case| words.is_empty() || words.iter().any(|w| case.name.contains(w.as_str()));
    let against: Vec<&str> = CASES.iter().filter(|c| wanted(c)).map(|c| c.against).collect();
    CASES.iter().filter(|c| wanted(c) || against.contains(&c.name) || needed.contains(&c.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_comparisons_are_of_windows_before() {
        for (i, case) in CASES.iter().enumerate() {
            assert_eq!(CASES.iter().filter(|c| c.name == case.name).count(), 1, "{}", case.name);
            assert!(CASES[..=i].iter().any(|c| c.name == case.against), "{}", case.name);
        }
    }

    #[test]
    fn a_filter_brings_what_it_is_compared_with() {
        let names = |words: &[&str], needed: &[&str]| -> Vec<&str> {
            let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
            select(&words, needed).iter().map(|c| c.name).collect()
        };
        assert_eq!(names(&["sliding_b_sparse"], &[]), ["fresh_b", "sliding_b_sparse"]);
        assert_eq!(names(&["nothing"], &["cnn_b1"]), ["cnn_b1"]);
        assert_eq!(names(&[], &[]).len(), CASES.len());
    }
}
