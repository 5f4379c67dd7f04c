//! Populate: a pager that installs pages of its own at a fault. On every kind of soft machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_core::error::{Cause, FaultError, PagerError};
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::{NotInserted, Populate};
use quire_core::types::{Access, ByteOff, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, in_all_modes, in_all_modes_with_frames, page_at, pattern};

fn populated(rig: &Rig, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, pager) = Script::with(PagerOps::POPULATE, 1);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    let va = rig
        .map
        .map(&object, &MapRequest::read_only(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

/// Inserts a page through a populate request, and fills it.
fn install(request: &Populate, index: u64) {
    fill(request, request.insert_one(PageIndex(index)).unwrap(), index);
}

fn fill(request: &Populate, bytes: std::ptr::NonNull<u8>, index: u64) {
    // SAFETY: the request lends PAGE_BYTES bytes until it ends.
    unsafe { bytes.as_ptr().write_bytes(u8::try_from(index).unwrap(), PAGE_BYTES) };
    assert!(request.ready(PageIndex(index), 1));
}

#[test]
fn populate_installs_a_window_in_one_call_and_no_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 16);
        script.on_populate(|request| {
            (4..12).for_each(|i| install(request, i));
            Populated::Range(PageIndex(4), PageIndex(11))
        });
        for i in 4..12 {
            assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
        }
        assert_eq!(
            script.calls(),
            [Call::Populate(4)],
            "s238: pages already there ask nobody"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s217_s219_populate_is_told_the_window_and_the_maximum_protection() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT, 1);
        let object = rig.engine.create_object(pager, 16 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            offset: ByteOff(3 * PAGE_SIZE),
            max_prot: Prot::READ | Prot::WRITE,
            place: Place::FixedNoReplace(page_at(rig.map.base(), 16)),
            ..MapRequest::read_only(5 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        script.on_populate(|request| {
            let plan = request.plan();
            assert_eq!(
                (plan.index, plan.first, plan.last),
                (PageIndex(5), PageIndex(3), PageIndex(7))
            );
            assert_eq!((plan.access, plan.max_prot), (Access::Read, Prot::READ | Prot::WRITE));
            install(request, 5);
            Populated::Range(PageIndex(5), PageIndex(5))
        });
        rig.map.fault(page_at(va, 2), Access::Read).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s221_a_populate_that_declines_is_followed_by_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 2);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(script.calls(), [Call::Populate(0), Call::Get(0, 1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s222_a_populate_that_fails_is_a_failed_fault_and_leaves_no_busy_page() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        script.on_populate(|request| {
            install(request, 1);
            request.insert_one(PageIndex(2)).unwrap();
            Populated::Failed(PagerError::bare(Cause::Io))
        });
        assert!(matches!(rig.map.fault(va, Access::Read), Err(FaultError::Pager { .. })));
        assert_eq!(object.resident(), 1, "the filled page is kept, the other one freed");
        assert!(!object.lookup(PageIndex(1)).unwrap().is_busied());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s223_a_populate_answer_that_does_not_hold_is_a_broken_promise() {
    in_all_modes(|rig| {
        let bad: [(u64, u64); 4] = [(2, 1), (1, 2), (0, 99), (0, 2)];
        for (first, last) in bad {
            let (script, object, va) = populated(&rig, 4);
            script.on_populate(move |request| {
                install(request, 0);
                Populated::Range(PageIndex(first), PageIndex(last))
            });
            let error = rig.map.fault(va, Access::Read).unwrap_err();
            assert!(
                matches!(error, FaultError::Quarantined(_)),
                "{first} to {last}: {error}"
            );
            rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
            object.release().unwrap();
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_is_there_already_is_left_out_of_populate() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        let present = Arc::new(AtomicU64::new(0));
        let seen = present.clone();
        script.on_populate(move |request| {
            for i in 0..4 {
                match request.insert_one(PageIndex(i)) {
                    Ok(bytes) => fill(request, bytes, i),
                    Err(NotInserted::Present) => drop(seen.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(request.insert_one(PageIndex(4)), Err(NotInserted::OutOfRange));
            assert!(!request.ready(PageIndex(4), 1));
            Populated::Range(PageIndex(0), PageIndex(3))
        });
        rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(present.load(Ordering::Relaxed), 0);
        assert_eq!(object.resident(), 4);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_device_that_is_told_there_is_no_memory_is_asked_again_when_there_is() {
    in_all_modes_with_frames(8, |rig| {
        let (script, object, va) = populated(&rig, 64);
        script.on_populate(|request| {
            let index = request.plan().index;
            match request.insert_one(index) {
                Ok(bytes) => {
                    fill(request, bytes, index.0);
                    Populated::Range(index, index)
                }
                Err(NotInserted::NoMemory) => Populated::Failed(PagerError::bare(Cause::NoMemory)),
                Err(_) => Populated::Restart,
            }
        });
        for i in 0..64 {
            assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
        }
        assert!(rig.engine.stats().counts().pages_reclaimed > 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_honest_device_is_not_condemned_for_pages_that_memory_pressure_takes() {
    in_all_modes_with_frames(24, |rig| {
        let (script, object, va) = populated(&rig, 64);
        script.on_populate(|request| {
            let index = request.plan().index;
            match request.insert_one(index) {
                Ok(bytes) => fill(request, bytes, index.0),
                Err(NotInserted::NoMemory) => return Populated::Failed(PagerError::bare(Cause::NoMemory)),
                // Somebody was quicker: it is a part of the answer if it can be had, and found by the fault otherwise.
                Err(_) if request.take(index, 1).is_err() => return Populated::Restart,
                Err(_) => {}
            }
            Populated::Range(index, index)
        });
        thread::scope(|scope| {
            for t in 0..4_u64 {
                let rig = &rig;
                scope.spawn(move || {
                    for round in 0..400_u64 {
                        let i = (round * 7 + t * 13) % 64;
                        assert_eq!(rig.load_page(page_at(va, i))[9], u8::try_from(i).unwrap());
                    }
                });
            }
        });
        assert!(!object.is_quarantined());
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_populate_that_starts_over_for_ever_ends_in_get() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 1);
        script.on_populate(|_| Populated::Restart);
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(script.gets(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_populate_says_is_ready_and_is_not_filled_is_a_broken_promise() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 1);
        script.on_populate(|request| {
            let bytes = request.insert_one(PageIndex(0)).unwrap();
            // SAFETY: the request lends PAGE_BYTES bytes until it ends.
            unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES / 2) };
            assert!(request.ready(PageIndex(0), 1));
            Populated::Range(PageIndex(0), PageIndex(0))
        });
        assert!(matches!(
            rig.map.fault(va, Access::Read),
            Err(FaultError::Quarantined(_))
        ));
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_populate_request_that_has_ended_takes_no_more_pages() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        let kept = Arc::new(std::sync::Mutex::new(None));
        let keep = kept.clone();
        script.on_populate(move |request| {
            install(request, 0);
            *keep.lock().unwrap() = Some(request.clone());
            Populated::Range(PageIndex(0), PageIndex(0))
        });
        rig.map.fault(va, Access::Read).unwrap();
        let request = kept.lock().unwrap().take().unwrap();
        assert_eq!(request.insert_one(PageIndex(2)), Err(NotInserted::Ended));
        drop((request, script, object));
        rig.assert_nothing_left();
    });
}
