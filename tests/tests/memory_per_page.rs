//! How much memory the engine needs for a resident page, beside the page itself.
//!
//! The machine under the engine here weighs nothing: it hands out numbers for frames, has bytes only while they are lent, and
//! keeps no tables. So every byte that is counted is the engine's: page structs and the object's index. What the
//! soft machine takes for its own is printed for comparison.
//!
//! Bytes are counted as they are asked for; what the system's allocator adds to each is not in it (16 bytes at most on a slab of 64 pages).

mod counting;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use counting::{Counting, counts};
use quire_core::engine::Engine;
use quire_core::error::Result;
use quire_core::io::Io;
use quire_core::machine::{
    CpuAccess, CpuStop, EnterRun, FrameCounts, Loan, Machine, NotEntered, Placement, Pmap, Purpose, Reserve, Shortage,
    Translation,
};
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::page::PageRef;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, Frame, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes a page that the engine may take at most.
const GOAL: f64 = 128.0;

/// A machine without memory.
#[derive(Debug, Default)]
struct Weightless {
    frames: AtomicU64,
}

#[derive(Debug)]
struct NoTranslations;

impl Machine for Weightless {
    fn name(&self) -> &'static str {
        "weightless"
    }

    fn frame_alloc(&self, _place: Placement, _reserve: Reserve) -> Option<Frame> {
        Some(Frame(self.frames.fetch_add(1, Ordering::Relaxed)))
    }

    fn frames_free(&self, _frames: &[Frame]) {}

    fn frame_counts(&self) -> FrameCounts {
        FrameCounts {
            total: u64::MAX,
            free: u64::MAX,
            reserved: 0,
        }
    }

    /// One page of bytes a run, which lives as long as the loan.
    fn lend(&self, pages: &[PageRef], purpose: Purpose) -> std::result::Result<Loan, Shortage> {
        assert_eq!(pages.len(), 1, "the test brings pages in one at a time");
        let bytes = Box::into_raw(Box::new([0_u8; PAGE_BYTES]));
        let bytes = vec![NonNull::new(bytes.cast()).expect("a box has an address")];
        // SAFETY: a page that nobody else knows, freed in `take_back`.
        Ok(unsafe { Loan::new(bytes, purpose, 0) })
    }

    fn take_back(
        &self,
        _pages: &[PageRef],
        loan: Loan,
        _keep: &dyn Fn(usize) -> bool,
    ) -> std::result::Result<(), Shortage> {
        for bytes in loan.bytes() {
            // SAFETY: the box made in `lend`, whose loan ends here.
            drop(unsafe { Box::from_raw(bytes.as_ptr().cast::<[u8; PAGE_BYTES]>()) });
        }
        Ok(())
    }

    fn copy_out(&self, _page: PageRef, _offset: usize, to: &mut [u8]) {
        to.fill(0);
    }

    fn copy_in(&self, _page: PageRef, _offset: usize, _from: &[u8]) {}

    fn page_protect(&self, _pages: &[PageRef], _prot: Prot) {}

    fn page_referenced(&self, _page: PageRef) -> bool {
        false
    }

    fn rehome(&self, page: PageRef, _place: Placement) -> std::result::Result<Frame, Shortage> {
        Ok(page.frame())
    }

    fn pmap_create(self: Arc<Self>, _range: AddrRange) -> Result<Arc<dyn Pmap>> {
        Ok(Arc::new(NoTranslations))
    }
}

impl Pmap for NoTranslations {
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        (run.pages.len(), None)
    }

    fn remove(&self, _range: AddrRange) {}

    fn protect(&self, _range: AddrRange, _prot: Prot) -> Result<()> {
        Ok(())
    }

    fn write_protect(&self, _range: AddrRange) {}

    fn unwire(&self, _range: AddrRange) {}

    fn extract(&self, _va: VirtAddr) -> Option<Translation> {
        None
    }

    fn cpu(&self, _va: VirtAddr, _access: CpuAccess<'_>) -> std::result::Result<(), CpuStop> {
        Err(CpuStop::NoCpu)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Zeros, and no memory of its own.
#[derive(Debug)]
struct Zeros;

impl Pager for Zeros {
    fn describe(&self) -> String {
        "zeros".to_owned()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::empty()
    }

    fn max_run(&self) -> u32 {
        1
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.fill(i, &[0; PAGE_BYTES]);
        }
        Answer::Done(Ok(()))
    }
}

