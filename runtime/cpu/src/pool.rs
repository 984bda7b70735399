//! A few threads that stay: they share out the tasks of one op and sleep in between.
//!
//! Tasks are independent of each other, and what a task computes doesn't depend on who runs it, so results
//! have the same bits at any number of threads. Where the pool is busy with another plan the caller does all
//! tasks itself instead of waiting.
//!
//! A worker that happens to be awake can also be asked to assist with one call, without a lock or a system call.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A closure of some caller of [`Pool::run`] that is still inside it.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn() + Sync));

// SAFETY: the closure is `Sync`, and `Pool::run` keeps it alive while a worker can see it.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Workers inside the job.
    active: usize,
    panicked: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Counts jobs, so that a worker can look for one without the lock.
    generation: AtomicUsize,
    work: Condvar,
    done: Condvar,
    desk: Desk,
}

/// Where callers and the first worker meet: FREE while it looks, CLAIMED while a caller writes what it asks, ASKED
/// until it is done, AWAY while it doesn't look.
struct Desk {
    state: AtomicU8,
    asked: UnsafeCell<*const Asked<'static>>,
}

const AWAY: u8 = 0;
const FREE: u8 = 1;
const CLAIMED: u8 = 2;
const ASKED: u8 = 3;

struct Asked<'a> {
    work: &'a (dyn Fn() + Sync),
    /// Set last: from then on the worker touches nothing of the caller's.
    finished: AtomicBool,
}

// SAFETY: `asked` is written by the caller that holds CLAIMED and read by the worker at ASKED alone.
unsafe impl Sync for Desk {}
// SAFETY: what it points at is `Sync`, and the caller waits for `finished`.
unsafe impl Send for Desk {}

impl Default for Desk {
    fn default() -> Self {
        Desk { state: AtomicU8::new(AWAY), asked: UnsafeCell::new(std::ptr::null()) }
    }
}

