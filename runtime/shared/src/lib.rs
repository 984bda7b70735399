//! Predictions in shared memory: a process on the same host reads the newest of a stream without a system call.
//!
//! One [`Writer`], the appliance, and any number of readers: [`Reader`] here, `include/alphaplus.h` for C and C++,
//! `python/alphaplus_shared.py`. The file's layout is described in `include/alphaplus.h`.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reader = shared::Reader::open("/dev/shm/alphaplus".as_ref())?;
//! if let Some(slot) = reader.find("BTCUSDT", "1h", "btc-1h-lstm") {
//!     let now = reader.read(slot)?;
//!     if now.state == shared::State::Prediction && !reader.is_stale(&now) {
//!         println!("{}", now.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod heart;
mod layout;
mod map;
mod process;
mod reader;
mod snapshot;
mod writer;

pub use error::{AddError, CreateError, ReadError};
pub use layout::{
    BEAT, DEAD_AFTER, LABEL_BYTES_MAX, MODEL_BYTES_MAX, SLOTS_MAX, SYMBOL_BYTES_MAX, TIMEFRAME_BYTES_MAX,
    VERSION,
};
pub use reader::{About, Key, Reader};
pub use snapshot::{Cause, Label, Name, Slot, Snapshot, State, Uncertainty, flag};
pub use writer::{Clock, Options, Writer};

#[cfg(test)]
mod tests;
