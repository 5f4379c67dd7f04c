//! Pagers that come back into the engine from inside an operation, also when memory is short. On every kind of soft machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use quire_core::error::{Cause, FaultError, PagerError};
use quire_core::flush::FlushFlags;
use quire_core::io::Io;
use quire_core::map::{Map, MapRequest};
use quire_core::object::Object;
use quire_core::pagedaemon::EngineOptions;
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Mode, Rig, Script, ServedMap, in_all_modes, page_at, watch};

#[test]
fn s109_a_pager_may_come_back_into_the_engine_from_any_operation() {
    in_all_modes(|rig| {
        let rig = Arc::new(rig);
        let pager = Reentrant {
            rig: Arc::downgrade(&rig),
            at: OnceLock::new(),
        };
        let at = Arc::new(pager);
        let object = rig
            .engine
            .create_object(Box::new(Forward(at.clone())), 4 * PAGE_SIZE)
            .unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        at.at.set((Arc::downgrade(object.object()), va)).unwrap();
        rig.map.store(va, &[1]).unwrap();
        object.object().flush_all(Default::default()).unwrap();
        drop(object);
        Arc::into_inner(rig).unwrap().assert_nothing_left();
    });
}

/// A pager that uses the map and the object it serves while it serves them: with any lock held, it would not come back.
#[derive(Debug)]
struct Reentrant {
    rig: Weak<Rig>,
    at: OnceLock<(Weak<Object>, VirtAddr)>,
}

#[derive(Debug)]
struct Forward(Arc<Reentrant>);

impl Reentrant {
    fn use_everything(&self) {
        let (rig, (object, va)) = (self.rig.upgrade().unwrap(), self.at.get().unwrap());
        let object = object.upgrade().unwrap();
        assert!(object.resident() > 0 && object.lookup(PageIndex(3)).is_none());
        rig.map.protect(page_at(*va, 3), PAGE_SIZE, Prot::READ).unwrap();
        let (_, other, other_va) = rig.mapped(1);
        let _ = rig.load_page(other_va);
        rig.map.unmap(other_va, PAGE_SIZE).unwrap();
        other.release().unwrap();
    }
}

impl Pager for Forward {
    fn describe(&self) -> String {
        "a pager that comes back".to_owned()
    }
    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }
    fn max_run(&self) -> u32 {
        8
    }
    fn get(&self, io: &Arc<Io>) -> Answer {
        self.0.use_everything();
        (0..io.len()).for_each(|i| io.fill(i, &[]));
        Answer::Done(Ok(()))
    }
    fn put(&self, io: &Arc<Io>) -> Answer {
        self.0.use_everything();
        (0..io.len()).for_each(|i| io.page_done(i));
        Answer::Done(Ok(()))
    }
}

/// Memory that is full of dirty pages: all frames but those in reserve.
fn full(mode: Mode, reserve: u64) -> Rig {
    Rig::new(mode.with_frames(4 + reserve, reserve))
}

/// Writes when every page in memory is being written, to a pager that needs another one for it: what it got, and the rescues.
fn write_everything_to_a_pager_that_reads(
    rig: Rig,
    write: impl Fn(&Rig, &Arc<Object>),
) -> (Vec<Option<FaultError>>, u64) {
    let _watch = watch(&rig.engine);
    let rig = Arc::new(rig);
    let (_script, other, other_va) = rig.mapped(1);
    let (script, object, va) = rig.mapped(4);
    for i in 0..4 {
        rig.map.store(page_at(va, i), &[0xd2]).unwrap();
    }
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (weak, told) = (Arc::downgrade(&rig), answers.clone());
    script.before_puts(move || {
        let rig = weak.upgrade().unwrap();
        let answer = rig.map.copy_out(other_va, &mut [0]);
        told.lock().unwrap().push(answer.err().map(|stopped| stopped.error));
    });
    write(&rig, object.object());
    assert!((0..4).all(|i| script.stored(i)[0] == 0xd2));
    script.before_puts(|| {});
    let rescues = rig.engine.daemon_counts().rescues;
    drop((object, other, script));
    Arc::into_inner(rig).unwrap().assert_nothing_left();
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    (answers, rescues)
}

#[test]
fn a_pager_that_needs_memory_when_all_of_it_is_being_written_gets_an_answer() {
    for mode in Mode::exact() {
        let (answers, rescues) = write_everything_to_a_pager_that_reads(full(mode, 0), |_, object| {
            object.flush_all(FlushFlags::empty()).unwrap();
        });
        assert_eq!((answers, rescues), (vec![Some(FaultError::NoMemory)], 0), "{mode:?}");
    }
}

#[test]
fn s190_a_pager_that_needs_memory_so_that_the_daemon_can_write_has_the_reserve() {
    for mode in Mode::exact() {
        let (answers, rescues) = write_everything_to_a_pager_that_reads(full(mode, 2), |rig, _| {
            rig.want_all_free();
            while rig.engine.daemon_counts().washed < 4 {
                rig.engine.daemon_step();
            }
        });
        assert_eq!((answers, rescues), (vec![None], 1), "{mode:?}");
    }
}

