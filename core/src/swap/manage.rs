//! Adding swap areas, and what is known of them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::area::{Area, SwapAreaId, is_told};
use super::slots::Slots;
use super::table::{Entry, MOST_AREAS};
use super::{Count, Swap, SwapRefusal};
use crate::alloc_fallible::try_reserve;
use crate::engine::Engine;
use crate::error::{Error, PagerError, Result};
use crate::object::Opening;
use crate::pager::PagerOps;
use crate::sync::assert_no_locks_held;
use crate::types::PAGE_SIZE;

/// What is known of a swap area. Counts are in pages, and each is exact; all together are not a snapshot.
#[derive(Clone, Debug)]
pub struct SwapAreaInfo {
    /// Its name.
    pub id: SwapAreaId,
    /// Its name for people, as its pager says it.
    pub description: String,
    /// Areas with a higher one are used first, equal ones in turns.
    pub priority: i32,
    /// All of it.
    pub slots: u64,
    /// Pages that are in it.
    pub used: u64,
    /// Pages of it that could not be read or written, and are not used again.
    pub bad: u64,
    /// It is being removed.
    pub leaving: bool,
    /// The promise that its pager broke: it takes nothing any more.
    pub broken: Option<String>,
}

/// What went to swap and came from it since the engine was made, and what is there. Each number is exact, all together are not a
/// snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwapCounts {
    /// Areas.
    pub areas: u32,
    /// Pages that they have room for.
    pub slots: u64,
    /// Pages in them.
    pub used: u64,
    /// Pages of them that could not be read or written, and are not used again.
    pub bad: u64,
    /// Requests to areas to read.
    pub gets: u64,
    /// Pages read.
    pub pages_in: u64,
    /// Requests to areas to write.
    pub puts: u64,
    /// Pages written.
    pub pages_out: u64,
    /// Writes of anonymous pages that failed, because no area took them. When there is no room at all none is begun.
    pub refused: u64,
    /// Why pages were not written the last time that they should have been. Forgotten when an area is added.
    pub refusal: Option<SwapRefusal>,
}

impl Engine {
    /// Gives the engine a swap area: what was opened, a page of it for each page of anonymous memory, `opening.size` bytes of it and no
    /// more; a part of a page at the end is not used. Nothing in it is kept. Areas with a higher priority are used first, equal
    /// ones in turns. The opening is the engine's until [`Engine::remove_swap`] or [`Engine::shut_down`] closes it. No lock may be held.
    ///
    /// # Errors
    /// The opening has been closed then: [`Error::Unsupported`] when it cannot be written; [`Error::Invalid`] when it has no whole
    /// page, or more than can be counted; [`Error::InUse`] when it is a swap area already; [`Error::NoMemory`].
    pub fn add_swap(&self, opening: Opening, priority: i32) -> Result<SwapAreaId> {
        assert_no_locks_held("adding swap");
        let mut opening = Some(opening);
        let added = self.swap().add(&mut opening, priority);
        if let Some(opening) = opening {
            // What it answers makes the first error no better.
            let _ = opening.pager.close();
        }
        if added.is_ok() {
            self.swap_has_room();
        }
        added
    }

    /// The swap areas, in no order. May block as long as pagers' `describe` does; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn swap_areas(&self) -> Result<Vec<SwapAreaInfo>> {
        let mut infos = Vec::new();
        try_reserve(&mut infos, MOST_AREAS)?;
        let mut areas: Vec<Arc<Area>> = Vec::new();
        try_reserve(&mut areas, MOST_AREAS)?;
        areas.extend(self.swap().table.lock().entries.iter().map(|entry| entry.area.clone()));
        for area in areas {
            let (description, broken) = (area.describe(), area.broken_promise());
            if let Some(entry) = self.swap().table.lock().find(area.id) {
                infos.push(SwapAreaInfo {
                    id: area.id,
                    description,
                    priority: area.priority,
                    slots: u64::from(entry.slots.total()),
                    used: u64::from(entry.slots.held()),
                    bad: u64::from(entry.slots.bad()),
                    leaving: entry.leaving,
                    broken,
                });
            }
        }
        Ok(infos)
    }

    /// How many swap areas were opened by this source ([`Opening::source`]). Takes a lock of the highest rank only.
    #[must_use]
    pub fn swap_areas_from(&self, source: u64) -> usize {
        let table = self.swap().table.lock();
        table.entries.iter().filter(|entry| entry.area.source == source).count()
    }

    /// What went to swap, what is there, and why not more.
    #[must_use]
    pub fn swap_counts(&self) -> SwapCounts {
        self.swap().counts()
    }
}

