//! What readers must never see, and what they must say instead.

mod allocations;
mod ends;
mod hammer;
mod hostile;
mod layout;

use std::path::Path;

use crate::{Cause, Clock, Label, Options, Snapshot, State, Uncertainty, Writer, flag};

pub fn writer(path: &Path, slots: u32) -> Writer {
    Writer::create(path, &Options { slots, mode: 0o600, clock: Clock::Wall }).unwrap()
}

/// Every field follows from `n`, so that a mixture of two shows.
pub fn nth(n: u64) -> Snapshot {
    Snapshot {
        state: [State::Prediction, State::Warming, State::Abstained, State::Quarantined][n as usize % 4],
        seq: n,
        durable_seq: 0,
        value: n as f64 * 0.5,
        valid_until_ns: n as i64 + 1,
        made_at_ns: -(n as i64),
        open_time_ns: n as i64 * 3,
        close_time_ns: n as i64 * 5,
        horizon_bars: n ^ 0xFF,
        have: n.wrapping_mul(7),
        need: n.wrapping_mul(11),
        revision: !n,
        flags: n & (flag::PROVISIONAL | flag::RECOVERED | flag::REVISED),
        cause: [Cause::None, Cause::Plugin, Cause::NotFinite][n as usize % 3],
        label: Label::new(["log_return", "realised_volatility", "", "x"][n as usize % 4]).unwrap(),
        model_version: n ^ 3,
        uncertainty: (!n.is_multiple_of(3)).then(|| Uncertainty {
            confidence: n as f64 * 1e-3,
            low: -(n as f64),
            high: n as f64,
            level: 0.9,
        }),
    }
}

/// Whether it is one that was written, whole.
pub fn is_whole(read: &Snapshot) -> bool {
    *read == Snapshot { durable_seq: read.durable_seq, ..nth(read.seq) }
}
