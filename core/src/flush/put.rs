//! Writing the dirty pages of a range, several requests at a time.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::run::{Next, Run, settle};
use crate::alloc_fallible::try_reserve;
use crate::busy::BusyMode;
use crate::error::{Cause, Error, PagerError, Result};
use crate::io::Direction;
use crate::object::{Object, Paging, Started, Transfer};
use crate::page::Dirtiness;
use crate::stats::Counter;
use crate::types::{PageIndex, Prot};

/// Puts of one flush that are under way at the same time: enough to keep a store busy, and at most 8 MiB of pages busy.
const MOST_PUTS: usize = 8;

/// The puts of one flush.
///
/// Nothing is waited for while some are under way but those puts themselves: pages are let go of before the flush sleeps
/// for one that another thread has.
struct Puts {
    paging: Paging,
    most: usize,
    /// They are made to free memory.
    reclaiming: bool,
    /// In a signal handler.
    in_signal: bool,
    under_way: VecDeque<Started>,
    written: u64,
    failure: Option<Error>,
}

impl Object {
    /// Writes the dirty pages of a range and waits for the writes: how many were written, and the first failure.
    pub(super) fn clean(self: &Arc<Self>, range: Range<PageIndex>, one_by_one: bool) -> (u64, Option<Error>) {
        // Asked for once: whoever has the object quiet waits for this flush, which must not wait in turn.
        let paging = match self.begin_paging() {
            Ok(paging) => paging,
            Err(error) => return (0, Some(error.into())),
        };
        let mut puts = Puts::new(paging, if one_by_one { 1 } else { MOST_PUTS });
        if let Err(error) = self.clean_with(&mut puts, range) {
            puts.failed(error);
        }
        puts.finish_all();
        (puts.written, puts.failure)
    }

    fn clean_with(self: &Arc<Self>, puts: &mut Puts, range: Range<PageIndex>) -> Result<()> {
        let longest = self.longest_run();
        let mut from = range.start;
        loop {
            match self.next_dirty_run(from, range.end, longest)? {
                Next::End => return Ok(()),
                Next::Busy(index, page) => {
                    from = index;
                    if !puts.finish_all() {
                        self.engine().wait_for_page(page, BusyMode::Exclusive, self.id(), index);
                    }
                }
                Next::Run(run) => {
                    from = PageIndex(run.last().map_or(from.0, |busy| busy.page().index().0) + 1);
                    self.put_dirty_of(puts, run)?;
                }
            }
        }
    }

    /// Writes those of some busied pages that are dirty, and waits for it: for the page daemon. Ascending; some may be missing in between.
    ///
    /// # Errors
    /// The first failure; the pages that could not be written stay dirty.
    pub(crate) fn put_dirty(self: &Arc<Self>, mut run: Run, in_signal: bool) -> Result<()> {
        // The pages are busied already, so that this must not wait for whoever has the object quiet.
        let mut puts = Puts {
            reclaiming: true,
            in_signal,
            ..Puts::new(self.try_begin_paging()?, 1)
        };
        // The end may have come down since they were busied. From here on it stays.
        run.retain(|busy| self.has_index(busy.page().index()));
        self.put_dirty_of(&mut puts, run)?;
        puts.failure.map_or(Ok(()), Err)
    }

    /// Write-protects pages, or unmaps them if they are to go, finds out which of them are dirty, and puts those, run by run.
    fn put_dirty_of(self: &Arc<Self>, puts: &mut Puts, run: Run) -> Result<()> {
        settle(
            self,
            &run,
            if puts.reclaiming {
                Prot::empty()
            } else {
                Prot::READ | Prot::EXEC
            },
        );
        let longest = self.longest_run();
        let mut rest = run.into_iter().peekable();
        while let Some(first) = rest.peek().map(|busy| busy.page().index()) {
            if puts.reclaiming && puts.failure.is_some() {
                // An object that failed is left alone; there are others to make room.
                break;
            }
            let mut piece = Vec::new();
            try_reserve(&mut piece, rest.len().min(longest))?;
            while piece.len() < longest
                && let Some(busy) = rest.next_if(|busy| {
                    let next = busy.page().index().0 == first.0 + piece.len() as u64;
                    next && busy.page().dirtiness() == Dirtiness::Dirty
                })
            {
                piece.push(busy);
            }
            if piece.is_empty() {
                // Not dirty after all: let it go.
                rest.next();
            } else if self.is_writable() {
                puts.start(piece);
            } else {
                let error = PagerError::new(Cause::Unsupported, format_args!("{} is read-only", self.describe()));
                puts.failed(error.into());
            }
        }
        Ok(())
    }
}

impl Puts {
    fn new(paging: Paging, most: usize) -> Self {
        Self {
            paging,
            most,
            reclaiming: false,
            in_signal: false,
            under_way: VecDeque::new(),
            written: 0,
            failure: None,
        }
    }

    fn start(&mut self, run: Run) {
        while self.under_way.len() >= self.most {
            self.finish_one();
        }
        let transfer = Transfer::new(self.paging.another(), Direction::Put, run, 0);
        let transfer = transfer.map(|transfer| match (self.reclaiming, self.in_signal) {
            (true, true) => transfer.reclaiming().in_signal(),
            (true, false) => transfer.reclaiming(),
            (false, _) => transfer,
        });
        let started = {
            let object = self.paging.object().clone();
            let _writing = object.engine().memory.writing();
            transfer.and_then(Transfer::start)
        };
        match started {
            Ok(started) if self.most > 1 && !started.is_complete() && self.under_way.try_reserve(1).is_ok() => {
                self.under_way.push_back(started);
            }
            Ok(started) => self.finished(started.finish()),
            Err(error) => self.failed(error),
        }
    }

    fn finish_one(&mut self) {
        if let Some(started) = self.under_way.pop_front() {
            self.finished(started.finish());
        }
    }

    /// Waits for all. False if there were none.
    fn finish_all(&mut self) -> bool {
        let some = !self.under_way.is_empty();
        while !self.under_way.is_empty() {
            self.finish_one();
        }
        some
    }

    fn finished(&mut self, result: Result<u64>) {
        match result {
            Ok(pages) => self.written += pages,
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: Error) {
        self.paging.object().engine().stats().count(Counter::WritesFailed);
        self.failure.get_or_insert(error);
    }
}
