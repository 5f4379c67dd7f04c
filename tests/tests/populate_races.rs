//! What happens to a populate, and to what it installed, when the map, the object or another populate goes on meanwhile. Step by step
//! where the steps can be told apart: what runs inside the pager's script runs while populate does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use quire_core::error::{Cause, FaultError, PagerError};
use quire_core::map::{MapRequest, Sharing};
use quire_core::object::{Dirty, Object, ObjectRef};
use quire_core::page_services::{Caller, GrabFlags, PageError, PageHandle};
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::{NotInserted, Populate};
use quire_core::types::{Access, Inherit, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, in_all_modes, in_soft_modes, page_at};

const PAGES: u64 = 8;

/// A device of eight pages that can be written, mapped whole.
fn device(rig: &Rig) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT | PagerOps::RESIZE, 64);
    let object = rig.engine.create_object(pager, PAGES * PAGE_SIZE).unwrap();
    let request = MapRequest {
        inherit: Inherit::Share,
        ..MapRequest::read_write(PAGES * PAGE_SIZE)
    };
    let va = rig.map.map(&object, &request).unwrap().start;
    (script, object, va)
}

fn install(request: &Populate, first: u64, count: u64) {
    let mut byte = u8::try_from(first).unwrap();
    let inserted = request.insert(PageIndex(first), count, &mut |bytes| {
        // SAFETY: the request lends PAGE_BYTES bytes until it ends.
        unsafe { bytes.as_ptr().write_bytes(byte, PAGE_BYTES) };
        byte += 1;
    });
    assert_eq!(inserted, Ok(count));
    assert!(request.ready(PageIndex(first), count));
}

/// Installs all pages, doing something in between the first time.
fn all_pages(script: &Script, meanwhile: impl Fn(&Arc<Populate>) + Send + Sync + 'static) {
    let round = AtomicU64::new(0);
    script.on_populate(move |request| {
        let index = request.plan().index;
        if round.fetch_add(1, Ordering::Relaxed) > 0 {
            // What an earlier one has left is taken; what went is installed anew.
            return match request.take(index, 1) {
                Ok(_) => Populated::Range(index, index),
                Err(_) => {
                    install(request, index.0, 1);
                    Populated::Range(index, index)
                }
            };
        }
        install(request, 0, PAGES);
        meanwhile(request);
        Populated::Range(PageIndex(0), PageIndex(PAGES - 1))
    });
}

/// Something to be started on a thread of its own while populate runs, and what it came to.
fn beside<T: Send + 'static>(
    object: &ObjectRef,
    does: impl Fn(&Arc<Object>) -> T + Clone + Send + Sync + 'static,
) -> (impl Fn() + Send + Sync + 'static, impl FnOnce() -> T) {
    let (sender, started) = channel::<thread::JoinHandle<T>>();
    let object = object.object().clone();
    let start = move || {
        let (object, does) = (object.clone(), does.clone());
        sender.send(thread::spawn(move || does(&object))).unwrap();
    };
    (start, move || started.recv().unwrap().join().unwrap())
}

fn assert_nothing_busied(object: &ObjectRef) {
    let busied = (0..PAGES).filter(|i| object.lookup(PageIndex(*i)).is_some_and(|page| page.is_busied()));
    assert_eq!(busied.count(), 0);
}

fn mapped(rig: &Rig, va: VirtAddr) -> usize {
    (0..PAGES)
        .filter(|i| rig.map.pmap().extract(page_at(va, *i)).is_some())
        .count()
}

