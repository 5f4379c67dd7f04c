//! Objects that grow and shrink while they are mapped, dirty and under way. On every kind of soft machine.

use std::sync::mpsc;
use std::thread;

use quire_core::error::{Cause, Error, FaultError, PagerError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef};
use quire_core::page::Dirtiness;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, MAX_OBJECT_SIZE, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr, pages_of};
use quire_tests::{Call, Rig, Script, Twist, in_all_modes, page_at, pattern, watch};

/// An object whose pager can tell and change its size, mapped with room behind it.
fn sized(rig: &Rig, size: u64) -> (Script, ObjectRef, VirtAddr) {
    let ops = PagerOps::PUT | PagerOps::SYNC | PagerOps::SIZE | PagerOps::RESIZE;
    let (script, pager) = Script::with(ops, 256);
    script.set_size(size);
    let object = rig.engine.create_object(pager, size).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_write(16 * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

fn byte_at(va: VirtAddr, offset: u64) -> VirtAddr {
    VirtAddr(va.0 + offset)
}

fn load<const N: usize>(rig: &Rig, va: VirtAddr) -> [u8; N] {
    let mut bytes = [0; N];
    rig.map.load(va, &mut bytes).unwrap();
    bytes
}

fn puts(script: &Script) -> Vec<Call> {
    let mut calls = script.calls();
    calls.retain(|call| matches!(call, Call::Put(..)));
    calls
}

/// Of the puts, none went beyond the end as the pager knew it then.
fn assert_nothing_put_behind_the_end(script: &Script, pages: u64) {
    let mut end = pages;
    for call in script.calls() {
        match call {
            Call::Resize(size) => end = pages_of(size),
            Call::Put(first, n) => assert!(
                first + n as u64 <= end,
                "{call:?}, of {end} pages: {:?}",
                script.calls()
            ),
            _ => {}
        }
    }
}

#[test]
fn s130_growing_changes_only_the_size() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 2 * PAGE_SIZE);
        rig.map.store(va, b"kept").unwrap();
        assert_eq!(
            rig.map.fault(page_at(va, 2), Access::Read),
            Err(FaultError::BeyondObject(page_at(va, 2)))
        );
        let calls = script.calls();
        object.object().set_size(3 * PAGE_SIZE).unwrap();
        assert_eq!((object.size(), object.resident()), (3 * PAGE_SIZE, 1));
        assert_eq!(script.calls(), calls, "its pager is not asked");
        assert_eq!(rig.load_page(page_at(va, 2)), pattern(2));
        assert_eq!(load(&rig, va), *b"kept");
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn s131_shrinking_frees_whole_pages_and_does_not_write_what_was_dirty_in_them() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 5 * PAGE_SIZE);
        for i in 0..5 {
            rig.map.store(page_at(va, i), b"dirty").unwrap();
        }
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        assert_eq!((object.resident(), puts(&script).len()), (2, 0));
        for i in 2..5 {
            let beyond = page_at(va, i);
            assert_eq!(
                rig.map.fault(beyond, Access::Write),
                Err(FaultError::BeyondObject(beyond)),
                "its mapping has gone, too"
            );
            assert!(rig.map.store(beyond, b"late").is_err());
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(puts(&script), [Call::Put(0, 2)]);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn d6_shrinking_into_a_page_keeps_its_live_part_dirty_and_zeroes_the_rest() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 2 * PAGE_SIZE);
        rig.map.store(page_at(va, 1), &[0xd1; PAGE_BYTES]).unwrap();
        object.object().set_size(PAGE_SIZE + 100).unwrap();
        let page = object.lookup(PageIndex(1)).unwrap();
        assert_eq!(page.dirtiness(), Dirtiness::Dirty);
        let bytes = rig.load_page(page_at(va, 1));
        assert_eq!(
            (&bytes[..100], &bytes[100..]),
            (&[0xd1; 100][..], &[0; PAGE_BYTES - 100][..])
        );
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[..100], [0xd1; 100]);
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        assert_eq!(load(&rig, byte_at(va, PAGE_SIZE + 100)), [0; 100]);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn what_was_stored_behind_the_end_is_not_there_when_the_object_grows() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 100);
        rig.map.store(va, &[0xd1; 200]).unwrap();
        object.object().resize(300).unwrap();
        let bytes: [u8; 300] = load(&rig, va);
        assert_eq!((bytes[99], &bytes[100..]), (0xd1, &[0; 200][..]));
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(0)[100..300], [0; 200]);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn s132_a_size_that_cannot_be_is_cut_or_refused() {
    in_all_modes(|rig| {
        let (script, object, _va) = sized(&rig, 10);
        object.object().set_size(u64::MAX).unwrap();
        assert_eq!(object.size(), MAX_OBJECT_SIZE);
        assert!(matches!(object.object().resize(u64::MAX), Err(Error::Invalid(_))));
        script.set_size(u64::MAX);
        assert_eq!(object.object().refresh_size(), Ok(MAX_OBJECT_SIZE));
        let (_, other) = Script::new();
        let other = rig.engine.create_object(other, u64::MAX).unwrap();
        assert_eq!(other.size(), MAX_OBJECT_SIZE, "s33");
        drop((object, other));
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn s129_an_object_that_has_ended_keeps_its_size() {
    in_all_modes(|rig| {
        let (script, object, _va) = sized(&rig, 10);
        object.object().terminate(Dirty::Write).unwrap();
        let calls = script.calls();
        assert!(object.object().set_size(5).is_err());
        assert!(object.object().resize(5).is_err());
        assert!(object.object().refresh_size().is_err());
        assert_eq!((object.size(), script.calls()), (10, calls));
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_does_not_agree_leaves_size_pages_and_dirty_data_as_they_were() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 3 * PAGE_SIZE);
        rig.map.store(page_at(va, 2), b"precious").unwrap();
        script.resize_fails(Some(Cause::Errno(27)));
        assert_eq!(
            object.object().resize(10),
            Err(Error::Pager(PagerError::bare(Cause::Errno(27))))
        );
        assert_eq!(
            (object.size(), load(&rig, page_at(va, 2))),
            (3 * PAGE_SIZE, *b"precious")
        );
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(&script.stored(2)[..8], b"precious");
        script.resize_fails(None);
        object.object().resize(10).unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Resize(10)));
        let (_, plain, _) = rig.mapped(1);
        assert!(matches!(plain.object().resize(1), Err(Error::Unsupported(_))));
        assert!(matches!(plain.object().refresh_size(), Err(Error::Unsupported(_))));
        drop((object, plain));
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn refresh_follows_a_thing_that_was_changed_behind_our_back() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 2 * PAGE_SIZE + 100);
        for i in 0..3 {
            let _in_memory = rig.load_page(page_at(va, i));
        }
        // Shrunk: accesses behind the end are bus errors.
        script.set_size(PAGE_SIZE);
        assert_eq!(object.object().refresh_size(), Ok(PAGE_SIZE));
        assert_eq!(object.resident(), 1);
        let beyond = page_at(va, 1);
        assert_eq!(
            rig.map.fault(beyond, Access::Read),
            Err(FaultError::BeyondObject(beyond))
        );
        // Grown: the rest of what was the last page is read anew.
        object.object().set_size(100).unwrap();
        assert_eq!(load(&rig, byte_at(va, 100)), [0; 50]);
        rig.map.store(va, b"ours").unwrap();
        script.set_size(PAGE_SIZE);
        assert_eq!(object.object().refresh_size(), Ok(PAGE_SIZE));
        assert_eq!(puts(&script).len(), 1, "what was dirty there is written first");
        assert_eq!(object.resident(), 0);
        assert_eq!(load(&rig, va), *b"ours");
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_finds_the_page_gone_gives_a_bus_error() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 2 * PAGE_SIZE);
        script.next_gets([Twist::Fail(Cause::OutOfRange)]);
        assert_eq!(
            rig.map.fault(page_at(va, 1), Access::Read),
            Err(FaultError::BeyondObject(page_at(va, 1)))
        );
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn s20_a_size_change_waits_for_requests_under_way() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 2 * PAGE_SIZE);
        rig.map.store(va, b"dirty").unwrap();
        let resizes = |script: &Script| {
            script
                .calls()
                .iter()
                .filter(|call| matches!(call, Call::Resize(_)))
                .count()
        };
        for direction in ["get", "put"] {
            let before = resizes(&script);
            match direction {
                "get" => script.next_gets([Twist::Defer]),
                _ => script.next_puts([Twist::Defer]),
            }
            thread::scope(|scope| {
                let request = scope.spawn(|| match direction {
                    "get" => rig.map.fault(page_at(va, 1), Access::Read).map(drop).is_ok(),
                    _ => object.object().flush_all(FlushFlags::empty()).is_ok(),
                });
                let io = script.take_pending(1).remove(0);
                let change = scope.spawn(|| object.object().resize(PAGE_SIZE));
                let waits = !change.is_finished() && resizes(&script) == before;
                script.finish(&io);
                assert!(waits);
                change.join().unwrap().unwrap();
                let served = request.join().unwrap();
                assert!(served || direction == "get", "a fault may find the page gone");
            });
            assert_eq!((object.size(), object.resident()), (PAGE_SIZE, 1));
            object.object().resize(2 * PAGE_SIZE).unwrap();
            rig.map.store(va, b"dirty").unwrap();
        }
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn s20_s21_no_request_begins_while_the_pager_changes_the_size() {
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 3 * PAGE_SIZE);
        rig.map.store(va, b"dirty").unwrap();
        let (inside, in_resize) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        script.on_call(move |_| {
            inside.send(()).unwrap();
            gone.recv().unwrap();
        });
        let before = script.calls().len() + 1;
        thread::scope(|scope| {
            let change = scope.spawn(|| object.object().resize(2 * PAGE_SIZE));
            in_resize.recv().unwrap();
            let near = scope.spawn(|| rig.map.fault(page_at(va, 1), Access::Read).map(drop));
            let far = scope.spawn(|| rig.map.fault(page_at(va, 2), Access::Read).map(drop));
            let flush = scope.spawn(|| object.object().flush_all(FlushFlags::empty()));
            for _ in 0..100 {
                thread::yield_now();
            }
            assert_eq!(script.calls().len(), before, "everyone waits");
            go.send(()).unwrap();
            change.join().unwrap().unwrap();
            near.join().unwrap().unwrap();
            assert_eq!(far.join().unwrap(), Err(FaultError::BeyondObject(page_at(va, 2))));
            flush.join().unwrap().unwrap();
        });
        assert_eq!((object.dirty_pages(), object.resident()), (0, 2));
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_pager_that_changes_the_size_while_it_changes_the_size_is_refused() {
    in_all_modes(|rig| {
        let (script, object, _va) = sized(&rig, 2 * PAGE_SIZE);
        let (answer, answers) = mpsc::channel();
        let inside = object.object().clone();
        script.on_call(move |_| answer.send(inside.set_size(5)).unwrap());
        object.object().resize(10).unwrap();
        assert!(matches!(answers.recv().unwrap(), Err(Error::InUse(_))));
        assert_eq!(object.size(), 10);
        script.on_call(|_| {});
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

/// Lets the daemon write and free whatever it can, once.
fn squeeze(rig: &Rig) -> quire_core::pagedaemon::Step {
    rig.want_all_free();
    // The first step takes away the marks of use.
    rig.engine.daemon_step();
    rig.engine.daemon_step()
}

#[test]
fn a_flush_that_has_begun_ends_before_the_object_shrinks_and_hangs_nobody() {
    in_all_modes(|rig| {
        let _watch = watch(&rig.engine);
        let (script, object, va) = sized(&rig, 8 * PAGE_SIZE);
        // Runs of one page each, one at a time: there are always pages still to be busied.
        for i in [0, 2, 4, 6] {
            rig.map.store(page_at(va, i), b"dirty").unwrap();
        }
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let all = PageIndex(0)..PageIndex(8);
            let flush = scope.spawn(|| object.object().put(all, PutFlags::CLEANIT | PutFlags::SYNCIO));
            let first = script.take_pending(1).remove(0);
            let shrink = scope.spawn(|| object.object().resize(PAGE_SIZE));
            for _ in 0..100 {
                thread::yield_now();
            }
            // It waits for the flush; the flush, with its other pages still to be busied, does not wait for it.
            assert!(!shrink.is_finished());
            script.finish(&first);
            for _ in [2, 4, 6] {
                script.finish(&script.take_pending(1)[0]);
            }
            assert_eq!(flush.join().unwrap().unwrap().written, 4);
            shrink.join().unwrap().unwrap();
        });
        script.all_puts(None);
        assert_nothing_put_behind_the_end(&script, 8);
        assert_eq!(script.calls().last(), Some(&Call::Resize(PAGE_SIZE)));
        assert_eq!(object.resident(), 1);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_flush_that_has_begun_goes_on_while_the_object_is_terminated_and_hangs_nobody() {
    in_all_modes(|rig| {
        let _watch = watch(&rig.engine);
        let (script, object, va) = sized(&rig, 8 * PAGE_SIZE);
        for i in [0, 2, 4, 6] {
            rig.map.store(page_at(va, i), b"dirty").unwrap();
        }
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let all = PageIndex(0)..PageIndex(8);
            let flush = scope.spawn(|| object.object().put(all, PutFlags::CLEANIT | PutFlags::SYNCIO));
            let first = script.take_pending(1).remove(0);
            let end = scope.spawn(|| object.object().terminate(Dirty::Write));
            for _ in 0..100 {
                thread::yield_now();
            }
            assert!(!end.is_finished());
            script.finish(&first);
            // Whoever puts the others, each is put once.
            let mut left = 3;
            while left > 0 {
                for io in script.take_pending(1) {
                    script.finish(&io);
                    left -= 1;
                }
            }
            let _answer = flush.join().unwrap();
            end.join().unwrap().unwrap();
        });
        assert!([0, 2, 4, 6].iter().all(|i| &script.stored(*i)[..5] == b"dirty"));
        assert_eq!((puts(&script).len(), object.resident()), (4, 0));
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn the_page_daemon_leaves_an_object_alone_that_changes_its_size() {
    in_all_modes(|rig| {
        let _watch = watch(&rig.engine);
        let (script, object, va) = sized(&rig, 4 * PAGE_SIZE);
        for i in 0..4 {
            rig.map.store(page_at(va, i), b"dirty").unwrap();
        }
        let (inside, in_resize) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        script.on_call(move |_| {
            inside.send(()).unwrap();
            gone.recv().unwrap();
        });
        thread::scope(|scope| {
            let shrink = scope.spawn(|| object.object().resize(2 * PAGE_SIZE));
            in_resize.recv().unwrap();
            let step = squeeze(&rig);
            assert_eq!((step.failed, puts(&script).len(), object.resident()), (1, 0, 4));
            go.send(()).unwrap();
            shrink.join().unwrap().unwrap();
        });
        script.on_call(|_| {});
        assert_eq!((object.resident(), object.dirty_pages()), (2, 2));
        squeeze(&rig);
        assert_eq!(puts(&script), [Call::Put(0, 2)]);
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}

/// Threads store, flush and read while one changes the size: no page behind the end stays, and what is in front of it is
/// what was stored last.
#[test]
fn racing_faults_flushes_and_size_changes_keep_the_live_part_whole() {
    const ROUNDS: u64 = 200;
    in_all_modes(|rig| {
        let (script, object, va) = sized(&rig, 8 * PAGE_SIZE);
        let (end, ended) = (
            std::sync::atomic::AtomicBool::new(false),
            std::sync::atomic::Ordering::Relaxed,
        );
        thread::scope(|scope| {
            for thread in 1..3_u64 {
                let (rig, end) = (&rig, &end);
                scope.spawn(move || {
                    let mut round = 0_u64;
                    while !end.load(ended) {
                        round += 1;
                        for i in 0..8 {
                            let _ = rig
                                .map
                                .store(byte_at(va, i * PAGE_SIZE + thread * 8), &round.to_le_bytes());
                        }
                    }
                });
            }
            scope.spawn(|| {
                let mut last = 0;
                while !end.load(ended) {
                    object.object().flush_all(FlushFlags::empty()).unwrap();
                    // Page 0 always stays, so that what is stored in it never goes back.
                    let now = u64::from_le_bytes(load(&rig, byte_at(va, 8)));
                    assert!(
                        now >= last || last == 0 || now == 0x5157_4952_4500_0000,
                        "{now} after {last}"
                    );
                    last = if now == 0x5157_4952_4500_0000 { 0 } else { now };
                }
            });
            // At least so many, and until the flusher has had its share.
            for round in 0..100 * ROUNDS {
                if round >= ROUNDS && script.puts() >= 5 {
                    break;
                }
                let size = match round % 4 {
                    0 => 1 + round % PAGE_SIZE + 100,
                    1 => 8 * PAGE_SIZE,
                    2 => 3 * PAGE_SIZE + 17,
                    _ => 5 * PAGE_SIZE,
                };
                object.object().resize(size).unwrap();
            }
            object.object().resize(PAGE_SIZE + 40).unwrap();
            end.store(true, ended);
        });
        assert!(object.resident() <= 2);
        assert_nothing_put_behind_the_end(&script, 8);
        let bytes = rig.load_page(page_at(va, 1));
        assert!(bytes[40..].iter().all(|byte| *byte == 0));
        drop(object);
        rig.map.clear().unwrap();
        rig.assert_nothing_left();
    });
}
