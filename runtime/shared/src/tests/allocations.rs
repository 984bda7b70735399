#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::{nth, writer};
use crate::process;
use crate::{Reader, State};

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
fn reading_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let writer = writer(&path, 8);
    let added = writer.add("A", "1h", 3600, "m/1").unwrap();
    writer.write(added, &nth(4));
    let reader = Reader::open(&path).unwrap();
    let before = COUNT.get();
    for _ in 0..100 {
        let slot = reader.find("A", "1h", "m").unwrap();
        let read = reader.read(slot).unwrap();
        assert!(read.state == State::Prediction && read.label.as_str() == "log_return");
        assert!(reader.is_stale(&read) && reader.durable_seq() == 0 && reader.key(slot).is_ok());
        assert!(!process::is_gone(u64::from(std::process::id()), 0), "what a late heartbeat leads to");
    }
    assert_eq!(COUNT.get() - before, 0);
    drop(Box::new(1));
    assert_eq!(COUNT.get() - before, 1, "the counter counts");
}
