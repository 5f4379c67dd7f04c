//! Objects with a name: attaching, letting go, keeping, uncaching, terminating. On every kind of soft machine; who waits
//! for whom is driven step by step through requests that the test completes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_core::error::{Cause, Error, FaultError, PagerError};
use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::page::Dirtiness;
use quire_core::pager::{Pager, PagerOps};
use quire_core::types::{Access, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, in_all_modes_with_frames, page_at, pattern};

fn opening(pager: Box<dyn Pager>, thing: u64, pages: u64) -> Opening {
    Opening {
        pager,
        source: 7,
        identity: Some([1, thing]),
        size: pages * PAGE_SIZE,
        change: None,
    }
}

/// Opens a thing anew, as a pager of its own.
fn attach(rig: &Rig, thing: u64, pages: u64) -> (Script, ObjectRef) {
    let (script, pager) = Script::new();
    (script, rig.engine.attach(opening(pager, thing, pages)).unwrap())
}

fn attach_to_read(rig: &Rig, thing: u64, pages: u64) -> (Script, ObjectRef) {
    let (script, pager) = Script::with(PagerOps::empty(), 256);
    (script, rig.engine.attach(opening(pager, thing, pages)).unwrap())
}

fn map(rig: &Rig, object: &ObjectRef, pages: u64) -> VirtAddr {
    rig.map
        .map(object, &MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap()
        .start
}

/// Maps it, writes a byte into each page, and unmaps it.
fn write(rig: &Rig, object: &ObjectRef, pages: u64) {
    let va = map(rig, object, pages);
    for i in 0..pages {
        rig.map.store(page_at(va, i), &[0xd1]).unwrap();
    }
    rig.map.unmap(va, pages * PAGE_SIZE).unwrap();
}

fn closes(script: &Script) -> usize {
    script.calls().iter().filter(|call| **call == Call::Close).count()
}

#[test]
fn s28_opening_the_same_thing_twice_is_the_same_object() {
    in_all_modes(|rig| {
        let (first, a) = attach(&rig, 1, 2);
        let (second, b) = attach(&rig, 1, 2);
        assert_eq!((a.id(), a.reference_count()), (b.id(), 2));
        let (va, wb) = (map(&rig, &a, 2), map(&rig, &b, 2));
        rig.map.store(va, b"seen").unwrap();
        let mut seen = [0; 4];
        rig.map.load(wb, &mut seen).unwrap();
        assert_eq!(&seen, b"seen");
        assert_eq!(
            second.calls(),
            [Call::Close],
            "the opening that was not needed is closed"
        );
        assert_eq!(first.gets(), 1);
        drop((a, b));
        rig.assert_nothing_left();
    });
}

#[test]
fn things_of_different_pagers_and_things_without_identity_are_objects_of_their_own() {
    in_all_modes(|rig| {
        let (_, a) = attach(&rig, 1, 1);
        let other = Opening {
            source: 8,
            ..opening(Script::new().1, 1, 1)
        };
        let b = rig.engine.attach(other).unwrap();
        let nameless = || Opening {
            identity: None,
            ..opening(Script::new().1, 1, 1)
        };
        let c = rig.engine.attach(nameless()).unwrap();
        let d = rig.engine.attach(nameless()).unwrap();
        let mut ids = [a.id(), b.id(), c.id(), d.id()].to_vec();
        ids.dedup();
        assert_eq!(ids.len(), 4);
        drop((a, b, c, d));
        assert_eq!(rig.engine.kept_count(), 2, "what has no name cannot be found again");
        rig.assert_nothing_left();
    });
}

#[test]
fn s37_s38_only_the_last_detach_counts() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        let other = object.clone();
        assert_eq!(object.reference_count(), 2);
        let va = map(&rig, &object, 1);
        rig.map.store(va, b"dirty").unwrap();
        assert_eq!(object.reference_count(), 3, "a mapping is a use");
        object.release().unwrap();
        other.release().unwrap();
        assert_eq!((script.puts(), rig.engine.kept_count()), (0, 0));
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        assert_eq!((script.puts(), rig.engine.kept_count()), (1, 1));
        rig.assert_nothing_left();
    });
}

