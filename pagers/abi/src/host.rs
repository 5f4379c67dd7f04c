//! The table that the host gives to a plugin.

use core::ffi::{c_char, c_void};

/// `log` level: something is wrong and somebody must look at it.
pub const QUIRE_LOG_ERROR: u32 = 1;
/// `log` level: something is odd.
pub const QUIRE_LOG_WARN: u32 = 2;
/// `log` level: worth knowing.
pub const QUIRE_LOG_INFO: u32 = 3;
/// `log` level: for the pager's author.
pub const QUIRE_LOG_DEBUG: u32 = 4;

/// The host, opaque to a plugin. Passed back as the first argument of every service.
// cbindgen does not look through cfg_attr, and so emits this as an incomplete struct, which is what C should see.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Host {
    _private: [u8; 0],
}

/// Services of the host. Valid from `init` until `fini` has returned. Append-only. Every host has those up to and including
/// `page_take`. Those behind it are had by hosts that can do such things, as this one; a plugin that wants one, or a member newer than
/// the first version of its major number, checks `QUIRE_HAS` first.
///
/// Every service may be called on any thread, also one of the pager's own, and with locks of the pager's held: none of them
/// blocks for a pager operation, or runs one on the caller's stack, but for `revoke`, which says so. Those of populate are for as long as
/// the populate whose token they name runs; another thread may call them for it meanwhile.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
#[cfg_attr(feature = "layout", sabi(kind(Prefix(prefix_ref = HostApiRef, prefix_fields = HostApiPrefix))))]
pub struct HostApi {
    /// The host's `QUIRE_PAGER_ABI_VERSION`.
    pub abi_version: u32,
    /// Size of this struct in bytes, as the host knows it.
    pub struct_size: u32,
    /// The first argument of every service.
    pub host: *mut Host,
    /// Bytes in a page; a power of two.
    pub page_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Writes a line, zero-terminated UTF-8, borrowed until return, to the host's log. `level` is one of `QUIRE_LOG_…`.
    pub log: Option<unsafe extern "C" fn(host: *mut Host, level: u32, text: *const c_char)>,
    /// Says in words what went wrong: operation, place, name and the system's text. `token` is that of the request; 0 means
    /// the operation that runs on this thread. `text` is copied before the call returns, 1024 bytes of it at most. The
    /// last call before the operation's end counts.
    pub set_error: Option<unsafe extern "C" fn(host: *mut Host, token: u64, text: *const c_char)>,
    /// Completes a request that pended, or is about to (it may come before the operation returns `PEND`). `status` as an
    /// operation's answer, and not `PEND`; the pages' statuses must be stored before. Any thread. Records and wakes, and calls no pager
    /// operation. Answers `OK`, or `STALE` when the token is not that of a request under way: that is logged and ignored.
    pub complete: Option<unsafe extern "C" fn(host: *mut Host, token: u64, status: i32) -> i32>,
    /// Answers an extension table of the host by its name, or NULL.
    #[cfg_attr(feature = "layout", sabi(last_prefix_field))]
    pub get_extension: Option<unsafe extern "C" fn(host: *mut Host, id: *const c_char) -> *const c_void>,
    /// During populate: takes new pages of the object, `count` of them from `first` on, exclusively busied, and stores the
    /// address of each one's bytes in `bytes`, an array of `count`. The bytes are lent until `page_ready` or the end of
    /// populate, aligned to the page size, and come with any contents. Stops at the first page that cannot be had, and stores in
    /// `inserted`, which may be NULL when `count` is 1, how many were. `OK` if one was; otherwise why the first was not: `AGAIN`: it is in memory
    /// already, or busy (`page_take` may have it); `BAD`: outside the object, or the object ends; `UNSUPPORTED`: it can be written and has
    /// `QUIRE_OBJECT_FRAMES`, so that nothing would write the page back; `NOMEM`; `STALE`; `INVALID`: `count` is 0.
    pub page_insert: Option<
        unsafe extern "C" fn(
            host: *mut Host,
            token: u64,
            first: u64,
            count: u32,
            bytes: *mut *mut c_void,
            inserted: *mut u32,
        ) -> i32,
    >,
    /// During populate: `count` pages from `first` on, which were inserted, are filled, whole. A page that is not made
    /// ready by the end of populate is freed. `INVALID`: one of them was not inserted; those before it are ready.
    pub page_ready: Option<unsafe extern "C" fn(host: *mut Host, token: u64, first: u64, count: u32) -> i32>,
    /// During populate: busies pages that are in memory already, `count` of them from `first` on, so that they can be part of
    /// the answer. Waits for nobody: stops at the first page that is not there, or that somebody else has busied, and stores in
    /// `taken`, which may be NULL when `count` is 1, how many were had. `OK` if one was; otherwise `AGAIN`, `BAD`, `NOMEM`, `STALE`, `INVALID` as from
    /// `page_insert`.
    pub page_take:
        Option<unsafe extern "C" fn(host: *mut Host, token: u64, first: u64, count: u32, taken: *mut u32) -> i32>,
    /// During populate: installs pages whose memory is the device's own: `count` pages from `first` on show the aperture's bytes
    /// from `offset` on, which is a multiple of the page size. They are ready at once: accesses go to that memory, and nothing
    /// is copied, written back or taken away to make room. Otherwise as `page_insert`. `INVALID` also when the pages do not lie
    /// in the aperture.
    pub frame_insert: Option<
        unsafe extern "C" fn(
            host: *mut Host,
            token: u64,
            first: u64,
            count: u32,
            aperture: u64,
            offset: u64,
            inserted: *mut u32,
        ) -> i32,
    >,
    /// Registers memory of a device, from which `frame_insert` makes pages, and stores its number in `aperture`. It must stay
    /// as it is until `aperture_remove` has answered `OK`. At any time between `init` and `fini`. `INVALID`, `NOMEM`, `UNSUPPORTED`, a negated `errno`.
    pub aperture_add:
        Option<unsafe extern "C" fn(host: *mut Host, what: *const crate::Aperture, aperture: *mut u64) -> i32>,
    /// Ends what `aperture_add` began. `AGAIN` while pages show it: `revoke` them, or close their objects, first. `INVALID`: no such aperture.
    pub aperture_remove: Option<unsafe extern "C" fn(host: *mut Host, aperture: u64) -> i32>,
    /// Takes pages of an object back, `count` of them from `first` on, `count` 0: to the end: removes their mappings in every
    /// map and frees them, waiting for those that others have busied. `object` is `quire_pager_open_args.host_object`. `flags` is a set of
    /// `QUIRE_REVOKE_…`; without any, what is dirty is written first, and the next access faults again. On any thread, but not
    /// inside an operation of the same object, where it answers `-EDEADLK`. `STALE`: no such object, or it is closed; otherwise an
    /// error of the writing, after which what is dirty is still there.
    pub revoke: Option<unsafe extern "C" fn(host: *mut Host, object: u64, first: u64, count: u64, flags: u32) -> i32>,
    /// What can be done with a page by hand. It answers, as the services below do, `OK` or a negative `QUIRE_PAGE_…`.
    #[cfg_attr(feature = "layout", sabi(unsafe_change_type = crate::PageApiRef))]
    pub pages: *const crate::PageApi,
    /// Stores the handle of page `index` of an object in `page`, if it is in memory. It is not busied by that, and may be gone a moment later.
    /// `object` is `quire_pager_open_args.host_object`, here and below. `ABSENT`; `STALE`: no such object, or it is closed; `NOMEM`.
    pub page_lookup:
        Option<unsafe extern "C" fn(host: *mut Host, object: u64, index: u64, page: *mut *mut crate::Page) -> i32>,
    /// Grabs `count` pages of an object from `first` on: each is looked up, or made, and busied, as `flags`, a set of
    /// `QUIRE_GRAB_…`, has it; without any, a missing page is made, unfilled, and each is exclusively busied. Stops at the first that cannot be
    /// had. Stores their handles in `pages`, an array of `count`, and in `grabbed`, which may be NULL when `count` is 1, how many
    /// there are. `OK` if one was had; otherwise why the first was not: `BUSY` (with `NOWAIT`, `WAITFAIL`), `ABSENT` (with `NOCREAT`), `BEYOND`,
    /// `NOMEM` (which is not waited for), `STALE`, `FAILED`; `INVALID`: `count` is 0, an unknown flag; `MISUSE`: flags that exclude each other. May block for as long as others have
    /// the page; so a pager that grabs a page which it has to bring itself waits in vain, unless it says `NOWAIT`.
    pub page_grab: Option<
        unsafe extern "C" fn(
            host: *mut Host,
            object: u64,
            first: u64,
            count: u32,
            flags: u32,
            pages: *mut *mut crate::Page,
            grabbed: *mut u32,
        ) -> i32,
    >,
    /// Moves a page, exclusively busied by hand, to page `index` of an object, where there is none: out of the object that it is in, or from
    /// outside all objects (`remove`). Its mappings go. It stays the same page, busied, with its bytes and wirings by hand; a filled one is
    /// dirty, as its new pager has not what it holds. `OCCUPIED`, `BEYOND`, `NOMEM`, `STALE`; `UNSUPPORTED`: it is filled, and
    /// the object cannot be written; `INVALID`: an object of another engine; `MISUSE`: not busied so, or wired by a map.
    pub page_move:
        Option<unsafe extern "C" fn(host: *mut Host, page: *mut crate::Page, object: u64, index: u64) -> i32>,
    /// Takes an object's lock, a plain one for callers who want to exclude each other, or who test against the rule that a page is busied under
    /// it; the engine never takes it. May block for as long as others have it. `MISUSE`: this thread has it; `STALE`.
    pub object_lock: Option<unsafe extern "C" fn(host: *mut Host, object: u64) -> i32>,
    /// Lets go of it. `MISUSE`: this thread does not have it; `STALE`.
    pub object_unlock: Option<unsafe extern "C" fn(host: *mut Host, object: u64) -> i32>,
}

