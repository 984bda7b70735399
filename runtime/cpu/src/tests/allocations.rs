//! What a push may not do: allocate.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use graph::Executor;

use super::sliding::{Cell as Kind, convolutions, stack};
use super::{executors, numbers};
use crate::Precision;

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

/// Counts what each thread allocates.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `System.alloc` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_push_allocates_nothing() {
    let (steps, features) = (7, 4);
    // One of them is large enough for two threads.
    let graphs = [
        stack(&[(Kind::Lstm, 20), (Kind::Gru, 33)], steps, features),
        stack(&[(Kind::Lstm, 180), (Kind::Lstm, 160)], steps, features),
        convolutions(steps, features),
    ];
    for cpu in executors(2) {
        for precision in Precision::ALL {
            for (index, graph) in graphs.iter().enumerate() {
                let mut plan = cpu.at(precision).prepare_sliding(graph, steps, 1).unwrap();
                let mut output = Vec::new();
                let mut pushed = 0;
                for (t, row) in numbers(40 * features, 3).chunks(features).enumerate() {
                    let before = COUNT.get();
                    plan.push(0, row, &mut output).unwrap();
                    plan.replace(0, row, &mut output).unwrap();
                    // The first prediction makes room for those that follow.
                    if t > steps {
                        pushed += COUNT.get() - before;
                    }
                    plan.settle(0).unwrap();
                }
                assert_eq!(pushed, 0, "model {index}, {}, {precision}", cpu.isa());
            }
        }
    }
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(COUNT.get() - before, 1, "the counter counts");
}
