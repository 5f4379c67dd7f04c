//! The right to change a page's state, as a value (rule: completing work is consuming the guard).

use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::mem::ManuallyDrop;

use super::Object;
use super::batch::BATCH;
use crate::aperture::{self, Taken};
use crate::busy::BusyMode;
use crate::error::{Error, Result};
use crate::few::Few;
use crate::machine::{Placement, Reserve};
use crate::page::{self, PageRef};
use crate::types::{Frame, PageIndex, Prot};

/// A page of an object, exclusively busied by whoever has this.
///
/// Dropping it unbusies the page and wakes its waiters, and a page that has just been filled comes on a queue; a page that
/// has not been filled is freed instead, as nobody may see it (S107, S142). No lock may be held then.
pub struct ExclusiveBusy<O: Borrow<Object>> {
    page: PageRef,
    object: O,
}

/// A page of an object, shared busied by whoever has this. Dropping it leaves the sharers.
pub struct SharedBusy<O: Borrow<Object>> {
    page: PageRef,
    object: O,
}

impl<O: Borrow<Object>> ExclusiveBusy<O> {
    /// Busies the page at `index` if it is there and nobody has it busied. `state` proves that the object is locked, so
    /// that the identity cannot have changed.
    pub(crate) fn try_resident(object: O, state: &super::ObjectState, index: PageIndex) -> Option<Self> {
        let page = state.pages.get(index)?;
        // Lazily: a guard made and dropped would unbusy a page that somebody else has.
        page.busy.try_exclusive().then(|| Self { page, object })
    }

