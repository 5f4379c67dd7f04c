//! Pages by hand: the busy protocol as document 004 has it, grabbing, and moving pages. Wrong use is answered here; where it ends
//! the process is tested in C (`tests/c/pages.c`), and the strict rule of the object's lock in `page_strict.rs`. On every machine.

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use quire_core::error::{Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::{Object, ObjectRef};
use quire_core::page_services::{
    Answer, Caller, Checking, GrabFlags, PageError, PageHandle, set_checking, sleepers, try_lock_object,
};
use quire_core::pager::PagerOps;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at, pattern, watch};

/// Wrong use is a status, in every test of this program.
fn on_every_machine(test: impl Fn(Rig)) {
    set_checking(Checking::empty());
    in_all_modes(|rig| {
        let _watched = watch(&rig.engine);
        test(rig);
    });
}

fn grab(object: &ObjectRef, index: u64, flags: GrabFlags) -> Answer<PageHandle> {
    grab_of(object.object(), index, flags)
}

fn grab_of(object: &Arc<Object>, index: u64, flags: GrabFlags) -> Answer<PageHandle> {
    let mut page = None;
    PageHandle::grab(object, PageIndex(index), 1, flags, Caller::Program, |got| {
        page = Some(got)
    })?;
    Ok(page.expect("one was grabbed"))
}

/// A page with its contents, unbusied.
fn resident(object: &ObjectRef, index: u64) -> PageHandle {
    let page = grab(object, index, GrabFlags::CONTENTS).unwrap();
    page.release_exclusive().unwrap();
    page
}

fn is_misuse<T: std::fmt::Debug>(answer: Answer<T>) {
    assert!(
        matches!(&answer, Err(PageError::Misuse(sentence)) if sentence.len() > 20),
        "{answer:?}"
    );
}

fn bytes(page: PageHandle) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_BYTES];
    page.read(0, &mut bytes).unwrap();
    bytes
}

/// Waits until `count` threads are listed with this message.
fn until_listed(message: &str, count: usize) {
    loop {
        let mut there = 0;
        sleepers(|sleeper| there += usize::from(sleeper.message() == message));
        if there == count {
            return;
        }
        thread::yield_now();
    }
}

fn done(rig: Rig, object: ObjectRef) {
    drop(object);
    rig.assert_nothing_left();
}

#[test]
fn s239_there_is_no_mixture_of_modes() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(2);
        let page = resident(&object, 0);
        assert!(page.try_exclusive().unwrap());
        assert!(!page.try_exclusive().unwrap() && !page.try_shared().unwrap());
        assert!(page.is_exclusive().unwrap() && !page.is_shared().unwrap());
        page.release_exclusive().unwrap();
        assert!(page.try_shared().unwrap() && page.try_shared().unwrap());
        assert!(!page.try_exclusive().unwrap());
        assert!(page.is_shared().unwrap() && !page.is_exclusive().unwrap());
        page.release_shared().unwrap();
        assert!(!page.try_exclusive().unwrap(), "one is left");
        page.release_shared().unwrap();
        assert!(!page.is_busied().unwrap());
        done(rig, object);
    });
}

#[test]
fn s240_a_busied_page_stays_what_it_is_and_an_unbusied_one_may_go() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(3);
        let pages = [0, 1, 2].map(|index| resident(&object, index));
        assert!(pages[0].try_exclusive().unwrap());
        assert!(pages[1].try_shared().unwrap());
        rig.want_all_free();
        for _ in 0..4 {
            rig.engine.daemon_step();
        }
        for (index, page) in [(0, pages[0]), (1, pages[1])] {
            assert_eq!(page.place(), Ok(Some((object.id(), PageIndex(index)))));
        }
        assert_eq!(pages[2].is_valid(), Err(PageError::Stale), "it was taken");
        pages[0].release_exclusive().unwrap();
        pages[1].release_shared().unwrap();
        done(rig, object);
    });
}

#[test]
fn s242_releasing_in_the_wrong_mode_is_misuse_and_changes_nothing() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        is_misuse(page.release_exclusive());
        is_misuse(page.release_shared());
        is_misuse(page.downgrade());
        is_misuse(page.try_upgrade());
        assert!(page.try_exclusive().unwrap());
        is_misuse(page.release_shared());
        is_misuse(page.try_upgrade());
        assert!(page.is_exclusive().unwrap());
        page.downgrade().unwrap();
        is_misuse(page.release_exclusive());
        is_misuse(page.downgrade());
        page.release_shared().unwrap();
        is_misuse(page.release_shared());
        assert!(!page.is_busied().unwrap());
        done(rig, object);
    });
}

