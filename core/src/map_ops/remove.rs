//! Removing mappings.

use alloc::vec::Vec;

use super::Entries;
use crate::alloc_fallible::try_reserve;
use crate::error::Result;
use crate::map_entry::{Backing, MapEntry};
use crate::types::{AddrRange, VirtAddr};

impl<B: Backing> Entries<B> {
    /// Unmaps `len` bytes from `start`. What was mapped there goes to the end of `removed`, ascending, clipped to the range,
    /// each piece with its reference: the caller takes it out of the pmap, and drops the references when it holds no lock.
    /// A range without mappings is no error.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) as [`Entries::check_range`] has it,
    /// [`Error::NoMemory`](crate::error::Error::NoMemory). Nothing was changed then.
    pub fn remove(&mut self, start: VirtAddr, len: u64, removed: &mut Vec<MapEntry<B>>) -> Result<()> {
        let range = self.check_range(start, len)?;
        self.take_out(range, 0, removed)
    }

    /// Takes everything in `range` out. Afterwards `more` insertions cannot fail.
    pub(super) fn take_out(&mut self, range: AddrRange, more: usize, removed: &mut Vec<MapEntry<B>>) -> Result<()> {
        let pieces = self.tree.iter(range).count();
        if pieces == 0 {
            return self.tree.reserve(more);
        }
        try_reserve(removed, pieces)?;
        self.tree.reserve(2 + more)?;
        self.clip(range.start);
        self.clip(range.end);
        while let Some(entry) = self.tree.lookup_at_or_after(range.start) {
            let start = entry.range.start;
            if start >= range.end {
                break;
            }
            removed.extend(self.tree.remove(start));
        }
        Ok(())
    }
}
