//! Three generations of maps: what each inherits, in every combination, with writers at every level and lengths around a page and a window.

use std::cell::Cell;
use std::rc::Rc;

use quire_core::error::FaultError;
use quire_core::map::{Map, MapRequest, Sharing};
use quire_core::types::{Access, Inherit, MAX_WINDOW, PAGE_SIZE, VirtAddr, pages_of};
use quire_tests::{Rig, in_soft_modes, page_at, pattern};

const NO_FORK: &str = "a fork wants two maps with the same addresses";
const ALL: [Inherit; 4] = [Inherit::Share, Inherit::Copy, Inherit::None, Inherit::Zero];

/// The first byte of each page as a generation is to see it; those who share memory share the cells. Nothing: not mapped.
type Seen = Option<Vec<Rc<Cell<u8>>>>;

fn inherited(seen: &Seen, inherit: Inherit) -> Seen {
    let seen = seen.as_ref()?;
    match inherit {
        Inherit::Share => Some(seen.clone()),
        Inherit::Copy => Some(seen.iter().map(|byte| Rc::new(byte.as_ref().clone())).collect()),
        Inherit::None => None,
        Inherit::Zero => Some(seen.iter().map(|_| Rc::default()).collect()),
    }
}

struct Generation<'a> {
    map: &'a Map,
    seen: Seen,
}

impl Generation<'_> {
    fn write(&self, va: VirtAddr, page: usize, byte: u8) {
        if let Some(seen) = &self.seen {
            let page = page % seen.len();
            self.map.store(page_at(va, page as u64), &[byte]).unwrap();
            seen[page].set(byte);
        }
    }

    fn check(&self, va: VirtAddr, what: &str) {
        let Some(seen) = &self.seen else {
            let answer = self.map.fault(va, Access::Read);
            assert_eq!(answer, Err(FaultError::NotMapped(va)), "{what}");
            return;
        };
        for (page, byte) in seen.iter().enumerate() {
            let mut read = [0];
            self.map.load(page_at(va, page as u64), &mut read).unwrap();
            assert_eq!(read[0], byte.get(), "page {page}: {what}");
        }
    }
}

fn three_generations(rig: &Rig, va: VirtAddr, seen: Vec<u8>, first: Inherit, second: Inherit, what: &str) {
    let len = seen.len() as u64 * PAGE_SIZE;
    let old = Generation {
        map: &rig.map,
        seen: Some(seen.into_iter().map(|byte| Rc::new(Cell::new(byte))).collect()),
    };
    for page in 0..2 {
        old.write(va, page * 5, 10);
    }
    rig.map.inherit(va, len, first).unwrap();
    let child = rig.map.fork().unwrap();
    let middle = Generation {
        map: &child,
        seen: inherited(&old.seen, first),
    };
    // Writers before the last generation comes, and after.
    old.write(va, 1, 11);
    middle.write(va, 2, 22);
    if middle.seen.is_some() {
        child.inherit(va, len, second).unwrap();
    }
    let grandchild = child.fork().unwrap();
    let young = Generation {
        map: &grandchild,
        seen: inherited(&middle.seen, second),
    };
    let all = [&old, &middle, &young];
    for (level, generation) in all.into_iter().enumerate() {
        let byte = u8::try_from(100 + level).unwrap();
        generation.write(va, level * 3, byte);
        generation.write(va, 7, byte + 10);
    }
    for (level, generation) in all.into_iter().enumerate() {
        generation.check(va, &format!("generation {level} of {what}, in {:?}", rig.mode));
    }
    // The middle one goes first: what the others see does not depend on it.
    drop(middle);
    drop(child);
    for generation in [&old, &young] {
        generation.write(va, 4, 77);
    }
    young.check(va, &format!("the young one alone, {what}"));
    old.check(va, &format!("the old one alone, {what}"));
}

