//! The C side: one function for every slot of the module's table.
//!
//! Each is a border. It checks what the host passed, turns it into safe types, runs the author's operation where a panic
//! is caught, and turns the result into a status, with its text handed to `set_error`.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use quire_abi::{
    Extent, HostApi, Io, Module, OpenArgs, OpenResult, QUIRE_IO_IN_SIGNAL, QUIRE_OPEN_READ, QUIRE_OPEN_WRITE,
    QUIRE_PAGER_BAD, QUIRE_PAGER_FAIL, QUIRE_PAGER_FAULTED, QUIRE_PAGER_INVALID, QUIRE_PAGER_OK, QUIRE_PAGER_PEND,
    QUIRE_PAGER_REFAULT,
};

use crate::border;
use crate::driver::GivenDriver;
use crate::error::{Error, Result};
use crate::host::{Host, Level};
use crate::pager;
use crate::pager::{Caps, Extensions, Object, OpenRequest, Opened, Pager};
use crate::populate::{PopulateRun, Populated};
use crate::revoke::HostObject;
use crate::run::{Direction, Get, Origin, Put, Request, Run};

/// What `ctx` points to, from `init` to `fini`.
struct ModuleState<P> {
    pager: P,
    // Has no object's name: the module speaks for itself.
    origin: Arc<Origin>,
}

/// What an object's handle points to, from `open` to `close`.
pub(crate) struct ObjectState<O> {
    pub(crate) object: O,
    pub(crate) origin: Arc<Origin>,
}

/// The table of a pager with the mandatory operations; `export_pager!` adds the optional ones.
pub const fn base<P: Pager>() -> Module {
    assert!(
        is_name(P::NAME),
        "a pager's NAME consists of lower-case letters, digits, '-' and '_'"
    );
    Module {
        thread_model: P::THREADS.to_abi(),
        caps: P::CAPS.to_abi() | PANIC_CAP,
        name: P::NAME.as_ptr(),
        version: text_or_null(P::VERSION),
        description: text_or_null(P::DESCRIPTION),
        init: Some(init::<P>),
        fini: Some(fini::<P>),
        open: Some(open::<P>),
        close: Some(close::<P>),
        get: Some(get::<P>),
        path: Some(path::<P>),
        ..Module::EMPTY
    }
}

/// What a module built so says of panics.
pub(crate) const PANIC_CAP: u64 = if cfg!(panic = "abort") {
    quire_abi::QUIRE_CAP_PANIC_ABORT
} else {
    0
};

pub(crate) const fn is_name(name: &CStr) -> bool {
    let bytes = name.to_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') {
            return false;
        }
        i += 1;
    }
    !bytes.is_empty()
}

pub(crate) const fn text_or_null(text: &'static CStr) -> *const c_char {
    if text.is_empty() { ptr::null() } else { text.as_ptr() }
}

fn pager_name<P: Pager>() -> &'static str {
    P::NAME.to_str().unwrap_or_default()
}

/// The size of a struct of the ABI, as its `struct_size` wants it.
pub const fn abi_size<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    #[allow(clippy::cast_possible_truncation, reason = "asserted just above")]
    let size = size_of::<T>() as u32;
    size
}

/// Runs an operation behind the panic border.
pub(crate) fn guard(origin: &Origin, operation: &str, body: impl FnOnce() -> Result<i32>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            if !error.is_unsaid() {
                origin.host.set_error(0, &origin.sentence(operation, "", &error));
            }
            error.status()
        }
        Err(payload) => {
            let sentence = origin.sentence(operation, "", panic_text(payload));
            origin.host.set_error(0, &sentence);
            // Not every operation has an answer to put this beside.
            origin.host.log(Level::Error, sentence);
            QUIRE_PAGER_FAULTED
        }
    }
}

/// What a panic said. The payload is leaked: its drop could panic again.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let said = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    };
    mem::forget(payload);
    format!("the pager panicked: {said}")
}

