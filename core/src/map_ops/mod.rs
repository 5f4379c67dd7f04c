//! What can be done to the entries of a map: one verb a file.
//!
//! Above the tree ([`map_tree`](crate::map_tree)), which keeps order and holes, this layer has the rules: what an argument
//! may be, that an operation happens whole or not at all, and that neighbours which could be one entry are one. It takes no
//! lock, calls no pager and knows no pmap: a map holds [`Entries`] under its lock, and is told which pieces changed.
//!
//! Every verb goes the same way:
//! 1. check the arguments, then the entries in the range: a refusal comes from here, and nothing was changed;
//! 2. reserve memory: the last point that can fail;
//! 3. clip: split the entries that cross the ends of the range;
//! 4. change or take out whole entries;
//! 5. join neighbours that have become alike.

mod advise;
mod enter;
mod inherit;
mod protect;
mod remove;
mod wire;

#[cfg(test)]
mod model;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

pub use enter::{NewEntry, Place};

use crate::error::{Error, Result};
use crate::map_entry::{Attributes, Backing, EntryRef, MapEntry};
use crate::map_tree::{Iter, MapTree};
use crate::types::{AddrRange, Prot, VirtAddr, round_page};

/// The entries of one map, inside its bounds.
///
/// Invariants: entries lie inside the bounds, are page aligned, do not overlap, and no two neighbours could be one entry.
#[derive(Debug)]
pub struct Entries<B> {
    tree: MapTree<B>,
    bounds: AddrRange,
}

impl<B: Backing> Entries<B> {
    /// No entries yet, and room for them inside `bounds`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the bounds are empty or not page aligned.
    pub fn new(bounds: AddrRange) -> Result<Self> {
        if bounds.is_empty() {
            return Err(Error::Invalid(
                "the map's bounds are empty; the end has to lie above the start",
            ));
        }
        if !bounds.start.is_aligned() || !bounds.end.is_aligned() {
            return Err(Error::Invalid("the map's bounds are not page aligned"));
        }
        Ok(Self {
            tree: MapTree::new(),
            bounds,
        })
    }

    /// The addresses that can be mapped.
    #[must_use]
    pub fn bounds(&self) -> AddrRange {
        self.bounds
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The entry that holds `va`.
    #[must_use]
    #[inline]
    pub fn lookup(&self, va: VirtAddr) -> Option<EntryRef<'_, B>> {
        self.tree.lookup(va)
    }

