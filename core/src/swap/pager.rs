//! The pager of anonymous objects: what has a slot comes from its area, and everything else is zeros.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ops::Range;

use super::area::{Asked, Part};
use super::table::Tried;
use super::{Anonymous, Count, NotWritten, Slot, place};
use crate::error::{Cause, PagerError};
use crate::io::{Io, PageOutcome};
use crate::pager::{Answer, Extent, Pager, PagerOps};
use crate::types::{PAGE_BYTES, PAGE_SIZE, PageIndex};

/// The longest run, in pages: 256 KiB are enough to keep a store busy, and few enough pages to be busy at once.
const MAX_RUN: u32 = 64;

/// One object's.
#[derive(Debug)]
pub(super) struct SwapPager(Arc<Anonymous>);

/// Pages of a request that lie together in one area, or have no slot.
#[derive(Debug)]
struct Piece {
    pages: Range<usize>,
    slot: Option<Slot>,
}

/// Where to go on, and the answer for the required page, if it was among these. The error is that of a pager that goes on without leave.
type Filled = Result<(usize, Result<(), PagerError>), PagerError>;

impl SwapPager {
    pub(super) fn new(anonymous: Arc<Anonymous>) -> Self {
        Self(anonymous)
    }

    /// The piece of a request that begins at a page. Its pages are exclusively busied, so that their slots stay.
    fn piece_from(&self, io: &Io, first: usize) -> Piece {
        let slot = self.0.slot(place(io, first));
        let follows = |i: &usize| {
            let next = self.0.slot(place(io, *i));
            next == slot.map(|slot| slot.plus(*i - first))
        };
        let more = (first + 1..io.len()).take_while(follows).count();
        Piece {
            pages: first..first + 1 + more,
            slot,
        }
    }

    /// Fills a piece of a request, or as much of it as one request to an area reaches.
    fn fill(&self, of: &Arc<Io>, Piece { pages, slot }: Piece) -> Filled {
        let Some(slot) = slot else {
            pages.clone().for_each(|page| of.fill(page, &[]));
            return Ok((pages.end, Ok(())));
        };
        let from = pages.start;
        let (upto, answer) = self.read(of, pages, slot)?;
        if answer.is_ok() || upto - from == 1 {
            return Ok((upto, answer));
        }
        // Perhaps it was one of those that came along.
        let (required, behind) = (of.required(), of.required() - from);
        let alone = self.read(of, required..required + 1, slot.plus(behind))?.1;
        Ok((upto, alone))
    }

    /// Reads slots in one piece, as far as one request reaches.
    fn read(&self, of: &Arc<Io>, pages: Range<usize>, slot: Slot) -> Filled {
        let swap = self.0.swap();
        let Some((call, at, behind)) = swap.area_of(slot) else {
            unreachable!("a place had a slot of no area")
        };
        let most = call.area().max_run().min(behind.saturating_add(1)) as usize;
        let pages = pages.start..pages.end.min(pages.start.saturating_add(most));
        let part = Part {
            of,
            pages: pages.clone(),
            first: at,
        };
        swap.count(Count::Gets, 1);
        let (io, answer) = match call.ask(&part) {
            Asked::Answered(io, answer) => (io, answer),
            Asked::Stray(error) => return Err(error),
            Asked::NoMemory => {
                pages.clone().for_each(|page| of.page_failed(page));
                let is_needed = pages.contains(&of.required());
                let answer = is_needed.then(|| PagerError::bare(Cause::NoMemory)).map_or(Ok(()), Err);
                return Ok((pages.end, answer));
            }
        };
        if answer.is_err() {
            swap.note_error();
        }
        let mut failure = Ok(());
        for (i, page) in pages.clone().enumerate() {
            if io.outcome(i) == PageOutcome::Done {
                zero_behind_the_end(of, page);
                of.page_done(page);
                swap.count(Count::PagesIn, 1);
                continue;
            }
            of.page_failed(page);
            let answer = answer.clone().and_then(|()| Err(PagerError::bare(Cause::Io)));
            if let Err(error) = &answer
                && pages.len() == 1
                && tells_of_damage(error.cause)
            {
                swap.found_bad(slot);
            }
            if page == of.required() {
                failure = answer;
            }
        }
        Ok((pages.end, failure))
    }
}

