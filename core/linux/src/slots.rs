//! What is mapped where: one word for each page of the process' addresses.
//!
//! A linear table for the whole address space, reserved once a process and filled in by the kernel page by page as it is
//! written: 8 bytes for a page that is, or was, mapped. So finding what is entered at an address is one load, in a signal
//! handler too, and nothing is ever allocated for it.
//!
//! A slot is *entered* from before the page is installed until what was written through it has been collected
//! (`entered` in the ordering rules of [the crate](crate)). Only then do the kernel's write-protection markers mean anything: a
//! page that was never entered reads as written.
//!
//! # Who may change a slot
//!
//! - fill it: whoever enters the page, with the map's lock held shared and the page busied;
//! - empty it: whoever harvests it, with the page exclusively busied and the object's layouts locked shared, or with the
//!   layouts locked exclusively;
//! - mark an empty one as failing, and empty it again: whoever leaves a failure there. Whoever enters waits for the end of that.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use quire_core::page::{Page, PageRef};
use quire_core::types::{AddrRange, PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use rustix::io::Errno;

use crate::arena;

/// The first address behind those of a process.
pub(crate) const ADDRESSES_END: u64 = 1 << 47;

/// The mapping is wired.
const WIRED: u64 = 1;
/// A failure is being left at the address, where nothing is entered.
const FAILING: u64 = 2;
/// The lowest bits of a slot, which no address of a page struct has.
const FLAGS: u64 = 7;

/// Slots whose occupation one bit tells of: those in one page of the table.
const SLOTS_A_BIT: u64 = 512;

/// The table of this process.
#[derive(Debug)]
pub(crate) struct Slots {
    table: &'static [AtomicU64],
    /// A bit for each page of the table that may have entered slots: a hint, so that long empty ranges cost nothing.
    used: &'static [AtomicU64],
}

static SLOTS: OnceLock<Slots> = OnceLock::new();

/// An entered slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    pub(crate) page: PageRef,
    pub(crate) wired: bool,
}

impl Slots {
    /// The table of this process, reserved at the first call.
    ///
    /// # Errors
    /// The kernel's, when addresses are limited for this process.
    pub(crate) fn get() -> Result<&'static Self, Errno> {
        if let Some(slots) = SLOTS.get() {
            return Ok(slots);
        }
        let slots = Self {
            table: arena::reserve_words(ADDRESSES_END >> PAGE_SHIFT)?,
            used: arena::reserve_words((ADDRESSES_END >> PAGE_SHIFT) / SLOTS_A_BIT / 64)?,
        };
        // Two threads at once: the table of the second stays reserved and untouched, which costs addresses only.
        Ok(SLOTS.get_or_init(|| slots))
    }

    /// Whether anything may have been entered near an address, at any time. For a signal handler that came by any address.
    pub(crate) fn were_used_at(va: VirtAddr) -> bool {
        let (word, bit) = used_bit(va);
        va.0 < ADDRESSES_END
            && SLOTS
                .get()
                .is_some_and(|slots| slots.used[word].load(Ordering::Acquire) & bit != 0)
    }

    fn slot(&self, va: VirtAddr) -> &AtomicU64 {
        // A layout ends below ADDRESSES_END, and only addresses in layouts are asked for.
        #[allow(clippy::cast_possible_truncation, reason = "addresses of this process")]
        &self.table[(va.0 >> PAGE_SHIFT) as usize]
    }

    /// What is entered at an address.
    #[inline]
    pub(crate) fn at(&self, va: VirtAddr) -> Option<Entered> {
        let word = self.slot(va).load(Ordering::Acquire);
        if word == 0 || word == FAILING {
            return None;
        }
        Some(Entered {
            page: page_of(word),
            wired: word & WIRED != 0,
        })
    }

    /// Enters a page. Answers whether the slot was empty.
    #[inline]
    pub(crate) fn enter(&self, va: VirtAddr, page: PageRef, wired: bool) -> bool {
        let word = core::ptr::from_ref(page).expose_provenance() as u64 | if wired { WIRED } else { 0 };
        let slot = self.slot(va);
        let mut before = slot.load(Ordering::Relaxed);
        loop {
            if before == FAILING {
                // A thread of ours has a few system calls to make.
                std::thread::yield_now();
                before = slot.load(Ordering::Acquire);
                continue;
            }
            match slot.compare_exchange_weak(before, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        debug_assert!(
            before == 0 || before & !FLAGS == word & !FLAGS,
            "another page was entered at this address"
        );
        if before == 0 {
            self.note_used(va);
        }
        before == 0
    }

    fn note_used(&self, va: VirtAddr) {
        let (word, bit) = used_bit(va);
        if self.used[word].load(Ordering::Relaxed) & bit == 0 {
            self.used[word].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Empties a slot, whose modification has been collected.
    pub(crate) fn leave(&self, va: VirtAddr) {
        self.slot(va).store(0, Ordering::Release);
    }

    /// Keeps everybody from entering a page at an address where none is. Answers whether none is.
    pub(crate) fn begin_failure(&self, va: VirtAddr) -> bool {
        let slot = self.slot(va);
        slot.compare_exchange(0, FAILING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends what [`Slots::begin_failure`] began.
    pub(crate) fn end_failure(&self, va: VirtAddr) {
        self.leave(va);
    }

    /// The mapping is not wired any more.
    pub(crate) fn unwire(&self, va: VirtAddr) {
        self.slot(va).fetch_and(!WIRED, Ordering::AcqRel);
    }

    /// The next entered slot in `range`, and its address.
    pub(crate) fn next_in(&self, range: AddrRange) -> Option<(VirtAddr, Entered)> {
        let mut va = range.start;
        while va < range.end {
            let (word, bit) = used_bit(va);
            let here = self.used[word].load(Ordering::Acquire);
            let span = if here == 0 {
                64 * SLOTS_A_BIT
            } else if here & bit == 0 {
                SLOTS_A_BIT
            } else {
                if let Some(entered) = self.at(va) {
                    return Some((va, entered));
                }
                1
            } * PAGE_SIZE;
            va = VirtAddr((va.0 / span + 1) * span);
        }
        None
    }
}

/// The words of a table that was reserved are those of page structs, which live as long as the process.
fn page_of(word: u64) -> PageRef {
    #[allow(clippy::cast_possible_truncation, reason = "an address of this process")]
    let page = core::ptr::with_exposed_provenance::<Page>((word & !FLAGS) as usize);
    // SAFETY: only `enter` writes slots, from a `PageRef`, which is valid for ever.
    unsafe { &*page }
}

#[allow(clippy::cast_possible_truncation, reason = "addresses of this process")]
fn used_bit(va: VirtAddr) -> (usize, u64) {
    let bit = (va.0 >> PAGE_SHIFT) / SLOTS_A_BIT;
    ((bit / 64) as usize, 1 << (bit % 64))
}