#[test]
fn s11_s40_after_the_last_detach_the_object_is_kept_with_what_was_dirty_written() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 3);
        let id = object.id();
        write(&rig, &object, 3);
        assert_eq!(script.puts(), 0);
        object.release().unwrap();
        assert_eq!((script.puts(), closes(&script)), (1, 0));
        assert_eq!((rig.engine.kept_count(), rig.engine.object_counts()), (1, (1, 0)));
        let (again, object) = attach(&rig, 1, 3);
        assert_eq!((object.id(), rig.engine.kept_count()), (id, 0));
        assert_eq!(again.calls(), [Call::Close]);
        assert_eq!(script.stored(2)[0], 0xd1);
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(closes(&script), 1);
    });
}

#[test]
fn s41_pages_of_a_kept_object_are_clean_and_none_was_freed() {
    in_all_modes(|rig| {
        let (_, object) = attach(&rig, 1, 3);
        write(&rig, &object, 3);
        let inside = object.object().clone();
        object.release().unwrap();
        assert!(inside.is_kept() && inside.resident() == 3);
        for i in 0..3 {
            let page = inside.lookup(PageIndex(i)).unwrap();
            assert!(page.dirtiness() == Dirtiness::Clean && !page.is_busied());
        }
        drop(inside);
        rig.assert_nothing_left();
    });
}

#[test]
fn s156_a_kept_object_that_is_attached_again_reads_nothing_twice() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 3);
        write(&rig, &object, 3);
        object.release().unwrap();
        let reads = script.gets();
        let (_, object) = attach(&rig, 1, 3);
        let va = map(&rig, &object, 3);
        for i in 0..3 {
            assert_eq!(rig.load_page(page_at(va, i))[..2], [0xd1, pattern(i)[1]]);
        }
        assert_eq!(script.gets(), reads);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_kept_object_whose_thing_has_another_size_now_is_replaced_by_a_fresh_one() {
    in_all_modes(|rig| {
        let (old, object) = attach(&rig, 1, 3);
        let id = object.id();
        write(&rig, &object, 3);
        object.release().unwrap();
        let (new, object) = attach(&rig, 1, 4);
        assert!(object.id() != id && object.size() == 4 * PAGE_SIZE);
        assert_eq!((closes(&old), closes(&new)), (1, 0));
        let va = map(&rig, &object, 4);
        assert_eq!(rig.load_page(va), pattern(0), "what others wrote is read");
        let (third, same) = attach(&rig, 1, 9);
        assert_eq!(
            (same.id(), same.size()),
            (object.id(), 4 * PAGE_SIZE),
            "in use: nothing is taken away"
        );
        assert_eq!(closes(&third), 1);
        drop((object, same));
        rig.assert_nothing_left();
    });
}

/// One more opening of what a script has, told with the contents it has now. `ops` beside put and sync.
fn reopen(rig: &Rig, script: &Script, pages: u64, ops: PagerOps) -> ObjectRef {
    let pager = script.again(PagerOps::PUT | PagerOps::SYNC | ops);
    let opening = Opening {
        change: Some(script.change()),
        ..opening(pager, 1, pages)
    };
    rig.engine.attach(opening).unwrap()
}

