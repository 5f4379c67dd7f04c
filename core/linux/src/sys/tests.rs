//! Each call once against the kernel, and the kernel's semantics that the machine relies on.
//!
//! Where no userfaultfd is to be had these tests fail and say why. `QUIRE_WITHOUT_USERFAULTFD=1` lets them pass there, and
//! each says on the terminal that it tested nothing.

use std::io::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::*;

const PAGE: usize = 4096;
const PAGES: usize = 16;

/// A memfd of some pages, and a userfaultfd that shook hands.
struct Rig {
    uffd: Uffd,
    memfd: OwnedFd,
    len: usize,
}

/// A mapping, unmapped on drop. It answers bytes only through atomics and raw pointers.
struct Mapping {
    at: *mut u8,
    len: usize,
}

// SAFETY: the bytes are touched through atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(memfd: &OwnedFd, len: usize) -> Mapping {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                memfd,
                0,
            )
        };
        Mapping {
            at: at.expect("the memfd is mapped").cast(),
            len,
        }
    }

    /// Anonymous memory; `align` bytes, a power of two, divide its address.
    fn anonymous(len: usize) -> Mapping {
        // SAFETY: likewise.
        let at = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        Mapping {
            at: at.expect("memory is mapped").cast(),
            len,
        }
    }

    fn address(&self, page: usize) -> usize {
        self.at.expose_provenance() + page * PAGE
    }

    fn pages(&self, first: usize, count: usize) -> Span {
        Span::new(self.address(first), count * PAGE)
    }

    fn whole(&self) -> Span {
        Span::new(self.address(0), self.len)
    }

    fn byte(&self, page: usize) -> &AtomicU8 {
        assert!(page * PAGE < self.len);
        // SAFETY: within the mapping, which lives as long as the answer, and touched through atomics only.
        unsafe { AtomicU8::from_ptr(self.at.add(page * PAGE)) }
    }

    fn get(&self, page: usize) -> u8 {
        self.byte(page).load(Ordering::Relaxed)
    }

    fn set(&self, page: usize, to: u8) {
        self.byte(page).store(to, Ordering::Relaxed);
    }

    fn dont_need(&self, first: usize, count: usize) {
        // SAFETY: the mapping is ours.
        unsafe { dont_need(self.pages(first, count)) }.expect("pages are taken out");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length, and nobody holds a reference.
        unsafe { rustix::mm::munmap(self.at.cast(), self.len) }.expect("what was mapped is unmapped");
    }
}

impl Rig {
    fn new(features: Features, pages: usize) -> Option<Rig> {
        let uffd = uffd(features)?;
        let memfd = memfd(c"quire-test").expect("a memfd is made");
        let len = pages * PAGE;
        rustix::fs::ftruncate(&memfd, len as u64).expect("the memfd gets its length");
        Some(Rig { uffd, memfd, len })
    }

    /// A mapping of it all, registered so.
    fn map(&self, modes: Modes) -> Mapping {
        let mapping = Mapping::of(&self.memfd, self.len);
        // SAFETY: the mapping is ours.
        let ioctls = unsafe { self.uffd.register(mapping.whole(), modes) }.expect("the mapping is registered");
        assert_ne!(ioctls & 1 << 0x07, 0, "CONTINUE works on it");
        mapping
    }

    /// Puts pages full of one byte into the memfd.
    fn fill(&self, first: usize, count: usize, with: u8) {
        let bytes = vec![with; count * PAGE];
        let wrote = rustix::io::pwrite(&self.memfd, &bytes, (first * PAGE) as u64);
        assert_eq!(wrote, Ok(count * PAGE));
    }
}

/// A userfaultfd with these features; `None`, and says so, where the caller of the tests allows it.
fn uffd(features: Features) -> Option<Uffd> {
    let opened = Uffd::open_best(Reads::NonBlock).map_err(|refused| format!("{refused:?}"));
    let ready = opened.and_then(|(uffd, _)| match uffd.api(features) {
        Ok(_) => Ok(uffd),
        Err(errno) => Err(format!("{features:?}: {errno}")),
    });
    match ready {
        Ok(uffd) => Some(uffd),
        Err(why) if std::env::var_os("QUIRE_WITHOUT_USERFAULTFD").is_some() => {
            // Not `eprintln!`, which the harness keeps to itself.
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a test");
            writeln!(std::io::stderr(), "NOT TESTED: {name}: no userfaultfd: {why}").expect("stderr is written");
            None
        }
        Err(why) => panic!("no userfaultfd: {why}. QUIRE_WITHOUT_USERFAULTFD=1 goes on without"),
    }
}

