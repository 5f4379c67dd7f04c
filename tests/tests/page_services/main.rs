//! Pages by hand: the busy protocol as document 004 has it, grabbing, and moving pages. Wrong use is answered here; where it ends
//! the process is tested in C (`tests/c/pages.c`), and the strict rule of the object's lock in `page_strict.rs`. On every machine.

mod busy;
mod grabbing;
mod moving;
mod state;

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
