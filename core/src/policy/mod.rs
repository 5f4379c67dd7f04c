//! Which page goes next: replacement policies, chosen when an engine is created.
//!
//! A policy only decides. The pages stand on the queues of [`page_queues`](crate::page_queues), which ask it where a new page begins,
//! which queue to look at, and what becomes of the page that was found there; it is told whether that page was used since the last look. It never
//! sees a page, takes no lock (it is under the queues'), and blocks on nothing. So the simulator of `policy/simulator.rs` runs the very same code.
//!
//! - [`Clock`]: two hands, as NetBSD has it (N8). New pages are active; the inactive queue is kept at a third.
//! - [`S3Fifo`]: a short probation and a long main queue, and a memory of who was turned away.
//!
//! # What they are worth
//!
//! Share of accesses that found their page, in percent; 1000 pages of memory. The referenced bit is all that either policy
//! sees; LRU sees every access, and Belady's optimum the future. Printed by
//! `cargo test -p quire-core policy::simulator -- --nocapture`.
//!
//! A machine is asked to unmap many pages at once, so the page daemon takes 64 at a time, neighbours first that the policy has kept once on the
//! inactive queue and that were not used since ("by 64"). Here that is a sixteenth of memory that is free for a while, which is
//! what it costs; that neighbours go early costs nothing.
//!
//! ```text
#![doc = include_str!("measured.txt")]
//! ```

mod clock;
mod ghosts;
mod s3_fifo;
#[cfg(test)]
mod simulator;

use alloc::boxed::Box;
use core::fmt::Debug;

pub use clock::Clock;
pub use s3_fifo::S3Fifo;

pub use crate::page::Queue;
use crate::types::{ObjectId, PageIndex};

/// A page's name: its object and its index there. Names are not used again by other pages while the process lives.
pub type PageName = (ObjectId, PageIndex);

/// How many pages there are on the queues that a policy chooses from, and what is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lengths {
    /// On the active queue.
    pub active: u64,
    /// On the inactive queue.
    pub inactive: u64,
    /// How many free frames the page daemon is after.
    pub free_target: u64,
}

/// The oldest page of a queue, as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The queue: active or inactive.
    pub queue: Queue,
    /// Whether it was used since the last look. The mark is taken away by looking.
    pub referenced: bool,
    /// Whether it was looked at before, since it came on this queue.
    pub again: bool,
}

/// What becomes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes to the young end of the same queue.
    Keep,
    /// It goes to the young end of the active queue.
    Activate,
    /// It goes to the young end of the inactive queue.
    Deactivate,
    /// It goes, unless it turns out to be in use, or after it was written if it is dirty.
    Evict,
}

/// A replacement policy.
pub trait Policy: Send + Debug {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Where a page that has just been filled begins: active or inactive.
    fn admit(&mut self, page: PageName) -> Queue;

    /// Which queue's oldest page is looked at next, when one is to be taken. If that queue is empty the other one is looked at.
    fn hand(&self, lengths: Lengths) -> Queue;

    /// What becomes of the page that was found.
    fn judge(&mut self, look: Look) -> Verdict;

    /// A page that was judged to go has gone. `from` is the queue it was on.
    fn evicted(&mut self, page: PageName, from: Queue);
}

/// The policies that an engine can be created with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PolicyKind {
    /// [`Clock`].
    Clock,
    /// [`S3Fifo`].
    #[default]
    S3Fifo,
}

impl PolicyKind {
    /// A policy of this kind for a machine with so many frames.
    #[must_use]
    pub fn make(self, frames: u64) -> Box<dyn Policy> {
        match self {
            Self::Clock => Box::new(Clock::new()),
            Self::S3Fifo => Box::new(S3Fifo::new(frames)),
        }
    }
}
