//! Every ioctl, constant and structure of the kernel that `rustix` and `libc` lack, and the calls beside them.
//!
//! This file knows nothing of pages or objects: a call in, the kernel's answer out. What it answers is what the kernel said,
//! so a run that was done in part is answered as such ([`Done`]), not tried again here.
//!
//! Everything but opening may be called from a signal handler: no allocation, no lock, and `errno` is left alone (the calls
//! go to the kernel directly). Numbers are spelled out with the version they came with, because distributions ship headers
//! older than the kernels they run on.
//!
//! Addresses and lengths are bytes and must be whole pages, or the kernel answers `EINVAL`.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use bitflags::bitflags;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, UserfaultfdFlags};

/// The only version of the userfaultfd API there has been.
const UFFD_API: u64 = 0xAA;
/// The ioctl group of userfaultfd and of `/dev/userfaultfd`.
const GROUP: u8 = 0xAA;

/// `USERFAULTFD_IOC_NEW`, on `/dev/userfaultfd` (6.1).
const IOC_NEW: Opcode = opcode::none(GROUP, 0x00);
/// `UFFDIO_REGISTER` (4.3).
const REGISTER: Opcode = opcode::read_write::<RegisterArg>(GROUP, 0x00);
/// `UFFDIO_UNREGISTER` (4.3). The kernel reads here although the number says it writes.
const UNREGISTER: Opcode = opcode::read::<Span>(GROUP, 0x01);
/// `UFFDIO_WAKE` (4.3); numbered like `UNREGISTER`.
const WAKE: Opcode = opcode::read::<Span>(GROUP, 0x02);
/// `UFFDIO_COPY` (4.3).
const COPY: Opcode = opcode::read_write::<TwoSidedArg>(GROUP, 0x03);
/// `UFFDIO_ZEROPAGE` (4.3).
const ZEROPAGE: Opcode = opcode::read_write::<InstallArg>(GROUP, 0x04);
/// `UFFDIO_MOVE` (6.8).
const MOVE: Opcode = opcode::read_write::<TwoSidedArg>(GROUP, 0x05);
/// `UFFDIO_WRITEPROTECT` (5.7; shared memory 5.19).
const WRITEPROTECT: Opcode = opcode::read_write::<WriteProtectArg>(GROUP, 0x06);
/// `UFFDIO_CONTINUE` (5.13; shared memory 5.14).
const CONTINUE: Opcode = opcode::read_write::<InstallArg>(GROUP, 0x07);
/// `UFFDIO_POISON` (6.6).
const POISON: Opcode = opcode::read_write::<InstallArg>(GROUP, 0x08);
/// `UFFDIO_API` (4.3).
const API: Opcode = opcode::read_write::<ApiArg>(GROUP, 0x3F);
/// `PAGEMAP_SCAN`, on `/proc/<pid>/pagemap` (6.7).
const PAGEMAP_SCAN: Opcode = opcode::read_write::<ScanArg>(b'f', 16);

/// `UFFD_USER_MODE_ONLY` (5.11): faults taken inside the kernel are not served.
const USER_MODE_ONLY: u32 = 1;

