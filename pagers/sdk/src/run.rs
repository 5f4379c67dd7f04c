//! Runs of pages that an operation fills or writes, now or later.
//!
//! A run borrows the request for the length of the call. [`Run::pend`] turns it into a [`Pending`], which owns the request
//! and completes it from any thread, exactly once: completing consumes it, and dropping it completes with an error.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use quire_abi::{
    Io, IoPage, QUIRE_IO_IN_SIGNAL, QUIRE_IO_MAY_PEND, QUIRE_IO_RECLAIMING, QUIRE_PAGER_BAD, QUIRE_PAGER_ERROR,
    QUIRE_PAGER_FAULTED, QUIRE_PAGER_IO_PAGE_MIN_SIZE, QUIRE_PAGER_OK, QUIRE_PAGER_UNTOUCHED,
};

use crate::border;
use crate::error::{Error, Result};
use crate::host::Host;

/// The direction of a get: from the backing into pages.
#[derive(Debug)]
pub enum Get {}

/// The direction of a put: from pages to the backing.
#[derive(Debug)]
pub enum Put {}

/// What a direction is called in messages, and what it demands.
pub trait Direction: 'static {
    #[doc(hidden)]
    const OPERATION: &'static str;
    /// Whether every page must have moved for a success, or only the required one.
    #[doc(hidden)]
    const ALL: bool;
}

impl Direction for Get {
    const OPERATION: &'static str = "get";
    const ALL: bool = false;
}

impl Direction for Put {
    const OPERATION: &'static str = "put";
    const ALL: bool = true;
}

/// The run of a get.
pub type GetRun<'a> = Run<'a, Get>;
/// The run of a put.
pub type PutRun<'a> = Run<'a, Put>;
/// A get that completes later.
pub type PendingGet = Pending<Get>;
/// A put that completes later.
pub type PendingPut = Pending<Put>;

/// Who speaks in a message: the pager, and the object it speaks of.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) host: Host,
    pub(crate) pager: &'static str,
    pub(crate) name: Option<String>,
}

impl Origin {
    /// "pager: operation of NAME at ...: text".
    pub(crate) fn sentence(&self, operation: &str, place: &str, text: impl fmt::Display) -> String {
        match &self.name {
            Some(name) => format!("{}: {operation} of {name}{place}: {text}", self.pager),
            None => format!("{}: {operation}{place}: {text}", self.pager),
        }
    }

    /// Tells the host why a request failed, unless that takes more than is allowed in a signal handler.
    fn say(&self, request: &Request, operation: &str, error: &Error, place: impl FnOnce() -> String) {
        if !request.in_signal() && !error.is_unsaid() {
            let sentence = self.sentence(operation, &place(), error);
            self.host.set_error(request.token, &sentence);
        }
    }
}

const KNOWN_FLAGS: u32 = QUIRE_IO_MAY_PEND | QUIRE_IO_RECLAIMING | QUIRE_IO_IN_SIGNAL;

/// Where a request's pages lie, and how much of them is data.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    token: u64,
    flags: u32,
    first: u64,
    /// Pages that begin below the object's size, and so are in the run.
    count: usize,
    required: usize,
    page_size: usize,
    object_size: u64,
    // Invariant: `count` pages, `page_stride` bytes apart, lent to whoever holds this request until it completes.
    pages: NonNull<IoPage>,
    page_stride: usize,
}

impl Request {
    /// Names the request, in [`crate::Cancel::cancel`] for one.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Page index, in the object, of the first page.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Byte offset, in the object, of the first page.
    pub fn offset(&self) -> u64 {
        self.first * self.page_size as u64
    }

    /// Number of pages. 0 after the request has pended, or was handed on.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Position in the run of the page that must be moved.
    pub fn required(&self) -> usize {
        self.required
    }

    /// Bytes in a page; a power of two.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// The object's size in bytes as the host knows it.
    pub fn object_size(&self) -> u64 {
        self.object_size
    }

    /// The host is short of memory and this request frees some: do not allocate if it can be helped.
    pub fn reclaiming(&self) -> bool {
        self.flags & QUIRE_IO_RECLAIMING != 0
    }

    /// The operation is called in a signal handler: nothing may be done that is not async-signal-safe. An [`Error`] whose text
    /// is a constant, or that [`Error::system`] made, allocates nothing, and is not told to the host.
    pub fn in_signal(&self) -> bool {
        self.flags & QUIRE_IO_IN_SIGNAL != 0
    }

