//! The upper layer from inside: places that come back, maps that share memory, and forks that run out of memory.

extern crate std;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::alloc_fallible::failing;
use crate::engine::Engine;
use crate::error::{Error, FaultError};
use crate::fault::FaultCase;
use crate::fork::CopyRequest;
use crate::machine::Serve;
use crate::map::{Map, MapRequest, Sharing};
use crate::map_ops::Place;
use crate::memory_pager::MemoryPager;
use crate::object::{Object, ObjectRef, Opening, PageIn};
use crate::pagedaemon::Targets;
use crate::soft::{SoftConfig, SoftMachine};
use crate::sync::Deadline;
use crate::types::{Access, AddrRange, Inherit, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};

const FILLED: u8 = 0x5a;

struct Rig {
    engine: Arc<Engine>,
    map: Map,
}

fn rig() -> Rig {
    let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
    let swap = Opening {
        pager: Box::new(MemoryPager::of(FILLED)),
        source: 0,
        identity: None,
        size: 256 * PAGE_SIZE,
        change: None,
    };
    engine.add_swap(swap, 0).unwrap();
    let bounds = AddrRange {
        start: VirtAddr(PAGE_SIZE),
        end: VirtAddr(256 * PAGE_SIZE),
    };
    let map = Map::new(engine.clone(), bounds).unwrap();
    Rig { engine, map }
}

impl Rig {
    fn anonymous(&self, pages: u64) -> VirtAddr {
        let request = MapRequest::read_write(pages * PAGE_SIZE);
        self.map.map_anonymous(&request).unwrap().start
    }

    fn file(&self, pages: u64) -> ObjectRef {
        let pager = Box::new(MemoryPager::of(FILLED));
        self.engine.create_object(pager, pages * PAGE_SIZE).unwrap()
    }

    fn private(&self, object: &ObjectRef) -> VirtAddr {
        let request = MapRequest {
            sharing: Sharing::Private,
            ..MapRequest::read_write(object.size())
        };
        self.map.map(object, &request).unwrap().start
    }

    /// Has the page daemon send away all that it can.
    fn press(&self) {
        let total = self.engine.machine().frame_counts().total;
        let before = self.engine.daemon_targets();
        self.engine.set_daemon_targets(Targets {
            free_min: total,
            free_target: total,
            free_enough: total,
        });
        while self.engine.daemon_step().freed > 0 {}
        self.engine.set_daemon_targets(before);
    }

    /// Where the page at an address is, if it is the mapping's own.
    fn place(&self, va: VirtAddr) -> (Arc<Object>, PageIndex) {
        place(&self.map, va)
    }

    fn assert_nothing_left(self) {
        self.map.clear().unwrap();
        assert_eq!(self.engine.swap_counts().used, 0, "slots leaked");
        self.engine.shut_down().unwrap();
        let counts = self.engine.machine().frame_counts();
        assert_eq!(counts.free, counts.total, "frames leaked");
        assert_eq!(self.engine.object_counts(), (0, 0), "objects leaked");
    }
}

fn place(map: &Map, va: VirtAddr) -> (Arc<Object>, PageIndex) {
    let entries = map.read();
    let entry = entries.lookup(va).unwrap();
    let slot = entry.offset_of(va).unwrap().page();
    let look = entry.backing.amap().unwrap().look();
    let anon = look.anon(slot).unwrap();
    (anon.store.clone(), anon.place)
}

fn at(va: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr(va.0 + page * PAGE_SIZE)
}

fn byte(map: &Map, va: VirtAddr) -> u8 {
    let mut byte = [0];
    map.load(va, &mut byte).unwrap();
    byte[0]
}

