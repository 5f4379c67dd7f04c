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
use crate::object::{ExclusiveBusy, Object, Paging, Refusal};
use crate::pager::Populated;
use crate::stats::Counter;
use crate::sync::{FrameLock, assert_no_locks_held};
use crate::types::{Access, PageIndex, Prot, pages_of};
use crate::unfilled::Marker;

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
    /// The first index behind the object when the request was made.
    end: PageIndex,
    marker: Marker,
    state: FrameLock<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    pages: Vec<Inserted>,
    /// Pages that were left out because they were there. They may go again before the answer comes.
    present: Vec<PageIndex>,
    /// An insertion found no memory.
    short: bool,
}

/// How a populate request ended, when it did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Pages were installed.
    Installed,
    /// The pager wants the ordinary path (S221).
    Declined,
    /// The pager wants the fault to start over.
    Restart,
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
            Err(Error::InUse(_)) => return Err(self.note_present(index)),
            Err(_) => return Err(self.note_short()),
        };
        let machine = self.object.engine().machine();
        let Ok(loan) = machine.lend(&[busy.page()], Purpose::Fill) else {
            return Err(self.note_short());
        };
        let bytes = loan.bytes()[0];
        // SAFETY: the page is exclusively busied and its bytes are lent to us; the pager has not seen them yet.
        unsafe { self.marker.put_on(bytes) };
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
            state.short = true;
            NotInserted::NoMemory
        };
        drop(state);
        let _nothing_to_keep = machine.take_back(&[busy.page()], loan, &|_| false);
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

    fn note_present(&self, index: PageIndex) -> NotInserted {
        let mut state = self.state.lock();
        if try_reserve(&mut state.present, 1).is_ok() {
            state.present.push(index);
            return NotInserted::Present;
        }
        state.short = true;
        NotInserted::NoMemory
    }

    fn note_short(&self) -> NotInserted {
        self.state.lock().short = true;
        NotInserted::NoMemory
    }

    /// Judges the answer while the pages are still busied, and nobody can take one away, and then settles every page.
    fn end(&self, answer: Populated) -> Result<Ended> {
        let mut state = {
            // What is taken leaves an ended request behind: nothing can be inserted any more.
            core::mem::replace(
                &mut *self.state.lock(),
                State {
                    ended: true,
                    ..State::default()
                },
            )
        };
        let judged = match answer {
            Populated::Range(first, last) => self.check(&mut state, first, last).map(|()| Ended::Installed),
            Populated::Restart => Ok(Ended::Restart),
            Populated::UseGet => Ok(Ended::Declined),
            Populated::Failed(error) => Err(error),
        };
        let short = state.short;
        let (ready, lost) = self.settle(state.pages);
        self.object.engine().stats().add(Counter::PagesPopulated, ready);
        if lost && matches!(judged, Ok(Ended::Installed)) {
            return Err(Error::NoMemory);
        }
        judged.map_err(|error| match error.cause {
            // The pager only passed on that we had no memory for it: that is ours to wait for (rule 6 of the design).
            Cause::NoMemory | Cause::Again if short => Error::NoMemory,
            _ => {
                self.object.note_pager_error(&error);
                error.into()
            }
        })
    }

    /// Gives the bytes back and lets go of the pages: filled ones are valid, others are freed. Returns how many were filled,
    /// and whether the machine could not keep one.
    fn settle(&self, pages: Vec<Inserted>) -> (u64, bool) {
        let machine = self.object.engine().machine();
        let (mut count, mut lost) = (0, false);
        for Inserted { busy, loan, ready } in pages {
            let kept = machine.take_back(&[busy.page()], loan, &|_| ready).is_ok();
            lost |= !kept;
            if ready && kept {
                busy.page().mark_valid();
                count += 1;
            }
        }
        (count, lost)
    }

    /// Does the answer hold? (S223, S227) A page that was said to be ready and is not filled is not ready afterwards.
    fn check(&self, state: &mut State, first: PageIndex, last: PageIndex) -> Result<(), PagerError> {
        let index = self.plan.index;
        let broken = |what: core::fmt::Arguments<'_>| {
            Err(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{}: {what}", self.object.describe()),
            ))
        };
        for inserted in state.pages.iter_mut().filter(|inserted| inserted.ready) {
            // SAFETY: every inserted page got the marker, and the request has ended: its bytes are ours again.
            if unsafe { self.marker.is_on(inserted.loan.bytes()[0]) } {
                inserted.ready = false;
                let page = inserted.busy.page().index();
                return broken(format_args!(
                    "populate says page {page} is ready, but its last bytes were not written"
                ));
            }
        }
        if first > last || index < first || index > last {
            return broken(format_args!(
                "populate answered the range {first} to {last}, which does not hold the fault at {index}"
            ));
        }
        if last >= self.end {
            return broken(format_args!(
                "populate answered a range up to {last}, beyond the end of the object"
            ));
        }
        state
            .pages
            .sort_unstable_by_key(|inserted| inserted.busy.page().index());
        // What the pager did not install was there, now or when it tried.
        let mut at = first;
        while at <= last {
            let installed = state
                .pages
                .binary_search_by_key(&at, |inserted| inserted.busy.page().index());
            let there = match installed {
                Ok(i) => state.pages[i].ready,
                Err(_) => state.present.contains(&at) || self.object.lookup(at).is_some(),
            };
            if !there {
                return broken(format_args!(
                    "populate answered {first} to {last}, but page {at} is not there"
                ));
            }
            at = PageIndex(at.0 + 1);
        }
        Ok(())
    }
}

impl Object {
    /// Asks the pager to install pages. May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when pages could not be had; the pager's answer, or its broken promise.
    pub(crate) fn populate(self: &Arc<Self>, plan: PopulatePlan) -> Result<Ended> {
        assert_no_locks_held("calling a pager");
        let _paging: Paging = match self.begin_paging() {
            Ok(paging) => paging,
            // Nothing maps it any more: the fault finds out when it looks again.
            Err(Refusal::Closed) => return Ok(Ended::Installed),
            Err(Refusal::Quarantined(error)) => return Err(error.into()),
        };
        let request = Arc::new(Populate {
            object: self.clone(),
            plan,
            end: PageIndex(pages_of(self.size())),
            marker: Marker::new(),
            state: FrameLock::new(State::default()),
        });
        self.engine().stats().count(Counter::Populates);
        let answer = self.pager().populate(&request);
        request.end(answer)
    }
}