    /// Takes a request over from the host, after checking everything that can be checked.
    ///
    /// Pages that begin at or beyond the object's size get `QUIRE_PAGER_BAD` at once and are left out of the run.
    ///
    /// # Safety
    /// `io` is NULL or a request as the ABI describes it, lent to the caller.
    pub(crate) unsafe fn adopt(io: *mut Io) -> Result<Self> {
        // SAFETY: the caller's promise.
        let io = unsafe { border::read(io) }?;
        border::check_flags("the request", io.flags, KNOWN_FLAGS)?;
        let Some(pages) = NonNull::new(io.pages) else {
            return Err(Error::invalid("the request has no pages"));
        };
        if io.page_stride < QUIRE_PAGER_IO_PAGE_MIN_SIZE
            || !(io.page_stride as usize).is_multiple_of(align_of::<IoPage>())
        {
            return Err(Error::invalid(format!(
                "the request's pages are {} bytes apart, which no version of them is",
                io.page_stride
            )));
        }
        let (count, required) = (io.count as usize, io.required as usize);
        let page_size = u64::from(io.page_size);
        let end = io
            .first
            .checked_add(u64::from(io.count))
            .and_then(|end| end.checked_mul(page_size));
        if required >= count || !io.page_size.is_power_of_two() || end.is_none() {
            return Err(Error::invalid(
                "the request's count, required page, page size and first index do not fit",
            ));
        }
        let inside = io.object_size.div_ceil(page_size).saturating_sub(io.first);
        let inside = usize::try_from(inside).unwrap_or(usize::MAX).min(count);
        let this = Self {
            token: io.token,
            flags: io.flags,
            first: io.first,
            count,
            required,
            page_size: io.page_size as usize,
            object_size: io.object_size,
            pages,
            page_stride: io.page_stride as usize,
        };
        for i in 0..count {
            // SAFETY: `pages` points to `count` pages (the caller's promise), and nobody else touches them now.
            if unsafe { (*this.page_at(i)).bytes.is_null() } {
                return Err(Error::invalid(format!("page {i} of the request has no bytes")));
            }
            if i >= inside {
                this.set_status(i, QUIRE_PAGER_BAD);
            }
        }
        if required >= inside && this.in_signal() {
            return Err(Error::bad("the page lies beyond the object's end"));
        }
        if required >= inside {
            let index = io.first + required as u64;
            return Err(Error::bad(format!(
                "page {index} lies beyond the object's {} bytes",
                io.object_size
            )));
        }
        Ok(Self { count: inside, ..this })
    }

    /// Where the host keeps page `i`. No reference is made to the whole: a newer host's is longer.
    fn page_at(&self, i: usize) -> *mut IoPage {
        debug_assert!(i < self.count);
        self.pages.as_ptr().wrapping_byte_add(i * self.page_stride)
    }

    pub(crate) fn place(&self) -> String {
        let pages = if self.count == 1 {
            "1 page".to_owned()
        } else {
            format!("{} pages", self.count)
        };
        format!(" at byte {} ({pages})", self.offset())
    }

    /// The status of page `i` as it is stored now.
    fn status(&self, i: usize) -> i32 {
        // SAFETY: `i` is below `count` (asserted; callers stay below it), and the pages are lent to this request's holder.
        unsafe { (&raw const (*self.page_at(i)).status).read() }
    }

    fn set_status(&self, i: usize, status: i32) {
        // SAFETY: as in `status`; no `Page`, which would borrow the holder, is alive where the holder calls this.
        unsafe { (&raw mut (*self.page_at(i)).status).write(status) }
    }
}

/// A run of pages, borrowed for the length of an operation.
pub struct Run<'a, D> {
    // Invariant: `request.count` is 0 once the request belongs to a `Pending`, or was handed on.
    request: Request,
    // The host's own struct, lent for as long as the request.
    io: *mut Io,
    origin: &'a Arc<Origin>,
    may_pend: bool,
    pended: bool,
    answered: Option<i32>,
    direction: PhantomData<(&'a mut [u8], D)>,
}

impl<D> fmt::Debug for Run<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("request", &self.request)
            .field("pended", &self.pended)
            .finish()
    }
}

impl<D> Deref for Run<'_, D> {
    type Target = Request;
    fn deref(&self) -> &Request {
        &self.request
    }
}

impl<'a, D: Direction> Run<'a, D> {
    /// `io` is what `request` was made from.
    pub(crate) fn new(request: Request, io: *mut Io, origin: &'a Arc<Origin>, is_async: bool) -> Self {
        let may_pend = is_async && request.flags & QUIRE_IO_MAY_PEND != 0 && !request.in_signal();
        Self {
            request,
            io,
            origin,
            may_pend,
            pended: false,
            answered: None,
            direction: PhantomData,
        }
    }

