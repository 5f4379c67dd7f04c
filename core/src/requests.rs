//! The requests that are under way: what the engine waits for, and what nobody waits for.
//!
//! Every request to a pager stands on the engine's list from before the pager is asked until it is settled, so that one
//! whose completion was lost can be found ([`Engine::overdue`], S147), reported once ([`Engine::watchdog_step`]) and
//! cancelled ([`Engine::cancel_overdue`]). Those that nobody waits for, read-aheads and what a fault gave up, are
//! settled by whoever comes first: a thread that needs one of their pages, the next read-ahead, a [step](Engine::settle_requests)
//! of the page daemon or of an embedder, or the closing of their object (S150).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
#[cfg(feature = "std")]
use std::time::Instant;

use crate::alloc_fallible::try_reserve;
use crate::busy::BusyMode;
use crate::engine::Engine;
use crate::io::{Direction, Io};
#[cfg(feature = "std")]
use crate::log::Log;
use crate::object::{Detached, Object, Paging};
use crate::page::PageRef;
use crate::pagedaemon::EngineOptions;
use crate::populate::Populate;
use crate::stats::Counter;
#[cfg(feature = "std")]
use crate::sync::park_until;
use crate::sync::{Deadline, QueueLock, unpark_all};
use crate::types::{ObjectId, PageIndex};

/// Rung when there is something to do for whoever has nothing else to do.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        unpark_all(&self.0);
    }

    /// How often it was rung, round and round.
    #[cfg(feature = "std")]
    pub(crate) fn rung(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sleeps unless it was rung since `rung`. May wake for no reason.
    #[cfg(feature = "std")]
    pub(crate) fn wait(&self, rung: u32) {
        self.wait_until(rung, &Deadline::NEVER);
    }

    /// As [`Bell::wait`], no longer than until a deadline.
    #[cfg(feature = "std")]
    pub(crate) fn wait_until(&self, rung: u32, deadline: &Deadline) {
        crate::sync::assert_no_locks_held("waiting for work");
        park_until(&self.0, rung, deadline);
    }
}

/// The requests of one engine.
#[derive(Debug)]
pub(crate) struct Requests {
    under_way: QueueLock<Vec<UnderWay>>,
    detached: QueueLock<Vec<Arc<Detached>>>,
    bell: Arc<Bell>,
    /// For how long a fault waits for pagers.
    fault_timeout: Option<Duration>,
    /// What the watchdog reports, and to whom.
    #[cfg(feature = "std")]
    overdue_after: Duration,
    #[cfg(feature = "std")]
    log: Option<Log>,
}

#[derive(Debug)]
struct UnderWay {
    /// The object is not closed as long as this is counted.
    paging: Paging,
    work: Work,
    #[cfg(feature = "std")]
    since: Instant,
    /// The watchdog has told of it.
    #[cfg(feature = "std")]
    reported: bool,
}

impl UnderWay {
    fn another(&self) -> Self {
        Self {
            paging: self.paging.another(),
            work: self.work.clone(),
            #[cfg(feature = "std")]
            since: self.since,
            #[cfg(feature = "std")]
            reported: self.reported,
        }
    }
}

/// What a pager works on.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// It moves a run of pages.
    Run(Arc<Io>),
    /// It installs pages.
    Populate(Arc<Populate>),
}

impl Work {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Run(io), Self::Run(other)) => Arc::ptr_eq(io, other),
            (Self::Populate(request), Self::Populate(other)) => Arc::ptr_eq(request, other),
            _ => false,
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Run(io) if io.is_complete())
    }

    fn goes(&self, direction: Direction) -> bool {
        matches!(self, Self::Run(io) if io.direction() == direction)
    }
}

/// When a request is overdue, if nothing is said: no healthy device takes half a minute.
#[cfg(feature = "std")]
const OVERDUE_AFTER: Duration = Duration::from_secs(30);

/// The most requests that nobody waits for, of one engine.
const MOST_DETACHED: usize = 32;

impl Requests {
    pub(crate) fn new(options: &EngineOptions) -> Self {
        Self {
            under_way: QueueLock::new(Vec::new()),
            detached: QueueLock::new(Vec::new()),
            bell: Arc::default(),
            fault_timeout: options.fault_timeout,
            #[cfg(feature = "std")]
            overdue_after: options.overdue_after.unwrap_or(OVERDUE_AFTER),
            #[cfg(feature = "std")]
            log: options.log.clone(),
        }
    }

