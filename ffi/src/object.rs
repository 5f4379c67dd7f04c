//! Objects.

use std::ffi::{CStr, c_char};
use std::ops::Range;
use std::sync::Arc;

use quire_bridge::Open;
use quire_core::flush::{Put, PutFlags};
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::types::{ByteOff, MAX_OBJECT_SIZE, PageIndex, pages_of};

use quire_abi::{QUIRE_OPEN_READ, QUIRE_OPEN_WRITE, QUIRE_REVOKE_DISCARD, QUIRE_REVOKE_FAIL};

use crate::c::*;
use crate::engine::{EngineState, QUIRE_DISCARD, flush_flags};
use crate::fail::{Fail, Result, guard};
use crate::handle::{self, NotEnded};
use crate::pager::PagerState;

/// What an object's handle stands for.
pub(crate) struct ObjectState {
    pub(crate) object: ObjectRef,
    /// Whether this opening may write; the object may have been opened by others who can.
    pub(crate) writable: bool,
}

/// Opens an object through a pager. What `name` means is the pager's business (for vnode: a path); it may be NULL
/// when `fd`, an open file descriptor, says it all; otherwise `fd` is -1. Both stay the caller's. `flags`:
/// `QUIRE_OPEN_READ`, with `QUIRE_OPEN_WRITE` if the object is to be written; 0 is READ. What is open already, by the
/// pager's identity, is the same object, also when it is only kept with its pages, unless its pager tells that others
/// have changed it since; opening it for writing makes it writable if it was not. When memory or file descriptors have
/// run out, objects that are only kept are closed, oldest first, and it is tried again. Stores a handle in `out`, to be closed with `quire_object_release`. May block for as long
/// as the pager does, and until the same thing has been closed if that is under way. INVALID (also for a driver, whose devices
/// `quire_object_open_device` opens); PAGER (`quire_last_errno` says why); NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_open(
    pager: *mut PagerHandle,
    name: *const c_char,
    fd: i32,
    flags: u32,
    out: *mut *mut ObjectHandle,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        check_flags(flags, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, "flags")?;
        let state = handle::get::<PagerState>(pager)?;
        // SAFETY: the caller's text, borrowed until return.
        let name = unsafe { text(name) };
        let writable = flags & QUIRE_OPEN_WRITE != 0;
        let opening = opening(&state, name, fd, writable)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { attach(&state, opening, writable, out) }
    })
}

/// Opens a device of `driver` through `pager`, the device pager (which is loaded as "device"). Both are handles of `quire_pager_load` or
/// `quire_pager_register`; both must be of the same engine, and neither can be unloaded as long as the device is open. What `name` and `fd` mean
/// is the driver's business, and it may need neither: NULL and -1. Otherwise as `quire_object_open`. INVALID also when `driver` is no driver,
/// or `pager` none that takes drivers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_open_device(
    pager: *mut PagerHandle,
    driver: *mut PagerHandle,
    name: *const c_char,
    fd: i32,
    flags: u32,
    out: *mut *mut ObjectHandle,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        check_flags(flags, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, "flags")?;
        let (state, driver) = (handle::get::<PagerState>(pager)?, handle::get::<PagerState>(driver)?);
        if !Arc::ptr_eq(&state.shared, &driver.shared) {
            return Err(Fail::invalid("the pager and the driver belong to different engines"));
        }
        if fd < -1 {
            return Err(Fail::invalid("fd is negative; pass a file descriptor, or -1 for none"));
        }
        // SAFETY: the caller's text, borrowed until return.
        let name = unsafe { text(name) };
        let writable = flags & QUIRE_OPEN_WRITE != 0;
        let opening = opening_of(&state, Some(&driver), name, fd, writable)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { attach(&state, opening, writable, out) }
    })
}

/// Stores a handle of the object of what was opened.
///
/// # Safety
/// `out` is writable.
unsafe fn attach(state: &PagerState, opening: Opening, writable: bool, out: *mut *mut ObjectHandle) -> Result {
    let object = state.shared.engine.attach(opening)?;
    let handle = handle::open(ObjectState { object, writable })?;
    // SAFETY: this function's contract.
    unsafe { store(out, handle) };
    Ok(())
}

/// Opens something through a pager.
pub(crate) fn opening(state: &PagerState, name: Option<&CStr>, fd: i32, write: bool) -> Result<Opening> {
    if fd < -1 || (fd == -1 && name.is_none()) {
        return Err(Fail::invalid(
            "nothing to open: pass a name, or a file descriptor that is not negative",
        ));
    }
    opening_of(state, None, name, fd, write)
}

