//! A range of addresses that shows a part of an object: taking its pages away again, and finding out what was written
//! through it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quire_core::machine::{Harvest, Serve};
use quire_core::page::PageRef;
use quire_core::types::{AddrRange, Frame, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use rustix::io::Errno;

use crate::calls::{Counters, Kind};
use crate::device::Devices;
use crate::slots::Slots;
use crate::sys::{self, Pagemap, Query, Region, ScanFlags, Span, Uffd};

/// Pages whose writes are asked for at once.
const AT_ONCE: usize = 64;

/// A userfaultfd that serves ranges of one address space.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) uffd: Uffd,
    pub(crate) calls: Arc<Counters>,
    pub(crate) serve: Serve,
    /// Every first write to a clean page is a fault of ours. Otherwise the kernel lifts the protection itself and only
    /// leaves a trace.
    pub(crate) tells_writes: bool,
    /// Where its ranges show devices.
    pub(crate) devices: Devices,
}

impl Channel {
    /// Whoever waits anywhere in a range makes the access again.
    pub(crate) fn wake_all(&self, range: AddrRange) {
        self.calls.count(Kind::Wake);
        let _ = self.uffd.wake(span(range));
    }

    /// Whoever waits here for a page makes the access again.
    pub(crate) fn wake(&self, va: VirtAddr) {
        let page = va.page_floor();
        self.calls.count(Kind::Wake);
        let _ = self.uffd.wake(Span::new(address(page), PAGE_BYTES));
    }
}

/// A range of addresses, and what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Laid {
    pub(crate) range: AddrRange,
    /// The page of the object at the range's start.
    pub(crate) first: PageIndex,
    /// That page's frame in the file of frames.
    pub(crate) base: Frame,
    pub(crate) channel: Arc<Channel>,
    /// Its pages could be written, now or some time before.
    pub(crate) writable: bool,
}

/// Entered pages in ascending order with nothing else entered between the first and the last: one system call reaches them all.
#[derive(Debug)]
struct Hull {
    start: VirtAddr,
    end: VirtAddr,
    pages: [Option<PageRef>; AT_ONCE],
}

impl Hull {
    fn empty() -> Self {
        Self {
            start: VirtAddr(0),
            end: VirtAddr(0),
            pages: [None; AT_ONCE],
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn range(&self) -> AddrRange {
        AddrRange {
            start: self.start,
            end: self.end,
        }
    }

    fn place(&self, va: VirtAddr) -> usize {
        // A hull is at most AT_ONCE pages long.
        #[allow(clippy::cast_possible_truncation, reason = "less than AT_ONCE")]
        let place = ((va.0 - self.start.0) / PAGE_SIZE) as usize;
        place
    }

    /// Takes a page in, which comes behind all others; not if it would be too long.
    fn push(&mut self, va: VirtAddr, page: PageRef) -> bool {
        if self.is_empty() {
            (self.start, self.end) = (va, va);
        }
        if self.place(va) >= AT_ONCE {
            return false;
        }
        let place = self.place(va);
        self.pages[place] = Some(page);
        self.end = VirtAddr(va.0 + PAGE_SIZE);
        true
    }

    /// Its pages, each with its place.
    fn pages(&self) -> impl Iterator<Item = (usize, PageRef)> + '_ {
        self.pages
            .iter()
            .enumerate()
            .filter_map(|(place, page)| Some((place, (*page)?)))
    }

    fn va(&self, place: usize) -> VirtAddr {
        VirtAddr(self.start.0 + place as u64 * PAGE_SIZE)
    }

    /// Asks the kernel which of its places `query` is true of.
    fn scan(&self, pagemap: &Pagemap, query: Query, flags: ScanFlags, found: &mut PageSet) -> Result<(), Errno> {
        let (mut at, end) = (address(self.start), address(self.end));
        while at < end {
            let mut regions = [Region::EMPTY; AT_ONCE / 2];
            let scanned = retry(|| pagemap.scan(at, end, query, flags, &mut regions))?;
            for region in &regions[..scanned.regions] {
                for va in (region.start()..region.end()).step_by(PAGE_BYTES) {
                    found.add(self.place(VirtAddr(va as u64)));
                }
            }
            at = scanned.end;
        }
        Ok(())
    }
}

/// Places of a hull.
#[derive(Clone, Copy, Default, Debug)]
struct PageSet(u64);

impl PageSet {
    const ALL: Self = Self(!0);

    fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }
}

pub(crate) const WRITTEN: Harvest = Harvest {
    modified: true,
    referenced: false,
};
const PROTECT: ScanFlags = ScanFlags::WP_MATCHING.union(ScanFlags::CHECK_WPASYNC);

#[allow(clippy::cast_possible_truncation, reason = "an address of this process")]
pub(crate) fn address(va: VirtAddr) -> usize {
    va.0 as usize
}

#[allow(clippy::cast_possible_truncation, reason = "a length in this process")]
pub(crate) fn span(range: AddrRange) -> Span {
    Span::new(address(range.start), range.len() as usize)
}

/// Calls again while the kernel only says so: it was interrupted, or the address space was changing.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            answer => return answer,
        }
    }
}

/// What is done to a hull.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taking {
    /// The mappings go.
    All,
    /// The right to write goes.
    Write,
}

impl Laid {
    /// Where a page of the object is seen in this range.
    pub(crate) fn va_of(&self, index: PageIndex) -> Option<VirtAddr> {
        let pages = index.0.checked_sub(self.first.0)?;
        let va = VirtAddr(self.range.start.0.checked_add(pages.checked_mul(PAGE_SIZE)?)?);
        self.range.contains(va).then_some(va)
    }

    /// Takes mappings, or the right to write, from exclusively busied pages of its object, ascending, and records on each what
    /// was written through here until then.
    pub(crate) fn take(&self, slots: &Slots, pagemap: &Pagemap, pages: &[PageRef], what: Taking) {
        let mut hull = Hull::empty();
        self.take_devices(slots, pages);
        for page in pages.iter().filter(|page| !page.is_device()) {
            let Some(va) = self.va_of(page.index()) else { continue };
            if slots.at(va).is_none() {
                continue;
            }
            if !self.joins(slots, &hull, va, what) || !hull.push(va, page) {
                self.take_hull(slots, pagemap, &hull, what);
                hull = Hull::empty();
                hull.push(va, page);
            }
        }
        self.take_hull(slots, pagemap, &hull, what);
    }

