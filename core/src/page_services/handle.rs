//! Handles of pages: a word that C keeps.

use alloc::sync::Arc;
use core::ptr;

use super::checking::misuse_of_handle;
use super::{Answer, PageError, exposed};
use crate::object::Object;
use crate::page::{Page, PageRef};

/// Where a page's version begins: addresses have 48 bits, and the sign of the last one above.
const VERSION_SHIFT: u32 = 48;

/// A page, as it was when the handle was made. 0 is none.
///
/// # Invariants
/// Whoever makes one from a number promises that it is 0, is not a multiple of the alignment of pages, or came from [`PageHandle::word`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageHandle(u64);

impl PageHandle {
    /// The handle of a page as it is now: its identity is stable, because it is busied or its object is locked.
    pub(crate) fn of(page: PageRef) -> Self {
        let address = ptr::from_ref(page).expose_provenance() as u64;
        let version = u64::from(page.version()) << VERSION_SHIFT;
        Self(address & !(u64::MAX << VERSION_SHIFT) | version)
    }

    /// The number that C keeps.
    #[must_use]
    pub fn word(self) -> u64 {
        self.0
    }

    /// A handle from a number that C kept.
    ///
    /// # Safety
    /// The invariant.
    #[must_use]
    pub unsafe fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The page, if it is still the one.
    #[inline]
    pub(super) fn page(self) -> Answer<PageRef> {
        let page = self.page_ever()?;
        if self.is_now(page) {
            Ok(page)
        } else {
            Err(PageError::Stale)
        }
    }

    /// The page struct, whatever it is now.
    #[inline]
    fn page_ever(self) -> Answer<PageRef> {
        let address = address_of(self.0);
        if address == 0 || !address.is_multiple_of(align_of::<Page>()) {
            return Err(misuse_of_handle(address == 0));
        }
        // SAFETY: by the invariant it is the address of a page, whose memory is never given back, and of which only shared references
        // exist; it was exposed when the handle was made.
        Ok(unsafe { &*ptr::with_exposed_provenance::<Page>(address) })
    }

    /// Whether this page is still what it was.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a handle has 16 bits of the version")]
    pub(super) fn is_now(self, page: PageRef) -> bool {
        page.version() as u16 == (self.0 >> VERSION_SHIFT) as u16
    }

    /// The page, and the object it is in.
    pub(super) fn with_object(self) -> Answer<(PageRef, Arc<Object>)> {
        let page = self.page()?;
        // Every page of which a handle was given is in an object that is exposed, until it is freed.
        let object = exposed::of(page).ok_or(PageError::Stale)?;
        Ok((page, object))
    }
}

/// The address in a handle, its upper bits as the highest of the lower ones.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "an address, sign-extended from 48 bits"
)]
pub(super) fn address_of(word: u64) -> usize {
    const ABOVE: u32 = u64::BITS - VERSION_SHIFT;
    (((word << ABOVE) as i64) >> ABOVE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_kernel_is_found_again() {
        assert_eq!(address_of(0x1234_7fff_dead_bee8), 0x7fff_dead_bee8);
        assert_eq!(address_of(0x1234_ffff_dead_bee8), 0xffff_ffff_dead_bee8);
    }

    #[test]
    fn s143_a_handle_is_stale_once_its_page_was_freed() {
        let page = crate::page::allocate().expect("memory");
        let handle = PageHandle::of(page);
        assert!(core::ptr::eq(handle.page().unwrap(), page));
        // SAFETY: it came from a handle.
        assert_eq!(unsafe { PageHandle::from_word(handle.word()) }, handle);
        crate::page::free(page);
        assert_eq!(handle.page().err(), Some(PageError::Stale));
    }
}
