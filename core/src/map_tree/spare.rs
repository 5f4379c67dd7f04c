//! Nodes in reserve, so that an insertion that has begun cannot run out of memory.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::node::{Inner, Leaf, Node};
use crate::alloc_fallible::{try_box, try_reserve};
use crate::error::Result;

/// Empty nodes that wait for a split. Those that a merge empties come back here.
#[allow(
    clippy::vec_box,
    reason = "the boxes themselves go into the tree; boxing a node then could fail"
)]
#[derive(Debug)]
pub(super) struct Spare<B> {
    leaves: Vec<Box<Leaf<B>>>,
    inners: Vec<Box<Inner<B>>>,
}

impl<B> Spare<B> {
    pub(super) const fn new() -> Self {
        Self {
            leaves: Vec::new(),
            inners: Vec::new(),
        }
    }

    /// Sees to it that there are at least so many of each.
    pub(super) fn fill(&mut self, leaves: usize, inners: usize) -> Result<()> {
        top_up(&mut self.leaves, leaves, Leaf::new)?;
        top_up(&mut self.inners, inners, Inner::new)
    }

    pub(super) fn leaf(&mut self) -> Box<Leaf<B>> {
        self.leaves.pop().expect("an insertion reserves its nodes first")
    }

    pub(super) fn inner(&mut self) -> Box<Inner<B>> {
        self.inners.pop().expect("an insertion reserves its nodes first")
    }

    /// Takes back an empty node: kept where the lists have room, freed otherwise.
    pub(super) fn give(&mut self, node: Node<B>) {
        debug_assert_eq!(node.len(), 0);
        match node {
            Node::Leaf(leaf) if self.leaves.len() < self.leaves.capacity() => self.leaves.push(leaf),
            Node::Inner(inner) if self.inners.len() < self.inners.capacity() => self.inners.push(inner),
            _ => {}
        }
    }

    /// Frees everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

fn top_up<N>(list: &mut Vec<Box<N>>, want: usize, new: fn() -> N) -> Result<()> {
    let missing = want.saturating_sub(list.len());
    try_reserve(list, missing)?;
    for _ in 0..missing {
        list.push(try_box(new())?);
    }
    Ok(())
}
