//! A machine whose addresses are those of a process: what a map asks of it, in which order, and what a refusal leaves. The
//! machine is a soft one that keeps a ledger of its addresses and refuses when it is told.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quire_core::engine::Engine;
use quire_core::error::{Cause, Error, FaultError, Result};
use quire_core::machine::{
    CpuAccess, CpuStop, EnterRun, Layout, Machine, NotEntered, Placement, Pmap, Reserve, Serve, Translation,
};
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::soft::{Failure, Injection, SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, Frame, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Rig, Script, Twist, in_soft_modes, page_at};

/// What an address is, page by page; those that are not listed are the process's to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// The process uses it otherwise.
    Foreign,
    Claimed,
    Laid(u64),
    /// Laid and then removed.
    Removed,
}

#[derive(Default, Debug)]
struct Book {
    pages: BTreeMap<u64, Use>,
    find: Option<u64>,
    lay_fails: bool,
    protect_fails_at: Option<VirtAddr>,
    layouts: Vec<Layout>,
}

#[derive(Debug)]
struct Real {
    soft: Arc<SoftMachine>,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct RealPmap {
    soft: Arc<dyn Pmap>,
    book: Arc<Mutex<Book>>,
}

fn pages_in(range: AddrRange) -> impl Iterator<Item = u64> {
    range.start.0 / PAGE_SIZE..range.end.0 / PAGE_SIZE
}

impl Machine for Real {
    fn name(&self) -> &'static str {
        "real"
    }
    fn frame_alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame> {
        self.soft.frame_alloc(place, reserve)
    }
    quire_tests::leave_to_soft!(soft);
    fn pmap_create(self: Arc<Self>, range: AddrRange) -> Result<Arc<dyn Pmap>> {
        let (soft, book) = (self.soft.clone().pmap_create(range)?, self.book.clone());
        Ok(Arc::new(RealPmap { soft, book }))
    }
}

