//! Counting how often mapped memory is wired. Bringing the pages in and holding them is the caller's.

use super::Entries;
use crate::error::{Error, Result};
use crate::map_entry::Backing;
use crate::types::{AddrRange, VirtAddr};

impl<B: Backing> Entries<B> {
    /// Wires `len` bytes from `start` once more. `first` is told, ascending, each piece that was not wired before.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Entries::check_range`] has it, or when the count would overflow; [`Error::NotMapped`] with the first
    /// hole; [`Error::NoMemory`]. Nothing was changed then.
    pub fn wire(&mut self, start: VirtAddr, len: u64, mut first: impl FnMut(AddrRange)) -> Result<()> {
        let range = self.check_range(start, len)?;
        self.check_mapped(range, |entry| match entry.attr.wired.checked_add(1) {
            Some(_) => Ok(()),
            None => Err(Error::Invalid("the range is wired as often as can be counted")),
        })?;
        self.change(range, |piece, attr| {
            attr.wired += 1;
            if attr.wired == 1 {
                first(piece);
            }
        })
    }

    /// Takes one wiring of `len` bytes from `start` back. `last` is told, ascending, each piece that is not wired any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Entries::check_range`] has it, or when a part is not wired; [`Error::NotMapped`] with the first hole;
    /// [`Error::NoMemory`]. Nothing was changed then.
    pub fn unwire(&mut self, start: VirtAddr, len: u64, mut last: impl FnMut(AddrRange)) -> Result<()> {
        let range = self.check_range(start, len)?;
        self.check_mapped(range, |entry| match entry.attr.wired {
            0 => Err(Error::Invalid("a part of the range is not wired")),
            _ => Ok(()),
        })?;
        self.change(range, |piece, attr| {
            attr.wired -= 1;
            if attr.wired == 0 {
                last(piece);
            }
        })
    }
}
