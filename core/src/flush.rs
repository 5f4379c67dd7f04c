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
use crate::object::{ExclusiveBusy, Object, Refusal, Transfer};
use crate::page::{Dirtiness, PageRef};
use crate::pager::PagerOps;
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

/// What pages are put for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Somebody wants them written.
    Flush,
    /// Somebody wants their memory.
    Reclaim,
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
        self.lock().takes_requests()?;
        let failure = self.put_range(range, Purpose::Flush);
        match failure {
            None if flags.contains(FlushFlags::DURABLE) => self.make_durable(),
            None => Ok(()),
            Some(Error::Pager(error)) => Err(self.not_written(error)),
            Some(error) => Err(error),
        }
    }

    /// Puts what is dirty in a range; the answer is the first failure.
    fn put_range(self: &Arc<Self>, range: Range<PageIndex>, purpose: Purpose) -> Option<Error> {
        assert_no_locks_held("flushing an object");
        let mut failure = None;
        let mut from = range.start;
        loop {
            let run = match self.next_dirty_run(from, range.end, purpose) {
                Ok(Some(run)) => run,
                Ok(None) => return failure,
                Err(error) => return failure.or(Some(error)),
            };
            from = PageIndex(run.last().map_or(from.0, |busy| busy.page().index().0) + 1);
            if let Err(error) = self.put_dirty(run, purpose) {
                failure.get_or_insert(error);
            }
        }
    }

    /// Pages that are known to be dirty. Those mapped writable may be as well.
    #[must_use]
    pub fn dirty_pages(&self) -> u64 {
        self.lock().dirty_pages()
    }

    /// As what the caller has to know: the pages are kept, dirty.
    pub(crate) fn as_write_back(&self, error: Error) -> Error {
        match error {
            Error::Pager(error) => self.not_written(error),
            Error::NoMemory => self.not_written(PagerError::new(
                Cause::NoMemory,
                format_args!("there was no memory to write them; free some and try again"),
            )),
            other => other,
        }
    }

    fn not_written(&self, error: PagerError) -> Error {
        Error::WriteBack {
            object: self.describe(),
            pages: self.dirty_pages(),
            error,
        }
    }

    fn make_durable(self: &Arc<Self>) -> Result<()> {
        if !self.ops().contains(PagerOps::SYNC) {
            return Ok(());
        }
        let _paging = match self.begin_paging() {
            Ok(paging) => paging,
            Err(Refusal::Closed) => return Ok(()),
            Err(Refusal::Quarantined(error)) => return Err(Error::Quarantined(error.text)),
        };
        self.pager().sync().map_err(|error| {
            self.note_pager_error(&error);
            self.nothing_is_durable();
            error.into()
        })
    }

    /// What was put may not have reached its place, and the pager is not believed when it says so later: every page that was
    /// ever put and is still here will be put again.
    fn nothing_is_durable(&self) {
        let state = self.lock();
        let mut from = PageIndex(0);
        while let Some((index, page)) = state.pages.next(from) {
            if page.was_put() {
                page.note_modified();
            }
            from = PageIndex(index.0 + 1);
        }
    }

    /// Busies the next run of pages at or after `from` that are, or may be, dirty. A flush sleeps for a busy first page; the run
    /// ends before a page that is busy.
    fn next_dirty_run(
        self: &Arc<Self>,
        mut from: PageIndex,
        end: PageIndex,
        purpose: Purpose,
    ) -> Result<Option<Vec<ExclusiveBusy<Arc<Self>>>>> {
        let longest = usize::try_from(self.longest_run()).unwrap_or(MAX_RUN).clamp(1, MAX_RUN);
        let mut run = Vec::new();
        try_reserve(&mut run, longest)?;
        loop {
            let state = self.lock();
            match state.takes_requests() {
                Ok(()) => {}
                // Whoever closed it had written everything, or was told to give it up.
                Err(Refusal::Closed) => return Ok(None),
                Err(Refusal::Quarantined(error)) => return Err(Error::Quarantined(error.text)),
            }
            let Some((first, page)) = next_unclean(&state, from, end) else {
                return Ok(None);
            };
            let Some(busy) = ExclusiveBusy::try_resident(self.clone(), &state, first) else {
                drop(state);
                from = first;
                match purpose {
                    Purpose::Flush => page.sleep(BusyMode::Exclusive, self.id(), first, self.engine().stats()),
                    Purpose::Reclaim => from.0 += 1,
                }
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
    pub(crate) fn put_dirty(self: &Arc<Self>, run: Vec<ExclusiveBusy<Arc<Self>>>, purpose: Purpose) -> Result<()> {
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
            } else if let Err(error) = self.put_run(piece, purpose) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn put_run(self: &Arc<Self>, run: Vec<ExclusiveBusy<Arc<Self>>>, purpose: Purpose) -> Result<()> {
        if !self.is_writable() {
            return Err(PagerError::new(Cause::Unsupported, format_args!("{} is read-only", self.describe())).into());
        }
        let paging = match self.begin_paging() {
            Ok(paging) => paging,
            Err(Refusal::Closed) => return Ok(()),
            Err(Refusal::Quarantined(error)) => return Err(Error::Quarantined(error.text)),
        };
        Transfer::new(paging, Direction::Put, run, 0, purpose == Purpose::Reclaim)?
            .run()
            .map(|_pages| ())
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
