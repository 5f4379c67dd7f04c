//! What the engine needs from below: frames, their bytes, and translations. Nothing above this line knows which machine
//! it runs on.
//!
//! # How awkward a machine may be
//!
//! - A frame may be fixed to its owner and index ([`Placement`]): the same page gets the same frame, and no other.
//! - Bytes are *lent*: the addresses in a [`Loan`] may be a copy, which the machine carries over when the loan is taken back.
//! - Lowering rights may take away more than was asked: a machine that only learns of modifications by removing a mapping removes it.
//! - A call may cost far more than each page in it: what is done to many pages is one call, with a slice.
//! - [`Pmap::enter`] may fail for want of memory, or because that frame cannot appear at that address.
//! - Frames of devices ([`Frame::is_device`]) belong to no machine: they are entered, copied from and into, and never given back here,
//!   lent, or asked for modified bits.
//! - Addresses may be real: those of a process that uses some of them otherwise ([`Pmap::claim`], [`Pmap::lay`]).
//!
//! # Who holds what
//!
//! | call | map lock | object lock | page |
//! |---|---|---|---|
//! | `enter` | shared | no | busied, shared or exclusive |
//! | `remove`, `protect`, `write_protect`, `find`, `claim`, `lay`, `give_back` | exclusive | no | – |
//! | `page_protect`, `rehome` | – | no | exclusively busied |
//! | `lend`, `take_back`, `frames_free` | – | no | exclusively busied |
//! | `copy_out`, `copy_in` | – | no | busied, shared or exclusive |
//! | `copy_page`, `zero_page` | – | no | exclusively busied; what is copied, in either mode |

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Debug;
use core::ptr::NonNull;

use crate::error::Result;
use crate::page::PageRef;
use crate::types::{Access, AddrRange, CacheMode, Frame, ObjectId, PAGE_BYTES, PageIndex, Prot, VirtAddr};

/// The most pages or frames in one call of a machine, so that it can keep its notes on the stack. 1 MiB of pages.
pub const MOST_AT_ONCE: usize = 256;

/// The most pages in one call of [`Pmap::enter`]: a large page of the usual machines, 2 MiB. What a pager installs comes in runs that
/// do not cross a multiple of that, so that a run which is whole, and whose frames are contiguous and aligned alike, can be
/// entered as a large page.
pub const MOST_ENTERED: usize = 512;

/// Where a frame will be used; a machine may fix frames to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placement {
    /// The object.
    pub owner: ObjectId,
    /// The page's index in it.
    pub index: PageIndex,
}

/// How deep an allocation may reach into the frames that are held back (S190).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reserve {
    /// Leaves the whole reserve alone.
    Ordinary,
    /// May use all but the page daemon's own frames: the kernel's objects.
    Kernel,
    /// May use everything: the page daemon itself, and machines' own tables.
    Daemon,
}

/// How many frames there are, by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameCounts {
    /// All of them.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// Held back from ordinary allocations, in frames.
    pub reserved: u64,
}

/// What a machine knows of the use of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Harvest {
    /// It was written through a mapping.
    pub modified: bool,
    /// It was used through a mapping.
    pub referenced: bool,
}

impl Harvest {
    /// Records on the page what was collected: nothing that a machine gives up is lost.
    pub fn record(self, page: PageRef) {
        if self.modified {
            page.note_modified();
        }
        if self.referenced {
            page.note_referenced();
        }
    }
}

/// What a loan is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The borrower will write the bytes; what they hold now does not matter.
    Fill,
    /// The borrower will read the bytes, which do not change while they are lent.
    Read,
}

/// The bytes of a run of pages, lent by the machine. To be handed to [`Machine::take_back`]; nobody keeps an address beyond that.
#[derive(Debug)]
pub struct Loan {
    bytes: Vec<NonNull<u8>>,
    purpose: Purpose,
    note: u64,
}

