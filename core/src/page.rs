//! The page: one frame's worth of an object.
//!
//! # Contract
//!
//! Page structs are type-stable: their memory is never given back while the process lives, so that a reference to a page
//! may be kept over any sleep and looked at afterwards, when the page may have become another one. That is why a
//! [`PageRef`] is a plain `&'static Page`, and why everything in it is atomic. What a page *is* has to be checked again
//! after every sleep: its object and index ([`Page::is`]), or its version (S143).
//!
//! Legend, for each field: who may change it.
//!
//! - `(b)` whoever has the page exclusively busied
//! - `(o)` the same, and holding the object's lock
//! - `(s)` whoever has it busied in either mode
//! - `(q)` whoever holds the lock of the engine's page queues; of a page in the pool, whoever holds the pool's lock
//! - `(m)` the machine
//!
//! # States of the contents
//!
//! ```text
//! fake     allocated, not filled (S139). Never mapped (S142). Dropping its busy guard frees it.
//! valid    filled; may be mapped.
//! ```
//!
//! # Dirtiness (N5)
//!
//! ```text
//! clean   -> unknown   mapped writable without having been written: the machine's modified bits tell from here on
//! clean   -> dirty     written by a fault or by the engine
//! unknown -> clean     mappings write-protected, no modified bit collected
//! unknown -> dirty     a modified bit was collected
//! dirty   -> clean     a put succeeded, and nothing was modified since it began
//! ```
//! A failed put changes nothing: the page stays dirty (rule 5 of the design, D4).
//!
//! A page over a frame of a device ([`aperture`](crate::aperture)) is always clean: what is written to it has reached the device. It is on no queue,
//! so that it is never taken to make room.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::aperture;
use crate::busy::BusyWord;
use crate::sync::FrameLock;
use crate::types::{CacheMode, Frame, ObjectId, PageIndex};

/// A page, for as long as the process lives. What it holds may change: see the contract of [the module](self).
pub type PageRef = &'static Page;

/// What is known of a page's modification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dirtiness {
    /// Equal to what the pager has.
    Clean,
    /// Mapped writable: only the machine's modified bits can tell.
    Unknown,
    /// Must be written before the page may go.
    Dirty,
}

const VALID: u32 = 1;
const UNKNOWN: u32 = 2;
const DIRTY: u32 = 4;
/// Modified after the put that is under way began.
const MODIFIED_SINCE: u32 = 8;
const REFERENCED: u32 = 16;
/// A put of it began, some time.
const WAS_PUT: u32 = 32;
/// Its holder has taken it out of every object: see [`page_services`](crate::page_services).
const NOWHERE: u32 = 64;
/// Its frame is a device's.
const DEVICE: u32 = 128;
/// The replacement policy has looked at it on the queue it is on (q).
const LOOKED_AT: u32 = 1 << 29;
/// Which queue the page is on, in the highest two bits (q); 0 for none.
const QUEUE_SHIFT: u32 = 30;

/// A list that the replacement policy and the page daemon look for pages on (rows S181 to S188).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Queue {
    /// Pages that have proved useful.
    Active = 1,
    /// Pages that are the next to go, unless they are used. They may be mapped (S181).
    Inactive = 2,
    /// Pages that would go, but have to be written first.
    Laundry = 3,
}

/// A page or none, as one atomic.
#[derive(Debug)]
struct Link(AtomicPtr<Page>);

impl Link {
    const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn get(&self) -> Option<PageRef> {
        // SAFETY: null, or made by `set` from a reference that is good for as long as the process lives; only shared
        // references to a page exist.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }

    fn set(&self, page: Option<PageRef>) {
        let page = page.map_or(core::ptr::null_mut(), |page| core::ptr::from_ref(page).cast_mut());
        self.0.store(page, Ordering::Relaxed);
    }
}

/// A page struct. 72 bytes without debug assertions.
#[derive(Debug)]
pub struct Page {
    /// Who may change the page. Taken and given by guards ([`crate::object::ExclusiveBusy`], [`crate::object::SharedBusy`]) only,
    /// so that safe code cannot end a right that is not its own.
    pub(crate) busy: BusyWord,
    state: AtomicU32,        // (s), see the edges above
    object: AtomicU64,       // (o)
    index: AtomicU64,        // (o)
    frame: AtomicU64,        // (b)
    wired: AtomicU32,        // (q)
    version: AtomicU32,      // (b), raised when the page is freed
    machine: [AtomicU64; 2], // (m)
    older: Link,             // (q)
    younger: Link,           // (q); in the pool, the next free page
}

impl Page {
    fn new() -> Self {
        Self {
            busy: BusyWord::new(),
            state: AtomicU32::new(0),
            object: AtomicU64::new(0),
            index: AtomicU64::new(0),
            frame: AtomicU64::new(0),
            wired: AtomicU32::new(0),
            version: AtomicU32::new(0),
            machine: [const { AtomicU64::new(0) }; 2],
            older: Link::new(),
            younger: Link::new(),
        }
    }