#[test]
fn a_place_that_was_given_up_does_not_get_a_page_from_whoever_comes_too_late() {
    let rig = rig();
    let va = rig.anonymous(2);
    rig.map.store(va, &[1; 2 * PAGE_BYTES]).unwrap();
    let (store, place) = rig.place(at(va, 1));
    // Somebody has seen that it is in swap, and then it is unmapped.
    rig.press();
    assert!(store.has_slot(place));
    rig.map.unmap(at(va, 1), PAGE_SIZE).unwrap();
    let late = store.page_in(place, 0, &Deadline::NEVER).unwrap();
    assert_eq!(late, PageIn::LookAgain);
    assert!(store.lookup(place).is_none(), "it would be in the way for ever");
    let request = MapRequest {
        place: Place::FixedNoReplace(at(va, 1)),
        ..MapRequest::read_write(PAGE_SIZE)
    };
    rig.map.map_anonymous(&request).unwrap();
    assert_eq!((byte(&rig.map, va), byte(&rig.map, at(va, 1))), (1, 0));
    drop(store);
    rig.assert_nothing_left();
}

#[test]
fn a_place_that_was_freed_shows_the_object_again_also_to_whoever_comes_too_late() {
    let rig = rig();
    let object = rig.file(2);
    let va = rig.private(&object);
    rig.map.store(va, &[1; 2 * PAGE_BYTES]).unwrap();
    let (store, place) = rig.place(va);
    rig.press();
    rig.map.free(va, 2 * PAGE_SIZE).unwrap();
    assert_eq!(store.page_in(place, 1, &Deadline::NEVER).unwrap(), PageIn::LookAgain);
    assert_eq!((byte(&rig.map, va), byte(&rig.map, at(va, 1))), (FILLED, FILLED));
    drop((store, object));
    rig.assert_nothing_left();
}
#[test]
fn a_fork_copies_wired_memory_that_allows_no_access() {
    for prot in [Prot::empty(), Prot::WRITE] {
        let rig = rig();
        let va = rig.anonymous(2);
        rig.map.store(va, &[1; 2 * PAGE_BYTES]).unwrap();
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        rig.map.protect(va, 2 * PAGE_SIZE, prot).unwrap();
        let child = rig.map.fork().unwrap();
        for map in [&rig.map, &child] {
            map.protect(va, 2 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        }
        child.store(va, &[2]).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&child, va)), (1, 2));
        assert_ne!(rig.place(at(va, 1)).0.id(), place(&child, at(va, 1)).0.id());
        drop(child);
        rig.assert_nothing_left();
    }
}

#[test]
fn s211_wirings_go_along_when_one_of_those_who_share_memory_has_a_page_of_it_copied() {
    let rig = rig();
    let va = rig.anonymous(2);
    rig.map.store(va, &[2; 2 * PAGE_BYTES]).unwrap();
    // The first page stays where it is, which is not at home in the child's amap.
    let child = rig.map.fork().unwrap();
    child.store(at(va, 1), &[1]).unwrap();
    rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
    child.inherit(va, PAGE_SIZE, Inherit::Share).unwrap();
    let grandchild = child.fork().unwrap();
    child.wire(va, PAGE_SIZE).unwrap();
    grandchild.inherit(va, PAGE_SIZE, Inherit::Copy).unwrap();
    let copy = grandchild.fork().unwrap();
    grandchild.store(va, &[3]).unwrap();
    assert_eq!([&child, &grandchild, &copy].map(|map| byte(map, va)), [3, 3, 2]);
    let wirings = |map: &Map| {
        let (store, place) = place(map, va);
        store.lookup(place).unwrap().wire_count()
    };
    assert_eq!([&child, &copy].map(wirings), [1, 0]);
    child.unwire(va, PAGE_SIZE).unwrap();
    assert_eq!(wirings(&child), 0);
    drop((copy, grandchild, child));
    rig.assert_nothing_left();
}

#[test]
fn what_several_maps_share_is_not_freed_by_one_of_them() {
    let rig = rig();
    let va = rig.anonymous(1);
    rig.map.inherit(va, PAGE_SIZE, Inherit::Share).unwrap();
    rig.map.store(va, &[1]).unwrap();
    let child = rig.map.fork().unwrap();
    rig.map.free(va, PAGE_SIZE).unwrap();
    assert_eq!((byte(&rig.map, va), byte(&child, va)), (1, 1));
    drop(child);
    rig.assert_nothing_left();
}

