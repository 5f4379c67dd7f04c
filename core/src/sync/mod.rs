//! Waiting and excluding: parked threads, ranked locks, and the one small place where loom's atomics replace ours.
//!
//! # The lock table
//!
//! | rank | lock | held while |
//! |---|---|---|
//! | 1 | engine registry | the list of objects is changed or walked |
//! | 2 | map | entries are read (shared) or changed (exclusive); shared over a fault's `enter` |
//! | 3 | amap | the amaps and anons of one family are looked at (shared, over `enter`) or changed (exclusive) |
//! | 4 | object | the page index or the state of one object changes |
//! | 5 | page queues | queue links change |
//! | 6 | pmap | translations of one address space change |
//! | 7 | mappings | the list of one frame's mappings changes |
//! | 8 | frames | a free list, a request's state, the places of an anonymous object or the slots of swap change |
//!
//! A lock may be taken only when no lock of the same or a higher rank is held. The rank is part of the type, and builds
//! with debug assertions check it. No lock at all is held when a pager is called ([`assert_no_locks_held`]) or when a
//! thread waits for a page or for I/O.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

mod awaited;
#[cfg(not(loom))]
mod call_lock;
mod deadline;
mod event;
mod gauge;
mod park;
mod rank;
mod turn;
mod word_lock;

#[cfg(not(loom))]
mod ranked;

#[cfg_attr(loom, allow(unused_imports, reason = "modelled there"))]
pub(crate) use awaited::{Awaited, Left};
#[cfg(not(loom))]
pub use call_lock::{CallGuard, CallLock};
pub use deadline::Deadline;
pub use event::Event;
pub use gauge::Gauge;
#[cfg(any(not(feature = "std"), doc))]
#[cfg(not(loom))]
pub use park::{HostServices, install_host_services};
pub(crate) use park::{park, park_until, unpark_all};
#[cfg(not(loom))]
pub use rank::Rank;
pub use rank::assert_no_locks_held;
#[cfg(not(loom))]
pub use ranked::{
    AmapLock, AmapReadGuard, AmapWriteGuard, FrameLock, MapLock, MapReadGuard, MapWriteGuard, MappingLock, ObjectGuard,
    ObjectLock, PmapLock, QueueLock, RankedMutex, RegistryGuard, RegistryLock,
};
#[cfg_attr(loom, allow(unused_imports, reason = "modelled there"))]
pub(crate) use turn::{Tally, Turns};
#[cfg(not(loom))]
pub(crate) use word_lock::WordMutex;

/// The calling thread as a number that is not 0, and that no other thread has as long as this one runs. Recorded as the owner of
/// an exclusively busy page in checking builds (S144).
///
/// It is where the thread's own data lie, which takes one instruction. A thread-local variable takes a call in a shared library, and
/// memory at the first use in a thread where the library was loaded late: in a signal handler that is not to be had.
#[cfg(all(feature = "std", not(loom), not(miri), target_os = "linux", target_arch = "x86_64"))]
#[must_use]
#[inline]
pub fn current_thread() -> u64 {
    let own: u64;
    // SAFETY: by the ABI of Linux on this processor the word at fs:0 is the thread pointer.
    unsafe { core::arch::asm!("mov {}, fs:0", out(reg) own, options(nostack, preserves_flags, readonly, pure)) };
    own
}

/// The calling thread as a number that is not 0. Recorded as the owner of an exclusively busy page in checking builds (S144).
#[cfg(all(
    feature = "std",
    not(loom),
    any(miri, not(target_os = "linux"), not(target_arch = "x86_64"))
))]
#[must_use]
pub fn current_thread() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    std::thread_local! {
        static ME: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    ME.with(|me| *me)
}

/// The calling thread as a number that is not 0, as the host tells it.
#[cfg(all(not(feature = "std"), not(loom)))]
#[must_use]
pub fn current_thread() -> u64 {
    park::host().map_or(1, |host| (host.current_thread)())
}

/// Runs a model in every order of its steps, with up to three preemptions: that is where such bugs show, and takes seconds.
#[cfg(all(test, loom))]
pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}
