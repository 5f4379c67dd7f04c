//! What memory of a mapping's own costs, in faults, entries, frames and operations: counts, which are the same on every processor.

use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::pager::PagerOps;
use quire_core::types::{Advice, Inherit, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use quire_tests::{Mode, Rig, in_all_modes, in_all_modes_with_frames, in_soft_modes, page_at};

const NO_FORK: &str = "a fork wants two maps with the same addresses";

fn anonymous(map: &Map, pages: u64, advice: Advice) -> VirtAddr {
    let request = MapRequest {
        advice,
        ..MapRequest::read_write(pages * PAGE_SIZE)
    };
    map.map_anonymous(&request).expect("a mapping").start
}

fn write_all(map: &Map, va: VirtAddr, pages: u64) {
    for page in 0..pages {
        map.store(page_at(va, page), &[1]).expect("a store");
    }
}

fn frames_used(rig: &Rig) -> u64 {
    let counts = rig.engine.machine().frame_counts();
    counts.total - counts.free
}

/// A parent with 256 pages, all of them written, forks; the child reads them all, in order, and writes every eighth. Answers with the faults
/// before the fork and those behind it.
fn fork_and_touch(rig: &Rig, advice: Advice) -> (u64, u64) {
    const PAGES: u64 = 256;
    let faults = || rig.engine.stats().counts().faults;
    let begin = faults();
    let va = anonymous(&rig.map, PAGES, advice);
    write_all(&rig.map, va, PAGES);
    let before = faults();
    let child = rig.map.fork().expect("a fork");
    for page in 0..PAGES {
        let mut byte = [0];
        child.load(page_at(va, page), &mut byte).expect("a load");
        assert_eq!(byte, [1]);
    }
    for page in (0..PAGES).step_by(8) {
        child.store(page_at(va, page), &[2]).expect("a store");
    }
    let behind = faults();
    drop(child);
    rig.map.clear().expect("nothing to write");
    (before - begin, behind - before)
}

// Measured: 256 faults before the fork, whatever the advice. Behind it 256 + 32 with the window off, 52 + 32 with 3 + 1 + 4: 0.29 of them. In
// order the window's three pages before the faulting one are mapped already, so each fault serves five.
#[test]
fn n12_fork_and_touch_takes_at_most_0_6_of_the_faults_with_the_window() {
    in_soft_modes(NO_FORK, |rig| {
        let (filled_off, off) = fork_and_touch(&rig, Advice::Random);
        let (filled_on, on) = fork_and_touch(&rig, Advice::Normal);
        assert_eq!((filled_off, filled_on), (256, 256), "each page of zeros is a fault");
        assert_eq!(off, 256 + 32, "{:?}", rig.mode);
        assert!(on * 10 <= off * 6, "{on} faults of {off} in {:?}", rig.mode);
        eprintln!("fork and touch: {on} faults with the window, {off} without");
        rig.assert_nothing_left();
    });
}

/// What a mapping is to be like, other than by default.
fn wanted(len: u64) -> MapRequest {
    MapRequest {
        prot: Prot::READ,
        inherit: Inherit::Share,
        advice: Advice::Random,
        ..MapRequest::read_write(len)
    }
}

const NEIGHBOURS: u64 = 64;

/// What as many mappings beside each other took.
#[derive(PartialEq, Eq, Debug)]
struct Taken {
    /// The most entries at any time.
    most: usize,
    /// Entries that are left.
    left: usize,
    /// Times that the map was changed.
    changes: u64,
}

/// Maps as many neighbours of four pages, each by `map`, which tells after each of its steps. With `touch` each is read before the next one is mapped.
fn neighbours(rig: &Rig, touch: bool, map: impl Fn(&Map, VirtAddr, u64, &mut dyn FnMut())) -> Taken {
    let len = 4 * PAGE_SIZE;
    let version = rig.map.version();
    let mut most = 0;
    for i in 0..NEIGHBOURS {
        let start = VirtAddr(rig.map.base().0 + i * len);
        map(&rig.map, start, len, &mut || most = most.max(rig.map.entry_count()));
        if touch {
            rig.map.load(start, &mut [0]).expect("zeros");
        }
    }
    let taken = Taken {
        most,
        left: rig.map.entry_count(),
        changes: rig.map.version() - version,
    };
    rig.map.clear().expect("nothing to write");
    taken
}

fn in_one_step(map: &Map, start: VirtAddr, len: u64, step: &mut dyn FnMut()) {
    let place = Place::FixedNoReplace(start);
    let request = MapRequest { place, ..wanted(len) };
    map.map_anonymous(&request).expect("a mapping");
    step();
}

fn in_two_steps(map: &Map, start: VirtAddr, len: u64, step: &mut dyn FnMut()) {
    let place = Place::FixedNoReplace(start);
    let wanted = wanted(len);
    let request = MapRequest {
        place,
        ..MapRequest::read_write(len)
    };
    map.map_anonymous(&request).expect("a mapping");
    step();
    map.protect(start, len, wanted.prot).expect("mapped");
    step();
    map.inherit(start, len, wanted.inherit).expect("mapped");
    step();
    map.advise(start, len, wanted.advice).expect("mapped");
    step();
}

// Measured, for 64 neighbours. One step: 1 entry at any time, 64 changes of the map. Two steps: 256 changes and, as long as nobody touches them,
// one entry more at a time and 1 left. Touched in between, 64 are left: each has its own memory by the time it is like its neighbour. A touch
// changes the map once where it makes memory: once in all, or once each.
#[test]
fn attributes_in_the_request_make_neighbours_one_entry_at_once_and_attributes_set_afterwards_do_not() {
    in_all_modes(|rig| {
        let alone = |changes| Taken {
            most: 1,
            left: 1,
            changes,
        };
        let apart = usize::try_from(NEIGHBOURS).expect("small");
        // A machine with real addresses makes the memory when it is mapped.
        let at_once = rig.mode.is_linux();
        let made = |n: u64| if at_once { 0 } else { n };

        assert_eq!(neighbours(&rig, false, in_one_step), alone(NEIGHBOURS));
        assert_eq!(neighbours(&rig, true, in_one_step), alone(NEIGHBOURS + made(1)));

        let untouched = neighbours(&rig, false, in_two_steps);
        let touched = neighbours(&rig, true, in_two_steps);
        assert_eq!(
            (untouched.changes, touched.changes),
            (4 * NEIGHBOURS, 4 * NEIGHBOURS + made(NEIGHBOURS)),
            "{:?}",
            rig.mode
        );
        let expected = if at_once { (apart, apart) } else { (2, 1) };
        assert_eq!((untouched.most, untouched.left), expected, "{:?}", rig.mode);
        assert_eq!((touched.most, touched.left), (apart, apart), "{:?}", rig.mode);
        rig.assert_nothing_left();
    });
}

const GENERATIONS: u64 = 1000;
const CHAIN_PAGES: u64 = 16;

/// Frames enough for every page that the chain ever writes.
fn chained(mode: Mode) -> Rig {
    Rig::new(mode.with_frames(GENERATIONS + CHAIN_PAGES + 64, 0))
}

#[test]
fn a_chain_of_1000_forks_uses_the_frames_that_can_be_reached_and_no_more() {
    eprintln!("on soft machines only: {NO_FORK}");
    for rig in Mode::soft().map(chained) {
        let va = anonymous(&rig.map, CHAIN_PAGES, Advice::Normal);
        write_all(&rig.map, va, CHAIN_PAGES);
        let mut last = rig.map.fork().expect("a fork");
        rig.map.clear().expect("nothing to write");
        for generation in 0..GENERATIONS {
            let next = last.fork().expect("a fork");
            let at = page_at(va, generation % CHAIN_PAGES);
            next.store(at, &generation.to_le_bytes()).expect("a store");
            // The page that was written, and what it is a copy of.
            assert_eq!(frames_used(&rig), CHAIN_PAGES + 1, "{generation} {:?}", rig.mode);
            last = next;
            assert_eq!(frames_used(&rig), CHAIN_PAGES, "{generation} {:?}", rig.mode);
        }
        assert_chain(&last, va);
        // Of a thousand stores those that hold one of the pages.
        let (objects, _) = rig.engine.object_counts();
        assert!(
            objects as u64 <= CHAIN_PAGES,
            "{objects} objects are left of a thousand"
        );
        drop(last);
        rig.assert_nothing_left();
    }
}

#[test]
fn a_chain_of_1000_forks_whose_ancestors_live_uses_a_frame_for_each_write() {
    eprintln!("on soft machines only: {NO_FORK}");
    for rig in Mode::soft().map(chained) {
        let va = anonymous(&rig.map, CHAIN_PAGES, Advice::Normal);
        write_all(&rig.map, va, CHAIN_PAGES);
        let mut all = vec![rig.map.fork().expect("a fork")];
        for generation in 0..GENERATIONS {
            let next = all[all.len() - 1].fork().expect("a fork");
            let at = page_at(va, generation % CHAIN_PAGES);
            next.store(at, &generation.to_le_bytes()).expect("a store");
            all.push(next);
            assert_eq!(
                frames_used(&rig),
                CHAIN_PAGES + generation + 1,
                "{generation} {:?}",
                rig.mode
            );
        }
        assert_chain(&all[all.len() - 1], va);
        // The eldest still sees what it had.
        let mut byte = [0];
        all[0].load(va, &mut byte).expect("a load");
        assert_eq!(byte, [1]);
        // Without those in between the frames are those that the first and the last can reach.
        let last = all.pop().expect("the last one");
        all.truncate(1);
        assert_eq!(frames_used(&rig), 2 * CHAIN_PAGES, "{:?}", rig.mode);
        drop((all, last));
        rig.assert_nothing_left();
    }
}

/// Each page holds what the last generation wrote that wrote to it.
fn assert_chain(last: &Map, va: VirtAddr) {
    for generation in GENERATIONS - CHAIN_PAGES..GENERATIONS {
        let mut bytes = [0; 8];
        let at = page_at(va, generation % CHAIN_PAGES);
        last.load(at, &mut bytes).expect("a load");
        assert_eq!(bytes, generation.to_le_bytes());
    }
}

/// The same where a fork cannot be: each generation is a copy at other addresses.
#[test]
fn a_chain_of_1000_copies_uses_the_frames_that_can_be_reached_and_no_more() {
    for rig in Mode::exact().into_iter().map(chained) {
        let mut last = anonymous(&rig.map, CHAIN_PAGES, Advice::Normal);
        write_all(&rig.map, last, CHAIN_PAGES);
        for generation in 0..GENERATIONS {
            let next = rig.map.copied(last, CHAIN_PAGES * PAGE_SIZE).expect("a copy");
            let at = page_at(next, generation % CHAIN_PAGES);
            rig.map.store(at, &generation.to_le_bytes()).expect("a store");
            assert_eq!(frames_used(&rig), CHAIN_PAGES + 1, "{generation} {:?}", rig.mode);
            rig.map.unmap(last, CHAIN_PAGES * PAGE_SIZE).expect("mapped");
            last = next;
            assert_eq!(frames_used(&rig), CHAIN_PAGES, "{generation} {:?}", rig.mode);
        }
        assert_chain(&rig.map, last);
        rig.assert_nothing_left();
    }
}

#[test]
fn f19_private_memory_twice_what_there_is_goes_to_swap_at_least_16_pages_at_a_time() {
    in_all_modes_with_frames(256, |rig| {
        let script = rig.swap(PagerOps::PUT, 256, 1024);
        let va = anonymous(&rig.map, 512, Advice::Normal);
        let filling = |page: u64| (page + 1).to_le_bytes().repeat(PAGE_BYTES / 8);
        for page in 0..512 {
            rig.map.store(page_at(va, page), &filling(page)).expect("a store");
        }
        let counts = rig.engine.swap_counts();
        assert!(counts.pages_out >= 256, "{counts:?} in {:?}", rig.mode);
        assert!(counts.puts * 16 <= counts.pages_out, "{counts:?} in {:?}", rig.mode);
        assert_eq!(script.puts() as u64, counts.puts);
        eprintln!("{} pages in {} puts", counts.pages_out, counts.puts);
        for page in 0..512 {
            assert!(rig.load_page(page_at(va, page)) == filling(page), "page {page}");
        }
        rig.assert_nothing_left();
    });
}
