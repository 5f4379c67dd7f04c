//! Who uses an object, and whether it is being ended: one word, so that both are decided in one step.
//!
//! ```text
//! live  -> dying   somebody ends it: nobody uses it, or it is taken from its users (terminate, discard)
//! dying -> live    what was dirty could not be written: it goes on
//! dying -> dead    no pages, its pager closed; the uses that are left find nothing any more
//! ```
//! Between dying and its end nobody gains a use by looking the object up (S47); whoever tries waits for the end and looks
//! again (S18, S27, S154). Uses may be added by those who have one, and given back, at any time.

#![cfg_attr(loom, allow(dead_code, reason = "the models use a part of it"))]

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{assert_no_locks_held, park, unpark_all};

const WAITED_FOR: u32 = 1;
const DYING: u32 = 2;
const DEAD: u32 = 4;
const USE: u32 = 8;

/// The word.
#[derive(Debug)]
pub(crate) struct Life(AtomicU32);

/// Why an object is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// It is being ended, and may yet go on: wait, then look again.
    Dying,
    /// For good.
    Dead,
}

/// Why somebody may not end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// There are more uses than the caller allows.
    InUse,
    /// Somebody else is at it.
    Dying,
    /// It has ended.
    Dead,
}

impl Life {
    /// Live, with one use.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(USE))
    }

    /// Uses at the moment.
    pub(crate) fn uses(&self) -> u32 {
        self.0.load(Ordering::Acquire) / USE
    }

    pub(crate) fn is_live(&self) -> bool {
        self.0.load(Ordering::Acquire) & (DYING | DEAD) == 0
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.load(Ordering::Acquire) & DEAD != 0
    }

    /// One use more, for somebody who has one (S37).
    pub(crate) fn take(&self) {
        let was = self.0.fetch_add(USE, Ordering::AcqRel);
        debug_assert!(was >= USE, "referenced an object without having a use of it");
    }

    /// One use more, for somebody who has found the object by other means.
    pub(crate) fn try_take(&self) -> Result<(), Gone> {
        self.update(|word| match word & (DYING | DEAD) {
            0 => Ok(word + USE),
            DYING => Err(Gone::Dying),
            _ => Err(Gone::Dead),
        })
    }

    /// One use less. Tells whether it was the last.
    pub(crate) fn give_back(&self) -> bool {
        let was = self.0.fetch_sub(USE, Ordering::AcqRel);
        debug_assert!(was >= USE, "gave back a use that was not taken");
        was / USE == 1
    }

    /// Live to dying, if there are at most so many uses. [`Life::revive`] or [`Life::end`] has to follow.
    pub(crate) fn begin_dying(&self, most_uses: u32) -> Result<(), Refused> {
        self.update(|word| match word & (DYING | DEAD) {
            0 if word / USE <= most_uses => Ok(word | DYING),
            0 => Err(Refused::InUse),
            DYING => Err(Refused::Dying),
            _ => Err(Refused::Dead),
        })
    }

    /// Dying to live; wakes whoever waits.
    pub(crate) fn revive(&self) {
        let was = self.0.fetch_and(!(DYING | WAITED_FOR), Ordering::AcqRel);
        self.wake(was);
    }

    /// Dying to dead; wakes whoever waits (S45, S55).
    pub(crate) fn end(&self) {
        // Setting DEAD first leaves no moment in which it looks alive.
        self.0.fetch_or(DEAD, Ordering::AcqRel);
        let was = self.0.fetch_and(!WAITED_FOR, Ordering::AcqRel);
        self.wake(was);
    }

    /// Sleeps while it is dying. No lock may be held.
    pub(crate) fn wait_while_dying(&self) {
        assert_no_locks_held("waiting for an object's end");
        loop {
            let word = self.0.load(Ordering::Acquire);
            if word & (DYING | DEAD) != DYING {
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

    fn wake(&self, was: u32) {
        debug_assert!(was & DYING != 0, "ended an object that was not dying");
        if was & WAITED_FOR != 0 {
            unpark_all(&self.0);
        }
    }

    /// Applies `step` until it sticks or declines.
    fn update<E>(&self, step: impl Fn(u32) -> Result<u32, E>) -> Result<(), E> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            match self
                .0
                .compare_exchange_weak(word, step(word)?, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::explore;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Counter;
    use loom::thread;

    /// An object in a nutshell: a use reads `open`, the end writes it.
    struct Model {
        life: Life,
        open: UnsafeCell<bool>,
        ends: Counter,
        forgotten: Counter,
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                life: Life::new(),
                open: UnsafeCell::new(true),
                ends: Counter::new(0),
                forgotten: Counter::new(0),
            })
        }

        fn look(&self) {
            // SAFETY: a use is held; loom reports an end that comes at the same time.
            self.open.with(|open| assert!(unsafe { *open }, "used after the end"));
        }

        fn close(&self) {
            // SAFETY: dying, and nobody uses it; loom reports a use at the same time.
            self.open.with_mut(|open| unsafe { *open = false });
            self.ends.fetch_add(1, Ordering::Relaxed);
            self.end();
        }

        fn end(&self) {
            self.life.end();
            if self.life.uses() == 0 {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
        }

        /// Gives a use back; the last one ends it.
        fn detach(&self) {
            if !self.life.give_back() {
                return;
            }
            match self.life.begin_dying(0) {
                Ok(()) => self.close(),
                Err(Refused::Dead) => drop(self.forgotten.fetch_add(1, Ordering::Relaxed)),
                Err(Refused::InUse | Refused::Dying) => {}
            }
        }

        /// Finds it alive and uses it, or finds that it is gone for good: never in between.
        fn attach(&self) -> bool {
            loop {
                match self.life.try_take() {
                    Ok(()) => {
                        self.look();
                        self.detach();
                        return true;
                    }
                    Err(Gone::Dying) => self.life.wait_while_dying(),
                    Err(Gone::Dead) => return false,
                }
            }
        }
    }

    #[test]
    fn loom_s154_attach_finds_the_object_alive_or_gone_and_it_ends_once() {
        explore(|| {
            let model = Model::new();
            let other = {
                let model = model.clone();
                thread::spawn(move || model.attach())
            };
            model.look();
            model.detach();
            model.attach();
            other.join().unwrap();
            assert_eq!(model.ends.load(Ordering::Relaxed), 1);
            // Twice is as good as once: an object that is off the list stays off it.
            assert!(model.life.is_dead() && model.forgotten.load(Ordering::Relaxed) >= 1);
        });
    }

    #[test]
    fn loom_s18_whoever_waits_for_an_end_that_does_not_come_is_woken() {
        explore(|| {
            let model = Model::new();
            model.life.begin_dying(1).unwrap();
            let other = {
                let model = model.clone();
                thread::spawn(move || model.attach())
            };
            model.life.revive();
            model.detach();
            other.join().unwrap();
            assert_eq!(model.ends.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn loom_a_terminated_object_is_forgotten_by_whoever_is_last() {
        explore(|| {
            let model = Model::new();
            let user = {
                let model = model.clone();
                thread::spawn(move || model.detach())
            };
            let attacher = {
                let model = model.clone();
                thread::spawn(move || {
                    if model.life.try_take().is_ok() {
                        model.detach();
                    }
                })
            };
            if model.life.begin_dying(u32::MAX / USE).is_ok() {
                model.ends.fetch_add(1, Ordering::Relaxed);
                model.end();
            }
            model.life.wait_while_dying();
            user.join().unwrap();
            attacher.join().unwrap();
            assert_eq!(model.ends.load(Ordering::Relaxed), 1);
            assert!(model.forgotten.load(Ordering::Relaxed) >= 1);
        });
    }
}
