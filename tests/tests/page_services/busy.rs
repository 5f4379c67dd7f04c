//! The busy protocol: rows S239 to S250, F7 and F8.

use super::*;

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
