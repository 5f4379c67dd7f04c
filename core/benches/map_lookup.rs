//! What a lookup in a map and a search for free space cost, at a thousand and at a million entries.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::map_entry::{Attributes, MapEntry};
use quire_core::map_tree::MapTree;
use quire_core::types::{AddrRange, ByteOff, PAGE_SIZE, VirtAddr};

const SIZES: [(&str, u64); 2] = [("1k", 1_000), ("1M", 1_000_000)];

/// Entries of one page, a hole of one page behind each, put in in an order that looks random.
fn tree_of(n: u64) -> MapTree<&'static u8> {
    let mut tree = MapTree::new();
    for i in 0..n {
        let start = VirtAddr(i * 7_368_787 % n * 2 * PAGE_SIZE);
        let range = AddrRange {
            start,
            end: VirtAddr(start.0 + PAGE_SIZE),
        };
        let entry = MapEntry {
            range,
            backing: &0,
            offset: ByteOff(i),
            attr: Attributes::default(),
        };
        assert!(tree.insert(entry).is_ok());
    }
    tree
}

/// Numbers that look random (xorshift).
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn benches(c: &mut Criterion) {
    for (name, n) in SIZES {
        let tree = tree_of(n);
        let mut seed = 0x2545_f491_4f6c_dd1d;
        c.bench_function(&format!("map/lookup_random/{name}"), |b| {
            b.iter(|| {
                let va = VirtAddr(random(&mut seed) % n * 2 * PAGE_SIZE);
                let entry = tree.lookup(black_box(va)).expect("mapped");
                black_box((entry.offset, entry.backing))
            });
        });
        // Each address depends on the last answer, so that nothing of one lookup overlaps with the next.
        c.bench_function(&format!("map/lookup_dependent/{name}"), |b| {
            let mut last = 0;
            b.iter(|| {
                let va = VirtAddr((random(&mut seed) ^ last) % n * 2 * PAGE_SIZE);
                last = tree.lookup(va).expect("mapped").offset.0 & 1;
                last
            });
        });
        let everywhere = AddrRange {
            start: VirtAddr(0),
            end: VirtAddr(u64::MAX),
        };
        c.bench_function(&format!("map/find_space_at_the_end/{name}"), |b| {
            b.iter(|| tree.find_space(black_box(2 * PAGE_SIZE), PAGE_SIZE, everywhere));
        });
        c.bench_function(&format!("map/find_space_random_hint/{name}"), |b| {
            b.iter(|| {
                let start = VirtAddr(random(&mut seed) % n * 2 * PAGE_SIZE);
                tree.find_space(black_box(PAGE_SIZE), PAGE_SIZE, AddrRange { start, ..everywhere })
            });
        });
    }
}

criterion_group!(map_lookup, benches);
criterion_main!(map_lookup);
