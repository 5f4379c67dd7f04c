//! Syncing an engine: every object that can be written, one at a time, and nobody who is dying is waited for.

use std::sync::mpsc;
use std::thread;

use quire_core::error::{Cause, Error};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::pager::PagerOps;
use quire_core::types::{PAGE_SIZE, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes};

/// An object of one page with a name, mapped and dirty.
fn dirty(rig: &Rig, thing: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::new();
    let opening = Opening {
        pager,
        source: 1,
        identity: Some([1, thing]),
        size: PAGE_SIZE,
        change: None,
    };
    let object = rig.engine.attach(opening).unwrap();
    let va = rig.map.map(&object, &MapRequest::read_write(PAGE_SIZE)).unwrap().start;
    rig.map.store(va, &[0xd1]).unwrap();
    (script, object, va)
}

fn count(script: &Script, what: Call) -> usize {
    script.calls().into_iter().filter(|call| *call == what).count()
}

#[test]
fn s134_sync_asks_only_objects_that_can_be_written() {
    in_all_modes(|rig| {
        let (reader, pager) = Script::with(PagerOps::SYNC, 1);
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        let (writer, other, _) = dirty(&rig, 1);
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        assert_eq!((reader.calls(), count(&writer, Call::Sync)), (vec![], 1));
        drop((object, other));
        rig.assert_nothing_left();
    });
}

#[test]
fn s136_sync_writes_every_object_also_when_one_fails() {
    in_all_modes(|rig| {
        let (a, object_a, _) = dirty(&rig, 1);
        let (b, object_b, _) = dirty(&rig, 2);
        a.next_puts([Twist::Fail(Cause::Errno(5))]);
        assert!(matches!(
            rig.engine.sync(FlushFlags::empty()),
            Err(Error::WriteBack { pages: 1, .. })
        ));
        assert_eq!((a.puts(), b.puts()), (1, 1), "each is tried once");
        rig.engine.sync(FlushFlags::empty()).unwrap();
        assert_eq!((a.puts(), b.puts(), a.stored(0)[0]), (2, 1, 0xd1));
        drop((object_a, object_b));
        rig.assert_nothing_left();
    });
}

#[test]
fn s133_a_second_sync_waits_for_the_first() {
    in_all_modes(|rig| {
        let (script, object, _) = dirty(&rig, 1);
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let first = scope.spawn(|| rig.engine.sync(FlushFlags::DURABLE));
            let io = script.take_pending(1).remove(0);
            let second = scope.spawn(|| rig.engine.sync(FlushFlags::DURABLE));
            for _ in 0..100 {
                thread::yield_now();
            }
            assert_eq!(
                rig.engine.stats().counts().busy_waits,
                0,
                "the second has not even looked at the object"
            );
            script.finish(&io);
            first.join().unwrap().unwrap();
            second.join().unwrap().unwrap();
        });
        assert_eq!((script.puts(), count(&script, Call::Sync)), (1, 2));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_syncs_from_inside_a_sync_is_refused_and_nothing_hangs() {
    in_all_modes(|rig| {
        let (script, object, _) = dirty(&rig, 1);
        let (answer, answers) = mpsc::channel();
        let engine = rig.engine.clone();
        script.on_call(move |_| answer.send(engine.sync(FlushFlags::empty())).unwrap());
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        assert!(matches!(answers.recv().unwrap(), Err(Error::InUse(_))));
        script.on_call(|_| {});
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s135_d8_a_dying_object_is_skipped_and_the_others_are_written() {
    in_all_modes(|rig| {
        let (dying, object, va) = dirty(&rig, 1);
        let (other, kept, _) = dirty(&rig, 2);
        object.object().uncache().unwrap();
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        dying.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let io = dying.take_pending(1).remove(0);
            // On this thread: it would hang here if it waited.
            rig.engine.sync(FlushFlags::DURABLE).unwrap();
            assert_eq!((other.puts(), count(&dying, Call::Sync)), (1, 0));
            dying.finish(&io);
            release.join().unwrap().unwrap();
        });
        assert_eq!(count(&dying, Call::Close), 1);
        drop(kept);
        rig.assert_nothing_left();
    });
}

#[test]
fn s138_a_release_during_a_sync_leaves_the_end_to_the_sync() {
    in_all_modes(|rig| {
        let (script, object, va) = dirty(&rig, 1);
        object.object().uncache().unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let sync = scope.spawn(|| rig.engine.sync(FlushFlags::empty()));
            let io = script.take_pending(1).remove(0);
            assert_eq!(object.reference_count(), 3, "s136: the sync has a use of its own");
            rig.map.unmap(va, PAGE_SIZE).unwrap();
            // On this thread: it is not the last, so that it does not wait for the write.
            object.release().unwrap();
            assert_eq!(count(&script, Call::Close), 0);
            script.finish(&io);
            sync.join().unwrap().unwrap();
        });
        assert_eq!((script.puts(), count(&script, Call::Close)), (1, 1), "s137");
        assert_eq!(rig.engine.object_counts(), (0, 0));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_durable_sync_reaches_what_is_only_kept_and_leaves_the_order_of_going_alone() {
    in_all_modes(|rig| {
        let (old, object, va) = dirty(&rig, 1);
        drop(object);
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        let (new, object, va) = dirty(&rig, 2);
        drop(object);
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        assert_eq!((old.puts(), count(&old, Call::Sync)), (1, 0));
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        assert_eq!((count(&old, Call::Sync), count(&new, Call::Sync)), (1, 1));
        assert_eq!((rig.engine.kept_count(), old.puts()), (2, 1));
        rig.engine.set_cache_limit(1);
        assert_eq!((count(&old, Call::Close), count(&new, Call::Close)), (1, 0));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_sync_tries_again_what_only_stayed_because_it_could_not_be_written() {
    in_all_modes(|rig| {
        let (script, object, va) = dirty(&rig, 1);
        script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        assert!(object.release().is_err());
        assert!(rig.engine.sync(FlushFlags::empty()).is_err());
        assert_eq!((script.puts(), rig.engine.object_counts()), (2, (1, 1)));
        script.all_puts(None);
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        assert_eq!((script.puts(), count(&script, Call::Sync)), (3, 1));
        assert_eq!((rig.engine.object_counts(), rig.engine.kept_count()), ((1, 0), 1));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_sync_that_cannot_be_made_durable_says_so() {
    in_all_modes(|rig| {
        let (script, object, _) = dirty(&rig, 1);
        script.sync_fails(Some(Cause::Errno(5)));
        assert!(matches!(rig.engine.sync(FlushFlags::DURABLE), Err(Error::Pager(_))));
        rig.engine.sync(FlushFlags::empty()).unwrap();
        script.sync_fails(None);
        rig.engine.sync(FlushFlags::DURABLE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}
