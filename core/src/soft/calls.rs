//! How often the machine was called, for tests, and calls that are told to fail.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::machine::NotEntered;
use crate::sync::FrameLock;

/// How often each operation was called. Exact while no operation is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calls {
    /// Calls of `enter`, by the leaf tables that they began in.
    pub enters: u64,
    /// Mappings made by `enter`.
    pub pages_entered: u64,
    /// Calls of `remove`.
    pub removes: u64,
    /// Calls of `protect`.
    pub protects: u64,
    /// Calls of `page_protect`.
    pub page_protects: u64,
    /// Pages in those calls.
    pub pages_protected: u64,
    /// Calls of `frames_free`.
    pub frees: u64,
    /// Calls of `page_referenced`.
    pub referenced_tests: u64,
    /// Loans made.
    pub lends: u64,
}

/// The counters of everything but `enter`, which counts in the leaf table it has locked anyway.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Of address spaces that are gone.
    pub(super) enters: AtomicU64,
    pub(super) pages_entered: AtomicU64,
    pub(super) removes: AtomicU64,
    pub(super) protects: AtomicU64,
    pub(super) page_protects: AtomicU64,
    pub(super) pages_protected: AtomicU64,
    pub(super) frees: AtomicU64,
    pub(super) referenced_tests: AtomicU64,
    pub(super) lends: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Calls {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Calls {
            enters: of(&self.enters),
            pages_entered: of(&self.pages_entered),
            removes: of(&self.removes),
            protects: of(&self.protects),
            page_protects: of(&self.page_protects),
            pages_protected: of(&self.pages_protected),
            frees: of(&self.frees),
            referenced_tests: of(&self.referenced_tests),
            lends: of(&self.lends),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What an [`Injection`] makes fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Entering a page, for this reason. Counted by pages, so that a run can be cut short. Without `can_fail` an injected
    /// shortage panics, as a real one does (S200).
    Enter(NotEntered),
    /// Allocating a frame, and `rehome`: there is none.
    Frame,
    /// Lending bytes: there is no memory.
    Lend,
    /// Keeping what was lent to be filled: there is no memory.
    TakeBack,
}

/// Failures that a test orders: `after` more calls succeed, then `times` calls fail, then all succeed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injection {
    /// What fails.
    pub failure: Failure,
    /// How many calls go well before.
    pub after: u64,
    /// How many calls fail; none takes an earlier order back.
    pub times: u64,
}

/// The orders that stand, one for each kind of call.
#[derive(Debug)]
pub(super) struct Injections {
    /// Whether there may be any, so that calls which are not told to fail take no lock here.
    armed: AtomicBool,
    standing: FrameLock<[Option<Injection>; 4]>,
}

impl Injections {
    pub(super) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            standing: FrameLock::new([None; 4]),
        }
    }

    pub(super) fn order(&self, injection: Injection) {
        self.standing.lock()[place_of(injection.failure)] = Some(injection);
        self.armed.store(true, Ordering::Release);
    }

    /// Whether the page that is being entered is to be refused.
    #[inline]
    pub(super) fn enter(&self) -> Option<NotEntered> {
        match self.due(place_of(Failure::Enter(NotEntered::Shortage)))? {
            Failure::Enter(why) => Some(why),
            Failure::Frame | Failure::Lend | Failure::TakeBack => None,
        }
    }

    /// Whether a frame is to be refused.
    pub(super) fn frame(&self) -> bool {
        self.due(place_of(Failure::Frame)).is_some()
    }

    /// Whether a loan is to be refused.
    pub(super) fn lend(&self) -> bool {
        self.due(place_of(Failure::Lend)).is_some()
    }

    /// Whether filled bytes are not to be kept.
    pub(super) fn take_back(&self) -> bool {
        self.due(place_of(Failure::TakeBack)).is_some()
    }

    #[inline]
    fn due(&self, place: usize) -> Option<Failure> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut standing = self.standing.lock();
        let order = standing[place].as_mut()?;
        if order.after > 0 {
            order.after -= 1;
            return None;
        }
        let failure = order.failure;
        let due = order.times > 0;
        order.times = order.times.saturating_sub(1);
        if order.times == 0 {
            standing[place] = None;
        }
        due.then_some(failure)
    }
}

fn place_of(failure: Failure) -> usize {
    match failure {
        Failure::Enter(_) => 0,
        Failure::Frame => 1,
        Failure::Lend => 2,
        Failure::TakeBack => 3,
    }
}
