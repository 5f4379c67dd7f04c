//! A request as the engine sees it: the busy pages, the loan of their bytes, and what to do with them afterwards.
//!
//! One path for answers that come at once and for those that come later (S146): [`Transfer::start`] hands the run to the
//! pager, and [`Started::finish`] waits for the completion and settles. Between the two any number of others may be
//! started. A read-ahead has nobody who waits for it, and a fault with a time-out may leave: such a request is
//! [detached](Detached), and settled by whoever comes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::batch::let_go;
use super::{ExclusiveBusy, Object, Paging};
use crate::engine::Engine;
use crate::error::{Cause, Error, PagerError, Result};
use crate::io::{Direction, Io, IoPlan, PageOutcome};
use crate::machine::{Loan, Purpose};
use crate::page::PageRef;
use crate::pager::{Answer, PagerOps};
use crate::requests::Bell;
use crate::requests::Work;
use crate::stats::Counter;
use crate::sync::{Deadline, Event, FrameLock, Left, assert_no_locks_held};
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
            in_signal: false,
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

    /// It is made in a signal handler.
    pub(crate) fn in_signal(mut self) -> Self {
        self.plan.in_signal = true;
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

    /// As [`Transfer::run`] for a fault, which waits no longer than until a deadline: `None` then, and the pager keeps the run.
    /// If nobody else waits for it, it is cancelled.
    ///
    /// # Errors
    /// As [`Transfer::run`].
    pub(crate) fn run_until(self, deadline: &Deadline) -> Result<Option<u64>> {
        if deadline.is_never() {
            return self.run().map(Some);
        }
        let detached = self.detach(Wanted::ByFault)?;
        if detached.await_until(deadline) {
            detached.take_outcome().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Hands the run to the pager and leaves it there: who needs one of its pages waits for the request, and settles it. May
    /// block as long as the pager does; no lock may be held.
    pub(crate) fn run_detached(self) -> Result<()> {
        self.detach(Wanted::ByNobody).map(drop)
    }

    /// Hands the run to the pager. From here on nobody sleeps on its pages: the request is found on the engine's list.
    fn detach(self, wanted: Wanted) -> Result<Arc<Detached>> {
        let object = self.paging.object().clone();
        let engine = object.engine.clone();
        // Somebody else may settle it before the pager's operation has returned; the pager is not closed before that.
        let _under_way = self.paging.another();
        let first = self.plan.first.0;
        let lent = self.lend(Some(engine.requests().bell()))?;
        let io = lent.io.clone();
        match wanted {
            Wanted::ByFault => io.awaited.arrive(),
            Wanted::ByNobody => io.awaited.unattended(),
        }
        let detached = Arc::new(Detached {
            object: object.id,
            pages: first..first + io.len() as u64,
            io: io.clone(),
            wanted,
            started: FrameLock::new(None),
            outcome: FrameLock::new(None),
            settled: Event::new(),
        });
        lent.prepare();
        for page in &lent.transfer.refs {
            page.busy.dismiss_sleepers();
        }
        *detached.started.lock() = Some(lent);
        if !engine.requests().detach(detached.clone()) {
            // No room to remember it: then it is not asked for.
            detached.give_up();
            return Err(Error::NoMemory);
        }
        // Who waits for the object to be quiet may have looked for such requests before.
        object.paging.nudge();
        let asked = AskedDetached(&detached);
        let answer = object.pager().get(&io);
        core::mem::forget(asked);
        match answer {
            Answer::Done(answer) => {
                io.complete(answer);
                detached.settle();
            }
            Answer::Pending => object.request_pends(&io),
            Answer::Stray(error) => detached.set_aside(error),
        }
        Ok(detached)
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
        object.engine.requests().begin(&self.paging, Work::Run(io.clone()));
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
            Answer::Pending => self.object().request_pends(&self.io),
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
        object.engine.requests().end(&Work::Run(self.io.clone()));
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
        object.engine.requests().end(&Work::Run(self.io.clone()));
        for page in &self.transfer.refs {
            page.busy.dismiss_sleepers();
        }
        let Self { transfer, io, loan, .. } = self;
        let Transfer { pages, refs, .. } = transfer;
        object.keep_aside(Stray { pages, refs, io, loan });
        error
    }
}

/// Who started a request that is not bound to its thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// A fault, which may give up.
    ByFault,
    /// A read-ahead: its errors are nobody's, whoever needs a page asks again.
    ByNobody,
}

/// A request that is settled by whoever comes: a read-ahead, or one whose fault may give up.
#[derive(Debug)]
pub(crate) struct Detached {
    object: ObjectId,
    pages: Range<u64>,
    io: Arc<Io>,
    wanted: Wanted,
    /// Taken by whoever settles it.
    started: FrameLock<Option<Started>>,
    /// For the fault that started it, from when it is settled.
    outcome: FrameLock<Option<Result<u64>>>,
    settled: Event,
}

impl Detached {
    pub(crate) fn covers(&self, object: ObjectId, index: PageIndex) -> bool {
        self.object == object && self.pages.contains(&index.0)
    }

    pub(crate) fn is_of(&self, object: ObjectId) -> bool {
        self.object == object
    }

    pub(crate) fn is_read_ahead(&self) -> bool {
        self.wanted == Wanted::ByNobody
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.io.is_complete()
    }

    /// Waits until it has completed and is settled. No lock may be held.
    pub(crate) fn wait(&self) {
        self.wait_until(&Deadline::NEVER);
    }

    /// As [`Detached::wait`], until a deadline: whether it is settled. The last one to give up cancels it. May block as
    /// long as the pager's `cancel` does; no lock may be held.
    pub(crate) fn wait_until(&self, deadline: &Deadline) -> bool {
        self.io.awaited.arrive();
        self.await_until(deadline)
    }

    /// As [`Detached::wait_until`], for one who has arrived.
    fn await_until(&self, deadline: &Deadline) -> bool {
        if !self.io.awaited.wait_until(deadline) {
            match self.io.awaited.leave() {
                Left::Awaited => return false,
                Left::Alone => {
                    self.cancel();
                    return false;
                }
                Left::Complete => {}
            }
        }
        self.settle();
        self.settled.wait();
        true
    }

    fn cancel(&self) {
        // As long as this is counted the pager is not closed. Nothing to cancel once somebody settles it.
        let paging = self.started.lock().as_ref().map(|it| it.transfer.paging.another());
        if let Some(paging) = paging {
            paging.object().cancel_request(&self.io);
        }
    }

    fn take_outcome(&self) -> Result<u64> {
        let outcome = self.outcome.lock().take();
        outcome.unwrap_or_else(|| unreachable!("a request that is settled has an outcome, and one fault that takes it"))
    }

    /// Settles it, if it has completed and nobody else does.
    pub(crate) fn settle(&self) {
        if !self.io.is_complete() {
            return;
        }
        let started = self.started.lock().take();
        if let Some(started) = started {
            let engine = started.object().engine.clone();
            let outcome = started.finish();
            match (self.wanted, outcome) {
                (Wanted::ByFault, outcome) => *self.outcome.lock() = Some(outcome),
                (Wanted::ByNobody, Ok(pages)) => engine.stats().add(Counter::PagesReadAhead, pages),
                (Wanted::ByNobody, Err(_)) => engine.stats().count(Counter::ReadAheadsFailed),
            }
            self.leave_list(&engine);
        }
    }

    /// The pager works on without leave.
    fn set_aside(&self, error: PagerError) {
        let started = self.started.lock().take();
        if let Some(started) = started {
            let engine = started.object().engine.clone();
            let error = started.set_aside(error);
            *self.outcome.lock() = Some(Err(error.into()));
            self.io.awaited.dismiss();
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

impl Object {
    /// The pager has left a request pending. It may have come too late to be found by whoever ends the object.
    fn request_pends(&self, io: &Arc<Io>) {
        if io.awaited.pends() {
            self.ask_to_cancel(io);
        }
        if self.lock().is_unwanted(io.direction()) {
            self.cancel_request(io);
        }
    }

    /// Asks the pager to end a request soon, if it can and was not asked before; while that request, or whoever calls this,
    /// is counted as paging. Waits for nothing but the pager's `cancel`; no lock may be held. Whether the pager was asked now.
    pub(crate) fn cancel_request(&self, io: &Arc<Io>) -> bool {
        self.ops().contains(PagerOps::CANCEL) && io.awaited.cancel() && self.ask_to_cancel(io)
    }

    fn ask_to_cancel(&self, io: &Arc<Io>) -> bool {
        assert_no_locks_held("calling a pager");
        match self.pager().cancel(io) {
            Ok(asked) => {
                if asked {
                    self.engine.stats().count(Counter::RequestsCancelled);
                }
                asked
            }
            Err(error) => {
                io.awaited.not_asked();
                self.note_pager_error(&error);
                false
            }
        }
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

/// As [`Asked`], for a request that others may wait for.
#[derive(Debug)]
struct AskedDetached<'a>(&'a Detached);

impl Drop for AskedDetached<'_> {
    fn drop(&mut self) {
        self.0.set_aside(PagerError::new(
            Cause::BrokenPromise,
            format_args!("the pager panicked"),
        ));
    }
}

impl Transfer {
    fn settle(self, object: &Object, io: &Io, loan: Loan) -> Result<u64> {
        let moved = |i: usize| io.outcome(i) == PageOutcome::Done;
        let Self { pages, refs, plan, .. } = self;
        let engine = &object.engine;
        let kept = engine.machine().take_back(&refs, loan, &moved);
        let mut count = 0;
        for (_, page) in refs.iter().enumerate().filter(|(i, _)| kept.is_ok() && moved(*i)) {
            match plan.direction {
                Direction::Get => page.mark_valid(),
                Direction::Put => page.put_succeeded(),
            }
            count += 1;
        }
        let_go(object, pages);
        kept.map_err(|_| Error::NoMemory)?;
        let counter = match plan.direction {
            Direction::Get => Counter::PagesIn,
            Direction::Put => Counter::PagesOut,
        };
        engine.stats().add(counter, count);
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
