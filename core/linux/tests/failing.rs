//! Pagers that do not answer or fail while threads are stopped in faults, and what is unmapped meanwhile.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quire_core::error::{Cause, Error, PagerError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::io::{Direction, Io};
use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::{PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Script, Twist, pattern};

use common::{Rig, both, in_a_process, load, own_place, page_at, peek, poke, store};

#[test]
fn sixty_faults_that_wait_stop_nobody_else() {
    both(|serve| {
        let rig = Rig::new(serve, 1024);
        let (stuck_script, stuck) = Script::with(PagerOps::PUT, 1);
        stuck_script.all_gets(Some(Twist::Defer));
        let stuck = rig.engine.create_object(stuck, 60 * PAGE_SIZE).unwrap();
        let stuck_at = rig.map.map(&stuck, &rig.read_write(60)).unwrap().start;
        let (_, well) = Script::new();
        let well = rig.engine.create_object(well, 200 * PAGE_SIZE).unwrap();
        let well_at = rig.map.map(&well, &rig.read_write(200)).unwrap().start;
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..60)
                .map(|page| scope.spawn(move || load(page_at(stuck_at, page))))
                .collect();
            stuck_script.wait_for_pending(60);
            for page in 0..200 {
                store(page_at(well_at, page), 1);
            }
            well.object().flush_all(FlushFlags::empty()).unwrap();
            for io in stuck_script.take_pending(60) {
                stuck_script.finish(&io);
            }
            for (page, thread) in waiting.into_iter().enumerate() {
                assert_eq!(thread.join().unwrap(), pattern(page as u64)[0]);
            }
        });
        stuck.release().unwrap();
        well.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_service_with_a_fault_that_waits_says_so_and_ends_later() {
    let rig = Rig::new(Serve::Threads, 64);
    let (script, pager) = Script::new();
    script.next_gets([Twist::Defer]);
    let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
    let at = own_place();
    rig.map.map(&object, &rig.at(at, 1)).unwrap();
    let error = rig.server.stop(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || peek(at));
        script.wait_for_pending(1);
        // The thread stays where it is: it will see what lies there then.
        rig.map.unmap(at, PAGE_SIZE).unwrap();
        let error = rig.server.stop(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
        script.finish(&script.take_pending(1)[0]);
        assert_eq!(waiting.join().unwrap(), None);
    });
    object.release().unwrap();
    rig.end();
}

#[test]
fn a_handler_that_waits_keeps_its_service() {
    let rig = Rig::new(Serve::InThread, 64);
    let (script, pager) = Script::new();
    script.next_gets([Twist::Defer]);
    let object = rig.engine.create_object(pager, 4 * PAGE_SIZE).unwrap();
    let (_, other) = Script::new();
    let other = rig.engine.create_object(other, 4 * PAGE_SIZE).unwrap();
    let at = own_place();
    rig.map.map(&object, &rig.at(at, 1)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || load(at));
        script.wait_for_pending(1);
        rig.map.unmap(at, PAGE_SIZE).unwrap();
        let error = rig.server.stop(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
        // It is served as before.
        rig.map.map(&other, &rig.at(at, 4)).unwrap();
        script.finish(&script.take_pending(1)[0]);
        assert_eq!(waiting.join().unwrap(), pattern(0)[0]);
        assert_eq!(load(page_at(at, 3)), pattern(3)[0]);
    });
    object.release().unwrap();
    other.release().unwrap();
    rig.end();
}

/// Whoever waits at a range that is replaced sees what lies there afterwards, also where that is served otherwise.
#[test]
fn a_fault_under_way_finds_what_replaced_its_mapping() {
    both(|serve| {
        for serve_then in [Serve::Threads, Serve::InThread] {
            let rig = Rig::new(serve, 64);
            let (script, pager) = Script::new();
            script.next_gets([Twist::Defer]);
            let object = rig.engine.create_object(pager, 4 * PAGE_SIZE).unwrap();
            let (_, other) = Script::new();
            let other = rig.engine.create_object(other, 4 * PAGE_SIZE).unwrap();
            let at = rig.map.map(&object, &rig.read_write(4)).unwrap().start;
            std::thread::scope(|scope| {
                let waiting = scope.spawn(move || load(page_at(at, 1)));
                script.wait_for_pending(1);
                let mut request = MapRequest {
                    serve: serve_then,
                    ..rig.at(at, 2)
                };
                request.offset.0 = 2 * PAGE_SIZE;
                rig.map.map(&other, &request).unwrap();
                script.finish(&script.take_pending(1)[0]);
                assert_eq!(waiting.join().unwrap(), pattern(3)[0]);
            });
            object.release().unwrap();
            other.release().unwrap();
            rig.end();
        }
    });
}