const SERVED: Modes = Modes::MISSING.union(Modes::MINOR).union(Modes::WP);
const SHARED: Features = Features::MISSING_SHMEM
    .union(Features::MINOR_SHMEM)
    .union(Features::WP_HUGETLBFS_SHMEM)
    .union(Features::WP_UNPOPULATED)
    .union(Features::WP_ASYNC)
    .union(Features::POISON)
    .union(Features::EXACT_ADDRESS)
    .union(Features::THREAD_ID);

/// Waits for one message and answers what it says; a message that does not come fails the test.
fn message(uffd: &Uffd) -> Message {
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    let mut poll = [rustix::event::PollFd::new(uffd, rustix::event::PollFlags::IN)];
    assert_eq!(
        rustix::event::poll(&mut poll, Some(&patience)),
        Ok(1),
        "a message comes"
    );
    let mut messages = [Message::EMPTY; 1];
    assert_eq!(uffd.read(&mut messages), Ok(1));
    let [message] = messages;
    message
}

/// Waits for a message and says what fault it was.
fn fault(uffd: &Uffd) -> (usize, FaultFlags, u32) {
    match message(uffd).take() {
        Event::Fault { address, flags, thread } => (address, flags, thread),
        other => panic!("a fault, not {other:?}"),
    }
}

/// Runs `serve` while another thread runs `touch`, and answers what that saw. When `serve` panics the toucher is let go.
fn while_touching<T: Send>(rig: &Rig, mapping: &Mapping, touch: impl FnOnce() -> T + Send, serve: impl FnOnce()) -> T {
    std::thread::scope(|scope| {
        let toucher = scope.spawn(touch);
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve));
        if let Err(panic) = served {
            rig.uffd.unregister(mapping.whole()).expect("the toucher is let go");
            std::panic::resume_unwind(panic);
        }
        toucher.join().expect("the toucher ends")
    })
}

/// The pages of `mapping` that a scan finds.
fn scan(mapping: &Mapping, query: Query, flags: ScanFlags) -> Vec<usize> {
    let pagemap = Pagemap::open().expect("our page tables are ours to read");
    let mut regions = vec![Region::EMPTY; mapping.len / PAGE];
    let (start, end) = (mapping.address(0), mapping.address(mapping.len / PAGE));
    let scanned = pagemap
        .scan(start, end, query, flags, &mut regions)
        .expect("the scan runs");
    assert_eq!(scanned.end, end);
    let pages = |region: &Region| (region.start() - start) / PAGE..(region.end() - start) / PAGE;
    regions[..scanned.regions].iter().flat_map(pages).collect()
}

#[test]
fn the_handshake_answers_all_features_and_refuses_unknown_ones() {
    let Some(uffd) = uffd(Features::empty()) else { return };
    assert_eq!(uffd.api(Features::empty()), Err(Errno::INVAL), "hands are shaken once");
    let (other, _) = Uffd::open_best(Reads::NonBlock).expect("a second one opens");
    assert_eq!(other.api(Features::from_bits_retain(1 << 63)), Err(Errno::INVAL));
    let all = other
        .api(Features::empty())
        .expect("after a refusal hands can be shaken still");
    assert!(all.contains(SHARED), "this kernel has {all:?}");
    assert_eq!(
        other.read(&mut [Message::EMPTY; 1]),
        Err(Errno::AGAIN),
        "nothing happened"
    );
}

#[test]
fn each_route_opens_or_says_why() {
    for route in Route::ALL {
        match Uffd::open(route, Reads::NonBlock) {
            Ok(uffd) => assert!(uffd.api(Features::empty()).is_ok(), "{route:?}"),
            Err(errno) => assert!(
                [Errno::NOENT, Errno::ACCESS, Errno::PERM, Errno::NOSYS, Errno::INVAL].contains(&errno),
                "{route:?}: {errno}"
            ),
        }
    }
}

