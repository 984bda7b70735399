//! Threads that go through the same phases together: each takes blocks of the phase at hand until none is left and
//! waits for those that others hold. Whoever comes late finds less to do; alone, one thread does all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Team {
    phases: Vec<Progress>,
    /// Whether a block of this run panicked: nobody waits for it.
    broken: AtomicBool,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Progress {
    blocks: AtomicUsize,
    taken: AtomicUsize,
    done: AtomicUsize,
}

/// Marks the run as broken unless the block ends in order.
struct Block<'a>(&'a Team);

impl Drop for Block<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
        }
    }
}

impl Team {
    pub(super) fn new(phases: usize) -> Self {
        Team { phases: (0..phases).map(|_| Progress::default()).collect(), broken: AtomicBool::new(false) }
    }

    /// Starts over, with `blocks(phase)` blocks in each. Nobody may be at work.
    pub(super) fn begin(&self, blocks: impl Fn(usize) -> usize) {
        self.broken.store(false, Ordering::Relaxed);
        for (index, phase) in self.phases.iter().enumerate() {
            phase.blocks.store(blocks(index), Ordering::Relaxed);
            phase.taken.store(0, Ordering::Relaxed);
            phase.done.store(0, Ordering::Release);
        }
    }

    /// Calls `f(phase, block)` for blocks that nobody else took, and returns when all blocks of all phases are done.
    pub(super) fn work(&self, mut f: impl FnMut(usize, usize)) {
        for (index, phase) in self.phases.iter().enumerate() {
            let blocks = phase.blocks.load(Ordering::Relaxed);
            loop {
                let block = phase.taken.fetch_add(1, Ordering::AcqRel);
                if block >= blocks {
                    break;
                }
                let guard = Block(self);
                f(index, block);
                drop(guard);
                phase.done.fetch_add(1, Ordering::AcqRel);
            }
            while phase.done.load(Ordering::Acquire) < blocks {
                if self.broken.load(Ordering::Acquire) {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn each_block_is_done_once_and_phases_follow_each_other() {
        let team = Team::new(5);
        for _ in 0..100 {
            team.begin(|phase| phase + 1);
            let order = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| team.work(|phase, block| order.lock().unwrap().push((phase, block))));
                }
            });
            let mut order = order.into_inner().unwrap();
            assert!(order.is_sorted_by_key(|(phase, _)| *phase));
            order.sort_unstable();
            let all: Vec<_> = (0..5).flat_map(|phase| (0..=phase).map(move |block| (phase, block))).collect();
            assert_eq!(order, all);
        }
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let team = Team::new(2);
        team.begin(|_| 2);
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let both: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        team.work(|_, block| {
                            barrier.wait();
                            assert_eq!(block, 0);
                        })
                    })
                })
                .collect();
            let failed = both.into_iter().filter_map(|thread| thread.join().err()).count();
            assert_eq!(failed, 1);
        });
    }
}
