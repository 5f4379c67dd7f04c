//! The structs that operations take: open, get and put, has_page, populate.

use core::ffi::{c_char, c_void};

// Sizes of the structs in the first version of this major number: every host gives at least these.

/// The smallest `struct_size` of `struct quire_pager_open_args`.
pub const QUIRE_PAGER_OPEN_ARGS_MIN_SIZE: u32 = 56;
/// The smallest `struct_size` of `struct quire_pager_open_result`.
pub const QUIRE_PAGER_OPEN_RESULT_MIN_SIZE: u32 = 64;
/// The smallest `page_stride` of a request: the size of `struct quire_pager_io_page`.
pub const QUIRE_PAGER_IO_PAGE_MIN_SIZE: u32 = 16;
/// The smallest `struct_size` of `struct quire_pager_io`.
pub const QUIRE_PAGER_IO_MIN_SIZE: u32 = 56;
/// The smallest `struct_size` of `struct quire_pager_extent`.
pub const QUIRE_PAGER_EXTENT_MIN_SIZE: u32 = 12;
/// The smallest `struct_size` of `struct quire_pager_populate`.
pub const QUIRE_PAGER_POPULATE_MIN_SIZE: u32 = 64;

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<OpenArgs>() >= QUIRE_PAGER_OPEN_ARGS_MIN_SIZE as usize);
    assert!(size_of::<OpenResult>() >= QUIRE_PAGER_OPEN_RESULT_MIN_SIZE as usize);
    assert!(size_of::<IoPage>() >= QUIRE_PAGER_IO_PAGE_MIN_SIZE as usize);
    assert!(size_of::<Io>() >= QUIRE_PAGER_IO_MIN_SIZE as usize);
    assert!(size_of::<Extent>() >= QUIRE_PAGER_EXTENT_MIN_SIZE as usize);
    assert!(size_of::<Populate>() >= QUIRE_PAGER_POPULATE_MIN_SIZE as usize);
};

/// `quire_pager_open_args.flags`: the object will be read.
pub const QUIRE_OPEN_READ: u32 = 1;
/// `quire_pager_open_args.flags`: the object will be written.
pub const QUIRE_OPEN_WRITE: u32 = 2;

/// What is to be opened. Borrowed until `open` returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct OpenArgs {
    /// Size of this struct in bytes, as the host knows it.
    pub struct_size: u32,
    /// A set of `QUIRE_OPEN_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
    pub flags: u32,
    /// Names this call in `set_error`.
    pub token: u64,
    /// What to open, zero-terminated; what it means is the pager's business (a path, an address). NULL when `fd` says it all.
    pub name: *const c_char,
    /// An open file descriptor to use, or -1. It stays the caller's; a pager that wants to keep it duplicates it.
    pub fd: i32,
    /// Bytes in a page; a power of two.
    pub page_size: u32,
    /// A driver for the pager: for device pagers, NULL otherwise. Valid until the object's `close` has returned.
    pub driver: *const crate::DriverHandle,
    /// The object's name in the host's services that take an object, from when `open` has answered `OK` until `close`
    /// returns; they answer `STALE` before and afterwards.
    pub host_object: u64,
    /// The host's services, as `init` was given them; for drivers, which need no `init`. Valid until the object's `close` has returned.
    #[cfg_attr(feature = "layout", sabi(unsafe_change_type = crate::HostApiRef))]
    pub host: *const crate::HostApi,
}

/// `quire_pager_open_result.flags`: pages come through `populate` first (S212: opt-in).
pub const QUIRE_OBJECT_POPULATE: u32 = 1;
/// `quire_pager_open_result.flags`: the object cannot be written, whatever was asked for.
pub const QUIRE_OBJECT_READ_ONLY: u32 = 2;
/// `quire_pager_open_result.flags`: the object's pages are frames of a device, installed with `frame_insert`. They need no `put` to be
/// written: a write goes to the device's memory, and `put` is never called.
pub const QUIRE_OBJECT_FRAMES: u32 = 4;

/// What was opened. The host zeroes it and fills in `struct_size`; the pager fills in the rest.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct OpenResult {
    /// Size of this struct in bytes, as the host knows it. Members beyond it do not exist.
    pub struct_size: u32,
    /// A set of `QUIRE_OBJECT_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
    pub flags: u32,
    /// The handle that every operation on this object is given; the pager's own.
    pub object: *mut c_void,
    /// The object's identity: opening the same thing twice gives the same two words (for files: device and inode). Both 0: no identity.
    pub identity: [u64; 2],
    /// Size in bytes; need not be a multiple of the page size. More than `2^64 - 4096` is logged and taken for that.
    pub size: u64,
    /// Bytes that the backing moves best in; 0: a page. With 2 MiB or more, a mapping whose place is left to the host, of 2 MiB at least
    /// and from a multiple of that on, is placed at such a multiple if there is room: populate's windows are then entered as
    /// large pages where the machine has them.
    pub granule: u32,
    /// The longest run of pages that one request may have; 0: no limit.
    pub max_run: u32,
    /// Which contents the object has at the moment: other words whenever they may have changed, other than through this
    /// object, since words were told before (for a file: its times of change). Both 0: not known.
    ///
    /// The host keeps pages of an object that nobody uses. When the same identity is opened again and tells other words, they
    /// are not shown: clean ones are freed, dirty ones, which are newer, are written first. Own puts and resizes may
    /// change the words, if there is `get_change` to ask for the new ones afterwards.
    pub change: [u64; 2],
}