impl Desk {
    /// The worker goes away, unless somebody has just come.
    fn leave(&self) -> bool {
        self.state.compare_exchange(FREE, AWAY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Does what is asked, if anything is.
    fn serve(&self) {
        if self.state.load(Ordering::Acquire) != ASKED {
            return;
        }
        // SAFETY: at ASKED the pointer is the caller's, who waits for `finished`.
        let asked = unsafe { &**self.asked.get() };
        let done = catch_unwind(AssertUnwindSafe(asked.work));
        asked.finished.store(true, Ordering::Release);
        self.state.store(FREE, Ordering::Release);
        // What is asked of it can't panic halfway: the caller would wait for ever.
        drop(done);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads beside the caller's. Dropping it ends them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool of {} threads", self.threads())
    }
}

impl Pool {
    /// `threads` in all, the caller's among them. Fewer where the system gives no more.
    ///
    /// A worker looks for work for `spin` before it sleeps.
    pub(crate) fn new(threads: usize, spin: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |index: usize| {
            let shared = shared.clone();
            let work = move || serve(&shared, spin, index == 1);
            std::thread::Builder::new().name(format!("cpu-{index}")).spawn(work).ok()
        };
        let workers = (1..threads).filter_map(spawn).collect();
        Pool { shared, workers, caller: Mutex::new(()) }
    }

    /// The caller's thread and no other.
    pub(crate) fn alone() -> Arc<Self> {
        Arc::new(Pool::new(1, Duration::ZERO))
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f` once for each task, in any order, and returns when all are done. Panics if a task does.
    pub(crate) fn run<T: Send>(&self, tasks: Vec<T>, f: impl Fn(T) + Sync) {
        let caller =
            if tasks.len() > 1 && !self.workers.is_empty() { self.caller.try_lock().ok() } else { None };
        if caller.is_none() {
            tasks.into_iter().for_each(f);
            return;
        }
        let queue = Mutex::new(tasks.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(task) = next() {
                f(task);
            }
        };
        self.publish(&work);
        let mine = catch_unwind(AssertUnwindSafe(work));
        let panicked = self.retract();
        drop(caller);
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!panicked, "a task on another thread panicked");
    }

    /// Runs `mine`, and on the first worker `theirs` at the same time, if it is awake; else gives `false` at once.
    /// The two may wait for each other. No allocation, no lock, no system call.
    pub(crate) fn assisted(&self, mine: impl FnOnce(), theirs: &(dyn Fn() + Sync)) -> bool {
        let desk = &self.shared.desk;
        if desk.state.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let asked = Asked { work: theirs, finished: AtomicBool::new(false) };
        // SAFETY: CLAIMED is ours; only the lifetime changes, and this call outlasts the worker's use of it.
        unsafe { *desk.asked.get() = (&raw const asked).cast() };
        desk.state.store(ASKED, Ordering::Release);
        // A panic in `mine` must not leave while the worker reads `asked`.
        let done = catch_unwind(AssertUnwindSafe(mine));
        while !asked.finished.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        if let Err(panic) = done {
            resume_unwind(panic);
        }
        true
    }

    fn publish(&self, work: &(dyn Fn() + Sync)) {
        let work: *const (dyn Fn() + Sync) = work;
        // SAFETY: only the lifetime changes. `run` calls `retract` before `work` goes, and after that no
        // worker holds or can take the job.
        let work = unsafe {
            std::mem::transmute::<*const (dyn Fn() + Sync), *const (dyn Fn() + Sync + 'static)>(work)
        };
        let mut state = self.shared.lock();
        state.job = Some(Job(work));
        state.panicked = false;
        self.shared.generation.fetch_add(1, Ordering::Release);
        drop(state);
        self.shared.work.notify_all();
    }

    /// Takes the job back and waits for the workers inside it; whether one of them panicked.
    fn retract(&self) -> bool {
        let mut state = self.shared.lock();
        state.job = None;
        while state.active > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.panicked
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs, so it ends in order.
            let _ = worker.join();
        }
    }
}

fn serve(shared: &Shared, spin: Duration, at_desk: bool) {
    let mut seen = 0;
    loop {
        let spin_until = Instant::now() + spin;
        if at_desk {
            shared.desk.state.store(FREE, Ordering::Release);
        }
        while shared.generation.load(Ordering::Acquire) == seen && Instant::now() < spin_until {
            if at_desk {
                shared.desk.serve();
            }
            std::hint::spin_loop();
        }
        while at_desk && !shared.desk.leave() {
            shared.desk.serve();
        }
        let mut state = shared.lock();
        while shared.generation.load(Ordering::Acquire) == seen && !state.stop {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        seen = shared.generation.load(Ordering::Acquire);
        // The caller may have finished alone before this thread woke up.
        let Some(job) = state.job else { continue };
        state.active += 1;
        drop(state);
        // SAFETY: `active` was raised under the lock while the job was there, so `run` waits for this thread.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.0)() }));
        let mut state = shared.lock();
        state.active -= 1;
        state.panicked |= result.is_err();
        drop(state);
        shared.done.notify_all();
    }
}

/// Buffers that tasks borrow: as many as ever ran at once.
#[derive(Debug, Default)]
pub(crate) struct Spare<T>(Mutex<Vec<T>>);

impl<T: Default> Spare<T> {
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = spare.unwrap_or_default();
        let result = f(&mut buffer);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SPIN: Duration = Duration::from_micros(50);

    #[test]
    fn every_task_runs_once_and_mutable_parts_come_back() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads, SPIN);
            for round in 0..200 {
                let mut numbers = vec![0usize; 37];
                let tasks: Vec<_> = numbers.chunks_mut(5).enumerate().collect();
                pool.run(tasks, |(index, part)| part.iter_mut().for_each(|x| *x += index + round));
                assert!(numbers.iter().enumerate().all(|(i, &x)| x == i / 5 + round));
            }
        }
    }

    #[test]
    fn tasks_are_shared_among_threads() {
        let pool = Pool::new(2, SPIN);
        let threads = Mutex::new(HashSet::new());
        // Two tasks that wait for each other can only end on two threads.
        let barrier = std::sync::Barrier::new(2);
        pool.run(vec![(), ()], |()| {
            barrier.wait();
            threads.lock().unwrap().insert(std::thread::current().id());
        });
        assert_eq!(threads.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn a_busy_pool_leaves_the_tasks_to_the_caller() {
        let pool = Pool::new(2, SPIN);
        let count = AtomicUsize::new(0);
        pool.run(vec![(), ()], |()| {
            pool.run(vec![(), (), ()], |()| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 6);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2, SPIN);
        for bad in 0..4 {
            let run = || pool.run((0..4).collect(), |task: usize| assert_ne!(task, bad));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(vec![(); 8], |()| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }

    #[test]
    fn a_worker_that_is_awake_assists_and_one_that_sleeps_does_not() {
        let pool = Pool::new(2, Duration::from_secs(5));
        let begin = Instant::now();
        let mut assisted = 0;
        while assisted < 1000 && begin.elapsed() < Duration::from_secs(4) {
            let (mine, theirs) = (AtomicUsize::new(0), AtomicUsize::new(0));
            // Each waits for the other, so both run at once.
            let wait = |own: &AtomicUsize, other: &AtomicUsize| {
                own.store(1, Ordering::Release);
                while other.load(Ordering::Acquire) == 0 {
                    std::hint::spin_loop();
                }
            };
            if pool.assisted(|| wait(&mine, &theirs), &|| wait(&theirs, &mine)) {
                assisted += 1;
            }
            if assisted % 100 == 0 {
                pool.run(vec![(), ()], |()| ());
            }
        }
        assert_eq!(assisted, 1000);
        let sleeper = Pool::new(2, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!sleeper.assisted(|| panic!("nobody helps"), &|| ()));
        assert!(!Pool::new(1, Duration::from_secs(5)).assisted(|| panic!("nobody is there"), &|| ()));
    }
}
