//! What happens when nobody uses an object any more, and the other ways to its end.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::life::Refused;
use super::{Accepts, Object};
use crate::engine::Engine;
use crate::error::{Error, PagerError, Result};
use crate::flush::FlushFlags;
use crate::io::Direction;
use crate::page::{Dirtiness, PageRef};
use crate::pager::PagerOps;
use crate::sync::assert_no_locks_held;
use crate::types::PageIndex;

/// What becomes of dirty pages when an object ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dirty {
    /// They are written; if that fails, the object does not end.
    Write,
    /// They are given up.
    Discard,
}

const PAGES_OUT: Error = Error::InUse(
    "the object's pager broke its promise and still has pages of it; it can be closed when that request has completed",
);
const STILL_REFERENCED: Error = Error::InUse("the object is still referenced; unmap it and release its handles first");

impl Object {
    /// The last use went, or a listed object without users is tried again: writes what is dirty; then it is kept, if it has a
    /// name (S11, S40), or else closed.
    pub(crate) fn detach(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        if !self.persists() {
            return self.end_unused(flags);
        }
        match self.flush_all(self.with_owed_sync(flags)) {
            Ok(()) => {
                Engine::keep(self);
                Ok(())
            }
            // Taken from its users meanwhile: whoever did that has written it, or discarded what could not be written.
            Err(_) if !self.life.is_live() => self.end_unused(flags),
            Err(error) => Err(self.as_write_back(error)),
        }
    }

    /// The object is not kept when its last user goes, from now on; if nobody uses it, it is closed now. False while
    /// somebody does (S126). May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::WriteBack`]: it stays on the engine's list with its pages. The pager's answer to close; it is gone all the same.
    pub fn uncache(self: &Arc<Self>) -> Result<bool> {
        assert_no_locks_held("closing an object");
        self.persists.store(false, Ordering::Release);
        if self.reference_count() > 0 {
            return Ok(false);
        }
        self.end_unused(FlushFlags::empty()).map(|()| true)
    }

    /// Takes the object from its users: writes or gives up what is dirty, removes its mappings, frees its pages and closes its
    /// pager before it returns (S49). What is being read is cancelled, and with [`Dirty::Discard`] what is being written as well, if
    /// the pager can do that; all of it is waited for. Later faults and requests fail; opening the same thing again gives a fresh object. An object that has
    /// ended, or is being ended by somebody else, is left alone, and the latter is waited for. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::WriteBack`], [`Error::Quarantined`]: dirty pages cannot be written, and the object goes on with them.
    /// [`Error::InUse`] while its pager keeps pages that it has no right to. The pager's answer to close; it is gone all the same.
    pub fn terminate(self: &Arc<Self>, dirty: Dirty) -> Result<()> {
        self.end(u32::MAX, dirty)
    }

    /// Gives the object up with whatever is dirty in it: the explicit way out when write-back cannot succeed.
    ///
    /// # Errors
    /// [`Error::InUse`] while somebody uses it; the pager's answer to close.
    pub fn discard(self: &Arc<Self>) -> Result<()> {
        self.end(0, Dirty::Discard)
    }

    /// Closes it after writing what is dirty, unless somebody uses it.
    pub(crate) fn end_unused(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        match self.end_with(0, Dirty::Write, flags) {
            // Somebody came, who will let go of it again.
            Err(STILL_REFERENCED) => Ok(()),
            other => other,
        }
    }

    /// As [`Object::end_unused`]; if somebody else is at it, waits for the outcome and looks again, so that the answer is never
    /// better than the truth.
    pub(crate) fn end_unused_for_certain(self: &Arc<Self>) -> Result<()> {
        loop {
            self.life.wait_while_dying();
            self.end_unused(FlushFlags::empty())?;
            if self.life.is_dead() || self.reference_count() > 0 {
                return Ok(());
            }
        }
    }

    /// Ends it, unless there are more than so many uses.
    pub(super) fn end(self: &Arc<Self>, most_uses: u32, dirty: Dirty) -> Result<()> {
        assert_no_locks_held("closing an object");
        self.end_with(most_uses, dirty, FlushFlags::empty())
    }

