//! Step 3, case 2A: the page is the object's.
//!
//! Pages are share-busied under the object's lock, which ensures their identity, and entered after that lock is dropped:
//! being busied keeps them from going away. Nothing is allocated here, and no pager is called: a page that is not there
//! is a need.

use super::check::Window;
use super::verify::Found;
use super::{Fault, FaultCase, Goal, Need, Outcome, Resolved, Stop};
use crate::error::FaultError;
use crate::few::Few;
use crate::machine::{EnterRun, NotEntered};
use crate::object::{ObjectState, SharedBusy};
use crate::page::{Dirtiness, PageRef};
use crate::pager::PagerOps;
use crate::populate::PopulatePlan;
use crate::stats::Counter;
use crate::types::{Access, MAX_WINDOW, PAGE_SIZE, PageIndex, Prot, VirtAddr, pages_of};

/// The resident pages of a window, each shared busied; dropping it unbusies them.
#[derive(Debug)]
pub(super) struct Gathered {
    pages: [Option<PageRef>; MAX_WINDOW],
    window: Window,
    /// The rights of their mappings.
    prot: Prot,
    /// In a sequence.
    pub(super) behind: Option<Behind>,
}

/// What a fault in a sequence maps behind its window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// The first page behind those that the window maps in one piece with the faulting one.
    pub(super) next: u64,
    /// How many pages behind the faulting one are to be mapped.
    pub(super) along: u64,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        for page in self.pages[..self.window.len].iter().flatten() {
            page.busy.release_shared();
        }
    }
}

impl Gathered {
    /// The page at the address that was asked for.
    pub(super) fn faulting(&self) -> Option<PageRef> {
        self.pages[self.window.centre]
    }
}

/// The rights of a mapping of that page made now: a clean page whose pager wants to be asked first is not writable.
#[inline]
fn prot_of(found: &Found<'_>, page: PageRef) -> Prot {
    if found.leave && page.dirtiness() == Dirtiness::Clean {
        found.prot - Prot::WRITE
    } else {
        found.prot
    }
}

/// Share-busies a page if it can be mapped with these rights. Asked when it is busied: nobody cleans it then.
#[inline]
fn busy_alike(found: &Found<'_>, page: PageRef, prot: Prot) -> bool {
    let busied = page.busy.try_shared();
    if busied && prot_of(found, page) != prot {
        page.busy.release_shared();
        return false;
    }
    busied
}

/// That the page may be written, as far as its pager has to say so. What was busied of it is let go of otherwise.
#[inline]
fn check_leave(fault: &Fault<'_>, found: &Found<'_>, page: PageRef) -> Result<(), Stop> {
    if fault.access != Access::Write || !found.leave || page.dirtiness() != Dirtiness::Clean {
        return Ok(());
    }
    page.busy.release_shared();
    let object = found.entry.backing.object().clone();
    Err(Stop::Wait(Need::Leave(object, found.index)))
}

/// Finds the faulting page and its resident neighbours, and share-busies them.
pub(super) fn gather(fault: &Fault<'_>, found: &Found<'_>, mut window: Window) -> Result<Gathered, Stop> {
    let mut state = found.entry.backing.lock();
    let page = busy_faulting_page(fault, found, &mut state)?;
    check_leave(fault, found, page)?;
    let step = state
        .streams
        .used(fault.reader(found), found.index, found.entry.attr.advice);
    if step.is_some_and(|step| step.shorter) && window.centre + 1 < window.len {
        window.len -= 1;
    }
    let mut gathered = Gathered {
        pages: [None; MAX_WINDOW],
        window,
        prot: prot_of(found, page),
        behind: None,
    };
    gathered.pages[window.centre] = Some(page);
    for (i, place) in gathered.pages.iter_mut().enumerate().take(window.len) {
        if i != window.centre {
            // A neighbour that is not there, or busy, is not waited for (N14).
            *place = state
                .pages
                .get(PageIndex(window.first.0 + i as u64))
                .filter(|page| busy_alike(found, page, gathered.prot));
        }
    }
    if let Some(step) = step {
        let next = window.first.0 + run_around(&gathered, window.centre).end as u64;
        state.streams.reached(step, next);
        gathered.behind = (step.along > 0).then_some(Behind {
            next,
            along: step.along,
        });
    }
    note_what_may_happen(fault, &mut state, &gathered);
    Ok(gathered)
}

