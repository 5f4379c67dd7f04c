//! What memory of a mapping's own costs: the faults that fill, show and copy its pages, forks, and what comes behind a fork.
//!
//! Times are for one fault of one thread, or for one fork. What a fault used up is made again between the measured parts.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use quire_core::engine::Engine;
use quire_core::fault::FaultCase;
use quire_core::map::{Map, MapRequest};
use quire_core::types::{Access, AddrRange, Advice, PAGE_SIZE, VirtAddr};

use rig::{engine, in_batches, new_map, short};

/// Pages of the measured faults: 16 MiB.
const PAGES: u64 = 4096;

/// Memory of a map's own.
struct Own {
    map: Map,
    range: AddrRange,
}

impl Own {
    /// None of whose pages has been written.
    fn new(engine: &Arc<Engine>, pages: u64, advice: Advice) -> Self {
        let map = new_map(engine);
        let range = map_own(&map, pages, advice);
        Self { map, range }
    }

    /// All of whose pages have been.
    fn written(engine: &Arc<Engine>, pages: u64, advice: Advice) -> Self {
        let own = Self::new(engine, pages, advice);
        own.addresses().for_each(|va| own.map.store(va, &[1]).expect("a store"));
        own
    }

    fn addresses(&self) -> impl Iterator<Item = VirtAddr> + use<> {
        addresses(self.range)
    }
}

fn map_own(map: &Map, pages: u64, advice: Advice) -> AddrRange {
    let request = MapRequest {
        advice,
        ..MapRequest::read_write(pages * PAGE_SIZE)
    };
    map.map_anonymous(&request).expect("a mapping")
}

fn addresses(range: AddrRange) -> impl Iterator<Item = VirtAddr> {
    (range.start.0..range.end.0)
        .step_by(usize::try_from(PAGE_SIZE).expect("fits"))
        .map(VirtAddr)
}

/// Faults at each address, all of this case, and says how long that took.
fn faults(map: &Map, addresses: &[VirtAddr], access: Access, case: FaultCase) -> Duration {
    let begun = Instant::now();
    for va in addresses {
        let resolved = map.fault(*va, access).expect("there is memory");
        assert_eq!(resolved.case, case);
    }
    begun.elapsed()
}

/// Case 1A: the page is there, and its translation is not.
fn resident(c: &mut Criterion) {
    for (name, advice) in [("", Advice::Random), ("_and_7_neighbours", Advice::Normal)] {
        let engine = engine(PAGES);
        let own = Own::written(&engine, PAGES, advice);
        own.map.pmap().remove(own.range);
        // Every eighth page, three behind the start: windows touch and do not overlap.
        let is_alone = advice == Advice::Random;
        let wanted: Vec<_> = own
            .addresses()
            .filter(|va| is_alone || (va.0 - own.range.start.0) / PAGE_SIZE % 8 == 3)
            .collect();
        for (access_name, access) in [("read", Access::Read), ("write", Access::Write)] {
            c.bench_function(
                &format!("anonymous/1A_resident{name}/{access_name}/{PAGES}_pages"),
                |b| {
                    b.iter_custom(|iterations| {
                        in_batches(iterations, &wanted, |wanted| {
                            let took = faults(&own.map, wanted, access, FaultCase::OneA);
                            own.map.pmap().remove(own.range);
                            took
                        })
                    });
                },
            );
        }
    }
}

/// Case 2B: zeros. What was filled is unmapped, and its pages freed, between the measured parts.
fn zero_fill(c: &mut Criterion) {
    let engine = engine(PAGES);
    for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
        let map = new_map(&engine);
        c.bench_function(&format!("anonymous/2B_zero_fill/{name}/{PAGES}_pages"), |b| {
            b.iter_custom(|iterations| {
                let range = map_own(&map, PAGES, Advice::Random);
                let all: Vec<_> = addresses(range).collect();
                map.unmap(range.start, range.len()).expect("mapped");
                in_batches(iterations, &all, |wanted| {
                    assert_eq!(map_own(&map, PAGES, Advice::Random), range, "the lowest place there is");
                    let took = faults(&map, wanted, access, FaultCase::TwoB);
                    map.unmap(range.start, range.len()).expect("mapped");
                    took
                })
            });
        });
    }
}

