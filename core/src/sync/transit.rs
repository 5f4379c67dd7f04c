//! Work under way whose end is worth waiting for: puts, whose pages can be taken once they are clean.

use super::atomic::{AtomicU32, Ordering};
use super::{park, unpark_all};

const WAITED_FOR: u32 = 1;
const ONE: u32 = 2;

/// How much is under way, and how often something ended well.
#[derive(Debug)]
pub(crate) struct Transit {
    under_way: AtomicU32,
    successes: AtomicU32,
    /// Counts ends, above the bit that says somebody waits for one.
    ends: AtomicU32,
}

/// How often something had ended well at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Successes(u32);

impl Transit {
    pub(crate) fn new() -> Self {
        Self {
            under_way: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            ends: AtomicU32::new(0),
        }
    }

    /// One begins.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// One ends; everyone who waits for that is woken.
    pub(crate) fn end(&self, well: bool) {
        if well {
            self.successes.fetch_add(1, Ordering::AcqRel);
        }
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        if self.ends.fetch_add(ONE, Ordering::AcqRel) & WAITED_FOR != 0 {
            self.ends.fetch_and(!WAITED_FOR, Ordering::AcqRel);
            unpark_all(&self.ends);
        }
    }

    /// To be asked before looking at what might have ended.
    pub(crate) fn successes(&self) -> Successes {
        Successes(self.successes.load(Ordering::Acquire))
    }

    /// Sleeps until something has ended well since `seen`; false when nothing has and nothing is under way any more. No lock may be held.
    pub(crate) fn wait_since(&self, seen: Successes) -> bool {
        super::assert_no_locks_held("waiting for a put");
        loop {
            // Read first: an end after this keeps `park` from sleeping.
            let ends = self.ends.load(Ordering::Acquire);
            // Read before the successes: what was under way then and is not seen as a success has failed.
            let under_way = self.under_way.load(Ordering::Acquire);
            if self.successes() != seen {
                return true;
            }
            if under_way == 0 {
                return false;
            }
            let waited = ends | WAITED_FOR;
            if ends == waited
                || self
                    .ends
                    .compare_exchange(ends, waited, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            {
                park(&self.ends, waited);
            }
        }
    }
}

/// Whether the calling thread runs a pager's operation: what it waits for may then be itself. Without the standard library
/// nobody can tell, and everybody is taken for such a thread.
#[cfg(all(feature = "std", not(loom)))]
pub(crate) mod in_pager {
    use core::cell::Cell;

    std::thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }

    /// The calling thread runs a pager's operation as long as this lives.
    #[derive(Debug)]
    pub(crate) struct InPager(core::marker::PhantomData<*mut ()>);

    pub(crate) fn enter() -> InPager {
        DEPTH.set(DEPTH.get() + 1);
        InPager(core::marker::PhantomData)
    }

    impl Drop for InPager {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }

    pub(crate) fn is_in() -> bool {
        DEPTH.get() > 0
    }
}

#[cfg(not(any(all(feature = "std", not(loom)), loom)))]
pub(crate) mod in_pager {
    /// The calling thread runs a pager's operation as long as this lives.
    #[derive(Debug)]
    pub(crate) struct InPager;

    pub(crate) fn enter() -> InPager {
        InPager
    }

    pub(crate) fn is_in() -> bool {
        true
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn loom_the_end_of_what_is_under_way_is_not_missed() {
        crate::sync::explore(|| {
            let transit = Arc::new(Transit::new());
            transit.begin();
            transit.begin();
            let seen = transit.successes();
            let others: Vec<_> = [true, false]
                .map(|well| {
                    let transit = transit.clone();
                    thread::spawn(move || transit.end(well))
                })
                .into();
            assert!(transit.wait_since(seen));
            for other in others {
                other.join().unwrap();
            }
            assert!(!transit.wait_since(transit.successes()));
        });
    }
}
