//! Pages by hand: the functions of `vm_page_busy(9)`, and what is done to a page that is busied.

use core::ffi::{c_char, c_void};

/// A page's handle. Not an address: 64 bits that name a page as it was when it was looked up or grabbed. It may be kept for ever, and needs no
/// closing; once the page was freed every call with it is answered with `QUIRE_PAGE_STALE` (in the API of quire.h: `QUIRE_ERR_STALE`). NULL and what is not
/// aligned as a handle are answered, too; other numbers that were never one must not be passed. A handle alone keeps
/// nothing in memory: busying the page does, and wiring it.
// cbindgen does not look through cfg_attr, and so emits this as an incomplete struct, which is what C should see.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Page {
    _private: [u8; 0],
}

/// Page services: the rules were broken (EPERM): the page is not busied in the mode that the call needs, or is wired, or in no object; nothing was
/// changed, and the host's log says what was wrong. In checking builds that ends the process.
pub const QUIRE_PAGE_MISUSE: i32 = -1;
/// Page services: the page is not in memory, and was not to be made (ENOENT).
pub const QUIRE_PAGE_ABSENT: i32 = -2;
/// Page services: something failed below (EIO).
pub const QUIRE_PAGE_FAILED: i32 = -5;
/// Page services: what was passed as a page is NULL, or no handle of one (EBADF). In checking builds that ends the process.
pub const QUIRE_PAGE_NO_HANDLE: i32 = -9;
/// Page services: memory could not be had (ENOMEM).
pub const QUIRE_PAGE_NOMEM: i32 = -12;
/// Page services: it is busied by others, or would have to be waited for (EBUSY).
pub const QUIRE_PAGE_BUSY: i32 = -16;
/// Page services: there is a page at that place already (EEXIST).
pub const QUIRE_PAGE_OCCUPIED: i32 = -17;
/// Page services: an argument makes no sense (EINVAL).
pub const QUIRE_PAGE_INVALID: i32 = -22;
/// Page services: the object ends before that page (ERANGE).
pub const QUIRE_PAGE_BEYOND: i32 = -34;
/// Page services: the object cannot do that: it cannot be written, say (EOPNOTSUPP).
pub const QUIRE_PAGE_UNSUPPORTED: i32 = -95;
/// Page services: the page was freed since its handle was given, or the object's name is none of an open object (ESTALE).
pub const QUIRE_PAGE_STALE: i32 = -116;

/// Grabbing: a page that is not in memory is not made.
pub const QUIRE_GRAB_NOCREAT: u32 = 1;
/// Grabbing: nothing is waited for.
pub const QUIRE_GRAB_NOWAIT: u32 = 2;
/// Grabbing: what has to be waited for is waited for once, and then answered as if it had not been.
pub const QUIRE_GRAB_WAITFAIL: u32 = 4;
/// Grabbing: shared busied, not exclusively. Only a filled page is shared: a new one by `ZERO` or `CONTENTS`. Implies `IGN_SBUSY`.
pub const QUIRE_GRAB_SBUSY: u32 = 8;
/// Grabbing: with `NOBUSY`, those who share the page are not waited for.
pub const QUIRE_GRAB_IGN_SBUSY: u32 = 16;
/// Grabbing: not busied afterwards, as from a lookup. Only a filled page, as with `SBUSY`.
pub const QUIRE_GRAB_NOBUSY: u32 = 32;
/// Grabbing: wired as well, to be unwired by the caller.
pub const QUIRE_GRAB_WIRED: u32 = 64;
/// Grabbing: a new page is zeros, and filled with that. (Without it a new page is zeros, too, but not filled.)
pub const QUIRE_GRAB_ZERO: u32 = 128;
/// Grabbing: a page that is not in memory is brought in by its pager. Not for pagers, which bring it.
pub const QUIRE_GRAB_CONTENTS: u32 = 256;

