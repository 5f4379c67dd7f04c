//! Status codes: one numbering for every operation in both directions.
//!
//! 0 to 5 are FreeBSD's numbers (S179), 6 and 7 UVM's two further ones, 64 and up are Quire's own. A negative status is
//! an error with a cause: the negated `errno` value of the system (`-EIO`, `-ENOSPC`, …).
//! A status outside this list is a broken promise: the host logs it and quarantines the object.

/// Done.
pub const QUIRE_PAGER_OK: i32 = 0;
/// Out of the accepted range: the index lies outside the object. From `populate`: use the ordinary path.
pub const QUIRE_PAGER_BAD: i32 = 1;
/// In range, but the page is not there and cannot be made.
pub const QUIRE_PAGER_FAIL: i32 = 2;
/// Started; `complete` will follow, exactly once. Only allowed when the request carries `QUIRE_IO_MAY_PEND`.
pub const QUIRE_PAGER_PEND: i32 = 3;
/// An input or output error.
pub const QUIRE_PAGER_ERROR: i32 = 4;
/// Short of some resource at the moment; the same request may succeed later.
pub const QUIRE_PAGER_AGAIN: i32 = 5;
/// UVM's "could not do it with the object locked" (EBUSY). Kept for its number; no operation of this ABI answers it.
pub const QUIRE_PAGER_UNLOCK: i32 = 6;
/// UVM's "start the fault again" (ERESTART). From `populate`: the fault starts over.
pub const QUIRE_PAGER_REFAULT: i32 = 7;
/// This pager does not do that.
pub const QUIRE_PAGER_UNSUPPORTED: i32 = 64;
/// A panic or an exception was caught at the border. The object is quarantined.
pub const QUIRE_PAGER_FAULTED: i32 = 65;
/// What the status of a page says before the pager has touched it. Never a correct answer of an operation.
pub const QUIRE_PAGER_UNTOUCHED: i32 = 66;
/// From a host service: the token names no request that is under way (it has completed, or was never one).
pub const QUIRE_PAGER_STALE: i32 = 67;
/// An argument of the call was wrong (a size too small, an unknown flag, a NULL pointer).
pub const QUIRE_PAGER_INVALID: i32 = 68;
/// Memory could not be had.
pub const QUIRE_PAGER_NOMEM: i32 = 69;

/// The request was cancelled: the answer to one whose `cancel` came in time. The same request may succeed later.
pub const QUIRE_PAGER_CANCELLED: i32 = 70;

/// The smallest negative status: `-4095`, as the smallest negated `errno` value.
pub const QUIRE_PAGER_ERRNO_MIN: i32 = -4095;
