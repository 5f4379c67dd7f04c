//! A naive map for the tests: what is said of every page, one by one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Entries;
use crate::map_entry::{Attributes, Backing, MapEntry};
use crate::types::{AddrRange, ByteOff, PAGE_SIZE, Prot, VirtAddr};

/// A backing that is its number, and counts nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numbered(pub(super) u8);

impl Backing for Numbered {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The first page of the maps in the tests.
pub(super) const FIRST: u64 = 16;
/// The first page behind them.
pub(super) const LAST: u64 = 16 + 400;
/// Loads and stores.
pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Such a map, with nothing in it.
pub(super) fn empty() -> Entries<Numbered> {
    Entries::new(pages(FIRST, LAST - FIRST)).unwrap()
}

/// Attributes that allow `prot` now and at most loads and stores.
pub(super) fn attr(prot: Prot) -> Attributes {
    Attributes {
        prot,
        max_prot: RW,
        ..Attributes::default()
    }
}

/// What a page shows: which backing, which page of it, and how.
pub(super) type Shown = (Numbered, u64, Attributes);

/// Every mapped page, by its number in the address space.
pub(super) type Pages = BTreeMap<u64, Shown>;

/// `len` pages from page `start`.
pub(super) fn pages(start: u64, len: u64) -> AddrRange {
    AddrRange {
        start: at(start),
        end: at(start + len),
    }
}

/// The address of a page.
pub(super) fn at(page: u64) -> VirtAddr {
    VirtAddr(page * PAGE_SIZE)
}

/// An entry, page by page.
pub(super) fn spread<B: Copy + Into<Numbered>>(entry: &MapEntry<B>) -> impl Iterator<Item = (u64, Shown)> {
    let (first, count) = (entry.range.start.0 / PAGE_SIZE, entry.range.len() / PAGE_SIZE);
    let (backing, offset, attr) = (entry.backing.into(), entry.offset.0 / PAGE_SIZE, entry.attr);
    (0..count).map(move |i| (first + i, (backing, offset + i, attr)))
}

impl From<&Numbered> for Numbered {
    fn from(backing: &Numbered) -> Self {
        *backing
    }
}

/// The entries as they are, whole.
pub(super) fn snapshot(entries: &Entries<Numbered>) -> Vec<MapEntry<Numbered>> {
    entries.iter(entries.bounds()).map(|entry| entry.owned()).collect()
}

/// Checks every invariant of the entries, and that they show what the model does.
pub(super) fn check(entries: &Entries<Numbered>, model: &Pages) {
    entries.tree.check();
    let all = snapshot(entries);
    assert_eq!(all.len(), entries.len(), "every entry lies inside the bounds");
    for pair in all.windows(2) {
        assert!(
            !could_be_one(&pair[0], &pair[1]),
            "neighbours that could be one: {pair:?}"
        );
    }
    for entry in &all {
        assert!(
            entry.attr.max_prot.contains(entry.attr.prot),
            "no entry is above its maximum"
        );
        assert!(entry.range.start >= entries.bounds().start && entry.range.end <= entries.bounds().end);
    }
    let shown: Pages = all.iter().flat_map(spread).collect();
    assert_eq!(&shown, model);
}

fn could_be_one(left: &MapEntry<Numbered>, right: &MapEntry<Numbered>) -> bool {
    left.range.end == right.range.start
        && left.backing == right.backing
        && ByteOff(left.offset.0 + left.range.len()) == right.offset
        && left.attr == right.attr
}

/// First fit at page alignment: the lowest run of `len` free pages in `bounds` at or above `hint`, or else anywhere.
pub(super) fn first_fit(model: &Pages, bounds: (u64, u64), len: u64, align: u64, hint: u64) -> Option<u64> {
    let is_free = |start: u64| model.range(start..start + len).next().is_none();
    let lowest = |from: u64, tight: bool| {
        let mut start = from.next_multiple_of(align);
        loop {
            if start + len > bounds.1 {
                return None;
            }
            if is_free(start) && (tight || hole_around(model, start) >= len + align - 1) {
                return Some(start);
            }
            start += align;
        }
    };
    let from = |from: u64| lowest(from, false).or_else(|| lowest(from, true));
    let hinted = if (bounds.0..bounds.1).contains(&hint) {
        from(hint)
    } else {
        None
    };
    hinted.or_else(|| from(bounds.0))
}

/// How many free pages lie around a free one; beyond the bounds everything is free.
fn hole_around(model: &Pages, page: u64) -> u64 {
    let below = model.range(..page).next_back().map_or(0, |(p, _)| p + 1);
    let above = model.range(page..).next().map_or(u64::MAX / PAGE_SIZE, |(p, _)| *p);
    above - below
}
