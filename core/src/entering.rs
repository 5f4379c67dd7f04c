//! How a mapping comes into a map: where it goes, whether it becomes one with a neighbour, and how the machine is told.

use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Error, Result};
use crate::machine::{Layout, MOST_ENTERED, Serve};
use crate::map::{Map, release};
use crate::map_entry::{Attributes, MapEntry};
use crate::map_ops::{Entries, NewEntry, Place};
use crate::shown::{Shown, ShownRef, Upper};
use crate::sync::assert_no_locks_held;
use crate::types::{AddrRange, ByteOff, PAGE_SIZE, PageIndex, VirtAddr, pages_of};

/// A mapping that is about to be entered.
#[derive(Debug)]
pub(crate) struct Entering {
    pub(crate) place: Place,
    /// Bytes.
    pub(crate) len: u64,
    pub(crate) offset: ByteOff,
    pub(crate) attr: Attributes,
    pub(crate) serve: Serve,
    pub(crate) shown: Shown,
    /// The slots that it shows count it already.
    pub(crate) is_counted: bool,
    /// What it was to show, when a neighbour's memory is shown instead.
    pub(crate) unused: Option<Shown>,
}

impl Map {
    /// Enters mappings side by side, all of them or none, at the first one's place, and answers with the range of all.
    ///
    /// # Errors
    /// As [`Map::map`]. What the mappings were to show has been let go of then.
    pub(crate) fn enter<P>(&self, mut pieces: P) -> Result<AddrRange>
    where
        P: AsMut<[Entering]> + IntoIterator<Item = Entering>,
    {
        assert_no_locks_held("mapping");
        let mut removed = Vec::new();
        let entered = self.enter_now(pieces.as_mut(), &mut removed);
        // Where no lock is held: what was replaced, and what is not shown after all.
        let mut ended = release(removed);
        for piece in pieces {
            ended = ended.and(piece.end(entered.is_ok()));
        }
        let range = entered.and_then(|range| ended.map(|()| range))?;
        self.wire_if_all(range)
    }

    fn enter_now(&self, pieces: &mut [Entering], removed: &mut Vec<MapEntry<Shown>>) -> Result<AddrRange> {
        let (first, others) = pieces
            .split_first()
            .ok_or(Error::Invalid("there is nothing to be mapped"))?;
        let mut whole = first.entry();
        let mut len = whole.check()?;
        for piece in others {
            len += piece.entry().check()?;
            // Of several only the sum of the lengths is still to be checked.
            whole.offset = ByteOff(0);
        }
        whole.len = len;
        let mut entries = self.write();
        let range = self.claim(&entries, &whole, len)?;
        if let Err(error) = entries.make_way(range, removed) {
            self.give_holes_back(&entries, range);
            return Err(error);
        }
        self.remove_translations(removed);
        let mut shown = in_turn(range.start, pieces)
            .try_for_each(|(range, piece)| prepare(&entries, piece, range).and_then(|()| self.lay(piece, range)));
        if shown.is_ok() {
            let new = in_turn(range.start, pieces).map(|(range, piece)| (range, piece.entry()));
            shown = entries.insert_all(range, new);
        }
        if shown.is_err() {
            self.pmap().give_back(range);
        }
        self.changed(entries);
        shown.map(|()| range)
    }

    /// Shows it on a machine that has to know beforehand. Before the entry, so that there is nothing to undo in the entries; who faults
    /// there already waits for the lock.
    fn lay(&self, new: &Entering, range: AddrRange) -> Result<()> {
        let shown = &new.shown;
        let (owner, told_of_writes) = match (shown.amap(), &shown.below) {
            (Some(amap), _) => (amap.store().id(), true),
            (None, Some(object)) => (object.id(), object.asks_for_leave()),
            // Nothing yet; it comes with the first fault, on a machine that can show it anywhere.
            (None, None) => return Ok(()),
        };
        self.pmap().lay(&Layout {
            range,
            owner,
            first: new.offset.page(),
            prot: new.attr.prot,
            told_of_writes,
            serve: new.serve,
        })
    }

    /// Chooses the range of a mapping of `len` bytes, and claims what is not mapped of it. Of a place that is left to the map the best.
    fn claim(&self, entries: &Entries<Shown>, new: &NewEntry<'_, Shown>, len: u64) -> Result<AddrRange> {
        if let Some(place) = better_place(new, len) {
            match self.claim_at(entries, &NewEntry { place, ..*new }, len) {
                // There may be room elsewhere.
                Err(Error::NoSpace(_)) => {}
                claimed => return claimed,
            }
        }
        self.claim_at(entries, new, len)
    }

    fn claim_at(&self, entries: &Entries<Shown>, new: &NewEntry<'_, Shown>, len: u64) -> Result<AddrRange> {
        if let Place::Anywhere { hint, align } = new.place
            && let Some(start) = self.pmap().find(len, align, hint)?
        {
            let place = Place::FixedNoReplace(start);
            return entries.choose(&NewEntry { place, ..*new }).inspect_err(|_| {
                if let Some(found) = AddrRange::sized(start, len) {
                    self.pmap().give_back(found);
                }
            });
        }
        let range = entries.choose(new)?;
        let mut claimed = range.start;
        let outcome = entries.each_hole(range, |hole| {
            self.pmap().claim(hole)?;
            claimed = hole.end;
            Ok(())
        });
        if let Err(error) = outcome {
            let (start, end) = (range.start, claimed);
            self.give_holes_back(entries, AddrRange { start, end });
            return Err(error);
        }
        Ok(range)
    }

