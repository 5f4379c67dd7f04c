//! Pagers that fail, leave pages out and complete late and out of order, while several threads fault, write, flush, change
//! sizes, attach, detach and terminate. On every machine, with few frames, with and without the daemon's thread.
//!
//! Each thread has bytes of its own, in every page of the things that all share, and in a thing whose size only it changes. It
//! knows what must be in them. Nothing may be lost, nothing may hang, and everything is given back.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::{process, thread};

use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::io::Io;
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::PagerOps;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr, pages_of};
use quire_tests::{Call, Dice, Mode, Rig, Script, ServedMap, Twist, pattern, watch};

const WORKERS: usize = 3;
const ROUNDS: u64 = 240;
const SHARED: usize = 2;
const PAGES: u64 = 12;
const BYTES: usize = 12 * PAGE_BYTES;
const FRAMES: u64 = 20;
/// Of each page of a shared thing, the bytes that belong to one thread.
const STRIPE: usize = PAGE_BYTES / WORKERS;

/// What all threads see.
struct World {
    rig: Rig,
    /// The shared things, and one of each thread.
    things: Vec<Script>,
    openings: AtomicUsize,
    accesses: AtomicU64,
    /// Handles of the threads' own things, for others to disturb.
    lent: Mutex<Vec<ObjectRef>>,
}

/// What one thread knows.
struct Worker<'a> {
    world: &'a World,
    dice: Dice,
    number: usize,
    map: ServedMap,
    /// Of each shared thing all bytes; only its own ones mean anything.
    shared: Vec<Vec<u8>>,
    own: Vec<u8>,
    own_size: u64,
}

fn ops() -> PagerOps {
    PagerOps::PUT | PagerOps::SYNC | PagerOps::RESIZE | PagerOps::HAS_PAGE | PagerOps::ASYNC
}

fn untouched() -> Vec<u8> {
    (0..PAGES).flat_map(pattern).collect()
}

/// An answer that a thread must be ready for, with pagers and neighbours like these.
fn expected(error: &Error) -> bool {
    matches!(
        error,
        Error::WriteBack { .. } | Error::Pager(_) | Error::NoMemory | Error::Invalid(_)
    )
}

fn accept<T>(answer: Result<T, Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => {
            assert!(expected(&error), "{error}");
            false
        }
    }
}

impl<'a> Worker<'a> {
    fn new(world: &'a World, number: usize, seed: u64) -> Self {
        Self {
            world,
            dice: Dice(seed),
            number,
            map: world.rig.another_map(),
            shared: vec![untouched(); SHARED],
            own: untouched(),
            own_size: PAGES * PAGE_SIZE,
        }
    }

    fn attach(&self, thing: usize) -> Option<ObjectRef> {
        let script = &self.world.things[thing];
        self.world.openings.fetch_add(1, Ordering::Relaxed);
        let object = self.world.rig.engine.attach(Opening {
            pager: script.again(ops()),
            source: 1,
            identity: Some([7, thing as u64]),
            size: script.size(),
            change: None,
        });
        object.ok()
    }

    /// Opens a thing, works with it for a while, and lets go of it.
    fn round(&mut self) {
        let own = self.dice.one_in(3);
        let thing = if own {
            SHARED + self.number
        } else {
            self.dice.below(SHARED)
        };
        let Some(object) = self.attach(thing) else { return };
        let request = MapRequest::read_write(PAGES * PAGE_SIZE);
        // Somebody may have terminated it already.
        let Ok(range) = self.map.map(&object, &request) else {
            return;
        };
        if own {
            self.world.lent.lock().unwrap().push(object.clone());
        }
        for _ in 0..12 {
            match self.dice.roll(16) {
                0..5 => self.access(thing, range.start, true),
                5..10 => self.access(thing, range.start, false),
                10 | 11 => self.disturb(&object),
                12 if own => self.resize(&object),
                13 => {
                    let lent = self.world.lent.lock().unwrap().pop();
                    if let Some(other) = lent {
                        self.disturb(&other);
                        accept(other.release());
                    }
                }
                14 if self.dice.one_in(4) => {
                    accept(self.world.rig.engine.sync(FlushFlags::DURABLE));
                }
                15 => drop(self.world.rig.engine.daemon_step()),
                _ => {
                    let fails = self.dice.one_in(2).then_some(Cause::Errno(28));
                    let script = &self.world.things[thing];
                    if self.dice.one_in(2) {
                        script.sync_fails(fails);
                    } else {
                        script.resize_fails(fails);
                    }
                }
            }
        }
        if self.dice.one_in(2) {
            accept(object.release());
            accept(self.map.clear());
        } else {
            accept(self.map.clear());
            accept(object.release());
        }
    }

