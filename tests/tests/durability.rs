//! Durable flushes whose sync fails: who is told, what is put again, and what is still owed. On every kind of soft machine.

use std::sync::mpsc;
use std::thread;

use quire_core::error::{Cause, Error};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::page::Dirtiness;
use quire_core::pager::PagerOps;
use quire_core::types::{PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at};

const EIO: Cause = Cause::Errno(5);

fn store(rig: &Rig, va: VirtAddr, pages: impl IntoIterator<Item = u64>) {
    for i in pages {
        rig.map.store(page_at(va, i), &[0xd1]).unwrap();
    }
}

fn count(script: &Script, what: Call) -> usize {
    script.calls().iter().filter(|call| **call == what).count()
}

/// Writes everything, and frees it.
fn evict(object: &ObjectRef) {
    let all = PutFlags::CLEANIT | PutFlags::FREE | PutFlags::ALLPAGES;
    object.object().put(PageIndex(0)..PageIndex(0), all).unwrap();
    assert_eq!((object.resident(), object.dirty_pages()), (0, 0));
}

fn durable(object: &ObjectRef) -> Result<(), Error> {
    object.object().flush_all(FlushFlags::DURABLE)
}

/// An object with a name, which is kept when its last user goes, or without one.
fn object(rig: &Rig, named: bool) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::PUT | PagerOps::SYNC, 256);
    let opening = Opening {
        pager,
        source: 1,
        identity: named.then_some([1, 1]),
        size: 2 * PAGE_SIZE,
        change: None,
    };
    let object = rig.engine.attach(opening).unwrap();
    let request = MapRequest::read_write(2 * PAGE_SIZE);
    let va = rig.map.map(&object, &request).unwrap().start;
    (script, object, va)
}

#[test]
fn a_sync_that_failed_is_asked_for_again_though_nothing_is_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        store(&rig, va, 0..2);
        script.sync_fails(Some(EIO));
        durable(&object).unwrap_err();
        assert_eq!(object.dirty_pages(), 2, "what the pager was given is put again");
        evict(&object);
        durable(&object).unwrap_err();
        script.sync_fails(None);
        durable(&object).unwrap();
        assert_eq!((count(&script, Call::Sync), script.puts()), (3, 2));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_object_that_is_owed_a_sync_does_not_end_until_one_succeeds() {
    in_all_modes(|rig| {
        for named in [false, true] {
            let (script, object, va) = object(&rig, named);
            store(&rig, va, 0..2);
            evict(&object);
            script.sync_fails(Some(EIO));
            durable(&object).unwrap_err();
            rig.map.clear().unwrap();
            let error = object.release().unwrap_err();
            assert!(matches!(error, Error::WriteBack { pages: 0, .. }), "{error:?}");
            assert!(error.to_string().contains("a sync that failed is owed"), "{error}");
            assert_eq!(rig.engine.object_counts(), (1, 1), "listed, and not written");
            rig.engine.sync(FlushFlags::empty()).unwrap_err();
            rig.engine.shut_down().unwrap_err();
            assert_eq!(count(&script, Call::Close), 0);
            script.sync_fails(None);
            let syncs = count(&script, Call::Sync);
            rig.engine.sync(FlushFlags::empty()).unwrap();
            assert_eq!(count(&script, Call::Sync), syncs + 1);
            rig.engine.shut_down().unwrap();
            assert_eq!(
                (count(&script, Call::Close), count(&script, Call::Sync)),
                (1, syncs + 1)
            );
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn an_owed_sync_is_given_up_only_with_the_object() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        store(&rig, va, [0]);
        script.sync_fails(Some(EIO));
        durable(&object).unwrap_err();
        rig.map.clear().unwrap();
        let kept = object.object().clone();
        object.release().unwrap_err();
        kept.discard().unwrap();
        assert_eq!((count(&script, Call::Close), rig.engine.object_counts()), (1, (0, 0)));
        rig.assert_nothing_left();
    });
}

#[test]
fn every_durable_flush_that_was_under_way_when_a_sync_failed_is_told() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        store(&rig, va, 0..2);
        let (inside, in_sync) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        script.on_call(move |_| {
            inside.send(()).unwrap();
            gone.recv().unwrap();
        });
        let flush = |page: u64| {
            let page = PageIndex(page)..PageIndex(page + 1);
            object.object().flush(page, FlushFlags::DURABLE)
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| flush(0));
            in_sync.recv().unwrap();
            let second = scope.spawn(|| flush(1));
            while script.puts() < 2 {
                thread::yield_now();
            }
            script.sync_fails(Some(EIO));
            go.send(()).unwrap();
            assert!(matches!(first.join().unwrap(), Err(Error::Pager(error)) if error.cause == EIO));
            assert!(matches!(second.join().unwrap(), Err(Error::Pager(error)) if error.cause == EIO));
        });
        assert_eq!(count(&script, Call::Sync), 1, "the second is told what is known");
        script.on_call(|_| {});
        script.sync_fails(None);
        durable(&object).unwrap();
        assert!(script.calls().ends_with(&[Call::Put(0, 2), Call::Sync]));
        durable(&object).unwrap();
        assert_eq!(script.puts(), 3, "told once: later flushes have nothing to do");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_was_under_way_when_a_sync_failed_is_put_again() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        store(&rig, va, [0, 2]);
        script.next_puts([Twist::Defer]);
        script.sync_fails(Some(EIO));
        let flush = |page: u64, flags| object.object().flush(PageIndex(page)..PageIndex(page + 1), flags);
        thread::scope(|scope| {
            let slow = scope.spawn(|| flush(0, FlushFlags::empty()));
            let io = script.take_pending(1).remove(0);
            flush(2, FlushFlags::DURABLE).unwrap_err();
            script.finish(&io);
            slow.join().unwrap().unwrap();
        });
        let dirtiness = [0, 2].map(|i| object.lookup(PageIndex(i)).unwrap().dirtiness());
        assert_eq!(dirtiness, [Dirtiness::Dirty; 2]);
        script.sync_fails(None);
        durable(&object).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_flushes_durably_from_inside_its_sync_is_refused_and_nothing_hangs() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        store(&rig, va, [0]);
        let (answer, answers) = mpsc::channel();
        let inside = object.object().clone();
        script.on_call(move |_| answer.send(inside.flush_all(FlushFlags::DURABLE)).unwrap());
        durable(&object).unwrap();
        assert!(matches!(answers.recv().unwrap(), Err(Error::InUse(_))));
        script.on_call(|_| {});
        drop(object);
        rig.assert_nothing_left();
    });
}
