//! Moving a run between its pages and the file, one system call after the other.
//!
//! A [`Cursor`] knows how far a run has come. [`Cursor::step`] says what to ask the system next, and [`Cursor::advance`]
//! takes the system's answer; who asks, and on which thread, is the engines' business. [`now`] asks here and at once.
//!
//! A page that fails costs only itself: the run goes on behind it.
//!
//! Somebody who cuts a file short does not want its old end back: what lies beyond the end that the file has by now is not
//! written. The end is asked for before each system call that writes. No lock makes that exact: a file that is cut between
//! the question and the write grows again to the end of that write, as with any program that writes to it.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::slice;
use std::sync::atomic::Ordering::Relaxed;

use quire_pager::direction::{Get, Put};
use quire_pager::{Direction, Error, Page, Pages, Pending, Request, Run};
use rustix::io::Errno;

use crate::backing::Backing;
use crate::stats::{Stats, add};
use crate::system;

/// Pieces of memory a system call: 1 MiB of scattered 4 KiB pages, and below the system's limit (IOV_MAX, 1024).
const PIECES: usize = 256;
/// Bytes a system call. The system's own limit is just below 2 GiB.
const MAX_BYTES: usize = 1 << 30;

/// Whoever holds the pages of a request now: the operation, or the pending request.
pub(crate) trait Holder<D>: Deref<Target = Request> {
    fn pages(&mut self) -> Pages<'_, D>;
}

impl<D: Direction> Holder<D> for Run<'_, D> {
    fn pages(&mut self) -> Pages<'_, D> {
        self.pages()
    }
}

impl<D: Direction> Holder<D> for Pending<D> {
    fn pages(&mut self) -> Pages<'_, D> {
        self.pages()
    }
}

/// What differs between reading and writing.
pub(crate) trait Way: Direction + Sized {
    /// The system call, for messages.
    const CALL: &'static str;
    const READS: bool;