/// A range of addresses of this process: `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// The `len` bytes from address `start`.
    pub const fn new(start: usize, len: usize) -> Self {
        Self {
            start: start as u64,
            len: len as u64,
        }
    }
}

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    range: Span,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_copy` and `struct uffdio_move`.
#[repr(C)]
struct TwoSidedArg {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    done: i64,
}

/// `struct uffdio_zeropage`, `uffdio_continue` and `uffdio_poison`.
#[repr(C)]
struct InstallArg {
    range: Span,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct WriteProtectArg {
    range: Span,
    mode: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    all: u64,
    any: u64,
    report: u64,
}

bitflags! {
    /// What a userfaultfd can do beyond its first version: `UFFD_FEATURE_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Write faults on protected anonymous pages (5.7).
        const PAGEFAULT_FLAG_WP = 1 << 0;
        /// A message, with a userfaultfd for the child, when the process forks (4.11). Needs `CAP_SYS_PTRACE`.
        const EVENT_FORK = 1 << 1;
        /// A message when a range is moved by `mremap` (4.11).
        const EVENT_REMAP = 1 << 2;
        /// A message when pages are removed by `madvise` (4.11).
        const EVENT_REMOVE = 1 << 3;
        /// Missing pages of hugetlbfs (4.11).
        const MISSING_HUGETLBFS = 1 << 4;
        /// Missing pages of shared memory (4.11).
        const MISSING_SHMEM = 1 << 5;
        /// A message when a range is unmapped (4.11).
        const EVENT_UNMAP = 1 << 6;
        /// No messages: the faulting thread gets SIGBUS at once (4.14).
        const SIGBUS = 1 << 7;
        /// Messages carry the id of the faulting thread (4.14).
        const THREAD_ID = 1 << 8;
        /// Minor faults on hugetlbfs (5.13).
        const MINOR_HUGETLBFS = 1 << 9;
        /// Minor faults on shared memory (5.14).
        const MINOR_SHMEM = 1 << 10;
        /// Messages carry the address, not its page (5.18).
        const EXACT_ADDRESS = 1 << 11;
        /// Write protection of hugetlbfs and of shared memory (5.19).
        const WP_HUGETLBFS_SHMEM = 1 << 12;
        /// Pages never entered can be write-protected too (6.4, as is `Continue::WP`).
        const WP_UNPOPULATED = 1 << 13;
        /// `UFFDIO_POISON` (6.6).
        const POISON = 1 << 14;
        /// The kernel clears protection itself at a write, and only notes it (6.7).
        const WP_ASYNC = 1 << 15;
        /// `UFFDIO_MOVE` (6.8).
        const MOVE = 1 << 16;
        /// What a newer kernel offers is kept.
        const _ = !0;
    }

    /// Which faults of a range are served: `UFFDIO_REGISTER_MODE_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Modes: u64 {
        /// Touching a page that is nowhere (4.3).
        const MISSING = 1 << 0;
        /// Writing a protected page (5.7).
        const WP = 1 << 1;
        /// Touching a page that is in the file but not in this mapping (5.13).
        const MINOR = 1 << 2;
    }

    /// How pages are installed. COPY and CONTINUE know both; ZEROPAGE, POISON and MOVE only `DONT_WAKE`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Install: u64 {
        /// Threads that wait for these pages go on waiting, until [`Uffd::wake`].
        const DONT_WAKE = 1 << 0;
        /// Installed write-protected (COPY 5.7, CONTINUE 6.4).
        const WP = 1 << 1;
    }

    /// `UFFDIO_MOVE_MODE_*` (6.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Take: u64 {
        /// Threads that wait for the destination go on waiting.
        const DONT_WAKE = 1 << 0;
        /// Holes in the source are passed over.
        const ALLOW_HOLES = 1 << 1;
    }

    /// What a fault was: `UFFD_PAGEFAULT_FLAG_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FaultFlags: u64 {
        /// A write; without it, a read.
        const WRITE = 1 << 0;
        /// The page is there and write-protected.
        const WP = 1 << 1;
        /// The page is in the file and not in this mapping.
        const MINOR = 1 << 2;
        /// What a newer kernel says is kept.
        const _ = !0;
    }

    /// What a scan says of a page: `PAGE_IS_*` (6.7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u64 {
        /// Its range is registered for asynchronous write protection.
        const WP_ALLOWED = 1 << 0;
        /// Not write-protected: written since it was.
        const WRITTEN = 1 << 1;
        /// It belongs to a file or to shared memory.
        const FILE = 1 << 2;
        /// In memory and in this mapping.
        const PRESENT = 1 << 3;
        /// Not present, but something is noted for it: a place in swap, or a marker.
        const SWAPPED = 1 << 4;
        /// The page of zeros.
        const PFN_ZERO = 1 << 5;
        /// Part of a huge page.
        const HUGE = 1 << 6;
        /// Soft-dirty.
        const SOFT_DIRTY = 1 << 7;
        /// What a newer kernel says is kept.
        const _ = !0;
    }

    /// `PM_SCAN_*` (6.7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ScanFlags: u64 {
        /// Write-protect the pages that match, in the same step.
        const WP_MATCHING = 1 << 0;
        /// Stop with `EPERM` where a range is not registered for asynchronous write protection.
        const CHECK_WPASYNC = 1 << 1;
    }
}

