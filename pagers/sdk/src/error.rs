//! Errors as the ABI sees them: a status, and a text for people.

use std::borrow::Cow;
use std::fmt;
use std::io;

use quire_abi::{
    QUIRE_PAGER_AGAIN, QUIRE_PAGER_BAD, QUIRE_PAGER_CANCELLED, QUIRE_PAGER_ERRNO_MIN, QUIRE_PAGER_ERROR,
    QUIRE_PAGER_FAIL, QUIRE_PAGER_INVALID, QUIRE_PAGER_NOMEM, QUIRE_PAGER_UNSUPPORTED,
};

/// What an operation of a pager answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed: a status for the host, and a sentence for people.
///
/// The SDK puts the pager's name, the operation, the object's name and the place in front of the text, and hands it to
/// the host's `set_error`; the text itself need only say what went wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: i32,
    text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Said(Cow<'static, str>),
    /// Put into words when it is told.
    System {
        call: &'static str,
        errno: i32,
    },
    /// Somebody else has told the host.
    Unsaid,
}

impl Error {
    /// An input or output error without a cause that has a number: `QUIRE_PAGER_ERROR`.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_ERROR,
            text: Text::Said(text.into()),
        }
    }

    /// The place lies outside the object: `QUIRE_PAGER_BAD`.
    pub fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_BAD,
            text: Text::Said(text.into()),
        }
    }

    /// In range, but the page is not there and cannot be made: `QUIRE_PAGER_FAIL`.
    pub fn fail(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_FAIL,
            text: Text::Said(text.into()),
        }
    }

    /// Short of something just now; the same request may succeed later: `QUIRE_PAGER_AGAIN`.
    pub fn again(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_AGAIN,
            text: Text::Said(text.into()),
        }
    }

    /// An argument is wrong: `QUIRE_PAGER_INVALID`.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_INVALID,
            text: Text::Said(text.into()),
        }
    }

    /// This pager does not do that: `QUIRE_PAGER_UNSUPPORTED`.
    pub fn unsupported(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_UNSUPPORTED,
            text: Text::Said(text.into()),
        }
    }

    /// Memory could not be had: `QUIRE_PAGER_NOMEM`.
    pub fn nomem(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: QUIRE_PAGER_NOMEM,
            text: Text::Said(text.into()),
        }
    }

    /// The request was cancelled: what a request completes with whose [`Cancel::cancel`](crate::Cancel::cancel) came in
    /// time. `QUIRE_PAGER_CANCELLED`.
    pub fn cancelled(text: impl Into<Cow<'static, str>>) -> Self {
        Self::with_status(QUIRE_PAGER_CANCELLED, text)
    }

    /// The system's error number `errno` (1 to 4095) as the cause; a number outside that range becomes `QUIRE_PAGER_ERROR`.
    pub fn errno(errno: i32, text: impl Into<Cow<'static, str>>) -> Self {
        let status = if (1..=-QUIRE_PAGER_ERRNO_MIN).contains(&errno) {
            -errno
        } else {
            QUIRE_PAGER_ERROR
        };
        Self {
            status,
            text: Text::Said(text.into()),
        }
    }

    /// As [`Error::errno`], for a system call: its name, and the system's text. Making it allocates nothing.
    pub fn system(call: &'static str, errno: i32) -> Self {
        Self {
            text: Text::System { call, errno },
            ..Self::errno(errno, "")
        }
    }

    /// An error with a status of its own, from another layer. `OK` and `PEND` are no errors and become `QUIRE_PAGER_ERROR`.
    pub fn with_status(status: i32, text: impl Into<Cow<'static, str>>) -> Self {
        let is_error = status != quire_abi::QUIRE_PAGER_OK && status != quire_abi::QUIRE_PAGER_PEND;
        Self {
            status: if is_error { status } else { QUIRE_PAGER_ERROR },
            text: Text::Said(text.into()),
        }
    }

    /// What other code that speaks the ABI, such as a driver, answered, handed on as it is: also a status that no operation may answer,
    /// which is for the host to judge. It has no text: the other has told the host itself. `OK` is no error and becomes `QUIRE_PAGER_ERROR`.
    pub fn handed_on(status: i32) -> Self {
        Self {
            status: if status == quire_abi::QUIRE_PAGER_OK {
                QUIRE_PAGER_ERROR
            } else {
                status
            },
            text: Text::Unsaid,
        }
    }

    /// The same error with `what` and a colon in front of its text, if it has one.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        if self.is_unsaid() {
            return self;
        }
        self.text = Text::Said(format!("{what}: {self}").into());
        self
    }

    /// Whether somebody else has told the host why.
    pub(crate) fn is_unsaid(&self) -> bool {
        matches!(self.text, Text::Unsaid)
    }

    /// The status that the host gets: one of `QUIRE_PAGER_…`, or a negated `errno`. Never `OK`; `PEND`, and what no operation may
    /// answer, only if it was handed on.
    pub fn status(&self) -> i32 {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Text::Said(text) => f.write_str(text),
            Text::Unsaid => write!(f, "status {}", self.status),
            Text::System { call, errno } => write!(f, "{call}: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for Error {}

/// What was to be done with a guard, and was not; the guard is given back.
#[derive(Debug)]
pub struct NotDone<G> {
    /// The guard, as it was.
    pub guard: G,
    /// Why.
    pub error: Error,
}

impl<G> fmt::Display for NotDone<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<G: fmt::Debug> std::error::Error for NotDone<G> {}

/// The guard is dropped.
impl<G> From<NotDone<G>> for Error {
    fn from(not_done: NotDone<G>) -> Self {
        not_done.error
    }
}

/// Keeps the system's number and text.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::errno(errno, error.to_string()),
            None if error.kind() == io::ErrorKind::OutOfMemory => Self::nomem(error.to_string()),
            None => Self::new(error.to_string()),
        }
    }
}

/// A panic elsewhere left the data behind a lock in doubt.
impl<T> From<std::sync::PoisonError<T>> for Error {
    fn from(_: std::sync::PoisonError<T>) -> Self {
        Self::new("an earlier panic left the pager's data in doubt; close the object and open it again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_keeps_its_number_and_text() {
        let error = Error::from(io::Error::from_raw_os_error(28));
        assert_eq!(error.status(), -28);
        assert!(error.to_string().contains("No space left"), "{error}");
    }

    #[test]
    fn a_system_calls_error_names_the_call_and_keeps_number_and_text() {
        let error = Error::system("pread", 5);
        assert_eq!(error.status(), -5);
        assert!(error.to_string().starts_with("pread: Input/output error"), "{error}");
        assert!(error.context("here").to_string().starts_with("here: pread: Input"));
    }

    #[test]
    fn success_is_never_an_error_status() {
        assert_eq!(Error::with_status(0, "x").status(), QUIRE_PAGER_ERROR);
        assert_eq!(
            Error::with_status(quire_abi::QUIRE_PAGER_PEND, "x").status(),
            QUIRE_PAGER_ERROR
        );
        assert_eq!(Error::errno(0, "x").status(), QUIRE_PAGER_ERROR);
        assert_eq!(Error::errno(5000, "x").status(), QUIRE_PAGER_ERROR);
    }
}
