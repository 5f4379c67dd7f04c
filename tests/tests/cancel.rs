//! Requests that do not end by themselves: cancelled by whoever ends their object, given up by faults with a time-out,
//! reported by the watchdog. On every kind of soft machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::log::Log;
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef};
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::PagerOps;
use quire_core::soft::SoftConfig;
use quire_core::types::{Access, Advice, PAGE_SIZE, PageIndex, VirtAddr};
use quire_core::watchdog::Watchdog;
use quire_tests::{Call, Mode, OnCancel, Rig, Script, Twist, in_all_modes, page_at, pattern};

const OPS: PagerOps = PagerOps::PUT
    .union(PagerOps::HAS_PAGE)
    .union(PagerOps::ASYNC)
    .union(PagerOps::CANCEL);

/// Enough for a pager that answers at once, and over as soon as one does not.
const AT_ONCE: Duration = Duration::from_nanos(1);

fn mapped(rig: &Rig, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(OPS, 256);
    script.offers(255, 255);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

fn in_all_modes_with_timeout(test: impl Fn(Rig)) {
    let options = EngineOptions {
        fault_timeout: Some(AT_ONCE),
        ..EngineOptions::default()
    };
    for mode in Mode::exact() {
        eprintln!("mode: {mode:?}");
        test(Rig::with_options(mode, &options));
    }
}

fn give_up(rig: &Rig, va: VirtAddr, index: u64) {
    assert_eq!(
        rig.map.fault(page_at(va, index), Access::Read),
        Err(FaultError::TimedOut(PageIndex(index)))
    );
}

#[test]
fn terminate_cancels_what_is_being_read_and_its_fault_learns_why() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            script.wait_for_pending(1);
            object.object().terminate(Dirty::Write).unwrap();
            assert_eq!(fault.join().unwrap(), Err(FaultError::Terminated));
        });
        assert_eq!(script.calls(), [Call::Get(0, 1), Call::Cancel(0), Call::Close]);
        assert_eq!(rig.engine.stats().counts().requests_cancelled, 1);
        rig.map.clear().unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_get_that_is_begun_while_its_object_ends_is_cancelled_as_well() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.next_gets([Twist::DeferLate]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            script.wait_for_pending(1);
            let ending = scope.spawn(|| object.object().terminate(Dirty::Write));
            // The object ends, and waits for the page; only now does the pager say that the request pends.
            while rig.map.fault(page_at(va, 1), Access::Read) != Err(FaultError::Terminated) {
                thread::yield_now();
            }
            script.let_go();
            ending.join().unwrap().unwrap();
            assert_eq!(fault.join().unwrap(), Err(FaultError::Terminated));
        });
        assert_eq!(script.cancels(), 1);
        rig.map.clear().unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn closing_cancels_a_read_ahead_that_nobody_waits_for() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 64);
        rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
        script.next_gets([Twist::Obey, Twist::Defer]);
        assert_eq!(rig.load_page(va), pattern(0));
        rig.map.clear().unwrap();
        object.release().unwrap();
        let calls = script.calls();
        assert!(
            matches!(calls[..], [_, Call::Get(from, _), Call::Cancel(of), Call::Close] if from == of),
            "{calls:?}"
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn giving_an_object_up_cancels_its_puts_and_the_flush_is_told() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        rig.map.store(va, &[7]).unwrap();
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            script.wait_for_pending(1);
            object.object().terminate(Dirty::Discard).unwrap();
            let flushed = flush.join().unwrap();
            assert!(
                matches!(&flushed, Err(Error::WriteBack { error, .. }) if error.cause == Cause::Cancelled),
                "{flushed:?}"
            );
        });
        assert_eq!(script.cancels(), 1);
        rig.map.clear().unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_put_that_is_cancelled_leaves_its_pages_dirty_and_the_next_flush_writes_them() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        rig.map.store(va, &[7]).unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            script.wait_for_pending(1);
            assert_eq!(
                rig.engine.cancel_overdue(Duration::from_secs(3600)),
                0,
                "none is so old"
            );
            // Until the pager has answered that it pends there is nothing to ask it.
            while script.cancels() == 0 {
                rig.engine.cancel_overdue(Duration::ZERO);
                thread::yield_now();
            }
            let flushed = flush.join().unwrap();
            assert!(matches!(flushed, Err(Error::WriteBack { pages: 1, .. })), "{flushed:?}");
        });
        assert_eq!(object.dirty_pages(), 1);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(0)[0], 7);
        assert_eq!(rig.engine.cancel_overdue(Duration::ZERO), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_request_is_cancelled_once_unless_the_pager_could_not_be_asked() {
    in_all_modes(|rig| {
        let (script, object, va) = mapped(&rig, 64);
        rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
        script.next_gets([Twist::Obey, Twist::Defer]);
        assert_eq!(rig.load_page(va), pattern(0));
        script.on_cancel(OnCancel::Refuse);
        assert_eq!(rig.engine.cancel_overdue(Duration::ZERO), 0);
        script.on_cancel(OnCancel::GoOn);
        assert_eq!(rig.engine.cancel_overdue(Duration::ZERO), 1);
        assert_eq!(rig.engine.cancel_overdue(Duration::ZERO), 0);
        assert_eq!(script.cancels(), 2);
        script.finish(&script.take_pending(1)[0]);
        assert_eq!(rig.load_page(page_at(va, 8)), pattern(8), "what came to an end counts");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_fault_that_gives_up_cancels_its_request_and_the_next_one_asks_anew() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        assert_eq!(
            rig.load_page(page_at(va, 1)),
            pattern(1),
            "an answer at once is in time"
        );
        script.next_gets([Twist::Defer]);
        give_up(&rig, va, 0);
        assert_eq!(script.calls()[1..], [Call::Get(0, 1), Call::Cancel(0)]);
        assert_eq!(rig.engine.settle_requests(), 1, "nobody waits for it");
        assert_eq!(rig.engine.requests_under_way(), []);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(rig.engine.stats().counts().faults_timed_out, 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_is_given_up_stays_its_pagers_and_a_late_completion_fills_it() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.on_cancel(OnCancel::GoOn);
        script.next_gets([Twist::Defer]);
        give_up(&rig, va, 0);
        give_up(&rig, va, 0);
        assert!(object.lookup(PageIndex(0)).unwrap().is_exclusive(), "it is lent");
        assert_eq!((script.gets(), script.cancels()), (1, 1));
        script.finish(&script.take_pending(1)[0]);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(script.gets(), 1, "filled by the late completion");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_late_failure_frees_the_page_that_was_given_up() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.on_cancel(OnCancel::GoOn);
        script.next_gets([Twist::Defer]);
        give_up(&rig, va, 0);
        script.fail(&script.take_pending(1)[0], Cause::Io);
        assert_eq!(rig.engine.settle_requests(), 1);
        assert!(object.lookup(PageIndex(0)).is_none());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_cancel_that_finishes_the_request_after_all_is_an_answer() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.on_cancel(OnCancel::Finish);
        script.next_gets([Twist::Defer]);
        // It gave up; the last look finds the page, or the one who comes next does.
        let _ = rig.map.fault(va, Access::Read);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!((script.gets(), script.cancels()), (1, 1));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_size_change_waits_for_a_request_that_was_given_up_and_settles_it() {
    in_all_modes_with_timeout(|rig| {
        let (script, pager) = Script::with(OPS | PagerOps::RESIZE, 256);
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(8 * PAGE_SIZE))
            .unwrap()
            .start;
        script.on_cancel(OnCancel::GoOn);
        script.next_gets([Twist::Defer]);
        give_up(&rig, va, 0);
        thread::scope(|scope| {
            let resize = scope.spawn(|| object.object().resize(4 * PAGE_SIZE));
            script.finish(&script.take_pending(1)[0]);
            resize.join().unwrap().unwrap();
        });
        assert_eq!(object.resident(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_writer_gives_up_on_a_page_that_is_being_written_and_the_put_goes_on() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        rig.map.store(va, &[7]).unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            script.wait_for_pending(1);
            assert_eq!(
                rig.map.fault(va, Access::Write),
                Err(FaultError::TimedOut(PageIndex(0)))
            );
            assert_eq!(script.cancels(), 0, "the flush waits for it");
            script.finish(&script.take_pending(1)[0]);
            flush.join().unwrap().unwrap();
        });
        rig.map.store(va, &[8]).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn terminate_frees_a_page_that_was_given_up() {
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, 8);
        script.on_cancel(OnCancel::GoOn);
        script.next_gets([Twist::Defer]);
        give_up(&rig, va, 0);
        thread::scope(|scope| {
            let ending = scope.spawn(|| object.object().terminate(Dirty::Write));
            script.fail(&script.take_pending(1)[0], Cause::Io);
            ending.join().unwrap().unwrap();
        });
        assert_eq!(script.calls().last(), Some(&Call::Close));
        rig.map.clear().unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn faults_that_give_up_against_completions_and_cancels_lose_no_page_and_leave_none_lent() {
    const PAGES: u64 = 8;
    in_all_modes_with_timeout(|rig| {
        let (script, object, va) = mapped(&rig, PAGES);
        script.all_gets(Some(Twist::Defer));
        let faulting = AtomicUsize::new(4);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (rig, faulting) = (&rig, &faulting);
                scope.spawn(move || {
                    for i in 0..200 {
                        match rig.map.fault(page_at(va, (i * 3 + thread) % PAGES), Access::Read) {
                            Ok(_) | Err(FaultError::TimedOut(_)) => {}
                            Err(FaultError::Pager { error, .. }) if error.cause == Cause::Cancelled => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    faulting.fetch_sub(1, Ordering::AcqRel);
                });
            }
            scope.spawn(|| {
                while faulting.load(Ordering::Acquire) > 0 {
                    script.take_pending(0).iter().for_each(|io| script.finish(io));
                    object
                        .object()
                        .put(PageIndex(0)..PageIndex(PAGES), PutFlags::FREE)
                        .unwrap();
                }
            });
        });
        script.all_gets(None);
        script.take_pending(0).iter().for_each(|io| script.finish(io));
        rig.engine.settle_requests();
        assert_eq!(rig.engine.requests_under_way(), []);
        for i in 0..PAGES {
            assert_eq!(rig.load_page(page_at(va, i)), pattern(i));
        }
        drop(object);
        rig.assert_nothing_left();
    });
}

fn watched(overdue_after: Duration) -> (Rig, mpsc::Receiver<String>) {
    let (say, said) = mpsc::channel();
    let options = EngineOptions {
        overdue_after: Some(overdue_after),
        log: Some(Log::new(move |line| drop(say.send(line.to_owned())))),
        ..EngineOptions::default()
    };
    (Rig::with_options(SoftConfig::default(), &options), said)
}

#[test]
fn s147_the_watchdog_reports_each_overdue_request_once_with_its_object() {
    let (rig, said) = watched(Duration::from_secs(30));
    let (script, object, va) = mapped(&rig, 64);
    rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
    script.next_gets([Twist::Obey, Twist::Defer]);
    assert_eq!(rig.load_page(va), pattern(0));
    let now = Instant::now();
    assert_eq!(rig.engine.watchdog_step(now), 0, "not yet");
    assert_eq!(rig.engine.watchdog_step(now + Duration::from_secs(31)), 1);
    assert_eq!(rig.engine.watchdog_step(now + Duration::from_secs(90)), 0, "once");
    let line = said.try_recv().unwrap();
    assert!(
        line.starts_with("scripted pager: the get of 16 page(s) from page 0x8 has been under way for 31"),
        "{line}"
    );
    assert_eq!(said.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!(rig.engine.stats().counts().requests_overdue, 1);
    script.finish(&script.take_pending(1)[0]);
    drop(object);
    rig.assert_nothing_left();
}

#[test]
fn s147_the_watchdogs_thread_finds_a_request_whose_completion_does_not_come() {
    let (rig, said) = watched(Duration::from_nanos(1));
    let (script, object, va) = mapped(&rig, 64);
    let watchdog = Watchdog::spawn(&rig.engine).unwrap();
    rig.map.advise(va, 64 * PAGE_SIZE, Advice::Sequential).unwrap();
    script.next_gets([Twist::Obey, Twist::Defer]);
    assert_eq!(rig.load_page(va), pattern(0));
    // The get that was answered at once may have been found under way as well.
    while !said.recv().unwrap().contains("page(s) from page 0x8 ") {}
    drop(watchdog);
    script.finish(&script.take_pending(1)[0]);
    drop(object);
    rig.assert_nothing_left();
}
