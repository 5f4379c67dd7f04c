//! The table that a plugin gives to the host.

use core::ffi::{c_char, c_void};

use crate::{Extent, HostApi, Io, OpenArgs, OpenResult, Populate};

/// `thread_model`: no two operations of the module run at the same time. The host holds a lock around each call; the time a request is pending is not covered.
///
/// The lock is taken with none of the host's held, and a thread waits for it as long as the call inside takes. An
/// operation that comes back to its own pager on the same thread (it touches memory that the pager backs, or drives the
/// engine) does not wait for itself: the inner call fails with `-EDEADLK`, which is an ordinary error and quarantines
/// nobody. The close of an object that is released in there is put off until the outer operation has returned.
pub const QUIRE_THREADS_SERIALIZE_ALL: u32 = 0;
/// `thread_model`: no two operations on one object run at the same time. Opens are not covered, as there is no object yet:
/// several may run at once, also beside operations on other objects. Otherwise as `QUIRE_THREADS_SERIALIZE_ALL`.
pub const QUIRE_THREADS_SERIALIZE_OBJECT: u32 = 1;
/// `thread_model`: any operations may run at the same time, but for open and close of the same object, init and fini.
pub const QUIRE_THREADS_PARALLEL: u32 = 2;

/// `caps`: `get` and `put` may answer `QUIRE_PAGER_PEND` where the request allows it.
pub const QUIRE_CAP_ASYNC: u64 = 1;
/// `caps`: the library must not be unloaded before the process ends.
pub const QUIRE_CAP_STAY_RESIDENT: u64 = 2;
/// `caps`: built so that a panic ends the process (Rust `panic = "abort"`). Told to people; changes nothing.
pub const QUIRE_CAP_PANIC_ABORT: u64 = 4;
/// `caps`: operations may be called in a child after fork. Without it a child calls none of them, not even close or fini.
pub const QUIRE_CAP_FORK_SAFE: u64 = 8;
/// `caps`: `get` and `put` of a request with `QUIRE_IO_IN_SIGNAL`, and `has_page` at any time, do only what is async-signal-safe
/// (POSIX), whatever becomes of the request.
pub const QUIRE_CAP_SIGNAL_SAFE: u64 = 16;
/// `caps`: the module is a driver of devices, and no pager: `open`, `close` and `get` are absent, and `get_extension` answers its
/// `struct quire_driver` to the name `QUIRE_DRIVER_EXTENSION`. Devices of it are opened through the device pager.
pub const QUIRE_CAP_DRIVER: u64 = 32;
/// `caps`: the pager opens devices: its `open` is given a driver, and without this bit it never is. Its `thread_model` is `QUIRE_THREADS_PARALLEL`:
/// operations on a device are kept apart as the driver's module asks.
pub const QUIRE_CAP_DEVICES: u64 = 64;

