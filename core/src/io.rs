//! One request to a pager: a run of pages of one object, to be filled or written.
//!
//! # The life of a request
//!
//! 1. The engine busies the pages, borrows their bytes from the machine, and makes an [`Io`].
//! 2. It hands the request to the pager, holding no lock.
//! 3. The pager says what became of each page ([`Io::page_done`], [`Io::page_failed`]).
//! 4. The request completes, exactly once: by the operation's answer, or by [`Io::complete`] from any thread, also before
//!    the operation has returned. Completing only records and wakes.
//! 5. Whoever started it gives the bytes back and settles the pages, the same way for both kinds of completion
//!    (S146; S145 speaks of two).
//!
//! The bytes are the pager's from 2 to 4. Pages stay busy from 1 to 5.
//!
//! Between 2 and 4 the engine may ask the pager to end the request soon ([`Pager::cancel`](crate::pager::Pager::cancel)). That changes nothing of
//! the above: the request still completes once, with whatever the pager answers. Who waits for it may give up; then it goes
//! on without a waiter.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Cause, PagerError};
use crate::machine::{Loan, Purpose};
use crate::requests::Bell;
use crate::sync::{Awaited, Deadline, FrameLock};
use crate::types::{PAGE_BYTES, PageIndex};

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the pager into the pages.
    Get,
    /// From the pages to the pager.
    Put,
}

/// What is known of one page of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageOutcome {
    /// The pager has said nothing.
    Untouched,
    /// Moved, whole.
    Done,
    /// Not moved.
    Failed,
}

const UNTOUCHED: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// What the engine asks for.
#[derive(Clone, Copy, Debug)]
pub struct IoPlan {
    /// Which way.
    pub direction: Direction,
    /// The index of the first page.
    pub first: PageIndex,
    /// Which page of the run must be moved: an index into the run.
    pub required: usize,
    /// The object's size in bytes: nothing at or beyond it is written, and it reads as zeros.
    pub object_size: u64,
    /// The engine is short of memory: the pager should not allocate.
    pub reclaiming: bool,
    /// It is made in a signal handler: the pager must answer at once, and do only what is async-signal-safe.
    pub in_signal: bool,
}

/// One request. Shared by the engine and whoever completes it.
#[derive(Debug)]
pub struct Io {
    plan: IoPlan,
    bytes: Vec<NonNull<u8>>,
    outcomes: Vec<AtomicU8>,
    state: FrameLock<State>,
    /// Set to complete only after `state`.
    pub(crate) awaited: Awaited,
    /// Rung on completion if nobody waits for it.
    bell: Option<Arc<Bell>>,
}

/// Under its lock, so that bytes are touched here only while they are lent.
#[derive(Debug)]
enum State {
    /// With the request that completes with it, if there is one.
    UnderWay(Option<Arc<Io>>),
    Completed(Result<(), PagerError>),
    Settled,
}

// SAFETY: the addresses point at bytes that belong, until completion, to whoever works on the request, on any thread;
// everything else in it is Send.
unsafe impl Send for Io {}
// SAFETY: as for Send; shared access reads addresses, and the bytes are only touched under `state`'s lock here.
unsafe impl Sync for Io {}

impl Io {
    /// A request over lent bytes. Nothing when memory is short.
    pub(crate) fn new(plan: IoPlan, loan: &Loan, bell: Option<Arc<Bell>>) -> Option<Self> {
        debug_assert!(plan.required < loan.bytes().len());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(loan.bytes().len()).ok()?;
        bytes.extend_from_slice(loan.bytes());
        let mut outcomes = Vec::new();
        outcomes.try_reserve_exact(bytes.len()).ok()?;
        outcomes.resize_with(bytes.len(), || AtomicU8::new(UNTOUCHED));
        Some(Self {
            plan,
            bytes,
            outcomes,
            state: FrameLock::new(State::UnderWay(None)),
            awaited: Awaited::new(),
            bell,
        })
    }

    /// A request over the caller's own bytes, for kits that drive a pager without an engine. Nothing when memory is short.
    ///
    /// # Safety
    /// Each of `bytes` is the start of [`PAGE_BYTES`] bytes that may be read and written until the request has completed,
    /// and that nobody else touches meanwhile. `plan.required` is less than their number.
    pub unsafe fn detached(plan: IoPlan, bytes: Vec<NonNull<u8>>) -> Option<Self> {
        // SAFETY: the caller's contract is the loan's; it is never taken back by a machine.
        Self::new(plan, &unsafe { Loan::new(bytes, Purpose::Fill, 0) }, None)
    }

