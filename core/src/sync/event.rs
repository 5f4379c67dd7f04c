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

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::explore;
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn loom_whoever_waits_wakes_and_sees_what_was_written_before() {
        explore(|| {
            let shared = Arc::new((Event::new(), UnsafeCell::new(0)));
            let waiter = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.wait();
                    // SAFETY: the event has happened, and nobody writes after that.
                    shared.1.with(|n| assert_eq!(unsafe { *n }, 7));
                })
            };
            // SAFETY: nobody reads before the event has happened.
            shared.1.with_mut(|n| unsafe { *n = 7 });
            shared.0.set();
            shared.0.wait();
            waiter.join().unwrap();
        });
    }

    #[test]
    fn loom_everyone_who_waits_is_woken_by_whichever_setter_is_first() {
        explore(|| {
            let event = Arc::new(Event::new());
            let others: Vec<_> = [Event::wait, Event::set]
                .into_iter()
                .map(|other| {
                    let event = event.clone();
                    thread::spawn(move || other(&event))
                })
                .collect();
            event.wait();
            event.set();
            assert!(event.happened());
            for other in others {
                other.join().unwrap();
            }
        });
    }
}
