//! A sparse map from 64-bit indices to small numbers: a radix tree of six bits a level.
//!
//! The tree is as high as the highest index needs and no higher. An empty node is given back at once. A dense run costs a
//! little over four bytes a place.

use alloc::boxed::Box;
use core::num::NonZeroU32;

use crate::alloc_fallible::try_box;
use crate::error::Result;

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

#[derive(Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

#[derive(Debug)]
struct Leaf {
    used: u64,
    values: [u32; FANOUT],
}

#[derive(Debug)]
struct Inner {
    used: u64,
    children: [Option<Node>; FANOUT],
}

/// The map.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    root: Option<Node>,
    /// Levels below the root: 0 when the root is a leaf.
    height: u32,
    len: u64,
}

impl Sparse {
    /// How many indices have a number.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The number at `index`.
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<NonZeroU32> {
        let mut node = self.root.as_ref()?;
        if !reaches(self.height, index) {
            return None;
        }
        let mut level = self.height;
        loop {
            match node {
                Node::Leaf(leaf) => return NonZeroU32::new(leaf.values[slot(index, 0)]),
                Node::Inner(inner) => node = inner.children[slot(index, level)].as_ref()?,
            }
            level -= 1;
        }
    }

    /// The first index at or after `index` that has a number.
    pub(crate) fn next(&self, index: u64) -> Option<(u64, NonZeroU32)> {
        if !reaches(self.height, index) {
            return None;
        }
        first_from(self.root.as_ref()?, self.height, index)
    }

    /// Gives `index` a number, and tells which it had.
    ///
    /// # Errors
    /// `NoMemory`; the map says what it did. An index that has a number can always be given another.
    pub(crate) fn set(&mut self, index: u64, value: NonZeroU32) -> Result<Option<NonZeroU32>> {
        while self.root.is_some() && !reaches(self.height, index) {
            let mut inner = new_inner().inspect_err(|_| self.shrink())?;
            inner.children[0] = self.root.take();
            inner.used = 1;
            self.root = Some(Node::Inner(inner));
            self.height += 1;
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

    /// Takes the number of `index`.
    pub(crate) fn take(&mut self, index: u64) -> Option<NonZeroU32> {
        if !reaches(self.height, index) {
            return None;
        }
        let value = take_below(&mut self.root, self.height, index)?;
        self.len -= 1;
        self.shrink();
        Some(value)
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

fn new_inner() -> Result<Box<Inner>> {
    try_box(Inner {
        used: 0,
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

fn set_below(place: &mut Option<Node>, level: u32, index: u64, value: NonZeroU32) -> Result<Option<NonZeroU32>> {
    let at = slot(index, level);
    let node = match place {
        Some(node) => node,
        None if level == 0 => place.insert(Node::Leaf(try_box(Leaf {
            used: 0,
            values: [0; FANOUT],
        })?)),
        None => place.insert(Node::Inner(new_inner()?)),
    };
    let (set, is_empty) = match node {
        Node::Leaf(leaf) => {
            leaf.used |= 1 << at;
            let old = core::mem::replace(&mut leaf.values[at], value.get());
            (Ok(NonZeroU32::new(old)), false)
        }
        Node::Inner(inner) => {
            let set = set_below(&mut inner.children[at], level - 1, index, value);
            if set.is_ok() {
                inner.used |= 1 << at;
            }
            (set, inner.used == 0)
        }
    };
    if is_empty {
        *place = None;
    }
    set
}

fn take_below(place: &mut Option<Node>, level: u32, index: u64) -> Option<NonZeroU32> {
    let at = slot(index, level);
    let (value, is_empty) = match place.as_mut()? {
        Node::Leaf(leaf) => {
            leaf.used &= !(1 << at);
            let value = core::mem::replace(&mut leaf.values[at], 0);
            (NonZeroU32::new(value), leaf.used == 0)
        }
        Node::Inner(inner) => {
            let value = take_below(&mut inner.children[at], level - 1, index);
            if inner.children[at].is_none() {
                inner.used &= !(1 << at);
            }
            (value, inner.used == 0)
        }
    };
    if is_empty {
        *place = None;
    }
    value
}

fn first_from(node: &Node, level: u32, index: u64) -> Option<(u64, NonZeroU32)> {
    let start = slot(index, level);
    let used = match node {
        Node::Leaf(leaf) => leaf.used,
        Node::Inner(inner) => inner.used,
    };
    let mut candidates = used & (u64::MAX << start);
    while candidates != 0 {
        let at = candidates.trailing_zeros();
        candidates &= candidates - 1;
        let above = (index >> (level * BITS) & !(FANOUT as u64 - 1) | u64::from(at)) << (level * BITS);
        match node {
            Node::Leaf(leaf) => return NonZeroU32::new(leaf.values[at as usize]).map(|value| (above, value)),
            Node::Inner(inner) => {
                // Below a later sibling, every index counts.
                let from = if at as usize == start { index } else { above };
                let found = inner.children[at as usize]
                    .as_ref()
                    .and_then(|child| first_from(child, level - 1, from));
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
            let mut map = Sparse::default();
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
        let mut map = Sparse::default();
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
