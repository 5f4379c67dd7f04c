//! What the handlers of signals share: how they are installed beside those of the program, and what they pass on.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use quire_core::error::{Error, Result};
use quire_core::types::VirtAddr;

use crate::lock::lock;

pub(super) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// What handled a signal before.
pub(super) struct Before(OnceLock<Action>);

struct Action(libc::sigaction);
// SAFETY: a record of numbers and a function's address, written once.
unsafe impl Send for Action {}
// SAFETY: as above.
unsafe impl Sync for Action {}

impl Before {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Sees that the handler is installed, once; it stays. Not deferred, and, unless `as_before` says that it is where the handler before was,
    /// not on an alternate stack.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with `why`.
    pub(super) fn install(
        &self,
        signal: libc::c_int,
        handler: Handler,
        as_before: bool,
        why: &'static str,
    ) -> Result<()> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        if self.0.get().is_some() {
            return Ok(());
        }
        let _alone = lock(&ONE_AT_A_TIME);
        if self.0.get().is_some() {
            return Ok(());
        }
        // SAFETY: zeros are a valid `sigaction`.
        let mut before: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: both are valid; what was there before is known before the handler can need it.
        unsafe {
            if libc::sigaction(signal, ptr::null(), &raw mut before) != 0 {
                return Err(Error::Unsupported(why));
            }
            let mut ours: libc::sigaction = core::mem::zeroed();
            ours.sa_sigaction = handler as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
            if as_before {
                ours.sa_flags |= before.sa_flags & libc::SA_ONSTACK;
                ours.sa_mask = before.sa_mask;
            }
            if self.0.set(Action(before)).is_err() {
                return Ok(());
            }
            if libc::sigaction(signal, &raw const ours, ptr::null_mut()) != 0 {
                return Err(Error::Unsupported(why));
            }
        }
        Ok(())
    }

    /// Hands a signal that is not ours, or an access that failed, to whoever handled it before.
    pub(super) fn pass_on(&self, signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let Some(Action(before)) = self.0.get() else { return };
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
                let handler: Handler = unsafe { core::mem::transmute(handler) };
                handler(signal, info, context);
            }
            handler => {
                // SAFETY: installed by the program as a handler with one argument.
                let handler: extern "C" fn(libc::c_int) = unsafe { core::mem::transmute(handler) };
                handler(signal);
            }
        }
    }
}

/// Whether the signal is about an access of this thread, and was not sent by somebody.
pub(super) fn is_access(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the kernel passes a valid pointer. Its own codes are positive.
    unsafe { (*info).si_code > 0 }
}

/// The address that the access was made to.
pub(super) fn address_of(info: *const libc::siginfo_t) -> VirtAddr {
    // SAFETY: the kernel passes a valid pointer.
    VirtAddr(unsafe { (*info).si_addr() }.expose_provenance() as u64)
}

/// Whether this thread's last access that was not ours was another one, or made when things were otherwise, which `when` tells. What was there
/// at the access may have changed before we looked. So an access that is not ours is made once more: only what fails again is passed
/// on, with the signal that is right by now.
pub(super) fn is_first_time(va: VirtAddr, when: u64) -> bool {
    static LAST: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
    // SAFETY: a system call without arguments, which may be made in a signal handler.
    let thread = unsafe { libc::gettid() }.unsigned_abs();
    let last = &LAST[thread as usize % LAST.len()];
    let this = va.0 ^ u64::from(thread) << 42 ^ when.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if last.swap(this, Ordering::AcqRel) != this {
        return true;
    }
    // It may come again much later, and then is another one.
    last.store(0, Ordering::Release);
    false
}

/// Runs a handler's work, and leaves the interrupted thread's `errno` as it was.
pub(super) fn keeping_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the thread's errno is its own.
    let errno = unsafe { *libc::__errno_location() };
    let answer = work();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    answer
}