#[test]
fn s242_what_the_engine_has_busied_is_not_released_by_hand() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(2);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let bringing = scope.spawn(|| resident(&object, 0));
            let io = script.take_pending(1).remove(0);
            let page = PageHandle::lookup(object.object(), PageIndex(0)).unwrap();
            assert!(page.is_exclusive().unwrap());
            is_misuse(page.release_exclusive());
            is_misuse(page.downgrade());
            is_misuse(page.free());
            is_misuse(page.remove(Caller::Program));
            is_misuse(page.set_valid());
            is_misuse(page.write(0, b"x", Caller::Program));
            is_misuse(page.wire());
            assert!(page.is_exclusive().unwrap() && !page.is_valid().unwrap());
            script.finish(&io);
            assert_eq!(bringing.join().unwrap(), page);
        });
        assert!(
            !PageHandle::lookup(object.object(), PageIndex(0))
                .unwrap()
                .is_busied()
                .unwrap()
        );
        done(rig, object);
    });
}

#[test]
fn s243_trying_answers_at_once() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        assert_eq!(
            (page.try_exclusive(), page.try_exclusive(), page.try_shared()),
            (Ok(true), Ok(false), Ok(false))
        );
        page.downgrade().unwrap();
        assert_eq!((page.try_shared(), page.try_exclusive()), (Ok(true), Ok(false)));
        page.release_shared().unwrap();
        page.release_shared().unwrap();
        done(rig, object);
    });
}

#[test]
fn s244_busied_tells_of_either_mode_and_the_others_of_theirs() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        let state = || {
            (
                page.is_busied().unwrap(),
                page.is_exclusive().unwrap(),
                page.is_shared().unwrap(),
            )
        };
        assert_eq!(state(), (false, false, false));
        page.exclusive("own").unwrap();
        // By anyone, also asked on another thread (D12).
        thread::scope(|scope| scope.spawn(|| assert_eq!(state(), (true, true, false))).join().unwrap());
        page.downgrade().unwrap();
        assert_eq!(state(), (true, false, true));
        page.release_shared().unwrap();
        done(rig, object);
    });
}

#[test]
fn s245_downgrading_lets_those_share_who_were_waiting() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        page.exclusive("first").unwrap();
        thread::scope(|scope| {
            let sharer = scope.spawn(|| page.shared("s245"));
            until_listed("s245", 1);
            page.downgrade().unwrap();
            sharer.join().unwrap().unwrap();
            assert_eq!(page.try_upgrade(), Ok(false), "two share it");
            page.release_shared().unwrap();
            assert_eq!(page.try_upgrade(), Ok(true));
            page.release_exclusive().unwrap();
        });
        done(rig, object);
    });
}

#[test]
fn s245_what_is_not_filled_is_not_shared_and_s107_s142_goes_when_it_is_unbusied() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = grab(&object, 0, GrabFlags::empty()).unwrap();
        assert!(!page.is_valid().unwrap());
        is_misuse(page.downgrade());
        is_misuse(page.set_dirty(Caller::Program));
        page.release_exclusive().unwrap();
        assert_eq!((page.is_busied(), object.resident()), (Err(PageError::Stale), 0));
        done(rig, object);
    });
}

#[test]
fn s246_a_sleeper_has_a_message_that_tools_can_read_and_sleeps_once() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        page.sleep("not busied: no sleep").unwrap();
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| page.sleep("s246, a message longer than 31 bytes is cut"));
            until_listed("s246, a message longer than 31 ", 1);
            let mut place = None;
            sleepers(|sleeper| {
                if sleeper.message().starts_with("s246") {
                    place = Some((sleeper.object, sleeper.index));
                }
            });
            assert_eq!(place, Some((object.id(), PageIndex(0))));
            page.release_exclusive().unwrap();
            sleeper.join().unwrap().unwrap();
        });
        until_listed("s246, a message longer than 31 ", 0);
        done(rig, object);
    });
}

#[test]
fn s247_sleep_if_busy_tells_whether_it_slept() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        assert_eq!(page.sleep_if_busy("s247"), Ok(false));
        assert!(page.try_shared().unwrap());
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| page.sleep_if_busy("s247"));
            until_listed("s247", 1);
            page.release_shared().unwrap();
            assert_eq!(sleeper.join().unwrap(), Ok(true));
        });
        done(rig, object);
    });
}