#[test]
fn a_missing_page_is_announced_with_its_address_and_entered() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    let mut announced = 0;
    let (tid, byte) = while_touching(
        &rig,
        &mapping,
        || (rustix::thread::gettid(), mapping.get(3)),
        || {
            let (address, flags, thread) = fault(&rig.uffd);
            assert_eq!((address, flags), (mapping.address(3), FaultFlags::empty()));
            announced = thread;
            rig.fill(3, 1, 7);
            assert_eq!(rig.uffd.enter(mapping.pages(3, 1), Install::WP).all(), Ok(()));
        },
    );
    assert_eq!(byte, 7);
    assert_eq!(announced, u32::try_from(tid.as_raw_nonzero().get()).expect("positive"));
}

#[test]
fn dont_wake_leaves_the_toucher_waiting_until_wake() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, 1, 9);
    let seen = while_touching(
        &rig,
        &mapping,
        || mapping.get(0),
        || {
            fault(&rig.uffd);
            assert_eq!(rig.uffd.enter(mapping.pages(0, 1), Install::DONT_WAKE).all(), Ok(()));
            assert_eq!(rig.uffd.wake(mapping.whole()), Ok(()));
        },
    );
    assert_eq!(seen, 9);
    rig.fill(1, 1, 9);
    assert_eq!(
        rig.uffd.enter(mapping.pages(1, 1), Install::WP).all(),
        Ok(()),
        "the range is served still"
    );
}

#[test]
fn entering_a_run_answers_how_far_it_came_and_then_why() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, 10, 1);
    assert_eq!(rig.uffd.enter(mapping.pages(4, 1), Install::WP).all(), Ok(()));

    let part = rig.uffd.enter(mapping.pages(0, 8), Install::WP);
    assert_eq!(
        part,
        Done {
            bytes: 4 * PAGE,
            stopped: Some(Errno::AGAIN)
        }
    );
    let there = rig.uffd.enter(mapping.pages(4, 4), Install::WP);
    assert_eq!(
        there,
        Done {
            bytes: 0,
            stopped: Some(Errno::EXIST)
        }
    );
    assert_eq!(
        rig.uffd.enter(mapping.pages(5, 5), Install::empty()),
        Done {
            bytes: 5 * PAGE,
            stopped: None
        }
    );
    let hole = rig.uffd.enter(mapping.pages(10, 1), Install::WP);
    assert_eq!(
        hole,
        Done {
            bytes: 0,
            stopped: Some(Errno::FAULT)
        },
        "no such page in the memfd"
    );
    assert!((0..10).all(|page| mapping.get(page) == 1));
}

#[test]
fn a_second_mapping_of_a_resident_page_faults_as_minor() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let (first, second) = (rig.map(SERVED), rig.map(SERVED));
    rig.fill(2, 1, 5);
    assert_eq!(rig.uffd.enter(first.pages(2, 1), Install::WP).all(), Ok(()));
    while_touching(
        &rig,
        &second,
        || second.set(2, 6),
        || {
            let (address, flags, _) = fault(&rig.uffd);
            assert_eq!(
                (address, flags),
                (second.address(2), FaultFlags::MINOR | FaultFlags::WRITE)
            );
            assert_eq!(rig.uffd.enter(second.pages(2, 1), Install::empty()).all(), Ok(()));
        },
    );
    assert_eq!(first.get(2), 6, "both see the write");
}

#[test]
fn a_scan_finds_the_writes_the_kernel_let_through_and_protects_again() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, PAGES, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::WP).all(), Ok(()));
    assert_eq!(scan(&mapping, Query::WRITTEN, ScanFlags::CHECK_WPASYNC), []);
    mapping.set(3, 2);
    mapping.set(4, 2);
    mapping.set(9, 2);
    let protect = ScanFlags::WP_MATCHING | ScanFlags::CHECK_WPASYNC;
    assert_eq!(scan(&mapping, Query::WRITTEN, protect), [3, 4, 9]);
    assert_eq!(scan(&mapping, Query::WRITTEN, ScanFlags::CHECK_WPASYNC), []);
    mapping.set(4, 3);
    assert_eq!(scan(&mapping, Query::WRITTEN, ScanFlags::CHECK_WPASYNC), [4]);
}

