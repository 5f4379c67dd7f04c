//! Entering a mapping.

use alloc::vec::Vec;

use super::{Entries, check_len, check_prot};
use crate::error::{Error, Result};
use crate::map_entry::{Attributes, Backing, MapEntry};
use crate::types::{AddrRange, ByteOff, MAX_OBJECT_SIZE, PAGE_SIZE, VirtAddr};

/// Where a new mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// To the lowest free place at or above `hint`, or, when there is none, to the lowest in the map.
    Anywhere {
        /// Page aligned; one outside the map counts as none.
        hint: VirtAddr,
        /// The address is a multiple of it; a multiple of the page size.
        align: u64,
    },
    /// To this address; what is mapped there is replaced.
    Fixed(VirtAddr),
    /// To this address, and only if nothing is mapped there.
    FixedNoReplace(VirtAddr),
}

/// A mapping to be entered.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a, B> {
    /// Where to.
    pub place: Place,
    /// Bytes; rounded up to whole pages.
    pub len: u64,
    /// What is mapped. The caller keeps its reference; the entry takes one of its own, and only on success.
    pub backing: &'a B,
    /// Which byte of the backing comes first. Page aligned.
    pub offset: ByteOff,
    /// Rights and the rest.
    pub attr: Attributes,
}

impl<B: Backing> Entries<B> {
    /// Enters a mapping and answers with its range. Only [`Place::Fixed`] replaces: what stood there goes to the end of
    /// `removed`, in pieces as [`Entries::remove`] would give them.
    ///
    /// # Errors
    /// [`Error::Invalid`] with a sentence for each argument that makes no sense, [`Error::NoSpace`], [`Error::Occupied`] with the
    /// first address that is taken, [`Error::NoMemory`]. Nothing was changed then.
    pub fn enter(&mut self, new: &NewEntry<'_, B>, removed: &mut Vec<MapEntry<B>>) -> Result<AddrRange> {
        check_new(new)?;
        let range = match new.place {
            Place::Anywhere { hint, align } => {
                let len = check_len(new.len)?;
                let start = self.find_space(len, align, hint)?;
                AddrRange {
                    start,
                    end: VirtAddr(start.0 + len),
                }
            }
            Place::Fixed(start) | Place::FixedNoReplace(start) => self.check_range(start, new.len)?,
        };
        match new.place {
            Place::Fixed(_) => self.take_out(range, 1, removed)?,
            Place::Anywhere { .. } | Place::FixedNoReplace(_) => {
                if let Some(there) = self.tree.iter(range).next() {
                    return Err(Error::Occupied(there.range.start.max(range.start)));
                }
                self.tree.reserve(1)?;
            }
        }
        let (backing, offset, attr) = (new.backing.clone(), new.offset, new.attr);
        self.tree.insert_reserved(MapEntry {
            range,
            backing,
            offset,
            attr,
        });
        self.join(range);
        Ok(range)
    }

    /// The lowest free range of `len` bytes, rounded up to whole pages, at or above `hint`, or else the lowest in the map. Its
    /// start is a multiple of `align`. See [`MapTree::find_space`](crate::map_tree::MapTree::find_space) for alignments
    /// above a page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a length of 0, a hint that is not page aligned, or an alignment that is not a multiple of the page
    /// size; [`Error::NoSpace`].
    pub fn find_space(&self, len: u64, align: u64, hint: VirtAddr) -> Result<VirtAddr> {
        let len = check_len(len)?;
        if align == 0 || !align.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Invalid("the alignment is not a multiple of the page size"));
        }
        if !hint.is_aligned() {
            return Err(Error::Invalid("the hint is not page aligned"));
        }
        let above = AddrRange {
            start: hint,
            end: self.bounds.end,
        };
        let hinted = if self.bounds.contains(hint) {
            self.tree.find_space(len, align, above)
        } else {
            None
        };
        hinted
            .or_else(|| self.tree.find_space(len, align, self.bounds))
            .ok_or(Error::NoSpace(len))
    }
}

fn check_new<B>(new: &NewEntry<'_, B>) -> Result<()> {
    let len = check_len(new.len)?;
    if !new.offset.is_aligned() {
        return Err(Error::Invalid("the offset is not page aligned"));
    }
    if new.offset.checked_add(len).is_none_or(|end| end.0 > MAX_OBJECT_SIZE) {
        return Err(Error::Invalid(
            "offset and length together exceed the largest size of an object",
        ));
    }
    check_prot(new.attr.prot)?;
    check_prot(new.attr.max_prot)?;
    if !new.attr.max_prot.contains(new.attr.prot) {
        return Err(Error::Invalid("the protection is above the maximum protection"));
    }
    Ok(())
}