    /// Whether this is, now, page `index` of `object`. Stable while the page is busied or the object is locked.
    #[inline]
    #[must_use]
    pub fn is(&self, object: ObjectId, index: PageIndex) -> bool {
        self.object.load(Ordering::Acquire) == object.0 && self.index.load(Ordering::Relaxed) == index.0
    }

    /// The object the page is in; nothing when it is in none.
    #[must_use]
    pub fn object(&self) -> Option<ObjectId> {
        match self.object.load(Ordering::Acquire) {
            0 => None,
            id => Some(ObjectId(id)),
        }
    }

    /// The page's index in its object.
    #[inline]
    #[must_use]
    pub fn index(&self) -> PageIndex {
        PageIndex(self.index.load(Ordering::Relaxed))
    }

    /// The frame under the page.
    #[inline]
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame(self.frame.load(Ordering::Relaxed))
    }

    /// Whether its frame is a device's.
    #[inline]
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DEVICE != 0
    }

    /// How its memory wants to be accessed. The page is busied.
    #[inline]
    pub(crate) fn cache_mode(&self) -> CacheMode {
        if !self.is_device() {
            return CacheMode::WriteBack;
        }
        // SAFETY: the page is busied.
        unsafe { aperture::of(self.frame()) }.cache()
    }

    /// Whether its memory can be written. The page is busied.
    #[inline]
    pub(crate) fn can_be_written(&self) -> bool {
        // SAFETY: the page is busied.
        !self.is_device() || unsafe { aperture::of(self.frame()) }.is_writable()
    }

    /// Whether a pager that wants to be told before its pages are written is to be told of a write to this one.
    #[inline]
    pub(crate) fn is_told_of(&self) -> bool {
        !self.is_device() && self.dirtiness() == Dirtiness::Clean
    }

    /// Whether the page is busied in either mode, by anyone (S244, D12).
    #[must_use]
    pub fn is_busied(&self) -> bool {
        self.busy.is_busied()
    }

    /// Whether the page is exclusively busied, by anyone (S244).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.busy.is_exclusive()
    }

    /// Whether the page is shared busied (S244).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.busy.is_shared()
    }

    /// The thread that took the page exclusively, as recorded by builds with debug assertions (S144).
    #[must_use]
    pub fn owner(&self) -> Option<u64> {
        self.busy.owner()
    }

    /// Changes each time the page is freed (S143).
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Two words that belong to the machine, zero when the page is allocated.
    #[must_use]
    pub fn machine_words(&self) -> &[AtomicU64; 2] {
        &self.machine
    }

    /// Whether the page has been filled. A page that has not is never mapped (S142).
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.state.load(Ordering::Acquire) & VALID != 0
    }

    /// The page is filled, and equals what the pager has (S108). Exclusively busied.
    pub fn mark_valid(&self) {
        self.busy.assert_exclusive();
        self.state.fetch_or(VALID, Ordering::Release);
    }

    /// What is known of its modification.
    #[must_use]
    pub fn dirtiness(&self) -> Dirtiness {
        let state = self.state.load(Ordering::Acquire);
        if state & DIRTY != 0 {
            Dirtiness::Dirty
        } else if state & UNKNOWN != 0 {
            Dirtiness::Unknown
        } else {
            Dirtiness::Clean
        }
    }

    /// The page was, or is about to be, modified: by a write fault, by the engine, or by a modified bit that the machine collected.
    #[inline]
    pub fn note_modified(&self) {
        const BITS: u32 = DIRTY | MODIFIED_SINCE;
        let state = self.state.load(Ordering::Relaxed);
        if state & BITS != BITS && state & DEVICE == 0 {
            self.state.fetch_or(BITS, Ordering::AcqRel);
        }
    }

    /// The page is being mapped writable: from here on the machine's modified bits tell.
    #[inline]
    pub fn note_writable(&self) {
        if self.state.load(Ordering::Relaxed) & (UNKNOWN | DEVICE) == 0 {
            self.state.fetch_or(UNKNOWN, Ordering::AcqRel);
        }
    }

    /// Every mapping is gone, or is about to be write-protected and its modified bits to be collected: what is unknown after that
    /// the machine says. Exclusively busied.
    pub(crate) fn settle(&self) {
        self.busy.assert_exclusive();
        if self.state.load(Ordering::Relaxed) & UNKNOWN != 0 {
            self.state.fetch_and(!UNKNOWN, Ordering::AcqRel);
        }
    }

    /// A put of this page begins. Exclusively busied, settled.
    pub(crate) fn put_begins(&self) {
        self.busy.assert_exclusive();
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some(state & !MODIFIED_SINCE | WAS_PUT)
        });
    }

    /// The put succeeded: clean, unless it was modified since the put began.
    pub(crate) fn put_succeeded(&self) {
        self.busy.assert_exclusive();
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state & MODIFIED_SINCE == 0).then_some(state & !DIRTY)
        });
    }

    /// Whoever has it says that its pager has these very bytes. Exclusively busied, settled.
    pub(crate) fn mark_clean(&self) {
        self.busy.assert_exclusive();
        self.state.fetch_and(!(DIRTY | MODIFIED_SINCE), Ordering::AcqRel);
    }

    /// Whether its holder has taken it out of every object.
    #[inline]
    pub(crate) fn is_nowhere(&self) -> bool {
        self.state.load(Ordering::Acquire) & NOWHERE != 0
    }

    /// Its holder takes it out of every object, or puts it into one. Exclusively busied.
    pub(crate) fn set_nowhere(&self, nowhere: bool) {
        self.busy.assert_exclusive();
        if nowhere {
            self.state.fetch_or(NOWHERE, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!NOWHERE, Ordering::AcqRel);
        }
    }

    /// Whether it can be unbusied as it is: filled, in an object, and on a queue or wired. Stable while it is busied.
    #[inline]
    pub(crate) fn is_in_place(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & (VALID | NOWHERE) == VALID && (state >> QUEUE_SHIFT != 0 || self.wire_count() > 0)
    }

    /// Its pager was given it before it was brought in. Exclusively busied.
    pub(crate) fn note_was_put(&self) {
        self.busy.assert_exclusive();
        self.state.fetch_or(WAS_PUT, Ordering::AcqRel);
    }

    /// Whether a put of it ever began: its pager may have been given it.
    pub(crate) fn was_put(&self) -> bool {
        self.state.load(Ordering::Acquire) & WAS_PUT != 0
    }

    /// Somebody used the page.
    pub fn note_referenced(&self) {
        self.state.fetch_or(REFERENCED, Ordering::Relaxed);
    }

    /// Whether somebody used the page since the last call.
    pub fn take_referenced(&self) -> bool {
        self.state.fetch_and(!REFERENCED, Ordering::Relaxed) & REFERENCED != 0
    }

    /// Whether the replacement policy may take it although its turn has not come: it stands on the inactive queue, the policy has
    /// looked at it since it was read, nothing tells that it was used since, and it is not known to be dirty. A hint, unless it is
    /// busied and the queues are locked.
    pub(crate) fn may_go_early(&self) -> bool {
        const TOLD: u32 = VALID | DIRTY | REFERENCED | LOOKED_AT | 3 << QUEUE_SHIFT;
        const WANTED: u32 = VALID | LOOKED_AT | (Queue::Inactive as u32) << QUEUE_SHIFT;
        self.state.load(Ordering::Acquire) & TOLD == WANTED
    }

    /// Whether it may go along with a neighbour, on a machine that does not tell of its use: it is on a queue, but not in the laundry,
    /// and nobody said that it was used. A hint without the queues' lock.
    pub(crate) fn may_go_along(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let queue = state >> QUEUE_SHIFT;
        state & (VALID | REFERENCED) == VALID && (queue == Queue::Inactive as u32 || queue == Queue::Active as u32)
    }

    /// How often the page is wired; a wired page is on no queue and is not taken away (S92, S188, S211).
    #[must_use]
    pub fn wire_count(&self) -> u32 {
        self.wired.load(Ordering::Acquire)
    }

    /// The queues locked, which also take the page off or put it back.
    pub(crate) fn set_wire_count(&self, count: u32) {
        self.wired.store(count, Ordering::Release);
    }

    /// The queue that the page is on; none while it is wired, being filled or being taken.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        match self.state.load(Ordering::Acquire) >> QUEUE_SHIFT {
            1 => Some(Queue::Active),
            2 => Some(Queue::Inactive),
            3 => Some(Queue::Laundry),
            _ => None,
        }
    }

    /// The queues locked. The policy has not looked at it there.
    pub(crate) fn set_queue(&self, queue: Option<Queue>) {
        let to = queue.map_or(0, |queue| (queue as u32) << QUEUE_SHIFT);
        let all = 3 << QUEUE_SHIFT | LOOKED_AT;
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| Some(state & !all | to));
    }

    /// Whether the policy has looked at it since it came on its queue. The queues locked.
    pub(crate) fn was_looked_at(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LOOKED_AT != 0
    }

    /// The policy has looked at it, and left it on its queue. The queues locked.
    pub(crate) fn note_looked_at(&self) {
        self.state.fetch_or(LOOKED_AT, Ordering::Relaxed);
    }

    /// Its neighbours on its queue: the one that came before it, and the one that came after. The queues locked.
    pub(crate) fn neighbours(&self) -> (Option<PageRef>, Option<PageRef>) {
        (self.older.get(), self.younger.get())
    }

    /// The queues locked.
    pub(crate) fn set_older(&self, page: Option<PageRef>) {
        self.older.set(page);
    }

    /// The queues locked.
    pub(crate) fn set_younger(&self, page: Option<PageRef>) {
        self.younger.set(page);
    }

    /// Gives the page its identity. Exclusively busied, object locked.
    pub(crate) fn enter_object(&self, object: ObjectId, index: PageIndex) {
        self.busy.assert_exclusive();
        self.index.store(index.0, Ordering::Relaxed);
        self.object.store(object.0, Ordering::Release);
    }

    /// It has another frame, of which the machine knows nothing yet. Exclusively busied, not mapped.
    pub(crate) fn forget_machine_words(&self) {
        self.busy.assert_exclusive();
        for word in &self.machine {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Takes the page's identity. Exclusively busied, object locked.
    pub(crate) fn leave_object(&self) {
        self.busy.assert_exclusive();
        self.object.store(0, Ordering::Release);
    }

    /// Puts another frame under the page. Exclusively busied, not mapped.
    pub(crate) fn set_frame(&self, frame: Frame) {
        self.busy.assert_exclusive();
        self.frame.store(frame.0, Ordering::Relaxed);
    }

    /// Puts a frame of a device under the page, which has none. Exclusively busied.
    pub(crate) fn set_device_frame(&self, frame: Frame) {
        debug_assert!(frame.is_device());
        self.set_frame(frame);
        self.state.fetch_or(DEVICE, Ordering::Release);
    }
}

/// Pages given out at once by the system's allocator.
const SLAB: usize = 64;

/// Page structs that no object uses, of all engines, as a chain through `younger`: memory of pages stays memory of pages.
static POOL: FrameLock<Option<PageRef>> = FrameLock::new(None);

/// Takes a page struct from the pool: exclusively busied, fake, clean (S139), without a frame. Nothing when memory is short.
pub(crate) fn allocate() -> Option<PageRef> {
    let page = take_from_pool()?;
    page.busy.claim();
    page.state.store(0, Ordering::Relaxed);
    page.wired.store(0, Ordering::Relaxed);
    page.forget_machine_words();
    Some(page)
}

/// Gives a page struct back. Exclusively busied by the caller, in no object, not mapped; whoever sleeps on it wakes and looks again.
pub(crate) fn free(page: PageRef) {
    free_all(&[page]);
}

/// As [`free`], for several.
pub(crate) fn free_all(pages: &[PageRef]) {
    for page in pages {
        debug_assert!(page.object().is_none(), "freed a page that is in an object");
        debug_assert!(
            page.wire_count() == 0 && page.queue().is_none(),
            "freed a page that is wired or on a queue"
        );
        page.version.fetch_add(1, Ordering::AcqRel);
        page.busy.free();
    }
    let mut pool = POOL.lock();
    for page in pages {
        page.younger.set(pool.replace(page));
    }
}

fn take_from_pool() -> Option<PageRef> {
    let mut pool = POOL.lock();
    if pool.is_none() {
        drop(pool);
        let mut slab = Vec::new();
        slab.try_reserve_exact(SLAB).ok()?;
        slab.resize_with(SLAB, Page::new);
        pool = POOL.lock();
        for page in slab.leak() {
            page.younger.set(pool.replace(page));
        }
    }
    let page = pool.take()?;
    *pool = page.younger.get();
    page.younger.set(None);
    Some(page)
}
