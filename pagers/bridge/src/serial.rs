//! One call at a time where the thread model asks for it, and closes that no lock may lose.
//!
//! A pager may come back to itself: one of its operations uses the engine, and the engine calls the same pager. Under a
//! lock that its thread is in already such a call is refused with an ordinary error, but for `close`: an object that
//! is let go must be closed. It is put off until the thread leaves the lock, and then nothing can be in its way.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::fmt;
use core::ptr;

use quire_core::error::{Cause, PagerError, Result};
use quire_core::sync::{CallGuard, CallLock, FrameLock};

use crate::module::{OpenObject, kept_call, log_unheard};
use crate::name::Subject;

/// EDEADLK: waiting would never end.
pub(crate) const WOULD_WAIT_FOR_ITSELF: i32 = 35;

/// The lock around a pager's calls.
#[derive(Debug, Default)]
pub(crate) struct Serial {
    lock: CallLock,
    /// Only the thread that is in adds to it, and empties it before it leaves.
    put_off: FrameLock<Option<Box<Closing>>>,
}

/// The calling thread is in. Dropping this closes what was put off, and lets the next one in.
#[derive(Debug)]
pub(crate) struct SerialGuard<'a> {
    serial: &'a Serial,
    _in: CallGuard<'a>,
}

impl Serial {
    fn enter(&self) -> Option<SerialGuard<'_>> {
        let guard = self.lock.enter()?;
        Some(SerialGuard {
            serial: self,
            _in: guard,
        })
    }

    /// To be called by the thread that is in.
    fn put_off(&self, mut closing: Box<Closing>) {
        let mut list = self.put_off.lock();
        closing.next = list.take();
        *list = Some(closing);
    }

    fn take_put_off(&self) -> Option<Box<Closing>> {
        let mut list = self.put_off.lock();
        let mut first = list.take()?;
        *list = first.next.take();
        Some(first)
    }
}

impl Drop for SerialGuard<'_> {
    fn drop(&mut self) {
        while let Some(closing) = self.serial.take_put_off() {
            // It may put off others.
            closing.log_failure();
        }
    }
}

/// Waits for the lock that the thread model asks for, if any.
///
/// # Errors
/// When the calling thread is in an operation under that lock already: the pager came back to itself through the engine.
/// That breaks no promise; it cannot be done.
pub(crate) fn enter<'a>(serial: Option<&'a Serial>, subject: &Subject) -> Result<Option<SerialGuard<'a>>, PagerError> {
    let Some(serial) = serial else { return Ok(None) };
    match serial.enter() {
        Some(guard) => Ok(Some(guard)),
        None => Err(PagerError::new(
            Cause::Errno(WOULD_WAIT_FOR_ITSELF),
            format_args!(
                "{subject} was reached from inside another operation of the same pager, whose thread model allows one at a \
                 time; let that one return first"
            ),
        )),
    }
}

/// The close of one object, with all that it needs: it can always be called. Made when the object is opened.
pub(crate) struct Closing {
    pub(crate) handle: *mut c_void,
    pub(crate) name: Arc<str>,
    /// The library stays as long as this does.
    use_of: Arc<OpenObject>,
    next: Option<Box<Closing>>,
}

// SAFETY: the handle is opaque here, and the plugin takes it on any thread by the ABI.
unsafe impl Send for Closing {}

impl Closing {
    /// For an object that is about to be opened: its handle and name are to follow.
    pub(crate) fn of(use_of: Arc<OpenObject>) -> Self {
        Self {
            handle: ptr::null_mut(),
            name: use_of.opener().clone(),
            use_of,
            next: None,
        }
    }

    /// Closes the object: now, or when the calling thread leaves `serial`, if it is in.
    ///
    /// # Errors
    /// The pager's. One of a close that was put off is logged.
    pub(crate) fn close(self: Box<Self>, serial: Option<&Serial>) -> Result<(), PagerError> {
        let Some(serial) = serial else { return self.call() };
        match serial.enter() {
            Some(_guard) => self.call(),
            None => {
                serial.put_off(self);
                Ok(())
            }
        }
    }

    /// To be called by the thread that is in.
    fn call(self) -> Result<(), PagerError> {
        let Self {
            handle, name, use_of, ..
        } = self;
        let (module, record) = (use_of.module(), use_of.take_record());
        let Some(close) = module.table().close else {
            unreachable!("close is there by the contract of `PluginModule::start`")
        };
        let subject = Subject::new("close", &name).on(use_of.name());
        let answer = kept_call(module.host(), subject, record, || {
            // SAFETY: the handle is open, and this value, which is used up, is the only one that closes it; nothing of the
            // object is under way.
            unsafe { close(module.ctx(), handle) }
        });
        module.host().named.forget(use_of.name());
        answer
    }

    fn log_failure(self) {
        let use_of = self.use_of.clone();
        if let Err(error) = self.call() {
            log_unheard(use_of.module().host(), "closing an object later than asked", &error);
        }
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
