//! Who uses an object.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use super::{Dirty, Object};
use crate::error::{Error, Result};
use crate::flush::FlushFlags;
use crate::sync::assert_no_locks_held;

/// One counted use of an object: a handle, or a map entry. Cloning counts one more.
///
/// To be given back with [`ObjectRef::release`], which tells how the last writing went. Dropping it does the same and
/// leaves the error, if any, to the engine's list: nothing is lost either way. No lock may be held for either.
#[derive(Debug)]
pub struct ObjectRef(Arc<Object>);

impl ObjectRef {
    /// A use that has been counted already.
    pub(crate) fn adopt(object: Arc<Object>) -> Self {
        Self(object)
    }

    /// The object itself, uncounted: keeps the struct, not the object's life.
    #[must_use]
    pub fn object(&self) -> &Arc<Object> {
        &self.0
    }

    /// Gives this use back. The last one writes all dirty pages; then an object with a name is kept with its pages
    /// ([`Engine::set_cache_limit`](crate::engine::Engine::set_cache_limit)), and any other one is closed. It may block.
    ///
    /// # Errors
    /// [`Error::WriteBack`] when dirty pages could not be written, or a sync that is owed failed again: the object stays on the
    /// engine's list with its pages. [`Error::InUse`] while its pager keeps pages that it has no right to; it stays as well.
    /// The pager's answer to close; the object is gone all the same.
    pub fn release(self) -> Result<()> {
        self.take_apart().let_go()
    }

    /// Gives this use back and does nothing else, also if it was the last one: the object stays listed as it is.
    pub(crate) fn give_back(self) {
        self.take_apart().life.give_back();
    }

    /// Gives this use back, and the object up with whatever is dirty in it: the explicit way out when write-back cannot succeed.
    ///
    /// # Errors
    /// [`Error::InUse`] with this use, unchanged, while there is another. Without it, the pager's answer to close: the object is gone.
    pub fn discard(self) -> Result<(), (Option<Self>, Error)> {
        assert_no_locks_held("discarding an object");
        match self.0.end(1, Dirty::Discard) {
            Ok(()) => Ok(()),
            Err(error) if self.0.is_closed() => Err((None, error)),
            Err(error) => Err((Some(self), error)),
        }
    }

    /// The use stays counted, for whoever adopts it later.
    pub(crate) fn leave_counted(self) {
        drop(self.take_apart());
    }

    fn take_apart(self) -> Arc<Object> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again, so the pointer moves out of it.
        unsafe { core::ptr::read(&raw const this.0) }
    }
}

impl Clone for ObjectRef {
    fn clone(&self) -> Self {
        self.0.life.take();
        Self(self.0.clone())
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
        self.life.uses()
    }

    /// Whether it is gone for good: no pages, its pager closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.life.is_dead()
    }

    /// A use for somebody who found the object on the list; nothing while it is being ended, or once it was.
    pub(crate) fn try_use(self: &Arc<Self>) -> Option<ObjectRef> {
        self.life.try_take().ok().map(|()| ObjectRef::adopt(self.clone()))
    }

    /// Waits while somebody is ending it. No lock may be held.
    pub(crate) fn wait_for_its_end(&self) {
        self.life.wait_while_dying();
    }

    /// Whether nobody has ended it, or is about to.
    pub(crate) fn is_live(&self) -> bool {
        self.life.is_live()
    }

    fn let_go(self: &Arc<Self>) -> Result<()> {
        if self.life.give_back() {
            assert_no_locks_held("letting go of an object");
            self.detach(FlushFlags::empty())
        } else {
            Ok(())
        }
    }
}