#[test]
fn s248_assertions_do_nothing_where_wrong_use_does_not_end_the_process() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        for assertion in [page.assert_shared(), page.assert_exclusive(), page.assert_unbusied()] {
            assert_eq!(assertion, Ok(()));
        }
        done(rig, object);
    });
}

#[test]
fn s249_the_last_sharer_and_the_exclusive_holder_wake_all_sleepers() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        for exclusively in [true, false] {
            if exclusively {
                page.exclusive("own").unwrap();
            } else {
                page.shared("own").unwrap();
                page.shared("own").unwrap();
            }
            thread::scope(|scope| {
                let sleepers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            page.exclusive("s249").unwrap();
                            page.release_exclusive().unwrap();
                        })
                    })
                    .collect();
                until_listed("s249", 4);
                if exclusively {
                    page.release_exclusive().unwrap();
                } else {
                    page.release_shared().unwrap();
                    page.release_shared().unwrap();
                }
                sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
            });
        }
        done(rig, object);
    });
}

#[test]
fn s249_no_wake_up_is_lost_under_contention() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for me in 0..4_u8 {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..2000_u32 {
                        if (turn + u32::from(me)) % 3 == 0 {
                            page.shared("contend").unwrap();
                            if page.try_upgrade().unwrap() {
                                page.downgrade().unwrap();
                            }
                            page.release_shared().unwrap();
                        } else {
                            page.exclusive("contend").unwrap();
                            page.write(0, &[me, me], Caller::Program).unwrap();
                            assert_eq!(bytes(page)[..2], [me, me], "nobody else was at it");
                            page.release_exclusive().unwrap();
                        }
                    }
                });
            }
        });
        assert!(!page.is_busied().unwrap());
        done(rig, object);
    });
}

#[test]
fn s250_a_page_is_never_freed_or_moved_while_others_have_it() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(2);
        let page = resident(&object, 0);
        is_misuse(page.free());
        is_misuse(page.rename(object.object(), PageIndex(1), Caller::Program));
        assert!(page.try_shared().unwrap());
        is_misuse(page.free());
        is_misuse(page.remove(Caller::Program));
        is_misuse(page.insert(object.object(), PageIndex(1), Caller::Program));
        assert_eq!(page.place(), Ok(Some((object.id(), PageIndex(0)))));
        page.release_shared().unwrap();
        done(rig, object);
    });
}

#[test]
fn s250_a_page_held_by_hand_is_waited_for_by_who_ends_its_object() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(1);
        let page = resident(&object, 0);
        page.exclusive("held").unwrap();
        page.write(0, b"kept", Caller::Program).unwrap();
        thread::scope(|scope| {
            let (ended, end) = mpsc::channel();
            scope.spawn(move || {
                object.release().unwrap();
                ended.send(()).unwrap();
            });
            // The release waits for the page: it cannot come before it was let go of.
            assert!(end.try_recv().is_err());
            assert!(page.is_exclusive().unwrap());
            page.release_exclusive().unwrap();
            end.recv().unwrap();
        });
        assert_eq!(script.stored(0)[..4], *b"kept");
        assert_eq!(page.is_busied(), Err(PageError::Stale));
        rig.assert_nothing_left();
    });
}

#[test]
fn f7_f8_a_sleeper_whose_page_was_freed_finds_its_handle_stale() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let sleepers: Vec<_> = (0..2).map(|_| scope.spawn(|| page.exclusive("f8"))).collect();
            until_listed("f8", 2);
            page.free().unwrap();
            for sleeper in sleepers {
                assert_eq!(sleeper.join().unwrap(), Err(PageError::Stale));
            }
        });
        assert_eq!(object.resident(), 0);
        done(rig, object);
    });
}

