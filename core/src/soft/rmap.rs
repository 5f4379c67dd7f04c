//! Which mappings show a frame: one short list a frame, under a lock of its own.
//!
//! # Invariants
//!
//! 1. A translation to a frame is in a page table only while its mapping is in that frame's list: it is listed before it
//!    is written, and struck out after it was cleared, both under the lock of the leaf table.
//! 2. What a mapping knew of its use is recorded on the page before the mapping is struck out. Whoever finds it no longer
//!    listed therefore finds the bits on the page.
//! 3. The list shrinks only by putting its last member in the place of the one struck out, so that a walk from the end to
//!    the start misses none of those that stay.

use alloc::vec::Vec;

use crate::alloc_fallible::try_reserve;
use crate::machine::{Harvest, Shortage};
use crate::page::PageRef;
use crate::sync::MappingLock;
use crate::types::{PAGE_SHIFT, VirtAddr};

/// Bits of the number of a page in an address space: 48 bits of address less the page's.
const PAGE_BITS: u32 = 36;

/// An address in an address space, as one word: 28 bits of the space's number, 36 bits of the page's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapping(u64);

/// The space's number must be less than this.
pub(super) const MAX_SPACES: u32 = 1 << (u64::BITS - PAGE_BITS);

impl Mapping {
    pub(super) fn new(space: u32, va: VirtAddr) -> Self {
        Self(u64::from(space) << PAGE_BITS | va.0 >> PAGE_SHIFT)
    }

    #[allow(clippy::cast_possible_truncation, reason = "28 bits are left")]
    pub(super) fn space(self) -> u32 {
        (self.0 >> PAGE_BITS) as u32
    }

    pub(super) fn va(self) -> VirtAddr {
        VirtAddr((self.0 & ((1 << PAGE_BITS) - 1)) << PAGE_SHIFT)
    }
}

/// Most frames are mapped once or twice, and need no memory for that.
#[derive(Debug)]
enum List {
    None,
    One(Mapping),
    Two([Mapping; 2]),
    /// Kept until it is empty.
    Many(Vec<Mapping>),
}

impl List {
    fn as_slice(&self) -> &[Mapping] {
        match self {
            Self::None => &[],
            Self::One(mapping) => core::slice::from_ref(mapping),
            Self::Two(mappings) => mappings,
            Self::Many(mappings) => mappings,
        }
    }

    fn push(&mut self, mapping: Mapping) -> Result<(), Shortage> {
        match self {
            Self::None => *self = Self::One(mapping),
            Self::One(first) => *self = Self::Two([*first, mapping]),
            Self::Two([first, second]) => {
                let mut many = Vec::new();
                try_reserve(&mut many, 4).map_err(|_| Shortage)?;
                many.extend([*first, *second, mapping]);
                *self = Self::Many(many);
            }
            Self::Many(mappings) => {
                try_reserve(mappings, 1).map_err(|_| Shortage)?;
                mappings.push(mapping);
            }
        }
        Ok(())
    }

    /// Invariant 3: the last one moves into the gap.
    fn strike_out(&mut self, at: usize) {
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Two(mappings) => *self = Self::One(mappings[1 - at]),
            Self::Many(mappings) => {
                mappings.swap_remove(at);
                if mappings.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }
}

#[derive(Debug)]
struct Shown {
    /// The page over the frame; meaningful while the list is not empty, and constant as long. Of a device's frame the last one of its pages that was mapped.
    page: Option<PageRef>,
    list: List,
}

/// The mappings of one frame. 40 bytes.
#[derive(Debug)]
pub(super) struct FrameMappings(MappingLock<Shown>);

impl FrameMappings {
    pub(super) const fn new() -> Self {
        Self(MappingLock::new(Shown {
            page: None,
            list: List::None,
        }))
    }

    /// Lists a mapping of `page` that is about to be made. On a shortage nothing has changed.
    #[inline]
    pub(super) fn add(&self, page: PageRef, mapping: Mapping) -> Result<(), Shortage> {
        let mut shown = self.0.lock();
        // A device's memory may be shown as several pages; nothing is to be recorded on those.
        debug_assert!(
            page.is_device()
                || shown.list.as_slice().is_empty()
                || shown.page.is_some_and(|other| core::ptr::eq(other, page)),
            "a frame is mapped as two pages"
        );
        shown.list.push(mapping)?;
        shown.page = Some(page);
        Ok(())
    }

    /// Records what a mapping that has just been cleared knew, and strikes it out, in this order (invariant 2).
    #[inline]
    pub(super) fn strike_out(&self, mapping: Mapping, harvest: Harvest) {
        let mut shown = self.0.lock();
        // It may be another one of a device's by now, of which nothing is known.
        if let Some(page) = shown.page.filter(|page| !page.is_device()) {
            harvest.record(page);
        }
        let at = shown.list.as_slice().iter().position(|listed| *listed == mapping);
        assert!(at.is_some(), "a mapping was not in the list of its frame");
        if let Some(at) = at {
            shown.list.strike_out(at);
        }
    }

    /// The next mapping on a walk from the end: the last one that stands before `place`, and where it stands. A walk
    /// begins at `usize::MAX`.
    pub(super) fn before(&self, place: usize) -> Option<(usize, Mapping)> {
        let shown = self.0.lock();
        let list = shown.list.as_slice();
        let at = place.min(list.len()).checked_sub(1)?;
        Some((at, list[at]))
    }

    /// Whether nothing shows the frame.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().list.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mapping_keeps_its_space_and_its_address() {
        let mapping = Mapping::new(MAX_SPACES - 1, VirtAddr(0xffff_ffff_f000));
        assert_eq!(
            (mapping.space(), mapping.va()),
            (MAX_SPACES - 1, VirtAddr(0xffff_ffff_f000))
        );
    }

    #[test]
    fn a_frame_that_is_mapped_twice_needs_no_memory_for_it() {
        assert!(size_of::<FrameMappings>() <= 40);
        crate::alloc_fallible::failing::after(Some(0));
        let mut list = List::None;
        assert_eq!(list.push(Mapping(1)), Ok(()));
        assert_eq!(list.push(Mapping(2)), Ok(()));
        assert_eq!(list.push(Mapping(3)), Err(Shortage));
        crate::alloc_fallible::failing::after(None);
        assert_eq!(list.as_slice(), [Mapping(1), Mapping(2)]);
    }

    proptest! {
        /// Invariant 3, with members struck out between any two steps of the walk.
        #[test]
        fn a_walk_from_the_end_misses_none_that_stay(members in 0..9_u64, strikes in proptest::collection::vec(0..12_usize, 0..12)) {
            let mut list = List::None;
            for member in 0..members {
                list.push(Mapping(member)).unwrap();
            }
            let mut seen = Vec::new();
            let mut struck_out = Vec::new();
            let mut strikes = strikes.into_iter();
            let mut place = usize::MAX;
            while let Some(at) = place.min(list.as_slice().len()).checked_sub(1) {
                seen.push(list.as_slice()[at]);
                place = at;
                if let Some(strike) = strikes.next()
                    && strike < list.as_slice().len()
                {
                    struck_out.push(list.as_slice()[strike]);
                    list.strike_out(strike);
                }
            }
            for member in (0..members).map(Mapping) {
                prop_assert!(seen.contains(&member) || struck_out.contains(&member));
            }
            for stays in list.as_slice() {
                prop_assert!(seen.contains(stays));
            }
        }
    }
}
