//! Resolving a fault.
//!
//! ```text
//!             +------------+
//!   address ->| map entry  |   case 0   nothing mapped, or not allowed                  verify
//!             +------------+
//!             |    amap    |   case 1A  the page is an anon's, and is mapped as it is   upper
//!             |            |   case 1B  an anon's that others share: copied             promote
//!             +------------+
//!             |   object   |   case 2A  the page is the object's                        lower
//!             |  or zeros  |   case 2B  it is copied, or zeros are, into the amap       promote
//!             +------------+
//! ```
//!
//! One attempt runs down the steps with the map's lock held shared, and either ends the fault or says what it needs:
//!
//! 1. [`verify`]: find the entry, check the access, find the page's place in the object.
//! 2. [`check`]: choose the window of neighbours that are mapped along, by the entry's advice.
//! 3. [`lower`] for what is the object's, [`upper`] for what is the entry's own: find the page and its resident neighbours,
//!    share-busy them ([`gathered`]), enter them. In a sequence [`along`] enters those behind them as well.
//!    A pager that installs pages itself is asked to when the page is not there, and what it installed is mapped at once ([`populated`]).
//! 4. [`promote`]: make a page the entry's own. It takes two more attempts: one finds out what is missing, an amap that may be
//!    changed ([`own_amap`]), a page to copy into ([`spare`]), and the next puts it to use.
//!
//! What is needed is waited for in one place, [`Fault::wait_for`], holding nothing; then the fault starts over, because
//! anything may have changed meanwhile: the map, the object's size, the page's identity (rule 3 of the design). Nothing
//! found in one attempt is carried into the next, but for the spare page.

mod along;
mod bring_in;
mod check;
mod ctx;
mod gathered;
mod in_signal;
mod lower;
mod own_amap;
mod populated;
mod promote;
mod spare;
mod upper;
mod verify;
mod wire;

use alloc::sync::Arc;
use core::time::Duration;

pub(crate) use ctx::{Fault, Goal, Need, Outcome, Stop};
pub(crate) use wire::entry_is_gone;

use crate::busy::BusyMode;
use crate::error::{Cause, Error, FaultError, PagerError};
use crate::map::Map;
use crate::map_ops::Entries;
use crate::object::{Object, PageIn, SharedBusy};
use crate::page::PageRef;
use crate::shown::{Shown, Upper};
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
    /// The page is an anon's, and is mapped as it is.
    OneA,
    /// The page is an anon's that others share, and was copied.
    OneB,
    /// The page is the object's, and is mapped as it is.
    TwoA,
    /// The page is the entry's own from now on: a copy of the object's, or zeros.
    TwoB,
}

impl Map {
    /// Resolves a fault at `va`: afterwards the access can be tried again. May block; no lock may be held.
    ///
    /// # Errors
    /// See [`FaultError`]: nothing was mapped then. In an interrupt-safe map always, at once, and without a lock (S206).
    pub fn fault(&self, va: VirtAddr, access: Access) -> Result<Resolved, FaultError> {
        self.check_may_fault(va)?;
        self.counted(access, Fault::new(self, va, access, Goal::Enter).run())
    }

    /// Before any lock is taken (S206).
    fn check_may_fault(&self, va: VirtAddr) -> Result<(), FaultError> {
        if self.is_interrupt_safe() {
            return Err(FaultError::InterruptSafe(va));
        }
        Ok(())
    }

    /// What became of a fault that was to enter a page.
    fn counted(&self, access: Access, outcome: Result<Outcome, FaultError>) -> Result<Resolved, FaultError> {
        let stats = self.engine().stats();
        stats.count(Counter::Faults);
        match outcome {
            Ok(Outcome::Entered(resolved)) => {
                stats.count(match (resolved.case, access) {
                    (FaultCase::OneA, _) => Counter::Fault1A,
                    (FaultCase::OneB, _) => Counter::Fault1B,
                    (FaultCase::TwoA, Access::Write) => Counter::Fault2AWrite,
                    (FaultCase::TwoA, Access::Read | Access::Exec) => Counter::Fault2ARead,
                    (FaultCase::TwoB, _) => Counter::Fault2B,
                });
                Ok(resolved)
            }
            Ok(Outcome::Held(_)) => unreachable!("a fault that enters holds nothing"),
            Err(error) => {
                if matches!(error, FaultError::NotMapped(_) | FaultError::Denied(_)) {
                    stats.count(Counter::Fault0);
                }
                stats.count(Counter::FaultsFailed);
                Err(error)
            }
        }
    }

    /// Finds the page at `va` as a fault for reading would, and keeps it shared busied in place of mapping it.
    pub(crate) fn hold(&self, va: VirtAddr) -> Result<SharedBusy<Arc<Object>>, FaultError> {
        self.hold_for(va, Access::Read)
    }