#[test]
fn f8_an_upgrade_waits_for_nobody() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        assert!(page.try_shared().unwrap());
        assert_eq!(page.try_upgrade(), Ok(true));
        assert!(page.is_exclusive().unwrap());
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn f17_grab_brings_contents_makes_pages_and_says_what_it_does_not() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(8);
        assert_eq!(grab(&object, 0, GrabFlags::NOCREAT), Err(PageError::Absent));
        assert_eq!(grab(&object, 8, GrabFlags::empty()), Err(PageError::BeyondObject));
        let page = grab(&object, 0, GrabFlags::CONTENTS).unwrap();
        assert!(page.is_exclusive().unwrap() && page.is_valid().unwrap());
        assert_eq!(bytes(page), pattern(0));
        assert_eq!(grab(&object, 0, GrabFlags::NOWAIT), Err(PageError::Busy));
        page.release_exclusive().unwrap();
        assert_eq!(grab(&object, 0, GrabFlags::NOCREAT), Ok(page));
        page.release_exclusive().unwrap();

        let zeros = grab(&object, 1, GrabFlags::ZERO).unwrap();
        assert!(
            zeros.is_valid().unwrap() && zeros.is_dirty().unwrap(),
            "its pager has something else"
        );
        assert_eq!(bytes(zeros), vec![0; PAGE_BYTES]);
        zeros.release_exclusive().unwrap();
        let shared = grab(&object, 2, GrabFlags::SBUSY | GrabFlags::ZERO).unwrap();
        assert!(shared.is_shared().unwrap());
        assert_eq!(grab(&object, 2, GrabFlags::SBUSY | GrabFlags::NOCREAT), Ok(shared));
        shared.release_shared().unwrap();
        shared.release_shared().unwrap();

        let looked_at = grab(&object, 2, GrabFlags::NOBUSY | GrabFlags::NOCREAT).unwrap();
        assert!(!looked_at.is_busied().unwrap());
        assert!(looked_at.try_shared().unwrap());
        let passing = GrabFlags::NOBUSY | GrabFlags::IGN_SBUSY | GrabFlags::NOWAIT | GrabFlags::NOCREAT;
        assert_eq!(grab(&object, 2, passing), Ok(looked_at));
        assert_eq!(grab(&object, 2, passing - GrabFlags::IGN_SBUSY), Err(PageError::Busy));
        looked_at.release_shared().unwrap();

        let wired = grab(&object, 3, GrabFlags::CONTENTS | GrabFlags::WIRED | GrabFlags::NOBUSY).unwrap();
        assert_eq!((wired.wire_count(), wired.is_busied()), (Ok(1), Ok(false)));
        wired.unwire().unwrap();
        assert_eq!(script.stored(3), pattern(3));
        is_misuse(grab(&object, 4, GrabFlags::SBUSY));
        is_misuse(grab(&object, 4, GrabFlags::NOBUSY));
        is_misuse(grab(&object, 4, GrabFlags::SBUSY | GrabFlags::NOBUSY | GrabFlags::ZERO));
        is_misuse(grab(&object, 4, GrabFlags::ZERO | GrabFlags::CONTENTS));
        assert_eq!(object.resident(), 4);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1), vec![0; PAGE_BYTES]);
        done(rig, object);
    });
}

#[test]
fn f17_count_grabs_a_run_that_its_pager_brings_in_one_piece() {
    on_every_machine(|rig| {
        let ops = PagerOps::PUT | PagerOps::HAS_PAGE;
        let (script, pager) = Script::with(ops, 256);
        script.offers(0, 16);
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let mut pages = Vec::new();
        let grabbed = PageHandle::grab(
            object.object(),
            PageIndex(2),
            4,
            GrabFlags::CONTENTS,
            Caller::Program,
            |page| {
                pages.push(page);
            },
        );
        assert_eq!((grabbed, pages.len()), (Ok(4), 4));
        let gets: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|call| matches!(call, Call::Get(..)))
            .collect();
        assert_eq!(gets, [Call::Get(2, 4)]);
        for (page, index) in pages.iter().zip(2..) {
            assert_eq!(bytes(*page), pattern(index));
            page.release_exclusive().unwrap();
        }
        let to_the_end = PageHandle::grab(
            object.object(),
            PageIndex(6),
            9,
            GrabFlags::CONTENTS,
            Caller::Program,
            |page| {
                page.release_exclusive().unwrap();
            },
        );
        assert_eq!(to_the_end, Ok(2), "the object ends there");
        done(rig, object);
    });
}

#[test]
fn f17_waitfail_waits_once_and_nowait_never() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(2);
        let page = resident(&object, 0);
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| grab(&object, 0, GrabFlags::WAITFAIL));
            until_listed("grab", 1);
            page.release_exclusive().unwrap();
            assert_eq!(waiting.join().unwrap(), Err(PageError::Busy));
        });
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| grab(&object, 0, GrabFlags::empty()));
            until_listed("grab", 1);
            page.release_exclusive().unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(page));
        });
        page.release_exclusive().unwrap();
        assert_eq!(
            grab(&object, 1, GrabFlags::CONTENTS | GrabFlags::NOWAIT),
            Err(PageError::Busy)
        );
        done(rig, object);
    });
}