/// `revoke` flags: what is dirty is given up.
pub const QUIRE_REVOKE_DISCARD: u32 = 1;
/// `revoke` flags: from now on every access to the object that finds no mapping fails, as long as it is open. The whole object only.
pub const QUIRE_REVOKE_FAIL: u32 = 2;

// SAFETY: a constant table as far as plugins are concerned; every service may be called on any thread.
unsafe impl Sync for HostApi {}
// SAFETY: as for Sync.
unsafe impl Send for HostApi {}

/// `quire_aperture.cache`: ordinary memory.
pub const QUIRE_CACHE_WRITE_BACK: u32 = 0;
/// `quire_aperture.cache`: stores may be gathered and reordered, loads are not cached: frame buffers.
pub const QUIRE_CACHE_WRITE_COMBINING: u32 = 1;
/// `quire_aperture.cache`: every access reaches the device, in order: registers.
pub const QUIRE_CACHE_UNCACHED: u32 = 2;

/// Memory of a device: a range of addresses of this process, or what a file descriptor maps. Borrowed until return.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Aperture {
    /// Size of this struct in bytes, as the caller knows it.
    pub struct_size: u32,
    /// One of `QUIRE_CACHE_…`: how the device wants to be accessed. A machine with page tables of its own obeys; in a process the mapping
    /// that the device's file gives decides.
    pub cache: u32,
    /// The memory, page aligned; NULL when `fd` is to be mapped. It stays the caller's. On the Linux machine it must be a
    /// shared mapping (`MAP_SHARED`), as it is shown at other addresses too.
    pub memory: *mut c_void,
    /// Its length in bytes: a multiple of the page size, not 0.
    pub length: u64,
    /// An open file descriptor that can be mapped, or -1. It is duplicated, and stays the caller's. With `memory` as well, that is where it is mapped already.
    pub fd: i32,
    /// Zero.
    pub reserved: u32,
    /// Where in the file the memory begins, in bytes; a multiple of the page size.
    pub offset: u64,
}

/// The smallest `struct_size` of `struct quire_aperture`.
pub const QUIRE_APERTURE_MIN_SIZE: u32 = 40;

const _: () = assert!(size_of::<Aperture>() >= QUIRE_APERTURE_MIN_SIZE as usize);

/// The smallest `struct_size` of `struct quire_pager_host_api`: the words before the services.
pub const QUIRE_PAGER_HOST_API_MIN_SIZE: u32 = 24;

const _: () = assert!(core::mem::offset_of!(HostApi, log) == QUIRE_PAGER_HOST_API_MIN_SIZE as usize);
