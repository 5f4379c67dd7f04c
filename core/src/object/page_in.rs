//! Bringing a missing page in.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{ExclusiveBusy, Object, Refusal, Transfer};
use crate::alloc_fallible::try_reserve;
use crate::error::{Cause, Error, Result};
use crate::io::Direction;
use crate::machine::Reserve;
use crate::pager::PagerOps;
use crate::sync::Deadline;
use crate::types::{PageIndex, pages_of};

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageIn {
    /// The pager filled it.
    Filled,
    /// Somebody else has it in hand, or had it filled meanwhile, or the object is being closed, or the deadline passed: look again.
    LookAgain,
}

impl Object {
    /// Fills page `index`, which was not in memory a moment ago, and up to `along` pages behind it, if the pager offers them
    /// (F4) and none of them is in memory. Of several callers one asks the pager, and the others are told to look again and
    /// find the page busy (S111). Waits no longer than until the deadline; then the
    /// pager keeps the page. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or the pager's answer for this page; it is not in memory then (S107). A failure of the others is nobody's.
    pub(crate) fn page_in(self: &Arc<Self>, index: PageIndex, along: u32, deadline: &Deadline) -> Result<PageIn> {
        self.retried_alone(along, |along| self.page_in_run(index, along, deadline))
    }

    /// Asks for a run, and if that fails for the one page that is needed.
    fn retried_alone(&self, along: u32, run: impl Fn(u32) -> Result<PageIn>) -> Result<PageIn> {
        match run(along) {
            Err(Error::Pager(error)) if error.cause == Cause::Cancelled && self.lock().refuses_faults().is_some() => {
                Ok(PageIn::LookAgain)
            }
            // Perhaps it was one of those that nobody asked for.
            Err(Error::Pager(error))
                if along > 0 && !matches!(error.cause, Cause::BrokenPromise | Cause::Cancelled) =>
            {
                run(0)
            }
            done => done,
        }
    }

    /// As [`Object::page_in`], in a signal handler: the pager, which has declared itself fit for that, answers at once, so that
    /// the deadline is for what comes before.
    ///
    /// # Errors
    /// As [`Object::page_in`].
    pub(crate) fn page_in_in_signal(
        self: &Arc<Self>,
        index: PageIndex,
        along: u32,
        deadline: &Deadline,
    ) -> Result<PageIn> {
        let run = |along| match self.begin_page_in(index, along, deadline, true)? {
            // It went to swap in the meantime.
            Some(_unfilled) if !self.fills_in_signal(index) => Ok(PageIn::LookAgain),
            Some(transfer) => transfer.in_signal().run().map(|_| PageIn::Filled),
            None => Ok(PageIn::LookAgain),
        };
        self.retried_alone(along, run)
    }

    /// Whether page `index` can be brought in in a signal handler: its pager is fit for that, or it is zeros. May change unless the
    /// page is busied. Takes a lock of the highest rank only.
    pub(crate) fn fills_in_signal(&self, index: PageIndex) -> bool {
        self.ops().contains(PagerOps::SIGNAL_SAFE) || self.is_anonymous() && !self.has_slot(index)
    }

    fn page_in_run(self: &Arc<Self>, index: PageIndex, along: u32, deadline: &Deadline) -> Result<PageIn> {
        match self.begin_page_in(index, along, deadline, false)? {
            Some(transfer) => Ok(transfer
                .run_until(deadline)?
                .map_or(PageIn::LookAgain, |_| PageIn::Filled)),
            None => Ok(PageIn::LookAgain),
        }
    }

    /// Everything up to the request. Nothing when it is to be looked again.
    fn begin_page_in(
        self: &Arc<Self>,
        index: PageIndex,
        along: u32,
        deadline: &Deadline,
        in_signal: bool,
    ) -> Result<Option<Transfer>> {
        let paging = match self.begin_paging_until(deadline) {
            Ok(Some(paging)) => paging,
            Ok(None) | Err(Refusal::Closed) => return Ok(None),
            Err(Refusal::Quarantined(error)) => return Err(error.into()),
        };
        let most = 1 + self.offered_behind(index, along, in_signal);
        let mut pages = Vec::new();
        try_reserve(&mut pages, most)?;
        match self.insert_missing(index) {
            Ok(page) => pages.push(page),
            Err(Error::InUse(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        while pages.len() < most {
            let next = PageIndex(index.0 + pages.len() as u64);
            match self.insert_missing(next) {
                Ok(page) => pages.push(page),
                Err(_) => break,
            }
        }
        Transfer::new(paging, Direction::Get, pages, 0).map(Some)
    }

    /// A new page at `index`, to be brought in.
    ///
    /// # Errors
    /// As [`ExclusiveBusy::insert_new`]; [`Error::InUse`] also when there is nothing to bring in any more: an anon's page was given up
    /// since it was seen to be in swap. Nobody would look for a page there.
    pub(crate) fn insert_missing(self: &Arc<Self>, index: PageIndex) -> Result<ExclusiveBusy<Arc<Self>>> {
        let page = ExclusiveBusy::insert_new(self.clone(), index, Reserve::Ordinary)?;
        // Only now: with the page busied, its slot stays.
        if self.has_nothing_at(index) {
            return Err(Error::InUse("the page was given up"));
        }
        if self.has_slot(index) {
            page.page().note_was_put();
        }
        Ok(page)
    }

    /// How many of the `wanted` pages behind `index` the object has and the pager offers. An error of `has_page` is no offer.
    fn offered_behind(&self, index: PageIndex, wanted: u32, in_signal: bool) -> usize {
        let in_object = pages_of(self.size()).saturating_sub(index.0 + 1);
        let most = (self.longest_run() - 1).min(usize::try_from(in_object).unwrap_or(usize::MAX));
        let most = most.min(wanted as usize);
        if most == 0 {
            return 0;
        }
        let offered = match self.pager().has_page(index) {
            Ok(Some(offered)) => most.min(offered.after as usize),
            Ok(None) => 0,
            Err(error) => {
                self.note_pager_error(&error);
                0
            }
        };
        self.engine.frames_to_spare(offered, in_signal)
    }
}
