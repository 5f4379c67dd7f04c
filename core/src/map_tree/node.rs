//! The nodes of the tree: leaves with entries, inner nodes with summaries of their children.
//!
//! Invariants, all checked by `check` in the tests:
//! - cells from `len` on are empty: keys are [`NO_KEY`], the rest `None`;
//! - a child's summary in its parent is exact: the start of its first entry, the end of its last, its largest hole;
//! - every node but the root is at least a quarter full, and all leaves are equally deep.

use alloc::boxed::Box;

use super::shift;
use super::spare::Spare;
use crate::map_entry::{Attributes, EntryRef, MapEntry};
use crate::types::{AddrRange, ByteOff, VirtAddr};

/// Entries in a leaf: its keys fill two cache lines, which the processor fetches as a pair.
pub(super) const LEAF: usize = 16;
/// Children of an inner node.
pub(super) const INNER: usize = 32;
/// The key of an empty cell. No entry starts there, because none would fit behind it.
pub(super) const NO_KEY: VirtAddr = VirtAddr(u64::MAX);

/// What a parent knows of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Summary {
    /// The start of the first entry below.
    pub(super) start: VirtAddr,
    /// The end of the last entry below.
    pub(super) end: VirtAddr,
    /// The largest hole between two entries below, in bytes.
    pub(super) hole: u64,
}

/// An entry without its start, which is the key.
#[derive(Debug)]
pub(super) struct Slot<B> {
    pub(super) end: VirtAddr,
    offset: ByteOff,
    backing: B,
    pub(super) attr: Attributes,
}

/// A node with entries. Keys lie apart from the rest, so that a search touches few cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Leaf<B> {
    pub(super) starts: [VirtAddr; LEAF],
    pub(super) slots: [Option<Slot<B>>; LEAF],
    pub(super) len: usize,
}

/// A node with children.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Inner<B> {
    pub(super) starts: [VirtAddr; INNER],
    pub(super) kids: [Option<Node<B>>; INNER],
    pub(super) ends: [VirtAddr; INNER],
    pub(super) holes: [u64; INNER],
    pub(super) len: usize,
}

/// Either kind. Which one it is stands beside the pointer, so that it is known before the node is touched.
#[derive(Debug)]
pub(super) enum Node<B> {
    Leaf(Box<Leaf<B>>),
    Inner(Box<Inner<B>>),
}

/// How many keys are at or below `va`. Looks at every cell without a branch: the cells are fetched side by side, and an
/// unpredictable branch would cost more than the comparisons it saves.
pub(super) fn rank(keys: &[VirtAddr], va: VirtAddr) -> usize {
    // Empty cells hold NO_KEY; nothing starts there, so the address just below finds the same.
    let va = va.0.min(NO_KEY.0 - 1);
    keys.iter().map(|k| usize::from(k.0 <= va)).sum()
}

/// How many cells the left half keeps when a full node splits for a new cell at `at`. Appending leaves it three quarters
/// full, because addresses given out in ascending order never come back to it.
fn keep_left(at: usize, capacity: usize) -> usize {
    if at == capacity { capacity / 4 * 3 } else { capacity / 2 }
}

impl<B> Leaf<B> {
    pub(super) fn new() -> Self {
        Self {
            starts: [NO_KEY; LEAF],
            slots: [const { None }; LEAF],
            len: 0,
        }
    }

    pub(super) fn slot(&self, at: usize) -> &Slot<B> {
        self.slots[at].as_ref().expect("cells below len are in use")
    }

    pub(super) fn slot_mut(&mut self, at: usize) -> &mut Slot<B> {
        self.slots[at].as_mut().expect("cells below len are in use")
    }

    /// A view of the entry at `at`, which is less than `len`.
    pub(super) fn entry(&self, at: usize) -> EntryRef<'_, B> {
        let slot = self.slot(at);
        let range = AddrRange {
            start: self.starts[at],
            end: slot.end,
        };
        MapEntry {
            range,
            backing: &slot.backing,
            offset: slot.offset,
            attr: slot.attr,
        }
    }

    /// Where the entry that starts at exactly `start` is.
    fn position(&self, start: VirtAddr) -> Option<usize> {
        let at = rank(&self.starts, start).checked_sub(1)?;
        (self.starts[at] == start).then_some(at)
    }

    fn put(&mut self, at: usize, entry: MapEntry<B>) {
        let slot = Slot {
            end: entry.range.end,
            offset: entry.offset,
            backing: entry.backing,
            attr: entry.attr,
        };
        shift::insert(&mut self.starts, self.len, at, entry.range.start);
        shift::insert(&mut self.slots, self.len, at, Some(slot));
        self.len += 1;
    }

    fn take(&mut self, at: usize) -> MapEntry<B> {
        let start = shift::remove(&mut self.starts, self.len, at, NO_KEY);
        let slot = shift::remove(&mut self.slots, self.len, at, None).expect("cells below len are in use");
        self.len -= 1;
        let range = AddrRange { start, end: slot.end };
        MapEntry {
            range,
            backing: slot.backing,
            offset: slot.offset,
            attr: slot.attr,
        }
    }

    fn move_left(&mut self, right: &mut Self, n: usize) {
        shift::move_left(&mut self.starts, self.len, &mut right.starts, right.len, n);
        shift::move_left(&mut self.slots, self.len, &mut right.slots, right.len, n);
        self.len += n;
        right.len -= n;
    }

    fn move_right(&mut self, right: &mut Self, n: usize) {
        shift::move_right(&mut self.starts, self.len, &mut right.starts, right.len, n);
        shift::move_right(&mut self.slots, self.len, &mut right.slots, right.len, n);
        self.len -= n;
        right.len += n;
    }

    fn summary(&self) -> Summary {
        let mut hole = 0;
        for at in 1..self.len {
            hole = hole.max(self.starts[at].0 - self.slot(at - 1).end.0);
        }
        Summary {
            start: self.starts[0],
            end: self.slot(self.len - 1).end,
            hole,
        }
    }
}

