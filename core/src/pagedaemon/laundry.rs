//! The laundry: writing dirty pages so that they can go (F19).
//!
//! One run at a time: the oldest page of the laundry, with the dirty neighbours that nobody has busied. Nothing is waited
//! for but the write itself, so that one pager's slowness keeps nobody from writing to another.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::rescue::Rescuing;
use super::{AtWork, Count, Memory};
use crate::alloc_fallible::try_reserve;
use crate::engine::Engine;
use crate::error::{Cause, Error, Result};
use crate::machine::{Placement, Reserve};
use crate::object::{BATCH, ExclusiveBusy, Object};
use crate::page::{Dirtiness, PageRef, Queue};
use crate::page_queues::name_of;
use crate::pager::PagerOps;
use crate::types::{Frame, ObjectId, PageIndex};

/// One way through the laundry: each page comes up once, and an object whose write failed is left alone for the rest of it.
#[derive(Debug)]
pub(super) struct Pass {
    left: u64,
    failed: u64,
    refused: [Option<ObjectId>; 8],
    /// Swap refused a page: it would refuse those of other objects as well.
    swap_refused: bool,
    in_signal: bool,
}

impl Pass {
    /// Over a laundry of so many pages.
    pub(super) fn new(pages: u64) -> Self {
        Self {
            left: pages,
            failed: 0,
            refused: [None; 8],
            swap_refused: false,
            in_signal: false,
        }
    }

    /// In a signal handler: only pagers that can be called there.
    pub(super) fn in_signal(self) -> Self {
        Self {
            in_signal: true,
            ..self
        }
    }

    fn passes_over(&self, object: &Object) -> bool {
        self.refused.contains(&Some(object.id()))
            || self.in_signal && !object.ops().contains(PagerOps::SIGNAL_SAFE)
            || object
                .anonymous()
                .is_some_and(|anonymous| self.swap_refused || !anonymous.swap().has_room())
    }

    /// So many pages more have come.
    pub(super) fn goes_on(&mut self, pages: u64) {
        self.left += pages;
    }

    /// Runs that could not be written.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    #[allow(clippy::cast_possible_truncation, reason = "a remainder of 8")]
    fn note_failure(&mut self, object: &Object, error: &Error) {
        self.refused[(self.failed % 8) as usize] = Some(object.id());
        self.failed += 1;
        let is_the_pagers = matches!(error, Error::Pager(error) if error.cause != Cause::Again);
        self.swap_refused |= object.is_anonymous() && is_the_pagers;
    }
}

impl Engine {
    /// Writes the next run of the laundry that can be written. Returns how many pages can be freed for it; nothing when
    /// the pass is through. Calls a pager; no lock may be held.
    pub(super) fn wash_next(&self, pass: &mut Pass) -> Option<u64> {
        while pass.left > 0 {
            pass.left -= 1;
            let (id, index) = {
                let mut queues = self.memory.queues.lock();
                let page = queues.next_to_wash()?;
                if page.dirtiness() != Dirtiness::Dirty {
                    // A flush was quicker.
                    queues.put_first(page, Queue::Inactive);
                    return Some(1);
                }
                match name_of(page) {
                    Some(name) => name,
                    None => continue,
                }
            };
            let Some(object) = self.object(id).filter(|object| !pass.passes_over(object)) else {
                continue;
            };
            match self.wash_around(&object, index, pass.in_signal) {
                Ok(0) => {}
                Ok(written) => return Some(written),
                Err(error) => {
                    // The pages stay dirty and in the laundry; the object's own counts and the next flush tell the error.
                    pass.note_failure(&object, &error);
                    self.memory.count(Count::WashFailures, 1);
                }
            }
        }
        None
    }

    /// Writes page `index` and its dirty neighbours. Returns how many of them are clean now.
    fn wash_around(&self, object: &Arc<Object>, index: PageIndex, in_signal: bool) -> Result<u64> {
        let mut work = AtWork::begin(&self.memory);
        let clean = dirty_run_around(object, index).and_then(|run| self.wash_run(object, run, in_signal))?;
        if clean > 0 {
            work.progressed();
        }
        Ok(clean)
    }

