//! A sparse radix tree from 64-bit indices to small values (F15, F20).
//!
//! Six bits a level. The tree is as high as the highest index needs and no higher, so that 64 indices from 0 on are one node and 64 times
//! 64 are two levels. An empty node is given back at once. A dense run of numbers costs a little over four bytes each.
//!
//! Beside the used places every node keeps those that are *tagged*: in a leaf the values themselves, above it the children with such values
//! below (N6).

use alloc::boxed::Box;

use crate::alloc_fallible::try_box;
use crate::error::Result;

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

#[derive(Debug)]
struct Leaf<T> {
    used: u64,
    tagged: u64,
    values: [Option<T>; FANOUT],
}

#[derive(Debug)]
struct Inner<T> {
    used: u64,
    tagged: u64,
    children: [Option<Node<T>>; FANOUT],
}

#[derive(Debug)]
enum Node<T> {
    Leaf(Box<Leaf<T>>),
    Inner(Box<Inner<T>>),
}

/// Which values a walk visits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Tagged,
}

impl<T> Node<T> {
    fn places(&self, which: Which) -> u64 {
        match (self, which) {
            (Self::Leaf(leaf), Which::All) => leaf.used,
            (Self::Leaf(leaf), Which::Tagged) => leaf.tagged,
            (Self::Inner(inner), Which::All) => inner.used,
            (Self::Inner(inner), Which::Tagged) => inner.tagged,
        }
    }
}

/// Values by index. See the module.
#[derive(Debug)]
pub(crate) struct Radix<T> {
    root: Option<Node<T>>,
    /// Levels below the root: 0 when the root is a leaf.
    height: u32,
    len: u64,
}

impl<T> Default for Radix<T> {
    fn default() -> Self {
        Self {
            root: None,
            height: 0,
            len: 0,
        }
    }
}

impl<T: Copy> Radix<T> {
    /// Whether there is any node, and the levels below the root.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> (bool, u32) {
        (self.root.is_some(), self.height)
    }

    /// How many indices have a value.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The value at `index`.
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<T> {
        self.leaf(index)?.values[slot(index, 0)]
    }

    /// The values of the aligned block of 64 that `index` is in, in their order.
    pub(crate) fn block(&self, index: u64) -> impl Iterator<Item = T> {
        self.leaf(index)
            .into_iter()
            .flat_map(|leaf| leaf.values.iter().copied().flatten())
    }

    #[inline]
    fn leaf(&self, index: u64) -> Option<&Leaf<T>> {
        let mut node = self.root.as_ref()?;
        if !reaches(self.height, index) {
            return None;
        }
        let mut level = self.height;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => node = inner.children[slot(index, level)].as_ref()?,
            }
            level -= 1;
        }
    }

    /// The first index at or after `index` that has a value.
    pub(crate) fn next(&self, index: u64) -> Option<(u64, T)> {
        self.next_of(Which::All, index)
    }

    /// The first one that is tagged.
    pub(crate) fn next_tagged(&self, index: u64) -> Option<(u64, T)> {
        self.next_of(Which::Tagged, index)
    }

    fn next_of(&self, which: Which, index: u64) -> Option<(u64, T)> {
        if !reaches(self.height, index) {
            return None;
        }
        first_from(self.root.as_ref()?, self.height, index, which)
    }

    /// Tags `index`, if it has a value, or takes its tag away.
    pub(crate) fn set_tag(&mut self, index: u64, tagged: bool) {
        if reaches(self.height, index)
            && let Some(root) = &mut self.root
        {
            tag_below(root, self.height, index, tagged);
        }
    }

    /// Gives `index` a value, and tells which it had.
    ///
    /// # Errors
    /// `NoMemory`; the tree is as it was. An index that has a value can always be given another.
    pub(crate) fn set(&mut self, index: u64, value: T) -> Result<Option<T>> {
        while self.root.is_some() && !reaches(self.height, index) {
            self.grow().inspect_err(|_| self.shrink())?;
        }
        if self.root.is_none() {
            self.height = height_for(index);
        }
        let set = set_below(&mut self.root, self.height, index, value);
        match &set {
            Ok(None) => self.len += 1,
            Ok(Some(_)) => {}
            Err(_) => self.shrink(),
        }
        set
    }

    /// Takes the value of `index`.
    pub(crate) fn take(&mut self, index: u64) -> Option<T> {
        if !reaches(self.height, index) {
            return None;
        }
        let value = take_below(&mut self.root, self.height, index)?;
        self.len -= 1;
        self.shrink();
        Some(value)
    }

    /// One level more on top: the old root becomes child 0.
    fn grow(&mut self) -> Result<()> {
        let mut inner = new_inner()?;
        inner.tagged = u64::from(self.root.as_ref().is_some_and(|root| root.places(Which::Tagged) != 0));
        inner.children[0] = self.root.take();
        inner.used = 1;
        self.root = Some(Node::Inner(inner));
        self.height += 1;
        Ok(())
    }

    /// Takes levels away from the top that lead to child 0 only.
    fn shrink(&mut self) {
        while let Some(Node::Inner(inner)) = &mut self.root
            && inner.used == 1
        {
            self.root = inner.children[0].take();
            self.height -= 1;
        }
        if self.root.is_none() {
            self.height = 0;
        }
    }
}

fn new_inner<T>() -> Result<Box<Inner<T>>> {
    try_box(Inner {
        used: 0,
        tagged: 0,
        children: [const { None }; FANOUT],
    })
}

/// Whether a tree with `height` levels below its root has room for `index`.
fn reaches(height: u32, index: u64) -> bool {
    let bits = (height + 1) * BITS;
    bits >= u64::BITS || index >> bits == 0
}

