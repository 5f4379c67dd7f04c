//! A lock for each object, for callers who want one: the interlock of older rules (S241, S246, S247). The engine never takes it, so it may be
//! held over any call; strict checking asks for it.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Answer;
use super::checking::misuse;
use crate::object::Object;
use crate::sync::{WordMutex, assert_no_locks_held, current_thread};

/// See the module. Knows who has it.
#[derive(Debug)]
pub(crate) struct HandLock {
    word: WordMutex,
    /// 0: nobody. Only the thread that has it can find its own number here.
    owner: AtomicU64,
}

impl HandLock {
    pub(crate) fn new() -> Self {
        Self {
            word: WordMutex::new(),
            owner: AtomicU64::new(0),
        }
    }

    /// Whether the calling thread has it.
    pub(super) fn is_mine(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == current_thread()
    }

    fn lock(&self) {
        assert_no_locks_held("waiting for the lock of an object");
        self.word.lock();
        self.owner.store(current_thread(), Ordering::Relaxed);
    }

    fn unlock(&self) {
        self.owner.store(0, Ordering::Relaxed);
        self.word.unlock();
    }

    /// Lets go of it, if the calling thread has it; and takes it again when the answer is dropped.
    pub(super) fn without(&self) -> Without<'_> {
        let held = self.is_mine();
        if held {
            self.unlock();
        }
        Without { lock: self, held }
    }
}

/// The lock was let go of, if it was held.
#[derive(Debug)]
pub(super) struct Without<'a> {
    lock: &'a HandLock,
    held: bool,
}

impl Without<'_> {
    /// It is not taken again.
    pub(super) fn for_good(mut self) {
        self.held = false;
    }
}

impl Drop for Without<'_> {
    fn drop(&mut self) {
        if self.held {
            self.lock.lock();
        }
    }
}

const HELD: &str = "this thread has the object's lock already, and would wait for itself; unlock it first";

/// Takes the lock of an object. Waits for whoever has it; no lock of the engine is involved.
///
/// # Errors
/// Misuse, if the calling thread has it.
pub fn lock_object(object: &Object) -> Answer {
    if object.hand_lock.is_mine() {
        return Err(misuse(HELD));
    }
    object.hand_lock.lock();
    Ok(())
}

/// Takes the lock of an object, if nobody has it. Does not block.
///
/// # Errors
/// As [`lock_object`].
pub fn try_lock_object(object: &Object) -> Answer<bool> {
    let lock = &object.hand_lock;
    if lock.is_mine() {
        return Err(misuse(HELD));
    }
    let taken = lock.word.try_lock();
    if taken {
        lock.owner.store(current_thread(), Ordering::Relaxed);
    }
    Ok(taken)
}

/// Lets go of the lock of an object.
///
/// # Errors
/// Misuse, unless the calling thread has it.
pub fn unlock_object(object: &Object) -> Answer {
    if !object.hand_lock.is_mine() {
        return Err(misuse(
            "the object's lock is not held by this thread; only the thread that locked it may unlock it",
        ));
    }
    object.hand_lock.unlock();
    Ok(())
}
