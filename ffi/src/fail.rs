//! An error on its way out: the panic guard around every function, and the text of a thread's last error.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use quire_core::error::{Cause, Error, FaultError, PagerError};
use quire_core::page_services::PageError;
use quire_loader::LoadError;

use crate::log::c_text;
use crate::status::*;

/// What a function answers when it fails.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) status: i32,
    /// A sentence: what happened, and what to do.
    text: String,
    /// The system's number behind it, or 0.
    errno: i32,
}

pub(crate) type Result<T = (), E = Fail> = std::result::Result<T, E>;

impl Fail {
    pub(crate) fn new(status: i32, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            errno: 0,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(QUIRE_ERR_INVALID, text)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        let (status, errno) = match &error {
            Error::Invalid(_) => (QUIRE_ERR_INVALID, 0),
            Error::NotMapped(_) => (QUIRE_ERR_NOT_MAPPED, 0),
            Error::AboveMaximum(_) => (QUIRE_ERR_ABOVE_MAXIMUM, 0),
            Error::Occupied(_) => (QUIRE_ERR_OCCUPIED, 0),
            Error::NoSpace(_) => (QUIRE_ERR_NO_SPACE, 0),
            Error::NoMemory => (QUIRE_ERR_NOMEM, 0),
            Error::Pager(pager) => (pager_status(pager), errno_of(pager)),
            Error::WriteBack { error, .. } => (QUIRE_ERR_WRITE_BACK, errno_of(error)),
            Error::Fault(fault) => fault_status(fault),
            Error::Quarantined(_) => (QUIRE_ERR_QUARANTINED, 0),
            Error::InUse(_) => (QUIRE_ERR_IN_USE, 0),
            Error::Unsupported(_) => (QUIRE_ERR_UNSUPPORTED, 0),
        };
        Self {
            status,
            text: error.to_string(),
            errno,
        }
    }
}

impl From<PagerError> for Fail {
    fn from(error: PagerError) -> Self {
        Error::Pager(error).into()
    }
}

impl From<FaultError> for Fail {
    fn from(error: FaultError) -> Self {
        Error::Fault(error).into()
    }
}

impl From<PageError> for Fail {
    fn from(error: PageError) -> Self {
        let status = match error {
            PageError::Failed(error) => return error.into(),
            PageError::NoHandle(_) => QUIRE_ERR_HANDLE,
            PageError::Stale => QUIRE_ERR_STALE,
            PageError::Misuse(_) => QUIRE_ERR_MISUSE,
            PageError::Busy => QUIRE_ERR_BUSY,
            PageError::Absent => QUIRE_ERR_NOT_FOUND,
            PageError::Occupied => QUIRE_ERR_OCCUPIED,
            PageError::BeyondObject => QUIRE_ERR_INVALID,
        };
        Self::new(status, error.to_string())
    }
}

impl From<LoadError> for Fail {
    fn from(error: LoadError) -> Self {
        let status = match &error {
            LoadError::NotFound { .. } => QUIRE_ERR_NOT_FOUND,
            LoadError::BadName { .. } => QUIRE_ERR_LOAD_NAME,
            LoadError::Unreadable { .. } => QUIRE_ERR_LOAD_UNREADABLE,
            LoadError::NotRegular { .. } => QUIRE_ERR_LOAD_NOT_REGULAR,
            LoadError::NotElf { .. } => QUIRE_ERR_LOAD_NOT_ELF,
            LoadError::NotLibrary { .. } => QUIRE_ERR_LOAD_NOT_LIBRARY,
            LoadError::OtherMachine { .. } => QUIRE_ERR_LOAD_MACHINE,
            LoadError::Truncated { .. } => QUIRE_ERR_LOAD_TRUNCATED,
            LoadError::Damaged { .. } => QUIRE_ERR_LOAD_DAMAGED,
            LoadError::NoEntry { .. } => QUIRE_ERR_LOAD_NO_ENTRY,
            LoadError::Linker { .. } => QUIRE_ERR_LOAD_LINKER,
            LoadError::RefusesHost { .. } => QUIRE_ERR_LOAD_REFUSES_HOST,
            LoadError::BadMagic { .. } => QUIRE_ERR_LOAD_MAGIC,
            LoadError::Version { .. } => QUIRE_ERR_LOAD_VERSION,
            LoadError::TooSmall { .. } => QUIRE_ERR_LOAD_SIZE,
            LoadError::BadModule { .. } | LoadError::BadDriver { .. } => QUIRE_ERR_LOAD_MODULE,
            LoadError::Layout { .. } => QUIRE_ERR_LOAD_LAYOUT,
            LoadError::MissingOperation { .. } => QUIRE_ERR_LOAD_OPERATION,
            LoadError::Init { .. } => QUIRE_ERR_LOAD_INIT,
            LoadError::StaysResident { .. } => QUIRE_ERR_UNSUPPORTED,
            LoadError::OtherConfig { .. } | LoadError::InUse { .. } | LoadError::Reentered { .. } => QUIRE_ERR_IN_USE,
        };
        let errno = match &error {
            LoadError::Unreadable { error, .. } => error.raw_os_error().unwrap_or(0),
            LoadError::Init { error, .. } => errno_of(error),
            _ => 0,
        };
        Self {
            status,
            text: error.to_string(),
            errno,
        }
    }
}

