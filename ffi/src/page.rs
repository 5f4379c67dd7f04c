//! Pages by hand: the functions of `vm_page_busy(9)` and what goes with them.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use quire_core::busy::BusyMode;
use quire_core::object::Object;
use quire_core::page_services::{
    self as services, Answer, Caller, Checking, GrabFlags, PageHandle, Sleeper, set_checking,
};
use quire_core::types::PageIndex;

use crate::c::*;
use crate::fail::{Fail, Result, guard, guard_number};
use crate::handle;
use crate::log::page_report;
use crate::object::ObjectState;
use crate::status::{QUIRE_ERR_NOMEM, QUIRE_OK};

/// `quire_set_checking`: wrong use of a page (`QUIRE_ERR_MISUSE`, and what is no handle) is said in a sentence, in the log, and ends the
/// process; and the `quire_page_assert_…` functions check.
pub const QUIRE_CHECK_ABORT: u32 = 1;
/// `quire_set_checking`: the object's lock (`quire_object_lock`) must be held to busy a page, to unbusy it, and to grab one.
pub const QUIRE_CHECK_STRICT: u32 = 2;

/// Bytes that `quire_page_sleeper.message` has room for, its terminating zero included.
pub const QUIRE_SLEEPER_MESSAGE: usize = 32;

/// A thread that sleeps on a page, by a call of this API or of a pager. May grow at its end: `quire_page_sleepers` is told its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SleeperC {
    /// What it sleeps for, as it said, cut to fit; or the name of the call.
    pub message: [c_char; QUIRE_SLEEPER_MESSAGE],
    /// The object of the page, as `quire_object_id` numbers it.
    pub object: u64,
    /// The index of the page in it.
    pub index: u64,
    /// The thread: another number for each that runs.
    pub thread: u64,
}

// SAFETY: `repr(C)`, and 32 bytes before words of 8: no padding.
unsafe impl Element for SleeperC {
    const NAME: &'static str = "quire_page_sleeper";
}

/// What a step answers to C.
pub(crate) trait Number {
    fn number(self) -> i32;
}

impl Number for () {
    #[inline]
    fn number(self) -> i32 {
        QUIRE_OK
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

/// One step with a page.
#[inline(never)]
fn step<T: Number>(page: *mut PageC, step: impl FnOnce(PageHandle) -> Answer<T>) -> i32 {
    // SAFETY: as `struct quire_page` says of what may be passed.
    let page = unsafe { PageHandle::from_word(page.addr() as u64) };
    guard_number(|| Ok(step(page)?.number()))
}

/// One step with a page, by the short way if that comes to an answer: it cannot panic.
#[inline]
fn quick<T: Number>(
    page: *mut PageC,
    short: impl FnOnce(PageHandle) -> Option<T>,
    long: impl FnOnce(PageHandle) -> Answer<T>,
) -> i32 {
    // SAFETY: as `struct quire_page` says of what may be passed.
    match short(unsafe { PageHandle::from_word(page.addr() as u64) }) {
        Some(value) => value.number(),
        None => step(page, long),
    }
}

/// One step with a page and an object.
fn step_in(page: *mut PageC, object: *mut ObjectHandle, call: impl FnOnce(PageHandle, &Arc<Object>) -> Answer) -> i32 {
    // SAFETY: as `struct quire_page` says of what may be passed.
    let page = unsafe { PageHandle::from_word(page.addr() as u64) };
    guard(|| {
        let state = handle::get::<ObjectState>(object)?;
        Ok(call(page, state.object.object())?)
    })
}

pub(crate) fn for_c(page: PageHandle) -> *mut PageC {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "handles have 64 bits here, as pointers do"
    )]
    std::ptr::without_provenance_mut(page.word() as usize)
}

/// Says what becomes of wrong use of pages, for the whole process: `flags` is a set of `QUIRE_CHECK_…`. Without a call, and in a library that was
/// built for debugging, it is `ABORT`; otherwise nothing: wrong use is answered with a status, and changes nothing. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn quire_set_checking(flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, QUIRE_CHECK_ABORT | QUIRE_CHECK_STRICT, "flags")?;
        services::set_reporter(page_report);
        let mut checking = Checking::empty();
        checking.set(Checking::ABORT, flags & QUIRE_CHECK_ABORT != 0);
        checking.set(Checking::STRICT, flags & QUIRE_CHECK_STRICT != 0);
        set_checking(checking);
        Ok(())
    })
}