impl Loan {
    /// A loan as a machine makes it. `note` is the machine's own.
    ///
    /// # Safety
    /// Each of `bytes` is the start of [`PAGE_BYTES`](crate::types::PAGE_BYTES) bytes that belong to the borrower until the loan is taken
    /// back, and that the machine which made it can take back by address and note.
    #[must_use]
    pub unsafe fn new(bytes: Vec<NonNull<u8>>, purpose: Purpose, note: u64) -> Self {
        Self { bytes, purpose, note }
    }

    /// The address of each page's bytes, in the order of the run.
    #[must_use]
    pub fn bytes(&self) -> &[NonNull<u8>] {
        &self.bytes
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The machine's note.
    #[must_use]
    pub fn note(&self) -> u64 {
        self.note
    }
}

// SAFETY: a loan is a list of addresses; the bytes behind them belong to whoever holds the loan (the pages are
// exclusively busied), on whichever thread that is.
unsafe impl Send for Loan {}
// SAFETY: shared access to a Loan reads addresses only.
unsafe impl Sync for Loan {}

/// A machine is short of memory for its own tables or of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage;

/// Why a page could not be entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotEntered {
    /// Short of memory; free some and try again.
    Shortage,
    /// That frame cannot appear at that address: the page needs the frame that the machine places for it.
    NotHere,
    /// The memory of the page's device cannot be shown there, for this reason: the fault fails.
    Refused(&'static str),
}

/// A run of mappings to be made: page `i` at `start` plus `i` pages.
#[derive(Debug)]
pub struct EnterRun<'a> {
    /// Where the first page goes; page aligned.
    pub start: VirtAddr,
    /// The pages, each busied and valid. Contiguous in their object. At most [`MOST_ENTERED`].
    pub pages: &'a [PageRef],
    /// The rights of the mappings.
    pub prot: Prot,
    /// How the memory of all of them wants to be accessed.
    pub cache: CacheMode,
    /// The page that was accessed, as an index into `pages`, and how: presets its referenced and, for a write, its
    /// modified bit (S203, S204). Nothing for pages that are mapped along.
    pub accessed: Option<(usize, Access)>,
    /// The mappings may not be taken away by the machine until they are unwired.
    pub wired: bool,
    /// Shortage is answered. Without it a shortage is fatal: the machine panics (S200).
    pub can_fail: bool,
}

/// A translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The frame at the address.
    pub frame: Frame,
    /// What the mapping allows.
    pub prot: Prot,
    /// Whether the mapping is wired.
    pub wired: bool,
    /// How its memory is accessed.
    pub cache: CacheMode,
}

/// One load or store of a simulated processor, within one page.
#[derive(Debug)]
pub enum CpuAccess<'a> {
    /// Fetches bytes.
    Load(&'a mut [u8]),
    /// Stores bytes.
    Store(&'a [u8]),
}

impl CpuAccess<'_> {
    /// What it needs.
    #[must_use]
    pub fn access(&self) -> Access {
        match self {
            Self::Load(_) => Access::Read,
            Self::Store(_) => Access::Write,
        }
    }
}

/// Why a simulated processor could not do an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuStop {
    /// There is no mapping, or it does not allow the access: a page fault.
    Fault,
    /// This machine has no simulated processor: its pointers are real.
    NoCpu,
}

/// Who resolves the faults of a range, on a machine with real addresses. Others take no notice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Serve {
    /// Threads of the engine, while the faulting one is stopped. Right for faults of every kind, also those inside system calls.
    #[default]
    Threads,
    /// The faulting thread itself. A system call that comes to a page which is not mapped fails: map such pages ahead of time.
    InThread,
}

/// A range of addresses that shows a part of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The addresses; page aligned, not empty.
    pub range: AddrRange,
    /// The object.
    pub owner: ObjectId,
    /// The page of it that the first address shows.
    pub first: PageIndex,
    /// The rights; changed by [`Pmap::protect`].
    pub prot: Prot,
    /// The pager is told before the first write to a clean page, so that such a write has to fault.
    pub told_of_writes: bool,
    /// Who resolves the faults.
    pub serve: Serve,
}

