//! Copies of what a map shows: a whole map for a child, and a part of one for whoever wants it as it is now.
//!
//! Nothing is copied but references. From then on the anons that both show are written by neither: whoever writes gets a copy of that page
//! (cases 1B and 2B of a fault). What is written otherwise is made at once: for memory that is wired, so that it stays where it is, and
//! nobody waits for a page of it.
//!
//! New amaps are made before the map is locked, because a store is an object, and objects are listed. Which are needed is found out twice:
//! before that, and under the lock; if it has changed, once more.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::amap::Amap;
use crate::entering::Entering;
use crate::error::{Error, Result};
use crate::machine::Serve;
use crate::map::{Map, release};
use crate::map_entry::{Attributes, MapEntry};
use crate::map_ops::{Entries, NewEntry, Place};
use crate::object::Object;
use crate::shown::{Private, Shown, ShownRef, Upper, is_same};
use crate::sync::assert_no_locks_held;
use crate::types::{Access, AddrRange, ByteOff, Inherit, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// A copy of a part of a map that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct CopyRequest {
    /// The first address; page aligned.
    pub start: VirtAddr,
    /// Bytes; rounded up to whole pages.
    pub len: u64,
    /// Where the copy goes.
    pub place: Place,
    /// Who resolves its faults, on a machine with real addresses.
    pub serve: Serve,
}

/// What a copy of an entry shows.
enum Copying {
    /// There is none.
    Nothing,
    /// The same object.
    Same,
    /// Zeros.
    Zeros,
    /// The same memory, which both write.
    SameMemory(Arc<Amap>),
    /// The entry's memory has to be made first.
    NotYet,
    /// The same amap, which whoever writes first copies.
    Later(Arc<Amap>),
    /// A copy of its amap.
    Now(Arc<Amap>),
    /// What lies below, with nothing over it yet.
    Below,
    /// The same, with an amap that is there from the beginning.
    BelowLaid,
}

impl Copying {
    fn of(entry: &ShownRef<'_>, how: Inherit, is_whole: bool, is_linear: bool) -> Self {
        match (how, &entry.backing.upper) {
            (Inherit::None, _) => Self::Nothing,
            (Inherit::Zero, _) => Self::Zeros,
            (Inherit::Share, Upper::Shared) => Self::Same,
            (Inherit::Share, Upper::Private(private)) => match &private.amap {
                Some(amap) if !private.needs_copy => Self::SameMemory(amap.clone()),
                _ => Self::NotYet,
            },
            (Inherit::Copy, Upper::Private(Private { amap: Some(amap), .. })) => {
                let now = is_linear || !is_whole || entry.attr.wired > 0 || amap.is_shared();
                if now {
                    Self::Now(amap.clone())
                } else {
                    Self::Later(amap.clone())
                }
            }
            (Inherit::Copy, _) if is_linear && entry.may_be_written() => Self::BelowLaid,
            (Inherit::Copy, _) => Self::Below,
        }
    }
}

/// Amaps made beforehand, in the order in which they are wanted: each beside another one, or alone.
type Fresh = Vec<(Option<Arc<Amap>>, Arc<Amap>)>;

/// What was copied.
#[derive(Default)]
struct Copies {
    /// The copies, with the addresses of what they are copies of.
    entries: Vec<MapEntry<Shown>>,
    /// Of these, what is wired there.
    wired: Vec<AddrRange>,
    /// Memory that others may be writing at this moment.
    written: Vec<(Arc<Amap>, Range<PageIndex>)>,
}

impl Copies {
    /// Sees to it that the next note finds room.
    fn reserve(&mut self) -> Result<()> {
        try_reserve(&mut self.wired, 1)?;
        try_reserve(&mut self.written, 1)
    }