/// Stores the number of an object in `out`: the same for all handles of it, and for all its pages (`quire_page_place`), and never that of
/// another one. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_id(object: *mut ObjectHandle, out: *mut u64) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<ObjectState>(object)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, state.object.id().0) };
        Ok(())
    })
}

/// Takes an object's lock: a plain one, for callers who want to exclude each other or who test against the older rule that a page is busied
/// under it. Quire itself never takes it, so that it may be held over any call. May block for as long as another thread
/// has it. MISUSE: this thread has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_lock(object: *mut ObjectHandle) -> i32 {
    guard(|| Ok(services::lock_object(&handle::get::<ObjectState>(object)?.object)?))
}

/// Takes an object's lock if nobody has it: 1; otherwise 0, or a negative status. Does not block. MISUSE: this thread has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_trylock(object: *mut ObjectHandle) -> i32 {
    guard_number(|| Ok(services::try_lock_object(&handle::get::<ObjectState>(object)?.object)?.number()))
}

/// Lets go of an object's lock. Does not block. MISUSE: this thread does not have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_object_unlock(object: *mut ObjectHandle) -> i32 {
    guard(|| Ok(services::unlock_object(&handle::get::<ObjectState>(object)?.object)?))
}

/// Stores the handle of page `index` of an object in `out`, if it is in memory. The page is not busied by that, and may be gone a moment
/// later. Does not block. NOT_FOUND; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_lookup(object: *mut ObjectHandle, index: u64, out: *mut *mut PageC) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<ObjectState>(object)?;
        let page = PageHandle::lookup(state.object.object(), PageIndex(index))?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, for_c(page)) };
        Ok(())
    })
}

/// Grabs `count` pages of an object from `first` on: each is looked up, or made, and busied, as `flags`, a set of `QUIRE_GRAB_…` (quire_pager.h), has
/// it; without any, a missing page is made, unfilled, and each is exclusively busied. Stops at the first page that cannot be had. Stores their
/// handles in `pages`, an array of `count`, and in `grabbed`, which may be NULL when `count` is 1, how many there are. With `CONTENTS`
/// their pager brings them in, in runs as far as it offers them. OK if one was had; otherwise why the first was not: BUSY (with `NOWAIT`, `WAITFAIL`); NOT_FOUND (with `NOCREAT`); INVALID (the
/// object ends before it; `count` is 0); PAGER; NOMEM; QUARANTINED; MISUSE (flags that exclude each other). May block, without `NOWAIT`, for as long as
/// others have the page, for as long as its pager does, and until there is memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_grab(
    object: *mut ObjectHandle,
    first: u64,
    count: usize,
    flags: u32,
    pages: *mut *mut PageC,
    grabbed: *mut usize,
) -> i32 {
    guard(|| {
        check_out(pages, "pages")?;
        check_flags(flags, GrabFlags::all().bits(), "flags")?;
        if count == 0 {
            return Err(Fail::invalid("count is 0; there is nothing to grab"));
        }
        if count > 1 {
            check_out(grabbed, "grabbed")?;
        }
        let state = handle::get::<ObjectState>(object)?;
        let mut had = 0;
        let keep = |page| {
            // SAFETY: not NULL, and an array of `count` by contract; no more are handed out.
            unsafe { store(pages.wrapping_add(had), for_c(page)) };
            had += 1;
        };
        let flags = GrabFlags::from_bits_truncate(flags);
        let (object, first) = (state.object.object(), PageIndex(first));
        PageHandle::grab(object, first, count as u64, flags, Caller::Program, keep)?;
        if !grabbed.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(grabbed, had) };
        }
        Ok(())
    })
}

/// Whether a page is busied in either mode, by anyone: 1 or 0, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_busied(page: *mut PageC) -> i32 {
    quick(
        page,
        |page| page.quick_busied(BusyMode::Exclusive),
        PageHandle::is_busied,
    )
}

