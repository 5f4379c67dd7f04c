//! What the engine asks of a pager.
//!
//! A [`Pager`] here is one opened object's backing: the engine holds one for each object. Plugins come in through the
//! bridge, which puts their table behind this trait; a program in Rust may implement it directly.
//!
//! # Rules of the border
//!
//! - No engine lock is held over a call; only busy pages are, and the object's count of paging in progress (rule 1 of the design).
//! - Every operation may block, and may run on any thread.
//! - The engine checks what it can of every answer. An answer with [`Cause::BrokenPromise`](crate::error::Cause) quarantines the object.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Debug;

use crate::error::PagerError;
use crate::io::Io;
use crate::object::Object;
use crate::populate::Populate;
use crate::types::PageIndex;

bitflags::bitflags! {
    /// What a pager has beyond get and close.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PagerOps: u32 {
        /// Pages can be written back: without it, and without [`PagerOps::FRAMES`], the object is read-only.
        const PUT = 1;
        /// It can say which pages exist, and how many neighbours come cheaply.
        const HAS_PAGE = 2;
        /// Pages come through `populate` first (S212).
        const POPULATE = 4;
        /// It can tell its size anew.
        const SIZE = 8;
        /// Its size can be changed.
        const RESIZE = 16;
        /// It can make what was put durable.
        const SYNC = 32;
        /// It may answer [`Answer::Pending`].
        const ASYNC = 64;
        /// It can be asked to end a pending request soon.
        const CANCEL = 128;
        /// It can tell anew which contents it has.
        const CHANGE = 256;
        /// Get and put can be called in a signal handler, if the request says so ([`Io::is_in_signal`]), and `has_page` always:
        /// they allocate nothing and take no lock then.
        const SIGNAL_SAFE = 512;
        /// It wants to be asked before a clean page is written.
        const PREPARE_WRITE = 1024;
        /// It wants to hear which pages will not be read again until they are put.
        const FREE_SPACE = 2048;
        /// What it holds ends with the object: nothing is written when the object ends, nor by a sync of the engine.
        const TRANSIENT = 4096;
        /// Its pages are frames of a device: they can be written, and nothing is ever put.
        const FRAMES = 8192;
    }
}

/// Which contents a pager has: the number is another one whenever they may have changed other than through the pager
/// itself. It says nothing more, and none is larger than another.
pub type Change = [u64; 2];

/// How an operation on a run answered.
#[derive(Debug)]
pub enum Answer {
    /// It has been done, or has failed.
    Done(Result<(), PagerError>),
    /// It was started; [`Io::complete`] follows, or has been called already.
    Pending,
    /// A broken promise: it goes on although it may not. The bytes stay lent, and the pages are kept aside, until the
    /// request completes, if it ever does (rule 4 of the design).
    Stray(PagerError),
}

/// Neighbours that could come along with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Pages directly before it.
    pub before: u32,
    /// Pages directly after it.
    pub after: u32,
}

/// How populate answered.
#[derive(Debug)]
pub enum Populated {
    /// These pages are there now, all of them, in one piece: from the first to the last.
    Range(PageIndex, PageIndex),
    /// Not this time: take the ordinary path (S221).
    UseGet,
    /// Start the fault again.
    Restart,
    /// The fault fails (S222).
    Failed(PagerError),
}

/// The backing of one object.
pub trait Pager: Send + Sync + Debug {
    /// A name for people: pager and thing, such as `vnode /etc/hosts`.
    fn describe(&self) -> String;

    /// Which optional operations there are. Does not change.
    fn ops(&self) -> PagerOps;

    /// The longest run, in pages, of one request; at least 1.
    fn max_run(&self) -> u32;

    /// Fills the pages of `io`, and says with [`Io::page_done`] which. [`Io::required`] must be among them for an `Ok`.
    fn get(&self, io: &Arc<Io>) -> Answer;

