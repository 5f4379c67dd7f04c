//! A request as the engine sees it: the busy pages, the loan of their bytes, and what to do with them afterwards.
//!
//! One path for answers that come at once and for those that come later (S146): [`Transfer::start`] hands the run to the
//! pager, and [`Started::finish`] waits for the completion and settles. Between the two any number of others may be
//! started. A read-ahead has nobody who waits for it: it is [detached](Detached), and settled by whoever comes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::{ExclusiveBusy, Object, Paging};
use crate::engine::Engine;
use crate::error::{Cause, Error, PagerError, Result};
use crate::io::{Direction, Io, IoPlan, PageOutcome};
use crate::machine::{Loan, Purpose};
use crate::page::PageRef;
use crate::pager::Answer;
use crate::requests::Bell;
use crate::stats::Counter;
use crate::sync::{Event, FrameLock, assert_no_locks_held};
use crate::types::{ObjectId, PageIndex};
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
    /// A transfer of contiguous busy pages; `required` is an index into them.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the pages are let go.
    pub(crate) fn new(
        paging: Paging,
        direction: Direction,
        pages: Vec<ExclusiveBusy<Arc<Object>>>,
        required: usize,
    ) -> Result<Self> {
        let mut refs = Vec::new();
        crate::alloc_fallible::try_reserve(&mut refs, pages.len())?;
        refs.extend(pages.iter().map(ExclusiveBusy::page));
        let plan = IoPlan {
            direction,
            first: refs[0].index(),
            required,
            object_size: paging.object().size(),
            reclaiming: false,
        };
        Ok(Self {
            pages,
            refs,
            plan,
            paging,
        })
    }

    /// It is made to free memory.
    pub(crate) fn reclaiming(mut self) -> Self {
        self.plan.reclaiming = true;
        self
    }

    /// Hands the run to the pager. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; that the pager works on without leave. The pages are let go, or set aside.
    pub(crate) fn start(self) -> Result<Started> {
        let mut asked = Asked(Some(self.lend(None)?));
        let answer = asked.ask();
        let Some(lent) = asked.0.take() else {
            unreachable!("only this takes it")
        };
        match answer {
            Ok(()) => Ok(lent),
            Err(stray) => Err(lent.set_aside(stray).into()),
        }
    }

    /// Hands the run to the pager, waits for its completion, and settles every page. Returns how many pages were moved.
    ///
    /// # Errors
    /// As [`Transfer::start`] and [`Started::finish`].
    pub(crate) fn run(self) -> Result<u64> {
        self.start()?.finish()
    }

    /// Hands the run to the pager and leaves it there. From here on nobody sleeps on its pages: who needs one finds the
    /// request on the engine's list, waits for it, and settles it. May block as long as the pager does; no lock may be held.
    pub(crate) fn run_detached(self) -> Result<()> {
        let object = self.paging.object().clone();
        let engine = object.engine.clone();
        let refs = self.refs.len();
        let first = self.plan.first;
        let lent = self.lend(Some(engine.requests().bell()))?;
        let io = lent.io.clone();
        let id = object.id;
        let detached = Arc::new(Detached {
            object: id,
            pages: first.0..first.0 + refs as u64,
            io: io.clone(),
            started: FrameLock::new(None),
            settled: Event::new(),
        });
        for page in &lent.transfer.refs {
            page.busy.dismiss_sleepers();
        }
        lent.prepare();
        *detached.started.lock() = Some(lent);
        if !engine.requests().detach(detached.clone()) {
            // No room to remember it: then it is not asked for.
            detached.give_up();
            return Err(Error::NoMemory);
        }
        match object.pager().get(&io) {
            Answer::Done(answer) => {
                io.complete(answer);
                detached.settle();
            }
            // Who waits for the object to be quiet looked for such requests before this one was on the list, or finds it there.
            Answer::Pending if object.lock().is_to_be_quiet() => detached.wait(),
            Answer::Pending => {}
            Answer::Stray(error) => detached.set_aside(error),
        }
        Ok(())
    }

    fn lend(self, bell: Option<Arc<Bell>>) -> Result<Started> {
        assert_no_locks_held("calling a pager");
        let object = self.paging.object().clone();
        let purpose = match self.plan.direction {
            Direction::Get => Purpose::Fill,
            Direction::Put => Purpose::Read,
        };
        let machine = object.engine.machine();
        let loan = machine.lend(&self.refs, purpose).map_err(|_| Error::NoMemory)?;
        let Some(io) = Io::new(self.plan, &loan, bell).map(Arc::new) else {
            let _nothing_to_keep = machine.take_back(&self.refs, loan, &|_| false);
            return Err(Error::NoMemory);
        };
        object.engine.requests().begin(&object, &io);
        Ok(Started {
            transfer: self,
            io,
            loan,
            marker: Marker::new(),
        })
    }
}

