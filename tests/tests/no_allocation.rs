//! A resident fault allocates nothing, nor does anything else that must work when memory is short; and on the soft machine it makes no system call.

mod counting;
mod sealed;

use counting::{Counting, allocations_of};
use quire_core::fault::FaultCase;
use quire_core::map::MapRequest;
use quire_core::object::Object;
use quire_core::pagedaemon::Targets;
use quire_core::soft::SoftConfig;
use quire_core::types::{Access, Advice, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Mode, Rig, page_at};
use sealed::{Sealed, sealed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAGES: u64 = 64;

/// An object mapped with this advice, all of it resident, its translations taken away. The tables that held them stay.
fn resident(rig: &Rig, advice: Advice) -> VirtAddr {
    let (_script, object) = rig.object(PAGES);
    let request = MapRequest {
        advice,
        ..MapRequest::read_write(PAGES * PAGE_SIZE)
    };
    let range = rig.map.map(&object, &request).expect("a mapping");
    for page in 0..PAGES {
        let _bytes = rig.load_page(page_at(range.start, page));
    }
    assert_eq!(object.resident(), PAGES);
    rig.map.pmap().remove(range);
    range.start
}

/// Memory of the mapping's own, likewise.
fn resident_own(rig: &Rig, advice: Advice) -> VirtAddr {
    let request = MapRequest {
        advice,
        ..MapRequest::read_write(PAGES * PAGE_SIZE)
    };
    let range = rig.map.map_anonymous(&request).expect("a mapping");
    for page in 0..PAGES {
        rig.map.store(page_at(range.start, page), &[1]).expect("a store");
    }
    rig.map.pmap().remove(range);
    range.start
}

#[test]
fn the_counter_counts_and_a_missing_page_does_allocate() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(7)))), 1);
    let rig = Rig::new(SoftConfig::default());
    let (_script, _object, va) = rig.mapped(PAGES);
    let missing = allocations_of(|| {
        rig.map.fault(va, Access::Read).expect("the pager has it");
    });
    assert!(
        missing > 0,
        "a page struct, a loan, a request: none of them was counted"
    );
}

const ADVICE: [Advice; 3] = [Advice::Random, Advice::Normal, Advice::Sequential];

/// The plain soft machine, and real memory.
fn both() -> impl Iterator<Item = Mode> {
    let plain = Mode::from(SoftConfig::default());
    Mode::exact()
        .into_iter()
        .filter(move |mode| mode.is_linux() || *mode == plain)
}

/// What is resident, and the case of a fault at it.
type Resident = (fn(&Rig, Advice) -> VirtAddr, FaultCase);

const RESIDENT: [Resident; 2] = [(resident, FaultCase::TwoA), (resident_own, FaultCase::OneA)];

#[test]
fn a_resident_fault_allocates_nothing() {
    for (mode, advice) in both().flat_map(|mode| ADVICE.map(|advice| (mode, advice))) {
        for ((resident, case), access) in RESIDENT
            .into_iter()
            .flat_map(|of| [(of, Access::Read), (of, Access::Write)])
        {
            let rig = Rig::new(mode);
            let start = resident(&rig, advice);
            let mut neighbours = 0;
            let allocations = allocations_of(|| {
                for page in 0..PAGES {
                    let resolved = rig.map.fault(page_at(start, page), access).expect("it is resident");
                    assert_eq!((resolved.case, resolved.resident), (case, true));
                    neighbours += resolved.neighbours;
                }
            });
            assert_eq!(allocations, 0, "{mode:?} {advice:?} {case:?} {access:?}");
            assert_eq!(
                neighbours > 0,
                advice != Advice::Random,
                "{advice:?}: windows were mapped"
            );
        }
    }
}

// The Linux machine enters a page by a system call; what it costs is measured in its own benches.
#[test]
fn a_resident_fault_makes_no_system_call() {
    let noticed = sealed(|| std::os::unix::process::parent_id() > 0);
    assert_eq!(noticed, Sealed::Killed, "a system call is noticed");
    assert_eq!(sealed(|| false), Sealed::Done(false), "and so is a failure");
    for ((resident, case), advice) in RESIDENT.into_iter().flat_map(|of| ADVICE.map(|advice| (of, advice))) {
        for access in [Access::Read, Access::Write] {
            let rig = Rig::new(SoftConfig::default());
            let start = resident(&rig, advice);
            let outcome = sealed(|| {
                (0..PAGES).all(|page| {
                    let resolved = rig.map.fault(page_at(start, page), access);
                    resolved.is_ok_and(|resolved| resolved.resident && resolved.case == case)
                })
            });
            assert_eq!(outcome, Sealed::Done(true), "{case:?} {advice:?} {access:?}");
        }
    }
}

#[test]
fn taking_clean_pages_allocates_nothing() {
    for mode in Mode::exact() {
        let rig = Rig::new(mode);
        let start = resident(&rig, Advice::Random);
        for page in 0..PAGES {
            rig.map
                .fault(page_at(start, page), Access::Read)
                .expect("it is resident");
        }
        let counts = rig.engine.machine().frame_counts();
        let free_enough = counts.free - counts.reserved + PAGES;
        rig.engine.set_daemon_targets(Targets {
            free_min: 1,
            free_target: free_enough,
            free_enough,
        });
        let mut freed = 0;
        let allocations = allocations_of(|| freed = rig.engine.daemon_step().freed);
        assert_eq!((freed, allocations), (PAGES, 0), "{mode:?}");
    }
}

#[test]
fn a_fault_at_a_page_that_is_mapped_already_allocates_nothing() {
    for rig in both().map(Rig::new) {
        let start = resident(&rig, Advice::Random);
        let allocations = allocations_of(|| {
            for _ in 0..3 {
                rig.map.fault(start, Access::Write).expect("it is resident");
            }
        });
        assert_eq!(allocations, 0);
    }
}

#[test]
fn a_fault_that_fails_allocates_nothing() {
    for rig in both().map(Rig::new) {
        let start = resident(&rig, Advice::Random);
        rig.map
            .protect(start, PAGE_SIZE, quire_core::types::Prot::READ)
            .expect("mapped");
        let allocations = allocations_of(|| {
            rig.map.fault(start, Access::Write).expect_err("read-only");
            rig.map
                .fault(VirtAddr(rig.map.base().0 + (1 << 33)), Access::Read)
                .expect_err("nothing is mapped there");
        });
        assert_eq!(allocations, 0);
    }
}

#[test]
fn busying_and_unbusying_allocate_nothing() {
    for rig in both().map(Rig::new) {
        let (_script, object, va) = rig.mapped(1);
        let _bytes = rig.load_page(va);
        let allocations = allocations_of(|| {
            let object: &Object = object.object();
            let busy = Object::busy_resident(&object, PageIndex(0)).expect("it is resident");
            drop(busy.downgrade());
        });
        assert_eq!(allocations, 0);
    }
}

#[test]
fn copies_of_resident_pages_allocate_nothing() {
    for rig in both().map(Rig::new) {
        let start = resident(&rig, Advice::Normal);
        let mut bytes = vec![0; 2 * PAGE_BYTES];
        let across = VirtAddr(start.0 + 100);
        let allocations = allocations_of(|| {
            rig.map.copy_out(across, &mut bytes).expect("it is resident");
            rig.map.copy_in(across, &bytes).expect("it is resident");
            // As a processor: the first access to each page faults.
            rig.map.load(across, &mut bytes).expect("it is resident");
            rig.map.store(across, &bytes).expect("it is resident");
        });
        assert_eq!(allocations, 0);
    }
}
