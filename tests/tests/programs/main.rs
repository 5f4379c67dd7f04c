//! Random programs of everything that an object goes through in its life, against plain bytes: openings of the same things,
//! maps, accesses, flushes of all kinds, size changes by us and behind our back, ends, wirings, a daemon that squeezes, and a
//! pager that fails, leaves pages out and completes late and out of order. On every kind of soft machine, with very few frames.
//!
//! `QUIRE_PROGRAM=<seed>` runs one program alone; a failing one prints its seed. Which deferred request completes first is up
//! to the threads, so such a program may have to be run some times.

mod pagers;
mod thing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::{env, panic, thread};

use pagers::{Completer, Moods, all_ops, complete, twist};
use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::pagedaemon::Targets;
use quire_core::soft::SoftConfig;
use quire_core::types::{AddrRange, ByteOff, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Dice, Rig, Script, pattern};
use thing::Thing;

const PROGRAMS: u64 = 10_000;
const STEPS: u64 = 28;
const THINGS: usize = 2;
/// Pages of a thing when it is largest.
const PAGES: u64 = 10;
const LARGEST: usize = 10 * PAGE_BYTES;
/// Pages of address space of each map.
const SPACE: u64 = 16;
const BASE: u64 = 0x4000_0000;
/// Fewer than the pages of the things.
const FRAMES: u64 = 11;

/// Bytes to be written: each run of them differs from its neighbours.
static RAMP: [u8; 8192] = {
    let mut bytes = [0; 8192];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = (i % 251).to_le_bytes()[0];
        i += 1;
    }
    bytes
};

#[derive(Clone, Copy)]
struct Mapped {
    thing: usize,
    life: u32,
    index: u64,
    prot: Prot,
}

struct Program<'a> {
    dice: Dice,
    rig: Rig,
    maps: [Map; 2],
    mapped: [BTreeMap<u64, Mapped>; 2],
    things: Vec<Thing>,
    moods: Arc<Moods>,
    completer: &'a Completer,
    /// Handles of objects that were terminated.
    dead: Vec<ObjectRef>,
    openings: usize,
    wired: bool,
}

fn va(page: u64) -> VirtAddr {
    VirtAddr(BASE + page * PAGE_SIZE)
}

impl<'a> Program<'a> {
    fn new(seed: u64, completer: &'a Completer) -> Self {
        let mut dice = Dice(seed);
        let rig = Rig::new(SoftConfig {
            frames: FRAMES,
            reserve_daemon: 0,
            reserve_kernel: 0,
            ..SoftConfig::awkward_modes()[dice.below(8)]
        });
        let bounds = AddrRange {
            start: va(0),
            end: va(SPACE),
        };
        let maps = [(); 2].map(|()| Map::new(rig.engine.clone(), bounds).unwrap());
        let moods = Arc::new(Moods::default());
        let things = (0..THINGS)
            .map(|_| {
                let script = Script::default();
                let size = dice.roll(PAGES * PAGE_SIZE + 1);
                script.truncate(size);
                script.defer_to(completer.to.clone());
                let (moods, open) = (moods.clone(), completer.open.clone());
                let mut pager_dice = Dice(dice.roll(u64::MAX));
                script.choose(move |direction| twist(&moods, &mut pager_dice, &open, direction));
                let around = (dice.below(4), dice.below(4));
                script.offers(
                    u32::try_from(around.0).unwrap_or(0),
                    u32::try_from(around.1).unwrap_or(0),
                );
                let mut thing = Thing {
                    script,
                    handles: Vec::new(),
                    life: 0,
                    bytes: (0..PAGES).flat_map(pattern).collect(),
                    size: PAGES * PAGE_SIZE,
                    bad: false,
                    sync_fails: false,
                };
                thing.resized(size);
                thing
            })
            .collect();
        Self {
            dice,
            rig,
            maps,
            mapped: Default::default(),
            things,
            moods,
            completer,
            dead: Vec::new(),
            openings: 0,
            wired: false,
        }
    }