impl<B> Inner<B> {
    pub(super) fn new() -> Self {
        Self {
            starts: [NO_KEY; INNER],
            kids: [const { None }; INNER],
            ends: [NO_KEY; INNER],
            holes: [0; INNER],
            len: 0,
        }
    }

    pub(super) fn kid(&self, at: usize) -> &Node<B> {
        self.kids[at].as_ref().expect("cells below len are in use")
    }

    fn kid_mut(&mut self, at: usize) -> &mut Node<B> {
        self.kids[at].as_mut().expect("cells below len are in use")
    }

    /// The child whose addresses `va` belongs to.
    pub(super) fn route(&self, va: VirtAddr) -> usize {
        rank(&self.starts, va).saturating_sub(1)
    }

    pub(super) fn put(&mut self, at: usize, kid: Node<B>) {
        let Summary { start, end, hole } = kid.summary();
        shift::insert(&mut self.starts, self.len, at, start);
        shift::insert(&mut self.ends, self.len, at, end);
        shift::insert(&mut self.holes, self.len, at, hole);
        shift::insert(&mut self.kids, self.len, at, Some(kid));
        self.len += 1;
    }

    pub(super) fn take(&mut self, at: usize) -> Node<B> {
        shift::remove(&mut self.starts, self.len, at, NO_KEY);
        shift::remove(&mut self.ends, self.len, at, NO_KEY);
        shift::remove(&mut self.holes, self.len, at, 0);
        let kid = shift::remove(&mut self.kids, self.len, at, None);
        self.len -= 1;
        kid.expect("cells below len are in use")
    }

    fn move_left(&mut self, right: &mut Self, n: usize) {
        shift::move_left(&mut self.starts, self.len, &mut right.starts, right.len, n);
        shift::move_left(&mut self.ends, self.len, &mut right.ends, right.len, n);
        shift::move_left(&mut self.holes, self.len, &mut right.holes, right.len, n);
        shift::move_left(&mut self.kids, self.len, &mut right.kids, right.len, n);
        self.len += n;
        right.len -= n;
    }

    fn move_right(&mut self, right: &mut Self, n: usize) {
        shift::move_right(&mut self.starts, self.len, &mut right.starts, right.len, n);
        shift::move_right(&mut self.ends, self.len, &mut right.ends, right.len, n);
        shift::move_right(&mut self.holes, self.len, &mut right.holes, right.len, n);
        shift::move_right(&mut self.kids, self.len, &mut right.kids, right.len, n);
        self.len -= n;
        right.len += n;
    }

    pub(super) fn summary_of(&self, at: usize) -> Summary {
        Summary {
            start: self.starts[at],
            end: self.ends[at],
            hole: self.holes[at],
        }
    }

    fn summary(&self) -> Summary {
        let mut hole = self.holes[0];
        for at in 1..self.len {
            hole = hole.max(self.holes[at]).max(self.starts[at].0 - self.ends[at - 1].0);
        }
        Summary {
            start: self.starts[0],
            end: self.ends[self.len - 1],
            hole,
        }
    }

    /// Takes up what has changed in the child at `at`.
    fn refresh(&mut self, at: usize) {
        let Summary { start, end, hole } = self.kid(at).summary();
        self.starts[at] = start;
        self.ends[at] = end;
        self.holes[at] = hole;
    }

    /// Joins the child at `at`, which has become too short, with a neighbour, or evens the two out when both together
    /// would fill more than three quarters of a node.
    fn mend(&mut self, at: usize, spare: &mut Spare<B>) {
        let left = at.saturating_sub(1);
        let (head, tail) = self.kids.split_at_mut(left + 1);
        let (Some(a), Some(b)) = (&mut head[left], &mut tail[0]) else {
            unreachable!("an inner node has at least two children");
        };
        let both = a.len() + b.len();
        if both <= a.capacity() / 4 * 3 {
            a.take_from(b, b.len());
            self.refresh(left);
            let emptied = self.take(left + 1);
            spare.give(emptied);
        } else {
            a.even_out(b, both / 2);
            self.refresh(left);
            self.refresh(left + 1);
        }
    }
}

