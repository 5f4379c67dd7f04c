//! The page tables of one address space: four levels of 512 entries, which reach over 48 bits of address.
//!
//! Tables are made when something is mapped below them and kept until the address space goes, so that walking down to a
//! leaf takes no lock. The entries of a leaf, 2 MiB worth of pages, are under that leaf's lock: threads that fault in
//! different parts of one address space do not meet.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::pte::Pte;
use crate::alloc_fallible::try_box;
use crate::machine::Shortage;
use crate::sync::PmapLock;
use crate::types::{AddrRange, PAGE_SHIFT, PAGE_SIZE, VirtAddr};

const ENTRIES: usize = 512;
const ENTRIES_SHIFT: u32 = ENTRIES.trailing_zeros();

/// The first address that the tables do not reach.
pub(super) const ADDRESS_LIMIT: u64 = 1 << <Root as Level>::SHIFT;

/// The top of the tree.
pub(super) type Root = Directory<Directory<Directory<Leaf>>>;

/// A table of some level.
pub(super) trait Level: Sized {
    /// Log2 of the bytes that one such table maps.
    const SHIFT: u32;

    /// A table that maps nothing.
    fn empty() -> Self;

    /// The leaf for an address.
    fn leaf(&self, va: VirtAddr) -> Option<&Leaf>;

    /// The leaf for an address, made if it is missing, as the tables above it are.
    fn leaf_or_new(&self, va: VirtAddr) -> Result<&Leaf, Shortage>;

    /// Calls `visit` with every leaf that has a part of the range, and the address of its first page. What is not there is
    /// skipped as a whole. `base` is the first address of this table.
    fn each_leaf(&self, base: u64, range: AddrRange, visit: &mut dyn FnMut(VirtAddr, &Leaf));
}

/// The lowest table: translations.
#[derive(Debug)]
pub(super) struct Leaf(pub(super) PmapLock<Entries>);

/// What a leaf's lock protects.
#[derive(Debug)]
pub(super) struct Entries {
    ptes: [Pte; ENTRIES],
    /// How many are present.
    present: usize,
    /// Calls of `enter` that began here, and mappings they made.
    pub(super) enters: u64,
    pub(super) pages_entered: u64,
}

/// The page of `va` among the entries of its leaf.
pub(super) fn entry_of(va: VirtAddr) -> usize {
    slot_of(va, PAGE_SHIFT)
}

#[allow(clippy::cast_possible_truncation, reason = "nine bits are left")]
fn slot_of(va: VirtAddr, shift: u32) -> usize {
    (va.0 >> shift) as usize & (ENTRIES - 1)
}

impl Entries {
    pub(super) fn get(&self, entry: usize) -> Pte {
        self.ptes[entry]
    }

    pub(super) fn set(&mut self, entry: usize, pte: Pte) {
        self.present += usize::from(pte.is_present());
        self.present -= usize::from(self.ptes[entry].is_present());
        self.ptes[entry] = pte;
    }

    /// Calls `visit` with each present entry of the range, its address, and itself. `base` is the address of entry 0.
    pub(super) fn each_present(
        &mut self,
        base: VirtAddr,
        range: AddrRange,
        mut visit: impl FnMut(&mut Self, VirtAddr, Pte),
    ) {
        let end = range.end.0.min(base.0 + (1 << Leaf::SHIFT));
        let mut va = range.start.0.max(base.0);
        while va < end && self.present > 0 {
            let pte = self.get(entry_of(VirtAddr(va)));
            if pte.is_present() {
                visit(self, VirtAddr(va), pte);
            }
            va += PAGE_SIZE;
        }
    }
}

impl Level for Leaf {
    const SHIFT: u32 = PAGE_SHIFT + ENTRIES_SHIFT;

    fn empty() -> Self {
        Self(PmapLock::new(Entries {
            ptes: [Pte::NONE; ENTRIES],
            present: 0,
            enters: 0,
            pages_entered: 0,
        }))
    }

    fn leaf(&self, _va: VirtAddr) -> Option<&Leaf> {
        Some(self)
    }

    fn leaf_or_new(&self, _va: VirtAddr) -> Result<&Leaf, Shortage> {
        Ok(self)
    }

    fn each_leaf(&self, base: u64, _range: AddrRange, visit: &mut dyn FnMut(VirtAddr, &Leaf)) {
        visit(VirtAddr(base), self);
    }
}

/// A table of tables.
///
/// # Invariants
///
/// A pointer in it is null or came from a box of `T` that belongs to this directory. It changes once, from null, and is
/// freed when the directory is dropped.
#[derive(Debug)]
pub(super) struct Directory<T>([AtomicPtr<T>; ENTRIES]);

impl<T: Level> Directory<T> {
    fn below(&self, slot: usize) -> Option<&T> {
        // SAFETY: the pointer is null or a box of ours that lives as long as we do, by the type's invariants, and only
        // shared references to it are made. Acquire: the table's contents are seen as they were when it was put in.
        unsafe { self.0[slot].load(Ordering::Acquire).as_ref() }
    }

    fn below_or_new(&self, slot: usize) -> Result<&T, Shortage> {
        if let Some(table) = self.below(slot) {
            return Ok(table);
        }
        let new = Box::into_raw(try_box(T::empty()).map_err(|_| Shortage)?);
        let installed = self.0[slot].compare_exchange(core::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
        if installed.is_err() {
            // SAFETY: another thread was faster, so that nobody has seen our box.
            drop(unsafe { Box::from_raw(new) });
        }
        self.below(slot).ok_or(Shortage)
    }
}

impl<T: Level> Level for Directory<T> {
    const SHIFT: u32 = T::SHIFT + ENTRIES_SHIFT;

    fn empty() -> Self {
        Self([const { AtomicPtr::new(core::ptr::null_mut()) }; ENTRIES])
    }

    #[inline]
    fn leaf(&self, va: VirtAddr) -> Option<&Leaf> {
        self.below(slot_of(va, T::SHIFT))?.leaf(va)
    }

    #[inline]
    fn leaf_or_new(&self, va: VirtAddr) -> Result<&Leaf, Shortage> {
        self.below_or_new(slot_of(va, T::SHIFT))?.leaf_or_new(va)
    }

    fn each_leaf(&self, base: u64, range: AddrRange, visit: &mut dyn FnMut(VirtAddr, &Leaf)) {
        let last = range.end.0.min(base + (1 << Self::SHIFT));
        let mut at = range.start.0.max(base) >> T::SHIFT << T::SHIFT;
        while at < last {
            if let Some(table) = self.below(slot_of(VirtAddr(at), T::SHIFT)) {
                table.each_leaf(at, range, visit);
            }
            at += 1 << T::SHIFT;
        }
    }
}

impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        for slot in &mut self.0 {
            let table = *slot.get_mut();
            if !table.is_null() {
                // SAFETY: a box of ours, by the type's invariants; `&mut self` proves that nobody looks at it.
                drop(unsafe { Box::from_raw(table) });
            }
        }
    }
}
