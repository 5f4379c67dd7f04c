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
        ManuallyDrop::new(self).let_go()
    }

    fn let_go(&self) -> Result<()> {
        if self.0.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            assert_no_locks_held("letting go of an object");
            self.0.detach()
        } else {
            Ok(())
        }
    }
}

impl Clone for ObjectRef {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        // The error stands on the engine's list, as the object does.
        let _ = self.let_go();
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
        {
            let mut state = self.lock();
            if self.reference_count() != 0 {
                return Err(Error::InUse(
                    "the object is still referenced; unmap it and release its handles first",
                ));
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
            Condition::Quarantined(reason) => {
                if state.pages.len() == 0 {
                    state.condition = Condition::Dying;
                    return Ok(true);
                }
                Err(Error::Quarantined(reason.clone()))
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