#[test]
fn populate_against_unmap() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let map = rig.map.shared();
        all_pages(&script, move |_| map.unmap(va, PAGES * PAGE_SIZE).unwrap());
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::NotMapped(va)));
        assert_nothing_busied(&object);
        assert_eq!(object.resident(), PAGES, "it stays as cache");
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_an_unmap_of_the_neighbours() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let map = rig.map.shared();
        all_pages(&script, move |_| map.unmap(page_at(va, 4), 4 * PAGE_SIZE).unwrap());
        assert!(rig.map.fault(va, Access::Read).is_ok());
        assert_eq!(script.calls(), [Call::Populate(0)]);
        assert!((4..PAGES).all(|i| rig.map.pmap().extract(page_at(va, i)).is_none()));
        assert_nothing_busied(&object);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_a_protect_that_takes_the_access_away() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let map = rig.map.shared();
        all_pages(&script, move |_| {
            map.protect(va, PAGES * PAGE_SIZE, Prot::READ).unwrap()
        });
        assert_eq!(rig.map.fault(va, Access::Write), Err(FaultError::Denied(va)));
        assert_nothing_busied(&object);
        assert!(rig.map.fault(va, Access::Read).unwrap().resident);
        assert_eq!(rig.map.pmap().extract(va).unwrap().prot, Prot::READ);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_truncate() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        // The size changes when no request is under way: after the populate, before or after its pages are mapped.
        let (start, resized) = beside(&object, |object| object.resize(2 * PAGE_SIZE));
        all_pages(&script, move |_| start());
        let end = rig.map.fault(page_at(va, 5), Access::Read);
        resized().unwrap();
        assert!(matches!(end, Ok(_) | Err(FaultError::BeyondObject(_))), "{end:?}");
        assert_eq!(object.resident(), 2);
        assert!(mapped(&rig, va) <= 2);
        assert_nothing_busied(&object);
        assert_eq!(
            rig.map.fault(page_at(va, 5), Access::Read),
            Err(FaultError::BeyondObject(page_at(va, 5)))
        );
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_revoke_of_what_it_has_inserted() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (start, revoked) = beside(&object, |object| {
            object.revoke(PageIndex(0)..PageIndex(PAGES), Dirty::Write)
        });
        all_pages(&script, move |_| start());
        // It waits for the pages, which are busied until they are mapped, and takes them then.
        rig.map.fault(page_at(va, 3), Access::Write).unwrap();
        assert_eq!(revoked(), Ok(PAGES));
        assert_eq!((object.resident(), mapped(&rig, va)), (0, 0));
        assert_eq!(
            script.stored(3)[0],
            3,
            "a fault for writing made them dirty, and they were written"
        );
        // The next access faults again.
        assert_eq!(rig.load_page(page_at(va, 3))[0], 3);
        assert_eq!(
            script
                .calls()
                .iter()
                .filter(|call| matches!(call, Call::Populate(_)))
                .count(),
            2
        );
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_revoke_for_good() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (start, revoked) = beside(&object, |object| object.revoke_for_good(Dirty::Discard));
        let going = object.clone();
        all_pages(&script, move |_| {
            start();
            while !going.object().is_revoked() {
                thread::yield_now();
            }
        });
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::Revoked));
        assert_eq!(revoked(), Ok(PAGES));
        assert_eq!((object.resident(), mapped(&rig, va)), (0, 0));
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::Revoked));
        assert_eq!(script.calls(), [Call::Populate(0)], "the device is not asked any more");
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_terminate() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (start, terminated) = beside(&object, |object| object.terminate(Dirty::Discard));
        let going = object.clone();
        all_pages(&script, move |_| {
            start();
            // Until it dies: then nothing can be revoked any more, not even where there is nothing.
            let nowhere = PageIndex(PAGES)..PageIndex(PAGES + 1);
            while going.object().revoke(nowhere.clone(), Dirty::Discard).is_ok() {
                thread::yield_now();
            }
        });
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::Terminated));
        terminated().unwrap();
        assert_eq!((object.resident(), mapped(&rig, va)), (0, 0));
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_terminate_that_writes_is_told_that_the_object_ends() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (start, terminated) = beside(&object, |object| object.terminate(Dirty::Write));
        let going = object.clone();
        script.on_populate(move |request| {
            let index = request.plan().index;
            start();
            let looked = || {
                let flags = GrabFlags::NOCREAT | GrabFlags::NOWAIT;
                PageHandle::grab(going.object(), index, 1, flags, Caller::Pager, |_| {})
            };
            while looked() == Err(PageError::Absent) {
                thread::yield_now();
            }
            // It is not there, and waiting for somebody else who has it would never end.
            assert_eq!(request.insert_one(index), Err(NotInserted::OutOfRange));
            Populated::Failed(PagerError::bare(Cause::OutOfRange))
        });
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::Terminated));
        terminated().unwrap();
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_fork() {
    in_soft_modes("a map on real addresses cannot be forked", |rig| {
        let (script, object, va) = device(&rig);
        let (map, (sender, children)) = (rig.map.shared(), channel());
        all_pages(&script, move |_| sender.send(map.fork().unwrap()).unwrap());
        rig.map.fault(page_at(va, 1), Access::Write).unwrap();
        let child = children.recv().unwrap();
        assert_eq!(script.calls(), [Call::Populate(1)]);
        assert_nothing_busied(&object);
        // Both show the device.
        rig.map.store(page_at(va, 1), &[77]).unwrap();
        let mut byte = [0];
        child.load(page_at(va, 1), &mut byte).unwrap();
        assert_eq!(byte, [77]);
        child.clear().unwrap();
        drop(child);
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn populate_against_another_populate_of_an_overlapping_window() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (inside, entered) = channel();
        let (go, gate) = channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        script.on_populate(move |request| match request.plan().index {
            PageIndex(1) => {
                install(request, 0, 4);
                inside.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                Populated::Range(PageIndex(0), PageIndex(3))
            }
            _ => {
                // The first two of its window are the other one's.
                assert_eq!(request.insert_one(PageIndex(2)), Err(NotInserted::Present));
                assert_eq!(request.take(PageIndex(2), 2), Err(NotInserted::Present));
                install(request, 4, 4);
                Populated::Range(PageIndex(4), PageIndex(7))
            }
        });
        thread::scope(|scope| {
            let first = scope.spawn(|| rig.map.fault(page_at(va, 1), Access::Read));
            entered.recv().unwrap();
            let second = rig.map.fault(page_at(va, 6), Access::Read).unwrap();
            assert_eq!(second.neighbours, 3);
            // A page that the first one has is waited for, and nobody is asked for it.
            let third = scope.spawn(|| rig.map.fault(page_at(va, 3), Access::Read));
            go.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap().neighbours, 3);
            third.join().unwrap().unwrap();
        });
        assert_eq!(mapped(&rig, va), 8);
        assert_nothing_busied(&object);
        let calls = script.calls();
        assert_eq!(calls, [Call::Populate(1), Call::Populate(6)]);
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_populate_that_does_not_return_is_reported_and_others_go_on() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let (inside, entered) = channel();
        let (go, gate) = channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        script.on_populate(move |request| {
            install(request, 0, 1);
            inside.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            Populated::Range(PageIndex(0), PageIndex(0))
        });
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            entered.recv().unwrap();
            let overdue = rig.engine.overdue(std::time::Duration::ZERO);
            assert_eq!(overdue.len(), 1);
            assert_eq!(overdue[0].operation, quire_core::requests::Operation::Populate);
            assert_eq!(overdue[0].first, PageIndex(0));
            let much_later = std::time::Instant::now() + std::time::Duration::from_secs(3600);
            assert_eq!(rig.engine.watchdog_step(much_later), 1);
            assert_eq!(
                rig.engine.cancel_overdue(std::time::Duration::ZERO),
                0,
                "there is nobody to ask"
            );
            // Other objects go on.
            let (other, _kept, elsewhere) = rig.mapped(1);
            rig.load_page(elsewhere).fill(0);
            assert_eq!(other.gets(), 1);
            go.send(()).unwrap();
            fault.join().unwrap().unwrap();
        });
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_private_mapping_of_a_device_is_not_asked_to_populate_while_a_shared_one_is() {
    in_all_modes(|rig| {
        let (script, object, va) = device(&rig);
        let private = MapRequest {
            sharing: Sharing::Private,
            ..MapRequest::read_write(PAGES * PAGE_SIZE)
        };
        let copy = rig.map.map(&object, &private).unwrap().start;
        all_pages(&script, |_| {});
        rig.map.fault(va, Access::Read).unwrap();
        // What is there is copied, by whichever way it came.
        rig.map.store(page_at(copy, 2), &[99]).unwrap();
        assert_eq!(rig.load_page(page_at(va, 2))[0], 2);
        assert_eq!(rig.load_page(page_at(copy, 2))[..2], [99, 2]);
        assert_eq!(script.calls(), [Call::Populate(0)]);
        script.on_populate(|_| Populated::UseGet);
        drop((script, object));
        rig.assert_nothing_left();
    });
}