#[test]
fn f17_what_its_pager_cannot_bring_is_told() {
    on_every_machine(|rig| {
        let (script, object) = rig.object(1);
        script.next_gets([Twist::Fail(quire_core::error::Cause::Io)]);
        assert!(matches!(
            grab(&object, 0, GrabFlags::CONTENTS),
            Err(PageError::Failed(Error::Pager(_)))
        ));
        assert_eq!(object.resident(), 0);
        done(rig, object);
    });
}

#[test]
fn pages_made_by_hand_are_seen_through_a_map_and_reach_their_pager() {
    on_every_machine(|rig| {
        let (script, object, va) = rig.mapped(4);
        let page = grab(&object, 1, GrabFlags::empty()).unwrap();
        assert_eq!(bytes(page), vec![0; PAGE_BYTES], "never anybody else's");
        page.write(0, &[7; PAGE_BYTES], Caller::Program).unwrap();
        page.set_valid().unwrap();
        assert!(!page.is_dirty().unwrap(), "its pager has just that, says who filled it");
        page.set_dirty(Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(page_at(va, 1)), vec![7; PAGE_BYTES]);
        assert!(!script.calls().contains(&Call::Get(1, 1)));
        rig.map.store(page_at(va, 1), &[8]).unwrap();
        page.shared("read").unwrap();
        assert_eq!(bytes(page)[..2], [8, 7]);
        page.write(1, &[9], Caller::Program).unwrap();
        page.release_shared().unwrap();
        assert_eq!(rig.load_page(page_at(va, 1))[..3], [8, 9, 7]);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[..3], [8, 9, 7]);
        page.exclusive("clean").unwrap();
        page.write(2, &[1], Caller::Program).unwrap();
        assert!(page.is_dirty().unwrap());
        page.set_clean().unwrap();
        assert!(!page.is_dirty().unwrap());
        page.release_exclusive().unwrap();
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[2], 7, "it was said to be there");
        is_misuse(page.read(0, &mut [0]));
        page.exclusive("bounds").unwrap();
        is_misuse(page.read(4095, &mut [0; 2]));
        is_misuse(page.write(usize::MAX, &[0; 2], Caller::Program));
        page.read(4096, &mut []).unwrap();
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn a_pager_that_wants_to_be_asked_before_a_write_is_asked_for_programs_and_can_refuse() {
    on_every_machine(|rig| {
        let (script, pager) = Script::with(PagerOps::PUT | PagerOps::PREPARE_WRITE, 256);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let page = resident(&object, 0);
        page.exclusive("write").unwrap();
        script.prepare_write_fails(Some(quire_core::error::Cause::Errno(28)));
        assert!(matches!(
            page.write(0, b"x", Caller::Program),
            Err(PageError::Failed(Error::Pager(_)))
        ));
        assert_eq!((page.is_dirty(), bytes(page)), (Ok(false), pattern(0)));
        page.write(0, b"x", Caller::Pager).unwrap();
        page.set_clean().unwrap();
        script.prepare_write_fails(None);
        page.set_dirty(Caller::Program).unwrap();
        let asked = script
            .calls()
            .iter()
            .filter(|call| **call == Call::PrepareWrite(0, 1))
            .count();
        assert_eq!(asked, 2);
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn pages_of_an_object_that_cannot_be_written_are_not_dirty() {
    on_every_machine(|rig| {
        let (_script, pager) = Script::with(PagerOps::empty(), 256);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let page = resident(&object, 0);
        page.exclusive("write").unwrap();
        for refused in [page.write(0, b"x", Caller::Program), page.set_dirty(Caller::Pager)] {
            assert!(matches!(refused, Err(PageError::Failed(Error::Unsupported(_)))));
        }
        assert_eq!((page.is_dirty(), bytes(page)), (Ok(false), pattern(0)));
        // A new one is filled by hand, with what its pager has.
        let new = grab(&object, 1, GrabFlags::empty()).unwrap();
        new.write(0, &pattern(1), Caller::Pager).unwrap();
        new.set_valid().unwrap();
        for page in [page, new] {
            page.release_exclusive().unwrap();
        }
        done(rig, object);
    });
}

#[test]
fn a_wired_page_stays_and_its_wirings_are_its_own() {
    on_every_machine(|rig| {
        let (script, object, va) = rig.mapped(4);
        let page = resident(&object, 1);
        is_misuse(page.wire());
        page.shared("wire").unwrap();
        page.wire().unwrap();
        page.wire().unwrap();
        page.release_shared().unwrap();
        rig.map.wire(page_at(va, 1), PAGE_SIZE).unwrap();
        assert_eq!(page.wire_count(), Ok(3));
        page.exclusive("free").unwrap();
        is_misuse(page.free());
        is_misuse(page.remove(Caller::Program));
        page.release_exclusive().unwrap();
        rig.map.unwire(page_at(va, 1), PAGE_SIZE).unwrap();
        rig.want_all_free();
        rig.engine.daemon_step();
        assert_eq!(page.wire_count(), Ok(2), "it is in memory still");
        page.unwire().unwrap();
        page.unwire().unwrap();
        is_misuse(page.unwire());
        rig.engine.daemon_step();
        rig.engine.daemon_step();
        assert_eq!(page.wire_count(), Err(PageError::Stale));
        drop(script);
        done(rig, object);
    });
}

#[test]
fn a_held_page_that_its_object_loses_makes_its_handle_stale_and_owes_nothing() {
    on_every_machine(|rig| {
        let (_script, object, va) = rig.mapped(4);
        let page = resident(&object, 3);
        page.shared("hold").unwrap();
        page.wire().unwrap();
        page.release_shared().unwrap();
        rig.map.wire(page_at(va, 3), PAGE_SIZE).unwrap();
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        assert_eq!(page.unwire(), Err(PageError::Stale));
        object.object().set_size(4 * PAGE_SIZE).unwrap();
        // One wiring was lost, that of the entry, and not two: the other map's is not taken instead.
        let other = rig.another_map();
        let there = other
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        other.wire(page_at(there, 3), PAGE_SIZE).unwrap();
        let new = PageHandle::lookup(object.object(), PageIndex(3)).unwrap();
        assert_eq!(new.wire_count(), Ok(1));
        rig.map.unwire(page_at(va, 3), PAGE_SIZE).unwrap();
        assert_eq!(new.wire_count(), Ok(1), "that was the lost one");
        other.unwire(page_at(there, 3), PAGE_SIZE).unwrap();
        assert_eq!(new.wire_count(), Ok(0));
        other.clear().unwrap();
        drop(other);
        done(rig, object);
    });
}

#[test]
fn a_page_is_renamed_between_objects_with_what_it_holds() {
    on_every_machine(|rig| {
        let (script_a, a, va) = rig.mapped(4);
        let (script_b, b, vb) = rig.mapped(4);
        rig.map.store(page_at(va, 1), b"moved").unwrap();
        let page = grab(&a, 1, GrabFlags::NOCREAT | GrabFlags::WIRED).unwrap();
        page.rename(b.object(), PageIndex(2), Caller::Program).unwrap();
        assert_eq!(page.place(), Ok(Some((b.id(), PageIndex(2)))));
        assert!(page.is_exclusive().unwrap() && page.is_dirty().unwrap());
        assert_eq!((page.wire_count(), a.resident(), b.resident()), (Ok(1), 0, 1));
        page.unwire().unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(page_at(vb, 2))[..5], *b"moved");
        assert_eq!(rig.load_page(page_at(va, 1)), pattern(1), "as its pager has it");
        b.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script_b.stored(2)[..5], *b"moved");
        assert_eq!(script_a.stored(1), pattern(1));
        // Within one object, and clean: what moves is dirty where it comes.
        let page = grab(&b, 2, GrabFlags::NOCREAT).unwrap();
        page.rename(b.object(), PageIndex(0), Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(vb)[..5], *b"moved");
        b.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script_b.stored(0)[..5], *b"moved");
        drop(a);
        done(rig, b);
    });
}

#[test]
fn a_place_that_is_taken_or_not_there_is_refused_and_the_page_stays() {
    on_every_machine(|rig| {
        let (_script_a, a, va) = rig.mapped(2);
        let (_script_b, b) = rig.object(2);
        let (_script_c, pager) = Script::with(PagerOps::empty(), 256);
        let read_only = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        resident(&b, 1);
        let page = grab(&a, 0, GrabFlags::CONTENTS).unwrap();
        let move_to = |object: &ObjectRef, index| page.rename(object.object(), PageIndex(index), Caller::Program);
        assert_eq!(move_to(&b, 1), Err(PageError::Occupied));
        assert_eq!(move_to(&b, 2), Err(PageError::BeyondObject));
        assert!(matches!(
            move_to(&read_only, 0),
            Err(PageError::Failed(Error::Unsupported(_)))
        ));
        let elsewhere = Rig::new(rig.mode);
        let (_script_d, foreign) = elsewhere.object(1);
        assert!(matches!(
            move_to(&foreign, 0),
            Err(PageError::Failed(Error::Invalid(_)))
        ));
        assert_eq!(page.place(), Ok(Some((a.id(), PageIndex(0)))));
        assert!(page.is_exclusive().unwrap() && !page.is_dirty().unwrap());
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(va), pattern(0));
        done(elsewhere, foreign);
        drop((a, read_only));
        done(rig, b);
    });
}

