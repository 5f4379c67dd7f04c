//! One call at a time into code that is not ours.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use super::word_lock::WordMutex;

/// Serialises calls into a pager. Not one of the engine's locks: it has no rank, because it is held while foreign code
/// runs, and that code may come back into the engine. It is taken with no lock held, and guards no data of the engine.
#[derive(Debug)]
pub struct CallLock {
    word: WordMutex,
    /// The thread that is in; 0: nobody. Only that thread can find its own number here.
    owner: AtomicU64,
}

/// The calling thread is in; dropping this lets the next one in. Stays on its thread.
#[derive(Debug)]
pub struct CallGuard<'a> {
    lock: &'a CallLock,
    not_send: PhantomData<*mut ()>,
}

impl CallLock {
    /// Nobody is in.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: WordMutex::new(),
            owner: AtomicU64::new(0),
        }
    }

    /// Waits until nobody is in, and enters. Nothing if the calling thread is in already: it would wait for itself. May
    /// block for as long as the foreign code does; no lock may be held.
    #[must_use]
    pub fn enter(&self) -> Option<CallGuard<'_>> {
        super::assert_no_locks_held("waiting for a call into a pager");
        let me = super::current_thread();
        if self.owner.load(Ordering::Relaxed) == me {
            return None;
        }
        self.word.lock();
        self.owner.store(me, Ordering::Relaxed);
        Some(CallGuard {
            lock: self,
            not_send: PhantomData,
        })
    }
}

impl Default for CallLock {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.lock.owner.store(0, Ordering::Relaxed);
        self.lock.word.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_in_is_told_so_and_does_not_wait_for_itself() {
        let lock = CallLock::new();
        let first = lock.enter();
        assert!(first.is_some());
        assert!(lock.enter().is_none());
        drop(first);
        assert!(lock.enter().is_some());
    }
}
