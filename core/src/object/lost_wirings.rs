//! Wirings whose pages are gone.
//!
//! An object that shrinks loses wired pages, while the entries that wired them take their wirings back later, one each. When the object has grown
//! again there may be another page in such a place, which others have wired: theirs must not be taken instead. So the object
//! counts what was lost, and the first unwirings of a place are those. Whose they are makes no difference: a page that
//! somebody has wired stays wired at least as long as that.

use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::types::PageIndex;

/// How many wirings were lost, by index. Under the object's lock.
#[derive(Debug, Default)]
pub(crate) struct LostWirings(Vec<(PageIndex, u32)>);

impl LostWirings {
    /// A page goes, with so many wirings. Without memory to remember them a later page may be unwired too early, which costs it
    /// its place in memory and nothing else.
    pub(crate) fn note(&mut self, index: PageIndex, wirings: u32) {
        if wirings == 0 {
            return;
        }
        match self.0.binary_search_by_key(&index, |lost| lost.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(wirings),
            Err(at) => {
                if try_reserve(&mut self.0, 1).is_ok() {
                    self.0.insert(at, (index, wirings));
                }
            }
        }
    }

    /// Whether a wiring of this place was lost that has not been taken back.
    pub(crate) fn has(&self, index: PageIndex) -> bool {
        !self.0.is_empty() && self.0.binary_search_by_key(&index, |lost| lost.0).is_ok()
    }

    /// Takes one wiring of each place in the range back, of those that were lost.
    pub(crate) fn take(&mut self, range: &Range<PageIndex>) {
        self.0.retain_mut(|(index, wirings)| {
            *wirings -= u32::from(range.contains(index));
            *wirings > 0
        });
    }
}