/// A run that the pager has, or has had. To be finished: dropping it would leave the bytes lent.
#[derive(Debug)]
#[must_use]
pub(crate) struct Started {
    transfer: Transfer,
    io: Arc<Io>,
    loan: Loan,
    marker: Marker,
}

impl Started {
    /// Asks the pager. The error is that it works on without leave.
    fn ask(&self) -> Result<(), PagerError> {
        self.prepare();
        let pager = self.object().pager();
        let answer = match self.io.direction() {
            Direction::Get => pager.get(&self.io),
            Direction::Put => pager.put(&self.io),
        };
        match answer {
            // A completion that came first stands: the pager answered twice, and the bridge has said so.
            Answer::Done(answer) => drop(self.io.complete(answer)),
            Answer::Pending => {}
            Answer::Stray(error) => return Err(error),
        }
        Ok(())
    }

    /// The last thing before the pager gets the bytes.
    fn prepare(&self) {
        let stats = self.object().engine.stats();
        match self.io.direction() {
            Direction::Get => {
                for bytes in self.loan.bytes() {
                    // SAFETY: the loan is ours to fill, page by page, and has not been handed on yet.
                    unsafe { self.marker.put_on(*bytes) };
                }
                stats.count(Counter::Gets);
            }
            Direction::Put => {
                for page in &self.transfer.refs {
                    page.put_begins();
                }
                stats.count(Counter::Puts);
            }
        }
    }

    fn object(&self) -> &Arc<Object> {
        self.transfer.paging.object()
    }

    /// Whether finishing it does not wait.
    pub(crate) fn is_complete(&self) -> bool {
        self.io.is_complete()
    }

    /// Waits for the completion, and settles every page: filled ones become valid, unfilled ones are freed, written ones
    /// clean. Returns how many pages were moved. May block; no lock may be held.
    ///
    /// # Errors
    /// The pager's answer. Pages other than the required one may have been moved all the same. [`Error::NoMemory`] when
    /// the machine could not keep what was filled: all of it is freed.
    pub(crate) fn finish(self) -> Result<u64> {
        let answer = self.io.wait();
        let object = self.object().clone();
        object.engine.requests().end(&self.io);
        let answer = self.check_promise(&object, answer.is_ok()).and(answer);
        let Self { transfer, io, loan, .. } = self;
        let moved = transfer.settle(&object, &io, loan);
        match answer {
            Ok(()) => moved,
            Err(error) => {
                object.note_pager_error(&error);
                Err(error.into())
            }
        }
    }

    /// Leaves pages and bytes to a pager that works on without leave. Whoever waits for the pages is woken, and finds the
    /// object quarantined.
    fn set_aside(self, mut error: PagerError) -> PagerError {
        let object = self.object().clone();
        // Whatever it calls the reason: it has pages that it may not have.
        error.cause = Cause::BrokenPromise;
        object.note_pager_error(&error);
        object.engine.requests().end(&self.io);
        for page in &self.transfer.refs {
            page.busy.dismiss_sleepers();
        }
        let Self { transfer, io, loan, .. } = self;
        let Transfer { pages, refs, .. } = transfer;
        object.keep_aside(Stray { pages, refs, io, loan });
        error
    }
}

/// A request that nobody waits for: a read-ahead.
#[derive(Debug)]
pub(crate) struct Detached {
    object: ObjectId,
    pages: Range<u64>,
    io: Arc<Io>,
    /// Taken by whoever settles it.
    started: FrameLock<Option<Started>>,
    settled: Event,
}

