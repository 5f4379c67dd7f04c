//! The translations against a naive model, on random operations, in every mode.
//!
//! The model is exact: rights, wiring, the bits of each mapping, what was recorded on each page, and every byte. On top
//! of that it keeps which pages were ever stored to since somebody last collected: such a modification must be in a
//! mapping, on the page, or in the hands of the caller.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::machine::Harvest;
use crate::page::Dirtiness;

const PMAPS: usize = 3;
const PAGES: usize = 4;
/// Neighbours, both sides of a leaf's border, and the ends of the space.
const VAS: [u64; 6] = [0, 0x1000, 0x1f_f000, 0x20_0000, 0x4000_0000, 0xffff_ffff_f000];

#[derive(Clone, Debug)]
enum Op {
    Enter {
        pmap: usize,
        va: usize,
        page: usize,
        prot: Prot,
        access: Option<Access>,
        wired: bool,
    },
    Remove {
        pmap: usize,
        from: usize,
        to: usize,
    },
    Protect {
        pmap: usize,
        from: usize,
        to: usize,
        prot: Prot,
    },
    Unwire {
        pmap: usize,
        from: usize,
        to: usize,
    },
    Store {
        pmap: usize,
        va: usize,
        at: usize,
        byte: u8,
    },
    Load {
        pmap: usize,
        va: usize,
        at: usize,
    },
    PageProtect {
        pages: [bool; PAGES],
        prot: Prot,
    },
    PageReferenced {
        page: usize,
    },
    Replace {
        pmap: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let pmap = || 0..PMAPS;
    let va = || 0..VAS.len();
    let prot = || prop_oneof![Just(Prot::empty()), Just(Prot::READ), Just(RW), Just(Prot::all())];
    let mapped = || prop_oneof![Just(Prot::READ), Just(RW), Just(RW)];
    let access = || prop_oneof![Just(None), Just(Some(Access::Read)), Just(Some(Access::Write))];
    prop_oneof![
        6 => (pmap(), va(), 0..PAGES, mapped(), access(), any::<bool>()).prop_map(|(pmap, va, page, prot, access, wired)| {
            let access = access.filter(|access| prot.contains(access.needs()));
            Op::Enter { pmap, va, page, prot, access, wired }
        }),
        2 => (pmap(), va(), va()).prop_map(|(pmap, from, to)| Op::Remove { pmap, from, to }),
        2 => (pmap(), va(), va(), prot()).prop_map(|(pmap, from, to, prot)| Op::Protect { pmap, from, to, prot }),
        1 => (pmap(), va(), va()).prop_map(|(pmap, from, to)| Op::Unwire { pmap, from, to }),
        6 => (pmap(), va(), 0..32_usize, any::<u8>()).prop_map(|(pmap, va, at, byte)| Op::Store { pmap, va, at, byte }),
        3 => (pmap(), va(), 0..32_usize).prop_map(|(pmap, va, at)| Op::Load { pmap, va, at }),
        3 => (any::<[bool; PAGES]>(), prot()).prop_map(|(pages, prot)| Op::PageProtect { pages, prot }),
        1 => (0..PAGES).prop_map(|page| Op::PageReferenced { page }),
        1 => pmap().prop_map(|pmap| Op::Replace { pmap }),
    ]
}

#[derive(Clone, Copy)]
struct Mapped {
    page: usize,
    prot: Prot,
    wired: bool,
    bits: Harvest,
}

#[derive(Default)]
struct Model {
    by_removal: bool,
    mappings: BTreeMap<(usize, usize), Mapped>,
    bytes: [[u8; 32]; PAGES],
    recorded: [Harvest; PAGES],
    /// Stored to, or entered for a write, and not yet collected.
    outstanding: [bool; PAGES],
}

impl Model {
    fn record(&mut self, page: usize, bits: Harvest) {
        self.recorded[page].modified |= bits.modified;
        self.recorded[page].referenced |= bits.referenced;
    }