    /// Which way the bytes go.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.plan.direction
    }

    /// The index, in the object, of the run's first page.
    #[must_use]
    pub fn first(&self) -> PageIndex {
        self.plan.first
    }

    /// Pages in the run, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// The page that must be moved, as an index into the run.
    #[must_use]
    pub fn required(&self) -> usize {
        self.plan.required
    }

    /// The object's size in bytes. Bytes at and beyond it read as zeros and are never written.
    #[must_use]
    pub fn object_size(&self) -> u64 {
        self.plan.object_size
    }

    /// Whether the engine is short of memory and this request frees some.
    #[must_use]
    pub fn is_reclaiming(&self) -> bool {
        self.plan.reclaiming
    }

    /// Whether it is made in a signal handler, so that it must be answered at once. Only for pagers with
    /// [`PagerOps::SIGNAL_SAFE`](crate::pager::PagerOps::SIGNAL_SAFE).
    #[must_use]
    pub fn is_in_signal(&self) -> bool {
        self.plan.in_signal
    }

    /// The address of page `i`'s bytes, [`PAGE_BYTES`] of them: the pager's until completion. For a put they must not be written.
    ///
    /// # Panics
    /// If `i` is not less than [`Io::len`].
    #[must_use]
    pub fn bytes(&self, i: usize) -> NonNull<u8> {
        self.bytes[i]
    }

    /// Copies `from` into page `i` from its start and fills the rest with zeros: the whole of a get, for pagers in Rust.
    ///
    /// # Panics
    /// If `i` is not less than [`Io::len`], `from` is longer than a page, the request is a put, or it has completed.
    pub fn fill(&self, i: usize, from: &[u8]) {
        assert!(from.len() <= PAGE_BYTES && self.plan.direction == Direction::Get);
        let state = self.state.lock();
        assert!(
            matches!(*state, State::UnderWay(_)),
            "filled a page of a request that has completed"
        );
        // SAFETY: under way, so the page's PAGE_BYTES bytes are lent, and completion waits for the lock we hold.
        unsafe {
            let to = self.bytes(i).as_ptr();
            to.copy_from_nonoverlapping(from.as_ptr(), from.len());
            to.add(from.len()).write_bytes(0, PAGE_BYTES - from.len());
        }
        drop(state);
        self.page_done(i);
    }

    /// Copies the first bytes of page `i` to `to`: for pagers in Rust.
    ///
    /// # Panics
    /// If `i` is not less than [`Io::len`], `to` is longer than a page, or the request has completed.
    pub fn copy_to(&self, i: usize, to: &mut [u8]) {
        assert!(to.len() <= PAGE_BYTES);
        let state = self.state.lock();
        assert!(
            matches!(*state, State::UnderWay(_)),
            "read a page of a request that has completed"
        );
        // SAFETY: as in `fill`; nobody writes the bytes of a put.
        unsafe { self.bytes(i).as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
        drop(state);
    }

    /// Page `i` was moved, whole. After completion this says nothing any more.
    pub fn page_done(&self, i: usize) {
        self.mark(i, DONE);
    }

    /// Page `i` was not moved. After completion this says nothing any more.
    pub fn page_failed(&self, i: usize) {
        self.mark(i, FAILED);
    }

    fn mark(&self, i: usize, outcome: u8) {
        let state = self.state.lock();
        if matches!(*state, State::UnderWay(_)) {
            self.outcomes[i].store(outcome, Ordering::Release);
        }
    }

    /// The engine found that page `i` was not moved, whatever the pager said. After completion.
    pub(crate) fn overrule(&self, i: usize) {
        self.outcomes[i].store(FAILED, Ordering::Release);
    }

    /// What is known of page `i`.
    #[must_use]
    pub fn outcome(&self, i: usize) -> PageOutcome {
        match self.outcomes[i].load(Ordering::Acquire) {
            DONE => PageOutcome::Done,
            FAILED => PageOutcome::Failed,
            _ => PageOutcome::Untouched,
        }
    }

    /// Completes the request: records the answer and wakes whoever waits. Any thread. Only the first call counts; the
    /// answer tells whether this was it.
    pub fn complete(&self, answer: Result<(), PagerError>) -> bool {
        let then = {
            let mut state = self.state.lock();
            let State::UnderWay(then) = &mut *state else {
                return false;
            };
            let then = then.take();
            *state = State::Completed(answer);
            then
        };
        if self.awaited.complete()
            && let Some(bell) = &self.bell
        {
            bell.ring();
        }
        if let Some(then) = then {
            then.complete(Err(PagerError::bare(Cause::BrokenPromise)));
        }
        true
    }

    /// Its pager goes on without leave, with bytes that were lent to another request, `outer`: that one completes, failed, when this one
    /// does, and not before.
    pub(crate) fn outlasts(&self, outer: &Arc<Self>) {
        if let State::UnderWay(then) = &mut *self.state.lock() {
            *then = Some(outer.clone());
            return;
        }
        outer.complete(Err(PagerError::bare(Cause::BrokenPromise)));
    }

    /// Whether it has completed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.awaited.is_complete()
    }

    /// Sleeps until the request has completed, and takes its answer. No lock may be held.
    ///
    /// # Errors
    /// The answer.
    ///
    /// # Panics
    /// When the answer has been taken before.
    pub fn wait(&self) -> Result<(), PagerError> {
        self.awaited.wait_until(&Deadline::NEVER);
        match core::mem::replace(&mut *self.state.lock(), State::Settled) {
            State::Completed(answer) => answer,
            State::UnderWay(_) | State::Settled => unreachable!("waited twice for one request"),
        }
    }
}
