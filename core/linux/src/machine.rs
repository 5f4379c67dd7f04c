//! The machine: frames under a budget, in one file in memory.

use core::ops::Range;
use core::ptr::NonNull;
use std::sync::Arc;

use quire_core::aperture;
use quire_core::error::{Error, Result};
use quire_core::machine::{FrameCounts, Loan, Machine, Placement, Pmap, Purpose, Reserve, Shortage};
use quire_core::page::PageRef;
use quire_core::types::{AddrRange, Frame, PAGE_BYTES, PAGE_SIZE, Prot};

use crate::bounce::{Bounce, Buffer};
use crate::budget::Budget;
use crate::calls::{Calls, Counters};
use crate::layout::Taking;
use crate::lock::read;
use crate::pmap::LinuxPmap;
use crate::slots::Slots;
use crate::space::Spaces;
use crate::store::{Store, runs};
use crate::support::Support;
use crate::sys::Pagemap;

/// How a machine is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinuxConfig {
    /// The budget: bytes of frames, at most. Rounded down to whole pages.
    pub memory: u64,
    /// Frames held back from ordinary allocations for the kernel's objects.
    pub reserve_kernel: u64,
    /// Frames held back for the page daemon alone.
    pub reserve_daemon: u64,
}

impl Default for LinuxConfig {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            reserve_kernel: 16,
            reserve_daemon: 8,
        }
    }
}

/// Real memory of this process.
#[derive(Debug)]
pub struct LinuxMachine {
    budget: Budget,
    bounce: Bounce,
    pub(crate) calls: Arc<Counters>,
    pub(crate) store: Store,
    pub(crate) spaces: Spaces,
    pub(crate) slots: &'static Slots,
    pub(crate) pagemap: Pagemap,
    pub(crate) support: Support,
}

impl LinuxMachine {
    /// A machine with a budget of its own, on a system that was [asked](Support::probe) what it allows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a budget with no page above the reserves; [`Error::NoMemory`], also when the addresses of this
    /// process are limited: 256 GiB of them are set aside for a table.
    pub fn new(support: Support, config: LinuxConfig) -> Result<Arc<Self>> {
        let frames = config.memory / PAGE_SIZE;
        if frames <= config.reserve_kernel.saturating_add(config.reserve_daemon) {
            return Err(Error::Invalid(
                "the budget has no page above the reserves; give more memory or a smaller reserve",
            ));
        }
        let no_memory = |_| Error::NoMemory;
        let calls = Arc::<Counters>::default();
        Ok(Arc::new(Self {
            budget: Budget::new(frames, config.reserve_daemon, config.reserve_kernel),
            bounce: Bounce::new(),
            store: Store::new(calls.clone()).map_err(no_memory)?,
            spaces: Spaces::new(),
            slots: Slots::get().map_err(no_memory)?,
            pagemap: Pagemap::open().map_err(no_memory)?,
            support,
            calls,
        }))
    }

    /// What this system allows.
    #[must_use]
    pub fn support(&self) -> &Support {
        &self.support
    }

    /// How often it called the kernel until now.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.read()
    }

    /// Copies lent bytes into the file, run by run of kept pages.
    fn keep(&self, pages: &[PageRef], buffer: Buffer, keep: &dyn Fn(usize) -> bool) -> Result<(), Shortage> {
        for run in runs_of(pages, keep) {
            // SAFETY: the buffer has room for all the pages, and came back from its borrower.
            let bytes = unsafe {
                core::slice::from_raw_parts(
                    buffer.start.as_ptr().add(run.start * PAGE_BYTES),
                    run.len() * PAGE_BYTES,
                )
            };
            self.store
                .write(pages[run.start].frame(), 0, bytes)
                .map_err(|_| Shortage)?;
        }
        Ok(())
    }

    fn read_into(&self, pages: &[PageRef], buffer: Buffer) -> Result<(), Shortage> {
        for run in runs_of(pages, &|_| true) {
            // SAFETY: the buffer has room for all the pages, and is ours until it is lent.
            let bytes = unsafe {
                core::slice::from_raw_parts_mut(
                    buffer.start.as_ptr().add(run.start * PAGE_BYTES),
                    run.len() * PAGE_BYTES,
                )
            };
            self.store
                .read(pages[run.start].frame(), 0, bytes)
                .map_err(|_| Shortage)?;
        }
        Ok(())
    }
}

/// The runs of wanted pages, by their places in the list, whose frames lie one behind the other.
fn runs_of<'a>(pages: &'a [PageRef], wanted: &'a dyn Fn(usize) -> bool) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut from = 0;
    core::iter::from_fn(move || {
        let start = (from..pages.len()).find(|i| wanted(*i))?;
        let first = pages[start].frame();
        let follows = |i: &usize| wanted(*i) && pages[*i].frame().0 == first.0 + (*i - start) as u64;
        from = start + (start..pages.len()).take_while(follows).count();
        Some(start..from)
    })
}

