//! Step 2: which neighbours are mapped along if they are resident.

use core::ops::Range;

use super::verify::Found;
use super::{Fault, Goal};
use crate::types::{MAX_WINDOW, PageIndex};

/// A range of page indices around the faulting one, at most [`MAX_WINDOW`] long, inside the entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) first: PageIndex,
    pub(super) len: usize,
    /// The faulting page, as an index into the window.
    pub(super) centre: usize,
}

/// The advice's window, clipped to `shows`, which lies in the entry and holds the page (N12). A page is wired alone.
#[allow(clippy::cast_possible_truncation, reason = "a window has at most MAX_WINDOW pages")]
pub(super) fn window(fault: &Fault<'_>, found: &Found<'_>, shows: &Range<PageIndex>) -> Window {
    let (before, behind) = match fault.goal {
        Goal::Wire => (0, 0),
        Goal::Enter | Goal::Hold => found.entry.attr.advice.window(),
    };
    let before = before.min(found.index.0 - shows.start.0);
    let behind = behind.min(shows.end.0 - found.index.0 - 1);
    let window = Window {
        first: PageIndex(found.index.0 - before),
        len: (before + behind) as usize + 1,
        centre: before as usize,
    };
    debug_assert!(window.len <= MAX_WINDOW);
    window
}
