//! Wirings that no entry has: somebody made them by hand, and takes them back by hand.
//!
//! They are counted apart, because they go with their page: when it is freed they are void, and nobody takes them back from the
//! page that comes after it ([`LostWirings`](super::LostWirings) are for entries, which do).

use alloc::vec::Vec;

use crate::alloc_fallible::try_reserve;
use crate::error::Result;
use crate::types::PageIndex;

/// How many there are, by index; none is 0. Under the object's lock.
#[derive(Debug, Default)]
pub(crate) struct HandWirings(Vec<(PageIndex, u32)>);

impl HandWirings {
    /// So many more of a page.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory).
    pub(crate) fn add(&mut self, index: PageIndex, wirings: u32) -> Result<()> {
        match self.find(index) {
            _ if wirings == 0 => {}
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(wirings),
            Err(at) => {
                try_reserve(&mut self.0, 1)?;
                self.0.insert(at, (index, wirings));
            }
        }
        Ok(())
    }

    /// Of a page.
    pub(crate) fn count(&self, index: PageIndex) -> u32 {
        self.find(index).map_or(0, |at| self.0[at].1)
    }

    /// Takes one back, if there is one.
    pub(crate) fn take_one(&mut self, index: PageIndex) -> bool {
        let Ok(at) = self.find(index) else { return false };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
        }
        true
    }

    /// The page goes: so many it had.
    pub(crate) fn take_all(&mut self, index: PageIndex) -> u32 {
        self.find(index).map_or(0, |at| self.0.remove(at).1)
    }

    fn find(&self, index: PageIndex) -> core::result::Result<usize, usize> {
        self.0.binary_search_by_key(&index, |wired| wired.0)
    }
}
