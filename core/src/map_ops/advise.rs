//! Taking advice on future accesses.

use super::Entries;
use crate::error::Result;
use crate::map_entry::Backing;
use crate::types::{Advice, VirtAddr};

impl<B: Backing> Entries<B> {
    /// Takes advice on `len` bytes from `start`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) as [`Entries::check_range`] has it,
    /// [`Error::NotMapped`](crate::error::Error::NotMapped) with the first hole,
    /// [`Error::NoMemory`](crate::error::Error::NoMemory). Nothing was changed then.
    pub fn advise(&mut self, start: VirtAddr, len: u64, advice: Advice) -> Result<()> {
        let range = self.check_range(start, len)?;
        self.check_mapped(range, |_| Ok(()))?;
        self.change(range, |_, attr| attr.advice = advice)
    }
}