impl Swap {
    /// Takes the opening if it becomes an area.
    fn add(&self, opening: &mut Option<Opening>, priority: i32) -> Result<SwapAreaId> {
        let Some(offered) = opening.as_ref() else {
            unreachable!("there is an opening to be taken")
        };
        if !offered.pager.ops().contains(PagerOps::PUT) {
            return Err(Error::Unsupported(
                "swap has to be written: open it for writing, with a pager that can",
            ));
        }
        let (source, identity) = (offered.source, offered.identity);
        let count = match u32::try_from(offered.size / PAGE_SIZE) {
            Ok(0) => {
                return Err(Error::Invalid(
                    "swap needs at least one whole page, 4096 bytes; make it longer",
                ));
            }
            Ok(count) if count < u32::MAX => count,
            _ => return Err(Error::Invalid("a swap area has less than 16 TiB; give a smaller size")),
        };
        let slots = Slots::new(count, is_told(&*offered.pager))?;
        let mut table = self.table.lock();
        let is_this = |area: &Area| area.source == source && area.identity == identity;
        if identity.is_some() && table.entries.iter().any(|entry| is_this(&entry.area)) {
            return Err(Error::InUse("this is a swap area already"));
        }
        if table.entries.len() == MOST_AREAS {
            return Err(Error::Invalid("there are 32 swap areas already; remove one first"));
        }
        let Some((at, base)) = table.gap(count) else {
            return Err(Error::Invalid(
                "all swap areas together have less than 16 TiB; remove one, or give a smaller size",
            ));
        };
        try_reserve(&mut table.entries, 1)?;
        let Some(opening) = opening.take() else {
            unreachable!("there is an opening to be taken")
        };
        table.ids += 1;
        let id = SwapAreaId(table.ids);
        let entry = Entry {
            area: Arc::new(Area::new(id, priority, base, opening)),
            slots,
            leaving: false,
        };
        table.entries.insert(at, entry);
        table.refused = None;
        Ok(id)
    }

    fn counts(&self) -> SwapCounts {
        let mut counts = SwapCounts::default();
        {
            let table = self.table.lock();
            counts.refusal = table.refused;
            for Entry { slots, .. } in &table.entries {
                counts.areas += 1;
                counts.slots += u64::from(slots.total());
                counts.used += u64::from(slots.held());
                counts.bad += u64::from(slots.bad());
            }
        }
        let tally = |what: Count| self.tallies[what as usize].load(Ordering::Relaxed);
        SwapCounts {
            gets: tally(Count::Gets),
            pages_in: tally(Count::PagesIn),
            puts: tally(Count::Puts),
            pages_out: tally(Count::PagesOut),
            refused: tally(Count::Refused),
            ..counts
        }
    }

    /// Closes every area: no object is left. The first failure; all are closed.
    pub(crate) fn close_all(&self) -> Result<()> {
        let mut failure: Option<PagerError> = None;
        loop {
            let Some(entry) = self.table.lock().entries.pop() else {
                return failure.map_or(Ok(()), |error| Err(error.into()));
            };
            if let Err(error) = entry.area.close() {
                failure.get_or_insert(error);
            }
        }
    }
}
