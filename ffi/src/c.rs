//! The structs and numbers of the header.

use std::ffi::c_char;

use quire_core::types::PAGE_SIZE;

pub(crate) use crate::pointers::*;

/// The version of this API, `major << 16 | minor`: what `quire_api` is asked for. A larger minor number only adds.
pub const QUIRE_API_VERSION: u32 = 1;

/// Bytes in a page.
pub const QUIRE_PAGE_SIZE: u64 = 4096;

const _: () = assert!(QUIRE_PAGE_SIZE == PAGE_SIZE);

/// An engine: a machine with memory of its own, and everything that is opened and mapped on it. Several may live in one
/// process. From `quire_engine_create` to `quire_engine_destroy`.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct EngineHandle {
    _private: [u8; 0],
}

/// A pager at work, in one engine. From `quire_pager_load` or `quire_pager_register` to `quire_pager_unload`, or to
/// the end of its engine, which closes it.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct PagerHandle {
    _private: [u8; 0],
}

/// One use of an object. From `quire_object_open` or `quire_object_reference` to `quire_object_release` or
/// `quire_object_discard`.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct ObjectHandle {
    _private: [u8; 0],
}

/// An address space. From `quire_map_create` to `quire_map_destroy`.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct MapHandle {
    _private: [u8; 0],
}

/// A page's handle, which quire_pager.h describes.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct PageC {
    _private: [u8; 0],
}

/// The table of a pager, which quire_pager.h defines.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct PagerTable {
    _private: [u8; 0],
}

/// Memory of a device, which quire_pager.h defines.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct ApertureC {
    _private: [u8; 0],
}

/// `quire_engine_options.machine`: the Linux machine where it can be had, and else the soft one; `quire_stats` says which. With
/// `QUIRE_SOFT_…` among the flags, the soft one.
pub const QUIRE_MACHINE_AUTO: u32 = 0;
/// `quire_engine_options.machine`: a software MMU in ordinary memory. Mapped memory is reached through `quire_load` and `quire_store`.
pub const QUIRE_MACHINE_SOFT: u32 = 1;
/// `quire_engine_options.machine`: real memory of this process, through `userfaultfd`. What `quire_map` answers is a
/// pointer to be used. Linux 6.7 or later; see `quire_linux_supported`.
pub const QUIRE_MACHINE_LINUX: u32 = 2;

/// `quire_engine_options.flags`: on the soft machine a frame belongs to the page it was first given to. For tests.
pub const QUIRE_SOFT_FIXED_FRAMES: u32 = 1;
/// `quire_engine_options.flags`: the soft machine lends pagers copies of the bytes. For tests.
pub const QUIRE_SOFT_LEND_COPIES: u32 = 2;
/// `quire_engine_options.flags`: the soft machine learns of modifications only by removing mappings. For tests.
pub const QUIRE_SOFT_MODIFIED_BY_REMOVAL: u32 = 4;

/// `quire_engine_options.flags`: no thread keeps memory free. Whoever finds none makes room itself; see
/// `quire_engine_daemon_step`.
pub const QUIRE_NO_DAEMON_THREAD: u32 = 16;
/// `quire_engine_options.flags`: no thread reads ahead for pagers that cannot leave requests pending; see
/// `quire_engine_read_ahead_step`.
pub const QUIRE_NO_READ_AHEAD_THREAD: u32 = 32;
/// `quire_engine_options`: no thread watches for requests that pagers do not complete; see `quire_engine_overdue`.
pub const QUIRE_NO_WATCHDOG_THREAD: u32 = 64;

/// `quire_engine_options.policy`: what is best in general. At present S3-FIFO.
pub const QUIRE_POLICY_DEFAULT: u32 = 0;
/// `quire_engine_options.policy`: a clock with two hands.
pub const QUIRE_POLICY_CLOCK: u32 = 1;
/// `quire_engine_options.policy`: S3-FIFO, which loses nothing to a single long scan.
pub const QUIRE_POLICY_S3_FIFO: u32 = 2;

