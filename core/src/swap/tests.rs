//! Swap from inside: what is given up, and what becomes of everything when memory cannot be had.

extern crate std;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::alloc_fallible::failing;
use crate::engine::Engine;
use crate::error::Error;
use crate::map::{Map, MapRequest};
use crate::memory_pager::MemoryPager;
use crate::object::{ObjectRef, Opening};
use crate::page::Dirtiness;
use crate::pagedaemon::Targets;
use crate::soft::{SoftConfig, SoftMachine};
use crate::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};

fn opening() -> Opening {
    Opening {
        pager: Box::new(MemoryPager::default()),
        source: 0,
        identity: None,
        size: 64 * PAGE_SIZE,
        change: None,
    }
}

/// An engine with a swap area, and an anonymous object of eight pages that is mapped.
fn rig() -> (Arc<Engine>, Map, ObjectRef, VirtAddr) {
    let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
    engine.add_swap(opening(), 0).unwrap();
    let bounds = AddrRange {
        start: VirtAddr(PAGE_SIZE),
        end: VirtAddr(64 * PAGE_SIZE),
    };
    let map = Map::new(engine.clone(), bounds).unwrap();
    let object = engine.create_anonymous(8 * PAGE_SIZE).unwrap();
    let va = map.map(&object, &MapRequest::read_write(8 * PAGE_SIZE)).unwrap().start;
    (engine, map, object, va)
}

fn at(va: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr(va.0 + page * PAGE_SIZE)
}

fn load(map: &Map, va: VirtAddr) -> u8 {
    let mut byte = [0];
    map.load(va, &mut byte).unwrap();
    byte[0]
}

/// Has the page daemon send away all that it can.
fn press(engine: &Engine) {
    let total = engine.machine().frame_counts().total;
    engine.set_daemon_targets(Targets {
        free_min: total,
        free_target: total,
        free_enough: total,
    });
    while engine.daemon_step().freed > 0 {}
}

#[test]
fn what_is_forgotten_is_zeros_whether_it_was_in_memory_or_in_swap() {
    let (engine, map, object, va) = rig();
    map.store(va, &vec![1; 8 * PAGE_BYTES]).unwrap();
    press(&engine);
    // In swap: all. In memory as well: 2, clean, and 3, dirty.
    assert_eq!(load(&map, at(va, 2)), 1);
    map.store(at(va, 3), &[2]).unwrap();
    object.forget_places(PageIndex(1)..PageIndex(5));
    assert!((1..5).all(|i| object.lookup(PageIndex(i)).is_none() && !object.has_slot(PageIndex(i))));
    assert_eq!(engine.swap_counts().used, 4);
    let bytes: Vec<_> = (0..8).map(|i| load(&map, at(va, i))).collect();
    assert_eq!(bytes, [1, 0, 0, 0, 0, 1, 1, 1]);
    object.forget_places(PageIndex(0)..PageIndex(u64::MAX));
    assert_eq!((engine.swap_counts().used, object.resident()), (0, 0));
    map.clear().unwrap();
    object.release().unwrap();
    engine.shut_down().unwrap();
}

#[test]
fn s189_n15_a_clean_page_whose_slot_is_released_is_dirty() {
    let (engine, map, object, va) = rig();
    map.store(va, &[7]).unwrap();
    press(&engine);
    assert_eq!(load(&map, va), 7);
    let page = object.lookup(PageIndex(0)).unwrap();
    assert!(object.has_slot(PageIndex(0)) && page.dirtiness() != Dirtiness::Dirty);
    let busy = crate::object::Object::busy_resident(&&*object, PageIndex(0)).unwrap();
    assert!(object.can_be_had_again(page));
    object.release_slot(PageIndex(0));
    assert!(!object.can_be_had_again(page), "a clean page without a slot is zeros");
    object.dirty_and_release(busy.page());
    assert!(!object.has_slot(PageIndex(0)) && page.dirtiness() == Dirtiness::Dirty);
    drop(busy);
    press(&engine);
    assert!(object.lookup(PageIndex(0)).is_none() && object.has_slot(PageIndex(0)));
    assert_eq!(load(&map, va), 7);
    map.clear().unwrap();
    object.release().unwrap();
    engine.shut_down().unwrap();
}