#[test]
fn a_page_in_no_object_keeps_its_bytes_until_it_is_inserted_or_freed() {
    on_every_machine(|rig| {
        let (script, object, va) = rig.mapped(4);
        rig.map.store(va, b"out").unwrap();
        let page = grab(&object, 0, GrabFlags::NOCREAT).unwrap();
        is_misuse(page.insert(object.object(), PageIndex(1), Caller::Program));
        page.remove(Caller::Program).unwrap();
        assert_eq!((page.place(), object.resident()), (Ok(None), 0));
        assert!(page.is_exclusive().unwrap());
        is_misuse(page.remove(Caller::Program));
        is_misuse(page.release_exclusive());
        is_misuse(page.downgrade());
        assert_eq!(rig.load_page(va), pattern(0), "brought in anew");
        page.write(3, b"side", Caller::Program).unwrap();
        assert_eq!(rig.engine.shut_down().map_err(|_| ()), Err(()), "a page is out");
        page.insert(object.object(), PageIndex(3), Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(page_at(va, 3))[..7], *b"outside");
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(3)[..7], *b"outside");

        let page = grab(&object, 3, GrabFlags::NOCREAT).unwrap();
        page.remove(Caller::Program).unwrap();
        page.free().unwrap();
        assert_eq!(page.place(), Err(PageError::Stale));
        // One that is not filled may be anywhere.
        let page = grab(&object, 1, GrabFlags::empty()).unwrap();
        page.remove(Caller::Program).unwrap();
        page.write(0, &[5; PAGE_BYTES], Caller::Program).unwrap();
        page.insert(object.object(), PageIndex(2), Caller::Program).unwrap();
        page.set_valid().unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(page_at(va, 2)), vec![5; PAGE_BYTES]);
        done(rig, object);
    });
}