    /// Notes what has to be done once the map is not locked any more for memory that was copied at once.
    fn note(&mut self, range: AddrRange, is_wired: bool, amap: Arc<Amap>, slots: Range<PageIndex>) {
        if is_wired {
            self.wired.push(range);
        }
        if amap.is_shared() {
            self.written.push((amap, slots));
        }
    }
}

impl Map {
    /// A map of the same size, with what each part of this one leaves to a child ([`Map::inherit`]): the same memory, a copy of it, zeros or
    /// nothing. Takes time for entries and for pages that are mapped, not for pages that are not; only memory that is wired is copied
    /// here and now. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Unsupported`] for an interrupt-safe map, and on a machine with real addresses, where two maps cannot
    /// have the same ones: see [`Map::copy_to`].
    /// [`Error::Fault`] when a page of wired memory cannot be copied. There is no child then, and this map is as it was.
    pub fn fork(&self) -> Result<Self> {
        assert_no_locks_held("forking a map");
        if self.pmap().is_linear() {
            return Err(Error::Unsupported(
                "this machine's addresses are those of the process, which has each of them once; copy the ranges that are wanted to other addresses",
            ));
        }
        self.check_may_be_copied()?;
        let bounds = self.read().bounds();
        let copies = self.copies(bounds, None)?;
        let child = self.child_with(bounds, copies.entries).and_then(|child| {
            copies.wired.iter().try_for_each(|wired| child.own(*wired))?;
            Ok(child)
        });
        self.write_again(&copies.wired);
        child
    }

    fn child_with(&self, bounds: AddrRange, copies: Vec<MapEntry<Shown>>) -> Result<Self> {
        let engine = self.engine();
        let pmap = match engine.machine().clone().pmap_create(bounds) {
            Ok(pmap) => pmap,
            Err(error) => {
                let _ = release(copies);
                return Err(error);
            }
        };
        Ok(Self::with_entries(engine.clone(), pmap, child_of(bounds, copies)?))
    }

    /// What is copied is write-protected, and faults when it is written.
    fn check_may_be_copied(&self) -> Result<()> {
        if self.is_interrupt_safe() {
            return Err(Error::Unsupported(
                "the map is interrupt-safe, and what is copied faults when it is written; copy its bytes out instead",
            ));
        }
        Ok(())
    }

    /// Copies a range, as it is at this moment, to addresses of `to`, which may be this map. What shows an object is a private
    /// copy of it. Rights and advice are the same; nothing is wired. Takes time for entries and for anonymous pages, but copies no page
    /// that is not wired. Answers where the copy is. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NotMapped`] with the first hole; those of [`Map::map`] and [`Map::fork`]. Nothing is mapped then.
    pub fn copy_to(&self, to: &Self, request: &CopyRequest) -> Result<AddrRange> {
        assert_no_locks_held("copying a range");
        if !Arc::ptr_eq(self.engine(), to.engine()) {
            return Err(Error::Invalid("the two maps belong to different engines"));
        }
        self.check_may_be_copied()?;
        let range = {
            let entries = self.read();
            let range = entries.check_range(request.start, request.len)?;
            entries.check_mapped(range, |_| Ok(()))?;
            range
        };
        let copies = self.copies(range, Some(Inherit::Copy))?;
        let copied = to.enter_copies(copies.entries, request).and_then(|copied| {
            let owned = copies.wired.iter().try_for_each(|wired| {
                let start = VirtAddr(copied.start.0 + (wired.start.0 - range.start.0));
                let end = VirtAddr(start.0 + wired.len());
                to.own(AddrRange { start, end })
            });
            owned.map(|()| copied).inspect_err(|_| to.take_back(copied))
        });
        self.write_again(&copies.wired);
        copied
    }

    /// Enters copies, one behind the other.
    fn enter_copies(&self, copies: Vec<MapEntry<Shown>>, request: &CopyRequest) -> Result<AddrRange> {
        let mut pieces = Vec::new();
        if let Err(error) = try_reserve(&mut pieces, copies.len()) {
            let _ = release(copies);
            return Err(error);
        }
        let copy = |copy| Entering::copy(copy, request.place, request.serve);
        pieces.extend(copies.into_iter().map(copy));
        self.enter(pieces)
    }

