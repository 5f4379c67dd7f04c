//! The host as a plugin sees it: the table of services, and what they do.
//!
//! Every service may be called on any thread, also on one of the plugin's own. Only `revoke` runs a pager's operation; only that and those
//! of pages by hand that say so block. None panics, and a NULL host is ignored.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::ffi::{c_char, c_void};
use core::fmt;
use core::ptr::{self, NonNull};

use quire_abi as abi;
use quire_core::error::words_or_nothing;
use quire_core::object::Object;
use quire_core::populate::{NotInserted, Populate};
use quire_core::types::{PAGE_SHIFT, PageIndex};

use crate::aperture::{OpenMemory, aperture_add, aperture_remove, frame_insert};
use crate::judge;
use crate::named::{Named, ObjectName};
use crate::page;
use crate::requests::{Requests, Token};
use crate::revoke;
use crate::status::copy_text;

/// Bytes in a page, as the ABI's structs carry it.
pub(crate) const PAGE_SIZE: u32 = 1 << PAGE_SHIFT;

/// How urgent a line of the log is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is wrong and somebody must look at it.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// For the pager's author.
    Debug,
}

impl Level {
    /// From a plugin's number; an unknown one is taken as a warning.
    fn of(number: u32) -> Self {
        match number {
            abi::QUIRE_LOG_ERROR => Self::Error,
            abi::QUIRE_LOG_INFO => Self::Info,
            abi::QUIRE_LOG_DEBUG => Self::Debug,
            _ => Self::Warn,
        }
    }
}

/// Where lines of the log go: level, plugin and text. Called on any thread, also on those of a plugin; must not call one.
pub type Log = Box<dyn Fn(Level, &str, &str) + Send + Sync>;

/// The host of one plugin.
///
/// # Invariants
/// - `api.host` is this struct's own address. It is never moved: it lives in an `Arc`.
/// - From `init` until `fini` has returned the plugin holds a count of that `Arc`.
pub(crate) struct HostState {
    pub(crate) api: abi::HostApi,
    pub(crate) requests: Requests,
    pub(crate) named: Named,
    /// The plugin's name.
    pub(crate) name: Arc<str>,
    log: Log,
    pub(crate) open_memory: OpenMemory,
}

impl HostState {
    pub(crate) fn new(name: Arc<str>, log: Log, open_memory: OpenMemory) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            api: api(this.as_ptr().cast_mut().cast::<abi::Host>()),
            requests: Requests::default(),
            named: Named::default(),
            name,
            log,
            open_memory,
        })
    }

    pub(crate) fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        (self.log)(level, &self.name, &words_or_nothing(text));
    }

    /// The object that a plugin calls so: nothing when it is not the plugin's, not yet the engine's, or closed.
    pub(crate) fn object_named(&self, name: u64) -> Option<Arc<Object>> {
        self.named.get(ObjectName(name))
    }

    fn stale(&self, service: &str, token: u64) -> i32 {
        self.log(
            Level::Error,
            format_args!("{service} was called for token {token:#x}, which names no request under way: ignored"),
        );
        abi::QUIRE_PAGER_STALE
    }
}

impl fmt::Debug for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostState")
            .field("name", &self.name)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the table has some tens of bytes")]
fn api(host: *mut abi::Host) -> abi::HostApi {
    abi::HostApi {
        abi_version: abi::QUIRE_PAGER_ABI_VERSION,
        struct_size: size_of::<abi::HostApi>() as u32,
        host,
        page_size: PAGE_SIZE,
        reserved: 0,
        log: Some(log),
        set_error: Some(set_error),
        complete: Some(complete),
        get_extension: Some(get_extension),
        page_insert: Some(page_insert),
        page_ready: Some(page_ready),
        page_take: Some(page_take),
        frame_insert: Some(frame_insert),
        aperture_add: Some(aperture_add),
        aperture_remove: Some(aperture_remove),
        revoke: Some(revoke::revoke),
        pages: &raw const page::PAGES,
        page_lookup: Some(page::page_lookup),
        page_grab: Some(page::page_grab),
        page_move: Some(page::page_move),
        object_lock: Some(page::object_lock),
        object_unlock: Some(page::object_unlock),
    }
}

/// # Safety
/// `host` is NULL or the `host` of a table that was given to a plugin whose `fini` has not returned.
pub(crate) unsafe fn state<'a>(host: *mut abi::Host) -> Option<&'a HostState> {
    // SAFETY: by the invariants of `HostState` the address is that of a live one, and only shared access is ever made to it.
    unsafe { host.cast::<HostState>().cast_const().as_ref() }
}