    pub(crate) fn fault_timeout(&self) -> Option<Duration> {
        self.fault_timeout
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// A request is about to be handed to its pager. Without memory to note it, it goes unwatched.
    pub(crate) fn begin(&self, paging: &Paging, work: Work) {
        let mut list = self.under_way.lock();
        if try_reserve(&mut list, 1).is_ok() {
            list.push(UnderWay {
                paging: paging.another(),
                work,
                #[cfg(feature = "std")]
                since: Instant::now(),
                #[cfg(feature = "std")]
                reported: false,
            });
        }
    }

    /// A request has been settled.
    pub(crate) fn end(&self, work: &Work) {
        let mut list = self.under_way.lock();
        let ended = list
            .iter()
            .position(|other| other.work.is(work))
            .map(|at| list.swap_remove(at));
        drop(list);
        drop(ended);
    }

    /// Whether one more request without a waiter is welcome.
    pub(crate) fn has_room(&self) -> bool {
        let list = self.detached.lock();
        list.iter().filter(|one| one.is_read_ahead()).count() < MOST_DETACHED
    }

    /// Notes a request that nobody waits for. False without memory.
    pub(crate) fn detach(&self, detached: Arc<Detached>) -> bool {
        let mut list = self.detached.lock();
        let noted = try_reserve(&mut list, 1).is_ok();
        if noted {
            list.push(detached);
        }
        noted
    }

    pub(crate) fn forget(&self, detached: &Detached) {
        let mut list = self.detached.lock();
        let at = list
            .iter()
            .position(|other| core::ptr::eq(&raw const **other, detached));
        let gone = at.map(|at| list.swap_remove(at));
        drop(list);
        drop(gone);
    }

    /// A request that is overdue at `now` and was not reported. It counts as reported from here on.
    #[cfg(feature = "std")]
    pub(crate) fn next_to_report(&self, now: Instant) -> Option<Request> {
        let overdue = {
            let mut list = self.under_way.lock();
            let one = list.iter_mut().find(|one| {
                let age = now.saturating_duration_since(one.since);
                !one.reported && !one.work.is_complete() && age >= self.overdue_after
            })?;
            one.reported = true;
            one.another()
        };
        Some(Request {
            age: now.saturating_duration_since(overdue.since),
            ..overdue.describe()
        })
    }

    /// When a request may become overdue next, if the clock counts that far.
    #[cfg(feature = "std")]
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        let list = self.under_way.lock();
        let oldest = list.iter().filter(|one| !one.reported).map(|one| one.since).min();
        oldest.unwrap_or(now).checked_add(self.overdue_after)
    }

    /// Says something, if anybody listens.
    #[cfg(feature = "std")]
    pub(crate) fn log(&self, line: core::fmt::Arguments<'_>) {
        if let Some(log) = &self.log {
            log.line(&crate::error::words_or_nothing(line));
        }
    }

    /// Those of the requests under way that are asked for, each with its object kept open. Fewer when memory is short.
    fn select(&self, which: impl Fn(&UnderWay) -> bool) -> Vec<UnderWay> {
        let mut found = Vec::new();
        let list = self.under_way.lock();
        for one in list.iter().filter(|one| which(one)) {
            if try_reserve(&mut found, 1).is_err() {
                break;
            }
            found.push(one.another());
        }
        found
    }

    fn find(&self, which: impl Fn(&Detached) -> bool) -> Option<Arc<Detached>> {
        self.detached.lock().iter().find(|one| which(one)).cloned()
    }
}

/// What a pager was asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// To fill pages.
    Get,
    /// To write pages.
    Put,
    /// To install pages around a fault. Of such a request one page is told: the faulting one.
    Populate,
}

impl From<Direction> for Operation {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Get => Self::Get,
            Direction::Put => Self::Put,
        }
    }
}

/// A request that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The object.
    pub object: ObjectId,
    /// Its name for people, as its pager says it.
    pub name: String,
    /// What the pager was asked to do.
    pub operation: Operation,
    /// The first page.
    pub first: PageIndex,
    /// How many pages.
    pub pages: usize,
    /// Whether the pager has completed it, so that only settling is left.
    pub complete: bool,
    /// For how long the pager has had it, by the host's clock.
    #[cfg(feature = "std")]
    pub age: Duration,
}