fn opening_of(
    state: &PagerState,
    driver: Option<&PagerState>,
    name: Option<&CStr>,
    fd: i32,
    write: bool,
) -> Result<Opening> {
    let what = Open {
        name,
        fd: (fd >= 0).then_some(fd),
        write,
        driver: driver.map(|driver| driver.loaded.module()),
    };
    let module = state.loaded.module();
    module
        .can_open(what.driver)
        .map_err(|wrong| Fail::invalid(wrong.to_string()))?;
    let opened = state.shared.engine.open_with_room(|| module.open(&what))?;
    Ok(Opening {
        pager: opened.pager,
        // A device is known by its driver: the same words of another driver's device are another thing.
        source: driver.unwrap_or(state).source(),
        identity: opened.identity,
        size: opened.size,
        change: opened.change,
    })
}

/// Makes an object of `size` bytes that begins as zeros and belongs to no pager: memory to be shared, by mapping it several times. What it
/// holds ends with its last use, and nothing is written then. It takes no memory before it is touched; when memory is short its pages go
/// to swap (`quire_swap_add`). Stores a handle in `out`, to be closed with `quire_object_release`; it can do what one can that was
/// opened for writing. Does not block. INVALID (above 2^64 - 4096 bytes); NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_create_anonymous(
    engine: *mut EngineHandle,
    size: u64,
    out: *mut *mut ObjectHandle,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<EngineState>(engine)?;
        let object = state.shared.engine.create_anonymous(size)?;
        let handle = handle::open(ObjectState { object, writable: true })?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, handle) };
        Ok(())
    })
}

/// Stores one more handle of the same object in `out`, to be closed on its own. Does not block. NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_reference(object: *mut ObjectHandle, out: *mut *mut ObjectHandle) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<ObjectState>(object)?;
        let handle = handle::open(ObjectState {
            object: state.object.clone(),
            writable: state.writable,
        })?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, handle) };
        Ok(())
    })
}

/// Closes an object's handle. The last use of an object, mappings included, writes its dirty pages. Then an object
/// whose pager tells its identity is kept with its pages, for the next to open it, and closed when too many are kept
/// (`quire_engine_options`); any other one is closed. That may block for as long as its pager does. The handle is closed also when this answers
/// WRITE_BACK (also if no page is dirty and a sync that failed is owed), QUARANTINED or PAGER; in the first two cases the object is kept with its pages until
/// `quire_engine_sync` succeeds, the engine ends with `QUIRE_DISCARD`, or somebody opens it again. IN_USE: a call
/// with this handle has not returned, and it stays open; or the pager keeps pages that it has no right to: then the handle is closed,
/// and the object kept until the pager gives them back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_release(object: *mut ObjectHandle) -> i32 {
    guard(|| {
        handle::close(object, |state: ObjectState| {
            state.object.release().map_err(|error| NotEnded::Gone(error.into()))
        })
    })
}

/// Closes an object's handle and gives the object up, with what is dirty in it: for objects that cannot be written.
/// May block for as long as its pager does. IN_USE: there are mappings or other handles of it; this handle stays
/// open. PAGER: its pager failed to close it; it is gone all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_discard(object: *mut ObjectHandle) -> i32 {
    guard(|| {
        handle::close(object, |state: ObjectState| {
            let writable = state.writable;
            state.object.discard().map_err(|(object, error)| match object {
                Some(object) => NotEnded::Kept(Box::new(ObjectState { object, writable }), error.into()),
                None => NotEnded::Gone(error.into()),
            })
        })
    })
}

/// Stores the object's size in bytes in `size`. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_size(object: *mut ObjectHandle, size: *mut u64) -> i32 {
    // SAFETY: this function's contract is the callee's.
    unsafe { number(object, size, "size", |object| object.size()) }
}

/// Stores in `pages` how many pages of the object are in memory. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_resident(object: *mut ObjectHandle, pages: *mut u64) -> i32 {
    // SAFETY: this function's contract is the callee's.
    unsafe { number(object, pages, "pages", |object| object.resident()) }
}

/// Writes the object's name for people, such as "vnode /etc/hosts", into `text`: zero-terminated and cut to `len`
/// bytes. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_describe(object: *mut ObjectHandle, text: *mut c_char, len: usize) -> i32 {
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        check_out(text, "text")?;
        // SAFETY: the caller's buffer, of that length.
        unsafe { write_text(text, len, &state.object.describe()) }
    })
}

