//! The page daemon: keeping frames free, and making room for those who found none.
//!
//! It owns the page queues of an engine and takes pages off them in batches, the oldest first, as the replacement policy has it
//! ([`policy`](crate::policy), [`evict`]). It leaves writing to [`flush`](crate::flush), which it asks for runs of the laundry's pages.
//!
//! Three ways lead here, and all run the same code:
//! - a thread, on hosted machines, that is woken when free frames get few ([`EngineOptions::daemon_thread`]);
//! - [`Engine::daemon_step`], for embedders and tests;
//! - a fault that finds no memory calls [`Engine::make_room`] from its waiting place. So nobody depends on the thread, which may be
//!   waiting for a slow pager.
//!
//! # A page's way out
//!
//! ```text
//! chosen     -> laundry    known to be dirty: the machine is not asked anything (S186)
//! chosen     -> unmapped   first the mappings go, and only then the modified bit is read (S184, S187)
//! unmapped   -> active     it was used after all (S183): on some machines only unmapping tells
//! unmapped   -> laundry    it was modified
//! unmapped   -> freed      clean
//! laundry    -> inactive   written, with its dirty neighbours; at the old end, to be looked at next
//! laundry    -> laundry    could not be written: at the young end, tried again when memory is short the next time
//! ```
//! All but the laundry happens with the page exclusively busied. Nobody waits for a busy page here: it is passed over.
//!
//! # Waiting
//!
//! On a small machine (less than `PLENTY`) whoever makes room takes turns, first come first served, and in a turn no pager is
//! called. Who comes to its turn and finds that those before it made room goes on at once. Writing is done outside the turns, each thread another run. Out of
//! memory is the answer when nothing could be freed, nothing written, nobody else is at it, and no page was passed over because
//! it is busy: whoever finds one waits for it, as it may be the one that can go.

mod evict;
mod laundry;
mod rescue;
mod targets;
#[cfg_attr(not(feature = "std"), path = "no_thread.rs")]
mod thread;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use crate::busy::BusyMode;
use crate::engine::Engine;
use crate::error::FaultError;
#[cfg(feature = "std")]
use crate::log::Log;
use crate::machine::FrameCounts;
use crate::object::{BATCH, Object};
use crate::page::{PageRef, Queue};
use crate::page_queues::{PageQueues, QueueLengths, comes_on_a_queue, name_of};
use crate::policy::PolicyKind;
use crate::stats::Counter;
use crate::sync::{FrameLock, QueueLock, Tally, Turns, assert_no_locks_held};
use crate::types::ObjectId;
use laundry::Pass;
use rescue::{Rescuers, Rescuing};
use targets::usable;

pub use targets::Targets;

/// How an engine is made.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Which pages go first.
    pub policy: PolicyKind,
    /// When the page daemon works; those of [`Targets::of`] if nothing is said.
    pub targets: Option<Targets>,
    /// Whether a thread keeps frames free. Without one, whoever finds none makes room itself, and
    /// [`Engine::daemon_step`] can be called at any time.
    pub daemon_thread: bool,
    /// For how long, altogether, a fault waits for pagers; then it fails with [`FaultError::TimedOut`]. Nothing is for ever.
    /// A pager that does not leave requests pending but blocks the thread that asks is waited for by that thread all the same.
    pub fault_timeout: Option<Duration>,
    /// For how long a pager may have a request before the [watchdog](crate::engine::Engine::watchdog_step) reports it; 30 seconds if nothing is said.
    #[cfg(feature = "std")]
    pub overdue_after: Option<Duration>,
    /// Where the engine says what somebody should look at.
    #[cfg(feature = "std")]
    pub log: Option<Log>,
}

/// An engine's memory: what of it can be taken, and who waits for it.
#[derive(Debug)]
pub(crate) struct Memory {
    queues: QueueLock<PageQueues>,
    targets: FrameLock<Targets>,
    turns: Turns,
    /// Pages were freed, or written so that they can be.
    progress: Tally,
    /// Somebody who was at work ended it, whether that came to anything or not.
    ended: Tally,
    /// Pages that are being written so that they can be freed.
    washing: AtomicU64,
    /// Threads that have pages in hand, to free or to write them. See [`AtWork`].
    at_work: AtomicU64,
    rescuers: Rescuers,
    /// Threads that write for other reasons.
    writers: Rescuers,
    tallies: [AtomicU64; 4],
    /// The last step came to nothing. So may the next ones, as long as dirty pages have nowhere to go.
    in_vain: AtomicBool,
    bell: Arc<Bell>,
    thread: thread::Handle,
}

/// Wakes the daemon's thread.
#[derive(Debug)]
struct Bell {
    rung: Tally,
    /// There is a thread to wake.
    heard: AtomicBool,
}