#[test]
fn sleepers_on_a_page_that_is_renamed_look_again() {
    on_every_machine(|rig| {
        let (_script, a, va) = rig.mapped(2);
        let (_script_b, b, _) = rig.mapped(2);
        let page = resident(&a, 0);
        page.exclusive("own").unwrap();
        thread::scope(|scope| {
            // One by hand, who wants this page wherever it is, and a fault, which wants what is at its place.
            let by_hand = scope.spawn(|| page.exclusive("rename"));
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            until_listed("rename", 1);
            page.rename(b.object(), PageIndex(1), Caller::Program).unwrap();
            // The page is still busied, and does not keep the fault.
            fault.join().unwrap().unwrap();
            assert_eq!(a.resident(), 1);
            page.release_exclusive().unwrap();
            by_hand.join().unwrap().unwrap();
        });
        assert_eq!(page.place(), Ok(Some((b.id(), PageIndex(1)))));
        page.release_exclusive().unwrap();
        drop(a);
        done(rig, b);
    });
}

#[test]
fn renaming_back_and_forth_against_faults_loses_nothing() {
    on_every_machine(|rig| {
        let (_script_a, a, va) = rig.mapped(1);
        let (_script_b, b, vb) = rig.mapped(1);
        rig.map.store(va, &[42]).unwrap();
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for address in [va, vb] {
                let (rig, start) = (&rig, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..200 {
                        rig.map.fault(address, Access::Read).unwrap();
                    }
                });
            }
            start.wait();
            let (mut from, mut to) = (&a, &b);
            let mut moved = 0;
            while moved < 50 {
                let page = grab(from, 0, GrabFlags::CONTENTS).unwrap();
                let other = grab(to, 0, GrabFlags::NOCREAT);
                if let Ok(other) = other {
                    other.free().unwrap();
                }
                match page.rename(to.object(), PageIndex(0), Caller::Program) {
                    Ok(()) => {
                        assert_eq!(bytes(page)[0], 42);
                        moved += 1;
                        page.release_exclusive().unwrap();
                        (from, to) = (to, from);
                    }
                    Err(PageError::Occupied) => page.release_exclusive().unwrap(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        drop(a);
        done(rig, b);
    });
}

#[test]
fn a_wiring_is_taken_back_while_its_page_is_moved() {
    const ROUNDS: usize = 2000;
    on_every_machine(|rig| {
        let (_script_a, a) = rig.object(1);
        let (_script_b, b) = rig.object(1);
        let page = grab(&a, 0, GrabFlags::CONTENTS).unwrap();
        let (start, next) = (Barrier::new(2), Barrier::new(2));
        let wrong = thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    start.wait();
                    // On its way the page is in no object, for a moment.
                    while page.unwire() == Err(PageError::Stale) {}
                    next.wait();
                }
            });
            let (mut from, mut to, mut wrong) = (&a, &b, Vec::new());
            for _ in 0..ROUNDS {
                let wired = page.wire();
                start.wait();
                let moved = page.rename(to.object(), PageIndex(0), Caller::Program);
                next.wait();
                if (&wired, &moved, page.wire_count()) != (&Ok(()), &Ok(()), Ok(0)) {
                    wrong.push((wired, moved, page.wire_count()));
                }
                std::mem::swap(&mut from, &mut to);
            }
            wrong
        });
        page.release_exclusive().unwrap();
        assert_eq!(wrong, []);
        drop(a);
        done(rig, b);
    });
}

