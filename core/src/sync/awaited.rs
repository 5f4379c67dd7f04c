//! What is known of a request under way, apart from its answer: who waits for it, whether its pager left it pending, and
//! whether its end was asked for.
//!
//! All of it is one word, so that a completion, a waiter who gives up and a cancel that meet find out about each other in
//! some order, whatever it is:
//!
//! - the pager is asked to cancel at most once, never before it has answered that the request pends, and not after completion;
//! - of those who wait, every one sees the completion or has given up;
//! - of the last one who gives up and the completion, whichever is second knows that nobody else will settle the request.

use super::atomic::{AtomicU32, Ordering};
use super::{Deadline, park_until, unpark_all};

/// The answer is recorded.
const COMPLETE: u32 = 1;
/// It may never come; nobody waits any more.
const DISMISSED: u32 = 2;
/// Somebody sleeps.
const SLEEPERS: u32 = 4;
/// The pager has answered that it pends.
const PENDS: u32 = 8;
/// Its end was asked for.
const UNWANTED: u32 = 16;
/// Everyone who waited for it has given up, or nobody ever did.
const UNATTENDED: u32 = 32;
/// One who waits and may give up.
const WAITER: u32 = 64;

/// The word of a request.
#[derive(Debug)]
pub(crate) struct Awaited(AtomicU32);

/// How somebody who gave up leaves a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Others wait for it.
    Awaited,
    /// Nobody does: whoever completes it calls somebody.
    Alone,
    /// It has completed meanwhile.
    Complete,
}

impl Awaited {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Nobody will wait for it: whoever completes it calls somebody. To be said before the pager is asked.
    pub(crate) fn unattended(&self) {
        self.0.fetch_or(UNATTENDED, Ordering::AcqRel);
    }

    /// The answer is recorded; everyone who waits is woken. Whether nobody waits for it, so that somebody is to be called.
    pub(crate) fn complete(&self) -> bool {
        self.wake_with(COMPLETE) & UNATTENDED != 0
    }

    /// Wakes everyone who waits, although it may never complete.
    pub(crate) fn dismiss(&self) {
        self.wake_with(DISMISSED);
    }

    fn wake_with(&self, what: u32) -> u32 {
        let was = self.0.fetch_or(what, Ordering::AcqRel);
        if was & SLEEPERS != 0 {
            unpark_all(&self.0);
        }
        was
    }

    /// Whether the answer is recorded.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.load(Ordering::Acquire) & COMPLETE != 0
    }

    /// Sleeps until it has completed or was dismissed; false if a deadline passed first. No lock may be held.
    pub(crate) fn wait_until(&self, deadline: &Deadline) -> bool {
        super::assert_no_locks_held("waiting for a request");
        loop {
            let word = self.0.load(Ordering::Acquire);
            if word & (COMPLETE | DISMISSED) != 0 {
                return true;
            }
            if deadline.is_over() {
                return false;
            }
            let announced = word | SLEEPERS;
            if word == announced
                || self
                    .0
                    .compare_exchange(word, announced, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            {
                park_until(&self.0, announced, deadline);
            }
        }
    }

    /// One more waits for it, and may [give up](Awaited::leave).
    pub(crate) fn arrive(&self) {
        self.0.fetch_add(WAITER, Ordering::AcqRel);
    }

    /// One who arrived gives up.
    pub(crate) fn leave(&self) -> Left {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            debug_assert!(word >= WAITER, "gave up without having waited");
            if word & (COMPLETE | DISMISSED) != 0 {
                return Left::Complete;
            }
            let fewer = word - WAITER;
            let (next, left) = if fewer < WAITER {
                (fewer | UNATTENDED, Left::Alone)
            } else {
                (fewer, Left::Awaited)
            };
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return left,
                Err(now) => word = now,
            }
        }
    }

    /// The pager has answered that it pends. Whether it is to be asked to cancel, because somebody wanted that before.
    pub(crate) fn pends(&self) -> bool {
        self.0.fetch_or(PENDS, Ordering::AcqRel) & (UNWANTED | COMPLETE) == UNWANTED
    }

    /// Its end is wanted. Whether the pager is to be asked now: not if it has been, has completed it, or has not answered
    /// yet, when whoever hears the answer asks.
    pub(crate) fn cancel(&self) -> bool {
        self.0.fetch_or(UNWANTED, Ordering::AcqRel) & (UNWANTED | PENDS | COMPLETE) == PENDS
    }

    /// The pager could not be asked after all; somebody may try again.
    pub(crate) fn not_asked(&self) {
        self.0.fetch_and(!UNWANTED, Ordering::AcqRel);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
