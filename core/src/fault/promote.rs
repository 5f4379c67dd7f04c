//! Cases 1B and 2B: a page that has to be the entry's own becomes so, with the amap to itself.
//!
//! Everything that can fail comes before anybody can see the new page; what was done up to then is undone.

use alloc::sync::Arc;

use super::upper::{self, Step};
use super::verify::Found;
use super::{Fault, FaultCase, Goal, Need, Outcome, Stop, lower};
use crate::amap::{Amap, Anon, Change, Old};
use crate::machine::{EnterRun, Shortage};
use crate::object::{ExclusiveBusy, Object, ObjectRef, SharedBusy};
use crate::page::PageRef;
use crate::shown::Private;
use crate::stats::Counter;
use crate::types::{Access, AddrRange, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// A page that is copied, busied so that it stays as it is.
#[derive(Debug)]
enum Source {
    /// Whoever has it mapped may keep it.
    Seen(SharedBusy<Arc<Object>>),
    /// Nobody may have it mapped any more when the copy shows.
    Alone(ExclusiveBusy<Arc<Object>>),
}

impl Source {
    fn new(busy: SharedBusy<Arc<Object>>, alone: bool) -> Result<Self, Stop> {
        if !alone {
            return Ok(Self::Seen(busy));
        }
        busy.try_upgrade().map(Self::Alone).map_err(|busy| {
            let (page, object) = (busy.page(), busy.object().id());
            Stop::Wait(Need::Alone(page, object, page.index()))
        })
    }

    fn page(&self) -> PageRef {
        match self {
            Self::Seen(busy) => busy.page(),
            Self::Alone(busy) => busy.page(),
        }
    }

    /// From here on those who had it mapped fault.
    fn unmap(&self) {
        if let Self::Alone(busy) = self {
            busy.lower(Prot::empty());
        }
    }

    fn keep(self) -> SharedBusy<Arc<Object>> {
        match self {
            Self::Seen(busy) => busy,
            Self::Alone(busy) => busy.downgrade(),
        }
    }
}

/// Puts the spare page to use, if it is the one that is needed. Nothing if it is not, or if there is another step to take by now.
pub(super) fn promote(
    fault: &mut Fault<'_>,
    found: &Found<'_>,
    private: &Private,
    amap: &Arc<Amap>,
) -> Result<Option<Outcome>, Stop> {
    let mut change = amap.change();
    if fault.in_signal && change.anon(found.index).is_some_and(|anon| anon.goes_when_replaced()) {
        // Those who shared it have gone since: who hears of what goes is a pager.
        let store = change.store().clone();
        return Err(Stop::Wait(Need::Replacement(store, found.index)));
    }
    let source = match upper::next_step(fault, found, private, change.anon(found.index))? {
        Step::Fill => None,
        Step::Copy(there) => {
            let at_home = there.anon.at_home;
            let source = Source::new(there.busy()?, at_home || change.is_shared())?;
            Some((source, at_home))
        }
        Step::CopyFromSwap(anon) if is_spare_for(fault, found, &change, &anon) => {
            return Err(Stop::Wait(Need::Get(anon.store.clone(), anon.place, 0)));
        }
        Step::CopyFromSwap(_) | Step::Enter(_) | Step::Below => return Ok(None),
    };
    match source {
        None => fill(fault, found, &mut change),
        Some((source, true)) => leave_home(fault, found, &mut change, source),
        Some((source, false)) => copy(fault, found, &mut change, source),
    }
}

/// Whether the spare page is where a copy of the anon's page is to go.
fn is_spare_for(fault: &Fault<'_>, found: &Found<'_>, change: &Change<'_>, anon: &Anon<'_>) -> bool {
    if anon.at_home {
        fault.spare_in(change.attic()).is_some()
    } else {
        fault.spare_at(change.store(), found.index).is_some()
    }
}

/// Case 2B: what lies below, or zeros, come into the slot's home.
fn fill(fault: &mut Fault<'_>, found: &Found<'_>, change: &mut Change<'_>) -> Result<Option<Outcome>, Stop> {
    let Some(page) = fault.spare_at(change.store(), found.index) else {
        return Ok(None);
    };
    let source = match &found.entry.backing.below {
        Some(object) => Some(below(fault, found, object, change.is_shared())?),
        None => None,
    };
    bring_to(fault, source.as_ref(), page)?;
    let at_home = change.anon(found.index).filter(|anon| anon.at_home);
    let is_others_too = at_home.is_some_and(|anon| anon.is_shared);
    let has_anon = at_home.is_some();
    if is_others_too && fault.wants_own(found) {
        // First it is everybody's, and then it is copied as any other.
        let _ = fault.put_spare_to_use();
        return Ok(None);
    }
    let replaced = if has_anon {
        None
    } else {
        Some(
            change
                .replace(found.index, Old::Stays)
                .map_err(|_| Stop::Wait(Need::Tables))?,
        )
    };
    if let Some(source) = &source {
        source.unmap();
    }
    let prot = if is_others_too {
        found.entry.attr.prot - Prot::WRITE
    } else {
        found.entry.attr.prot
    };
    if let Err(stop) = show(fault, found, page, change.store(), prot) {
        if let Some(replaced) = replaced {
            change.undo(replaced);
        }
        return Err(stop);
    }
    fault.left = replaced.and_then(|replaced| change.end(replaced));
    if source.is_none() {
        fault.map.engine().stats().count(Counter::ZeroFills);
    }
    let kept = fault.put_spare_to_use();
    Ok(kept.map(|kept| finish(fault, kept, FaultCase::TwoB)))
}

/// Case 1B: the slot gets a copy of a page that others refer to, or that does not show where it is.
fn copy(
    fault: &mut Fault<'_>,
    found: &Found<'_>,
    change: &mut Change<'_>,
    source: Source,
) -> Result<Option<Outcome>, Stop> {
    let Some(page) = fault.spare_at(change.store(), found.index) else {
        return Ok(None);
    };
    bring_to(fault, Some(&source), page)?;
    change.store().dirty_and_release(page);
    let replaced = change
        .replace(found.index, Old::Stays)
        .map_err(|_| Stop::Wait(Need::Tables))?;
    source.unmap();
    if let Err(stop) = show(fault, found, page, change.store(), found.entry.attr.prot) {
        change.undo(replaced);
        return Err(stop);
    }
    move_wirings(fault, found, change, source.page(), page);
    fault.left = change.end(replaced);
    let kept = fault.put_spare_to_use();
    Ok(kept.map(|kept| finish(fault, kept, FaultCase::OneB)))
}

/// The wirings of those who show the amap go along with its slot. Others who refer to the old page have not wired it: for that it would have
/// had to be their own.
fn move_wirings(fault: &Fault<'_>, found: &Found<'_>, change: &Change<'_>, from: PageRef, to: PageRef) {
    let memory = &fault.map.engine().memory;
    let wirings = if change.is_shared() {
        from.wire_count()
    } else {
        u32::from(found.entry.attr.wired > 0)
    };
    for _ in 0..wirings {
        memory.wire(to);
        memory.unwire(from);
    }
}

/// Case 1B: the slot keeps the page at its home, and the others who refer to it get a copy in the attic.
fn leave_home(
    fault: &mut Fault<'_>,
    found: &Found<'_>,
    change: &mut Change<'_>,
    source: Source,
) -> Result<Option<Outcome>, Stop> {
    let Some((attic, page)) = fault.spare_in(change.attic()) else {
        return Ok(None);
    };
    bring_to(fault, Some(&source), page)?;
    attic.dirty_and_release(page);
    let moves = Old::Moves(page.index());
    let replaced = change
        .replace(found.index, moves)
        .map_err(|_| Stop::Wait(Need::Tables))?;
    source.unmap();
    change.store().dirty_and_release(source.page());
    if let Err(stop) = show(fault, found, source.page(), change.store(), found.entry.attr.prot) {
        change.undo(replaced);
        return Err(stop);
    }
    fault.left = change.end(replaced);
    let _ = fault.put_spare_to_use();
    Ok(Some(finish(fault, source.keep(), FaultCase::OneB)))
}

/// The object's page, busied.
fn below(fault: &Fault<'_>, found: &Found<'_>, object: &ObjectRef, alone: bool) -> Result<Source, Stop> {
    let shows = found.index..PageIndex(found.index.0 + 1);
    Source::new(lower::to_copy(fault, &found.below(object, shows))?, alone)
}

/// Fills a spare page.
fn bring_to(fault: &Fault<'_>, source: Option<&Source>, page: PageRef) -> Result<(), Stop> {
    let machine = fault.map.engine().machine();
    let brought = match source {
        Some(source) => machine.copy_page(source.page(), page),
        None => machine.zero_page(page),
    };
    brought.map_err(|Shortage| Stop::Wait(Need::Tables))?;
    page.mark_valid();
    Ok(())
}

/// Enters the slot's own page, whatever the fault is for: what was mapped there is replaced. Where the entry does not allow the access,
/// which is that of somebody who copies it, nothing is mapped.
fn show(fault: &Fault<'_>, found: &Found<'_>, page: PageRef, object: &Arc<Object>, prot: Prot) -> Result<(), Stop> {
    {
        let mut state = object.lock();
        if prot.contains(Prot::WRITE) {
            state.note_writable(page);
        }
        if fault.access == Access::Write || fault.goal == Goal::Wire {
            state.note_modified(page);
        }
    }
    if !prot.contains(fault.access.needs()) {
        let (start, end) = (found.page_va, VirtAddr(found.page_va.0 + PAGE_SIZE));
        fault.map.pmap().remove(AddrRange { start, end });
        return Ok(());
    }
    let (_, stopped) = fault.map.pmap().enter(&EnterRun {
        start: found.page_va,
        pages: &[page],
        prot,
        cache: page.cache_mode(),
        accessed: Some((0, fault.own_access(prot))),
        wired: fault.goal == Goal::Wire || found.entry.attr.wired > 0,
        can_fail: true,
    });
    stopped.map_or(Ok(()), |why| Err(Stop::not_entered(why, object, page.index())))
}

/// The page has been entered.
fn finish(fault: &Fault<'_>, page: SharedBusy<Arc<Object>>, case: FaultCase) -> Outcome {
    match fault.goal {
        Goal::Hold => Outcome::Held(page),
        Goal::Enter => fault.entered(case, 0),
        Goal::Wire => {
            fault.map.engine().memory.wire(page.page());
            fault.entered(case, 0)
        }
    }
}