#[test]
fn a_scan_stops_where_its_slice_is_full_and_refuses_what_is_not_tracked() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, PAGES, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::WP).all(), Ok(()));
    mapping.set(1, 2);
    mapping.set(5, 2);
    let pagemap = Pagemap::open().expect("our page tables are ours to read");
    let mut one = [Region::EMPTY; 1];
    let (start, end) = (mapping.address(0), mapping.address(PAGES));
    let part = pagemap
        .scan(start, end, Query::WRITTEN, ScanFlags::empty(), &mut one)
        .expect("the scan runs");
    assert_eq!(
        (part.regions, one[0].start(), one[0].end()),
        (1, mapping.address(1), mapping.address(2))
    );
    assert_eq!(one[0].categories(), Categories::WRITTEN);
    let rest = pagemap
        .scan(part.end, end, Query::WRITTEN, ScanFlags::empty(), &mut one)
        .expect("the scan runs");
    assert_eq!((rest.regions, one[0].start()), (1, mapping.address(5)));

    let plain = Mapping::anonymous(PAGE);
    plain.set(0, 1);
    let refused = pagemap.scan(
        plain.address(0),
        plain.address(1),
        Query::WRITTEN,
        ScanFlags::CHECK_WPASYNC,
        &mut one,
    );
    assert_eq!(refused, Err(Errno::PERM));
}

#[test]
fn pages_taken_out_keep_their_markers_and_their_bytes() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, PAGES, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::WP).all(), Ok(()));
    mapping.set(2, 2);
    mapping.set(7, 2);
    mapping.dont_need(0, PAGES);
    let clean: Vec<usize> = (0..PAGES).filter(|page| ![2, 7].contains(page)).collect();
    assert_eq!(scan(&mapping, Query::CLEAN_MARKERS, ScanFlags::CHECK_WPASYNC), clean);
    let mut byte = [0];
    assert_eq!(rustix::io::pread(&rig.memfd, &mut byte, (7 * PAGE) as u64), Ok(1));
    assert_eq!(byte, [2]);
}

/// The kernel may free a page table that a removal left empty, and a scan for written pages then finds none of them: what
/// `Query::CLEAN_MARKERS` is for.
#[test]
fn no_page_is_taken_for_clean_when_its_whole_page_table_was_written() {
    const MANY: usize = 4 * 512;
    let Some(rig) = Rig::new(SHARED, MANY) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, MANY, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::empty()).all(), Ok(()));
    mapping.dont_need(0, MANY);
    assert_eq!(scan(&mapping, Query::CLEAN_MARKERS, ScanFlags::CHECK_WPASYNC), []);
    let written = scan(&mapping, Query::WRITTEN, ScanFlags::CHECK_WPASYNC).len();
    println!("a scan for written pages finds {written} of {MANY}");
}

#[test]
fn a_hole_punched_in_the_memfd_is_missing_again() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    rig.fill(0, PAGES, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::WP).all(), Ok(()));
    mapping.dont_need(4, 4);
    assert_eq!(punch_hole(&rig.memfd, (4 * PAGE) as u64, (4 * PAGE) as u64), Ok(()));
    let frames = rustix::fs::fstat(&rig.memfd).expect("the memfd is there").st_blocks / 8;
    assert_eq!(frames, 12);
    while_touching(
        &rig,
        &mapping,
        || mapping.set(5, 3),
        || {
            let (address, flags, _) = fault(&rig.uffd);
            assert_eq!(address, mapping.address(5));
            assert_eq!(flags & (FaultFlags::MINOR | FaultFlags::WRITE), FaultFlags::WRITE);
            rig.fill(5, 1, 2);
            assert_eq!(rig.uffd.enter(mapping.pages(5, 1), Install::empty()).all(), Ok(()));
        },
    );
    assert_eq!(mapping.get(5), 3);
}

