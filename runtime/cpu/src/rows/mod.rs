//! A model of row-wise ops and attention as one op: each window passes through all of it while its rows are in the
//! nearest caches.
//!
//! [`build`] turns a graph into steps over the rows of one window. Steps that need nothing but their own rows form a
//! phase; attention and what isn't done row by row begin a new one. In a batch threads take windows; of fewer windows
//! than threads they share the rows, and meet after each phase ([`team`]). No number depends on which.

mod build;
mod memory;
mod places;
mod step;
mod team;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::gemm::rows_per_tile;
use crate::ops::fused::Kernel;
use crate::pool::{Pool, Spare};
use memory::Memory;
use step::Step;
use team::Team;

pub(crate) use build::build;

/// A graph has at most so many inputs and outputs here.
const ENDS_MAX: usize = 8;

/// What is done to one window.
#[derive(Debug)]
pub(crate) struct Program {
    path: Path,
    steps: Vec<Step>,
    phases: Vec<Phase>,
    /// Where each buffer starts, and the length of all.
    places: Vec<usize>,
    len: usize,
}

/// Steps over the same number of rows, of which each row needs no other of this phase.
#[derive(Debug)]
struct Phase {
    rows: usize,
    steps: Range<usize>,
}

/// The program over a batch: inputs `[B, …]` → outputs `[B, …]`.
#[derive(Debug)]
pub(crate) struct Windows {
    program: Arc<Program>,
    pool: Arc<Pool>,
    batch: usize,
    spare: Spare<Buffers>,
    team: Team,
}

/// The buffers of one window, and those of a step.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    window: Aligned,
    scratch: Aligned,
}

impl Windows {
    pub(crate) fn new(program: Arc<Program>, pool: Arc<Pool>, batch: usize) -> Self {
        let team = Team::new(program.phases.len());
        Windows { program, pool, batch, spare: Spare::default(), team }
    }
}

impl Kernel for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let memory = Memory::new(&self.program.places, self.batch, inputs, outputs);
        let threads = self.pool.threads();
        if threads > 1 && self.batch < threads {
            self.spare.with(|buffers| {
                buffers.window.resize(self.program.len);
                for window in 0..self.batch {
                    let memory = memory.window(window, &mut buffers.window);
                    self.share(&memory);
                }
            });
            return;
        }
        let next = AtomicUsize::new(0);
        self.pool.run(vec![(); threads.min(self.batch)], |()| {
            self.spare.with(|buffers| {
                buffers.window.resize(self.program.len);
                loop {
                    let window = next.fetch_add(1, Ordering::Relaxed);
                    if window >= self.batch {
                        break;
                    }
                    let memory = memory.window(window, &mut buffers.window);
                    for phase in &self.program.phases {
                        self.program.run(phase, 0..phase.rows, &memory, &mut buffers.scratch);
                    }
                }
            });
        });
    }
}

impl Windows {
    /// One window by all threads.
    fn share(&self, memory: &Memory<'_>) {
        let threads = self.pool.threads();
        let phases = &self.program.phases;
        let tile = rows_per_tile(self.program.path);
        let block = |phase: &Phase| phase.rows.div_ceil(threads).next_multiple_of(tile);
        self.team.begin(|phase| phases[phase].rows.div_ceil(block(&phases[phase])));
        self.pool.run(vec![(); threads], |()| {
            self.spare.with(|buffers| {
                self.team.work(|phase, index| {
                    let phase = &phases[phase];
                    let first = index * block(phase);
                    let rows = first..(first + block(phase)).min(phase.rows);
                    self.program.run(phase, rows, memory, &mut buffers.scratch);
                });
            });
        });
    }
}

impl Program {
    /// Some rows of a phase: nobody else has the same ones, and the phases before are done.
    fn run(&self, phase: &Phase, rows: Range<usize>, memory: &Memory<'_>, scratch: &mut Aligned) {
        for step in &self.steps[phase.steps.clone()] {
            step.run(self.path, rows.clone(), memory, scratch);
        }
    }
}