/// Whether a page is exclusively busied, by anyone: 1 or 0, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_xbusied(page: *mut PageC) -> i32 {
    quick(
        page,
        |page| page.quick_busied(BusyMode::Shared),
        PageHandle::is_exclusive,
    )
}

/// Whether a page is shared busied, by anyone: 1 or 0, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_sbusied(page: *mut PageC) -> i32 {
    step(page, PageHandle::is_shared)
}

/// Busies a page exclusively if it is unbusied: 1; otherwise 0, at once, or a negative status. Takes no lock and allocates nothing. STALE; MISUSE (strict
/// checking: the object is not locked).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_tryxbusy(page: *mut PageC) -> i32 {
    quick(
        page,
        |page| page.quick_try(BusyMode::Exclusive),
        PageHandle::try_exclusive,
    )
}

/// Shares a page unless it is exclusively busied, or shared 2047 times: 1; otherwise 0, at once, or a negative status. Takes no lock and allocates
/// nothing. STALE; MISUSE (strict checking: the object is not locked).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_trysbusy(page: *mut PageC) -> i32 {
    quick(page, |page| page.quick_try(BusyMode::Shared), PageHandle::try_shared)
}

/// Busies a page exclusively. May block for as long as others have it busied; the object's lock, if this thread has it, is let go of
/// meanwhile. STALE (also if it was freed meanwhile); QUARANTINED (its pager may never let go of it); MISUSE as `quire_page_tryxbusy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_xbusy(page: *mut PageC) -> i32 {
    step(page, |page| page.exclusive("xbusy"))
}

/// Shares a page. May block for as long as somebody has it exclusively busied; otherwise as `quire_page_xbusy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_sbusy(page: *mut PageC) -> i32 {
    step(page, |page| page.shared("sbusy"))
}

/// Unbusies a page that is exclusively busied, and wakes all who sleep on it. A page that is not filled is freed by that, as nobody may see
/// it: its handle is stale then. Waits for no more than locks. MISUSE: it is not exclusively busied by a caller of this API (what Quire itself has busied it
/// lets go of itself), or is in no object; strict checking: the object is not locked. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_xunbusy(page: *mut PageC) -> i32 {
    let short = |page: PageHandle| page.quick_release(BusyMode::Exclusive).then_some(());
    quick(page, short, PageHandle::release_exclusive)
}

/// Gives one share of a page back; the last one wakes all who sleep on it. Does not block. MISUSE: no caller shares it; strict checking: the object is not
/// locked. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_sunbusy(page: *mut PageC) -> i32 {
    let short = |page: PageHandle| page.quick_release(BusyMode::Shared).then_some(());
    quick(page, short, PageHandle::release_shared)
}

/// Makes a page that is exclusively busied shared by this caller alone, with no moment in between; those who want to share it can proceed. Waits for
/// no more than locks. MISUSE: it is not exclusively busied by a caller, not filled, or in no object. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_busy_downgrade(page: *mut PageC) -> i32 {
    step(page, PageHandle::downgrade)
}

/// Makes a page that this caller alone shares exclusively busied: 1; with other sharers 0, and it is still shared; or a negative status. Does not
/// block. MISUSE: no caller shares it. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_busy_tryupgrade(page: *mut PageC) -> i32 {
    step(page, PageHandle::try_upgrade)
}

/// Sleeps, if a page is busied, until that changes: once; it may be busied again, or be freed, afterwards. `message` says for tools what is slept
/// for (`quire_page_sleepers`), cut to 31 bytes; NULL is "". The object's lock, if this thread has it, is let go of, for good. STALE; QUARANTINED; MISUSE (strict
/// checking: the object is not locked).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_busy_sleep(page: *mut PageC, message: *const c_char) -> i32 {
    // SAFETY: the caller's text, borrowed until return.
    let message = unsafe { words(message) };
    step(page, |page| page.sleep(&message))
}

/// As `quire_page_busy_sleep`, but the object's lock is held again afterwards, if it was before: 1 if it slept, 0 if the page was not busied, or a
/// negative status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_sleep_if_busy(page: *mut PageC, message: *const c_char) -> i32 {
    // SAFETY: the caller's text, borrowed until return.
    let message = unsafe { words(message) };
    step(page, |page| page.sleep_if_busy(&message))
}

