//! The page daemon's thread, on hosted machines.

extern crate std;

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle, current};

use super::{Bell, Memory};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sync::FrameLock;

/// The thread, if there is one.
#[derive(Debug)]
pub(super) struct Handle(FrameLock<Option<JoinHandle<()>>>);

impl Default for Handle {
    fn default() -> Self {
        Self(FrameLock::new(None))
    }
}

impl Engine {
    /// Starts the page daemon's thread, also again after [`Engine::shut_down`]; if there is one, that is enough. It keeps no
    /// engine alive.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when the system gives no thread.
    pub fn start_daemon(self: &Arc<Self>) -> Result<()> {
        let mut place = self.memory.thread.0.lock();
        if place.is_some() {
            return Ok(());
        }
        let (engine, bell) = (Arc::downgrade(self), self.memory.bell.clone());
        self.memory.bell.heard.store(true, Ordering::Release);
        let started = Builder::new()
            .name(String::from("quire page daemon"))
            .spawn(move || serve(&engine, &bell));
        match started {
            Ok(thread) => *place = Some(thread),
            Err(_) => {
                self.memory.bell.heard.store(false, Ordering::Release);
                return Err(Error::NoMemory);
            }
        }
        Ok(())
    }

    /// Ends the page daemon's thread, after the step it is in, and waits for it; if there is none, nothing. It can be started again.
    /// May block for as long as pagers do; no lock may be held.
    pub fn stop_daemon(&self) {
        self.memory.stop_daemon();
    }
}

fn serve(engine: &Weak<Engine>, bell: &Bell) {
    while bell.heard.load(Ordering::Acquire) {
        // Before the step, so that a ring during it leads to another one.
        let seen = bell.rung.now();
        match engine.upgrade() {
            Some(engine) => engine.daemon_step(),
            None => return,
        };
        bell.rung.wait_beyond(seen);
    }
}

impl Memory {
    /// Ends the thread, after the step it is in, and waits for it. No lock may be held.
    pub(crate) fn stop_daemon(&self) {
        self.bell.heard.store(false, Ordering::Release);
        self.bell.rung.happen();
        let thread = self.thread.0.lock().take();
        // The daemon itself may be the last to let go of an engine; it does not wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != current().id()) {
            // A panic there has been reported, and left nothing locked.
            let _ = thread.join();
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop_daemon();
    }
}
