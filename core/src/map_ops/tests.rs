//! The verbs: each on its own, then all of them at random against the naive map, with and without memory.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::model::{Numbered, Pages, at, check, first_fit, pages, snapshot, spread};
use super::*;
use crate::alloc_fallible::failing;
use crate::types::{Advice, ByteOff, Inherit, MAX_OBJECT_SIZE, PAGE_SIZE};

const FIRST: u64 = 16;
const LAST: u64 = 16 + 400;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn empty() -> Entries<Numbered> {
    Entries::new(pages(FIRST, LAST - FIRST)).unwrap()
}

fn attr(prot: Prot) -> Attributes {
    Attributes {
        prot,
        max_prot: RW,
        ..Attributes::default()
    }
}

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
        .protect(at(23), 2 * PAGE_SIZE, RW, |r, was| told.push((r, was)))
        .unwrap();
    assert_eq!(ranges(&entries), [pages(20, 3), pages(23, 2), pages(25, 5)]);
    entries
        .protect(at(22), 8 * PAGE_SIZE, Prot::READ, |r, was| told.push((r, was)))
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
    assert_eq!(anywhere(u64::MAX & !(PAGE_SIZE - 1), 64, 1), Ok(pages(64, 1)));
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
            place: Place::Fixed(VirtAddr(u64::MAX & !(PAGE_SIZE - 1))),
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
        offset: ByteOff(u64::MAX & !(PAGE_SIZE - 1)),
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
    sentence(entries.protect(at(20), 1, Prot::from_bits_retain(16), |_, _| ()));
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
    entries.protect(at(22), PAGE_SIZE, RW, |_, _| ()).unwrap();
    assert_eq!(weak.strong_count(), 3, "a reference an entry");
    entries.protect(at(22), PAGE_SIZE, Prot::READ, |_, _| ()).unwrap();
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

#[derive(Clone, Debug)]
enum Step {
    Enter {
        place: u8,
        first: u64,
        len: u64,
        align: u64,
        backing: u8,
        skew: u64,
        attr: Attributes,
    },
    Remove(u64, u64),
    Protect(u64, u64, Prot),
    Inherit(u64, u64, Inherit),
    Advise(u64, u64, Advice),
    Wire(u64, u64, bool),
}

fn some_attr() -> impl Strategy<Value = Attributes> {
    let choices = (any::<bool>(), any::<bool>(), any::<bool>(), 0..20_u8);
    choices.prop_map(|(writes, writable, random, zero)| Attributes {
        wired: 0,
        prot: if writes && writable { RW } else { Prot::READ },
        max_prot: if writable { RW } else { Prot::READ },
        inherit: if zero == 0 { Inherit::Zero } else { Inherit::Copy },
        advice: if random { Advice::Random } else { Advice::Normal },
    })
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (FIRST..LAST, prop_oneof![6 => 1..8_u64, 1 => 1..300_u64]);
    let enter = (
        0..3_u8,
        range(),
        1..5_u64,
        0..2_u8,
        prop_oneof![8 => Just(0), 1 => 1..3_u64],
        some_attr(),
    );
    prop_oneof![
        8 => enter.prop_map(|(place, (first, len), align, backing, skew, attr)| {
            Step::Enter { place, first, len, align, backing, skew, attr }
        }),
        2 => range().prop_map(|(a, n)| Step::Remove(a, n)),
        2 => (range(), any::<bool>()).prop_map(|((a, n), w)| Step::Protect(a, n, if w { RW } else { Prot::READ })),
        1 => (range(), any::<bool>())
            .prop_map(|((a, n), s)| Step::Inherit(a, n, if s { Inherit::Share } else { Inherit::Copy })),
        1 => (range(), any::<bool>())
            .prop_map(|((a, n), s)| Step::Advise(a, n, if s { Advice::Sequential } else { Advice::Normal })),
        2 => (range(), any::<bool>()).prop_map(|((a, n), on)| Step::Wire(a, n, on)),
    ]
}