    /// Copies of what is mapped in `range`, by what each entry leaves to a child, or all alike.
    fn copies(&self, range: AddrRange, how: Option<Inherit>) -> Result<Copies> {
        loop {
            let fresh = self.prepare_copies(range, how)?;
            let mut copies = Copies::default();
            let mut entries = self.write();
            let copied = self.copy_entries(&mut entries, range, how, &fresh, &mut copies);
            self.changed(entries);
            match copied {
                Ok(true) => {
                    copies
                        .written
                        .drain(..)
                        .for_each(|(amap, slots)| write_protect(&amap, slots));
                    return Ok(copies);
                }
                not_copied => {
                    let released = release(copies.entries);
                    self.write_again(&copies.wired);
                    not_copied.and(released)?;
                }
            }
        }
    }

    /// What copies need that can only be made while the map is not locked.
    fn prepare_copies(&self, range: AddrRange, how: Option<Inherit>) -> Result<Fresh> {
        let mut not_yet = Vec::new();
        let mut wanted = Vec::new();
        {
            let entries = self.read();
            for entry in entries.iter(range) {
                match self.copying(&entry, range, how) {
                    Copying::NotYet => {
                        try_reserve(&mut not_yet, 1)?;
                        not_yet.push(entry.range.start);
                    }
                    Copying::Now(amap) => {
                        try_reserve(&mut wanted, 1)?;
                        wanted.push(Some(amap));
                    }
                    Copying::BelowLaid => {
                        try_reserve(&mut wanted, 1)?;
                        wanted.push(None);
                    }
                    _ => {}
                }
            }
        }
        not_yet.into_iter().try_for_each(|va| self.own_amap(va))?;
        let mut fresh = Vec::new();
        try_reserve(&mut fresh, wanted.len())?;
        for beside in wanted {
            let amap = match &beside {
                Some(amap) => amap.beside()?,
                None => Amap::alone(self.engine())?,
            };
            fresh.push((beside, amap));
        }
        Ok(fresh)
    }

    fn copying(&self, entry: &ShownRef<'_>, range: AddrRange, how: Option<Inherit>) -> Copying {
        let is_whole = range.start <= entry.range.start && entry.range.end <= range.end;
        Copying::of(
            entry,
            how.unwrap_or(entry.attr.inherit),
            is_whole,
            self.pmap().is_linear(),
        )
    }

    /// Copies what is mapped in `range`. False when something else is needed than was made for it.
    fn copy_entries(
        &self,
        entries: &mut Entries<Shown>,
        range: AddrRange,
        how: Option<Inherit>,
        fresh: &Fresh,
        copies: &mut Copies,
    ) -> Result<bool> {
        let mut fresh = fresh.iter();
        let mut at = range.start;
        while let Some(entry) = entries
            .lookup_at_or_after(at)
            .filter(|entry| entry.range.start < range.end)
        {
            at = entry.range.end;
            let copying = self.copying(&entry, range, how);
            let piece = AddrRange {
                start: entry.range.start.max(range.start),
                end: entry.range.end.min(range.end),
            };
            let slots = entry.places_in(range);
            let (below, attr) = (entry.backing.below.clone(), entry.attr);
            let mut offset = slots.start.offset();
            try_reserve(&mut copies.entries, 1)?;
            let shown = match copying {
                Copying::Nothing => continue,
                Copying::NotYet => return Ok(false),
                Copying::Same => entry.backing.clone(),
                Copying::Below => Shown::private(below, None),
                Copying::Zeros => {
                    offset = ByteOff(piece.start.0 - entries.bounds().start.0);
                    Shown::private(None, None)
                }
                Copying::SameMemory(amap) => {
                    amap.cover(&slots)?;
                    amap.share();
                    entry.backing.clone()
                }
                Copying::Later(amap) => {
                    amap.cover(&slots)?;
                    self.pmap().write_protect(piece);
                    match entries.backing_mut(piece.start) {
                        Some(shown) => shown.needs_copy(),
                        None => return Ok(false),
                    }
                }
                Copying::Now(amap) => {
                    let made = fresh.next().filter(|(beside, _)| is_same(beside.as_ref(), Some(&amap)));
                    let Some((_, copy)) = made else { return Ok(false) };
                    copies.reserve()?;
                    copy.copy_from(&amap, &slots)?;
                    self.pmap().write_protect(piece);
                    copies.note(piece, attr.wired > 0, amap, slots);
                    Shown::private(below, Some(copy.clone()))
                }
                Copying::BelowLaid => {
                    let Some((None, copy)) = fresh.next() else {
                        return Ok(false);
                    };
                    copy.cover(&slots)?;
                    Shown::private(below, Some(copy.clone()))
                }
            };
            copies.entries.push(MapEntry {
                range: piece,
                backing: shown,
                offset,
                attr: Attributes { wired: 0, ..attr },
            });
        }
        Ok(true)
    }

