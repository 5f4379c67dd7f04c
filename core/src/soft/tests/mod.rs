//! Tests of the soft machine, each in every awkward mode.

mod frames;
mod loans;
mod model;
mod pmaps;
mod stress;

extern crate std;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::pmap::SoftPmap;
use super::{SoftConfig, SoftMachine};
use crate::machine::{CpuAccess, CpuStop, EnterRun, Machine, NotEntered, Placement, Pmap, Reserve};
use crate::page::{self, PageRef};
use crate::types::{Access, AddrRange, CacheMode, ObjectId, PAGE_SIZE, PageIndex, Prot, VirtAddr};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const WHOLE: AddrRange = AddrRange {
    start: VirtAddr(0),
    end: SoftMachine::ADDRESS_LIMIT,
};

fn machines() -> impl Iterator<Item = Arc<SoftMachine>> {
    SoftConfig::awkward_modes()
        .into_iter()
        .map(|mode| SoftMachine::new(SoftConfig { frames: 64, ..mode }).unwrap())
}

fn place(index: u64) -> Placement {
    Placement {
        owner: ObjectId(1),
        index: PageIndex(index),
    }
}

/// A page in no object, over the frame for `place`, not filled.
fn fake_page(machine: &SoftMachine, index: u64) -> PageRef {
    let frame = machine.frame_alloc(place(index), Reserve::Ordinary).unwrap();
    let page = page::allocate().unwrap();
    page.set_frame(frame);
    page.enter_object(place(index).owner, place(index).index);
    page
}

/// A page of object 1, filled with zeros and exclusively busied.
fn valid_page(machine: &SoftMachine, index: u64) -> PageRef {
    let page = fake_page(machine, index);
    machine.copy_in(page, 0, &[0; 4096]);
    page.mark_valid();
    page
}

/// Gives an exclusively busied page and its frame back. It must not be mapped.
fn give_back(machine: &SoftMachine, page: PageRef) {
    machine.frames_free(&[page.frame()]);
    page.leave_object();
    page::free(page);
}

fn pmap(machine: &Arc<SoftMachine>) -> SoftPmap {
    SoftPmap::new(machine.clone(), machine.spaces.add(WHOLE).unwrap())
}

fn run(va: u64, pages: &[PageRef], prot: Prot) -> EnterRun<'_> {
    EnterRun {
        start: VirtAddr(va),
        pages,
        prot,
        cache: CacheMode::WriteBack,
        accessed: None,
        wired: false,
        can_fail: true,
    }
}

fn enter(pmap: &SoftPmap, va: u64, page: PageRef, prot: Prot) {
    assert_eq!(pmap.enter(&run(va, &[page], prot)), (1, None));
}

fn store(pmap: &SoftPmap, va: u64, bytes: &[u8]) -> Result<(), CpuStop> {
    pmap.cpu(VirtAddr(va), CpuAccess::Store(bytes))
}

fn load<const N: usize>(pmap: &SoftPmap, va: u64) -> Result<[u8; N], CpuStop> {
    let mut bytes = [0; N];
    pmap.cpu(VirtAddr(va), CpuAccess::Load(&mut bytes))?;
    Ok(bytes)
}

fn prot_at(pmap: &SoftPmap, va: u64) -> Option<Prot> {
    pmap.extract(VirtAddr(va)).map(|translation| translation.prot)
}

fn pages(start: u64, count: u64) -> AddrRange {
    AddrRange::sized(VirtAddr(start), count * PAGE_SIZE).unwrap()
}

/// What a panic said.
fn panic_of(doing: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(doing)).expect_err("this should have panicked");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => String::from(*panic.downcast::<&str>().unwrap()),
    }
}

/// Frees what the test made, which the machine checks: nothing mapped, nothing twice.
fn finish(machine: &SoftMachine, pmaps: Vec<SoftPmap>, pages: &[PageRef]) {
    drop(pmaps);
    for page in pages {
        give_back(machine, page);
    }
    let counts = machine.frame_counts();
    assert_eq!(counts.free, counts.total);
}
