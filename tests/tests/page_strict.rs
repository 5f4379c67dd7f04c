//! Pages by hand under the strict rule (S241): the object's lock is held to busy a page and to unbusy it, and sleeping lets go of it (S246, S247).
//! For the whole of this program, as the rule is the process's.

use std::sync::mpsc;
use std::thread;

use quire_core::object::ObjectRef;
use quire_core::page_services::{
    Answer, Caller, Checking, GrabFlags, PageError, PageHandle, lock_object, set_checking, sleepers, try_lock_object,
    unlock_object,
};
use quire_core::types::PageIndex;
use quire_tests::{Rig, in_all_modes, watch};

/// Runs a test with a page that is in memory, and its object locked.
fn strictly(test: impl Fn(&ObjectRef, PageHandle)) {
    set_checking(Checking::STRICT);
    in_all_modes(|rig| {
        let _watched = watch(&rig.engine);
        let (_script, object) = rig.object(2);
        lock_object(&object).unwrap();
        let page = grab(&object).unwrap();
        page.release_exclusive().unwrap();
        test(&object, page);
        if try_lock_object(&object) == Ok(true) {
            unlock_object(&object).unwrap();
        }
        done(rig, object);
    });
}

fn done(rig: Rig, object: ObjectRef) {
    drop(object);
    rig.assert_nothing_left();
}

fn grab(object: &ObjectRef) -> Answer<PageHandle> {
    let mut page = None;
    let flags = GrabFlags::CONTENTS;
    PageHandle::grab(object.object(), PageIndex(0), 1, flags, Caller::Program, |got| {
        page = Some(got)
    })?;
    Ok(page.expect("one was grabbed"))
}

fn is_misuse<T: std::fmt::Debug>(answer: Answer<T>) {
    assert!(
        matches!(&answer, Err(PageError::Misuse(sentence)) if sentence.contains("lock")),
        "{answer:?}"
    );
}

/// Waits until a thread sleeps with this message.
fn until_listed(message: &str) {
    let mut there = false;
    while !there {
        sleepers(|sleeper| there |= sleeper.message() == message);
        thread::yield_now();
    }
}

#[test]
fn s241_without_the_lock_a_page_is_neither_busied_nor_unbusied() {
    strictly(|object, page| {
        page.exclusive("own").unwrap();
        unlock_object(object).unwrap();
        is_misuse(page.release_exclusive());
        is_misuse(page.try_exclusive());
        is_misuse(page.try_shared());
        is_misuse(page.exclusive("x"));
        is_misuse(page.shared("x"));
        is_misuse(page.sleep("x"));
        is_misuse(page.sleep_if_busy("x"));
        is_misuse(grab(object));
        assert!(page.is_exclusive().unwrap());
        // The lock of another thread is not ours.
        thread::scope(|scope| {
            let (locked, is_locked) = mpsc::channel();
            let (let_go, may_go) = mpsc::channel::<()>();
            scope.spawn(move || {
                lock_object(object).unwrap();
                locked.send(()).unwrap();
                may_go.recv().unwrap();
                unlock_object(object).unwrap();
            });
            is_locked.recv().unwrap();
            assert_eq!(try_lock_object(object), Ok(false));
            is_misuse(page.release_exclusive());
            is_misuse(unlock_object(object));
            let_go.send(()).unwrap();
        });
        lock_object(object).unwrap();
        page.release_exclusive().unwrap();
        assert!(page.try_shared().unwrap());
        unlock_object(object).unwrap();
        is_misuse(page.release_shared());
        lock_object(object).unwrap();
        page.release_shared().unwrap();
        unlock_object(object).unwrap();
    });
}

#[test]
fn s241_the_lock_is_the_callers_and_may_be_held_over_anything() {
    strictly(|object, page| {
        is_misuse(lock_object(object));
        is_misuse(try_lock_object(object));
        object
            .object()
            .flush_all(quire_core::flush::FlushFlags::empty())
            .unwrap();
        page.exclusive("own").unwrap();
        page.rename(object.object(), PageIndex(1), Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        unlock_object(object).unwrap();
    });
}

#[test]
fn s246_sleeping_lets_go_of_the_lock_for_good() {
    strictly(|object, page| {
        page.exclusive("own").unwrap();
        unlock_object(object).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                lock_object(object).unwrap();
                page.sleep("s246").unwrap();
                is_misuse(unlock_object(object));
            });
            until_listed("s246");
            // It sleeps, and the lock can be had.
            lock_object(object).unwrap();
            page.release_exclusive().unwrap();
        });
        page.sleep("not busied").unwrap();
        is_misuse(unlock_object(object));
    });
}

#[test]
fn s247_sleep_if_busy_takes_the_lock_again_and_keeps_it_if_there_is_no_need_to_sleep() {
    strictly(|object, page| {
        assert_eq!(page.sleep_if_busy("s247"), Ok(false));
        page.exclusive("own").unwrap();
        unlock_object(object).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                lock_object(object).unwrap();
                assert_eq!(page.sleep_if_busy("s247"), Ok(true));
                unlock_object(object).unwrap();
            });
            until_listed("s247");
            lock_object(object).unwrap();
            page.release_exclusive().unwrap();
            unlock_object(object).unwrap();
        });
    });
}

#[test]
fn busying_and_grabbing_let_go_of_the_lock_while_they_sleep() {
    strictly(|object, page| {
        page.exclusive("own").unwrap();
        unlock_object(object).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                lock_object(object).unwrap();
                page.exclusive("busying").unwrap();
                page.release_exclusive().unwrap();
                unlock_object(object).unwrap();
            });
            until_listed("busying");
            lock_object(object).unwrap();
            page.release_exclusive().unwrap();
            page.exclusive("own").unwrap();
            unlock_object(object).unwrap();
            scope.spawn(move || {
                lock_object(object).unwrap();
                grab(object).unwrap().release_exclusive().unwrap();
                unlock_object(object).unwrap();
            });
            until_listed("grab");
            lock_object(object).unwrap();
            page.release_exclusive().unwrap();
            unlock_object(object).unwrap();
        });
    });
}
