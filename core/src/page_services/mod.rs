//! Pages by hand: the busy protocol, and what is done to a page under it, for those who keep no guard: C callers, and drivers
//! from threads of their own (rows S239 to S250, F7, F8, F17).
//!
//! # A page's handle
//!
//! A [`PageHandle`] is a page's address and 16 bits of its version (S143). Page structs are type-stable, so a handle may be kept for ever:
//! each step compares the versions, and answers [`PageError::Stale`] when the page was freed since, also if another page has its
//! struct by then. A handle alone keeps nothing in memory; busying the page does, and wiring it.
//!
//! # Who may do what
//!
//! A step names the state that it needs, and in any other one it changes nothing and answers [`PageError::Misuse`] with a
//! sentence, or ends the process, as [`checking`](set_checking) has it. What the engine, or a guard, has busied is never a
//! caller's: it cannot be unbusied, changed or freed by hand. Of those who busy by hand, which thread has the page is not
//! known, as in the tables this follows (D12).
//!
//! | | needs |
//! |---|---|
//! | unbusying, downgrading, upgrading | the mode in question |
//! | bytes, wiring | busied in either mode; writing an unfilled page: exclusively |
//! | marking it filled or clean, moving it, freeing it | exclusively |
//! | questions, taking wirings back | nothing |
//!
//! The steps that are needed most (try to busy, unbusy a page that stands where it belongs, and all questions of its state) touch
//! nothing but the page. All others find its object through a table of those that pages were handed out of.
//!
//! | file | holds |
//! |---|---|
//! | `handle` | handles |
//! | `busy`, `quick` | the protocol, and the short way of its most frequent steps |
//! | `sleeping` | waiting for a page, and who does |
//! | `state` | filled, dirty, wired; the bytes |
//! | `grab` | looking up and grabbing |
//! | `moving` | out of an object, into one, from one to another |
//! | `held` | a fault that keeps its page |
//! | `lock` | the lock of an object, for those who want one (S241) |
//! | `checking` | what becomes of wrong use |
//! | `exposed` | objects that pages were handed out of |

mod busy;
mod checking;
mod exposed;
mod grab;
mod handle;
mod held;
mod lock;
mod moving;
mod quick;
mod sleeping;
mod state;

use crate::error::Error;

pub use checking::{Checking, checking, report, set_checking, set_reporter};
pub(crate) use exposed::forget;
pub use grab::GrabFlags;
pub use handle::PageHandle;
pub(crate) use lock::HandLock;
pub use lock::{lock_object, try_lock_object, unlock_object};
pub use sleeping::{Sleeper, sleepers};

/// The answer of a step.
pub type Answer<T = ()> = Result<T, PageError>;

/// Why a step was not taken. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PageError {
    /// It is no handle of a page.
    #[error("{0}")]
    NoHandle(&'static str),
    /// The page was freed since the handle was given.
    #[error("the page was freed since its handle was given; look it up again")]
    Stale,
    /// The rules were broken: what, and what to do.
    #[error("{0}")]
    Misuse(&'static str),
    /// Somebody has the page busied, or it would have to be waited for.
    #[error("the page is busied by others, or has to be waited for, and the caller asked not to wait")]
    Busy,
    /// The page is not in memory.
    #[error("the page is not in memory, and was not to be made")]
    Absent,
    /// There is a page already.
    #[error("there is a page in memory at that place already; free it or move it first")]
    Occupied,
    /// The object ends before it.
    #[error("the object ends before that page")]
    BeyondObject,
    /// Something else: the pager, memory.
    #[error("{0}")]
    Failed(#[from] Error),
}

/// Who asks: it decides what may be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A program. Pagers may be called for it.
    Program,
    /// A pager, perhaps inside one of its operations: no pager is called for it, and memory that is short is not waited for.
    Pager,
}
