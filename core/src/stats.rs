//! Counters. Kept in shards, one cache line and more each, so that threads that fault at the same time do not meet here.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sync::current_thread;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $field:ident,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        /// The counts at one moment; each is exact, all together are not a snapshot.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $field: u64,)*
        }

        const COUNTERS: usize = [$(Counter::$name),*].len();

        impl Stats {
            /// Adds up all shards.
            #[must_use]
            pub fn counts(&self) -> Counts {
                Counts { $($field: self.sum(Counter::$name),)* }
            }
        }
    };
}

counters! {
    /// Faults that were asked for.
    Faults => faults,
    /// Faults of case 0: nothing is mapped at the address, or the access is not allowed.
    Fault0 => faults_0,
    /// Faults resolved as case 1A, the page of an anon as it is.
    Fault1A => faults_1a,
    /// Faults resolved as case 1B, the page of an anon that others share, copied.
    Fault1B => faults_1b,
    /// Faults resolved as case 2A, a page of an object as it is, for a read.
    Fault2ARead => faults_2a_read,
    /// Faults resolved as case 2A, a page of an object as it is, for a write.
    Fault2AWrite => faults_2a_write,
    /// Faults resolved as case 2B, memory of the entry's own, filled from the object or with zeros.
    Fault2B => faults_2b,
    /// Those of case 2B that were filled with zeros, and what else was by copying in.
    ZeroFills => zero_fills,
    /// Amaps copied because an entry was about to write to one that others show.
    AmapCopies => amap_copies,
    /// Faults that found their page resident at the first try.
    FaultsResident => faults_resident,
    /// Faults that failed.
    FaultsFailed => faults_failed,
    /// Times a fault started over after it had waited.
    FaultRestarts => fault_restarts,
    /// Resident neighbours mapped along.
    NeighboursMapped => neighbours_mapped,
    /// Calls of a pager's get.
    Gets => gets,
    /// Pages brought in by get.
    PagesIn => pages_in,
    /// Calls of a pager's put.
    Puts => puts,
    /// Pages written by put.
    PagesOut => pages_out,
    /// Calls of a pager's populate.
    Populates => populates,
    /// Pages brought in by populate.
    PagesPopulated => pages_populated,
    /// Waits for a busy page.
    BusyWaits => busy_waits,
    /// Waits for memory.
    MemoryWaits => memory_waits,
    /// Pages brought in that nobody had asked for yet.
    PagesReadAhead => pages_read_ahead,
    /// Read-aheads that failed; nobody was told.
    ReadAheadsFailed => read_aheads_failed,
    /// Runs of dirty pages that a flush could not write.
    WritesFailed => writes_failed,
    /// Clean pages given up to make room.
    PagesReclaimed => pages_reclaimed,
    /// Requests that pagers were asked to cancel.
    RequestsCancelled => requests_cancelled,
    /// Requests that the watchdog found overdue.
    RequestsOverdue => requests_overdue,
    /// Faults that gave up waiting for a pager.
    FaultsTimedOut => faults_timed_out,
    /// Errors that pagers answered.
    PagerErrors => pager_errors,
    /// Promises that pagers broke.
    BrokenPromises => broken_promises,
}

const SHARDS: usize = 16;

#[derive(Debug)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTERS]);

/// The counters of one engine.
#[derive(Debug)]
pub struct Stats([Shard; SHARDS]);

impl Stats {
    pub(crate) const fn new() -> Self {
        Self([const { Shard([const { AtomicU64::new(0) }; COUNTERS]) }; SHARDS])
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        self.0[shard()].0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.0
            .iter()
            .map(|shard| shard.0[counter as usize].load(Ordering::Relaxed))
            .sum()
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the uppermost bits choose the shard")]
fn shard() -> usize {
    // Threads' numbers may be addresses, whose low bits say little; those of threads beside each other come to lie apart.
    (current_thread().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SHARDS.ilog2())) as usize
}
