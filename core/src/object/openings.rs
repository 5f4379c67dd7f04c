//! The pager's openings of one thing: the first, and one that came later and can write.
//!
//! Whoever opens a thing for writing that is open for reading finds the same object (S28, S30). The opening that can
//! write is kept beside the first one until both are closed, because requests may be under way in either. From then on
//! whatever changes the thing goes to it; what only reads stays with the first. A device's own memory, which is read and written in
//! one place, comes from whoever can write.
//!
//! Here is also remembered which contents the object's clean pages show ([`Change`]). As long as nothing was written, these
//! are the contents that were opened, so that what others write while the object is in use is noticed as well. Once it
//! has written, the pager is asked anew when the object becomes kept ([`Openings::refresh_change`]); what others
//! wrote between its own writes cannot be told from them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::alloc_fallible::try_box;
use crate::error::{PagerError, Result};
use crate::io::Io;
use crate::object::Object;
use crate::pager::{Answer, Change, Extent, Pager, PagerOps, Populated};
use crate::populate::Populate;
use crate::sync::FrameLock;
use crate::types::PageIndex;

/// What takes an opening that can write.
const CHANGES: PagerOps = PagerOps::PUT
    .union(PagerOps::FRAMES)
    .union(PagerOps::RESIZE)
    .union(PagerOps::SYNC)
    .union(PagerOps::PREPARE_WRITE)
    .union(PagerOps::FREE_SPACE);

/// One or two openings, as one pager.
///
/// Invariant: `writer` is null, or came from `Box::into_raw`; once set it is neither changed nor freed before the drop.
#[derive(Debug)]
pub(super) struct Openings {
    first: Box<dyn Pager>,
    writer: AtomicPtr<Option<Box<dyn Pager>>>,
    /// The contents that the clean pages show, as far as the pager tells.
    change: FrameLock<Option<Change>>,
    /// Something was written since `change` was asked for. Set before the pager is called.
    written: AtomicBool,
}

/// An opening that was not kept, to be closed by whoever has it, and why.
pub(super) type NotKept = (Box<dyn Pager>, Result<()>);

impl Openings {
    pub(super) fn new(first: Box<dyn Pager>) -> Self {
        Self {
            first,
            writer: AtomicPtr::new(ptr::null_mut()),
            change: FrameLock::new(None),
            written: AtomicBool::new(false),
        }
    }

    /// The contents that were opened.
    pub(super) fn set_change(&self, change: Option<Change>) {
        *self.change.lock() = change;
    }

    /// Asks for the contents as they are after the object's own writes, if there were any. One that cannot be had fits none.
    pub(super) fn refresh_change(&self) {
        if self.ops().contains(PagerOps::CHANGE) && self.written.swap(false, Ordering::AcqRel) {
            let change = self.change().ok().flatten();
            self.set_change(change);
        }
    }

    /// Whether somebody else may have changed the contents, which an opening of today calls `now`. No, if it tells nothing.
    pub(super) fn has_changed(&self, now: Option<Change>) -> bool {
        let unclear = || self.ops().contains(PagerOps::CHANGE) && self.written.load(Ordering::Acquire);
        now.is_some() && (unclear() || *self.change.lock() != now)
    }

    /// Keeps an opening that can write beside the first one. Gives it back when there is one already, and when memory is short.
    pub(super) fn add_writer(&self, opening: Box<dyn Pager>) -> Result<(), NotKept> {
        // The place first, so that the opening is still there if it cannot be had.
        let mut place = match try_box(None) {
            Ok(place) => place,
            Err(error) => return Err((opening, Err(error))),
        };
        *place = Some(opening);
        let place = Box::into_raw(place);
        match self
            .writer
            .compare_exchange(ptr::null_mut(), place, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(_) => {
                // SAFETY: came from `into_raw` just above, and was not stored.
                let mut place = unsafe { Box::from_raw(place) };
                place.take().map_or(Ok(()), |opening| Err((opening, Ok(()))))
            }
        }
    }

    fn writer(&self) -> Option<&dyn Pager> {
        let writer = self.writer.load(Ordering::Acquire);
        // SAFETY: null, or a box that lives as long as `self` by the invariant.
        unsafe { writer.as_ref() }?.as_deref()
    }

    fn for_changes(&self) -> &dyn Pager {
        self.writer().unwrap_or(&*self.first)
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        let writer = *self.writer.get_mut();
        if !writer.is_null() {
            // SAFETY: from `into_raw` by the invariant, and nobody borrows it any more.
            drop(unsafe { Box::from_raw(writer) });
        }
    }
}

impl Pager for Openings {
    fn describe(&self) -> String {
        self.first.describe()
    }

    fn ops(&self) -> PagerOps {
        let more = self
            .writer()
            .map_or(PagerOps::empty(), |writer| writer.ops().intersection(CHANGES));
        self.first.ops() | more
    }

    fn max_run(&self) -> u32 {
        let first = self.first.max_run();
        self.writer().map_or(first, |writer| first.min(writer.max_run()))
    }

    fn has_large_pages(&self) -> bool {
        self.first.has_large_pages()
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        self.first.get(io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        self.written.store(true, Ordering::Release);
        self.for_changes().put(io)
    }

    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        self.first.has_page(index)
    }

    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let writer = self.writer().filter(|writer| writer.ops().contains(PagerOps::FRAMES));
        writer.unwrap_or(&*self.first).populate(request)
    }

    fn size(&self) -> Result<u64, PagerError> {
        self.first.size()
    }

    fn relies_on(&self, source: u64) -> bool {
        self.first.relies_on(source) || self.writer().is_some_and(|writer| writer.relies_on(source))
    }

    fn resize(&self, size: u64) -> Result<(), PagerError> {
        self.written.store(true, Ordering::Release);
        self.for_changes().resize(size)
    }

    fn prepare_write(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        self.for_changes().prepare_write(first, count)
    }

    fn free_space(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        self.for_changes().free_space(first, count)
    }

    fn sync(&self) -> Result<(), PagerError> {
        self.for_changes().sync()
    }

    fn change(&self) -> Result<Option<Change>, PagerError> {
        self.first.change()
    }

    /// Of the first. One that can write hears of it when it joins.
    fn attached(&self, object: &Arc<Object>) {
        self.first.attached(object);
    }

    /// Which of them has it is theirs to know: a put may have begun before the writer came.
    fn cancel(&self, io: &Arc<Io>) -> Result<bool, PagerError> {
        let writer = self.writer().map_or(Ok(false), |writer| writer.cancel(io))?;
        Ok(writer || self.first.cancel(io)?)
    }

    /// Closes both, also when one fails (D7).
    fn close(&self) -> Result<(), PagerError> {
        let written = self.writer().map_or(Ok(()), |writer| writer.close());
        let first = self.first.close();
        written.and(first)
    }
}
