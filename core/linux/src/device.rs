//! Memory of devices in the place of pages: how it comes, and how it goes.
//!
//! A page over a frame of a device is shown by mapping the device's own memory at the page's address: its file, or its memory once more. It is
//! prepared elsewhere and moved there in one step, so that whoever accesses the address meanwhile finds the one or the other. When
//! it is taken away, the object's piece of the file of frames comes back, without any right until its faults are sent to the
//! engine: see [`moving`](crate::serve::moving). So nobody ever finds a page there that the engine did not give.
//!
//! What is written there reaches the device, and is not looked for.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quire_core::aperture::{self, Aperture};
use quire_core::page::PageRef;
use quire_core::types::{AddrRange, CacheMode, Frame, PAGE_SIZE, Prot, VirtAddr};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

use crate::addresses::{mprotect_flags, pointer, set_rights};
use crate::layout::{Laid, address, retry, span};
use crate::lock::lock;
use crate::serve::moving::{self, Moving};
use crate::sys::{self, Modes, Uffd};

/// The addresses of one userfaultfd at which devices are seen, by their first.
#[derive(Debug)]
pub(crate) struct Devices {
    /// The file of frames.
    file: Arc<OwnedFd>,
    /// Held over the system calls that change what is seen there.
    runs: Mutex<BTreeMap<u64, Run>>,
    /// How many there are: a hint, so that where no devices are nobody takes the lock.
    count: AtomicUsize,
}

/// Addresses in one piece that show a device.
#[derive(Clone, Copy, Debug)]
struct Run {
    end: u64,
    /// What belongs there otherwise.
    base: Frame,
    /// The rights of the layout there.
    prot: Prot,
    shown: Shown,
}

/// What is known of a device that is seen at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) writable: bool,
    pub(crate) cache: CacheMode,
}

impl Run {
    fn part(&self, start: u64, range: AddrRange) -> Option<(u64, Self)> {
        let from = start.max(range.start.0);
        let end = self.end.min(range.end.0);
        let base = Frame(self.base.0 + (from - start) / PAGE_SIZE);
        (from < end).then_some((from, Self { end, base, ..*self }))
    }
}

/// Why a device is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotShown {
    /// The kernel has no memory for it now.
    Shortage,
    /// It cannot be shown.
    Refused(&'static str),
}

