//! What a plugin may use, and how the host counts it.

use std::fmt;

use wasmtime::ResourceLimiter;

/// Bounds on components and on each call. A call that computes without end is stopped at its deadline, to a few
/// milliseconds; one that the machine keeps from running gets the time that it lost.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginLimits {
    pub component_bytes_max: usize,
    /// Linear memory of one instance, all memories together.
    pub features_memory_bytes_max: usize,
    pub architecture_memory_bytes_max: usize,
    /// For `on-bar` and the other single events.
    pub event_deadline_ms: u64,
    /// For one `on-bars` call of at most `batch_bars_max` bars.
    pub batch_deadline_ms: u64,
    /// For instantiation, schema, open, spec, snapshot and restore.
    pub open_deadline_ms: u64,
    pub build_deadline_ms: u64,
    /// A longer batch is cut; rows are the same either way.
    pub batch_bars_max: usize,
    pub columns_max: usize,
    pub warmup_max: usize,
    pub peers_max: usize,
    pub streams_max: usize,
    /// A stream's state, as the guest writes it.
    pub state_bytes_max: usize,
    /// Messages of one instance that are kept, per second; ten times as many at once.
    pub log_messages_per_second: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits {
            component_bytes_max: 32 << 20,
            features_memory_bytes_max: 64 << 20,
            architecture_memory_bytes_max: 256 << 20,
            event_deadline_ms: 50,
            batch_deadline_ms: 2_000,
            open_deadline_ms: 1_000,
            build_deadline_ms: 2_000,
            batch_bars_max: 1_024,
            columns_max: 1_024,
            warmup_max: 100_000,
            peers_max: 64,
            streams_max: 65_536,
            state_bytes_max: 4 << 20,
            log_messages_per_second: 20,
        }
    }
}

/// The guest asked for more than its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    what: &'static str,
    asked: usize,
    limit: usize,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            "memory" => write!(
                f,
                "asked for {:.1} MiB of memory; its limit is {:.1} MiB",
                self.asked as f64 / (1 << 20) as f64,
                self.limit as f64 / (1 << 20) as f64
            ),
            what => write!(f, "asked for {} {what}; the limit is {}", self.asked, self.limit),
        }
    }
}

impl std::error::Error for Exceeded {}

/// What a guest may hand over in one call.
pub(crate) const TRANSFER_BYTES_MAX: usize = 16 << 20;
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Counts an instance's memory; refuses what would pass the limit.
#[derive(Debug)]
pub(crate) struct Meter {
    memory_bytes_max: usize,
    memory_bytes: usize,
    /// The growth last allowed, in case it fails after all.
    pending_bytes: usize,
    pub(crate) memory_bytes_peak: usize,
    table_elements: usize,
}

impl Meter {
    pub(crate) fn new(memory_bytes_max: usize) -> Self {
        Meter { memory_bytes_max, memory_bytes: 0, pending_bytes: 0, memory_bytes_peak: 0, table_elements: 0 }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let asked = self.memory_bytes.saturating_add(growth);
        if asked > self.memory_bytes_max {
            return Err(Exceeded { what: "memory", asked, limit: self.memory_bytes_max }.into());
        }
        (self.memory_bytes, self.pending_bytes) = (asked, growth);
        self.memory_bytes_peak = self.memory_bytes_peak.max(asked);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= self.pending_bytes;
        self.pending_bytes = 0;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.table_elements.saturating_add(desired.saturating_sub(current));
        if asked > TABLE_ELEMENTS_MAX {
            return Err(Exceeded { what: "table elements", asked, limit: TABLE_ELEMENTS_MAX }.into());
        }
        self.table_elements = asked;
        Ok(true)
    }

    // Components of interpreted languages have many small modules.
    fn instances(&self) -> usize {
        128
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 60, None).is_ok());
        let error = meter.memory_growing(0, 60, None).expect_err("120 of 100");
        assert_eq!(
            error.downcast_ref::<Exceeded>(),
            Some(&Exceeded { what: "memory", asked: 120, limit: 100 })
        );
        assert!(meter.memory_growing(0, 40, None).is_ok());
        assert_eq!(meter.memory_bytes_peak, 100);
    }

    #[test]
    fn a_growth_that_failed_is_not_counted() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 80, None).is_ok());
        assert!(meter.memory_grow_failed(wasmtime::Error::msg("no memory")).is_ok());
        assert!(meter.memory_growing(0, 80, None).is_ok());
    }

    #[test]
    fn tables_are_bounded() {
        let mut meter = Meter::new(0);
        assert!(meter.table_growing(0, 99_999, None).is_ok());
        assert!(meter.table_growing(0, 2, None).is_err());
    }
}
