//! Anonymous objects and swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::io::Direction;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::PagerOps;
use quire_core::soft::SoftConfig;
use quire_core::swap::{SwapAreaId, SwapCounts, SwapRefusal};
use quire_core::types::{MAX_OBJECT_SIZE, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Dice, Mode, Rig, Script, Twist, in_all_modes, in_all_modes_with_frames, page_at, watch};

/// An anonymous object, mapped from its start to its end to be read and written.
fn mapped(rig: &Rig, pages: u64) -> (ObjectRef, VirtAddr) {
    let object = rig.engine.create_anonymous(pages * PAGE_SIZE).expect("an object");
    let range = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .expect("a mapping");
    (object, range.start)
}

/// What a scripted pager opened, as a swap area.
fn opening(ops: PagerOps, pages: u64) -> (Script, Opening) {
    let (script, pager) = Script::with(ops, 256);
    (script, quire_tests::opening(pager, pages))
}

/// A swap area of so many pages.
fn area(rig: &Rig, pages: u64, priority: i32) -> (Script, SwapAreaId) {
    let (script, opening) = opening(PagerOps::PUT, pages);
    let id = rig.engine.add_swap(opening, priority).expect("an area");
    (script, id)
}

/// What page `i` is filled with, the nth time.
fn filling(i: u64, n: u64) -> Vec<u8> {
    (i * 1000 + n + 1).to_le_bytes().repeat(PAGE_BYTES / 8)
}

fn fill(rig: &Rig, va: VirtAddr, pages: u64, n: u64) {
    for i in 0..pages {
        rig.map.store(page_at(va, i), &filling(i, n)).expect("a store");
    }
}

fn assert_filled(rig: &Rig, va: VirtAddr, pages: u64, n: u64) {
    for i in 0..pages {
        assert!(
            rig.load_page(page_at(va, i)) == filling(i, n),
            "page {i} in {:?}",
            rig.mode
        );
    }
}

/// Sends everything to swap that can go.
fn page_out(rig: &Rig) {
    let before = rig.engine.daemon_targets();
    rig.want_all_free();
    while rig.engine.daemon_step().freed > 0 {}
    rig.engine.set_daemon_targets(before);
}

fn used(rig: &Rig) -> u64 {
    rig.engine.swap_counts().used
}