    /// Finds the page at `va` as a fault for that access would, and keeps it shared busied in place of mapping it.
    pub(crate) fn hold_for(&self, va: VirtAddr, access: Access) -> Result<SharedBusy<Arc<Object>>, FaultError> {
        Fault::new(self, va, access, Goal::Hold).run_and_hold()
    }

    /// Writes `bytes`, which do not cross a page, at `va`, finding the page as a fault for writing would.
    pub(crate) fn write_at(&self, va: VirtAddr, bytes: &[u8]) -> Result<SharedBusy<Arc<Object>>, FaultError> {
        let mut fault = Fault::new(self, va, Access::Write, Goal::Hold);
        fault.bytes = Some((va.in_page(), bytes));
        fault.run_and_hold()
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
                Err(Stop::Wait(Need::Populate(object, plan, version))) => {
                    self.restarted = true;
                    if let Some(outcome) = self.populate(&object, plan, version)? {
                        return Ok(outcome);
                    }
                    self.map.engine().stats().count(Counter::FaultRestarts);
                }
                Err(Stop::Wait(need)) => {
                    self.note_restart(&need);
                    self.make_way_for(&need);
                    self.wait_for(need)?;
                }
            }
        }
    }

    fn run_and_hold(self) -> Result<SharedBusy<Arc<Object>>, FaultError> {
        match self.run()? {
            Outcome::Held(page) => Ok(page),
            Outcome::Entered(_) => unreachable!("a fault that holds enters nothing"),
        }
    }

    /// It starts over once it has what it needs. For what is at hand at once it has not waited.
    fn note_restart(&mut self, need: &Need) {
        if !matches!(
            need,
            Need::Amap(_) | Need::Spare(..) | Need::Replacement(..) | Need::Attic(_)
        ) {
            self.restarted = true;
            self.map.engine().stats().count(Counter::FaultRestarts);
        }
    }

    /// All the steps, without blocking but for the locks.
    fn attempt(&mut self) -> Result<Outcome, Stop> {
        let entries = self.map.read();
        let outcome = self.attempt_in(&entries)?;
        if let (Outcome::Held(held), Some((offset, bytes))) = (&outcome, self.bytes) {
            self.map.engine().machine().copy_in(held.page(), offset, bytes);
        }
        Ok(outcome)
    }

    fn attempt_in(&mut self, entries: &Entries<Shown>) -> Result<Outcome, Stop> {
        let found = verify::find_entry(self, entries)?;
        match (&found.entry.backing.upper, &found.entry.backing.below) {
            (Upper::Private(private), _) => upper::resolve(self, &found, private),
            (Upper::Shared, Some(object)) => lower::resolve(self, &found.below(object, found.entry.places())),
            (Upper::Shared, None) => unreachable!("what is shared is an object"),
        }
    }

    /// The one place where a fault waits. Nothing is held.
    fn wait_for(&mut self, need: Need) -> Result<(), FaultError> {
        match need {
            Need::Page(page, object, index) => self.wait_for_page(page, BusyMode::Shared, object, index),
            Need::Alone(page, object, index) => self.wait_for_page(page, BusyMode::Exclusive, object, index),
            Need::Amap(va) => self.get_amap(va),
            Need::Spare(object, place) | Need::Replacement(object, place) => self.get_spare(&object, place),
            Need::Attic(amap) => self.get_spare_in_attic(&amap),
            Need::Get(object, index, along) => match self.page_in(&object, index, along)? {
                Ok(_) => Ok(()),
                Err(Error::NoMemory) => self.wait_for_memory(),
                Err(Error::Pager(error)) => Err(self.pager_failed(index, error)),
                Err(error) => unreachable!("paging in failed without a pager's answer: {error}"),
            },
            // Whoever is here wires or holds the page, which the next attempt finds.
            Need::Populate(object, plan, version) => self.populate(&object, plan, version).map(drop),
            Need::Leave(object, index) => match object.ask_to_write(index, 1) {
                Ok(None) => Ok(()),
                Ok(Some(page)) => self.wait_for_page(page, BusyMode::Exclusive, object.id(), index),
                Err(Error::Pager(error)) => Err(self.leave_refused(index, error)),
                Err(_) => self.wait_for_memory(),
            },
            Need::Tables => self.wait_for_tables(),
            Need::Rehome(object, index) => match self.rehome(&object, index) {
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

    /// Makes room for tables, and gives up when that does not help.
    fn wait_for_tables(&mut self) -> Result<(), FaultError> {
        self.shortages += 1;
        if self.shortages > MOST_SHORTAGES {
            Err(FaultError::NoMemory)
        } else {
            self.wait_for_memory()
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
