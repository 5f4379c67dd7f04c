//! What the engine takes to free a page: choosing, unmapping, unlinking, giving the frame back.
//!
//! Each page is mapped once. The time is for one page, in steps of the page daemon that free a quarter of memory; all pages
//! are deactivated before, in the order of their indices or in one that looks random, so that the policy gives up each at its first look.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod rig;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::flush::PutFlags;
use quire_core::object::ObjectRef;
use quire_core::pagedaemon::Targets;
use quire_core::types::{Advice, PAGE_SIZE, PageIndex, VirtAddr};

use rig::{Mapped, engine, mapped, object, short};

/// Frees `iterations` pages, and says how long that took.
fn evictions(object: &ObjectRef, mapped: &Mapped, order: &[VirtAddr], iterations: u64) -> Duration {
    let engine = object.engine();
    let index = |va: &VirtAddr| (va.0 - mapped.range.start.0) / PAGE_SIZE;
    let (mut left, mut spent) = (iterations, Duration::ZERO);
    while left > 0 {
        for va in order {
            let page = PageIndex(index(va))..PageIndex(index(va) + 1);
            object.object().put(page, PutFlags::DEACTIVATE).expect("it is clean");
        }
        let counts = engine.machine().frame_counts();
        let want = (mapped.pages / 4).min(left);
        let free_target = counts.free - counts.reserved + want;
        engine.set_daemon_targets(Targets {
            free_min: 1,
            free_target,
            free_enough: free_target,
        });
        let begun = Instant::now();
        let freed = engine.daemon_step().freed;
        spent += begun.elapsed();
        assert_eq!(freed, want, "all pages are clean and unused");
        left -= freed;
        for va in order {
            if object.object().lookup(PageIndex(index(va))).is_none() {
                mapped.map.load(*va, &mut [0]).expect("the pager has it");
            }
        }
    }
    spent
}

fn evict(c: &mut Criterion) {
    for pages in [1024, 16384] {
        for (name, random) in [("sequential", false), ("random", true)] {
            let engine = engine(pages);
            let object = object(&engine, pages);
            let mapped = mapped(&object, pages, Advice::Random);
            let mut addresses: Vec<_> = mapped.addresses().collect();
            if !random {
                addresses.sort_by_key(|va| va.0);
            }
            c.bench_function(&format!("evict/{name}/{pages}_pages"), |b| {
                b.iter_custom(|iterations| evictions(&object, &mapped, &addresses, iterations));
            });
        }
    }
}

criterion_group!(name = benches; config = short(); targets = evict);
criterion_main!(benches);
