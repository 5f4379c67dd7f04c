//! A fault in a signal handler, which may have interrupted the program anywhere but inside the engine.
//!
//! Locks of the engine may be waited for: whoever holds one runs on another thread. What the interrupted thread could hold
//! must not be wanted, above all by code that is not ours. So no pager is called that has not declared itself fit
//! ([`PagerOps::SIGNAL_SAFE`](crate::pager::PagerOps::SIGNAL_SAFE)), room is made of clean pages and of those that such pagers write, and no request is started that completes later.

use alloc::sync::Arc;

use super::{Fault, Goal, Need, Outcome, Resolved, Stop};
use crate::busy::BusyMode;
use crate::error::{Error, FaultError};
use crate::map::Map;
use crate::object::Object;
use crate::page::PageRef;
use crate::sync::assert_no_locks_held;
use crate::types::{Access, ObjectId, PageIndex, VirtAddr};

/// What a need came to.
enum Met {
    /// Start over.
    Again,
    /// This is for a worker.
    Elsewhere,
}

impl Map {
    /// As [`Map::fault`], in a signal handler, as far as that can be done there: nothing when a thread of the embedder has to
    /// call [`Map::fault`], while the handler waits for it. May block for others who have the page in hand, and as long as a
    /// pager with [`PagerOps::SIGNAL_SAFE`](crate::pager::PagerOps::SIGNAL_SAFE) does. Memory is allocated: in a handler that is right only if the allocator is none that the
    /// program uses as well.
    ///
    /// # Errors
    /// As [`Map::fault`].
    pub fn fault_in_signal(&self, va: VirtAddr, access: Access) -> Option<Result<Resolved, FaultError>> {
        if let Err(error) = self.check_may_fault(va) {
            return Some(Err(error));
        }
        let outcome = Fault::new(self, va, access, Goal::Enter).run_in_signal()?;
        Some(self.counted(access, outcome))
    }
}

impl Fault<'_> {
    fn run_in_signal(mut self) -> Option<Result<Outcome, FaultError>> {
        assert_no_locks_held("resolving a fault in a signal handler");
        self.in_signal = true;
        loop {
            match self.attempt() {
                Ok(outcome) => {
                    if let Some((object, plan)) = self.ahead.take() {
                        self.map.engine().read_ahead_later(&object, plan);
                    }
                    return Some(Ok(outcome));
                }
                Err(Stop::Fail(error)) => return Some(Err(error)),
                Err(Stop::Wait(need)) => {
                    self.note_restart(&need);
                    self.make_way_for(&need);
                    match self.meet_in_signal(need) {
                        Ok(Met::Again) => {}
                        Ok(Met::Elsewhere) => return None,
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
    }

    fn meet_in_signal(&mut self, need: Need) -> Result<Met, FaultError> {
        match need {
            Need::Page(page, object, index) => self.sleep_in_signal(page, BusyMode::Shared, object, index),
            Need::Alone(page, object, index) => self.sleep_in_signal(page, BusyMode::Exclusive, object, index),
            Need::Get(object, index, along) if object.fills_in_signal(index) => {
                let deadline = self.deadline(index)?;
                let answer = object.page_in_in_signal(index, along, &deadline);
                self.patience = deadline.left();
                match answer {
                    Ok(_) => Ok(Met::Again),
                    Err(Error::Pager(error)) => Err(self.pager_failed(index, error)),
                    Err(_) => Ok(self.make_room_in_signal()),
                }
            }
            Need::Tables => Ok(self.make_room_in_signal()),
            Need::Spare(object, place) => Ok(self.get_spare_in_signal(&object, place)),
            Need::Attic(amap) => match amap.attic_place() {
                Ok((attic, place)) => Ok(self.get_spare_in_signal(&attic, place)),
                Err(_) => Ok(self.make_room_in_signal()),
            },
            Need::Get(..)
            | Need::Populate(..)
            | Need::Leave(..)
            | Need::Rehome(..)
            // Who hears of what goes is a pager.
            | Need::Replacement(..)
            | Need::Amap(_) => Ok(Met::Elsewhere),
        }
    }

    fn sleep_in_signal(
        &mut self,
        page: PageRef,
        mode: BusyMode,
        object: ObjectId,
        index: PageIndex,
    ) -> Result<Met, FaultError> {
        let deadline = self.deadline(index)?;
        let slept = page.busy.sleep_if(mode, || page.is(object, index), &deadline);
        self.patience = deadline.left();
        // Nobody sleeps on the pages of a request that is to be settled by whoever comes.
        Ok(if slept { Met::Again } else { Met::Elsewhere })
    }

    /// A page to copy into, if there is a frame for it. Where there is a page already, a worker sees to it.
    fn get_spare_in_signal(&mut self, object: &Arc<Object>, place: PageIndex) -> Met {
        match self.try_spare(object, place) {
            Ok(()) => Met::Again,
            Err(Error::NoMemory) => self.make_room_in_signal(),
            Err(_) => Met::Elsewhere,
        }
    }

    /// Makes room. If that does not help, a worker does what is needed beyond that.
    fn make_room_in_signal(&mut self) -> Met {
        self.rounds += 1;
        if self.rounds <= super::MOST_SHORTAGES && self.map.engine().make_room_in_signal() {
            Met::Again
        } else {
            Met::Elsewhere
        }
    }
}
