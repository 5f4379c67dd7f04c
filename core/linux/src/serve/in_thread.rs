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
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use quire_core::error::{Error, FaultError, Result};
use quire_core::fault::Resolved;
use quire_core::machine::Serve;
use quire_core::types::{Access, VirtAddr};

use super::Shared;
use crate::lock::lock;

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

/// What handled `SIGBUS` before.
static BEFORE: OnceLock<Action> = OnceLock::new();

struct Action(libc::sigaction);
// SAFETY: a record of numbers and a function's address, written once.
unsafe impl Send for Action {}
// SAFETY: as above.
unsafe impl Sync for Action {}

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
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = lock(&ONE_AT_A_TIME);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // SAFETY: zeros are a valid `sigaction`.
    let mut before: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { core::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    ours.sa_sigaction = handler as usize;
    // Not on an alternate stack, which may be too small for a pager. Not deferred: a pager may itself touch served memory.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
    // SAFETY: both are valid; what was there before is known before the handler can need it.
    unsafe {
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) != 0 {
            return Err(Error::Unsupported("the signal SIGBUS cannot be handled here"));
        }
        if BEFORE.set(Action(before)).is_err() {
            return Ok(());
        }
        if libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) != 0 {
            return Err(Error::Unsupported("the signal SIGBUS cannot be handled here"));
        }
    }
    Ok(())
}

/// A thread touched something that is not there.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers, and the thread's errno is its own.
    let (errno, va) = unsafe {
        let errno = *libc::__errno_location();
        (errno, VirtAddr((*info).si_addr().expose_provenance() as u64))
    };
    if is_access(info) {
        let answer = with_service(va, |shared, serve| shared.resolve_here(va, access(context), serve));
        let again = match answer {
            Some(Answer::Resolved) => true,
            Some(Answer::Failed) => false,
            Some(Answer::NotOurs) | None => is_first_time(va),
        };
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        if again {
            return;
        }
    }
    pass_on(signal, info, context);
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

/// Whether this thread's last fault that was not ours was another one. A range may have been unmapped after the access and
/// before we looked, and somebody else's mapping be there by now. So an access that is not ours is made once more: only what
/// fails again is passed on, with the signal that is right by now.
fn is_first_time(va: VirtAddr) -> bool {
    static LAST: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
    // SAFETY: a system call without arguments, which may be made in a signal handler.
    let thread = unsafe { libc::gettid() }.unsigned_abs();
    let last = &LAST[thread as usize % LAST.len()];
    let this = va.0 ^ u64::from(thread) << 42;
    if last.swap(this, Ordering::AcqRel) != this {
        return true;
    }
    // It may come again much later, and then is another one.
    last.store(0, Ordering::Release);
    false
}

/// Whether the signal is about an access of this thread, and was not sent by somebody.
fn is_access(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the kernel passes a valid pointer. Its own codes are positive.
    unsafe { (*info).si_code > 0 }
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

/// Hands a signal that is not ours, or an access that failed, to whoever handled it before.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(Action(before)) = BEFORE.get() else { return };
    match before.sa_sigaction {
        // Sent by somebody, and ignored as it was before. For an access the kernel does not ask whether a signal is ignored.
        libc::SIG_IGN if !is_access(info) => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is made again, and then ends the process as it would have without us.
            // SAFETY: a valid action, and a signal that is sent to this thread.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if !is_access(info) {
                    libc::raise(signal);
                }
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: installed by the program as a handler with three arguments.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { core::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: installed by the program as a handler with one argument.
            let handler: extern "C" fn(libc::c_int) = unsafe { core::mem::transmute(handler) };
            handler(signal);
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
