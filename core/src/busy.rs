//! The busy word: who may change a page's identity, and who may rely on it (rows S239 to S250).
//!
//! # Contract
//!
//! A page is unbusied, exclusively busied by one party, or shared busied by one or more; never a mixture (S239).
//! Exclusive busy is the right to change the page: to fill it, write it out, free it, move it (S240). Shared busy keeps
//! others from doing so. The word is atomic and needs no lock, neither to busy nor to unbusy; in exchange, whoever slept
//! checks the page's identity anew, because it may have been freed and used again (S241 and S246 speak of the older
//! rule, under which the object's lock was the interlock).
//!
//! # States
//!
//! ```text
//! freed        -> exclusive       claim            a page is taken from the pool
//! unbusied     -> exclusive       try_exclusive
//! unbusied     -> shared(1)       try_shared
//! shared(n)    -> shared(n+1)     try_shared
//! shared(n)    -> shared(n-1)     release_shared   the last one wakes all sleepers (S249)
//! shared(1)    -> exclusive       try_upgrade
//! exclusive    -> shared(1)       downgrade        never through unbusied; wakes all sleepers (S245)
//! exclusive    -> unbusied        release_exclusive  wakes all sleepers
//! exclusive    -> abandoned       dismiss_sleepers  wakes all sleepers; exclusive, but nobody sleeps on it any more
//! exclusive    -> freed           free             wakes all sleepers, who find another identity or none
//! ```
//!
//! # By hand
//!
//! C callers and drivers busy pages without a guard ([`page_services`](crate::page_services)). What they took is told apart from
//! what the engine took, in the word itself, so that nothing they do can end a right of the engine's: each step of theirs
//! names the state it goes out from, and does nothing in another (`by_hand`).

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Deadline, assert_no_locks_held, park_until, unpark_all};

const SHARED: u32 = 1;
const EXCLUSIVE: u32 = 2;
const WAITERS: u32 = 4;
/// Nobody sleeps on the page any more, though it is exclusively busied.
const ABANDONED: u32 = 8;
/// With `EXCLUSIVE`: it was taken by hand.
const HAND: u32 = 16;
/// One of the engine's sharers, of whom 16 bits keep count. With `EXCLUSIVE`, a move: see `rouse`.
const SHARER: u32 = 32;
/// One who shares by hand: the 11 bits above.
const HAND_SHARER: u32 = 1 << 21;
/// As many of the engine's sharers as can be counted: the next one is declined, and comes again.
const MOST_SHARERS: u32 = HAND_SHARER - SHARER;

/// Neither mode: nobody can busy a page that is in no object and in the pool.
const FREED: u32 = 0;
const UNBUSIED: u32 = SHARED;

/// Which right a sleeper is after: decides what it sleeps for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusyMode {
    /// Wants the page alone: sleeps while it is busied in any mode.
    Exclusive,
    /// Wants to share it: sleeps while it is exclusively busied.
    Shared,
}

/// The busy word of a page.
#[derive(Debug)]
pub struct BusyWord {
    word: AtomicU32,
    /// The thread that holds it exclusively, 0 otherwise. For people and assertions only (S144, D12).
    #[cfg(all(debug_assertions, not(loom)))]
    owner: core::sync::atomic::AtomicU64,
}

impl BusyWord {
    /// The word of a freed page.
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(FREED),
            #[cfg(all(debug_assertions, not(loom)))]
            owner: core::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Freed to exclusive. The caller took the page from the pool, so nobody contends for it.
    ///
    /// # Panics
    /// If the page is not freed: the pool would have given it out twice.
    pub fn claim(&self) {
        let was = self.word.swap(EXCLUSIVE, Ordering::Acquire);
        assert!(was == FREED, "claimed a page whose busy word is {was:#x}");
        self.record_owner();
    }

    /// Takes the page alone if it is unbusied (S243). Never blocks.
    #[inline]
    #[must_use]
    pub fn try_exclusive(&self) -> bool {
        let taken = self
            .word
            .compare_exchange(UNBUSIED, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.record_owner();
        }
        taken
    }

    /// Joins the sharers if the page is unbusied or shared (S243). Never blocks.
    #[inline]
    #[must_use]
    pub fn try_shared(&self) -> bool {
        self.update(|word| (word & SHARED != 0 && word & MOST_SHARERS != MOST_SHARERS).then_some(word + SHARER))
            .is_some()
    }

    /// Exclusive to unbusied; wakes all sleepers.
    ///
    /// # Panics
    /// If the page is not exclusively busied (S242).
    #[inline]
    pub fn release_exclusive(&self) {
        self.leave_exclusive(UNBUSIED, "release_exclusive");
    }

    /// Exclusive to freed; wakes all sleepers, who will find that the identity they waited for is gone.
    ///
    /// # Panics
    /// If the page is not exclusively busied (S250).
    pub fn free(&self) {
        self.leave_exclusive(FREED, "free");
    }

    /// Exclusive to shared by the caller alone, without a moment in between; sleepers who want to share can proceed (S245).
    ///
    /// # Panics
    /// If the page is not exclusively busied.
    pub fn downgrade(&self) {
        self.leave_exclusive(SHARED + SHARER, "downgrade");
    }

    /// Shared by the caller alone to exclusive; fails while there are other sharers (F8).
    ///
    /// # Panics
    /// If the page is not shared busied.
    #[must_use]
    pub fn try_upgrade(&self) -> bool {
        let upgraded = self
            .update(|word| {
                assert!(
                    word & SHARED != 0 && word & MOST_SHARERS != 0,
                    "try_upgrade of a page that is not shared busied: {word:#x}"
                );
                (word & !WAITERS == SHARED + SHARER).then_some(EXCLUSIVE | word & WAITERS)
            })
            .is_some();
        if upgraded {
            self.record_owner();
        }
        upgraded
    }