/// Makes one ioctl whose argument is a structure that the kernel reads and writes.
///
/// # Safety
///
/// `OP` must take a `T`, and what it does to memory must be what the caller may do.
unsafe fn call<const OP: Opcode, T>(fd: BorrowedFd<'_>, arg: &mut T) -> Result<(), Errno> {
    // SAFETY: the caller vouches for the pairing of number and structure.
    unsafe { ioctl(fd, Updater::<OP, T>::new(arg)) }
}

// Opening.

/// The ways to a userfaultfd, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/dev/userfaultfd` (6.1): whoever may open the device.
    Device,
    /// The system call: root, or anyone where `vm.unprivileged_userfaultfd` is 1.
    Syscall,
    /// The system call with `UFFD_USER_MODE_ONLY` (5.11): anyone. A fault taken inside a system call, or by KVM, is not
    /// served: the call fails with `EFAULT`.
    UserModeOnly,
}

impl Route {
    /// Every route, best first.
    pub const ALL: [Route; 3] = [Route::Device, Route::Syscall, Route::UserModeOnly];
}

/// Why no route led to a userfaultfd: what each was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `/dev/userfaultfd`.
    pub device: Errno,
    /// The system call.
    pub syscall: Errno,
    /// The system call with `UFFD_USER_MODE_ONLY`.
    pub user_mode_only: Errno,
}

/// `USERFAULTFD_IOC_NEW`: flags in by value, a descriptor out as the result.
struct NewUffd(usize);

// SAFETY: the opcode takes its flags in place of a pointer and answers a new descriptor, as `output_from_ptr` reads it.
unsafe impl Ioctl for NewUffd {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        IOC_NEW
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0)
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<OwnedFd, Errno> {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

/// Whether reading a userfaultfd waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// A read waits. `poll` does not work on such a userfaultfd: it answers `POLLERR`.
    Block,
    /// A read answers `EAGAIN` when there is no message.
    NonBlock,
}

/// A userfaultfd. Closing it unregisters all its ranges and lets every waiting thread try again.
#[derive(Debug)]
pub struct Uffd(OwnedFd);

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Uffd {
    /// Opens a userfaultfd by one route. It takes nothing on until [`Uffd::api`] was called.
    pub fn open(route: Route, reads: Reads) -> Result<Uffd, Errno> {
        let mut flags = UserfaultfdFlags::CLOEXEC;
        if reads == Reads::NonBlock {
            flags |= UserfaultfdFlags::NONBLOCK;
        }
        let fd = match route {
            Route::Device => {
                let device = rustix::fs::open(c"/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                // SAFETY: making a userfaultfd changes no memory.
                unsafe { ioctl(&device, NewUffd(flags.bits() as usize))? }
            }
            // SAFETY: a userfaultfd without ranges changes no memory.
            Route::Syscall => unsafe { rustix::mm::userfaultfd(flags)? },
            // SAFETY: likewise.
            Route::UserModeOnly => unsafe {
                rustix::mm::userfaultfd(flags | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY))?
            },
        };
        Ok(Uffd(fd))
    }

    /// Opens a userfaultfd by the best route there is, and says which.
    pub fn open_best(reads: Reads) -> Result<(Uffd, Route), Refused> {
        let mut answers = [Errno::NOSYS; 3];
        for (route, answer) in Route::ALL.into_iter().zip(&mut answers) {
            match Self::open(route, reads) {
                Ok(uffd) => return Ok((uffd, route)),
                Err(errno) => *answer = errno,
            }
        }
        let [device, syscall, user_mode_only] = answers;
        Err(Refused {
            device,
            syscall,
            user_mode_only,
        })
    }

    /// Shakes hands, once for each userfaultfd: asks for `features` and answers all that the kernel has.
    ///
    /// `EINVAL`: the kernel lacks one of them (what it has can be asked with none, of another userfaultfd), or hands were
    /// shaken before. `EPERM`: [`Features::EVENT_FORK`] without `CAP_SYS_PTRACE`.
    pub fn api(&self, features: Features) -> Result<Features, Errno> {
        let mut arg = ApiArg {
            api: UFFD_API,
            features: features.bits(),
            ioctls: 0,
        };
        // SAFETY: the handshake changes no memory.
        unsafe { call::<API, _>(self.as_fd(), &mut arg)? };
        Ok(Features::from_bits_retain(arg.features))
    }
}