    /// The entry that holds `va`, or else the first one behind it.
    #[must_use]
    pub fn lookup_at_or_after(&self, va: VirtAddr) -> Option<EntryRef<'_, B>> {
        self.tree.lookup_at_or_after(va)
    }

    /// The entries that have an address in `range`, ascending and whole: the first and the last may reach beyond it.
    #[must_use]
    pub fn iter(&self, range: AddrRange) -> Iter<'_, B> {
        self.tree.iter(range)
    }

    /// Takes out the first entry. Allocates nothing: this is how a map is emptied when even a list cannot be had.
    pub fn pop_first(&mut self) -> Option<MapEntry<B>> {
        self.tree.pop_first()
    }

    /// Takes out the first entry that lies whole in `range`. Allocates nothing.
    pub(crate) fn pop_inside(&mut self, range: AddrRange) -> Option<MapEntry<B>> {
        let whole = |entry: &EntryRef<'_, B>| range.start <= entry.range.start && entry.range.end <= range.end;
        let start = self.tree.iter(range).find(whole)?.range.start;
        self.tree.remove(start)
    }

    /// The range of `len` bytes from `start`, rounded up to whole pages.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the length is 0, the address not page aligned, or the range is not inside the map.
    pub fn check_range(&self, start: VirtAddr, len: u64) -> Result<AddrRange> {
        if !start.is_aligned() {
            return Err(Error::Invalid("the address is not page aligned"));
        }
        let len = check_len(len)?;
        let range = AddrRange::sized(start, len).ok_or(Error::Invalid(
            "the range overflows: address and length together exceed 64 bits",
        ))?;
        if range.start < self.bounds.start || range.end > self.bounds.end {
            return Err(Error::Invalid("the range is not inside the map's bounds"));
        }
        Ok(range)
    }

    /// That every address of `range` is mapped, and that `allow` allows every entry there. The first problem in order of
    /// address is the answer.
    ///
    /// # Errors
    /// [`Error::NotMapped`] with the first hole, or what `allow` says.
    pub fn check_mapped(&self, range: AddrRange, mut allow: impl FnMut(EntryRef<'_, B>) -> Result<()>) -> Result<()> {
        let mut behind = range.start;
        for entry in self.tree.iter(range) {
            if entry.range.start > behind {
                break;
            }
            allow(entry)?;
            behind = entry.range.end;
        }
        if behind < range.end {
            Err(Error::NotMapped(behind))
        } else {
            Ok(())
        }
    }

    /// Calls `each` for every part of `range` in which nothing is mapped, ascending, until it fails.
    pub(crate) fn each_hole(&self, range: AddrRange, mut each: impl FnMut(AddrRange) -> Result<()>) -> Result<()> {
        let mut behind = range.start;
        for entry in self.tree.iter(range) {
            if behind < entry.range.start {
                each(AddrRange {
                    start: behind,
                    end: entry.range.start,
                })?;
            }
            behind = entry.range.end;
        }
        if behind < range.end {
            each(AddrRange {
                start: behind,
                end: range.end,
            })?;
        }
        Ok(())
    }

    /// Steps 2 to 5 for a change of attributes. The range is mapped throughout. `apply` sees every piece once, ascending.
    fn change(&mut self, range: AddrRange, mut apply: impl FnMut(AddrRange, &mut Attributes)) -> Result<()> {
        self.tree.reserve(2)?;
        self.clip(range.start);
        self.clip(range.end);
        let mut at = range.start;
        while at < range.end {
            let Some(piece) = self.tree.lookup(at).map(|entry| entry.range) else {
                break;
            };
            if let Some(attr) = self.tree.attributes_mut(piece.start) {
                apply(piece, attr);
            }
            at = piece.end;
        }
        self.join(range);
        Ok(())
    }

    /// Has the entry at `range`, a whole one, show something else at the same offset, and answers with what it showed.
    pub(crate) fn show(&mut self, range: AddrRange, backing: B) -> Option<B> {
        let shown = core::mem::replace(self.tree.backing_mut(range.start)?, backing);
        self.join(range);
        Some(shown)
    }

    /// What the entry that starts at `start` shows, to change. Neighbours that are alike have to be so afterwards, and others may not become so.
    pub(crate) fn backing_mut(&mut self, start: VirtAddr) -> Option<&mut B> {
        self.tree.backing_mut(start)
    }

    /// Splits the entry that has `at` inside, so that one starts there. One insertion was reserved for it.
    fn clip(&mut self, at: VirtAddr) {
        let Some(left) = self.tree.lookup(at).filter(|entry| entry.range.start < at) else {
            return;
        };
        let Some(offset) = left.offset_of(at) else { return };
        let right = MapEntry {
            range: AddrRange {
                start: at,
                end: left.range.end,
            },
            offset,
            ..left.owned()
        };
        let start = left.range.start;
        self.tree.set_end(start, at);
        self.tree.insert_reserved(right);
    }

    /// Joins neighbours that are alike, from the entry before `range` to the one behind it.
    fn join(&mut self, range: AddrRange) {
        let mut from = self
            .tree
            .lookup_before(range.start)
            .map_or(range.start, |entry| entry.range.start);
        while let Some((left, right)) = self.first_alike(from, range.end) {
            // The left entry shows the same backing, so this is not the last reference to it.
            drop(self.tree.remove(right.start));
            self.tree.set_end(left, right.end);
            from = left;
        }
    }

    /// The first two neighbours, between the entry at `from` and the one at `to`, that could be one entry.
    fn first_alike(&self, from: VirtAddr, to: VirtAddr) -> Option<(VirtAddr, AddrRange)> {
        let mut entries = self.tree.iter(AddrRange {
            start: from,
            end: VirtAddr(to.0.saturating_add(1)),
        });
        let mut left = entries.next()?;
        for right in entries {
            if left.continues_in(&right) {
                return Some((left.range.start, right.range));
            }
            left = right;
        }
        None
    }
}

/// A length in bytes, rounded up to whole pages.
fn check_len(len: u64) -> Result<u64> {
    if len == 0 {
        return Err(Error::Invalid("the length is zero; a range has at least one page"));
    }
    round_page(len).ok_or(Error::Invalid(
        "the length overflows when it is rounded up to whole pages",
    ))
}

/// Rights that have a meaning.
fn check_prot(prot: Prot) -> Result<()> {
    if Prot::all().contains(prot) {
        Ok(())
    } else {
        Err(Error::Invalid("the protection has unknown bits"))
    }
}
