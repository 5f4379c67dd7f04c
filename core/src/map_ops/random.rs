//! The verbs at random against the naive map, with memory and without.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::model::{FIRST, LAST, Numbered, Pages, RW, at, attr, check, empty, first_fit, pages, snapshot, spread};
use super::*;
use crate::alloc_fallible::failing;
use crate::types::{Advice, ByteOff, Inherit, PAGE_SIZE};

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
        Step::Protect(a, n, prot) => entries.protect(at(a), size(n), prot, |r, was| {
            told.push((r, was));
            Ok(())
        })?,
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
    let out = [
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
