//! Looking pages up, and grabbing them: a page of a place, there or made, in the state that the caller wants it in (F17).

use alloc::sync::Arc;

use super::checking::misuse;
use super::sleeping::wait_once;
use super::{Answer, Caller, Checking, PageError, PageHandle, checking, exposed};
use crate::busy::BusyMode;
use crate::error::{Error, FaultError};
use crate::machine::Reserve;
use crate::object::{ExclusiveBusy, Object};
use crate::page::PageRef;
use crate::sync::Deadline;
use crate::types::PageIndex;

bitflags::bitflags! {
    /// How a page is grabbed. Without flags: a page that is not in memory is made, unfilled; it is waited for; it is exclusively busied.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct GrabFlags: u32 {
        /// A page that is not in memory is not made.
        const NOCREAT = 1;
        /// Nothing is waited for.
        const NOWAIT = 2;
        /// What would have to be waited for is waited for once, and the answer is that it was not to be had.
        const WAITFAIL = 4;
        /// Shared busied, not exclusively. Implies `IGN_SBUSY`.
        const SBUSY = 8;
        /// With `NOBUSY`: sharers are not waited for.
        const IGN_SBUSY = 16;
        /// Not busied: as a lookup that waits, and makes the page.
        const NOBUSY = 32;
        /// Wired by hand.
        const WIRED = 64;
        /// A new page is zeros, and filled with that.
        const ZERO = 128;
        /// A page that is not in memory is brought in by its pager.
        const CONTENTS = 256;
    }
}

/// What a caller wants of each page.
#[derive(Clone, Copy)]
struct Wish {
    flags: GrabFlags,
    caller: Caller,
}

/// What to do next.
enum Step {
    Got(PageHandle),
    /// It is busy: wait for it in this mode.
    Busy(PageRef, BusyMode),
    Missing,
}

impl PageHandle {
    /// The page at `index`, if it is in memory: it is not busied by that, and may be gone a moment later. Does not block.
    ///
    /// # Errors
    /// [`PageError::Absent`]; out of memory.
    pub fn lookup(object: &Arc<Object>, index: PageIndex) -> Answer<Self> {
        exposed::enter(object)?;
        let state = object.lock();
        state.pages.get(index).map(Self::of).ok_or(PageError::Absent)
    }

    /// Grabs `count` pages from `first` on, in their order, until one cannot be had, and hands each to `got`; tells how many. What is brought in
    /// by a pager comes in runs as far as the pager offers them. May block, unless told otherwise, also for as long as pagers do; the object's
    /// lock, if the calling thread has it, is let go of meanwhile.
    ///
    /// # Errors
    /// Why the first one could not be had: [`PageError::Busy`], [`PageError::Absent`], [`PageError::BeyondObject`], the pager's, out of memory, that
    /// no page can be made where all pages are a device's frames; misuse, of flags that make no sense together, or without the object's lock in strict checking.
    pub fn grab(
        object: &Arc<Object>,
        first: PageIndex,
        count: u64,
        flags: GrabFlags,
        caller: Caller,
        mut got: impl FnMut(Self),
    ) -> Answer<u64> {
        let wish = Wish { flags, caller };
        wish.check(object)?;
        exposed::enter(object)?;
        let mut had = 0;
        while had < count {
            let index = PageIndex(first.0.checked_add(had).ok_or(PageError::BeyondObject)?);
            let along = u32::try_from(count - had - 1).unwrap_or(u32::MAX);
            match wish.grab(object, index, along) {
                Ok(page) => got(page),
                Err(error) if had == 0 => return Err(error),
                Err(_) => break,
            }
            had += 1;
        }
        Ok(had)
    }
}

impl Wish {
    fn check(self, object: &Object) -> Answer {
        let has = |flags| self.flags.contains(flags);
        if has(GrabFlags::SBUSY | GrabFlags::NOBUSY) {
            return Err(misuse("a page is grabbed shared busied or not busied, not both"));
        }
        if has(GrabFlags::ZERO | GrabFlags::CONTENTS) {
            return Err(misuse("a new page is zeros or what its pager has, not both"));
        }
        let filled = self
            .flags
            .intersects(GrabFlags::ZERO | GrabFlags::CONTENTS | GrabFlags::NOCREAT);
        if self.flags.intersects(GrabFlags::SBUSY | GrabFlags::NOBUSY) && !filled {
            return Err(misuse(
                "a new page that is not filled is its maker's alone; grab it exclusively busied, or ask for zeros, for its contents, or for no new page",
            ));
        }
        if has(GrabFlags::CONTENTS) && self.caller == Caller::Pager {
            return Err(misuse(
                "a pager cannot ask for contents that itself or another pager would have to bring",
            ));
        }
        if checking().contains(Checking::STRICT) && !object.hand_lock.is_mine() {
            return Err(misuse(
                "the object's lock is not held by this thread, and strict checking wants it to grab a page; lock the object first",
            ));
        }
        Ok(())
    }

