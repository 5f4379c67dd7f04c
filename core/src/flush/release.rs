//! Letting go of pages: making them the next to be taken, and freeing them.

use alloc::sync::Arc;
use core::ops::Range;

use crate::object::{ExclusiveBusy, Object};
use crate::page::{Dirtiness, PageRef};
use crate::types::{PageIndex, Prot};

impl Object {
    /// Makes the pages of a range the next to be taken: what is known of their use is forgotten. Wired and busy ones are
    /// left as they are (S91, S92). Returns how many.
    pub(super) fn deactivate(&self, range: Range<PageIndex>) -> u64 {
        let mut count = 0;
        self.for_each_page(range, |index, page| {
            if page.wire_count() > 0 {
                return;
            }
            let busy = ExclusiveBusy::try_resident(self, &self.lock(), index);
            if let Some(busy) = busy {
                busy.page().take_referenced();
                self.engine().machine().page_referenced(busy.page());
                self.engine().memory.deactivate(busy.page());
                count += 1;
            }
        });
        count
    }

    /// Frees the pages of a range: with `keep_dirty` those that are clean, waiting for busy ones; without it all that are not
    /// busy, with what is dirty in them. Returns how many were freed, and how many were not.
    pub(super) fn free_range(self: &Arc<Self>, range: Range<PageIndex>, keep_dirty: bool) -> (u64, u64) {
        let (mut freed, mut kept) = (0, 0);
        self.for_each_page(range, |index, _| {
            let this: &Self = self;
            let busy = if keep_dirty {
                Self::busy_resident(&this, index)
            } else {
                ExclusiveBusy::try_resident(this, &this.lock(), index)
            };
            match busy {
                Some(busy) if this.may_free(busy.page(), keep_dirty) => {
                    busy.free();
                    freed += 1;
                }
                _ => kept += 1,
            }
        });
        (freed, kept)
    }

    /// Unmaps a page, and tells whether it may go. First the mappings, then the modified bit: nothing is written in between
    /// (S77, S78).
    fn may_free(&self, page: PageRef, keep_dirty: bool) -> bool {
        if page.wire_count() > 0 {
            return false;
        }
        if keep_dirty && page.dirtiness() == Dirtiness::Dirty {
            return false;
        }
        self.engine().machine().page_protect(&[page], Prot::empty());
        page.settle();
        !keep_dirty || page.dirtiness() == Dirtiness::Clean
    }

    /// Calls `each` for every page in memory of a range, holding nothing. What the page is may change before.
    fn for_each_page(&self, range: Range<PageIndex>, mut each: impl FnMut(PageIndex, PageRef)) {
        let mut from = range.start;
        loop {
            let next = self.lock().pages.next(from).filter(|(index, _)| *index < range.end);
            let Some((index, page)) = next else {
                return;
            };
            each(index, page);
            from = PageIndex(index.0 + 1);
        }
    }
}
