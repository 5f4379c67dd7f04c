//! What touches the memory: the same loops for every mechanism.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::PAGE;

/// The most threads a workload can have.
pub(crate) const WRITERS: usize = 8;

/// Which page comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The one after; each thread in its own part, over and over.
    Sequential,
    /// Any, all equally likely; once over, every page once in a scattered order.
    Random,
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// Every page of each thread's part, once.
    Once,
    /// So many touches by each thread.
    Accesses(u64),
    /// For so long.
    For(Duration),
}

/// A way to use memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Which page comes next.
    pub order: Order,
    /// Each touch adds to a word of the page; else it reads one.
    pub write: bool,
    /// Threads, at most [`WRITERS`].
    pub threads: usize,
    /// Pages that a fault brings in, 1 to 64; the touches do not depend on it.
    pub run: usize,
    /// How long.
    pub extent: Extent,
}

/// Served memory: pages that start with their own number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    at: *mut u8,
    pages: usize,
}

// SAFETY: its words are touched through atomics only.
unsafe impl Send for Memory {}
// SAFETY: likewise.
unsafe impl Sync for Memory {}

impl Memory {
    /// `pages` pages from `at`, which must stay mapped while it is driven.
    pub(crate) fn new(at: *mut u8, pages: usize) -> Memory {
        Memory { at, pages }
    }

    fn word(&self, page: usize, word: usize) -> &AtomicU64 {
        debug_assert!(page < self.pages && word < PAGE / 8);
        // SAFETY: within the memory, aligned, and touched through atomics only.
        unsafe { AtomicU64::from_ptr(self.at.add(page * PAGE).cast::<u64>().add(word)) }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    /// Touches, of all threads.
    pub accesses: u64,
    /// From the first to the last.
    pub elapsed: Duration,
    /// Threads.
    pub threads: usize,
}

/// Touches `memory` as `workload` says. Panics when a page read is not the page asked for.
pub(crate) fn drive(workload: &Workload, memory: Memory) -> Driven {
    assert!((1..=WRITERS).contains(&workload.threads));
    let start = Barrier::new(workload.threads + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workload.threads)
            .map(|index| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    run(workload, &memory, index)
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        let accesses = threads
            .into_iter()
            .map(|thread| thread.join().expect("the thread ends"))
            .sum();
        Driven {
            accesses,
            elapsed: began.elapsed(),
            threads: workload.threads,
        }
    })
}

/// One thread's part. Answers its touches.
fn run(workload: &Workload, memory: &Memory, index: usize) -> u64 {
    const BETWEEN_LOOKS_AT_THE_CLOCK: u64 = 256;
    let part = memory.pages / workload.threads;
    let mut pages = Pages::new(workload, memory.pages, index);
    let touches = match workload.extent {
        Extent::Once => part as u64,
        Extent::Accesses(touches) => touches,
        Extent::For(time) => {
            let end = Instant::now() + time;
            let mut done = 0;
            while Instant::now() < end {
                (0..BETWEEN_LOOKS_AT_THE_CLOCK).for_each(|_| touch(workload, memory, index, pages.next()));
                done += BETWEEN_LOOKS_AT_THE_CLOCK;
            }
            return done;
        }
    };
    (0..touches).for_each(|_| touch(workload, memory, index, pages.next()));
    touches
}

fn touch(workload: &Workload, memory: &Memory, index: usize, page: usize) {
    if workload.write {
        // One instruction that writes, so that the fault is a write from the start.
        memory.word(page, 1 + index).fetch_add(1, Ordering::Relaxed);
    } else {
        assert_eq!(
            memory.word(page, 0).load(Ordering::Relaxed),
            page as u64,
            "the page is the one asked for"
        );
    }
}

/// The pages a thread touches, one after another.
enum Pages {
    Sequential { first: usize, len: usize, at: usize },
    Scattered { first: usize, len: usize, at: usize },
    Random { pages: usize, state: u64 },
}

impl Pages {
    fn new(workload: &Workload, pages: usize, index: usize) -> Pages {
        let len = pages / workload.threads;
        let first = index * len;
        match (workload.order, workload.extent) {
            (Order::Sequential, _) => Pages::Sequential { first, len, at: 0 },
            (Order::Random, Extent::Once) => Pages::Scattered { first, len, at: 0 },
            (Order::Random, _) => Pages::Random {
                pages,
                state: 0x9E37_79B9_7F4A_7C15 ^ (index as u64 + 1) << 17,
            },
        }
    }

    fn next(&mut self) -> usize {
        match self {
            Pages::Sequential { first, len, at } => {
                let page = *first + *at;
                *at = (*at + 1) % *len;
                page
            }
            Pages::Scattered { first, len, at } => {
                // A prime: it meets every page once, whatever number of them that is not a multiple of it.
                *at = (*at + 7919) % *len;
                *first + *at
            }
            Pages::Random { pages, state } => {
                // xorshift64*
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
                usize::try_from((word * *pages as u64) >> 32).expect("a page's number")
            }
        }
    }
}