    fn wash_run(&self, object: &Arc<Object>, run: Vec<ExclusiveBusy<Arc<Object>>>, in_signal: bool) -> Result<u64> {
        if run.is_empty() {
            return Ok(0);
        }
        let memory = &self.memory;
        let mut pages = Vec::new();
        try_reserve(&mut pages, run.len())?;
        pages.extend(run.iter().map(|busy| (busy.page().index(), busy.page())));
        memory.washing.fetch_add(pages.len() as u64, Ordering::AcqRel);
        let written = {
            let _rescuing = memory.rescuers.enter();
            object.put_dirty(run, in_signal)
        };
        memory.washing.fetch_sub(pages.len() as u64, Ordering::AcqRel);
        let clean = memory.sort_washed(object.id(), &pages);
        memory.count(Count::Washed, clean);
        // A part may have been written all the same.
        if clean > 0 { Ok(clean) } else { written.map(|()| 0) }
    }

    /// A frame for somebody who found none: only for a thread that is writing pages so that there will be more (S190).
    pub(crate) fn rescue(&self, place: Placement) -> Option<Frame> {
        if !self.memory.rescuers.contains_me() {
            return None;
        }
        let frame = self.machine().frame_alloc(place, Reserve::Daemon)?;
        self.memory.rescuers.count_rescue();
        Some(frame)
    }
}

impl Memory {
    /// The calling thread has pages busied and asks a pager to write them, as long as the answer lives. If the pager needs memory of this
    /// engine, the thread makes room, but waits for nobody: it may wait for one of its own pages, or for a thread that does the same.
    pub(crate) fn writing(&self) -> Rescuing<'_> {
        self.writers.enter()
    }

    /// Puts those pages of the laundry that are clean now where they are looked at next. They may have become other pages meanwhile.
    fn sort_washed(&self, object: ObjectId, pages: &[(PageIndex, PageRef)]) -> u64 {
        let mut queues = self.queues.lock();
        let mut clean = 0;
        for (index, page) in pages {
            // With the lock held, a page of this name that is on a queue is on ours.
            if name_of(page) == Some((object, *index)) && page.dirtiness() != Dirtiness::Dirty {
                clean += 1;
                if page.queue() == Some(Queue::Laundry) {
                    queues.put_first(page, Queue::Inactive);
                }
            }
        }
        clean
    }
}

/// Busies page `index` and the unbroken run around it of pages that may be dirty, as far as nobody else has them or wired them, and as many as the
/// pager takes at once; and those others of its block of 64 that are in the laundry. Ascending. Nothing if the page itself is busy or gone.
/// What is wired is passed over: it would be unmapped, and cannot go (S211).
fn dirty_run_around(object: &Arc<Object>, index: PageIndex) -> Result<Vec<ExclusiveBusy<Arc<Object>>>> {
    let longest = object.longest_run();
    let mut run = Vec::new();
    try_reserve(&mut run, longest.max(BATCH))?;
    let state = object.lock();
    let busy_one = |index: Option<u64>, wanted: &dyn Fn(PageRef) -> bool| {
        let index = PageIndex(index?);
        let page = state.pages.get(index)?;
        if !wanted(page) || !object.has_index(index) {
            return None;
        }
        // Only now: nobody wires a page that is busied.
        ExclusiveBusy::try_resident(object.clone(), &state, index).filter(|busy| busy.page().wire_count() == 0)
    };
    let dirty = |page: PageRef| page.dirtiness() != Dirtiness::Clean;
    let Some(first) = busy_one(Some(index.0), &dirty) else {
        return Ok(run);
    };
    run.push(first);
    let mut first = index.0;
    while run.len() < longest
        && let Some(busy) = busy_one(first.checked_sub(1), &dirty)
    {
        run.push(busy);
        first -= 1;
    }
    run.reverse();
    let mut behind = index.0 + 1;
    while run.len() < longest
        && let Some(busy) = busy_one(Some(behind), &dirty)
    {
        run.push(busy);
        behind += 1;
    }
    let in_run = run.len();
    let block = index.0 / BATCH as u64 * BATCH as u64;
    let in_laundry = |page: PageRef| page.queue() == Some(Queue::Laundry);
    for other in (block..block + BATCH as u64).filter(|other| !(first..behind).contains(other)) {
        if run.len() < BATCH
            && let Some(busy) = busy_one(Some(other), &in_laundry)
        {
            run.push(busy);
        }
    }
    if run.len() > in_run {
        run.sort_unstable_by_key(|busy| busy.page().index());
    }
    Ok(run)
}