/// Pages that are entered by one call behind the faulting one.
pub(super) const BEHIND_AT_ONCE: usize = 64;

/// Enters up to `len` pages, at most [`BEHIND_AT_ONCE`], from `first` on, which is behind the faulting one, as far as they are
/// resident in one piece. Answers how many.
pub(super) fn enter_behind(fault: &Fault<'_>, found: &Found<'_>, first: PageIndex, len: usize) -> usize {
    let (pages, prot) = busy_behind(found, first, len);
    if pages.is_empty() {
        return 0;
    }
    let run = EnterRun {
        start: VirtAddr(found.page_va.0 + (first.0 - found.index.0) * PAGE_SIZE),
        pages: &pages,
        prot,
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
fn busy_behind(found: &Found<'_>, first: PageIndex, len: usize) -> (Few<PageRef, BEHIND_AT_ONCE>, Prot) {
    let (mut pages, mut prot) = (Few::new(), found.prot);
    let mut state = found.entry.backing.lock();
    while pages.len() < len
        && let Some(page) = state.pages.get(PageIndex(first.0 + pages.len() as u64))
        && page.busy.try_shared()
    {
        let its = prot_of(found, page);
        if !pages.is_empty() && its != prot {
            page.busy.release_shared();
            break;
        }
        prot = its;
        if prot.contains(Prot::WRITE) {
            state.note_writable(page);
        }
        pages.push(page);
    }
    (pages, prot)
}

/// Keeps the faulting page in place of mapping it.
pub(super) fn hold(fault: &mut Fault<'_>, found: &Found<'_>) -> Result<Outcome, Stop> {
    let mut state = found.entry.backing.lock();
    let page = busy_faulting_page(fault, found, &mut state)?;
    check_leave(fault, found, page)?;
    if fault.access == Access::Write {
        state.note_modified(page);
    }
    let step = state
        .streams
        .used(fault.reader(found), found.index, found.entry.attr.advice);
    if step.is_some_and(|step| step.along > 0) {
        fault.plan_ahead(found, &mut state, found.index.0 + 1);
    }
    drop(state);
    Ok(Outcome::Held(SharedBusy::adopt(
        page,
        found.entry.backing.object().clone(),
    )))
}

/// The faulting page, shared busied, or what is needed first.
fn busy_faulting_page(fault: &Fault<'_>, found: &Found<'_>, state: &mut ObjectState) -> Result<PageRef, Stop> {
    let object = &found.entry.backing;
    if let Some(error) = state.refuses_faults() {
        return Err(error.into());
    }
    if !object.has_index(found.index) {
        return Err(FaultError::BeyondObject(fault.va).into());
    }
    match state.pages.get(found.index) {
        Some(page) if page.busy.try_shared() => {
            debug_assert!(page.is_valid(), "a page that is not filled can be shared");
            Ok(page)
        }
        Some(page) => Err(Stop::Wait(Need::Page(page, object.id(), found.index))),
        None => Err(Stop::Wait(how_to_bring_in(fault, found, state))),
    }
}

fn how_to_bring_in(fault: &Fault<'_>, found: &Found<'_>, state: &mut ObjectState) -> Need {
    let object = found.entry.backing.object();
    if !object.ops().contains(PagerOps::POPULATE) || fault.populate_declined {
        let in_entry = pages_of(found.entry.range.end.0 - found.page_va.0) - 1;
        let along = state
            .streams
            .missed(fault.reader(found), found.index, found.entry.attr.advice);
        return Need::Get(
            object.clone(),
            found.index,
            u32::try_from(in_entry).map_or(along, |most| along.min(most)),
        );
    }
    let first = found.entry.offset.page();
    let end = (first.0 + pages_of(found.entry.range.len())).min(pages_of(object.size()));
    let plan = PopulatePlan {
        index: found.index,
        first,
        last: PageIndex(end.saturating_sub(1).max(found.index.0)),
        access: fault.access,
        max_prot: found.entry.attr.max_prot,
    };
    Need::Populate(object.clone(), plan)
}

/// Enters the faulting page, which must succeed, and its neighbours, which may.
pub(super) fn enter(fault: &Fault<'_>, found: &Found<'_>, pages: &Gathered) -> Result<Outcome, Stop> {
    let centre = pages.window.centre;
    let around = run_around(pages, centre);
    enter_run(fault, found, pages, around.clone(), Some(centre))?;
    let mut neighbours = around.len() - 1;
    for run in other_runs(pages, &around) {
        let len = run.len();
        // A neighbour that cannot be entered will fault by itself, if it is ever used (N14).
        if enter_run(fault, found, pages, run, None).is_ok() {
            neighbours += len;
        }
    }
    let stats = fault.map.engine().stats();
    if neighbours > 0 {
        stats.add(Counter::NeighboursMapped, neighbours as u64);
    }
    if !fault.restarted {
        stats.count(Counter::FaultsResident);
    }
    #[allow(clippy::cast_possible_truncation, reason = "less than MAX_WINDOW")]
    let neighbours = neighbours as u32;
    Ok(Outcome::Entered(Resolved {
        case: FaultCase::TwoA,
        resident: !fault.restarted,
        neighbours,
    }))
}

/// A write makes its page dirty before it can happen; a page that is merely mapped writable may become so unseen. Under
/// the object's lock, so that a flush finds it by its tag.
fn note_what_may_happen(fault: &Fault<'_>, state: &mut ObjectState, pages: &Gathered) {
    if pages.prot.contains(Prot::WRITE) {
        for page in pages.pages[..pages.window.len].iter().flatten() {
            state.note_writable(page);
        }
    }
    if fault.access == Access::Write
        && let Some(page) = pages.pages[pages.window.centre]
    {
        state.note_modified(page);
    }
}

type Run = core::ops::Range<usize>;

/// The unbroken run of resident pages that holds the faulting one.
fn run_around(pages: &Gathered, centre: usize) -> Run {
    let start = (0..centre)
        .rev()
        .take_while(|&i| pages.pages[i].is_some())
        .last()
        .unwrap_or(centre);
    let end = (centre..pages.window.len)
        .take_while(|&i| pages.pages[i].is_some())
        .last()
        .unwrap_or(centre)
        + 1;
    start..end
}

/// The other unbroken runs.
fn other_runs<'p>(pages: &'p Gathered, around: &Run) -> impl Iterator<Item = Run> + use<'p> {
    let around = around.clone();
    let len = pages.window.len;
    let mut from = 0;
    core::iter::from_fn(move || {
        loop {
            let start = (from..len).find(|&i| pages.pages[i].is_some())?;
            let end = (start..len).find(|&i| pages.pages[i].is_none()).unwrap_or(len);
            from = end;
            if start != around.start {
                return Some(start..end);
            }
        }
    })
}