impl Machine for LinuxMachine {
    fn name(&self) -> &'static str {
        "linux"
    }

    fn frame_alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame> {
        if !self.budget.take(reserve) {
            return None;
        }
        match self.spaces.take_frame(place) {
            Ok(frame) => {
                self.store.take(frame);
                Some(frame)
            }
            Err(_) => {
                self.budget.give(1);
                None
            }
        }
    }

    fn frames_free(&self, frames: &[Frame]) {
        self.store.free(frames);
        for run in runs(frames) {
            // A run of frames lies in segments, each of which begins at a multiple of 64.
            for piece in frames[run].chunk_by(|a, b| a.0 / 64 == b.0 / 64) {
                self.spaces.give_frames(piece[0], piece.len() as u64);
            }
        }
        self.budget.give(frames.len() as u64);
    }

    fn frame_counts(&self) -> FrameCounts {
        self.budget.counts()
    }

    fn lend(&self, pages: &[PageRef], purpose: Purpose) -> Result<Loan, Shortage> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(pages.len()).map_err(|_| Shortage)?;
        let buffer = self.bounce.take(pages.len()).ok_or(Shortage)?;
        if purpose == Purpose::Read
            && let Err(shortage) = self.read_into(pages, buffer)
        {
            self.bounce.give(buffer);
            return Err(shortage);
        }
        // SAFETY: inside the buffer, which has room for all the pages.
        bytes.extend((0..pages.len()).map(|i| unsafe { buffer.start.add(i * PAGE_BYTES) }));
        // SAFETY: each address is that of a page in a buffer that is the borrower's until `take_back`, which finds it by
        // the first address and its class.
        Ok(unsafe { Loan::new(bytes, purpose, buffer.class as u64) })
    }

    fn take_back(&self, pages: &[PageRef], loan: Loan, keep: &dyn Fn(usize) -> bool) -> Result<(), Shortage> {
        let Some(start) = loan.bytes().first().copied() else {
            return Ok(());
        };
        let buffer = buffer_of(start, loan.note());
        let answer = match loan.purpose() {
            Purpose::Fill => self.keep(pages, buffer, keep),
            Purpose::Read => Ok(()),
        };
        self.bounce.give(buffer);
        answer
    }

    fn copy_out(&self, page: PageRef, offset: usize, to: &mut [u8]) {
        if page.is_device() {
            // SAFETY: the page is busied.
            return unsafe { aperture::of(page.frame()) }.read(page.frame(), offset, to);
        }
        let done = self.store.read(page.frame(), offset, to);
        debug_assert!(done.is_ok(), "a frame could not be read: {done:?}");
    }

    fn copy_in(&self, page: PageRef, offset: usize, from: &[u8]) {
        if page.is_device() {
            // SAFETY: the page is busied.
            return unsafe { aperture::of(page.frame()) }.write(page.frame(), offset, from);
        }
        // The page is filled, so that the file has memory for it.
        let done = self.store.write(page.frame(), offset, from);
        debug_assert!(done.is_ok(), "a frame could not be written: {done:?}");
    }

    fn copy_page(&self, from: PageRef, to: PageRef) -> Result<(), Shortage> {
        let mut between = [0; PAGE_BYTES];
        self.copy_out(from, 0, &mut between);
        self.store.write(to.frame(), 0, &between).map_err(|_| Shortage)
    }

    fn zero_page(&self, page: PageRef) -> Result<(), Shortage> {
        self.store
            .write(page.frame(), 0, &[0; PAGE_BYTES])
            .map_err(|_| Shortage)
    }

    fn page_protect(&self, pages: &[PageRef], prot: Prot) {
        let Some(owner) = pages.iter().find(|page| is_mapped(page)).and_then(|page| page.object()) else {
            return;
        };
        let Some(space) = self.spaces.of(owner) else { return };
        let what = if prot.is_empty() { Taking::All } else { Taking::Write };
        if prot.contains(Prot::WRITE) {
            return;
        }
        for laid in &read(space.inner()).layouts {
            laid.take(self.slots, &self.pagemap, pages, what);
        }
    }

    fn page_referenced(&self, _page: PageRef) -> bool {
        // The kernel keeps those bits to itself; that a page is used shows when it is entered again.
        false
    }

    fn tells_use(&self) -> bool {
        false
    }

    fn rehome(&self, page: PageRef, _place: Placement) -> Result<Frame, Shortage> {
        // Every frame is given for its place.
        Ok(page.frame())
    }

    fn pmap_create(self: Arc<Self>, range: AddrRange) -> Result<Arc<dyn Pmap>> {
        Ok(Arc::new(LinuxPmap::new(self, range)?))
    }
}

/// Whether a page is entered anywhere. Its first machine word counts where.
fn is_mapped(page: PageRef) -> bool {
    page.machine_words()[0].load(core::sync::atomic::Ordering::Acquire) != 0
}

fn buffer_of(start: NonNull<u8>, note: u64) -> Buffer {
    #[allow(clippy::cast_possible_truncation, reason = "a class of buffers, as it was lent")]
    let class = note as usize;
    Buffer { start, class }
}
