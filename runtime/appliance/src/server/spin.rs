//! Looking for the next request without sleeping, for a while after each (`server.spin_us`): waking a thread takes
//! longer than answering a poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub struct Spin {
    started: Instant,
    time: Duration,
    /// When the newest request was answered, in nanoseconds since the start.
    newest_ns: AtomicU64,
    sleeps: AtomicBool,
    wake: Notify,
}

impl Spin {
    /// A task that keeps the runtime's thread awake for `time` after each request.
    pub fn start(time: Duration) -> Arc<Self> {
        let spin = Arc::new(Spin {
            started: Instant::now(),
            time,
            newest_ns: AtomicU64::new(0),
            sleeps: AtomicBool::new(true),
            wake: Notify::new(),
        });
        tokio::spawn(spin.clone().run());
        spin
    }

    async fn run(self: Arc<Self>) {
        loop {
            self.sleeps.store(true, Ordering::SeqCst);
            self.wake.notified().await;
            self.sleeps.store(false, Ordering::SeqCst);
            while self.is_time() {
                // The runtime looks at its sockets each time.
                tokio::task::yield_now().await;
            }
        }
    }

    fn is_time(&self) -> bool {
        let newest = Duration::from_nanos(self.newest_ns.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(newest) < self.time
    }

    /// A request was answered then.
    pub fn answered(&self, now: Instant) {
        let ns = now.saturating_duration_since(self.started).as_nanos();
        self.newest_ns.store(u64::try_from(ns).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.sleeps.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_spins_for_its_time_after_a_request_and_sleeps_again() {
        let spin = Spin::start(Duration::from_millis(20));
        let until = |sleeps: bool| {
            let spin = spin.clone();
            async move {
                let start = Instant::now();
                while spin.sleeps.load(Ordering::SeqCst) != sleeps {
                    assert!(start.elapsed() < Duration::from_secs(5), "sleeps: {}", !sleeps);
                    tokio::task::yield_now().await;
                }
            }
        };
        until(true).await;
        for _ in 0..3 {
            let answered = Instant::now();
            spin.answered(answered);
            until(false).await;
            until(true).await;
            assert!(answered.elapsed() >= Duration::from_millis(20), "{:?}", answered.elapsed());
        }
    }
}
