//! What a lookup of a resident page costs, what busying and unbusying it costs, and what a copy through a map costs.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod rig;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::object::Object;
use quire_core::types::{Advice, PAGE_BYTES, PAGE_SIZE, PageIndex};

use rig::{engine, mapped, object, short};

/// Lock, walk, unlock. Levels of the index: one for 64 pages, two for 4096, three for 262144 (1 GiB of frames).
fn lookup(c: &mut Criterion) {
    for pages in [64, 4096, 262_144] {
        let engine = engine(pages);
        let object = object(&engine, pages);
        let mapped = mapped(&object, pages, Advice::Random);
        let base = mapped.range.start.0;
        let order: Vec<_> = mapped
            .addresses()
            .map(|va| PageIndex((va.0 - base) / PAGE_SIZE))
            .collect();
        c.bench_function(&format!("page/lookup/{pages}"), |b| {
            let mut next = order.iter().cycle();
            b.iter(|| black_box(object.lookup(*next.next().expect("cycles"))));
        });
    }
}

fn busy(c: &mut Criterion) {
    let engine = engine(1);
    let object = object(&engine, 1);
    let _mapped = mapped(&object, 1, Advice::Random);
    c.bench_function("page/lookup_busy_exclusive_downgrade_and_release", |b| {
        let object: &Object = object.object();
        b.iter(|| {
            let busy = Object::busy_resident(&object, black_box(PageIndex(0))).expect("resident");
            drop(busy.downgrade());
        });
    });
    c.bench_function("page/lookup_busy_exclusive_and_release", |b| {
        let object: &Object = object.object();
        b.iter(|| Object::busy_resident(&object, black_box(PageIndex(0))).expect("resident"));
    });
}

fn copies(c: &mut Criterion) {
    const PAGES: u64 = 64;
    let engine = engine(PAGES);
    let object = object(&engine, PAGES);
    let mapped = mapped(&object, PAGES, Advice::Random);
    let addresses: Vec<_> = mapped.addresses().collect();
    for (name, len) in [("64_bytes", 64), ("4_KiB", PAGE_BYTES)] {
        let mut bytes = vec![0; len];
        c.bench_function(&format!("map/copy_out/{name}"), |b| {
            let mut next = addresses.iter().cycle();
            b.iter(|| {
                mapped
                    .map
                    .copy_out(*next.next().expect("cycles"), black_box(&mut bytes))
            });
        });
        c.bench_function(&format!("map/copy_in/{name}"), |b| {
            let mut next = addresses.iter().cycle();
            b.iter(|| mapped.map.copy_in(*next.next().expect("cycles"), black_box(&bytes)));
        });
    }
}

criterion_group! { name = pages; config = short(); targets = lookup, busy, copies }
criterion_main!(pages);
