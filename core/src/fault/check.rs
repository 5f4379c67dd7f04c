//! Step 2: which neighbours are mapped along if they are resident.

use super::verify::Found;
use crate::types::{MAX_WINDOW, PageIndex, pages_of};

/// A range of page indices around the faulting one, at most [`MAX_WINDOW`] long, inside the entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) first: PageIndex,
    pub(super) len: usize,
    /// The faulting page, as an index into the window.
    pub(super) centre: usize,
}

/// The advice's window, clipped to the entry (N12).
#[allow(clippy::cast_possible_truncation, reason = "a window has at most MAX_WINDOW pages")]
pub(super) fn window(found: &Found<'_>) -> Window {
    let (before, behind) = found.entry.attr.advice.window();
    let range = found.entry.range;
    let before = before.min(pages_of(found.page_va.0 - range.start.0));
    let behind = behind.min(pages_of(range.end.0 - found.page_va.0) - 1);
    let window = Window {
        first: PageIndex(found.index.0 - before),
        len: (before + behind) as usize + 1,
        centre: before as usize,
    };
    debug_assert!(window.len <= MAX_WINDOW);
    window
}
