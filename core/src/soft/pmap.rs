//! The soft machine's [`Pmap`]: entering, removing, and the simulated processor.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::Ordering;

use super::SoftMachine;
use super::calls::count;
use super::page_table::{Entries, Level, entry_of};
use super::pte::Pte;
use super::space::Space;
use crate::machine::{CpuAccess, CpuStop, EnterRun, NotEntered, Placement, Pmap, Translation};
use crate::page::PageRef;
use crate::types::{Access, AddrRange, PAGE_SHIFT, PAGE_SIZE, Prot, VirtAddr};

/// The translations of one address space on a soft machine.
pub(super) struct SoftPmap {
    machine: Arc<SoftMachine>,
    space: Arc<Space>,
}

impl SoftPmap {
    pub(super) fn new(machine: Arc<SoftMachine>, space: Arc<Space>) -> Self {
        Self { machine, space }
    }

    /// What the mapping at `va` knows of its use.
    #[cfg(test)]
    pub(super) fn harvest_at(&self, va: VirtAddr) -> crate::machine::Harvest {
        let leaf = self.space.tables.leaf(va);
        leaf.map_or_else(Default::default, |leaf| leaf.0.lock().get(entry_of(va)).harvest())
    }

    /// Enters pages from number `done` on, as many as there are in the leaf table of the first of them.
    fn enter_in_leaf(&self, run: &EnterRun<'_>, done: &mut usize) -> Result<(), NotEntered> {
        let mut va = address_of(run, *done);
        let leaf = self.space.tables.leaf_or_new(va).map_err(|_| NotEntered::Shortage)?;
        let mut entries = leaf.0.lock();
        entries.enters += u64::from(*done == 0);
        loop {
            self.enter_page(&mut entries, va, run, *done)?;
            entries.pages_entered += 1;
            *done += 1;
            va.0 += PAGE_SIZE;
            if *done == run.pages.len() || entry_of(va) == 0 {
                return Ok(());
            }
        }
    }

    fn enter_page(&self, entries: &mut Entries, va: VirtAddr, run: &EnterRun<'_>, i: usize) -> Result<(), NotEntered> {
        let page = run.pages[i];
        assert!(page.is_valid(), "a page that has not been filled was to be mapped");
        debug_assert!(page.busy.is_busied(), "a page was to be mapped that nobody has busied");
        if let Some(why) = self.machine.injections.enter() {
            return Err(why);
        }
        if !self.machine.is_at_home(page) {
            return Err(NotEntered::NotHere);
        }
        let frames = &self.machine.frames;
        let (frame, mapping, entry) = (page.frame(), self.space.mapping(va), entry_of(va));
        let old = entries.get(entry);
        let new = preset(Pte::new(frame, run.prot, run.cache, run.wired), run, i);
        if old.shows(frame) {
            entries.set(entry, new.carrying_on(old));
            return Ok(());
        }
        frames
            .mappings_to_add_to(frame)
            .and_then(|mappings| mappings.add(page, mapping))
            .map_err(|_| NotEntered::Shortage)?;
        entries.set(entry, new);
        if old.is_present() {
            frames.mappings(old.frame()).strike_out(mapping, old.harvest());
        }
        Ok(())
    }

    /// Replaces each translation in the range by what `change` makes of it.
    fn change(&self, range: AddrRange, change: impl Fn(Pte) -> Pte) {
        self.space.each_leaf(range, &mut |base, leaf| {
            leaf.0
                .lock()
                .each_present(base, range, |entries, va, pte| entries.set(entry_of(va), change(pte)));
        });
    }
}

fn address_of(run: &EnterRun<'_>, page: usize) -> VirtAddr {
    VirtAddr(run.start.0 + ((page as u64) << PAGE_SHIFT))
}

/// The page that was accessed is known to be used; those mapped along are not (S203, S204).
fn preset(pte: Pte, run: &EnterRun<'_>, page: usize) -> Pte {
    match run.accessed {
        Some((accessed, access)) if accessed == page => {
            debug_assert!(
                run.prot.contains(access.needs()),
                "entered for an access that the mapping does not allow"
            );
            pte.used_for(access)
        }
        _ => pte,
    }
}

