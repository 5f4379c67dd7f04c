//! Step 3 for entries with memory of their own: case 1, and whether a page has to be promoted.
//!
//! What is found here holds as long as the amap is looked at, which is over the entering as well: whoever replaces an anon waits.

use alloc::sync::Arc;
use core::ops::Range;

use super::gathered::{self, Gathered};
use super::verify::Found;
use super::{Fault, FaultCase, Goal, Need, Outcome, Stop, check, lower, promote};
use crate::amap::{Anon, Look};
use crate::object::{Object, ObjectState, SharedBusy};
use crate::page::{Dirtiness, PageRef};
use crate::shown::Private;
use crate::sync::ObjectGuard;
use crate::types::{Access, PageIndex, Prot};

/// What there is to do for a page of an entry with an amap.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// The anon's page is mapped as it is.
    Enter(InMemory<'a>),
    /// The object's page is mapped, not to be written.
    Below,
    /// The slot gets a page with what lies below.
    Fill,
    /// The slot gets a copy of its anon's page.
    Copy(InMemory<'a>),
    /// The same, once the page has come from swap.
    CopyFromSwap(Anon<'a>),
}

/// What an anon holds.
enum Contents<'a> {
    /// A page in memory.
    Page(InMemory<'a>),
    /// A page in swap.
    InSwap(Anon<'a>),
    /// Nothing: it was never written.
    Nothing,
}

/// An anon's page. That it is there holds as long as its store is locked.
#[derive(Debug)]
pub(super) struct InMemory<'a> {
    pub(super) anon: Anon<'a>,
    pub(super) state: ObjectGuard<'a, ObjectState>,
    pub(super) page: PageRef,
}

/// Enters or keeps what the entry shows at the page.
pub(super) fn resolve<'e>(fault: &mut Fault<'_>, found: &Found<'e>, private: &'e Private) -> Result<Outcome, Stop> {
    let below = found.entry.backing.below.as_ref();
    let Some(amap) = &private.amap else {
        return match below {
            Some(object) if !fault.wants_own(found) => {
                lower::resolve(fault, &found.below(object, found.entry.places()))
            }
            _ => Err(Stop::Wait(Need::Amap(found.page_va))),
        };
    };
    if fault.spare.is_some()
        && let Some(outcome) = promote::promote(fault, found, private, amap)?
    {
        return Ok(outcome);
    }
    let look = amap.look();
    match next_step(fault, found, private, look.anon(found.index))? {
        Step::Enter(there) if fault.goal == Goal::Hold => hold(fault, there),
        Step::Enter(there) => enter(fault, found, private, &look, there),
        Step::Below => match below {
            Some(object) => lower::resolve(fault, &found.below(object, without_anons(found, &look))),
            None => unreachable!("zeros are filled in"),
        },
        // The spare page comes before its source: getting one may take the other from memory.
        Step::Copy(InMemory { anon, .. }) | Step::CopyFromSwap(anon) if anon.at_home => {
            Err(Stop::Wait(Need::Attic(amap.clone())))
        }
        Step::Copy(_) | Step::CopyFromSwap(_) | Step::Fill => {
            let (store, anon) = (look.store().clone(), look.anon(found.index));
            Err(Stop::Wait(if anon.is_some_and(|anon| anon.goes_when_replaced()) {
                Need::Replacement(store, found.index)
            } else {
                Need::Spare(store, found.index)
            }))
        }
    }
}

/// What there is to do, given the slot's anon. Nothing has been busied.
pub(super) fn next_step<'a>(
    fault: &Fault<'_>,
    found: &Found<'_>,
    private: &Private,
    anon: Option<Anon<'a>>,
) -> Result<Step<'a>, Stop> {
    let is_linear = fault.map.pmap().is_linear();
    let wants_own = fault.wants_own(found);
    let serves_as_it_is = |anon: &Anon<'_>| {
        let is_own = !anon.is_shared && !private.needs_copy;
        let can_be_shown = !is_linear || anon.at_home;
        can_be_shown && (is_own || !wants_own)
    };
    let step = match anon.map_or(Ok(Contents::Nothing), |anon| contents(fault, anon))? {
        Contents::Page(there) if serves_as_it_is(&there.anon) => return Ok(Step::Enter(there)),
        Contents::Page(there) => Step::Copy(there),
        Contents::InSwap(anon) if serves_as_it_is(&anon) => return Err(Stop::Wait(from_swap(found, anon))),
        Contents::InSwap(anon) => Step::CopyFromSwap(anon),
        Contents::Nothing if wants_own || is_linear || found.entry.backing.below.is_none() => Step::Fill,
        Contents::Nothing => return Ok(Step::Below),
    };
    if private.needs_copy {
        return Err(Stop::Wait(Need::Amap(found.page_va)));
    }
    Ok(step)
}

fn contents<'a>(fault: &Fault<'_>, anon: Anon<'a>) -> Result<Contents<'a>, Stop> {
    let state = anon.store.lock();
    if let Some(error) = state.refuses_faults() {
        return Err(error.into());
    }
    // The fault's own spare page holds nothing yet. Before it came there another one may have come, been written, and gone to swap.
    let is_spare = fault.spare_at(anon.store, anon.place).is_some();
    Ok(match state.pages.get(anon.place).filter(|_| !is_spare) {
        Some(page) => Contents::Page(InMemory { anon, state, page }),
        None if anon.store.has_slot(anon.place) => Contents::InSwap(anon),
        None => Contents::Nothing,
    })
}

