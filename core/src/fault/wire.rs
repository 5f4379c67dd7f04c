//! Wiring: pages that stay, under mappings that stay.
//!
//! An entry counts how often it was wired. The first wiring faults its pages in and counts once on each of them; the last
//! unwiring takes that back (S211: a page that several entries show is wired by each). A part of a range is wired in its
//! entry in the same hold of the map's lock in which its pages are: so an entry is wired exactly if its pages are wired for
//! it, whatever else happens to the map while another part waits for its pages.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Fault, Goal, Stop};
use crate::alloc_fallible::try_reserve;
use crate::error::{Error, FaultError, Result};
use crate::map::Map;
use crate::map_entry::MapEntry;
use crate::map_ops::Entries;
use crate::object::Object;
use crate::shown::{Shown, ShownRef};
use crate::sync::assert_no_locks_held;
use crate::types::{Access, AddrRange, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// Pages wired under one hold of the map's lock.
const AT_ONCE: u64 = 64;

/// Why some pages could not be wired now.
enum Halt {
    Stop(Stop),
    Refused(Error),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Map {
    /// Wires `len` bytes from `start` once more: their pages are brought in, and neither they nor their mappings are taken
    /// away until each wiring has been taken back or the range is unmapped. Accesses that the protection allows do not
    /// fault, but where a machine takes mappings away to learn of modifications, and the first write to a clean page of which
    /// the pager is told. A page that the object loses by shrinking is not wired any more. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Entries::check_range`] has it, or when the count would overflow; [`Error::NotMapped`] with
    /// the first hole; [`Error::NoMemory`]; [`Error::Fault`] with what kept a page from being brought in, or
    /// for a part that allows no access at all. What this call wired has been unwired then.
    pub fn wire(&self, start: VirtAddr, len: u64) -> Result<()> {
        assert_no_locks_held("wiring");
        let range = {
            let entries = self.read();
            let range = entries.check_range(start, len)?;
            entries.check_mapped(range, |entry| match entry.attr.wired {
                u32::MAX => Err(Error::Invalid("the range is wired as often as can be counted")),
                _ => Ok(()),
            })?;
            range
        };
        let mut at = range.start;
        while at < range.end {
            match self.wire_some(AddrRange {
                start: at,
                end: range.end,
            }) {
                Ok(upto) => at = upto,
                Err(error) => {
                    self.take_wiring_back(AddrRange {
                        start: range.start,
                        end: at,
                    });
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes one wiring of `len` bytes from `start` back. Mappings lose their wired attribute, and pages a wiring, only where
    /// that was the entry's last one (S208).
    ///
    /// # Errors
    /// Those of [`Entries::unwire`]; nothing was changed then.
    pub fn unwire(&self, start: VirtAddr, len: u64) -> Result<()> {
        let mut entries = self.write();
        let range = entries.check_range(start, len)?;
        let mut pieces = Vec::new();
        try_reserve(&mut pieces, entries.iter(range).count())?;
        entries.unwire(start, len, |piece| pieces.push(piece))?;
        for piece in pieces {
            self.release_wired(&entries, piece);
        }
        self.changed(entries);
        Ok(())
    }

    /// Wires as much from the start of `range` on as can be at once, waiting for its first page. Returns how far it came.
    fn wire_some(&self, range: AddrRange) -> Result<VirtAddr> {
        let mut fault = Fault::new(self, range.start, Access::Read, Goal::Wire);
        loop {
            let mut entries = self.write();
            let stop = match fault.wire_resident(&mut entries, range) {
                Ok(upto) => {
                    self.changed(entries);
                    return Ok(upto);
                }
                Err(Halt::Refused(error)) => return Err(error),
                Err(Halt::Stop(stop)) => stop,
            };
            drop(entries);
            match stop {
                Stop::Fail(error) => return Err(error.into()),
                Stop::Wait(need) => {
                    fault.note_restart(&need);
                    fault.wait_for(need)?;
                }
            }
        }
    }

    /// Gives up on a range that was wired in part. Parts that somebody has unmapped meanwhile were unwired by that.
    fn take_wiring_back(&self, range: AddrRange) {
        let mut at = range.start;
        while at < range.end {
            // Page by page, so that a hole stops nothing. Splitting an entry may want memory; without it the page stays wired, which is safe.
            let _ = self.unwire(at, PAGE_SIZE);
            at.0 += PAGE_SIZE;
        }
    }

    /// The mappings of `range`, whose entries are not wired any more, and their pages. That the map's lock is held, at least
    /// shared, is what the reference to its entries says (S210).
    fn release_wired(&self, entries: &Entries<Shown>, range: AddrRange) {
        self.pmap().unwire(range);
        for entry in entries.iter(range) {
            entry.backing.unwire_pages(&entry.places_in(range));
        }
    }
}

/// A wired entry has been taken out of its map: its pages are not wired for it any more.
pub(crate) fn entry_is_gone(entry: &MapEntry<Shown>) {
    if entry.attr.wired > 0 {
        entry.backing.unwire_pages(&entry.places());
    }
}

impl Fault<'_> {
    /// Wires the resident pages from the start of `range` on, in one entry, and counts it there.
    fn wire_resident(&mut self, entries: &mut Entries<Shown>, range: AddrRange) -> Result<VirtAddr, Halt> {
        let start = range.start;
        let entry = entries.lookup(start).ok_or(Error::NotMapped(start))?;
        let end = entry.range.end.min(range.end);
        if entry.attr.wired > 0 {
            // Its pages are wired for it already.
            entries.wire(start, end.0 - start.0, |_| {})?;
            return Ok(end);
        }
        self.access = some_access(&entry).ok_or(Stop::Fail(FaultError::Denied(start)))?;
        let end = end.min(VirtAddr(start.0.saturating_add(AT_ONCE * PAGE_SIZE)));
        let mut upto = start;
        while upto < end {
            self.va = upto;
            match self.attempt_in(entries) {
                Ok(_) => upto.0 += PAGE_SIZE,
                Err(stop) if upto == start => return Err(stop.into()),
                Err(_) => break,
            }
        }
        if let Err(error) = entries.wire(start, upto.0 - start.0, |_| {}) {
            self.map.release_wired(entries, AddrRange { start, end: upto });
            return Err(error.into());
        }
        Ok(upto)
    }
}

/// An access that the entry allows, the mildest there is.
fn some_access(entry: &ShownRef<'_>) -> Option<Access> {
    [
        (Prot::READ, Access::Read),
        (Prot::EXEC, Access::Exec),
        (Prot::WRITE, Access::Write),
    ]
    .into_iter()
    .find_map(|(prot, access)| entry.attr.prot.contains(prot).then_some(access))
}

impl Shown {
    /// Takes one wiring of each page that is shown at these places back, as far as the pages that were wired are still there.
    fn unwire_pages(&self, places: &Range<PageIndex>) {
        let mut from = places.start;
        if let Some(amap) = self.amap() {
            let look = amap.look();
            while let Some(slot) = look.next(from).filter(|slot| *slot < places.end) {
                // An anon without a page was never written: what lies below was wired.
                let is_own = look.anon(slot).is_some_and(|anon| anon.store.unwire_page(anon.place));
                let next = PageIndex(slot.0 + 1);
                self.unwire_below(from..if is_own { slot } else { next });
                from = next;
            }
        }
        self.unwire_below(from..places.end);
    }

    fn unwire_below(&self, places: Range<PageIndex>) {
        if let Some(object) = &self.below {
            object.unwire_pages(places);
        }
    }
}

impl Object {
    /// Takes one wiring of each page of a range back, as far as the pages that were wired are still there.
    fn unwire_pages(&self, range: Range<PageIndex>) {
        let mut from = range.start;
        let mut state = self.lock();
        while let Some((index, page)) = state.pages.next(from).filter(|(index, _)| range.contains(index)) {
            if !state.lost_wirings.has(index) {
                self.engine().memory.unwire(page);
            }
            from = PageIndex(index.0 + 1);
        }
        state.lost_wirings.take(&range);
    }

    /// The same for one page; false if it is not there.
    fn unwire_page(&self, index: PageIndex) -> bool {
        let state = self.lock();
        let page = state.pages.get(index);
        page.inspect(|page| self.engine().memory.unwire(page)).is_some()
    }
}