#[test]
fn pages_of_anonymous_objects_move_too_and_leave_zeros() {
    on_every_machine(|rig| {
        let object = rig.engine.create_anonymous(4 * PAGE_SIZE).unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        rig.map.store(va, b"mine").unwrap();
        let page = grab(&object, 0, GrabFlags::CONTENTS).unwrap();
        is_misuse(page.set_clean());
        page.rename(object.object(), PageIndex(2), Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(va), vec![0; PAGE_BYTES]);
        assert_eq!(rig.load_page(page_at(va, 2))[..4], *b"mine");
        let filled = grab(&object, 3, GrabFlags::empty()).unwrap();
        filled.write(0, b"hand", Caller::Program).unwrap();
        filled.set_valid().unwrap();
        assert!(filled.is_dirty().unwrap(), "nobody else has it");
        filled.release_exclusive().unwrap();
        let swap = rig.swap(PagerOps::PUT, 256, 64);
        rig.want_all_free();
        for _ in 0..4 {
            rig.engine.daemon_step();
        }
        assert!(swap.calls().iter().any(|call| matches!(call, Call::Put(..))));
        assert_eq!(rig.load_page(page_at(va, 3))[..4], *b"hand");
        assert_eq!(rig.load_page(page_at(va, 2))[..4], *b"mine");
        done(rig, object);
    });
}

#[test]
fn memory_that_is_short_is_waited_for_or_told() {
    set_checking(Checking::empty());
    quire_tests::in_all_modes_with_frames(8, |rig| {
        let (_script, object) = rig.object(32);
        let held: Vec<_> = (0..8)
            .map_while(|index| grab(&object, index, GrabFlags::NOWAIT).ok())
            .collect();
        assert!(!held.is_empty());
        assert!(matches!(
            grab(&object, 20, GrabFlags::NOWAIT),
            Err(PageError::Failed(Error::NoMemory))
        ));
        assert!(matches!(
            grab(&object, 20, GrabFlags::empty()),
            Err(PageError::Failed(Error::NoMemory))
        ));
        assert!(matches!(
            held[0].remove(Caller::Program),
            Err(PageError::Failed(Error::NoMemory))
        ));
        assert!(held[0].is_exclusive().unwrap() && held[0].place().unwrap().is_some());
        held.iter().for_each(|page| page.release_exclusive().unwrap());
        let page = grab(&object, 20, GrabFlags::ZERO).unwrap();
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn an_object_that_ended_has_no_pages_to_grab() {
    on_every_machine(|rig| {
        let (_script, object) = rig.object(1);
        let page = resident(&object, 0);
        object.object().terminate(quire_core::object::Dirty::Discard).unwrap();
        assert_eq!(page.try_exclusive(), Err(PageError::Stale));
        assert_eq!(
            grab(&object, 0, GrabFlags::empty()),
            Err(PageError::Failed(Error::Fault(FaultError::Terminated)))
        );
        assert_eq!(try_lock_object(&object), Ok(true));
        done(rig, object);
    });
}
