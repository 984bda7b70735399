//! When a failing plugin is tried again: after a wait that doubles, and after too many failures not at all.
//!
//! ```text
//! Running -- failed --> Waiting -- the wait is over, rebuilt and replayed: recovered --> Running
//!                          `---- failed too often within the window --> Quarantined -- reset --> Running
//! ```
//!
//! Pure: the caller says what time it is, as the time since any fixed moment.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinePolicy {
    /// So many failures within `window` are too many. At least 1.
    pub failures_max: u32,
    pub window: Duration,
    /// The wait after the first failure within the window; each further one doubles it.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for QuarantinePolicy {
    fn default() -> Self {
        QuarantinePolicy {
            failures_max: 5,
            window: Duration::from_secs(600),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Running,
    /// It may be rebuilt at this time.
    Waiting {
        until: Duration,
    },
    /// Until an operator resets it.
    Quarantined {
        since: Duration,
    },
}

/// One plugin's record.
#[derive(Clone, Debug)]
pub struct Quarantine {
    policy: QuarantinePolicy,
    /// Of the failures within the window, oldest first.
    failures: VecDeque<Duration>,
    standing: Standing,
    cause: String,
}

impl Quarantine {
    pub fn new(policy: QuarantinePolicy) -> Self {
        Quarantine { policy, failures: VecDeque::new(), standing: Standing::Running, cause: String::new() }
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What the last failure said; empty when it has not failed since the last reset.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// It failed, or failed to come back.
    pub fn failed(&mut self, now: Duration, cause: &str) -> Standing {
        self.cause = cause.to_string();
        if let Standing::Quarantined { .. } = self.standing {
            return self.standing;
        }
        while self.failures.front().is_some_and(|&at| now.saturating_sub(at) > self.policy.window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let count = self.failures.len() as u32;
        self.standing = if count >= self.policy.failures_max.max(1) {
            Standing::Quarantined { since: now }
        } else {
            Standing::Waiting { until: now.saturating_add(self.wait(count)) }
        };
        self.standing
    }

    fn wait(&self, count: u32) -> Duration {
        let factor = 2u32.checked_pow(count - 1).unwrap_or(u32::MAX);
        self.policy.backoff.saturating_mul(factor).min(self.policy.backoff_max)
    }

    /// Whether it should be rebuilt now.
    pub fn may_rebuild(&self, now: Duration) -> bool {
        matches!(self.standing, Standing::Waiting { until } if now >= until)
    }

    /// It was rebuilt and replayed. Its failures still count until they are older than the window.
    pub fn recovered(&mut self) {
        if let Standing::Waiting { .. } = self.standing {
            self.standing = Standing::Running;
        }
    }

    /// An operator forgives it. It waits for its rebuild.
    pub fn reset(&mut self, now: Duration) {
        self.failures.clear();
        self.cause.clear();
        if let Standing::Quarantined { .. } = self.standing {
            self.standing = Standing::Waiting { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(failures_max: u32) -> Quarantine {
        Quarantine::new(QuarantinePolicy {
            failures_max,
            window: at(100),
            backoff: at(1),
            backoff_max: at(8),
        })
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let mut record = record(100);
        for (now, wait) in [(0, 1), (1, 2), (3, 4), (7, 8), (15, 8), (23, 8)] {
            assert_eq!(record.failed(at(now), "trap"), Standing::Waiting { until: at(now + wait) });
            assert!(!record.may_rebuild(at(now + wait) - Duration::from_nanos(1)));
            assert!(record.may_rebuild(at(now + wait)));
            record.recovered();
            assert_eq!(record.standing(), Standing::Running);
            assert!(!record.may_rebuild(at(1_000)));
        }
    }

    #[test]
    fn too_many_failures_within_the_window_end_it() {
        let mut record = record(3);
        record.failed(at(0), "one");
        record.failed(at(60), "two");
        assert_eq!(record.failed(at(100), "three"), Standing::Quarantined { since: at(100) });
        assert_eq!(record.cause(), "three");
        assert!(!record.may_rebuild(at(1_000_000)));
        record.recovered();
        assert_eq!(record.failed(at(2_000_000), "four"), Standing::Quarantined { since: at(100) });
        record.reset(at(3_000_000));
        assert!(record.may_rebuild(at(3_000_000)));
        assert_eq!(record.failed(at(3_000_001), "five"), Standing::Waiting { until: at(3_000_002) });
    }

    #[test]
    fn failures_older_than_the_window_are_forgotten() {
        let mut record = record(3);
        for now in [0, 60, 120, 180, 240] {
            let standing = record.failed(at(now), "again");
            assert!(matches!(standing, Standing::Waiting { .. }), "{now}: {standing:?}");
        }
        record.recovered();
        assert_eq!(record.failed(at(10_000), "much later"), Standing::Waiting { until: at(10_001) });
    }

    #[test]
    fn a_limit_of_none_allows_no_failure() {
        assert_eq!(record(0).failed(at(5), "once"), Standing::Quarantined { since: at(5) });
    }

    proptest! {
        /// Against the definition: quarantined exactly when some `max` failures lie within one window.
        #[test]
        fn it_is_quarantined_exactly_when_it_failed_too_often(
            steps in prop::collection::vec(0u64..80, 1..40), max in 1u32..6
        ) {
            let mut record = record(max);
            let mut times = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                times.push(now);
                record.failed(at(now), "x");
                let within = |i: usize| times[i..].iter().take_while(|&&t| t - times[i] <= 100).count();
                let expected = (0..times.len()).any(|i| within(i) >= max as usize);
                let quarantined = matches!(record.standing(), Standing::Quarantined { .. });
                prop_assert_eq!(quarantined, expected);
            }
        }
    }
}