/// What a pager is and can do: the table that its entry function returns.
///
/// Constant, and alive as long as the library is loaded. Append-only: members after `get` are optional, NULL or beyond
/// `struct_size` means absent. Strings are UTF-8, end in a zero, and are static.
///
/// No operation is called with a lock of the host held, other than that of `thread_model`; each may block. A pager's own
/// locks are its own affair, as long as it holds none of them while it waits for the host to call it. `ctx` is what `init` stored, `object` what
/// `open` stored; both are the pager's own and opaque to the host, and may be NULL.
///
/// # Answers
///
/// Every operation may answer `OK`, `FAULTED`, `ERROR`, `AGAIN`, `NOMEM`, `INVALID`, `UNSUPPORTED`, `BAD`, `FAIL`,
/// `CANCELLED` and a negated `errno`. `PEND` only `get` and `put` of a request with `QUIRE_IO_MAY_PEND`; `REFAULT` only `populate`. Anything
/// else is a broken promise. The host retries nothing by itself, not even `AGAIN`: whoever asked gets the error, and may ask again.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "layout", derive(abi_stable::StableAbi))]
#[cfg_attr(feature = "layout", sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModulePrefix))))]
pub struct Module {
    /// `QUIRE_PAGER_MAGIC`.
    pub magic: u32,
    /// `QUIRE_PAGER_ABI_VERSION` of the header this module was built with.
    pub abi_version: u32,
    /// `sizeof(struct quire_pager_module)` of that header, in bytes.
    pub struct_size: u32,
    /// One of `QUIRE_THREADS_…`. Enforced by the host.
    pub thread_model: u32,
    /// A set of `QUIRE_CAP_…`. All 64 bits are hints: unknown ones are ignored.
    pub caps: u64,
    /// Short name: lower-case letters, digits, `-` and `_`, at most 64 of them; not NULL.
    pub name: *const c_char,
    /// The pager's own version, for people; may be NULL.
    pub version: *const c_char,
    /// One sentence, for people; may be NULL.
    pub description: *const c_char,
    /// Called once, before anything else. `host` stays valid until `fini` has returned. `config` is borrowed until return
    /// and may be NULL. Optional: without it `ctx` is NULL. Answers `OK` or an error, with which the load is refused.
    ///
    /// No `fini` follows an init that fails, so nothing it started may still run. The host keeps the library and its own
    /// table for ever then, in case something does; `init` may be called again when the plugin is loaded again.
    /// May load other plugins. To load its own, or to wait for a thread that does, is refused or never ends.
    // The layout check knows a growing table by its reference type only: this repeats the signature below with that type.
    #[cfg_attr(
        feature = "layout",
        sabi(unsafe_change_type = Option<
            unsafe extern "C" fn(host: crate::HostApiRef, config: *const c_char, ctx: *mut *mut c_void) -> i32,
        >)
    )]
    pub init: Option<unsafe extern "C" fn(host: *const HostApi, config: *const c_char, ctx: *mut *mut c_void) -> i32>,
    /// Called once, after the last close, when no request is under way. The pager's threads must have ended when it
    /// returns, and the host's table is not used afterwards. Must not load its own plugin. Optional.
    pub fini: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Opens what `args` names. `out` comes zeroed with its `struct_size` filled in, is borrowed until return and is read
    /// only when the answer is `OK`. The handle stored there is the pager's until `close`; NULL is as good as any. Mandatory.
    pub open: Option<unsafe extern "C" fn(ctx: *mut c_void, args: *const OpenArgs, out: *mut OpenResult) -> i32>,
    /// Closes an object. No request of it is under way, and none follows. Called once for each object, in any case. An
    /// error is reported to whoever released the object; the object is closed all the same. Mandatory.
    pub close: Option<unsafe extern "C" fn(ctx: *mut c_void, object: *mut c_void) -> i32>,
    /// Fills the pages of a run. The page `io->required` must be filled for an `OK`; each page that was filled gets the
    /// status `OK`, whole: past the end of the data it holds zeros. A neighbour may be left untouched or get an error,
    /// which fails nobody. The bytes come with any contents, and are not zeroed. When the answer is an error, pages that
    /// got the status `OK` are kept all the same. `BAD` for a page beyond the end of the data. Mandatory.
    #[cfg_attr(feature = "layout", sabi(last_prefix_field))]
    pub get: Option<unsafe extern "C" fn(object: *mut c_void, io: *mut Io) -> i32>,
    /// Writes the pages of a run, whose bytes do not change meanwhile. Every page needs a status; `OK` as the answer says
    /// that all pages are written. Nothing at or beyond `io->object_size` may be written. When the answer is an error,
    /// pages with the status `OK` count as written, and the others stay dirty. A backing that has become shorter
    /// than `io->object_size` behind the host's back must not grow again because of a put: `BAD` for pages beyond its end. It grows by
    /// `resize`. Absent: read-only.
    pub put: Option<unsafe extern "C" fn(object: *mut c_void, io: *mut Io) -> i32>,
    /// Says whether the backing has the page, and how many pages before and after it could come in the same request.
    /// `OK` and `out` filled in (it comes zeroed with its `struct_size`): it has; `FAIL`: in range, and not there. Absent:
    /// every page below the size is there.
    pub has_page: Option<unsafe extern "C" fn(object: *mut c_void, index: u64, out: *mut Extent) -> i32>,
    /// Installs as many pages as the pager thinks right, through the host's page services, and stores the contiguous
    /// range in `req->first` and `req->last`. Called only for objects opened with `QUIRE_OBJECT_POPULATE`. `BAD`: use
    /// `get`. `REFAULT`: start the fault over, for something has changed meanwhile; a fault that is started over again and
    /// again without progress takes the way through `get`. Pages that were made ready are kept, whatever the answer is.
    pub populate: Option<unsafe extern "C" fn(object: *mut c_void, req: *mut Populate) -> i32>,
    /// Stores the size in bytes as it is now. Absent: the size given by `open` stands.
    pub get_size: Option<unsafe extern "C" fn(object: *mut c_void, size: *mut u64) -> i32>,
    /// Makes the backing `size` bytes long. Absent: the size is fixed.
    pub resize: Option<unsafe extern "C" fn(object: *mut c_void, size: u64) -> i32>,
    /// Makes everything that was put durable before it returns. Absent: a put is durable when it completes.
    pub sync: Option<unsafe extern "C" fn(object: *mut c_void) -> i32>,
    /// Asked before clean pages are written, by any way: `count` pages from `first`, which were filled. They are dirty once it
    /// has agreed, and are put some time later; after that the next write asks again. An error denies the write: the access
    /// fails with it. May block, but not pend. Absent: always allowed. Never called for objects opened for reading.
    pub prepare_write: Option<unsafe extern "C" fn(object: *mut c_void, first: u64, count: u64) -> i32>,
    /// Asks that the request `token`, to which an operation of this object answered `PEND`, end soon. Called at most once for
    /// a request, never before that answer, on any thread; the thread model holds for it as for every operation. It must not wait for the
    /// request. The request still completes, exactly once, by `complete`, before, during or after this call: with
    /// `CANCELLED`, or with whatever it came to. A token that has completed meanwhile is ignored, with `OK`. Any other
    /// answer: it cannot be cancelled now, and goes on. Absent: requests cannot be cancelled.
    pub cancel: Option<unsafe extern "C" fn(object: *mut c_void, token: u64) -> i32>,
    /// Reserves backing for pages that will be put. Absent: a put finds room or fails. This host does not call it yet.
    pub reserve: Option<unsafe extern "C" fn(object: *mut c_void, first: u64, count: u64) -> i32>,
    /// `count` pages from `first` will not be read again until they are put: their backing may be given back. No put or get
    /// of these pages is under way, and none begins before this has returned. An error is reported and changes nothing for the host: the
    /// pages count as given back, whatever became of their backing. May block, but not pend. Absent: nothing to do. Never called
    /// for objects opened for reading.
    pub free_space: Option<unsafe extern "C" fn(object: *mut c_void, first: u64, count: u64) -> i32>,
    /// A notice, for accounting: a page became resident. Delivered later, and outside every lock of the host. This host
    /// does not call it yet.
    pub page_inserted: Option<unsafe extern "C" fn(object: *mut c_void, index: u64)>,
    /// A notice, for accounting: a page is no longer resident. This host does not call it yet.
    pub page_removed: Option<unsafe extern "C" fn(object: *mut c_void, index: u64)>,
    /// Writes a name for people (a path), zero-terminated and cut to `len` bytes, into `text`. Absent: the name given to open.
    pub path: Option<unsafe extern "C" fn(object: *mut c_void, text: *mut c_char, len: usize) -> i32>,
    /// Answers an extension table by its name, or NULL. The table is static. May be absent. The host asks a module with
    /// `QUIRE_CAP_DRIVER` for its driver, after `init`, and nothing else.
    pub get_extension: Option<unsafe extern "C" fn(ctx: *mut c_void, id: *const c_char) -> *const c_void>,
    /// Stores two words: which contents the object has now, as `quire_pager_open_result.change` tells at open; both 0: not
    /// known. Asked when the last user of an object goes that was written, after the writes. Absent: own puts and
    /// resizes do not change the words.
    pub get_change: Option<unsafe extern "C" fn(object: *mut c_void, change: *mut u64) -> i32>,
}

// SAFETY: a Module is a constant table: its pointers name static text and functions, nothing is written through them.
unsafe impl Sync for Module {}
// SAFETY: as for Sync; nothing in the table belongs to one thread.
unsafe impl Send for Module {}

/// The size every module of this major version has at least: up to and including `get`.
pub const QUIRE_PAGER_MODULE_MIN_SIZE: u32 = 88;

const _: () = assert!(core::mem::offset_of!(Module, put) == QUIRE_PAGER_MODULE_MIN_SIZE as usize);
