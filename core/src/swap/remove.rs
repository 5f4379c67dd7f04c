//! Removing a swap area while it is in use.
//!
//! Nothing comes into it any more, and what is there is brought back: paged in, and made dirty, so that it goes to other areas when memory
//! is short. An area that cannot be emptied is used again as before: nothing is lost.

use alloc::sync::Arc;
use core::ops::Range;

use super::area::{Area, SwapAreaId};
use super::{Slot, Swap};
use crate::engine::Engine;
use crate::error::{Cause, Error, PagerError, Result};
use crate::object::Object;
use crate::sync::assert_no_locks_held;
use crate::types::PageIndex;

/// Pages that are brought back with one, if they lie behind it.
const ALONG: u32 = 63;

const NO_SUCH: Error = Error::Invalid("there is no such swap area; it may have been removed");

/// Why something of an area could not be brought back.
enum Stuck {
    /// Memory is full, and cannot go to other areas.
    NoRoom,
    /// It cannot be read, or its object takes no requests: so many pages.
    Unreadable(u64, Option<Error>),
}

impl Engine {
    /// Removes a swap area: brings back what is in it, page by page, while the program goes on, and closes it. If memory does not
    /// suffice, what is brought back goes to the other areas. May block for as long as pagers do; no lock may be held.
    ///
    /// # Errors
    /// The area is used again as before, with what is left in it: [`Error::Pager`] with a sentence when there is no room for it, or when some of it
    /// cannot be read, with the number of pages; [`Error::InUse`] while it is being removed by somebody else, or its
    /// pager goes on with requests against its promise. [`Error::Invalid`] when there is no such area. The pager's answer to
    /// close: then the area is gone all the same.
    pub fn remove_swap(&self, id: SwapAreaId) -> Result<()> {
        assert_no_locks_held("removing swap");
        let (area, slots) = self.swap().begin_to_leave(id)?;
        if let Err(error) = self.empty(&area, &slots) {
            self.swap().stay(id);
            return Err(error);
        }
        area.close().map_err(Into::into)
    }

    /// Brings everything back, and takes the area off the list.
    fn empty(&self, area: &Arc<Area>, slots: &Range<Slot>) -> Result<()> {
        loop {
            // What is being written there now gets its slots before that is over.
            area.wait_for_calls();
            self.bring_all_back(slots).map_err(|stuck| {
                let pages = self.swap().held(area.id);
                words(area, &stuck, pages)
            })?;
            if area.has_strays() {
                return Err(Error::InUse(
                    "the swap area's pager broke its promise and goes on with a request; it can be removed when that has completed",
                ));
            }
            self.swap().tell_freed();
            area.wait_for_calls();
            if self.swap().forget_if_empty(area.id) {
                return Ok(());
            }
        }
    }

    fn bring_all_back(&self, slots: &Range<Slot>) -> Result<(), Stuck> {
        let (mut unreadable, mut first) = (0, None);
        let mut no_room = false;
        self.for_each_object(|object| {
            if no_room {
                return;
            }
            match self.bring_back_of(object, slots) {
                Ok(()) => {}
                Err(Stuck::NoRoom) => no_room = true,
                Err(Stuck::Unreadable(pages, why)) => {
                    unreadable += pages;
                    first = first.take().or(why);
                }
            }
        });
        if no_room {
            Err(Stuck::NoRoom)
        } else if unreadable > 0 {
            Err(Stuck::Unreadable(unreadable, first))
        } else {
            Ok(())
        }
    }

    /// What one object has in these slots.
    fn bring_back_of(&self, object: &Arc<Object>, slots: &Range<Slot>) -> Result<(), Stuck> {
        let Some(anonymous) = object.anonymous() else {
            return Ok(());
        };
        let Some(used) = object.try_use() else {
            // It releases its slots itself.
            object.wait_for_its_end();
            return Ok(());
        };
        let (mut unreadable, mut first) = (0, None);
        let mut from = PageIndex(0);
        let mut stuck = Ok(());
        while let Some(place) = anonymous.next_in(from, slots) {
            match bring_back(object, place) {
                Ok(()) => {}
                Err(Error::NoMemory) => {
                    stuck = Err(Stuck::NoRoom);
                    break;
                }
                Err(_) if !object.is_live() => break,
                Err(error) => {
                    unreadable += 1;
                    first.get_or_insert(error);
                }
            }
            from = PageIndex(place.0 + 1);
        }
        // As the last use this ends the object, of which nothing is written then.
        let _ = used.release();
        stuck?;
        if unreadable > 0 {
            return Err(Stuck::Unreadable(unreadable, first));
        }
        Ok(())
    }
}

/// The page of a place is in memory afterwards, dirty, and without a slot; unless it was given up.
fn bring_back(object: &Arc<Object>, place: PageIndex) -> Result<()> {
    if let Some(busy) = object.busy_with_contents(place, ALONG)? {
        object.dirty_and_release(busy.page());
    }
    Ok(())
}

fn words(area: &Area, stuck: &Stuck, pages: u32) -> Error {
    let name = area.describe();
    let (cause, what) = match stuck {
        Stuck::NoRoom => (
            Cause::NoMemory,
            crate::error::words_or_nothing(format_args!(
                "swap area {name} cannot be removed: {pages} pages of it fit neither in memory nor in other areas; add an area, or free memory"
            )),
        ),
        Stuck::Unreadable(unreadable, why) => {
            let why = why
                .as_ref()
                .map_or(Error::Pager(PagerError::bare(Cause::Io)), Clone::clone);
            (
                Cause::Io,
                crate::error::words_or_nothing(format_args!(
                    "swap area {name} cannot be removed: {unreadable} pages in it cannot be read, and stay there until their owners end: {why}"
                )),
            )
        }
    };
    Error::Pager(PagerError { cause, text: what })
}

impl Swap {
    /// The area takes nothing from now on. Answers with its slots.
    fn begin_to_leave(&self, id: SwapAreaId) -> Result<(Arc<Area>, Range<Slot>)> {
        let mut table = self.table.lock();
        let entry = table.find(id).ok_or(NO_SUCH)?;
        if entry.leaving {
            return Err(Error::InUse("the swap area is being removed already"));
        }
        entry.leaving = true;
        let base = entry.area.base;
        Ok((entry.area.clone(), Slot(base)..Slot(base + entry.slots.total())))
    }

    fn stay(&self, id: SwapAreaId) {
        if let Some(entry) = self.table.lock().find(id) {
            entry.leaving = false;
        }
    }

    fn held(&self, id: SwapAreaId) -> u32 {
        self.table.lock().find(id).map_or(0, |entry| entry.slots.held())
    }

    fn forget_if_empty(&self, id: SwapAreaId) -> bool {
        let mut table = self.table.lock();
        let Some(at) = table.entries.iter().position(|entry| entry.area.id == id) else {
            return true;
        };
        let is_empty = table.entries[at].slots.held() == 0;
        if is_empty {
            table.entries.remove(at);
        }
        is_empty
    }
}
