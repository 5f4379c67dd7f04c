//! The requests that are under way: what the engine waits for, and what nobody waits for.
//!
//! Every request to a pager stands on the engine's list from before the pager is asked until it is settled, so that one
//! whose completion was lost can be found ([`Engine::overdue`], S147). Those that nobody waits for, the read-aheads, are
//! settled by whoever comes first: a thread that needs one of their pages, the next read-ahead, a [step](Engine::settle_requests)
//! of the page daemon or of an embedder, or the closing of their object (S150).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(feature = "std")]
use core::time::Duration;
#[cfg(feature = "std")]
use std::time::Instant;

use crate::alloc_fallible::try_reserve;
use crate::busy::BusyMode;
use crate::engine::Engine;
use crate::io::{Direction, Io};
use crate::object::{Detached, Object};
use crate::page::PageRef;
use crate::stats::Counter;
#[cfg(feature = "std")]
use crate::sync::park;
use crate::sync::{QueueLock, unpark_all};
use crate::types::{ObjectId, PageIndex};

/// Rung when there is something to do for whoever has nothing else to do.
#[derive(Debug)]
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
        crate::sync::assert_no_locks_held("waiting for work");
        park(&self.0, rung);
    }
}

/// The requests of one engine.
#[derive(Debug)]
pub(crate) struct Requests {
    under_way: QueueLock<Vec<UnderWay>>,
    detached: QueueLock<Vec<Arc<Detached>>>,
    bell: Arc<Bell>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    object: ObjectId,
    io: Arc<Io>,
    #[cfg(feature = "std")]
    since: Instant,
}

/// The most requests that nobody waits for, of one engine.
const MOST_DETACHED: usize = 32;

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            under_way: QueueLock::new(Vec::new()),
            detached: QueueLock::new(Vec::new()),
            bell: Arc::new(Bell(AtomicU32::new(0))),
        }
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// A request is about to be handed to its pager. Without memory to note it, it goes unwatched.
    pub(crate) fn begin(&self, object: &Object, io: &Arc<Io>) {
        let mut list = self.under_way.lock();
        if try_reserve(&mut list, 1).is_ok() {
            list.push(UnderWay {
                object: object.id(),
                io: io.clone(),
                #[cfg(feature = "std")]
                since: Instant::now(),
            });
        }
    }

    /// A request has been settled.
    pub(crate) fn end(&self, io: &Arc<Io>) {
        let mut list = self.under_way.lock();
        let ended = list
            .iter()
            .position(|other| Arc::ptr_eq(&other.io, io))
            .map(|at| list.swap_remove(at));
        drop(list);
        drop(ended);
    }

    /// Whether one more request without a waiter is welcome.
    pub(crate) fn has_room(&self) -> bool {
        self.detached.lock().len() < MOST_DETACHED
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

    fn find(&self, which: impl Fn(&Detached) -> bool) -> Option<Arc<Detached>> {
        self.detached.lock().iter().find(|one| which(one)).cloned()
    }
}

/// A request that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The object.
    pub object: ObjectId,
    /// Its name for people; empty if it is gone from the engine's list.
    pub name: String,
    /// Which way the bytes go.
    pub direction: Direction,
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
        self.list_requests(|one| !one.io.is_complete() && one.since.elapsed() >= than)
    }

    fn list_requests(&self, which: impl Fn(&UnderWay) -> bool) -> Vec<Request> {
        let found: Vec<_> = {
            let ios: Vec<_> = self
                .requests()
                .under_way
                .lock()
                .iter()
                .filter(|one| which(one))
                .cloned()
                .collect();
            ios
        };
        found
            .into_iter()
            .map(
                |UnderWay {
                     object,
                     io,
                     #[cfg(feature = "std")]
                     since,
                 }| Request {
                    object,
                    name: self
                        .object_of(object)
                        .map(|object| object.describe())
                        .unwrap_or_default(),
                    direction: io.direction(),
                    first: io.first(),
                    pages: io.len(),
                    complete: io.is_complete(),
                    #[cfg(feature = "std")]
                    age: since.elapsed(),
                },
            )
            .collect()
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
        self.stats().count(Counter::BusyWaits);
        if page.busy.sleep_if(mode, || page.is(object, index)) {
            return true;
        }
        let detached = self.requests().find(|one| one.covers(object, index));
        detached.inspect(|detached| detached.wait()).is_some()
    }
}

impl Object {
    /// Waits for every request of the object that nobody else waits for, and settles it. May block; no lock may be held.
    pub(crate) fn drain_read_ahead(&self) {
        while let Some(detached) = self.engine().requests().find(|one| one.is_of(self.id())) {
            detached.wait();
        }
    }
}
