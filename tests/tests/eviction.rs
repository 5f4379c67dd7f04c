//! Pages go in batches: which neighbours a victim takes along, and what one call of the machine serves.

use quire_core::error::Cause;
use quire_core::object::Object;
use quire_core::pagedaemon::{Step, Targets};
use quire_core::soft::SoftConfig;
use quire_core::types::{PAGE_SIZE, PageIndex};
use quire_tests::{Mode, Rig, Twist, in_all_modes, in_soft_modes, page_at};

/// Lets a step free pages until there are `more` than now.
fn step_for(rig: &Rig, more: u64) -> Step {
    let counts = rig.engine.machine().frame_counts();
    let wanted = counts.free - counts.reserved + more;
    rig.engine.set_daemon_targets(Targets {
        free_min: 1,
        free_target: wanted,
        free_enough: wanted,
    });
    rig.engine.daemon_step()
}

#[test]
fn a_batch_keeps_hot_wired_and_busy_neighbours() {
    in_soft_modes(
        "the kernel does not tell of use, and its calls are not counted",
        |rig| {
            let (_script, object, va) = rig.mapped(64);
            let use_page = |i: u64| rig.map.load(page_at(va, i), &mut [0]).unwrap();
            (0..64).for_each(use_page);
            rig.map.wire(page_at(va, 30), 2 * PAGE_SIZE).unwrap();
            // The policy looks at every page, and finds that one has not been used since.
            assert_eq!(step_for(&rig, 1).freed, 1);
            let first = (0..64).find(|i| object.lookup(PageIndex(*i)).is_none());
            let (is_hot, is_wired) = (|i: u64| (10..20).contains(&i), |i: u64| (30..32).contains(&i));
            (0..64).filter(|i| is_hot(*i)).for_each(use_page);
            let busy = Object::busy_resident(object.object(), PageIndex(40)).unwrap();
            let before = rig.soft().calls();
            let goes = |i: &u64| !is_hot(*i) && !is_wired(*i) && *i != 40 && Some(*i) != first;
            let wanted = (0..64).filter(goes).count() as u64;
            assert_eq!(step_for(&rig, wanted).freed, wanted);
            let after = rig.soft().calls();
            let left: Vec<u64> = (0..64).filter(|i| object.lookup(PageIndex(*i)).is_some()).collect();
            assert!([30, 31, 40].iter().all(|i| left.contains(i)), "{left:?}");
            // A machine that learns of use by removing mappings learns it a round late.
            if matches!(rig.mode, Mode::Soft(config) if !config.modified_by_removal) {
                let expected: Vec<u64> = (0..64).filter(|i| !goes(i) && Some(*i) != first).collect();
                assert_eq!(left, expected);
                let calls = (
                    after.page_protects - before.page_protects,
                    after.pages_protected - before.pages_protected,
                    after.frees - before.frees,
                );
                assert_eq!(calls, (1, wanted, 1));
            }
            drop(busy);
            rig.map.unwire(page_at(va, 30), 2 * PAGE_SIZE).unwrap();
            drop(object);
            rig.assert_nothing_left();
        },
    );
}

#[test]
fn dirty_neighbours_are_not_lost_when_their_put_fails() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(64);
        for i in 0..64 {
            rig.map.load(page_at(va, i), &mut [0]).unwrap();
        }
        // Some are known to be dirty, of others only the mapping knows.
        let is_dirty = |i: u64| i % 5 == 2;
        for i in (0..64).filter(|i| is_dirty(*i)) {
            rig.map.store(page_at(va, i), &[0xee]).unwrap();
        }
        let dirty = (0..64).filter(|i| is_dirty(*i)).count() as u64;
        script.all_puts(Some(Twist::Fail(Cause::Io)));
        let step = step_for(&rig, 64);
        assert_eq!((step.freed, step.written), (64 - dirty, 0));
        assert!(step.failed > 0);
        for i in 0..64 {
            assert_eq!(object.lookup(PageIndex(i)).is_some(), is_dirty(i), "page {i}");
        }
        assert_eq!(object.dirty_pages(), dirty);
        script.all_puts(None);
        assert_eq!(step_for(&rig, dirty).freed, dirty);
        assert!((0..64).filter(|i| is_dirty(*i)).all(|i| script.stored(i)[0] == 0xee));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn random_reads_of_an_object_of_which_a_quarter_fits_free_at_least_16_pages_a_call() {
    const PAGES: u64 = 8192;
    let rig = Rig::new(SoftConfig {
        frames: PAGES / 4,
        reserve_daemon: 8,
        reserve_kernel: 8,
        ..SoftConfig::default()
    });
    let (_script, object, va) = rig.mapped(PAGES);
    let mut at = 1_u64;
    for _ in 0..2 * PAGES {
        at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        rig.map.load(page_at(va, (at >> 33) % PAGES), &mut [0]).unwrap();
    }
    let (reclaimed, calls) = (rig.engine.stats().counts().pages_reclaimed, rig.soft().calls());
    assert!(reclaimed > PAGES);
    assert!(
        calls.page_protects * 16 <= reclaimed,
        "{reclaimed} pages by {} calls",
        calls.page_protects
    );
    assert!(
        calls.frees * 16 <= reclaimed,
        "{reclaimed} pages by {} calls",
        calls.frees
    );
    drop(object);
    rig.assert_nothing_left();
}