impl Devices {
    pub(crate) fn new(file: Arc<OwnedFd>) -> Self {
        Self {
            file,
            runs: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// Whether there are any. Certain for pages that are busied.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// What is seen at an address, if a device.
    pub(crate) fn at(&self, va: VirtAddr) -> Option<Shown> {
        if !self.any() {
            return None;
        }
        let runs = lock(&self.runs);
        let (_, run) = runs.range(..=va.0).next_back()?;
        (va.0 < run.end).then_some(run.shown)
    }

    /// Does something while no device comes or goes.
    pub(crate) fn staying<T>(&self, go: impl FnOnce() -> T) -> T {
        let _runs = lock(&self.runs);
        go()
    }

    /// Shows `pages`, which are busied and whose frames lie side by side, in a part of a layout with the rights `prot`.
    pub(crate) fn show(&self, uffd: &Uffd, part: &Laid, pages: &[PageRef], prot: Prot) -> Result<(), NotShown> {
        moving::listen().map_err(|_| NotShown::Refused("the signal SIGSEGV cannot be handled in this process"))?;
        let frame = pages[0].frame();
        // SAFETY: the page is busied.
        let aperture = unsafe { aperture::of(frame) };
        let its = if aperture.is_writable() {
            prot
        } else {
            prot - Prot::WRITE
        };
        let (range, base) = (part.range, part.base);
        let prepared = Prepared::new(aperture, frame, address(VirtAddr(range.len())), its)?;
        let (end, mut runs) = (range.end.0, lock(&self.runs));
        let shown = Shown {
            writable: aperture.is_writable(),
            cache: aperture.cache(),
        };
        let run = Run { end, base, prot, shown };
        forget(&mut runs, range);
        let moved = prepared.move_to(range);
        if moved.is_ok() {
            moving::note_change();
            runs.insert(range.start.0, run);
        } else {
            // What was there may be gone by now.
            self.put_back(uffd, &mut runs, range.start.0, run);
        }
        self.recount(&runs);
        moved.map_err(|_| NotShown::Shortage)
    }

    /// Takes devices away from a range of addresses, and puts back what belongs there, whose faults go to `uffd`.
    pub(crate) fn take_away(&self, uffd: &Uffd, range: AddrRange) {
        if !self.any() {
            return;
        }
        let mut runs = lock(&self.runs);
        for (start, run) in forget(&mut runs, range) {
            self.put_back(uffd, &mut runs, start, run);
        }
        self.recount(&runs);
    }

    /// Puts back what belongs in the place of a device that has been taken off the list. It does not fail: where the kernel has no memory area
    /// for a part, the whole goes, which needs none. Its other pages fault again, although their slots say that they are entered.
    fn put_back(&self, uffd: &Uffd, runs: &mut BTreeMap<u64, Run>, mut start: u64, mut run: Run) {
        loop {
            let range = range_of(start, &run);
            let _moving = Moving::begin(range);
            let done = map_file(self.file.as_fd(), uffd, range, run.base);
            if done.and_then(|()| set_rights(range, run.prot)).is_ok() {
                return;
            }
            if !widen(runs, &mut start, &mut run) {
                std::thread::yield_now();
            }
        }
    }

    /// The rights in a range are `prot` from now on, which is no more than before where devices are.
    pub(crate) fn set_rights(&self, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        let mut runs = lock(&self.runs);
        set_rights(range, prot)?;
        for (start, run) in forget(&mut runs, range) {
            runs.insert(start, Run { prot, ..run });
        }
        Ok(())
    }

    /// The next range in `range` that shows devices with fewer rights than these, which may be more than they allow.
    pub(crate) fn next_below(&self, range: AddrRange, prot: Prot) -> Option<AddrRange> {
        if !self.any() {
            return None;
        }
        let runs = lock(&self.runs);
        let is_below = |run: &Run| !run.prot.contains(prot) || (prot.contains(Prot::WRITE) && !run.shown.writable);
        let found = parts(&runs, range).find(|(_, run)| is_below(run));
        found.map(|(start, run)| range_of(start, &run))
    }

    fn recount(&self, runs: &BTreeMap<u64, Run>) {
        self.count.store(runs.len(), Ordering::Release);
    }
}

fn range_of(start: u64, run: &Run) -> AddrRange {
    AddrRange {
        start: VirtAddr(start),
        end: VirtAddr(run.end),
    }
}

/// Takes what is listed in a range off the list, keeping what lies outside of it, and answers with it.
fn forget(runs: &mut BTreeMap<u64, Run>, range: AddrRange) -> Vec<(u64, Run)> {
    let taken: Vec<(u64, Run)> = parts(runs, range).collect();
    let touched: Vec<(u64, Run)> = touching(runs, range).map(|(start, run)| (*start, *run)).collect();
    for (start, run) in touched {
        runs.remove(&start);
        let before = AddrRange {
            start: VirtAddr(0),
            end: range.start,
        };
        let behind = AddrRange {
            start: range.end,
            end: VirtAddr(u64::MAX),
        };
        runs.extend([before, behind].into_iter().filter_map(|side| run.part(start, side)));
    }
    taken
}

/// Takes the neighbours of a run that go on in the same layout off the list, into it. Answers whether there were any.
fn widen(runs: &mut BTreeMap<u64, Run>, start: &mut u64, run: &mut Run) -> bool {
    let before = runs.range(..*start).next_back().map(|(at, other)| (*at, *other));
    let behind = runs.range(run.end..).next().map(|(at, other)| (*at, *other));
    let mut widened = false;
    if let Some((at, other)) = before.filter(|(at, other)| goes_on(*at, other, *start, run)) {
        runs.remove(&at);
        (*start, run.base) = (at, other.base);
        widened = true;
    }
    if let Some((at, other)) = behind.filter(|(at, other)| goes_on(*start, run, *at, other)) {
        runs.remove(&at);
        run.end = other.end;
        widened = true;
    }
    widened
}

fn goes_on(start: u64, run: &Run, at: u64, next: &Run) -> bool {
    run.end == at && run.prot == next.prot && run.base.0 + (at - start) / PAGE_SIZE == next.base.0
}

fn touching(runs: &BTreeMap<u64, Run>, range: AddrRange) -> impl Iterator<Item = (&u64, &Run)> {
    let first = runs.range(..=range.start.0).next_back();
    let from = first.map_or(range.start.0, |(start, _)| *start);
    runs.range(from..range.end.0)
        .filter(move |(_, run)| run.end > range.start.0)
}

fn parts(runs: &BTreeMap<u64, Run>, range: AddrRange) -> impl Iterator<Item = (u64, Run)> {
    touching(runs, range).filter_map(move |(start, run)| run.part(*start, range))
}

/// A mapping of a device where nobody looks for it, with its rights. Dropping it unmaps it.
struct Prepared {
    start: *mut core::ffi::c_void,
    len: usize,
}

impl Prepared {
    fn new(aperture: &Aperture, frame: Frame, len: usize, prot: Prot) -> Result<Self, NotShown> {
        let start = match aperture.file() {
            Some(file) => {
                // SAFETY: the aperture keeps the descriptor open, and is kept by the pages over it, which the caller has busied.
                let fd = unsafe { BorrowedFd::borrow_raw(file.fd) };
                let offset = file.offset + frame.page_in_aperture() * PAGE_SIZE;
                let rights = ProtFlags::from_bits_retain(mprotect_flags(prot).bits());
                // SAFETY: a new mapping where nothing is.
                unsafe { rustix::mm::mmap(core::ptr::null_mut(), len, rights, MapFlags::SHARED, fd, offset) }
                    .map_err(why_not_mapped)?
            }
            None if aperture.is_shared() => {
                let memory = aperture.address(frame).as_ptr().cast();
                // SAFETY: of a length of 0 the mapping stays where it is, and is made once more. It is shared, and one piece of one file.
                unsafe { rustix::mm::mremap(memory, 0, len, MremapFlags::MAYMOVE) }.map_err(why_not_doubled)?
            }
            None => {
                return Err(NotShown::Refused(
                    "it is private memory of this process, which cannot be seen at two addresses; register a shared mapping or a file descriptor",
                ));
            }
        };
        let prepared = Self { start, len };
        let range = prepared.range();
        if aperture.file().is_none() {
            set_rights(range, prot).map_err(why_not_mapped)?;
        }
        // SAFETY: the mapping was made above.
        unsafe { sys::dont_fork(span(range)) }.map_err(|_| NotShown::Shortage)?;
        Ok(prepared)
    }

    fn range(&self) -> AddrRange {
        let start = self.start.expose_provenance() as u64;
        AddrRange {
            start: VirtAddr(start),
            end: VirtAddr(start + self.len as u64),
        }
    }

    /// Puts it in the place of what is at `to`, in one step. If that fails there may be nothing any more.
    fn move_to(self, to: AddrRange) -> Result<(), Errno> {
        let how = MremapFlags::MAYMOVE;
        // SAFETY: our own mapping comes to a part of a layout, whose addresses are the machine's.
        unsafe { rustix::mm::mremap_fixed(self.start, self.len, self.len, how, pointer(to.start)) }?;
        core::mem::forget(self);
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and known to nobody else.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

fn why_not_mapped(errno: Errno) -> NotShown {
    NotShown::Refused(match errno {
        Errno::NOMEM | Errno::AGAIN => return NotShown::Shortage,
        Errno::NODEV => "its file descriptor cannot be mapped",
        Errno::ACCESS | Errno::PERM => {
            "its file descriptor allows no mapping with these rights; open it for reading and writing, or map it with fewer"
        }
        Errno::INVAL | Errno::OVERFLOW | Errno::NXIO => "its file descriptor cannot be mapped at this offset",
        _ => "the kernel did not map its file descriptor",
    })
}

fn why_not_doubled(errno: Errno) -> NotShown {
    NotShown::Refused(match errno {
        Errno::NOMEM | Errno::AGAIN => return NotShown::Shortage,
        _ => "the kernel does not map this memory at a second address; register its file descriptor as well",
    })
}

/// Maps a piece of the file of frames, without any right, and has its faults sent to a userfaultfd.
pub(crate) fn map_file(file: BorrowedFd<'_>, uffd: &Uffd, range: AddrRange, base: Frame) -> Result<(), Errno> {
    // SAFETY: the addresses are the machine's, and nothing is to be seen there any more.
    unsafe {
        rustix::mm::mmap(
            pointer(range.start),
            address(VirtAddr(range.len())),
            ProtFlags::empty(),
            MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
            file,
            base.0 * PAGE_SIZE,
        )?;
        sys::dont_fork(span(range))?;
        retry(|| uffd.register(span(range), Modes::MISSING | Modes::MINOR | Modes::WP))?;
    }
    Ok(())
}
