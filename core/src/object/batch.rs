//! Several pages of an object in hand at once: what the machine and the locks cost is paid once for all of them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::busy_guard::free_pages;
use super::{ExclusiveBusy, Object};
use crate::few::Few;
use crate::page::PageRef;
use crate::types::{PageIndex, Prot};

/// The most pages in a batch: a block of the page index. A batch is on the stack.
pub(crate) const BATCH: usize = 64;

/// Pages of one object in the order of their indices, exclusively busied by whoever has this. Dropping it lets go of them; no
/// lock may be held then.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    object: &'a Object,
    pages: Few<PageRef, BATCH>,
}

impl Object {
    /// Busies the pages of `range` from its start on, up to a batch of them, and tells where to go on: at the first page that was
    /// not taken. If none was taken, somebody has that page busied. Does not wait.
    pub(super) fn busy_batch(&self, range: Range<PageIndex>) -> (Batch<'_>, Option<PageIndex>) {
        let mut pages = Few::new();
        let mut from = range.start;
        let state = self.lock();
        let next = loop {
            let Some((index, page)) = state.pages.next(from).filter(|(index, _)| *index < range.end) else {
                break None;
            };
            if pages.len() == BATCH || !page.busy.try_exclusive() {
                break Some(index);
            }
            pages.push(page);
            from = PageIndex(index.0 + 1);
        };
        drop(state);
        (Batch { object: self, pages }, next)
    }

    /// Goes through the pages of a range in batches: those that are `asked` are unmapped, and what was collected is on them; those that
    /// `may_go` then are freed. Waits for busy pages, or with `wait` unset leaves them. Returns how many were freed, and how many not.
    pub(crate) fn unmap_and_free(
        &self,
        range: Range<PageIndex>,
        wait: bool,
        asked: impl Fn(PageRef) -> bool,
        may_go: impl Fn(PageRef) -> bool,
    ) -> (u64, u64) {
        let (mut freed, mut kept) = (0, 0);
        let mut go_on = Some(range.start);
        while let Some(at) = go_on {
            let (mut batch, next) = self.busy_batch(at..range.end);
            go_on = next;
            if let Some(busy) = next.filter(|_| batch.pages.is_empty()) {
                go_on = Some(PageIndex(busy.0 + 1));
                match wait.then(|| Self::busy_resident(&self, busy)).flatten() {
                    Some(waited_for) => batch = waited_for.into(),
                    None => kept += u64::from(self.lookup(busy).is_some()),
                }
            }
            let of_batch = batch.unmap_and_free(&asked, &may_go);
            freed += of_batch.0;
            kept += of_batch.1;
        }
        (freed, kept)
    }
}

impl Batch<'_> {
    fn unmap_and_free(mut self, asked: impl Fn(PageRef) -> bool, may_go: impl Fn(PageRef) -> bool) -> (u64, u64) {
        let mut unmapped = Few::<PageRef, BATCH>::new();
        let (mut gone, mut kept) = (Few::<PageRef, BATCH>::new(), Few::new());
        for page in &*self.pages {
            if asked(page) {
                unmapped.push(*page);
            } else {
                kept.push(*page);
            }
        }
        // First the mappings, then the modified bit: nothing is written in between (S77, S78).
        if !unmapped.is_empty() {
            self.object.engine.machine().page_protect(&unmapped, Prot::empty());
        }
        for page in &*unmapped {
            page.settle();
            if may_go(page) {
                gone.push(*page);
            } else {
                kept.push(*page);
            }
        }
        self.pages = kept;
        if !gone.is_empty() {
            free_pages(self.object, &gone);
        }
        (gone.len() as u64, self.pages.len() as u64)
    }
}

impl<'a> From<ExclusiveBusy<&'a Object>> for Batch<'a> {
    fn from(busy: ExclusiveBusy<&'a Object>) -> Self {
        let (page, object) = busy.take_apart();
        Self {
            object,
            pages: core::iter::once(page).collect(),
        }
    }
}

/// Lets go of pages of one object, as dropping each of them would: filled ones come on a queue, others are freed. No lock may be held.
pub(super) fn let_go(object: &Object, pages: Vec<ExclusiveBusy<Arc<Object>>>) {
    let mut pages = pages.into_iter();
    while pages.len() > 0 {
        let pages = pages.by_ref().take(BATCH).map(|busy| busy.take_apart().0).collect();
        drop(Batch { object, pages });
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.object.engine.memory.pages_are_filled(&self.pages);
        let mut unfilled = Few::<PageRef, BATCH>::new();
        for page in &*self.pages {
            if page.is_valid() {
                page.busy.release_exclusive();
            } else {
                unfilled.push(*page);
            }
        }
        if !unfilled.is_empty() {
            free_pages(self.object, &unfilled);
        }
    }
}
