//! Policies against the best that can be done: real pages on the real queues, without objects, frames or a machine.
//!
//! Every trace is made from a fixed seed and by integer arithmetic and divisions only, so that the table is the same
//! wherever it is made; it stands in `measured.txt`, and the test fails when that is no longer true.

extern crate std;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::PolicyKind;
use crate::object::BATCH;
use crate::page::{self, PageRef, Queue};
use crate::page_queues::{Found, PageQueues};
use crate::types::{ObjectId, PageIndex};

const MEMORY: usize = 1000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Numbers below `n`, of which the one of rank k comes up in proportion to 1/k. Ranks are scattered over the numbers.
struct Zipf {
    upto: Vec<u64>,
}

impl Zipf {
    fn new(n: u64) -> Self {
        let mut sum = 0;
        let upto = (1..=n).map(|k| {
            sum += (1 << 40) / k;
            sum
        });
        Self { upto: upto.collect() }
    }

    fn next(&self, random: &mut Random) -> u64 {
        let n = self.upto.len() as u64;
        let at = random.below(self.upto[self.upto.len() - 1]);
        let rank = self.upto.partition_point(|upto| *upto <= at) as u64;
        rank * 7919 % n
    }
}

fn traces() -> [(&'static str, Vec<u64>); 5] {
    const LEN: u64 = 200_000;
    let zipf = {
        let (zipf, mut random) = (Zipf::new(10_007), Random(1));
        (0..LEN).map(|_| zipf.next(&mut random)).collect()
    };
    let loops = (0..LEN).map(|i| i % 1200).collect();
    let small_loop = (0..LEN).map(|i| i % 900).collect();
    let scan = {
        // Seven of ten accesses to a hot set that fits, the others a scan that never comes back.
        let (mut random, mut at) = (Random(2), 1_000_000);
        let next = |_| {
            if random.below(10) < 7 {
                random.below(700)
            } else {
                at += 1;
                at
            }
        };
        (0..LEN).map(next).collect()
    };
    let shifting = {
        // A working set that fits; every 10,000 accesses half of it is replaced.
        let mut random = Random(3);
        (0..LEN).map(|i| i / 10_000 * 400 + random.below(800)).collect()
    };
    [
        ("Zipf over 10,007 pages", zipf),
        ("loop over 1200 pages", loops),
        ("loop over 900 pages", small_loop),
        ("scan with a hot set of 700", scan),
        ("working set of 800 that shifts", shifting),
    ]
}

/// How pages are taken.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    OneByOne,
    /// By 64: one victim after the other.
    InBatches,
    /// By 64, each victim with those of its block that may go with it, as the page daemon does it.
    InClusters,
}

/// Hits of a policy, as the engine would run it.
fn hits_of(kind: PolicyKind, trace: &[u64], taken: Taken) -> usize {
    let object = ObjectId(u64::MAX - 1);
    let mut queues = PageQueues::new(kind.make(MEMORY as u64));
    let mut resident: BTreeMap<u64, PageRef> = BTreeMap::new();
    let mut hits = 0;
    for access in trace {
        let page = match resident.get(access) {
            Some(page) => {
                hits += 1;
                *page
            }
            None => {
                if resident.len() == MEMORY {
                    evict(&mut queues, &mut resident, taken);
                }
                let page = page::allocate().expect("memory");
                page.enter_object(object, PageIndex(*access));
                page.mark_valid();
                page.busy.release_exclusive();
                queues.admit(page);
                resident.insert(*access, page);
                page
            }
        };
        page.note_referenced();
    }
    while !resident.is_empty() {
        evict(&mut queues, &mut resident, Taken::OneByOne);
    }
    hits
}

