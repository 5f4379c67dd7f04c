//! Changing an object's size.
//!
//! A size changes while no request is under way, so that none works with the old one: what was put before is within the
//! old size, what is put later within the new. The pager is asked first. Only when it has agreed are pages behind the new end given
//! up, with what is dirty in them (S131); so a change that fails loses nothing.
//!
//! The last page may be partly behind the end. Its live part stays, dirty or not (D6); what is behind the end is zeroed,
//! by whoever lowers the end and again by whoever raises it, because a mapping may write there.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::Object;
use crate::error::{Error, PagerError, Result};
use crate::flush::FlushFlags;
use crate::page::Dirtiness;
use crate::pager::PagerOps;
use crate::sync::{CallGuard, assert_no_locks_held};
use crate::types::{ByteOff, MAX_OBJECT_SIZE, PAGE_BYTES, PageIndex, Prot, pages_of};

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

impl Object {
    /// Makes the thing `size` bytes long, at its pager and here. Pages behind the new end are unmapped and given up, with
    /// what is dirty in them; accesses there fail from then on. May block for as long as the pager's requests do; no lock may be held.
    ///
    /// # Errors
    /// Nothing was changed then: [`Error::Unsupported`] when the pager cannot do that; [`Error::Invalid`] for a size that cannot be;
    /// the pager's answer; [`Error::InUse`] when called by the pager from inside a size change.
    pub fn resize(self: &Arc<Self>, size: u64) -> Result<()> {
        let _one = self.begin_sizing()?;
        if size > MAX_OBJECT_SIZE {
            return Err(Error::Invalid(
                "no object can be that long; 2^64 - 4096 bytes are the most",
            ));
        }
        if !self.ops().contains(PagerOps::RESIZE) {
            return Err(Error::Unsupported(
                "the object's size cannot be changed: its pager has no such operation, or it was opened for reading only",
            ));
        }
        self.change_size(size, || self.pager().resize(size))
    }

    /// Notes that the thing is `size` bytes long, cut to what is possible (S132), without telling the pager: for those who changed it
    /// by other means. Otherwise as [`Object::resize`].
    ///
    /// # Errors
    /// When the object takes no more requests; nothing was changed then.
    pub fn set_size(self: &Arc<Self>, size: u64) -> Result<()> {
        let _one = self.begin_sizing()?;
        self.change_size(size.min(MAX_OBJECT_SIZE), || Ok(()))
    }

    /// Asks the pager for the size as it is now, and follows it. If the thing has grown, what is known of its old last page is
    /// out of date: it is written if it is dirty, and read anew. Answers with the size. Otherwise as [`Object::resize`].
    ///
    /// # Errors
    /// Nothing was changed then: [`Error::Unsupported`] when the pager cannot tell; its answer; [`Error::WriteBack`].
    pub fn refresh_size(self: &Arc<Self>) -> Result<u64> {
        let _one = self.begin_sizing()?;
        if !self.ops().contains(PagerOps::SIZE) {
            return Err(Error::Unsupported("the object's pager cannot tell its size anew"));
        }
        let old = self.size();
        let new = {
            let _paging = self.begin_paging()?;
            self.pager().size().inspect_err(|error| self.note_pager_error(error))?
        };
        let new = new.min(MAX_OBJECT_SIZE);
        let last = (old < new && ByteOff(old).in_page() != 0).then(|| ByteOff(old).page());
        if let Some(last) = last {
            self.flush(last..PageIndex(last.0 + 1), FlushFlags::empty())?;
        }
        self.change_size(new, || Ok(()))?;
        if let Some(last) = last {
            self.drop_if_clean(last);
        }
        Ok(new)
    }

    /// One size change at a time, to its end: pages that come after a later growth are not those that an earlier shrinking frees.
    fn begin_sizing(&self) -> Result<CallGuard<'_>> {
        assert_no_locks_held("changing an object's size");
        self.sizing.enter().ok_or(Error::InUse(
            "the object's size is being changed by this very thread: its pager has to return first",
        ))
    }

    fn change_size(self: &Arc<Self>, new: u64, tell: impl FnOnce() -> Result<(), PagerError>) -> Result<()> {
        let old = self.size();
        if new > old {
            self.bring_end_in(old)?;
            self.zero_behind(old);
        }
        {
            let _quiet = self.quiesce();
            self.lock().takes_requests()?;
            tell().inspect_err(|error| self.note_pager_error(error))?;
            // Under the lock, so that no page comes in behind an end that was just lowered.
            let _state = self.lock();
            self.size.store(new, Ordering::Release);
        }
        if new < old {
            self.zero_behind(new);
            self.forget_places(PageIndex(pages_of(new))..PageIndex(u64::MAX));
        }
        Ok(())
    }

    /// Zeroes the part of the last page that lies behind `end`. Its mappings go, so that it does not change under our hands.
    fn zero_behind(self: &Arc<Self>, end: u64) {
        let live = ByteOff(end).in_page();
        if live == 0 {
            return;
        }
        // What lies behind the end in a device's memory is the device's all the same.
        let last = Self::busy_resident(&&**self, ByteOff(end).page());
        if let Some(busy) = last.filter(|busy| !busy.page().is_device()) {
            let machine = self.engine.machine();
            machine.page_protect(&[busy.page()], Prot::empty());
            machine.copy_in(busy.page(), live, &ZEROS[live..]);
            if self.is_anonymous() {
                // What swap has of it may be something else behind the end.
                self.dirty_and_release(busy.page());
            }
        }
    }

    /// The page that `end` lies in comes into memory, if it is in swap, which does not know of ends, and does not go back there as it was.
    fn bring_end_in(self: &Arc<Self>, end: u64) -> Result<()> {
        let last = ByteOff(end).page();
        if ByteOff(end).in_page() != 0
            && self.has_slot(last)
            && let Some(busy) = self.busy_with_contents(last, 0)?
        {
            self.dirty_and_release(busy.page());
        }
        Ok(())
    }

    /// Frees a page unless it is, or has become, dirty.
    fn drop_if_clean(self: &Arc<Self>, index: PageIndex) {
        if let Some(busy) = Self::busy_resident(&&**self, index) {
            busy.lower(Prot::empty());
            let page = busy.page();
            if page.dirtiness() == Dirtiness::Clean && page.wire_count() == 0 {
                busy.free();
            }
        }
    }
}
