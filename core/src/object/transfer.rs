//! A request as the engine sees it: the busy pages, the loan of their bytes, and what to do with them afterwards.
//!
//! One path for answers that come at once and for those that come later (S146): [`Transfer::run`] always waits for the
//! completion and then settles.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{ExclusiveBusy, Object, Paging};
use crate::error::{Cause, Error, PagerError, Result};
use crate::io::{Direction, Io, IoPlan, PageOutcome};
use crate::machine::{Loan, Purpose};
use crate::page::PageRef;
use crate::pager::Answer;
use crate::stats::Counter;
use crate::sync::assert_no_locks_held;
use crate::unfilled::Marker;

/// A run of busy pages on its way to or from the pager.
#[derive(Debug)]
pub(crate) struct Transfer {
    pages: Vec<ExclusiveBusy<Arc<Object>>>,
    refs: Vec<PageRef>,
    plan: IoPlan,
    paging: Paging,
}

impl Transfer {
    /// A transfer of contiguous busy pages; `required` is an index into them. `reclaiming`: it is made to free memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the pages are let go.
    pub(crate) fn new(
        paging: Paging,
        direction: Direction,
        pages: Vec<ExclusiveBusy<Arc<Object>>>,
        required: usize,
        reclaiming: bool,
    ) -> Result<Self> {
        let mut refs = Vec::new();
        crate::alloc_fallible::try_reserve(&mut refs, pages.len())?;
        refs.extend(pages.iter().map(ExclusiveBusy::page));
        let plan = IoPlan {
            direction,
            first: refs[0].index(),
            required,
            object_size: paging.object().size(),
            reclaiming,
        };
        Ok(Self {
            pages,
            refs,
            plan,
            paging,
        })
    }

    /// Hands the run to the pager, waits for its completion, and settles every page: filled ones become valid, unfilled
    /// ones are freed, written ones clean. Returns how many pages were moved. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or the pager's answer. Pages other than the required one may have been moved all the same.
    pub(crate) fn run(self) -> Result<u64> {
        assert_no_locks_held("calling a pager");
        let object = self.paging.object().clone();
        let purpose = match self.plan.direction {
            Direction::Get => Purpose::Fill,
            Direction::Put => Purpose::Read,
        };
        let loan = object
            .engine
            .machine()
            .lend(&self.refs, purpose)
            .map_err(|_| Error::NoMemory)?;
        let Some(io) = Io::new(self.plan, &loan).map(Arc::new) else {
            object.engine.machine().take_back(&self.refs, loan, &|_| false);
            return Err(Error::NoMemory);
        };
        let mut lent = Lent(Some((self, io, loan)));
        let answer = lent.ask(&object);
        let Some((transfer, io, loan)) = lent.0.take() else {
            unreachable!("only this takes it")
        };
        match answer {
            Ok(answer) => {
                let moved = transfer.settle(&object, &io, loan);
                answer.map(|()| moved).map_err(|error| {
                    object.note_pager_error(&error);
                    error.into()
                })
            }
            Err(mut stray) => {
                // Whatever it calls the reason: it has pages that it may not have.
                stray.cause = Cause::BrokenPromise;
                transfer.set_aside(&object, io, loan, &stray);
                Err(stray.into())
            }
        }
    }

    /// The pager's answer, checked; or, as the outer error, that it works on without leave.
    fn ask(&self, object: &Object, io: &Arc<Io>, loan: &Loan) -> Result<Result<(), PagerError>, PagerError> {
        let stats = object.engine.stats();
        let marker = Marker::new();
        let answer = match self.plan.direction {
            Direction::Get => {
                for bytes in loan.bytes() {
                    // SAFETY: the loan is ours to fill, page by page, and has not been handed on yet.
                    unsafe { marker.put_on(*bytes) };
                }
                stats.count(Counter::Gets);
                object.pager().get(io)
            }
            Direction::Put => {
                for page in &self.refs {
                    page.put_begins();
                }
                stats.count(Counter::Puts);
                object.pager().put(io)
            }
        };
        match answer {
            // A completion that came first stands: the pager answered twice, and the bridge has said so.
            Answer::Done(answer) => drop(io.complete(answer)),
            Answer::Pending => {}
            Answer::Stray(error) => return Err(error),
        }
        let answer = io.wait();
        Ok(self.check_promise(object, io, loan, marker, answer.is_ok()).and(answer))
    }

