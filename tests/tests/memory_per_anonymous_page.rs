//! How much memory the engine needs for a page of anonymous memory, resident and in swap, beside the page itself.
//!
//! As in `memory_per_page`, every byte that is counted is the engine's, as it was asked for.

mod counting;
mod weightless;

use std::sync::Arc;

use counting::{Counting, counts};
use quire_core::engine::Engine;
use quire_core::io::Io;
use quire_core::map::{Map, MapRequest};
use quire_core::pagedaemon::Targets;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::{AddrRange, PAGE_SIZE, VirtAddr};
use weightless::Weightless;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAGES: u64 = 100_000;

/// Bytes that the engine may take at most for a page that is resident.
const RESIDENT: f64 = 128.0;
/// For one that is in swap, with what the area knows of its slot.
const IN_SWAP: f64 = 32.0;
/// For one more map that refers to it after a fork.
const REFERRED: f64 = 8.0;

/// Takes what is written, and forgets it.
#[derive(Debug)]
struct Sink;

impl Pager for Sink {
    fn describe(&self) -> String {
        "sink".to_owned()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }

    fn max_run(&self) -> u32 {
        64
    }

    fn get(&self, _io: &Arc<Io>) -> Answer {
        unreachable!("nothing is read")
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        (0..io.len()).for_each(|i| io.page_done(i));
        Answer::Done(Ok(()))
    }
}

fn map_on(frames: u64) -> Map {
    let everywhere = AddrRange {
        start: VirtAddr(1 << 21),
        end: VirtAddr(1 << 46),
    };
    Map::new(Engine::new(Weightless::new(frames)), everywhere).expect("a map")
}

/// Writes to so many pages of new memory, one after the other.
fn written(map: &Map, pages: u64) -> AddrRange {
    let request = MapRequest::read_write(pages * PAGE_SIZE);
    let range = map.map_anonymous(&request).expect("a mapping");
    for page in 0..pages {
        let va = VirtAddr(range.start.0 + page * PAGE_SIZE);
        map.copy_in(va, &[1]).expect("there is memory, or swap");
    }
    range
}

fn page_out(map: &Map) {
    let engine = map.engine();
    let free = engine.machine().frame_counts().total;
    engine.set_daemon_targets(Targets {
        free_min: free,
        free_target: free,
        free_enough: free,
    });
    while engine.daemon_step().freed > 0 {}
    let counts = engine.machine().frame_counts();
    assert_eq!(counts.free, counts.total, "everything is in swap");
}

/// Bytes for each page since so many were live.
fn per_page(before: i64) -> f64 {
    let bytes = i32::try_from(counts().live_bytes - before).expect("less than 2 GiB");
    f64::from(bytes) / f64::from(u32::try_from(PAGES).expect("small"))
}

// One test, in which no page struct is given back: they come from a pool of the whole process.
#[test]
fn the_engine_takes_at_most_128_bytes_for_a_page_of_anonymous_memory_and_32_when_it_is_in_swap() {
    let map = map_on(2 * PAGES);
    let before = counts().live_bytes;
    written(&map, PAGES);
    let resident = per_page(before);
    println!("{PAGES} pages resident: {resident:.1} bytes for each");
    assert!(resident <= RESIDENT, "{resident} bytes a page");

    // The child takes nothing yet; its first write copies what it refers to, and not the pages.
    let before = counts().live_bytes;
    let child = map.fork().expect("a fork");
    let unwritten = per_page(before);
    child.copy_in(VirtAddr(1 << 21), &[2]).expect("a copy");
    let referred = per_page(before);
    println!("referred to by a child: {unwritten:.2} bytes for each, {referred:.1} after its first write");
    assert!(
        unwritten < 0.1 && referred <= REFERRED,
        "{unwritten}, {referred} bytes a page"
    );

    // Page structs for all frames there are in the machine below: the pool keeps them.
    const FRAMES: u64 = 4096;
    let map = map_on(FRAMES);
    let range = written(&map, FRAMES);
    map.unmap(range.start, range.len()).expect("mapped");
    let before = counts().live_bytes;
    let opening = quire_tests::opening(Box::new(Sink), PAGES);
    map.engine().add_swap(opening, 0).expect("an area");
    let area = per_page(before);
    written(&map, PAGES);
    page_out(&map);
    let in_swap = per_page(before);
    println!("{PAGES} pages in swap: {in_swap:.1} bytes for each, {area:.2} of them the area's");
    assert!(in_swap <= IN_SWAP, "{in_swap} bytes a page");
}