/// Case 1B: a child's write to what its parent has too, from the second on; the first, which copies the amap, is measured with the forks.
/// And a parent's, which keeps its page and leaves the child a copy.
fn copy(c: &mut Criterion) {
    let engine = engine(2 * PAGES);
    let parent = Own::written(&engine, PAGES, Advice::Random);
    let all: Vec<_> = parent.addresses().collect();
    let (first, rest) = all.split_first().expect("there are pages");
    for (name, is_child) in [("child", true), ("parent", false)] {
        c.bench_function(&format!("anonymous/1B_copy/by_the_{name}/{PAGES}_pages"), |b| {
            b.iter_custom(|iterations| {
                in_batches(iterations, rest, |wanted| {
                    let child = parent.map.fork().expect("a fork");
                    child.fault(*first, Access::Write).expect("a copy");
                    let writer = if is_child { &child } else { &parent.map };
                    writer.fault(*first, Access::Write).expect("a page of its own");
                    let took = faults(writer, wanted, Access::Write, FaultCase::OneB);
                    drop(child);
                    took
                })
            });
        });
    }
}

/// A fork of a map with so many pages written, and the child's first write.
fn fork(c: &mut Criterion) {
    for pages in [1, 1_000, 100_000] {
        let engine = engine(pages + 64);
        let parent = Own::written(&engine, pages, Advice::Normal);
        let start = parent.range.start;
        let timed = |measure_fork: bool, measure_write: bool| {
            // As if the parent had gone on between two forks: its pages are mapped to be written.
            parent.addresses().for_each(|va| {
                parent.map.fault(va, Access::Write).expect("its own page");
            });
            let begun = Instant::now();
            let child = parent.map.fork().expect("a fork");
            let forked = begun.elapsed();
            let begun = Instant::now();
            child.fault(start, Access::Write).expect("a copy");
            let written = begun.elapsed();
            let mut took = Duration::ZERO;
            if measure_fork {
                took += forked;
            }
            if measure_write {
                took += written;
            }
            took
        };
        for (name, fork, write) in [("fork", true, false), ("first_write_after_it", false, true)] {
            c.bench_function(&format!("anonymous/{name}/{pages}_pages"), |b| {
                b.iter_custom(|iterations| (0..iterations).map(|_| timed(fork, write)).sum());
            });
        }
    }
}

/// A resident fault, and a copy, in the first map of a chain of forks and in the last one of a thousand, each of which wrote a page; the
/// ones between gone, or still there.
fn chain(c: &mut Criterion) {
    const GENERATIONS: u64 = 1000;
    const CHAIN_PAGES: u64 = 16;
    for (name, keep) in [("ancestors_gone", false), ("ancestors_kept", true)] {
        let engine = engine(GENERATIONS + 2 * CHAIN_PAGES);
        let first = Own::written(&engine, CHAIN_PAGES, Advice::Random);
        let all: Vec<_> = first.addresses().collect();
        let mut kept = Vec::new();
        let mut last = first.map.fork().expect("a fork");
        for generation in 0..GENERATIONS {
            let next = last.fork().expect("a fork");
            let at = all[usize::try_from(generation % CHAIN_PAGES).expect("small")];
            next.store(at, &[2]).expect("a store");
            let before = std::mem::replace(&mut last, next);
            if keep {
                kept.push(before);
            }
        }
        for (which, map) in [("first", &first.map), ("last_of_1000", &last)] {
            c.bench_function(&format!("anonymous/chain/{name}/read_in_the_{which}"), |b| {
                b.iter_custom(|iterations| {
                    in_batches(iterations, &all, |wanted| {
                        map.pmap().remove(first.range);
                        faults(map, wanted, Access::Read, FaultCase::OneA)
                    })
                });
            });
            c.bench_function(&format!("anonymous/chain/{name}/copy_in_a_child_of_the_{which}"), |b| {
                let (one, rest) = all.split_first().expect("there are pages");
                b.iter_custom(|iterations| {
                    in_batches(iterations, rest, |wanted| {
                        let child = map.fork().expect("a fork");
                        child.fault(*one, Access::Write).expect("a copy");
                        faults(&child, wanted, Access::Write, FaultCase::OneB)
                    })
                });
            });
        }
    }
}

criterion_group! { name = anonymous; config = short(); targets = resident, zero_fill, copy, fork, chain }
criterion_main!(anonymous);