#[test]
fn a_synchronous_write_fault_waits_until_protection_is_lifted() {
    let Some(rig) = Rig::new(SHARED - Features::WP_ASYNC, PAGES) else {
        return;
    };
    let mapping = rig.map(SERVED);
    rig.fill(0, PAGES, 1);
    assert_eq!(rig.uffd.enter(mapping.whole(), Install::empty()).all(), Ok(()));
    assert_eq!(rig.uffd.write_protect(mapping.pages(0, 8), true), Ok(()));
    mapping.set(8, 2);
    while_touching(
        &rig,
        &mapping,
        || mapping.set(1, 2),
        || {
            let (address, flags, _) = fault(&rig.uffd);
            assert_eq!(
                (address, flags),
                (mapping.address(1), FaultFlags::WP | FaultFlags::WRITE)
            );
            assert_eq!(mapping.get(1), 1, "not written yet");
            assert_eq!(rig.uffd.write_protect(mapping.pages(1, 1), false), Ok(()));
        },
    );
    assert_eq!(mapping.get(1), 2);
}

#[test]
fn copies_and_zeros_fill_anonymous_memory_and_a_page_can_be_taken_out() {
    let Some(uffd) = uffd(Features::WP_ASYNC) else { return };
    let memory = Mapping::anonymous(PAGES * PAGE);
    // SAFETY: the memory is ours.
    unsafe { uffd.register(memory.whole(), Modes::MISSING | Modes::WP) }.expect("it is registered");
    let bytes = [8; 4 * PAGE];
    assert_eq!(uffd.copy(memory.address(2), &bytes[..PAGE], Install::WP).all(), Ok(()));
    let part = uffd.copy(memory.address(0), &bytes, Install::empty());
    assert_eq!(
        part,
        Done {
            bytes: 2 * PAGE,
            stopped: Some(Errno::AGAIN)
        }
    );
    let there = uffd.zero(memory.pages(1, 4), Install::empty());
    assert_eq!(
        there,
        Done {
            bytes: 0,
            stopped: Some(Errno::EXIST)
        }
    );
    assert_eq!(uffd.zero(memory.pages(3, 4), Install::empty()).all(), Ok(()));
    let seen = [memory.get(0), memory.get(1), memory.get(2), memory.get(3)];
    assert_eq!(seen, [8, 8, 8, 0]);

    // SAFETY: nobody relies on the page that moves.
    let moved = unsafe { uffd.take(memory.address(8), memory.pages(0, 1), Take::empty()) };
    assert_eq!(moved.all(), Ok(()));
    assert_eq!(memory.get(8), 8);
    assert_eq!(
        uffd.zero(memory.pages(0, 1), Install::empty()).all(),
        Ok(()),
        "where it was, nothing is"
    );
}

#[test]
fn an_unregistered_range_is_the_kernels_again() {
    let Some(rig) = Rig::new(SHARED, PAGES) else { return };
    let mapping = rig.map(SERVED);
    let seen = while_touching(
        &rig,
        &mapping,
        || mapping.get(0),
        || {
            fault(&rig.uffd);
            assert_eq!(rig.uffd.unregister(mapping.whole()), Ok(()));
        },
    );
    assert_eq!(seen, 0);
    assert_eq!(
        rig.uffd.enter(mapping.pages(1, 1), Install::WP).stopped,
        Some(Errno::NOENT)
    );
}

/// One test of this program forks at a time: a userfaultfd that follows forks holds up every fork of the process until it is read.
pub(crate) static FORKS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs `body` in a forked child and answers how it ended: its exit code (98: it panicked), or the signal below zero.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    let _one = FORKS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    forked(body)
}

/// As [`in_child`], for who holds [`FORKS`] already.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child makes only system calls that allocate nothing, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // A panic must not end the child well.
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(98);
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

/// In a child: exits with 0 when SIGBUS comes with address `EXPECTED`, else with 3.
extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's `info` of a SIGBUS; `_exit` may be called from a handler.
    unsafe {
        let hit = (*info).si_addr().addr() == EXPECTED.load(Ordering::Relaxed);
        libc::_exit(if hit { 0 } else { 3 });
    }
}

static EXPECTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Touches `page` with `on_sigbus` in place; for a child, which this ends if the signal comes.
fn touch_expecting_sigbus(mapping: &Mapping, page: usize) -> i32 {
    EXPECTED.store(mapping.address(page), Ordering::Relaxed);
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    // SAFETY: a zeroed `sigaction` is a valid one; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
    i32::from(mapping.get(page)) + 100
}

