//! Resolving a fault.
//!
//! ```text
//!             +------------+
//!   address ->| map entry  |   case 0   nothing mapped, or not allowed          verify
//!             +------------+
//!             |  (upper)   |   case 1   anonymous memory over the object        a later layer
//!             +------------+
//!             |   object   |   case 2A  the page is the object's                lower
//!             +------------+
//! ```
//!
//! One attempt runs down the steps with the map's lock held shared, and either ends the fault or says what it needs:
//!
//! 1. [`verify`]: find the entry, check the access, find the page's place in the object.
//! 2. [`check`]: choose the window of neighbours that are mapped along, by the entry's advice.
//! 3. [`lower`]: find the page and its resident neighbours, share-busy them, enter them.
//!    In a sequence [`along`] enters those behind them as well.
//!
//! What is needed is waited for in one place, [`Fault::wait_for`], holding nothing; then the fault starts over, because
//! anything may have changed meanwhile: the map, the object's size, the page's identity (rule 3 of the design). Nothing
//! found in one attempt is carried into the next.

mod along;
mod bring_in;
mod check;
mod ctx;
mod in_signal;
mod lower;
mod verify;
mod wire;

use alloc::sync::Arc;
use core::time::Duration;

pub(crate) use ctx::{Fault, Goal, Need, Outcome, Stop};
pub(crate) use wire::entry_is_gone;

use crate::busy::BusyMode;
use crate::error::{Cause, Error, FaultError, PagerError};
use crate::map::Map;
use crate::object::{Object, PageIn, SharedBusy};
use crate::page::PageRef;
use crate::populate::Ended;
use crate::stats::Counter;
use crate::sync::{Deadline, assert_no_locks_held};
use crate::types::{Access, ObjectId, PageIndex, VirtAddr};

/// How a fault was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Its case.
    pub case: FaultCase,
    /// Whether the page was resident, so that nothing was waited for.
    pub resident: bool,
    /// How many resident neighbours were mapped along.
    pub neighbours: u32,
}

/// The cases of a fault, by where the page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultCase {
    /// The page is the object's, and is mapped as it is.
    TwoA,
}

impl Map {
    /// Resolves a fault at `va`: afterwards the access can be tried again. May block; no lock may be held.
    ///
    /// # Errors
    /// See [`FaultError`]: nothing was mapped then.
    pub fn fault(&self, va: VirtAddr, access: Access) -> Result<Resolved, FaultError> {
        self.counted(access, Fault::new(self, va, access, Goal::Enter).run())
    }

    /// What became of a fault that was to enter a page.
    fn counted(&self, access: Access, outcome: Result<Outcome, FaultError>) -> Result<Resolved, FaultError> {
        let stats = self.engine().stats();
        stats.count(Counter::Faults);
        match outcome {
            Ok(Outcome::Entered(resolved)) => {
                stats.count(match access {
                    Access::Write => Counter::Fault2AWrite,
                    Access::Read | Access::Exec => Counter::Fault2ARead,
                });
                Ok(resolved)
            }
            Ok(Outcome::Held(_)) => unreachable!("a fault that enters holds nothing"),
            Err(error) => {
                stats.count(Counter::FaultsFailed);
                Err(error)
            }
        }
    }

    /// Finds the page at `va` as a fault would, and keeps it shared busied in place of mapping it.
    pub(crate) fn hold(&self, va: VirtAddr, access: Access) -> Result<SharedBusy<Arc<Object>>, FaultError> {
        match Fault::new(self, va, access, Goal::Hold).run()? {
            Outcome::Held(page) => Ok(page),
            Outcome::Entered(_) => unreachable!("a fault that holds enters nothing"),
        }
    }
}

/// Rounds without any progress after which memory is given up for lost.
const FRUITLESS_ROUNDS: u32 = 3;
/// Rounds in one fault in which memory was freed and did not help, after which it fails: others may have been quicker, or the
/// machine is short of something that free frames do not mend.
const MOST_ROUNDS: u32 = 256;
/// Refusals of the machine to enter the page for want of memory, in one fault, after which it fails: room was made each
/// time, and did not help.
const MOST_SHORTAGES: u32 = 16;
/// Times a populate may start one fault over.
const MOST_REFAULTS: u32 = 16;

