//! What each slot holds: one word a slot, in chunks that are made when the first slot of theirs is put.
//!
//! The memory this takes: 8 bytes a slot for the 1024 slots of each chunk that was ever used, and 16 bytes for each chunk
//! that could be (a 64th of a byte a slot). Chunks stay until the area is closed.
//!
//! A slot's word is changed by the one operation that has the slot: the host promises that no two puts, gets or frees of
//! a slot run at once. The only other who changes it is whoever moves the slot from the pool to the file, under the rules
//! of [`crate::pool`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use quire_pager::{Error, Result};

/// A slot's number: the page index in the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// An entry of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryId(pub(crate) u32);

/// Where a slot's page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nowhere: never put, or freed since. Reads as zeros.
    Nothing,
    /// Here: these four bytes, again and again.
    Filled(u32),
    /// In the file, at the slot's place.
    File,
    /// In the pool.
    Pool(EntryId),
}

const NOTHING: u64 = 0;
const FILLED: u64 = 1;
const FILE: u64 = 2;
const POOL: u64 = 3;
/// The file may have blocks at the slot's place, whatever the slot holds now.
const BLOCKS: u64 = 4;
const FLAGS: u32 = 32;

impl Held {
    fn from_word(word: u64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let low = word as u32;
        match (word >> FLAGS) & !BLOCKS {
            NOTHING => Self::Nothing,
            FILLED => Self::Filled(low),
            FILE => Self::File,
            _ => Self::Pool(EntryId(low)),
        }
    }

    fn to_word(self) -> u64 {
        match self {
            Self::Nothing => NOTHING << FLAGS,
            Self::Filled(word) => FILLED << FLAGS | u64::from(word),
            Self::File => (FILE | BLOCKS) << FLAGS,
            Self::Pool(EntryId(id)) => POOL << FLAGS | u64::from(id),
        }
    }
}

const CHUNK: usize = 1024;

type Chunk = [AtomicU64; CHUNK];

/// What the slots of an area hold.
#[derive(Debug)]
pub(crate) struct Slots {
    count: u32,
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Result<Self> {
        let chunks = filled_box((count as usize).div_ceil(CHUNK), OnceLock::new)?;
        Ok(Self { count, chunks })
    }

    /// The slot of a page index, if the area has it.
    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        u32::try_from(index).ok().filter(|&slot| slot < self.count).map(Slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Held {
        self.word(slot)
            .map_or(Held::Nothing, |word| Held::from_word(word.load(Ordering::Acquire)))
    }

    /// Makes sure that [`Slots::set`] finds a place for the slot's word.
    pub(crate) fn reserve(&self, slot: Slot) -> Result<()> {
        let chunk = &self.chunks[slot.0 as usize / CHUNK];
        if chunk.get().is_none() {
            let made = filled_box(CHUNK, || AtomicU64::new(0))?;
            if let Ok(made) = made.try_into() {
                // Another thread may have been first; its chunk is as good.
                let _ = chunk.set(made);
            }
        }
        Ok(())
    }

    /// Says what the slot holds from now on. The slot was reserved, or held something before, or is to hold nothing.
    pub(crate) fn set(&self, slot: Slot, held: Held) {
        let Some(word) = self.word(slot) else {
            debug_assert_eq!(held, Held::Nothing, "{slot:?} was not reserved");
            return;
        };
        let blocks = word.load(Ordering::Acquire) & BLOCKS << FLAGS;
        word.store(held.to_word() | blocks, Ordering::Release);
    }

    /// Whether the file may have blocks for the slot, which holds nothing.
    pub(crate) fn has_blocks(&self, slot: Slot) -> bool {
        self.word(slot)
            .is_some_and(|word| word.load(Ordering::Acquire) & BLOCKS << FLAGS != 0)
    }

    /// The slot holds nothing, and the file has given its blocks back.
    pub(crate) fn forget_blocks(&self, slot: Slot) {
        if let Some(word) = self.word(slot) {
            word.store(Held::Nothing.to_word(), Ordering::Release);
        }
    }

    /// The slots from `first` on, `count` of them, but for those of chunks that nobody ever used.
    pub(crate) fn used(&self, first: Slot, count: u32) -> impl Iterator<Item = Slot> + '_ {
        let end = first.0 as usize + count as usize;
        let chunks = first.0 as usize / CHUNK..end.div_ceil(CHUNK);
        let used = chunks.filter(|&chunk| self.chunks[chunk].get().is_some());
        used.flat_map(move |chunk| {
            let slots = (chunk * CHUNK).max(first.0 as usize)..((chunk + 1) * CHUNK).min(end);
            // All below `count`, which is a `u32`.
            slots.filter_map(|slot| u32::try_from(slot).ok().map(Slot))
        })
    }

    fn word(&self, slot: Slot) -> Option<&AtomicU64> {
        Some(&self.chunks[slot.0 as usize / CHUNK].get()?[slot.0 as usize % CHUNK])
    }
}

/// A box of `count` things, or an error when there is no memory for it.
pub(crate) fn filled_box<T>(count: usize, make: impl FnMut() -> T) -> Result<Box<[T]>> {
    let mut list = Vec::new();
    let no_memory = |_| {
        Error::nomem(format!(
            "there is no memory for {} bytes",
            count.saturating_mul(size_of::<T>())
        ))
    };
    list.try_reserve_exact(count).map_err(no_memory)?;
    list.resize_with(count, make);
    Ok(list.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_what_it_was_told_and_remembers_blocks() {
        let slots = Slots::new(3000).expect("memory");
        let slot = Slot(2999);
        assert_eq!(slots.get(slot), Held::Nothing);
        slots.reserve(slot).expect("memory");
        for held in [Held::Filled(u32::MAX), Held::Pool(EntryId(u32::MAX)), Held::Nothing] {
            slots.set(slot, held);
            assert_eq!((slots.get(slot), slots.has_blocks(slot)), (held, false));
        }
        slots.set(slot, Held::File);
        for held in [Held::File, Held::Filled(7), Held::Pool(EntryId(9)), Held::Nothing] {
            slots.set(slot, held);
            assert_eq!((slots.get(slot), slots.has_blocks(slot)), (held, true));
        }
        slots.forget_blocks(slot);
        assert_eq!((slots.get(slot), slots.has_blocks(slot)), (Held::Nothing, false));
    }

    #[test]
    fn an_area_has_its_slots_and_no_others() {
        let slots = Slots::new(3000).expect("memory");
        assert_eq!(slots.slot(2999), Some(Slot(2999)));
        assert_eq!(slots.slot(3000), None);
        assert_eq!(slots.slot(1 << 32), None);
    }

    #[test]
    fn slots_that_nobody_used_are_passed_over_by_chunks() {
        let slots = Slots::new(u32::MAX).expect("memory");
        slots.reserve(Slot(5000)).expect("memory");
        slots.reserve(Slot(u32::MAX - 1)).expect("memory");
        let used: Vec<u32> = slots.used(Slot(0), u32::MAX).map(|slot| slot.0).collect();
        let last_chunk = (u32::MAX - 1) / 1024 * 1024;
        assert!(used.iter().copied().eq((4096..5120).chain(last_chunk..u32::MAX)));
        let used: Vec<u32> = slots.used(Slot(5001), 3).map(|slot| slot.0).collect();
        assert_eq!(used, [5001, 5002, 5003]);
        assert_eq!(slots.used(Slot(7), 9).count(), 0);
    }
}