impl<B> Node<B> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len,
            Self::Inner(inner) => inner.len,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Leaf(_) => LEAF,
            Self::Inner(_) => INNER,
        }
    }

    /// Whether it has too few cells in use for anything but the root.
    pub(super) fn is_short(&self) -> bool {
        self.len() < self.capacity() / 4
    }

    /// What a parent has to know. The node is not empty.
    pub(super) fn summary(&self) -> Summary {
        match self {
            Self::Leaf(leaf) => leaf.summary(),
            Self::Inner(inner) => inner.summary(),
        }
    }

    /// Moves the first `n` cells of the neighbour on the right behind our own.
    fn take_from(&mut self, right: &mut Self, n: usize) {
        match (self, right) {
            (Self::Leaf(a), Self::Leaf(b)) => a.move_left(b, n),
            (Self::Inner(a), Self::Inner(b)) => a.move_left(b, n),
            _ => unreachable!("all leaves are equally deep"),
        }
    }

    /// Moves cells between neighbours until this one, the left, has `want`.
    fn even_out(&mut self, right: &mut Self, want: usize) {
        if self.len() < want {
            return self.take_from(right, want - self.len());
        }
        let n = self.len() - want;
        match (self, right) {
            (Self::Leaf(a), Self::Leaf(b)) => a.move_right(b, n),
            (Self::Inner(a), Self::Inner(b)) => a.move_right(b, n),
            _ => unreachable!("all leaves are equally deep"),
        }
    }

    /// Adds an entry whose range is free. When the node was full, answers with the new neighbour on its right.
    pub(super) fn insert(&mut self, entry: MapEntry<B>, spare: &mut Spare<B>) -> Option<Self> {
        match self {
            Self::Leaf(leaf) => {
                let at = rank(&leaf.starts, entry.range.start);
                if leaf.len < LEAF {
                    leaf.put(at, entry);
                    return None;
                }
                let keep = keep_left(at, LEAF);
                let mut right = spare.leaf();
                leaf.move_right(&mut right, LEAF - keep);
                if at <= keep {
                    leaf.put(at, entry)
                } else {
                    right.put(at - keep, entry)
                }
                Some(Self::Leaf(right))
            }
            Self::Inner(inner) => {
                let at = inner.route(entry.range.start);
                let split = inner.kid_mut(at).insert(entry, spare);
                inner.refresh(at);
                let (kid, at) = (split?, at + 1);
                if inner.len < INNER {
                    inner.put(at, kid);
                    return None;
                }
                let keep = keep_left(at, INNER);
                let mut right = spare.inner();
                inner.move_right(&mut right, INNER - keep);
                if at <= keep {
                    inner.put(at, kid)
                } else {
                    right.put(at - keep, kid)
                }
                Some(Self::Inner(right))
            }
        }
    }

    /// Takes out the entry that starts at `start`. The node may be too short afterwards: its parent mends that.
    pub(super) fn remove(&mut self, start: VirtAddr, spare: &mut Spare<B>) -> Option<MapEntry<B>> {
        match self {
            Self::Leaf(leaf) => leaf.position(start).map(|at| leaf.take(at)),
            Self::Inner(inner) => {
                let at = inner.route(start);
                let entry = inner.kid_mut(at).remove(start, spare)?;
                if inner.kid(at).is_short() {
                    inner.mend(at, spare);
                } else {
                    inner.refresh(at);
                }
                Some(entry)
            }
        }
    }

    /// Moves the end of the entry that starts at `start`; says whether there is one.
    pub(super) fn set_end(&mut self, start: VirtAddr, end: VirtAddr) -> bool {
        match self {
            Self::Leaf(leaf) => {
                let at = leaf.position(start);
                at.map(|at| leaf.slot_mut(at).end = end).is_some()
            }
            Self::Inner(inner) => {
                let at = inner.route(start);
                let found = inner.kid_mut(at).set_end(start, end);
                inner.refresh(at);
                found
            }
        }
    }

    /// What the entry that starts at `start` shows, and its attributes.
    pub(super) fn entry_mut(&mut self, start: VirtAddr) -> Option<(&mut B, &mut Attributes)> {
        match self {
            Self::Leaf(leaf) => {
                let at = leaf.position(start)?;
                let slot = leaf.slot_mut(at);
                Some((&mut slot.backing, &mut slot.attr))
            }
            Self::Inner(inner) => {
                let at = inner.route(start);
                inner.kid_mut(at).entry_mut(start)
            }
        }
    }
}