#[test]
fn a_kept_object_whose_contents_others_changed_shows_none_of_its_pages() {
    in_all_modes(|rig| {
        let (script, _) = Script::new();
        script.rewrite(0, 1);
        let object = reopen(&rig, &script, 2, PagerOps::CHANGE);
        let va = map(&rig, &object, 2);
        assert_eq!((rig.load_page(va)[0], rig.load_page(page_at(va, 1))), (1, pattern(1)));
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        object.release().unwrap();
        script.rewrite(0, 2);
        let object = reopen(&rig, &script, 2, PagerOps::CHANGE);
        let va = map(&rig, &object, 2);
        assert_eq!(rig.load_page(va)[0], 2, "written between close and open");
        // Written while it is in use, which those who use it do not see; but not by whoever comes later.
        script.rewrite(0, 3);
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        object.release().unwrap();
        let object = reopen(&rig, &script, 2, PagerOps::CHANGE);
        let va = map(&rig, &object, 2);
        assert_eq!(rig.load_page(va)[0], 3, "written between open and close");
        assert!(
            !script.calls().contains(&Call::Change),
            "nothing was put: there is nothing to ask"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn own_writes_are_not_taken_for_those_of_others() {
    in_all_modes(|rig| {
        let (script, _) = Script::new();
        script.rewrite(2, 7);
        let object = reopen(&rig, &script, 3, PagerOps::CHANGE);
        write(&rig, &object, 3);
        let before = script.change();
        object.release().unwrap();
        assert_ne!(script.change(), before, "putting changes what the pager tells");
        let reads = script.gets();
        let object = reopen(&rig, &script, 3, PagerOps::CHANGE);
        let va = map(&rig, &object, 3);
        assert!((0..3).all(|i| rig.load_page(page_at(va, i))[0] == 0xd1));
        assert_eq!(script.gets(), reads, "no page is read twice");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_does_not_tell_its_contents_anew_is_read_again_after_own_writes() {
    in_all_modes(|rig| {
        let (script, _) = Script::new();
        script.rewrite(0, 7);
        for _ in 0..2 {
            let object = reopen(&rig, &script, 1, PagerOps::empty());
            write(&rig, &object, 1);
            object.release().unwrap();
        }
        assert_eq!(script.gets(), 2, "its own writes look like another's");
        let (_, object) = attach(&rig, 1, 1);
        let va = map(&rig, &object, 1);
        assert_eq!(rig.load_page(va)[0], 0xd1);
        assert_eq!(script.gets(), 2, "an opening that tells nothing shows what is kept");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn what_cannot_be_written_outlives_what_others_wrote() {
    in_all_modes(|rig| {
        let (script, _) = Script::new();
        script.rewrite(0, 7);
        let object = reopen(&rig, &script, 1, PagerOps::CHANGE);
        script.all_puts(Some(Twist::Fail(Cause::Io)));
        write(&rig, &object, 1);
        object.release().unwrap_err();
        script.rewrite(0, 8);
        let object = reopen(&rig, &script, 1, PagerOps::CHANGE);
        let va = map(&rig, &object, 1);
        assert_eq!(rig.load_page(va)[0], 0xd1, "dirty, and ours");
        script.all_puts(None);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn what_is_kept_goes_oldest_first_when_nothing_more_can_be_opened() {
    const EMFILE: Cause = Cause::Errno(24);
    in_all_modes(|rig| {
        let scripts: Vec<_> = (0..3)
            .map(|thing| {
                let (script, object) = attach(&rig, thing, 1);
                write(&rig, &object, 1);
                object.release().unwrap();
                script
            })
            .collect();
        let open = |most: usize, cause: Cause| {
            rig.engine.open_with_room(|| {
                if scripts.iter().map(closes).sum::<usize>() >= most {
                    Ok(())
                } else {
                    Err(PagerError::bare(cause))
                }
            })
        };
        open(0, EMFILE).unwrap();
        open(1, Cause::Io).unwrap_err();
        assert_eq!(rig.engine.kept_count(), 3, "nothing ran out");
        open(1, EMFILE).unwrap();
        assert_eq!(scripts.iter().map(closes).collect::<Vec<_>>(), [1, 0, 0]);
        open(2, Cause::NoMemory).unwrap();
        assert_eq!(scripts.iter().map(closes).collect::<Vec<_>>(), [1, 1, 0]);
        let error = open(4, EMFILE).unwrap_err();
        assert_eq!(
            (error.cause, rig.engine.kept_count()),
            (EMFILE, 0),
            "nothing is left to close"
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn of_too_many_kept_objects_the_oldest_goes() {
    in_all_modes(|rig| {
        rig.engine.set_cache_limit(2);
        let scripts: Vec<_> = (0..3)
            .map(|thing| {
                let (script, object) = attach(&rig, thing, 1);
                write(&rig, &object, 1);
                object.release().unwrap();
                script
            })
            .collect();
        assert_eq!(scripts.iter().map(closes).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!(scripts[0].stored(0)[0], 0xd1);
        // Thing 1 is used once more, so that thing 2 is the oldest now.
        drop(attach(&rig, 1, 1));
        drop(attach(&rig, 3, 1));
        assert_eq!(scripts.iter().map(closes).collect::<Vec<_>>(), [1, 0, 1]);
        rig.engine.set_cache_limit(0);
        assert_eq!((rig.engine.kept_count(), rig.engine.object_counts()), (0, (0, 0)));
        let (script, object) = attach(&rig, 1, 1);
        object.release().unwrap();
        assert_eq!(script.calls(), [Call::Close], "nothing is kept");
        rig.assert_nothing_left();
    });
}

#[test]
fn what_is_kept_goes_when_memory_is_needed() {
    in_all_modes_with_frames(8, |rig| {
        let (script, object) = attach(&rig, 1, 6);
        write(&rig, &object, 6);
        object.release().unwrap();
        let (_, other, va) = rig.mapped(8);
        for i in 0..8 {
            assert_eq!(rig.load_page(page_at(va, i)), pattern(i));
        }
        assert_eq!(
            (rig.engine.kept_count(), closes(&script)),
            (1, 0),
            "its pages went, not the object"
        );
        let (_, object) = attach(&rig, 1, 6);
        let va = map(&rig, &object, 6);
        assert!((0..6).all(|i| rig.load_page(page_at(va, i))[0] == 0xd1));
        drop((object, other));
        rig.assert_nothing_left();
    });
}

#[test]
fn s27_s47_s154_attach_waits_while_the_object_dies_and_then_finds_a_fresh_one() {
    in_all_modes(|rig| {
        let (old, object) = attach(&rig, 1, 1);
        let id = object.id();
        write(&rig, &object, 1);
        assert!(!object.object().uncache().unwrap());
        old.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let io = old.take_pending(1).remove(0);
            // Dying, with its last write under way.
            let (new, pager) = Script::new();
            let waiting = scope.spawn(|| rig.engine.attach(opening(pager, 1, 1)));
            assert!(!waiting.is_finished() && new.calls().is_empty());
            old.finish(&io);
            release.join().unwrap().unwrap();
            let fresh = waiting.join().unwrap().unwrap();
            assert_ne!(fresh.id(), id);
            assert_eq!((closes(&old), closes(&new)), (1, 0));
            assert_eq!(old.stored(0)[0], 0xd1, "written before the fresh one can read");
        });
        rig.assert_nothing_left();
    });
}

#[test]
fn s18_whoever_waits_for_an_end_that_fails_finds_the_object_as_it_was() {
    in_all_modes(|rig| {
        let (old, object) = attach(&rig, 1, 1);
        let id = object.id();
        write(&rig, &object, 1);
        object.object().uncache().unwrap();
        old.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let io = old.take_pending(1).remove(0);
            let waiting = scope.spawn(|| attach(&rig, 1, 1));
            old.fail(&io, Cause::Errno(28));
            assert!(matches!(
                release.join().unwrap(),
                Err(Error::WriteBack { pages: 1, .. })
            ));
            let (new, again) = waiting.join().unwrap();
            assert_eq!((again.id(), new.calls()), (id, vec![Call::Close]));
            let va = map(&rig, &again, 1);
            assert_eq!(rig.load_page(va)[0], 0xd1, "nothing was lost");
        });
        rig.assert_nothing_left();
        assert_eq!((closes(&old), old.stored(0)[0]), (1, 0xd1));
    });
}

#[test]
fn s30_a_later_attach_that_can_write_makes_the_object_writable() {
    in_all_modes(|rig| {
        let (reader, object) = attach_to_read(&rig, 1, 2);
        assert!(!object.is_writable());
        let (second, _same) = attach_to_read(&rig, 1, 2);
        assert!(!object.is_writable(), "a read-only attach changes nothing");
        let (writer, writable) = attach(&rig, 1, 2);
        let (late, again) = attach(&rig, 1, 2);
        assert!(object.is_writable() && writable.id() == object.id());
        write(&rig, &object, 2);
        object.object().flush_all(FlushFlags::DURABLE).unwrap();
        assert_eq!(reader.calls(), [Call::Get(0, 1), Call::Get(1, 1)]);
        assert_eq!(writer.calls(), [Call::Put(0, 2), Call::Sync]);
        drop((object, _same, writable, again));
        rig.assert_nothing_left();
        for script in [reader, second, writer, late] {
            assert_eq!(closes(&script), 1, "d7: every opening is closed once");
        }
    });
}

#[test]
fn s30_a_request_in_the_old_opening_goes_on_when_the_object_becomes_writable() {
    in_all_modes(|rig| {
        let (reader, object) = attach_to_read(&rig, 1, 1);
        let va = rig.map.map(&object, &MapRequest::read_only(PAGE_SIZE)).unwrap().start;
        reader.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.load_page(va));
            let io = reader.take_pending(1).remove(0);
            let (_, writable) = attach(&rig, 1, 1);
            assert!(object.is_writable());
            drop(writable);
            reader.finish(&io);
            assert_eq!(fault.join().unwrap(), pattern(0));
        });
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s125_uncache_of_what_is_not_there_changes_nothing() {
    in_all_modes(|rig| {
        assert!(rig.engine.uncache(7, [1, 1]).unwrap());
        let (script, object) = attach(&rig, 1, 1);
        write(&rig, &object, 1);
        object.object().uncache().unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let io = script.take_pending(1).remove(0);
            assert!(rig.engine.uncache(7, [1, 1]).unwrap(), "dying: left to whoever ends it");
            script.finish(&io);
            release.join().unwrap().unwrap();
        });
        assert!(rig.engine.uncache(7, [1, 1]).unwrap());
        rig.assert_nothing_left();
    });
}

#[test]
fn s126_uncache_of_what_is_in_use_says_so_and_it_is_not_kept_later() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        assert!(!rig.engine.uncache(7, [1, 1]).unwrap());
        write(&rig, &object, 1);
        object.release().unwrap();
        assert_eq!(script.calls()[1..], [Call::Put(0, 1), Call::Close]);
        assert_eq!(rig.engine.object_counts(), (0, 0));
        rig.assert_nothing_left();
    });
}

#[test]
fn s127_uncache_closes_what_is_only_kept() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        write(&rig, &object, 1);
        object.release().unwrap();
        let (other, object) = attach(&rig, 2, 1);
        object.release().unwrap();
        assert!(rig.engine.uncache(7, [1, 1]).unwrap());
        assert_eq!((closes(&script), closes(&other)), (1, 0));
        assert_eq!(rig.engine.uncache_all_from(8).unwrap(), 0);
        assert_eq!((rig.engine.uncache_all_from(7).unwrap(), closes(&other)), (0, 1));
        rig.assert_nothing_left();
    });
}

#[test]
fn s48_terminate_of_an_object_that_has_ended_does_nothing() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        let inside = object.object().clone();
        inside.terminate(Dirty::Write).unwrap();
        inside.terminate(Dirty::Write).unwrap();
        inside.terminate(Dirty::Discard).unwrap();
        drop(object);
        inside.terminate(Dirty::Write).unwrap();
        assert_eq!(closes(&script), 1);
        drop(inside);
        rig.assert_nothing_left();
    });
}

#[test]
fn s49_s53_terminate_of_a_live_object_writes_and_closes_and_later_accesses_fail() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 3);
        let va = map(&rig, &object, 3);
        rig.map.store(va, &[0xd1]).unwrap();
        assert_eq!(rig.load_page(page_at(va, 1)), pattern(1));
        object.object().terminate(Dirty::Write).unwrap();
        assert_eq!(script.calls()[2..], [Call::Put(0, 1), Call::Close]);
        assert_eq!((object.resident(), script.stored(0)[0]), (0, 0xd1));
        for (i, access) in [(0, Access::Read), (1, Access::Write), (2, Access::Read)] {
            assert!(matches!(
                rig.map.fault(page_at(va, i), access),
                Err(FaultError::Terminated)
            ));
        }
        assert!(rig.map.store(va, b"late").is_err());
        object.object().flush_all(FlushFlags::empty()).unwrap_err();
        let (fresh, again) = attach(&rig, 1, 3);
        assert_ne!(again.id(), object.id());
        assert!(fresh.calls().is_empty());
        rig.map.unmap(va, 3 * PAGE_SIZE).unwrap();
        object.release().unwrap();
        again.release().unwrap();
        assert_eq!(closes(&script), 1, "d7");
        assert_eq!(rig.engine.object_counts(), (1, 0), "the fresh one is kept");
        rig.assert_nothing_left();
    });
}

