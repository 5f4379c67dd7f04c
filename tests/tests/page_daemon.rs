//! The page daemon: which pages go, what happens to dirty ones, and who waits. On every kind of soft machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quire_core::engine::Engine;
use quire_core::error::{Cause, FaultError, Result};
use quire_core::machine::{Machine, Placement, Pmap, Reserve};
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::page::{Dirtiness, Queue};
use quire_core::pagedaemon::{EngineOptions, Targets};
use quire_core::policy::PolicyKind;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{Access, AddrRange, Frame, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{
    BASE, Call, Mode, Rig, Script, TOP, Twist, in_all_modes, in_all_modes_with_frames, page_at, pattern,
};

const BOTH: [PolicyKind; 2] = [PolicyKind::Clock, PolicyKind::S3Fifo];

fn with_policy(mode: impl Into<Mode>, policy: PolicyKind) -> Rig {
    let options = EngineOptions {
        policy,
        ..EngineOptions::default()
    };
    Rig::with_options(mode, &options)
}

/// Whether a machine tells of the use of pages without taking their mappings away.
fn sees_use(mode: Mode) -> bool {
    matches!(mode, Mode::Soft(config) if !config.modified_by_removal)
}

fn everywhere() -> AddrRange {
    AddrRange {
        start: VirtAddr(BASE),
        end: VirtAddr(TOP),
    }
}

/// Lets a step free pages until there are `more` than now.
fn step_for(rig: &Rig, more: u64) -> quire_core::pagedaemon::Step {
    let counts = rig.engine.machine().frame_counts();
    let wanted = counts.free - counts.reserved + more;
    rig.engine.set_daemon_targets(Targets {
        free_min: 1,
        free_target: wanted,
        free_enough: wanted,
    });
    rig.engine.daemon_step()
}

fn resident(object: &ObjectRef, pages: u64) -> Vec<u64> {
    (0..pages).filter(|i| object.lookup(PageIndex(*i)).is_some()).collect()
}

#[test]
fn a_step_with_enough_free_frames_does_nothing() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(3);
        rig.map.load(va, &mut [0]).unwrap();
        assert_eq!(rig.engine.daemon_step(), quire_core::pagedaemon::Step::default());
        assert_eq!(rig.engine.daemon_counts().steps, 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s181_s183_s185_a_page_that_is_used_outlives_those_that_are_not_mapped_or_not() {
    for policy in BOTH {
        for mode in Mode::all() {
            let rig = with_policy(mode, policy);
            let (_script, object, va) = rig.mapped(32);
            let use_page = |i: u64| {
                rig.map.load(page_at(va, i), &mut [0]).unwrap();
            };
            (0..32).for_each(use_page);
            // Each round one page goes, and one is used before every round.
            for _ in 0..24 {
                use_page(5);
                assert_eq!(step_for(&rig, 1).freed, 1);
            }
            let left = resident(&object, 32);
            // A machine that does not tell of use, or learns of it by removing mappings, may have taken it now and then.
            let again = rig.engine.stats().counts().gets - 32;
            assert_eq!(left.len() as u64, 8 + again);
            assert!(again <= 3, "{policy:?} {mode:?}: fetched {again} times again");
            if sees_use(mode) {
                assert!(left.contains(&5), "{policy:?} {mode:?}: {left:?}");
                assert_eq!(rig.engine.stats().counts().gets, 32, "it was never fetched again");
            }
            drop(object);
            rig.assert_nothing_left();
        }
    }
}

#[test]
fn s181_an_inactive_page_may_be_mapped() {
    let rig = with_policy(SoftConfig::default(), PolicyKind::Clock);
    let (_script, object, va) = rig.mapped(9);
    for i in 0..9 {
        rig.map.load(page_at(va, i), &mut [0]).unwrap();
    }
    assert_eq!(step_for(&rig, 1).freed, 1);
    let mapped_inactive = (0..9).filter(|i| {
        let page = object.lookup(PageIndex(*i));
        page.is_some_and(|page| page.queue() == Some(Queue::Inactive))
            && rig.map.pmap().extract(page_at(va, *i)).is_some()
    });
    assert!(mapped_inactive.count() > 0);
    drop(object);
    rig.assert_nothing_left();
}

#[test]
fn s184_s186_a_clean_page_is_unmapped_once_and_a_dirty_one_not_asked_about() {
    for policy in BOTH {
        for config in SoftConfig::awkward_modes()
            .into_iter()
            .filter(|config| !config.modified_by_removal)
        {
            let rig = with_policy(config, policy);
            let (script, object, va) = rig.mapped(8);
            for i in 0..4 {
                rig.map.store(page_at(va, i), &[1]).unwrap();
            }
            for i in 4..8 {
                rig.map.load(page_at(va, i), &mut [0]).unwrap();
            }
            script.all_puts(Some(Twist::Fail(Cause::Io)));
            let before = rig.soft().calls().pages_protected;
            let step = step_for(&rig, 8);
            assert_eq!((step.freed, step.written, step.failed), (4, 0, 1));
            let calls = rig.soft().calls().pages_protected - before;
            assert_eq!(
                calls,
                4 + 4,
                "once for each clean page; dirty ones only for their write"
            );
            assert_eq!(rig.engine.queue_lengths().laundry, 4);
            script.all_puts(None);
            drop(object);
            rig.assert_nothing_left();
        }
    }
}

#[test]
fn s187_what_is_stored_while_pages_are_taken_away_is_never_lost() {
    for policy in BOTH {
        for mode in Mode::all() {
            let rig = with_policy(mode.with_frames(32, 0), policy);
            let (_script, object, va) = rig.mapped(8);
            rig.engine.set_daemon_targets(Targets {
                free_min: 32,
                free_target: 32,
                free_enough: 32,
            });
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        rig.engine.daemon_step();
                    }
                });
                let writers = [0_u64, 1].map(|t| {
                    let rig = &rig;
                    scope.spawn(move || {
                        let reclaimed = || rig.engine.stats().counts().pages_reclaimed;
                        for round in (0_u64..).take_while(|round| *round < 300 || reclaimed() < 50) {
                            let at = VirtAddr(page_at(va, round % 8).0 + t * 8);
                            let mut was = [0; 8];
                            rig.map.load(at, &mut was).unwrap();
                            let expected = match round.checked_sub(8) {
                                Some(before) => before.to_le_bytes().to_vec(),
                                None => pattern(round % 8)[..8].to_vec(),
                            };
                            assert_eq!(was[..], expected[..], "round {round}, {policy:?} {mode:?}");
                            rig.map.store(at, &round.to_le_bytes()).unwrap();
                        }
                    })
                });
                let ended = writers.map(|writer| writer.join());
                done.store(true, Ordering::Release);
                assert!(ended.iter().all(|one| one.is_ok()));
            });
            drop(object);
            rig.assert_nothing_left();
        }
    }
}