    /// Takes the mappings of pages of devices, whatever is to be taken of others: of a device's memory nothing can be told.
    fn take_devices(&self, slots: &Slots, pages: &[PageRef]) {
        if !self.channel.devices.any() {
            return;
        }
        let shown = |page: &PageRef| self.va_of(page.index()).filter(|va| slots.at(*va).is_some());
        let one_piece = |one: &PageRef, next: &PageRef| one.index().0 + 1 == next.index().0;
        let devices = |page: &PageRef, other: &PageRef| page.is_device() == other.is_device();
        for run in pages.chunk_by(|one, next| one_piece(one, next) && devices(one, next)) {
            let mut vas = run.iter().filter(|page| page.is_device()).filter_map(shown);
            let Some(start) = vas.next() else { continue };
            let last = vas.next_back().unwrap_or(start);
            let end = VirtAddr(last.0 + PAGE_SIZE);
            self.take_device(AddrRange { start, end });
            for (page, va) in run.iter().filter_map(|page| Some((page, shown(page)?))) {
                self.channel.calls.count(Kind::PageUnmapped);
                slots.leave(va);
                page.machine_words()[0].fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn take_device(&self, range: AddrRange) {
        self.channel.calls.count(Kind::Unmap);
        self.channel.devices.take_away(&self.channel.uffd, range);
    }

    /// Whether what lies between a hull and an address may be reached along with them.
    fn joins(&self, slots: &Slots, hull: &Hull, va: VirtAddr, what: Taking) -> bool {
        if hull.is_empty() || hull.end == va {
            return true;
        }
        let gap = AddrRange {
            start: hull.end,
            end: va,
        };
        // Protecting what was never entered leaves marks that cost memory.
        what == Taking::All && gap.len() < AT_ONCE as u64 * PAGE_SIZE && slots.next_in(gap).is_none()
    }

    fn take_hull(&self, slots: &Slots, pagemap: &Pagemap, hull: &Hull, what: Taking) {
        if hull.is_empty() {
            return;
        }
        match what {
            Taking::All => {
                // First nobody can write any more, and only then is it asked what was written.
                self.drop_mappings(hull.range());
                self.harvest(slots, pagemap, hull);
            }
            Taking::Write if !self.writable => {}
            Taking::Write if self.channel.tells_writes => {
                self.channel.calls.count(Kind::WriteProtect);
                let done = retry(|| self.channel.uffd.write_protect(span(hull.range()), true));
                debug_assert!(done.is_ok(), "pages could not be protected: {done:?}");
            }
            Taking::Write => {
                let mut written = PageSet::default();
                self.channel.calls.count(Kind::Scan);
                if hull.scan(pagemap, Query::WRITTEN, PROTECT, &mut written).is_err() {
                    // Not known is taken for written: that costs a write, and loses nothing.
                    written = PageSet::ALL;
                }
                for (place, page) in hull.pages() {
                    if written.has(place) {
                        WRITTEN.record(page);
                    }
                    // The kernel will lift the protection without asking.
                    page.note_writable();
                }
            }
        }
    }

    /// Has the next write to any page that is entered in `range`, a part of this one, told anew.
    pub(crate) fn protect(&self, slots: &Slots, range: AddrRange) {
        let mut rest = range;
        // Only what was entered: protecting anything else leaves marks that cost memory.
        while let Some((start, _)) = slots.next_in(rest) {
            let mut end = start;
            // Writes to a device are nobody's to be told.
            while end < range.end && slots.at(end).is_some_and(|entered| !entered.page.is_device()) {
                end.0 += PAGE_SIZE;
            }
            if end == start {
                rest.start.0 += PAGE_SIZE;
                continue;
            }
            self.channel.calls.count(Kind::WriteProtect);
            let run = span(AddrRange { start, end });
            let done = retry(|| self.channel.uffd.write_protect(run, true));
            debug_assert!(done.is_ok(), "pages could not be protected: {done:?}");
            rest.start = end;
        }
    }

    /// Collects what was written, the mappings being gone, and empties the slots.
    fn harvest(&self, slots: &Slots, pagemap: &Pagemap, hull: &Hull) {
        let mut clean = PageSet::default();
        if !self.writable || self.channel.tells_writes {
            clean = PageSet::ALL;
        } else {
            self.channel.calls.count(Kind::Scan);
            let scanned = hull.scan(pagemap, Query::CLEAN_MARKERS, ScanFlags::empty(), &mut clean);
            if scanned.is_err() {
                clean = PageSet::default();
            }
        }
        self.channel.calls.add(Kind::PageUnmapped, hull.pages().count() as u64);
        for (place, page) in hull.pages() {
            if !clean.has(place) {
                WRITTEN.record(page);
            }
            slots.leave(hull.va(place));
            page.machine_words()[0].fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn drop_mappings(&self, range: AddrRange) {
        self.channel.calls.count(Kind::Unmap);
        // SAFETY: the range is a part of a layout, which is the machine's, of shared memory, which keeps its bytes.
        let done = retry(|| unsafe { sys::dont_need(span(range)) });
        debug_assert!(done.is_ok(), "mappings could not be taken away: {done:?}");
    }

    /// Takes everything in `range` away, which is a part of this one, whatever pages are there.
    pub(crate) fn clear(&self, slots: &Slots, pagemap: &Pagemap, range: AddrRange) {
        if slots.next_in(range).is_none() {
            return;
        }
        if self.channel.devices.any() {
            self.take_device(range);
        }
        self.drop_mappings(range);
        let mut rest = range;
        let mut hull = Hull::empty();
        while let Some((va, entered)) = slots.next_in(rest) {
            if !hull.push(va, entered.page) {
                self.harvest(slots, pagemap, &hull);
                hull = Hull::empty();
                hull.push(va, entered.page);
            }
            rest.start = VirtAddr(va.0 + PAGE_SIZE);
        }
        if !hull.is_empty() {
            self.harvest(slots, pagemap, &hull);
        }
    }

    /// The part of it in `range`.
    pub(crate) fn part(&self, range: AddrRange) -> Option<Self> {
        let start = range.start.max(self.range.start);
        let end = range.end.min(self.range.end);
        let before = (start.0.saturating_sub(self.range.start.0)) / PAGE_SIZE;
        (start < end).then(|| Self {
            range: AddrRange { start, end },
            first: PageIndex(self.first.0 + before),
            base: Frame(self.base.0 + before),
            ..self.clone()
        })
    }
}
