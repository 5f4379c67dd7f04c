//! The open file that requests move bytes of, shared between its object and the requests that are under way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use quire_pager::Result;

use crate::open;
use crate::stats::Stats;

/// What can be paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    BlockDevice,
}

/// A second descriptor of the file, which goes past the page cache, and what it demands.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) fd: OwnedFd,
    /// What addresses are multiples of.
    pub(crate) memory: usize,
    /// What offsets and lengths are multiples of.
    pub(crate) offset: u64,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) fd: OwnedFd,
    pub(crate) direct: Option<Direct>,
    pub(crate) kind: Kind,
    pub(crate) writable: bool,
    pub(crate) page_size: u64,
    /// Whether the file can be asked for what the page cache has. Until it refuses.
    pub(crate) peeks: AtomicBool,
    pub(crate) stats: Arc<Stats>,
    pub(crate) under_way: Arc<UnderWay>,
}

impl Backing {
    /// The size in bytes as it is now.
    pub(crate) fn length(&self) -> Result<u64> {
        open::length(&self.fd, self.kind)
    }

    /// Nothing at or beyond this byte may be written.
    pub(crate) fn end_for_writes(&self) -> Result<u64> {
        match self.kind {
            Kind::Regular => self.length(),
            // Its size does not change, and nothing makes it longer.
            Kind::BlockDevice => Ok(u64::MAX),
        }
    }

    /// Whether bytes at this offset and address, so many, can go past the page cache.
    pub(crate) fn takes_direct(&self, offset: u64, address: usize, len: usize) -> bool {
        self.direct.as_ref().is_some_and(|direct| {
            address.is_multiple_of(direct.memory)
                && offset.is_multiple_of(direct.offset)
                && (len as u64).is_multiple_of(direct.offset)
        })
    }

    pub(crate) fn descriptor(&self, direct: bool) -> BorrowedFd<'_> {
        match &self.direct {
            Some(file) if direct => file.fd.as_fd(),
            _ => self.fd.as_fd(),
        }
    }
}

/// Counts the pending requests of an object, for `close` to wait on.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    count: Mutex<usize>,
    none: Condvar,
}

impl UnderWay {
    /// Waits until there is none.
    pub(crate) fn drain(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.none.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A pending request's use of a file. While it lives, `close` waits.
#[derive(Debug)]
pub(crate) struct InUse {
    // Dropped in this order: when `close` has waited, the descriptors are the object's alone.
    backing: Arc<Backing>,
    _ticket: Ticket,
}

#[derive(Debug)]
struct Ticket(Arc<UnderWay>);

impl InUse {
    pub(crate) fn begin(backing: &Arc<Backing>) -> Self {
        let under_way = backing.under_way.clone();
        *under_way.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self {
            backing: backing.clone(),
            _ticket: Ticket(under_way),
        }
    }
}

impl std::ops::Deref for InUse {
    type Target = Backing;
    fn deref(&self) -> &Backing {
        &self.backing
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}
