//! The translations of one address space: mappings of the file of frames, served by userfaultfds.

mod devices;
mod failure;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use quire_core::error::{Error, Result};
use quire_core::machine::{CpuAccess, CpuStop, EnterRun, Layout, NotEntered, Pmap, Serve, Translation};
use quire_core::page::PageRef;
use quire_core::types::{Access, AddrRange, CacheMode, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use rustix::io::Errno;

use crate::addresses::{by_kernel, claim, find, set_rights, unmap};
use crate::calls::Kind;
use crate::device::{Devices, NotShown, map_file};
use crate::layout::{Channel, Laid, WRITTEN, address, retry, span};
use crate::lock::{lock, read, write};
use crate::machine::LinuxMachine;
use crate::serve::ServerRef;
use crate::slots::ADDRESSES_END;
use crate::space::{Piece, Space};
use crate::sys::{Features, Install, Query, Reads, Region, ScanFlags, Uffd};

/// The translations of one address space.
#[derive(Debug)]
pub(crate) struct LinuxPmap {
    machine: Arc<LinuxMachine>,
    /// Its addresses.
    range: AddrRange,
    /// What is laid out here, by its first address. Changed with the map locked exclusively.
    laid: RwLock<BTreeMap<u64, LaidHere>>,
    /// The userfaultfds, made when a layout needs one.
    channels: Mutex<Vec<Arc<Channel>>>,
    /// Addresses where a failure was left.
    poisons: Mutex<Vec<VirtAddr>>,
    /// Ranges that the kernel could not unmap yet, for want of memory areas. Nothing is laid there.
    owed: Mutex<Vec<AddrRange>>,
    server: OnceLock<ServerRef>,
}

#[derive(Clone, Debug)]
struct LaidHere {
    laid: Laid,
    space: Arc<Space>,
    prot: Prot,
}

impl LaidHere {
    /// Whether it is that page which is seen at the address.
    fn shows(&self, page: PageRef, va: VirtAddr) -> bool {
        self.laid.va_of(page.index()) == Some(va) && page.object() == Some(self.space.owner())
    }
}

impl LinuxPmap {
    pub(crate) fn new(machine: Arc<LinuxMachine>, range: AddrRange) -> Result<Self> {
        if range.end.0 > ADDRESSES_END {
            return Err(Error::Invalid(
                "a process has addresses below 2^47 only; end the map there",
            ));
        }
        Ok(Self {
            machine,
            range,
            laid: RwLock::default(),
            channels: Mutex::default(),
            poisons: Mutex::default(),
            owed: Mutex::default(),
            server: OnceLock::new(),
        })
    }

    /// The layout at an address.
    fn at(&self, va: VirtAddr) -> Option<LaidHere> {
        holding(&read(&self.laid), va).cloned()
    }

    /// The parts of layouts in `range`.
    fn parts(&self, range: AddrRange) -> Vec<LaidHere> {
        let laid = read(&self.laid);
        let first = laid
            .range(..=range.start.0)
            .next_back()
            .map_or(range.start.0, |(start, _)| *start);
        laid.range(first..range.end.0)
            .filter_map(|(_, here)| {
                let laid = here.laid.part(range)?;
                Some(LaidHere { laid, ..here.clone() })
            })
            .collect()
    }

    /// The userfaultfd for a kind of layout.
    fn channel(&self, serve: Serve, tells_writes: bool) -> Result<Arc<Channel>> {
        let mut channels = lock(&self.channels);
        let fits = |channel: &&Arc<Channel>| channel.serve == serve && channel.tells_writes == tells_writes;
        if let Some(channel) = channels.iter().find(fits) {
            return Ok(channel.clone());
        }
        let (uffd, _) = Uffd::open_best(Reads::Block).map_err(|_| Error::NoMemory)?;
        let mut features = Features::PAGEFAULT_FLAG_WP
            | Features::MISSING_SHMEM
            | Features::MINOR_SHMEM
            | Features::WP_HUGETLBFS_SHMEM
            | Features::WP_UNPOPULATED
            | Features::POISON
            | Features::EXACT_ADDRESS;
        if !tells_writes {
            features |= Features::WP_ASYNC;
        }
        if serve == Serve::InThread {
            features |= Features::SIGBUS;
        }
        uffd.api(features)
            .map_err(|_| Error::Unsupported("this kernel's userfaultfd lacks a feature; Linux 6.7 or later has all"))?;
        let channel = Arc::new(Channel {
            uffd,
            calls: self.machine.calls.clone(),
            serve,
            tells_writes,
            devices: Devices::new(self.machine.store.file().clone()),
        });
        let server = self.server.get().and_then(std::sync::Weak::upgrade);
        server
            .ok_or(Error::Unsupported(
                "nobody serves this map's faults; start a server for it first",
            ))?
            .serve(&channel)?;
        channels.push(channel.clone());
        Ok(channel)
    }

    /// Says who serves the faults; once.
    pub(crate) fn set_server(&self, server: ServerRef) -> bool {
        self.server.set(server).is_ok()
    }

    /// How an address is served; nothing for one that is not laid out here.
    pub(crate) fn serve_of(&self, va: VirtAddr) -> Option<Serve> {
        holding(&read(&self.laid), va).map(|here| here.laid.channel.serve)
    }

    fn enter_run(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        let laid = read(&self.laid);
        let mut entered = 0;
        while entered < run.pages.len() {
            if self.is_there(run, entered) {
                entered += 1;
                continue;
            }
            let Some(here) = holding(&laid, at(run, entered)) else {
                debug_assert!(false, "a page was entered where nothing is laid out");
                return (entered, Some(NotEntered::Shortage));
            };
            if !here.shows(run.pages[entered], at(run, entered)) {
                return (entered, Some(NotEntered::NotHere));
            }
            if run.pages[entered].is_device() {
                let len = self.device_piece(here, run, entered);
                match self.enter_device(here, run, entered, len) {
                    Ok(()) => entered += len,
                    Err(NotShown::Shortage) => return (entered, Some(NotEntered::Shortage)),
                    Err(NotShown::Refused(why)) => return (entered, Some(NotEntered::Refused(why))),
                }
                continue;
            }
            let (most, how) = piece(here, run, entered);
            let len = (1..most).find(|i| self.is_there(run, entered + i)).unwrap_or(most);
            let (done, stopped) = self.enter_piece(here, run, entered, len, how);
            entered += done;
            match stopped {
                None => {}
                Some(Errno::EXIST) => {
                    self.enter_again(here, at(run, entered), how);
                    entered += 1;
                }
                // The program has unmapped it behind our back: whoever waits there will see so.
                Some(Errno::NOENT) => {
                    here.laid.channel.wake(at(run, entered));
                    entered += 1;
                }
                Some(_) => return (entered, Some(NotEntered::Shortage)),
            }
        }
        (entered, None)
    }

    /// Whether an entered page can be written without a fault that is told.
    fn is_writable(&self, page: VirtAddr) -> bool {
        let (from, to) = (address(page), address(page) + PAGE_BYTES);
        let mut regions = [Region::EMPTY];
        let scanned = retry(|| {
            self.machine
                .pagemap
                .scan(from, to, Query::WRITTEN, ScanFlags::empty(), &mut regions)
        });
        scanned.is_ok_and(|scanned| scanned.regions > 0)
    }

    /// Whether a page that is mapped along needs nothing.
    fn is_there(&self, run: &EnterRun<'_>, page: usize) -> bool {
        let accessed = run.accessed.is_some_and(|(accessed, _)| accessed == page);
        !accessed && !run.wired && self.machine.slots.at(at(run, page)).is_some()
    }

    /// The page is there: somebody was quicker, or only its protection is to be lifted.
    fn enter_again(&self, here: &LaidHere, va: VirtAddr, how: Install) {
        let uffd = &here.laid.channel.uffd;
        let page = span(one_page(va));
        if here.laid.channel.tells_writes && !how.contains(Install::WP) {
            here.laid.channel.calls.count(Kind::WriteProtect);
            let done = retry(|| uffd.write_protect(page, false));
            debug_assert!(done.is_ok(), "protection could not be lifted: {done:?}");
        }
        // Whoever waits looks again; if the page is there no more, it faults again.
        here.laid.channel.wake(va);
    }

    /// One call for `len` pages that are entered alike. Answers how many were, and why no more.
    fn enter_piece(
        &self,
        here: &LaidHere,
        run: &EnterRun<'_>,
        from: usize,
        len: usize,
        how: Install,
    ) -> (usize, Option<Errno>) {
        let slots = self.machine.slots;
        let mut known = 0u64;
        for (i, page) in run.pages[from..from + len].iter().enumerate() {
            if slots.enter(at(run, from + i), page, run.wired) {
                page.machine_words()[0].fetch_add(1, Ordering::AcqRel);
            } else {
                known |= 1 << i;
            }
        }
        let range = AddrRange {
            start: at(run, from),
            end: at(run, from + len),
        };
        let calls = &here.laid.channel.calls;
        let done = loop {
            calls.count(Kind::Enter);
            let done = here.laid.channel.uffd.enter(span(range), how);
            if done.bytes > 0 || !matches!(done.stopped, Some(Errno::AGAIN | Errno::INTR)) {
                break done;
            }
        };
        let pages = done.bytes / PAGE_BYTES;
        calls.add(Kind::PageEntered, pages as u64);
        if known != 0 && here.laid.writable && !here.laid.channel.tells_writes {
            // The kernel had taken a mapping away by itself, and with it the trace of what was written through it.
            for (i, page) in run.pages[from..from + pages].iter().enumerate() {
                if known & 1 << i != 0 {
                    WRITTEN.record(page);
                }
            }
        }
        let stopped = if pages > 0 && pages < len { None } else { done.stopped };
        (pages, stopped)
    }
}

fn at(run: &EnterRun<'_>, page: usize) -> VirtAddr {
    VirtAddr(run.start.0 + page as u64 * PAGE_SIZE)
}

/// How many pages from `from` on are entered alike, and how: the one that is written without protection, and dirty; all
/// others protected, so that the first write leaves a trace. At most 64.
fn piece(here: &LaidHere, run: &EnterRun<'_>, from: usize) -> (usize, Install) {
    let in_layout = (here.laid.range.end.0 - at(run, from).0) / PAGE_SIZE;
    let most = usize::try_from(in_layout)
        .map_or(usize::MAX, |most| most.min(run.pages.len() - from))
        .min(64);
    let written = run
        .accessed
        .filter(|(_, access)| *access == Access::Write && run.prot.contains(Prot::WRITE))
        .map(|(page, _)| page);
    match written {
        Some(page) if page == from => (1, Install::empty()),
        Some(page) if page > from => (most.min(page - from), Install::WP),
        _ => (most, Install::WP),
    }
}

/// The layout that has an address.
fn holding(laid: &BTreeMap<u64, LaidHere>, va: VirtAddr) -> Option<&LaidHere> {
    let (_, here) = laid.range(..=va.0).next_back()?;
    here.laid.range.contains(va).then_some(here)
}

fn one_page(va: VirtAddr) -> AddrRange {
    AddrRange {
        start: va,
        end: VirtAddr(va.0 + PAGE_SIZE),
    }
}

impl Pmap for LinuxPmap {
    fn enter(&self, run: &EnterRun<'_>) -> (usize, Option<NotEntered>) {
        let answer = self.enter_run(run);
        assert!(
            run.can_fail || answer.1.is_none(),
            "the machine had no memory for a mapping that must be made (S200)"
        );
        answer
    }

    fn remove(&self, range: AddrRange) {
        for here in self.parts(range) {
            // Exclusively: nobody else harvests these slots meanwhile.
            let _inner = write(here.space.inner());
            here.laid
                .clear(self.machine.slots, &self.machine.pagemap, here.laid.range);
        }
    }

    fn protect(&self, range: AddrRange, prot: Prot) -> Result<()> {
        for here in self.parts(range) {
            let part = here.laid.range;
            if prot.contains(Prot::WRITE) && !here.laid.writable {
                self.relist(&here, part, |laid| Laid { writable: true, ..laid });
            }
            // What a device does not allow cannot be allowed here: the next fault finds out.
            while let Some(below) = here.laid.channel.devices.next_below(part, prot) {
                let _inner = write(here.space.inner());
                here.laid.clear(self.machine.slots, &self.machine.pagemap, below);
            }
            let rights = here.laid.channel.devices.set_rights(part, prot);
            rights.map_err(|_| Error::NoMemory)?;
            self.split_at(part);
            for (_, here) in write(&self.laid).range_mut(part.start.0..part.end.0) {
                here.prot = prot;
            }
        }
        Ok(())
    }

    fn write_protect(&self, range: AddrRange) {
        for here in self.parts(range) {
            // Elsewhere every write leaves a trace, and none is to be kept back.
            if here.laid.writable && here.laid.channel.tells_writes {
                here.laid.protect(self.machine.slots, here.laid.range);
            }
        }
    }

    fn unwire(&self, range: AddrRange) {
        let slots = self.machine.slots;
        let mut rest = range;
        while let Some((va, _)) = slots.next_in(rest) {
            slots.unwire(va);
            rest.start = VirtAddr(va.0 + PAGE_SIZE);
        }
    }

    fn extract(&self, va: VirtAddr) -> Option<Translation> {
        let here = self.at(va)?;
        let entered = self.machine.slots.at(va.page_floor())?;
        let mut prot = here.prot;
        let device = here.laid.channel.devices.at(va);
        if device.is_some_and(|device| !device.writable) {
            prot -= Prot::WRITE;
        }
        if device.is_none()
            && here.laid.channel.tells_writes
            && prot.contains(Prot::WRITE)
            && !self.is_writable(va.page_floor())
        {
            prot -= Prot::WRITE;
        }
        (!here.prot.is_empty()).then(|| Translation {
            frame: entered.page.frame(),
            prot,
            wired: entered.wired,
            cache: device.map_or(CacheMode::WriteBack, |device| device.cache),
        })
    }

    fn cpu(&self, va: VirtAddr, access: CpuAccess<'_>) -> core::result::Result<(), CpuStop> {
        let here = self.at(va).ok_or(CpuStop::Fault)?;
        if !here.prot.contains(access.access().needs()) {
            return Err(CpuStop::Fault);
        }
        // Asked here, and not by way of a thread that serves faults: the caller resolves it, and is told why it cannot be.
        if self.machine.slots.at(va.page_floor()).is_none() {
            return Err(CpuStop::Fault);
        }
        let devices = &here.laid.channel.devices;
        if let Some(device) = devices.at(va) {
            if access.access() == Access::Write && !device.writable {
                return Err(CpuStop::Fault);
            }
            // Where the kernel cannot reach it for us, asking again would not help.
            return devices.staying(|| by_kernel(va, access)).map_err(|_| CpuStop::NoCpu);
        }
        by_kernel(va, access).map_err(|errno| match errno {
            Errno::FAULT => CpuStop::Fault,
            _ => CpuStop::NoCpu,
        })
    }

    fn find(&self, len: u64, align: u64, hint: VirtAddr) -> Result<Option<VirtAddr>> {
        self.pay();
        let start = find(len, align.max(PAGE_SIZE), hint)?;
        let found = AddrRange {
            start,
            end: VirtAddr(start.0 + len),
        };
        if self.range.start <= found.start && found.end <= self.range.end {
            return Ok(Some(start));
        }
        // The kernel knows nothing of the map's bounds: the map looks inside of them.
        unmap(found);
        Ok(None)
    }

    fn claim(&self, hole: AddrRange) -> Result<()> {
        self.pay();
        claim(hole)
    }

    fn lay(&self, layout: &Layout) -> Result<()> {
        let channel = self.channel(layout.serve, layout.told_of_writes)?;
        let pages = layout.range.len() / PAGE_SIZE;
        let (space, pieces) = self.machine.spaces.pieces(layout.owner, layout.first, pages)?;
        let answer = self.lay_pieces(layout, &channel, &space, &pieces);
        self.machine.spaces.laid(&space);
        answer
    }

    fn give_back(&self, range: AddrRange) {
        self.pay();
        self.delist(range);
        if !unmap(range) {
            lock(&self.owed).push(range);
        }
    }

    fn is_linear(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}

impl LinuxPmap {
    fn lay_pieces(&self, layout: &Layout, channel: &Arc<Channel>, space: &Arc<Space>, pieces: &[Piece]) -> Result<()> {
        // What was laid here before goes in one step with its listing.
        self.delist(layout.range);
        for piece in pieces {
            let range = AddrRange {
                start: VirtAddr(layout.range.start.0 + (piece.first.0 - layout.first.0) * PAGE_SIZE),
                end: VirtAddr(layout.range.start.0 + (piece.first.0 + piece.pages - layout.first.0) * PAGE_SIZE),
            };
            map_file(self.machine.store.file().as_fd(), &channel.uffd, range, piece.base)
                .map_err(|_| Error::NoMemory)?;
            let laid = Laid {
                range,
                first: piece.first,
                base: piece.base,
                channel: channel.clone(),
                writable: layout.prot.contains(Prot::WRITE),
            };
            write(space.inner()).layouts.push(laid.clone());
            let here = LaidHere {
                laid,
                space: space.clone(),
                prot: layout.prot,
            };
            write(&self.laid).insert(range.start.0, here);
            // Only now can anybody touch it: whoever does is served.
            set_rights(range, layout.prot).map_err(|_| Error::NoMemory)?;
        }
        Ok(())
    }

    /// Forgets layouts, keeping what lies outside of the range. Whoever touches it from now on gets `SIGSEGV`: nobody would
    /// resolve a fault there.
    fn delist(&self, range: AddrRange) {
        for part in self.parts(range) {
            let _ = set_rights(part.laid.range, Prot::empty());
        }
        self.split_at(range);
        let here: Vec<LaidHere> = {
            let mut laid = write(&self.laid);
            let starts: Vec<u64> = laid
                .range(range.start.0..range.end.0)
                .map(|(start, _)| *start)
                .collect();
            starts.iter().filter_map(|start| laid.remove(start)).collect()
        };
        for here in here {
            Space::delist(&mut write(here.space.inner()), &here.laid.channel, here.laid.range);
            self.machine.spaces.drop_if_unused(&here.space);
        }
        lock(&self.poisons).retain(|va| !range.contains(*va));
    }

    /// Splits layouts so that they begin and end where the range does.
    fn split_at(&self, range: AddrRange) {
        let mut laid = write(&self.laid);
        for at in [range.start, range.end] {
            let Some((&start, here)) = laid.range(..at.0).next_back() else {
                continue;
            };
            if !here.laid.range.contains(at) {
                continue;
            }
            let here = here.clone();
            let before = AddrRange {
                start: here.laid.range.start,
                end: at,
            };
            let behind = AddrRange {
                start: at,
                end: here.laid.range.end,
            };
            for part in [before, behind].into_iter().filter_map(|part| here.laid.part(part)) {
                let here = LaidHere {
                    laid: part,
                    ..here.clone()
                };
                laid.insert(here.laid.range.start.0, here);
            }
            debug_assert!(laid.contains_key(&start), "the first part begins where the whole did");
        }
    }

    /// Replaces what is listed for a part of a layout.
    fn relist(&self, here: &LaidHere, part: AddrRange, change: impl Fn(Laid) -> Laid) {
        self.split_at(part);
        {
            let mut inner = write(here.space.inner());
            Space::delist(&mut inner, &here.laid.channel, part);
            inner.layouts.push(change(here.laid.clone()));
        }
        for (_, here) in write(&self.laid).range_mut(part.start.0..part.end.0) {
            here.laid = change(here.laid.clone());
        }
    }
}

impl LinuxPmap {
    /// Whether the kernel sends an access here: it is laid out, and the kernel lets it pass.
    pub(crate) fn kernel_allows(&self, va: VirtAddr, access: Access) -> bool {
        self.at(va).is_some_and(|here| match access {
            Access::Write => here.prot.contains(Prot::WRITE),
            Access::Read | Access::Exec => !here.prot.is_empty(),
        })
    }

    /// Whether an address is unmapped, and only the kernel could not do so yet.
    pub(crate) fn is_owed(&self, va: VirtAddr) -> bool {
        lock(&self.owed).iter().any(|range| range.contains(va))
    }

    /// Whether the faults at an address come to this userfaultfd.
    pub(crate) fn comes_to(&self, va: VirtAddr, channel: &Channel) -> bool {
        holding(&read(&self.laid), va).is_some_and(|here| core::ptr::eq(&raw const *here.laid.channel, channel))
    }

    /// Unmaps what could not be unmapped before, as far as it can be now.
    fn pay(&self) {
        lock(&self.owed).retain(|range| !unmap(*range));
    }
}

impl Drop for LinuxPmap {
    fn drop(&mut self) {
        let all = AddrRange {
            start: VirtAddr(0),
            end: VirtAddr(ADDRESSES_END),
        };
        self.remove(all);
        let ranges: Vec<AddrRange> = read(&self.laid).values().map(|here| here.laid.range).collect();
        for range in ranges {
            self.give_back(range);
        }
        self.pay();
    }
}
