//! A count of things in progress, and a way to wait until there are none.

use super::atomic::{AtomicU32, Ordering};
use super::{Deadline, park_until, unpark_all};

const WAITED_FOR: u32 = 1;
const ONE: u32 = 2;

/// How many things are in progress: paging of an object, requests of a plugin (S23, S52).
#[derive(Debug)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// Nothing is in progress.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// One more.
    pub fn rise(&self) {
        self.0.fetch_add(ONE, Ordering::AcqRel);
    }

    /// One less; the last one wakes whoever waits.
    pub fn fall(&self) {
        let was = self.0.fetch_sub(ONE, Ordering::AcqRel);
        debug_assert!(was >= ONE, "a gauge fell below nothing");
        if was == ONE | WAITED_FOR {
            self.0.fetch_and(!WAITED_FOR, Ordering::AcqRel);
            unpark_all(&self.0);
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire) / ONE
    }

    /// Sleeps until there are none. What keeps new ones from starting is the caller's business. No lock may be held.
    pub fn wait_for_none(&self) {
        self.wait_for_none_with(|| {});
    }

    /// As [`Gauge::wait_for_none`], and calls `help` before each sleep: what it finds to do by then it does, and who brings
    /// something later [nudges](Gauge::nudge). No lock may be held.
    pub fn wait_for_none_with(&self, help: impl Fn()) {
        while !self.wait_once(&Deadline::NEVER, &help) {}
    }

    /// As [`Gauge::wait_for_none`], until a deadline: whether there are none. No lock may be held.
    pub fn wait_for_none_until(&self, deadline: &Deadline) -> bool {
        loop {
            if self.wait_once(deadline, &|| {}) {
                return true;
            }
            if deadline.is_over() {
                return false;
            }
        }
    }

    /// There is something to do for whoever [waits and helps](Gauge::wait_for_none_with). To be told after it was put where
    /// the helper looks.
    pub fn nudge(&self) {
        if self.0.fetch_and(!WAITED_FOR, Ordering::AcqRel) & WAITED_FOR != 0 {
            unpark_all(&self.0);
        }
    }

    /// Sleeps at most once, and tells whether there are none.
    fn wait_once(&self, deadline: &Deadline, help: &impl Fn()) -> bool {
        super::assert_no_locks_held("waiting for work in progress");
        let word = self.0.load(Ordering::Acquire);
        if word < ONE {
            return true;
        }
        let waited = word | WAITED_FOR;
        if word == waited
            || self
                .0
                .compare_exchange(word, waited, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            // Announced, so that a nudge after this look finds somebody to wake.
            help();
            park_until(&self.0, waited, deadline);
        }
        false
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn loom_the_last_fall_wakes_the_waiter() {
        loom::model(|| {
            let gauge = Arc::new(Gauge::new());
            gauge.rise();
            gauge.rise();
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let gauge = gauge.clone();
                    thread::spawn(move || gauge.fall())
                })
                .collect();
            gauge.wait_for_none();
            assert_eq!(gauge.count(), 0);
            for other in others {
                other.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_whoever_waits_and_helps_finds_what_comes_later() {
        loom::model(|| {
            let shared = Arc::new((Gauge::new(), AtomicU32::new(0)));
            shared.0.rise();
            let other = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.swap(1, Ordering::SeqCst);
                    shared.0.nudge();
                })
            };
            // Only the helper lowers the gauge: without the nudge this would sleep for ever.
            shared.0.wait_for_none_with(|| {
                if shared.1.swap(0, Ordering::SeqCst) == 1 {
                    shared.0.fall();
                }
            });
            other.join().unwrap();
        });
    }
}
