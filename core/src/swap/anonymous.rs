//! The places of an anonymous object, and what the object does with them.

use alloc::sync::Arc;
use core::borrow::Borrow;
use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::pager::SwapPager;
use super::{Slot, Swap};
use crate::alloc_fallible::try_box;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::object::{BATCH, ExclusiveBusy, Object, ObjectRef};
use crate::page::PageRef;
use crate::radix::Radix;
use crate::sync::{Deadline, FrameLock, assert_no_locks_held};
use crate::types::{MAX_OBJECT_SIZE, PAGE_BYTES, PageIndex, Prot};

/// Which places of one object have slots: a few bytes for each that has one.
#[derive(Debug)]
pub(crate) struct Anonymous {
    swap: Arc<Swap>,
    without_slot: Contents,
    places: FrameLock<Radix<NonZeroU32>>,
    /// How many have one, so that nothing is locked while none has. Changed under the lock; whoever may ask about a place
    /// sees what was done to it.
    count: AtomicU64,
}

/// What a place has that has neither a page nor a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    /// Zeros.
    Zeros,
    /// Nothing: what belongs there somebody else knows, and puts a page there.
    Nothing,
}

/// A slot as the tree has it: never 0.
fn number_of(slot: Slot) -> NonZeroU32 {
    // No area reaches the last slot of all.
    NonZeroU32::MIN.saturating_add(slot.0)
}

fn slot_of(number: NonZeroU32) -> Slot {
    Slot(number.get() - 1)
}

