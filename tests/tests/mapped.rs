//! What can be asked of mapped memory by its addresses: writing, bringing in, letting go, and what is known of it.

use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::mapped::{Residency, SyncFlags};
use quire_core::object::ObjectRef;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at, pattern};

/// An object that offers all its pages along, mapped whole.
fn mapped(rig: &Rig, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::SYNC | PagerOps::HAS_PAGE, 256);
    script.offers(64, 64);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let request = MapRequest::read_write(pages * PAGE_SIZE);
    let va = rig.map.map(&object, &request).unwrap().start;
    (script, object, va)
}

fn residency(rig: &Rig, va: VirtAddr, pages: usize) -> Vec<Residency> {
    let mut seen = vec![Residency::empty(); pages];
    rig.map.residency(va, pages as u64 * PAGE_SIZE, &mut seen).unwrap();
    seen
}

fn resident(rig: &Rig, va: VirtAddr, pages: usize) -> usize {
    let seen = residency(rig, va, pages);
    seen.iter().filter(|is| is.contains(Residency::RESIDENT)).count()
}

#[test]
fn sync_writes_what_is_mapped_in_the_range_and_nothing_else() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        for page in 0..8 {
            rig.map.store(page_at(va, page), &[0xaa]).unwrap();
        }
        rig.map.sync(page_at(va, 2), 3 * PAGE_SIZE, SyncFlags::empty()).unwrap();
        let written: Vec<_> = (0..8).map(|page| script.stored(page)[0] == 0xaa).collect();
        assert_eq!(written, [false, false, true, true, true, false, false, false]);
        assert!(!script.calls().contains(&Call::Sync), "nobody asked for durability");
        rig.map.sync(va, 8 * PAGE_SIZE, SyncFlags::DURABLE).unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Sync));
        assert_eq!(script.stored(7)[0], 0xaa);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn sync_with_invalidate_asks_the_pager_anew_and_loses_nothing_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 2);
        rig.map.store(va, &[0xaa]).unwrap();
        script.next_puts([Twist::Fail(Cause::Errno(28))]);
        let refused = rig.map.sync(va, 2 * PAGE_SIZE, SyncFlags::INVALIDATE);
        assert!(matches!(refused, Err(Error::WriteBack { pages: 1, .. })));
        assert_eq!(rig.load_page(va)[0], 0xaa, "kept");
        rig.map.sync(va, 2 * PAGE_SIZE, SyncFlags::INVALIDATE).unwrap();
        assert_eq!((script.stored(0)[0], object.resident()), (0xaa, 0));
        let gets = script.gets();
        assert_eq!(rig.load_page(va)[0], 0xaa);
        assert_eq!(script.gets(), gets + 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn sync_writes_every_object_of_the_range_also_when_one_fails() {
    in_all_modes(|rig| {
        let (a, object_a) = rig.object(1);
        let first = MapRequest {
            place: Place::Fixed(rig.map.base()),
            ..MapRequest::read_write(PAGE_SIZE)
        };
        let va = rig.map.map(&object_a, &first).unwrap().start;
        let (b, object_b) = rig.object(1);
        let behind = MapRequest {
            place: Place::Fixed(page_at(va, 1)),
            ..MapRequest::read_write(PAGE_SIZE)
        };
        let next = rig.map.map(&object_b, &behind).unwrap().start;
        rig.map.store(va, &[1]).unwrap();
        rig.map.store(next, &[2]).unwrap();
        a.next_puts([Twist::Fail(Cause::Io)]);
        let refused = rig.map.sync(va, 2 * PAGE_SIZE, SyncFlags::empty());
        assert!(matches!(refused, Err(Error::WriteBack { .. })));
        assert_eq!(b.stored(0)[0], 2);
        drop((object_a, object_b));
        rig.assert_nothing_left();
    });
}

#[test]
fn prefetch_reads_missing_pages_in_runs_and_maps_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 16);
        let mut byte = [0];
        rig.map.copy_out(page_at(va, 5), &mut byte).unwrap();
        rig.map.prefetch(va, 16 * PAGE_SIZE).unwrap();
        assert_eq!(
            script.calls(),
            [Call::Get(5, 1), Call::Get(0, 5), Call::Get(6, 10)],
            "what is there is not read again"
        );
        let seen = residency(&rig, va, 16);
        assert!(seen.iter().all(|is| *is == Residency::RESIDENT), "{seen:?}");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn prefetch_passes_over_what_lies_behind_the_end_and_tells_the_first_failure() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4);
        let beyond = MapRequest::read_only(9 * PAGE_SIZE);
        let longer = rig.map.map(&object, &beyond).unwrap().start;
        rig.map.prefetch(longer, 9 * PAGE_SIZE).unwrap();
        assert_eq!(object.resident(), 4);
        drop((script, object, va));
        let (script, object, va) = mapped(&rig, 4);
        script.bad_pages([2]);
        let refused = rig.map.prefetch(va, 4 * PAGE_SIZE);
        let Err(Error::Fault(FaultError::Pager { index, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((index.0, resident(&rig, va, 2)), (2, 2));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn will_need_is_read_by_the_worker() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 32);
        rig.map.will_need(page_at(va, 8), 16 * PAGE_SIZE).unwrap();
        assert_eq!(script.gets(), 0, "the caller reads nothing");
        while rig.engine.read_ahead_step() {}
        let seen = residency(&rig, va, 32);
        let there: Vec<_> = (0..32).filter(|&i| !seen[i].is_empty()).collect();
        assert_eq!(there, (8..24).collect::<Vec<_>>());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn dont_need_unmaps_and_loses_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4);
        for page in 0..4 {
            rig.map.store(page_at(va, page), &[0xd0]).unwrap();
        }
        rig.map.wire(page_at(va, 3), PAGE_SIZE).unwrap();
        rig.map.dont_need(va, 4 * PAGE_SIZE).unwrap();
        let seen = residency(&rig, va, 4);
        let loose = Residency::RESIDENT | Residency::DIRTY;
        assert_eq!(
            seen,
            [loose, loose, loose, loose | Residency::MAPPED | Residency::WIRED]
        );
        assert_eq!(rig.engine.queue_lengths().inactive, 3);
        assert_eq!(rig.load_page(va)[0], 0xd0);
        rig.map.unwire(page_at(va, 3), PAGE_SIZE).unwrap();
        rig.map.sync(va, 4 * PAGE_SIZE, SyncFlags::empty()).unwrap();
        assert!((0..4).all(|page| script.stored(page)[0] == 0xd0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn cold_pages_are_the_next_to_go_and_stay_mapped() {
    in_all_modes(|rig| {
        let (_script, object, va) = mapped(&rig, 4);
        rig.map.populate(va, 4 * PAGE_SIZE, Access::Read).unwrap();
        rig.map.copy_out(va, &mut vec![0; 4 * PAGE_BYTES]).unwrap();
        rig.map.cold(va, 2 * PAGE_SIZE).unwrap();
        let used = [0, 1, 2, 3].map(|i| object.lookup(PageIndex(i)).unwrap().take_referenced());
        assert_eq!(
            used,
            [false, false, true, true],
            "what is known of their use is forgotten"
        );
        let seen = residency(&rig, va, 4);
        assert!(seen.iter().all(|is| is.contains(Residency::MAPPED)), "{seen:?}");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_maps_ahead_so_that_accesses_do_not_fault() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 100);
        rig.map.populate(va, 100 * PAGE_SIZE, Access::Write).unwrap();
        assert!(script.gets() <= 4, "in runs, not page by page: {:?}", script.calls());
        let faults = rig.engine.stats().counts().faults;
        for page in 0..100 {
            rig.map.store(page_at(va, page), &[7]).unwrap();
        }
        assert_eq!(rig.engine.stats().counts().faults, faults);
        drop(object);
        rig.assert_nothing_left();
        assert!((0..100).all(|page| script.stored(page)[0] == 7));
    });
}

#[test]
fn populate_is_refused_as_the_access_would_be() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4);
        rig.map.protect(page_at(va, 2), PAGE_SIZE, Prot::READ).unwrap();
        assert_eq!(
            rig.map.populate(va, 4 * PAGE_SIZE, Access::Write),
            Err(FaultError::Denied(page_at(va, 2)).into())
        );
        script.bad_pages([3]);
        rig.map.sync(va, 4 * PAGE_SIZE, SyncFlags::INVALIDATE).unwrap();
        let refused = rig.map.populate(va, 4 * PAGE_SIZE, Access::Read);
        assert!(
            matches!(refused, Err(Error::Fault(FaultError::Pager { .. }))),
            "{refused:?}"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn ranges_that_make_no_sense_change_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4);
        let hole = page_at(va, 4);
        let mut seen = [Residency::MAPPED; 5];
        let len = 5 * PAGE_SIZE;
        let refusals = [
            rig.map.sync(va, len, SyncFlags::INVALIDATE),
            rig.map.prefetch(va, len),
            rig.map.will_need(va, len),
            rig.map.dont_need(va, len),
            rig.map.cold(va, len),
            rig.map.populate(va, len, Access::Write),
            rig.map.residency(va, len, &mut seen),
        ];
        for refusal in refusals {
            assert_eq!(refusal, Err(Error::NotMapped(hole)));
        }
        assert_eq!((script.calls(), seen), (vec![], [Residency::MAPPED; 5]));
        let odd = VirtAddr(va.0 + 1);
        assert!(matches!(rig.map.prefetch(odd, 1), Err(Error::Invalid(_))));
        assert!(matches!(rig.map.populate(va, 0, Access::Read), Err(Error::Invalid(_))));
        assert!(matches!(
            rig.map.residency(va, 4 * PAGE_SIZE, &mut seen[..3]),
            Err(Error::Invalid(_))
        ));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_copy_goes_by_way_of_the_stack_and_reads_what_is_there() {
    in_all_modes(|rig| {
        let (_script, object, va) = mapped(&rig, 3);
        let mut bytes = vec![0; 2 * PAGE_BYTES];
        rig.map.copy_out(VirtAddr(va.0 + 100), &mut bytes).unwrap();
        let there: Vec<u8> = (0..3).flat_map(pattern).collect();
        assert_eq!(bytes, there[100..100 + 2 * PAGE_BYTES]);
        rig.map.copy_in(VirtAddr(va.0 + 200), &bytes).unwrap();
        let mut again = vec![0; 2 * PAGE_BYTES];
        rig.map.copy_out(VirtAddr(va.0 + 200), &mut again).unwrap();
        assert_eq!(bytes, again);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn what_was_read_before_the_right_to_write_came_is_written_by_the_next_flush() {
    in_all_modes(|rig| {
        let (script, object) = rig.object(3);
        let request = MapRequest {
            max_prot: Prot::READ | Prot::WRITE,
            ..MapRequest::read_only(3 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        for i in 0..3 {
            assert_eq!(rig.load_page(page_at(va, i)), pattern(i));
        }
        rig.map.protect(va, 3 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        rig.map.store(page_at(va, 1), &[77]).unwrap();
        object
            .object()
            .flush(PageIndex(0)..PageIndex(3), FlushFlags::empty())
            .unwrap();
        assert_eq!(script.stored(1)[0], 77);
        rig.map.unmap(va, 3 * PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}
