//! Who did what: the words that errors and log lines begin with.

use alloc::sync::Arc;
use core::fmt;

use quire_core::error::{Cause, PagerError};

use crate::named::ObjectName;

/// An operation, and the object or plugin it was called for.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// The operation's name in the table.
    pub(crate) operation: &'static str,
    /// `vnode /etc/hosts`, or `vnode` for what concerns no object.
    pub(crate) of: Arc<str>,
    /// The opening, if it concerns one: words may be those of several.
    pub(crate) object: Option<ObjectName>,
}

impl Subject {
    pub(crate) fn new(operation: &'static str, of: &Arc<str>) -> Self {
        Self {
            operation,
            of: of.clone(),
            object: None,
        }
    }

    /// Of an operation on what was opened.
    pub(crate) fn on(self, object: ObjectName) -> Self {
        Self {
            object: Some(object),
            ..self
        }
    }

    /// The error of a pager that broke its promise: it quarantines the object.
    pub(crate) fn broke(&self, what: fmt::Arguments<'_>) -> PagerError {
        PagerError::new(Cause::BrokenPromise, format_args!("{self} {what}"))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.of, self.operation)
    }
}
