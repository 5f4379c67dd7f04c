//! Translations: entering, lowering, removing, and what is learnt of the use of a page.

use super::*;
use crate::error::Error;
use crate::machine::{Harvest, Translation};
use crate::page::Dirtiness;
use crate::soft::{Failure, Injection};

const NEITHER: Harvest = Harvest {
    modified: false,
    referenced: false,
};
const REFERENCED: Harvest = Harvest {
    modified: false,
    referenced: true,
};
const BOTH: Harvest = Harvest {
    modified: true,
    referenced: true,
};

#[test]
fn s142_a_page_that_was_not_filled_is_never_mapped() {
    for machine in machines() {
        let (page, pmap) = (fake_page(&machine, 0), pmap(&machine));
        assert!(panic_of(|| enter(&pmap, 0, page, RW)).contains("not been filled"));
        assert_eq!(prot_at(&pmap, 0), None);
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn s199_enter_makes_the_run_or_says_how_far_it_came_and_why() {
    for machine in machines() {
        let all = [0, 1, 2, 3].map(|index| valid_page(&machine, index));
        let pmap = pmap(&machine);
        // Across the border of two leaf tables.
        let start = 0x1f_e000;
        for why in [NotEntered::Shortage, NotEntered::NotHere] {
            machine.inject(Injection {
                failure: Failure::Enter(why),
                after: 3,
                times: 1,
            });
            assert_eq!(pmap.enter(&run(start, &all, RW)), (3, Some(why)));
            assert_eq!(prot_at(&pmap, start + 0x2000), Some(RW));
            assert_eq!(prot_at(&pmap, start + 0x3000), None);
            assert_eq!(pmap.enter(&run(start, &all, RW)), (4, None));
            pmap.remove(pages(start, 4));
        }
        let wired = EnterRun {
            wired: true,
            ..run(start, &all, Prot::READ)
        };
        assert_eq!(pmap.enter(&wired), (4, None));
        let expected = Translation {
            frame: all[2].frame(),
            prot: Prot::READ,
            wired: true,
            cache: CacheMode::WriteBack,
        };
        assert_eq!(pmap.extract(VirtAddr(start + 0x2fff)), Some(expected));
        finish(&machine, Vec::from([pmap]), &all);
    }
}

#[test]
fn s200_a_shortage_is_fatal_where_entering_must_not_fail() {
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        let one = [page];
        let must = EnterRun {
            can_fail: false,
            ..run(0, &one, RW)
        };
        machine.inject(Injection {
            failure: Failure::Enter(NotEntered::Shortage),
            after: 0,
            times: 1,
        });
        assert!(panic_of(|| _ = pmap.enter(&must)).contains("no memory for a mapping that must not fail"));
        assert_eq!(pmap.enter(&must), (1, None));
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn s199_a_real_shortage_is_answered_and_changes_nothing() {
    use crate::alloc_fallible::failing;
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        for tables in 0..=3 {
            // A part of the space for which there is no table yet, but the root.
            let va = (tables as u64) << 39;
            failing::after(Some(tables));
            let answer = pmap.enter(&run(va, &[page], RW));
            failing::after(None);
            let expected = if tables == 3 {
                (1, None)
            } else {
                (0, Some(NotEntered::Shortage))
            };
            assert_eq!(answer, expected, "memory for {tables} tables");
            assert_eq!(prot_at(&pmap, va), (tables == 3).then_some(RW));
        }
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn entering_a_page_mapped_at_most_twice_allocates_nothing_once_the_tables_exist() {
    use crate::alloc_fallible::failing;
    for machine in machines() {
        let (page, other) = (valid_page(&machine, 0), valid_page(&machine, 1));
        let pmap = pmap(&machine);
        enter(&pmap, 0x3000, other, RW);
        failing::after(Some(0));
        enter(&pmap, 0, page, RW);
        enter(&pmap, 0x1000, page, RW);
        let third = pmap.enter(&run(0x3000, &[page], RW));
        failing::after(None);
        assert_eq!(third, (0, Some(NotEntered::Shortage)));
        assert_eq!(pmap.extract(VirtAddr(0x3000)).map(|at| at.frame), Some(other.frame()));
        enter(&pmap, 0x3000, page, RW);
        finish(&machine, Vec::from([pmap]), &[page, other]);
    }
}

#[test]
fn s203_the_access_presets_the_bits_of_the_page_it_was_for_and_of_no_other() {
    for machine in machines() {
        let all = [0, 1, 2].map(|index| valid_page(&machine, index));
        let pmap = pmap(&machine);
        let read = EnterRun {
            accessed: Some((1, Access::Read)),
            ..run(0, &all, RW)
        };
        assert_eq!(pmap.enter(&read), (3, None));
        let bits = || [0, 0x1000, 0x2000].map(|va| pmap.harvest_at(VirtAddr(va)));
        assert_eq!(bits(), [NEITHER, REFERENCED, NEITHER]);
        finish(&machine, Vec::from([pmap]), &all);
    }
}

#[test]
fn s204_a_write_presets_modified_and_a_read_referenced_only() {
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        let one = [page];
        for (access, bits) in [
            (Access::Read, REFERENCED),
            (Access::Exec, REFERENCED),
            (Access::Write, BOTH),
        ] {
            let entered = EnterRun {
                accessed: Some((0, access)),
                ..run(0, &one, Prot::all())
            };
            assert_eq!(pmap.enter(&entered), (1, None));
            assert_eq!(pmap.harvest_at(VirtAddr(0)), bits);
        }
        assert_eq!(page.dirtiness(), Dirtiness::Clean, "nothing was removed yet");
        pmap.remove(pages(0, 1));
        assert_eq!(page.dirtiness(), Dirtiness::Dirty);
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn a_processor_faults_without_a_right_and_otherwise_leaves_its_bits() {
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        assert_eq!(load::<1>(&pmap, 0x5000), Err(CpuStop::Fault));
        enter(&pmap, 0x5000, page, Prot::READ);
        assert_eq!(store(&pmap, 0x5000, b"no"), Err(CpuStop::Fault));
        assert_eq!(pmap.harvest_at(VirtAddr(0x5000)), NEITHER);
        assert_eq!(load(&pmap, 0x5ffe), Ok([0, 0]));
        assert_eq!(pmap.harvest_at(VirtAddr(0x5000)), REFERENCED);
        enter(&pmap, 0x5000, page, RW);
        assert_eq!(store(&pmap, 0x5003, b"yes"), Ok(()));
        assert_eq!(pmap.harvest_at(VirtAddr(0x5000)), BOTH);
        assert_eq!(load(&pmap, 0x5002), Ok(*b"\0yes\0"));
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn entering_the_same_page_again_keeps_its_bits_and_its_wiring() {
    for machine in machines() {
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        assert_eq!(
            pmap.enter(&EnterRun {
                wired: true,
                ..run(0, &[page], RW)
            }),
            (1, None)
        );
        store(&pmap, 0, b"!").unwrap();
        enter(&pmap, 0, page, Prot::READ);
        assert_eq!(pmap.harvest_at(VirtAddr(0)), BOTH);
        let wired = |pmap: &SoftPmap| pmap.extract(VirtAddr(0)).unwrap().wired;
        assert!(wired(&pmap));
        pmap.unwire(pages(0, 1));
        assert!(!wired(&pmap));
        assert_eq!(page.dirtiness(), Dirtiness::Clean);
        finish(&machine, Vec::from([pmap]), &[page]);
        assert_eq!(machine.calls().pages_entered, 2);
    }
}

#[test]
fn entering_another_page_records_what_the_replaced_one_knew() {
    for machine in machines() {
        let (old, new) = (valid_page(&machine, 0), valid_page(&machine, 1));
        let pmap = pmap(&machine);
        enter(&pmap, 0, old, RW);
        store(&pmap, 0, b"old").unwrap();
        enter(&pmap, 0, new, RW);
        assert_eq!(old.dirtiness(), Dirtiness::Dirty);
        assert_eq!(new.dirtiness(), Dirtiness::Clean);
        assert_eq!(load(&pmap, 0), Ok([0; 3]));
        assert_eq!(pmap.harvest_at(VirtAddr(0)), REFERENCED);
        machine.frames_free(&[old.frame()]);
        old.leave_object();
        page::free(old);
        finish(&machine, Vec::from([pmap]), &[new]);
    }
}

#[test]
fn removing_a_whole_address_space_skips_what_is_not_there() {
    for machine in machines() {
        let all = [0, 1, 2].map(|index| valid_page(&machine, index));
        let pmap = pmap(&machine);
        for (page, va) in all.iter().zip([0, 0x7fff_ffff_f000, 0xffff_ffff_f000]) {
            enter(&pmap, va, page, RW);
            store(&pmap, va, b"x").unwrap();
        }
        // 2^35 pages: this ends only if it looks at what exists.
        pmap.remove(AddrRange {
            start: VirtAddr(0),
            end: VirtAddr(1 << 47),
        });
        assert_eq!(prot_at(&pmap, 0x7fff_ffff_f000), None);
        assert_eq!(prot_at(&pmap, 0xffff_ffff_f000), Some(RW));
        assert_eq!(
            all.map(|page| page.dirtiness()),
            [Dirtiness::Dirty, Dirtiness::Dirty, Dirtiness::Clean]
        );
        pmap.remove(AddrRange {
            start: VirtAddr(0),
            end: VirtAddr(u64::MAX),
        });
        assert_eq!(all[2].dirtiness(), Dirtiness::Dirty);
        finish(&machine, Vec::from([pmap]), &all);
    }
}

#[test]
fn protecting_a_range_lowers_and_never_raises() {
    for machine in machines() {
        let all = [0, 1, 2].map(|index| valid_page(&machine, index));
        let pmap = pmap(&machine);
        assert_eq!(pmap.enter(&run(0, &all, RW)), (3, None));
        store(&pmap, 0x1000, b"x").unwrap();
        pmap.protect(pages(0x1000, 1), Prot::READ).unwrap();
        assert_eq!(
            [0, 0x1000, 0x2000].map(|va| prot_at(&pmap, va)),
            [Some(RW), Some(Prot::READ), Some(RW)]
        );
        assert_eq!(store(&pmap, 0x1000, b"y"), Err(CpuStop::Fault));
        pmap.protect(pages(0, 3), RW).unwrap();
        assert_eq!(prot_at(&pmap, 0x1000), Some(Prot::READ));
        // The bit is collected in every mode, though the mapping allows no store any more.
        machine.page_protect(&[all[1]], Prot::READ);
        assert_eq!(all[1].dirtiness(), Dirtiness::Dirty);
        pmap.protect(pages(0, 3), Prot::empty()).unwrap();
        assert_eq!([0, 0x1000, 0x2000].map(|va| prot_at(&pmap, va)), [None; 3]);
        let calls = machine.calls();
        assert_eq!(
            (calls.enters, calls.pages_entered, calls.protects, calls.page_protects),
            (1, 3, 3, 1)
        );
        finish(&machine, Vec::from([pmap]), &all);
    }
}

#[test]
fn protecting_a_page_reaches_all_its_mappings() {
    for machine in machines() {
        let (page, other) = (valid_page(&machine, 0), valid_page(&machine, 1));
        let pmaps: Vec<SoftPmap> = (0..3).map(|_| pmap(&machine)).collect();
        let vas = [0, 0x7000, 0x4000_0000];
        for pmap in &pmaps {
            vas.iter().for_each(|va| enter(pmap, *va, page, RW));
            enter(pmap, 0x1000, other, RW);
        }
        store(&pmaps[2], vas[1], b"z").unwrap();
        machine.page_protect(&[page], Prot::READ);
        assert_eq!((page.dirtiness(), page.take_referenced()), (Dirtiness::Dirty, true));
        let left = (!machine.config().modified_by_removal).then_some(Prot::READ);
        for pmap in &pmaps {
            assert!(vas.iter().all(|va| prot_at(pmap, *va) == left));
            assert_eq!(prot_at(pmap, 0x1000), Some(RW));
        }
        page.put_begins();
        page.put_succeeded();
        machine.page_protect(&[page], Prot::READ);
        let collected = (page.dirtiness(), page.take_referenced());
        assert_eq!(collected, (Dirtiness::Clean, false), "collected once");
        machine.page_protect(&[page], Prot::empty());
        assert!(
            pmaps
                .iter()
                .all(|pmap| vas.iter().all(|va| prot_at(pmap, *va).is_none()))
        );
        machine.page_protect(&[other], Prot::empty());
        finish(&machine, pmaps, &[page, other]);
    }
}

#[test]
fn protecting_a_run_records_modified_bits_on_exactly_the_written_pages() {
    for machine in machines() {
        let all: Vec<PageRef> = (0..16).map(|index| valid_page(&machine, index)).collect();
        let pmaps = [pmap(&machine), pmap(&machine)];
        for pmap in &pmaps {
            assert_eq!(pmap.enter(&run(0x4000, &all, RW)), (16, None));
        }
        let is_written = |at: usize| at % 3 == 1;
        for at in (0..16).filter(|at| is_written(*at)) {
            store(&pmaps[at % 2], 0x4000 + at as u64 * PAGE_SIZE, b"w").unwrap();
        }
        load::<1>(&pmaps[0], 0x4000).unwrap();
        // Every fourth page is left out: a hole.
        let protected = |at: usize| at % 4 != 3;
        let picked: Vec<PageRef> = (0..16).filter(|at| protected(*at)).map(|at| all[at]).collect();
        let before = machine.calls();
        machine.page_protect(&picked, Prot::READ);
        let after = machine.calls();
        let counted = (
            after.page_protects - before.page_protects,
            after.pages_protected - before.pages_protected,
        );
        assert_eq!(counted, (1, 12));
        for (at, page) in all.iter().enumerate() {
            let expected = protected(at) && is_written(at);
            assert_eq!(page.dirtiness() == Dirtiness::Dirty, expected, "page {at}");
            assert_eq!(page.take_referenced(), expected || at == 0, "page {at}");
            let va = 0x4000 + at as u64 * PAGE_SIZE;
            assert_eq!(store(&pmaps[0], va, b"x").is_ok(), !protected(at), "page {at}");
        }
        machine.page_protect(&all, Prot::empty());
        assert_eq!(all[7].dirtiness(), Dirtiness::Dirty, "the holes' bits were kept");
        finish(&machine, Vec::from(pmaps), &all);
    }
}

#[test]
fn where_only_removal_tells_a_test_shows_nothing_and_removal_everything() {
    for machine in machines() {
        let by_removal = machine.config().modified_by_removal;
        let (page, pmap) = (valid_page(&machine, 0), pmap(&machine));
        enter(&pmap, 0, page, RW);
        load::<1>(&pmap, 0).unwrap();
        assert_eq!(machine.page_referenced(page), !by_removal);
        assert!(!machine.page_referenced(page));
        store(&pmap, 0, b"1").unwrap();
        // Nothing is to be lowered, but a modification is to be collected.
        machine.page_protect(&[page], Prot::all());
        assert_eq!(page.dirtiness(), Dirtiness::Dirty);
        assert_eq!(prot_at(&pmap, 0).is_none(), by_removal);
        finish(&machine, Vec::from([pmap]), &[page]);
    }
}

#[test]
fn dropping_an_address_space_records_what_it_knew_and_frees_its_number() {
    for machine in machines() {
        let page = valid_page(&machine, 0);
        for round in 0..3 {
            let (kept, gone) = (pmap(&machine), pmap(&machine));
            enter(&gone, 0, page, RW);
            enter(&kept, 0, page, Prot::READ);
            store(&gone, 0, b"last words").unwrap();
            drop(gone);
            assert_eq!(page.dirtiness(), Dirtiness::Dirty);
            assert_eq!(load(&kept, 0), Ok(*b"last words"));
            drop(kept);
            assert_eq!(machine.spaces.numbers(), 2);
            assert_eq!(machine.calls().enters, 2 * (round + 1));
            page.put_begins();
            page.put_succeeded();
        }
        finish(&machine, Vec::new(), &[page]);
    }
}

#[test]
fn addresses_that_the_tables_do_not_reach_are_refused() {
    for machine in machines() {
        let beyond = AddrRange {
            start: VirtAddr(0),
            end: VirtAddr((1 << 48) + 1),
        };
        assert!(matches!(machine.clone().pmap_create(beyond), Err(Error::Invalid(_))));
        let small = machine.clone().pmap_create(pages(0x10_0000, 2)).unwrap();
        let page = valid_page(&machine, 0);
        assert!(panic_of(|| _ = small.enter(&run(0x10_2000, &[page], RW))).contains("outside its address space"));
        assert_eq!(small.cpu(VirtAddr(0), CpuAccess::Load(&mut [0])), Err(CpuStop::Fault));
        assert_eq!(small.extract(VirtAddr(u64::MAX)), None);
        assert_eq!(small.enter(&run(0x10_1000, &[page], RW)), (1, None));
        small.remove(WHOLE);
        finish(&machine, Vec::new(), &[page]);
    }
}
