//! The hammer: two writers, one of them through `read(2)` into the mapping, a flusher and an evictor on one object with two
//! mappings and a budget of a quarter of it, in both ways to serve. No write is lost.
//!
//! In variants a second object shares the budget, or the object shrinks and grows behind the pages that are written.
//!
//! Each writer has a word of its own in every page, and counts it up: what it finds there must be what it wrote last. In the end the
//! store must have the same.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quire_core::engine::Engine;
use quire_core::error::PagerError;
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::io::Io;
use quire_core::machine::Serve;
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine, Server};

const PAGES: u64 = 1024;

/// Pages in plain memory.
#[derive(Debug, Clone)]
struct Store(Arc<Vec<Mutex<[u8; PAGE_BYTES]>>>);

impl Store {
    fn new() -> Self {
        Self(Arc::new((0..PAGES).map(|_| Mutex::new([0; PAGE_BYTES])).collect()))
    }

    fn word(&self, page: u64, writer: usize) -> u64 {
        let bytes = self.0[page as usize].lock().unwrap();
        u64::from_ne_bytes(bytes[place(writer)..place(writer) + 8].try_into().unwrap())
    }
}

fn place(writer: usize) -> usize {
    8 + writer * 2048
}

impl Pager for Store {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT | PagerOps::RESIZE
    }

    fn resize(&self, size: u64) -> Result<(), PagerError> {
        for page in &self.0[(size / PAGE_SIZE) as usize..] {
            page.lock().unwrap().fill(0);
        }
        Ok(())
    }

    fn max_run(&self) -> u32 {
        64
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.fill(i, &*self.0[(io.first().0 as usize) + i].lock().unwrap());
            io.page_done(i);
        }
        Answer::Done(Ok(()))
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.copy_to(i, &mut *self.0[(io.first().0 as usize) + i].lock().unwrap());
            io.page_done(i);
        }
        Answer::Done(Ok(()))
    }

    fn close(&self) -> Result<(), PagerError> {
        Ok(())
    }
}

/// A small generator: the order of accesses is random, and the same for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Writes `value` at an address as `read(2)` does. In-thread, a page that is not there has to be brought in first.
fn store_by_read(pipe: &mut (std::io::PipeReader, std::io::PipeWriter), at: *mut u8, value: u64) {
    pipe.1.write_all(&value.to_ne_bytes()).unwrap();
    loop {
        // SAFETY: eight bytes of the writer's own in a mapping.
        let to = unsafe { std::slice::from_raw_parts_mut(at, 8) };
        match pipe.0.read(to) {
            Ok(8) => return,
            Ok(n) => panic!("{n} bytes were read"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}");
                // SAFETY: as above. Brought in by a write of what is there.
                unsafe { at.write_volatile(at.read_volatile()) };
            }
        }
    }
}

/// What a writer writes to: the first `pages` pages of each object, through two mappings of it.
struct Target<'a> {
    mappings: &'a [[VirtAddr; 2]],
    pages: u64,
}

fn writer(number: usize, target: &Target<'_>, stop: &AtomicBool, seed: u64) -> (Vec<Vec<u64>>, u64) {
    let mut random = Random(seed);
    let mut shadow = vec![vec![0u64; target.pages as usize]; target.mappings.len()];
    let mut pipe = std::io::pipe().unwrap();
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let page = random.below(target.pages);
        let object = random.below(target.mappings.len() as u64) as usize;
        let base = target.mappings[object][random.below(2) as usize];
        let at = (base.0 + page * PAGE_SIZE) as usize as *mut u8;
        // SAFETY: in a mapping; the word is this writer's.
        unsafe {
            let word = at.add(place(number));
            let found = word.cast::<u64>().read_volatile();
            let last = &mut shadow[object][page as usize];
            assert_eq!(found, *last, "seed {seed}: writer {number} lost a write to page {page}");
            *last += 1;
            if number == 0 {
                store_by_read(&mut pipe, word, *last);
            } else {
                word.cast::<u64>().write_volatile(*last);
            }
        }
        writes += 1;
    }
    (shadow, writes)
}

/// What is hammered.
#[derive(Clone, Copy)]
struct Variant {
    serve: Serve,
    time: Duration,
    objects: usize,
    /// The second half of each object comes and goes.
    resized: bool,
}

/// Shrinks and grows an object, and writes where it may end any moment: what is lost there was cut off.
fn resize(map: &Map, object: &ObjectRef, at: VirtAddr, stop: &AtomicBool, seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let pages = PAGES / 2 + random.below(PAGES / 2 + 1);
        object.object().resize(pages * PAGE_SIZE).unwrap();
        for _ in 0..32 {
            let page = PAGES / 2 + random.below(PAGES / 2);
            let written = map.copy_in(VirtAddr(at.0 + page * PAGE_SIZE), &[1]);
            assert_eq!(
                written.is_ok(),
                page < pages,
                "seed {seed}: page {page} of {pages}: {written:?}"
            );
        }
        rounds += 1;
    }
    object.object().resize(PAGES * PAGE_SIZE).unwrap();
    rounds
}

