//! S3-FIFO on referenced bits: most pages that are used once are never used again, and should go soon.
//!
//! The inactive queue is the *probation*, a tenth of memory, where new pages begin; the active queue is the *main* one.
//! Both are plain queues: a page that was used goes round again, and nothing is moved by a use, which costs nothing.
//! A page that went from probation leaves a *ghost*, its name; if it comes back while the ghost is remembered, it was
//! turned away too soon and begins on the main queue.
//!
//! The original counts uses; a machine has one bit, which the access that brings a page in sets as well. So a page on
//! probation that is found used for the first time only gets another round, and is promoted if it is used in that one.

use super::ghosts::Ghosts;
use super::{Lengths, Look, PageName, Policy, Queue, Verdict};

/// See [the module](self).
#[derive(Debug)]
pub struct S3Fifo {
    ghosts: Ghosts,
}

impl S3Fifo {
    /// A policy for a machine with so many frames: as many ghosts are remembered, if there is memory for them.
    #[must_use]
    pub fn new(frames: u64) -> Self {
        Self {
            ghosts: Ghosts::new(frames),
        }
    }
}

/// The share of memory that probation is allowed before it is looked at first, in percent.
const PROBATION_SHARE: u64 = 10;

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "S3-FIFO"
    }

    fn admit(&mut self, page: PageName) -> Queue {
        if self.ghosts.recall(page) {
            Queue::Active
        } else {
            Queue::Inactive
        }
    }

    fn hand(&self, lengths: Lengths) -> Queue {
        let all = lengths.active + lengths.inactive;
        if lengths.inactive > all * PROBATION_SHARE / 100 {
            Queue::Inactive
        } else {
            Queue::Active
        }
    }

    fn judge(&mut self, look: Look) -> Verdict {
        match (look.queue, look.referenced) {
            (_, false) => Verdict::Evict,
            (Queue::Inactive, true) if look.again => Verdict::Activate,
            (_, true) => Verdict::Keep,
        }
    }

    fn evicted(&mut self, page: PageName, from: Queue) {
        if from == Queue::Inactive {
            self.ghosts.remember(page);
        }
    }
}
