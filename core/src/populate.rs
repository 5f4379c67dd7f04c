//! A request to install pages around a fault, at the pager's discretion (rows S212 to S223).
//!
//! While it runs, the pager takes new pages of its own object, exclusively busied ([`Populate::insert`]), fills them and
//! says so ([`Populate::ready`]). When it has answered, every page is settled whatever the answer was: ready ones become
//! valid and are unbusied, the others are freed (D2, D3). Then the answer is checked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::alloc_fallible::try_reserve;
use crate::error::{Cause, Error, PagerError, Result};
use crate::machine::{Loan, Purpose, Reserve};
use crate::object::{ExclusiveBusy, Object, Paging};
use crate::pager::Populated;
use crate::stats::Counter;
use crate::sync::{FrameLock, assert_no_locks_held};
use crate::types::{Access, PageIndex, Prot};

/// What the fault asks for.
#[derive(Clone, Copy, Debug)]
pub struct PopulatePlan {
    /// The faulting index.
    pub index: PageIndex,
    /// The first index that the entry maps (S217).
    pub first: PageIndex,
    /// The last index that the entry maps, inside the object.
    pub last: PageIndex,
    /// The access.
    pub access: Access,
    /// The entry's maximum protection, not its current one (S219).
    pub max_prot: Prot,
}

/// A populate request.
#[derive(Debug)]
pub struct Populate {
    object: Arc<Object>,
    plan: PopulatePlan,
    state: FrameLock<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    pages: Vec<Inserted>,
}

#[derive(Debug)]
struct Inserted {
    busy: ExclusiveBusy<Arc<Object>>,
    loan: Loan,
    ready: bool,
}

/// Why a page could not be inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotInserted {
    /// The object has that page already, or somebody is at it: leave it out.
    Present,
    /// The index lies outside the object.
    OutOfRange,
    /// Memory could not be had.
    NoMemory,
    /// The request has ended.
    Ended,
}

impl Populate {
    /// What is asked for.
    #[must_use]
    pub fn plan(&self) -> &PopulatePlan {
        &self.plan
    }

    /// Takes a new page of the object at `index` and lends its bytes until it is [`Populate::ready`] or the request ends.
    ///
    /// # Errors
    /// See [`NotInserted`].
    pub fn insert(&self, index: PageIndex) -> Result<NonNull<u8>, NotInserted> {
        if !self.object.has_index(index) {
            return Err(NotInserted::OutOfRange);
        }
        let busy = match ExclusiveBusy::insert_new(self.object.clone(), index, Reserve::Ordinary) {
            Ok(busy) => busy,
            Err(Error::InUse(_)) => return Err(NotInserted::Present),
            Err(_) => return Err(NotInserted::NoMemory),
        };
        let machine = self.object.engine().machine();
        let loan = machine
            .lend(&[busy.page()], Purpose::Fill)
            .map_err(|_| NotInserted::NoMemory)?;
        let bytes = loan.bytes[0];
        let mut state = self.state.lock();
        let refused = if state.ended {
            NotInserted::Ended
        } else if try_reserve(&mut state.pages, 1).is_ok() {
            state.pages.push(Inserted {
                busy,
                loan,
                ready: false,
            });
            return Ok(bytes);
        } else {
            NotInserted::NoMemory
        };
        drop(state);
        machine.take_back(&[busy.page()], loan, &|_| false);
        Err(refused)
    }

    /// The page inserted at `index` is filled, whole. False if there is none.
    pub fn ready(&self, index: PageIndex) -> bool {
        let mut state = self.state.lock();
        let found = state
            .pages
            .iter_mut()
            .find(|inserted| inserted.busy.page().index() == index);
        found.map(|inserted| inserted.ready = true).is_some()
    }

    /// Ends the request: settles every page. Returns how many were made ready.
    fn settle(&self) -> u64 {
        let pages = {
            let mut state = self.state.lock();
            state.ended = true;
            core::mem::take(&mut state.pages)
        };
        let machine = self.object.engine().machine();
        let mut count = 0;
        for Inserted { busy, loan, ready } in pages {
            machine.take_back(&[busy.page()], loan, &|_| ready);
            if ready {
                busy.page().mark_valid();
                count += 1;
            }
        }
        count
    }

    /// Does the answer hold? (S223, S227)
    fn check(&self, first: PageIndex, last: PageIndex) -> Result<(), PagerError> {
        let index = self.plan.index;
        let broken = |what: core::fmt::Arguments<'_>| {
            Err(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{}: {what}", self.object.describe()),
            ))
        };
        if first > last || index < first || index > last {
            return broken(format_args!(
                "populate answered the range {first} to {last}, which does not hold the fault at {index}"
            ));
        }
        if !self.object.has_index(last) {
            return broken(format_args!(
                "populate answered a range up to {last}, beyond the end of the object"
            ));
        }
        let state = self.object.lock();
        let mut at = first;
        while at <= last {
            match state.pages.next(at) {
                Some((found, _)) if found == at => at = PageIndex(at.0 + 1),
                _ => {
                    drop(state);
                    return broken(format_args!(
                        "populate answered {first} to {last}, but page {at} is not there"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Object {
    /// Asks the pager to install pages. May block; no lock may be held. `Ok(false)`: take the ordinary path.
    ///
    /// # Errors
    /// The pager's answer, or its broken promise.
    pub(crate) fn populate(self: &Arc<Self>, plan: PopulatePlan) -> Result<bool, PagerError> {
        assert_no_locks_held("calling a pager");
        let _paging: Paging = self.begin_paging()?;
        let request = Arc::new(Populate {
            object: self.clone(),
            plan,
            state: FrameLock::new(State::default()),
        });
        self.engine().stats().count(Counter::Populates);
        let answer = self.pager().populate(&request);
        self.engine().stats().add(Counter::PagesPopulated, request.settle());
        let outcome = match answer {
            Populated::Range(first, last) => request.check(first, last).map(|()| true),
            Populated::Restart => Ok(true),
            Populated::UseGet => Ok(false),
            Populated::Failed(error) => Err(error),
        };
        outcome.inspect_err(|error| self.note_pager_error(error))
    }
}