/// The translations of one address space.
///
/// # Real addresses
///
/// On a machine that shows objects at addresses of this process, a range is *claimed*, *laid*, entered page by page, removed, and
/// then laid anew or *given back*. Claimed addresses belong to this pmap, and nothing is to be seen at them. Dropping the pmap
/// gives everything back. A machine whose addresses are its own needs none of it: the methods have bodies for that.
///
/// The map's lock keeps calls for one address apart; calls for different addresses, and those of the machine itself, run
/// at the same time.
pub trait Pmap: Send + Sync + Debug {
    /// Makes mappings, replacing what is there. Returns how many of the run were made, from its start, with the reason for
    /// stopping short. A replaced mapping of another page has its bits recorded on that page.
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>);

    /// Removes every mapping in the range, wired or not, and records on each page what was collected up to the removal.
    fn remove(&self, range: AddrRange);

    /// The rights of the range are `prot` from now on, more or fewer than before. Every mapping in it loses those above; none at
    /// all removes. What is new is allowed by a machine that lays ranges out; otherwise the next fault finds it. A mapping that was
    /// entered with fewer rights keeps those.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory): the range allows what it did before, of which mappings may have been removed.
    fn protect(&self, range: AddrRange, prot: Prot) -> Result<()>;

    /// No mapping in the range may be written until it is entered anew; what the range allows does not change. What was written through
    /// them before is not forgotten.
    fn write_protect(&self, range: AddrRange);

    /// The mappings in the range are no longer wired.
    fn unwire(&self, range: AddrRange);

    /// What is mapped at an address.
    fn extract(&self, va: VirtAddr) -> Option<Translation>;

    /// A load or store as the processor would do it: through the translation, setting its referenced and modified bits,
    /// atomically with regard to the removal of the mapping. Must not cross a page.
    fn cpu(&self, va: VirtAddr, access: CpuAccess<'_>) -> Result<(), CpuStop>;

    /// Finds `len` bytes of addresses that nobody uses, inside the range of this pmap and starting at a multiple of `align`, at or
    /// above `hint` if that can be had, and claims them. All three are page aligned. Nothing: the map chooses, and claims what it chose.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::error::Error::NoSpace), [`Error::NoMemory`](crate::error::Error::NoMemory); nothing is claimed.
    fn find(&self, len: u64, align: u64, hint: VirtAddr) -> Result<Option<VirtAddr>> {
        let _ = (len, align, hint);
        Ok(None)
    }

    /// Takes addresses in which the map has no entry.
    ///
    /// # Errors
    /// [`Error::Occupied`](crate::error::Error::Occupied) with the first address that the process uses otherwise, which is left
    /// as it is; [`Error::NoMemory`](crate::error::Error::NoMemory). Nothing is claimed.
    fn claim(&self, hole: AddrRange) -> Result<()> {
        let _ = hole;
        Ok(())
    }

    /// Shows a part of an object, of which nothing is mapped yet. Every address was claimed, or was laid before and removed.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory), [`Error::Unsupported`](crate::error::Error::Unsupported): the map
    /// gives the range back.
    fn lay(&self, layout: &Layout) -> Result<()> {
        let _ = layout;
        Ok(())
    }

    /// The addresses, claimed or laid and removed, are the process's again. May not fail.
    fn give_back(&self, range: AddrRange) {
        let _ = range;
    }

    /// Whether a laid range shows one object, each page of it at the address that follows from its index, and nothing else. What comes
    /// from elsewhere has to be copied into that object then.
    fn is_linear(&self) -> bool {
        false
    }

    /// The machine's own type, for those who know it.
    fn as_any(&self) -> &dyn Any;
}

/// A machine.
pub trait Machine: Send + Sync + Debug {
    /// `soft`, `linux`, or what a foreign machine calls itself.
    fn name(&self) -> &'static str;

    /// A frame for the page at `place`; what it holds is not defined. Nothing when the frames that `reserve` may reach are used up.
    fn frame_alloc(&self, place: Placement, reserve: Reserve) -> Option<Frame>;