    /// A new page, fake and clean, in the object at `index`, where there is none (S103, S139).
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::InUse`] when somebody else was quicker, or the object ends before the page by now, or is being closed: look again.
    pub(crate) fn insert_new(object: O, index: PageIndex, reserve: Reserve) -> Result<Self> {
        let this = object.borrow();
        let page = insert_fake(this, index)?;
        // Only now the frame: whoever has the page busied is alone in asking for the frame of this place.
        let place = Placement { owner: this.id, index };
        let engine = &this.engine;
        let Some(frame) = engine
            .machine()
            .frame_alloc(place, reserve)
            .or_else(|| engine.rescue(place))
        else {
            unlink(this, &[page]);
            return Err(Error::NoMemory);
        };
        page.set_frame(frame);
        engine.frame_was_taken();
        Ok(Self { page, object })
    }

    /// Takes over a page of this object that the caller has exclusively busied.
    pub(crate) fn adopt(page: PageRef, object: O) -> Self {
        page.busy.assert_exclusive();
        Self { page, object }
    }

    /// Leaves the page busied by hand, for somebody who lets go of it by himself.
    pub(crate) fn into_hand(self) -> PageRef {
        let (page, _) = self.take_apart();
        page.busy.give_to_hand();
        page
    }

    /// A new page as above, over the next frame of a device. It is to be marked valid.
    ///
    /// # Errors
    /// As [`ExclusiveBusy::insert_new`]; no frame was taken.
    pub(crate) fn insert_device(object: O, index: PageIndex, frames: &mut Taken) -> Result<Self> {
        let page = insert_fake(object.borrow(), index)?;
        match frames.take() {
            Some(frame) => page.set_device_frame(frame),
            None => {
                unlink(object.borrow(), &[page]);
                return Err(Error::Invalid("there is no frame for the page"));
            }
        }
        Ok(Self { page, object })
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> PageRef {
        self.page
    }

    /// The object it belongs to.
    #[must_use]
    pub fn object(&self) -> &Object {
        self.object.borrow()
    }

    /// Keeps the page busied, but lets others share it (S245).
    #[must_use]
    pub fn downgrade(self) -> SharedBusy<O> {
        debug_assert!(self.page.is_valid(), "an unfilled page is not shared");
        let (page, object) = self.take_apart();
        object.borrow().engine.memory.page_is_filled(page);
        page.busy.downgrade();
        SharedBusy { page, object }
    }

    /// Lowers every mapping of the page to `prot`, which allows no writing, and records what the machine collected: afterwards it is clean or
    /// dirty, but on a machine that lifts the protection by itself.
    pub(crate) fn lower(&self, prot: Prot) {
        // In this order: such a machine notes the page as writable again.
        self.page.settle();
        self.object().engine.machine().page_protect(&[self.page], prot);
    }

    /// Takes the page out of its object and frees it. It must not be mapped. What it held is gone: dirty pages are the caller's decision.
    pub(crate) fn free(self) {
        let (page, object) = self.take_apart();
        free_pages(object.borrow(), &[page]);
    }

    pub(super) fn take_apart(self) -> (PageRef, O) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so the object is moved out exactly once; the page reference is Copy.
        (this.page, unsafe { core::ptr::read(&raw const this.object) })
    }
}

/// A page without a frame in the object at `index`, where there is none.
fn insert_fake(object: &Object, index: PageIndex) -> Result<PageRef> {
    let page = page::allocate().ok_or(Error::NoMemory)?;
    let inserted = {
        let mut state = object.lock();
        if state.pages.get(index).is_some() {
            Err(Error::InUse("the page is resident already"))
        } else if !state.takes_pages() || !object.has_index(index) {
            Err(Error::InUse("the object ends before the page, or is being closed"))
        } else {
            state
                .pages
                .insert(index, page)
                .inspect(|()| page.enter_object(object.id, index))
        }
    };
    if let Err(error) = inserted {
        page::free(page);
        return Err(error);
    }
    Ok(page)
}

/// Frees pages of one object and their frames: the frames first, while the pages still stand in their places and keep others
/// off. At most [`BATCH`], exclusively busied, not mapped; what they held is gone. A device's frames go back to it as they are.
pub(crate) fn free_pages(object: &Object, pages: &[PageRef]) {
    let (devices, own) = (|page: &&PageRef| page.is_device(), |page: &&PageRef| !page.is_device());
    let frames: Few<Frame, BATCH> = pages.iter().filter(own).map(|page| page.frame()).collect();
    if !frames.is_empty() {
        object.engine.machine().frames_free(&frames);
    }
    let frames: Few<Frame, BATCH> = pages.iter().filter(devices).map(|page| page.frame()).collect();
    unlink(object, pages);
    frames.iter().for_each(|frame| aperture::give_back(*frame));
}

/// Takes exclusively busied pages without frames out of their object and gives their structs back.
pub(super) fn unlink(object: &Object, pages: &[PageRef]) {
    {
        let mut state = object.lock();
        for page in pages {
            let removed = state.pages.remove(page.index());
            debug_assert!(
                removed.is_some_and(|removed| core::ptr::eq(removed, *page)),
                "freed a page that is not in its object"
            );
            let by_hand = state.hand_wirings.take_all(page.index());
            let of_entries = page.wire_count().saturating_sub(by_hand);
            state.lost_wirings.note(page.index(), of_entries);
            page.leave_object();
        }
    }
    object.engine.memory.pages_are_gone(pages);
    page::free_all(pages);
}

impl<O: Borrow<Object>> Drop for ExclusiveBusy<O> {
    fn drop(&mut self) {
        if self.page.is_valid() {
            self.object.borrow().engine.memory.page_is_filled(self.page);
            self.page.busy.release_exclusive();
        } else {
            free_pages(self.object.borrow(), &[self.page]);
        }
    }
}

impl<O: Borrow<Object>> SharedBusy<O> {
    /// Takes over a page that the caller has just shared busied, with its identity checked.
    pub(crate) fn adopt(page: PageRef, object: O) -> Self {
        page.busy.assert_shared();
        Self { page, object }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> PageRef {
        self.page
    }

    /// The object it belongs to.
    #[must_use]
    pub fn object(&self) -> &Object {
        self.object.borrow()
    }
}

impl SharedBusy<Arc<Object>> {
    /// The object it belongs to, to be kept.
    pub(crate) fn object_shared(&self) -> &Arc<Object> {
        &self.object
    }
}

impl<O: Borrow<Object>> SharedBusy<O> {
    /// Has the page exclusively busied, if nobody else shares it (S245).
    pub(crate) fn try_upgrade(self) -> core::result::Result<ExclusiveBusy<O>, Self> {
        if !self.page.busy.try_upgrade() {
            return Err(self);
        }
        let (page, object) = self.take_apart();
        Ok(ExclusiveBusy { page, object })
    }

    /// Leaves the page shared busied, for somebody who lets go of it by himself.
    pub(crate) fn leave_busied(self) -> PageRef {
        self.take_apart().0
    }

    fn take_apart(self) -> (PageRef, O) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so the object is moved out exactly once; the page reference is Copy.
        (this.page, unsafe { core::ptr::read(&raw const this.object) })
    }
}

impl<O: Borrow<Object>> Drop for SharedBusy<O> {
    fn drop(&mut self) {
        self.page.busy.release_shared();
    }
}

impl<O: Borrow<Object>> fmt::Debug for ExclusiveBusy<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ExclusiveBusy({}, page {})",
            self.object.borrow().id,
            self.page.index()
        )
    }
}

impl<O: Borrow<Object>> fmt::Debug for SharedBusy<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBusy({}, page {})", self.object.borrow().id, self.page.index())
    }
}

impl Object {
    /// Busies the page at `index` exclusively, sleeping while others have it; nothing if it is not in memory, or if it is busy and
    /// the object is quarantined, since its pager may then never let go of it. After each sleep the page is looked up anew. May block; no lock may be held.
    #[must_use]
    pub fn busy_resident<O: Borrow<Self> + Clone>(object: &O, index: PageIndex) -> Option<ExclusiveBusy<O>> {
        let this: &Self = object.borrow();
        loop {
            let page = {
                let state = this.lock();
                let page = state.pages.get(index)?;
                if let Some(busy) = ExclusiveBusy::try_resident(object.clone(), &state, index) {
                    return Some(busy);
                }
                if state.may_never_let_go().is_some() {
                    return None;
                }
                page
            };
            this.engine.wait_for_page(page, BusyMode::Exclusive, this.id, index);
        }
    }
}