/// Writes the dirty pages that have bytes in the `length` bytes from `offset`, and waits for it; `length` 0: to the
/// end. `flags`: 0 or `QUIRE_DURABLE`. Pages that fail do not keep others from being written. May block for as long
/// as the pager does. WRITE_BACK (what failed is kept, dirty, and tried again by the next flush); QUARANTINED; PAGER
/// (it could not make it durable; a sync is owed then, and the object does not end before one succeeds, unless it is given up); IN_USE (a durable flush
/// from inside the pager's own sync of this object); INVALID (the object has ended); NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_flush(object: *mut ObjectHandle, offset: u64, length: u64, flags: u32) -> i32 {
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        let range = pages_in(offset, length)?;
        Ok(state.object.object().flush(range, flush_flags(flags)?)?)
    })
}

/// The pages that have bytes in a range.
fn pages_in(offset: u64, length: u64) -> Result<Range<PageIndex>> {
    let end = match length {
        0 => MAX_OBJECT_SIZE,
        _ => offset
            .checked_add(length)
            .ok_or_else(|| Fail::invalid("the range overflows: offset and length together exceed 64 bits"))?,
    };
    Ok(ByteOff(offset).page()..PageIndex(pages_of(end)))
}

/// `quire_object_put`: write dirty pages. Only with this the call waits, for pages in use and for the pager.
pub const QUIRE_PGO_CLEANIT: u32 = 1;
/// `quire_object_put`: one request to the pager at a time. Without it several are under way.
pub const QUIRE_PGO_SYNCIO: u32 = 2;
/// `quire_object_put`: the pages are the next to go when memory is short. Wired ones stay where they are.
pub const QUIRE_PGO_DEACTIVATE: u32 = 4;
/// `quire_object_put`: free the pages, unless `QUIRE_PGO_DEACTIVATE` is given as well. With `QUIRE_PGO_CLEANIT` those that
/// are clean then; without it what is dirty is given up. Wired ones stay.
pub const QUIRE_PGO_FREE: u32 = 8;
/// `quire_object_put`: all pages of the object, whatever the range.
pub const QUIRE_PGO_ALLPAGES: u32 = 0x10;

/// Does with the pages that have bytes in the `length` bytes from `offset` what `flags` say, a set of `QUIRE_PGO_…`: writes,
/// deactivates, frees; 0 does nothing. It makes nothing durable: a sync that is owed stays owed. `length` 0: to the end. Bytes behind the object's end are no error. Stores what it
/// did in `out`, which may be NULL, and whose `struct_size` the caller has set otherwise. With `QUIRE_PGO_CLEANIT` it
/// may block for as long as the pager does; without, it does not block. To give up what is dirty, the handle must have been
/// opened with `QUIRE_OPEN_WRITE`. INVALID; WRITE_BACK (what failed is kept, dirty, also if it was to be freed; all other
/// pages were dealt with); QUARANTINED; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_put(
    object: *mut ObjectHandle,
    offset: u64,
    length: u64,
    flags: u32,
    out: *mut PutCounts,
) -> i32 {
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        check_flags(flags, PutFlags::all().bits(), "flags")?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { check_sized(out) }?;
        let range = pages_in(offset, length)?;
        let flags = PutFlags::from_bits_truncate(flags);
        let gives_up = (flags & (PutFlags::CLEANIT | PutFlags::DEACTIVATE | PutFlags::FREE)) == PutFlags::FREE;
        if gives_up && !state.writable {
            return Err(Fail::invalid(
                "the object was opened for reading only, so that what is dirty cannot be given up; add QUIRE_PGO_CLEANIT",
            ));
        }
        let Put {
            written,
            deactivated,
            freed,
            kept,
        } = state.object.object().put(range, flags)?;
        let counts = PutCounts {
            struct_size: 0,
            reserved: 0,
            written,
            deactivated,
            freed,
            kept,
        };
        // SAFETY: as above.
        unsafe { write_optional(out, &counts) }
    })
}

const _: () = assert!(
    PutFlags::CLEANIT.bits() == QUIRE_PGO_CLEANIT
        && PutFlags::SYNCIO.bits() == QUIRE_PGO_SYNCIO
        && PutFlags::DEACTIVATE.bits() == QUIRE_PGO_DEACTIVATE
        && PutFlags::FREE.bits() == QUIRE_PGO_FREE
        && PutFlags::ALLPAGES.bits() == QUIRE_PGO_ALLPAGES
);

/// Makes an object `size` bytes long, at its pager and in memory. Pages behind the new end are given up, with what is
/// dirty in them, and accesses there get BUS_OBJERR. The handle must have been opened with `QUIRE_OPEN_WRITE`. May block
/// for as long as the pager does. INVALID; UNSUPPORTED (the pager cannot do that); PAGER; QUARANTINED. After an
/// error the size is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_resize(object: *mut ObjectHandle, size: u64) -> i32 {
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        if !state.writable {
            return Err(Fail::invalid(
                "the object was opened for reading only; open it with QUIRE_OPEN_WRITE to change its size",
            ));
        }
        Ok(state.object.object().resize(size)?)
    })
}

