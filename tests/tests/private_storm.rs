//! Threads that fork, copy, write, unmap and wire at the same time, with a page daemon that takes what it can. On every machine; on
//! soft ones under ThreadSanitizer as well (`make tsan`): real memory is the kernel's, whose order of things it does not see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use quire_core::fork::CopyRequest;
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::PagerOps;
use quire_core::types::{Inherit, PAGE_SIZE, VirtAddr};
use quire_tests::{Dice, Mode, Rig, page_at, watch};

const PAGES: u64 = 24;
const FRAMES: u64 = 64;
const ROUNDS: u64 = 150;

fn rig(mode: Mode) -> Rig {
    let options = EngineOptions {
        daemon_thread: true,
        ..EngineOptions::default()
    };
    let rig = Rig::with_options(mode.with_frames(FRAMES, 4), &options);
    let _script = rig.swap(PagerOps::PUT, 64, 4096);
    rig
}

/// A page says who wrote it and when; what a copy shows is a state that the page had.
fn stamp(map: &Map, va: VirtAddr, round: u64) {
    let bytes = round.to_le_bytes().repeat(64);
    map.copy_in(va, &bytes).unwrap();
}

fn stamped(map: &Map, va: VirtAddr) -> u64 {
    let mut bytes = [0; 512];
    map.copy_out(va, &mut bytes).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn copy_of(rig: &Rig, start: VirtAddr) -> VirtAddr {
    let request = CopyRequest {
        start,
        len: PAGES * PAGE_SIZE,
        place: Place::Anywhere {
            hint: VirtAddr(0),
            align: PAGE_SIZE,
        },
        serve: rig.mode.serve(),
    };
    rig.map.copy_to(&rig.map, &request).unwrap().start
}

#[test]
fn copies_of_memory_that_is_written_meanwhile_show_one_moment_of_each_page_and_stay_so() {
    copies_show_one_moment(Mode::soft());
}

#[test]
fn copies_of_memory_that_is_written_meanwhile_show_one_moment_in_real_memory() {
    copies_show_one_moment(Mode::all().into_iter().filter(Mode::is_linux));
}

fn copies_show_one_moment(modes: impl IntoIterator<Item = Mode>) {
    for mode in modes {
        eprintln!("mode: {mode:?}");
        let rig = Arc::new(rig(mode));
        let _watch = watch(&rig.engine);
        let va = rig
            .map
            .map_anonymous(&MapRequest::read_write(PAGES * PAGE_SIZE))
            .unwrap()
            .start;
        let done = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..2)
            .map(|who| {
                let (rig, done) = (rig.clone(), done.clone());
                thread::spawn(move || {
                    let mut dice = Dice(who);
                    let mut round = BTreeMap::new();
                    while !done.load(Ordering::Relaxed) {
                        // Each writer has its own pages.
                        let page = dice.roll(PAGES / 2) * 2 + who;
                        let round = round.entry(page).or_insert(0);
                        *round += 1;
                        stamp(&rig.map, page_at(va, page), *round);
                    }
                    round
                })
            })
            .collect();
        for round in 0..ROUNDS / 3 {
            let copy = copy_of(&rig, va);
            let first: Vec<u64> = (0..PAGES).map(|page| stamped(&rig.map, page_at(copy, page))).collect();
            let page = round % PAGES;
            stamp(&rig.map, page_at(copy, page), u64::MAX);
            for (i, seen) in first.iter().enumerate() {
                let now = stamped(&rig.map, page_at(copy, i as u64));
                let expected = if i as u64 == page { u64::MAX } else { *seen };
                assert_eq!(now, expected, "page {i} of a copy changed");
                assert!(
                    stamped(&rig.map, page_at(va, i as u64)) >= *seen,
                    "the original went back"
                );
            }
            rig.map.unmap(copy, PAGES * PAGE_SIZE).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for (who, writer) in writers.into_iter().enumerate() {
            let round = writer.join().unwrap();
            for page in (who as u64..PAGES).step_by(2) {
                assert_eq!(
                    stamped(&rig.map, page_at(va, page)),
                    round.get(&page).copied().unwrap_or(0),
                    "a write was lost"
                );
            }
        }
        Arc::into_inner(rig).unwrap().assert_nothing_left();
    }
}

#[test]
fn families_of_maps_that_fork_write_wire_and_go_lose_nothing() {
    eprintln!("on soft machines only: a fork wants two maps with the same addresses");
    for mode in Mode::soft() {
        eprintln!("mode: {mode:?}");
        let rig = rig(mode);
        let _watch = watch(&rig.engine);
        let va = rig
            .map
            .map_anonymous(&MapRequest::read_write(PAGES * PAGE_SIZE))
            .unwrap()
            .start;
        // The last page all share.
        let shared = page_at(va, PAGES - 1);
        for page in 0..PAGES {
            stamp(&rig.map, page_at(va, page), page + 1);
        }
        rig.map.inherit(shared, PAGE_SIZE, Inherit::Share).unwrap();
        thread::scope(|scope| {
            for who in 0..3_u64 {
                let rig = &rig;
                scope.spawn(move || family(&rig.map, va, who));
            }
        });
        for page in 0..PAGES - 1 {
            assert_eq!(
                stamped(&rig.map, page_at(va, page)),
                page + 1,
                "a child's write came through"
            );
        }
        assert!(
            stamped(&rig.map, shared) >= 1000,
            "what is shared was written by children"
        );
        rig.assert_nothing_left();
    }
}

/// Forks, and forks of forks, each of which writes some pages and finds all others as they were.
fn family(parent: &Map, va: VirtAddr, who: u64) {
    let mut dice = Dice(who + 10);
    for round in 0..ROUNDS / 10 {
        let child = parent.fork().unwrap();
        let own = dice.roll(PAGES - 1);
        let value = 1000 + who * 1000 + round;
        stamp(&child, page_at(va, own), value);
        stamp(&child, page_at(va, PAGES - 1), value);
        let wired = dice.one_in(3) && child.wire(page_at(va, own), PAGE_SIZE).is_ok();
        let grandchild = child.fork().unwrap();
        let other = dice.roll(PAGES - 1);
        stamp(&grandchild, page_at(va, other), value + 1);
        if dice.one_in(2) {
            grandchild.unmap(page_at(va, 3), 4 * PAGE_SIZE).unwrap();
        } else {
            for page in 0..PAGES - 1 {
                let expected = match page {
                    page if page == other => value + 1,
                    page if page == own => value,
                    page => page + 1,
                };
                assert_eq!(stamped(&grandchild, page_at(va, page)), expected);
            }
        }
        drop(grandchild);
        assert_eq!(stamped(&child, page_at(va, own)), value);
        if wired {
            child.unwire(page_at(va, own), PAGE_SIZE).unwrap();
        }
    }
}