/// Does a step; says what went out and what was told.
type Outcome = Result<(Option<AddrRange>, Vec<MapEntry<Numbered>>, Vec<(AddrRange, Prot)>)>;

fn run(entries: &mut Entries<Numbered>, step: &Step) -> Outcome {
    let (mut range, mut removed, mut told) = (None, Vec::new(), Vec::new());
    let size = |n: u64| n * PAGE_SIZE;
    match *step {
        Step::Enter {
            place,
            first,
            len,
            align,
            backing,
            skew,
            attr,
        } => {
            let place = match place {
                0 => Place::Anywhere {
                    hint: at(first),
                    align: size(align),
                },
                1 => Place::Fixed(at(first)),
                _ => Place::FixedNoReplace(at(first)),
            };
            let new = NewEntry {
                place,
                len: size(len),
                backing: &Numbered(backing),
                offset: ByteOff(size(first + skew)),
                attr,
            };
            range = Some(entries.enter(&new, &mut removed)?);
        }
        Step::Remove(a, n) => entries.remove(at(a), size(n), &mut removed)?,
        Step::Protect(a, n, prot) => entries.protect(at(a), size(n), prot, |r, was| told.push((r, was)))?,
        Step::Inherit(a, n, inherit) => entries.inherit(at(a), size(n), inherit)?,
        Step::Advise(a, n, advice) => entries.advise(at(a), size(n), advice)?,
        Step::Wire(a, n, true) => entries.wire(at(a), size(n), |r| told.push((r, Prot::empty())))?,
        Step::Wire(a, n, false) => entries.unwire(at(a), size(n), |r| told.push((r, Prot::empty())))?,
    }
    Ok((range, removed, told))
}

/// The same on the model. `Err` says that it has to be refused, and how where that is one of several ways.
fn run_model(model: &mut Pages, step: &Step) -> Result<(Option<AddrRange>, Pages, Pages)> {
    let bounds = (FIRST, LAST);
    let outside = Err(Error::Invalid("the range is not inside the map's bounds"));
    let take = |model: &mut Pages, a: u64, n: u64| -> Pages {
        let out: Pages = model.range(a..a + n).map(|(&p, &s)| (p, s)).collect();
        model.retain(|p, _| !out.contains_key(p));
        out
    };
    if let Step::Enter {
        place,
        first,
        len,
        align,
        backing,
        skew,
        attr,
    } = *step
    {
        let start = match place {
            0 => first_fit(model, bounds, len, align, first).ok_or(Error::NoSpace(len * PAGE_SIZE))?,
            _ if first + len > LAST => return outside,
            1 => first,
            _ => match model.range(first..first + len).next() {
                Some((&taken, _)) => return Err(Error::Occupied(at(taken))),
                None => first,
            },
        };
        let out = take(model, start, len);
        model.extend((0..len).map(|i| (start + i, (Numbered(backing), first + skew + i, attr))));
        return Ok((Some(pages(start, len)), out, Pages::new()));
    }
    let (Step::Remove(a, n)
    | Step::Protect(a, n, _)
    | Step::Inherit(a, n, _)
    | Step::Advise(a, n, _)
    | Step::Wire(a, n, _)) = *step
    else {
        unreachable!("entering is above")
    };
    if a + n > LAST {
        return outside;
    }
    if matches!(step, Step::Remove(..)) {
        return Ok((None, take(model, a, n), Pages::new()));
    }
    for page in a..a + n {
        let (_, _, attr) = *model.get(&page).ok_or(Error::NotMapped(at(page)))?;
        match *step {
            Step::Protect(_, _, prot) if !attr.max_prot.contains(prot) => return Err(Error::AboveMaximum(at(page))),
            Step::Wire(_, _, false) if attr.wired == 0 => {
                return Err(Error::Invalid("a part of the range is not wired"));
            }
            _ => {}
        }
    }
    let mut told = Pages::new();
    for (&page, shown) in model.range_mut(a..a + n) {
        let was = *shown;
        let attr = &mut shown.2;
        let tell = match *step {
            Step::Protect(_, _, prot) => core::mem::replace(&mut attr.prot, prot) != prot,
            Step::Wire(_, _, on) => {
                let wired = if on { attr.wired + 1 } else { attr.wired - 1 };
                core::mem::replace(&mut attr.wired, wired).min(wired) == 0
            }
            Step::Inherit(_, _, inherit) => {
                attr.inherit = inherit;
                false
            }
            Step::Advise(_, _, advice) => {
                attr.advice = advice;
                false
            }
            Step::Enter { .. } | Step::Remove(..) => unreachable!("done above"),
        };
        if tell {
            told.insert(page, was);
        }
    }
    Ok((None, Pages::new(), told))
}