    /// Has every page in these ranges that may be written be written without a fault again: they are wired, and were protected over a copy.
    fn write_again(&self, ranges: &[AddrRange]) {
        for range in ranges {
            let mut va = range.start;
            while va < range.end {
                // Something else may be mapped there by now.
                if self.attributes_at(va).is_some_and(|attr| attr.wired > 0) {
                    // What cannot be mapped now will be by the access itself, or tells it why.
                    let _ = self.fault(va, Access::Write);
                }
                va.0 += PAGE_SIZE;
            }
        }
    }
}

/// The entries of a child.
fn child_of(bounds: AddrRange, copies: Vec<MapEntry<Shown>>) -> Result<Entries<Shown>> {
    let mut entries = match Entries::new(bounds) {
        Ok(entries) => entries,
        Err(error) => {
            let _ = release(copies);
            return Err(error);
        }
    };
    let mut copies = copies.into_iter();
    while let Some(copy) = copies.next() {
        let new = NewEntry {
            place: Place::FixedNoReplace(copy.range.start),
            len: copy.range.len(),
            backing: &copy.backing,
            offset: copy.offset,
            attr: copy.attr,
        };
        if let Err(error) = entries.enter(&new, &mut Vec::new()) {
            let _ = let_go(entries);
            let _ = release(core::iter::once(copy).chain(copies).collect());
            return Err(error);
        }
    }
    Ok(entries)
}

/// Lets go of entries that no map has. No lock may be held.
fn let_go(mut entries: Entries<Shown>) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(entry) = entries.pop_first() {
        let places = entry.places();
        outcome = outcome.and(entry.backing.release(&places));
    }
    outcome
}

/// Whoever writes to what others refer to by now faults. Those who write at this moment may come before or after.
fn write_protect(amap: &Amap, slots: Range<PageIndex>) {
    let mut from = slots.start;
    while let Some((slot, anon)) = next_shared(amap, from..slots.end) {
        from = PageIndex(slot.0 + 1);
        let Some((store, place)) = anon else { continue };
        if let Some(busy) = Object::busy_resident(&store, place) {
            busy.lower(Prot::READ | Prot::EXEC);
        }
    }
}

/// The next slot with an anon, and where that one's page is if others refer to it as well.
#[allow(clippy::type_complexity, reason = "said in the sentence above")]
fn next_shared(amap: &Amap, slots: Range<PageIndex>) -> Option<(PageIndex, Option<(Arc<Object>, PageIndex)>)> {
    let look = amap.look();
    let slot = look.next(slots.start).filter(|slot| *slot < slots.end)?;
    let anon = look.anon(slot).filter(|anon| anon.is_shared);
    Some((slot, anon.map(|anon| (anon.store.clone(), anon.place))))
}