#[test]
fn without_memory_for_a_write_its_pages_stay_dirty_and_no_slot_is_lost() {
    let (engine, map, object, va) = rig();
    let mut refused = 0;
    for allowed in 0..1000 {
        for page in 0..8 {
            map.store(at(va, page), &[u8::try_from(allowed % 200).unwrap() + 1])
                .unwrap();
        }
        failing::after(Some(allowed));
        press(&engine);
        failing::after(None);
        let resident = object.resident();
        let held = (0..8).filter(|i| object.has_slot(PageIndex(*i))).count() as u64;
        assert_eq!(
            engine.swap_counts().used,
            held,
            "a slot is lost, with {allowed} allocations"
        );
        for page in 0..8 {
            assert!(object.lookup(PageIndex(page)).is_some() || object.has_slot(PageIndex(page)));
            assert_eq!(
                u64::from(load(&map, at(va, page))),
                allowed as u64 % 200 + 1,
                "page {page}, with {allowed} allocations"
            );
        }
        if resident == 0 {
            break;
        }
        refused += 1;
    }
    assert!(refused > 3, "{refused}");
    map.clear().unwrap();
    object.release().unwrap();
    engine.shut_down().unwrap();
}

#[test]
fn without_memory_for_a_read_it_fails_and_succeeds_later() {
    let (engine, map, object, va) = rig();
    map.store(va, &vec![3; 8 * PAGE_BYTES]).unwrap();
    press(&engine);
    let mut refused = 0;
    for allowed in 0..1000 {
        let mut byte = [0];
        failing::after(Some(allowed));
        let loaded = map.load(at(va, 4), &mut byte);
        failing::after(None);
        if loaded.is_ok() {
            assert_eq!(byte, [3]);
            break;
        }
        refused += 1;
        assert_eq!((engine.swap_counts().used, engine.swap_counts().bad), (8, 0));
    }
    assert!(refused > 2, "{refused}");
    map.clear().unwrap();
    object.release().unwrap();
    engine.shut_down().unwrap();
}

#[test]
fn without_memory_for_an_area_the_opening_is_closed() {
    let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
    for allowed in 0..100 {
        let store = MemoryPager::default();
        let closed = store.closed.clone();
        let opening = Opening {
            pager: Box::new(store),
            ..opening()
        };
        failing::after(Some(allowed));
        let added = engine.add_swap(opening, 0);
        failing::after(None);
        match added {
            Ok(_) => {
                assert!(allowed > 3 && !closed.load(Ordering::Relaxed));
                break;
            }
            Err(error) => {
                assert_eq!(error, Error::NoMemory);
                assert!(closed.load(Ordering::Relaxed));
            }
        }
    }
    assert_eq!(engine.swap_counts().areas, 1);
    engine.shut_down().unwrap();
}

#[test]
fn f20_a_slot_costs_a_few_bytes() {
    assert!(core::mem::size_of::<super::Anonymous>() <= 64);
    std::eprintln!(
        "an object has {} bytes, its places {}",
        core::mem::size_of::<crate::object::Object>(),
        core::mem::size_of::<super::Anonymous>()
    );
}

#[test]
fn what_was_refused_before_an_area_was_added_is_not_told_after_it() {
    let (engine, _map, _object, _va) = rig();
    for area in engine.swap_areas().unwrap() {
        engine.remove_swap(area.id).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As the page daemon does, at any moment.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                engine.swap().has_room();
            }
        });
        let stale = (0..20_000).any(|_| {
            let id = engine.add_swap(opening(), 0).unwrap();
            // What was found out before has been noted by then, or never is.
            let told = (0..20).any(|_| engine.swap_counts().refusal.is_some());
            engine.remove_swap(id).unwrap();
            told
        });
        stop.store(true, Ordering::Relaxed);
        assert!(!stale, "an area with room, and a refusal");
    });
}
