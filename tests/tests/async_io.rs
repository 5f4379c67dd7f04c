//! Requests that stay pending: any order of completion, nobody who waits, completions that never come. On every kind of
//! soft machine.

use std::thread;
use std::time::Duration;

use quire_core::error::{Cause, Error};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::ObjectRef;
use quire_core::pager::PagerOps;
use quire_core::read_ahead::Worker;
use quire_core::requests::Operation;
use quire_core::types::{Advice, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at, pattern};

const OPS: PagerOps = PagerOps::PUT.union(PagerOps::HAS_PAGE).union(PagerOps::ASYNC);

fn mapped(rig: &Rig, max_run: u32, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(OPS, max_run);
    script.offers(255, 255);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

/// A read-ahead of pages 8 to 23 is pending, and pages 0 to 7 are in memory.
fn reading_ahead(rig: &Rig, script: &Script, va: VirtAddr) {
    rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
    script.next_gets([Twist::Obey, Twist::Defer]);
    assert_eq!(rig.load_page(va), pattern(0));
    assert_eq!(
        script.calls(),
        [Call::Get(0, 8), Call::Get(8, 16)],
        "the fault did not wait for the second"
    );
}

#[test]
fn s90_a_flush_has_several_puts_under_way_and_waits_for_all_of_them_in_any_order() {
    in_all_modes(|rig| {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let (script, object, va) = mapped(&rig, 4, 12);
            for i in 0..12 {
                rig.map.store(page_at(va, i), &[7]).unwrap();
            }
            script.all_puts(Some(Twist::Defer));
            thread::scope(|scope| {
                let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
                let mut ios = script.take_pending(3);
                ios.sort_by_key(|io| io.first());
                for i in order {
                    assert!(!flush.is_finished());
                    script.finish(&ios[i]);
                }
                flush.join().unwrap().unwrap();
            });
            assert_eq!(object.dirty_pages(), 0);
            script.all_puts(None);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn d4_an_error_that_comes_late_reaches_the_flush_and_leaves_its_pages_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4, 12);
        for i in 0..12 {
            rig.map.store(page_at(va, i), &[7]).unwrap();
        }
        script.next_puts([Twist::Defer, Twist::Defer, Twist::Defer]);
        let flushed = thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            let mut ios = script.take_pending(3);
            ios.sort_by_key(|io| io.first());
            script.finish(&ios[2]);
            script.fail(&ios[1], Cause::Errno(5));
            script.finish(&ios[0]);
            flush.join().unwrap()
        });
        assert!(matches!(flushed, Err(Error::WriteBack { pages: 4, .. })), "{flushed:?}");
        assert_eq!(rig.engine.stats().counts().writes_failed, 1);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_is_being_read_ahead_is_waited_for_and_not_asked_for_again() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        reading_ahead(&rig, &script, va);
        let io = script.take_pending(1).remove(0);
        thread::scope(|scope| {
            let readers: Vec<_> = [8, 15, 23]
                .map(|i| {
                    scope.spawn({
                        let rig = &rig;
                        move || rig.load_page(page_at(va, i))
                    })
                })
                .into();
            script.finish(&io);
            for (reader, i) in readers.into_iter().zip([8, 15, 23]) {
                assert_eq!(reader.join().unwrap(), pattern(i));
            }
        });
        assert!(
            script
                .calls()
                .iter()
                .all(|call| !matches!(call, Call::Get(8..24, n) if *n != 16))
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s146_whoever_comes_settles_a_read_ahead_that_has_completed() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        reading_ahead(&rig, &script, va);
        let io = script.take_pending(1).remove(0);
        assert_eq!(rig.engine.settle_requests(), 0, "it is not complete");
        script.finish(&io);
        assert!(
            object.lookup(PageIndex(8)).unwrap().is_exclusive(),
            "completing only records"
        );
        assert_eq!(rig.engine.settle_requests(), 1);
        assert!((8..24).all(|i| !object.lookup(PageIndex(i)).unwrap().is_busied()));
        assert_eq!(rig.engine.stats().counts().pages_read_ahead, 16);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s147_the_worker_settles_what_completes_while_nobody_comes() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        let worker = Worker::spawn(&rig.engine).unwrap();
        reading_ahead(&rig, &script, va);
        script.finish(&script.take_pending(1)[0]);
        while rig.engine.stats().counts().pages_read_ahead < 16 {
            thread::yield_now();
        }
        drop(worker);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s112_a_read_ahead_that_fails_late_is_nobodys_error() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        reading_ahead(&rig, &script, va);
        script.fail(&script.take_pending(1)[0], Cause::Io);
        assert_eq!(rig.load_page(page_at(va, 8)), pattern(8), "asked for again");
        assert_eq!(rig.engine.stats().counts().read_aheads_failed, 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s150_closing_waits_for_what_is_being_read_ahead() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        reading_ahead(&rig, &script, va);
        let io = script.take_pending(1).remove(0);
        thread::scope(|scope| {
            let closing = scope.spawn(|| {
                rig.map.clear().unwrap();
                object.release().unwrap();
            });
            // The last use is gone once the object takes no more; its pager has not been closed before the request ended.
            while rig.engine.requests_under_way().len() != 1 {
                thread::yield_now();
            }
            assert!(!script.calls().contains(&Call::Close));
            script.finish(&io);
            closing.join().unwrap();
        });
        assert_eq!(script.calls().last(), Some(&Call::Close));
        rig.assert_nothing_left();
    });
}

#[test]
fn s147_a_request_whose_completion_does_not_come_is_found_with_its_object() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        reading_ahead(&rig, &script, va);
        assert_eq!(rig.engine.overdue(Duration::from_secs(3600)), []);
        let overdue = rig.engine.overdue(Duration::ZERO);
        assert_eq!(overdue.len(), 1);
        let request = &overdue[0];
        assert_eq!((request.object, request.operation), (object.id(), Operation::Get));
        assert_eq!((request.first, request.pages), (PageIndex(8), 16));
        assert_eq!(request.name, "scripted pager");
        script.finish(&script.take_pending(1)[0]);
        assert_eq!(rig.engine.overdue(Duration::ZERO), []);
        rig.engine.settle_requests();
        assert_eq!(rig.engine.requests_under_way(), []);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s147_puts_that_are_under_way_are_listed() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 4, 8);
        for i in 0..8 {
            rig.map.store(page_at(va, i), &[7]).unwrap();
        }
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            let ios = script.take_pending(2);
            let overdue = rig.engine.overdue(Duration::ZERO);
            assert!(
                overdue
                    .iter()
                    .all(|request| request.operation == Operation::Put && request.pages == 4)
            );
            assert_eq!(overdue.len(), 2);
            ios.iter().for_each(|io| script.finish(io));
            flush.join().unwrap().unwrap();
        });
        assert_eq!(rig.engine.requests_under_way(), []);
        script.all_puts(None);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_read_ahead_that_pends_without_leave_quarantines_the_object_and_hangs_nobody() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 256, 64);
        rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
        script.next_gets([Twist::Obey, Twist::Stray]);
        assert_eq!(rig.load_page(va), pattern(0));
        assert!(object.is_quarantined());
        rig.map.load(page_at(va, 9), &mut [0]).unwrap_err();
        script.finish(&script.take_pending(1)[0]);
        rig.map.clear().unwrap();
        object.discard().unwrap();
        rig.assert_nothing_left();
    });
}