    /// The pages, in order. May be called again.
    pub fn pages(&mut self) -> Pages<'_, D> {
        Pages {
            request: &self.request,
            origin: self.origin,
            next: 0,
            direction: PhantomData,
        }
    }

    /// Whether [`Run::pend`] answers with the request: the host allows it, and it has not been called.
    pub fn may_pend(&self) -> bool {
        self.may_pend && !self.pended && self.answered.is_none()
    }

    /// Takes the request out of this call, to be completed later, from any thread. `None` when the host does not allow it
    /// or when the pager does not have [`crate::Caps::ASYNC`]: then the operation must be done here and now.
    pub fn pend(&mut self) -> Option<Pending<D>> {
        if !self.may_pend() {
            return None;
        }
        let pending = Pending {
            request: self.request,
            origin: self.origin.clone(),
            completed: false,
            direction: PhantomData,
        };
        self.pended = true;
        self.request.count = 0;
        Some(pending)
    }

    /// Hands the request over to other code that speaks the ABI, such as a driver: `to` is called with the host's own struct, checked, and
    /// what it answers is the operation's answer, unseen by the SDK. No pages are left in the run, and what the operation returns afterwards
    /// does not count. Does nothing once the request has pended or was handed on.
    pub fn hand_on(&mut self, to: impl FnOnce(*mut Io) -> i32) {
        if self.pended || self.answered.is_some() {
            return;
        }
        self.request.count = 0;
        self.answered = Some(QUIRE_PAGER_FAULTED);
        self.answered = Some(to(self.io));
    }

    /// What the one to whom it was handed on answered; `QUIRE_PAGER_FAULTED` if that panicked.
    pub(crate) fn answered(&self) -> Option<i32> {
        self.answered
    }

    pub(crate) fn pended(&self) -> bool {
        self.pended
    }

    /// The status to answer with, after the operation returned `result`.
    pub(crate) fn settle(&self, result: Result<()>) -> i32 {
        settle::<D>(&self.request, self.origin, result)
    }
}

/// A request that completes later. Owns the pages' bytes until then.
///
/// Dropping it without completing completes it with `QUIRE_PAGER_ERROR` (`QUIRE_PAGER_FAULTED` during a panic), so that
/// nobody waits for ever.
#[must_use = "dropping a pending request completes it with an error"]
pub struct Pending<D: Direction> {
    request: Request,
    origin: Arc<Origin>,
    completed: bool,
    direction: PhantomData<D>,
}

// SAFETY: the ABI lends the pages to the request, not to a thread, until it completes; a `Pending` is their one holder.
unsafe impl<D: Direction> Send for Pending<D> {}
// SAFETY: a shared `Pending` gives out plain numbers only.
unsafe impl<D: Direction> Sync for Pending<D> {}

impl<D: Direction> fmt::Debug for Pending<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("request", &self.request).finish()
    }
}

impl<D: Direction> Deref for Pending<D> {
    type Target = Request;
    fn deref(&self) -> &Request {
        &self.request
    }
}

impl<D: Direction> Pending<D> {
    /// The pages, in order. May be called again.
    pub fn pages(&mut self) -> Pages<'_, D> {
        Pages {
            request: &self.request,
            origin: &self.origin,
            next: 0,
            direction: PhantomData,
        }
    }

    /// Ends the request: with `Ok(())` the pages' own statuses decide, as in the operation itself.
    pub fn complete(mut self, result: Result<()>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<()>) {
        self.completed = true;
        let status = settle::<D>(&self.request, &self.origin, result);
        self.origin.host.complete(self.request.token, status);
    }
}

impl<D: Direction> Drop for Pending<D> {
    fn drop(&mut self) {
        if self.completed {
            return;
        }
        let (status, why) = if std::thread::panicking() {
            (QUIRE_PAGER_FAULTED, "a panic dropped the pending request")
        } else {
            (
                QUIRE_PAGER_ERROR,
                "the pager dropped the pending request without completing it",
            )
        };
        self.finish(Err(Error::with_status(status, why)));
    }
}

/// Decides what a request is answered with, fills in statuses that an error leaves open, and passes the text on.
fn settle<D: Direction>(request: &Request, origin: &Origin, result: Result<()>) -> i32 {
    let must = if D::ALL {
        0..request.count
    } else {
        request.required..request.required + 1
    };
    let error = match result {
        Ok(()) => match must
            .clone()
            .map(|i| request.status(i))
            .find(|&status| status != QUIRE_PAGER_OK)
        {
            None => return QUIRE_PAGER_OK,
            Some(QUIRE_PAGER_UNTOUCHED) => Error::new("the pager answered without saying what became of a page"),
            // The page was failed with a text of its own.
            Some(status) => return status,
        },
        Err(error) => error,
    };
    for i in must {
        if request.status(i) == QUIRE_PAGER_UNTOUCHED {
            request.set_status(i, error.status());
        }
    }
    origin.say(request, D::OPERATION, &error, || request.place());
    error.status()
}

