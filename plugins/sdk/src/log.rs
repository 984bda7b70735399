//! The host's log: `debug!`, `info!`, `warn!` and `error!`, and the hook that reports a panic before it
//! traps.
//!
//! Off wasm the messages go to a list that [`crate::testing::take_logs`] empties.

use std::fmt;

/// How much a message matters. The host drops those below its own level, and limits the rate of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Whether a message of this level would be kept.
pub fn enabled(level: Level) -> bool {
    host::enabled(level)
}

/// Writes a message, formatted only where it would be kept. The macros call this.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        host::write(level, &message.to_string());
    }
}

#[macro_export]
macro_rules! debug {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($message)*)) };
}
#[macro_export]
macro_rules! info {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($message)*)) };
}
#[macro_export]
macro_rules! warn {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($message)*)) };
}
#[macro_export]
macro_rules! error {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($message)*)) };
}

/// Makes a panic tell the host its text, file and line before it traps. Every export calls this first.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|info| {
                let message = info.payload_as_str().unwrap_or("a panic without a text");
                let (file, line) = info.location().map_or(("", 0), |l| (l.file(), l.line()));
                crate::bindings::features::alphaplus::plugin::log::panicked(message, file, line);
            }));
        });
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    use crate::bindings::features::alphaplus::plugin::log;

    fn level(level: super::Level) -> log::Level {
        match level {
            super::Level::Debug => log::Level::Debug,
            super::Level::Info => log::Level::Info,
            super::Level::Warn => log::Level::Warn,
            super::Level::Error => log::Level::Error,
        }
    }

    pub fn enabled(at: super::Level) -> bool {
        log::enabled(level(at))
    }

    pub fn write(at: super::Level, message: &str) {
        log::write(level(at), message);
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod host {
    use std::cell::RefCell;

    use super::Level;

    thread_local! {
        pub static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub fn enabled(_: Level) -> bool {
        true
    }

    pub fn write(level: Level, message: &str) {
        LOGS.with_borrow_mut(|logs| logs.push((level, message.to_owned())));
    }
}