impl Fault<'_> {
    fn run(mut self) -> Result<Outcome, FaultError> {
        assert_no_locks_held("resolving a fault");
        loop {
            match self.attempt() {
                Ok(outcome) => {
                    if let Some((object, plan)) = self.ahead.take() {
                        self.map.engine().read_ahead(&object, plan);
                    }
                    return Ok(outcome);
                }
                Err(Stop::Fail(error)) => return Err(error),
                Err(Stop::Wait(need)) => {
                    self.wait_for(need)?;
                    self.restarted = true;
                    self.map.engine().stats().count(Counter::FaultRestarts);
                }
            }
        }
    }

    /// Steps 1 to 3, without blocking but for the locks.
    fn attempt(&mut self) -> Result<Outcome, Stop> {
        let entries = self.map.read();
        let found = verify::find_entry(self, &entries)?;
        match self.goal {
            Goal::Hold => lower::hold(self, &found),
            Goal::Enter | Goal::Wire => {
                let window = check::window(&found);
                let pages = lower::gather(self, &found, window)?;
                if let Some(behind) = pages.behind
                    && self.goal == Goal::Enter
                    && found.entry.attr.wired == 0
                {
                    along::map(self, &found, behind);
                }
                lower::enter(self, &found, &pages)
            }
        }
    }

    /// The one place where a fault waits. Nothing is held.
    fn wait_for(&mut self, need: Need) -> Result<(), FaultError> {
        match need {
            Need::Page(page, object, index) => self.wait_for_page(page, BusyMode::Shared, object, index),
            Need::Get(object, index, along) => match self.page_in(&object, index, along)? {
                Ok(_) => Ok(()),
                Err(Error::NoMemory) => self.wait_for_memory(),
                Err(Error::Pager(error)) => Err(self.pager_failed(index, error)),
                Err(error) => unreachable!("paging in failed without a pager's answer: {error}"),
            },
            Need::Populate(object, plan) => match object.populate(plan) {
                Ok(ended) => {
                    self.populate_ended(ended);
                    Ok(())
                }
                Err(Error::NoMemory) => self.wait_for_memory(),
                Err(Error::Pager(error)) => Err(self.pager_failed(plan.index, error)),
                Err(error) => unreachable!("populate failed without a pager's answer: {error}"),
            },
            Need::Leave(object, index) => match object.ask_to_write(index, 1) {
                Ok(None) => Ok(()),
                Ok(Some(page)) => self.wait_for_page(page, BusyMode::Exclusive, object.id(), index),
                Err(Error::Pager(error)) => Err(self.leave_refused(index, error)),
                Err(_) => self.wait_for_memory(),
            },
            Need::Tables => {
                self.shortages += 1;
                if self.shortages > MOST_SHORTAGES {
                    Err(FaultError::NoMemory)
                } else {
                    self.wait_for_memory()
                }
            }
            Need::Rehome(object, index) => match object.rehome(index) {
                Ok(()) => Ok(()),
                Err(_) => self.wait_for_memory(),
            },
        }
    }

    fn wait_for_page(
        &mut self,
        page: PageRef,
        mode: BusyMode,
        object: ObjectId,
        index: PageIndex,
    ) -> Result<(), FaultError> {
        let deadline = self.deadline(index)?;
        let engine = self.map.engine();
        engine.wait_for_page_until(page, mode, object, index, &deadline);
        self.patience = deadline.left();
        Ok(())
    }

    fn page_in(
        &mut self,
        object: &Arc<Object>,
        index: PageIndex,
        along: u32,
    ) -> Result<crate::error::Result<PageIn>, FaultError> {
        let deadline = self.deadline(index)?;
        let answer = object.page_in(index, along, &deadline);
        self.patience = deadline.left();
        Ok(answer)
    }

    /// Until when it waits for a pager now.
    ///
    /// # Errors
    /// [`FaultError::TimedOut`]: it has waited for as long as it may, and has looked again.
    fn deadline(&self, index: PageIndex) -> Result<Deadline, FaultError> {
        if self.patience == Some(Duration::ZERO) {
            self.map.engine().stats().count(Counter::FaultsTimedOut);
            return Err(FaultError::TimedOut(index));
        }
        Ok(Deadline::after(self.patience))
    }

    /// A pager that starts the fault over again and again is taken as one that declines: a fault ends.
    fn populate_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Installed => self.populate_declined = false,
            Ended::Declined => self.populate_declined = true,
            Ended::Restart => {
                self.refaults += 1;
                self.populate_declined = self.refaults >= MOST_REFAULTS;
            }
        }
    }

    /// Makes room, and gives up after some rounds in which there was none to make (N14).
    fn wait_for_memory(&mut self) -> Result<(), FaultError> {
        self.rounds += 1;
        if self.rounds > MOST_ROUNDS {
            return Err(FaultError::NoMemory);
        }
        match self.map.engine().make_room() {
            Ok(()) => {
                self.fruitless = 0;
                Ok(())
            }
            Err(error) => {
                self.fruitless += 1;
                if self.fruitless < FRUITLESS_ROUNDS {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    fn leave_refused(&self, index: PageIndex, error: PagerError) -> FaultError {
        match error.cause {
            Cause::OutOfRange | Cause::BrokenPromise => self.pager_failed(index, error),
            _ => FaultError::WriteRefused { index, error },
        }
    }

    fn pager_failed(&self, index: PageIndex, error: PagerError) -> FaultError {
        match error.cause {
            // The backing shrank behind our back: to the program, the object ends before the address.
            Cause::OutOfRange => FaultError::BeyondObject(self.va),
            Cause::BrokenPromise => FaultError::Quarantined(error.text),
            _ => FaultError::Pager { index, error },
        }
    }
}