    fn enter(&mut self, at: (usize, usize), new: Mapped) {
        let mut new = new;
        self.outstanding[new.page] |= new.bits.modified;
        match self.mappings.get(&at).copied() {
            Some(old) if old.page == new.page => {
                new.bits.modified |= old.bits.modified;
                new.bits.referenced |= old.bits.referenced;
                new.wired |= old.wired;
            }
            Some(old) => self.record(old.page, old.bits),
            None => {}
        }
        self.mappings.insert(at, new);
    }

    fn in_range(&self, pmap: usize, from: usize, to: usize) -> Vec<(usize, usize)> {
        self.mappings
            .range((pmap, from)..(pmap, to.max(from)))
            .map(|(at, _)| *at)
            .collect()
    }

    fn remove(&mut self, at: (usize, usize)) {
        let old = self.mappings.remove(&at).unwrap();
        self.record(old.page, old.bits);
    }

    fn page_protect(&mut self, page: usize, prot: Prot) {
        let mut all = Harvest::default();
        let by_removal = self.by_removal;
        self.mappings.retain(|_, mapped| {
            if mapped.page != page {
                return true;
            }
            let lowered = mapped.prot & prot;
            let goes = lowered.is_empty() || by_removal && (lowered != mapped.prot || mapped.bits.modified);
            if goes || !by_removal {
                all.modified |= mapped.bits.modified;
                all.referenced |= mapped.bits.referenced;
                mapped.bits = Harvest::default();
                mapped.prot = lowered;
            }
            !goes
        });
        self.outstanding[page] = false;
        self.record(page, all);
    }

    fn page_referenced(&mut self, page: usize) -> bool {
        let mut any = false;
        if !self.by_removal {
            for mapped in self.mappings.values_mut().filter(|mapped| mapped.page == page) {
                any |= core::mem::take(&mut mapped.bits.referenced);
            }
        }
        any
    }
}

struct Pair {
    machine: Arc<SoftMachine>,
    pmaps: Vec<SoftPmap>,
    pages: Vec<PageRef>,
    model: Model,
}

impl Pair {
    fn new(mode: SoftConfig) -> Self {
        let machine = SoftMachine::new(SoftConfig { frames: 32, ..mode }).unwrap();
        Self {
            pmaps: (0..PMAPS).map(|_| pmap(&machine)).collect(),
            pages: (0..PAGES).map(|index| valid_page(&machine, index as u64)).collect(),
            model: Model {
                by_removal: mode.modified_by_removal,
                ..Model::default()
            },
            machine,
        }
    }

