//! Pages that move: from object to object, out of them, into them; and what ends meanwhile.

use super::*;

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
