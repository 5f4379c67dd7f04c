//! Step 3, case 2A: the page is the object's.
//!
//! Pages are share-busied under the object's lock, which ensures their identity, and entered after that lock is dropped:
//! being busied keeps them from going away. Nothing is allocated here, and no pager is called: a page that is not there
//! is a need.

use alloc::sync::Arc;

use super::gathered::{self, Gathered};
use super::verify::Below;
use super::{Fault, FaultCase, Goal, Need, Outcome, Stop, along, check};
use crate::error::FaultError;
use crate::few::Few;
use crate::machine::EnterRun;
use crate::object::{Object, ObjectState, SharedBusy};
use crate::page::PageRef;
use crate::pager::PagerOps;
use crate::populate::PopulatePlan;
use crate::shown::Upper;
use crate::stats::Counter;
use crate::types::{Access, PAGE_SIZE, PageIndex, Prot, VirtAddr, pages_of};

/// What a fault in a sequence maps behind its window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// The first page behind those that the window maps in one piece with the faulting one.
    pub(super) next: u64,
    /// How many pages behind the faulting one are to be mapped.
    pub(super) along: u64,
}

/// Enters the object's page, or keeps it.
pub(super) fn resolve(fault: &mut Fault<'_>, found: &Below<'_>) -> Result<Outcome, Stop> {
    if fault.goal == Goal::Hold {
        return hold(fault, found);
    }
    let (pages, behind) = gather(fault, found)?;
    if let Some(behind) = behind
        && fault.goal == Goal::Enter
        && found.at.entry.attr.wired == 0
    {
        along::map(fault, found, behind);
    }
    gathered::enter(fault, &found.at, &pages, found.object.object(), FaultCase::TwoA)
}

/// The rights of a mapping of that page made now: a clean page whose pager wants to be asked first is not writable, nor is a device's
/// memory that can only be read.
#[inline]
pub(super) fn prot_of(found: &Below<'_>, page: PageRef) -> Prot {
    if (found.leave && page.is_told_of()) || !page.can_be_written() {
        found.prot - Prot::WRITE
    } else {
        found.prot
    }
}

/// Whether the machine can be handed two pages in one call: they are mapped with the same rights, and accessed alike.
#[inline]
pub(super) fn go_together(found: &Below<'_>, one: PageRef, other: PageRef) -> bool {
    prot_of(found, one) == prot_of(found, other) && one.cache_mode() == other.cache_mode()
}

/// That the page may be written, as far as its pager or its device have to say so. What was busied of it is let go of otherwise.
#[inline]
fn check_leave(fault: &Fault<'_>, found: &Below<'_>, page: PageRef) -> Result<(), Stop> {
    if fault.access != Access::Write {
        return Ok(());
    }
    if let Err(error) = check_device(fault, page) {
        page.busy.release_shared();
        return Err(error.into());
    }
    if !found.leave || !page.is_told_of() {
        return Ok(());
    }
    page.busy.release_shared();
    let object = found.object.object().clone();
    Err(Stop::Wait(Need::Leave(object, found.at.index)))
}

/// That a page which is about to be accessed, busied, is not written where its device can only be read.
#[inline]
pub(super) fn check_device(fault: &Fault<'_>, page: PageRef) -> Result<(), FaultError> {
    if fault.access == Access::Write && !page.can_be_written() {
        return Err(FaultError::Device {
            index: page.index(),
            reason: "it can be read, and not written",
        });
    }
    Ok(())
}

/// Finds the faulting page and its resident neighbours, and share-busies them.
fn gather(fault: &Fault<'_>, found: &Below<'_>) -> Result<(Gathered, Option<Behind>), Stop> {
    let index = found.at.index;
    let mut window = check::window(fault, &found.at, &found.shows);
    let mut state = found.object.lock();
    let page = busy_faulting_page(fault, found, &mut state)?;
    check_leave(fault, found, page)?;
    let step = state
        .streams
        .used(fault.reader(found), index, found.at.entry.attr.advice);
    if step.is_some_and(|step| step.shorter) && window.centre + 1 < window.len {
        window.len -= 1;
    }
    let mut gathered = Gathered::new(window, page, prot_of(found, page));
    for i in (0..window.len).filter(|i| *i != window.centre) {
        // A neighbour that is not there, or busy, is not waited for (N14). Its rights are asked for when it is busied: nobody cleans it then.
        let neighbour = state.pages.get(PageIndex(window.first.0 + i as u64));
        if let Some(neighbour) = neighbour.filter(|page| page.busy.try_shared()) {
            gathered.add(i, neighbour, prot_of(found, neighbour));
        }
    }
    let mut behind = None;
    if let Some(step) = step {
        let next = window.first.0 + gathered.run_around().end as u64;
        state.streams.reached(step, next);
        let along = step.along.min(found.shows.end.0 - index.0 - 1);
        behind = (step.along > 0).then_some(Behind { next, along });
    }
    note_what_may_happen(fault, &mut state, &gathered);
    Ok((gathered, behind))
}

/// Pages that are entered by one call behind the faulting one.
pub(super) const BEHIND_AT_ONCE: usize = 64;

