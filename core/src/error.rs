//! What can go wrong, in words that say what happened and what to do.
//!
//! Two vocabularies, because two different callers act on them: [`FaultError`] is what an access gets (a signal, in a
//! hosted program), [`Error`] what a call gets. What a pager says comes as a [`PagerError`] inside either.

use alloc::string::String;
use core::fmt;

use crate::types::{PageIndex, VirtAddr};

/// The result of a call into the engine.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a pager could not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The index lies outside what the pager has: the object was truncated behind our back.
    OutOfRange,
    /// In range, and not there.
    Absent,
    /// An input or output error without a number.
    Io,
    /// The system's `errno`, as a positive number.
    Errno(i32),
    /// Short of a resource; the same request may succeed later.
    Again,
    /// The pager has no such operation.
    Unsupported,
    /// Memory could not be had.
    NoMemory,
    /// An argument was refused.
    Invalid,
    /// The request was cancelled; the same request may succeed later.
    Cancelled,
    /// The pager broke the contract; the object is quarantined (rule 4 of the design).
    BrokenPromise,
}

impl Cause {
    /// Whether something ran out that closing other objects gives back: memory, or the process's or the system's file
    /// descriptors.
    #[must_use]
    pub fn is_shortage(self) -> bool {
        const ENOMEM: i32 = 12;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        matches!(self, Self::NoMemory | Self::Errno(ENOMEM | ENFILE | EMFILE))
    }
}

/// What a pager answered, with its own words where it gave any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PagerError {
    /// Why.
    pub cause: Cause,
    /// The pager's sentence: operation, place, name and the system's text. Empty when it gave none, or memory for it could not be had.
    pub text: String,
}

impl PagerError {
    /// An error without words.
    #[must_use]
    pub fn bare(cause: Cause) -> Self {
        Self {
            cause,
            text: String::new(),
        }
    }

    /// An error with words; they are left out when memory for them cannot be had.
    #[must_use]
    pub fn new(cause: Cause, words: fmt::Arguments<'_>) -> Self {
        Self {
            cause,
            text: words_or_nothing(words),
        }
    }
}

/// Formats without ever panicking for lack of memory: what does not fit is left out.
pub fn words_or_nothing(words: fmt::Arguments<'_>) -> String {
    struct Fallible(String);
    impl fmt::Write for Fallible {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0.try_reserve(s.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(s);
            Ok(())
        }
    }
    let mut text = Fallible(String::new());
    let _cut_short = fmt::Write::write_fmt(&mut text, words);
    text.0
}

impl fmt::Display for PagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.text.is_empty() {
            return f.write_str(&self.text);
        }
        match self.cause {
            Cause::OutOfRange => f.write_str("the page lies outside what the pager has"),
            Cause::Absent => f.write_str("the pager does not have the page"),
            Cause::Io => f.write_str("the pager reported an input or output error"),
            Cause::Errno(n) => write!(f, "the pager reported system error {n}"),
            Cause::Again => f.write_str("the pager is short of a resource; try again"),
            Cause::Unsupported => f.write_str("the pager does not do that"),
            Cause::NoMemory => f.write_str("the pager could not get memory"),
            Cause::Invalid => f.write_str("the pager refused an argument"),
            Cause::Cancelled => f.write_str("the request was cancelled; try again"),
            Cause::BrokenPromise => f.write_str("the pager broke its contract"),
        }
    }
}

impl core::error::Error for PagerError {}