/// Runs an operation on an object.
///
/// # Safety
/// `object` is NULL, or a handle that [`store_opened`] gave out for an `O` and that has not been taken back.
pub(crate) unsafe fn on_object<O>(
    object: *mut c_void,
    operation: &str,
    body: impl FnOnce(&O, &Arc<Origin>) -> Result<i32>,
) -> i32 {
    if object.is_null() {
        return QUIRE_PAGER_INVALID;
    }
    // SAFETY: the caller's promise; the host calls `close` only when no operation is under way.
    let state = unsafe { &*object.cast::<ObjectState<O>>() };
    guard(&state.origin, operation, || body(&state.object, &state.origin))
}

/// # Safety
/// As [`Module::init`] says.
unsafe extern "C" fn init<P: Pager>(api: *const HostApi, config: *const c_char, ctx: *mut *mut c_void) -> i32 {
    // SAFETY: the host's table is valid until `fini` has returned, which retires it.
    let Ok(host) = (unsafe { Host::adopt(api) }) else {
        return QUIRE_PAGER_INVALID;
    };
    let origin = Arc::new(Origin {
        host,
        pager: pager_name::<P>(),
        name: None,
    });
    let status = guard(&origin, "init", || {
        if ctx.is_null() {
            return Err(Error::invalid("the host passed no place for the module's state"));
        }
        // SAFETY: not NULL, so a zero-terminated text, borrowed until this returns.
        let config = (!config.is_null())
            .then(|| unsafe { CStr::from_ptr(config) }.to_str())
            .transpose();
        let config = config.map_err(|_| Error::invalid("the configuration is not UTF-8"))?;
        let pager = P::init(origin.host.clone(), config)?;
        let state = Box::new(ModuleState {
            pager,
            origin: origin.clone(),
        });
        // SAFETY: not NULL, so a place for the answer.
        unsafe { ctx.write(Box::into_raw(state).cast()) };
        Ok(QUIRE_PAGER_OK)
    });
    if status != QUIRE_PAGER_OK {
        // No `fini` will come: this is the end of the host's table for us.
        origin.host.retire();
    }
    status
}

/// # Safety
/// As [`Module::fini`] says; `ctx` is what `init::<P>` stored.
unsafe extern "C" fn fini<P: Pager>(ctx: *mut c_void) {
    if ctx.is_null() {
        return;
    }
    // SAFETY: `init` made it from a box, and `fini` is called once.
    let state = unsafe { Box::from_raw(ctx.cast::<ModuleState<P>>()) };
    let ModuleState { pager, origin } = *state;
    guard(&origin, "fini", || {
        pager.fini();
        Ok(QUIRE_PAGER_OK)
    });
    origin.host.retire();
}

/// # Safety
/// As [`Module::open`] says; `ctx` is what `init::<P>` stored.
unsafe extern "C" fn open<P: Pager>(ctx: *mut c_void, args: *const OpenArgs, out: *mut OpenResult) -> i32 {
    if ctx.is_null() {
        return QUIRE_PAGER_INVALID;
    }
    // SAFETY: `init` stored it, and `fini` has not been called.
    let module = unsafe { &*ctx.cast::<ModuleState<P>>() };
    let host = &module.origin.host;
    guard(&module.origin, "open", || {
        // SAFETY: the host's arguments, borrowed until this returns.
        let request = unsafe { adopt_open(args, out, host) }?;
        let name = request.name.map(|name| name.to_string_lossy().into_owned());
        let opened = module.pager.open(&request).map_err(|error| match &name {
            Some(name) => error.context(name),
            None => error,
        })?;
        let origin = Origin {
            host: host.clone(),
            pager: module.origin.pager,
            name,
        };
        // SAFETY: `adopt_open` checked the place, which is why this cannot fail.
        unsafe { store_opened(opened, origin, out) }
    })
}

/// Stores what was opened where the host wants it. `origin` has the name that was given to open.
///
/// # Safety
/// `out` was checked by [`adopt_open`].
pub(crate) unsafe fn store_opened<O>(opened: Opened<O>, origin: Origin, out: *mut OpenResult) -> Result<i32> {
    let Opened {
        object,
        flags,
        identity,
        size,
        granule,
        max_run,
        change,
        name: given,
    } = opened;
    let origin = Origin {
        name: given.or(origin.name),
        ..origin
    };
    let state = Box::new(ObjectState {
        object,
        origin: Arc::new(origin),
    });
    let result = OpenResult {
        struct_size: 0,
        flags,
        object: Box::into_raw(state).cast(),
        identity,
        size,
        granule,
        max_run,
        change,
    };
    // SAFETY: this function's contract.
    unsafe { border::write(out, &result) }.map(|()| QUIRE_PAGER_OK)
}

