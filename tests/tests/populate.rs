//! Populate: a pager that installs pages of its own at a fault. On every kind of soft machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_core::error::{Cause, FaultError, PagerError};
use quire_core::fault::Resolved;
use quire_core::flush::FlushFlags;
use quire_core::map::{MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::object::{Object, ObjectRef};
use quire_core::page::Dirtiness;
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::{NotInserted, Populate};
use quire_core::requests::Operation;
use quire_core::types::{Access, ByteOff, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, in_all_modes, in_all_modes_with_frames, page_at, pattern};

fn populated(rig: &Rig, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, object) = populated_object(rig, pages);
    let va = rig
        .map
        .map(&object, &MapRequest::read_only(pages * PAGE_SIZE))
        .unwrap()
        .start;
    (script, object, va)
}

fn populated_object(rig: &Rig, pages: u64) -> (Script, ObjectRef) {
    let (script, pager) = Script::with(PagerOps::POPULATE, 1);
    (script, rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap())
}

/// What each byte of page `index` is.
fn byte_of(index: u64) -> u8 {
    (index % 251) as u8
}

/// Inserts so many pages by one call, and fills them.
fn install_run(request: &Populate, first: u64, count: u64) {
    let mut index = first;
    let inserted = request.insert(PageIndex(first), count, &mut |bytes| {
        // SAFETY: the request lends PAGE_BYTES bytes until it ends.
        unsafe { bytes.as_ptr().write_bytes(byte_of(index), PAGE_BYTES) };
        index += 1;
    });
    assert_eq!(inserted, Ok(count));
    assert!(request.ready(PageIndex(first), count));
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

#[test]
fn s224_s226_what_was_installed_is_mapped_at_once_and_clipped_to_the_entry() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::POPULATE, 1);
        let object = rig.engine.create_object(pager, 600 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            offset: ByteOff(20 * PAGE_SIZE),
            place: Place::FixedNoReplace(page_at(rig.map.base(), 64)),
            ..MapRequest::read_only(520 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        script.on_populate(|request| {
            install_run(request, 0, 600);
            Populated::Range(PageIndex(0), PageIndex(599))
        });
        let resolved = rig.map.fault(page_at(va, 300), Access::Read).unwrap();
        assert_eq!((resolved.resident, resolved.neighbours), (false, 519));
        for i in [0, 1, 255, 256, 300, 518, 519] {
            assert!(
                rig.map.pmap().extract(page_at(va, i)).is_some(),
                "page {i} is not mapped"
            );
        }
        // D1: nothing at the entry's end, nor before its start.
        assert!(rig.map.pmap().extract(page_at(va, 520)).is_none());
        assert!(rig.map.pmap().extract(VirtAddr(va.0 - PAGE_SIZE)).is_none());
        // D2: what lies outside is nobody's, and stays.
        assert_eq!(object.resident(), 600);
        assert!((0..600).all(|i| !object.lookup(PageIndex(i)).unwrap().is_busied()));
        assert_eq!(rig.load_page(page_at(va, 519))[7], byte_of(539));
        assert_eq!(script.calls(), [Call::Populate(320)]);
        assert_eq!(rig.engine.stats().counts().faults, 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn d1_d2_pages_outside_the_entry_are_neither_mapped_nor_left_busied() {
    in_all_modes(|rig| {
        let (script, object) = populated_object(&rig, 8);
        let at = |first: u64| MapRequest {
            offset: ByteOff(first * PAGE_SIZE),
            ..MapRequest::read_only(2 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &at(3)).unwrap().start;
        let elsewhere = rig.map.map(&object, &at(6)).unwrap().start;
        script.on_populate(|request| {
            install_run(request, 1, 6);
            Populated::Range(PageIndex(1), PageIndex(6))
        });
        rig.map.fault(va, Access::Read).unwrap();
        assert!(rig.map.pmap().extract(page_at(va, 1)).is_some());
        assert!(
            rig.map
                .pmap()
                .extract(page_at(va, 2))
                .is_none_or(|_| elsewhere == page_at(va, 2))
        );
        assert!(rig.map.pmap().extract(elsewhere).is_none());
        // Another entry finds them as cache, and waits for nobody.
        assert!(rig.map.fault(elsewhere, Access::Read).unwrap().resident);
        assert_eq!(script.calls(), [Call::Populate(3)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn d3_s224_after_a_change_of_the_map_everything_is_unbusied_and_the_fault_starts_again() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        let other = rig.map.map(&object, &MapRequest::read_only(PAGE_SIZE)).unwrap().start;
        let map = rig.map.shared();
        let rounds = Arc::new(AtomicU64::new(0));
        let seen = rounds.clone();
        script.on_populate(move |request| {
            // Something else of the map goes, twice: its version is another one when we are back.
            if seen.fetch_add(1, Ordering::Relaxed) == 0 {
                install_run(request, 0, 2);
                map.unmap(other, PAGE_SIZE).unwrap();
                return Populated::Range(PageIndex(0), PageIndex(1));
            }
            unreachable!("what was installed is found as cache")
        });
        let resolved = rig.map.fault(va, Access::Read).unwrap();
        assert!(!resolved.resident);
        assert_eq!(rounds.load(Ordering::Relaxed), 1);
        assert_eq!(object.resident(), 2);
        assert!((0..2).all(|i| !object.lookup(PageIndex(i)).unwrap().is_busied()));
        assert_eq!(rig.engine.stats().counts().fault_restarts, 1);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s215_an_index_beyond_the_object_fails_and_populate_is_not_called() {
    in_all_modes(|rig| {
        let (script, object) = populated_object(&rig, 2);
        let va = rig
            .map
            .map(&object, &MapRequest::read_only(4 * PAGE_SIZE))
            .unwrap()
            .start;
        script.on_populate(|_| unreachable!("the index is beyond the object"));
        assert_eq!(
            rig.map.fault(page_at(va, 2), Access::Read),
            Err(FaultError::BeyondObject(page_at(va, 2)))
        );
        assert!(script.calls().is_empty());
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s216_s220_a_call_of_populate_is_counted_on_the_object_and_has_an_index_inside() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 3);
        let engine = rig.engine.clone();
        script.on_populate(move |request| {
            // No lock of the engine is held, or these would not be allowed; the request stands on the engine's list.
            quire_core::sync::assert_no_locks_held("inside populate");
            assert!(request.object().has_index(request.plan().index));
            let [request_here] = &engine.requests_under_way()[..] else {
                panic!("one request is under way")
            };
            assert_eq!(request_here.operation, Operation::Populate);
            assert_eq!(
                (request_here.object, request_here.first),
                (request.object().id(), request.plan().index)
            );
            install(request, 2);
            Populated::Range(PageIndex(2), PageIndex(2))
        });
        rig.map.fault(page_at(va, 2), Access::Read).unwrap();
        assert!(rig.engine.requests_under_way().is_empty());
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s214_s234_populate_is_for_the_top_object_and_what_is_shadowed_comes_through_get() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::POPULATE, 1);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            sharing: Sharing::Private,
            ..MapRequest::read_write(2 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        script.on_populate(|_| unreachable!("the object is not on top"));
        rig.map.store(va, &[1]).unwrap();
        assert_eq!(rig.load_page(page_at(va, 1)), pattern(1));
        assert!(!script.calls().iter().any(|call| matches!(call, Call::Populate(_))));
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s227_each_page_of_the_answer_is_there_filled_and_busied_by_this_populate() {
    in_all_modes(|rig| {
        type Answer = fn(&Arc<Populate>) -> Populated;
        let cases: [(&str, Answer); 5] = [
            ("page 0x2 is not there", |request| {
                install(request, 1);
                install(request, 3);
                Populated::Range(PageIndex(1), PageIndex(3))
            }),
            ("never said that page 0x2 is ready", |request| {
                install(request, 1);
                request.insert_one(PageIndex(2)).unwrap();
                Populated::Range(PageIndex(1), PageIndex(2))
            }),
            ("page 0x4 was in memory before", |request| {
                install_run(request, 1, 3);
                assert_eq!(request.insert_one(PageIndex(4)), Err(NotInserted::Present));
                Populated::Range(PageIndex(1), PageIndex(4))
            }),
            ("page 0x5 is busied by somebody else", |request| {
                install_run(request, 1, 3);
                assert_eq!(request.take(PageIndex(4), 3), Ok(1));
                Populated::Range(PageIndex(1), PageIndex(5))
            }),
            ("beyond the end of the object", |request| {
                install(request, 1);
                Populated::Range(PageIndex(1), PageIndex(8))
            }),
        ];
        for (words, answer) in cases {
            let (script, object, va) = populated(&rig, 8);
            // Pages 4 and 5 are there already, and somebody has the latter.
            script.on_populate(|request| {
                install_run(request, 4, 2);
                Populated::Range(PageIndex(4), PageIndex(5))
            });
            rig.map.fault(page_at(va, 4), Access::Read).unwrap();
            let busied = Object::busy_resident(object.object(), PageIndex(5)).unwrap();
            script.on_populate(answer);
            let error = rig.map.fault(page_at(va, 1), Access::Read).unwrap_err();
            assert!(
                matches!(&error, FaultError::Quarantined(text) if text.contains(words)),
                "{error}"
            );
            assert!(error.to_string().contains("scripted pager"), "it is named: {error}");
            drop(busied);
            assert!((0..8).all(|i| object.lookup(PageIndex(i)).is_none_or(|page| !page.is_busied())));
            rig.map.unmap(va, 8 * PAGE_SIZE).unwrap();
            object.release().unwrap();
        }
        // Others go on.
        let (_script, _object, va) = rig.mapped(1);
        assert_eq!(rig.load_page(va), pattern(0));
        drop((_script, _object));
        rig.assert_nothing_left();
    });
}

#[test]
fn pages_that_are_there_can_be_taken_into_the_answer_and_are_mapped_with_it() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 6);
        script.on_populate(|request| {
            install_run(request, 2, 2);
            Populated::Range(PageIndex(2), PageIndex(3))
        });
        rig.map.fault(page_at(va, 2), Access::Read).unwrap();
        script.on_populate(|request| {
            install_run(request, 0, 2);
            assert_eq!(request.insert(PageIndex(2), 4, &mut |_| {}), Err(NotInserted::Present));
            assert_eq!(request.take(PageIndex(2), 4), Ok(2));
            install_run(request, 4, 2);
            Populated::Range(PageIndex(0), PageIndex(5))
        });
        let resolved = rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(resolved.neighbours, 5);
        assert_eq!(rig.engine.stats().counts().pages_populated, 6);
        for i in 0..6 {
            assert_eq!(rig.load_page(page_at(va, i))[1], byte_of(i));
        }
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s228_a_fault_for_writing_dirties_every_page_it_maps_and_one_for_reading_none() {
    in_all_modes(|rig| {
        for (access, dirty) in [(Access::Read, false), (Access::Write, true)] {
            let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT, 8);
            let object = rig.engine.create_object(pager, 6 * PAGE_SIZE).unwrap();
            let va = rig
                .map
                .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
                .unwrap()
                .start;
            script.on_populate(|request| {
                install_run(request, 0, 6);
                Populated::Range(PageIndex(0), PageIndex(5))
            });
            rig.map.fault(page_at(va, 1), access).unwrap();
            let of = |i| object.lookup(PageIndex(i)).unwrap().dirtiness();
            assert!((0..4).all(|i| (of(i) == Dirtiness::Dirty) == dirty), "{access:?}");
            assert!(
                (4..6).all(|i| of(i) == Dirtiness::Clean),
                "those outside are as they were"
            );
            object
                .object()
                .flush(PageIndex(0)..PageIndex(6), FlushFlags::empty())
                .unwrap();
            assert_eq!(script.puts() > 0, dirty);
            rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
            object.release().unwrap();
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn s230_a_fault_that_wires_wires_its_page_and_what_was_installed_beside_it_stays_as_cache() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        script.on_populate(|request| {
            install_run(request, 0, 4);
            Populated::Range(PageIndex(0), PageIndex(3))
        });
        rig.map.wire(page_at(va, 1), PAGE_SIZE).unwrap();
        let wired = |i| object.lookup(PageIndex(i)).unwrap().wire_count();
        assert_eq!([wired(0), wired(1), wired(2), wired(3)], [0, 1, 0, 0]);
        assert!(rig.map.pmap().extract(page_at(va, 1)).unwrap().wired);
        assert_eq!(script.calls(), [Call::Populate(1)]);
        rig.map.unwire(page_at(va, 1), PAGE_SIZE).unwrap();
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s231_s233_after_every_answer_each_page_was_unbusied_once_and_the_fault_ends_in_one_of_four_ways() {
    in_all_modes(|rig| {
        type Answer = fn(&Arc<Populate>) -> Populated;
        type Holds = fn(&Result<Resolved, FaultError>) -> bool;
        let answers: [(Answer, Holds); 4] = [
            // Success.
            (
                |_| Populated::Range(PageIndex(0), PageIndex(1)),
                |end| end.as_ref().is_ok_and(|r| !r.resident),
            ),
            // Failure.
            (
                |_| Populated::Failed(PagerError::bare(Cause::Io)),
                |end| matches!(end, Err(FaultError::Pager { .. })),
            ),
            // Not for this fault: the page is the one that was installed all the same.
            (|_| Populated::UseGet, |end| end.is_ok()),
            // Again.
            (|_| Populated::Restart, |end| end.is_ok()),
        ];
        for (answer, holds) in answers {
            let (script, object, va) = populated(&rig, 2);
            script.on_populate(move |request| {
                install_run(request, 0, 2);
                answer(request)
            });
            let end = rig.map.fault(va, Access::Read);
            assert!(holds(&end), "{end:?}");
            assert!((0..2).all(|i| !object.lookup(PageIndex(i)).unwrap().is_busied()));
            assert_eq!(script.calls(), [Call::Populate(0)]);
            rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
            object.release().unwrap();
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn s232_a_fault_that_populates_is_one_fault_that_was_not_resident() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 8);
        script.on_populate(|request| {
            install_run(request, 0, 8);
            Populated::Range(PageIndex(0), PageIndex(7))
        });
        rig.map.fault(page_at(va, 3), Access::Read).unwrap();
        let counts = rig.engine.stats().counts();
        assert_eq!(
            (counts.faults, counts.faults_resident, counts.fault_restarts),
            (1, 0, 0)
        );
        assert_eq!((counts.populates, counts.pages_populated, counts.gets), (1, 8, 0));
        assert_eq!(counts.neighbours_mapped, 7);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s237_a_write_that_follows_a_read_of_a_populated_page_asks_nobody() {
    in_all_modes(|rig| {
        let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT, 1);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let va = rig
            .map
            .map(
                &object,
                &MapRequest {
                    max_prot: Prot::READ | Prot::WRITE,
                    ..MapRequest::read_only(2 * PAGE_SIZE)
                },
            )
            .unwrap()
            .start;
        script.on_populate(|request| {
            assert_eq!(request.plan().max_prot, Prot::READ | Prot::WRITE);
            install_run(request, 0, 2);
            Populated::Range(PageIndex(0), PageIndex(1))
        });
        rig.map.fault(va, Access::Read).unwrap();
        // Entered with the current protection.
        assert_eq!(rig.map.pmap().extract(va).unwrap().prot, Prot::READ);
        rig.map.protect(va, 2 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        rig.map.store(va, &[9]).unwrap();
        assert_eq!(script.calls(), [Call::Populate(0)]);
        object
            .object()
            .flush(PageIndex(0)..PageIndex(2), FlushFlags::empty())
            .unwrap();
        assert_eq!(script.stored(0)[0], 9, "what is written without a fault is not lost");
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s229_a_fault_can_hold_the_page_at_the_faulting_index_and_no_other() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 4);
        script.on_populate(|request| {
            install_run(request, 0, 4);
            Populated::Range(PageIndex(0), PageIndex(3))
        });
        let (resolved, held) = rig.map.fault_and_hold(page_at(va, 2), Access::Read).unwrap();
        assert_eq!((resolved.resident, resolved.neighbours), (false, 3));
        assert_eq!(script.calls(), [Call::Populate(2)]);
        let wired = |i| object.lookup(PageIndex(i)).unwrap().wire_count();
        assert_eq!([wired(0), wired(1), wired(2), wired(3)], [0, 0, 1, 0]);
        assert_eq!(held.place().unwrap().unwrap().1, PageIndex(2));
        // It stays although its mapping goes and everything is wanted back.
        rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
        rig.want_all_free();
        while rig.engine.daemon_step().freed > 0 {}
        assert!(object.lookup(PageIndex(2)).is_some());
        held.unwire().unwrap();
        assert_eq!(wired(2), 0);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn s224_pages_outside_of_the_answer_stay_as_cache_and_nothing_is_mapped_in_their_place() {
    in_all_modes(|rig| {
        let (script, object, va) = populated(&rig, 16);
        script.on_populate(|request| {
            install_run(request, 2, 3);
            // Neither is part of the answer: one that never is ready, and one behind it that is.
            request.insert_one(PageIndex(6)).unwrap();
            install(request, 8);
            Populated::Range(PageIndex(2), PageIndex(4))
        });
        rig.map.fault(page_at(va, 3), Access::Read).unwrap();
        let mapped = (0..16).filter(|i| rig.map.pmap().extract(page_at(va, *i)).is_some());
        assert_eq!(mapped.collect::<Vec<_>>(), [2, 3, 4]);
        assert!(!object.lookup(PageIndex(8)).unwrap().is_busied());
        script.on_populate(|_| Populated::UseGet);
        for i in 2..5 {
            assert_eq!(rig.load_page(page_at(va, i))[9], byte_of(i));
        }
        assert_eq!(rig.load_page(page_at(va, 5)), pattern(5), "it was never installed");
        assert_eq!(rig.load_page(page_at(va, 8))[9], byte_of(8));
        drop(object);
        rig.assert_nothing_left();
    });
}
