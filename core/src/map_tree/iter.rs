//! Walking over the entries of a range.

use super::MapTree;
use super::node::Leaf;
use crate::map_entry::EntryRef;
use crate::types::{AddrRange, VirtAddr};

/// The entries that have an address in a range, ascending. A step costs a descent only where a leaf ends.
#[derive(Debug)]
pub struct Iter<'a, B> {
    tree: &'a MapTree<B>,
    /// Where the next entry is, if there is one.
    next: Option<(&'a Leaf<B>, usize)>,
    end: VirtAddr,
}

impl<'a, B> Iter<'a, B> {
    pub(super) fn new(tree: &'a MapTree<B>, range: AddrRange) -> Self {
        Self {
            tree,
            next: tree.position_at_or_after(range.start),
            end: range.end,
        }
    }
}

impl<'a, B> Iterator for Iter<'a, B> {
    type Item = EntryRef<'a, B>;

    fn next(&mut self) -> Option<Self::Item> {
        let (leaf, at) = self.next?;
        let entry = leaf.entry(at);
        if entry.range.start >= self.end {
            self.next = None;
            return None;
        }
        self.next = if at + 1 < leaf.len {
            Some((leaf, at + 1))
        } else {
            self.tree.position_at_or_after(entry.range.end)
        };
        Some(entry)
    }
}
