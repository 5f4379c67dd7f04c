//! A pager that wants to be asked before a clean page is written: when it is asked, and what its refusal does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use quire_core::error::{Cause, Error, FaultError};
use quire_core::map::MapRequest;
use quire_core::mapped::{Residency, SyncFlags};
use quire_core::object::ObjectRef;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, in_all_modes, page_at, pattern, watch};

const PAGES: u64 = 8;
/// The same, for slices.
const COUNT: usize = 8;

/// An object whose pager wants to be asked, mapped to be read and written.
fn asking(rig: &Rig) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::SYNC | PagerOps::PREPARE_WRITE, 256);
    let object = rig.engine.create_object(pager, PAGES * PAGE_SIZE).unwrap();
    let request = MapRequest::read_write(PAGES * PAGE_SIZE);
    let va = rig.map.map(&object, &request).unwrap().start;
    (script, object, va)
}

fn asked(script: &Script) -> Vec<Call> {
    let is_question = |call: &Call| matches!(call, Call::PrepareWrite(..));
    script.calls().into_iter().filter(is_question).collect()
}

#[test]
fn a_clean_page_is_asked_for_once_and_again_after_it_was_written_back() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        rig.map.store(va, &[1]).unwrap();
        rig.map.store(va, &[2]).unwrap();
        rig.map.copy_in(va, &[3]).unwrap();
        assert_eq!(script.calls(), [Call::Get(0, 1), Call::PrepareWrite(0, 1)]);
        rig.map.sync(va, PAGE_SIZE, SyncFlags::empty()).unwrap();
        assert_eq!(script.stored(0)[0], 3);
        rig.map.store(va, &[4]).unwrap();
        rig.map.store(va, &[5]).unwrap();
        assert_eq!(asked(&script), [Call::PrepareWrite(0, 1); 2]);
        rig.map.sync(va, PAGE_SIZE, SyncFlags::empty()).unwrap();
        rig.map.copy_in(va, &[6]).unwrap();
        assert_eq!(asked(&script), [Call::PrepareWrite(0, 1); 3]);
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.stored(0)[0], 6);
    });
}

#[test]
fn reading_asks_nothing_and_maps_clean_pages_without_the_right_to_write() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        rig.map.prefetch(va, PAGES * PAGE_SIZE).unwrap();
        for page in 0..PAGES {
            assert_eq!(rig.load_page(page_at(va, page)), pattern(page));
            let there = rig.map.pmap().extract(page_at(va, page)).unwrap();
            assert_eq!(there.prot, Prot::READ, "page {page}");
        }
        assert_eq!(asked(&script), []);
        let mut seen = [Residency::empty(); COUNT];
        rig.map.residency(va, PAGES * PAGE_SIZE, &mut seen).unwrap();
        assert!(seen.iter().all(|is| !is.contains(Residency::DIRTY)), "{seen:?}");
        rig.map.store(page_at(va, 3), &[1]).unwrap();
        assert_eq!(
            asked(&script),
            [Call::PrepareWrite(3, 1)],
            "the neighbours were not written"
        );
        assert_eq!(object.dirty_pages(), 1);
        rig.map.store(page_at(va, 4), &[1]).unwrap();
        assert_eq!(asked(&script).last(), Some(&Call::PrepareWrite(4, 1)));
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.calls().last(), Some(&Call::Close));
    });
}