#[test]
fn a_fault_under_way_where_is_nothing_any_more_is_sigsegv() {
    let signals = in_a_process("a_fault_under_way_where_is_nothing_any_more_is_sigsegv", |serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::new();
        script.next_gets([Twist::Defer]);
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        let at = own_place();
        rig.map.map(&object, &rig.at(at, 1)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || load(at));
            script.wait_for_pending(1);
            rig.map.unmap(at, PAGE_SIZE).unwrap();
            script.finish(&script.take_pending(1)[0]);
            waiting.join().unwrap();
        });
    });
    assert_eq!(signals, [Some(libc::SIGSEGV); 2]);
}

#[test]
fn a_fault_that_takes_too_long_is_sigbus() {
    let signals = in_a_process("a_fault_that_takes_too_long_is_sigbus", |serve| {
        let options = EngineOptions {
            fault_timeout: Some(Duration::from_millis(20)),
            ..EngineOptions::default()
        };
        let rig = Rig::with(serve, 64, &options);
        let (script, pager) = Script::new();
        script.all_gets(Some(Twist::Defer));
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(1)).unwrap().start;
        load(at);
    });
    assert_eq!(signals, [Some(libc::SIGBUS); 2]);
}

#[test]
fn a_pagers_error_is_sigbus() {
    let signals = in_a_process("a_pagers_error_is_sigbus", |serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::new();
        script.bad_pages([3]);
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
        load(page_at(at, 2));
        load(page_at(at, 3));
    });
    assert_eq!(signals, [Some(libc::SIGBUS); 2]);
}

#[test]
fn a_failed_page_comes_when_its_cause_is_gone() {
    let rig = Rig::new(Serve::Threads, 64);
    let (script, pager) = Script::new();
    let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
    for page in 0..8 {
        let va = page_at(at, page);
        script.bad_pages([page]);
        assert_eq!(peek(va), None, "page {page}");
        script.bad_pages([]);
        // What failed is told again for a moment, and then the pager is asked.
        while peek(va).is_none() {
            std::thread::yield_now();
        }
        store(va, 5);
    }
    object.object().flush_all(FlushFlags::empty()).unwrap();
    assert!((0..8).all(|page| script.stored(page)[0] == 5));
    object.release().unwrap();
    rig.end();
}

#[test]
fn a_write_that_its_pager_refuses_is_sigbus() {
    let signals = in_a_process("a_write_that_its_pager_refuses_is_sigbus", |serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::with(PagerOps::PUT | PagerOps::PREPARE_WRITE, 16);
        script.prepare_write_fails(Some(Cause::Errno(libc::ENOSPC)));
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(1)).unwrap().start;
        load(at);
        store(at, 1);
    });
    assert_eq!(signals, [Some(libc::SIGBUS); 2]);
}

#[test]
fn a_refused_write_leaves_nothing_dirty_and_the_page_readable() {
    let rig = Rig::new(Serve::Threads, 64);
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::PREPARE_WRITE, 16);
    let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
    for page in 0..8 {
        let va = page_at(at, page);
        // Read before, or not.
        if page % 2 == 0 {
            assert_eq!(load(va), pattern(page)[0]);
        }
        script.prepare_write_fails(Some(Cause::Errno(libc::ENOSPC)));
        assert!(!poke(va, 1), "page {page}");
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.puts(), 0, "page {page}");
        while peek(va).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(load(va), pattern(page)[0]);
    }
    script.prepare_write_fails(None);
    for page in 0..8 {
        while !poke(page_at(at, page), 9) {
            std::thread::yield_now();
        }
    }
    object.object().flush_all(FlushFlags::empty()).unwrap();
    assert!((0..8).all(|page| script.stored(page)[0] == 9));
    object.release().unwrap();
    rig.end();
}

#[test]
fn an_object_that_shrinks_and_grows_fails_behind_its_end_only() {
    let rig = Rig::new(Serve::Threads, 64);
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::RESIZE, 16);
    let object = rig.engine.create_object(pager, 16 * PAGE_SIZE).unwrap();
    let at = rig.map.map(&object, &rig.read_write(16)).unwrap().start;
    for page in 0..16 {
        store(page_at(at, page), 3);
    }
    object.object().resize(8 * PAGE_SIZE).unwrap();
    for page in 0..16 {
        assert_eq!(peek(page_at(at, page)), (page < 8).then_some(3), "page {page}");
    }
    object.object().resize(16 * PAGE_SIZE).unwrap();
    for page in 0..16 {
        while peek(page_at(at, page)).is_none() {
            std::thread::yield_now();
        }
        store(page_at(at, page), 4);
    }
    object.object().flush_all(FlushFlags::empty()).unwrap();
    assert!((0..16).all(|page| script.stored(page)[0] == 4));
    object.release().unwrap();
    rig.end();
}

