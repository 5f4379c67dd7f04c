//! An object's place in the file of frames, and where the object is seen.
//!
//! Each object has linear segments of the file, so that page and frame differ by a constant there and one mapping of the
//! file shows a range of the object. A segment is made for a layout, or for a page that gets a frame before anything shows
//! it. When an object has neither frames nor layouts, its segments are given to others.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use quire_core::error::{Error, Result};
use quire_core::machine::Placement;
use quire_core::types::{AddrRange, Frame, ObjectId, PageIndex};

use crate::layout::Laid;
use crate::lock::{read, write};
use crate::store::FILE_PAGES;

/// Segments begin and end at multiples of this many pages of their object: 64 MiB.
const UNIT: u64 = 1 << 14;

/// An object's place.
#[derive(Debug)]
pub(crate) struct Space {
    owner: ObjectId,
    /// Frames of it that are somebody's, and those who are about to lay it out.
    used: AtomicU64,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Ascending, not overlapping.
    segments: Vec<Segment>,
    /// Where the object is seen. Addresses are the machine's as long as they are listed here.
    pub(crate) layouts: Vec<Laid>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: PageIndex,
    pages: u64,
    base: Frame,
}

impl Segment {
    fn frame_of(&self, index: PageIndex) -> Option<Frame> {
        let offset = index.0.checked_sub(self.first.0)?;
        (offset < self.pages).then(|| Frame(self.base.0 + offset))
    }
}

/// A piece of an object that lies in one piece in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) first: PageIndex,
    pub(crate) pages: u64,
    pub(crate) base: Frame,
}

impl Space {
    pub(crate) fn owner(&self) -> ObjectId {
        self.owner
    }

    pub(crate) fn inner(&self) -> &RwLock<Inner> {
        &self.inner
    }

    /// Forgets what is laid out in `range` of addresses, keeping the parts outside.
    pub(crate) fn delist(inner: &mut Inner, channel: &Arc<crate::layout::Channel>, range: AddrRange) {
        let mut kept = Vec::with_capacity(inner.layouts.len() + 1);
        for laid in inner.layouts.drain(..) {
            if !Arc::ptr_eq(&laid.channel, channel) || laid.part(range).is_none() {
                kept.push(laid);
                continue;
            }
            let before = AddrRange {
                start: laid.range.start,
                end: range.start.max(laid.range.start),
            };
            let behind = AddrRange {
                start: range.end.min(laid.range.end),
                end: laid.range.end,
            };
            kept.extend([before, behind].into_iter().filter_map(|part| laid.part(part)));
        }
        inner.layouts = kept;
    }

    fn find(inner: &Inner, index: PageIndex) -> Option<&Segment> {
        let at = inner.segments.partition_point(|segment| segment.first <= index);
        let segment = inner.segments.get(at.checked_sub(1)?)?;
        segment.frame_of(index).map(|_| segment)
    }
}

/// The places of all objects.
#[derive(Debug)]
pub(crate) struct Spaces {
    inner: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    by_owner: HashMap<ObjectId, Arc<Space>>,
    /// Whose a segment is, by its first frame.
    by_frame: BTreeMap<u64, Arc<Space>>,
    /// Free pages of the file, by their first.
    free: BTreeMap<u64, u64>,
}

impl Spaces {
    pub(crate) fn new() -> Self {
        Self {
            inner: RwLock::new(Table {
                by_owner: HashMap::new(),
                by_frame: BTreeMap::new(),
                free: BTreeMap::from([(0, FILE_PAGES)]),
            }),
        }
    }

    /// The place of an object, if it has one.
    pub(crate) fn of(&self, owner: ObjectId) -> Option<Arc<Space>> {
        read(&self.inner).by_owner.get(&owner).cloned()
    }

    /// The frame for a page, counted as used.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when the file is full of segments.
    pub(crate) fn take_frame(&self, place: Placement) -> Result<Frame> {
        {
            let table = read(&self.inner);
            if let Some(space) = table.by_owner.get(&place.owner)
                && let Some(segment) = Space::find(&read(&space.inner), place.index)
                && let Some(frame) = segment.frame_of(place.index)
            {
                space.used.fetch_add(1, Ordering::AcqRel);
                return Ok(frame);
            }
        }
        let mut table = write(&self.inner);
        let space = table.space_of(place.owner);
        table.cover(&space, place.index, 1)?;
        let inner = read(&space.inner);
        let frame = Space::find(&inner, place.index).and_then(|segment| segment.frame_of(place.index));
        space.used.fetch_add(1, Ordering::AcqRel);
        frame.ok_or(Error::NoMemory)
    }