    fn apply(&mut self, op: &Op) {
        let range = |from: usize, to: usize| AddrRange {
            start: VirtAddr(VAS[from]),
            end: VirtAddr(VAS[to.max(from)]),
        };
        match *op {
            Op::Enter {
                pmap,
                va,
                page,
                prot,
                access,
                wired,
            } => {
                let one = [self.pages[page]];
                let accessed = access.map(|access| (0, access));
                let run = EnterRun {
                    accessed,
                    wired,
                    ..run(VAS[va], &one, prot)
                };
                assert_eq!(self.pmaps[pmap].enter(&run), (1, None));
                let bits = Harvest {
                    modified: access == Some(Access::Write),
                    referenced: access.is_some(),
                };
                self.model.enter(
                    (pmap, va),
                    Mapped {
                        page,
                        prot,
                        wired,
                        bits,
                    },
                );
            }
            Op::Remove { pmap, from, to } => {
                self.pmaps[pmap].remove(range(from, to));
                self.model
                    .in_range(pmap, from, to)
                    .into_iter()
                    .for_each(|at| self.model.remove(at));
            }
            Op::Protect { pmap, from, to, prot } => {
                self.pmaps[pmap].protect(range(from, to), prot).unwrap();
                for at in self.model.in_range(pmap, from, to) {
                    if prot.is_empty() {
                        self.model.remove(at);
                    } else if let Some(mapped) = self.model.mappings.get_mut(&at) {
                        mapped.prot &= prot;
                    }
                }
            }
            Op::Unwire { pmap, from, to } => {
                self.pmaps[pmap].unwire(range(from, to));
                for at in self.model.in_range(pmap, from, to) {
                    self.model.mappings.get_mut(&at).unwrap().wired = false;
                }
            }
            Op::Store { pmap, va, at, byte } => {
                let done = store(&self.pmaps[pmap], VAS[va] + at as u64, &[byte]);
                let mapped = self
                    .model
                    .mappings
                    .get_mut(&(pmap, va))
                    .filter(|mapped| mapped.prot.contains(Prot::WRITE));
                assert_eq!(done.is_ok(), mapped.is_some());
                if let Some(mapped) = mapped {
                    mapped.bits = Harvest {
                        modified: true,
                        referenced: true,
                    };
                    self.model.bytes[mapped.page][at] = byte;
                    self.model.outstanding[mapped.page] = true;
                }
            }
            Op::Load { pmap, va, at } => {
                let loaded = load::<1>(&self.pmaps[pmap], VAS[va] + at as u64).ok();
                let mapped = self
                    .model
                    .mappings
                    .get_mut(&(pmap, va))
                    .filter(|mapped| mapped.prot.contains(Prot::READ));
                assert_eq!(
                    loaded,
                    mapped.as_ref().map(|mapped| [self.model.bytes[mapped.page][at]])
                );
                if let Some(mapped) = mapped {
                    mapped.bits.referenced = true;
                }
            }
            Op::PageProtect { pages, prot } => {
                let chosen: Vec<usize> = (0..PAGES).filter(|page| pages[*page]).collect();
                let refs: Vec<PageRef> = chosen.iter().map(|page| self.pages[*page]).collect();
                self.machine.page_protect(&refs, prot);
                for page in chosen {
                    // Before the model forgets what is outstanding.
                    let kept = self.pages[page].dirtiness() == Dirtiness::Dirty;
                    assert!(kept || !self.model.outstanding[page], "a modification was lost");
                    self.model.page_protect(page, prot);
                }
            }
            Op::PageReferenced { page } => {
                assert_eq!(
                    self.machine.page_referenced(self.pages[page]),
                    self.model.page_referenced(page)
                );
            }
            Op::Replace { pmap: number } => {
                self.pmaps[number] = pmap(&self.machine);
                self.model
                    .in_range(number, 0, VAS.len())
                    .into_iter()
                    .for_each(|at| self.model.remove(at));
            }
        }
    }

    fn compare(&mut self) {
        let mut held = [false; PAGES];
        for pmap in 0..PMAPS {
            for (va, address) in VAS.map(VirtAddr).into_iter().enumerate() {
                let bits = self.pmaps[pmap].harvest_at(address);
                let found = self.pmaps[pmap]
                    .extract(address)
                    .map(|at| (at.frame, at.prot, at.wired, bits));
                let mapped = self.model.mappings.get(&(pmap, va));
                let expected = mapped.map(|m| (self.pages[m.page].frame(), m.prot, m.wired, m.bits));
                assert_eq!(found, expected, "address space {pmap}, {address}");
                if let Some(mapped) = mapped {
                    held[mapped.page] |= bits.modified;
                }
            }
        }
        for (i, page) in self.pages.iter().enumerate() {
            let dirty = page.dirtiness() == Dirtiness::Dirty;
            assert_eq!(dirty, self.model.recorded[i].modified);
            assert_eq!(
                page.take_referenced(),
                core::mem::take(&mut self.model.recorded[i].referenced)
            );
            assert!(
                held[i] || dirty || !self.model.outstanding[i],
                "a modification was lost"
            );
            let mut bytes = [0; 32];
            self.machine.copy_out(page, 0, &mut bytes);
            assert_eq!(bytes, self.model.bytes[i]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn translations_do_what_the_model_does_and_lose_no_modification(ops in proptest::collection::vec(op(), 1..80)) {
        for mode in SoftConfig::awkward_modes() {
            let mut pair = Pair::new(mode);
            for op in &ops {
                pair.apply(op);
                pair.compare();
            }
            finish(&pair.machine, pair.pmaps, &pair.pages);
        }
    }
}