    fn step(&mut self) {
        let (thing, map) = (self.dice.below(THINGS), self.dice.below(2));
        match self.dice.roll(64) {
            0..6 => self.attach(thing),
            6..8 => self.let_go(thing),
            8..15 => self.map(thing, map),
            15..17 => self.unmap(map),
            17..19 => self.protect(map),
            19..28 => self.write(map),
            28..36 => self.read(map),
            36..39 => self.flush(thing),
            39..42 => self.put(thing),
            42..45 => self.resize(thing),
            45 => self.change_behind(thing),
            46 => self.terminate(thing),
            47 => self.uncache(thing),
            48..50 => self.wire(map),
            50..54 => self.squeeze(),
            54 => self.sync(),
            55 => self.rig.engine.set_cache_limit(self.dice.below(3)),
            _ => self.change_moods(thing),
        }
    }

    /// Whether pages may rightly fail to be written.
    fn may_not_write(&self) -> bool {
        self.moods.failing_puts.load(Ordering::Relaxed) > 0
            || self.moods.deferring.load(Ordering::Relaxed) > 0
            || self.things.iter().any(|thing| thing.bad)
    }

    fn excuse(&self, error: &Error) {
        let excused = match error {
            // Also for a sync that is owed before an object ends.
            Error::WriteBack { .. } | Error::Pager(_) => {
                self.may_not_write() || self.things.iter().any(|thing| thing.sync_fails)
            }
            Error::NoMemory => self.may_not_write() || self.wired,
            _ => false,
        };
        assert!(excused, "nothing was done that makes this right: {error}");
    }

    fn excuse_any<T>(&self, answer: Result<T, Error>) {
        if let Err(error) = answer {
            self.excuse(&error);
        }
    }

    fn change_moods(&mut self, thing: usize) {
        let rate = if self.dice.one_in(2) {
            0
        } else {
            u32::try_from(self.dice.roll(12)).unwrap_or(0)
        };
        match self.dice.roll(5) {
            0 => self.moods.failing_gets.store(rate, Ordering::Relaxed),
            1 => self.moods.failing_puts.store(rate, Ordering::Relaxed),
            2 => self.moods.deferring.store(rate, Ordering::Relaxed),
            3 => {
                let bad = (rate > 0).then(|| self.dice.roll(PAGES));
                self.things[thing].bad = bad.is_some();
                self.things[thing].script.bad_pages(bad);
            }
            _ => {
                self.things[thing].sync_fails = rate > 0;
                let cause = (rate > 0).then_some(Cause::Errno(5));
                self.things[thing].script.sync_fails(cause);
            }
        }
    }

    /// The pagers do as they are asked, and owe nothing.
    fn behave(&mut self) {
        for mood in [
            &self.moods.failing_gets,
            &self.moods.failing_puts,
            &self.moods.deferring,
        ] {
            mood.store(0, Ordering::Relaxed);
        }
        for thing in &mut self.things {
            (thing.bad, thing.sync_fails) = (false, false);
            thing.script.bad_pages([]);
            thing.script.sync_fails(None);
        }
        while self.completer.open.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }

    fn attach(&mut self, i: usize) {
        let thing = &mut self.things[i];
        let object = self.rig.engine.attach(Opening {
            pager: thing.script.again(all_ops()),
            source: 1,
            identity: Some([0, i as u64]),
            size: thing.script.size(),
            change: None,
        });
        self.openings += 1;
        let object = object.unwrap();
        assert_eq!(object.size(), thing.size);
        if let Some(other) = thing.handles.first() {
            assert_eq!(object.id(), other.id(), "the same thing is the same object");
        }
        thing.handles.push(object);
    }

    fn let_go(&mut self, thing: usize) {
        if self.dice.one_in(2) {
            self.dead.pop();
        }
        if let Some(handle) = self.things[thing].handles.pop() {
            let answer = handle.release();
            self.excuse_any(answer);
        }
    }

    fn map(&mut self, i: usize, map: usize) {
        if self.things[i].handles.is_empty() {
            self.attach(i);
        }
        let (offset, len) = (self.dice.roll(PAGES), 1 + self.dice.roll(8));
        let at = self.dice.roll(SPACE - len + 1);
        let prot = if self.dice.one_in(4) {
            Prot::READ
        } else {
            Prot::READ | Prot::WRITE
        };
        let request = MapRequest {
            place: Place::Fixed(va(at)),
            offset: ByteOff(offset * PAGE_SIZE),
            prot,
            ..MapRequest::read_write(len * PAGE_SIZE)
        };
        let thing = &self.things[i];
        let answer = self.maps[map].map(&thing.handles[0], &request);
        let life = thing.life;
        self.excuse_any(answer);
        for page in 0..len {
            let mapped = Mapped {
                thing: i,
                life,
                index: offset + page,
                prot,
            };
            self.mapped[map].insert(at + page, mapped);
        }
    }