    fn grab(self, object: &Arc<Object>, index: PageIndex, along: u32) -> Answer<PageHandle> {
        loop {
            match self.resident(object, index)? {
                Step::Got(page) => return Ok(page),
                Step::Busy(page, mode) => self.wait(object, || wait_once(object, page, mode, "grab"))?,
                Step::Missing if self.flags.contains(GrabFlags::NOCREAT) => return Err(PageError::Absent),
                Step::Missing if !object.has_index(index) => return Err(PageError::BeyondObject),
                Step::Missing => match self.make(object, index, along) {
                    Ok(Some(page)) => return Ok(page),
                    Ok(None) => {}
                    Err(PageError::Failed(Error::NoMemory)) if self.caller == Caller::Program => {
                        let no_memory = || PageError::Failed(Error::NoMemory);
                        if self.flags.contains(GrabFlags::NOWAIT) {
                            return Err(no_memory());
                        }
                        let _without = object.hand_lock.without();
                        object.engine().make_room().map_err(|_| no_memory())?;
                        if self.flags.contains(GrabFlags::WAITFAIL) {
                            return Err(no_memory());
                        }
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Waits, as far as the caller wants to.
    fn wait(self, object: &Object, wait: impl FnOnce() -> Answer) -> Answer {
        if self.flags.contains(GrabFlags::NOWAIT) {
            return Err(PageError::Busy);
        }
        let _without = object.hand_lock.without();
        wait()?;
        if self.flags.contains(GrabFlags::WAITFAIL) {
            return Err(PageError::Busy);
        }
        Ok(())
    }

    /// The page, if it is in memory and can be had as it is wanted.
    fn resident(self, object: &Arc<Object>, index: PageIndex) -> Answer<Step> {
        let state = object.lock();
        if let Some(error) = state.refuses_faults() {
            return Err(PageError::Failed(Error::Fault(error)));
        }
        let Some(page) = state.pages.get(index) else {
            return Ok(Step::Missing);
        };
        let mode = self.mode();
        // One that is not to be busied is, until it is wired: nobody can take it meanwhile.
        let busied = match mode {
            BusyMode::Exclusive if self.is_not_busied() => !page.is_busied() && page.busy.try_shared_by_hand(),
            BusyMode::Exclusive => page.busy.try_exclusive_by_hand(),
            BusyMode::Shared => page.busy.try_shared_by_hand(),
        };
        if !busied {
            return Ok(Step::Busy(page, mode));
        }
        let handle = PageHandle::of(page);
        drop(state);
        let wired = self.wire(handle, page, object);
        if self.is_not_busied() || wired.is_err() {
            match mode {
                BusyMode::Exclusive if !self.is_not_busied() => page.busy.release_exclusive_by_hand(),
                _ => page.busy.release_shared_by_hand(),
            };
        }
        wired.map(|()| Step::Got(handle))
    }

    /// What keeps the caller from the page.
    fn mode(self) -> BusyMode {
        let shares = self.flags.contains(GrabFlags::SBUSY);
        if shares || self.flags.contains(GrabFlags::NOBUSY | GrabFlags::IGN_SBUSY) {
            BusyMode::Shared
        } else {
            BusyMode::Exclusive
        }
    }

    fn is_not_busied(self) -> bool {
        self.flags.contains(GrabFlags::NOBUSY)
    }

    fn wire(self, handle: PageHandle, page: PageRef, object: &Object) -> Answer {
        if self.flags.contains(GrabFlags::WIRED) {
            handle.wire_in(page, object)
        } else {
            Ok(())
        }
    }

    /// A page for a place that has none, or its contents. Nothing: look again.
    fn make(self, object: &Arc<Object>, index: PageIndex, along: u32) -> Answer<Option<PageHandle>> {
        if self.flags.contains(GrabFlags::CONTENTS) {
            let bring_in = || {
                object.page_in(index, along, &Deadline::NEVER)?;
                Ok(())
            };
            // That it had to be waited for is no failure: once it is there it can be had.
            return match self.wait(object, bring_in) {
                Err(PageError::Busy) if !self.flags.contains(GrabFlags::NOWAIT) => Ok(None),
                waited => waited.map(|()| None),
            };
        }
        if !object.takes_own_frames() {
            return Err(PageError::Failed(Error::Unsupported(
                "the object's pages are frames of its device, and nothing would write another one back; grab what is in memory, with NOCREAT",
            )));
        }
        let busy = match ExclusiveBusy::insert_new(object.clone(), index, Reserve::Ordinary) {
            Ok(busy) => busy,
            // Somebody was quicker, or the object ends there, or is ending: that shows when it is looked at again.
            Err(Error::InUse(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // What it holds is never undefined for those who look at it by hand.
        let zeroed = object.engine().machine().zero_page(busy.page());
        zeroed.map_err(|_| Error::NoMemory)?;
        if self.flags.contains(GrabFlags::ZERO) {
            busy.page().mark_valid();
            self.note_zeros(object, busy.page());
        }
        let handle = PageHandle::of(busy.page());
        self.wire(handle, busy.page(), object)?;
        if self.is_not_busied() {
            drop(busy);
        } else if self.flags.contains(GrabFlags::SBUSY) {
            object.engine().memory.page_is_filled(busy.page());
            busy.into_hand().busy.downgrade_by_hand();
        } else {
            busy.into_hand();
        }
        Ok(Some(handle))
    }

    /// Zeros are what a place without a slot has. Elsewhere they are something new, if it can be written at all.
    fn note_zeros(self, object: &Object, page: PageRef) {
        if object.is_writable() && (!object.is_anonymous() || object.has_slot(page.index())) {
            object.dirty_and_release(page);
        }
    }
}

impl From<FaultError> for PageError {
    fn from(error: FaultError) -> Self {
        Self::Failed(Error::Fault(error))
    }
}
