//! Faults, and reading and writing through a map.

use std::ffi::c_void;

use quire_abi::{QUIRE_ACCESS_EXEC, QUIRE_ACCESS_READ, QUIRE_ACCESS_WRITE};
use quire_core::access::Stopped;
use quire_core::fault::{FaultCase, Resolved};
use quire_core::map::Map;
use quire_core::types::{Access, VirtAddr};

use crate::c::*;
use crate::fail::{Fail, Result, guard};
use crate::handle;
use crate::map::MapState;

/// Resolves a fault at `addr`: what a trap handler calls. Afterwards the access can be tried again. `access` is one
/// of `QUIRE_ACCESS_…` of quire_pager.h. How it was resolved goes to `info`, whose `struct_size` the caller has set,
/// and which may be NULL. May block for as long as a pager does. One of `QUIRE_FAULT_…`: nothing was mapped. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_fault(map: *mut MapHandle, addr: u64, access: u32, info: *mut FaultInfo) -> i32 {
    guard(|| {
        let state = handle::get::<MapState>(map)?;
        let resolved = state.map.fault(VirtAddr(addr), access_kind(access)?)?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { write_optional(info, &info_of(&resolved)) }
    })
}

fn info_of(resolved: &Resolved) -> FaultInfo {
    FaultInfo {
        struct_size: 0,
        fault_case: match resolved.case {
            FaultCase::OneA => QUIRE_CASE_1A,
            FaultCase::OneB => QUIRE_CASE_1B,
            FaultCase::TwoA => QUIRE_CASE_2A,
            FaultCase::TwoB => QUIRE_CASE_2B,
        },
        resident: u32::from(resolved.resident),
        neighbours: resolved.neighbours,
    }
}

/// As `quire_fault`, and holds the page at `addr`, that one and no neighbour, as `quire_page_hold` does: stores its handle in `page`, for
/// `quire_page_unhold`. The page stays in memory until then, or until its object loses it; it need not stay mapped. As `quire_fault`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_fault_hold(
    map: *mut MapHandle,
    addr: u64,
    access: u32,
    info: *mut FaultInfo,
    page: *mut *mut PageC,
) -> i32 {
    guard(|| {
        check_out(page, "page")?;
        let state = handle::get::<MapState>(map)?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { check_sized(info) }?;
        let (resolved, held) = state.map.fault_and_hold(VirtAddr(addr), access_kind(access)?)?;
        // SAFETY: not NULL, and writable by contract; `info` as above.
        unsafe {
            store(page, crate::page::for_c(held));
            write_optional(info, &info_of(&resolved))
        }
    })
}

pub(crate) fn access_kind(number: u32) -> Result<Access> {
    match number {
        QUIRE_ACCESS_READ => Ok(Access::Read),
        QUIRE_ACCESS_WRITE => Ok(Access::Write),
        QUIRE_ACCESS_EXEC => Ok(Access::Exec),
        _ => Err(Fail::invalid(format!(
            "access {number} is not one of QUIRE_ACCESS_READ, WRITE and EXEC"
        ))),
    }
}

/// Copies `length` bytes from mapped memory at `addr` into `buffer`. Pages are brought in as a fault would, but
/// nothing is mapped. `done`, which may be NULL, gets the number of bytes that were copied, also after an error. May
/// block for as long as a pager does. One of `QUIRE_FAULT_…`; INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_read(
    map: *mut MapHandle,
    addr: u64,
    buffer: *mut c_void,
    length: usize,
    done: *mut usize,
) -> i32 {
    // SAFETY: the caller's buffer, of that length; `done` is NULL or writable.
    unsafe { move_out(map, buffer, length, done, |map, to| map.copy_out(VirtAddr(addr), to)) }
}

/// Copies `length` bytes from `buffer` into mapped memory at `addr`; the pages are dirty afterwards. As `quire_read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_write(
    map: *mut MapHandle,
    addr: u64,
    buffer: *const c_void,
    length: usize,
    done: *mut usize,
) -> i32 {
    // SAFETY: the caller's buffer, of that length; `done` is NULL or writable.
    unsafe { move_in(map, buffer, length, done, |map, from| map.copy_in(VirtAddr(addr), from)) }
}

/// Loads `length` bytes at `addr` into `buffer` as a processor does: through the translations, with a fault where
/// there is none. For the soft machine, which has no other processor. On the Linux machine, where the pointer does the same, the kernel
/// makes the access, and an error comes as a status in place of a signal; UNSUPPORTED if it refuses that. As `quire_read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_load(
    map: *mut MapHandle,
    addr: u64,
    buffer: *mut c_void,
    length: usize,
    done: *mut usize,
) -> i32 {
    // SAFETY: the caller's buffer, of that length; `done` is NULL or writable.
    unsafe { move_out(map, buffer, length, done, |map, to| map.load(VirtAddr(addr), to)) }
}

/// Stores `length` bytes from `buffer` at `addr` as a processor does. As `quire_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_store(
    map: *mut MapHandle,
    addr: u64,
    buffer: *const c_void,
    length: usize,
    done: *mut usize,
) -> i32 {
    // SAFETY: the caller's buffer, of that length; `done` is NULL or writable.
    unsafe { move_in(map, buffer, length, done, |map, from| map.store(VirtAddr(addr), from)) }
}

/// # Safety
/// `buffer` is NULL or writable for `length` bytes, `done` is NULL or writable.
unsafe fn move_out(
    map: *mut MapHandle,
    buffer: *mut c_void,
    length: usize,
    done: *mut usize,
    go: impl FnOnce(&Map, &mut [u8]) -> Result<(), Stopped>,
) -> i32 {
    guard(|| {
        let state = handle::get::<MapState>(map)?;
        // SAFETY: this function's contract.
        let result = go(&state.map, unsafe { bytes_mut(buffer, length) }?);
        // SAFETY: this function's contract.
        unsafe { moved(result, length, done) }
    })
}

/// # Safety
/// `buffer` is NULL or readable for `length` bytes, `done` is NULL or writable.
unsafe fn move_in(
    map: *mut MapHandle,
    buffer: *const c_void,
    length: usize,
    done: *mut usize,
    go: impl FnOnce(&Map, &[u8]) -> Result<(), Stopped>,
) -> i32 {
    guard(|| {
        let state = handle::get::<MapState>(map)?;
        // SAFETY: this function's contract.
        let result = go(&state.map, unsafe { bytes(buffer, length) }?);
        // SAFETY: this function's contract.
        unsafe { moved(result, length, done) }
    })
}

/// # Safety
/// `done` is NULL or writable.
unsafe fn moved(result: Result<(), Stopped>, length: usize, done: *mut usize) -> Result {
    let (count, answer) = match result {
        Ok(()) => (length, Ok(())),
        Err(Stopped { done, error }) => (done, Err(Fail::from(error))),
    };
    if !done.is_null() {
        // SAFETY: this function's contract.
        unsafe { store(done, count) };
    }
    answer
}
