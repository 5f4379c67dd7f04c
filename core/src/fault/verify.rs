//! Step 1: the entry at the address, and whether it allows the access.

use super::{Fault, Stop};
use crate::error::FaultError;
use crate::map_entry::EntryRef;
use crate::map_ops::Entries;
use crate::object::ObjectRef;
use crate::types::{PageIndex, Prot, VirtAddr};

/// What step 1 found. Holds as long as the map's lock is.
#[derive(Debug)]
pub(super) struct Found<'e> {
    pub(super) entry: EntryRef<'e, ObjectRef>,
    /// The page's first address.
    pub(super) page_va: VirtAddr,
    /// The page's place in the object.
    pub(super) index: PageIndex,
    /// The rights of a mapping made now.
    pub(super) prot: Prot,
    /// The mapping may be written, with the pager's leave for pages that are clean.
    pub(super) leave: bool,
}

pub(super) fn find_entry<'e>(fault: &Fault<'_>, entries: &'e Entries<ObjectRef>) -> Result<Found<'e>, Stop> {
    let entry = entries.lookup(fault.va).ok_or(FaultError::NotMapped(fault.va))?;
    if !entry.attr.prot.contains(fault.access.needs()) {
        return Err(FaultError::Denied(fault.va).into());
    }
    let page_va = fault.va.page_floor();
    let offset = entry.offset_of(page_va).ok_or(FaultError::NotMapped(fault.va))?;
    Ok(Found {
        entry,
        page_va,
        index: offset.page(),
        prot: entry.attr.prot,
        leave: entry.attr.prot.contains(Prot::WRITE) && entry.backing.asks_for_leave(),
    })
}