    fn range(&mut self) -> (u64, u64) {
        let len = 1 + self.dice.roll(6);
        (self.dice.roll(SPACE - len + 1), len)
    }

    fn unmap(&mut self, map: usize) {
        let (at, len) = self.range();
        let answer = self.maps[map].unmap(va(at), len * PAGE_SIZE);
        self.excuse_any(answer);
        self.mapped[map].retain(|page, _| !(at..at + len).contains(page));
    }

    fn protect(&mut self, map: usize) {
        let (at, len) = self.range();
        let prot = [Prot::empty(), Prot::READ, Prot::READ | Prot::WRITE][self.dice.below(3)];
        let answer = self.maps[map].protect(va(at), len * PAGE_SIZE, prot);
        let whole = (at..at + len).all(|page| self.mapped[map].contains_key(&page));
        assert_eq!(answer.is_ok(), whole, "{answer:?}");
        if whole {
            for (_, mapped) in self.mapped[map].range_mut(at..at + len) {
                mapped.prot = prot;
            }
        }
    }

    fn wire(&mut self, map: usize) {
        let at = self.dice.roll(SPACE - 1);
        let len = (1 + self.dice.roll(2)) * PAGE_SIZE;
        if self.dice.one_in(2) {
            self.wired |= self.maps[map].wire(va(at), len).is_ok();
        } else {
            // Most of the time nothing is wired there, and it is refused.
            let _ = self.maps[map].unwire(va(at), len);
        }
    }

    /// The pieces of an access, page by page: the page's place in a thing, or nothing where it must fail.
    fn piece(&self, map: usize, at: u64, needs: Prot) -> Option<(usize, usize)> {
        let mapped = self.mapped[map].get(&(at / PAGE_SIZE))?;
        let thing = &self.things[mapped.thing];
        let there = mapped.prot.contains(needs) && mapped.life == thing.life && mapped.index < thing.pages();
        let offset = mapped.index * PAGE_SIZE + at % PAGE_SIZE;
        there.then(|| (mapped.thing, usize::try_from(offset).expect("an offset")))
    }

