//! One object for one thing: attaching what a pager has opened.
//!
//! Two objects over one file would each have pages of their own, and one would not see what is written through the other. So
//! whatever opens with the same identity is the same object, also when that one is only kept.
//!
//! An opening is made before its name is known, because the pager tells the name. So two threads may both have opened a
//! thing when they come here; the first one's opening is used and the second's is closed again. What the seeds need a
//! state for, an attach that waits for attributes, does not exist: an object is whole when it gets its name.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::registry::Look;
use super::{Accepts, Name, Object, ObjectRef};
use crate::engine::Engine;
use crate::error::{PagerError, Result};
use crate::flush::FlushFlags;
use crate::page::PageRef;
use crate::pager::{Change, Pager, PagerOps};
use crate::stats::Counter;
use crate::swap::Anonymous;
use crate::sync::assert_no_locks_held;
use crate::types::{MAX_OBJECT_SIZE, PageIndex};

/// What a thing is known by, among those of its pager: the same two words whenever the same thing is opened.
pub type Identity = [u64; 2];

/// What a pager has opened.
#[derive(Debug)]
pub struct Opening {
    /// The opening.
    pub pager: Box<dyn Pager>,
    /// Which pager it is, by a number that the caller chooses: identities of different pagers have nothing to do with each other.
    pub source: u64,
    /// The thing's identity; nothing when its pager tells none, and every opening is a thing of its own.
    pub identity: Option<Identity>,
    /// The thing's size in bytes, as it is now.
    pub size: u64,
    /// Which contents it has, as they are now; nothing when its pager does not tell.
    pub change: Option<Change>,
}

impl Engine {
    /// The object of what was opened, and one use of it: a new one, or the one there is (S28, S29). An object that is being
    /// ended is waited for; afterwards there is a fresh one (S27, S47, S154). A kept one whose size or contents are not what they were has been changed
    /// behind our back: it is closed, and a fresh one takes its place, so that none of its pages is shown. One that is in
    /// use goes on with the pages it has; so does one whose dirty pages cannot be written, because they are ours and newer. An opening that can write makes an object writable that was not
    /// (S30); what shows a device's memory that can only be read goes then, and comes anew. An opening that is not needed is closed before this returns. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory): the opening has been closed.
    pub fn attach(self: &Arc<Self>, opening: Opening) -> Result<ObjectRef> {
        assert_no_locks_held("attaching an object");
        let size = opening.size.min(MAX_OBJECT_SIZE);
        let name = Name {
            source: opening.source,
            identity: opening.identity,
        };
        loop {
            let mut registry = self.registry();
            let look = match name.full() {
                Some(full) => registry.take(full, size, opening.change),
                None => Look::Nothing,
            };
            match look {
                Look::Nothing => {
                    if let Err(error) = registry.reserve() {
                        drop(registry);
                        self.close_unused(&*opening.pager);
                        return Err(error);
                    }
                    let object = Arc::new(Object::new(self.clone(), opening.pager, None, name, size));
                    object.pager.set_change(opening.change);
                    // Before anybody else can find it.
                    object.pager.attached(&object);
                    registry.insert(object.clone());
                    return Ok(ObjectRef::adopt(object));
                }
                Look::Taken(object) => {
                    drop(registry);
                    return ObjectRef::adopt(object).join(opening.pager);
                }
                Look::Outdated(object) => {
                    drop(registry);
                    // What could not be written keeps it, and is worth more than what others wrote.
                    let _ = object.end_unused(FlushFlags::empty());
                }
                Look::Dying(object) => {
                    drop(registry);
                    object.life.wait_while_dying();
                }
            }
        }
    }

    /// Lists a new anonymous object, and takes its first use.
    pub(crate) fn list_anonymous(
        self: &Arc<Self>,
        pager: Box<dyn Pager>,
        anonymous: Arc<Anonymous>,
        size: u64,
    ) -> Result<ObjectRef> {
        let name = Name {
            source: 0,
            identity: None,
        };
        let mut registry = self.registry();
        registry.reserve()?;
        let object = Arc::new(Object::new(self.clone(), pager, Some(anonymous), name, size));
        registry.insert(object.clone());
        Ok(ObjectRef::adopt(object))
    }

