//! What can be asked of mapped memory by its addresses: to write it, to bring it in, to let it go, and what is known of it.
//!
//! Every call takes a range that is mapped throughout, at a page aligned address, whose length is rounded up to whole pages.
//! The objects behind it are found under the map's lock, and dealt with afterwards: who changes the map meanwhile does not
//! change what the call does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::amap::{Anon, ToFree};
use crate::error::{Error, Result};
use crate::flush::{FlushFlags, PutFlags};
use crate::map::Map;
use crate::map_ops::Entries;
use crate::object::Object;
use crate::page::{Dirtiness, PageRef};
use crate::read_ahead::{MOST_AHEAD, Plan};
use crate::shown::{Shown, ShownRef};
use crate::sync::assert_no_locks_held;
use crate::types::{Access, AddrRange, PAGE_SIZE, PageIndex, Prot, VirtAddr, pages_of};

bitflags::bitflags! {
    /// How to write mapped memory back ([`Map::sync`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SyncFlags: u32 {
        /// What was written is durable before the call returns.
        const DURABLE = 1;
        /// The pages are freed afterwards, and the next access asks the pager anew. Wired ones stay.
        const INVALIDATE = 2;
    }
}

bitflags::bitflags! {
    /// What is known of a page of mapped memory ([`Map::residency`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Residency: u8 {
        /// It is in memory, filled.
        const RESIDENT = 1;
        /// It has to be written, or is mapped writable somewhere and may have been written unseen.
        const DIRTY = 2;
        /// It is wired, by this mapping or another one.
        const WIRED = 4;
        /// It is mapped at this address: an access that the mapping allows need not fault.
        const MAPPED = 8;
    }
}

/// Pages that one call of [`Map::residency`] looks at under one hold of the locks.
const AT_ONCE: usize = 256;
/// Pages that are brought in together before they are mapped.
const BATCH: u64 = 64;

/// The most pages that one [`Map::will_need`] asks for: who wants more will come again.
const MOST_WANTED: u32 = 4096;

/// Pages of one object in one piece that an entry shows.
struct Part {
    object: Arc<Object>,
    pages: Range<PageIndex>,
    start: VirtAddr,
    wired: bool,
    writable: bool,
    /// It is an entry's own, or lies below what is: what is written does not go to the object.
    private: bool,
}

impl Part {
    fn new(entry: &ShownRef<'_>, at: VirtAddr, object: &Arc<Object>, pages: Range<PageIndex>) -> Self {
        Self {
            object: object.clone(),
            pages,
            start: at,
            wired: entry.attr.wired > 0,
            writable: entry.attr.prot.contains(Prot::WRITE),
            private: entry.backing.as_private().is_some(),
        }
    }

    /// Whether another one goes on where this one ends.
    fn grow(&mut self, object: &Object, page: PageIndex) -> bool {
        let goes_on = self.object.id() == object.id() && self.pages.end == page;
        self.pages.end.0 += u64::from(goes_on);
        goes_on
    }

    fn range(&self) -> AddrRange {
        AddrRange {
            start: self.start,
            end: VirtAddr(self.start.0 + (self.pages.end.0 - self.pages.start.0) * PAGE_SIZE),
        }
    }

    /// The pages that the object has.
    fn in_object(&self) -> Range<u64> {
        self.pages.start.0..self.pages.end.0.min(pages_of(self.object.size()))
    }

    fn address_of(&self, index: u64) -> VirtAddr {
        VirtAddr(self.start.0 + (index - self.pages.start.0) * PAGE_SIZE)
    }
}

