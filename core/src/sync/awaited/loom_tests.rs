use super::super::explore;
use super::*;
use loom::sync::Arc;
use loom::thread;

/// A request with a pager that does what it is asked, and with the counts that must come out right.
struct Request {
    awaited: Awaited,
    /// The answer: 0 none yet, 1 moved, 2 cancelled. Only the first counts, as under the lock of a request.
    answer: AtomicU32,
    cancels: AtomicU32,
    /// The request has been taken by whoever settles it.
    settled: AtomicU32,
    /// Somebody was called to settle it.
    called: AtomicU32,
}

impl Request {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            awaited: Awaited::new(),
            answer: AtomicU32::new(0),
            cancels: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            called: AtomicU32::new(0),
        })
    }

    fn complete(&self, answer: u32) {
        let first = self
            .answer
            .compare_exchange(0, answer, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if first && self.awaited.complete() {
            self.called.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The pager's cancel: it completes what it still has.
    fn cancel(&self) {
        self.cancels.fetch_add(1, Ordering::AcqRel);
        self.complete(2);
    }

    fn settle(&self) {
        if self.awaited.is_complete() {
            assert_ne!(self.answer.load(Ordering::Acquire), 0, "complete without an answer");
            self.settled.swap(1, Ordering::AcqRel);
        }
    }

    /// One who arrived waits, and gives up in the end.
    fn wait_or_give_up(&self, deadline: &Deadline) {
        if self.awaited.wait_until(deadline) {
            return self.settle();
        }
        match self.awaited.leave() {
            Left::Awaited => {}
            Left::Complete => self.settle(),
            Left::Alone => {
                if self.awaited.cancel() {
                    self.cancel();
                }
            }
        }
    }

    /// Everything has come to rest.
    fn check(&self) {
        assert!(self.awaited.is_complete());
        assert!(self.cancels.load(Ordering::Acquire) <= 1, "asked to cancel twice");
        let settled = self.settled.load(Ordering::Acquire) == 1 || self.called.load(Ordering::Acquire) > 0;
        assert!(settled, "nobody settles the request");
    }
}

#[test]
fn loom_completion_against_a_waiter_who_gives_up_and_cancels() {
    explore(|| {
        let (request, deadline) = (Request::new(), Deadline::in_model());
        request.awaited.arrive();
        assert!(!request.awaited.pends());
        let pager = {
            let request = request.clone();
            thread::spawn(move || request.complete(1))
        };
        let clock = {
            let deadline = deadline.clone();
            thread::spawn(move || deadline.pass())
        };
        request.wait_or_give_up(&deadline);
        pager.join().unwrap();
        clock.join().unwrap();
        request.check();
    });
}

#[test]
fn loom_a_request_that_ends_only_when_it_is_cancelled_ends_when_its_waiters_give_up() {
    explore(|| {
        let (request, deadline) = (Request::new(), Deadline::in_model());
        request.awaited.arrive();
        request.awaited.arrive();
        assert!(!request.awaited.pends());
        let other = {
            let (request, deadline) = (request.clone(), deadline.clone());
            thread::spawn(move || request.wait_or_give_up(&deadline))
        };
        deadline.pass();
        request.wait_or_give_up(&deadline);
        other.join().unwrap();
        assert_eq!(request.cancels.load(Ordering::Acquire), 1);
        request.check();
    });
}

#[test]
fn loom_a_cancel_before_the_pager_has_answered_reaches_it_once_it_has() {
    explore(|| {
        let request = Request::new();
        request.awaited.arrive();
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let request = request.clone();
                thread::spawn(move || {
                    if request.awaited.cancel() {
                        request.cancel();
                    }
                })
            })
            .collect();
        if request.awaited.pends() {
            request.cancel();
        }
        assert!(request.awaited.wait_until(&Deadline::NEVER));
        request.settle();
        for canceller in cancellers {
            canceller.join().unwrap();
        }
        assert_eq!(request.cancels.load(Ordering::Acquire), 1);
        request.check();
    });
}

#[test]
fn loom_a_cancel_after_completion_does_not_reach_the_pager_and_one_meanwhile_at_most_once() {
    explore(|| {
        let request = Request::new();
        request.awaited.arrive();
        let pager = {
            let request = request.clone();
            thread::spawn(move || request.complete(1))
        };
        let canceller = {
            let request = request.clone();
            thread::spawn(move || {
                if request.awaited.cancel() {
                    request.cancel();
                }
            })
        };
        if request.awaited.pends() {
            request.cancel();
        }
        assert!(request.awaited.wait_until(&Deadline::NEVER));
        assert!(!request.awaited.cancel());
        request.settle();
        pager.join().unwrap();
        canceller.join().unwrap();
        request.check();
    });
}
