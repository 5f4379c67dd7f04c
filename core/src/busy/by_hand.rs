//! The steps of those who busy pages without a guard. Each tells whether it was taken; in a state that it does not fit it changes
//! nothing.
//!
//! ```text
//! unbusied         -> exclusive by hand    try_exclusive_by_hand
//! unbusied, shared -> one more by hand     try_shared_by_hand
//! exclusive by hand -> unbusied            release_exclusive_by_hand   wakes all sleepers
//! exclusive by hand -> shared by hand      downgrade_by_hand           wakes all sleepers
//! shared by hand   -> one less             release_shared_by_hand      the last one wakes all sleepers
//! shared(1) by hand -> exclusive by hand   try_upgrade_by_hand
//! exclusive by hand -> exclusive           take_from_hand              the engine acts on the holder's behalf
//! exclusive        -> exclusive by hand    give_to_hand                the engine has got the page for him
//! ```

use super::{
    BusyWord, EXCLUSIVE, HAND, HAND_SHARER, SHARED, SHARER, UNBUSIED, WAITERS, busied_against, without_sharer,
};
use crate::busy::BusyMode;
use crate::sync::atomic::Ordering;
use crate::sync::unpark_all;

const EXCLUSIVE_BY_HAND: u32 = EXCLUSIVE | HAND;
/// The highest value of the sharers by hand.
const MOST_BY_HAND: u32 = u32::MAX - (HAND_SHARER - 1);

impl BusyWord {
    /// As [`BusyWord::try_exclusive`].
    #[inline]
    pub(crate) fn try_exclusive_by_hand(&self) -> bool {
        let taken = self
            .word
            .compare_exchange(UNBUSIED, EXCLUSIVE_BY_HAND, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.record_owner();
        }
        taken
    }

    /// As [`BusyWord::try_shared`]; also declined while as many share by hand as can be counted.
    #[inline]
    pub(crate) fn try_shared_by_hand(&self) -> bool {
        self.update(|word| (word & SHARED != 0 && word < MOST_BY_HAND).then_some(word + HAND_SHARER))
            .is_some()
    }

    /// Exclusive by hand to unbusied; wakes all sleepers. False: it is not exclusively busied by hand.
    #[inline]
    pub(crate) fn release_exclusive_by_hand(&self) -> bool {
        self.leave_exclusive_by_hand(UNBUSIED)
    }

    /// Exclusive by hand to shared by the caller alone. False: it is not exclusively busied by hand.
    #[inline]
    pub(crate) fn downgrade_by_hand(&self) -> bool {
        self.leave_exclusive_by_hand(SHARED + HAND_SHARER)
    }

    #[inline]
    fn leave_exclusive_by_hand(&self, to: u32) -> bool {
        if !self.is_exclusive_by_hand() {
            return false;
        }
        self.forget_owner();
        let was = self.update(|word| is_exclusive_by_hand(word).then_some(to));
        if was.is_some_and(|was| was & WAITERS != 0) {
            unpark_all(&self.word);
        }
        was.is_some()
    }

    /// One who shares by hand less; the last sharer wakes all sleepers. False: nobody shares it by hand.
    #[inline]
    pub(crate) fn release_shared_by_hand(&self) -> bool {
        let was = self.update(|word| is_shared_by_hand(word).then(|| without_sharer(word, HAND_SHARER)));
        if was == Some(SHARED + HAND_SHARER + WAITERS) {
            unpark_all(&self.word);
        }
        was.is_some()
    }

    /// Shared by the caller alone, by hand, to exclusive; false while there are other sharers. Nothing: nobody shares it by hand.
    pub(crate) fn try_upgrade_by_hand(&self) -> Option<bool> {
        let upgraded = self
            .update(|word| (word & !WAITERS == SHARED + HAND_SHARER).then_some(EXCLUSIVE_BY_HAND | word & WAITERS))
            .is_some();
        if upgraded {
            self.record_owner();
            return Some(true);
        }
        self.is_shared_by_hand().then_some(false)
    }

    /// What was exclusively busied by hand is the engine's, who acts for whoever had it: of two who try, one succeeds. False: it is not
    /// exclusively busied by hand.
    pub(crate) fn take_from_hand(&self) -> bool {
        self.update(|word| is_exclusive_by_hand(word).then_some(word & !HAND))
            .is_some()
    }

    /// What the engine has exclusively busied is somebody's by hand. Exclusively busied by the caller.
    pub(crate) fn give_to_hand(&self) {
        self.assert_exclusive();
        self.update(|word| Some(word | HAND));
    }

    /// The page's identity was changed, and it stays exclusively busied: whoever sleeps on it wakes and looks again. Who was just about to
    /// finds another word, also if others sleep on the page by then: where sharers are counted otherwise, the moves are.
    pub(crate) fn rouse(&self) {
        self.assert_exclusive();
        if self
            .update(|word| Some((word & !WAITERS).wrapping_add(SHARER)))
            .is_some_and(|was| was & WAITERS != 0)
        {
            unpark_all(&self.word);
        }
    }

    /// Whether it is exclusively busied by hand, by anyone.
    #[inline]
    pub(crate) fn is_exclusive_by_hand(&self) -> bool {
        is_exclusive_by_hand(self.word.load(Ordering::Acquire))
    }

    /// Whether it is shared busied by hand, by anyone.
    #[inline]
    pub(crate) fn is_shared_by_hand(&self) -> bool {
        is_shared_by_hand(self.word.load(Ordering::Acquire))
    }

    /// Whether it is busied against `mode`, by anyone.
    #[inline]
    pub(crate) fn is_busied_against(&self, mode: BusyMode) -> bool {
        busied_against(self.word.load(Ordering::Acquire), mode)
    }
}

#[inline]
fn is_exclusive_by_hand(word: u32) -> bool {
    word & EXCLUSIVE_BY_HAND == EXCLUSIVE_BY_HAND
}

#[inline]
fn is_shared_by_hand(word: u32) -> bool {
    word & SHARED != 0 && word >= HAND_SHARER
}

const _: () = assert!(SHARER > HAND && HAND_SHARER > SHARER);