/// Panics.
#[derive(Debug)]
struct Panics;

impl Pager for Panics {
    fn describe(&self) -> String {
        "panics".into()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::empty()
    }

    fn max_run(&self) -> u32 {
        1
    }

    fn get(&self, _: &Arc<Io>) -> Answer {
        panic!("the test wants this panic")
    }

    fn put(&self, _: &Arc<Io>) -> Answer {
        Answer::Done(Err(PagerError::bare(Cause::Unsupported)))
    }

    fn close(&self) -> Result<(), PagerError> {
        Ok(())
    }
}

#[test]
fn a_pager_that_panics_fails_its_fault_and_no_other() {
    let rig = Rig::new(Serve::Threads, 64);
    let object = rig.engine.create_object(Box::new(Panics), 8 * PAGE_SIZE).unwrap();
    let request = MapRequest::read_only(8 * PAGE_SIZE);
    let at = rig.map.map(&object, &request).unwrap().start;
    for page in 0..4 {
        assert_eq!(peek(page_at(at, page)), None);
    }
    let (_, other) = Script::new();
    let other = rig.engine.create_object(other, 8 * PAGE_SIZE).unwrap();
    let others = rig.map.map(&other, &rig.read_write(8)).unwrap().start;
    for page in 0..8 {
        assert_eq!(load(page_at(others, page)), pattern(page)[0]);
    }
    assert!(object.object().is_quarantined());
    other.release().unwrap();
    rig.map.clear().unwrap();
    rig.server.stop(Duration::from_secs(10)).unwrap();
    let error = object.release().unwrap_err();
    assert!(
        matches!(error, Error::InUse(_)),
        "who panicked may still have the page: {error}"
    );
}

/// A failure is left at an address while others enter the page there, write to it, and see it evicted.
#[test]
fn failures_beside_successes_lose_no_write() {
    const PAGES: u64 = 8;
    for ops in [PagerOps::PUT, PagerOps::PUT | PagerOps::PREPARE_WRITE] {
        let rig = Rig::new(Serve::Threads, 64);
        let (script, pager) = Script::with(ops, 1);
        let object = rig.engine.create_object(pager, PAGES * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(PAGES)).unwrap().start;
        let mut asked = 0u32;
        script.choose(move |direction| {
            asked += 1;
            match direction {
                Direction::Get if asked.is_multiple_of(3) => Twist::Fail(Cause::Io),
                _ => Twist::Obey,
            }
        });
        let stop = AtomicBool::new(false);
        let shadows = std::thread::scope(|scope| {
            let evictor = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let all = PageIndex(0)..PageIndex(PAGES);
                    object.object().put(all, PutFlags::CLEANIT | PutFlags::FREE).unwrap();
                    std::thread::yield_now();
                }
            });
            let writers = [0u64, 1, 2].map(|number| {
                scope.spawn(move || {
                    let mut shadow = [None; PAGES as usize];
                    let mut failed = 0;
                    for i in 0..20_000 {
                        let page = i * 5 % PAGES;
                        let va = VirtAddr(page_at(at, page).0 + 100 + number);
                        // Half of the pages are read first, and so entered protected.
                        if i % 2 == 0 {
                            peek(va);
                        }
                        if poke(va, i as u8) {
                            shadow[page as usize] = Some(i as u8);
                        } else {
                            failed += 1;
                        }
                    }
                    (shadow, failed)
                })
            });
            let shadows = writers.map(|writer| writer.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            evictor.join().unwrap();
            shadows
        });
        object.object().flush_all(FlushFlags::empty()).unwrap();
        for (number, (shadow, failed)) in shadows.iter().enumerate() {
            eprintln!("writer {number}: {failed} writes failed");
            for (page, last) in shadow.iter().enumerate() {
                let stored = script.stored(page as u64)[100 + number];
                assert!(
                    last.is_none_or(|last| last == stored),
                    "{ops:?}: writer {number} lost page {page}"
                );
            }
        }
        object.release().unwrap();
        rig.end();
    }
}