impl Detached {
    pub(crate) fn covers(&self, object: ObjectId, index: PageIndex) -> bool {
        self.object == object && self.pages.contains(&index.0)
    }

    pub(crate) fn is_of(&self, object: ObjectId) -> bool {
        self.object == object
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.io.is_complete()
    }

    /// Waits until it has completed and is settled. No lock may be held.
    pub(crate) fn wait(&self) {
        self.io.wait_over();
        self.settle();
        self.settled.wait();
    }

    /// Settles it, if it has completed and nobody else does. Its errors are nobody's: whoever needs a page asks again.
    pub(crate) fn settle(&self) {
        if !self.io.is_complete() {
            return;
        }
        let started = self.started.lock().take();
        if let Some(started) = started {
            let engine = started.object().engine.clone();
            match started.finish() {
                Ok(pages) => engine.stats().add(Counter::PagesReadAhead, pages),
                Err(_) => engine.stats().count(Counter::ReadAheadsFailed),
            }
            self.leave_list(&engine);
        }
    }

    /// The pager works on without leave.
    fn set_aside(&self, error: PagerError) {
        let started = self.started.lock().take();
        if let Some(started) = started {
            let engine = started.object().engine.clone();
            let _ = started.set_aside(error);
            self.io.dismiss();
            self.leave_list(&engine);
        }
    }

    /// The pager was not asked after all.
    fn give_up(&self) {
        self.io.complete(Err(PagerError::bare(Cause::Invalid)));
        self.settle();
    }

    fn leave_list(&self, engine: &Engine) {
        engine.requests().forget(self);
        self.settled.set();
    }
}

impl Started {
    /// The pager says what it moved, and, if `ok`, that this is what was asked for: is it so?
    fn check_promise(&self, object: &Object, ok: bool) -> Result<(), PagerError> {
        let broken = |what: core::fmt::Arguments<'_>| {
            Err(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{}: {what}", object.describe()),
            ))
        };
        let (io, refs) = (&self.io, &self.transfer.refs);
        match io.direction() {
            Direction::Get => {
                let mut unfilled = None;
                for i in (0..io.len()).filter(|&i| io.outcome(i) == PageOutcome::Done) {
                    // SAFETY: every page got the marker, and the request has completed, so that its bytes are ours again.
                    if unsafe { self.marker.is_on(self.loan.bytes()[i]) } {
                        io.overrule(i);
                        unfilled = Some(refs[i].index());
                    }
                }
                if let Some(index) = unfilled {
                    return broken(format_args!(
                        "get says page {index} is filled, but its last bytes were not written"
                    ));
                }
                let required = io.required();
                if ok && io.outcome(required) != PageOutcome::Done {
                    let index = refs[required].index();
                    return broken(format_args!(
                        "get answered OK but did not fill page {index}, which was required"
                    ));
                }
            }
            Direction::Put => {
                if ok && let Some(i) = (0..io.len()).find(|&i| io.outcome(i) != PageOutcome::Done) {
                    let index = refs[i].index();
                    return broken(format_args!("put answered OK but did not write page {index}"));
                }
            }
        }
        Ok(())
    }
}

/// A run whose bytes are in the pager's hands. If the pager unwinds, a thread of its may still work on them.
#[derive(Debug)]
struct Asked(Option<Started>);

impl Asked {
    fn ask(&self) -> Result<(), PagerError> {
        self.0.as_ref().map_or(Ok(()), Started::ask)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(started) = self.0.take() {
            let object = started.object().clone();
            let why = PagerError::new(Cause::BrokenPromise, format_args!("{}: it panicked", object.describe()));
            started.set_aside(why);
        }
    }
}

impl Transfer {
    fn settle(self, object: &Object, io: &Io, loan: Loan) -> Result<u64> {
        let moved = |i: usize| io.outcome(i) == PageOutcome::Done;
        let machine = object.engine.machine();
        machine
            .take_back(&self.refs, loan, &moved)
            .map_err(|_| Error::NoMemory)?;
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
        Ok(count)
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
            let _nothing_to_keep = self.engine.machine().take_back(&refs, loan, &|_| false);
            drop(pages);
        }
    }
}
