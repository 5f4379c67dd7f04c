//! First fit: the lowest hole that takes a range. Subtrees without a hole that is large enough are passed over.

use super::node::{Leaf, Node};
use super::{MapTree, visit};
use crate::types::{AddrRange, PAGE_SIZE, VirtAddr};

/// What is looked for.
struct Wanted {
    /// Bytes.
    len: u64,
    /// The start is a multiple of this.
    align: u64,
    /// Where the range has to lie.
    within: AddrRange,
    /// Holes smaller than this are passed over. A larger one takes the range unless `within` cuts it.
    hole: u64,
}

impl<B> MapTree<B> {
    /// The lowest free range of `len` bytes inside `within` that starts at a multiple of `align`, which is a multiple of the
    /// page size; `len` is in whole pages and not 0. The addresses outside every entry count as free to both ends of the
    /// 64-bit space.
    ///
    /// Logarithmic. With an alignment above a page, a hole that is sure to take the range whatever its own alignment is
    /// preferred to a tighter one further down; only when no such hole is left, the tight ones are tried one after the other.
    #[must_use]
    pub fn find_space(&self, len: u64, align: u64, within: AddrRange) -> Option<VirtAddr> {
        debug_assert!(len > 0 && len.is_multiple_of(PAGE_SIZE) && align > 0 && align.is_multiple_of(PAGE_SIZE));
        let tight = Wanted {
            len,
            align,
            within,
            hole: len,
        };
        if align == PAGE_SIZE {
            return self.first_fit(&tight);
        }
        let sure = len.checked_add(align - PAGE_SIZE);
        sure.and_then(|hole| self.first_fit(&Wanted { hole, ..tight }))
            .or_else(|| self.first_fit(&tight))
    }

    fn first_fit(&self, wanted: &Wanted) -> Option<VirtAddr> {
        let mut behind = VirtAddr(0);
        let found = self.root.as_ref().and_then(|root| root.first_fit(wanted, &mut behind));
        found.or_else(|| wanted.fit(behind, VirtAddr(u64::MAX)))
    }
}

impl Wanted {
    /// Where the range goes in the hole between two addresses.
    fn fit(&self, from: VirtAddr, to: VirtAddr) -> Option<VirtAddr> {
        if to.0 - from.0 < self.hole {
            return None;
        }
        let start = from.max(self.within.start).0.checked_next_multiple_of(self.align)?;
        let end = start.checked_add(self.len)?;
        (end <= to.min(self.within.end).0).then_some(VirtAddr(start))
    }
}

impl<B> Node<B> {
    /// `behind` is the end of the last entry before this node, and then of the last one looked at.
    fn first_fit(&self, wanted: &Wanted, behind: &mut VirtAddr) -> Option<VirtAddr> {
        visit();
        let inner = match self {
            Self::Leaf(leaf) => return leaf.first_fit(wanted, behind),
            Self::Inner(inner) => inner,
        };
        for at in 0..inner.len {
            let kid = inner.summary_of(at);
            if *behind >= wanted.within.end {
                return None;
            }
            if kid.end > wanted.within.start {
                let found = wanted.fit(*behind, kid.start);
                if found.is_some() {
                    return found;
                }
                if kid.hole >= wanted.hole {
                    *behind = kid.start;
                    let found = inner.kid(at).first_fit(wanted, behind);
                    if found.is_some() {
                        return found;
                    }
                }
            }
            *behind = kid.end;
        }
        None
    }
}

impl<B> Leaf<B> {
    fn first_fit(&self, wanted: &Wanted, behind: &mut VirtAddr) -> Option<VirtAddr> {
        for at in 0..self.len {
            let found = wanted.fit(*behind, self.starts[at]);
            if found.is_some() {
                return found;
            }
            *behind = self.slot(at).end;
        }
        None
    }
}