/// Checks what the host passed to `open`.
///
/// # Safety
/// Both pointers are NULL or as [`Module::open`] says, borrowed for `'a`.
pub(crate) unsafe fn adopt_open<'a>(
    place: *const OpenArgs,
    out: *const OpenResult,
    host: &Host,
) -> Result<OpenRequest<'a>> {
    // SAFETY: as this function's.
    let args = unsafe {
        border::size_of_hosts(out)?;
        border::read(place)
    }?;
    border::check_flags("open", args.flags, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)?;
    let page_size = args.page_size as usize;
    if page_size != host.page_size() {
        return Err(Error::invalid(format!(
            "the page size is {} at init and {page_size} at open",
            host.page_size()
        )));
    }
    Ok(OpenRequest {
        // SAFETY: not NULL, so a zero-terminated text, borrowed for `'a`.
        name: (!args.name.is_null()).then(|| unsafe { CStr::from_ptr(args.name) }),
        // SAFETY: not negative, so an open descriptor of the host's, which stays open until `open` has returned.
        fd: (args.fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(args.fd) }),
        flags: args.flags,
        page_size,
        host: host.clone(),
        host_api: args.host,
        // SAFETY: NULL, or a handle that is valid until the object's close has returned.
        driver: unsafe { GivenDriver::adopt(args.driver) }?,
        host_object: HostObject::of(args.host_object),
        args: place,
    })
}

/// # Safety
/// As [`Module::close`] says; `object` is a handle that `open::<P>` gave out.
unsafe extern "C" fn close<P: Pager>(_ctx: *mut c_void, object: *mut c_void) -> i32 {
    if object.is_null() {
        return QUIRE_PAGER_INVALID;
    }
    // SAFETY: `open` made it from a box, and `close` is called once, with no operation under way.
    let state = unsafe { Box::from_raw(object.cast::<ObjectState<P::Object>>()) };
    let ObjectState { object, origin } = *state;
    guard(&origin, "close", || object.close().map(|()| QUIRE_PAGER_OK))
}

/// # Safety
/// As [`Module::get`] says; `object` is a handle that `open::<P>` gave out.
unsafe extern "C" fn get<P: Pager>(object: *mut c_void, io: *mut Io) -> i32 {
    // SAFETY: the host's arguments, as this function's caller promises.
    unsafe { transfer::<P::Object, Get>(object, io, P::CAPS.contains(Caps::ASYNC), P::Object::get) }
}

/// # Safety
/// As [`Module::put`] says; `object` is a handle that `open::<P>` gave out.
pub(crate) unsafe extern "C" fn put<P: Pager>(object: *mut c_void, io: *mut Io) -> i32
where
    P::Object: pager::Put,
{
    // SAFETY: the host's arguments, as this function's caller promises.
    unsafe { transfer::<P::Object, Put>(object, io, P::CAPS.contains(Caps::ASYNC), pager::Put::put) }
}

/// A get or a put: the run is made, moved, and settled, unless it pends.
///
/// # Safety
/// As [`Module::get`] says; `object` as for [`on_object`].
pub(crate) unsafe fn transfer<O, D: Direction>(
    object: *mut c_void,
    io: *mut Io,
    is_async: bool,
    operation: impl FnOnce(&O, &mut Run<'_, D>) -> Result<()>,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on_object::<O>(object, D::OPERATION, |object, origin| {
            // SAFETY: the host's request, lent until it completes.
            let request = match Request::adopt(io) {
                // Nobody is told why.
                Err(error) if border::read(io).is_ok_and(|io| io.flags & QUIRE_IO_IN_SIGNAL != 0) => {
                    return Ok(error.status());
                }
                adopted => adopted?,
            };
            let mut run = Run::<D>::new(request, io, origin, is_async);
            let result = catch_unwind(AssertUnwindSafe(|| operation(object, &mut run)));
            Ok(answer(&run, origin, &request, result))
        })
    }
}

