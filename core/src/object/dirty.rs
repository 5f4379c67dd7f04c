//! What the index knows of dirtiness: the tags.
//!
//! Invariant: while the object is locked, a page that is not clean is tagged. A page leaves *clean* only through
//! [`ObjectState::note_writable`] and [`ObjectState::note_modified`], under the object's lock; what machines collect later was
//! *unknown* since. When the right to write is given to what is mapped already, that is noted directly after ([`Object::note_all_writable`]). The tag of a page may outlive its dirtiness: whoever finds a tagged page clean takes the tag away.

use core::ops::Range;

use super::{Object, ObjectState};
use crate::page::{Dirtiness, PageRef};
use crate::types::PageIndex;

impl ObjectState {
    /// A page of this object, busied in either mode, is about to be mapped writable.
    #[inline]
    pub(crate) fn note_writable(&mut self, page: PageRef) {
        self.tag_if_clean(page);
        page.note_writable();
    }

    /// A page of this object, busied in either mode, is about to be written, or is wired. What swap has of it is worthless (S189, N15).
    #[inline]
    pub(crate) fn note_modified(&mut self, page: PageRef) {
        self.tag_if_clean(page);
        if let Some(anonymous) = &self.anonymous {
            anonymous.release(page.index());
        }
        page.note_modified();
    }

    #[inline]
    fn tag_if_clean(&mut self, page: PageRef) {
        if page.dirtiness() == Dirtiness::Clean && !page.is_device() {
            self.pages.tag(page.index());
        }
    }

    /// The first page in `from..end` that may be dirty. Forgets the tags of clean pages on the way, but of none that somebody
    /// has to himself: he may be finding out, and it looks clean until the machine has told him what was written.
    pub(crate) fn next_unclean(&mut self, mut from: PageIndex, end: PageIndex) -> Option<(PageIndex, PageRef)> {
        loop {
            let (index, page) = self.pages.next_tagged(from).filter(|(index, _)| *index < end)?;
            if page.dirtiness() != Dirtiness::Clean || page.is_exclusive() {
                return Some((index, page));
            }
            self.pages.untag(index);
            from = PageIndex(index.0 + 1);
        }
    }

    /// Pages that are known to be dirty.
    pub(crate) fn dirty_pages(&self) -> u64 {
        let mut from = PageIndex(0);
        let mut dirty = 0;
        while let Some((index, page)) = self.pages.next_tagged(from) {
            dirty += u64::from(page.dirtiness() == Dirtiness::Dirty);
            from = PageIndex(index.0 + 1);
        }
        dirty
    }
}

impl Object {
    /// The pages of a range that are in memory may be written unseen from now on, busied or not.
    pub(crate) fn note_all_writable(&self, range: Range<PageIndex>) {
        // Where the pager has to be asked first, a write faults.
        if !self.is_writable() || self.asks_for_leave() {
            return;
        }
        let mut state = self.lock();
        let mut from = range.start;
        while let Some((index, page)) = state.pages.next(from).filter(|(index, _)| *index < range.end) {
            // Also if it is not clean: it may have been written since the right was given, and been unmapped.
            state.pages.tag(index);
            page.note_writable();
            from = PageIndex(index.0 + 1);
        }
    }
}