#[test]
fn s206_an_interrupt_safe_map_is_not_copied_for_its_memory_would_fault() {
    let rig = rig();
    let bounds = AddrRange {
        start: VirtAddr(1 << 30),
        end: VirtAddr((1 << 30) + 16 * PAGE_SIZE),
    };
    let map = Map::new_interrupt_safe(rig.engine.clone(), bounds).unwrap();
    let va = map.map_anonymous(&MapRequest::read_write(2 * PAGE_SIZE)).unwrap().start;
    map.wire(va, 2 * PAGE_SIZE).unwrap();
    map.store(va, &[1]).unwrap();
    let request = CopyRequest {
        start: va,
        len: PAGE_SIZE,
        place: Place::Anywhere {
            hint: VirtAddr(0),
            align: PAGE_SIZE,
        },
        serve: Serve::default(),
    };
    assert!(matches!(map.fork(), Err(Error::Unsupported(_))));
    assert!(matches!(map.copy_to(&rig.map, &request), Err(Error::Unsupported(_))));
    map.store(va, &[2]).unwrap();
    assert_eq!(byte(&map, va), 2);
    drop(map);
    rig.assert_nothing_left();
}

#[test]
fn s211_a_wired_page_among_dirty_ones_stays_mapped_and_takes_no_slot_when_they_go() {
    let rig = rig();
    let va = rig.anonymous(4);
    rig.map.store(va, &[1; 4 * PAGE_BYTES]).unwrap();
    rig.map.wire(at(va, 1), PAGE_SIZE).unwrap();
    rig.press();
    let (store, place) = rig.place(at(va, 1));
    assert_eq!(rig.engine.swap_counts().used, 3, "the others went");
    assert!(!store.has_slot(place));
    let there = rig.map.pmap().extract(at(va, 1));
    assert!(there.is_some_and(|there| there.wired && there.prot.contains(Prot::WRITE)));
    drop(store);
    rig.assert_nothing_left();
}
/// Bytes of a map with memory of every kind, by the page.
const EVERYTHING: [u8; 14] = [1, 1, 0, 2, 2, FILLED, 3, 3, 4, 5, 6, FILLED, 0, 7];

/// Memory of every kind in one piece, part of it in swap, and part of it wired; nothing has been made for it that a fork makes.
fn everything(rig: &Rig) -> (VirtAddr, ObjectRef) {
    let object = rig.file(1);
    let file = rig.file(3);
    let start = 8;
    let place = |page| Place::FixedNoReplace(VirtAddr((start + page) * PAGE_SIZE));
    let anonymous = |page, pages, inherit| MapRequest {
        place: place(page),
        inherit,
        ..MapRequest::read_write(pages * PAGE_SIZE)
    };
    let private = MapRequest {
        sharing: Sharing::Private,
        ..anonymous(3, 3, Inherit::Copy)
    };
    let map = |request: &MapRequest| rig.map.map_anonymous(request).unwrap();
    map(&anonymous(0, 3, Inherit::Copy));
    rig.map.map(&file, &private).unwrap();
    map(&anonymous(6, 2, Inherit::Copy));
    map(&anonymous(8, 1, Inherit::Share));
    map(&anonymous(9, 1, Inherit::Zero));
    map(&anonymous(10, 1, Inherit::None));
    rig.map.map(&object, &anonymous(11, 1, Inherit::Share)).unwrap();
    map(&anonymous(12, 1, Inherit::Share));
    map(&anonymous(13, 1, Inherit::Copy));
    let va = VirtAddr(start * PAGE_SIZE);
    for (page, byte) in (0..).zip(EVERYTHING) {
        if byte != 0 && byte != FILLED {
            rig.map.store(at(va, page), &[byte]).unwrap();
        }
    }
    rig.map.wire(at(va, 6), 2 * PAGE_SIZE).unwrap();
    rig.press();
    assert_eq!(byte(&rig.map, at(va, 1)), 1);
    rig.map.store(at(va, 13), &[7]).unwrap();
    (va, object)
}

