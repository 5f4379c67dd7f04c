//! The busy protocol by hand: see [the module](super) for who may do what.

use super::checking::misuse;
use super::{Answer, Checking, PageError, PageHandle, checking};
use crate::busy::BusyMode;
use crate::object::ExclusiveBusy;
use crate::page::PageRef;

const NOT_EXCLUSIVE: &str = "the page is not exclusively busied by hand, so it cannot be unbusied, lowered or changed that way; what the \
                             engine has busied is the engine's";
const NOT_SHARED: &str = "the page is not shared busied by hand, so there is no share to give back or to raise";
const NOWHERE: &str = "the page is in no object: insert it into one, or free it, before it is unbusied";

impl PageHandle {
    /// Whether the page is busied in either mode, by anyone (S244, D12).
    ///
    /// # Errors
    /// No handle, stale. So it is with all questions.
    #[inline]
    pub fn is_busied(self) -> Answer<bool> {
        Ok(self.page()?.is_busied())
    }

    /// Whether the page is exclusively busied, by anyone (S244).
    ///
    /// # Errors
    /// As [`PageHandle::is_busied`].
    #[inline]
    pub fn is_exclusive(self) -> Answer<bool> {
        Ok(self.page()?.is_exclusive())
    }

    /// Whether the page is shared busied, by anyone (S244).
    ///
    /// # Errors
    /// As [`PageHandle::is_busied`].
    #[inline]
    pub fn is_shared(self) -> Answer<bool> {
        Ok(self.page()?.is_shared())
    }

    /// Busies the page exclusively, if it is unbusied (S243). Does not block.
    ///
    /// # Errors
    /// No handle, stale; misuse in strict checking, without the object's lock.
    #[inline]
    pub fn try_exclusive(self) -> Answer<bool> {
        self.try_busy(BusyMode::Exclusive)
    }

    /// Shares the page, unless it is exclusively busied (S243), or shared as often as can be counted: 2047 times by hand. Does not block.
    ///
    /// # Errors
    /// As [`PageHandle::try_exclusive`].
    #[inline]
    pub fn try_shared(self) -> Answer<bool> {
        self.try_busy(BusyMode::Shared)
    }

    #[inline]
    pub(super) fn try_busy(self, mode: BusyMode) -> Answer<bool> {
        let page = self.page()?;
        Self::check_locked(page)?;
        let busied = match mode {
            BusyMode::Exclusive => page.busy.try_exclusive_by_hand(),
            BusyMode::Shared => page.busy.try_shared_by_hand(),
        };
        if busied && !self.is_now(page) {
            self.put_back(page, mode);
            return Err(PageError::Stale);
        }
        Ok(busied)
    }

    /// Exclusively busied to unbusied; all sleepers wake (S249). A page that has just been filled comes on a queue; one that has not been
    /// filled is freed, as nobody may see it (S107, S142): its handle is stale then. Waits for locks at most.
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand (S242), or is in no object; no handle, stale.
    #[inline]
    pub fn release_exclusive(self) -> Answer {
        let page = self.page()?;
        Self::check_locked(page)?;
        if !page.is_in_place() {
            return self.release_to_its_place(page);
        }
        if page.busy.release_exclusive_by_hand() {
            Ok(())
        } else {
            Err(misuse(NOT_EXCLUSIVE))
        }
    }

    #[cold]
    fn release_to_its_place(self, page: PageRef) -> Answer {
        check_in_object(page)?;
        self.take_over().map(drop)
    }

    /// One share less; the last one wakes all sleepers (S249).
    ///
    /// # Errors
    /// Misuse: nobody shares it by hand (S242); no handle, stale.
    #[inline]
    pub fn release_shared(self) -> Answer {
        let page = self.page()?;
        Self::check_locked(page)?;
        if page.busy.release_shared_by_hand() {
            Ok(())
        } else {
            Err(misuse(NOT_SHARED))
        }
    }

