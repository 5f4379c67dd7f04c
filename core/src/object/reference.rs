//! Who uses an object, and what happens when the last one goes.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::Ordering;

use super::{Object, Phase};
use crate::engine::Engine;
use crate::error::{Error, PagerError, Result};
use crate::flush::FlushFlags;
use crate::sync::assert_no_locks_held;
use crate::types::{PageIndex, Prot};

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
    /// [`Error::InUse`] with this use, unchanged, while there is another, or while a pager that broke its promise still has pages.
    /// Without it, the pager's answer to close: the object is gone.
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
            state.phase = Phase::Dying;
            object.dying.rise();
        }
        // Ours goes as if it were not the last: the last would make the end that is made here, and wait for it.
        object.references.fetch_add(1, Ordering::AcqRel);
        drop(self);
        object.references.fetch_sub(1, Ordering::AcqRel);
        let closed = object.close();
        object.dying.fall();
        closed.map_err(|error| (None, error))
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
        (state.phase == Phase::Live).then(|| ObjectRef::new(self.clone()))
    }

    /// Whether it is gone for good: no pages, its pager closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Dead
    }

    fn let_go(self: &Arc<Self>) -> Result<()> {
        if self.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            assert_no_locks_held("letting go of an object");
            self.detach(FlushFlags::empty()).map(|_| ())
        } else {
            Ok(())
        }
    }

    /// The last use went: writes what is dirty, then closes. Also the way a listed object is tried again. If somebody else is at
    /// it, waits for the outcome and looks again, so that the answer is never better than the truth.
    pub(crate) fn detach(self: &Arc<Self>, flags: FlushFlags) -> Result<Detached> {
        loop {
            match self.begin_dying(Unwritten::Keep)? {
                Begin::Mine => break,
                Begin::InUse => return Ok(Detached::InUse),
                Begin::Gone => return Ok(Detached::Gone),
                Begin::Others => self.dying.wait_for_none(),
            }
        }
        let ended = self.write_and_close(flags);
        self.dying.fall();
        ended.map(|()| Detached::Gone)
    }

    fn write_and_close(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        // A quarantined object got here without dirty pages: its pager is not asked any more.
        let written = if self.is_quarantined() {
            Ok(())
        } else {
            self.flush_all(flags)
        };
        if let Err(error) = written {
            self.lock().phase = Phase::Live;
            return Err(self.as_write_back(error));
        }
        self.close()
    }

    /// Gives the object up with whatever is dirty in it: the explicit way out when write-back cannot succeed.
    ///
    /// # Errors
    /// [`Error::InUse`] while somebody uses it, or while a pager that broke its promise still has pages; the pager's answer to close.
    pub fn discard(self: &Arc<Self>) -> Result<()> {
        assert_no_locks_held("discarding an object");
        loop {
            match self.begin_dying(Unwritten::GiveUp)? {
                Begin::Mine => break,
                Begin::InUse => return Err(STILL_REFERENCED),
                Begin::Gone => return Ok(()),
                Begin::Others => self.dying.wait_for_none(),
            }
        }
        let closed = self.close();
        self.dying.fall();
        closed
    }

    /// Live to dying, if it is unused and nobody else is at it.
    fn begin_dying(&self, unwritten: Unwritten) -> Result<Begin> {
        let out = self.take_strays_back();
        let mut state = self.lock();
        if self.reference_count() != 0 {
            return Ok(Begin::InUse);
        }
        match state.phase {
            Phase::Dying | Phase::Closing => return Ok(Begin::Others),
            Phase::Dead => return Ok(Begin::Gone),
            Phase::Live => {}
        }
        if out > 0 {
            return Err(PAGES_OUT);
        }
        // Nothing maps it any more, so that what is not dirty has nothing to lose.
        if unwritten == Unwritten::Keep
            && let Some(reason) = &state.quarantine
            && state.dirty_pages() > 0
        {
            return Err(Error::Quarantined(reason.clone()));
        }
        state.phase = Phase::Dying;
        self.dying.rise();
        Ok(Begin::Mine)
    }

    /// Dying to dead: refuses requests, waits for those under way, frees every page, closes the pager, leaves the list.
    fn close(self: &Arc<Self>) -> Result<()> {
        self.lock().phase = Phase::Closing;
        self.paging.wait_for_none();
        if self.take_strays_back() > 0 {
            // The last request to end was one that its pager goes on with, against its promise.
            self.lock().phase = Phase::Live;
            return Err(PAGES_OUT);
        }
        self.free_all_pages();
        let closed = self.pager.close();
        self.lock().phase = Phase::Dead;
        Engine::forget(self);
        closed.map_err(|error: PagerError| {
            self.note_pager_error(&error);
            error.into()
        })
    }

    /// Frees every page, dirty or not. The object is closing and nothing is under way, so none comes back.
    fn free_all_pages(self: &Arc<Self>) {
        let mut from = PageIndex(0);
        loop {
            let Some((index, _)) = self.lock().pages.next(from) else {
                return;
            };
            from = index;
            if let Some(busy) = Self::busy_resident(&&**self, index) {
                let _gone = self.engine.machine().page_protect(busy.page(), Prot::empty());
                busy.free();
            }
        }
    }
}

/// What becomes of dirty pages that cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unwritten {
    Keep,
    GiveUp,
}

/// Who ends an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begin {
    Mine,
    Others,
    InUse,
    Gone,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detached {
    /// It is closed.
    Gone,
    /// It has a use again.
    InUse,
}