/// An object with a map that shows all of it.
struct Grown {
    object: ObjectRef,
    map: Map,
    start: VirtAddr,
    resident: u64,
    bytes: i64,
}

impl Grown {
    fn new(machine: Arc<dyn Machine>, pages: u64) -> Self {
        let engine = Engine::new(machine);
        let object = engine
            .create_object(Box::new(Zeros), pages * PAGE_SIZE)
            .expect("an object");
        let everywhere = AddrRange {
            start: VirtAddr(1 << 21),
            end: VirtAddr(1 << 46),
        };
        let map = Map::new(engine, everywhere).expect("a map");
        let range = map.map(&object, &MapRequest::read_only(pages * PAGE_SIZE));
        let start = range.expect("a mapping").start;
        Self {
            object,
            map,
            start,
            resident: 0,
            bytes: 0,
        }
    }

    /// Makes pages resident until there are so many, every `stride`-th one of the object. Returns the bytes for each since the start.
    fn grow_to(&mut self, pages: u64, stride: u64, touch: impl Fn(&Map, VirtAddr)) -> f64 {
        let before = counts().live_bytes;
        for page in self.resident..pages {
            touch(&self.map, VirtAddr(self.start.0 + page * stride * PAGE_SIZE));
        }
        self.bytes += counts().live_bytes - before;
        self.resident = pages;
        assert_eq!(self.object.resident(), pages);
        let (bytes, pages) = (i32::try_from(self.bytes), i32::try_from(pages));
        f64::from(bytes.expect("less than 2 GiB")) / f64::from(pages.expect("less than 2^31"))
    }
}

/// Brings the page in and leaves it there: no translation is needed for that.
fn bring_in(map: &Map, va: VirtAddr) {
    map.copy_out(va, &mut [0]).expect("the pager has it");
}

// One test: page structs come from a pool of the whole process, and those that one object gave back would cost the next
// nothing. Here nothing is given back until the end.
#[test]
fn the_engine_takes_at_most_128_bytes_for_a_resident_page() {
    let mut dense = Grown::new(Arc::new(Weightless::default()), 100_000);
    // The pool's list doubles when it is full: just behind a power of two it is at its worst.
    for pages in [4096, 4096 + 64, 65_536, 65_536 + 64, 100_000] {
        let bytes = dense.grow_to(pages, 1, bring_in);
        println!("{pages} pages resident: {bytes:.1} bytes of the engine for each");
        assert!(bytes <= GOAL, "{bytes} bytes a page with {pages} pages");
    }

    // The pool's list has room for the pages below already: its 8 bytes for each are not counted again.
    // Not held to the goal: a leaf of the index for each page.
    let mut sparse = Grown::new(Arc::new(Weightless::default()), 4096 * 64);
    let bytes = sparse.grow_to(4096, 64, bring_in);
    println!("4096 pages resident, one in 64 of their object: {bytes:.1} bytes of the engine for each");

    const PAGES: u64 = 16_384;
    let machine = SoftMachine::new(SoftConfig {
        frames: PAGES + 256,
        ..SoftConfig::default()
    });
    let mut soft = Grown::new(machine.expect("a machine"), PAGES);
    let bytes = soft.grow_to(PAGES, 1, |map, va| map.load(va, &mut [0]).expect("the pager has it"));
    println!(
        "{PAGES} pages resident and mapped on the soft machine: {:.1} bytes for each beside its frame, engine and machine",
        bytes - f64::from(4096)
    );
}
