//! The soft machine: a memory management unit in ordinary memory.
//!
//! It runs wherever the engine runs: embedded, in tests, in simulators. It owns frames of 4 KiB, page tables with
//! referenced and modified bits, and for each frame the list of its mappings; a simulated processor loads and stores
//! through them ([`Pmap::cpu`]). It leaves to the engine what a page is and when it may go.
//!
//! # Awkward modes
//!
//! A machine may be as awkward as [`machine`](crate::machine) says, and the engine must not notice. Here each way is a
//! switch of [`SoftConfig`]:
//!
//! - *fixed frames*: a frame belongs to the owner and index that it was first allocated for, until it is free and needed
//!   elsewhere. A page in another's frame is refused with [`NotEntered::NotHere`](crate::machine::NotEntered), and
//!   [`Machine::rehome`] moves it. While a placement's frame is in use, nothing else can be had for that placement.
//! - *copies lent*: a loan is a buffer; what was read into it reaches the frames when the loan is taken back.
//! - *modified by removal*: [`Machine::page_protect`] removes each mapping that it has to lower or that was modified,
//!   wired or not, and [`Machine::page_referenced`] learns nothing: what removal learnt is on the page.
//!
//! Failures can be ordered with [`SoftMachine::inject`].
//!
//! # Locks
//!
//! A leaf table (rank 6) covers 2 MiB of one address space; a frame's list of mappings (rank 7) is taken under it. The
//! way back, from a frame to its mappings, takes one at a time: it notes a mapping, leaves the list, locks the leaf, and
//! looks whether the mapping is still there. The list's invariants say why that loses nothing.
//! Entering a page that is mapped nowhere else takes these two locks and allocates nothing, once the tables exist.

mod bytes;
mod calls;
mod config;
mod devices;
mod frames;
mod loan;
mod page_table;
mod pmap;
mod pte;
mod rmap;
mod space;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::fmt;

pub use calls::{Calls, Failure, Injection};
pub use config::SoftConfig;

use crate::error::{Error, Result};
use crate::machine::{FrameCounts, Loan, Machine, Placement, Pmap, Purpose, Reserve, Shortage};
use crate::page::PageRef;
use crate::types::{AddrRange, Frame, PAGE_BYTES, Prot, VirtAddr};
use calls::{Counters, Injections, add, count};
use frames::Frames;
use pmap::SoftPmap;
use space::{Space, Spaces};

/// A software MMU with frames of its own. See [the module](self).
pub struct SoftMachine {
    config: SoftConfig,
    frames: Frames,
    spaces: Spaces,
    counters: Counters,
    injections: Injections,
}

impl SoftMachine {
    /// The first address that no address space can have: tables reach over 48 bits.
    pub const ADDRESS_LIMIT: VirtAddr = VirtAddr(page_table::ADDRESS_LIMIT);

    /// A machine with all its frames free. Its memory goes when the last reference to it and to its address spaces does.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a machine without frames, with 2^32 or more of them, or with reserves that are larger than
    /// the machine; [`Error::NoMemory`].
    pub fn new(config: SoftConfig) -> Result<Arc<Self>> {
        config.check()?;
        Ok(Arc::new(Self {
            config,
            frames: Frames::new(&config)?,
            spaces: Spaces::new(),
            counters: Counters::default(),
            injections: Injections::new(),
        }))
    }

    /// How it was made.
    #[must_use]
    pub fn config(&self) -> &SoftConfig {
        &self.config
    }

    /// Orders failures, for tests. Replaces an earlier order for the same kind of call.
    pub fn inject(&self, injection: Injection) {
        self.injections.order(injection);
    }

    /// How often it was called. Takes time in proportion to what was ever mapped; for tests.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let mut calls = self.counters.read();
        for id in 0..self.spaces.numbers() {
            let space = u32::try_from(id).ok().and_then(|id| self.spaces.get(id));
            let (enters, pages) = space.map_or((0, 0), |space| space.entered());
            calls.enters += enters;
            calls.pages_entered += pages;
        }
        calls
    }

    /// Calls `visit` with every mapping of a frame. One that is made or goes meanwhile may be missed or seen twice; one
    /// that stays is not missed.
    ///
    /// `seen` is the space that was looked up last, for the next frame of the same call. All frames of a call are those of busied
    /// pages, which nobody enters meanwhile: a mapping that is listed now was listed when the space was looked up, and its
    /// number has been that space's since.
    fn each_mapping(&self, frame: Frame, seen: &mut Option<Arc<Space>>, mut visit: impl FnMut(&Space, VirtAddr)) {
        let mappings = self.frames.mappings(frame);
        let mut place = usize::MAX;
        while place > 0
            && let Some((at, mapping)) = mappings.before(place)
        {
            place = at;
            if seen.as_ref().is_none_or(|space| space.id != mapping.space()) {
                *seen = self.spaces.get(mapping.space());
            }
            if let Some(space) = seen {
                visit(space, mapping.va());
            }
        }
    }
}