/// An anon's page, and those behind it that its window reaches if they are at hand.
fn from_swap(found: &Found<'_>, anon: Anon<'_>) -> Need {
    let shown = found.entry.places().end.0 - found.index.0 - 1;
    let (_, behind) = found.entry.attr.advice.window();
    let along = u32::try_from(shown.min(behind)).unwrap_or(0);
    Need::Get(anon.store.clone(), anon.place, along)
}

impl Fault<'_> {
    /// Whether the page has to be the entry's own, so that what is written to it nobody else sees. A page that is wired may not be replaced
    /// by a write that comes later.
    pub(super) fn wants_own(&self, found: &Found<'_>) -> bool {
        self.own || self.access == Access::Write || (self.goal == Goal::Wire && found.entry.may_be_written())
    }

    /// What the machine is told that a page of the entry's own is accessed for. One that is wired is noted as modified, so that the first write
    /// to it need not fault either.
    pub(super) fn own_access(&self, prot: Prot) -> Access {
        if self.goal == Goal::Wire && prot.contains(Prot::WRITE) {
            Access::Write
        } else {
            self.access
        }
    }
}

impl InMemory<'_> {
    /// Share-busies the page.
    pub(super) fn busy(&self) -> Result<SharedBusy<Arc<Object>>, Stop> {
        if self.page.busy.try_shared() {
            return Ok(SharedBusy::adopt(self.page, self.anon.store.clone()));
        }
        Err(Stop::Wait(Need::Page(self.page, self.anon.store.id(), self.anon.place)))
    }

    /// Notes what the access will do to the page.
    fn note_access(&mut self, fault: &Fault<'_>) {
        if fault.access == Access::Write || fault.goal == Goal::Wire {
            self.state.note_modified(self.page);
        }
    }
}

/// Keeps the anon's page.
fn hold(fault: &Fault<'_>, mut there: InMemory<'_>) -> Result<Outcome, Stop> {
    let page = there.busy()?;
    there.note_access(fault);
    Ok(Outcome::Held(page))
}

/// Case 1A: maps the anon's page and those of its neighbours.
fn enter(
    fault: &Fault<'_>,
    found: &Found<'_>,
    private: &Private,
    look: &Look<'_>,
    mut there: InMemory<'_>,
) -> Result<Outcome, Stop> {
    let page = there.busy()?;
    there.note_access(fault);
    let window = check::window(fault, found, &with_anons(found, look));
    let prot = prot_of(found, private, &there.anon, there.page);
    let mut pages = Gathered::new(window, page.leave_busied(), prot);
    if prot.contains(Prot::WRITE) {
        there.state.note_writable(there.page);
    }
    let store = there.anon.store;
    drop(there);
    for i in (0..window.len).filter(|i| *i != window.centre) {
        if let Some((page, prot)) = look
            .anon(PageIndex(window.first.0 + i as u64))
            .and_then(|anon| busy_neighbour(found, private, &anon))
        {
            pages.add(i, page, prot);
        }
    }
    gathered::enter(fault, found, &pages, store, FaultCase::OneA)
}

/// A neighbour that is not there, or busy, is not waited for (N14).
fn busy_neighbour(found: &Found<'_>, private: &Private, anon: &Anon<'_>) -> Option<(PageRef, Prot)> {
    let mut state = anon.store.lock();
    let page = state.pages.get(anon.place).filter(|page| page.busy.try_shared())?;
    let prot = prot_of(found, private, anon, page);
    if prot.contains(Prot::WRITE) {
        state.note_writable(page);
    }
    Some((page, prot))
}

/// The rights of a mapping of an anon's page made now. What others refer to is not written; and a write to a page that is in swap has to
/// be seen, so that its slot goes (S189).
fn prot_of(found: &Found<'_>, private: &Private, anon: &Anon<'_>, page: PageRef) -> Prot {
    let in_swap = page.dirtiness() == Dirtiness::Clean && anon.store.has_slot(anon.place);
    if anon.is_shared || private.needs_copy || in_swap {
        found.entry.attr.prot - Prot::WRITE
    } else {
        found.entry.attr.prot
    }
}

/// The slots around the page, in the entry and as far as any window goes, that have no anon.
fn without_anons(found: &Found<'_>, look: &Look<'_>) -> Range<PageIndex> {
    let places = found.entry.places();
    let start = slots_before(found, &places)
        .take_while(|slot| look.anon(*slot).is_none())
        .last();
    let end = look.next(PageIndex(found.index.0 + 1)).filter(|end| *end < places.end);
    start.unwrap_or(found.index)..end.unwrap_or(places.end)
}

/// The slots around the page that have one.
fn with_anons(found: &Found<'_>, look: &Look<'_>) -> Range<PageIndex> {
    let places = found.entry.places();
    let start = slots_before(found, &places)
        .take_while(|slot| look.anon(*slot).is_some())
        .last();
    let (_, behind) = found.entry.attr.advice.window();
    let end = (found.index.0 + 1..places.end.0.min(found.index.0 + 1 + behind))
        .take_while(|slot| look.anon(PageIndex(*slot)).is_some())
        .last();
    start.unwrap_or(found.index)..PageIndex(end.unwrap_or(found.index.0) + 1)
}

/// The slots before the page that its window reaches, backwards.
fn slots_before(found: &Found<'_>, places: &Range<PageIndex>) -> impl Iterator<Item = PageIndex> + use<> {
    let (before, _) = found.entry.attr.advice.window();
    let first = places.start.0.max(found.index.0.saturating_sub(before));
    (first..found.index.0).rev().map(PageIndex)
}
