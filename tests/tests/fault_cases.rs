//! Faults by case, on every kind of soft machine.

use std::sync::Arc;
use std::thread;

use quire_core::error::{Cause, FaultError};
use quire_core::fault::FaultCase;
use quire_core::machine::NotEntered;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::page::Dirtiness;
use quire_core::soft::{Failure, Injection};
use quire_core::types::{Access, Advice, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Twist, in_all_modes, in_all_modes_with_frames, in_soft_modes, page_at, pattern};

#[test]
fn case_0_an_address_without_a_mapping_is_not_mapped() {
    in_all_modes(|rig| {
        assert_eq!(
            rig.map.fault(rig.map.base(), Access::Read),
            Err(FaultError::NotMapped(rig.map.base()))
        );
        assert_eq!(
            rig.map.fault(VirtAddr(u64::MAX), Access::Write),
            Err(FaultError::NotMapped(VirtAddr(u64::MAX)))
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn case_0_an_access_that_the_mapping_does_not_allow_is_denied() {
    in_all_modes(|rig| {
        let (script, object) = rig.object(1);
        let va = rig.map.map(&object, &MapRequest::read_only(PAGE_SIZE)).unwrap().start;
        assert_eq!(rig.map.fault(va, Access::Write), Err(FaultError::Denied(va)));
        assert_eq!(rig.map.fault(va, Access::Exec), Err(FaultError::Denied(va)));
        assert_eq!(script.gets(), 0, "a denied access asks no pager");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn case_2a_a_read_brings_the_page_in_and_maps_it() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        let resolved = rig.map.fault(page_at(va, 2), Access::Read).unwrap();
        assert_eq!((resolved.case, resolved.resident), (FaultCase::TwoA, false));
        assert_eq!(script.calls(), [Call::Get(2, 1)]);
        assert_eq!(rig.load_page(page_at(va, 2)), pattern(2));
        assert!(rig.map.pmap().extract(page_at(va, 2)).is_some());
        assert!(
            rig.map.pmap().extract(va).is_none(),
            "a page that is not resident is not mapped"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn case_2a_a_write_makes_the_page_dirty_and_a_flush_writes_it() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.store(VirtAddr(va.0 + 5), b"quire").unwrap();
        let page = object.lookup(PageIndex(0)).unwrap();
        assert_eq!(page.dirtiness(), Dirtiness::Dirty);
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(page.dirtiness(), rig.written_and_mapped());
        assert_eq!(&script.stored(0)[5..10], b"quire");
        assert_eq!(&script.stored(0)[10..], &pattern(0)[10..]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_store_through_a_mapping_that_a_read_made_is_not_lost() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        let _ = rig.load_page(va);
        let page = object.lookup(PageIndex(0)).unwrap();
        assert_eq!(page.dirtiness(), Dirtiness::Unknown, "mapped writable, not written");
        rig.map.store(va, &[7]).unwrap();
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(script.stored(0)[0], 7);
        assert_eq!(page.dirtiness(), rig.written_and_mapped());
        rig.map.store(va, &[8]).unwrap();
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(script.stored(0)[0], 8, "a write after a flush is found again");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_page_that_was_only_mapped_writable_is_not_written() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        for i in 0..3 {
            let _ = rig.load_page(page_at(va, i));
        }
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(script.puts(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s101_only_the_faulting_page_is_required() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(8);
        rig.map.fault(page_at(va, 3), Access::Read).unwrap();
        assert_eq!(script.calls(), [Call::Get(3, 1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s103_a_missing_page_waits_for_memory_and_the_lookup_starts_again() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (script, object, va) = rig.mapped(1);
        rig.soft().inject(Injection {
            failure: Failure::Frame,
            after: 0,
            times: 2,
        });
        rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(script.gets(), 1);
        assert_eq!(rig.engine.stats().counts().memory_waits, 2);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s104_a_busy_page_is_waited_for_and_looked_up_from_scratch() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let first = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            let second = scope.spawn(|| rig.map.fault(va, Access::Read));
            // The second one finds the page busy; when the read fails the page is freed under it, and it asks anew.
            while rig.engine.stats().counts().busy_waits == 0 {
                thread::yield_now();
            }
            script.fail(&io, Cause::Io);
            assert!(matches!(first.join().unwrap(), Err(FaultError::Pager { .. })));
            assert!(second.join().unwrap().is_ok());
        });
        assert_eq!(script.gets(), 2);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s105_a_resident_page_is_used_without_io() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        rig.map.fault(va, Access::Read).unwrap();
        rig.map
            .pmap()
            .remove(quire_core::types::AddrRange::sized(va, PAGE_SIZE).unwrap());
        let resolved = rig.map.fault(va, Access::Read).unwrap();
        assert!(resolved.resident);
        assert_eq!(script.gets(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s107_a_read_error_frees_the_page_and_reaches_the_caller() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Fail(Cause::Errno(5))]);
        let error = rig.map.fault(va, Access::Read).unwrap_err();
        let FaultError::Pager { index, error } = error else {
            panic!("{error}")
        };
        assert_eq!((index, error.cause), (PageIndex(0), Cause::Errno(5)));
        assert!(
            error.text.contains("scripted failure"),
            "the pager's words arrive: {error}"
        );
        assert_eq!(object.resident(), 0);
        assert_eq!(rig.load_page(va), pattern(0), "and a later access succeeds");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s108_a_page_just_read_is_valid_and_clean() {
    in_all_modes(|rig| {
        let (_script, object) = rig.object(1);
        let va = rig.map.map(&object, &MapRequest::read_only(PAGE_SIZE)).unwrap().start;
        rig.map.fault(va, Access::Read).unwrap();
        let page = object.lookup(PageIndex(0)).unwrap();
        assert!(page.is_valid() && page.dirtiness() == Dirtiness::Clean);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s111_concurrent_faults_on_one_missing_page_read_it_once() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let faults: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| rig.map.fault(va, Access::Read)))
                .collect();
            let io = script.take_pending(1).remove(0);
            while rig.engine.stats().counts().busy_waits < 3 {
                thread::yield_now();
            }
            script.finish(&io);
            for fault in faults {
                fault.join().unwrap().unwrap();
            }
        });
        assert_eq!(script.calls(), [Call::Get(0, 1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s139_a_page_being_read_is_busy_and_not_valid() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            let page = object.lookup(PageIndex(0)).unwrap();
            assert!(page.is_exclusive() && !page.is_valid() && page.dirtiness() == Dirtiness::Clean);
            assert!(
                rig.map.pmap().extract(va).is_none(),
                "s142: a fake page is never mapped"
            );
            script.finish(&io);
            fault.join().unwrap().unwrap();
            assert!(!page.is_busied());
        });
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s153_an_address_beyond_the_object_is_bus_objerr_and_leaves_no_page() {
    in_all_modes(|rig| {
        let (script, object) = rig.object(1);
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(3 * PAGE_SIZE))
            .unwrap()
            .start;
        let beyond = page_at(va, 1);
        assert_eq!(
            rig.map.fault(beyond, Access::Read),
            Err(FaultError::BeyondObject(beyond))
        );
        assert_eq!((object.resident(), script.gets()), (0, 0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_backing_that_shrank_behind_our_back_is_bus_objerr() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Fail(Cause::OutOfRange)]);
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::BeyondObject(va)));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn n12_resident_neighbours_are_mapped_by_advice() {
    in_all_modes(|rig| {
        for (advice, mapped) in [
            (Advice::Normal, 17..25),
            (Advice::Random, 20..21),
            // The window, and the rest of the object: less than a sequence maps along.
            (Advice::Sequential, 12..40),
        ] {
            let (_script, object, va) = rig.mapped(40);
            let all = quire_core::types::AddrRange::sized(va, 40 * PAGE_SIZE).unwrap();
            for i in 0..40 {
                rig.map.copy_out(page_at(va, i), &mut [0]).unwrap();
            }
            rig.map.advise(va, 40 * PAGE_SIZE, advice).unwrap();
            rig.map.fault(page_at(va, 20), Access::Read).unwrap();
            let there: Vec<u64> = (0..40)
                .filter(|&i| rig.map.pmap().extract(page_at(va, i)).is_some())
                .collect();
            assert_eq!(there, mapped.collect::<Vec<_>>(), "{advice:?}");
            rig.map.pmap().remove(all);
            rig.map.unmap(va, 40 * PAGE_SIZE).unwrap();
            drop(object);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn n12_the_window_stops_at_the_entry_and_skips_holes() {
    in_all_modes(|rig| {
        let (_script, object) = rig.object(10);
        let place = Place::Fixed(rig.map.base());
        let request = MapRequest {
            place,
            offset: quire_core::types::ByteOff(PAGE_SIZE),
            ..MapRequest::read_write(4 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        // Not in a row.
        for i in [3, 1, 0] {
            rig.map.copy_out(page_at(va, i), &mut [0]).unwrap();
        }
        let resolved = rig.map.fault(page_at(va, 1), Access::Read).unwrap();
        assert_eq!(resolved.neighbours, 2);
        let there: Vec<u64> = (0..4)
            .filter(|&i| rig.map.pmap().extract(page_at(va, i)).is_some())
            .collect();
        assert_eq!(there, [0, 1, 3]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s201_a_shortage_on_enter_waits_for_memory_and_retries() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (_script, object, va) = rig.mapped(1);
        rig.soft().inject(Injection {
            failure: Failure::Enter(NotEntered::Shortage),
            after: 0,
            times: 2,
        });
        rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(rig.engine.stats().counts().memory_waits, 2);
        assert_eq!(rig.load_page(va), pattern(0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn n14_a_shortage_that_does_not_end_is_out_of_memory_not_a_hang() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (_script, object, va) = rig.mapped(1);
        rig.soft().inject(Injection {
            failure: Failure::Enter(NotEntered::Shortage),
            after: 0,
            times: u64::MAX,
        });
        assert_eq!(rig.map.fault(va, Access::Read), Err(FaultError::NoMemory));
        rig.soft().inject(Injection {
            failure: Failure::Enter(NotEntered::Shortage),
            after: 0,
            times: 0,
        });
        rig.map.fault(va, Access::Read).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn n14_a_neighbour_that_cannot_be_entered_fails_nobody() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (_script, object, va) = rig.mapped(8);
        for i in [0, 2] {
            rig.map.copy_out(page_at(va, i), &mut [0]).unwrap();
        }
        rig.soft().inject(Injection {
            failure: Failure::Enter(NotEntered::Shortage),
            after: 1,
            times: 1,
        });
        let resolved = rig.map.fault(va, Access::Read).unwrap();
        assert_eq!(resolved.neighbours, 0);
        assert_eq!(rig.engine.stats().counts().memory_waits, 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s202_a_mapping_that_went_during_the_wait_is_not_mapped() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            rig.map.unmap(va, PAGE_SIZE).unwrap();
            script.finish(&io);
            assert_eq!(fault.join().unwrap(), Err(FaultError::NotMapped(va)));
        });
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_protection_that_went_during_the_wait_denies_the_access() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Write));
            let io = script.take_pending(1).remove(0);
            rig.map.protect(va, PAGE_SIZE, Prot::READ).unwrap();
            script.finish(&io);
            assert_eq!(fault.join().unwrap(), Err(FaultError::Denied(va)));
        });
        assert_eq!(object.dirty_pages(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn another_object_mapped_during_the_wait_is_the_one_that_is_shown() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        let (other_script, other) = rig.object(9);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| rig.map.fault(va, Access::Read));
            let io = script.take_pending(1).remove(0);
            let offset = quire_core::types::ByteOff(8 * PAGE_SIZE);
            let request = MapRequest {
                place: Place::Fixed(va),
                offset,
                ..MapRequest::read_write(PAGE_SIZE)
            };
            rig.map.map(&other, &request).unwrap();
            script.finish(&io);
            fault.join().unwrap().unwrap();
        });
        assert_eq!(rig.load_page(va), pattern(8));
        assert_eq!(other_script.calls(), [Call::Get(8, 1)]);
        drop((object, other));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_machine_that_cannot_show_the_frame_there_gets_the_page_rehomed() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (script, object, va) = rig.mapped(1);
        rig.map.copy_in(va, b"kept").unwrap();
        rig.soft().inject(Injection {
            failure: Failure::Enter(NotEntered::NotHere),
            after: 0,
            times: 1,
        });
        let mut bytes = [0; 4];
        rig.map.load(va, &mut bytes).unwrap();
        assert_eq!(&bytes, b"kept");
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(&script.stored(0)[..4], b"kept", "and it is still dirty");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn an_object_larger_than_memory_can_be_read_and_written() {
    in_all_modes_with_frames(16, |rig| {
        let (script, object, va) = rig.mapped(100);
        for i in 0..100 {
            assert_eq!(rig.load_page(page_at(va, i)), pattern(i));
            rig.map.store(page_at(va, i), &i.to_le_bytes()).unwrap();
        }
        for i in 0..100_u64 {
            let mut bytes = [0; 8];
            rig.map.load(page_at(va, i), &mut bytes).unwrap();
            assert_eq!(bytes, i.to_le_bytes());
        }
        object.object().flush_all(Default::default()).unwrap();
        for i in 0..100 {
            assert_eq!(&script.stored(i)[..8], &i.to_le_bytes());
        }
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn memory_full_of_pages_that_cannot_be_written_is_out_of_memory_and_nothing_is_lost() {
    in_all_modes_with_frames(4, |rig| {
        let (script, object, va) = rig.mapped(5);
        script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[0xee]).unwrap();
        }
        assert_eq!(rig.map.fault(page_at(va, 4), Access::Read), Err(FaultError::NoMemory));
        assert_eq!(object.dirty_pages(), 4);
        script.all_puts(None);
        rig.map.fault(page_at(va, 4), Access::Read).unwrap();
        object.object().flush_all(Default::default()).unwrap();
        assert!((0..4).all(|i| script.stored(i)[0] == 0xee));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn faults_of_many_threads_on_many_pages_all_resolve() {
    in_all_modes_with_frames(24, |rig| {
        let rig = Arc::new(rig);
        let (script, object, va) = rig.mapped(64);
        thread::scope(|scope| {
            for t in 0..4_u64 {
                let rig = rig.clone();
                scope.spawn(move || {
                    for round in 0..200_u64 {
                        let i = (round * 7 + t * 13) % 64;
                        rig.map
                            .store(VirtAddr(page_at(va, i).0 + t * 8), &(round + 1).to_le_bytes())
                            .unwrap();
                    }
                });
            }
        });
        object.object().flush_all(Default::default()).unwrap();
        for t in 0..4_u64 {
            for i in 0..64_u64 {
                let last = (0..200_u64).rev().find(|round| (round * 7 + t * 13) % 64 == i).unwrap();
                let at = usize::try_from(t).unwrap() * 8;
                assert_eq!(
                    script.stored(i)[at..at + 8],
                    (last + 1).to_le_bytes(),
                    "thread {t}, page {i}"
                );
            }
        }
        drop(object);
        Arc::into_inner(rig).unwrap().assert_nothing_left();
    });
}

#[test]
fn s102_pages_already_there_are_not_fetched_again() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        for i in [0, 2, 1] {
            rig.map.fault(page_at(va, i), Access::Read).unwrap();
        }
        assert_eq!(script.calls(), [Call::Get(0, 1), Call::Get(2, 1), Call::Get(1, 1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s143_a_pages_version_changes_when_it_is_freed() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(1);
        rig.map.fault(va, Access::Read).unwrap();
        let page = object.lookup(PageIndex(0)).unwrap();
        let version = page.version();
        rig.map.clear().unwrap();
        object.release().unwrap();
        // The struct may serve another object by now, of another test; it is never what it was.
        assert_ne!(page.version(), version);
        rig.assert_nothing_left();
    });
}

#[cfg(debug_assertions)]
#[test]
fn s144_checking_builds_record_who_has_a_page_alone() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        script.next_gets([Twist::Defer]);
        thread::scope(|scope| {
            let fault = scope.spawn(|| (quire_core::sync::current_thread(), rig.map.fault(va, Access::Read)));
            let io = script.take_pending(1).remove(0);
            let page = object.lookup(PageIndex(0)).unwrap();
            let owner = page.owner();
            script.finish(&io);
            let (thread, resolved) = fault.join().unwrap();
            resolved.unwrap();
            assert_eq!(owner, Some(thread));
            assert_eq!(page.owner(), None);
        });
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s205_an_unaligned_address_faults_its_page_and_is_named_as_it_was_given() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(2);
        let odd = VirtAddr(page_at(va, 1).0 + 77);
        rig.map.fault(odd, Access::Read).unwrap();
        assert!(rig.map.pmap().extract(page_at(va, 1)).is_some());
        assert_eq!(rig.map.fault(odd, Access::Exec), Err(FaultError::Denied(odd)));
        drop(object);
        rig.assert_nothing_left();
    });
}
