//! What the benches of the engine share: an object whose pages are all resident, on a soft machine.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of each bench, which uses what it needs"
)]

use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use quire_core::engine::Engine;
use quire_core::io::Io;
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, Advice, PAGE_BYTES, PAGE_SIZE, VirtAddr};

/// Fills every page with the same byte, and forgets what is written.
#[derive(Debug)]
struct Filler;

impl Pager for Filler {
    fn describe(&self) -> String {
        "filler".to_owned()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }

    fn max_run(&self) -> u32 {
        64
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.fill(i, &[0x51; PAGE_BYTES]);
        }
        Answer::Done(Ok(()))
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.page_done(i);
        }
        Answer::Done(Ok(()))
    }
}

/// An engine on a soft machine with room for `pages` pages.
pub fn engine(pages: u64) -> Arc<Engine> {
    let machine = SoftMachine::new(SoftConfig {
        frames: pages + 64,
        ..SoftConfig::default()
    });
    Engine::new(machine.expect("a machine"))
}

/// An object of so many pages, none of them resident.
pub fn object(engine: &Arc<Engine>, pages: u64) -> ObjectRef {
    engine
        .create_object(Box::new(Filler), pages * PAGE_SIZE)
        .expect("an object")
}

/// An object mapped from its start to its end.
pub struct Mapped {
    pub map: Map,
    pub range: AddrRange,
    pub pages: u64,
}

/// An address space of its own.
pub fn new_map(engine: &Arc<Engine>) -> Map {
    let everywhere = AddrRange {
        start: VirtAddr(0x20_0000),
        end: VirtAddr(0x7fff_0000_0000),
    };
    Map::new(engine.clone(), everywhere).expect("a map")
}

/// Maps the object in an address space of its own, to be read and written, and brings all of it in. No page is translated then.
pub fn mapped(object: &ObjectRef, pages: u64, advice: Advice) -> Mapped {
    let map = new_map(object.engine());
    let request = MapRequest {
        // A leaf table is 2 MiB: halves of the object share none.
        place: Place::Anywhere {
            hint: VirtAddr(0),
            align: 1 << 21,
        },
        advice,
        ..MapRequest::read_write(pages * PAGE_SIZE)
    };
    let range = map.map(object, &request).expect("a mapping");
    let mapped = Mapped { map, range, pages };
    let mut byte = [0];
    for va in mapped.addresses() {
        // `load` makes the tables as well, so that the measured faults find them.
        mapped.map.load(va, &mut byte).expect("a page");
    }
    assert_eq!(object.resident(), pages);
    mapped.forget_translations();
    mapped
}

impl Mapped {
    /// The address of each page, in an order that looks random: `pages` is a power of two.
    pub fn addresses(&self) -> impl Iterator<Item = VirtAddr> + use<> {
        let (start, pages) = (self.range.start, self.pages);
        assert!(pages.is_power_of_two());
        (0..pages).map(move |i| VirtAddr(start.0 + (i * 7_368_787 + 11) % pages * PAGE_SIZE))
    }

    /// Every page stays resident, and the next access to each faults.
    pub fn forget_translations(&self) {
        self.map.pmap().remove(self.range);
    }
}

/// Time for `iterations` faults, at the first of these addresses or at all of them, over and over. `batch` tells how long its faults took, and makes
/// anew what they used up.
pub fn in_batches(iterations: u64, addresses: &[VirtAddr], mut batch: impl FnMut(&[VirtAddr]) -> Duration) -> Duration {
    let mut left = usize::try_from(iterations).expect("fits");
    let mut spent = Duration::ZERO;
    while left > 0 {
        let wanted = &addresses[..left.min(addresses.len())];
        spent += batch(wanted);
        left -= wanted.len();
    }
    spent
}

/// Short runs: all benches together take less than three minutes.
pub fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20)
}
