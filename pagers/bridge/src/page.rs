//! Pages by hand, for plugins: the table, and the services that take an object.

use alloc::sync::Arc;
use core::ffi::{CStr, c_char, c_void};
use core::{ptr, slice};

use quire_abi as abi;
use quire_core::busy::BusyMode;
use quire_core::error::{Cause, Error, PagerError};
use quire_core::object::Object;
use quire_core::page_services::{self as services, Answer, Caller, GrabFlags, PageError, PageHandle};
use quire_core::types::PageIndex;

use crate::host::state;

#[allow(clippy::cast_possible_truncation, reason = "the table has some hundreds of bytes")]
pub(crate) static PAGES: abi::PageApi = abi::PageApi {
    struct_size: size_of::<abi::PageApi>() as u32,
    reserved: 0,
    busied: Some(busied),
    xbusied: Some(xbusied),
    sbusied: Some(sbusied),
    tryxbusy: Some(tryxbusy),
    trysbusy: Some(trysbusy),
    xbusy: Some(xbusy),
    sbusy: Some(sbusy),
    xunbusy: Some(xunbusy),
    sunbusy: Some(sunbusy),
    busy_downgrade: Some(busy_downgrade),
    busy_tryupgrade: Some(busy_tryupgrade),
    busy_sleep: Some(busy_sleep),
    sleep_if_busy: Some(sleep_if_busy),
    assert_sbusied: Some(assert_sbusied),
    assert_unbusied: Some(assert_unbusied),
    assert_xbusied: Some(assert_xbusied),
    is_valid: Some(is_valid),
    set_valid: Some(set_valid),
    is_dirty: Some(is_dirty),
    set_dirty: Some(set_dirty),
    set_clean: Some(set_clean),
    wire: Some(wire),
    unwire: Some(unwire),
    wire_count: Some(wire_count),
    hold: Some(wire),
    unhold: Some(unwire),
    read: Some(read),
    write: Some(write),
    place: Some(place),
    remove: Some(remove),
    free: Some(free),
};

/// What a step answers to a plugin.
trait Number {
    fn number(self) -> i32;
}

impl Number for () {
    #[inline]
    fn number(self) -> i32 {
        abi::QUIRE_PAGER_OK
    }
}

impl Number for bool {
    #[inline]
    fn number(self) -> i32 {
        i32::from(self)
    }
}

impl Number for u32 {
    fn number(self) -> i32 {
        i32::try_from(self).unwrap_or(i32::MAX)
    }
}

#[inline]
fn number<T: Number>(answer: Answer<T>) -> i32 {
    match answer {
        Ok(value) => value.number(),
        Err(error) => status(&error),
    }
}

/// What there is no number for, and what is somebody's mistake, is said in the log.
#[cold]
fn status(error: &PageError) -> i32 {
    match error {
        PageError::NoHandle(_) | PageError::Misuse(_) => {
            services::report(error);
            if matches!(error, PageError::Misuse(_)) {
                abi::QUIRE_PAGE_MISUSE
            } else {
                abi::QUIRE_PAGE_NO_HANDLE
            }
        }
        PageError::Stale => abi::QUIRE_PAGE_STALE,
        PageError::Busy => abi::QUIRE_PAGE_BUSY,
        PageError::Absent => abi::QUIRE_PAGE_ABSENT,
        PageError::Occupied => abi::QUIRE_PAGE_OCCUPIED,
        PageError::BeyondObject => abi::QUIRE_PAGE_BEYOND,
        PageError::Failed(error) => status_of_failure(error),
    }
}

fn status_of_failure(error: &Error) -> i32 {
    match error {
        Error::NoMemory => abi::QUIRE_PAGE_NOMEM,
        Error::Unsupported(_) => abi::QUIRE_PAGE_UNSUPPORTED,
        Error::Invalid(_) => abi::QUIRE_PAGE_INVALID,
        Error::Pager(PagerError {
            cause: Cause::Errno(number),
            ..
        }) => -number,
        _ => abi::QUIRE_PAGE_FAILED,
    }
}

/// # Safety
/// As the ABI says of a page: NULL, or what a lookup or a grab stored, or not aligned.
#[inline]
unsafe fn of(page: *mut abi::Page) -> PageHandle {
    // SAFETY: this function's contract.
    unsafe { PageHandle::from_word(page.addr() as u64) }
}