/// What an engine is made with. Everything 0 but `struct_size` is the default.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// `sizeof(struct quire_engine_options)`.
    pub struct_size: u32,
    /// One of `QUIRE_MACHINE_…`.
    pub machine: u32,
    /// The most memory for pages, in bytes; rounded down to whole pages. 0: 256 MiB. Taken as it is used.
    pub memory: u64,
    /// Of that, bytes that only making room may use; rounded up to whole pages. 0: 12 pages.
    pub reserve: u64,
    /// A set of `QUIRE_SOFT_…` and `QUIRE_NO_…`.
    pub flags: u32,
    /// How many objects that nobody uses are kept with their pages, for the next to open them; each may hold a file
    /// open. 0: 128. `QUIRE_KEEP_NONE`: none.
    pub kept_objects: u32,
    /// Which pages go first when memory is short: one of `QUIRE_POLICY_…`.
    pub policy: u32,
    /// 0.
    pub reserved: u32,
    /// With fewer bytes free above the reserve, the page daemon's thread is woken. This and the next two are rounded down
    /// to whole pages; for what is 0, see `quire_stats` for what was chosen.
    pub free_min: u64,
    /// With as many bytes free, the page daemon has nothing to do. At least `free_min`.
    pub free_target: u64,
    /// Once at work, the page daemon goes on until so many bytes are free, or being written. At least `free_target`.
    pub free_enough: u64,
    /// For how many milliseconds, altogether, a fault waits for pagers; then it fails with `QUIRE_FAULT_TIMEDOUT`, and what it
    /// asked for is cancelled unless somebody else waits for it. 0: for ever. A pager that blocks in place of leaving its
    /// request pending is waited for by the thread that asked all the same.
    pub fault_timeout: u64,
    /// For how many milliseconds a pager may have a request before it is reported in the log, once. 0: 30 seconds.
    pub overdue_after: u64,
}

/// The counters of an engine. Each is exact; all together are not a snapshot.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EngineStats {
    /// `sizeof(struct quire_stats)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Faults that were asked for.
    pub faults: u64,
    /// Faults resolved as case 2A, a page of an object as it is, for a read.
    pub faults_2a_read: u64,
    /// Faults resolved as case 2A, a page of an object as it is, for a write.
    pub faults_2a_write: u64,
    /// Faults that found their page resident at the first try.
    pub faults_resident: u64,
    /// Faults that failed.
    pub faults_failed: u64,
    /// Times a fault started over after it had waited.
    pub fault_restarts: u64,
    /// Resident neighbours mapped along.
    pub neighbours_mapped: u64,
    /// Calls of a pager's get.
    pub gets: u64,
    /// Pages brought in by get.
    pub pages_in: u64,
    /// Calls of a pager's put.
    pub puts: u64,
    /// Pages written by put.
    pub pages_out: u64,
    /// Calls of a pager's populate.
    pub populates: u64,
    /// Pages brought in by populate.
    pub pages_populated: u64,
    /// Waits for a busy page.
    pub busy_waits: u64,
    /// Waits for memory.
    pub memory_waits: u64,
    /// Clean pages given up to make room.
    pub pages_reclaimed: u64,
    /// Errors that pagers answered.
    pub pager_errors: u64,
    /// Promises that pagers broke.
    pub broken_promises: u64,
    /// Pages of memory there are.
    pub frames_total: u64,
    /// Pages of memory not in use.
    pub frames_free: u64,
    /// Pages of memory held back for making room.
    pub frames_reserved: u64,
    /// Objects there are.
    pub objects: u64,
    /// Of those, objects that nobody uses and that only stay because their last write-back failed.
    pub objects_unwritten: u64,
    /// Pages brought in that nobody had asked for yet.
    pub pages_read_ahead: u64,
    /// Read-aheads that failed; nobody was told.
    pub read_aheads_failed: u64,
    /// Runs of dirty pages that a flush could not write.
    pub writes_failed: u64,
    /// Objects that nobody uses and that are kept with their pages.
    pub objects_kept: u64,
    /// Pages that have proved useful.
    pub pages_active: u64,
    /// Pages that are the next to go.
    pub pages_inactive: u64,
    /// Pages that have to be written before they go.
    pub pages_laundry: u64,
    /// Steps of the page daemon that had something to do.
    pub daemon_steps: u64,
    /// Pages that were to go, and turned out to be in use.
    pub daemon_reactivated: u64,
    /// Pages written so that they could be freed.
    pub daemon_washed: u64,
    /// Runs of pages that could not be written so that they could be freed.
    pub daemon_wash_failures: u64,
    /// Pages of memory taken from the reserve so that others could be written.
    pub daemon_rescues: u64,
    /// With fewer pages free above the reserve, the page daemon's thread is woken.
    pub free_min: u64,
    /// With as many pages free, the page daemon has nothing to do.
    pub free_target: u64,
    /// Once at work, the page daemon goes on until so many pages are free, or being written.
    pub free_enough: u64,
    /// What the replacement policy is called, such as "S3-FIFO". Static.
    pub policy: *const c_char,
    /// Requests that pagers were asked to cancel.
    pub requests_cancelled: u64,
    /// Requests that were reported as overdue.
    pub requests_overdue: u64,
    /// Faults that gave up waiting for a pager.
    pub faults_timed_out: u64,
    /// What the engine runs on: "soft" or "linux". Static.
    pub machine: *const c_char,
    /// Faults of case 0: nothing is mapped at the address, or the access is not allowed.
    pub faults_0: u64,
    /// Faults resolved as case 1A, the page of anonymous memory as it is.
    pub faults_1a: u64,
    /// Faults resolved as case 1B, the page of anonymous memory that others share, copied.
    pub faults_1b: u64,
    /// Faults resolved as case 2B, memory of the mapping's own, filled from the object or with zeros.
    pub faults_2b: u64,
    /// Pages filled with zeros, by faults of case 2B and by copying into memory that was never touched.
    pub zero_fills: u64,
    /// Times the bookkeeping of anonymous memory was copied because one of two that shared it was about to write.
    pub amap_copies: u64,
}