/// What a transfer answers. Once the run has pended, the pending request's completion is the answer; once it was handed on, the other's.
fn answer<D: Direction>(
    run: &Run<'_, D>,
    origin: &Origin,
    request: &Request,
    result: std::thread::Result<Result<()>>,
) -> i32 {
    let result = result.unwrap_or_else(|payload| Err(Error::with_status(QUIRE_PAGER_FAULTED, panic_text(payload))));
    if !run.pended() && run.answered().is_none() {
        return run.settle(result);
    }
    if let Err(error) = result {
        let text = error.context("an error after the request had pended or was handed on");
        origin
            .host
            .log(Level::Warn, origin.sentence(D::OPERATION, &request.place(), text));
    }
    run.answered().unwrap_or(QUIRE_PAGER_PEND)
}

/// # Safety
/// As [`Module::has_page`] says; `object` is a handle that `open::<P>` gave out.
pub(crate) unsafe extern "C" fn has_page<P: Pager>(object: *mut c_void, index: u64, out: *mut Extent) -> i32
where
    P::Object: pager::HasPage,
{
    // SAFETY: the caller's promise.
    unsafe {
        on_object::<P::Object>(object, "has_page", |object, _| {
            match pager::HasPage::has_page(object, index)? {
                Some(pager::Extent { before, after }) => {
                    let extent = Extent {
                        struct_size: 0,
                        before,
                        after,
                    };
                    // SAFETY: the host's place, or NULL, which is refused.
                    border::write(out, &extent).map(|()| QUIRE_PAGER_OK)
                }
                None => Ok(QUIRE_PAGER_FAIL),
            }
        })
    }
}

/// # Safety
/// As [`Module::populate`] says; `object` is a handle that `open::<P>` gave out.
pub(crate) unsafe extern "C" fn populate<P: Pager>(object: *mut c_void, request: *mut quire_abi::Populate) -> i32
where
    P::Object: pager::Populate,
{
    // SAFETY: the caller's promise.
    unsafe { populate_on::<P::Object>(object, request) }
}

/// # Safety
/// As [`Module::populate`] says; `object` as for [`on_object`].
pub(crate) unsafe fn populate_on<O: pager::Populate>(object: *mut c_void, request: *mut quire_abi::Populate) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on_object::<O>(object, "populate", |object, origin| {
            // SAFETY: the host's request, lent until this returns.
            let mut run = PopulateRun::adopt(request, origin)?;
            let (index, window) = (run.index(), run.window());
            match object.populate(&mut run)? {
                Populated::UseGet => Ok(QUIRE_PAGER_BAD),
                Populated::Refault => Ok(QUIRE_PAGER_REFAULT),
                Populated::Answered(status) => Ok(status),
                Populated::Pages(range) if !range.contains(&index) => Err(Error::new(format!(
                    "the pager installed pages {range:?} of the window {window:?}, without page {index}"
                ))),
                Populated::Pages(range) => {
                    // SAFETY: `adopt` checked the pointer, and `first` and `last` are in every version of the struct.
                    (&raw mut (*request).first).write(*range.start());
                    // SAFETY: as above.
                    (&raw mut (*request).last).write(*range.end());
                    Ok(QUIRE_PAGER_OK)
                }
            }
        })
    }
}

/// # Safety
/// As [`Module::get_size`] says; `object` is a handle that `open::<P>` gave out.
pub(crate) unsafe extern "C" fn get_size<P: Pager>(object: *mut c_void, size: *mut u64) -> i32
where
    P::Object: pager::Size,
{
    // SAFETY: the caller's promise; `store` refuses NULL.
    unsafe { on_object::<P::Object>(object, "get_size", |object, _| store(size, pager::Size::size(object)?)) }
}

/// # Safety
/// As [`Module::get_change`] says; `object` is a handle that `open::<P>` gave out.
pub(crate) unsafe extern "C" fn get_change<P: Pager>(object: *mut c_void, change: *mut u64) -> i32
where
    P::Object: pager::Change,
{
    // SAFETY: the caller's promise of two words; `store` refuses NULL.
    unsafe {
        on_object::<P::Object>(object, "get_change", |object, _| {
            store(change.cast::<[u64; 2]>(), pager::Change::change(object)?)
        })
    }
}

