//! The clock with two hands (N8): what BSD systems have done since the Vax.

use super::{Lengths, Look, PageName, Policy, Queue, Verdict};

/// New pages are active. While the inactive queue holds less than a third of all pages, the oldest active page is
/// deactivated, unless it was used since the last sweep (S185); the oldest inactive page goes, unless it was used since
/// it was deactivated (S183).
#[derive(Debug, Default)]
pub struct Clock(());

impl Clock {
    /// A clock.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }
}

/// The inactive queue's share of both, in percent.
const INACTIVE_SHARE: u64 = 33;

impl Policy for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn admit(&mut self, _page: PageName) -> Queue {
        Queue::Active
    }

    fn hand(&self, lengths: Lengths) -> Queue {
        let all = lengths.active + lengths.inactive;
        // More than the free target, so that one round of the daemon does not empty it; but never all there is.
        let wanted = (all * INACTIVE_SHARE / 100).max(lengths.free_target + 1).min(all / 2);
        if lengths.inactive < wanted {
            Queue::Active
        } else {
            Queue::Inactive
        }
    }

    fn judge(&mut self, look: Look) -> Verdict {
        match (look.queue, look.referenced) {
            (Queue::Active, true) => Verdict::Keep,
            (Queue::Active, false) => Verdict::Deactivate,
            (_, true) => Verdict::Activate,
            (_, false) => Verdict::Evict,
        }
    }

    fn evicted(&mut self, _page: PageName, _from: Queue) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n8_the_inactive_queue_is_kept_at_a_third_and_above_the_free_target() {
        let hand = |active, inactive, free_target| {
            Clock::new().hand(Lengths {
                active,
                inactive,
                free_target,
            })
        };
        assert_eq!(hand(68, 32, 0), Queue::Active);
        assert_eq!(hand(67, 33, 0), Queue::Inactive);
        assert_eq!(hand(60, 40, 40), Queue::Active, "less than the daemon is to free");
        assert_eq!(hand(50, 50, 80), Queue::Inactive, "never more than half");
    }
}
