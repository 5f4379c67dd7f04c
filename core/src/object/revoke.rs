//! Taking pages back from whoever has them mapped (F22): what a device does when its memory goes elsewhere.

use alloc::sync::Arc;
use core::ops::Range;

use super::{Dirty, Object};
use crate::error::Result;
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
    /// [`WriteBack`](crate::error::Error::WriteBack), [`Quarantined`](crate::error::Error::Quarantined): what is dirty cannot be written, and is still there; [`Invalid`](crate::error::Error::Invalid) for an
    /// object that has ended.
    pub fn revoke(self: &Arc<Self>, range: Range<PageIndex>, dirty: Dirty) -> Result<u64> {
        assert_no_locks_held("revoking pages");
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

    /// From now on every access to the object that finds no mapping fails with [`FaultError::Revoked`](crate::error::FaultError), and
    /// then as [`Object::revoke`] for all its pages. It can still be written, read by its pager's own means, and closed.
    ///
    /// # Errors
    /// As [`Object::revoke`]; accesses fail all the same.
    pub fn revoke_for_good(self: &Arc<Self>, dirty: Dirty) -> Result<u64> {
        self.lock().revoked = true;
        self.revoke(PageIndex(0)..PageIndex(u64::MAX), dirty)
    }

    /// Whether every access that finds no mapping fails.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.lock().revoked
    }
}
