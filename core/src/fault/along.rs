//! In a sequence: what is mapped along behind the faulting page and its neighbours, and what is to be read ahead.
//!
//! Nothing here can fail the fault. It comes before the faulting page is entered: on a machine with real addresses the thread that
//! waits goes on at that moment, and would fault on each of these pages again. Two faults in a row find each other's
//! pages mapped, so that the next fault comes where this one stopped.

use super::Fault;
use super::lower::{self, BEHIND_AT_ONCE, Behind};
use super::verify::Below;
use crate::object::ObjectState;
use crate::read_ahead::Reader;
use crate::types::{PageIndex, pages_of};

/// Maps pages behind the faulting one, as long as they are in memory, and sees whether that is the time to read ahead.
pub(super) fn map(fault: &mut Fault<'_>, found: &Below<'_>, behind: Behind) {
    let end = found.at.index.0 + 1 + behind.along;
    let mut next = behind.next;
    while next < end {
        let len = usize::try_from(end - next).map_or(BEHIND_AT_ONCE, |left| left.min(BEHIND_AT_ONCE));
        let entered = lower::enter_behind(fault, found, PageIndex(next), len);
        next += entered as u64;
        if entered < len {
            break;
        }
    }
    let mut state = found.object.lock();
    fault.plan_ahead(found, &mut state, next);
}

impl Fault<'_> {
    /// The sequence is mapped up to `next`: remembers the window that is to be read ahead once everything is let go of.
    pub(super) fn plan_ahead(&mut self, found: &Below<'_>, state: &mut ObjectState, next: u64) {
        let object = found.object.object();
        let plan = state.streams.mapped(self.reader(found), found.at.index, next);
        if let Some(plan) = plan.and_then(|plan| plan.missing(&state.pages, pages_of(object.size()))) {
            self.ahead = Some((object.clone(), plan));
        }
    }

    /// Whose sequences this access may belong to.
    pub(super) fn reader(&self, found: &Below<'_>) -> Reader {
        Reader::new(self.map.pmap(), found.at.page_va, found.at.index)
    }
}