fn for_c(page: PageHandle) -> *mut abi::Page {
    #[allow(clippy::cast_possible_truncation, reason = "handles are as large as pointers")]
    ptr::without_provenance_mut(page.word() as usize)
}

macro_rules! steps {
    ($($name:ident: $step:expr;)*) => {
        $(unsafe extern "C" fn $name(page: *mut abi::Page) -> i32 {
            // SAFETY: as the ABI says of a page.
            let page = unsafe { of(page) };
            number($step(page))
        })*
    };
}

steps! {
    busied: PageHandle::is_busied;
    xbusied: PageHandle::is_exclusive;
    sbusied: PageHandle::is_shared;
    tryxbusy: |page: PageHandle| page.quick_try(BusyMode::Exclusive).map_or_else(|| page.try_exclusive(), Ok);
    trysbusy: |page: PageHandle| page.quick_try(BusyMode::Shared).map_or_else(|| page.try_shared(), Ok);
    xbusy: |page: PageHandle| page.exclusive("xbusy");
    sbusy: |page: PageHandle| page.shared("sbusy");
    xunbusy: |page: PageHandle| quick_or(page.quick_release(BusyMode::Exclusive), || page.release_exclusive());
    sunbusy: |page: PageHandle| quick_or(page.quick_release(BusyMode::Shared), || page.release_shared());
    busy_downgrade: PageHandle::downgrade;
    busy_tryupgrade: PageHandle::try_upgrade;
    assert_sbusied: PageHandle::assert_shared;
    assert_unbusied: PageHandle::assert_unbusied;
    assert_xbusied: PageHandle::assert_exclusive;
    is_valid: PageHandle::is_valid;
    set_valid: PageHandle::set_valid;
    is_dirty: PageHandle::is_dirty;
    set_dirty: |page: PageHandle| page.set_dirty(Caller::Pager);
    set_clean: PageHandle::set_clean;
    wire: PageHandle::wire;
    unwire: PageHandle::unwire;
    wire_count: PageHandle::wire_count;
    remove: |page: PageHandle| page.remove(Caller::Pager);
    free: PageHandle::free;
}

/// What was done by the short way, or what the long way answers.
#[inline]
fn quick_or(done: bool, long: impl FnOnce() -> Answer) -> Answer {
    if done { Ok(()) } else { long() }
}

unsafe extern "C" fn busy_sleep(page: *mut abi::Page, message: *const c_char) -> i32 {
    // SAFETY: as the ABI says of a page and of the message.
    let (page, message) = unsafe { (of(page), text(message)) };
    number(page.sleep(message))
}

unsafe extern "C" fn sleep_if_busy(page: *mut abi::Page, message: *const c_char) -> i32 {
    // SAFETY: as the ABI says of a page and of the message.
    let (page, message) = unsafe { (of(page), text(message)) };
    number(page.sleep_if_busy(message))
}

/// A message, up to where it is no text.
///
/// # Safety
/// NULL, or zero-terminated, and not changed as long as the answer is used.
unsafe fn text<'a>(message: *const c_char) -> &'a str {
    if message.is_null() {
        return "";
    }
    // SAFETY: this function's contract.
    let bytes = unsafe { CStr::from_ptr(message) }.to_bytes();
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

unsafe extern "C" fn read(page: *mut abi::Page, offset: usize, bytes: *mut c_void, length: usize) -> i32 {
    if bytes.is_null() && length > 0 {
        return abi::QUIRE_PAGE_INVALID;
    }
    if length == 0 || length > isize::MAX as usize {
        // Nothing is copied, or nothing could be: the page answers either.
        // SAFETY: as the ABI says of a page.
        return number(unsafe { of(page) }.check_bytes(offset, length));
    }
    // SAFETY: not NULL, and the ABI asks for `length` bytes that are ours until we return.
    let bytes = unsafe { slice::from_raw_parts_mut(bytes.cast::<u8>(), length) };
    // SAFETY: as the ABI says of a page.
    number(unsafe { of(page) }.read(offset, bytes))
}

unsafe extern "C" fn write(page: *mut abi::Page, offset: usize, bytes: *const c_void, length: usize) -> i32 {
    if bytes.is_null() && length > 0 {
        return abi::QUIRE_PAGE_INVALID;
    }
    if length == 0 || length > isize::MAX as usize {
        // SAFETY: as the ABI says of a page.
        return number(unsafe { of(page) }.check_bytes(offset, length));
    }
    // SAFETY: not NULL, and the ABI asks for `length` bytes that do not change until we return.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), length) };
    // SAFETY: as the ABI says of a page.
    number(unsafe { of(page) }.write(offset, bytes, Caller::Pager))
}

unsafe extern "C" fn place(page: *mut abi::Page, object: *mut u64, index: *mut u64) -> i32 {
    // SAFETY: as the ABI says of a page.
    let place = match unsafe { of(page) }.place() {
        Ok(Some(place)) => place,
        Ok(None) => return 0,
        Err(error) => return status(&error),
    };
    // SAFETY: the ABI asks for NULL or a place for a number; it may lie anywhere.
    unsafe {
        store(object, place.0.0);
        store(index, place.1.0);
    }
    1
}

/// # Safety
/// `out` is NULL or a place for a value.
unsafe fn store<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: this function's contract.
        unsafe { ptr::write_unaligned(out, value) };
    }
}

