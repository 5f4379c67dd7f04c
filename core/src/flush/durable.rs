//! Making durable what was put, and what follows when that fails.
//!
//! A pager whose sync failed is not believed when it says later that all is well: what it was given before may be lost. So
//! every page that was put and is still here becomes dirty again, and a sync is *owed*: until one succeeds the object does
//! not end, unless it is discarded, even if nothing in it is dirty.
//!
//! Syncs of one object go one by one. Each caller whose durable flush was under way when a sync failed is told, since what it had put may be
//! among what was lost; whoever begins later puts it again.

use alloc::sync::Arc;

use super::FlushFlags;
use crate::error::{Error, PagerError, Result};
use crate::object::Object;
use crate::pager::PagerOps;
use crate::types::PageIndex;

/// What is known of an object's syncs. Under the object's lock.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    /// So many failed.
    failed: u64,
    /// Why the last one failed that did.
    failure: Option<PagerError>,
    /// The last one failed.
    owed: bool,
}

impl Object {
    /// `flags`, durable if a sync is owed: how to flush before the object is given up.
    pub(crate) fn with_owed_sync(&self, flags: FlushFlags) -> FlushFlags {
        if self.lock().syncs.owed {
            flags | FlushFlags::DURABLE
        } else {
            flags
        }
    }

    pub(super) fn failed_syncs(&self) -> u64 {
        self.lock().syncs.failed
    }

    /// Asks the pager to make durable what was put. `before`: syncs that had failed when the caller began to put.
    pub(super) fn make_durable(self: &Arc<Self>, before: u64) -> Result<()> {
        if !self.ops().contains(PagerOps::SYNC) {
            return Ok(());
        }
        let _one = self.syncing.enter().ok_or(Error::InUse(
            "the object is being made durable by this very thread: its pager has to return first",
        ))?;
        let _paging = self.begin_paging()?;
        {
            let state = self.lock();
            if state.syncs.failed != before
                && let Some(failure) = &state.syncs.failure
            {
                return Err(failure.clone().into());
            }
        }
        match self.pager().sync() {
            Ok(()) => {
                self.lock().syncs.owed = false;
                Ok(())
            }
            Err(error) => {
                self.note_pager_error(&error);
                self.nothing_is_durable(&error);
                Err(error.into())
            }
        }
    }

    fn nothing_is_durable(&self, why: &PagerError) {
        let mut state = self.lock();
        state.syncs = Syncs {
            failed: state.syncs.failed + 1,
            failure: Some(why.clone()),
            owed: true,
        };
        let mut from = PageIndex(0);
        while let Some((index, page)) = state.pages.next(from) {
            if page.was_put() {
                state.note_modified(page);
            }
            from = PageIndex(index.0 + 1);
        }
    }
}
