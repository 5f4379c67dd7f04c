//! The memory object: pages by index, and the pager behind them.
//!
//! An object owns its pages' identity: a page is put into its index and taken out of it under the object's lock, while
//! exclusively busied. It knows nothing of the maps that show it. Bytes move through requests ([`crate::io`]); the files
//! of this folder are the verbs: [`page_in`](self) fills a missing page, [`flush`](crate::flush) writes dirty ones,
//! `reference` counts users and lets the last one go.
//!
//! # Life
//!
//! 1. *live*: opened; faults, flushes and references come and go.
//! 2. *dying*: the last reference went, and dirty pages are written. Whoever else wants to end it waits for the outcome. If
//!    the writing failed, it is *live* again, without references and on the list, until a sync succeeds or it is discarded
//!    (rule 5 of the design).
//! 3. *closing*: new requests are refused; those under way end; the pages go.
//! 4. *dead*: no pages, pager closed, off the engine's list.
//!
//! A *quarantined* object (its pager broke a promise) takes no new requests; its pages stay. With dirty ones it can only be discarded.

mod busy_guard;
mod page_in;
mod reference;
mod rehome;
mod transfer;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::engine::Engine;
use crate::error::{Cause, PagerError, words_or_nothing};
use crate::page::{Dirtiness, PageRef};
use crate::page_index::PageIndexTree;
use crate::pager::{Pager, PagerOps};
use crate::stats::Counter;
use crate::sync::{Gauge, ObjectGuard, ObjectLock};
use crate::types::{MAX_OBJECT_SIZE, ObjectId, PageIndex, pages_of};

pub use busy_guard::{ExclusiveBusy, SharedBusy};
pub(crate) use reference::Detached;
pub use reference::ObjectRef;
use transfer::Stray;
pub(crate) use transfer::Transfer;

/// A memory object.
#[derive(Debug)]
pub struct Object {
    id: ObjectId,
    engine: Arc<Engine>,
    pager: Box<dyn Pager>,
    /// What the pager said at the beginning: it is not asked under a lock.
    ops: PagerOps,
    longest_run: u32,
    /// Bytes. Changed under the lock, read at any time.
    size: AtomicU64,
    /// Handles and map entries.
    references: AtomicU32,
    /// Requests to the pager that are under way: stands in for the lock while the pager works (S218, S241).
    paging: Gauge,
    /// Somebody is at its end: others wait for the outcome.
    dying: Gauge,
    state: ObjectLock<ObjectState>,
}

/// What the object's lock guards.
#[derive(Debug)]
pub(crate) struct ObjectState {
    pub(crate) pages: PageIndexTree,
    phase: Phase,
    /// The promise that the pager broke. Once there, it stays.
    quarantine: Option<String>,
    /// What the pager works on without leave.
    strays: Vec<Stray>,
    /// As `strays`, but without memory to remember them.
    forgotten_strays: usize,
}

/// Where in its life the object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Opened.
    Live,
    /// The last use went: what is dirty is being written. May become live again.
    Dying,
    /// Nothing is dirty, or it may go: no new request. May become live again only if its pager still has pages of it.
    Closing,
    /// Gone for good.
    Dead,
}

/// Why an object takes no request.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is closed, or about to be: whoever asks comes too late, and looks again.
    Closed,
    /// Its pager broke a promise.
    Quarantined(PagerError),
}