    /// Flushes it in some way, or takes it from everybody.
    fn disturb(&mut self, object: &ObjectRef) {
        let from = self.dice.roll(PAGES);
        let part = PageIndex(from)..PageIndex(from + self.dice.roll(6));
        let object = object.object();
        match self.dice.roll(8) {
            0 => drop(accept(object.terminate(Dirty::Write))),
            1 => drop(accept(object.put(part, PutFlags::CLEANIT | PutFlags::FREE))),
            2 => drop(accept(object.put(part, PutFlags::CLEANIT | PutFlags::DEACTIVATE))),
            3 => drop(accept(object.uncache())),
            4 => drop(accept(object.flush_all(FlushFlags::DURABLE))),
            _ => drop(accept(object.flush(part, FlushFlags::empty()))),
        }
    }

    fn resize(&mut self, object: &ObjectRef) {
        let size = self.dice.roll(PAGES * PAGE_SIZE + 1);
        if !accept(object.object().resize(size)) {
            return;
        }
        let end = usize::try_from(size).expect("a size");
        let cut = usize::try_from(pages_of(size)).expect("pages") * PAGE_BYTES;
        self.own[end..cut].fill(0);
        if size < self.own_size {
            let gone: Vec<u8> = (pages_of(size)..PAGES).flat_map(pattern).collect();
            self.own[cut..].copy_from_slice(&gone);
        }
        self.own_size = size;
    }

    /// Some bytes, within a page, that are this thread's: from where, how many.
    fn place(&mut self, thing: usize) -> Option<(usize, usize)> {
        if thing < SHARED {
            let page = self.dice.below(BYTES / PAGE_BYTES) * PAGE_BYTES;
            let from = self.dice.below(STRIPE);
            let len = 1 + self.dice.below(STRIPE - from);
            return Some((page + self.number * STRIPE + from, len));
        }
        let size = usize::try_from(self.own_size).expect("a size");
        let from = (size > 0).then(|| self.dice.below(size))?;
        Some((from, (1 + self.dice.below(PAGE_BYTES)).min(size - from)))
    }

    fn access(&mut self, thing: usize, start: VirtAddr, write: bool) {
        let Some((from, len)) = self.place(thing) else { return };
        let va = VirtAddr(start.0 + from as u64);
        let mut bytes = vec![self.dice.roll(256).to_le_bytes()[0]; len];
        let as_cpu = self.dice.one_in(2);
        let answer = match (write, as_cpu) {
            (true, true) => self.map.store(va, &bytes),
            (true, false) => self.map.copy_in(va, &bytes),
            (false, true) => self.map.load(va, &mut bytes),
            (false, false) => self.map.copy_out(va, &mut bytes),
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| len);
        let known = if thing < SHARED {
            &mut self.shared[thing]
        } else {
            &mut self.own
        };
        let known = &mut known[from..from + done];
        if write {
            known.copy_from_slice(&bytes[..done]);
        } else {
            assert!(*known == bytes[..done], "bytes from {from} of thing {thing} read wrong");
        }
        match answer {
            Ok(()) => drop(self.world.accesses.fetch_add(1, Ordering::Relaxed)),
            Err(stopped) => assert!(
                !matches!(stopped.error, FaultError::NotMapped(_) | FaultError::Denied(_)),
                "{}",
                stopped.error
            ),
        }
    }

