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

/// The last bytes of a page that is lent to be filled hold this pattern, and a filled page that still does was not filled:
/// the classic short read. Odd enough not to be anybody's data.
const UNFILLED: [u8; 32] = *b"\xa7\x1f\x02\xe9\x5cquire: unfilled\x8d\x33\xf0\x64\xbe\x09\xd1\x7a\x46\xcb\x92\x15";

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

    /// Hands the run to the pager. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; that the pager works on without leave. The pages are let go, or set aside.
    pub(crate) fn start(self) -> Result<Started> {
        let lent = self.lend(None)?;
        match lent.ask() {
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
            machine.take_back(&self.refs, loan, &|_| false);
            return Err(Error::NoMemory);
        };
        object.engine.requests().begin(&object, &io);
        Ok(Started {
            transfer: self,
            io,
            loan,
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
                for bytes in &self.loan.bytes {
                    mark_unfilled(*bytes);
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
    /// The pager's answer. Pages other than the required one may have been moved all the same.
    pub(crate) fn finish(self) -> Result<u64> {
        let answer = self.io.wait();
        let object = self.object().clone();
        object.engine.requests().end(&self.io);
        let answer = answer.and_then(|()| self.transfer.check_promise(&object, &self.io, &self.loan));
        let Self { transfer, io, loan } = self;
        let moved = transfer.settle(&object, &io, loan);
        match answer {
            Ok(()) => Ok(moved),
            Err(error) => {
                object.note_pager_error(&error);
                Err(error.into())
            }
        }
    }

    /// Leaves pages and bytes to a pager that works on without leave. Whoever waits for the pages is woken, and finds the
    /// object quarantined.
    fn set_aside(self, error: PagerError) -> PagerError {
        let object = self.object().clone();
        object.note_pager_error(&error);
        object.engine.requests().end(&self.io);
        for page in &self.transfer.refs {
            page.busy.dismiss_sleepers();
        }
        let Self { transfer, io, loan } = self;
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

impl Transfer {
    /// The pager says it moved what was asked for: is it so?
    fn check_promise(&self, object: &Object, io: &Io, loan: &Loan) -> Result<(), PagerError> {
        let broken = |what: core::fmt::Arguments<'_>| {
            Err(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{}: {what}", object.describe()),
            ))
        };
        let required = self.plan.required;
        let index = self.refs[required].index();
        match self.plan.direction {
            Direction::Get => {
                if io.outcome(required) != PageOutcome::Done {
                    return broken(format_args!(
                        "get answered OK but did not fill page {index}, which was required"
                    ));
                }
                let short = (0..io.len()).find(|&i| io.outcome(i) == PageOutcome::Done && is_unfilled(loan.bytes[i]));
                if let Some(i) = short {
                    io.page_failed(i);
                    let index = self.refs[i].index();
                    return broken(format_args!(
                        "get says page {index} is filled, but its last bytes were not written"
                    ));
                }
            }
            Direction::Put => {
                if let Some(i) = (0..io.len()).find(|&i| io.outcome(i) != PageOutcome::Done) {
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
                return state.strays.len();
            };
            let Stray { pages, refs, loan, .. } = state.strays.swap_remove(at);
            drop(state);
            self.engine.machine().take_back(&refs, loan, &|_| false);
            drop(pages);
        }
    }
}

fn tail(page: core::ptr::NonNull<u8>) -> *mut u8 {
    // SAFETY: lent bytes are a whole page, so its last bytes lie inside the same allocation.
    unsafe { page.as_ptr().add(crate::types::PAGE_BYTES - UNFILLED.len()) }
}

fn mark_unfilled(page: core::ptr::NonNull<u8>) {
    // SAFETY: the loan is ours to fill and has not been handed on yet; the tail of a page has room for the pattern.
    unsafe { tail(page).copy_from_nonoverlapping(UNFILLED.as_ptr(), UNFILLED.len()) }
}

fn is_unfilled(page: core::ptr::NonNull<u8>) -> bool {
    // SAFETY: the request has completed, so the bytes are ours again, and `mark_unfilled` initialised the tail.
    unsafe { core::slice::from_raw_parts(tail(page), UNFILLED.len()) == UNFILLED }
}
