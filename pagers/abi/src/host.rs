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

/// Services of the host. Valid from `init` until `fini` has returned. Append-only: a plugin that wants a member newer
/// than the first version of its major number checks `QUIRE_HAS` first.
///
/// Every service may be called on any thread, also one of the pager's own, and with locks of the pager's held: none of them
/// blocks for a pager operation, or runs one on the caller's stack. `page_insert` and `page_ready` are for as long as
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
    /// During populate: allocates a page of the object at `index`, exclusively busied, and lends its bytes until
    /// `page_ready` or the end of populate. They are aligned to the page size and come with any contents. `OK`; `AGAIN`: somebody else has that page (resident, or busy), leave it out;
    /// `BAD`: outside the object; `NOMEM`; `STALE`.
    pub page_insert:
        Option<unsafe extern "C" fn(host: *mut Host, token: u64, index: u64, bytes: *mut *mut c_void) -> i32>,
    /// During populate: the page inserted at `index` is filled, whole. A page that is not made ready by the end of populate is freed.
    pub page_ready: Option<unsafe extern "C" fn(host: *mut Host, token: u64, index: u64) -> i32>,
    /// Answers an extension table of the host by its name, or NULL.
    #[cfg_attr(feature = "layout", sabi(last_prefix_field))]
    pub get_extension: Option<unsafe extern "C" fn(host: *mut Host, id: *const c_char) -> *const c_void>,
}

// SAFETY: a constant table as far as plugins are concerned; every service may be called on any thread.
unsafe impl Sync for HostApi {}
// SAFETY: as for Sync.
unsafe impl Send for HostApi {}

/// The smallest `struct_size` of `struct quire_pager_host_api`: the words before the services.
pub const QUIRE_PAGER_HOST_API_MIN_SIZE: u32 = 24;

const _: () = assert!(core::mem::offset_of!(HostApi, log) == QUIRE_PAGER_HOST_API_MIN_SIZE as usize);
