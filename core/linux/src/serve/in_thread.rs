//! Threads that resolve their own faults, in a handler of `SIGBUS`.
//!
//! The handler is installed when the first range asks for it, and stays. What is not ours it passes on to the handler that
//! was there before; a handler that the program installs later has to pass on what is ours.
//!
//! The code that runs here interrupted the program at a load or a store to served memory, and never the engine, which does
//! not touch such memory while it holds anything. So the engine's own locks are free to take, and those of its
//! [heap](crate::Heap). What the program may hold at that moment must not be wanted here. So the handler does
//! what [`Map::fault_in_signal`](quire_core::map::Map::fault_in_signal) can do; all else is for a [worker](super::workers), and the handler waits.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quire_core::error::{FaultError, Result};
use quire_core::fault::Resolved;
use quire_core::machine::Serve;
use quire_core::types::{Access, VirtAddr};

use super::Shared;
use super::signals::{Before, address_of, is_access, is_first_time, keeping_errno};

/// Maps of one process that can be served at the same time.
const MOST_MAPS: usize = 256;

/// A service that the handler may find, and how many threads are using it.
struct Place {
    shared: AtomicPtr<Shared>,
    users: AtomicUsize,
}

static PLACES: [Place; MOST_MAPS] = [const {
    Place {
        shared: AtomicPtr::new(ptr::null_mut()),
        users: AtomicUsize::new(0),
    }
}; MOST_MAPS];

static BEFORE: Before = Before::new();

/// Lets the handler find a service.
pub(super) fn enlist(shared: &Arc<Shared>) -> bool {
    let pointer = Arc::into_raw(shared.clone()).cast_mut();
    for place in &PLACES {
        let free = place
            .shared
            .compare_exchange(ptr::null_mut(), pointer, Ordering::AcqRel, Ordering::Relaxed);
        if free.is_ok() {
            return true;
        }
    }
    // SAFETY: made above, and given to nobody.
    drop(unsafe { Arc::from_raw(pointer) });
    false
}

/// No handler finds the service any more. Waits for those that have found it, at most for `patience`: nothing is mapped, so they
/// end as soon as their pagers answer. Answers whether they ended; otherwise the service stays as it was.
pub(super) fn dismiss(shared: &Arc<Shared>, patience: Duration) -> bool {
    let until = Instant::now().checked_add(patience);
    let pointer = Arc::as_ptr(shared).cast_mut();
    for place in &PLACES {
        if place.shared.load(Ordering::Acquire) != pointer {
            continue;
        }
        while place.users.load(Ordering::Acquire) != 0 {
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            std::thread::yield_now();
        }
        let found = place
            .shared
            .compare_exchange(pointer, ptr::null_mut(), Ordering::SeqCst, Ordering::Relaxed);
        if found.is_ok() {
            // Those that came meanwhile only look whether an address is served.
            while place.users.load(Ordering::SeqCst) != 0 {
                std::thread::yield_now();
            }
            // SAFETY: `enlist` made it, and nobody can find it any more.
            drop(unsafe { Arc::from_raw(pointer) });
        }
    }
    true
}

/// Sees that the handler is installed.
pub(super) fn listen() -> Result<()> {
    // Not on an alternate stack, which may be too small for a pager. Not deferred: a pager may itself touch served memory.
    BEFORE.install(
        libc::SIGBUS,
        on_sigbus,
        false,
        "the signal SIGBUS cannot be handled here",
    )
}

/// A thread touched something that is not there.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if is_access(info) && keeping_errno(|| resolve(address_of(info), context)) {
        return;
    }
    BEFORE.pass_on(signal, info, context);
}

/// Whether the access is to be made again.
fn resolve(va: VirtAddr, context: *mut libc::c_void) -> bool {
    match with_service(va, |shared, serve| shared.resolve_here(va, access(context), serve)) {
        Some(Answer::Resolved) => true,
        Some(Answer::Failed) => false,
        // A range may have been unmapped after the access, and somebody else's mapping be there by now.
        Some(Answer::NotOurs) | None => is_first_time(va, 0),
    }
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The access can be made again.
    Resolved,
    /// The access fails.
    Failed,
    /// The mapping was gone, or did not allow the access, when the fault was looked at.
    NotOurs,
}

impl Answer {
    pub(super) fn of(outcome: &std::result::Result<Resolved, FaultError>) -> Self {
        match outcome {
            Ok(_) => Self::Resolved,
            Err(FaultError::NotMapped(_) | FaultError::Denied(_)) => Self::NotOurs,
            Err(_) => Self::Failed,
        }
    }
}

/// Calls `go` with the service of an address.
fn with_service<T>(va: VirtAddr, go: impl FnOnce(&Shared, Serve) -> T) -> Option<T> {
    for place in &PLACES {
        if place.shared.load(Ordering::Relaxed).is_null() {
            continue;
        }
        // In one order with those of `dismiss`, which clears the place and then looks whether somebody is here.
        place.users.fetch_add(1, Ordering::SeqCst);
        let pointer = place.shared.load(Ordering::SeqCst);
        // SAFETY: counted as a user before it was looked up, so `dismiss` keeps it.
        if let Some(shared) = unsafe { pointer.as_ref() }
            && let Some(serve) = shared.pmap().and_then(|pmap| pmap.serve_of(va))
        {
            let answer = go(shared, serve);
            place.users.fetch_sub(1, Ordering::AcqRel);
            return Some(answer);
        }
        place.users.fetch_sub(1, Ordering::AcqRel);
    }
    None
}

impl Shared {
    /// Resolves a fault of this thread.
    fn resolve_here(&self, va: VirtAddr, access: Access, serve: Serve) -> Answer {
        if serve == Serve::Threads {
            // A failure that a reader left here has been told now; the next access asks again.
            if let Some(pmap) = self.pmap() {
                pmap.clear_poison(va);
            }
            return Answer::Failed;
        }
        match self.map.fault_in_signal(va, access) {
            Some(outcome) => Answer::of(&outcome),
            None => self.workers.resolve(va, access),
        }
    }
}

/// Whether the access was a write, as far as the processor tells. Where it does not, a read: the write then leaves its
/// trace by itself.
#[cfg(target_arch = "x86_64")]
fn access(context: *mut libc::c_void) -> Access {
    const WRITE: i64 = 2;
    // SAFETY: the kernel passes the context of the interrupted thread.
    let error = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize] };
    if error & WRITE == 0 {
        Access::Read
    } else {
        Access::Write
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn access(_context: *mut libc::c_void) -> Access {
    Access::Read
}