    /// Opens something, by `open`. While that fails for want of what kept objects hold ([`Cause::is_shortage`]), the oldest of
    /// them is closed and `open` is called again, until it succeeds, fails otherwise, or none is kept. May block; no lock
    /// may be held.
    ///
    /// # Errors
    /// What `open` answered last.
    ///
    /// [`Cause::is_shortage`]: crate::error::Cause::is_shortage
    pub fn open_with_room<T>(&self, mut open: impl FnMut() -> Result<T, PagerError>) -> Result<T, PagerError> {
        assert_no_locks_held("opening an object");
        loop {
            match open() {
                Err(error) if error.cause.is_shortage() && self.uncache_oldest() => {}
                answer => return answer,
            }
        }
    }

    /// Closes the oldest kept object. False when there is none.
    fn uncache_oldest(&self) -> bool {
        let oldest = self.registry().oldest_kept();
        if let Some(object) = &oldest {
            // If it cannot be closed it stays listed, as what could not be written does; there may be others.
            let _ = object.end_unused(FlushFlags::empty());
        }
        oldest.is_some()
    }

    /// Closes what is kept under a name, and sees to it that what is in use under it is not kept later. True when nothing is
    /// left under the name, or what is left is being ended (S125 to S128). May block; no lock may be held.
    ///
    /// # Errors
    /// As [`Object::uncache`].
    pub fn uncache(&self, source: u64, identity: Identity) -> Result<bool> {
        let found = self.registry().find((source, identity));
        match found {
            Some(object) if object.life.is_live() => object.uncache(),
            _ => Ok(true),
        }
    }

    /// Closes everything that is kept from one pager, and tells how many of its objects are left. Those that rely on it
    /// ([`Pager::relies_on`]) are its objects too.
    ///
    /// # Errors
    /// The first failure; all are tried.
    pub fn uncache_all_from(&self, source: u64) -> Result<usize> {
        let mut failure = None;
        let mut left = 0;
        self.for_each_object(|object| {
            if object.name.source != source && !object.pager.relies_on(source) {
                return;
            }
            if object.is_kept()
                && let Err(error) = object.end_unused(FlushFlags::empty())
            {
                failure.get_or_insert(error);
            }
            left += usize::from(!object.is_closed());
        });
        failure.map_or(Ok(left), Err)
    }

    fn close_unused(&self, pager: &dyn Pager) {
        if pager.close().is_err() {
            self.stats().count(Counter::PagerErrors);
        }
    }
}

impl ObjectRef {
    /// One more opening of what is open already.
    fn join(self, pager: Box<dyn Pager>) -> Result<Self> {
        if self.takes_writes() || !pager.ops().intersects(PagerOps::PUT | PagerOps::FRAMES) {
            self.engine.close_unused(&*pager);
            return Ok(self);
        }
        let unneeded = {
            let state = self.lock();
            if state.accepts == Accepts::Nothing {
                Err((pager, Ok(())))
            } else {
                // Before anybody else can call it.
                pager.attached(self.object());
                self.pager.add_writer(pager)
            }
        };
        match unneeded {
            Ok(()) if self.ops().contains(PagerOps::FRAMES) => self.object().drop_what_can_only_be_read(),
            Ok(()) => {}
            Err((pager, why)) => {
                self.engine.close_unused(&*pager);
                why?;
            }
        }
        Ok(self)
    }
}

impl Object {
    /// Memory of a device that came from an opening for reading cannot be written, whoever maps it: it goes, and comes again from the
    /// one that can write.
    fn drop_what_can_only_be_read(&self) {
        // None is on its way any more.
        drop(self.quiesce());
        let read_only = |page: PageRef| !page.can_be_written();
        self.unmap_and_free(PageIndex(0)..PageIndex(u64::MAX), true, read_only, read_only);
    }
}

impl Name {
    fn full(self) -> Option<(u64, Identity)> {
        self.identity.map(|identity| (self.source, identity))
    }
}

impl Object {
    /// Nobody uses it, everything is written, and it is about to be kept: from here on others' changes are told apart. May
    /// block; no lock may be held.
    pub(crate) fn remember_contents(&self) {
        self.pager.refresh_change();
    }

    pub(super) fn full_name(&self) -> Option<(u64, Identity)> {
        self.name.full()
    }
}
