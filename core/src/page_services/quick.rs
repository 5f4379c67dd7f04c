//! The short way of the steps that are needed most: taken, or nothing said. Whoever gets no answer goes the long way, which says why.
//!
//! Nothing here takes a lock, allocates, or panics, so that no border has to catch anything: it is a comparison of versions and one
//! exchange of the busy word.

use core::ptr;

use super::handle::address_of;
use super::{Checking, PageHandle, checking};
use crate::busy::BusyMode;
use crate::page::{Page, PageRef};

impl PageHandle {
    /// As [`PageHandle::try_exclusive`] or [`PageHandle::try_shared`].
    #[inline]
    #[must_use]
    pub fn quick_try(self, mode: BusyMode) -> Option<bool> {
        let page = self.quick_page()?;
        let busied = match mode {
            BusyMode::Exclusive => page.busy.try_exclusive_by_hand(),
            BusyMode::Shared => page.busy.try_shared_by_hand(),
        };
        if busied && !self.is_now(page) {
            self.put_back(page, mode);
            return None;
        }
        Some(busied)
    }

    /// It was freed just before, and is another page, which is not the caller's to have.
    #[cold]
    pub(super) fn put_back(self, page: PageRef, mode: BusyMode) {
        match mode {
            BusyMode::Exclusive => page.busy.release_exclusive_by_hand(),
            BusyMode::Shared => page.busy.release_shared_by_hand(),
        };
    }

    /// As [`PageHandle::release_exclusive`] or [`PageHandle::release_shared`]; whether it was done.
    #[inline]
    #[must_use]
    pub fn quick_release(self, mode: BusyMode) -> bool {
        self.quick_page().is_some_and(|page| match mode {
            BusyMode::Exclusive => page.is_in_place() && page.busy.release_exclusive_by_hand(),
            BusyMode::Shared => page.busy.release_shared_by_hand(),
        })
    }

    /// Whether it is busied against `mode`: for `Exclusive` in either mode, for `Shared` exclusively.
    #[inline]
    #[must_use]
    pub fn quick_busied(self, mode: BusyMode) -> Option<bool> {
        self.quick_page().map(|page| page.busy.is_busied_against(mode))
    }

    /// The page, if it is still the one, and no lock is asked for.
    #[inline]
    fn quick_page(self) -> Option<PageRef> {
        let address = address_of(self.word());
        if address == 0 || !address.is_multiple_of(align_of::<Page>()) || checking().contains(Checking::STRICT) {
            return None;
        }
        // SAFETY: as in `PageHandle::page_ever`.
        let page: PageRef = unsafe { &*ptr::with_exposed_provenance::<Page>(address) };
        self.is_now(page).then_some(page)
    }
}