/// Bytes around a page and around a window.
fn lengths() -> impl Iterator<Item = u64> {
    let window = MAX_WINDOW as u64 / 2;
    [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1]
        .into_iter()
        .chain([window - 1, window, window + 1, 2 * window + 1].map(|pages| pages * PAGE_SIZE))
}

#[test]
fn anonymous_memory_over_three_generations() {
    in_soft_modes(NO_FORK, |rig| {
        for (first, second) in ALL.into_iter().flat_map(|first| ALL.map(|second| (first, second))) {
            for len in lengths() {
                let range = rig.map.map_anonymous(&MapRequest::read_write(len)).unwrap();
                let zeros = vec![0; usize::try_from(pages_of(len)).unwrap()];
                let what = format!("{len} bytes of memory, {first:?} then {second:?}");
                three_generations(&rig, range.start, zeros, first, second, &what);
                rig.map.unmap(range.start, range.len()).unwrap();
            }
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn a_private_file_over_three_generations() {
    in_soft_modes(NO_FORK, |rig| {
        let (script, object) = rig.object(2 * MAX_WINDOW as u64);
        for (first, second) in ALL.into_iter().flat_map(|first| ALL.map(|second| (first, second))) {
            for len in lengths() {
                let request = MapRequest {
                    sharing: Sharing::Private,
                    ..MapRequest::read_write(len)
                };
                let range = rig.map.map(&object, &request).unwrap();
                let bytes = (0..pages_of(len)).map(|i| pattern(i)[0]).collect();
                let what = format!("{len} bytes of a file, {first:?} then {second:?}");
                three_generations(&rig, range.start, bytes, first, second, &what);
                rig.map.unmap(range.start, range.len()).unwrap();
            }
        }
        assert_eq!(script.puts(), 0, "the file is as it was");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_object_that_is_shared_is_seen_by_all_who_inherit_it() {
    in_soft_modes(NO_FORK, |rig| {
        let (_script, object, va) = rig.mapped(9);
        let len = 9 * PAGE_SIZE;
        for second in ALL {
            let bytes: Vec<u8> = (0..9).map(|i| rig.load_page(page_at(va, i))[0]).collect();
            let what = format!("a shared object, Share then {second:?}");
            // A copy of what is shared would show what is written later, until it writes itself: as in the models.
            if second != Inherit::Copy {
                three_generations(&rig, va, bytes, Inherit::Share, second, &what);
            }
        }
        rig.map.sync(va, len, Default::default()).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn generations_may_go_in_any_order() {
    in_soft_modes(NO_FORK, |rig| {
        // All orders in which a map and three copies of copies can go, told by which of the rest goes next.
        for order in 0..24_usize {
            let va = rig
                .map
                .map_anonymous(&MapRequest::read_write(4 * PAGE_SIZE))
                .unwrap()
                .start;
            for page in 0..4 {
                rig.map.store(page_at(va, page), &[1]).unwrap();
            }
            let mut maps = vec![rig.map.fork().unwrap()];
            for level in 1..4_u8 {
                let next = maps[usize::from(level) - 1].fork().unwrap();
                next.store(page_at(va, u64::from(level)), &[level + 1]).unwrap();
                maps.push(next);
            }
            rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
            let mut alive: Vec<u8> = (0..4).collect();
            let mut rest = order;
            while !alive.is_empty() {
                let gone = alive.remove(rest % alive.len());
                rest /= alive.len().max(1) + 1;
                maps[usize::from(gone)].clear().unwrap();
                for level in &alive {
                    for page in 0..4_u8 {
                        let mut byte = [0];
                        let map = &maps[usize::from(*level)];
                        map.load(page_at(va, u64::from(page)), &mut byte).unwrap();
                        let expected = if page >= 1 && page <= *level { page + 1 } else { 1 };
                        assert_eq!(byte[0], expected, "page {page} of generation {level}, order {order}");
                    }
                }
            }
            drop(maps);
            let counts = rig.engine.machine().frame_counts();
            assert_eq!(counts.free, counts.total);
        }
        rig.assert_nothing_left();
    });
}
