//! From page index to page: a sparse radix tree over 52 bits (F15).
//!
//! Six bits a level. The tree is as high as the highest index needs and no higher, so that an object of up to 64 pages is
//! one node and one of 64 times 64 is two levels. An empty node is given back at once. Guarded by the object's lock.
//!
//! Beside the used places every node keeps those that are *tagged*: in a leaf the pages that may be dirty, above it the
//! children with such pages below (N5, N6). A flush finds them without walking clean pages.

use alloc::boxed::Box;

use crate::alloc_fallible::try_box;
use crate::error::Result;
use crate::page::PageRef;
use crate::types::PageIndex;

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

#[derive(Debug)]
struct Leaf {
    used: u64,
    tagged: u64,
    pages: [Option<PageRef>; FANOUT],
}

#[derive(Debug)]
struct Inner {
    used: u64,
    tagged: u64,
    children: [Option<Node>; FANOUT],
}

#[derive(Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

/// Which pages a walk visits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Tagged,
}

impl Node {
    fn places(&self, which: Which) -> u64 {
        match (self, which) {
            (Self::Leaf(leaf), Which::All) => leaf.used,
            (Self::Leaf(leaf), Which::Tagged) => leaf.tagged,
            (Self::Inner(inner), Which::All) => inner.used,
            (Self::Inner(inner), Which::Tagged) => inner.tagged,
        }
    }
}

/// The pages of one object, by index.
#[derive(Debug, Default)]
pub(crate) struct PageIndexTree {
    root: Option<Node>,
    /// Levels below the root: 0 when the root is a leaf.
    height: u32,
    len: u64,
}

impl PageIndexTree {
    /// How many pages there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The page at `index`.
    #[inline]
    pub(crate) fn get(&self, index: PageIndex) -> Option<PageRef> {
        self.leaf(index)?.pages[slot(index.0, 0)]
    }

    /// The pages of the aligned block of 64 that `index` is in, in their order.
    pub(crate) fn block(&self, index: PageIndex) -> impl Iterator<Item = PageRef> {
        self.leaf(index)
            .into_iter()
            .flat_map(|leaf| leaf.pages.iter().copied().flatten())
    }

