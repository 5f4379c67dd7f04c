//! The loop itself: one memfd, one mapping of it, a byte of state a page.
//!
//! A fault: claim the page, and pages after it up to the run, from absent to busy; if over budget, evict; read the file
//! through a hot buffer into the memfd; enter the run; say that it is resident.
//!
//! An eviction: take clusters of 64 neighbouring pages, first in first out, until 64 pages are taken. Each cluster is owned
//! whole, absent pages included, so one call unmaps it; then the markers tell the written pages, those go to the file, and
//! the cluster's memory is freed.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use quire_linux::sys::{
    self, Event, FaultFlags, Features, Install, Message, Modes, Pagemap, Query, Reads, Region, ScanFlags, Span, Uffd,
};
use rustix::mm::{MapFlags, ProtFlags};

use super::workload::{Memory, WRITERS};
use super::{Counters, Mode, PAGE, of_the_kernel};

/// Pages that lie together and leave together.
const CLUSTER: usize = 64;
/// Pages an eviction takes at least, where there are as many.
const BATCH: usize = 64;
/// Pages moved at once: 64 KiB, which stay in the cache.
const PIECE: usize = 16;
const NAME: &CStr = c"quire-bare";

const ABSENT: u8 = 0;
const BUSY: u8 = 1;
const RESIDENT: u8 = 2;

/// A lock that a signal handler may take: nobody faults while holding it.
struct Spin<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by who set `held`.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    fn new(value: T) -> Self {
        Spin {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.held.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: we set `held`, so the value is ours until we clear it.
        let answer = body(unsafe { &mut *self.value.get() });
        self.held.store(false, Ordering::Release);
        Some(answer)
    }

    fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        /// Longer than anyone holds it who is running.
        const TRIES: u32 = 100;
        let mut body = Some(body);
        for tries in 1_u32.. {
            if let Some(answer) = self.try_with(|value| body.take().expect("called once")(value)) {
                return answer;
            }
            if tries.is_multiple_of(TRIES) {
                rustix::thread::sched_yield();
            }
            std::hint::spin_loop();
        }
        unreachable!("tries until it has it")
    }
}

/// What one thread needs to serve a fault.
struct Scratch {
    bounce: Box<[u8]>,
    regions: [Region; CLUSTER],
    taken: [Taken; BATCH],
}

/// A cluster being evicted: bit n is its page n.
#[derive(Clone, Copy, Default)]
struct Taken {
    cluster: usize,
    /// Pages that are ours until the end.
    owned: u64,
    /// Those of them that were resident.
    pages: u64,
}

struct Shared {
    uffd: Uffd,
    pagemap: Pagemap,
    memfd: OwnedFd,
    file: File,
    base: usize,
    pages: usize,
    budget: usize,
    run: usize,
    state: Box<[AtomicU8]>,
    /// Clusters that have resident pages, the longest so first.
    queue: Spin<VecDeque<usize>>,
    queued: Box<[AtomicBool]>,
    scratch: [Spin<Scratch>; WRITERS],
    resident: AtomicUsize,
    faults: AtomicU64,
    evictions: AtomicU64,
}

/// The mechanism at work on one file. [`Mechanism::finish`] ends it.
pub(crate) struct Mechanism {
    shared: Arc<Shared>,
    end: End,
}

enum End {
    /// The handler that was there before.
    InThread(Box<libc::sigaction>),
    HandlerThread(JoinHandle<()>),
}

/// Whose pages the signal handler serves.
static CURRENT: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

impl Mechanism {
    /// Maps `file`, all of it, to be served with at most `budget` bytes (or a batch and a run more, for a moment) in
    /// memory, `run` pages a fault. One at a time may be in [`Mode::InThread`].
    pub(crate) fn new(mode: Mode, file: &File, budget: usize, run: usize) -> Mechanism {
        assert!((1..=CLUSTER).contains(&run));
        let shared = Arc::new(Shared::new(mode, file, budget / PAGE, run));
        let end = match mode {
            Mode::InThread => {
                let before = CURRENT.swap(Arc::as_ptr(&shared).cast_mut(), Ordering::Release);
                assert!(before.is_null(), "one at a time");
                End::InThread(Box::new(on_sigbus_from_now(on_sigbus)))
            }
            Mode::HandlerThread => {
                let shared = Arc::clone(&shared);
                End::HandlerThread(std::thread::spawn(move || shared.serve_messages()))
            }
        };
        Mechanism { shared, end }
    }