    /// One sharer less; the last one wakes all sleepers (S249).
    ///
    /// # Panics
    /// If the page is not shared busied (S242).
    #[inline]
    pub fn release_shared(&self) {
        let was = self.update(|word| {
            assert!(
                word & SHARED != 0 && word & MOST_SHARERS != 0,
                "release_shared of a page that is not shared busied: {word:#x}"
            );
            Some(without_sharer(word, SHARER))
        });
        if was == Some(SHARED + SHARER + WAITERS) {
            unpark_all(&self.word);
        }
    }

    /// Sleeps once if the page is busied against `mode`, and tells whether it slept (S247). The page's identity has to be
    /// checked afterwards. May block; no lock may be held. Nobody sleeps on a page whose sleepers were dismissed.
    pub fn sleep(&self, mode: BusyMode) -> bool {
        self.sleep_if(mode, || true, &Deadline::NEVER)
    }

    /// As [`BusyWord::sleep`], but only if `still` holds once the sleeper is announced: that the page is the one that was looked
    /// up. If it is, whoever takes its identity away later wakes the sleeper; if it is not, what it became is none of the
    /// sleeper's business. Sleeps no longer than until the deadline.
    pub(crate) fn sleep_if(&self, mode: BusyMode, still: impl Fn() -> bool, deadline: &Deadline) -> bool {
        assert_no_locks_held("waiting for a busy page");
        let announced =
            self.update(|word| (word & ABANDONED == 0 && busied_against(word, mode)).then_some(word | WAITERS));
        match announced {
            Some(word) if still() => {
                park_until(&self.word, word | WAITERS, deadline);
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Wakes all sleepers for good, though the page stays exclusively busied: whoever has it may never let go. Until it is
    /// released nobody sleeps on it again, so that one who is about to does not miss this. Why they need not wait is to be
    /// found elsewhere, and to be put there before.
    pub(crate) fn dismiss_sleepers(&self) {
        self.assert_exclusive();
        if self
            .update(|word| Some((word | ABANDONED) & !WAITERS))
            .is_some_and(|was| was & WAITERS != 0)
        {
            unpark_all(&self.word);
        }
    }

    /// Whether the page is busied in either mode (S244). By anyone: D12.
    #[must_use]
    pub fn is_busied(&self) -> bool {
        busied_against(self.word.load(Ordering::Acquire), BusyMode::Exclusive)
    }

    /// Whether the page is exclusively busied (S244).
    #[inline]
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.word.load(Ordering::Acquire) & EXCLUSIVE != 0
    }

    /// Whether the page is shared busied (S244).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & SHARED != 0 && word >= SHARER
    }

    /// Panics, in checking builds, unless the page is exclusively busied (S248).
    pub fn assert_exclusive(&self) {
        debug_assert!(self.is_exclusive(), "the page is not exclusively busied");
    }

    /// Panics, in checking builds, unless the page is shared busied (S248).
    pub fn assert_shared(&self) {
        debug_assert!(self.is_shared(), "the page is not shared busied");
    }

    /// Panics, in checking builds, if the page is busied (S248).
    pub fn assert_unbusied(&self) {
        debug_assert!(!self.is_busied(), "the page is busied");
    }

    /// The thread that took the page exclusively, as recorded by builds with debug assertions.
    #[must_use]
    pub fn owner(&self) -> Option<u64> {
        #[cfg(all(debug_assertions, not(loom)))]
        {
            let owner = self.owner.load(Ordering::Relaxed);
            (owner != 0).then_some(owner)
        }
        #[cfg(not(all(debug_assertions, not(loom))))]
        None
    }

    #[inline]
    fn leave_exclusive(&self, to: u32, doing: &str) {
        // Only its holder ends exclusive busy, so what holds here holds at the swap. A wrong caller changes nothing.
        let word = self.word.load(Ordering::Relaxed);
        assert!(
            word & (EXCLUSIVE | HAND) == EXCLUSIVE,
            "{doing} of a page that is not exclusively busied: {word:#x}"
        );
        self.forget_owner();
        let was = self.word.swap(to, Ordering::AcqRel);
        if was & WAITERS != 0 {
            unpark_all(&self.word);
        }
    }

    /// Applies `step` until it sticks; returns the word before, or nothing when `step` declined. Either way the caller sees
    /// what was done before the word came to be so: who finds a page unbusied finds its new identity, too.
    #[inline]
    fn update(&self, step: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match self
                .word
                .compare_exchange_weak(word, step(word)?, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(was) => return Some(was),
                Err(now) => word = now,
            }
        }
    }

    #[inline]
    fn record_owner(&self) {
        #[cfg(all(debug_assertions, not(loom)))]
        self.owner.store(crate::sync::current_thread(), Ordering::Relaxed);
    }

    #[inline]
    fn forget_owner(&self) {
        #[cfg(all(debug_assertions, not(loom)))]
        self.owner.store(0, Ordering::Relaxed);
    }
}

impl Default for BusyWord {
    fn default() -> Self {
        Self::new()
    }
}

/// One sharer less; nobody sleeps any more once there is none.
#[inline]
fn without_sharer(word: u32, sharer: u32) -> u32 {
    if word & !WAITERS == SHARED + sharer {
        UNBUSIED
    } else {
        word - sharer
    }
}

fn busied_against(word: u32, mode: BusyMode) -> bool {
    match mode {
        BusyMode::Shared => word & EXCLUSIVE != 0,
        BusyMode::Exclusive => word & EXCLUSIVE != 0 || word >= SHARER,
    }
}

mod by_hand;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