/// What a pager is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PagerInfo {
    /// `sizeof(struct quire_pager_info)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// The plugin ABI that it was built for, `major << 16 | minor`.
    pub abi_version: u32,
    /// A set of `QUIRE_CAP_…`, of quire_pager.h.
    pub caps: u64,
    /// One of `QUIRE_THREADS_…`, of quire_pager.h.
    pub thread_model: u32,
    /// Objects open through it, in all engines.
    pub open_objects: u32,
    /// Completions, and other calls of the pager with a token, that named nothing under way and were ignored.
    pub stale_calls: u64,
    /// Its short name. This and the other texts are valid until the pager's handle is closed.
    pub name: *const c_char,
    /// Its own version; "" when it tells none.
    pub version: *const c_char,
    /// One sentence about it; "" when it tells none.
    pub description: *const c_char,
    /// The file it came from, or the name it was registered under.
    pub path: *const c_char,
}

/// Rights: none.
pub const QUIRE_PROT_NONE: u32 = 0;
/// Rights: loads.
pub const QUIRE_PROT_READ: u32 = 1;
/// Rights: stores.
pub const QUIRE_PROT_WRITE: u32 = 2;
/// Rights: instruction fetches.
pub const QUIRE_PROT_EXEC: u32 = 4;

/// `quire_map_request.flags`: to exactly `addr`; what is mapped there is replaced.
pub const QUIRE_MAP_FIXED: u32 = 1;
/// `quire_map_request.flags`: to exactly `addr`, and only if nothing is mapped there.
pub const QUIRE_MAP_FIXED_NOREPLACE: u32 = 2;
/// `quire_map_request.flags`: a thread that faults there resolves its fault itself, in a handler of SIGBUS, and none is handed to a
/// thread of the engine: several times faster. A system call, or KVM, that touches a page which is not mapped fails with
/// EFAULT: `quire_populate` the range before, or `quire_wire` it to be sure. The handler is installed by the first such mapping of the
/// process, and stays. It calls the handler that it found there, or does what would have been done without one, for every
/// SIGBUS that is not the engine's and for accesses that fail. A handler that the program installs later has to do likewise: pass on
/// every SIGBUS that is not its own to the handler that `sigaction` gave it, with all three arguments, and have SA_SIGINFO and
/// SA_NODEFER. A pager with `QUIRE_CAP_SIGNAL_SAFE` may be called in the handler, on the stack of the thread. A thread that has
/// SIGBUS blocked must not touch such memory: the kernel ends the process. Only machines with real addresses differ in it.
pub const QUIRE_MAP_IN_THREAD: u32 = 4;
/// `quire_map_request.flags`: what is written goes to memory of the mapping's own, and never to the object: a page is copied before it is
/// written. The object need not be writable. A page that was not copied shows the object, also what others write to it later. On the
/// Linux machine a page is copied when it is first touched, also by a read, unless `max_prot` has no `QUIRE_PROT_WRITE`; what others write
/// to the object afterwards may be seen there or not, until the mapping itself writes the page. Copies that were written are anonymous
/// memory (`quire_map_anonymous`): when memory is short they go to swap. Others are dropped, and made anew.
pub const QUIRE_MAP_PRIVATE: u32 = 8;