    #[inline]
    fn leaf(&self, index: PageIndex) -> Option<&Leaf> {
        let mut node = self.root.as_ref()?;
        if !reaches(self.height, index.0) {
            return None;
        }
        let mut level = self.height;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => node = inner.children[slot(index.0, level)].as_ref()?,
            }
            level -= 1;
        }
    }

    /// The first page at or after `index`.
    pub(crate) fn next(&self, index: PageIndex) -> Option<(PageIndex, PageRef)> {
        self.next_of(Which::All, index)
    }

    /// The first tagged page at or after `index`.
    pub(crate) fn next_tagged(&self, index: PageIndex) -> Option<(PageIndex, PageRef)> {
        self.next_of(Which::Tagged, index)
    }

    fn next_of(&self, which: Which, index: PageIndex) -> Option<(PageIndex, PageRef)> {
        if !reaches(self.height, index.0) {
            return None;
        }
        first_from(self.root.as_ref()?, self.height, index.0, which)
    }

    /// Tags the page at `index`, if there is one.
    pub(crate) fn tag(&mut self, index: PageIndex) {
        self.set_tag(index, true);
    }

    /// Takes the tag of the page at `index` away, if it has one.
    pub(crate) fn untag(&mut self, index: PageIndex) {
        self.set_tag(index, false);
    }

    fn set_tag(&mut self, index: PageIndex, tagged: bool) {
        if reaches(self.height, index.0)
            && let Some(root) = &mut self.root
        {
            tag_below(root, self.height, index.0, tagged);
        }
    }

    /// Puts a page where there is none.
    ///
    /// # Errors
    /// `NoMemory`; the tree is as it was.
    pub(crate) fn insert(&mut self, index: PageIndex, page: PageRef) -> Result<()> {
        let mut grown = false;
        while self.root.is_some() && !reaches(self.height, index.0) {
            if let Err(error) = self.grow() {
                self.shrink();
                return Err(error);
            }
            grown = true;
        }
        if self.root.is_none() {
            self.height = height_for(index.0);
        }
        let inserted = insert_below(&mut self.root, self.height, index.0, page);
        match inserted {
            Ok(()) => self.len += 1,
            Err(_) if grown => self.shrink(),
            Err(_) => {}
        }
        inserted
    }

    /// Takes a page out; tells which it was.
    pub(crate) fn remove(&mut self, index: PageIndex) -> Option<PageRef> {
        if !reaches(self.height, index.0) {
            return None;
        }
        let page = remove_below(&mut self.root, self.height, index.0)?;
        self.len -= 1;
        self.shrink();
        Some(page)
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

fn new_inner() -> Result<Box<Inner>> {
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

fn insert_below(place: &mut Option<Node>, level: u32, index: u64, page: PageRef) -> Result<()> {
    let at = slot(index, level);
    let fresh = place.is_none();
    if fresh {
        *place = Some(if level == 0 {
            Node::Leaf(try_box(Leaf {
                used: 0,
                tagged: 0,
                pages: [None; FANOUT],
            })?)
        } else {
            Node::Inner(new_inner()?)
        });
    }
    let inserted = match place.as_mut() {
        Some(Node::Leaf(leaf)) => {
            debug_assert!(leaf.pages[at].is_none(), "two pages at one index");
            leaf.pages[at] = Some(page);
            leaf.used |= 1 << at;
            Ok(())
        }
        Some(Node::Inner(inner)) => {
            let inserted = insert_below(&mut inner.children[at], level - 1, index, page);
            if inserted.is_ok() {
                inner.used |= 1 << at;
            }
            inserted
        }
        None => unreachable!("made above"),
    };
    if inserted.is_err() && fresh {
        *place = None;
    }
    inserted
}

fn remove_below(place: &mut Option<Node>, level: u32, index: u64) -> Option<PageRef> {
    let at = slot(index, level);
    let (page, empty) = match place.as_mut()? {
        Node::Leaf(leaf) => {
            let page = leaf.pages[at].take()?;
            leaf.used &= !(1 << at);
            leaf.tagged &= !(1 << at);
            (page, leaf.used == 0)
        }
        Node::Inner(inner) => {
            let page = remove_below(&mut inner.children[at], level - 1, index)?;
            let child = inner.children[at].as_ref();
            if child.is_none_or(|child| child.places(Which::Tagged) == 0) {
                inner.tagged &= !(1 << at);
            }
            if child.is_none() {
                inner.used &= !(1 << at);
            }
            (page, inner.used == 0)
        }
    };
    if empty {
        *place = None;
    }
    Some(page)
}

/// Sets or clears a page's tag; answers whether anything below `node` is tagged now.
fn tag_below(node: &mut Node, level: u32, index: u64, tagged: bool) -> bool {
    let at = slot(index, level);
    let (tags, below) = match node {
        Node::Leaf(leaf) => (&mut leaf.tagged, tagged && leaf.pages[at].is_some()),
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

fn first_from(node: &Node, level: u32, index: u64, which: Which) -> Option<(PageIndex, PageRef)> {
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
            Node::Leaf(leaf) => return leaf.pages[at as usize].map(|page| (PageIndex(above), page)),
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
    use crate::page;
    use crate::types::MAX_PAGES;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    fn page() -> PageRef {
        page::allocate().expect("memory")
    }

    /// Indices that share nodes, and some as far apart as can be.
    fn indices() -> impl Strategy<Value = u64> {
        prop_oneof![0..200_u64, 4000..4200_u64, Just(MAX_PAGES - 1), 0..MAX_PAGES]
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(steps in proptest::collection::vec((any::<bool>(), indices()), 1..200)) {
            let mut tree = PageIndexTree::default();
            let mut model = BTreeMap::new();
            for (insert, index) in steps {
                if insert {
                    if let alloc::collections::btree_map::Entry::Vacant(vacant) = model.entry(index) {
                        let page = page();
                        tree.insert(PageIndex(index), page).unwrap();
                        vacant.insert(page);
                    }
                } else {
                    let gone = tree.remove(PageIndex(index));
                    let expected = model.remove(&index);
                    prop_assert_eq!(gone.map(core::ptr::from_ref), expected.map(core::ptr::from_ref));
                    if let Some(page) = gone {
                        page::free(page);
                    }
                }
                prop_assert_eq!(tree.len(), model.len() as u64);
                prop_assert_eq!(tree.get(PageIndex(index)).is_some(), model.contains_key(&index));
                let next = tree.next(PageIndex(index)).map(|(at, _)| at.0);
                prop_assert_eq!(next, model.range(index..).next().map(|(at, _)| *at));
            }
            let mut walked = alloc::vec::Vec::new();
            let mut from = PageIndex(0);
            while let Some((at, page)) = tree.next(from) {
                walked.push(at.0);
                from = PageIndex(at.0 + 1);
                tree.remove(at);
                page::free(page);
            }
            prop_assert_eq!(walked, model.keys().copied().collect::<alloc::vec::Vec<_>>());
            prop_assert!(tree.root.is_none() && tree.height == 0);
        }
    }

    proptest! {
        #[test]
        fn n6_tags_behave_like_a_subset_of_the_pages(
            steps in proptest::collection::vec((0..4_u8, indices()), 1..200)
        ) {
            let mut tree = PageIndexTree::default();
            let mut model = BTreeMap::new();
            for (step, index) in steps {
                let at = PageIndex(index);
                match step {
                    0 => if let alloc::collections::btree_map::Entry::Vacant(vacant) = model.entry(index) {
                        tree.insert(at, page()).unwrap();
                        vacant.insert(false);
                    },
                    1 => {
                        model.remove(&index);
                        if let Some(page) = tree.remove(at) {
                            page::free(page);
                        }
                    }
                    _ => {
                        let tagged = step == 2;
                        if tagged { tree.tag(at) } else { tree.untag(at) }
                        model.entry(index).and_modify(|old| *old = tagged);
                    }
                }
                let next = tree.next_tagged(at).map(|(at, _)| at.0);
                let expected = model.range(index..).find(|(_, tagged)| **tagged).map(|(at, _)| *at);
                prop_assert_eq!(next, expected);
                let first = tree.next_tagged(PageIndex(0)).map(|(at, _)| at.0);
                prop_assert_eq!(first, model.iter().find(|(_, tagged)| **tagged).map(|(at, _)| *at));
            }
            for index in model.keys() {
                page::free(tree.remove(PageIndex(*index)).unwrap());
            }
        }
    }

    #[test]
    fn running_out_of_memory_leaves_the_tree_as_it_was() {
        let mut tree = PageIndexTree::default();
        let near = page();
        tree.insert(PageIndex(3), near).unwrap();
        let far = page();
        for allowed in 0..17 {
            failing::after(Some(allowed));
            let inserted = tree.insert(PageIndex(MAX_PAGES - 1), far);
            failing::after(None);
            if inserted.is_ok() {
                assert!(allowed >= 9, "nine levels need more than {allowed} nodes");
                break;
            }
            assert_eq!((tree.len(), tree.height), (1, 0));
            assert!(tree.get(PageIndex(3)).is_some());
        }
        assert_eq!(tree.len(), 2);
        for index in [3, MAX_PAGES - 1] {
            page::free(tree.remove(PageIndex(index)).unwrap());
        }
    }
}