impl Object {
    pub(crate) fn new(engine: Arc<Engine>, pager: Box<dyn Pager>, size: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: ObjectId(NEXT.fetch_add(1, Ordering::Relaxed)),
            engine,
            ops: pager.ops(),
            longest_run: pager.max_run().max(1),
            pager,
            size: AtomicU64::new(size.min(MAX_OBJECT_SIZE)),
            references: AtomicU32::new(0),
            paging: Gauge::new(),
            state: ObjectLock::new(ObjectState {
                pages: PageIndexTree::default(),
                phase: Phase::Live,
                quarantine: None,
                strays: Vec::new(),
                forgotten_strays: 0,
            }),
            dying: Gauge::new(),
        }
    }

    /// The object's name for as long as the process lives.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The engine it belongs to.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Its pager. To be called with no lock held.
    #[must_use]
    pub fn pager(&self) -> &dyn Pager {
        &*self.pager
    }

    /// Which optional operations its pager has.
    #[inline]
    #[must_use]
    pub fn ops(&self) -> PagerOps {
        self.ops
    }

    /// The longest run, in pages, of one request.
    pub(crate) fn longest_run(&self) -> u32 {
        self.longest_run
    }

    /// Its name for people, as its pager says it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.pager.describe()
    }

    /// Its size in bytes (S24).
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Whether page `index` starts below the object's end (S115).
    #[inline]
    #[must_use]
    pub fn has_index(&self, index: PageIndex) -> bool {
        index.0 < pages_of(self.size())
    }

    /// Whether its pages can be written back.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.ops.contains(PagerOps::PUT)
    }

    /// Pages in memory.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.lock().pages.len()
    }

    /// The page at `index`, if it is in memory (*lookup*: neither creates nor blocks). Its identity holds only as long as it is busied.
    #[must_use]
    pub fn lookup(&self, index: PageIndex) -> Option<PageRef> {
        self.lock().pages.get(index)
    }

    /// Whether the object takes no more requests because its pager broke a promise.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.lock().quarantine.is_some()
    }

    pub(crate) fn lock(&self) -> ObjectGuard<'_, ObjectState> {
        self.state.lock()
    }

    /// A request begins, if the object still takes any. The count keeps the object from dying until the guard is dropped.
    pub(crate) fn begin_paging(self: &Arc<Self>) -> Result<Paging, Refusal> {
        let state = self.lock();
        state.takes_requests()?;
        self.paging.rise();
        drop(state);
        Ok(Paging(self.clone()))
    }

    /// Notes an error that the pager answered; one that tells of a broken promise quarantines the object (rule 4).
    pub(crate) fn note_pager_error(&self, error: &PagerError) {
        self.engine.stats().count(Counter::PagerErrors);
        if error.cause != Cause::BrokenPromise {
            return;
        }
        self.engine.stats().count(Counter::BrokenPromises);
        let reason = words_or_nothing(format_args!("{error}"));
        self.lock().quarantine.get_or_insert(reason);
    }
}

impl ObjectState {
    /// Pages that are known to be dirty.
    pub(crate) fn dirty_pages(&self) -> u64 {
        let mut from = PageIndex(0);
        let mut dirty = 0;
        while let Some((index, page)) = self.pages.next(from) {
            dirty += u64::from(page.dirtiness() == Dirtiness::Dirty);
            from = PageIndex(index.0 + 1);
        }
        dirty
    }

    /// Whether new requests are welcome; the error says why not.
    #[inline]
    pub(crate) fn takes_requests(&self) -> Result<(), Refusal> {
        if matches!(self.phase, Phase::Closing | Phase::Dead) {
            return Err(Refusal::Closed);
        }
        match &self.quarantine {
            None => Ok(()),
            Some(reason) => Err(Refusal::Quarantined(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{reason}"),
            ))),
        }
    }

    /// Why a fault gets no page from this object, if that is so. Whoever holds the lock of a map that shows it knows that it lives.
    #[inline]
    pub(crate) fn refuses_faults(&self) -> Option<String> {
        self.quarantine
            .as_ref()
            .map(|reason| words_or_nothing(format_args!("{reason}")))
    }

    /// Requests that its pager works on without leave.
    fn strays_out(&self) -> usize {
        self.strays.len() + self.forgotten_strays
    }
}

/// A request in progress: counted on the object as long as this lives.
#[derive(Debug)]
pub(crate) struct Paging(Arc<Object>);

impl Paging {
    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.0
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        self.0.paging.fall();
    }
}