/// # Safety
/// `place` is NULL or writable.
unsafe fn store<T>(place: *mut T, value: T) -> Result<i32> {
    if place.is_null() {
        return Err(Error::invalid("the host passed no place for the answer"));
    }
    // SAFETY: not NULL, and so writable.
    unsafe { place.write(value) };
    Ok(QUIRE_PAGER_OK)
}

/// Slots that only pass numbers on: a status for the host, or nothing for a notice.
macro_rules! plain_slots {
    ($($slot:ident: $trait:ident, ($($argument:ident),*);)*) => {$(
        /// # Safety
        /// As the table's member of this name says; `object` is a handle that `open::<P>` gave out.
        pub(crate) unsafe extern "C" fn $slot<P: Pager>(object: *mut c_void $(, $argument: u64)*) -> i32
        where
            P::Object: pager::$trait,
        {
            // SAFETY: the caller's promise.
            unsafe {
                on_object::<P::Object>(object, stringify!($slot), |object, _| {
                    pager::$trait::$slot(object $(, $argument)*).map(|()| QUIRE_PAGER_OK)
                })
            }
        }
    )*};
    (notices: $($slot:ident: $trait:ident;)*) => {$(
        /// # Safety
        /// As the table's member of this name says; `object` is a handle that `open::<P>` gave out.
        pub(crate) unsafe extern "C" fn $slot<P: Pager>(object: *mut c_void, index: u64)
        where
            P::Object: pager::$trait,
        {
            // SAFETY: the caller's promise.
            unsafe {
                on_object::<P::Object>(object, stringify!($slot), |object, _| {
                    pager::$trait::$slot(object, index);
                    Ok(QUIRE_PAGER_OK)
                })
            };
        }
    )*};
}

plain_slots! {
    resize: Resize, (size);
    sync: Durable, ();
    prepare_write: PrepareWrite, (first, count);
    cancel: Cancel, (token);
    reserve: Reserve, (first, count);
    free_space: FreeSpace, (first, count);
}

plain_slots! { notices:
    page_inserted: Accounting;
    page_removed: Accounting;
}

/// # Safety
/// As [`Module::path`] says; `object` is a handle that `open::<P>` gave out.
unsafe extern "C" fn path<P: Pager>(object: *mut c_void, text: *mut c_char, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { path_of::<P::Object>(object, text, len) }
}

/// # Safety
/// As [`Module::path`] says; `object` as for [`on_object`].
pub(crate) unsafe fn path_of<O>(object: *mut c_void, text: *mut c_char, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on_object::<O>(object, "path", |_, origin| {
            if text.is_null() || len == 0 {
                return Err(Error::invalid("the host passed no place for the answer"));
            }
            let name = origin.name.as_deref().unwrap_or_default();
            let cut = (0..len.min(name.len() + 1))
                .rev()
                .find(|&cut| name.is_char_boundary(cut))
                .unwrap_or(0);
            // SAFETY: `cut` is below `len`, the size of the host's place, which is none of ours.
            ptr::copy_nonoverlapping(name.as_ptr(), text.cast::<u8>(), cut);
            text.add(cut).write(0);
            Ok(QUIRE_PAGER_OK)
        })
    }
}

/// # Safety
/// As [`Module::get_extension`] says; `ctx` is what `init::<P>` stored.
pub(crate) unsafe extern "C" fn get_extension<P: Extensions>(ctx: *mut c_void, id: *const c_char) -> *const c_void {
    if ctx.is_null() || id.is_null() {
        return ptr::null();
    }
    // SAFETY: `init` stored it, and `fini` has not been called.
    let module = unsafe { &*ctx.cast::<ModuleState<P>>() };
    // SAFETY: not NULL, so a zero-terminated text, borrowed until this returns.
    let id = unsafe { CStr::from_ptr(id) };
    let mut found = ptr::null();
    guard(&module.origin, "get_extension", || {
        found = module
            .pager
            .extension(id)
            .map_or(ptr::null(), |table| table.as_ptr().cast_const());
        Ok(QUIRE_PAGER_OK)
    });
    found
}