/// Hands one run to the machine. With the faulting page in it, only that page's failure counts.
fn enter_run(
    fault: &Fault<'_>,
    found: &Found<'_>,
    pages: &Gathered,
    run: Run,
    centre: Option<usize>,
) -> Result<(), Stop> {
    let mut list = [pages.pages[run.start].unwrap_or_else(|| unreachable!("a run has pages")); MAX_WINDOW];
    for (to, from) in list.iter_mut().zip(pages.pages[run.clone()].iter().flatten()) {
        *to = from;
    }
    // Modulo 2^64: the run may begin before or behind the faulting page.
    let ahead = pages.window.first.0.wrapping_sub(found.index.0);
    let first_va = found.page_va.0.wrapping_add(ahead.wrapping_mul(PAGE_SIZE));
    let enter = EnterRun {
        start: VirtAddr(first_va + run.start as u64 * PAGE_SIZE),
        pages: &list[..run.len()],
        prot: pages.prot,
        accessed: centre.map(|centre| (centre - run.start, fault.access)),
        wired: fault.goal == Goal::Wire || found.entry.attr.wired > 0,
        can_fail: true,
    };
    let (entered, stopped) = fault.map.pmap().enter(&enter);
    let needed = centre.map_or(run.len(), |centre| centre - run.start + 1);
    match stopped {
        Some(reason) if entered < needed => Err(Stop::Wait(match reason {
            NotEntered::Shortage => Need::Tables,
            NotEntered::NotHere => {
                let index = PageIndex(pages.window.first.0 + (run.start + entered) as u64);
                Need::Rehome(found.entry.backing.object().clone(), index)
            }
        })),
        _ => Ok(()),
    }
}