/// What is counted here, by place in `tallies`.
#[derive(Clone, Copy)]
enum Count {
    Steps,
    Reactivated,
    Washed,
    WashFailures,
}

/// What the page daemon did since the engine was made. Each number is exact, all together are not a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DaemonCounts {
    /// Steps that had something to do.
    pub steps: u64,
    /// Pages that were to go, and turned out to be in use.
    pub reactivated: u64,
    /// Pages written so that they could be freed.
    pub washed: u64,
    /// Runs of pages that could not be written.
    pub wash_failures: u64,
    /// Frames taken from the reserve so that pages could be written.
    pub rescues: u64,
}

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Pages freed.
    pub freed: u64,
    /// Pages written.
    pub written: u64,
    /// Runs that could not be written; their pages stay dirty.
    pub failed: u64,
}

/// Frames of a machine on which several threads make room at the same time: what one of them takes too much is nothing there, and
/// to wait for another's batch costs more than to free one. On smaller machines they take turns.
const PLENTY: u64 = 64 * BATCH as u64;

/// Pages of the laundry that a step looks at when the one before came to nothing: the daemon is woken again and again then, and a long laundry
/// of pages without swap must not keep it busy. Who needs memory looks at all of them.
const MOST_IN_VAIN: u64 = 1024;

impl Memory {
    pub(crate) fn new(frames: FrameCounts, options: &EngineOptions) -> Self {
        Self {
            queues: QueueLock::new(PageQueues::new(options.policy.make(frames.total))),
            targets: FrameLock::new(options.targets.unwrap_or_else(|| Targets::of(frames))),
            turns: Turns::new(),
            progress: Tally::new(),
            ended: Tally::new(),
            washing: AtomicU64::new(0),
            at_work: AtomicU64::new(0),
            rescuers: Rescuers::new(),
            writers: Rescuers::new(),
            tallies: [const { AtomicU64::new(0) }; 4],
            in_vain: AtomicBool::new(false),
            bell: Arc::new(Bell {
                rung: Tally::new(),
                heard: AtomicBool::new(false),
            }),
            thread: thread::Handle::default(),
        }
    }

    /// A page was filled, and its busy guard is being let go of.
    #[inline]
    pub(crate) fn page_is_filled(&self, page: PageRef) {
        if comes_on_a_queue(page) {
            self.queues.lock().admit(page);
        }
    }

    /// As [`Memory::page_is_filled`] for those of several pages that are filled. If none has to come on a queue, as after a put, no
    /// lock is taken.
    pub(crate) fn pages_are_filled(&self, pages: &[PageRef]) {
        let comes = |page: &PageRef| page.is_valid() && comes_on_a_queue(page);
        let mut queues = None;
        for page in pages.iter().copied().filter(comes) {
            queues.get_or_insert_with(|| self.queues.lock()).admit(page);
        }
    }

    /// Pages have left their object. Exclusively busied.
    pub(crate) fn pages_are_gone(&self, pages: &[PageRef]) {
        // Decided under the lock: whoever moves one from queue to queue has it on none for a moment.
        let mut queues = self.queues.lock();
        for page in pages {
            queues.forget(page);
        }
    }

    /// Makes a page the next to be looked at, unless it is wired. Exclusively busied.
    pub(crate) fn deactivate(&self, page: PageRef) {
        let mut queues = self.queues.lock();
        if page.wire_count() == 0 && page.queue().is_some() {
            queues.put_first(page, Queue::Inactive);
        }
    }

    /// Wires a page once more. Busied in either mode.
    pub(crate) fn wire(&self, page: PageRef) {
        self.queues.lock().wire(page);
    }

    /// Takes one wiring of a page back. Its object is locked.
    pub(crate) fn unwire(&self, page: PageRef) {
        self.queues.lock().unwire(page);
    }

    /// The calling thread makes room in swap, as long as the answer lives: who finds none meanwhile may wait for that. If the
    /// pager that it calls needs memory of this engine, it waits for nobody.
    pub(crate) fn making_room_in_swap(&self) -> MakingRoom<'_> {
        let mut work = AtWork::begin(self);
        work.progressed();
        MakingRoom {
            _work: work,
            _writing: self.writing(),
        }
    }

    fn count(&self, what: Count, n: u64) {
        self.tallies[what as usize].fetch_add(n, Ordering::Relaxed);
    }

    fn ring(&self) {
        if self.bell.heard.load(Ordering::Relaxed) {
            self.bell.rung.happen();
        }
    }
}

impl Engine {
    /// How many pages are on each queue.
    #[must_use]
    pub fn queue_lengths(&self) -> QueueLengths {
        self.memory.queues.lock().lengths()
    }