impl Pmap for RealPmap {
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        let first = run.start.0 / PAGE_SIZE;
        for page in first..first + run.pages.len() as u64 {
            let there = self.book.lock().unwrap().pages.get(&page).copied();
            assert!(matches!(there, Some(Use::Laid(_))), "entered at {page:#x}: {there:?}");
        }
        self.soft.enter(run)
    }
    fn remove(&self, range: AddrRange) {
        self.soft.remove(range);
        for page in pages_in(range) {
            let was = self.book.lock().unwrap().pages.insert(page, Use::Removed);
            assert!(matches!(was, Some(Use::Laid(_) | Use::Removed)), "removed {was:?}");
        }
    }
    fn protect(&self, range: AddrRange, prot: Prot) -> Result<()> {
        if self.book.lock().unwrap().protect_fails_at == Some(range.start) {
            return Err(Error::NoMemory);
        }
        self.soft.protect(range, prot)
    }
    fn write_protect(&self, range: AddrRange) {
        self.soft.write_protect(range);
    }
    fn unwire(&self, range: AddrRange) {
        self.soft.unwire(range);
    }
    fn extract(&self, va: VirtAddr) -> Option<Translation> {
        self.soft.extract(va)
    }
    fn cpu(&self, _va: VirtAddr, _access: CpuAccess<'_>) -> std::result::Result<(), CpuStop> {
        Err(CpuStop::NoCpu)
    }
    fn find(&self, len: u64, _align: u64, _hint: VirtAddr) -> Result<Option<VirtAddr>> {
        let mut book = self.book.lock().unwrap();
        let Some(first) = book.find else { return Ok(None) };
        for page in first..first + len / PAGE_SIZE {
            assert_eq!(book.pages.insert(page, Use::Claimed), None);
        }
        Ok(Some(VirtAddr(first * PAGE_SIZE)))
    }
    fn claim(&self, hole: AddrRange) -> Result<()> {
        let mut book = self.book.lock().unwrap();
        for page in pages_in(hole) {
            match book.pages.get(&page) {
                None => {}
                Some(Use::Foreign) => return Err(Error::Occupied(VirtAddr(page * PAGE_SIZE))),
                Some(other) => panic!("claimed what is {other:?}"),
            }
        }
        book.pages.extend(pages_in(hole).map(|page| (page, Use::Claimed)));
        Ok(())
    }
    fn lay(&self, layout: &Layout) -> Result<()> {
        let mut book = self.book.lock().unwrap();
        for page in pages_in(layout.range) {
            let was = book.pages.get(&page);
            assert!(matches!(was, Some(Use::Claimed | Use::Removed)), "laid over {was:?}");
        }
        if book.lay_fails {
            return Err(Error::NoMemory);
        }
        let first = layout.first.0;
        let laid: Vec<_> = pages_in(layout.range).zip((first..).map(Use::Laid)).collect();
        book.pages.extend(laid);
        book.layouts.push(*layout);
        Ok(())
    }
    fn give_back(&self, range: AddrRange) {
        let mut book = self.book.lock().unwrap();
        for page in pages_in(range) {
            let was = book.pages.remove(&page);
            assert!(matches!(was, Some(Use::Claimed | Use::Removed)), "given back {was:?}");
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Where the maps of these tests begin, as a number of a page.
const FIRST: u64 = 0x1000;

struct World {
    map: Map,
    engine: Arc<Engine>,
    book: Arc<Mutex<Book>>,
}

impl World {
    fn new() -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let soft = SoftMachine::new(SoftConfig::default()).unwrap();
        let machine = Arc::new(Real {
            soft,
            book: book.clone(),
        });
        let engine = Engine::new(machine);
        let range = AddrRange {
            start: at(0),
            end: at(0x1000),
        };
        let map = Map::new(engine.clone(), range).unwrap();
        Self { map, engine, book }
    }

    fn object(&self, pages: u64) -> (Script, ObjectRef) {
        let (script, pager) = Script::new();
        (script, self.engine.create_object(pager, pages * PAGE_SIZE).unwrap())
    }

    fn uses(&self) -> Vec<(u64, Use)> {
        let book = self.book.lock().unwrap();
        book.pages.iter().map(|(page, is)| (page - FIRST, *is)).collect()
    }

    fn foreign(&self, page: u64) {
        self.book.lock().unwrap().pages.insert(FIRST + page, Use::Foreign);
    }
}

/// The address of a page, counted from the map's first.
fn at(page: u64) -> VirtAddr {
    VirtAddr((FIRST + page) * PAGE_SIZE)
}

fn fixed(page: u64, pages: u64) -> MapRequest {
    MapRequest {
        place: Place::Fixed(at(page)),
        ..MapRequest::read_write(pages * PAGE_SIZE)
    }
}

#[test]
fn a_mapping_claims_its_holes_lays_over_what_it_replaces_and_gives_all_back() {
    let world = World::new();
    let (_script, object) = world.object(16);
    world.map.map(&object, &fixed(2, 2)).unwrap();
    world.map.map(&object, &fixed(6, 1)).unwrap();
    world.map.copy_in(at(2), &[1]).unwrap();
    world.map.fault(at(3), quire_core::types::Access::Write).unwrap();
    // Over both, with holes before, between and behind.
    let over = MapRequest {
        serve: Serve::InThread,
        offset: PageIndex(4).offset(),
        ..fixed(1, 8)
    };
    world.map.map(&object, &over).unwrap();
    let laid: Vec<_> = (1..9).map(|page| (page, Use::Laid(page + 3))).collect();
    assert_eq!(world.uses(), laid);
    let layout = *world.book.lock().unwrap().layouts.last().unwrap();
    assert_eq!(
        (layout.owner, layout.first, layout.serve, layout.prot),
        (object.id(), PageIndex(4), Serve::InThread, Prot::READ | Prot::WRITE)
    );
    world.map.unmap(at(3), 2 * PAGE_SIZE).unwrap();
    assert_eq!(world.uses().len(), 6);
    world.map.clear().unwrap();
    assert_eq!(world.uses(), []);
    drop(object);
    world.engine.shut_down().unwrap();
}

#[test]
fn a_claim_that_is_refused_changes_nothing() {
    let world = World::new();
    let (_script, object) = world.object(16);
    world.map.map(&object, &fixed(2, 2)).unwrap();
    world.foreign(5);
    let before = (world.uses(), world.map.version());
    assert_eq!(world.map.map(&object, &fixed(0, 8)), Err(Error::Occupied(at(5))));
    let exact = MapRequest {
        place: Place::FixedNoReplace(at(1)),
        ..fixed(1, 2)
    };
    assert_eq!(world.map.map(&object, &exact), Err(Error::Occupied(at(2))));
    assert_eq!((world.uses(), world.map.version()), before);
    assert_eq!(world.map.entry_count(), 1);
    let bad = MapRequest { len: 0, ..fixed(8, 1) };
    assert!(matches!(world.map.map(&object, &bad), Err(Error::Invalid(_))));
    assert_eq!(world.uses(), before.0);
}

#[test]
fn a_layout_that_is_refused_leaves_no_entry_and_no_claim() {
    let world = World::new();
    let (script, object) = world.object(16);
    world.map.map(&object, &fixed(2, 2)).unwrap();
    world.map.copy_in(at(2), &[9]).unwrap();
    world.book.lock().unwrap().lay_fails = true;
    assert_eq!(world.map.map(&object, &fixed(3, 4)), Err(Error::NoMemory));
    assert_eq!(world.uses(), [(2, Use::Laid(0))], "what was to be replaced is unmapped");
    assert_eq!(world.map.entry_count(), 1);
    assert_eq!(world.map.map(&object, &MapRequest::read_only(1)), Err(Error::NoMemory));
    assert_eq!(world.uses(), [(2, Use::Laid(0))]);
    let uses = object.reference_count();
    world.map.clear().unwrap();
    assert_eq!(object.reference_count(), uses - 1);
    drop(object);
    world.engine.shut_down().unwrap();
    assert_eq!(script.stored(0)[0], 9);
}

#[test]
fn anywhere_is_where_the_machine_finds_room() {
    let world = World::new();
    let (_script, object) = world.object(16);
    world.book.lock().unwrap().find = Some(FIRST + 0x77);
    let range = world.map.map(&object, &MapRequest::read_only(2 * PAGE_SIZE)).unwrap();
    assert_eq!((range.start, range.len()), (at(0x77), 2 * PAGE_SIZE));
    assert_eq!(world.uses(), [(0x77, Use::Laid(0)), (0x78, Use::Laid(1))]);
    // A machine that finds what is not inside the map is not believed, and gets it back.
    world.book.lock().unwrap().find = Some(FIRST + 0x1000);
    let refused = world.map.map(&object, &MapRequest::read_only(PAGE_SIZE));
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert_eq!(world.uses().len(), 2);
}

#[test]
fn a_machine_that_cannot_change_rights_leaves_the_rest_as_it_was() {
    let world = World::new();
    let (_script, object) = world.object(16);
    world.map.map(&object, &fixed(0, 1)).unwrap();
    world.map.map(&object, &fixed(4, 1)).unwrap();
    let (_other, second) = world.object(16);
    world.map.map(&second, &fixed(1, 3)).unwrap();
    world.book.lock().unwrap().protect_fails_at = Some(at(1));
    assert_eq!(
        world.map.protect(at(0), 5 * PAGE_SIZE, Prot::READ),
        Err(Error::NoMemory)
    );
    let now: Vec<_> = (0..5)
        .map(|page| world.map.attributes_at(at(page)).unwrap().prot)
        .collect();
    let all = Prot::READ | Prot::WRITE;
    assert_eq!(now, [Prot::READ, all, all, all, all]);
    world.book.lock().unwrap().protect_fails_at = None;
    world.map.protect(at(0), 5 * PAGE_SIZE, Prot::READ).unwrap();
    assert_eq!(world.map.attributes_at(at(4)).unwrap().prot, Prot::READ);
}

#[test]
fn a_simulated_processor_is_refused_where_pointers_are_real() {
    let world = World::new();
    let (_script, object) = world.object(1);
    world.map.map(&object, &fixed(0, 1)).unwrap();
    let stopped = world.map.load(at(0), &mut [0; 4]).unwrap_err();
    assert_eq!((stopped.done, &stopped.error), (0, &FaultError::RealPointers("real")));
    assert_eq!(stopped.error.to_string(), "machine real has real pointers; use those");
    assert_eq!(world.map.store(at(0), &[1]).unwrap_err().error, stopped.error);
}

fn cannot_keep(rig: &Rig, times: u64) {
    rig.soft().inject(Injection {
        failure: Failure::TakeBack,
        after: 0,
        times,
    });
}

#[test]
fn filled_pages_that_the_machine_cannot_keep_are_freed_and_asked_for_again() {
    in_soft_modes("the kernel cannot be told to fail", |rig| {
        let (script, object, va) = rig.mapped(4);
        cannot_keep(&rig, 1);
        assert_eq!(rig.load_page(va), quire_tests::pattern(0));
        assert_eq!(script.gets(), 2, "once in vain");
        cannot_keep(&rig, u64::MAX);
        let stopped = rig.map.load(page_at(va, 1), &mut [0; PAGE_BYTES]).unwrap_err();
        assert_eq!(stopped.error, FaultError::NoMemory);
        assert!(object.lookup(PageIndex(1)).is_none(), "nothing half filled stays");
        cannot_keep(&rig, 0);
        // A failure of the pager is told as such, whatever the machine says.
        script.next_gets([Twist::Fail(Cause::Errno(5))]);
        let stopped = rig.map.load(page_at(va, 2), &mut [0; 1]).unwrap_err();
        assert!(matches!(stopped.error, FaultError::Pager { .. }));
        drop(object);
        rig.assert_nothing_left();
    });
}
