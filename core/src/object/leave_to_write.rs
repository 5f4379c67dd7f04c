//! Leave to write: a pager that wants it is asked before a clean page is written.
//!
//! Invariant: a clean page of such an object is nowhere mapped writable. What leave was given for is dirty from then on, so
//! that the page's state says whether to ask, and is lost again with the page's dirtiness: by a put, or by the page being freed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{ExclusiveBusy, Object, Refusal};
use crate::alloc_fallible::try_reserve;
use crate::error::{Error, Result};
use crate::page::PageRef;
use crate::pager::PagerOps;
use crate::sync::assert_no_locks_held;
use crate::types::PageIndex;

impl Object {
    /// Whether the page may only be written with leave that is still to be had.
    #[inline]
    pub(crate) fn wants_leave(&self, page: PageRef) -> bool {
        self.asks_for_leave() && page.is_told_of()
    }

    /// Whether its pager is told before a clean page is written.
    #[inline]
    pub(crate) fn asks_for_leave(&self) -> bool {
        self.ops().contains(PagerOps::PREPARE_WRITE)
    }

    /// Asks for leave to write a page that the caller has busied by hand; it is dirty afterwards. May block as long as the pager does;
    /// no lock may be held.
    ///
    /// # Errors
    /// The pager's answer, or why the object takes no requests now; nothing has become dirty then.
    pub(crate) fn ask_to_write_busied(self: &Arc<Self>, page: PageRef) -> Result<()> {
        assert_no_locks_held("asking for leave to write");
        // It does not wait until the object is no longer quiet: whoever has it quiet may wait for this page.
        let _paging = self.try_begin_paging()?;
        self.pager()
            .prepare_write(page.index(), 1)
            .inspect_err(|error| self.note_pager_error(error))?;
        self.dirty_and_release(page);
        Ok(())
    }

    /// Asks for leave to write page `first` and, in the same request, up to `most - 1` pages behind it, as far as they are in memory,
    /// clean, and not busy. They are dirty afterwards. Nothing is asked when `first` is not in memory or not clean, nor when it is
    /// busy: then it is the answer, for the caller to wait for. Pages are busied meanwhile, so that of several writers one
    /// asks. May block as long as the pager does; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or the pager's answer; nothing has become dirty then.
    pub(crate) fn ask_to_write(self: &Arc<Self>, first: PageIndex, most: usize) -> Result<Option<PageRef>> {
        assert_no_locks_held("asking for leave to write");
        let _paging = match self.begin_paging() {
            Ok(paging) => paging,
            Err(Refusal::Closed) => return Ok(None),
            Err(Refusal::Quarantined(error)) => return Err(error.into()),
        };
        let mut pages = Vec::new();
        try_reserve(&mut pages, most)?;
        while pages.len() < most {
            let index = PageIndex(first.0 + pages.len() as u64);
            let state = self.lock();
            let Some(page) = state.pages.get(index) else { break };
            let busy = ExclusiveBusy::try_resident(self.clone(), &state, index);
            drop(state);
            match busy {
                Some(busy) if page.is_told_of() => pages.push(busy),
                None if pages.is_empty() => return Ok(Some(page)),
                _ => break,
            }
        }
        if pages.is_empty() {
            return Ok(None);
        }
        if let Err(error) = self.pager().prepare_write(first, pages.len() as u64) {
            self.note_pager_error(&error);
            return Err(Error::Pager(error));
        }
        let mut state = self.lock();
        for busy in &pages {
            state.note_modified(busy.page());
        }
        drop(state);
        Ok(None)
    }
}
