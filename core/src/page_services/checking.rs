//! What becomes of wrong use: a status, or the end of the process with a sentence; and how strict the rules are. For the whole process.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::{Answer, PageError, PageHandle, exposed};
use crate::page::PageRef;

bitflags::bitflags! {
    /// How pages by hand are checked.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Checking: u32 {
        /// Wrong use is said in a sentence, and ends the process.
        const ABORT = 1;
        /// The object's lock must be held to busy a page and to unbusy it (S241).
        const STRICT = 2;
    }
}

static CHECKING: AtomicU32 = AtomicU32::new(if cfg!(debug_assertions) {
    Checking::ABORT.bits()
} else {
    0
});

/// Takes sentences about wrong use.
static REPORTER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// What is checked, for the whole process, from now on. At the start: `ABORT` in builds with debug assertions, otherwise nothing.
pub fn set_checking(checking: Checking) {
    CHECKING.store(checking.bits(), Ordering::Relaxed);
}

/// What is checked.
#[must_use]
#[inline]
pub fn checking() -> Checking {
    Checking::from_bits_truncate(CHECKING.load(Ordering::Relaxed))
}

/// Who says the sentence about wrong use: before the process ends, and where the answer is only a number. Without one, standard error has
/// it before the process ends.
pub fn set_reporter(reporter: fn(&str)) {
    REPORTER.store(reporter as *mut (), Ordering::Release);
}

/// Says what was wrong, if anybody wants to hear it: for those who answer with a number only.
#[cold]
pub fn report(error: &PageError) {
    if let (Some(reporter), PageError::Misuse(sentence) | PageError::NoHandle(sentence)) = (reporter(), error) {
        reporter(sentence);
    }
}

fn reporter() -> Option<fn(&str)> {
    let reporter = REPORTER.load(Ordering::Acquire);
    // SAFETY: null, or stored by `set_reporter` from a function of this type, which is as large as a pointer.
    (!reporter.is_null()).then(|| unsafe { core::mem::transmute::<*mut (), fn(&str)>(reporter) })
}

/// Wrong use.
#[cold]
pub(super) fn misuse(sentence: &'static str) -> PageError {
    stop_if_checking(sentence);
    PageError::Misuse(sentence)
}

/// What is no handle.
#[cold]
pub(super) fn misuse_of_handle(is_null: bool) -> PageError {
    let sentence = if is_null {
        "the page is NULL; pass a handle that a lookup or a grab answered"
    } else {
        "what was passed as the page is no handle of one; pass what a lookup or a grab answered"
    };
    stop_if_checking(sentence);
    PageError::NoHandle(sentence)
}

#[cold]
pub(super) fn stop_if_checking(sentence: &str) {
    if !checking().contains(Checking::ABORT) {
        return;
    }
    match reporter() {
        Some(reporter) => reporter(sentence),
        #[cfg(feature = "std")]
        None => std::eprintln!("quire: {sentence}"),
        #[cfg(not(feature = "std"))]
        None => {}
    }
    stop(sentence)
}

#[cfg(feature = "std")]
fn stop(_sentence: &str) -> ! {
    std::process::abort()
}

/// A host without the standard library ends in its own way.
#[cfg(not(feature = "std"))]
#[allow(clippy::panic, reason = "checking was asked for")]
fn stop(sentence: &str) -> ! {
    panic!("{sentence}")
}

impl PageHandle {
    /// Whether the rule of the object's lock is kept, where it holds (S241).
    #[inline]
    pub(super) fn check_locked(page: PageRef) -> Answer {
        if checking().contains(Checking::STRICT) {
            check_locked(page)
        } else {
            Ok(())
        }
    }
}

#[cold]
fn check_locked(page: PageRef) -> Answer {
    let held = page.is_nowhere() || exposed::of(page).is_none_or(|object| object.hand_lock.is_mine());
    if held {
        return Ok(());
    }
    Err(misuse(
        "the object's lock is not held by this thread, and strict checking wants it to busy and to unbusy a page; lock the object first",
    ))
}
