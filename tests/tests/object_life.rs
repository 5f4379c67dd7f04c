//! Objects: flush, release, quarantine, populate, and the end of an engine. On every kind of soft machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_core::error::{Cause, Error, FaultError, PagerError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::page::Dirtiness;
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::NotInserted;
use quire_core::types::{Access, ByteOff, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, in_all_modes_with_frames, page_at, pattern};

fn dirty(rig: &Rig, va: VirtAddr, pages: impl IntoIterator<Item = u64>) {
    for i in pages {
        rig.map.store(page_at(va, i), &[0xd1]).unwrap();
    }
}

#[test]
fn d4_a_failed_put_leaves_the_page_dirty_and_the_flush_says_so() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        dirty(&rig, va, 0..3);
        script.next_puts([Twist::Fail(Cause::Errno(5))]);
        let error = object.object().flush_all(FlushFlags::empty()).unwrap_err();
        let Error::WriteBack { pages, error, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*pages, error.cause), (3, Cause::Errno(5)));
        assert_eq!(object.lookup(PageIndex(1)).unwrap().dirtiness(), Dirtiness::Dirty);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert!((0..3).all(|i| script.stored(i)[0] == 0xd1));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_failed_run_does_not_keep_the_others_from_being_written() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(10);
        dirty(&rig, va, [0, 1, 5, 6]);
        script.next_puts([Twist::Fail(Cause::Io)]);
        assert!(object.object().flush_all(FlushFlags::empty()).is_err());
        assert_eq!(
            script
                .calls()
                .iter()
                .filter(|c| matches!(c, Call::Put(..)))
                .collect::<Vec<_>>(),
            [&Call::Put(0, 2), &Call::Put(5, 2)]
        );
        assert_eq!(object.dirty_pages(), 2);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn contiguous_dirty_pages_go_out_in_runs_of_what_the_pager_takes() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::PUT, 4);
        let object = rig.engine.create_object(pager, 10 * PAGE_SIZE).unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(10 * PAGE_SIZE))
            .unwrap()
            .start;
        dirty(&rig, va, 0..10);
        object
            .object()
            .flush(PageIndex(1)..PageIndex(10), FlushFlags::empty())
            .unwrap();
        let puts: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|c| matches!(c, Call::Put(..)))
            .collect();
        assert_eq!(puts, [Call::Put(1, 4), Call::Put(5, 4), Call::Put(9, 1)]);
        assert_eq!(object.dirty_pages(), 1, "page 0 was outside the range");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s80_bytes_that_are_being_written_do_not_change() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        rig.map.store(va, b"old").unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            let io = script.take_pending(1).remove(0);
            let writer = scope.spawn(|| rig.map.store(va, b"new"));
            let copier = scope.spawn(|| rig.map.copy_in(VirtAddr(va.0 + 100), b"new"));
            while rig.engine.stats().counts().busy_waits < 2 {
                thread::yield_now();
            }
            let mut seen = [0; 103];
            io.copy_to(0, &mut seen);
            assert_eq!((&seen[..3], &seen[100..]), (&b"old"[..], &pattern(0)[100..103]));
            script.finish(&io);
            flush.join().unwrap().unwrap();
            writer.join().unwrap().unwrap();
            copier.join().unwrap().unwrap();
        });
        assert_eq!(
            object.lookup(PageIndex(0)).unwrap().dirtiness(),
            Dirtiness::Dirty,
            "written since: still dirty"
        );
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(&script.stored(0)[..3], b"new");
        assert_eq!(&script.stored(0)[100..103], b"new");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_durable_flush_reaches_the_pagers_sync_and_tells_its_error() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        dirty(&rig, va, [0]);
        object.object().flush_all(FlushFlags::DURABLE).unwrap();
        assert_eq!(script.calls()[1..], [Call::Put(0, 1), Call::Sync]);
        script.sync_fails(Some(Cause::Errno(5)));
        assert_eq!(
            object.object().flush_all(FlushFlags::DURABLE),
            Err(Error::Pager(PagerError::bare(Cause::Errno(5))))
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn the_last_release_writes_what_is_dirty_then_closes() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, [1]);
        object.release().unwrap();
        assert_eq!(script.puts(), 0, "the mapping still uses the object");
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(script.calls()[1..], [Call::Put(1, 1), Call::Close]);
        rig.assert_nothing_left();
    });
}