#[test]
fn f19_dirty_neighbours_leave_the_laundry_in_one_put_and_are_freed() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(20);
        for i in [3, 4, 5, 6, 7, 12] {
            rig.map.store(page_at(va, i), &[0xcc]).unwrap();
        }
        let step = step_for(&rig, 6);
        assert_eq!((step.freed, step.written, step.failed), (6, 6, 0));
        let mut puts: Vec<_> = script
            .calls()
            .into_iter()
            .filter(|call| matches!(call, Call::Put(..)))
            .collect();
        puts.sort_by_key(|call| match call {
            Call::Put(first, _) => *first,
            _ => 0,
        });
        assert_eq!(puts, [Call::Put(3, 5), Call::Put(12, 1)]);
        assert!([3, 7, 12].iter().all(|i| script.stored(*i)[0] == 0xcc));
        assert_eq!(object.resident(), 0);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn pages_whose_write_fails_stay_dirty_are_tried_once_a_step_and_written_when_the_cause_is_gone() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(40);
        for i in (0..40).step_by(2) {
            rig.map.store(page_at(va, i), &[0xdd]).unwrap();
        }
        script.all_puts(Some(Twist::Fail(Cause::Errno(28))));
        for steps in 1..=3 {
            let step = step_for(&rig, 20);
            assert_eq!(
                (step.freed, step.failed),
                (0, 1),
                "an object that failed is left alone for the rest of the step"
            );
            assert_eq!(script.puts(), steps);
        }
        assert_eq!(
            (object.dirty_pages(), rig.engine.daemon_counts().wash_failures),
            (20, 3)
        );
        script.all_puts(None);
        assert_eq!(step_for(&rig, 20).freed, 20);
        assert!((0..40).step_by(2).all(|i| script.stored(i)[0] == 0xdd));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_failing_object_does_not_keep_the_pages_of_others_from_being_freed() {
    in_all_modes_with_frames(8, |rig| {
        let (bad, bad_object, bad_va) = rig.mapped(4);
        let (good, good_object, good_va) = rig.mapped(8);
        bad.all_puts(Some(Twist::Fail(Cause::Io)));
        for i in 0..4 {
            rig.map.store(page_at(bad_va, i), &[1]).unwrap();
        }
        for i in 0..8 {
            rig.map.store(page_at(good_va, i), &[2]).unwrap();
        }
        assert_eq!(bad_object.dirty_pages(), 4);
        assert!(good.puts() > 0);
        bad.all_puts(None);
        drop((bad_object, good_object));
        rig.assert_nothing_left();
    });
}