#[test]
fn terminate_that_cannot_write_leaves_the_object_to_its_users() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 2);
        let va = map(&rig, &object, 2);
        rig.map.store(va, &[0xd1]).unwrap();
        script.next_puts([Twist::Fail(Cause::Errno(5))]);
        assert!(matches!(
            object.object().terminate(Dirty::Write),
            Err(Error::WriteBack { pages: 1, .. })
        ));
        assert_eq!(rig.load_page(va)[0], 0xd1);
        assert_eq!(rig.load_page(page_at(va, 1)), pattern(1));
        script.all_puts(Some(Twist::Fail(Cause::Errno(5))));
        object.object().terminate(Dirty::Discard).unwrap();
        assert_eq!(script.stored(0), pattern(0));
        assert!(rig.map.fault(va, Access::Read).is_err());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s52_s155_terminate_waits_for_requests_under_way() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        let va = map(&rig, &object, 1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Write));
            let io = script.take_pending(1).remove(0);
            let end = scope.spawn(|| object.object().terminate(Dirty::Write));
            let second = scope.spawn(|| object.object().terminate(Dirty::Write));
            assert!(!end.is_finished() && closes(&script) == 0);
            script.finish(&io);
            end.join().unwrap().unwrap();
            second.join().unwrap().unwrap();
            // It came before the end and was served, or after it and was refused.
            let _ = fault.join().unwrap();
        });
        assert_eq!((closes(&script), object.resident()), (1, 0));
        assert!(matches!(rig.map.fault(va, Access::Read), Err(FaultError::Terminated)));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s50_terminate_of_an_object_that_is_closing_waits_for_that() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 1);
        write(&rig, &object, 1);
        let inside = object.object().clone();
        inside.uncache().unwrap();
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let release = scope.spawn(|| object.release());
            let io = script.take_pending(1).remove(0);
            let end = scope.spawn(|| inside.terminate(Dirty::Write));
            assert!(!end.is_finished());
            script.finish(&io);
            end.join().unwrap().unwrap();
            assert!(inside.is_closed());
            release.join().unwrap().unwrap();
        });
        assert_eq!(closes(&script), 1);
        drop(inside);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_named_object_that_cannot_be_written_is_found_again_with_what_is_dirty() {
    in_all_modes(|rig| {
        let (script, object) = attach(&rig, 1, 2);
        write(&rig, &object, 2);
        script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        assert!(matches!(object.release(), Err(Error::WriteBack { pages: 2, .. })));
        assert_eq!((rig.engine.object_counts(), rig.engine.kept_count()), ((1, 1), 0));
        let (_, object) = attach(&rig, 1, 5);
        assert_eq!((object.dirty_pages(), object.size()), (2, 2 * PAGE_SIZE));
        script.all_puts(None);
        object.release().unwrap();
        assert_eq!((rig.engine.object_counts(), rig.engine.kept_count()), ((1, 0), 1));
        rig.assert_nothing_left();
        assert_eq!(script.stored(1)[0], 0xd1);
    });
}

