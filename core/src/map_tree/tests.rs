//! The tree against an ordered map of the standard library, and its cost in nodes.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::check::VISITS;
use super::node::{LEAF, Leaf, Slot};
use super::*;
use crate::alloc_fallible::failing;
use crate::types::{ByteOff, PAGE_SIZE};

const ALL: AddrRange = AddrRange {
    start: VirtAddr(0),
    end: VirtAddr(u64::MAX),
};

fn pages(start: u64, len: u64) -> AddrRange {
    AddrRange {
        start: VirtAddr(start * PAGE_SIZE),
        end: VirtAddr((start + len) * PAGE_SIZE),
    }
}

fn entry(start: u64, len: u64) -> MapEntry<u64> {
    MapEntry {
        range: pages(start, len),
        backing: start,
        offset: ByteOff(0),
        attr: Attributes::default(),
    }
}

fn tree_of(starts: impl IntoIterator<Item = u64>, len: u64) -> MapTree<u64> {
    let mut tree = MapTree::new();
    for start in starts {
        tree.insert(entry(start, len)).unwrap();
    }
    tree
}

fn starts(tree: &MapTree<u64>) -> Vec<u64> {
    tree.iter(ALL).map(|e| *e.backing).collect()
}

/// Every number below `2^bits`, each once, in an order that looks random: an odd factor permutes them.
fn shuffled(bits: u32) -> impl Iterator<Item = u64> {
    (0..1_u64 << bits).map(move |i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << bits) - 1))
}

#[test]
fn an_entry_takes_at_most_48_bytes_beside_its_key() {
    assert!(size_of::<Option<Slot<&u8>>>() <= 48);
    assert!(size_of::<Leaf<&u8>>() <= LEAF * (48 + 8) + 64);
}

#[test]
fn an_empty_tree_finds_nothing_and_is_all_space() {
    let mut tree: MapTree<u64> = MapTree::new();
    assert!(tree.lookup(VirtAddr(0)).is_none());
    assert!(tree.lookup_at_or_after(VirtAddr(0)).is_none());
    assert!(tree.lookup_before(VirtAddr(u64::MAX)).is_none());
    assert!(tree.remove(VirtAddr(0)).is_none());
    assert!(tree.pop_first().is_none());
    assert_eq!(
        tree.find_space(PAGE_SIZE, PAGE_SIZE, pages(3, 1)),
        Some(VirtAddr(3 * PAGE_SIZE))
    );
    tree.check();
}

#[test]
fn the_last_address_of_all_is_no_key() {
    let mut tree: MapTree<u64> = MapTree::new();
    let top = u64::MAX / PAGE_SIZE;
    tree.insert(entry(top - 1, 1)).unwrap();
    assert_eq!(
        tree.lookup(VirtAddr(top * PAGE_SIZE - 1)).unwrap().range,
        pages(top - 1, 1)
    );
    assert!(tree.lookup(VirtAddr(u64::MAX)).is_none());
    assert!(tree.lookup_at_or_after(VirtAddr(u64::MAX)).is_none());
    assert_eq!(tree.lookup_before(VirtAddr(u64::MAX)).unwrap().range, pages(top - 1, 1));
}

#[test]
fn an_insertion_over_an_entry_gives_the_entry_back_and_names_the_address() {
    let mut tree = tree_of([10, 20], 2);
    let (error, back) = tree.insert(entry(9, 2)).unwrap_err();
    assert_eq!(
        (error, back.range),
        (Error::Occupied(VirtAddr(10 * PAGE_SIZE)), pages(9, 2))
    );
    let (error, _) = tree.insert(entry(21, 5)).unwrap_err();
    assert_eq!(error, Error::Occupied(VirtAddr(21 * PAGE_SIZE)));
    assert_eq!(starts(&tree), [10, 20]);
}

#[test]
fn a_tree_grows_and_shrinks_through_every_height_in_every_order() {
    let orders: [Vec<u64>; 3] = [(0..6000).collect(), (0..6000).rev().collect(), shuffled(13).collect()];
    for fill in &orders {
        for empty in &orders {
            let mut tree = tree_of(fill.iter().copied(), 1);
            tree.check();
            assert!(tree.height() >= 2);
            assert_eq!(tree.len(), fill.len());
            for (n, &start) in empty.iter().enumerate() {
                let removed = tree.remove(VirtAddr(start * PAGE_SIZE));
                assert_eq!(removed.is_some(), fill.len() > 6000 || start < 6000);
                if n % 97 == 0 {
                    tree.check();
                }
            }
            while tree.pop_first().is_some() {}
            tree.check();
            assert_eq!((tree.height(), tree.len()), (0, 0));
        }
    }
}

