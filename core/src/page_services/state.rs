//! What a page is, and what it holds: filled, dirty, wired, its place, its bytes.

use alloc::sync::Arc;

use super::checking::misuse;
use super::{Answer, Caller, PageError, PageHandle};
use crate::error::Error;
use crate::object::Object;
use crate::page::{Dirtiness, PageRef};
use crate::types::{ObjectId, PAGE_BYTES, PageIndex, Prot};

const READ_ONLY: PageError = PageError::Failed(Error::Unsupported(
    "the object cannot be written, so that its pages are never dirty; open it for writing, with a pager that can put",
));

impl PageHandle {
    /// Whether the page has been filled.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn is_valid(self) -> Answer<bool> {
        Ok(self.page()?.is_valid())
    }

    /// The page is filled, whole, with what its pager has; in an object without a pager it is dirty at once, as nobody else has it.
    /// A page that is filled already stays as it is.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand; no handle, stale.
    pub fn set_valid(self) -> Answer {
        let page = self.exclusive_page()?;
        if !page.is_valid() {
            let (page, object) = self.with_object()?;
            page.mark_valid();
            if object.is_anonymous() {
                object.dirty_and_release(page);
            }
        }
        Ok(())
    }

    /// Whether the page is dirty, or may be: it is mapped for writing, and the machine has not been asked yet.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn is_dirty(self) -> Answer<bool> {
        Ok(self.page()?.dirtiness() != Dirtiness::Clean)
    }

    /// The page is dirty: it is written before it goes. A pager that wants to be asked before a clean page is written is asked, for a program;
    /// a pager itself is taken to know. May block as long as the pager does.
    ///
    /// # Errors
    /// Misuse: it is not busied by hand, or not filled; the object cannot be written; the pager's answer; no handle, stale.
    pub fn set_dirty(self, caller: Caller) -> Answer {
        let page = self.busied_page()?;
        if !page.is_valid() {
            return Err(misuse(
                "the page is not filled, so there is nothing to write; mark it valid first",
            ));
        }
        let (page, object) = self.with_object()?;
        dirty(&object, page, caller)
    }

    /// The page is clean: its pager has these very bytes, as the caller knows. Its mappings go, and what was written through them until
    /// now is included.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand, or its object has no pager, so that nobody else has it; no handle, stale.
    pub fn set_clean(self) -> Answer {
        let page = self.exclusive_page()?;
        let (_, object) = self.with_object()?;
        if object.is_anonymous() {
            return Err(misuse(
                "the object has no pager, so nobody else has what the page holds, and it cannot be clean",
            ));
        }
        page.settle();
        object.engine().machine().page_protect(&[page], Prot::empty());
        page.mark_clean();
        Ok(())
    }

    /// Wires the page once more: it stays in memory, and on no queue, until each wiring was taken back; or until its object loses it by
    /// shrinking, or ends. Also what older rules call to hold it.
    ///
    /// # Errors
    /// Misuse: it is not busied by hand; out of memory; no handle, stale.
    pub fn wire(self) -> Answer {
        self.busied_page()?;
        let (page, object) = self.with_object()?;
        self.wire_in(page, &object)
    }

    /// As [`PageHandle::wire`], for a page of this object that is busied.
    pub(super) fn wire_in(self, page: PageRef, object: &Object) -> Answer {
        let mut state = object.lock();
        let index = page.index();
        if !self.is_now(page) || !page.is(object.id(), index) {
            return Err(PageError::Stale);
        }
        state.hand_wirings.add(index, 1)?;
        object.engine().memory.wire(page);
        Ok(())
    }

    /// Takes one wiring that was made by hand back. The page need not be busied.
    ///
    /// # Errors
    /// Misuse: there is none; no handle, stale: also at the moment in which somebody moves it from one object to another.
    pub fn unwire(self) -> Answer {
        let (page, object) = self.with_object()?;
        let mut state = object.lock();
        let index = page.index();
        if !self.is_now(page) || !page.is(object.id(), index) {
            return Err(PageError::Stale);
        }
        if !state.hand_wirings.take_one(index) {
            drop(state);
            return Err(misuse(
                "the page has no wiring that was made by hand; take back only what was wired or held before",
            ));
        }
        object.engine().memory.unwire(page);
        Ok(())
    }

    /// How often the page is wired: by hand and by maps.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn wire_count(self) -> Answer<u32> {
        Ok(self.page()?.wire_count())
    }

    /// The object that the page is in, and its index there; nothing for one that was taken out of every object. Stable while it is
    /// busied.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn place(self) -> Answer<Option<(ObjectId, PageIndex)>> {
        let page = self.page()?;
        if page.is_nowhere() {
            return Ok(None);
        }
        let place = page.object().map(|object| (object, page.index()));
        // It was freed in between, if it is in no object.
        place.map(Some).ok_or(PageError::Stale)
    }

    /// Whether `length` bytes from `offset` on could be copied.
    ///
    /// # Errors
    /// Misuse: it is not busied by hand, or the bytes are not all inside the page; no handle, stale.
    pub fn check_bytes(self, offset: usize, length: usize) -> Answer {
        self.busied_page()?;
        check_inside(offset, length)
    }

    /// Copies bytes of the page from `offset` on. Writers may be at work unless it is exclusively busied. May block for no longer than the
    /// machine's copying does.
    ///
    /// # Errors
    /// Misuse: it is not busied by hand, or the bytes are not all inside the page; no handle, stale.
    pub fn read(self, offset: usize, to: &mut [u8]) -> Answer {
        let page = self.busied_page()?;
        check_inside(offset, to.len())?;
        let (page, object) = (page, self.with_object()?.1);
        object.engine().machine().copy_out(page, offset, to);
        Ok(())
    }

    /// Copies bytes into the page from `offset` on. A page that is filled is dirty from then on, as by [`PageHandle::set_dirty`]; one that is
    /// not is as filled as before. What is written to memory of a device is in the device, and the page stays clean.
    ///
    /// # Errors
    /// Misuse: it is not busied by hand, or the bytes are not all inside the page; as [`PageHandle::set_dirty`]; a device's memory cannot be
    /// written.
    pub fn write(self, offset: usize, from: &[u8], caller: Caller) -> Answer {
        let page = self.busied_page()?;
        check_inside(offset, from.len())?;
        let (_, object) = self.with_object()?;
        if !page.can_be_written() {
            return Err(PageError::Failed(Error::Unsupported(
                "the page is memory of a device that can be read, and not written",
            )));
        }
        if page.is_valid() && !page.is_device() {
            dirty(&object, page, caller)?;
        }
        object.engine().machine().copy_in(page, offset, from);
        Ok(())
    }
}

fn dirty(object: &Arc<Object>, page: PageRef, caller: Caller) -> Answer {
    if !object.is_writable() {
        return Err(READ_ONLY);
    }
    if caller == Caller::Program && object.wants_leave(page) {
        object.ask_to_write_busied(page)?;
    } else {
        object.dirty_and_release(page);
    }
    Ok(())
}

fn check_inside(offset: usize, len: usize) -> Answer {
    match offset.checked_add(len) {
        Some(end) if end <= PAGE_BYTES => Ok(()),
        _ => Err(misuse("the bytes are not all inside the page; a page has 4096 of them")),
    }
}
