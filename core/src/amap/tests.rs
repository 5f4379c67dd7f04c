//! The upper layer from inside: places that come back, maps that share memory, and forks that run out of memory.

extern crate std;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::engine::Engine;
use crate::error::Error;
use crate::fork::CopyRequest;
use crate::io::{Direction, Io};
use crate::machine::Serve;
use crate::map::{Map, MapRequest, Sharing};
use crate::map_ops::Place;
use crate::object::{Object, ObjectRef, Opening, PageIn};
use crate::pagedaemon::Targets;
use crate::pager::{Answer, Pager, PagerOps};
use crate::soft::{SoftConfig, SoftMachine};
use crate::sync::Deadline;
use crate::types::{AddrRange, Inherit, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// Keeps what it is given; what it was never given is made of one byte.
#[derive(Debug, Default)]
struct Store {
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
}

const FILLED: u8 = 0x5a;

impl Pager for Store {
    fn describe(&self) -> String {
        "store".into()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }

    fn max_run(&self) -> u32 {
        64
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        self.move_all(io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        self.move_all(io)
    }

    fn close(&self) -> Result<(), crate::error::PagerError> {
        Ok(())
    }
}

impl Store {
    fn move_all(&self, io: &Arc<Io>) -> Answer {
        let mut pages = self.pages.lock().unwrap();
        for i in 0..io.len() {
            let new = || alloc::vec![FILLED; PAGE_BYTES];
            let page = pages.entry(io.first().0 + i as u64).or_insert_with(new);
            if io.direction() == Direction::Get {
                io.fill(i, page);
            } else {
                io.copy_to(i, page);
                io.page_done(i);
            }
        }
        Answer::Done(Ok(()))
    }
}

struct Rig {
    engine: Arc<Engine>,
    map: Map,
}

fn rig() -> Rig {
    let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
    let swap = Opening {
        pager: Box::new(Store::default()),
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
        let pager = Box::new(Store::default());
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
