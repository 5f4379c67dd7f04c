//! An allocator of our own, for a library that lives in a program it knows nothing of.
//!
//! Two things must not happen with memory that the engine allocates. It must not lie where the program is about to map
//! something: so it comes from addresses that were [set aside](crate::arena). And the lock of its allocator
//! must not be held by a thread that is interrupted by a fault on served memory, because resolving the fault may
//! allocate: so it is not the program's allocator, and the lock is held for nothing but its own bookkeeping, which lies in no
//! served memory.
//!
//! What is freed is used again, and not given back to the system.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use dlmalloc::Dlmalloc;
use quire_core::types::PAGE_BYTES;
use rustix::thread::futex;

use crate::arena;

/// What the heap grows by.
const GROWTH: usize = 1 << 20;

/// A `#[global_allocator]` for the library. There is one in a process: a fork waits for its lock.
pub struct Heap {
    lock: Lock,
    inner: UnsafeCell<Dlmalloc<FromArena>>,
}

// SAFETY: `inner` is touched only under `lock`.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty heap. To be [started](Heap::start).
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is for a static")]
    pub const fn new() -> Self {
        Self {
            lock: Lock(AtomicU32::new(FREE)),
            inner: UnsafeCell::new(Dlmalloc::new_with_allocator(FromArena)),
        }
    }

    /// Sets the addresses aside. To be called when the library is loaded, before the program makes holes in its
    /// memory, and once; without that the first allocation does it, and a fork may find the heap in use.
    pub fn start(&'static self) {
        static FORKED: core::sync::atomic::AtomicPtr<Heap> = core::sync::atomic::AtomicPtr::new(ptr::null_mut());
        fn heap() -> Option<&'static Heap> {
            // SAFETY: null, or stored below from a reference that lives for ever.
            unsafe { FORKED.load(Ordering::Acquire).as_ref() }
        }
        extern "C" fn before() {
            heap().inspect(|heap| heap.lock.lock());
        }
        extern "C" fn after() {
            heap().inspect(|heap| heap.lock.unlock());
        }
        arena::start();
        let first = FORKED
            .compare_exchange(
                ptr::null_mut(),
                ptr::from_ref(self).cast_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if first {
            // SAFETY: the handlers live as long as this code; they are taken back when the library is unloaded.
            unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
        }
    }

    fn with<T>(&self, go: impl FnOnce(&mut Dlmalloc<FromArena>) -> T) -> T {
        self.lock.lock();
        // SAFETY: the lock is held.
        let answer = go(unsafe { &mut *self.inner.get() });
        self.lock.unlock();
        answer
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

// SAFETY: dlmalloc's blocks do not overlap, and are aligned as asked; it does not unwind.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        self.with(|heap| unsafe { heap.free(at, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        self.with(|heap| unsafe { heap.realloc(at, layout.size(), layout.align(), size) })
    }
}

/// Where the heap's memory comes from.
struct FromArena;

// SAFETY: pieces of the arena are zero, page aligned, nobody else's, and stay for ever.
unsafe impl dlmalloc::Allocator for FromArena {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let piece = size
            .checked_next_multiple_of(GROWTH)
            .and_then(|size| Some((arena::reserve(size).ok()?.as_ptr(), size, 0)));
        piece.unwrap_or((ptr::null_mut(), 0, 0))
    }

    fn remap(&self, _at: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _at: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _at: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep.
const WAITED_FOR: u32 = 2;

/// A lock that keeps nothing outside its word, so that a fork can hold it across, and that leaves `errno` alone.
struct Lock(AtomicU32);

impl Lock {
    fn lock(&self) {
        if self
            .0
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_slowly();
        }
    }

    #[cold]
    fn lock_slowly(&self) {
        for _ in 0..64 {
            if self.0.load(Ordering::Relaxed) == FREE {
                break;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(WAITED_FOR, Ordering::Acquire) != FREE {
            let _woken_or_changed = futex::wait(&self.0, futex::Flags::PRIVATE, WAITED_FOR, None);
        }
    }

    fn unlock(&self) {
        if self.0.swap(FREE, Ordering::Release) == WAITED_FOR {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_blocks_that_do_not_overlap_and_are_used_again() {
        static HEAP: Heap = Heap::new();
        std::thread::scope(|scope| {
            for mark in 1..=4u8 {
                scope.spawn(move || {
                    let sizes = [1, 24, 100, 4096, 70_000];
                    for round in 0..500 {
                        let layout = Layout::from_size_align(sizes[round % sizes.len()], 1 << (round % 8)).unwrap();
                        // SAFETY: allocated, filled, read and freed with one layout.
                        unsafe {
                            let at = HEAP.alloc(layout);
                            assert!(!at.is_null() && at.addr().is_multiple_of(layout.align()));
                            at.write_bytes(mark, layout.size());
                            std::thread::yield_now();
                            let bytes = core::slice::from_raw_parts(at, layout.size());
                            assert!(bytes.iter().all(|byte| *byte == mark));
                            HEAP.dealloc(at, layout);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_child_of_a_fork_can_allocate_while_other_threads_of_the_parent_did() {
        static HEAP: Heap = Heap::new();
        let _one = crate::sys::tests::FORKS.lock().unwrap();
        HEAP.start();
        let layout = Layout::from_size_align(64, 8).unwrap();
        let stop = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while stop.load(Ordering::Relaxed) == 0 {
                        // SAFETY: allocated and freed with one layout.
                        unsafe { HEAP.dealloc(HEAP.alloc(layout), layout) };
                    }
                });
            }
            for _ in 0..100 {
                // SAFETY: the child allocates from this heap, and ends without returning.
                unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::alarm(10);
                        HEAP.dealloc(HEAP.alloc(layout), layout);
                        libc::_exit(0);
                    }
                    let mut status = -1;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    assert_eq!(status, 0, "the child waits for a lock that nobody holds");
                }
            }
            stop.store(1, Ordering::Relaxed);
        });
    }
}
