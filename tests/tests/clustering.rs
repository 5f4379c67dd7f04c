//! Clustering and read-ahead, counted in operations. On every kind of soft machine.

use std::sync::Arc;
use std::thread;

use quire_core::error::Cause;
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::ObjectRef;
use quire_core::pager::PagerOps;
use quire_core::read_ahead::{MOST_ALONG, Worker};
use quire_core::types::{AddrRange, Advice, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, in_all_modes_with_frames, page_at, pattern};

const CLUSTERING: PagerOps = PagerOps::PUT.union(PagerOps::SYNC).union(PagerOps::HAS_PAGE);

fn mapped(rig: &Rig, ops: PagerOps, max_run: u32, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(ops, max_run);
    script.offers(255, 255);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

fn advise(rig: &Rig, va: VirtAddr, pages: u64, advice: Advice) {
    rig.map.advise(va, pages * PAGE_SIZE, advice).unwrap();
}

/// Reads pages as a processor does, and checks what they hold.
fn read(rig: &Rig, va: VirtAddr, pages: impl IntoIterator<Item = u64>) {
    for i in pages {
        let mut bytes = [0; 8];
        rig.map.load(page_at(va, i), &mut bytes).unwrap();
        assert_eq!(bytes, pattern(i)[..8], "page {i}");
    }
}

/// The same places for every run: a multiplicative walk over `0..pages`.
fn scattered(pages: u64, n: u64) -> impl Iterator<Item = u64> {
    (1..=n).scan(12_345_u64, move |at, _| {
        *at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Some((*at >> 33) % pages)
    })
}

fn end(rig: Rig, object: ObjectRef) {
    drop(object);
    rig.assert_nothing_left();
}

#[test]
fn a_flush_of_contiguous_dirty_pages_is_one_put_for_each_256() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 4096, 600);
        for i in 0..600 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        let puts: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|call| matches!(call, Call::Put(..)))
            .collect();
        assert_eq!(puts, [Call::Put(0, 256), Call::Put(256, 256), Call::Put(512, 88)]);
        end(rig, object);
    });
}

#[test]
fn f11_a_sequential_read_is_at_most_one_fault_in_16_pages() {
    for ops in [CLUSTERING, CLUSTERING.union(PagerOps::ASYNC)] {
        in_all_modes(|rig| {
            let (script, object, va) = mapped(&rig, ops, 256, 512);
            read(&rig, va, 0..512);
            let counts = rig.engine.stats().counts();
            assert!(counts.faults <= 512 / 16, "{} faults", counts.faults);
            assert!(script.gets() <= 512 / 16, "{} gets", script.gets());
            assert_eq!(counts.pages_in, 512, "each page once");
            end(rig, object);
        });
    }
}

#[test]
fn f11_a_sequential_read_by_copying_asks_the_pager_as_seldom() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 512);
        let mut bytes = vec![0; 512 * PAGE_BYTES];
        rig.map.copy_out(va, &mut bytes).unwrap();
        for i in 0..512 {
            assert!(bytes[i * PAGE_BYTES..][..PAGE_BYTES] == pattern(i as u64));
        }
        assert!(script.gets() <= 512 / 16, "{} gets", script.gets());
        end(rig, object);
    });
}

#[test]
fn a_random_read_brings_in_no_page_that_was_not_asked_for() {
    for ops in [CLUSTERING, CLUSTERING.union(PagerOps::ASYNC)] {
        in_all_modes(|rig| {
            let (_script, object, va) = mapped(&rig, ops, 256, 4096);
            let places: std::collections::BTreeSet<_> = scattered(4096, 200).collect();
            read(&rig, va, scattered(4096, 200));
            while rig.engine.read_ahead_step() {}
            assert_eq!(object.resident(), places.len() as u64);
            assert_eq!(rig.engine.stats().counts().pages_in, places.len() as u64);
            end(rig, object);
        });
    }
}

/// Maps an object of which every page is resident, once more: in the same address space, and in none of it is translated.
fn mapped_again(rig: &Rig, object: &ObjectRef, pages: u64) -> VirtAddr {
    assert_eq!(object.resident(), pages);
    let request = MapRequest::read_only(pages * PAGE_SIZE);
    rig.map.map(object, &request).unwrap().start
}

/// Faults, and pages mapped along, during an action.
fn counted(rig: &Rig, action: impl FnOnce()) -> (u64, u64) {
    let before = rig.engine.stats().counts();
    action();
    let after = rig.engine.stats().counts();
    (
        after.faults - before.faults,
        after.neighbours_mapped - before.neighbours_mapped,
    )
}