    /// Everything that it wrote is at the pagers.
    fn check(&self) {
        let stored =
            |thing: usize| -> Vec<u8> { (0..PAGES).flat_map(|i| self.world.things[thing].stored(i)).collect() };
        for (i, known) in self.shared.iter().enumerate() {
            let stored = stored(i);
            for page in 0..BYTES / PAGE_BYTES {
                let from = page * PAGE_BYTES + self.number * STRIPE;
                let same = stored[from..from + STRIPE] == known[from..from + STRIPE];
                assert!(same, "page {page} of thing {i} lost bytes of thread {}", self.number);
            }
        }
        let size = usize::try_from(self.own_size).expect("a size");
        let own = stored(SHARED + self.number);
        assert!(own[..size] == self.own[..size], "thread {}'s own thing", self.number);
    }
}

/// Completes what is deferred, in any order, until nobody can defer any more.
fn complete(from: &Receiver<(Script, Arc<Io>)>, seed: u64) {
    let mut dice = Dice(seed);
    while let Ok(first) = from.recv() {
        let mut waiting = vec![first];
        while !waiting.is_empty() {
            waiting.extend(from.try_iter());
            let (script, io) = waiting.swap_remove(dice.below(waiting.len()));
            match dice.roll(12) {
                0 => script.fail(&io, Cause::Io),
                1 => script.fail(&io, Cause::Errno(28)),
                _ => script.settle(&io),
            }
        }
    }
}

fn run(mode: Mode, daemon_thread: bool, seed: u64) {
    let options = EngineOptions {
        daemon_thread,
        ..EngineOptions::default()
    };
    let rig = Rig::with_options(mode.with_frames(FRAMES, 0), &options);
    let _watch = watch(&rig.engine);
    let calm = Arc::new(AtomicBool::new(false));
    let (to, from) = channel();
    let mut dice = Dice(seed);
    let things: Vec<_> = (0..SHARED + WORKERS)
        .map(|_| {
            let script = Script::default();
            script.truncate(PAGES * PAGE_SIZE);
            script.defer_to(to.clone());
            script.offers(2, 2);
            script.bad_pages([dice.roll(PAGES)]);
            let (calm, mut dice) = (calm.clone(), Dice(dice.roll(u64::MAX)));
            script.choose(move |_| match dice.roll(12) {
                _ if calm.load(Ordering::Acquire) => Twist::Obey,
                0 => Twist::Fail(Cause::Errno(28)),
                1..5 => Twist::Defer,
                _ => Twist::Obey,
            });
            script
        })
        .collect();
    drop(to);
    thread::spawn(move || complete(&from, seed));
    let world = World {
        rig,
        things,
        openings: AtomicUsize::new(0),
        accesses: AtomicU64::new(0),
        lent: Mutex::new(Vec::new()),
    };
    let workers: Vec<_> = thread::scope(|scope| {
        let work = |number: usize| {
            let mut worker = Worker::new(&world, number, seed + number as u64);
            (0..ROUNDS).for_each(|_| worker.round());
            worker
        };
        let threads: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || work(number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread failed"))
            .collect()
    });
    calm.store(true, Ordering::Release);
    for script in &world.things {
        script.bad_pages([]);
        script.sync_fails(None);
    }
    world.lent.lock().unwrap().clear();
    for worker in &workers {
        worker.map.clear().unwrap();
    }
    world.rig.engine.sync(FlushFlags::DURABLE).unwrap();
    workers.iter().for_each(Worker::check);
    drop(workers);
    end(world, seed);
}

/// Nothing is left open or taken.
fn end(world: World, seed: u64) {
    world.rig.assert_nothing_left();
    let calls = world.things.iter().flat_map(Script::calls);
    let closes = calls.filter(|call| *call == Call::Close).count();
    assert_eq!(
        closes,
        world.openings.load(Ordering::Relaxed),
        "every opening is closed once"
    );
    let accesses = world.accesses.load(Ordering::Relaxed);
    assert!(accesses > ROUNDS, "only {accesses} accesses went through");
    eprintln!("seed {seed}: {accesses} accesses, {closes} openings");
}

#[test]
fn nothing_is_lost_and_nothing_hangs_whatever_the_pagers_do() {
    let first = u64::from(process::id());
    for (i, mode) in Mode::all().into_iter().enumerate() {
        for daemon_thread in [false, true] {
            eprintln!("{mode:?}, daemon's thread: {daemon_thread}");
            run(mode, daemon_thread, first * 16 + i as u64);
        }
    }
}
