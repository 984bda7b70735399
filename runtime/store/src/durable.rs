//! Group commit: one thread that syncs the active segment, and everybody who waits for it.
//!
//! A write is synced within `interval` of the first unsynced one, or at once when somebody waits. All who wait when
//! a sync starts are served by it. A failed sync is final: the kernel may have thrown the pages away and called them
//! clean, so a second sync that succeeds would prove nothing. From then on every append and every waiter gets the
//! failure.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::filesystem::StoredFile;

/// Gets the durable position, at least the one asked for.
pub type OnDurable = Box<dyn FnOnce(Result<u64, SyncFailure>) + Send>;

/// The spool takes no more records, and what wasn't durable yet may be lost with the next power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncFailure {
    /// "fdatasync of the segment", "spool closed", …
    pub doing: &'static str,
    pub message: String,
    /// Up to here records are on the disk all the same.
    pub durable_position: u64,
}

impl fmt::Display for SyncFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the spool stopped at durable position {}: {}: {}; check the disk, then restart",
            self.durable_position, self.doing, self.message
        )
    }
}

impl std::error::Error for SyncFailure {}

/// How often and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    pub syncs: u64,
    pub last: Duration,
    pub longest: Duration,
    pub total: Duration,
}

pub(crate) struct Durability {
    state: Mutex<State>,
    /// Wakes the syncing thread.
    work: Condvar,
    /// Wakes those who wait for a position.
    done: Condvar,
    interval: Duration,
}

struct State {
    file: Arc<dyn StoredFile>,
    written: u64,
    durable: u64,
    /// The highest position that somebody waits for.
    wanted: u64,
    first_unsynced_at: Option<Instant>,
    /// The thread sleeps without a deadline.
    idle: bool,
    callbacks: Vec<(u64, OnDurable)>,
    failure: Option<SyncFailure>,
    closing: bool,
    counts: SyncCounts,
}

impl Durability {
    /// All up to `durable` is on the disk.
    pub(crate) fn new(file: Arc<dyn StoredFile>, durable: u64, interval: Duration) -> Self {
        let state = State {
            file,
            written: durable,
            durable,
            wanted: 0,
            first_unsynced_at: None,
            idle: false,
            callbacks: Vec::new(),
            failure: None,
            closing: false,
            counts: SyncCounts::default(),
        };
        Durability { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new(), interval }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check(&self) -> Result<(), SyncFailure> {
        match &self.lock().failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    pub(crate) fn durable_position(&self) -> u64 {
        self.lock().durable
    }

    pub(crate) fn counts(&self) -> SyncCounts {
        self.lock().counts
    }

    /// The writer has written up to `position` into the current file.
    pub(crate) fn wrote(&self, position: u64) {
        let mut state = self.lock();
        state.written = position;
        if state.first_unsynced_at.is_none() {
            state.first_unsynced_at = Some(Instant::now());
        }
        let wake = std::mem::take(&mut state.idle) || state.wanted > state.durable;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// The next writes go to `file`. All of the one before is durable.
    pub(crate) fn replace_file(&self, file: Arc<dyn StoredFile>) {
        let mut state = self.lock();
        assert!(state.durable == state.written, "a segment is synced before the next one begins");
        state.file = file;
    }

    /// No more appends, no more syncs.
    pub(crate) fn poison(&self, doing: &'static str, message: String) -> SyncFailure {
        let mut state = self.lock();
        let durable_position = state.durable;
        let failure = state.failure.get_or_insert(SyncFailure { doing, message, durable_position }).clone();
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.done.notify_all();
        self.work.notify_one();
        for (_, callback) in callbacks {
            call(callback, Err(failure.clone()));
        }
        failure
    }

    /// Blocks until `position` is durable.
    pub(crate) fn wait(&self, position: u64) -> Result<(), SyncFailure> {
        let mut state = self.lock();
        loop {
            if state.durable >= position {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.wanted < position {
                state.wanted = position;
                self.work.notify_one();
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls back from the syncing thread, or right here when the answer is known already.
    pub(crate) fn on_durable(&self, position: u64, callback: OnDurable) {
        let mut state = self.lock();
        let known = match &state.failure {
            _ if state.durable >= position => Ok(state.durable),
            Some(failure) => Err(failure.clone()),
            None => {
                state.callbacks.push((position, callback));
                if state.wanted < position {
                    state.wanted = position;
                    drop(state);
                    self.work.notify_one();
                }
                return;
            }
        };
        drop(state);
        call(callback, known);
    }

    /// The last sync, then everybody who still waits gets an answer.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// The syncing thread: returns after [`close`](Durability::close).
    pub(crate) fn run(&self) {
        while let Some((file, target)) = self.next_sync() {
            let start = Instant::now();
            let synced = file.sync_data();
            match synced {
                Ok(()) => self.synced(target, start.elapsed()),
                Err(error) => {
                    self.poison("fdatasync of the segment", error.to_string());
                }
            }
        }
        self.poison("spool closed", "it takes no more records".to_owned());
    }

    /// Sleeps until there is something to sync and a reason to do it now. None at the end.
    fn next_sync(&self) -> Option<(Arc<dyn StoredFile>, u64)> {
        let mut state = self.lock();
        loop {
            let unsynced = state.written > state.durable && state.failure.is_none();
            let due = state.first_unsynced_at.map(|at| at + self.interval);
            let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
            if unsynced && (state.closing || state.wanted > state.durable || left.is_zero()) {
                state.first_unsynced_at = None;
                return Some((Arc::clone(&state.file), state.written));
            }
            if state.closing {
                return None;
            }
            if unsynced {
                state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state.idle = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle = false;
            }
        }
    }

    fn synced(&self, target: u64, took: Duration) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        state.durable = target;
        state.counts.syncs += 1;
        state.counts.last = took;
        state.counts.longest = state.counts.longest.max(took);
        state.counts.total += took;
        let waiting = std::mem::take(&mut state.callbacks);
        let (served, waiting) = waiting.into_iter().partition(|(position, _)| *position <= target);
        state.callbacks = waiting;
        drop(state);
        self.done.notify_all();
        let served: Vec<(u64, OnDurable)> = served;
        for (_, callback) in served {
            call(callback, Ok(target));
        }
    }
}

/// A callback that panics must not take the syncing thread, and with it every other waiter, along.
fn call(callback: OnDurable, result: Result<u64, SyncFailure>) {
    let _ = catch_unwind(AssertUnwindSafe(|| callback(result)));
}
