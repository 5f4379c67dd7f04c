//! Wiring: pages that stay, under mappings that stay. On every kind of soft machine.

use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::FlushFlags;
use quire_core::map::{Map, MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::mapped::Residency;
use quire_core::object::{Dirty, ObjectRef};
use quire_core::page::Dirtiness;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, AddrRange, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_core::wire_all::WireAll;
use quire_tests::{Rig, Twist, in_all_modes, in_all_modes_with_frames, in_soft_modes, page_at};

/// Lets the daemon free whatever it can.
fn squeeze(rig: &Rig) {
    rig.want_all_free();
    for _ in 0..4 {
        rig.engine.daemon_step();
    }
}

fn wired(rig: &Rig, va: VirtAddr, pages: u64) -> Vec<u64> {
    (0..pages)
        .filter(|i| rig.map.pmap().extract(page_at(va, *i)).is_some_and(|seen| seen.wired))
        .collect()
}

#[test]
fn s92_s188_a_wired_page_is_on_no_queue_and_is_never_taken() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(8);
        rig.map.wire(page_at(va, 2), 3 * PAGE_SIZE).unwrap();
        for i in [0, 1, 5, 6, 7] {
            rig.map.load(page_at(va, i), &mut [0]).unwrap();
        }
        assert_eq!(wired(&rig, va, 8), [2, 3, 4]);
        assert!(
            [2, 3, 4]
                .iter()
                .all(|i| object.lookup(PageIndex(*i)).unwrap().queue().is_none())
        );
        let lengths = rig.engine.queue_lengths();
        assert_eq!(lengths.active + lengths.inactive + lengths.laundry, 5);
        squeeze(&rig);
        assert_eq!(object.resident(), 3);
        let (faults, gets) = (rig.engine.stats().counts().faults, script.gets());
        for i in [2, 3, 4] {
            rig.map.load(page_at(va, i), &mut [0]).unwrap();
        }
        assert_eq!(
            (rig.engine.stats().counts().faults, script.gets()),
            (faults, gets),
            "no access faults"
        );
        rig.map.unwire(page_at(va, 2), 3 * PAGE_SIZE).unwrap();
        squeeze(&rig);
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s211_n_wires_need_n_unwires_and_each_mapping_wires_its_pages_by_itself() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(2);
        let other = rig
            .map
            .map(&object, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        for _ in 0..3 {
            rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        }
        rig.map.wire(other, PAGE_SIZE).unwrap();
        let counts = || [0, 1].map(|i| object.lookup(PageIndex(i)).unwrap().wire_count());
        assert_eq!(counts(), [2, 1]);
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!((counts(), wired(&rig, va, 2)), ([2, 1], vec![0, 1]));
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!((counts(), wired(&rig, va, 2)), ([1, 0], vec![]));
        assert_eq!(
            rig.map.unwire(va, 2 * PAGE_SIZE),
            Err(Error::Invalid("a part of the range is not wired"))
        );
        rig.map.unwire(other, PAGE_SIZE).unwrap();
        assert_eq!(counts(), [0, 0]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s208_s209_a_buffer_that_is_locked_stays_wired_through_the_wiring_of_an_inner_user() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        rig.map.wire(va, 4 * PAGE_SIZE).unwrap();
        // Physical input and output on the middle of it.
        rig.map.wire(page_at(va, 1), 2 * PAGE_SIZE).unwrap();
        rig.map.unwire(page_at(va, 1), 2 * PAGE_SIZE).unwrap();
        assert_eq!(wired(&rig, va, 4), [0, 1, 2, 3], "still wired, every page");
        squeeze(&rig);
        let faults = rig.engine.stats().counts().faults;
        for i in 0..4 {
            rig.map.load(page_at(va, i), &mut [0]).unwrap();
        }
        assert_eq!(rig.engine.stats().counts().faults, faults);
        rig.map.unwire(va, 4 * PAGE_SIZE).unwrap();
        assert_eq!((wired(&rig, va, 4).len(), script.gets()), (0, script.gets()));
        squeeze(&rig);
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s210_pages_are_unwired_with_the_map_locked_so_that_unmapping_takes_their_wiring_along() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(6);
        rig.map.wire(va, 6 * PAGE_SIZE).unwrap();
        rig.map.unmap(page_at(va, 1), PAGE_SIZE).unwrap();
        let replaced = MapRequest {
            place: Place::Fixed(page_at(va, 3)),
            ..MapRequest::read_only(PAGE_SIZE)
        };
        let (_other, other_object) = rig.object(1);
        rig.map.map(&other_object, &replaced).unwrap();
        let counts: Vec<_> = (0..6)
            .map(|i| object.lookup(PageIndex(i)).unwrap().wire_count())
            .collect();
        assert_eq!(counts, [1, 0, 1, 0, 1, 1]);
        squeeze(&rig);
        assert_eq!(object.resident(), 4);
        drop((object, other_object));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_wiring_that_fails_half_way_is_taken_back() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(5);
        script.next_gets([Twist::Obey, Twist::Obey, Twist::Fail(Cause::Io)]);
        assert!(matches!(
            rig.map.wire(va, 5 * PAGE_SIZE),
            Err(Error::Fault(FaultError::Pager { .. }))
        ));
        assert_eq!(wired(&rig, va, 5).len(), 0);
        assert!((0..5).all(|i| rig.map.attributes_at(page_at(va, i)).unwrap().wired == 0));
        assert!((0..5).all(|i| object.lookup(PageIndex(i)).is_none_or(|page| page.wire_count() == 0)));
        assert_eq!(rig.map.entry_count(), 1);
        rig.map.wire(va, 5 * PAGE_SIZE).unwrap();
        rig.map.unwire(va, 5 * PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn refusals_of_wiring_change_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        rig.map.unmap(page_at(va, 2), PAGE_SIZE).unwrap();
        assert_eq!(rig.map.wire(va, 3 * PAGE_SIZE), Err(Error::NotMapped(page_at(va, 2))));
        assert!(matches!(rig.map.wire(va, 0), Err(Error::Invalid(_))));
        rig.map.protect(va, PAGE_SIZE, Prot::empty()).unwrap();
        assert_eq!(rig.map.wire(va, PAGE_SIZE), Err(Error::Fault(FaultError::Denied(va))));
        assert_eq!((script.gets(), wired(&rig, va, 3).len()), (0, 0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn wiring_more_than_there_is_memory_for_is_out_of_memory_and_is_taken_back() {
    in_all_modes_with_frames(8, |rig| {
        let (_script, object, va) = rig.mapped(16);
        assert_eq!(
            rig.map.wire(va, 16 * PAGE_SIZE),
            Err(Error::Fault(FaultError::NoMemory))
        );
        assert_eq!(wired(&rig, va, 16).len(), 0);
        for i in 0..16 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_wired_dirty_page_is_flushed_and_stays_wired() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        rig.map.store(va, &[0x77]).unwrap();
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(script.stored(0)[0], 0x77);
        squeeze(&rig);
        assert_eq!((object.resident(), script.gets()), (2, 2));
        rig.map.store(va, &[0x78]).unwrap();
        assert_eq!(wired(&rig, va, 1), [0], "entered again, wired as its entry is");
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

/// How many pages are on queues.
fn queued(rig: &Rig) -> u64 {
    let lengths = rig.engine.queue_lengths();
    lengths.active + lengths.inactive + lengths.laundry
}

fn used_frames(rig: &Rig) -> u64 {
    let counts = rig.engine.machine().frame_counts();
    counts.total - counts.free
}

/// Of each page in memory, how often it is wired.
fn wirings(object: &ObjectRef, pages: u64) -> Vec<Option<u32>> {
    (0..pages)
        .map(|i| object.lookup(PageIndex(i)).map(|page| page.wire_count()))
        .collect()
}

#[test]
fn a_shrinking_object_takes_its_wired_pages_along_and_a_growing_one_has_new_ones_which_are_not_wired() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        rig.map.wire(va, 4 * PAGE_SIZE).unwrap();
        rig.map.store(page_at(va, 3), &[0xee]).unwrap();
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        assert_eq!(wirings(&object, 4), [Some(1), Some(1), None, None]);
        assert_eq!((wired(&rig, va, 4), queued(&rig)), (vec![0, 1], 0));
        assert_eq!(used_frames(&rig), 2, "what was wired behind the end is free");
        object.object().set_size(4 * PAGE_SIZE).unwrap();
        assert_ne!(rig.load_page(page_at(va, 3))[0], 0xee);
        assert_eq!((wirings(&object, 4)[3], queued(&rig)), (Some(0), 1));
        squeeze(&rig);
        assert_eq!(object.resident(), 2);
        // One unwiring for one wiring, although two of its pages went.
        let _new = rig.load_page(page_at(va, 3));
        rig.map.unwire(va, 4 * PAGE_SIZE).unwrap();
        assert_eq!(wirings(&object, 4), [Some(0), Some(0), None, Some(0)]);
        assert_eq!((wired(&rig, va, 4).len(), queued(&rig)), (0, 3));
        squeeze(&rig);
        assert_eq!((object.resident(), used_frames(&rig), script.puts()), (0, 0, 0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_mapping_that_lost_its_wired_page_takes_no_wiring_from_another() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(2);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        object.object().set_size(PAGE_SIZE).unwrap();
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        let request = MapRequest::read_write(2 * PAGE_SIZE);
        let other = rig.map.map(&object, &request).unwrap().start;
        rig.map.wire(other, 2 * PAGE_SIZE).unwrap();
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(wired(&rig, other, 2), [0, 1]);
        squeeze(&rig);
        assert_eq!(object.resident(), 2, "the other mapping has both wired");
        rig.map.unwire(other, 2 * PAGE_SIZE).unwrap();
        assert_eq!(wirings(&object, 2), [Some(0), Some(0)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn terminate_takes_wired_pages_along_and_the_entry_is_unwired_or_unmapped_afterwards() {
    in_all_modes(|rig| {
        for (how, unmap) in [(Dirty::Write, true), (Dirty::Discard, false)] {
            let (script, object, va) = rig.mapped(3);
            rig.map.wire(va, 3 * PAGE_SIZE).unwrap();
            rig.map.store(page_at(va, 1), &[0xee]).unwrap();
            object.object().terminate(how).unwrap();
            assert_eq!((object.resident(), queued(&rig), used_frames(&rig)), (0, 0, 0));
            assert_eq!(script.stored(1)[0] == 0xee, how == Dirty::Write);
            assert!(wired(&rig, va, 3).is_empty());
            assert!(rig.map.load(va, &mut [0]).is_err());
            if unmap {
                rig.map.unmap(va, 3 * PAGE_SIZE).unwrap();
            } else {
                rig.map.unwire(va, 3 * PAGE_SIZE).unwrap();
                rig.map.clear().unwrap();
            }
            assert_eq!(queued(&rig), 0);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn terminate_that_cannot_write_leaves_pages_wired() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        rig.map.store(va, &[0xee]).unwrap();
        script.next_puts([Twist::Fail(Cause::Errno(28))]);
        object.object().terminate(Dirty::Write).unwrap_err();
        let page = object.lookup(PageIndex(0)).unwrap();
        assert_eq!((page.dirtiness(), page.wire_count()), (Dirtiness::Dirty, 1));
        assert_eq!(page.queue(), None);
        squeeze(&rig);
        assert_eq!(object.lookup(PageIndex(0)).unwrap().wire_count(), 1);
        rig.map.store(va, &[0xef]).unwrap();
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(0)[0], 0xef);
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        squeeze(&rig);
        assert_eq!((object.resident(), used_frames(&rig)), (0, 0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn unmapping_a_part_that_is_wired_gives_its_pages_to_the_daemon_and_leaves_the_rest_wired() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(5);
        rig.map.wire(va, 5 * PAGE_SIZE).unwrap();
        rig.map.wire(page_at(va, 1), 3 * PAGE_SIZE).unwrap();
        rig.map.store(page_at(va, 2), &[0xee]).unwrap();
        rig.map.unmap(page_at(va, 2), 2 * PAGE_SIZE).unwrap();
        assert_eq!(wirings(&object, 5), [1, 1, 0, 0, 1].map(Some));
        assert_eq!(queued(&rig), 2);
        squeeze(&rig);
        assert_eq!(wirings(&object, 5), [Some(1), Some(1), None, None, Some(1)]);
        assert_eq!(script.stored(2)[0], 0xee, "written before it went");
        assert_eq!(
            rig.map.unwire(va, 5 * PAGE_SIZE),
            Err(Error::NotMapped(page_at(va, 2))),
            "and changed nothing"
        );
        assert_eq!(wirings(&object, 5), [Some(1), Some(1), None, None, Some(1)]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn the_last_detach_of_an_object_with_wired_pages_writes_and_frees_them() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        rig.map.wire(va, 3 * PAGE_SIZE).unwrap();
        rig.map.store(page_at(va, 2), &[0xee]).unwrap();
        object.release().unwrap();
        assert_eq!((used_frames(&rig), queued(&rig)), (3, 0), "mapped, it is in use");
        rig.map.clear().unwrap();
        assert_eq!((used_frames(&rig), queued(&rig)), (0, 0));
        assert_eq!((script.stored(2)[0], script.puts()), (0xee, 1));
        rig.assert_nothing_left();
    });
}

#[test]
fn s92_a_wired_page_keeps_its_mapping_when_its_dirty_neighbours_are_written() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(6);
        for i in 0..6 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        rig.map.wire(page_at(va, 2), PAGE_SIZE).unwrap();
        squeeze(&rig);
        assert!(script.puts() > 0, "the neighbours were written");
        assert_eq!(wired(&rig, va, 6), [2]);
        assert_eq!(object.resident(), 1);
        let faults = rig.engine.stats().counts().faults;
        rig.map.load(page_at(va, 2), &mut [0]).unwrap();
        assert_eq!(rig.engine.stats().counts().faults, faults, "no access faults");
        rig.map.unmap(va, 6 * PAGE_SIZE).unwrap();
        object.release().unwrap();
        rig.assert_nothing_left();
    });
}

/// Memory of the map's own, whose pages have all been written.
fn own_memory(rig: &Rig, pages: u64) -> VirtAddr {
    let va = rig
        .map
        .map_anonymous(&MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap()
        .start;
    for (i, byte) in (0..pages).zip(1..) {
        rig.map.store(page_at(va, i), &[byte]).unwrap();
    }
    va
}

#[test]
fn s189_n15_wiring_memory_in_swap_brings_it_back_dirty_and_releases_its_slots() {
    in_all_modes(|rig| {
        let script = rig.swap(PagerOps::PUT, 64, 64);
        let va = own_memory(&rig, 4);
        squeeze(&rig);
        assert_eq!((rig.engine.swap_counts().used, script.puts()), (4, 1));
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(rig.engine.swap_counts().used, 2);
        let mut is = [Residency::empty(); 4];
        rig.map.residency(va, 4 * PAGE_SIZE, &mut is).unwrap();
        let wired = Residency::RESIDENT | Residency::DIRTY | Residency::WIRED | Residency::MAPPED;
        assert_eq!(is[..2], [wired, wired]);
        assert!(
            is[2..]
                .iter()
                .all(|is| !is.intersects(Residency::DIRTY | Residency::WIRED))
        );
        squeeze(&rig);
        assert_eq!(rig.engine.swap_counts().used, 2, "what is wired goes to no swap");
        assert_eq!([0, 1, 2, 3].map(|i| rig.load_page(page_at(va, i))[0]), [1, 2, 3, 4]);
        rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
        assert_eq!(rig.engine.swap_counts().used, 0);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_wired_mapping_that_is_private_has_its_own_pages_from_then_on_and_a_write_faults_no_more() {
    in_all_modes(|rig| {
        let (_script, object) = rig.object(4);
        let request = MapRequest {
            sharing: Sharing::Private,
            ..MapRequest::read_write(4 * PAGE_SIZE)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        rig.map.wire(va, 4 * PAGE_SIZE).unwrap();
        let faults = rig.engine.stats().counts().faults;
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[9]).unwrap();
        }
        assert_eq!(rig.engine.stats().counts().faults, faults, "no access faults");
        assert!((0..4).all(|i| object.lookup(PageIndex(i)).is_none_or(|page| page.wire_count() == 0)));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_part_of_a_wired_range_can_be_unmapped_and_the_rest_stays_wired() {
    in_all_modes(|rig| {
        let va = own_memory(&rig, 6);
        rig.map.wire(va, 6 * PAGE_SIZE).unwrap();
        rig.map.unmap(page_at(va, 2), 2 * PAGE_SIZE).unwrap();
        assert_eq!(wired(&rig, va, 6), [0, 1, 4, 5]);
        squeeze(&rig);
        assert_eq!([0, 1, 4, 5].map(|i| rig.load_page(page_at(va, i))[0]), [1, 2, 5, 6]);
        assert_eq!(rig.map.unwire(va, 6 * PAGE_SIZE), Err(Error::NotMapped(page_at(va, 2))));
        rig.map.unwire(page_at(va, 4), 2 * PAGE_SIZE).unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn a_child_of_a_map_with_wired_memory_has_pages_of_its_own_and_the_parents_stay_where_they_are() {
    in_soft_modes("a fork wants two maps with the same addresses", |rig| {
        let va = own_memory(&rig, 4);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        let frames = |map: &Map| [0, 1].map(|i| map.pmap().extract(page_at(va, i)).map(|seen| seen.frame));
        let before = frames(&rig.map);
        let child = rig.map.fork().unwrap();
        let faults = rig.engine.stats().counts().faults;
        rig.map.store(va, &[50]).unwrap();
        assert_eq!(
            rig.engine.stats().counts().faults,
            faults,
            "wired memory faults after a fork"
        );
        assert_eq!((frames(&rig.map), wired(&rig, va, 4)), (before, vec![0, 1]));
        let mut byte = [0];
        child.load(va, &mut byte).unwrap();
        assert_eq!((byte, child.attributes_at(va).unwrap().wired), ([1], 0));
        drop(child);
        rig.assert_nothing_left();
    });
}

#[test]
fn everything_can_be_wired_and_what_comes_later_as_well() {
    in_all_modes(|rig| {
        let va = own_memory(&rig, 2);
        let hidden = rig
            .map
            .map_anonymous(&MapRequest {
                prot: Prot::empty(),
                ..MapRequest::read_write(PAGE_SIZE)
            })
            .unwrap()
            .start;
        rig.map.wire(va, PAGE_SIZE).unwrap();
        rig.map.wire_all(WireAll::CURRENT | WireAll::FUTURE).unwrap();
        let later = rig
            .map
            .map_anonymous(&MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        let count = |va| rig.map.attributes_at(va).unwrap().wired;
        assert_eq!(
            [va, page_at(va, 1), later, page_at(later, 1), hidden].map(count),
            [2, 1, 1, 1, 0]
        );
        rig.map.unwire_all().unwrap();
        assert_eq!([va, page_at(va, 1), later, hidden].map(count), [1, 0, 0, 0]);
        let last = rig.map.map_anonymous(&MapRequest::read_write(PAGE_SIZE)).unwrap().start;
        assert_eq!(count(last), 0);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_mapping_that_cannot_be_wired_although_all_are_to_be_is_not_made() {
    in_all_modes_with_frames(8, |rig| {
        rig.map.wire_all(WireAll::FUTURE).unwrap();
        let va = rig
            .map
            .map_anonymous(&MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        let refused = rig.map.map_anonymous(&MapRequest::read_write(8 * PAGE_SIZE));
        assert_eq!(refused, Err(Error::Fault(FaultError::NoMemory)));
        assert_eq!((rig.map.entry_count(), wired(&rig, va, 4).len()), (1, 4));
        rig.assert_nothing_left();
    });
}

#[test]
fn s206_s207_a_fault_in_an_interrupt_safe_map_fails_at_once_and_what_is_wired_does_not_fault() {
    in_soft_modes("kernel maps are not those of a process", |rig| {
        let range = AddrRange {
            start: VirtAddr(0x4000_0000),
            end: VirtAddr(0x4100_0000),
        };
        let map = Map::new_interrupt_safe(rig.engine.clone(), range).unwrap();
        let (script, object) = rig.object(4);
        let va = map.map(&object, &MapRequest::read_write(4 * PAGE_SIZE)).unwrap().start;
        assert!(rig.engine.is_interrupt_safe(va) && !rig.engine.is_interrupt_safe(rig.map.base()));
        for access in [Access::Read, Access::Write] {
            assert_eq!(map.fault(va, access), Err(FaultError::InterruptSafe(va)));
            assert_eq!(
                map.fault_in_signal(va, access),
                Some(Err(FaultError::InterruptSafe(va)))
            );
        }
        map.wire(va, 4 * PAGE_SIZE).unwrap();
        map.store(va, &[1]).unwrap();
        assert_eq!(script.gets(), 4);
        drop(map);
        assert!(!rig.engine.is_interrupt_safe(va));
        object.release().unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn stores_to_wired_memory_of_a_mappings_own_do_not_fault() {
    in_all_modes(|rig| {
        let request = MapRequest::read_write(3 * PAGE_SIZE);
        let va = rig.map.map_anonymous(&request).unwrap().start;
        rig.map.load(page_at(va, 1), &mut [0]).unwrap();
        rig.map.wire(va, 3 * PAGE_SIZE).unwrap();
        let faults = rig.engine.stats().counts().faults;
        for i in 0..3 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        assert_eq!(rig.engine.stats().counts().faults, faults, "in {:?}", rig.mode);
        rig.assert_nothing_left();
    });
}