#[test]
fn anonymous_memory_begins_as_zeros_keeps_what_is_stored_and_is_not_written_when_it_ends() {
    in_all_modes(|rig| {
        let (object, va) = mapped(&rig, 8);
        assert!(object.is_anonymous() && !object.has_slot(PageIndex(0)));
        assert_eq!(rig.load_page(page_at(va, 3)), [0; PAGE_BYTES]);
        rig.map.store(page_at(va, 3), &[7; 100]).expect("a store");
        assert_eq!(rig.load_page(page_at(va, 3))[..101], [&[7; 100][..], &[0]].concat());
        rig.engine.sync(FlushFlags::empty()).expect("memory is not synced");
        object
            .object()
            .flush_all(FlushFlags::DURABLE)
            .expect("memory is not synced");
        assert_eq!(rig.engine.stats().counts().puts, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn an_anonymous_object_may_be_as_large_as_any_and_no_larger() {
    in_all_modes(|rig| {
        let object = rig.engine.create_anonymous(MAX_OBJECT_SIZE).expect("an object");
        assert_eq!(object.size(), MAX_OBJECT_SIZE);
        rig.engine.create_anonymous(MAX_OBJECT_SIZE + 1).unwrap_err();
        object.release().expect("nothing to write");
        rig.assert_nothing_left();
    });
}

#[test]
fn memory_may_be_four_times_what_there_is_and_its_end_frees_all_slots() {
    in_all_modes_with_frames(64, |rig| {
        let _watch = watch(&rig.engine);
        let (_script, _) = area(&rig, 400, 0);
        let (object, va) = mapped(&rig, 256);
        fill(&rig, va, 256, 0);
        assert_filled(&rig, va, 256, 0);
        fill(&rig, va, 256, 1);
        assert_filled(&rig, va, 256, 1);
        let counts = rig.engine.swap_counts();
        assert!(counts.used >= 192 && counts.used <= 256, "{counts:?}");
        assert!(counts.pages_in >= 192 && counts.pages_out >= 192, "{counts:?}");
        object.release().expect("mapped still");
        rig.map.clear().expect("nothing to write");
        assert_eq!(used(&rig), 0);
        rig.assert_nothing_left();
    });
}

#[test]
fn f19_allocating_twice_the_memory_in_sequence_writes_at_least_16_pages_at_a_time() {
    in_all_modes_with_frames(256, |rig| {
        let (script, _) = area(&rig, 1024, 0);
        let (object, va) = mapped(&rig, 512);
        fill(&rig, va, 512, 0);
        let counts = rig.engine.swap_counts();
        assert!(counts.pages_out >= 256, "{counts:?}");
        assert!(counts.puts * 16 <= counts.pages_out, "{counts:?} in {:?}", rig.mode);
        assert_eq!(script.puts() as u64, counts.puts);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn what_was_written_together_is_read_together() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 64, 0);
        let (object, va) = mapped(&rig, 32);
        fill(&rig, va, 32, 0);
        page_out(&rig);
        assert_eq!((object.resident(), used(&rig)), (0, 32));
        assert_filled(&rig, va, 32, 0);
        assert!(script.gets() < 32, "{:?}", script.calls());
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn s189_a_page_that_becomes_dirty_releases_its_slot_and_a_clean_one_keeps_it() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 64, 0);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        assert!((0..4).all(|i| object.has_slot(PageIndex(i))));
        assert_filled(&rig, va, 4, 0);
        assert_eq!(used(&rig), 4, "read, the pages are as they are in swap");
        let puts = script.puts();
        page_out(&rig);
        assert_eq!(
            (object.resident(), script.puts()),
            (0, puts),
            "clean pages are not written again"
        );
        rig.map.store(page_at(va, 1), &filling(1, 5)).expect("a store");
        assert!(!object.has_slot(PageIndex(1)) && object.has_slot(PageIndex(2)));
        assert_eq!(used(&rig), 3);
        page_out(&rig);
        assert!(object.has_slot(PageIndex(1)));
        assert!(rig.load_page(page_at(va, 1)) == filling(1, 5));
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn s189_pages_that_were_only_read_are_zeros_without_a_slot() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 64, 0);
        let (object, va) = mapped(&rig, 4);
        assert_eq!(rig.load_page(va), [0; PAGE_BYTES]);
        page_out(&rig);
        assert_eq!((object.resident(), used(&rig), script.puts()), (0, 0, 0));
        assert_eq!(rig.load_page(va), [0; PAGE_BYTES]);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn n13_a_slot_that_cannot_be_read_is_an_error_for_its_page_and_never_used_again() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 8, 0);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        assert_eq!(script.calls(), [Call::Put(0, 4)]);
        script.bad_pages([2]);
        let error = rig.map.load(page_at(va, 2), &mut [0]).unwrap_err().error;
        assert!(
            matches!(&error, FaultError::Pager { index: PageIndex(2), error } if error.cause == Cause::Io),
            "{error}"
        );
        assert!(error.to_string().contains("swap area scripted pager"), "{error}");
        assert!(object.lookup(PageIndex(2)).is_none(), "the page is freed");
        assert_eq!(rig.engine.swap_counts().bad, 1);
        for i in [0, 1, 3] {
            assert!(
                rig.load_page(page_at(va, i)) == filling(i, 0),
                "its neighbours are well"
            );
        }
        assert_eq!(rig.engine.swap_counts().bad, 1, "counted once");
        rig.map.clear().expect("nothing to write");
        object.release().expect("nothing to write");
        assert_eq!(used(&rig), 0);

        script.bad_pages([]);
        let (object, va) = mapped(&rig, 7);
        fill(&rig, va, 7, 1);
        page_out(&rig);
        assert_eq!(used(&rig), 7);
        let reused = |call: &Call| matches!(call, Call::Put(first, n) if (*first..first + *n as u64).contains(&2));
        assert!(!script.calls()[1..].iter().any(reused), "{:?}", script.calls());
        assert_filled(&rig, va, 7, 1);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn n13_a_read_that_may_succeed_later_ruins_no_slot() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 8, 0);
        let (object, va) = mapped(&rig, 1);
        fill(&rig, va, 1, 0);
        page_out(&rig);
        script.next_gets([Twist::Fail(Cause::Again)]);
        rig.map.load(va, &mut [0]).unwrap_err();
        assert_eq!(rig.engine.swap_counts().bad, 0);
        assert_filled(&rig, va, 1, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn without_swap_memory_that_is_full_is_an_error_at_once_and_an_area_mends_it() {
    in_all_modes_with_frames(32, |rig| {
        let _watch = watch(&rig.engine);
        let (object, va) = mapped(&rig, 64);
        let mut stored = 0;
        let error = loop {
            match rig.map.store(page_at(va, stored), &filling(stored, 0)) {
                Ok(()) => stored += 1,
                Err(stopped) => break stopped.error,
            }
        };
        assert_eq!(error, FaultError::NoMemory);
        assert!(stored >= 16, "{stored} in {:?}", rig.mode);
        let counts = rig.engine.swap_counts();
        assert_eq!((counts.refusal, counts.refused), (Some(SwapRefusal::NoArea), 0));
        assert_eq!(rig.engine.daemon_step().failed, 0, "nothing is tried in vain");
        for i in 0..stored {
            assert!(rig.load_page(page_at(va, i)) == filling(i, 0), "nothing is lost");
        }
        let (_script, _) = area(&rig, 64, 0);
        fill(&rig, va, 64, 1);
        assert_filled(&rig, va, 64, 1);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn when_swap_is_full_nothing_hangs_nothing_is_lost_and_the_counts_say_why() {
    in_all_modes_with_frames(32, |rig| {
        let _watch = watch(&rig.engine);
        let (script, _) = area(&rig, 16, 0);
        let (object, va) = mapped(&rig, 128);
        let mut stored = 0;
        while rig.map.store(page_at(va, stored), &filling(stored, 0)).is_ok() {
            stored += 1;
        }
        let counts = rig.engine.swap_counts();
        assert_eq!(counts.refusal, Some(SwapRefusal::Full { areas: 1, slots: 16 }));
        assert_eq!(counts.used, 16);
        let words = counts.refusal.expect("there is one").to_string();
        assert!(words.contains("all 16 pages of 1 swap area(s) are taken"), "{words}");
        let puts = script.puts();
        for _ in 0..10 {
            rig.map.store(page_at(va, 127), &[1]).unwrap_err();
        }
        assert_eq!(script.puts(), puts, "nothing is tried in vain");
        let (_another, _) = area(&rig, 16, 0);
        assert_filled(&rig, va, stored, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn areas_with_a_higher_priority_are_filled_first_and_equal_ones_in_turns() {
    in_all_modes(|rig| {
        let (low, _) = area(&rig, 64, 1);
        let (high, _) = area(&rig, 4, 2);
        let (also_low, _) = area(&rig, 64, 1);
        let mut objects = Vec::new();
        for n in 0..9 {
            let (object, va) = mapped(&rig, 2);
            fill(&rig, va, 2, n);
            page_out(&rig);
            objects.push((object, va, n));
        }
        assert_eq!(high.puts(), 2);
        assert!(high.calls().contains(&Call::Put(0, 2)) && high.calls().contains(&Call::Put(2, 2)));
        assert!(
            low.puts().abs_diff(also_low.puts()) <= 1,
            "{:?} {:?}",
            low.calls(),
            also_low.calls()
        );
        assert_eq!(low.puts() + also_low.puts(), 7);
        for (object, va, n) in objects {
            assert_filled(&rig, va, 2, n);
            object.release().expect("mapped still");
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn a_freed_slot_is_told_to_its_pager_before_it_is_used_again() {
    in_all_modes(|rig| {
        let (script, opening) = opening(PagerOps::PUT | PagerOps::FREE_SPACE, 8);
        rig.engine.add_swap(opening, 0).expect("an area");
        let (object, va) = mapped(&rig, 8);
        fill(&rig, va, 8, 0);
        page_out(&rig);
        assert_eq!(script.calls(), [Call::Put(0, 8)]);
        for i in 2..5 {
            rig.map.store(page_at(va, i), &filling(i, 1)).expect("a store");
        }
        page_out(&rig);
        let after: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|call| !matches!(call, Call::Get(..)))
            .collect();
        assert_eq!(after[1..], [Call::FreeSpace(2, 3), Call::Put(2, 3)]);
        rig.map.clear().expect("nothing to write");
        object.release().expect("nothing to write");
        assert_eq!(script.calls().last(), Some(&Call::FreeSpace(0, 8)));
        rig.assert_nothing_left();
        assert_eq!(script.calls().last(), Some(&Call::Close));
    });
}

#[test]
fn whoever_finds_no_room_while_a_pager_is_told_of_some_waits_for_it() {
    in_all_modes_with_frames(32, |rig| {
        let _watch = watch(&rig.engine);
        let (script, opening) = opening(PagerOps::PUT | PagerOps::FREE_SPACE, 64);
        rig.engine.add_swap(opening, 0).expect("an area");
        let old = rig.another_map();
        let object = rig.engine.create_anonymous(64 * PAGE_SIZE).expect("an object");
        let range = old
            .map(&object, &MapRequest::read_write(64 * PAGE_SIZE))
            .expect("a mapping");
        for i in 0..64 {
            old.store(page_at(range.start, i), &[1]).expect("a store");
        }
        page_out(&rig);
        assert_eq!(used(&rig), 64);
        object.release().expect("mapped still");
        let (go_on, told) = std::sync::mpsc::channel();
        let being_told = Arc::new(AtomicBool::new(false));
        let hears = being_told.clone();
        script.on_call(move |call| {
            if matches!(call, Call::FreeSpace(..)) && !hears.swap(true, Ordering::AcqRel) {
                told.recv().expect("the test goes on");
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| old.clear().expect("nothing to write"));
            while !being_told.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let (object, va) = mapped(&rig, 48);
            let before = rig.engine.stats().counts().memory_waits;
            let engine = &rig.engine;
            scope.spawn(move || {
                while engine.stats().counts().memory_waits == before {
                    thread::yield_now();
                }
                go_on.send(()).expect("it waits");
            });
            fill(&rig, va, 48, 0);
            assert_filled(&rig, va, 48, 0);
            assert_eq!(rig.engine.swap_counts().refusal, None);
            object.release().expect("mapped still");
        });
        drop(old);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_area_whose_pager_panics_is_not_used_any_more() {
    in_all_modes(|rig| {
        let (script, id) = area(&rig, 16, 2);
        let (object, va) = mapped(&rig, 4);
        let (other, other_va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        script.before_puts(|| panic!("scripted"));
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page_out(&rig)));
        assert!(unwound.is_err());
        let areas = rig.engine.swap_areas().expect("memory");
        assert!(
            areas[0].broken.as_ref().is_some_and(|why| why.contains("panicked")),
            "{areas:?}"
        );
        assert!(object.is_quarantined(), "its bytes may be in use still");
        let (_script, _) = area(&rig, 16, 1);
        fill(&rig, other_va, 4, 0);
        page_out(&rig);
        assert_eq!(other.resident(), 0);
        assert_filled(&rig, other_va, 4, 0);
        rig.engine.remove_swap(id).unwrap_err();
    });
}

#[test]
fn an_area_that_fails_is_left_out_and_used_again_when_it_has_recovered() {
    in_all_modes(|rig| {
        let _watch = watch(&rig.engine);
        let (first, _) = area(&rig, 64, 2);
        let (second, _) = area(&rig, 64, 1);
        first.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        let (object, va) = mapped(&rig, 8);
        fill(&rig, va, 8, 0);
        page_out(&rig);
        assert_eq!((object.resident(), second.puts()), (0, 1), "the next area takes it");
        assert_filled(&rig, va, 8, 0);

        second.all_puts(Some(Twist::Fail(Cause::Io)));
        fill(&rig, va, 8, 1);
        page_out(&rig);
        assert_eq!(object.resident(), 8, "dirty pages stay");
        let SwapCounts { refusal, refused, .. } = rig.engine.swap_counts();
        assert_eq!(refusal, Some(SwapRefusal::Failed(Cause::Io)));
        assert!(refused > 0);
        assert_eq!(object.dirty_pages(), 8);

        first.all_puts(None);
        page_out(&rig);
        assert_eq!(object.resident(), 0);
        assert_filled(&rig, va, 8, 1);
        assert_eq!(
            rig.engine.swap_counts().bad,
            0,
            "it was not said which page was damaged"
        );
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn n13_a_slot_that_cannot_be_written_is_not_used_again_and_its_page_goes_elsewhere() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 16, 2);
        let (other, _) = area(&rig, 16, 1);
        script.bad_pages([1]);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        assert_eq!(object.resident(), 0);
        assert_eq!(other.calls(), [Call::Put(0, 1)]);
        assert_eq!(rig.engine.swap_counts().bad, 1);
        script.bad_pages([]);
        assert_filled(&rig, va, 4, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn a_removed_area_gives_back_all_that_was_in_it() {
    in_all_modes(|rig| {
        let (script, id) = area(&rig, 64, 0);
        let (object, va) = mapped(&rig, 48);
        fill(&rig, va, 48, 0);
        page_out(&rig);
        rig.engine.remove_swap(id).expect("memory suffices");
        assert_eq!(script.calls().last(), Some(&Call::Close));
        assert!(script.gets() <= 3, "{:?}", script.calls());
        assert_eq!(rig.engine.swap_counts().areas, 0);
        assert_eq!(object.dirty_pages(), 48);
        assert_filled(&rig, va, 48, 0);
        assert_eq!(
            rig.engine.remove_swap(id).unwrap_err().to_string(),
            "there is no such swap area; it may have been removed"
        );
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn what_does_not_fit_in_memory_goes_from_a_removed_area_to_another() {
    in_all_modes_with_frames(32, |rig| {
        let _watch = watch(&rig.engine);
        let (_script, id) = area(&rig, 128, 1);
        let (object, va) = mapped(&rig, 100);
        fill(&rig, va, 100, 0);
        let (_other, other_id) = area(&rig, 128, 0);
        rig.engine.remove_swap(id).expect("there is room");
        assert_filled(&rig, va, 100, 0);
        let error = rig.engine.remove_swap(other_id).unwrap_err().to_string();
        assert!(error.contains("fit neither in memory nor in other areas"), "{error}");
        let areas = rig.engine.swap_areas().expect("memory");
        assert!(
            areas.len() == 1 && areas[0].id == other_id && !areas[0].leaving,
            "{areas:?}"
        );
        fill(&rig, va, 100, 1);
        assert_filled(&rig, va, 100, 1);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn an_area_with_pages_that_cannot_be_read_is_not_removed() {
    in_all_modes(|rig| {
        let (script, id) = area(&rig, 16, 0);
        let (object, va) = mapped(&rig, 8);
        fill(&rig, va, 8, 0);
        page_out(&rig);
        script.bad_pages([3, 5]);
        let error = rig.engine.remove_swap(id).unwrap_err().to_string();
        assert!(
            error.contains("scripted pager cannot be removed: 2 pages in it cannot be read"),
            "{error}"
        );
        assert_eq!(used(&rig), 2, "what can be read was brought back");
        script.bad_pages([]);
        rig.engine.remove_swap(id).expect("it can be read again");
        assert_filled(&rig, va, 8, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn an_area_can_be_removed_while_its_pages_are_used() {
    in_all_modes_with_frames(64, |rig| {
        let _watch = watch(&rig.engine);
        let (_kept, _) = area(&rig, 512, 0);
        let (object, va) = mapped(&rig, 128);
        fill(&rig, va, 128, 0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (rig, stop) = (&rig, &stop);
            for thread in 0..2 {
                scope.spawn(move || {
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for i in (thread..128).step_by(2) {
                            let bytes = rig.load_page(page_at(va, i));
                            assert!(bytes == filling(i, n), "page {i}, time {n}, in {:?}", rig.mode);
                            rig.map.store(page_at(va, i), &filling(i, n + 1)).expect("a store");
                        }
                        n += 1;
                    }
                });
            }
            for _ in 0..10 {
                let (_script, id) = area(rig, 64, 1);
                let had = rig.engine.swap_counts().pages_out;
                while rig.engine.swap_counts().pages_out < had + 20 {
                    thread::yield_now();
                }
                rig.engine.remove_swap(id).expect("the other area has room");
            }
            stop.store(true, Ordering::Relaxed);
        });
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn openings_that_cannot_be_swap_are_refused_with_a_sentence_and_closed() {
    in_all_modes(|rig| {
        let refused = |ops, size, words: &str| {
            let (script, mut opening) = opening(ops, 0);
            opening.size = size;
            let error = rig.engine.add_swap(opening, 0).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!(script.calls(), [Call::Close]);
        };
        refused(PagerOps::empty(), PAGE_SIZE, "open it for writing");
        refused(PagerOps::PUT, PAGE_SIZE - 1, "at least one whole page");
        refused(PagerOps::PUT, u64::MAX, "less than 16 TiB");
        let (script, _) = Script::new();
        let named = || Opening {
            pager: script.again(PagerOps::PUT),
            source: 3,
            identity: Some([1, 2]),
            size: PAGE_SIZE,
            change: None,
        };
        rig.engine.add_swap(named(), 0).expect("an area");
        let error = rig.engine.add_swap(named(), 0).unwrap_err().to_string();
        assert_eq!(error, "this is a swap area already");
        assert_eq!([3, 4].map(|source| rig.engine.swap_areas_from(source)), [1, 0]);
        for _ in 1..32 {
            area(&rig, 1, 0);
        }
        refused(PagerOps::PUT, PAGE_SIZE, "32 swap areas already");
        rig.assert_nothing_left();
    });
}

#[test]
fn an_area_whose_pager_breaks_a_promise_is_not_used_any_more_and_the_objects_go_on() {
    in_all_modes(|rig| {
        let (broken, id) = area(&rig, 16, 2);
        let (whole, _) = area(&rig, 16, 1);
        broken.next_puts([Twist::ClaimUnfilled]);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        assert_eq!((object.resident(), whole.puts(), broken.puts()), (0, 1, 1));
        let areas = rig.engine.swap_areas().expect("memory");
        let why = areas
            .iter()
            .find(|area| area.id == id)
            .and_then(|area| area.broken.clone());
        assert!(why.is_some_and(|why| why.contains("did not write every page")));
        assert!(!object.is_quarantined());
        assert_filled(&rig, va, 4, 0);
        rig.engine.remove_swap(id).expect("nothing is in it");
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_an_area_did_not_fill_is_an_error_and_its_area_is_broken() {
    in_all_modes(|rig| {
        let (script, _) = area(&rig, 16, 2);
        let (object, va) = mapped(&rig, 2);
        fill(&rig, va, 1, 0);
        page_out(&rig);
        script.all_gets(Some(Twist::FillHalf));
        let error = rig.map.load(va, &mut [0]).unwrap_err().error.to_string();
        assert!(error.contains("its last bytes were not written"), "{error}");
        assert!(!object.is_quarantined(), "the area is, as it were");
        assert!(rig.engine.swap_areas().expect("memory")[0].broken.is_some());
        rig.map.store(page_at(va, 1), &[1]).expect("the rest goes on");
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn pages_that_an_area_keeps_without_leave_come_back_when_it_lets_go() {
    in_all_modes(|rig| {
        let (script, id) = area(&rig, 16, 2);
        script.next_puts([Twist::Stray]);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        assert!(object.is_quarantined());
        let pending = script.take_pending(1);
        rig.map.clear().expect("the object stays");
        let error = object
            .object()
            .terminate(quire_core::object::Dirty::Discard)
            .unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
        let error = rig.engine.remove_swap(id).unwrap_err().to_string();
        assert!(error.contains("goes on with a request"), "{error}");
        script.finish(&pending[0]);
        object.release().expect("nothing is out");
        rig.engine.remove_swap(id).expect("nothing is out");
        rig.assert_nothing_left();
    });
}

#[test]
fn areas_may_leave_requests_pending() {
    in_all_modes(|rig| {
        let _watch = watch(&rig.engine);
        let (script, opening) = opening(PagerOps::PUT | PagerOps::ASYNC, 16);
        rig.engine.add_swap(opening, 0).expect("an area");
        script.choose(|_| Twist::Defer);
        let (requests, completer) = std::sync::mpsc::channel::<(Script, Arc<quire_core::io::Io>)>();
        script.defer_to(requests);
        let completing = thread::spawn(move || completer.iter().for_each(|(script, io)| script.settle(&io)));
        let (object, va) = mapped(&rig, 8);
        fill(&rig, va, 8, 0);
        page_out(&rig);
        assert_filled(&rig, va, 8, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
        drop(script);
        completing.join().expect("no panic");
    });
}

#[test]
fn a_size_that_is_lowered_and_raised_shows_zeros_also_from_swap() {
    in_all_modes(|rig| {
        let (_script, _) = area(&rig, 16, 0);
        let (object, va) = mapped(&rig, 4);
        fill(&rig, va, 4, 0);
        page_out(&rig);
        let half = PAGE_SIZE + PAGE_SIZE / 2;
        object.object().resize(half).expect("memory");
        assert_eq!(used(&rig), 2, "what lies behind the end is given up");
        let page = rig.load_page(page_at(va, 1));
        assert!(page[PAGE_BYTES / 2..].iter().all(|byte| *byte == 0));
        page_out(&rig);
        object.object().resize(4 * PAGE_SIZE).expect("memory");
        page_out(&rig);
        let page = rig.load_page(page_at(va, 1));
        assert!(page[..PAGE_BYTES / 2] == filling(1, 0)[..PAGE_BYTES / 2]);
        assert!(page[PAGE_BYTES / 2..].iter().all(|byte| *byte == 0));
        assert_eq!(rig.load_page(page_at(va, 2)), [0; PAGE_BYTES]);
        assert!(rig.load_page(va) == filling(0, 0));
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn many_anonymous_objects_come_and_go() {
    const MANY: usize = 100_000;
    let rig = Rig::new(SoftConfig::default());
    let mut objects: Vec<_> = (0..MANY)
        .map(|_| rig.engine.create_anonymous(1 << 40).expect("an object"))
        .collect();
    assert_eq!(rig.engine.object_counts().0, MANY);
    // From the old end, and then every other one.
    let old = objects.drain(..MANY / 2);
    old.for_each(|object| object.release().expect("nothing to write"));
    let mut n = 0;
    objects.retain(|_| {
        n += 1;
        n % 2 == 0
    });
    assert_eq!(rig.engine.object_counts().0, MANY / 4);
    drop(objects);
    rig.assert_nothing_left();
}

/// Threads that store and load, each its own pages; areas that come, go and fail meanwhile; a page daemon.
#[test]
fn whatever_areas_do_what_was_stored_is_loaded() {
    const PAGES: u64 = 192;
    for mode in Mode::all() {
        eprintln!("mode: {mode:?}");
        let options = EngineOptions {
            daemon_thread: true,
            ..EngineOptions::default()
        };
        let rig = Rig::with_options(mode.with_frames(64, 4), &options);
        let _watch = watch(&rig.engine);
        let (_reliable, _) = area(&rig, PAGES, 0);
        let (object, va) = mapped(&rig, PAGES);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (rig, stop) = (&rig, &stop);
            let working: Vec<_> = (0..3_u64)
                .map(|me| {
                    scope.spawn(move || {
                        let mut dice = Dice(me + 1);
                        let mut times = vec![0; usize::try_from(PAGES).expect("few")];
                        for _ in 0..1500 {
                            let page = dice.roll(PAGES / 3) * 3 + me;
                            let n = &mut times[usize::try_from(page).expect("few")];
                            if *n > 0 {
                                let bytes = rig.load_page(page_at(va, page));
                                assert!(bytes == filling(page, *n), "page {page}, time {n}, in {mode:?}");
                            }
                            if dice.roll(2) == 0 {
                                *n += 1;
                                rig.map.store(page_at(va, page), &filling(page, *n)).expect("a store");
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(move || {
                let mut dice = Dice(99);
                while !stop.load(Ordering::Relaxed) {
                    let (script, opening) = opening(PagerOps::PUT | PagerOps::FREE_SPACE, 1 + dice.roll(64));
                    let id = rig.engine.add_swap(opening, 1).expect("an area");
                    let mut choice = Dice(dice.roll(1000));
                    script.choose(move |direction| match (direction, choice.roll(4)) {
                        (Direction::Put, 0) => Twist::Fail(Cause::Errno(28)),
                        (Direction::Put, 1) => Twist::Fail(Cause::Io),
                        _ => Twist::Obey,
                    });
                    let had = rig.engine.swap_counts().pages_out;
                    while rig.engine.swap_counts().pages_out < had + 16 && !stop.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    rig.engine.remove_swap(id).expect("there is another");
                }
            });
            for thread in working {
                thread.join().expect("nothing is lost");
            }
            stop.store(true, Ordering::Relaxed);
        });
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    }
}
