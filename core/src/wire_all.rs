//! Wiring everything there is, and everything that will be.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::alloc_fallible::try_reserve;
use crate::error::Result;
use crate::map::Map;
use crate::sync::assert_no_locks_held;
use crate::types::AddrRange;

bitflags::bitflags! {
    /// What [`Map::wire_all`] wires.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WireAll: u32 {
        /// What is mapped.
        const CURRENT = 1;
        /// What is mapped from now on, as soon as it is. A mapping that cannot be wired is not made.
        const FUTURE = 2;
    }
}

impl Map {
    /// Wires everything that is mapped once more, or what will be, or both ([`Map::wire`], mlockall). Parts that allow no access are passed
    /// over. May block; no lock may be held.
    ///
    /// # Errors
    /// Those of [`Map::wire`]: nothing more is wired than before, and what is mapped from now on is treated as before.
    pub fn wire_all(&self, what: WireAll) -> Result<()> {
        assert_no_locks_held("wiring");
        let wired_future = self.wires_all().load(Ordering::Acquire);
        if what.contains(WireAll::FUTURE) {
            // First, so that nothing is mapped in between and left out.
            self.wires_all().store(true, Ordering::Release);
        }
        if !what.contains(WireAll::CURRENT) {
            return Ok(());
        }
        let mut wired = Vec::new();
        self.wire_mapped(&mut wired).inspect_err(|_| {
            self.wires_all().store(wired_future, Ordering::Release);
            // Splitting an entry may want memory; without it the pages stay wired, which is safe.
            wired
                .iter()
                .for_each(|range| drop(self.unwire(range.start, range.len())));
        })
    }

    fn wire_mapped(&self, wired: &mut Vec<AddrRange>) -> Result<()> {
        let bounds = self.read().bounds();
        let ranges = self.mapped_ranges(bounds, |_, is_accessible| is_accessible)?;
        try_reserve(wired, ranges.len())?;
        for range in ranges {
            self.wire(range.start, range.len())?;
            wired.push(range);
        }
        Ok(())
    }

    /// Takes one wiring of everything that is wired back, and what is mapped from now on is not wired by itself (munlockall). What was wired
    /// more than once stays wired.
    ///
    /// # Errors
    /// Those of [`Map::unwire`]; some of it may have been unwired then.
    pub fn unwire_all(&self) -> Result<()> {
        self.wires_all().store(false, Ordering::Release);
        let bounds = self.read().bounds();
        for range in self.mapped_ranges(bounds, |wired, _| wired > 0)? {
            self.unwire(range.start, range.len())?;
        }
        Ok(())
    }

    /// The parts of entries in a range, by how often they are wired and whether they allow any access.
    fn mapped_ranges(&self, range: AddrRange, wanted: impl Fn(u32, bool) -> bool) -> Result<Vec<AddrRange>> {
        let entries = self.read();
        let mut ranges = Vec::new();
        try_reserve(&mut ranges, entries.len())?;
        let wanted = entries
            .iter(range)
            .filter(|entry| wanted(entry.attr.wired, !entry.attr.prot.is_empty()));
        ranges.extend(wanted.map(|entry| AddrRange {
            start: entry.range.start.max(range.start),
            end: entry.range.end.min(range.end),
        }));
        Ok(ranges)
    }

    /// What has just been mapped is wired, if everything is to be. If it cannot be, it is unmapped. Parts that allow no access are passed over.
    ///
    /// # Errors
    /// Those of [`Map::wire`].
    pub(crate) fn wire_if_all(&self, range: AddrRange) -> Result<AddrRange> {
        if self.wires_all().load(Ordering::Acquire) {
            let parts = self.mapped_ranges(range, |_, is_accessible| is_accessible);
            let mut parts = parts.inspect_err(|_| self.take_back(range))?.into_iter();
            let wired = parts.try_for_each(|part| self.wire(part.start, part.len()));
            wired.inspect_err(|_| self.take_back(range))?;
        }
        Ok(range)
    }
}