impl Pmap for SoftPmap {
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        let fits = (run.pages.len() as u64)
            .checked_mul(PAGE_SIZE)
            .and_then(|len| AddrRange::sized(run.start, len))
            .is_some_and(|all| self.space.range.start <= all.start && all.end <= self.space.range.end);
        assert!(
            run.start.is_aligned() && fits,
            "a mapping at {} lies outside its address space",
            run.start
        );
        let mut done = 0;
        while done < run.pages.len() {
            if let Err(why) = self.enter_in_leaf(run, &mut done) {
                let fatal = why == NotEntered::Shortage && !run.can_fail;
                assert!(
                    !fatal,
                    "no memory for a mapping that must not fail, at {}",
                    address_of(run, done)
                );
                return (done, Some(why));
            }
        }
        (done, None)
    }

    fn remove(&self, range: AddrRange) {
        count(&self.machine.counters.removes);
        self.space.remove(&self.machine.frames, range);
    }

    fn protect(&self, range: AddrRange, prot: Prot) -> crate::error::Result<()> {
        count(&self.machine.counters.protects);
        if prot.is_empty() {
            self.space.remove(&self.machine.frames, range);
        } else {
            // The bits stay, in every mode: whoever lowers a page, or removes it, collects them.
            self.change(range, |pte| pte.lowered_to(prot));
        }
        Ok(())
    }

    fn write_protect(&self, range: AddrRange) {
        count(&self.machine.counters.protects);
        self.change(range, |pte| pte.lowered_to(Prot::READ | Prot::EXEC));
    }

    fn unwire(&self, range: AddrRange) {
        self.change(range, Pte::unwired);
    }

    fn extract(&self, va: VirtAddr) -> Option<Translation> {
        if !self.space.range.contains(va) {
            return None;
        }
        let entries = self.space.tables.leaf(va)?.0.lock();
        entries.get(entry_of(va)).translation()
    }

    fn cpu(&self, va: VirtAddr, access: CpuAccess<'_>) -> Result<(), CpuStop> {
        if !self.space.range.contains(va) {
            return Err(CpuStop::Fault);
        }
        let leaf = self.space.tables.leaf(va).ok_or(CpuStop::Fault)?;
        // The lock makes the access one with its bits: who takes the mapping away has both or neither.
        let mut entries = leaf.0.lock();
        let pte = entries.get(entry_of(va));
        let kind: Access = access.access();
        if !pte.is_present() || !pte.prot().contains(kind.needs()) {
            return Err(CpuStop::Fault);
        }
        let frames = &self.machine.frames;
        match access {
            CpuAccess::Load(to) => frames.read(pte.frame(), va.in_page(), to),
            CpuAccess::Store(from) => frames.write(pte.frame(), va.in_page(), from),
        }
        entries.set(entry_of(va), pte.used_for(kind));
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SoftPmap {
    fn drop(&mut self) {
        self.space.remove(&self.machine.frames, self.space.range);
        let (enters, pages) = self.space.entered();
        self.machine.spaces.forget(self.space.id);
        self.machine.counters.enters.fetch_add(enters, Ordering::Relaxed);
        self.machine.counters.pages_entered.fetch_add(pages, Ordering::Relaxed);
    }
}

impl fmt::Debug for SoftPmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftPmap")
            .field("space", &self.space.id)
            .field("range", &self.space.range)
            .finish()
    }
}

impl SoftMachine {
    /// Whether a page may be seen in the frame it has. A page in no object has no placement to be held against, and a device's memory is seen
    /// anywhere.
    #[inline]
    fn is_at_home(&self, page: PageRef) -> bool {
        if !self.config.fixed_frames || page.is_device() {
            return true;
        }
        match page.object() {
            Some(owner) => self.frames.is_home(
                page.frame(),
                Placement {
                    owner,
                    index: page.index(),
                },
            ),
            None => true,
        }
    }
}
