//! The verbs, each on its own.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::model::{FIRST, LAST, Numbered, RW, at, attr, empty, pages, snapshot};
use super::*;
use crate::types::{Advice, ByteOff, Inherit, MAX_OBJECT_SIZE, PAGE_SIZE};

/// A mapping of backing 1 in which page `p` of the map shows page `p` of the backing.
fn new(place: Place, first: u64, len: u64) -> NewEntry<'static, Numbered> {
    NewEntry {
        place,
        len: len * PAGE_SIZE,
        backing: &Numbered(1),
        offset: ByteOff(first * PAGE_SIZE),
        attr: attr(Prot::READ),
    }
}

fn fixed(first: u64, len: u64) -> NewEntry<'static, Numbered> {
    new(Place::Fixed(at(first)), first, len)
}

fn entered(mappings: &[(u64, u64)]) -> Entries<Numbered> {
    let mut entries = empty();
    for &(first, len) in mappings {
        entries.enter(&fixed(first, len), &mut Vec::new()).unwrap();
    }
    entries
}

fn ranges(entries: &Entries<Numbered>) -> Vec<AddrRange> {
    snapshot(entries).iter().map(|entry| entry.range).collect()
}

fn sentence<T: core::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Invalid(words)) => words,
        other => panic!("{other:?} instead of a refused argument"),
    }
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    assert!(sentence(Entries::<Numbered>::new(pages(5, 0))).contains("empty"));
    let crooked = AddrRange {
        start: VirtAddr(1),
        end: at(4),
    };
    assert!(sentence(Entries::<Numbered>::new(crooked)).contains("aligned"));
}

#[test]
fn adjacent_pieces_of_one_backing_are_one_entry() {
    let entries = entered(&[(20, 2), (24, 2), (22, 2)]);
    assert_eq!(ranges(&entries), [pages(20, 6)]);
}

#[test]
fn pieces_that_differ_in_anything_stay_apart() {
    let mut entries = entered(&[(20, 2)]);
    let base = fixed(22, 2);
    let other = [
        NewEntry {
            offset: ByteOff(0),
            ..base
        },
        NewEntry {
            backing: &Numbered(2),
            ..base
        },
        NewEntry { attr: attr(RW), ..base },
        NewEntry {
            attr: Attributes {
                max_prot: Prot::READ,
                ..base.attr
            },
            ..base
        },
        NewEntry {
            attr: Attributes { wired: 1, ..base.attr },
            ..base
        },
        NewEntry {
            attr: Attributes {
                inherit: Inherit::Share,
                ..base.attr
            },
            ..base
        },
        NewEntry {
            attr: Attributes {
                advice: Advice::Random,
                ..base.attr
            },
            ..base
        },
    ];
    for new in &other {
        entries.enter(new, &mut Vec::new()).unwrap();
        assert_eq!(ranges(&entries), [pages(20, 2), pages(22, 2)], "{new:?}");
    }
    entries.enter(&base, &mut Vec::new()).unwrap();
    assert_eq!(ranges(&entries), [pages(20, 4)]);
}

#[test]
fn protect_and_protect_back_leave_one_entry_and_tell_what_changed() {
    let mut entries = entered(&[(20, 10)]);
    let mut told = Vec::new();
    entries
        .protect(at(23), 2 * PAGE_SIZE, RW, |r, was| {
            told.push((r, was));
            Ok(())
        })
        .unwrap();
    assert_eq!(ranges(&entries), [pages(20, 3), pages(23, 2), pages(25, 5)]);
    entries
        .protect(at(22), 8 * PAGE_SIZE, Prot::READ, |r, was| {
            told.push((r, was));
            Ok(())
        })
        .unwrap();
    assert_eq!(ranges(&entries), [pages(20, 10)]);
    assert_eq!(told, [(pages(23, 2), Prot::READ), (pages(23, 2), RW)]);
}

#[test]
fn unmap_in_the_middle_leaves_two_entries_and_hands_the_piece_over() {
    let mut entries = entered(&[(20, 10)]);
    let mut removed = Vec::new();
    entries.remove(at(22), 3 * PAGE_SIZE, &mut removed).unwrap();
    assert_eq!(ranges(&entries), [pages(20, 2), pages(25, 5)]);
    assert_eq!(
        (removed[0].range, removed[0].offset),
        (pages(22, 3), ByteOff(22 * PAGE_SIZE))
    );
    assert_eq!(entries.lookup(at(25)).unwrap().offset, ByteOff(25 * PAGE_SIZE));
    entries
        .remove(at(FIRST), (LAST - FIRST) * PAGE_SIZE, &mut removed)
        .unwrap();
    assert!(entries.is_empty());
    assert_eq!(
        removed.iter().map(|e| e.range).collect::<Vec<_>>(),
        [pages(22, 3), pages(20, 2), pages(25, 5)]
    );
    entries.remove(at(20), PAGE_SIZE, &mut removed).unwrap();
    assert_eq!(removed.len(), 3, "nothing is there to remove");
}

