//! Threads that resolve their own faults, in a handler of `SIGBUS`.
//!
//! The handler is installed when the first range asks for it, and stays. What is not ours it passes on to the handler that
//! was there before; a handler that the program installs later has to pass on what is ours.
//!
//! The code that runs here interrupted the program at a load or a store to served memory, and never the engine, which does
//! not touch such memory while it holds anything. So the engine's own locks are free to take. What the program may
//! hold at that moment, its allocator's lock above all, must not be wanted here: a fault that cannot be resolved without
//! blocking, or whose pager has not declared itself fit for signal handlers, is handed to a worker, and the handler waits.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use quire_core::error::{Error, Result};
use quire_core::machine::Serve;
use quire_core::types::{Access, VirtAddr};

use super::Shared;

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

/// No handler finds the service any more. Waits for those that have found it: nothing is mapped, so they end as soon as
/// their pagers answer.
pub(super) fn dismiss(shared: &Arc<Shared>) {
    let pointer = Arc::as_ptr(shared).cast_mut();
    for place in &PLACES {
        let found = place
            .shared
            .compare_exchange(pointer, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
        if found.is_ok() {
            while place.users.load(Ordering::Acquire) != 0 {
                std::thread::yield_now();
            }
            // SAFETY: `enlist` made it, and nobody can find it any more.
            drop(unsafe { Arc::from_raw(pointer) });
        }
    }
}

/// Sees that the handler is installed.
pub(super) fn listen() -> Result<()> {
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
    let (errno, code, va) = unsafe {
        let errno = *libc::__errno_location();
        let va = VirtAddr((*info).si_addr().expose_provenance() as u64);
        (errno, (*info).si_code, va)
    };
    // Codes of the kernel are positive; others were sent by somebody.
    if code > 0 && with_service(va, |shared| shared.resolve_here(va, access(context))) == Some(true) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        return;
    }
    pass_on(signal, info, context);
}

/// Calls `go` with the service of an address.
fn with_service<T>(va: VirtAddr, go: impl FnOnce(&Shared) -> T) -> Option<T> {
    for place in &PLACES {
        if place.shared.load(Ordering::Relaxed).is_null() {
            continue;
        }
        place.users.fetch_add(1, Ordering::AcqRel);
        let pointer = place.shared.load(Ordering::Acquire);
        // SAFETY: counted as a user before it was looked up, so `dismiss` keeps it.
        if let Some(shared) = unsafe { pointer.as_ref() }
            && shared.serves(va)
        {
            let answer = go(shared);
            place.users.fetch_sub(1, Ordering::AcqRel);
            return Some(answer);
        }
        place.users.fetch_sub(1, Ordering::AcqRel);
    }
    None
}

impl Shared {
    fn serves(&self, va: VirtAddr) -> bool {
        self.pmap()
            .is_some_and(|pmap| pmap.serves(va, Serve::InThread) || pmap.serves(va, Serve::Threads))
    }

    /// Resolves a fault of this thread. Answers whether the access can be tried again; otherwise it fails.
    fn resolve_here(&self, va: VirtAddr, access: Access) -> bool {
        let Some(pmap) = self.pmap() else { return false };
        if pmap.serves(va, Serve::Threads) {
            // A failure that a reader left here has been told now; the next access asks again.
            pmap.clear_poison(va);
            return false;
        }
        self.map.fault(va, access).is_ok()
    }
}

/// Hands a signal that is not ours, or an access that failed, to whoever handled it before.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(Action(before)) = BEFORE.get() else { return };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is made again, and then ends the process as it would have without us.
            // SAFETY: a valid action.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
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
    if error & WRITE == 0 { Access::Read } else { Access::Write }
}

#[cfg(not(target_arch = "x86_64"))]
fn access(_context: *mut libc::c_void) -> Access {
    Access::Read
}