fn height_for(index: u64) -> u32 {
    let mut height = 0;
    while !reaches(height, index) {
        height += 1;
    }
    height
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "six bits")]
fn slot(index: u64, level: u32) -> usize {
    (index >> (level * BITS)) as usize & (FANOUT - 1)
}

fn set_below<T: Copy>(place: &mut Option<Node<T>>, level: u32, index: u64, value: T) -> Result<Option<T>> {
    let at = slot(index, level);
    let fresh = place.is_none();
    if fresh {
        *place = Some(if level == 0 {
            Node::Leaf(try_box(Leaf {
                used: 0,
                tagged: 0,
                values: [None; FANOUT],
            })?)
        } else {
            Node::Inner(new_inner()?)
        });
    }
    let set = match place.as_mut() {
        Some(Node::Leaf(leaf)) => {
            leaf.used |= 1 << at;
            Ok(leaf.values[at].replace(value))
        }
        Some(Node::Inner(inner)) => {
            let set = set_below(&mut inner.children[at], level - 1, index, value);
            if set.is_ok() {
                inner.used |= 1 << at;
            }
            set
        }
        None => unreachable!("made above"),
    };
    if set.is_err() && fresh {
        *place = None;
    }
    set
}

fn take_below<T: Copy>(place: &mut Option<Node<T>>, level: u32, index: u64) -> Option<T> {
    let at = slot(index, level);
    let (value, empty) = match place.as_mut()? {
        Node::Leaf(leaf) => {
            let value = leaf.values[at].take()?;
            leaf.used &= !(1 << at);
            leaf.tagged &= !(1 << at);
            (value, leaf.used == 0)
        }
        Node::Inner(inner) => {
            let value = take_below(&mut inner.children[at], level - 1, index)?;
            let child = inner.children[at].as_ref();
            if child.is_none_or(|child| child.places(Which::Tagged) == 0) {
                inner.tagged &= !(1 << at);
            }
            if child.is_none() {
                inner.used &= !(1 << at);
            }
            (value, inner.used == 0)
        }
    };
    if empty {
        *place = None;
    }
    Some(value)
}

/// Sets or clears a tag; answers whether anything below `node` is tagged now.
fn tag_below<T>(node: &mut Node<T>, level: u32, index: u64, tagged: bool) -> bool {
    let at = slot(index, level);
    let (tags, below) = match node {
        Node::Leaf(leaf) => (&mut leaf.tagged, tagged && leaf.values[at].is_some()),
        Node::Inner(inner) => (
            &mut inner.tagged,
            inner.children[at]
                .as_mut()
                .is_some_and(|child| tag_below(child, level - 1, index, tagged)),
        ),
    };
    *tags = *tags & !(1 << at) | u64::from(below) << at;
    *tags != 0
}

fn first_from<T: Copy>(node: &Node<T>, level: u32, index: u64, which: Which) -> Option<(u64, T)> {
    let start = slot(index, level);
    let mut candidates = node.places(which) & (u64::MAX << start);
    while candidates != 0 {
        let at = candidates.trailing_zeros();
        candidates &= candidates - 1;
        let above = index >> (level * BITS) & !(FANOUT as u64 - 1) | u64::from(at);
        // Below a later sibling, every index counts.
        let from = if at as usize == start {
            index
        } else {
            above << (level * BITS)
        };
        match node {
            Node::Leaf(leaf) => return leaf.values[at as usize].map(|value| (above, value)),
            Node::Inner(inner) => {
                let found = inner.children[at as usize]
                    .as_ref()
                    .and_then(|child| first_from(child, level - 1, from, which));
                if found.is_some() {
                    return found;
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc_fallible::failing;
    use alloc::collections::BTreeMap;
    use core::num::NonZeroU32;
    use proptest::prelude::*;

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not 0")
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(
            steps in proptest::collection::vec(
                (0..3_u8, prop_oneof![0..200_u64, 4000..4200_u64, Just(u64::MAX), any::<u64>()], 1..u32::MAX),
                1..200,
            )
        ) {
            let mut map = Radix::default();
            let mut model = BTreeMap::new();
            for (step, index, value) in steps {
                if step == 0 {
                    prop_assert_eq!(map.take(index).map(NonZeroU32::get), model.remove(&index));
                } else {
                    let old = map.set(index, number(value)).unwrap();
                    prop_assert_eq!(old.map(NonZeroU32::get), model.insert(index, value));
                }
                prop_assert_eq!(map.len(), model.len() as u64);
                prop_assert_eq!(map.get(index).map(NonZeroU32::get), model.get(&index).copied());
                let next = map.next(index).map(|(at, value)| (at, value.get()));
                prop_assert_eq!(next, model.range(index..).next().map(|(at, value)| (*at, *value)));
            }
            for index in model.keys() {
                map.take(*index);
            }
            prop_assert!(map.root.is_none() && map.height == 0);
        }
    }

    #[test]
    fn running_out_of_memory_leaves_the_map_as_it_was() {
        let mut map = Radix::default();
        map.set(3, number(1)).unwrap();
        let mut refused = 0;
        for allowed in 0..40 {
            failing::after(Some(allowed));
            let set = map.set(u64::MAX, number(2));
            failing::after(None);
            if set.is_ok() {
                break;
            }
            refused += 1;
            assert_eq!((map.len(), map.height, map.get(3)), (1, 0, Some(number(1))));
        }
        assert!(refused > 10 && map.get(u64::MAX) == Some(number(2)));
    }
}