    /// The byte of the file, as it is now, at or beyond which nothing is moved; the object's size limits that too. If the
    /// cursor is there already, the pages that are left are settled.
    fn limit(cursor: &mut Cursor, backing: &Backing, run: &mut impl Holder<Self>) -> u64;
    /// Where the page's data lies; its length is the part of the page below the object's size.
    fn place(page: Page<'_, Self>) -> *mut u8;
    /// The page's data has been moved, whole.
    fn moved(page: Page<'_, Self>);
    /// The system moved nothing at the cursor: what becomes of the page there.
    fn nothing(cursor: &mut Cursor, backing: &Backing, run: &mut impl Holder<Self>);
    /// Counts bytes.
    fn count(stats: &Stats, bytes: u64);
}

impl Way for Get {
    const CALL: &'static str = "preadv";
    const READS: bool = true;

    /// What is not there is found out by reading.
    fn limit(_cursor: &mut Cursor, _backing: &Backing, _run: &mut impl Holder<Self>) -> u64 {
        u64::MAX
    }

    fn place(page: Page<'_, Self>) -> *mut u8 {
        page.into_data().as_mut_ptr()
    }

    fn moved(page: Page<'_, Self>) {
        page.filled();
    }

    fn nothing(cursor: &mut Cursor, backing: &Backing, run: &mut impl Holder<Self>) {
        let end = offset_of(run, cursor.page) + cursor.within as u64;
        match backing.length() {
            Ok(length) if length <= end => {
                fill_to_the_end(run, cursor, end);
                cursor.page = run.count();
            }
            // It was cut and grew again in between, perhaps.
            Ok(_) if cursor.tried_again_at != Some(end) => cursor.tried_again_at = Some(end),
            // The file has bytes, and none came (S120).
            Ok(_) => cursor.fail(run, system("preadv read nothing")(Errno::IO)),
            Err(error) => cursor.fail(run, error),
        }
    }

    fn count(stats: &Stats, bytes: u64) {
        add(&stats.bytes_read, bytes);
    }
}

/// The file ends at `end`, in or before the cursor's page: it is filled up with zeros, and pages beyond are bad.
fn fill_to_the_end(run: &mut impl Holder<Get>, cursor: &Cursor, end: u64) {
    let in_signal = run.in_signal();
    for page in run.pages().skip(cursor.page) {
        // Below a page's size where it matters.
        match usize::try_from(end.saturating_sub(page.offset())).unwrap_or(usize::MAX) {
            0 if in_signal => page.fail(Error::bad("")),
            0 => page.fail(Error::bad(format!(
                "the file ends at byte {end}; it was cut short while it was in use"
            ))),
            there => page.filled_to(there),
        }
    }
}

impl Way for Put {
    const CALL: &'static str = "pwritev";
    const READS: bool = false;

    fn limit(cursor: &mut Cursor, backing: &Backing, run: &mut impl Holder<Self>) -> u64 {
        while !cursor.at_end(run) {
            match backing.end_for_writes() {
                Ok(end) => {
                    cursor.stop_at(run, end);
                    return end;
                }
                Err(error) => cursor.fail(run, error),
            }
        }
        0
    }

    fn place(page: Page<'_, Self>) -> *mut u8 {
        page.data().as_ptr().cast_mut()
    }

    fn moved(page: Page<'_, Self>) {
        page.written();
    }

    fn nothing(cursor: &mut Cursor, _backing: &Backing, run: &mut impl Holder<Self>) {
        // Trying again would be for ever; taking it for a success would lose the bytes (D10).
        cursor.fail(run, system("pwritev wrote nothing")(Errno::IO));
    }

    fn count(stats: &Stats, bytes: u64) {
        add(&stats.bytes_written, bytes);
    }
}

/// The pieces of memory that one system call moves.
pub(crate) struct Pieces {
    // Invariant: the first `len` are filled in. The others are not, so that making one costs nothing.
    list: [MaybeUninit<libc::iovec>; PIECES],
    len: usize,
    bytes: usize,
}

// SAFETY: plain addresses and lengths; who may touch what they name is settled by the request that they were taken from.
unsafe impl Send for Pieces {}

impl Pieces {
    pub(crate) fn new() -> Self {
        Self {
            list: [const { MaybeUninit::uninit() }; PIECES],
            len: 0,
            bytes: 0,
        }
    }

    pub(crate) fn list(&self) -> &[libc::iovec] {
        // SAFETY: filled in, by the invariant.
        unsafe { slice::from_raw_parts(self.list.as_ptr().cast(), self.len) }
    }

    fn last_mut(&mut self) -> Option<&mut libc::iovec> {
        // SAFETY: filled in, by the invariant.
        unsafe { slice::from_raw_parts_mut(self.list.as_mut_ptr().cast(), self.len) }.last_mut()
    }

    fn clear(&mut self) {
        (self.len, self.bytes) = (0, 0);
    }

    /// Adds memory, to the last piece if it lies directly behind it. Whether all of it found room.
    fn push(&mut self, place: *mut u8, len: usize) -> bool {
        let fits = len.min(MAX_BYTES - self.bytes);
        if let Some(last) = self.last_mut()
            && last.iov_base.addr() + last.iov_len == place.addr()
        {
            last.iov_len += fits;
        } else if let Some(free) = self.list.get_mut(self.len) {
            free.write(libc::iovec {
                iov_base: place.cast(),
                iov_len: fits,
            });
            self.len += 1;
        } else {
            return false;
        }
        self.bytes += fits;
        fits == len
    }
}

/// What to ask the system next, beside the pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) fd: RawFd,
    pub(crate) offset: u64,
    bytes: usize,
    /// Nothing at or beyond this byte of the file is moved.
    end: u64,
    /// Past the page cache.
    direct: bool,
}

/// How far a run has come.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Position of the first page that is not settled.
    page: usize,
    /// Bytes of it that have been moved.
    within: usize,
    /// The file refused to go past the page cache.
    buffered: bool,
    /// Where a read got nothing once, although the file had bytes.
    tried_again_at: Option<u64>,
}

