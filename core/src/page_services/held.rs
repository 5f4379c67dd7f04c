//! A fault whose page is kept for the caller (S229).

use super::{PageHandle, exposed};
use crate::error::FaultError;
use crate::fault::Resolved;
use crate::map::Map;
use crate::types::{Access, VirtAddr};

impl Map {
    /// As [`Map::fault`], and the page at `va`, the faulting one and no neighbour, is wired once more by hand: it stays in memory until
    /// [`PageHandle::unwire`] takes that back, or its object loses it. It need not stay mapped. May block; no lock may be held.
    ///
    /// # Errors
    /// As [`Map::fault`]; no page is held then.
    pub fn fault_and_hold(&self, va: VirtAddr, access: Access) -> Result<(Resolved, PageHandle), FaultError> {
        let resolved = self.fault(va, access)?;
        // It may be gone again by now: then this brings it back.
        let held = self.hold_for(va, access)?;
        let object = held.object_shared();
        exposed::enter(object).map_err(|_| FaultError::NoMemory)?;
        let handle = PageHandle::of(held.page());
        match handle.wire_in(held.page(), object) {
            Ok(()) => Ok((resolved, handle)),
            // It is busied, and so is what it was: what is left is memory.
            Err(_) => Err(FaultError::NoMemory),
        }
    }
}
