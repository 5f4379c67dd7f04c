//! Swap: where the pages of anonymous objects go when memory is short.
//!
//! An *anonymous object* is an ordinary object whose pager is made here: it begins as zeros, belongs to no file, and ends with its last
//! user. Its pages have *places*, their indices. A place whose page was written out has a *slot*: a page's room in a *swap
//! area*, which is what some pager has opened.
//!
//! Invariant: the slot of a place changes only by whoever has its page exclusively busied, by whoever has it share-busied and
//! holds the object's lock, or by whoever holds that lock while no page is there.
//!
//! A page that becomes dirty, or is wired, loses its slot, whose contents are worthless from then on (S189, N15). So a clean
//! page is either all zeros or has a slot.

mod anonymous;
mod pager;

use alloc::sync::Arc;

pub(crate) use anonymous::Anonymous;

/// The swap of one engine.
#[derive(Debug, Default)]
pub(crate) struct Swap {}

/// A page's room in the swap areas, numbered through all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slot(pub(crate) u32);

impl Swap {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Nobody needs what these slots hold. Under any lock but one of the highest rank.
    pub(crate) fn release(&self, slot: Slot) {
        let _ = slot;
    }
}
