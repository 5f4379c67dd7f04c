//! Entering pages that show memory of devices.

use std::sync::atomic::Ordering;

use quire_core::machine::{EnterRun, MOST_ENTERED};
use quire_core::types::{AddrRange, PAGE_SIZE, VirtAddr};

use super::{LaidHere, LinuxPmap, at};
use crate::calls::Kind;
use crate::device::NotShown;

impl LinuxPmap {
    /// How many pages from `from` on lie side by side in one aperture, and are mapped by one call.
    pub(super) fn device_piece(&self, here: &LaidHere, run: &EnterRun<'_>, from: usize) -> usize {
        let in_layout = (here.laid.range.end.0 - at(run, from).0) / PAGE_SIZE;
        let most = usize::try_from(in_layout).map_or(usize::MAX, |most| most.min(run.pages.len() - from));
        let frame = run.pages[from].frame().0;
        let goes_on = |i: &usize| run.pages[from + i].frame().0 == frame + *i as u64 && !self.is_there(run, from + i);
        1 + (1..most).take_while(goes_on).count()
    }

    /// Shows `len` pages of a device.
    pub(super) fn enter_device(
        &self,
        here: &LaidHere,
        run: &EnterRun<'_>,
        from: usize,
        len: usize,
    ) -> core::result::Result<(), NotShown> {
        let (slots, channel) = (self.machine.slots, &here.laid.channel);
        let pages = &run.pages[from..from + len];
        let range = AddrRange {
            start: at(run, from),
            end: at(run, from + len),
        };
        let Some(part) = here.laid.part(range) else {
            return Err(NotShown::Shortage);
        };
        let mut new = [false; MOST_ENTERED];
        for (i, page) in pages.iter().enumerate() {
            new[i] = slots.enter(at(run, from + i), page, run.wired);
            if new[i] {
                page.machine_words()[0].fetch_add(1, Ordering::AcqRel);
            }
        }
        channel.calls.count(Kind::Enter);
        let shown = channel.devices.show(&channel.uffd, &part, pages, here.prot);
        if shown.is_ok() {
            channel.calls.add(Kind::PageEntered, len as u64);
        } else {
            for (i, page) in pages.iter().enumerate().filter(|(i, _)| new[*i]) {
                slots.leave(at(run, from + i));
                page.machine_words()[0].fetch_sub(1, Ordering::AcqRel);
            }
        }
        // Whoever waits here waits for a range that is none of the userfaultfd's any more.
        channel.wake_all(range);
        shown
    }

    /// Whether a device is seen at an address.
    pub(crate) fn shows_device(&self, va: VirtAddr) -> bool {
        self.at(va)
            .is_some_and(|here| here.laid.channel.devices.at(va).is_some())
    }
}
