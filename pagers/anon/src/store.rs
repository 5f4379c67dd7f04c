//! The file or block device behind an area: each slot has its place in it.
//!
//! Runs of neighbouring slots move with one system call, as far as the system takes them. What fails costs the one page
//! that it fails for; the run goes on behind it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use quire_pager::direction::{Get, Put};
use quire_pager::{Direction, Error, Page, Result};
use rustix::fs::{self, FallocateFlags};
use rustix::io::{Errno, preadv, pwritev, retry_on_intr};

use crate::slots::Slot;

/// What can hold slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    BlockDevice,
}

/// An open file or device. Nobody else has it for swap as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    fd: OwnedFd,
    kind: Kind,
    page_size: usize,
    /// The file gives blocks back. Until it refuses.
    punches: AtomicBool,
}

/// Pages a system call: below the system's limit (IOV_MAX, 1024), and few enough to stand on the stack.
const LONGEST: usize = 64;

/// Pages of neighbouring slots.
pub(crate) struct Stretch<'a, D> {
    // Invariant: the first `len` are there, but for those that failed; the others are not.
    pages: [Option<Page<'a, D>>; LONGEST],
    len: usize,
    first: u32,
}

impl<'a, D: Direction> Stretch<'a, D> {
    pub(crate) fn new() -> Self {
        Self {
            pages: [const { None }; LONGEST],
            len: 0,
            first: 0,
        }
    }

    /// Whether a page of this slot can be added.
    pub(crate) fn takes(&self, slot: Slot) -> bool {
        self.len == 0 || self.len < LONGEST && self.end() == slot.0
    }

    /// Adds a page that it takes.
    pub(crate) fn push(&mut self, slot: Slot, page: Page<'a, D>) {
        debug_assert!(self.takes(slot));
        if self.len == 0 {
            self.first = slot.0;
        }
        self.pages[self.len] = Some(page);
        self.len += 1;
    }

    pub(crate) fn first(&self) -> Slot {
        Slot(self.first)
    }

    pub(crate) fn count(&self) -> u32 {
        // At most `LONGEST`.
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }

    fn end(&self) -> u32 {
        self.first + self.count()
    }

    /// Takes out the pages that did not fail. Empty afterwards.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Slot, Page<'a, D>)> + use<'_, 'a, D> {
        let len = std::mem::take(&mut self.len);
        let slots = (self.first..).map(Slot);
        let pages = self.pages[..len].iter_mut().map(Option::take);
        slots.zip(pages).filter_map(|(slot, page)| Some((slot, page?)))
    }

    fn fail(&mut self, at: usize, error: Error) {
        if let Some(page) = self.pages[at].take() {
            page.fail(error);
        }
    }
}

impl Store {
    pub(crate) fn new(fd: OwnedFd, kind: Kind, page_size: usize) -> Self {
        Self {
            fd,
            kind,
            page_size,
            punches: AtomicBool::new(kind == Kind::Regular),
        }
    }

    /// Reads a stretch; what could not be read has failed.
    pub(crate) fn read(&self, stretch: &mut Stretch<'_, Get>) {
        self.go_through(stretch, |store, stretch, at, within| {
            let mut pieces: [_; LONGEST] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
            let mut count = 0;
            let pages = stretch.pages[at..stretch.len].iter_mut().flatten();
            for (piece, page) in pieces.iter_mut().zip(pages) {
                *piece = IoSliceMut::new(page.data());
                count += 1;
            }
            let slot = Slot(stretch.first + count_of(at));
            pieces[0].advance(within);
            let offset = store.offset(slot) + within as u64;
            match retry_on_intr(|| preadv(&store.fd, &mut pieces[..count], offset)) {
                Ok(0) => Err(cut_short(slot, offset)),
                Ok(moved) => Ok(moved),
                Err(errno) => Err(said("preadv", slot, errno)),
            }
        });
    }

