//! What the host keeps beside each instance, and what a failed call of it means.

use std::fmt;
use std::sync::Arc;

use wasmtime::{Trap, WasmBacktrace};

use crate::bindings::features::alphaplus::plugin::{log, types};
use crate::construct::GraphInProgress;
use crate::deadline::Deadline;
use crate::limits::{Exceeded, Meter, TRANSFER_BYTES_MAX};
use crate::log::{LogGate, LogLevel, clean};

const MESSAGE_BYTES_MAX: usize = 1 << 10;
const PLACE_BYTES_MAX: usize = 256;

/// The data of a store: one per instance.
pub(crate) struct Guest {
    /// "technical@0.1.0".
    pub(crate) plugin: Arc<str>,
    pub(crate) meter: Meter,
    pub(crate) log: LogGate,
    /// Of the call that is running.
    pub(crate) deadline: Deadline,
    pub(crate) graph: Option<GraphInProgress>,
    /// What the guest's panic hook said in this call.
    panicked: Option<(String, String)>,
}

impl Guest {
    pub(crate) fn new(plugin: Arc<str>, meter: Meter, log: LogGate) -> Self {
        Guest { plugin, meter, log, deadline: Deadline::new(0), graph: None, panicked: None }
    }

    pub(crate) fn forget_panic(&mut self) {
        self.panicked = None;
    }
}

impl log::Host for Guest {
    fn enabled(&mut self, level: log::Level) -> bool {
        self.log.enabled(level_of(level))
    }

    fn write(&mut self, level: log::Level, message: String) {
        self.log.write(&self.plugin, level_of(level), &message);
    }

    fn panicked(&mut self, message: String, file: String, line: u32) {
        let place =
            if file.is_empty() { String::new() } else { format!("{}:{line}", clean(&file, PLACE_BYTES_MAX)) };
        self.panicked.get_or_insert((clean(&message, MESSAGE_BYTES_MAX), place));
    }
}

impl types::Host for Guest {}

fn level_of(level: log::Level) -> LogLevel {
    match level {
        log::Level::Debug => LogLevel::Debug,
        log::Level::Info => LogLevel::Info,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Error => LogLevel::Error,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestFailureKind {
    /// It panicked or trapped.
    Trap,
    /// It ran longer than its deadline.
    Timeout,
    /// It asked for more memory than its limit, or gave more than the host takes.
    Memory,
}

/// A call that never came back: the instance is unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFailure {
    pub kind: GuestFailureKind,
    /// "src/lib.rs:54" of the plugin, where known.
    pub place: Option<String>,
    pub message: String,
}

impl fmt::Display for GuestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.place {
            Some(place) => write!(f, " (at {place})"),
            None => Ok(()),
        }
    }
}

/// Translates what wasmtime says into what its author can act on. `call` is the WIT function's name.
pub(crate) fn failure(guest: &Guest, error: &wasmtime::Error, call: &str, deadline_ms: u64) -> GuestFailure {
    let trap = error.downcast_ref::<Trap>();
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(own_frame);
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        return GuestFailure {
            kind: GuestFailureKind::Memory,
            place: frame,
            message: format!("{call} {exceeded}"),
        };
    }
    if let (Some((message, place)), Some(Trap::UnreachableCodeReached)) = (&guest.panicked, trap) {
        let place = if place.is_empty() { frame } else { Some(place.clone()) };
        return GuestFailure {
            kind: GuestFailureKind::Trap,
            place,
            message: format!("{call} panicked: {message}"),
        };
    }
    let (kind, message) = match trap {
        Some(Trap::Interrupt) => {
            (GuestFailureKind::Timeout, format!("{call} took longer than {deadline_ms} ms"))
        }
        Some(Trap::OutOfFuel) => (GuestFailureKind::Timeout, format!("{call} ran through all of its fuel")),
        Some(Trap::StackOverflow) => (GuestFailureKind::Trap, format!("{call} overflowed its stack")),
        Some(Trap::MemoryOutOfBounds) => (
            GuestFailureKind::Trap,
            format!(
                "{call} reached outside its memory; most often this is a stack overflow (deep recursion, or large \
                 arrays on the stack)"
            ),
        ),
        Some(Trap::UnreachableCodeReached) => (
            GuestFailureKind::Trap,
            format!("{call} aborted without a message; the SDK's panic hook would give one"),
        ),
        Some(other) => (GuestFailureKind::Trap, format!("{call} trapped: {other}")),
        None if gave_too_much(error) => (
            GuestFailureKind::Memory,
            format!("{call} gave more than {} MiB in one call", TRANSFER_BYTES_MAX >> 20),
        ),
        None => (
            GuestFailureKind::Trap,
            format!("{call} failed: {}", clean(&format!("{error:#}"), MESSAGE_BYTES_MAX)),
        ),
    };
    GuestFailure { kind, place: frame, message }
}