fn evict(object: &ObjectRef, stop: &AtomicBool, seed: u64) {
    let mut random = Random(seed);
    while !stop.load(Ordering::Relaxed) {
        let first = random.below(PAGES - 64);
        let range = PageIndex(first)..PageIndex(first + 1 + random.below(64));
        object.object().put(range, PutFlags::CLEANIT | PutFlags::FREE).unwrap();
        std::thread::yield_now();
    }
}

fn hammer(variant: Variant) {
    let Variant { serve, time, .. } = variant;
    let seed = (0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()) << 20) | 1;
    let config = LinuxConfig {
        memory: PAGES / 4 * PAGE_SIZE,
        ..LinuxConfig::default()
    };
    let engine = Engine::new(LinuxMachine::new(Support::probe().unwrap(), config).unwrap());
    let range = AddrRange {
        start: VirtAddr(0x10000),
        end: VirtAddr(1 << 47),
    };
    let map = Arc::new(Map::new(engine.clone(), range).unwrap());
    let server = Server::start(map.clone()).unwrap();
    let stores: Vec<Store> = (0..variant.objects).map(|_| Store::new()).collect();
    let object = |store: &Store| {
        engine
            .create_object(Box::new(store.clone()), PAGES * PAGE_SIZE)
            .unwrap()
    };
    let objects: Vec<ObjectRef> = stores.iter().map(object).collect();
    let request = MapRequest {
        serve,
        ..MapRequest::read_write(PAGES * PAGE_SIZE)
    };
    let twice = |object: &ObjectRef| [(); 2].map(|()| map.map(object, &request).unwrap().start);
    let mappings: Vec<[VirtAddr; 2]> = objects.iter().map(twice).collect();
    let target = Target {
        mappings: &mappings,
        pages: if variant.resized { PAGES / 2 } else { PAGES },
    };
    let stop = AtomicBool::new(false);
    let shadows = std::thread::scope(|scope| {
        let (stop, target, map) = (&stop, &target, &map);
        let writers = [0, 1].map(|number| scope.spawn(move || writer(number, target, stop, seed + number as u64 * 2)));
        let mut others = Vec::new();
        for (object, [at, _]) in objects.iter().zip(&mappings) {
            others.push(scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    object.object().flush_all(FlushFlags::empty()).unwrap();
                }
            }));
            others.push(scope.spawn(move || evict(object, stop, seed ^ 0x55)));
            if variant.resized {
                others.push(scope.spawn(move || {
                    let rounds = resize(map, object, *at, stop, seed ^ 0xaa);
                    eprintln!("{serve:?}: {rounds} changes of size");
                }));
            }
        }
        let until = Instant::now() + time;
        let ended = |others: &[std::thread::ScopedJoinHandle<'_, ()>]| others.iter().any(|other| other.is_finished());
        while Instant::now() < until && !writers.iter().any(|writer| writer.is_finished()) && !ended(&others) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let shadows = writers.map(|writer| writer.join().expect("no write is lost"));
        for other in others {
            other.join().unwrap();
        }
        shadows
    });
    let counts = engine.stats().counts();
    map.clear().unwrap();
    server.stop(Duration::from_secs(10)).unwrap();
    for object in &objects {
        object.object().flush_all(FlushFlags::empty()).unwrap();
    }
    for (number, (shadow, writes)) in shadows.iter().enumerate() {
        eprintln!("{serve:?}: writer {number}: {writes} writes");
        for (store, shadow) in stores.iter().zip(shadow) {
            for (page, last) in shadow.iter().enumerate() {
                assert_eq!(
                    store.word(page as u64, number),
                    *last,
                    "seed {seed}: a write of writer {number} to page {page} is not in the store"
                );
            }
        }
    }
    eprintln!(
        "{serve:?}: {} faults, {} pages in, {} out",
        counts.faults, counts.pages_in, counts.pages_out
    );
    for object in objects {
        object.release().unwrap();
    }
    engine.shut_down().unwrap();
}

/// Seconds for each way to serve.
fn time() -> Duration {
    let seconds = std::env::var("QUIRE_HAMMER_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// One way to serve alone, and then with what else may happen meanwhile, for a sixth of the time each.
fn hammer_all(serve: Serve) {
    let alone = Variant {
        serve,
        time: time(),
        objects: 1,
        resized: false,
    };
    hammer(alone);
    hammer(Variant {
        time: time() / 6,
        objects: 2,
        ..alone
    });
    hammer(Variant {
        time: time() / 6,
        resized: true,
        ..alone
    });
}

#[test]
fn no_write_is_lost_where_threads_resolve_faults() {
    hammer_all(Serve::Threads);
}

#[test]
fn no_write_is_lost_where_threads_resolve_their_own() {
    hammer_all(Serve::InThread);
}
