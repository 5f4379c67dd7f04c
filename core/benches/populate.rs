//! What the engine's part of a populate costs a page: 511 pages that are in memory are taken into the answer, beside the one that
//! faulted. `taken` asks for them and answers with the faulting page alone; `answered` answers with all of them, so that the difference
//! is what judging the answer and mapping its pages cost. All times are for one fault; divide by 512.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::io::Io;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::object::Dirty;
use quire_core::pager::{Answer, Pager, PagerOps, Populated};
use quire_core::populate::Populate;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};

use rig::{engine, new_map, short};

const PAGES: u64 = 512;

/// What populate does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    /// Fills the page that faulted.
    One,
    /// And takes all others.
    Takes,
    /// And answers with them.
    AnswersAll,
}

#[derive(Debug)]
struct Device(Does);

impl Pager for Device {
    fn describe(&self) -> String {
        "device".to_owned()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::POPULATE
    }

    fn max_run(&self) -> u32 {
        1
    }

    fn get(&self, _io: &Arc<Io>) -> Answer {
        Answer::Done(Ok(()))
    }

    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let index = request.plan().index;
        let bytes = request.insert_one(index).expect("memory");
        // SAFETY: the request lends a page's bytes.
        unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES) };
        assert!(request.ready(index, 1));
        if self.0 != Does::One {
            // At first there are none: then all are made.
            if request.take(PageIndex(1), PAGES - 1).is_err() {
                let fill = &mut |bytes: std::ptr::NonNull<u8>| {
                    // SAFETY: the request lends a page's bytes.
                    unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES) };
                };
                request.insert(PageIndex(1), PAGES - 1, fill).expect("memory");
                assert!(request.ready(PageIndex(1), PAGES - 1));
            }
        }
        match self.0 {
            Does::AnswersAll => Populated::Range(PageIndex(0), PageIndex(PAGES - 1)),
            Does::One | Does::Takes => Populated::Range(index, index),
        }
    }
}

fn populate(c: &mut Criterion) {
    for (name, does) in [
        ("one", Does::One),
        ("taken", Does::Takes),
        ("answered", Does::AnswersAll),
    ] {
        let engine = engine(2 * PAGES);
        let object = engine
            .create_object(Box::new(Device(does)), PAGES * PAGE_SIZE)
            .expect("an object");
        let map = new_map(&engine);
        let request = MapRequest {
            place: Place::Anywhere {
                hint: VirtAddr(0),
                align: 1 << 21,
            },
            ..MapRequest::read_only(PAGES * PAGE_SIZE)
        };
        let range = map.map(&object, &request).expect("a mapping");
        c.bench_function(&format!("populate/512_pages/{name}"), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let begun = Instant::now();
                    map.fault(range.start, Access::Read).expect("a page");
                    spent += begun.elapsed();
                    map.pmap().remove(range);
                    let first = PageIndex(0)..PageIndex(1);
                    object.object().revoke(first, Dirty::Discard).expect("nothing is dirty");
                }
                spent
            });
        });
        map.clear().expect("nothing is dirty");
    }
}

criterion_group! {
    name = benches;
    config = short();
    targets = populate
}
criterion_main!(benches);