    /// Leaves pages and bytes to a pager that works on without leave. Whoever waits for the pages is woken, and finds the
    /// object quarantined.
    fn set_aside(self, object: &Object, io: Arc<Io>, loan: Loan, why: &PagerError) {
        object.note_pager_error(why);
        for page in &self.refs {
            page.busy.dismiss_sleepers();
        }
        let Self { pages, refs, .. } = self;
        object.keep_aside(Stray { pages, refs, io, loan });
    }

    /// The pager says what it moved, and, if `ok`, that this is what was asked for: is it so?
    fn check_promise(&self, object: &Object, io: &Io, loan: &Loan, marker: Marker, ok: bool) -> Result<(), PagerError> {
        let broken = |what: core::fmt::Arguments<'_>| {
            Err(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{}: {what}", object.describe()),
            ))
        };
        match self.plan.direction {
            Direction::Get => {
                let mut unfilled = None;
                for i in (0..io.len()).filter(|&i| io.outcome(i) == PageOutcome::Done) {
                    // SAFETY: every page got the marker, and the request has completed, so that its bytes are ours again.
                    if unsafe { marker.is_on(loan.bytes()[i]) } {
                        io.overrule(i);
                        unfilled = Some(self.refs[i].index());
                    }
                }
                if let Some(index) = unfilled {
                    return broken(format_args!(
                        "get says page {index} is filled, but its last bytes were not written"
                    ));
                }
                let required = self.plan.required;
                if ok && io.outcome(required) != PageOutcome::Done {
                    let index = self.refs[required].index();
                    return broken(format_args!(
                        "get answered OK but did not fill page {index}, which was required"
                    ));
                }
            }
            Direction::Put => {
                if ok && let Some(i) = (0..io.len()).find(|&i| io.outcome(i) != PageOutcome::Done) {
                    let index = self.refs[i].index();
                    return broken(format_args!("put answered OK but did not write page {index}"));
                }
            }
        }
        Ok(())
    }

    fn settle(self, object: &Object, io: &Io, loan: Loan) -> u64 {
        let moved = |i: usize| io.outcome(i) == PageOutcome::Done;
        object.engine.machine().take_back(&self.refs, loan, &moved);
        let mut count = 0;
        for (i, busy) in self.pages.into_iter().enumerate().filter(|(i, _)| moved(*i)) {
            match self.plan.direction {
                Direction::Get => busy.page().mark_valid(),
                Direction::Put => busy.page().put_succeeded(),
            }
            debug_assert!(core::ptr::eq(busy.page(), self.refs[i]));
            count += 1;
        }
        let counter = match self.plan.direction {
            Direction::Get => Counter::PagesIn,
            Direction::Put => Counter::PagesOut,
        };
        object.engine.stats().add(counter, count);
        count
    }
}

/// A transfer whose bytes are in the pager's hands. If the pager unwinds, a thread of its may still work on them.
#[derive(Debug)]
struct Lent(Option<(Transfer, Arc<Io>, Loan)>);

impl Lent {
    fn ask(&self, object: &Object) -> Result<Result<(), PagerError>, PagerError> {
        let Some((transfer, io, loan)) = &self.0 else {
            unreachable!("it is taken only after this")
        };
        transfer.ask(object, io, loan)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((transfer, io, loan)) = self.0.take() {
            let object = transfer.paging.object().clone();
            let why = PagerError::new(Cause::BrokenPromise, format_args!("{}: it panicked", object.describe()));
            transfer.set_aside(&object, io, loan, &why);
        }
    }
}

/// Pages and bytes that a pager has and should not have.
#[derive(Debug)]
pub(crate) struct Stray {
    pages: Vec<ExclusiveBusy<Arc<Object>>>,
    refs: Vec<PageRef>,
    io: Arc<Io>,
    loan: Loan,
}

impl Object {
    fn keep_aside(&self, stray: Stray) {
        let mut state = self.lock();
        if crate::alloc_fallible::try_reserve(&mut state.strays, 1).is_ok() {
            state.strays.push(stray);
        } else {
            // No room to remember them: they stay lent until the process ends, which keeps the promise as well.
            state.forgotten_strays += 1;
            drop(state);
            core::mem::forget(stray);
        }
    }

    /// Takes back what the pager has completed after all. Pages that were to be filled are freed, pages that were to be
    /// written stay dirty. Returns how many requests are still out.
    pub(super) fn take_strays_back(&self) -> usize {
        loop {
            let mut state = self.lock();
            let Some(at) = state.strays.iter().position(|stray| stray.io.is_complete()) else {
                return state.strays_out();
            };
            let Stray { pages, refs, loan, .. } = state.strays.swap_remove(at);
            drop(state);
            self.engine.machine().take_back(&refs, loan, &|_| false);
            drop(pages);
        }
    }
}