    /// Frames that lie in one segment are given back.
    pub(crate) fn give_frames(&self, first: Frame, count: u64) {
        let unused = {
            let table = read(&self.inner);
            let Some((_, space)) = table.by_frame.range(..=first.0).next_back() else {
                debug_assert!(false, "a frame of no segment was given back");
                return;
            };
            let space = space.clone();
            (space.used.fetch_sub(count, Ordering::AcqRel) == count).then_some(space)
        };
        if let Some(space) = unused {
            self.drop_if_unused(&space);
        }
    }

    /// The pieces of the file that show pages of an object, for a layout. The space counts as used until [`Spaces::laid`].
    ///
    /// # Errors
    /// [`Error::NoMemory`] when the file has no room for the range.
    pub(crate) fn pieces(&self, owner: ObjectId, first: PageIndex, pages: u64) -> Result<(Arc<Space>, Vec<Piece>)> {
        let mut table = write(&self.inner);
        let space = table.space_of(owner);
        if let Err(error) = table.cover(&space, first, pages) {
            drop(table);
            self.drop_if_unused(&space);
            return Err(error);
        }
        space.used.fetch_add(1, Ordering::AcqRel);
        drop(table);
        let inner = read(&space.inner);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut index = first;
        while index.0 < first.0 + pages {
            let segment = Space::find(&inner, index).ok_or(Error::NoMemory)?;
            let base = segment.frame_of(index).ok_or(Error::NoMemory)?;
            let here = (segment.first.0 + segment.pages).min(first.0 + pages) - index.0;
            match pieces.last_mut() {
                Some(last) if last.base.0 + last.pages == base.0 => last.pages += here,
                _ => pieces.push(Piece {
                    first: index,
                    pages: here,
                    base,
                }),
            }
            index.0 += here;
        }
        drop(inner);
        Ok((space, pieces))
    }

    /// Ends what [`Spaces::pieces`] began: layouts were listed, or it failed.
    pub(crate) fn laid(&self, space: &Arc<Space>) {
        if space.used.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drop_if_unused(space);
        }
    }

    /// Gives the segments of an object to others if nothing of it is used.
    pub(crate) fn drop_if_unused(&self, space: &Arc<Space>) {
        let mut table = write(&self.inner);
        let inner = write(&space.inner);
        let known = table
            .by_owner
            .get(&space.owner)
            .is_some_and(|known| Arc::ptr_eq(known, space));
        if !known || space.used.load(Ordering::Acquire) != 0 || !inner.layouts.is_empty() {
            return;
        }
        table.by_owner.remove(&space.owner);
        for segment in &inner.segments {
            table.by_frame.remove(&segment.base.0);
            table.free(segment.base.0, segment.pages);
        }
    }
}

impl Table {
    fn space_of(&mut self, owner: ObjectId) -> Arc<Space> {
        let new = || {
            Arc::new(Space {
                owner,
                used: AtomicU64::new(0),
                inner: RwLock::default(),
            })
        };
        self.by_owner.entry(owner).or_insert_with(new).clone()
    }

    /// Sees that all of a range has segments.
    fn cover(&mut self, space: &Arc<Space>, first: PageIndex, pages: u64) -> Result<()> {
        let end = first.0 + pages;
        let mut inner = write(&space.inner);
        let mut index = first.0;
        while index < end {
            if let Some(segment) = Space::find(&inner, PageIndex(index)) {
                index = segment.first.0 + segment.pages;
                continue;
            }
            let at = inner.segments.partition_point(|segment| segment.first.0 <= index);
            let start = index / UNIT * UNIT;
            let mut stop = end.next_multiple_of(UNIT);
            if let Some(next) = inner.segments.get(at) {
                stop = stop.min(next.first.0);
            }
            let base = self.allocate(stop - start).ok_or(Error::NoMemory)?;
            inner.segments.insert(
                at,
                Segment {
                    first: PageIndex(start),
                    pages: stop - start,
                    base: Frame(base),
                },
            );
            self.by_frame.insert(base, space.clone());
            index = stop;
        }
        Ok(())
    }

    /// First fit.
    fn allocate(&mut self, pages: u64) -> Option<u64> {
        let (&start, &len) = self.free.iter().find(|(_, len)| **len >= pages)?;
        self.free.remove(&start);
        if len > pages {
            self.free.insert(start + pages, len - pages);
        }
        Some(start)
    }

    fn free(&mut self, start: u64, len: u64) {
        let (mut start, mut len) = (start, len);
        if let Some((&before, &its)) = self.free.range(..start).next_back()
            && before + its == start
        {
            self.free.remove(&before);
            (start, len) = (before, its + len);
        }
        if let Some(behind) = self.free.remove(&(start + len)) {
            len += behind;
        }
        self.free.insert(start, len);
    }
}
