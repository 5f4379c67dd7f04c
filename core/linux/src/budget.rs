//! How many frames there are, and how many are used: the engine's budget.

use core::sync::atomic::{AtomicU64, Ordering};

use quire_core::machine::{FrameCounts, Reserve};

/// Counts frames against what was given.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    reserve_daemon: u64,
    reserve_kernel: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(total: u64, reserve_daemon: u64, reserve_kernel: u64) -> Self {
        Self {
            total,
            reserve_daemon,
            reserve_kernel,
            used: AtomicU64::new(0),
        }
    }

    /// Takes one frame, if those that `reserve` may reach are not used up (S190).
    pub(crate) fn take(&self, reserve: Reserve) -> bool {
        let held_back = match reserve {
            Reserve::Ordinary => self.reserve_daemon + self.reserve_kernel,
            Reserve::Kernel => self.reserve_daemon,
            Reserve::Daemon => 0,
        };
        let most = self.total.saturating_sub(held_back);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                (used < most).then_some(used + 1)
            })
            .is_ok()
    }

    pub(crate) fn give(&self, frames: u64) {
        let before = self.used.fetch_sub(frames, Ordering::AcqRel);
        debug_assert!(before >= frames, "more frames were given back than were taken");
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            total: self.total,
            free: self.total.saturating_sub(self.used.load(Ordering::Acquire)),
            reserved: self.reserve_daemon + self.reserve_kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s190_each_reserve_level_of_the_budget_stops_where_the_next_goes_on() {
        let budget = Budget::new(10, 2, 3);
        let taken = |reserve| {
            std::iter::repeat_with(|| budget.take(reserve))
                .take_while(|had| *had)
                .count()
        };
        assert_eq!(taken(Reserve::Ordinary), 5);
        assert_eq!(taken(Reserve::Kernel), 3);
        assert_eq!(taken(Reserve::Daemon), 2);
        let counts = budget.counts();
        assert_eq!((counts.total, counts.free, counts.reserved), (10, 0, 5));
        budget.give(2);
        assert!(!budget.take(Reserve::Ordinary) && !budget.take(Reserve::Kernel));
        budget.give(1);
        assert!(budget.take(Reserve::Kernel) && !budget.take(Reserve::Kernel));
    }
}
