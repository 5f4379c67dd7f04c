//! Objects by the names that the host has for them, and the taking back of their pages.

use std::ops::{Bound, RangeBounds};

use quire_abi::{QUIRE_PAGER_INVALID, QUIRE_PAGER_OK, QUIRE_PAGER_STALE, QUIRE_REVOKE_DISCARD, QUIRE_REVOKE_FAIL};

use crate::error::{Error, Result};
use crate::host::Host;

/// An open object, as the host names it: what [`OpenRequest::host_object`](crate::OpenRequest::host_object) answers. A number: it keeps nothing
/// open, no other opening ever has the same, and it may be used on any thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostObject(u64);

impl HostObject {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }

    /// The number that the host's services are given; 0 with a host that is older than such names are.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The number, from a host that gives names.
    pub(crate) fn known(self) -> Result<u64> {
        match self.0 {
            0 => Err(Error::unsupported(
                "this host has no names for objects, by which its services could be told one; use a newer host",
            )),
            number => Ok(number),
        }
    }
}

/// How [`Host::revoke`] takes pages back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokeFlags(u32);

impl RevokeFlags {
    /// What is dirty is written first, and the next access faults again.
    pub const NONE: Self = Self(0);
    /// What is dirty is given up.
    pub const DISCARD: Self = Self(QUIRE_REVOKE_DISCARD);
    /// From now on every access to the object that finds no mapping fails, as long as it is open. For the whole object (`..`) only.
    pub const FAIL: Self = Self(QUIRE_REVOKE_FAIL);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Host {
    /// Takes pages of an object back, those of `range` (`..`: all): removes their mappings in every map and frees them (F22). An empty range is
    /// none. On any thread, but not inside an operation of the same object.
    ///
    /// May block for as long as others have the pages busied, and for as long as the object's own `put` does, which writes what is dirty.
    ///
    /// # Errors
    /// `STALE`: the object is closed, or its `open` has not answered yet; `-EDEADLK`: inside an operation of the same object; `INVALID`:
    /// [`RevokeFlags::FAIL`] for less than the whole; `UNSUPPORTED`: the host has no such service; otherwise an error of the writing, after which
    /// what is dirty is still there.
    pub fn revoke(&self, object: HostObject, range: impl RangeBounds<u64>, flags: RevokeFlags) -> Result<()> {
        let (call, revoke) = self.service("revoke", |api| api.revoke)?;
        let object = object.known()?;
        let pages = pages_of(&range);
        if flags.contains(RevokeFlags::FAIL) && pages != Some((0, 0)) {
            return Err(Error::invalid(
                "only a whole object can be revoked for good; pass the range `..` with FAIL",
            ));
        }
        let Some((first, count)) = pages else { return Ok(()) };
        // SAFETY: the call's service, with its host.
        let status = unsafe { revoke(call.host(), object, first, count, flags.0) };
        match status {
            QUIRE_PAGER_OK => Ok(()),
            QUIRE_PAGER_STALE => Err(Error::with_status(
                status,
                "revoke: the object is not open: it is closed, or its open has not answered yet",
            )),
            QUIRE_PAGER_INVALID => Err(Error::invalid(
                "revoke: the host does not take this range or these flags",
            )),
            DEADLOCK => Err(Error::with_status(
                status,
                "revoke was called inside an operation of the same object, whose pages it would wait for; call it on another thread",
            )),
            _ => Err(Error::with_status(
                status,
                format!(
                    "revoke: status {status}: what is dirty could not be written, and is still there; the host's log says why"
                ),
            )),
        }
    }
}

/// `-EDEADLK`.
const DEADLOCK: i32 = -35;

/// A range as the ABI has it, first and count, where a count of 0 means to the end; nothing for an empty one.
fn pages_of(range: &impl RangeBounds<u64>) -> Option<(u64, u64)> {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(*end),
        Bound::Unbounded => None,
    };
    match end {
        None => Some((first, 0)),
        Some(end) => (first < end).then(|| (first, end - first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_told_as_first_and_count_and_an_empty_one_never_means_to_the_end() {
        assert_eq!(pages_of(&(..)), Some((0, 0)));
        assert_eq!(pages_of(&(5..)), Some((5, 0)));
        assert_eq!(pages_of(&(5..=u64::MAX)), Some((5, 0)));
        assert_eq!(pages_of(&(2..5)), Some((2, 3)));
        assert_eq!(pages_of(&(2..=5)), Some((2, 4)));
        assert_eq!(pages_of(&(..5)), Some((0, 5)));
        assert_eq!(pages_of(&(0..0)), None);
        assert_eq!(pages_of(&(7..7)), None);
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is tried")]
        let reversed = 7..3;
        assert_eq!(pages_of(&reversed), None);
        assert_eq!(pages_of(&(Bound::Excluded(u64::MAX), Bound::Unbounded)), None);
    }
}
