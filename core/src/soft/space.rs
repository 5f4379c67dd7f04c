//! One address space, as the machine sees it: what it looks up for a mapping in a frame's list.
//!
//! A list names address spaces by number, and whoever comes from a list may find that the space has gone. A number is
//! used again only after everything mapped in that space was removed, and a mapping counts only if its translation still
//! shows the frame, so a stale number leads nowhere.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::frames::Frames;
use super::page_table::{Leaf, Level, Root, entry_of};
use super::pte::Pte;
use super::rmap::{MAX_SPACES, Mapping};
use crate::alloc_fallible::{try_box, try_reserve};
use crate::error::{Error, Result};
use crate::page::PageRef;
use crate::sync::FrameLock;
use crate::types::{AddrRange, Frame, Prot, VirtAddr};

/// The tables of one address space.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) id: u32,
    pub(super) range: AddrRange,
    pub(super) tables: Box<Root>,
}

impl Space {
    /// The name of an address of this space in the list of a frame.
    pub(super) fn mapping(&self, va: VirtAddr) -> Mapping {
        Mapping::new(self.id, va)
    }

    /// Calls `visit` with every leaf in the part of `range` that belongs to the space.
    pub(super) fn each_leaf(&self, range: AddrRange, visit: &mut dyn FnMut(VirtAddr, &Leaf)) {
        let start = range.start.max(self.range.start).page_floor();
        let end = range.end.min(self.range.end);
        if start < end {
            self.tables.each_leaf(0, AddrRange { start, end }, visit);
        }
    }

    /// Removes what is mapped in the range, and records its bits.
    pub(super) fn remove(&self, frames: &Frames, range: AddrRange) {
        self.each_leaf(range, &mut |base, leaf| {
            leaf.0.lock().each_present(base, range, |entries, va, pte| {
                entries.set(entry_of(va), Pte::NONE);
                frames.mappings(pte.frame()).strike_out(self.mapping(va), pte.harvest());
            });
        });
    }

    /// Lowers the mapping at `va`, if it still shows `page`, to at most `prot`, and records its bits. A machine that learns
    /// `by_removal` removes what has to be lowered, and what was modified.
    pub(super) fn lower(&self, frames: &Frames, page: PageRef, va: VirtAddr, prot: Prot, by_removal: bool) {
        let Some(leaf) = self.tables.leaf(va) else { return };
        let frame = page.frame();
        let mut entries = leaf.0.lock();
        let pte = entries.get(entry_of(va));
        if !pte.shows(frame) {
            return;
        }
        let lowered = pte.lowered_to(prot);
        let has_to_go = by_removal && (lowered != pte || pte.harvest().modified);
        if lowered.prot().is_empty() || has_to_go {
            entries.set(entry_of(va), Pte::NONE);
            frames.mappings(frame).strike_out(self.mapping(va), pte.harvest());
        } else if !by_removal {
            pte.harvest().record(page);
            entries.set(entry_of(va), lowered.unused());
        }
    }

    /// Collects and clears the referenced bit of the mapping at `va`, if it still shows `frame`.
    pub(super) fn take_referenced(&self, frame: Frame, va: VirtAddr) -> bool {
        let Some(leaf) = self.tables.leaf(va) else { return false };
        let mut entries = leaf.0.lock();
        let pte = entries.get(entry_of(va));
        if !pte.shows(frame) {
            return false;
        }
        entries.set(entry_of(va), pte.unreferenced());
        pte.harvest().referenced
    }

    /// Calls of `enter` and mappings made.
    pub(super) fn entered(&self) -> (u64, u64) {
        let mut counts = (0, 0);
        self.each_leaf(self.range, &mut |_, leaf| {
            let entries = leaf.0.lock();
            counts.0 += entries.enters;
            counts.1 += entries.pages_entered;
        });
        counts
    }
}

/// Every address space of a machine, by number.
#[derive(Debug)]
pub(super) struct Spaces(FrameLock<Numbered>);

#[derive(Debug)]
struct Numbered {
    spaces: Vec<Option<Arc<Space>>>,
    /// Numbers that are not used. Has room for all of them.
    unused: Vec<u32>,
}

impl Spaces {
    pub(super) fn new() -> Self {
        Self(FrameLock::new(Numbered {
            spaces: Vec::new(),
            unused: Vec::new(),
        }))
    }

    /// A new, empty space.
    pub(super) fn add(&self, range: AddrRange) -> Result<Arc<Space>> {
        let tables = try_box(Root::empty())?;
        let mut numbered = self.0.lock();
        if numbered.unused.is_empty() {
            numbered.one_more()?;
        }
        let Some(id) = numbered.unused.pop() else {
            return Err(Error::NoMemory);
        };
        let space = Arc::new(Space { id, range, tables });
        numbered.spaces[id as usize] = Some(space.clone());
        Ok(space)
    }

    /// The space of that number, now.
    pub(super) fn get(&self, id: u32) -> Option<Arc<Space>> {
        self.0.lock().spaces.get(id as usize)?.clone()
    }

    /// Gives a number up. Nothing is mapped in its space.
    pub(super) fn forget(&self, id: u32) {
        let mut numbered = self.0.lock();
        let space = numbered.spaces[id as usize].take();
        numbered.unused.push(id);
        drop(numbered);
        drop(space);
    }

    /// How many numbers were ever used.
    pub(super) fn numbers(&self) -> usize {
        self.0.lock().spaces.len()
    }
}

impl Numbered {
    fn one_more(&mut self) -> Result<()> {
        let id = u32::try_from(self.spaces.len())
            .ok()
            .filter(|id| *id < MAX_SPACES)
            .ok_or(Error::NoMemory)?;
        try_reserve(&mut self.spaces, 1)?;
        let capacity = self.spaces.len() + 1;
        try_reserve(&mut self.unused, capacity)?;
        self.spaces.push(None);
        self.unused.push(id);
        Ok(())
    }
}