/// `quire_pager_io.flags`: the operation may answer `QUIRE_PAGER_PEND` and complete later.
pub const QUIRE_IO_MAY_PEND: u32 = 1;
/// `quire_pager_io.flags`: the host is short of memory and this request frees some: do not allocate if it can be helped.
pub const QUIRE_IO_RECLAIMING: u32 = 2;
/// `quire_pager_io.flags`: the operation is called in a signal handler, which may have interrupted anything: do nothing that is
/// not async-signal-safe. Allocate nothing, wait for no lock that the interrupted thread could hold, and call no service of
/// the host, not even `set_error`. Never together with `QUIRE_IO_MAY_PEND`, and only for a module with `QUIRE_CAP_SIGNAL_SAFE`.
pub const QUIRE_IO_IN_SIGNAL: u32 = 4;

/// One page of a run. May grow at its end: go from one to the next by `page_stride` (`QUIRE_IO_PAGE`), not as in an array.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct IoPage {
    /// The page's bytes, `page_size` of them and aligned to that, lent until the request completes. For `get` they come
    /// with any contents; for `put` they must not be written.
    pub bytes: *mut c_void,
    /// Comes as `QUIRE_PAGER_UNTOUCHED`; the pager stores what became of this page: `OK`, or an error as an operation may answer it.
    pub status: i32,
    /// Zero.
    pub reserved: u32,
}

/// A request to move a run of pages of one object.
///
/// The struct and `pages` stay valid until the operation has returned *and* the request has completed. The bytes are
/// lent until completion: afterwards they are the host's, and a pager keeps no pointer to them.
/// A request completes when the operation answers anything but `QUIRE_PAGER_PEND`, or else by `complete`.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Io {
    /// Size of this struct in bytes, as the host knows it.
    pub struct_size: u32,
    /// A set of `QUIRE_IO_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
    pub flags: u32,
    /// Names the request in `complete`, `set_error` and `cancel`. Carries a generation: it is never used twice.
    pub token: u64,
    /// Page index, in the object, of `pages[0]`.
    pub first: u64,
    /// Number of pages, at least 1.
    pub count: u32,
    /// The page that must be moved, as an index into `pages`.
    pub required: u32,
    /// Bytes in a page; a power of two.
    pub page_size: u32,
    /// Bytes from one `struct quire_pager_io_page` in `pages` to the next, as the host knows it.
    pub page_stride: u32,
    /// The object's size in bytes as the host knows it. Bytes at and beyond it read as zeros and are never written.
    pub object_size: u64,
    /// The pages, `count` of them, `page_stride` bytes apart. `QUIRE_IO_PAGE(io, i)` finds one.
    pub pages: *mut IoPage,
}

/// What `has_page` answers. The host zeroes it and fills in `struct_size`; the pager fills in the rest.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Extent {
    /// Size of this struct in bytes, as the host knows it. Members beyond it do not exist.
    pub struct_size: u32,
    /// Pages directly before the index that could come in the same request.
    pub before: u32,
    /// Pages directly after it.
    pub after: u32,
}

/// The access that a populate request is for: a read.
pub const QUIRE_ACCESS_READ: u32 = 1;
/// The access that a populate request is for: a write.
pub const QUIRE_ACCESS_WRITE: u32 = 2;
/// The access that a populate request is for: an instruction fetch.
pub const QUIRE_ACCESS_EXEC: u32 = 4;

/// A request to install pages around a faulting index (S216 to S223). Borrowed until return.
///
/// There is no promise of a second call when a read is followed by a write (S237): pages are to be prepared for `max_prot`.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct Populate {
    /// Size of this struct in bytes, as the host knows it.
    pub struct_size: u32,
    /// Zero for now. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
    pub flags: u32,
    /// Names the request in the host's page services and in `set_error`.
    pub token: u64,
    /// The faulting page index.
    pub index: u64,
    /// In: the first index that is mapped. Out, for `OK`: the first page that was installed.
    pub first: u64,
    /// In: the last index that is mapped. Out, for `OK`: the last page that was installed. `first <= index <= last`.
    pub last: u64,
    /// One of `QUIRE_ACCESS_…`.
    pub access: u32,
    /// The most that the mapping may ever be allowed, as a set of `QUIRE_ACCESS_…`.
    pub max_prot: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// Zero.
    pub reserved: u32,
    /// The host's services, for this request's token.
    #[cfg_attr(feature = "layout", sabi(unsafe_change_type = crate::HostApiRef))]
    pub host: *const crate::HostApi,
}
