//! The memory object: pages by index, and the pager behind them.
//!
//! An object owns its pages' identity: a page is put into its index and taken out of it under the object's lock, while
//! exclusively busied. It knows nothing of the maps that show it. Bytes move through requests ([`crate::io`]); the files
//! of this folder are the verbs: [`page_in`](self) fills a missing page, [`flush`](crate::flush) writes dirty ones,
//! `reference` counts users and lets the last one go.
//!
//! # Life
//!
//! 1. *live*: opened; faults, flushes and references come and go. With a name and without users it is *kept*: its pages
//!    stay for whoever attaches it next, until it is the oldest of too many ([`Engine::set_cache_limit`]).
//! 2. *dying*: somebody ends it: the last user of an object without a name, the cache, terminate, discard. It takes no
//!    faults and no new pages; what is dirty is written; whoever attaches it waits.
//! 3. *dead*: no pages, pager closed. Users that are left, of a terminated object, get errors; the last one takes it off the
//!    engine's list. If the writing failed, it is *live* again instead, on the list, until a sync succeeds or it is
//!    discarded (rule 5 of the design).
//!
//! Who may end it and who may still use it is decided by `life`, in one word; what it still accepts stands in
//! [`ObjectState`] under the object's lock, set by whoever ends it.
//!
//! A *quarantined* object (its pager broke a promise) takes no new requests; its pages stay. It can only be discarded.

mod attach;
mod batch;
mod busy_guard;
mod dirty;
mod end;
mod hand_wirings;
mod leave_to_write;
mod life;
mod lost_wirings;
mod move_page;
mod openings;
mod page_in;
mod reference;
mod registry;
mod rehome;
mod revoke;
mod size;
mod transfer;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::Engine;
use crate::error::{Cause, Error, FaultError, PagerError, words_or_nothing};
use crate::flush::Syncs;
use crate::io::Direction;
use crate::page::PageRef;
use crate::page_index::PageIndexTree;
use crate::page_services::{self, HandLock};
use crate::pager::{Pager, PagerOps};
use crate::read_ahead::Streams;
use crate::stats::Counter;
use crate::swap::Anonymous;
use crate::sync::{CallLock, Deadline, Gauge, ObjectGuard, ObjectLock};
use crate::types::{MAX_OBJECT_SIZE, ObjectId, PageIndex, pages_of};

pub use attach::{Identity, Opening};
pub(crate) use batch::BATCH;
pub(crate) use busy_guard::free_pages;
pub use busy_guard::{ExclusiveBusy, SharedBusy};
pub use end::Dirty;
use hand_wirings::HandWirings;
use life::Life;
use lost_wirings::LostWirings;
use openings::Openings;
pub(crate) use page_in::PageIn;
pub use reference::ObjectRef;
pub(crate) use registry::Registry;
use transfer::Stray;
pub(crate) use transfer::{Detached, Started, Transfer};

/// A memory object.
#[derive(Debug)]
pub struct Object {
    id: ObjectId,
    engine: Arc<Engine>,
    pager: Openings,
    /// The places of an anonymous object.
    anonymous: Option<Arc<Anonymous>>,
    name: Name,
    /// Bytes. Changed under the lock, read at any time.
    size: AtomicU64,
    life: Life,
    /// It stays when its last user goes (S11). Cleared for good by uncache.
    persists: AtomicBool,
    /// When it was last let go of, by the registry's clock; 0 while it is not kept. Changed under the registry's lock.
    kept_since: AtomicU64,
    /// Requests to the pager that are under way: stands in for the lock while the pager works (S218, S241).
    paging: Gauge,
    /// One while somebody has it quiet: see [`Object::quiesce`].
    quieted: Gauge,
    /// One size change at a time.
    sizing: CallLock,
    /// One sync at a time.
    pub(crate) syncing: CallLock,
    /// For those who ask for it, and never the engine's: see [`page_services`](crate::page_services).
    pub(crate) hand_lock: HandLock,
    /// Whether pages of it were handed out.
    pub(crate) exposed: AtomicBool,
    state: ObjectLock<ObjectState>,
}

/// Where an object came from.
#[derive(Clone, Copy, Debug)]
struct Name {
    /// Which pager, as the caller counts them.
    source: u64,
    identity: Option<Identity>,
}

