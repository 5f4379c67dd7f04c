//! Taking pages back from whoever has them mapped (F22): what a device does when its memory goes elsewhere.

use alloc::sync::Arc;
use core::ops::Range;

use super::{Dirty, Object};
use crate::error::{Error, Result};
use crate::flush::FlushFlags;
use crate::page::Dirtiness;
use crate::sync::assert_no_locks_held;
use crate::types::PageIndex;

impl Object {
    /// Takes the pages of a range away: writes what is dirty, or gives it up, removes their mappings in every map and frees them, wired
    /// or not. Waits for those that are busied. The next access faults again. Returns how many went. May block; no lock
    /// may be held, and the caller may have none of the pages busied.
    ///
    /// # Errors
    /// [`Error::WriteBack`], [`Error::Quarantined`]: what is dirty cannot be written, and is still there; [`Error::Unsupported`] where
    /// nothing ever is, because the object has no pager; [`Error::Invalid`] for an object that has ended.
    pub fn revoke(self: &Arc<Self>, range: Range<PageIndex>, dirty: Dirty) -> Result<u64> {
        assert_no_locks_held("revoking pages");
        self.check_revocable(dirty)?;
        let mut freed = 0;
        loop {
            self.lock().takes_requests()?;
            if dirty == Dirty::Write {
                self.flush(range.clone(), FlushFlags::empty())?;
            }
            let (gone, kept) = self.unmap_and_free(
                range.clone(),
                true,
                |_| true,
                |page| dirty == Dirty::Discard || page.dirtiness() == Dirtiness::Clean,
            );
            freed += gone;
            // What was written between the flush and the removal of its mapping is written by the next round.
            if kept == 0 {
                return Ok(freed);
            }
        }
    }

    /// From now on every access to the object that finds no mapping fails with [`FaultError::Revoked`](crate::error::FaultError::Revoked), and
    /// then as [`Object::revoke`] for all its pages. It can still be written, read by its pager's own means, and closed.
    ///
    /// # Errors
    /// As [`Object::revoke`]; accesses fail all the same, unless it is [`Error::Unsupported`].
    pub fn revoke_for_good(self: &Arc<Self>, dirty: Dirty) -> Result<u64> {
        self.check_revocable(dirty)?;
        self.lock().revoked = true;
        self.revoke(PageIndex(0)..PageIndex(u64::MAX), dirty)
    }

    fn check_revocable(&self, dirty: Dirty) -> Result<()> {
        if dirty == Dirty::Write && self.is_transient() {
            return Err(Error::Unsupported(
                "the object has no pager that its pages could be written to; nothing of it is revoked unless what is dirty is given up",
            ));
        }
        Ok(())
    }

    /// Whether every access that finds no mapping fails.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.lock().revoked
    }
}