fn pager_status(error: &PagerError) -> i32 {
    match error.cause {
        Cause::BrokenPromise => QUIRE_ERR_QUARANTINED,
        Cause::NoMemory => QUIRE_ERR_NOMEM,
        _ => QUIRE_ERR_PAGER,
    }
}

fn fault_status(fault: &FaultError) -> (i32, i32) {
    match fault {
        FaultError::NotMapped(_) => (QUIRE_FAULT_SEGV_MAPERR, 0),
        FaultError::Denied(_) => (QUIRE_FAULT_SEGV_ACCERR, 0),
        FaultError::BeyondObject(_) => (QUIRE_FAULT_BUS_OBJERR, 0),
        FaultError::Pager { error, .. } | FaultError::WriteRefused { error, .. } => {
            (QUIRE_FAULT_PAGER, errno_of(error))
        }
        FaultError::Quarantined(_) => (QUIRE_FAULT_QUARANTINED, 0),
        FaultError::NoMemory => (QUIRE_FAULT_NOMEM, 0),
        FaultError::Terminated => (QUIRE_FAULT_TERMINATED, 0),
        FaultError::Revoked => (QUIRE_FAULT_REVOKED, 0),
        FaultError::TimedOut(_) => (QUIRE_FAULT_TIMEDOUT, 0),
        FaultError::InterruptSafe(_) => (QUIRE_FAULT_INTERRUPT_SAFE, 0),
        FaultError::Device { .. } => (QUIRE_FAULT_DEVICE, 0),
        FaultError::RealPointers(_) => (QUIRE_ERR_UNSUPPORTED, 0),
    }
}

fn errno_of(error: &PagerError) -> i32 {
    errno_of_cause(error.cause)
}

pub(crate) fn errno_of_cause(cause: Cause) -> i32 {
    match cause {
        Cause::Errno(number) => number,
        Cause::Io => libc::EIO,
        Cause::Again => libc::EAGAIN,
        Cause::NoMemory => libc::ENOMEM,
        Cause::Invalid => libc::EINVAL,
        Cause::Cancelled => libc::ECANCELED,
        Cause::Unsupported => libc::EOPNOTSUPP,
        Cause::OutOfRange | Cause::Absent | Cause::BrokenPromise => 0,
    }
}

/// The body of every function: what it does, behind the border that no panic crosses.
pub(crate) fn guard(body: impl FnOnce() -> Result) -> i32 {
    guard_number(|| body().map(|()| QUIRE_OK))
}

/// As [`guard`], for functions that answer a number which is not negative.
#[inline]
pub(crate) fn guard_number(body: impl FnOnce() -> Result<i32>) -> i32 {
    let fail = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(number)) => return number,
        Ok(Err(fail)) => fail,
        Err(payload) => Fail::new(QUIRE_ERR_PANIC, panic_text(payload)),
    };
    let status = fail.status;
    remember(fail);
    status
}

/// What a panic said. The payload is leaked: its drop could panic again.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = format!("a bug in Quire: {}", said.unwrap_or("a panic without words"));
    std::mem::forget(payload);
    text
}

#[derive(Default)]
struct Last {
    text: CString,
    errno: i32,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

fn remember(fail: Fail) {
    let text = c_text(&fail.text);
    // While a thread ends its last error may be gone already; then there is nobody to read it either.
    let _gone = LAST.try_with(|last| {
        *last.borrow_mut() = Last {
            text,
            errno: fail.errno,
        };
    });
}

/// What went wrong in the last call that failed on this thread: a sentence, or "" if none has failed. Never NULL. The
/// text is valid until the next failing call on the same thread. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().text.as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The system's `errno` value behind the last error on this thread, or 0 when there is none: for `QUIRE_ERR_PAGER`,
/// `QUIRE_FAULT_PAGER`, `QUIRE_ERR_WRITE_BACK` and refused plugins. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_last_errno() -> i32 {
    LAST.try_with(|last| last.borrow().errno).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last_error() -> String {
        // SAFETY: the text is valid until the next failing call on this thread.
        unsafe { CStr::from_ptr(quire_last_error()) }
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_words() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        assert_eq!(guard(|| panic!("it is {}", 7)), QUIRE_ERR_PANIC);
        std::panic::set_hook(hook);
        assert_eq!(last_error(), "a bug in Quire: it is 7");
    }

    #[test]
    fn the_last_error_is_the_threads_own_and_survives_success() {
        assert_eq!(guard(|| Err(Fail::invalid("no\0good"))), QUIRE_ERR_INVALID);
        assert_eq!(guard(|| Ok(())), QUIRE_OK);
        assert_eq!(last_error(), "no\u{fffd}good");
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    }
}
