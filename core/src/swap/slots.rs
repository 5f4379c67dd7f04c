//! Which slots of one area are in use: a few bits a slot.
//!
//! ```text
//! free     -> held     allocated, in runs
//! held     -> freed    released, and the area's pager wants to hear of it
//! held     -> free     released otherwise
//! freed    -> told     taken to be told to the pager
//! told     -> free     the pager has been told
//! held     -> ruined   it was found bad, and is released: never used again (N13)
//! ```
//! All but *free* count as used. A slot is found bad while it is held.

use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::error::Result;

const BITS: u32 = u64::BITS;

/// Runs looked at in one search, at most: then the longest so far has to do.
const MOST_LOOKS: u32 = 256;

/// The slots of one area, by their index in it.
#[derive(Debug)]
pub(super) struct Slots {
    used: Bits,
    /// One for each word of `used`: it has no free slot.
    full: Bits,
    freed: Bits,
    bad: Bits,
    /// The pager wants to hear what is freed.
    tells: bool,
    total: u32,
    free: u32,
    held: u32,
    freed_count: u32,
    /// Taken to be told.
    untold: u32,
    bad_count: u32,
    /// Where the next search begins.
    next: u32,
    /// No slot before this one is freed.
    first_freed: u32,
}

/// So many bits.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u32, value: bool) -> Result<Self> {
        let words = count.div_ceil(BITS) as usize;
        let mut bits = Vec::new();
        try_reserve(&mut bits, words)?;
        bits.resize(words, if value { u64::MAX } else { 0 });
        Ok(Self(bits))
    }

    fn has(&self, at: u32) -> bool {
        self.0[(at / BITS) as usize] >> (at % BITS) & 1 != 0
    }

    fn set(&mut self, at: u32, value: bool) {
        let (word, bit) = (&mut self.0[(at / BITS) as usize], 1 << (at % BITS));
        if value {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The first bit of this value in a range.
    fn find(&self, value: bool, range: Range<u32>) -> Option<u32> {
        let mut at = range.start;
        while at < range.end {
            let word = self.0[(at / BITS) as usize];
            let left = (if value { word } else { !word }) >> (at % BITS);
            if left != 0 {
                return Some(at + left.trailing_zeros()).filter(|at| *at < range.end);
            }
            at = (at / BITS + 1) * BITS;
        }
        None
    }
}

impl Slots {
    /// So many slots, all free. `tells`: what is released is freed only when [`Slots::told`] says so.
    ///
    /// # Errors
    /// `NoMemory`.
    pub(super) fn new(total: u32, tells: bool) -> Result<Self> {
        Ok(Self {
            used: Bits::new(total, false)?,
            full: Bits::new(total.div_ceil(BITS), false)?,
            freed: Bits::new(total, false)?,
            bad: Bits::new(total, false)?,
            tells,
            total,
            free: total,
            held: 0,
            freed_count: 0,
            untold: 0,
            bad_count: 0,
            next: 0,
            first_freed: 0,
        })
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Slots that can be had at once.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Slots that hold something, or are about to.
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Slots of which the pager has to be told, and those of which it is being told: they are free afterwards.
    pub(super) fn freed(&self) -> u32 {
        self.freed_count + self.untold
    }

    /// Slots that were found bad.
    pub(super) fn bad(&self) -> u32 {
        self.bad_count
    }

    /// Holds up to `want` slots in one piece: the first run behind the last one that is long enough, or the longest that was
    /// found. Nothing if none is free.
    pub(super) fn allocate(&mut self, want: u32) -> Option<Range<u32>> {
        if self.free == 0 || want == 0 {
            return None;
        }
        let run = self.find_run(want)?;
        for slot in run.clone() {
            self.use_slot(slot);
        }
        self.held += run.end - run.start;
        self.next = run.end;
        Some(run)
    }

    fn find_run(&self, want: u32) -> Option<Range<u32>> {
        let mut best: Range<u32> = 0..0;
        let mut looks = 0;
        for part in [self.next..self.total, 0..self.next] {
            let mut at = part.start;
            while let Some(start) = self.next_free(at..part.end) {
                let most = part.end.min(start.saturating_add(want));
                let end = self.used.find(true, start..most).unwrap_or(most);
                if end - start > best.end - best.start {
                    best = start..end;
                }
                looks += 1;
                if best.end - best.start == want || looks == MOST_LOOKS {
                    return Some(best);
                }
                at = end;
            }
        }
        Some(best).filter(|best| !best.is_empty())
    }

    /// The first free slot in a range; words without one are passed over in one step.
    fn next_free(&self, range: Range<u32>) -> Option<u32> {
        let mut at = range.start;
        while at < range.end {
            let word_end = range.end.min((at / BITS + 1) * BITS);
            if let Some(free) = self.used.find(false, at..word_end) {
                return Some(free);
            }
            let words = word_end.div_ceil(BITS)..range.end.div_ceil(BITS);
            at = self.full.find(false, words)? * BITS;
        }
        None
    }

    /// A held slot is released. What was found bad is not used again.
    pub(super) fn release(&mut self, slot: u32) {
        debug_assert!(
            self.used.has(slot) && !self.freed.has(slot),
            "released a slot that is not held"
        );
        self.held -= 1;
        if self.bad.has(slot) {
        } else if self.tells {
            self.freed.set(slot, true);
            self.freed_count += 1;
            self.first_freed = self.first_freed.min(slot);
        } else {
            self.free_slot(slot);
        }
    }

    /// A held slot cannot be read, or written. Whether that is news.
    pub(super) fn found_bad(&mut self, slot: u32) -> bool {
        let news = !self.bad.has(slot);
        if news {
            self.bad.set(slot, true);
            self.bad_count += 1;
        }
        news
    }

    /// Takes a run of freed slots, for the caller to tell the pager; [`Slots::told`] has to follow.
    pub(super) fn take_freed(&mut self) -> Option<Range<u32>> {
        if self.freed_count == 0 {
            return None;
        }
        let start = self.freed.find(true, self.first_freed..self.total)?;
        let end = self.freed.find(false, start..self.total).unwrap_or(self.total);
        for slot in start..end {
            self.freed.set(slot, false);
        }
        self.freed_count -= end - start;
        self.untold += end - start;
        self.first_freed = if self.freed_count == 0 { self.total } else { end };
        Some(start..end)
    }

    /// The pager has been told that these are free.
    pub(super) fn told(&mut self, run: Range<u32>) {
        self.untold -= run.end - run.start;
        for slot in run {
            self.free_slot(slot);
        }
    }

    fn use_slot(&mut self, slot: u32) {
        self.used.set(slot, true);
        self.free -= 1;
        let word = slot / BITS;
        let end = self.total.min((word + 1) * BITS);
        let is_full = self.used.find(false, word * BITS..end).is_none();
        self.full.set(word, is_full);
    }

    fn free_slot(&mut self, slot: u32) {
        self.used.set(slot, false);
        self.free += 1;
        self.full.set(slot / BITS, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc_fallible::failing;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    /// What can be done to slots.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Allocate(u32),
        /// The nth held one.
        Release(usize),
        FoundBad(usize),
        /// Takes a freed run, and says the nth that was taken is told.
        Tell,
        Told(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..80_u32).prop_map(Step::Allocate),
            8 => any::<prop::sample::Index>().prop_map(|n| Step::Release(n.index(1000))),
            1 => any::<prop::sample::Index>().prop_map(|n| Step::FoundBad(n.index(1000))),
            2 => Just(Step::Tell),
            2 => any::<prop::sample::Index>().prop_map(|n| Step::Told(n.index(1000))),
        ];
        proptest::collection::vec(step, 1..300)
    }

    fn nth(set: &BTreeSet<u32>, n: usize) -> Option<u32> {
        set.iter().nth(n % set.len().max(1)).copied()
    }

    proptest! {
        #[test]
        fn f20_slots_behave_like_sets(total in 1..400_u32, tells in any::<bool>(), steps in steps()) {
            let mut slots = Slots::new(total, tells).unwrap();
            let mut free: BTreeSet<u32> = (0..total).collect();
            let (mut held, mut freed, mut bad) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let mut being_told: Vec<Range<u32>> = Vec::new();
            for step in steps {
                let began = slots.next;
                match step {
                    Step::Allocate(want) => match slots.allocate(want) {
                        None => prop_assert!(free.is_empty()),
                        Some(run) => {
                            prop_assert!(!run.is_empty() && run.end - run.start <= want);
                            if run.end - run.start < want {
                                // No run on either side of where the search began is longer.
                                let mut longest = 0;
                                let mut len = 0;
                                for slot in 0..total {
                                    len = if slot == began { 0 } else { len };
                                    len = if free.contains(&slot) { len + 1 } else { 0 };
                                    longest = longest.max(len);
                                }
                                prop_assert_eq!(run.end - run.start, longest);
                            }
                            for slot in run {
                                prop_assert!(free.remove(&slot), "slot {} was handed out twice", slot);
                                held.insert(slot);
                            }
                        }
                    },
                    Step::Release(n) => if let Some(slot) = nth(&held, n) {
                        held.remove(&slot);
                        slots.release(slot);
                        if !bad.contains(&slot) {
                            if tells { freed.insert(slot); } else { free.insert(slot); }
                        }
                    },
                    Step::FoundBad(n) => if let Some(slot) = nth(&held, n) {
                        prop_assert_eq!(slots.found_bad(slot), bad.insert(slot));
                    },
                    Step::Tell => match slots.take_freed() {
                        None => prop_assert!(freed.is_empty()),
                        Some(run) => {
                            prop_assert!(!freed.contains(&run.end));
                            for slot in run.clone() {
                                prop_assert!(freed.remove(&slot));
                            }
                            being_told.push(run);
                        }
                    },
                    Step::Told(n) => if !being_told.is_empty() {
                        let run = being_told.swap_remove(n % being_told.len());
                        free.extend(run.clone());
                        slots.told(run);
                    },
                }
                prop_assert_eq!(slots.free() as usize, free.len());
                prop_assert_eq!(slots.held() as usize, held.len());
                let untold: u32 = being_told.iter().map(|run| run.end - run.start).sum();
                prop_assert_eq!(slots.freed(), u32::try_from(freed.len()).unwrap() + untold);
                prop_assert_eq!(slots.bad() as usize, bad.len());
                for word in 0..total.div_ceil(BITS) {
                    let any_free = (word * BITS..total.min((word + 1) * BITS)).any(|slot| free.contains(&slot));
                    prop_assert_eq!(slots.full.has(word), !any_free);
                }
            }
        }
    }

    #[test]
    fn f20_a_run_is_as_long_as_asked_if_there_is_one_and_otherwise_the_longest() {
        let mut slots = Slots::new(200, false).unwrap();
        assert_eq!(slots.allocate(200), Some(0..200));
        (10..14)
            .chain(100..108)
            .chain(150..152)
            .for_each(|slot| slots.release(slot));
        assert_eq!(
            slots.allocate(3),
            Some(10..13),
            "the first that fits, from the start again"
        );
        assert_eq!(slots.allocate(20), Some(100..108), "the longest, if none fits");
        assert_eq!(slots.allocate(1), Some(150..151), "behind the last one, not before it");
        assert_eq!(slots.allocate(2), Some(151..152));
        assert_eq!(slots.allocate(2), Some(13..14));
        assert_eq!(slots.allocate(1), None);
    }

    #[test]
    fn n13_a_bad_slot_is_never_used_again() {
        let mut slots = Slots::new(3, false).unwrap();
        assert_eq!(slots.allocate(3), Some(0..3));
        assert!(slots.found_bad(1) && !slots.found_bad(1));
        (0..3).for_each(|slot| slots.release(slot));
        assert_eq!((slots.held(), slots.free(), slots.bad()), (0, 2, 1));
        assert_eq!(slots.allocate(3), Some(0..1));
        assert_eq!(slots.allocate(3), Some(2..3));
        assert_eq!(slots.allocate(1), None);
    }

    #[test]
    fn a_freed_slot_is_used_again_only_when_the_pager_has_been_told() {
        let mut slots = Slots::new(2, true).unwrap();
        assert_eq!(slots.allocate(2), Some(0..2));
        slots.release(0);
        assert_eq!(slots.allocate(1), None);
        assert_eq!(slots.take_freed(), Some(0..1));
        assert_eq!((slots.take_freed(), slots.allocate(1)), (None, None));
        slots.told(0..1);
        assert_eq!(slots.allocate(1), Some(0..1));
    }

    #[test]
    fn no_memory_for_the_bits_is_an_error() {
        for allowed in 0..4 {
            failing::after(Some(allowed));
            let slots = Slots::new(1000, false);
            failing::after(None);
            assert!(slots.is_err());
        }
    }
}