#[test]
fn fixed_replaces_and_fixed_no_replace_names_what_is_there() {
    let mut entries = entered(&[(20, 4), (30, 4)]);
    let careful = |first, len| new(Place::FixedNoReplace(at(first)), first, len);
    let mut removed = Vec::new();
    assert_eq!(
        entries.enter(&careful(18, 4), &mut removed),
        Err(Error::Occupied(at(20)))
    );
    assert_eq!(
        entries.enter(&careful(22, 4), &mut removed),
        Err(Error::Occupied(at(22)))
    );
    assert_eq!(entries.enter(&careful(25, 5), &mut removed), Ok(pages(25, 5)));
    assert_eq!(
        ranges(&entries),
        [pages(20, 4), pages(25, 9)],
        "the new one has joined the one behind it"
    );
    let over = NewEntry {
        backing: &Numbered(9),
        ..fixed(22, 10)
    };
    assert!(removed.is_empty());
    assert_eq!(entries.enter(&over, &mut removed), Ok(pages(22, 10)));
    assert_eq!(
        removed.iter().map(|e| e.range).collect::<Vec<_>>(),
        [pages(22, 2), pages(25, 7)]
    );
    assert_eq!(ranges(&entries), [pages(20, 2), pages(22, 10), pages(32, 2)]);
}

#[test]
fn a_hint_is_tried_first_and_then_the_whole_map() {
    let mut entries = entered(&[(20, 4), (400, 16)]);
    let mut anywhere = |hint: u64, align: u64, len: u64| {
        let place = Place::Anywhere {
            hint: VirtAddr(hint),
            align: align * PAGE_SIZE,
        };
        entries.enter(
            &NewEntry {
                attr: attr(RW),
                ..new(place, 0, len)
            },
            &mut Vec::new(),
        )
    };
    assert_eq!(anywhere(at(18).0, 1, 2), Ok(pages(18, 2)));
    assert_eq!(anywhere(at(18).0, 1, 2), Ok(pages(24, 2)), "above the hint");
    assert_eq!(
        anywhere(at(390).0, 1, 12),
        Ok(pages(26, 12)),
        "not above the hint, so the lowest"
    );
    assert_eq!(anywhere(0, 1, 2), Ok(pages(16, 2)), "a hint outside the map is none");
    assert_eq!(anywhere(!(PAGE_SIZE - 1), 64, 1), Ok(pages(64, 1)));
    assert_eq!(anywhere(0, 1, 1000), Err(Error::NoSpace(1000 * PAGE_SIZE)));
}

#[test]
fn every_senseless_argument_has_its_own_sentence_and_changes_nothing() {
    let mut entries = entered(&[(20, 4)]);
    let before = snapshot(&entries);
    let good = fixed(20, 2);
    let anywhere = |hint, align| Place::Anywhere {
        hint: VirtAddr(hint),
        align,
    };
    let bad = [
        NewEntry { len: 0, ..good },
        NewEntry { len: u64::MAX, ..good },
        NewEntry {
            place: Place::Fixed(VirtAddr(20 * PAGE_SIZE + 1)),
            ..good
        },
        NewEntry {
            place: Place::Fixed(VirtAddr(!(PAGE_SIZE - 1))),
            ..good
        },
        NewEntry {
            place: Place::FixedNoReplace(at(LAST - 1)),
            ..good
        },
        NewEntry {
            place: anywhere(1, PAGE_SIZE),
            ..good
        },
        NewEntry {
            place: anywhere(0, PAGE_SIZE + 1),
            ..good
        },
        NewEntry {
            offset: ByteOff(1),
            ..good
        },
        NewEntry {
            offset: ByteOff(MAX_OBJECT_SIZE - PAGE_SIZE),
            ..good
        },
        NewEntry {
            attr: attr(Prot::EXEC),
            ..good
        },
        NewEntry {
            attr: attr(Prot::from_bits_retain(8)),
            ..good
        },
    ];
    let mut said: Vec<&str> = Vec::new();
    for new in &bad {
        let words = sentence(entries.enter(new, &mut Vec::new()));
        assert!(!said.contains(&words), "{words} is said twice");
        said.push(words);
    }
    let nil = anywhere(0, 0);
    sentence(entries.enter(&NewEntry { place: nil, ..good }, &mut Vec::new()));
    let wrapping = NewEntry {
        offset: ByteOff(!(PAGE_SIZE - 1)),
        ..good
    };
    sentence(entries.enter(&wrapping, &mut Vec::new()));
    for (start, len) in [
        (at(20), 0),
        (VirtAddr(at(20).0 + 8), 1),
        (at(LAST), 1),
        (at(20), u64::MAX),
        (at(15), PAGE_SIZE),
    ] {
        sentence(entries.remove(start, len, &mut Vec::new()));
        sentence(entries.protect(start, len, RW, |_, _| panic!("nothing changes")));
        sentence(entries.inherit(start, len, Inherit::None));
        sentence(entries.advise(start, len, Advice::Random));
        sentence(entries.wire(start, len, |_| panic!("nothing changes")));
        sentence(entries.unwire(start, len, |_| panic!("nothing changes")));
    }
    sentence(entries.protect(at(20), 1, Prot::from_bits_retain(16), |_, _| Ok(())));
    sentence(entries.unwire(at(20), 1, |_| ()));
    assert_eq!(snapshot(&entries), before);
}

