//! Letting go of pages: making them the next to be taken, and freeing them.

use core::ops::Range;

use crate::object::{ExclusiveBusy, Object};
use crate::page::{Dirtiness, PageRef};
use crate::types::PageIndex;

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
    pub(super) fn free_range(&self, range: Range<PageIndex>, keep_dirty: bool) -> (u64, u64) {
        let is_dirty = |page: PageRef| page.dirtiness() == Dirtiness::Dirty;
        self.unmap_and_free(
            range,
            keep_dirty,
            |page| page.wire_count() == 0 && !(keep_dirty && is_dirty(page)),
            |page| !(keep_dirty && is_dirty(page)),
        )
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