/// See `pagedaemon/evict.rs`.
fn evict(queues: &mut PageQueues, resident: &mut BTreeMap<u64, PageRef>, taken: Taken) {
    let batch = if taken == Taken::OneByOne { 1 } else { BATCH };
    let mut victims = Vec::new();
    while victims.len() < batch {
        let (Found::Victim(page, from), _) = queues.next_victim(0, u64::MAX, |page| page.take_referenced()) else {
            panic!("pages are resident, and none may go");
        };
        victims.push((page, from));
        if taken != Taken::InClusters {
            continue;
        }
        let block = page.index().0 & !63;
        for page in resident.range(block..block + 64).map(|(_, page)| *page) {
            if victims.len() < batch && page.may_go_early() && page.busy.try_exclusive() {
                if queues.take_along(page, |page| page.take_referenced()) {
                    victims.push((page, Queue::Inactive));
                } else {
                    page.busy.release_exclusive();
                }
            }
        }
    }
    for (page, from) in victims {
        queues.evicted((ObjectId(u64::MAX - 1), page.index()), from);
        resident.remove(&page.index().0);
        page.leave_object();
        queues.forget(page);
        page::free(page);
    }
}

/// Hits when the page goes whose `order` is lowest; `order` is given the time of each access.
fn hits_by(trace: &[u64], order: impl Fn(usize) -> u64) -> usize {
    let (mut by_page, mut by_order) = (BTreeMap::new(), BTreeSet::new());
    let mut hits = 0;
    for (time, page) in trace.iter().enumerate() {
        match by_page.remove(page) {
            Some(old) => {
                hits += 1;
                by_order.remove(&(old, *page));
            }
            None if by_page.len() == MEMORY => {
                let (_, gone) = by_order.pop_first().expect("memory is full");
                by_page.remove(&gone);
            }
            None => {}
        }
        let place = order(time);
        by_page.insert(*page, place);
        by_order.insert((place, *page));
    }
    hits
}

fn lru(trace: &[u64]) -> usize {
    hits_by(trace, |time| time as u64)
}

/// The page goes that is used last from now on.
fn belady(trace: &[u64]) -> usize {
    let mut next = BTreeMap::new();
    let mut order = Vec::new();
    for (time, page) in trace.iter().enumerate().rev() {
        order.push(u64::MAX - next.insert(*page, time as u64).unwrap_or(u64::MAX));
    }
    order.reverse();
    hits_by(trace, |time| order[time])
}

fn table() -> String {
    let mut table = String::new();
    writeln!(
        table,
        "{:<32}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "trace", "clock", "by 64", "S3-FIFO", "by 64", "LRU", "Belady"
    )
    .expect("a string");
    for (name, trace) in traces() {
        let hits = [
            hits_of(PolicyKind::Clock, &trace, Taken::OneByOne),
            hits_of(PolicyKind::Clock, &trace, Taken::InClusters),
            hits_of(PolicyKind::S3Fifo, &trace, Taken::OneByOne),
            hits_of(PolicyKind::S3Fifo, &trace, Taken::InClusters),
            lru(&trace),
            belady(&trace),
        ];
        write!(table, "{name:<32}").expect("a string");
        for hits in hits {
            let tenths = (hits * 1000 + trace.len() / 2) / trace.len();
            write!(table, "{:>6}.{}", tenths / 10, tenths % 10).expect("a string");
        }
        table.push('\n');
        assert!(
            hits.iter().all(|one| *one <= hits[5]),
            "nothing beats the optimum: {name}"
        );
    }
    table
}

#[test]
fn taking_neighbours_along_drags_no_hot_pages_out() {
    for (name, trace) in traces() {
        if !name.starts_with("Zipf") && !name.starts_with("scan") {
            continue;
        }
        let alone = hits_of(PolicyKind::S3Fifo, &trace, Taken::InBatches);
        let along = hits_of(PolicyKind::S3Fifo, &trace, Taken::InClusters);
        assert!(along + trace.len() / 500 >= alone, "{name}: {along} of {alone} hits");
    }
}

#[test]
fn the_table_in_the_documentation_is_what_the_policies_are_worth() {
    let table = table();
    std::println!("{table}");
    assert_eq!(
        table,
        include_str!("measured.txt"),
        "put the new table into core/src/policy/measured.txt"
    );
}