impl Map {
    /// Writes what is dirty in the objects that `len` bytes from `start` show, as far as they are shown there, and waits for it.
    /// Memory of an entry's own belongs to no file: nothing is written for it. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotMapped`] with the first hole, [`Error::NoMemory`]: nothing was written. Those of
    /// [`Object::flush`]: the first failure; what could not be written is kept, dirty, and everything else was written.
    pub fn sync(&self, start: VirtAddr, len: u64, flags: SyncFlags) -> Result<()> {
        assert_no_locks_held("syncing");
        let how = if flags.contains(SyncFlags::DURABLE) {
            FlushFlags::DURABLE
        } else {
            FlushFlags::empty()
        };
        let mut outcome = Ok(());
        for part in self.parts(start, len)? {
            if part.private {
                continue;
            }
            let mut done = part.object.flush(part.pages.clone(), how);
            if done.is_ok() && flags.contains(SyncFlags::INVALIDATE) {
                done = part
                    .object
                    .put(part.pages, PutFlags::CLEANIT | PutFlags::FREE)
                    .map(|_| ());
            }
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Reads in what is not in memory of `len` bytes from `start`, and maps nothing. What lies behind an object's end is passed
    /// over. More than the memory holds pushes its own first pages out. May block; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments. [`Error::Fault`] for the first page that could not be brought in; those before are there.
    pub fn prefetch(&self, start: VirtAddr, len: u64) -> Result<()> {
        assert_no_locks_held("prefetching");
        for part in self.parts(start, len)? {
            self.read_missing(&part)?;
        }
        Ok(())
    }

    /// Says that `len` bytes from `start` will be used: what is not in memory is read by the engine's read-ahead worker, as
    /// far as there are frames to spare, and not more than the first 16 MiB. Does not block. See [`Map::prefetch`] for a call that waits.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments.
    pub fn will_need(&self, start: VirtAddr, len: u64) -> Result<()> {
        let mut left = MOST_WANTED;
        for part in self.parts(start, len)? {
            let wanted = part.in_object();
            let first = PageIndex(wanted.start);
            let pages = u32::try_from(wanted.end.saturating_sub(wanted.start)).map_or(left, |pages| pages.min(left));
            if pages > 0 {
                self.engine().read_ahead(&part.object, Plan { first, pages });
                left -= pages;
            }
        }
        Ok(())
    }

    /// Says that `len` bytes from `start` are not needed for now: their mappings go, and their pages are the next to be taken when
    /// memory is short. Nothing is lost: what is dirty is written before. Wired parts stay as they are. Does not wait for pages.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments.
    pub fn dont_need(&self, start: VirtAddr, len: u64) -> Result<()> {
        assert_no_locks_held("giving advice");
        let parts = {
            let entries = self.write();
            let parts = parts_of(&entries, start, len)?;
            for part in parts.iter().filter(|part| !part.wired) {
                self.pmap().remove(part.range());
            }
            parts
        };
        deactivate(parts)
    }

    /// Says that `len` bytes from `start` will not be used soon: their pages are the next to be taken when memory is short,
    /// and stay mapped until then. Wired ones stay as they are. Does not wait for pages.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments.
    pub fn cold(&self, start: VirtAddr, len: u64) -> Result<()> {
        assert_no_locks_held("giving advice");
        deactivate(self.parts(start, len)?)
    }

    /// Says that what `len` bytes from `start` hold is not needed any more. Memory of an entry's own that nobody shares is given up
    /// there and then, with its room in swap: it is zeros again, or shows the object again. Of all other memory it says no more than
    /// [`Map::dont_need`]. Wired parts stay as they are. May block for busy pages; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments.
    pub fn free(&self, start: VirtAddr, len: u64) -> Result<()> {
        self.dont_need(start, len)?;
        let mut rest = self.read().check_range(start, len)?;
        while let Some((va, to_free)) = self.free_next(rest) {
            let is_done = match to_free {
                ToFree::Page(_, busy) => {
                    busy.forget();
                    true
                }
                // A page that is there and cannot be had is kept by a pager that broke its promise.
                ToFree::Busy(_, store, place) => {
                    Object::busy_resident(&store, place).is_none() && store.lookup(place).is_some()
                }
            };
            rest.start = VirtAddr(va.0 + if is_done { PAGE_SIZE } else { 0 });
        }
        self.engine().swap().tell_freed();
        Ok(())
    }

    /// The first page in memory that is to be freed in a range, and where to go on. It is busied with the map locked: who copies the map before
    /// has it kept, and who does so later finds it gone.
    fn free_next(&self, range: AddrRange) -> Option<(VirtAddr, ToFree)> {
        let entries = self.read();
        entries.iter(range).find_map(|entry| {
            let private = entry.backing.as_private().filter(|private| !private.needs_copy)?;
            let amap = private.amap.as_ref().filter(|_| entry.attr.wired == 0)?;
            let to_free = amap.look().free_next(&entry.places_in(range))?;
            let (ToFree::Page(slot, _) | ToFree::Busy(slot, ..)) = to_free;
            let va = entry.range.start.0 + (slot.0 - entry.places().start.0) * PAGE_SIZE;
            Some((VirtAddr(va), to_free))
        })
    }

    /// Tells what is known of each page of `len` bytes from `start`, in `to`, one entry a page. It may have changed when the
    /// call returns. Does not block.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments; [`Error::Invalid`] when `to` is too short. `to` may have been written in part.
    pub fn residency(&self, start: VirtAddr, len: u64, to: &mut [Residency]) -> Result<()> {
        let range = self.read().check_range(start, len)?;
        let pages = usize::try_from(pages_of(range.len())).unwrap_or(usize::MAX);
        let to = to.get_mut(..pages).ok_or(Error::Invalid(
            "the buffer is too short: it has to have one entry for every page of the range",
        ))?;
        // By way of the stack: the caller's buffer may be served memory, and is not touched under a lock.
        let mut seen = [Residency::empty(); AT_ONCE];
        let mut at = range.start;
        for chunk in to.chunks_mut(AT_ONCE) {
            let seen = &mut seen[..chunk.len()];
            self.look(at, seen)?;
            chunk.copy_from_slice(seen);
            at.0 += chunk.len() as u64 * PAGE_SIZE;
        }
        Ok(())
    }

    /// Maps every page of `len` bytes from `start` for `access`, as if it had been accessed: for buffers that are handed to
    /// system calls, and to have the faults at a time of the caller's choice. Pages that are mapped for writing count as
    /// dirty until they have been written back.
    /// Nothing keeps them mapped: see [`Map::wire`]. May block; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::sync`] for the arguments. [`Error::Fault`] for the first page that could not be mapped; those before were.
    pub fn populate(&self, start: VirtAddr, len: u64, access: Access) -> Result<()> {
        assert_no_locks_held("mapping ahead of time");
        let range = {
            let entries = self.read();
            let range = entries.check_range(start, len)?;
            entries.check_mapped(range, |_| Ok(()))?;
            range
        };
        let mut at = range.start;
        while at < range.end {
            let batch = (BATCH * PAGE_SIZE).min(range.end.0 - at.0);
            // Its errors come again, with the fault of the page they belong to.
            let _ = self.prefetch(at, batch);
            if access == Access::Write {
                self.ask_to_write(at, batch)?;
            }
            let end = VirtAddr(at.0 + batch);
            while at < end {
                if !self.is_mapped_for(at, access) {
                    self.fault(at, access)?;
                }
                at.0 += PAGE_SIZE;
            }
        }
        Ok(())
    }

    /// Asks pagers that want it for leave to write the pages in memory of a range that may be written, in runs.
    pub(crate) fn ask_to_write(&self, start: VirtAddr, len: u64) -> Result<()> {
        for part in self.parts(start, len)? {
            if !part.writable || part.private || !part.object.asks_for_leave() {
                continue;
            }
            let mut pages = part.in_object();
            while let Some(index) = pages.find(|index| {
                let page = part.object.lookup(PageIndex(*index));
                page.is_some_and(|page| part.object.wants_leave(page))
            }) {
                let most = usize::try_from(pages.end - index).map_or(AT_ONCE, |most| most.min(AT_ONCE));
                let asked = part.object.ask_to_write(PageIndex(index), most);
                // A refusal comes again, with the fault of the page it belongs to.
                if asked.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn is_mapped_for(&self, va: VirtAddr, access: Access) -> bool {
        let _entries = self.read();
        self.pmap()
            .extract(va)
            .is_some_and(|there| there.prot.contains(access.needs()))
    }

    fn parts(&self, start: VirtAddr, len: u64) -> Result<Vec<Part>> {
        parts_of(&self.read(), start, len)
    }

    /// Reads the missing pages of a part in, in runs.
    fn read_missing(&self, part: &Part) -> Result<()> {
        let pages = part.in_object();
        for index in pages.clone() {
            if part.object.lookup(PageIndex(index)).is_some() {
                continue;
            }
            let along = u32::try_from(pages.end - index - 1).unwrap_or(u32::MAX);
            let va = part.address_of(index);
            self.bring_in(va, &part.object, PageIndex(index), along.min(MOST_AHEAD))?;
        }
        Ok(())
    }

    /// What is known of the pages from `start` on.
    fn look(&self, start: VirtAddr, seen: &mut [Residency]) -> Result<()> {
        let entries = self.read();
        let range = entries.check_range(start, seen.len() as u64 * PAGE_SIZE)?;
        entries.check_mapped(range, |entry| {
            let places = entry.places_in(range);
            let va = entry.range.start.max(range.start);
            let place = usize::try_from(pages_of(va.0 - start.0)).unwrap_or(usize::MAX);
            let seen = &mut seen[place..][..places_len(&places)];
            look_at_entry(&entry, &places, seen);
            for (i, is) in seen.iter_mut().enumerate() {
                let va = VirtAddr(va.0 + i as u64 * PAGE_SIZE);
                is.set(Residency::MAPPED, self.pmap().extract(va).is_some());
            }
            Ok(())
        })
    }
}

fn places_len(places: &Range<PageIndex>) -> usize {
    usize::try_from(places.end.0 - places.start.0).unwrap_or(usize::MAX)
}

/// What is known of the pages that an entry shows at some places, but for how they are mapped.
fn look_at_entry(entry: &ShownRef<'_>, places: &Range<PageIndex>, seen: &mut [Residency]) {
    if let Some(object) = &entry.backing.below {
        let state = object.lock();
        for (index, is) in (places.start.0..).zip(seen.iter_mut()) {
            *is = residency_of(state.pages.get(PageIndex(index)));
        }
    }
    let Some(amap) = entry.backing.amap() else { return };
    let look = amap.look();
    let mut from = places.start;
    while let Some(slot) = look.next(from).filter(|slot| *slot < places.end) {
        let at = places_len(&(places.start..slot));
        if let Some(anon) = look.anon(slot) {
            let state = anon.store.lock();
            let page = state.pages.get(anon.place);
            if page.is_some() || anon.store.has_slot(anon.place) {
                seen[at] = residency_of(page);
            }
        }
        from = PageIndex(slot.0 + 1);
    }
}

fn residency_of(page: Option<PageRef>) -> Residency {
    let mut is = Residency::empty();
    if let Some(page) = page.filter(|page| page.is_valid()) {
        is |= Residency::RESIDENT;
        is.set(Residency::DIRTY, page.dirtiness() != Dirtiness::Clean);
        is.set(Residency::WIRED, page.wire_count() > 0);
    }
    is
}

/// What the entries show of a range, which has to be mapped throughout.
fn parts_of(entries: &Entries<Shown>, start: VirtAddr, len: u64) -> Result<Vec<Part>> {
    let range = entries.check_range(start, len)?;
    let mut parts = Vec::new();
    entries.check_mapped(range, |entry| {
        let places = entry.places_in(range);
        add_parts(&mut parts, &entry, places)
    })?;
    Ok(parts)
}

/// The pages that an entry shows at some places: those of its anons, and the object's in between.
fn add_parts(parts: &mut Vec<Part>, entry: &ShownRef<'_>, places: Range<PageIndex>) -> Result<()> {
    let address = |place: PageIndex| VirtAddr(entry.range.start.0 + (place.0 - entry.places().start.0) * PAGE_SIZE);
    let below = |parts: &mut Vec<Part>, places: Range<PageIndex>| {
        let Some(object) = entry.backing.below.as_ref().filter(|_| places.start < places.end) else {
            return Ok(());
        };
        try_reserve(parts, 1)?;
        parts.push(Part::new(entry, address(places.start), object.object(), places));
        Ok(())
    };
    let mut from = places.start;
    if let Some(amap) = entry.backing.amap() {
        let look = amap.look();
        let mut at = from;
        while let Some(slot) = look.next(at).filter(|slot| *slot < places.end) {
            at = PageIndex(slot.0 + 1);
            let Some(anon) = look.anon(slot).filter(Anon::was_written) else {
                continue;
            };
            below(parts, from..slot)?;
            let follows = from == slot;
            from = at;
            if follows && parts.last_mut().is_some_and(|part| part.grow(anon.store, anon.place)) {
                continue;
            }
            try_reserve(parts, 1)?;
            let page = anon.place..PageIndex(anon.place.0 + 1);
            parts.push(Part::new(entry, address(slot), anon.store, page));
        }
    }
    below(parts, from..places.end)
}

fn deactivate(parts: Vec<Part>) -> Result<()> {
    let mut outcome = Ok(());
    for part in parts {
        outcome = outcome.and(part.object.put(part.pages, PutFlags::DEACTIVATE).map(|_| ()));
    }
    outcome
}
