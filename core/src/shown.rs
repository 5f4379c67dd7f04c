//! What an entry shows: an object, memory over it, or memory alone.

use alloc::sync::Arc;
use core::ops::Range;

use crate::amap::Amap;
use crate::error::Result;
use crate::map_entry::{Backing, EntryRef, MapEntry};
use crate::object::ObjectRef;
use crate::types::{AddrRange, PageIndex, Prot, pages_of};

/// What stands behind an entry. Places in it are page indices of the object, and slots of the amap: the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The object; zeros without one.
    pub(crate) below: Option<ObjectRef>,
    pub(crate) upper: Upper,
}

/// What lies over the object.
#[derive(Clone, Debug)]
pub(crate) enum Upper {
    /// Nothing: what is written goes to the object.
    Shared,
    /// Memory of its own.
    Private(Private),
}

/// Memory of an entry's own: what is written goes there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Private {
    /// Made when something is put there.
    pub(crate) amap: Option<Arc<Amap>>,
    /// Others show the same amap and do not expect it to change: it is copied before this one changes it.
    pub(crate) needs_copy: bool,
}

impl Shown {
    /// An object as it is.
    pub(crate) fn shared(object: ObjectRef) -> Self {
        Self {
            below: Some(object),
            upper: Upper::Shared,
        }
    }

    /// A copy of what lies below, made page by page when it is written.
    pub(crate) fn private(below: Option<ObjectRef>, amap: Option<Arc<Amap>>) -> Self {
        let needs_copy = false;
        Self {
            below,
            upper: Upper::Private(Private { amap, needs_copy }),
        }
    }

    /// The memory of its own, if what is written goes there.
    pub(crate) fn as_private(&self) -> Option<&Private> {
        match &self.upper {
            Upper::Shared => None,
            Upper::Private(private) => Some(private),
        }
    }

    /// The amap, if there is one.
    pub(crate) fn amap(&self) -> Option<&Arc<Amap>> {
        self.as_private()?.amap.as_ref()
    }

    /// Others show its amap from now on. Answers with what they show.
    pub(crate) fn needs_copy(&mut self) -> Self {
        if let Upper::Private(private) = &mut self.upper {
            private.needs_copy = true;
        }
        self.clone()
    }

    /// The entry that showed `slots` of it is gone. May block, as the last use of an object writes; no lock may be held.
    ///
    /// # Errors
    /// Those of [`ObjectRef::release`].
    pub(crate) fn release(self, slots: &Range<PageIndex>) -> Result<()> {
        if let Some(amap) = self.amap() {
            amap.uncover(slots);
        }
        drop(self.upper);
        self.below.map_or(Ok(()), ObjectRef::release)
    }
}

impl Backing for Shown {
    fn same(&self, other: &Self) -> bool {
        let below = self.below.as_ref().map(|object| object.id()) == other.below.as_ref().map(|object| object.id());
        below
            && match (&self.upper, &other.upper) {
                (Upper::Shared, Upper::Shared) => true,
                (Upper::Private(own), Upper::Private(others)) => own.same(others),
                _ => false,
            }
    }
}

impl Private {
    fn same(&self, other: &Self) -> bool {
        is_same(self.amap.as_ref(), other.amap.as_ref()) && self.needs_copy == other.needs_copy
    }
}

/// Whether two are the same amap, or both are none.
pub(crate) fn is_same(one: Option<&Arc<Amap>>, other: Option<&Arc<Amap>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

impl<B> MapEntry<B> {
    /// The places that it shows.
    pub(crate) fn places(&self) -> Range<PageIndex> {
        let first = self.offset.page();
        first..PageIndex(first.0 + pages_of(self.range.len()))
    }

    /// The places that it shows in a range that meets it.
    pub(crate) fn places_in(&self, range: AddrRange) -> Range<PageIndex> {
        let start = self.range.start.max(range.start);
        let end = self.range.end.min(range.end);
        let first = PageIndex(self.offset.page().0 + pages_of(start.0 - self.range.start.0));
        first..PageIndex(first.0 + pages_of(end.0.saturating_sub(start.0)))
    }
}

/// An entry of a map, seen.
pub(crate) type ShownRef<'a> = EntryRef<'a, Shown>;

impl ShownRef<'_> {
    /// Whether it could be written, now or after its protection has been raised: then its pages are its own from the moment they are
    /// wired, or shown by a machine that cannot show others.
    pub(crate) fn may_be_written(&self) -> bool {
        self.attr.max_prot.contains(Prot::WRITE)
    }
}
