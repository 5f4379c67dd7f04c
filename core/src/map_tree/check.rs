//! The invariants of the tree, checked node by node, and a count of visited nodes. For tests.

extern crate std;

use core::cell::Cell;

use super::MapTree;
use super::node::{INNER, LEAF, NO_KEY, Node};
use crate::types::VirtAddr;

std::thread_local! {
    /// Nodes that this thread visited in lookups and searches for space.
    pub(crate) static VISITS: Cell<usize> = const { Cell::new(0) };
}

impl<B> MapTree<B> {
    /// Inner levels above the leaves.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// How many leaves there are.
    pub(crate) fn leaves(&self) -> usize {
        self.root.as_ref().map_or(0, Node::leaves)
    }

    /// Panics with a sentence when an invariant does not hold.
    pub(crate) fn check(&self) {
        let mut behind = VirtAddr(0);
        let mut seen = 0;
        if let Some(root) = &self.root {
            assert!(
                root.len() >= 2 || matches!(root, Node::Leaf(_)),
                "an inner root has two children"
            );
            root.check(self.height, true, &mut behind, &mut seen);
        }
        assert_eq!(seen, self.len, "the tree counts its entries");
    }
}

impl<B> Node<B> {
    fn leaves(&self) -> usize {
        match self {
            Node::Leaf(_) => 1,
            Node::Inner(inner) => (0..inner.len).map(|at| inner.kid(at).leaves()).sum(),
        }
    }

    fn check(&self, height: usize, is_root: bool, behind: &mut VirtAddr, seen: &mut usize) {
        assert!(is_root || !self.is_short(), "every node but the root is a quarter full");
        match self {
            Node::Leaf(leaf) => {
                assert_eq!(height, 0, "all leaves are equally deep");
                for at in 0..LEAF {
                    assert_eq!(leaf.slots[at].is_some(), at < leaf.len, "cells in use lie in front");
                    if at >= leaf.len {
                        assert_eq!(leaf.starts[at], NO_KEY, "empty cells have no key");
                        continue;
                    }
                    let range = leaf.entry(at).range;
                    assert!(
                        *behind <= range.start && range.start < range.end,
                        "entries are in order and do not overlap"
                    );
                    *behind = range.end;
                    *seen += 1;
                }
            }
            Node::Inner(inner) => {
                for at in 0..INNER {
                    assert_eq!(inner.kids[at].is_some(), at < inner.len, "cells in use lie in front");
                    if at >= inner.len {
                        assert_eq!(
                            (inner.starts[at], inner.ends[at]),
                            (NO_KEY, NO_KEY),
                            "empty cells have no key"
                        );
                        continue;
                    }
                    let kid = inner.kid(at);
                    assert_eq!(kid.summary(), inner.summary_of(at), "a parent's summary is exact");
                    assert!(height > 0, "all leaves are equally deep");
                    kid.check(height - 1, false, behind, seen);
                }
            }
        }
    }
}