/// What the object's lock guards.
#[derive(Debug)]
pub(crate) struct ObjectState {
    pub(crate) pages: PageIndexTree,
    /// As [`Object::anonymous`].
    anonymous: Option<Arc<Anonymous>>,
    accepts: Accepts,
    /// The promise that its pager broke.
    broken: Option<String>,
    /// Its device is gone: accesses that find no mapping fail.
    revoked: bool,
    /// New requests wait.
    quiet: bool,
    pub(crate) syncs: Syncs,
    pub(crate) lost_wirings: LostWirings,
    pub(crate) hand_wirings: HandWirings,
    /// Where it was read last.
    pub(crate) streams: Streams,
    /// What the pager works on without leave.
    strays: Vec<Stray>,
    /// As `strays`, but without memory to remember them.
    forgotten_strays: usize,
}

/// Why an object takes no request.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is closed, or about to be: whoever asks comes too late, and looks again.
    Closed,
    /// Its pager broke a promise.
    Quarantined(PagerError),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::Invalid("the object has been closed or terminated"),
            Refusal::Quarantined(error) => Self::Quarantined(error.text),
        }
    }
}

/// What the object is still to be had for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepts {
    /// Live.
    Everything,
    /// Dying: no faults and no new pages.
    Writes,
    /// Dying, and what is dirty is given up or written; or its pager is closed.
    Nothing,
}

impl Object {
    /// A live object with one use, which the caller adopts.
    fn new(
        engine: Arc<Engine>,
        pager: Box<dyn Pager>,
        anonymous: Option<Arc<Anonymous>>,
        name: Name,
        size: u64,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let streams = Streams::new(pager.ops());
        Self {
            id: ObjectId(NEXT.fetch_add(1, Ordering::Relaxed)),
            engine,
            pager: Openings::new(pager),
            anonymous: anonymous.clone(),
            name,
            size: AtomicU64::new(size.min(MAX_OBJECT_SIZE)),
            life: Life::new(),
            persists: AtomicBool::new(name.identity.is_some()),
            kept_since: AtomicU64::new(0),
            paging: Gauge::new(),
            quieted: Gauge::new(),
            sizing: CallLock::new(),
            syncing: CallLock::new(),
            hand_lock: HandLock::new(),
            exposed: AtomicBool::new(false),
            state: ObjectLock::new(ObjectState {
                pages: PageIndexTree::default(),
                anonymous,
                streams,
                accepts: Accepts::Everything,
                broken: None,
                revoked: false,
                quiet: false,
                syncs: Syncs::default(),
                lost_wirings: LostWirings::default(),
                hand_wirings: HandWirings::default(),
                strays: Vec::new(),
                forgotten_strays: 0,
            }),
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
        &self.pager
    }

    /// Which optional operations its pager has.
    #[inline]
    #[must_use]
    pub fn ops(&self) -> PagerOps {
        self.pager.ops()
    }

    /// The places of an anonymous object.
    #[inline]
    pub(crate) fn anonymous(&self) -> Option<&Anonymous> {
        self.anonymous.as_deref()
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
        self.ops().contains(PagerOps::PUT)
    }

    /// Whether its pages come in windows of a large page.
    pub(crate) fn has_large_pages(&self) -> bool {
        self.pager().has_large_pages()
    }

    /// Whether a shared mapping of it may be written: what is written is put, or is the device's at once.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.ops().intersects(PagerOps::PUT | PagerOps::FRAMES)
    }

    /// Whether a page with a frame of the machine's may come into it: nothing would write one back where all that is written is a device's.
    #[must_use]
    pub(crate) fn takes_own_frames(&self) -> bool {
        self.is_writable() || !self.takes_writes()
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
        self.lock().broken.is_some()
    }