/// Asks the pager for an object's size as it is now, follows it as `quire_object_resize` does, and stores it in `size`,
/// which may be NULL. May block for as long as the pager does. UNSUPPORTED (the pager cannot tell); PAGER; WRITE_BACK;
/// QUARANTINED. After an error the size is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_refresh(object: *mut ObjectHandle, size: *mut u64) -> i32 {
    guard(|| {
        let now = handle::get::<ObjectState>(object)?.object.object().refresh_size()?;
        if !size.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(size, now) };
        }
        Ok(())
    })
}

/// The object is not kept when its last use goes, but closed. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_uncache(object: *mut ObjectHandle) -> i32 {
    guard(|| {
        // The handle is a use, so that nothing is closed here.
        let _in_use = handle::get::<ObjectState>(object)?.object.object().uncache()?;
        Ok(())
    })
}

/// Takes an object from all who use it: writes its dirty pages, or with `QUIRE_DISCARD` in `flags` gives them up,
/// removes its mappings, frees its pages and closes it at its pager. Accesses get QUIRE_FAULT_QUARANTINED from then on, and
/// handles can only be closed; opening the same thing again gives a fresh object. May block for as long as the pager does.
/// WRITE_BACK, QUARANTINED: what is dirty cannot be written, and the object goes on. PAGER: its pager failed to close
/// it; it is gone all the same. IN_USE: its pager keeps pages it has no right to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_terminate(object: *mut ObjectHandle, flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, QUIRE_DISCARD, "flags")?;
        let dirty = if flags & QUIRE_DISCARD == 0 {
            Dirty::Write
        } else {
            Dirty::Discard
        };
        Ok(handle::get::<ObjectState>(object)?.object.object().terminate(dirty)?)
    })
}

/// # Safety
/// `out` is NULL or writable.
unsafe fn number(object: *mut ObjectHandle, out: *mut u64, what: &str, of: impl FnOnce(&ObjectRef) -> u64) -> i32 {
    guard(|| {
        check_out(out, what)?;
        let state: Arc<ObjectState> = handle::get(object)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, of(&state.object)) };
        Ok(())
    })
}

/// Takes the pages that have bytes in the `length` bytes from `offset` away from all who have them mapped: writes what is dirty,
/// removes the mappings and frees the pages, wired or not, waiting for those that are in use. `length` 0: to the end. The next access faults
/// again. `flags` is a set of `QUIRE_REVOKE_…`, of quire_pager.h: with `QUIRE_REVOKE_DISCARD` what is dirty is given up; with
/// `QUIRE_REVOKE_FAIL`, for the whole object only, every later access to it fails with QUIRE_FAULT_REVOKED. Stores in `pages`, which may be NULL, how many
/// went. The handle must have been opened with `QUIRE_OPEN_WRITE` to give up what is dirty. May block for as long as the pager does; not to be
/// called by the pager from inside an operation of this object. INVALID (also: the object has ended); UNSUPPORTED: without
/// `QUIRE_REVOKE_DISCARD`, of an object without a pager; WRITE_BACK, QUARANTINED: what is dirty cannot be written, and is still there; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_revoke(
    object: *mut ObjectHandle,
    offset: u64,
    length: u64,
    flags: u32,
    pages: *mut u64,
) -> i32 {
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        check_flags(flags, QUIRE_REVOKE_DISCARD | QUIRE_REVOKE_FAIL, "flags")?;
        let range = pages_in(offset, length)?;
        let dirty = if flags & QUIRE_REVOKE_DISCARD == 0 {
            Dirty::Write
        } else {
            Dirty::Discard
        };
        if dirty == Dirty::Discard && !state.writable {
            return Err(Fail::invalid(
                "the object was opened for reading only, so that what is dirty cannot be given up; leave QUIRE_REVOKE_DISCARD out",
            ));
        }
        let object = state.object.object();
        let gone = if flags & QUIRE_REVOKE_FAIL == 0 {
            object.revoke(range, dirty)?
        } else if (offset, length) == (0, 0) {
            object.revoke_for_good(dirty)?
        } else {
            return Err(Fail::invalid(
                "QUIRE_REVOKE_FAIL is for the whole object: pass 0 as offset and length",
            ));
        };
        if !pages.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(pages, gone) };
        }
        Ok(())
    })
}