// Ranges.

impl Uffd {
    /// Faults of `range` come to this userfaultfd from now on. Registering again sets the modes anew (leaving out
    /// [`Modes::WP`] drops the protection of its pages). Answers the ioctls that work there, bit n for number n.
    ///
    /// `EINVAL`: not mapped, or not memory that can be served so. `EBUSY`: another userfaultfd has it.
    ///
    /// # Safety
    ///
    /// The range must be the caller's own: whoever touches it afterwards waits until a fault is resolved, and sees then what
    /// was installed.
    pub unsafe fn register(&self, range: Span, modes: Modes) -> Result<u64, Errno> {
        let mut arg = RegisterArg {
            range,
            mode: modes.bits(),
            ioctls: 0,
        };
        // SAFETY: the caller owns the range.
        unsafe { call::<REGISTER, _>(self.as_fd(), &mut arg)? };
        Ok(arg.ioctls)
    }

    /// Faults of `range` are the kernel's again: missing pages become zeros, protection is dropped, waiting threads go on.
    pub fn unregister(&self, mut range: Span) -> Result<(), Errno> {
        // SAFETY: works only on registered ranges, which `register`'s caller owns.
        unsafe { call::<UNREGISTER, _>(self.as_fd(), &mut range) }
    }

    /// Threads that wait for pages of `range` try again.
    pub fn wake(&self, mut range: Span) -> Result<(), Errno> {
        // SAFETY: as in `unregister`.
        unsafe { call::<WAKE, _>(self.as_fd(), &mut range) }
    }

    /// Protects the entered pages of `range` from writing (and, of shared memory, notes it for pages not entered), or
    /// lifts the protection and wakes who waits for it.
    ///
    /// `EAGAIN`: the address space is changing, try again. `ENOENT`: not registered with [`Modes::WP`].
    pub fn write_protect(&self, range: Span, protect: bool) -> Result<(), Errno> {
        let mut arg = WriteProtectArg {
            range,
            mode: u64::from(protect),
        };
        // SAFETY: as in `unregister`.
        unsafe { call::<WRITEPROTECT, _>(self.as_fd(), &mut arg) }
    }
}

// Installing pages.

/// How far an ioctl on a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Bytes done, from the start of the run.
    pub bytes: usize,
    /// Why it went no further; `None`: the whole run is done. After a part it is always `EAGAIN`, and going on from there
    /// tells why: `EEXIST` (a page is there already), `EAGAIN` with nothing done (the address space is changing, try again),
    /// `EFAULT` (no such page in the memfd), `ENOENT` (not registered).
    pub stopped: Option<Errno>,
}

impl Done {
    /// What the ioctl answered, and what it noted in its argument: bytes, or an error below zero.
    fn new(answer: Result<(), Errno>, noted: i64) -> Done {
        Done {
            bytes: usize::try_from(noted).unwrap_or(0),
            stopped: answer.err(),
        }
    }

    /// All of the run or an error.
    pub fn all(self) -> Result<(), Errno> {
        self.stopped.map_or(Ok(()), Err)
    }
}

impl Uffd {
    /// Enters pages that are in the memfd (`UFFDIO_CONTINUE`) and wakes who waits for them.
    pub fn enter(&self, range: Span, how: Install) -> Done {
        let mut arg = InstallArg {
            range,
            mode: how.bits(),
            done: 0,
        };
        // SAFETY: works only on registered ranges, which `register`'s caller owns.
        let answer = unsafe { call::<CONTINUE, _>(self.as_fd(), &mut arg) };
        Done::new(answer, arg.done)
    }

