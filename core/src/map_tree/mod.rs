//! The entries of a map, in order of address: a B+ tree that also knows its holes.
//!
//! Below it stands only [`map_entry`](crate::map_entry); the rules of mapping are above it, in [`map_ops`](crate::map_ops).
//! It owns its entries and takes no lock: the map that holds it does.
//!
//! - Leaves hold up to 16 entries, inner nodes up to 32 children, so that a million entries are four inner levels deep at
//!   most. A lookup reads one array of keys a level and one entry.
//! - Inner nodes keep, for each child, the first address, the last, and the largest hole inside it; [`MapTree::find_space`]
//!   descends only where the hole is large enough.
//! - Nothing panics for lack of memory. [`MapTree::reserve`] is the only allocation; after it, the promised number of
//!   insertions cannot fail, whatever is removed or changed in between.
//! - What is removed is handed out, never dropped inside.

mod iter;
mod node;
mod shift;
mod space;
mod spare;

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;

use crate::alloc_fallible::try_box;
use crate::error::{Error, Result};
use crate::map_entry::{Attributes, EntryRef, MapEntry};
use crate::types::{AddrRange, VirtAddr};

pub use iter::Iter;
use node::{LEAF, Leaf, Node, rank};
use spare::Spare;

/// An ordered set of entries that do not overlap. Ranges are page aligned and not empty.
#[derive(Debug)]
pub struct MapTree<B> {
    /// Nothing until the first reservation. The root alone may be empty, and only when it is a leaf.
    root: Option<Node<B>>,
    /// Inner levels above the leaves.
    height: usize,
    len: usize,
    spare: Spare<B>,
}