/// Does a step on both, compares everything, and answers with the number of refused allocations when `starve` is set.
fn both(entries: &mut Entries<Numbered>, model: &mut Pages, step: &Step, starve: bool) -> usize {
    let before = snapshot(entries);
    let mut refused = 0;
    let outcome = loop {
        failing::after(starve.then_some(refused));
        let outcome = run(entries, step);
        failing::after(None);
        if outcome != Err(Error::NoMemory) {
            break outcome;
        }
        refused += 1;
        assert_eq!(
            snapshot(entries),
            before,
            "{step:?} ran out of memory and changed something"
        );
        entries.tree.check();
    };
    match (outcome, run_model(model, step)) {
        (Ok((range, removed, told)), Ok((naive_range, naive_out, naive_told))) => {
            assert_eq!(range, naive_range);
            let out: Vec<_> = removed.iter().flat_map(spread).collect();
            assert_eq!(
                out,
                naive_out.into_iter().collect::<Vec<_>>(),
                "removed pieces come in order and once"
            );
            let told: Vec<_> = told
                .iter()
                .flat_map(|&(r, was)| (r.start.0 / PAGE_SIZE..r.end.0 / PAGE_SIZE).map(move |p| (p, was)))
                .collect();
            let is_protect = matches!(step, Step::Protect(..));
            let was = |attr: Attributes| if is_protect { attr.prot } else { Prot::empty() };
            assert_eq!(
                told,
                naive_told
                    .into_iter()
                    .map(|(p, (_, _, attr))| (p, was(attr)))
                    .collect::<Vec<_>>()
            );
        }
        (Err(error), Err(naive)) => {
            assert_eq!(error, naive);
            assert_eq!(snapshot(entries), before, "a refusal changes nothing");
        }
        (outcome, naive) => panic!("{step:?} gave {outcome:?}, and not {naive:?}"),
    }
    check(entries, model);
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_verb_does_to_entries_what_it_does_to_single_pages(steps in prop::collection::vec(step(), 1..250)) {
        let (mut entries, mut model) = (empty(), Pages::new());
        for step in &steps {
            both(&mut entries, &mut model, step, false);
        }
    }

    #[test]
    fn an_operation_without_memory_changes_nothing_and_can_be_repeated(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let (mut entries, mut model) = (empty(), Pages::new());
        for step in &steps {
            both(&mut entries, &mut model, step, true);
        }
    }
}

#[test]
fn memory_is_refused_at_every_place_where_an_operation_asks_for_it() {
    let (mut entries, mut model) = (empty(), Pages::new());
    let every_other = (FIRST..LAST).step_by(2).map(|first| Step::Enter {
        place: 1,
        first,
        len: 1,
        align: 1,
        backing: 0,
        skew: 0,
        attr: attr(Prot::READ),
    });
    let refused: usize = every_other
        .map(|step| both(&mut entries, &mut model, &step, true))
        .sum();
    assert_eq!(entries.len(), 200);
    assert!(refused > 15, "the first leaf, and every split after it");
    let out = vec![
        Step::Remove(20, 200),
        Step::Protect(240, 1, RW),
        Step::Remove(FIRST, LAST - FIRST),
    ];
    let refused: Vec<usize> = out
        .iter()
        .map(|step| both(&mut entries, &mut model, step, true))
        .collect();
    assert!(
        refused[0] >= 1 && refused[2] >= 1,
        "the list of what is removed: {refused:?}"
    );
    assert!(entries.is_empty());
}