/// Maps and reads an object with all kinds of pagers, on all kinds of machines.
fn with_resident(pages: u64, test: impl Fn(&Rig, &ObjectRef)) {
    for ops in [PagerOps::PUT, CLUSTERING, CLUSTERING.union(PagerOps::ASYNC)] {
        in_all_modes_with_frames(2 * pages, |rig| {
            let (script, object, va) = mapped(&rig, ops, 256, pages);
            read(&rig, va, 0..pages);
            let gets = script.gets();
            test(&rig, &object);
            assert_eq!(script.gets(), gets, "everything was resident");
            end(rig, object);
        });
    }
}

#[test]
fn f11_a_sequential_read_of_resident_pages_through_a_second_mapping_is_at_most_one_fault_in_16_pages() {
    with_resident(1024, |rig, object| {
        let va = mapped_again(rig, object, 1024);
        let (faults, _) = counted(rig, || read(rig, va, 0..1024));
        assert!(faults <= 1024 / 16, "{faults} faults");
    });
}

#[test]
fn f11_a_sequential_read_of_resident_pages_through_a_second_map_is_at_most_one_fault_in_16_pages() {
    with_resident(1024, |rig, object| {
        let map = rig.another_map();
        let va = map.map(object, &MapRequest::read_only(1024 * PAGE_SIZE)).unwrap().start;
        let (faults, _) = counted(rig, || {
            for i in 0..1024 {
                map.load(page_at(va, i), &mut [0; 8]).unwrap();
            }
        });
        assert!(faults <= 1024 / 16, "{faults} faults");
    });
}

#[test]
fn f11_sequential_reads_through_two_mappings_in_turns_are_told_apart() {
    with_resident(1024, |rig, object| {
        let (one, two) = (mapped_again(rig, object, 1024), mapped_again(rig, object, 1024));
        // The second one comes over the same pages, some behind.
        let (faults, _) = counted(rig, || {
            for i in 0..1024 + 7 {
                read(rig, one, (i < 1024).then_some(i));
                read(rig, two, i.checked_sub(7));
            }
        });
        assert!(faults <= 2 * 1024 / 16, "{faults} faults");
    });
}

#[test]
fn f11_several_places_of_one_mapping_are_read_in_turns() {
    with_resident(1024, |rig, object| {
        let va = mapped_again(rig, object, 1024);
        let (faults, _) = counted(rig, || {
            for i in 0..256 {
                read(rig, va, [0, 256, 512, 768].map(|base| base + i));
            }
        });
        assert!(faults <= 1024 / 16, "{faults} faults");
    });
}

#[test]
fn f11_a_sequential_read_is_seen_among_accesses_elsewhere() {
    with_resident(1024, |rig, object| {
        let (one, two) = (mapped_again(rig, object, 1024), mapped_again(rig, object, 1024));
        let mut faults = 0;
        for (i, j) in (0..1024).zip(scattered(1024, 1024)) {
            faults += counted(rig, || read(rig, one, [i])).0;
            // Each of these is a fault.
            let elsewhere = AddrRange::sized(page_at(two, j), PAGE_SIZE).unwrap();
            rig.map.pmap().remove(elsewhere);
            read(rig, two, [j]);
        }
        assert!(faults <= 1024 / 16, "{faults} faults");
    });
}

#[test]
fn strided_and_random_reads_of_resident_pages_map_no_more_than_the_neighbours() {
    with_resident(1024, |rig, object| {
        for stride in [2, 3, 4, 5, 6, 7, 8, 9, 16, 65] {
            let va = mapped_again(rig, object, 1024);
            let (faults, along) = counted(rig, || read(rig, va, (0..1024).step_by(stride)));
            assert!(along <= 7 * faults, "stride {stride}: {along} along {faults} faults");
        }
        let va = mapped_again(rig, object, 1024);
        let (faults, along) = counted(rig, || read(rig, va, scattered(1024, 200)));
        assert!(along <= 7 * faults, "{along} along {faults} faults");
        advise(rig, va, 1024, Advice::Random);
        rig.map.pmap().remove(AddrRange {
            start: va,
            end: page_at(va, 1024),
        });
        assert_eq!(counted(rig, || read(rig, va, 0..1024)), (1024, 0));
    });
}

#[test]
fn with_the_advice_sequential_the_first_fault_maps_all_that_it_may() {
    with_resident(1024, |rig, object| {
        let va = mapped_again(rig, object, 1024);
        advise(rig, va, 1024, Advice::Sequential);
        let (faults, along) = counted(rig, || read(rig, va, 100..=100 + MOST_ALONG));
        assert_eq!(faults, 1);
        assert!(along >= MOST_ALONG, "{along} pages");
    });
}