    /// Takes frames of its own back, at most [`MOST_AT_ONCE`]: not mapped, not lent, none twice. The pages over them still stand in their
    /// places, exclusively busied.
    fn frames_free(&self, frames: &[Frame]);

    /// Counts frames.
    fn frame_counts(&self) -> FrameCounts;

    /// Lends the bytes of pages, all exclusively busied and, for [`Purpose::Read`], write-protected.
    ///
    /// # Errors
    /// [`Shortage`] when there is no memory for the loan; nothing is lent.
    fn lend(&self, pages: &[PageRef], purpose: Purpose) -> Result<Loan, Shortage>;

    /// Takes lent bytes back: those of `pages[i]` are kept if `keep(i)`, and otherwise undefined. For [`Purpose::Read`] nothing is kept.
    ///
    /// # Errors
    /// [`Shortage`] when there is no memory for what was to be kept: the loan has ended all the same, and nothing is kept. Where
    /// nothing is to be kept it does not fail.
    fn take_back(&self, pages: &[PageRef], loan: Loan, keep: &dyn Fn(usize) -> bool) -> Result<(), Shortage>;

    /// Copies from a page's bytes at `offset`; does not cross the page. Writers may be at work: what is read is then a mixture.
    fn copy_out(&self, page: PageRef, offset: usize, to: &mut [u8]);

    /// Copies into a page's bytes at `offset`; does not cross the page.
    fn copy_in(&self, page: PageRef, offset: usize, from: &[u8]);

    /// Makes the bytes of a page, exclusively busied and not mapped, those of another one, which is busied in either mode.
    ///
    /// # Errors
    /// [`Shortage`] when there is no memory for the bytes; what the page holds is undefined then.
    fn copy_page(&self, from: PageRef, to: PageRef) -> Result<(), Shortage> {
        let mut between = [0; PAGE_BYTES];
        self.copy_out(from, 0, &mut between);
        self.copy_in(to, 0, &between);
        Ok(())
    }

    /// Makes the bytes of a page, exclusively busied and not mapped, zeros.
    ///
    /// # Errors
    /// As [`Machine::copy_page`].
    fn zero_page(&self, page: PageRef) -> Result<(), Shortage> {
        self.copy_in(page, 0, &[0; PAGE_BYTES]);
        Ok(())
    }

    /// Lowers every mapping of each of these pages to at most `prot` (none at all removes), collects and clears their bits,
    /// and records on each page ([`Harvest::record`]) what was collected there up to the lowering: no modification is lost. A
    /// machine may remove where it was asked to lower. One that lifts the protection again without asking, and only keeps a
    /// trace of the write, says so with [`Page::note_writable`](crate::page::Page::note_writable). At most [`MOST_AT_ONCE`] pages, all of one object and in the order of
    /// their indices, of which some may be missing in between. Whatever it needs for that it has: it does not fail.
    fn page_protect(&self, pages: &[PageRef], prot: Prot);

    /// Collects and clears the referenced bits of a page's mappings, as far as that is possible without removing them.
    fn page_referenced(&self, page: PageRef) -> bool;

    /// Whether [`Machine::page_referenced`] tells of every use. Where it does not, only unmapping a page and waiting for its next fault
    /// would, which costs more than it is worth: pages then go by whole blocks of neighbours, which is cheap.
    fn tells_use(&self) -> bool {
        true
    }

    /// Puts the page's bytes into the frame that the machine places for it, which `enter` refused to do without. The page is
    /// exclusively busied and not mapped. The answer is its frame from here on: the caller stores it in the page. The old
    /// frame, if it is another one, has been taken back.
    ///
    /// # Errors
    /// [`Shortage`]; the page keeps its frame.
    fn rehome(&self, page: PageRef, place: Placement) -> Result<Frame, Shortage>;

    /// A new, empty address space for addresses in `range`. Dropping it removes what is mapped in it, as [`Pmap::remove`] does.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory), or [`Error::Invalid`](crate::error::Error::Invalid) for
    /// addresses that this machine does not have.
    fn pmap_create(self: Arc<Self>, range: AddrRange) -> Result<Arc<dyn Pmap>>;
}