/// Why an access could not be resolved. Each says which signal a hosted program gets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultError {
    /// SEGV_MAPERR: nothing is mapped at the address.
    #[error("nothing is mapped at {0}")]
    NotMapped(VirtAddr),
    /// SEGV_ACCERR: the mapping does not allow the access.
    #[error("the mapping at {0} does not allow this access")]
    Denied(VirtAddr),
    /// The address lies in an interrupt-safe map, where no fault is resolved.
    #[error("the map that has {0} is interrupt-safe: what is mapped there has to be wired before it is used")]
    InterruptSafe(VirtAddr),
    /// BUS_OBJERR: the mapping is there, but the object ends before the address.
    #[error("the object mapped at {0} ends before that address")]
    BeyondObject(VirtAddr),
    /// BUS_OBJERR: the pager could not bring the page.
    #[error("page {index} could not be read: {error}")]
    Pager {
        /// The page, in its object.
        index: PageIndex,
        /// The pager's answer.
        error: PagerError,
    },
    /// BUS_OBJERR: the pager, which is asked before a page is first written, refused: the device is full, say. Reading goes on.
    #[error("page {index} may not be written: {error}")]
    WriteRefused {
        /// The page, in its object.
        index: PageIndex,
        /// The pager's answer.
        error: PagerError,
    },
    /// BUS_OBJERR: the object takes no more faults, because its pager broke a promise.
    #[error("the object takes no more faults: {0}")]
    Quarantined(String),
    /// BUS_OBJERR: the object was taken from its users.
    #[error("the object has been terminated, or is about to be; unmap it and open it again")]
    Terminated,
    /// BUS_OBJERR: the object's pager has taken its pages back for good: the device is gone.
    #[error("the object's pager has taken it back: the device is gone; unmap it")]
    Revoked,
    /// BUS_OBJERR: the engine's time for a pager's answer is over. The pager still has the page.
    #[error("page {0} did not come in time; its pager still has the request: try again later")]
    TimedOut(PageIndex),
    /// BUS_OBJERR: the memory of the page's device cannot be accessed so.
    #[error("page {index} is memory of a device: {reason}")]
    Device {
        /// The page, in its object.
        index: PageIndex,
        /// Why.
        reason: &'static str,
    },
    /// BUS_OOMERR: no memory, and none could be freed.
    #[error("out of memory: every frame is in use and none could be freed")]
    NoMemory,
    /// No signal: a simulated processor was asked for, and the machine of this name has none.
    #[error("machine {0} has real pointers; use those")]
    RealPointers(&'static str),
}

/// Why a call was refused or failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// An argument makes no sense; nothing was changed.
    #[error("{0}")]
    Invalid(&'static str),
    /// The range, or a part of it, is not mapped; nothing was changed.
    #[error("nothing is mapped at {0}")]
    NotMapped(VirtAddr),
    /// The protection asked for is above the maximum of the mapping; nothing was changed.
    #[error("the protection is above the mapping's maximum at {0}")]
    AboveMaximum(VirtAddr),
    /// Something is mapped in the range already, and the caller asked not to replace it.
    #[error("something is already mapped at {0}")]
    Occupied(VirtAddr),
    /// No free range of that length is left in the map.
    #[error("no free range of {0:#x} bytes is left in the map")]
    NoSpace(u64),
    /// Memory could not be had.
    #[error("out of memory")]
    NoMemory,
    /// The pager's answer.
    #[error("{0}")]
    Pager(#[from] PagerError),
    /// Dirty pages could not be written, or what was written could not be made durable. Pages are kept, dirty, and the object stays
    /// listed until a later sync succeeds or it is discarded.
    #[error("{}", write_back_words(object, *pages, error))]
    WriteBack {
        /// The object, by the name its pager gives it.
        object: String,
        /// How many pages are still dirty. None: only a sync is owed.
        pages: u64,
        /// The first error.
        error: PagerError,
    },
    /// The access that the call stands for could not be resolved.
    #[error("{0}")]
    Fault(#[from] FaultError),
    /// The object takes no more requests.
    #[error("the object takes no more requests: {0}")]
    Quarantined(String),
    /// What was asked to end is still in use.
    #[error("{0}")]
    InUse(&'static str),
    /// This machine, pager or object cannot do that.
    #[error("{0}")]
    Unsupported(&'static str),
}

fn write_back_words(object: &str, pages: u64, error: &PagerError) -> String {
    if pages == 0 {
        return words_or_nothing(format_args!(
            "no page of {object} is dirty, but a sync that failed is owed, and the object is kept until one succeeds: {error}"
        ));
    }
    words_or_nothing(format_args!(
        "{pages} dirty page(s) of {object} could not be written and are kept: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_a_sentence_has_its_figures_and_names_in_their_places() {
        let write_back = |pages| {
            let (object, error) = ("file x".into(), PagerError::bare(Cause::Errno(28)));
            Error::WriteBack { object, pages, error }.to_string()
        };
        assert_eq!(
            write_back(3),
            "3 dirty page(s) of file x could not be written and are kept: the pager reported system error 28"
        );
        assert!(write_back(0).starts_with("no page of file x is dirty, but a sync that failed is owed"));
        let index = PageIndex(7);
        let error = PagerError::bare(Cause::Io);
        assert_eq!(
            FaultError::Pager { index, error }.to_string(),
            "page 0x7 could not be read: the pager reported an input or output error"
        );
    }
}
