//! From a plugin's status to what the engine understands.

use alloc::string::String;
use core::ffi::c_char;
use core::fmt;

use quire_abi::status::*;
use quire_core::error::{Cause, words_or_nothing};

/// What a status of an operation means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// Done.
    Ok,
    /// It failed, for this reason.
    Failed(Cause),
    /// A panic or an exception was caught at the plugin's border.
    Faulted,
    /// No operation may answer this.
    Unknown,
}

/// The meaning of what an operation answered, or of a page's status. `PEND` and `REFAULT` have one only where they are
/// allowed, and are looked at there.
pub(crate) fn meaning(status: i32) -> Meaning {
    let cause = match status {
        QUIRE_PAGER_OK => return Meaning::Ok,
        QUIRE_PAGER_FAULTED => return Meaning::Faulted,
        QUIRE_PAGER_BAD => Cause::OutOfRange,
        QUIRE_PAGER_FAIL => Cause::Absent,
        QUIRE_PAGER_ERROR => Cause::Io,
        QUIRE_PAGER_AGAIN => Cause::Again,
        QUIRE_PAGER_UNSUPPORTED => Cause::Unsupported,
        QUIRE_PAGER_INVALID => Cause::Invalid,
        QUIRE_PAGER_NOMEM => Cause::NoMemory,
        QUIRE_PAGER_CANCELLED => Cause::Cancelled,
        QUIRE_PAGER_ERRNO_MIN..=-1 => Cause::Errno(-status),
        _ => return Meaning::Unknown,
    };
    Meaning::Failed(cause)
}

/// The longest text that is taken from a plugin, in bytes.
const MAX_TEXT: usize = 1024;

/// Copies a plugin's text: at most `MAX_TEXT` bytes of it, what is not UTF-8 replaced. Empty when memory is short.
///
/// # Safety
/// `text` is NULL or zero-terminated, and does not change meanwhile.
pub(crate) unsafe fn copy_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: bytes up to the terminating zero are readable by contract, and none behind it is read.
    let len = (0..MAX_TEXT).find(|&i| unsafe { *text.add(i) } == 0);
    // SAFETY: as above: the text goes on for at least as many bytes as were looked at.
    let bytes = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), len.unwrap_or(MAX_TEXT)) };
    words_or_nothing(format_args!("{}", Lossy(bytes)))
}

struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}
