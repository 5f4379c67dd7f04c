//! A machine that weighs nothing: it hands out numbers for frames, has bytes only while they are lent, and keeps no tables. So every byte
//! that is counted above it is the engine's.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of each test, which uses what it needs"
)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quire_core::error::Result;
use quire_core::machine::{
    CpuAccess, CpuStop, EnterRun, FrameCounts, Loan, Machine, NotEntered, Placement, Pmap, Purpose, Reserve, Shortage,
    Translation,
};
use quire_core::page::PageRef;
use quire_core::types::{AddrRange, Frame, PAGE_BYTES, Prot, VirtAddr};

/// A machine without memory.
#[derive(Debug)]
pub struct Weightless {
    total: u64,
    free: AtomicU64,
    next: AtomicU64,
}

impl Weightless {
    /// With numbers for so many frames at a time.
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            free: AtomicU64::new(total),
            next: AtomicU64::new(0),
        })
    }
}

#[derive(Debug)]
struct NoTranslations;

impl Machine for Weightless {
    fn name(&self) -> &'static str {
        "weightless"
    }

    fn frame_alloc(&self, _place: Placement, _reserve: Reserve) -> Option<Frame> {
        let taken = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1));
        taken.ok().map(|_| Frame(self.next.fetch_add(1, Ordering::Relaxed)))
    }

    fn frames_free(&self, frames: &[Frame]) {
        self.free.fetch_add(frames.len() as u64, Ordering::Relaxed);
    }

    fn frame_counts(&self) -> FrameCounts {
        FrameCounts {
            total: self.total,
            free: self.free.load(Ordering::Relaxed),
            reserved: 0,
        }
    }

    /// Bytes of their own, which live as long as the loan.
    fn lend(&self, pages: &[PageRef], purpose: Purpose) -> std::result::Result<Loan, Shortage> {
        let page = |_| NonNull::from(Box::leak(Box::new([0_u8; PAGE_BYTES]))).cast();
        let bytes = pages.iter().map(page).collect();
        // SAFETY: pages that nobody else knows, freed in `take_back`.
        Ok(unsafe { Loan::new(bytes, purpose, 0) })
    }

    fn take_back(
        &self,
        _pages: &[PageRef],
        loan: Loan,
        _keep: &dyn Fn(usize) -> bool,
    ) -> std::result::Result<(), Shortage> {
        for bytes in loan.bytes() {
            // SAFETY: a box made in `lend`, whose loan ends here.
            drop(unsafe { Box::from_raw(bytes.as_ptr().cast::<[u8; PAGE_BYTES]>()) });
        }
        Ok(())
    }

    fn copy_out(&self, _page: PageRef, _offset: usize, to: &mut [u8]) {
        to.fill(0);
    }

    fn copy_in(&self, _page: PageRef, _offset: usize, _from: &[u8]) {}

    fn page_protect(&self, _pages: &[PageRef], _prot: Prot) {}

    fn page_referenced(&self, _page: PageRef) -> bool {
        false
    }

    fn rehome(&self, page: PageRef, _place: Placement) -> std::result::Result<Frame, Shortage> {
        Ok(page.frame())
    }

    fn pmap_create(self: Arc<Self>, _range: AddrRange) -> Result<Arc<dyn Pmap>> {
        Ok(Arc::new(NoTranslations))
    }
}

impl Pmap for NoTranslations {
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        (run.pages.len(), None)
    }

    fn remove(&self, _range: AddrRange) {}

    fn protect(&self, _range: AddrRange, _prot: Prot) -> Result<()> {
        Ok(())
    }

    fn write_protect(&self, _range: AddrRange) {}

    fn unwire(&self, _range: AddrRange) {}

    fn extract(&self, _va: VirtAddr) -> Option<Translation> {
        None
    }

    fn cpu(&self, _va: VirtAddr, _access: CpuAccess<'_>) -> std::result::Result<(), CpuStop> {
        Err(CpuStop::NoCpu)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