impl Cursor {
    /// Every page is settled.
    pub(crate) fn at_end(&self, run: &Request) -> bool {
        self.page >= run.count()
    }

    /// The next system call, with its memory in `pieces`; `None` when every page is settled. For a put, asks for the file's
    /// end, and settles the pages beyond it.
    pub(crate) fn step<D: Way>(
        &mut self,
        backing: &Backing,
        run: &mut impl Holder<D>,
        pieces: &mut Pieces,
    ) -> Option<Step> {
        pieces.clear();
        let end = D::limit(self, backing, run).min(run.object_size());
        if self.at_end(run) {
            return None;
        }
        let offset = offset_of(run, self.page) + self.within as u64;
        let request = **run;
        let mut direct = None;
        let (mut at, mut within) = (offset, self.within);
        for (position, page) in run.pages().enumerate().skip(self.page) {
            let len = len_of(&request, position, end) - within;
            if len == 0 {
                break;
            }
            let place = D::place(page).wrapping_add(within);
            let aligned = !self.buffered && backing.takes_direct(at, place.addr(), len);
            // What goes past the page cache and what goes through it are different calls.
            if *direct.get_or_insert(aligned) != aligned || !pieces.push(place, len) {
                break;
            }
            at += len as u64;
            within = 0;
        }
        let direct = direct.unwrap_or(false);
        Some(Step {
            fd: backing.descriptor(direct).as_raw_fd(),
            offset,
            bytes: pieces.bytes,
            end,
            direct,
        })
    }

    /// Takes the system's answer to `step`: the bytes that were moved, or an error.
    pub(crate) fn advance<D: Way>(
        &mut self,
        backing: &Backing,
        run: &mut impl Holder<D>,
        step: Step,
        answer: Result<usize, Errno>,
    ) {
        match answer {
            Ok(0) => D::nothing(self, backing, run),
            Ok(moved) => {
                D::count(&backing.stats, moved as u64);
                if step.direct {
                    add(&backing.stats.bytes_direct, moved as u64);
                }
                if moved < step.bytes {
                    add(&backing.stats.short_transfers, 1);
                }
                self.take(run, moved, step.end);
            }
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) if step.direct => self.buffered = true,
            Err(errno) => self.fail(run, system(D::CALL)(errno)),
        }
    }

    /// Marks the pages that `moved` more bytes complete, up to `end`.
    fn take<D: Way>(&mut self, run: &mut impl Holder<D>, moved: usize, end: u64) {
        self.within += moved;
        let request = **run;
        for page in run.pages().skip(self.page) {
            let len = len_of(&request, self.page, end);
            if len == 0 || self.within < len {
                break;
            }
            self.within -= len;
            D::moved(page);
            self.page += 1;
        }
    }

    /// The page at the cursor fails, alone.
    fn fail<D: Way>(&mut self, run: &mut impl Holder<D>, error: Error) {
        if let Some(page) = run.pages().nth(self.page) {
            page.fail(error);
        }
        self.page += 1;
        self.within = 0;
    }

    /// The file ends at `end` by now. If that is at or before the cursor, pages that begin below it have been written as far
    /// as they can be, and the others stay the caller's.
    fn stop_at(&mut self, run: &mut impl Holder<Put>, end: u64) {
        if end > offset_of(run, self.page) + self.within as u64 {
            return;
        }
        let in_signal = run.in_signal();
        for page in run.pages().skip(self.page) {
            if page.offset() < end {
                page.written();
            } else if in_signal {
                page.fail(Error::bad(""));
            } else {
                page.fail(Error::bad(format!(
                    "the file ends at byte {end}, because it was cut short while it was in use; discard the page, or make \
                     the file longer with resize"
                )));
            }
        }
        self.page = run.count();
    }
}

/// Byte offset, in the file, of the page at `position` in the run.
fn offset_of(run: &Request, position: usize) -> u64 {
    run.offset() + (position * run.page_size()) as u64
}

/// Bytes of the page at `position` that lie below `end`.
fn len_of(run: &Request, position: usize, end: u64) -> usize {
    let left = end.saturating_sub(offset_of(run, position));
    usize::try_from(left).unwrap_or(usize::MAX).min(run.page_size())
}

