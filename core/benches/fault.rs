//! What a resident fault costs: map lookup, page lookup, busy, enter, unbusy.
//!
//! Translations are removed in batches between the measured parts, so that each measured fault has one to make, unless the
//! name says `again`. All times are for one fault of one thread: with two threads, the figure of one thread means that
//! they do not hinder each other, and twice that figure means that they take turns.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod rig;

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::map::Map;
use quire_core::types::{Access, Advice, VirtAddr};

use rig::{Mapped, engine, in_batches, mapped, object, short};

/// Faults at each address, and says how long that took.
fn fault_at(map: &Map, addresses: &[VirtAddr], access: Access) -> Duration {
    let begun = Instant::now();
    for va in addresses {
        map.fault(*va, access).expect("a resident page");
    }
    begun.elapsed()
}

/// Time for `iterations` faults, each at a page that is not translated.
fn cold_faults(mapped: &Mapped, addresses: &[VirtAddr], access: Access, iterations: u64) -> Duration {
    in_batches(iterations, addresses, |wanted| {
        let took = fault_at(&mapped.map, wanted, access);
        mapped.forget_translations();
        took
    })
}

fn one_thread(c: &mut Criterion) {
    // 64 pages stay in the processor's first cache; 16384 pages are 64 MiB.
    for pages in [64, 4096, 16384] {
        let engine = engine(pages);
        let object = object(&engine, pages);
        let random = mapped(&object, pages, Advice::Random);
        let addresses: Vec<_> = random.addresses().collect();
        for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
            c.bench_function(&format!("fault/resident/{name}/{pages}_pages"), |b| {
                b.iter_custom(|iterations| cold_faults(&random, &addresses, access, iterations));
            });
        }
    }
}

/// The advice's window: 7 neighbours are mapped along, so that one fault serves eight pages.
fn with_neighbours(c: &mut Criterion) {
    const PAGES: u64 = 4096;
    let engine = engine(PAGES);
    let object = object(&engine, PAGES);
    let normal = mapped(&object, PAGES, Advice::Normal);
    // Every eighth page, three behind the start: windows touch and do not overlap.
    let every_eighth: Vec<_> = normal.addresses().filter(|va| (va.0 >> 12) % 8 == 3).collect();
    let resolved = normal
        .map
        .fault(every_eighth[0], Access::Read)
        .expect("a resident page");
    assert_eq!(resolved.neighbours, 7);
    normal.forget_translations();
    c.bench_function("fault/resident_and_7_neighbours/read/4096_pages", |b| {
        b.iter_custom(|iterations| cold_faults(&normal, &every_eighth, Access::Read, iterations));
    });
}

/// The translation is there: two threads faulted at the same page, and this is the second.
fn again(c: &mut Criterion) {
    const PAGES: u64 = 4096;
    let engine = engine(PAGES);
    let object = object(&engine, PAGES);
    let mapped = mapped(&object, PAGES, Advice::Random);
    let addresses: Vec<_> = mapped.addresses().collect();
    fault_at(&mapped.map, &addresses, Access::Read);
    c.bench_function("fault/resident_again/read/4096_pages", |b| {
        let mut next = addresses.iter().cycle();
        b.iter(|| mapped.map.fault(*next.next().expect("cycles"), Access::Read));
    });
}

/// A barrier that two threads leave at the same time: waking a sleeper takes as long as hundreds of faults.
#[derive(Default)]
struct Start(AtomicU64);

impl Start {
    /// True in one of the two.
    fn wait(&self) -> bool {
        let arrived = self.0.fetch_add(1, Ordering::AcqRel);
        let all = arrived / 2 * 2 + 2;
        while self.0.load(Ordering::Acquire) < all {
            hint::spin_loop();
        }
        arrived + 1 == all
    }
}

/// Time until each of two threads has made `iterations` faults, at pages of its own.
fn two_threads(sides: [(&Mapped, &[VirtAddr]); 2], iterations: u64) -> Duration {
    let (start, removed) = (Start::default(), Start::default());
    thread::scope(|scope| {
        let running = sides.map(|(mapped, addresses)| {
            let (start, removed) = (&start, &removed);
            scope.spawn(move || {
                let mut left = usize::try_from(iterations).expect("fits");
                let mut spent = Duration::ZERO;
                while left > 0 {
                    let batch = left.min(addresses.len());
                    start.wait();
                    spent += fault_at(&mapped.map, &addresses[..batch], Access::Read);
                    // Nobody faults while anybody removes.
                    if start.wait() {
                        for (mapped, _) in sides {
                            mapped.forget_translations();
                        }
                    }
                    removed.wait();
                    left -= batch;
                }
                spent
            })
        });
        let spent = running.map(|thread| thread.join().expect("does not panic"));
        spent[0].max(spent[1])
    })
}

fn threads(c: &mut Criterion) {
    const PAGES: u64 = 4096;
    let engine = engine(2 * PAGES);
    let shared = object(&engine, PAGES);
    let other = object(&engine, PAGES);
    let first = mapped(&shared, PAGES, Advice::Random);
    let second = mapped(&shared, PAGES, Advice::Random);
    let apart = mapped(&other, PAGES, Advice::Random);
    let of = |mapped: &Mapped, half: u64| -> Vec<VirtAddr> {
        let middle = mapped.range.start.0 + mapped.range.len() / 2;
        mapped
            .addresses()
            .filter(|va| u64::from(va.0 >= middle) == half)
            .collect()
    };
    let halves = [of(&first, 0), of(&first, 1), of(&second, 1), of(&apart, 1)];
    for (name, other, theirs) in [
        ("one_object_one_map", &first, &halves[1]),
        ("one_object_two_maps", &second, &halves[2]),
        ("nothing_in_common", &apart, &halves[3]),
    ] {
        c.bench_function(&format!("fault/resident/two_threads/{name}"), |b| {
            b.iter_custom(|iterations| two_threads([(&first, &halves[0]), (other, theirs)], iterations));
        });
    }
}

criterion_group! { name = faults; config = short(); targets = one_thread, with_neighbours, again, threads }
criterion_main!(faults);