    fn end_with(self: &Arc<Self>, most_uses: u32, dirty: Dirty, flags: FlushFlags) -> Result<()> {
        let pages_out = self.take_strays_back();
        loop {
            match self.life.begin_dying(most_uses) {
                Ok(()) => break,
                Err(Refused::InUse) => return Err(STILL_REFERENCED),
                // Its last user finds it dead: it leaves the list.
                Err(Refused::Dead) => {
                    if self.reference_count() == 0 {
                        Engine::forget(self);
                    }
                    return Ok(());
                }
                // The last user need not wait; whoever terminates or discards has to know that it is done.
                Err(Refused::Dying) if most_uses == 0 && dirty == Dirty::Write => return Ok(()),
                Err(Refused::Dying) => self.life.wait_while_dying(),
            }
        }
        // What it holds ends with it: there is nothing to write for.
        let dirty = if self.is_transient() { Dirty::Discard } else { dirty };
        self.lock().accepts = match dirty {
            Dirty::Write => Accepts::Writes,
            Dirty::Discard => Accepts::Nothing,
        };
        // Requests that are handed to the pager from now on see that they are unwanted.
        self.cancel_requests(Direction::Get);
        if dirty == Dirty::Discard {
            self.cancel_requests(Direction::Put);
        }
        let emptied = match dirty {
            _ if pages_out > 0 => Err(PAGES_OUT),
            Dirty::Write => self.write_and_free(flags),
            Dirty::Discard => {
                self.free_pages(Dirty::Discard);
                Ok(())
            }
        };
        match emptied.and_then(|()| self.wait_for_requests()) {
            Ok(()) => self.close(),
            Err(error) => {
                let out = self.take_strays_back();
                self.lock().accepts = Accepts::Everything;
                self.life.revive();
                Err(if out > 0 { PAGES_OUT } else { error })
            }
        }
    }

    /// Writes until nothing is dirty. A page that was in use when the object began to die may become dirty once more.
    fn write_and_free(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        let broken = self.lock().broken.clone();
        if let Some(reason) = broken {
            // What is not dirty has nothing to lose.
            return match self.free_pages(Dirty::Write) {
                0 => Ok(()),
                _ => Err(Error::Quarantined(reason)),
            };
        }
        loop {
            self.flush_all(self.with_owed_sync(flags))
                .map_err(|error| self.as_write_back(error))?;
            if self.free_pages(Dirty::Write) == 0 {
                return Ok(());
            }
        }
    }

    /// Waits for requests under way, and takes no more. The last one may have turned out to be one that the pager goes on with,
    /// against its promise.
    fn wait_for_requests(self: &Arc<Self>) -> Result<()> {
        {
            let _quiet = self.quiesce();
            self.lock().accepts = Accepts::Nothing;
        }
        if self.take_strays_back() > 0 {
            Err(PAGES_OUT)
        } else {
            Ok(())
        }
    }

    /// Dying to dead: closes the pager, leaves the list.
    fn close(self: &Arc<Self>) -> Result<()> {
        debug_assert_eq!(self.resident(), 0, "closed an object with pages");
        let closed = self.pager().close();
        Engine::forget_name(self);
        self.life.end();
        if self.reference_count() == 0 {
            Engine::forget(self);
        }
        closed.map_err(|error: PagerError| {
            self.note_pager_error(&error);
            error.into()
        })
    }

    /// Unmaps and frees every page, or every one that is not dirty; tells how many are left. The object is dying, so none comes back.
    /// Waits for busy ones. A page that is wired goes all the same: what it was wired for is gone.
    fn free_pages(self: &Arc<Self>, dirty: Dirty) -> u64 {
        let may_go = |page: PageRef| {
            dirty == Dirty::Discard || page.dirtiness() == Dirtiness::Clean || !self.has_index(page.index())
        };
        self.unmap_and_free(PageIndex(0)..PageIndex(u64::MAX), true, |_| true, may_go)
            .1
    }

    /// Whether what it holds ends with it, so that nothing is written but to make room.
    pub(crate) fn is_transient(&self) -> bool {
        self.ops().contains(PagerOps::TRANSIENT)
    }

    /// Whether it stays when its last user goes.
    fn persists(&self) -> bool {
        self.persists.load(Ordering::Acquire) && self.life.is_live() && !self.is_quarantined()
    }

    /// Whether nobody uses it and it is not kept either: it stays only because it could not be closed.
    pub(crate) fn waits_for_its_end(&self) -> bool {
        self.reference_count() == 0 && !self.is_kept()
    }

    /// Whether nobody uses it and it is kept for the next.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept_since.load(Ordering::Acquire) != 0 && self.reference_count() == 0
    }
}