#[test]
fn ascending_insertions_leave_leaves_three_quarters_full() {
    let tree = tree_of(0..12_000, 1);
    assert_eq!(tree.leaves(), 12_000 / (LEAF / 4 * 3));
}

#[test]
fn an_insertion_that_runs_out_of_memory_leaves_the_tree_as_it_was() {
    let mut refused = 0;
    let mut tree: MapTree<u64> = MapTree::new();
    for start in shuffled(12) {
        for allowed in 0.. {
            failing::after(Some(allowed));
            let done = tree.insert(entry(start, 1));
            failing::after(None);
            let Err((error, back)) = done else { break };
            assert_eq!((error, back.backing), (Error::NoMemory, start));
            assert!(tree.lookup(VirtAddr(start * PAGE_SIZE)).is_none());
            refused += 1;
        }
        if start % 64 == 0 {
            tree.check();
        }
    }
    tree.check();
    assert_eq!(tree.len(), 1 << 12);
    assert!(refused > 100, "memory was refused {refused} times only");
}

#[test]
fn promised_insertions_need_no_memory_whatever_is_removed_between_them() {
    let mut tree = tree_of(shuffled(12).map(|n| n * 2), 1);
    for (n, i) in shuffled(11).enumerate() {
        let at = |k: u64| VirtAddr(((i * 4 + k * 2) % (1 << 13)) * PAGE_SIZE);
        tree.reserve(3).unwrap();
        failing::after(Some(0));
        let out: Vec<_> = (0..3).filter_map(|k| tree.remove(at(k))).collect();
        assert_eq!(out.len(), 3);
        for entry in out {
            tree.insert_reserved(entry);
        }
        failing::after(None);
        if n % 64 == 0 {
            tree.check();
        }
    }
}

#[test]
fn a_million_entries_cost_five_nodes_a_lookup_and_ten_a_search_for_space() {
    const N: u64 = 1_000_000;
    let mut tree = MapTree::new();
    for i in 0..N {
        // Holes of one page everywhere, one of two pages at the end.
        tree.reserve(1).unwrap();
        tree.insert_reserved(entry(i * 2, 1));
    }
    tree.check();
    let visits = |work: &dyn Fn()| {
        VISITS.set(0);
        work();
        VISITS.get()
    };
    for i in (0..N).step_by(9973) {
        let va = VirtAddr(i * 2 * PAGE_SIZE);
        assert!(visits(&|| assert!(tree.lookup(va).is_some())) <= 5);
        let free = Some(VirtAddr(va.0 + PAGE_SIZE));
        let from_here = AddrRange {
            start: va,
            end: ALL.end,
        };
        assert!(visits(&|| assert_eq!(tree.find_space(PAGE_SIZE, PAGE_SIZE, from_here), free)) <= 10);
    }
    let behind = Some(VirtAddr((N * 2 - 1) * PAGE_SIZE));
    assert!(visits(&|| assert_eq!(tree.find_space(2 * PAGE_SIZE, PAGE_SIZE, ALL), behind)) <= 10);
    tree.remove(VirtAddr((N - 2) * PAGE_SIZE)).unwrap();
    let hole = Some(VirtAddr((N - 3) * PAGE_SIZE));
    assert!(visits(&|| assert_eq!(tree.find_space(3 * PAGE_SIZE, PAGE_SIZE, ALL), hole)) <= 10);
    let aligned = Some(VirtAddr((N - 2) * PAGE_SIZE));
    assert!(visits(&|| assert_eq!(tree.find_space(PAGE_SIZE, 2 * PAGE_SIZE, ALL), aligned)) <= 10);
}

/// Every hole of the model, the ones at the ends of the 64-bit space with it.
fn holes(model: &BTreeMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut behind = 0;
    let mut holes = Vec::new();
    for (&start, &len) in model {
        holes.push((behind, start));
        behind = start + len;
    }
    holes.push((behind, u64::MAX / PAGE_SIZE));
    holes
}

