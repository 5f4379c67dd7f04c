//! Threads whose stacks lie in the [arena](crate::arena): they are started at any time, and a stack that came to lie in a hole of
//! the program would be destroyed by whatever the program maps there.

use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use quire_core::types::PAGE_BYTES;
use rustix::mm::{MprotectFlags, mprotect};

use crate::arena;
use crate::lock::lock;

/// Bytes of a stack, with the page at its low end that nothing may touch.
const STACK: usize = 2 << 20;

/// A stack, for one thread after the other.
#[derive(Clone, Copy)]
struct Stack {
    bottom: NonNull<u8>,
    /// The thread on it does nothing more of ours.
    ended: &'static AtomicBool,
}

// SAFETY: an address; the bytes belong to the thread that runs there.
unsafe impl Send for Stack {}

/// The stacks with the threads that were started on them last.
static STACKS: Mutex<Vec<(Stack, libc::pthread_t)>> = Mutex::new(Vec::new());

type Work = Box<dyn FnOnce() + Send>;

/// What a thread is given.
struct Start {
    work: Work,
    ended: &'static AtomicBool,
}

/// Starts a thread that does `work` and ends. Answers whether there is one; `work` is dropped otherwise.
pub(crate) fn start(name: &CStr, work: impl FnOnce() + Send + 'static) -> bool {
    let Some(stack) = Stack::take() else { return false };
    let start = Box::into_raw(Box::new(Start {
        work: Box::new(work),
        ended: stack.ended,
    }));
    let mut stacks = lock(&STACKS);
    if stacks.try_reserve(1).is_ok()
        && let Some(thread) = stack.run(start.cast())
    {
        stacks.push((stack, thread));
        // SAFETY: the thread is joined only by whoever takes the list's lock.
        unsafe { libc::pthread_setname_np(thread, name.as_ptr()) };
        return true;
    }
    drop(stacks);
    // The stack is lost: as a rule there is no second one either.
    // SAFETY: made above, and taken by nobody.
    drop(unsafe { Box::from_raw(start) });
    false
}

impl Stack {
    /// One whose thread has ended, or a new one.
    fn take() -> Option<Self> {
        {
            let mut stacks = lock(&STACKS);
            let at = stacks.iter().position(|(stack, _)| stack.ended.load(Ordering::Acquire));
            if let Some((stack, thread)) = at.map(|at| stacks.swap_remove(at)) {
                // SAFETY: started below, and joined only here. It is about to end, if it has not.
                unsafe { libc::pthread_join(thread, ptr::null_mut()) };
                stack.ended.store(false, Ordering::Relaxed);
                return Some(stack);
            }
        }
        let bottom = arena::reserve(STACK).ok()?;
        // SAFETY: the first page of what was reserved for the stack.
        unsafe { mprotect(bottom.as_ptr().cast(), PAGE_BYTES, MprotectFlags::empty()) }.ok()?;
        Some(Self {
            bottom,
            ended: Box::leak(Box::new(AtomicBool::new(false))),
        })
    }

    fn run(self, start: *mut c_void) -> Option<libc::pthread_t> {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        // SAFETY: the attributes are initialised first and destroyed last; the stack belongs to this thread until it is joined.
        unsafe {
            if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
                return None;
            }
            let usable = self.bottom.as_ptr().add(PAGE_BYTES).cast();
            let started = libc::pthread_attr_setstack(attributes.as_mut_ptr(), usable, STACK - PAGE_BYTES) == 0
                && libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, start) == 0;
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            started.then(|| thread.assume_init())
        }
    }
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: made by `start` for this thread.
    let Start { work, ended } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    // A panic has been reported; as in other threads it ends nobody else.
    let _panicked = catch_unwind(AssertUnwindSafe(work));
    ended.store(true, Ordering::Release);
    ptr::null_mut()
}