/// What can be done with a page by hand. Append-only, and static as long as the host is: part of `struct quire_pager_host_api`.
///
/// A page is unbusied, exclusively busied by one, or shared busied by one or more (S239). Busying is the caller's own: what the engine has
/// busied (a page that is being brought in or written, or was taken for a running populate) cannot be unbusied or changed here. A
/// page that is busied for long keeps faults, write-back and the end of its object waiting; what is in the way of a
/// thread's own call it waits for in vain.
///
/// The functions answer `QUIRE_PAGER_OK` or a negative `QUIRE_PAGE_…`; questions answer 1 or 0, or a negative one. Each may answer `NO_HANDLE`
/// and `STALE`. Any thread, with any locks of the pager's; those that may block say so, and none calls a pager.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
#[cfg_attr(feature = "layout", sabi(kind(Prefix(prefix_ref = PageApiRef, prefix_fields = PageApiPrefix))))]
pub struct PageApi {
    /// `sizeof(struct quire_page_api)`, as the host knows it.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Whether it is busied in either mode, by anyone.
    pub busied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Whether it is exclusively busied, by anyone.
    pub xbusied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Whether it is shared busied, by anyone.
    pub sbusied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Busies it exclusively if it is unbusied: 1; otherwise 0, at once. Takes no lock and allocates nothing.
    pub tryxbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Shares it unless it is exclusively busied: 1; otherwise 0, at once. Takes no lock and allocates nothing.
    pub trysbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Busies it exclusively. May block for as long as others have it.
    pub xbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Shares it. May block for as long as somebody has it exclusively busied.
    pub sbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Unbusies what is exclusively busied, and wakes all sleepers. A page that is not filled is freed by that, and the handle is
    /// stale. `MISUSE`: it is not exclusively busied by hand, or is in no object.
    pub xunbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Gives one share back; the last one wakes all sleepers. `MISUSE`: nobody shares it by hand.
    pub sunbusy: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Exclusively busied to shared by the caller alone, with no moment in between. `MISUSE`: it is not exclusively busied by hand, not filled,
    /// or in no object.
    pub busy_downgrade: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Shared by the caller alone to exclusively busied: 1; with other sharers 0, and still shared. `MISUSE`: nobody shares it by hand.
    pub busy_tryupgrade: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Sleeps once, if the page is busied, until that changes; it may be busied again afterwards. `message`, zero-terminated and borrowed, is
    /// for tools, and cut to 31 bytes; NULL is "". The object's lock, if the caller holds it, is let go of.
    pub busy_sleep: Option<unsafe extern "C" fn(page: *mut Page, message: *const c_char) -> i32>,
    /// As `busy_sleep`, but the object's lock is held again afterwards: 1 if it slept, 0 if the page was not busied.
    pub sleep_if_busy: Option<unsafe extern "C" fn(page: *mut Page, message: *const c_char) -> i32>,
    /// In checking builds, ends the process unless the page is shared busied. Nothing otherwise.
    pub assert_sbusied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// In checking builds, ends the process if the page is busied. Nothing otherwise.
    pub assert_unbusied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// In checking builds, ends the process unless the page is exclusively busied. Nothing otherwise.
    pub assert_xbusied: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Whether it is filled.
    pub is_valid: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// It is filled, whole, with what its pager has. Exclusively busied.
    pub set_valid: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Whether it is dirty, or may be: mapped for writing, and not looked at since.
    pub is_dirty: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// It has to be written before it goes. Busied in either mode, and filled. `UNSUPPORTED`: the object cannot be written.
    pub set_dirty: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Its pager has these very bytes. Its mappings go. Exclusively busied.
    pub set_clean: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// It stays in memory until each wiring was taken back, or its object loses it: by shrinking, by its end. Busied in either mode. `NOMEM`.
    pub wire: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Takes one wiring back that was made by hand. It need not be busied. `MISUSE`: there is none.
    pub unwire: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// How often it is wired, by hand and by maps.
    pub wire_count: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// What older systems call to hold a page: the same as `wire`.
    pub hold: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// The same as `unwire`.
    pub unhold: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Copies `length` of its bytes from `offset` on into `bytes`. Busied in either mode. `MISUSE` also if they are not all inside the page.
    pub read: Option<unsafe extern "C" fn(page: *mut Page, offset: usize, bytes: *mut c_void, length: usize) -> i32>,
    /// Copies `length` bytes from `bytes` into it from `offset` on. Busied in either mode. A filled page is dirty then, as by `set_dirty`.
    pub write: Option<unsafe extern "C" fn(page: *mut Page, offset: usize, bytes: *const c_void, length: usize) -> i32>,
    /// Stores the number of the object it is in, the same for all pages of one object and otherwise without meaning, and its
    /// index there; each may be NULL. 1, or 0 and nothing stored for a page in no object. Stable while it is busied.
    pub place: Option<unsafe extern "C" fn(page: *mut Page, object: *mut u64, index: *mut u64) -> i32>,
    /// Takes it out of its object: its mappings go, its place is empty. It stays exclusively busied, with its bytes and wirings, and must be
    /// put into an object, or freed. `NOMEM`; `MISUSE`: it is not exclusively busied by hand, is wired by a map, or out already.
    pub remove: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
    /// Frees it, and gives up what it holds; its mappings go. The handle is stale. `MISUSE`: it is not exclusively busied by hand, or is wired.
    #[cfg_attr(feature = "layout", sabi(last_prefix_field))]
    pub free: Option<unsafe extern "C" fn(page: *mut Page) -> i32>,
}

// SAFETY: a constant table of functions, which any thread may call; nothing is written through it.
unsafe impl Sync for PageApi {}
// SAFETY: as for Sync.
unsafe impl Send for PageApi {}
