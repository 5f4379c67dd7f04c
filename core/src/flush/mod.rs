//! Writing dirty pages back, and letting go of clean ones.
//!
//! For each run of dirty pages ([`run`]): busy them, take away the right to write and collect the machine's modified bits,
//! put. What the pager is given does not change while it has it, because every writer needs the page (S80). A page is clean
//! afterwards only if its put succeeded; a failed one stays dirty, and the caller is told (D4, rule 5 of the design). Each
//! page of a run is judged by its own state (D5).
//!
//! Dirty pages are found by their tags, so that a flush walks nothing that is clean. Pages to be deactivated or freed are
//! found by walking the index. Both visit the pages of a range in the order of their indices, and both find the same
//! pages: what a flush does never depends on how it looks for them (S69).

mod durable;
mod put;
#[cfg(test)]
mod put_tests;
mod release;
mod run;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::ops::Range;

use crate::error::{Cause, Error, PagerError, Result};
use crate::machine::MOST_AT_ONCE;
use crate::object::Object;
use crate::sync::assert_no_locks_held;
use crate::types::PageIndex;
pub(crate) use durable::Syncs;

bitflags::bitflags! {
    /// How to flush.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FlushFlags: u32 {
        /// Everything written is durable before the call returns: the pager's `sync` is called.
        const DURABLE = 1;
    }
}

bitflags::bitflags! {
    /// What to do with the pages of a range ([`Object::put`]). The numbers are those of the BSDs' `PGO_` flags (N2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PutFlags: u32 {
        /// Write dirty pages. Only then may the call wait for pages and pagers (S61, S62).
        const CLEANIT = 1;
        /// One request at a time, each waited for (S63). Without it several are under way, and the end waits for all (S90).
        const SYNCIO = 2;
        /// The pages are the next to be taken when memory is short. Wired ones stay where they are (S64, S92).
        const DEACTIVATE = 4;
        /// Free the pages, unless DEACTIVATE is given, which is looked at first (S65, S66). With CLEANIT those that are clean
        /// then; without it *what is dirty is discarded*. Wired pages stay.
        const FREE = 8;
        /// All pages of the object, whatever the range (S67).
        const ALLPAGES = 0x10;
    }
}

/// What a [put](Object::put) did, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Put {
    /// Written.
    pub written: u64,
    /// Made the next to be taken.
    pub deactivated: u64,
    /// Freed.
    pub freed: u64,
    /// To be freed, but wired, or busy in a call that does not wait, or dirtied while it was at it.
    pub kept: u64,
}

/// The longest run of one put, in pages: a machine takes that many at once.
pub(crate) const MAX_RUN: usize = MOST_AT_ONCE;

impl Object {
    /// Writes every dirty page of the object. As [`Object::flush`].
    ///
    /// # Errors
    /// As [`Object::flush`].
    pub fn flush_all(self: &Arc<Self>, flags: FlushFlags) -> Result<()> {
        self.flush(PageIndex(0)..PageIndex(u64::MAX), flags)
    }

    /// Writes the dirty pages of a range and waits for the writes. Pages that fail do not keep others from being written. Of an
    /// object whose contents end with it nothing is written: only the page daemon does that, to make room.
    /// May block; no lock may be held.
    ///
    /// # Errors
    /// [`Error::WriteBack`] with the first failure: the pages that could not be written are kept, dirty, and a later flush
    /// tries them again. [`Error::NoMemory`]. [`Error::Quarantined`]; [`Error::Invalid`] when the object has ended. Of a durable flush, the
    /// pager's answer to sync, also to that of another caller while this one was writing: a sync is owed from then on, without which the
    /// object does not end; and [`Error::InUse`] when called by the pager from inside its sync of this object.
    pub fn flush(self: &Arc<Self>, range: Range<PageIndex>, flags: FlushFlags) -> Result<()> {
        if self.is_transient() {
            return Ok(());
        }
        let before = self.failed_syncs();
        self.put(range, PutFlags::CLEANIT)?;
        if flags.contains(FlushFlags::DURABLE) {
            self.make_durable(before)?;
        }
        Ok(())
    }

    /// Does with the pages of `range` what `flags` say: writes, deactivates, frees. A range that ends beyond the object ends
    /// with it (D9), one that is empty or flags that say nothing change nothing (S151, S152). With
    /// [`PutFlags::CLEANIT`] it may block; without, it waits for nothing but locks. It makes nothing durable: a sync that is owed
    /// stays owed. No lock may be held.
    ///
    /// # Errors
    /// As [`Object::flush`]. Pages that could not be written stay, dirty, also if they were to be freed (S89 is superseded);
    /// all others were dealt with.
    pub fn put(self: &Arc<Self>, range: Range<PageIndex>, flags: PutFlags) -> Result<Put> {
        assert_no_locks_held("flushing an object");
        let range = if flags.contains(PutFlags::ALLPAGES) {
            PageIndex(0)..PageIndex(u64::MAX)
        } else {
            range
        };
        let mut done = Put::default();
        let mut failure = None;
        if flags.contains(PutFlags::CLEANIT) && !self.is_transient() {
            (done.written, failure) = self.clean(range.clone(), flags.contains(PutFlags::SYNCIO));
        }
        if flags.contains(PutFlags::DEACTIVATE) {
            done.deactivated = self.deactivate(range);
        } else if flags.contains(PutFlags::FREE) {
            (done.freed, done.kept) = self.free_range(range, flags.contains(PutFlags::CLEANIT));
        }
        match failure {
            None => Ok(done),
            Some(Error::Pager(error)) => Err(self.not_written(error)),
            Some(error) => Err(error),
        }
    }

    /// Pages that are known to be dirty. Those mapped writable may be as well.
    #[must_use]
    pub fn dirty_pages(&self) -> u64 {
        self.lock().dirty_pages()
    }

    /// As what the caller has to know: the pages are kept, dirty.
    pub(crate) fn as_write_back(&self, error: Error) -> Error {
        match error {
            Error::Pager(error) => self.not_written(error),
            Error::NoMemory => self.not_written(PagerError::new(
                Cause::NoMemory,
                format_args!("there was no memory to write them; free some and try again"),
            )),
            other => other,
        }
    }

    fn not_written(&self, error: PagerError) -> Error {
        Error::WriteBack {
            object: self.describe(),
            pages: self.dirty_pages(),
            error,
        }
    }
}