impl Anonymous {
    fn new(swap: Arc<Swap>, without_slot: Contents) -> Self {
        Self {
            swap,
            without_slot,
            places: FrameLock::default(),
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn swap(&self) -> &Arc<Swap> {
        &self.swap
    }

    /// The slot of a place.
    pub(super) fn slot(&self, place: PageIndex) -> Option<Slot> {
        if self.is_empty() {
            return None;
        }
        self.places.lock().get(place.0).map(slot_of)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Takes the slot of a place away, if it has one. Nobody needs what it holds.
    #[inline]
    pub(crate) fn release(&self, place: PageIndex) {
        if !self.is_empty() {
            self.release_slow(place);
        }
    }

    fn release_slow(&self, place: PageIndex) {
        let slot = {
            let mut places = self.places.lock();
            let slot = places.take(place.0).map(slot_of);
            self.count.store(places.len(), Ordering::Release);
            slot
        };
        if let Some(slot) = slot {
            self.swap.release(slot);
        }
    }

    /// Gives a place a slot, which is filled.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the place has none then.
    pub(super) fn set(&self, place: PageIndex, slot: Slot) -> Result<()> {
        let old = {
            let mut places = self.places.lock();
            let old = places.set(place.0, number_of(slot))?;
            self.count.store(places.len(), Ordering::Release);
            old
        };
        if let Some(old) = old {
            self.swap.release(slot_of(old));
        }
        Ok(())
    }

    /// The first place at or after `from` whose slot is one of these.
    pub(super) fn next_in(&self, from: PageIndex, slots: &Range<Slot>) -> Option<PageIndex> {
        let mut from = from.0;
        if self.is_empty() {
            return None;
        }
        loop {
            let places = self.places.lock();
            // Not all under one hold: others may wait.
            for _ in 0..1024 {
                let (place, number) = places.next(from)?;
                if slots.contains(&slot_of(number)) {
                    return Some(PageIndex(place));
                }
                from = place.checked_add(1)?;
            }
        }
    }

    /// The first place in a range that has a slot.
    fn next(&self, range: &Range<PageIndex>) -> Option<PageIndex> {
        if self.is_empty() {
            return None;
        }
        let (place, _) = self.places.lock().next(range.start.0)?;
        Some(PageIndex(place)).filter(|place| *place < range.end)
    }

    /// No place has a slot any more: the object has ended.
    pub(super) fn release_all(&self) {
        let all = PageIndex(0)..PageIndex(u64::MAX);
        while let Some(place) = self.next(&all) {
            self.release(place);
        }
        self.swap.tell_freed();
    }
}

impl Engine {
    /// A new object of `size` bytes that begins as zeros and is kept nowhere but in memory and in swap: what it holds ends with its
    /// last user. The answer is its first use. Takes no memory for its contents, however large it is. No lock may be held.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size that cannot be; [`Error::NoMemory`].
    pub fn create_anonymous(self: &Arc<Self>, size: u64) -> Result<ObjectRef> {
        self.new_anonymous(size, Contents::Zeros)
    }

    /// The same, with `without_slot` at places that have neither a page nor a slot.
    ///
    /// # Errors
    /// As [`Engine::create_anonymous`].
    pub(crate) fn new_anonymous(self: &Arc<Self>, size: u64, without_slot: Contents) -> Result<ObjectRef> {
        assert_no_locks_held("making an object");
        if size > MAX_OBJECT_SIZE {
            return Err(Error::Invalid(
                "no object can be that long; 2^64 - 4096 bytes are the most",
            ));
        }
        let anonymous = Arc::new(Anonymous::new(self.swap().clone(), without_slot));
        let pager = try_box(SwapPager::new(anonymous.clone()))?;
        self.list_anonymous(pager, anonymous, size)
    }
}

impl<O: Borrow<Object>> ExclusiveBusy<O> {
    /// Unmaps the page, and frees it and its slot: what it holds is given up. No lock may be held.
    pub(crate) fn forget(self) {
        self.lower(Prot::empty());
        self.object().release_slot(self.page().index());
        self.free();
    }
}

impl Object {
    /// Whether it belongs to no file: its pages go to swap.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.anonymous().is_some()
    }

    /// Whether a place has a slot: its contents are in swap. Stable under the object's lock while no page is there, and while
    /// the page is busied. Takes a lock of the highest rank only.
    #[must_use]
    pub fn has_slot(&self, place: PageIndex) -> bool {
        self.anonymous()
            .is_some_and(|anonymous| anonymous.slot(place).is_some())
    }

    /// Whether there is nothing to bring in for a place: it has no slot, and is not zeros without one. Stable as
    /// [`Object::has_slot`] is.
    pub(crate) fn has_nothing_at(&self, place: PageIndex) -> bool {
        self.anonymous()
            .is_some_and(|anonymous| anonymous.without_slot == Contents::Nothing && anonymous.slot(place).is_none())
    }

    /// Takes the slot of a place away, if it has one: what it holds is worthless. For whoever has the place's page exclusively
    /// busied, or share-busied under the object's lock, or holds that lock while no page is there; it must then be dirty, or all zeros.
    /// Waits for nothing; no pager is called. Takes a lock of the highest rank only, and none where no place has a slot.
    pub(crate) fn release_slot(&self, place: PageIndex) {
        if let Some(anonymous) = self.anonymous() {
            anonymous.release(place);
        }
    }

    /// Page `index`, which the caller has busied in either mode, is about to be written, or is wired: it is dirty from now on, and
    /// its slot is released (S189, N15). No object's lock may be held. Whoever holds it calls
    /// [`ObjectState::note_modified`](crate::object::ObjectState::note_modified), which is the same.
    pub(crate) fn dirty_and_release(&self, page: PageRef) {
        self.lock().note_modified(page);
    }

    /// Busies the page of a place exclusively; one that is not in memory but in swap is brought in first, with up to `along` of those
    /// behind it. Nothing if it is in neither, or the object ends. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when no room can be made for it; the area's answer.
    pub(crate) fn busy_with_contents(
        self: &Arc<Self>,
        place: PageIndex,
        along: u32,
    ) -> Result<Option<ExclusiveBusy<&Self>>> {
        loop {
            if let Some(busy) = Self::busy_resident(&&**self, place) {
                return Ok(Some(busy));
            }
            if !self.has_slot(place) || !self.is_live() {
                return Ok(None);
            }
            match self.page_in(place, along, &Deadline::NEVER) {
                Ok(_) => {}
                Err(Error::NoMemory) => self.engine().make_room().map_err(|_| Error::NoMemory)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a clean page can be had again when it has been freed: from its pager, from its slot, because it is all zeros, or because it
    /// was never written, and is a copy of what lies below its amap. Exclusively busied. Looks at every byte; for assertions.
    pub(crate) fn can_be_had_again(&self, page: PageRef) -> bool {
        if !self.is_anonymous() || self.has_slot(page.index()) || !page.was_put() {
            return true;
        }
        let mut bytes = [0; PAGE_BYTES];
        self.engine().machine().copy_out(page, 0, &mut bytes);
        bytes == [0; PAGE_BYTES]
    }

    /// Gives up what the places of a range hold: their pages are unmapped and freed, wired ones as well, and their slots released. They are
    /// as they were before they had any. Waits for busy pages, and calls the pagers of swap areas that want to hear of it; no lock may be held.
    pub(crate) fn forget_places(&self, range: Range<PageIndex>) {
        let free = |range| {
            self.unmap_and_free(
                range,
                true,
                |_| true,
                |page| {
                    self.release_slot(page.index());
                    true
                },
            )
        };
        free(range.clone());
        let Some(anonymous) = self.anonymous() else { return };
        // What is being brought in since then has its page.
        while let Some(came_back) = self.forget_absent(anonymous, &range) {
            let (_, kept) = free(came_back..range.end);
            if kept > 0 {
                // A pager that broke its promise has them.
                break;
            }
        }
        anonymous.swap().tell_freed();
    }

    /// Releases the slots of those places of a range that have no page. Answers with the first one that has both.
    fn forget_absent(&self, anonymous: &Anonymous, range: &Range<PageIndex>) -> Option<PageIndex> {
        let (mut rest, mut with_page) = (range.clone(), None);
        while let Some(first) = anonymous.next(&rest) {
            // What is brought in or written out has a page; without one, nobody but us touches the slot.
            let state = self.lock();
            rest.start = first;
            for _ in 0..BATCH {
                let Some(place) = anonymous.next(&rest) else { break };
                if state.pages.get(place).is_none() {
                    anonymous.release(place);
                } else {
                    with_page = with_page.or(Some(place));
                }
                rest.start = PageIndex(place.0 + 1);
            }
        }
        with_page
    }
}