unsafe extern "C" fn log(host: *mut abi::Host, level: u32, text: *const c_char) {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else { return };
    // SAFETY: the ABI asks for zero-terminated text, borrowed until we return.
    let text = unsafe { copy_text(text) };
    host.log(Level::of(level), format_args!("{text}"));
}

unsafe extern "C" fn set_error(host: *mut abi::Host, token: u64, text: *const c_char) {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else { return };
    // SAFETY: the ABI asks for zero-terminated text, borrowed until we return.
    let text: String = unsafe { copy_text(text) };
    let words = words_or_nothing(format_args!("{text}"));
    if host.requests.set_error(Token(token), text).is_err() {
        host.stale("set_error", token);
        host.log(Level::Warn, format_args!("the ignored text was: {words}"));
    }
}

unsafe extern "C" fn complete(host: *mut abi::Host, token: u64, status: i32) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    match host.requests.complete(Token(token), status) {
        Ok(Some(ended)) => judge::complete(host, ended),
        Ok(None) => {}
        Err(_) => return host.stale("complete", token),
    }
    abi::QUIRE_PAGER_OK
}

unsafe extern "C" fn page_insert(
    host: *mut abi::Host,
    token: u64,
    first: u64,
    count: u32,
    bytes: *mut *mut c_void,
    inserted: *mut u32,
) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    if bytes.is_null() {
        return abi::QUIRE_PAGER_INVALID;
    }
    let mut place = bytes;
    let mut lent = |lent: NonNull<u8>| {
        // SAFETY: not NULL, and the ABI asks for `count` places where a pointer can be stored; they may lie anywhere.
        unsafe {
            ptr::write_unaligned(place, lent.as_ptr().cast());
            place = place.wrapping_byte_add(size_of::<*mut c_void>());
        }
    };
    // SAFETY: as the ABI says of `inserted`.
    unsafe {
        run_of_pages(host, "page_insert", token, count, inserted, |request| {
            request.insert(PageIndex(first), count.into(), &mut lent)
        })
    }
}

unsafe extern "C" fn page_take(host: *mut abi::Host, token: u64, first: u64, count: u32, taken: *mut u32) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    // SAFETY: as the ABI says of `taken`.
    unsafe {
        run_of_pages(host, "page_take", token, count, taken, |request| {
            request.take(PageIndex(first), count.into())
        })
    }
}

/// What the services that have several pages share: the request, the count, the answer.
///
/// # Safety
/// `done` is NULL or a place for a number.
pub(crate) unsafe fn run_of_pages(
    host: &HostState,
    service: &str,
    token: u64,
    count: u32,
    done: *mut u32,
    call: impl FnOnce(&Populate) -> Result<u64, NotInserted>,
) -> i32 {
    if count == 0 || (count > 1 && done.is_null()) {
        return abi::QUIRE_PAGER_INVALID;
    }
    let Ok(request) = host.requests.populate(Token(token)) else {
        return host.stale(service, token);
    };
    match call(&request) {
        Ok(had) => {
            if !done.is_null() {
                // SAFETY: not NULL, and a place for a number by contract; it may lie anywhere.
                unsafe { ptr::write_unaligned(done, u32::try_from(had).unwrap_or(count)) };
            }
            abi::QUIRE_PAGER_OK
        }
        Err(NotInserted::Present) => abi::QUIRE_PAGER_AGAIN,
        Err(NotInserted::OutOfRange) => abi::QUIRE_PAGER_BAD,
        Err(NotInserted::NoMemory) => abi::QUIRE_PAGER_NOMEM,
        Err(NotInserted::NoFrames) => abi::QUIRE_PAGER_INVALID,
        Err(NotInserted::NoPut) => {
            host.log(
                Level::Error,
                format_args!(
                    "{service}: {}: its pages are frames of the device, and nothing would write one of the host's back; insert \
                     frames, or open it for reading only",
                    request.object().describe()
                ),
            );
            abi::QUIRE_PAGER_UNSUPPORTED
        }
        Err(NotInserted::Ended) => host.stale(service, token),
    }
}

unsafe extern "C" fn page_ready(host: *mut abi::Host, token: u64, first: u64, count: u32) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    let Ok(request) = host.requests.populate(Token(token)) else {
        return host.stale("page_ready", token);
    };
    if count > 0 && request.ready(PageIndex(first), count.into()) {
        abi::QUIRE_PAGER_OK
    } else {
        abi::QUIRE_PAGER_INVALID
    }
}

/// There are no extensions yet.
unsafe extern "C" fn get_extension(_host: *mut abi::Host, _id: *const c_char) -> *const c_void {
    ptr::null()
}
