//! How much memory the engine needs for a resident page, beside the page itself.
//!
//! The machine under the engine here weighs nothing (`weightless`). So every byte that is counted is the engine's: page structs and the
//! object's index. What the soft machine takes for its own is printed for comparison.
//!
//! Bytes are counted as they are asked for; what the system's allocator adds to each is not in it (16 bytes at most on a slab of 64 pages).

mod counting;
mod weightless;

use std::sync::Arc;

use counting::{Counting, counts};
use quire_core::engine::Engine;
use quire_core::io::Io;
use quire_core::machine::Machine;
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use weightless::Weightless;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes a page that the engine may take at most.
const GOAL: f64 = 128.0;

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
    let mut dense = Grown::new(Weightless::new(u64::MAX), 100_000);
    // The pool's list doubles when it is full: just behind a power of two it is at its worst.
    for pages in [4096, 4096 + 64, 65_536, 65_536 + 64, 100_000] {
        let bytes = dense.grow_to(pages, 1, bring_in);
        println!("{pages} pages resident: {bytes:.1} bytes of the engine for each");
        assert!(bytes <= GOAL, "{bytes} bytes a page with {pages} pages");
    }

    // The pool's list has room for the pages below already: its 8 bytes for each are not counted again.
    // Not held to the goal: a leaf of the index for each page.
    let mut sparse = Grown::new(Weightless::new(u64::MAX), 4096 * 64);
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