/// The bytes that a map shows, page by page; `None` where nothing is mapped.
fn seen(map: &Map, va: VirtAddr) -> Vec<Option<u8>> {
    let mapped = |page| map.attributes_at(at(va, page)).is_some();
    (0..EVERYTHING.len() as u64)
        .map(|page| mapped(page).then(|| byte(map, at(va, page))))
        .collect()
}

/// Does something that wants memory again and again, with one allocation more each time, until it succeeds. What fails leaves everything as it
/// was: what is seen, what can be written without a fault, and who shows what.
fn starved<T>(rig: &Rig, va: VirtAddr, what: impl Fn() -> Result<T, Error>) -> T {
    let mut refused = 0;
    loop {
        failing::after(Some(refused));
        let done = what();
        failing::after(None);
        match done {
            Ok(done) => {
                assert!(refused > 2, "it did not want memory");
                return done;
            }
            Err(Error::NoMemory | Error::Fault(FaultError::NoMemory)) => {}
            Err(error) => panic!("with {refused} allocations: {error}"),
        }
        let faults = rig.engine.stats().counts().faults;
        rig.map.store(at(va, 6), &[3]).unwrap();
        rig.map.store(at(va, 7), &[3]).unwrap();
        assert_eq!(rig.engine.stats().counts().faults, faults, "wired memory faulted");
        assert_eq!(seen(&rig.map, va), EVERYTHING.map(Some), "with {refused} allocations");
        for page in [0, 3, 6, 8, 13] {
            let entries = rig.map.read();
            let entry = entries.lookup(at(va, page)).unwrap();
            let amap = entry.backing.amap().unwrap();
            assert!(amap.is_sole(&entry.places()), "page {page}, with {refused} allocations");
        }
        refused += 1;
    }
}

#[test]
fn a_fork_without_memory_leaves_everything_as_it_was() {
    let rig = rig();
    let (va, object) = everything(&rig);
    let child = starved(&rig, va, || rig.map.fork());
    let mut of_child = EVERYTHING.map(Some);
    (of_child[9], of_child[10]) = (Some(0), None);
    assert_eq!(seen(&child, va), of_child);
    assert_eq!(seen(&rig.map, va), EVERYTHING.map(Some));
    rig.map.store(va, &[9]).unwrap();
    child.store(at(va, 8), &[10]).unwrap();
    assert_eq!((byte(&child, va), byte(&rig.map, at(va, 8))), (1, 10));
    drop((child, object));
    rig.assert_nothing_left();
}

#[test]
fn a_copy_without_memory_leaves_everything_as_it_was() {
    let rig = rig();
    let (va, object) = everything(&rig);
    let bounds = AddrRange {
        start: VirtAddr(PAGE_SIZE),
        end: VirtAddr(64 * PAGE_SIZE),
    };
    let to = Map::new(rig.engine.clone(), bounds).unwrap();
    let copied = starved(&rig, va, || {
        assert_eq!(to.entry_count(), 0);
        let place = Place::FixedNoReplace(va);
        let len = EVERYTHING.len() as u64 * PAGE_SIZE;
        let serve = Serve::default();
        rig.map.copy_to(
            &to,
            &CopyRequest {
                start: va,
                len,
                place,
                serve,
            },
        )
    });
    assert_eq!(copied.start, va);
    assert_eq!(seen(&to, va), EVERYTHING.map(Some));
    drop((to, object));
    rig.assert_nothing_left();
}

#[test]
fn memory_that_cannot_be_mapped_extended_written_or_split_for_want_of_memory_stays_as_it_was() {
    let rig = rig();
    let (va, object) = everything(&rig);
    let behind = at(va, EVERYTHING.len() as u64);
    let request = MapRequest {
        place: Place::FixedNoReplace(behind),
        ..MapRequest::read_write(3 * PAGE_SIZE)
    };
    starved_alone(|| rig.map.map_anonymous(&request).map(drop));
    let child = rig.map.fork().unwrap();
    let written = |map: &Map| starved_alone(|| map.store(at(va, 1), &[1]).map_err(|stopped| stopped.error.into()));
    written(&child);
    written(&rig.map);
    starved_alone(|| rig.map.unmap(at(behind, 1), PAGE_SIZE));
    assert_eq!(byte(&rig.map, at(behind, 2)), 0);
    assert_eq!(byte(&child, at(behind, 1)), 0);
    drop((child, object));
    rig.assert_nothing_left();
}