    /// Exclusively busied to shared by the caller alone, without a moment in between; those who want to share can proceed (S245).
    ///
    /// # Errors
    /// Misuse: it is not exclusively busied by hand, is not filled (nobody else may see it), or is in no object; no handle, stale.
    pub fn downgrade(self) -> Answer {
        let page = self.exclusive_page()?;
        check_in_object(page)?;
        if !page.is_valid() {
            return Err(misuse(
                "the page is not filled, and what is not filled is not shared; fill it and mark it valid first",
            ));
        }
        if !page.is_in_place() {
            let (page, object) = self.with_object()?;
            object.engine().memory.page_is_filled(page);
        }
        if page.busy.downgrade_by_hand() {
            Ok(())
        } else {
            Err(misuse(NOT_EXCLUSIVE))
        }
    }

    /// Shared by the caller alone to exclusive; false, and still shared, while there are other sharers (F8). Does not block.
    ///
    /// # Errors
    /// Misuse: nobody shares it by hand; no handle, stale.
    pub fn try_upgrade(self) -> Answer<bool> {
        self.page()?
            .busy
            .try_upgrade_by_hand()
            .ok_or_else(|| misuse(NOT_SHARED))
    }

    /// Ends the process, where wrong use does that, unless the page is shared busied (S248). Otherwise does nothing.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn assert_shared(self) -> Answer {
        self.assert_that(
            |page| page.is_shared(),
            "asserted that the page is shared busied, and it is not",
        )
    }

    /// Ends the process, where wrong use does that, if the page is busied (S248). Otherwise does nothing.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn assert_unbusied(self) -> Answer {
        self.assert_that(
            |page| !page.is_busied(),
            "asserted that the page is unbusied, and it is busied",
        )
    }

    /// Ends the process, where wrong use does that, unless the page is exclusively busied (S248). Otherwise does nothing.
    ///
    /// # Errors
    /// No handle, stale.
    pub fn assert_exclusive(self) -> Answer {
        self.assert_that(
            |page| page.is_exclusive(),
            "asserted that the page is exclusively busied, and it is not",
        )
    }

    fn assert_that(self, holds: impl Fn(PageRef) -> bool, sentence: &'static str) -> Answer {
        let page = self.page()?;
        if checking().contains(Checking::ABORT) && !holds(page) {
            return Err(misuse(sentence));
        }
        Ok(())
    }

    /// The page, which is exclusively busied by hand.
    pub(super) fn exclusive_page(self) -> Answer<PageRef> {
        let page = self.page()?;
        if page.busy.is_exclusive_by_hand() {
            Ok(page)
        } else {
            Err(misuse(NOT_EXCLUSIVE))
        }
    }

    /// The page, which is busied by hand in either mode.
    pub(super) fn busied_page(self) -> Answer<PageRef> {
        let page = self.page()?;
        if page.busy.is_exclusive_by_hand() || page.busy.is_shared_by_hand() {
            Ok(page)
        } else {
            Err(misuse(
                "the page is not busied by hand, so that it may change or go at any moment; busy it in either mode first",
            ))
        }
    }

    /// Acts for whoever has the page exclusively busied: what that was is a guard now.
    pub(super) fn take_over(self) -> Answer<ExclusiveBusy<alloc::sync::Arc<crate::object::Object>>> {
        let (page, object) = self.with_object()?;
        if !page.busy.take_from_hand() {
            return Err(misuse(NOT_EXCLUSIVE));
        }
        let busy = ExclusiveBusy::adopt(page, object);
        if !self.is_now(page) || !page.is(busy.object().id(), page.index()) {
            // It was freed just before, and is somebody else's by hand.
            busy.into_hand();
            return Err(PageError::Stale);
        }
        Ok(busy)
    }
}

fn check_in_object(page: PageRef) -> Answer {
    if page.is_nowhere() {
        return Err(misuse(NOWHERE));
    }
    Ok(())
}
