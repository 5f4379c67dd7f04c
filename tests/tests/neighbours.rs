//! Which pages a victim takes along: on a machine that tells of use, those of its block that the policy has kept once.

use quire_core::pagedaemon::{Step, Targets};
use quire_core::soft::SoftConfig;
use quire_core::types::{PAGE_SIZE, PageIndex};
use quire_tests::{Rig, page_at};

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
fn a_victim_takes_along_pages_of_its_block_that_were_kept_once_and_none_that_has_just_come() {
    let rig = Rig::new(SoftConfig::default());
    let (_script, object, va) = rig.mapped(128);
    // Two blocks in turns, so that the order of the queue is not that of the indices.
    for i in (16..48).flat_map(|i| [i, 64 + i]) {
        rig.map.load(page_at(va, i), &mut [0]).unwrap();
    }
    // The policy looks at every page, and finds that one has not been used since.
    assert_eq!(step_for(&rig, 1).freed, 1);
    for block in [0, 64] {
        rig.map.prefetch(page_at(va, block), 16 * PAGE_SIZE).unwrap();
    }
    let resident = || -> Vec<u64> { (0..128).filter(|i| object.lookup(PageIndex(*i)).is_some()).collect() };
    let before = resident();
    assert_eq!(step_for(&rig, 20).freed, 20);
    let after = resident();
    let gone: Vec<u64> = before.iter().copied().filter(|i| !after.contains(i)).collect();
    assert!(gone.iter().all(|i| i / 64 == gone[0] / 64), "of one block: {gone:?}");
    assert!(gone.iter().all(|i| i % 64 >= 16), "none that has just come: {gone:?}");
    drop(object);
    rig.assert_nothing_left();
}
