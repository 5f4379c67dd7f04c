//! Changing what may be done with mapped memory.

use super::{Entries, check_prot};
use crate::error::{Error, Result};
use crate::map_entry::Backing;
use crate::types::{AddrRange, Prot, VirtAddr};

impl<B: Backing> Entries<B> {
    /// Gives `len` bytes from `start` the protection `prot`. `changing` is told, ascending, each piece whose protection changes
    /// and what it was, so that the caller can change the pmap; it is called with the map half changed and so has no access to
    /// it. When it fails, that piece and those behind it keep their protection.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Entries::check_range`] has it, or for unknown bits; [`Error::NotMapped`] with the first hole;
    /// [`Error::AboveMaximum`] with the first address whose maximum does not allow `prot` (of these two, the lower address);
    /// [`Error::NoMemory`]. Nothing was changed then. What `changing` says; the pieces before have been changed.
    pub fn protect(
        &mut self,
        start: VirtAddr,
        len: u64,
        prot: Prot,
        mut changing: impl FnMut(AddrRange, Prot) -> Result<()>,
    ) -> Result<()> {
        let range = self.check_range(start, len)?;
        check_prot(prot)?;
        self.check_mapped(range, |entry| {
            if entry.attr.max_prot.contains(prot) {
                return Ok(());
            }
            Err(Error::AboveMaximum(entry.range.start.max(range.start)))
        })?;
        let mut outcome = Ok(());
        self.change(range, |piece, attr| {
            if outcome.is_ok() && attr.prot != prot {
                outcome = changing(piece, attr.prot);
                if outcome.is_ok() {
                    attr.prot = prot;
                }
            }
        })?;
        outcome
    }
}