/// The marker of a clean page stands in the way of poison, until protection is lifted.
#[test]
fn a_poisoned_page_is_sigbus_at_its_address_until_it_is_taken_out() {
    let ended = in_child(|| {
        let Some(rig) = Rig::new(SHARED, PAGES) else { return 99 };
        let mapping = rig.map(SERVED);
        rig.fill(6, 1, 1);
        if rig.uffd.poison(mapping.pages(6, 1), Install::empty()).all().is_err() {
            return 10;
        }
        let read = rustix::io::pwrite(&rig.memfd, sliced(&mapping, 6), 0);
        if read != Err(Errno::FAULT) {
            return 11;
        }
        mapping.dont_need(6, 1);
        if rig.uffd.enter(mapping.pages(6, 1), Install::WP).all().is_err() || mapping.get(6) != 1 {
            return 12;
        }
        mapping.dont_need(6, 1);
        if rig.uffd.poison(mapping.pages(6, 1), Install::empty()).stopped != Some(Errno::EXIST) {
            return 13;
        }
        if rig.uffd.write_protect(mapping.pages(6, 1), false).is_err()
            || rig.uffd.poison(mapping.pages(6, 1), Install::empty()).all().is_err()
        {
            return 14;
        }
        touch_expecting_sigbus(&mapping, 6)
    });
    assert!(ended == 0 || ended == 99, "{ended}");
}

/// A page of the mapping as a buffer for a system call: nothing of ours reads it.
fn sliced(mapping: &Mapping, page: usize) -> &[u8] {
    // SAFETY: within the mapping, and nobody writes it meanwhile.
    unsafe { std::slice::from_raw_parts(mapping.at.add(page * PAGE), PAGE) }
}

#[test]
fn in_sigbus_mode_a_missing_page_is_a_signal_with_its_address() {
    let ended = in_child(|| {
        let Some(rig) = Rig::new(SHARED | Features::SIGBUS, PAGES) else {
            return 99;
        };
        let mapping = rig.map(SERVED);
        touch_expecting_sigbus(&mapping, 4)
    });
    assert!(ended == 0 || ended == 99, "{ended}");
}

#[test]
fn a_range_kept_from_forks_is_sigsegv_in_the_child() {
    let mapping = Mapping::anonymous(PAGE);
    mapping.set(0, 1);
    // SAFETY: the mapping is ours.
    let advised = unsafe { (dont_fork(mapping.whole()), dont_dump(mapping.whole())) };
    assert_eq!(advised, (Ok(()), Ok(())));
    assert_eq!(in_child(|| i32::from(mapping.get(0))), -libc::SIGSEGV);
    // SAFETY: likewise.
    assert_eq!(unsafe { do_fork(mapping.whole()) }, Ok(()));
    assert_eq!(in_child(|| i32::from(mapping.get(0))), 1);
}

#[test]
fn a_fork_hands_over_a_userfaultfd_for_the_child() {
    let (uffd, _) = match Uffd::open_best(Reads::NonBlock) {
        Ok(opened) => opened,
        Err(_) => return drop(uffd(Features::empty())),
    };
    if let Err(errno) = uffd.api(SHARED | Features::EVENT_FORK) {
        assert_eq!(errno, Errno::PERM, "only the right to trace may be missing");
        writeln!(std::io::stderr(), "NOT TESTED: fork events need CAP_SYS_PTRACE").expect("stderr is written");
        return;
    }
    let _one = FORKS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let memfd = memfd(c"quire-test").expect("a memfd is made");
    let rig = Rig {
        uffd,
        memfd,
        len: PAGES * PAGE,
    };
    rustix::fs::ftruncate(&rig.memfd, rig.len as u64).expect("the memfd gets its length");
    let mapping = rig.map(SERVED);
    rig.fill(0, 1, 4);
    std::thread::scope(|scope| {
        let forker = scope.spawn(|| forked(|| i32::from(mapping.get(0))));
        let mut message = message(&rig.uffd);
        let Event::Fork(child) = message.take() else {
            panic!("a fork is announced")
        };
        assert!(
            matches!(message.take(), Event::Unknown(0)),
            "its descriptor has one owner"
        );
        assert_eq!(fault(&child).0, mapping.address(0));
        assert_eq!(child.enter(mapping.pages(0, 1), Install::WP).all(), Ok(()));
        assert_eq!(forker.join().expect("the forker ends"), 4);
    });
}