    /// What the replacement policy is called.
    #[must_use]
    pub fn policy_name(&self) -> &'static str {
        self.memory.queues.lock().policy_name()
    }

    /// When the page daemon works.
    #[must_use]
    pub fn daemon_targets(&self) -> Targets {
        *self.memory.targets.lock()
    }

    /// Sets when the page daemon works, from the next step on.
    pub fn set_daemon_targets(&self, targets: Targets) {
        *self.memory.targets.lock() = targets;
        self.memory.ring();
    }

    /// There is room for anonymous pages where there was none: the daemon may look again.
    pub(crate) fn swap_has_room(&self) {
        self.memory.in_vain.store(false, Ordering::Relaxed);
        self.memory.ring();
    }

    /// What the page daemon did.
    #[must_use]
    pub fn daemon_counts(&self) -> DaemonCounts {
        let of = |what: Count| self.memory.tallies[what as usize].load(Ordering::Relaxed);
        DaemonCounts {
            steps: of(Count::Steps),
            reactivated: of(Count::Reactivated),
            washed: of(Count::Washed),
            wash_failures: of(Count::WashFailures),
            rescues: self.memory.rescuers.rescues(),
        }
    }

    /// One step of the page daemon: if too few frames are free, frees pages until enough are, clean ones first; then writes
    /// dirty ones. Each page is tried once, or after a step that came to nothing a part of the dirty ones. May block; no lock may be held.
    pub fn daemon_step(&self) -> Step {
        assert_no_locks_held("a step of the page daemon");
        self.settle_requests();
        let targets = self.daemon_targets();
        let mut step = Step::default();
        if self.free_or_soon() >= targets.free_target {
            return step;
        }
        self.memory.count(Count::Steps, 1);
        self.swap().tell_freed();
        let missing = |engine: &Self| targets.free_enough.saturating_sub(engine.free_or_soon());
        step.freed = self.reclaim(missing(self));
        let laundry = self.queue_lengths().laundry;
        let mut pass = Pass::new(if self.memory.in_vain.load(Ordering::Relaxed) {
            laundry.min(MOST_IN_VAIN)
        } else {
            laundry
        });
        let mut searched = false;
        while missing(self) > 0 {
            if let Some(written) = self.wash_next(&mut pass) {
                step.written += written;
                step.freed += self.reclaim(missing(self));
            } else if searched {
                break;
            } else {
                searched = true;
                let before = self.queue_lengths().laundry;
                step.freed += self.reclaim_past_dirty(missing(self));
                pass.goes_on(self.queue_lengths().laundry.saturating_sub(before));
            }
        }
        step.failed = pass.failed();
        let in_vain = step.freed == 0 && step.written == 0;
        self.memory.in_vain.store(in_vain, Ordering::Relaxed);
        step
    }

    /// Frees some pages, or finds that it cannot. May block; no lock may be held.
    ///
    /// # Errors
    /// [`FaultError::NoMemory`] when nothing could be freed.
    pub fn make_room(&self) -> Result<(), FaultError> {
        assert_no_locks_held("making room");
        self.settle_requests();
        self.stats().count(Counter::MemoryWaits);
        self.memory.ring();
        let seen = self.memory.progress.now();
        // A batch, and a sixteenth of a small machine.
        let some = (self.machine().frame_counts().total / 16).clamp(1, BATCH as u64);
        if self.take_clean(some, seen) {
            if usable(self.machine().frame_counts()) < some && !self.memory.rescuers.contains_me() {
                // Those were the last clean ones. If dirty ones did not go as well, whoever needs two pages at a time would lose
                // the first, which is clean, to have the second, and never get on.
                self.wash_until_some_go(&mut Pass::new(self.queue_lengths().laundry), some);
            }
            return Ok(());
        }
        if self.memory.rescuers.contains_me() {
            // This thread is writing pages already, and somewhere below it more memory is wanted. It must not wait for itself.
            return Err(FaultError::NoMemory);
        }
        let mut pass = Pass::new(self.queue_lengths().laundry);
        if self.wash_until_some_go(&mut pass, some) {
            return Ok(());
        }
        let before = self.queue_lengths().laundry;
        if self.reclaim_past_dirty(some) > 0 {
            return Ok(());
        }
        pass.goes_on(self.queue_lengths().laundry.saturating_sub(before));
        if self.wash_until_some_go(&mut pass, some) {
            return Ok(());
        }
        let may_wait = !self.memory.writers.contains_me();
        if may_wait && self.memory.progress.now() == seen {
            // In this order: who ends after the second look wakes us, and who ended before it shows as progress.
            let ended = self.memory.ended.now();
            if self.memory.at_work.load(Ordering::Acquire) > 0 {
                self.memory.ended.wait_beyond(ended);
            }
        }
        let busy = self.memory.queues.lock().take_passed_over().filter(|_| may_wait);
        if self.memory.progress.now() != seen
            || busy.is_some_and(|page| {
                name_of(page)
                    .is_some_and(|(object, index)| self.wait_for_page(page, BusyMode::Exclusive, object, index))
            })
        {
            Ok(())
        } else {
            Err(FaultError::NoMemory)
        }
    }

    /// Takes up to `some` clean pages, unless others made progress since `seen` while this waited for its turn. Whether a frame is free.
    fn take_clean(&self, some: u64, seen: u32) -> bool {
        if self.machine().frame_counts().total >= PLENTY {
            return self.reclaim(some) > 0;
        }
        let turn = self.memory.turns.take();
        let made_meanwhile = turn.waited() && self.memory.progress.now() != seen;
        made_meanwhile && usable(self.machine().frame_counts()) > 0 || self.reclaim(some) > 0
    }

    /// As [`Engine::make_room`], in a signal handler: of clean pages, and of one block of dirty ones whose pager can be called there.
    /// Whether it helped.
    pub(crate) fn make_room_in_signal(&self) -> bool {
        self.stats().count(Counter::MemoryWaits);
        self.memory.ring();
        let some = (self.machine().frame_counts().total / 16).clamp(1, BATCH as u64);
        self.take_clean(some, self.memory.progress.now()) || self.wash_a_block(true) && self.reclaim(some) > 0
    }

    /// Writes the laundry until so many pages could be freed. Whether any were.
    fn wash_until_some_go(&self, pass: &mut Pass, some: u64) -> bool {
        let mut freed = 0;
        while freed < some && self.wash_next(pass).is_some() {
            freed += self.reclaim(some - freed);
        }
        freed > 0
    }

    /// Writes one block of the laundry. Whether pages of it can go.
    fn wash_a_block(&self, in_signal: bool) -> bool {
        if self.memory.rescuers.contains_me() {
            return false;
        }
        let mut pass = Pass::new(BATCH as u64);
        if in_signal {
            pass = pass.in_signal();
        }
        self.wash_next(&mut pass).is_some()
    }

    /// How many of `want` pages that nobody asked for yet may take frames: at most a sixteenth of all at a time. If not so many
    /// are free, pages that the policy gives up make room; if they are dirty, one block of them is written. So a scan goes on in
    /// runs when memory is full. May call a pager for that; no lock may be held.
    pub(crate) fn frames_to_spare(&self, want: usize, in_signal: bool) -> usize {
        let counts = self.machine().frame_counts();
        let want = (want as u64).min(counts.total / 16);
        let short = want.saturating_sub(usable(counts));
        let some = short.max(BATCH as u64).min(counts.total / 16);
        if short > 0 && self.reclaim(some) < short && self.wash_a_block(in_signal) {
            self.reclaim(some);
        }
        // At most what was wanted.
        #[allow(clippy::cast_possible_truncation, reason = "less than a usize")]
        let spare = want.min(usable(self.machine().frame_counts())) as usize;
        spare
    }

    /// An ordinary allocation has succeeded: is it time to wake the daemon?
    pub(crate) fn frame_was_taken(&self) {
        let memory = &self.memory;
        if memory.bell.heard.load(Ordering::Relaxed)
            && usable(self.machine().frame_counts()) < memory.targets.lock().free_min
        {
            memory.ring();
        }
    }

    /// Frames that are free for ordinary use, or will be when what is being written has been.
    fn free_or_soon(&self) -> u64 {
        usable(self.machine().frame_counts()) + self.memory.washing.load(Ordering::Acquire)
    }

    /// The object on the list with this id.
    fn object(&self, id: ObjectId) -> Option<Arc<Object>> {
        self.object_after(ObjectId(id.0 - 1)).filter(|object| object.id() == id)
    }
}

/// The calling thread has pages in hand. Somebody else who finds none may wait for it to end: what it achieved is counted
/// before it does.
#[derive(Debug)]
struct AtWork<'a> {
    memory: &'a Memory,
    progressed: bool,
}

/// See [`Memory::making_room_in_swap`].
#[derive(Debug)]
pub(crate) struct MakingRoom<'a> {
    _work: AtWork<'a>,
    _writing: Rescuing<'a>,
}

impl<'a> AtWork<'a> {
    fn begin(memory: &'a Memory) -> Self {
        memory.at_work.fetch_add(1, Ordering::AcqRel);
        Self {
            memory,
            progressed: false,
        }
    }

    fn progressed(&mut self) {
        self.progressed = true;
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if self.progressed {
            self.memory.progress.happen();
        }
        self.memory.at_work.fetch_sub(1, Ordering::AcqRel);
        self.memory.ended.happen();
    }
}