/// First fit as it is documented, by looking at every hole. In pages.
fn naive_fit(model: &BTreeMap<u64, u64>, len: u64, align: u64, from: u64, to: u64) -> Option<u64> {
    let first = |least: u64| {
        holes(model)
            .into_iter()
            .filter(|(a, b)| b - a >= least)
            .find_map(|(a, b)| {
                let start = a.max(from).next_multiple_of(align);
                (start + len <= b.min(to)).then_some(start)
            })
    };
    first(len + align - 1).or_else(|| first(len))
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64),
    Shorten(u64),
    Space { len: u64, align: u64, from: u64, to: u64 },
    Around(u64),
}

const SPAN: u64 = 3000;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SPAN, 1..4_u64).prop_map(|(at, len)| Step::Insert(at, len)),
        3 => (0..SPAN).prop_map(Step::Remove),
        1 => (0..SPAN).prop_map(Step::Shorten),
        2 => (1..6_u64, 1..5_u64, 0..SPAN, 0..SPAN + 20)
            .prop_map(|(len, align, from, more)| Step::Space { len, align, from, to: from + more }),
        1 => (0..SPAN).prop_map(Step::Around),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_an_ordered_map_that_knows_its_holes(
        fill in 0..1200_u64,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut model: BTreeMap<u64, u64> = (0..fill).map(|n| (n * 2, 1)).collect();
        let mut tree = tree_of(model.keys().copied(), 1);
        let last_before = |model: &BTreeMap<u64, u64>, at: u64| model.range(..at).next_back().map(|(&s, &l)| (s, l));
        for step in steps {
            match step {
                Step::Insert(at, len) => {
                    let taken = last_before(&model, at + len).filter(|(s, l)| s + l > at).is_some();
                    prop_assert_eq!(tree.insert(entry(at, len)).is_err(), taken);
                    if !taken {
                        model.insert(at, len);
                    }
                }
                Step::Remove(at) => {
                    // The entry at the address or the first behind it.
                    let there = model.range(at..).next().map(|(&s, &l)| (s, l));
                    if let Some((start, len)) = there {
                        model.remove(&start);
                        let out = tree.remove(VirtAddr(start * PAGE_SIZE)).unwrap();
                        prop_assert_eq!((out.range, out.backing), (pages(start, len), start));
                    }
                    prop_assert!(model.contains_key(&at) || tree.remove(VirtAddr(at * PAGE_SIZE)).is_none());
                }
                Step::Shorten(at) => {
                    let there = model.range_mut(at..).find(|(_, len)| **len > 1);
                    if let Some((&start, len)) = there {
                        *len -= 1;
                        tree.set_end(VirtAddr(start * PAGE_SIZE), pages(start, *len).end);
                    }
                }
                Step::Space { len, align, from, to } => {
                    let found = tree.find_space(len * PAGE_SIZE, align * PAGE_SIZE, pages(from, to - from));
                    let naive = naive_fit(&model, len, align, from, to).map(|p| VirtAddr(p * PAGE_SIZE));
                    prop_assert_eq!(found, naive);
                }
                Step::Around(at) => {
                    let va = VirtAddr(at * PAGE_SIZE + 5);
                    let here = last_before(&model, at + 1).filter(|(s, l)| s + l > at);
                    let next = here.or_else(|| model.range(at + 1..).next().map(|(&s, &l)| (s, l)));
                    let range = |e: Option<(u64, u64)>| e.map(|(s, l)| pages(s, l));
                    prop_assert_eq!(tree.lookup(va).map(|e| e.range), range(here));
                    prop_assert_eq!(tree.lookup_at_or_after(va).map(|e| e.range), range(next));
                    let before = tree.lookup_before(VirtAddr(at * PAGE_SIZE)).map(|e| e.range);
                    prop_assert_eq!(before, range(last_before(&model, at)));
                }
            }
            tree.check();
        }
        let all: Vec<_> = tree.iter(ALL).map(|e| e.range).collect();
        let expected: Vec<_> = model.iter().map(|(&s, &l)| pages(s, l)).collect();
        prop_assert_eq!(all, expected);
    }
}
