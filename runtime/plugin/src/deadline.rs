//! When a call has had its time: half of it by the wall clock, then half by the thread's own CPU time.
//!
//! A guest can't wait for anything, so what it uses is CPU time; on a busy machine the wall clock alone would
//! stop guests that were only kept from running. The CPU clock is read when half of the time is over, so an
//! ordinary call never pays for it.
#![allow(unsafe_code)]

use std::time::Duration;

/// How often deadlines are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    half: Duration,
    /// The thread's CPU time when the first half was over.
    half_at: Option<Duration>,
}

impl Deadline {
    pub(crate) fn new(deadline_ms: u64) -> Self {
        Deadline { half: Duration::from_millis(deadline_ms.div_ceil(2)), half_at: None }
    }

    /// Ticks until it is to be asked first; the one that is running has partly gone.
    pub(crate) fn first_ticks(&self) -> u64 {
        ticks(self.half) + 1
    }

    /// Ticks until it is to be asked again, or `None` when the time is over. `cpu` is the thread's CPU time.
    pub(crate) fn more_ticks(&mut self, cpu: Duration) -> Option<u64> {
        let half_at = *self.half_at.get_or_insert(cpu);
        let left = self.half.checked_sub(cpu.saturating_sub(half_at)).filter(|left| !left.is_zero())?;
        Some(ticks(left))
    }
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX).max(1)
}

/// CPU time of this thread; `None` where the system has no such clock.
pub(crate) fn thread_cpu_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec of ours, which the call fills in.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0;
    if failed {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_second_half_is_counted_in_cpu_time() {
        let mut deadline = Deadline::new(50);
        assert_eq!(deadline.first_ticks(), 26);
        assert_eq!(deadline.more_ticks(ms(1_000)), Some(25));
        // The thread was kept from running for most of that.
        assert_eq!(deadline.more_ticks(ms(1_003)), Some(22));
        assert_eq!(deadline.more_ticks(ms(1_003)), Some(22));
        assert_eq!(deadline.more_ticks(ms(1_024) + Duration::from_micros(500)), Some(1));
        assert_eq!(deadline.more_ticks(ms(1_025)), None);
        assert_eq!(deadline.more_ticks(ms(2_000)), None);
    }

    #[test]
    fn the_shortest_deadline_ends_too() {
        for shortest in [0, 1] {
            let mut deadline = Deadline::new(shortest);
            assert!(deadline.first_ticks() <= 2);
            let _ = deadline.more_ticks(ms(5));
            assert_eq!(deadline.more_ticks(ms(6)), None);
        }
    }

    #[test]
    fn the_cpu_clock_runs_with_work_and_not_with_sleep() {
        let start = thread_cpu_time().expect("a clock");
        std::thread::sleep(ms(60));
        let slept = thread_cpu_time().expect("a clock") - start;
        assert!(slept < ms(50), "{slept:?}");
        let mut x = 1u64;
        while thread_cpu_time().expect("a clock") - start - slept < ms(5) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
    }
}