/// # Safety
/// As for `text`.
unsafe fn words<'a>(message: *const c_char) -> std::borrow::Cow<'a, str> {
    // SAFETY: this function's contract.
    unsafe { text(message) }.map_or("".into(), |message| message.to_string_lossy())
}

/// Lists the threads that sleep on pages, in the whole process, by this API and by pagers; the longest first. Stores the first `room` of them in `sleepers`, an array
/// of that length, which may be NULL when `room` is 0; and how many there are altogether in `found`. `sleeper_size` is the `sizeof(struct
/// quire_page_sleeper)` that the program was compiled with. Does not block. INVALID; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_sleepers(
    sleepers: *mut SleeperC,
    sleeper_size: usize,
    room: usize,
    found: *mut usize,
) -> i32 {
    guard(|| {
        check_out(found, "found")?;
        // SAFETY: the caller's array, of that many structs of that size.
        let array = unsafe { Array::new(sleepers, "sleeper_size", sleeper_size, room) }?;
        let mut list = Vec::new();
        let no_memory = |_| Fail::new(QUIRE_ERR_NOMEM, "no memory for the list; pass less room");
        list.try_reserve_exact(room).map_err(no_memory)?;
        let all = services::sleepers(|sleeper| {
            // No more than there is room for: a lock is held here.
            if list.len() < room {
                list.push(*sleeper);
            }
        });
        array.fill(list.iter().map(sleeper_for_c));
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(found, all) };
        Ok(())
    })
}

fn sleeper_for_c(sleeper: &Sleeper) -> SleeperC {
    SleeperC {
        message: text_member(sleeper.message()),
        object: sleeper.object.0,
        index: sleeper.index.0,
        thread: sleeper.thread,
    }
}

/// Where wrong use ends the process (`quire_set_checking`): ends it unless the page is shared busied. Otherwise does nothing. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_assert_sbusied(page: *mut PageC) -> i32 {
    step(page, PageHandle::assert_shared)
}

/// Where wrong use ends the process (`quire_set_checking`): ends it if the page is busied. Otherwise does nothing. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_assert_unbusied(page: *mut PageC) -> i32 {
    step(page, PageHandle::assert_unbusied)
}

/// Where wrong use ends the process (`quire_set_checking`): ends it unless the page is exclusively busied. Otherwise does nothing. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_assert_xbusied(page: *mut PageC) -> i32 {
    step(page, PageHandle::assert_exclusive)
}

/// Whether a page is filled: 1 or 0, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_is_valid(page: *mut PageC) -> i32 {
    step(page, PageHandle::is_valid)
}

/// A page, exclusively busied, is filled, whole, with what its pager has; one of an anonymous object is dirty with that. Does not block. MISUSE: it is not
/// exclusively busied by a caller. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_set_valid(page: *mut PageC) -> i32 {
    step(page, PageHandle::set_valid)
}

/// Whether a page is dirty, or may be, as it is mapped for writing: 1 or 0, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_is_dirty(page: *mut PageC) -> i32 {
    step(page, PageHandle::is_dirty)
}

/// A page, busied in either mode and filled, has to be written before it goes. A pager that is to be asked before a clean page is written
/// (`prepare_write`) is asked. May block for as long as that takes. MISUSE: not busied by a caller, or not filled. UNSUPPORTED: the object cannot be
/// written. PAGER: it may not be. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_set_dirty(page: *mut PageC) -> i32 {
    step(page, |page| page.set_dirty(Caller::Program))
}

/// A page, exclusively busied, is what its pager has, as the caller knows: it need not be written. Its mappings go. MISUSE: it is not exclusively busied by a
/// caller; or its object is anonymous, and nobody else has what it holds. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_set_clean(page: *mut PageC) -> i32 {
    step(page, PageHandle::set_clean)
}

/// Wires a page, busied in either mode, once more: it stays in memory until each wiring was taken back, or its object loses it, by shrinking or by
/// its end. Does not block. MISUSE: not busied by a caller. NOMEM; STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_wire(page: *mut PageC) -> i32 {
    step(page, PageHandle::wire)
}

/// Takes one wiring back that was made by `quire_page_wire`, `quire_page_hold` or a grab. The page need not be busied. Does not block. MISUSE: there is
/// none. STALE: it was freed meanwhile, and there is nothing to take back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_unwire(page: *mut PageC) -> i32 {
    step(page, PageHandle::unwire)
}