/// A pager that keeps its bytes in another object of the same engine, through a map.
#[derive(Debug)]
struct Stacked {
    map: Weak<ServedMap>,
    lower: VirtAddr,
    refused: Arc<AtomicU64>,
}

impl Stacked {
    fn each_page(&self, io: &Io, mut mv: impl FnMut(&Map, VirtAddr, usize) -> bool) -> Answer {
        let map = self.map.upgrade().expect("the map outlives its objects");
        for i in 0..io.len() {
            if !mv(&map, page_at(self.lower, io.first().0 + i as u64), i) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let error = PagerError::new(Cause::NoMemory, format_args!("the lower object has no memory"));
                return Answer::Done(Err(error));
            }
        }
        Answer::Done(Ok(()))
    }
}

impl Pager for Stacked {
    fn describe(&self) -> String {
        "a pager on another object".to_owned()
    }
    fn ops(&self) -> PagerOps {
        PagerOps::PUT
    }
    fn max_run(&self) -> u32 {
        4
    }
    fn get(&self, io: &Arc<Io>) -> Answer {
        self.each_page(io, |map, va, i| {
            let mut bytes = [0; PAGE_BYTES];
            let got = map.copy_out(va, &mut bytes).is_ok();
            if got {
                io.fill(i, &bytes);
            }
            got
        })
    }
    fn put(&self, io: &Arc<Io>) -> Answer {
        self.each_page(io, |map, va, i| {
            let mut bytes = [0; PAGE_BYTES];
            io.copy_to(i, &mut bytes);
            let put = map.copy_in(va, &bytes).is_ok();
            if put {
                io.page_done(i);
            }
            put
        })
    }
}

const STACKED: u64 = 24;
const THREADS: u64 = 3;
const ROUNDS: u64 = 120;

/// Threads write more than there is memory for, to an object whose pager writes to another one of the same engine.
fn press(mode: Mode, daemon_thread: bool) {
    let options = EngineOptions {
        daemon_thread,
        ..EngineOptions::default()
    };
    let rig = Rig::with_options(mode.with_frames(14, 4), &options);
    let engine = &rig.engine;
    let _watch = watch(engine);
    let map = Arc::new(rig.another_map());
    let (script, store) = Script::new();
    let lower = engine.create_object(store, STACKED * PAGE_SIZE).unwrap();
    let request = MapRequest::read_write(STACKED * PAGE_SIZE);
    let refused = Arc::new(AtomicU64::new(0));
    let pager = Stacked {
        map: Arc::downgrade(&map),
        lower: map.map(&lower, &request).unwrap().start,
        refused: refused.clone(),
    };
    let upper = engine.create_object(Box::new(pager), STACKED * PAGE_SIZE).unwrap();
    let va = map.map(&upper, &request).unwrap().start;
    let slot = |thread: u64, page: u64| VirtAddr(page_at(va, page).0 + 8 * thread);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let map = &map;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let to = slot(thread, (round * 7 + thread) % STACKED);
                    // Out of memory is an answer; what counts is that trying again comes to an end.
                    while let Err(stopped) = map.store(to, &round.to_le_bytes()) {
                        let out = matches!(stopped.error, FaultError::NoMemory | FaultError::Pager { .. });
                        assert!(out, "{}", stopped.error);
                    }
                }
            });
        }
    });
    let all = |object: &Arc<Object>| object.flush_all(FlushFlags::empty());
    while all(upper.object()).is_err() {}
    all(lower.object()).unwrap();
    for thread in 0..THREADS {
        for page in 0..STACKED {
            let last = (0..ROUNDS).rev().find(|round| (round * 7 + thread) % STACKED == page);
            let at = usize::try_from(8 * thread).unwrap();
            assert_eq!(
                script.stored(page)[at..at + 8],
                last.unwrap().to_le_bytes(),
                "thread {thread}, page {page}"
            );
        }
    }
    let counts = engine.daemon_counts();
    eprintln!("{counts:?}, refused {}", refused.load(Ordering::Relaxed));
    map.clear().unwrap();
    upper.release().unwrap();
    lower.release().unwrap();
    drop(map);
    rig.assert_nothing_left();
}

#[test]
fn a_pager_on_an_object_of_the_same_engine_gets_on_when_memory_is_short() {
    // Where frames are fixed, a page that shares its frame with the lower page it is written to could never be written.
    let share = |mode: &Mode| matches!(mode, Mode::Soft(config) if config.fixed_frames);
    for mode in Mode::all().into_iter().filter(|mode| !share(mode)) {
        for daemon_thread in [false, true] {
            eprintln!("{mode:?}, daemon's thread: {daemon_thread}");
            press(mode, daemon_thread);
        }
    }
}
