//! A swap area: what a pager has opened, a page of it for each slot.
//!
//! A request for pages of an anonymous object becomes one or several requests to areas, over bytes of the same loan. Each is waited for
//! before the next, so that the first one is complete when it is answered. What an area's pager breaks is the area's matter: it is not used
//! any more, and the objects go on with what they have elsewhere.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::alloc_fallible::try_reserve;
use crate::error::{Cause, PagerError, words_or_nothing};
use crate::io::{Direction, Io, IoPlan, PageOutcome};
use crate::object::{Identity, Opening};
use crate::pager::{Answer, Pager, PagerOps};
use crate::sync::{FrameLock, Gauge, assert_no_locks_held};
use crate::types::{PAGE_SIZE, PageIndex};
use crate::unfilled::Marker;

/// Names a swap area for as long as its engine lives. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwapAreaId(pub u64);

/// One area. Which of its slots are in use stands beside it, under the lock of all areas.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) id: SwapAreaId,
    /// Higher ones are used first.
    pub(super) priority: i32,
    /// Its first slot, in the count through all areas.
    pub(super) base: u32,
    /// Who opened it, and what it is known by there, as [`Opening`] has it.
    pub(super) source: u64,
    pub(super) identity: Option<Identity>,
    size: u64,
    pager: Box<dyn Pager>,
    /// Calls of the pager under way.
    calls: Gauge,
    is_broken: AtomicBool,
    broken: FrameLock<Broken>,
}

/// What is known of promises that the pager broke.
#[derive(Debug, Default)]
struct Broken {
    /// The first one.
    why: String,
    /// Requests that it goes on with without leave.
    strays: Vec<Arc<Io>>,
    /// There are more, and there was no memory to remember them.
    more: bool,
}

/// A part of a request for an object's pages, as an area is asked for it.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// The request.
    pub(super) of: &'a Arc<Io>,
    /// Which of its pages.
    pub(super) pages: Range<usize>,
    /// The slot, in the area, of the first of them. The others follow.
    pub(super) first: u32,
}

/// How an area answered.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is over: what became of each page, and the answer.
    Answered(Arc<Io>, Result<(), PagerError>),
    /// The pager goes on without leave.
    Stray(PagerError),
    /// It was not asked: there was no memory for the request.
    NoMemory,
}

/// The calling thread calls an area's pager, or is about to: the area is not closed as long as this lives.
#[derive(Debug)]
pub(super) struct Call(Arc<Area>);

impl Area {
    /// What was opened, whose slots begin at `base`.
    pub(super) fn new(id: SwapAreaId, priority: i32, base: u32, opening: Opening) -> Self {
        Self {
            id,
            priority,
            base,
            source: opening.source,
            identity: opening.identity,
            size: opening.size,
            pager: opening.pager,
            calls: Gauge::new(),
            is_broken: AtomicBool::new(false),
            broken: FrameLock::default(),
        }
    }

    /// Its name for people. No lock may be held.
    pub(super) fn describe(&self) -> String {
        self.pager.describe()
    }

    /// The longest run of slots in one request.
    pub(super) fn max_run(&self) -> u32 {
        self.pager.max_run().max(1)
    }

    /// Whether its pager broke a promise.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// The promise that its pager broke.
    pub(super) fn broken_promise(&self) -> Option<String> {
        let why = || words_or_nothing(format_args!("{}", self.broken.lock().why));
        self.is_broken().then(why)
    }

    fn breaks(&self, why: &PagerError) {
        let why = words_or_nothing(format_args!("{why}"));
        if !self.is_broken.swap(true, Ordering::AcqRel) {
            self.broken.lock().why = why;
        }
    }

    /// Whether its pager goes on with something without leave.
    pub(super) fn has_strays(&self) -> bool {
        let mut broken = self.broken.lock();
        broken.strays.retain(|io| !io.is_complete());
        broken.more || !broken.strays.is_empty()
    }

    /// Waits until no call is under way. No lock may be held.
    pub(super) fn wait_for_calls(&self) {
        self.calls.wait_for_none();
    }

    pub(super) fn begin_call(self: &Arc<Self>) -> Call {
        self.calls.rise();
        Call(self.clone())
    }

    /// Closes the pager. The last call.
    pub(super) fn close(&self) -> Result<(), PagerError> {
        self.pager.close().map_err(|error| self.worded(&error))
    }

    /// An error as the pager of an object answers it: with the area's name, and no promise of the object's broken.
    fn worded(&self, error: &PagerError) -> PagerError {
        let cause = match error.cause {
            Cause::BrokenPromise => Cause::Io,
            other => other,
        };
        PagerError::new(cause, format_args!("swap area {}: {error}", self.describe()))
    }
}

impl Call {
    pub(super) fn area(&self) -> &Area {
        &self.0
    }