impl Machine for SoftMachine {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn frame_alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame> {
        if self.injections.frame() {
            return None;
        }
        self.frames.alloc(place, reserve)
    }

    fn frames_free(&self, frames: &[Frame]) {
        count(&self.counters.frees);
        self.frames.free(frames);
    }

    fn frame_counts(&self) -> FrameCounts {
        self.frames.counts()
    }

    fn lend(&self, pages: &[PageRef], purpose: Purpose) -> Result<Loan, Shortage> {
        for page in pages {
            page.busy.assert_exclusive();
        }
        count(&self.counters.lends);
        if self.injections.lend() {
            return Err(Shortage);
        }
        if self.config.lend_copies {
            loan::lend_copies(&self.frames, pages, purpose)
        } else {
            loan::lend_frames(&self.frames, pages, purpose)
        }
    }

    fn take_back(&self, pages: &[PageRef], loan: Loan, keep: &dyn Fn(usize) -> bool) -> Result<(), Shortage> {
        // A shortage that a test asked for: the buffer is given back, and nothing of it kept.
        let wanted = (0..pages.len()).any(keep) && loan.purpose() == Purpose::Fill;
        let short = wanted && self.injections.take_back();
        if self.config.lend_copies {
            loan::take_copies_back(&self.frames, pages, &loan, &|i| !short && keep(i));
        }
        if short { Err(Shortage) } else { Ok(()) }
    }

    fn copy_out(&self, page: PageRef, offset: usize, to: &mut [u8]) {
        self.frames.read(page.frame(), offset, to);
    }

    fn copy_in(&self, page: PageRef, offset: usize, from: &[u8]) {
        self.frames.write(page.frame(), offset, from);
    }

    fn copy_page(&self, from: PageRef, to: PageRef) -> Result<(), Shortage> {
        to.busy.assert_exclusive();
        if from.is_device() {
            let mut between = [0; PAGE_BYTES];
            self.frames.read(from.frame(), 0, &mut between);
            bytes::write(self.frames.words(to.frame()), 0, &between);
        } else {
            bytes::copy(self.frames.words(from.frame()), self.frames.words(to.frame()));
        }
        Ok(())
    }

    fn page_protect(&self, pages: &[PageRef], prot: Prot) {
        count(&self.counters.page_protects);
        add(&self.counters.pages_protected, pages.len() as u64);
        let mut seen = None;
        for page in pages {
            page.busy.assert_exclusive();
            let frame = page.frame();
            self.each_mapping(frame, &mut seen, |space, va| {
                space.lower(&self.frames, page, va, prot, self.config.modified_by_removal);
            });
        }
    }

    fn page_referenced(&self, page: PageRef) -> bool {
        count(&self.counters.referenced_tests);
        if self.config.modified_by_removal {
            return false;
        }
        let frame = page.frame();
        let mut referenced = false;
        self.each_mapping(frame, &mut None, |space, va| {
            referenced |= space.take_referenced(frame, va);
        });
        referenced
    }

    fn rehome(&self, page: PageRef, place: Placement) -> Result<Frame, Shortage> {
        page.busy.assert_exclusive();
        let old = page.frame();
        assert!(
            self.frames.mappings(old).is_empty(),
            "a page was to be moved while it was mapped"
        );
        if self.injections.frame() {
            return Err(Shortage);
        }
        if self.frames.is_home(old, place) {
            return Ok(old);
        }
        // The whole reserve may be used: the old frame makes up for it at once.
        let new = self.frames.alloc(place, Reserve::Daemon).ok_or(Shortage)?;
        let (from, to) = (self.frames.address(old), self.frames.address(new));
        // SAFETY: two different frames, each PAGE_BYTES long. Nobody else touches either: the page is exclusively busied
        // and not mapped, and the new frame was free until now.
        unsafe { from.copy_to_nonoverlapping(to, PAGE_BYTES) };
        self.frames.free(&[old]);
        Ok(new)
    }

    fn pmap_create(self: Arc<Self>, range: AddrRange) -> Result<Arc<dyn Pmap>> {
        if range.end > Self::ADDRESS_LIMIT {
            return Err(Error::Invalid(
                "the soft machine has addresses of 48 bits; choose a range below 2^48",
            ));
        }
        let space = self.spaces.add(range)?;
        Ok(Arc::new(SoftPmap::new(self, space)))
    }
}

impl fmt::Debug for SoftMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftMachine")
            .field("config", &self.config)
            .field("frames", &self.frames.counts())
            .finish()
    }
}