    pub(crate) fn lock(&self) -> ObjectGuard<'_, ObjectState> {
        self.state.lock()
    }

    /// A request begins, if the object still takes any. The count keeps the object from dying until the guard is dropped.
    /// Blocks while the object is quiet, so that no page may be held busy: whoever has a request may wait for that page,
    /// and whoever has the object quiet waits for the request.
    pub(crate) fn begin_paging(self: &Arc<Self>) -> Result<Paging, Refusal> {
        loop {
            if let Some(paging) = self.begin_paging_until(&Deadline::NEVER)? {
                return Ok(paging);
            }
        }
    }

    /// As [`Object::begin_paging`], until a deadline: nothing then.
    pub(crate) fn begin_paging_until(self: &Arc<Self>, deadline: &Deadline) -> Result<Option<Paging>, Refusal> {
        loop {
            if let Some(paging) = self.begin_paging_now()? {
                return Ok(Some(paging));
            }
            if !self.quieted.wait_for_none_until(deadline) {
                return Ok(None);
            }
        }
    }

    /// As [`Object::begin_paging`], for those who hold busy pages: it does not block.
    ///
    /// # Errors
    /// [`Cause::Again`] while the object is quiet.
    pub(crate) fn try_begin_paging(self: &Arc<Self>) -> Result<Paging, Error> {
        let later = || {
            PagerError::new(
                Cause::Again,
                format_args!("the object is changing its size or closing; its pages can be written afterwards"),
            )
        };
        self.begin_paging_now()?.ok_or_else(|| later().into())
    }

    fn begin_paging_now(self: &Arc<Self>) -> Result<Option<Paging>, Refusal> {
        let state = self.lock();
        state.takes_requests()?;
        if state.quiet {
            return Ok(None);
        }
        self.paging.rise();
        drop(state);
        Ok(Some(Paging(self.clone())))
    }

    /// Waits until no request is under way, and keeps new ones waiting (S20, S21, S90). May block for as long as the
    /// pager's requests do; no lock may be held.
    fn quiesce(&self) -> Quiet<'_> {
        loop {
            {
                let mut state = self.lock();
                if !state.quiet {
                    state.quiet = true;
                    self.quieted.rise();
                    break;
                }
            }
            self.quieted.wait_for_none();
        }
        let quiet = Quiet(self);
        self.paging.wait_for_none_with(|| self.drain_read_ahead());
        quiet
    }

    /// Notes an error that the pager answered; one that tells of a broken promise quarantines the object (rule 4).
    pub(crate) fn note_pager_error(&self, error: &PagerError) {
        self.engine.stats().count(Counter::PagerErrors);
        if error.cause != Cause::BrokenPromise {
            return;
        }
        self.engine.stats().count(Counter::BrokenPromises);
        let reason = words_or_nothing(format_args!("{error}"));
        self.lock().broken.get_or_insert(reason);
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if *self.exposed.get_mut() {
            page_services::forget(self.id);
        }
    }
}

impl ObjectState {
    /// Whether new requests are welcome; the error says why not.
    #[inline]
    pub(crate) fn takes_requests(&self) -> Result<(), Refusal> {
        if self.accepts == Accepts::Nothing {
            return Err(Refusal::Closed);
        }
        match &self.broken {
            None => Ok(()),
            Some(reason) => Err(Refusal::Quarantined(PagerError::new(
                Cause::BrokenPromise,
                format_args!("{reason}"),
            ))),
        }
    }

    /// Requests that its pager works on without leave.
    fn strays_out(&self) -> usize {
        self.strays.len() + self.forgotten_strays
    }

    /// Why a busy page is not worth waiting for: its pager broke its promise, and may never let go of it.
    pub(crate) fn may_never_let_go(&self) -> Option<&str> {
        self.broken.as_deref().filter(|_| self.strays_out() > 0)
    }

    /// Whether a page may come into it.
    pub(crate) fn takes_pages(&self) -> bool {
        self.accepts == Accepts::Everything
    }

    /// Why a fault gets no page from this object, if that is so.
    #[inline]
    pub(crate) fn refuses_faults(&self) -> Option<FaultError> {
        match (&self.broken, self.accepts) {
            (None, Accepts::Everything) => self.revoked.then_some(FaultError::Revoked),
            (Some(reason), Accepts::Everything) => {
                Some(FaultError::Quarantined(words_or_nothing(format_args!("{reason}"))))
            }
            (_, Accepts::Writes | Accepts::Nothing) => Some(FaultError::Terminated),
        }
    }

    /// Whether a request that way is no longer wanted, because the object ends: nothing is read any more; what is dirty is
    /// still written, unless it is given up.
    fn is_unwanted(&self, direction: Direction) -> bool {
        match direction {
            Direction::Get => self.accepts != Accepts::Everything,
            Direction::Put => self.accepts == Accepts::Nothing,
        }
    }
}

/// No request is under way, and none begins as long as this lives.
#[derive(Debug)]
struct Quiet<'a>(&'a Object);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.lock().quiet = false;
        self.0.quieted.fall();
    }
}

/// A request in progress: counted on the object as long as this lives.
#[derive(Debug)]
pub(crate) struct Paging(Arc<Object>);

impl Paging {
    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.0
    }

    /// One more request of whoever has this one: never waits.
    pub(crate) fn another(&self) -> Self {
        self.0.paging.rise();
        Self(self.0.clone())
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        self.0.paging.fall();
    }
}