impl UnderWay {
    fn describe(&self) -> Request {
        let object = self.paging.object();
        let (operation, first, pages) = match &self.work {
            Work::Run(io) => (io.direction().into(), io.first(), io.len()),
            Work::Populate(request) => (Operation::Populate, request.plan().index, 1),
        };
        Request {
            object: object.id(),
            name: object.describe(),
            operation,
            first,
            pages,
            complete: self.work.is_complete(),
            #[cfg(feature = "std")]
            age: self.since.elapsed(),
        }
    }
}

impl Engine {
    /// The requests that pagers have at the moment, oldest first as far as is known. Allocates.
    #[must_use]
    pub fn requests_under_way(&self) -> Vec<Request> {
        self.list_requests(|_| true)
    }

    /// The requests that have not completed for at least `than`: which of which object (S147). For a watchdog; the host's
    /// clock counts. Allocates, and calls `describe` of pagers; no lock may be held.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn overdue(&self, than: Duration) -> Vec<Request> {
        self.list_requests(|one| !one.work.is_complete() && one.since.elapsed() >= than)
    }

    fn list_requests(&self, which: impl Fn(&UnderWay) -> bool) -> Vec<Request> {
        let found = self.requests().select(which);
        found.iter().map(UnderWay::describe).collect()
    }

    /// Asks pagers to end those requests soon that they have had for at least `than`: as many as could be asked, which
    /// leaves out those that were asked before, and those of pagers that cannot cancel. A get that is cancelled fails the fault that waits for it; a
    /// put leaves its pages dirty and fails the flush. Waits for no request, but as long as a pager's `cancel` takes; no lock may be held.
    #[cfg(feature = "std")]
    pub fn cancel_overdue(&self, than: Duration) -> usize {
        self.cancel_requests(|one| one.since.elapsed() >= than)
    }

    fn cancel_requests(&self, which: impl Fn(&UnderWay) -> bool) -> usize {
        let found = self.requests().select(|one| !one.work.is_complete() && which(one));
        let asked = found.iter().filter(|one| match &one.work {
            Work::Run(io) => one.paging.object().cancel_request(io),
            // Its pager is called and has not returned: there is nobody to ask.
            Work::Populate(_) => false,
        });
        asked.count()
    }

    /// The object with this id, while it is on the list.
    pub(crate) fn object_of(&self, id: ObjectId) -> Option<Arc<Object>> {
        self.object_after(ObjectId(id.0 - 1)).filter(|object| object.id() == id)
    }

    /// Settles every request that has completed and that nobody waits for: their pages can be used, and taken away. Does
    /// not wait for a pager; no lock may be held. Returns how many there were.
    pub fn settle_requests(&self) -> usize {
        let mut settled = 0;
        while let Some(detached) = self.requests().find(Detached::is_complete) {
            // Waits at most for another thread that is settling it.
            detached.wait();
            settled += 1;
        }
        settled
    }

    /// Waits once for a page that was looked up as page `index` of `object` and is busied against `mode`: sleeps until it is
    /// let go of, or settles the read-ahead that has it. It has to be looked up anew afterwards. Tells whether it waited. May
    /// block; no lock may be held.
    pub(crate) fn wait_for_page(&self, page: PageRef, mode: BusyMode, object: ObjectId, index: PageIndex) -> bool {
        self.wait_for_page_until(page, mode, object, index, &Deadline::NEVER)
    }

    /// As [`Engine::wait_for_page`], for a fault that gives up then. The last one to give up a request cancels it.
    pub(crate) fn wait_for_page_until(
        &self,
        page: PageRef,
        mode: BusyMode,
        object: ObjectId,
        index: PageIndex,
        deadline: &Deadline,
    ) -> bool {
        self.stats().count(Counter::BusyWaits);
        if page.busy.sleep_if(mode, || page.is(object, index), deadline) {
            return true;
        }
        let detached = self.requests().find(|one| one.covers(object, index));
        detached.map(|detached| detached.wait_until(deadline)).is_some()
    }
}

impl Object {
    /// Waits for every request of the object that nobody else waits for, and settles it. May block; no lock may be held.
    pub(crate) fn drain_read_ahead(&self) {
        while let Some(detached) = self.engine().requests().find(|one| one.is_of(self.id())) {
            detached.wait();
        }
    }

    /// Asks the pager to end the object's requests that way soon. Waits for none of them; no lock may be held.
    pub(crate) fn cancel_requests(&self, direction: Direction) {
        self.engine()
            .cancel_requests(|one| one.work.goes(direction) && one.paging.object().id() == self.id());
    }
}
