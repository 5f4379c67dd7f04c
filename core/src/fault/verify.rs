//! Step 1: the entry at the address, and whether it allows the access.

use core::ops::Range;

use super::{Fault, Stop};
use crate::error::FaultError;
use crate::map_ops::Entries;
use crate::object::ObjectRef;
use crate::shown::{Shown, ShownRef, Upper};
use crate::types::{PageIndex, Prot, VirtAddr};

/// What step 1 found. Holds as long as the map's lock is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'e> {
    pub(super) entry: ShownRef<'e>,
    /// The page's first address.
    pub(super) page_va: VirtAddr,
    /// The page's place in what the entry shows.
    pub(super) index: PageIndex,
}

/// The object, where it is what shows.
#[derive(Clone, Debug)]
pub(super) struct Below<'e> {
    pub(super) at: Found<'e>,
    pub(super) object: &'e ObjectRef,
    /// Where it shows around the page.
    pub(super) shows: Range<PageIndex>,
    /// The rights of a mapping made now.
    pub(super) prot: Prot,
    /// The mapping may be written, with the pager's leave for pages that are clean.
    pub(super) leave: bool,
}

pub(super) fn find_entry<'e>(fault: &Fault<'_>, entries: &'e Entries<Shown>) -> Result<Found<'e>, Stop> {
    let entry = entries.lookup(fault.va).ok_or(FaultError::NotMapped(fault.va))?;
    if !fault.own && !entry.attr.prot.contains(fault.access.needs()) {
        return Err(FaultError::Denied(fault.va).into());
    }
    let page_va = fault.va.page_floor();
    let offset = entry.offset_of(page_va).ok_or(FaultError::NotMapped(fault.va))?;
    Ok(Found {
        entry,
        page_va,
        index: offset.page(),
    })
}

impl<'e> Found<'e> {
    /// The object shows at the page, and around it at `shows`. What is written goes elsewhere if something can lie over it.
    pub(super) fn below(self, object: &'e ObjectRef, shows: Range<PageIndex>) -> Below<'e> {
        let prot = match self.entry.backing.upper {
            Upper::Shared => self.entry.attr.prot,
            Upper::Private(_) => self.entry.attr.prot - Prot::WRITE,
        };
        Below {
            at: self,
            object,
            shows,
            prot,
            leave: prot.contains(Prot::WRITE) && object.asks_for_leave(),
        }
    }
}
