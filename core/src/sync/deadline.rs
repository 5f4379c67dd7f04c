//! How long a wait may take.

use core::time::Duration;

#[cfg(loom)]
use super::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::Arc;
#[cfg(all(feature = "std", not(loom)))]
use std::time::Instant;

/// A moment after which a wait is given up, by the host's monotonic clock; or none. Without the standard library there is
/// no clock, and no wait is given up.
#[cfg_attr(not(loom), derive(Copy))]
#[derive(Clone, Debug)]
pub struct Deadline {
    #[cfg(all(feature = "std", not(loom)))]
    at: Option<Instant>,
    /// In a model the clock is a thread: see [`Deadline::pass`].
    #[cfg(loom)]
    passed: Option<Arc<AtomicU32>>,
}

#[cfg(not(loom))]
impl Deadline {
    /// The wait is never given up.
    pub const NEVER: Self = Self {
        #[cfg(feature = "std")]
        at: None,
    };

    /// So long from now; nothing, or more than the clock counts to, is never.
    #[must_use]
    pub fn after(patience: Option<Duration>) -> Self {
        #[cfg(feature = "std")]
        return Self {
            at: patience.and_then(|patience| Instant::now().checked_add(patience)),
        };
        #[cfg(not(feature = "std"))]
        {
            let _ = patience;
            Self::NEVER
        }
    }

    /// At that moment.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        Self { at: Some(moment) }
    }

    /// How long it is until then, nothing if it has passed; `None` is for ever.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        #[cfg(feature = "std")]
        return self.at.map(|at| at.saturating_duration_since(Instant::now()));
        #[cfg(not(feature = "std"))]
        None
    }

    /// Whether no wait is given up by it.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.left().is_none()
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

#[cfg(loom)]
impl Deadline {
    /// The wait is never given up.
    pub(crate) const NEVER: Self = Self { passed: None };

    /// One that passes when the model says so.
    pub(crate) fn in_model() -> Self {
        Self {
            passed: Some(Arc::new(AtomicU32::new(0))),
        }
    }

    /// The time has come.
    pub(crate) fn pass(&self) {
        if let Some(passed) = &self.passed {
            passed.store(1, Ordering::SeqCst);
            super::unpark_all(passed);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// As far as a model knows: nothing, or for ever.
    pub(crate) fn left(&self) -> Option<Duration> {
        let passed = self.passed.as_ref().map(|passed| passed.load(Ordering::SeqCst));
        (passed == Some(1)).then_some(Duration::ZERO)
    }
}
