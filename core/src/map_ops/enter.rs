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
        new.check()?;
        let range = self.choose(new)?;
        self.make_way(range, removed)?;
        self.insert(range, new);
        Ok(range)
    }

    /// Where a mapping whose arguments are right goes. Only for [`Place::Fixed`] something may be mapped there.
    ///
    /// # Errors
    /// As [`Entries::enter`], of which this is the first step.
    pub(crate) fn choose(&self, new: &NewEntry<'_, B>) -> Result<AddrRange> {
        let start = match new.place {
            Place::Anywhere { hint, align } => self.find_space(new.len, align, hint)?,
            Place::Fixed(start) | Place::FixedNoReplace(start) => start,
        };
        let range = self.check_range(start, new.len)?;
        match self.tree.iter(range).next() {
            Some(there) if !matches!(new.place, Place::Fixed(_)) => {
                Err(Error::Occupied(there.range.start.max(range.start)))
            }
            _ => Ok(range),
        }
    }

    /// Takes everything in `range` out, after which [`Entries::insert`] cannot fail.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing was changed then.
    pub(crate) fn make_way(&mut self, range: AddrRange, removed: &mut Vec<MapEntry<B>>) -> Result<()> {
        self.take_out(range, 1, removed)
    }

    /// Enters mappings side by side where [`Entries::make_way`] has made way for them. The first one cannot fail.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; none was entered then.
    pub(crate) fn insert_all<'a>(
        &mut self,
        all: AddrRange,
        pieces: impl Iterator<Item = (AddrRange, NewEntry<'a, B>)>,
    ) -> Result<()>
    where
        B: 'a,
    {
        for (range, new) in pieces {
            if let Err(error) = self.tree.reserve(1) {
                // The caller has references of its own. Not joined yet, each lies whole in the range.
                while self.pop_inside(all).is_some() {}
                return Err(error);
            }
            self.put(range, &new);
        }
        self.join(all);
        Ok(())
    }

    /// Enters a mapping where [`Entries::make_way`] has made way for it.
    fn insert(&mut self, range: AddrRange, new: &NewEntry<'_, B>) {
        self.put(range, new);
        self.join(range);
    }

    fn put(&mut self, range: AddrRange, new: &NewEntry<'_, B>) {
        let (backing, offset, attr) = (new.backing.clone(), new.offset, new.attr);
        self.tree.insert_reserved(MapEntry {
            range,
            backing,
            offset,
            attr,
        });
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
        check_wish(align, hint)?;
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

impl<B> NewEntry<'_, B> {
    /// That each argument makes sense by itself. Answers with the length in whole pages.
    pub(crate) fn check(&self) -> Result<u64> {
        let len = check_len(self.len)?;
        if !self.offset.is_aligned() {
            return Err(Error::Invalid("the offset is not page aligned"));
        }
        if self.offset.checked_add(len).is_none_or(|end| end.0 > MAX_OBJECT_SIZE) {
            return Err(Error::Invalid(
                "offset and length together exceed the largest size of an object",
            ));
        }
        check_prot(self.attr.prot)?;
        check_prot(self.attr.max_prot)?;
        if !self.attr.max_prot.contains(self.attr.prot) {
            return Err(Error::Invalid("the protection is above the maximum protection"));
        }
        if let Place::Anywhere { hint, align } = self.place {
            check_wish(align, hint)?;
        }
        Ok(len)
    }
}

fn check_wish(align: u64, hint: VirtAddr) -> Result<()> {
    if align == 0 || !align.is_multiple_of(PAGE_SIZE) {
        return Err(Error::Invalid("the alignment is not a multiple of the page size"));
    }
    if !hint.is_aligned() {
        return Err(Error::Invalid("the hint is not page aligned"));
    }
    Ok(())
}