#[test]
fn a_refused_write_fails_with_the_pagers_words_and_nothing_is_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        script.prepare_write_fails(Some(Cause::Errno(28)));
        for attempt in [
            rig.map.store(va, &[1]).unwrap_err(),
            rig.map.copy_in(va, &[1]).unwrap_err(),
        ] {
            assert_eq!(attempt.done, 0);
            let FaultError::WriteRefused { index, error } = &attempt.error else {
                panic!("{attempt:?}");
            };
            assert_eq!((index.0, error.cause), (0, Cause::Errno(28)));
            assert_eq!(
                attempt.error.to_string(),
                "page 0x0 may not be written: scripted failure of PrepareWrite(0, 1)"
            );
        }
        assert_eq!(rig.load_page(va), pattern(0), "reading goes on");
        assert!(matches!(
            rig.map.populate(va, PAGES * PAGE_SIZE, Access::Write),
            Err(Error::Fault(FaultError::WriteRefused { .. }))
        ));
        assert_eq!((object.dirty_pages(), script.puts()), (0, 0));
        rig.map.sync(va, PAGES * PAGE_SIZE, SyncFlags::DURABLE).unwrap();
        assert_eq!(script.puts(), 0);
        script.prepare_write_fails(None);
        rig.map.store(va, &[7]).unwrap();
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.stored(0)[0], 7);
    });
}

#[test]
fn a_page_that_is_readable_and_wired_is_asked_for_when_it_is_written() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        rig.map.wire(va, PAGES * PAGE_SIZE).unwrap();
        assert_eq!(asked(&script), []);
        rig.map.store(page_at(va, 2), &[1]).unwrap();
        assert_eq!(asked(&script), [Call::PrepareWrite(2, 1)]);
        rig.map.unwire(va, PAGES * PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn of_several_writers_one_asks_and_no_lock_is_held_meanwhile() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        rig.map.prefetch(va, PAGE_SIZE).unwrap();
        let (at_pager, is_asked) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        script.on_call(move |call| {
            if matches!(call, Call::PrepareWrite(..)) {
                at_pager.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
        });
        thread::scope(|scope| {
            let writers = [0_u64, 1].map(|i| {
                let map = &rig.map;
                scope.spawn(move || map.store(VirtAddr(va.0 + i), &[9]).unwrap())
            });
            is_asked.recv().unwrap();
            // The map and the object can be used beside it.
            assert_eq!(object.lookup(PageIndex(0)).map(|page| page.is_exclusive()), Some(true));
            rig.map.protect(page_at(va, 1), PAGE_SIZE, Prot::READ).unwrap();
            go_on.send(()).unwrap();
            for writer in writers {
                writer.join().unwrap();
            }
        });
        assert_eq!(asked(&script), [Call::PrepareWrite(0, 1)]);
        assert_eq!(rig.load_page(va)[..2], [9, 9]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn mapping_for_writing_ahead_asks_for_a_run_at_once() {
    in_all_modes(|rig| {
        let (script, object, va) = asking(&rig);
        rig.map.store(page_at(va, 3), &[1]).unwrap();
        rig.map.populate(va, PAGES * PAGE_SIZE, Access::Write).unwrap();
        assert_eq!(
            asked(&script),
            [
                Call::PrepareWrite(3, 1),
                Call::PrepareWrite(0, 3),
                Call::PrepareWrite(4, 4)
            ]
        );
        let faults = rig.engine.stats().counts().faults;
        rig.map.store(va, &vec![2; COUNT * PAGE_BYTES]).unwrap();
        assert_eq!(rig.engine.stats().counts().faults, faults);
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.stored(7)[PAGE_BYTES - 1], 2);
    });
}

#[test]
fn a_pager_that_does_not_want_to_be_asked_is_not() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.store(va, &[1]).unwrap();
        assert_eq!(asked(&script), []);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn writers_that_ask_get_through_beside_readers_and_a_flush() {
    in_all_modes(|rig| {
        let _watched = watch(&rig.engine);
        let (script, object, va) = asking(&rig);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut byte = [0];
                    while !stop.load(Ordering::Relaxed) {
                        rig.map.copy_out(VirtAddr(va.0 + 1), &mut byte).unwrap();
                    }
                });
            }
            for round in 0..100_u8 {
                rig.map.store(va, &[round]).unwrap();
                rig.map.sync(va, PAGE_SIZE, SyncFlags::empty()).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!((asked(&script).len(), script.stored(0)[0]), (100, 99));
        drop(object);
        rig.assert_nothing_left();
    });
}