    /// The memory served.
    pub(crate) fn memory(&self) -> Memory {
        Memory::new(ptr::with_exposed_provenance_mut(self.shared.base), self.shared.pages)
    }

    /// The counters as they stand.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            faults: self.shared.faults.load(Ordering::Relaxed),
            evictions: self.shared.evictions.load(Ordering::Relaxed),
            processor: of_the_kernel().processor,
        }
    }

    /// Evicts everything, so that the file has every write, and unmaps. Nobody may touch the memory any more.
    pub(crate) fn finish(self) {
        self.shared.scratch[0].with(|scratch| while self.shared.evict(scratch) > 0 {});
        assert_eq!(self.shared.resident.load(Ordering::Relaxed), 0, "all is evicted");
        match self.end {
            End::InThread(before) => {
                CURRENT.store(ptr::null_mut(), Ordering::Release);
                // SAFETY: puts back what was there before.
                unsafe { libc::sigaction(libc::SIGBUS, &raw const *before, ptr::null_mut()) };
            }
            End::HandlerThread(thread) => {
                // The page past the last is the sign to stop.
                let stop = ptr::with_exposed_provenance_mut(self.shared.base + self.shared.pages * PAGE);
                // SAFETY: within the mapping, and touched through an atomic.
                unsafe { AtomicU8::from_ptr(stop) }.load(Ordering::Relaxed);
                thread.join().expect("the handler thread ends");
            }
        }
        let len = (self.shared.pages + 1) * PAGE;
        // SAFETY: made by `Shared::new` with this length, and nobody touches it any more.
        unsafe { rustix::mm::munmap(ptr::with_exposed_provenance_mut(self.shared.base), len) }.expect("it is unmapped");
    }
}

/// Handles SIGBUS with `handler`, and answers what was there before.
fn on_sigbus_from_now(handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void)) -> libc::sigaction {
    // SAFETY: a zeroed `sigaction` is a valid one, and `handler` is async-signal-safe.
    unsafe {
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before), 0);
        before
    }
}

/// Resolves the fault of the thread it runs on. A panic here ends the process, as it should.
extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    /// The bit of the error code of a page fault that says it was a write.
    const WRITE: i64 = 2;
    // SAFETY: the kernel's arguments of a SIGBUS, and `CURRENT` lives while its memory is touched.
    let (shared, address, write) = unsafe {
        let error = (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize];
        (
            &*CURRENT.load(Ordering::Acquire),
            (*info).si_addr().addr(),
            error & WRITE != 0,
        )
    };
    let page = address.checked_sub(shared.base).expect("a fault of ours") / PAGE;
    assert!(page < shared.pages, "a fault of ours");
    shared.serve(page, write);
}