/// `quire_map_request.inherit` only: `QUIRE_INHERIT_SHARE`, and for private and anonymous mappings `QUIRE_INHERIT_COPY`.
pub const QUIRE_INHERIT_DEFAULT: u32 = 0;
/// A fork of the map shares the memory: what either writes both see.
pub const QUIRE_INHERIT_SHARE: u32 = 1;
/// A fork of the map gets a copy. No page is copied before one of the two writes it. What showed an object is a private mapping of it.
pub const QUIRE_INHERIT_COPY: u32 = 2;
/// A fork of the map gets nothing there.
pub const QUIRE_INHERIT_NONE: u32 = 3;
/// A fork of the map gets zeros: anonymous memory.
pub const QUIRE_INHERIT_ZERO: u32 = 4;

/// Nothing is known of future accesses: a fault maps up to 3 resident pages before its own and 4 behind.
pub const QUIRE_ADVICE_NORMAL: u32 = 0;
/// Accesses follow no pattern: a fault maps its own page alone.
pub const QUIRE_ADVICE_RANDOM: u32 = 1;
/// Accesses ascend: a fault maps up to 8 resident pages before its own and 7 behind.
pub const QUIRE_ADVICE_SEQUENTIAL: u32 = 2;
/// For `quire_advise` only: the range will be used. What is missing is read in beside the program, as far as memory is
/// to spare, and not more than 16 MiB; `quire_prefetch` waits for it.
pub const QUIRE_ADVICE_WILLNEED: u32 = 3;
/// For `quire_advise` only: the range is not needed for now. Its mappings go, and its pages are the next to be taken.
/// Nothing is lost: what is dirty is written before. Wired parts stay as they are.
pub const QUIRE_ADVICE_DONTNEED: u32 = 4;
/// For `quire_advise` only: the range will not be used soon. Its pages are the next to be taken, and mapped until then.
pub const QUIRE_ADVICE_COLD: u32 = 5;
/// For `quire_advise` only: what the range holds is not needed any more. Memory of the mapping's own that nobody else shows is given up there
/// and then, with its room in swap: it is zeros again, or shows the object again. Of all other memory this says no more than
/// `QUIRE_ADVICE_DONTNEED`. Wired parts stay as they are.
pub const QUIRE_ADVICE_FREE: u32 = 6;

/// `quire_sync`: what was written is durable before the call returns.
pub const QUIRE_SYNC_DURABLE: u32 = 1;
/// `quire_sync`: the pages are freed afterwards, so that the next access asks the pager anew. Wired ones stay.
pub const QUIRE_SYNC_INVALIDATE: u32 = 2;

/// `quire_residency`: the page is in memory, filled.
pub const QUIRE_PAGE_RESIDENT: u32 = 1;
/// `quire_residency`: it has to be written, or is mapped writable and may have been written unseen.
pub const QUIRE_PAGE_DIRTY: u32 = 2;
/// `quire_residency`: it is wired, by this mapping or another one.
pub const QUIRE_PAGE_WIRED: u32 = 4;
/// `quire_residency`: it is mapped at this address.
pub const QUIRE_PAGE_MAPPED: u32 = 8;

/// A mapping to be made. Members that are 0 have their defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MapRequestC {
    /// `sizeof(struct quire_map_request)`.
    pub struct_size: u32,
    /// A set of `QUIRE_MAP_…`. 0: anywhere, preferably at or above `addr`.
    pub flags: u32,
    /// Page aligned.
    pub addr: u64,
    /// Bytes, at least 1; rounded up to whole pages.
    pub length: u64,
    /// Which byte of the object comes first. Page aligned.
    pub offset: u64,
    /// The address is to be a multiple of it; a multiple of the page size. 0: the page size. Not with a fixed address.
    pub align: u64,
    /// A set of `QUIRE_PROT_…`.
    pub prot: u32,
    /// The most that `prot` can be raised to. 0: `prot`.
    pub max_prot: u32,
    /// One of `QUIRE_INHERIT_…`: what a fork of the map does with it.
    pub inherit: u32,
    /// `QUIRE_ADVICE_NORMAL`, `RANDOM` or `SEQUENTIAL`.
    pub advice: u32,
}