/// Moves the rest of a run, on this thread.
pub(crate) fn now<D: Way>(backing: &Backing, run: &mut impl Holder<D>, cursor: &mut Cursor) {
    let mut pieces = Pieces::new();
    while let Some(step) = cursor.step::<D>(backing, run, &mut pieces) {
        // SAFETY: the pieces are pages of `run`, which holds them for this direction until the call has returned.
        let answer = unsafe { call::<D>(step, &pieces, 0) };
        cursor.advance::<D>(backing, run, step, answer);
    }
}

/// Fills what the page cache has, without waiting for a device.
pub(crate) fn from_cache(backing: &Backing, run: &mut impl Holder<Get>, cursor: &mut Cursor) {
    let mut pieces = Pieces::new();
    while backing.peeks.load(Relaxed) {
        let step = match cursor.step::<Get>(backing, run, &mut pieces) {
            Some(step) if !step.direct => step,
            _ => return,
        };
        // SAFETY: as in `now`.
        match unsafe { call::<Get>(step, &pieces, libc::RWF_NOWAIT) } {
            // Nothing, or an error: whoever asks without this flag finds out what it means.
            Ok(0) | Err(Errno::AGAIN) => return,
            Ok(moved) => {
                let short = moved < step.bytes;
                // Not short for the statistics: more was not to be had without waiting.
                let step = Step { bytes: moved, ..step };
                cursor.advance::<Get>(backing, run, step, Ok(moved));
                if short {
                    return;
                }
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => backing.peeks.store(false, Relaxed),
            Err(_) => return,
        }
    }
}

/// One system call, with `flags` of `preadv2`.
///
/// # Safety
/// The pieces name memory that nobody else uses until this returns: to be written when `D` reads.
pub(crate) unsafe fn call<D: Way>(step: Step, pieces: &Pieces, flags: libc::c_int) -> Result<usize, Errno> {
    let list = pieces.list();
    // PIECES is far below.
    let count = libc::c_int::try_from(list.len()).map_err(|_| Errno::INVAL)?;
    let offset = libc::off_t::try_from(step.offset).map_err(|_| Errno::INVAL)?;
    // SAFETY: the caller's promise; the list is valid for `count` pieces.
    let answer = unsafe {
        match (D::READS, flags, list) {
            // The kernel is quicker where it has no list to read.
            (true, 0, [piece]) => libc::pread(step.fd, piece.iov_base, piece.iov_len, offset),
            (false, _, [piece]) => libc::pwrite(step.fd, piece.iov_base, piece.iov_len, offset),
            (true, 0, _) => libc::preadv(step.fd, list.as_ptr(), count, offset),
            (true, ..) => libc::preadv2(step.fd, list.as_ptr(), count, offset, flags),
            (false, ..) => libc::pwritev(step.fd, list.as_ptr(), count, offset),
        }
    };
    usize::try_from(answer).map_err(|_| last_error())
}

fn last_error() -> Errno {
    let number = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use quire_pager::testing::{PAGE_SIZE, TestHost};
    use quire_pager::{GetRun, Host, Object, OpenRequest, Opened, Pager, PutRun, Result};

    use super::*;
    use crate::backing::Kind;

    /// A pager whose system moves a few bytes a call, never the same number, is interrupted in between, and finds nothing to
    /// read now and then. Its configuration names the call before which somebody cuts the file to [`CUT`] bytes.
    struct Stutter {
        cut_before: Option<usize>,
    }

    struct File {
        backing: Backing,
        calls: AtomicUsize,
        cut_before: Option<usize>,
    }

    const CUT: u64 = PAGE_SIZE as u64 + 50;

    impl Pager for Stutter {
        const NAME: &'static CStr = c"stutter";
        type Object = File;

        fn init(_host: Host, config: Option<&str>) -> Result<Self> {
            let cut_before = config.map(|text| text.parse().expect("a number"));
            Ok(Self { cut_before })
        }

        fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<File>> {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(request.text()?)?;
            let size = file.metadata()?.len();
            let backing = Backing {
                fd: OwnedFd::from(file),
                direct: None,
                kind: Kind::Regular,
                writable: true,
                page_size: request.page_size() as u64,
                peeks: AtomicBool::new(true),
                stats: Arc::default(),
                under_way: Arc::default(),
            };
            let calls = AtomicUsize::new(0);
            let cut_before = self.cut_before;
            let file = File {
                backing,
                calls,
                cut_before,
            };
            Ok(Opened::new(file, size))
        }
    }

    impl File {
        fn stutter<D: Way>(&self, run: &mut impl Holder<D>) {
            let (mut cursor, mut pieces) = (Cursor::default(), Pieces::new());
            loop {
                let call = self.calls.fetch_add(1, Relaxed);
                if self.cut_before == Some(call) {
                    rustix::fs::ftruncate(&self.backing.fd, CUT).expect("is cut");
                }
                let Some(step) = cursor.step::<D>(&self.backing, run, &mut pieces) else {
                    return;
                };
                // Pieces of one page each are joined where they touch; the first is enough to be cut.
                pieces.len = 1;
                let first = pieces.last_mut().expect("a step has pieces");
                first.iov_len = first.iov_len.min(1 + call * 997 % 6000);
                let answer = match call % 5 {
                    3 => Err(Errno::INTR),
                    4 if D::READS => Ok(0),
                    // SAFETY: the piece is a part of pages of `run`, which holds them for this direction.
                    _ => unsafe { super::call::<D>(step, &pieces, 0) },
                };
                cursor.advance::<D>(&self.backing, run, step, answer);
            }
        }
    }

    impl Object for File {
        fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
            self.stutter(run);
            Ok(())
        }
    }

    impl quire_pager::Put for File {
        fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
            self.stutter(run);
            Ok(())
        }
    }

    #[test]
    fn a_transfer_that_stops_anywhere_is_continued_where_it_stopped() {
        let bytes: Vec<u8> = (0..20 * PAGE_SIZE + 77)
            .map(|i| u8::try_from(i / 3 % 253).expect("a byte"))
            .collect();
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&bytes).expect("is written");
        let host = TestHost::load(quire_pager::module!(Stutter), None).expect("loads");
        let object = host.open(file.path().to_str().expect("UTF-8")).expect("opens");
        let answer = object.get(0, 21);
        assert_eq!(answer.status, 0, "{}", answer.text);
        let got: Vec<u8> = answer.pages.iter().flat_map(|page| page.bytes.clone()).collect();
        assert!(got[..bytes.len()] == bytes && got[bytes.len()..].iter().all(|&byte| byte == 0));
        let other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        assert_eq!(object.put(0, &other).status, 0);
        assert!(std::fs::read(file.path()).expect("reads") == other);
    }

    /// Wherever a put has come to, it does not make a file that is cut longer again.
    #[test]
    fn a_put_notices_between_two_calls_that_the_file_was_cut_short() {
        for cut_before in 0..20 {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.as_file().set_len(20 * PAGE_SIZE as u64).expect("grows");
            let host = TestHost::load(quire_pager::module!(Stutter), Some(&cut_before.to_string())).expect("loads");
            let object = host.open(file.path().to_str().expect("UTF-8")).expect("opens");
            let answer = object.put(0, &[9; 20 * PAGE_SIZE]);
            assert_eq!(answer.status, quire_pager::abi::QUIRE_PAGER_BAD, "{}", answer.text);
            let statuses = answer.pages.iter().map(|page| page.status);
            let good = statuses.clone().take_while(|&status| status == 0).count();
            // Those that were written before are answered so.
            assert!(good >= 2, "{cut_before}: {good}");
            assert!(
                statuses
                    .skip(good)
                    .all(|status| status == quire_pager::abi::QUIRE_PAGER_BAD)
            );
            assert!(std::fs::read(file.path()).expect("reads") == [9; PAGE_SIZE + 50]);
        }
    }
}
