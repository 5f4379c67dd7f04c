//! Something that happens once, and that threads wait for.

use super::atomic::{AtomicU32, Ordering};
use super::{park, unpark_all};

const WAITED_FOR: u32 = 1;
const HAPPENED: u32 = 2;

/// Something that happens once: a request completes. Waiters sleep; everything the party that set it wrote before is visible to them.
#[derive(Debug)]
pub struct Event(AtomicU32);

impl Event {
    /// An event that has not happened.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether it has happened.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Acquire) & HAPPENED != 0
    }

    /// It happens, and everyone who waits is woken. A second time changes nothing.
    pub fn set(&self) {
        if self.0.swap(HAPPENED, Ordering::AcqRel) & WAITED_FOR != 0 {
            unpark_all(&self.0);
        }
    }

    /// Sleeps until it has happened. May block; no lock may be held.
    pub fn wait(&self) {
        super::assert_no_locks_held("waiting for an event");
        loop {
            match self
                .0
                .compare_exchange(0, WAITED_FOR, Ordering::AcqRel, Ordering::Acquire)
            {
                Err(HAPPENED) => return,
                Ok(_) | Err(_) => park(&self.0, WAITED_FOR),
            }
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}
