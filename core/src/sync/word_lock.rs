//! The two lock algorithms, on one word each. Without ranks and guards, so that loom can model them.

use super::atomic::{AtomicU32, Ordering};
use super::{park, unpark_all};

const LOCKED: u32 = 1;
/// Somebody is, or is about to be, parked. Whoever releases the lock clears it and wakes everyone.
const WAITING: u32 = 2;

/// Mutual exclusion. Free is 0.
#[derive(Debug)]
pub(crate) struct WordMutex(AtomicU32);

impl WordMutex {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[cold]
    fn lock_slowly(&self) {
        spin_while(|| self.0.load(Ordering::Relaxed) == LOCKED);
        // Having slept, we cannot know whether others sleep still: take the lock with WAITING set, at worst for a wake-up too many.
        while self.0.swap(LOCKED | WAITING, Ordering::Acquire) != 0 {
            park(&self.0, LOCKED | WAITING);
        }
    }

    #[inline]
    pub(crate) fn unlock(&self) {
        if self.0.swap(0, Ordering::Release) & WAITING != 0 {
            unpark_all(&self.0);
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

const READER: u32 = 4;

/// Many readers or one writer. While anyone waits, newcomers wait too, so that faults do not starve an unmap.
#[derive(Debug)]
pub(crate) struct WordRwLock(AtomicU32);

impl WordRwLock {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(crate) fn try_read(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & (LOCKED | WAITING) == 0
            && self
                .0
                .compare_exchange(word, word + READER, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    #[inline]
    pub(crate) fn read(&self) {
        if !self.try_read() {
            self.wait_until(|word| (word & (LOCKED | WAITING) == 0).then_some(word.wrapping_add(READER)));
        }
    }

    #[inline]
    pub(crate) fn unlock_read(&self) {
        if self.0.fetch_sub(READER, Ordering::Release) == READER | WAITING {
            self.wake();
        }
    }

    #[inline]
    pub(crate) fn try_write(&self) -> bool {
        self.0
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn write(&self) {
        if !self.try_write() {
            self.wait_until(|word| (word == 0).then_some(LOCKED));
        }
    }

    #[inline]
    pub(crate) fn unlock_write(&self) {
        if self.0.swap(0, Ordering::Release) & WAITING != 0 {
            unpark_all(&self.0);
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !WAITING != 0
    }

    #[cfg(not(loom))]
    pub(crate) fn is_locked_exclusive(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LOCKED != 0
    }

    /// The last reader is gone and somebody waits: nobody holds the lock, and newcomers queue behind WAITING until it is cleared.
    #[cold]
    fn wake(&self) {
        if self
            .0
            .compare_exchange(WAITING, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            unpark_all(&self.0);
        }
    }

    #[cold]
    fn wait_until(&self, next: impl Fn(u32) -> Option<u32>) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (target, take) = match next(word) {
                Some(taken) => (taken, true),
                None => (word | WAITING, false),
            };
            match self
                .0
                .compare_exchange(word, target, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if take => return,
                Ok(_) => {
                    park(&self.0, target);
                    word = self.0.load(Ordering::Relaxed);
                }
                Err(now) => word = now,
            }
        }
    }
}

/// Critical sections here are some tens of nanoseconds: looking a few times costs less than a sleep.
fn spin_while(busy: impl Fn() -> bool) {
    const LOOKS: u32 = if cfg!(loom) { 0 } else { 64 };
    for _ in 0..LOOKS {
        if !busy() {
            return;
        }
        core::hint::spin_loop();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::explore;
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn loom_mutex_excludes_and_loses_no_wake_up() {
        explore(|| {
            let shared = Arc::new((WordMutex::new(), UnsafeCell::new(0u32)));
            let add = |shared: &(WordMutex, UnsafeCell<u32>)| {
                shared.0.lock();
                // SAFETY: the lock is held; loom reports an access that is not excluded.
                shared.1.with_mut(|n| unsafe { *n += 1 });
                shared.0.unlock();
            };
            let other = {
                let shared = shared.clone();
                thread::spawn(move || add(&shared))
            };
            add(&shared);
            other.join().unwrap();
            // SAFETY: the other thread has ended.
            shared.1.with(|n| assert_eq!(unsafe { *n }, 2));
        });
    }

    #[test]
    fn loom_rwlock_excludes_writers_and_loses_no_wake_up() {
        explore(|| {
            let shared = Arc::new((WordRwLock::new(), UnsafeCell::new(0u32)));
            let writer = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.write();
                    // SAFETY: the lock is held exclusively.
                    shared.1.with_mut(|n| unsafe { *n += 1 });
                    shared.0.unlock_write();
                })
            };
            let reader = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.read();
                    // SAFETY: the lock is held shared.
                    shared.1.with(|n| assert!(unsafe { *n } <= 1));
                    shared.0.unlock_read();
                })
            };
            shared.0.read();
            // SAFETY: the lock is held shared.
            shared.1.with(|n| assert!(unsafe { *n } <= 1));
            shared.0.unlock_read();
            writer.join().unwrap();
            reader.join().unwrap();
        });
    }
}