#[test]
fn d7_every_open_is_closed_once_whatever_the_order_of_the_releases() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        let other = object.clone();
        let second = rig.map.map(&other, &MapRequest::read_only(PAGE_SIZE)).unwrap().start;
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        drop(object);
        rig.map.unmap(page_at(va, 1), PAGE_SIZE).unwrap();
        rig.map.unmap(second, PAGE_SIZE).unwrap();
        assert!(!script.calls().contains(&Call::Close));
        other.release().unwrap();
        assert_eq!(script.calls(), [Call::Close]);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_object_that_could_not_be_written_stays_listed_until_a_sync_succeeds() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, 0..2);
        drop(object);
        script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        assert!(matches!(
            rig.map.unmap(va, 2 * PAGE_SIZE),
            Err(Error::WriteBack { pages: 2, .. })
        ));
        assert_eq!(rig.engine.object_counts(), (1, 1));
        assert!(matches!(
            rig.engine.sync(FlushFlags::empty()),
            Err(Error::WriteBack { .. })
        ));
        assert!(matches!(rig.engine.shut_down(), Err(Error::WriteBack { .. })));
        assert!(!script.calls().contains(&Call::Close));
        script.all_puts(None);
        rig.engine.sync(FlushFlags::empty()).unwrap();
        assert_eq!(rig.engine.object_counts(), (0, 0));
        assert!((0..2).all(|i| script.stored(i)[0] == 0xd1));
        assert_eq!(script.calls().last(), Some(&Call::Close));
        rig.assert_nothing_left();
    });
}

#[test]
fn what_cannot_be_written_goes_only_when_it_is_discarded() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        dirty(&rig, va, [0]);
        assert!(matches!(object.object().discard(), Err(Error::InUse(_))));
        script.all_puts(Some(Twist::Fail(Cause::Io)));
        assert!(matches!(rig.engine.discard_all(), Err(Error::InUse(_))));
        rig.map.clear().unwrap();
        assert!(object.release().is_err());
        rig.engine.discard_all().unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Close));
        rig.assert_nothing_left();
    });
}

#[test]
fn an_engine_in_use_does_not_end() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(1);
        assert!(matches!(rig.engine.shut_down(), Err(Error::InUse(_))));
        drop(object);
        assert!(
            matches!(rig.engine.shut_down(), Err(Error::InUse(_))),
            "a mapping is a use"
        );
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_claims_what_it_did_not_fill_is_quarantined() {
    in_all_modes(|rig| {
        for twist in [Twist::ClaimUnfilled, Twist::FillHalf] {
            let (script, object, va) = rig.mapped(2);
            let good = page_at(va, 1);
            rig.map.fault(good, Access::Read).unwrap();
            script.next_gets([twist]);
            let error = rig.map.fault(va, Access::Read).unwrap_err();
            let FaultError::Quarantined(text) = &error else {
                panic!("{error}")
            };
            assert!(text.contains("scripted pager"), "the message names the object: {text}");
            assert!(object.is_quarantined());
            assert!(matches!(
                rig.map.fault(good, Access::Read),
                Err(FaultError::Quarantined(_))
            ));
            assert_eq!(object.resident(), 1, "the page that was not filled is gone");
            rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
            object.release().unwrap();
            assert_eq!(
                script.calls().last(),
                Some(&Call::Close),
                "without dirty pages it can be closed"
            );
        }
        assert_eq!(rig.engine.stats().counts().broken_promises, 2);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_quarantined_object_with_dirty_pages_is_kept_until_it_is_discarded() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, [1]);
        script.next_gets([Twist::ClaimUnfilled]);
        assert!(rig.map.fault(va, Access::Read).is_err());
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        assert!(matches!(object.release(), Err(Error::Quarantined(_))));
        assert_eq!((rig.engine.object_counts(), script.puts()), ((1, 1), 0));
        rig.engine.discard_all().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn other_objects_go_on_when_one_is_quarantined() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        let (_, healthy, healthy_va) = rig.mapped(1);
        script.next_gets([Twist::ClaimUnfilled]);
        assert!(rig.map.fault(va, Access::Read).is_err());
        assert_eq!(rig.load_page(healthy_va), pattern(0));
        drop((object, healthy));
        rig.assert_nothing_left();
    });
}