    /// Writes the pages of `io`, whose bytes do not change meanwhile, and says with [`Io::page_done`] which. Never called without [`PagerOps::PUT`].
    fn put(&self, io: &Arc<Io>) -> Answer {
        let _ = io;
        unsupported("put")
    }

    /// Whether the backing has a page. Never called without [`PagerOps::HAS_PAGE`].
    ///
    /// # Errors
    /// The pager's.
    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        let _ = index;
        Ok(Some(Extent::default()))
    }

    /// Installs pages. Never called without [`PagerOps::POPULATE`].
    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let _ = request;
        Populated::UseGet
    }

    /// The size in bytes as it is now. Never called without [`PagerOps::SIZE`].
    ///
    /// # Errors
    /// The pager's.
    fn size(&self) -> Result<u64, PagerError> {
        Err(PagerError::bare(crate::error::Cause::Unsupported))
    }

    /// Which contents it has now; nothing when it cannot tell. Never called without [`PagerOps::CHANGE`].
    ///
    /// # Errors
    /// The pager's.
    fn change(&self) -> Result<Option<Change>, PagerError> {
        Ok(None)
    }

    /// Makes the backing `size` bytes long. Never called without [`PagerOps::RESIZE`].
    ///
    /// # Errors
    /// The pager's.
    fn resize(&self, size: u64) -> Result<(), PagerError> {
        let _ = size;
        Err(PagerError::bare(crate::error::Cause::Unsupported))
    }

    /// Asked before clean pages are written: `count` pages from `first`, which are in memory and filled. After an error nothing is
    /// written there, and the next write asks again. Never called without [`PagerOps::PREPARE_WRITE`].
    ///
    /// # Errors
    /// The pager's; the write fails with it.
    fn prepare_write(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        let _ = (first, count);
        Ok(())
    }

    /// `count` pages from `first` will not be read again until they are put: their backing may be given back. No put or get of
    /// these pages is under way, and none begins before this has returned. Never called without [`PagerOps::FREE_SPACE`].
    ///
    /// # Errors
    /// The pager's. It changes nothing for the engine: the pages count as given back.
    fn free_space(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        let _ = (first, count);
        Ok(())
    }

    /// Makes what was put durable. Never called without [`PagerOps::SYNC`].
    ///
    /// # Errors
    /// The pager's.
    fn sync(&self) -> Result<(), PagerError> {
        Ok(())
    }

    /// Asks that a request which it left pending end soon. It still completes, exactly once, before, during or after this
    /// call: cancelled, or with whatever it came to. Never waits for that. Never called without [`PagerOps::CANCEL`], and at
    /// most once for a request. False if the request is not one of its own, or no longer under way.
    ///
    /// # Errors
    /// The pager's: it cannot be asked now.
    fn cancel(&self, io: &Arc<Io>) -> Result<bool, PagerError> {
        let _ = io;
        Ok(false)
    }

    /// The engine has the opening: `object` was made of it, or is what it has joined. Before any other call, and once, if at all: one
    /// that is not needed is closed at once. A note, to be taken without blocking and without calling out: a lock of the engine
    /// may be held. A strong reference that is kept would keep the object for ever.
    fn attached(&self, object: &Arc<Object>) {
        let _ = object;
    }

    /// Whether it stands on something beside its own pager, which the caller counts as `source` too: the one through which a driver's device
    /// was opened. Such an object counts as one of both ([`Engine::uncache_all_from`](crate::engine::Engine::uncache_all_from)).
    fn relies_on(&self, source: u64) -> bool {
        let _ = source;
        false
    }

    /// The last call: nothing is under way, nothing follows.
    ///
    /// # Errors
    /// The pager's; the object is closed all the same.
    fn close(&self) -> Result<(), PagerError> {
        Ok(())
    }
}

fn unsupported(operation: &str) -> Answer {
    use crate::error::Cause;
    Answer::Done(Err(PagerError::new(
        Cause::Unsupported,
        format_args!("the pager has no operation `{operation}`"),
    )))
}
