//! In a sequence: what is mapped along behind the faulting page, and what is to be read ahead.
//!
//! Nothing here can fail the fault, which has ended well. Two faults in a row find each other's pages mapped, so that the
//! next fault comes where this one stopped.

use super::Fault;
use super::lower;
use super::verify::Found;
use crate::read_ahead::{MOST_ALONG, Plan};
use crate::types::{MAX_WINDOW, PageIndex, pages_of};

/// Maps the pages behind the faulting one, as long as they are in memory, and sees whether that is the time to read ahead.
pub(super) fn map(fault: &mut Fault<'_>, found: &Found<'_>) {
    let in_entry = pages_of(found.entry.range.end.0 - found.page_va.0);
    let end = found.index.0 + in_entry.min(1 + MOST_ALONG);
    let mut next = found.index.0 + 1;
    while next < end {
        let len = usize::try_from(end - next).map_or(MAX_WINDOW, |left| left.min(MAX_WINDOW));
        let entered = lower::enter_behind(fault, found, PageIndex(next), len);
        next += entered as u64;
        if entered < len {
            break;
        }
    }
    let plan = found.entry.backing.lock().streams.mapped(found.index, next);
    fault.plan_ahead(found, plan);
}

impl Fault<'_> {
    /// Remembers a window to be read ahead once everything is let go of.
    pub(super) fn plan_ahead(&mut self, found: &Found<'_>, plan: Option<Plan>) {
        if let Some(plan) = plan {
            self.ahead = Some((found.entry.backing.object().clone(), plan));
        }
    }
}