    /// Asks for a part of a request, and waits for the answer. No lock may be held.
    pub(super) fn ask(&self, part: &Part<'_>) -> Asked {
        let area = &self.0;
        assert_no_locks_held("calling a pager");
        let Some(io) = request(part, area.size) else {
            return Asked::NoMemory;
        };
        if let Some(why) = area.broken_promise() {
            let why = PagerError::new(Cause::Io, format_args!("it is not used any more: {why}"));
            return Asked::Answered(io, Err(area.worded(&why)));
        }
        let marker = Marker::new();
        let unwinds = Unwinds(area);
        let answer = match io.direction() {
            Direction::Get => {
                for i in 0..io.len() {
                    // SAFETY: the bytes are lent to the request, which no pager has yet.
                    unsafe { marker.put_on(io.bytes(i)) };
                }
                area.pager.get(&io)
            }
            Direction::Put => area.pager.put(&io),
        };
        core::mem::forget(unwinds);
        match answer {
            Answer::Done(answer) => drop(io.complete(answer)),
            Answer::Pending => {}
            Answer::Stray(error) => return self.stray(&io, part.of, &error),
        }
        let answer = io.wait();
        let answer = check_promise(&io, answer.is_ok(), &marker).and(answer);
        Asked::Answered(
            io,
            answer.map_err(|error| {
                if error.cause == Cause::BrokenPromise {
                    area.breaks(&error);
                }
                area.worded(&error)
            }),
        )
    }

    fn stray(&self, io: &Arc<Io>, outer: &Arc<Io>, error: &PagerError) -> Asked {
        let area = &self.0;
        area.breaks(error);
        {
            let mut broken = area.broken.lock();
            if try_reserve(&mut broken.strays, 1).is_ok() {
                broken.strays.push(io.clone());
            } else {
                broken.more = true;
            }
        }
        io.outlasts(outer);
        Asked::Stray(area.worded(error))
    }

    /// Tells the pager that nobody needs these slots. What it answers changes nothing. No lock may be held.
    pub(super) fn tell_freed(&self, run: &Range<u32>) -> Result<(), PagerError> {
        assert_no_locks_held("calling a pager");
        let (first, count) = (PageIndex(u64::from(run.start)), u64::from(run.end - run.start));
        self.0.pager.free_space(first, count).inspect_err(|error| {
            if error.cause == Cause::BrokenPromise {
                self.0.breaks(error);
            }
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fall();
    }
}

/// Dropped only if the pager unwinds: a thread of its may still work on what was lent, for as long as nobody knows.
#[derive(Debug)]
struct Unwinds<'a>(&'a Area);

impl Drop for Unwinds<'_> {
    fn drop(&mut self) {
        self.0
            .breaks(&PagerError::new(Cause::BrokenPromise, format_args!("it panicked")));
        self.0.broken.lock().more = true;
    }
}

/// Whether the pager of an area has to hear what is freed.
pub(super) fn is_told(pager: &dyn Pager) -> bool {
    pager.ops().contains(PagerOps::FREE_SPACE)
}

/// The request to the area. Nothing when memory is short.
fn request(part: &Part<'_>, size: u64) -> Option<Arc<Io>> {
    let mut bytes = Vec::new();
    try_reserve(&mut bytes, part.pages.len()).ok()?;
    bytes.extend(part.pages.clone().map(|i| part.of.bytes(i)));
    let plan = IoPlan {
        direction: part.of.direction(),
        first: PageIndex(u64::from(part.first)),
        required: part
            .of
            .required()
            .checked_sub(part.pages.start)
            .filter(|i| *i < part.pages.len())
            .unwrap_or(0),
        object_size: size / PAGE_SIZE * PAGE_SIZE,
        reclaiming: part.of.is_reclaiming(),
        in_signal: false,
    };
    // SAFETY: the bytes are lent to whoever works on `part.of`, which is us, until that completes; and that completes only after this
    // request: whoever asks waits for it, or leaves it to outlast that one. `required` is less than their number.
    unsafe { Io::detached(plan, bytes) }.map(Arc::new)
}

/// The pager says what it moved, and, if `ok`, that this is what was asked for: is it so?
fn check_promise(io: &Io, ok: bool, marker: &Marker) -> Result<(), PagerError> {
    let broken = |what: &str| Err(PagerError::new(Cause::BrokenPromise, format_args!("{what}")));
    if io.direction() == Direction::Put {
        let all = (0..io.len()).all(|i| io.outcome(i) == PageOutcome::Done);
        return if ok && !all {
            broken("put answered OK but did not write every page")
        } else {
            Ok(())
        };
    }
    let mut unfilled = false;
    for i in (0..io.len()).filter(|&i| io.outcome(i) == PageOutcome::Done) {
        // SAFETY: every page got the marker, and the request has completed, so that nobody writes the bytes.
        if unsafe { marker.is_on(io.bytes(i)) } {
            io.overrule(i);
            unfilled = true;
        }
    }
    if unfilled {
        return broken("get says that a page is filled, but its last bytes were not written");
    }
    if ok && io.outcome(io.required()) != PageOutcome::Done {
        return broken("get answered OK but did not fill the page that was required");
    }
    Ok(())
}