    /// Puts a copy of `from` at address `to`, where no page may be (`UFFDIO_COPY`).
    pub fn copy(&self, to: usize, from: &[u8], how: Install) -> Done {
        let mut arg = TwoSidedArg {
            to: to as u64,
            from: from.as_ptr().expose_provenance() as u64,
            len: from.len() as u64,
            mode: how.bits(),
            done: 0,
        };
        // SAFETY: as in `enter`; the source is only read.
        let answer = unsafe { call::<COPY, _>(self.as_fd(), &mut arg) };
        Done::new(answer, arg.done)
    }

    /// Puts zeros where no page is (`UFFDIO_ZEROPAGE`).
    pub fn zero(&self, range: Span, how: Install) -> Done {
        let mut arg = InstallArg {
            range,
            mode: how.bits(),
            done: 0,
        };
        // SAFETY: as in `enter`.
        let answer = unsafe { call::<ZEROPAGE, _>(self.as_fd(), &mut arg) };
        Done::new(answer, arg.done)
    }

    /// Marks pages that are not entered as failed (`UFFDIO_POISON`): touching one gives SIGBUS, a system call `EFAULT`.
    /// [`dont_need`] takes the mark away; so, silently, does [`Uffd::enter`].
    ///
    /// `EEXIST` also where [`dont_need`] left the marker of a protected page: lift that with [`Uffd::write_protect`] first.
    pub fn poison(&self, range: Span, how: Install) -> Done {
        let mut arg = InstallArg {
            range,
            mode: how.bits(),
            done: 0,
        };
        // SAFETY: as in `enter`.
        let answer = unsafe { call::<POISON, _>(self.as_fd(), &mut arg) };
        Done::new(answer, arg.done)
    }

    /// Takes the anonymous pages of `from` away and puts them at `to`, writable (`UFFDIO_MOVE`).
    ///
    /// `EBUSY`: a page is pinned, or shared with a forked process. `EINVAL`: not anonymous, or not writable.
    ///
    /// # Safety
    ///
    /// Nobody may rely on the bytes of `from`: they are missing afterwards.
    pub unsafe fn take(&self, to: usize, from: Span, how: Take) -> Done {
        let mut arg = TwoSidedArg {
            to: to as u64,
            from: from.start,
            len: from.len,
            mode: how.bits(),
            done: 0,
        };
        // SAFETY: the caller gives `from` away; `to` is registered.
        let answer = unsafe { call::<MOVE, _>(self.as_fd(), &mut arg) };
        Done::new(answer, arg.done)
    }
}

// Messages.

/// One message as the kernel writes it: `struct uffd_msg`.
#[repr(C)]
pub struct Message {
    event: u8,
    reserved: [u8; 7],
    args: [u64; 3],
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// What a message says.
#[derive(Debug)]
pub enum Event {
    /// A thread waits for a page.
    Fault {
        /// The address touched: exact with [`Features::EXACT_ADDRESS`], else its page.
        address: usize,
        /// What it was. A hint: the page's state may have changed since.
        flags: FaultFlags,
        /// The thread, with [`Features::THREAD_ID`], else 0.
        thread: u32,
    },
    /// The process forked, and waits until this is dropped or read on; the userfaultfd serves the child's ranges.
    Fork(Uffd),
    /// A range was moved to another address.
    Remap {
        /// From this address.
        from: usize,
        /// To this one.
        to: usize,
        /// Bytes.
        len: usize,
    },
    /// Pages from the first address up to the second are being removed.
    Remove(usize, usize),
    /// The range from the first address up to the second is unmapped.
    Unmap(usize, usize),
    /// The message was taken already, or is of a kind we did not ask for.
    Unknown(u8),
}

impl Message {
    /// Room for a message.
    pub const EMPTY: Message = Message {
        event: 0,
        reserved: [0; 7],
        args: [0; 3],
    };