/// wasmtime's error for what one call may hand to the host has no public type.
fn gave_too_much(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls")
}

/// The innermost place in the author's own code: "src/lib.rs:54", or a function's name without line tables.
fn own_frame(trace: &WasmBacktrace) -> Option<String> {
    const FOREIGN: [&str; 6] =
        ["/rustc/", "/library/", "/rust-src", "/registry/", "/rust/deps/", "bindings.rs"];
    let symbols = trace.frames().iter().flat_map(|frame| frame.symbols());
    let place = symbols.filter_map(|s| Some((s.file()?, s.line()?))).find_map(|(file, line)| {
        let own = !FOREIGN.iter().any(|part| file.contains(part)) && line > 0;
        own.then(|| format!("{}:{line}", clean(file, PLACE_BYTES_MAX)))
    });
    let named = || {
        let name = trace.frames().iter().filter_map(|frame| frame.func_name()).next()?;
        Some(format!("function {}", clean(name, PLACE_BYTES_MAX)))
    };
    place.or_else(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::NoLog;

    fn guest() -> Guest {
        Guest::new("p@1.0.0".into(), Meter::new(0), LogGate::new(Arc::new(NoLog), 1))
    }

    fn told(guest: &Guest, trap: Trap) -> GuestFailure {
        failure(guest, &trap.into(), "on-bar", 50)
    }

    #[test]
    fn traps_are_told_in_the_authors_words() {
        let said = |trap| told(&guest(), trap).message;
        assert_eq!(said(Trap::Interrupt), "on-bar took longer than 50 ms");
        assert_eq!(said(Trap::StackOverflow), "on-bar overflowed its stack");
        assert!(said(Trap::MemoryOutOfBounds).contains("most often this is a stack overflow"));
        assert!(said(Trap::UnreachableCodeReached).contains("aborted without a message"));
        assert_eq!(said(Trap::IntegerDivisionByZero), "on-bar trapped: wasm trap: integer divide by zero");
        assert_eq!(told(&guest(), Trap::Interrupt).kind, GuestFailureKind::Timeout);
        assert_eq!(told(&guest(), Trap::OutOfFuel).kind, GuestFailureKind::Timeout);
    }

    #[test]
    fn only_a_panic_of_this_call_explains_its_trap() {
        let mut guest = guest();
        log::Host::panicked(&mut guest, "first".into(), "src/lib.rs".into(), 7);
        log::Host::panicked(&mut guest, "second".into(), "src/lib.rs".into(), 8);
        let failure = told(&guest, Trap::UnreachableCodeReached);
        assert_eq!(failure.to_string(), "on-bar panicked: first (at src/lib.rs:7)");
        assert_eq!(told(&guest, Trap::Interrupt).message, "on-bar took longer than 50 ms");
        guest.forget_panic();
        assert_eq!(told(&guest, Trap::UnreachableCodeReached).place, None);
    }

    #[test]
    fn what_the_guest_says_is_cut() {
        let mut guest = guest();
        log::Host::panicked(&mut guest, "m".repeat(1 << 20), "f".repeat(1 << 20), u32::MAX);
        assert!(told(&guest, Trap::UnreachableCodeReached).to_string().len() < 1_500);
    }
}
