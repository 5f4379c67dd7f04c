//! The file in memory that has every frame: a frame is a page of it.
//!
//! Each object is a linear extent of the file ([`space`](crate::space)), so that a mapping of the object is a mapping of the
//! file. The file is longer than anything that will ever be in it, and has memory only where a page was filled.
//!
//! Nothing here goes through a mapping: pages are filled and read by `pwrite` and `pread`, which is several times
//! faster than to fault them in at a second address.

use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use quire_core::types::{Frame, PAGE_SHIFT};
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;

use crate::arena;
use crate::calls::{Counters, Kind};
use crate::lock::lock;
use crate::sys::{self, Span};

/// Pages of the file: 1 PiB.
pub(crate) const FILE_PAGES: u64 = 1 << 38;
/// Pages that one word tells of.
const WORD: u64 = 64;

/// Tables of files that are gone, all zeros again. Addresses of the engine's are never given back.
static TABLES: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// The file.
#[derive(Debug)]
pub(crate) struct Store {
    file: Arc<OwnedFd>,
    calls: Arc<Counters>,
    /// A bit for each page: it is somebody's frame, or in a hole that is being punched.
    taken: &'static [AtomicU64],
}

impl Store {
    pub(crate) fn new(calls: Arc<Counters>) -> Result<Self, Errno> {
        let file = rustix::fs::memfd_create(c"quire", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, FILE_PAGES << PAGE_SHIFT)?;
        let used_before = lock(&TABLES).pop();
        let taken = match used_before {
            Some(table) => table,
            None => arena::reserve_words(FILE_PAGES / WORD)?,
        };
        let file = Arc::new(file);
        Ok(Self { file, calls, taken })
    }

    pub(crate) fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Makes a frame somebody's. It is nobody's now, but may be in a hole that is being punched just now.
    pub(crate) fn take(&self, frame: Frame) {
        let (word, bit) = place(frame);
        while self.taken[word].fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            // Whoever punches has no more than one system call to make.
            std::thread::yield_now();
        }
    }

    /// Gives frames back, with what is in them. Ascending order makes it cheap: frames with nobody's between them are one
    /// system call.
    pub(crate) fn free(&self, frames: &[Frame]) {
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let count = rest
                .iter()
                .take_while(|frame| place(**frame).0 == place(*first).0)
                .count();
            let (word, others) = rest.split_at(count);
            self.free_word(word);
            rest = others;
        }
    }

    /// Frees frames that share a word. The holes between them are claimed for the time of the punch, so that nobody
    /// fills a page there meanwhile.
    fn free_word(&self, frames: &[Frame]) {
        let mut mine = frames;
        while let (Some(first), Some(_)) = (mine.first(), mine.last()) {
            let (word, first_bit) = place(*first);
            let mut count = mine.len();
            let claimed = loop {
                let hull = hull(first_bit, place(mine[count - 1]).1);
                let own = mine[..count].iter().fold(0, |bits, frame| bits | place(*frame).1);
                let holes = hull & !own;
                let now = self.taken[word].load(Ordering::Acquire);
                if now & holes != 0 {
                    // Somebody's frame lies between: stop short of it.
                    let blocked = now & holes & (now & holes).wrapping_neg();
                    count = mine[..count]
                        .iter()
                        .take_while(|frame| place(**frame).1 < blocked)
                        .count();
                    continue;
                }
                let claim = self.taken[word].compare_exchange(now, now | hull, Ordering::AcqRel, Ordering::Acquire);
                if claim.is_ok() {
                    break hull;
                }
            };
            self.punch(
                *first,
                u64::from(64 - claimed.leading_zeros() - claimed.trailing_zeros()),
            );
            self.taken[word].fetch_and(!claimed, Ordering::AcqRel);
            self.calls.add(Kind::FrameFreed, count as u64);
            mine = &mine[count..];
        }
    }

    fn punch(&self, first: Frame, pages: u64) {
        self.calls.count(Kind::Punch);
        let result = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(
                &*self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                first.0 << PAGE_SHIFT,
                pages << PAGE_SHIFT,
            )
        });
        // Punching a file in memory needs nothing that could be missing.
        debug_assert!(result.is_ok(), "a hole could not be punched: {result:?}");
    }

    /// Writes whole pages from `from` on at `frame` and behind it.
    ///
    /// # Errors
    /// When the kernel has no memory for them; then some may have been written.
    pub(crate) fn write(&self, frame: Frame, offset: usize, mut from: &[u8]) -> Result<(), Errno> {
        let mut at = (frame.0 << PAGE_SHIFT) + offset as u64;
        while !from.is_empty() {
            self.calls.count(Kind::FileWrite);
            let done = rustix::io::retry_on_intr(|| rustix::io::pwrite(&*self.file, from, at))?;
            if done == 0 {
                return Err(Errno::NOSPC);
            }
            from = &from[done..];
            at += done as u64;
        }
        Ok(())
    }

    /// Reads from `offset` in `frame` on. Pages that were never filled read as zeros.
    pub(crate) fn read(&self, frame: Frame, offset: usize, mut to: &mut [u8]) -> Result<(), Errno> {
        let mut at = (frame.0 << PAGE_SHIFT) + offset as u64;
        while !to.is_empty() {
            self.calls.count(Kind::FileRead);
            let done = rustix::io::retry_on_intr(|| rustix::io::pread(&*self.file, &mut *to, at))?;
            if done == 0 {
                return Err(Errno::IO);
            }
            to = &mut to[done..];
            at += done as u64;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let table = Span::new(self.taken.as_ptr().expose_provenance(), size_of_val(self.taken));
        // SAFETY: the table is private memory of this file, which nobody else can reach any more.
        if unsafe { sys::dont_need(table) }.is_ok() {
            lock(&TABLES).push(self.taken);
        }
    }
}

/// The word of a frame, and its bit.
#[allow(clippy::cast_possible_truncation, reason = "below FILE_PAGES / 64")]
fn place(frame: Frame) -> (usize, u64) {
    ((frame.0 / WORD) as usize, 1 << (frame.0 % WORD))
}

/// All bits from the one to the other.
fn hull(first: u64, last: u64) -> u64 {
    (last | (last - 1)) & !(first - 1)
}

/// The contiguous runs of frames, each with its place in the list.
pub(crate) fn runs(frames: &[Frame]) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
    let mut from = 0;
    core::iter::from_fn(move || {
        let start = from;
        let first = frames.get(start)?;
        while from < frames.len() && frames[from].0 == first.0 + (from - start) as u64 {
            from += 1;
        }
        Some(start..from)
    })
}
