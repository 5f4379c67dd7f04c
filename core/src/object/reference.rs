//! Who uses an object, and what happens when the last one goes.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::Ordering;

use super::{Condition, Object};
use crate::engine::Engine;
use crate::error::{Error, PagerError, Result};
use crate::flush::FlushFlags;
use crate::sync::assert_no_locks_held;

/// One counted use of an object: a handle, or a map entry. Cloning counts one more.
///
/// To be given back with [`ObjectRef::release`], which tells how the last writing went. Dropping it does the same and
/// leaves the error, if any, to the engine's list: nothing is lost either way. No lock may be held for either.
#[derive(Debug)]
pub struct ObjectRef(Arc<Object>);

impl ObjectRef {
    /// A counted use of `object`.
    pub(crate) fn new(object: Arc<Object>) -> Self {
        object.references.fetch_add(1, Ordering::AcqRel);
        Self(object)
    }

    /// The object itself, uncounted: keeps the struct, not the object's life.
    #[must_use]
    pub fn object(&self) -> &Arc<Object> {
        &self.0
    }

    /// Gives this use back. The last one writes all dirty pages, frees the pages and closes the pager; it may block.
    ///
    /// # Errors
    /// [`Error::WriteBack`] when dirty pages could not be written: the object stays on the engine's list with its pages.
    /// The pager's answer to close; the object is gone all the same.
    pub fn release(self) -> Result<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again, so the pointer moves out of it.
        let object = unsafe { core::ptr::read(&raw const this.0) };
        object.let_go()
    }

    /// Gives this use back, and the object up with whatever is dirty in it: the explicit way out when write-back cannot succeed.
    ///
    /// # Errors
    /// [`Error::InUse`] with this use, unchanged, while there is another. Without it, the pager's answer to close: the object is gone.
    pub fn discard(self) -> Result<(), (Option<Self>, Error)> {
        assert_no_locks_held("discarding an object");
        let object = self.0.clone();
        if object.take_strays_back() > 0 {
            return Err((Some(self), PAGES_OUT));
        }
        {
            let mut state = object.lock();
            if object.reference_count() != 1 {
                drop(state);
                return Err((Some(self), STILL_REFERENCED));
            }
            // Ours is the only use, and whoever looks the object up anew is told from here on that it dies.
            state.condition = Condition::Dying;
        }
        drop(self);
        object.close().map_err(|error| (None, error))
    }
}

const PAGES_OUT: Error = Error::InUse(
    "the object's pager broke its promise and still has pages of it; it can be closed when that request has completed",
);
const STILL_REFERENCED: Error = Error::InUse("the object is still referenced; unmap it and release its handles first");

impl Clone for ObjectRef {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        // The error stands on the engine's list, as the object does.
        let _ = self.0.let_go();
    }
}

impl Deref for ObjectRef {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.0
    }
}

impl Object {
    /// Users at the moment: handles and map entries.
    #[must_use]
    pub fn reference_count(&self) -> u32 {
        self.references.load(Ordering::Acquire)
    }

    /// One more use of an object that was found by other means than a use. Nothing while it is being closed, or once it was.
    #[must_use]
    pub fn try_reference(self: &Arc<Self>) -> Option<ObjectRef> {
        let state = self.lock();
        match state.condition {
            Condition::Live | Condition::Quarantined(_) => Some(ObjectRef::new(self.clone())),
            Condition::Dying | Condition::Dead => None,
        }
    }

    /// Whether it is gone for good: no pages, its pager closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.lock().condition, Condition::Dead)
    }

    fn let_go(self: &Arc<Self>) -> Result<()> {
        if self.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            assert_no_locks_held("letting go of an object");
            self.detach()
        } else {
            Ok(())
        }
    }

    /// The last use went: writes what is dirty, then closes. Also the way a listed object is tried again.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<()> {
        if !self.begin_dying()? {
            return Ok(());
        }
        let written = self.flush_all(FlushFlags::empty());
        if let Err(error) = written {
            self.revive();
            return Err(error);
        }
        self.close()
    }

    /// Gives the object up with whatever is dirty in it: the explicit way out when write-back cannot succeed.
    ///
    /// # Errors
    /// [`Error::InUse`] while somebody uses it; the pager's answer to close.
    pub fn discard(self: &Arc<Self>) -> Result<()> {
        assert_no_locks_held("discarding an object");
        if self.take_strays_back() > 0 {
            return Err(PAGES_OUT);
        }
        {
            let mut state = self.lock();
            if self.reference_count() != 0 {
                return Err(STILL_REFERENCED);
            }
            match state.condition {
                Condition::Dying | Condition::Dead => return Ok(()),
                Condition::Live | Condition::Quarantined(_) => state.condition = Condition::Dying,
            }
        }
        self.close()
    }

    /// Live to dying. False when somebody else is at it, or a new use came.
    fn begin_dying(&self) -> Result<bool> {
        let out = self.take_strays_back();
        let mut state = self.lock();
        if self.reference_count() != 0 {
            return Ok(false);
        }
        match &state.condition {
            Condition::Live => {
                state.condition = Condition::Dying;
                Ok(true)
            }
            Condition::Dying | Condition::Dead => Ok(false),
            Condition::Quarantined(_) if out > 0 => Err(PAGES_OUT),
            // Nothing maps it any more, so that what is not dirty has nothing to lose.
            Condition::Quarantined(reason) if state.dirty_pages() > 0 => Err(Error::Quarantined(reason.clone())),
            Condition::Quarantined(_) => {
                state.condition = Condition::Dying;
                Ok(true)
            }
        }
    }

    fn revive(&self) {
        let mut state = self.lock();
        if matches!(state.condition, Condition::Dying) {
            state.condition = Condition::Live;
        }
    }

    /// Dying to dead: waits for requests under way, frees every page, closes the pager, leaves the list.
    fn close(self: &Arc<Self>) -> Result<()> {
        self.paging.wait_for_none();
        self.free_all_pages();
        self.lock().condition = Condition::Dead;
        Engine::forget(self);
        self.pager.close().map_err(|error: PagerError| {
            self.note_pager_error(&error);
            error.into()
        })
    }

    /// Frees every page, dirty or not. The object is dying, so none comes back.
    fn free_all_pages(self: &Arc<Self>) {
        let mut from = crate::types::PageIndex(0);
        loop {
            let Some((index, _)) = self.lock().pages.next(from) else {
                return;
            };
            from = index;
            if let Some(busy) = Self::busy_resident(&&**self, index) {
                let _gone = self
                    .engine
                    .machine()
                    .page_protect(busy.page(), crate::types::Prot::empty());
                busy.free();
            }
        }
    }
}
