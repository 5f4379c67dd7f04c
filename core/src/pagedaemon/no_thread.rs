//! Where there are no threads of our own: the embedder calls [`Engine::daemon_step`].

use alloc::sync::Arc;

use super::Memory;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// There is none.
#[derive(Debug, Default)]
pub(super) struct Handle;

impl Engine {
    /// Starts no thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn start_daemon(self: &Arc<Self>) -> Result<()> {
        Err(Error::Unsupported(
            "an engine without the standard library starts no threads; call daemon_step from one of yours",
        ))
    }

    /// There is no thread to end.
    pub fn stop_daemon(&self) {
        self.memory.stop_daemon();
    }
}

impl Memory {
    /// Nothing to end.
    pub(crate) fn stop_daemon(&self) {
        let Self { thread: Handle, .. } = self;
    }
}