impl<B> Default for MapTree<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> MapTree<B> {
    /// A tree without entries. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: None,
            height: 0,
            len: 0,
            spare: Spare::new(),
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry that holds `va`.
    #[must_use]
    #[inline]
    pub fn lookup(&self, va: VirtAddr) -> Option<EntryRef<'_, B>> {
        let mut node = self.root.as_ref()?;
        loop {
            visit();
            match node {
                Node::Inner(inner) => node = inner.kid(inner.route(va)),
                Node::Leaf(leaf) => {
                    let entry = leaf.entry(rank(&leaf.starts, va).checked_sub(1)?);
                    return entry.range.contains(va).then_some(entry);
                }
            }
        }
    }

    /// The entry that holds `va`, or else the first one behind it.
    #[must_use]
    pub fn lookup_at_or_after(&self, va: VirtAddr) -> Option<EntryRef<'_, B>> {
        self.position_at_or_after(va).map(|(leaf, at)| leaf.entry(at))
    }

    /// The last entry that starts before `va`.
    #[must_use]
    pub fn lookup_before(&self, va: VirtAddr) -> Option<EntryRef<'_, B>> {
        let va = VirtAddr(va.0.checked_sub(1)?);
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Inner(inner) => node = inner.kid(inner.route(va)),
                Node::Leaf(leaf) => return rank(&leaf.starts, va).checked_sub(1).map(|at| leaf.entry(at)),
            }
        }
    }

    /// The entries that have an address in `range`, ascending and whole: the first and the last may reach beyond it.
    #[must_use]
    pub fn iter(&self, range: AddrRange) -> Iter<'_, B> {
        Iter::new(self, range)
    }

    /// Makes sure that `n` insertions cannot fail, whatever else happens to the tree between them. `n` is at most 8.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the entries are as they were.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        debug_assert!(n <= LEAF / 2);
        match &self.root {
            None => self.root = Some(Node::Leaf(try_box(Leaf::new())?)),
            Some(Node::Leaf(leaf)) if leaf.len + n <= LEAF => {}
            // One insertion splits at most the leaf, every inner node above it, and puts a new root on top. When a new root
            // comes, the next insertion finds room in it, so that the height of now is the bound for all of them.
            Some(_) => self.spare.fill(n, n * (self.height + 1))?,
        }
        Ok(())
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Error::Occupied`] with the first address of the range that is taken, [`Error::NoMemory`]; the tree is as it was, and
    /// the entry comes back to the caller.
    pub fn insert(&mut self, entry: MapEntry<B>) -> Result<(), (Error, MapEntry<B>)> {
        if let Some(there) = self.iter(entry.range).next() {
            let taken = there.range.start.max(entry.range.start);
            return Err((Error::Occupied(taken), entry));
        }
        if let Err(error) = self.reserve(1) {
            return Err((error, entry));
        }
        self.insert_reserved(entry);
        Ok(())
    }

    /// Adds an entry whose range is free, after [`MapTree::reserve`].
    pub(crate) fn insert_reserved(&mut self, entry: MapEntry<B>) {
        debug_assert!(!entry.range.is_empty() && entry.range.start.is_aligned() && entry.range.end.is_aligned());
        debug_assert!(self.iter(entry.range).next().is_none(), "the range is free");
        let mut root = self.root.take().expect("an insertion reserves its nodes first");
        if let Some(right) = root.insert(entry, &mut self.spare) {
            let mut top = self.spare.inner();
            top.put(0, root);
            top.put(1, right);
            root = Node::Inner(top);
            self.height += 1;
        }
        self.root = Some(root);
        self.len += 1;
    }

    /// Takes out the entry that starts at `start`, and hands it over.
    pub fn remove(&mut self, start: VirtAddr) -> Option<MapEntry<B>> {
        let root = self.root.as_mut()?;
        let entry = root.remove(start, &mut self.spare)?;
        self.len -= 1;
        self.drop_thin_roots();
        Some(entry)
    }

    /// Takes out the first entry. Allocates nothing: a way to empty a tree without memory for a list.
    pub fn pop_first(&mut self) -> Option<MapEntry<B>> {
        let first = self.lookup_at_or_after(VirtAddr(0))?.range.start;
        self.remove(first)
    }

    /// The attributes of the entry that starts at `start`, to change.
    pub(crate) fn attributes_mut(&mut self, start: VirtAddr) -> Option<&mut Attributes> {
        Some(self.root.as_mut()?.entry_mut(start)?.1)
    }

    /// What the entry that starts at `start` shows, to change.
    pub(crate) fn backing_mut(&mut self, start: VirtAddr) -> Option<&mut B> {
        Some(self.root.as_mut()?.entry_mut(start)?.0)
    }

    /// Moves the end of the entry that starts at `start`. What it grows over is free.
    pub(crate) fn set_end(&mut self, start: VirtAddr, end: VirtAddr) {
        debug_assert!(start < end && end.is_aligned());
        let found = self.root.as_mut().is_some_and(|root| root.set_end(start, end));
        debug_assert!(found, "an entry starts there");
    }

    /// A root with a single child says nothing: the child takes its place. An empty tree keeps one leaf and no reserve.
    fn drop_thin_roots(&mut self) {
        while let Some(Node::Inner(top)) = &mut self.root
            && top.len == 1
        {
            let kid = top.take(0);
            if let Some(old) = self.root.replace(kid) {
                self.spare.give(old);
            }
            self.height -= 1;
        }
        if self.len == 0 {
            self.spare.clear();
        }
    }

    fn position_at_or_after(&self, va: VirtAddr) -> Option<(&Leaf<B>, usize)> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = rank(&inner.ends, va);
                    if at == inner.len {
                        return None;
                    }
                    node = inner.kid(at);
                }
                Node::Leaf(leaf) => {
                    let mut at = rank(&leaf.starts, va);
                    if at > 0 && va < leaf.slot(at - 1).end {
                        at -= 1;
                    }
                    return (at < leaf.len).then_some((leaf, at));
                }
            }
        }
    }
}

/// Counts a visit to a node, in tests.
#[inline]
fn visit() {
    #[cfg(test)]
    check::VISITS.set(check::VISITS.get() + 1);
}
