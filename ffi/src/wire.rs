//! Memory that stays: wiring ranges of a map, or all of it.

use quire_core::types::VirtAddr;
use quire_core::wire_all::WireAll;

use crate::c::*;
use crate::fail::{Fail, guard};
use crate::handle;
use crate::map::MapState;

/// Wires `length` bytes from `addr` once more: their pages are brought in, and neither they nor their mappings are taken
/// away until each wiring has been taken back, or the range is unmapped. Whole pages are wired that have bytes in the
/// range; `addr` is page aligned. May block for as long as the pager does. INVALID; NOT_MAPPED; NOMEM; one of
/// `QUIRE_FAULT_…`: a page could not be brought in, or the mapping allows no access. After an error nothing is wired that
/// was not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_wire(map: *mut MapHandle, addr: u64, length: u64) -> i32 {
    guard(|| Ok(handle::get::<MapState>(map)?.map.wire(VirtAddr(addr), length)?))
}

/// Takes one wiring of `length` bytes from `addr` back. Does not block. INVALID (also when a part of the range is not
/// wired); NOT_MAPPED; NOMEM: nothing was changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_unwire(map: *mut MapHandle, addr: u64, length: u64) -> i32 {
    guard(|| Ok(handle::get::<MapState>(map)?.map.unwire(VirtAddr(addr), length)?))
}

/// `quire_wire_all`: what is mapped.
pub const QUIRE_WIRE_CURRENT: u32 = 1;
/// `quire_wire_all`: what is mapped from now on, as soon as it is. A mapping that cannot be wired is not made.
pub const QUIRE_WIRE_FUTURE: u32 = 2;

const _: () = assert!(
    WireAll::CURRENT.bits() == QUIRE_WIRE_CURRENT
        && WireAll::FUTURE.bits() == QUIRE_WIRE_FUTURE
        && WireAll::all().bits() == QUIRE_WIRE_CURRENT | QUIRE_WIRE_FUTURE
);

/// Wires everything in a map once more, as `flags` say, a set of `QUIRE_WIRE_…` that is not empty. Parts that allow no access are passed
/// over. May block for as long as pagers do. The errors are those of `quire_wire`: nothing is wired then that was not, and what is mapped
/// from now on is treated as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_wire_all(map: *mut MapHandle, flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, WireAll::all().bits(), "flags")?;
        let what = WireAll::from_bits_truncate(flags);
        if what.is_empty() {
            return Err(Fail::invalid(
                "the flags say nothing to wire; pass QUIRE_WIRE_CURRENT, QUIRE_WIRE_FUTURE or both",
            ));
        }
        Ok(handle::get::<MapState>(map)?.map.wire_all(what)?)
    })
}

/// Takes one wiring back from everything in a map that is wired, and what is mapped from now on is not wired by itself any more. What was
/// wired more than once stays wired. Does not block. NOMEM: a part may have been unwired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_unwire_all(map: *mut MapHandle) -> i32 {
    guard(|| Ok(handle::get::<MapState>(map)?.map.unwire_all()?))
}