    fn spans(at: u64, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let in_page = ByteOff(at + from as u64).in_page();
            let span = (from, (PAGE_BYTES - in_page).min(len - from));
            from += span.1;
            (span.1 > 0).then_some(span)
        })
    }

    fn write(&mut self, map: usize) {
        let (at, len) = (self.dice.roll(SPACE * PAGE_SIZE), 1 + self.dice.below(6000));
        let first = self.dice.below(256);
        let bytes = &RAMP[first..first + len];
        let there = VirtAddr(BASE + at);
        let answer = if self.dice.one_in(2) {
            self.maps[map].store(there, bytes)
        } else {
            self.maps[map].copy_in(there, bytes)
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| len);
        for (from, len) in Self::spans(at, done) {
            let (thing, offset) = self
                .piece(map, at + from as u64, Prot::WRITE)
                .expect("an access that had to fail went through");
            let thing = &mut self.things[thing];
            // What is stored behind the end is lost at any time.
            let end = (offset + len).min(thing.live()).max(offset);
            thing.bytes[offset..end].copy_from_slice(&bytes[from..from + end - offset]);
        }
        if let Err(stopped) = answer {
            self.check_stop(map, at + done as u64, Prot::WRITE, &stopped.error);
        }
    }

    fn read(&mut self, map: usize) {
        let (at, len) = (self.dice.roll(SPACE * PAGE_SIZE), 1 + self.dice.below(9000));
        let mut bytes = vec![0xcc; len];
        let there = VirtAddr(BASE + at);
        let answer = if self.dice.one_in(2) {
            self.maps[map].load(there, &mut bytes)
        } else {
            self.maps[map].copy_out(there, &mut bytes)
        };
        let done = answer.as_ref().map_or_else(|stopped| stopped.done, |()| len);
        for (from, len) in Self::spans(at, done) {
            let (i, offset) = self
                .piece(map, at + from as u64, Prot::READ)
                .expect("an access that had to fail went through");
            let thing = &self.things[i];
            let end = (offset + len).min(thing.live()).max(offset);
            let seen = &bytes[from..from + end - offset];
            assert!(
                *seen == thing.bytes[offset..end],
                "bytes {offset}..{end} of thing {i}, of {}, read wrong",
                thing.size
            );
        }
        if let Err(stopped) = answer {
            self.check_stop(map, at + done as u64, Prot::READ, &stopped.error);
        }
    }

    /// An access stopped: rightly so, and for the right reason?
    fn check_stop(&self, map: usize, at: u64, needs: Prot, error: &FaultError) {
        let failing = self.moods.failing_gets.load(Ordering::Relaxed) > 0;
        let expected = match self.mapped[map].get(&(at / PAGE_SIZE)) {
            None => matches!(error, FaultError::NotMapped(_)),
            Some(mapped) if !mapped.prot.contains(needs) => matches!(error, FaultError::Denied(_)),
            Some(mapped) if mapped.life != self.things[mapped.thing].life => {
                matches!(
                    error,
                    FaultError::BeyondObject(_) | FaultError::Quarantined(_) | FaultError::Terminated
                )
            }
            Some(mapped) if mapped.index >= self.things[mapped.thing].pages() => {
                matches!(error, FaultError::BeyondObject(_))
            }
            Some(mapped) => match error {
                FaultError::Pager { .. } => {
                    failing || self.things[mapped.thing].bad || self.moods.deferring.load(Ordering::Relaxed) > 0
                }
                FaultError::NoMemory => self.may_not_write() || self.wired,
                _ => false,
            },
        };
        assert!(expected, "stopped at page {} with: {error}", at / PAGE_SIZE);
    }

    fn flush(&mut self, i: usize) {
        let flags = [FlushFlags::empty(), FlushFlags::DURABLE][self.dice.below(2)];
        let Some(handle) = self.things[i].handles.first() else {
            return;
        };
        let answer = if self.dice.one_in(2) {
            let from = self.dice.roll(PAGES);
            let part = PageIndex(from)..PageIndex(from + self.dice.roll(5));
            handle.object().flush(part, flags)
        } else {
            let all = handle.object().flush_all(flags);
            if all.is_ok() {
                self.things[i].check_stored();
            }
            all
        };
        self.excuse_any(answer);
    }

    fn put(&mut self, i: usize) {
        let bits = u32::try_from(self.dice.roll(32)).unwrap_or(0);
        let flags = PutFlags::from_bits_truncate(bits);
        let Some(handle) = self.things[i].handles.first() else {
            return;
        };
        let discards = flags.contains(PutFlags::FREE)
            && !flags.intersects(PutFlags::CLEANIT | PutFlags::DEACTIVATE)
            && handle.object().flush_all(FlushFlags::empty()).is_err();
        if discards {
            return;
        }
        let from = self.dice.roll(PAGES);
        let part = PageIndex(from)..PageIndex(from + self.dice.roll(5));
        let answer = handle.object().put(part, flags);
        self.excuse_any(answer);
    }

    fn resize(&mut self, i: usize) {
        let size = self.dice.roll(PAGES * PAGE_SIZE + 1);
        let fails = self.dice.one_in(4);
        let thing = &mut self.things[i];
        let Some(handle) = thing.handles.first() else {
            return;
        };
        thing.script.resize_fails(fails.then_some(Cause::Errno(28)));
        let answer = handle.object().resize(size);
        assert_eq!(answer.is_err(), fails, "{answer:?}");
        if !fails {
            thing.resized(size);
        }
        assert_eq!(thing.handles[0].size(), thing.size);
    }

    /// Somebody else changes the thing's size, and we hear of it.
    fn change_behind(&mut self, i: usize) {
        self.behave();
        self.rig.engine.sync(FlushFlags::empty()).unwrap();
        let size = self.dice.roll(PAGES * PAGE_SIZE + 1);
        if self.things[i].handles.is_empty() {
            self.attach(i);
        }
        let thing = &mut self.things[i];
        thing.script.truncate(size);
        assert_eq!(thing.handles[0].object().refresh_size(), Ok(size));
        thing.resized(size);
    }

    fn terminate(&mut self, i: usize) {
        let dirty = [Dirty::Write, Dirty::Discard][self.dice.below(2)];
        let Some(handle) = self.things[i].handles.first() else {
            return;
        };
        match handle.object().terminate(dirty) {
            Ok(()) => {
                let thing = &mut self.things[i];
                if dirty == Dirty::Write {
                    thing.check_stored();
                }
                let (stored, live) = (thing.stored(), thing.live());
                thing.bytes[..live].copy_from_slice(&stored[..live]);
                thing.life += 1;
                self.dead.append(&mut thing.handles);
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn uncache(&mut self, i: usize) {
        let answer = self.rig.engine.uncache(1, [0, i as u64]);
        self.excuse_any(answer);
    }

    fn squeeze(&mut self) {
        let free_target = 1 + self.dice.roll(FRAMES);
        self.rig.engine.set_daemon_targets(Targets {
            free_min: 1,
            free_target,
            free_enough: free_target,
        });
        let step = self.rig.engine.daemon_step();
        assert!(step.failed == 0 || self.may_not_write(), "{step:?}");
    }

    fn sync(&mut self) {
        let flags = [FlushFlags::empty(), FlushFlags::DURABLE][self.dice.below(2)];
        let answer = self.rig.engine.sync(flags);
        if answer.is_ok() {
            self.things.iter().for_each(Thing::check_stored);
        }
        self.excuse_any(answer);
    }

    fn end(mut self) {
        self.behave();
        self.rig.engine.sync(FlushFlags::DURABLE).unwrap();
        for thing in &mut self.things {
            thing.check_stored();
            thing.handles.clear();
        }
        self.dead.clear();
        for map in self.maps {
            map.clear().unwrap();
        }
        self.rig.assert_nothing_left();
        let calls = self.things.iter().flat_map(|thing| thing.script.calls());
        let closes = calls.filter(|call| *call == Call::Close).count();
        assert_eq!(closes, self.openings, "every opening is closed once");
        self.things.iter().for_each(Thing::check_stored);
    }
}

fn run(seed: u64, completer: &Completer) {
    let mut program = Program::new(seed, completer);
    for _ in 0..STEPS {
        program.step();
    }
    program.end();
}

/// The programs of these seeds, one after the other; the first that fails says its seed.
fn run_all(seeds: impl Iterator<Item = u64>, failed: &Mutex<Option<u64>>) {
    let (to, from) = channel();
    let open = Arc::new(AtomicUsize::new(0));
    let completer = Completer { to, open: open.clone() };
    // It ends when the last pager does, which after a failure may be never.
    thread::spawn(move || complete(&from, &open));
    for seed in seeds {
        if failed.lock().unwrap().is_some() {
            break;
        }
        let answer = panic::catch_unwind(panic::AssertUnwindSafe(|| run(seed, &completer)));
        if answer.is_err() {
            eprintln!("the program of seed {seed} failed; run it alone with QUIRE_PROGRAM={seed}");
            *failed.lock().unwrap() = Some(seed);
        }
    }
}

#[test]
fn ten_thousand_random_programs_do_what_plain_bytes_do() {
    assert_eq!(LARGEST as u64, PAGES * PAGE_SIZE);
    let failed = Mutex::new(None);
    if let Ok(seed) = env::var("QUIRE_PROGRAM") {
        let seed = seed.parse().expect("QUIRE_PROGRAM is a number");
        run_all(std::iter::once(seed), &failed);
    } else {
        let first = u64::from(std::process::id()) * PROGRAMS;
        eprintln!("seeds {first}..{}", first + PROGRAMS);
        let (half, end) = (first + PROGRAMS / 2, first + PROGRAMS);
        thread::scope(|scope| {
            scope.spawn(|| run_all(first..half, &failed));
            scope.spawn(|| run_all(half..end, &failed));
        });
    }
    assert_eq!(*failed.lock().unwrap(), None, "the seed of a program that failed");
}