impl Pager for SwapPager {
    fn describe(&self) -> String {
        "anonymous memory".to_string()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT | PagerOps::HAS_PAGE | PagerOps::RESIZE | PagerOps::TRANSIENT
    }

    fn max_run(&self) -> u32 {
        MAX_RUN
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        let (mut answer, mut from) = (Ok(()), 0);
        while from < io.len() {
            match self.fill(io, self.piece_from(io, from)) {
                Ok((upto, of_required)) => {
                    from = upto;
                    answer = answer.and(of_required);
                }
                Err(stray) => return Answer::Stray(stray),
            }
        }
        Answer::Done(answer)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        let swap = self.0.swap();
        // What swap has of them is out of date.
        (0..io.len()).for_each(|page| self.0.release(place(io, page)));
        swap.tell_freed();
        let (mut tried, mut failure) = (Tried::new(), None);
        let mut from = 0;
        while let Some(pages) = next_unwritten(io, from) {
            let Some(cluster) = swap.allocate(pages.len(), &tried) else {
                return Answer::Done(Err(swap.refuse(failure)));
            };
            let area = cluster.call.area().id;
            match cluster.write(io, pages.start, &self.0) {
                Ok(()) => from = pages.start,
                Err(NotWritten::Failed(error)) => {
                    tried.push(area);
                    failure = Some(error);
                }
                Err(NotWritten::NoMemory) => {
                    return Answer::Done(Err(swap.refuse(Some(PagerError::bare(Cause::NoMemory)))));
                }
                Err(NotWritten::Stray(error)) => return Answer::Stray(error),
            }
        }
        Answer::Done(Ok(()))
    }

    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        let Some(slot) = self.0.slot(index) else {
            return Ok(None);
        };
        let neighbour = |place: Option<u64>, slot: Option<u32>| {
            let (Some(place), Some(slot)) = (place, slot) else {
                return false;
            };
            self.0.slot(PageIndex(place)) == Some(Slot(slot))
        };
        let most = 1..MAX_RUN;
        let before = most
            .clone()
            .take_while(|n| neighbour(index.0.checked_sub(u64::from(*n)), slot.0.checked_sub(*n)));
        let after = most.take_while(|n| neighbour(index.0.checked_add(u64::from(*n)), slot.0.checked_add(*n)));
        #[allow(clippy::cast_possible_truncation, reason = "less than MAX_RUN")]
        Ok(Some(Extent {
            before: before.count() as u32,
            after: after.count() as u32,
        }))
    }

    fn resize(&self, _size: u64) -> Result<(), PagerError> {
        Ok(())
    }

    fn close(&self) -> Result<(), PagerError> {
        self.0.release_all();
        Ok(())
    }
}

/// The first run of pages at or behind `from` that were not written.
fn next_unwritten(io: &Io, from: usize) -> Option<Range<usize>> {
    let is_left = |i: &usize| io.outcome(*i) != PageOutcome::Done;
    let first = (from..io.len()).find(is_left)?;
    let len = (first..io.len()).take_while(is_left).count();
    Some(first..first + len)
}

/// What lies behind the object's end reads as zeros, whatever the slot has.
fn zero_behind_the_end(io: &Io, page: usize) {
    let live = io.object_size().saturating_sub(place(io, page).0 * PAGE_SIZE);
    if let Some(live) = usize::try_from(live).ok().filter(|live| *live < PAGE_BYTES) {
        // SAFETY: the request is a get under way, so that the page's bytes are ours; what was asked of them has completed.
        unsafe { io.bytes(page).as_ptr().add(live).write_bytes(0, PAGE_BYTES - live) };
    }
}

/// Whether a read that failed so will fail for ever, as far as one can know.
fn tells_of_damage(cause: Cause) -> bool {
    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    !cause.is_shortage()
        && !matches!(
            cause,
            Cause::Again | Cause::Cancelled | Cause::Unsupported | Cause::Errno(EINTR | EAGAIN)
        )
}
