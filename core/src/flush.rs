//! Writing dirty pages back.
//!
//! For each run of dirty pages: busy them, take away the right to write and collect the machine's modified bits, put.
//! What the pager is given does not change while it has it, because every writer needs the page (S80). A page is clean
//! afterwards only if its put succeeded; a failed one stays dirty, and the caller is told (D4, rule 5 of the design).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::alloc_fallible::try_reserve;
use crate::busy::BusyMode;
use crate::error::{Cause, Error, PagerError, Result};
use crate::io::Direction;
use crate::object::{ExclusiveBusy, Object, Transfer};
use crate::page::{Dirtiness, PageRef};
use crate::pager::PagerOps;
use crate::stats::Counter;
use crate::sync::assert_no_locks_held;
use crate::types::{PageIndex, Prot};

bitflags::bitflags! {
    /// How to flush.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FlushFlags: u32 {
        /// Everything written is durable before the call returns: the pager's `sync` is called.
        const DURABLE = 1;
    }
}

/// The longest run of one put, in pages: 1 MiB.
const MAX_RUN: usize = 256;

impl Object {
    /// Writes every dirty page of the object. As [`Object::flush`].
    ///
    /// # Errors
    /// As [`Object::flush`].
    pub fn flush_all(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        self.flush(PageIndex(0)..PageIndex(u64::MAX), flags)
    }

    /// Writes the dirty pages of a range and waits for the writes. Pages that fail do not keep others from being written.
    /// May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::WriteBack`] with the first failure: the pages that could not be written are kept, dirty, and a later flush
    /// tries them again. [`Error::NoMemory`]. The pager's answer to sync.
    pub fn flush(self: &Arc<Self>, range: Range<PageIndex>, flags: FlushFlags) -> Result<()> {
        assert_no_locks_held("flushing an object");
        let mut failure = None;
        let mut from = range.start;
        loop {
            let run = match self.next_dirty_run(from, range.end) {
                Ok(Some(run)) => run,
                Ok(None) => break,
                Err(error) => {
                    failure.get_or_insert(error);
                    break;
                }
            };
            from = PageIndex(run.last().map_or(from.0, |busy| busy.page().index().0) + 1);
            if let Err(error) = self.put_dirty(run) {
                failure.get_or_insert(error);
            }
        }
        match failure {
            None if flags.contains(FlushFlags::DURABLE) => self.make_durable(),
            None => Ok(()),
            Some(Error::Pager(error)) => Err(self.not_written(error)),
            Some(error) => Err(error),
        }
    }

    /// Pages that are known to be dirty. Those mapped writable may be as well.
    #[must_use]
    pub fn dirty_pages(&self) -> u64 {
        self.lock().dirty_pages()
    }

    fn not_written(&self, error: PagerError) -> Error {
        Error::WriteBack {
            object: self.describe(),
            pages: self.dirty_pages(),
            error,
        }
    }

    fn make_durable(self: &Arc<Self>) -> Result<()> {
        if !self.pager().ops().contains(PagerOps::SYNC) {
            return Ok(());
        }
        let _paging = self.begin_paging()?;
        self.pager().sync().map_err(|error| {
            self.note_pager_error(&error);
            error.into()
        })
    }

    /// Busies the next run of pages at or after `from` that are, or may be, dirty. Sleeps for a busy first page; the run ends
    /// before a page that is busy.
    fn next_dirty_run(
        self: &Arc<Self>,
        mut from: PageIndex,
        end: PageIndex,
    ) -> Result<Option<Vec<ExclusiveBusy<Arc<Self>>>>> {
        let longest = usize::try_from(self.pager().max_run())
            .unwrap_or(MAX_RUN)
            .clamp(1, MAX_RUN);
        let mut run = Vec::new();
        try_reserve(&mut run, longest)?;
        loop {
            let state = self.lock();
            state.takes_requests()?;
            let Some((first, page)) = next_unclean(&state, from, end) else {
                return Ok(None);
            };
            let Some(busy) = ExclusiveBusy::try_resident(self.clone(), &state, first) else {
                drop(state);
                from = first;
                self.engine().stats().count(Counter::BusyWaits);
                page.busy.sleep(BusyMode::Exclusive);
                continue;
            };
            run.push(busy);
            while run.len() < longest {
                let next = PageIndex(first.0 + run.len() as u64);
                let wanted = next < end
                    && state
                        .pages
                        .get(next)
                        .is_some_and(|page| page.dirtiness() != Dirtiness::Clean);
                match wanted
                    .then(|| ExclusiveBusy::try_resident(self.clone(), &state, next))
                    .flatten()
                {
                    Some(busy) => run.push(busy),
                    None => return Ok(Some(run)),
                }
            }
            return Ok(Some(run));
        }
    }

    /// Write-protects a run, finds out which of its pages are dirty, and puts those.
    pub(crate) fn put_dirty(self: &Arc<Self>, run: Vec<ExclusiveBusy<Arc<Self>>>) -> Result<()> {
        for busy in &run {
            settle(self, busy.page());
        }
        let mut failure = None;
        let mut rest = run.into_iter().peekable();
        while rest.peek().is_some() {
            let mut piece = Vec::new();
            try_reserve(&mut piece, rest.len())?;
            while let Some(busy) = rest.next_if(|busy| busy.page().dirtiness() == Dirtiness::Dirty) {
                piece.push(busy);
            }
            if piece.is_empty() {
                // Not dirty after all: let it go.
                rest.next();
            } else if let Err(error) = self.put_run(piece) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn put_run(self: &Arc<Self>, run: Vec<ExclusiveBusy<Arc<Self>>>) -> Result<()> {
        if !self.is_writable() {
            return Err(PagerError::new(Cause::Unsupported, format_args!("{} is read-only", self.describe())).into());
        }
        let paging = self.begin_paging()?;
        Transfer::new(paging, Direction::Put, run, 0)?.run().map(|_pages| ())
    }
}

/// Takes the right to write from every mapping of an exclusively busied page and records what the machine collected:
/// afterwards it is clean or dirty.
pub(crate) fn settle(object: &Object, page: PageRef) {
    let harvest = object.engine().machine().page_protect(page, Prot::READ | Prot::EXEC);
    harvest.record(page);
    page.settle();
}

fn next_unclean(
    state: &crate::object::ObjectState,
    mut from: PageIndex,
    end: PageIndex,
) -> Option<(PageIndex, PageRef)> {
    loop {
        let (index, page) = state.pages.next(from)?;
        if index >= end {
            return None;
        }
        if page.dirtiness() != Dirtiness::Clean {
            return Some((index, page));
        }
        from = PageIndex(index.0 + 1);
    }
}
