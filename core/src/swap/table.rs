//! All areas and their slots, under one lock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::area::{Area, Call, SwapAreaId};
use super::slots::Slots;
use super::{Slot, SwapRefusal};
use crate::few::Few;

/// The most areas at a time.
pub(super) const MOST_AREAS: usize = 32;

/// Areas that a put has tried in vain.
pub(super) type Tried = Few<SwapAreaId, MOST_AREAS>;

/// The areas, in the order of their slots.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// The area that was used last: of equals the next one is.
    last: u64,
    /// The last id given.
    pub(super) ids: u64,
    /// Why the last page that was not written was not. Here, so that what was seen before an area was added is not told after it.
    pub(super) refused: Option<SwapRefusal>,
}

/// One area.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) area: Arc<Area>,
    pub(super) slots: Slots,
    /// It is being removed: nothing comes into it any more.
    pub(super) leaving: bool,
}

impl Entry {
    fn takes(&self) -> bool {
        !self.leaving && !self.area.is_broken()
    }

    fn end(&self) -> u32 {
        self.area.base + self.slots.total()
    }
}

impl Table {
    pub(super) fn find(&mut self, id: SwapAreaId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.area.id == id)
    }

    /// The area of a slot, and the slot in it.
    pub(super) fn of(&mut self, slot: Slot) -> Option<(&mut Entry, u32)> {
        let behind = self.entries.partition_point(|entry| entry.area.base <= slot.0);
        let entry = self.entries.get_mut(behind.checked_sub(1)?)?;
        let at = slot.0 - entry.area.base;
        (at < entry.slots.total()).then_some((entry, at))
    }

    /// Where so many slots in one piece can be counted, and which place among the areas that is.
    pub(super) fn gap(&self, slots: u32) -> Option<(usize, u32)> {
        let mut base = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.area.base - base >= slots {
                return Some((at, base));
            }
            base = entry.end();
        }
        // The last number of all is never given, so that one more than a slot fits.
        (u32::MAX - base >= slots).then_some((self.entries.len(), base))
    }

    /// Whether anything can be written now, or soon: a slot is free, or will be when its pager has been told.
    pub(super) fn has_room(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.takes() && (entry.slots.free() > 0 || entry.slots.freed() > 0))
    }

    /// Holds up to `want` slots in one piece: of the areas with the highest priority that have any, each in turn.
    pub(super) fn allocate(&mut self, want: u32, tried: &[SwapAreaId]) -> Option<(Call, Range<u32>)> {
        let can = |entry: &&mut Entry| entry.takes() && entry.slots.free() > 0 && !tried.contains(&entry.area.id);
        let last = self.last;
        let entry = self
            .entries
            .iter_mut()
            .filter(can)
            // Of equals those behind the last one come first, in their order.
            .max_by_key(|entry| {
                let behind = entry.area.id.0.wrapping_sub(last).wrapping_sub(1);
                (entry.area.priority, core::cmp::Reverse(behind))
            })?;
        let run = entry.slots.allocate(want.min(entry.area.max_run()))?;
        self.last = entry.area.id.0;
        Some((entry.area.begin_call(), run))
    }

    /// Takes a run of freed slots of an area whose pager has to be told.
    pub(super) fn take_freed(&mut self) -> Option<(Call, Range<u32>)> {
        self.entries
            .iter_mut()
            .filter(|entry| !entry.area.is_broken())
            .find_map(|entry| {
                let run = entry.slots.take_freed()?;
                Some((entry.area.begin_call(), run))
            })
    }

    /// Notes that there is no slot to be had, and why.
    pub(super) fn refuse(&mut self) -> SwapRefusal {
        *self.refused.insert(self.refusal())
    }

    /// Why there is no slot to be had.
    fn refusal(&self) -> SwapRefusal {
        let areas = self.entries.iter().filter(|entry| entry.takes());
        let (mut count, mut slots) = (0, 0);
        for entry in areas {
            count += 1;
            slots += u64::from(entry.slots.total());
        }
        if count == 0 {
            SwapRefusal::NoArea
        } else {
            SwapRefusal::Full { areas: count, slots }
        }
    }
}