/// Iterates over the pages of a run.
#[derive(Debug)]
pub struct Pages<'a, D> {
    request: &'a Request,
    origin: &'a Origin,
    next: usize,
    direction: PhantomData<D>,
}

impl<'a, D: Direction> Iterator for Pages<'a, D> {
    type Item = Page<'a, D>;

    fn next(&mut self) -> Option<Page<'a, D>> {
        let position = self.next;
        if position >= self.request.count {
            return None;
        }
        self.next += 1;
        // SAFETY: `position` is below `count`; the pages are lent to the request's one holder, whom this iterator borrows
        // mutably, and each position is given out once, so no two `Page`s share a status or bytes.
        let page = unsafe { &mut *self.request.page_at(position) };
        let index = self.request.first + position as u64;
        let left = self.request.object_size - index * self.request.page_size as u64;
        Some(Page {
            bytes: page.bytes.cast::<u8>(),
            status: &mut page.status,
            len: usize::try_from(left).unwrap_or(usize::MAX).min(self.request.page_size),
            index,
            position,
            request: self.request,
            origin: self.origin,
            direction: PhantomData,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.request.count - self.next;
        (left, Some(left))
    }
}

impl<D: Direction> ExactSizeIterator for Pages<'_, D> {}

/// One page of a run.
#[derive(Debug)]
pub struct Page<'a, D> {
    // Invariant: `request.page_size` bytes, lent to this page alone; its first `len` bytes, 1 to `page_size`, lie below the
    // object's size. For a put they are not written.
    bytes: *mut u8,
    status: &'a mut i32,
    len: usize,
    index: u64,
    position: usize,
    request: &'a Request,
    origin: &'a Origin,
    direction: PhantomData<D>,
}

impl<D: Direction> Page<'_, D> {
    /// Page index in the object.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Byte offset in the object.
    pub fn offset(&self) -> u64 {
        self.index * self.request.page_size as u64
    }

    /// Whether this page must be moved.
    pub fn required(&self) -> bool {
        self.position == self.request.required
    }

    /// The page could not be moved. Of a get, only the required page's error reaches the caller.
    pub fn fail(self, error: Error) {
        *self.status = error.status();
        if D::ALL || self.required() {
            self.origin.say(self.request, D::OPERATION, &error, || {
                format!(" at byte {}", self.offset())
            });
        }
    }
}

impl<'a> Page<'a, Get> {
    /// The page's bytes below the object's size: what the backing has to provide. What lies beyond is zeroed by
    /// [`Page::filled`].
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: `bytes` and `len` by the invariant; the borrow of `self` keeps it the only slice.
        unsafe { slice::from_raw_parts_mut(self.bytes, self.len) }
    }

    /// As [`Page::data`], for gathering the bytes of several pages in one read. Mark the pages in a second pass.
    pub fn into_data(self) -> &'a mut [u8] {
        // SAFETY: as in `data`; `self` is consumed, so for `'a` nobody else reaches the bytes.
        unsafe { slice::from_raw_parts_mut(self.bytes, self.len) }
    }

    /// The page's data is all there; the rest of it becomes zeros.
    pub fn filled(self) {
        let len = self.len;
        self.filled_to(len);
    }

    /// The first `len` bytes are there, and what follows lies past the end of the data: it becomes zeros.
    pub fn filled_to(self, len: usize) {
        let len = len.min(self.len);
        // SAFETY: by the invariant `page_size` bytes are this page's to write, and `len` is not more.
        unsafe { self.bytes.add(len).write_bytes(0, self.request.page_size - len) };
        *self.status = QUIRE_PAGER_OK;
    }

    /// Copies `data` in, zeros behind it, and marks the page filled. Data beyond the page's or the object's end is cut.
    pub fn fill(mut self, data: &[u8]) {
        let len = data.len().min(self.len);
        self.data()[..len].copy_from_slice(&data[..len]);
        self.filled_to(len);
    }
}

impl<'a> Page<'a, Put> {
    /// The page's bytes below the object's size: what is to be written, and nothing else is.
    pub fn data(&self) -> &'a [u8] {
        // SAFETY: `bytes` and `len` by the invariant; the host changes nothing until the request completes, which needs
        // the run that `'a` borrows.
        unsafe { slice::from_raw_parts(self.bytes, self.len) }
    }

    /// The page's data is written.
    pub fn written(self) {
        *self.status = QUIRE_PAGER_OK;
    }
}