    /// Writes a stretch; what could not be written has failed, and its place in the file holds the one page, the other, or a
    /// part of each.
    pub(crate) fn write(&self, stretch: &mut Stretch<'_, Put>) {
        self.go_through(stretch, |store, stretch, at, within| {
            let pages = stretch.pages[at..stretch.len].iter().flatten();
            let mut pieces = [IoSlice::new(&[]); LONGEST];
            let mut count = 0;
            for (piece, page) in pieces.iter_mut().zip(pages) {
                *piece = IoSlice::new(page.data());
                count += 1;
            }
            pieces[0].advance(within);
            store.write_pieces(Slot(stretch.first + count_of(at)), &pieces[..count], within)
        });
    }

    /// Writes one page.
    pub(crate) fn write_page(&self, slot: Slot, page: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < page.len() {
            done += self.write_pieces(slot, &[IoSlice::new(&page[done..])], done)?;
        }
        Ok(())
    }

    /// The file may give back the blocks of `count` slots from `first` on. Whether it has.
    pub(crate) fn give_back(&self, first: Slot, count: u32) -> Result<bool> {
        if !self.punches.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = u64::from(count) * self.page_size as u64;
        match retry_on_intr(|| fs::fallocate(&self.fd, flags, self.offset(first), len)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.punches.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(errno) => Err(said("fallocate", first, errno)),
        }
    }

    /// Calls `step` until every page has moved or failed. It moves some bytes from byte `within` of the page at a position on,
    /// or says why that page fails.
    fn go_through<'a, D: Direction>(
        &self,
        stretch: &mut Stretch<'a, D>,
        mut step: impl FnMut(&Self, &mut Stretch<'a, D>, usize, usize) -> Result<usize>,
    ) {
        let mut done = 0;
        while done < stretch.len * self.page_size {
            let at = done / self.page_size;
            match step(self, stretch, at, done % self.page_size) {
                Ok(moved) => done += moved,
                Err(error) => {
                    stretch.fail(at, error);
                    done = (at + 1) * self.page_size;
                }
            }
        }
    }

    /// Writes some of the pieces, the first of which begins at byte `within` of the slot.
    fn write_pieces(&self, slot: Slot, pieces: &[IoSlice<'_>], within: usize) -> Result<usize> {
        let inside = self.slots_inside(slot)?.min(pieces.len());
        let offset = self.offset(slot) + within as u64;
        match retry_on_intr(|| pwritev(&self.fd, &pieces[..inside], offset)) {
            // Trying again would be for ever; taking it for a success would lose the bytes.
            Ok(0) => Err(said("pwritev wrote nothing", slot, Errno::IO)),
            Ok(moved) => Ok(moved),
            Err(errno @ Errno::NOSPC) => Err(said("pwritev", slot, errno)
                .context("the file system of the swap file is full; make room there, or close other swap files in it")),
            Err(errno @ Errno::FBIG) => Err(said("pwritev", slot, errno).context(
                "the swap file is larger than this process may write (see ulimit -f), or than its file system allows",
            )),
            Err(errno) => Err(said("pwritev", slot, errno)),
        }
    }

    /// How many slots from this one on lie in the file, at least one: a file that somebody made shorter does not grow again
    /// because of a put.
    fn slots_inside(&self, slot: Slot) -> Result<usize> {
        // A device's size does not change.
        if self.kind == Kind::BlockDevice {
            return Ok(usize::MAX);
        }
        let stat = fs::fstat(&self.fd).map_err(|errno| said("fstat", slot, errno))?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        match length.saturating_sub(self.offset(slot)) / self.page_size as u64 {
            0 => Err(Error::bad(format!(
                "slot {}: the swap file ends at byte {length}; it was made shorter while it was in use",
                slot.0
            ))),
            inside => Ok(usize::try_from(inside).unwrap_or(usize::MAX)),
        }
    }

    fn offset(&self, slot: Slot) -> u64 {
        u64::from(slot.0) * self.page_size as u64
    }
}

fn count_of(position: usize) -> u32 {
    // Below `LONGEST`.
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn cut_short(slot: Slot, end: u64) -> Error {
    Error::errno(
        Errno::IO.raw_os_error(),
        format!(
            "slot {}: the swap file ends at byte {end}; it was made shorter while it was in use, and the page is lost",
            slot.0
        ),
    )
}

fn said(call: &'static str, slot: Slot, errno: Errno) -> Error {
    Error::system(call, errno.raw_os_error()).context(format_args!("slot {}", slot.0))
}
