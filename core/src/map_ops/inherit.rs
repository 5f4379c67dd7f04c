//! Choosing what a fork does with mapped memory.

use super::Entries;
use crate::error::Result;
use crate::map_entry::Backing;
use crate::types::{Inherit, VirtAddr};

impl<B: Backing> Entries<B> {
    /// Sets what a fork does with `len` bytes from `start`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) as [`Entries::check_range`] has it,
    /// [`Error::NotMapped`](crate::error::Error::NotMapped) with the first hole,
    /// [`Error::NoMemory`](crate::error::Error::NoMemory). Nothing was changed then.
    pub fn inherit(&mut self, start: VirtAddr, len: u64, inherit: Inherit) -> Result<()> {
        let range = self.check_range(start, len)?;
        self.check_mapped(range, |_| Ok(()))?;
        self.change(range, |_, attr| attr.inherit = inherit)
    }
}