#[test]
fn an_engine_that_ends_closes_what_is_kept() {
    in_all_modes(|rig| {
        let scripts: Vec<_> = (0..3).map(|thing| attach(&rig, thing, 1).0).collect();
        assert_eq!(rig.engine.kept_count(), 3);
        rig.engine.shut_down().unwrap();
        assert!(scripts.iter().all(|script| closes(script) == 1));
        let (script, object) = attach(&rig, 1, 1);
        object.release().unwrap();
        rig.engine.discard_all().unwrap();
        assert_eq!(closes(&script), 1);
        rig.assert_nothing_left();
    });
}

/// Threads that attach, write, let go, uncache and terminate the same thing as they like: what was stored is never lost,
/// and every opening is closed once.
#[test]
fn s154_d7_racing_attach_detach_and_terminate_lose_nothing_and_balance() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 150;
    in_all_modes(|rig| {
        let (script, _unused) = Script::new();
        let openings = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (rig, script, openings) = (&rig, &script, &openings);
                scope.spawn(move || {
                    let mut stored = 0_u64;
                    for round in 0..ROUNDS {
                        openings.fetch_add(1, Ordering::Relaxed);
                        let pager = script.again(PagerOps::PUT);
                        let object = rig.engine.attach(opening(pager, 1, THREADS)).unwrap();
                        let va = page_at(map(rig, &object, THREADS), thread);
                        let mut bytes = [0; 8];
                        if rig.map.load(va, &mut bytes).is_ok() {
                            if stored > 0 {
                                assert_eq!(u64::from_le_bytes(bytes), stored, "a store was lost");
                            }
                            if rig.map.store(va, &(round + 1).to_le_bytes()).is_ok() {
                                stored = round + 1;
                            }
                        }
                        match (round + thread) % 5 {
                            0 => object.object().terminate(Dirty::Write).unwrap(),
                            1 => drop(object.object().uncache().unwrap()),
                            _ => {}
                        }
                        rig.map.unmap(page_at(va, 0), PAGE_SIZE).unwrap();
                        object.release().unwrap();
                    }
                });
            }
        });
        rig.assert_nothing_left();
        assert_eq!(closes(&script) as u64, openings.load(Ordering::Relaxed));
    });
}
