//! A guest's log: passed on to the host's, at a bounded rate and length.

use std::sync::Arc;
use std::time::Instant;

const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// As a multiple of what goes in one second.
const BURST: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Takes what plugins log. `enabled` must depend on the configuration alone: a guest can see its answer.
pub trait PluginLog: Send + Sync {
    fn enabled(&self, level: LogLevel) -> bool;

    /// `plugin` is "technical@0.1.0". The message has no control characters but `\n` and at most about 1 KiB.
    fn write(&self, plugin: &str, level: LogLevel, message: &str);
}

/// Takes nothing.
pub struct NoLog;

impl PluginLog for NoLog {
    fn enabled(&self, _: LogLevel) -> bool {
        false
    }

    fn write(&self, _: &str, _: LogLevel, _: &str) {}
}

/// One instance's way to the log.
pub(crate) struct LogGate {
    sink: Arc<dyn PluginLog>,
    allowance: Allowance,
    dropped: u64,
}

impl LogGate {
    pub(crate) fn new(sink: Arc<dyn PluginLog>, messages_per_second: u32) -> Self {
        LogGate { sink, allowance: Allowance::new(messages_per_second, Instant::now()), dropped: 0 }
    }

    pub(crate) fn enabled(&self, level: LogLevel) -> bool {
        self.sink.enabled(level)
    }

    pub(crate) fn write(&mut self, plugin: &str, level: LogLevel, message: &str) {
        if !self.sink.enabled(level) {
            return;
        }
        if !self.allowance.take(Instant::now()) {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let note = format!("{} messages were dropped: it logs too fast", self.dropped);
            self.sink.write(plugin, LogLevel::Warn, &note);
            self.dropped = 0;
        }
        self.sink.write(plugin, level, &clean(message, MESSAGE_BYTES_MAX));
    }
}

/// Text from a guest, cut at `bytes_max` with a mark, control characters replaced.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let cut = text.floor_char_boundary(bytes_max);
    let mut clean: String =
        text[..cut].chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    if cut < text.len() {
        clean.push('…');
    }
    clean
}

/// A token bucket.
struct Allowance {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: u32, now: Instant) -> Self {
        Allowance {
            per_second: f64::from(per_second),
            left: f64::from(per_second.saturating_mul(BURST)),
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.per_second * f64::from(BURST));
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl PluginLog for Kept {
        fn enabled(&self, level: LogLevel) -> bool {
            level >= LogLevel::Info
        }
        fn write(&self, plugin: &str, level: LogLevel, message: &str) {
            self.0.lock().expect("no panic").push(format!("{plugin} {level:?} {message}"));
        }
    }

    #[test]
    fn the_rate_is_bounded_and_recovers() {
        let start = Instant::now();
        let mut allowance = Allowance::new(2, start);
        let count = |allowance: &mut Allowance, ms| {
            (0..100).filter(|_| allowance.take(start + Duration::from_millis(ms))).count()
        };
        assert_eq!(count(&mut allowance, 0), 20);
        assert_eq!(count(&mut allowance, 1_000), 2);
        assert_eq!(count(&mut allowance, 3_600_000), 20);
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let kept = Arc::new(Kept::default());
        let mut gate = LogGate::new(kept.clone(), 1);
        (0..1_000).for_each(|_| gate.write("p@1", LogLevel::Info, "again"));
        gate.write("p@1", LogLevel::Debug, "not enabled");
        assert_eq!(kept.0.lock().expect("no panic").len(), 10);
        gate.allowance.left = 5.0;
        gate.write("p@1", LogLevel::Error, "at last");
        let lines = kept.0.lock().expect("no panic");
        assert_eq!(lines[10], "p@1 Warn 990 messages were dropped: it logs too fast");
        assert_eq!(lines[11], "p@1 Error at last");
    }

    #[test]
    fn text_is_cut_between_characters_and_cleaned() {
        assert_eq!(clean("ééé", 3), "é…");
        assert_eq!(clean("a\x1b[31m\nb", 100), "a\u{fffd}[31m\nb");
    }
}
