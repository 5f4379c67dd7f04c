//! Taking turns, in the order of arrival; and something that happens again and again, and that threads wait for.

use super::atomic::{AtomicU32, Ordering};
use super::{assert_no_locks_held, park, unpark_all};

/// A place where one thread works at a time, and the next is the one that came first. Guards no data and has no rank: it
/// is taken with no lock held.
#[derive(Debug)]
pub(crate) struct Turns {
    next: AtomicU32,
    serving: AtomicU32,
}

/// The calling thread's turn; dropping it is the next one's.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    waited: bool,
}

impl Turns {
    /// Nobody is there.
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
        }
    }

    /// Waits until everyone who came before has had a turn. No lock may be held.
    pub(crate) fn take(&self) -> Turn<'_> {
        assert_no_locks_held("waiting for a turn");
        let mine = self.next.fetch_add(1, Ordering::AcqRel);
        let mut waited = false;
        loop {
            let serving = self.serving.load(Ordering::Acquire);
            if serving == mine {
                return Turn { turns: self, waited };
            }
            waited = true;
            park(&self.serving, serving);
        }
    }
}

impl Turn<'_> {
    /// Whether somebody else was here when it came.
    #[cfg_attr(loom, allow(dead_code, reason = "the models look at the order only"))]
    pub(crate) fn waited(&self) -> bool {
        self.waited
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.serving.fetch_add(1, Ordering::AcqRel);
        unpark_all(&self.turns.serving);
    }
}

/// Something that happens again and again, counted.
#[derive(Debug)]
pub(crate) struct Tally(AtomicU32);

impl Tally {
    /// It has not happened yet.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// How often it happened, wrapping.
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// It happens, and everyone who waits is woken.
    pub(crate) fn happen(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        unpark_all(&self.0);
    }

    /// Sleeps until it has happened since it stood at `seen`. No lock may be held.
    pub(crate) fn wait_beyond(&self, seen: u32) {
        assert_no_locks_held("waiting for something to happen again");
        while self.now() == seen {
            park(&self.0, seen);
        }
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
    fn loom_one_at_a_time_and_everyone_gets_a_turn() {
        explore(|| {
            let shared = Arc::new((Turns::new(), UnsafeCell::new(0)));
            let work = |shared: &(Turns, UnsafeCell<i32>)| {
                let _turn = shared.0.take();
                // SAFETY: one thread at a time has the turn, which is what is modelled.
                shared.1.with_mut(|n| unsafe { *n += 1 });
            };
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || work(&shared))
                })
                .collect();
            work(&shared);
            for other in others {
                other.join().unwrap();
            }
            // SAFETY: the others have ended.
            shared.1.with(|n| assert_eq!(unsafe { *n }, 3));
        });
    }

    #[test]
    fn loom_who_waits_beyond_what_was_seen_is_woken() {
        explore(|| {
            let tally = Arc::new(Tally::new());
            let seen = tally.now();
            let other = {
                let tally = tally.clone();
                thread::spawn(move || tally.happen())
            };
            tally.wait_beyond(seen);
            other.join().unwrap();
        });
    }
}
