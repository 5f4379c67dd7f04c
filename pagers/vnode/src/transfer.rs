//! Moving runs between pages and the file, many pages a system call.
//!
//! A page that fails costs only itself: the run goes on behind it.

use std::io::{IoSlice, IoSliceMut};

use quire_pager::{Error, GetRun, PutRun, Request, Result};
use rustix::io::{Errno, preadv, pwritev, retry_on_intr};

use crate::{File, system};

/// Pages a system call: 256 KiB of 4 KiB pages, on the stack, and far below the system's limit (IOV_MAX, 1024).
const CHUNK: usize = 64;

/// Why a chunk was not moved whole.
enum Stopped {
    /// A call moved nothing.
    Nothing,
    /// A call failed.
    Failed(Errno),
}

/// Fills the pages of a run from the file.
pub(crate) fn read(file: &File, run: &mut GetRun<'_>) -> Result<()> {
    let mut next = 0;
    let mut tried_again_at = None;
    while next < run.count() {
        let start = next;
        let (got, stopped) = read_chunk(file, run, start);
        let end = offset_of(run, start) + got;
        for mut page in run.pages().skip(start) {
            if page.offset() + page.data().len() as u64 > end {
                break;
            }
            page.filled();
            next += 1;
        }
        let error = match stopped {
            None => continue,
            Some(Stopped::Failed(errno)) => system("preadv")(errno),
            Some(Stopped::Nothing) => match file.length() {
                Ok(length) if length <= end => {
                    fill_to_the_end(run, next, end);
                    break;
                }
                // It was cut and grew again in between, perhaps.
                Ok(_) if tried_again_at != Some(end) => {
                    tried_again_at = Some(end);
                    continue;
                }
                // The file has bytes, and none came (S120).
                Ok(_) => system("preadv read nothing")(Errno::IO),
                Err(error) => error,
            },
        };
        if let Some(page) = run.pages().nth(next) {
            page.fail(error);
        }
        next += 1;
    }
    Ok(())
}

/// The file ends at `end`, in or before the page at `next`: its page is filled up with zeros, and pages beyond are bad.
fn fill_to_the_end(run: &mut GetRun<'_>, next: usize, end: u64) {
    for page in run.pages().skip(next) {
        // Below a page's size where it matters.
        match usize::try_from(end.saturating_sub(page.offset())).unwrap_or(usize::MAX) {
            0 => page.fail(Error::bad(format!(
                "the file ends at byte {end}; it was cut short while it was in use"
            ))),
            there => page.filled_to(there),
        }
    }
}

/// Reads up to [`CHUNK`] pages from position `start`. Answers the bytes that came, and why not all did.
fn read_chunk(file: &File, run: &mut GetRun<'_>, start: usize) -> (u64, Option<Stopped>) {
    let offset = offset_of(run, start);
    let len = CHUNK.min(run.count() - start);
    let mut slices: [IoSliceMut<'_>; CHUNK] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    for (slice, page) in slices.iter_mut().zip(run.pages().skip(start)) {
        *slice = IoSliceMut::new(page.into_data());
    }
    let mut left = &mut slices[..len];
    let mut got = 0;
    while !left.is_empty() {
        match retry_on_intr(|| preadv(&file.fd, left, offset + got)) {
            Ok(0) => return (got, Some(Stopped::Nothing)),
            Ok(n) => {
                got += n as u64;
                IoSliceMut::advance_slices(&mut left, n);
            }
            Err(errno) => return (got, Some(Stopped::Failed(errno))),
        }
    }
    (got, None)
}

/// Writes the pages of a run to the file.
///
/// Somebody who cut the file short does not want its old end back: what lies beyond the end that the file has by now is
/// not written. The end is asked for before each chunk. No lock makes that exact: a file that is cut between the
/// question and the write grows again to the end of that chunk, as with any program that writes to it.
pub(crate) fn write(file: &File, run: &mut PutRun<'_>) -> Result<()> {
    let mut next = 0;
    while next < run.count() {
        let start = next;
        let limit = file.end_for_writes()?;
        if offset_of(run, start) >= limit {
            refuse_beyond_the_end(run, start, limit);
            break;
        }
        let (put, stopped) = write_chunk(file, run, start, limit);
        let end = offset_of(run, start) + put;
        for page in run.pages().skip(start) {
            let wanted = (page.offset() + page.data().len() as u64).min(limit);
            if page.offset() >= limit || wanted > end {
                break;
            }
            page.written();
            next += 1;
        }
        let error = match stopped {
            None => continue,
            Some(Stopped::Failed(errno)) => system("pwritev")(errno),
            // Trying again would be for ever; taking it for a success would lose the bytes (D10).
            Some(Stopped::Nothing) => system("pwritev wrote nothing")(Errno::IO),
        };
        if let Some(page) = run.pages().nth(next) {
            page.fail(error);
        }
        next += 1;
    }
    Ok(())
}

/// Pages that begin at or beyond the file's end, `end`, cannot be written; they stay the caller's.
fn refuse_beyond_the_end(run: &mut PutRun<'_>, start: usize, end: u64) {
    for page in run.pages().skip(start) {
        page.fail(Error::bad(format!(
            "the file ends at byte {end}, because it was cut short while it was in use; discard the page, or make the file \
             longer with resize"
        )));
    }
}

/// Writes up to [`CHUNK`] pages from position `start`, and nothing at or beyond `limit`. Answers the bytes that were taken,
/// and why not all were.
fn write_chunk(file: &File, run: &mut PutRun<'_>, start: usize, limit: u64) -> (u64, Option<Stopped>) {
    let offset = offset_of(run, start);
    let mut len = 0;
    let mut slices = [IoSlice::new(&[]); CHUNK];
    for (slice, page) in slices.iter_mut().zip(run.pages().skip(start)) {
        let below = usize::try_from(limit.saturating_sub(page.offset())).unwrap_or(usize::MAX);
        if below == 0 {
            break;
        }
        let data = page.data();
        *slice = IoSlice::new(&data[..below.min(data.len())]);
        len += 1;
    }
    let mut left = &mut slices[..len];
    let mut put = 0;
    while !left.is_empty() {
        match retry_on_intr(|| pwritev(&file.fd, left, offset + put)) {
            Ok(0) => return (put, Some(Stopped::Nothing)),
            Ok(n) => {
                put += n as u64;
                IoSlice::advance_slices(&mut left, n);
            }
            Err(errno) => return (put, Some(Stopped::Failed(errno))),
        }
    }
    (put, None)
}

/// Byte offset, in the file, of the page at `position` in the run.
fn offset_of(run: &Request, position: usize) -> u64 {
    run.offset() + (position * run.page_size()) as u64
}
