//! What the module has done, counted, and the extension through which a host reads it.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use quire_pager::abi::{QUIRE_PAGER_INVALID, QUIRE_PAGER_OK};

/// The extension's name for `get_extension`.
pub const STATS_ID: &CStr = c"quire.stats/1";

/// [`StatsCounters::engine`]: every request is done on the thread that asks.
pub const ENGINE_SYNC: u32 = 0;
/// [`StatsCounters::engine`]: a pool of threads.
pub const ENGINE_THREADS: u32 = 1;
/// [`StatsCounters::engine`]: io_uring.
pub const ENGINE_URING: u32 = 2;

/// The extension's table, `struct quire_vnode_stats` in C: one for a loaded module. It may be read on any thread, and stays
/// valid, with the last counts, after `fini`, as long as the library is loaded.
#[repr(C)]
#[derive(Debug)]
pub struct StatsTable {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// The pager's own.
    state: *const Stats,
    /// Writes the counters as they are now. `table` is this table; `out` is borrowed until return and comes with its
    /// `struct_size` filled in: no more is written. Answers `OK`, or `INVALID` for a NULL or a size that ends before the
    /// first counter. Does not block.
    pub read: unsafe extern "C" fn(table: *const StatsTable, out: *mut StatsCounters) -> i32,
}

// SAFETY: the table is constant, and what it points to is made of atomics and never freed (see `table`).
unsafe impl Send for StatsTable {}
// SAFETY: as for Send.
unsafe impl Sync for StatsTable {}

/// The counters, `struct quire_vnode_counters` in C. Append-only. Each is exact once no request is under way; together they
/// are no snapshot.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsCounters {
    /// Size of this struct in bytes, as the caller knows it.
    pub struct_size: u32,
    /// One of the `ENGINE_…` numbers.
    pub engine: u32,
    /// Gets and puts, so far.
    pub requests: u64,
    /// Of these, those that completed later.
    pub pended: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Requests that have pended and not completed.
    pub in_flight: u64,
    /// The most that was ever in flight.
    pub most_in_flight: u64,
    /// System calls that moved something, but less than was asked for.
    pub short_transfers: u64,
    /// Bytes, of those above, that went past the page cache.
    pub bytes_direct: u64,
    /// Requests that might have pended and were done at once, because too many were in flight.
    pub crowded_out: u64,
}

/// The counts of a module.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) engine: AtomicU32,
    pub(crate) requests: AtomicU64,
    pub(crate) pended: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) bytes_direct: AtomicU64,
    pub(crate) short_transfers: AtomicU64,
    pub(crate) crowded_out: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

/// A request that pends, as long as this lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Stats>);

impl InFlight {
    pub(crate) fn begin(stats: &Arc<Stats>) -> Self {
        add(&stats.pended, 1);
        let now = stats.in_flight.fetch_add(1, Relaxed) + 1;
        stats.most_in_flight.fetch_max(now, Relaxed);
        Self(stats.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Adds to a counter, which orders nothing.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

impl Stats {
    fn counters(&self, struct_size: u32) -> StatsCounters {
        StatsCounters {
            struct_size,
            engine: self.engine.load(Relaxed),
            requests: self.requests.load(Relaxed),
            pended: self.pended.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            most_in_flight: self.most_in_flight.load(Relaxed),
            short_transfers: self.short_transfers.load(Relaxed),
            bytes_direct: self.bytes_direct.load(Relaxed),
            crowded_out: self.crowded_out.load(Relaxed),
        }
    }

    /// The extension's table. It is leaked, once a module that is asked for it, because a table outlives the pager.
    pub(crate) fn table(self: &Arc<Self>) -> &'static StatsTable {
        Box::leak(Box::new(StatsTable {
            struct_size: const { struct_size::<StatsTable>() },
            reserved: 0,
            state: Arc::into_raw(self.clone()),
            read,
        }))
    }
}

const fn struct_size<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    #[allow(clippy::cast_possible_truncation, reason = "asserted just above")]
    let size = size_of::<T>() as u32;
    size
}

/// # Safety
/// As [`StatsTable::read`] says.
unsafe extern "C" fn read(table: *const StatsTable, out: *mut StatsCounters) -> i32 {
    if table.is_null() || out.is_null() {
        return QUIRE_PAGER_INVALID;
    }
    // SAFETY: not NULL; the size is the first word of every version of the struct.
    let given = unsafe { (&raw const (*out).struct_size).read() };
    if (given as usize) < std::mem::offset_of!(StatsCounters, requests) {
        return QUIRE_PAGER_INVALID;
    }
    // SAFETY: a table that `Stats::table` made, whose state is never freed.
    let counters = unsafe { &*(*table).state }.counters(given);
    let len = (given as usize).min(size_of::<StatsCounters>());
    // SAFETY: the caller's place has `given` bytes, and `len` is neither more than that nor than ours.
    unsafe {
        (&raw const counters)
            .cast::<u8>()
            .copy_to_nonoverlapping(out.cast::<u8>(), len);
    }
    QUIRE_PAGER_OK
}