#[test]
fn a_backward_read_of_resident_pages_takes_the_neighbours_before() {
    with_resident(1024, |rig, object| {
        let va = mapped_again(rig, object, 1024);
        let (faults, _) = counted(rig, || read(rig, va, (0..1024).rev()));
        assert!(faults <= 1024 / 4, "{faults} faults");
    });
}

#[test]
fn with_the_advice_random_a_page_comes_alone_in_any_order() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 64);
        advise(&rig, va, 64, Advice::Random);
        read(&rig, va, 0..64);
        assert_eq!(script.calls(), (0..64).map(|i| Call::Get(i, 1)).collect::<Vec<_>>());
        end(rig, object);
    });
}

#[test]
fn with_the_advice_sequential_the_first_fault_brings_pages_along() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 64);
        advise(&rig, va, 64, Advice::Sequential);
        read(&rig, va, [0]);
        assert_eq!(script.calls(), [Call::Get(0, 8)]);
        end(rig, object);
    });
}

#[test]
fn f4_a_run_is_no_longer_than_what_has_page_offers_the_pager_takes_and_the_object_has() {
    in_all_modes(|rig| {
        let first_call = |offer: u32, max_run: u32, pages: u64, from: u64| {
            let (script, object, va) = mapped(&rig, CLUSTERING, max_run, pages);
            script.offers(0, offer);
            advise(&rig, va, pages, Advice::Sequential);
            read(&rig, va, [from]);
            drop(object);
            script.calls()[0]
        };
        assert_eq!(first_call(2, 256, 64, 5), Call::Get(5, 3));
        assert_eq!(first_call(0, 256, 64, 5), Call::Get(5, 1));
        assert_eq!(first_call(99, 4, 64, 5), Call::Get(5, 4));
        assert_eq!(first_call(99, 256, 7, 5), Call::Get(5, 2));
        rig.assert_nothing_left();
    });
}

#[test]
fn s102_a_run_ends_before_a_page_that_is_in_memory() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 64);
        advise(&rig, va, 64, Advice::Random);
        read(&rig, va, [13]);
        advise(&rig, va, 64, Advice::Sequential);
        read(&rig, va, [10]);
        assert_eq!(script.calls(), [Call::Get(13, 1), Call::Get(10, 3)]);
        end(rig, object);
    });
}

#[test]
fn s112_a_page_that_was_brought_along_and_is_bad_fails_nobody() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 64);
        advise(&rig, va, 64, Advice::Sequential);
        script.bad_pages([2]);
        read(&rig, va, [0, 1, 3]);
        assert!(object.lookup(PageIndex(2)).is_none());
        rig.map.load(page_at(va, 2), &mut [0]).unwrap_err();
        script.bad_pages([]);
        read(&rig, va, 0..64);
        end(rig, object);
    });
}

#[test]
fn a_run_that_fails_is_asked_for_again_without_those_that_came_along() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING, 256, 64);
        advise(&rig, va, 64, Advice::Sequential);
        script.next_gets([Twist::Fail(Cause::Io)]);
        read(&rig, va, [4]);
        assert_eq!(script.calls(), [Call::Get(4, 8), Call::Get(4, 1)]);
        end(rig, object);
    });
}

#[test]
fn reading_ahead_takes_a_sixteenth_of_memory_at_a_time() {
    in_all_modes_with_frames(64, |rig| {
        let (script, object, va) = mapped(&rig, CLUSTERING.union(PagerOps::ASYNC), 256, 512);
        read(&rig, va, 0..256);
        let calls = script.calls();
        let longest = calls.iter().map(|call| match call {
            Call::Get(_, pages) => *pages,
            _ => 0,
        });
        assert!(longest.max() <= Some(1 + 64 / 16), "{calls:?}");
        assert!(script.gets() < 256 / 2, "a scan goes on in runs when memory is full");
        end(rig, object);
    });
}

#[test]
fn a_pager_that_cannot_pend_is_read_ahead_by_the_worker() {
    in_all_modes(|rig| {
        let (_script, object, va) = mapped(&rig, CLUSTERING, 256, 256);
        let worker = Worker::spawn(&rig.engine).unwrap();
        read(&rig, va, 0..8);
        // The window behind those was asked for, though nobody touched it.
        while rig.engine.stats().counts().pages_read_ahead == 0 {
            thread::yield_now();
        }
        read(&rig, va, 8..256);
        drop(worker);
        assert_eq!(rig.engine.stats().counts().pages_in, 256);
        end(rig, object);
    });
}

#[test]
fn a_worker_does_not_keep_its_engine() {
    let rig = Rig::new(quire_core::soft::SoftConfig::default());
    let worker = Worker::spawn(&rig.engine).unwrap();
    let weak = Arc::downgrade(&rig.engine);
    drop(rig);
    drop(worker);
    assert!(weak.upgrade().is_none());
}