    /// Takes what the message says out of it: a fork's descriptor has one owner, so the second answer is `Unknown(0)`.
    pub fn take(&mut self) -> Event {
        let [a, b, c] = self.args;
        // Addresses of this process fit a `usize`.
        let address = |word: u64| usize::try_from(word).unwrap_or(usize::MAX);
        match std::mem::replace(&mut self.event, 0) {
            // UFFD_EVENT_PAGEFAULT (4.3)
            0x12 => Event::Fault {
                flags: FaultFlags::from_bits_retain(a),
                address: address(b),
                thread: first_u32(c),
            },
            // UFFD_EVENT_FORK (4.11)
            0x13 => {
                let fd = RawFd::try_from(first_u32(a)).expect("the kernel's descriptors are not negative");
                // SAFETY: the kernel made this descriptor for the reader of the message, and `event` is cleared.
                Event::Fork(Uffd(unsafe { OwnedFd::from_raw_fd(fd) }))
            }
            // UFFD_EVENT_REMAP, REMOVE, UNMAP (4.11)
            0x14 => Event::Remap {
                from: address(a),
                to: address(b),
                len: address(c),
            },
            0x15 => Event::Remove(address(a), address(b)),
            0x16 => Event::Unmap(address(a), address(b)),
            other => Event::Unknown(other),
        }
    }
}

/// The 32-bit number in the first bytes of a word.
fn first_u32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

impl Uffd {
    /// Reads as many messages as there are and fit, and answers how many: at least one, or waits or answers `EAGAIN` as
    /// it was opened. Each message goes to one reader.
    pub fn read(&self, messages: &mut [Message]) -> Result<usize, Errno> {
        // SAFETY: messages are plain words that may hold any bits, and the slice lends them all. That an overwritten message
        // of a fork leaks its descriptor is its owner's doing, who did not take it.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(messages.as_mut_ptr().cast::<u8>(), size_of_val(messages)) };
        Ok(rustix::io::read(self, bytes)? / size_of::<Message>())
    }
}

// The page tables as /proc shows them.

/// A run of pages that a scan found: `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

impl Region {
    /// Room for a region.
    pub const EMPTY: Region = Region {
        start: 0,
        end: 0,
        categories: 0,
    };

    /// Its first address.
    pub fn start(&self) -> usize {
        usize::try_from(self.start).unwrap_or(usize::MAX)
    }

    /// The address after its last page.
    pub fn end(&self) -> usize {
        usize::try_from(self.end).unwrap_or(usize::MAX)
    }

    /// What its pages have in common, of the categories asked for.
    pub fn categories(&self) -> Categories {
        Categories::from_bits_retain(self.categories)
    }
}

/// Which pages a scan looks for: those that have all of `all`, and one of `any` if that is not empty, where a category in
/// `inverted` counts as had when the page has it not.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Categories whose sense is turned round.
    pub inverted: Categories,
    /// Every one of these.
    pub all: Categories,
    /// At least one of these.
    pub any: Categories,
    /// What regions are told apart by, and report.
    pub report: Categories,
}

impl Query {
    /// Pages that are entered and were written since they were last protected; for ranges still mapped.
    ///
    /// Asked of pages taken out with [`dont_need`], it would find the written among them only while their page table
    /// stands, which the kernel may free: ask for [`Query::CLEAN_MARKERS`] there.
    pub const WRITTEN: Query = Query {
        inverted: Categories::empty(),
        all: Categories::WRITTEN,
        any: Categories::empty(),
        report: Categories::WRITTEN,
    };

    /// Pages taken out with [`dont_need`] that were still protected then, that is clean. Every page that was entered and is
    /// not found is dirty.
    pub const CLEAN_MARKERS: Query = Query {
        inverted: Categories::WRITTEN,
        all: Categories::WRITTEN.union(Categories::SWAPPED),
        any: Categories::empty(),
        report: Categories::SWAPPED,
    };
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Regions written to the caller's slice, in order of address.
    pub regions: usize,
    /// The address where the scan stopped: the end asked for, or where the slice was full.
    pub end: usize,
}

