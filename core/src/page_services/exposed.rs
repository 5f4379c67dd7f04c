//! Objects that pages were handed out of, by their names: from a page's handle to its object.
//!
//! An object enters when the first of its pages is handed out, and leaves when it is dropped. As long as it has a page it is on
//! its engine's list, so that the object of a page that was not freed is always found.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::alloc_fallible::try_reserve;
use crate::error::Result;
use crate::object::Object;
use crate::page::PageRef;
use crate::sync::FrameLock;
use crate::types::ObjectId;

static EXPOSED: FrameLock<Vec<(ObjectId, Weak<Object>)>> = FrameLock::new(Vec::new());

/// Pages of this object will be handed out.
///
/// # Errors
/// [`Error::NoMemory`](crate::error::Error::NoMemory).
pub(super) fn enter(object: &Arc<Object>) -> Result<()> {
    if object.exposed.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut exposed = EXPOSED.lock();
    if let Err(at) = find(&exposed, object.id()) {
        try_reserve(&mut exposed, 1)?;
        exposed.insert(at, (object.id(), Arc::downgrade(object)));
        object.exposed.store(true, Ordering::Release);
    }
    Ok(())
}

/// The object is being dropped.
pub(crate) fn forget(id: ObjectId) {
    let mut exposed = EXPOSED.lock();
    let forgotten = find(&exposed, id).ok().map(|at| exposed.remove(at));
    drop(exposed);
    drop(forgotten);
}

/// The object that a page is in now, if pages of it were handed out.
pub(super) fn of(page: PageRef) -> Option<Arc<Object>> {
    let id = page.object()?;
    let exposed = EXPOSED.lock();
    let at = find(&exposed, id).ok()?;
    exposed[at].1.upgrade()
}

fn find(exposed: &[(ObjectId, Weak<Object>)], id: ObjectId) -> core::result::Result<usize, usize> {
    exposed.binary_search_by_key(&id, |entry| entry.0)
}
