//! An allocator that counts what the calling thread asks of it. The test's own threads do not disturb each other.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of each test, which uses what it needs"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a thread has asked for so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Allocations, and reallocations.
    pub allocations: u64,
    /// Bytes allocated and not freed, as they were asked for. Negative if a thread frees what others allocated.
    pub live_bytes: i64,
}

thread_local! {
    // Constant and without a destructor: reading it never allocates, however early or late a thread allocates.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live_bytes: 0 }) };
}

/// To be made the global allocator of a test.
#[derive(Debug)]
pub struct Counting;

/// What this thread has asked for so far.
pub fn counts() -> Counts {
    COUNTS.get()
}

/// How many allocations `work` makes on this thread.
pub fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = counts().allocations;
    work();
    counts().allocations - before
}

fn note(allocations: u64, bytes: i64) {
    let was = COUNTS.get();
    COUNTS.set(Counts {
        allocations: was.allocations + allocations,
        live_bytes: was.live_bytes + bytes,
    });
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is the system allocator's own, with the same arguments; counting touches a thread-local cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, size(layout.size()));
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, size(layout.size()));
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, -size(layout.size()));
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(1, size(new_size) - size(layout.size()));
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}