/// This process's page tables: `/proc/self/pagemap`. They stay those of the process that opened it: a forked child opens
/// its own.
#[derive(Debug)]
pub struct Pagemap(OwnedFd);

/// `PAGEMAP_SCAN`: a structure in and out, and a number as the result.
struct ScanCall<'a>(&'a mut ScanArg);

// SAFETY: the opcode takes a `ScanArg`, and its result is a number of regions.
unsafe impl Ioctl for ScanCall<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<usize, Errno> {
        usize::try_from(out).map_err(|_| Errno::IO)
    }
}

impl Pagemap {
    /// Opens it.
    pub fn open() -> Result<Pagemap, Errno> {
        rustix::fs::open(c"/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Pagemap)
    }

    /// Finds the pages from `start` up to `end` that `query` asks for, as many runs as `regions` has room for.
    ///
    /// `ENOTTY`: a kernel before 6.7. `EPERM`: [`ScanFlags::CHECK_WPASYNC`] met a range not registered for it.
    pub fn scan(
        &self,
        start: usize,
        end: usize,
        query: Query,
        flags: ScanFlags,
        regions: &mut [Region],
    ) -> Result<Scanned, Errno> {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: flags.bits(),
            start: start as u64,
            end: end as u64,
            walk_end: 0,
            regions: regions.as_mut_ptr().expose_provenance() as u64,
            regions_len: regions.len() as u64,
            max_pages: 0,
            inverted: query.inverted.bits(),
            all: query.all.bits(),
            any: query.any.bits(),
            report: query.report.bits(),
        };
        // SAFETY: the kernel writes regions, plain words, only within the slice; protecting pages changes no byte.
        let found = unsafe { ioctl(&self.0, ScanCall(&mut arg))? };
        Ok(Scanned {
            regions: found,
            end: usize::try_from(arg.walk_end).unwrap_or(usize::MAX),
        })
    }
}

// Memory and files.

/// A memfd of length 0: sealed against execution where the kernel knows that (6.3), closed on exec.
pub fn memfd(name: &CStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC),
        made => made,
    }
}

/// Frees the memory of `len` bytes at `offset` of a memfd, in every mapping of it. They read as zeros afterwards.
pub fn punch_hole(memfd: impl AsFd, offset: u64, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(
        memfd,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        offset,
        len,
    )
}

/// Takes the pages of `range` out of this mapping. Shared memory keeps its bytes, and the markers of write protection
/// stay; anonymous memory loses both.
///
/// Memory that is locked ([`mlock`](https://man7.org/linux/man-pages/man2/mlock.2.html)) as well.
///
/// # Safety
///
/// The range must be the caller's own, and if it is anonymous, its bytes no longer needed.
pub unsafe fn dont_need(range: Span) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { advise(range, Advice::LinuxDontneedLocked) }
}

/// A forked child will not have `range`: touching it there is SIGSEGV.
///
/// # Safety
///
/// The range must be the caller's own.
pub unsafe fn dont_fork(range: Span) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { advise(range, Advice::LinuxDontFork) }
}

/// A forked child will have `range`, as is usual.
///
/// # Safety
///
/// The range must be the caller's own.
pub unsafe fn do_fork(range: Span) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { advise(range, Advice::LinuxDoFork) }
}

/// A core dump leaves `range` out: dumping it would fault every page in.
///
/// # Safety
///
/// The range must be the caller's own.
pub unsafe fn dont_dump(range: Span) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { advise(range, Advice::LinuxDontDump) }
}

unsafe fn advise(range: Span, advice: Advice) -> Result<(), Errno> {
    let (Ok(start), Ok(len)) = (usize::try_from(range.start), usize::try_from(range.len)) else {
        return Err(Errno::INVAL);
    };
    // SAFETY: the callers' callers own the range.
    unsafe { rustix::mm::madvise(std::ptr::with_exposed_provenance_mut(start), len, advice) }
}

#[cfg(test)]
pub(crate) mod tests;