/// Where a copy goes. Members that are 0 have their defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CopyRequestC {
    /// `sizeof(struct quire_copy_request)`.
    pub struct_size: u32,
    /// A set of `QUIRE_MAP_FIXED`, `FIXED_NOREPLACE`, `IN_THREAD`, and `PRIVATE`, which is meant in any case. 0: anywhere, preferably at
    /// or above `addr`.
    pub flags: u32,
    /// Page aligned.
    pub addr: u64,
    /// The address is to be a multiple of it; a multiple of the page size. 0: the page size. Not with a fixed address.
    pub align: u64,
}

/// `quire_fault_info.fault_case`: the page is anonymous memory, and is mapped as it is.
pub const QUIRE_CASE_1A: u32 = 1;
/// `quire_fault_info.fault_case`: the page is anonymous memory that others share, and was copied.
pub const QUIRE_CASE_1B: u32 = 2;
/// `quire_fault_info.fault_case`: the page is the object's, and is mapped as it is.
pub const QUIRE_CASE_2A: u32 = 3;
/// `quire_fault_info.fault_case`: the page is the mapping's own from now on, a copy of the object's or zeros.
pub const QUIRE_CASE_2B: u32 = 4;

/// How a fault was resolved.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FaultInfo {
    /// `sizeof(struct quire_fault_info)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// One of `QUIRE_CASE_…`.
    pub fault_case: u32,
    /// 1: the page was resident, so that nothing was waited for. 0: it was brought in.
    pub resident: u32,
    /// Resident neighbours that were mapped along, in pages.
    pub neighbours: u32,
}

/// What `quire_object_put` did, in pages.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PutCounts {
    /// `sizeof(struct quire_put)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Written.
    pub written: u64,
    /// Made the next to be taken.
    pub deactivated: u64,
    /// Freed.
    pub freed: u64,
    /// To be freed, but wired, or in use in a call that does not wait, or written to meanwhile.
    pub kept: u64,
}

/// What one step of the page daemon did.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct StepCounts {
    /// `sizeof(struct quire_step)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Pages freed.
    pub freed: u64,
    /// Pages written.
    pub written: u64,
    /// Runs of pages that could not be written, and stay dirty.
    pub failed: u64,
}

/// Bytes that `quire_request.name` has room for, its terminating zero included.
pub const QUIRE_REQUEST_NAME: usize = 128;

/// `quire_request.operation`: it is to fill pages.
pub const QUIRE_REQUEST_GET: u32 = 0;
/// `quire_request.operation`: it is to write pages.
pub const QUIRE_REQUEST_PUT: u32 = 1;
/// `quire_request.operation`: it is to install pages around a fault. Cannot be cancelled.
pub const QUIRE_REQUEST_POPULATE: u32 = 2;

/// A request that a pager has. May grow at its end: `quire_engine_overdue` is told its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RequestC {
    /// The object's name for people, cut to fit.
    pub name: [c_char; QUIRE_REQUEST_NAME],
    /// Where in the object it begins, in bytes.
    pub offset: u64,
    /// How many pages it has.
    pub pages: u64,
    /// For how long the pager has had it, in milliseconds.
    pub age: u64,
    /// What the pager is to do: one of `QUIRE_REQUEST_…`. Of a populate one page is told, the faulting one.
    pub operation: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers only.
unsafe impl Sized32 for EngineOptions {
    const NAME: &'static str = "quire_engine_options";
    const FIRST: usize = std::mem::offset_of!(Self, policy);
}
// SAFETY: integers only.
unsafe impl Sized32 for PutCounts {
    const NAME: &'static str = "quire_put";
}
// SAFETY: integers only.
unsafe impl Sized32 for StepCounts {
    const NAME: &'static str = "quire_step";
}
// SAFETY: integers and a raw pointer only.
unsafe impl Sized32 for EngineStats {
    const NAME: &'static str = "quire_stats";
}
// SAFETY: integers and raw pointers only.
unsafe impl Sized32 for PagerInfo {
    const NAME: &'static str = "quire_pager_info";
}
// SAFETY: integers only.
unsafe impl Sized32 for MapRequestC {
    const NAME: &'static str = "quire_map_request";
}
// SAFETY: integers only.
unsafe impl Sized32 for FaultInfo {
    const NAME: &'static str = "quire_fault_info";
}
// SAFETY: integers without padding, which the assertion proves.
unsafe impl Element for RequestC {
    const NAME: &'static str = "quire_request";
}
const _: () = assert!(size_of::<RequestC>() == QUIRE_REQUEST_NAME + 4 * size_of::<u64>());
// SAFETY: integers only.
unsafe impl Sized32 for CopyRequestC {
    const NAME: &'static str = "quire_copy_request";
}
