//! Pages out of an object, into one, from one to another, and to their end. Never one that anybody else has busied (S250).
//!
//! A page in no object has to be somewhere all the same, as its frame may follow from its place: in an object of its own, of one
//! page, which nobody can find, and which ends when the page leaves it.

use alloc::sync::Arc;

use super::checking::misuse;
use super::{Answer, Caller, PageError, PageHandle, exposed};
use crate::error::Error;
use crate::object::{ExclusiveBusy, Object, ObjectRef};
use crate::page::PageRef;
use crate::types::{PAGE_SIZE, PageIndex};

type Busied = ExclusiveBusy<Arc<Object>>;

impl PageHandle {
    /// Takes the page out of its object: all its mappings go, its place has no page afterwards, and if it was dirty it still is.
    /// It stays exclusively busied, keeps its bytes and its wirings by hand, and is in no object until it is inserted into one.
    /// Waits for memory, for a program.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand, is wired by a map, or is in no object already; it is memory of a device; out of
    /// memory; no handle, stale.
    pub fn remove(self, caller: Caller) -> Answer {
        let page = self.exclusive_page()?;
        if page.is_nowhere() {
            return Err(misuse("the page is in no object already"));
        }
        check_moves(page)?;
        let (_, object) = self.with_object()?;
        let nowhere = object.engine().create_anonymous(PAGE_SIZE)?;
        exposed::enter(nowhere.object())?;
        self.move_to(nowhere.object(), PageIndex(0), caller)?;
        page.set_nowhere(true);
        nowhere.leave_counted();
        Ok(())
    }

    /// Puts a page that is in no object into one, where there is none. It stays exclusively busied; if it is filled it is dirty, as the
    /// object's pager has not what it holds. Waits for memory, for a program.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand, or is in an object; [`PageError::Occupied`], [`PageError::BeyondObject`]; the object is of
    /// another engine, or it cannot be written and the page is filled; out of memory; no handle, stale.
    pub fn insert(self, to: &Arc<Object>, index: PageIndex, caller: Caller) -> Answer {
        if !self.exclusive_page()?.is_nowhere() {
            return Err(misuse(
                "the page is in an object; rename it to move it, or remove it first",
            ));
        }
        self.rename(to, index, caller)
    }

    /// Moves the page to another place, of its object or of another one, where there is none: [`PageHandle::remove`] and
    /// [`PageHandle::insert`] in one.
    ///
    /// # Errors
    /// Theirs.
    pub fn rename(self, to: &Arc<Object>, index: PageIndex, caller: Caller) -> Answer {
        let page = self.exclusive_page()?;
        let (_, from) = self.with_object()?;
        if !Arc::ptr_eq(from.engine(), to.engine()) {
            return Err(PageError::Failed(Error::Invalid(
                "the page and the object belong to different engines; copy the bytes",
            )));
        }
        check_moves(page)?;
        if page.is_valid() && !to.is_writable() {
            return Err(PageError::Failed(Error::Unsupported(
                "the object cannot be written, and a filled page that comes into it is dirty; open it for writing",
            )));
        }
        exposed::enter(to)?;
        let was_nowhere = page.is_nowhere();
        self.move_to(to, index, caller)?;
        page.set_nowhere(false);
        if was_nowhere {
            end(from);
        }
        Ok(())
    }

    /// Frees the page, and gives up what it holds: all its mappings go. The handle is stale afterwards.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand, or is wired; no handle, stale.
    pub fn free(self) -> Answer {
        let busy = self.take_over()?;
        let (page, object) = (busy.page(), self.with_object()?.1);
        if page.wire_count() > 0 {
            busy.into_hand();
            return Err(misuse(
                "the page is wired, so it stays in memory; unwire it before it is freed",
            ));
        }
        let was_nowhere = page.is_nowhere();
        busy.forget();
        if was_nowhere {
            end(object);
        }
        Ok(())
    }

    /// Moves the page, which is exclusively busied by hand and stays so.
    fn move_to(self, to: &Arc<Object>, index: PageIndex, caller: Caller) -> Answer {
        let mut busy = self.take_over()?;
        if is_wired_by_maps(&busy) {
            busy.into_hand();
            return Err(misuse(
                "a map has the page wired, and what is wired stays where it is; unwire the range first",
            ));
        }
        loop {
            let (still, error) = match busy.move_to(to, index) {
                Ok(moved) => {
                    moved.into_hand();
                    return Ok(());
                }
                Err(not_moved) => not_moved,
            };
            let short = error == Error::NoMemory && caller == Caller::Program;
            if !short || to.engine().make_room().is_err() {
                still.into_hand();
                return Err(why_not(to, index, error));
            }
            busy = still;
        }
    }
}

/// Memory of a device is shown where its driver has put it: a copy of it elsewhere would be something else.
fn check_moves(page: PageRef) -> Answer {
    if page.is_device() {
        return Err(PageError::Failed(Error::Unsupported(
            "the page is memory of a device, which stays where its driver shows it; copy its bytes, or free it",
        )));
    }
    Ok(())
}

fn is_wired_by_maps(busy: &Busied) -> bool {
    let page = busy.page();
    // Both counts as they are: one by hand may be taken back at any time.
    let state = busy.object().lock();
    page.wire_count() > state.hand_wirings.count(page.index())
}

/// Why a place cannot be had.
fn why_not(to: &Object, index: PageIndex, error: Error) -> PageError {
    let Error::InUse(_) = error else { return error.into() };
    if let Some(error) = to.lock().refuses_faults() {
        error.into()
    } else if to.has_index(index) {
        PageError::Occupied
    } else {
        PageError::BeyondObject
    }
}

/// The page has left the object that it had for itself, which ends with that.
fn end(nowhere: Arc<Object>) {
    let ended = ObjectRef::adopt(nowhere).release();
    debug_assert!(ended.is_ok(), "an empty object did not end: {ended:?}");
}