#[test]
fn a_length_is_rounded_up_to_whole_pages() {
    let mut entries = empty();
    let new = NewEntry { len: 1, ..fixed(20, 1) };
    assert_eq!(entries.enter(&new, &mut Vec::new()), Ok(pages(20, 1)));
    let new = NewEntry {
        len: PAGE_SIZE + 1,
        ..fixed(21, 1)
    };
    assert_eq!(entries.enter(&new, &mut Vec::new()), Ok(pages(21, 2)));
    entries.remove(at(20), 2 * PAGE_SIZE + 1, &mut Vec::new()).unwrap();
    assert!(entries.is_empty());
}

#[test]
fn a_hole_or_a_maximum_anywhere_in_the_range_stops_a_change_before_it_begins() {
    let mut entries = entered(&[(20, 4), (26, 4)]);
    let read_only = NewEntry {
        attr: Attributes {
            max_prot: Prot::READ,
            ..attr(Prot::READ)
        },
        ..fixed(30, 4)
    };
    entries.enter(&read_only, &mut Vec::new()).unwrap();
    let before = snapshot(&entries);
    let len = 10 * PAGE_SIZE;
    let never = |_, _| panic!("nothing changes");
    assert_eq!(entries.protect(at(21), len, RW, never), Err(Error::NotMapped(at(24))));
    assert_eq!(entries.protect(at(18), len, RW, never), Err(Error::NotMapped(at(18))));
    assert_eq!(
        entries.protect(at(28), len, RW, never),
        Err(Error::AboveMaximum(at(30)))
    );
    assert_eq!(
        entries.protect(at(31), PAGE_SIZE, RW, never),
        Err(Error::AboveMaximum(at(31)))
    );
    assert_eq!(
        entries.inherit(at(26), len, Inherit::None),
        Err(Error::NotMapped(at(34)))
    );
    assert_eq!(
        entries.advise(at(24), len, Advice::Random),
        Err(Error::NotMapped(at(24)))
    );
    assert_eq!(
        entries.wire(at(22), len, |_| panic!("nothing changes")),
        Err(Error::NotMapped(at(24)))
    );
    assert_eq!(snapshot(&entries), before);
}

#[test]
fn wirings_count_and_their_first_and_last_are_told() {
    let mut entries = entered(&[(20, 10)]);
    let mut told = Vec::new();
    entries.wire(at(22), 4 * PAGE_SIZE, |r| told.push(r)).unwrap();
    entries.wire(at(24), 4 * PAGE_SIZE, |r| told.push(r)).unwrap();
    assert_eq!(told, [pages(22, 4), pages(26, 2)]);
    assert_eq!(entries.lookup(at(25)).unwrap().attr.wired, 2);
    told.clear();
    entries.unwire(at(24), 4 * PAGE_SIZE, |r| told.push(r)).unwrap();
    entries.unwire(at(22), 4 * PAGE_SIZE, |r| told.push(r)).unwrap();
    assert_eq!(told, [pages(26, 2), pages(22, 4)]);
    assert_eq!(ranges(&entries), [pages(20, 10)]);
    *entries.tree.attributes_mut(at(20)).unwrap() = Attributes {
        wired: u32::MAX,
        ..attr(Prot::READ)
    };
    assert!(sentence(entries.wire(at(20), PAGE_SIZE, |_| ())).contains("counted"));
}

#[test]
fn no_operation_drops_the_last_reference_to_a_backing() {
    #[derive(Clone)]
    struct Held(Rc<()>);
    impl Backing for Held {
        fn same(&self, other: &Self) -> bool {
            Rc::ptr_eq(&self.0, &other.0)
        }
    }
    let backing = Held(Rc::new(()));
    let weak = Rc::downgrade(&backing.0);
    let mut entries = Entries::new(pages(FIRST, LAST - FIRST)).unwrap();
    let new = NewEntry {
        place: Place::Fixed(at(20)),
        len: 8 * PAGE_SIZE,
        backing: &backing,
        offset: ByteOff(0),
        attr: attr(Prot::READ),
    };
    let mut removed = Vec::new();
    entries.enter(&new, &mut removed).unwrap();
    drop(backing);
    entries.protect(at(22), PAGE_SIZE, RW, |_, _| Ok(())).unwrap();
    assert_eq!(weak.strong_count(), 3, "a reference an entry");
    entries.protect(at(22), PAGE_SIZE, Prot::READ, |_, _| Ok(())).unwrap();
    assert_eq!(weak.strong_count(), 1);
    entries.remove(at(22), PAGE_SIZE, &mut removed).unwrap();
    entries.remove(at(FIRST), 100 * PAGE_SIZE, &mut removed).unwrap();
    assert_eq!(
        (weak.strong_count(), removed.len()),
        (3, 3),
        "all of them are the caller's now"
    );
    drop(removed);
    assert_eq!(weak.strong_count(), 0);
}