/// As [`starved`], without a look at what is left in between.
fn starved_alone(what: impl Fn() -> Result<(), Error>) {
    for allowed in 0.. {
        failing::after(Some(allowed));
        let done = what();
        failing::after(None);
        match done {
            Ok(()) => return,
            Err(Error::NoMemory | Error::Fault(FaultError::NoMemory | FaultError::Pager { .. })) => {}
            Err(error) => panic!("with {allowed} allocations: {error}"),
        }
    }
}

#[test]
fn a_fault_in_a_signal_handler_copies_and_leaves_what_makes_an_anon_go_to_a_worker() {
    let rig = rig();
    let va = rig.anonymous(4);
    rig.map.store(va, &[1; 2 * PAGE_BYTES]).unwrap();
    rig.map.load(at(va, 3), &mut [0]).unwrap();
    let child = rig.map.fork().unwrap();
    child.store(va, &[2]).unwrap();
    let in_signal = |map: &Map, page| {
        let done = map.fault_in_signal(at(va, page), Access::Write);
        done.map(|done| done.map(|resolved| resolved.case))
    };
    assert_eq!(in_signal(&child, 2), Some(Ok(FaultCase::TwoB)), "zeros replace nothing");
    assert_eq!(
        in_signal(&child, 1),
        Some(Ok(FaultCase::OneB)),
        "the parent has it still"
    );
    rig.map.store(va, &[4]).unwrap();
    assert_eq!(
        in_signal(&rig.map, 1),
        Some(Ok(FaultCase::OneA)),
        "nobody else refers to it"
    );
    // Clean zeros that only the child refers to, at home in its parent: they are taken from memory, and go when they are replaced.
    rig.press();
    rig.map.unmap(at(va, 3), PAGE_SIZE).unwrap();
    assert_eq!(in_signal(&child, 3), None);
    child.store(at(va, 3), &[3]).unwrap();
    assert_eq!(in_signal(&child, 3), Some(Ok(FaultCase::OneA)));
    drop(child);
    rig.assert_nothing_left();
}

/// Forks the map while another thread does something to it again and again: what a child has stays as it is.
fn forked_while(rig: &Rig, va: VirtAddr, what: impl Fn(u8) + Sync) {
    let is_over = AtomicBool::new(false);
    let page_of = |map: &Map| {
        let mut page = [0; PAGE_BYTES];
        map.copy_out(va, &mut page).unwrap();
        page
    };
    let stays = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = 0_u8;
            while !is_over.load(Ordering::Relaxed) {
                byte = byte.wrapping_add(1);
                what(byte);
            }
        });
        let stays = (0..250).all(|_| {
            let child = rig.map.fork().unwrap();
            let first = page_of(&child);
            (0..8).all(|_| page_of(&child) == first)
        });
        is_over.store(true, Ordering::Relaxed);
        stays
    });
    assert!(stays, "a child's memory changed");
}

#[test]
fn what_is_copied_in_while_a_map_is_forked_comes_before_the_fork_or_does_not_reach_the_child() {
    let rig = rig();
    let va = rig.anonymous(1);
    forked_while(&rig, va, |byte| rig.map.copy_in(va, &[byte; PAGE_BYTES]).unwrap());
    rig.assert_nothing_left();
}

#[test]
fn what_is_freed_while_a_map_is_forked_is_gone_before_the_fork_or_stays_with_the_child() {
    let rig = rig();
    let va = rig.anonymous(1);
    forked_while(&rig, va, |byte| {
        rig.map.store(va, &[byte]).unwrap();
        rig.map.free(va, PAGE_SIZE).unwrap();
    });
    rig.assert_nothing_left();
}