/// How often a page is wired, by hand and by maps, or a negative status. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_wire_count(page: *mut PageC) -> i32 {
    step(page, PageHandle::wire_count)
}

/// What older systems call to hold a page: the same as `quire_page_wire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_hold(page: *mut PageC) -> i32 {
    step(page, PageHandle::wire)
}

/// The same as `quire_page_unwire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_unhold(page: *mut PageC) -> i32 {
    step(page, PageHandle::unwire)
}

/// Copies `length` bytes of a page, busied in either mode, from `offset` on into `bytes`. Does not block. MISUSE: not busied by a caller, or the bytes are not
/// all inside the page. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_read(page: *mut PageC, offset: usize, bytes: *mut c_void, length: usize) -> i32 {
    // SAFETY: the caller's buffer, of that length.
    with_buffer(unsafe { bytes_mut(bytes, length) }, page, |page, to| {
        page.read(offset, to)
    })
}

/// Copies `length` bytes from `bytes` into a page, busied in either mode, from `offset` on. A filled page is dirty then: as by `quire_page_set_dirty`, whose
/// answers are possible. One that is not filled is as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_write(page: *mut PageC, offset: usize, bytes: *const c_void, length: usize) -> i32 {
    // SAFETY: the caller's buffer, of that length.
    let from = unsafe { crate::c::bytes(bytes, length) };
    with_buffer(from, page, |page, from| page.write(offset, from, Caller::Program))
}

fn with_buffer<B>(buffer: Result<B>, page: *mut PageC, call: impl FnOnce(PageHandle, B) -> Answer) -> i32 {
    match buffer {
        Ok(buffer) => step(page, |page| call(page, buffer)),
        Err(fail) => guard(|| Err(fail)),
    }
}

/// Stores the number of the object that a page is in (`quire_object_id`) in `object`, and its index there in `index`; either may be NULL: 1; or 0, and
/// nothing is stored, for a page that was removed from its object; or a negative status. Stable while it is busied. Does not block. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_place(page: *mut PageC, object: *mut u64, index: *mut u64) -> i32 {
    step(page, |page| {
        let Some(place) = page.place()? else { return Ok(false) };
        if !object.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(object, place.0.0) };
        }
        if !index.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(index, place.1.0) };
        }
        Ok(true)
    })
}

/// Takes a page, exclusively busied, out of its object: its mappings go, and its place is empty. It stays exclusively busied, with its bytes and the wirings
/// made by hand, and is in no object until `quire_page_insert`, or until it is freed; as long as it is out its engine cannot end. May block until there is memory. MISUSE: it is
/// not exclusively busied by a caller, is wired by a map, or is out already. NOMEM; STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_remove(page: *mut PageC) -> i32 {
    step(page, |page| page.remove(Caller::Program))
}

/// Puts a page that is in no object (`quire_page_remove`) into one, at an index where there is none. It stays exclusively busied; a filled page is
/// dirty, as the object's pager has not what it holds. May block until there is memory. OCCUPIED: there is a page; INVALID: the object ends before
/// the index, or is of another engine; UNSUPPORTED: the page is filled, and the object cannot be written; MISUSE: the page is not exclusively busied by a caller, or is in an object. NOMEM; STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_insert(page: *mut PageC, object: *mut ObjectHandle, index: u64) -> i32 {
    step_in(page, object, |page, object| {
        page.insert(object, PageIndex(index), Caller::Program)
    })
}

/// Moves a page, exclusively busied, to another index of its object or into another object: as `quire_page_remove` and `quire_page_insert` in one, with their answers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_rename(page: *mut PageC, object: *mut ObjectHandle, index: u64) -> i32 {
    step_in(page, object, |page, object| {
        page.rename(object, PageIndex(index), Caller::Program)
    })
}

/// Frees a page, exclusively busied, and gives up what it holds; its mappings go, and the handle is stale. Waits for no more than locks. MISUSE: it is not
/// exclusively busied by a caller, or is wired. STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_page_free(page: *mut PageC) -> i32 {
    step(page, PageHandle::free)
}
