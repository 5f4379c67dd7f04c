//! Where an engine says what somebody should look at.

use alloc::sync::Arc;
use core::fmt;

/// Takes lines of text, each a sentence without a line end. Called on any thread, with no lock of the engine's held; may
/// block, and then keeps the watchdog from its work.
#[derive(Clone)]
pub struct Log(Arc<dyn Fn(&str) + Send + Sync>);

impl Log {
    /// A log that hands each line to `take`.
    #[must_use]
    pub fn new(take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn line(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