/// Calls with the object that a plugin has named.
///
/// # Safety
/// As for `state`.
unsafe fn with_object(host: *mut abi::Host, name: u64, call: impl FnOnce(&Arc<Object>) -> Answer) -> i32 {
    // SAFETY: this function's contract.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGE_INVALID;
    };
    match host.object_named(name) {
        Some(object) => number(call(&object)),
        None => abi::QUIRE_PAGE_STALE,
    }
}

pub(crate) unsafe extern "C" fn page_lookup(
    host: *mut abi::Host,
    object: u64,
    index: u64,
    page: *mut *mut abi::Page,
) -> i32 {
    if page.is_null() {
        return abi::QUIRE_PAGE_INVALID;
    }
    let look = |object: &Arc<Object>| {
        let found = PageHandle::lookup(object, PageIndex(index))?;
        // SAFETY: not NULL, and a place for a handle by contract.
        unsafe { store(page, for_c(found)) };
        Ok(())
    };
    // SAFETY: the ABI asks the plugin for its own host.
    unsafe { with_object(host, object, look) }
}

pub(crate) unsafe extern "C" fn page_grab(
    host: *mut abi::Host,
    object: u64,
    first: u64,
    count: u32,
    flags: u32,
    pages: *mut *mut abi::Page,
    grabbed: *mut u32,
) -> i32 {
    let Some(flags) = GrabFlags::from_bits(flags) else {
        return abi::QUIRE_PAGE_INVALID;
    };
    if count == 0 || pages.is_null() || (count > 1 && grabbed.is_null()) {
        return abi::QUIRE_PAGE_INVALID;
    }
    let mut had = 0;
    let mut keep = |page: PageHandle| {
        // SAFETY: not NULL, and the ABI asks for `count` places, of which no more are handed out.
        unsafe { store(pages.wrapping_add(had), for_c(page)) };
        had += 1;
    };
    let grab = |object: &Arc<Object>| {
        let count = PageHandle::grab(object, PageIndex(first), count.into(), flags, Caller::Pager, &mut keep)?;
        // SAFETY: NULL, or a place for a number by contract.
        unsafe { store(grabbed, u32::try_from(count).unwrap_or(u32::MAX)) };
        Ok(())
    };
    // SAFETY: the ABI asks the plugin for its own host.
    unsafe { with_object(host, object, grab) }
}

pub(crate) unsafe extern "C" fn page_move(host: *mut abi::Host, page: *mut abi::Page, object: u64, index: u64) -> i32 {
    // SAFETY: as the ABI says of a page.
    let page = unsafe { of(page) };
    // SAFETY: the ABI asks the plugin for its own host.
    unsafe {
        with_object(host, object, |object| {
            page.rename(object, PageIndex(index), Caller::Pager)
        })
    }
}

pub(crate) unsafe extern "C" fn object_lock(host: *mut abi::Host, object: u64) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    unsafe { with_object(host, object, |object| services::lock_object(object)) }
}

pub(crate) unsafe extern "C" fn object_unlock(host: *mut abi::Host, object: u64) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    unsafe { with_object(host, object, |object| services::unlock_object(object)) }
}