#[test]
fn a_slow_pager_does_not_keep_others_from_making_room() {
    in_all_modes_with_frames(8, |rig| {
        let (slow, slow_object, slow_va) = rig.mapped(4);
        let (_quick, quick_object, quick_va) = rig.mapped(12);
        for i in 0..4 {
            rig.map.store(page_at(slow_va, i), &[1]).unwrap();
        }
        slow.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let step = scope.spawn(|| step_for(&rig, 4));
            let io = slow.take_pending(1).remove(0);
            // Four pages are being written; eight go through the other four frames meanwhile, dirty.
            for i in 0..12 {
                rig.map.store(page_at(quick_va, i), &[2]).unwrap();
            }
            slow.finish(&io);
            step.join().unwrap();
        });
        drop((slow_object, quick_object));
        rig.assert_nothing_left();
    });
}

#[test]
fn who_finds_nothing_to_free_waits_for_a_write_that_is_under_way() {
    in_all_modes_with_frames(4, |rig| {
        let (script, object, va) = rig.mapped(5);
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        script.next_puts([Twist::Defer]);
        thread::scope(|scope| {
            let step = scope.spawn(|| step_for(&rig, 4));
            let io = script.take_pending(1).remove(0);
            let fault = scope.spawn(|| rig.map.fault(page_at(va, 4), Access::Read));
            while rig.engine.stats().counts().memory_waits == 0 {
                thread::yield_now();
            }
            script.finish(&io);
            fault.join().unwrap().unwrap();
            step.join().unwrap();
        });
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn out_of_memory_is_an_answer_when_every_page_is_wired() {
    in_all_modes_with_frames(4, |rig| {
        let (_script, object, va) = rig.mapped(5);
        rig.map.wire(va, 4 * PAGE_SIZE).unwrap();
        assert_eq!(rig.map.fault(page_at(va, 4), Access::Read), Err(FaultError::NoMemory));
        rig.map.unwire(page_at(va, 2), PAGE_SIZE).unwrap();
        rig.map.fault(page_at(va, 4), Access::Read).unwrap();
        assert_eq!(resident(&object, 5), [0, 1, 3, 4]);
        drop(object);
        rig.assert_nothing_left();
    });
}

/// A soft machine that notes how few frames an ordinary allocation ever left.
#[derive(Debug)]
struct Watched {
    soft: Arc<SoftMachine>,
    least_left: AtomicU64,
    ordinary: AtomicU64,
    privileged: AtomicU64,
}

impl Machine for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }
    fn frame_alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame> {
        if reserve != Reserve::Ordinary {
            self.privileged.fetch_add(1, Ordering::Relaxed);
            return self.soft.frame_alloc(place, reserve);
        }
        let frame = self.soft.frame_alloc(place, reserve)?;
        self.ordinary.fetch_add(1, Ordering::Relaxed);
        self.least_left
            .fetch_min(self.soft.frame_counts().free, Ordering::Relaxed);
        Some(frame)
    }
    quire_tests::leave_to_soft!(soft);
    fn pmap_create(self: Arc<Self>, range: AddrRange) -> Result<Arc<dyn Pmap>> {
        self.soft.clone().pmap_create(range)
    }
}

#[test]
fn s190_under_pressure_every_get_ends_and_ordinary_allocations_never_touch_the_reserve() {
    for policy in BOTH {
        for daemon_thread in [false, true] {
            let soft = SoftMachine::new(SoftConfig {
                frames: 64,
                reserve_daemon: 4,
                reserve_kernel: 8,
                ..SoftConfig::default()
            });
            let machine = Arc::new(Watched {
                soft: soft.expect("a machine"),
                least_left: AtomicU64::new(u64::MAX),
                ordinary: AtomicU64::new(0),
                privileged: AtomicU64::new(0),
            });
            let options = EngineOptions {
                policy,
                daemon_thread,
                ..EngineOptions::default()
            };
            let engine = Engine::with_options(machine.clone(), &options).expect("an engine");
            let map = Map::new(engine.clone(), everywhere()).expect("a map");
            let (_script, pager) = Script::new();
            let object = engine.create_object(pager, 400 * PAGE_SIZE).unwrap();
            let va = map
                .map(&object, &MapRequest::read_write(400 * PAGE_SIZE))
                .unwrap()
                .start;
            let longest = thread::scope(|scope| {
                let threads: Vec<_> = (0..4_u64)
                    .map(|t| {
                        let map = &map;
                        scope.spawn(move || {
                            let mut longest = Duration::ZERO;
                            for round in 0..1000_u64 {
                                let page = (round * 37 + t * 101) % 400;
                                let before = Instant::now();
                                map.store(VirtAddr(page_at(va, page).0 + t * 8), &round.to_le_bytes())
                                    .unwrap();
                                longest = longest.max(before.elapsed());
                            }
                            longest
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).max()
            });
            let left = machine.least_left.load(Ordering::Relaxed);
            println!(
                "{policy:?}, daemon thread {daemon_thread}: longest of 4000 stores {longest:?}, {} waits for memory, {} frames taken, never less than {left} left, {} taken from the reserve",
                engine.stats().counts().memory_waits,
                machine.ordinary.load(Ordering::Relaxed),
                machine.privileged.load(Ordering::Relaxed),
            );
            assert!(left >= 12, "an ordinary allocation left {left} of 12 reserved frames");
            assert_eq!(
                machine.privileged.load(Ordering::Relaxed),
                0,
                "and nobody needed the reserve"
            );
            map.clear().unwrap();
            drop(object);
            engine.shut_down().unwrap();
            assert_eq!(machine.frame_counts().free, 64);
        }
    }
}

#[test]
fn the_daemons_thread_keeps_frames_free_and_ends_with_the_engine() {
    let machine = SoftMachine::new(SoftConfig {
        frames: 128,
        ..SoftConfig::default()
    })
    .expect("a machine");
    let options = EngineOptions {
        daemon_thread: true,
        ..EngineOptions::default()
    };
    let engine = Engine::with_options(machine.clone(), &options).expect("an engine");
    let map = Map::new(engine.clone(), everywhere()).expect("a map");
    let (script, pager) = Script::new();
    let object = engine.create_object(pager, 500 * PAGE_SIZE).unwrap();
    let va = map
        .map(&object, &MapRequest::read_write(500 * PAGE_SIZE))
        .unwrap()
        .start;
    for i in 0..500 {
        map.store(page_at(va, i), &[0xab]).unwrap();
    }
    let enough = engine.daemon_targets().free_min;
    let free = || {
        let counts = machine.frame_counts();
        counts.free - counts.reserved
    };
    while free() < enough {
        thread::yield_now();
    }
    assert!(engine.daemon_counts().steps > 0);
    map.clear().unwrap();
    object.release().unwrap();
    assert!((0..500).all(|i| script.stored(i)[0] == 0xab));
    engine.shut_down().unwrap();
    assert_eq!(
        Arc::strong_count(&engine),
        2,
        "ours, and the map's: the thread holds none"
    );
    drop(map);
    assert_eq!(machine.frame_counts().free, 128);
}

#[test]
fn a_page_that_was_flushed_by_somebody_else_leaves_the_laundry_without_another_write() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        script.next_puts([Twist::Fail(Cause::Io)]);
        step_for(&rig, 4);
        assert_eq!(rig.engine.queue_lengths().laundry, 4);
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(object.lookup(PageIndex(0)).unwrap().dirtiness(), Dirtiness::Clean);
        let puts = script.puts();
        assert_eq!(step_for(&rig, 4).freed, 4);
        assert_eq!(script.puts(), puts);
        drop(object);
        rig.assert_nothing_left();
    });
}
