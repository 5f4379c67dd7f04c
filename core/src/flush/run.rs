//! Finding the next run of dirty pages, and making sure that they are.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::MAX_RUN;
use crate::alloc_fallible::try_reserve;
use crate::error::Result;
use crate::few::Few;
use crate::object::{ExclusiveBusy, Object};
use crate::page::{Dirtiness, PageRef};
use crate::types::{PageIndex, Prot, pages_of};

/// Contiguous pages, exclusively busied.
pub(crate) type Run = Vec<ExclusiveBusy<Arc<Object>>>;

/// What comes next in a range.
pub(super) enum Next {
    /// These may be dirty.
    Run(Run),
    /// This one may be, and somebody has it busied.
    Busy(PageIndex, PageRef),
    /// Nothing.
    End,
}

impl Object {
    /// Busies the next run of pages at or after `from` that are, or may be, dirty. It ends before a page that is busy. Does
    /// not wait.
    pub(super) fn next_dirty_run(self: &Arc<Self>, from: PageIndex, end: PageIndex, longest: usize) -> Result<Next> {
        let mut run = Vec::new();
        try_reserve(&mut run, longest)?;
        let mut state = self.lock();
        state.takes_requests()?;
        // What lies behind the end is about to be freed, and not to be written (S131).
        let end = end.min(PageIndex(pages_of(self.size())));
        let Some((first, page)) = state.next_unclean(from, end) else {
            return Ok(Next::End);
        };
        let Some(busy) = ExclusiveBusy::try_resident(self.clone(), &state, first) else {
            return Ok(Next::Busy(first, page));
        };
        run.push(busy);
        while run.len() < longest {
            let next = PageIndex(first.0 + run.len() as u64);
            let wanted = next < end
                && state
                    .pages
                    .get(next)
                    .is_some_and(|page| page.dirtiness() != Dirtiness::Clean);
            match wanted
                .then(|| ExclusiveBusy::try_resident(self.clone(), &state, next))
                .flatten()
            {
                Some(busy) => run.push(busy),
                None => break,
            }
        }
        Ok(Next::Run(run))
    }
}

/// Lowers every mapping of a run, at most [`MAX_RUN`] pages, to `prot`, which allows no writing, and records what the machine collected:
/// afterwards each of them is clean or dirty.
pub(super) fn settle(object: &Object, run: &[ExclusiveBusy<Arc<Object>>], prot: Prot) {
    if run.is_empty() {
        return;
    }
    let pages: Few<PageRef, MAX_RUN> = run.iter().map(ExclusiveBusy::page).collect();
    // In this order: a machine on which pages can be written unseen all the same notes them as writable again.
    pages.iter().for_each(|page| page.settle());
    object.engine().machine().page_protect(&pages, prot);
}
