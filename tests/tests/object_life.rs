//! Objects: flush, release, quarantine, and the end of an engine. On every kind of soft machine.

use std::thread;

use quire_core::error::{Cause, Error, FaultError, PagerError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::page::Dirtiness;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at, pattern};

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
            // A machine that only looks for the traces of writes lets the writer through: what is written is a copy.
            while rig.engine.stats().counts().busy_waits + u64::from(writer.is_finished()) < 2 {
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
        script.sync_fails(None);
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