    /// Gives back what was claimed in a range, which is everything that is not mapped.
    fn give_holes_back(&self, entries: &Entries<Shown>, range: AddrRange) {
        let _cannot_fail = entries.each_hole(range, |hole| {
            self.pmap().give_back(hole);
            Ok(())
        });
    }
}

/// A large page of the usual machines.
const LARGE: u64 = MOST_ENTERED as u64 * PAGE_SIZE;

/// Where a mapping that may lie anywhere shows the large pages of its object as such.
fn better_place(new: &NewEntry<'_, Shown>, len: u64) -> Option<Place> {
    // Who asks for more than pages knows what for.
    let Place::Anywhere { hint, align: PAGE_SIZE } = new.place else {
        return None;
    };
    let object = new
        .backing
        .below
        .as_ref()
        .filter(|_| new.backing.as_private().is_none())?;
    let has_some = object.has_large_pages() && len >= LARGE && new.offset.0.is_multiple_of(LARGE);
    has_some.then_some(Place::Anywhere { hint, align: LARGE })
}

impl Entering {
    /// A copy of another entry, which counts already.
    pub(crate) fn copy(entry: MapEntry<Shown>, place: Place, serve: Serve) -> Self {
        Self {
            place,
            len: entry.range.len(),
            offset: entry.offset,
            attr: entry.attr,
            serve,
            is_counted: entry.backing.amap().is_some(),
            shown: entry.backing,
            unused: None,
        }
    }

    fn entry(&self) -> NewEntry<'_, Shown> {
        NewEntry {
            place: self.place,
            len: self.len,
            backing: &self.shown,
            offset: self.offset,
            attr: self.attr,
        }
    }

    fn places(&self) -> Range<PageIndex> {
        let first = self.offset.page();
        first..PageIndex(first.0 + pages_of(self.len))
    }

    /// Lets go of what the entry does not keep. No lock may be held.
    fn end(self, was_entered: bool) -> Result<()> {
        let none = PageIndex(0)..PageIndex(0);
        let slots = if self.is_counted && !was_entered {
            self.places()
        } else {
            none.clone()
        };
        let unused = self.unused.map_or(Ok(()), |unused| unused.release(&none));
        self.shown.release(&slots).and(unused)
    }
}

/// Each with its range.
fn in_turn(mut start: VirtAddr, pieces: &mut [Entering]) -> impl Iterator<Item = (AddrRange, &mut Entering)> {
    pieces.iter_mut().map(move |piece| {
        let end = VirtAddr(start.0 + pages_of(piece.len) * PAGE_SIZE);
        (
            AddrRange {
                start: core::mem::replace(&mut start, end),
                end,
            },
            piece,
        )
    })
}

/// Counts the entry on what it is to show, or on a neighbour's memory, which it shows instead if that can be made longer.
fn prepare(entries: &Entries<Shown>, new: &mut Entering, range: AddrRange) -> Result<()> {
    if new.is_counted || new.shown.as_private().is_none() {
        return Ok(());
    }
    if new.shown.below.is_none() {
        if let Some((shown, offset)) = neighbours_memory(entries, new, range)? {
            new.offset = offset;
            new.unused = Some(core::mem::replace(&mut new.shown, shown));
            new.is_counted = true;
            return Ok(());
        }
        // An offset that follows from the address: neighbours become one, whichever comes first.
        new.offset = ByteOff(range.start.0 - entries.bounds().start.0);
        new.entry().check()?;
    }
    if let Some(amap) = new.shown.amap() {
        amap.cover(&new.places())?;
        new.is_counted = true;
    }
    Ok(())
}

/// The memory of a neighbour that has the same attributes and is nobody else's, made longer to reach over `range` as well: the one before
/// it, or the one behind it. Where both show the same, the three become one.
fn neighbours_memory(entries: &Entries<Shown>, new: &Entering, range: AddrRange) -> Result<Option<(Shown, ByteOff)>> {
    let before = range.start.0.checked_sub(1).and_then(|va| entries.lookup(VirtAddr(va)));
    let behind = entries.lookup(range.end);
    let offset_of_before = before.and_then(|entry| entry.offset.checked_add(entry.range.len()));
    let offset_of_behind = behind.and_then(|entry| entry.offset.0.checked_sub(range.len()).map(ByteOff));
    for (entry, offset) in [(before, offset_of_before), (behind, offset_of_behind)] {
        if let (Some(entry), Some(offset)) = (entry, offset)
            && can_be_longer(&entry, new)
            && (NewEntry { offset, ..new.entry() }).check().is_ok()
        {
            let first = offset.page();
            let slots = first..PageIndex(first.0 + pages_of(range.len()));
            let amap = entry.backing.amap();
            if amap.map_or(Ok(false), |amap| amap.extend(&slots))? {
                return Ok(Some((entry.backing.clone(), offset)));
            }
        }
    }
    Ok(None)
}

fn can_be_longer(entry: &ShownRef<'_>, new: &Entering) -> bool {
    let Upper::Private(private) = &entry.backing.upper else {
        return false;
    };
    !private.needs_copy && entry.backing.below.is_none() && entry.attr == new.attr
}
