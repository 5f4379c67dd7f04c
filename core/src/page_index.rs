//! From page index to page: a sparse radix tree over 52 bits (F15). Guarded by the object's lock.
//!
//! Tagged are the pages that may be dirty (N5, N6): a flush finds them without walking clean ones.

use crate::error::Result;
use crate::page::PageRef;
use crate::radix::Radix;
use crate::types::PageIndex;

/// The pages of one object, by index.
#[derive(Debug, Default)]
pub(crate) struct PageIndexTree(Radix<PageRef>);

impl PageIndexTree {
    /// How many pages there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The page at `index`.
    #[inline]
    pub(crate) fn get(&self, index: PageIndex) -> Option<PageRef> {
        self.0.get(index.0)
    }

    /// The pages of the aligned block of 64 that `index` is in, in their order.
    pub(crate) fn block(&self, index: PageIndex) -> impl Iterator<Item = PageRef> {
        self.0.block(index.0)
    }

    /// The first page at or after `index`.
    pub(crate) fn next(&self, index: PageIndex) -> Option<(PageIndex, PageRef)> {
        self.0.next(index.0).map(|(index, page)| (PageIndex(index), page))
    }

    /// The first tagged page at or after `index`.
    pub(crate) fn next_tagged(&self, index: PageIndex) -> Option<(PageIndex, PageRef)> {
        let next = self.0.next_tagged(index.0);
        next.map(|(index, page)| (PageIndex(index), page))
    }

    /// Tags the page at `index`, if there is one.
    pub(crate) fn tag(&mut self, index: PageIndex) {
        self.0.set_tag(index.0, true);
    }

    /// Takes the tag of the page at `index` away, if it has one.
    pub(crate) fn untag(&mut self, index: PageIndex) {
        self.0.set_tag(index.0, false);
    }

    /// Puts a page where there is none.
    ///
    /// # Errors
    /// `NoMemory`; the tree is as it was.
    pub(crate) fn insert(&mut self, index: PageIndex, page: PageRef) -> Result<()> {
        let old = self.0.set(index.0, page)?;
        debug_assert!(old.is_none(), "two pages at one index");
        Ok(())
    }

    /// Puts a page where there is another one. Does not fail.
    pub(crate) fn replace(&mut self, index: PageIndex, page: PageRef) {
        let old = self.0.set(index.0, page);
        debug_assert!(matches!(old, Ok(Some(_))), "there was no page to be replaced");
    }

    /// Takes a page out; tells which it was.
    pub(crate) fn remove(&mut self, index: PageIndex) -> Option<PageRef> {
        self.0.take(index.0)
    }
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
            prop_assert_eq!(tree.0.shape(), (false, 0));
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
            assert_eq!((tree.len(), tree.0.shape()), (1, (true, 0)));
            assert!(tree.get(PageIndex(3)).is_some());
        }
        assert_eq!(tree.len(), 2);
        for index in [3, MAX_PAGES - 1] {
            page::free(tree.remove(PageIndex(index)).unwrap());
        }
    }
}