#[test]
fn s146_a_completion_before_the_operation_returns_is_the_answer() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::CompleteFirst]);
        assert_eq!(rig.load_page(va), pattern(0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn requests_complete_in_any_order() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        script.all_gets(Some(Twist::Defer));
        thread::scope(|scope| {
            let faults: Vec<_> = (0..4)
                .map(|i| {
                    let map = &rig.map;
                    scope.spawn(move || map.fault(page_at(va, i), Access::Read))
                })
                .collect();
            let mut pending = script.take_pending(4);
            pending.sort_by_key(|io| std::cmp::Reverse(io.first()));
            for io in &pending {
                script.finish(io);
                assert!(!io.complete(Ok(())), "a second completion does not count");
            }
            for fault in faults {
                fault.join().unwrap().unwrap();
            }
        });
        assert!((0..4).all(|i| rig.load_page(page_at(va, i)) == pattern(i)));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_release_waits_for_requests_under_way() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            rig.map.unmap(va, PAGE_SIZE).unwrap();
            let release = scope.spawn(|| object.release());
            assert!(!script.calls().contains(&Call::Close));
            script.finish(&io);
            release.join().unwrap().unwrap();
            assert_eq!(fault.join().unwrap(), Err(FaultError::NotMapped(va)));
        });
        assert_eq!(script.calls(), [Call::Get(0, 1), Call::Close]);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_read_only_object_is_not_mapped_for_writing() {
    in_all_modes(|rig| {
        let (_script, pager) = Script::with(PagerOps::empty(), 1);
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        assert!(matches!(
            rig.map.map(&object, &MapRequest::read_write(PAGE_SIZE)),
            Err(Error::Unsupported(_))
        ));
        let raisable = MapRequest {
            max_prot: Prot::all(),
            ..MapRequest::read_only(PAGE_SIZE)
        };
        assert!(
            matches!(rig.map.map(&object, &raisable), Err(Error::Unsupported(_))),
            "nor so that it could become so"
        );
        rig.map.map(&object, &MapRequest::read_only(PAGE_SIZE)).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn nothing_at_or_beyond_the_end_is_written() {
    in_all_modes(|rig| {
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, PAGE_SIZE + 10).unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        rig.map.store(VirtAddr(va.0 + PAGE_SIZE), &[0xab; 20]).unwrap();
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[..10], [0xab; 10]);
        assert_eq!(script.stored(1)[10..], [0; PAGE_BYTES - 10]);
        drop(object);
        rig.assert_nothing_left();
    });
}

fn populated(rig: &Rig, pages: u64) -> (Script, quire_core::object::ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::POPULATE, 1);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_only(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

/// Inserts a page through a populate request, and fills it.
fn install(request: &quire_core::populate::Populate, index: u64) {
    fill(request, request.insert(PageIndex(index)).unwrap(), index);
}

fn fill(request: &quire_core::populate::Populate, bytes: std::ptr::NonNull<u8>, index: u64) {
    // SAFETY: the request lends PAGE_BYTES bytes until it ends.
    unsafe { bytes.as_ptr().write_bytes(u8::try_from(index).unwrap(), PAGE_BYTES) };
    assert!(request.ready(PageIndex(index)));
}

#[test]
fn populate_installs_a_window_in_one_call_and_no_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 16);
        script.on_populate(|request| {
            (4..12).for_each(|i| install(request, i));
            Populated::Range(PageIndex(4), PageIndex(11))
        });
        for i in 4..12 {
            assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
        }
        assert_eq!(
            script.calls(),
            [Call::Populate(4)],
            "s238: pages already there ask nobody"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s217_s219_populate_is_told_the_window_and_the_maximum_protection() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT, 1);
        let object = rig.engine.create_object(pager, 16 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            offset: ByteOff(3 * PAGE_SIZE),
            max_prot: Prot::READ | Prot::WRITE,
            place: Place::FixedNoReplace(VirtAddr(0x20_0000)),
            ..MapRequest::read_only(5 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        script.on_populate(|request| {
            let plan = request.plan();
            assert_eq!(
                (plan.index, plan.first, plan.last),
                (PageIndex(5), PageIndex(3), PageIndex(7))
            );
            assert_eq!((plan.access, plan.max_prot), (Access::Read, Prot::READ | Prot::WRITE));
            install(request, 5);
            Populated::Range(PageIndex(5), PageIndex(5))
        });
        rig.map.fault(page_at(va, 2), Access::Read).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s221_a_populate_that_declines_is_followed_by_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 2);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(script.calls(), [Call::Populate(0), Call::Get(0, 1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s222_a_populate_that_fails_is_a_failed_fault_and_leaves_no_busy_page() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        script.on_populate(|request| {
            install(request, 1);
            request.insert(PageIndex(2)).unwrap();
            Populated::Failed(PagerError::bare(Cause::Io))
        });
        assert!(matches!(rig.map.fault(va, Access::Read), Err(FaultError::Pager { .. })));
        assert_eq!(object.resident(), 1, "the filled page is kept, the other one freed");
        assert!(!object.lookup(PageIndex(1)).unwrap().is_busied());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s223_a_populate_answer_that_does_not_hold_is_a_broken_promise() {
    in_all_modes(|rig| {
        let bad: [(u64, u64); 4] = [(2, 1), (1, 2), (0, 99), (0, 2)];
        for (first, last) in bad {
            let (script, object, va) = populated(&rig, 4);
            script.on_populate(move |request| {
                install(request, 0);
                Populated::Range(PageIndex(first), PageIndex(last))
            });
            let error = rig.map.fault(va, Access::Read).unwrap_err();
            assert!(
                matches!(error, FaultError::Quarantined(_)),
                "{first} to {last}: {error}"
            );
            rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
            object.release().unwrap();
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_is_there_already_is_left_out_of_populate() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        let present = Arc::new(AtomicU64::new(0));
        let seen = present.clone();
        script.on_populate(move |request| {
            for i in 0..4 {
                match request.insert(PageIndex(i)) {
                    Ok(bytes) => fill(request, bytes, i),
                    Err(NotInserted::Present) => drop(seen.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(request.insert(PageIndex(4)), Err(NotInserted::OutOfRange));
            assert!(!request.ready(PageIndex(4)));
            Populated::Range(PageIndex(0), PageIndex(3))
        });
        rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(present.load(Ordering::Relaxed), 0);
        assert_eq!(object.resident(), 4);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn pages_that_a_pager_keeps_without_leave_are_not_reused_until_it_lets_go() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        script.next_gets([Twist::Defer, Twist::Stray]);
        thread::scope(|scope| {
            let first = scope.spawn(|| rig.map.fault(va, Access::Read));
            let proper = script.take_pending(1).remove(0);
            let second = scope.spawn(|| rig.map.fault(page_at(va, 1), Access::Read));
            let stray = script.take_pending(1).remove(0);
            assert!(matches!(second.join().unwrap(), Err(FaultError::Quarantined(_))));
            let kept = object.lookup(PageIndex(1)).unwrap();
            assert!(kept.is_exclusive(), "its bytes are still in the pager's hands");
            assert!(
                matches!(
                    rig.map.fault(page_at(va, 1), Access::Read),
                    Err(FaultError::Quarantined(_))
                ),
                "no hang"
            );
            script.finish(&proper);
            assert!(matches!(first.join().unwrap(), Err(FaultError::Quarantined(_))));
            rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
            assert!(matches!(object.release(), Err(Error::InUse(_))), "closing is put off");
            assert!(matches!(rig.engine.discard_all(), Err(Error::InUse(_))));
            script.finish(&stray);
        });
        rig.engine.sync(FlushFlags::empty()).unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Close));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_waiter_for_a_page_that_is_kept_without_leave_gets_an_error() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        rig.map.store(va, b"dirty").unwrap();
        script.next_puts([Twist::Stray]);
        let error = object.object().flush_all(FlushFlags::empty()).unwrap_err();
        assert!(matches!(error, Error::WriteBack { pages: 1, .. }), "{error}");
        assert!(object.object().flush_all(FlushFlags::empty()).is_err(), "no hang");
        rig.map.clear().unwrap();
        assert!(matches!(object.release(), Err(Error::InUse(_))));
        script.finish(&script.take_pending(1)[0]);
        assert!(
            matches!(rig.engine.sync(FlushFlags::empty()), Err(Error::Quarantined(_))),
            "still dirty, still kept"
        );
        rig.engine.discard_all().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_device_that_is_told_there_is_no_memory_is_asked_again_when_there_is() {
    in_all_modes_with_frames(8, |rig| {
        let (script, object, va) = populated(&rig, 64);
        script.on_populate(|request| {
            let index = request.plan().index;
            match request.insert(index) {
                Ok(bytes) => {
                    fill(request, bytes, index.0);
                    Populated::Range(index, index)
                }
                Err(NotInserted::NoMemory) => Populated::Failed(PagerError::bare(Cause::NoMemory)),
                Err(_) => Populated::Restart,
            }
        });
        for i in 0..64 {
            assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
        }
        assert!(rig.engine.stats().counts().pages_reclaimed > 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_honest_device_is_not_condemned_for_pages_that_memory_pressure_takes() {
    in_all_modes_with_frames(24, |rig| {
        let (script, object, va) = populated(&rig, 64);
        script.on_populate(|request| {
            let index = request.plan().index;
            match request.insert(index) {
                Ok(bytes) => fill(request, bytes, index.0),
                Err(NotInserted::NoMemory) => return Populated::Failed(PagerError::bare(Cause::NoMemory)),
                Err(_) => {}
            }
            Populated::Range(index, index)
        });
        thread::scope(|scope| {
            for t in 0..4_u64 {
                let rig = &rig;
                scope.spawn(move || {
                    for round in 0..400_u64 {
                        let i = (round * 7 + t * 13) % 64;
                        assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
                    }
                });
            }
        });
        assert!(!object.is_quarantined());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_populate_that_starts_over_for_ever_ends_in_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 1);
        script.on_populate(|_| Populated::Restart);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(script.gets(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_populate_says_is_ready_and_is_not_filled_is_a_broken_promise() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 1);
        script.on_populate(|request| {
            let bytes = request.insert(PageIndex(0)).unwrap();
            // SAFETY: the request lends PAGE_BYTES bytes until it ends.
            unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES / 2) };
            assert!(request.ready(PageIndex(0)));
            Populated::Range(PageIndex(0), PageIndex(0))
        });
        assert!(matches!(
            rig.map.fault(va, Access::Read),
            Err(FaultError::Quarantined(_))
        ));
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_populate_request_that_has_ended_takes_no_more_pages() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        let kept = Arc::new(std::sync::Mutex::new(None));
        let keep = kept.clone();
        script.on_populate(move |request| {
            install(request, 0);
            *keep.lock().unwrap() = Some(request.clone());
            Populated::Range(PageIndex(0), PageIndex(0))
        });
        rig.map.fault(va, Access::Read).unwrap();
        let request = kept.lock().unwrap().take().unwrap();
        assert_eq!(request.insert(PageIndex(2)), Err(NotInserted::Ended));
        drop((request, script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn nobody_is_told_that_all_is_written_while_somebody_still_writes() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        dirty(&rig, va, [0]);
        rig.map.clear().unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let put = script.take_pending(1).remove(0);
            let end = scope.spawn(|| rig.engine.shut_down());
            script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
            script.fail(&put, Cause::Errno(28));
            assert!(matches!(release.join().unwrap(), Err(Error::WriteBack { .. })));
            assert!(matches!(end.join().unwrap(), Err(Error::WriteBack { .. })));
        });
        script.all_puts(None);
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        assert!(
            script.calls().ends_with(&[Call::Put(0, 1), Call::Sync, Call::Close]),
            "durable, as was asked"
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn after_a_failed_sync_what_was_put_is_put_again() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, [1]);
        script.sync_fails(Some(Cause::Errno(5)));
        assert!(object.object().flush_all(FlushFlags::DURABLE).is_err());
        script.sync_fails(None);
        object.object().flush_all(FlushFlags::DURABLE).unwrap();
        assert!(
            script
                .calls()
                .ends_with(&[Call::Put(1, 1), Call::Sync, Call::Put(1, 1), Call::Sync])
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_came_stray_while_its_object_was_closed_puts_the_closing_off() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        let (other_script, other) = rig.object(1);
        script.next_gets([Twist::DeferThenStray]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            rig.map.clear().unwrap();
            let release = scope.spawn(|| object.release());
            script.let_go();
            assert!(fault.join().unwrap().is_err());
            assert!(matches!(release.join().unwrap(), Err(Error::InUse(_))));
            script.finish(&io);
        });
        rig.engine.sync(FlushFlags::empty()).unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Close));
        drop((other, other_script));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_needs_memory_to_write_gets_an_answer() {
    in_all_modes_with_frames(4, |rig| {
        let rig = Arc::new(rig);
        let (_script, other, other_va) = rig.mapped(1);
        let (script, object, va) = rig.mapped(5);
        let weak = Arc::downgrade(&rig);
        script.before_puts(move || {
            let rig = weak.upgrade().unwrap();
            let mut bytes = [0; 1];
            // All frames are those that are being put: there is none, and no waiting for oneself.
            let _answer = rig.map.copy_out(other_va, &mut bytes);
        });
        for i in 0..5 {
            rig.map.store(page_at(va, i), &[0xd2]).unwrap();
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert!((0..5).all(|i| script.stored(i)[0] == 0xd2));
        script.before_puts(|| {});
        drop((object, other, script));
        Arc::into_inner(rig).unwrap().assert_nothing_left();
    });
}
