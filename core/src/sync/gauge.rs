//! A count of things in progress, and a way to wait until there are none.

use super::atomic::{AtomicU32, Ordering};
use super::{park, unpark_all};

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
        super::assert_no_locks_held("waiting for work in progress");
        loop {
            let word = self.0.load(Ordering::Acquire);
            if word < ONE {
                return;
            }
            let waited = word | WAITED_FOR;
            if word == waited
                || self
                    .0
                    .compare_exchange(word, waited, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            {
                park(&self.0, waited);
            }
        }
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
}