impl Shared {
    fn new(mode: Mode, file: &File, budget: usize, run: usize) -> Shared {
        let mut features = Features::MISSING_SHMEM
            | Features::MINOR_SHMEM
            | Features::WP_HUGETLBFS_SHMEM
            | Features::WP_UNPOPULATED
            | Features::WP_ASYNC;
        if mode == Mode::InThread {
            features |= Features::SIGBUS;
        }
        let (uffd, _) = Uffd::open_best(Reads::Block).expect("a userfaultfd is to be had");
        uffd.api(features).expect("it has what is needed");
        let bytes = file.metadata().expect("the file is there").len();
        let pages = usize::try_from(bytes).expect("it fits the address space") / PAGE;
        assert_eq!(pages % CLUSTER, 0, "the file is whole clusters");
        let memfd = sys::memfd(NAME).expect("a memfd is made");
        rustix::fs::ftruncate(&memfd, bytes + PAGE as u64).expect("it gets its length");
        let len = (pages + 1) * PAGE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which `Mechanism::finish` unmaps.
        let at = unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &memfd, 0) };
        let base = at.expect("the memfd is mapped").expose_provenance();
        // SAFETY: the mapping is ours.
        unsafe { uffd.register(Span::new(base, len), Modes::MISSING | Modes::MINOR | Modes::WP) }
            .expect("it is registered");
        let scratch = || Scratch {
            bounce: vec![0; PIECE * PAGE].into(),
            regions: [Region::EMPTY; CLUSTER],
            taken: [Taken::default(); BATCH],
        };
        Shared {
            uffd,
            pagemap: Pagemap::open().expect("our page tables are ours to read"),
            memfd,
            file: file.try_clone().expect("the file is opened again"),
            base,
            pages,
            budget,
            run,
            state: (0..pages).map(|_| AtomicU8::new(ABSENT)).collect(),
            queue: Spin::new(VecDeque::with_capacity(pages / CLUSTER)),
            queued: (0..pages / CLUSTER).map(|_| AtomicBool::new(false)).collect(),
            scratch: std::array::from_fn(|_| Spin::new(scratch())),
            resident: AtomicUsize::new(0),
            faults: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// The handler thread: until the page past the last is touched.
    fn serve_messages(&self) {
        let mut messages = [const { Message::EMPTY }; 16];
        loop {
            let read = self.uffd.read(&mut messages).expect("messages are read");
            for message in &mut messages[..read] {
                let Event::Fault { address, flags, .. } = message.take() else {
                    panic!("only faults were asked for")
                };
                let page = (address - self.base) / PAGE;
                if page == self.pages {
                    return self
                        .uffd
                        .unregister(Span::new(address, PAGE))
                        .expect("the thread that stops us goes on");
                }
                if !self.serve(page, flags.contains(FaultFlags::WRITE)) {
                    self.uffd.wake(self.span(page, 1)).expect("it tries again");
                }
            }
        }
    }

    fn span(&self, page: usize, count: usize) -> Span {
        Span::new(self.base + page * PAGE, count * PAGE)
    }

    /// Brings in the run that starts at `page`. Answers whether it did: else the page is there, or somebody is about it.
    fn serve(&self, page: usize, write: bool) -> bool {
        let count = self.claim(page);
        if count == 0 {
            rustix::thread::sched_yield();
            return false;
        }
        let resident = self.resident.fetch_add(count, Ordering::Relaxed) + count;
        self.with_scratch(|scratch| {
            if resident > self.budget {
                self.evict(scratch);
            }
            self.fill(scratch, page, count);
        });
        let how = if write { Install::empty() } else { Install::WP };
        self.uffd
            .enter(self.span(page, count), how)
            .all()
            .expect("the run is entered");
        self.state[page..page + count]
            .iter()
            .for_each(|state| state.store(RESIDENT, Ordering::Release));
        self.queue(page / CLUSTER);
        self.queue((page + count - 1) / CLUSTER);
        self.faults.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn with_scratch(&self, body: impl FnOnce(&mut Scratch)) {
        let mut body = Some(body);
        for scratch in self.scratch.iter().cycle() {
            if scratch
                .try_with(|scratch| body.take().expect("called once")(scratch))
                .is_some()
            {
                return;
            }
        }
    }

    fn claim(&self, page: usize) -> usize {
        let run = &self.state[page..self.pages.min(page + self.run)];
        let take = |state: &&AtomicU8| self.move_state(state, ABSENT, BUSY);
        run.iter().take_while(take).count()
    }

    fn move_state(&self, state: &AtomicU8, from: u8, to: u8) -> bool {
        state
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    fn fill(&self, scratch: &mut Scratch, page: usize, count: usize) {
        for first in (page..page + count).step_by(PIECE) {
            let bytes = &mut scratch.bounce[..PAGE * PIECE.min(page + count - first)];
            let at = (first * PAGE) as u64;
            self.file.read_exact_at(bytes, at).expect("the file is read");
            assert_eq!(rustix::io::pwrite(&self.memfd, bytes, at), Ok(bytes.len()));
        }
    }

    /// A cluster that has resident pages is in the queue: said after they are, so that an evictor that took it out of the
    /// queue before sees them or leaves it to be put there again.
    fn queue(&self, cluster: usize) {
        if !self.queued[cluster].swap(true, Ordering::AcqRel) {
            self.queue.with(|queue| queue.push_back(cluster));
        }
    }

    /// Takes a batch out and answers how many pages.
    fn evict(&self, scratch: &mut Scratch) -> usize {
        let (mut clusters, mut pages) = (0, 0);
        while pages < BATCH && clusters < scratch.taken.len() {
            let Some(cluster) = self.queue.with(VecDeque::pop_front) else {
                break;
            };
            self.queued[cluster].store(false, Ordering::Release);
            let taken = self.take(cluster);
            pages += taken.pages.count_ones() as usize;
            scratch.taken[clusters] = taken;
            clusters += 1;
        }
        for index in 0..clusters {
            let taken = scratch.taken[index];
            self.unmap(&taken);
            let clean = self.clean(scratch, &taken);
            self.write_back(scratch, &taken, taken.pages & !clean);
            self.free(&taken);
        }
        self.resident.fetch_sub(pages, Ordering::Relaxed);
        self.evictions.fetch_add(pages as u64, Ordering::Relaxed);
        pages
    }

    /// Owns what can be owned of a cluster: not the pages that somebody is bringing in.
    fn take(&self, cluster: usize) -> Taken {
        let mut taken = Taken {
            cluster,
            ..Taken::default()
        };
        for (bit, state) in self.state[cluster * CLUSTER..][..CLUSTER].iter().enumerate() {
            let resident = self.move_state(state, RESIDENT, BUSY);
            taken.pages |= u64::from(resident) << bit;
            taken.owned |= u64::from(resident || self.move_state(state, ABSENT, BUSY)) << bit;
        }
        taken
    }

    fn unmap(&self, taken: &Taken) {
        for (first, count) in runs(taken.owned) {
            // SAFETY: the mapping is ours, and shared: its bytes stay in the memfd.
            unsafe { sys::dont_need(self.span(taken.cluster * CLUSTER + first, count)) }.expect("it is unmapped");
        }
    }

    /// The pages of an unmapped cluster that bear the marker of protection.
    fn clean(&self, scratch: &mut Scratch, taken: &Taken) -> u64 {
        let start = self.base + taken.cluster * CLUSTER * PAGE;
        let end = start + CLUSTER * PAGE;
        let scanned = self
            .pagemap
            .scan(
                start,
                end,
                Query::CLEAN_MARKERS,
                ScanFlags::empty(),
                &mut scratch.regions,
            )
            .expect("it is scanned");
        scratch.regions[..scanned.regions].iter().fold(0, |clean, region| {
            let (first, end) = ((region.start() - start) / PAGE, (region.end() - start) / PAGE);
            clean | bits(first, end - first)
        })
    }

    fn write_back(&self, scratch: &mut Scratch, taken: &Taken, dirty: u64) {
        for (first, count) in runs(dirty) {
            let (first, end) = (taken.cluster * CLUSTER + first, taken.cluster * CLUSTER + first + count);
            for page in (first..end).step_by(PIECE) {
                let bytes = &mut scratch.bounce[..PAGE * PIECE.min(end - page)];
                let at = (page * PAGE) as u64;
                assert_eq!(rustix::io::pread(&self.memfd, &mut *bytes, at), Ok(bytes.len()));
                self.file.write_all_at(bytes, at).expect("the file is written");
            }
        }
    }

    fn free(&self, taken: &Taken) {
        for (first, count) in runs(taken.owned) {
            let page = taken.cluster * CLUSTER + first;
            sys::punch_hole(&self.memfd, (page * PAGE) as u64, (count * PAGE) as u64).expect("its memory is freed");
            self.state[page..page + count]
                .iter()
                .for_each(|state| state.store(ABSENT, Ordering::Release));
        }
    }
}

/// `count` bits from `first`.
fn bits(first: usize, count: usize) -> u64 {
    (u64::MAX >> (64 - count)) << first
}

/// The runs of set bits: the first, and how many.
fn runs(mut mask: u64) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let first = mask.trailing_zeros() as usize;
        let count = mask.checked_shr(mask.trailing_zeros())?.trailing_ones() as usize;
        mask &= !bits(first, count);
        Some((first, count))
    })
}