/// Enters up to `len` pages, at most [`BEHIND_AT_ONCE`], from `first` on, which is behind the faulting one, as far as they are
/// resident in one piece. Answers how many.
pub(super) fn enter_behind(fault: &Fault<'_>, found: &Below<'_>, first: PageIndex, len: usize) -> usize {
    let (pages, prot) = busy_behind(found, first, len);
    if pages.is_empty() {
        return 0;
    }
    let run = EnterRun {
        start: VirtAddr(found.at.page_va.0 + (first.0 - found.at.index.0) * PAGE_SIZE),
        pages: &pages,
        prot,
        cache: pages[0].cache_mode(),
        accessed: None,
        wired: false,
        can_fail: true,
    };
    let (entered, stopped) = fault.map.pmap().enter(&run);
    for page in &*pages {
        page.busy.release_shared();
    }
    if stopped.is_some() {
        return 0;
    }
    fault
        .map
        .engine()
        .stats()
        .add(Counter::NeighboursMapped, entered as u64);
    entered
}

/// Share-busies resident pages in one piece that are mapped with the same rights.
fn busy_behind(found: &Below<'_>, first: PageIndex, len: usize) -> (Few<PageRef, BEHIND_AT_ONCE>, Prot) {
    let (mut pages, mut prot) = (Few::<PageRef, BEHIND_AT_ONCE>::new(), found.prot);
    let mut state = found.object.lock();
    while pages.len() < len
        && let Some(page) = state.pages.get(PageIndex(first.0 + pages.len() as u64))
        && page.busy.try_shared()
    {
        if let Some(first) = pages.first()
            && !go_together(found, first, page)
        {
            page.busy.release_shared();
            break;
        }
        prot = prot_of(found, page);
        if prot.contains(Prot::WRITE) {
            state.note_writable(page);
        }
        pages.push(page);
    }
    (pages, prot)
}

/// Keeps the faulting page in place of mapping it.
fn hold(fault: &mut Fault<'_>, found: &Below<'_>) -> Result<Outcome, Stop> {
    let index = found.at.index;
    let mut state = found.object.lock();
    let page = busy_faulting_page(fault, found, &mut state)?;
    check_leave(fault, found, page)?;
    if fault.access == Access::Write {
        state.note_modified(page);
    }
    let step = state
        .streams
        .used(fault.reader(found), index, found.at.entry.attr.advice);
    if step.is_some_and(|step| step.along > 0) {
        fault.plan_ahead(found, &mut state, index.0 + 1);
    }
    drop(state);
    Ok(Outcome::Held(SharedBusy::adopt(page, found.object.object().clone())))
}

/// The object's page, shared busied, to be copied.
pub(super) fn to_copy(fault: &Fault<'_>, found: &Below<'_>) -> Result<SharedBusy<Arc<Object>>, Stop> {
    let page = busy_faulting_page(fault, found, &mut found.object.lock())?;
    Ok(SharedBusy::adopt(page, found.object.object().clone()))
}

/// The faulting page, shared busied, or what is needed first.
fn busy_faulting_page(fault: &Fault<'_>, found: &Below<'_>, state: &mut ObjectState) -> Result<PageRef, Stop> {
    let (object, index) = (found.object, found.at.index);
    if let Some(error) = state.refuses_faults() {
        return Err(error.into());
    }
    if !object.has_index(index) {
        return Err(FaultError::BeyondObject(fault.va).into());
    }
    match state.pages.get(index) {
        Some(page) if page.busy.try_shared() => {
            debug_assert!(page.is_valid(), "a page that is not filled can be shared");
            if fault.goal == Goal::Wire && object.is_anonymous() {
                state.note_modified(page);
            }
            Ok(page)
        }
        Some(page) => Err(Stop::Wait(Need::Page(page, object.id(), index))),
        None => Err(Stop::Wait(how_to_bring_in(fault, found, state))),
    }
}

fn how_to_bring_in(fault: &Fault<'_>, found: &Below<'_>, state: &mut ObjectState) -> Need {
    let (object, index, entry) = (found.object.object(), found.at.index, &found.at.entry);
    let is_top = matches!(entry.backing.upper, Upper::Shared);
    if !object.ops().contains(PagerOps::POPULATE) || !is_top || fault.populate_declined {
        let shown = found.shows.end.0 - index.0 - 1;
        let along = state.streams.missed(fault.reader(found), index, entry.attr.advice);
        return Need::Get(
            object.clone(),
            index,
            u32::try_from(shown).map_or(along, |most| along.min(most)),
        );
    }
    let shown = entry.places();
    let end = shown.end.0.min(pages_of(object.size()));
    let plan = PopulatePlan {
        index,
        first: shown.start,
        last: PageIndex(end.saturating_sub(1).max(index.0)),
        access: fault.access,
        max_prot: entry.attr.max_prot,
    };
    Need::Populate(object.clone(), plan, fault.map.version())
}

/// A write makes its page dirty before it can happen; a page that is merely mapped writable may become so unseen. Under
/// the object's lock, so that a flush finds it by its tag.
fn note_what_may_happen(fault: &Fault<'_>, state: &mut ObjectState, pages: &Gathered) {
    pages.writable().for_each(|page| state.note_writable(page));
    if fault.access == Access::Write {
        state.note_modified(pages.faulting());
    }
}
