//! What the author of a device writes: the narrow table of a driver, which the device pager calls.

use core::ffi::{c_char, c_void};

use crate::{HostApi, Io, OpenArgs, OpenResult, Populate};

/// `quire_driver.kind`: the frames are the device's own, and each fault is answered with one of them. The host neither writes them out nor
/// takes them away to make room. Such a driver has no `populate` (S213).
pub const QUIRE_DRIVER_UNMANAGED: u32 = 1;
/// `quire_driver.kind`: the pages are the host's, filled by the driver: the host can take them back, have them written
/// with `put`, and the driver can revoke them.
pub const QUIRE_DRIVER_MANAGED: u32 = 2;
/// `quire_driver.kind`: the frames are the device's own, and `populate` installs large contiguous windows of them.
pub const QUIRE_DRIVER_PHYS: u32 = 3;

/// The extension by whose name the host finds a driver's table in its module.
pub const QUIRE_DRIVER_EXTENSION: &[u8] = b"quire.driver.1\0";

/// The table of a driver: constant, and alive as long as its module is. Append-only: members after `dtor` are optional, NULL or beyond
/// `struct_size` means absent. `ctx` is what the module's `init` stored, `device` what `ctor` stored.
///
/// The rules of `quire_pager_module` hold for its functions: statuses, text by `set_error`, no lock of the host held, the module's
/// thread model. Each may block.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
#[cfg_attr(feature = "layout", sabi(kind(Prefix(prefix_ref = DriverRef, prefix_fields = DriverPrefix))))]
pub struct Driver {
    /// `sizeof(struct quire_driver)`; as the host copies it, the size of the copy.
    pub struct_size: u32,
    /// One of `QUIRE_DRIVER_…`.
    pub kind: u32,
    /// Makes a device of what `args` names; the name may be NULL and the descriptor -1. Of `out`, `object` is the device, and `size` must be
    /// set, not to 0; all else as from a pager's `open`, but that the device pager sets `QUIRE_OBJECT_POPULATE` and `QUIRE_OBJECT_FRAMES`, and
    /// that a request has one page, whatever `max_run` says. `identity` need differ from those of the same driver's other devices only. A `ctor` that fails is followed by no `dtor`. Mandatory.
    pub ctor: Option<unsafe extern "C" fn(ctx: *mut c_void, args: *const OpenArgs, out: *mut OpenResult) -> i32>,
    /// Ends a device, exactly once for each `ctor` that answered `OK`; no call for it is under way, and none follows. Not called
    /// when the process ends before. Mandatory.
    #[cfg_attr(feature = "layout", sabi(last_prefix_field))]
    pub dtor: Option<unsafe extern "C" fn(ctx: *mut c_void, device: *mut c_void)>,
    /// Answers one page. It must not pend. Absent: the page cannot be had that way (`FAIL`, S235).
    pub fault: Option<unsafe extern "C" fn(device: *mut c_void, req: *mut DriverFault) -> i32>,
    /// Installs as many pages as the driver thinks right; as a pager's. `BAD`: one page, by `fault`. Absent: always so. Not of unmanaged devices.
    pub populate: Option<unsafe extern "C" fn(device: *mut c_void, req: *mut Populate) -> i32>,
    /// Writes pages back; as a pager's, but that it must not pend. Of managed devices only. Absent: the device cannot be written.
    pub put: Option<unsafe extern "C" fn(device: *mut c_void, io: *mut Io) -> i32>,
    /// Writes a name for people, zero-terminated and cut to `len` bytes, into `text`. Absent: the name given to open.
    pub path: Option<unsafe extern "C" fn(device: *mut c_void, text: *mut c_char, len: usize) -> i32>,
    /// Makes everything that was put durable before it returns. Absent: a put is durable when it returns.
    pub sync: Option<unsafe extern "C" fn(device: *mut c_void) -> i32>,
}

// SAFETY: a Driver is a constant table of functions; nothing is written through it.
unsafe impl Sync for Driver {}
// SAFETY: as for Sync.
unsafe impl Send for Driver {}

/// The size every driver of this major version has at least: up to and including `dtor`.
pub const QUIRE_DRIVER_MIN_SIZE: u32 = 24;

const _: () = assert!(core::mem::offset_of!(Driver, fault) == QUIRE_DRIVER_MIN_SIZE as usize);

/// A driver, as it is handed to the device pager: its table, and what its module's `init` stored.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct DriverHandle {
    /// Size of this struct in bytes, as the host knows it.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// The table.
    // The layout check knows a growing table by its reference type only.
    #[cfg_attr(feature = "layout", sabi(unsafe_change_type = DriverRef))]
    pub table: *const Driver,
    /// The first argument of `ctor` and `dtor`.
    pub ctx: *mut c_void,
    /// The driver's short name: that of its module.
    pub name: *const c_char,
}

/// The smallest `struct_size` of `struct quire_driver_handle`.
pub const QUIRE_DRIVER_HANDLE_MIN_SIZE: u32 = 32;

const _: () = assert!(size_of::<DriverHandle>() >= QUIRE_DRIVER_HANDLE_MIN_SIZE as usize);

/// A fault that a driver is to answer with one page. Borrowed until return.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
pub struct DriverFault {
    /// Size of this struct in bytes, as the caller knows it.
    pub struct_size: u32,
    /// Zero for now. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
    pub flags: u32,
    /// Names the request in `set_error`.
    pub token: u64,
    /// The page index.
    pub index: u64,
    /// Managed devices: the page's bytes, to be filled whole; they come with any contents. NULL otherwise.
    pub bytes: *mut c_void,
    /// Out, for `OK`, where `bytes` is NULL: the aperture that has the frame.
    pub aperture: u64,
    /// Out, likewise: where in the aperture the frame begins; a multiple of the page size.
    pub offset: u64,
    /// Bytes in a page.
    pub page_size: u32,
    /// The access: one of `QUIRE_ACCESS_…`. Managed devices are always told a read (S237).
    pub access: u32,
    /// The host's services.
    #[cfg_attr(feature = "layout", sabi(unsafe_change_type = crate::HostApiRef))]
    pub host: *const HostApi,
}

/// The smallest `struct_size` of `struct quire_driver_fault`.
pub const QUIRE_DRIVER_FAULT_MIN_SIZE: u32 = 64;

const _: () = assert!(size_of::<DriverFault>() >= QUIRE_DRIVER_FAULT_MIN_SIZE as usize);
