//! Moving a page, with what it holds, to another place: of its own object, or of another one.
//!
//! A frame may be fixed to its place, so a page that moves gets another one: that of a new page at the new place, which keeps
//! others off until the moved page stands there. The page stays the same page, exclusively busied all the time: whoever
//! slept on it looks again.
//!
//! # Steps
//!
//! 1. Every mapping goes, and what was written through them is known.
//! 2. A new page at the new place, which can fail, with the bytes of the old one, which can fail.
//! 3. The old frame is given back while the page still stands in its old place, where nobody else can ask for that frame.
//! 4. The page leaves its old place: there nothing is left, no slot either.
//! 5. It takes the new page's place, and the frame there. What it holds its new pager has not: it is dirty.

use alloc::sync::Arc;
use core::borrow::Borrow;

use super::busy_guard::ExclusiveBusy;
use super::{Object, ObjectState};
use crate::error::{Error, Result};
use crate::machine::Reserve;
use crate::page::{self, PageRef};
use crate::types::{PageIndex, Prot};

impl<O: Borrow<Object>> ExclusiveBusy<O> {
    /// Moves the page to place `index` of `to`, an object of the same engine that can be written, or that has no need to because the page
    /// is not filled. Wired by no entry. No lock may be held.
    ///
    /// # Errors
    /// With the page as it was, but for its mappings: [`Error::NoMemory`]; [`Error::InUse`] when there is a page already, or
    /// the object ends before it, or is being closed.
    pub(crate) fn move_to(
        self,
        to: &Arc<Object>,
        index: PageIndex,
    ) -> Result<ExclusiveBusy<Arc<Object>>, (Self, Error)> {
        self.lower(Prot::empty());
        let hand_wirings = self.object().lock().hand_wirings.count(self.page().index());
        let place = match self.prepare(to, index, hand_wirings) {
            Ok(place) => place,
            Err(error) => return Err((self, error)),
        };
        let (page, from) = self.take_apart();
        let (empty, _) = place.take_apart();
        let memory = &to.engine.memory;
        to.engine.machine().frames_free(&[page.frame()]);
        page.set_frame(empty.frame());
        page.forget_machine_words();
        let wirings = from.borrow().lock().let_leave(page);
        memory.pages_are_gone(&[page]);
        {
            let mut state = to.lock();
            state.let_replace(empty, page, index, to);
            // What was taken back since is not wired there. With the object locked: whoever takes one back now finds both counts as they are.
            for _ in wirings..hand_wirings {
                state.hand_wirings.take_one(index);
            }
            for _ in 0..state.hand_wirings.count(index) {
                memory.wire(page);
            }
        }
        page::free(empty);
        page.busy.rouse();
        Ok(ExclusiveBusy::adopt(page, to.clone()))
    }

    /// A page at the new place, with these bytes, and room for the wirings that come along.
    fn prepare(&self, to: &Arc<Object>, index: PageIndex, hand_wirings: u32) -> Result<ExclusiveBusy<Arc<Object>>> {
        let place = ExclusiveBusy::insert_new(to.clone(), index, Reserve::Ordinary)?;
        let copied = to.engine.machine().copy_page(self.page(), place.page());
        copied.map_err(|_| Error::NoMemory)?;
        to.lock().hand_wirings.add(index, hand_wirings)?;
        Ok(place)
    }
}

impl ObjectState {
    /// A page without a frame leaves its place. Tells how often it was wired by hand: nobody takes one of these back until it has another
    /// place.
    fn let_leave(&mut self, page: PageRef) -> u32 {
        let index = page.index();
        let removed = self.pages.remove(index);
        debug_assert!(
            removed.is_some_and(|removed| core::ptr::eq(removed, page)),
            "moved a page that is not in its object"
        );
        let wirings = self.hand_wirings.take_all(index);
        if let Some(anonymous) = &self.anonymous {
            anonymous.release(index);
        }
        page.leave_object();
        wirings
    }

    /// A page takes the place of an empty one.
    fn let_replace(&mut self, empty: PageRef, page: PageRef, index: PageIndex, object: &Object) {
        self.pages.replace(index, page);
        empty.leave_object();
        page.enter_object(object.id, index);
        if page.is_valid() {
            // It may have been dirty before: then it has no tag here yet.
            self.pages.tag(index);
            self.note_modified(page);
        }
    }
}
