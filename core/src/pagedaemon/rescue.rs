//! Threads that write pages in order to free them: they may use the frames that are held back, so that they always get on.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sync::current_thread;

/// As many as may write at the same time with the reserve's help; more may write without it.
const MOST: usize = 16;

/// The threads that are at it. Also used for those that write for other reasons, see [`Memory::writing`](super::Memory::writing).
#[derive(Debug)]
pub(super) struct Rescuers {
    threads: [AtomicU64; MOST],
    rescues: AtomicU64,
}

/// The calling thread is one of them as long as this lives.
#[derive(Debug)]
pub(crate) struct Rescuing<'a>(Option<&'a AtomicU64>);

impl Rescuers {
    pub(super) fn new() -> Self {
        Self {
            threads: [const { AtomicU64::new(0) }; MOST],
            rescues: AtomicU64::new(0),
        }
    }

    pub(super) fn enter(&self) -> Rescuing<'_> {
        let me = current_thread();
        if self.contains_me() {
            return Rescuing(None);
        }
        Rescuing(self.threads.iter().find(|place| {
            place
                .compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }))
    }

    /// Whether the calling thread is one of them. Only it can put its own number here.
    pub(super) fn contains_me(&self) -> bool {
        let me = current_thread();
        self.threads.iter().any(|place| place.load(Ordering::Relaxed) == me)
    }

    pub(super) fn count_rescue(&self) {
        self.rescues.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rescues(&self) -> u64 {
        self.rescues.load(Ordering::Relaxed)
    }
}

impl Drop for Rescuing<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(0, Ordering::Release);
        }
    }
}
