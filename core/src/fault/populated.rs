//! What a populate installed, mapped at once: no fault for each page, and no look at the object again.
//!
//! The pages come exclusively busied, so that nobody can take one away, and leave unbusied whatever happens: mapped, or kept
//! as cache because they lie outside of the entry (D1, D2), or because the map has changed meanwhile (D3).

use alloc::sync::Arc;

use super::verify::{self, Below};
use super::{Fault, FaultCase, Goal, Outcome, Stop, lower};
use crate::error::{Error, FaultError};
use crate::few::Few;
use crate::machine::{EnterRun, MOST_ENTERED};
use crate::object::{ExclusiveBusy, Object};
use crate::page::PageRef;
use crate::populate::{Ended, Installed, PopulatePlan};
use crate::shown::Upper;
use crate::types::{Access, PAGE_SIZE, PageIndex, Prot, VirtAddr};

/// Times a populate may start one fault over.
const MOST_REFAULTS: u32 = 16;

type Held = ExclusiveBusy<Arc<Object>>;

impl Fault<'_> {
    /// Asks the pager to install pages, for the map as it was at `version`. Either they are mapped, and the fault has ended, or
    /// it starts over.
    pub(super) fn populate(
        &mut self,
        object: &Arc<Object>,
        plan: PopulatePlan,
        version: u64,
    ) -> Result<Option<Outcome>, FaultError> {
        let installed = match object.populate(plan) {
            Ok(Ended::Installed(installed)) => installed,
            Ok(Ended::Declined) => {
                self.populate_declined = true;
                return Ok(None);
            }
            Ok(Ended::Restart) => {
                // A pager that starts the fault over again and again is taken as one that declines: a fault ends.
                self.refaults += 1;
                self.populate_declined = self.refaults >= MOST_REFAULTS;
                return Ok(None);
            }
            Err(Error::NoMemory) => return self.wait_for_memory().map(|()| None),
            Err(Error::Pager(error)) => return Err(self.pager_failed(plan.index, error)),
            Err(error) => unreachable!("populate failed without a pager's answer: {error}"),
        };
        self.populate_declined = false;
        match self.map_installed(object, &installed, version) {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Fail(error)) => Err(error),
            Err(Stop::Wait(need)) => {
                // What is waited for may be these very pages.
                drop(installed);
                self.wait_for(need).map(|()| None)
            }
        }
    }

    /// Maps the pages that the entry shows, if the map is as it was (S224 to S228). What is wired or held is found by the next attempt.
    fn map_installed(
        &self,
        object: &Arc<Object>,
        installed: &Installed,
        version: u64,
    ) -> Result<Option<Outcome>, Stop> {
        if self.goal != Goal::Enter {
            return Ok(None);
        }
        let entries = self.map.read();
        if self.map.version() != version {
            return Ok(None);
        }
        let found = verify::find_entry(self, &entries)?;
        let (Upper::Shared, Some(below)) = (&found.entry.backing.upper, &found.entry.backing.below) else {
            return Ok(None);
        };
        let shows = found.entry.places();
        let below = found.below(below, shows.clone());
        // A pager that wants to be asked before a page is written is asked by the ordinary path.
        if below.leave {
            return Ok(None);
        }
        let pages = installed.within(&shows);
        let here = |held: &Held| held.page().index() == below.at.index;
        let Some(centre) = pages.iter().position(here) else {
            return Ok(None);
        };
        lower::check_device(self, pages[centre].page())?;
        self.note_what_installing_does(object, pages, below.prot)?;
        self.enter_installed(&below, pages, centre)?;
        let neighbours = u32::try_from(pages.len() - 1).unwrap_or(u32::MAX);
        self.count_neighbours(u64::from(neighbours));
        Ok(Some(self.entered(FaultCase::TwoA, neighbours)))
    }

    /// Each page is dirtied if the fault is a write (S228), and may become so unseen if it is mapped writable.
    fn note_what_installing_does(&self, object: &Object, pages: &[Held], prot: Prot) -> Result<(), Stop> {
        let mut state = object.lock();
        // Whoever takes the object away from now on waits for these pages, and unmaps them.
        if let Some(error) = state.refuses_faults() {
            return Err(error.into());
        }
        if !prot.contains(Prot::WRITE) {
            return Ok(());
        }
        for held in pages {
            state.note_writable(held.page());
            if self.access == Access::Write {
                state.note_modified(held.page());
            }
        }
        Ok(())
    }

    /// Enters them in runs as long as the machine takes. The faulting one must succeed; others will fault by themselves if they are ever used.
    fn enter_installed(&self, below: &Below<'_>, pages: &[Held], centre: usize) -> Result<(), Stop> {
        let mut from = 0;
        for run in pages.chunk_by(|one, next| is_one_run(below, one.page(), next.page())) {
            let list: Few<PageRef, MOST_ENTERED> = run.iter().map(Held::page).collect();
            let accessed = (from..from + run.len())
                .contains(&centre)
                .then(|| (centre - from, self.access));
            let (entered, stopped) = self.map.pmap().enter(&EnterRun {
                start: va_of(below, run[0].page().index()),
                pages: &list,
                prot: lower::prot_of(below, list[0]),
                cache: list[0].cache_mode(),
                accessed,
                wired: below.at.entry.attr.wired > 0,
                can_fail: true,
            });
            let failed = stopped.filter(|_| accessed.is_some_and(|(at, _)| entered <= at));
            match failed {
                None => from += run.len(),
                Some(why) => return Err(Stop::not_entered(why, below.object.object(), below.at.index)),
            }
        }
        Ok(())
    }
}

/// Whether a page and the next one are entered together: side by side, alike, and on the same side of each multiple of a large page's
/// addresses.
fn is_one_run(below: &Below<'_>, one: PageRef, next: PageRef) -> bool {
    one.index().0 + 1 == next.index().0
        && !va_of(below, next.index())
            .0
            .is_multiple_of(MOST_ENTERED as u64 * PAGE_SIZE)
        && lower::go_together(below, one, next)
}

/// Where the entry shows a page. Modulo 2^64: it may lie before or behind the faulting one.
fn va_of(below: &Below<'_>, index: PageIndex) -> VirtAddr {
    let ahead = index.0.wrapping_sub(below.at.index.0);
    VirtAddr(below.at.page_va.0.wrapping_add(ahead.wrapping_mul(PAGE_SIZE)))
}
